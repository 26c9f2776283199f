"""Importances that look at the weights alone, and the control."""
from __future__ import annotations

import numpy as np

from ...graph import Value
from . import Ask, ByWeight, Importance, Part


class L1(ByWeight):
    """Mean size of the weights (Li et al., arXiv 1608.08710)."""

    def numbers(self, ask: Ask) -> dict[Value, np.ndarray]:
        return {p.value: p.value.data for p in ask.parts}


class L2(L1):
    """Root of their mean square."""

    def power(self, x: np.ndarray) -> np.ndarray:
        return x ** 2

    def root(self, x: np.ndarray) -> np.ndarray:
        return np.sqrt(x)


class Lamp(Importance):
    """A unit's energy over that of all of its layer's units that are not smaller (Lee et al., arXiv 2010.07611)."""

    takes = ("weights", "blocks")

    def score(self, ask: Ask) -> np.ndarray:
        score = np.full(ask.count, np.nan)
        for part in ask.parts:
            units = np.broadcast_to(part.units, part.value.data.shape).ravel()
            first = units.min()
            energy = np.bincount(units - first, weights=part.value.data.astype(np.float64).ravel() ** 2)
            score[first:first + energy.size] = lamp(energy)
        return score


class BatchNorm(Importance):
    """Size of the scale of the batch norm behind the channel (Liu et al., Network Slimming, arXiv 1708.06519); l2 for channels
    without batch norm."""

    takes = ("channels",)

    def score(self, ask: Ask) -> np.ndarray:
        scale = ask.over_parts(("scale",), lambda p: np.abs(p.value.data))
        return np.where(np.isnan(scale), L2().score(ask), scale)


class GeometricMedian(Importance):
    """Sum of the distances to the layer's other filters: what is near their median can be replaced by them (He et al., FPGM,
    arXiv 1811.00250)."""

    takes = ("channels", "heads")

    def score(self, ask: Ask) -> np.ndarray:
        return ask.over_parts(("out",), self._distances)

    @staticmethod
    def _distances(part: Part) -> np.ndarray:
        rows = np.moveaxis(part.value.data, part.axis or 0, 0).reshape(part.units.size, -1).astype(np.float64)
        square = (rows ** 2).sum(1)
        return np.sqrt(np.maximum(square[:, None] + square - 2 * rows @ rows.T, 0)).sum(1)


class Random(Importance):
    """The control: what any importance must beat."""

    def score(self, ask: Ask) -> np.ndarray:
        return np.random.default_rng(ask.ctx.seed).random(ask.count)


def lamp(energy: np.ndarray) -> np.ndarray:
    """Each over the sum of all that are not smaller."""
    order = np.argsort(energy, kind="stable")
    tail = np.cumsum(energy[order][::-1])[::-1]
    score = np.empty_like(energy)
    score[order] = energy[order] / np.maximum(tail, np.finfo(np.float64).tiny)
    return score
