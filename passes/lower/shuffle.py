"""Shuffle: concat, channel shuffle and split along the last axis become one op that moves every value once.

    split(reshape(transpose(reshape(concat(a, b), [.., g, c / g])), [.., c]))  ->  channel_shuffle(a, b, groups=g, sizes)

The concat in front and the split behind join it when nobody else reads what lies between.
"""
from __future__ import annotations

from ..graph import Graph, Node, Value
from .sink import RESHAPES


def shuffle(graph: Graph) -> None:
    users, makers = graph.users(), graph.makers()
    for node in list(graph.nodes):
        chain = _chain(node, users, makers, graph)
        if chain is None:
            continue
        first, last, groups = chain
        x, y = first.inputs[0], last.outputs[0]
        inputs, outputs, gone = [x], [y], [first, node]
        concat = makers.get(x)
        if concat is not None and concat.op == "concat" and _last(concat, x) and _private(x, users, graph):
            inputs, gone = list(concat.inputs), [*gone, concat]
        split = users[y][0] if _private(y, users, graph) else None
        if split is not None and split.op == "split" and _last(split, y):
            outputs, gone = split.outputs, [*gone, last]
            last = split
        graph.nodes[graph.nodes.index(last)] = Node(
            "channel_shuffle", inputs, outputs, {"groups": groups, "sizes": [v.shape[-1] for v in outputs]},
            node.name, node.scope)
        graph.nodes = [n for n in graph.nodes if n not in gone]
        users, makers = graph.users(), graph.makers()


def _chain(node: Node, users, makers, graph: Graph) -> tuple[Node, Node, int] | None:
    """(the reshape before, the reshape behind, groups) of a transpose that is a channel shuffle."""
    if node.op != "transpose" or len(node.attrs["perm"]) < 3:
        return None
    t, y = node.inputs[0], node.outputs[0]
    rank, perm = len(t.shape), list(node.attrs["perm"])
    first, last = makers.get(t), users[y][0] if _private(y, users, graph) else None
    if perm != [*range(rank - 2), rank - 1, rank - 2] or first is None or last is None:
        return None
    if first.op not in RESHAPES or last.op not in RESHAPES or not _private(t, users, graph):
        return None
    x, z = first.inputs[0], last.outputs[0]
    if tuple(x.shape) != tuple(z.shape) or len(x.shape) < 1 or x.shape[-1] != t.shape[-1] * t.shape[-2] or 0 in x.shape:
        return None
    return first, last, t.shape[-2]


def _private(v: Value, users, graph: Graph) -> bool:
    return len(users[v]) == 1 and v not in graph.outputs and v.data is None


def _last(node: Node, v: Value) -> bool:
    return node.attrs.get("axis", 0) % len(v.shape) == len(v.shape) - 1
