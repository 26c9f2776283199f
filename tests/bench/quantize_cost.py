"""What the files of quantize_real.py cost to run: time on this machine, in turn, and instructions on arm64 under emulation.

    python tests/bench/quantize_real.py --files build/quantize-real --json build/quantize_real.json
    python tests/bench/quantize_cost.py count [--models '*']     instructions, kept in build/quantize-real/MODEL/arm64.json
    python tests/bench/quantize_cost.py table [--models '*']     times all files in turn and prints the table

One thread, one sample of the size the model is used with; in brackets float32's time or instructions over the row's. onnxruntime
runs its own int8 file.
"""
from __future__ import annotations

import argparse
import json
from fnmatch import fnmatch
from pathlib import Path

import emulation
from mcc.cli.engine import quantiles, session, times
from real_models import REAL, inputs

ROWS, CORES = ("float", "int8", "w4a8"), ("cortex-a53", "cortex-a76")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["count", "table"])
    parser.add_argument("--models", default="*")
    parser.add_argument("--files", type=Path, default=Path("build/quantize-real"))
    options = parser.parse_args()
    names = [n for n in REAL if fnmatch(n, options.models) and (options.files / n / "int8.mcc").exists()]
    if options.what == "table":
        print("| model | | ms | " + " | ".join(f"{c}, M instructions" for c in CORES) + " |\n" + "|---" * (3 + len(CORES)) + "|")
    for name in names:
        count(name, options.files / name) if options.what == "count" else table(name, options.files / name)


def count(name: str, folder: Path) -> None:
    found = {row: {core: emulation.mcc(folder / f"{row}.mcc", inputs(name), core).instructions for core in CORES}
             for row in ROWS if (folder / f"{row}.mcc").exists()}
    (folder / "arm64.json").write_text(json.dumps(found))


def table(name: str, folder: Path) -> None:
    feeds, calls = inputs(name), {}
    for row in ROWS:
        if (folder / f"{row}.mcc").exists():
            calls[row] = lambda net=session(folder / f"{row}.mcc"): net.run(feeds)
    if (folder / "ort.onnx").exists():
        calls["onnxruntime int8"] = _peer(folder / "ort.onnx", feeds)
    spent: dict[str, list[float]] = {row: [] for row in calls}
    for _ in range(6):
        for row, call in calls.items():
            spent[row] += times(call, seconds=0.04, least=2, most=200, warm=1)
    ms = {row: quantiles(t)["median"] for row, t in spent.items()}
    kept = folder / "arm64.json"
    counts = json.loads(kept.read_text()) if kept.exists() else {}
    for row, t in ms.items():
        have = counts.get(row, {})
        cells = [f"{have[c] / 1e6:.2f} ({counts['float'][c] / have[c]:.2f}x)" if c in have else "" for c in CORES]
        print(f"| {name} | {row} | {t:.4f} ({ms['float'] / t:.2f}x) | {' | '.join(cells)} |", flush=True)


def _peer(path: Path, feeds: dict):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    net = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: net.run(None, feeds)


if __name__ == "__main__":
    main()
