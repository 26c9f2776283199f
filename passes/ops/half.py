"""float16 arithmetic: what an op means when its activations are float16.

It computes in float32 and rounds its results to float16, once. That is what the engine does where a CPU has no float16
arithmetic, or an op no float16 kernels; where there are some, sums are made in float16, so that results differ by a stated
tolerance (TOLERANCE).
"""
from __future__ import annotations

from collections.abc import Callable

import torch

# What the engine is allowed: of one op, of the largest magnitude in its result, for sums of up to some thousand products.
TOLERANCE = 0.01

# Ops that bring float16 in: matrix products have kernels of their own. Their first input says what they compute in; weights
# are stored as they like.
LAYERS = ("nhwc_conv", "linear", "nhwc_inverted_residual")
# Ops that only move values: of any type.
MOVES = frozenset("""identity reshape squeeze unsqueeze flatten transpose concat slice split expand tile gather channel_shuffle
depth_to_space space_to_depth nhwc_depth_to_space nhwc_space_to_depth""".split())
# Ops that compute on what is there, any input says in what.
FOLLOWERS = frozenset("""add sub mul div min max relu leaky_relu elu clip hard_sigmoid hard_swish sigmoid tanh gelu silu
softplus mish nhwc_max_pool nhwc_avg_pool reduce_mean softmax layer_norm rms_norm attention""".split())


def rounds(name: str, inputs: list) -> bool:
    """Is this op, on these tensors, computed in float32 and rounded to float16?"""
    if name not in FOLLOWERS and name not in LAYERS:
        return False
    return any(t is not None and t.dtype == torch.float16 for t in (inputs[:1] if name in LAYERS else inputs))


def rounded(compute: Callable[[list], tuple], inputs: list) -> tuple:
    """The results of `compute` on widened inputs, its float32 ones as float16."""
    wide = [t.float() if t is not None and t.dtype == torch.float16 else t for t in inputs]
    return tuple(t.to(torch.float16) if t is not None and t.dtype == torch.float32 else t for t in compute(wide))
