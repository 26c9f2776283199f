"""einsum -> transpose, reshape, matmul: two operands at a time, from the left.

Labels of a pair are batch (both, needed later), contracted (both, not needed later), or of one side; what only one
operand has and nobody needs is summed first. A label twice in one term is that operand's diagonal.
"""
from __future__ import annotations

import numpy as np

from ..graph import Node


def write_out(build, node: Node) -> bool:
    terms, result = _terms(node)
    operands = [_diagonals(build, v, t) for v, t in zip(node.inputs, terms)]
    left = operands.pop(0)
    while operands:
        later = set(result).union(*(labels for _, labels in operands[1:]))
        left = _pair(build, left, operands.pop(0), later)
    x, labels = _sum(build, left, set(result))
    build.op("transpose", x, perm=[labels.index(c) for c in result], into=node.outputs[0])
    return True


def _terms(node: Node) -> tuple[list[str], str]:
    """Labels of every operand and of the result; the dimensions of "..." get letters of their own."""
    text = node.attrs["equation"].replace(" ", "")
    left, _, result = text.partition("->")
    terms = left.split(",")
    letters = [chr(c) for c in range(0x100, 0x140)]  # no equation has these
    wide = max(len(v.shape) - len(t.replace("...", "")) for v, t in zip(node.inputs, terms))
    if "->" not in text:  # what occurs once, in order
        once = sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1)
        result = ("..." if "..." in left else "") + "".join(once)
    full = []
    for v, t in zip(node.inputs, terms):
        own = len(v.shape) - len(t.replace("...", ""))
        full.append(t.replace("...", "".join(letters[wide - own:wide])))
    return full, result.replace("...", "".join(letters[:wide]))


def _diagonals(build, v, labels: str):
    """Without repeated labels: the last two axes [n, n] as one of n * n, of which every (n + 1)-th is taken."""
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            i, j = labels.index(c), labels.rindex(c)
            rest = [d for d in range(len(labels)) if d not in (i, j)]
            v = build.op("transpose", v, perm=[*rest, i, j])
            n, outer = v.shape[-1], list(v.shape[:-2])
            v = build.op("reshape", v, np.array([*outer, n * n]))
            v = build.op("slice", v, np.array([0]), np.array([n * n]), np.array([len(outer)]), np.array([n + 1]))
            labels = "".join(labels[d] for d in rest) + c
    return v, labels


def _sum(build, operand, needed: set):
    v, labels = operand
    gone = [i for i, c in enumerate(labels) if c not in needed]
    if gone:
        v = build.op("reduce_sum", v, np.array(gone), keepdims=0)
    return v, "".join(c for c in labels if c in needed)


def _pair(build, a, b, later: set):
    a, b = _sum(build, a, later | set(b[1])), _sum(build, b, later | set(a[1]))
    (x, p), (y, q) = a, b
    size = {c: max(x.shape[p.index(c)] if c in p else 1, y.shape[q.index(c)] if c in q else 1) for c in p + q}
    both = [c for c in p if c in q]
    batch, inner = [c for c in both if c in later], [c for c in both if c not in later]
    mine, other = [c for c in p if c not in q], [c for c in q if c not in p]
    def count(labels):
        return int(np.prod([size[c] for c in labels], dtype=np.int64))

    def matrix(v, labels, *groups):
        order = [c for g in groups for c in g]
        perm, full = [labels.index(c) for c in order], [size[c] for c in order]
        if perm != sorted(perm):
            v = build.op("transpose", v, perm=perm)
        if list(v.shape) != full:  # a 1 that is broadcast
            v = build.op("expand", v, np.array(full))
        flat = [count(g) for g in groups]
        return v if flat == full else build.op("reshape", v, np.array(flat))

    y = build.op("matmul", matrix(x, p, batch, mine, inner), matrix(y, q, batch, inner, other))
    labels = [*batch, *mine, *other]
    return build.op("reshape", y, np.array([size[c] for c in labels], np.int64)), "".join(labels)
