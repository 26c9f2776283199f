"""mcc bench: nodes and the peak, a kernel for a shape, a baseline that says which node, and other runtimes."""
import importlib.util
import json
import os

import numpy as np
import pytest

from mcc import kernels
from mcc.cli import rivals


@pytest.fixture
def small(folder):
    """small.onnx: 4 -> 64 -> 3, and small.mcc."""
    import torch
    from mcc.passes import load, lower
    from mcc.passes.onnx_io import export, from_torch
    from nets import small
    export(from_torch(small(), torch.zeros(2, 4), dynamic={"x": {0: "N"}}), "small.onnx")
    lower(load("small.onnx"), "small.mcc")
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network of some milliseconds, in which the time between nodes is nothing."""
    import torch
    from mcc.passes import lower
    from mcc.passes.onnx_io import from_torch
    from torch import nn
    layers = [nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.ReLU(), nn.Conv2d(32, 64, 1),
              nn.Sigmoid(), nn.Conv2d(64, 64, 3, 1, 1), nn.Flatten(), nn.Linear(64 * 48 * 48, 10)]
    path = tmp_path_factory.mktemp("network") / "n.mcc"
    lower(from_torch(nn.Sequential(*layers).eval(), (torch.randn(1, 3, 96, 96),)), path)
    return path


def test_ops_add_up_and_have_rates(network, mcc):
    code, out, err = mcc("bench", network, "--ops", "--json", "--seconds", "0.3")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["ops_share"] >= 0.95
    assert facts["peak"].keys() == {"f32", "bf16", "s8", "copy"}
    assert all(v > 0 for what, v in facts["peak"].items() if what != "bf16" or "avx512bf16" in facts["isa"])
    assert facts["macs"] == sum(n["macs"] for n in facts["ops"])
    for n in facts["ops"]:
        assert {"name", "op", "kernel", "ms", "macs"} <= n.keys()
        if n["macs"]:
            assert n["gflops"] == pytest.approx(2 * n["macs"] / n["ms"] / 1e6) and 0 < n["of_peak"] < 3
        else:
            assert n["gbs"] == pytest.approx(n["bytes"] / max(n["ms"], 1e-6) / 1e6)
    first = next(n for n in facts["ops"] if n["macs"])
    assert first["kernel"] and first["bytes"] >= 4 * 3 * 96 * 96 + 4 * 32 * 48 * 48
    code, out, _ = mcc("bench", network, "--ops", "--seconds", "0.05")
    assert code == 0 and "of peak" in out and "of the run; measured peak" in out


@pytest.mark.parametrize("shape", ["gemm:f32:m=20,k=64,n=70", "gemm:s8:m=20,k=64,n=70", "conv:f32:h=9,w=9,c=8,n=16",
                                   "dwconv:f32:h=9,w=9,c=32", "dwconv:s8:h=9,w=9,c=32"])
def test_kernels_of_a_shape(shape, mcc):
    code, out, err = mcc("bench", "--kernels", shape, "--json", "--seconds", "0.05")
    assert code == 0, err
    found = json.loads(out)
    assert [k["name"] for k in found["kernels"] if k["pick"]] == [found["pick"]]
    assert found["kernels"] == sorted(found["kernels"], key=lambda k: k["ms"])
    family, kind = shape.split(":")[:2]
    isas = {k["isa"] for k in found["kernels"]}
    assert all(kind in k["name"] for k in found["kernels"]) and ("c" in isas or "" in isas)
    serves = found["pick"].split("_")[0]  # int8 depthwise with float32 results is a product of groups
    assert serves in {"gemm": ("gemm",), "conv": ("gemm",), "dwconv": ("dwconv", "gemm")}[family]
    runs = {k.isa for k in kernels.kernels() if k.runs and k.name.startswith(f"{serves}_{kind}_")}
    assert isas <= runs and (family == "dwconv" or isas == runs), "one kernel at least of each ISA that this CPU has"
    if shape.startswith("gemm:f32"):
        dense = {k.name for k in kernels.kernels() if k.runs and k.name.startswith("gemm_f32_")}
        assert {k["name"] for k in found["kernels"] if not k["name"].startswith("sparse_f32_")} == dense


def test_kernels_of_a_shape_in_bfloat16(mcc):
    """Those of float32 can serve such a layer too; the pick multiplies in bfloat16 where this CPU does."""
    code, out, err = mcc("bench", "--kernels", "gemm:bf16:m=20,k=64,n=70", "--json", "--seconds", "0.05")
    assert code == 0, err
    found = json.loads(out)
    has = "avx512bf16" in kernels.isa().split()
    assert {k["name"].split("_")[1] for k in found["kernels"]} == ({"f32", "bf16"} if has else {"f32"})
    assert ("_bf16_" in found["pick"]) == has and found["peak_gflops"] > 0


def test_kernels_of_a_3x3_convolution(mcc):
    """Winograd's kernels and those of the direct product."""
    code, out, err = mcc("bench", "--kernels", "conv:f32:h=24,w=24,c=32,n=32", "--json", "--seconds", "0.05")
    assert code == 0, err
    assert {"gemm", "winograd"} == {k["name"].split("_")[0] for k in json.loads(out)["kernels"]}


