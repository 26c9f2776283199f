"""x * clip(x + 3, 0, 6) / 6, x * hard_sigmoid(x, 1/6, 1/2) -> hard_swish(x)."""
from __future__ import annotations

from math import isclose

from ..match import P, Sketch, rewrite

RELU6 = P("clip", P("add", "x", 3.0), 0.0, 6.0)
PATTERNS = [
    P("mul", "x", P("hard_sigmoid", "x", alpha=lambda a: isclose(a, 1 / 6, rel_tol=1e-3), beta=0.5)),
    P("div", P("mul", "x", RELU6), 6.0),
    P("mul", P("mul", "x", RELU6), 1 / 6),
    P("mul", P("div", "x", 6.0), RELU6),
    P("mul", P("mul", "x", 1 / 6), RELU6),
]


def replace(m):
    return "hard_swish", [m["x"]], {}


def apply(graph) -> int:
    return rewrite(graph, PATTERNS, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 5)
    return s.graph(s("div", s("mul", x, s("clip", s("add", x, 3.0), 0.0, 6.0)), 6.0))
