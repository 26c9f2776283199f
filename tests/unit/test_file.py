"""The .mcc file: written by emit, read by the engine and by the second reader; damage; what emit refuses."""
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcc.kernels import EngineError, Session
from mcc.passes import hashing
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower import storage
from mcc.passes.lower.emit import emit, to_bytes
from mcc.passes.lower.read import read
from mcc.passes.lower.types import TYPE_BYTES, TYPE_NUMBERS

DTYPES = sorted(set(TYPE_NUMBERS) - {"bfloat16"})


def net(constants=(), attrs=None, shape=(3,), dtype="float32"):
    """y = x; the constants are outputs too, so that the engine shows what it decoded."""
    size = int(np.prod(shape)) * TYPE_BYTES[dtype]
    place = size + -size % 64
    x, y = Value("x", dtype, shape, meta={"offset": 0}), Value("y", dtype, shape, meta={"offset": place})
    return Graph([x], [y, *constants], [Node("identity", [x], [y], attrs or {}, "copy")], meta={"arena": 2 * place})


def feed(graph):
    return {v.name: np.zeros(v.shape, v.dtype) for v in graph.inputs}


def same(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def check_both_readers(values, **options):
    """Both readers see the values of all constants; returns how each was stored."""
    data = to_bytes(net(values), **options)
    graph, got = read(data), Session(data).run({"x": np.zeros(3, "f4")})
    for v, seen in zip(values, graph.outputs[1:]):
        assert same(got[v.name], v.data), (v.name, seen.meta)
        assert same(seen.data, v.data) and seen.name == v.name and seen.dtype == v.dtype, (v.name, seen.meta)
    return [v.meta["storage"] for v in graph.outputs[1:]]


def values_of(dtype, shape, rng, kind):
    count = int(np.prod(shape))
    bits = {"random": rng.integers(0, 256, count * 8, np.uint8), "few": rng.integers(0, 3, count * 8, np.uint8),
            "zeros": rng.integers(0, 256, count * 8, np.uint8) * (rng.random(count * 8) < 0.05)}[kind].astype(np.uint8)
    if dtype == "bool":
        return (bits[:count] & 1).astype(bool).reshape(shape)
    if kind == "few":
        return rng.choice(np.array([0, 1, 2, 5], dtype), count).reshape(shape)
    if kind == "zeros":
        return np.where(rng.random(count) < 0.9, 0, bits[:count]).astype(dtype).reshape(shape)
    return bits[:count * TYPE_BYTES[dtype]].view(dtype).reshape(shape)


@pytest.mark.parametrize("kind", ["random", "few", "zeros"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_types_and_ranks(dtype, kind):
    rng = np.random.default_rng(7)
    shapes = [(), (1,), (0,), (5, 0, 2), (600,), (13, 47), (3, 1, 211), (2, 3, 2, 5, 1, 2, 1, 3), (900, 3)]
    for entropy in (True, False):
        check_both_readers([constant(f"c{i}", values_of(dtype, s, rng, kind)) for i, s in enumerate(shapes)], entropy=entropy)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_codebooks(bits, groups, dtype):
    rng = np.random.default_rng(bits)
    entries = groups << bits
    table = rng.integers(-128, 128, entries) if dtype == "int8" else rng.standard_normal(entries)
    table = table.astype(dtype).reshape(groups, -1)
    for skew in (1.0, 0.2):
        size = groups, 17 * 29
        index = np.minimum(rng.geometric(skew, size) - 1 if skew < 1 else rng.integers(0, 1 << bits, size), (1 << bits) - 1)
        data = np.take_along_axis(table, index, 1).reshape(groups * 17, 29)
        value = constant("w", data, codebook={"bits": bits, "groups": groups})
        for entropy in (True, False):
            assert check_both_readers([value], entropy=entropy) == ["palette"]


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("block", [0, 1, 8, 32, 100])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_quantized(bits, block, dtype):
    rng = np.random.default_rng(bits)
    shape, top = (17, 3, 45), 1 << bits

    def wide(a):
        return np.repeat(a, block, -1)[..., :45] if block else np.reshape(a, np.shape(a) + (1, 1) * np.ndim(a))

    for scales in [shape[:-1] + (-(-45 // block),)] if block else [(), shape[:1]]:
        scale = (abs(rng.standard_normal(scales)) + 0.1).astype(dtype).astype(np.float32)
        codes = rng.integers(0, top, shape)
        for zero in (None, rng.integers(0, top, scales)):
            data = (codes - wide(np.full(scales, top // 2) if zero is None else zero)).astype(np.float32) * wide(scale)
            how = {"bits": bits, "block": block, "scale": scale, "zero": zero}
            for entropy in (True, False):
                assert check_both_readers([constant("w", data, quantized=how)], entropy=entropy) == ["quantized"]
            each = (2 if dtype == "float16" else 4) + (zero is not None)
            size = len(storage.store(data, "float32", {"quantized": how}, False).bytes)
            assert size <= 8 + scale.size * each + -(-data.size * bits // 8)
    assert storage.store(data * np.float32(1.0001), "float32", {"quantized": how}).storage != storage.QUANTIZED


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8"])
@pytest.mark.parametrize("shape", [(17, 29), (6, 5, 3, 3), (40,), (3, 2, 1, 7)])
def test_hashed(shape, dtype):
    """Whole, with channels taken away, transposed, with zeros, with few values of buckets."""
    rng = np.random.default_rng(0)
    for few in (False, True):
        meta = {"hashed": hashing.fresh(shape, 7, int(np.prod(shape)) / 3, len(shape) - 1 if shape[0] == 3 else 0)}
        buckets = rng.choice([-3, 1, 2], meta["hashed"]["buckets"]) if few else rng.normal(0, 40, meta["hashed"]["buckets"])
        data = hashing.fill(buckets.astype(dtype), meta["hashed"], shape)
        rows = rng.permutation(shape[0])[:-1]
        turned, taken = (*range(1, len(shape)), 0), hashing.taken(meta, 0, rows)
        values = [constant("a", data, **meta), constant("b", data[rows], **taken),
                  constant("c", data[rows].transpose(turned), **hashing.transposed(taken, turned))]
        masked = np.where(rng.random(shape) < 0.5, 0, data).astype(dtype)
        values.append(constant("d", masked + np.zeros((), dtype), **meta, sparse=True))
        for entropy in (True, False):
            how = check_both_readers(values, entropy=entropy)
            assert how == ["hashed"] * 4 or data.nbytes < 1000, how


@pytest.mark.parametrize("density", [0.0, 0.03, 0.3, 0.8])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "float64"])
def test_sparse(density, dtype):
    rng = np.random.default_rng(0)
    data = ((rng.standard_normal((123, 57)) * 1000) * (rng.random((123, 57)) < density)).astype(dtype)
    value = constant("w", data + 0, sparse=True)
    for entropy in (True, False):
        how = check_both_readers([value], entropy=entropy)
        assert how != ["raw"]
        _, size = storage.store(value.data, dtype, value.meta, entropy)
        assert len(size) <= data.nbytes * density + data.size / 8 + 300


def test_bfloat16():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((40, 30)).astype("f4")
    value = Value("w", "bfloat16", data.shape, data)
    file = to_bytes(net([value]))
    seen, got = read(file).outputs[1], Session(file).run({"x": np.zeros(3, "f4")})["w"]
    assert seen.dtype == "bfloat16" and same(seen.data, got)
    assert not same(got, data) and np.abs(got - data).max() <= np.abs(data).max() / 256
    import torch
    assert same(got, torch.from_numpy(data).bfloat16().float().numpy())


def test_storage_is_the_smallest():
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((100, 100)).astype("f4")
    assert storage.store(dense, "float32").storage == storage.RAW
    assert storage.store(dense[:3, :3], "float32").storage == storage.RAW  # small
    assert storage.store(dense * (dense > 1), "float32").storage == storage.BITMASK
    assert storage.store(np.round(dense), "float32").storage == storage.PALETTE
    int8 = np.clip(np.round(dense * 20), -128, 127).astype("i1")
    blob = storage.store(int8, "int8")
    assert blob.storage == storage.CODED and len(blob.bytes) < 0.85 * int8.size
    assert storage.store(int8, "int8", entropy=False).storage in (storage.RAW, storage.PALETTE)
    book = storage.store(np.sign(dense[:2, :2]), "float32", {"codebook": {"bits": 1, "groups": 1}})
    assert book.storage == storage.PALETTE  # however small: its kernel multiplies from the indices


def test_negative_zero_of_pruned_weights_is_zero():
    data = np.where(np.arange(4000).reshape(40, 100) % 9, -0.0, 1.5).astype("f4")
    size = len(storage.store(data, "float32", {"sparse": True}).bytes)
    assert size < 900


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_constants_and_attributes(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = []
    for i in range(data.draw(st.integers(0, 4))):
        shape = tuple(data.draw(st.lists(st.integers(0, 9), max_size=4)))
        kind, dtype = data.draw(st.sampled_from(["random", "few", "zeros"])), data.draw(st.sampled_from(DTYPES))
        values.append(constant(f"c{i}", values_of(dtype, shape, rng, kind)))
    number = st.integers(-2**63, 2**63 - 1)
    real = st.floats(width=32, allow_nan=False)
    text = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=9)
    kinds = st.one_of(number, real, text, st.lists(number), st.lists(real, min_size=1))
    attrs = data.draw(st.dictionaries(text, kinds, max_size=5))
    note = data.draw(st.none() | st.dictionaries(text, number))
    file = to_bytes(net(values, attrs), note)
    graph, session = read(file), Session(file)
    assert graph.nodes[0].attrs == attrs and graph.nodes[0].name == "copy" and graph.nodes[0].op == "identity"
    assert graph.meta.get("note") == note and session.facts["note"] == (note or {})
    assert to_bytes(graph, note) == file  # reading and writing again changes nothing
    got = session.run({"x": np.arange(3, dtype="f4")})
    assert same(got["y"], np.arange(3, dtype="f4"))
    for v, seen in zip(values, graph.outputs[1:]):
        assert same(got[v.name], v.data) and same(seen.data, v.data)


def test_emit_writes_whole_files_and_the_same_bytes(tmp_path):
    graph = net([constant("w", np.random.default_rng(0).standard_normal((50, 50)).astype("f4"))])
    path = tmp_path / "new" / "m.mcc"
    size = emit(graph, path, {"made": "by a test"})
    assert path.stat().st_size == size and path.read_bytes() == to_bytes(graph, {"made": "by a test"})
    assert [p.name for p in path.parent.iterdir()] == ["m.mcc"]
    assert Session(path).facts["note"] == {"made": "by a test"} and read(path).name == "m"


def test_equal_constants_are_stored_once():
    data = np.random.default_rng(0).standard_normal(5000).astype("f4")
    one, two = (len(to_bytes(net([constant(f"c{i}", data) for i in range(n)]))) for n in (1, 2))
    assert two - one < 100


def test_raw_constants_stand_at_multiples_of_64():
    rng = np.random.default_rng(0)
    data = to_bytes(net([constant(f"c{i}", rng.standard_normal(n).astype("f4")) for i, n in enumerate((5, 100, 3, 77, 16))]))
    for v in read(data).outputs[1:]:
        at = data.index(v.data.tobytes())
        assert at % (64 if v.data.nbytes >= 64 else 4) == 0


@pytest.mark.parametrize("change, text", [
    (lambda g: g.outputs[0].meta.pop("offset"), "no place in the arena"),
    (lambda g: setattr(g.inputs[0], "shape", ("N", 3)), "bind its symbolic dimensions"),
    (lambda g: setattr(g.inputs[0], "shape", (1,) * 9), "rank 9"),
    (lambda g: setattr(g.inputs[0], "dtype", "complex64"), "no type complex64"),
    (lambda g: g.nodes[0].attrs.update(a=object()), "no form for attribute a="),
    (lambda g: g.nodes[0].attrs.update(a=2**63), "does not fit 64 bits"),
    (lambda g: setattr(g.nodes[0], "name", "a\0b"), "NUL"),
])
def test_emit_refuses(change, text):
    graph = net()
    change(graph)
    with pytest.raises(ValueError, match=text):
        to_bytes(graph)


# --- damage ------------------------------------------------------------------------------------------------------

HOW = hashing.fresh((20, 20), 5, 40)


def rich():
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((20, 20)).astype("f4")
    values = [constant("w", dense), constant("s", dense * (dense > 1), sparse=True), constant("v", np.float64(3)),
              constant("c", np.round(dense), codebook={"bits": 3, "groups": 1}),
              constant("q", np.clip(dense * 20, -99, 99).astype("i1")),
              constant("h", hashing.fill(dense.ravel()[:40], HOW, (20, 20)) * (dense < 1), hashed=HOW, sparse=True)]
    return to_bytes(net(values, {"i": 3, "f": 0.5, "s": "text", "l": [1, 2]}), {"a": 1})


def repaired(data):
    """The checksums and the size made right again."""
    data = bytearray(data)
    struct.pack_into("<Q", data, 8, len(data))
    count, = struct.unpack_from("<I", data, 16)
    for i in range(count):
        _, _, at, size = struct.unpack_from("<IIQQ", data, 24 + 24 * i)
        struct.pack_into("<I", data, 28 + 24 * i, zlib.crc32(data[at:at + size]))
    struct.pack_into("<I", data, 20, 0)
    struct.pack_into("<I", data, 20, zlib.crc32(data[:24 + 24 * count]))
    return bytes(data)


def opens(data):
    """What the engine and the second reader say: None, or one line. They agree on whether the file is whole."""
    try:
        read(data)
        second = None
    except UserError as error:
        second = str(error)
    try:
        Session(data)
        first = None
    except (EngineError, MemoryError) as error:
        first = str(error)
    return first, second


def test_every_truncation_is_refused():
    data = rich()
    for n in range(0, len(data), 7):
        first, second = opens(data[:n])
        assert first and second and "\n" not in first + second


def test_every_flipped_bit_is_refused():
    data = bytearray(rich())
    rng = np.random.default_rng(0)
    for bit in rng.permutation(len(data) * 8)[:1500]:
        data[bit // 8] ^= 1 << bit % 8
        first, second = opens(bytes(data))
        assert first and second, f"bit {bit}"
        data[bit // 8] ^= 1 << bit % 8
    assert opens(bytes(data)) == (None, None)


def test_readers_agree_about_damaged_hashed_weights():
    """Every byte of the blob changed, checksums right."""
    for how in (HOW, hashing.taken({"hashed": HOW}, 1, np.arange(20)[::-1])["hashed"]):
        rng = np.random.default_rng(0)
        weight = hashing.fill(rng.standard_normal(40).astype("f4"), how, (20, 20)) * (rng.random((20, 20)) < 0.7)
        value = constant("h", weight + np.float32(0), hashed=how, sparse=True)
        data, blob = to_bytes(net([value]), entropy=False), storage.store(value.data, "float32", value.meta, entropy=False).bytes
        start, whole = data.index(blob), 0
        assert to_bytes(read(data), entropy=False) == data
        for i in range(len(blob)):
            for new in (0, 1, 5, 255, blob[i] ^ 4):
                damaged = bytearray(data)
                damaged[start + i] = new
                first, second = opens(repaired(damaged))
                assert (first is None) == (second is None), (i, blob[i], new, first, second)
                whole += first is None
                if first is None:
                    seen = read(repaired(damaged)).outputs[1].data
                    got = Session(repaired(damaged)).run({"x": np.zeros(3, "f4")})["h"]
                    assert np.array_equal(seen, got, equal_nan=True), (i, new)
        assert whole > 200


def test_messages():
    data = rich()
    version = data[:4] + struct.pack("<I", 2) + data[8:]
    for damaged, words in [(b"", "not a .mcc file"), (b"ONNX" + data[4:], "not a .mcc file"), (version, "version 2"),
                           (data[:-1], "bytes"), (data[:100] + b"\xff" + data[101:], "checksum")]:
        first, second = opens(damaged)
        assert words in first and words in second


def test_names_are_utf8():
    data = to_bytes(net(attrs={"name": "héé", "k": "\U0001f600"}))
    assert opens(data) == (None, None)
    for bad in (b"h\xc3\xc3\xa9\xc3",
                b"h\xc0\x80\xc3\xa9", b"\xed\xa0\x80\xc3\xa9", b"\xf4\x90\x80\x80h",
                b"h\xa9\xa9\xc3\xa9", b"hhh\0h"):
        first, second = opens(repaired(data.replace("héé".encode(), bad)))
        assert first and second, bad


def test_readers_agree_behind_the_checksums():
    """One byte of the graph section changed, checksums right: the readers agree whether the file is whole, unless it is the
    engine's op that refuses."""
    data = rich()
    at, size = struct.unpack_from("<QQ", data, 32)
    rng = np.random.default_rng(1)
    whole = 0
    for _ in range(3000):
        damaged = bytearray(data)
        place = at + rng.integers(size)
        damaged[place] = rng.integers(256) if rng.integers(2) else damaged[place] ^ 1 << rng.integers(8)
        first, second = opens(repaired(damaged))
        op = first and any(s in first for s in ("does not allow", "does not have", "out of memory"))
        decoding = second and ": constant '" in second  # the engine decodes what it uses
        assert bool(first) == bool(second) or op or decoding, (first, second, int(place - at))
        whole += not first
    assert whole > 50
