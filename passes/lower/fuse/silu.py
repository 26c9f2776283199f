"""x * sigmoid(x) -> silu(x)."""
from __future__ import annotations

from ..match import P, Sketch, rewrite

PATTERN = P("mul", "x", P("sigmoid", "x"))


def replace(m):
    return "silu", [m["x"]], {}


def apply(graph) -> int:
    return rewrite(graph, PATTERN, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 5)
    return s.graph(s("mul", s("sigmoid", x), x))
