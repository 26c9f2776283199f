"""Models in and out: .onnx, .pt2, .mcc and .graph files and torch modules -> Graph, Graph -> .onnx.

    graph = load("model.onnx", bind={"seq": 128})
    graph = from_torch(module, (x,), dynamic={"x": {0: "N"}})
    export(graph, "out.onnx")
"""
from __future__ import annotations

import os

from ..errors import UserError
from ..graph import Graph

KINDS = (".onnx", ".pt2", ".mcc", ".graph")


def load(source, bind: dict[str, int] | None = None, simplify: bool = True, batch: str | None = None) -> Graph:
    """A model file (.onnx with its external data, .pt2 of torch.export, .mcc, .graph of a run) or an onnx.ModelProto as a Graph.

    bind      sizes of symbolic dimensions of the inputs, by name.
    simplify  let onnxsim have a try where shape arithmetic or control flow is left after our own folding.
    batch     for a model exported with batch 1: name the first dimension of every input so, and rewrite the reshapes
              that hold the 1. Refused when the batch cannot be followed to every output.
    Raises UserError: a file that is no model, or one line per kind of unsupported node with the nodes' names.
    """
    name = source if isinstance(source, (str, os.PathLike)) else "model"
    try:
        if isinstance(source, (str, os.PathLike)):
            path = os.fspath(source)
            kind = os.path.splitext(path)[1].lower()
            if not os.path.exists(path):
                raise UserError("no such file")
            if kind == ".mcc":
                from ..lower.read import read
                return read(path)
            if kind == ".graph":
                return _kept(path)
            if kind == ".pt2":
                from .torch_io import open_pt2
                model = open_pt2(path)
            elif kind == ".onnx":
                from .files import open_onnx
                model = open_onnx(path)
            else:
                raise UserError(f"cannot tell the kind of model from '{kind}'; it is one of {', '.join(KINDS)}")
        else:
            from .files import check
            model = check(source)
        from .files import to_graph
        return to_graph(model, bind or {}, simplify, batch)
    except UserError as e:
        raise UserError(*(f"{os.fspath(name)}: {p}" for p in e.problems)) from None


def _kept(path: str) -> Graph:
    """A Graph that a run kept (see `cache`)."""
    from ..cache import unpack
    try:
        with open(path, "rb") as f:
            return unpack(f.read())[0]
    except ValueError as e:
        raise UserError(str(e)) from None


def from_torch(module, inputs, dynamic=None, input_names=None, output_names=None, bind=None) -> Graph:
    """A torch module as a Graph; see `torch_io.from_torch`."""
    from .torch_io import from_torch as _from_torch
    return _from_torch(module, inputs, dynamic, input_names, output_names, bind)


def export(graph: Graph, path, opset: int = 23, qdq: bool = True) -> None:
    """Write a Graph as .onnx; see `write.export`."""
    from .write import export as _export
    _export(graph, path, opset, qdq)
