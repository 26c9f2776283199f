"""Follow how positions relate in one layer of a transformer: queries to queries, keys to keys, values to values (MiniLM, Wang
et al., arXiv 2002.10957; in relation heads of any number, MiniLMv2, arXiv 2012.15828). Width, heads and depth may differ,
nothing is projected.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd

from ..base import Context, Pass
from ..errors import UserError
from ..graph import Graph, Node, Value
from .encoder import encoder_example, layers
from .measures import relation_distance
from .student import drop_layers, kept_layers, student_of
from .teacher import teachers
from .watch import Term, fit_terms, labels_loss, output_term

WHO = "distill.minilm"


@dataclass(frozen=True)
class MiniLM(Pass):
    """student   "" (the graph itself, or `keep` of its layers), a model file, or module:function called with `student_args`
    keep         with student "": layers that stay, a number or a list; 0 keeps all
    layer        the teacher's layer that the student's last one follows (from 0; negative: from the end)
    relations    weights of the relations by name: q, k, v
    heads        relation heads; must divide both widths; 0: the largest number up to the teacher's heads that does
    teacher      original, previous, or the path of a model file
    outputs      weight of following the outputs (kl at `temperature`); task: weight of the labels
    temperature, epochs, lr   training
    """

    student: str = ""
    student_args: dict = field(default_factory=dict)
    keep: int | list[int] = 0
    layer: int = -1
    relations: dict[str, float] = field(default_factory=lambda: {"q": 1.0, "k": 1.0, "v": 1.0})
    heads: int = 0
    teacher: str = "original"
    outputs: float = 0.0
    task: float = 0.0
    temperature: float = 1.0
    epochs: float = 1
    lr: float | None = None

    def check(self) -> None:
        wrong = set(self.relations) - set("qkv")
        if wrong or not self.relations:
            raise ValueError(f"relations are weights of q, k and v, got {self.relations}")
        if self.epochs <= 0 or self.temperature <= 0 or self.heads < 0:
            raise ValueError("epochs and temperature must be positive, heads not negative; got "
                             f"{self.epochs}, {self.temperature}, {self.heads}")

    def matches(self, graph: Graph) -> list[Node]:
        return [n for n in graph.nodes if n.op == "attention"]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        student = student_of(graph, self.student, self.student_args, ctx, WHO)
        if self.keep and not self.student:
            student = drop_layers(graph, kept_layers(len(layers(graph, WHO)), self.keep, "uniform", WHO))
        teacher = teachers(self.teacher, ctx, WHO)[0]
        mine, theirs = layers(student, "the student")[-1], layers(teacher, "the teacher")
        if not -len(theirs) <= self.layer < len(theirs):
            raise UserError(f"{WHO}: layer: {self.layer}, but the teacher has {len(theirs)} layers")
        their = theirs[self.layer]
        terms = []
        for name, weight in self.relations.items():
            a, b = getattr(mine, name), getattr(their, name)
            counts = [x.heads if name == "q" else x.kv_heads for x in (mine, their)]
            heads = self._heads(_width(a, counts[0]), _width(b, counts[1]), counts[1])
            terms.append(Term((a.name,), (b.name,), relation_distance(heads, *counts), weight))
        if self.outputs:
            terms.append(output_term(student, teacher, self.outputs, self.temperature))
        return fit_terms(student, teacher, terms, ctx, base=labels_loss(ctx, self.task), epochs=self.epochs, lr=self.lr,
                         text="relations")

    def _heads(self, mine: int, theirs: int, most: int) -> int:
        common = gcd(mine, theirs)
        if self.heads:
            if common % self.heads:
                raise UserError(f"{WHO}: heads: {self.heads} does not divide the widths {mine} and {theirs}")
            return self.heads
        return max(h for h in range(1, most + 1) if common % h == 0)

    @staticmethod
    def example() -> Graph:
        return encoder_example()


def _width(v: Value, heads: int) -> int:
    shape = v.shape or ()
    return shape[-1] if len(shape) == 3 else shape[-1] * heads
