"""Quantization-aware training (Jacob et al., arXiv 1712.05877): the network learns weights, and the steps of its integers
(LSQ, Esser et al., arXiv 1902.08153), while it computes with the very integers that the engine will compute with.

It begins with quantize.ptq and its options; `simulate.py` says what is trained and how batch norms are treated. What
training ends with is lowered without any further change: on integers its outputs are the engine's, bit for bit, which is
checked on calibration data and reported (`identical`).
"""
from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ..base import Context, layer_name
from ..errors import UserError
from ..graph import Graph, Node, Value, constant
from .prepare import foldable
from .ptq import PTQ, quantize_graph
from .simulate import Simulation


@dataclass(frozen=True)
class QAT(PTQ):
    __doc__ = """epochs, lr    training
    learn_steps   train the scales too
    batch_norm    live: layers that had a batch norm train with it, on the statistics of each batch; fold: with it folded away
    freeze        share of the training after which batch norms stand still: from then on the trained network is the engine's
    teacher       "" (the labels), original or previous: the float model whose outputs are followed instead
    temperature   softens the teacher's distribution
    """ + str(PTQ.__doc__)

    epochs: float = 1
    lr: float | None = None
    learn_steps: bool = True
    batch_norm: Literal["live", "fold"] = "live"
    freeze: float = 0.5
    teacher: Literal["", "original", "previous"] = ""
    temperature: float = 1.0

    def check(self) -> None:
        super().check()
        if self.activations != "static":
            raise ValueError(f"activations must be static where steps are trained, got {self.activations}")
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs}")
        if not 0 <= self.freeze <= 1:
            raise ValueError(f"freeze must be between 0 and 1, got {self.freeze}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")

    def run(self, graph: Graph, ctx: Context) -> Graph:
        from ..train import fit

        batches = self.batches(graph, ctx)
        masters: dict[str, tuple[np.ndarray, int]] = {}
        quantized = quantize_graph(graph, batches, self, ctx, masters)
        if not self.epochs:
            return quantized
        normed = _normed(graph) if self.batch_norm == "live" else set()
        module = simulation(quantized, masters, self.learn_steps, normed, batches)

        def on_step(step: int, steps: int, _) -> None:
            if step >= self.freeze * steps:
                module.freeze()
        result = fit(module, ctx, loss=self._loss(ctx), on_step=on_step, text="quantize.qat", epochs=self.epochs, lr=self.lr)
        module.freeze()
        trained = module.write_back()
        ctx.note(identical=identical(module, trained, batches[0]), trained_steps=result["steps"],
                 batch_norms=len(module.norms), loss=[result["loss_first"], result["loss_last"]])
        return trained

    @staticmethod
    def example() -> Graph:
        """That of quantize.ptq with a batch norm."""
        graph = PTQ.example()
        conv, raw = graph.nodes[0], Value("raw", "float32", ("N", 8, 6, 6))
        numbers = {"weight": 0.5, "bias": 0.1, "mean": 0.0, "var": 2.0}
        made = [constant(f"norm.{k}", np.full(8, v, np.float32)) for k, v in numbers.items()]
        norm = Node("batch_norm", [raw, *made], conv.outputs, {}, "norm")
        conv.outputs = [raw]
        graph.nodes.insert(1, norm)
        return graph

    def _loss(self, ctx: Context):
        from ..train import follow
        if not self.teacher:
            return None
        if self.teacher == "previous" and ctx.previous is None:
            raise UserError("quantize.qat: teacher: previous: there is no pass before this one")
        return follow(ctx.original if self.teacher == "original" else ctx.previous,
                      "kl" if ctx.loss == "cross_entropy" else "mse", self.temperature)


def simulation(graph: Graph, masters: dict[str, tuple[np.ndarray, int]], learn: bool = True, normed: Set[str] = frozenset(),
               batches: Sequence[dict] = ()) -> Simulation:
    """The module to train for what quantize_graph made. normed: names of layers that get a batch norm back, with statistics
    of `batches`."""
    weights, bits = {k: w for k, (w, _) in masters.items()}, {k: b for k, (_, b) in masters.items()}
    plain = Simulation(graph, weights, bits, learn)
    layers = [n for n in graph.nodes if n.op in ("conv", "linear") and _original_name(n, graph) in normed
              and n.inputs[1] in plain.trained and len(n.inputs) > 2 and n.inputs[2] is not None]
    once = [n for n in layers if sum(n.inputs[1] in m.inputs or n.inputs[2] in m.inputs for m in graph.nodes) == 1]
    return Simulation(graph, weights, bits, learn, _statistics(plain, once, batches)) if once else plain


def _original_name(node: Node, graph: Graph) -> str:
    codes = graph.makers()[node.inputs[1]].inputs[0] if node.inputs[1].data is None else node.inputs[1]
    return codes.name.removesuffix(".int8").removesuffix(".weight")


def _normed(graph: Graph) -> set[str]:
    """Names of the layers whose batch norm will be folded."""
    makers = graph.makers()
    pairs = ((makers.get(n.inputs[0]), n) for n in graph.nodes if n.op == "batch_norm")
    return {layer_name(layer) for layer, norm in pairs
            if layer is not None and layer.op in ("conv", "linear") and foldable(graph, layer, norm)}


def _statistics(module: Simulation, layers: list[Node], batches: Sequence[dict]) -> dict[Node, tuple[np.ndarray, np.ndarray]]:
    """Mean and variance, by channel, of what layers give without their bias."""
    sums: dict[Node, list] = {n: [0.0, 0.0, 0] for n in layers}
    module.eval()
    with torch.no_grad():
        for batch in batches:
            values = module.values(batch, [n.outputs[0].name for n in layers])
            for n in layers:
                rows = values[n.outputs[0].name].movedim(1 if n.op == "conv" else -1, 0).flatten(1).double()
                rows = rows - torch.from_numpy(n.inputs[2].data).double()[:, None]
                entry = sums[n]
                entry[0], entry[1], entry[2] = entry[0] + rows.sum(1), entry[1] + (rows ** 2).sum(1), entry[2] + rows.shape[1]
    made = {}
    for n, (total, squares, count) in sums.items():
        mean = total / count
        made[n] = mean.numpy(), ((squares / count - mean ** 2).clamp(min=0) + 1e-5).numpy()
    return made


def identical(module: torch.nn.Module, graph: Graph, batch: dict, limit: int = 4) -> bool:
    """Whether the lowered graph gives the bytes that the trained module gives."""
    from ..lower import lower
    from ..ops.run import run
    from ..train import outputs_of

    feeds = {k: torch.as_tensor(v)[:limit] for k, v in batch.items()}
    bind = {d: n for v in graph.inputs for d, n in zip(v.shape, feeds[v.name].shape) if isinstance(d, str)}
    with torch.no_grad():
        ours = outputs_of(module.eval(), feeds)
    theirs = list(run(lower(graph, bind=bind), feeds).values())
    return all(torch.equal(a, b) for a, b in zip(ours, theirs))
