"""What the passes that put cheap layers in the place of one share: choosing layers, pricing, splicing, training after.

A replacement is refused when it costs as much as the layer: in multiply-accumulates, or with `cost: time` in milliseconds on
the engine as well, which the caller hands in (`ctx.measure`). Times differ from run to run, so the default is the former.
"""
from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np

from ..base import Context, Pass, layer_name, options_for, select
from ..cost import guess_bind, node_macs, params, total_macs
from ..errors import UserError
from ..graph import Graph, Node, Value, constant
from ..ops.run import infer

COMMON = ("layers", "skip", "overrides", "cost", "epochs", "lr")


@dataclass(frozen=True)
class Replace(Pass):
    """A pass that decides layer by layer. A subclass says which layers it `takes` and what stands in for one (`instead`)."""

    layers: str | list[str] = "*"
    skip: list[str] = field(default_factory=list)
    overrides: dict[str, dict] = field(default_factory=dict)
    cost: Literal["macs", "time"] = "macs"
    epochs: float = 0
    lr: float | None = None

    def check(self) -> None:
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs}")
        own = [f.name for f in fields(self) if f.name not in COMMON]
        self.check_values()
        for pattern, options in self.overrides.items():
            if wrong := [k for k in options if k not in own]:
                raise ValueError(f"overrides[{pattern!r}]: takes {', '.join(own)}, got {', '.join(wrong)}")
            try:
                replace(self, overrides={}, **options).check_values()
            except ValueError as e:
                raise ValueError(f"overrides[{pattern!r}]: {e}") from None

    def check_values(self) -> None:
        """Raise ValueError about the pass's own options."""

    @abstractmethod
    def takes(self, node: Node) -> bool:
        """Whether this is a layer that the pass can replace."""

    @abstractmethod
    def instead(self, graph: Graph, node: Node, shapes: dict) -> tuple[list[Node], dict]:
        """The nodes that write node's output from its input, and facts for the report. `self` has the node's own options."""

    def matches(self, graph: Graph) -> list[Node]:
        nodes = [n for n in select(graph.nodes, self.layers) if not select([n], self.skip)]
        return [n for n in nodes if self._own(n).takes(n)]

    def _own(self, node: Node) -> Replace:
        """The pass with the options that hold for this layer."""
        return replace(self, **options_for(node, self.overrides))

    def run(self, graph: Graph, ctx: Context) -> Graph:
        graph = graph.copy()
        title = type(self).__module__.split("passes.")[-1]
        nodes = self.matches(graph)
        if not nodes:
            raise UserError(f"{title}: no layer that it can replace matches; check layers and skip, "
                            "and run it before quantize.ptq")
        bind = ctx.target.get("bind")
        shapes = {v: s for v, (s, _) in infer(graph, guess_bind(graph, bind)).items()}
        before = params(graph), total_macs(graph, bind)
        report: list[dict] = []
        skipped: dict[str, str] = {}
        made: dict[Value, list[Node]] = {}
        for i, node in enumerate(nodes):
            name = layer_name(node)
            ctx.progress(i, len(nodes), f"{title} {name}")
            own = self._own(node)
            new, facts = own.instead(graph, node, shapes)
            old_alone, new_alone = alone([node], shapes), alone(new, shapes)
            costs = [alone_macs(old_alone), alone_macs(new_alone)]
            if costs[1] >= costs[0]:
                skipped[name] = f"the replacement needs {costs[1]:,} multiply-accumulates, the layer {costs[0]:,}"
                continue
            if own.cost == "time" and (reason := slower(old_alone, new_alone, ctx)):
                skipped[name] = reason
                continue
            w = node.inputs[1].data
            report.append({"layer": name, **facts, "macs_before": costs[0], "macs": costs[1], "params_before": int(w.size),
                           "params": sum(int(n.inputs[1].data.size) for n in new if n.op in ("conv", "linear"))})
            retie(made, node, new)
            at = graph.nodes.index(node)
            graph.nodes[at:at + 1] = new
        graph.prune()
        if self.epochs and report:
            from ..train import fit_graph
            graph = fit_graph(graph, ctx, epochs=self.epochs, lr=self.lr, text=f"train after {title}")
        ctx.note(params_before=before[0], params_after=params(graph), macs_before=before[1],
                 macs_after=total_macs(graph, bind), layers=report, skipped=skipped)
        return graph


