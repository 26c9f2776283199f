"""Share weights: every tensor keeps a palette of few values, and each weight is an index into it.

One-dimensional k-means per tensor (or per group of output channels), as in Deep Compression (Han et al.,
arXiv 1510.00149): linear initialisation keeps the rare large weights represented. With `epochs` the palette is
fine-tuned: the gradient of an entry is the sum of the gradients of its weights. Zeros of a pruned tensor stay
zero, with an entry of their own; of a hashed weight the buckets are clustered. With `importance` a weight counts in
k-means by what its error costs (curvature.py).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .. import hashing
from ..base import Context, Pass, layer_name, options_for, select
from ..graph import Graph, Node, Value, constant
from ..weights import distinct, weight_of
from .curvature import curvature

_LAYER_OPTIONS = {"bits", "clusters", "groups", "init"}


@dataclass(frozen=True)
class Codebook(Pass):
    """bits      palette of at most 2**bits values, zero included (1..8)
    clusters     number of values besides zero (2..256), instead of `bits`; a pruned tensor has zero on top of them
    groups       palettes per tensor: output channels are cut into this many equal groups (fewer where it does not divide)
    init         where k-means starts: linear (evenly over the range), density (evenly over the weights), kmeans++
    importance   how much a weight counts: none (all the same), hessian (by the squares of the inputs it multiplies) or
                 fisher (by squared gradients of the loss); both need data
    samples      of the data that importance looks at
    iterations   at most this many rounds of k-means
    layers       patterns of the layers to do; overrides: {pattern: {bits|clusters|groups|init: value}}
    skip         patterns of layers to leave alone
    min_size     tensors with fewer weights stay as they are
    epochs, lr   fine-tuning of the palettes on the training data (0: none)
    """

    bits: int | None = None
    clusters: int | None = None
    groups: int = 1
    init: Literal["linear", "density", "kmeans++"] = "linear"
    importance: Literal["none", "hessian", "fisher"] = "none"
    samples: int = 256
    iterations: int = 100
    layers: str | list[str] = "*"
    skip: list[str] = field(default_factory=list)
    overrides: dict[str, dict] = field(default_factory=dict)
    min_size: int = 64
    epochs: float = 0
    lr: float | None = None

    def check(self) -> None:
        if self.bits is not None and self.clusters is not None:
            raise ValueError("bits and clusters say the same thing twice; give one of them")
        _check_layer("", {"bits": self.bits, "clusters": self.clusters, "groups": self.groups, "init": self.init})
        for pattern, options in self.overrides.items():
            unknown = set(options) - _LAYER_OPTIONS
            if unknown:
                raise ValueError(f"overrides[{pattern!r}]: unknown option {min(unknown)!r}; "
                                 f"it takes {', '.join(sorted(_LAYER_OPTIONS))}")
            _check_layer(f"overrides[{pattern!r}]: ", options)
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs}")

    def matches(self, graph: Graph) -> list[Node]:
        nodes = [n for n in select(super().matches(graph), self.layers) if not select([n], self.skip)]
        return [n for n in nodes if (w := weight_of(n)) is not None and w.data.size >= self.min_size]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        graph = graph.copy()
        nodes = self.matches(graph)
        counts = {} if self.importance == "none" else curvature(graph, nodes, self.importance, ctx, self.samples)
        done: dict[Value, dict] = {}
        for i, node in enumerate(nodes):
            weight = weight_of(node)
            if weight in done:
                continue
            ctx.progress(i, len(nodes), f"k-means {layer_name(node)}")
            data, groups = self._share(weight, options_for(node, self.overrides), ctx.seed, counts.get(weight))
            error = float(np.linalg.norm(data - weight.data) / max(float(np.linalg.norm(weight.data)), 1e-30))
            weight.data = data
            entries = distinct(data, groups)
            weight.meta = {**weight.meta, "codebook": {"bits": bits_for(entries), "groups": groups}}
            done[weight] = {"layer": layer_name(node), "entries": entries, "error": round(error, 5)}
        if self.epochs and done:
            from ..train import fit_graph
            graph = fit_graph(graph, ctx, epochs=self.epochs, lr=self.lr, text="tune palettes")
        ctx.note(layers=list(done.values()), tensors=len(done))
        return graph

    def _share(self, weight: Value, options: dict, seed: int, counts: np.ndarray | None) -> tuple[np.ndarray, int]:
        base: dict[str, Any] = {"bits": self.bits, "clusters": self.clusters, "groups": self.groups, "init": self.init}
        if "bits" in options or "clusters" in options:
            base |= {"bits": None, "clusters": None}
        base |= options
        sparse = bool(weight.meta.get("sparse"))
        count = base["clusters"] or 2 ** (base["bits"] or 4) - sparse
        count = min(count, 256 - sparse)
        if "hashed" in weight.meta:
            return self._share_buckets(weight, count, base["init"], seed, counts), 1
        rows = weight.shape[0]
        groups = max(g for g in range(1, min(base["groups"], rows) + 1) if rows % g == 0)
        blocks = weight.data.reshape(groups, -1)
        by = [None] * groups if counts is None else np.broadcast_to(counts, weight.data.shape).reshape(groups, -1)
        shared = np.stack([share(b, count, base["init"], self.iterations, sparse, seed, c) for b, c in zip(blocks, by)])
        return shared.reshape(weight.data.shape), groups

    def _share_buckets(self, weight: Value, count: int, init: str, seed: int, counts: np.ndarray | None) -> np.ndarray:
        """A hashed weight's palette is that of its buckets: half as many values, and their negatives."""
        how, sparse = weight.meta["hashed"], bool(weight.meta.get("sparse"))
        buckets = hashing.buckets_of(weight.data, how, sparse)
        if buckets is None:
            raise AssertionError(f"{weight.name} is not made of its buckets")
        told = (weight.data != 0 if sparse else np.ones(weight.shape)) * (1 if counts is None else counts)
        by = np.bincount(hashing.places(how, weight.shape)[0].ravel(), told.ravel(), len(buckets))
        used = (by > 0) & (buckets != 0)
        sizes = np.where(used, abs(buckets), 0)
        shared = np.copysign(share(sizes, max(1, count // 2), init, self.iterations, True, seed, by), buckets)
        data = hashing.fill(shared.astype(weight.data.dtype), how, weight.shape)
        return np.where(weight.data != 0, data, 0).astype(weight.data.dtype) if sparse else data

    @staticmethod
    def example() -> Graph:
        r = np.random.default_rng(0)
        x, y = Value("x", "float32", ("N", 16)), Value("y", "float32", ("N", 12))
        w = constant("fc.weight", r.standard_normal((12, 16)).astype(np.float32))
        return Graph([x], [y], [Node("linear", [x, w, None], [y], name="fc")])


def bits_for(entries: int) -> int:
    """Bits of an index into a palette of so many entries, at least 1."""
    return max(1, (entries - 1).bit_length())


def share(values: np.ndarray, count: int, init: str = "linear", iterations: int = 100, keep_zero: bool = False,
          seed: int = 0, counts: np.ndarray | None = None) -> np.ndarray:
    """`values` with each replaced by the nearest of at most `count` k-means centres, float32, same shape.

    keep_zero: zeros stay exactly zero and do not take part, so there may be `count` + 1 distinct values.
    """
    out = np.zeros_like(values, dtype=np.float32)
    chosen = values != 0 if keep_zero else np.ones(values.shape, bool)
    if chosen.any():
        flat = values[chosen].astype(np.float64)
        centres = kmeans(flat, count, init, iterations, seed, None if counts is None else counts[chosen]).astype(np.float32)
        if keep_zero:  # a centre that rounds to zero would make new zeros; the smallest float keeps the pattern honest
            centres[centres == 0] = np.finfo(np.float32).tiny
        out[chosen] = centres[np.searchsorted((centres[1:].astype(np.float64) + centres[:-1]) / 2, flat)]
    return out


def kmeans(values: np.ndarray, count: int, init: str = "linear", iterations: int = 100, seed: int = 0,
           counts: np.ndarray | None = None) -> np.ndarray:
    """Centres of one-dimensional k-means (Lloyd), sorted, float64; at most `count`, fewer when there are fewer values.
    Every value counts as often as `counts` says (any positive number; None: once).

    In one dimension clusters are intervals of the sorted values, so a round is a binary search and prefix sums.
    """
    v = np.asarray(values, np.float64).ravel()
    order = np.argsort(v, kind="stable")
    v, by = v[order], np.ones(len(v)) if counts is None else np.asarray(counts, np.float64).ravel()[order]
    unique = v[np.concatenate([[True], v[1:] != v[:-1]])]
    if len(unique) <= count:
        return unique
    centres = _start(v, unique, count, init, seed)
    sums, total = (np.concatenate([[0.0], np.cumsum(a)]) for a in (v * by, by))
    for _ in range(iterations):
        edges = np.concatenate([[0], np.searchsorted(v, (centres[1:] + centres[:-1]) / 2), [len(v)]])
        sizes = np.diff(edges)
        new = np.where(sizes > 0, np.diff(sums[edges]) / np.where(sizes > 0, np.diff(total[edges]), 1), centres)
        if not sizes.all():  # an empty cluster moves to the value that is worst represented
            for i in np.flatnonzero(sizes == 0):
                others = np.sort(np.delete(new, i))
                nearest = np.searchsorted((others[1:] + others[:-1]) / 2, unique)
                new[i] = unique[np.abs(unique - others[nearest]).argmax()]
            new = np.sort(new)
        if np.array_equal(new, centres):
            break
        centres = new
    return np.unique(centres)


def _start(v: np.ndarray, unique: np.ndarray, count: int, init: str, seed: int) -> np.ndarray:
    if init == "linear":
        return np.linspace(v[0], v[-1], count) if count > 1 else np.array([v.mean()])
    if init == "density":
        return np.sort(unique[((np.arange(count) + 0.5) / count * len(unique)).astype(int)])
    rng = np.random.default_rng(seed)  # kmeans++ (Arthur and Vassilvitskii 2007)
    centres = [v[rng.integers(len(v))]]
    best = (v - centres[0]) ** 2
    while len(centres) < count:
        centres.append(v[min(np.searchsorted(np.cumsum(best), rng.random() * best.sum()), len(v) - 1)])
        best = np.minimum(best, (v - centres[-1]) ** 2)
    return np.sort(centres)


def _check_layer(where: str, options: dict) -> None:
    bits, clusters, groups = options.get("bits"), options.get("clusters"), options.get("groups", 1)
    if bits is not None and not 1 <= bits <= 8:
        raise ValueError(f"{where}bits must be between 1 and 8, got {bits}")
    if clusters is not None and not 1 <= clusters <= 256:
        raise ValueError(f"{where}clusters must be between 1 and 256, got {clusters}")
    if groups < 1:
        raise ValueError(f"{where}groups must be at least 1, got {groups}")
    if options.get("init", "linear") not in ("linear", "density", "kmeans++"):
        raise ValueError(f"{where}init must be linear, density or kmeans++, got {options['init']!r}")
