"""A recipe from beginning to end: load, train if asked, every pass in order, measure after each, report.

Every result is kept in OUTPUT/cache under a hash of all it depends on: the graph it starts from (so the whole prefix
of the recipe), the pass and its options, the data, the seed, the code of this package, the versions and threads of the
libraries. Files are written whole or not at all. So a run that is killed anywhere goes on from its last finished
pass, and ends with the same bytes as one that was not.

Several processes (see `ranks`) walk the recipe side by side: passes run in all of them, training shared; the first one
measures, writes and says, and after every pass all go on from what it wrote.
"""
from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import cache, ranks, report
from .base import Context, layer_name
from .errors import PassFailed, UserError
from .graph import Graph
from .metrics import METRICS, Metric
from .prepare import Prepared, load_model, prepare, save_checkpoint, unmatched
from .recipe import Recipe, Step


@dataclass
class Engine:
    """What the caller knows about the engine; passes/ does not. Without one, sizes are measured and times are not.

    measure(graph, path)     lowers the graph to `path`; returns {"bytes", "latency_ms", "arena_bytes"...}
    evaluate(path, batches)  runs a .mcc file on {input: array} batches; yields lists of output arrays
    version                  changes when the engine does, so that old timings are not taken for new ones
    race(paths)              median milliseconds of each .mcc file, run in turn A B A B: the figures that are compared
    """

    measure: Callable[[Graph, Path], dict]
    evaluate: Callable | None = None
    version: str = ""
    race: Callable[[list[Path]], list[float]] | None = None


def lower_only(recipe: Recipe) -> Engine:
    """An Engine for where there is none: the file's bytes without times."""
    def measure(graph: Graph, path: Path) -> dict:
        from . import lower
        lower(graph, path, **lower_options(recipe, graph))
        return {"bytes": os.path.getsize(path)}
    return Engine(measure)


def lower_options(recipe: Recipe, graph: Graph) -> dict:
    """How a recipe's graphs are lowered."""
    open_dims = {d for v in graph.inputs for d in v.shape or ()}
    return {"precision": recipe.target.precision, "note": {"name": recipe.name},
            "bind": {k: n for k, n in recipe.model.bind.items() if k in open_dims}}


def run(recipe: Recipe, engine: Engine | None = None, resume: bool = True,
        progress: Callable[[int, int, str], None] = lambda done, total, text: None,
        log: Callable[[str], None] = lambda text: None) -> dict:
    """Do all that the recipe says; returns the report (DESIGN 4.3), which is saved as OUTPUT/report.json too.

    resume    take results of earlier runs from the cache; False forgets them first
    progress  progress(done, total, text), called by long loops
    log       log(text) at every step; OUTPUT/log.txt has the same lines
    Raises UserError when recipe, model or data are wrong, PassFailed when a pass cannot finish.
    """
    return _Run(recipe, engine or lower_only(recipe), resume, progress, log).run()


