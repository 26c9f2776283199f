"""The arena: mcc and its peers on the same networks, interleaved, outputs checked first. `make bench` runs it.

    python tests/bench/compare.py [--networks a,b] [--runtimes onnxruntime,...] [--precisions fp32,int8,bf16,avx2]
                                  [--threads 1 2] [--seconds 0.6] [--resume] [--no-cold] [--only-report]

Every runtime is a process of its own (cli/rivals), kept on the same cores, waiting for its pipe while another is timed.
A cell is network x precision x threads: each runtime opens its variants (int8: static and dynamic), those whose outputs
are wrong are put aside, the fastest variant goes on, then all run short bursts in turn, forward and backward. A ratio is
theirs / ours: above 1 mcc is faster. Ratios between 0.95 and 1 are measured twice more.

Results: build/bench/results.json (kept cell by cell; --resume goes on with the cells that are missing), the table on
stdout, and the section between the marker lines of tests/bench/RESULTS.md.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import cold
import convert
import results
import sources
from mcc.cli import rivals
from mcc.cli.engine import quantiles

JSON = sources.ROOT / "build" / "bench" / "results.json"
ROUNDS = 6
MINE = {"fp32": ("",), "avx2": ("",), "bf16": ("",), "int8": ("static", "dynamic")}
AVX2 = ("mobilenet_v2", "resnet50")  # also measured with everything above AVX2 switched off, where a runtime can do that
AVX2_LIMIT = {"openvino": {"ONEDNN_MAX_CPU_ISA": "AVX2"}}
FP32_ERROR, CORRELATION = 1e-3, {"int8": 0.95, "bf16": 0.99, "fp16": 0.99}


def agreement(precision: str, want: list, got: list) -> dict:
    """float32: the largest difference as a share of each output's range; others: the correlation with the float32 output."""
    worst = {"check": "error" if precision in ("fp32", "avx2") else "correlation", "value": 0.0, "ok": False}
    if len(want) != len(got) or any(a.size != np.asarray(b).size for a, b in zip(want, got)):
        return {**worst, "value": None}
    values = []
    for a, b in zip(want, got):
        a, b = a.astype(np.float64).ravel(), np.asarray(b, np.float64).ravel()
        if worst["check"] == "error":
            values.append(float(np.abs(a - b).max()) / (float(np.ptp(a)) or float(np.abs(a).max()) or 1.0))
        elif a.size > 1 and np.ptp(a) > 0:
            values.append(float(np.corrcoef(a, b)[0, 1]) if np.ptp(b) > 0 else 0.0)
        else:  # one number has no correlation
            values.append(1 - float(np.abs(a - b).max()) / max(float(np.abs(a).max()), 0.1))
    if not np.isfinite(values).all():
        return {**worst, "value": None}
    if worst["check"] == "error":
        return {**worst, "value": max(values), "ok": max(values) <= FP32_ERROR}
    return {**worst, "value": min(values), "ok": min(values) >= CORRELATION[precision]}


