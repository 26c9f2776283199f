"""The figures of a run: what each pass gained and cost, whether that can be told, and whether the gates hold."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from .graph import Graph
from .metrics import Metric, interval, paired_interval, samples_needed, tells
from .recipe.expect import Rule

SAME_SIZE, SAME_TIME = 0.995, 0.97  # a pass pays when it leaves less than this share


class Scorer:
    """Scores models on the test split, always the same samples in the same order."""

    def __init__(self, data, metric: Metric, original: Graph, batch: int = 256):
        self.data, self.metric, self.batch = data, metric, batch
        self._original = original
        self._reference: list | None = None

    def batches(self) -> Iterator[tuple]:
        return self.data.batches("test", self.batch)

    def reference(self) -> list | None:
        """The original's first output, batch by batch, for metrics that compare with it."""
        wanted = self.metric.needs == "reference" or self.metric.needs == "any" and not self.data.labelled("test")
        if wanted and self._reference is None:
            self._reference = [[o] for o in _torch_outputs(self._original, (i for i, _ in self.batches()))]
        return self._reference

    def torch(self, graph: Graph, progress: Callable | None = None) -> np.ndarray:
        """Per-sample scores of a Graph, run by torch."""
        return self._scores(([o] for o in _torch_outputs(graph, (i for i, _ in self.batches()))), progress)

    def engine(self, evaluate: Callable, path, progress: Callable | None = None) -> np.ndarray:
        """Per-sample scores of a .mcc file, run by evaluate(path, batches of inputs) -> lists of outputs."""
        return self._scores(evaluate(path, (i for i, _ in self.batches())), progress)

    def _scores(self, outputs: Iterable, progress) -> np.ndarray:
        reference, made, total = self.reference(), [], max(1, -(-self.data.size("test") // self.batch))
        for i, (out, (_, labels)) in enumerate(zip(outputs, self.batches())):
            made.append(self.metric.scores(out, labels, None if reference is None else reference[i]))
            if progress is not None:
                progress(i + 1, total, f"{self.metric.name} on {self.data.size('test')} samples")
        return np.concatenate(made).astype(np.float64)

    def facts(self, scores: np.ndarray, original: np.ndarray | None) -> dict:
        """The metric with its 95 % interval, and the paired difference to the original with its own."""
        value, lo, hi = interval(scores, self.metric)
        facts: dict[str, Any] = {"metric": value, "metric_ci95": [lo, hi]}
        if original is not None:
            d, dlo, dhi = paired_interval(scores, original, self.metric)
            facts |= {"difference": d, "difference_ci95": [dlo, dhi]}
        return facts


def _torch_outputs(graph: Graph, batches: Iterable) -> Iterator[np.ndarray]:
    import torch
    module = graph.module().eval()
    for inputs in batches:
        with torch.no_grad():
            out = module(inputs)
        yield (out[0] if isinstance(out, tuple) else out).numpy()


def counts(graph: Graph, bind: dict[str, int]) -> dict:
    """params, nonzero and macs of one inference."""
    from .cost import nonzeros, params, total_macs
    return {"params": params(graph), "nonzero": nonzeros(graph), "macs": total_macs(graph, bind)}


def paid(now: dict, before: dict, metric: Metric | None) -> list[str]:
    """What a stage gained over the one before it: bytes, time, memory, and the metric where it rose for certain."""
    gains = []
    for name, key, share in (("bytes", "bytes", SAME_SIZE), ("time", "latency_ms", SAME_TIME),
                             ("memory", "arena_bytes", SAME_SIZE)):
        if now.get(key) is not None and before.get(key) is not None and now[key] < share * before[key]:
            gains.append(name)
    if metric is not None and now.get("metric") is not None and before.get("metric") is not None:
        better = now["metric"] - before["metric"]
        if (better if metric.better == "higher" else -better) > 0:
            gains.append(metric.name)
    return gains


def gates(rules: list[Rule], original: dict, final: dict) -> list[dict]:
    """The outcome of `expect:`: {"rule", "value", "bound", "original", "ok"}, and "sure" for the metric."""
    made = []
    for r in rules:
        value, base = final.get(r.figure), original.get(r.figure)
        row: dict[str, Any] = {"rule": f"{r.name} {r.text}", "value": value, "original": base, "place": r.place}
        if value is None or base is None and "original" in r.text:
            made.append({**row, "ok": False, "why": f"{r.name} was not measured"})
            continue
        row |= {"bound": r.bound(base if base is not None else 0.0), "ok": r.holds(value, base if base is not None else 0.0)}
        if r.figure == "metric" and base is not None and final.get("difference_ci95"):
            lo, hi = final["difference_ci95"]
            row["sure"] = tells(lo, hi, row["bound"] - base)
        made.append(row)
    return made


def warnings(report: dict, scores: np.ndarray | None, original: np.ndarray | None, metric: Metric | None) -> list[str]:
    """What a reader of the figures must know."""
    made = []
    for s in report["stages"]:
        if s["paid"] is not None and not {"bytes", "time"} & set(s["paid"]):
            also = f" (it did in {' and '.join(s['paid'])})" if s["paid"] else ""
            undone = ": undone (on_no_gain: rollback)" if s.get("undone") else ""
            made.append(f"{s['pass']} paid in neither bytes nor time{also}{undone}")
    if metric is not None and scores is not None and original is not None:
        n, unsure = len(scores), [g for g in report["expect"] if g.get("sure") is False]
        for g in unsure:
            margin = abs(report["final"]["difference"] - (g["bound"] - g["original"]))
            need = "it lies on the bound"
            if metric.mean and margin > 0:
                need = f"about {samples_needed(scores, original, margin):,} would do"
            made.append(f"{n:,} test samples are too few to tell whether {g['rule']} holds; {need}")
        lo, hi = report["final"]["difference_ci95"]
        if not unsure and metric.mean and hi is not None and n < 100:
            made.append(f"only {n} test samples: the difference to the original is known to about {(hi - lo) / 2:.2g}")
    return made
