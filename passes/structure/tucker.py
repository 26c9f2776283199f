"""k x k convolution -> 1 x 1 to few channels, k x k between few, 1 x 1 back: Tucker-2 (Kim et al., arXiv 1511.06530).

The two channel bases come from higher-order orthogonal iteration, which lowers the error of the weight in every step and
starts from the truncated SVDs of the unfoldings. `rank: vbmf` takes the ranks that the analytic solution of variational
Bayesian matrix factorisation gives to the two unfoldings (Nakajima et al., JMLR 14, 2013): what it calls noise goes.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import UserError
from ..graph import Graph, Node
from .replace import Replace, chain, example_conv, plain_conv, share_check, sizes


@dataclass(frozen=True)
class Tucker(Replace):
    """rank           budget (by `ratio`) or vbmf (what is above the noise)
    ratio          share of a layer's multiply-accumulates to leave (0..1); both channel counts shrink alike
    steps          rounds of orthogonal iteration
    layers, skip   patterns of layers to do and to leave
    overrides      {pattern: {option: value}}
    cost           what must be less than the layer's: macs, or time (measured on the target)
    epochs, lr     training afterwards (0: none)
    """

    rank: Literal["budget", "vbmf"] = "budget"
    ratio: float = 0.5
    steps: int = 10

    def check_values(self) -> None:
        share_check("ratio", self.ratio)
        if self.rank not in ("budget", "vbmf"):
            raise ValueError(f"rank must be budget or vbmf, got {self.rank}")
        if self.steps < 0:
            raise ValueError(f"steps must not be negative, got {self.steps}")

    def takes(self, node: Node) -> bool:
        return plain_conv(node)

    def instead(self, graph: Graph, node: Node, shapes: dict) -> tuple[list[Node], dict]:
        w = node.inputs[1].data.astype(np.float64)
        if self.rank == "vbmf":
            ranks = [max(1, vbmf_rank(np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1))) for axis in (0, 1)]
        else:
            ranks = self._by_budget(node, shapes)
        left, core, right = tucker2(w, ranks[0], ranks[1], self.steps)
        return tucker_nodes(graph, node, left, core, right), {"ranks": [int(r) for r in ranks],
                                                              "error": relative(compose(left, core, right), w)}

    def _by_budget(self, node: Node, shapes: dict) -> list[int]:
        o, c, kh, kw, out, into = sizes(node, shapes)
        goal, best = self.ratio * out * o * c * kh * kw, [1, 1]
        for step in range(1, max(o, c) + 1):
            ranks = [max(1, n * step // max(o, c)) for n in (o, c)]
            if ranks[1] * c * into + ranks[0] * ranks[1] * kh * kw * out + ranks[0] * o * out <= goal:
                best = ranks
        return best

    @staticmethod
    def example() -> Graph:
        return example_conv(16, 16, 3)


def tucker2(w: np.ndarray, outs: int, ins: int, steps: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """left [O, outs], core [outs, ins, kh, kw], right [C, ins], both bases orthonormal: w ~ left core right^T."""
    outs, ins = min(outs, w.shape[0]), min(ins, w.shape[1])

    def basis(t: np.ndarray, axis: int, rank: int) -> np.ndarray:
        m = np.moveaxis(t, axis, 0).reshape(t.shape[axis], -1)
        values, vectors = np.linalg.eigh(m @ m.T)
        return vectors[:, ::-1][:, :rank]
    left, right = basis(w, 0, outs), basis(w, 1, ins)
    for _ in range(steps):
        left = basis(np.einsum("ochw,ci->oihw", w, right), 0, outs)
        right = basis(np.einsum("ochw,or->rchw", w, left), 1, ins)
    return left, np.einsum("ochw,or,ci->rihw", w, left, right, optimize=True), right


def compose(left: np.ndarray, core: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.einsum("or,rihw,ci->ochw", left, core, right, optimize=True)


def relative(got: np.ndarray, want: np.ndarray) -> float:
    """Relative error (Frobenius)."""
    return round(float(np.linalg.norm(got - want)) / max(float(np.linalg.norm(want)), 1e-300), 5)


def tucker_nodes(graph: Graph, node: Node, left: np.ndarray, core: np.ndarray, right: np.ndarray) -> list[Node]:
    return chain(graph, node, [("reduce", right.T[:, :, None, None], {}), ("core", core, dict(node.attrs)),
                               ("expand", left[:, :, None, None], {})])


def vbmf_rank(matrix: np.ndarray) -> int:
    """How many singular values stand above the noise, whose size is estimated with them (empirical VBMF, closed form)."""
    sigma = np.linalg.svd(matrix, compute_uv=False)
    rows, cols = sorted(matrix.shape)
    if not sigma[0] > 0:
        raise UserError("structure.tucker: rank: vbmf of a weight that is zero everywhere; skip the layer or give a ratio")
    alpha = rows / cols
    tau_bound = 2.5129 * np.sqrt(alpha)
    bound = (1 + tau_bound) * (1 + alpha / tau_bound)
    energy = sigma ** 2

    def free_energy(noise: float) -> float:
        x = np.maximum(energy / (cols * noise), 1e-300)
        high, low = x[x > bound], x[x <= bound]
        spread = high - (1 + alpha)
        tau = 0.5 * (spread + np.sqrt(spread ** 2 - 4 * alpha))
        return float((low - np.log(low)).sum() + (high - tau + np.log((tau + 1) / high) + alpha * np.log(tau / alpha + 1)).sum())

    most = max(0, min(int(np.ceil(rows / (1 + alpha))) - 1, rows) - 1)
    highest = energy.sum() / (rows * cols)
    rest = energy[most + 1:] if most + 1 < rows else energy[-1:]
    lowest = max(rest[0] / (cols * bound), rest.mean() / cols, 1e-12 * highest)
    lowest = min(lowest, highest)
    for _ in range(3):  # a grid, three times finer: the free energy has kinks where a value crosses the bound
        grid = np.geomspace(lowest, highest, 200)
        best = int(np.argmin([free_energy(n) for n in grid]))
        lowest, highest = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return int((energy > cols * grid[best] * bound).sum())
