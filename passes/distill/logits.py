"""Train the model to give the teacher's outputs (Hinton et al., arXiv 1503.02531).

loss = (1 - alpha) * soft + alpha * hard: soft is T^2 * KL(softmax(teacher / T) || softmax(student / T)), or the mean
squared error of the logits; hard is the task's loss on the labels. Several teachers are followed as their mean (section
5 of the paper); the model itself as teacher is self-distillation (Furlanello et al., arXiv 1805.04770). What earlier
passes made (zeros, palettes) stays.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from ..base import Context, Pass
from ..errors import UserError
from ..graph import Graph, Node, Value, constant
from .student import student_of
from .teacher import Outputs, store_for, teachers

WHO = "distill.logits"


@dataclass(frozen=True)
class Logits(Pass):
    """teacher     original (the model before the first pass), previous (the model before the pass that ran last), the path
                  of a model file (.onnx, .pt2, .mcc), or a list of these: their mean is followed
    temperature   softens both distributions; larger shows more of what the teacher thinks of wrong classes
    loss          kl, or mse of the logits (for embeddings and regression)
    alpha         weight of the hard labels, 0..1; without labels in the data it must be 0 or is taken as 0
    output        name of the output to follow ("" : the first)
    without       classes whose samples are never shown: the teacher's outputs for the others tell of them (section 3)
    student       "" (the model itself), a model file, or module:function called with `student_args`: what is trained instead
    student_args  arguments of that function
    cache         keep the teachers' outputs on disk; samples that augmentation changes are computed anew
    epochs, lr    training
    """

    teacher: str | list[str] = "original"
    temperature: float = 4.0
    loss: Literal["kl", "mse"] = "kl"
    alpha: float = 0.1
    output: str = ""
    without: list[int] = field(default_factory=list)
    student: str = ""
    student_args: dict[str, Any] = field(default_factory=dict)
    cache: bool = False
    epochs: float = 1
    lr: float | None = None

    def check(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be between 0 and 1, got {self.alpha}")
        if self.epochs <= 0:
            raise ValueError(f"epochs must be positive, got {self.epochs}")
        if not self.teacher:
            raise ValueError("teacher: no teacher is named")

    def matches(self, graph: Graph) -> list[Node]:
        return [n for n in super().matches(graph)
                if any(v is not None and v.data is not None and v.data.dtype.kind == "f" for v in n.inputs[1:])]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        from ..train import fit_graph, soft_loss, task_loss

        graph = student_of(graph, self.student, self.student_args, ctx, WHO)
        index, outputs = _output(graph, self.output), []
        for teacher in teachers(self.teacher, ctx, WHO):
            at = _output(teacher, self.output)
            outputs.append(Outputs(teacher, at, store_for(teacher, at) if self.cache else None))
        hard = task_loss(ctx)

        def loss(got, labels, inputs):
            if self.without:
                if labels is None:
                    raise UserError(f"{WHO}: without: the data has no labels")
                keep = ~torch.isin(labels, torch.tensor(self.without))
                if not keep.any():
                    return got[index].sum() * 0
                got, labels = [v[keep] for v in got], labels[keep]
                inputs = {k: v[keep] for k, v in inputs.items()}
            want = self._mean([teacher(inputs) for teacher in outputs])
            value = soft_loss(got[index], want, self.loss, self.temperature)
            if labels is None or self.alpha == 0:
                return value
            return (1 - self.alpha) * value + self.alpha * hard(got, labels, inputs)

        return fit_graph(graph, ctx, epochs=self.epochs, lr=self.lr, loss=loss, text="distill")

    def _mean(self, wants: list[torch.Tensor]) -> torch.Tensor:
        """Logits whose softened distribution is the mean of the teachers' (of one teacher: its own)."""
        if len(wants) == 1:
            return wants[0]
        if self.loss == "mse":
            return torch.stack(wants).mean(0)
        mean = torch.stack([(w / self.temperature).softmax(-1) for w in wants]).mean(0)
        return mean.clamp(min=1e-30).log() * self.temperature

    @staticmethod
    def example() -> Graph:
        r = np.random.default_rng(0)
        x, y = Value("x", "float32", ("N", 16)), Value("y", "float32", ("N", 12))
        w = constant("fc.weight", r.standard_normal((12, 16)).astype(np.float32))
        return Graph([x], [y], [Node("linear", [x, w, None], [y], name="fc")])


def _output(graph: Graph, name: str) -> int:
    names = [v.name for v in graph.outputs]
    if name and name not in names:
        raise UserError(f"{WHO}: the model has no output {name!r}; it has {', '.join(names)}")
    return names.index(name) if name else 0
