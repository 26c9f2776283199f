"""Convolution -> group convolution over channels put in order first, and back (CondenseNet, Huang et al., arXiv 1711.09224;
the shuffle: ShuffleNet, Zhang et al., arXiv 1707.01083).

Which input and output channels form a group is found from the weight: what stays is the block diagonal, so the assignment that
keeps the most energy is sought by exchanges, inputs and outputs in turn. The orders are gathers before and after; a gather
that would do nothing is left out.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..base import layer_name
from ..graph import Graph, Node, Value, constant
from .replace import Replace, chain, example_conv
from .tucker import relative


@dataclass(frozen=True)
class GroupConv(Replace):
    """groups         how many; a layer whose channels they do not divide is left alone
    permute        find an order of the channels; false: neighbours form groups
    layers, skip   patterns of layers to do and to leave
    overrides      {pattern: {option: value}}
    cost           what must be less than the layer's: macs, or time (measured on the target)
    epochs, lr     training afterwards (0: none)
    """

    groups: int = 2
    permute: bool = True

    def check_values(self) -> None:
        if self.groups < 2:
            raise ValueError(f"groups must be at least 2, got {self.groups}")

    def takes(self, node: Node) -> bool:
        if node.op != "conv" or node.attrs.get("group", 1) != 1 or node.attrs.get("dynamic"):
            return False
        w = node.inputs[1].data
        return w is not None and w.dtype.kind == "f" and w.shape[0] % self.groups == w.shape[1] % self.groups == 0

    def instead(self, graph: Graph, node: Node, shapes: dict) -> tuple[list[Node], dict]:
        w = node.inputs[1].data
        energy = (w.astype(np.float64) ** 2).reshape(*w.shape[:2], -1).sum(2)
        n = self.groups
        outs, ins = groups_of(energy, n) if self.permute else (np.arange(size) * n // size for size in w.shape[:2])
        rows, cols = (np.argsort(g, kind="stable") for g in (outs, ins))
        blocks = [w[np.ix_(r, c)] for r, c in zip(np.split(rows, n), np.split(cols, n))]
        kept = np.zeros_like(w)
        for r, c, block in zip(np.split(rows, n), np.split(cols, n), blocks):
            kept[np.ix_(r, c)] = block
        conv, = chain(graph, node, [("grouped", np.concatenate(blocks), {**node.attrs, "group": n})])
        bias = conv.inputs[2]
        if bias is not None:
            conv.inputs[2] = constant(graph.fresh(f"{layer_name(node)}.grouped.bias"), bias.data[rows])
        nodes = [conv]
        if (np.diff(cols) != 1).any():
            before = Value(graph.fresh(node.outputs[0].name + ".ordered"), node.inputs[0].dtype)
            nodes.insert(0, self._gather(graph, node, node.inputs[0], before, cols, "order"))
            conv.inputs[0] = before
        if (np.diff(rows) != 1).any():
            conv.outputs = [Value(graph.fresh(node.outputs[0].name + ".grouped"), node.outputs[0].dtype)]
            nodes.append(self._gather(graph, node, conv.outputs[0], node.outputs[0], np.argsort(rows), "shuffle"))
        return nodes, {"groups": n, "error": relative(kept, w)}

    @staticmethod
    def _gather(graph: Graph, node: Node, x: Value, y: Value, order: np.ndarray, part: str) -> Node:
        name = f"{layer_name(node)}.{part}"
        return Node("gather", [x, constant(graph.fresh(name), order.astype(np.int64))], [y], {"axis": 1}, name, node.scope)

    @staticmethod
    def example() -> Graph:
        return example_conv(8, 8, 3)


def groups_of(energy: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The group of each output and each input channel, all groups of one size: a local optimum of the energy that both share.
    The better of two starts is taken: neighbours as they are, and channels in the order of the second singular vectors."""
    def run(outs: np.ndarray, ins: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        best = -1.0
        while True:
            ins = exchange(energy.T @ np.eye(n)[outs], ins)
            outs = exchange(energy @ np.eye(n)[ins], outs)
            kept = float((energy * (outs[:, None] == ins)).sum())
            if kept <= best * (1 + 1e-9):
                return best, outs, ins
            best = kept

    def even(order: np.ndarray) -> np.ndarray:
        groups = np.empty(len(order), int)
        groups[order] = np.arange(len(order)) * n // len(order)
        return groups
    plain = [even(np.arange(size)) for size in energy.shape]
    u, _, vt = np.linalg.svd(energy / np.sqrt(energy.sum(1, keepdims=True) * energy.sum(0) + 1e-30))
    at = min(1, len(vt) - 1)
    spectral = [even(np.argsort(v, kind="stable")) for v in (u[:, min(at, u.shape[1] - 1)], vt[at])]
    _, outs, ins = max((run(*start) for start in (plain, spectral)), key=lambda found: found[0])
    return outs, ins


def exchange(worth: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Exchange two members of different groups, the most useful pair first, until none gains. worth [members, groups]."""
    groups = groups.copy()
    rows = np.arange(len(groups))
    tiny = 1e-12 * max(float(worth.max()), 1e-300)
    while True:
        own = worth[rows, groups]
        move = worth[:, groups] - own[:, None]      # member i into the group of j
        gain = move + move.T
        i, j = divmod(int(gain.argmax()), len(groups))
        if gain[i, j] <= tiny:
            return groups
        groups[i], groups[j] = groups[j], groups[i]
