"""Transformers with ever more ops in integers: bytes, instructions of an inference on arm64, and the distance to float32.

    python tests/bench/integer_transformer.py [tinybert4 minilm_l6 ...]
    python tests/bench/integer_transformer.py trained [times]

The first has random weights (models.py) and 128 words: how much accuracy a trained model loses is not said there, but the cosine
of the outputs, of the engine on this machine to torch in float32. The second is the public sentence encoder all-MiniLM-L6-v2,
calibrated on 256 sentences of film reviews, judged by the cosine of its embeddings to the float ones on 500 others; its files
stay in build/bench/integer-transformer, `times` runs them in turn. Instructions are counted under emulation.
"""
from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import emulation
import models
import numpy as np
import sources
from mcc.cli.engine import evaluate, session
from mcc.passes import load, lower
from mcc.passes.base import Context
from mcc.passes.data import open_data
from mcc.passes.metrics import find as find_metric
from mcc.passes.metrics import interval, paired_interval
from mcc.passes.onnx_io import from_torch
from mcc.passes.quantize.places import NORMS, ROWS
from mcc.passes.quantize.ptq import PTQ, quantize_graph
from mcc.passes.report import Scorer
from mcc.passes.zoo import minilm
from trained import race

BASE = ["gelu", *sorted(ROWS)]  # the default also has attention as integers
WAYS = {"layers alone": BASE, "attention too (default)": PTQ().float_ops, "everything (`float_ops: []`)": []}


def without(*ops: str) -> list[str]:
    return [op for op in BASE if op not in ops]


# Options of quantize.ptq, None: float32. Layers whose scales are made while running have no integer neighbours.
TRAINED: dict[str, dict | None] = {
    "float32": None,
    "dynamic, as the recipe has it": {"activations": "dynamic"},
    "static, layers alone": {"float_ops": BASE},
    "static, attention too": {"float_ops": without("attention")},
    "static, attention, softmax, matmul too": {"float_ops": without("attention", "softmax", "matmul")},
    "static, attention, GELU too": {"float_ops": without("attention", "gelu")},
    "static, norms too": {"float_ops": without(*NORMS)},
    "static, everything (`float_ops: []`)": {"float_ops": []},
    "static, layers alone, smooth 0.5": {"float_ops": BASE, "smooth": 0.5},
    "static, attention too, smooth 0.5": {"float_ops": without("attention"), "smooth": 0.5},
}
OUT, WORDS = Path("build/bench/integer-transformer"), 128


def main() -> None:
    if sys.argv[1:2] == ["trained"]:
        times() if sys.argv[2:] == ["times"] else trained()
        return
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


def trained() -> None:
    """Every way of TRAINED that is not known yet: file, cosines, instructions; then the table."""
    import torch
    OUT.mkdir(parents=True, exist_ok=True)
    file, found = OUT / "found.json", {}
    if file.exists():
        found = json.loads(file.read_text())
    names = ["input_ids", "attention_mask"]
    data = open_data({"source": "sentences", "length": WORDS, "limit": {"test": 500}}, inputs=names)
    example = [torch.ones(2, WORDS, dtype=torch.int64) for _ in names]
    graph = from_torch(minilm(pretrained=True), example, {k: {0: "N"} for k in names}, names)
    ctx = Context(graph, data)
    scorer = Scorer(data, find_metric("cosine"), graph)
    inputs = {k: v.numpy() for k, v in next(data.batches("test", 1))[0].items()}
    for way, how in TRAINED.items():
        if way in found:
            continue
        options, path = PTQ(**how or {}), _file(way)
        made = graph if how is None else quantize_graph(graph, options.batches(graph, ctx), options, ctx)
        lower(made, path, bind={"N": 1})
        scores = scorer.engine(lambda p, batches: evaluate(p, batches), path)
        counts = {core: emulation.mcc(path, inputs, core).instructions for core in ("cortex-a53", "cortex-a76")}
        found[way] = {"bytes": path.stat().st_size, "scores": scores.tolist(), "instructions": counts}
        file.write_text(json.dumps(found))
        print(f"{way}: {scores.mean():.5f}, {counts}", file=sys.stderr, flush=True)
    head = "| integers | bytes | cosine to float32 (95 %) | to the layers alone (95 %) | Cortex-A53 | Cortex-A76 |"
    print(head + "\n" + "|---" * head[1:].count("|") + "|")
    for way, row in found.items():
        scores, base = (np.array(r["scores"]) for r in (row, found["static, layers alone"]))
        value, difference = interval(scores, find_metric("cosine")), paired_interval(scores, base)
        print(f"| {way} | {row['bytes']:,} | {value[0]:.4f} [{value[1]:.4f}, {value[2]:.4f}] | {difference[0]:+.5f} "
              f"[{difference[1]:+.5f}, {difference[2]:+.5f}] | "
              + " | ".join(f"{n / 1e6:.1f} M" for n in row["instructions"].values()) + " |")


def times() -> None:
    """Milliseconds of the files of `trained`, in turn."""
    ways = [w for w in TRAINED if _file(w).exists()]
    for way, ms in zip(ways, race([_file(w) for w in ways], rounds=8, seconds=0.1)):
        print(f"| {way} | {ms:.3f} ms |")


def _file(way: str) -> Path:
    return OUT / f"{''.join(c if c.isalnum() else '-' for c in way)}.mcc"


if __name__ == "__main__":
    main()