def retie(made: dict[Value, list[Node]], node: Node, new: list[Node]) -> None:
    """Layers that shared a weight share its parts. `made`: what already stands in for a layer with that weight."""
    first = made.setdefault(node.inputs[1], new)
    for a, b in zip(first, new):
        for i, (u, v) in enumerate(zip(a.inputs, b.inputs)):
            if u is not None and v is not None and u.data is not None and v.data is not None and np.array_equal(u.data, v.data):
                b.inputs[i] = u


def alone(nodes: list[Node], shapes: dict) -> Graph:
    """A few layers in a row as a graph of their own, at the shapes they have in the whole."""
    x, y = nodes[0].inputs[0], nodes[-1].outputs[0]
    own = Graph([x], [y], nodes).copy()
    own.inputs[0].shape, own.outputs[0].shape = shapes[x], shapes[y]
    for n in own.nodes[:-1]:
        n.outputs[0].shape = None
    for v, (shape, _) in infer(own, {}).items():
        v.shape = shape
    return own


def alone_macs(graph: Graph) -> int:
    shapes = {v: v.shape for v in graph.values()}
    return sum(node_macs(n, shapes) for n in graph.nodes)


def slower(old: Graph, new: Graph, ctx: Context) -> str:
    """Why the replacement does not pay in time; "" when it does."""
    if ctx.measure is None:
        raise UserError("cost: time needs the engine to measure with; use cost: macs")
    times = [ctx.measure(g).get("latency_ms") for g in (old, new)]
    if None in times:
        raise UserError("cost: time needs an engine that measures time; use cost: macs")
    return "" if times[1] < times[0] else f"the replacement takes {times[1]:.4g} ms on the target, the layer {times[0]:.4g} ms"


def plain_conv(node: Node) -> bool:
    """A 2-D convolution over all channels with float weights and a kernel larger than 1 x 1."""
    if node.op != "conv" or node.attrs.get("group", 1) != 1 or node.attrs.get("dynamic"):
        return False
    w = node.inputs[1].data
    return w is not None and w.dtype.kind == "f" and w.ndim == 4 and min(w.shape[2:]) > 1


def sizes(node: Node, shapes: dict) -> tuple[int, int, int, int, int, int]:
    """Output and input channels, kernel height and width, output and input pixels of a convolution."""
    x, y = shapes[node.inputs[0]], shapes[node.outputs[0]]
    return (*node.inputs[1].shape, y[0] * y[2] * y[3], x[0] * x[2] * x[3])


def chain(graph: Graph, node: Node, parts: list[tuple[str, np.ndarray, dict]]) -> list[Node]:
    """Convolutions one after another in the place of `node`: (name, weight, attributes) each. The last takes its bias."""
    x, w, y, stem = node.inputs[0], node.inputs[1], node.outputs[0], layer_name(node)
    new: list[Node] = []
    for i, (part, data, attrs) in enumerate(parts):
        last = i == len(parts) - 1
        out = y if last else Value(graph.fresh(f"{y.name}.{part}"), y.dtype)
        weight = constant(graph.fresh(f"{stem}.{part}.weight"), np.ascontiguousarray(data).astype(w.data.dtype))
        bias = node.inputs[2] if last and len(node.inputs) > 2 else None
        new.append(Node("conv", [x, weight, bias], [out], {**attrs, "kernel_shape": list(data.shape[2:])},
                        f"{stem}.{part}", node.scope))
        x = out
    return new


def share_check(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")


def example_conv(o: int, c: int, k: int, size: int = 8) -> Graph:
    """One k x k convolution."""
    r = np.random.default_rng(0)
    x, y = Value("x", "float32", ("N", c, size, size)), Value("y", "float32", ("N", o, size, size))
    w = constant("c.weight", (r.standard_normal((o, c, k, k)) * 0.1).astype(np.float32))
    b = constant("c.bias", np.ones(o, np.float32))
    return Graph([x], [y], [Node("conv", [x, w, b], [y], {"pads": [k // 2] * 4, "kernel_shape": [k, k]}, "c")])
