"""Prepacked files: the same numbers, used where they were made and nowhere else, and readable by whoever ignores them."""
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mcc.cli import lower as lower_command
from mcc.kernels import EngineError, Session, isa
from mcc.passes.graph import constant
from mcc.passes.lower import lower
from mcc.passes.lower.match import Sketch
from mcc.passes.lower.read import read

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
from int8_nets import random_dynamic_graph, random_int8_graph  # noqa: E402

PACKED = 4


def float_graph():
    """Every packing function for float32, and formats that are packed at open in any case."""
    s, rng = Sketch(), np.random.default_rng(0)
    x = s.input("x", 1, 3, 20, 18)
    y = s("relu", s("conv", x, s.weight("a", 16, 3, 3, 3), s.weight("a.bias", 16), pads=[1] * 4))            # an image
    y = s("relu", s("conv", y, s.weight("b", 16, 1, 3, 3), None, pads=[1] * 4, group=16))                     # depthwise
    y = s("conv", y, s.weight("w", 32, 16, 3, 3), s.weight("w.bias", 32), pads=[1] * 4)                       # Winograd
    y = s("conv", y, s.weight("g", 24, 16, 3, 3), None, group=2, strides=[2, 2])                              # windows
    y = s("conv", y, s.weight("p", 24, 24, 1, 1), None)                                                       # 1x1
    y = s("conv_transpose", y, s.weight("t", 24, 8, 2, 2), s.weight("t.bias", 8), strides=[2, 2])
    y = s("reshape", y, [1, 36, 64])
    y = s("matmul", y, s.weight("m", 64, 48))
    y = s("linear", y, constant("s", np.where(rng.random((40, 48)) < 0.9, 0, 1).astype(np.float32)), None)    # sparse
    books = rng.standard_normal(16)[rng.integers(0, 16, (24, 40))].astype(np.float32)
    return s.graph(s("linear", y, constant("d", books, codebook={"bits": 4, "groups": 1}), None))


GRAPHS = {"float": float_graph, **{f"int8-{i}": lambda i=i: random_int8_graph(i) for i in range(6)}}


DYNAMIC = {"dynamic": lambda: random_dynamic_graph(4)}  # beside what packing.json has on record


@pytest.fixture(scope="module", params=GRAPHS | DYNAMIC)
def files(request, tmp_path_factory):
    """(plain, prepacked)"""
    folder = tmp_path_factory.mktemp("prepack")
    plain, packed = folder / "plain.mcc", folder / "packed.mcc"
    lower((GRAPHS | DYNAMIC)[request.param](), plain)
    Session(plain).prepack(packed)
    return plain, packed


def outputs(session):
    rng = np.random.default_rng(1)
    given = {p.name: rng.standard_normal(p.shape).astype(p.dtype) for p in session.inputs}
    return {k: a.tobytes() for k, a in session.run(given).items()}


def sections(data: bytes) -> dict[int, tuple[int, int, int]]:
    """By kind: the entry's place, the section's offset and size."""
    found = {}
    for i in range(struct.unpack_from("<I", data, 16)[0]):
        kind, _, at, size = struct.unpack_from("<IIQQ", data, 24 + 24 * i)
        found[kind] = 24 + 24 * i, at, size
    return found


def changed(data: bytes, place: int, value: bytes) -> bytes:
    """With other bytes at `place` of the packed section, and checksums made right."""
    b = bytearray(data)
    entry, at, size = sections(data)[PACKED]
    b[at + place:at + place + len(value)] = value
    struct.pack_into("<I", b, entry + 4, zlib.crc32(b[at:at + size]))
    struct.pack_into("<I", b, 20, 0)
    struct.pack_into("<I", b, 20, zlib.crc32(b[:24 + 24 * len(sections(data))]))
    return bytes(b)


def test_same_numbers_without_packing(files):
    plain, packed = map(Session, files)
    assert outputs(plain) == outputs(packed) == outputs(packed.clone(threads=2))
    assert plain.facts["packed"] == "none" and packed.facts["packed"] == "used"
    assert packed.facts["packed_bytes"] > 0 and packed.facts["weight_bytes"] < plain.facts["weight_bytes"]
    assert [r["kernel"] for r in plain.profile(runs=1)] == [r["kernel"] for r in packed.profile(runs=1)]


def test_another_machine_opens_it_as_without(files):
    for words in {"c", isa().split()[-1]} - {isa()}:
        plain, packed = (Session(f, isa=words) for f in files)
        assert packed.facts["packed"] == "unused" and packed.facts["packed_bytes"] == 0
        assert outputs(plain) == outputs(packed)