@dataclass
class _Run:
    recipe: Recipe
    engine: Engine
    resume: bool
    progress: Callable
    log: Callable
    base: dict = field(default_factory=dict)

    def run(self) -> dict:
        recipe, started = self.recipe, time.monotonic()
        deterministic(recipe.seed)
        if not ranks.first():
            self.progress = lambda done, total, text: None
        if not self.resume and (recipe.output / "cache").is_dir():
            ranks.in_turn(lambda: cache.Store(recipe.output / "cache", fresh=ranks.first()))
        self.say(f"load {recipe.name}")
        prepared = ranks.in_turn(lambda: prepare(recipe))
        self.store = ranks.in_turn(lambda: cache.Store(recipe.output / "cache"))
        self.data, self.base = prepared.data, self.dependencies(prepared)
        original = self.train(prepared) if prepared.train else prepared.graph
        self.metric, self.scorer = self.metric_of(original), None
        if self.metric is not None:
            self.scorer = report.Scorer(self.data, self.metric, original)
        self.say("measure the original")
        first, path, _ = self.figures(original, None)
        first["seconds"] = round(time.monotonic() - started, 3)
        if ranks.first():
            shutil.copyfile(path, recipe.output / ".original.part")
            os.replace(recipe.output / ".original.part", recipe.output / "original.mcc")
        torch_original = self.scores(original)
        graph, previous, stages, before = original, None, [], first
        for i, step in enumerate(recipe.steps):
            new, notes, seconds, cached = self.stage(i, step, graph, previous, original)
            self.say(f"{i + 1}/{len(recipe.steps)} {step.name}: measure")
            facts, new_path, _ = self.figures(new, torch_original)
            facts = {"pass": step.name, "options": step.options(), **facts, "seconds": seconds, "cached": cached,
                     "paid": report.paid(facts, before, self.metric), "notes": notes}
            stages.append(facts)
            if recipe.on_no_gain == "rollback" and not ranks.told(self.gained, facts, before, path, new_path):
                self.say(f"{i + 1}/{len(recipe.steps)} {step.name}: paid in neither bytes nor time: undone")
                facts["undone"] = True
                continue
            previous, graph, path, before = graph, new, new_path, facts
        return ranks.told(self.finish, started, original, graph, path, first, stages)

    def gained(self, facts: dict, before: dict, old: Path, new: Path) -> bool:
        """Whether a pass is worth keeping: in bytes, in time, or in the metric (which passes of `distill` are for; where none
        is measured, they are trusted). Times are taken in turn here, since the stages' own are minutes apart, and kept: a run
        that is resumed decides the same."""
        if {"bytes", *([self.metric.name] if self.metric else [])} & set(facts["paid"]):
            return True
        if self.metric is None and facts["pass"].startswith("distill."):
            return True
        if self.engine.race is None:
            return "time" in facts["paid"]
        key = cache.key_of(race=[old.name, new.name], engine=self.engine.version)
        raced = self.store.load_facts(key)
        if raced is None:
            raced = {"latency_ms": self.engine.race([old, new])}
            self.store.save_facts(key, raced)
        times = [{"latency_ms": t} for t in raced["latency_ms"]]
        facts["paid"] = [g for g in facts["paid"] if g != "time"] + report.paid(times[1], times[0], None)
        return "time" in facts["paid"]

    def finish(self, started, original, graph, path, first, stages) -> dict:
        recipe, out = self.recipe, self.recipe.output
        self.say("measure the result on the engine")
        final = dict(next((s for s in reversed(stages) if not s.get("undone")), first))
        for k in ("pass", "options", "cached", "paid", "notes"):
            final.pop(k, None)
        ours = theirs = None
        if self.scorer is not None:
            ours, theirs = self.engine_scores(path, graph), self.engine_scores(out / "original.mcc", original)
            first |= self.scorer.facts(theirs, None)
            final |= self.scorer.facts(ours, theirs)
        part = out / ".model.part"
        shutil.copyfile(path, part)
        os.replace(part, out / "model.mcc")
        cache.write_atomic(out / "model.graph", cache.pack(graph))
        if self.engine.race is not None:
            first["latency_ms"], final["latency_ms"] = self.engine.race([out / "original.mcc", out / "model.mcc"])
        final |= {"path": str(out / "model.mcc"), "ratio": first["bytes"] / final["bytes"],
                  "seconds": round(time.monotonic() - started, 3)}
        if first.get("latency_ms") and final.get("latency_ms"):
            final["speedup"] = first["latency_ms"] / final["latency_ms"]
        made = {"schema": 1, "recipe": recipe.name, "recipe_file": recipe.path, "overrides": recipe.overrides,
                "seed": recipe.seed, "environment": self.base["libraries"] | {"threads": self.base["threads"]},
                "data": self.about_data(), "metric": self.metric and {"name": self.metric.name, "better": self.metric.better},
                "target": recipe.target.model_dump(), "original": first, "stages": stages, "final": final,
                "expect": report.gates(recipe.expect, first, final)}
        made["ok"] = all(g["ok"] for g in made["expect"])
        made["warnings"] = report.warnings(made, ours, theirs, self.metric)
        made = cache.plain(made)
        self.store_report(made)
        return made

    def store_report(self, made: dict) -> None:
        import json

        import yaml
        raw = {k: v for k, v in self.recipe.raw.items() if v is not None}
        text = f"# {self.recipe.path}" + "".join(f" {o}" for o in self.recipe.overrides) + "\n"
        cache.write_atomic(self.recipe.output / "recipe.yaml", text + yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))
        cache.write_atomic(self.recipe.output / "report.json", json.dumps(made, indent=1) + "\n")
        self.say("done" if made["ok"] else "done, but a gate failed")

    # --- one pass -------------------------------------------------------------------------------------------------

    def stage(self, i: int, step: Step, graph: Graph, previous: Graph | None, original: Graph) -> tuple[Graph, dict, float, bool]:
        """The graph after the pass, its notes, the seconds it took, and whether it came from the cache."""
        label = f"{i + 1}/{len(self.recipe.steps)} {step.name}"
        key = cache.key_of(step=step.name, options=step.options(), graph=cache.digest(graph), original=cache.digest(original),
                           previous=previous and cache.digest(previous), files=self.files_of(step), base=self.base)
        found = self.cached(key)
        if found is not None:
            self.say(f"{label}: from the cache")
            return found[0], found[1]["notes"], found[1]["seconds"], True
        self.say(label)
        problems = unmatched(step, graph)
        if problems:
            raise UserError(*problems)
        ctx = self.context(original, label)
        ctx.previous = previous
        began = time.monotonic()
        try:
            deterministic(self.recipe.seed)
            new = step.action.run(graph, ctx)
        except PassFailed as e:
            raise PassFailed(f"{step.item.key}: {step.name}: {e}\nfinished passes are kept: change the recipe and run the "
                             "same command to go on from them") from None
        except UserError as e:
            raise UserError(*(f"{step.item.key}: {step.name}: {p.removeprefix(step.name + ': ')}" for p in e.problems)) from None
        seconds = round(time.monotonic() - began, 3)
        notes = cache.plain(ctx.notes)
        ranks.told(self.store.save_graph, key, new, notes=notes, seconds=seconds)
        # What was just made is read back, so that this run and a resumed one go on from the very same thing.
        return self.store.load_graph(key)[0], notes, seconds, False

    def cached(self, key: str) -> tuple[Graph, dict] | None:
        """A graph and what was noted of it, where the first process finds it."""
        there = ranks.told(lambda: self.store.load_graph(key) is not None)
        return self.store.load_graph(key) if there else None

    def context(self, original: Graph, label: str) -> Context:
        def measure(graph: Graph) -> dict:
            path = self.store.folder / f".part-{os.getpid()}-trial.mcc"
            try:
                return ranks.told(self.engine.measure, graph, path)
            finally:
                path.unlink(missing_ok=True)
        train = {k: v for k, v in (self.recipe.train or {}).items() if k != "epochs"}
        return Context(original=original, data=self.data, loss=self.loss(), train=self.batch() | train,
                       target=self.recipe.target.model_dump(), seed=self.recipe.seed, measure=measure,
                       progress=lambda done, total, text: self.progress(done, total, f"{label}: {text}"))

    def train(self, prepared: Prepared) -> Graph:
        """The model after `train:`; its checkpoint is saved where the recipe names one."""
        options = self.recipe.train or {}
        key = cache.key_of(step="train", options=options, graph=cache.digest(prepared.graph), base=self.base)
        found = self.cached(key)
        if found is None:
            from .train import fit_graph
            self.say("train the original")
            deterministic(self.recipe.seed)
            try:
                trained = fit_graph(prepared.graph, self.context(prepared.graph, "train"), text="original",
                                    **{"epochs": options.get("epochs", 1), **options})
            except PassFailed as e:
                raise PassFailed(f"{self.recipe.place('train')}: train: {e}") from None
            ranks.told(self.store.save_graph, key, trained)
            found = self.store.load_graph(key)
        if prepared.missing is not None:
            saved = ranks.told(save_checkpoint, self.recipe, found[0], prepared.missing)
            if saved is not None:
                self.say(f"trained checkpoint saved as {saved}")
                return load_model(self.recipe).graph  # as every later run will load it
        return found[0]

    # --- figures --------------------------------------------------------------------------------------------------

    def figures(self, graph: Graph, original: np.ndarray | None) -> tuple[dict, Path, np.ndarray | None]:
        """What the report says of a graph, its .mcc file, and its per-sample scores by torch."""
        return ranks.told(self._figures, graph, original)

    def _figures(self, graph: Graph, original: np.ndarray | None) -> tuple[dict, Path, np.ndarray | None]:
        key = cache.key_of(measured=cache.digest(graph), engine=self.engine.version, bind=self.recipe.model.bind,
                           name=self.recipe.name, target=self.recipe.target.model_dump(), code=cache.code_version(lowering=True))
        facts, path = self.store.load_facts(key), self.store.path(key, "mcc")
        if facts is None or not path.is_file():
            part = self.store.folder / f".part-{os.getpid()}-{key}.mcc"
            facts = dict(report.counts(graph, self.recipe.model.bind))
            facts |= {k: v for k, v in self.engine.measure(graph, part).items() if k != "path"}
            os.replace(part, path)
            self.store.save_facts(key, facts)
        scores = self.scores(graph)
        return facts | (self.scorer.facts(scores, original) if scores is not None else {}), path, scores

    def scores(self, graph: Graph) -> np.ndarray | None:
        """Per-sample scores by torch; from the cache where they are."""
        return self._scores("torch", graph, lambda progress: self.scorer.torch(graph, progress))

    def engine_scores(self, path: Path, graph: Graph) -> np.ndarray:
        """The same by the engine on the .mcc file, where there is one."""
        if self.engine.evaluate is None:
            return self.scores(graph)
        return self._scores(f"engine {self.engine.version}", graph,
                            lambda progress: self.scorer.engine(self.engine.evaluate, path, progress))

    def _scores(self, by: str, graph: Graph, make: Callable) -> np.ndarray | None:
        if self.scorer is None:
            return None
        key = cache.key_of(scores=by, graph=cache.digest(graph), original=cache.digest(self.scorer._original),
                           metric=self.metric.name, target=self.recipe.target.model_dump(), base=self.base)
        scores = self.store.load_scores(key)
        if scores is None:
            scores = make(self.progress)
            self.store.save_scores(key, scores)
        return scores

    def metric_of(self, graph: Graph) -> Metric | None:
        """The recipe's metric; without one, what fits the data: accuracy for classes, mse for numbers, else cosine."""
        if self.data is None:
            return None
        if self.recipe.metric is not None:
            return METRICS[self.recipe.metric]
        kind = self.label_kind()
        return METRICS["accuracy" if kind == "i" else "mse" if kind == "f" else "cosine"]

    # --- what results depend on -----------------------------------------------------------------------------------

    def dependencies(self, prepared: Prepared) -> dict:
        import torch
        return {"data": prepared.data and prepared.data.fingerprint, "seed": self.recipe.seed, "loss": self.recipe.loss,
                "train": self.recipe.train, "batch": (self.recipe.data or {}).get("batch"),
                "target": self.recipe.target.model_dump(),
                "code": cache.code_version(), "libraries": cache.library_versions(), "threads": torch.get_num_threads()} | (
                    {"processes": ranks.count()} if ranks.count() > 1 else {})

    def files_of(self, step: Step) -> dict:
        """Contents of the files that options name: a teacher's model file, the module of a student's factory."""
        import hashlib
        found = {}
        for v in step.options().values():
            for name in v if isinstance(v, list) else [v]:
                path = _file_of(name) if isinstance(name, str) else None
                if path is not None:
                    found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def label_kind(self) -> str | None:
        if not self.data.labelled("test"):
            return None
        _, labels = next(iter(self.data.batches("test", 1)))
        return "f" if labels.dtype.is_floating_point else "i"

    def loss(self) -> str:
        if self.recipe.loss is not None:
            return self.recipe.loss
        return "mse" if self.data is not None and self.label_kind() == "f" else "cross_entropy"

    def batch(self) -> dict:
        batch = (self.recipe.data or {}).get("batch")
        return {} if batch is None else {"batch": batch}

    def about_data(self) -> dict | None:
        return self.data and {"source": self.recipe.data["source"], "train": self.data.size("train"),
                              "test": self.data.size("test"),
                              "calibration": self.data.size("calibration"), "fingerprint": self.data.fingerprint}

    def say(self, text: str) -> None:
        if not ranks.first():
            return
        self.log(text)
        if self.recipe.output.is_dir():
            with open(self.recipe.output / "log.txt", "a") as f:
                f.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


