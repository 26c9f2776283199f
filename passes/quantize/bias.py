"""Biases corrected by what is measured (Nagel et al., DFQ, arXiv 1906.04721, appendix D): rounding weights and activations,
and cutting off the tails of activations, moves the mean output of each channel. Layer by layer in running order, the bias
takes up the difference between the float network's mean and that of the network quantized and corrected so far.
"""
from __future__ import annotations

import numpy as np
import torch

from ..graph import Graph, Node, Value
from ..ops import call
from ..ops.run import feed, tensor
from .observe import watch
from .prepare import set_bias

SAMPLES = 64  # of the calibration data: means settle soon, and all of them are in memory at once


def some(batches: list[dict]) -> list[dict]:
    """The first batches, about SAMPLES samples."""
    each = max(len(next(iter(batches[0].values()))) if np.ndim(next(iter(batches[0].values()))) else 1, 1)
    return batches[: -(-SAMPLES // each)]


def output_means(graph: Graph, batches: list[dict], layers: list[Node]) -> dict[Value, torch.Tensor]:
    """The mean of each layer's output by channel, float64 [O]."""
    sums: dict[Value, list] = {}
    axes = {n.outputs[0]: _channel(n) for n in layers}

    def see(v: Value, x: torch.Tensor) -> None:
        entry = sums.setdefault(v, [0.0, 0])
        total, count = _sum(x, axes[v])
        entry[0], entry[1] = entry[0] + total, entry[1] + count
    watch(graph, batches, see, set(axes))
    return {v: total / count for v, (total, count) in sums.items()}


def correct(graph: Graph, batches: list[dict], layers: list[Node], wanted: dict[Value, torch.Tensor]) -> None:
    """In place. graph: with its quantize and dequantize nodes; wanted: from output_means of the float graph, same batches."""
    fixed = {v: tensor(v.data, v.dtype) for v in graph.constants()}
    runs = [feed(graph, b) | fixed for b in batches]
    last = {v: n for n in graph.nodes for v in n.inputs if v is not None}
    chosen = set(layers)
    with torch.no_grad():
        for node in list(graph.nodes):
            for env in runs:
                inputs = [None if v is None else env[v] for v in node.inputs]
                env.update(zip(node.outputs, call(node.op, inputs, node.attrs, len(node.outputs))))
            y = node.outputs[0]
            if node in chosen and y in wanted:
                sums = [_sum(env[y], _channel(node)) for env in runs]
                shift = sum(s for s, _ in sums) / sum(n for _, n in sums) - wanted[y]
                _shift(graph, node, shift.numpy())
                for env in runs:
                    env[y] = env[y] - shift.to(env[y].dtype).reshape(-1, *[1] * (env[y].ndim - 1 - _channel(node) % env[y].ndim))
            for v in [v for v in {*node.inputs, *node.outputs} if v is not None and last.get(v) in (node, None)]:
                for env in runs:
                    env.pop(v, None)


def _channel(node: Node) -> int:
    return -1 if node.op == "linear" else 1


def _sum(x: torch.Tensor, axis: int) -> tuple[torch.Tensor, int]:
    axes = [i for i in range(x.ndim) if i != axis % x.ndim]
    return x.double().sum(axes), x.numel() // x.shape[axis]


def _shift(graph: Graph, node: Node, shift: np.ndarray) -> None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    set_bias(graph, node, ((0 if bias is None else bias.data) - shift).astype(np.float32))
