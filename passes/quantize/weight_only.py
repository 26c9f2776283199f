"""Weights as integers of 2 to 8 bits, activations float: w = (code - zero) * scale, one scale per block of inputs, per
output channel or per tensor.

Rounding to nearest; a scale is the one of least squared error among those of a range cut a little. At 4 bits blocks of
32 to 128 weights keep what one scale per channel loses (Dettmers and Zettlemoyer, arXiv 2212.09720). The graph gets
dequantize_linear nodes with a block_size, as ONNX has them since opset 21; the file keeps the codes packed, and the
engine multiplies from them (kernels/lut), so that a product reads an eighth of the bytes of float32.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..base import Context, Pass, layer_name, options_for, select
from ..errors import UserError
from ..graph import Graph, Node, Value, constant

LAYERS = ("conv", "linear")
_LAYER_OPTIONS = {"bits", "per", "group", "symmetric", "weight_scales"}


@dataclass(frozen=True)
class WeightOnly(Pass):
    """bits        of a code, 2..8
    per            group (a scale for every `group` inputs of an output), channel (one per output) or tensor
                   hashed weights get `tensor`, for one scale keeps what is equal equal
    group          inputs that share a scale: a multiple of 8; a convolution whose channels it does not divide
                   gets `channel`
    symmetric      zero point in the middle; else every scale has one of its own
    weight_scales  mse (least squared error) or max (the whole range)
    scales         how scales are kept: float16 or float32
    embeddings     bits of embedding tables (gather of a float table), one scale per row; 0: they stay float
    layers, skip   patterns of layers to do, and to leave float
    overrides      {pattern: {bits | per | group | symmetric | weight_scales: value}}
    min_size       tensors with fewer weights stay as they are
    """

    bits: int = 4
    per: Literal["group", "channel", "tensor"] = "group"
    group: int = 32
    symmetric: bool = True
    weight_scales: Literal["mse", "max"] = "mse"
    scales: Literal["float16", "float32"] = "float16"
    embeddings: int = 8
    layers: str | list[str] = "*"
    skip: list[str] = field(default_factory=list)
    overrides: dict[str, dict] = field(default_factory=dict)
    min_size: int = 64

    def check(self) -> None:
        _check("", self._options({}))
        if self.embeddings and not 2 <= self.embeddings <= 8:
            raise ValueError(f"embeddings must be between 2 and 8 bits, or 0, got {self.embeddings}")
        for pattern, options in self.overrides.items():
            unknown = set(options) - _LAYER_OPTIONS
            if unknown:
                raise ValueError(f"overrides[{pattern!r}]: unknown option {min(unknown)!r}; it takes "
                                 f"{', '.join(sorted(_LAYER_OPTIONS))}")
            _check(f"overrides[{pattern!r}]: ", self._options(options))

    def matches(self, graph: Graph) -> list[Node]:
        """Layers with float weights, and embedding tables."""
        nodes = [n for n in graph.nodes if n.op in LAYERS and _float(n.inputs[1], self.min_size)
                 or self.embeddings and _is_embedding(n, self.min_size)]
        return [n for n in select(nodes, self.layers) if not select([n], self.skip)]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        graph = graph.copy()
        nodes = self.matches(graph)
        if not nodes:
            raise UserError("quantize.weight_only: no layer with float weights matches; check layers, skip and min_size")
        done: dict[Value, Value] = {}
        report = []
        for i, node in enumerate(nodes):
            ctx.progress(i, len(nodes), f"round {layer_name(node)}")
            if node.op == "gather":
                _round_embedding(graph, node, self.embeddings)
                continue
            w = node.inputs[1]
            if w not in done:
                done[w], row = self._round(graph, node, w)
                report.append({"layer": layer_name(node)} | row)
            node.inputs[1] = done[w]
        ctx.note(layers=report)
        return graph

    def _options(self, override: dict) -> dict[str, Any]:
        return {k: override.get(k, getattr(self, k)) for k in sorted(_LAYER_OPTIONS)}

    def _round(self, graph: Graph, node: Node, w: Value) -> tuple[Value, dict]:
        """A dequantize_linear before the layer; its output and a row of the report."""
        o = self._options(options_for(node, self.overrides))
        per = "channel" if o["per"] == "group" and node.op == "conv" and w.shape[1] % o["group"] else o["per"]
        block = {"group": o["group"], "channel": 0, "tensor": -1}[per]
        hashed = w.meta.get("hashed")
        if hashed:  # one scale keeps what is equal equal, and so do as many codes below zero as above
            per, block, o["symmetric"] = "tensor", -1, True
        codes, scale, zero = round_weight(w.data, o["bits"], block, o["symmetric"], o["weight_scales"], self.scales == "float16")
        attrs = {"group": {"axis": 1, "block_size": block}, "channel": {"axis": 0}, "tensor": {}}[per]
        top = (1 << (o["bits"] - 1)) - 1
        codes = np.maximum(codes, -top) if hashed else codes
        q = constant(graph.fresh(w.name + f".int{o['bits']}"), codes, bits=o["bits"], **({"hashed": hashed} if hashed else {}))
        inputs: list[Value | None] = [q, constant(graph.fresh(w.name + ".scale"), scale)]
        if zero is not None:
            inputs.append(constant(graph.fresh(w.name + ".zero"), zero))
        y = Value(graph.fresh(w.name + ".float"), "float32", w.shape)
        graph.nodes.insert(graph.nodes.index(node), Node("dequantize_linear", inputs, [y], attrs, node.name + ".weight"))
        error = np.linalg.norm(restored(codes, scale, zero, block) - w.data) / max(float(np.linalg.norm(w.data)), 1e-30)
        return y, {"bits": o["bits"], "per": f"{per} of {block}" if per == "group" else per, "error": round(float(error), 5)}

    @staticmethod
    def example() -> Graph:
        r = np.random.default_rng(0)
        x, h, y = Value("x", "float32", ("N", 64)), Value("h", "float32", ("N", 32)), Value("y", "float32", ("N", 12))
        a = constant("a.weight", r.standard_normal((32, 64)).astype(np.float32))
        b = constant("b.weight", r.standard_normal((12, 32)).astype(np.float32))
        return Graph([x], [y], [Node("linear", [x, a, None], [h], name="a"), Node("linear", [h, b, None], [y], name="b")])


def round_weight(data: np.ndarray, bits: int, block: int = 0, symmetric: bool = True, scales: str = "mse", short: bool = True,
                 ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(codes int8, scales float32, zero points int8 or None) of a weight [O, I, ...].

    block  > 0: a scale for every `block` indices of axis 1, [O, ceil(I / block), ...]; 0: one per index of axis 0; -1: one, 0-d
    short  scales that float16 holds
    """
    lo, hi = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    rows = _rows(data.astype(np.float64), block)
    low, high = np.minimum(rows.min(-1), 0), np.maximum(rows.max(-1), 0)
    full = np.maximum(np.maximum(high, -low) / hi if symmetric else (high - low) / (hi - lo), 1e-12)
    best, zero, least = full, np.zeros_like(full), np.full(full.shape, np.inf)
    for cut in np.linspace(0.6, 1, 25)[::-1] if scales == "mse" else (1.0,):
        s = full * cut
        if short and full.max() < 60000:
            s = np.maximum(s.astype(np.float16), np.float16(6.2e-5)).astype(np.float64)  # the least that is not subnormal
        s = s.astype(np.float32).astype(np.float64)
        z = np.zeros_like(s) if symmetric else np.clip(np.rint(lo - low * cut / s), lo, hi)
        error = ((_codes(rows, s, z, lo, hi) - z[..., None]) * s[..., None] - rows) ** 2
        better = error.sum(-1) < least
        best, zero, least = np.where(better, s, best), np.where(better, z, zero), np.where(better, error.sum(-1), least)
    codes = _codes(rows, best, zero, lo, hi)
    return _back(codes, data.shape, block).astype(np.int8), _scales(best, data, block).astype(np.float32), \
        None if symmetric else _scales(zero, data, block).astype(np.int8)


