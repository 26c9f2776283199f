"""ONNX's integer ops: quantize, dequantize, and products of integers.

Every rounding step, in float32: quantized = saturate(round_half_even(x / scale) + zero). Scales and zero points hold
one value (per tensor), one per slice of `axis`, or one per block of `block_size` along `axis`.
"""
from __future__ import annotations

import numpy as np
import torch

from . import dtype_of, op
from .layers import conv
from .math import UNSIGNED


def limits(dtype: torch.dtype) -> tuple[int, int]:
    info = torch.iinfo(dtype)
    return info.min, info.max


def _along(v, x, axis, block_size):
    """A scale or zero point shaped (or, in blocks, repeated) to broadcast with x."""
    if v is None:
        return None
    v = v.to(torch.int64) if v.dtype in UNSIGNED else v
    if v.numel() == 1 and not block_size:
        return v.reshape(())
    axis = axis % x.ndim
    if block_size:
        return v.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])
    return v.reshape(-1, *[1] * (x.ndim - 1 - axis)) if v.ndim == 1 else v


def saturate(t, zero, dtype):
    """round_half_even(t) + zero cut to dtype's range; t float32."""
    lo, hi = limits(dtype)
    y = torch.round(t).to(torch.float64)
    y = y if zero is None else y + zero.to(torch.float64)
    return y.clamp(lo, hi).to(torch.int64).to(dtype)


def _kind(zero, output_dtype):
    return zero.dtype if zero is not None else dtype_of(output_dtype) if output_dtype else torch.uint8


@op("quantize_linear", example=lambda r: ([r(2, 3, 4), abs(r(3)) * 0.02 + 0.01, np.array([3, -5, 0], "int8")], {"axis": 1}))
def quantize_linear(x, scale, zero=None, axis=1, block_size=0, output_dtype=None, precision=None, saturate_=1):
    """saturate(round_half_even(x / scale) + zero), of zero's dtype (else output_dtype, a name, else uint8)."""
    t = x.to(torch.float32) / _along(scale, x, axis, block_size).to(torch.float32)
    return saturate(t, _along(zero, x, axis, block_size), _kind(zero, output_dtype))


@op("dequantize_linear", example=lambda r: ([(r(2, 3, 4) * 40).round().clip(-128, 127).astype("int8"),
                                             abs(r(3)) * 0.02 + 0.01, np.array([3, -5, 0], "int8")], {"axis": 1}))
def dequantize_linear(x, scale, zero=None, axis=1, block_size=0, output_dtype=None):
    """(x - zero) * scale in float32; the result has scale's dtype (or output_dtype, a name)."""
    t = x.to(torch.int64)
    t = t if zero is None else t - _along(zero, x, axis, block_size).to(torch.int64)
    y = t.to(torch.float32) * _along(scale, x, axis, block_size).to(torch.float32)
    return y.to(scale.dtype if output_dtype is None else dtype_of(output_dtype))


def fake_quantize(x, scale, zero, back_scale=None, axis=1, block_size=0, output_dtype=None, precision=None, saturate_=1):
    """dequantize_linear(quantize_linear(x)): the same numbers, with the straight-through gradient. x gets the gradient
    where it is not cut off; scale gets what the rounded value depends on it (LSQ, 1902.08153). The zero point is fixed."""
    s, z = _along(scale, x, axis, block_size).to(torch.float32), _along(zero, x, axis, block_size)
    lo, hi = limits(_kind(zero, output_dtype))
    z = 0.0 if z is None else z.to(torch.float32)
    t = x.to(torch.float32) / s
    cut = torch.maximum(torch.minimum(t, torch.as_tensor(hi - z)), torch.as_tensor(lo - z))
    whole = torch.round(t.detach()) + z  # as in `saturate`: round, shift, cut
    whole = whole.clamp(lo, hi) - z + (cut - cut.detach())
    back = scale if back_scale is None else back_scale
    return (whole * _along(back, x, axis, block_size).to(torch.float32)).to(back.dtype)


@op("dynamic_quantize_linear", example=lambda r: ([r(3, 8)], {}))
def dynamic_quantize_linear(x):
    """outputs: y uint8, scale = (max(x, 0) - min(x, 0)) / 255 (1 / 255 when x is all 0), zero point uint8."""
    hi, lo = x.amax().clamp(min=0), x.amin().clamp(max=0)
    scale = torch.where(hi == lo, torch.ones_like(hi), hi - lo) / 255
    zero = torch.round((0 - lo / scale).clamp(0, 255)).to(torch.uint8)
    return saturate(x / scale, zero, torch.uint8), scale, zero


