"""Rewrites that every imported graph gets, so that passes see one form of each layer.

Weights keep the names they had in the checkpoint: a layer whose weight the exporter transposed or scaled gets the
result under the old name.
"""
from __future__ import annotations

import numpy as np
import torch

from ..errors import UserError
from ..graph import Graph, Node, Value
from ..lower.fuse import fuse
from ..ops import OPS, call
from ..ops.run import array, tensor

LIMIT = 1 << 24   # elements: nothing larger is computed at import, unless it is no larger than what it is made of
OPTIONAL = {"dropout", "layer_norm", "batch_norm", "max_pool", "lstm", "gru", "rnn", "attention"}
KEPT = {"dequantize_linear", "dropout"}  # an int8 weight stays int8


def canonical(graph: Graph) -> Graph:
    graph.prune()
    drop_identities(graph)
    drop_unread_outputs(graph)
    fuse(graph)          # before folding: linear takes a transposed weight by its own name
    fold_constants(graph)
    drop_zero_bias(graph)
    fuse(graph)
    graph.prune()
    name_weights(graph)
    return graph


def name_weights(graph: Graph) -> None:
    """torch's older exporter calls weights it has changed "onnx::MatMul_138"; the module they came from says better."""
    readers, taken = graph.users(), {v.name for v in graph.values()}
    for node in graph.nodes:
        if node.op not in ("conv", "conv_transpose", "linear") or not node.scope:
            continue
        for v, kind in zip(node.inputs[1:3], ("weight", "bias")):
            name = f"{node.scope}.{kind}"
            if v is None or v.data is None or len(readers[v]) > 1:
                continue
            if v.name.startswith("onnx::") and name not in taken:
                v.name = name
                taken.add(name)


def drop_identities(graph: Graph) -> None:
    """Identity, and ops that do nothing: a cast to the same type, reshape and transpose in place, adding 0, times 1."""
    kept, outputs, made = [], set(graph.outputs), set()
    renamed: dict[Value, Value] = {}
    for node in graph.nodes:
        node.inputs = [renamed.get(v, v) if v is not None else None for v in node.inputs]
        source = _same_as(node)
        out = node.outputs[0]
        if source is not None and out not in outputs:
            renamed[out] = source
        elif source is not None and source in made and source not in outputs:
            source.name, out.name = out.name, source.name  # the node before it makes the output
            graph.outputs = [source if v is out else v for v in graph.outputs]
            outputs = set(graph.outputs)
            renamed[out] = source
        else:
            kept.append(node)
            made.update(node.outputs)
    graph.nodes = kept


def _same_as(node: Node) -> Value | None:
    """The input that the node's result equals, if it is so for every value."""
    x = node.inputs[0] if node.inputs else None
    if node.op == "identity":
        return x
    if node.op == "cast" and node.attrs["to"] == x.dtype:
        return x
    if node.op == "transpose" and node.attrs["perm"] == sorted(node.attrs["perm"]):
        return x
    if node.op in ("add", "sub", "mul", "div"):
        neutral = 0 if node.op in ("add", "sub") else 1
        for v, other in ((node.inputs[1], x), *([(x, node.inputs[1])] if node.op in ("add", "mul") else [])):
            if v.data is not None and v.data.size == 1 and v.data.reshape(-1)[0] == neutral and other.dtype == v.dtype \
                    and other.shape is not None and len(v.shape) <= len(other.shape):
                return other
    return None


def drop_unread_outputs(graph: Graph) -> None:
    """Optional outputs at the end (a mask, running statistics, indices) that nobody reads."""
    users, outputs = graph.users(), set(graph.outputs)
    for node in graph.nodes:
        if node.op in OPTIONAL:
            while len(node.outputs) > 1 and not users.get(node.outputs[-1]) and node.outputs[-1] not in outputs:
                node.outputs.pop()


def fold_constants(graph: Graph) -> None:
    """Compute what depends on constants alone."""
    readers = {v: len(nodes) for v, nodes in graph.users().items()}
    kept = []
    for node in graph.nodes:
        sources = [v for v in node.inputs if v is not None]
        known = bool(sources) and all(v.data is not None for v in sources)
        if not known or node.op in KEPT or node.op not in OPS or not _fits(node, sources):
            kept.append(node)
            continue
        try:
            with torch.no_grad():
                results = call(node.op, [None if v is None else tensor(v.data, v.dtype) for v in node.inputs], node.attrs,
                               len(node.outputs))
        except Exception as e:
            raise UserError(f"node '{node.name}' ({node.op}) cannot be computed: {str(e).splitlines()[0]}") from None
        big = max(sources, key=lambda v: v.data.size)
        for v, t in zip(node.outputs, results):
            v.data = np.ascontiguousarray(array(t)).reshape(tuple(t.shape))
            v.shape, v.dtype = tuple(t.shape), str(t.dtype).removeprefix("torch.")
            if readers.get(big) == 1 and v.data.size == big.data.size and big.data.ndim and v not in graph.outputs:
                v.name, big.name = big.name, v.name
        if any(v in graph.outputs for v in node.outputs):
            for v in node.outputs:  # an output stays the result of a node
                if v in graph.outputs:
                    held = Value(f"{v.name}_value", v.dtype, v.shape, v.data)
                    v.data = None
                    kept.append(Node("identity", [held], [v], {}, node.name, node.scope))
    graph.nodes = kept


def _fits(node: Node, sources: list[Value]) -> bool:
    shape = node.outputs[0].shape
    if shape is None or any(isinstance(d, str) for d in shape):
        return sum(v.data.size for v in sources) <= 1 << 16
    return int(np.prod(shape)) <= max(LIMIT, sum(v.data.size for v in sources))


def drop_zero_bias(graph: Graph) -> None:
    """The torch exporter gives a convolution without bias one of zeros."""
    for node in graph.nodes:
        if node.op in ("conv", "conv_transpose", "linear") and len(node.inputs) == 3:
            b = node.inputs[2]
            if b is not None and b.data is not None and not b.data.any() and not b.name.endswith("bias"):
                node.inputs = node.inputs[:2]
