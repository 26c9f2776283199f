"""How each op carries channel marks: one rule per op in RULES, called with the walk of `groups.analyse` and the node.

A rule gives its outputs marks, unites channels that must go together, registers the constants to cut, and says (by an
edit) which constants and attributes hold channel counts. Marks lie on at most one axis of a value.
"""
from __future__ import annotations

from math import prod

import numpy as np

from .graph import Node
from .groups import new_constant

UNARY = [
    "abs", "neg", "sign", "floor", "ceil", "round", "exp", "log", "sqrt", "reciprocal", "erf", "sin", "cos", "tan", "tanh",
    "relu", "sigmoid", "silu", "softplus", "softsign", "mish", "hard_swish", "hard_sigmoid", "leaky_relu", "elu", "celu",
    "selu", "gelu", "thresholded_relu", "identity", "dropout", "cast", "not", "is_nan", "is_inf", "max_pool",
    "average_pool", "lp_pool", "global_average_pool", "global_max_pool", "global_lp_pool", "shrink", "bernoulli",
]
NARY = [
    "add", "sub", "mul", "div", "pow", "min", "max", "mod", "where", "equal", "less", "greater", "less_or_equal",
    "greater_or_equal", "and", "or", "xor", "prelu", "clip", "sum", "mean",
]
REDUCE = [
    "reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod", "reduce_l1", "reduce_l2", "reduce_sum_square",
    "reduce_log_sum", "reduce_log_sum_exp",
]


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
        return stay(walk, node, "different axes of channels meet")
    axis = axes.pop()
    line = None
    for v in operands:
        a = axis - rank + len(walk.shapes[v])
        if v.data is None and a >= 0 and walk.shapes[v][a] == shape[axis]:
            other = walk.full(v, a)
            why = f"they meet channels that must stay in {node.op} ('{node.name or y.name}')"
            line = other if line is None else walk.unite(other, line, why)
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


