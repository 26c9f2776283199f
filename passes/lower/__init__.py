"""Lowering: a Graph of canonical ops becomes the fused, planned Graph that the engine runs, and its .mcc file.

STAGES are run in this order, one file each; every one is `stage(graph) -> None`, changes the graph in place and
leaves a graph that torch can still run, so `mcc show --after STAGE` and the tests can stop anywhere.
"""
from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from ..errors import UserError
from ..graph import Graph

STAGES = ("fold", "fuse", "layout", "integer", "epilogue", "shuffle", "image", "blocks", "plan")
PRECISIONS = ("fp32", "fp16", "fp16-math", "bf16", "int8", "w8", "w4")


def lower(graph: Graph, path=None, *, precision: str = "fp32", calibration=None, bind: dict[str, int] | None = None,
          stop_after: str | None = None, note: dict | None = None, entropy: bool = True) -> Graph:
    """Lower `graph` (left as it is) and write it to `path` when one is given; returns the lowered Graph.

    precision    fp32 keeps the graph's own types; fp16 and bf16 store weights so; fp16-math also computes in float16
                 where the CPU can; int8 quantizes (statically with
                 `calibration`, an iterable of {input name: array} batches, else dynamically); w8 and w4 keep weights as
                 integers, a scale per output channel or block of 32 inputs, and compute in float.
    bind         sizes of symbolic dimensions; a symbolic first dimension (the batch) is 1 unless bound.
    stop_after   name of the stage to stop behind, for looking; nothing is written then.
    Raises UserError naming the nodes when the engine has no form for them.
    """
    from .fold import bind_dims
    if precision not in PRECISIONS:
        raise UserError(f"precision '{precision}' is not known; it is one of {', '.join(PRECISIONS)}")
    if stop_after is not None and stop_after not in STAGES:
        raise UserError(f"there is no stage '{stop_after}'; the stages are {', '.join(STAGES)}")
    graph = graph.copy()
    if precision == "int8":
        from ..quantize.ptq import quantize_graph
        graph = quantize_graph(graph, calibration)
    elif precision in ("w8", "w4"):
        from ..base import Context
        from ..quantize.weight_only import WeightOnly
        graph = WeightOnly(bits=int(precision[1]), per="channel" if precision == "w8" else "group").run(graph, Context(graph))
    bind_dims(graph, bind or {})
    for stage in STAGES:
        getattr(import_module(f".{stage}", __name__), stage)(graph)
        if stage == "epilogue" and precision in ("fp16", "fp16-math", "bf16"):
            from .half import store_half
            store_half(graph, precision.removesuffix("-math"))
        if stage == "blocks" and precision == "fp16-math":
            from .arithmetic import compute_half
            compute_half(graph)
        if stage == stop_after:
            return graph
    if path is not None:
        from .emit import emit
        from .engine import engine_form
        emit(engine_form(graph), path, note=note, entropy=entropy)
    return graph


class _Callable(ModuleType):
    """Python binds `mcc.passes.lower` to this module once it is imported; the name stays the function that callers expect."""

    def __call__(self, graph: Graph, path=None, **options) -> Graph:
        return lower(graph, path, **options)


sys.modules[__name__].__class__ = _Callable
