"""Channels through attention: products of two computed tensors, the attention op, and which axis keeps the marks where
heads are split off.

q, k and v lie as [.., heads, length, width]. Their channels go by width (the same places of every head; q's and k's
together, v's by themselves) or, where `analyse` was asked for heads, by whole heads (of q, k and v together).
"""
from __future__ import annotations

from math import sqrt

import numpy as np

from ..graph import Graph, Node, Value
from .common import MEETS, stay


def product(walk, node: Node) -> None:
    """a [.., M, K] @ b [.., K, N], both computed."""
    a, b = node.inputs
    rank = {v: len(walk.shapes[v]) for v in (a, b)}
    if min(rank.values()) < 2 or a.data is not None or b.data is not None:
        return stay(walk, node, "a product with a stack of constant matrices")
    walk.unite(walk.full(a, -1), walk.full(b, -2))
    found = {}
    for v, other, summed in ((a, b, -1), (b, a, -2)):
        for m in walk.marked(v):
            back = m - rank[v]
            if back == summed:
                continue
            found[back] = walk.full(v, m)
            if back < -2 and -back <= rank[other] and walk.shapes[other][back] == len(found[back]):
                walk.unite(found[back], walk.full(other, back))
    if len(found) > 1:
        return stay(walk, node, MEETS)
    for back, line in found.items():
        walk.on_axis(node.outputs[0], len(walk.shapes[node.outputs[0]]) + back, line)


def attention(walk, node: Node) -> None:
    """q, k, v [N, heads, length, width], or [N, length, heads * width]."""
    q, k, v, mask, *past = [*node.inputs, None][:max(4, len(node.inputs))]
    flat = len(walk.shapes[q]) == 3
    if any(t is not None for t in past) or len(node.outputs) > 1 or any(t.data is not None for t in (q, k, v)):
        return stay(walk, node, "it has a cache or several outputs")
    axes = {a for t in (q, k, v) for a in walk.marked(t)}
    if not (axes <= {2} if flat else axes <= {1} or axes <= {3}):
        return stay(walk, node, MEETS)
    counts = [node.attrs[f"{t}_num_heads"] if flat else walk.shapes[x][1] for t, x in zip(("q", "kv", "kv"), (q, k, v))]
    by_head = walk.heads if flat else axes == {1}
    lines = [_line(walk, t, n, flat, by_head) for t, n in zip((q, k, v), counts)]
    out = _heads(walk, lines, mask, node) if by_head else _width(walk, lines, q, counts[0], flat, node)
    y = node.outputs[0]
    if not flat:
        return walk.on_axis(y, 1 if by_head else 3, out)
    each = walk.shapes[v][2] // counts[2]
    walk.on_axis(y, 2, np.repeat(out, each) if by_head else np.tile(out, counts[0]))
    if by_head:
        def edit(graph, nodes, values, classes, lengths):
            for t, x, n in (("q", q, counts[0]), ("kv", k, counts[1])):
                nodes[node].attrs[f"{t}_num_heads"] = lengths(x, 2) * n // walk.shapes[x][2]
        walk.edits.append(edit)


def _line(walk, t: Value, count: int, flat: bool, by_head: bool) -> np.ndarray:
    """The marks of q, k or v, one for each head or for each place of a head."""
    if not flat:
        return walk.full(t, 1 if by_head else 3)
    rows = walk.full(t, 2).reshape(count, -1)
    rows = rows.T if by_head else rows
    for row in rows[1:]:
        walk.unite(row, rows[0])
    return rows[0]


def _heads(walk, lines: list, mask: Value | None, node: Node) -> np.ndarray:
    q, k, v = lines
    walk.unite(v, k)
    for column in q.reshape(len(k), -1).T:  # every head of keys serves as many of queries
        walk.unite(column, k)
    if mask is not None and len(walk.shapes[mask]) >= 3 and walk.shapes[mask][-3] == len(q) > 1:
        if mask.data is not None:
            walk.cut(mask, mask.data.ndim - 3, q, node)
        else:
            walk.unite(walk.full(mask, -3), q)
    return q


def _width(walk, lines: list, q: Value, heads: int, flat: bool, node: Node) -> np.ndarray:
    """Scores are scaled by the width that the model was trained with."""
    walk.unite(lines[0], lines[1])
    width = walk.shapes[q][-1] // (heads if flat else 1)

    def edit(graph, nodes, values, classes, lengths):
        if nodes[node].attrs.get("scale") is None:
            nodes[node].attrs["scale"] = 1 / sqrt(width)
    if lines[0].any():
        walk.edits.append(edit)
    return lines[2]


# --- which axis keeps the marks where heads are split off --------------------------------------------------------------


def kept_axes(graph: Graph, shapes: dict, heads: bool) -> dict[Node, int]:
    """{reshape: axis of its output} for every reshape that splits a row of channels into heads of q, k or v."""
    makers, found = graph.makers(), {}
    for node in graph.nodes:
        for v, axis in _operands(node, shapes):
            for maker, width in _back(v, axis, makers, shapes):
                pair = _split(shapes[maker.inputs[0]], shapes[maker.outputs[0]], width)
                if pair is not None:
                    found[maker] = pair[0] if heads else pair[1]
    return found


def _operands(node: Node, shapes: dict):
    """What attention reads, with the axis that may be the width of a head. Of a product's second operand both may be; the
    wrong one leads to no reshape that splits it."""
    if node.op == "attention" and len(shapes[node.inputs[0]]) == 4:
        yield from ((v, 3) for v in node.inputs[:3])
    if node.op == "matmul" and all(v.data is None and len(shapes[v]) >= 4 for v in node.inputs):
        a, b = node.inputs
        yield from ((a, len(shapes[a]) - 1), (b, len(shapes[b]) - 2), (b, len(shapes[b]) - 1))


def _back(v: Value, axis: int, makers: dict, shapes: dict):
    """The reshapes that an axis comes from, through ops that only move or scale it."""
    todo, seen = [(v, axis)], set()
    while todo:
        v, axis = todo.pop()
        maker = makers.get(v)
        if maker is None or (v, axis) in seen:
            continue
        seen.add((v, axis))
        if maker.op in ("reshape", "flatten"):
            yield maker, axis
        elif maker.op == "transpose":
            perm = maker.attrs.get("perm") or range(len(shapes[v]))[::-1]
            todo.append((maker.inputs[0], perm[axis]))
        elif maker.op not in ("matmul", "linear", "conv", "softmax", "attention"):
            back = len(shapes[v]) - axis  # axes in front of the width may come and go
            todo += [(x, len(shapes[x]) - back) for x in maker.inputs
                     if x is not None and x.data is None and len(shapes[x]) >= back]


def _split(before: tuple, after: tuple, width: int) -> tuple[int, int] | None:
    """(axis of heads, axis of width) of a reshape's output, None when it does not split heads off."""
    from .move import run_of
    for axis in range(len(before)):
        (_, _), (lo, hi) = run_of(before, after, axis) or ((0, 0), (0, 0))
        others = [a for a in range(lo, hi) if a != width and after[a] > 1]
        if lo <= width < hi and others:
            others = [a for a in others if after[a] != 3] or others if len(others) > 1 else others  # q, k and v in one
            return min(others, key=lambda a: (abs(a - width), a)), width
    return None