def test_forced_kernels_agree(tmp_path):
    """The kernel that is forced is the one that runs, and its result is that of the others."""
    from mcc.cli.timing import shapes
    file = shapes._layer("gemm", "f32", {"m": 20, "k": 64, "n": 70}, tmp_path / "l.mcc")
    x = {p.name: np.random.default_rng(0).standard_normal(p.shape).astype("f4") for p in kernels.Session(file).inputs}
    want = next(iter(kernels.Session(file).run(x).values()))
    for k in kernels.kernels():
        if k.runs and k.name.startswith("gemm_f32_"):
            forced = kernels.Session(file, kernel=k.name)
            assert k.name in {n["kernel"] for n in forced.profile(x, 1)}
            np.testing.assert_allclose(next(iter(forced.run(x).values())), want, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="unknown kernel 'gemm_f32_5x5'"):
        kernels.Session(file, kernel="gemm_f32_5x5")


def test_times_are_of_the_inputs_given(network):
    opened = kernels.Session(network)
    (port,) = opened.inputs
    x = np.random.default_rng(0).standard_normal(port.shape).astype("f4")
    want = opened.run({port.name: x})
    found = opened.times({port.name: x}, 0.01, least=4)
    assert len(found.ms) >= 4 and not found.ops
    run = opened.bound({port.name: x})
    run()
    for name, y in opened.run({port.name: x}).items():
        np.testing.assert_array_equal(y, want[name])


def test_baseline_names_the_node(network, mcc, tmp_path):
    code, out, _ = mcc("bench", network, "--json", "--seconds", "0.1")
    assert code == 0
    facts = json.loads(out)
    heavy = max(facts["ops"], key=lambda n: n["ms"])
    for n in facts["ops"]:
        n["ms"] *= 100 if n is not heavy else 1e-3
    facts["latency_ms"]["median"] *= 1e-3
    (tmp_path / "b.json").write_text(json.dumps(facts))
    code, out, _ = mcc("bench", network, "--baseline", tmp_path / "b.json", "--tolerance", "5%", "--json", "--seconds", "0.1")
    said = json.loads(out)["baseline"]
    assert code == 1 and not said["ok"]
    assert [n["name"] for n in said["slower"]] == [heavy["name"]]
    code, out, _ = mcc("bench", network, "--baseline", tmp_path / "b.json", "--seconds", "0.1")
    assert code == 1 and "FAIL" in out and f"slower: {heavy['name']}" in out
    (tmp_path / "old.json").write_text(json.dumps({"latency_ms": {"median": 1e9}, "ops": []}))
    assert mcc("bench", network, "--baseline", tmp_path / "old.json", "--seconds", "0.05")[0] == 0


def test_rivals_in_their_processes(small, mcc):
    pytest.importorskip("onnxruntime")
    code, out, err = mcc("bench", "small.onnx", "--vs", "onnxruntime", "--json", "--seconds", "0.05")
    assert code == 0, err
    rival = json.loads(out)["vs"]["onnxruntime"]
    assert rival["agrees"] and rival["ratio"] > 0 and rival["p10"] <= rival["median"] <= rival["p90"]
    code, out, _ = mcc("bench", "small.mcc", "--vs", "onnxruntime", "--reference", "small.onnx", "--seconds", "0.05")
    assert code == 0 and "x our time (fp32)" in out


