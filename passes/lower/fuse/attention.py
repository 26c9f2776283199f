"""softmax(q @ k.T * scale + mask) @ v -> attention(q, k, v, mask), for [batch, heads, length, width] tensors.

The scale may stand on the scores (times or divided), on q, on k, or its root on both, as torch's own decomposition
writes it. The mask is added, or chooses -inf, and broadcasts to the scores; the softmax may be guarded against a row that
sees no key. (Vaswani et al., arXiv 1706.03762.)
"""
from __future__ import annotations

from typing import Any

from ..match import Number, P, Sketch, rewrite

LAST: dict[str, Any] = {"perm": [0, 1, 3, 2]}
TURN: dict[str, Any] = {"perm": [0, 2, 1, 3]}
Q = (P("mul", "q", Number("q_mul")), P("div", "q", Number("q_div")), "q")
BOTH = P("transpose", "k_heads", perm=[0, 2, 3, 1])  # [batch, length, heads, width] turned at once
KT = (P("transpose", "k", **LAST), BOTH)
K = (P("mul", KT, Number("k_mul")), P("div", KT, Number("k_div")), P("transpose", P("mul", "k", Number("k_mul")), **LAST), *KT)
RAW = P("matmul", Q, K)
SCORES = (P("mul", RAW, Number("mul")), P("div", RAW, Number("div")), RAW)
MASKED = (P("add", SCORES, "mask"), P("where", "hide", Number("inf"), SCORES), P("where", "keep", SCORES, Number("inf")), SCORES)
WEIGHTS = P("softmax", MASKED, name="weights", axis=lambda a: a in (-1, 3))
GUARDED = P("where", P("is_nan", WEIGHTS), 0.0, "weights")  # a query that sees no key: the op gives 0 there as well
PATTERN = P("matmul", (WEIGHTS, GUARDED), "v")


def replace(m):
    q, k, v, mask = m["q"], m.get("k") or m["k_heads"], m["v"], m.get("mask")
    if any(t.shape is None or len(t.shape) != 4 for t in (q, k, v)) or any(t.data is not None for t in (q, k, v)):
        return None
    shape = k.shape if m.get("k") else tuple(k.shape[i] for i in TURN["perm"])
    if shape[:3] != v.shape[:3] or q.shape[:2] != shape[:2] or q.shape[3] != shape[3] or q.dtype != v.dtype:
        return None
    scale = 1.0
    for up, down in (("mul", "div"), ("q_mul", "q_div"), ("k_mul", "k_div")):
        scale *= m.number(up, 1.0) / m.number(down, 1.0)
    if scale <= 0:
        return None  # the op multiplies q and k by the root
    inputs = [q, k, v]
    chosen = m.get("hide") or m.get("keep")
    if chosen is not None and m.number("inf") != float("-inf"):
        return None
    if mask is not None or chosen is not None:
        mask = mask or chosen
        if mask.shape is None or not _broadcasts(mask.shape, (*q.shape[:3], shape[2])):
            return None
        if chosen is None and mask.dtype != q.dtype:
            return None
        if m.get("hide") is not None:  # the op's mask says where to look
            mask = m.emit("not", [chosen], {}, chosen.shape, "bool") if chosen.data is None else \
                m.constant(f"{chosen.name}_not", ~chosen.data)
        inputs.append(mask)
    if not m.get("k"):
        inputs[1] = m.emit("transpose", [k], dict(TURN), shape, k.dtype)
    return "attention", inputs, {"scale": scale}


def _broadcasts(small, large) -> bool:
    return 0 < len(small) <= len(large) and all(a in (1, b) for a, b in zip(small[::-1], large[::-1]))


def apply(graph) -> int:
    return rewrite(graph, PATTERN, replace)


def example():
    s = Sketch()
    q, k, v = s.input("q", 2, 4, 5, 8), s.input("k", 2, 4, 6, 8), s.input("v", 2, 4, 6, 8)
    mask = s.input("mask", 2, 1, 1, 6)
    scores = s("div", s("matmul", q, s("transpose", k, perm=[0, 1, 3, 2])), 8 ** 0.5)
    return s.graph(s("matmul", s("softmax", s("add", scores, mask), axis=-1), v))
