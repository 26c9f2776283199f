"""What a model is judged by, per sample, so that two models are compared on the same samples.

    metric = METRICS["accuracy"]
    scores = metric.scores(outputs, labels, reference)     # [n] or [n, k], one row a sample
    metric.value(scores)                                   # the figure people read
    paired_interval(scores, original_scores)               # (difference, lo, hi), 95 %

Intervals are of the paired difference, which is far tighter than two separate ones: the same images are easy or hard
for both models. For 0/1 scores it is the Wald interval after adding half a sample to each cell of the paired table
(Agresti and Min 2005), which stays honest for few samples and for no disagreement at all; for other scores Student's
t; for figures that are no mean (AUC, F1, Spearman) a percentile bootstrap with a fixed seed.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .errors import UserError


def _mean(scores) -> float:
    return float(np.mean(scores))


@dataclass(frozen=True)
class Metric:
    """scores(outputs, labels, reference) -> float64 [n] (mean is the value) or [n, k] (`value` combines them).

    outputs, reference  the model's and the original's outputs, each a list of arrays [n, ...]; the first counts
    labels              [n] or None
    needs               "labels" or "reference": what must be there
    better              "higher" or "lower"
    """

    name: str
    scores: Callable
    needs: str
    better: str = "higher"
    value: Callable = _mean
    mean: bool = True


def first(outputs) -> np.ndarray:
    """The first output, as a numpy array [n, ...]; takes a tensor, an array, or a list or dict of them."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, (list, tuple)):
        outputs = outputs[0]
    return outputs.detach().cpu().numpy() if hasattr(outputs, "detach") else np.asarray(outputs)


def _flat(x) -> np.ndarray:
    x = first(x)
    return x.reshape(len(x), -1).astype(np.float64)


def _labels(y) -> np.ndarray:
    return y.detach().cpu().numpy() if hasattr(y, "detach") else np.asarray(y)


def _accuracy(outputs, labels, reference):
    return (first(outputs).argmax(-1).reshape(len(labels), -1) == _labels(labels).reshape(len(labels), -1)).mean(1)


def _top5(outputs, labels, reference):
    logits = _flat(outputs)
    top = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    return (top == _labels(labels).reshape(-1, 1)).any(1).astype(np.float64)


def _agreement(outputs, labels, reference):
    ours, theirs = first(outputs), first(reference)
    return (ours.argmax(-1) == theirs.argmax(-1)).reshape(len(ours), -1).mean(1).astype(np.float64)


def _mse(outputs, labels, reference):
    want = _labels(labels).reshape(len(labels), -1) if labels is not None else _flat(reference)
    return ((_flat(outputs) - want) ** 2).mean(1)


def _cosine(outputs, labels, reference):
    a, b = _flat(outputs), _flat(reference)
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.where(norm > 0, (a * b).sum(1) / np.where(norm > 0, norm, 1), (a == b).all(1).astype(np.float64))


