"""layer_norm(x, scale) + bias -> layer_norm(x, scale, bias)."""
from __future__ import annotations

from ..match import Const, P, Sketch, rewrite

PATTERN = P("add", P("layer_norm", "x", Const("scale"), name="y"), Const("bias"))


def replace(m):
    if m["bias"].shape != m["scale"].shape:
        return None
    return "layer_norm", [m["x"], m["scale"], m["bias"]], dict(m.node("y").attrs)


def apply(graph) -> int:
    return rewrite(graph, PATTERN, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 3, 8)
    return s.graph(s("add", s("layer_norm", x, s.weight("scale", 8)), s.weight("bias", 8)))
