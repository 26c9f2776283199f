"""`mcc eval`: how good a file is."""
from __future__ import annotations

import os
from pathlib import Path

import click

from . import show


@click.command()
@click.argument("model")
@click.argument("recipe")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change the recipe.")
@click.option("--threads", default=1, show_default=True, help="Threads of the engine.")
@show.json_option
def command(model, recipe, sets, threads, as_json):
    """Run MODEL.mcc on the test data of RECIPE and compare it with the recipe's original, sample by sample."""
    from ..passes import report
    from ..passes.errors import UserError
    from ..passes.metrics import METRICS
    from ..passes.prepare import prepare
    from ..passes.recipe import read
    from .engine import evaluate, session
    from .recipes import locate
    made = read(locate(recipe), sets)
    if made.data is None:
        raise UserError(f"{made.path}: has no `data:` to evaluate on")
    session(model)
    prepared = prepare(made)
    if prepared.train:
        raise UserError(f"{made.path}: its checkpoint is not trained yet; run `mcc compress {recipe}` first")
    name = made.metric or ("accuracy" if prepared.data.labelled("test") else "cosine")
    scorer = report.Scorer(prepared.data, METRICS[name], prepared.graph)
    with show.progress() as progress:
        ours = scorer.engine(lambda path, batches: evaluate(path, batches, threads), model, progress)
        theirs = scorer.torch(prepared.graph, progress)
    facts = {"schema": 1, "model": os.fspath(Path(model)), "recipe": made.name, "metric_name": name, "samples": len(ours),
             "bytes": os.path.getsize(model), "original": scorer.facts(theirs, None), **scorer.facts(ours, theirs)}
    if as_json:
        from ..passes.cache import plain
        show.emit(plain(facts))
        return
    lo, hi = facts["metric_ci95"]
    dlo, dhi = facts["difference_ci95"]
    print(f"{name} {facts['metric']:.4f} [{lo:.4f}, {hi:.4f}] on {len(ours)} test samples")
    print(f"original {facts['original']['metric']:.4f}, "
          f"difference {facts['difference']:+.4f} [{dlo:+.4f}, {dhi:+.4f}] (95 %, paired)")
