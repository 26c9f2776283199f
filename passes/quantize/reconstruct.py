"""AdaRound and BRECQ: rounding up or down is learned until the outputs of a layer, or of a block, are those of the float
network. `rounding.py` says what comes from which paper."""
from __future__ import annotations

import numpy as np
import torch

from ..base import Context
from ..graph import Graph, Node, Value
from ..ops import call
from ..ops.run import feed, tensor
from .rounding import DROP, Choice, Grid

BATCH, RATE, WEIGHT = 32, 1e-2, 0.01  # WEIGHT: of being undecided, against the squared error
WARM, BETA = 0.2, (20.0, 2.0)         # share of the steps in which nothing is pushed to 0 or 1; then from soft to hard
CHAIN = 3                             # layers that a block of a network without branches has

Env = dict[Value, torch.Tensor]


def reconstruct(graph: Graph, grids: dict[Node, Grid], batches: list[dict], method: str, steps: int, ctx: Context,
                ) -> dict[Value, np.ndarray]:
    """New data, on its grid, for each weight. Two copies of the calibration data go through the network, one in float and one
    with what is rounded so far."""
    whole = {v.name: torch.cat([torch.as_tensor(b[v.name]) for b in batches]) for v in graph.inputs}
    fixed = {v: tensor(v.data, v.dtype) for v in graph.constants()}
    floats, rounded = feed(graph, whole) | fixed, feed(graph, whole) | fixed
    units = [[n] for n in graph.nodes] if method == "adaround" else blocks(graph, set(grids))
    last = {v: i for i, unit in enumerate(units) for n in unit for v in n.inputs if v is not None}
    made: dict[Value, np.ndarray] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ctx.seed)
        for i, unit in enumerate(units):
            evaluate(unit, floats)
            choices = {n.inputs[1]: Choice(n.inputs[1].data, grids[n]) for n in unit if n in grids and n.inputs[1] not in made}
            if choices:
                learn(unit, choices, floats, rounded, steps, DROP if method == "brecq" else 0.0)
                for v, choice in choices.items():
                    rounded[v] = choice(hard=True).detach()
                    made[v] = rounded[v].numpy()
            evaluate(unit, rounded)
            for v in [v for v, at in last.items() if at == i and v not in graph.outputs]:
                floats.pop(v, None), rounded.pop(v, None)
            ctx.progress(i + 1, len(units), f"{method}: {len(made)} of {len(grids)} layers")
    return made


def blocks(graph: Graph, layers: set[Node]) -> list[list[Node]]:
    """The nodes, cut where one value passes: residual blocks whole, chains a few layers at a time."""
    users, outputs, found, current, live = graph.users(), set(graph.outputs), [], [], set()
    waiting = {v: len(users[v]) for v in users}
    for node in graph.nodes:
        current.append(node)
        for v in node.inputs:
            if v is not None and v.data is None:
                waiting[v] -= 1
                if not waiting[v]:
                    live.discard(v)
        live |= {v for v in node.outputs if waiting[v] or v in outputs}
        if len(live) <= 1:
            found.append(current)
            current = []
    found += [current] if current else []
    joined: list[list[Node]] = []
    for part in found:
        count = sum(n in layers for n in part)
        if joined and sum(n in layers for n in joined[-1]) + count <= CHAIN:
            joined[-1] = joined[-1] + part
        else:
            joined.append(part)
    return joined


def evaluate(unit: list[Node], env: Env, weights: Env | None = None) -> None:
    for node in unit:
        inputs = [None if v is None else (weights or {}).get(v, env[v]) for v in node.inputs]
        attrs = {k: v for k, v in node.attrs.items() if k != "dynamic"}
        env.update(zip(node.outputs, call(node.op, inputs, attrs, len(node.outputs))))


def learn(unit: list[Node], choices: dict[Value, Choice], floats: Env, rounded: Env, steps: int, drop: float) -> None:
    """Up or down for the weights of one unit; its inputs are those of the rounded network, a share `drop` of them the float
    ones, its target what the float network makes."""
    inner = {v for n in unit for v in n.outputs}
    read = {v for n in unit for v in n.inputs if v is not None and v not in inner and v.data is None}
    targets = [v for v in inner if v in floats and not any(v in n.inputs for n in unit)] or [unit[-1].outputs[0]]
    fixed = {v: floats[v] for n in unit for v in n.inputs if v is not None and v.data is not None}
    optimizer = torch.optim.Adam([c.v for c in choices.values()], lr=RATE)
    count = len(floats[targets[0]])
    for step in range(steps):
        rows = torch.randperm(count)[:BATCH]
        env: Env = dict(fixed)
        for v in read:
            env[v] = _mixed(rounded[v], floats[v], rows, drop)
        evaluate(unit, env, {v: c() for v, c in choices.items()})
        loss = sum((_error(env[v], floats[v][rows]) for v in targets), torch.zeros(()))
        done = (step / steps - WARM) / (1 - WARM)
        if done > 0:
            beta = BETA[1] + (BETA[0] - BETA[1]) * (1 - done)
            loss = loss + WEIGHT * sum((c.undecided(beta) for c in choices.values()), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _mixed(rounded: torch.Tensor, floats: torch.Tensor, rows: torch.Tensor, drop: float) -> torch.Tensor:
    x = rounded[rows]
    return torch.where(torch.rand(x.shape) < drop, floats[rows], x) if drop and x.is_floating_point() else x


def _error(got: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
    """Squared error, summed over channels, a mean over everything else."""
    return (got - want).square().sum(1).mean()
