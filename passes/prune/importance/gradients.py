"""Importances that look at the loss."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...graph import Value
from . import Ask, LossChange, needs_data


class Taylor(LossChange):
    """Squared change of the loss when the unit is zero, to first order, summed over training batches (Molchanov et al., arXiv
    1906.10771)."""

    needs = "training"

    def rounds(self, ask: Ask) -> Iterator[dict[Value, np.ndarray]]:
        return self.products(ask, "taylor", ask.samples)

    def after(self, x: np.ndarray) -> np.ndarray:
        return x ** 2

    def products(self, ask: Ask, name: str, batch: int) -> Iterator[dict[Value, np.ndarray]]:
        """Weight times gradient of the loss, for every batch of the training data."""
        import torch

        from ...train import Training, task_loss

        needs_data(name, ask.ctx, ask.who)
        values = sorted({p.value for p in ask.parts if p.kind in self.kinds}, key=lambda v: v.name)
        module, names, loss_fn = ask.graph.module().eval(), [v.name for v in values], task_loss(ask.ctx)
        batch = min(Training.of(ask.ctx).batch, batch)
        for inputs, labels in ask.ctx.data.batches("train", batch, ask.ctx.seed, ask.samples):
            outputs, weights = module(inputs, want=names)
            loss = loss_fn(list(outputs) if isinstance(outputs, tuple) else [outputs], labels, inputs)
            grads = torch.autograd.grad(loss, [weights[n] for n in names], allow_unused=True)
            yield {v: np.zeros(v.data.shape) if g is None else (weights[n] * g).detach().numpy()
                   for v, n, g in zip(values, names, grads)}


class Fisher(Taylor):
    """Change of the loss by a diagonal Hessian (LeCun et al. 1990), for which the squared gradients of single samples stand, the
    empirical Fisher information (Theis et al., arXiv 1801.05787): sum of weight^2 * gradient^2."""

    def rounds(self, ask: Ask) -> Iterator[dict[Value, np.ndarray]]:
        for products in self.products(ask, "fisher", 1):
            yield {v: x.astype(np.float64) ** 2 for v, x in products.items()}

    def after(self, x: np.ndarray) -> np.ndarray:
        return x


class Movement(LossChange):
    """How far training moves the weights away from zero: minus the sum over its steps of gradient times weight (Sanh et al.,
    arXiv 2005.07683). Learnt in the pass's own training where there is some before weights go, else in a trial training of a
    copy on `samples` samples."""

    needs = "training"

    def rounds(self, ask: Ask) -> Iterator[dict[Value, np.ndarray]]:
        needs_data("movement", ask.ctx, ask.who)
        memory = ask.memory if ask.memory else self._trial(ask)
        yield {p.value: memory[p.value.name] for p in ask.parts if p.kind in self.kinds}

    def follow(self, ask_memory: dict, module, names: list[str]) -> None:
        def see(name: str, weight, gradient) -> None:
            ask_memory[name] = ask_memory.get(name, 0.0) - (weight * gradient).numpy().astype(np.float64)
        for name in names:
            module.on_gradient(name, lambda w, g, name=name: see(name, w, g))

    def _trial(self, ask: Ask) -> dict[str, np.ndarray]:
        from ...train import fit

        memory: dict[str, np.ndarray] = {}
        module = ask.graph.module()
        self.follow(memory, module, sorted({p.value.name for p in ask.parts}))
        fit(module, ask.ctx, epochs=ask.samples / max(1, ask.ctx.data.size("train")), text="learn movement")
        return memory
