"""Distillation of a 12-layer transformer on real text, against DistilBERT's and TinyBERT's figures. Writes tables.

    python tests/bench/distill_text.py train      teacher and students; what is there already is kept (build/bench/distill-text)
    python tests/bench/distill_text.py ablation   the signs of TinyBERT's table, over --seeds seeds
    python tests/bench/distill_text.py table      lowers, scores and times the files of `train` in turn, prints both tables

The task: which of 45 groups a dictionary definition belongs to (glosses.py). The teacher has BERT's shape at an eighth of its
width: 12 layers of 96 in 4 heads, 384 inside, 4,000 words, 16 words of text, 1.7 M parameters; the thin student is in
TinyBERT's proportions, 4 layers of 36 and 144. Scores are of the lowered file, run by the engine, on 5,000 definitions that
nobody was trained on; a share is the student's right answers over the teacher's, its interval of the paired difference.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from glosses import LENGTH, classifier
from mcc.cli.engine import evaluate
from mcc.passes import cache, find, lower
from mcc.passes.base import Context
from mcc.passes.cost import params
from mcc.passes.data import open_data
from mcc.passes.graph import Graph
from mcc.passes.metrics import find as find_metric
from mcc.passes.metrics import paired_interval
from mcc.passes.onnx_io import export, from_torch
from mcc.passes.report import Scorer
from mcc.passes.train import evaluate as accuracy
from mcc.passes.train import fit_graph
from trained import race

OUT = Path("build/bench/distill-text")
TRAIN = {"batch": 64, "schedule": "linear", "warmup": 0.1}
GLOSSES, EPOCH = 64_000, 16_000  # an epoch of a student: so many, drawn anew
THIN = {"layers": 4, "hidden": 36, "heads": 4, "ffn": 144}


def thin(**shape) -> dict:
    return {"student": "glosses:classifier", "student_args": shape}


# name -> (what it starts from, [(pass, options)]); "" is the teacher
STUDENTS: dict[str, tuple[str, list[tuple[str, dict]]]] = {
    "6 of 12 layers": ("", [("distill.layer_drop", {"keep": 6, "epochs": 1, "lr": 5e-4})]),
    "4 thin layers": ("", [("distill.tinybert", {
        **thin(**THIN), "epochs": 1, "prediction_epochs": 2.5, "task": 0.5, "lr": 3e-3})]),
    "4 thin layers, pruned, int8": ("4 thin layers", [
        ("prune.weights", {"sparsity": 0.5, "layers": ["*dense", "*query", "*key", "*value"], "epochs": 0}),
        ("distill.logits", {"temperature": 2.0, "alpha": 0.3, "epochs": 1.5, "lr": 1e-3}),
        ("quantize.ptq", {"activations": "dynamic"})]),
}
SMALL = 4_000  # definitions of the task, and as many others without labels, in the ablation
# TinyBERT (arXiv 1909.10351, tables 2 to 4): its ablation's row -> the options here and by how much its dev average fell.
FULL = {**thin(**THIN), "epochs": 1, "prediction_epochs": 1, "lr": 3e-3, "general_epochs": 1,
        "general": {"source": "glosses:source", "train": SMALL, "first": GLOSSES}}
ABLATION: dict[str, tuple[dict, float]] = {
    "all of it": ({}, 0.0),
    "without embedding, hidden, attention": ({"epochs": 0, "general": {}}, -19.3),
    "without task distillation": ({"epochs": 0}, -7.1),
    "without attention": ({"attention": 0.0}, -4.6),
    "without the general stage": ({"general": {}}, -3.1),
    "without hidden states": ({"hidden": 0.0}, -2.7),
    "labels in place of the prediction": ({"prediction": 0.0, "task": 1.0}, -2.1),
    "without embedding": ({"embedding": 0.0}, -1.5),
    "map: top": ({"map": "top"}, -4.7),
    "map: bottom": ({"map": "bottom"}, -4.3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["train", "ablation", "table"])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    OUT.mkdir(parents=True, exist_ok=True)
    if options.what == "train":
        train()
    elif options.what == "ablation":
        ablation(options.seeds)
    else:
        table()


def kept(name: str, make) -> Graph:
    """A graph of an earlier run, or made now; how long it took stands beside it."""
    path = OUT / f"{name.replace(' ', '-').replace(',', '')}.graph"
    if not path.exists():
        started = time.process_time()
        path.write_bytes(cache.pack(make(), {"seconds": 0}))
        path.with_suffix(".seconds").write_text(f"{time.process_time() - started:.0f}")
        print(f"{name}: {path.with_suffix('.seconds').read_text()} s", file=sys.stderr, flush=True)
    return cache.unpack(path.read_bytes())[0]


def context(teacher: Graph, seed: int = 0, progress: bool = True, **data) -> Context:
    def say(step: int, steps: int, text: str) -> None:
        if step % 200 == 0 or step == steps:
            print(f"{text} ({step} of {steps})", file=sys.stderr, flush=True)
    ctx = Context(teacher, open_data({"source": "glosses:source", "train": GLOSSES, **data}, seed), train=dict(TRAIN), seed=seed)
    if progress:
        ctx.progress = say
    return ctx


def network(seed: int = 0, **shape) -> Graph:
    torch.manual_seed(seed)
    ids, mask = (torch.ones(2, LENGTH, dtype=torch.long) for _ in range(2))
    names = ["input_ids", "attention_mask"]
    return from_torch(classifier(**shape).eval(), (ids, mask), {n: {0: "N"} for n in names}, names)


def train() -> dict[str, Graph]:
    def teach() -> Graph:
        graph = network()
        return fit_graph(graph, context(graph), epochs=1, lr=6e-4, loss="cross_entropy", text="teacher")
    teacher = kept("teacher", teach)
    made = {"teacher": teacher, "4 thin layers, labels only": kept("4 thin layers, labels only", lambda: _alone(teacher))}
    for name, (start, passes) in STUDENTS.items():
        made[name] = kept(name, lambda start=start, passes=passes: _student(made[start or "teacher"], teacher, passes))
    return made


def _alone(teacher: Graph) -> Graph:
    """The thin student, as long as with a teacher, from the labels."""
    graph = network(**THIN)
    return fit_graph(graph, context(graph, epoch=EPOCH), epochs=3.5, lr=3e-3, loss="cross_entropy", text="alone")


def _student(graph: Graph, teacher: Graph, passes: list[tuple[str, dict]]) -> Graph:
    ctx = context(teacher, epoch=EPOCH)
    for name, options in passes:
        graph = find(name)(**options).run(graph, ctx)
    return graph


def ablation(seeds: int) -> None:
    """Every row trained anew with every seed, scored in torch; kept in ablation.json as it goes."""
    file = OUT / "ablation.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    teacher: Any = Remembering(cache.unpack((OUT / "teacher.graph").read_bytes())[0])
    for seed in range(seeds):
        for name, (options, _) in ABLATION.items():
            if f"{name} {seed}" in found:
                continue
            ctx = context(teacher, seed, False, train=SMALL)
            graph = find("distill.tinybert")(**FULL | options).run(teacher.graph, ctx)
            found[f"{name} {seed}"] = accuracy(graph, ctx.data)
            file.write_text(json.dumps(found, indent=1))
            print(f"{seed} {name}: {found[f'{name} {seed}']:.4f}", file=sys.stderr, flush=True)


class Remembering:
    """A teacher whose inner values are computed once for each sample, since all rows of the ablation look at the same ones."""

    def __init__(self, graph: Graph):
        self.graph, self.rows = graph, {}

    def __getattr__(self, name: str):
        return getattr(self.graph, name)

    def module(self):
        inner = self.graph.module().eval()

        def call(inputs: dict, want: list[str]) -> tuple[None, dict]:
            keys = [a.tobytes() for a in inputs["input_ids"].numpy()]
            lacking = [(i, n) for i, k in enumerate(keys) for n in want if (k, n) not in self.rows]
            rows, names = sorted({i for i, _ in lacking}), sorted({n for _, n in lacking})
            if rows:
                for n, v in inner({k: v[rows] for k, v in inputs.items()}, want=names)[1].items():
                    self.rows.update({(keys[i], n): row.clone() for i, row in zip(rows, v)})
            return None, {n: torch.stack([self.rows[k, n] for k in keys]) for n in want}
        call.eval = lambda: call
        return call


def table() -> None:
    made, data, metric = train(), open_data({"source": "glosses:source"}), find_metric("accuracy")
    teacher = made["teacher"]
    scorer, paths, scores = Scorer(data, metric, teacher), {}, {}
    for name, graph in made.items():
        paths[name] = OUT / f"{name.replace(' ', '-').replace(',', '')}.mcc"
        lower(graph, paths[name], bind={"N": 1})
        scores[name] = scorer.engine(lambda p, batches: evaluate(p, batches), paths[name])
    spent = dict(zip(paths, race(list(paths.values()))))
    peer = onnxruntime(teacher, next(data.batches("test", 1))[0], paths["teacher"])
    print("| | layers, parameters | accuracy | of the teacher's (95 %) | bytes | smaller | ms | faster | than onnxruntime fp32 |")
    print("|---|---|---|---|---|---|---|---|---|")
    whole, base = os.path.getsize(paths["teacher"]), scores["teacher"]
    for name, graph in made.items():
        d, lo, hi = (v / base.mean() for v in paired_interval(scores[name], base))
        size, layers = os.path.getsize(paths[name]), sum(n.op == "attention" for n in graph.nodes)
        share = f"{1 + d:.1%} [{1 + lo:.1%}, {1 + hi:.1%}]" if name != "teacher" else ""
        print(f"| {name} | {layers}, {params(graph) / 1e3:.0f} k | {scores[name].mean():.4f} | {share} | {size:,} | "
              f"{whole / size:.2f}x | {spent[name]:.4f} | {spent['teacher'] / spent[name]:.2f}x | "
              f"{peer * spent['teacher'] / spent[name]:.2f}x |")
    if (OUT / "ablation.json").exists():
        signs(json.loads((OUT / "ablation.json").read_text()))


def onnxruntime(graph: Graph, sample: dict, file: Path) -> float:
    """onnxruntime's time for the teacher over ours, in turn, one thread each."""
    import onnxruntime as ort
    from mcc.cli.engine import quantiles, session, times
    path, options = file.with_suffix(".onnx"), ort.SessionOptions()
    export(graph, path, 21)
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    theirs, ours = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]), session(file)
    feeds = {k: v.numpy() for k, v in sample.items()}
    spent: list[list[float]] = [[], []]
    for _ in range(8):
        for call, t in zip((lambda: theirs.run(None, feeds), lambda: ours.run(feeds)), spent):
            t += times(call, seconds=0.05, least=2, most=200, warm=1)
    return quantiles(spent[0])["median"] / quantiles(spent[1])["median"]


def signs(found: dict[str, float]) -> None:
    seeds = sorted({int(k.rsplit(" ", 1)[1]) for k in found})
    scores = {n: np.array([found[f"{n} {s}"] for s in seeds if f"{n} {s}" in found]) for n in ABLATION}
    full = scores["all of it"]
    print(f"\n| TinyBERT, {len(seeds)} seeds | accuracy by seed | mean | difference, points | in the paper | sign |")
    print("|---|---|---|---|---|---|")
    for name, (_, paper) in ABLATION.items():
        s = scores[name]
        if not len(s):
            continue
        d = 100 * (s - full[:len(s)]).mean()
        same = "" if name == "all of it" else "same" if d < 0 else "**other**"
        print(f"| {name} | {', '.join(f'{100 * v:.2f}' for v in s)} | {100 * s.mean():.2f} | {d:+.2f} | {paper:+.1f} | {same} |")


if __name__ == "__main__":
    main()
