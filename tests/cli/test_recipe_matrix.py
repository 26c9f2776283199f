"""`mcc compress` whole, once for every pass that `mcc passes` lists: a recipe as people write it, a tiny model, the engine.

The rows are made from PASSES: a new pass runs with its defaults on the first of the networks that it has something to do on.
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from mcc.kernels import Session
from mcc.passes import PASSES, find
from mcc.passes.distill.encoder import encoder_example
from mcc.passes.onnx_io import export

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from networks import blocks, cnn

NETS = {"blocks": blocks, "cnn": cnn, "encoder": lambda: encoder_example(3, width=32, heads=4, length=8)}
# What a pass needs besides its defaults to have an effect on a network this small.
OPTIONS = {
    "structure.low_rank": "whiten: true, samples: 16, epochs: 0.5",
    "structure.small_kernels": "steps: 3",
    "prune.weights": "sparsity: 0.8, epochs: 0.5",
    "prune.blocks": "pattern: 1x4, sparsity: 0.75, scope: layer",
    "prune.channels": "macs: 0.5, multiple: 1",
    "quantize.ptq": "samples: 32",
    "quantize.qat": "epochs: 0.5",
    "quantize.codebook": "bits: 2, min_size: 16",
    **{f"distill.{name}": "epochs: 0.5" for name in ("logits", "hidden", "minilm")},
    "distill.layer_drop": "epochs: 0.5",
    "distill.tinybert": "epochs: 0.5, prediction_epochs: 0.5",
}
SAME_SIZE = ("distill.logits", "distill.hidden", "distill.tinybert", "distill.minilm")  # only train what there is


@pytest.mark.parametrize("name", PASSES)
def test_recipe(name, tmp_path, monkeypatch, mcc):
    monkeypatch.chdir(tmp_path)
    graph = next(g for g in (make() for make in NETS.values()) if find(name)().matches(g))
    export(graph, "net.onnx")
    r, shape = np.random.default_rng(0), graph.inputs[0].shape[1:]
    classes = graph.outputs[0].shape[1]
    np.savez("data.npz", x=r.standard_normal((96, *shape)).astype(np.float32), labels=r.integers(0, classes, 96))
    size = "" if name in SAME_SIZE else 'expect: {size: "< original"}\n'
    Path("r.yaml").write_text(f"""
version: 1
model: net.onnx
data: {{source: npz, path: data.npz, batch: 16}}
train: {{epochs: 1, lr: 1e-3}}
passes:
  - {name}: {{{OPTIONS.get(name, "")}}}
{size}output: out
""")
    code, out, err = mcc("compress", "r.yaml", "--json")
    assert code == 0, err
    report = json.loads(out)
    stage, = (s for s in report["stages"] if s["pass"] == name)
    assert stage["bytes"] == report["final"]["bytes"] == Path("out/model.mcc").stat().st_size
    assert {"params", "nonzero", "macs", "metric", "metric_ci95", "latency_ms"} <= stage.keys()
    session = Session("out/model.mcc")
    x = r.standard_normal(session.inputs[0].shape).astype(np.float32)
    y = next(iter(session.run({session.inputs[0].name: x}).values()))
    assert y.shape == (1, classes) and np.isfinite(y).all()
