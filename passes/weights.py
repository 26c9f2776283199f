"""Small questions about weights that several passes ask."""
from __future__ import annotations

import numpy as np

from . import hashing
from .graph import Node, Value


def weight_of(node: Node) -> Value | None:
    """The float weight of a layer as a constant Value, None when it is computed or quantized.

    For a matmul either side may be the weight; a recurrent layer's is its input matrix (see `weights_of`).
    """
    if node.op == "gather":
        order: tuple[int, ...] = (0,)
    elif node.op == "matmul":
        order = (1, 0)
    else:
        order = (1,)
    for i in order:
        v = node.inputs[i] if i < len(node.inputs) else None
        if v is not None and v.data is not None and v.data.dtype.kind == "f" and v.data.ndim >= 2:
            return v
    return None


def weights_of(node: Node) -> list[Value]:
    """All float weight matrices of a layer: one, or W and R of a recurrent layer."""
    if node.op in ("lstm", "gru", "rnn"):
        return [v for v in node.inputs[1:3] if v is not None and v.data is not None]
    w = weight_of(node)
    return [] if w is None else [w]


def shares_values(value: Value) -> bool:
    """Whether elements are equal because they share a value, so that rows must not get different factors."""
    return any(value.meta.get(k) for k in ("codebook", "hashed"))


def distinct(data: np.ndarray, groups: int = 1) -> int:
    """The most distinct values in any of the equal groups of axis 0."""
    return max(len(np.unique(g)) for g in data.reshape(groups, -1))


def refresh_meta(value: Value) -> None:
    """Make `meta` true again after the data changed: the codebook's bits follow its distinct values, what is hashed no more is
    not called so."""
    how = value.meta.get("hashed")
    if how and hashing.buckets_of(value.data, how, bool(value.meta.get("sparse"))) is None:
        value.meta = {k: v for k, v in value.meta.items() if k != "hashed"}
    book = value.meta.get("codebook")
    if book is None:
        return
    groups = book.get("groups", 1) if value.shape[0] % book.get("groups", 1) == 0 else 1
    entries = distinct(value.data, groups)
    meta = {k: v for k, v in value.meta.items() if k != "codebook"}
    if entries <= 256:
        meta["codebook"] = {**book, "bits": max(1, (entries - 1).bit_length()), "groups": groups}
    value.meta = meta
