"""Ops that move, reshape and reduce, in the form of the newest opset, with the dimensions of their results followed.
Who imports this has all of UPGRADES."""
from __future__ import annotations

import numpy as np

from ..errors import UserError
from ..graph import Value
from .dims import Expr, Poly, Unknown, dim, divide, parse, product
from .protos import parsed
from .read import Call, Reader
from .upgrade import UPGRADES, upgrade

__all__ = ["UPGRADES"]


@upgrade("Reshape")
def reshape(r: Reader, c: Call) -> None:
    """The target as a constant wherever it can be written with 0 (copy) and one -1 (the rest)."""
    x, target = c.inputs[0], r.ints(c.inputs[1])
    zero = c.attrs.pop("allowzero", 0)
    d = parsed(x.shape)
    if target is None or d is None:
        c.attrs = {"allowzero": 1} if zero and (target is None or 0 in target) else {}
        if target is not None:
            c.attrs = {}
        return
    out = resolve(target, d, zero)
    if r.batch and not any(isinstance(e, Poly) for e in target):
        out = with_batch(r, c, target, d, zero) or out
    if out is None:
        return
    c.shapes[0] = tuple(map(dim, out))
    if all(isinstance(e, int) for e in out):
        c.inputs[1] = shape_constant(r, c, out)
        c.attrs = {"allowzero": 1} if 0 in out else {}
        return
    short = [e if isinstance(e, int) else 0 if i < len(d) and d[i] == e else -1 for i, e in enumerate(out)]
    if short.count(-1) == 1 and 0 in out:
        return
    if short.count(-1) <= 1:
        c.inputs[1] = shape_constant(r, c, short)


def shape_constant(r: Reader, c: Call, shape: list[int]) -> Value:
    """A reshape's target; the one it has when that says so already."""
    old = c.inputs[1]
    if old.data is not None and old.data.tolist() == shape:
        return old
    return r.constant(np.array(shape, dtype=np.int64), f"{c.name}.shape")


def resolve(target: list, d: list, allowzero: int = 0) -> list | None:
    """The dimensions of a reshape of `d` to `target`, where that can be said."""
    if any(e == 0 and not allowzero and i >= len(d) for i, e in enumerate(target)):
        return None
    out = [d[i] if isinstance(e, int) and e == 0 and not allowzero else e for i, e in enumerate(target)]
    holes = [i for i, e in enumerate(out) if isinstance(e, int) and e == -1]
    if holes:
        rest = [e for i, e in enumerate(out) if i != holes[0]]
        left = list(d)
        for e in list(rest):  # equal dimensions cancel, whatever they are
            if e in left and e != 0:
                left.remove(e)
                rest.remove(e)
        try:
            out[holes[0]] = divide(product(left), product(rest))
        except Unknown:
            return None
    return out


def with_batch(r: Reader, c: Call, target: list, d: list, allowzero: int) -> list | None:
    """The target of a reshape that was written for batch 1, for a named batch: the dimension that starts where the
    batch stands in memory takes it."""
    name = parse(r.batch)

    def one(e):
        total = 0
        for names, k in (e.terms.items() if isinstance(e, Poly) else [((), e)]):
            rest = Poly({tuple(n for n in names if n != r.batch): k})
            total = rest + total
        return total

    where = [i for i, e in enumerate(d) if isinstance(e, Poly) and any(r.batch in k for k in e.terms)]
    if not where:
        return None
    single = [one(e) for e in d]
    out = resolve(target, single, allowzero)
    if out is None:
        return None
    before = product(single[:where[0]])
    starts = [i for i in range(len(out)) if product(out[:i]) == before]
    if not starts or len(where) > 1:
        raise UserError(f"batch '{r.batch}': node '{c.name}' (Reshape {single} to {out}) mixes the batch with other "
                        "dimensions; export the model with a dynamic batch instead")
    i = next((i for i in starts if out[i] == 1), starts[0])
    return [name * e if j == i else e for j, e in enumerate(out)]


@upgrade("Expand")
def expand(r: Reader, c: Call) -> None:
    """The target as a constant with 1 where the input already has the size; nothing to do is an identity."""
    x, target = c.inputs[0], r.ints(c.inputs[1])
    d = parsed(x.shape)
    if target is None or d is None:
        return
    rank = max(len(d), len(target))
    d, t = [*[1] * (rank - len(d)), *d], [*[1] * (rank - len(target)), *target]
    out = [a if isinstance(b, int) and b == 1 or a == b else b if isinstance(a, int) and a == 1 else None for a, b in zip(d, t)]
    if None in out:
        return
    c.shapes[0] = tuple(map(dim, out))
    if out == parsed(x.shape):
        c.op, c.inputs = "identity", [x]
        return
    short = [1 if a == b else b for a, b in zip(d, out)]
    if all(isinstance(e, int) for e in short):
        c.inputs[1] = r.constant(np.array(short, dtype=np.int64), f"{c.name}.shape")


