"""Weights that share values by a hash of their place: HashedNets (Chen et al., arXiv 1504.04788).

w[i, j] = sign(i, j) * bucket[h(i, j)]: the buckets are the parameters, hash and sign come from a seed (hashing.py), so a file
holds the buckets alone, and the engine multiplies from them (kernels/hashed). Every bucket starts as the least-squares value,
the mean of sign * weight over its members. That is far from a trained weight (of independent weights a share 1 / ratio of the
energy is left), so train afterwards, here with `epochs` or by a pass that follows; the gradient of a bucket is the sum over its
members.
Pruned weights stay zero and take no part.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from .. import hashing
from ..base import Context, Pass, layer_name, options_for, select
from ..cost import params
from ..errors import UserError
from ..graph import Graph, Node, Value, constant
from ..weights import weight_of

LAYERS = ("conv", "linear", "matmul")


@dataclass(frozen=True)
class Hashed(Pass):
    """ratio          weights per bucket
    layers, skip   patterns of layers to do and to leave
    overrides      {pattern: {ratio: value}}
    min_size       tensors with fewer weights stay as they are
    seed           of the hash, together with the layer's name (none: the recipe's)
    epochs, lr     training of the buckets afterwards (0: none)
    """

    ratio: float = 8
    layers: str | list[str] = "*"
    skip: list[str] = field(default_factory=list)
    overrides: dict[str, dict] = field(default_factory=dict)
    min_size: int = 64
    seed: int | None = None
    epochs: float = 0
    lr: float | None = None

    def check(self) -> None:
        _check_ratio("", self.ratio)
        for pattern, options in self.overrides.items():
            if unknown := set(options) - {"ratio"}:
                raise ValueError(f"overrides[{pattern!r}]: unknown option {min(unknown)!r}; it takes ratio")
            _check_ratio(f"overrides[{pattern!r}]: ", options.get("ratio", self.ratio))
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs}")

    def matches(self, graph: Graph) -> list[Node]:
        """Layers with float weights that the engine has hashed kernels for; a codebook, whose entries would be torn, is left."""
        nodes = [n for n in graph.nodes if n.op in LAYERS and n.attrs.get("group", 1) == 1]
        nodes = [n for n in select(nodes, self.layers) if not select([n], self.skip)]
        return [n for n in nodes if (w := weight_of(n)) is not None and w.data.size >= self.min_size
                and not any(w.meta.get(k) for k in ("codebook", "hashed", "frozen"))]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        graph = graph.copy()
        nodes = self.matches(graph)
        if not nodes:
            raise UserError("structure.hashed: no linear or ungrouped convolution layer with float weights matches; "
                            "check layers, skip and min_size, and run it before quantize.*")
        before = params(graph)
        report: dict[Value, dict] = {}
        for i, node in enumerate(nodes):
            w = weight_of(node)
            if w is None or w in report:
                continue
            ctx.progress(i, len(nodes), f"hash {layer_name(node)}")
            outputs = w.data.ndim - 1 if node.op == "matmul" else 0
            ratio = options_for(node, self.overrides).get("ratio", self.ratio)
            report[w] = {"layer": layer_name(node), "weights": w.data.size, **self._share(w, ratio, ctx.seed, outputs)}
        if self.epochs:
            from ..train import fit_graph
            graph = fit_graph(graph, ctx, epochs=self.epochs, lr=self.lr, text="train buckets")
        ctx.note(params_before=before, params_after=params(graph), layers=list(report.values()))
        return graph

    def _share(self, w: Value, ratio: float, seed: int, outputs: int) -> dict:
        """The value's data and meta; how many buckets, and its relative distance to what it was."""
        seed = (seed if self.seed is None else self.seed) + crc32(w.name.encode())
        how = hashing.fresh(w.data.shape, seed, w.data.size / ratio, outputs)
        data = hashing.nearest(w.data, how, bool(w.meta.get("sparse")))
        error = float(np.linalg.norm(data - w.data) / max(float(np.linalg.norm(w.data)), 1e-30))
        w.data, w.meta = data, {**w.meta, "hashed": how}
        return {"buckets": how["buckets"], "error": round(error, 5)}

    @staticmethod
    def example() -> Graph:
        r = np.random.default_rng(0)
        x, y = Value("x", "float32", ("N", 16)), Value("y", "float32", ("N", 12))
        w = constant("fc.weight", r.standard_normal((12, 16)).astype(np.float32))
        return Graph([x], [y], [Node("linear", [x, w, None], [y], name="fc")])


def _check_ratio(where: str, ratio: float) -> None:
    if not ratio > 1:
        raise ValueError(f"{where}ratio must be more than 1 weight per bucket, got {ratio}")
