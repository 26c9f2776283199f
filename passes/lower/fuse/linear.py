"""matmul(x, w) with a constant [K, N] right side -> linear(x, w.T).

The usual exporter writes transpose(weight) first: then the weight itself is taken, shared with whoever reads it.
"""
from __future__ import annotations

import numpy as np

from ...graph import Value
from ...hashing import transposed
from ..match import Const, P, Sketch, rewrite

PATTERNS = [P("matmul", "x", P("transpose", Const("w"), perm=[1, 0])), P("matmul", "x", Const("wt"))]


def replace(m):
    w = m.get("w")
    if w is None:
        wt = m["wt"]
        if wt.data.ndim != 2:
            return None
        w = Value(m.graph.fresh(wt.name + ".T"), wt.dtype, wt.data.shape[::-1], np.ascontiguousarray(wt.data.T),
                  transposed(wt.meta, (1, 0)))
        if all(n is m.root or wt not in n.inputs for n in m.graph.nodes):
            w.name = wt.name  # nobody else reads it: the layer keeps its name
    x = m["x"]
    if x.data is not None or not w.dtype.startswith(("float", "bfloat")) or x.shape is not None and len(x.shape) < 2:
        return None
    return "linear", [m["x"], w], {}


def apply(graph) -> int:
    return rewrite(graph, PATTERNS, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 3, 4)
    return s.graph(s("matmul", x, s("transpose", s.weight("fc.weight", 5, 4), perm=[1, 0])))
