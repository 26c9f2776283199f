"""layer_norm(x, 1) * scale + bias -> layer_norm(x, scale, bias)."""
from __future__ import annotations

import numpy as np

from ..match import Const, P, Sketch, rewrite

NORM = P("layer_norm", "x", Const("ones"), name="y")
PATTERNS = [P("add", P("mul", NORM, Const("scale")), Const("bias")), P("add", NORM, Const("bias")),
            P("add", P("layer_norm", "x", Const("s"), name="y"), Const("bias")), P("mul", NORM, Const("scale"))]


def replace(m):
    norm = m.node("y")
    first = m.get("ones") or m["s"]
    scale = m.get("scale") or first
    bias = m.get("bias")
    shape = first.shape
    if m.get("scale") is not None and not np.all(first.data == 1):
        return None
    if scale.shape != shape or (bias is not None and bias.shape != shape):
        return None
    return "layer_norm", [m["x"], scale, *([] if bias is None else [bias])], dict(norm.attrs)


def apply(graph) -> int:
    return rewrite(graph, PATTERNS, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 3, 8)
    y = s("layer_norm", x, np.ones(8, np.float32), axis=-1, epsilon=1e-5)
    return s.graph(s("add", s("mul", y, s.weight("scale", 8)), s.weight("bias", 8)))
