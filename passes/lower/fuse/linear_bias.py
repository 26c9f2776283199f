"""linear(x, w) + b with a constant b of N values -> linear(x, w, b)."""
from __future__ import annotations

import numpy as np

from ...graph import Value
from ..match import Const, P, Sketch, rewrite

PATTERNS = [P("add", P("linear", "x", "w", name="y"), Const("b")),
            P("add", P("linear", "x", "w", Const("a"), name="y"), Const("b"))]


def replace(m):
    w, b, a, layer = m["w"], m["b"], m.get("a"), m.node("y")
    n = w.shape[0]
    if layer.attrs.get("act", "none") != "none" or b.data.size not in (1, n) or b.data.shape[-1:] not in ((n,), (1,), ()):
        return None
    if m["y"].shape is None or b.data.ndim > len(m["y"].shape):
        return None
    if b.shape != (n,) or a is not None:
        data = np.broadcast_to(b.data.reshape(-1), (n,)) + (0 if a is None else a.data)
        b = Value(m.graph.fresh(b.name if a is None else a.name), b.dtype, (n,), np.ascontiguousarray(data, b.data.dtype))
    return "linear", [m["x"], w, b], dict(layer.attrs)


def apply(graph) -> int:
    return rewrite(graph, PATTERNS, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 3, 4)
    return s.graph(s("add", s.weight("b", 5), s("linear", x, s.weight("w", 5, 4))))
