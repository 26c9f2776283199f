"""Every prune pass from a recipe as people write it, run whole on a tiny transformer: the file shrinks and still answers."""
from __future__ import annotations

import numpy as np
import pytest
from mcc.passes import pipeline, recipe
from mcc.passes.distill.encoder import encoder_example
from mcc.passes.onnx_io import export

ROWS = [
    "prune.weights: {sparsity: 0.8, importance: lamp}",
    "prune.weights: {sparsity: 0.8, scope: erk, schedule: once, regrow: 0.3, steps: 2, epochs: 1}",
    "prune.weights: {bytes: 0.7, importance: fisher, samples: 16}",
    "prune.weights: {sparsity: 0.8, schedule: iterative, steps: 2, epochs: 0.5, rewind: 1, importance: movement}",
    "prune.blocks: {pattern: 1x4, sparsity: 0.75, scope: layer, importance: obs, samples: 16}",
    "prune.blocks: {pattern: '1:4', importance: wanda, samples: 16}",
    "prune.channels: {macs: 0.6, importance: taylor, samples: 16, multiple: 1}",
    "prune.heads: {ratio: 0.5, importance: wanda, samples: 16}",
    "prune.layers: {count: 1, samples: 16}",
    "prune.layers: {macs: 0.8, what: branches, importance: taylor, samples: 16, epochs: 0.5}",
]


@pytest.mark.parametrize("row", ROWS)
def test_recipe(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    r = np.random.default_rng(0)
    export(encoder_example(3, width=16, heads=4), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=r.standard_normal((64, 4, 8)).astype(np.float32), labels=r.integers(0, 3, 64))
    (tmp_path / "r.yaml").write_text(f"""
model: net.onnx
data: {{source: npz, path: data.npz, batch: 16}}
train: {{epochs: 1, lr: 1e-3}}
passes:
  - {row}
expect: {{size: "< original"}}
output: out
""")
    report = pipeline.run(recipe.read("r.yaml", ()))
    assert report["ok"] and report["expect"] and report["final"]["bytes"] < report["original"]["bytes"]
    assert (tmp_path / "out/model.mcc").exists()
