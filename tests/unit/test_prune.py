"""The prune family: shares that are reached, schedules, channels that are really gone."""
from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from mcc.passes import find
from mcc.passes.cost import nonzeros, total_macs
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph, Node, Value, constant

from networks import cnn, context, distance, outputs

torch.set_num_threads(1)


# --- prune.weights ----------------------------------------------------------------------------------------------------

def test_prune_reaches_its_share():
    graph = cnn()
    for scope in ("global", "layer"):
        out = find("prune.weights")(sparsity=0.7, scope=scope).run(graph, context(graph))
        pruned = [v for v in out.constants() if v.meta.get("sparse")]
        zeros, total = sum(int((v.data == 0).sum()) for v in pruned), sum(v.data.size for v in pruned)
        assert zeros / total == pytest.approx(0.7, abs=0.01)
        if scope == "layer":
            assert all(abs((v.data == 0).mean() - 0.7) < 0.05 for v in pruned)
        old = {v.name: v.data for v in graph.constants()}
        for v in pruned:  # survivors are untouched; per layer they are the largest
            assert np.array_equal(v.data[v.data != 0], old[v.name][v.data != 0])
            assert np.abs(v.data[v.data != 0]).min() >= np.abs(old[v.name][v.data == 0]).max() or scope == "global"
        assert nonzeros(out) == nonzeros(graph) - zeros


def test_prune_overrides_and_exclusions():
    graph = cnn()
    out = find("prune.weights")(sparsity=0.5, skip=["dw"], skip_first=True, skip_last=True,
                                overrides={"fc1": {"sparsity": 0.9}}).run(graph, context(graph))
    share = {v.name: float((v.data == 0).mean()) for v in out.constants() if v.data.ndim > 1}
    assert share["fc1.weight"] == pytest.approx(0.9, abs=0.01) and share["pw.weight"] == pytest.approx(0.5, abs=0.01)
    assert share["stem.weight"] == share["dw.weight"] == share["fc2.weight"] == 0


def test_prune_gradually():
    """The mask grows as the cubic schedule says, never lets a weight live again, and training goes on behind it."""
    graph = cnn()
    ctx = context(graph)
    seen = []
    real = find("prune.weights").masks

    class Spy(find("prune.weights")):
        def masks(self, graph, job, progress=1.0):
            found = real(self, graph, job, progress)
            seen.append((progress, found))
            return found
    out = Spy(sparsity=0.8, epochs=4, steps=5, end=0.5).run(graph, ctx)
    shares = [p for p, _ in seen]
    assert shares == pytest.approx([1 - (1 - t / 5) ** 3 for t in range(6)])
    for (_, a), (_, b) in itertools.pairwise(seen):
        assert all(not (b[k] & ~a[k]).any() for k in a)
    assert ctx.notes["sparsity"] == pytest.approx(0.8, abs=0.01)
    assert distance(outputs(out), outputs(graph)) > 0 and out.meta == graph.meta


def test_lamp_spares_small_layers():
    from mcc.passes.prune.importance.norms import lamp

    scores = lamp(np.array([[3.0, 1.0], [2.0, 0.5]]).ravel() ** 2)
    assert scores[0] == 1 and scores[2] == pytest.approx(4 / 13) and scores[3] == pytest.approx(0.25 / 14.25)


# --- prune.channels ---------------------------------------------------------------------------------------------------

def test_channels_by_ratio_and_by_macs():
    graph = cnn()
    ctx = context(graph)
    out = find("prune.channels")(ratio=0.5).run(graph, ctx)
    widths = {v.name: v.shape for v in out.constants()}
    assert widths["stem.weight"] == (8, 3, 3, 3) and widths["dw.weight"] == (8, 1, 3, 3) and widths["pw.weight"] == (8, 8, 1, 1)
    assert widths["fc1.weight"] == (12, 8) and widths["fc2.weight"] == (4, 12) and widths["bn1.running_var"] == (8,)
    assert ctx.notes["macs_after"] == total_macs(out) and "output" in ctx.notes["skipped"]["fc2"]
    for target in (0.8, 0.5, 0.3):
        out = find("prune.channels")(macs=target, multiple=1).run(graph, context(graph))
        assert target * 0.6 < total_macs(out) / total_macs(graph) <= target


