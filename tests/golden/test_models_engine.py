"""Whole networks on the engine, float32, against onnxruntime: one table of exports and public real models.

Each row is lowered to a file, read back by the engine, and run on one and two threads with the best kernels and with
plain C (small networks); the error is relative to the output's range.
"""
import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from mcc.kernels import Session
from mcc.passes.lower import lower
from mcc.passes.onnx_io import load

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
import models
import real_models

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")

TOLERANCE = 1e-4
TABLE = [("network", name) for name in models.MODELS] + [("real", name) for name in real_models.REAL]
C_TOO = {"ds_cnn", "mlp", "mobilenet_v3_small", "digit-recognizer", "openwakeword-alexa"}  # plain C in seconds


def reference(path: Path, feeds: dict) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(str(path), options).run(None, feeds)


def case(kind: str, name: str):
    """(Graph, inputs, onnxruntime's or torch's outputs)."""
    if kind == "network":
        path = models.export_onnx(name)
        feeds = {k: v.numpy() for k, v in models.make(name)[1].items()}
        return load(path, simplify=False), feeds, reference(path, feeds)
    reason = real_models.available(name)
    if reason:
        assert os.environ.get("CI") != "true", f"CI must run the real models: {reason}"
        pytest.skip(reason)
    feeds = real_models.inputs(name)
    if isinstance(real_models.REAL[name], real_models.OnnxFile):
        return real_models.graph_of(name), feeds, reference(real_models.onnx_path(name), feeds)
    with torch.no_grad():
        want = real_models.module_of(name)(*map(torch.from_numpy, feeds.values())).numpy()
    return real_models.graph_of(name), feeds, [want]


@pytest.mark.parametrize("kind, name", TABLE, ids=[name for _, name in TABLE])
def test_engine_agrees(kind, name, tmp_path, capsys):
    graph, feeds, want = case(kind, name)
    bind = {d: feeds[v.name].shape[i] for v in graph.inputs for i, d in enumerate(v.shape) if isinstance(d, str)}
    path = tmp_path / "model.mcc"
    lowered = lower(graph, path, bind=bind)
    assert sum(v.data is not None for v in graph.values()) and path.stat().st_size
    answers = {}
    for isa, threads in [(None, 1), (None, 2)] + ([("c", 1)] if name in C_TOO else []):
        session = Session(str(path), threads=threads, isa=isa)
        got = session.run(feeds)
        assert list(got) == [v.name for v in graph.outputs], "outputs keep their names and order"
        answers[isa, threads] = got
        error = 0.0
        for a, b in zip(got.values(), want):
            assert a.shape == b.shape and a.dtype == b.dtype
            if b.size:  # a single number has no range: its own size
                span = float(np.ptp(b.astype(np.float64))) if b.size > 1 else abs(float(b.reshape(-1)[0]))
                error = max(error, float(np.abs(a.astype(np.float64) - b).max()) / max(span, 1e-9))
        assert error <= TOLERANCE, f"isa {isa}, {threads} threads: {error:.1e} of the output's range"
    for name_, value in answers[None, 1].items():
        assert value.tobytes() == answers[None, 2][name_].tobytes(), "threads change the result"
    with capsys.disabled():
        print(f"\n  {name:24s} error {error:.1e}  nodes {len(lowered.nodes):4d}  arena {lowered.meta['arena']:>10,}", end="")
