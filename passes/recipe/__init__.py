"""Recipes: a YAML file becomes a checked list of passes, or a list of all that is wrong with it.

    recipe = read("configs/lenet5.yaml", sets=["passes.0.prune.weights.sparsity=0.9"])

Every mistake is one line, `file:line:column: what: what is accepted; did you mean ...`, and all are reported at once
(UserError). What needs the model or the data (files, factories, layer patterns) is checked by `pipeline.prepare`.
"""
from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError
from .expect import Rule, rule
from .model import Model, Target, checked
from .tree import Item, at, near, plain, wrap


@dataclass
class Step:
    """One entry of `passes:`: the recipe's name of the pass, the pass itself, and the entry's options with places."""

    name: str
    action: Any
    item: Item

    def options(self) -> dict:
        """All options, the defaults too."""
        from dataclasses import asdict
        return asdict(self.action)


@dataclass
class Recipe:
    """A recipe that has passed its check. `raw` is the resolved recipe (extends, --set and variables applied)."""

    path: str
    tree: Item
    raw: dict
    name: str
    model: Model
    data: dict | None
    metric: str | None
    loss: str | None
    train: dict | None
    steps: list[Step]
    target: Target
    expect: list[Rule]
    output: Path
    seed: int
    on_no_gain: str = "note"
    overrides: list[str] = field(default_factory=list)

    def place(self, *path) -> str:
        return at(self.tree, path)

    def find(self, file: str) -> Path | None:
        """An input file, looked for from the current folder, then from the recipe's; None when it is in neither."""
        file = os.path.expanduser(file)
        return next((p for p in (Path(file), Path(self.path).parent / file) if p.exists()), None)


def read(path: str | os.PathLike, sets: list[str] | tuple = (), unsets: list[str] | tuple = (),
         output: str | None = None) -> Recipe:
    """The recipe in a file, with `--set` and `--unset` applied. Raises UserError with all that is wrong."""
    from .edit import apply, load_tree
    problems: list[str] = []
    tree = load_tree(path, problems)
    if tree is None:
        raise UserError(*problems)
    if not isinstance(tree.value, dict):
        raise UserError(*problems, f"{tree.place}: a recipe is a mapping with model, data, passes, ...")
    apply(tree, list(sets), list(unsets), problems)
    made = _check(os.fspath(path), tree, problems)
    if any(": extends: " in p for p in problems):  # what the lost part would have brought is not missing as well
        problems = [p for p in problems if not p.endswith("' is missing")]
    if problems or made is None:
        raise UserError(*sorted(dict.fromkeys(problems), key=_order))
    made.overrides = [*(f"--set {s}" for s in sets), *(f"--unset {u}" for u in unsets)]
    if output is not None:
        made.output = Path(output)
    return made


def _order(line: str) -> tuple:
    """Mistakes stand in the order of the file; those without a place come first."""
    m = re.match(r"(.*?):(\d+):(\d+): ", line)
    return (m[1], int(m[2]), int(m[3])) if m else ("", 0, 0)


def _check(path: str, tree: Item, problems: list[str]) -> Recipe | None:
    raw = plain(tree)
    schema = checked(tree, raw, problems)
    base = Path(path).parent
    steps = _steps(tree.value.get("passes"), base, problems)
    data = _data(tree, base, problems)
    train = _train(tree.value.get("train"), problems)
    metric = _named(tree, "metric", problems)
    loss = _named(tree, "loss", problems)
    rules = _rules(tree.value.get("expect"), metric, problems)
    if schema is None:
        return None
    _model(tree, schema.model, problems)
    if data is None:
        for key in ("train", "metric"):
            if tree.value.get(key) is not None and tree.value[key].value is not None:
                problems.append(f"{tree.value[key].key}: {key}: needs `data:`, which the recipe does not have")
    name = schema.name or Path(path).stem
    return Recipe(path, tree, raw, name, schema.model, data, metric, loss, train, steps, schema.target, rules,
                  Path(schema.output or Path("build") / name), schema.seed, schema.on_no_gain)


