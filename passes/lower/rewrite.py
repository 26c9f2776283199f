"""Rewrite: rare forms that have no kernel become ops that have one. All shapes are known.

    max_pool, average_pool of 3-D images   ->  one over height and width, one over depth
    batch_norm in training mode            ->  mean and variance of the batch, written out
    resize with antialias                  ->  a product with a constant matrix along each axis
    space_to_depth with mode CRD           ->  reshape, transpose, reshape
    conv with computed weights or of 3-D images, max_pool with Indices  ->  over patches (patches.py)
    eye_like                               ->  the matrix
    einsum                                 ->  transpose, reshape, matmul (einsum.py)
    qlinear_conv, qlinear_matmul           ->  conv_integer or matmul_integer and its scaling, where decompose.py has
                                               left them: scales that are computed, per row or per column
    dropout whose mask is read             ->  its input, and ones
    ops that have only a float32 kernel    ->  in float32 between casts, for float16, bfloat16 and float64
"""
from __future__ import annotations

import numpy as np
import torch

from ..graph import Graph, Node, Value, constant
from ..ops import call
from ..ops.move import resize_taps
from ..ops.run import array
from ..ops.window import pool_pads, resolve_pads, spread
from . import einsum, patches
from .fold import infer_node, tensor


def rewrite(graph: Graph) -> None:
    for forms in (FORMS, dict.fromkeys(ONLY_FLOAT32, _in_float32)):
        nodes: list[Node] = []
        for node in graph.nodes:
            form, build = forms.get(node.op), _Build(graph, node)
            nodes += build.nodes if form is not None and form(build, node) else [node]
        graph.nodes = nodes


class _Build:
    """Makes the nodes that replace one."""

    def __init__(self, graph: Graph, node: Node):
        self.graph, self.node = graph, node
        self.nodes: list[Node] = []

    def op(self, op: str, *inputs, into: Value | None = None, **attrs) -> Value:
        """`into`, or a new value, made by `op`; arrays and numbers among the inputs become constants."""
        stem = self.node.outputs[0].name
        fixed = [v if v is None or isinstance(v, Value) else constant(self.name(f"{stem}.{op}"), v) for v in inputs]
        out = into or Value(self.name(f"{stem}.{op}"))
        self.nodes.append(Node(op, fixed, [out], attrs, self.node.name, self.node.scope))
        infer_node(self.nodes[-1])
        return out

    def cast(self, v: Value, dtype: str, into: Value | None = None) -> Value:
        """`v` as another type; a constant is converted here."""
        if v.data is not None:
            return Value(self.name(f"{v.name}.{dtype}"), dtype, v.shape, v.data.astype(dtype), dict(v.meta))
        out = into or Value(self.name(f"{v.name}.{dtype}"))
        self.nodes.append(Node("cast", [v], [out], {"to": dtype}, self.node.name, self.node.scope))
        infer_node(self.nodes[-1])
        return out

    def name(self, stem: str) -> str:
        taken = {v.name for n in self.nodes for v in [*n.inputs, *n.outputs] if v is not None}
        name, i = self.graph.fresh(stem), 1
        while name in taken:
            name, i = self.graph.fresh(f"{stem}.{i}"), i + 1
        return name


def _in_float32(build: _Build, node: Node) -> bool:
    """The reference for these types rounds after every step of the op; this only at its end."""
    kinds = {v.dtype for v in node.inputs if v is not None} & {"float16", "bfloat16", "float64"}
    if not kinds:
        return False
    def wide(v):
        return v if v is None or v.dtype not in kinds else build.cast(v, "float32")
    outs = [Value(build.name(v.name)) if v.dtype in kinds else v for v in node.outputs]
    build.nodes.append(Node(node.op, list(map(wide, node.inputs)), outs, node.attrs, node.name, node.scope))
    infer_node(build.nodes[-1])
    for out, v in zip(outs, node.outputs):
        if out is not v:
            build.cast(out, v.dtype, into=v)
    return True


