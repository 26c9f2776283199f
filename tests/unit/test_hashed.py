"""Hashed weights: the hash is the one on record, the start the least-squares one, sharing survives what passes do to a weight."""
from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mcc.passes import find, hashing, load, lower
from mcc.passes.cost import params
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower import storage
from mcc.passes.quantize.ptq import PTQ
from mcc.passes.train import fit_graph
from networks import cnn, context

torch.set_num_threads(1)
R = np.random.default_rng(0)


def linear(n=24, k=32, **meta) -> Graph:
    x, y = Value("x", "float32", ("N", k)), Value("y", "float32", ("N", n))
    w = constant("fc.weight", R.standard_normal((n, k)).astype(np.float32), **meta)
    return Graph([x], [y], [Node("linear", [x, w, None], [y], name="fc")])


def hashed(graph: Graph, **options) -> Graph:
    return find("structure.hashed")(**options).run(graph, context(graph))


def weight(graph: Graph) -> Value:
    return next(v for v in graph.constants() if v.name == "fc.weight")


def holds(v: Value) -> bool:
    return hashing.buckets_of(v.data, v.meta["hashed"], bool(v.meta.get("sparse"))) is not None


# --- the hash ---------------------------------------------------------------------------------------------------------

def test_numbers_on_record():
    """Those of tests/kernels/check_hashed.c: files depend on them."""
    for seed, axis, at, want in [(0, 0, 0, 0), (1, 0, 0, 0x24009C6D), (1, 1, 7, 0x842BAFEB), (0xFFFFFFFF, 3, 65536, 0x440B733E),
                                 (123456789, 2, 0xFFFFFFFF, 0xD4BDE7C3), (5, hashing.NONE, 9, 0)]:
        assert hashing.key(seed, axis, [at])[0] == want
    index, negative = hashing.places(hashing.fresh((5, 3), 1, 8), (5, 3))
    assert index.tolist() == [[4, 4, 4], [5, 5, 5], [6, 6, 6], [7, 7, 7], [0, 0, 0]] \
        and negative.astype(int).tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("shape, buckets", [((256, 256), 8192), ((64, 64, 3, 3), 4608), ((100, 300), 3748), ((256, 784), 2000)])
def test_places_are_as_good_as_random(shape, buckets):
    for seed in range(3):
        how = hashing.fresh(shape, seed, buckets)
        index, negative = (a.reshape(shape[0], -1) for a in hashing.places(how, shape))
        members = np.bincount(index.ravel(), minlength=buckets)
        mean = index.size / buckets
        assert abs(((members - mean) ** 2 / mean).sum() / (buckets - 1) - 1) < 5 * np.sqrt(2 / buckets)
        assert abs(negative.mean() - 0.5) < 4 / np.sqrt(index.size)
        w = hashing.fill(R.standard_normal(buckets), how, shape).reshape(shape[0], -1)
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        alike = w @ w.T - np.eye(len(w))
        assert abs(alike).max() < 7 / np.sqrt(w.shape[1]), "no two outputs are alike"


def test_fours_share_a_run():
    index, negative = hashing.places(hashing.fresh((10, 6), 3, 40), (10, 6))
    for r in range(0, 10, 4):
        four = index[r:r + 4]
        assert (four - four[0] == np.arange(len(four))[:, None]).all() and (four[0] % 4 == 0).all()
        assert (negative[r:r + 4] == negative[r]).all()


def test_means_are_the_least_squares():
    data, how = R.standard_normal((9, 7)), hashing.fresh((9, 7), 5, 12)
    index, negative = hashing.places(how, data.shape)
    design = np.zeros((data.size, 12))
    design[np.arange(data.size), index.ravel()] = np.where(negative, -1, 1).ravel()
    by = R.random(data.shape) > 0.4
    for told in (None, by):
        root = np.sqrt(np.ones(data.size) if told is None else told.ravel())
        want = np.linalg.lstsq(design * root[:, None], data.ravel() * root, rcond=None)[0]
        np.testing.assert_allclose(hashing.means(data, how, told), want, atol=1e-6)


