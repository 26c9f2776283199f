"""Take parts of a graph out: what read a part's result reads what went into it."""
from __future__ import annotations

from collections.abc import Sequence

from .graph import Graph, Node, Value


def bypass(graph: Graph, pairs: Sequence[tuple[Value, Value]]) -> Graph:
    """A copy in which every (before, after) is skipped. Of pairs inside one another or in a row all go. Outputs keep their
    names."""
    copy = graph.copy()
    new = dict(zip(graph.values(), copy.values()))
    order = {v: i for i, n in enumerate(graph.nodes) for v in n.outputs}
    for before, after in sorted(pairs, key=lambda p: -order[p[1]]):
        old, stays = new[after], new[before]
        if old not in copy.makers():
            continue  # it was inside another part
        name = old.name if old in copy.outputs else ""
        copy.replace(old, stays)
        copy.prune()
        if name and stays in copy.inputs:
            out = Value(name, stays.dtype, stays.shape)
            copy.outputs = [out if v is stays else v for v in copy.outputs]
            copy.nodes.append(Node("identity", [stays], [out], {}, copy.fresh("keep")))
        elif name and all(u.name != name for u in copy.values()):
            stays.name = name
    return copy
