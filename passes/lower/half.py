"""Half precision: the weights of layers are kept as float16 or bfloat16. A device widens them when it packs them; or, of
bfloat16, it multiplies in bfloat16, rounding the other operand too: the attribute bf16 (passes/ops/lowered.py, `brain`)."""
from __future__ import annotations

from math import prod

import numpy as np
import torch

from ..errors import UserError
from ..graph import Graph, Node, Value
from .image import CHANNELS, WINDOW

LAYERS = ("linear", "nhwc_conv", "nhwc_conv_transpose")


def store_half(graph: Graph, precision: str) -> None:
    """Round the weights of float layers to `precision`; values outside float16's range are a UserError.

    The graph keeps meaning what the engine computes: the weight is the half-precision number."""
    dtype = {"fp16": "float16", "bf16": "bfloat16"}[precision]
    done: dict[Value, Value] = {}
    for node in graph.nodes:
        if node.op not in LAYERS:
            continue
        w = node.inputs[1]
        if w.data is None or w.dtype != "float32":
            continue
        if w not in done:
            if dtype == "float16":
                with np.errstate(over="ignore"):
                    data = w.data.astype(np.float16)
                if np.isinf(data).any() and not np.isinf(w.data).any():
                    raise UserError(f"weight '{w.name}' has values beyond 65504, the largest float16; use bf16")
            else:
                data = torch.from_numpy(np.ascontiguousarray(w.data)).to(torch.bfloat16).float().numpy()
            done[w] = Value(w.name, dtype, w.shape, data, dict(w.meta))
        node.inputs[1] = done[w]
        if precision == "bf16" and _brain(node):
            node.attrs["bf16"] = 1


def _brain(node: Node) -> bool:
    """Is this a layer that engines multiply in bfloat16? Pairs of inputs, or the small windows of an image."""
    if node.inputs[0].dtype != "float32" or node.attrs.get("dynamic", 0):
        return False
    shape = node.inputs[1].shape
    image = shape[-1] <= CHANNELS and prod(shape[1:]) <= WINDOW and node.attrs.get("group", 1) == 1
    return node.op == "linear" or node.op == "nhwc_conv" and (image or shape[-1] > CHANNELS and shape[-1] % 2 == 0)
