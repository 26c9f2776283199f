"""Calibration data for a network whose data nobody has: noise is changed until every batch norm sees the mean and the
variance that it saw in training (ZeroQ, Cai et al., arXiv 2001.00281)."""
from __future__ import annotations

import math

import torch

from ..base import Context
from ..errors import UserError
from ..graph import Graph

STEPS, RATE = 60, 0.1


def synthetic(graph: Graph, samples: int, batch: int, ctx: Context) -> list[dict[str, torch.Tensor]]:
    """Batches of made-up inputs, the same for the same seed."""
    norms = [n for n in graph.nodes if n.op == "batch_norm" and all(v.data is not None for v in n.inputs[3:5])]
    if not norms:
        raise UserError("quantize.ptq: calibration: synthetic: the model has no batch norms to say what its data was like; "
                        "give data, or use activations: dynamic")
    free = [v.name for v in graph.inputs if v.dtype != "float32" or any(isinstance(d, str) for d in v.shape[1:])]
    if free:
        raise UserError(f"quantize.ptq: calibration: synthetic: input {free[0]} is not a float tensor of known size")
    module = graph.copy().module().eval().requires_grad_(False)
    want = [(n.inputs[0].name, *(torch.from_numpy(v.data.copy()) for v in n.inputs[3:5])) for n in norms]
    rng, made = torch.Generator().manual_seed(ctx.seed), []
    count = math.ceil(samples / batch)
    for i in range(count):
        x = {v.name: torch.randn(min(batch, samples - i * batch), *v.shape[1:], generator=rng).requires_grad_()
             for v in graph.inputs}
        optimizer = torch.optim.Adam(x.values(), lr=RATE)
        for step in range(STEPS):
            optimizer.zero_grad()
            _mismatch(module.values(x, [name for name, _, _ in want]), want).backward()
            optimizer.step()
            ctx.progress(i * STEPS + step + 1, count * STEPS, "make calibration data")
        made.append({k: v.detach() for k, v in x.items()})
    return made


def _mismatch(values: dict[str, torch.Tensor], want) -> torch.Tensor:
    """How far the batch's means and deviations are from those on record, in units of the latter."""
    total = torch.zeros(())
    for name, mean, var in want:
        x, deviation = values[name].movedim(1, 0).flatten(1), (var + 1e-5).sqrt()
        total = total + (((x.mean(1) - mean) / deviation) ** 2).mean()
        total = total + (((x.var(1, unbiased=False) + 1e-5).sqrt() / deviation - 1) ** 2).mean()
    return total
