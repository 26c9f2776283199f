"""Follow a teacher inside: any pairs of values, by name or pattern.

FitNets (arXiv 1412.6550) with learned projections where widths differ; attention maps (arXiv 1612.03928) and the flow
between two layers (FSP, CVPR 2017) for convolutional networks; direction only (cosine, as in DistilBERT, arXiv 1910.01108).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Literal

from ..base import Context, Pass
from ..errors import UserError
from ..graph import Graph, Node, Value
from . import measures
from .encoder import encoder_example
from .student import student_of
from .teacher import teachers
from .watch import Term, fit_terms, labels_loss, output_term

WHO = "distill.hidden"


@dataclass(frozen=True)
class Hidden(Pass):
    """pairs      {pattern of the student's values: pattern of the teacher's}; a value is named by itself, or by the layer or
                 module it comes from ("layer.3" ends where its last node ends); patterns that match several pair them in
                 order, as many on both sides. Empty: every value that both have under one name behind a convolution,
                 linear or attention layer
    measure      mse, cosine, attention (maps of [N, C, H, W]), flow (from each pair to the next)
    project      learn a map to the teacher's width where widths differ; false: they must agree
    weight       of each pair; outputs: weight of following the outputs (kl at `temperature`), task: weight of the labels
    teacher      original, previous, or the path of a model file; student, student_args: as in distill.tinybert
    temperature, epochs, lr   training
    """

    pairs: dict[str, str] = field(default_factory=dict)
    measure: Literal["mse", "cosine", "attention", "flow"] = "mse"
    project: bool = True
    weight: float = 1.0
    outputs: float = 1.0
    task: float = 0.0
    teacher: str = "original"
    student: str = ""
    student_args: dict = field(default_factory=dict)
    temperature: float = 1.0
    epochs: float = 1
    lr: float | None = None

    def check(self) -> None:
        if self.epochs <= 0:
            raise ValueError(f"epochs must be positive, got {self.epochs}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if min(self.weight, self.outputs, self.task) < 0:
            raise ValueError("weight, outputs and task are weights and must not be negative")

    def matches(self, graph: Graph) -> list[Node]:
        return [n for n in super().matches(graph) if any(v is not None and v.data is not None for v in n.inputs)]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        graph = student_of(graph, self.student, self.student_args, ctx, WHO)
        teacher = teachers(self.teacher, ctx, WHO)[0]
        found = self._pairs(graph, teacher)
        if self.measure == "flow":
            if len(found) < 2:
                raise UserError(f"{WHO}: flow runs from one pair to the next, so it needs two pairs; it has {len(found)}")
            terms = [Term((a.name, b.name), (c.name, d.name), measures.flow, self.weight, self.project)
                     for (a, c), (b, d) in pairwise(found)]
        else:
            measure = {"mse": measures.mse, "cosine": measures.cosine, "attention": measures.attention_map}[self.measure]
            project = self.project and self.measure != "attention"
            terms = [Term((a.name,), (b.name,), measure, self.weight, project) for a, b in found]
        ctx.note(pairs=[[a.name, b.name] for a, b in found])
        terms.append(output_term(graph, teacher, self.outputs, self.temperature))
        return fit_terms(graph, teacher, terms, ctx, base=labels_loss(ctx, self.task), epochs=self.epochs, lr=self.lr,
                         text="distill")

    def _pairs(self, graph: Graph, teacher: Graph) -> list[tuple[Value, Value]]:
        if not self.pairs:
            known = {v.name: v for v in teacher.values()}
            found = [(n.outputs[0], known[n.outputs[0].name]) for n in graph.nodes
                     if n.op in ("conv", "linear", "attention") and n.outputs[0].name in known]
            found = [(a, b) for a, b in found if len(a.shape or ()) == len(b.shape or ())]
            if not found:
                raise UserError(f"{WHO}: model and teacher have no values of one name; give pairs: {{student: teacher}}")
            return found
        found = []
        for mine, theirs in self.pairs.items():
            a, b = _named(graph, mine, "the model"), _named(teacher, theirs, "the teacher")
            if len(a) != len(b):
                raise UserError(f"{WHO}: pairs: {mine!r} is {len(a)} values of the model, {theirs!r} {len(b)} of the teacher; "
                                "they must be as many")
            found += zip(a, b)
        return found

    @staticmethod
    def example() -> Graph:
        return encoder_example()


def _named(graph: Graph, pattern: str, who: str) -> list[Value]:
    """Values whose own name matches, else the last value of each layer or module that does."""
    own = [v for n in graph.nodes for v in n.outputs if fnmatchcase(v.name, pattern)]
    if own:
        return own
    last: dict[str, Value] = {}
    for n in graph.nodes:
        for name in (n.name, *_prefixes(n.scope)):
            if name and fnmatchcase(name, pattern):
                last.pop(name, None)
                last[name] = n.outputs[0]
    found = list(dict.fromkeys(last.values()))
    if not found:
        names = sorted({n.scope or n.name for n in graph.nodes})
        from ..recipe import near
        raise UserError(f"{WHO}: pairs: nothing in {who} matches {pattern!r}{near(pattern, names)}")
    return found


def _prefixes(scope: str) -> list[str]:
    parts = scope.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts) + 1)]