def restored(codes: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, block: int) -> np.ndarray:
    """What dequantize_linear makes of round_weight's results."""
    def wide(a):
        if block > 0:
            return np.repeat(a, block, 1)[:, :codes.shape[1]]
        return a.reshape(-1, *[1] * (codes.ndim - 1)) if block == 0 else a
    return (codes.astype(np.float32) - (0 if zero is None else wide(zero.astype(np.float32)))) * wide(scale)


def _rows(data: np.ndarray, block: int) -> np.ndarray:
    """The weights that share a scale along the last axis; a short block is filled up with zeros."""
    if block <= 0:
        return data.reshape(data.shape[0] if block == 0 else 1, -1)
    last = np.moveaxis(data, 1, -1)
    short = -last.shape[-1] % block
    last = np.pad(last, [(0, 0)] * (last.ndim - 1) + [(0, short)])
    return last.reshape(*last.shape[:-1], -1, block)


def _back(rows: np.ndarray, shape: tuple[int, ...], block: int) -> np.ndarray:
    if block <= 0:
        return rows.reshape(shape)
    return np.moveaxis(rows.reshape(*rows.shape[:-2], -1)[..., :shape[1]], -1, 1)


def _scales(s: np.ndarray, data: np.ndarray, block: int) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(s, -1, 1)) if block > 0 else s.reshape(-1) if block == 0 else s.reshape(())


