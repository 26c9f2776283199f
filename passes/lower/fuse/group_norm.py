"""instance_norm of [N, groups, the rest], reshaped back, times scale plus bias per channel -> group_norm.

So torch's older exporter writes it. (Wu & He, arXiv 1803.08494.)
"""
from __future__ import annotations

import numpy as np

from ...graph import Value
from ..match import Const, P, Sketch, rewrite

NORM = P("instance_norm", P("reshape", "x", Const("split"), name="grouped"), Const("ones"), Const("zeros"), name="y")
PATTERN = P("add", P("mul", P("reshape", NORM, "back"), Const("scale")), Const("bias"))


def replace(m):
    x, grouped, y = m["x"], m["grouped"].shape, m.root.outputs[0]
    if x.shape is None or grouped is None or y.shape != x.shape or len(x.shape) < 3 or len(grouped) != 3:
        return None
    channels, groups = x.shape[1], grouped[1]
    if grouped[0] != x.shape[0] or not isinstance(channels, int) or not isinstance(groups, int) or channels % groups:
        return None
    if not np.all(m["ones"].data == 1) or m["zeros"].data.any():
        return None
    flat = []
    for name in ("scale", "bias"):
        v = m[name]
        shape = (1,) * (len(x.shape) - v.data.ndim) + v.data.shape
        if v.data.ndim > len(x.shape) or shape[1] != channels or v.data.size != channels:
            return None
        flat.append(Value(m.graph.fresh(v.name), v.dtype, (channels,), np.ascontiguousarray(v.data.reshape(-1))))
    return "group_norm", [x, *flat], {"num_groups": groups, "epsilon": m.node("y").attrs.get("epsilon", 1e-5)}


def apply(graph) -> int:
    return rewrite(graph, PATTERN, replace)


def example():
    s = Sketch()
    x = s.input("x", 2, 6, 4, 5)
    y = s("instance_norm", s("reshape", x, [0, 3, -1]), np.ones(3, np.float32), np.zeros(3, np.float32), epsilon=1e-4)
    y = s("mul", s("reshape", y, [2, 6, 4, 5]), s.weight("scale", 6, 1, 1))
    return s.graph(s("add", y, s.weight("bias", 6, 1, 1)))
