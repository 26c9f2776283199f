"""Rewrite the ops that have a channel axis (NCHW in ONNX) into NHWC ops between transposes; see layout.py.

One function per op in RULES: it gets a Builder and the node and returns the NHWC result. Images with one spatial
axis get a height of 1.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import hashing
from ..errors import UserError
from ..graph import Graph, Node, Value, constant
from .fold import infer_node


class Builder:
    """Makes nodes in front of the one being replaced; every helper returns the new Value, shape inferred."""

    def __init__(self, graph: Graph, node: Node):
        self.graph, self.node = graph, node
        self.nodes: list[Node] = []
        self.taken: set[str] = graph.meta.setdefault("_names", {v.name for v in graph.values()})

    def name(self, stem: str) -> str:
        name, i = stem, 0
        while name in self.taken:
            i += 1
            name = f"{stem}_{i}"
        self.taken.add(name)
        return name

    def const(self, data, stem: str = "const", **meta) -> Value:
        return constant(self.name(stem), data, **meta)

    def op(self, op: str, *inputs, stem: str | None = None, outputs: int = 1, **attrs):
        outs = [Value(self.name(stem or self.node.outputs[0].name)) for _ in range(outputs)]
        node = Node(op, list(inputs), outs, attrs, self.node.name, self.node.scope)
        infer_node(node)
        self.nodes.append(node)
        return outs[0] if outputs == 1 else outs

    def transpose(self, x: Value, perm) -> Value:
        perm = tuple(perm)
        if perm == tuple(range(len(perm))):
            return x
        if x.data is not None:
            return Value(self.name(x.name), x.dtype, tuple(x.shape[p] for p in perm),
                         np.ascontiguousarray(x.data.transpose(perm)), hashing.transposed(x.meta, perm))
        return self.op("transpose", x, perm=list(perm))

    def reshape(self, x: Value, shape) -> Value:
        shape = tuple(int(d) for d in shape)
        if shape == tuple(x.shape):
            return x
        if x.data is not None:
            return Value(self.name(x.name), x.dtype, shape, x.data.reshape(shape), hashing.reshaped(x.meta, x.shape, shape))
        return self.op("reshape", x, self.const(np.array(shape, np.int64), "shape"))

    def image(self, x: Value) -> Value:
        """x as [N,H,W,C]."""
        rank = len(x.shape)
        x = self.transpose(x, (0, *range(2, rank), 1))
        return self.reshape(x, (x.shape[0], 1, *x.shape[1:])) if rank == 3 else x

    def back(self, y: Value, rank: int) -> Value:
        """[N,H,W,C] as the original's [N,C,...]."""
        if rank == 3:
            y = self.reshape(y, (y.shape[0], *y.shape[2:]))
        return self.transpose(y, (0, rank - 1, *range(1, rank - 1)))

    def weight(self, w: Value, perm, shape) -> Value:
        """A constant weight (or an int8 one behind dequantize_linear) permuted, then reshaped; axis 0 stays."""
        if w.data is not None:
            return self.reshape(self.transpose(w, perm), shape)
        dq = next((n for n in self.graph.nodes if w in n.outputs), None)
        if dq is not None and dq.op == "dequantize_linear" and dq.inputs[0].data is not None and perm[0] == 0 \
                and (dq.inputs[1].data.size == 1 or dq.attrs.get("axis", 1) == 0):
            q = self.reshape(self.transpose(dq.inputs[0], perm), shape)
            return self.op("dequantize_linear", q, *dq.inputs[1:], **dq.attrs)
        if dq is not None and dq.op == "dequantize_linear" and dq.attrs.get("block_size") and dq.attrs.get("axis", 1) == 1 \
                and perm[-1] == 1 and all(v is None or v.data is not None for v in dq.inputs):
            parts = [v and self.reshape(self.transpose(v, perm), (*shape[:-1], v.shape[1])) for v in dq.inputs]
            return self.op("dequantize_linear", *parts, **dq.attrs | {"axis": len(shape) - 1})
        return self.reshape(self.transpose(w, perm), shape)


