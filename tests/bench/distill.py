"""Distillation on real data, against what its papers say. Writes a table to standard output.

    python tests/bench/distill.py [--seeds 3] [--epochs 30]

Digits, as Hinton et al. (arXiv 1503.02531, section 3): a teacher of 2 x 1200 units with dropout, trained on shifted pictures; a
student of 2 x 800 that sees no shifts, alone and with the teacher's soft outputs; and a student that is never shown a 3.
A share of the gap is (alone - distilled) / (alone - teacher), in errors on pictures nobody was trained on.
"""
from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from mcc.passes import find
from mcc.passes.base import Context
from mcc.passes.data import open_data
from mcc.passes.graph import Graph
from mcc.passes.onnx_io import from_torch
from mcc.passes.train import fit_graph
from mcc.passes.zoo import perceptron

MISSING = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    rows = []
    print("| seed | teacher | student alone | distilled | share of gap | never shown a 3: right | with bias set | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for seed in range(options.seeds):
        rows.append(digits(seed, options.epochs))
        print("| {} | {} | {} | {} | {:.0%} | {:.1%} | {:.1%} | {:.0f} |".format(*rows[-1]), flush=True)
    table = np.array(rows)
    teacher, alone, distilled = table[:, 1:4].sum(0)
    print(f"all seeds: {alone - distilled:.0f} of {alone - teacher:.0f} errors of the gap, "
          f"{(alone - distilled) / (alone - teacher):.0%}; 3s right {table[:, 6].mean():.1%}")


def digits(seed: int, epochs: int) -> tuple:
    started = time.monotonic()
    data = open_data({"source": "mnist"}, seed)
    plain = {"batch": 64, "optimizer": "adamw", "schedule": "cosine"}

    def context(graph: Graph, **train) -> Context:
        return Context(graph, data, train=plain | train, seed=seed)

    def net(width: int, dropout: float) -> Graph:
        torch.manual_seed(seed)
        return from_torch(perceptron(width, dropout=dropout).eval(), torch.zeros(2, 1, 28, 28), {"x": {0: "N"}})

    big, small = net(1200, 0.5), net(800, 0.0)
    teacher = fit_graph(big, context(big, augment={"shift": 2}), epochs=2 * epochs, lr=1e-3)
    alone = fit_graph(small, context(small), epochs=epochs, lr=1e-3)
    soft = {"temperature": 20.0, "alpha": 0.0, "epochs": epochs, "lr": 1e-3}
    distilled = find("distill.logits")(**soft).run(small, context(teacher))
    blind = find("distill.logits")(**soft, without=[MISSING]).run(small, context(teacher))
    errors = [int((logits.argmax(1) != labels).sum()) for logits, labels in
              (predict(g, data, "test") for g in (teacher, alone, distilled))]
    logits, labels = predict(blind, data, "test")
    three = labels == MISSING
    shift = bias(*predict(blind, data, "train"))
    right = [float((v[three].argmax(1) == MISSING).mean()) for v in (logits, logits + shift * (np.arange(10) == MISSING))]
    return (seed, *errors, (errors[1] - errors[2]) / max(errors[1] - errors[0], 1), *right, time.monotonic() - started)


def bias(logits: np.ndarray, labels: np.ndarray) -> float:
    """What to add to the missing class's output so that as many training pictures are called so as there are (a tenth of all:
    no label is looked at but for that share)."""
    share = float((labels == MISSING).mean())
    others = np.delete(logits, MISSING, 1).max(1)
    return float(np.quantile(others - logits[:, MISSING], share))


def predict(graph: Graph, data, split: str) -> tuple[np.ndarray, np.ndarray]:
    module = graph.module().eval()
    with torch.no_grad():
        parts = [(module(inputs).numpy(), labels.numpy()) for inputs, labels in data.batches(split, 500)]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


if __name__ == "__main__":
    main()
