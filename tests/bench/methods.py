"""Every quantizing pass on a public model with labels: bytes, accuracy of the lowered file, time, instructions on arm64.

    python tests/bench/methods.py [--rows '*bit*'] [--out build/bench/methods] [--times]

The model is the digit recognizer as its package ships it (real_models.py), 10,000 digits (2,000 of them to test with, never
trained or calibrated on). Rows that train do so on the 8,000 others. Without --times rows are made, scored and counted (what
is there already is kept); with it the files are timed in turn and the table is printed. Instructions are those of one
inference on a core under emulation, float32's over the row's beside them.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import emulation
import numpy as np
import torch
from mcc.passes import find, lower
from mcc.passes.base import Context
from mcc.passes.data import open_data
from mcc.passes.metrics import METRICS, paired_interval
from quantize import ratios, scores
from real_models import graph_of

TRAIN = {"batch": 64, "optimizer": "adamw", "schedule": "cosine"}
TUNE = {"epochs": 4, "lr": 3e-4}
CORES = ("cortex-a53", "cortex-a76")
ROWS: list[tuple[str, str, dict]] = [
    ("ptq, int8", "quantize.ptq", {}),
    ("ptq, int8, dynamic", "quantize.ptq", {"activations": "dynamic"}),
    ("ptq, w4a8, gptq", "quantize.ptq", {"weight_bits": 4, "rounding": "gptq"}),
    ("ptq, w3a8, brecq", "quantize.ptq", {"weight_bits": 3, "rounding": "brecq"}),
    ("qat, int8", "quantize.qat", {"teacher": "original", "epochs": 1, "lr": 1e-4}),
    ("qat, w3a8", "quantize.qat", {"weight_bits": 3, "teacher": "original", "epochs": 2, "lr": 3e-4}),
    ("mixed, an eighth of the bytes and a bit", "quantize.mixed", {"bytes": 0.135}),
    ("weight_only, 8 bit", "quantize.weight_only", {"bits": 8}),
    ("weight_only, 4 bit", "quantize.weight_only", {"bits": 4}),
    ("codebook, 4 bit", "quantize.codebook", {"bits": 4}),
    ("codebook, 3 bit", "quantize.codebook", {"bits": 3}),
    ("codebook, 2 bit", "quantize.codebook", {"bits": 2}),
    ("codebook, 2 bit, trained", "quantize.codebook", {"bits": 2, **TUNE}),
    ("codebook, 1 bit, trained", "quantize.codebook", {"bits": 1, **TUNE}),
]


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="*")
    parser.add_argument("--out", type=Path, default=Path("build/bench/methods"))
    parser.add_argument("--times", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.times:
        table(options.out)
        return
    data, graph = open_data({"source": "mnist"}, 0, ["x"]), graph_of("digit-recognizer")
    feeds = {"x": next(data.batches("test", 1))[0]["x"].numpy()}
    for label, name, how in [("float32", "", {}), *ROWS]:
        facts = options.out / f"{slug(label)}.json"
        if facts.exists() or not fnmatch(label, options.rows) and name:
            continue
        began, ctx = time.process_time(), Context(graph, data, train=TRAIN, seed=0)
        made = find(name)(**how).run(graph, ctx) if name else graph
        seconds, path = time.process_time() - began, facts.with_suffix(".mcc")
        lower(made, path, bind={"N": 1})
        counts = {core: emulation.mcc(path, feeds, core).instructions for core in CORES}
        row = {"label": label, "scores": scores(path, data).tolist(), "bytes": path.stat().st_size, "seconds": seconds,
               "instructions": counts, "identical": ctx.notes.get("identical")}
        facts.write_text(json.dumps(row))
        print(f"{label}: {np.mean(row['scores']):.4f}, {row['bytes']:,}, {counts}", file=sys.stderr, flush=True)


def slug(label: str) -> str:
    return label.replace(",", "").replace(" ", "-")


def table(folder: Path) -> None:
    found = [json.loads(f.read_text()) for label in ["float32", *(r[0] for r in ROWS)]
             if (f := folder / f"{slug(label)}.json").exists()]
    x = next(open_data({"source": "mnist"}, 0, ["x"]).batches("test", 1))[0]["x"].numpy()
    speed, first = ratios([folder / f"{slug(r['label'])}.mcc" for r in found], x), found[0]
    print("| | bytes | smaller | accuracy | points to float32 (95 %) | faster | " +
          " | ".join(f"{core}, M instructions" for core in CORES) + " | CPU seconds |\n" + "|---" * (7 + len(CORES)) + "|")
    for row, fast in zip(found, speed):
        d = paired_interval(np.array(row["scores"]), np.array(first["scores"]), METRICS["accuracy"])
        points = "{:+.2f} [{:+.2f}, {:+.2f}]".format(*(100 * v for v in d)) if row is not first else ""
        counts = [f"{n / 1e6:.2f} ({first['instructions'][core] / n:.2f}x)" for core, n in row["instructions"].items()]
        print(f"| {row['label']} | {row['bytes']:,} | {first['bytes'] / row['bytes']:.2f}x | {np.mean(row['scores']):.4f} | "
              f"{points} | {fast:.2f}x | {' | '.join(counts)} | {row['seconds']:.0f} |")


if __name__ == "__main__":
    main()
