"""`mcc bench`: how fast a model runs, beside other runtimes in the same process and in turn."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from . import show
from .files import bind_option, bound, calibration, known

WRONG = 1e-3  # of the output's range; an fp32 rival further off computes something else


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", default="host", show_default=True, help="Where to measure: host.")
@click.option("--threads", type=click.IntRange(0, 64), default=1, show_default=True, help="0 for all cores.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "bf16", "int8"]), default="fp32", show_default=True,
              help="How an .onnx or .pt2 is lowered.")
@click.option("--calibration", "samples", type=click.Path(path_type=Path), metavar="FILE.npz", help="As for mcc lower.")
@click.option("--seconds", type=click.FloatRange(0.01, 3600), default=2.0, show_default=True,
              help="How long to measure each runtime.")
@click.option("--ops", is_flag=True, help="Where the time goes, node by node.")
@click.option("--vs", default="", metavar="NAME,...",
              help="Measure against: onnxruntime (needs the .onnx; the float model in fp32).")
@click.option("--reference", type=click.Path(path_type=Path), metavar="FILE.onnx", help="For a .mcc: the model that --vs runs.")
@click.option("--baseline", type=click.Path(path_type=Path), metavar="FILE",
              help="An earlier --json: exit 1 when this is slower.")
@click.option("--tolerance", default="5%", show_default=True, help="How much slower than the baseline is still well.")
@bind_option
@show.json_option
def command(model, target, threads, precision, samples, seconds, ops, vs, reference, baseline, tolerance, binds, as_json):
    """Measure MODEL (.mcc, or .onnx and .pt2, which are lowered first).

    Runtimes are measured in turn, A B A B, after a check that they agree; `ratio` is their time through ours.
    Cold start and peak memory are those of a fresh process (Python's own included in the memory)."""
    from ..passes.errors import TargetError
    if target not in TARGETS:
        raise TargetError(f"target {target!r} cannot be measured by this version; there is {', '.join(TARGETS)}")
    known(model, (".mcc", ".onnx", ".pt2"))
    share, before = _tolerance(tolerance), _baseline(baseline)
    rivals = _rivals(vs, model, reference)
    with tempfile.TemporaryDirectory() as folder:
        file = model if model.suffix == ".mcc" else _lowered(model, Path(folder) / "model.mcc", precision, samples, bound(binds))
        facts = {"schema": 1, "model": str(model), "target": target,
                 "precision": precision if model.suffix != ".mcc" else "as in the file",
                 **TARGETS[target](file, threads, seconds, rivals, ops)}
    code = 0
    if before is not None:
        now = facts["latency_ms"]["median"]
        facts["baseline"] = {"median": before, "ratio": now / before, "tolerance": share, "ok": now <= before * (1 + share)}
        code = 0 if facts["baseline"]["ok"] else 1
    if as_json:
        show.emit(facts)
    else:
        _print(facts, ops)
    return code


def _host(file: Path, threads: int, seconds: float, rivals: dict, ops: bool) -> dict:
    """Measure on this machine."""
    from ..kernels import isa
    from .engine import filled, quantiles, session
    cold = _cold(file, threads)
    opened = session(file, threads)
    inputs = filled(opened.inputs)
    want = opened.run(inputs)
    calls, errors = {"mcc": lambda: opened.run(inputs)}, {}
    for name, make in rivals.items():
        calls[name], outputs = make(inputs, threads)
        errors[name] = _error(want, outputs)
    spent = _in_turn(calls, seconds)
    nodes = opened.profile(inputs)
    mine = quantiles(spent["mcc"])
    facts = {"isa": isa(), "threads": threads or os.cpu_count(), "estimated": False, "latency_ms": mine, **cold,
             "model_bytes": os.path.getsize(file), "arena_bytes": opened.facts["arena_bytes"],
             "weight_bytes": opened.facts["weight_bytes"], "macs": sum(n["macs"] for n in nodes),
             "ops": nodes if ops else []}
    facts["vs"] = {}
    for name in rivals:
        theirs = quantiles(spent[name])
        facts["vs"][name] = {**theirs, "ratio": theirs["median"] / mine["median"], "max_error": errors[name],
                             "agrees": errors[name] <= WRONG}
    return facts


TARGETS = {"host": _host}


def _in_turn(calls: dict, seconds: float) -> dict[str, list[float]]:
    """Times of every call, ms, measured in turn so that a busy moment of the machine hits all alike."""
    from .engine import times
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(3):
            call()
    rounds = 10 if len(calls) > 1 else 1
    for _ in range(rounds):
        for name, call in calls.items():
            spent[name] += times(call, seconds / rounds, least=3, most=100_000, warm=1)
    return spent


def _error(ours: dict, theirs: dict) -> float:
    """The largest difference as a share of the output's range."""
    import numpy as np
    worst = 0.0
    for name, b in theirs.items():
        if name in ours and ours[name].size:
            a, b = ours[name].astype(np.float64), np.asarray(b, np.float64).reshape(ours[name].shape)
            span = float(np.ptp(b)) or float(np.abs(b).max()) or 1.0
            worst = max(worst, float(np.abs(a - b).max()) / span)
    return worst


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


def _rivals(vs: str, model: Path, reference: Path | None) -> dict:
    from ..passes.errors import UserError
    from ..passes.recipe.tree import near
    made = {}
    for name in filter(None, (n.strip() for n in vs.split(","))):
        if name not in RIVALS:
            raise UserError(f"--vs {name}: no such runtime{near(name, RIVALS) or '; there is ' + ', '.join(RIVALS)}")
        file = reference or model
        if file.suffix != ".onnx":
            raise UserError(f"--vs {name}: needs the .onnx model; give it with --reference FILE.onnx")
        known(file, (".onnx",))
        made[name] = RIVALS[name](file)
    return made


def _onnxruntime(file: Path):
    """make(inputs, threads) -> (call, its outputs by name)."""
    from ..passes.errors import UserError
    try:
        import onnxruntime as ort
    except ImportError:
        raise UserError("--vs onnxruntime: it is not installed; pip install onnxruntime") from None

    def make(inputs: dict, threads: int):
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        opened = ort.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])
        names = [o.name for o in opened.get_outputs()]
        missing = [i.name for i in opened.get_inputs() if i.name not in inputs]
        if missing:
            raise UserError(f"--vs onnxruntime: {file} has an input {missing[0]!r} that the .mcc file has not; "
                            "is it the same model?")
        return (lambda: opened.run(None, inputs)), dict(zip(names, opened.run(None, inputs)))
    return make