def test_made_under_a_limit_it_is_for_that_limit(files, tmp_path):
    """The key is that of the ISA the net was opened for, not of the one that the process has when it writes."""
    want, keys = outputs(Session(files[0])), set()
    for words in ("c", "avx2", "neon", None):
        if words and words not in isa().split():
            continue
        narrow = Session(files[0], isa=words)
        narrow.prepack(tmp_path / "narrow.mcc")
        data = (tmp_path / "narrow.mcc").read_bytes()
        keys.add(data[sections(data)[PACKED][1]:][4:8])
        again, other = Session(data, isa=words), Session(data)
        assert again.facts["packed"] == "used" and outputs(again) == outputs(narrow), words
        assert other.facts["packed"] == ("unused" if words else "used") and outputs(other) == want, words
    assert len(keys) > 1  # and not by chance, because sizes differ


def test_every_part_of_the_key_counts(files):
    data = files[1].read_bytes()
    want = outputs(Session(files[0]))
    for place in range(0, 24, 4):
        other = Session(changed(data, place, b"\xee\xdd\xcc\xbb"))
        assert other.facts["packed"] == "unused" and outputs(other) == want, place


def test_damaged_blocks_are_not_used(files):
    data = files[1].read_bytes()
    want = outputs(Session(files[0]))
    for place, value in ((32, 2 ** 63), (32, 2 ** 64 - 64), (32, 65), (40, 2 ** 63), (40, 0), (24, 2 ** 32 - 1)):
        other = Session(changed(data, place, struct.pack("<I" if place == 24 else "<Q", value)))
        assert other.facts["packed"] == "unused" and outputs(other) == want, (place, value)
    with pytest.raises(EngineError, match="checksum"):
        Session(data[:-65] + bytes([data[-65] ^ 1]) + data[-64:])


def test_prepacking_is_deterministic_and_goes_round(files, tmp_path):
    Session(files[0]).prepack(tmp_path / "again.mcc")
    Session(files[1]).prepack(tmp_path / "twice.mcc")
    data = files[1].read_bytes()
    assert (tmp_path / "again.mcc").read_bytes() == data == (tmp_path / "twice.mcc").read_bytes()
    _, at, size = sections(data)[PACKED]
    assert at % 64 == 0 and at + size == len(data)
    assert [n.op for n in read(data).nodes] == [n.op for n in read(files[0].read_bytes()).nodes]  # the second reader skips it


def test_command(tmp_path):
    import onnx
    from onnx import TensorProto, helper
    w = np.random.default_rng(0).standard_normal((64, 40)).astype(np.float32)
    onnx.save(helper.make_model(helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 40])],
        [helper.make_tensor("w", TensorProto.FLOAT, w.shape, w.tobytes(), raw=True)])), tmp_path / "m.onnx")
    sizes = []
    for more in ([], ["--prepack"]):
        run = CliRunner().invoke(lower_command.command, [str(tmp_path / "m.onnx"), "--json", *more])
        assert run.exit_code == 0, run.output
        sizes.append(json.loads(run.stdout[run.stdout.index("{"):]))
    assert sizes[0]["prepacked_bytes"] == 0 and sizes[1]["prepacked_bytes"] == sizes[1]["bytes"] - sizes[0]["bytes"] > w.nbytes
    assert Session(tmp_path / "m.mcc").facts["packed"] == "used"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.mcc", "m.onnx"]


# What packing writes, by ISA: [MCC_PACKING_VERSION, checksum of the kernels' names, checksum of the packed weights].
RECORD = Path(__file__).parent / "packing.json"


def packing(isa_words: str, folder: Path) -> list[int]:
    plain, packed = folder / "plain.mcc", folder / "packed.mcc"
    whole = []
    for make in GRAPHS.values():
        lower(make(), plain)
        Session(plain, isa=isa_words).prepack(packed)
        data = packed.read_bytes()
        _, at, size = sections(data)[PACKED]
        version, _, names = struct.unpack_from("<III", data, at)
        whole.append(data[at + 24:at + size])
    return [version, names, zlib.crc32(b"".join(whole))]


@pytest.mark.parametrize("words", ["c", "c avx2", "c avx2 avx512", "c avx2 avx512 avx512vnni avx512vbmi"])
def test_changed_packing_has_another_version(words, tmp_path):
    """Files that were prepacked by an older engine must not be taken for this one's."""
    if not set(words.split()) <= set(isa().split()):
        pytest.skip(f"this CPU has no {words}")
    was, now = json.loads(RECORD.read_text())[words], packing(words, tmp_path)
    if now[2] == was[2]:
        return
    assert now[:2] != was[:2], "packed weights have changed, and kernels' names have not: raise MCC_PACKING_VERSION"
    pytest.fail(f"packed weights and version or names have changed: record {json.dumps({words: now})} in {RECORD.name}")
