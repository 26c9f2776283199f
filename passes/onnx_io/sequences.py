"""Sequences of tensors, as torch's split and chunk are exported: followed while importing, none is left in the Graph.

In the reader's environment a sequence is a Python list of Values. Each rule gives the new Value or list, or None when
lengths or positions are not known.
"""
from __future__ import annotations

import numpy as np

from .dims import dim, parse


def construct(r, n, ins, attrs):
    return list(ins)


def empty(r, n, ins, attrs):
    return []


def split(r, n, ins, attrs):
    """SplitToSequence: pieces of one size (the last may be smaller), of given sizes, or of 1 each."""
    x, sizes = ins[0], ins[1] if len(ins) > 1 else None
    if x.shape is None:
        return None
    axis, keep = attrs.get("axis", 0) % len(x.shape), attrs.get("keepdims", 1)
    whole, given = x.shape[axis], None if sizes is None else r.numbers(sizes)
    if not isinstance(whole, int) or sizes is not None and given is None:
        return None
    if given is None or given.ndim == 0:
        each = 1 if given is None else int(given[()])
        parts = [min(each, whole - i) for i in range(0, whole, each)]
    else:
        parts = [int(e) for e in given]
    types = [(x.dtype, tuple(p if i == axis else d for i, d in enumerate(x.shape))) for p in parts]
    name = n.name or n.output[0]
    pieces = r.emit("split", [x, r.constant(np.array(parts, np.int64), f"{name}.split")], {"axis": axis}, types, name,
                    r.scope(n), [f"{n.output[0]}_{i}" for i in range(len(parts))])
    if sizes is None and not keep:
        axes = r.constant(np.array([axis], np.int64), f"{name}.axes")
        pieces = [r.emit("squeeze", [p, axes], {}, [(p.dtype, tuple(d for i, d in enumerate(p.shape) if i != axis))], name)[0]
                  for p in pieces]
    return pieces


def at(r, n, ins, attrs):
    index = r.ints(ins[1])
    return None if index is None else ins[0][int(index[0])]


def length(r, n, ins, attrs):
    return r.constant(np.array(len(ins[0]), np.int64), n.output[0])


def insert(r, n, ins, attrs):
    where = r.ints(ins[2]) if len(ins) > 2 and ins[2] is not None else [len(ins[0])]
    if where is None:
        return None
    out = list(ins[0])
    out.insert(int(where[0]) if where[0] >= 0 else len(out) + int(where[0]), ins[1])
    return out


def erase(r, n, ins, attrs):
    where = r.ints(ins[1]) if len(ins) > 1 and ins[1] is not None else [-1]
    if where is None:
        return None
    out = list(ins[0])
    del out[int(where[0])]
    return out


def concat(r, n, ins, attrs):
    """ConcatFromSequence, along an axis or (new_axis) a new one."""
    parts, axis, name = ins[0], attrs["axis"], n.name or n.output[0]
    if any(p.shape is None for p in parts):
        return None
    if attrs.get("new_axis", 0):
        axis %= len(parts[0].shape) + 1
        axes = r.constant(np.array([axis], np.int64), f"{name}.axes")
        parts = [r.emit("unsqueeze", [p, axes], {}, [(p.dtype, (*p.shape[:axis], 1, *p.shape[axis:]))], name)[0] for p in parts]
    axis %= len(parts[0].shape)
    total = parse(0)
    for p in parts:
        total = parse(p.shape[axis]) + total
    shape = tuple(dim(total) if i == axis else d for i, d in enumerate(parts[0].shape))
    return r.emit("concat", parts, {"axis": axis}, [(parts[0].dtype, shape)], name, r.scope(n), [n.output[0]])[0]


RULES = {
    "SequenceConstruct": construct,
    "SequenceEmpty": empty,
    "SplitToSequence": split,
    "SequenceAt": at,
    "SequenceLength": length,
    "SequenceInsert": insert,
    "SequenceErase": erase,
    "ConcatFromSequence": concat,
}
