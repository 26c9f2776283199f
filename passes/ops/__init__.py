"""The one table of ops: what each means, in torch.

The meaning is the oracle for every kernel, the shape rule (run on meta tensors), and differentiable, so
training, lowering and checking all read the same definition. A row is a function in one of the files below:

    @op("relu", example=lambda r: ([r(2, 3)], {}))
    def relu(x): return x.relu()

Inputs come in the ONNX order (None for an absent optional one), attributes as keyword arguments; several
outputs are returned as a tuple. A function with a parameter `outputs` is told how many outputs its node has
(and returns a tuple when that is more than one). `example(r)` gives inputs and attributes on which the op is
tested in torch, in the engine and through ONNX; `r(*shape)` draws from a normal distribution with a fixed seed.

Inputs named by `static` are read as numbers (shapes, axes, pads): they are real tensors on the CPU also when
the others are meta tensors.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from inspect import signature

import numpy as np
import torch

from . import half

FAMILIES = ("math", "layers", "reduce", "move", "rnn", "integer", "lowered", "quantized")


@dataclass(frozen=True)
class Op:
    name: str
    fn: Callable
    example: Callable
    static: tuple[int, ...] = ()  # inputs that must be constants when the graph is lowered (shapes, axes, pads)
    counted: bool = False         # fn takes `outputs`, the number of outputs its node has


OPS: dict[str, Op] = {}


def op(name: str, example: Callable, static: tuple[int, ...] = ()):
    """Enter the decorated function into OPS under `name`."""
    def enter(fn):
        assert name not in OPS, name
        OPS[name] = Op(name, fn, example, static, "outputs" in signature(fn).parameters)
        return fn
    return enter


def call(name: str, inputs: list, attrs: dict, outputs: int = 1) -> tuple:
    """The outputs of one op, as a tuple of `outputs` tensors. `inputs` are tensors (None where absent)."""
    if half.rounds(name, inputs):
        return half.rounded(lambda wide: call(name, wide, attrs, outputs), inputs)
    row = OPS[name]
    result = row.fn(*inputs, **attrs, **({"outputs": outputs} if row.counted else {}))
    result = result if isinstance(result, tuple) else (result,)
    if len(result) < outputs:
        raise ValueError(f"{name} gives {len(result)} output{'s' if len(result) > 1 else ''}, the node has {outputs}")
    return result[:outputs]


def sample(name: str, seed: int = 0) -> tuple[list, dict]:
    """The example of an op: its inputs as numpy arrays (None where absent) and its attributes."""
    rng = np.random.default_rng(seed)
    inputs, attrs = OPS[name].example(lambda *shape: np.asarray(rng.standard_normal(shape), np.float32))
    return [None if v is None else np.asarray(v) for v in inputs], attrs


def unknown(name: str) -> str:
    """What to tell a person about an op that is not in the table."""
    near = get_close_matches(name, OPS, n=1)
    return f"unknown op '{name}'" + (f"; did you mean '{near[0]}'?" if near else "")


# ONNX's numbers of element types, which stand in attributes that this table does not know to be types.
ONNX_TYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
              10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16"}


def dtype_of(name: str | int) -> torch.dtype:
    """The torch dtype of a numpy dtype name, "bfloat16", or ONNX's number of either."""
    dtype = getattr(torch, ONNX_TYPES[name] if isinstance(name, int) and name in ONNX_TYPES else str(name), None)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype '{name}' is not supported")
    return dtype


def ints(t) -> list[int]:
    """A static input (tensor, array or list) as Python ints."""
    return [int(v) for v in t.reshape(-1).tolist()] if hasattr(t, "reshape") else [int(v) for v in t]


for _family in FAMILIES:
    import_module(f".{_family}", __name__)
