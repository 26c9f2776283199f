"""The layers of a transformer, found in the graph itself: every `attention` is one, and between two of them all data
passes through one value, the hidden state.

Works for post-norm and pre-norm stacks, imported from torch or ONNX, of any width and depth: names play no part. A cut
is a value that all paths from the embeddings to the outputs go through; masks do not count as paths, since they enter
every layer.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..graph import Graph, Node, Value, constant

ROUNDING = ("quantize_linear", "dequantize_linear")  # a value behind these is the one before, not another hidden state
ACTIVATIONS = ("float32", "float16", "bfloat16", "int8", "uint8")  # word numbers are int64 or int32


@dataclass(frozen=True)
class Layer:
    """One encoder layer. before, after: hidden states [N, S, D]; q, k, v: inputs of its attention, flat or split in heads."""

    attention: Node
    before: Value
    after: Value

    @property
    def q(self) -> Value:
        return self._input(0)

    @property
    def k(self) -> Value:
        return self._input(1)

    @property
    def v(self) -> Value:
        return self._input(2)

    def _input(self, i: int) -> Value:
        v = self.attention.inputs[i]
        assert v is not None
        return v

    @property
    def heads(self) -> int:
        """Of the queries; of the keys in grouped attention there may be fewer."""
        return _heads(self.attention, self.q, "q_num_heads")

    @property
    def kv_heads(self) -> int:
        return _heads(self.attention, self.k, "kv_num_heads")


def _heads(node: Node, v: Value, attribute: str) -> int:
    return node.attrs.get(attribute) or (v.shape or (0, 0))[1]


def layers(graph: Graph, who: str = "the model") -> list[Layer]:
    """The encoder's layers in order. Raises UserError when `who` has no attention, or data by-passes its layers."""
    attentions = [n for n in graph.nodes if n.op == "attention"]
    if not attentions:
        raise UserError(f"{who} has no attention layers; this pass is for transformers")
    cuts = _cuts(graph, attentions[0])
    at = {n: i for i, n in enumerate(graph.nodes)}
    places = [at[n] for n in attentions]
    before = []
    for start, place in zip([-1, *places], places):
        found = [v for v, i in cuts if start < i < place]
        if not found:
            raise UserError(f"{who}: no single value leads into {graph.nodes[place].name}, so its layers cannot be told apart")
        before.append(found[-1])
    tail = [v for v, i in cuts if i > places[-1]]
    after = [*before[1:], _last(graph, cuts, places, before, tail, who)]
    return [Layer(*parts) for parts in zip(attentions, before, after)]


def _last(graph: Graph, cuts, places, before, tail: list[Value], who: str) -> Value:
    """Where the last layer ends: as many cuts behind its attention as in the layer before, or the last hidden state."""
    if len(places) > 1:
        count = [v for v, i in cuts if places[-2] < i < places[-1]].index(before[-1]) + 1
        if count <= len(tail):
            return tail[count - 1]
    rank = len(before[0].shape or ())
    alike = [v for v in tail if v.shape is None or len(v.shape) == rank and v.shape[-1] == before[0].shape[-1]]
    if not alike:
        raise UserError(f"{who}: nothing behind {graph.nodes[places[-1]].name} looks like a hidden state")
    return alike[-1]


def _cuts(graph: Graph, first: Node) -> list[tuple[Value, int]]:
    """(value, place of its node) of every value that all paths from the embeddings to the outputs pass through."""
    graph_users, outputs = graph.users(), set(graph.outputs)
    left = {v: len(users) for v, users in graph_users.items()}  # readers to come; unread values were pruned
    sources = _sources(graph, first)
    reached = {v for v in sources if v in graph.inputs}
    live, found = set(reached), []
    if len(live) == 1:
        found.append((next(iter(live)), -1))
    for i, node in enumerate(graph.nodes):
        data = node.inputs[:3] if node.op == "attention" else node.inputs
        on_path = any(v in reached for v in data) or any(v in sources for v in node.outputs)
        for v in node.inputs:
            if v is not None:
                left[v] -= 1
                if left[v] == 0 and v not in outputs:
                    live.discard(v)
        if on_path:
            new = [v for v in node.outputs if graph_users[v] or v in outputs]
            reached.update(new)
            live.update(new)
            if len(live) == 1 and len(new) == 1 and new[0] in live and node.op not in ROUNDING:
                found.append((new[0], i))
    return found


