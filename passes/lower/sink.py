"""Sink transposes below the ops that do not mind; see layout.py.

A transpose `perm` gives t.shape[i] = x.shape[perm[i]]; an axis `a` of an op reading t is axis perm[a] of x. One walk
in running order is enough: a rewritten op reads x, and its transposed result is met again further down.
"""
from __future__ import annotations

import numpy as np

from .. import hashing
from ..graph import Graph, Node, Value
from .nhwc import Builder

UNARY = frozenset("""relu leaky_relu elu celu selu thresholded_relu clip hard_swish hard_sigmoid sigmoid tanh gelu
silu softplus softsign mish erf exp log sqrt reciprocal neg abs floor ceil round sign sin cos tan asin acos atan sinh
cosh asinh acosh atanh not is_nan is_inf bitwise_not cast identity dropout""".split())
NARY = frozenset("""add sub mul div pow mod min max sum mean prelu where equal greater less greater_or_equal
less_or_equal and or xor bitwise_and bitwise_or bitwise_xor""".split())
REDUCE = frozenset("""reduce_mean reduce_sum reduce_max reduce_min reduce_prod reduce_l1 reduce_l2 reduce_sum_square
reduce_log_sum reduce_log_sum_exp""".split())
AXIS = frozenset("softmax log_softmax cum_sum top_k split concat arg_max arg_min".split())
PER_AXIS = frozenset("slice pad tile resize".split())
RESHAPES = frozenset("reshape squeeze unsqueeze flatten".split())


def sink(graph: Graph) -> None:
    makers = graph.makers()
    moving = {n for n in graph.nodes if n.op == "transpose" and _moves_channels(n)}
    graph.meta["_names"] = {v.name for v in graph.values()}
    done: list[Node] = []
    for node in graph.nodes:
        hit = [v is not None and makers.get(v) in moving for v in node.inputs]
        if not any(hit):
            done.append(node)
            continue
        build = Builder(graph, node)
        if not _push(build, node, hit, makers, moving, graph):
            done.append(node)
            continue
        for n in build.nodes:
            makers.update(dict.fromkeys(n.outputs, n))
        done.extend(build.nodes)
    graph.nodes = done
    graph.prune()
    _merge(graph)
    graph.meta.pop("_names")


def _moves_channels(node: Node) -> bool:
    rank = len(node.attrs["perm"])
    return rank > 2 and list(node.attrs["perm"]) == [0, rank - 1, *range(1, rank - 1)]


def _push(build: Builder, node: Node, hit, makers, moving, graph: Graph) -> bool:
    first = makers[next(v for v, h in zip(node.inputs, hit) if h)]
    x, perm = first.inputs[0], list(first.attrs["perm"])
    if node.op == "transpose":
        results = [_transpose(build, x, [perm[p] for p in node.attrs["perm"]], moving)]
    elif node.op in RESHAPES:
        results = _reshape(build, node, x, perm, moving, graph)
    else:
        rule = next((f for ops, f in RULES if node.op in ops), None)
        results = rule and rule(build, node, x, perm, hit, makers)
        if results:
            results = [_transpose(build, y, p, moving) for y, p in results]
    if not results:
        return False
    for old, new in zip(node.outputs, results):
        if old in graph.outputs or new is x:
            build.nodes.append(Node("identity", [new], [old], {}, node.name, node.scope))
        else:  # the node that made `new` writes `old`, so names survive
            maker = next((n for n in build.nodes if new in n.outputs), None)
            if maker is None:
                build.nodes.append(Node("identity", [new], [old], {}, node.name, node.scope))
            else:
                maker.outputs = [old if v is new else v for v in maker.outputs]
                for n in build.nodes:
                    n.inputs = [old if v is new else v for v in n.inputs]
    for n in build.nodes:
        if n.op == "identity" and n.outputs[0] not in graph.outputs:
            graph.replace(n.outputs[0], n.inputs[0])
    build.nodes = [n for n in build.nodes if n.op != "identity" or n.outputs[0] in graph.outputs]
    return True