def _steps(item: Item | None, base: Path, problems: list[str]) -> list[Step]:
    from .. import PASSES, find
    steps: list[Step] = []
    for entry in item.value if item is not None and isinstance(item.value, list) else []:
        if isinstance(entry.value, str):
            entry = Item({entry.value: Item(None, entry.place, entry.place)}, entry.place, entry.key)
        if not isinstance(entry.value, dict) or not entry.value:
            problems.append(f"{entry.place}: passes: each entry is `- NAME: {{options}}`")
            continue
        if len(entry.value) > 1:
            extra = list(entry.value.values())[1]
            problems.append(f"{extra.key}: passes: one pass an entry; put a dash before {list(entry.value)[1]!r}, "
                            "or indent it below the pass if it is an option")
            continue
        name, options = next(iter(entry.value.items()))
        if name not in PASSES:
            hint = near(name, PASSES) or "; there are " + ", ".join(PASSES)
            problems.append(f"{options.key}: passes: unknown pass {name!r}{hint}")
            continue
        action = _action(name, find(name), options, base, problems)
        if action is not None:
            steps.append(Step(name, action, options))
    return steps


def _action(name: str, cls, item: Item, base: Path, problems: list[str]):
    """The pass with its options, or None after saying what is wrong with them."""
    from .options import MISSING, fields_of
    known = fields_of(cls)
    if item.value is not None and not isinstance(item.value, dict):
        problems.append(f"{item.place}: {name}: options are a mapping, {{{', '.join(list(known)[:3])}, ...}}")
        return None
    given = item.value or {}
    values, before = _fit(name, given, known, base, problems), len(problems)
    for key, (_, default) in known.items():
        if default is MISSING and key not in given:
            problems.append(f"{item.key}: {name}: option {key!r} is missing")
    if values is None or len(problems) > before:
        return None
    try:
        action = cls(**values)
        action.check()
    except ValueError as e:
        text = str(e)
        option = min((k for k in given if k in text), key=lambda k: text.index(k), default=None)
        problems.append(f"{given[option].place if option else item.key}: {name}: {text}")
        return None
    return action


def _fit(what: str, given: dict[str, Item], known: dict, base: Path, problems: list[str], free: bool = False,
         word: str = "option") -> dict | None:
    """The values of options, converted; None when one does not fit."""
    from .options import Problem, fit
    values, good = {}, True
    for key, inner in given.items():
        if key not in known:
            if free:
                values[key] = plain(inner)
                continue
            problems.append(f"{inner.key}: {what}: unknown {word} {key!r}"
                            f"{near(key, known) or '; it takes ' + (', '.join(known) or 'none')}")
            good = False
            continue
        try:
            values[key] = fit(_near_file(plain(inner), base), known[key][0])
        except Problem as e:
            deeper = "".join(f".{s}" for s in e.path)
            place = at(inner, e.path, key=str(e).startswith("unknown"))
            problems.append(f"{place}: {what}: {key}{deeper if str(e).startswith('must') else ':'} {e}")
            good = False
    return values if good else None


def _near_file(value: Any, base: Path) -> Any:
    """A path that exists beside the recipe and not from the current folder, as found there."""
    if isinstance(value, str) and ("/" in value or "." in value) and len(value) < 4096 and "\n" not in value:
        user = os.path.expanduser(value)
        if not os.path.exists(user) and (base / user).exists():
            return str(base / user)
    return value


def _data(tree: Item, base: Path, problems: list[str]) -> dict | None:
    """`data:` with its options checked against the source's arguments; None when there is none or it is wrong."""
    item = tree.value.get("data")
    if item is None or item.value is None:
        return None
    if isinstance(item.value, str):
        item = Item({"source": item}, item.place, item.key)
    return _source(item, base, problems, "data") if isinstance(item.value, dict) else {}


