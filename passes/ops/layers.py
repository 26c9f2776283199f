"""Layers: convolutions, matrix products, normalisations and pools. Images are [N, C, *spatial] with 1 to 3 spatial
axes; pads are [begin..., end...]."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from . import dtype_of, op
from .lowered import brain, epilogue, rounded, widened
from .math import wide
from .window import pad_spatial, pool_pads, resolve_pads, spread, window_sum

# --- convolution ------------------------------------------------------------------------------------------------


@op("conv", example=lambda r: ([r(2, 4, 7, 6), r(6, 2, 3, 3), r(6)],
                               {"strides": [2, 1], "pads": [1, 1, 0, 1], "dilations": [1, 2], "group": 2}))
def conv(x, w, b=None, strides=None, pads=None, dilations=None, group=1, kernel_shape=None, auto_pad="NOTSET", dynamic=0):
    """x [N, C, *spatial], w [O, C / group, *kernel], b [O]. dynamic: x is rounded to int8 per image first."""
    n = x.ndim - 2
    x, w = rounded(x, tuple(range(1, x.ndim))) if dynamic else x, widened(w, x)
    strides, dilations = spread(strides, n), spread(dilations, n)
    pads = resolve_pads(auto_pad, pads, x.shape[2:], w.shape[2:], strides, dilations)
    fn = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    if pads[:n] == pads[n:] and min(pads) >= 0:
        return fn(x, w, b, strides, pads[:n], dilations, group)
    return fn(pad_spatial(x, pads), w, b, strides, 0, dilations, group)


@op("conv_transpose", example=lambda r: ([r(2, 4, 5, 4), r(4, 3, 3, 3), r(6)],
                                         {"strides": [2, 2], "pads": [1, 0, 1, 1], "group": 2, "output_padding": [1, 0]}))
def conv_transpose(x, w, b=None, strides=None, pads=None, dilations=None, group=1, kernel_shape=None, auto_pad="NOTSET",
                   output_padding=None, output_shape=None):
    """x [N, C, *spatial], w [C, O / group, *kernel], b [O]. `pads` are cut off the full result, which
    `output_padding` first makes longer at its end; `output_shape` (spatial) chooses the pads instead."""
    n = x.ndim - 2
    strides, dilations, extra = spread(strides, n), spread(dilations, n), spread(output_padding, n, 0)
    full = [(x.shape[2 + i] - 1) * strides[i] + (w.shape[2 + i] - 1) * dilations[i] + 1 + extra[i] for i in range(n)]
    if output_shape is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        output_shape = [x.shape[2 + i] * strides[i] for i in range(n)]
    if output_shape is not None:
        total = [f - int(o) for f, o in zip(full, output_shape[-n:])]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = small + large if auto_pad == "SAME_UPPER" else large + small
    else:
        pads = [0] * (2 * n) if auto_pad == "VALID" else spread(pads, 2 * n, 0)
    y = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[n - 1](x, widened(w, x), None, strides, 0, 0, group,
                                                                              dilations)
    y = pad_spatial(y, [-p for p in pads[:n]] + [e - p for e, p in zip(extra, pads[n:])])
    return y if b is None else y + b.reshape(-1, *[1] * n)


# --- products ---------------------------------------------------------------------------------------------------


@op("linear", example=lambda r: ([r(2, 3, 8), r(5, 8), r(5), r(2, 3, 5)], {"act": "relu"}))
def linear(x, w, b=None, residual=None, act="none", alpha=0.0, beta=0.0, dynamic=0, bf16=0):
    """act(x @ w.T + b + residual): x [..., K], w [N, K], b [N], residual [..., N]. dynamic: x is rounded to int8 per
    row first. bf16: x is rounded to bfloat16 first, see `brain`."""
    x, w = rounded(x, (-1,)) if dynamic else brain(x) if bf16 else x, widened(w, x)
    return epilogue(F.linear(x, w, b), None, residual, act, alpha, beta)


@op("matmul", example=lambda r: ([r(2, 1, 3, 4), r(5, 4, 2)], {}))
@wide
def matmul(a, b):
    """numpy's matmul."""
    return a @ b


@op("einsum", example=lambda r: ([r(2, 3, 4), r(2, 4, 5)], {"equation": "bij, bjk -> bik"}))
def einsum(*xs, equation):
    return torch.einsum(equation, *xs)


# --- normalisation ----------------------------------------------------------------------------------------------


def _channels(v, x):
    """[C] shaped to broadcast over [N, C, ...]."""
    return v.reshape(-1, *[1] * (x.ndim - 2))


