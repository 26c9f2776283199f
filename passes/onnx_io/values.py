"""Shape arithmetic: the values of small integer tensors, whose entries may be expressions of named dimensions.

Arrays here are numpy object arrays of ints and `dims.Poly`. `evaluate` gives None when it cannot tell.
"""
from __future__ import annotations

import numpy as np

from .dims import Expr, Poly, Unknown, divide, parse, product, same

LIMIT = 256  # elements; shapes are short


def known(data: np.ndarray) -> np.ndarray:
    """An integer (or bool) constant as an object array."""
    out = np.empty(data.shape, dtype=object)
    out[...] = data.astype(object) if data.dtype != bool else data.astype(int).astype(object)
    return out


def numbers(array: np.ndarray, dtype: str) -> np.ndarray | None:
    """The array as a plain one when no named dimension is in it."""
    if any(isinstance(e, Poly) for e in array.flat):
        return None
    return np.array(array.tolist(), dtype=dtype).reshape(array.shape)


def evaluate(op: str, attrs: dict, args: list[np.ndarray | None], shapes: list) -> np.ndarray | None:
    """The result of ONNX op `op` (inputs as in the newest opset) on known args; `shapes` are the inputs' shapes."""
    rule = RULES.get(op)
    if rule is None or (op not in ("Shape", "Size") and any(a is None for a in args[:1])):
        return None
    try:
        out = rule(attrs, shapes, *args)
    except (Unknown, TypeError, IndexError, ValueError):
        return None
    if out is None:
        return None
    out = np.asarray(out, dtype=object) if not isinstance(out, np.ndarray) else out
    return out if out.size <= LIMIT else None


def _shape(attrs, shapes, *_):
    if shapes[0] is None:
        return None
    dims = [parse(d) for d in shapes[0]]
    end = attrs.get("end")
    return _array(dims[attrs.get("start", 0):len(dims) if end is None else end])


def _array(items) -> np.ndarray:
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out


def _scalar(e: Expr) -> np.ndarray:
    out = np.empty((), dtype=object)
    out[()] = e
    return out


def _ints(a) -> list[int]:
    if any(isinstance(e, Poly) for e in a.flat):
        raise Unknown
    return [int(e) for e in a.flat]


def _slice(attrs, shapes, x, starts, ends, axes=None, steps=None):
    axes = list(range(len(starts))) if axes is None else _ints(axes)
    steps = [1] * len(axes) if steps is None else _ints(steps)
    for s, e, a, step in zip(_ints(starts), _ints(ends), axes, steps):
        index = [slice(None)] * x.ndim
        e_ = None if e >= 1 << 31 or (step < 0 and e < -x.shape[a]) else e
        index[a] = slice(s, e_, step)
        x = x[tuple(index)]
    return x


def _reshape(attrs, shapes, x, shape):
    want = _ints(shape)
    return x.reshape([x.shape[i] if d == 0 and not attrs.get("allowzero") else d for i, d in enumerate(want)])


def _unsqueeze(attrs, shapes, x, axes):
    out = x
    rank = x.ndim + axes.size
    for a in sorted(i % rank for i in _ints(axes)):
        out = np.expand_dims(out, a)
    return out


def _squeeze(attrs, shapes, x, axes=None):
    return np.squeeze(x, None if axes is None else tuple(_ints(axes)))


def _concat(attrs, shapes, *xs):
    if any(x is None for x in xs):
        return None
    return np.concatenate(xs, attrs.get("axis", 0))


def _elementwise(fn):
    def rule(attrs, shapes, a, b):
        a, b = np.broadcast_arrays(a, b)
        out = np.empty(a.shape, dtype=object)
        for i in np.ndindex(a.shape):
            out[i] = fn(a[i], b[i])
        return out
    return rule


def _div(a, b):
    if isinstance(a, int) and isinstance(b, int) and b:
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)  # ONNX truncates
    return divide(a, b)


def _extreme(pick):
    def fn(a, b):
        if isinstance(a, int) and isinstance(b, int):
            return pick(a, b)
        if same(a, b):
            return a
        raise Unknown
    return fn


def _where(attrs, shapes, c, a, b):
    c, a, b = np.broadcast_arrays(c, a, b)
    out = np.empty(a.shape, dtype=object)
    for i in np.ndindex(a.shape):
        out[i] = a[i] if c[i] else b[i]
    return out


def _expand(attrs, shapes, x, shape):
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(_ints(shape)))).copy()


def _cast(attrs, shapes, x):
    return x if attrs.get("to") in (2, 3, 4, 5, 6, 7, 12, 13) else None  # integer types


def _gather(attrs, shapes, x, index):
    axis = attrs.get("axis", 0)
    wanted = np.array(_ints(index), dtype=np.int64).reshape(index.shape)
    out = np.take(x, wanted, axis)
    return out if isinstance(out, np.ndarray) else _scalar(out)


RULES = {
    "Shape": _shape,
    "Size": lambda attrs, shapes, *_: None if shapes[0] is None else _scalar(product(map(parse, shapes[0]))),
    "Identity": lambda attrs, shapes, x: x,
    "Cast": _cast,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Add": _elementwise(lambda a, b: a + b),
    "Sub": _elementwise(lambda a, b: a - b),
    "Mul": _elementwise(lambda a, b: a * b),
    "Div": _elementwise(_div),
    "Min": _elementwise(_extreme(min)),
    "Max": _elementwise(_extreme(max)),
    "Equal": _elementwise(lambda a, b: int(same(a, b))),
    "Neg": lambda attrs, shapes, x: x * -1,
    "Not": lambda attrs, shapes, x: _array([1 - e for e in _ints(x)]).reshape(x.shape),
    "Where": _where,
    "Expand": _expand,
    "ReduceProd": lambda attrs, shapes, x, axes=None: _array([product(x.flat)]) if attrs.get("keepdims", 1)
    else _scalar(product(x.flat)),
    "ConstantOfShape": lambda attrs, shapes, x: np.full(
        _ints(x), int(attrs["value"].reshape(-1)[0]) if "value" in attrs else 0, dtype=object)
    if "value" in attrs and attrs["value"].dtype.kind in "iu" else None,
}
