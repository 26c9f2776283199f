"""k x k convolution -> 1 x 1, depthwise k x k, 1 x 1: the canonical polyadic decomposition (Lebedev et al., arXiv 1412.6553).

The weight [O, C, kh * kw] becomes a sum of `rank` products of three vectors, found by alternating least squares. The two axes
of the kernel stay together: one layer less than with four vectors, a smaller error, and the shape engines fuse.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph import Graph, Node
from .replace import Replace, chain, example_conv, plain_conv, share_check, sizes
from .tucker import relative


@dataclass(frozen=True)
class CP(Replace):
    """ratio          share of a layer's multiply-accumulates to leave (0..1)
    steps          rounds of least squares
    layers, skip   patterns of layers to do and to leave
    overrides      {pattern: {option: value}}
    cost           what must be less than the layer's: macs, or time (measured on the target)
    epochs, lr     training afterwards (0: none)
    """

    ratio: float = 0.5
    steps: int = 50

    def check_values(self) -> None:
        share_check("ratio", self.ratio)
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def takes(self, node: Node) -> bool:
        return plain_conv(node)

    def instead(self, graph: Graph, node: Node, shapes: dict) -> tuple[list[Node], dict]:
        w = node.inputs[1].data.astype(np.float64)
        o, c, kh, kw, out, into = sizes(node, shapes)
        rank = max(1, int(self.ratio * out * o * c * kh * kw / (c * into + (kh * kw + o) * out)))
        a, b, k = factors = cp(w.reshape(o, c, kh * kw), rank, self.steps)
        got = np.einsum("or,cr,kr->ock", *factors, optimize=True).reshape(w.shape)
        return chain(graph, node, [
            ("reduce", b.T[:, :, None, None], {}), ("depthwise", k.T.reshape(rank, 1, kh, kw), {**node.attrs, "group": rank}),
            ("expand", a[:, :, None, None], {})]), {"rank": rank, "error": relative(got, w)}

    @staticmethod
    def example() -> Graph:
        return example_conv(16, 16, 3)


def cp(w: np.ndarray, rank: int, steps: int) -> list[np.ndarray]:
    """Factors [n, rank] of the three axes, of equal column norms. A touch of ridge keeps degenerate columns from growing."""
    r = np.random.default_rng(0)
    factors = []
    for axis, n in enumerate(w.shape):
        u = np.linalg.svd(np.moveaxis(w, axis, 0).reshape(n, -1), full_matrices=False)[0][:, :rank]
        factors.append(np.concatenate([u, r.standard_normal((n, rank - u.shape[1])) / np.sqrt(n)], 1))
    letters = ("o", "c", "k")
    for _ in range(steps):
        for axis in range(3):
            i, j = (a for a in range(3) if a != axis)
            gram = (factors[i].T @ factors[i]) * (factors[j].T @ factors[j])
            right = np.einsum(f"ock,{letters[i]}r,{letters[j]}r->{letters[axis]}r", w, factors[i], factors[j], optimize=True)
            ridge = 1e-6 * np.trace(gram) / rank + 1e-12
            factors[axis] = np.linalg.solve(gram + ridge * np.eye(rank), right.T).T
    norms = [np.maximum(np.linalg.norm(f, axis=0), 1e-30) for f in factors]
    size = np.cbrt(norms[0] * norms[1] * norms[2])
    return [f / n * size for f, n in zip(factors, norms)]
