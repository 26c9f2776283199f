"""Set the least important weights to zero, for good: later passes and training keep them zero.

By magnitude (Han et al., arXiv 1506.02626) or another importance, per layer or over the whole model, in one shot or gradually
while training: the cubic schedule of Zhu and Gupta (arXiv 1710.01878) prunes fast while there is much to spare and slowly at
the end. `importance: obs` needs no training: the weights that stay make up for those that go (SparseGPT, arXiv 2301.00774).
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph import Graph, Node, Value, constant
from .importance import Granularity
from .masked import Masked


@dataclass(frozen=True)
class Weights(Masked):
    """sparsity   share of weights that are zero at the end, over all chosen layers (0..1); 0.5 when no budget is given either
    params, macs, bytes, latency   instead: prune until this share of the model's nonzero parameters, of the
                  multiply-accumulates with them, of the file's bytes or of the measured time is left (0..1)
    scope         global: one threshold for all layers; layer: the same share in each; row: in each output of each;
                  erk: narrow layers keep more (Erdos-Renyi-Kernel)
    importance    l1 or l2 (both: magnitude), lamp (for scope global), wanda, obs, taylor, fisher, movement (these five
                  need data), or random
    samples       how many samples those that look at data look at
    update        the weights that stay make up for those that go, on calibration data (without it: with obs only)
    schedule      with epochs: cubic or linear growth of the sparsity, once (all at the start), or iterative (rounds of
                  pruning and training)
    epochs, lr    training while pruning, in all (iterative: in each round); 0: prune in one shot, no training
    start, end    the shares of the training where pruning begins and ends; the rest fine-tunes
    steps         how many times the mask grows between start and end (50), or rounds (5)
    regrow        at every step this share of the weights that stay, falling to 0 at the end, make room for those at which the
                  loss pulls most (RigL)
    rewind        iterative: after each round what stays goes back to the weights of this step of the first round
    layers, skip  patterns of layers to prune and to leave alone
    skip_first, skip_last   leave the first / last layer of the model alone
    overrides     {pattern: {sparsity: s}}: these layers get their own share, whatever the scope
    max_sparsity  no layer loses more than this share under a global scope, so that none is cut through
    """

    @property
    def granularity(self) -> Granularity:
        return "weights"

    def units(self, node: Node, value: Value) -> tuple[np.ndarray, int, np.ndarray] | None:
        shape = value.data.shape
        axis = value.data.ndim - 1 if node.op == "matmul" else 0
        rows = np.broadcast_to(np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)
        return np.arange(value.data.size).reshape(shape), value.data.size, rows.ravel()

    @staticmethod
    def example() -> Graph:
        r = np.random.default_rng(0)
        x, y = Value("x", "float32", ("N", 16)), Value("y", "float32", ("N", 12))
        w = constant("fc.weight", r.standard_normal((12, 16)).astype(np.float32))
        return Graph([x], [y], [Node("linear", [x, w, None], [y], name="fc")])
