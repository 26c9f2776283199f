"""Make the weights that stay take over the work of those that go, layer by layer, from calibration data alone.

A layer's output changes by dw H dw^T per row, H the second moment of its inputs. When columns are fixed from left to right,
the best answer of those to the right of a removed weight is -w_i / [H^-1]_ii * [H^-1]_i,j with H^-1 that of the columns from i
on; one Cholesky factor of the whole inverse has all of these in its rows (SparseGPT, Frantar and Alistarh, arXiv 2301.00774,
after the optimal brain surgeon of Hassibi and Stork). How many weights go is given, and under importance obs which ones is
decided anew every few columns, on what the earlier ones have made of them. Last, where that is affordable, what is left of each
row is fitted to the outputs once more: w_S = (H w)_S H_SS^-1, the optimum for its mask.
"""
from __future__ import annotations

import numpy as np

from .. import hashing
from ..base import Context, layer_name
from ..graph import Graph, Node
from ..moments import matrix, moments, unmatrix
from .importance.calibrated import ridged

COLUMNS = 64        # decided at once
FIT_LIMIT = 2e11    # multiply-adds that the last fit of a layer may take


def update(graph: Graph, targets: list, masks: dict[str, np.ndarray], ctx: Context, samples: int, who: str,
           choose: bool) -> Graph:
    """A copy pruned by `masks`, its other weights changed so that the layers' outputs stay. Each layer sees the inputs that the
    layers before it, already pruned, give. choose: as many weights as the masks say, but those that cost least."""
    graph = graph.copy()
    place = {v.name: n for n in graph.nodes for v in n.inputs if v is not None and v.data is not None}
    for i, target in enumerate(targets):
        node = place[target.name]
        ctx.progress(i, len(targets), f"{who}: update {layer_name(node)}")
        above = Graph(graph.inputs, [node.inputs[0]], list(graph.nodes))  # what is not above the layer need not run
        above.prune()
        h = moments(above, [node], ctx, samples, f"{who}: update")[node]
        keep = masks[target.name]
        w, keep, units, cells = (_by_tap(node, matrix(node, a)) for a in (
            node.inputs[1].data, keep, np.broadcast_to(target.units, keep.shape), target.row[target.units]))
        order = _by_tap(node, np.arange(h.shape[1])[None, None])[0, 0]
        h = ridged(h)[:, order][:, :, order]
        new = np.empty(w.shape)
        for g, (weight, k, moment) in enumerate(zip(w.astype(np.float64), keep, h)):
            new[g], stays = sweep(weight, k, moment, units[g], cells[g] if target.rowwise else None, choose)
            if sum(float(n) ** 3 for n in stays.sum(1)) / 3 < FIT_LIMIT / len(w):
                new[g] = fit(weight, stays, moment)
        back = np.empty_like(new)
        back[:, :, order] = new
        data = unmatrix(node, back).astype(node.inputs[1].data.dtype)
        how = node.inputs[1].meta.get("hashed")
        node.inputs[1].data = hashing.nearest(data, how, sparse=True) if how else data
    return graph


def sweep(w: np.ndarray, keep: np.ndarray, h: np.ndarray, units: np.ndarray, cells: np.ndarray | None = None,
          choose: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The pruned weight [O, K] and its mask. units [O, K]: what goes as a whole; cells [O, K]: where the number that goes is
    fixed, besides every run of columns."""
    factor = _upper(h)
    w, keep, columns = w.copy(), keep.copy(), w.shape[1]
    tied = units if cells is None or len(np.unique(cells[0])) == 1 else cells
    ends = np.append(np.flatnonzero(tied[0, 1:] != tied[0, :-1]) + 1, columns)
    start = 0
    while start < columns:
        end = int(ends[min(np.searchsorted(ends, min(start + COLUMNS, columns)), len(ends) - 1)])
        if choose:
            score = w[:, start:end] ** 2 / np.diagonal(factor)[start:end] ** 2
            keep[:, start:end] = _again(score, keep[:, start:end], units[:, start:end],
                                        None if cells is None else cells[:, start:end])
        for i in range(start, end):
            error = np.where(keep[:, i], 0.0, w[:, i]) / factor[i, i]
            w[:, i:] -= np.outer(error, factor[i, i:])
        w[:, start:end][~keep[:, start:end]] = 0
        start = end
    return w, keep


def fit(w: np.ndarray, keep: np.ndarray, h: np.ndarray) -> np.ndarray:
    """The weights [O, K] with zeros where `keep` is False whose outputs are nearest to those of w."""
    want, out = w @ h, np.zeros_like(w)
    for o, stays in enumerate(keep):
        if stays.any():
            out[o, stays] = np.linalg.solve(h[np.ix_(stays, stays)], want[o, stays])
    return out


def _upper(h: np.ndarray) -> np.ndarray:
    """U with U^T U = h^-1, upper triangular: row i belongs to the inverse of h without its first i rows and columns."""
    return np.linalg.cholesky(np.linalg.inv(h)).T


def _again(score: np.ndarray, keep: np.ndarray, units: np.ndarray, cells: np.ndarray | None) -> np.ndarray:
    """As many units stay as in `keep` (in every cell), but the dearest."""
    ids, first, local = np.unique(units, return_index=True, return_inverse=True)
    local = local.reshape(units.shape)
    cost = np.bincount(local.ravel(), weights=score.ravel())
    stays = keep.ravel()[first]
    cell = np.zeros(len(ids), np.int64) if cells is None else np.unique(cells.ravel()[first], return_inverse=True)[1]
    order = np.lexsort((-cost, cell))
    sizes, most = np.bincount(cell), np.bincount(cell, weights=stays)
    place = np.arange(len(ids)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.zeros(len(ids), bool)
    chosen[order] = place < most[cell[order]]
    return chosen[local]


def _by_tap(node: Node, m: np.ndarray) -> np.ndarray:
    """[G, O, K] with the columns of one place of the kernel side by side, as blocks are."""
    if node.op != "conv":
        return m
    taps = int(np.prod(node.inputs[1].shape[2:]))
    return m.reshape(*m.shape[:2], -1, taps).swapaxes(2, 3).reshape(m.shape)
