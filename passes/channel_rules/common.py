"""What all rules are made of, and the rules of ops that leave channels where they are."""
from __future__ import annotations

import numpy as np

from ..graph import Node

MEETS = "different axes of channels meet"

def same(walk, node: Node) -> None:
    """The first output has the channels of the first input, on the same axis."""
    x, y = node.inputs[0], node.outputs[0]
    for m in walk.marked(x):
        walk.on_axis(y, m, walk.full(x, m))


def elementwise(walk, node: Node) -> None:
    """Operands broadcast as in numpy: where they meet, their channels become one; constants are cut along."""
    y = node.outputs[0]
    shape = walk.shapes[y]
    rank = len(shape)
    operands = [v for v in node.inputs if v is not None]
    axes = {a + rank - len(walk.shapes[v]) for v in operands if v.data is None for a in walk.marked(v)}
    if len(axes) != 1:
        return stay(walk, node, MEETS)
    axis = axes.pop()
    line = None
    for v in operands:
        a = axis - rank + len(walk.shapes[v])
        if v.data is None and a >= 0 and walk.shapes[v][a] == shape[axis]:
            other = walk.full(v, a)
            line = other if line is None else walk.unite(other, line)
    for v in operands:
        a = axis - rank + len(walk.shapes[v])
        if v.data is not None and a >= 0 and v.shape[a] == shape[axis]:
            walk.cut(v, a, line, node)
    walk.on_axis(y, axis, line)


def stay(walk, node: Node, why: str = "") -> None:
    """Whatever reaches this node keeps all its channels."""
    for v in node.inputs:
        if v is not None and v.data is None:
            walk.protect(walk.of(v), f"{node.op} ('{node.name or node.outputs[0].name}'): {why}")


def produce(walk, node: Node, w, axis: int, count: int) -> np.ndarray:
    line = walk.new(count)
    walk.made[node] = line
    walk.cut(w, axis, line, node, "out")
    return line


def numbers(walk, v) -> list[int] | None:
    """A static input as ints, None when it is absent or not known."""
    data = None if v is None else v.data if v.data is not None else walk.known.get(v)
    return None if data is None else [int(d) for d in np.ravel(data)]


def dropped(walk, node: Node, axes: set[int]) -> None:
    x = node.inputs[0]
    for m in walk.marked(x):
        walk.on_axis(node.outputs[0], m - sum(a < m for a in axes), walk.full(x, m))


def along(walk, node: Node) -> None:
    """softmax and the like: other axes than their own are carried."""
    x = node.inputs[0]
    axis = node.attrs.get("axis", 0 if node.op.startswith("arg") else -1) % len(walk.shapes[x])
    if axis in walk.marked(x):
        return stay(walk, node, "it compares channels")
    if node.op.startswith("arg") and not node.attrs.get("keepdims", 1):
        return dropped(walk, node, {axis})
    for y in node.outputs:
        walk.marks[y] = walk.of(x)


def pool(walk, node: Node) -> None:
    if image(walk, node):
        same(walk, node)


def image(walk, node: Node) -> bool:
    """Whether the input's channels lie on axis 1, where layers over images want them; if not, they stay."""
    good = set(walk.marked(node.inputs[0])) <= {1}
    if not good:
        stay(walk, node, "channels lie where it takes rows of an image")
    return good


def reduce(walk, node: Node) -> None:
    """Sums and means; over channels as well."""
    x = node.inputs[0]
    rank = len(walk.shapes[x])
    given = node.inputs[1] if len(node.inputs) > 1 else None
    told = numbers(walk, given)
    if given is not None and told is None:
        return stay(walk, node, "its axes are computed")
    axes = {a % rank for a in told or ()}
    if not axes and not node.attrs.get("noop_with_empty_axes", 0):
        axes = set(range(rank))
    if axes & set(walk.marked(x)):  # as in a norm: what is summed, or averaged, are the channels that stay
        if node.op in ("reduce_prod", "reduce_log_sum", "reduce_log_sum_exp"):
            return stay(walk, node, "it compares channels")
        return None
    if node.attrs.get("keepdims", 1):
        return same(walk, node)
    dropped(walk, node, axes)


def nothing(walk, node: Node) -> None:
    """shape and size follow the tensor by themselves."""
