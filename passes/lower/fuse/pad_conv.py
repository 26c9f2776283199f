"""conv(pad(x)) with zeros around the image -> conv(x) with wider pads: how padding by "SAME" is often exported."""
from __future__ import annotations

import numpy as np

from ..match import Const, P, Sketch, rewrite

PAD = P("pad", "x", Const("pads"), (None, 0.0), (None, Const("axes")), mode="constant", name="pad")
PATTERN = P("conv", PAD, "w", (None, "b"), name="conv", auto_pad=lambda how: how in (None, "NOTSET", "VALID"))


def replace(m):
    conv, axes = m.node("conv"), m.get("axes")
    if m["w"].shape is None:
        return None
    rank = len(m["w"].shape)
    around = np.zeros((2, rank), np.int64)  # begin and end of every axis
    around[:, range(rank) if axes is None else [int(a) % rank for a in axes.data]] = m["pads"].data.reshape(2, -1)
    if (around < 0).any() or around[:, :2].any():
        return None
    own = np.array(conv.attrs.get("pads") or [0] * (2 * (rank - 2))).reshape(2, -1)
    attrs = {k: v for k, v in conv.attrs.items() if k != "auto_pad"}
    return "conv", [m["x"], *conv.inputs[1:]], attrs | {"pads": [int(p) for p in (own + around[:, 2:]).reshape(-1)]}


def apply(graph) -> int:
    return rewrite(graph, PATTERN, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 3, 5, 6)
    padded = s("pad", x, [0, 0, 1, 0, 0, 0, 2, 1])
    return s.graph(s("conv", padded, s.weight("w", 4, 3, 3, 3), s.weight("b", 4), pads=[0, 1, 0, 0]))
