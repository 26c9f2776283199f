"""The arena of arm64: instructions of one inference, mcc's and its peers', counted under qemu-user on one thread, outputs checked
as in compare.py. `make bench-arm64` runs it and installs what it needs (arm64_python.py; the models: compare.py's environments).

    python tests/bench/arm64_compare.py [--networks a,b] [--runtimes ncnn,...] [--precisions fp32,int8,fp16]
                                        [--cores arm64-cortex-a76,...] [--fresh] [--only-report]

A cell is network x precision x core; each runtime is told that it runs on that core and counts with the variant (int8: static or
dynamic) that takes the fewest instructions with the right output. Beside the instructions: cycles in the core, estimated by
the model that `mcc bench --target` uses, the same for all. Counts do not depend on the machine's load and repeat to 0.01 %, so
every count is kept in build/bench/arm64.json and made again only when its runner, model or core changed.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

sys.path.insert(0, str(Path(__file__).resolve().parent))
import arm64_python
import arm64_results
import convert
import emulation
import sources
from compare import agreement, save
from mcc.cli import rivals
from mcc.cli.arm64 import build, count, emulated, targets
from mcc.passes.errors import TargetError

JSON = sources.ROOT / "build" / "bench" / "arm64.json"
NETWORKS = "mobilenet_v2,mobilenet_v1,squeezenet11,resnet18,resnet50,tinybert4,minilm_l6"
CORES = "arm64-cortex-a76,arm64-cortex-a53,arm64-cortex-a710"
QUANTIZED = ("static", "dynamic")
# fp16: float32 models in half precision, where the core computes in it. ncnn's and MNN's wheels have no tool for static int8.
RUNS = {"mcc": {"fp32": ("",), "fp16": ("",), "int8": QUANTIZED},
        "onnxruntime": {"fp32": ("",), "int8": QUANTIZED},
        "ncnn": {"fp32": ("",), "fp16": ("",)},
        "mnn": {"fp32": ("",), "fp16": ("",), "int8": ("dynamic",)},
        "litert": {"fp32": ("",), "int8": QUANTIZED}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=NETWORKS)
    parser.add_argument("--runtimes", default=",".join(r for r in RUNS if r != "mcc"))
    parser.add_argument("--precisions", default="fp32,int8")
    parser.add_argument("--cores", default=CORES, help="targets (mcc targets)")
    parser.add_argument("--fresh", action="store_true", help="count again what is on record")
    parser.add_argument("--only-report", action="store_true", help="write the tables of what is on record")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, default=JSON)
    parser.add_argument("--markdown", type=Path, default=Path(__file__).resolve().parent / "RESULTS.md")
    options = parser.parse_args()
    found = {"schema": 1, "compiler": "", "rows": {}}
    if options.json.exists():
        found |= json.loads(options.json.read_text())
    try:
        if not options.only_report:
            measure(options, found)
    except TargetError as e:
        print(f"bench-arm64: {e}", file=sys.stderr)
        return 4
    text = arm64_results.markdown(found)
    print(text)
    if options.markdown.exists():
        arm64_results.replace_section(options.markdown, text)
    return 0


def measure(options, found: dict) -> None:
    if lacking := count.missing():
        raise TargetError(lacking)
    arm64_python.make(lambda text: print(text, file=sys.stderr))
    names, cores = options.networks.split(","), options.cores.split(",")
    unknown = [n for n in names if n not in sources.names()] + [r for r in options.runtimes.split(",") if r and r not in RUNS]
    if unknown:
        raise TargetError(f"no such network or runtime: {', '.join(unknown)}")
    for core in cores:
        if targets.find(core).arch != "arm64":
            raise TargetError(f"{core} is no arm64 core")
        arm64_python.python(core)
    runtimes = ["mcc"]
    for runtime in filter(None, options.runtimes.split(",")):
        if convert.installed(runtime):
            runtimes.append(runtime)
        else:
            print(f"{runtime}: build/{convert.RUNS[runtime]} is not there to make its models; left out", file=sys.stderr)
    found["compiler"] = build.compiler("arm64").version

    lock = Lock()

    def job(row: dict) -> None:
        before = found["rows"].get(row["id"])
        if not (before and before["key"] == row["key"] and not options.fresh):
            row = one(row)
            with lock:
                print(arm64_results.progress(row), file=sys.stderr, flush=True)
                found["rows"][row["id"]] = row
                save(options.json, found)
    cells = ((core, name, precision) for core in cores for name in names for precision in options.precisions.split(","))
    with ThreadPoolExecutor(options.jobs) as pool:  # the models of later cells are made while earlier ones are counted
        jobs = [pool.submit(job, row) for core, name, precision in cells for runtime in runtimes
                for row in rows(name, runtime, precision, core)]
        convert.stop()
        for made in jobs:
            made.result()


def rows(name: str, runtime: str, precision: str, core: str) -> list[dict]:
    """What is to be counted: one for each variant, with the model's file or why there is none."""
    target, made = targets.find(core), []
    if precision == "fp16" and "neonfp16" not in target.isa:
        return []
    for variant in RUNS[runtime].get(precision, ()):
        how = (name, precision, variant) if runtime == "mcc" else (name, runtime, precision, variant)
        row = {"network": name, "precision": precision, "core": core, "runtime": runtime, "variant": variant,
               **(convert.mcc_file if runtime == "mcc" else convert.entry)(*how)}
        row["id"] = " ".join(filter(None, (name, precision, core, runtime, variant)))
        made.append({**row, "key": "" if "error" in row else _key(row)})
    return made


def _key(row: dict) -> str:
    """Of all that a count depends on."""
    if row["runtime"] == "mcc":
        runner = [build.build("mcc-run", "arm64", emulated.MARKS)]
    else:
        runner = [arm64_python.WHEELS, sources.HERE / "peer_arm64.py", rivals.HERE / f"with_{row['runtime']}.py"]
    made = hashlib.sha256()
    folder = Path(row["file"]).parent
    model = [folder / "made.json"] if (folder / "made.json").exists() else [Path(row["file"])]
    for path in (*runner, *model, targets.FOLDER / f"{row['core']}.yaml", Path(count.__file__).with_name("count.c")):
        made.update(path.read_bytes())
    return made.hexdigest()[:16]


def one(row: dict) -> dict:
    """The row with its count, or with why there is none."""
    if "error" in row:
        return row
    target = targets.find(row["core"])
    inputs, want = sources.data(sources.obtain(row["network"]))
    try:
        if row["runtime"] == "mcc":
            ran = emulation.mcc(row["file"], inputs, target.qemu)
        else:
            ran = emulation.peer(row["runtime"], row["file"], row["precision"], row["variant"], inputs, row["core"])
    except TargetError as e:
        return {**row, "key": "", "error": f"does not run: {e}"}
    spent, model, _ = emulated.spend({0: ran.region}, ran.region, target)
    return {**row, **agreement(row["precision"], want, ran.outputs), "instructions": ran.instructions, "version": ran.version,
            "classes": ran.region.classes, "kernels": ran.kernels, "cycles": spent[-1], "cycle_model": model}


if __name__ == "__main__":
    sys.exit(main())
