"""mcc-run, the device's program: .npy and bare values in and out, --json, --ops, and every wrong argument."""
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mcc.kernels import Session, isa
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower.emit import emit

ROOT = Path(__file__).resolve().parents[2]
LACKING = [t for t in ("make", "cc") if not shutil.which(t)]
assert not LACKING or os.environ.get("CI") != "true", f"{LACKING} must be installed in CI (make deps)"
pytestmark = pytest.mark.skipif(bool(LACKING), reason="needs make and cc")


@pytest.fixture(scope="module")
def program() -> Path:
    subprocess.run(["make", "-j2", "out=build/host", "mcc-run"], cwd=ROOT, check=True, capture_output=True)
    return ROOT / "build" / "host" / "mcc-run"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """y = x w' + b on x [2, 3], and ids -> ids_out, int64."""
    rng = np.random.default_rng(0)
    x, y = Value("x", "float32", (2, 3), meta={"offset": 0}), Value("y", "float32", (2, 5), meta={"offset": 64})
    i, j = Value("ids", "int64", (4,), meta={"offset": 128}), Value("ids_out", "int64", (4,), meta={"offset": 192})
    w, b = (constant(n, rng.standard_normal(s).astype("f4")) for n, s in (("w", (5, 3)), ("b", (5,))))
    nodes = [Node("linear", [x, w, b], [y], {}, 'a "layer"'), Node("identity", [i], [j], {}, "copy")]
    path = tmp_path_factory.mktemp("model") / "m.mcc"
    emit(Graph([x, i], [y, j], nodes, meta={"arena": 256}), path)
    return path


def run(program, *args):
    return subprocess.run([program, *map(str, args)], capture_output=True, text=True)


@pytest.mark.parametrize("ending", ["npy", "bin"])
def test_values_in_and_out(program, model, ending, tmp_path):
    given = {"x": np.random.default_rng(1).standard_normal((2, 3)).astype("f4"), "ids": np.array([1, -2, 1 << 40, 0])}
    files = {}
    for name, a in given.items():
        files[name] = tmp_path / f"{name}.{ending}"
        np.save(files[name], a) if ending == "npy" else files[name].write_bytes(a.tobytes())
    want = Session(model).run(given)
    said = run(program, model, "--input", f"x={files['x']}", "--input", f"ids={files['ids']}",
               "--output", f"y={tmp_path}/y.{ending}", "--output", f"ids_out={tmp_path}/z.{ending}", "--threads", 2, "--runs", 3)
    assert said.returncode == 0 and said.stdout.startswith("median ") and "3 runs, 2 threads" in said.stdout and not said.stderr
    for name, file in (("y", "y"), ("ids_out", "z")):
        path = tmp_path / f"{file}.{ending}"
        got = np.load(path) if ending == "npy" else np.frombuffer(path.read_bytes(), want[name].dtype).reshape(want[name].shape)
        np.testing.assert_array_equal(got, want[name])
        assert got.dtype == want[name].dtype


def test_json(program, model):
    plain, ops = (json.loads(run(program, model, "--json", "--runs", 5, "--isa", "c", *more).stdout) for more in ([], ["--ops"]))
    assert plain["schema"] == 1 and plain["model"] == str(model) and plain["isa"] == "c" and plain["threads"] == 1
    ms = plain["latency_ms"]
    assert ms["runs"] == 5 and 0 < ms["min"] <= ms["p10"] <= ms["median"] <= ms["p90"]
    assert plain["cold_start_ms"] >= plain["open_ms"] + plain["first_run_ms"] > 0
    assert plain["peak_rss_bytes"] > plain["weight_bytes"] or not Path("/proc/self/status").exists()
    assert plain["arena_bytes"] == 256 and plain["weight_bytes"] > 0 and "ops" not in plain
    assert [(o["name"], o["op"], o["macs"]) for o in ops["ops"]] == [('a "layer"', "linear", 30), ("copy", "identity", 0)]
    assert ops["ops"][0]["kernel"].endswith("_c") and all(o["ms"] >= 0 for o in ops["ops"])
    assert json.loads(run(program, model, "--json", "--threads", 0).stdout)["isa"] == isa()


def test_help(program):
    said = run(program, "--help")
    assert said.returncode == 0 and said.stdout.startswith("usage: mcc-run") and not said.stderr
    assert all(word in said.stdout for word in ("--runs", "--threads", "cold_start_ms", "peak_rss_bytes"))


WRONG = [
    ([], "usage: mcc-run"),
    (["MODEL", "MODEL"], "usage: mcc-run"),
    (["MODEL", "--colour", "red"], "usage: mcc-run"),
    (["MODEL", "--runs"], "usage: mcc-run"),
    (["MODEL", "--runs", "-1"], "usage: mcc-run"),
    (["MODEL", "--threads", "65"], "usage: mcc-run"),
    (["MODEL", "--threads", "-1"], "usage: mcc-run"),
    (["MODEL", "--isa", "mmx"], "--isa: unknown ISA word 'mmx'"),
    (["nothing.mcc"], "nothing.mcc: "),
    ([__file__], "not a .mcc file"),
    (["MODEL", "--input", "FILE"], "say NAME=FILE; the model's are: x ids"),
    (["MODEL", "--input", "z=FILE"], "no such input or output; the model's are: x ids"),
    (["MODEL", "--output", "z=FILE"], "no such input or output; the model's are: y ids_out"),
    (["MODEL", "--input", "x=nothing.npy"], "nothing.npy: cannot be opened"),
    (["MODEL", "--input", "x=DTYPE"], "input 'x' takes dtype <f4"),
    (["MODEL", "--input", "x=SHAPE"], "input 'x' takes shape (2, 3) in C order"),
    (["MODEL", "--input", "x=ORDER"], "input 'x' takes shape (2, 3) in C order"),
    (["MODEL", "--input", "x=TEXT"], "not a .npy file"),
    (["MODEL", "--input", "x=SHORT"], "too short for this input"),
    (["MODEL", "--input", "x=LONG"], "too long for this input"),
    (["MODEL", "--output", "y=FOLDER/no/y.npy"], "cannot be written"),
]


@pytest.mark.parametrize("args, text", WRONG, ids=[" ".join(a) if __file__ not in a else "other file" for a, _ in WRONG])
def test_wrong_arguments(program, model, args, text, tmp_path):
    good = np.zeros((2, 3), "f4")
    arrays = {"DTYPE": good.astype("f8"), "SHAPE": good.T.copy(), "ORDER": np.asfortranarray(np.ones((2, 3), "f4")), "FILE": good}
    for name, a in arrays.items():
        np.save(tmp_path / f"{name}.npy", a)
    (tmp_path / "TEXT.npy").write_text("hello, this is no array")
    (tmp_path / "SHORT.bin").write_bytes(bytes(23))
    (tmp_path / "LONG.bin").write_bytes(bytes(25))
    places = {"MODEL": model, "FOLDER": tmp_path} | {p.stem: p for p in tmp_path.iterdir()}
    for word, path in places.items():
        args = [a.replace(word, str(path)) if word in a and (a == word or "=" in a) else a for a in args]
    said = run(program, *args)
    assert said.returncode == 2 and text in said.stderr and not said.stdout.startswith("{"), said