def _transpose(build: Builder, y: Value, perm, moving) -> Value:
    out = build.transpose(y, perm)
    if out is not y:
        moving.add(build.nodes[-1])
    return out


# --- one rule per kind of op: (builder, node, x, perm, hit, makers) -> [(result before the transpose, perm)] or None ---

def _unary(build, node, x, perm, hit, makers):
    attrs = dict(node.attrs)
    return [(build.op(node.op, x, *node.inputs[1:], **attrs), perm)]


def _quantize(build, node, x, perm, hit, makers):
    attrs = dict(node.attrs)
    if node.inputs[1].shape and np.prod(node.inputs[1].shape) > 1:
        attrs["axis"] = perm[attrs.get("axis", 1)]
    return [(build.op(node.op, x, *node.inputs[1:], **attrs), perm)]


def _dynamic_quantize(build, node, x, perm, hit, makers):
    codes, scale, zero = build.op(node.op, x, outputs=3)
    return [(codes, perm), (scale, []), (zero, [])]


def _same_order(build, inputs, perm, hit, makers):
    """All inputs in x's order of axes: transposes peeled off, constants permuted, others transposed back. None when
    that would move more data than it saves."""
    rank, size = len(perm), lambda v: int(np.prod(v.shape))  # noqa: E731
    gain = cost = 0
    for v, h in zip(inputs, hit):
        if v is None or v.data is not None or size(v) == 1:
            continue
        peel = h and list(makers[v].attrs["perm"]) == perm
        gain, cost = gain + peel * size(v), cost + (not peel) * size(v)
    if cost > gain:
        return None
    back = [perm.index(i) for i in range(rank)]
    out = []
    for v, h in zip(inputs, hit):
        if v is None or len(v.shape) == 0:
            out.append(v)
        elif h and list(makers[v].attrs["perm"]) == perm:
            out.append(makers[v].inputs[0])
        else:
            full = build.reshape(v, (1,) * (rank - len(v.shape)) + tuple(v.shape))
            out.append(build.transpose(full, back))
    return out


def _nary(build, node, x, perm, hit, makers):
    inputs = list(node.inputs)
    if len(node.outputs[0].shape) != len(perm) or node.op == "prelu" and not hit[0]:
        return None
    inputs = _same_order(build, inputs, perm, hit, makers)
    return inputs and [(build.op(node.op, *inputs, **node.attrs), perm)]


def _axis(build, node, x, perm, hit, makers):
    attrs, rank = dict(node.attrs), len(perm)
    inputs = list(node.inputs)
    if node.op == "concat":
        attrs["axis"] = perm[attrs["axis"] % rank]
        inputs = _same_order(build, inputs, perm, hit, makers)
        if inputs is None:
            return None
    elif node.op == "cum_sum":
        if inputs[1].data is None:
            return None
        inputs = [x, build.const(np.array(perm[int(inputs[1].data.reshape(-1)[0]) % rank], np.int64), "axis")]
    else:
        default = {"split": 0, "arg_max": 0, "arg_min": 0}.get(node.op, -1)
        attrs["axis"] = perm[attrs.get("axis", default) % rank]
        inputs[0] = x
    if node.op in ("arg_max", "arg_min") and not attrs.get("keepdims", 1):
        return [(build.op(node.op, *inputs, **attrs), _without(perm, [attrs["axis"]]))]
    ys = build.op(node.op, *inputs, outputs=len(node.outputs), **attrs)
    return [(y, perm) for y in (ys if len(node.outputs) > 1 else [ys])]


def _without(perm, gone):
    """perm of what is left when the source axes `gone` are removed."""
    left = sorted(p for p in perm if p not in gone)
    return [left.index(p) for p in perm if p not in gone]


def _reduce(build, node, x, perm, hit, makers):
    rank, axes = len(perm), node.inputs[1] if len(node.inputs) > 1 else None
    if axes is None or axes.data is None or axes.data.size == 0:
        return None
    gone = sorted(perm[int(a) % rank] for a in axes.data)
    y = build.op(node.op, x, build.const(np.array(gone, np.int64), "axes"), **node.attrs)
    return [(y, perm if node.attrs.get("keepdims", 1) else _without(perm, gone))]


