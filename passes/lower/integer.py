"""Integer: ops bracketed by dequantize_linear and quantize_linear become int8 ops.

    quantize(act(nhwc_conv(dequantize(x), dequantize(w), b) + dequantize(r)))  ->  nhwc_qconv(x, w, b, scale, r)

likewise linear, add, mul, mean and average pooling, and softmax, norms, attention and linear resize (rows.py); functions
of one value become tables; ops that only move values (max pooling, reshape, concat...) run on the int8 values themselves.
The rounding steps are those of ops/lowered.py and ops/quantized.py. What has no integer form stays float between dequantize
and quantize. uint8 activations are held as int8, 128 lower: the same numbers. A layer whose accumulator could leave int32
stays float.
"""
from __future__ import annotations

import numpy as np

from ..base import layer_name
from ..graph import Graph, Node, Value, claim, constant
from ..ops import call
from .fold import evaluate, infer_node, tensor
from .islands import ISLANDS
from .signed import Quantized, check_scales, scale_zero, signed


def integer(graph: Graph) -> None:
    if not any(n.op in ("quantize_linear", "dequantize_linear") for n in graph.nodes):
        return
    check_scales(graph)
    signed(graph)
    rewriter = Rewriter(graph)
    rewriter.run()
    _fuse_tables(graph)
    _weight_only(graph)
    evaluate(graph, keep=())  # other constants still behind a dequantize become float: no integer op reads them
    graph.prune()


def _weight_only(graph: Graph) -> None:
    """The weight of a float layer behind a dequantize becomes its float values with meta "quantized": the file keeps codes
    and scales (storage.py), from which the engine multiplies."""
    weights = {n.inputs[1] for n in graph.nodes if n.op in ("linear", "nhwc_conv")}
    for node in list(graph.nodes):
        y = node.outputs[0]
        if node.op != "dequantize_linear" or y not in weights or any(v is not None and v.data is None for v in node.inputs):
            continue
        codes, scale, zero = [v.data if v is not None else None for v in [*node.inputs, None][:3]]
        axis, rank = node.attrs.get("axis", 1) % codes.ndim, codes.ndim
        along = axis == rank - 1 if node.attrs.get("block_size") else axis == 0 if scale.size > 1 else True
        if scale.dtype != np.float32 or codes.dtype != np.int8 or not along:
            continue
        zero = np.zeros((), np.int8) if zero is None else zero
        low, high = min(int(codes.min()), int(zero.min())), max(int(codes.max()), int(zero.max()))
        bits = next(b for b in range(1, 9) if -(1 << b - 1) <= low and high < 1 << b - 1)
        y.data = call("dequantize_linear", [None if v is None else tensor(v) for v in node.inputs], node.attrs)[0].numpy()
        y.meta = {"quantized": {"bits": bits, "block": node.attrs.get("block_size", 0), "scale": scale,
                                "zero": zero.astype(np.int64) + (1 << bits - 1) if zero.any() else None}}
        if "hashed" in node.inputs[0].meta:
            y.meta["hashed"] = node.inputs[0].meta["hashed"]
        graph.nodes.remove(node)


