"""The integer form of each op between dequantize and quantize: one rule per op in ISLANDS; see integer.py.

A rule gets the Rewriter and the float node and returns True when it has put an integer node in its place.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..graph import Node, Value
from ..ops import call
from .epilogue import activation
from .fold import infer_node, tensor
from .rows import attention, group_norm, last_axes_norm, linear_resize, matmul, softmax
from .signed import Quantized, clamp_bounds, scale_zero
from .sink import NARY, UNARY

INT32_MAX = 2**31 - 1


def _layer(rw, node: Node) -> bool:
    """nhwc_conv or linear with int8 input and weight; takes a residual add and an activation on the way to int8."""
    weight = rw.weight(node.inputs[1])
    if weight is None and rw.has_weight_zero(node.inputs[1]):
        rw.stays_float(node, "its weight has a zero point; quantize weights symmetrically (int8)")
    if weight is None or node.attrs.get("act", "none") != "none" or len(node.inputs) > 3 and node.inputs[3] is not None:
        return False
    w, w_scale = weight
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and bias.data is None:
        return False
    b = None if bias is None else bias.data
    x = rw.source(node.inputs[0])
    rows = w.shape[0]
    if x is None:
        codes = rw.codes(node.inputs[0])
        return (codes is not None or node.attrs.get("dynamic") == 1) and _dynamic(rw, node, codes, w, w_scale, b)
    unit = x.scale * np.broadcast_to(w_scale, (rows,))
    codes = None if b is None else np.rint(b.astype(np.float64) / unit)
    bound = np.abs(w.data.astype(np.int64)).reshape(rows, -1).sum(1) * max(127 - x.zero, x.zero + 128)
    if np.any(bound + (0 if codes is None else np.abs(codes)) > INT32_MAX):
        rw.stays_float(node, "its sums might leave int32")
        return False
    bias_value = None if codes is None else rw.const(codes.astype(np.int32), _bias_name(node))
    attrs = {k: v for k, v in node.attrs.items() if k in ("strides", "pads", "dilations", "group")} | {"x_zero": x.zero}
    op = {"linear": "qlinear", "nhwc_conv": "nhwc_qconv"}[node.op]
    path = _path_to_int8(rw, node)
    if path is None:
        scale = rw.const(unit.astype(np.float32), node.outputs[0].name + ".scale")
        rw.put(node, Node(op, [x.value, w, bias_value, scale], node.outputs, attrs | {"out": "float32"}))
        return True
    last, residual, (lo, hi), out = path
    scale = rw.const((unit / out.scale).astype(np.float32), node.outputs[0].name + ".scale")
    inputs: list[Value | None] = [x.value, w, bias_value, scale]
    attrs |= {"y_zero": out.zero, "lo": lo, "hi": hi}
    if residual is not None:
        inputs.append(residual.value)
        attrs |= {"r_scale": float(np.float32(residual.scale / out.scale)), "r_zero": residual.zero}
    rw.put(last, Node(op, inputs, [out.value], attrs, node.name, node.scope))
    return True


def _bias_name(node: Node) -> str:
    return (node.inputs[2].name if node.inputs[2] is not None else node.outputs[0].name) + ".int32"


def _path_to_int8(rw, node: Node):
    """From a layer's output over [+ residual] [clamp] to a quantize: (the quantize, residual, (lo, hi), out) or None."""
    y, residual, act = node.outputs[0], None, None
    while True:
        end = rw.sink(y)
        if end is not None:
            bounds = clamp_bounds(act, end[1])
            return bounds and (end[0], residual, bounds, end[1])
        user = rw.only_user(y)
        if user is None or act is not None:
            return None
        if user.op == "add" and residual is None:
            other = user.inputs[1] if user.inputs[0] is y else user.inputs[0]
            residual = rw.source(other)
            if residual is None or tuple(other.shape) != tuple(y.shape) or user.inputs[0] is user.inputs[1]:
                return None
        else:
            act = activation(user)
            if act is None or user.inputs[0] is not y:
                return None
        y = user.outputs[0]