def _codes(rows: np.ndarray, s: np.ndarray, z: np.ndarray, lo: int, hi: int) -> np.ndarray:
    return np.clip(np.rint(rows / s[..., None]) + z[..., None], lo, hi)


def _float(v: Value | None, least: int) -> bool:
    return v is not None and v.data is not None and v.data.dtype == np.float32 and v.data.ndim >= 2 and v.data.size >= least


def _is_embedding(node: Node, least: int) -> bool:
    return node.op == "gather" and _float(node.inputs[0], least) and node.inputs[0].data.ndim == 2 \
        and node.attrs.get("axis", 0) == 0 and node.inputs[1].data is None


def _round_embedding(graph: Graph, node: Node, bits: int) -> None:
    """gather(table, i) -> gather(codes, i) * gather(scales, i): a row is made float only when it is looked up."""
    table, at = node.inputs
    codes, scale, _ = round_weight(table.data, bits)
    q = constant(graph.fresh(f"{table.name}.int{bits}"), codes, bits=bits)
    s = constant(graph.fresh(table.name + ".scale"), scale[:, None])
    rows = Value(graph.fresh(table.name + ".rows"), "int8")
    factors, wide = (Value(graph.fresh(f"{table.name}.{n}"), "float32") for n in ("factors", "wide"))
    steps = [Node("gather", [q, at], [rows], {"axis": 0}), Node("gather", [s, at], [factors], {"axis": 0}),
             Node("cast", [rows], [wide], {"to": "float32"}), Node("mul", [wide, factors], [node.outputs[0]])]
    for n in steps:
        n.name, n.scope = f"{node.name}.{n.op}", node.scope
    i = graph.nodes.index(node)
    graph.nodes[i:i + 1] = steps


def _check(where: str, o: dict) -> None:
    if not 2 <= o["bits"] <= 8:
        raise ValueError(f"{where}bits must be between 2 and 8, got {o['bits']}")
    if o["per"] not in ("group", "channel", "tensor"):
        raise ValueError(f"{where}per must be group, channel or tensor, got {o['per']!r}")
    if o["weight_scales"] not in ("mse", "max"):
        raise ValueError(f"{where}weight_scales must be mse or max, got {o['weight_scales']!r}")
    if o["group"] < 8 or o["group"] % 8:
        raise ValueError(f"{where}group must be a multiple of 8, got {o['group']}")
