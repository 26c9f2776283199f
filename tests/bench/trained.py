"""Passes on trained networks and real data, one at a time: what prune.py and structure.py share.

    main(__doc__, ROWS, "build/bench/prune")     the command line: run, count, table

`run` trains a network once for a seed, runs every row's pass on it, lowers the result and scores the file by the engine; `count`
adds the instructions of an arm64 inference, counted under emulation; `table` times the files in turn and prints all.
What is found is kept, so that each goes on where it was stopped.

lenet5, resnet (20 layers, 8 to 32 channels, pictures of 14 x 14) and repvgg are trained on 8,000 handwritten digits and tested
on the 2,000 others; digits is a public checkpoint that has probably seen them all. efficientnet (photographs: how often the
answer is the original's) and minilm (sentences of film reviews: cosine to the original's embedding) are public models as they
ship, never trained here.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from mcc.cli.engine import evaluate, filled, session, times
from mcc.passes import find, lower
from mcc.passes.base import Context
from mcc.passes.cost import nonzeros, params, total_macs
from mcc.passes.data import open_data
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph
from mcc.passes.metrics import find as find_metric
from mcc.passes.metrics import interval, paired_interval
from mcc.passes.onnx_io import from_torch
from mcc.passes.report import Scorer
from mcc.passes.train import fit_graph
from mcc.passes.zoo import digit_recognizer, efficientnet_lite0, lenet5, minilm, resnet20

CHECKPOINTS = Path("build/bench/trained")
LENGTH = 64
CORE = "cortex-a76"
EPOCHS = {"lenet5": 8, "resnet": 6, "repvgg": 6}
METRICS = {"minilm": "cosine", "efficientnet": "agreement"}
PUBLIC = ("digits", "efficientnet", "minilm")

Rows = dict[str, list[tuple[str, str, dict]]]


def main(doc: str, rows: Rows, folder: str) -> None:
    """rows: for each network (what it is, pass, options); without epochs in the options nothing is trained."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("what", choices=["run", "count", "table"])
    parser.add_argument("nets", nargs="*", type=one_of(rows), default=[*rows])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", default="", help="only rows whose text has this")
    options = parser.parse_args()
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    for net in options.nets:
        chosen = [("before", "", {}), *(r for r in rows[net] if options.rows in r[0])]
        if options.what == "table":
            table(net, [r[0] for r in chosen], out, options.seeds)
            continue
        for seed in range(1 if net in PUBLIC else options.seeds):
            if options.what == "run":
                measure(net, seed, chosen, out)
            elif seed == 0:
                count(net, out)


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """The type of an argument of argparse that may be left out, which `choices` does not allow."""
    def name(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r}: one of {', '.join(names)}")
        return text
    return name


# --- measuring -----------------------------------------------------------------------------------------------------------

def measure(net: str, seed: int, rows: list[tuple[str, str, dict]], out: Path) -> None:
    """Every row of a network that is not known yet: the lowered file, and what is known of it."""
    file = out / f"{net}-{seed}.json"
    facts = _read(file)
    if all(text in facts for text, _, _ in rows):
        return
    data, metric, graph, ctx = prepared(net, seed)
    scorer = Scorer(data, metric, graph)
    for text, name, how in rows:
        if text in facts:
            continue
        started = time.monotonic()
        made = find(name)(**how).run(graph, ctx) if name else graph
        path = out / f"{net}-{seed}-{''.join(c if c.isalnum() else '-' for c in text)}.mcc"
        lower(made, path)
        scores = scorer.engine(lambda p, batches: evaluate(p, batches), path)
        facts[text] = {"file": path.name, "bytes": os.path.getsize(path), "nonzero": nonzeros(made), "params": params(made),
                       "macs": total_macs(made), "seconds": time.monotonic() - started, "scores": scores.tolist()}
        _write(file, facts)
        print(f"{net} {seed} {text}: {scores.mean():.4f}, {facts[text]['bytes']} bytes, {facts[text]['seconds']:.0f} s",
              file=sys.stderr, flush=True)


def count(net: str, out: Path) -> None:
    """Instructions of the files of the first seed."""
    import emulation
    file = out / f"{net}-0.json"
    facts = _read(file)
    for text, row in facts.items():
        if "instructions" not in row:
            path = out / row["file"]
            row["instructions"] = emulation.mcc(path, filled(session(path).inputs), CORE).instructions
            _write(file, facts)
            print(f"{net} {text}: {row['instructions'] / 1e6:.2f} M instructions", file=sys.stderr, flush=True)


def _read(file: Path) -> dict:
    return json.loads(file.read_text()) if file.exists() else {}


def _write(file: Path, facts: dict) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(facts))
    part.replace(file)


# --- networks ------------------------------------------------------------------------------------------------------------

