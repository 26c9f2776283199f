"""The one representation between checkpoint and kernel: Value, Node, Graph.

Ops are those of `passes/ops`: ONNX's in snake_case with the inputs and attributes of the newest opset
(axes, pads and shapes are inputs, constant where the model has them constant), plus a few of ours
(`linear`, and what lowering makes). There are no subgraphs. A Value is written once; constants (weights,
shapes) are Values with `data`. Users and producers are computed when asked, so nothing has to be kept in step.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Dim = Any  # an int, or a str that names a symbolic dimension ("N", "seq"); behind `bind` all are ints, which no type can say


@dataclass(eq=False)
class Value:
    """A tensor in the graph.

    name   unique in the graph; graph inputs and outputs keep the ONNX names.
    dtype  a numpy dtype name ("float32", "int8", "bool"...) or "bfloat16".
    shape  ints and symbolic names; None when not known (only inner values may be unknown).
    data   numpy array for constants and weights, else None. bfloat16 data is held as float32.
    meta   what later passes and the file must respect:
           "sparse": True      zeros stay zero in training
           "codebook": {"bits": b, "groups": g}   at most 2**b distinct values (per group of axis 0)
           "hashed": {"seed": s, "buckets": n, ...}   a bucket or its negative, by a hash of the place (hashing.py)
           "quantized": {"bits": b, "block": n, "scale": s, "zero": z}   integers of b bits times scales, see lower/storage.py
           "bits": b           of an int8 value: its codes are of b bits
           "frozen": True      training leaves it alone
           "trainable": True   trained although it stands in no weight's place (a quantizer's scale)
    """

    name: str
    dtype: str = "float32"
    shape: tuple[Dim, ...] | None = None
    data: np.ndarray | None = None
    meta: dict = field(default_factory=dict)

    def __str__(self) -> str:
        shape = "?" if self.shape is None else "x".join(map(str, self.shape))
        return f"%{self.name}:{self.dtype}[{shape}]"


def constant(name: str, data, **meta) -> Value:
    """A Value holding `data` (anything numpy takes); dtype and shape are read off it."""
    data = np.asarray(data)
    return Value(name, data.dtype.name, data.shape, data, dict(meta))


@dataclass(eq=False)
class Node:
    """One operation; its meaning is its row in `ops.OPS`.

    inputs may hold None for an optional input that is absent.
    scope is the path of the torch module it came from ("encoder.layer.0.attention"), "" when unknown.
    """

    op: str
    inputs: list[Value | None]
    outputs: list[Value]
    attrs: dict = field(default_factory=dict)
    name: str = ""
    scope: str = ""

    def __str__(self) -> str:
        attrs = "".join(f" {k}={_short(v)}" for k, v in sorted(self.attrs.items()))
        args = ", ".join("-" if v is None else str(v) if v.data is not None else f"%{v.name}" for v in self.inputs)
        return f"{', '.join(map(str, self.outputs))} = {self.op}({args}){attrs}"


@dataclass(eq=False)
class Graph:
    """Inputs, outputs and nodes in running order (every input of a node is made before it)."""

    inputs: list[Value]
    outputs: list[Value]
    nodes: list[Node] = field(default_factory=list)
    name: str = "graph"
    meta: dict = field(default_factory=dict)

    def __str__(self) -> str:
        head = f"graph {self.name}({', '.join(map(str, self.inputs))}) -> {', '.join('%' + v.name for v in self.outputs)}"
        return "\n".join([head, *(f"  {n}" for n in self.nodes)])

    def values(self) -> Iterator[Value]:
        """Every Value once: inputs, then what nodes read and write, in order."""
        seen: set[int] = set()
        for v in [*self.inputs, *(v for n in self.nodes for v in [*n.inputs, *n.outputs]), *self.outputs]:
            if v is not None and id(v) not in seen:
                seen.add(id(v))
                yield v

    def constants(self) -> list[Value]:
        return [v for v in self.values() if v.data is not None]

    def makers(self) -> dict[Value, Node]:
        """Which node writes each value (inputs and constants have none)."""
        return {v: n for n in self.nodes for v in n.outputs}

    def users(self) -> dict[Value, list[Node]]:
        """Which nodes read each value, in order; a node that reads it twice stands twice."""
        users: dict[Value, list[Node]] = {v: [] for v in self.values()}
        for n in self.nodes:
            for v in n.inputs:
                if v is not None:
                    users[v].append(n)
        return users

    def replace(self, old: Value, new: Value) -> None:
        """Every reader of `old` (and the graph's outputs) reads `new` instead."""
        for n in self.nodes:
            n.inputs = [new if v is old else v for v in n.inputs]
        self.outputs = [new if v is old else v for v in self.outputs]

    def fresh(self, stem: str) -> str:
        """A value name that is not taken: `stem`, else `stem_1`, `stem_2`..."""
        taken = {v.name for v in self.values()}
        return next(n for n in _names(stem) if n not in taken)

    def prune(self) -> int:
        """Drop nodes whose results nobody reads. Returns how many were dropped."""
        before, live, kept = len(self.nodes), {id(v) for v in self.outputs}, []
        for n in reversed(self.nodes):
            if any(id(v) in live for v in n.outputs):
                kept.append(n)
                live.update(id(v) for v in n.inputs if v is not None)
        self.nodes = kept[::-1]
        return before - len(self.nodes)

    def copy(self) -> Graph:
        """A graph with Values and Nodes of its own; arrays are shared until somebody assigns `data`."""
        new = {v: Value(v.name, v.dtype, v.shape, v.data, dict(v.meta)) for v in self.values()}
        nodes = [Node(n.op, [None if v is None else new[v] for v in n.inputs], [new[v] for v in n.outputs],
                      dict(n.attrs), n.name, n.scope) for n in self.nodes]
        return Graph([new[v] for v in self.inputs], [new[v] for v in self.outputs], nodes, self.name, dict(self.meta))

    def module(self):
        """This graph as a torch nn.Module (see `module.GraphModule`)."""
        from .module import GraphModule
        return GraphModule(self)


def claim(taken: set[str], stem: str) -> str:
    """A name that is not in `taken`, which it joins: `stem`, else `stem_1`, `stem_2`..."""
    name = next(n for n in _names(stem) if n not in taken)
    taken.add(name)
    return name


def _names(stem: str) -> Iterable[str]:
    yield stem
    i = 1
    while True:
        yield f"{stem}_{i}"
        i += 1


def _short(v) -> str:
    text = v.name if isinstance(v, Value) else str(v)
    return text if len(text) <= 60 else text[:57] + "..."
