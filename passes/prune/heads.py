"""Remove whole attention heads: of q, k, v and of the columns of what reads them.

Many heads of a trained transformer can go (Michel et al., arXiv 1905.10650; Voita et al., arXiv 1905.09418). Found where scores
are made, in one attention op or in a softmax between two products; with grouped queries a head of keys goes with all that it
serves. Weakest first, by a share of every layer's heads or, over all layers, until a budget is kept.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..distill.encoder import encoder_example
from ..graph import Graph
from ..groups import Dependencies, Group, analyse
from .channels import Structured
from .importance import Granularity


@dataclass(frozen=True)
class Heads(Structured):
    """ratio       share of the heads to remove from every layer (0..1); 0.5 when nothing else says how much
    params, macs, bytes, latency   instead: go on, over all layers, until this share of the parameters, multiply-accumulates,
                   bytes of the file or measured time is left (0..1)
    importance     l1, l2, fpgm, wanda, taylor, fisher, movement (these four need data) or random
    max_ratio      with a budget: no layer loses more than this share
    min_heads      no layer gets fewer than this
    steps          prune in so many rounds
    epochs, lr     training after each round (0: none)
    samples        how many samples those that look at data look at
    layers, keep   patterns of the layers that make q, k and v: whose heads may go, and must not
    overrides      {pattern: {ratio: r}}: layers of attention with such a layer lose their own share
    """

    min_heads: int = 1

    def check(self) -> None:
        super().check()
        if self.min_heads < 1:
            raise ValueError(f"min_heads must be at least 1, got {self.min_heads}")

    @property
    def granularity(self) -> Granularity:
        return "heads"

    def analyse(self, graph: Graph, bind: dict) -> Dependencies:
        return analyse(graph, bind, heads=True)

    def groups(self, deps: Dependencies) -> list[Group]:
        heads = _heads(deps)
        return [g for g in super().groups(deps) if np.isin(g.classes, heads).all()]

    def kept(self, group: Group, count: float) -> int:
        return min(max(round(count), self.min_heads, 1), len(group.classes))

    @staticmethod
    def example() -> Graph:
        return encoder_example()


def _heads(deps: Dependencies) -> np.ndarray:
    """The classes that are heads: along the second axis of scores, or of what an attention op reads."""
    found = [np.zeros(0, np.int64)]
    for n in deps.graph.nodes:
        x = n.inputs[0] if n.op in ("attention", "softmax") else None
        rank = 0 if x is None else len(deps.shapes[x])
        if n.op == "attention" and rank == 3 or rank == 4 and deps.marks[x].shape[1] > 1:
            found.append(np.unique(deps.marks[x]))
    return np.concatenate(found)
