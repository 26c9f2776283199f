"""The smaller network that is taught: the graph as it is, its layers thinned out, a model file, or a torch factory's module.

A student takes the place of the model in the recipe, so it must have the model's inputs and outputs.
"""
from __future__ import annotations

from importlib import import_module

from ..base import Context
from ..bypass import bypass
from ..errors import UserError
from ..graph import Graph
from .encoder import layers


def student_of(graph: Graph, student: str, args: dict, ctx: Context, who: str) -> Graph:
    """The student that an option names: "" is `graph` itself, NAME.onnx, .pt2 or .mcc a file, module:function a factory called
    with `args`, its weights random by the recipe's seed. Raises UserError when it does not fit in the model's place."""
    if not student:
        return graph
    if student.rpartition(".")[2] in ("onnx", "pt2", "mcc"):
        from .. import load
        made = load(student)
    else:
        made = _from_factory(graph, student, args, ctx, who)
    return _in_place_of(graph, made, student, who)


def _from_factory(graph: Graph, name: str, args: dict, ctx: Context, who: str) -> Graph:
    import torch

    from ..onnx_io import from_torch
    from ..ops.run import tensor
    where, _, function = name.partition(":")
    try:
        factory = getattr(import_module(where), function)
    except (ImportError, AttributeError, ValueError) as e:
        raise UserError(f"{who}: student: cannot import {name}: {e}; it is MODULE:FUNCTION or a model file") from None
    torch.manual_seed(ctx.seed)
    try:
        module = factory(**args)
    except TypeError as e:
        raise UserError(f"{who}: student_args: {name} does not take them: {e}") from None
    import numpy as np
    inputs = [tensor(np.ones([2 if isinstance(d, str) else d for d in v.shape or ()], v.dtype)) for v in graph.inputs]
    dynamic = {v.name: {i: d for i, d in enumerate(v.shape or ()) if isinstance(d, str)} for v in graph.inputs}
    return from_torch(module, inputs, {k: d for k, d in dynamic.items() if d}, [v.name for v in graph.inputs],
                      [v.name for v in graph.outputs])


def _in_place_of(graph: Graph, made: Graph, name: str, who: str) -> Graph:
    def form(values):
        return [(v.name, v.dtype, tuple("?" if isinstance(d, str) else d for d in v.shape or ())) for v in values]
    wrong = [f"{kind} {theirs} where the model has {ours}" for kind, mine, other in
             (("inputs", graph.inputs, made.inputs), ("outputs", graph.outputs, made.outputs))
             if (ours := form(mine)) != (theirs := form(other))]
    if wrong:
        raise UserError(*(f"{who}: student {name} has {w}" for w in wrong))
    return made


def kept_layers(count: int, keep: int | list[int], choose: str, who: str) -> list[int]:
    """Which of `count` layers stay: a list (from 0), or `keep` of them: uniform (the last of every group, as TinyBERT's map
    g(m) = m * count / keep), first or last."""
    if isinstance(keep, list):
        if not keep or sorted(set(keep)) != keep or keep[0] < 0 or keep[-1] >= count:
            raise UserError(f"{who}: keep: {keep} must be growing numbers from 0 to {count - 1}: the model has {count} layers")
        return keep
    if not 1 <= keep <= count:
        raise UserError(f"{who}: keep: {keep}, but the model has {count} layers")
    if choose == "first":
        return list(range(keep))
    if choose == "last":
        return list(range(count - keep, count))
    return [(m + 1) * count // keep - 1 for m in range(keep)]


def drop_layers(graph: Graph, keep: list[int]) -> Graph:
    """A copy without the encoder layers that are not in `keep`: what read a dropped layer's hidden state reads the one before."""
    gone = [(i, layer) for i, layer in enumerate(layers(graph)) if i not in keep]
    for i, layer in gone:
        if (a := layer.before.shape) != (b := layer.after.shape):
            raise UserError(f"layer {i} turns {a} into {b}, so it cannot be left out")
    return bypass(graph, [(layer.before, layer.after) for _, layer in gone])
