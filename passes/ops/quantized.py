"""The integer forms of softmax, norms, attention, products and linear resize: int8 in, int8 out.

Sums are exact whole numbers, so their order does not matter; what follows them is single IEEE operations in float32 (and, once
per row, float64) in the order written here, without fused multiply-add: torch, C, AVX and NEON give the same bytes. The last
step is `requantize` of ops/lowered.py. The functions named *_form make the attributes and tables of an op from the scales and
zero points around it; lowering and the simulation of quantize.qat share them.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from . import op
from .layers import attention_bias
from .lowered import _q, requantize
from .move import resize_taps

LONGEST = 32768             # values that a softmax may sum: its table holds e^-x times a number of which so many fit an int32
DEEPEST, MOST_KEYS = 8192, 16384  # of attention: with these no sum leaves int32, whatever the zero points
ONE = 16384                 # of a linear resize's weights
Pair = tuple[float, int]    # scale and zero point
REACH, TOP = 6.25, 255      # attention: weights of 0 to 255, e^-x for x up to 6.25 (half a weight) in 255 steps


def single(number: float) -> float:
    """A number as the file holds it: float32."""
    return float(torch.tensor(float(number), dtype=torch.float64).float())


def _f32(number: float) -> torch.Tensor:
    return torch.tensor(number, dtype=torch.float64).float()


# --- softmax ----------------------------------------------------------------------------------------------------


def softmax_form(x_scale: float, y: Pair, axis: int, length: int):
    """(table int32 [256], attributes): round(one e^-(d x_scale)) for a value d below the largest of its row; `length` times
    the number `one` is an int32, and it is a float32 as well."""
    one = min(2 ** 24 - 1, (2 ** 31 - 1) // max(length, 1))
    steps = torch.arange(256, dtype=torch.float64) * x_scale
    return torch.round(torch.exp(-steps) * one).to(torch.int32), {"axis": axis, "scale": single(1 / y[0]), "y_zero": y[1]}


@op("qsoftmax", example=lambda r: ([_q(r, 3, 9), softmax_form(0.03, (1 / 256, -128), -1, 9)[0]],
                                   {"axis": -1, "scale": 256.0, "y_zero": -128}))
def qsoftmax(x, table, axis=-1, scale=256.0, y_zero=-128):
    """x int8, table int32 [256], below 2^24: e = table[max - x], t = f32(e) * (scale / f32(sum of e)) along `axis`; the sum is
    an int32."""
    e = table.to(torch.int64)[x.amax(axis, keepdim=True).to(torch.int64) - x.to(torch.int64)]
    rate = _f32(scale) / e.sum(axis, keepdim=True).to(torch.float32)
    return requantize(e.to(torch.float32) * rate, y_zero, -128, 127, None)


# --- norms ------------------------------------------------------------------------------------------------------


def norm_weights(shape, *weights):
    """Scale and bias of a norm in full: one may be missing, or broadcast, or stand per group (opset 18) for [channels]."""
    def full(v):
        return (v.repeat_interleave(shape[0] // v.numel()) if len(shape) == v.ndim == 1 else v).broadcast_to(shape)
    return [None if v is None else full(v) for v in weights]


def norm_form(x: Pair, y: Pair, weights: Sequence[torch.Tensor | None], attrs: dict):
    """(gamma, beta, attributes) of qlayer_norm and qgroup_norm from those of the float op: in units of y's scale, epsilon in
    units of x's, squared. weights: scale and bias in full, a missing bias None."""
    gamma, beta = (None if v is None else (v.to(torch.float64) / y[0]).float() for v in weights)
    beta = torch.zeros_like(gamma) if beta is None else beta
    return gamma, beta, {"epsilon": single(attrs.get("epsilon", 1e-5) / x[0] / x[0]), "x_zero": x[1], "y_zero": y[1]}


def _normal(x, axes, epsilon, centred, zero):
    """f32(x) * a + b: of mean 0 (unless not centred: then less `zero`) and mean square 1 over `axes`; a and b by float64 from the
    exact sums: with d = n * (sum of x x) - (sum of x)^2, a = n / sqrt(d + n n epsilon), b = -(sum of x) / sqrt(...)."""
    whole, n = x.to(torch.int64), 1
    for a in axes:
        n *= x.shape[a]
    s, square = whole.sum(axes, keepdim=True), (whole * whole).sum(axes, keepdim=True)
    d = n * square - s * s if centred else n * (square - 2 * zero * s + n * zero * zero)
    d = d.to(torch.float64) + float(_f32(epsilon)) * float(n * n)
    inverse = torch.where(d > 0, torch.ones_like(d) / d.sqrt(), torch.zeros_like(d))
    shift = s.to(torch.float64) if centred else torch.full_like(d, float(n * zero))
    return x.to(torch.float32) * (float(n) * inverse).to(torch.float32) + (-shift * inverse).to(torch.float32)