def conv(walk, node: Node) -> None:
    x, w = node.inputs[:2]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if w.data is None or bias is not None and bias.data is None:
        return stay(walk, node, "its weight is computed or quantized")
    line, group, (outs, ins) = walk.full(x, 1), node.attrs.get("group", 1), w.shape[:2]
    if group == 1:
        walk.cut(w, 1, line, node, "in")
        out = _produce(walk, node, w, 0, outs)
    elif group == len(line) and ins == 1:
        out = np.repeat(line, outs // group)
        walk.cut(w, 0, out, node, "depthwise")
        if line.any():
            walk.edits.append(_set_group(node, x))
    else:
        rows = line.reshape(group, ins)
        for row in rows[1:]:
            walk.unite(row, rows[0])
        walk.cut(w, 1, rows[0], node, "in")
        out = _produce(walk, node, w, 0, outs)
        rows = out.reshape(group, -1)
        for row in rows[1:]:
            walk.unite(row, rows[0])
    if bias is not None:
        walk.cut(bias, 0, out, node)
    walk.on_axis(node.outputs[0], 1, out)


def conv_transpose(walk, node: Node) -> None:
    x, w = node.inputs[:2]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    group = node.attrs.get("group", 1)
    line = walk.full(x, 1)
    depthwise = group > 1 and group == len(line) and w.shape[1] == 1
    if w.data is None or bias is not None and bias.data is None or group != 1 and not depthwise:
        return stay(walk, node, "its weight is computed, quantized or grouped")
    walk.cut(w, 0, line, node, "depthwise" if depthwise else "in")
    if depthwise and line.any():
        walk.edits.append(_set_group(node, x))
    out = line if depthwise else _produce(walk, node, w, 1, w.shape[1])
    if bias is not None:
        walk.cut(bias, 0, out, node)
    walk.on_axis(node.outputs[0], 1, out)


def _produce(walk, node: Node, w, axis: int, count: int) -> np.ndarray:
    line = walk.new(count)
    walk.made[node] = line
    walk.cut(w, axis, line, node, "out")
    return line


def _set_group(node: Node, x):
    def edit(graph, nodes, values, classes, lengths):
        nodes[node].attrs["group"] = lengths(x, 1)
    return edit


def linear(walk, node: Node) -> None:
    x, w, bias, residual = [*node.inputs, None, None][:4]
    if w.data is None or bias is not None and bias.data is None:
        return stay(walk, node, "its weight is computed or quantized")
    _product(walk, node, x, w, 1, 0)
    out = walk.made[node]
    if bias is not None:
        walk.cut(bias, 0, out, node)
    if residual is not None:
        walk.unite(walk.full(residual, len(walk.shapes[residual]) - 1), out)


def _product(walk, node: Node, x, w, in_axis: int, out_axis: int) -> None:
    """x [..., K] times a constant matrix."""
    last = len(walk.shapes[x]) - 1
    if any(a != last for a in walk.marked(x)):
        walk.protect(walk.of(x), f"{node.op} ('{node.name}') mixes another axis")
    walk.cut(w, in_axis, walk.full(x, last), node, "in")
    out = _produce(walk, node, w, out_axis, w.shape[out_axis])
    walk.on_axis(node.outputs[0], len(walk.shapes[node.outputs[0]]) - 1, out)


def matmul(walk, node: Node) -> None:
    a, b = node.inputs
    if b.data is None or b.data.ndim != 2 or a.data is not None or len(walk.shapes[a]) < 2:
        return stay(walk, node, "a product of two computed matrices")
    _product(walk, node, a, b, 0, 1)


def gather(walk, node: Node) -> None:
    x, at = node.inputs
    axis = node.attrs.get("axis", 0) % len(walk.shapes[x])
    y = node.outputs[0]
    if x.data is not None:
        if x.data.ndim == 2 and axis == 0 and x.data.dtype.kind == "f" and at.data is None:  # an embedding
            out = _produce(walk, node, x, 1, x.shape[1])
            walk.on_axis(y, len(walk.shapes[y]) - 1, out)
        elif at.data is None:
            walk.protect(walk.of(at), "they are used as indices")
        return
    marked = walk.marked(x)
    if at.data is None and walk.marked(at) or axis in marked:
        return stay(walk, node, "channels are picked by index")
    for m in marked:
        walk.on_axis(y, m if m < axis else m - 1 + len(walk.shapes[at]), walk.full(x, m))


def norm(walk, node: Node) -> None:
    """batch_norm and instance_norm: parameters per channel of axis 1."""
    if any(v.data is None for v in node.inputs[1:]):
        return stay(walk, node, "its parameters are computed")
    line = walk.full(node.inputs[0], 1)
    for i, v in enumerate(node.inputs[1:]):
        walk.cut(v, 0, line, node, "scale" if i == 0 else "other")
    same(walk, node)


def group_norm(walk, node: Node) -> None:
    line, count = walk.full(node.inputs[0], 1), node.attrs["num_groups"]
    rows = line.reshape(count, -1)
    for row in rows[1:]:
        walk.unite(row, rows[0])
    for v in node.inputs[1:]:
        if v.data is None:
            return stay(walk, node, "its parameters are computed")
        if v.shape[0] == len(line):
            walk.cut(v, 0, line, node)
    same(walk, node)


def layer_norm(walk, node: Node) -> None:
    x = node.inputs[0]
    rank = len(walk.shapes[x])
    for m in walk.marked(x):
        for v in node.inputs[1:]:
            if v is None or m < node.attrs.get("axis", -1) % rank:
                continue
            if v.data is None:
                return stay(walk, node, "its parameters are computed")
            a = m - rank + v.data.ndim
            if a >= 0 and v.shape[a] == walk.shapes[x][m]:
                walk.cut(v, a, walk.full(x, m), node)
    same(walk, node)


def along(walk, node: Node) -> None:
    """softmax and the like: other axes than their own are carried."""
    x = node.inputs[0]
    axis = node.attrs.get("axis", 0 if node.op.startswith("arg") else -1) % len(walk.shapes[x])
    if axis in walk.marked(x):
        return stay(walk, node, "it compares channels")
    if node.op.startswith("arg") and not node.attrs.get("keepdims", 1):
        return _dropped(walk, node, {axis})
    for y in node.outputs:
        walk.marks[y] = walk.of(x)


def reduce(walk, node: Node) -> None:
    x = node.inputs[0]
    rank = len(walk.shapes[x])
    given = node.inputs[1] if len(node.inputs) > 1 else None
    told = _numbers(walk, given)
    if given is not None and told is None:
        return stay(walk, node, "its axes are computed")
    axes = {a % rank for a in told or ()}
    if not axes and not node.attrs.get("noop_with_empty_axes", 0):
        axes = set(range(rank))
    if axes & set(walk.marked(x)):
        return stay(walk, node, "it sums over channels")
    if node.attrs.get("keepdims", 1):
        return same(walk, node)
    _dropped(walk, node, axes)


def _dropped(walk, node: Node, axes: set[int]) -> None:
    x = node.inputs[0]
    for m in walk.marked(x):
        walk.on_axis(node.outputs[0], m - sum(a < m for a in axes), walk.full(x, m))


def _numbers(walk, v) -> list[int] | None:
    """A static input as ints, None when it is absent or not known."""
    data = None if v is None else v.data if v.data is not None else walk.known.get(v)
    return None if data is None else [int(d) for d in np.ravel(data)]


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
    starts, ends, axes, steps = (_numbers(walk, node.inputs[i]) if i < len(node.inputs) else None for i in (1, 2, 3, 4))
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
        found = _block(before, after, m)
        if found is None:
            return stay(walk, node, "channels are mixed with other axes")
        (i0, i1), (j0, j1) = found
        shape = [1] * (i1 - i0)
        shape[m - i0] = before[m]
        marks = np.broadcast_to(walk.full(x, m).reshape(shape), before[i0:i1]).reshape(after[j0:j1])
        axis = j0 + _one_axis(walk, marks)
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
    def edit(graph, nodes, values, classes, lengths):
        new, count = nodes[maker or node], lengths(y, axis)
        data = np.array(new.inputs[index].data, copy=True)
        if count is not None and data[at] != -1:
            data[at] = count
            new_constant(graph, new, index, data)
    return edit


def _block(before, after, axis: int):
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


def _one_axis(walk, marks: np.ndarray) -> int:
    """The axis that keeps the marks; positions that differ only along the others become one class."""
    long = [a for a, n in enumerate(marks.shape) if n > 1]
    if not long:
        return 0
    first = {a: np.moveaxis(marks, a, 0).reshape(marks.shape[a], -1) for a in long}
    for a in long:
        if (first[a] == first[a][:, :1]).all():
            return a
    axis = long[0] if len(long) > 2 else max(long, key=lambda a: (marks.shape[a], a))
    for column in first[axis].T[1:]:
        walk.unite(column, first[axis][:, 0])
    return axis


def expand(walk, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    shift = len(walk.shapes[y]) - len(walk.shapes[x])
    for m in walk.marked(x):
        shape = node.inputs[1]
        if shape.data is None:
            return stay(walk, node, "its shape is computed")
        walk.on_axis(y, m + shift, walk.full(x, m))
        at = m + shift - (len(walk.shapes[y]) - shape.data.size)
        if at >= 0 and shape.data[at] != 1:
            def edit(graph, nodes, values, classes, lengths, m=m + shift, at=at):
                data = np.array(nodes[node].inputs[1].data, copy=True)
                data[at] = lengths(y, m)
                new_constant(graph, nodes[node], 1, data)
            walk.edits.append(edit)


def tile(walk, node: Node) -> None:
    repeats = _numbers(walk, node.inputs[1])
    if repeats is None:
        return stay(walk, node, "its repeats are computed")
    for m in walk.marked(node.inputs[0]):
        walk.on_axis(node.outputs[0], m, np.tile(walk.full(node.inputs[0], m), repeats[m]))


def pad(walk, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    rank = len(walk.shapes[x])
    pads, axes = _numbers(walk, node.inputs[1]), _numbers(walk, node.inputs[3] if len(node.inputs) > 3 else None)
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


def recurrent(walk, node: Node) -> None:
    """lstm, gru, rnn: the input's features are columns of W [directions, gates * hidden, features]."""
    x, w = node.inputs[:2]
    for v in node.inputs[2:]:
        if v is not None and v.data is None:
            walk.protect(walk.of(v), f"they are the state of {node.op} ('{node.name}')")
    last = len(walk.shapes[x]) - 1
    if w.data is None or walk.marked(x) != [last]:
        return walk.protect(walk.of(x), f"they reach {node.op} ('{node.name}')")
    walk.cut(w, 2, walk.full(x, last), node, "in")


def nothing(walk, node: Node) -> None:
    """shape and size follow the tensor by themselves."""


RULES = {
    **dict.fromkeys(UNARY, same), **dict.fromkeys(NARY, elementwise), **dict.fromkeys(REDUCE, reduce),
    **dict.fromkeys(("softmax", "log_softmax", "arg_max", "arg_min", "top_k"), along),
    **dict.fromkeys(("batch_norm", "instance_norm"), norm), **dict.fromkeys(("layer_norm", "rms_norm"), layer_norm),
    **dict.fromkeys(("reshape", "flatten", "squeeze", "unsqueeze"), reshape),
    **dict.fromkeys(("lstm", "gru", "rnn"), recurrent), **dict.fromkeys(("shape", "size"), nothing),
    "conv": conv, "conv_transpose": conv_transpose, "linear": linear, "matmul": matmul, "gather": gather,
    "group_norm": group_norm, "concat": concat, "split": split, "slice": slice_, "transpose": transpose, "expand": expand,
    "tile": tile, "pad": pad, "resize": resize, "depth_to_space": depth_to_space, "space_to_depth": space_to_depth,
}
