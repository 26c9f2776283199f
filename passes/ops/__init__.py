"""The one table of ops: what each means, in torch.

The meaning is the oracle for every kernel, the shape rule (run on meta tensors), and differentiable, so
training, lowering and checking all read the same definition. A row is a function in one of the files below:

    @op("relu", example=lambda r: ([r(2, 3)], {}))
    def relu(x): return x.relu()

Inputs come in the ONNX order (None for an absent optional one), attributes as keyword arguments; several
outputs are returned as a tuple. `example(r)` gives inputs and attributes on which the op is tested in torch, in
the engine and through ONNX; `r(*shape)` draws from a normal distribution with a fixed seed.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

FAMILIES = ("math", "layers", "reduce", "move", "rnn", "integer", "lowered")


@dataclass(frozen=True)
class Op:
    name: str
    fn: Callable
    example: Callable
    static: tuple[int, ...] = ()  # inputs that must be constants when the graph is lowered (shapes, axes, pads)


OPS: dict[str, Op] = {}


def op(name: str, example: Callable, static: tuple[int, ...] = ()):
    """Enter the decorated function into OPS under `name`."""
    def enter(fn):
        assert name not in OPS, name
        OPS[name] = Op(name, fn, example, static)
        return fn
    return enter


for _family in FAMILIES:
    import_module(f".{_family}", __name__)