@upgrade("Flatten")
def flatten(r: Reader, c: Call) -> None:
    axis, d = c.attrs.get("axis", 1), parsed(c.inputs[0].shape)
    if d is not None:
        axis = axis + len(d) if axis < 0 else axis
        c.shapes[0] = (dim(product(d[:axis])), dim(product(d[axis:])))
    c.attrs = {"axis": axis}


@upgrade("Concat")
def concat(r: Reader, c: Call) -> None:
    shapes = [parsed(v.shape) for v in c.inputs]
    if all(s is not None for s in shapes) and c.shapes[0] is not None:
        axis = c.attrs["axis"] % len(shapes[0])
        total = 0
        for s in shapes:
            total = s[axis] + total
        c.shapes[0] = tuple(dim(total) if i == axis else d for i, d in enumerate(c.shapes[0]))
    if len(c.inputs) == 1:
        c.op, c.attrs = "identity", {}


@upgrade("Transpose")
def transpose(r: Reader, c: Call) -> None:
    shape = c.inputs[0].shape
    if "perm" not in c.attrs:
        if shape is None:
            raise UserError(f"node '{c.name}' (Transpose) has no perm and its input no known rank")
        c.attrs["perm"] = list(range(len(shape)))[::-1]
    if c.attrs["perm"] == sorted(c.attrs["perm"]):
        c.op, c.attrs = "identity", {}


@upgrade("Squeeze")
def squeeze(r: Reader, c: Call) -> None:
    shape = c.inputs[0].shape
    if len(c.inputs) < 2 or c.inputs[1] is None:
        if shape is None or any(isinstance(d, str) for d in shape):
            return  # which ones are 1 is seen when the dimensions are bound
        axes = [i for i, d in enumerate(shape) if d == 1]
        c.inputs = [c.inputs[0], r.constant(np.array(axes, dtype=np.int64), f"{c.name}.axes")]


