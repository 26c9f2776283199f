"""Plan: every activation gets its place in one arena.

Values that are one buffer (a reshape and its input, an elementwise result written over an input that nobody reads
any more) are merged; then buffers are placed largest first, each at the lowest offset that is free during its whole
life (greedy by size, best fit; Pisarchyk & Lee, arXiv 2001.03288). Inputs and outputs keep their buffers for the
whole run: a caller may run again without writing the inputs anew.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..graph import Graph, Node, Value
from .sink import NARY, RESHAPES, UNARY
from .types import TYPE_BYTES

ALIGN = 64
# Ops that may write over an input of the same size: they read element i before they write element i.
OVERWRITE = (UNARY | NARY | {"qadd", "qmul", "qlut", "softmax", "layer_norm", "rms_norm"}) - {"cast", "where", "prelu"}


@dataclass(eq=False)
class Buffer:
    """Values that share one place; alive from node `first` to node `last`, both included."""

    values: list[Value]
    bytes: int
    first: int
    last: int
    offset: int = -1
    fixed: bool = field(default=False)  # inputs and outputs: no result may be written over them


def plan(graph: Graph) -> None:
    """Set Value.meta["offset"] (bytes) of every activation, graph.meta["arena"] and ["live"], its lower bound."""
    buffers = _buffers(graph)
    placed: list[Buffer] = []
    for b in sorted(buffers, key=lambda b: (-b.bytes, b.first)):
        b.offset = _lowest_gap(b, [p for p in placed if p.first <= b.last and b.first <= p.last])
        placed.append(b)
        for v in b.values:
            v.meta["offset"] = b.offset
    graph.meta["arena"] = max((b.offset + b.bytes for b in buffers), default=0)
    graph.meta["live"] = max((sum(b.bytes for b in buffers if b.first <= i <= b.last) for i in range(len(graph.nodes))),
                             default=graph.meta["arena"])


def value_bytes(v: Value) -> int:
    """Bytes of a value whose shape is known."""
    return int(np.prod(v.shape, dtype=np.int64)) * TYPE_BYTES[v.dtype]


def _buffers(graph: Graph) -> list[Buffer]:
    end = len(graph.nodes)
    last_use: dict[Value, int] = {}
    for i, node in enumerate(graph.nodes):
        for v in node.inputs:
            if v is not None:
                last_use[v] = i
    owner: dict[Value, Buffer] = {}
    keep = set(graph.outputs)
    for v in graph.inputs:
        owner[v] = Buffer([v], _aligned(v), -1, end, fixed=True)
    for i, node in enumerate(graph.nodes):
        for v in node.outputs:
            last = end if v in keep else last_use.get(v, i)
            shared = _shared(node, v, owner, last_use, i, keep)
            if shared is not None:
                shared.values.append(v)
                shared.last = max(shared.last, last)
                owner[v] = shared
            else:
                owner[v] = Buffer([v], _aligned(v), i, last)
    return list(dict.fromkeys(owner.values()))


def _aligned(v: Value) -> int:
    return -(-value_bytes(v) // ALIGN) * ALIGN


def _shared(node: Node, v: Value, owner, last_use, i: int, keep) -> Buffer | None:
    """The buffer of an input that v may live in, or None."""
    if len(node.outputs) > 1 or not node.inputs:
        return None
    if node.op in RESHAPES or node.op == "identity":
        b = owner.get(node.inputs[0])
        # A view of an input or output, and a view that is an output, are copied: both ports keep their own memory.
        return b if b is not None and not b.fixed and v not in keep and not keep & set(b.values) else None
    if node.op not in OVERWRITE:
        return None
    for x in node.inputs:
        b = owner.get(x) if x is not None else None
        if b is not None and not b.fixed and b.last == i and value_bytes(x) == value_bytes(v) and x.dtype == v.dtype \
                and tuple(x.shape) == tuple(v.shape):
            return b
    return None


def _lowest_gap(b: Buffer, others: list[Buffer]) -> int:
    """The tightest gap between the buffers alive at the same time that holds b, else the end."""
    best, best_size, at = None, None, 0
    for o in sorted(others, key=lambda o: o.offset):
        gap = o.offset - at
        if gap >= b.bytes and (best_size is None or gap < best_size):
            best, best_size = at, gap
        at = max(at, o.offset + o.bytes)
    return at if best is None else best
