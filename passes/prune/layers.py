"""Remove whole layers: what is left is a shallower network, faster everywhere.

A block with a shortcut refines what goes by it, and networks of such blocks lose little with some of them (Veit et al., arXiv
1605.06431; transformers: LayerDrop, Fan et al., arXiv 1909.11556). The layers of a transformer and the residual blocks of any
network are found in the graph itself. Weakest first by the importance chosen; in steps, each with training, if wanted.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from os.path import commonprefix
from typing import Literal

import numpy as np

from ..base import Context, Pass, layer_name, select
from ..bypass import bypass
from ..cost import params, total_macs
from ..distill.encoder import encoder_example
from ..distill.encoder import layers as encoder_layers
from ..errors import UserError
from ..graph import Graph, Node, Value
from ..weights import weights_of
from . import budget
from .importance import Ask, Name, Part, check

What = Literal["blocks", "branches", "matrices"]


@dataclass(eq=False)
class Unit:
    """What goes as a whole: the nodes between two values of one shape."""

    before: Value
    after: Value
    nodes: list[Node]

    @property
    def weighted(self) -> list[Node]:
        return [n for n in self.nodes if weights_of(n) and n.op != "gather"]

    @property
    def name(self) -> str:
        """What the names of its layers have in common ("encoder.layer.3"), else the first one."""
        names = [layer_name(n).split(".") for n in self.weighted]
        return ".".join(commonprefix(names)) or ".".join(names[0])


@dataclass(frozen=True)
class Layers(Pass):
    """what        blocks: whole transformer layers, or without attention the branches of residual blocks;
                   branches: every branch beside a shortcut (attention and feed-forward by themselves);
                   matrices: single layers whose output has the shape of their input
    count          how many go
    ratio          instead: the share that goes (0..1); 0.25 when nothing says how much
    params, macs, bytes, latency   instead: go on until this share of the model's parameters, multiply-accumulates, bytes
                   of the file or measured time is left (0..1)
    importance     influence (how far the layer turns what goes through it), wanda, taylor, fisher, movement (these five need
                   data), l1, l2 or random
    samples        how many samples those that look at data look at
    steps          remove in so many rounds, ranked anew in each
    epochs, lr     training after each round (0: none)
    layers, keep   patterns of layers that may go with what they are in, and must not
    """

    what: What = "blocks"
    count: int | None = None
    ratio: float | None = None
    params: float | None = None
    macs: float | None = None
    bytes: float | None = None
    latency: float | None = None
    importance: Name = "influence"
    samples: int = 128
    steps: int = 1
    epochs: float = 0
    lr: float | None = None
    layers: str | list[str] = "*"
    keep: list[str] = field(default_factory=list)

    def check(self) -> None:
        check(self.importance, "layers")
        budget.check(self, "ratio", "count")
        for name in ("count", "samples", "steps"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs}")

    def matches(self, graph: Graph) -> list[Node]:
        return [n for u in self.units(graph) for n in u.weighted]

    def units(self, graph: Graph) -> list[Unit]:
        """Those that may go, in order."""
        found = [u for u in FIND[self.what](graph) if u.weighted]
        return [u for u in found if select(u.weighted, self.layers) and not select(u.weighted, self.keep)]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        first = graph
        units = self.units(graph)
        if not units:
            raise UserError(f"prune.layers: no {self.what} can go: {MISSING[self.what]}; check what, layers and keep")
        count = self._count(graph, units, ctx)
        gone: list[str] = []
        for i in range(self.steps):
            share = round(count * (i + 1) / self.steps) - len(gone)
            units = self.units(graph)
            if share:
                weakest = [units[j] for j in self._order(graph, units, ctx)[:share]]
                gone += [u.name for u in weakest]
                graph = bypass(graph, [(u.before, u.after) for u in weakest])
            if self.epochs:
                from ..train import fit_graph
                graph = fit_graph(graph, ctx, epochs=self.epochs, lr=self.lr, text=f"train after pruning {i + 1}/{self.steps}")
        bind = ctx.target.get("bind")
        ctx.note(removed=gone, of=len(self.units(first)), params_before=params(first), params_after=params(graph),
                 macs_before=total_macs(first, bind), macs_after=total_macs(graph, bind))
        if kept := budget.given(self):
            before, after = (budget.cost(kept[0], g, ctx, "prune.layers") for g in (first, graph))
            budget.warn(*kept, before, after, ctx, f"all {self.what} that may go are gone")
        return graph

    def _count(self, graph: Graph, units: list[Unit], ctx: Context) -> int:
        if self.count is not None:
            if self.count > len(units):
                raise UserError(f"prune.layers: count: {self.count}, but only {len(units)} {self.what} can go: "
                                f"{', '.join(u.name for u in units)}")
            return self.count
        if kept := budget.given(self):
            order = self._order(graph, units, ctx)

            def without(number: int) -> Graph:
                return bypass(graph, [(units[j].before, units[j].after) for j in order[:number]])
            return budget.search(*kept, graph, ctx, "prune.layers", without, len(units))
        return max(1, round((0.25 if self.ratio is None else self.ratio) * len(units)))

    def _order(self, graph: Graph, units: list[Unit], ctx: Context) -> np.ndarray:
        """Weakest first."""
        parts = [Part(w, np.array(i), node=n) for i, u in enumerate(units) for n in u.weighted for w in weights_of(n)]
        ask = Ask(graph, ctx, parts, len(units), "layers", samples=self.samples, ends=[(u.before, u.after) for u in units])
        score = ask.score(self.importance)
        if not np.isnan(score).all():  # a unit all of whose weights another one has too
            score = np.where(np.isnan(score), np.nanmean(score), score)
        return np.argsort(score, kind="stable")

    @staticmethod
    def example() -> Graph:
        return encoder_example(3)


# --- what can go ------------------------------------------------------------------------------------------------------


def blocks(graph: Graph) -> list[Unit]:
    if not any(n.op == "attention" for n in graph.nodes):
        return branches(graph)
    return [Unit(x.before, x.after, _between(graph, x.before, x.after) or []) for x in encoder_layers(graph, "prune.layers")
            if x.before.shape == x.after.shape]


def branches(graph: Graph) -> list[Unit]:
    """y = x + f(x): everything that f(x) is made of comes from x."""
    found = []
    for node in graph.nodes:
        if node.op != "add" or any(v is None or v.data is not None for v in node.inputs):
            continue
        for x, f in (node.inputs, node.inputs[::-1]):
            inside = _between(graph, x, f)
            if inside and x.shape == f.shape:
                found.append(Unit(x, node.outputs[0], inside))
                break
    return found


def matrices(graph: Graph) -> list[Unit]:
    return [Unit(n.inputs[0], n.outputs[0], [n]) for n in graph.nodes
            if n.op in ("conv", "linear", "matmul") and weights_of(n) and n.inputs[0].data is None
            and n.inputs[0].shape is not None and n.inputs[0].shape == n.outputs[0].shape]


FIND = {"blocks": blocks, "branches": branches, "matrices": matrices}
MISSING = {"blocks": "the model has no layers around a shortcut or attention", "branches": "the model has no additions x + f(x)",
           "matrices": "no layer's output has the shape of its input"}


def _between(graph: Graph, before: Value, after: Value) -> list[Node] | None:
    """The nodes that make `after` from `before` alone (numbers and masks aside), in order; None when something else goes in or
    they are read elsewhere."""
    makers, stack, inside = graph.makers(), [after], set()
    while stack:
        v = stack.pop()
        if v is before or v.data is not None:
            continue
        node = makers.get(v)
        if node is None:
            return None
        if node in inside:
            continue
        inside.add(node)
        data = node.inputs[:3] if node.op == "attention" else node.inputs
        stack += [u for u in data if u is not None and u.dtype in ("float32", "float16", "bfloat16")]
    users = graph.users()
    if any(reader not in inside for n in inside for v in n.outputs if v is not after for reader in users[v]):
        return None
    return [n for n in graph.nodes if n in inside]
