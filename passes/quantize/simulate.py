"""A quantized graph in training: what it computes is, bit for bit, what the engine computes; gradients go through the rounding.

Forwards, every layer, addition, product, mean, table, softmax, norm and attention between two quantizers is evaluated on the
integer codes with the rounding steps of ops/lowered.py and ops/quantized.py (exact sums, int32 biases, one rounding at the
end). Backwards, rounding is passed straight through (arXiv 1308.3432), weights move in float behind their codes, and scales
are learned with the gradient of LSQ (Esser et al., arXiv 1902.08153), by their logarithm: a learning rate is a relative
change, and they stay positive.

A layer that had a batch norm may get one back (`norms`). It normalises by the batch while its running statistics already
scale the weights that are rounded, so that codes do not jump from batch to batch (arXiv 1806.08342, section 3.2.2); `freeze`
ends that, and from then on the layer is the folded one that the engine runs.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from ..graph import Graph, Node, Value
from ..lower.epilogue import activation
from ..module import GraphModule, _enter, _get
from ..ops import call
from ..ops.integer import fake_quantize
from ..ops.quantized import integer_rows
from .places import FUNCTIONS, LAYERS, MOVES, ROWS
from .weights import along_rows, top_code

EXACT = 2 ** 24  # whole numbers up to here are exact in float32, and so is every sum of them that stays below


class Instead(torch.autograd.Function):
    """The value of `exact` with the gradient of `smooth`."""

    @staticmethod
    def forward(ctx, smooth, exact):
        return exact

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def rounded(t: torch.Tensor) -> torch.Tensor:
    return Instead.apply(t, torch.round(t.detach()))


@dataclass
class Weight:
    """An int8 constant with its scale. bits: of the codes of one that is trained, with a float weight behind it (else 0)."""

    codes: Value
    scale: Value
    bits: int
    mask: torch.Tensor | None = None


@dataclass
class Norm:
    """The batch norm of a layer: trained scale and shift by their places, statistics as buffers."""

    weight: Value
    bias: Value
    live: bool = True


@dataclass
class Sum:
    """A value as the sum of whole numbers times units, (numbers, unit in float64, how many cells a mean is over), and the
    clamp behind it; what the next quantizer rounds."""

    terms: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]
    act: tuple[str, float, float] | None = None


@dataclass
class Table:
    """A value as a function of one code."""

    codes: torch.Tensor
    values: torch.Tensor = field(repr=False)


@dataclass
class Codes:
    """A value whose codes the integer op itself gives, from the scale and the zero point to be rounded to."""

    make: Callable[[torch.Tensor, int], torch.Tensor]


class Simulation(GraphModule):
    """masters    the float weight behind each int8 constant that is to be trained, by name
    bits       bits of its codes, by name
    learn      train the scales of weights and activations
    norms      {layer node: (mean, variance) of its output without bias}: layers that get a batch norm back
    """

    def __init__(self, graph: Graph, masters: dict[str, np.ndarray], bits: dict[str, int], learn: bool = True,
                 norms: dict[Node, tuple[np.ndarray, np.ndarray]] | None = None):
        super().__init__(graph)
        self._env: dict[Value, torch.Tensor] = {}
        self._exact: dict[Value, Sum | Table | Codes] = {}
        self._whole: dict[Value, torch.Tensor] = {}
        makers, self._users = graph.makers(), graph.users()
        self._weights: dict[Value, Weight] = {}                   # by what the dequantize makes
        self._trained_codes: dict[Value, Weight] = {}
        self._steps: dict[Value, tuple] = {}
        self._norms: dict[Value, Norm] = {}                       # by the weight's codes
        self._shifts: dict[Value, Norm] = {}                      # by the bias
        self._sources: dict[Value, tuple[Value, int]] = {}        # activations: what a dequantize makes -> scale, zero point
        self._quantizers = {n: makers[n.inputs[0]] for n in self._plans[()].pairs}
        for node in graph.nodes:
            if node.op in MOVES - {"concat", "pad", "resize"} and node.inputs[0] in self._sources:
                self._sources |= dict.fromkeys(node.outputs, self._sources[node.inputs[0]])
            if node.op != "dequantize_linear" or node.inputs[1].data is None:
                continue
            v, scale = node.inputs[:2]
            if v.data is None:
                if scale.data.size == 1 and (zero := _zero(node)) is not None:
                    self._sources[node.outputs[0]] = scale, zero
                    self._learn(scale, learn)
            elif v.dtype != "int8":
                continue
            elif v.name in masters:
                self._enter_weight(node, masters[v.name], bits[v.name], learn)
            elif len(node.inputs) < 3 and (scale.data.ndim == 0 or node.attrs.get("axis") == 0):
                self._weights[node.outputs[0]] = Weight(v, scale, 0)
        for node, statistics in (norms or {}).items():
            self._enter_norm(node, *statistics)

    def _learn(self, scale: Value, learn: bool) -> None:
        if learn and scale not in self._steps:
            self._steps[scale] = _enter(self, f"{scale.name}.log", torch.tensor(np.log(scale.data)), True)

    def _enter_weight(self, node: Node, master: np.ndarray, bits: int, learn: bool) -> None:
        v, scale = node.inputs[:2]
        mask = torch.from_numpy(v.data != 0) if v.meta.get("sparse") else None
        _enter(self, f"{v.name}.master", torch.from_numpy(master.astype(np.float32)), True)
        self._weights[node.outputs[0]] = self._trained_codes[v] = Weight(v, scale, bits, mask)
        self._learn(scale, learn)

    def _enter_norm(self, node: Node, mean: np.ndarray, variance: np.ndarray) -> None:
        weight, bias = self._weights[node.inputs[1]].codes, node.inputs[2]
        norm = Norm(weight, bias)
        for key, data in (("gamma", np.sqrt(variance)), ("beta", bias.data + mean), ("mean", mean), ("var", variance)):
            _enter(self, f"{weight.name}.{key}", torch.from_numpy(data.astype(np.float32)), key in ("gamma", "beta"))
        self._norms[weight] = self._shifts[bias] = norm
        owner, key = self._places[bias]
        if owner._parameters.get(key) is not None:  # beta is trained in its place
            owner._parameters[key].requires_grad_(False)

    @property
    def trained(self) -> set[Value]:
        """The dequantized weights that are trained."""
        return {v for v, w in self._weights.items() if w.bits}

    @property
    def norms(self) -> list[Norm]:
        return list(self._norms.values())

    def freeze(self) -> None:
        """From now on batch norms are folded, with the statistics that they have."""
        for norm in self._norms.values():
            norm.live = False

    # --- constants ----------------------------------------------------------------------------------------------

    def _scope(self, v: Value) -> torch.nn.Module:
        root: torch.nn.Module = self
        for part in v.name.split("."):
            root = root._modules[part]
        return root

    def _of(self, v: Value, key: str) -> torch.Tensor:
        return _get(self._scope(v), key)

    def _tensor(self, v: Value) -> torch.Tensor:
        if v in self._steps:
            return _get(*self._steps[v]).exp()
        if v in self._shifts:
            weight = self._shifts[v].weight
            return self._of(weight, "beta") - self._of(weight, "mean") * self._factor(weight)
        return super()._tensor(v)

    def _factor(self, weight: Value) -> torch.Tensor:
        """What the batch norm multiplies a layer's rows by."""
        return self._of(weight, "gamma") / self._of(weight, "var").sqrt()

    def _data(self, v: Value) -> np.ndarray:
        if v not in self._trained_codes:
            return super()._data(v)
        with torch.no_grad():
            return self._codes(self._trained_codes[v]).to(torch.int8).numpy()

    def _codes(self, w: Weight) -> torch.Tensor:
        """The codes as whole float32 numbers; gradients reach the float weight and (as LSQ) the scale."""
        if not w.bits:
            return super()._tensor(w.codes).float()
        master, top = self._of(w.codes, "master"), top_code(w.bits)
        if w.codes in self._norms:
            master = master * along_rows(self._factor(w.codes), master)
        if w.mask is not None:
            master = master * w.mask
        return rounded((master / along_rows(self._tensor(w.scale), master)).clamp(-top, top))

    # --- evaluating ---------------------------------------------------------------------------------------------

    def _execute(self, plan, env) -> None:
        self._env, self._exact, self._whole = env, {}, {}
        try:
            super()._execute(plan, env)
        finally:
            self._env, self._exact, self._whole = {}, {}, {}

    def _special(self, node: Node, inputs: list) -> tuple | None:
        y = node.outputs[0]
        if y in self._weights:
            codes = self._whole[y] = self._codes(self._weights[y])
            return (codes * along_rows(self._env[node.inputs[1]], codes),)
        if node in self._quantizers:
            return self._round(node, self._quantizers[node])
        if node.op in LAYERS and node.inputs[0] in self._sources and node.inputs[1] in self._weights:
            return (self._layer(node, inputs),)
        self._exact_of(node, inputs)
        return super()._special(node, inputs)

    def _whole_codes(self, v: Value) -> torch.Tensor:
        """What a quantizer made of v, less its zero point: whole float32 numbers, differentiable."""
        return rounded(self._env[v] / self._scale(v))

    def _scale(self, v: Value) -> torch.Tensor:
        return self._env[self._sources[v][0]].detach().reshape(())

    def _layer(self, node: Node, inputs: list) -> torch.Tensor:
        weight, zero = self._weights[node.inputs[1]], self._sources[node.inputs[0]][1]
        tail = [1] * (inputs[0].ndim - 2) if node.op == "conv" else []
        norm = self._norms.get(weight.codes)
        if norm is not None and norm.live and self.training:
            return self._normalised(node, inputs, weight.codes, tail)
        x, w = self._whole_codes(node.inputs[0]), self._whole[node.inputs[1]]
        unit = (self._scale(node.inputs[0]).double() * self._env[weight.scale].detach().double()).expand(len(w))
        bias = inputs[2] if len(inputs) > 2 else None
        whole = None if bias is None else rounded(bias.double() / unit)
        reach = w.detach().abs().flatten(1).sum(1, dtype=torch.float64) * max(127 - zero, zero + 128)
        largest = float((reach if whole is None else reach + whole.detach().abs()).max())
        total = self._sum(node, x, w, whole, tail)
        if largest >= EXACT:
            with torch.no_grad():
                exact = self._sum(node, x.double(), w.double(), whole, tail).float()
            total = Instead.apply(total, exact)
        unit = unit.reshape(-1, *tail)
        self._exact[node.outputs[0]] = Sum([(total.detach(), unit, None)])
        return total * unit.float()

    @staticmethod
    def _sum(node: Node, x, w, whole, tail) -> torch.Tensor:
        total = call(node.op, [x, w, None], node.attrs)[0]
        return total if whole is None else total + whole.to(x.dtype).reshape(-1, *tail)

    def _normalised(self, node: Node, inputs: list, weight: Value, tail: list[int]) -> torch.Tensor:
        """The layer with its batch norm on the statistics of the batch, which the running ones follow."""
        gamma, beta, mean, var = (self._of(weight, k) for k in ("gamma", "beta", "mean", "var"))
        raw = call(node.op, [inputs[0], self._of(weight, "master"), None], node.attrs)[0]
        axes = [i for i in range(raw.ndim) if i != (1 if node.op == "conv" else raw.ndim - 1)]
        now, spread = raw.mean(axes), raw.var(axes, unbiased=False) + 1e-5
        y = call(node.op, [*inputs[:2], None], node.attrs)[0] * (var / spread).sqrt().reshape(-1, *tail)
        with torch.no_grad():
            buffers = self._scope(weight)._buffers
            buffers["mean"], buffers["var"] = mean.lerp(now, 0.1), var.lerp(spread, 0.1)
        return y + (beta - now * gamma / spread.sqrt()).reshape(-1, *tail)

    def _exact_of(self, node: Node, inputs: list) -> None:
        """What the quantizer behind this node has to round, where that is more than the float result."""
        y = node.outputs[0]
        found: Sum | Table | Codes | None = None
        data = [v for v in node.inputs if v is not None and v.data is None]
        sources = [v for v in data if v in self._sources]
        if len(data) == 1 and data[0] in self._exact:
            act, before = activation(node), self._exact.pop(data[0])
            if act is not None and act[0] in ("relu", "clip") and isinstance(before, Sum) and before.act is None:
                found = Sum(before.terms, act)
        elif node.op == "add" and len(data) == 2 and len(sources) == 1 and self._env[data[0]].shape == self._env[data[1]].shape:
            inner = [v for v in data if v in self._exact]
            before = self._exact.pop(inner[0]) if inner else None
            if isinstance(before, Sum) and before.act is None and len(before.terms) == 1 and data[0] is not data[1]:
                found = Sum([*before.terms, self._term(sources[0])])
        elif node.op == "add" and len(data) == len(sources) == 2:
            found = Sum([self._term(v) for v in data])
        elif node.op == "mul" and len(data) == len(sources) == 2:
            (a, s, _), (b, t, _) = (self._term(v) for v in data)
            found = Sum([(a * b, s * t, None)])
        elif node.op in ("average_pool", "global_average_pool", "reduce_mean") and sources:
            found = self._mean(node, sources[0])
        elif node.op in ROWS or node.op == "resize" and node.attrs.get("mode") == "linear":
            found = self._rows(node, inputs)
        elif len(data) == len(sources) == 1 and (node.op in FUNCTIONS or node.op in ("add", "mul")):
            found = self._table(node, data[0])
        if found is not None and self._alone(y):
            self._exact[y] = found

    def _alone(self, v: Value) -> bool:
        return len(self._users[v]) == 1 and v not in self.graph.outputs

    def _term(self, v: Value) -> tuple[torch.Tensor, torch.Tensor, None]:
        return self._whole_codes(v).detach(), self._scale(v).double(), None

    def _mean(self, node: Node, v: Value) -> Sum:
        x, unit, _ = self._term(v)
        if node.op != "average_pool":
            return Sum([(x.sum((2, 3), keepdim=bool(node.attrs.get("keepdims", 1))), unit, torch.tensor(x[0, 0].numel()))])
        cells = int(np.prod(node.attrs["kernel_shape"]))
        over = node.attrs | {"count_include_pad": 1}
        total = torch.round(call("average_pool", [x.double()], over)[0] * cells).float()
        count = torch.tensor(float(cells)) if node.attrs.get("count_include_pad") else torch.round(
            call("average_pool", [torch.ones_like(x[:1, :1])], over)[0] * cells)
        return Sum([(total, unit, count)])

    def _table(self, node: Node, v: Value) -> Table:
        zero = self._sources[v][1]
        real = (torch.arange(-128, 128, dtype=torch.float32) - zero) * self._scale(v)
        args = [None if u is None else real if u is v else self._env[u].reshape(()) for u in node.inputs]
        return Table(self._whole_codes(v).detach().long() + (128 + zero), call(node.op, args, node.attrs)[0])

    def _rows(self, node: Node, inputs: list) -> Codes | None:
        """Softmax, a norm, attention or linear resize of codes, as ops/quantized.py has it."""
        read = node.inputs[:{"attention": 3, "matmul": 2}.get(node.op, 1)]
        if any(v not in self._sources for v in read) or len(node.outputs) > 1:
            return None
        zeros = [self._sources[v][1] for v in read]
        codes = [(self._whole_codes(v).detach() + zero).to(torch.int8) for v, zero in zip(read, zeros)]
        scales = [float(self._scale(v)) for v in read]
        rest = [None if t is None else t.detach() for t in inputs[len(read):]]
        return Codes(lambda scale, zero: integer_rows(node.op, node.attrs, codes, list(zip(scales, zeros)), rest,
                                                      (float(scale), zero)))

    def _round(self, node: Node, quantizer: Node) -> tuple | None:
        """A quantizer and its dequantize: the codes that the engine would have, with the gradient of fake quantization."""
        x, scale, zero = (*(None if v is None else self._env[v] for v in quantizer.inputs), None)[:3]
        smooth = fake_quantize(x, scale, zero, self._env[node.inputs[1]], **quantizer.attrs)
        found, z = self._exact.pop(quantizer.inputs[0], None), _zero(quantizer)
        if found is None or z is None or scale.numel() != 1:
            return (smooth,)
        with torch.no_grad():
            s = scale.reshape(())
            if isinstance(found, Codes):
                codes = found.make(s, z).float()
            elif isinstance(found, Table):
                codes = (torch.round(found.values / s) + z).clamp(-128, 127)[found.codes]
            else:
                parts = [a * ((unit / s.double()).float() if count is None else (unit / s.double()).float() / count)
                         for a, unit, count in found.terms]
                t = parts[0] if len(parts) == 1 else parts[0] + parts[1]
                lo, hi = _bounds(found.act, s, z)
                codes = torch.round(t.clamp(float(lo - z), float(hi - z))) + z
            exact = (codes - z) * s
        return (Instead.apply(smooth, exact.reshape(smooth.shape)),)


def _zero(node: Node) -> int | None:
    """The zero point of a quantize or dequantize in terms of int8, where uint8 is 128 lower; None where it has many."""
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    if zero is None or zero.data is None or zero.data.size != 1 or zero.dtype not in ("int8", "uint8"):
        return None
    return int(zero.data.reshape(-1)[0]) - (128 if zero.dtype == "uint8" else 0)


def _bounds(act: tuple[str, float, float] | None, scale: torch.Tensor, zero: int) -> tuple[int, int]:
    """The codes between which a clamp keeps its result."""
    if act is None:
        return -128, 127
    low, high = (0.0, float("inf")) if act[0] == "relu" else act[1:]

    def code(real: float) -> int:
        return int((torch.round(torch.tensor(real, dtype=torch.float32) / scale) + zero).clamp(-128, 127))
    return -128 if low == float("-inf") else code(low), 127 if high == float("inf") else code(high)
