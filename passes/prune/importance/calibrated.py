"""Importances that look at the inputs of layers on calibration data."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...errors import UserError
from ...graph import Graph, Node, Value
from ...moments import matrix, moments, unmatrix
from . import Ask, ByWeight, Importance, needs_data
from .norms import L2

if TYPE_CHECKING:
    from torch import Tensor

RIDGE = 0.01  # of the mean of the second moment's diagonal


class _Calibrated(ByWeight):
    needs = "calibration"

    def _by_layer(self, ask: Ask, name: str, diagonal: bool, score: Callable[[np.ndarray, np.ndarray], np.ndarray]):
        """score(weight as a matrix [G, O, K], moment) of the first layer of every array of ask.parts."""
        needs_data(name, ask.ctx, ask.who)
        nodes: dict[Value, Node] = {}
        values = {p.value for p in ask.parts if p.kind in self.kinds}
        for n in ask.graph.nodes:
            for v in n.inputs[1:]:
                if v in values:
                    nodes.setdefault(v, n)
        found = moments(ask.graph, list(nodes.values()), ask.ctx, ask.samples, f"{ask.who}: importance: {name}", diagonal)
        missing = [v.name for v in values if v not in nodes or nodes[v].inputs[1] is not v]
        if missing:
            raise UserError(f"{ask.who}: importance: {name} needs a layer's input, and {missing[0]} is no layer's only weight; "
                            "leave it out with skip")
        return {v: unmatrix(n, score(matrix(n).astype(np.float64), found[n])) for v, n in nodes.items()}


class Wanda(_Calibrated):
    """|weight| times the norm of its input (Sun et al., arXiv 2306.11695, where weights compete within an output: scope: row)."""

    def numbers(self, ask: Ask) -> dict[Value, np.ndarray]:
        return self._by_layer(ask, "wanda", True, lambda w, square: np.abs(w) * np.sqrt(square)[:, None])


class OBS(_Calibrated):
    """What the layer's output loses when the weight goes and all others of its row adapt: w^2 / [H^-1]_ii, over the output's
    energy (Hassibi and Stork 1993; layer-wise: Frantar and Alistarh, arXiv 2301.00774). Over a unit: the mean."""

    takes = ("weights", "blocks")

    def numbers(self, ask: Ask) -> dict[Value, np.ndarray]:
        def score(w: np.ndarray, h: np.ndarray) -> np.ndarray:
            energy = max(float(np.einsum("gok,gkl,gol->", w, h, w, optimize=True)), 1e-300)
            inverse = np.diagonal(np.linalg.inv(ridged(h)), axis1=1, axis2=2)
            return w ** 2 / np.maximum(inverse, 1e-300)[:, None] / energy
        return self._by_layer(ask, "obs", False, score)


class ZeroShare(Importance):
    """How often the channel is not zero behind its ReLU (APoZ, the average percentage of zeros: Hu et al., arXiv 1607.03250);
    channels without such an activation rank by l2."""

    takes = ("channels",)
    needs = "calibration"
    kinds = ("out", "depthwise")
    CARRY = ("batch_norm", "add", "identity", "dropout")
    ZERO = ("relu", "clip", "thresholded_relu", "hard_swish", "hard_sigmoid")

    def score(self, ask: Ask) -> np.ndarray:
        from ...quantize.observe import watch

        needs_data("apoz", ask.ctx, ask.who)
        behind = {p: v for p in ask.parts if p.kind in self.kinds and (v := self._activation(ask.graph, p.node))}
        live: dict[Value, np.ndarray] = {}

        def see(v, t):
            axis = 1 if any(p.node.op.startswith("conv") for p, other in behind.items() if other is v) else t.ndim - 1
            live[v] = live.get(v, 0) + (t != 0).float().mean([i for i in range(t.ndim) if i != axis]).double().numpy() * len(t)
        batches = (inputs for inputs, _ in ask.ctx.data.batches("calibration", 16, None, ask.samples))
        watch(ask.graph, batches, see, set(behind.values()), lambda n: ask.ctx.progress(n, ask.samples, "zeros of channels"))
        own = replace(ask, parts=list(behind)).over_parts(self.kinds, lambda p: live[behind[p]])
        return np.where(np.isnan(own), L2().score(ask), own)

    def _activation(self, graph: Graph, node: Node | None) -> Value | None:
        """The output of the first op behind the layer that makes zeros."""
        users = graph.users()
        while node is not None and len(readers := users[node.outputs[0]]) == 1:
            node = readers[0]
            if node.op in self.ZERO:
                return node.outputs[0]
            if node.op not in self.CARRY:
                return None
        return None


class Influence(Importance):
    """How far a layer turns what goes through it: 1 - cosine of its input and output, the mean over places (block influence, Men
    et al., arXiv 2403.03853)."""

    takes = ("layers",)
    needs = "calibration"

    def score(self, ask: Ask) -> np.ndarray:
        import torch.nn.functional as F

        from ...quantize.observe import watch

        needs_data("influence", ask.ctx, ask.who)
        held: dict[Value, Tensor] = {}
        total, count = np.zeros(ask.count), 0
        last = {after: [i for i, (_, a) in enumerate(ask.ends) if a is after] for _, after in ask.ends}
        befores = {b for b, _ in ask.ends}

        def see(v, t):
            nonlocal count
            axis = 1 if t.ndim == 4 else -1
            for i in last.get(v, ()):
                total[i] += float((1 - F.cosine_similarity(held[ask.ends[i][0]], t, axis)).mean()) * len(t)
                count += len(t) * (i == 0)
            if v in befores:
                held[v] = t
        batches = (inputs for inputs, _ in ask.ctx.data.batches("calibration", 16, None, ask.samples))
        watch(ask.graph, batches, see, befores | set(last), lambda n: ask.ctx.progress(n, ask.samples, "influence of layers"))
        return total / max(count, 1)


def ridged(moment: np.ndarray) -> np.ndarray:
    """[G, K, K] made safe to invert: inputs that never fired count as independent ones."""
    mean = np.trace(moment, axis1=1, axis2=2) / moment.shape[1]
    return moment + (RIDGE * mean + 1e-12)[:, None, None] * np.eye(moment.shape[1])
