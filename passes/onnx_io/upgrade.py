"""Each op in the form of the newest opset: one function per ONNX op that needs more than a new name.

`@upgrade("Op", ...)` functions change the Call they are given (its `op`, `inputs`, `attrs`, `shapes`); the reader
enters it afterwards. They may enter nodes before it. Attributes that only became inputs are in names.MOVED.
"""
from __future__ import annotations

from inspect import Parameter, signature

import numpy as np
import onnx

from ..errors import UserError
from ..graph import Value
from ..ops import OPS
from .dims import Poly, Unknown, dim, divide, parse, product
from .read import Call, Reader, dtype_name, parsed

UPGRADES: dict = {}

# Attributes without a meaning here: training's, the type of inner sums, layouts of an output that is refused.
IDLE = {"momentum", "stash_type", "spatial", "consumed_inputs", "is_test", "legacy_compat", "softmax_precision",
        "storage_order", "kernel_shape", "training_mode", "broadcast", "seed", "saturate"}


def upgrade(*types: str):
    def enter(fn):
        for t in types:
            UPGRADES[t] = fn
        return fn
    return enter


def check_attributes(call: Call) -> None:
    """Drop attributes that say what holds anyway; refuse those that the op here does not know."""
    row = OPS.get(call.op)
    if row is None:
        return
    parameters = signature(row.fn).parameters
    if any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values()):
        return  # it hands them on
    known = set(parameters)
    try:
        defaults = onnx.defs.get_schema(call.type, call.version, "").attributes
    except onnx.defs.SchemaError:
        defaults = {}
    for key in [k for k in call.attrs if k not in known]:
        value = call.attrs[key]
        default = onnx.helper.get_attribute_value(defaults[key].default_value) \
            if key in defaults and defaults[key].default_value.name else None
        default = default.decode() if isinstance(default, bytes) else default
        if key in IDLE or value == default or value in ("NOTSET", [], ""):
            del call.attrs[key]
        else:
            raise UserError(f"node '{call.name}' ({call.type}): attribute {key}={value} is not supported; "
                            f"{call.op} takes {', '.join(sorted(known))}")


# --- layers -----------------------------------------------------------------------------------------------------

@upgrade("Gemm")
def gemm(r: Reader, c: Call) -> None:
    """alpha * A' @ B' + beta * C  ->  linear with a constant B' and C of one row, else matmul, mul and add."""
    a, b, bias = [*c.inputs, None][:3]
    alpha, beta = c.attrs.get("alpha", 1.0), c.attrs.get("beta", 1.0)
    trans_a, trans_b = c.attrs.get("transA", 0), c.attrs.get("transB", 0)
    shape, dtype = c.shapes[0], c.dtypes[0]

    def enter(op, ins, attrs, shape):
        return r.emit(op, ins, attrs, [(dtype, shape)], c.name, c.scope)[0]

    def turned(v):
        return enter("transpose", [v], {"perm": [1, 0]}, None if v.shape is None else v.shape[::-1])

    def scaled(v, by):
        return v if by == 1 else enter("mul", [v, r.constant(np.float32(by), f"{c.name}.scale", dtype)], {}, v.shape)

    a = turned(a) if trans_a else a
    c.attrs = {}
    row = bias is not None and bias.data is not None and bias.data.ndim <= 2 and (
        bias.data.ndim < 2 or bias.data.shape[0] == 1)
    if b.data is not None and dtype in ("float32", "float16", "float64", "bfloat16"):
        w = scaled(b if trans_b else turned(b), alpha)
        n = b.shape[0] if trans_b else b.shape[1]
        if row:
            bias = scaled(bias, beta)
            if bias.shape != (n,):
                if bias.data is not None:
                    bias = r.constant(np.broadcast_to(bias.data.reshape(-1), (n,)).copy(), bias.name, dtype)
                else:
                    bias = enter("expand", [bias, r.constant(np.array([1, n]), f"{c.name}.n")], {}, (1, n))
                    bias = enter("reshape", [bias, r.constant(np.array([n]), f"{c.name}.n")], {}, (n,))
            c.op, c.inputs = "linear", [a, w, bias]
            return
        if bias is None or beta == 0:
            c.op, c.inputs = "linear", [a, w]
            return
        c.op, c.inputs = "add", [enter("linear", [a, w], {}, shape), scaled(bias, beta)]
        return
    b = turned(b) if trans_b else b
    if bias is None or beta == 0:
        if alpha == 1:
            c.op, c.inputs = "matmul", [a, b]
        else:
            c.op, c.inputs = "mul", [enter("matmul", [a, b], {}, shape),
                                     r.constant(np.float32(alpha), f"{c.name}.alpha", dtype)]
        return
    c.op, c.inputs = "add", [scaled(enter("matmul", [a, b], {}, shape), alpha), scaled(bias, beta)]


