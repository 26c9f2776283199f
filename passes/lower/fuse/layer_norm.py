"""(x - mean) / sqrt(mean((x - mean)^2) + eps) -> layer_norm(x, 1), over one or several last axes.

Scale and bias that follow are taken in by `layer_norm_scale` and `layer_norm_bias`. (Ba et al., arXiv 1607.06450.)
"""
from __future__ import annotations

import numpy as np

from ..match import Const, Number, P, Sketch, rewrite
from ._last_axes import last_axes

MEAN = P("reduce_mean", "x", Const("axes"), keepdims=1)
CENTER = P("sub", "x", MEAN, name="d")
SQUARE = (P("pow", (CENTER, "d"), 2.0), P("mul", "d", "d"))
VARIANCE = P("add", P("reduce_mean", SQUARE, Const("axes2"), keepdims=1), Number("eps"))
PATTERNS = [
    P("div", CENTER, P("sqrt", VARIANCE)),
    P("mul", CENTER, P("reciprocal", P("sqrt", VARIANCE))),
    P("mul", CENTER, P("pow", VARIANCE, -0.5)),
    P("div", CENTER, P("pow", VARIANCE, 0.5)),
    P("div", P("sub", "x", MEAN), P("sqrt", P("add", P("reduce_mean", P("pow", P("sub", "x", MEAN), 2.0), Const("axes2"),
                                                      keepdims=1), Number("eps")))),
]


def replace(m):
    axis = last_axes(m["x"], m["axes"])
    if axis is None or axis != last_axes(m["x"], m["axes2"]):
        return None
    shape = m["x"].shape[axis:]
    if not all(isinstance(d, int) for d in shape):
        return None
    ones = m.constant("ones", np.ones(shape, m["x"].dtype if m["x"].dtype != "bfloat16" else "float32"))
    ones.dtype = m["x"].dtype
    return "layer_norm", [m["x"], ones], {"axis": axis, "epsilon": m.number("eps")}


def apply(graph) -> int:
    return rewrite(graph, PATTERNS, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 3, 8)
    d = s("sub", x, s("reduce_mean", x, [-1], keepdims=1))
    variance = s("reduce_mean", s("pow", d, 2.0), [-1], keepdims=1)
    return s.graph(s("div", d, s("sqrt", s("add", variance, 1e-5))))
