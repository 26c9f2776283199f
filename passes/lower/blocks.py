"""Blocks: 1x1 convolution, depthwise, 1x1 convolution -> one op, which makes strips of rows and keeps what lies between.

    nhwc_conv(nhwc_conv(nhwc_conv(x, a), b), c, residual)  ->  nhwc_inverted_residual(x, a, b, c, residual)

and the same of nhwc_qconv; depthwise and 1x1 alone likewise. What lies between, the widest images of a mobile network, then
has no place in the arena. Weights with a format of their own (codebook, sparse) keep their kernels: such a layer stays alone.
"""
from __future__ import annotations

from math import prod
from typing import Any

from ..graph import Graph, Node, Value
from .image import CHANNELS

MOST_TAPS = 5  # MCC_DWCONV_ROWS
LEAST = 9 << 15  # elements
CONV = ("w", "b")
QCONV = ("w", "bias", "scale", "table")
KEYS = {"nhwc_conv": ("act", "alpha", "beta", "bf16"), "nhwc_qconv": ("x_zero", "y_zero", "lo", "hi")}
RESIDUAL = {"nhwc_conv": 3, "nhwc_qconv": 4}


def blocks(graph: Graph) -> None:
    makers, users = graph.makers(), graph.users()
    for node in list(graph.nodes):
        if node.op not in KEYS or not _pointwise(node):
            continue
        depthwise = _inner(node, makers, users, graph)
        if depthwise is None or not _depthwise(depthwise):
            continue
        expand = _inner(depthwise, makers, users, graph)
        if expand is not None and not (_pointwise(expand) and _input(expand, RESIDUAL[node.op]) is None):
            expand = None
        if not _pays(depthwise, expand):
            continue
        at = graph.nodes.index(node)
        graph.nodes[at] = _block(expand, depthwise, node)
        graph.nodes = [n for n in graph.nodes if n is not depthwise and n is not expand]
        makers, users = graph.makers(), graph.users()


def _input(node: Node, i: int) -> Value | None:
    return node.inputs[i] if i < len(node.inputs) else None


def _inner(node: Node, makers, users, graph: Graph) -> Node | None:
    """The convolution of the same kind that makes the node's image for nobody else."""
    x = node.inputs[0]
    maker = makers.get(x)
    alone = maker is not None and len(users[x]) == 1 and x not in graph.outputs
    return maker if alone and maker.op == node.op else None


def _plain(node: Node) -> bool:
    """An int8 or float layer as the block's parts are: constant dense weights, no dilation, images as they are."""
    a, w = node.attrs, node.inputs[1]
    dense = w.data is not None and not any(w.meta.get(k) for k in ("codebook", "hashed", "sparse", "quantized"))
    return (dense and a.get("layout", "nhwc") == "nhwc"
            and list(a.get("dilations", (1, 1))) == [1, 1] and a.get("out", "int8") == "int8" and not a.get("dynamic", 0)
            and node.inputs[0].dtype in ("float32", "int8") and node.inputs[0].dtype == node.outputs[0].dtype
            and all(v is None or v.data is not None for i, v in enumerate(node.inputs) if i not in (0, RESIDUAL[node.op])))


def _pointwise(node: Node) -> bool:
    a = node.attrs  # few channels have a kernel of their own
    return (_plain(node) and node.inputs[1].shape[3] > CHANNELS and tuple(node.inputs[1].shape[1:3]) == (1, 1)
            and a.get("group", 1) == 1
            and list(a.get("strides", (1, 1))) == [1, 1] and not any(a.get("pads", ())))


def _depthwise(node: Node) -> bool:
    w, group = node.inputs[1], node.attrs.get("group", 1)
    return (_plain(node) and group > 1 and w.shape[0] == group and w.shape[3] == 1 and node.inputs[0].shape[3] == group
            and max(w.shape[1:3]) <= MOST_TAPS and _input(node, RESIDUAL[node.op]) is None)


def _pays(depthwise: Node, expand: Node | None) -> bool:
    """Is what lies between so large that caches and arena gain? Smaller images gain nothing (measured)."""
    between = depthwise.outputs + (expand.outputs if expand else [])
    return sum(prod(v.shape) for v in between) >= LEAST


def _block(expand: Node | None, depthwise: Node, project: Node) -> Node:
    names = CONV if project.op == "nhwc_conv" else QCONV
    slots = [1, 2] if project.op == "nhwc_conv" else [1, 2, 3, 5]
    inputs: list[Value | None] = [(expand or depthwise).inputs[0]]
    attrs: dict[str, Any] = {}
    for letter, part in zip("abc", (expand, depthwise, project)):
        inputs += [None if part is None else _input(part, slot) for slot in slots[:len(names)]]
        if part is not None:
            keys = KEYS[part.op] + (("strides", "pads", "group") if part is depthwise else ())
            keys += ("r_scale", "r_zero") if part is project and part.op == "nhwc_qconv" else ()
            attrs |= {f"{letter}_{key}": part.attrs[key] for key in keys if key in part.attrs}
    inputs.append(_input(project, RESIDUAL[project.op]))
    while inputs[-1] is None:
        inputs.pop()
    op = "nhwc_inverted_residual" if project.op == "nhwc_conv" else "nhwc_qinverted_residual"
    return Node(op, inputs, project.outputs, attrs, project.name, project.scope)