@op("qlayer_norm", example=lambda r: ([_q(r, 2, 3, 20), r(20) * 20, r(20) * 9], {"epsilon": 0.01, "y_zero": -5}))
def qlayer_norm(x, gamma, beta, axis=-1, epsilon=0.0, centred=1, x_zero=0, y_zero=0):
    """x int8, gamma and beta float32 of the shape of the axes from `axis` on: t = (f32(x) * a + b) * gamma + beta, a and b as
    `_normal` says. centred=0: an RMS norm (of x - x_zero)."""
    axes = list(range(axis % x.ndim, x.ndim))
    shape = x.shape[axes[0]:]
    t = _normal(x, axes, epsilon, centred, x_zero) * gamma.reshape(shape) + beta.reshape(shape)
    return requantize(t, y_zero, -128, 127, None)


@op("qgroup_norm", example=lambda r: ([_q(r, 2, 6, 3, 5), r(6) * 20, r(6) * 9], {"num_groups": 3, "epsilon": 0.01}))
def qgroup_norm(x, gamma, beta, num_groups, epsilon=0.0, x_zero=0, y_zero=0):
    """x int8 [N, C, *spatial], gamma and beta float32 [C]: like qlayer_norm over the channels of a group and all of space.
    As many groups as channels: an instance norm."""
    rows = x.reshape(x.shape[0], num_groups, -1)
    tail = [-1, *[1] * (x.ndim - 2)]
    t = _normal(rows, [2], epsilon, 1, x_zero).reshape(x.shape) * gamma.reshape(tail) + beta.reshape(tail)
    return requantize(t, y_zero, -128, 127, None)


# --- attention --------------------------------------------------------------------------------------------------


def attention_table() -> torch.Tensor:
    """int8 [256]: the weight round(255 e^-(i 6.25 / 255)), less 128."""
    return (torch.round(TOP * torch.exp(-torch.arange(256, dtype=torch.float64) * (REACH / 255))) - 128).to(torch.int8)


def attention_form(operands: Sequence[Pair], y: Pair, depth: int, attrs: dict) -> dict:
    """The attributes of qattention from those of the float op. operands: q, k and v."""
    q, k, v = operands
    scale = attrs.get("scale")
    kept = {key: n for key, n in attrs.items() if key in ("is_causal", "q_num_heads", "kv_num_heads", "left_window_size",
                                                          "right_window_size")}
    return kept | {"scale": single(q[0] * k[0] * (depth ** -0.5 if scale is None else scale)), "y_scale": single(v[0] / y[0]),
                   "q_zero": q[1], "k_zero": k[1], "v_zero": v[1], "y_zero": y[1]}


@op("qattention", example=lambda r: ([_q(r, 2, 4, 3, 8), _q(r, 2, 2, 5, 8), _q(r, 2, 2, 5, 6), r(3, 5), None, None, None,
                                      attention_table()],
                                     {"is_causal": 1, "scale": 1e-3, "y_scale": 0.9, "q_zero": 3, "k_zero": -2, "v_zero": 7}))
def qattention(q, k, v, mask=None, past_key=None, past_value=None, nonpad_kv_seqlen=None, table=None, is_causal=0,
               q_num_heads=0, kv_num_heads=0, scale=1.0, y_scale=1.0, q_zero=0, k_zero=0, v_zero=0, y_zero=0,
               left_window_size=-1, right_window_size=-1):
    """int8 q, k, v of the shapes of `attention`; its mask (bool, or float32) and its ranges; no past. Of one query, over the keys
    it may attend to: t = f32(sum of (q - q_zero) (k - k_zero)) * scale + mask; i = round_half_even(min((max t - t) * 40.8, 255)),
    p = table[i] + 128 (else 0); y = f32(sum of p (v - v_zero)) * (y_scale / f32(sum of p)), requantized."""
    flat = q.ndim == 3
    if flat:
        q, k, v = (t.reshape(*t.shape[:2], heads, -1).transpose(1, 2)
                   for t, heads in ((q, q_num_heads), (k, kv_num_heads), (v, kv_num_heads)))
    many = q.shape[1] // k.shape[1]
    q, k, v = (t.to(torch.float64) - zero for t, zero in ((q, q_zero), (k, k_zero), (v, v_zero)))
    k, v = k.repeat_interleave(many, 1), v.repeat_interleave(many, 1)
    t = (q @ k.transpose(2, 3)).to(torch.float32) * _f32(scale)  # float64 holds the sums exactly
    bias = attention_bias(t, mask, 0, None, nonpad_kv_seqlen, is_causal, left_window_size, right_window_size)
    t = t if bias is None else t + bias
    away = ((t.amax(-1, keepdim=True) - t) * _f32(255 / REACH)).clamp(max=255)
    at = torch.round(torch.where(t == float("-inf"), torch.full_like(t, 255), away)).to(torch.int64)
    p = torch.where(t == float("-inf"), 0, table.to(torch.int64)[at] + 128).to(torch.float64)
    total = p.sum(-1, keepdim=True).to(torch.float32)
    rate = torch.where(total > 0, _f32(y_scale) / total, torch.zeros_like(total))
    y = requantize((p @ v).to(torch.float32) * rate, y_zero, -128, 127, None)
    return y.transpose(1, 2).flatten(2) if flat else y


