"""prune.layers: what it finds, what it chooses, what is left."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from mcc.passes import find, lower
from mcc.passes.cost import params, total_macs
from mcc.passes.distill.encoder import encoder_example
from mcc.passes.distill.encoder import layers as encoder_layers
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower.read import read
from mcc.passes.ops.run import run
from mcc.passes.prune.layers import blocks as find_blocks
from mcc.passes.prune.layers import branches, matrices

from networks import blocks, cnn, context, distance, outputs


def resnet(count=4, strong=()):
    """x + conv(relu(conv(x))), relu, `count` times between a stem and a head; those in `strong` change much."""
    r = np.random.default_rng(0)
    x, nodes = Value("x", "float32", ("N", 3, 8, 8)), []

    def add(op, inputs, shape, name, **attrs):
        nodes.append(Node(op, inputs, [Value(f"{name}.out", "float32", ("N", *shape))], attrs, name))
        return nodes[-1].outputs[0]

    def conv(v, name, inputs, scale=1.0):
        w = scale * r.standard_normal((8, inputs, 3, 3)) / np.sqrt(9 * inputs)
        return add("conv", [v, constant(f"{name}.weight", w.astype(np.float32)), None], (8, 8, 8), name, pads=[1] * 4)
    y = add("relu", [conv(x, "stem", 3)], (8, 8, 8), "r")
    for i in range(count):
        a = add("relu", [conv(y, f"block.{i}.conv1", 8)], (8, 8, 8), f"block.{i}.relu1")
        b = conv(a, f"block.{i}.conv2", 8, 2.0 if i in strong else 0.1)
        y = add("relu", [add("add", [b, y], (8, 8, 8), f"block.{i}.add")], (8, 8, 8), f"block.{i}.relu2")
    y = add("reduce_mean", [y, constant("axes", np.array([2, 3]))], (8,), "mean", keepdims=0)
    w = constant("head.weight", r.standard_normal((4, 8)).astype(np.float32))
    return Graph([x], [add("linear", [y, w, None], (4,), "head")], nodes)


def test_what_is_found():
    assert [u.name for u in branches(resnet())] == [f"block.{i}" for i in range(4)]
    assert [u.name for u in find_blocks(encoder_example(3))] == [f"layer.{i}" for i in range(3)]
    assert len(branches(encoder_example(3))) == 6
    assert [u.name for u in matrices(resnet())] == [f"block.{i}.conv{j}" for i in range(4) for j in (1, 2)]
    assert [[n.name for n in u.weighted] for u in branches(cnn())] == [["dw", "pw"]]
    assert branches(blocks()) == [], "two convolutions of one input: neither is a shortcut"


def test_a_residual_block_goes_and_nothing_else():
    graph = resnet(strong=(0, 2))
    ctx = context(graph)
    out = find("prune.layers")(count=2).run(graph, ctx)
    assert sorted(ctx.notes["removed"]) == ["block.1", "block.3"]
    assert params(out) == params(graph) - 4 * 8 * 8 * 9 and total_macs(out) < total_macs(graph)
    for v in graph.constants():  # the blocks that went made of zeros: the same network
        if v.name in ("block.1.conv2.weight", "block.3.conv2.weight"):
            v.data = np.zeros_like(v.data)
    assert torch.allclose(outputs(out), outputs(graph), atol=1e-5)


def test_influence_is_one_minus_cosine():
    graph = resnet(strong=(1,))
    ctx = context(graph)
    action = find("prune.layers")()
    units = action.units(graph)
    ends = Graph(graph.inputs, [v for u in units for v in (u.before, u.after)], graph.nodes)
    x = torch.cat([b["x"] for b, _ in ctx.data.batches("calibration", 64)])
    seen = run(ends, {"x": x})
    want = [float((1 - torch.nn.functional.cosine_similarity(seen[u.before.name], seen[u.after.name], 1)).mean()) for u in units]
    order = action._order(graph, units, ctx)
    assert list(order) == list(np.argsort(want)) and order[-1] == 1


def test_transformer_layers_branches_and_budgets():
    graph = encoder_example(4)
    ctx = context(graph)
    out = find("prune.layers")(ratio=0.5).run(graph, ctx)
    assert len(encoder_layers(out)) == 2 and ctx.notes["of"] == 4
    out = find("prune.layers")(what="branches", count=3).run(graph, ctx)
    assert sum(n.op == "attention" for n in out.nodes) + sum(n.op == "gelu" for n in out.nodes) == 5
    out = find("prune.layers")(what="matrices", count=1, importance="l2").run(resnet(), context(resnet()))
    assert sum(n.op == "conv" for n in out.nodes) == 8
    for kind in ("params", "macs", "bytes"):
        from mcc.passes.prune.budget import cost
        out = find("prune.layers")(**{kind: 0.6}).run(graph, ctx)
        whole, left = (cost(kind, g, ctx, "t") for g in (graph, out))
        more = find("prune.layers")(count=len(ctx.notes["removed"]) - 1 or 1).run(graph, ctx)
        assert left <= 0.6 * whole and (len(ctx.notes["removed"]) == 1 or cost(kind, more, ctx, "t") > 0.6 * whole)


def test_rounds_train_in_between_and_patterns_hold(monkeypatch):
    from mcc.passes import train
    seen, real = [], train.fit_graph
    monkeypatch.setattr(train, "fit_graph", lambda g, ctx, **kw: (seen.append(total_macs(g)), real(g, ctx, **kw))[1])
    graph = resnet()
    ctx = context(graph)
    find("prune.layers")(count=3, steps=3, epochs=0.5, keep=["block.2.conv1"]).run(graph, ctx)
    assert len(seen) == 3 and seen[0] > seen[1] > seen[2] and sorted(ctx.notes["removed"]) == ["block.0", "block.1", "block.3"]
    find("prune.layers")(count=1, layers="block.2*").run(graph, ctx)
    assert ctx.notes["removed"] == ["block.2"]
    with pytest.raises(Exception, match=r"count: 9, but only 4 blocks can go: block.0, block.1"):
        find("prune.layers")(count=9).run(graph, ctx)
    with pytest.raises(Exception, match="no branches can go: the model has no additions"):
        find("prune.layers")(what="branches").run(blocks(), context(blocks()))


@pytest.mark.parametrize("graph", [resnet(), encoder_example(3)], ids=["resnet", "encoder"])
def test_the_file_is_smaller_and_agrees(graph, tmp_path):
    out = find("prune.layers")(count=2).run(graph, context(graph))
    for name, g in (("all", graph), ("few", out)):
        lower(g, tmp_path / name)
    assert (tmp_path / "few").stat().st_size < 0.75 * (tmp_path / "all").stat().st_size
    assert distance(outputs(read(tmp_path / "few"), n=1), outputs(out, n=1)) < 1e-5


def test_a_model_that_is_one_block_keeps_its_ends():
    x, y = Value("x", "float32", ("N", 8)), Value("y", "float32", ("N", 8))
    w = constant("fc.weight", np.eye(8, dtype=np.float32))
    graph = Graph([x], [y], [Node("linear", [x, w, None], [y], name="fc")])
    out = find("prune.layers")(what="matrices", count=1).run(graph, context(graph))
    assert [v.name for v in (*out.inputs, *out.outputs)] == ["x", "y"] and torch.equal(outputs(out), outputs(graph))