def test_a_rival_that_fails_is_said(small):
    """A process that dies, and an answer that is an error, are errors of the runtime; the next call starts it again."""
    with rivals.Peer("mcc") as peer:
        with pytest.raises(rivals.PeerError, match="nothing.mcc"):
            peer.open("nothing.mcc", "fp32", 1, {})
        x = {"x": np.zeros((1, 4), "f4")}
        assert len(peer.open("small.mcc", "fp32", 1, x)["outputs"]) == 1
        assert peer.burst(0.0, 3) and peer.facts()["peak_rss_bytes"] > 0
        peer.process.kill()
        with pytest.raises(rivals.PeerError, match="ended by SIGKILL"):
            peer.burst(0.0)
        assert len(peer.open("small.mcc", "fp32", 1, x)["outputs"]) == 1


def test_wrong_words(small, mcc, monkeypatch):
    cases = {
        ("small.onnx", "--vs", "onnxruntim"): "did you mean",
        ("small.mcc", "--vs", "onnxruntime"): "needs the .onnx model",
        ("small.onnx", "--kernels", "gemm:f32:m=1,k=1,n=1"): "give a MODEL, or a shape",
        (): "give a MODEL, or a shape",
        ("--kernels", "gemm:f64:m=1,k=1,n=1"): "write gemm:f32|bf16|s8:m=N,k=N,n=N",
        ("--kernels", "gemm:f32:m=1,k=1"): "no n; write gemm",
        ("--kernels", "gemm:f32:m=0,k=1,n=2"): "cannot read 'm=0'",
        ("small.mcc", "--tolerance", "much"): "write a share",
        ("small.mcc", "--baseline", "small.onnx"): "is not what `mcc bench --json` prints",
    }
    for words, text in cases.items():
        code, out, err = mcc("bench", *words)
        assert (code, out) == (2, "") and text in err and err.count("\n") == 1, (words, err)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "ncnn" else find(name, *a))
    code, _, err = mcc("bench", "small.onnx", "--vs", "ncnn")
    assert code == 2 and "--vs ncnn: it is not installed; pip install ncnn pnnx" in err


def needs_emulation():
    """A cross compiler, qemu and its plugins: `make deps` installs them, so CI has them."""
    from mcc.cli.arm64 import build, count
    from mcc.passes.errors import TargetError
    try:
        build.compiler("arm64")
        lacking = count.missing()
    except TargetError as e:
        lacking = str(e)
    if lacking:
        assert os.environ.get("CI") != "true", lacking
        pytest.skip(lacking)


def test_arm64_counts_the_same_twice(small, mcc):
    """Under emulation: exact counts that add up, times that are labelled as estimates."""
    needs_emulation()
    found = []
    for _ in range(2):
        code, out, err = mcc("bench", "small.onnx", "--target", "arm64-cortex-a55", "--json")
        assert code == 0, err
        found.append(json.loads(out))
    facts = found[0]
    assert facts["instructions"] == found[1]["instructions"] > 4 * 64 / 4
    assert facts["estimated"] and facts["latency_ms"]["estimated"] and facts["core"] == "arm64-cortex-a55"
    assert 0 < facts["latency_ms"]["low"] < facts["latency_ms"]["high"]
    assert sum(n["instructions"] for n in facts["ops"]) == facts["instructions"] == sum(facts["classes"].values())
    assert facts["macs"] == 64 * 4 + 64 * 3 and "neondot" in facts["isa"]


def test_an_unknown_target_has_a_nearest_name(small, mcc):
    code, _, err = mcc("bench", "small.mcc", "--target", "arm64-cortex-a75")
    assert code == 4 and "did you mean 'arm64-cortex-a7" in err
    code, _, err = mcc("bench", "small.mcc", "--target", "arm64", "--threads", "2")
    assert code == 2 and "one thread only" in err


@pytest.mark.parametrize("lacking, hint, model", [("QEMU", "qemu-user", "half of the peak"), ("llvm", "llvm-22", "units' bound")])
def test_arm64_without_a_tool_still_estimates(small, mcc, monkeypatch, lacking, hint, model):
    """And one line says what to install for more."""
    from mcc.cli.arm64 import count, llvm
    needs_emulation()
    if lacking == "QEMU":
        monkeypatch.setattr(count, "QEMU", "no-such-emulator")
    else:
        monkeypatch.setattr(llvm, "tool", lambda name: None)
    code, out, err = mcc("bench", "small.onnx", "--target", "arm64", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert [hint in h for h in facts["hints"]] == [True] and facts["cycle_model"] == model
    assert facts["latency_ms"]["estimated"] and facts["latency_ms"]["median"] > 0
    assert ("instructions" in facts) == (lacking == "llvm")
    code, out, err = mcc("bench", "small.onnx", "--target", "arm64", "--ops")
    assert code == 0 and "estimate" in out and hint in err
