"""Train the model to give the teacher's outputs (Hinton et al., arXiv 1503.02531).

loss = (1 - alpha) * soft + alpha * hard: soft is T^2 * KL(softmax(teacher / T) || softmax(student / T)), or the mean
squared error of the logits; hard is the task's loss on the labels. What earlier passes made (zeros, palettes) stays.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..base import Context, Pass
from ..errors import UserError
from ..graph import Graph, Node, Value, constant


@dataclass(frozen=True)
class Logits(Pass):
    """teacher     original (the model before the first pass), previous (the model before the pass that ran last), or
                  the path of a model file (.onnx, .pt2, .mcc)
    temperature   softens both distributions; larger shows more of what the teacher thinks of wrong classes
    loss          kl, or mse of the logits (for embeddings and regression)
    alpha         weight of the hard labels, 0..1; without labels in the data it must be 0 or is taken as 0
    output        name of the output to follow ("" : the first)
    epochs, lr    training
    """

    teacher: str = "original"
    temperature: float = 4.0
    loss: Literal["kl", "mse"] = "kl"
    alpha: float = 0.1
    output: str = ""
    epochs: float = 1
    lr: float | None = None

    def check(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be between 0 and 1, got {self.alpha}")
        if self.epochs <= 0:
            raise ValueError(f"epochs must be positive, got {self.epochs}")

    def matches(self, graph: Graph) -> list[Node]:
        return [n for n in super().matches(graph)
                if any(v is not None and v.data is not None and v.data.dtype.kind == "f" for v in n.inputs[1:])]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        from ..train import fit_graph, follow, task_loss

        teacher = self._teacher(ctx)
        index = _output(graph, self.output)
        soft = follow(teacher, self.loss, self.temperature, _output(teacher, self.output), index)
        hard = task_loss(ctx)

        def loss(outputs, labels, inputs):
            value = soft(outputs, labels, inputs)
            if labels is None or self.alpha == 0:
                return value
            return (1 - self.alpha) * value + self.alpha * hard(outputs, labels, inputs)

        return fit_graph(graph, ctx, epochs=self.epochs, lr=self.lr, loss=loss, text="distill")

    def _teacher(self, ctx: Context) -> Graph:
        if self.teacher == "original":
            return ctx.original
        if self.teacher == "previous":
            if ctx.previous is None:
                raise UserError("distill.logits: teacher: previous, but no pass ran before it; use teacher: original")
            return ctx.previous
        from .. import load
        return load(self.teacher)

    @staticmethod
    def example() -> Graph:
        r = np.random.default_rng(0)
        x, y = Value("x", "float32", ("N", 16)), Value("y", "float32", ("N", 12))
        w = constant("fc.weight", r.standard_normal((12, 16)).astype(np.float32))
        return Graph([x], [y], [Node("linear", [x, w, None], [y], name="fc")])


def _output(graph: Graph, name: str) -> int:
    names = [v.name for v in graph.outputs]
    if name and name not in names:
        raise UserError(f"distill.logits: the model has no output {name!r}; it has {', '.join(names)}")
    return names.index(name) if name else 0
