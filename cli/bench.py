"""`mcc bench`: how fast a model runs, where its time goes, and how fast other runtimes are on it."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from . import show
from .devices import is_device
from .files import bind_option, bound, calibration, known


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("--target", default="host", show_default=True, help="Where to measure: host; arm64 or arm64-CORE (emulated: "
              "instructions are counted, times are estimates; `mcc targets` lists them); ssh:USER@HOST[:PORT]; adb[:SERIAL].")
@click.option("--threads", type=click.IntRange(0, 64), default=1, show_default=True, help="0: as many as pay.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "fp16-math", "bf16", "int8"]), default="fp32", show_default=True,
              help="How an .onnx or .pt2 is lowered.")
@click.option("--calibration", "samples", type=click.Path(path_type=Path), metavar="FILE.npz", help="As for mcc lower.")
@click.option("--seconds", type=click.FloatRange(0.01, 3600), default=2.0, show_default=True,
              help="How long to measure each runtime.")
@click.option("--ops", is_flag=True, help="Where the time goes, node by node, and how much of the machine's peak that is.")
@click.option("--kernels", metavar="SHAPE", help="In place of MODEL: one layer, run by every kernel that can, for example "
              "gemm:f32:m=196,k=512,n=512 or dwconv:s8:h=56,w=56,c=128.")
@click.option("--vs", default="", metavar="NAME,...",
              help="Measure against: onnxruntime, openvino, ncnn, mnn, litert, executorch, where they are installed (needs "
                   "the .onnx; they run the float model).")
@click.option("--reference", type=click.Path(path_type=Path), metavar="FILE.onnx", help="For a .mcc: the model that --vs runs.")
@click.option("--baseline", "base", type=click.Path(path_type=Path), metavar="FILE",
              help="An earlier --json: exit 1 when this is slower, and say which nodes are.")
@click.option("--tolerance", default="5%", show_default=True, help="How much slower than the baseline is still well.")
@click.option("--cores", default="", metavar="N,N-N", help="On a device: pin to these, or all; the fastest by default.")
@click.option("--runner-prefix", default="", metavar="WORDS", help="On a device: put before the runner, such as an emulator.")
@click.option("--device-folder", metavar="DIR", help="On a device: where the temporary folder is made.")
@bind_option
@show.json_option
def command(model, target, threads, precision, samples, seconds, ops, kernels, vs, reference, base, tolerance, cores,
            runner_prefix, device_folder, binds, as_json):
    """Measure MODEL (.mcc, or .onnx and .pt2, which are lowered first).

    Times are those of the engine's run, inputs written once. Other runtimes are measured in turn, each in a process of its
    own, after a check that they agree; `ratio` is their time through ours. Cold start and peak memory are those of a fresh
    process (Python's own included in the memory)."""
    from ..passes.errors import UserError
    from .arm64 import targets
    from .devices.measure import Options, measure
    from .timing import baseline, shapes, versus
    on_device = is_device(target)
    machine = None if on_device else targets.find(target)
    if (model is None) == (kernels is None):
        raise UserError("give a MODEL, or a shape with --kernels")
    if on_device and (kernels or vs):
        raise UserError("--kernels and --vs measure on this machine; leave --target out")
    if kernels:
        found = shapes.measure(kernels, threads or os.cpu_count() or 1, seconds / 4)
        show.emit(found) if as_json else shapes.show_table(found)
        return 0
    known(model, (".mcc", ".onnx", ".pt2"))
    share, before = baseline.tolerance(tolerance), baseline.read(base)
    names, onnx = versus.chosen(vs, model, reference)
    with tempfile.TemporaryDirectory() as folder:
        file = model if model.suffix == ".mcc" else _lowered(model, Path(folder) / "model.mcc", precision, samples, bound(binds))
        facts = {"schema": 1, "model": str(model), "target": target,
                 "precision": precision if model.suffix != ".mcc" else "as in the file",
                 **(measure(target, Options(cores, runner_prefix, device_folder), file, threads, seconds) if on_device else
                    TARGETS[machine.arch](file, threads, seconds, names, onnx, precision, Path(folder), machine))}
    if before is not None:
        facts["baseline"] = baseline.compare(before, facts, share)
    if as_json:
        show.emit(facts)
    elif facts["estimated"]:
        from .arm64 import emulated
        emulated.show(facts, ops)
    else:
        _print(facts, ops)
    return 0 if before is None or facts["baseline"]["ok"] else 1


def _host(file: Path, threads: int, seconds: float, names: list[str], onnx: Path | None, precision: str, folder: Path,
          machine) -> dict:
    """Measure on this machine."""
    from ..kernels import isa
    from .engine import filled, quantiles, session
    from .timing import ops, versus
    cold = _cold(file, threads)
    opened = session(file, threads)
    inputs = filled(opened.inputs)
    if names:
        spent, rivals = versus.race(names, onnx, file, precision, threads, inputs, seconds, folder)
    else:
        spent, rivals = opened.times(inputs, seconds, warm=3).ms, {}
    nodes, covered = ops.profile(opened, inputs, seconds / 2)
    count = opened.facts["threads"]
    peak = ops.rates(nodes, file, count)
    return {"isa": isa(), "threads": count, "estimated": False, "latency_ms": quantiles(spent), **cold,
            "model_bytes": os.path.getsize(file), "arena_bytes": opened.facts["arena_bytes"],
            "weight_bytes": opened.facts["weight_bytes"], "macs": sum(n["macs"] for n in nodes), "peak": peak,
            "ops_share": covered, "ops": nodes, "vs": rivals}


def _arm64(file: Path, threads: int, seconds: float, names: list[str], onnx: Path | None, precision: str, folder: Path,
           machine) -> dict:
    """Count and estimate under emulation."""
    from ..passes.errors import UserError
    from .arm64 import emulated
    wrong = [f"--target {machine.asked}: {what}" for what, given in (
        ("--vs is for the host; others are not run under emulation", names),
        ("one thread only: times of several cannot be estimated", threads != 1)) if given]
    if wrong:
        raise UserError(*wrong)
    return emulated.measure(file, machine)


def _x86(file: Path, threads: int, seconds: float, names: list[str], onnx: Path | None, precision: str, folder: Path,
         machine) -> dict:
    """This machine, when it is one."""
    import platform

    from ..passes.errors import TargetError
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise TargetError(f"target {machine.asked}: this machine is {platform.machine()}")
    return _host(file, threads, seconds, names, onnx, precision, folder, machine)


TARGETS = {"host": _host, "x86-64": _x86, "arm64": _arm64}


def _cold(file: Path, threads: int) -> dict:
    """Milliseconds from opening the file to the first output, and the peak memory, of a fresh process."""
    code = ("import json, resource, sys, time\n"
            "import numpy\n"
            "from mcc.cli.engine import filled\n"
            "from mcc.kernels import Session\n"
            "t = time.perf_counter()\n"
            "s = Session(sys.argv[1], threads=int(sys.argv[2]))\n"
            "opened = time.perf_counter() - t\n"
            "x = filled(s.inputs)\n"
            "t = time.perf_counter()\n"
            "s.run(x)\n"
            "ms = (opened + time.perf_counter() - t) * 1e3\n"
            # On Linux ru_maxrss begins with the parent's peak, VmHWM with this program's own.
            "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)\n"
            "if sys.platform == 'linux':\n"
            "    peak = next(int(l.split()[1]) * 1024 for l in open('/proc/self/status') if l.startswith('VmHWM'))\n"
            "print(json.dumps({'cold_start_ms': ms, 'peak_rss_bytes': peak}))\n")
    done = subprocess.run([sys.executable, "-c", code, os.fspath(file), str(threads)], check=False, capture_output=True,
                          text=True)
    if done.returncode:
        from .engine import session
        session(file, threads)  # says why, when the file is to blame
        raise RuntimeError(f"the process that measures the cold start failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout)


def _lowered(model: Path, file: Path, precision: str, samples, bind: dict) -> Path:
    from ..passes import load, lower
    graph = load(model)
    lower(graph, file, precision=precision, calibration=calibration(samples, graph), bind=bind)
    return file


def _print(f: dict, ops: bool) -> None:
    from .timing import baseline
    from .timing.ops import table
    t = f["latency_ms"]
    print(f"{f['model']} on {f['target']} ({f['isa']}), {f['threads']} thread{'s' * (f['threads'] != 1)}, {f['precision']}")
    print(f"latency    {show.ms(t['median'])} (p10 {show.ms(t['p10'])}, p90 {show.ms(t['p90'])}, {t['runs']} runs), "
          f"{f['macs'] / t['median'] / 1e6:.1f} GMAC/s")
    if "device" in f:
        from .devices.measure import lines
        print(*lines(f["device"]), sep="\n")
    print(f"cold start {show.ms(f['cold_start_ms'])}")
    print(f"file {show.size(f['model_bytes'])}, {show.count(f['macs'])} MACs, arena {show.size(f['arena_bytes'])}, "
          f"weights in memory {show.size(f['weight_bytes'])}, peak memory of a process {show.size(f['peak_rss_bytes'])}")
    for name, v in f["vs"].items():
        if "error" in v:
            print(f"{name:<11} {v['error']}")
            continue
        says = "" if v["agrees"] else f"; OUTPUTS DIFFER by {v['max_error']:.2g} of their range"
        print(f"{name:<11} {show.ms(v['median'])}, {v['ratio']:.2f}x our time ({v['precision']}){says}")
    if "baseline" in f:
        print(*baseline.lines(f["baseline"]), sep="\n")
    if ops:
        peak = f.get("peak")
        columns, rows = table(f["ops"])
        show.table(columns, rows, left=(0, 1, 2))
        if peak is None:
            print(f"the nodes add up to {f['ops_share']:.1%} of the run")
            return
        brain = f"{peak['bf16']:.0f} bfloat16, " if peak["bf16"] else ""
        print(f"the nodes add up to {f['ops_share']:.1%} of the run; measured peak of a thread: {peak['f32']:.0f} GFLOP/s "
              f"float32, {brain}{peak['s8']:.0f} GOP/s int8, copy {peak['copy']:.1f} GB/s")
