"""conv(x, w) + b with a constant b of one value per channel ([C, 1, 1]) -> conv(x, w, b); also conv_transpose.

A bias of zeros, which the torch exporter gives to convolutions without one, is dropped by the importer.
"""
from __future__ import annotations

import numpy as np

from ...graph import Value
from ..match import Const, P, Sketch, rewrite

PATTERNS = [P("add", P(("conv", "conv_transpose"), "x", "w", name="y"), Const("b"))]


def replace(m):
    w, b, layer = m["w"], m["b"], m.node("y")
    if w.shape is None:
        return None
    n = w.shape[0] if layer.op == "conv" else w.shape[1] * layer.attrs.get("group", 1)
    rank = len(w.shape)
    shape = (1,) * (rank - b.data.ndim) + b.data.shape
    if b.data.ndim > rank or shape[1] != n or any(d != 1 for i, d in enumerate(shape) if i != 1):
        return None
    data = np.ascontiguousarray(b.data.reshape(-1))
    return layer.op, [m["x"], w, Value(m.graph.fresh(b.name), b.dtype, (n,), data)], dict(layer.attrs)


def apply(graph) -> int:
    return rewrite(graph, PATTERNS, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 3, 5, 6)
    return s.graph(s("add", s("conv", x, s.weight("w", 4, 3, 3, 3)), s.weight("b", 4, 1, 1)))
