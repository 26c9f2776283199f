"""Ops that only lowering makes: what the engine runs where the Graph's own ops are not what a kernel wants.

Images are NHWC, convolution weights OHWI ([out, kh, kw, in / group]), pads [top, left, bottom, right]. The float
ops end in an epilogue: `act(y + bias + residual)`. The integer ops define every rounding step, in float32, in
this order and without fused multiply-add, so that torch, C, AVX and NEON give the same bytes:

    t = float32(acc) * scale[n]                         acc: exact int32, bias included
    t = t + float32(residual - r_zero) * r_scale        (when there is a residual)
    y = round_half_even(min(max(t, lo - y_zero), hi - y_zero)) + y_zero
    y = table[y + 128]                                  (when there is a table)

Scales of residual and operands are already divided by the output's scale.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F

from . import op

# Activations an epilogue can do, with their parameters alpha and beta.
ACTS = {
    "none": lambda y, a, b: y,
    "relu": lambda y, a, b: y.relu(),
    "clip": lambda y, a, b: y.clamp(a, b),
    "leaky_relu": lambda y, a, b: torch.where(y < 0, y * a, y),
    "elu": lambda y, a, b: torch.where(y < 0, a * torch.expm1(y), y),
    "sigmoid": lambda y, a, b: y.sigmoid(),
    "tanh": lambda y, a, b: y.tanh(),
    "silu": lambda y, a, b: F.silu(y),
    "hard_sigmoid": lambda y, a, b: (y * a + b).clamp(0, 1),
    "hard_swish": lambda y, a, b: y * (y / 6 + 0.5).clamp(0, 1),
    "gelu": lambda y, a, b: F.gelu(y),
    "gelu_tanh": lambda y, a, b: F.gelu(y, approximate="tanh"),
    "softplus": lambda y, a, b: F.softplus(y),
    "mish": lambda y, a, b: F.mish(y),
}


def widened(w, x):
    """A weight stored in half precision for a float x of another type: widened, as the device does."""
    return w.to(x.dtype) if w is not None and w.dtype in (torch.float16, torch.bfloat16) and x.dtype != w.dtype else w


def brain(x):
    """x rounded to bfloat16, to nearest and ties to even; the gradient passes.

    Where an engine has products in bfloat16 and they are the faster ones, it rounds exactly so, and differs from torch in the
    order of its float32 sums alone: by at most 1e-6 sqrt(k) of the sum of |x w| over k products. Elsewhere (a CPU without them,
    a layer that Winograd or another kernel makes faster) it multiplies x as it is, and differs by at most 2^-8 of that sum."""
    return x.to(torch.bfloat16).to(x.dtype)


def epilogue(y, bias, residual, act, alpha, beta):
    """act(y + bias + residual); bias is per last axis, residual has y's shape."""
    if bias is not None:
        y = y + bias
    if residual is not None:
        y = y + residual
    return ACTS[act](y, alpha, beta)


def _nchw(x):
    return x.permute(0, 3, 1, 2)


def _nhwc(x):
    return x.permute(0, 2, 3, 1).contiguous()


def _image(x, layout):
    """x, in the order `layout`, as NHWC."""
    return _nhwc(x) if layout == "nchw" else x


def _pad(x, pads, value=0.0):
    """Pad H and W of an NCHW tensor by [top, left, bottom, right]."""
    t, l, b, r = pads
    return F.pad(x, (l, r, t, b), value=value) if any(pads) else x


