"""Remove whole channels: the layers that are left are smaller dense layers, faster everywhere.

Channels that meet in an addition, a gate, a depthwise convolution or a shared weight go together (`passes/groups.py`;
DepGraph, Fang et al., arXiv 2301.12900). Weakest first by the importance chosen, by a share of every group or until a budget is
kept; in steps, each with training, if wanted.
"""
from __future__ import annotations

import platform
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import gcd
from typing import Literal

import numpy as np

from ..base import Context, Pass, layer_name, options_for, select
from ..cost import guess_bind, macs, params
from ..errors import UserError
from ..graph import Graph, Node, Value, constant
from ..groups import Dependencies, Group, analyse
from . import budget
from .importance import Ask, Granularity, Name, Part, check, find


@dataclass(frozen=True)
class Structured(Pass):
    """What the passes share that take units out of groups: how much, which first, in how many rounds."""

    ratio: float | None = None
    params: float | None = None
    macs: float | None = None
    bytes: float | None = None
    latency: float | None = None
    importance: Name = "l2"
    max_ratio: float = 0.9
    steps: int = 1
    epochs: float = 0
    lr: float | None = None
    samples: int = 256
    layers: str | list[str] = "*"
    keep: list[str] = field(default_factory=list)
    overrides: dict[str, dict] = field(default_factory=dict)

    # What a subclass says -------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def granularity(self) -> Granularity:
        """channels or heads"""

    @abstractmethod
    def analyse(self, graph: Graph, bind: dict) -> Dependencies:
        """What goes together."""

    @abstractmethod
    def kept(self, group: Group, count: float) -> int:
        """How many units of a group stay: near `count`, never none."""

    def groups(self, deps: Dependencies) -> list[Group]:
        """Those all of whose layers may lose units."""
        return [g for g in deps.groups if len(g.classes) > 1 and len(select(g.producers, self.layers)) == len(g.producers)
                and not select(g.producers, self.keep)]

    # ----------------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        check(self.importance, self.granularity)
        budget.check(self, "ratio")
        if not 0 < self.max_ratio < 1:
            raise ValueError(f"max_ratio must be between 0 and 1, got {self.max_ratio}")
        for name in ("steps", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs}")
        for pattern, options in self.overrides.items():
            if set(options) != {"ratio"} or not 0 <= options["ratio"] < 1:
                raise ValueError(f"overrides[{pattern!r}]: takes ratio, at least 0 and below 1, got {options}")

    @property
    def who(self) -> str:
        return f"prune.{self.granularity}"

    def matches(self, graph: Graph) -> list[Node]:
        """The layers whose output may get narrower, with their groups."""
        return [n for g in self.groups(self.analyse(graph, {})) for n in g.producers]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        bind = ctx.target.get("bind") or {}
        first, given = graph, budget.given(self)
        deps = self.analyse(graph, bind)
        if not self.groups(deps):
            reasons = [f"{k}: {why}" for k, why in list(deps.skipped.items())[:3]]
            raise UserError(f"{self.who}: no {self.granularity} can be removed" + (f" ({'; '.join(reasons)})" if reasons else
                            "; check layers and keep"))
        before = _cost(given[0], deps, ctx, bind, self.who)(np.empty(0, np.int64)) if given else 0.0
        for i in range(self.steps):
            ctx.progress(i, self.steps, f"prune {self.granularity}")
            deps = self.analyse(graph, bind) if i else deps
            score = self._score(deps, ctx)
            gone = self._within(deps, score, given[0], before * given[1] ** ((i + 1) / self.steps), ctx, bind) if given else \
                self._by_ratio(deps, score)
            graph = deps.remove(deps.feasible(gone))
            if self.epochs:
                from ..train import fit_graph
                graph = fit_graph(graph, ctx, epochs=self.epochs, lr=self.lr, text=f"train after pruning {i + 1}/{self.steps}")
        widths = _widths(graph)
        ctx.note(params_before=params(first), params_after=params(graph),
                 macs_before=sum(macs(first, bind).values()), macs_after=sum(macs(graph, bind).values()),
                 layers=[{"layer": k, "channels_before": n, "channels": widths[k]}
                         for k, n in _widths(first).items() if widths.get(k, n) != n],
                 skipped=deps.skipped)
        if given:
            after = _cost(given[0], self.analyse(graph, bind), ctx, bind, self.who)(np.empty(0, np.int64))
            budget.warn(*given, before, after, ctx, "the groups are at max_ratio, rounded, or as narrow as they may get")
        return graph

    def _score(self, deps: Dependencies, ctx: Context) -> np.ndarray:
        """Of every class; class 0, which must stay, is infinite."""
        parts = [Part(c.value, c.marks, c.axis, c.kind, c.node) for c in deps.cuts if c.marks.any()]
        ask = Ask(deps.graph, ctx, parts, deps.size, self.granularity, relative=True, samples=self.samples)
        score = np.nan_to_num(ask.score(self.importance), nan=0.0)
        score[0] = np.inf
        return score

    def _by_ratio(self, deps: Dependencies, score: np.ndarray) -> np.ndarray:
        gone = []
        for group in self.groups(deps):
            own = [o["ratio"] for n in group.producers if (o := options_for(n, self.overrides))]
            ratio = max(own) if own else 0.5 if self.ratio is None else self.ratio
            ratio = 1 - (1 - ratio) ** (1 / self.steps)
            order = group.classes[np.argsort(score[group.classes], kind="stable")]
            gone.append(order[:len(order) - self.kept(group, len(order) * (1 - ratio))])
        weakest = np.concatenate(gone)
        return weakest[np.argsort(score[weakest], kind="stable")]

    def _within(self, deps: Dependencies, score: np.ndarray, kind: str, goal: float, ctx: Context, bind: dict) -> np.ndarray:
        """The fewest weakest classes, of all groups in one order, without which `goal` is met (binary search)."""
        groups = self.groups(deps)
        owner = np.full(deps.size, -1)
        for i, g in enumerate(groups):
            owner[g.classes] = i
            if find(self.importance).needs != "training":  # relative to the group, so that no group's scale decides
                score[g.classes] /= max(score[g.classes].mean(), 1e-30)
        pool = np.flatnonzero(owner >= 0)
        pool = pool[np.argsort(score[pool], kind="stable")]
        cost = _cost(kind, deps, ctx, bind, self.who)

        def chosen(count: int) -> np.ndarray:
            share = np.bincount(owner[pool[:count]], minlength=len(groups))
            gone = []
            for g, n in zip(groups, share):
                order = g.classes[np.argsort(score[g.classes], kind="stable")]
                n = min(n, int(self.max_ratio * len(order)))
                gone.append(order[:max(0, len(order) - self.kept(g, len(order) - n))])
            weakest = np.concatenate(gone)
            return deps.feasible(weakest[np.argsort(score[weakest], kind="stable")])

        lo, hi = 0, len(pool)
        while lo < hi:
            middle = (lo + hi) // 2
            lo, hi = (lo, middle) if cost(chosen(middle)) <= goal else (middle + 1, hi)
        return chosen(lo)


