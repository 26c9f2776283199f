"""`mcc lower`: a model file becomes a .mcc file."""
from __future__ import annotations

import os
import time
from pathlib import Path

import click

from . import show
from .files import bind_option, bound, calibration, known


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The .mcc file to write; beside the model by default.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "fp16-math", "bf16", "int8", "w8", "w4"]), default="fp32",
              show_default=True, help="How weights are kept and computed with. fp16 only keeps them so; with fp16-math "
              "activations are float16 too, and sums where the CPU can.")
@click.option("--calibration", "samples", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="For int8: one array per input name, first axis = samples. Without it int8 is dynamic.")
@click.option("--prepack", is_flag=True, help="Add the weights as this machine's kernels read them: it then opens the file "
              "by mapping it. Larger; other machines open it as without.")
@click.option("--tune", is_flag=True, help="Choose each layer's kernel by measuring on this machine; kept in the file. Other "
              "CPUs run it as without.")
@click.option("--target", default="host", show_default=True, help="The machine that --tune and --prepack are for, which must be "
              "this one. The file runs on all.")
@bind_option
@show.json_option
def command(model, output, precision, samples, prepack, tune, target, binds, as_json):
    """Turn MODEL (.onnx or .pt2) into a .mcc file that the engine runs. Input and output names stay those of the model."""
    from ..passes import load, lower
    from ..passes.cost import total_macs
    from ..passes.errors import UserError
    from ..passes.lower.listing import integer_listing
    from .timing import tune as tuning
    started = time.monotonic()
    known(model, (".onnx", ".pt2"))
    output = output or model.with_suffix(".mcc")
    if samples is not None and precision != "int8":
        raise UserError(f"--calibration belongs to --precision int8, not to {precision}")
    _here(target, [option for option, given in (("--tune", tune), ("--prepack", prepack)) if given])
    if not output.parent.is_dir():
        raise UserError(f"{output}: there is no folder {str(output.parent)!r}")
    graph = load(model)
    batches = calibration(samples, graph)
    if precision == "int8" and batches is None:
        show.note("no --calibration: int8 is dynamic, activations are measured while the model runs")
    part = output.with_name(f".part-{os.getpid()}-{output.name}")
    try:
        lowered = lower(graph, part, precision=precision, calibration=batches, bind=bound(binds))
        tuned = tuning.tune(part) if tune else None
        plain_bytes = os.path.getsize(part)
        if prepack:
            _prepack(part)
        os.replace(part, output)
    except UserError as e:
        raise UserError(*(p if p.startswith(("--", str(model))) else f"{model}: {p}" for p in e.problems)) from None
    finally:
        part.unlink(missing_ok=True)
    facts = {"schema": 1, "model": str(model), "output": str(output), "precision": precision,
             "calibrated": batches is not None, "bytes": os.path.getsize(output),
             "prepacked_bytes": os.path.getsize(output) - plain_bytes, "nodes": len(lowered.nodes),
             "macs": total_macs(lowered), "notes": lowered.meta.get("notes", []), "seconds": round(time.monotonic() - started, 3),
             "integers": integer_listing(lowered), **({} if tuned is None else {"tuned": tuned}),
             "inputs": [{"name": v.name, "shape": list(v.shape or ()), "dtype": v.dtype} for v in lowered.inputs],
             "outputs": [{"name": v.name, "shape": list(v.shape or ()), "dtype": v.dtype} for v in lowered.outputs]}
    for text in facts["notes"]:
        show.note(text)
    if as_json:
        show.emit(facts)
        return
    print(f"{output}: {show.size(facts['bytes'])}, {facts['nodes']} nodes, {show.count(facts['macs'])} MACs, {precision}")
    if prepack:
        print(f"  prepacked for this machine: {show.size(facts['prepacked_bytes'])} of it")
    if tuned is not None:
        _tuned(tuned)
    _integers(facts["integers"])
    for kind in ("inputs", "outputs"):
        for v in facts[kind]:
            print(f"  {kind[:-1]} {v['name']}: {v['dtype']} {v['shape']}")


def _integers(found: dict, limit: int = 20) -> None:
    """What runs on integers, and what does not and why; alike ones on one line."""
    if not found:
        return
    print(f"  on integers: {found['integer']} nodes" + (f", {len(found['dynamic'])} dynamic" if found["dynamic"] else ""))
    alike: dict[tuple[str, str], list[str]] = {}
    for n in found["float"]:
        alike.setdefault((n["op"], n["why"]), []).append(n["name"])
    for (op, why), names in list(alike.items())[:limit]:
        print(f"  in float: {len(names)} {op} ({why}): {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")


def _here(target: str, options: list[str]) -> None:
    """Refuses options that look at this machine when the target is another one."""
    import platform

    from ..passes.errors import UserError
    from .arm64 import targets
    if target == "host":
        return
    if not options:
        raise UserError("--target is for --tune and --prepack; without them the file is the same for all machines")
    found = targets.find(target)
    machine = {"amd64": "x86-64", "x86_64": "x86-64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine())
    if found.arch != "host" and found.arch != machine:
        raise UserError(f"{' and '.join(options)}: this machine is {machine}, the target {target} is {found.arch}; run mcc lower "
                        f"there, or leave {'it' if len(options) == 1 else 'them'} out: the file runs on {target} all the same")


def _tuned(tuned: list[dict]) -> None:
    """What measuring has chosen in place of the engine's picks."""
    from ..kernels import machine
    print(f"  tuned for {machine()[2]}: {len(tuned)} layers have another kernel than the engine would pick")
    for t in tuned:
        print(f"    {t['name']}: {t['kernel']} in {show.ms(t['ms'])}, {t['pick']} took {show.ms(t['pick_ms'])}")


def _prepack(path: Path) -> None:
    """Add the packed weights to the file, by way of a file beside it."""
    from .engine import session
    packed = path.with_name(path.name + "-packed")
    try:
        session(path).prepack(packed)
        os.replace(packed, path)
    finally:
        packed.unlink(missing_ok=True)