def _normalise(x, mean, var, scale, bias, epsilon):
    mean, var, scale, bias = (_channels(v, x) for v in (mean, var, scale, bias))
    return (x - mean) / torch.sqrt(var + epsilon) * scale + bias


@op("batch_norm", example=lambda r: ([r(2, 4, 3, 3), r(4), r(4), r(4), abs(r(4)) + 0.5], {"epsilon": 1e-3}))
def batch_norm(x, scale, bias, mean, var, epsilon=1e-5, momentum=0.9, training_mode=0, outputs=1):
    """x [N, C, ...], the rest [C]. With training_mode the batch's own mean and (biased) variance are used, and outputs
    are y, running_mean, running_var, where running = running * momentum + batch * (1 - momentum)."""
    if training_mode:
        axes = [0, *range(2, x.ndim)]
        now, spread_ = x.mean(axes), x.var(axes, unbiased=False)
        y = _normalise(x, now, spread_, scale, bias, epsilon)
        mean, var = mean * momentum + now * (1 - momentum), var * momentum + spread_ * (1 - momentum)
    elif mean.requires_grad or var.requires_grad or any(v.dtype != x.dtype for v in (scale, bias, mean, var)):
        y = _normalise(x, mean, var, scale, bias, epsilon)  # torch's own has no such gradient, nor mixed types
    else:
        y = F.batch_norm(x, mean, var, scale, bias, False, 0.0, epsilon)
    return y.to(x.dtype) if outputs == 1 else (y.to(x.dtype), mean, var)


@op("instance_norm", example=lambda r: ([r(2, 4, 3, 5), r(4), r(4)], {"epsilon": 1e-3}))
def instance_norm(x, scale, bias, epsilon=1e-5):
    """x [N, C, *spatial], normalised over the spatial axes; scale and bias [C]."""
    axes = list(range(2, x.ndim))
    d = x - x.mean(axes, keepdim=True)
    return d * torch.rsqrt((d * d).mean(axes, keepdim=True) + epsilon) * _channels(scale, x) + _channels(bias, x)


@op("group_norm", example=lambda r: ([r(2, 6, 3, 5), r(6), r(6)], {"num_groups": 3}))
def group_norm(x, scale, bias, num_groups, epsilon=1e-5, stash_type=1):
    """x [N, C, *spatial]; scale and bias [C], or [num_groups] as in opset 18."""
    if scale.shape[0] != x.shape[1]:
        scale, bias = (v.repeat_interleave(x.shape[1] // num_groups) for v in (scale, bias))
    return F.group_norm(x, num_groups, scale, bias, epsilon)


@op("layer_norm", example=lambda r: ([r(2, 3, 8), r(8), r(8)], {"epsilon": 1e-6}))
def layer_norm(x, scale, bias=None, axis=-1, epsilon=1e-5, stash_type=1, outputs=1):
    """Over the axes from `axis` on. outputs: y, mean, 1 / standard deviation (reduced axes kept as 1)."""
    axes = list(range(axis % x.ndim, x.ndim))
    shape = x.shape[axes[0]:]
    if outputs == 1 and scale.shape == shape and (bias is None or bias.shape == shape) and scale.dtype == x.dtype:
        return F.layer_norm(x, shape, scale, bias, epsilon)
    f = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    mean = f.mean(axes, keepdim=True)
    d = f - mean
    inverse = torch.rsqrt((d * d).mean(axes, keepdim=True) + epsilon)
    y = (d * inverse).to(x.dtype) * scale
    y = y if bias is None else y + bias
    return y if outputs == 1 else (y, mean, inverse)


@op("rms_norm", example=lambda r: ([r(2, 3, 8), r(8)], {"epsilon": 1e-6}))
def rms_norm(x, scale, axis=-1, epsilon=1e-5, stash_type=1):
    """x / sqrt(mean(x * x) + epsilon) * scale, over the axes from `axis` on."""
    axes = list(range(axis % x.ndim, x.ndim))
    f = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return (f * torch.rsqrt((f * f).mean(axes, keepdim=True) + epsilon)).to(x.dtype) * scale


@op("lrn", example=lambda r: ([r(2, 7, 3, 3)], {"size": 4, "alpha": 0.1, "beta": 0.6, "bias": 2.0}))
def lrn(x, size, alpha=1e-4, beta=0.75, bias=1.0):
    """x / (bias + alpha / size * sum of squares over `size` channels around each) ** beta."""
    before, c = (size - 1) // 2, x.shape[1]
    squares = F.pad((x * x).flatten(2), (0, 0, before, size - 1 - before))
    total = sum(squares[:, i:i + c] for i in range(size)).reshape(x.shape)
    return x / (bias + alpha / size * total) ** beta


@op("lp_norm", example=lambda r: ([r(2, 3, 4)], {"axis": 1, "p": 2}))
def lp_norm(x, axis=-1, p=2):
    """x over its Lp norm along `axis`; 0 where the norm is 0."""
    norm = torch.linalg.vector_norm(x, p, dim=axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / torch.where(norm == 0, torch.ones_like(norm), norm))


# --- pooling ----------------------------------------------------------------------------------------------------


@op("max_pool", example=lambda r: ([r(2, 3, 7, 6)], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1],
                                                     "ceil_mode": 1}))
