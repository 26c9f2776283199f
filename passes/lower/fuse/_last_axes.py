"""Helper of the normalisations: which axes a reduction takes."""
from __future__ import annotations

from ...graph import Value


def last_axes(x: Value, axes: Value) -> int | None:
    """The negative axis from which on all axes are reduced; None when they are others, or x's rank is not known."""
    if x.shape is None:
        return None
    rank = len(x.shape)
    have = sorted(int(a) % rank for a in axes.data.reshape(-1))
    return -len(have) if have and have == list(range(rank - len(have), rank)) else None
