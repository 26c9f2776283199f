"""The commands on a small network: exit codes, files, JSON, resuming, and what `mcc --help` may import."""
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

RECIPE = """
name: small
model:
  factory: nets:small
  checkpoint: {checkpoint}
  input: {{shape: [N, 4]}}
data: {{source: npz, path: data.npz, batch: 32}}
metric: accuracy
train: {{epochs: 6, lr: 1e-2}}
passes:
  - prune.weights: {{sparsity: 0.5, epochs: {epochs}}}
  - quantize.codebook: {{bits: 4, epochs: 1}}
  - distill.logits: {{epochs: 1}}
expect:
  size: "{size}"
  accuracy: ">= original - 10 %"
output: out
"""


@pytest.fixture
def recipe(folder):
    def write(name="r.yaml", checkpoint="weights.safetensors", epochs=1, size="<= original"):
        (folder / name).write_text(RECIPE.format(checkpoint=checkpoint, epochs=epochs, size=size))
        return name
    return write


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_compress(folder, mcc, recipe):
    code, out, err = mcc("compress", recipe())
    assert code == 0, err
    assert "3 distill.logits" in out
    assert "ok   size <= original" in out
    report = json.loads((folder / "out/report.json").read_text())
    assert [s["pass"] for s in report["stages"]] == ["prune.weights", "quantize.codebook", "distill.logits"]
    final = report["final"]
    assert final["bytes"] == (folder / "out/model.mcc").stat().st_size < report["original"]["bytes"]
    assert final["metric_ci95"][0] <= final["metric"] <= final["metric_ci95"][1]
    assert final["difference_ci95"][0] <= final["difference"] <= final["difference_ci95"][1]
    assert final["difference"] == pytest.approx(final["metric"] - report["original"]["metric"])
    assert report["stages"][0]["nonzero"] < 0.7 * report["original"]["nonzero"]
    assert report["original"]["macs"] == 4 * 64 + 64 * 3
    assert all(s["seconds"] > 0 and s["latency_ms"] > 0 for s in report["stages"])
    first = sha(folder / "out/model.mcc")

    # Again: all from the cache; afresh: all anew; from the saved recipe: the same. Always the same bytes.
    _, out, err = mcc("compress", "r.yaml", "--json")
    assert all(s["cached"] for s in json.loads(out)["stages"])
    _, out, _ = mcc("compress", "r.yaml", "--json", "--fresh")
    assert not any(s["cached"] for s in json.loads(out)["stages"])
    assert sha(folder / "out/model.mcc") == first
    assert mcc("compress", "out/recipe.yaml", "-o", "again")[0] == 0
    assert sha(folder / "again/model.mcc") == first

    # A change of a later pass keeps the earlier ones.
    _, out, _ = mcc("compress", "r.yaml", "--json", "--set", "passes.2.distill.logits.temperature=2")
    assert [s["cached"] for s in json.loads(out)["stages"]] == [True, True, False]
    assert json.loads(out)["overrides"] == ["--set passes.2.distill.logits.temperature=2"]


def test_gate_fails(folder, mcc, recipe):
    code, out, _ = mcc("compress", recipe(size="<= original / 1000"))
    assert code == 1
    assert "FAIL size <= original / 1000" in out


def test_diverging_pass(folder, mcc, recipe):
    code, out, err = mcc("compress", recipe(), "--set", "passes.0.prune.weights.lr=1e6", "--set", "train.clip=0")
    assert (code, out) == (3, "")
    assert err.splitlines()[-2].startswith("r.yaml:11:5: prune.weights: ")
    assert "finished passes are kept" in err


def test_trained_checkpoint_is_saved(folder, mcc, recipe):
    recipe(checkpoint="new.safetensors")
    assert mcc("compress", "r.yaml")[0] == 0
    first = sha(folder / "out/model.mcc")
    saved = sha(folder / "new.safetensors")
    assert mcc("compress", "r.yaml", "--fresh")[0] == 0
    assert (sha(folder / "out/model.mcc"), sha(folder / "new.safetensors")) == (first, saved)


def test_dry_run(folder, mcc, recipe):
    code, out, _ = mcc("compress", recipe(), "--dry-run")
    assert code == 0
    assert "1 prune.weights: fc1, fc2" in out
    assert not (folder / "out").exists()


