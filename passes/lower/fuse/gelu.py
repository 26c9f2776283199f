"""x * (1 + erf(x / sqrt(2))) / 2 -> gelu(x), however the factors are ordered."""
from __future__ import annotations

from math import sqrt

from ..match import P, Sketch, rewrite

BELL = P("add", P("erf", (P("div", "x", sqrt(2)), P("mul", "x", 1 / sqrt(2)))), 1.0)
PATTERNS = [
    P("mul", P("mul", "x", BELL), 0.5),
    P("mul", P("mul", "x", 0.5), BELL),
    P("mul", "x", P("mul", BELL, 0.5)),
    P("div", P("mul", "x", BELL), 2.0),
    P("mul", P("div", "x", 2.0), BELL),
    P("mul", "x", P("div", BELL, 2.0)),
    P("mul", "x", P("add", P("mul", P("erf", (P("div", "x", sqrt(2)), P("mul", "x", 1 / sqrt(2)))), 0.5), 0.5)),
]


def replace(m):
    return "gelu", [m["x"]], {"approximate": "none"}


def apply(graph) -> int:
    return rewrite(graph, PATTERNS, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 5)
    return s.graph(s("mul", s("mul", x, s("add", s("erf", s("div", x, sqrt(2))), 1.0)), 0.5))
