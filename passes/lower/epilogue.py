"""Epilogue: layer + residual add + activation -> one layer; the kernel finishes its tile in registers.

    act(nhwc_conv(x, w, b) + r)              ->  nhwc_conv(x, w, b, r, act=...)      likewise linear and the int8 layers
    quantize(act(qlinear(x, w, b) + r))      ->  qlinear(x, w, b, r, act=..., out="codes")

The fused node stands where the last of them stood, so that the residual is already there.
"""
from __future__ import annotations

import numpy as np

from ..graph import Graph, Node, Value
from .signed import scale_zero

# layer op -> index of its residual input (None: it takes none)
LAYERS = {"nhwc_conv": 3, "linear": 3, "nhwc_conv_transpose": None, "dqlinear": 4, "nhwc_dqconv": 4, "qlinear": 4,
          "nhwc_qconv": None}


def epilogue(graph: Graph) -> None:
    index = 0
    users = graph.users()
    while index < len(graph.nodes):
        layer = graph.nodes[index]
        index += 1
        if layer.op not in LAYERS or layer.op.startswith(("q", "nhwc_q")) and layer.attrs.get("out") != "float32":
            continue
        while True:
            y = layer.outputs[0]
            if y in graph.outputs or len(users[y]) != 1 or layer.attrs.get("act", "none") != "none":
                break
            user = users[y][0]
            if not (_take_residual(layer, user, y) or _take_activation(layer, user, y)):
                break
            layer.outputs = user.outputs
            graph.nodes.remove(layer)
            graph.nodes[graph.nodes.index(user)] = layer
            for v in layer.inputs:
                if v is not None:
                    users[v] = [layer if n is user else n for n in users[v]]
            index -= 1
            break
        _take_quantize(graph, layer, users)
    graph.prune()


def _take_quantize(graph: Graph, layer: Node, users) -> None:
    """The float32 result of an integer layer that is quantized again: as int8 it is a quarter of the bytes."""
    y = layer.outputs[0]
    if layer.op != "qlinear" or layer.attrs.get("out") != "float32" or y in graph.outputs or len(users[y]) != 1:
        return
    user = users[y][0]
    if user.op != "quantize_linear" or user.inputs[0] is not y or user.outputs[0].dtype != "int8":
        return
    params = scale_zero(user)
    if params is None:
        return
    layer.attrs.update(out="codes", y_scale=params[0], y_zero=params[1])
    layer.outputs = user.outputs
    graph.nodes.remove(user)


def _take_residual(layer: Node, user: Node, y: Value) -> bool:
    slot = LAYERS[layer.op]
    if user.op != "add" or slot is None or user.inputs[0] is user.inputs[1]:
        return False
    other = user.inputs[1] if user.inputs[0] is y else user.inputs[0]
    if other.data is not None or tuple(other.shape) != tuple(y.shape) or other.dtype != y.dtype:
        return False
    inputs = layer.inputs + [None] * (slot + 1 - len(layer.inputs))
    if inputs[slot] is not None:
        return False
    inputs[slot] = other
    layer.inputs = inputs
    return True


def _take_activation(layer: Node, user: Node, y: Value) -> bool:
    found = activation(user)
    if found is None or user.inputs[0] is not y:
        return False
    act, alpha, beta = found
    layer.attrs.update(act=act, alpha=alpha, beta=beta)
    return True


def activation(node: Node) -> tuple[str, float, float] | None:
    """(act, alpha, beta) of `ops.lowered.ACTS` for a node that is one of them, else None."""
    a = node.attrs
    if node.op in ("relu", "sigmoid", "tanh", "silu", "hard_swish", "softplus", "mish"):
        return node.op, 0.0, 0.0
    if node.op == "gelu":
        return ("gelu_tanh" if a.get("approximate", "none") == "tanh" else "gelu"), 0.0, 0.0
    if node.op == "leaky_relu":
        return "leaky_relu", a.get("alpha", 0.01), 0.0
    if node.op == "elu":
        return "elu", a.get("alpha", 1.0), 0.0
    if node.op == "hard_sigmoid":
        return "hard_sigmoid", a.get("alpha", 0.2), a.get("beta", 0.5)
    if node.op == "clip":
        bounds = [*node.inputs[1:], None, None][:2]
        if any(v is not None and v.data is None for v in bounds):
            return None
        low, high = (None if v is None else float(np.asarray(v.data).reshape(-1)[0]) for v in bounds)
        return "clip", -np.inf if low is None else low, np.inf if high is None else high
    return None
