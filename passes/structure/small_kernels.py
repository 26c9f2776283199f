"""5 x 5 and 7 x 7 convolutions -> stacks of 3 x 3 (VGG, Simonyan and Zisserman, arXiv 1409.1556).

A 3 x 3 convolution after another is one of 5 x 5, whose weight is the product of the two as polynomials. The stack whose
product is nearest to the trained weight is found by alternating least squares; 7 x 7 is split into 3 x 3 and 5 x 5 first.
The first convolution of a stack takes all the padding, so that the border is what it was.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph import Graph, Node
from .replace import Replace, chain, example_conv, plain_conv, share_check
from .tucker import relative


@dataclass(frozen=True)
class SmallKernels(Replace):
    """ratio          share of a layer's multiply-accumulates to leave (0..1); it sets the inner channels
    steps          rounds of least squares
    layers, skip   patterns of layers to do and to leave
    overrides      {pattern: {option: value}}
    cost           what must be less than the layer's: macs, or time (measured on the target)
    epochs, lr     training afterwards (0: none)
    """

    ratio: float = 0.7
    steps: int = 10

    def check_values(self) -> None:
        share_check("ratio", self.ratio)
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def takes(self, node: Node) -> bool:
        return (plain_conv(node) and node.inputs[1].shape[2:] in ((5, 5), (7, 7))
                and max(node.attrs.get("dilations") or [1]) == 1 and max(node.attrs.get("strides") or [1]) == 1
                and node.attrs.get("auto_pad", "NOTSET") == "NOTSET")

    def instead(self, graph: Graph, node: Node, shapes: dict) -> tuple[list[Node], dict]:
        w = node.inputs[1].data.astype(np.float64)
        o, c, k, _ = w.shape
        middle = self._middle(o, c, k, *shapes[node.outputs[0]][2:])
        stack = [w]
        while stack[-1].shape[2] > 3:
            stack[-1:] = split(stack[-1], middle, self.steps)
        got = stack[0]
        for nxt in stack[1:]:
            got = product(got, nxt)
        parts = [(f"conv{i}", part, {"pads": list(node.attrs.get("pads") or [0] * 4)} if i == 0 else {})
                 for i, part in enumerate(stack)]
        return chain(graph, node, parts), {"middle": middle, "error": relative(got, w)}

    def _middle(self, o: int, c: int, k: int, height: int, width: int) -> int:
        """The most inner channels that the budget allows; each layer but the last computes a border that the next uses up."""
        many = (k - 1) // 2
        pixels = [(height + 2 * (many - 1 - i)) * (width + 2 * (many - 1 - i)) for i in range(many)]

        def spent(m: int) -> int:
            return 9 * (pixels[0] * c * m + sum(pixels[1:-1]) * m * m + pixels[-1] * m * o)
        middle = 1
        while spent(middle + 1) <= self.ratio * height * width * o * c * k * k:
            middle += 1
        return middle

    @staticmethod
    def example() -> Graph:
        return example_conv(8, 8, 5, 12)


def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The weight of one convolution that does what `first` [M, C, a, a] and then `second` [O, M, b, b] do."""
    a, b = first.shape[2], second.shape[2]
    out = np.zeros((second.shape[0], first.shape[1], a + b - 1, a + b - 1))
    for i in range(b):
        for j in range(b):
            out[:, :, i:i + a, j:j + a] += np.einsum("om,mchw->ochw", second[:, :, i, j], first)
    return out


def split(w: np.ndarray, middle: int, steps: int) -> list[np.ndarray]:
    """first [middle, C, 3, 3] and second [O, middle, k - 2, k - 2] whose product is near to w."""
    o, c, k, _ = w.shape
    second = np.random.default_rng(0).standard_normal((o, middle, k - 2, k - 2)) / np.sqrt(middle)
    for _ in range(steps):
        first = _solve(w.transpose(1, 0, 2, 3), second, 3).transpose(1, 0, 2, 3)
        second = _solve(w, first.transpose(1, 0, 2, 3), k - 2)
    size = (float(np.linalg.norm(first)) / max(float(np.linalg.norm(second)), 1e-30)) ** 0.5 or 1.0
    return [first / size, second * size]


def _solve(w: np.ndarray, known: np.ndarray, k: int) -> np.ndarray:
    """u [A, M, k, k] that minimises |w[a, b] - sum over m of known[b, m] * u[a, m]|, * being the full 2-D convolution."""
    rows, middle, a = w.shape[1], known.shape[1], known.shape[2]
    system = np.zeros((rows, *w.shape[2:], middle, k, k))
    for i in range(k):
        for j in range(k):
            system[:, i:i + a, j:j + a, :, i, j] = known.transpose(0, 2, 3, 1)
    system = system.reshape(-1, middle * k * k)
    gram = system.T @ system
    ridge = 1e-8 * np.trace(gram) / len(gram) + 1e-12
    return np.linalg.solve(gram + ridge * np.eye(len(gram)), system.T @ w.reshape(len(w), -1).T).T.reshape(-1, middle, k, k)
