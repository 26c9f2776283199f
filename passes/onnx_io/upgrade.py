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
from .dims import dim
from .protos import dtype_name
from .read import Call, Reader

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
    if x.shape and c.shapes[0] and scales is not None and scales.data is not None and len(scales.data) == len(x.shape):
        c.shapes[0] = tuple(d if s == 1 else out for d, s, out in zip(x.shape, scales.data.tolist(), c.shapes[0]))


@upgrade("BatchNormalization")
def batch_norm(r: Reader, c: Call) -> None:
    """Without training_mode (a module in train mode sets it by itself) epsilon and, for training, momentum count."""
    if not c.attrs.get("training_mode"):
        c.attrs = {k: v for k, v in c.attrs.items() if k in ("epsilon", "momentum")}


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


@upgrade("LSTM", "GRU", "RNN")
def recurrent(r: Reader, c: Call) -> None:
    """An initial state of zeros is the default; without it the batch is free."""
    for i in (5, 6):
        v = c.inputs[i] if i < len(c.inputs) else None
        while v is not None and v.data is None:  # zeros stretched to the batch are zeros
            maker = next((n for n in reversed(r.nodes) if v in n.outputs), None)
            moves = ("expand", "tile", "reshape", "unsqueeze", "slice", "squeeze")
            v = maker.inputs[0] if maker is not None and maker.op in moves else None
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