class Arena:
    """The processes, by runtime and variant."""

    def __init__(self, threads: int):
        self.threads, self.cores, self.peers = threads, rivals.cores(threads), {}

    def peer(self, runtime: str, variant: str, precision: str) -> rivals.Peer:
        key = runtime, variant, precision == "avx2"
        if key not in self.peers:
            python = sys.executable if runtime == "mcc" else convert.python(convert.RUNS[runtime])
            more = AVX2_LIMIT.get(runtime, {}) if precision == "avx2" else {}
            self.peers[key] = rivals.Peer(runtime, python, self.cores, more)
        return self.peers[key]

    def stop(self) -> None:
        for peer in self.peers.values():
            peer.stop()

    def cell(self, name: str, precision: str, runtimes: list[str], seconds: float) -> list[dict]:
        """The rows of one cell, mcc first."""
        inputs, want = sources.data(sources.obtain(name))
        rows, running = [], {}
        for runtime in ["mcc", *runtimes]:
            row, peer = self._best(name, runtime, precision, inputs, want)
            rows.append(row)
            if peer is not None:
                running[runtime] = row, peer
        if "mcc" in running:
            again = 0
            self._race(running, seconds)
            while again < 2 and any(0.95 <= r["ratio"] < 1 for r in rows if "ratio" in r):
                again += 1
                self._race(running, seconds)
        else:
            for row, _ in running.values():
                row["error"] = "not timed: mcc has no right output to compare with"
        for peer in self.peers.values():
            if peer.process is not None:
                try:
                    peer.close()
                except rivals.PeerError:
                    pass
        return rows

    def _best(self, name: str, runtime: str, precision: str, inputs: dict, want: list):
        """The fastest variant whose outputs are right, open; or a row that says why there is none."""
        mine = runtime == "mcc"
        kind = "fp32" if precision == "avx2" else precision
        variants = MINE[precision] if mine else rivals.RIVALS[runtime].precisions.get(kind, ())
        found, refused = [], []
        for variant in variants:
            made = convert.mcc_file(name, precision, variant) if mine else convert.entry(name, runtime, precision, variant)
            row = {"network": name, "precision": precision, "threads": self.threads, "runtime": runtime, "variant": variant}
            if "error" in made:
                refused.append({**row, "error": f"not converted: {made['error']}"})
                continue
            peer = self.peer(runtime, variant, precision)
            try:
                opened = peer.open(made["file"], precision, self.threads, inputs, variant)
                row |= {"bytes": made.get("bytes") or os.path.getsize(made["file"]), "says": opened["says"],
                        **agreement(precision, want, opened["outputs"])}
                if not row["ok"]:
                    value = "no number or another shape" if row["value"] is None else f"{row['check']} {row['value']:.3g}"
                    refused.append({**row, "error": f"wrong output: {value}"})
                    continue
                found.append((statistics.median(peer.burst(0.1, 3)) if len(variants) > 1 else 0.0, len(found), row, peer))
            except rivals.PeerError as e:
                refused.append({**row, "error": f"does not run: {e}"})
        if found:
            chosen = min(found)
            if refused:  # of the other variant
                chosen[2]["refused"] = {r["variant"]: r["error"] for r in refused}
            return chosen[2:]
        if not variants:
            return {"network": name, "precision": precision, "threads": self.threads, "runtime": runtime, "variant": "",
                    "error": f"no {precision}"}, None
        return refused[0], None

    def _race(self, running: dict, seconds: float) -> None:
        """Bursts in turn; writes times and ratios into the rows, `ratios` gets one more."""
        spent: dict[str, list[list[float]]] = {name: [] for name in running}
        for turn in range(ROUNDS):
            for name in list(running) if turn % 2 == 0 else reversed(list(running)):
                row, peer = running[name]
                try:
                    spent[name].append(peer.burst(seconds / ROUNDS, least=2))
                except rivals.PeerError as e:
                    row["error"] = f"does not run: {e}"
                time.sleep(rivals.SETTLE)
        ours = statistics.median(t for burst in spent["mcc"] for t in burst)
        for name in [n for n in running if "error" in running[n][0]]:
            del running[name]
        for name, (row, _) in running.items():
            row |= quantiles([t for burst in spent[name] for t in burst])
            if name != "mcc":
                row.setdefault("ratios", []).append(row["median"] / ours)
                row["ratio"] = statistics.median(row["ratios"])
                pairs = sorted(statistics.median(a) / statistics.median(b) for a, b in zip(spent[name], spent["mcc"]))
                row["ratio_p10"], row["ratio_p90"] = (pairs[round(q * (len(pairs) - 1))] for q in (0.1, 0.9))


