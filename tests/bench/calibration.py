"""The estimates of `mcc bench --target arm64-CORE` against published times: ncnn's, of its own benchmark, on twelve devices.

    make calibration                      # or: python tests/bench/calibration.py [--devices "Apple M1"] [--networks ...]

What is predicted is ncnn's time, so what is counted is ncnn: the arm64 wheel under emulation, told that it runs on the device's
core, one thread, half precision where it would take it (ncnn_profile.py). Cycles, memory traffic and the range are made by the
code that estimates mcc's own times (cli/arm64), with the target's file and the device's clock; nothing is fitted to a row. The
published times (published-ncnn.json) are of another version of ncnn and other compilers, at clocks that a device may not have
kept. ResNet-50 in floats is published too, but was not counted on every core yet, so its column is not there. All rows, with the
misses, are written to calibration.json when none is left out; Markdown is printed.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import arm64_python
import convert
import ncnn_profile
from mcc.cli.arm64 import count, emulated, targets
from mcc.passes.errors import TargetError

HERE = Path(__file__).resolve().parent
PUBLISHED, RECORD = HERE / "published-ncnn.json", HERE / "calibration.json"
WANTED = 0.8  # of the rows, inside their range


def main() -> int:
    published = json.loads(PUBLISHED.read_text())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", default=",".join(r["device"] for r in published["rows"]))
    parser.add_argument("--networks", default=",".join(published["networks"]))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    devices = [r for r in published["rows"] if r["device"] in options.devices.split(",")]
    networks = [n for n in published["networks"] if n in options.networks.split(",")]
    try:
        rows = measure(devices, networks, published["networks"], options.jobs)
    except TargetError as e:
        print(f"calibration: {e}", file=sys.stderr)
        return 4
    if len(rows) == sum(len(r["ms"]) for r in published["rows"]):
        head = {"schema": 1, "source": published["source"], "ncnn": version(), "rows": len(rows),
                "inside": sum(r["inside"] for r in rows)}
        text = json.dumps(head)[:-1] + ', "each": [\n' + ",\n".join(" " + json.dumps(r) for r in rows) + "\n]}\n"
        RECORD.with_suffix(".tmp").write_text(text)
        os.replace(RECORD.with_suffix(".tmp"), RECORD)
    print(markdown(rows))
    return int(sum(r["inside"] for r in rows) < WANTED * len(rows))


def measure(devices: list[dict], networks: list[str], columns: list[str], jobs: int) -> list[dict]:
    """One row for each device and network. Raises TargetError."""
    if lacking := count.missing():
        raise TargetError(lacking)
    if not convert.installed("ncnn"):
        raise TargetError("build/peers is not there to make ncnn's models; make calibration makes it")
    arm64_python.make(lambda text: print(text, file=sys.stderr))
    for core in {d["target"] for d in devices}:
        arm64_python.python(core)
    for n in networks:
        ncnn_profile.file(n)
    convert.stop()
    with ThreadPoolExecutor(jobs) as pool:
        pairs = list(dict.fromkeys((n, d["target"]) for n in networks for d in devices))
        list(pool.map(lambda p: ncnn_profile.profile(*p), pairs))
    return [row(d, n, d["ms"][columns.index(n)]) for d in devices for n in networks]


def row(device: dict, network: str, published: float) -> dict:
    target = targets.find(device["target"]).model_copy(update={"clock_ghz": device["clock_ghz"]})
    region, instructions = ncnn_profile.profile(network, target.name)
    spent, model, _ = emulated.spend({0: region}, region, target)
    cycles = spent[-1] * instructions / region.instructions
    made = {"device": device["device"], "target": target.name, "clock_ghz": target.clock_ghz, "network": network,
            "precision": "int8" if network.endswith(ncnn_profile.INT8) else "fp16" if "neonfp16" in target.isa else "fp32",
            "instructions": instructions, "cycles": round(cycles), "cycle_model": model, "lines": region.lines}
    low, high = (float(f"{t:.4g}") for t in emulated.milliseconds(made["cycles"], region.lines, target))
    return {**made, "low_ms": low, "high_ms": high, "published_ms": published, "inside": low <= published <= high}


def version() -> str:
    return re.search(r"^ncnn==(\S+)", arm64_python.WHEELS.read_text(), re.MULTILINE)[1]


def markdown(rows: list[dict]) -> str:
    """A line for each device, a column for each network: published ms, predicted range; misses are bold."""
    devices, networks = (list(dict.fromkeys(r[k] for r in rows)) for k in ("device", "network"))
    at = {(r["device"], r["network"]): r for r in rows}
    lines = [f"| published ms, predicted range | {' | '.join(networks)} |", "|---" * (len(networks) + 1) + "|"]
    for d in devices:
        first = at[d, networks[0]]
        core = f"{d}, {first['target'].removeprefix('arm64-')} {first['clock_ghz']:g} GHz"
        lines.append(f"| {core} | {' | '.join(_cell(at[d, n]) for n in networks)} |")
    inside, away = [r for r in rows if r["inside"]], [r for r in rows if not r["inside"]]
    widths = statistics.median(r["high_ms"] / r["low_ms"] for r in rows)
    middles = [r["published_ms"] / ((r["low_ms"] + r["high_ms"]) / 2) for r in rows]
    said = ", ".join(f"{r['device']} {r['network']} ({_off(r)})" for r in away) or "none"
    lines += ["", f"{len(inside)} of {len(rows)} published times ({len(inside) / len(rows):.0%}) lie in their range; the upper "
              f"end of a range is {widths:.2f} times its lower one (median). Published over the middle of the range: geometric "
              f"mean {statistics.geometric_mean(middles):.2f}, from {min(middles):.2f} to {max(middles):.2f}. Outside: {said}."]
    return "\n".join(lines)


def _cell(r: dict) -> str:
    low, high = (f"{t:.3g}" if t < 1000 else f"{t:.0f}" for t in (r["low_ms"], r["high_ms"]))
    text = f"{r['published_ms']:g}: {low} - {high}"
    return text if r["inside"] else f"**{text}**"


def _off(r: dict) -> str:
    if r["published_ms"] > r["high_ms"]:
        return f"{r['published_ms'] / r['high_ms']:.2f} times the upper end"
    return f"{r['published_ms'] / r['low_ms']:.2f} times the lower end"


if __name__ == "__main__":
    sys.exit(main())
