"""Flatten and fully connected layers -> global average pooling and one linear layer (Network in Network, Lin et al.,
arXiv 1312.4400). LeNet, AlexNet and VGG keep most of their parameters in that head.

With calibration data the new layer is the least squares fit of the old head's output; without, the products of the old
layers' weights summed over the pixels, which is nearest to them.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..base import Context, Pass, layer_name
from ..cost import params, total_macs
from ..errors import UserError
from ..graph import Graph, Node, Value, constant

BETWEEN = ("relu", "clip", "dropout", "identity", "tanh", "sigmoid", "hard_swish", "gelu", "leaky_relu", "elu")


@dataclass(frozen=True)
class PoolHead(Pass):
    """samples        calibration samples for the fit; where there is no data, the weights alone decide
    epochs, lr     training afterwards (0: none)
    """

    samples: int = 512
    epochs: float = 0
    lr: float | None = None

    def check(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs}")

    def matches(self, graph: Graph) -> list[Node]:
        return [n for n in _head(graph) if n.op == "linear"]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        graph = graph.copy()
        head = _head(graph)
        if not head:
            raise UserError("structure.pool_head: the model has no image that is flattened into a linear layer")
        bind = ctx.target.get("bind")
        before = params(graph), total_macs(graph, bind)
        x, y, linears = head[0].inputs[0], head[-1].outputs[0], [n for n in head if n.op == "linear"]
        weight, bias = _product(linears, x.shape)
        if ctx.data is not None:
            weight, bias = self._fit(graph, ctx, x, y, weight, bias)
        stem, dtype = layer_name(linears[-1]), linears[-1].inputs[1].data.dtype
        pooled = Value(graph.fresh(x.name + ".pooled"), x.dtype, (x.shape[0], x.shape[1]))
        new = [Node("reduce_mean", [x, constant(graph.fresh(f"{stem}.axes"), np.array([2, 3]))], [pooled], {"keepdims": 0},
                    stem + ".pool", head[0].scope),
               Node("linear", [pooled, constant(graph.fresh(f"{stem}.head.weight"), weight.astype(dtype)),
                               constant(graph.fresh(f"{stem}.head.bias"), bias.astype(dtype))], [y], {}, stem + ".head",
                    head[-1].scope)]
        at = graph.nodes.index(head[-1])
        graph.nodes[at:at + 1] = new
        graph.prune()
        if self.epochs:
            from ..train import fit_graph
            graph = fit_graph(graph, ctx, epochs=self.epochs, lr=self.lr, text="train after pool head")
        ctx.note(params_before=before[0], params_after=params(graph), macs_before=before[1],
                 macs_after=total_macs(graph, bind), replaced=[layer_name(n) for n in linears])
        return graph

    def _fit(self, graph: Graph, ctx: Context, x: Value, y: Value, weight: np.ndarray, bias: np.ndarray):
        """Least squares of the head's output on pooled features; what the data does not determine stays as it was."""
        from ..quantize.observe import watch

        seen: dict[Value, list[np.ndarray]] = {x: [], y: []}
        watch(graph, (inputs for inputs, _ in ctx.data.batches("calibration", 16, None, self.samples)),
              lambda v, t: seen[v].append((t.mean((2, 3)) if v is x else t).double().numpy()), {x, y},
              lambda n: ctx.progress(n, self.samples, "features of the head"))
        rows, want = (np.concatenate(seen[v]) for v in (x, y))
        middle, goal = rows.mean(0), want.mean(0)
        a, b = rows - middle, want - goal
        gram = a.T @ a
        ridge = 1e-3 * np.trace(gram) / len(gram) + 1e-12
        weight = weight + np.linalg.solve(gram + ridge * np.eye(len(gram)), a.T @ (b - a @ weight.T)).T
        return weight, goal - weight @ middle

    @staticmethod
    def example() -> Graph:
        r = np.random.default_rng(0)
        x, flat, y = Value("x", "float32", ("N", 6, 4, 4)), Value("f", "float32", ("N", 96)), Value("y", "float32", ("N", 5))
        w = constant("fc.weight", (r.standard_normal((5, 96)) * 0.1).astype(np.float32))
        return Graph([x], [y], [Node("flatten", [x], [flat], {"axis": 1}, "flat"),
                                Node("linear", [flat, w, constant("fc.bias", np.ones(5, np.float32))], [y], {}, "fc")])


def _head(graph: Graph) -> list[Node]:
    """Flatten, and the linear layers with what stands between them, each read by the next alone; [] when there is none."""
    users, outputs = graph.users(), set(graph.outputs)
    for node in graph.nodes:
        x = node.inputs[0] if node.inputs else None
        if node.op not in ("flatten", "reshape") or x is None or x.shape is None or len(x.shape) != 4 or not _known(x.shape[1:]):
            continue
        found, at = [node], 0
        while found[-1].outputs[0] not in outputs and len(readers := users[found[-1].outputs[0]]) == 1:
            nxt = readers[0]
            if nxt.op == "linear" and _plain(nxt):
                found.append(nxt)
                at = len(found)
            elif nxt.op in BETWEEN and nxt.inputs[0] is found[-1].outputs[0]:
                found.append(nxt)
            else:
                break
        linears = [n for n in found[:at] if n.op == "linear"]
        if linears and linears[0].inputs[1].shape[1] == np.prod(x.shape[1:]) > x.shape[1]:
            return found[:at]
    return []


def _known(dims: tuple) -> bool:
    return all(isinstance(d, int) for d in dims)


def _plain(n: Node) -> bool:
    return n.inputs[1].data is not None and n.inputs[1].data.dtype.kind == "f" and not n.attrs.get("dynamic")


def _product(linears: list[Node], shape: tuple) -> tuple[np.ndarray, np.ndarray]:
    """The layers as one, activations aside: its weight summed over the pixels, and its bias."""
    weight = linears[0].inputs[1].data.astype(np.float64).reshape(-1, shape[1], shape[2] * shape[3]).sum(2)
    bias = _bias(linears[0])
    for n in linears[1:]:
        w = n.inputs[1].data.astype(np.float64)
        weight, bias = w @ weight, w @ bias + _bias(n)
    return weight, bias


def _bias(n: Node) -> np.ndarray:
    b = n.inputs[2] if len(n.inputs) > 2 else None
    return np.zeros(n.inputs[1].shape[0]) if b is None else b.data.astype(np.float64)
