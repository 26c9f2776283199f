"""Image: a first convolution reads the caller's own array.

    nhwc_conv(transpose(x))                            ->  nhwc_conv(x, layout="nchw")             likewise nhwc_dqconv
    nhwc_qconv(quantize_linear(transpose(x)))          ->  nhwc_qconv(x, layout="nchw", x_scale=...)
    nhwc_qconv(quantize_linear(x))                     ->  nhwc_qconv(x, x_scale=...)

in any order of the two, for the small windows of few channels that the kernels copy together anyway (kernels/conv/image.h,
which has the same limits). With one channel the transpose has become a reshape.
"""
from __future__ import annotations

from math import prod
from typing import Any

from ..graph import Graph, Node
from .signed import scale_zero

CONVOLUTIONS = ("nhwc_conv", "nhwc_qconv", "nhwc_dqconv")
CHANNELS, WINDOW = 4, 240  # MCC_IMAGE_CHANNELS, MCC_IMAGE_WINDOW


def image(graph: Graph) -> None:
    makers, users = graph.makers(), graph.users()
    for node in graph.nodes:
        if node.op in CONVOLUTIONS:
            _read_through(graph, node, makers, users)
    graph.prune()


def _read_through(graph: Graph, node: Node, makers, users) -> None:
    w = node.inputs[1]
    if w.data is None or w.shape[3] > CHANNELS or prod(w.shape[1:]) > WINDOW or node.attrs.get("group", 1) != 1:
        return
    x, attrs = node.inputs[0], dict[str, Any]()
    while True:
        maker = makers.get(x)
        if maker is None or len(users[x]) > 1 or x in graph.outputs:  # what others read is computed anyway
            break
        if "layout" not in attrs and _turns(maker):
            attrs["layout"] = "nchw"
        elif "x_scale" not in attrs and node.op == "nhwc_qconv" and (scale := _scale(maker, node)) is not None:
            attrs["x_scale"] = scale
        else:
            break
        x = maker.inputs[0]
    if attrs:
        node.inputs = [x, *node.inputs[1:]]
        node.attrs = node.attrs | attrs


def _turns(maker: Node) -> bool:
    """NCHW to NHWC?"""
    if maker.op == "transpose":
        return list(maker.attrs["perm"]) == [0, 2, 3, 1]
    x, y = maker.inputs[0], maker.outputs[0]
    return maker.op == "reshape" and len(x.shape) == 4 and x.shape[1] == 1 and tuple(y.shape) == (x.shape[0], *x.shape[2:], 1)


def _scale(maker: Node, node: Node) -> float | None:
    """The scale of a per-tensor quantize_linear from float32 to the int8 that the convolution expects."""
    x, y = maker.inputs[0], maker.outputs[0]
    if maker.op != "quantize_linear" or x.dtype != "float32" or y.dtype != "int8" or maker.inputs[1].dtype != "float32":
        return None
    params = scale_zero(maker)
    if params is None or params[1] != node.attrs.get("x_zero", 0) or not params[0] > 0:
        return None
    return float(params[0])