class Rewriter:
    """Walks the nodes; each rule of ISLANDS looks at one node and gives its integer form or None."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.taken = {v.name for v in graph.values()}
        self.refresh()

    def refresh(self) -> None:
        self.users, self.makers = self.graph.users(), self.graph.makers()

    def run(self) -> None:
        again = True
        while again:
            again = False
            for node in list(self.graph.nodes):
                rule = ISLANDS.get(node.op)
                if rule is not None and node in self.graph.nodes and rule(self, node):
                    self.graph.prune()  # what the integer node replaced must not count as a reader
                    self.refresh()
                    again = True

    def name(self, stem: str) -> str:
        return claim(self.taken, stem)

    def const(self, data, stem: str) -> Value:
        return constant(self.name(stem), data)

    def source(self, v: Value | None) -> Quantized | None:
        """The int8 value that v is the per-tensor dequantization of."""
        node = self.makers.get(v)
        if node is None or node.op != "dequantize_linear" or node.inputs[0].dtype != "int8":
            return None
        params = scale_zero(node)
        return params and Quantized(node.inputs[0], *params)

    def codes(self, v: Value | None) -> tuple[Value, Value, Value] | None:
        """(uint8 value, scale, zero point) that v is the dequantization of, when all three are computed."""
        node = self.makers.get(v)
        if node is None or node.op != "dequantize_linear" or len(node.inputs) < 3 or node.inputs[2] is None:
            return None
        codes, scale, zero = node.inputs
        computed = all(u.data is None and u.dtype == kind for u, kind in zip(node.inputs, ("uint8", "float32", "uint8")))
        return (codes, scale, zero) if computed and np.prod(scale.shape) == 1 == np.prod(zero.shape) else None

    def weight(self, v: Value):
        """(int8 weight, scale per row or one) of a constant dequantized along axis 0 with zero point 0, else None."""
        node = self.makers.get(v)
        if node is None or node.op != "dequantize_linear" or node.inputs[0].data is None or node.inputs[0].dtype != "int8":
            return None
        scale, zero = node.inputs[1].data, node.inputs[2].data if len(node.inputs) > 2 and node.inputs[2] is not None else 0
        if scale is None or np.any(zero) or scale.size > 1 and (node.attrs.get("axis", 1) != 0 or scale.ndim != 1):
            return None
        return node.inputs[0], scale.reshape(-1).astype(np.float64)

    def has_weight_zero(self, v: Value) -> bool:
        """Is v a constant of eight bits whose zero point is another code than 0 (as int8)?"""
        node = self.makers.get(v)
        if node is None or node.op != "dequantize_linear" or node.inputs[0].data is None or len(node.inputs) < 3:
            return False
        return node.inputs[2] is not None and node.inputs[2].data is not None and bool(np.any(node.inputs[2].data))

    def only_user(self, v: Value) -> Node | None:
        users = self.users[v]
        return users[0] if len(users) == 1 and v not in self.graph.outputs else None

    def sink(self, v: Value) -> tuple[Node, Quantized] | None:
        """The one quantize_linear (per tensor, to int8) that reads v, and what it makes."""
        node = self.only_user(v)
        if node is None or node.op != "quantize_linear" or node.outputs[0].dtype != "int8" or node.inputs[0] is not v:
            return None
        params = scale_zero(node)
        return params and (node, Quantized(node.outputs[0], *params))

    def stays_float(self, node: Node, why: str) -> None:
        kind = "layer" if node.op in ("linear", "nhwc_conv") else node.op
        note, notes = f"{kind} '{layer_name(node)}' stays float: {why}", self.graph.meta.setdefault("notes", [])
        if note not in notes:
            notes.append(note)

    def put(self, at: Node, node: Node) -> None:
        """`node` takes the place of `at`, whose outputs it now writes."""
        node.name, node.scope = node.name or at.name, node.scope or at.scope
        self.graph.nodes[self.graph.nodes.index(at)] = node
        infer_node(node)

    def insert(self, before: Node, node: Node) -> Value:
        self.graph.nodes.insert(self.graph.nodes.index(before), node)
        infer_node(node)
        return node.outputs[0]


def _fuse_tables(graph: Graph) -> None:
    """qlut behind a layer, add or mul that only it reads goes into that op's own table: one value, same steps."""
    users = graph.users()
    for node in list(graph.nodes):
        slot = {"qlinear": 5, "nhwc_qconv": 5, "qadd": 2, "qmul": 2}.get(node.op)
        if slot is None or node.attrs.get("out", "int8") != "int8":
            continue
        y = node.outputs[0]
        user = users[y][0] if len(users[y]) == 1 and y not in graph.outputs else None
        if user is None or user.op != "qlut" or user.inputs[1].data is None:
            continue
        inputs = node.inputs + [None] * (slot + 1 - len(node.inputs))
        if inputs[slot] is not None:
            continue
        inputs[slot] = user.inputs[1]
        node.inputs, node.outputs = inputs, user.outputs
        graph.nodes.remove(user)
