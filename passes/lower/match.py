"""Find a small pattern of nodes and put one node in its place.

    pattern = P("mul", "x", P("sigmoid", "x"))
    def replace(m): return "silu", [m["x"]], {}
    rewrite(graph, pattern, replace)

A pattern is a tree of P seen from its last node. Where it has
    "x"           any value; the same letter is the same value
    P(...)        a value that such a node makes; P(..., name="d") also names it
    2.0           a constant that holds this one number (to 0.1 %, so that half precision's constants match)
    Number("c")   a constant that holds one number
    Const("c")    any constant
    None          an absent input
    (a, b, ...)   one of these
Inputs of commutative ops are tried in both orders. An attribute that is not there has the op's default. There is no
match when someone else still reads a value made inside the pattern (only the last node's result stays), nor when
such a value is an output of the graph.
"""
from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from inspect import Parameter, signature

import numpy as np

from ..graph import Graph, Node, Value, constant
from ..ops import OPS

COMMUTE = {"add", "mul", "min", "max", "equal", "and", "or"}


class P:
    """A node of op `op` (a name or several) whose first output is meant; `attrs` are values or tests of them."""

    def __init__(self, op, *args, name: str | None = None, **attrs):
        self.ops = (op,) if isinstance(op, str) else tuple(op)
        self.args, self.name, self.attrs = args, name, attrs


@dataclass(frozen=True)
class Const:
    name: str


@dataclass(frozen=True)
class Number:
    name: str


