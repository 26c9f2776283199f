"""layer_norm(x, 1) * scale -> layer_norm(x, scale)."""
from __future__ import annotations

import numpy as np

from ..match import Const, P, Sketch, rewrite

PATTERN = P("mul", P("layer_norm", "x", Const("ones"), name="y"), Const("scale"))


def replace(m):
    if m["scale"].shape != m["ones"].shape or not np.all(m["ones"].data == 1):
        return None
    return "layer_norm", [m["x"], m["scale"]], dict(m.node("y").attrs)


def apply(graph) -> int:
    return rewrite(graph, PATTERN, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 3, 8)
    return s.graph(s("mul", s.weight("scale", 8), s("layer_norm", x, np.ones(8, np.float32), epsilon=1e-6)))