def _dynamic(rw, node: Node, codes, w: Value, w_scale, b) -> bool:
    """Quantize the input while running, or read the codes that the model itself makes then. A depthwise layer that may
    choose stays float: its few products would not pay for the rounding."""
    if codes is None and node.attrs.get("group", 1) > 1 and w.shape[-1] == 1:
        return False
    scale = rw.const(np.broadcast_to(w_scale, (w.shape[0],)).astype(np.float32), node.outputs[0].name + ".scale")
    bias = None if b is None else rw.const(b.astype(np.float32), node.outputs[0].name + ".bias")
    attrs = {k: v for k, v in node.attrs.items() if k != "dynamic"}
    inputs = [node.inputs[0], w, scale, bias] if codes is None else [codes[0], w, scale, bias, None, *codes[1:]]
    rw.put(node, Node({"linear": "dqlinear", "nhwc_conv": "nhwc_dqconv"}[node.op], inputs, node.outputs, attrs))
    return True


def _clamped_sink(rw, y: Value):
    """y over an optional clamp to a quantize: (the quantize, (lo, hi), out) or None."""
    act = None
    end = rw.sink(y)
    if end is None:
        user = rw.only_user(y)
        act = activation(user) if user is not None and user.inputs[0] is y else None
        end = rw.sink(user.outputs[0]) if act is not None else None
    if end is None:
        return None
    bounds = clamp_bounds(act, end[1])
    return bounds and (end[0], bounds, end[1])


def _binary(rw, node: Node) -> bool:
    """add or mul of two int8 values, or of one and a scalar constant (then it is a table)."""
    a, b = rw.source(node.inputs[0]), rw.source(node.inputs[1])
    if a is None or b is None:
        return _table(rw, node)
    end = _clamped_sink(rw, node.outputs[0])
    if end is None:
        return False
    last, (lo, hi), out = end
    attrs = {"a_zero": a.zero, "b_zero": b.zero, "y_zero": out.zero, "lo": lo, "hi": hi}
    if node.op == "add":
        attrs |= {"a_scale": float(np.float32(a.scale / out.scale)), "b_scale": float(np.float32(b.scale / out.scale))}
    else:
        attrs["scale"] = float(np.float32(a.scale * b.scale / out.scale))
    rw.put(last, Node("q" + node.op, [a.value, b.value], [out.value], attrs, node.name, node.scope))
    return True


def _mean(rw, node: Node) -> bool:
    """Average pooling, or the mean over H and W of an NHWC image, as a window sum."""
    x, end = rw.source(node.inputs[0]), _clamped_sink(rw, node.outputs[0])
    if x is None or end is None:
        return False
    last, (lo, hi), out = end
    if node.op == "reduce_mean":
        axes = node.inputs[1] if len(node.inputs) > 1 else None
        if axes is None or axes.data is None or sorted(int(a) % 4 for a in axes.data) != [1, 2] or len(x.value.shape) != 4:
            return False
        attrs: dict[str, Any] = {"kernel": list(x.value.shape[1:3])}
    else:
        if node.attrs.get("dilations", [1, 1]) not in ([1, 1], (1, 1)):
            return False
        attrs = {k: v for k, v in node.attrs.items() if k != "dilations"}
    attrs |= {"scale": float(np.float32(x.scale / out.scale)), "x_zero": x.zero, "y_zero": out.zero, "lo": lo, "hi": hi}
    pool = Node("nhwc_qavg_pool", [x.value], [out.value], attrs, node.name, node.scope)
    if node.op == "reduce_mean" and not node.attrs.get("keepdims", 1):
        wide = Value(rw.name(out.value.name + ".pooled"))
        pool.outputs = [wide]
        rw.insert(last, pool)
        shape = rw.const(np.array(out.value.shape, np.int64), "shape")
        pool = Node("reshape", [wide, shape], [out.value])
    rw.put(last, pool)
    return True


