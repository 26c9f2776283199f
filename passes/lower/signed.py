"""int8 values in the Graph: what a quantize/dequantize pair says, and uint8 turned into int8."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..graph import Graph, Node, Value, claim, constant
from .fold import infer_node


@dataclass(frozen=True)
class Quantized:
    """An int8 value with its scale and zero point: real = (value - zero) * scale."""

    value: Value
    scale: float
    zero: int


def scale_zero(node: Node) -> tuple[float, int] | None:
    """(scale, zero point) of a per-tensor quantize or dequantize with constant parameters, else None."""
    scale, zero = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if scale.data is None or scale.data.size != 1 or zero is not None and zero.data is None:
        return None
    return float(np.float32(scale.data.reshape(-1)[0])), 0 if zero is None else int(zero.data.reshape(-1)[0])


def clamp_bounds(act: tuple[str, float, float] | None, out: Quantized) -> tuple[int, int] | None:
    """(lo, hi) of the codes when the activation is a clamp of the real value; None for any other activation."""
    if act is None or act[0] == "none":
        return -128, 127
    kind, low, high = act
    if kind == "relu":
        low, high = 0.0, np.inf
    elif kind != "clip":
        return None
    code = lambda real: int(np.clip(np.rint(np.float32(real) / np.float32(out.scale)) + out.zero, -128, 127))  # noqa: E731
    return (-128 if low == -np.inf else code(low)), (127 if high == np.inf else code(high))


def check_scales(graph: Graph) -> None:
    """Raises UserError for a constant scale that is no number: what a quantizer makes of values that reach infinity."""
    for node in graph.nodes:
        scale = node.inputs[1].data if node.op in ("quantize_linear", "dequantize_linear") else None
        if scale is None or np.isfinite(scale).all():
            continue
        wrong = scale.reshape(-1)[~np.isfinite(scale).reshape(-1)][0]
        raise UserError(f"node '{node.name or node.outputs[0].name}': a scale of {node.op} is {wrong}: what it quantizes reached "
                        "infinity; a mask of -inf is the usual cause, export the model with a finite number there")


def signed(graph: Graph) -> None:
    """uint8 values between quantize and dequantize become int8, 128 lower; a uint8 graph input is shifted first."""
    users, makers = graph.users(), graph.makers()
    names = {v.name for v in graph.values()}
    for v in list(graph.values()):
        if v.dtype != "uint8" or not users[v] or any(n.op != "dequantize_linear" or n.inputs[0] is not v for n in users[v]):
            continue
        maker = makers.get(v)
        if maker is not None and (maker.op != "quantize_linear" or v in graph.outputs):
            continue
        around = users[v] + ([maker] if maker is not None else [])
        if any(scale_zero(n) is None and n.inputs[0].data is None for n in around):
            continue
        if maker is None and v.data is None:  # a graph input: x ^ 0x80 read as int8
            flip = constant(claim(names, "sign_bit"), np.array(128, np.uint8))
            a, b = Value(claim(names, v.name + ".flipped")), Value(claim(names, v.name + ".int8"))
            shift = [Node("bitwise_xor", [v, flip], [a]), Node("cast", [a], [b], {"to": "int8"})]
            graph.nodes[:0] = shift
            for n in shift:
                infer_node(n)
            for n in users[v]:
                n.inputs = [b if u is v else u for u in n.inputs]
        else:
            v.dtype = "int8"
            if v.data is not None:
                v.data = (v.data.astype(np.int16) - 128).astype(np.int8)
        for n in around:
            zero = n.inputs[2].data if len(n.inputs) > 2 and n.inputs[2] is not None else np.array(0, np.uint8)
            n.inputs[2:] = [constant(claim(names, "zero"), (zero.astype(np.int16) - 128).astype(np.int8))]
            n.attrs.pop("output_dtype", None)