def _source(item: Item, base: Path, problems: list[str], what: str) -> dict:
    from .. import data as sources
    from .options import MISSING, arguments_of
    given = dict(item.value)
    source = given.pop("source", None)
    if source is None or not isinstance(source.value, str):
        problems.append(f"{source.place if source else item.key}: {what}: `source` must be one of "
                        f"{', '.join(sources.SOURCES)}, or your own module:function")
        return {}
    made: dict[str, Any] = {"source": source.value}
    if ":" in source.value:
        look_beside(base)
    try:
        function = sources._function(source.value)
    except UserError as e:
        problems += [f"{source.place}: {p}" for p in e.problems]
        return made
    known, free = arguments_of(function)
    common = {k: v for k, v in _COMMON.items() if k not in ("calibration",)}
    if "calibration" in given:
        inner = given.pop("calibration")
        if isinstance(inner.value, (str, dict)):
            if isinstance(inner.value, str):
                inner = Item({"source": inner}, inner.place, inner.key)
            made["calibration"] = _source(inner, base, problems, f"{what}.calibration")
        elif isinstance(inner.value, int) and not isinstance(inner.value, bool):
            made["calibration"] = inner.value
        else:
            problems.append(f"{inner.place}: {what}: calibration must be a whole number (of train samples) or a data source")
    values = _fit(f"{what}: {source.value}", given, {**known, **common}, base, problems, free)
    for key, (_, default) in known.items():
        if default is MISSING and key not in given:
            problems.append(f"{item.key}: {what}: {source.value}: option {key!r} is missing")
    path = given.get("path")
    if (path is not None and isinstance(path.value, str) and source.value in sources.SOURCES
            and not os.path.exists(os.path.expanduser(_near_file(path.value, base)))):
        problems.append(f"{path.place}: {what}: {source.value}: no such file or folder {path.value!r} "
                        f"(looked in the current folder{'' if str(base) == '.' else ' and in ' + str(base)})")
    return {**made, **(values or {})}


_COMMON: dict[str, tuple[Any, Any]] = {
    "batch": (int, 128), "names": (list[str], None), "epoch": (int, None), "limit": (int | dict[str, int], None),
    "calibration": (Any, None),
}


def _train(item: Item | None, problems: list[str]) -> dict | None:
    if item is None or item.value is None:
        return None
    if not isinstance(item.value, dict):
        return {}
    from ..train import Training
    from .options import fields_of
    values = _fit("train", item.value, fields_of(Training), Path(), problems)
    return {} if values is None else values


def _named(tree: Item, key: str, problems: list[str]) -> str | None:
    """`metric:` or `loss:`, one of the names there are."""
    item = tree.value.get(key)
    if item is None or not isinstance(item.value, str):
        return None
    from importlib import import_module
    where, table = {"metric": ("metrics", "METRICS"), "loss": ("train", "LOSSES")}[key]
    names: dict = getattr(import_module(f"..{where}", __name__), table)
    if item.value not in names:
        hint = near(item.value, names) or "; there are " + ", ".join(names)
        problems.append(f"{item.place}: {key}: unknown {key} {item.value!r}{hint}")
        return None
    return item.value


def _rules(item: Item | None, metric: str | None, problems: list[str]) -> list[Rule]:
    from ..metrics import METRICS
    made = []
    for name, inner in (item.value if item is not None and isinstance(item.value, dict) else {}).items():
        try:
            made.append(rule(name, inner.value, inner.place, METRICS, metric))
        except ValueError as e:
            place = inner.key if str(e).startswith(("unknown figure", "the recipe")) else inner.place
            problems.append(f"{place}: expect: {name}: {e}")
    return made


def _model(tree: Item, model: Model, problems: list[str]) -> None:
    item = tree.value["model"]
    given = [k for k in ("factory", "onnx", "pt2") if getattr(model, k)]
    if len(given) != 1:
        problems.append(f"{item.key}: model: needs one of factory, onnx, pt2; it has {' and '.join(given) or 'none'}")
        return
    if isinstance(item.value, dict):
        for key, kinds in (("args", "factory"), ("checkpoint", "factory"), ("input", "factory"), ("inputs", "factory"),
                           ("batch", "onnx pt2")):
            if key in item.value and given[0] not in kinds.split():
                problems.append(f"{item.value[key].key}: model: {key} belongs to {' or '.join(kinds.split())}, not to {given[0]}")
    if given[0] == "factory":
        if ":" not in (model.factory or ""):
            problems.append(f"{at(tree, ('model', 'factory'))}: model: factory must be module:function, not {model.factory!r}")
        if (model.input is None) == (not model.inputs):
            problems.append(f"{item.key}: model: a factory needs `input: {{shape: [N, ...]}}`, or `inputs:` by name")


def look_beside(base: Path) -> None:
    """Let `module:function` name a module in the current folder or beside the recipe (after all installed ones)."""
    import sys
    for folder in (str(Path.cwd()), str(base.resolve())):
        if folder not in sys.path:
            sys.path.append(folder)


__all__ = ["Recipe", "Rule", "Step", "look_beside", "near", "read", "wrap"]