def _sources(graph: Graph, first: Node) -> set[Value]:
    """Where activations begin: inputs, and values made of no other activation, above the first attention's q."""
    makers, sources = graph.makers(), set()
    stack, seen = [v for v in first.inputs[:3] if v is not None], set()
    while stack:
        v = stack.pop()
        if v in seen or v.data is not None:
            continue
        seen.add(v)
        node = makers.get(v)
        above = [] if node is None else [u for u in node.inputs if u is not None and u.data is None and u.dtype in ACTIVATIONS]
        if v.dtype in ACTIVATIONS and not above:
            sources.add(v)
        stack += above
    return sources


def encoder_example(count: int = 2, width: int = 8, heads: int = 2, length: int = 4, classes: int = 3,
                    features: int = 8) -> Graph:
    """[N, length, features] through `count` post-norm encoder layers, mean over positions, a linear head."""
    sketch = EncoderSketch()
    x = Value("x", "float32", ("N", length, features))
    h = sketch.norm(sketch.linear(x, width, "embed"), "embed_norm")
    for i in range(count):
        h = sketch.layer(h, heads, f"layer.{i}")
    y = sketch.add("reduce_mean", [h, constant("axes", np.array([1]))], (width,), "mean", keepdims=0)
    return Graph([x], [sketch.linear(y, classes, "head")], sketch.nodes)


class EncoderSketch:
    """Nodes of a small encoder with seeded weights, for examples and tests."""

    def __init__(self):
        self.nodes: list[Node] = []
        self.random = np.random.default_rng(0)

    def add(self, op: str, inputs: list, shape: tuple, name: str, **attrs) -> Value:
        self.nodes.append(Node(op, inputs, [Value(f"{name}.out", "float32", ("N", *shape))], attrs, name))
        return self.nodes[-1].outputs[0]

    def linear(self, v: Value, out: int, name: str) -> Value:
        have = v.shape[-1]
        weight = constant(f"{name}.weight", (self.random.standard_normal((out, have)) / np.sqrt(have)).astype(np.float32))
        bias = constant(f"{name}.bias", (0.1 * self.random.standard_normal(out)).astype(np.float32))
        return self.add("linear", [v, weight, bias], (*v.shape[1:-1], out), name)

    def norm(self, v: Value, name: str) -> Value:
        ones = np.ones(v.shape[-1], np.float32)
        scale, shift = constant(f"{name}.weight", ones), constant(f"{name}.bias", 0 * ones)
        return self.add("layer_norm", [v, scale, shift], v.shape[1:], name, axis=-1, epsilon=1e-5)

    def layer(self, h: Value, heads: int, at: str) -> Value:
        shape, width = h.shape[1:], h.shape[-1]
        q, k, v = (self.linear(h, width, f"{at}.{p}") for p in ("query", "key", "value"))
        y = self.add("attention", [q, k, v], shape, f"{at}.attention", q_num_heads=heads, kv_num_heads=heads)
        h = self.norm(self.add("add", [self.linear(y, width, f"{at}.output"), h], shape, f"{at}.add1"), f"{at}.norm1")
        y = self.add("gelu", [self.linear(h, 2 * width, f"{at}.up")], (*shape[:-1], 2 * width), f"{at}.gelu", approximate="none")
        return self.norm(self.add("add", [self.linear(y, width, f"{at}.down"), h], shape, f"{at}.add2"), f"{at}.norm2")
