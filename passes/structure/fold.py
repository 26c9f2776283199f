"""Parallel branches that training had -> the one convolution they are (RepVGG, Ding et al., arXiv 2101.03697).

Convolutions of one input, each with or without batch norm, and the input itself, added up, are linear together: 1 x 1 kernels
stand in the middle of the larger ones, the identity is a 1 x 1 kernel, batch norm scales the rows. No number changes.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..base import Context, Pass, layer_name, select
from ..cost import params, total_macs
from ..errors import UserError
from ..graph import Graph, Node, Value, constant


@dataclass(frozen=True)
class Fold(Pass):
    """layers, skip   patterns of the additions' names, or of any convolution in a branch, to do and to leave
    """

    layers: str | list[str] = "*"
    skip: list[str] = field(default_factory=list)

    def matches(self, graph: Graph) -> list[Node]:
        return [add for add, _ in self._found(graph)]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        graph = graph.copy()
        bind = ctx.target.get("bind")
        before, report = (params(graph), total_macs(graph, bind)), []
        while found := self._found(graph):
            add, block = found[-1]  # the last addition of a sum covers those before it
            report.append({"layer": layer_name(block.convs[0]), "branches": len(block.leaves)})
            block.apply(graph, add)
            graph.prune()
        if not report:
            raise UserError("structure.fold: no parallel branches of convolutions and batch norms of one input are added up; "
                            "check layers and skip, and run it before quantize.ptq")
        ctx.note(params_before=before[0], params_after=params(graph), macs_before=before[1],
                 macs_after=total_macs(graph, bind), layers=report)
        return graph

    def _found(self, graph: Graph) -> list[tuple[Node, _Block]]:
        makers, users = graph.makers(), graph.users()
        outputs, found = set(graph.outputs), []
        for add in graph.nodes:
            if add.op != "add":
                continue
            block = _block(add, makers, users, outputs)
            nodes = [add, *block.convs] if block else []
            if block and select(nodes, self.layers) and not select(nodes, self.skip):
                found.append((add, block))
        return found

    @staticmethod
    def example() -> Graph:
        r = np.random.default_rng(0)
        x, a, b, y = (Value(n, "float32", ("N", 4, 6, 6)) for n in "xaby")
        three, one = (constant(f"{n}.weight", r.standard_normal((4, 4, k, k)).astype(np.float32))
                      for n, k in (("a", 3), ("b", 1)))
        return Graph([x], [y], [Node("conv", [x, three, None], [a], {"pads": [1] * 4}, "a"),
                                Node("conv", [x, one, None], [b], {}, "b"), Node("add", [a, b], [y], {}, "sum")])


@dataclass
class _Leaf:
    """A branch: batch norm or none, over a convolution or the input itself."""

    norm: Node | None
    conv: Node | None

    def row(self, channels: int, group: int) -> tuple[np.ndarray, np.ndarray]:
        """Weight [O, C / group, k, k] and bias [O]."""
        if self.conv is not None:
            w = self.conv.inputs[1].data.astype(np.float64)
            bias = self.conv.inputs[2] if len(self.conv.inputs) > 2 else None
            b = np.zeros(len(w)) if bias is None else bias.data.astype(np.float64)
        else:
            w, b = np.zeros((channels, channels // group, 1, 1)), np.zeros(channels)
            w[np.arange(channels), np.arange(channels) % (channels // group)] = 1
        if self.norm is not None:
            gamma, beta, mean, var = (v.data.astype(np.float64) for v in self.norm.inputs[1:5])
            scale = gamma / np.sqrt(var + self.norm.attrs.get("epsilon", 1e-5))
            w, b = w * scale[:, None, None, None], (b - mean) * scale + beta
        return w, b


@dataclass
class _Block:
    x: Value
    leaves: list[_Leaf]

    @property
    def convs(self) -> list[Node]:
        return [leaf.conv for leaf in self.leaves if leaf.conv is not None]

    def apply(self, graph: Graph, add: Node) -> None:
        first = max(self.convs, key=lambda n: n.inputs[1].shape[2:])
        group, dtype = first.attrs.get("group", 1), first.inputs[1].data.dtype
        kh, kw = first.inputs[1].shape[2:]
        weight, bias = np.zeros(first.inputs[1].shape), np.zeros(first.inputs[1].shape[0])
        for leaf in self.leaves:
            w, b = leaf.row(len(bias), group)
            top, left = (kh - w.shape[2]) // 2, (kw - w.shape[3]) // 2
            weight[:, :, top:top + w.shape[2], left:left + w.shape[3]] += w
            bias += b
        stem = layer_name(first)
        node = Node("conv", [self.x, constant(graph.fresh(f"{stem}.folded.weight"), weight.astype(dtype)),
                             constant(graph.fresh(f"{stem}.folded.bias"), bias.astype(dtype))],
                    list(add.outputs), {**first.attrs, "kernel_shape": [kh, kw]}, f"{stem}.folded", add.scope)
        at = graph.nodes.index(add)
        graph.nodes[at:at + 1] = [node]


def _block(add: Node, makers: dict, users: dict, outputs: set) -> _Block | None:
    """The sum that ends in `add` as branches of one input, if it is one with a convolution and more than one branch."""
    def mine(v: Value) -> bool:
        """Nobody outside the sum reads it."""
        return len(users[v]) == 1 and v not in outputs

    def ends(v: Value) -> list[Value]:
        maker = makers.get(v)
        if maker is not None and maker.op == "add" and (maker is add or mine(v)):
            return [e for u in maker.inputs for e in ends(u)]
        return [v]

    def leaf(v: Value, x: Value) -> _Leaf | None:
        norm = conv = None
        if v is not x and (m := makers.get(v)) is not None and m.op == "batch_norm" and mine(v) and _constant_norm(m):
            norm, v = m, m.inputs[0]
        if v is not x and (m := makers.get(v)) is not None and m.op == "conv" and mine(v) and _centred(m):
            conv, v = m, m.inputs[0]
        return _Leaf(norm, conv) if v is x else None

    values = ends(add.outputs[0])
    candidates: dict[Value, None] = {}
    for v in values:
        while v is not None and v not in candidates:
            candidates[v] = None
            m = makers.get(v)
            v = m.inputs[0] if m is not None and m.op in ("batch_norm", "conv") else None
    for x in candidates:
        leaves = [leaf(v, x) for v in values]
        found = [f for f in leaves if f is not None]
        if x.data is None and len(found) == len(values) > 1 and _fit(found, x):
            return _Block(x, found)
    return None


def _constant_norm(node: Node) -> bool:
    return len(node.outputs) == 1 and not node.attrs.get("training_mode") and all(v.data is not None for v in node.inputs[1:5])


def _centred(node: Node) -> bool:
    """A 2-D convolution with float constants, an odd kernel and as much padding as keeps its taps around the pixel."""
    w, bias = node.inputs[1].data, node.inputs[2] if len(node.inputs) > 2 else None
    if w is None or w.ndim != 4 or w.dtype.kind != "f" or node.attrs.get("dynamic") or bias is not None and bias.data is None:
        return False
    kernel, pads = w.shape[2:], list(node.attrs.get("pads") or [0] * 4)
    return (node.attrs.get("auto_pad", "NOTSET") == "NOTSET" and max(node.attrs.get("dilations") or [1]) == 1
            and all(k % 2 for k in kernel) and pads == [k // 2 for k in kernel] * 2)


def _fit(leaves: list[_Leaf], x: Value) -> bool:
    """One stride, one number of groups, one number of output channels; kernels nest."""
    convs = [f.conv for f in leaves if f.conv is not None]
    if not convs:
        return False
    kinds = {(tuple(n.attrs.get("strides") or (1, 1)), n.attrs.get("group", 1), n.inputs[1].shape[:2]) for n in convs}
    if len(kinds) != 1:
        return False
    (strides, group, (o, c)), = kinds
    largest = max(n.inputs[1].shape[2:] for n in convs)
    if any(a > b for n in convs for a, b in zip(n.inputs[1].shape[2:], largest)):
        return False
    return all(f.conv is not None for f in leaves) or (strides == (1, 1) and o == c * group)
