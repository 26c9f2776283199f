"""Importances that look at the inputs of layers on calibration data."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...errors import UserError
from ...graph import Node, Value
from ...moments import matrix, moments, unmatrix
from . import Ask, ByWeight, needs_data

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


def ridged(moment: np.ndarray) -> np.ndarray:
    """[G, K, K] made safe to invert: inputs that never fired count as independent ones."""
    mean = np.trace(moment, axis1=1, axis2=2) / moment.shape[1]
    return moment + (RIDGE * mean + 1e-12)[:, None, None] * np.eye(moment.shape[1])
