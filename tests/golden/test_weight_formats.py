"""Sparse, codebook and hashed weights: the file keeps them small, the engine multiplies them as they are, torch agrees."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from mcc.kernels import Session
from mcc.kernels import isa as machine_isa
from mcc.passes import find, hashing, load
from mcc.passes.base import Context
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower import lower
from mcc.passes.lower.emit import to_bytes
from mcc.passes.ops.run import run

ISAS = (None, "avx2", "c")


def layer(kind: str, weight: np.ndarray, rows: int, seed: int, meta=None) -> Graph:
    """One layer with bias, relu and (for linear) a residual, on `rows` rows or images of 7 x 9."""
    rng = np.random.default_rng(seed)
    w = constant("layer.weight", weight.astype(np.float32), **(meta or {}))
    b = constant("layer.bias", rng.standard_normal(weight.shape[0]).astype(np.float32))
    y, z = Value("t"), Value("y")
    if kind == "linear":
        x = Value("x", "float32", (rows, weight.shape[1]))
        nodes = [Node("linear", [x, w, b], [y])]
    else:
        x = Value("x", "float32", (rows, weight.shape[1], 7, 9))
        nodes = [Node("conv", [x, w, b], [y], {"pads": [weight.shape[2] // 2] * 4})]
    return Graph([x], [z], [*nodes, Node("relu", [y], [z])])


def check(graph: Graph, path, kernel: str) -> int:
    lowered = lower(graph, path)
    x = np.random.default_rng(1).standard_normal(graph.inputs[0].shape).astype(np.float32)
    want = run(graph, {"x": torch.from_numpy(x)})["y"].numpy()
    assert np.abs(run(lowered, {"x": torch.from_numpy(x)})["y"].numpy() - want).max() <= 1e-4
    for isa in ISAS:
        answers = []
        for threads in (1, 2):
            session = Session(str(path), threads=threads, isa=isa)
            answers.append(session.run({"x": x})["y"])
            assert any(kernel in (row["kernel"] or "") for row in session.profile()), session.profile()
        np.testing.assert_allclose(answers[0], want, atol=2e-5 * np.abs(want).max(), rtol=1e-5)
        assert answers[0].tobytes() == answers[1].tobytes()
    return path.stat().st_size


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind, shape, rows", [("linear", (64, 37), 1), ("linear", (50, 100), 1), ("linear", (64, 33), 5),
                                               ("linear", (70, 601), 20), ("linear", (40, 64), 100),
                                               ("conv", (64, 5, 3, 3), 1), ("conv", (64, 12, 1, 1), 2)])
def test_codebook(kind, shape, rows, bits, groups, tmp_path):
    if shape[0] % groups or shape[0] // groups % 32:
        groups = 1
    rng = np.random.default_rng(bits)
    books = rng.standard_normal((groups, 2**bits))
    codes = rng.integers(0, 2**bits, (groups, shape[0] // groups, int(np.prod(shape[1:]))))
    weight = np.stack([b[c] for b, c in zip(books, codes)]).reshape(shape)
    graph = layer(kind, weight, rows, bits, {"codebook": {"bits": bits, "groups": groups}})
    size = check(graph, tmp_path / "m.mcc", "lut")
    indices = weight.size * bits / 8
    assert size < indices + 4 * groups * 2**bits + 4 * shape[0] + 700


HASHED = [("linear", (64, 37), 1), ("linear", (50, 100), 1), ("linear", (3, 90), 2), ("linear", (64, 33), 5),
          ("linear", (70, 601), 20), ("linear", (40, 64), 100),
          ("conv", (64, 5, 3, 3), 1), ("conv", (64, 12, 1, 1), 2), ("conv", (20, 130, 3, 3), 1)]


@pytest.mark.parametrize("ratio", [2, 8])
@pytest.mark.parametrize("kind, shape, rows", HASHED)
def test_hashed(kind, shape, rows, ratio, tmp_path):
    """The file and the engine hold buckets."""
    graph = layer(kind, np.random.default_rng(ratio).standard_normal(shape), rows, 3)
    graph = find("structure.hashed")(ratio=ratio).run(graph, Context(graph))
    buckets = 4 * (np.prod(shape) / ratio + 4)
    assert check(graph, tmp_path / "m.mcc", "hashed") < buckets + 4 * shape[0] + 700
    held = Session(tmp_path / "m.mcc").facts["weight_bytes"]
    assert held < buckets + 4 * np.prod(shape[1:]) + 12 * (sum(shape[:2]) + 32) + 1200, "no expanded copy"


@pytest.mark.parametrize("kind, shape, rows", [HASHED[1], HASHED[4], HASHED[6]])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_hashed_buckets_of_half_precision(kind, shape, rows, precision, tmp_path):
    graph = layer(kind, np.random.default_rng(5).standard_normal(shape), rows, 3)
    graph = find("structure.hashed")().run(graph, Context(graph))
    lowered = lower(graph, tmp_path / "m.mcc", precision=precision)
    assert (tmp_path / "m.mcc").stat().st_size < np.prod(shape) / 4 + 4 * shape[0] + 700
    x = np.random.default_rng(1).standard_normal(graph.inputs[0].shape).astype(np.float32)
    want = run(lowered, {"x": torch.from_numpy(x)})["y"].numpy()
    session = Session(tmp_path / "m.mcc")
    assert any("hashed" in (row["kernel"] or "") for row in session.profile())
    room = 2e-2 if precision == "bf16" else 2e-5
    np.testing.assert_allclose(session.run({"x": x})["y"], want, atol=room * np.abs(want).max())


@pytest.mark.parametrize("kind, shape, rows", [HASHED[1], HASHED[4], HASHED[8]])
def test_hashed_outputs_may_be_taken_away(kind, shape, rows, tmp_path):
    """They no longer go by fours."""
    graph = layer(kind, np.random.default_rng(5).standard_normal(shape), rows, 3)
    graph = find("structure.hashed")().run(graph, Context(graph))
    w, b = graph.nodes[0].inputs[1:]
    keep = np.random.default_rng(0).permutation(shape[0])[: shape[0] * 2 // 3]
    graph.nodes[0].inputs[1:] = [constant("w", w.data[keep], **hashing.taken(w.meta, 0, keep)), constant("b", b.data[keep])]
    check(graph, tmp_path / "m.mcc", "hashed")


@pytest.mark.parametrize("group, masked", [(1, True), (8, False)])
def test_hashed_weights_without_a_kernel(group, masked, tmp_path):
    """Depthwise ones and those with zeros are expanded when the file is opened."""
    rng = np.random.default_rng(5)
    shape = (8, 8 // group, 3, 3)
    how = hashing.fresh(shape, 3, np.prod(shape) / 4)
    weight = hashing.fill(rng.standard_normal(how["buckets"]), how, shape) * (rng.random(shape) < 0.7 if masked else 1)
    graph = layer("conv", weight, 1, 3, {"hashed": how, **({"sparse": True} if masked else {})})
    graph.inputs[0].shape = (1, 8, 7, 9)
    graph.nodes[0].attrs["group"] = group
    lower(graph, tmp_path / "m.mcc")
    assert "hashed" in [v.meta["storage"] for v in load(tmp_path / "m.mcc").constants()]
    x = rng.standard_normal((1, 8, 7, 9)).astype(np.float32)
    want = run(graph, {"x": torch.from_numpy(x)})["y"].numpy()
    np.testing.assert_allclose(Session(tmp_path / "m.mcc").run({"x": x})["y"], want, atol=1e-4)


@pytest.mark.parametrize("kind, shape, rows", [("linear", (64, 300), 1), ("linear", (40, 64), 33), ("conv", (48, 32, 1, 1), 1)])
def test_sparse(kind, shape, rows, tmp_path):
    rng = np.random.default_rng(3)
    weight = rng.standard_normal(shape) * (rng.random(shape) < 0.08)
    size = check(layer(kind, weight, rows, 3, {"sparse": True}), tmp_path / "m.mcc", "sparse")
    assert size < np.count_nonzero(weight) * 4 + weight.size / 8 + 4 * shape[0] + 700


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("kind, shape, rows", [("linear", (64, 300), 17), ("linear", (40, 67), 133), ("conv", (48, 64, 1, 1), 2)])
def test_int8_blocks_of_zeros(kind, shape, rows, static, tmp_path):
    """The bytes of torch and of dense kernels, and fewer multiply-adds."""
    rng = np.random.default_rng(7)
    blocks = rng.random((shape[0], -(-shape[1] // 4))) < 0.2
    weight = rng.standard_normal(shape) * np.repeat(blocks, 4, 1)[:, :shape[1]].reshape(shape)
    graph = layer(kind, weight, rows, 3)
    x = np.random.default_rng(1).standard_normal(graph.inputs[0].shape).astype(np.float32)
    lowered = lower(graph, tmp_path / "m.mcc", precision="int8", calibration=[{"x": x}] if static else None)
    want = run(lowered, {"x": torch.from_numpy(x)})["y"].numpy()
    best = "avx512vnni" if "avx512amx" in machine_isa().split() else None  # tiles are faster than skipping four of five blocks
    for limit in (best, *ISAS[1:]):
        for threads in (1, 2, 5):
            session = Session(str(tmp_path / "m.mcc"), threads=threads, isa=limit)
            found = [row for row in session.profile() if "qsparse" in (row["kernel"] or "")]
            assert len(found) == 1 and found[0]["macs"] == 4 * blocks.sum() * want.size // shape[0], session.profile()
            assert session.run({"x": x})["y"].tobytes() == want.tobytes(), f"isa {limit}, {threads} threads"


@pytest.mark.parametrize("shape, group", [((24, 1, 3, 3), 24), ((16, 4, 3, 3), 2)])
def test_decoded_weights_go_when_they_are_packed(shape, group, tmp_path):
    """Palettes of grouped convolutions: as much memory as for a weight that is stored raw."""
    rng = np.random.default_rng(5)
    books = rng.standard_normal(16)[rng.integers(0, 16, shape)], rng.standard_normal(shape)
    sizes, held = [], []
    for weight in books:
        graph = layer("conv", weight, 1, 5, {"codebook": {"bits": 4, "groups": 1}} if weight is books[0] else None)
        graph.inputs[0].shape = (1, shape[1] * group, 7, 9)
        graph.nodes[0].attrs["group"] = group
        lower(graph, tmp_path / "m.mcc")
        sizes.append((tmp_path / "m.mcc").stat().st_size)
        held.append(Session(tmp_path / "m.mcc").facts["weight_bytes"])
    assert sizes[0] < sizes[1] and held[0] == held[1]


def test_decoded_int8_weights_go_when_they_are_packed():
    rng = np.random.default_rng(5)
    weight = rng.integers(-3, 4, (48, 200)).astype(np.int8)
    x, y = Value("x", "float32", (3, 200)), Value("y", "float32", (3, 48))
    x.meta["offset"], y.meta["offset"] = 0, 4096
    node = Node("dqlinear", [x, constant("w", weight), constant("s", np.full(48, 0.1, np.float32))], [y])
    files = [to_bytes(Graph([x], [y], [node], meta={"arena": 8192}), entropy=e) for e in (True, False)]
    coded, raw = map(Session, files)
    assert len(files[0]) < len(files[1]) and coded.facts["weight_bytes"] == raw.facts["weight_bytes"]
    given = {"x": rng.standard_normal((3, 200)).astype(np.float32)}
    first = coded.run(given)["y"]
    assert first.any() and first.tobytes() == raw.run(given)["y"].tobytes() == coded.clone().run(given)["y"].tobytes()


@pytest.mark.parametrize("bits, per, symmetric", [
    (4, "group", True), (4, "group", False), (8, "channel", True), (8, "group", False), (4, "tensor", True), (2, "group", False),
    (3, "group", False), (5, "channel", True)])
@pytest.mark.parametrize("kind, shape, rows", [
    ("linear", (48, 100), 1), ("linear", (40, 64), 3), ("linear", (40, 72), 9), ("linear", (96, 608), 20),
    ("linear", (64, 520), 2), ("conv", (32, 64, 1, 1), 2), ("conv", (24, 32, 3, 3), 1), ("conv", (24, 5, 3, 3), 1)])
def test_weight_only(kind, shape, rows, bits, per, symmetric, tmp_path):
    """Integer weights under float activations: packed in the file and in memory, restored in the kernels."""
    graph = layer(kind, np.random.default_rng(bits).standard_normal(shape), rows, bits)
    graph = find("quantize.weight_only")(bits=bits, per=per, symmetric=symmetric).run(graph, Context(graph))
    size = check(graph, tmp_path / "m.mcc", "lut")
    count = int(np.prod(shape))
    assert size < count * bits / 8 + 3 * -(-count // 32 + shape[0]) + 4 * shape[0] + 800
    held = Session(tmp_path / "m.mcc").facts["weight_bytes"]
    kept = {2: 2, 3: 3.2, 4: 4}.get(bits, 8)
    assert held < 1.35 * (count * kept / 8 + count / 4 * (2 - symmetric) * (per == "group") / 2) + 6000, "a float copy is kept"


def test_depthwise_weights_may_be_integers(tmp_path):
    """No kernel multiplies them from codes: they are made float when the file is opened."""
    rng = np.random.default_rng(0)
    x, y, w = Value("x", "float32", (1, 8, 9, 9)), Value("y"), constant("w", rng.standard_normal((8, 1, 3, 3)).astype(np.float32))
    graph = Graph([x], [y], [Node("conv", [x, w, None], [y], {"group": 8})])
    lower(graph, tmp_path / "m.mcc", precision="w4")
    given = rng.standard_normal(x.shape).astype(np.float32)
    want = run(find("quantize.weight_only")().run(graph, Context(graph)), {"x": torch.from_numpy(given)})["y"].numpy()
    np.testing.assert_allclose(Session(tmp_path / "m.mcc").run({"x": given})["y"], want, atol=1e-5)


@pytest.mark.parametrize("kind, shape", [("linear", (64, 96)), ("conv", (32, 16, 3, 3))])
def test_int4_weights_of_integer_layers(kind, shape, tmp_path):
    """Static W4A8: half the bytes of int8 in the file, int8 kernels, the same bytes as torch."""
    rng = np.random.default_rng(2)
    sizes = []
    for bits in (8, 4):
        top = (1 << (bits - 1)) - 1
        codes = rng.integers(-top - 1, top + 1, shape).astype(np.int8)
        x = Value("x", "float32", (3, shape[1]) if kind == "linear" else (1, shape[1], 8, 8))
        y, q, dq, w, t = (Value(n) for n in ("y", "q", "dq", "w", "t"))
        s, z = constant("s", np.float32(0.05)), constant("z", np.int8(3))
        o, p = constant("o", np.float32(2.0)), constant("p", np.int8(-2))
        scales = constant("ws", np.full(shape[0], 0.1, np.float32))
        out = Value("out")
        graph = Graph([x], [out], [
            Node("quantize_linear", [x, s, z], [q]), Node("dequantize_linear", [q, s, z], [dq]),
            Node("dequantize_linear", [constant("codes", codes), scales], [w], {"axis": 0}),
            Node(kind, [dq, w, None], [y], {"pads": [1, 1, 1, 1]} if kind == "conv" else {}),
            Node("quantize_linear", [y, o, p], [t]), Node("dequantize_linear", [t, o, p], [out])])
        lowered = lower(graph, tmp_path / "m.mcc")
        assert {"qlinear", "nhwc_qconv"} & {n.op for n in lowered.nodes}
        given = rng.standard_normal(x.shape).astype(np.float32) * 3
        want = run(lowered, {"x": torch.from_numpy(given)})["out"].numpy()
        for isa in ISAS:
            assert Session(tmp_path / "m.mcc", isa=isa).run({"x": given})["out"].tobytes() == want.tobytes()
        sizes.append((tmp_path / "m.mcc").stat().st_size)
    assert sizes[0] - sizes[1] > int(np.prod(shape)) * 0.48
