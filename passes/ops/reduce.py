"""Ops along axes: reductions, softmax, sorting, cumulative sums."""
from __future__ import annotations

import torch

from . import ints, op
from .math import wide


def _axes(x, axes, noop):
    """The axes to reduce: all when none are given (or none, when noop_with_empty_axes says so)."""
    axes = [] if axes is None else ints(axes)
    if not axes:
        return [] if noop else list(range(x.ndim))
    return [a % x.ndim for a in axes]


def _reduction(name, fn, empty=0.0, domain=lambda x: x, before=lambda x: x, after=lambda x: x):
    """A row reduce_*: `fn(x, axes, keepdims)`, `empty` for what has no elements; before and after also happen when
    nothing is reduced. Integers are computed in int64 or float64 and cut back."""
    def meaning(x, axes=None, keepdims=1, noop_with_empty_axes=0):
        dims = _axes(x, axes, noop_with_empty_axes)
        y = before(x)
        if dims and any(x.shape[d] == 0 for d in dims):
            shape = [1 if i in dims else n for i, n in enumerate(x.shape) if keepdims or i not in dims]
            value = empty
            if not x.is_floating_point() and abs(empty) == float("inf"):
                kind = torch.iinfo(x.dtype) if x.dtype != torch.bool else None
                value = (empty > 0) if kind is None else kind.max if empty > 0 else kind.min
            y = torch.full(shape, value, dtype=y.dtype, device=x.device)
        elif dims:
            y = fn(y, dims, bool(keepdims))
        y = after(y)
        return y if y.dtype == x.dtype else y.to(x.dtype)
    op(name, example=lambda r: ([domain(r(2, 3, 4)).astype("float32"), [0, 2]], {"keepdims": 0}), static=(1,))(wide(meaning))


def _real(x):
    return x if x.is_floating_point() else x.to(torch.float64)


def _exact(x):
    return x if x.is_floating_point() else x.to(torch.int64)


def _prod(x, dims, keep):
    for d in sorted(dims, reverse=True):
        x = x.prod(d, keepdim=keep)
    return x


def _extreme(fn):
    return lambda x, dims, keep: fn(x.to(torch.uint8) if x.dtype == torch.bool else x, dims, keepdim=keep)


def _log(x):
    return x.log()


_reduction("reduce_sum", lambda x, d, keep: x.sum(d, keepdim=keep), before=_exact)
_reduction("reduce_mean", lambda x, d, keep: x.mean(d, keepdim=keep), before=_real, empty=float("nan"))
_reduction("reduce_max", _extreme(torch.amax), empty=float("-inf"))
_reduction("reduce_min", _extreme(torch.amin), empty=float("inf"))
_reduction("reduce_prod", _prod, before=_exact, empty=1.0)
_reduction("reduce_l1", lambda x, d, keep: x.sum(d, keepdim=keep), before=lambda x: _exact(x).abs())
_reduction("reduce_l2", lambda x, d, keep: torch.linalg.vector_norm(x, 2, d, keepdim=keep), before=_real,
           after=lambda y: y.abs())
_reduction("reduce_sum_square", lambda x, d, keep: x.sum(d, keepdim=keep), before=lambda x: _exact(x) * _exact(x))
_reduction("reduce_log_sum", lambda x, d, keep: x.sum(d, keepdim=keep), before=_real, after=_log,
           domain=lambda x: abs(x) + 0.1)
_reduction("reduce_log_sum_exp", lambda x, d, keep: torch.logsumexp(x, d, keepdim=keep), before=_real, empty=float("-inf"))


@op("softmax", example=lambda r: ([r(2, 3, 4)], {"axis": 1}))
def softmax(x, axis=-1):
    return x.softmax(axis)


@op("log_softmax", example=lambda r: ([r(2, 3, 4)], {"axis": 1}))
def log_softmax(x, axis=-1):
    return x.log_softmax(axis)


def _arg(name, fn):
    def meaning(x, axis=0, keepdims=1, select_last_index=0):
        y = fn(x.flip(axis) if select_last_index else x, axis, bool(keepdims))
        return x.shape[axis] - 1 - y if select_last_index else y
    op(name, example=lambda r: ([r(2, 3, 4)], {"axis": 1, "keepdims": 0}))(wide(meaning))


_arg("arg_max", lambda x, a, keep: _first(x, a, keep, True))
_arg("arg_min", lambda x, a, keep: _first(x, a, keep, False))


def _first(x, axis, keep, largest):
    best = (x.amax if largest else x.amin)(axis, keepdim=True)
    place = torch.arange(x.shape[axis], device=x.device).reshape(-1, *[1] * (x.ndim - 1 - axis % x.ndim))
    at = torch.where(x == best, place, x.shape[axis]).amin(axis, keepdim=keep)
    return at.clamp(max=x.shape[axis] - 1)


@op("top_k", example=lambda r: ([r(2, 6, 3), [4]], {"axis": 1}), static=(1,))
def top_k(x, k, axis=-1, largest=1, sorted=1):
    """outputs: the k largest (or smallest) along `axis` in order, and their indices; of equals the first comes first."""
    y, at = (x.to(torch.int64) if x.dtype in (torch.uint16, torch.uint32, torch.uint64) else x).sort(
        dim=axis, descending=bool(largest), stable=True)
    return y.narrow(axis, 0, ints(k)[0]).to(x.dtype), at.narrow(axis, 0, ints(k)[0])


@op("cum_sum", example=lambda r: ([r(2, 5), 1], {"exclusive": 1, "reverse": 1}), static=(1,))
@wide
def cum_sum(x, axis, exclusive=0, reverse=0):
    """Sums of all elements up to each along `axis`: without itself (exclusive), from the end (reverse)."""
    a = ints(axis)[0]
    y = x.flip(a) if reverse else x
    y = y.cumsum(a, dtype=x.dtype)
    if exclusive:
        y = torch.cat([torch.zeros_like(y.narrow(a, 0, 1)), y.narrow(a, 0, y.shape[a] - 1)], a)
    return y.flip(a) if reverse else y
