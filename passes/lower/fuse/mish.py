"""x * tanh(softplus(x)) -> mish(x)."""
from __future__ import annotations

from ..match import P, Sketch, rewrite

PATTERN = P("mul", "x", P("tanh", P("softplus", "x")))


def replace(m):
    return "mish", [m["x"]], {}


def apply(graph) -> int:
    return rewrite(graph, PATTERN, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 5)
    return s.graph(s("mul", x, s("tanh", s("softplus", x))))