def _per_axis(build, node, x, perm, hit, makers):
    """Ops whose constant inputs hold one entry per axis."""
    rank, c = len(perm), lambda a, like: build.const(np.asarray(a, like.dtype), "const")  # noqa: E731
    back = [perm.index(i) for i in range(rank)]  # entry i of x's order is entry back[i] of t's
    rest = node.inputs[1:]
    if any(v is not None and v.data is None and not (node.op == "pad" and i == 1) for i, v in enumerate(rest)) or not hit[0]:
        return None
    if node.op == "slice":
        starts, ends, *more = rest
        axes = more[0] if more else None
        old = [int(a) % rank for a in axes.data] if axes is not None else list(range(starts.data.size))
        new = build.const(np.array([perm[a] for a in old], np.int64), "axes")
        steps = more[1] if len(more) > 1 and more[1] is not None else build.const(np.ones(len(old), np.int64), "steps")
        return [(build.op("slice", x, starts, ends, new, steps), perm)]
    if node.op == "pad":
        axes = rest[2] if len(rest) > 2 else None
        if axes is not None:
            new = build.const(np.array([perm[int(a) % rank] for a in axes.data], np.int64), "axes")
            return [(build.op("pad", x, rest[0], rest[1], new, **node.attrs), perm)]
        p = rest[0].data.reshape(2, rank)[:, back].reshape(-1)
        return [(build.op("pad", x, c(p, p), *rest[1:2], **node.attrs), perm)]
    if node.op == "tile":
        return [(build.op("tile", x, c(rest[0].data[back], rest[0].data)), perm)]
    if node.attrs.get("axes") is not None:  # resize
        return None
    new = [None if v is None or v.data.size == 0 else
           c(v.data.reshape(2, rank)[:, back].reshape(-1) if i == 0 else v.data[back], v.data) for i, v in enumerate(rest)]
    return [(build.op("resize", x, *new, **node.attrs), perm)]


RULES = (
    (UNARY, _unary),
    (frozenset(["quantize_linear", "dequantize_linear"]), _quantize),
    (frozenset(["dynamic_quantize_linear"]), _dynamic_quantize),
    (NARY, _nary),
    (AXIS, _axis),
    (REDUCE, _reduce),
    (PER_AXIS, _per_axis),
)


# --- reshape ---------------------------------------------------------------------------------------------------

def _segments(a, b):
    """Split the shapes a and b (no ones in them) into the shortest pieces of equal product: [(axes of a, axes of b)]."""
    out, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        i0, j0, pa, pb = i, j, a[i], b[j]
        while pa != pb:
            if pa < pb:
                i += 1
                pa *= a[i]
            else:
                j += 1
                pb *= b[j]
        i, j = i + 1, j + 1
        out.append((list(range(i0, i)), list(range(j0, j))))
    return out


def _reshape(build: Builder, node: Node, x: Value, perm, moving, graph: Graph):
    """reshape(transpose(x)) -> transpose(reshape(transpose'(x))), where transpose' moves as little as possible."""
    t, r = [x.shape[p] for p in perm], list(node.outputs[0].shape)
    if 0 in t:
        return None
    source = [p for p in perm if x.shape[p] != 1]  # non-unit axes of t, as axes of x
    target = [i for i, d in enumerate(r) if d != 1]
    parts = [([source[i] for i in a], [target[j] for j in b])
             for a, b in _segments([x.shape[p] for p in source], [r[i] for i in target])]
    ordered = sorted(parts, key=lambda part: max(part[0]))
    first = [p for a, _ in ordered for p in a]
    ones = [i for i, d in enumerate(r) if d == 1]
    order = ones + [j for _, b in ordered for j in b]
    last = [order.index(i) for i in range(len(r))]
    moved = first != sorted(first)
    if moved and sorted(order[len(ones):]) == order[len(ones):]:  # nothing is gained: the data must move here
        return _into_columns(build, node, x, perm, graph)
    if moved:
        x = build.transpose(x, [i for i, d in enumerate(x.shape) if d == 1] + first)
    return [_transpose(build, build.reshape(x, [r[i] for i in order]), last, moving)]


