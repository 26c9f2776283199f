"""`mcc export`: what a run of `mcc compress` made, as an .onnx for other runtimes."""
from __future__ import annotations

import os
from pathlib import Path

import click

from . import show
from .files import known

SOURCES = (".graph", ".onnx", ".pt2")


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="MODEL.onnx", help="The file to write.")
@click.option("--to", "form", type=click.Choice(["qdq", "onnx"]), default="qdq", show_default=True,
              help="qdq: with QuantizeLinear and DequantizeLinear where a pass quantized; onnx: all in float.")
@click.option("--opset", type=int, help="13 to 23; that of the original model by default, where it is one of these.")
@show.json_option
def command(source, output, form, opset, as_json):
    """Write SOURCE as ONNX: the output folder of `mcc compress`, the checkpoint of a pass in its cache (.graph), or a model file.

    Pruned channels and factorised layers are small in it; sparse, codebook and hashed weights are written dense, since ONNX
    has no storage for them. Input and output names, and open dimensions, stay those of the original model."""
    from ..passes import load
    from ..passes.errors import UserError
    from ..passes.onnx_io import export
    from ..passes.onnx_io.write import NEWEST, OLDEST
    if output.suffix.lower() != ".onnx":
        raise UserError(f"{output}: the file to write must end in .onnx")
    if not output.parent.is_dir():
        raise UserError(f"{output}: there is no folder {str(output.parent)!r}")
    if opset is not None and not OLDEST <= opset <= NEWEST:
        raise UserError(f"--opset {opset}: it is one of {OLDEST} to {NEWEST}")
    graph = load(_file(source))
    opset = opset or max(OLDEST, min(graph.meta.get("opset", NEWEST), NEWEST))
    export(graph, output, opset, qdq=form == "qdq")
    beside = output.with_name(output.name + ".data")
    facts = {"schema": 1, "source": str(source), "output": str(output), "opset": opset, "to": form,
             "bytes": os.path.getsize(output) + (os.path.getsize(beside) if beside.is_file() else 0), "nodes": len(graph.nodes),
             "inputs": [{"name": v.name, "shape": list(v.shape or ()), "dtype": v.dtype} for v in graph.inputs],
             "outputs": [{"name": v.name, "shape": list(v.shape or ()), "dtype": v.dtype} for v in graph.outputs]}
    if as_json:
        show.emit(facts)
        return
    print(f"{output}: {show.size(facts['bytes'])}, opset {opset}")
    for kind in ("inputs", "outputs"):
        for v in facts[kind]:
            print(f"  {kind[:-1]} {v['name']}: {v['dtype']} {v['shape']}")


def _file(source: Path) -> Path:
    """The model file that SOURCE means."""
    from ..passes.errors import UserError
    if source.is_dir():
        found = source / "model.graph"
        if not found.is_file():
            raise UserError(f"{source}: is no finished run of `mcc compress`: it has no model.graph (an older run makes one when "
                            "the same command is given again)")
        return found
    if source.suffix == ".mcc":
        raise UserError(f"{source}: is lowered for the engine and cannot go back; give the folder of the run that made it")
    return known(source, SOURCES)
