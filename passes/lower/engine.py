"""Engine form: every shape is known now, so what ONNX passes as inputs (axes, pads, sizes) becomes attributes.

FORMS has one function per op that changes: it gets the node and returns (op, inputs, attrs) as the engine's runners
take them. squeeze, unsqueeze and flatten are all `reshape`. The lowered Graph itself keeps the ONNX form, which
torch can run; the engine form is made from it when the file is written.
"""
from __future__ import annotations

import numpy as np

from ..errors import UserError
from ..graph import Graph, Node, Value
from .types import TYPE_NUMBERS


def engine_form(graph: Graph) -> Graph:
    """A graph of engine ops that shares the Values of `graph`. Raises UserError, all problems at once."""
    problems, nodes = [], []
    for node in graph.nodes:
        form = FORMS.get(node.op)
        try:
            op, inputs, attrs = form(node) if form else (node.op, node.inputs, node.attrs)
            nodes.append(Node(op, list(inputs), node.outputs, attrs, node.name, node.scope))
        except _Refused as error:
            problems.append(f"node '{node.name or node.outputs[0].name}': {node.op}: {error}")
    if problems:
        raise UserError(*problems)
    return Graph(graph.inputs, graph.outputs, nodes, graph.name, graph.meta)


class _Refused(Exception):
    pass


def _data(node: Node, i: int):
    """The constant input i as an array; None when absent or empty."""
    v = node.inputs[i] if i < len(node.inputs) else None
    if v is None:
        return None
    if v.data is None:
        raise _Refused(f"input '{v.name}' must be constant: the engine has no data-dependent shapes")
    return v.data


def _ints(node: Node, i: int):
    data = _data(node, i)
    return None if data is None else [int(d) for d in np.asarray(data).reshape(-1)]


def _rank(v: Value) -> int:
    return len(v.shape)


def _reshape(node: Node):
    return "reshape", node.inputs[:1], {"shape": list(node.outputs[0].shape)}


def _axis(default: int):
    def form(node: Node):
        axis = node.attrs.get("axis", default) % max(_rank(node.inputs[0]), 1)
        return node.op, node.inputs, node.attrs | {"axis": axis}
    return form


def _reduce(node: Node):
    rank, axes = _rank(node.inputs[0]), _ints(node, 1)
    if not axes:
        axes = [] if node.attrs.get("noop_with_empty_axes") else list(range(rank))
    axes = sorted(a % rank for a in axes)
    return node.op, node.inputs[:1], {"axes": axes, "keepdims": int(node.attrs.get("keepdims", 1))}


def _slice(node: Node):
    x = node.inputs[0]
    starts, ends, axes, steps = (_ints(node, i) for i in range(1, 5))
    rank = _rank(x)
    axes = [a % rank for a in (axes if axes is not None else range(len(starts)))]
    steps = steps or [1] * len(axes)
    first, step = [0] * rank, [1] * rank
    for a, s, _, st in zip(axes, starts, ends, steps):
        first[a], step[a] = slice(s, None, st).indices(x.shape[a])[0], st
    return "slice", [x], {"starts": first, "steps": step}


def _split(node: Node):
    axis = node.attrs.get("axis", 0) % _rank(node.inputs[0])
    return "split", node.inputs[:1], {"axis": axis, "sizes": [v.shape[axis] for v in node.outputs]}


def _pad(node: Node):
    rank, pads, axes = _rank(node.inputs[0]), _ints(node, 1), _ints(node, 3)
    if axes is not None:
        full = [0] * (2 * rank)
        for i, a in enumerate(axes):
            full[a % rank], full[a % rank + rank] = pads[i], pads[i + len(axes)]
        pads = full
    value = [v for v in node.inputs[2:3] if v is not None]
    return "pad", [node.inputs[0], *value], {"pads": pads, "mode": node.attrs.get("mode", "constant")}


def _tile(node: Node):
    return "tile", node.inputs[:1], {"repeats": _ints(node, 1)}


def _expand(node: Node):
    return "expand", node.inputs[:1], {"shape": list(node.outputs[0].shape)}


