"""prune.blocks, OBS, and the schedules and budgets of the passes that set weights to zero."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from mcc.passes import find, lower
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower.read import read
from mcc.passes.prune import obs
from mcc.passes.prune.schedule import reached, rounds

from networks import blocks, cnn, context, distance, outputs

torch.set_num_threads(1)


def weights(graph):
    return {v.name: v.data for v in graph.constants() if v.data.dtype == np.float32 and v.data.ndim > 1}


def as_blocks(data, r, c):
    """[..., r, c] of a weight whose sides are multiples."""
    o, i = data.shape[:2]
    return np.moveaxis(data.reshape(o // r, r, i // c, c, -1), (1, 3), (3, 4))


# --- blocks -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("pattern", ["1x4", "4x1", "1x8", "8x1", "1x16", "16x1"])
def test_blocks_go_as_a_whole(pattern):
    graph = blocks()
    r, c = map(int, pattern.split("x"))
    for scope in ("global", "layer"):
        action = find("prune.blocks")(pattern=pattern, sparsity=0.5, scope=scope, layers="block*")
        out = weights(action.run(graph, context(graph)))
        old = weights(graph)
        zeros = 0
        for name in ("block.0.conv.weight", "block.1.conv.weight"):
            gone = (as_blocks(out[name], r, c) == 0)
            assert np.array_equal(gone.any((-1, -2)), gone.all((-1, -2))) and gone.any() and not gone.all()
            energy = (as_blocks(old[name].astype(np.float64), r, c) ** 2).sum((-1, -2))
            if scope == "layer":
                assert energy[gone.all((-1, -2))].max() <= energy[~gone.all((-1, -2))].min()
            zeros += gone.sum()
        assert zeros == old["block.0.conv.weight"].size


@pytest.mark.parametrize("pattern", ["2:4", "4:8", "1:4", "2:8"])
def test_n_of_m_keeps_the_largest(pattern):
    graph = blocks()
    n, m = map(int, pattern.split(":"))
    out, old = weights(find("prune.blocks")(pattern=pattern).run(graph, context(graph))), weights(graph)
    for name in ("block.0.conv.weight", "one.weight", "fc1.weight"):
        groups, before = (as_blocks(w[name], 1, m) for w in (out, old))
        assert ((groups != 0).sum((-1, -2)) == n).all()
        kept = np.sort(abs(before), -1)[..., -n:]
        assert np.array_equal(np.sort(abs(groups), -1)[..., -n:], kept)
    assert np.array_equal(out["stem.weight"], old["stem.weight"]), "3 input channels are no group"


def test_blocks_in_matmul_and_at_ragged_ends():
    x, y = Value("x", "float32", ("N", 10)), Value("y", "float32", ("N", 6))
    w = np.random.default_rng(0).standard_normal((10, 6)).astype(np.float32)
    graph = Graph([x], [y], [Node("matmul", [x, constant("w", w)], [y], name="m")])
    out = weights(find("prune.blocks")(pattern="1x4", sparsity=0.5).run(graph, context(graph)))["w"]
    for o in range(6):
        for i in (0, 4, 8):
            block = out[i:i + 4, o]
            assert (block == 0).all() or (block != 0).all()
    assert (out == 0).any()
    out = weights(find("prune.blocks")(pattern="2:4").run(graph, context(graph)))["w"]
    assert ((out[:4] != 0).sum(0) == 2).all() and ((out[8:] != 0).sum(0) == 1).all()


@pytest.mark.parametrize("options", [{"sparsity": 0.6}, {"pattern": "2:4"}, {"pattern": "16x1", "sparsity": 0.5}])
def test_blocks_hold_through_later_passes_and_the_file(options, tmp_path):
    graph = blocks()
    ctx = context(graph)
    pruned = find("prune.blocks")(**options, layers=["block*", "fc1"]).run(graph, ctx)
    zeros = {v.name: v.data == 0 for v in pruned.constants() if v.meta.get("sparse")}
    assert zeros
    tuned = find("distill.logits")(epochs=1).run(pruned, ctx)
    shared = find("quantize.codebook")(bits=4, min_size=16).run(tuned, ctx)
    again = find("prune.weights")(sparsity=0.7).run(shared, ctx)
    for g in (tuned, shared, again):
        data = weights(g)
        assert all(not data[n][z].any() for n, z in zeros.items())
    assert all(np.array_equal(weights(shared)[n] == 0, z) for n, z in zeros.items())
    int8 = find("quantize.ptq")(samples=32).run(tuned, ctx)
    found = [v.data for v in int8.constants() if v.data.dtype == np.int8 and v.data.ndim > 1]
    assert all(any(d.shape == z.shape and not d[z].any() for d in found) for z in zeros.values())
    sizes = {}
    dense8 = find("quantize.ptq")(samples=32).run(graph, ctx)
    for name, g in (("dense", graph), ("pruned", pruned), ("int8", int8), ("dense8", dense8)):
        lower(g, tmp_path / name)
        sizes[name] = (tmp_path / name).stat().st_size
        assert distance(outputs(read(tmp_path / name)), outputs(g)[:1]) < (0.1 if "8" in name else 1e-5)
    share = sum(z.sum() for z in zeros.values()) / sum(v.data.size for v in graph.constants())
    assert sizes["pruned"] < (1 - 0.9 * share) * sizes["dense"] and sizes["int8"] < 0.85 * sizes["dense8"]


# --- OBS --------------------------------------------------------------------------------------------------------------

def correlated(n=400, k=24, seed=0):
    r = np.random.default_rng(seed)
    x = r.standard_normal((n, 8)) @ r.standard_normal((8, k)) + 0.3 * r.standard_normal((n, k))
    return x, r.standard_normal((10, k)), x.T @ x / n


def test_the_fit_is_least_squares():
    x, w, h = correlated()
    keep = np.random.default_rng(1).random(w.shape) < 0.5
    got = obs.fit(w, keep, h)
    for o in range(10):
        want = np.linalg.lstsq(x[:, keep[o]], x @ w[o], rcond=None)[0]
        assert np.allclose(got[o, keep[o]], want) and not got[o, ~keep[o]].any()


def test_the_sweep_beats_magnitude_and_a_fixed_mask():
    """Without the update, with it, and with masks chosen anew; the same number of weights each time."""
    _, w, h = correlated()

    def lost(new):
        return np.einsum("ok,kl,ol->", w - new, h, w - new)
    keep = np.ones(w.shape, bool)
    keep.ravel()[np.argsort(abs(w), axis=None)[:w.size // 2]] = False
    units = np.arange(w.size).reshape(w.shape)
    fixed, mask = obs.sweep(w, keep, h, units, choose=False)
    assert np.array_equal(mask, keep) and np.array_equal(fixed != 0, keep)
    chosen, mask = obs.sweep(w, keep, h, units, choose=True)
    assert mask.sum() == keep.sum() and np.array_equal(chosen != 0, mask)
    assert lost(chosen) < 0.7 * lost(fixed) and lost(fixed) < 0.7 * lost(w * keep)
    assert lost(obs.fit(w, keep, h)) <= lost(fixed) * (1 + 1e-9)
    same, _ = obs.sweep(w, np.ones(w.shape, bool), h, units)
    assert np.allclose(same, w)


@pytest.mark.parametrize("options", [
    {}, {"scope": "row"}, {"pattern": "1x4", "scope": "layer"}, {"pattern": "2:4"}, {"pattern": "4x1", "scope": "layer"}])
def test_obs_keeps_outputs_better_and_the_pattern(options):
    graph = blocks()
    ctx = context(graph)
    cls = find("prune.blocks" if "pattern" in options else "prune.weights")
    common = options | {"skip_last": True, "samples": 64}
    lost = {}
    for name in ("l2", "obs"):
        out = cls(importance=name, **common).run(graph, ctx)
        lost[name] = distance(run_on(out, ctx), run_on(graph, ctx))
        for v in out.constants():
            if v.meta.get("sparse"):
                n = np.count_nonzero(v.data)
                assert n < v.data.size
                if options.get("pattern") == "2:4":
                    assert ((as_blocks(v.data, 1, 4) != 0).sum((-1, -2)) == 2).all()
                elif "pattern" in options:
                    gone = as_blocks(v.data, *map(int, options["pattern"].split("x"))) == 0
                    assert np.array_equal(gone.any((-1, -2)), gone.all((-1, -2)))
                elif options.get("scope") == "row":
                    assert (np.count_nonzero(v.data.reshape(len(v.data), -1), axis=1) * 2 - v.data[0].size <= 1).all()
        assert ctx.notes["sparsity"] == pytest.approx(0.5, abs=0.02)
    assert lost["obs"] < 0.75 * lost["l2"]
    plain = cls(importance="obs", update=False, **common).run(graph, ctx)
    assert lost["obs"] < distance(run_on(plain, ctx), run_on(graph, ctx))


def run_on(graph, ctx):
    from mcc.passes.ops.run import run
    feeds, _ = next(iter(ctx.data.batches("calibration", 64)))
    return next(iter(run(graph, feeds).values()))


# --- schedules --------------------------------------------------------------------------------------------------------

def test_rounds_end_at_the_goal():
    assert rounds(3, 0.125) == pytest.approx([0.5, 0.25, 0.125])
    assert reached("cubic", 0.5) == 0.875 and reached("linear", 0.25) == 0.25
    assert reached("cubic", 1) == reached("linear", 1) == reached("once", 0) == 1


class Spied:
    """find("prune.weights") that remembers every mask."""

    def __new__(cls, seen, **options):
        base = find("prune.weights")

        class Spy(base):
            def masks(self, graph, job, progress=1.0):
                found = base.masks(self, graph, job, progress)
                seen.append((progress, found, {v.name: v.data for v in graph.constants()}))
                return found
        return Spy(**options)


def test_iterative_prunes_and_trains_in_turn():
    graph, seen = cnn(), []
    out = Spied(seen, sparsity=0.875, schedule="iterative", steps=3, epochs=1).run(graph, context(graph))
    assert [0.875 * p for p, _, _ in seen] == pytest.approx([0.5, 0.75, 0.875])
    for (_, a, _), (_, b, data) in zip(seen, seen[1:]):
        assert all(not (b[k] & ~a[k]).any() and not data[k][~a[k]].any() for k in a)
        assert any((data[k] != weights(graph)[k])[a[k]].any() for k in a), "trained in between"
    assert all(np.array_equal(weights(out)[k] != 0, m) for k, m in seen[-1][1].items())


@pytest.mark.parametrize("step", [0, 3])
def test_rewind_goes_back_to_early_weights(step):
    """What the last training begins with is what the first had at that step, under the last mask."""
    from mcc.passes import train
    graph, starts, early = cnn(), [], []
    real = train.fit_graph

    def spy(given, ctx, **options):
        starts.append(given)
        if len(starts) == 1:
            inner = options["on_step"]
            options["on_step"] = lambda i, n, m: (inner(i, n, m), early.append(m.write_back()) if i == step else None)
        return real(given, ctx, **options)
    train.fit_graph = spy
    try:
        find("prune.weights")(sparsity=0.6, schedule="iterative", steps=2, epochs=1, rewind=step).run(graph, context(graph))
    finally:
        train.fit_graph = real
    assert len(starts) == 3
    first, last = weights(early[0]), weights(starts[-1])
    for name, data in last.items():
        assert np.array_equal(data[data != 0], first[name][data != 0])
    assert sum((d == 0).sum() for d in last.values()) == pytest.approx(0.6 * sum(d.size for d in last.values()), abs=2)
    if step == 0:
        assert all(np.array_equal(first[k], w) for k, w in weights(graph).items())
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(first["pw.weight"], weights(graph)["pw.weight"] if step else first["pw.weight"] + 1)


def test_regrowth_exchanges_weights_and_begins_them_at_zero():
    graph = cnn()
    ctx = context(graph)
    plain = find("prune.weights")(sparsity=0.6, schedule="once", scope="layer", epochs=2).run(graph, ctx)
    grown = find("prune.weights")(sparsity=0.6, schedule="once", scope="layer", epochs=2, regrow=0.4, steps=4).run(graph, ctx)
    a, b = weights(plain), weights(grown)
    for name in ("stem.weight", "pw.weight", "fc1.weight"):
        assert np.count_nonzero(a[name]) == pytest.approx(np.count_nonzero(b[name]), abs=2)
        revived = (a[name] == 0) & (b[name] != 0)
        assert revived.any()
        assert np.abs(b[name][revived]).max() < np.abs(weights(graph)[name]).max() / 5, "they begin at zero"


def test_regrowth_takes_the_largest_gradients():
    graph = cnn()
    ctx = context(graph)
    action = find("prune.weights")(sparsity=0.5, scope="layer", layers="fc1")
    from mcc.passes.prune.masked import Job
    job = Job(ctx, {}, 0.5)
    masks = action.masks(graph, job)
    before = masks["fc1.weight"].copy()
    pull = torch.from_numpy(np.random.default_rng(0).standard_normal(before.shape))
    after = action._regrown(masks, graph, job, {"fc1.weight": pull}, 0.25)["fc1.weight"]
    count = round(0.25 * before.sum())
    new, dropped = after & ~before, before & ~after
    assert new.sum() == dropped.sum() == count
    assert pull.abs().numpy()[new].min() >= pull.abs().numpy()[~after & ~dropped].max()
    size = np.abs(weights(graph)["fc1.weight"])
    assert size[dropped].max() <= size[before & after].min()


def test_erk_keeps_more_of_narrow_layers():
    from mcc.passes.prune.masked import erk
    shapes = [(64, 3, 3, 3), (64, 64, 3, 3), (10, 64)]
    size = np.array([np.prod(s) for s in shapes])
    kept = 1 - np.array(erk(shapes, 0.97, 0.995))
    assert kept @ size == pytest.approx(0.03 * size.sum()) and kept[2] / kept[1] == pytest.approx((74 / 640) / (134 / 36864))
    full = 1 - np.array(erk([(4, 2), (200, 200)], 0.5, 0.99))
    assert full[0] == 1 and full @ [8, 40000] == pytest.approx(0.5 * 40008), "none has more than all its weights"
    assert 1 - np.array(erk([(4, 2), (2000, 2000)], 0.9895, 0.99))[1] == pytest.approx(0.0105, abs=1e-5)
    graph = cnn()
    out = find("prune.weights")(sparsity=0.7, scope="erk").run(graph, context(graph))
    left = {k: np.count_nonzero(w) / w.size for k, w in weights(out).items()}
    want = 1 - np.array(erk([w.shape for w in weights(graph).values()], 0.7, 0.99))
    assert list(left.values()) == pytest.approx(list(want), abs=0.02) and left["fc2.weight"] > left["fc1.weight"]


# --- budgets ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["params", "macs", "bytes"])
def test_budgets_are_met_and_not_wasted(kind, tmp_path):
    from mcc.passes.prune.budget import cost
    graph = blocks()
    ctx = context(graph)
    for name in ("prune.weights", "prune.blocks"):
        out = find(name)(**{kind: 0.5}).run(graph, ctx)
        share = cost(kind, out, ctx, name) / cost(kind, graph, ctx, name)
        assert 0.46 < share <= 0.5


def test_a_latency_budget_asks_the_engine():
    graph = blocks()
    ctx = context(graph)
    with pytest.raises(Exception, match="latency budget needs an engine"):
        find("prune.weights")(latency=0.5).run(graph, ctx)
    ctx.measure = lambda g: {"bytes": 1, "latency_ms": 2.0 + sum(np.count_nonzero(w) for w in weights(g).values())}
    total = ctx.measure(graph)["latency_ms"]
    out = find("prune.weights")(latency=0.4).run(graph, ctx)
    assert 0.37 < ctx.measure(out)["latency_ms"] / total <= 0.4