def test_axes_that_move_take_their_hash_along():
    shape = (6, 5, 3, 2)
    meta = {"hashed": hashing.fresh(shape, 9, 16)}
    data = hashing.fill(R.standard_normal(16).astype(np.float32), meta["hashed"], shape)
    for perm in [(0, 2, 3, 1), (1, 0, 3, 2), (3, 2, 1, 0)]:
        moved = constant("w", data.transpose(perm), **hashing.transposed(meta, perm))
        assert holds(moved)
        few = constant("w", moved.data[:, [2, 0]], **hashing.taken(moved.meta, 1, np.array([2, 0])))
        assert holds(few)
        again = constant("w", few.data[:, [1]], **hashing.taken(few.meta, 1, np.array([1])))
        flat = constant("w", again.data.squeeze(1), **hashing.reshaped(again.meta, again.shape, again.data.squeeze(1).shape))
        assert holds(again) and ("hashed" not in flat.meta or holds(flat))
        data_wide = flat.data[:, None, :, :, None]
        wide = constant("w", data_wide, **hashing.reshaped(flat.meta, flat.shape, data_wide.shape))
        assert "hashed" not in wide.meta or holds(wide)
    one = constant("w", data[:1, :, :, :1], **hashing.taken(hashing.taken(meta, 0, np.array([0])), 3, np.array([0])))
    flat = constant("w", one.data.reshape(5, 3), **hashing.reshaped(one.meta, one.shape, (5, 3)))
    assert holds(flat), "index 0 of the axis of fours is the first of its run, so the axis may go"
    assert "hashed" not in hashing.reshaped(meta, shape, (6, 30))
    assert hashing.buckets_of(data.transpose(1, 0, 2, 3), meta["hashed"]) is None
    assert hashing.buckets_of(np.where(np.arange(data.size).reshape(shape) == 7, 9, data), meta["hashed"]) is None


# --- the pass ---------------------------------------------------------------------------------------------------------

def test_start_and_report():
    graph = linear(64, 64)
    ctx = context(graph)
    out = find("structure.hashed")(ratio=4).run(graph, ctx)
    w, = ctx.notes["layers"]
    assert w["buckets"] == 1024 == params(out) and w["weights"] == 4096 and ctx.notes["params_before"] == 4096
    assert w["error"] == pytest.approx(np.sqrt(1 - 1 / 4), abs=0.04), "independent weights keep a share 1 / ratio of their energy"
    assert holds(weight(out)) and not weight(graph).meta
    other, same = hashed(graph, ratio=4, seed=1), hashed(graph, ratio=4, seed=0)
    assert not np.array_equal(weight(other).data, weight(out).data) and np.array_equal(weight(same).data, weight(out).data)


def test_options():
    graph = cnn()
    out = hashed(graph, ratio=16, skip=["stem"], overrides={"op:conv": {"ratio": 4}, "p*": {"ratio": 2}}, min_size=32)
    found = {v.name: v.meta["hashed"]["buckets"] for v in out.constants() if "hashed" in v.meta}
    assert found == {"pw.weight": 128, "fc1.weight": 24, "fc2.weight": 8}, "not the stem, not the depthwise one"
    for options, text in [({"ratio": 1}, "ratio must be more than 1"), ({"epochs": -1}, "epochs"),
                          ({"overrides": {"a": {"bits": 1}}}, "unknown option 'bits'"),
                          ({"overrides": {"a": {"ratio": 0}}}, "overrides")]:
        with pytest.raises(ValueError, match=text):
            find("structure.hashed")(**options).check()
    with pytest.raises(UserError, match="no linear or ungrouped convolution layer"):
        hashed(out, skip=["stem"])


def test_training_moves_buckets_only():
    graph = hashed(linear())
    w, how = weight(graph), weight(graph).meta["hashed"]
    module = graph.module()
    (name, buckets), = module.named_parameters()
    assert name == "fc.weight.buckets" and buckets.shape == (how["buckets"],)
    x = torch.randn(5, 32)
    module(x).sin().sum().backward()
    dense = torch.tensor(w.data, requires_grad=True)
    F.linear(x, dense).sin().sum().backward()
    index, negative = hashing.places(how, w.data.shape)
    want = np.bincount(index.ravel(), np.where(negative, -dense.grad, dense.grad).ravel(), how["buckets"])
    np.testing.assert_allclose(buckets.grad, want, rtol=1e-4, atol=1e-5)
    trained = fit_graph(graph, context(graph), epochs=1, lr=0.01)
    assert holds(weight(trained)) and not np.array_equal(weight(trained).data, w.data)


def test_training_wins_back_what_the_start_loses():
    graph = linear(8, 64)
    before, after = hashed(graph), hashed(graph, epochs=40, lr=0.01)
    x = torch.randn(256, 64)
    want = graph.module()(x)
    loss = [F.cross_entropy(g.module()(x), (x.sum(1) > 0).long()) for g in (before, after)]
    assert loss[1] < loss[0] and holds(weight(after)) and want.shape == (256, 8)


def test_zeros_stay_and_take_no_part():
    graph = linear(sparse=True)
    w = weight(graph)
    w.data = np.where(R.random(w.data.shape) < 0.5, w.data, 0).astype(np.float32)
    out = hashed(graph)
    told = w.data != 0
    assert np.array_equal(weight(out).data != 0, told) and holds(weight(out))
    how = weight(out).meta["hashed"]
    want = hashing.fill(hashing.means(w.data, how, told), how, w.data.shape)
    np.testing.assert_array_equal(weight(out).data, np.where(told, want, 0))
    trained = fit_graph(out, context(out), epochs=1, lr=0.01)
    assert np.array_equal(weight(trained).data != 0, told) and holds(weight(trained))