def to_nhwc(graph: Graph) -> None:
    """Replace every node that has a rule. Raises UserError for 3-D images and other forms without a kernel."""
    nodes: list[Node] = []
    problems: list[str] = []
    todo, graph.meta["_names"] = list(graph.nodes), {v.name for v in graph.values()}
    for node in todo:
        rule = RULES.get(node.op)
        if rule is None:
            nodes.append(node)
            continue
        rank = len(node.inputs[0].shape)
        if rank not in (3, 4):
            problems.append(f"node '{node.name or node.outputs[0].name}': {node.op} on a rank-{rank} tensor has no kernel; "
                            "1-D and 2-D images ([N,C,L], [N,C,H,W]) have")
            continue
        build = Builder(graph, node)
        result = rule(build, node, rank)
        _finish(build, node, result, nodes)
    graph.meta.pop("_names")
    if problems:
        raise UserError(*problems)
    graph.nodes = nodes


def _finish(build: Builder, node: Node, result: Value, nodes: list[Node]) -> None:
    """The last node made writes the original output's Value."""
    if build.nodes and result in build.nodes[-1].outputs:
        last, out = build.nodes[-1], node.outputs[0]
        last.outputs[last.outputs.index(result)] = out
        out.shape, out.dtype = result.shape, result.dtype
    else:
        build.nodes.append(Node("identity", [result], [node.outputs[0]], {}, node.name, node.scope))
    nodes.extend(build.nodes)


def _pair(v, rank: int, default: int) -> list[int]:
    v = list(v) if v else [default] * (rank - 2)
    return [default, *v] if rank == 3 else v


