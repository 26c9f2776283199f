"""A student of every k-th layer of the teacher, begun from the teacher's own weights (DistilBERT, arXiv 1910.01108).

loss = soft * T^2 KL of the outputs + task * the task's loss on the labels (a masked-language loss where the data has such
labels, -100 where nothing is asked) + cosine * distance of the hidden states of the layers that were kept.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..base import Context, Pass
from ..graph import Graph, Node
from .encoder import encoder_example, layers
from .measures import cosine
from .student import drop_layers, kept_layers
from .teacher import teachers
from .watch import Term, fit_terms, labels_loss, output_term

WHO = "distill.layer_drop"


@dataclass(frozen=True)
class LayerDrop(Pass):
    """keep     how many layers stay, or which (a list of numbers from 0)
    choose      uniform (the last of every group of layers), first or last
    teacher     original, previous, or the path of a model file (with the same layers as the model before the pass)
    temperature, soft   softens the outputs; weight of following them
    loss        kl, or mse of the outputs (for embeddings and regression)
    task        weight of the labels; without labels 0
    cosine      weight of the hidden states' direction; hidden: all kept layers, or only the last
    epochs, lr  training; 0 epochs only leaves the layers out
    """

    keep: int | list[int] = 1
    choose: Literal["uniform", "first", "last"] = "uniform"
    teacher: str = "original"
    temperature: float = 2.0
    soft: float = 5.0
    loss: Literal["kl", "mse"] = "kl"
    task: float = 2.0
    cosine: float = 1.0
    hidden: Literal["all", "last"] = "last"
    epochs: float = 1
    lr: float | None = None

    def check(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if min(self.soft, self.task, self.cosine) < 0:
            raise ValueError("soft, task and cosine are weights and must not be negative")
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs}")

    def matches(self, graph: Graph) -> list[Node]:
        return [n for n in graph.nodes if n.op == "attention"]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        count = len(layers(graph, WHO))
        keep = kept_layers(count, self.keep, self.choose, WHO)
        student = drop_layers(graph, keep)
        ctx.note(layers_before=count, layers=len(keep), kept=keep)
        if self.epochs == 0:
            return student
        teacher = teachers(self.teacher, ctx, WHO)[0]
        theirs, mine = layers(teacher, "the teacher"), layers(student)
        pairs = list(zip((theirs[i] for i in keep), mine)) if len(theirs) == count else [(theirs[-1], mine[-1])]
        if self.hidden == "last":
            pairs = pairs[-1:]
        terms = [Term((b.after.name,), (a.after.name,), cosine, self.cosine / len(pairs), True) for a, b in pairs if self.cosine]
        terms.append(output_term(student, teacher, self.soft, self.temperature, self.loss))
        return fit_terms(student, teacher, terms, ctx, base=labels_loss(ctx, self.task), epochs=self.epochs, lr=self.lr,
                         text="distill")

    @staticmethod
    def example() -> Graph:
        return encoder_example()
