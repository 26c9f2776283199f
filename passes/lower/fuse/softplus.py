"""log(1 + exp(x)) -> softplus(x)."""
from __future__ import annotations

from ..match import P, Sketch, rewrite

PATTERN = P("log", P("add", P("exp", "x"), 1.0))


def replace(m):
    return "softplus", [m["x"]], {}


def apply(graph) -> int:
    return rewrite(graph, PATTERN, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 5)
    return s.graph(s("log", s("add", 1.0, s("exp", x))))
