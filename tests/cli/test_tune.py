"""`mcc lower --tune`: choices are kept in the file, used where they were measured and nowhere else, and change no result."""
import json
import struct
import zlib

import numpy as np
import pytest

from mcc.cli.timing import tune
from mcc.kernels import Session, kernels, machine
from mcc.passes.lower.choices import write_choices
from mcc.passes.lower.read import read

WIDE = [k.name for k in kernels() if k.runs and k.name.startswith("gemm_f32")]


@pytest.fixture
def model(folder):
    """A file of two layers, and the number of the first one."""
    import torch
    from torch import nn

    from mcc.passes.onnx_io import export, from_torch
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(96, 80), nn.ReLU(), nn.Linear(80, 40)).eval()
    export(from_torch(net, (torch.zeros(50, 96),)), folder / "net.onnx")
    return folder / "net.onnx"


def lowered(mcc, model, *options):
    code, out, err = mcc("lower", model.name, "-o", "net.mcc", *options)
    assert code == 0, err
    return model.with_name("net.mcc"), out


def results(file, **how):
    opened = Session(file, **how)
    x = {p.name: np.random.default_rng(0).standard_normal(p.shape).astype("float32") for p in opened.inputs}
    return opened, [p["kernel"] for p in opened.profile(x, 1)], next(iter(opened.run(x).values()))


def choose(file, node=0):
    """Put a kernel that is not the pick into the file for a node; returns the kernels that there are then to be."""
    _, picks, _ = results(file)
    other = next(k for k in WIDE[::-1] if k not in picks)
    write_choices(file, machine(), {node: other})
    return picks[:node] + [other] + picks[node + 1:]


def changed(file, at, value):
    """The file with some bytes of its choices section replaced, its checksums right."""
    data = bytearray(file.read_bytes())
    count = struct.unpack_from("<I", data, 16)[0]
    for entry in range(24, 24 + 24 * count, 24):
        kind, _, start, size = struct.unpack_from("<IIQQ", data, entry)
        if kind == 5:
            data[start + at:start + at + len(value)] = value
            struct.pack_into("<I", data, entry + 4, zlib.crc32(data[start:start + size]))
    struct.pack_into("<I", data, 20, 0)
    struct.pack_into("<I", data, 20, zlib.crc32(data[:24 + 24 * count]))
    return bytes(data)


def test_tune(mcc, model, monkeypatch):
    file, _ = lowered(mcc, model)
    plain = file.read_bytes()
    file, _ = lowered(mcc, model)
    assert file.read_bytes() == plain  # nothing is measured unasked
    monkeypatch.setattr(tune, "GAIN", 2.0)  # whatever is no slower than twice the pick has won: some kernel always has
    file, out = lowered(mcc, model, "--tune", "--json")
    facts = json.loads(out)
    assert facts["tuned"] and {"name", "op", "pick", "kernel", "ms", "pick_ms"} <= facts["tuned"][0].keys()
    opened, used, y = results(file)
    assert opened.facts["tuned"] == "used"
    chosen = read(file).meta["tuned"]
    assert chosen["cpu"] == machine()[2] and {i: used[i] for i in chosen["kernels"]} == chosen["kernels"]
    assert [t["kernel"] for t in facts["tuned"]] == list(chosen["kernels"].values())
    assert all(t["pick"] != t["kernel"] for t in facts["tuned"])
    np.testing.assert_allclose(y, results(plain)[2], rtol=1e-4, atol=1e-4)
    write_choices(file, machine(), {})
    assert file.read_bytes() == plain


def test_nothing_gained_is_nothing_kept(mcc, model, monkeypatch):
    plain = lowered(mcc, model)[0].read_bytes()
    monkeypatch.setattr(tune, "GAIN", 0.0)
    file, out = lowered(mcc, model, "--tune")
    assert file.read_bytes() == plain and "0 layers have another kernel" in out