def test_channels_by_other_budgets():
    from mcc.passes.prune.budget import cost
    graph = cnn()
    ctx = context(graph)
    for kind in ("params", "bytes"):
        out = find("prune.channels")(**{kind: 0.6}, multiple=1).run(graph, ctx)
        assert 0.45 < cost(kind, out, ctx, "t") / cost(kind, graph, ctx, "t") <= 0.6
    ctx.measure = lambda g: {"bytes": 1, "latency_ms": 1.0 + sum(v.data.size for v in g.constants())}
    out = find("prune.channels")(latency=0.5, multiple=1).run(graph, ctx)
    assert 0.35 < ctx.measure(out)["latency_ms"] / ctx.measure(graph)["latency_ms"] <= 0.5
    find("prune.channels")(params=0.05, min_channels=12).run(graph, ctx)
    assert "more than the 5.0% asked for: the groups are at max_ratio, rounded, or as narrow as" in ctx.notes["warning"]


@pytest.mark.parametrize("importance", ["l1", "l2", "bn_gamma", "fpgm", "wanda", "taylor", "fisher", "random"])
def test_channels_that_do_nothing_go_first(importance):
    graph = cnn()
    dead = [3, 7, 8, 12]
    for v in graph.constants():
        if v.name in ("stem.weight", "pw.weight", "pw.bias", "bn1.weight", "bn1.bias", "dw.weight", "bn2.weight", "bn2.bias"):
            v.data = np.array(v.data)
            v.data[dead] = 0
        if v.name in ("fc1.weight", "pw.weight"):
            v.data = np.array(v.data)
            v.data[:, dead] = 0
    out = find("prune.channels")(ratio=0.25, importance=importance, layers=["stem", "pw"]).run(graph, context(graph))
    if importance == "random":
        assert outputs(out).shape == outputs(graph).shape
    else:
        assert distance(outputs(out), outputs(graph)) < 1e-5


@pytest.mark.parametrize("options, arch, want", [
    ({"multiple": 1}, "arm64", [60, 19]),             # 60 % of 100 and of 32, to the nearest
    ({}, "arm64", [64, 16]),                          # eights: 32 is 4 times as wide
    ({}, "arm64-cortex-a55", [64, 16]),
    ({}, "x86-64", [64, 19]),                         # sixteens: 32 is too narrow to be rounded
    ({"multiple": 10}, "arm64", [60, 19]),
])
def test_channels_are_rounded_to_what_the_target_likes(options, arch, want):
    r = np.random.default_rng(0)
    x, a, b, y = (Value(n, "float32", ("N", c, 4, 4)) for n, c in (("x", 3), ("a", 100), ("b", 32), ("y", 4)))

    def layer(v, u):
        weight = r.standard_normal((u.shape[1], v.shape[1], 1, 1)).astype(np.float32)
        return Node("conv", [v, constant(f"{u.name}.weight", weight), None], [u], {}, u.name)
    nodes = [layer(x, a), layer(a, b), layer(b, y)]
    graph = Graph([x], [y], nodes)
    ctx = context(graph)
    ctx.target = {"arch": arch}
    out = find("prune.channels")(ratio=0.4, **options).run(graph, ctx)
    assert [v.shape[0] for v in out.constants() if v.name in ("a.weight", "b.weight")] == want


def test_channels_patterns_rounding_and_steps():
    graph = cnn()
    out = find("prune.channels")(ratio=0.5, keep=["stem"], overrides={"fc1": {"ratio": 0.25}}).run(graph, context(graph))
    widths = {v.name: v.shape for v in out.constants()}
    assert widths["stem.weight"][0] == 16 and widths["fc1.weight"] == (18, 16)
    out = find("prune.channels")(ratio=0.4, multiple=4).run(graph, context(graph))
    assert {v.name: v.shape for v in out.constants()}["stem.weight"][0] in (8, 12)
    assert all(v.shape[0] % 4 == 0 for v in out.constants() if v.name.endswith(".weight") and v.data.ndim > 1)
    steps = find("prune.channels")(ratio=0.5, steps=3, epochs=1, multiple=1).run(graph, context(graph))
    assert {v.name: v.shape for v in steps.constants()}["stem.weight"][0] == pytest.approx(8, abs=1)
    with pytest.raises(UserError, match="output of the model"):
        find("prune.channels")(layers="fc2").run(graph, context(graph))
