"""Which channels change together, and how to take them out of a Graph.

Every value carries marks: an integer array of the value's rank, each axis full or 1, that names the channel each
position belongs to. Convolutions and linear layers make new channels; other ops carry marks as they carry the data
(concat concatenates them, flatten repeats them, transpose permutes them); where two values meet (an addition, a
depthwise convolution, a gate) the channels of both become one class, by union-find. Class 0 is what must stay: graph
outputs, and everything that meets an op without a rule here. (The idea of dependency groups: Fang et al., DepGraph,
arXiv 2301.12900; here on exact positions, so concat, split, flatten and channel shuffle need no special case.)

    deps = analyse(graph)
    for group in deps.groups: ...          # group.classes, group.producers, group.width
    smaller = deps.remove(classes)         # a new Graph, the channels of these classes gone everywhere
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from . import hashing
from .base import layer_name
from .cost import guess_bind
from .graph import Graph, Node, Value, constant
from .ops.run import infer, known


@dataclass(eq=False)
class Cut:
    """Positions of one axis of a constant, each with the channel it belongs to.

    kind: "out" for the output channels of a layer's weight, "in" for its input channels, "other" for biases, norms,
    operands of elementwise ops.
    """

    value: Value
    axis: int
    marks: np.ndarray
    node: Node
    kind: str


@dataclass(eq=False)
class Group:
    """Channels of one or more layers that must be of one width. classes [k]: each goes as a whole; width is the number
    of output channels of the widest producer; size the channels of that producer in each class (1 but for grouped layers)."""

    producers: list[Node]
    classes: np.ndarray
    width: int

    @property
    def name(self) -> str:
        return layer_name(self.producers[0])

    @property
    def size(self) -> float:
        return self.width / max(1, len(self.classes))


@dataclass(eq=False)
class Dependencies:
    """What `analyse` found. skipped: {layer name: why its channels must stay}."""

    graph: Graph
    cuts: list[Cut]
    groups: list[Group]
    skipped: dict[str, str]
    must_keep: list[np.ndarray]
    marks: dict[Value, np.ndarray]
    shapes: dict[Value, tuple[int, ...]]
    bind: dict[str, int]
    edits: list[Callable] = field(default_factory=list)

    def feasible(self, classes: np.ndarray) -> np.ndarray:
        """`classes` without those that would leave some tensor without any channel (the later ones are given back)."""
        gone = np.zeros(self.size, bool)
        gone[classes] = True
        position = {int(c): i for i, c in enumerate(classes)}
        for marks in self.must_keep:
            if gone[marks].all():
                gone[max(np.unique(marks), key=lambda c: position[int(c)])] = False
        return np.array([c for c in classes if gone[c]], np.int64)

    @property
    def size(self) -> int:
        return 1 + max((int(m.max()) for m in [*self.marks.values(), *(c.marks for c in self.cuts)] if m.size), default=0)

    def kept(self, marks: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Where the positions stay, along the only axis of `marks` that is not 1."""
        return np.flatnonzero(~np.isin(marks.ravel(), classes))

    def remove(self, classes) -> Graph:
        """A new Graph without the channels of these classes: weights sliced, shape constants and attributes adapted."""
        classes = np.asarray(sorted(int(c) for c in classes), np.int64)
        if (classes == 0).any():
            raise ValueError("class 0 holds the channels that must stay")
        graph = self.graph.copy()
        value = dict(zip(self.graph.values(), graph.values()))
        node = dict(zip(self.graph.nodes, graph.nodes))
        for cut in self._distinct_cuts():
            keep = self.kept(cut.marks, classes)
            if len(keep) < cut.marks.size:
                _take(value[cut.value], keep, cut.axis)

        def lengths(v: Value, axis: int) -> int:
            """How long an axis of a value of the old graph is now."""
            m = self.marks[v]
            line = np.moveaxis(m, axis, 0).reshape(m.shape[axis], -1)[:, 0]
            return int((~np.isin(line, classes)).sum()) if m.shape[axis] > 1 or m.any() else self.shapes[v][axis]

        for edit in self.edits:
            edit(graph, node, value, classes, lengths)
        for v, (shape, _) in infer(graph, self.bind).items():
            old = v.shape
            if v.data is None and v not in graph.inputs and old is not None and len(old) == len(shape):
                v.shape = tuple(d if isinstance(d, str) else n for d, n in zip(old, shape))
        return graph

    def _distinct_cuts(self) -> list[Cut]:
        seen: dict[tuple[Value, int], Cut] = {}
        for cut in self.cuts:
            seen.setdefault((cut.value, cut.axis), cut)
        return list(seen.values())


