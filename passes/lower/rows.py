"""The integer forms of what looks at more than one value, between dequantize and quantize: rules of islands.py.

    quantize(softmax(dequantize(x)))                          ->  qsoftmax
    quantize(layer_norm(dequantize(x), gamma, beta))          ->  qlayer_norm       (rms_norm as well)
    quantize(group_norm(dequantize(x), gamma, beta))          ->  qgroup_norm       (instance_norm as well)
    quantize(attention(dequantize(q), ...(k), ...(v), mask))  ->  qattention
    quantize(matmul(dequantize(a), dequantize(b)))            ->  qmatmul           (both computed)
    [quantize](linear resize(dequantize(x)))                  ->  nhwc_qresize

What they compute is in ops/quantized.py. Where one stays float although int8 surrounds it, the graph's notes say why.
"""
from __future__ import annotations

import numpy as np
import torch

from ..graph import Node, Value
from ..ops import call
from ..ops.quantized import (DEEPEST, LONGEST, MOST_KEYS, ONE, attention_form, attention_table, norm_form, norm_weights,
                             resize_form, single, softmax_form)
from .fold import tensor
from .signed import Quantized


def _ends(rw, node: Node):
    """(what is read, the quantize that reads the result, what it makes), where both sides are int8; else None."""
    x, end = rw.source(node.inputs[0]), rw.sink(node.outputs[0])
    return None if x is None or end is None or len(node.outputs) > 1 else (x, *end)


def softmax(rw, node: Node) -> bool:
    ends = _ends(rw, node)
    if ends is None or not node.outputs[0].shape:
        return False
    x, last, out = ends
    axis = node.attrs.get("axis", -1) % len(x.value.shape)
    if x.value.shape[axis] > LONGEST:
        rw.stays_float(node, f"it sums more than {LONGEST} values")
        return False
    table, attrs = softmax_form(x.scale, (out.scale, out.zero), axis, x.value.shape[axis])
    rw.put(last, Node("qsoftmax", [x.value, rw.const(table.numpy(), "exp.table")], [out.value], attrs, node.name, node.scope))
    return True


def _norm(rw, node: Node, ends, op: str, shape, attrs: dict) -> bool:
    """`shape`: of gamma and beta."""
    x, last, out = ends
    gamma, beta = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    given = [None if v is None else _known(rw, v) for v in (gamma, beta)]
    if given[0] is None or beta is not None and given[1] is None:
        rw.stays_float(node, "its scale or bias is computed")
        return False
    full = norm_weights(shape, *given)
    g, b, more = norm_form((x.scale, x.zero), (out.scale, out.zero), full, node.attrs)
    inputs: list[Value | None] = [x.value, rw.const(g.numpy(), gamma.name + ".scaled"),
                                  rw.const(b.numpy(), (node.outputs[0] if beta is None else beta).name + ".scaled")]
    rw.put(last, Node(op, inputs, [out.value], attrs | more, node.name, node.scope))
    return True


def _known(rw, v: Value) -> torch.Tensor | None:
    """A constant as float32, also one behind a dequantize."""
    maker = rw.makers.get(v)
    if v.data is not None:
        return tensor(v).float()
    if maker is None or maker.op != "dequantize_linear" or any(u is not None and u.data is None for u in maker.inputs):
        return None
    return call("dequantize_linear", [None if u is None else tensor(u) for u in maker.inputs], maker.attrs)[0].float()


def last_axes_norm(rw, node: Node) -> bool:
    ends = _ends(rw, node)
    if ends is None:
        return False
    axis = node.attrs.get("axis", -1) % len(ends[0].value.shape)
    return _norm(rw, node, ends, "qlayer_norm", ends[0].value.shape[axis:],
                 {"axis": axis, "centred": int(node.op == "layer_norm")})


def group_norm(rw, node: Node) -> bool:
    ends = _ends(rw, node)
    if ends is None:
        return False
    channels = ends[0].value.shape[1]
    return _norm(rw, node, ends, "qgroup_norm", (channels,), {"num_groups": node.attrs.get("num_groups", channels)})


