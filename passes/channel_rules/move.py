"""Channels of ops that move data: joined, split, flattened, permuted, padded, resized."""
from __future__ import annotations

from math import prod

import numpy as np

from ..graph import Node
from ..groups import new_constant
from .common import numbers, stay


def concat(walk, node: Node) -> None:
    y = node.outputs[0]
    rank = len(walk.shapes[y])
    axis = node.attrs["axis"] % rank
    axes = {a for v in node.inputs if v.data is None for a in walk.marked(v)}
    if axes == {axis}:
        lines = [np.zeros(v.shape[axis], np.int64) if v.data is not None else walk.full(v, axis) for v in node.inputs]
        return walk.on_axis(y, axis, np.concatenate(lines))
    if len(axes) != 1:
        return stay(walk, node, "different axes of channels meet")
    m = axes.pop()
    line = None
    for v in node.inputs:
        if v.data is None:
            line = walk.full(v, m) if line is None else walk.unite(walk.full(v, m), line)
    for v in node.inputs:
        if v.data is not None:
            walk.cut(v, m, line, node)
    walk.on_axis(y, m, line)


def split(walk, node: Node) -> None:
    x = node.inputs[0]
    axis = node.attrs.get("axis", 0) % len(walk.shapes[x])
    for m in walk.marked(x):
        line, start = walk.full(x, m), 0
        for y in node.outputs:
            n = walk.shapes[y][m]
            walk.on_axis(y, m, line[start:start + n] if m == axis else line)
            start += n
        if m == axis:
            def edit(graph, nodes, values, classes, lengths):
                new = nodes[node]
                new.inputs = new.inputs[:1] + [None]
                new.attrs.pop("num_outputs", None)
                new_constant(graph, new, 1, np.array([lengths(y, axis) for y in node.outputs], np.int64))
            walk.edits.append(edit)