def test_killed_run_resumes_to_the_same_bytes(folder, mcc, recipe):
    assert mcc("compress", recipe(epochs=60), "-o", "whole")[0] == 0
    command = [sys.executable, "-m", "mcc.cli", "compress", "r.yaml"]
    killed = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True)
    for line in killed.stderr:
        if line.startswith("1/3 prune.weights"):
            break
    time.sleep(0.1)  # somewhere in the middle of the pass; the result must not depend on where
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (folder / "out/model.mcc").exists()
    assert list((folder / "out/cache").glob("*.mcc")), "nothing was kept before the kill"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sha(folder / "out/model.mcc") == sha(folder / "whole/model.mcc")
    assert not list((folder / "out/cache").glob(".part-*"))


def test_interrupt_says_how_to_go_on(folder, recipe):
    recipe(epochs=2000)
    running = subprocess.Popen([sys.executable, "-m", "mcc.cli", "compress", "r.yaml"], stderr=subprocess.PIPE, text=True)
    lines = []
    for line in running.stderr:
        lines.append(line)
        if line.startswith("1/3 prune.weights"):
            running.send_signal(signal.SIGINT)
    assert running.wait() == 130
    assert lines[-1] == "mcc: stopped; the same command goes on from the last finished pass\n"
    assert not any("Traceback" in line for line in lines)


def test_lower_run_bench_inspect_eval(folder, mcc, recipe):
    assert mcc("compress", recipe())[0] == 0
    model = "out/original.mcc"
    x = np.load("data.npz")["x"]
    np.savez("in.npz", x=x[:5])
    np.save("one.npy", x[0])
    code, out, err = mcc("run", model, "-i", "in.npz", "-o", "y.npz", "--json")
    assert code == 0, err
    facts = json.loads(out)["outputs"]
    (name, y), = np.load("y.npz").items()
    assert facts[name]["shape"] == [5, 3]
    np.testing.assert_allclose(facts[name]["values"], y, rtol=1e-6)
    import torch
    from nets import small
    from safetensors.torch import load_file
    net = small()
    net.load_state_dict(load_file("weights.safetensors"))
    np.testing.assert_allclose(y, net(torch.from_numpy(x[:5])).detach().numpy(), rtol=1e-4, atol=1e-5)
    code, out, _ = mcc("run", model, "-i", "x=one.npy")
    assert code == 0
    assert "[1, 3]" in out

    code, out, err = mcc("bench", model, "--json", "--seconds", "0.05", "--ops")
    assert code == 0, err
    bench = json.loads(out)
    assert set(bench) >= {"schema", "model", "target", "isa", "threads", "precision", "estimated", "latency_ms", "cold_start_ms",
                          "model_bytes", "arena_bytes", "peak_rss_bytes", "macs", "ops", "vs"}
    assert bench["macs"] == 4 * 64 + 64 * 3
    assert bench["latency_ms"]["p10"] <= bench["latency_ms"]["median"] <= bench["latency_ms"]["p90"]
    (folder / "fast.json").write_text(json.dumps({**bench, "latency_ms": {"median": 1e-9}}))
    (folder / "slow.json").write_text(json.dumps({**bench, "latency_ms": {"median": 1e9}}))
    assert mcc("bench", model, "--seconds", "0.02", "--baseline", "fast.json", "--tolerance", "5%")[0] == 1
    assert mcc("bench", model, "--seconds", "0.02", "--baseline", "slow.json")[0] == 0

    layers = {r["name"]: r for r in json.loads(mcc("inspect", model, "--json")[1])["layers"]}
    assert layers["fc1"]["params"] == 4 * 64 + 64
    code, out, err = mcc("eval", "out/model.mcc", "r.yaml", "--json")
    assert code == 0, err
    report = json.loads((folder / "out/report.json").read_text())
    assert json.loads(out)["metric"] == report["final"]["metric"]
    assert mcc("show", model)[1].startswith("graph original(")


