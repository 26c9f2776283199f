"""One linear layer with its weights in fewer bits, against float32 and dynamic int8, all in turn on one thread.

    python tests/bench/lowbit.py [ROWSxINPUTSxOUTPUTS...]      (1, 4 and 16 rows of 4096 x 4096 by default)

Random weights: it shows time and bytes, not accuracy. Printed are float32's time and, for the others, how many times as
fast they are and how many times as small their file.
"""
from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mcc.kernels import Session
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower import lower

RUNS = 30
KINDS = ("fp32", "int8", "w8", "w4", "1 bit", "2 bit", "4 bit")


def layer(rows: int, inputs: int, outputs: int, kind: str) -> Graph:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((outputs, inputs)).astype(np.float32)
    meta = {}
    if kind.endswith("bit"):
        bits = int(kind[0])
        weight = rng.standard_normal(2 ** bits).astype(np.float32)[rng.integers(0, 2 ** bits, weight.shape)]
        meta = {"codebook": {"bits": bits, "groups": 1}}
    x, y = Value("x", "float32", (rows, inputs)), Value("y", "float32", (rows, outputs))
    return Graph([x], [y], [Node("linear", [x, constant("w", weight, **meta)], [y], name="fc")])


def clock(session: Session, feed) -> float:
    start = time.perf_counter()
    session.run(feed)
    return time.perf_counter() - start


def row(rows: int, inputs: int, outputs: int, folder: Path) -> str:
    feed = {"x": np.random.default_rng(1).standard_normal((rows, inputs)).astype(np.float32)}
    sessions, sizes = {}, {}
    for kind in KINDS:
        path = folder / f"{kind}.mcc"
        lower(layer(rows, inputs, outputs, kind), path, precision="fp32" if kind.endswith("bit") else kind)
        sessions[kind], sizes[kind] = Session(str(path), threads=1), path.stat().st_size
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(RUNS):
        for kind, session in sessions.items():
            times[kind].append(clock(session, feed))
    t = {kind: statistics.median(v) for kind, v in times.items()}
    cells = [f"{t['fp32'] / t[k]:.2f}x, {sizes['fp32'] / sizes[k]:.1f}x smaller" for k in KINDS[1:]]
    return f"| {rows} x {inputs} x {outputs} | {t['fp32'] * 1e6:.0f} us | " + " | ".join(cells) + " |"


def main() -> None:
    print(f"| rows x inputs x outputs | {' | '.join(KINDS)} |")
    print("|---|" + "---|" * len(KINDS))
    for shape in sys.argv[1:] or ("1x4096x4096", "4x4096x4096", "16x4096x4096"):
        with tempfile.TemporaryDirectory() as folder:
            print(row(*map(int, shape.split("x")), Path(folder)), flush=True)


if __name__ == "__main__":
    main()