@dataclass(frozen=True)
class Channels(Structured):
    """ratio       share of the channels to remove from every group (0..1); 0.5 when nothing else says how much
    params, macs, bytes, latency   instead: go on, over all groups, until this share of the parameters, multiply-accumulates,
                   bytes of the file or measured time is left (0..1)
    importance     l1, l2, bn_gamma, fpgm, wanda, apoz, taylor, fisher, movement (these five need data) or random
    multiple       keep multiples of this many channels in layers at least 4 times as wide (1: any number); auto: what a row
                   of the target's narrowest tile holds, 16 on x86-64 and 8 on arm64, so that no lane computes nothing
    max_ratio      with a budget: no group loses more than this share
    min_channels   no layer gets narrower than this
    steps          prune in so many rounds
    epochs, lr     training after each round (0: none)
    samples        how many samples those that look at data look at
    layers, keep   patterns of layers whose output channels may be removed, and must not be
    overrides      {pattern: {ratio: r}}: groups with such a layer lose their own share
    """

    multiple: int | Literal["auto"] = "auto"
    min_channels: int = 1

    def check(self) -> None:
        super().check()
        for name in ("multiple", "min_channels"):
            if getattr(self, name) != "auto" and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def run(self, graph: Graph, ctx: Context) -> Graph:
        if self.multiple == "auto":
            return replace(self, multiple=_tile(ctx.target.get("arch", "host"))).run(graph, ctx)
        return super().run(graph, ctx)

    @property
    def granularity(self) -> Granularity:
        return "channels"

    def analyse(self, graph: Graph, bind: dict) -> Dependencies:
        return analyse(graph, bind)

    def kept(self, group: Group, count: float) -> int:
        """How many classes of a group stay: near `count`, a round number of channels, never none."""
        size = round(group.size)
        multiple = int(self.multiple)  # run() has put a number in the place of auto
        step = multiple // gcd(multiple, max(size, 1))
        even = size >= 1 and size * len(group.classes) == group.width
        if not even or group.width < 4 * multiple:
            step = 1
        kept = max(step, round(count / step) * step, -(-self.min_channels // max(size, 1)), 1)
        return min(kept, len(group.classes))

    @staticmethod
    def example() -> Graph:
        r = np.random.default_rng(0)

        def weight(name, *shape):
            return constant(name, r.standard_normal(shape).astype(np.float32))
        x, a, b, c, y = (Value(n, "float32", s) for n, s in (("x", ("N", 3, 6, 6)), ("a", ("N", 8, 6, 6)), ("b", ("N", 8, 6, 6)),
                                                            ("c", ("N", 8, 6, 6)), ("y", ("N", 4, 6, 6))))
        pads = {"pads": [1, 1, 1, 1]}
        return Graph([x], [y], [
            Node("conv", [x, weight("conv1.weight", 8, 3, 3, 3), weight("conv1.bias", 8)], [a], pads, "conv1"),
            Node("relu", [a], [b], {}, "relu"),
            Node("conv", [b, weight("dw.weight", 8, 1, 3, 3), None], [c], pads | {"group": 8}, "dw"),
            Node("conv", [c, weight("conv2.weight", 4, 8, 1, 1), weight("conv2.bias", 4)], [y], {}, "conv2")])


def _cost(kind: str, deps: Dependencies, ctx: Context, bind: dict, who: str) -> Callable[[np.ndarray], float]:
    """What is left of a budget without some classes."""
    if kind == "macs":
        return _Cost(deps, bind).after
    return lambda classes: budget.cost(kind, deps.remove(classes), ctx, who)


class _Cost:
    """Multiply-accumulates as a function of what is removed: every layer's shrink with the cuts of its weights (a recurrent
    layer has two), those of attention with the channels of what it reads and gives."""

    def __init__(self, deps: Dependencies, bind: dict):
        self.macs = macs(deps.graph, guess_bind(deps.graph, bind))
        self.cuts: dict[Node, dict[Value, list[np.ndarray]]] = {}
        for cut in deps.cuts:
            if cut.kind in ("out", "in", "depthwise"):
                self.cuts.setdefault(cut.node, {}).setdefault(cut.value, []).append(cut.marks)
        for n in self.macs:
            x, y = n.inputs[0], n.outputs[0]
            if n.op == "attention":  # queries by keys, then what is attended to
                self.cuts[n] = {x: [deps.marks[x]], y: [deps.marks[y]]}
            elif n not in self.cuts:
                self.cuts[n] = {y: [deps.marks[x], deps.marks[y]]}
        self.sizes = {n: {v: float(np.prod(deps.shapes[v])) for v in weights} for n, weights in self.cuts.items()}
        self.size = deps.size

    def after(self, classes: np.ndarray) -> float:
        stays = np.ones(self.size, bool)
        stays[classes] = False
        total = 0.0
        for n, m in self.macs.items():
            sizes = self.sizes[n]
            left = sum(size * float(np.prod([stays[marks].mean() for marks in self.cuts[n][v]])) for v, size in sizes.items())
            total += m * left / sum(sizes.values())
        return total


def _tile(arch: str) -> int:
    """Output channels in the narrowest fast tile of the engine's dense kernels (kernels/gemm/gemm.def) on a machine."""
    here = platform.machine().lower() if arch == "host" else arch
    return 8 if here.startswith(("arm", "aarch")) else 16


def _widths(graph: Graph) -> dict[str, int]:
    """Output channels of every layer."""
    return {layer_name(n): n.inputs[1].shape[0] for n in graph.nodes
            if n.op in ("conv", "linear") and n.inputs[1].data is not None}