# --- products; float64 holds every sum exactly ------------------------------------------------------------------


def _minus(x, zero, axis):
    """x - zero in float64; zero is one value, or one per slice of `axis`, or as broadcast."""
    x = x.to(torch.float64)
    if zero is None:
        return x
    zero = zero.to(torch.float64)
    if zero.numel() == 1:
        return x - zero.reshape(())
    if zero.ndim == 1 and x.ndim > 1:
        zero = zero.reshape(-1, *[1] * (-axis - 1))
    return x - zero


def _q(r, *shape, kind="int8"):
    lo, hi = np.iinfo(kind).min, np.iinfo(kind).max
    return (r(*shape) * 40 + (lo + hi + 1) / 2).round().clip(lo, hi).astype(kind)


@op("matmul_integer", example=lambda r: ([_q(r, 2, 3, 8, kind="uint8"), _q(r, 8, 5), np.uint8(120),
                                          np.array([1, -2, 3, 0, 5], "int8")], {}))
def matmul_integer(a, b, a_zero=None, b_zero=None):
    """(a - a_zero) @ (b - b_zero) as int32; zero points per tensor, per row of a, per column of b."""
    b = b.to(torch.float64) if b_zero is None else b.to(torch.float64) - b_zero.to(torch.float64)
    return (_minus(a, a_zero, -2) @ b).to(torch.int64).to(torch.int32)


@op("conv_integer", example=lambda r: ([_q(r, 1, 4, 6, 5, kind="uint8"), _q(r, 6, 2, 3, 3), np.uint8(120)],
                                       {"pads": [1, 1, 0, 1], "group": 2}))
def conv_integer(x, w, x_zero=None, w_zero=None, **attrs):
    """conv of (x - x_zero) and (w - w_zero) as int32; pads are x_zero; w_zero per tensor or output channel."""
    y = conv(_minus(x, x_zero, -x.ndim), _minus(w, w_zero, -w.ndim), None, **attrs)
    return y.to(torch.int64).to(torch.int32)


@op("qlinear_matmul", example=lambda r: ([_q(r, 3, 8), np.float32(0.02), np.int8(3), _q(r, 8, 5), abs(r(5)) * 0.01 + 0.005,
                                          np.zeros(5, "int8"), np.float32(0.05), np.int8(-4)], {}))
def qlinear_matmul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero):
    """saturate(round(f32(acc) * (a_scale * b_scale / y_scale)) + y_zero); scales of a per tensor or row, of b per
    tensor or column."""
    acc = matmul_integer(a, b, a_zero, b_zero).to(torch.float32)
    a_scale = a_scale.reshape(-1, 1) if a_scale.ndim == 1 and a_scale.numel() > 1 else a_scale
    b_scale = b_scale.reshape(()) if b_scale.numel() == 1 else b_scale
    a_scale = a_scale.reshape(()) if a_scale.numel() == 1 else a_scale
    scale = a_scale.float() * b_scale.float() / y_scale.float().reshape(())
    return saturate(acc * scale, y_zero.reshape(()), y_zero.dtype)


@op("qlinear_conv", example=lambda r: ([_q(r, 1, 4, 6, 5), np.float32(0.02), np.int8(3), _q(r, 6, 2, 3, 3),
                                        abs(r(6)) * 0.01 + 0.005, np.zeros(6, "int8"), np.float32(0.05), np.int8(-4),
                                        (r(6) * 500).astype("int32")], {"pads": [1, 1, 0, 1], "group": 2}))
def qlinear_conv(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b=None, **attrs):
    """saturate(round(f32(acc + b) * (x_scale * w_scale / y_scale)) + y_zero); w's scale and zero point per tensor or
    output channel, b int32 in units of x_scale * w_scale."""
    acc = conv_integer(x, w, x_zero, w_zero, **attrs).to(torch.int64)
    tail = [1] * (x.ndim - 2)
    acc = acc if b is None else acc + b.to(torch.int64).reshape(-1, *tail)
    scale = x_scale.float().reshape(()) * w_scale.float().reshape(-1, *tail) / y_scale.float().reshape(())
    return saturate(acc.to(torch.int32).to(torch.float32) * scale, y_zero.reshape(()), y_zero.dtype)
