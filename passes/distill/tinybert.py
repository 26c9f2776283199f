"""A thin, shallow transformer taught layer by layer (TinyBERT; Jiao et al., arXiv 1909.10351).

First the inside (embedding, hidden states through one learned map each, attention scores before softmax), then the
prediction. Layer m of the student follows layer g(m) of the teacher: uniform is g(m) = m * teacher's / student's layers. The
general stage of the paper is the same on a large text without labels: `general` names its data. Augmentation replaces
words by near ones, here by the teacher's own word embeddings.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..base import Context, Pass
from ..errors import UserError
from ..graph import Graph, Node
from .encoder import Layer, encoder_example, layers
from .measures import mse, score_distance
from .student import drop_layers, kept_layers, student_of
from .teacher import teachers
from .watch import Term, fit_terms, labels_loss, output_term
from .words import augmented

WHO = "distill.tinybert"


@dataclass(frozen=True)
class TinyBERT(Pass):
    """student   "" (the graph itself, or `keep` of its layers), a model file, or module:function called with `student_args`
    keep         with student "": layers that stay, a number or a list; 0 keeps all
    map          which teacher layer each student layer follows: uniform, top, bottom, or a list of numbers from 0
    teacher      original, previous, or the path of a model file
    embedding, hidden, attention, prediction   weights of the four losses
    task         weight of the labels in the prediction stage
    temperature, loss   of the prediction: kl or mse of the outputs
    epochs       of the inside (embedding, hidden, attention)
    prediction_epochs   of the prediction stage, behind it
    general      data of a general stage before both (as in a recipe's `data:`); general_epochs: of it
    augment      share of the tokens that are replaced by a near word in the training of a sample; neighbours: how many near
                 words are drawn from; or augment: "module:function" of (inputs, generator) -> inputs
    lr           learning rate
    """

    student: str = ""
    student_args: dict = field(default_factory=dict)
    keep: int | list[int] = 0
    map: Literal["uniform", "top", "bottom"] | list[int] = "uniform"
    teacher: str = "original"
    embedding: float = 1.0
    hidden: float = 1.0
    attention: float = 1.0
    prediction: float = 1.0
    task: float = 0.0
    temperature: float = 1.0
    loss: Literal["kl", "mse"] = "kl"
    epochs: float = 1
    prediction_epochs: float = 1
    general: dict[str, Any] = field(default_factory=dict)
    general_epochs: float = 1
    augment: float | str = 0.0
    neighbours: int = 15
    lr: float | None = None

    def check(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if min(self.embedding, self.hidden, self.attention, self.prediction, self.task) < 0:
            raise ValueError("embedding, hidden, attention, prediction and task are weights and must not be negative")
        if min(self.epochs, self.prediction_epochs, self.general_epochs) < 0 or self.epochs + self.prediction_epochs == 0:
            raise ValueError("epochs and prediction_epochs must not be negative, nor both 0")
        if not isinstance(self.augment, str) and not 0 <= self.augment < 1:
            raise ValueError(f"augment is a share of the tokens, below 1, or module:function; got {self.augment}")

    def matches(self, graph: Graph) -> list[Node]:
        return [n for n in graph.nodes if n.op == "attention"]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        student = student_of(graph, self.student, self.student_args, ctx, WHO)
        if self.keep and not self.student:
            count = len(layers(graph, WHO))
            student = drop_layers(graph, kept_layers(count, self.keep, "uniform", WHO))
        teacher = teachers(self.teacher, ctx, WHO)[0]
        mine, theirs = layers(student, "the student"), layers(teacher, "the teacher")
        places = self._map(len(mine), len(theirs))
        ctx.note(layers=len(mine), teacher_layers=len(theirs), map=places)
        inside = self._inside(mine, [theirs[i] for i in places], theirs[0])
        data = ctx.data and augmented(ctx.data, self.augment, self.neighbours, teacher, ctx.seed, WHO)
        task = replace(ctx, data=data)
        if self.general and self.general_epochs and inside:
            from ..data import open_data
            general = open_data(self.general, ctx.seed, [v.name for v in student.inputs])
            student = fit_terms(student, teacher, inside, replace(ctx, data=general), epochs=self.general_epochs, lr=self.lr,
                                text="general")
        if self.epochs and inside:
            student = fit_terms(student, teacher, inside, task, epochs=self.epochs, lr=self.lr, text="inside")
        if self.prediction_epochs:
            last = [output_term(student, teacher, self.prediction, self.temperature, self.loss)] if self.prediction else []
            student = fit_terms(student, teacher, last, task, base=labels_loss(ctx, self.task), epochs=self.prediction_epochs,
                                lr=self.lr, text="prediction")
        return student

    def _map(self, mine: int, theirs: int) -> list[int]:
        if isinstance(self.map, list):
            if len(self.map) != mine or any(not 0 <= i < theirs for i in self.map):
                raise UserError(f"{WHO}: map: {self.map} must name one of the teacher's {theirs} layers (from 0) for each of the "
                                f"student's {mine}")
            return self.map
        if mine > theirs:
            raise UserError(f"{WHO}: the student has {mine} layers, the teacher only {theirs}")
        return kept_layers(theirs, mine, {"uniform": "uniform", "top": "last", "bottom": "first"}[self.map], WHO)

    def _inside(self, mine: list[Layer], theirs: list[Layer], first: Layer) -> list[Term]:
        terms = []
        if self.embedding:
            terms.append(Term((mine[0].before.name,), (first.before.name,), mse, self.embedding, project=True))
        for a, b in zip(mine, theirs):
            if self.hidden:
                terms.append(Term((a.after.name,), (b.after.name,), mse, self.hidden, project=True))
            if self.attention:
                distance = score_distance((a.heads, a.kv_heads), (b.heads, b.kv_heads))
                terms.append(Term((a.q.name, a.k.name), (b.q.name, b.k.name), distance, self.attention))
        return terms

    @staticmethod
    def example() -> Graph:
        return encoder_example()
