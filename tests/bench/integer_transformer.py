"""Transformers with ever more ops in integers: bytes, instructions of an inference on arm64, and the distance to float32.

    python tests/bench/integer_transformer.py [tinybert4 minilm_l6 ...]

Random weights (models.py), 128 words: how much accuracy a trained model loses is not said here, but the cosine of the outputs, of
the engine on this machine to torch in float32. Instructions are counted under emulation, ops sorted by what they cost.
"""
from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import emulation
import models
import numpy as np
import sources
from mcc.cli.engine import session
from mcc.passes import load, lower
from mcc.passes.quantize.ptq import PTQ, quantize_graph

DEFAULT = PTQ().float_ops
WAYS = {"default": DEFAULT, "attention too": [op for op in DEFAULT if op != "attention"], "everything (`float_ops: []`)": []}


def main() -> None:
    print("| network | integers | bytes | A53 | A76 | i8mm | cosine to float32 |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or ("tinybert4", "minilm_l6"):
            source = sources.obtain(name)
            inputs, want = sources.data(source)
            graph = load(models.export_onnx(name))  # with attention as one op
            bind = {d: n for v in graph.inputs for d, n in zip(v.shape, inputs[v.name].shape) if isinstance(d, str)}
            for way, floats in (("none", None), *WAYS.items()):
                file = Path(folder) / f"{name}.mcc"
                made = graph if floats is None else quantize_graph(graph, sources.samples(source), PTQ(float_ops=floats))
                lower(made, file, bind=bind)
                got = list(session(file).run(inputs).values())
                counts = [emulation.mcc(file, inputs, core).instructions / 1e6 for core in emulation.CORES]
                print(f"| {name} | {way} | {file.stat().st_size:,} | {' | '.join(f'{c:.1f} M' for c in counts)} | "
                      f"{cosine(got[0], want[0]):.5f} |", flush=True)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


if __name__ == "__main__":
    main()
