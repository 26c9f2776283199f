"""Set whole blocks of weights to zero, or all but N of every M: patterns that vector kernels skip as a whole.

Blocks as in Fast Sparse ConvNets (Elsen et al., arXiv 1911.09723), N:M as in Zhou et al. (arXiv 2102.04010). A block "RxC" is R
neighbouring output channels by C neighbouring input channels at one place of the kernel; "N:M" keeps N of every M
neighbouring input channels of an output, at one place of the kernel. In a linear layer channels are features. What is over at
the end of an axis forms smaller blocks; a remainder of an N:M layer keeps its share, rounded up.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..graph import Graph, Node, Value, constant
from .importance import Granularity
from .masked import Masked, Target

Pattern = Literal["1x4", "4x1", "1x8", "8x1", "1x16", "16x1", "2:4", "4:8", "1:4", "2:8"]


@dataclass(frozen=True)
class Blocks(Masked):
    """pattern    of a block (outputs x inputs), or N:M
    sparsity      share of weights that are zero at the end (0..1); N:M: what the pattern says; 0.5 for blocks when no budget is
                  given either
    params, macs, bytes, latency   instead, for blocks: prune until this share of the model's nonzero parameters, of the
                  multiply-accumulates with them, of the file's bytes or of the measured time is left (0..1)
    scope         global: one threshold for all layers; layer: the same share in each; row: in each (group of) outputs;
                  erk: narrow layers keep more (Erdos-Renyi-Kernel)
    importance    l1, l2, lamp (for scope global), wanda, obs, taylor, fisher, movement (these five need data), or random
    samples       how many samples those that look at data look at
    update        the weights that stay make up for those that go, on calibration data (without it: with obs only)
    schedule      with epochs: cubic or linear growth of the sparsity, once (all at the start), or iterative (rounds of
                  pruning and training)
    epochs, lr    training while pruning, in all (iterative: in each round); 0: prune in one shot, no training
    start, end    the shares of the training where pruning begins and ends; the rest fine-tunes
    steps         how many times the mask grows between start and end (50), or rounds (5)
    regrow        at every step this share of the blocks that stay, falling to 0 at the end, make room for those at which the
                  loss pulls most (RigL)
    rewind        iterative: after each round what stays goes back to the weights of this step of the first round
    layers, skip  patterns of layers to prune and to leave alone; those narrower than a block are left alone
    skip_first, skip_last   leave the first / last layer of the model alone
    overrides     {pattern: {sparsity: s}}: these layers get their own share, whatever the scope
    max_sparsity  no layer loses more than this share under a global scope, so that none is cut through
    """

    pattern: Pattern = "1x4"

    def check(self) -> None:
        super().check()
        if self.n_of_m is None:
            return
        for name in ("sparsity", "params", "macs", "bytes", "latency"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: {self.pattern} says itself how much goes; leave {name} out or take a block pattern")
        if self.overrides or self.regrow:
            raise ValueError(f"{'overrides' if self.overrides else 'regrow'}: {self.pattern} says itself how much goes where; "
                             "take a block pattern")

    @property
    def granularity(self) -> Granularity:
        return "blocks"

    @property
    def n_of_m(self) -> tuple[int, int] | None:
        if ":" not in self.pattern:
            return None
        n, m = self.pattern.split(":")
        return int(n), int(m)

    @property
    def rowwise(self) -> bool:
        return super().rowwise or self.n_of_m is not None

    @property
    def block(self) -> tuple[int, int]:
        """Outputs and inputs."""
        if self.n_of_m:
            return 1, self.n_of_m[1]
        r, c = self.pattern.split("x")
        return int(r), int(c)

    def units(self, node: Node, value: Value) -> tuple[np.ndarray, int, np.ndarray] | None:
        """N:M: units are single weights, and row is the group of M that a weight competes in."""
        if node.op not in ("conv", "linear", "matmul") or value.data.ndim < 2:
            return None
        axes = [-1, -2] if node.op == "matmul" else [0, 1]
        (outputs, inputs), (r, c) = (value.data.shape[a] for a in axes), self.block
        if outputs < r or inputs < c:
            return None
        w = np.moveaxis(np.arange(value.data.size).reshape(value.data.shape), axes, [0, 1])
        rest = w.shape[2:]
        rows, columns = -(-outputs // r), -(-inputs // c)
        number = (np.arange(outputs)[:, None] // r) * columns + np.arange(inputs) // c  # of the block at one place
        taps = int(np.prod(rest))
        number = number.reshape(outputs, inputs, *[1] * len(rest)) * taps + np.arange(taps).reshape(rest)
        number = np.moveaxis(number, [0, 1], axes)
        if self.n_of_m:
            return np.arange(value.data.size).reshape(value.data.shape), value.data.size, number.ravel()
        count = rows * columns * taps
        return number, count, np.arange(count) // (columns * taps)

    def _choose(self, targets: list[Target], scores: list[np.ndarray], goal: float, progress: float) -> dict[str, np.ndarray]:
        if self.n_of_m is None:
            return super()._choose(targets, scores, goal, progress)
        n, m = self.n_of_m
        return {t.name: self._best(t, s, n / m, progress)[t.units] for t, s in zip(targets, scores)}

    @staticmethod
    def _best(target: Target, score: np.ndarray, share: float, progress: float) -> np.ndarray:
        """The best `share` of every group, rounded up; while progress < 1 fewer go."""
        order = np.lexsort((-score, target.row))
        sizes = np.bincount(target.row)
        stay = np.ceil(share * sizes - 1e-9)
        stay = sizes - np.rint(progress * (sizes - stay))
        place = np.arange(target.count) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        keep = np.zeros(target.count, bool)
        keep[order] = place < stay[target.row[order]]
        return keep

    @staticmethod
    def example() -> Graph:
        r = np.random.default_rng(0)
        x, y = Value("x", "float32", ("N", 16)), Value("y", "float32", ("N", 32))
        w = constant("fc.weight", r.standard_normal((32, 16)).astype(np.float32))
        return Graph([x], [y], [Node("linear", [x, w, None], [y], name="fc")])