def prepared(net: str, seed: int) -> tuple:
    """(data, metric, trained Graph, Context of the pass)."""
    torch.manual_seed(seed)
    metric, source = find_metric(METRICS.get(net, "accuracy")), {"source": "mnist"}
    if net == "minilm":
        source = {"source": "sentences", "length": LENGTH, "limit": {"test": 200}}
        example = {k: torch.ones(2, LENGTH, dtype=torch.int64) for k in ("input_ids", "attention_mask")}
        graph = from_torch(minilm(pretrained=True), list(example.values()), {k: {0: "N"} for k in example}, list(example))
    elif net == "efficientnet":
        source = {"source": "photos"}
        graph = from_torch(efficientnet_lite0(pretrained=True).eval(), torch.zeros(2, 3, 224, 224), {"x": {0: "N"}})
    else:
        graph = from_torch(module_of(net).eval(), torch.zeros(2, 1, 28, 28), {"x": {0: "N"}})
    data = open_data(source, seed)
    data.bind([v.name for v in graph.inputs])
    train = {"batch": 64}
    if net in EPOCHS:
        graph = trained(graph, Context(graph, data, train=train, seed=seed), CHECKPOINTS / f"{net}-{seed}.pt", EPOCHS[net])
    return data, metric, graph, Context(graph, data, train=train, seed=seed)


def module_of(net: str) -> torch.nn.Module:
    if net == "repvgg":
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from zoo.resnets import repvgg
        return repvgg(False, (1, 2, 2, 1), channels=1)
    if net == "resnet":
        return torch.nn.Sequential(torch.nn.AvgPool2d(2), resnet20(channels=1, width=8))
    return digit_recognizer(pretrained=True) if net == "digits" else lenet5()


def trained(graph: Graph, ctx: Context, kept: Path, epochs: int) -> Graph:
    """Trained once, then read again."""
    module = graph.module()
    if kept.exists():
        module.load_state_dict(torch.load(kept, weights_only=True))
        return module.write_back()
    graph = fit_graph(graph, ctx, epochs=epochs, lr=2e-3, text="train")
    kept.parent.mkdir(parents=True, exist_ok=True)
    torch.save(graph.module().state_dict(), kept)
    return graph


# --- the table -----------------------------------------------------------------------------------------------------------

def table(net: str, texts: list[str], out: Path, seeds: int) -> None:
    """The rows that every seed has."""
    found = [_read(f) for f in sorted(out.glob(f"{net}-*.json"))[:seeds]]
    texts = [t for t in texts if found and all(t in f for f in found)]
    if "before" not in texts:
        raise UserError(f"{out}: nothing is known of {net}; first: run {net}")
    spent = race([out / found[0][t]["file"] for t in texts])
    print(f"\n{net}, {len(found)} seed{'s' * (len(found) > 1)}\n")
    metric = find_metric(METRICS.get(net, "accuracy"))
    print(f"| | nonzero | MACs | KB | smaller | ms | faster | arm64 M instructions | fewer | {metric.name} (95 %) | "
          "difference (95 %) |\n" + "|---" * 11 + "|")
    first = [f["before"] for f in found]
    base = np.concatenate([r["scores"] for r in first])
    for text, ms in zip(texts, spent):
        rows = [f[text] for f in found]
        scores, (size, nonzero, macs) = np.concatenate([r["scores"] for r in rows]), (
            np.mean([r[k] for r in rows]) for k in ("bytes", "nonzero", "macs"))
        value, (d, lo, hi) = interval(scores, metric), paired_interval(scores, base)
        change = f"{d:+.4f} [{lo:+.4f}, {hi:+.4f}]" if text != "before" else ""
        whole, (ins, all_ins) = np.mean([r["bytes"] for r in first]), (r[0].get("instructions") for r in (rows, first))
        arm = f"{ins / 1e6:.2f} | {all_ins / ins:.2f}x" if ins and all_ins else " | "
        print(f"| {text} | {nonzero / 1e3:.1f} k | {macs / 1e6:.3g} M | {size / 1e3:.1f} | {whole / size:.2f}x | {ms:.4f} | "
              f"{spent[0] / ms:.2f}x | {arm} | {value[0]:.4f} [{value[1]:.4f}, {value[2]:.4f}] | {change} |")


def race(paths: list[Path], rounds: int = 8, seconds: float = 0.05) -> list[float]:
    """The least milliseconds of each file, all in turn: what other programs take from it is in the rest."""
    opened = [session(p) for p in paths]
    inputs = [filled(o.inputs) for o in opened]
    spent: list[list[float]] = [[] for _ in paths]
    for _ in range(rounds):
        for o, x, t in zip(opened, inputs, spent):
            t += times(lambda o=o, x=x: o.run(x), seconds=seconds, least=2, most=200, warm=1)
    return [min(t) for t in spent]
