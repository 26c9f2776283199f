"""Ways to round a weight that are better than to nearest: a scale is given, what is chosen is up or down.

    gptq       column by column, each column's error made up for by those that are not rounded yet: the second-order way,
               with the inputs' products as the Hessian (Frantar et al., arXiv 2210.17323)
    adaround   layer by layer, up or down is learned so that the layer's outputs stay (Nagel et al., arXiv 2004.10568)
    brecq      the same for blocks between two places where a single value passes (Li et al., arXiv 2102.05426); inputs are
               partly those of the float network (QDrop, Wei et al., arXiv 2203.05740)

All take the weights as they are and give, for each, floats that lie on the grid: rounding them to nearest afterwards changes
nothing.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..base import Context
from ..graph import Graph, Node, Value
from .observe import watch
from .weights import along_rows, top_code

ROWS = 1024          # of the inputs of a layer, per batch, that gptq sees
DAMPING = 0.01       # of the Hessian's mean diagonal, added to it
STRETCH = (-0.1, 1.1)  # adaround's sigmoid reaches beyond 0 and 1, so that it gets there
DROP = 0.5           # QDrop: share of a block's inputs that come from the float network


@dataclass(frozen=True)
class Grid:
    """Where a weight may go: whole multiples of scale (per row, or one) up to the top code of `bits`."""

    scale: np.ndarray
    bits: int


def round_weights(graph: Graph, grids: dict[Node, Grid], batches: list[dict], method: str, steps: int, ctx: Context,
                  ) -> dict[Value, np.ndarray]:
    """New data, on its grid, for the weight of each layer."""
    if method == "gptq":
        return _gptq_all(graph, grids, batches, ctx)
    from .reconstruct import reconstruct
    return reconstruct(graph, grids, batches, method, steps, ctx)


# --- gptq -------------------------------------------------------------------------------------------------------------

def _gptq_all(graph: Graph, grids: dict[Node, Grid], batches: list[dict], ctx: Context) -> dict[Value, np.ndarray]:
    readers: dict[Value, list[Node]] = {}
    for node in grids:
        readers.setdefault(node.inputs[0], []).append(node)
    hessians: dict[Node, torch.Tensor] = {}
    rng = np.random.default_rng(ctx.seed)

    def see(v: Value, x: torch.Tensor) -> None:
        for node in readers[v]:
            columns = _columns(node, x, rng)
            hessians[node] = hessians.get(node, 0.0) + columns @ columns.mT

    total = sum(len(next(iter(b.values()))) for b in batches)
    watch(graph, batches, see, set(readers), lambda n: ctx.progress(n, total, "gptq: inputs of layers"))
    return {node.inputs[1]: gptq(node.inputs[1].data, hessians[node], grid) for node, grid in grids.items()}


def _columns(node: Node, x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """What a row of the weight is multiplied by, one column per output position, at most ROWS of them: [groups, depth,
    positions], float64."""
    if node.op == "linear":
        rows = x.reshape(-1, x.shape[-1])
        return rows[_some(len(rows), rng)].T[None].double()
    kernel, rank = node.inputs[1].shape[2:], node.inputs[1].data.ndim - 2
    strides, dilations = (node.attrs.get(k) or [1] * rank for k in ("strides", "dilations"))
    pads = node.attrs.get("pads") or [0] * 2 * rank
    x = F.pad(x, [p for i in reversed(range(rank)) for p in (pads[i], pads[rank + i])])
    sizes = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[2:], kernel, dilations, strides)]
    at = _some(len(x) * int(np.prod(sizes)), rng)
    index: list = [slice(None)]
    for i in reversed(range(rank)):  # positions along axis 0, taps along the others
        along = at % sizes[i] * strides[i]
        at = at // sizes[i]
        taps = torch.arange(kernel[i]) * dilations[i]
        index.insert(1, along.reshape(-1, *[1] * rank) + taps.reshape([-1 if j == i else 1 for j in range(rank)]))
    patches = x.transpose(0, 1)[(slice(None), at.reshape(-1, *[1] * rank), *index[1:])]  # [C, positions, taps...]
    return patches.movedim(1, -1).reshape(node.attrs.get("group", 1), -1, len(at)).double()


def _some(count: int, rng: np.random.Generator) -> torch.Tensor:
    """At most ROWS numbers below count, in order."""
    return torch.arange(count) if count <= ROWS else torch.from_numpy(np.sort(rng.choice(count, ROWS, replace=False)))


def gptq(weight: np.ndarray, hessian: torch.Tensor, grid: Grid) -> np.ndarray:
    """weight [rows, ...] on the grid, with the least squared error under `hessian` [groups, depth, depth] that a greedy pass
    over the columns finds; those with the largest diagonal go first. Zeros stay."""
    groups, depth = hessian.shape[:2]
    rows = torch.from_numpy(weight.astype(np.float64)).reshape(groups, -1, depth)
    scale = torch.from_numpy(np.broadcast_to(np.asarray(grid.scale, np.float64).reshape(-1, 1), (len(weight), 1)).copy())
    made = _gptq(rows, hessian, scale.reshape(groups, -1, 1), top_code(grid.bits))
    return np.where(weight == 0, 0, made.reshape(weight.shape).numpy()).astype(np.float32)


def _gptq(w: torch.Tensor, h: torch.Tensor, scale: torch.Tensor, top: int) -> torch.Tensor:
    """w [groups, rows, depth], h [groups, depth, depth], scale [groups, rows, 1]: all groups at once."""
    diagonal = h.diagonal(dim1=1, dim2=2)
    damping = DAMPING * diagonal.mean(1, keepdim=True).expand_as(diagonal)
    h = h + torch.diag_embed(torch.where(diagonal == 0, torch.ones_like(diagonal), damping))
    order = torch.argsort(h.diagonal(dim1=1, dim2=2), dim=1, descending=True, stable=True)
    w = w.gather(2, order[:, None].expand_as(w))
    h = h.gather(1, order[:, :, None].expand_as(h)).gather(2, order[:, None].expand_as(h))
    inverse = torch.linalg.cholesky(torch.linalg.inv(h), upper=True)
    out = torch.zeros_like(w)
    for i in range(w.shape[2]):
        out[..., i] = (torch.round(w[..., i:i + 1] / scale).clamp(-top, top) * scale)[..., 0]
        error = (w[..., i] - out[..., i]) / inverse[:, i, i, None]
        w[..., i + 1:] -= error[..., None] * inverse[:, i, None, i + 1:]
    return out.gather(2, torch.argsort(order, dim=1)[:, None].expand_as(out))


# --- up or down, learned ----------------------------------------------------------------------------------------------

class Choice(torch.nn.Module):
    """A weight between its two neighbours on the grid: floor(w / s) + h(v), h from 0 to 1 (equation 23 of adaround)."""

    def __init__(self, weight: np.ndarray, grid: Grid):
        super().__init__()
        w, s = torch.from_numpy(weight.astype(np.float32)), torch.from_numpy(np.asarray(grid.scale, np.float32))
        self.scale, self.top, self.zero = along_rows(s, w), top_code(grid.bits), w == 0
        self.floor = torch.floor(w / self.scale)
        rest = (w / self.scale - self.floor).clamp(0.01, 0.99)
        low, high = STRETCH
        self.v = torch.nn.Parameter(torch.logit((rest - low) / (high - low)))

    def share(self) -> torch.Tensor:
        low, high = STRETCH
        return (torch.sigmoid(self.v) * (high - low) + low).clamp(0, 1)

    def forward(self, hard: bool = False) -> torch.Tensor:
        up = (self.share() >= 0.5).float() if hard else self.share()
        codes = (self.floor + up).clamp(-self.top, self.top)
        return torch.where(self.zero, torch.zeros(()), codes * self.scale)

    def undecided(self, beta: float) -> torch.Tensor:
        """What pushes every share to 0 or 1, the harder the smaller beta (equation 24)."""
        return (1 - (2 * self.share() - 1).abs() ** beta).sum()