def _snr(outputs, labels, reference):
    """Signal to noise against the original, dB, at most 200 (equal)."""
    want = _flat(reference)
    noise = ((_flat(outputs) - want) ** 2).sum(1)
    signal = (want ** 2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip(np.where(noise > 0, 10 * np.log10(signal / noise), 200.0), -200.0, 200.0)


def _pairs(outputs, labels, reference):
    """Columns: score of the positive class (two classes: the difference of their logits), label."""
    x = _flat(outputs)
    if x.shape[1] > 2:
        raise UserError(f"metric: this metric is for two classes or one score, the model gives {x.shape[1]}")
    return np.stack([x[:, -1] - (x[:, 0] if x.shape[1] == 2 else 0), _labels(labels).reshape(len(x)).astype(np.float64)], 1)


def _ranks(v: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties share their mean rank."""
    _, inverse, counts = np.unique(v, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def _auc(pairs) -> float:
    """Area under the ROC curve (Mann-Whitney); 0.5 when a class is absent."""
    positive = pairs[:, 1] > 0.5
    p, n = int(positive.sum()), int((~positive).sum())
    return 0.5 if p == 0 or n == 0 else float((_ranks(pairs[:, 0])[positive].sum() - p * (p + 1) / 2) / (p * n))


def _f1(pairs) -> float:
    said, true = pairs[:, 0] > 0, pairs[:, 1] > 0.5
    total = said.sum() + true.sum()
    return 0.0 if total == 0 else float(2 * (said & true).sum() / total)


def _spearman(pairs) -> float:
    a, b = (_ranks(pairs[:, i]) for i in (0, 1))
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 0 else 0.0


METRICS = {m.name: m for m in (
    Metric("accuracy", _accuracy, "labels"),
    Metric("top5", _top5, "labels"),
    Metric("agreement", _agreement, "reference"),
    Metric("cosine", _cosine, "reference"),
    Metric("snr", _snr, "reference"),
    Metric("mse", _mse, "any", better="lower"),
    Metric("auc", _pairs, "labels", value=_auc, mean=False),
    Metric("f1", _pairs, "labels", value=_f1, mean=False),
    Metric("spearman", _pairs, "labels", value=_spearman, mean=False),
)}


def find(name: str) -> Metric:
    """The metric of that name. Raises UserError with the nearest one."""
    from difflib import get_close_matches

    if name not in METRICS:
        near = get_close_matches(name, METRICS, n=1)
        raise UserError(f"metric: no metric named {name!r}" + (f"; did you mean {near[0]!r}?" if near else
                        f"; there are {', '.join(METRICS)}"))
    return METRICS[name]


def interval(scores, metric: Metric | None = None) -> tuple[float, float, float]:
    """(value, lo, hi) of one model alone, 95 %: Wilson for 0/1 scores, Student's t for others, bootstrap otherwise."""
    s = np.asarray(scores, np.float64)
    if metric is not None and not metric.mean:
        return _bootstrap(s, None, metric.value)
    n, mean = len(s), float(s.mean())
    if np.isin(s, (0.0, 1.0)).all():
        z = 1.959964
        middle, half = mean + z * z / (2 * n), z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
        return mean, (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    half = _t_half(s)
    return mean, mean - half, mean + half


def paired_interval(scores, reference, metric: Metric | None = None) -> tuple[float, float, float]:
    """(difference, lo, hi): how much better `scores` are than `reference` on the same samples, with the 95 % interval.

    scores, reference  per-sample scores [n] or [n, k] of one metric, same samples in the same order, n >= 1
    metric             needed only for metrics that are no mean
    The difference is the plain one (not shrunk); lo and hi may be infinite for a single sample that is not 0/1.
    """
    a, b = np.asarray(scores, np.float64), np.asarray(reference, np.float64)
    if a.shape != b.shape or len(a) == 0:
        raise ValueError(f"paired scores must be of the same samples, got shapes {a.shape} and {b.shape}")
    if metric is not None and not metric.mean:
        return _bootstrap(a, b, metric.value)
    d = a - b
    mean = float(d.mean())
    if np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all():
        n, better, worse = len(d) + 2, (d > 0).sum() + 0.5, (d < 0).sum() + 0.5
        middle = (better - worse) / n
        half = 1.959964 * math.sqrt(better + worse - (better - worse) ** 2 / n) / n
        return mean, float(max(-1.0, min(mean, middle - half))), float(min(1.0, max(mean, middle + half)))
    half = _t_half(d)
    return mean, mean - half, mean + half


def tells(lo: float, hi: float, bound: float) -> bool:
    """Whether an interval is narrow enough to say on which side of `bound` the difference lies."""
    return not lo < bound < hi


def samples_needed(scores, reference, margin: float) -> int:
    """About how many test samples would bring the paired 95 % interval within +-margin."""
    d = np.asarray(scores, np.float64) - np.asarray(reference, np.float64)
    spread = max(float(d.var(ddof=1)) if len(d) > 1 else 1.0, 1.0 / (len(d) + 2))
    return math.ceil(1.959964 ** 2 * spread / margin ** 2)


def _t_half(d: np.ndarray) -> float:
    """Half width of the 95 % t interval of the mean."""
    n = len(d)
    return math.inf if n < 2 else _t975(n - 1) * float(d.std(ddof=1)) / math.sqrt(n)


def _t975(df: int) -> float:
    """The 97.5 % quantile of Student's t: exact for 1 and 2, else the Cornish-Fisher expansion (error below 0.3 %)."""
    if df == 1:
        return 12.7062
    if df == 2:
        return 4.30265
    z = 1.959964
    g1 = (z ** 3 + z) / 4
    g2 = (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96
    g3 = (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384
    g4 = (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92160
    return z + g1 / df + g2 / df ** 2 + g3 / df ** 3 + g4 / df ** 4


def _bootstrap(a: np.ndarray, b: np.ndarray | None, value, rounds: int = 1000) -> tuple[float, float, float]:
    rng, n = np.random.default_rng(0), len(a)
    point = value(a) - (value(b) if b is not None else 0)
    drawn = []
    for _ in range(rounds):
        rows = rng.integers(n, size=n)
        drawn.append(value(a[rows]) - (value(b[rows]) if b is not None else 0))
    lo, hi = np.quantile(drawn, [0.025, 0.975])
    return float(point), float(min(lo, point)), float(max(hi, point))
