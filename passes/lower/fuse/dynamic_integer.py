"""cast(matmul_integer(x, w, x_zero, w_zero)) * (x_scale * w_scale) -> matmul(dequantize(x), dequantize(w))

and conv_integer the same: what dynamic quantizers write. The integer stage makes one dynamic int8 layer of it (dqlinear,
nhwc_dqconv), which multiplies the same whole numbers and scales in the same order. An x_scale that is constant is part
of w_scale by then: x is dequantized with 1.
"""
from __future__ import annotations

import numpy as np

from ...graph import constant
from ..match import Const, P, Sketch, rewrite

PRODUCTS = ("matmul_integer", "conv_integer")
SUM = P("cast", P(PRODUCTS, "x", Const("w"), ("x_zero", None), (Const("w_zero"), None), name="sum"), to="float32")
PATTERNS = [P("mul", SUM, P("mul", "x_scale", Const("w_scale"))), P("mul", SUM, Const("w_scale"))]


def replace(m):
    layer, w = m.node("sum"), m["w"]
    x_scale = m.get("x_scale") or m.constant("one", np.float32(1))
    is_conv = layer.op == "conv_integer"
    columns, rank = (w.shape[0], len(w.shape)) if is_conv else (w.shape[-1], len(m["sum"].shape or ()))
    along = (columns, *[1] * (rank - 2)) if is_conv else (columns,)  # the shape of one scale per column, beside the product
    per_column = m["w_scale"].data.size != 1
    if not is_conv and w.data.ndim != 2 or x_scale.shape not in ((), (1,)) or m["x"].data is not None:
        return None
    if per_column and np.broadcast_shapes(m["w_scale"].shape, along) not in (along, (1, *along)):
        return None
    zeros = [m.get(name) for name in ("x_zero", "w_zero")]
    if any(z is not None and (z.shape is None or np.prod(z.shape) != 1) for z in zeros[:1]):
        return None
    w_zero = zeros[1]
    scale = m.constant(w.name + ".scale", m["w_scale"].data.reshape(-1 if per_column else ()))
    if w_zero is not None and per_column != (w_zero.data.size > 1):  # one of each for each column, or one for all
        scale = m.constant(scale.name, np.broadcast_to(scale.data, (columns,)).copy())
        w_zero = m.constant(w_zero.name, np.broadcast_to(w_zero.data.reshape(-1), (columns,)).copy())
    x = m.emit("dequantize_linear", [m["x"], x_scale, *zeros[:1]], {}, m["x"].shape, "float32")
    w = m.emit("dequantize_linear", [w, scale, w_zero], {"axis": 0 if is_conv else 1}, w.shape, "float32")
    return ("conv" if is_conv else "matmul"), [x, w], dict(layer.attrs)


def apply(graph) -> int:
    return rewrite(graph, PATTERNS, replace)


def example():
    s = Sketch()
    codes, scale, zero = s("dynamic_quantize_linear", s.input("x", 2, 3, 4), outputs=3)
    w = constant("fc.weight", np.arange(-10, 10, dtype=np.int8).reshape(4, 5))
    total = s("cast", s("matmul_integer", codes, w, zero), to="float32")
    return s.graph(s("mul", total, s("mul", scale, np.full(5, 0.5, np.float32))))