def test_weights_that_make_up_for_others_stay_shared():
    graph = hashed(linear(64, 64))
    out = find("prune.weights")(importance="obs", sparsity=0.5).run(graph, context(graph))
    w = weight(out)
    assert holds(w) and w.meta["sparse"] and (w.data == 0).mean() == pytest.approx(0.5, abs=0.01)
    kept = np.where(w.data != 0, weight(graph).data, 0)
    assert not np.array_equal(w.data, kept), "they were changed"


def file(graph: Graph, path) -> Value:
    lower(graph, path, bind={"N": 1})
    return next(v for v in load(path).constants() if v.data.ndim >= 2)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_codebook_is_one_of_the_buckets(sparse, tmp_path):
    graph = linear(64, 64, **({"sparse": True} if sparse else {}))
    if sparse:
        weight(graph).data *= R.random((64, 64)) < 0.4
    graph = hashed(graph)
    out = find("quantize.codebook")(bits=4).run(graph, context(graph))
    w = weight(out)
    assert holds(w) and len(np.unique(w.data)) <= 16 and w.meta["codebook"]["bits"] <= 4
    trained = fit_graph(out, context(out), epochs=1, lr=0.01)
    assert holds(weight(trained)) and len(np.unique(abs(weight(trained).data))) == len(np.unique(abs(w.data)))
    assert not np.array_equal(weight(trained).data, w.data) and np.array_equal(weight(trained).data == 0, w.data == 0)
    seen = file(out, tmp_path / "m.mcc")
    assert seen.meta["storage"] == "hashed" and np.array_equal(seen.data, w.data)
    assert seen.meta["stored_bytes"] < 512 * 4 / 8 + 140 + sparse * 64 * 64 / 8, "four bits per bucket"


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_integers_are_those_of_the_buckets(bits, tmp_path):
    graph = hashed(linear(64, 64))
    out = find("quantize.weight_only")(bits=bits).run(graph, context(graph))
    seen = file(out, tmp_path / "m.mcc")
    assert seen.meta["storage"] == "hashed" and seen.meta["stored_bytes"] <= 512 * bits / 8 + 60
    assert np.linalg.norm(seen.data - weight(graph).data) < {2: 0.75, 4: 0.2, 8: 0.015}[bits] * np.linalg.norm(weight(graph).data)


def test_int8_layers_keep_the_buckets(tmp_path):
    graph = hashed(cnn(), min_size=32)
    out = PTQ(samples=32).run(graph, context(graph))
    assert sum("hashed" in v.meta for v in out.constants() if v.data.dtype == np.int8) == 4
    lower(out, tmp_path / "m.mcc", bind={"N": 1})
    assert sum(v.meta["storage"] == "hashed" and v.dtype == "int8" for v in load(tmp_path / "m.mcc").constants()) == 4


def test_flattened_and_transposed_weights(tmp_path):
    """The columns behind a flatten change their order, a matmul's weight is turned: still hashed in the file."""
    x, a, f, h, y = (Value(n, "float32", s) for n, s in [
        ("x", (1, 3, 6, 6)), ("a", None), ("f", None), ("h", None), ("y", (1, 16))])
    w, v, u = (constant(n, R.standard_normal(s).astype(np.float32)) for n, s in
               [("a.weight", (8, 3, 3, 3)), ("f.weight", (24, 8 * 16)), ("m.weight", (24, 16))])
    graph = Graph([x], [y], [Node("conv", [x, w, None], [a], name="a"), Node("flatten", [a], [f], {"axis": 1}),
                             Node("linear", [f, v, None], [h], name="f"), Node("matmul", [h, u], [y], name="m")])
    out = hashed(graph)
    assert sum("hashed" in c.meta for c in out.constants()) == 3
    lower(out, tmp_path / "m.mcc")
    assert sum(c.meta["storage"] == "hashed" for c in load(tmp_path / "m.mcc").constants()) == 3


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int8"])
def test_stored_and_read(dtype):
    how = hashing.fresh((13, 11), 2, 40)
    data = hashing.fill(R.integers(-128, 128, 40).astype("float32" if dtype == "bfloat16" else dtype), how, (13, 11))
    blob = storage.store(data, dtype, {"hashed": how})
    assert blob.storage == storage.HASHED and len(blob.bytes) <= 20 + 40 * storage.TYPE_BYTES[dtype]
    values, meta = storage.load(blob, dtype, (13, 11))
    assert np.array_equal(values, data) and meta["hashed"]["seed"] == 2
    torn = data.copy()
    torn[3, 4] += 1
    assert storage.store(torn, dtype, {"hashed": how}).storage != storage.HASHED