RIVALS = {"onnxruntime": _onnxruntime}


def _tolerance(text: str) -> float:
    from ..passes.errors import UserError
    try:
        share = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if share < 0:
        raise UserError(f"--tolerance {text}: write a share like 5% or 0.05")
    return share


def _baseline(path: Path | None) -> float | None:
    from ..passes.errors import UserError
    if path is None:
        return None
    known(path, (path.suffix.lower(),))
    try:
        return float(json.loads(path.read_text())["latency_ms"]["median"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: is not what `mcc bench --json` prints") from None


def _print(f: dict, ops: bool) -> None:
    t = f["latency_ms"]
    print(f"{f['model']} on {f['target']} ({f['isa']}), {f['threads']} thread{'s' * (f['threads'] != 1)}, {f['precision']}")
    print(f"latency    {show.ms(t['median'])} (p10 {show.ms(t['p10'])}, p90 {show.ms(t['p90'])}, {t['runs']} runs), "
          f"{f['macs'] / t['median'] / 1e6:.1f} GMAC/s")
    print(f"cold start {show.ms(f['cold_start_ms'])}")
    print(f"file {show.size(f['model_bytes'])}, {show.count(f['macs'])} MACs, arena {show.size(f['arena_bytes'])}, "
          f"weights in memory {show.size(f['weight_bytes'])}, peak memory of a process {show.size(f['peak_rss_bytes'])}")
    for name, v in f["vs"].items():
        says = "" if v["agrees"] else f"; OUTPUTS DIFFER by {v['max_error']:.2g} of their range"
        print(f"{name:<10} {show.ms(v['median'])}, {v['ratio']:.2f}x our time{says}")
    if "baseline" in f:
        b = f["baseline"]
        print(f"{'ok  ' if b['ok'] else 'FAIL'} {b['ratio']:.3f}x the baseline's {show.ms(b['median'])}, "
              f"up to {1 + b['tolerance']:.3g}x is well")
    if ops:
        total = sum(n["ms"] for n in f["ops"]) or 1.0
        show.table(["node", "op", "kernel", "ms", "share", "MACs"],
                   [[n["name"], n["op"], n["kernel"], f"{n['ms']:.4f}", f"{n['ms'] / total:.1%}", show.count(n["macs"])]
                    for n in sorted(f["ops"], key=lambda n: -n["ms"])], left=(0, 1, 2))