@upgrade("Split")
def split(r: Reader, c: Call) -> None:
    """Always with the sizes as an input where the dimension is known."""
    n = len(c.shapes)
    c.attrs.pop("num_outputs", None)
    x = c.inputs[0]
    axis = c.attrs.setdefault("axis", 0)
    if (len(c.inputs) < 2 or c.inputs[1] is None) and x.shape is not None:
        size = x.shape[axis]
        if isinstance(size, int):
            each = -(-size // n)
            sizes = [each] * (n - 1) + [size - each * (n - 1)]
            c.inputs = [x, r.constant(np.array(sizes, dtype=np.int64), f"{c.name}.split")]
        else:
            c.attrs["num_outputs"] = n


@upgrade("Slice")
def slice_(r: Reader, c: Call) -> None:
    """Dimensions of the result where starts and ends are named."""
    x, d = c.inputs[0], parsed(c.inputs[0].shape)
    starts, ends = r.ints(c.inputs[1]), r.ints(c.inputs[2])
    c.inputs = c.inputs + [None] * (5 - len(c.inputs))
    axes = r.ints(c.inputs[3]) if c.inputs[3] is not None else list(range(len(starts or ())))
    steps = r.ints(c.inputs[4]) if c.inputs[4] is not None else [1] * len(axes or ())
    if d is None or axes is None or c.shapes[0] is None or any(isinstance(a, Poly) for a in axes):
        return
    axes = [a % len(d) for a in axes if isinstance(a, int)]
    told = c.shapes[0]
    c.shapes[0] = tuple(told[i] if i in axes else dim(e) for i, e in enumerate(d))
    if None in (starts, ends, steps):
        return
    out, whole = list(c.shapes[0]), True
    for s, e, a, step in zip(starts, ends, axes, steps):
        size = d[a]
        if isinstance(s, int) and s == 0 and step == 1 and (e == size or isinstance(e, int) and e >= 1 << 31):
            out[a] = dim(size)
            continue
        whole = False
        if step == 1 and isinstance(s, int) and s >= 0 and isinstance(e, Poly) and isinstance(size, int):
            out[a] = dim(e - s)
        elif step == 1 and isinstance(size, Poly) and isinstance(e, int) and e < 0 and isinstance(s, int) and s >= 0:
            out[a] = dim(size + e - s)
        elif step == 1 and isinstance(size, Poly) and isinstance(e, int) and e >= 1 << 31 and isinstance(s, int):
            out[a] = dim(size - s) if s > 0 else dim(-s)
    c.shapes[0] = tuple(out)
    if whole:
        c.op, c.inputs = "identity", [x]


@upgrade("Range")
def range_(r: Reader, c: Call) -> None:
    start, limit, delta = (r.ints(v) for v in c.inputs)
    if start is not None and limit is not None and delta == [1]:
        c.shapes[0] = (dim(limit[0] - start[0]),)


@upgrade("Tile")
def tile(r: Reader, c: Call) -> None:
    d, repeats = parsed(c.inputs[0].shape), r.ints(c.inputs[1])
    if d is not None and repeats is not None and len(d) == len(repeats):
        c.shapes[0] = tuple(dim(a * b) for a, b in zip(d, repeats))
        if all(isinstance(e, int) and e == 1 for e in repeats):
            c.op, c.inputs = "identity", c.inputs[:1]


@upgrade("Pad")
def pad(r: Reader, c: Call) -> None:
    """Pads for all axes; dimensions of the result."""
    x, d = c.inputs[0], parsed(c.inputs[0].shape)
    c.inputs = c.inputs + [None] * (4 - len(c.inputs))
    pads, axes = r.ints(c.inputs[1]), r.ints(c.inputs[3])
    if c.attrs.get("mode", "constant") != "constant":
        c.inputs[2] = None
    if pads is None or d is None or any(isinstance(p, Poly) for p in pads):
        return
    if axes is not None:
        if any(isinstance(a, Poly) for a in axes):
            return
        n = len(axes)
        full: list[Expr] = [0] * (2 * len(d))
        for i, a in enumerate(a % len(d) for a in axes if isinstance(a, int)):
            full[a], full[len(d) + a] = pads[i], pads[n + i]
        pads = full
        c.inputs = [x, r.constant(np.array(pads, dtype=np.int64), f"{c.name}.pads"), c.inputs[2], None]
    if not any(pads):
        c.op, c.inputs, c.attrs = "identity", [x], {}
        return
    c.shapes[0] = tuple(dim(e + (pads[i] + pads[len(d) + i])) for i, e in enumerate(d))


@upgrade("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
         "ReduceLogSumExp", "ReduceSumSquare")
def reduction(r: Reader, c: Call) -> None:
    """No axes are all axes, unless noop_with_empty_axes says none."""
    noop = c.attrs.pop("noop_with_empty_axes", 0)
    axes = c.inputs[1] if len(c.inputs) > 1 else None
    if axes is not None and axes.data is not None and axes.data.size == 0:
        axes = None
    if noop and (axes is None or axes.data is None):
        c.attrs["noop_with_empty_axes"] = 1
    if axes is None:
        c.inputs = c.inputs[:1]
    c.attrs.setdefault("keepdims", 1)


@upgrade("Swish")
def swish(r: Reader, c: Call) -> None:
    """x * sigmoid(alpha * x)."""
    alpha = c.attrs.pop("alpha", 1.0)
    if alpha != 1.0:
        x = c.inputs[0]
        t = (x.dtype, x.shape)
        scaled = r.emit("mul", [x, r.constant(np.float32(alpha), f"{c.name}.alpha", x.dtype)], {}, [t], c.name, c.scope)[0]
        c.op, c.inputs = "mul", [x, r.emit("sigmoid", [scaled], {}, [t], c.name, c.scope)[0]]


@upgrade("Scatter")
def scatter(r: Reader, c: Call) -> None:
    c.op = "scatter_elements"


@upgrade("Softmax", "LogSoftmax", "Hardmax")
def softmax(r: Reader, c: Call) -> None:
    """Before opset 13 all axes from `axis` (default 1) on were one: flatten, softmax, reshape back."""
    x = c.inputs[0]
    if c.version >= 13:
        c.attrs.setdefault("axis", -1)
        return
    axis = c.attrs.get("axis", 1)
    if x.shape is None:
        raise UserError(f"node '{c.name}' ({c.type}): its input has no known rank; export with opset 13 or later")
    rank = len(x.shape)
    axis = axis % rank if rank else 0
    if axis == rank - 1:
        c.attrs = {"axis": -1}
        return
    if all(d == 1 for d in x.shape[axis + 1:]) or all(d == 1 for d in x.shape[axis:-1]):
        c.attrs = {"axis": axis if all(d == 1 for d in x.shape[axis + 1:]) else -1}
        return
    dims = parsed(x.shape)
    flat = r.emit("flatten", [x], {"axis": axis},
                  [(x.dtype, (dim(product(dims[:axis])), dim(product(dims[axis:]))))], c.name, c.scope)[0]
    y = r.emit(c.op, [flat], {"axis": -1}, [(x.dtype, flat.shape)], c.name, c.scope)[0]
    shape = r.emit("shape", [x], {}, [("int64", (rank,))], c.name, c.scope)[0]
    r.known[shape] = np.array(dims + [None], dtype=object)[:-1]
    c.op, c.inputs, c.attrs = "reshape", [y, shape], {}
    reshape(r, c)
