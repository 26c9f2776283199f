"""Where int8 begins and ends in a graph: which nodes compute on int8, and which values share a scale.

    layers       conv and linear with constant weights: int8 in, int8 or float out
    arithmetic   add, mul, average pools: int8 in and out where something int8 reads the result
    functions    of one value (hard_swish, sigmoid...): a table, between two int8 values
    rows         softmax, norms, attention, products of two values: int8 in and out as well (the default of quantize.ptq's
                 float_ops leaves out all but attention)
    moves        max_pool, reshape, concat...: int8 in and out of one scale

A layer, an addition or a pool keeps its result unrounded when the only reader is a clamp (relu, clip) or, for layers, a
residual addition: those are fused, and the numbers are rounded once, after them.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..graph import Graph, Node, Value

LAYERS = frozenset(("conv", "linear"))
ARITHMETIC = frozenset(("add", "mul", "average_pool", "global_average_pool", "reduce_mean"))
FUNCTIONS = frozenset([
    "relu", "clip", "sigmoid", "hard_sigmoid", "hard_swish", "silu", "tanh", "leaky_relu", "elu", "celu", "selu",
    "softplus", "softsign", "mish", "gelu", "thresholded_relu",
])
NORMS = frozenset(("layer_norm", "rms_norm", "group_norm", "instance_norm"))
ROWS = NORMS | {"softmax", "attention", "matmul"}
MOVES = frozenset([
    "max_pool", "global_max_pool", "reshape", "squeeze", "unsqueeze", "flatten", "transpose", "slice", "concat", "split",
    "pad", "resize", "gather", "expand", "tile", "depth_to_space", "space_to_depth", "identity", "dropout",
])
INTEGER = LAYERS | ARITHMETIC | FUNCTIONS | ROWS | MOVES


@dataclass
class Places:
    """nodes: those that compute on int8 activations; values: those that get a scale, by the value whose range they share."""

    nodes: set[Node] = field(default_factory=set)
    values: dict[Value, Value] = field(default_factory=dict)


def find_places(graph: Graph, shapes: dict[Value, tuple[int, ...]], floats: set[Node]) -> Places:
    """`floats` are nodes that stay float (layers excluded by name, dynamic ones)."""
    users, makers, outputs = graph.users(), graph.makers(), set(graph.outputs)
    wants = _wanted(graph, users, makers, floats)
    places = Places(wants)
    silent = _fused(graph, users, makers, outputs, shapes, wants)
    for v in graph.values():
        if v.data is not None or v.dtype != "float32" or v in silent:
            continue
        if any(n in wants and _is_data(n, v) for n in users[v]):
            places.values[v] = v
    _tie(graph, users, places)
    return places


def _is_data(node: Node, v: Value) -> bool:
    """Whether v is what the node computes on (its other inputs are shapes, bounds, weights)."""
    if node.op in ("add", "mul", "concat", "matmul"):
        return True
    if node.op == "attention":
        return any(u is v for u in node.inputs[:3])
    return node.inputs[0] is v


def _wanted(graph: Graph, users, makers, floats: set[Node]) -> set[Node]:
    """Layers, and what feeds int8 to somebody while being fed from something int8 itself."""
    fed: dict[Node, bool] = {}
    for node in graph.nodes:  # forwards: is the data int8, or could it be?
        data = [v for v in node.inputs if v is not None and v.data is None and _is_data(node, v)]
        source = [makers.get(v) for v in data]
        fed[node] = node not in floats and node.op in INTEGER and _possible(node) and (
            node.op in LAYERS or any(s is None or fed[s] for s in source))
    wants: set[Node] = set()
    for node in reversed(graph.nodes):  # backwards: does anybody want the result as int8?
        if not fed[node]:
            continue
        readers = [n for v in node.outputs for n in users[v] if n in wants and _is_data(n, v)]
        if node.op in LAYERS or readers and (len(node.outputs) == 1 or node.op == "split"):
            wants.add(node)
    return wants


def _possible(node: Node) -> bool:
    """Whether the node has an integer form with its own attributes and operands."""
    if node.op in LAYERS:
        w = node.inputs[1]
        biased = len(node.inputs) > 2 and node.inputs[2] is not None
        return w.data is not None and w.data.dtype == np.float32 and not (biased and node.inputs[2].data is None) \
            and node.attrs.get("act", "none") == "none" and not any(v is not None for v in node.inputs[3:])
    if node.op in ("add", "mul"):
        return len(node.inputs) == 2 and all(v.data is None or v.data.size == 1 for v in node.inputs) \
            and sum(v.data is None for v in node.inputs) >= 1
    if node.op == "gather" or node.op in MOVES and node.op != "concat":
        return node.inputs[0].data is None and all(v is None or v.data is not None for v in node.inputs[1:]) \
            and (node.op != "resize" or _resize(node)) \
            and (node.op != "pad" or node.attrs.get("mode", "constant") != "wrap")
    if node.op in NORMS:
        return len(node.outputs) == 1 and all(v is None or v.data is not None for v in node.inputs[1:])
    if node.op == "matmul":
        return all(v.data is None and len(v.shape or (0, 0)) > 1 for v in node.inputs)
    if node.op == "attention":
        return len(node.outputs) == 1 and all(v.data is None for v in node.inputs[:3]) and not node.attrs.get("softcap") \
            and not any(v is not None for v in node.inputs[4:6])
    if node.op == "concat":
        return all(v.data is None for v in node.inputs)
    if node.op == "reduce_mean":
        axes = node.inputs[1] if len(node.inputs) > 1 else None
        return axes is not None and axes.data is not None and sorted(int(a) % 4 for a in axes.data) == [2, 3]
    if node.op == "average_pool":
        return all(d == 1 for d in node.attrs.get("dilations") or [1])
    return all(v is None or v.data is not None and v.data.size == 1 for v in node.inputs[1:])


def _resize(node: Node) -> bool:
    """Nearest, or linear along height and width of an image."""
    if node.attrs.get("mode", "nearest") == "nearest":
        return True
    transform, axes, roi = node.attrs.get("coordinate_transformation_mode"), node.attrs.get("axes"), node.inputs[1:2]
    scales = node.inputs[2].data if len(node.inputs) > 2 and node.inputs[2] is not None else None
    sizes = node.inputs[3].data if len(node.inputs) > 3 and node.inputs[3] is not None else None
    rank = len(node.inputs[0].shape or ())
    if node.attrs["mode"] != "linear" or node.attrs.get("antialias") or transform == "tf_crop_and_resize" or rank != 4 \
            or any(v is not None and v.data.size for v in roi):
        return False
    if axes:
        return sorted(int(a) % 4 for a in axes) == [2, 3]
    if scales is not None and scales.size:
        return scales.size == 4 and bool(np.all(scales[:2] == 1))
    return sizes is not None and sizes.size == 4 and list(sizes[1:2]) == [node.inputs[0].shape[1]]


def clamps(node: Node) -> bool:
    return node.op in ("relu", "clip")


def _fused(graph: Graph, users, makers, outputs, shapes, wants) -> set[Value]:
    """Values inside a layer + residual + clamp chain: never rounded."""
    silent: set[Value] = set()
    for node in graph.nodes:
        if node not in wants or node.op not in LAYERS | ARITHMETIC:
            continue
        y, has_add, current = node.outputs[0], False, node
        while len(users[y]) == 1 and y not in outputs and users[y][0] in wants:
            user = users[y][0]
            if user.op == "add" and node.op in LAYERS and not has_add and user.inputs[0] is not user.inputs[1]:
                other = user.inputs[0] if user.inputs[1] is y else user.inputs[1]
                if other.data is not None or other in silent or shapes[other] != shapes[y]:
                    break
                has_add = True
            elif not clamps(user) or clamps(current):
                break
            silent.add(y)
            y, current = user.outputs[0], user
    return silent


def _tie(graph: Graph, users, places: Places) -> None:
    """What moves keep their scale; the inputs of a concat take its output's when nobody else reads them."""
    leader = places.values

    def find(v: Value) -> Value:
        while leader[v] is not v:
            v = leader[v]
        return v

    for node in graph.nodes:
        if node.op not in MOVES or node not in places.nodes:
            continue
        data = [v for v in node.inputs if v in leader] if node.op == "concat" else [v for v in node.inputs[:1] if v in leader]
        for y in node.outputs:
            for x in data:
                if y in leader and (node.op != "concat" or len(users[x]) == 1):
                    a, b = find(x), find(y)
                    if a is not b:
                        leader[b] = a
    for v in leader:
        leader[v] = find(v)
