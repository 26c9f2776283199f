"""Outliers of activations moved into weights (SmoothQuant, Xiao et al., arXiv 2211.10438): a few channels behind a layer norm
are a hundred times larger than the others, and one scale per tensor leaves the others no steps. Channel j is divided by

    s[j] = max |x[j]| ** alpha / max |w[:, j]| ** (1 - alpha)

in the norm's own scale and shift, and the columns of all linear layers that read it are multiplied: the function stays.
"""
from __future__ import annotations

import numpy as np
import torch

from ..graph import Graph, Node, Value
from ..weights import shares_values
from .observe import watch

NORMS = ("layer_norm", "rms_norm")


def smooth(graph: Graph, batches: list[dict], alpha: float) -> int:
    """In place; returns how many norms were smoothed."""
    places = _places(graph)
    tops: dict[Value, torch.Tensor] = {}

    def see(v: Value, x: torch.Tensor) -> None:
        top = x.abs().reshape(-1, x.shape[-1]).amax(0).double()
        tops[v] = torch.maximum(tops[v], top) if v in tops else top

    watch(graph, batches, see, {norm.outputs[0] for norm, _ in places})
    for norm, readers in places:
        x = tops[norm.outputs[0]].numpy()
        w = np.max([np.abs(n.inputs[1].data).max(0) for n in readers], axis=0).astype(np.float64)
        good = (x > 1e-6) & (w > 1e-6)
        s = np.where(good, np.where(good, x, 1) ** alpha / np.where(good, w, 1) ** (1 - alpha), 1.0)
        s = np.clip(s / np.exp(np.log(s).mean()), 1e-3, 1e3)  # the common factor changes nothing
        for i in range(1, len(norm.inputs)):
            norm.inputs[i] = _scaled(graph, norm.inputs[i], 1 / s)
        for v in dict.fromkeys(n.inputs[1] for n in readers):
            new = _scaled(graph, v, s)
            for n in readers:
                n.inputs[1] = new if n.inputs[1] is v else n.inputs[1]
    return len(places)


def _places(graph: Graph) -> list[tuple[Node, list[Node]]]:
    """(norm over the last axis with constant scale and shift, the linear layers that read it, and nobody else does)."""
    users, found = graph.users(), []
    for norm in graph.nodes:
        v = norm.outputs[0]
        if norm.op not in NORMS or norm.attrs.get("axis", -1) == 0 or v in graph.outputs or len(norm.outputs) > 1:
            continue
        constants = [u for u in norm.inputs[1:] if u is not None]
        readers = users[v]
        weights = {n.inputs[1] for n in readers if n.op == "linear" and n.inputs[0] is v}
        if readers and all(n.op == "linear" and n.inputs[0] is v and n.inputs[1].data is not None for n in readers) \
                and constants and all(u.data is not None and u.data.ndim == 1 for u in constants) \
                and not any(shares_values(w) or any(n not in readers for n in users[w]) for w in weights):
            found.append((norm, readers))
    return found


def _scaled(graph: Graph, v: Value | None, factor: np.ndarray) -> Value | None:
    if v is None:
        return None
    shared = sum(u is v for n in graph.nodes for u in n.inputs) > 1
    return Value(graph.fresh(v.name) if shared and v.data.ndim == 1 else v.name, v.dtype, v.shape,
                 (v.data * factor).astype(v.data.dtype), dict(v.meta))
