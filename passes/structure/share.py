"""Layers that stand at the same place in repeated blocks get one set of weights (ALBERT, Lan et al., arXiv 1909.11942).

Layers are alike when their names differ in numbers only ("layer.0.fc" and "layer.1.fc") and their weights in shape not at
all. The shared weight starts as the mean, which is nearest to all of them; training sums the gradients of all uses; the file
keeps it once. What earlier passes made stays: the zeros of the first block are those of all, and weights with a palette or
buckets take the first block's whole.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..base import Context, Pass, layer_name, select
from ..cost import params
from ..errors import UserError
from ..graph import Graph, Node, Value
from ..weights import shares_values

TIED = ("conv", "conv_transpose", "linear", "matmul", "layer_norm", "rms_norm")


@dataclass(frozen=True)
class Share(Pass):
    """every          so many blocks in a row share (0: all)
    start          mean of the weights, or those of the first block
    layers, skip   patterns of layers to do and to leave
    epochs, lr     training afterwards (0: none)
    """

    every: int = 0
    start: Literal["mean", "first"] = "mean"
    layers: str | list[str] = "*"
    skip: list[str] = field(default_factory=list)
    epochs: float = 0
    lr: float | None = None

    def check(self) -> None:
        if self.every < 0 or self.every == 1:
            raise ValueError(f"every must be 0 (all) or at least 2, got {self.every}")
        if self.start not in ("mean", "first"):
            raise ValueError(f"start must be mean or first, got {self.start}")
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs}")

    def matches(self, graph: Graph) -> list[Node]:
        return [n for family in self._families(graph) for n in family]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        graph = graph.copy()
        families = self._families(graph)
        if not families:
            raise UserError("structure.share: no two layers are alike (names that differ in numbers only, weights of one shape); "
                            "check layers and skip")
        before, report = params(graph), []
        for family in families:
            report.append({"layer": layer_name(family[0]), "shared_by": [layer_name(n) for n in family],
                           "error": self._tie(family)})
        if self.epochs:
            from ..train import fit_graph
            graph = fit_graph(graph, ctx, epochs=self.epochs, lr=self.lr, text="train after share")
        ctx.note(params_before=before, params_after=params(graph), layers=report)
        return graph

    def _tie(self, family: list[Node]) -> float:
        """One value in the place of many; its relative distance to them."""
        lost = whole = 0.0
        for i in _weights(family[0]):
            values = [n.inputs[i] for n in family]
            first, datas = values[0], [v.data.astype(np.float64) for v in values]
            data = np.mean(datas, 0) if self.start == "mean" and not shares_values(first) else datas[0]
            if first.meta.get("sparse"):
                data = np.where(datas[0] != 0, data, 0)
            lost += sum(float(((d - data) ** 2).sum()) for d in datas)
            whole += sum(float((d ** 2).sum()) for d in datas)
            shared = Value(first.name, first.dtype, first.shape, data.astype(first.data.dtype),
                           dict(first.meta))
            for n in family:
                n.inputs[i] = shared
        return round((lost / max(whole, 1e-300)) ** 0.5, 5)

    def _families(self, graph: Graph) -> list[list[Node]]:
        """Layers that will share, in running order; what already does, or is read elsewhere too, is left."""
        nodes = [n for n in graph.nodes if n.op in TIED and _weights(n)]
        nodes = [n for n in select(nodes, self.layers) if not select([n], self.skip)]
        users = graph.users()
        alike: dict[tuple, list[Node]] = {}
        for n in nodes:
            places = _weights(n)
            if any(len(users[n.inputs[i]]) > 1 or n.inputs[i].meta.get("frozen") for i in places):
                continue
            key = (n.op, re.sub(r"\d+", "#", layer_name(n)), tuple((i, n.inputs[i].shape, n.inputs[i].dtype) for i in places),
                   str(sorted(n.attrs.items())))
            alike.setdefault(key, []).append(n)
        found = []
        for group in alike.values():
            size = self.every or len(group)
            found += [part for i in range(0, len(group), size) if len(part := group[i:i + size]) > 1]
        return found

    @staticmethod
    def example() -> Graph:
        from ..graph import constant
        r = np.random.default_rng(0)
        x, a, y = (Value(n, "float32", ("N", 8)) for n in "xay")
        first, second = (constant(f"block.{i}.fc.weight", r.standard_normal((8, 8)).astype(np.float32)) for i in range(2))
        return Graph([x], [y], [Node("linear", [x, first, None], [a], {}, "block.0.fc"),
                                Node("linear", [a, second, None], [y], {}, "block.1.fc")])


def _weights(node: Node) -> list[int]:
    """The inputs that are float constants."""
    return [i for i, v in enumerate(node.inputs) if v is not None and v.data is not None and v.data.dtype.kind == "f"
            and v.data.ndim > 0]
