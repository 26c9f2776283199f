"""Whole networks through the importer, against onnxruntime: exports of the benchmark networks and public real models."""
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mcc.passes.onnx_io import load
from mcc.passes.onnx_io.write import to_onnx
from mcc.passes.ops.run import array, run

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
import models
import real_models

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")

TOLERANCE = 1e-4  # of the output's range: the bar for the engine too
LARGE = [name for name, m in models.MODELS.items() if m.macs and m.macs > 2000]  # the engine's own table has them
# What must not be left of a network once it is imported: shape arithmetic and pieces of larger ops.
PIECES = {"shape", "constant_of_shape", "range", "identity", "erf", "size", "gather_nd"}


def session(model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(model) if isinstance(model, Path) else model.SerializeToString(), options)


def agree(got: list, want: list) -> None:
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert a.shape == b.shape and a.dtype == b.dtype
        span = max(float(b.max() - b.min()), float(abs(b).max()), 1e-9)
        assert float(abs(a.astype(np.float64) - b).max()) <= TOLERANCE * span


def outputs(graph, feeds) -> list:
    return [array(t) for t in run(graph, feeds).values()]


@pytest.mark.parametrize("name", [n for n in models.MODELS if n not in LARGE])
def test_network(name):
    path = models.export_onnx(name)
    graph = load(path, simplify=False)
    assert not PIECES & {n.op for n in graph.nodes}
    _, example = models.make(name)
    feeds = {k: v.numpy() for k, v in example.items()}
    agree(outputs(graph, feeds), session(path).run(None, feeds))
    module, _ = models.make(name)
    paths = {v.name for v in graph.constants()}
    weights = {f"{k}.weight" for k, m in module.named_modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))}
    assert weights <= paths, "weights keep their names"


@pytest.mark.parametrize("name", ["shufflenet_v2", "crnn"])
def test_network_with_a_free_batch(name):
    path = models.export_onnx(name, dynamic=True)
    graph = load(path, simplify=False)
    assert all(v.shape[0] == "N" for v in [*graph.inputs, *graph.outputs])
    assert not PIECES & {n.op for n in graph.nodes}
    _, example = models.make(name)
    feeds = {k: np.repeat(v.numpy(), 3, 0) for k, v in example.items()}
    agree(outputs(graph, feeds), session(path).run(None, feeds))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "crnn", "tinybert4"])
def test_network_there_and_back(name):
    graph = load(models.export_onnx(name), simplify=False)
    _, example = models.make(name)
    feeds = {k: v.numpy() for k, v in example.items()}
    want = outputs(graph, feeds)
    model = to_onnx(graph)
    agree(session(model).run(None, feeds), want)
    back = load(model, simplify=False)
    assert Counter(n.op for n in back.nodes) == Counter(n.op for n in graph.nodes)
    agree(outputs(back, feeds), want)


@pytest.mark.parametrize("name", real_models.REAL)
def test_real_model(name):
    reason = real_models.available(name)
    if reason:
        assert os.environ.get("CI") != "true", f"CI must run the real models: {reason}"
        pytest.skip(reason)
    graph, feeds = real_models.graph_of(name), real_models.inputs(name)
    assert not {"shape", "erf", "identity"} & {n.op for n in graph.nodes}
    if isinstance(real_models.REAL[name], real_models.OnnxFile):
        want = session(real_models.onnx_path(name)).run(None, feeds)
    else:
        with torch.no_grad():
            want = [real_models.module_of(name)(*map(torch.from_numpy, feeds.values())).numpy()]
    agree(outputs(graph, feeds), want)
    agree(session(to_onnx(graph)).run(None, feeds), want)
