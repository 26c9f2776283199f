"""Pruning on real data: what each pass and importance costs in accuracy and gives in bytes and time, all on the lowered file.

    python tests/bench/prune.py run NET [--seeds 3]     trains, prunes, lowers and scores; keeps all in build/bench/prune
    python tests/bench/prune.py table [NET ...]         times the files in turn and prints the tables

lenet5 and resnet are trained on 8,000 handwritten digits and tested on the 2,000 others; minilm is the sentence encoder as it
ships, never trained here, and the cosine of its embeddings to the original's on sentences of film reviews is what it keeps.
Differences are to the unpruned network, paired over test samples of all seeds, with the 95 % interval.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from mcc.cli.engine import evaluate, filled, quantiles, session, times
from mcc.passes import find, lower
from mcc.passes.base import Context
from mcc.passes.cost import nonzeros, total_macs
from mcc.passes.data import open_data
from mcc.passes.graph import Graph
from mcc.passes.metrics import find as find_metric
from mcc.passes.metrics import paired_interval
from mcc.passes.onnx_io import from_torch
from mcc.passes.report import Scorer
from mcc.passes.train import fit_graph
from mcc.passes.zoo import lenet5, minilm, resnet20

OUT = Path("build/bench/prune")
TUNE = {"epochs": 3, "lr": 1e-3}
FREE = {"samples": 256}


def weights(text: str, **options) -> tuple[str, str, dict]:
    return text, "prune.weights", options


def blocks(text: str, **options) -> tuple[str, str, dict]:
    return text, "prune.blocks", options


# (what it is, pass, options); without epochs nothing is trained
ROWS = {
    "lenet5": [
        *[weights(f"80 % of weights, {i}", sparsity=0.8, importance=i, scope=scope, **FREE) for i, scope in (
            ("random", "layer"), ("l2", "layer"), ("wanda", "row"), ("fisher", "global"), ("taylor", "global"),
            ("obs", "layer"))],
        weights("80 % of weights, l2, erk", sparsity=0.8, scope="erk"),
        weights("80 % of weights, lamp", sparsity=0.8, importance="lamp"),
        weights("80 % of weights, l2 with update", sparsity=0.8, scope="layer", update=True, **FREE),
        blocks("2:4, l2", pattern="2:4"), blocks("2:4, obs", pattern="2:4", importance="obs", **FREE),
        blocks("1x4, 50 %, l2", pattern="1x4", scope="layer"),
        blocks("1x4, 50 %, obs", pattern="1x4", scope="layer", importance="obs", **FREE),
        weights("90 %, cubic, trained", sparsity=0.9, **TUNE),
        weights("90 %, movement, trained", sparsity=0.9, importance="movement", scope="layer", start=0.1, **TUNE),
        weights("90 %, once, trained", sparsity=0.9, schedule="once", **TUNE),
        weights("90 %, 3 rounds of training", sparsity=0.9, schedule="iterative", steps=3, epochs=1, lr=1e-3),
        weights("90 %, erk, regrowth, trained", sparsity=0.9, scope="erk", schedule="once", regrow=0.3, steps=20, **TUNE),
        blocks("16x1, 80 %, cubic, trained", pattern="16x1", sparsity=0.8, **TUNE),
        blocks("1x4, 75 %, cubic, trained", pattern="1x4", sparsity=0.75, **TUNE),
        weights("half the bytes, l2", bytes=0.5),
    ],
    "resnet": [
        ("channels to 50 % MACs, l2, trained", "prune.channels", {"macs": 0.5, **TUNE}),
        ("channels to 50 % MACs, taylor, trained", "prune.channels", {"macs": 0.5, "importance": "taylor", **TUNE}),
        ("2 of 7 blocks, influence", "prune.layers", {"count": 2}),
        ("2 of 7 blocks, influence, trained", "prune.layers", {"count": 2, **TUNE}),
        ("2 of 7 blocks, random, trained", "prune.layers", {"count": 2, "importance": "random", **TUNE}),
    ],
    "minilm": [
        *[weights(f"50 % of weights, {i}", importance=i, scope="row", samples=32) for i in ("l2", "wanda", "obs")],
        *[blocks(f"2:4, {i}", pattern="2:4", importance=i, samples=32) for i in ("l2", "obs")],
        ("1 of 6 layers, influence", "prune.layers", {"count": 1, "samples": 32}),
        ("2 of 12 branches, influence", "prune.layers", {"what": "branches", "count": 2, "samples": 32}),
        ("2 of 12 branches, random", "prune.layers", {"what": "branches", "count": 2, "importance": "random"}),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("nets", nargs="*", choices=[*ROWS], default=[*ROWS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", default="", help="only rows whose text has this")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    for net in options.nets:
        if options.what == "table":
            table(net)
            continue
        for seed in range(1 if net == "minilm" else options.seeds):
            measure(net, seed, options.rows)


def measure(net: str, seed: int, only: str) -> None:
    """Every row of a network: the lowered file, and what is known of it."""
    data, metric, graph, ctx = prepared(net, seed)
    scorer = Scorer(data, metric, graph)
    file = OUT / f"{net}-{seed}.json"
    facts = json.loads(file.read_text()) if file.exists() else {}
    for i, (text, name, how) in enumerate([("unpruned", "", {}), *ROWS[net]]):
        if text in facts or only not in text and name:
            continue
        started = time.monotonic()
        out = find(name)(**how).run(graph, ctx) if name else graph
        path = OUT / f"{net}-{seed}-{i}.mcc"
        bind = {"S": LENGTH} if net == "minilm" else {}
        lower(out, path, bind=bind)
        scores = scorer.engine(lambda p, batches: evaluate(p, batches), path)
        facts[text] = {"file": path.name, "bytes": os.path.getsize(path), "nonzero": nonzeros(out), "macs": total_macs(out, bind),
                       "seconds": time.monotonic() - started, "scores": scores.tolist()}
        file.write_text(json.dumps(facts))
        print(f"{net} {seed} {text}: {scores.mean():.4f}, {facts[text]['bytes']} bytes, {facts[text]['seconds']:.0f} s",
              file=sys.stderr, flush=True)


LENGTH = 64


def prepared(net: str, seed: int) -> tuple:
    torch.manual_seed(seed)
    if net == "minilm":
        data = open_data({"source": "sentences", "length": LENGTH, "limit": {"test": 200}}, seed)
        example = {k: torch.ones(2, LENGTH, dtype=torch.int64) for k in ("input_ids", "attention_mask")}
        graph = from_torch(minilm(pretrained=True), list(example.values()), {k: {0: "N"} for k in example}, list(example))
        return data, find_metric("cosine"), graph, Context(graph, data, seed=seed)
    data = open_data({"source": "mnist"}, seed)
    module = lenet5() if net == "lenet5" else resnet20(channels=1, width=8)
    graph = from_torch(module.eval(), torch.zeros(2, 1, 28, 28), {"x": {0: "N"}})
    kept = OUT / f"{net}-{seed}.pt"
    ctx = Context(graph, data, train={"batch": 64}, seed=seed)
    graph = trained(graph, ctx, kept, 8 if net == "lenet5" else 6)
    return data, find_metric("accuracy"), graph, Context(graph, data, train={"batch": 64}, seed=seed)


def trained(graph: Graph, ctx: Context, kept: Path, epochs: int) -> Graph:
    """Trained once, then read again."""
    module = graph.module()
    if kept.exists():
        module.load_state_dict(torch.load(kept, weights_only=True))
        return module.write_back()
    graph = fit_graph(graph, ctx, epochs=epochs, lr=2e-3, text="train")
    torch.save(graph.module().state_dict(), kept)
    return graph


def table(net: str) -> None:
    found = [json.loads(f.read_text()) for f in sorted(OUT.glob(f"{net}-*.json"))]
    texts = [t for t in ("unpruned", *(r[0] for r in ROWS[net])) if found and all(t in f for f in found)]
    spent = race([OUT / found[0][t]["file"] for t in texts])
    print(f"\n{net}, {len(found)} seed{'s' * (len(found) > 1)}\n")
    print("| | nonzero | MACs | bytes | smaller | ms | faster | " + ("cosine" if net == "minilm" else "accuracy") +
          " | difference (95 %) | seconds |\n|---|---|---|---|---|---|---|---|---|---|")
    base = np.concatenate([f["unpruned"]["scores"] for f in found])
    for text, ms in zip(texts, spent):
        rows = [f[text] for f in found]
        scores, (size, nonzero, macs, seconds) = np.concatenate([r["scores"] for r in rows]), (
            np.mean([r[k] for r in rows]) for k in ("bytes", "nonzero", "macs", "seconds"))
        d, lo, hi = paired_interval(scores, base)
        whole = np.mean([f["unpruned"]["bytes"] for f in found])
        change = f"{d:+.4f} [{lo:+.4f}, {hi:+.4f}]" if text != "unpruned" else ""
        print(f"| {text} | {nonzero / 1e3:.1f} k | {macs / 1e6:.3g} M | {size / 1e3:.1f} KB | {whole / size:.2f}x | {ms:.4f} | "
              f"{spent[0] / ms:.2f}x | {scores.mean():.4f} | {change} | {seconds:.0f} |")


def race(paths: list[Path]) -> list[float]:
    """Median milliseconds of each file, all in turn."""
    opened = [session(p) for p in paths]
    inputs = [filled(o.inputs) for o in opened]
    spent: list[list[float]] = [[] for _ in paths]
    for _ in range(8):
        for o, x, t in zip(opened, inputs, spent):
            t += times(lambda o=o, x=x: o.run(x), seconds=0.05, least=2, most=200, warm=1)
    return [quantiles(t)["median"] for t in spent]


if __name__ == "__main__":
    main()
