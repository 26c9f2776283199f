"""Ops written with smaller ones, for opsets that lack them: op -> (first opset that has it, rule[, only if]).

A rule gets `s` (calls make nodes), the node's inputs and attributes, and returns the last result.
"""
from __future__ import annotations

from math import pi, sqrt

import numpy as np

from ..errors import UserError
from ..graph import Node

NEVER = 1 << 30  # no opset we write has it


def silu(s, x):
    return s("mul", x, s("sigmoid", x))


def gelu(s, x, approximate="none"):
    if approximate == "tanh":
        inner = s("mul", s("add", x, s("mul", s("mul", s("mul", x, x), x), 0.044715)), sqrt(2 / pi))
        return s("mul", s("mul", x, 0.5), s("add", s("tanh", inner), 1.0))
    return s("mul", s("mul", x, s("add", s("erf", s("div", x, sqrt(2))), 1.0)), 0.5)


def mish(s, x):
    return s("mul", x, s("tanh", s("softplus", x)))


def hard_swish(s, x):
    return s("mul", x, s("hard_sigmoid", x, alpha=1 / 6, beta=0.5))


def _last(x, axis):
    rank = len(x.shape) if x.shape is not None else 0
    axis = axis if axis < 0 else axis - rank
    if axis >= 0:
        raise UserError("a normalisation over an input of unknown rank cannot be written for this opset; use 23")
    return list(range(axis, 0))


def layer_norm(s, x, scale, bias=None, axis=-1, epsilon=1e-5, stash_type=1):
    axes = _last(x, axis)
    d = s("sub", x, s("reduce_mean", x, axes, keepdims=1))
    variance = s("reduce_mean", s("mul", d, d), axes, keepdims=1)
    y = s("mul", s("div", d, s("sqrt", s("add", variance, epsilon))), scale)
    return y if bias is None else s("add", y, bias)


def rms_norm(s, x, scale, axis=-1, epsilon=1e-5, stash_type=1):
    mean = s("reduce_mean", s("mul", x, x), _last(x, axis), keepdims=1)
    return s("mul", s("div", x, s("sqrt", s("add", mean, epsilon))), scale)


def group_norm(s, x, scale, bias, num_groups, epsilon=1e-5, stash_type=1):
    """instance_norm of [N, groups, the rest], then scale and bias of each channel."""
    ones, zeros = np.ones(num_groups, np.float32), np.zeros(num_groups, np.float32)
    grouped = s("reshape", x, [0, num_groups, -1])
    flat = s("instance_norm", grouped, ones, zeros, epsilon=epsilon)
    y = s("reshape", flat, s("shape", x))
    tail = [-1] + [1] * (len(x.shape) - 2)
    return s("add", s("mul", y, s("reshape", scale, tail)), s("reshape", bias, tail))


def attention(s, q, k, v, mask=None, is_causal=0, q_num_heads=0, kv_num_heads=0, scale=None, softcap=0.0,
              softmax_precision=None, qk_matmul_output_mode=0):
    """softmax(q @ k.T * scale + mask) @ v."""
    if q.shape is None or v.shape is None:
        raise UserError("attention on inputs of unknown shape cannot be written for this opset; use 23")
    flat = len(q.shape) == 3
    if flat:
        q_width, k_width, v_width = (t.shape[2] // h for t, h in ((q, q_num_heads), (k, kv_num_heads), (v, kv_num_heads)))
        q4, k4, v4 = (s("transpose", s("reshape", t, [0, 0, h, w]), perm=[0, 2, 1, 3]) for t, h, w in (
            (q, q_num_heads, q_width), (k, kv_num_heads, k_width), (v, kv_num_heads, v_width)))
        heads, kv_heads = q_num_heads, kv_num_heads
    else:
        q4, k4, v4, q_width, v_width, heads, kv_heads = q, k, v, q.shape[3], v.shape[3], q.shape[1], k.shape[1]
    if heads != kv_heads:
        raise UserError("attention with grouped heads cannot be written for this opset; use 23")
    scores = s("matmul", q4, s("transpose", k4, perm=[0, 1, 3, 2]))
    scores = s("mul", scores, float(scale if scale is not None else 1 / sqrt(q_width)))
    if softcap:
        scores = s("mul", s("tanh", s("div", scores, float(softcap))), float(softcap))
    if mask is not None and mask.dtype == "bool":
        scores = s("where", mask, scores, float("-inf"))
    elif mask is not None:
        scores = s("add", scores, mask)
    if is_causal:
        length, keys = q.shape[-2 if not flat else 1], k.shape[-2 if not flat else 1]
        if not isinstance(length, int) or not isinstance(keys, int):
            raise UserError("causal attention with a length that is not bound cannot be written for this opset; use 23")
        scores = s("add", scores, np.triu(np.full((length, keys), -np.inf, np.float32), 1))
    y = s("matmul", s("softmax", scores, axis=-1), v4)
    return s("reshape", s("transpose", y, perm=[0, 2, 1, 3]), [0, 0, heads * v_width]) if flat else y


def plain_attention(n: Node) -> bool:
    if len(n.outputs) > 1 or len([v for v in n.inputs if v is not None]) > 4 or n.attrs.get("qk_matmul_output_mode"):
        raise UserError(f"node '{n.name}' (attention) with a cache cannot be written for this opset; use 23")
    return True


EXPAND: dict[str, tuple] = {
    "silu": (NEVER, silu),
    "gelu": (20, gelu),
    "mish": (18, mish),
    "hard_swish": (14, hard_swish),
    "layer_norm": (17, layer_norm),
    "rms_norm": (23, rms_norm),
    "group_norm": (21, group_norm),
    "attention": (23, attention, plain_attention),
}
