"""mcc against onnxruntime on the benchmark networks: interleaved runs in one process, outputs checked first.

    python tests/bench/compare.py [--threads 1 2] [--seconds 2] [--networks a,b] [--json FILE]

A row is a network: the median of each runtime's times, run in turn A B A B, and the ratio theirs / ours (above 1: mcc is
faster). The int8 column is mcc's own static int8 against its float32, not against another runtime.
"""
from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import models

TOLERANCE = 1e-4  # of the output's range


def interleaved(runners: dict, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each runner, all called in turn until `seconds` times their number are over; two warm-up rounds."""
    taken: dict[str, list[float]] = {name: [] for name in runners}
    for run in list(runners.values()) * 2:
        run()
    end = time.perf_counter() + seconds * len(runners)
    while time.perf_counter() < end or len(taken[next(iter(taken))]) < 5:
        for name, run in runners.items():
            start = time.perf_counter()
            run()
            taken[name].append((time.perf_counter() - start) * 1e3)
    return taken


def network(name: str, threads: int, seconds: float, folder: Path) -> dict:
    import onnxruntime
    from mcc.kernels import Session
    from mcc.passes import load
    from mcc.passes.lower import lower
    onnx = models.export_onnx(name)
    feeds = {k: v.numpy() for k, v in models.make(name)[1].items()}
    graph = load(onnx, simplify=False)
    files = {"fp32": folder / "fp32.mcc", "int8": folder / "int8.mcc"}
    lower(graph, files["fp32"])
    lower(graph, files["int8"], precision="int8", calibration=[feeds])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    peer = onnxruntime.InferenceSession(str(onnx), options)
    ours = {kind: Session(str(file), threads=threads) for kind, file in files.items()}
    want, got = peer.run(None, feeds), list(ours["fp32"].run(feeds).values())
    error = max(float(np.abs(a - b).max() / max(float(np.ptp(b)), 1e-9)) for a, b in zip(got, want, strict=True))
    if error > TOLERANCE:
        raise SystemExit(f"{name}: the outputs differ by {error:.1e} of their range; nothing was timed")
    taken = interleaved({"onnxruntime": lambda: peer.run(None, feeds), "fp32": lambda: ours["fp32"].run(feeds),
                         "int8": lambda: ours["int8"].run(feeds)}, seconds)
    median = {k: statistics.median(v) for k, v in taken.items()}
    spread = {k: [float(q) for q in np.quantile(v, [0.1, 0.9])] for k, v in taken.items()}
    return {"network": name, "threads": threads, "error": error, "median_ms": median, "p10_p90_ms": spread,
            "ratio": median["onnxruntime"] / median["fp32"], "int8_speedup": median["fp32"] / median["int8"],
            "bytes": {k: f.stat().st_size for k, f in files.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each runtime and network")
    parser.add_argument("--networks", default=",".join(models.MODELS), help="names, separated by commas")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    rows = []
    print("| network | threads | mcc fp32 ms | onnxruntime ms | ratio | mcc int8 ms | int8 / fp32 |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks.split(","):
            for threads in options.threads:
                rows.append(row := network(name, threads, options.seconds, Path(folder)))
                m = row["median_ms"]
                print(f"| {name} | {threads} | {m['fp32']:.3f} | {m['onnxruntime']:.3f} | {row['ratio']:.2f} | {m['int8']:.3f} | "
                      f"{row['int8_speedup']:.2f} |", flush=True)
    for threads in options.threads:
        some = [r for r in rows if r["threads"] == threads]
        print(f"geometric means, {threads} thread{'s' if threads > 1 else ''}: onnxruntime / mcc "
              f"{statistics.geometric_mean(r['ratio'] for r in some):.2f}, int8 over fp32 "
              f"{statistics.geometric_mean(r['int8_speedup'] for r in some):.2f}")
    if options.json:
        options.json.write_text(json.dumps({"machine": platform.processor() or platform.machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
