"""structure.low_rank: it finds the rank there is, keeps its budget, minimises the error that counts."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from mcc.passes import find
from mcc.passes.cost import macs, params, total_macs
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.ops.run import run

from networks import cnn, context, distance, outputs, same_graph

torch.set_num_threads(1)


def low_rank_layer(rank, split="channel"):
    """A convolution whose weight has that rank."""
    r = np.random.default_rng(5)
    if split == "channel":
        w = (r.standard_normal((24, rank)) @ r.standard_normal((rank, 16 * 9))).reshape(24, 16, 3, 3)
    else:
        w = np.einsum("rch,row->ochw", r.standard_normal((rank, 16, 3)), r.standard_normal((rank, 24, 3)))
    x, y = Value("x", "float32", ("N", 16, 9, 7)), Value("y", "float32", ("N", 24, 5, 4))
    node = Node("conv", [x, constant("c.weight", (w * 0.1).astype(np.float32)), constant("c.bias", np.ones(24, np.float32))], [y],
                {"pads": [1, 1, 1, 1], "strides": [2, 2], "kernel_shape": [3, 3]}, "c")
    return Graph([x], [y], [node])


@pytest.mark.parametrize("split", ["channel", "spatial"])
@pytest.mark.parametrize("how", [{"rank": 4}, {"error": 0.01}, {"energy": 0.9999}])
def test_low_rank_finds_the_rank_there_is(split, how):
    graph = low_rank_layer(4, split)
    ctx = context(graph)
    out = find("structure.low_rank")(split=split, **how).run(graph, ctx)
    assert ctx.notes["layers"][0]["rank"] == 4 and len(out.nodes) == 2
    assert distance(outputs(out), outputs(graph)) < 1e-4
    assert total_macs(out) == ctx.notes["macs_after"] == ctx.notes["layers"][0]["macs"] < total_macs(graph)


def test_low_rank_budget_and_report():
    graph = cnn()
    for target in (0.9, 0.6):
        ctx = context(graph)
        out = find("structure.low_rank")(macs=target, layers=["pw", "fc*"]).run(graph, ctx)
        names = {"pw", "fc1", "fc2"}
        before = sum(m for n, m in macs(graph).items() if n.name in names)
        after = sum(m for n, m in macs(out).items() if n.name.split(".")[0] in names)
        assert after <= target * before
        assert {entry["layer"] for entry in ctx.notes["layers"]} | set(ctx.notes["skipped"]) == names
        assert params(out) == ctx.notes["params_after"] < params(graph)


def test_low_rank_leaves_what_does_not_pay():
    graph = low_rank_layer(4)
    ctx = context(graph)
    out = find("structure.low_rank")(rank=24).run(graph, ctx)
    assert same_graph(out, graph) and "cost more" in ctx.notes["skipped"]["c"]


@pytest.mark.parametrize("mean", [0, 5])
def test_whitening_minimises_the_output_error(mean):
    """With inputs that live mostly in six directions, the whitened rank-6 layer is far better on them, wherever they are."""
    r = np.random.default_rng(0)
    x, y = Value("x", "float32", ("N", 32)), Value("y", "float32", ("N", 32))
    w = constant("fc.weight", r.standard_normal((32, 32)).astype(np.float32))
    graph = Graph([x], [y], [Node("linear", [x, w, None], [y])])
    ctx = context(graph)
    basis = r.standard_normal((6, 32))
    rows = r.standard_normal((64, 6)) @ basis + 0.01 * r.standard_normal((64, 32)) + mean * r.standard_normal(32)
    ctx.data.inputs["x"] = torch.from_numpy(rows.astype(np.float32))
    feeds = {"x": ctx.data.inputs["x"]}
    want = run(graph, feeds)["y"]
    error = [distance(run(find("structure.low_rank")(rank=6, whiten=w).run(graph, ctx), feeds)["y"], want) for w in (False, True)]
    assert error[1] < 0.02 < error[0] / 5


def test_whitening_of_fewer_samples_than_inputs_with_a_large_mean():
    """The moment is singular, and float32 rounds away more of its largest eigenvalue than the ridge adds."""
    r = np.random.default_rng(0)
    x, y = Value("x", "float32", ("N", 256)), Value("y", "float32", ("N", 64))
    w = constant("fc.weight", r.standard_normal((64, 256)).astype(np.float32))
    graph = Graph([x], [y], [Node("linear", [x, w, None], [y])])
    ctx = context(graph)
    ctx.data.inputs["x"] = torch.from_numpy((30 + 0.01 * r.standard_normal((64, 256))).astype(np.float32))
    feeds = {"x": ctx.data.inputs["x"]}
    out = find("structure.low_rank")(rank=8, whiten=True, samples=16).run(graph, ctx)
    assert len(out.nodes) == 2 and distance(run(out, feeds)["y"], run(graph, feeds)["y"]) < 0.01
