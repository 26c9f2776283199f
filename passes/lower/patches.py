"""Windows that have no kernel, over patches: one strided slice of the padded input per cell of the window.

    conv            ->  the slices side by side, [N, C * cells, out]; weight @ patches. For weights that are computed, and
                        for three spatial axes
    conv_transpose  ->  the input with strides - 1 zeros between its cells, the weight turned round; then as conv
    max_pool        ->  reduce_max and arg_max over the slices. For the Indices output
"""
from __future__ import annotations

from itertools import product

import numpy as np

from ..graph import Graph, Node, Value
from ..ops.window import pool_pads, resolve_pads, spread


def conv(build, node: Node) -> bool:
    x, w, b = [*node.inputs, None][:3]
    if not _needed(build.graph, x, w, b):
        return False
    n, a = len(x.shape) - 2, node.attrs
    strides, dilations = spread(a.get("strides"), n), spread(a.get("dilations"), n)
    pads = resolve_pads(a.get("auto_pad", "NOTSET"), a.get("pads"), x.shape[2:], w.shape[2:], strides, dilations)
    _conv(build, x, w, b, strides, pads, dilations, a.get("group", 1), node.outputs[0])
    return True


def conv_transpose(build, node: Node) -> bool:
    x, w, b = [*node.inputs, None][:3]
    if not _needed(build.graph, x, w, b):
        return False
    n, a, group = len(x.shape) - 2, node.attrs, node.attrs.get("group", 1)
    strides, dilations = spread(a.get("strides"), n), spread(a.get("dilations"), n)
    axes = np.arange(2, 2 + n)
    for i, s in enumerate(strides):
        if s > 1:  # [.., d, ..] -> [.., d, s, ..] -> [.., d * s, ..], less the zeros after the last cell
            d, shape = x.shape[2 + i], list(x.shape)
            x = build.op("reshape", x, np.array([*shape[:3 + i], 1, *shape[3 + i:]]))
            x = build.op("pad", x, np.array([0, s - 1]), None, np.array([3 + i]))
            x = build.op("reshape", x, np.array([*shape[:2 + i], d * s, *shape[3 + i:]]))
            x = build.op("slice", x, np.array([0]), np.array([(d - 1) * s + 1]), np.array([2 + i]))
    # [group * C, O, *kernel] -> [group * O, C, *kernel], every kernel axis backwards
    c, o, kernel = w.shape[0] // group, w.shape[1], list(w.shape[2:])
    w = build.op("reshape", w, np.array([group, c, o, *kernel]))
    w = build.op("transpose", w, perm=[0, 2, 1, *range(3, 3 + n)])
    w = build.op("reshape", w, np.array([group * o, c, *kernel]))
    w = build.op("slice", w, np.full(n, -1), np.full(n, -2 ** 31), axes, np.full(n, -1))
    # What is missing at either end comes from the shape of the result, so output_padding, output_shape and auto_pad do.
    out, pads = node.outputs[0].shape[2:], a.get("pads")
    reach = [d * (k - 1) for d, k in zip(dilations, kernel)]
    total = [out[i] + reach[i] - x.shape[2 + i] for i in range(n)]
    if a.get("output_shape") is None and a.get("auto_pad", "NOTSET") not in ("SAME_UPPER", "SAME_LOWER"):
        cut = [0] * n if a.get("auto_pad") == "VALID" else spread(pads, 2 * n, 0)[:n]
    else:
        extra = spread(a.get("output_padding"), n, 0)
        spare = [x.shape[2 + i] + reach[i] + extra[i] - out[i] for i in range(n)]
        cut = [t // 2 if a.get("auto_pad") == "SAME_UPPER" else t - t // 2 for t in spare]
    begin = [r - c for r, c in zip(reach, cut)]
    _conv(build, x, w, b, [1] * n, begin + [t - f for t, f in zip(total, begin)], dilations, group, node.outputs[0])
    return True


def max_pool(build, node: Node) -> bool:
    """An index is where the window starts in x, plus where its largest cell lies in the window, plus the plane's start."""
    read = {v for n in build.graph.nodes for v in n.inputs} | set(build.graph.outputs)
    if len(node.outputs) < 2 or node.outputs[1] not in read:
        return False
    x, a = node.inputs[0], node.attrs
    size, kernel = list(x.shape[2:]), list(a["kernel_shape"])
    n, planes = len(size), x.shape[0] * x.shape[1]
    strides, dilations = spread(a.get("strides"), n), spread(a.get("dilations"), n)
    pads = resolve_pads(a.get("auto_pad", "NOTSET"), a.get("pads"), size, kernel, strides, dilations)
    pads = pool_pads(size, kernel, strides, pads, dilations, a.get("ceil_mode", 0))
    least = -np.inf if x.dtype.startswith(("float", "bfloat")) else np.iinfo(x.dtype).min
    padded = build.op("pad", x, np.array(pads), np.array(least, x.dtype), np.arange(2, 2 + n)) if any(pads) else x
    cells, out = _cells(build, padded, kernel, strides, dilations)
    count = int(np.prod(out))
    rows = [build.op("reshape", c, np.array([planes, 1, count])) for c in cells]
    stack = build.op("concat", *rows, axis=1) if len(rows) > 1 else rows[0]
    build.op("reshape", build.op("reduce_max", stack, np.array([1]), keepdims=0), np.array([*x.shape[:2], *out]),
             into=node.outputs[0])
    unit = [int(np.prod(size[:i] if a.get("storage_order") else size[i + 1:])) for i in range(n)]
    start = np.array(-sum(p * u for p, u in zip(pads, unit)))
    for i, o in enumerate(out):
        start = start + np.arange(o).reshape(-1, *[1] * (n - 1 - i)) * strides[i] * unit[i]
    inner = [sum(c * d * u for c, d, u in zip(cell, dilations, unit)) for cell in product(*map(range, kernel))]
    at = build.op("gather", np.array(inner), build.op("arg_max", stack, axis=1, keepdims=0), axis=0)
    at = build.op("add", at, start.reshape(1, count) + np.arange(planes).reshape(-1, 1) * int(np.prod(size)))
    build.op("reshape", at, np.array([*x.shape[:2], *out]), into=node.outputs[1])
    return True


def _cells(build, x, kernel, strides, dilations) -> tuple[list[Value], list[int]]:
    """For every cell of the window its slice of the padded x, [N, C, *out]; and out."""
    n = len(kernel)
    axes = np.arange(2, 2 + n)
    out = [(x.shape[2 + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i in range(n)]
    cells = []
    for cell in product(*map(range, kernel)):
        start = np.array([c * d for c, d in zip(cell, dilations)])
        cells.append(build.op("slice", x, start, start + (np.array(out) - 1) * strides + 1, axes, np.array(strides)))
    return cells, out


def _needed(graph: Graph, x: Value, w: Value, b: Value | None) -> bool:
    makers = graph.makers()

    def fixed(v):
        return v is None or v.data is not None or v in makers and all(map(fixed, makers[v].inputs))
    return len(x.shape) > 4 or not (fixed(w) and fixed(b))


def _conv(build, x, w, b, strides, pads, dilations, group, result) -> None:
    n, kernel = len(strides), list(w.shape[2:])
    batch, channels, outputs = x.shape[0], x.shape[1] // group, w.shape[0] // group
    if any(pads):
        x = build.op("pad", x, np.array(pads), None, np.arange(2, 2 + n))
    cells, out = _cells(build, x, kernel, strides, dilations)
    cells = [build.op("reshape", c, np.array([batch, group, channels, 1, int(np.prod(out))])) for c in cells]
    patches = build.op("concat", *cells, axis=3) if len(cells) > 1 else cells[0]
    patches = build.op("reshape", patches, np.array([batch, group, channels * len(cells), int(np.prod(out))]))
    w = build.op("reshape", w, np.array([1, group, outputs, channels * len(cells)]))
    y = build.op("matmul", w, patches)
    shape = np.array([batch, group * outputs, *out])
    if b is None:
        build.op("reshape", y, shape, into=result)
    else:
        b = build.op("reshape", b, np.array([-1, *[1] * n]))
        build.op("add", build.op("reshape", y, shape), b, into=result)
