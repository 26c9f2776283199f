"""Elementwise ops: one value (or several, broadcast as in numpy) to one value.

Integers torch can hold but not compute with (uint16, uint32, uint64) go through int64 and come back.
"""
from __future__ import annotations

import functools
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F

from . import dtype_of, op

UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def wide(fn):
    """Compute uint16, uint32 and uint64 operands in int64 (modulo 2**64); int64 results go back to their type."""
    @functools.wraps(fn)
    def widened(*args, **attrs):
        kinds = [a.dtype for a in args if isinstance(a, torch.Tensor) and a.dtype in UNSIGNED]
        if not kinds:
            return fn(*args, **attrs)
        result = fn(*(a.to(torch.int64) if isinstance(a, torch.Tensor) and a.dtype in UNSIGNED else a for a in args), **attrs)
        def back(y):
            return y.to(kinds[0]) if y.dtype == torch.int64 else y
        return tuple(map(back, result)) if isinstance(result, tuple) else back(result)
    return widened


# --- functions of one value: name, meaning, and what the example's normal values go through ---------------------

def _unary(name, fn, domain=lambda x: x):
    op(name, example=lambda r: ([domain(r(2, 3, 5)).astype("float32")], {}))(fn)


_unary("abs", wide(lambda x: x.abs()))
_unary("neg", lambda x: -x)
_unary("sign", wide(lambda x: x.sign()))
_unary("floor", lambda x: x.floor())
_unary("ceil", lambda x: x.ceil())
_unary("round", lambda x: x.round())  # half to even
_unary("exp", lambda x: x.exp())
_unary("log", lambda x: x.log(), domain=lambda x: abs(x) + 0.1)
_unary("sqrt", lambda x: x.sqrt(), domain=lambda x: abs(x) + 0.1)
_unary("reciprocal", lambda x: 1 / x, domain=lambda x: abs(x) + 0.1)
_unary("erf", lambda x: x.erf())
_unary("sin", lambda x: x.sin())
_unary("cos", lambda x: x.cos())
_unary("tan", lambda x: x.tan(), domain=lambda x: x.clip(-1.3, 1.3))
_unary("asin", lambda x: x.asin(), domain=lambda x: x.clip(-0.9, 0.9))
_unary("acos", lambda x: x.acos(), domain=lambda x: x.clip(-0.9, 0.9))
_unary("atan", lambda x: x.atan())
_unary("sinh", lambda x: x.sinh())
_unary("cosh", lambda x: x.cosh())
_unary("tanh", lambda x: x.tanh())
_unary("asinh", lambda x: x.asinh())
_unary("acosh", lambda x: x.acosh(), domain=lambda x: abs(x) + 1.1)
_unary("atanh", lambda x: x.atanh(), domain=lambda x: x.clip(-0.9, 0.9))
_unary("relu", lambda x: x.relu())
_unary("sigmoid", lambda x: x.sigmoid())
_unary("silu", lambda x: F.silu(x))
_unary("softplus", lambda x: F.softplus(x))
_unary("softsign", lambda x: x / (1 + x.abs()))
_unary("mish", lambda x: F.mish(x))
_unary("hard_swish", lambda x: x * (x / 6 + 0.5).clamp(0, 1))
_unary("is_nan", lambda x: x.isnan())


@op("is_inf", example=lambda r: ([[[1.0, float("inf")], [float("-inf"), float("nan")]]], {"detect_negative": 0}))
def is_inf(x, detect_negative=1, detect_positive=1):
    return (x == float("inf")) & bool(detect_positive) | (x == float("-inf")) & bool(detect_negative)


@op("leaky_relu", example=lambda r: ([r(2, 5)], {"alpha": 0.1}))
def leaky_relu(x, alpha=0.01):
    return F.leaky_relu(x, alpha)


@op("prelu", example=lambda r: ([r(2, 4, 3, 3), abs(r(4, 1, 1))], {}))
@wide
def prelu(x, slope):
    """slope broadcasts to x's shape."""
    return torch.where(x < 0, x * slope, x)


@op("elu", example=lambda r: ([r(2, 5)], {"alpha": 0.7}))
def elu(x, alpha=1.0):
    return F.elu(x, alpha)


@op("celu", example=lambda r: ([r(2, 5)], {"alpha": 0.7}))
def celu(x, alpha=1.0):
    return F.celu(x, alpha)


@op("selu", example=lambda r: ([r(2, 5)], {}))
def selu(x, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875):
    return gamma * F.elu(x, alpha)


@op("thresholded_relu", example=lambda r: ([r(2, 5)], {"alpha": 0.5}))
def thresholded_relu(x, alpha=1.0):
    return torch.where(x > alpha, x, torch.zeros_like(x))


@op("hard_sigmoid", example=lambda r: ([r(2, 5) * 3], {"alpha": 1 / 6, "beta": 0.5}))
def hard_sigmoid(x, alpha=0.2, beta=0.5):
    return (x * alpha + beta).clamp(0, 1)


@op("gelu", example=lambda r: ([r(2, 5)], {"approximate": "tanh"}))
def gelu(x, approximate="none"):
    return F.gelu(x, approximate=approximate)


@op("clip", example=lambda r: ([r(2, 5), np.float32(-0.5), np.float32(0.8)], {}))
@wide
def clip(x, lo=None, hi=None):
    """min(max(x, lo), hi); the bounds hold one value each, of x's dtype."""
    if lo is None and hi is None:
        return x
    lo, hi = (None if v is None else v.reshape(()).to(x.dtype) for v in (lo, hi))
    if x.dtype == torch.float16 or not x.is_floating_point():  # torch has no clamp(tensor) for all of these
        x = x if lo is None else torch.maximum(x, lo)
        return x if hi is None else torch.minimum(x, hi)
    return torch.clamp(x, lo, hi)


