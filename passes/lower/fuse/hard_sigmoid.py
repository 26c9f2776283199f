"""clip(x + 3, 0, 6) / 6 -> hard_sigmoid(x, 1/6, 1/2), in the orders exporters write it."""
from __future__ import annotations

from ..match import P, Sketch, rewrite

PATTERNS = [P("div", P("clip", P("add", "x", 3.0), 0.0, 6.0), 6.0),
            P("mul", P("clip", P("add", "x", 3.0), 0.0, 6.0), 1 / 6)]


def replace(m):
    return "hard_sigmoid", [m["x"]], {"alpha": 1 / 6, "beta": 0.5}


def apply(graph) -> int:
    return rewrite(graph, PATTERNS, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 5)
    return s.graph(s("div", s("clip", s("add", x, 3.0), 0.0, 6.0), 6.0))
