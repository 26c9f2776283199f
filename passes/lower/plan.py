"""Plan: every activation gets its place in one arena.

Values that are one buffer (a reshape and its input, an elementwise result written over an input that nobody reads
any more, the inputs of a concat along the last axis: slices of its result, written there by their makers) are merged;
then buffers are placed one by one, each at the tightest gap that is free during its whole life (greedy by size, best
fit; Pisarchyk & Lee, arXiv 2001.03288), in several orders until the arena is as small as what is alive at once. Inputs
and outputs keep their buffers for the whole run: a caller may run again without writing the inputs anew.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from ..graph import Graph, Node, Value
from .sink import NARY, RESHAPES, UNARY
from .types import TYPE_BYTES

ALIGN = 64
# Ops that may write over an input of the same size: they read element i before they write element i.
OVERWRITE = (UNARY | NARY | {"qadd", "qmul", "qlut", "softmax", "layer_norm", "rms_norm", "qsoftmax", "qlayer_norm",
                         "qgroup_norm"}) - {"cast", "where", "prelu"}


# Ops that can write a slice, and which of their inputs is a residual: its rows would have to stand like the output's.
SLICERS = {"nhwc_conv": 3, "linear": 3, "nhwc_qconv": 4, "nhwc_dqconv": 4, "nhwc_max_pool": 1, "nhwc_avg_pool": 1}
Slices = dict[Value, tuple[Value, int]]


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
    """Set Value.meta["offset"] (bytes) of every activation, and of a slice ["slice"] = (what it is a part of, first index
    along the last axis); graph.meta["arena"] and ["live"], its lower bound."""
    slices = _slices(graph)
    buffers = _buffers(graph, slices)
    live = _live(graph, buffers)
    graph.meta["arena"] = _place(buffers, live)
    for b in buffers:
        for v in b.values:
            v.meta["offset"] = b.offset
    for v, (whole, first) in slices.items():
        v.meta["offset"] = whole.meta["offset"] + first * TYPE_BYTES[v.dtype]
        v.meta["slice"] = (whole, first)
    graph.meta["live"] = live


def alive(graph: Graph) -> int:
    """The most bytes of the arena that hold a value at once, read off the places in a planned graph (or a file's)."""
    end = len(graph.nodes)
    places: list[tuple[int, int, int, int]] = []  # begin, end, first node, last node
    last = {v: i for i, n in enumerate(graph.nodes) for v in n.inputs if v is not None}
    last |= dict.fromkeys([*graph.inputs, *graph.outputs], end)
    made = dict.fromkeys(graph.inputs, 0) | {v: i for i, n in enumerate(graph.nodes) for v in n.outputs}
    for v, first in made.items():
        whole = v.meta.get("slice", (v, 0))[0]
        places.append((whole.meta["offset"], whole.meta["offset"] + _aligned(whole), first, last.get(v, first)))
    most = 0
    for i in range(end):
        at = total = 0
        for begin, stop, _, _ in sorted(p for p in places if p[2] <= i <= p[3]):
            total += max(0, stop - max(at, begin))
            at = max(at, stop)
        most = max(most, total)
    return most


TRIES = 200


def _place(buffers: list[Buffer], bound: int) -> int:
    """Give every buffer its offset and return the arena's size. Several orders are tried, then small changes of the best
    one (what stands at the top comes earlier), until one meets the bound."""
    ports = sorted(buffers, key=lambda b: (not b.fixed, -b.bytes, b.first))
    orders = [sorted(buffers, key=lambda b: (-b.bytes, b.first)), ports,
              sorted(buffers, key=lambda b: (-b.bytes * (b.last - b.first + 1), b.first)),
              sorted(buffers, key=lambda b: (b.first - b.last, -b.bytes)), sorted(buffers, key=lambda b: (b.first, -b.bytes))]
    size, order, places = 0, orders[0], list[int]()
    for step in range(TRIES if len(buffers) < 500 else len(orders)):
        trial = orders[step] if step < len(orders) else _raised(order, step)
        new = _in_order(trial)
        if step == 0 or new < size or new == size and step >= len(orders):
            size, order, places = new, trial, [b.offset for b in trial]
        for b, offset in zip(order, places, strict=True):
            b.offset = offset
        if size <= bound:
            break
    return size


def _raised(order: list[Buffer], step: int) -> list[Buffer]:
    """A buffer at the top of the arena, or on even steps what stands just below it, comes some places earlier."""
    top = max(order, key=lambda b: b.offset + b.bytes)
    if step % 2 == 0:
        near = [b for b in order if b is not top and b.first <= top.last and top.first <= b.last]
        top = max(near, key=lambda b: b.offset + b.bytes, default=top)
    at = order.index(top)
    to = at * (step % 7) // 7
    return [*order[:to], top, *order[to:at], *order[at + 1:]]


def _in_order(order: list[Buffer]) -> int:
    """Each at the best gap between those that stand already; the arena's size."""
    placed: list[Buffer] = []
    for b in order:
        b.offset = _lowest_gap(b, [p for p in placed if p.first <= b.last and b.first <= p.last])
        placed.append(b)
    return max((b.offset + b.bytes for b in order), default=0)


def _live(graph: Graph, buffers: list[Buffer]) -> int:
    change = [0] * (len(graph.nodes) + 2)
    for b in buffers:
        change[max(b.first, 0)] += b.bytes
        change[min(b.last, len(graph.nodes)) + 1] -= b.bytes
    return max(accumulate(change))


def value_bytes(v: Value) -> int:
    """Bytes of a value whose shape is known."""
    return int(np.prod(v.shape, dtype=np.int64)) * TYPE_BYTES[v.dtype]


def _slices(graph: Graph) -> Slices:
    """Which inputs of concats are written in place. A concat takes part when that does not raise the lower bound."""
    users, makers = graph.users(), graph.makers()
    slices: Slices = {}
    live = _live(graph, _buffers(graph, slices))
    for node in graph.nodes:
        y = node.outputs[0]
        if node.op != "concat" or node.attrs["axis"] % len(y.shape) != len(y.shape) - 1 or 0 in y.shape:
            continue
        found, first = dict(slices), 0
        for v in node.inputs:
            maker = makers.get(v)
            slot = SLICERS.get(maker.op) if maker is not None else None
            if maker is not None and slot is not None and users[v] == [node] and v not in graph.outputs \
                    and (len(maker.inputs) <= slot or maker.inputs[slot] is None):
                found[v] = (y, first)
            first += v.shape[-1]
        if found != slices and (new := _live(graph, _buffers(graph, found))) <= live:
            slices, live = found, new
    return slices


def _buffers(graph: Graph, slices: Slices) -> list[Buffer]:
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
            if v in slices:
                whole = slices[v][0]
                owner[v] = owner.setdefault(whole, Buffer([whole], _aligned(whole), i, i))
            if v in owner:  # a slice, or what slices have begun
                owner[v].last = max(owner[v].last, last)
                continue
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
