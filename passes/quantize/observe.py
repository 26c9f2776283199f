"""Watch a graph run on calibration data, and choose the range of each value that 8 bits cover."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from ..graph import Graph, Value
from ..ops import call
from ..ops.run import Plan, feed, tensor

BINS = 2048
OBSERVERS = ("minmax", "moving_average", "percentile", "mse", "entropy")


@dataclass
class Range:
    """What was seen of a value: extremes, the moving average of the batches' extremes (a weighted sum in which each batch
    counts `decay` times as much as the one after it), and (second pass) a histogram over [lo, hi]."""

    lo: float = np.inf
    hi: float = -np.inf
    lo_sum: float = 0.0
    hi_sum: float = 0.0
    weight: float = 0.0
    decay: float = 1.0
    counts: np.ndarray | None = None

    def see(self, x: torch.Tensor) -> None:
        lo, hi = (float(v) for v in torch.aminmax(x))
        self.lo, self.hi = float(np.minimum(self.lo, lo)), float(np.maximum(self.hi, hi))  # NaN stays NaN
        self.lo_sum, self.hi_sum = self.lo_sum * self.decay + lo, self.hi_sum * self.decay + hi
        self.weight = self.weight * self.decay + 1

    def count(self, x: torch.Tensor) -> None:
        if self.counts is None:
            self.counts = np.zeros(BINS)
        if 0 < self.hi - self.lo < np.inf:
            self.counts += torch.histc(x.reshape(-1).float(), BINS, self.lo, self.hi).double().numpy()

    def merge(self, other: Range) -> None:
        """Of values that share a scale, before histograms are made."""
        self.lo, self.hi = min(self.lo, other.lo), max(self.hi, other.hi)
        self.lo_sum, self.hi_sum = min(self.lo_sum, other.lo_sum), max(self.hi_sum, other.hi_sum)
        self.weight = max(self.weight, other.weight)


def watch(graph: Graph, batches: Iterable[dict], see: Callable[[Value, torch.Tensor], None], wanted: set[Value],
          progress: Callable[[int], None] = lambda n: None) -> int:
    """Run every batch and call see(value, tensor) for each value of `wanted`. Returns how many samples ran."""
    plan, samples = Plan(graph), 0
    fixed = {v: tensor(v.data, v.dtype) for v in graph.constants()}

    def apply(node, inputs):
        if node in plan.pairs:
            return None
        results = call(node.op, inputs, node.attrs, len(node.outputs))
        for v, t in zip(node.outputs, results):
            if v in wanted:
                see(v, t)
        return results

    with torch.no_grad():
        for batch in batches:
            env = feed(graph, batch) | fixed
            for v in graph.inputs:
                if v in wanted:
                    see(v, env[v])
            samples += len(env[graph.inputs[0]]) if env[graph.inputs[0]].ndim else 1
            plan.execute(env, apply)
            progress(samples)
    return samples


def choose(seen: Range, observer: str, percentile: float = 99.99) -> tuple[float, float]:
    """The range [lo, hi], zero inside, that an 8-bit grid should cover.

    minmax           all that was seen
    moving_average   a mean of the batches' extremes in which late ones count more (arXiv 1712.05877)
    percentile       cuts (100 - percentile) % of the values at either end that has any
    mse              the least squared error, over cuts of both ends
    entropy          the least KL divergence of the quantized histogram (Migacz 2017, TensorRT)
    """
    if not np.isfinite([seen.lo, seen.hi]).all():
        raise ValueError("it is not finite on the calibration data")
    lo, hi = min(seen.lo, 0.0), max(seen.hi, 0.0)
    if hi == lo:
        return 0.0, 1.0
    if observer == "moving_average":
        return min(seen.lo_sum / seen.weight, 0.0), max(seen.hi_sum / seen.weight, 0.0)
    if observer == "minmax" or seen.counts is None or seen.counts.sum() == 0:
        return lo, hi
    width = (seen.hi - seen.lo) / BINS
    centres = seen.lo + (np.arange(BINS) + 0.5) * width
    if observer == "percentile":
        below = np.cumsum(seen.counts) / seen.counts.sum()
        cut = 1 - percentile / 100
        first, last = int(np.searchsorted(below, cut)), int(np.searchsorted(below, 1 - cut))
        low = seen.lo if first == 0 else centres[min(first, BINS - 1)]
        high = seen.hi if last >= BINS - 1 else centres[last]
        return min(low, 0.0), max(high, 0.0)
    error = _squared_error if observer == "mse" else _divergence
    return _search(lambda a, b: error(centres, seen.counts, a, b), lo, hi)


def _search(error: Callable[[float, float], float], lo: float, hi: float) -> tuple[float, float]:
    """Shrink both ends together, then each alone, then each a little, as long as the error falls."""
    best = (error(lo, hi), lo, hi)
    for t in np.linspace(0.05, 0.98, 48):
        best = min(best, (error(lo * t, hi * t), lo * t, hi * t))
    for span in (0.5, 0.1, 0.02):
        for end in (1, 2):
            _, a, b = best
            for t in np.linspace(1 - span, 1 + span, 21):
                low, high = (max(a * t, lo), b) if end == 1 else (a, min(b * t, hi))
                if high > low:
                    best = min(best, (error(low, high), low, high))
    return best[1], best[2]


def _squared_error(centres, counts, lo, hi) -> float:
    scale = (hi - lo) / 255
    zero = np.rint(-lo / scale)
    q = np.clip(np.rint(centres / scale) + zero, 0, 255)
    d = (q - zero) * scale - centres
    return float((counts * d * d).sum())


def _divergence(centres, counts, lo, hi) -> float:
    """KL(seen || what 256 levels keep of it); what is cut off gathers at the ends."""
    scale = (hi - lo) / 255
    level = np.clip(np.rint((centres - lo) / scale), 0, 255).astype(int)
    inside = (centres >= lo - scale / 2) & (centres <= hi + scale / 2)
    kept = np.where(inside, counts, 0.0)
    p = kept.copy()
    first, last = np.flatnonzero(inside)[[0, -1]] if inside.any() else (0, 0)
    p[first] += counts[:first].sum()
    p[last] += counts[last + 1:].sum()
    some = kept > 0
    total = np.bincount(level, weights=kept, minlength=256)
    bins = np.bincount(level, weights=some, minlength=256)
    q = np.where(some, total[level] / np.maximum(bins[level], 1), 0.0)
    if q.sum() == 0:
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    good = p > 0
    return float((p[good] * np.log(p[good] / np.maximum(q[good], 1e-12))).sum())


def grid(lo: float, hi: float) -> tuple[np.float32, np.int8]:
    """Scale and zero point of int8 over [lo, hi]; zero is exact."""
    scale = np.float32(max((hi - lo) / 255, 1e-9))
    return scale, np.int8(np.clip(np.rint(-128 - lo / scale), -128, 127))
