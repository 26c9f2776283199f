"""min(max(x, lo), hi), or one of the two, with one number each -> clip(x, lo, hi); max(x, 0) -> relu(x).

A clip is fused into the layer before it and works on integers, which a max of two values does not.
"""
from __future__ import annotations

from ..match import Number, P, Sketch, rewrite

BOTH = [P("min", P("max", "x", Number("lo")), Number("hi")), P("max", P("min", "x", Number("hi")), Number("lo"))]
ONE = [P("max", "x", Number("lo")), P("min", "x", Number("hi"))]


def replace(m):
    x, lo, hi = m["x"], m.get("lo"), m.get("hi")
    bounds = [v for v in (lo, hi) if v is not None]
    if x.data is not None or x.dtype not in ("float32", "float16", "bfloat16") or x.shape is None:
        return None
    if any(v.data.ndim > len(x.shape) for v in bounds) or len(bounds) == 2 and m.number("lo") > m.number("hi"):
        return None
    if hi is None and m.number("lo") == 0:
        return "relu", [x], {}
    ends = [lo] if hi is None else [lo, hi]
    return "clip", [x, *(None if v is None else m.constant("bound", v.data.reshape(())) for v in ends)], {}


def apply(graph) -> int:
    return rewrite(graph, BOTH, replace) + rewrite(graph, ONE, replace)


def example():
    s = Sketch()
    return s.graph(s("min", s("max", -0.5, s.input("x", 2, 5)), 1.0))