@op("qmatmul", example=lambda r: ([_q(r, 2, 1, 3, 8), _q(r, 2, 8, 5)],
                                  {"scale": 0.004, "a_zero": 3, "b_zero": -2, "y_zero": 5}))
def qmatmul(a, b, scale=1.0, a_zero=0, b_zero=0, y_zero=0):
    """int8 a [..., M, K], b [..., K, N], both computed, batch axes broadcast, K at most 16384:
    t = f32(sum of (a - a_zero) (b - b_zero)) * scale."""
    acc = (a.to(torch.float64) - a_zero) @ (b.to(torch.float64) - b_zero)
    return requantize(acc.to(torch.float32) * _f32(scale), y_zero, -128, 127, None)


# --- resize -----------------------------------------------------------------------------------------------------


@op("nhwc_qresize", example=lambda r: (
    [_q(r, 1, 3, 4, 5), *resize_form({}, (1, 3, 4, 5), [None, None, torch.tensor([1, 5, 6, 5])], 1)],
    {"scale": 5e-5, "x_zero": 3}))
def nhwc_qresize(x, rows, row_weights, columns, column_weights, scale=1 / 16384, x_zero=0, y_zero=0):
    """Linear: x int8 [N, H, W, C]; y's pixel (i, j) lies between rows[i] = (r, s) and columns[j] = (c, d) (int32, [., 2]):
    t = f32(sum of four (x - x_zero) w) * scale, with w = round_half_even(16384 * product of two weights), in float32."""
    rows, columns = rows.to(torch.int64), columns.to(torch.int64)
    f, total = (x.to(torch.int32) - x_zero).to(torch.float32), 0  # float32 holds these sums exactly
    for i in (0, 1):
        high = f.index_select(1, rows[:, i])
        for j in (0, 1):
            w = row_weights[:, i].float().reshape(-1, 1, 1) * column_weights[:, j].float().reshape(-1, 1)
            total = total + high.index_select(2, columns[:, j]) * torch.round(w * ONE)
    return requantize(total * _f32(scale), y_zero, -128, 127, None)


def resize_form(attrs: dict, shape, given: list, height: int):
    """The four tables of nhwc_qresize, from the float op's attributes, x's shape and the inputs behind x (None where absent);
    `height` is that axis, the width follows it. None where the op does more than resample an image so."""
    roi, scales, sizes = (*given, None, None, None)[:3]
    how = attrs.get("coordinate_transformation_mode", "half_pixel")
    taps, outside = resize_taps(torch.Size(shape), roi, scales, sizes, "linear", how, "", 0.0, attrs.get("exclude_outside", 0),
                                0, attrs.get("axes"), attrs.get("keep_aspect_ratio_policy", "stretch"))
    if outside or len(shape) != 4 or not set(taps) <= {height, height + 1}:
        return None
    tables = []
    for axis in (height, height + 1):
        same = np.arange(shape[axis]).repeat(2).reshape(-1, 2), np.tile([1.0, 0.0], (shape[axis], 1))
        index, weight = taps.get(axis, same)
        tables += [torch.from_numpy(index.astype(np.int32)), torch.from_numpy(weight.astype(np.float32))]
    return tables


# --- all of them, by the float op -------------------------------------------------------------------------------


def integer_rows(name: str, attrs: dict, codes: list, scales: list[Pair], rest: list, out: Pair):
    """What the integer form of a float op makes of int8 `codes` of these (scale, zero point), NCHW as the float op has it.
    rest: its other inputs; out: scale and zero point of the result."""
    x, (scale, zero) = codes[0], scales[0]
    if name == "softmax":
        axis = attrs.get("axis", -1)
        table, attrs = softmax_form(scale, out, axis, x.shape[axis])
        return qsoftmax(x, table, **attrs)
    if name == "attention":
        depth = x.shape[-1] // (attrs["q_num_heads"] if x.ndim == 3 else 1)
        mask, _, _, valid = (*rest, None, None, None, None)[:4]
        return qattention(*codes, mask, None, None, valid, attention_table(), **attention_form(scales, out, depth, attrs))
    if name == "matmul":
        (sa, za), (sb, zb) = scales
        return qmatmul(*codes, single(sa * sb / out[0]), za, zb, out[1])
    if name == "resize":
        tables = resize_form(attrs, x.shape, rest, 2)
        y = nhwc_qresize(x.permute(0, 2, 3, 1), *tables, single(scale / out[0] / ONE), zero, out[1])
        return y.permute(0, 3, 1, 2)
    gamma, beta = (*rest, None)[:2]
    if name in ("layer_norm", "rms_norm"):
        axis = attrs.get("axis", -1) % x.ndim
        gamma, beta, more = norm_form(scales[0], out, norm_weights(x.shape[axis:], gamma, beta), attrs)
        return qlayer_norm(x, gamma, beta, axis, centred=int(name == "layer_norm"), **more)
    groups = attrs.get("num_groups", x.shape[1])
    gamma, beta, more = norm_form(scales[0], out, norm_weights((x.shape[1],), gamma, beta), attrs)
    return qgroup_norm(x, gamma, beta, groups, **more)