def machine() -> dict:
    from mcc.kernels import isa, peak
    name = platform.processor() or platform.machine()
    try:
        name = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=sources.ROOT, capture_output=True, text=True,
                            check=False)
    return {"cpu": name, "cores": usable, "isa": isa(), "peak": {w: peak(w) for w in ("f32", "bf16", "s8", "copy")},
            "commit": commit.stdout.strip(), "date": time.strftime("%Y-%m-%d")}


def versions(runtimes: list[str]) -> dict[str, str]:
    made = {}
    for name in runtimes:
        with rivals.Peer(name, convert.python(convert.RUNS[name])) as peer:
            try:
                made[name] = peer.facts()["version"]
            except rivals.PeerError as e:
                made[name] = f"does not start: {e}"
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default="", help="names, separated by commas; real models as real/NAME")
    parser.add_argument("--runtimes", default=",".join(rivals.RIVALS))
    parser.add_argument("--precisions", default="fp32,int8,bf16,avx2")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=0.6, help="of running, for each runtime and cell")
    parser.add_argument("--resume", action="store_true", help="keep the cells that are in the results already")
    parser.add_argument("--no-cold", action="store_true", help="leave out cold start and memory")
    parser.add_argument("--only-report", action="store_true", help="write the tables from the results that are there")
    parser.add_argument("--json", type=Path, default=JSON)
    parser.add_argument("--markdown", type=Path, default=Path(__file__).resolve().parent / "RESULTS.md")
    options = parser.parse_args()
    kept = json.loads(options.json.read_text()) if options.json.exists() and (options.resume or options.only_report) else {}
    found = {"schema": 1, "machine": {}, "versions": {}, "rows": [], "cold": [], **kept}
    if not options.only_report:
        measure(options, found)
    text = results.markdown(found)
    print(text)
    if options.markdown.exists():
        results.replace_section(options.markdown, text)


def measure(options, found: dict) -> None:
    for name in ("OPENBLAS_CORETYPE", "OMP_NUM_THREADS"):
        os.environ.pop(name, None)
    names = options.networks.split(",") if options.networks else sources.names()
    unknown = [n for n in names if n not in sources.names()]
    runtimes = [r for r in options.runtimes.split(",") if r]
    unknown += [r for r in runtimes if r not in rivals.RIVALS]
    if unknown:
        raise SystemExit(f"no such network or runtime: {', '.join(unknown)}")
    for r in [r for r in runtimes if not convert.installed(r)]:
        print(f"{r}: build/{convert.RUNS[r]} is not there; left out", file=sys.stderr)
        runtimes.remove(r)
    for name in names:  # what is missing is made before any clock runs
        for precision in options.precisions.split(","):
            for r in runtimes:
                for variant in rivals.RIVALS[r].precisions.get(precision, ()):
                    convert.entry(name, r, precision, variant)
            for variant in MINE[precision] if precision != "avx2" or name in AVX2 else ():
                convert.mcc_file(name, precision, variant)
    convert.stop()
    found["machine"], found["versions"] = machine(), {**found["versions"], **versions(runtimes)}
    done = {(r["network"], r["precision"], r["threads"]) for r in found["rows"]}
    for threads in options.threads:
        arena = Arena(threads)
        try:
            for name in names:
                for precision in options.precisions.split(","):
                    if (name, precision, threads) in done or (precision == "avx2" and name not in AVX2):
                        continue
                    if name.startswith("real/") and precision == "bf16":
                        continue
                    some = [r for r in runtimes if precision != "avx2" or r in AVX2_LIMIT]
                    rows = arena.cell(name, precision, some, options.seconds)
                    found["rows"] += rows
                    print(results.progress(rows), file=sys.stderr, flush=True)
                    save(options.json, found)
        finally:
            arena.stop()
    if not options.no_cold:
        found["cold"] = cold.measure([n for n in cold.NETWORKS if n in names], runtimes)
    save(options.json, found)


def save(path: Path, found: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".tmp").write_text(json.dumps(found, indent=1))
    os.replace(path.with_suffix(".tmp"), path)


if __name__ == "__main__":
    main()
