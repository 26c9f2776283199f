"""Decompose: ops that are shorthand for others are written out, before anything else looks at them.

    qlinear_conv(x, ...)    ->  quantize_linear(conv(dequantize_linear(x), dequantize_linear(w), b))
    qlinear_matmul(a, b..)  ->  quantize_linear(matmul(dequantize_linear(a), dequantize_linear(b)))

The integer stage makes one int8 op of the pattern again, the same as for models that come with QDQ pairs.
"""
from __future__ import annotations

import numpy as np

from ..graph import Graph, Node, Value, constant


def decompose(graph: Graph) -> None:
    nodes: list[Node] = []
    for node in graph.nodes:
        form = FORMS.get(node.op)
        new = form(graph, node) if form else None
        nodes.extend([node] if new is None else new)
    graph.nodes = nodes


def _qlinear_conv(graph: Graph, node: Node):
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = node.inputs
    if w.data is None or bias and bias[0] is not None and any(v.data is None for v in (bias[0], x_scale, w_scale)):
        return None  # rewrite.py has a form for these
    fx, fw, fy = (Value(graph.fresh(f"{node.outputs[0].name}.{s}")) for s in "xwy")
    inputs = [fx, fw]
    if bias and bias[0] is not None:
        unit = x_scale.data.astype(np.float64) * w_scale.data.astype(np.float64)
        real = (bias[0].data.astype(np.float64) * unit.reshape(-1)).astype(np.float32)
        inputs.append(constant(graph.fresh(bias[0].name + ".real"), real))
    where = {"name": node.name, "scope": node.scope}
    return [
        Node("dequantize_linear", [x, x_scale, x_zero], [fx], {}, **where),
        Node("dequantize_linear", [w, w_scale, w_zero], [fw], {"axis": 0}, **where),
        Node("conv", inputs, [fy], dict(node.attrs), **where),
        Node("quantize_linear", [fy, y_scale, y_zero], [node.outputs[0]], {}, **where),
    ]


def _qlinear_matmul(graph: Graph, node: Node):
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = node.inputs
    if any(v.data is None or v.data.size != 1 for v in (a_scale, b_scale)):
        return None
    fa, fb, fy = (Value(graph.fresh(f"{node.outputs[0].name}.{s}")) for s in "aby")
    where = {"name": node.name, "scope": node.scope}
    return [
        Node("dequantize_linear", [a, a_scale, a_zero], [fa], {}, **where),
        Node("dequantize_linear", [b, b_scale, b_zero], [fb], {}, **where),
        Node("matmul", [fa, fb], [fy], {}, **where),
        Node("quantize_linear", [fy, y_scale, y_zero], [node.outputs[0]], {}, **where),
    ]


FORMS = {"qlinear_conv": _qlinear_conv, "qlinear_matmul": _qlinear_matmul}
