"""Heads split off and joined around attention -> attention on [batch, length, heads * width] itself:

transpose(reshape(q, [.., heads, width]), [0, 2, 1, 3]), the same for k and v, attention, the transpose back, reshape
to [.., heads * width]  ->  attention(q, k, v, mask, q_num_heads=heads, kv_num_heads=heads). No copies are left.
"""
from __future__ import annotations

from typing import Any

from ..match import Const, P, Sketch, rewrite

TURN: dict[str, Any] = {"perm": [0, 2, 1, 3]}


def _split(x: str):
    return P("transpose", P("reshape", x, Const(f"{x}_shape"), name=f"{x}4"), **TURN)


def _pattern(*mask):
    core = P("attention", _split("q"), _split("k"), _split("v"), *mask, name="y")
    return P("reshape", P("transpose", core, **TURN), Const("shape"))


PATTERNS = [_pattern("mask"), _pattern()]


def replace(m):
    node = m.node("y")
    if len(node.outputs) > 1 or node.attrs.get("qk_matmul_output_mode", 0) or m.root.outputs[0].shape is None:
        return None
    for x in "qkv":
        flat, four = m[x].shape, m[f"{x}4"].shape
        if flat is None or four is None or len(flat) != 3 or len(four) != 4 or flat[:2] != four[:2]:
            return None
        if not all(isinstance(d, int) for d in (flat[2], *four[2:])) or flat[2] != four[2] * four[3]:
            return None
    out, (batch, length, heads, _) = m.root.outputs[0].shape, m["q4"].shape
    if len(out) != 3 or out[:2] != (batch, length) or out[2] != heads * m["v4"].shape[3]:
        return None
    attrs = {**node.attrs, "q_num_heads": heads, "kv_num_heads": m["k4"].shape[2]}
    if m["v4"].shape[2] != m["k4"].shape[2]:
        return None
    return "attention", [m["q"], m["k"], m["v"], *([m["mask"]] if m.get("mask") else [])], attrs


def apply(graph) -> int:
    return rewrite(graph, PATTERNS, replace)


def example():
    s = Sketch()
    q, k, v, mask = s.input("q", 2, 5, 32), s.input("k", 2, 6, 32), s.input("v", 2, 6, 32), s.input("mask", 2, 1, 1, 6)
    four = [s("transpose", s("reshape", x, [0, 0, 4, 8]), perm=[0, 2, 1, 3]) for x in (q, k, v)]
    y = s("transpose", s("attention", *four, mask, scale=0.3), perm=[0, 2, 1, 3])
    return s.graph(s("reshape", y, [0, 0, 32]))