def deterministic(seed: int) -> None:
    """The same numbers every time: all generators seeded, only deterministic kernels of torch."""
    import random

    import torch
    random.seed(seed)
    np.random.seed(seed % 2 ** 32)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)


def plan(recipe: Recipe, engine: Engine | None = None) -> dict:
    """`--dry-run`: everything is checked and nothing trained. The plan has, for each pass, the layers it would work on and
    the bytes and MACs it would leave, found by running the passes without their training on the model as it is."""
    import tempfile
    deterministic(recipe.seed)
    prepared = prepare(recipe)
    engine, graph = engine or lower_only(recipe), prepared.graph
    ctx = Context(original=graph, data=prepared.data, train={k: v for k, v in (recipe.train or {}).items() if k != "epochs"},
                  target=recipe.target.model_dump(), seed=recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.mcc"
        made: dict[str, Any] = {"schema": 1, "recipe": recipe.name, "train": prepared.train,
                                "original": _predict(graph, recipe, engine, path),
                                "stages": [], "expect": [f"{r.name} {r.text}" for r in recipe.expect]}
        known = True
        for step in recipe.steps:
            row: dict[str, Any] = {"pass": step.name, "options": step.options()}
            if known:
                problems = unmatched(step, graph)
                if problems:
                    raise UserError(*problems)
                row["layers"] = [layer_name(n) for n in step.action.matches(graph)]
                try:
                    graph = _untrained(step).run(graph, ctx)
                    row |= _predict(graph, recipe, engine, path)
                except (PassFailed, UserError, ValueError) as e:
                    row["unknown"], known = f"cannot be told without running it: {e}", False
            made["stages"].append(row)
    return cache.plain(made)


def _untrained(step: Step):
    action = step.action
    if not hasattr(action, "epochs"):
        return action
    try:
        quick = replace(action, epochs=0)
        quick.check()
        return quick
    except ValueError:  # a pass that only trains leaves sizes as they are
        return _Nothing()


class _Nothing:
    def run(self, graph: Graph, ctx: Context) -> Graph:
        return graph


def _predict(graph: Graph, recipe: Recipe, engine: Engine, path: Path) -> dict:
    from . import lower
    lower(graph, path, **lower_options(recipe, graph))
    return {**report.counts(graph, recipe.model.bind), "bytes": os.path.getsize(path)}


def _file_of(name: str) -> Path | None:
    """The file that an option's text names, itself or as module:function."""
    if "." in name and os.path.isfile(name):
        return Path(name)
    from importlib.util import find_spec
    where, colon, function = name.partition(":")
    if not (colon and function.isidentifier() and all(part.isidentifier() for part in where.split("."))):
        return None
    try:
        spec = find_spec(where)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin and os.path.isfile(spec.origin) else None