def analyse(graph: Graph, bind: dict[str, int] | None = None, heads: bool = False) -> Dependencies:
    """The channel classes of a graph. Symbolic dimensions take the sizes in `bind`, else a small guess. heads: in attention
    whole heads go, not places of every head."""
    walk = _Walk(graph, guess_bind(graph, bind, batch=2), heads)
    walk.run()
    return walk.result()


def _take(value: Value, keep: np.ndarray, axis: int) -> None:
    value.data = np.ascontiguousarray(np.take(value.data, keep, axis))
    value.shape, value.meta = value.data.shape, hashing.taken(value.meta, axis, keep)
    book = value.meta.get("codebook")
    if book and book.get("groups", 1) > 1 and axis == 0:  # groups are equal runs of rows: they no longer are
        from .weights import distinct
        entries = distinct(value.data)
        meta = {k: v for k, v in value.meta.items() if k != "codebook"}
        value.meta = meta if entries > 256 else meta | {"codebook": {"bits": max(1, (entries - 1).bit_length()), "groups": 1}}


class _Walk:
    """One pass over the nodes; RULES (in `channel_rules`) say how each op carries marks."""

    def __init__(self, graph: Graph, bind: dict[str, int], heads: bool):
        from .channel_rules.attention import kept_axes
        self.graph, self.heads = graph, heads
        self.shapes = {v: shape for v, (shape, _) in infer(graph, bind).items()}
        self.known = known(graph, bind)
        self.makers, self.bind = graph.makers(), bind
        self.parent = [0]
        self.locked: dict[int, str] = {}  # roots of channels that must stay, with the reason
        self.marks: dict[Value, np.ndarray] = {}
        self.cuts: list[Cut] = []
        self.shared: dict[tuple[Value, int], np.ndarray] = {}
        self.regions: list[np.ndarray] = []
        self.edits: list[Callable] = []
        self.made: dict[Node, np.ndarray] = {}
        self.kept_axes = kept_axes(graph, self.shapes, heads)
        self.node: Node | None = None

    # --- classes

    def roots(self, line: np.ndarray) -> np.ndarray:
        return np.array([self.find(int(i)) for i in np.ravel(line)], np.int64)

    def new(self, count: int) -> np.ndarray:
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def find(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def unite(self, a: np.ndarray, b: np.ndarray, why: str = "") -> np.ndarray:
        """Positions of a and b (same shape) change together from now on; those that meet 0 must stay."""
        pairs = np.unique(np.stack([np.ravel(a), np.ravel(b)]), axis=1)
        for x, y in pairs.T:
            lo, hi = sorted((self.find(int(x)), self.find(int(y))))
            if lo == hi:
                continue
            if lo == 0:
                self.locked.setdefault(hi, why or f"they meet channels that must stay in {self._here()}")
                continue
            self.parent[hi] = lo
            if hi in self.locked:
                self.locked.setdefault(lo, self.locked.pop(hi))
        return a

    def protect(self, marks: np.ndarray, why: str) -> None:
        flat = np.unique(marks)
        self.unite(flat, np.zeros_like(flat), why)

    def _here(self) -> str:
        return f"{self.node.op} ('{self.node.name or self.node.outputs[0].name}')"

    # --- marks

    def plain(self, v: Value) -> np.ndarray:
        return np.zeros((1,) * len(self.shapes[v]), np.int64)

    def of(self, v: Value) -> np.ndarray:
        if v not in self.marks:
            self.marks[v] = self.plain(v)
        return self.marks[v]

    def full(self, v: Value, axis: int) -> np.ndarray:
        """The marks along one axis [n]: of a value without marks there, n times class 0."""
        m = self.of(v)
        n = self.shapes[v][axis]
        if m.shape[axis] != n:
            return np.zeros(n, np.int64)
        return np.moveaxis(m, axis, 0).reshape(n, -1)[:, 0]

    def marked(self, v: Value) -> list[int]:
        """The axes that have marks."""
        m = self.of(v)
        return [i for i in range(m.ndim) if m.shape[i] > 1 and m.any()]

    def on_axis(self, v: Value, axis: int, line: np.ndarray) -> None:
        """Give value v marks `line` along `axis`."""
        shape = [1] * len(self.shapes[v])
        shape[axis] = len(line)
        self.marks[v] = np.asarray(line).reshape(shape)

    def cut(self, value: Value, axis: int, line: np.ndarray, node: Node, kind: str = "other") -> None:
        first = self.shared.setdefault((value, axis), line)
        if first is not line:  # a shared weight: its channels are the same ones
            self.unite(first, line, f"weight '{value.name}' is shared")
        self.cuts.append(Cut(value, axis, np.asarray(line).ravel(), node, kind))
        self.regions.append(self.cuts[-1].marks)

    # --- the walk

    def run(self) -> None:
        from .channel_rules import RULES

        for node in self.graph.nodes:
            self.node = node
            if all(v is None or v.data is not None or not self.marked(v) for v in node.inputs) and node.op not in (
                    "conv", "conv_transpose", "linear", "matmul", "gather", "expand", "lstm", "gru", "rnn"):
                rule = None
            else:
                rule = RULES.get(node.op, _unknown)
            if rule is not None:
                rule(self, node)
            for v in node.outputs:
                m = self.of(v)
                if m.ndim != len(self.shapes[v]) or any(a not in (1, b) for a, b in zip(m.shape, self.shapes[v])):
                    raise AssertionError(f"{node}: marks {m.shape} do not fit {self.shapes[v]}")
                if sum(d > 1 for d in m.shape) > 1:
                    raise AssertionError(f"{node}: marks on more than one axis")
        for v in self.graph.outputs:
            self.protect(self.of(v), f"'{v.name}' is an output of the model")

    def result(self) -> Dependencies:
        found = [self.find(i) for i in range(len(self.parent))]
        root = np.array([0 if r in self.locked else r for r in found], np.int64)
        for cut in self.cuts:
            cut.marks = root[cut.marks]
        marks = {v: root[m] for v, m in self.marks.items()}
        lines = {}
        for r in [*self.regions, *marks.values()]:
            line = root[r.ravel()]
            if line.any():
                lines[line.tobytes()] = line
        regions = [r for r in lines.values() if (r != 0).all()]
        groups, skipped = _groups(self.made, root, {i: self.locked[r] for i, r in enumerate(found) if r in self.locked})
        return Dependencies(self.graph, self.cuts, groups, skipped, regions, marks, self.shapes, self.bind, self.edits)


def _unknown(walk: _Walk, node: Node) -> None:
    """No rule: the channels that reach this op must stay."""
    for v in node.inputs:
        if v is not None and v.data is None:
            walk.protect(walk.of(v), f"they reach {walk._here()}")


def _groups(made: dict[Node, np.ndarray], root: np.ndarray, reasons: dict[int, str]) -> tuple[list[Group], dict[str, str]]:
    """Producers that share a class form a group; layers all of whose channels must stay are skipped, with the reason."""
    owner: dict[int, int] = {}
    nodes, team = list(made), list(range(len(made)))

    def leader(i):
        while team[i] != i:
            team[i] = team[team[i]]
            i = team[i]
        return i

    skipped = {}
    for i, node in enumerate(nodes):
        classes = np.unique(root[made[node]])
        if not classes.any():
            skipped[layer_name(node)] = reasons[int(made[node].ravel()[0])]
        for c in classes[classes != 0]:
            a, b = leader(i), leader(owner.setdefault(int(c), i))
            team[max(a, b)] = min(a, b)
    members: dict[int, list[Node]] = {}
    for i, node in enumerate(nodes):
        if layer_name(node) not in skipped:
            members.setdefault(leader(i), []).append(node)
    groups = []
    for producers in members.values():
        classes = np.unique(np.concatenate([root[made[n]].ravel() for n in producers]))
        groups.append(Group(producers, classes[classes != 0], max(made[n].size for n in producers)))
    return groups, skipped


def new_constant(graph: Graph, node: Node, index: int, data) -> None:
    """Give a node an input constant of its own (the old one may be shared)."""
    old = node.inputs[index]
    node.inputs[index] = constant(graph.fresh(old.name if old is not None else f"{node.name or node.op}.{index}"), data)
