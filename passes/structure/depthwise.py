"""k x k convolution -> depthwise k x k, then 1 x 1 (MobileNets, Howard et al., arXiv 1704.04861).

The start is the best there is: an input channel's slice [O, k * k] of the weight is cut to its largest singular values, one
per multiplier (network decoupling, Guo et al., arXiv 1808.05517), and slices of different channels do not meet.
A 3 x 3 layer with many output channels becomes about 9 times cheaper at multiplier 1.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph import Graph, Node
from .replace import Replace, chain, example_conv, plain_conv
from .tucker import relative


@dataclass(frozen=True)
class Depthwise(Replace):
    """multiplier     depthwise filters per input channel
    layers, skip   patterns of layers to do and to leave
    overrides      {pattern: {option: value}}
    cost           what must be less than the layer's: macs, or time (measured on the target)
    epochs, lr     training afterwards (0: none)
    """

    multiplier: int = 1

    def check_values(self) -> None:
        if self.multiplier < 1:
            raise ValueError(f"multiplier must be at least 1, got {self.multiplier}")

    def takes(self, node: Node) -> bool:
        return plain_conv(node)

    def instead(self, graph: Graph, node: Node, shapes: dict) -> tuple[list[Node], dict]:
        w = node.inputs[1].data.astype(np.float64)
        o, c, kh, kw = w.shape
        depth, point = separate(w, self.multiplier)
        got = np.einsum("ocm,cmk->ock", point, depth).reshape(w.shape)
        many = depth.shape[1]
        return chain(graph, node, [("depthwise", depth.reshape(c * many, 1, kh, kw), {**node.attrs, "group": c}),
                                   ("pointwise", point.reshape(o, c * many, 1, 1), {})]), {"error": relative(got, w)}

    @staticmethod
    def example() -> Graph:
        return example_conv(16, 8, 3)


def separate(w: np.ndarray, multiplier: int) -> tuple[np.ndarray, np.ndarray]:
    """depth [C, m, kh * kw] and point [O, C, m], m at most the multiplier: the best per input channel."""
    o, c, kh, kw = w.shape
    u, sigma, vt = np.linalg.svd(w.transpose(1, 0, 2, 3).reshape(c, o, kh * kw), full_matrices=False)
    many = min(multiplier, sigma.shape[1])
    root = np.sqrt(sigma[:, :many])
    return root[:, :, None] * vt[:, :many], (u[:, :, :many] * root[:, None]).transpose(1, 0, 2)
