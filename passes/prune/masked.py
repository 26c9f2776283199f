"""What the passes share that set weights to zero: choosing by importance, gradual schedules, regrowth, rewinding, budgets.

Zeros are for good: the weight's meta says "sparse", so later passes and training keep them.
"""
from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..base import Context, Pass, layer_name, options_for, select
from ..errors import UserError
from ..graph import Graph, Node, Value
from ..weights import refresh_meta, weights_of
from . import budget
from .importance import Ask, Granularity, Name, Part, check, find
from .schedule import STEPS, Schedule, reached, rounds

KNOB = 256  # steps of sparsity in which a budget is looked for


@dataclass(eq=False)
class Target:
    """One weight to prune. units: the unit of each weight, numbered 0..count-1; row: of each unit, for scope row; share: its own
    sparsity, None where the model's decides."""

    value: Value
    node: Node
    share: float | None
    units: np.ndarray
    count: int
    row: np.ndarray
    rowwise: bool = False  # how many go is fixed for every row

    @property
    def name(self) -> str:
        return self.value.name


Masks = dict[str, np.ndarray]  # by the value's name: True where a weight stays


@dataclass(eq=False)
class Job:
    """One run of a pass. goal: the sparsity at the end; zeros: those of earlier passes, which stay; memory: what the importance
    learns while training."""

    ctx: Context
    zeros: Masks
    goal: float = 0.0
    memory: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Masked(Pass):
    sparsity: float | None = None
    params: float | None = None
    macs: float | None = None
    bytes: float | None = None
    latency: float | None = None
    scope: Literal["global", "layer", "row", "erk"] = "global"
    importance: Name = "l2"
    samples: int = 128
    update: bool | None = None
    schedule: Schedule = "cubic"
    epochs: float = 0
    lr: float | None = None
    start: float = 0.0
    end: float = 0.6
    steps: int | None = None
    regrow: float = 0.0
    rewind: int | None = None
    layers: str | list[str] = "*"
    skip: list[str] = field(default_factory=list)
    skip_first: bool = False
    skip_last: bool = False
    overrides: dict[str, dict] = field(default_factory=dict)
    max_sparsity: float = 0.99

    # What a subclass says -------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def granularity(self) -> Granularity:
        """weights or blocks"""

    @abstractmethod
    def units(self, node: Node, value: Value) -> tuple[np.ndarray, int, np.ndarray] | None:
        """units, count and row of a Target; None when the layer has no such units."""

    # ----------------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        check(self.importance, self.granularity)
        budget.check(self, "sparsity")
        if not 0 < self.max_sparsity < 1:
            raise ValueError(f"max_sparsity must be between 0 and 1, got {self.max_sparsity}")
        if self.max_sparsity < (self.sparsity or 0):
            raise ValueError(f"max_sparsity ({self.max_sparsity}) is below sparsity ({self.sparsity}); raise it")
        if not 0 <= self.start <= self.end <= 1:
            raise ValueError(f"start and end must be shares of the training, 0 <= start <= end <= 1, got {self.start} and "
                             f"{self.end}")
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs}")
        if not 0 <= self.regrow < 1:
            raise ValueError(f"regrow must be at least 0 and below 1, got {self.regrow}")
        if self.regrow and self.schedule == "iterative":
            raise ValueError("regrow exchanges weights while training goes on; use it with schedule: once, cubic or linear")
        if self.rewind is not None and self.schedule != "iterative":
            raise ValueError("rewind goes back after every round; use it with schedule: iterative")
        if self.rewind is not None and self.rewind < 0:
            raise ValueError(f"rewind must not be negative, got {self.rewind}")
        for name in ("samples", "steps"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for pattern, options in self.overrides.items():
            for key, value in options.items():
                if key != "sparsity":
                    raise ValueError(f"overrides[{pattern!r}]: unknown option {key!r}; it takes sparsity")
                if not 0 <= value < 1:
                    raise ValueError(f"overrides[{pattern!r}]: sparsity must be at least 0 and below 1, got {value}")

    def matches(self, graph: Graph) -> list[Node]:
        """Layers with weights; embeddings (gather) only when a pattern says op:gather."""
        patterns = [self.layers] if isinstance(self.layers, str) else list(self.layers)
        nodes = [n for n in super().matches(graph) if any(self.units(n, w) for w in weights_of(n))
                 and (n.op != "gather" or "op:gather" in patterns)]
        nodes = nodes[self.skip_first:len(nodes) - self.skip_last]
        return [n for n in select(nodes, patterns) if not select([n], self.skip)]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        graph = graph.copy()
        if not self.targets(graph):
            raise UserError(f"prune.{self.granularity}: no layer with float weights matches; "
                            "run it before quantize.ptq, or check layers and skip")
        kept = budget.given(self)
        before = budget.cost(kept[0], graph, ctx, self.who) if kept else 0.0
        job = Job(ctx, {v.name: v.data == 0 for v in graph.constants() if v.meta.get("sparse")})
        job.goal = self._goal(graph, job)
        for v in (t.value for t in self.targets(graph)):
            v.meta = {**v.meta, "sparse": True}
        if self.schedule == "iterative" and self.epochs:
            graph = self._rounds(graph, job)
        elif self.epochs and not (self.schedule == "once" and self.updates):
            graph = self._train(graph, job)
        else:
            graph = self._at_once(graph, job)
            if self.epochs:
                graph = self._fit(graph, ctx)
        targets = self.targets(graph)
        for t in targets:
            refresh_meta(t.value)
        if kept:
            budget.warn(*kept, before, budget.cost(kept[0], graph, ctx, self.who), ctx, "layers are at max_sparsity")
        ctx.note(sparsity=round(sparsity([t.value.data for t in targets]), 5),
                 layers=[{"layer": layer_name(t.node), "weights": t.value.data.size,
                          "sparsity": round(sparsity([t.value.data]), 4)} for t in targets])
        return graph

    @property
    def who(self) -> str:
        return f"prune.{self.granularity}"

    @property
    def rowwise(self) -> bool:
        return self.scope == "row"

    @property
    def updates(self) -> bool:
        """Do the weights that stay make up for those that go (without training)?"""
        return self.importance == "obs" if self.update is None else self.update

    def targets(self, graph: Graph) -> list[Target]:
        found: dict[Value, Target] = {}
        for node in self.matches(graph):
            own = options_for(node, self.overrides).get("sparsity")
            for w in weights_of(node):
                if w not in found and own != 0 and (units := self.units(node, w)) is not None:
                    found[w] = Target(w, node, own, *units, self.rowwise)
        return list(found.values())

    # How much and which ---------------------------------------------------------------------------------------------

    def _goal(self, graph: Graph, job: Job) -> float:
        """The sparsity at the end."""
        kept = budget.given(self)
        if kept is None:
            return 0.5 if self.sparsity is None else self.sparsity
        targets = self.targets(graph)
        scores = self._scores(graph, targets, job)

        def pruned(number: int) -> Graph:
            share = self.max_sparsity * number / KNOB
            return apply(graph, self._choose(targets, scores, share, 1.0))
        return self.max_sparsity * budget.search(*kept, graph, job.ctx, self.who, pruned, KNOB) / KNOB

    def masks(self, graph: Graph, job: Job, progress: float = 1.0) -> Masks:
        """Which weights stay when `progress` of the sparsity is reached."""
        targets = self.targets(graph)
        if progress == 0:
            masks = {t.name: np.ones(t.value.data.shape, bool) for t in targets}
        else:
            masks = self._choose(targets, self._scores(graph, targets, job), job.goal, progress)
        return {k: m & ~job.zeros[k] if k in job.zeros else m for k, m in masks.items()}

    def _scores(self, graph: Graph, targets: list[Target], job: Job) -> list[np.ndarray]:
        """Of the units of every target."""
        parts, first = [], 0
        for t in targets:
            parts.append(Part(t.value, t.units + first, node=t.node))
            first += t.count
        ask = Ask(graph, job.ctx, parts, first, self.granularity, samples=self.samples, memory=job.memory)
        return np.split(np.nan_to_num(ask.score(self.importance)), np.cumsum([t.count for t in targets])[:-1])

    def _choose(self, targets: list[Target], scores: list[np.ndarray], goal: float, progress: float) -> Masks:
        shares = self._shares(targets, goal)
        keep = {t.name: self._keep_in(t, s, share * progress) for t, s, share in zip(targets, scores, shares)
                if share is not None}
        free = [(t, s) for t, s in zip(targets, scores) if t.name not in keep]
        if free:
            keep |= dict(zip((t.name for t, _ in free), self._global(free, goal * progress)))
        return {t.name: keep[t.name][t.units] for t in targets}

    def _shares(self, targets: list[Target], goal: float) -> list[float | None]:
        """The sparsity of each layer; None where one threshold decides."""
        if self.scope != "erk":
            return [t.share if t.share is not None else None if self.scope == "global" else goal for t in targets]
        free = [t for t in targets if t.share is None]
        found = dict(zip(free, erk([t.value.data.shape for t in free], goal, self.max_sparsity)))
        return [found.get(t, t.share) for t in targets]

    def _keep_in(self, target: Target, score: np.ndarray, share: float) -> np.ndarray:
        if self.scope != "row":
            return keep_largest(score, share)
        keep = np.ones(target.count, bool)
        order = np.lexsort((score, target.row))
        sizes = np.bincount(target.row)
        place = np.arange(target.count) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        keep[order] = place >= np.rint(share * sizes)[target.row[order]]
        return keep

    def _global(self, free: list[tuple[Target, np.ndarray]], share: float) -> list[np.ndarray]:
        """One threshold; what a layer may not lose (max_sparsity) is out of reach."""
        limited = []
        for _, score in free:
            s = score.astype(np.float64)
            s[np.argsort(s, kind="stable")[int(self.max_sparsity * s.size):]] = np.inf
            limited.append(s)
        flat = np.concatenate(limited)
        kept = np.ones(flat.size, bool)
        kept[np.argsort(flat, kind="stable")[:round(share * flat.size)]] = False
        kept |= np.isinf(flat)
        return np.split(kept, np.cumsum([s.size for s in limited])[:-1])

    # Schedules ------------------------------------------------------------------------------------------------------

    def _at_once(self, graph: Graph, job: Job, progress: float = 1.0) -> Graph:
        masks = self.masks(graph, job, progress)
        if not self.updates:
            return apply(graph, masks)
        from .obs import update
        return update(graph, self.targets(graph), masks, job.ctx, self.samples, self.who, self.importance == "obs")

    def _fit(self, graph: Graph, ctx: Context, text: str = "train after pruning", **options) -> Graph:
        from ..train import fit_graph
        return fit_graph(graph, ctx, epochs=self.epochs, lr=self.lr, text=text, **options)

    def _rounds(self, graph: Graph, job: Job) -> Graph:
        """Prune and train in turn. With rewind every round trains first, and what stays goes back to the weights of that step of
        the first round: a lottery ticket (Frankle and Carbin, arXiv 1803.03635) when the pass is given an untrained model."""
        steps = self.steps or STEPS["iterative"]
        early: list[Graph] = []

        def on_step(step, total, module):
            if step == min(self.rewind or 0, total - 1) and not early:
                early.append(module.write_back())
        for i, left in enumerate(rounds(steps, 1 - job.goal)):
            done = (1 - left) / job.goal if job.goal else 1.0
            text = f"round {i + 1}/{steps}"
            if self.rewind is None:
                graph = self._fit(self._at_once(graph, job, done), job.ctx, text)
                continue
            trained = self._at_once(self._fit(graph, job.ctx, text, on_step=on_step), job, done)
            graph = apply(early[0], {v.name: v.data != 0 for v in trained.constants() if v.meta.get("sparse")})
        return graph if self.rewind is None else self._fit(graph, job.ctx, "the ticket")

    def _train(self, graph: Graph, job: Job) -> Graph:
        """Prune while training: the mask grows at `steps` moments between start and end, the rest fine-tunes."""
        from ..train import fit

        module = graph.module()
        names = [t.name for t in self.targets(graph)]
        gradients: dict = {}
        find(self.importance).follow(job.memory, module, names)
        if self.regrow:
            for name in names:
                module.on_gradient(name, lambda w, g, name=name: gradients.update({name: g}))
        once = self.schedule == "once" and not self.regrow
        steps, last = 1 if once else self.steps or STEPS["cubic"], -1

        def on_step(step, total, module):
            nonlocal last
            share = step / max(total, 1)
            if share < self.start or last == steps:
                return
            span = self.end - self.start
            now = steps if once or span == 0 else int(min((share - self.start) / span, 1.0) * steps)
            if now == last:
                return
            last = now
            masks = self.masks(module.write_back(), job, reached(self.schedule, now / steps))
            if self.regrow and gradients:
                share = 0.5 * self.regrow * (1 + math.cos(math.pi * now / steps))
                masks = self._regrown(masks, module.write_back(), job, gradients, share)
            for name, keep in masks.items():
                module.set_mask(name, keep, fresh=bool(self.regrow))

        fit(module, job.ctx, epochs=self.epochs, lr=self.lr, on_step=on_step, text="prune")
        graph = module.write_back()
        return graph if last == steps else self._at_once(graph, job)

    def _regrown(self, masks: Masks, graph: Graph, job: Job, gradients: Mapping, share: float) -> Masks:
        """As many weights, but the least important `share` of those that stay make room for those, of the others, at which the
        loss pulls most (RigL, Evci et al., arXiv 1911.11134)."""
        for t in self.targets(graph):
            stays = masks[t.name]
            unit = np.zeros(t.count, bool)
            unit[t.units[stays]] = True
            live, pull = (np.bincount(t.units.ravel(), weights=np.abs(x).ravel().astype(np.float64), minlength=t.count)
                          for x in (t.value.data, gradients[t.name].numpy()))
            never = np.zeros(t.count, bool)
            if t.name in job.zeros:
                never[t.units[job.zeros[t.name]]] = True
            stay, free = np.flatnonzero(unit), np.flatnonzero(~unit & ~never)
            count = min(round(share * len(stay)), len(free))
            unit[stay[np.argsort(live[stay], kind="stable")[:count]]] = False
            unit[free[np.argsort(-pull[free], kind="stable")[:count]]] = True
            masks[t.name] = unit[t.units]
        return masks


def apply(graph: Graph, masks: Masks) -> Graph:
    """A copy with zeros where the masks are False."""
    graph = graph.copy()
    for v in graph.constants():
        if v.name in masks:
            v.data = np.where(masks[v.name], v.data, np.zeros((), v.data.dtype))
    return graph


def keep_largest(score: np.ndarray, share: float) -> np.ndarray:
    """True for all but the round(share * size) smallest scores (ties: the first ones go)."""
    keep = np.ones(score.size, bool)
    keep[np.argsort(score, kind="stable")[:round(share * score.size)]] = False
    return keep


def erk(shapes: list[tuple[int, ...]], goal: float, most: float) -> list[float]:
    """The sparsity of each layer, `goal` over all: as many weights stay as outputs, inputs and the kernel's sides together ask
    for, times a number that all share (Erdos-Renyi-Kernel, RigL, arXiv 1911.11134). At least 1 - most stays, at most all."""
    size = np.array([math.prod(s) for s in shapes], float)
    ask = np.array([sum(s) for s in shapes], float)
    low, high = 0.0, float((size / ask).max()) if shapes else 0.0
    for _ in range(60):
        middle = (low + high) / 2
        stays = np.clip(middle * ask, (1 - most) * size, size)
        low, high = (low, middle) if stays.sum() > (1 - goal) * size.sum() else (middle, high)
    return list(1 - np.clip(high * ask, (1 - most) * size, size) / size)


def sparsity(arrays: list[np.ndarray]) -> float:
    return 1 - sum(int(np.count_nonzero(a)) for a in arrays) / max(1, sum(a.size for a in arrays))
