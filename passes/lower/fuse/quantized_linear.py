"""matmul(x, dequantize(w)) with a constant int8 or uint8 [K, N] w -> linear(x, dequantize(w.T)), as QDQ models hold it.

Also when the dequantized weight is transposed first (Gemm with transB). The weight stays in its eight bits, one scale
per row of w.T or one for all, so the integer stage sees the layer.
"""
from __future__ import annotations

import numpy as np

from ...graph import Value, constant
from ...hashing import transposed
from ..match import Const, P, Sketch, rewrite

WEIGHT = P("dequantize_linear", Const("w"), Const("scale"), (Const("zero"), None), name="real", block_size=0)
PATTERNS = [P("matmul", "x", P("transpose", WEIGHT, name="turned", perm=[1, 0])), P("matmul", "x", WEIGHT)]


def replace(m):
    w, scale, x = m["w"], m["scale"], m["x"]
    if w.data.ndim != 2 or w.dtype not in ("int8", "uint8") or scale.data.ndim > 1 or x.data is not None:
        return None
    if x.shape is not None and len(x.shape) < 2:
        return None
    rows = 0 if m.get("turned") else 1  # the axis of w that counts the layer's outputs
    if scale.data.size > 1 and m.node("real").attrs.get("axis", 1) % 2 != rows:
        return None
    if rows:
        w = Value(m.graph.fresh(w.name + ".T"), w.dtype, w.data.shape[::-1], np.ascontiguousarray(w.data.T),
                  transposed(w.meta, (1, 0)))
    inputs = [w, scale] + ([m["zero"]] if m.get("zero") is not None else [])
    return "linear", [x, m.emit("dequantize_linear", inputs, {"axis": 0}, w.shape, scale.dtype)], {}


def apply(graph) -> int:
    return rewrite(graph, PATTERNS, replace)


def example():
    s = Sketch()
    w = constant("fc.weight", np.arange(-10, 10, dtype=np.int8).reshape(5, 4))
    real = s("dequantize_linear", w, np.full(5, 0.5, np.float32), axis=0)
    return s.graph(s("matmul", s.input("x", 2, 3, 4), s("transpose", real, perm=[1, 0])))
