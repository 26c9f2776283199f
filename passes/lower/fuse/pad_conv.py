"""conv(pad(x)) with zeros around the image -> conv(x) with wider pads (TensorFlow's exporters write "SAME" so)."""
from __future__ import annotations

import numpy as np

from ..match import P, Sketch, rewrite

PATTERN = P("conv", P("pad", "x", name="pad"), "w", name="conv", more=True)


def replace(m):
    pad, conv = m.node("pad"), m.node("conv")
    rank = conv.inputs[1].shape and len(conv.inputs[1].shape)
    rest = [*pad.inputs[1:], None, None, None][:3]
    if any(v is not None and v.data is None for v in rest) or pad.attrs.get("mode", "constant") != "constant":
        return None
    amounts, value, axes = (None if v is None else np.asarray(v.data).reshape(-1) for v in rest)
    if value is not None and np.any(value) or conv.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    full = np.zeros((2, rank), np.int64)
    full[:, [int(a) % rank for a in axes] if axes is not None else list(range(rank))] = amounts.reshape(2, -1)
    if (full < 0).any() or full[:, :2].any():
        return None
    own = np.array(conv.attrs.get("pads") or [0] * (2 * (rank - 2))).reshape(2, -1)
    attrs = {k: v for k, v in conv.attrs.items() if k != "auto_pad"}
    return "conv", [m["x"], *conv.inputs[1:]], attrs | {"pads": [int(p) for p in (own + full[:, 2:]).reshape(-1)]}


def apply(graph) -> int:
    return rewrite(graph, PATTERN, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 3, 5, 6)
    padded = s("pad", x, s.const("pads", np.array([0, 0, 1, 0, 0, 0, 2, 1])))
    return s.graph(s("conv", padded, s.weight("w", 4, 3, 3, 3), s.weight("b", 4), pads=[0, 1, 0, 0]))
