"""The training loop: learns, repeats itself, keeps zeros and palettes, says so when it diverges."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from mcc.passes.base import Context
from mcc.passes.errors import PassFailed, UserError
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.train import Training, evaluate, fit, fit_graph, soft_loss, task_loss

torch.set_num_threads(1)


class Blobs:
    """Two classes of 8 numbers that a line tells apart; `labels=False` hides them."""

    def __init__(self, n=256, labels=True):
        r = np.random.default_rng(0)
        self.y = torch.from_numpy(r.integers(0, 2, n))
        self.x = torch.from_numpy(r.standard_normal((n, 8)).astype(np.float32)) + 1.5 * (2 * self.y[:, None] - 1)
        self.labels = labels

    def size(self, split):
        return len(self.x)

    def batches(self, split, batch, seed=None, limit=None):
        order = np.arange(len(self.x)) if seed is None else np.random.default_rng(seed).permutation(len(self.x))
        order = order[:limit]
        for i in range(0, len(order), batch):
            rows = order[i:i + batch]
            yield {"x": self.x[rows]}, self.y[rows] if self.labels else None


def mlp(seed=0, **meta):
    r = np.random.default_rng(seed)

    def weight(name, *shape, **meta):
        return constant(name, (r.standard_normal(shape) * 0.3).astype(np.float32), **meta)
    x, a, b, y = (Value(n, "float32", ("N", k)) for n, k in (("x", 8), ("a", 16), ("b", 16), ("y", 2)))
    return Graph([x], [y], [Node("linear", [x, weight("fc1.weight", 16, 8, **meta), weight("fc1.bias", 16)], [a], name="fc1"),
                            Node("relu", [a], [b], name="act"),
                            Node("linear", [b, weight("fc2.weight", 2, 16), weight("fc2.bias", 2)], [y], name="fc2")])


def context(graph, data=None, **train):
    return Context(graph, Blobs() if data is None else data, train={"lr": 0.01, "batch": 32} | train)


def test_learns():
    graph = mlp()
    ctx = context(graph)
    seen = []
    ctx.progress = lambda done, total, text: seen.append((done, total))
    trained = fit_graph(graph, ctx, epochs=3)
    assert evaluate(trained, ctx.data) > 0.97 > evaluate(graph, ctx.data)
    assert seen[-1] == (24, 24)


@pytest.mark.parametrize("optimizer,schedule", [("adamw", "cosine"), ("sgd", "linear"), ("sgd", "constant")])
def test_same_seed_same_weights(optimizer, schedule):
    graph = mlp()
    ctx = context(graph, optimizer=optimizer, schedule=schedule, warmup=0.2, weight_decay=0.01, label_smoothing=0.1)
    a, b = (fit_graph(graph, ctx, epochs=1) for _ in range(2))
    other = fit_graph(graph, Context(graph, ctx.data, train=ctx.train, seed=5), epochs=1)
    for u, v, w in zip(a.constants(), b.constants(), other.constants()):
        assert np.array_equal(u.data, v.data) and not np.array_equal(u.data, w.data)


def test_global_random_state_is_left_alone():
    torch.manual_seed(3)
    want = torch.rand(1)
    torch.manual_seed(3)
    fit_graph(mlp(), context(mlp()), epochs=0.5)
    assert torch.equal(torch.rand(1), want)


def test_zeros_palettes_and_frozen_stay():
    graph = mlp()
    first = graph.nodes[0].inputs[1]
    first.data = np.where(np.abs(first.data) < 0.3, 0, np.sign(first.data) * 0.5).astype(np.float32)
    first.meta.update(sparse=True, codebook={"bits": 2, "groups": 1})
    graph.nodes[2].inputs[1].meta["frozen"] = True
    new = fit_graph(graph, context(graph), epochs=1)
    data = new.nodes[0].inputs[1].data
    assert np.array_equal(data == 0, first.data == 0) and len(np.unique(data)) == 3 and not np.array_equal(data, first.data)
    assert np.array_equal(new.nodes[2].inputs[1].data, graph.nodes[2].inputs[1].data)


def test_without_labels_follows_the_original():
    teacher = fit_graph(mlp(), context(mlp()), epochs=3)
    ctx = Context(teacher, Blobs(labels=False), train={"lr": 0.01, "batch": 32})
    student = fit_graph(mlp(seed=7), ctx, epochs=4)
    assert evaluate(student, Blobs(), "agreement", original=teacher) > 0.97


def test_divergence_is_told():
    with pytest.raises(PassFailed, match=r"loss became .*step .*lower lr \(now 1e\+20, try 1e\+19\)"):
        fit_graph(mlp(), context(mlp()), epochs=3, lr=1e20, optimizer="sgd", clip=0)


def test_what_is_missing_is_told():
    graph = mlp()
    with pytest.raises(UserError, match="needs data"):
        fit_graph(graph, Context(graph), epochs=1)
    for v in graph.constants():
        v.meta["frozen"] = True
    with pytest.raises(UserError, match="nothing to train"):
        fit_graph(graph, context(graph), epochs=1)
    with pytest.raises(UserError, match="unknown loss 'hinge'"):
        task_loss(context(graph), "hinge")


def test_on_step_comes_before_each_step():
    graph, steps = mlp(), []
    fit(graph.module(), context(graph), epochs=0.5, on_step=lambda step, total, module: steps.append((step, total)))
    assert steps == [(i, 4) for i in range(4)]


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "l1", "huber", "bce"])
def test_losses_are_zero_where_they_should_be(loss):
    y = torch.tensor([[40.0, -40.0], [-40.0, 40.0]])
    labels = torch.tensor([0, 1]) if loss == "cross_entropy" else torch.tensor([[1.0, 0], [0, 1]]) if loss == "bce" else y
    fn = task_loss(Context(mlp(), loss=loss))
    assert float(fn([y], labels, {})) < 1e-6 < float(fn([-y], labels, {}))


def test_soft_loss_keeps_its_gradient_over_temperatures():
    want = torch.randn(16, 10, generator=torch.Generator().manual_seed(0))
    sizes = []
    for t in (8.0, 32.0):
        got = torch.zeros(16, 10, requires_grad=True)
        soft_loss(got, want, "kl", t).backward()
        sizes.append(float(got.grad.norm()))
    assert 0.8 < sizes[0] / sizes[1] < 1.25
    assert float(soft_loss(want, want, "kl", 3.0)) == pytest.approx(0, abs=1e-6)


def test_augmentation_moves_pictures_only():
    from mcc.passes.train import _augment

    x = torch.arange(2 * 1 * 6 * 6, dtype=torch.float32).reshape(2, 1, 6, 6)
    out = _augment({"x": x, "ids": torch.ones(2, 3)}, {"shift": 2, "flip": True}, torch.Generator().manual_seed(1), rows=2)
    assert torch.equal(out["ids"], torch.ones(2, 3)) and out["x"].shape == x.shape and not torch.equal(out["x"], x)
    assert set(out["x"][0].flatten().tolist()) <= set(x[0].flatten().tolist())
    still = _augment({"x": x}, {"shift": 0}, torch.Generator(), rows=2)
    assert torch.equal(still["x"], x)


def test_options_of_a_pass_win():
    how = Training.of(Context(mlp(), train={"lr": 0.1, "epochs": 9, "unknown": 1}), lr=0.2, epochs=None)
    assert (how.lr, how.epochs, how.batch) == (0.2, 9, 128)
