"""Write a layer's weight as the product of two thin ones: linear -> linear, linear; convolution -> k x k to few channels, 1 x 1.

Truncated SVD (Denton et al., arXiv 1404.0736); `split: spatial` cuts a kernel into a column and a row instead
(Jaderberg et al., arXiv 1405.3866). With `whiten` the error that is minimised is that of the layer's outputs on
calibration data, not of its weights (SVD-LLM, Wang et al., arXiv 2403.07378): W S is decomposed, S S^T being the covariance
of the inputs, and the bias takes what is lost of their mean, so that no rank is spent on that. A layer whose two products
would cost more than the one is left as it is; with `cost: time` the engine is asked, too.
"""
from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..base import Context, Pass, layer_name, options_for, select
from ..cost import guess_bind, node_macs, params, total_macs
from ..errors import UserError
from ..graph import Graph, Node, Value, constant
from ..moments import covariances
from ..ops.run import infer, run
from .replace import alone, retie, slower

HOW = ("rank", "ratio", "energy", "error", "macs", "bytes")
SHARED = ("macs", "bytes")


@dataclass(frozen=True)
class LowRank(Pass):
    """Give one of these (ratio 0.5 when none is):
    rank           this many singular values
    ratio          as many as leave this share of the layer's multiply-accumulates (0..1)
    energy         as few as keep this share of the sum of their squares (0..1)
    error          as few as keep the relative error of the weight (whitened: of the outputs) below this (0..1)
    macs           over all layers together: leave this share of their multiply-accumulates, where it costs least (0..1)
    bytes          the same for the weights' bytes (0..1)

    sensitivity    macs, bytes: what a layer's error costs is measured, at the model's output on calibration data, one layer
                   at half of its budget at a time; false: all layers' relative errors count the same
    cost           what must be less than the layer's: macs (with bytes: those), or time (measured on the target)
    split          channel (k x k, then 1 x 1) or spatial (k x 1, then 1 x k) for k x k convolutions
    whiten         minimise the error of the outputs on calibration data
    samples        calibration samples for that
    round_to       ranks of at least 4 times this are rounded to multiples of it
    layers, skip   patterns of layers to do and to leave
    overrides      {pattern: {one of rank, ratio, energy, error: value}}
    epochs, lr     training afterwards (0: none)
    """

    rank: int | None = None
    ratio: float | None = None
    energy: float | None = None
    error: float | None = None
    macs: float | None = None
    bytes: float | None = None
    sensitivity: bool = False
    cost: Literal["macs", "time"] = "macs"
    split: Literal["channel", "spatial"] = "channel"
    whiten: bool = False
    samples: int = 128
    round_to: int = 8
    layers: str | list[str] = "*"
    skip: list[str] = field(default_factory=list)
    overrides: dict[str, dict] = field(default_factory=dict)
    epochs: float = 0
    lr: float | None = None

    def check(self) -> None:
        given = [k for k in HOW if getattr(self, k) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are different ways to say how much; give one of them")
        for key in given:
            _check_how("", key, getattr(self, key))
        for pattern, options in self.overrides.items():
            if len(options) != 1 or next(iter(options)) not in HOW[:4]:
                raise ValueError(f"overrides[{pattern!r}]: takes one of {', '.join(HOW[:4])}, "
                                 f"got {', '.join(options) or 'nothing'}")
            _check_how(f"overrides[{pattern!r}]: ", *next(iter(options.items())))
        if self.whiten and self.split == "spatial":
            raise ValueError("whiten works on whole kernels; use it with split: channel")
        if self.sensitivity and self.macs is None and self.bytes is None:
            raise ValueError("sensitivity decides how layers share a budget; give macs or bytes")
        for name in ("samples", "round_to"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs}")

    def matches(self, graph: Graph) -> list[Node]:
        nodes = [n for n in graph.nodes if n.op in ("conv", "linear") and n.inputs[1].data is not None
                 and n.inputs[1].data.dtype.kind == "f" and n.attrs.get("group", 1) == 1]
        return [n for n in select(nodes, self.layers) if not select([n], self.skip)]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        graph = graph.copy()
        nodes = self.matches(graph)
        if not nodes:
            raise UserError("structure.low_rank: no linear or ungrouped convolution layer with float weights matches; "
                            "run it before quantize.ptq, or check layers and skip")
        bind = ctx.target.get("bind")
        shapes = {v: s for v, (s, _) in infer(graph, guess_bind(graph, bind)).items()}
        before = params(graph), total_macs(graph, bind)
        found = covariances(graph, nodes, ctx, self.samples, "structure.low_rank: whiten") if self.whiten else {}
        plans = []
        for i, node in enumerate(nodes):
            ctx.progress(i, len(nodes), f"SVD {layer_name(node)}")
            plans.append(_Plan(node, shapes, self.split, *(part[0] for part in found.get(node, ()))))
        if self.sensitivity:
            self._weigh(graph, plans, ctx)
        ranks = self._ranks(plans)
        report: list[dict] = []
        skipped: dict[str, str] = {}
        made: dict[Value, list[Node]] = {}
        for plan, rank in zip(plans, ranks):
            if rank is None:
                skipped[layer_name(plan.node)] = f"two products of rank {plan.needed} cost more than the layer does"
                continue
            if self.cost == "time" and (reason := slower(plan.alone(shapes), plan.alone(shapes, rank), ctx)):
                skipped[layer_name(plan.node)] = reason
                continue
            report.append({"layer": layer_name(plan.node), "rank": rank, "full_rank": len(plan.sigma),
                           "error": round(plan.error(rank), 5), "macs_before": plan.full, "macs": plan.cost(rank)})
            retie(made, plan.node, plan.apply(graph, rank))
        graph.prune()
        if self.epochs and report:
            from ..train import fit_graph
            graph = fit_graph(graph, ctx, epochs=self.epochs, lr=self.lr, text="train after low rank")
        ctx.note(params_before=before[0], params_after=params(graph), macs_before=before[1],
                 macs_after=total_macs(graph, bind), layers=report, skipped=skipped)
        return graph

    def _ranks(self, plans: list[_Plan]) -> list[int | None]:
        """The rank of each layer, None where it does not pay."""
        chosen: dict[_Plan, int] = {}
        shared = []
        for plan in plans:
            own = options_for(plan.node, self.overrides)
            given = {k: v for k in HOW if (v := getattr(self, k)) is not None} or {"ratio": 0.5}
            how = next(iter((own or given).items()))
            if how[0] in SHARED:
                shared.append(plan)
            else:
                chosen[plan] = plan.rank_for(*how)
        if shared:
            chosen |= self._by_budget(shared)
        ranks: list[int | None] = []
        for plan in plans:
            rank = chosen[plan]
            if rank >= 4 * self.round_to:
                rank = round(rank / self.round_to) * self.round_to
            plan.needed = rank
            ranks.append(rank if plan.cost(rank) < plan.full and plan.weights(rank) < plan.whole else None)
        return ranks

    def _by_budget(self, plans: list[_Plan]) -> dict[_Plan, int]:
        """One price for all: a singular value stays when its share of the energy, times what that is worth to the model,
        per multiply-accumulate (or weight) is above it."""
        by_macs = self.macs is not None
        price_of = {p: (p.unit, p.full) if by_macs else (p.weights(1), p.whole) for p in plans}
        goal = (self.macs if by_macs else self.bytes) * sum(full for _, full in price_of.values())

        def at(price: float) -> dict:
            return {p: max(1, int((p.worth * p.sigma ** 2 / p.total > price * unit).sum())) for p, (unit, _) in price_of.items()}

        def spent(ranks: dict) -> float:
            return sum(min(price_of[p][1], r * price_of[p][0]) for p, r in ranks.items())

        lo, hi = -90.0, 90.0  # log of the price
        for _ in range(80):
            middle = (lo + hi) / 2
            lo, hi = (middle, hi) if spent(at(np.exp(middle))) > goal else (lo, middle)
        return at(np.exp(hi))

    def _weigh(self, graph: Graph, plans: list[_Plan], ctx: Context) -> None:
        """Each plan's `worth`: relative squared error of the model's outputs per relative squared error of the layer."""
        if ctx.data is None:
            raise UserError("structure.low_rank: sensitivity needs calibration data; add `data:` to the recipe or set "
                            "sensitivity: false")
        batches = [inputs for inputs, _ in ctx.data.batches("calibration", 16, None, min(self.samples, 64))]

        def outputs() -> list:
            return [t for b in batches for t in run(graph, b).values() if t.is_floating_point()]
        want = outputs()
        size = sum(float((t.double() ** 2).sum()) for t in want) or 1.0
        for i, plan in enumerate(plans):
            ctx.progress(i, len(plans), f"sensitivity of {layer_name(plan.node)}")
            kept, given = plan.weight.data, list(plan.node.inputs)
            rank = max(1, min(len(plan.sigma) - 1, plan.full // (2 * plan.unit)))
            lost = plan.error(rank) ** 2
            if lost < 1e-12:
                continue
            plan.node.inputs[2:] = plan.bias(graph, rank)
            plan.weight.data = plan.truncated(rank)
            change = sum(float(((a.double() - b.double()) ** 2).sum()) for a, b in zip(outputs(), want))
            plan.weight.data, plan.node.inputs = kept, given
            plan.worth = max(change / size / lost, 1e-12)

    @staticmethod
    def example() -> Graph:
        r = np.random.default_rng(0)
        x, y = Value("x", "float32", ("N", 16)), Value("y", "float32", ("N", 12))
        w = constant("fc.weight", r.standard_normal((12, 16)).astype(np.float32))
        return Graph([x], [y], [Node("linear", [x, w, constant("fc.bias", np.ones(12, np.float32))], [y], name="fc")])


def _check_how(where: str, key: str, value) -> None:
    if key == "rank" and value < 1:
        raise ValueError(f"{where}rank must be at least 1, got {value}")
    if key != "rank" and not 0 < value < 1:
        raise ValueError(f"{where}{key} must be between 0 and 1, got {value}")


class _Plan:
    """One layer's decomposition and what it costs. sigma: its singular values, largest first."""

    def __init__(self, node: Node, shapes: dict, split: str, covariance: np.ndarray | None = None,
                 mean: np.ndarray | None = None):
        self.node, self.weight = node, node.inputs[1]
        w = self.weight.data.astype(np.float64)
        self.spatial = split == "spatial" and node.op == "conv" and w.ndim == 4 and min(w.shape[2:]) > 1
        if self.spatial:  # [C, kh] x [kw, O]
            o, c, kh, kw = w.shape
            matrix = w.transpose(1, 2, 3, 0).reshape(c * kh, kw * o)
        else:
            matrix = w.reshape(w.shape[0], -1)
        self.root, self.mean = None, mean
        if covariance is not None:
            self.root = _root(covariance)
            matrix = matrix @ self.root
        self.u, self.sigma, self.vt = np.linalg.svd(matrix, full_matrices=False)
        self.total = max(float((self.sigma ** 2).sum()), 1e-300)
        self.full, self.whole = node_macs(node, shapes), w.size
        self.unit = self._unit(shapes)
        self.needed, self.worth = 0, 1.0

    def _unit(self, shapes: dict) -> int:
        """Multiply-accumulates that each singular value costs."""
        x, y = shapes[self.node.inputs[0]], shapes[self.node.outputs[0]]
        if self.node.op == "linear":
            return int(np.prod(y[:-1])) * (x[-1] + y[-1])
        o, c, *kernel = self.weight.shape
        pixels = int(np.prod(y[2:])) * y[0]
        if self.spatial:  # the column pass runs before the columns are strided over
            return y[0] * y[2] * x[3] * c * kernel[0] + pixels * kernel[1] * o
        return pixels * (c * int(np.prod(kernel)) + o)

    def cost(self, rank: int) -> int:
        return rank * self.unit

    def weights(self, rank: int) -> int:
        o, c, *kernel = *self.weight.shape, 1, 1
        kh, kw = kernel[0], int(np.prod(kernel[1:]))
        return rank * (c * kh + kw * o if self.spatial else c * kh * kw + o)

    def error(self, rank: int) -> float:
        """Relative error (Frobenius) of the truncated product."""
        return float(np.sqrt((self.sigma[rank:] ** 2).sum() / self.total))

    def rank_for(self, how: str, value: float) -> int:
        left = 1 - np.cumsum(self.sigma ** 2) / self.total  # energy lost with 1, 2, ... values
        if how == "rank":
            rank = int(value)
        elif how == "ratio":
            rank = int(value * self.full / self.unit)
        else:
            bound = 1 - value if how == "energy" else value ** 2
            rank = int(np.searchsorted(-left, -(bound + 1e-12))) + 1
        return min(max(rank, 1), len(self.sigma))

    def truncated(self, rank: int) -> np.ndarray:
        """The layer's weight with this many singular values."""
        right = self.vt[:rank] if self.root is None else np.linalg.solve(self.root.T, self.vt[:rank].T).T
        matrix = (self.u[:, :rank] * self.sigma[:rank]) @ right
        if self.spatial:
            o, c, kh, kw = self.weight.shape
            matrix = matrix.reshape(c, kh, kw, o).transpose(3, 0, 1, 2)
        return matrix.reshape(self.weight.shape).astype(self.weight.data.dtype)

    def bias(self, graph: Graph, rank: int) -> list[Value | None]:
        """The layer's inputs behind its weight: the bias, with what the mean of the inputs loses."""
        given = self.node.inputs[2:] or [None]
        if self.mean is None or given[0] is not None and given[0].data is None:
            return given
        lost = (self.weight.data.astype(np.float64) - self.truncated(rank)).reshape(len(self.weight.data), -1) @ self.mean
        data = lost + (0 if given[0] is None else given[0].data)
        name = graph.fresh(f"{layer_name(self.node)}.expand.bias")
        return [constant(name, data.astype(self.weight.data.dtype)), *given[1:]]

    def alone(self, shapes: dict, rank: int | None = None) -> Graph:
        """The layer, or the two of that rank, as a graph of its own."""
        own = alone([self.node], shapes)
        if rank is not None:
            _at(self, own).apply(own, rank)
        return own

    def apply(self, graph: Graph, rank: int) -> list[Node]:
        """Put two layers in the place of one; both get the root of the singular values, so that their ranges are alike."""
        node, w, stem = self.node, self.weight, layer_name(self.node)
        half = np.sqrt(self.sigma[:rank])
        left, right = self.u[:, :rank] * half, half[:, None] * self.vt[:rank]
        first_attrs, second_attrs = dict(node.attrs), dict(node.attrs)
        x, y = node.inputs[0], node.outputs[0]
        if self.root is not None:
            right = np.linalg.solve(self.root.T, right.T).T
        if node.op == "linear":
            a, b = right, left
            first_attrs = {}
            shape = None if y.shape is None else (*y.shape[:-1], rank)
        elif self.spatial:
            o, c, kh, kw = w.shape
            a = left.T.reshape(rank, c, kh, 1)
            b = right.reshape(rank, kw, o).transpose(2, 0, 1).reshape(o, rank, 1, kw)
            _spatial_attrs(first_attrs, 0, (kh, 1))
            _spatial_attrs(second_attrs, 1, (1, kw))
            shape = None if y.shape is None or x.shape is None else (y.shape[0], rank, y.shape[2], x.shape[3])
        else:
            a = right.reshape(rank, *w.shape[1:])
            b = left.reshape(w.shape[0], rank, *[1] * (w.data.ndim - 2))
            second_attrs = {}
            shape = None if y.shape is None else (y.shape[0], rank, *y.shape[2:])
        dtype, bias = w.data.dtype, self.bias(graph, rank)
        first, second = (constant(graph.fresh(f"{stem}.{part}.weight"), np.ascontiguousarray(m).astype(dtype))
                         for part, m in (("reduce", a), ("expand", b)))
        middle = Value(graph.fresh(y.name + ".reduced"), y.dtype, shape)
        at = graph.nodes.index(node)
        new = [
            Node(node.op, [x, first, None], [middle], first_attrs, stem + ".reduce", node.scope),
            Node(node.op, [middle, second, *bias], [y], second_attrs, stem + ".expand", node.scope)]
        graph.nodes[at:at + 1] = new
        return new


def _root(covariance: np.ndarray) -> np.ndarray:
    """S with S S^T = covariance, which is made a little larger where few samples leave it singular."""
    ridge = 1e-6 * np.trace(covariance) / len(covariance) + 1e-12
    try:
        return np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))
    except np.linalg.LinAlgError:  # one large eigenvalue, and rounding in its size is above the ridge
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(np.maximum(values, ridge))


def _at(plan: _Plan, own: Graph) -> _Plan:
    """The plan for the copy of its node in `own`."""
    copied = copy(plan)
    copied.node, copied.weight = own.nodes[0], own.nodes[0].inputs[1]
    return copied


def _spatial_attrs(attrs: dict, axis: int, kernel: tuple[int, int]) -> None:
    """The attributes of a convolution along one of its two axes."""
    other = 1 - axis
    attrs["kernel_shape"] = list(kernel)
    for name in ("strides", "dilations"):
        if attrs.get(name):
            attrs[name] = [1 if i == other else n for i, n in enumerate(attrs[name])]
    if attrs.get("pads"):
        attrs["pads"] = [0 if i % 2 == other else n for i, n in enumerate(attrs["pads"])]
