"""Half precision storage: the weights of layers are kept as float16 or bfloat16 and widened when the device packs them."""
from __future__ import annotations

import numpy as np
import torch

from ..errors import UserError
from ..graph import Graph, Value

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