def slice_(walk, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    rank = len(walk.shapes[x])
    starts, ends, axes, steps = (numbers(walk, node.inputs[i]) if i < len(node.inputs) else None for i in (1, 2, 3, 4))
    constant = all(v is None or v.data is not None for v in node.inputs[1:])
    if starts is None or ends is None or not constant:
        return stay(walk, node, "its bounds are computed")
    axes = list(range(len(starts))) if axes is None else [a % rank for a in axes]
    steps = steps or [1] * len(starts)
    for m in walk.marked(x):
        line = walk.full(x, m)
        for i, axis in enumerate(axes):
            if axis != m:
                continue
            if steps[i] != 1:
                return stay(walk, node, "it takes every other channel")
            lo, hi, _ = slice(starts[i], ends[i]).indices(len(line))
            before, inside = line[:lo], line[lo:hi]

            def edit(graph, nodes, values, classes, lengths, i=i, before=before, inside=inside):
                first = int((~np.isin(walk.roots(before), classes)).sum())
                new = nodes[node]
                for index, number in ((1, first), (2, first + int((~np.isin(walk.roots(inside), classes)).sum()))):
                    data = np.array(new.inputs[index].data, copy=True)
                    data[i] = number
                    new_constant(graph, new, index, data)
            walk.edits.append(edit)
            line = inside
        walk.on_axis(y, m, line)


def transpose(walk, node: Node) -> None:
    x = node.inputs[0]
    perm = list(node.attrs.get("perm") or range(len(walk.shapes[x]))[::-1])
    for m in walk.marked(x):
        walk.on_axis(node.outputs[0], perm.index(m), walk.full(x, m))


def reshape(walk, node: Node) -> None:
    """reshape, flatten, squeeze, unsqueeze: the run of axes that holds the marked one is rearranged in memory order."""
    x, y = node.inputs[0], node.outputs[0]
    before, after = walk.shapes[x], walk.shapes[y]
    for m in walk.marked(x):
        found = run_of(before, after, m)
        if found is None:
            return stay(walk, node, "channels are mixed with other axes")
        (i0, i1), (j0, j1) = found
        shape = [1] * (i1 - i0)
        shape[m - i0] = before[m]
        marks = np.broadcast_to(walk.full(x, m).reshape(shape), before[i0:i1]).reshape(after[j0:j1])
        wanted = walk.kept_axes.get(node, -1)
        axis = j0 + _one_axis(walk, marks, wanted - j0 if j0 <= wanted < j1 else None)
        walk.on_axis(y, axis, np.moveaxis(marks, axis - j0, 0).reshape(after[axis], -1)[:, 0])
        if node.op != "reshape":
            continue
        target = _target(walk, node.inputs[1], axis)
        if target is None:
            return stay(walk, node, "its shape is computed")
        walk.edits.append(_reshape_edit(node, y, axis, *target))


def _target(walk, shape, axis: int):
    """Where the number for `axis` of a reshape's shape is written: (node, input, index); node None: in the reshape itself."""
    if shape.data is not None:
        return None, 1, axis
    maker = walk.makers.get(shape)
    if maker is None or maker.op != "concat":
        return None
    at = 0
    for i, piece in enumerate(maker.inputs):
        n = prod(walk.shapes[piece])
        if at <= axis < at + n:
            return (maker, i, axis - at) if piece.data is not None else None
        at += n
    return None


def _reshape_edit(node: Node, y, axis: int, maker, index: int, at: int):
    """The number at `at` becomes the length of an axis of y."""
    def edit(graph, nodes, values, classes, lengths):
        new, count = nodes[maker or node], lengths(y, axis)
        data = np.array(new.inputs[index].data, copy=True)
        if count is not None and data[at] != -1:
            data[at] = count
            new_constant(graph, new, index, data)
    return edit


def run_of(before, after, axis: int):
    """The smallest runs of axes, one before and one after a reshape, that hold the same elements and `axis`."""
    i = j = 0
    while i < len(before) and j < len(after):
        i0, j0, a, b = i, j, before[i], after[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b and i < len(before):
                a, i = a * before[i], i + 1
            elif b < a and j < len(after):
                b, j = b * after[j], j + 1
            else:
                return None
        if i0 <= axis < i:
            return (i0, i), (j0, j)
    return None


def _one_axis(walk, marks: np.ndarray, wanted: int | None = None) -> int:
    """The axis that keeps the marks; positions that differ only along the others become one class."""
    long = [a for a, n in enumerate(marks.shape) if n > 1]
    if not long:
        return 0
    first = {a: np.moveaxis(marks, a, 0).reshape(marks.shape[a], -1) for a in long}
    for a in long if wanted is None else ():
        if (first[a] == first[a][:, :1]).all():
            return a
    axis = wanted if wanted in long else long[0] if len(long) > 2 else max(long, key=lambda a: (marks.shape[a], a))
    for column in first[axis].T[1:]:
        walk.unite(column, first[axis][:, 0])
    return axis


def expand(walk, node: Node) -> None:
    """A parameter that is expanded (a class token, over the batch) has channels along its last axis: they go with what they
    meet."""
    x, y = node.inputs[0], node.outputs[0]
    if x.data is not None:
        if x.data.dtype.kind != "f" or not x.data.ndim or x.shape[-1] == 1:
            return None
        line = walk.new(x.shape[-1])
        walk.cut(x, x.data.ndim - 1, line, node)
        walk.on_axis(x, x.data.ndim - 1, line)
    shift = len(walk.shapes[y]) - len(walk.shapes[x])
    told = numbers(walk, node.inputs[1])
    for m in walk.marked(x):
        at = m + shift - (len(walk.shapes[y]) - walk.shapes[node.inputs[1]][0])
        walk.on_axis(y, m + shift, walk.full(x, m))
        if at < 0 or told is not None and told[at] == 1:  # as long as it is
            continue
        target = _target(walk, node.inputs[1], at)
        if target is None:
            return stay(walk, node, "its shape is computed")
        walk.edits.append(_reshape_edit(node, y, m + shift, *target))


def tile(walk, node: Node) -> None:
    repeats = numbers(walk, node.inputs[1])
    if repeats is None:
        return stay(walk, node, "its repeats are computed")
    for m in walk.marked(node.inputs[0]):
        walk.on_axis(node.outputs[0], m, np.tile(walk.full(node.inputs[0], m), repeats[m]))


def pad(walk, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    rank = len(walk.shapes[x])
    pads, axes = numbers(walk, node.inputs[1]), numbers(walk, node.inputs[3] if len(node.inputs) > 3 else None)
    if pads is None:
        return stay(walk, node, "its pads are computed")
    axes = list(range(rank)) if axes is None else [a % rank for a in axes]
    for m in walk.marked(x):
        line = walk.full(x, m)
        if m in axes:
            i = axes.index(m)
            lo, hi = pads[i], pads[i + len(axes)]
            if (lo or hi) and (min(lo, hi) < 0 or node.attrs.get("mode", "constant") != "constant"):
                return stay(walk, node, "it pads channels")
            line = np.pad(line, (lo, hi))
        walk.on_axis(y, m, line)


def resize(walk, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    rank = len(walk.shapes[x])
    axes = [a % rank for a in node.attrs.get("axes") or range(rank)]
    sizes = node.inputs[3] if len(node.inputs) > 3 else None
    for m in walk.marked(x):
        if walk.shapes[x][m] != walk.shapes[y][m] or sizes is not None and m in axes and sizes.data is None:
            return stay(walk, node, "its sizes are computed")
        walk.on_axis(y, m, walk.full(x, m))
        if sizes is not None and sizes.data.size and m in axes:
            def edit(graph, nodes, values, classes, lengths, m=m):
                data = np.array(nodes[node].inputs[3].data, copy=True)
                data[axes.index(m)] = lengths(y, m)
                new_constant(graph, nodes[node], 3, data)
            walk.edits.append(edit)


def depth_to_space(walk, node: Node) -> None:
    x, square = node.inputs[0], node.attrs["blocksize"] ** 2
    if walk.marked(x) != [1]:
        return stay(walk, node, "it moves channels into the image")
    line = walk.full(x, 1)
    rows = line.reshape(square, -1) if node.attrs.get("mode", "DCR") == "DCR" else line.reshape(-1, square).T
    for row in rows[1:]:
        walk.unite(row, rows[0])
    walk.on_axis(node.outputs[0], 1, rows[0])


def space_to_depth(walk, node: Node) -> None:
    x = node.inputs[0]
    if walk.marked(x) != [1]:
        return stay(walk, node, "it moves the image into channels")
    walk.on_axis(node.outputs[0], 1, np.tile(walk.full(x, 1), node.attrs["blocksize"] ** 2))
