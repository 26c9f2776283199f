"""`mcc show`: the graph, as text a person can read and compare."""
from __future__ import annotations

from pathlib import Path

import click

from .files import bind_option, bound, calibration, known

STAGES = ("load", "fold", "fuse", "layout", "integer", "epilogue", "shuffle", "image", "blocks", "plan")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--after", type=click.Choice(STAGES), default="load", show_default=True, help="Stop lowering behind this stage.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "fp16-math", "bf16", "int8"]), default="fp32", show_default=True)
@click.option("--calibration", "samples", type=click.Path(path_type=Path), metavar="FILE.npz", help="As for mcc lower.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.onnx", help="Save it for Netron instead.")
@bind_option
def command(model, after, precision, samples, output, binds):
    """Print the graph of MODEL (.onnx, .pt2 or .mcc), as loaded or after a stage of lowering."""
    from ..passes import load, lower
    from ..passes.errors import UserError
    known(model, (".onnx", ".pt2", ".mcc"))
    graph = load(model)
    if after != "load":
        if model.suffix == ".mcc":
            raise UserError(f"{model}: is lowered already; --after is for .onnx and .pt2")
        graph = lower(graph, precision=precision, calibration=calibration(samples, graph), bind=bound(binds), stop_after=after)
    if output is None:
        print(graph)
        _tuned(graph)
        return
    from ..passes.onnx_io import export
    export(graph, output)
    print(f"written: {output}")


def _tuned(graph) -> None:
    """The kernels that --tune has put into a file, and whether they are used here."""
    tuned = graph.meta.get("tuned")
    if tuned is None:
        return
    from ..kernels import machine
    print(f"tuned for {tuned['cpu']}" + ("" if tuned["cpu"] == machine()[2] else f", not for this machine ({machine()[2]})"))
    for node, kernel in tuned["kernels"].items():
        print(f"  {graph.nodes[node].name}: {kernel}")