@op("nhwc_conv", example=lambda r: ([r(2, 7, 6, 4), r(8, 3, 3, 2), r(8), r(2, 4, 3, 8)],
                                    {"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 2, "act": "relu"}))
def nhwc_conv(x, w, b=None, residual=None, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), group=1,
              act="none", alpha=0.0, beta=0.0, dynamic=0, layout="nhwc", winograd=-1, bf16=0):
    """x [N,H,W,C], w [O,kh,kw,C/group], b [O], residual like y. y [N,OH,OW,O]. dynamic: see `rounded`. layout="nchw":
    x is [N,C,H,W] (y is not), for small windows of few channels (lower/image.py). winograd: how the engine may sum 3x3
    windows of stride 1: directly (0), by F(2x2) or F(4x4) tiles (2, 4), or as it sees fit. bf16: x is rounded to bfloat16 first, see `brain`."""
    x = _image(x, layout)
    x, w = rounded(x, (1, 2, 3)) if dynamic else brain(x) if bf16 else x, widened(w, x)
    y = F.conv2d(_pad(_nchw(x), pads), w.permute(0, 3, 1, 2), None, tuple(strides), 0, tuple(dilations), group)
    return epilogue(_nhwc(y), b, residual, act, alpha, beta)


@op("nhwc_inverted_residual", example=lambda r: (
    [r(1, 7, 6, 8), r(12, 1, 1, 8), r(12), r(12, 3, 3, 1), r(12), r(8, 1, 1, 12), r(8), r(1, 7, 6, 8)],
    {"a_act": "relu", "b_pads": [1, 1, 1, 1], "b_group": 12, "b_act": "clip", "b_alpha": -0.5, "b_beta": 2.0}))
def nhwc_inverted_residual(x, a_w, a_b, b_w, b_b, c_w, c_b=None, residual=None, a_act="none", a_alpha=0.0, a_beta=0.0,
                           b_strides=(1, 1), b_pads=(0, 0, 0, 0), b_group=1, b_act="none", b_alpha=0.0, b_beta=0.0,
                           c_act="none", c_alpha=0.0, c_beta=0.0, a_bf16=0, c_bf16=0):
    """Three nhwc_conv in a row: 1x1 (a; absent: none), depthwise (b), 1x1 (c)."""
    y = x if a_w is None else nhwc_conv(x, a_w, a_b, act=a_act, alpha=a_alpha, beta=a_beta, bf16=a_bf16)
    y = nhwc_conv(y, b_w, b_b, None, b_strides, b_pads, (1, 1), b_group, b_act, b_alpha, b_beta)
    return nhwc_conv(y, c_w, c_b, residual, act=c_act, alpha=c_alpha, beta=c_beta, bf16=c_bf16)


@op("nhwc_conv_transpose", example=lambda r: ([r(1, 4, 5, 4), r(6, 3, 3, 4), r(6)],
                                              {"strides": [2, 2], "pads": [1, 1, 0, 1], "act": "none"}))
def nhwc_conv_transpose(x, w, b=None, strides=(1, 1), pads=(0, 0, 0, 0), output_padding=(0, 0), dilations=(1, 1),
                        group=1, act="none", alpha=0.0, beta=0.0):
    """x [N,H,W,C], w [O,kh,kw,C/group] (O = all outputs), pads are cut off the full result. y [N,OH,OW,O]."""
    o, kh, kw, cg = w.shape
    weight = widened(w, x).reshape(group, o // group, kh, kw, cg).permute(0, 4, 1, 2, 3).reshape(group * cg, o // group, kh, kw)
    y = F.conv_transpose2d(_nchw(x), weight, None, tuple(strides), 0, tuple(output_padding), group, tuple(dilations))
    t, l, bot, r = pads
    y = y[:, :, t:y.shape[2] - bot, l:y.shape[3] - r]
    return epilogue(_nhwc(y), b, None, act, alpha, beta)


def _windows(x, kernel, strides, pads, dilations, fill):
    """All pooling windows of an NHWC tensor: [N, OH, OW, C, kh * kw]."""
    x = _pad(_nchw(x), pads, fill)
    n, c = x.shape[:2]
    oh, ow = ((x.shape[2 + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i in (0, 1))
    s = x.stride()
    x = x.as_strided((n, oh, ow, c, *kernel), (s[0], s[2] * strides[0], s[3] * strides[1], s[1],
                                               s[2] * dilations[0], s[3] * dilations[1]))
    return x.flatten(4)


@op("nhwc_max_pool", example=lambda r: ([r(1, 6, 7, 5)], {"kernel": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}))
def nhwc_max_pool(x, kernel, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1)):
    """Any of float32, int8, uint8. Pads never win (lowering turns ceil_mode into pads)."""
    fill = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    x64 = x if x.is_floating_point() else x.to(torch.float32)
    return _windows(x64, kernel, strides, pads, dilations, fill).amax(-1).to(x.dtype)


@op("nhwc_avg_pool", example=lambda r: ([r(1, 6, 7, 5)], {"kernel": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}))
def nhwc_avg_pool(x, kernel, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), include=(0, 0, 0, 0)):
    """Mean over the cells of a window that are in the image, or in the part of the pads, `include`
    [top, left, bottom, right] wide, that counts (ONNX count_include_pad without what ceil_mode adds)."""
    ones = _pad(torch.ones(1, 1, *x.shape[1:3], dtype=x.dtype, device=x.device), include, 1.0).permute(0, 2, 3, 1)
    rest = [p - i for p, i in zip(pads, include)]
    count = _windows(ones, kernel, strides, rest, dilations, 0.0).sum(-1)
    return _windows(x, kernel, strides, pads, dilations, 0.0).sum(-1) / count


@op("channel_shuffle", example=lambda r: ([r(2, 3, 8), r(2, 3, 4)], {"groups": 2, "sizes": [6, 6]}))
def channel_shuffle(*xs, groups, sizes):
    """Along the last axis: joined, as [groups, c / groups] turned to [c / groups, groups], split into `sizes`."""
    y = torch.cat(xs, -1)
    y = y.reshape(*y.shape[:-1], groups, y.shape[-1] // groups).transpose(-1, -2).reshape(y.shape)
    return tuple(y.split([int(n) for n in sizes], -1))


@op("nhwc_depth_to_space", example=lambda r: ([r(1, 2, 3, 8)], {"blocksize": 2, "mode": "CRD"}))
def nhwc_depth_to_space(x, blocksize, mode="DCR"):
    """x [N,H,W,C], y [N,H*b,W*b,C/b^2]; mode says how channels are split, as in ONNX DepthToSpace."""
    n, h, w, c = x.shape
    b = blocksize
    if mode == "DCR":
        y = x.reshape(n, h, w, b, b, c // (b * b)).permute(0, 1, 3, 2, 4, 5)
    else:
        y = x.reshape(n, h, w, c // (b * b), b, b).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(n, h * b, w * b, c // (b * b))


@op("nhwc_space_to_depth", example=lambda r: ([r(1, 4, 6, 3)], {"blocksize": 2}))
def nhwc_space_to_depth(x, blocksize):
    """x [N,H,W,C], y [N,H/b,W/b,C*b^2], the block's position outermost in the channels, as in ONNX SpaceToDepth."""
    n, h, w, c = x.shape
    b = blocksize
    return x.reshape(n, h // b, b, w // b, b, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h // b, w // b, c * b * b)


# --- integer -------------------------------------------------------------------------------------------------

def requantize(t, y_zero, lo, hi, table):
    """float32 t to int8: clamp, round half to even, shift, look up. The one definition (see the module's text)."""
    y = torch.round(t.clamp(float(lo - y_zero), float(hi - y_zero))) + float(y_zero)
    y = y.to(torch.int8)
    return y if table is None else table[(y.to(torch.int64) + 128)]


def _finish(acc, bias, scale, residual, table, y_zero, lo, hi, r_scale, r_zero, out, act, alpha, beta, y_scale=1.0):
    acc = acc.to(torch.int64) if bias is None else acc.to(torch.int64) + bias.to(torch.int64)
    t = acc.to(torch.int32).to(torch.float32) * scale
    if out != "int8":
        real = ACTS[act](t if residual is None else t + residual, alpha, beta)
        codes = torch.round(real / torch.tensor(y_scale, dtype=torch.float32)) + float(y_zero)
        return real if out == "float32" else codes.clamp(-128, 127).to(torch.int8)
    if residual is not None:
        t = t + (residual.to(torch.int32) - r_zero).to(torch.float32) * torch.tensor(r_scale, dtype=torch.float32)
    return requantize(t, y_zero, lo, hi, table)


def _q(r, *shape):
    return (r(*shape) * 40).round().clip(-128, 127).astype("int8")


@op("qlinear", example=lambda r: ([_q(r, 3, 20), _q(r, 7, 20), (r(7) * 500).astype("int32"), abs(r(7)) * 0.01 + 0.001,
                                   _q(r, 3, 7)], {"x_zero": 3, "y_zero": -5, "r_scale": 0.7, "r_zero": 2}))
def qlinear(x, w, bias, scale, residual=None, table=None, x_zero=0, y_zero=0, lo=-128, hi=127, r_scale=1.0, r_zero=0,
            out="int8", act="none", alpha=0.0, beta=0.0, y_scale=1.0):
    """x int8 [..., K], w int8 [N, K], bias int32 [N] or None, scale float32 [N], residual int8 like y, table int8
    [256]. The accumulator must fit int32 (lowering checks). out="float32" gives v = act(t + residual) instead, the
    residual float32; out="codes" gives quantize_linear(v, y_scale, y_zero)."""
    acc = (x.to(torch.float64) - x_zero) @ w.to(torch.float64).T  # exact: products and sums stay below 2**53
    return _finish(acc, bias, scale, residual, table, y_zero, lo, hi, r_scale, r_zero, out, act, alpha, beta, y_scale)


@op("nhwc_qconv", example=lambda r: ([_q(r, 1, 7, 6, 4), _q(r, 8, 3, 3, 4), (r(8) * 500).astype("int32"),
                                      abs(r(8)) * 0.01 + 0.001], {"pads": [1, 1, 1, 1], "x_zero": 3, "y_zero": -5}))
def nhwc_qconv(x, w, bias, scale, residual=None, table=None, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1),
               group=1, x_zero=0, y_zero=0, lo=-128, hi=127, r_scale=1.0, r_zero=0,
               out="int8", act="none", alpha=0.0, beta=0.0, layout="nhwc", x_scale=0.0):
    """Like qlinear over windows: x int8 [N,H,W,C], w int8 [O,kh,kw,C/group]; pads hold x_zero. layout: see nhwc_conv.
    A float32 x is quantized first: saturate(round_half_even(x / x_scale) + x_zero), as quantize_linear does."""
    x = _image(x, layout)
    if x.is_floating_point():
        x = (torch.round(x / torch.tensor(x_scale, dtype=torch.float32)) + float(x_zero)).clamp(-128, 127)
    x = _pad(_nchw(x.to(torch.float64) - x_zero), pads)
    acc = F.conv2d(x, w.to(torch.float64).permute(0, 3, 1, 2), None, tuple(strides), 0, tuple(dilations), group)
    return _finish(_nhwc(acc), bias, scale, residual, table, y_zero, lo, hi, r_scale, r_zero, out, act, alpha, beta)


@op("nhwc_qinverted_residual", example=lambda r: (
    [_q(r, 1, 7, 6, 8), _q(r, 12, 1, 1, 8), (r(12) * 500).astype("int32"), abs(r(12)) * 0.01 + 0.001, None,
     _q(r, 12, 3, 3, 1), (r(12) * 500).astype("int32"), abs(r(12)) * 0.01 + 0.001, _q(r, 256),
     _q(r, 8, 1, 1, 12), (r(8) * 500).astype("int32"), abs(r(8)) * 0.01 + 0.001, None, _q(r, 1, 7, 6, 8)],
    {"a_x_zero": 3, "a_y_zero": -5, "b_pads": [1, 1, 1, 1], "b_group": 12, "b_x_zero": -5, "b_y_zero": 4, "b_lo": -100,
     "c_x_zero": 4, "c_r_scale": 0.7, "c_r_zero": 2}))
def nhwc_qinverted_residual(x, a_w, a_bias, a_scale, a_table, b_w, b_bias, b_scale, b_table, c_w, c_bias, c_scale, c_table=None,
                            residual=None, a_x_zero=0, a_y_zero=0, a_lo=-128, a_hi=127,
                            b_strides=(1, 1), b_pads=(0, 0, 0, 0), b_group=1, b_x_zero=0, b_y_zero=0, b_lo=-128, b_hi=127,
                            c_x_zero=0, c_y_zero=0, c_lo=-128, c_hi=127, c_r_scale=1.0, c_r_zero=0):
    """Three nhwc_qconv in a row: 1x1 (a; absent: none), depthwise (b), 1x1 (c)."""
    y = x
    if a_w is not None:
        y = nhwc_qconv(x, a_w, a_bias, a_scale, None, a_table, x_zero=a_x_zero, y_zero=a_y_zero, lo=a_lo, hi=a_hi)
    y = nhwc_qconv(y, b_w, b_bias, b_scale, None, b_table, b_strides, b_pads, (1, 1), b_group, b_x_zero, b_y_zero, b_lo, b_hi)
    return nhwc_qconv(y, c_w, c_bias, c_scale, residual, c_table, x_zero=c_x_zero, y_zero=c_y_zero, lo=c_lo, hi=c_hi,
                      r_scale=c_r_scale, r_zero=c_r_zero)


@op("qadd", example=lambda r: ([_q(r, 2, 3, 8), _q(r, 2, 3, 8)], {"a_scale": 0.5, "b_scale": 0.8, "a_zero": 3}))
def qadd(a, b, table=None, a_scale=1.0, a_zero=0, b_scale=1.0, b_zero=0, y_zero=0, lo=-128, hi=127):
    """int8 a, b (broadcast as in numpy): t = f32(a - a_zero) * a_scale + f32(b - b_zero) * b_scale."""
    def f(v, z, s):
        return (v.to(torch.int32) - z).to(torch.float32) * torch.tensor(s, dtype=torch.float32)
    return requantize(f(a, a_zero, a_scale) + f(b, b_zero, b_scale), y_zero, lo, hi, table)


@op("qmul", example=lambda r: ([_q(r, 2, 5, 8), _q(r, 2, 1, 8)], {"scale": 0.03, "a_zero": 3}))
def qmul(a, b, table=None, scale=1.0, a_zero=0, b_zero=0, y_zero=0, lo=-128, hi=127):
    """int8 a, b (broadcast): t = f32((a - a_zero) * (b - b_zero)) * scale."""
    acc = (a.to(torch.int32) - a_zero) * (b.to(torch.int32) - b_zero)
    return requantize(acc.to(torch.float32) * torch.tensor(scale, dtype=torch.float32), y_zero, lo, hi, table)


@op("qlut", example=lambda r: ([_q(r, 3, 9), _q(r, 256)], {}))
def qlut(x, table):
    """y = table[x + 128]: any function of one int8 value. table int8 [256]."""
    return table[x.to(torch.int64) + 128]


@op("nhwc_qavg_pool", example=lambda r: ([_q(r, 1, 6, 7, 5)], {"kernel": [3, 3], "scale": 0.9, "x_zero": 3}))
def nhwc_qavg_pool(x, kernel, strides=(1, 1), pads=(0, 0, 0, 0), include=(0, 0, 0, 0), scale=1.0, x_zero=0, y_zero=0,
                   lo=-128, hi=127):
    """Mean of int8 windows: t = f32(sum of (x - x_zero)) * (scale / f32(cells that count)); a global mean is a
    window as large as the image."""
    acc = _windows(x.to(torch.float32) - x_zero, kernel, strides, pads, (1, 1), 0.0).sum(-1)
    ones = _pad(torch.ones(1, 1, *x.shape[1:3], device=x.device), include, 1.0).permute(0, 2, 3, 1)
    rest = [p - i for p, i in zip(pads, include)]
    count = _windows(ones, kernel, strides, rest, (1, 1), 0.0).sum(-1)
    return requantize(acc * (torch.tensor(scale, dtype=torch.float32) / count), y_zero, lo, hi, None)


def _dynamic(x, axes):
    """Symmetric int8 of x with one scale per slice over `axes`: the codes and the scale, float32."""
    top = x.abs().amax(axes, keepdim=True)
    inverse = torch.where(top > 0, 127.0 / top, torch.zeros_like(top))
    return torch.round(x * inverse), top / 127.0


def rounded(x, axes):
    """What dynamic int8 makes of a layer's float input: rounded to 255 steps per slice over `axes`; the gradient goes
    straight through. The attribute dynamic=1 of linear, conv and nhwc_conv asks for it."""
    codes, scale = _dynamic(x.detach(), axes)
    return codes * scale + (x - x.detach())


def _codes(x, x_scale, x_zero, axes):
    """What a dynamic layer multiplies, as whole float64 numbers, and their scale."""
    if x_scale is None:
        codes, scale = _dynamic(x, axes)
        return codes.to(torch.float64), scale
    return x.to(torch.float64) - x_zero.to(torch.float64).reshape(()), x_scale.reshape(())


@op("dqlinear", example=lambda r: ([r(3, 20), _q(r, 7, 20), abs(r(7)) * 0.01, r(7), r(3, 7)], {"act": "relu"}))
def dqlinear(x, w, scale, b=None, residual=None, x_scale=None, x_zero=None, act="none", alpha=0.0, beta=0.0):
    """Dynamic int8: x float32 [..., K] is quantized per row, w int8 [N, K] with scale float32 [N]:
    y = act(f32(acc) * (x_scale * scale[n]) + b + residual). Or x is uint8 already, of one x_scale (float32) and x_zero
    (uint8) that were computed, as ONNX DynamicQuantizeLinear does."""
    codes, x_scale = _codes(x, x_scale, x_zero, (-1,))
    acc = (codes @ w.to(torch.float64).T).to(torch.float32)
    return epilogue(acc * (x_scale * scale), b, residual, act, alpha, beta)


@op("nhwc_dqconv", example=lambda r: ([r(1, 7, 6, 4), _q(r, 8, 3, 3, 4), abs(r(8)) * 0.01, r(8)], {"pads": [1, 1, 1, 1]}))
def nhwc_dqconv(x, w, scale, b=None, residual=None, x_scale=None, x_zero=None, strides=(1, 1), pads=(0, 0, 0, 0),
                dilations=(1, 1), group=1, act="none", alpha=0.0, beta=0.0, layout="nhwc"):
    """Dynamic int8 convolution: x float32 is quantized per image, or uint8 already: see dqlinear. layout: see nhwc_conv."""
    codes, x_scale = _codes(_image(x, layout), x_scale, x_zero, (1, 2, 3))
    acc = F.conv2d(_pad(_nchw(codes), pads), w.to(torch.float64).permute(0, 3, 1, 2), None, tuple(strides), 0,
                   tuple(dilations), group)
    return epilogue(_nhwc(acc).to(torch.float32) * (x_scale * scale), b, residual, act, alpha, beta)


@op("nhwc_conv_integer", example=lambda r: ([_q(r, 1, 7, 6, 4), _q(r, 8, 3, 3, 4)], {"pads": [1, 1, 1, 1]}))
def nhwc_conv_integer(x, w, x_zero=None, w_zero=None, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), group=1):
    """ONNX ConvInteger over NHWC: x, w int8 or uint8, zero points scalars (w_zero also one per output); y int32."""
    wide = x.to(torch.float64) - (0 if x_zero is None else x_zero.to(torch.float64))
    wz = 0 if w_zero is None else w_zero.to(torch.float64).reshape(-1, 1, 1, 1)
    y = F.conv2d(_pad(_nchw(wide), pads), (w.to(torch.float64) - wz).permute(0, 3, 1, 2), None, tuple(strides), 0,
                 tuple(dilations), group)
    return _nhwc(y).to(torch.int32)
