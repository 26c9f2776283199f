"""k x k convolution -> 1 x 1, k x k on a fraction of the channels, 1 x 1: the block of ResNet-50 (He et al., arXiv 1512.03385).

It starts from the Tucker-2 decomposition with equal ranks, the best such block for the trained weight.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph import Graph, Node
from .replace import Replace, example_conv, plain_conv
from .tucker import compose, relative, tucker2, tucker_nodes


@dataclass(frozen=True)
class Bottleneck(Replace):
    """reduction      the inner convolution has output channels / reduction channels
    layers, skip   patterns of layers to do and to leave
    overrides      {pattern: {option: value}}
    cost           what must be less than the layer's: macs, or time (measured on the target)
    epochs, lr     training afterwards (0: none)
    """

    reduction: float = 4

    def check_values(self) -> None:
        if self.reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {self.reduction}")

    def takes(self, node: Node) -> bool:
        return plain_conv(node)

    def instead(self, graph: Graph, node: Node, shapes: dict) -> tuple[list[Node], dict]:
        w = node.inputs[1].data.astype(np.float64)
        width = min(max(1, round(w.shape[0] / self.reduction)), *w.shape[:2])
        parts = tucker2(w, width, width)
        return tucker_nodes(graph, node, *parts), {"width": width, "error": relative(compose(*parts), w)}

    @staticmethod
    def example() -> Graph:
        return example_conv(16, 16, 3)
