"""torch modules and torch.export files -> ONNX -> Graph, through torch's own exporter."""
from __future__ import annotations

import contextlib
import io
import logging
import warnings

from ..errors import UserError
from ..graph import Graph

OPSET = 23


def from_torch(module, inputs, dynamic: dict[str, dict[int, str]] | None = None, input_names: list[str] | None = None,
               output_names: list[str] | None = None, bind: dict[str, int] | None = None) -> Graph:
    """A torch module as a Graph. Weights keep their parameter paths ("fc1.weight"), nodes the module path as scope.

    inputs        example tensors, one per positional argument of forward
    dynamic       named dimensions by input name and axis: {"x": {0: "N"}}
    input_names   names of the inputs; x, or x0, x1... when there are several
    output_names  names of the outputs; y, or y0, y1...
    The module is exported in eval mode, but with its Dropout layers kept as nodes (training switches them on).
    Raises UserError with torch's reason when the module cannot be exported.
    """
    import torch
    from torch import nn

    from .files import to_graph
    inputs = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    input_names = input_names or (["x"] if len(inputs) == 1 else [f"x{i}" for i in range(len(inputs))])
    unknown = [n for n in dynamic or {} if n not in input_names]
    if unknown:
        raise UserError(f"dynamic: no input is named {', '.join(map(repr, unknown))}; the inputs are {', '.join(input_names)}")
    # Clones: one tensor given for two inputs would make one input of them.
    inputs = tuple(_wide(t.clone(), (dynamic or {}).get(name, {})) for t, name in zip(inputs, input_names))
    dims = {name: torch.export.Dim(name) for axes in (dynamic or {}).values() for name in axes.values()}
    shapes = tuple({axis: dims[d] for axis, d in (dynamic or {}).get(name, {}).items()} for name in input_names)
    was = {m: m.training for m in module.modules()}
    module.eval()
    for m in module.modules():
        if isinstance(m, (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)) and m.p > 0:
            m.training = True
    try:
        with torch.no_grad():
            model = _export(module, inputs, shapes if dynamic else None, input_names, output_names)
    finally:
        for m, training in was.items():
            m.training = training
    if output_names is None:
        _rename_outputs(model, ["y"] if len(model.graph.output) == 1 else [f"y{i}" for i in range(len(model.graph.output))])
    return to_graph(model, bind or {}, simplify=False)


def _wide(t, axes: dict[int, str]):
    """An example of size 1 along a named dimension would be taken for a constant: twice the same."""
    for axis in axes:
        if t.shape[axis] == 1:
            t = t.expand(*[2 if i == axis else -1 for i in range(t.ndim)]).contiguous()
    return t


def open_pt2(path: str):
    """The ONNX model of a file that torch.export.save wrote."""
    import torch
    try:
        with _quiet():
            program = torch.export.load(path)
    except Exception as e:
        raise UserError(f"not a torch.export file ({_reason(e)})") from None
    return _export(program, None, None, None, None)


def _export(module, inputs, shapes, input_names, output_names):
    import torch
    try:
        with _quiet():
            program = torch.onnx.export(module, inputs or (), dynamo=True, opset_version=OPSET, optimize=False,
                                        dynamic_shapes=shapes, input_names=input_names, output_names=output_names, verbose=False)
            return program.model_proto
    except Exception as e:
        raise UserError(f"torch could not export the model: {_reason(e)}") from None


@contextlib.contextmanager
def _quiet():
    """The exporter prints and warns a lot about itself; its errors still come."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _reason(e: BaseException) -> str:
    """The innermost error in one line."""
    while e.__cause__ is not None:
        e = e.__cause__
    return next((line.strip() for line in str(e).splitlines() if line.strip()), type(e).__name__)


def _rename_outputs(model, names: list[str]) -> None:
    taken = {v.name for v in [*model.graph.input, *model.graph.initializer]} | {o for n in model.graph.node for o in n.output}
    pairs = {o.name: n for o, n in zip(model.graph.output, names) if n not in taken and o.name not in
             {i.name for i in model.graph.input}}
    for node in model.graph.node:
        node.input[:] = [pairs.get(i, i) for i in node.input]
        node.output[:] = [pairs.get(o, o) for o in node.output]
    for o in model.graph.output:
        o.name = pairs.get(o.name, o.name)
