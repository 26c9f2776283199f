"""Integer results are the same bytes in torch, plain C, AVX2, AVX-512 VNNI and, under qemu, in every tier of NEON."""
from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from int8_nets import random_dynamic_graph, random_int8_graph, random_transformer_graph
from mcc.kernels import Session
from mcc.passes.lower import lower
from mcc.passes.ops.run import run
from mcc.passes.quantize.simulate import Simulation

SEEDS = range(24)
QEMU_SEEDS = range(10)
CORES = ("cortex-a53", "cortex-a76", "max,sve=off,sme=off")
ISAS = (None, "avx512 avx512vnni avx512vbmi", "avx512", "avx2", "c")
INTEGER = {"qlinear", "nhwc_qconv", "qadd", "qmul", "qlut", "nhwc_qavg_pool", "nhwc_qresize", "qsoftmax", "qlayer_norm",
           "qgroup_norm", "qattention", "qmatmul"}
FLOAT = {"nhwc_conv", "linear", "add", "mul", "hard_swish", "gelu", "reduce_mean", "nhwc_avg_pool", "softmax", "layer_norm",
         "rms_norm", "group_norm", "instance_norm", "attention", "matmul", "resize"}


def case(seed: int, folder: Path, make=random_int8_graph):
    """A lowered random network, its file, an input and torch's answer."""
    graph = make(seed)
    feed = np.random.default_rng(seed).standard_normal(graph.inputs[0].shape).astype(np.float32) * 2
    path = folder / f"net{seed}.mcc"
    lowered = lower(graph, path)
    want = next(iter(run(lowered, {"x": torch.from_numpy(feed)}).values())).numpy()
    return graph, lowered, path, feed, want


@pytest.mark.parametrize("seed", SEEDS)
def test_x86(seed, tmp_path):
    graph, lowered, path, feed, want = case(seed, tmp_path)
    floats = {n.op for n in lowered.nodes} & FLOAT
    assert not floats, f"left in float: {floats}"
    assert INTEGER & {n.op for n in lowered.nodes}
    # The integers are also what the QDQ graph means, but for rounding at the ties: one step of the output's scale per layer.
    qdq = next(iter(run(graph, {"x": torch.from_numpy(feed)}).values())).numpy()
    assert np.median(np.abs(want - qdq)) <= 0.05 * np.ptp(qdq) + 0.1
    for isa in ISAS:
        for threads in (1, 2):
            got = next(iter(Session(str(path), threads=threads, isa=isa).run({"x": feed}).values()))
            assert got.tobytes() == want.tobytes(), f"isa {isa}, {threads} threads"


@pytest.mark.parametrize("seed", SEEDS)
def test_transformer_x86(seed, tmp_path):
    """Integer from end to end: between the first quantize and the last dequantize nothing computes in float."""
    graph, lowered, path, feed, want = case(seed, tmp_path, random_transformer_graph)
    ops = [n.op for n in lowered.nodes]
    assert ops.count("quantize_linear") == 1 and ops[0] == "quantize_linear" and ops.count("dequantize_linear") <= 1, ops
    assert set(ops) <= INTEGER | {"quantize_linear", "dequantize_linear", "transpose", "reshape"}, ops
    assert "notes" not in lowered.meta
    qdq = next(iter(run(graph, {"x": torch.from_numpy(feed)}).values())).numpy()
    assert np.abs(want - qdq).mean() <= 0.05 * np.ptp(qdq) + 1e-6
    for isa in ISAS:
        for threads in (1, 2):
            got = next(iter(Session(str(path), threads=threads, isa=isa).run({"x": feed}).values()))
            assert got.tobytes() == want.tobytes(), f"isa {isa}, {threads} threads"


@pytest.mark.parametrize("seed", SEEDS)
def test_dynamic_x86(seed, tmp_path):
    """Activations quantized while running: float32 between the layers, and still the same bytes."""
    graph, lowered, path, feed, want = case(seed, tmp_path, random_dynamic_graph)
    layers = [n.op for n in lowered.nodes]
    assert layers.count("dynamic_quantize_linear") == layers.count("dqlinear") + layers.count("nhwc_dqconv") > 2, layers
    given = next(iter(run(graph, {"x": torch.from_numpy(feed)}).values())).numpy()  # step by step, as the ONNX graph says
    assert np.abs(want - given).max() <= 1e-6 * np.ptp(given)
    for isa in ISAS:
        for threads in (1, 2):
            got = next(iter(Session(str(path), threads=threads, isa=isa).run({"x": feed}).values()))
            assert got.tobytes() == want.tobytes(), f"isa {isa}, {threads} threads"


@pytest.mark.parametrize("make", (random_int8_graph, random_transformer_graph))
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_trained_is_what_runs(seed, make, tmp_path):
    """The simulation that quantize.qat trains in gives the engine's bytes, in training and out of it."""
    graph, _, path, feed, want = case(seed, tmp_path, make)
    module = Simulation(graph, {}, {}, learn=False)
    for training in (True, False):
        with torch.no_grad():
            assert module.train(training)({"x": torch.from_numpy(feed)}).numpy().tobytes() == want.tobytes()
    got = next(iter(Session(str(path)).run({"x": feed}).values()))
    assert got.tobytes() == want.tobytes()


def test_every_integer_op_is_drawn(tmp_path):
    drawn = set()
    for seed in SEEDS:
        drawn |= {n.op for make in (random_int8_graph, random_transformer_graph) for n in lower(make(seed)).nodes}
    assert INTEGER <= drawn, INTEGER - drawn


@pytest.mark.parametrize("core", CORES)
def test_arm64(core, arm64_runner, tmp_path):
    for seed, make in itertools.product(QEMU_SEEDS, (random_int8_graph, random_dynamic_graph, random_transformer_graph)):
        graph, _, path, feed, want = case(seed, tmp_path, make)
        np.save(tmp_path / "x.npy", feed)
        subprocess.run(["qemu-aarch64", "-cpu", core, arm64_runner, path, "--input", tmp_path / "x.npy",
                        "--output", tmp_path / "y.npy"], check=True, stdout=subprocess.DEVNULL)
        got = np.load(tmp_path / "y.npy")
        assert got.tobytes() == want.tobytes(), f"{graph.name} on {core}"
