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
@bind_option
@show.json_option
def command(model, output, precision, samples, prepack, binds, as_json):
    """Turn MODEL (.onnx or .pt2) into a .mcc file that the engine runs. Input and output names stay those of the model."""
    from ..passes import load, lower
    from ..passes.cost import total_macs
    from ..passes.errors import UserError
    from ..passes.lower.listing import integer_listing
    started = time.monotonic()
    known(model, (".onnx", ".pt2"))
    output = output or model.with_suffix(".mcc")
    if samples is not None and precision != "int8":
        raise UserError(f"--calibration belongs to --precision int8, not to {precision}")
    if not output.parent.is_dir():
        raise UserError(f"{output}: there is no folder {str(output.parent)!r}")
    graph = load(model)
    batches = calibration(samples, graph)
    if precision == "int8" and batches is None:
        show.note("no --calibration: int8 is dynamic, activations are measured while the model runs")
    part = output.with_name(f".part-{os.getpid()}-{output.name}")
    try:
        lowered = lower(graph, part, precision=precision, calibration=batches, bind=bound(binds))
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
             "integers": integer_listing(lowered),
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


def _prepack(path: Path) -> None:
    """Add the packed weights to the file, by way of a file beside it."""
    from .engine import session
    packed = path.with_name(path.name + "-packed")
    try:
        session(path).prepack(packed)
        os.replace(packed, path)
    finally:
        packed.unlink(missing_ok=True)
