"""x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) / 2 -> gelu(x, approximate="tanh"), however it is ordered."""
from __future__ import annotations

from math import pi, sqrt

from ..match import P, Sketch, rewrite

CUBE = (P("pow", "x", 3.0), P("mul", P("mul", "x", "x"), "x"), P("mul", P("pow", "x", 2.0), "x"))
INNER = (
    P("mul", P("add", "x", P("mul", CUBE, 0.044715)), sqrt(2 / pi)),
    P("mul", P("add", "x", P("mul", P("mul", P("mul", "x", 0.044715), "x"), "x")), sqrt(2 / pi)),
    P("mul", P("mul", "x", P("add", P("mul", P("mul", "x", "x"), 0.044715), 1.0)), sqrt(2 / pi)),
    P("mul", P("mul", "x", sqrt(2 / pi)), P("add", P("mul", P("mul", "x", 0.044715), "x"), 1.0)),
    P("mul", P("mul", "x", sqrt(2 / pi)), P("add", P("mul", P("mul", "x", "x"), 0.044715), 1.0)),
)
BELL = P("add", P("tanh", INNER), 1.0)
PATTERNS = [
    P("mul", P("mul", "x", 0.5), BELL),
    P("mul", P("mul", "x", BELL), 0.5),
    P("mul", "x", P("mul", BELL, 0.5)),
]


def replace(m):
    return "gelu", [m["x"]], {"approximate": "tanh"}


def apply(graph) -> int:
    return rewrite(graph, PATTERNS, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 5)
    inner = s("mul", s("add", x, s("mul", s("pow", x, 3.0), 0.044715)), sqrt(2 / pi))
    return s.graph(s("mul", s("mul", x, 0.5), s("add", s("tanh", inner), 1.0)))