def test_used_here_alone(mcc, model):
    file, _ = lowered(mcc, model)
    picks = results(file)[1]
    wanted = choose(file)
    assert wanted != picks and results(file)[1] == wanted
    assert results(file)[0].clone().facts["tuned"] == "used"
    for at, value in ((0, b"\0\0\0\0"), (4, b"\1\2\3\4"), (8, b"\1\2\3\4"), (16, b"X")):  # ISA, engine, graph, CPU
        opened, used, _ = results(changed(file, at, value))
        assert opened.facts["tuned"] == "unused" and used == picks
    opened, used, _ = results(file, isa="c")
    assert opened.facts["tuned"] == "unused" and wanted[0] not in used
    assert results(file, kernel=picks[0])[1][0] == picks[0]


@pytest.mark.parametrize("value", [b"\xff\xff\xff\xff", b"\3\0\0\0"])
def test_damaged_choices_are_ignored(mcc, model, value):
    """More choices than there are; a node that is none; a kernel that is none."""
    file, _ = lowered(mcc, model)
    picks = results(file)[1]
    choose(file)
    name = 16 + len(machine()[2]) + 1
    for at, bytes_ in ((12, value), (name, value), (name + 4, b"x")):
        opened, used, _ = results(changed(file, at, bytes_))
        assert opened.facts["tuned"] == "unused" and used == picks


def test_prepacked_weights_know_the_choices(mcc, model):
    """Weights that were packed for other kernels are not used, even where the CPU alone is another."""
    file, _ = lowered(mcc, model)
    want = results(file)[2]
    wanted = choose(file)
    packed = file.with_name("packed.mcc")
    Session(file).prepack(packed)
    opened, used, y = results(packed)
    assert used == wanted and opened.facts["packed"] == opened.facts["tuned"] == "used"
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)
    opened, _, y = results(changed(packed, 16, b"X"))
    assert opened.facts["packed"] == opened.facts["tuned"] == "unused"
    assert y.tobytes() == want.tobytes()


def test_show_bench_and_inspect_say_so(mcc, model):
    file, _ = lowered(mcc, model)
    kernel = choose(file)[0]
    code, out, err = mcc("show", file.name)
    assert code == 0 and f"tuned for {machine()[2]}\n" in out and f": {kernel}" in out, err
    code, out, err = mcc("bench", file.name, "--ops", "--seconds", "0.05")
    assert code == 0 and f"{kernel} (tuned)" in out, err
    code, out, err = mcc("inspect", file.name)
    assert code == 0 and "1 of them: in use here" in out, err
    file.write_bytes(changed(file, 16, b"X"))
    assert "not for this machine" in mcc("show", file.name)[1]
    assert "(tuned)" not in mcc("bench", file.name, "--ops", "--seconds", "0.05")[1]
    assert "not used here" in mcc("inspect", file.name)[1]


def test_another_machine(mcc, model):
    import platform
    here, other = ("x86-64", "arm64") if platform.machine() == "x86_64" else ("arm64", "x86-64")
    code, _, err = mcc("lower", model.name, "--tune", "--target", other)
    assert code == 2
    assert f"--tune: this machine is {here}, the target {other} is {other}; run mcc lower there, or leave it out" in err
    code, _, err = mcc("lower", model.name, "--target", other)
    assert code == 2 and "--target is for --tune and --prepack" in err
    code, _, err = mcc("lower", model.name, "--tune", "--target", "host")
    assert code == 0, err


def test_what_does_not_win_in_the_file_is_taken_out(model, mcc, monkeypatch):
    """Every kernel looks twice as fast when it is tried, and slower once it stands in the file."""
    file, _ = lowered(mcc, model)

    def shares(one, other, inputs, rounds=tune.ROUNDS):
        return [(1.1 if rounds == tune.FINAL else 0.5, 1.0, 1.0)] * len(other.profile(inputs, 1))
    monkeypatch.setattr(tune, "_shares", shares)
    assert tune.tune(file) == [] and "tuned" not in {k for k, v in read(file).meta.items() if v}
