"""x / sqrt(mean(x^2) + eps) -> rms_norm(x, 1), over one or several last axes. (Zhang & Sennrich, arXiv 1910.07467.)"""
from __future__ import annotations

import numpy as np

from ..match import Const, Number, P, Sketch, rewrite
from ._last_axes import last_axes

SQUARE = P("add", P("reduce_mean", (P("pow", "x", 2.0), P("mul", "x", "x")), Const("axes"), keepdims=1), Number("eps"))
PATTERNS = [
    P("div", "x", P("sqrt", SQUARE)),
    P("mul", "x", P("reciprocal", P("sqrt", SQUARE))),
    P("mul", "x", P("div", 1.0, P("sqrt", SQUARE))),
    P("mul", "x", P("pow", SQUARE, -0.5)),
]


def replace(m):
    x = m["x"]
    axis = last_axes(x, m["axes"])
    if axis is None or not all(isinstance(d, int) for d in x.shape[axis:]) or x.dtype == "bfloat16":
        return None
    return "rms_norm", [x, m.constant("ones", np.ones(x.shape[axis:], x.dtype))], {"axis": axis, "epsilon": m.number("eps")}


def apply(graph) -> int:
    return rewrite(graph, PATTERNS, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 3, 8)
    mean = s("reduce_mean", s("pow", x, 2.0), [-1], keepdims=1)
    return s.graph(s("mul", x, s("reciprocal", s("sqrt", s("add", mean, 1e-6)))))