@dataclass
class Match:
    """What was found: `m["x"]` is a value by its letter, `m.number("c")` a constant's number."""

    graph: Graph
    root: Node
    values: dict[str, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    before: list[Node] = field(default_factory=list)  # nodes that the replacement needs besides its own

    def __getitem__(self, name: str) -> Value:
        return self.values[name]

    def get(self, name: str) -> Value | None:
        return self.values.get(name)

    def number(self, name: str, default: float = 0.0) -> float:
        v = self.values.get(name)
        return default if v is None else float(v.data.reshape(-1)[0])

    def node(self, name: str) -> Node:
        """The node that makes a named value."""
        return next(n for n in self.nodes if self.values[name] in n.outputs)

    def constant(self, stem: str, data) -> Value:
        """A new constant for the replacement."""
        return constant(self.graph.fresh(stem), data)

    def emit(self, op: str, inputs: list, attrs: dict, shape, dtype: str) -> Value:
        """A node of its own in front of the replacement; its result."""
        out = Value(self.graph.fresh(f"{self.root.outputs[0].name}_{op}"), dtype, shape)
        self.before.append(Node(op, inputs, [out], attrs, self.root.name, common_scope(self.nodes)))
        return out


def rewrite(graph: Graph, patterns, replace: Callable) -> int:
    """Replace every match; `replace(match)` gives (op, inputs, attrs) or None to refuse. Returns how many."""
    patterns = patterns if isinstance(patterns, list) else [patterns]
    roots = {op for p in patterns for op in p.ops}
    makers, users, outputs = graph.makers(), graph.users(), set(graph.outputs)
    gone: set[int] = set()
    count, kept = 0, []
    for node in list(graph.nodes):
        kept.append(node)
        if node.op not in roots or id(node) in gone:
            continue
        new = _first(graph, node, patterns, replace, makers, users, outputs)
        if new is None:
            continue
        found, new_node = new
        kept[-1:] = [*found.before, new_node]
        for n in found.nodes:
            gone.add(id(n))
            for v in n.inputs:
                if v is not None:
                    users[v].remove(n)
        for n in (*found.before, new_node):
            for v in n.inputs:
                if v is not None:
                    users.setdefault(v, []).append(n)
            for v in n.outputs:
                makers[v] = n
        count += 1
    graph.nodes = [n for n in kept if id(n) not in gone]
    return count


def _first(graph, node, patterns, replace, makers, users, outputs):
    for pattern in patterns:
        for values, nodes in _node(pattern, node, {}, [], makers):
            inner = {id(n) for n in nodes}
            private = all(v not in outputs and all(id(u) in inner for u in users.get(v, ()))
                          for n in nodes if n is not node for v in n.outputs)
            if not private or len(node.outputs) > 1 and any(users.get(v) or v in outputs for v in node.outputs[1:]):
                continue
            found = Match(graph, node, values, nodes)
            new = replace(found)
            if new is not None:
                op, inputs, attrs = new
                return found, Node(op, inputs, node.outputs[:1], attrs, node.name, common_scope(nodes))
    return None


def common_scope(nodes: list[Node]) -> str:
    """The innermost module that all of them belong to."""
    scopes = [n.scope.split(".") for n in nodes if n.scope]
    return ".".join(os.path.commonprefix(scopes)) if scopes else ""


def _node(p: P, node: Node, values: dict, nodes: list, makers) -> Iterator[tuple[dict, list]]:
    if node.op not in p.ops:
        return
    for key, want in p.attrs.items():
        have = node.attrs.get(key, _defaults(node.op).get(key))
        if not (want(have) if callable(want) else have == want):
            return
    if p.name is not None:
        if values.get(p.name, node.outputs[0]) is not node.outputs[0]:
            return
        values = {**values, p.name: node.outputs[0]}
    nodes = nodes if any(n is node for n in nodes) else [*nodes, node]
    inputs = [*node.inputs, *[None] * (len(p.args) - len(node.inputs))]
    if len(inputs) != len(p.args):
        return
    orders = [inputs]
    if node.op in COMMUTE and len(inputs) == 2:
        orders.append(inputs[::-1])
    for order in orders:
        yield from _all(p.args, order, values, nodes, makers)


def _all(args, inputs, values, nodes, makers) -> Iterator[tuple[dict, list]]:
    if not args:
        yield values, nodes
        return
    for v2, n2 in _value(args[0], inputs[0], values, nodes, makers):
        yield from _all(args[1:], inputs[1:], v2, n2, makers)


def _value(arg, v: Value | None, values, nodes, makers) -> Iterator[tuple[dict, list]]:
    if isinstance(arg, tuple):
        for option in arg:
            yield from _value(option, v, values, nodes, makers)
    elif arg is None or v is None:
        if arg is None and v is None:
            yield values, nodes
    elif isinstance(arg, str):
        if values.get(arg, v) is v:
            yield {**values, arg: v}, nodes
    elif isinstance(arg, (Const, Number)):
        if v.data is not None and (isinstance(arg, Const) or v.data.size == 1) and values.get(arg.name, v) is v:
            yield {**values, arg.name: v}, nodes
    elif isinstance(arg, P):
        if v in makers and makers[v].outputs[0] is v:
            yield from _node(arg, makers[v], values, nodes, makers)
    elif v.data is not None and v.data.size == 1 and math.isclose(v.data.reshape(-1)[0], arg, rel_tol=1e-3, abs_tol=1e-9):
        yield values, nodes


@cache
def _defaults(op: str) -> dict:
    """Default attributes by the op's meaning."""
    return {k: p.default for k, p in signature(OPS[op].fn).parameters.items() if p.default is not Parameter.empty}


class Sketch:
    """A graph written as calls, for examples: s = Sketch(); x = s.input("x", 2, 3); return s.graph(s("relu", x)).

    Numbers among the inputs become float32 constants, lists of ints int64 ones; shapes come from the ops' meanings.
    """

    def __init__(self):
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []

    def input(self, name: str, *shape, dtype: str = "float32") -> Value:
        self.inputs.append(Value(name, dtype, shape))
        return self.inputs[-1]

    def weight(self, name: str, *shape) -> Value:
        """A constant with the same normal values each time."""
        seed = sum(name.encode()) + sum(shape)
        return constant(name, np.random.default_rng(seed).standard_normal(shape).astype(np.float32))

    def __call__(self, op: str, *inputs, outputs: int = 1, **attrs):
        n = len(self.nodes)
        values = [v if v is None or isinstance(v, Value) else self._constant(f"c{n}_{i}", v) for i, v in enumerate(inputs)]
        outs = [Value(f"v{n}" if outputs == 1 else f"v{n}_{i}") for i in range(outputs)]
        self.nodes.append(Node(op, values, outs, attrs, f"{op}_{n}"))
        from .fold import infer_node
        infer_node(self.nodes[-1])
        return outs[0] if outputs == 1 else outs

    @staticmethod
    def _constant(name, v) -> Value:
        a = np.asarray(v)
        whole = isinstance(v, list) and a.dtype.kind == "i"
        return constant(name, a if isinstance(v, np.ndarray) else a.astype(np.int64 if whole else np.float32))

    def graph(self, *outputs: Value) -> Graph:
        return Graph(list(self.inputs), list(outputs), list(self.nodes))
