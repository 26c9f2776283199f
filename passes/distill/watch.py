"""Training a student on what happens inside it: inner values become outputs for the time of training.

A Watch holds a copy of the student whose outputs are followed by the values that losses look at. A learned projection
to the teacher's width (Romero et al., FitNets, arXiv 1412.6550) is a node of that copy, so it is trained like any layer,
on one process or many; when training is over, outputs and projections go again.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..base import Context
from ..errors import UserError
from ..graph import Graph, Node, Value, constant
from ..train import LossFn, fit_graph, soft_loss, task_loss

PREFIX = "distill.projection"


class Watch:
    """`graph` under training; `see` and `project` give the number of the output at which a value then arrives."""

    def __init__(self, graph: Graph, seed: int = 0):
        self.graph, self.count, self.seed = graph.copy(), len(graph.outputs), seed
        self.named = {v.name: v for v in self.graph.values()}

    def see(self, name: str) -> int:
        return self._add(self.named[name])

    def project(self, name: str, width: int) -> int:
        """As `see`, behind a learned map to `width` features: last axis of [N, ..., D], channels of [N, C, H, W]."""
        v = self.named[name]
        if v.shape is None or len(v.shape) < 2:
            raise UserError(f"value '{name}' has no known shape, so it cannot be projected to another width")
        image = len(v.shape) == 4
        axis = 1 if image else len(v.shape) - 1
        have = v.shape[axis]
        if not isinstance(have, int):
            raise UserError(f"the width of value '{name}' is not fixed ({have}), so it cannot be projected to {width}")
        r = np.random.default_rng([self.seed, len(self.graph.outputs)])
        data = (r.standard_normal((width, have)) / np.sqrt(have)).astype(np.float32)
        stem = self.graph.fresh(f"{PREFIX}.{len(self.graph.outputs)}")
        weight = constant(f"{stem}.weight", data.reshape(width, have, 1, 1) if image else data, trainable=True)
        shape = tuple(width if i == axis else d for i, d in enumerate(v.shape))
        out = Value(stem, v.dtype, shape)
        self.graph.nodes.append(Node("conv" if image else "linear", [v, weight, None], [out], {}, stem))
        return self._add(out)

    def _add(self, v: Value) -> int:
        if v in self.graph.outputs[self.count:]:
            return self.count + self.graph.outputs[self.count:].index(v)
        self.graph.outputs.append(v)
        return len(self.graph.outputs) - 1

    def fit(self, ctx: Context, loss: LossFn, **options) -> Graph:
        """The trained student, with its own outputs again."""
        trained = fit_graph(self.graph, ctx, loss=loss, **options)
        trained.outputs = trained.outputs[:self.count]
        trained.prune()
        return trained


Measure = Callable[..., torch.Tensor]  # the student's values, then the teacher's -> scalar


@dataclass(frozen=True)
class Term:
    """One part of a loss: weight * measure(*mine, *theirs), values by name. project: a learned map to the teacher's width
    where the student's is another."""

    mine: tuple[str, ...]
    theirs: tuple[str, ...]
    measure: Measure
    weight: float = 1.0
    project: bool = False


def fit_terms(graph: Graph, teacher: Graph, terms: Sequence[Term], ctx: Context, *, base: LossFn | None = None,
              change: Callable | None = None, **options) -> Graph:
    """Train `graph` so that every term becomes small, with `base` (a loss of the outputs) on top.

    change  change(inputs) -> inputs: what the student is shown instead (augmentation); the teacher sees the same
    Raises UserError when a value is not there.
    """
    watch, module = Watch(graph, ctx.seed), teacher.module().eval()
    known = {v.name: v for v in teacher.values()}
    places = []
    for term in terms:
        missing = [n for n in term.mine if n not in watch.named] + [n for n in term.theirs if n not in known]
        if missing:
            raise UserError(f"no value is named '{missing[0]}'")
        places.append([_place(watch, m, known[t], term.project) for m, t in zip(term.mine, term.theirs)])
    names = sorted({n for t in terms for n in t.theirs})

    def loss(outputs, labels, inputs):
        total = outputs[0].new_zeros(()) if base is None else base(outputs[:watch.count], labels, inputs)
        with torch.no_grad():
            theirs = module(inputs, want=names)[1] if names else {}
        for term, place in zip(terms, places):
            total = total + term.weight * term.measure(*(outputs[i] for i in place), *(theirs[n] for n in term.theirs))
        return total

    return watch.fit(ctx, loss, **options)


def _place(watch: Watch, mine: str, theirs: Value, project: bool) -> int:
    shape, other = watch.named[mine].shape, theirs.shape
    if not project or shape is None or other is None or len(shape) != len(other):
        return watch.see(mine)
    axis = 1 if len(shape) == 4 else len(shape) - 1
    return watch.see(mine) if shape[axis] == other[axis] else watch.project(mine, other[axis])


def output_term(graph: Graph, teacher: Graph, weight: float, temperature: float, kind: str = "kl") -> Term:
    """Following the first output."""
    return Term((graph.outputs[0].name,), (teacher.outputs[0].name,),
                lambda got, want: soft_loss(got, want, kind, temperature), weight)


def labels_loss(ctx: Context, weight: float) -> LossFn:
    """The task's loss on the labels; nothing where there are none."""
    hard = task_loss(ctx)

    def loss(outputs, labels, inputs):
        return outputs[0].new_zeros(()) if labels is None or not weight else weight * hard(outputs, labels, inputs)
    return loss