@op("cast", example=lambda r: ([r(2, 5) * 10], {"to": "int32"}))
def cast(x, to, saturate=1):
    """To a numpy dtype name or "bfloat16"; floats are cut toward zero. Integers wrap around."""
    dtype = dtype_of(to)
    if x.is_floating_point() and dtype not in (torch.bool, torch.int64) and not dtype.is_floating_point:
        x = x.to(torch.int64)  # so that what is out of range wraps on every machine
    return x.to(dtype)


# --- functions of several values --------------------------------------------------------------------------------

def _binary(name, fn, second=lambda y: y):
    op(name, example=lambda r: ([r(2, 3, 5), second(r(3, 1)).astype("float32")], {}))(wide(fn))


def _divide(a, b):
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


_binary("add", lambda a, b: a + b)
_binary("sub", lambda a, b: a - b)
_binary("mul", lambda a, b: a * b)
_binary("div", _divide, second=lambda y: abs(y) + 0.5)
_binary("greater", lambda a, b: a > b)
_binary("less", lambda a, b: a < b)
_binary("greater_or_equal", lambda a, b: a >= b)
_binary("less_or_equal", lambda a, b: a <= b)


@op("pow", example=lambda r: ([abs(r(2, 3, 5)) + 0.1, r(5)], {}))
@wide
def pow(x, y):
    """x ** y in x's dtype; the exponent may be of another."""
    if not x.is_floating_point() and not y.is_floating_point():
        return torch.pow(x.to(torch.int64), y.to(torch.int64)).to(x.dtype)
    return torch.pow(x, y).to(x.dtype)


@op("mod", example=lambda r: ([r(2, 3, 5) * 4, abs(r(5)) + 0.5], {"fmod": 1}))
@wide
def mod(a, b, fmod=0):
    """The sign is b's (fmod=0, integers) or a's (fmod=1)."""
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


def _many(name, fn):
    op(name, example=lambda r: ([r(2, 3, 5), r(3, 1), r(1, 5)], {}))(wide(fn))


_many("min", lambda *xs: reduce(torch.minimum, xs))
_many("max", lambda *xs: reduce(torch.maximum, xs))
_many("sum", lambda *xs: reduce(torch.add, xs))
_many("mean", lambda *xs: reduce(torch.add, xs) / len(xs))


@op("equal", example=lambda r: ([(r(3, 5) * 2).round(), (r(5) * 2).round()], {}))
@wide
def equal(a, b):
    return a == b


@op("where", example=lambda r: ([r(2, 1, 5) > 0, r(3, 5), r(2, 3, 1)], {}))
@wide
def where(condition, x, y):
    return torch.where(condition, x, y)


def _logic(name, fn, arity):
    op(name, example=lambda r: ([r(2, 3, 5) > 0, r(3, 1) > 0][:arity], {}))(fn)


_logic("and", lambda a, b: a & b, 2)
_logic("or", lambda a, b: a | b, 2)
_logic("xor", lambda a, b: a ^ b, 2)
_logic("not", lambda a: ~a, 1)


def _bits(name, fn, arity):
    op(name, example=lambda r: ([(r(2, 3, 5) * 50).astype("int32"), (r(3, 1) * 50).astype("int32")][:arity], {}))(wide(fn))


_bits("bitwise_and", lambda a, b: a & b, 2)
_bits("bitwise_or", lambda a, b: a | b, 2)
_bits("bitwise_xor", lambda a, b: a ^ b, 2)
_bits("bitwise_not", lambda a: ~a, 1)


@op("bit_shift", example=lambda r: ([abs(r(2, 5) * 50).astype("uint8"), abs(r(5) * 2).astype("uint8")],
                                    {"direction": "RIGHT"}))
def bit_shift(x, y, direction):
    """What is shifted out is lost, also all of it; to the right, signed integers keep their sign."""
    a, n = x.to(torch.int64), y.to(torch.int64)
    if direction == "LEFT":
        return torch.where(n > 63, 0, a << n.clamp(max=63)).to(x.dtype)
    if x.dtype != torch.uint64:
        return (a >> n.clamp(max=63)).to(x.dtype)
    # The top bit of a uint64 is int64's sign: shift by one and clear it, then by the rest.
    once = a >> 1 & 2 ** 63 - 1
    return torch.where(n == 0, a, torch.where(n > 63, 0, once >> (n - 1).clamp(0, 62))).to(x.dtype)


@op("identity", example=lambda r: ([r(2, 3)], {}))
def identity(x):
    return x


@op("dropout", example=lambda r: ([r(2, 3), np.float32(0.4)], {}), static=(1, 2))
def dropout(x, ratio=None, training_mode=None, seed=0, outputs=1):
    """The identity unless training_mode is a constant true; then drops with probability `ratio` (default 0.5) by a
    generator started from `seed`. outputs: y, mask. (A GraphModule in train mode drops by torch's own generator.)"""
    p = 0.5 if ratio is None else float(ratio)
    if training_mode is None or not bool(training_mode) or p == 0:
        return x if outputs == 1 else (x, torch.ones_like(x, dtype=torch.bool))
    if x.is_meta:
        mask = torch.empty_like(x, dtype=torch.bool)
    else:
        mask = (torch.rand(x.shape, generator=torch.Generator().manual_seed(int(seed))) >= p).to(x.device)
    y = torch.where(mask, x / (1 - p), torch.zeros_like(x)) if p < 1 else torch.zeros_like(x)
    return y if outputs == 1 else (y, mask)