def _pads(node: Node, rank: int, kernel, strides, dilations) -> list[int]:
    """[top, left, bottom, right] from pads or auto_pad."""
    auto = node.attrs.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        size = node.inputs[0].shape[2:]
        size = (1, *size) if rank == 3 else size
        begin, end = [], []
        for d, k, s, dil in zip(size, kernel, strides, dilations):
            total = max(0, (-(-d // s) - 1) * s + (k - 1) * dil + 1 - d)
            small, large = total // 2, total - total // 2
            begin.append(small if auto == "SAME_UPPER" else large)
            end.append(large if auto == "SAME_UPPER" else small)
        return begin + end
    pads = list(node.attrs.get("pads") or [0] * (2 * (rank - 2)))
    return [0, pads[0], 0, pads[1]] if rank == 3 else pads


def _conv(build: Builder, node: Node, rank: int) -> Value:
    x, w, *bias = node.inputs
    strides, dilations = _pair(node.attrs.get("strides"), rank, 1), _pair(node.attrs.get("dilations"), rank, 1)
    kernel = [1, w.shape[2]] if rank == 3 else list(w.shape[2:])
    pads = _pads(node, rank, kernel, strides, dilations)
    w2 = build.weight(w, (0, *range(2, rank), 1), (w.shape[0], *kernel, w.shape[1]))
    extra: dict[str, Any] = {"dynamic": 1} if node.attrs.get("dynamic") else {}
    y = build.op("nhwc_conv", build.image(x), w2, *bias, strides=strides, pads=pads, dilations=dilations,
                 group=node.attrs.get("group", 1), **extra)
    return build.back(y, rank)


def _conv_integer(build: Builder, node: Node, rank: int) -> Value:
    x, w, *zeros = node.inputs
    strides, dilations = _pair(node.attrs.get("strides"), rank, 1), _pair(node.attrs.get("dilations"), rank, 1)
    kernel = [1, w.shape[2]] if rank == 3 else list(w.shape[2:])
    w2 = build.weight(w, (0, *range(2, rank), 1), (w.shape[0], *kernel, w.shape[1]))
    y = build.op("nhwc_conv_integer", build.image(x), w2, *zeros, strides=strides, dilations=dilations,
                 pads=_pads(node, rank, kernel, strides, dilations), group=node.attrs.get("group", 1))
    return build.back(y, rank)


def _conv_transpose(build: Builder, node: Node, rank: int) -> Value:
    x, w, *bias = node.inputs
    group = node.attrs.get("group", 1)
    strides, dilations = _pair(node.attrs.get("strides"), rank, 1), _pair(node.attrs.get("dilations"), rank, 1)
    kernel = [1, w.shape[2]] if rank == 3 else list(w.shape[2:])
    extra = _pair(node.attrs.get("output_padding"), rank, 0)
    size = (1, *x.shape[2:]) if rank == 3 else x.shape[2:]
    full = [(d - 1) * s + (k - 1) * dil + 1 + e for d, s, k, dil, e in zip(size, strides, kernel, dilations, extra)]
    out = node.outputs[0].shape[2:]
    out = (1, *out) if rank == 3 else out
    if node.attrs.get("output_shape") or node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        lower = node.attrs.get("auto_pad") == "SAME_LOWER"
        total = [f - o for f, o in zip(full, out)]
        extra = [e + max(0, -t) for e, t in zip(extra, total)]
        total = [max(0, t) for t in total]
        begin = [t - t // 2 if lower or node.attrs.get("auto_pad", "NOTSET") == "NOTSET" else t // 2 for t in total]
        if node.attrs.get("auto_pad", "NOTSET") == "NOTSET":
            begin = [t // 2 for t in total]
        pads = begin + [t - b for t, b in zip(total, begin)]
    else:
        pads = list(node.attrs.get("pads") or [0] * (2 * (rank - 2)))
        pads = [0, pads[0], 0, pads[1]] if rank == 3 else pads
    c, per = w.shape[0], w.shape[1]
    w2 = build.reshape(w, (group, c // group, per, *kernel))
    w2 = build.reshape(build.transpose(w2, (0, 2, 3, 4, 1)), (group * per, *kernel, c // group))
    y = build.op("nhwc_conv_transpose", build.image(x), w2, *bias, strides=strides, pads=pads, dilations=dilations,
                 output_padding=extra, group=group)
    return build.back(y, rank)


def _pool(build: Builder, node: Node, rank: int) -> Value:
    if len(node.outputs) > 1 and any(node.outputs[1] in n.inputs for n in build.graph.nodes) or \
            len(node.outputs) > 1 and node.outputs[1] in build.graph.outputs:
        raise UserError(f"node '{node.name or node.outputs[0].name}': max_pool with the Indices output has no kernel")
    kernel = _pair(node.attrs["kernel_shape"], rank, 1)
    strides, dilations = _pair(node.attrs.get("strides"), rank, 1), _pair(node.attrs.get("dilations"), rank, 1)
    pads = _pads(node, rank, kernel, strides, dilations)
    x = build.image(node.inputs[0])
    out = node.outputs[0].shape[2:]
    out = (1, *out) if rank == 3 else out
    padded = list(pads)
    for i in (0, 1):  # ceil_mode: the last window may hang over the end; what hangs over is extra padding, or cut
        need = (out[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - x.shape[1 + i] - pads[i]
        padded[2 + i] = max(pads[2 + i], need)
    if node.op == "max_pool":
        y = build.op("nhwc_max_pool", x, kernel=kernel, strides=strides, pads=padded, dilations=dilations)
    else:
        include = pads if node.attrs.get("count_include_pad") else [0, 0, 0, 0]
        y = build.op("nhwc_avg_pool", x, kernel=kernel, strides=strides, pads=padded, dilations=dilations, include=include)
    return build.back(y, rank)


def _lp_pool(build: Builder, node: Node, rank: int) -> Value:
    """(sum of |x|^p)^(1/p) = (mean * cells)^(1/p) over windows, pads counting as 0."""
    p = float(node.attrs.get("p", 2))
    kernel = _pair(node.attrs["kernel_shape"], rank, 1)
    strides, dilations = _pair(node.attrs.get("strides"), rank, 1), _pair(node.attrs.get("dilations"), rank, 1)
    pads = _pads(node, rank, kernel, strides, dilations)
    f = lambda v: build.const(np.array(v, node.inputs[0].dtype))  # noqa: E731
    x = build.op("pow", build.op("abs", build.image(node.inputs[0])), f(p))
    y = build.op("nhwc_avg_pool", x, kernel=kernel, strides=strides, pads=pads, dilations=dilations, include=pads)
    y = build.op("pow", build.op("mul", y, f(float(np.prod(kernel)))), f(1 / p))
    return build.back(y, rank)


def _global(reduce: str):
    def rule(build: Builder, node: Node, rank: int) -> Value:
        x = build.image(node.inputs[0])
        return build.back(build.op(reduce, x, build.const(np.array([1, 2], np.int64), "axes"), keepdims=1), rank)
    return rule


def _blocks(build: Builder, node: Node, rank: int) -> Value:
    return build.back(build.op("nhwc_" + node.op, build.image(node.inputs[0]), **node.attrs), rank)


RULES = {
    "conv": _conv,
    "conv_integer": _conv_integer,
    "conv_transpose": _conv_transpose,
    "max_pool": _pool,
    "average_pool": _pool,
    "lp_pool": _lp_pool,
    "global_average_pool": _global("reduce_mean"),
    "global_max_pool": _global("reduce_max"),
    "depth_to_space": _blocks,
    "space_to_depth": _blocks,
}