def _move(rw, node: Node) -> bool:
    """op(dequantize(x)) -> dequantize(op(x)) for an op that only moves (or compares) values."""
    inputs = list(node.inputs)
    x = rw.source(inputs[0])
    if x is None and node.op in ("reshape", "squeeze", "unsqueeze", "flatten", "transpose"):
        return _move_codes(rw, node)
    if x is None or node.op != "gather" and any(v is not None and v.data is None for v in inputs[1:]):
        return False
    if node.op == "pad" and node.attrs.get("mode", "constant") == "constant":
        real = float(np.asarray(inputs[2].data).reshape(-1)[0]) if len(inputs) > 2 and inputs[2] is not None else 0.0
        code = real / x.scale + x.zero
        if code != round(code) or not -128 <= code <= 127:
            return False
        inputs[2:3] = [rw.const(np.array(code, np.int8), "pad_value")]
    if node.op == "resize" and node.attrs.get("mode", "nearest") != "nearest":
        return linear_resize(rw, node)
    inputs[0] = x.value
    outs = [Value(rw.name(v.name + ".int8")) for v in node.outputs]
    scale, zero = rw.const(np.array(x.scale, np.float32), "scale"), rw.const(np.array(x.zero, np.int8), "zero")
    at = rw.graph.nodes.index(node)
    moved = Node(node.op, inputs, outs, dict(node.attrs), node.name, node.scope)
    rw.graph.nodes[at:at + 1] = [moved, *(Node("dequantize_linear", [q, scale, zero], [v], {}, node.name, node.scope)
                                          for q, v in zip(outs, node.outputs))]
    infer_node(moved)
    return True


def _move_codes(rw, node: Node) -> bool:
    """The same for codes whose scale is computed."""
    codes = rw.codes(node.inputs[0])
    if codes is None or any(v is not None and v.data is None for v in node.inputs[1:]):
        return False
    moved = rw.insert(node, Node(node.op, [codes[0], *node.inputs[1:]], [Value(rw.name(node.outputs[0].name + ".uint8"))],
                                 dict(node.attrs), node.name, node.scope))
    rw.put(node, Node("dequantize_linear", [moved, *codes[1:]], node.outputs))
    return True


def _concat(rw, node: Node) -> bool:
    """All inputs int8: brought to one scale (the result's, or the common one) by tables, then joined."""
    sources, end = [rw.source(v) for v in node.inputs], rw.sink(node.outputs[0])
    if any(s is None for s in sources):
        return False
    common = {(s.scale, s.zero) for s in sources}
    if end is None and len(common) > 1:
        return False
    out = end[1] if end is not None else sources[0]
    inputs = [s.value if (s.scale, s.zero) == (out.scale, out.zero) else rw.insert(node, _requantize(rw, s, out))
              for s in sources]
    if end is not None:
        rw.graph.nodes.remove(end[0])
        rw.put(node, Node("concat", inputs, [out.value], dict(node.attrs), node.name, node.scope))
        return True
    joined = rw.insert(node, Node("concat", inputs, [Value(rw.name(node.outputs[0].name + ".int8"))], dict(node.attrs)))
    scale, zero = rw.const(np.array(out.scale, np.float32), "scale"), rw.const(np.array(out.zero, np.int8), "zero")
    rw.put(node, Node("dequantize_linear", [joined, scale, zero], node.outputs))
    return True


def _requantize(rw, source, out) -> Node:
    codes = torch.arange(-128, 128, dtype=torch.float32)
    table = _codes((codes - source.zero) * source.scale, out)
    return Node("qlut", [source.value, rw.const(table, "rescale")], [Value(rw.name(source.value.name + ".rescaled"))])


