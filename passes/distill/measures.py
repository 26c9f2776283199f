"""How far a student's inner values are from a teacher's: functions of torch tensors that give a scalar.

The widths of attention scores differ from those of hidden states, and heads may differ in number: what must agree is
said at each measure.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F


def mse(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Mean squared difference; same shapes."""
    return F.mse_loss(mine, theirs)


def cosine(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """1 - cosine of the vectors along the last axis (channels of [N, C, H, W]), mean (DistilBERT, arXiv 1910.01108)."""
    axis = 1 if mine.ndim == 4 else -1
    return 1 - F.cosine_similarity(mine, theirs, dim=axis).mean()


def attention_map(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Where the energy is, whatever the channels: squared distance of normalised maps of channel-mean squares of
    [N, C, H, W] (Zagoruyko and Komodakis, arXiv 1612.03928, eq. 2). Another map size is averaged to the smaller."""
    if mine.shape[2:] != theirs.shape[2:]:
        size = (min(mine.shape[2], theirs.shape[2]), min(mine.shape[3], theirs.shape[3]))
        mine, theirs = F.adaptive_avg_pool2d(mine, size), F.adaptive_avg_pool2d(theirs, size)
    a, b = (F.normalize(t.pow(2).mean(1).flatten(1), dim=1) for t in (mine, theirs))
    return (a - b).pow(2).mean()


def flow(first: torch.Tensor, last: torch.Tensor, their_first: torch.Tensor, their_last: torch.Tensor) -> torch.Tensor:
    """How one feature map turns into another: the distance of Gram matrices between two layers' channels (FSP; Yim et al.,
    "A gift from knowledge distillation", CVPR 2017). Channels agree pairwise; a larger map is max-pooled to the smaller."""
    return F.mse_loss(_gram(first, last), _gram(their_first, their_last))


def _gram(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    a, b = (t if tuple(t.shape[2:]) == size else F.adaptive_max_pool2d(t, size) for t in (a, b))
    return torch.einsum("nchw,ndhw->ncd", a, b) / (size[0] * size[1])


def heads_of(t: torch.Tensor, heads: int) -> torch.Tensor:
    """[N, S, heads * D] or [N, heads, S, D] as [N, heads, S, D]."""
    return t if t.ndim == 4 else t.reshape(*t.shape[:2], heads, -1).transpose(1, 2)


def scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Attention scores before mask and softmax, [N, heads, S, T]: q k^T / sqrt(D). Keys shared by a group are repeated."""
    if k.shape[1] != q.shape[1]:
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    return q @ k.transpose(2, 3) / q.shape[3] ** 0.5


def score_distance(heads: tuple[int, int], their_heads: tuple[int, int]):
    """Measure (q, k, teacher's q, k) of attention scores before softmax (TinyBERT, arXiv 1909.10351, eq. 7). Heads are
    (of q, of k); where their number differs, scores are averaged over heads on both sides."""
    def measure(q, k, their_q, their_k):
        mine = scores(heads_of(q, heads[0]), heads_of(k, heads[1]))
        theirs = scores(heads_of(their_q, their_heads[0]), heads_of(their_k, their_heads[1]))
        if mine.shape[1] != theirs.shape[1]:
            mine, theirs = mine.mean(1), theirs.mean(1)
        return F.mse_loss(mine, theirs)
    return measure


def relation_distance(heads: int, mine_heads: int, their_heads: int):
    """Measure (x, teacher's x) of how positions relate: KL of softmax(x x^T / sqrt(d)) after x is cut into `heads` relation
    heads, whatever the number of attention heads (MiniLMv2, arXiv 2012.15828, section 3)."""
    def relation(t, have):
        t = heads_of(t, have).transpose(1, 2).flatten(2)  # [N, S, width]
        t = t.reshape(*t.shape[:2], heads, -1).transpose(1, 2)
        return F.log_softmax(t @ t.transpose(2, 3) / t.shape[3] ** 0.5, -1)

    def measure(mine, theirs):
        a, b = relation(mine, mine_heads), relation(theirs, their_heads)
        return F.kl_div(a, b, reduction="none", log_target=True).sum(-1).mean()
    return measure
