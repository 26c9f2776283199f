"""Importances: each against its formula, and each with every granularity it says it ranks."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from mcc.passes import find
from mcc.passes.distill.encoder import encoder_example
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.moments import matrix, moments, rows, unmatrix
from mcc.passes.prune.importance import EVERY, IMPORTANCES, Ask, Part
from mcc.passes.prune.importance import find as importance

from networks import blocks, cnn, context, outputs

torch.set_num_threads(1)


def layer(outputs_=6, inputs=5, seed=0):
    w = np.random.default_rng(seed).standard_normal((outputs_, inputs)).astype(np.float32)
    x, y = Value("x", "float32", ("N", inputs)), Value("y", "float32", ("N", outputs_))
    return Graph([x], [y], [Node("linear", [x, constant("fc.weight", w), None], [y], name="fc")])


def score(name, graph, granularity="weights", units=None, **kw):
    value = graph.nodes[0].inputs[1]
    units = np.arange(value.data.size).reshape(value.data.shape) if units is None else units
    parts = [Part(value, units, node=graph.nodes[0])]
    ask = Ask(graph, context(graph), parts, int(units.max()) + 1, granularity, samples=64, **kw)
    return ask.score(name)


def inputs_of(graph, split="calibration"):
    return torch.cat([b["x"] for b, _ in context(graph).data.batches(split, 16)]).double().numpy()


def test_magnitudes():
    graph = layer()
    w = graph.nodes[0].inputs[1].data.astype(np.float64)
    rows_ = np.repeat(np.arange(6), 5).reshape(6, 5)
    assert np.allclose(score("l1", graph).reshape(6, 5), abs(w)) and np.allclose(score("l2", graph).reshape(6, 5), abs(w))
    assert np.allclose(score("l1", graph, "blocks", rows_), abs(w).mean(1))
    assert np.allclose(score("l2", graph, "blocks", rows_), np.sqrt((w ** 2).mean(1)))


def test_wanda_is_weight_times_norm_of_input():
    graph = layer()
    want = abs(graph.nodes[0].inputs[1].data) * np.sqrt((inputs_of(graph) ** 2).mean(0))
    assert np.allclose(score("wanda", graph).reshape(6, 5), want, rtol=1e-4)


def test_obs_is_what_least_squares_loses():
    """w^2 / [H^-1]_ii is the rise of the error when a weight goes and the others of its row are fitted again."""
    graph = layer()
    w, x = graph.nodes[0].inputs[1].data.astype(np.float64), inputs_of(graph)
    h = x.T @ x / len(x)
    h += 0.01 * np.trace(h) / 5 * np.eye(5)
    got = score("obs", graph).reshape(6, 5) * np.einsum("ok,kl,ol->", w, x.T @ x / len(x), w)
    for o, k in ((0, 0), (3, 2), (5, 4)):
        rest = [i for i in range(5) if i != k]
        fitted = np.zeros(5)
        fitted[rest] = np.linalg.solve(h[np.ix_(rest, rest)], h[rest] @ w[o])
        assert got[o, k] == pytest.approx((w[o] - fitted) @ h @ (w[o] - fitted), rel=1e-3)


@pytest.mark.parametrize("importance, batch", [("taylor", 16), ("fisher", 1)])
def test_weight_times_gradient_squared(importance, batch):
    """taylor: of batches, the change of the loss; fisher: of single samples."""
    graph = layer(2, 5)
    value = graph.nodes[0].inputs[1]
    ctx = context(graph)
    want = np.zeros(10)
    for b, labels in ctx.data.batches("train", batch, ctx.seed, 64):
        w = torch.from_numpy(value.data).clone().requires_grad_()
        torch.nn.functional.cross_entropy(b["x"] @ w.T, labels).backward()
        want += (w * w.grad).detach().double().numpy().ravel() ** 2
    assert np.allclose(score(importance, graph), want, rtol=1e-4)
    if importance == "fisher":
        rows_ = np.repeat([0, 1], 5).reshape(2, 5)
        assert np.allclose(score("fisher", graph, "blocks", rows_), want.reshape(2, 5).sum(1), rtol=1e-4)


def test_apoz_counts_zeros_behind_the_relu():
    """Channels that hardly ever fire go first, whatever the size of their weights."""
    from mcc.passes.ops.run import run
    graph = blocks()
    hidden = next(n.outputs[0] for n in graph.nodes if n.name == "r2")
    fired = run(Graph(graph.inputs, [hidden], graph.nodes), {"x": torch.from_numpy(inputs_of(graph)).float()})
    fires = (fired[hidden.name] > 0).float().mean(0).numpy()
    out = find("prune.channels")(ratio=0.25, importance="apoz", layers="fc1", multiple=1).run(graph, context(graph))
    before, after = (next(v.data for v in g.constants() if v.name == "fc1.bias") for g in (graph, out))
    stays = np.isin(before, after)
    assert stays.sum() == 18 and fires[~stays].max() <= fires[stays].min() and fires.max() > fires.min()


def test_movement_counts_away_from_zero():
    """Minus the sum of gradient times weight along the steps of training, masked weights too."""
    graph = layer(2, 5)
    got = score("movement", graph).reshape(2, 5)
    from mcc.passes.train import fit
    module, seen = graph.module(), []
    module.set_mask("fc.weight", np.arange(10).reshape(2, 5) != 3)
    module.on_gradient("fc.weight", lambda w, g: seen.append((w.numpy().copy(), g.numpy().copy())))
    fit(module, context(graph), epochs=1)
    assert len(seen) == 4 and all(w[0, 3] == 0 and g[0, 3] != 0 for w, g in seen)
    module, seen = graph.module(), []
    module.on_gradient("fc.weight", lambda w, g: seen.append((w.numpy().copy(), g.numpy().copy())))
    fit(module, context(graph), epochs=1)
    assert np.allclose(got, -sum(w * g for w, g in seen), rtol=1e-4, atol=1e-6)


def test_fpgm_finds_the_filter_in_the_middle():
    graph = layer(5, 3)
    graph.nodes[0].inputs[1].data = np.float32([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0.1, 0, 0]])
    value = graph.nodes[0].inputs[1]
    ask = Ask(graph, context(graph), [Part(value, np.arange(5), 0)], 5, "channels", relative=True)
    assert ask.score("fpgm").argmin() == 4 and ask.score("l2").argmin() == 4
    value.data = value.data + np.float32([5, 5, 5])
    assert ask.score("fpgm").argmin() == 4 and ask.score("l2").argmin() != 4


def test_bn_gamma_reads_the_scale():
    graph = cnn()
    for v in graph.constants():
        if v.name == "bn1.weight":
            v.data = np.where(np.isin(np.arange(16), [2, 5, 11, 14]), 0.01, 1).astype(np.float32)
    out = find("prune.channels")(ratio=0.25, importance="bn_gamma", layers=["stem", "pw"]).run(graph, context(graph))
    assert np.array_equal(next(v.data for v in out.constants() if v.name == "bn1.weight"), np.ones(12, np.float32))


def test_rows_are_what_the_weight_multiplies():
    """Strided, padded, grouped, dilated convolutions, in one and two dimensions."""
    from mcc.passes.ops import call
    r = np.random.default_rng(0)
    for shape, weight, attrs in (((2, 4, 9, 8), (6, 2, 3, 3), {"group": 2, "strides": [2, 1], "pads": [1, 0, 1, 2]}),
                                 ((2, 4, 9, 9), (4, 1, 3, 3), {"group": 4, "dilations": [2, 2], "pads": [2, 2, 2, 2]}),
                                 ((2, 4, 20), (6, 4, 5), {"strides": [3], "pads": [2, 1]})):
        x, w = (torch.from_numpy(r.standard_normal(s)) for s in (shape, weight))
        node = Node("conv", [Value("x"), constant("w", w.numpy()), None], [Value("y")], attrs)
        want, = call("conv", [x, w], attrs)
        got = torch.einsum("grk,gok->gro", rows(node, x), torch.from_numpy(matrix(node)))
        assert torch.allclose(got.permute(0, 2, 1).reshape(weight[0], 2, -1), want.flatten(2).transpose(0, 1))
        assert np.array_equal(unmatrix(node, matrix(node)), w.numpy())
    graph = layer()
    full, square = (moments(graph, graph.nodes, context(graph), 64, "t", d)[graph.nodes[0]] for d in (False, True))
    assert np.allclose(np.diagonal(full[0]), square[0]) and np.allclose(full[0], (x := inputs_of(graph)).T @ x / 64, rtol=1e-4)


@pytest.mark.parametrize("name", IMPORTANCES)
@pytest.mark.parametrize("granularity", ["weights", "blocks", "channels", "heads", "layers"])
def test_every_importance_with_every_granularity(name, granularity):
    cls = find(f"prune.{granularity}")
    if granularity not in importance(name).takes:
        with pytest.raises(ValueError, match=rf"importance: {name} ranks .*, not {granularity}; use .*l2"):
            cls(importance=name).check()
        return
    graph, options = {"channels": (blocks(), {"ratio": 0.5}), "layers": (encoder_example(6), {"count": 2}),
                      "heads": (encoder_example(2, width=32, heads=8), {"ratio": 0.5})}.get(
                          granularity, (cnn(), {"sparsity": 0.5, "skip": ["dw"]}))
    action = cls(importance=name, **options)
    action.check()
    out = action.run(graph, context(graph))
    assert torch.isfinite(outputs(out)).all() and not torch.equal(outputs(out), outputs(graph))
    other = cls(importance="random", **options).run(graph, context(graph))
    if name != "random" and granularity != "layers":
        assert not torch.equal(outputs(out), outputs(other)), "the importance decides"


def test_each_importance_says_what_it_ranks():
    assert all(set(importance(n).takes) <= set(EVERY) for n in IMPORTANCES)
    ctx = context(cnn())
    ctx.data = None
    for name in IMPORTANCES:
        if importance(name).needs:
            with pytest.raises(Exception, match=f"importance: {name}.* needs .*data; add `data:`"):
                kind = next(k for k in ("weights", "channels", "layers") if k in importance(name).takes)
                find(f"prune.{kind}")(importance=name).run(encoder_example() if kind == "layers" else cnn(), ctx)