def max_pool(x, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0, storage_order=0, auto_pad="NOTSET",
             outputs=1):
    """Any numeric dtype. outputs: y, Indices (int64, into the flattened x; spatial axes column-major for storage_order
    1). Pads never win."""
    n, size = x.ndim - 2, list(x.shape[2:])
    kernel, strides, dilations = list(kernel_shape), spread(strides, n), spread(dilations, n)
    pads = resolve_pads(auto_pad, pads, size, kernel, strides, dilations)
    pads = pool_pads(size, kernel, strides, pads, dilations, ceil_mode)
    f = x if x.is_floating_point() else x.to(torch.float32 if x.dtype in (torch.int8, torch.uint8) else torch.float64)
    f = pad_spatial(f, pads, float("-inf"))
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[n - 1]
    if outputs == 1:
        return pool(f, kernel, strides, 0, dilations).to(x.dtype)
    y, at = pool(f, kernel, strides, 0, dilations, return_indices=True)
    index, unit = torch.zeros_like(at), 1
    where, axes = [], list(range(n))
    for i in reversed(axes):                       # the cell's place on each axis of x itself
        where.insert(0, at % f.shape[2 + i] - pads[i])
        at = at // f.shape[2 + i]
    for i in axes if storage_order else reversed(axes):
        index, unit = index + where[i] * unit, unit * size[i]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(*x.shape[:2], *[1] * n)
    return y.to(x.dtype), index + planes * unit


@op("average_pool", example=lambda r: ([r(2, 3, 7, 6)], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1],
                                                         "ceil_mode": 1, "count_include_pad": 1}))
def average_pool(x, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0, count_include_pad=0,
                 auto_pad="NOTSET"):
    """The mean over the cells of a window that are in the image (count_include_pad: or in `pads`; what ceil_mode adds
    beyond never counts)."""
    n, size = x.ndim - 2, list(x.shape[2:])
    kernel, strides, dilations = list(kernel_shape), spread(strides, n), spread(dilations, n)
    pads = resolve_pads(auto_pad, pads, size, kernel, strides, dilations)
    reach = pool_pads(size, kernel, strides, pads, dilations, ceil_mode)
    include = [min(p, q) for p, q in zip(pads, reach)] if count_include_pad else [0] * (2 * n)
    ones = pad_spatial(torch.ones(1, 1, *size, dtype=x.dtype, device=x.device), include, 1.0)
    ones = pad_spatial(ones, [p - i for p, i in zip(reach, include)])
    return window_sum(pad_spatial(x, reach), kernel, strides, dilations) / window_sum(ones, kernel, strides, dilations)


