"""Channels of layers with weights: new ones are made here, and weights are cut."""
from __future__ import annotations

import numpy as np

from ..graph import Node
from ..groups import new_constant
from .attention import product
from .common import image, produce, same, stay


def conv(walk, node: Node) -> None:
    x, w = node.inputs[:2]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if w.data is None or bias is not None and bias.data is None:
        return stay(walk, node, "its weight is computed or quantized")
    image(walk, node)
    line, group, (outs, ins) = walk.full(x, 1), node.attrs.get("group", 1), w.shape[:2]
    if group == 1:
        walk.cut(w, 1, line, node, "in")
        out = produce(walk, node, w, 0, outs)
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
        out = produce(walk, node, w, 0, outs)
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
    image(walk, node)
    walk.cut(w, 0, line, node, "depthwise" if depthwise else "in")
    if depthwise and line.any():
        walk.edits.append(_set_group(node, x))
    out = line if depthwise else produce(walk, node, w, 1, w.shape[1])
    if bias is not None:
        walk.cut(bias, 0, out, node)
    walk.on_axis(node.outputs[0], 1, out)


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
    out = produce(walk, node, w, out_axis, w.shape[out_axis])
    walk.on_axis(node.outputs[0], len(walk.shapes[node.outputs[0]]) - 1, out)


def matmul(walk, node: Node) -> None:
    a, b = node.inputs
    if b.data is None or b.data.ndim != 2 or a.data is not None or len(walk.shapes[a]) < 2:
        return product(walk, node)
    _product(walk, node, a, b, 0, 1)


def gather(walk, node: Node) -> None:
    x, at = node.inputs
    axis = node.attrs.get("axis", 0) % len(walk.shapes[x])
    y = node.outputs[0]
    if x.data is not None:
        if x.data.ndim == 2 and axis == 0 and x.data.dtype.kind == "f" and at.data is None:  # an embedding
            out = produce(walk, node, x, 1, x.shape[1])
            walk.on_axis(y, len(walk.shapes[y]) - 1, out)
        elif at.data is None:
            walk.protect(walk.of(at), "they are used as indices")
        return
    marked = walk.marked(x)
    if axis in marked and at.data is not None and at.data.ndim == 1:
        return _picked(walk, node, axis)
    if at.data is None and walk.marked(at) or axis in marked:
        return stay(walk, node, "channels are picked by index")
    for m in marked:
        walk.on_axis(y, m if m < axis else m - 1 + len(walk.shapes[at]), walk.full(x, m))


def _picked(walk, node: Node, axis: int) -> None:
    """Channels in an order of their own, some perhaps several times: the numbers of those that stay change."""
    x, at = node.inputs
    before = walk.full(x, axis)
    chosen = at.data % len(before)
    walk.on_axis(node.outputs[0], axis, before[chosen])

    def edit(graph, nodes, values, classes, lengths):
        stays = ~np.isin(walk.roots(before), classes)
        new_constant(graph, nodes[node], 1, (np.cumsum(stays) - 1)[chosen[stays[chosen]]].astype(at.data.dtype))
    walk.edits.append(edit)


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


def recurrent(walk, node: Node) -> None:
    """lstm, gru, rnn: W [directions, gates * hidden, features], R [directions, gates * hidden, hidden]. A hidden unit is one
    row of every gate in all directions, and a column of R."""
    x, w, r, b, _, *states = [*node.inputs, None, None][:max(5, len(node.inputs))]
    if any(v is not None and v.data is None for v in (w, r, b)):
        return stay(walk, node, "its weights are computed or quantized")
    last, hidden = len(walk.shapes[x]) - 1, walk.new(r.shape[2])
    if any(a != last for a in walk.marked(x)):
        walk.protect(walk.of(x), f"{node.op} ('{node.name}') reads another axis")
    walk.made[node] = hidden
    gates = np.tile(hidden, w.shape[1] // len(hidden))
    walk.cut(w, 2, walk.full(x, last), node, "in")
    walk.cut(w, 1, gates, node, "out")
    walk.cut(r, 1, gates, node, "out")
    walk.cut(r, 2, hidden, node, "in")
    if b is not None:
        walk.cut(b, 1, np.tile(gates, 2), node)
    for v in states:
        if v is None:
            continue
        if v.data is None:
            walk.unite(walk.full(v, -1), hidden)
        else:
            walk.cut(v, v.data.ndim - 1, np.resize(hidden, v.shape[-1]), node)  # peepholes: three numbers for a unit
    for y in node.outputs:
        walk.on_axis(y, len(walk.shapes[y]) - 1, hidden)
    if "hidden_size" in node.attrs:
        def edit(graph, nodes, values, classes, lengths):
            nodes[node].attrs["hidden_size"] = nodes[node].inputs[2].shape[2]
        walk.edits.append(edit)