def attention(rw, node: Node) -> bool:
    q, k, v = (rw.source(i) for i in node.inputs[:3])
    end = rw.sink(node.outputs[0])
    if q is None or k is None or v is None or end is None:
        return False
    last, out = end
    inputs = [*node.inputs, *[None] * 7][:7]
    flat = len(q.value.shape) == 3
    depth = q.value.shape[-1] // (node.attrs["q_num_heads"] if flat else 1)
    keys = k.value.shape[1 if flat else 2]
    why = "it has a cache" if inputs[4] is not None or inputs[5] is not None else \
        "its scores or keys are outputs too" if len(node.outputs) > 1 else \
        "its scores have a softcap" if node.attrs.get("softcap") else \
        "its sums might leave int32" if depth > DEEPEST or keys > MOST_KEYS else \
        "its mask is neither bool nor float32" if inputs[3] is not None and inputs[3].dtype not in ("bool", "float32") else None
    if why is not None:
        rw.stays_float(node, why)
        return False
    attrs = attention_form([(t.scale, t.zero) for t in (q, k, v)], (out.scale, out.zero), depth, node.attrs)
    inputs[:3] = [q.value, k.value, v.value]
    inputs.append(rw.const(attention_table().numpy(), "exp.table"))
    rw.put(last, Node("qattention", inputs, [out.value], attrs, node.name, node.scope))
    return True


def matmul(rw, node: Node) -> bool:
    a, b = (rw.source(v) for v in node.inputs[:2])
    end = rw.sink(node.outputs[0])
    if a is None or b is None or end is None or min(len(a.value.shape), len(b.value.shape)) < 2:
        return False
    last, out = end
    if a.value.shape[-1] > MOST_KEYS:
        rw.stays_float(node, "its sums might leave int32")
        return False
    attrs = {"scale": single(a.scale * b.scale / out.scale), "a_zero": a.zero, "b_zero": b.zero, "y_zero": out.zero}
    rw.put(last, Node("qmatmul", [a.value, b.value], [out.value], attrs, node.name, node.scope))
    return True


def linear_resize(rw, node: Node) -> bool:
    """Along height and width of an image, NHWC or (between two transposes) NCHW. Without a quantize behind it the result keeps
    the scale."""
    x = rw.source(node.inputs[0])
    if x is None or node.outputs[0].dtype != "float32":
        return False
    mode = node.attrs.get("mode")
    if mode != "linear" or node.attrs.get("antialias"):
        rw.stays_float(node, f"mode {mode} has no integer form" if mode != "linear" else "antialias has no integer form")
        return False
    given = [None if v is None else tensor(v) for v in node.inputs[1:]]
    tables, nchw = resize_form(node.attrs, x.value.shape, given, 1), False
    if tables is None:
        tables, nchw = resize_form(node.attrs, x.value.shape, given, 2), True
    if tables is None:
        rw.stays_float(node, "it does not resample height and width of an image alone")
        return False
    end = rw.sink(node.outputs[0])
    out = Quantized(Value(rw.name(node.outputs[0].name + ".int8")), x.scale, x.zero) if end is None else end[1]
    source = rw.insert(node, _turned(rw, x.value, [0, 2, 3, 1])) if nchw else x.value
    inputs = [source, *(rw.const(t.numpy(), kind) for t, kind in zip(tables, ("taps", "weights") * 2))]
    attrs = {"scale": single(x.scale / out.scale / ONE), "x_zero": x.zero, "y_zero": out.zero}
    made = Node("nhwc_qresize", inputs, [out.value], attrs, node.name, node.scope)
    if nchw:
        made.outputs = [Value(rw.name(out.value.name + ".nhwc"))]
        rw.insert(node, made)
        made = _turned(rw, made.outputs[0], [0, 3, 1, 2], out.value)
    if end is not None:
        rw.put(end[0], made)
        return True
    rw.insert(node, made)
    scale, zero = rw.const(np.array(x.scale, np.float32), "scale"), rw.const(np.array(x.zero, np.int8), "zero")
    rw.put(node, Node("dequantize_linear", [out.value, scale, zero], node.outputs))
    return True



def _turned(rw, v: Value, perm: list[int], to: Value | None = None) -> Node:
    return Node("transpose", [v], [to or Value(rw.name(v.name + ".turned"))], {"perm": perm})