def test_onnx_lower_and_vs(folder, mcc):
    ort = pytest.importorskip("onnxruntime")
    import torch
    from mcc.passes.onnx_io import export, from_torch
    from nets import small
    export(from_torch(small(), torch.zeros(2, 4), dynamic={"x": {0: "N"}}), "small.onnx")
    code, out, err = mcc("lower", "small.onnx", "-o", "small.mcc", "--json")
    assert code == 0, err
    assert json.loads(out)["inputs"] == [{"name": "x", "shape": [1, 4], "dtype": "float32"}]
    x = np.random.default_rng(0).standard_normal((1, 4)).astype(np.float32)
    np.save("x.npy", x)
    mcc("run", "small.mcc", "-i", "x.npy", "-o", "y.npz")
    (y,) = np.load("y.npz").values()
    np.testing.assert_allclose(y, ort.InferenceSession("small.onnx").run(None, {"x": x})[0], rtol=1e-4, atol=1e-5)
    code, out, err = mcc("bench", "small.onnx", "--vs", "onnxruntime", "--json", "--seconds", "0.05")
    assert code == 0, err
    rival = json.loads(out)["vs"]["onnxruntime"]
    assert rival["agrees"]
    assert rival["ratio"] > 0
    assert "%fc1" in mcc("show", "small.onnx", "--after", "fuse")[1]
    assert mcc("show", "small.onnx", "--after", "fuse", "-o", "fused.onnx")[0] == 0
    assert (folder / "fused.onnx").stat().st_size > 0
    assert mcc("lower", "small.onnx", "--bind", "sequence=3")[0] == 2
    np.savez("few.npz", x=np.concatenate([x] * 3))  # a symbolic batch takes as many samples as there are
    code, out, err = mcc("lower", "small.onnx", "--precision", "int8", "--calibration", "few.npz", "--json")
    assert code == 0, err
    assert json.loads(out)["calibrated"]
    np.savez("none.npz", x=x[:0])
    code, _, err = mcc("lower", "small.onnx", "--precision", "int8", "--calibration", "none.npz")
    assert (code, err.count("\n")) == (2, 1) and "0 samples" in err


def test_damaged_file(folder, mcc):
    (folder / "bad.mcc").write_bytes(b"MCC\x1a" + bytes(40))
    for command in (["run", "bad.mcc", "-i", "data.npz"], ["bench", "bad.mcc"], ["inspect", "bad.mcc"], ["show", "bad.mcc"]):
        code, out, err = mcc(*command)
        assert (code, out) == (2, "")
        assert err.startswith("bad.mcc: ")
        assert err.count("\n") == 1


def test_wrong_input(folder, mcc, recipe):
    assert mcc("compress", recipe())[0] == 0
    np.savez("bad.npz", x=np.zeros((2, 5), np.float32), z=np.zeros(3))
    code, _, err = mcc("run", "out/model.mcc", "-i", "bad.npz")
    assert (code, err) == (2, "bad.npz: the model has no input 'z'; it has x\n")
    np.savez("bad.npz", x=np.zeros((2, 5), np.float32))
    code, _, err = mcc("run", "out/model.mcc", "-i", "bad.npz")
    assert (code, err) == (2, "bad.npz: input 'x' is [2, 5], the model takes [N, 4]\n")


def test_bug_is_70_without_traceback(mcc, monkeypatch):
    from mcc import passes
    monkeypatch.setattr(passes, "find", lambda name: 1 / 0)
    code, out, err = mcc("passes")
    assert (code, out) == (70, "")
    assert "ZeroDivisionError" in err
    assert "Traceback" not in err
    with pytest.raises(ZeroDivisionError):
        mcc("passes", "--debug")


def test_help_imports_no_heavy_module():
    code = ("import sys\nfrom mcc.cli import main\nassert main(['--help']) == 0\n"
            "heavy = {'torch', 'numpy', 'onnx', 'pydantic', 'rich', 'yaml', 'PIL'} & set(sys.modules)\n"
            "assert not heavy, heavy")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    from mcc.cli import COMMANDS
    assert all(name in done.stdout for name in COMMANDS)


def test_every_command_has_help(mcc):
    from mcc.cli import COMMANDS
    for name in COMMANDS:
        code, out, _ = mcc(name, "--help")
        assert code == 0
        assert out.startswith("Usage: mcc " + name)


def test_lists(mcc, folder):
    from mcc.passes import PASSES
    assert set(json.loads(mcc("passes", "--json")[1])["passes"]) == set(PASSES)
    for name in PASSES:
        code, out, _ = mcc("passes", name, "--json")
        assert code == 0
        assert json.loads(out)["options"]
    kernels = json.loads(mcc("kernels", "--json")[1])
    assert any(k["runs"] for k in kernels["kernels"])
    names = [r["name"] for r in json.loads(mcc("recipes", "ls", "--json")[1])["recipes"]]
    assert names
    for name in names:
        assert "passes:" in mcc("recipes", "show", name)[1]
    assert mcc("recipes", "cp", names[0], "mine.yaml")[0] == 0
    assert mcc("recipes", "cp", names[0], "mine.yaml")[0] == 2