def _into_columns(build: Builder, node: Node, x: Value, perm, graph: Graph):
    """flatten(transpose(x)) read only by linear layers (through unary ops): permute their weights' columns instead."""
    t, r = [x.shape[p] for p in perm], node.outputs[0].shape
    k, i = 1, len(t)
    while i > 0 and k < r[-1]:
        i -= 1
        k *= t[i]
    lead = [p for p in perm[:i] if x.shape[p] != 1]
    if k != r[-1] or lead != sorted(lead) or lead and max(lead) > min(perm[i:]):
        return None
    inner = [p - min(perm[i:]) for p in perm[i:]]
    if sorted(inner) != list(range(len(inner))):
        return None
    layers, todo, users = [], [node.outputs[0]], graph.users()
    while todo:
        v = todo.pop()
        if v in graph.outputs:
            return None
        for user in users[v]:
            if user.op in UNARY or user.op in ("quantize_linear", "dequantize_linear") and user.inputs[1].data.size == 1:
                todo.append(user.outputs[0])
            elif user.op == "linear" and user.inputs[0] is v and _columns(graph, user):
                layers.append(user)
            else:
                return None
    dims = t[i:]
    back = [inner.index(j) for j in range(len(inner))]
    for layer in layers:
        q = _columns(graph, layer)
        data = q.data.reshape(-1, *dims).transpose(0, *(b + 1 for b in back)).reshape(q.data.shape)
        order = np.arange(q.data.shape[1]).reshape(dims).transpose(back).ravel()
        new = Value(build.name(q.name), q.dtype, q.shape, np.ascontiguousarray(data), hashing.taken(q.meta, 1, order))
        if layer.inputs[1] is q:
            layer.inputs[1] = new
        else:
            dq = next(n for n in graph.nodes if layer.inputs[1] in n.outputs)
            dq.inputs = [new, *dq.inputs[1:]]
    return [build.reshape(x, r)]


def _columns(graph: Graph, layer: Node) -> Value | None:
    """The constant that holds a linear layer's weight: its own, or the int8 one behind a row-wise dequantize."""
    w = layer.inputs[1]
    if w.data is not None:
        return w
    dq = next((n for n in graph.nodes if w in n.outputs), None)
    if dq is None or dq.op != "dequantize_linear" or dq.inputs[0].data is None:
        return None
    one_reader = sum(w in n.inputs for n in graph.nodes) == 1
    rows = dq.inputs[1].data.size == 1 or dq.attrs.get("axis", 1) == 0
    return dq.inputs[0] if one_reader and rows else None


# --- at the end --------------------------------------------------------------------------------------------------

def _merge(graph: Graph) -> None:
    """Equal transposes of one value become one; those that move only ones become reshapes; reshape chains shrink."""
    seen: dict[tuple, Value] = {}
    kept = []
    makers = graph.makers()
    for node in graph.nodes:
        if node.op == "transpose":
            x, perm = node.inputs[0], list(node.attrs["perm"])
            key = (id(x), tuple(perm))
            if key in seen and node.outputs[0] not in graph.outputs:
                graph.replace(node.outputs[0], seen[key])
                continue
            seen[key] = node.outputs[0]
            real = [p for p in perm if x.shape[p] != 1]
            if real == sorted(real):
                build = Builder(graph, node)
                shape = build.const(np.array(node.outputs[0].shape, np.int64), "shape")
                node.op, node.inputs, node.attrs = "reshape", [x, shape], {}
        if node.op in RESHAPES:
            source = makers.get(node.inputs[0])
            if source is not None and source.op in RESHAPES:
                build = Builder(graph, node)
                shape = build.const(np.array(node.outputs[0].shape, np.int64), "shape")
                node.op, node.inputs, node.attrs = "reshape", [source.inputs[0], shape], {}
            if tuple(node.inputs[0].shape) == tuple(node.outputs[0].shape) and node.outputs[0] not in graph.outputs:
                graph.replace(node.outputs[0], node.inputs[0])
                continue
        kept.append(node)
    graph.nodes = kept
