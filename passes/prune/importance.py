"""How much a channel class matters: one number per class of a group, comparable over groups where it says so."""
from __future__ import annotations

import numpy as np

from ..base import Context
from ..errors import UserError
from ..groups import Cut, Dependencies

MEASURES = ("l1", "l2", "bn", "taylor", "random")


def importance(deps: Dependencies, measure: str, ctx: Context, samples: int = 256) -> np.ndarray:
    """Scores [classes of deps], larger matters more; class 0 is infinite. One of MEASURES:

    l1, l2   norm of all weights that make or read the channel (Li et al., arXiv 1608.08710; over the whole group as in
             DepGraph, arXiv 2301.12900). Each weight counts relative to its layer's mean channel, so that layers of
             different scale are comparable.
    bn       size of the batch norm scale (Network Slimming, arXiv 1708.06519); l2 for groups without batch norm
    taylor   squared change of the loss when the channel is zero, to first order, over training batches
             (Molchanov et al., arXiv 1906.10771)
    random   a baseline
    """
    size = deps.size
    if measure == "random":
        score = np.random.default_rng(ctx.seed).random(size)
    elif measure == "taylor":
        score = _taylor(deps, ctx, samples)
    else:
        score = _norms(deps.cuts, size, 1 if measure == "l1" else 2)
        if measure == "bn":
            scale = _mean_over_cuts([c for c in deps.cuts if c.kind == "scale"], size, lambda c: np.abs(c.value.data))
            score = np.where(np.isnan(scale), score, scale)
    score = np.nan_to_num(score, nan=0.0)
    score[0] = np.inf
    return score


def _norms(cuts: list[Cut], size: int, p: int) -> np.ndarray:
    cuts = [c for c in cuts if c.kind in ("out", "in", "depthwise")]

    def norm(cut: Cut) -> np.ndarray:
        rows = np.abs(np.moveaxis(cut.value.data, cut.axis, 0).reshape(cut.marks.size, -1).astype(np.float64))
        return rows.mean(1) if p == 1 else np.sqrt((rows ** 2).mean(1))
    return _mean_over_cuts(cuts, size, norm)


def _mean_over_cuts(cuts: list[Cut], size: int, score) -> np.ndarray:
    """Mean over the cuts in which a class has positions, of its positions' scores relative to the cut's mean; NaN: none."""
    total, count, seen = np.zeros(size), np.zeros(size), set()
    for cut in cuts:
        if (cut.value, cut.axis) in seen or not cut.marks.any():
            continue
        seen.add((cut.value, cut.axis))
        values = score(cut)
        mean = values.mean()
        members = np.bincount(cut.marks, minlength=size)
        own = np.bincount(cut.marks, weights=values / (mean if mean > 0 else 1.0), minlength=size) / np.maximum(members, 1)
        total, count = total + own, count + (members > 0)
    return np.divide(total, count, out=np.full(size, np.nan), where=count > 0)


def _taylor(deps: Dependencies, ctx: Context, samples: int) -> np.ndarray:
    import torch

    from ..train import Training, task_loss

    if ctx.data is None:
        raise UserError("prune.channels: importance: taylor needs data; add `data:` to the recipe or use l2")
    cuts = [c for c in deps._distinct_cuts() if c.kind in ("out", "depthwise") and c.marks.any()]
    module = deps.graph.module().eval()
    names = sorted({c.value.name for c in cuts})
    loss_fn, score = task_loss(ctx), np.zeros(deps.size)
    batch = min(Training.of(ctx).batch, samples)
    for inputs, labels in ctx.data.batches("train", batch, ctx.seed, samples):
        outputs, weights = module(inputs, want=names)
        loss = loss_fn(list(outputs) if isinstance(outputs, tuple) else [outputs], labels, inputs)
        grads = torch.autograd.grad(loss, [weights[n] for n in names], allow_unused=True)
        change = {n: (weights[n] * g).detach().numpy() for n, g in zip(names, grads) if g is not None}
        drop = np.zeros(deps.size)
        for cut in cuts:
            if cut.value.name in change:
                rows = np.moveaxis(change[cut.value.name], cut.axis, 0).reshape(cut.marks.size, -1).sum(1)
                drop += np.bincount(cut.marks, weights=rows, minlength=deps.size)
        score += drop ** 2
    return score
