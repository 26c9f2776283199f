"""Distillation on real data, against what its papers say. Writes a table to standard output.

    python tests/bench/distill.py [--seeds 3] [--epochs 30]

Digits, as Hinton et al. (arXiv 1503.02531, section 3): a teacher of 2 x 1200 units with dropout, trained on shifted pictures; a
student of 2 x 800 without regularisation that sees no shifts, alone and with the teacher's soft outputs; and a student that is
never shown a 3. There are 8,000 digits to train on where the paper had 60,000, so the student is also taught on shifted
pictures, which need no labels; beside it what shifts do for a student alone. A share of the gap is
(alone - distilled) / (alone - teacher), in errors on 2,000 pictures nobody was trained on.
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
    print("| seed | teacher | student alone | alone, shifted | distilled | share of gap | distilled, shifted | share of gap "
          "| never shown a 3: right | with bias set | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for seed in range(options.seeds):
        rows.append(digits(seed, options.epochs))
        teacher, alone, moved, plain, shifted, blind, biased, seconds = rows[-1]
        print(f"| {seed} | {teacher} | {alone} | {moved} | {plain} | {gap(teacher, alone, plain)} | {shifted} | "
              f"{gap(teacher, alone, shifted)} | {blind:.1%} | {biased:.1%} | {seconds:.0f} |", flush=True)
    table = np.array(rows)
    teacher, alone, moved, plain, shifted = table[:, :5].sum(0)
    print(f"all seeds: shares of the gap {gap(teacher, alone, plain)}, shifted {gap(teacher, alone, shifted)} (shifts without a "
          f"teacher {gap(teacher, alone, moved)}); 3s right {table[:, 6].mean():.1%}")


def gap(teacher: float, alone: float, distilled: float) -> str:
    return f"{(alone - distilled) / max(alone - teacher, 1):.0%}"


def digits(seed: int, epochs: int) -> tuple:
    """Errors of teacher, student alone, alone on shifted pictures, distilled, distilled on shifted pictures; share of the 3s that
    a student is right about who never saw one, without and with its bias set; CPU seconds."""
    started = time.process_time()
    data = open_data({"source": "mnist"}, seed)
    plain, shift = {"batch": 128, "optimizer": "adamw", "schedule": "cosine"}, {"augment": {"shift": 2}}

    def context(graph: Graph, **train) -> Context:
        return Context(graph, data, train=plain | train, seed=seed)

    def net(width: int, dropout: float) -> Graph:
        torch.manual_seed(seed)
        return from_torch(perceptron(width, dropout=dropout).eval(), torch.zeros(2, 1, 28, 28), {"x": {0: "N"}})

    big, small = net(1200, 0.5), net(800, 0.0)
    teacher = fit_graph(big, context(big, **shift), epochs=2 * epochs, lr=1e-3)
    alone = fit_graph(small, context(small), epochs=epochs, lr=1e-3)
    moved = fit_graph(small, context(small, **shift), epochs=2 * epochs, lr=1e-3)
    soft = {"temperature": 20.0, "alpha": 0.0, "lr": 1e-3}
    near = find("distill.logits")(**soft, epochs=epochs).run(small, context(teacher))
    taught = find("distill.logits")(**soft, epochs=2 * epochs).run(small, context(teacher, **shift))
    blind = find("distill.logits")(**soft, epochs=2 * epochs, without=[MISSING]).run(small, context(teacher, **shift))
    errors = [int((logits.argmax(1) != labels).sum()) for logits, labels in
              (predict(g, data, "test") for g in (teacher, alone, moved, near, taught))]
    logits, labels = predict(blind, data, "test")
    three = labels == MISSING
    set_to = bias(*predict(blind, data, "train"))
    right = [float((v[three].argmax(1) == MISSING).mean()) for v in (logits, logits + set_to * (np.arange(10) == MISSING))]
    return (*errors, *right, time.process_time() - started)


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
