"""From the start of a process to its first output, and the most memory it holds: mcc through its C runner, the others as
Python programs, which is how their packages come (Python's own 20 ms and 10 MB are in their figures)."""
from __future__ import annotations

import os
import statistics
import subprocess
import time

import convert
import sources
from mcc.cli import rivals

NETWORKS = ("mobilenet_v2", "resnet50", "minilm_l6")
RUNNER = sources.ROOT / "build" / "host" / "mcc-run"
REPEATS = 7


def measure(names: list[str], runtimes: list[str]) -> list[dict]:
    rows = []
    for name in names:
        for precision in ("fp32", "int8"):
            rows.append({"network": name, "precision": precision, "runtime": "mcc", **mcc(name, precision)})
            rows += [{"network": name, "precision": precision, "runtime": r, **peer(name, r, precision)} for r in runtimes]
    return rows


def mcc(name: str, precision: str) -> dict:
    made = convert.mcc_file(name, precision, "static" if precision == "int8" else "")
    if "error" in made:
        return made
    if not RUNNER.exists():
        return {"error": "mcc-run is not built (make mcc-run)"}
    from mcc.kernels import Session
    spent = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        done = subprocess.run([RUNNER, made["file"], "--runs", "1"], capture_output=True, text=True, check=False)
        spent.append((time.perf_counter() - start) * 1e3)
        if done.returncode:
            return {"error": f"mcc-run: {done.stderr.strip()}"}
    size = os.path.getsize(made["file"])
    arena = Session(made["file"]).facts["arena_bytes"]
    return {"cold_start_ms": statistics.median(spent), "bytes": size, "arena_bytes": arena, **_memory(made["file"])}


def _memory(file: str) -> dict:
    """VmHWM of a longer run, read while it lasts: a child's rusage begins with the parent's."""
    worker = subprocess.Popen([RUNNER, file, "--runs", "100000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.7)
        with open(f"/proc/{worker.pid}/status") as status:
            return {"peak_rss_bytes": next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))}
    except (OSError, StopIteration):
        return {}
    finally:
        worker.kill()
        worker.wait()


def peer(name: str, runtime: str, precision: str) -> dict:
    """The first variant that runs."""
    inputs, _ = sources.data(sources.obtain(name))
    why = f"no {precision}"
    for variant in rivals.RIVALS[runtime].precisions.get(precision, ()):
        made = convert.entry(name, runtime, precision, variant)
        if "error" in made:
            why = f"not converted: {made['error']}"
            continue
        spent, memory = [], 0
        try:
            for _ in range(2 if runtime == "executorch" else REPEATS):
                with rivals.Peer(runtime, convert.python(convert.RUNS[runtime]), rivals.cores(1)) as worker:
                    start = time.perf_counter()
                    worker.open(made["file"], precision, 1, inputs, variant)
                    spent.append((time.perf_counter() - start) * 1e3)
                    memory = max(memory, worker.facts()["peak_rss_bytes"])
            return {"cold_start_ms": statistics.median(spent), "bytes": made["bytes"], "peak_rss_bytes": memory,
                    "variant": variant}
        except rivals.PeerError as e:
            why = f"does not run: {e}"
    return {"error": why}