@op("lp_pool", example=lambda r: ([r(2, 3, 7, 6)], {"kernel_shape": [3, 2], "strides": [2, 2], "p": 3}))
def lp_pool(x, kernel_shape, p=2, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET"):
    """(sum |x| ** p) ** (1 / p) of every window."""
    n, size = x.ndim - 2, list(x.shape[2:])
    kernel, strides, dilations = list(kernel_shape), spread(strides, n), spread(dilations, n)
    pads = resolve_pads(auto_pad, pads, size, kernel, strides, dilations)
    pads = pool_pads(size, kernel, strides, pads, dilations, ceil_mode)
    return window_sum(pad_spatial(x.abs() ** p, pads), kernel, strides, dilations) ** (1 / p)


@op("global_average_pool", example=lambda r: ([r(2, 3, 4, 5)], {}))
def global_average_pool(x):
    return x.mean(list(range(2, x.ndim)), keepdim=True)


@op("global_max_pool", example=lambda r: ([r(2, 3, 4, 5)], {}))
def global_max_pool(x):
    return x.amax(list(range(2, x.ndim)), keepdim=True)


# --- attention --------------------------------------------------------------------------------------------------


@op("attention", example=lambda r: ([r(2, 4, 3, 8), r(2, 2, 5, 8), r(2, 2, 5, 6), r(3, 5)], {"is_causal": 1}))
def attention(q, k, v, mask=None, past_key=None, past_value=None, nonpad_kv_seqlen=None, is_causal=0, q_num_heads=0,
              kv_num_heads=0, scale=None, softcap=0.0, softmax_precision=None, qk_matmul_output_mode=0,
              left_window_size=-1, right_window_size=-1, outputs=1):
    """Scaled dot-product attention with grouped queries (ONNX opset 23 to 25).

    q [N, heads, S, D] or [N, S, heads * D], k and v likewise with kv heads and T keys (the past's before them); mask
    bool (true = attend) or float (added), broadcast to [N, heads, S, T]. A query that may attend to no key gives 0.
    Causal and window masks are aligned to the end of the valid keys. softmax_precision is a dtype's name or ONNX number.
    outputs: y, present_key, present_value, qk (qk_matmul_output_mode 0 raw, 1 after softcap, 2 with the mask, 3 softmax)."""
    flat = q.ndim == 3
    if flat:
        q, k, v = (t.reshape(*t.shape[:2], heads, -1).transpose(1, 2)
                   for t, heads in ((q, q_num_heads), (k, kv_num_heads), (v, kv_num_heads)))
    before = 0
    if past_key is not None:
        before = past_key.shape[2]
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    present_key, present_value = k, v
    heads = q.shape[1]
    if heads != k.shape[1]:
        k, v = (x.repeat_interleave(heads // x.shape[1], 1) for x in (k, v))
    root = math.sqrt(scale if scale is not None else 1 / math.sqrt(q.shape[3]))
    qk = raw = (q * root) @ (k * root).transpose(2, 3)
    if softcap:
        qk = torch.tanh(qk / softcap) * softcap
    capped = qk

    bias = attention_bias(qk, mask, before, past_key, nonpad_kv_seqlen, is_causal, left_window_size, right_window_size)
    if bias is None:
        p = qk.softmax(-1) if softmax_precision is None else qk.softmax(-1, dtype=dtype_of(softmax_precision)).to(q.dtype)
    else:
        qk = qk + bias
        blind = bias.amax(-1, keepdim=True) == float("-inf")
        kind = qk.dtype if softmax_precision is None else dtype_of(softmax_precision)
        p = torch.where(blind, torch.zeros_like(qk), qk).softmax(-1, dtype=kind).to(q.dtype)
        p = torch.where(blind, torch.zeros_like(p), p)
    y = p @ v
    if flat:
        y = y.transpose(1, 2).flatten(2)
    if outputs == 1:
        return y
    return y, present_key, present_value, (raw, capped, qk, p)[qk_matmul_output_mode]


def attention_bias(qk, mask, before, past_key, nonpad_kv_seqlen, is_causal, left_window_size, right_window_size):
    """What is added to the scores qk [N, heads, S, T], or None: the mask, and -inf at keys that a query may not attend to."""
    s, t = qk.shape[2:]
    bias = _bias(mask, qk, s, t)
    if not (is_causal or left_window_size >= 0 or right_window_size >= 0 or nonpad_kv_seqlen is not None):
        return bias
    at = torch.arange(t, device=qk.device)
    keep = torch.ones(s, t, dtype=torch.bool, device=qk.device)
    offset = before
    if nonpad_kv_seqlen is not None:
        length = nonpad_kv_seqlen.reshape(-1, 1, 1, 1)
        keep, offset = keep & (at < length), offset if past_key is not None else length - s
    place = torch.arange(s, device=qk.device)[:, None] + offset
    if is_causal:
        keep = keep & (at <= place)
    if left_window_size >= 0:
        keep = keep & (place - at <= left_window_size)
    if right_window_size >= 0:
        keep = keep & (at - place <= right_window_size)
    hidden = torch.zeros(keep.shape, dtype=qk.dtype, device=qk.device).masked_fill(~keep, float("-inf"))
    return hidden if bias is None else bias + hidden


def _bias(mask, q, s, t):
    """The mask as what is added to the scores; one too short is -inf beyond its end."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill(~mask, float("-inf"))
    if mask.shape[-1] < t:
        mask = F.pad(mask, (0, t - mask.shape[-1]), value=float("-inf"))
    return mask
