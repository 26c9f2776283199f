"""Channels that use little of a value's range get more of it: one scale per tensor then serves all of them.

A channel that never comes near the largest one wastes the steps between. Where a convolution is followed by nothing but ops
through which a scale per channel passes, the convolution makes the channel s times larger and those that read it divide by s.
Unlike cross-layer equalisation (arXiv 1906.04721), which looks at weights, this looks at what calibration saw, so it may pass
clips at a bound (ReLU6): a channel grows at most until its largest value is the bound, which then cuts nothing that was not
cut before. Depthwise readers have a scale per channel and lose nothing: there s fills the range. Others share a scale among
their inputs: there s is the square root of that.
"""
from __future__ import annotations

import numpy as np
import torch

from ..graph import Graph, Node, Value
from .observe import watch
from .prepare import pairs, set_bias, set_weight

MARGIN = 1.1  # how much larger than anything calibration saw a channel may be before the bound cuts it
MOST = 64.0


def spread(graph: Graph, batches: list[dict]) -> int:
    """In place; returns how many convolutions gave their channels more range."""
    found = [(layer, readers) for layer, readers in pairs(graph, through_clips=True)
             if len({id(r.inputs[0]) for r in readers}) == 1 and layer.inputs[1].shape[0] == _channels(readers[0])]
    tops: dict[Value, np.ndarray] = {}

    def see(v: Value, x: torch.Tensor) -> None:
        top = x.abs().amax([i for i in range(x.ndim) if i != 1]).double().numpy()
        tops[v] = np.maximum(tops.get(v, 0.0), top)

    watch(graph, batches, see, {readers[0].inputs[0] for _, readers in found})
    for layer, readers in found:
        top = tops[readers[0].inputs[0]] * MARGIN
        room = min(_bound(graph, layer), float(top.max()))
        factor = np.clip(np.where(top > 0, room / np.where(top > 0, top, 1), 1.0), 1.0, MOST)
        if not all(_depthwise(r) for r in readers):
            factor = np.sqrt(factor)
        w = layer.inputs[1]
        set_weight(graph, layer, (w.data * _rows(factor, w)).astype(w.data.dtype))
        if len(layer.inputs) > 2 and layer.inputs[2] is not None:
            set_bias(graph, layer, (layer.inputs[2].data * factor).astype(w.data.dtype))
        for r in readers:
            k = r.inputs[1]
            by = _rows(factor, k) if _depthwise(r) else factor.reshape(1, -1, *[1] * (k.data.ndim - 2))
            set_weight(graph, r, (k.data / by).astype(k.data.dtype))
    return len(found)


def _rows(factor: np.ndarray, w: Value) -> np.ndarray:
    return factor.reshape(-1, *[1] * (w.data.ndim - 1))


def _depthwise(node: Node) -> bool:
    return node.attrs.get("group", 1) > 1


def _channels(node: Node) -> int:
    return node.inputs[1].shape[0] if _depthwise(node) else node.inputs[1].shape[1]


def _bound(graph: Graph, layer: Node) -> float:
    """The least upper bound of the clips right behind a layer."""
    users, todo, bound = graph.users(), [layer.outputs[0]], np.inf
    while todo:
        for user in users[todo.pop()]:
            if user.op == "conv":
                continue
            todo += user.outputs
            if user.op == "clip" and len(user.inputs) > 2 and user.inputs[2] is not None:
                bound = min(bound, float(user.inputs[2].data) if user.inputs[2].data is not None else 0.0)
    return bound
