"""Set the least important weights to zero, for good: later passes and training keep them zero.

Magnitude (Han et al., arXiv 1506.02626) or LAMP scores (Lee et al., arXiv 2010.07611), per layer or over the whole
model, in one shot or gradually while training: the cubic schedule of Zhu and Gupta (arXiv 1710.01878) prunes fast
while there is much to spare and slowly at the end.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..base import Context, Pass, layer_name, options_for, select
from ..errors import UserError
from ..graph import Graph, Node, Value, constant
from ..weights import refresh_meta, weights_of


@dataclass(frozen=True)
class Weights(Pass):
    """sparsity   share of weights that are zero at the end, over all chosen layers (0..1)
    scope         global: one threshold for all layers; layer: the same share in each
    score         magnitude, or lamp (magnitude relative to the larger weights of its layer; for scope global)
    schedule      with epochs: cubic or linear growth of the sparsity, or once (all at the start)
    epochs, lr    training while pruning (0: prune in one shot, no data needed)
    start, end    the shares of the training where pruning begins and ends; the rest fine-tunes
    steps         how many times the mask grows between start and end
    layers, skip  patterns of layers to prune and to leave alone
    skip_first, skip_last   leave the first / last layer of the model alone
    overrides     {pattern: {sparsity: s}}: these layers get their own share, whatever the scope
    max_sparsity  no layer loses more than this share under a global scope, so that none is cut through
    """

    sparsity: float = 0.5
    scope: Literal["global", "layer"] = "global"
    score: Literal["magnitude", "lamp"] = "magnitude"
    schedule: Literal["cubic", "linear", "once"] = "cubic"
    epochs: float = 0
    lr: float | None = None
    start: float = 0.0
    end: float = 0.6
    steps: int = 50
    layers: str | list[str] = "*"
    skip: list[str] = field(default_factory=list)
    skip_first: bool = False
    skip_last: bool = False
    overrides: dict[str, dict] = field(default_factory=dict)
    max_sparsity: float = 0.99

    def check(self) -> None:
        for name in ("sparsity", "max_sparsity"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        if self.max_sparsity < self.sparsity:
            raise ValueError(f"max_sparsity ({self.max_sparsity}) is below sparsity ({self.sparsity}); raise it")
        if not 0 <= self.start <= self.end <= 1:
            raise ValueError(f"start and end must be shares of the training, 0 <= start <= end <= 1, got {self.start} and "
                             f"{self.end}")
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        for pattern, options in self.overrides.items():
            for key, value in options.items():
                if key != "sparsity":
                    raise ValueError(f"overrides[{pattern!r}]: unknown option {key!r}; it takes sparsity")
                if not 0 <= value < 1:
                    raise ValueError(f"overrides[{pattern!r}]: sparsity must be at least 0 and below 1, got {value}")

    def matches(self, graph: Graph) -> list[Node]:
        """Layers with weights; embeddings (gather) only when a pattern says op:gather."""
        patterns = [self.layers] if isinstance(self.layers, str) else list(self.layers)
        nodes = [n for n in super().matches(graph) if weights_of(n) and (n.op != "gather" or "op:gather" in patterns)]
        nodes = nodes[self.skip_first:len(nodes) - self.skip_last]
        return [n for n in select(nodes, patterns) if not select([n], self.skip)]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        graph = graph.copy()
        targets = self._targets(graph)
        if not targets:
            raise UserError("prune.weights: no layer with float weights matches; "
                            "run it before quantize.ptq, or check layers and skip")
        if self.epochs:
            graph = self._train(graph, ctx, {v.name: s for v, s in targets.items()})
            targets = self._targets(graph)
        self._prune(targets, 1.0)
        for v in targets:
            v.meta = {**v.meta, "sparse": True}
            refresh_meta(v)
        names = {w: layer_name(n) for n in self.matches(graph) for w in weights_of(n)}
        ctx.note(sparsity=round(_sparsity([v.data for v in targets]), 5),
                 layers=[{"layer": names[v], "weights": v.data.size, "sparsity": round(_sparsity([v.data]), 4)} for v in targets])
        return graph

    def _targets(self, graph: Graph) -> dict[Value, float | None]:
        """The weights to prune and the share of each, None where the global budget decides."""
        found: dict[Value, float | None] = {}
        for node in self.matches(graph):
            own = options_for(node, self.overrides).get("sparsity")
            for w in weights_of(node):
                found.setdefault(w, own if own is not None else self.sparsity if self.scope == "layer" else None)
        return {v: s for v, s in found.items() if s != 0}

    def _prune(self, targets: dict[Value, float | None], progress: float) -> None:
        masks = self.masks({v: v.data for v in targets}, targets, progress)
        for v, keep in masks.items():
            v.data = np.where(keep, v.data, np.zeros((), v.data.dtype))

    def masks(self, data: dict, targets: dict, progress: float) -> dict:
        """Which weights stay (bool, the shape of each), with `progress` of the sparsity reached; keys as in `data`."""
        keep = {v: keep_largest(np.abs(data[v]), s * progress) for v, s in targets.items() if s is not None}
        free = [v for v, s in targets.items() if s is None]
        if free:
            budget = round(self.sparsity * progress * sum(data[v].size for v in free))
            keep |= dict(zip(free, self._global([data[v] for v in free], budget)))
        return keep

    def _global(self, arrays: list[np.ndarray], budget: int) -> list[np.ndarray]:
        scores = [(lamp if self.score == "lamp" else np.abs)(a).ravel() for a in arrays]
        # What a layer may not lose (max_sparsity) is out of reach of the budget.
        limited = []
        for s in scores:
            s = s.astype(np.float64)
            s[np.argsort(s, kind="stable")[int(self.max_sparsity * s.size):]] = np.inf
            limited.append(s)
        flat = np.concatenate(limited)
        kept = np.ones(flat.size, bool)
        kept[np.argsort(flat, kind="stable")[:budget]] = False
        kept |= np.isinf(flat)
        return [k.reshape(a.shape) for k, a in zip(np.split(kept, np.cumsum([a.size for a in arrays])[:-1]), arrays)]

    def _train(self, graph: Graph, ctx: Context, targets: dict[str, float | None]) -> Graph:
        from ..train import fit

        for v in graph.constants():
            if v.name in targets:
                v.meta = {**v.meta, "sparse": True}
        module = graph.module()
        last = {"round": -1}

        def on_step(step, steps, module):
            share = step / max(steps, 1)
            if share < self.start or last["round"] == self.steps:
                return
            span = self.end - self.start
            t = 1.0 if self.schedule == "once" or span == 0 else min((share - self.start) / span, 1.0)
            now = int(t * self.steps)
            if now == last["round"]:
                return
            last["round"] = now
            t = now / self.steps
            reached = {"cubic": 1 - (1 - t) ** 3, "linear": t, "once": 1.0}[self.schedule]
            data = {name: module.value(name) for name in targets}
            for name, keep in self.masks(data, targets, reached).items():
                module.set_mask(name, keep)

        fit(module, ctx, epochs=self.epochs, lr=self.lr, on_step=on_step, text="prune")
        return module.write_back()

    @staticmethod
    def example() -> Graph:
        r = np.random.default_rng(0)
        x, y = Value("x", "float32", ("N", 16)), Value("y", "float32", ("N", 12))
        w = constant("fc.weight", r.standard_normal((12, 16)).astype(np.float32))
        return Graph([x], [y], [Node("linear", [x, w, None], [y], name="fc")])


def keep_largest(score: np.ndarray, sparsity: float) -> np.ndarray:
    """True for all but the round(sparsity * size) smallest scores (ties: the first ones go)."""
    keep = np.ones(score.size, bool)
    keep[np.argsort(score, axis=None, kind="stable")[:round(sparsity * score.size)]] = False
    return keep.reshape(score.shape)


def lamp(weights: np.ndarray) -> np.ndarray:
    """LAMP: the square of a weight over the sum of the squares of all weights of its layer that are not smaller."""
    square = weights.astype(np.float64).ravel() ** 2
    order = np.argsort(square, kind="stable")
    tail = np.cumsum(square[order][::-1])[::-1]
    score = np.empty_like(square)
    score[order] = square[order] / np.maximum(tail, np.finfo(np.float64).tiny)
    return score.reshape(weights.shape)


def _sparsity(arrays: list[np.ndarray]) -> float:
    return 1 - sum(int(np.count_nonzero(a)) for a in arrays) / max(1, sum(a.size for a in arrays))
