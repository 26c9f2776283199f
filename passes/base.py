"""What a pass is: a frozen dataclass whose fields are its options, with one verb, `run(graph, ctx) -> Graph`.

    @dataclass(frozen=True)
    class LowRank(Pass):
        ratio: float = 0.5
        layers: str | list[str] = "*"
        def check(self): ...            # raise ValueError about an option's value, naming the option
        def run(self, graph, ctx): ...  # a new Graph; never changes the one it is given
        @staticmethod
        def example(): ...              # the smallest Graph on which the pass must do something

The recipe name is the path ("structure.low_rank"), the class is registered by one line in `passes/__init__.py`.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from .graph import Graph, Node

WEIGHTED = ("conv", "conv_transpose", "linear", "matmul", "gather", "lstm", "gru")


@dataclass(frozen=True)
class Pass(ABC):
    """Base of all passes. Options that every layer-wise pass has: `layers`, `overrides` where it declares them."""

    def check(self) -> None:  # noqa: B027 most options need no check
        """Raise ValueError when an option's value makes no sense; called once, after construction."""

    @abstractmethod
    def run(self, graph: Graph, ctx: Context) -> Graph:
        """A new graph; `graph` stays as it is."""

    def matches(self, graph: Graph) -> list[Node]:
        """The nodes this pass would touch on this graph, for `--dry-run`; empty means it would do nothing."""
        return [n for n in graph.nodes if n.op in WEIGHTED]

    @staticmethod
    @abstractmethod
    def example() -> Graph:
        """The smallest graph on which the pass must do something."""


@dataclass
class Context:
    """What a pass may use besides the graph. `passes/` never sees the engine: `measure` comes from the caller.

    original  the graph before the first pass (after `train:`), e.g. the teacher
    previous  the graph before the pass that ran last (not before this one); None for the first pass
    data      data.Data with splits train, test, calibration; None when the recipe has no data
    train     the recipe's training defaults: {"epochs", "lr", "batch", "optimizer", ...}
    measure   measure(graph) -> {"bytes", "latency_ms"} on the engine; None when there is none
    progress  progress(done, total, text): called by long loops
    notes     facts for the report, by name
    """

    original: Graph
    data: Any = None
    previous: Graph | None = None
    loss: str = "cross_entropy"
    train: dict = field(default_factory=dict)
    target: dict = field(default_factory=dict)
    seed: int = 0
    measure: Callable[[Graph], dict] | None = None
    progress: Callable[[int, int, str], None] = lambda done, total, text: None
    notes: dict = field(default_factory=dict)

    def note(self, **facts) -> None:
        self.notes.update(facts)


def layer_name(node: Node) -> str:
    """What people call a layer: the module path its weight came from ("features.0"), else the node's name."""
    for v in node.inputs[1:2] if node.op != "gather" else node.inputs[:1]:
        if v is not None and v.data is not None and v.name.endswith(".weight"):
            return v.name.removesuffix(".weight")
    return node.name or node.outputs[0].name


def select(nodes: list[Node], patterns: str | list[str]) -> list[Node]:
    """The nodes whose layer name (or scope, or "op:conv" for a type) matches one of the shell-style patterns."""
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    return [n for n in nodes if any(
        n.op == p[3:] if p.startswith("op:") else fnmatchcase(layer_name(n), p) or (n.scope and fnmatchcase(n.scope, p))
        for p in patterns)]


def options_for(node: Node, overrides: dict) -> dict:
    """What `overrides` says about this node: {pattern: {option: value}} merged so that the most specific wins.

    A type ("op:conv") is weaker than a pattern ("layer*"), a pattern with more literal characters is stronger,
    an exact layer name is strongest.
    """
    def strength(pattern: str) -> tuple[bool, bool, int]:
        wild = any(c in pattern for c in "*?[")
        return not pattern.startswith("op:"), not wild, sum(c not in "*?[]" for c in pattern)

    found: dict = {}
    for pattern in sorted(overrides, key=strength):
        if select([node], pattern):
            found.update(overrides[pattern])
    return found