@upgrade("Conv", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool", "LpPool")
def window(r: Reader, c: Call) -> None:
    """auto_pad -> pads."""
    x = c.inputs[0]
    weight = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}.get(c.type)
    kernel = c.attrs.get("kernel_shape")
    if weight is not None:
        kernel = list(c.inputs[weight].shape[2:]) if c.inputs[weight].shape else kernel
        c.attrs.pop("kernel_shape", None)
    mode = c.attrs.pop("auto_pad", "NOTSET")
    if mode == "VALID":
        c.attrs["pads"] = [0] * (2 * len(kernel))
    elif mode != "NOTSET":
        pads = same_pads(x.shape, kernel, c.attrs.get("strides"), c.attrs.get("dilations"), mode)
        if pads is None:  # the size decides: the op resolves it when the dimension is bound
            c.attrs["auto_pad"] = mode
        else:
            c.attrs["pads"] = pads
    if c.type == "AveragePool" and not any(c.attrs.get("pads", [0])) and not c.attrs.get("ceil_mode"):
        c.attrs.pop("count_include_pad", None)


def same_pads(shape, kernel, strides, dilations, mode) -> list[int] | None:
    """SAME_UPPER / SAME_LOWER as begin..., end... pads; None when the size matters and is not known."""
    rank = len(kernel)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    begin, end = [], []
    for i in range(rank):
        size = shape[2 + i] if shape is not None else "?"
        span = (kernel[i] - 1) * dilations[i] + 1
        if strides[i] == 1:
            total = span - 1
        elif isinstance(size, int):
            total = max((-(-size // strides[i]) - 1) * strides[i] + span - size, 0)
        else:
            return None
        small = total // 2
        begin.append(small if mode == "SAME_UPPER" else total - small)
        end.append(total - small if mode == "SAME_UPPER" else small)
    return begin + end


@upgrade("ConvTranspose")
def conv_transpose(r: Reader, c: Call) -> None:
    """auto_pad and output_shape -> pads and output_padding."""
    x, w = c.inputs[:2]
    c.attrs.pop("kernel_shape", None)
    mode, wanted = c.attrs.pop("auto_pad", "NOTSET"), c.attrs.pop("output_shape", None)
    rank = len(w.shape) - 2
    if mode == "VALID":
        c.attrs["pads"] = [0] * 2 * rank
    elif mode != "NOTSET" or wanted:
        strides = c.attrs.get("strides", [1] * rank)
        dilations = c.attrs.get("dilations", [1] * rank)
        extra = list(c.attrs.get("output_padding", [0] * rank))
        begin, end = [], []
        for i in range(rank):
            span = (w.shape[2 + i] - 1) * dilations[i] + 1
            if wanted:
                size = x.shape[2 + i] if x.shape else "?"
                if not isinstance(size, int):
                    c.attrs.update(output_shape=wanted, auto_pad=mode)
                    return
                total = strides[i] * (size - 1) + extra[i] + span - wanted[i]
            else:
                total = extra[i] + span - strides[i]
            if total < 0:
                extra[i], total = extra[i] - total, 0
            small = total // 2
            begin.append(small if mode == "SAME_UPPER" else total - small)
            end.append(total - small if mode == "SAME_UPPER" else small)
        c.attrs["pads"], c.attrs["output_padding"] = begin + end, extra


@upgrade("Upsample", "Resize")
def resize(r: Reader, c: Call) -> None:
    """x, roi, scales, sizes. Resize-10 and Upsample are asymmetric, and nearest takes the floor."""
    c.op = "resize"
    if c.type == "Upsample" or c.version < 11:
        x, scales = c.inputs[:2]
        c.inputs = [x, None, scales]
        c.attrs = {"mode": c.attrs.get("mode", "nearest"), "coordinate_transformation_mode": "asymmetric",
                   "nearest_mode": "floor"}
    c.inputs = (c.inputs + [None] * 4)[:4]
    x = c.inputs[0]
    for i in (2, 3):  # opset 11 passes an empty tensor for "absent"
        v = c.inputs[i]
        if v is not None and v.data is not None and v.data.size == 0:
            c.inputs[i] = None
    if c.attrs.get("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize":
        c.inputs[1] = None
        c.attrs.pop("extrapolation_value", None)
    if c.attrs.get("mode", "nearest") == "nearest":
        c.attrs.pop("cubic_coeff_a", None)
        c.attrs.pop("antialias", None)
    else:
        c.attrs.pop("nearest_mode", None)
        if c.attrs["mode"] != "cubic":
            c.attrs.pop("cubic_coeff_a", None)
    axes = c.attrs.get("axes")
    if axes is not None and x.shape is not None and c.inputs[1] is None:
        rank = len(x.shape)
        axes = [a % rank for a in axes]
        scales = c.inputs[2]
        if scales is not None and scales.data is not None:
            full = np.ones(rank, dtype=np.float32)
            full[axes] = scales.data
            c.inputs[2] = r.constant(full, f"{c.name}.scales")
            del c.attrs["axes"]
    scales = c.inputs[2]
    if scales is not None and scales.data is not None and x.shape is not None and len(scales.data) == len(x.shape) and c.shapes[0]:
        c.shapes[0] = tuple(d if s == 1 else out for d, s, out in zip(x.shape, scales.data.tolist(), c.shapes[0]))


@upgrade("BatchNormalization")
def batch_norm(r: Reader, c: Call) -> None:
    """Without training_mode (a module in train mode sets it by itself) only epsilon counts."""
    if not c.attrs.get("training_mode"):
        c.attrs = {k: v for k, v in c.attrs.items() if k == "epsilon"}


@upgrade("GroupNormalization")
def group_norm(r: Reader, c: Call) -> None:
    """Opset 18 had one scale and bias per group, 21 has one per channel."""
    x, scale, bias = c.inputs
    groups = c.attrs["num_groups"]
    if c.version < 21 and x.shape is not None and scale.shape == (groups,) and x.shape[1] != groups:
        def repeat(v: Value) -> Value:
            each = x.shape[1] // groups
            if v.data is not None:
                return r.constant(np.repeat(v.data, each), v.name, v.dtype)
            column = r.emit("reshape", [v, r.constant(np.array([-1, 1]), f"{c.name}.shape")], {},
                            [(v.dtype, (groups, 1))], c.name)[0]
            wide = r.emit("expand", [column, r.constant(np.array([1, each]), f"{c.name}.shape")], {},
                          [(v.dtype, (groups, each))], c.name)[0]
            return r.emit("reshape", [wide, r.constant(np.array([-1]), f"{c.name}.shape")], {},
                          [(v.dtype, (groups * each,))], c.name)[0]
        c.inputs = [x, repeat(scale), repeat(bias)]


@upgrade("Dropout")
def dropout(r: Reader, c: Call) -> None:
    """Inference: the identity; the node stays for training (with its ratio)."""
    c.inputs = c.inputs[:2]
    c.attrs = {}


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


@upgrade("LSTM", "GRU", "RNN")
def recurrent(r: Reader, c: Call) -> None:
    """An initial state of zeros is the default; without it the batch is free."""
    for i in (5, 6):
        v = c.inputs[i] if i < len(c.inputs) else None
        while v is not None and v.data is None:  # zeros stretched to the batch are zeros
            maker = next((n for n in reversed(r.nodes) if v in n.outputs), None)
            v = maker.inputs[0] if maker is not None and maker.op in ("expand", "tile", "reshape", "unsqueeze", "slice", "squeeze") else None
        if v is not None and not v.data.any():
            c.inputs[i] = None


# --- types ------------------------------------------------------------------------------------------------------

@upgrade("Cast")
def cast(r: Reader, c: Call) -> None:
    c.attrs = {"to": dtype_name(c.attrs["to"])}
    if c.attrs["to"] == c.inputs[0].dtype:
        c.op, c.attrs = "identity", {}


@upgrade("CastLike")
def cast_like(r: Reader, c: Call) -> None:
    x, like = c.inputs
    c.op, c.inputs, c.attrs = "cast", [x], {"to": like.dtype}
    if x.dtype == like.dtype:
        c.op, c.attrs = "identity", {}
    elif x.data is not None:
        c.inputs[0] = x


@upgrade("QuantizeLinear", "DequantizeLinear")
def quantize(r: Reader, c: Call) -> None:
    if c.attrs.get("output_dtype"):
        c.attrs["output_dtype"] = dtype_name(c.attrs["output_dtype"])
    else:
        c.attrs.pop("output_dtype", None)
    if not c.attrs.get("block_size"):
        c.attrs.pop("block_size", None)
    c.attrs.pop("precision", None)


@upgrade("ConstantOfShape")
def constant_of_shape(r: Reader, c: Call) -> None:
    value = c.attrs.pop("value", np.zeros(1, dtype=np.float32)).reshape(-1)
    shape = r.ints(c.inputs[0])
    if shape is not None:
        c.shapes[0] = tuple(dim(e) for e in shape)
    fill = r.constant(value.reshape(()), f"{c.name}.value", c.dtypes[0])
    c.op, c.inputs = "expand", [fill, c.inputs[0]]


# --- shapes -----------------------------------------------------------------------------------------------------

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
    d, t = [1] * (rank - len(d)) + d, [1] * (rank - len(target)) + target
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
    if None in (d, starts, ends, axes, steps):
        return
    out, whole = list(c.shapes[0] or x.shape), True
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
        n, full = len(axes), [0] * (2 * len(d))
        for i, a in enumerate(axes):
            full[a % len(d)], full[len(d) + a % len(d)] = pads[i], pads[n + i]
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
    if axes is None:
        if noop:
            c.attrs["noop_with_empty_axes"] = 1
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
