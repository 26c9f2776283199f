"""Bits where they matter: each layer's sensitivity to fewer bits is measured, and a budget of bytes or of error is spent on the
layers that need it (Dong et al., HAWQ, arXiv 1905.03696, measure a layer at a time likewise; errors of layers are taken to
add up).

The sensitivity of a layer to a choice is what it does to the network's outputs when that layer alone is quantized so, weights
and input: the squared difference, over the square of the outputs, on calibration samples. Beginning with the most bits
everywhere, the step that costs least error for the bytes it saves is taken, again and again, as far as the budget goes. The
result is made by quantize.ptq with all its options.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ..base import Context, layer_name
from ..errors import UserError
from ..graph import Graph, Node
from ..ops import call
from ..ops.integer import fake_quantize
from ..ops.run import Plan, feed, tensor
from .observe import grid
from .places import LAYERS
from .prepare import prepare
from .ptq import PTQ, quantize_graph
from .weights import quantize_weight, to_float

FLOAT = 32  # a layer that is left alone


@dataclass(frozen=True)
class Mixed(PTQ):
    __doc__ = """bytes       budget: share of the float weights' bytes that the weights may have (before entropy coding)
    error       budget instead: squared error of the outputs, as a share of their square
    choices     bits of weights to choose from; 32 leaves the layer float
    look_at     how many calibration samples sensitivities are measured on
    """ + str(PTQ.__doc__)

    bytes: float | None = None
    error: float | None = None
    choices: list[int] = field(default_factory=lambda: [8, 4])
    look_at: int = 32

    def check(self) -> None:
        super().check()
        if self.bytes is not None and self.error is not None:
            raise ValueError("bytes and error are two budgets; give one of them")
        if self.bytes is not None and not 0 < self.bytes <= 1:
            raise ValueError(f"bytes must be above 0 and at most 1, got {self.bytes}")
        if self.error is not None and self.error < 0:
            raise ValueError(f"error must not be negative, got {self.error}")
        if not self.choices or any(c != FLOAT and c not in range(2, 9) for c in self.choices):
            raise ValueError(f"choices must be numbers of bits, 2 to 8 or {FLOAT}, got {self.choices}")
        if self.look_at < 1:
            raise ValueError(f"look_at must be at least 1, got {self.look_at}")

    @staticmethod
    def example() -> Graph:
        return PTQ.example()

    def run(self, graph: Graph, ctx: Context) -> Graph:
        batches = self.batches(graph, ctx)
        plain = prepare(graph)
        layers = [n for n in self.matches(plain) if n.op in LAYERS]
        costs = sensitivities(plain, layers, self, _first(batches, self.look_at), ctx)
        chosen = spend(costs, {n: n.inputs[1].data.size for n in layers}, self.bytes, self.error)
        bits = {layer_name(n): b for n, b in chosen.items()}
        floats = [name for name, b in bits.items() if b == FLOAT]
        if len(floats) == len(bits):
            raise UserError("quantize.mixed: within this budget every layer stays float")
        overrides = {**self.overrides}
        for name, b in bits.items():
            if b != FLOAT:
                overrides[name] = overrides.get(name, {}) | {"weight_bits": b}
        made = quantize_graph(graph, batches, replace(self, overrides=overrides, skip=[*self.skip, *floats]), ctx)
        total = sum(n.inputs[1].data.size for n in layers)
        ctx.note(bits=bits, sensitivities={layer_name(n): costs[n] for n in layers}, kept_float=floats,
                 expected_error=sum(costs[n][b] for n, b in chosen.items()),
                 share=sum(n.inputs[1].data.size * b for n, b in chosen.items()) / (total * FLOAT))
        return made


def _first(batches: list[dict], count: int) -> dict[str, torch.Tensor]:
    return {k: torch.cat([torch.as_tensor(b[k]) for b in batches])[:count] for k in batches[0]}


def sensitivities(graph: Graph, layers: list[Node], options: Mixed, samples: dict, ctx: Context) -> dict[Node, dict[int, float]]:
    """{layer: {bits: error of the outputs when it alone is quantized}}."""
    plan = Plan(graph)
    fixed = {v: tensor(v.data, v.dtype) for v in graph.constants()}

    def outputs(apply=None) -> list[torch.Tensor]:
        env = feed(graph, samples) | fixed
        with torch.no_grad():
            plan.execute(env, apply)
        return [env[v].double() for v in graph.outputs if env[v].is_floating_point()]

    want = outputs()
    costs: dict[Node, dict[int, float]] = {n: {} for n in layers}
    square = sum(float(w.square().sum()) for w in want)
    for i, node in enumerate(layers):
        for bits in options.choices:
            got = want if bits == FLOAT else outputs(_one(node, bits, options))
            costs[node][bits] = sum(float((a - b).square().sum()) for a, b in zip(got, want)) / max(square, 1e-30)
        ctx.progress(i + 1, len(layers), "quantize.mixed: sensitivities")
    return costs


def _one(layer: Node, bits: int, options: Mixed):
    """What evaluates this layer quantized and all others as they are."""
    how = options.of(layer)
    codes, scale = quantize_weight(layer.inputs[1].data, how["weight_scales"], how["granularity"] == "channel", 0.0, bits)
    weight = torch.from_numpy(to_float(codes, scale))

    def apply(node: Node, inputs: list):
        if node is not layer:
            return None
        x = inputs[0]
        if how["activations"] == "static":
            s, z = (torch.as_tensor(np.asarray(v)) for v in grid(min(float(x.min()), 0.0), max(float(x.max()), 0.0)))
            x = fake_quantize(x, s, z)
        return call(node.op, [x, weight, *inputs[2:]], node.attrs)
    return apply


def spend(costs: dict[Node, dict[int, float]], sizes: dict[Node, int], budget: float | None, error: float | None,
          ) -> dict[Node, int]:
    """Bits for each layer. Without a budget: three quarters of what the fewest bits would save."""
    chosen = {n: max(c) for n, c in costs.items()}
    total, now = sum(sizes.values()) * FLOAT, sum(sizes[n] * b for n, b in chosen.items())
    least = sum(sizes[n] * min(c) for n, c in costs.items())
    if budget is not None and least > budget * total:
        raise UserError(f"quantize.mixed: bytes: {budget} cannot be reached: the fewest bits allowed give {least / total:.3f}")
    goal = budget * total if budget is not None else now - 0.75 * (now - least)
    spent = sum(costs[n][b] for n, b in chosen.items())
    if error is not None and spent > error:
        raise UserError(f"quantize.mixed: error: {error} cannot be kept: the most bits allowed cost {spent:.3g}")
    while error is not None or now > goal:
        steps = [((costs[n][b] - costs[n][chosen[n]]) / (sizes[n] * (chosen[n] - b)), costs[n][b] - costs[n][chosen[n]], i, n, b)
                 for i, n in enumerate(costs) for b in costs[n] if b < chosen[n]]
        if error is not None:
            steps = [s for s in steps if spent + s[1] <= error]
        if not steps:
            break
        _, more, _, n, b = min(steps, key=lambda s: s[:3])
        now, spent, chosen[n] = now - sizes[n] * (chosen[n] - b), spent + more, b
    return chosen
