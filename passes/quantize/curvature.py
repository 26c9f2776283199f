"""How much the loss, or a layer's output, feels a change of each weight: a diagonal of second derivatives.

    hessian   of the squared error of the layer's output: the mean square of the input that the weight multiplies
    fisher    of the loss: the mean squared gradient over training batches (the empirical Fisher information)

Weighted by these, k-means keeps what matters instead of what is frequent (Choi et al., arXiv 1612.01543).
"""
from __future__ import annotations

import numpy as np

from ..base import Context
from ..errors import UserError
from ..graph import Graph, Node, Value
from ..weights import weight_of

KINDS = ("none", "hessian", "fisher")
FLOOR = 0.01  # of the mean: the least that a weight counts, so that what the samples never reached still has a place


def curvature(graph: Graph, nodes: list[Node], kind: str, ctx: Context, samples: int) -> dict[Value, np.ndarray]:
    """{weight of a node: an array that broadcasts to it}, mean 1. A weight that `kind` says nothing about is not there."""
    if ctx.data is None:
        raise UserError(f"quantize.codebook: importance: {kind} needs data; add `data:` to the recipe or use none")
    found = (_hessian if kind == "hessian" else _fisher)(graph, nodes, ctx, samples)
    return {w: a / a.mean() + FLOOR for w, a in found.items() if np.isfinite(a).all() and a.mean() > 0}


def _hessian(graph: Graph, nodes: list[Node], ctx: Context, samples: int) -> dict[Value, np.ndarray]:
    from .observe import watch

    readers = [n for n in nodes if n.op in ("linear", "conv")]
    axis = {n.inputs[0]: -1 if n.op == "linear" else 1 for n in readers}
    sums: dict[Value, np.ndarray] = {}

    def see(v, t):
        axes = [i for i in range(t.ndim) if i != axis[v] % t.ndim]
        sums[v] = sums.get(v, 0.0) + (t.double() ** 2).mean(axes).numpy() * len(t)

    watch(graph, (inputs for inputs, _ in ctx.data.batches("calibration", 32, None, samples)), see, set(axis))
    found: dict[Value, np.ndarray] = {}
    for n in readers:
        w, x = n.inputs[1], sums[n.inputs[0]]
        groups = n.attrs.get("group", 1)  # channels [groups, I] are what rows [groups, O / groups] multiply
        rows = np.repeat(x.reshape(groups, -1), w.shape[0] // groups, 0)
        found[w] = found.get(w, 0.0) + rows.reshape(*rows.shape, *[1] * (w.data.ndim - 2))
    return found


def _fisher(graph: Graph, nodes: list[Node], ctx: Context, samples: int) -> dict[Value, np.ndarray]:
    import torch

    from ..train import task_loss

    weights = {w.name: w for n in nodes if (w := weight_of(n)) is not None}
    module, loss_fn = graph.module().eval(), task_loss(ctx)
    sums: dict[str, np.ndarray] = {}
    for inputs, labels in ctx.data.batches("train", min(8, samples), ctx.seed, samples):  # small: squares of means fade
        outputs, values = module(inputs, want=list(weights))
        loss = loss_fn(list(outputs) if isinstance(outputs, tuple) else [outputs], labels, inputs)
        grads = torch.autograd.grad(loss, [values[n] for n in weights], allow_unused=True)
        for name, g in zip(weights, grads):
            if g is not None:
                sums[name] = sums.get(name, 0.0) + (g.double() ** 2).numpy()
    return {weights[name]: a for name, a in sums.items()}