def _codes(real: torch.Tensor, out) -> np.ndarray:
    scale, zero = torch.tensor(out.scale, dtype=torch.float32), torch.tensor(out.zero, dtype=torch.int8)
    return call("quantize_linear", [real.to(torch.float32), scale, zero], {})[0].numpy()


def _table(rw, node: Node) -> bool:
    """A chain of functions of one value from a dequantize to a quantize -> its 256 results, from the ops' meanings."""
    start = [i for i, v in enumerate(node.inputs) if v is not None and v.data is None]
    if len(start) != 1:
        return False
    source = rw.source(node.inputs[start[0]])
    if source is None:
        return False
    real = ((torch.arange(-128, 128, dtype=torch.float32) - source.zero) * torch.tensor(source.scale, dtype=torch.float32))
    value, y = real, node.inputs[start[0]]
    current: Node | None = node
    while current is not None and _pointwise(current, y):
        args = [value if v is y else None if v is None else tensor(v).reshape(()) for v in current.inputs]
        value, y = call(current.op, args, current.attrs)[0], current.outputs[0]
        end = rw.sink(y)
        if end is not None:
            table = rw.const(_codes(value, end[1]), node.op + ".table")
            rw.put(end[0], Node("qlut", [source.value, table], [end[1].value], {}, node.name, node.scope))
            return True
        current = rw.only_user(y)
    return False


def _pointwise(node: Node, y: Value) -> bool:
    """Is each element of the result a function of y's element there alone?"""
    others = [v for v in node.inputs if v is not None and v is not y]
    return node.op in (UNARY | NARY) and node.op not in ("cast", "prelu", "where") \
        and all(v.data is not None and v.data.size == 1 for v in others) \
        and tuple(node.outputs[0].shape) == tuple(y.shape)


def _same(rw, node: Node) -> bool:
    """quantize(dequantize(x)) -> x, or a change of scale by table."""
    if node.outputs[0].dtype != "int8":
        return False
    source, params = rw.source(node.inputs[0]), scale_zero(node)
    if source is None or params is None:
        return False
    out = Quantized(node.outputs[0], *params)
    if (source.scale, source.zero) == params and node.outputs[0] not in rw.graph.outputs:
        rw.graph.replace(node.outputs[0], source.value)
        rw.graph.nodes.remove(node)
        return True
    table = _requantize(rw, source, out)
    table.outputs = [node.outputs[0]]
    rw.put(node, table)
    return True


def _guard(rw, node: Node) -> bool:
    """where(is_nan(x), a, b) -> b for an x that was whole numbers a moment ago."""
    test = rw.makers.get(node.inputs[0])
    if test is None or test.op != "is_nan" or rw.source(test.inputs[0]) is None or node.outputs[0] in rw.graph.outputs \
            or tuple(node.inputs[2].shape) != tuple(node.outputs[0].shape):
        return False
    rw.graph.replace(node.outputs[0], node.inputs[2])
    rw.graph.nodes.remove(node)
    return True


ISLANDS = {
    "nhwc_conv": _layer,
    "linear": _layer,
    "add": _binary,
    "mul": _binary,
    "nhwc_avg_pool": _mean,
    "reduce_mean": _mean,
    "concat": _concat,
    "quantize_linear": _same,
    "where": _guard,
    "softmax": softmax,
    "layer_norm": last_axes_norm,
    "rms_norm": last_axes_norm,
    "group_norm": group_norm,
    "instance_norm": group_norm,
    "attention": attention,
    "matmul": matmul,
    **dict.fromkeys(("nhwc_max_pool", "reshape", "squeeze", "unsqueeze", "flatten", "transpose", "slice", "split", "pad",
                     "resize", "gather", "expand", "tile", "nhwc_depth_to_space", "nhwc_space_to_depth", "identity"), _move),
    **dict.fromkeys(sorted((UNARY | NARY) - {"add", "mul", "cast", "identity", "dropout", "prelu", "where"}), _table),
}