def _clip(node: Node):
    if any(v is not None and v.data is None for v in node.inputs[1:]):
        return "clip", node.inputs, {}  # computed bounds: the runner reads them
    bounds = {}
    for key, v in zip(("min", "max"), node.inputs[1:]):
        if v is not None:
            number = np.asarray(v.data).reshape(-1)[0]
            bounds[key] = int(number) if np.asarray(v.data).dtype.kind in "iub" else float(number)
    return "clip", node.inputs[:1], bounds


def _cast(node: Node):
    return "cast", node.inputs[:1], {"to": TYPE_NUMBERS[node.outputs[0].dtype]}


def _cum_sum(node: Node):
    axis = _ints(node, 1)[0] % _rank(node.inputs[0])
    return "cum_sum", node.inputs[:1], {"axis": axis, "exclusive": node.attrs.get("exclusive", 0),
                                        "reverse": node.attrs.get("reverse", 0)}


def _top_k(node: Node):
    axis = node.attrs.get("axis", -1) % _rank(node.inputs[0])
    return "top_k", node.inputs[:1], node.attrs | {"axis": axis, "k": _ints(node, 1)[0]}


def _resize(node: Node):
    x = node.inputs[0]
    rank, a = _rank(x), dict(node.attrs)
    axes = [int(i) % rank for i in a.pop("axes", None) or range(rank)]
    if a.get("antialias"):
        raise _Refused("antialias has no kernel")
    scales, sizes, roi = (_data(node, i) for i in (2, 3, 1))
    policy = a.pop("keep_aspect_ratio_policy", "stretch")
    full = None  # the runner divides the shapes, in double: an attribute would round the scale to float32
    if scales is not None and scales.size:
        full = [1.0] * rank
        for i, axis in enumerate(axes):
            full[axis] = float(scales.reshape(-1)[i])
    elif policy != "stretch":
        pick = min if policy == "not_larger" else max
        one = pick(int(s) / x.shape[axis] for s, axis in zip(sizes.reshape(-1), axes))
        full = [one if axis in axes else 1.0 for axis in range(rank)]
    if roi is not None and roi.size:
        region = [0.0] * rank + [1.0] * rank
        for i, axis in enumerate(axes):
            region[axis], region[axis + rank] = (float(roi.reshape(-1)[i + j * len(axes)]) for j in (0, 1))
        a["roi"] = region
    return "resize", [x], a if full is None else a | {"scales": full}


def _trilu(node: Node):
    k = _ints(node, 1)
    return "trilu", node.inputs[:1], {"upper": node.attrs.get("upper", 1), "k": k[0] if k else 0}


def _one_hot(node: Node):
    y = node.outputs[0]
    axis = node.attrs.get("axis", -1) % _rank(y)
    return "one_hot", [node.inputs[0], node.inputs[2]], {"axis": axis, "depth": y.shape[axis]}


def _recurrent(node: Node):
    attrs = {k: v for k, v in node.attrs.items() if v is not None}
    if attrs.get("activations"):  # the file has no lists of texts
        attrs["activations"] = ",".join(attrs["activations"])
    return node.op, node.inputs, attrs


REDUCES = """reduce_mean reduce_sum reduce_max reduce_min reduce_prod reduce_l1 reduce_l2 reduce_sum_square reduce_log_sum
reduce_log_sum_exp""".split()

FORMS = {
    **dict.fromkeys(("reshape", "squeeze", "unsqueeze", "flatten"), _reshape),
    **dict.fromkeys(REDUCES, _reduce),
    **dict.fromkeys(("lstm", "gru", "rnn"), _recurrent),
    **dict.fromkeys(("softmax", "log_softmax", "layer_norm", "rms_norm", "lp_norm"), _axis(-1)),
    **dict.fromkeys(("concat", "arg_max", "arg_min", "gather", "gather_elements", "scatter_elements"), _axis(0)),
    "slice": _slice,
    "split": _split,
    "pad": _pad,
    "tile": _tile,
    "expand": _expand,
    "clip": _clip,
    "cast": _cast,
    "cum_sum": _cum_sum,
    "top_k": _top_k,
    "resize": _resize,
    "trilu": _trilu,
    "one_hot": _one_hot,
}