def _pool_3d(build: _Build, node: Node) -> bool:
    """Largest of largest, and mean of means: how many cells of a window count is a product over the axes."""
    x, y, a = node.inputs[0], node.outputs[0], dict(node.attrs)
    if len(node.outputs) > 1 and patches.max_pool(build, node):
        return True
    if len(x.shape) != 5:
        return False
    size, kernel = list(x.shape[2:]), list(a["kernel_shape"])
    strides, dilations = spread(a.get("strides"), 3), spread(a.get("dilations"), 3)
    pads = resolve_pads(a.get("auto_pad", "NOTSET"), a.get("pads"), size, kernel, strides, dilations)
    more = {"ceil_mode": a.get("ceil_mode", 0)}
    if node.op == "average_pool":
        more["count_include_pad"] = a.get("count_include_pad", 0)
    n, c, d, h, w = x.shape
    reach = pool_pads(size, kernel, strides, pads, dilations, more["ceil_mode"])
    out = [(s + reach[i] + reach[3 + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i, s in enumerate(size)]
    flat = build.op("reshape", x, np.array([n, c * d, h, w]))
    flat = build.op(node.op, flat, kernel_shape=kernel[1:], strides=strides[1:], dilations=dilations[1:],
                    pads=[*pads[1:3], *pads[4:6]], **more)
    flat = build.op("reshape", flat, np.array([n, c, d, out[1] * out[2]]))
    flat = build.op(node.op, flat, kernel_shape=[kernel[0], 1], strides=[strides[0], 1], dilations=[dilations[0], 1],
                    pads=[pads[0], 0, pads[3], 0], **more)
    build.op("reshape", flat, np.array([n, c, *out]), into=y)
    return True  # an Indices output that nobody reads is gone


def _batch_norm_training(build: _Build, node: Node) -> bool:
    if not node.attrs.get("training_mode"):
        return False
    x, scale, bias, mean, var = node.inputs
    axes, flat = np.array([0, *range(2, len(x.shape))]), np.array([-1])
    shape = np.array([-1, *[1] * (len(x.shape) - 2)])
    def number(v):
        return np.array(v, x.dtype)
    now = build.op("reduce_mean", x, axes, keepdims=1)
    centred = build.op("sub", x, now)
    spread_ = build.op("reduce_mean", build.op("mul", centred, centred), axes, keepdims=1)
    deviation = build.op("sqrt", build.op("add", spread_, number(node.attrs.get("epsilon", 1e-5))))
    y = build.op("mul", build.op("div", centred, deviation), build.op("reshape", scale, shape))
    build.op("add", y, build.op("reshape", bias, shape), into=node.outputs[0])
    momentum = node.attrs.get("momentum", 0.9)
    for old, new, out in zip((mean, var), (now, spread_), node.outputs[1:]):
        kept = build.op("mul", old, np.array(momentum, old.dtype))
        fresh = build.op("mul", build.op("reshape", new, flat), np.array(1 - momentum, old.dtype))
        build.op("add", kept, fresh, into=out)
    return True


def _resize_antialias(build: _Build, node: Node) -> bool:
    """[..., in] @ [in, out] with the resampled axis moved to the end."""
    if not node.attrs.get("antialias"):
        return False
    a, x, rank = node.attrs, node.inputs[0], len(node.inputs[0].shape)
    if x.dtype not in ("float32", "float16", "float64"):
        return False
    roi, scales, sizes = [None if v is None else tensor(v) for v in [*node.inputs[1:], None, None, None][:3]]
    taps, outside = resize_taps(x.shape, roi, scales, sizes, a.get("mode", "nearest"),
                                a.get("coordinate_transformation_mode", "half_pixel"),
                                a.get("nearest_mode", "round_prefer_floor"), a.get("cubic_coeff_a", -0.75),
                                a.get("exclude_outside", 0), 1, a.get("axes"), a.get("keep_aspect_ratio_policy", "stretch"))
    if outside or not taps:
        return False
    for i, (axis, (index, weight)) in enumerate(taps.items()):
        matrix = np.zeros((x.shape[axis], len(index)))
        np.add.at(matrix, (index, np.arange(len(index))[:, None]), weight)
        swap = [axis if d == rank - 1 else rank - 1 if d == axis else d for d in range(rank)]
        last = node.outputs[0] if i == len(taps) - 1 else None
        if axis == rank - 1:
            x = build.op("matmul", x, matrix.astype(x.dtype), into=last)
        else:
            x = build.op("matmul", build.op("transpose", x, perm=swap), matrix.astype(x.dtype))
            x = build.op("transpose", x, perm=swap, into=last)
    return True


def _space_to_depth(build: _Build, node: Node) -> bool:
    if node.attrs.pop("mode", "DCR") == "DCR":
        return False
    (n, c, h, w), b = node.inputs[0].shape, node.attrs["blocksize"]
    x = build.op("reshape", node.inputs[0], np.array([n, c, h // b, b, w // b, b]))
    x = build.op("transpose", x, perm=[0, 1, 3, 5, 2, 4])
    build.op("reshape", x, np.array([n, c * b * b, h // b, w // b]), into=node.outputs[0])
    return True


def _qlinear(build: _Build, node: Node) -> bool:
    """The meaning step by step, in the same float32 operations: dividing by a scale of 1 changes nothing."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = node.inputs
    product = "matmul_integer" if node.op == "qlinear_matmul" else "conv_integer"
    tail = [1] * (len(x.shape) - 2) if product == "conv_integer" else []
    acc = build.op(product, x, w, x_zero, w_zero, **node.attrs)
    if bias and bias[0] is not None:
        acc = build.op("add", acc, build.op("reshape", bias[0], np.array([-1, *tail])))

    def scale(v, shape):
        v = v if v.dtype == "float32" else build.cast(v, "float32")
        return v if v.shape == () else build.op("reshape", v, np.array([] if v.shape == (1,) else shape, np.int64))

    if product == "conv_integer":
        both = build.op("mul", scale(x_scale, []), scale(w_scale, [-1, *tail]))
    else:
        both = build.op("mul", scale(x_scale, [-1, 1] if len(x_scale.shape) == 1 else x_scale.shape),
                        scale(w_scale, w_scale.shape))
    factor = build.op("div", both, scale(y_scale, []))
    y = build.op("mul", build.cast(acc, "float32"), factor)
    build.op("quantize_linear", y, np.float32(1), y_zero, into=node.outputs[0])
    return True


def _eye_like(build: _Build, node: Node) -> bool:
    build.op("identity", array(call("eye_like", [torch.empty(node.inputs[0].shape)], {
        **node.attrs, "dtype": node.outputs[0].dtype})[0]), into=node.outputs[0])
    return True


def _dropout(build: _Build, node: Node) -> bool:
    if len(node.outputs) < 2:
        return False
    build.op("identity", node.inputs[0], into=node.outputs[0])
    build.op("identity", np.ones(node.inputs[0].shape, bool), into=node.outputs[1])
    return True


ONLY_FLOAT32 = ("linear", "matmul", "conv", "conv_transpose", "max_pool", "average_pool", "lp_pool", "attention", "lstm", "gru",
                "rnn")
FORMS = {"max_pool": _pool_3d, "average_pool": _pool_3d, "batch_norm": _batch_norm_training,
         "resize": _resize_antialias, "space_to_depth": _space_to_depth, "einsum": einsum.write_out, "qlinear_conv": _qlinear,
         "qlinear_matmul": _qlinear, "dropout": _dropout, "eye_like": _eye_like, "conv": patches.conv,
         "conv_transpose": patches.conv_transpose}
