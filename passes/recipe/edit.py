"""What changes a recipe before it is read: `extends:`, `--set KEY=VALUE` and `--unset KEY`.

KEY is a path with dots, `passes.0.prune.weights.sparsity`. Names that hold dots themselves (passes, patterns) are
found where they exist; one that does not exist yet can be quoted: `passes.0.prune.weights.overrides.'fc.1'`.
"""
from __future__ import annotations

import os
from pathlib import Path

from .tree import Item, near, parse, read_yaml


def load_tree(path: str | os.PathLike, problems: list[str], above: tuple[Path, ...] = ()) -> Item | None:
    """The tree of a recipe with what it extends merged in: mappings by key, everything else replaced."""
    item = read_yaml(path, problems)
    if item is None or not isinstance(item.value, dict) or "extends" not in item.value:
        return item
    extends, here = item.value.pop("extends"), Path(path).resolve()
    parents = extends.value if isinstance(extends.value, list) else [extends]
    base: Item | None = None
    for parent in parents:
        if not isinstance(parent.value, str):
            problems.append(f"{parent.place}: extends: must be the path of a recipe, or a list of them")
            continue
        file = Path(os.path.normpath(Path(path).parent / parent.value))
        if file.resolve() in (*above, here):
            chain = " -> ".join(p.name for p in (*above, here, file.resolve()))
            problems.append(f"{parent.place}: extends: goes round in a circle ({chain})")
            continue
        if not file.is_file():
            beside = [str(p.relative_to(Path(path).parent)) for p in sorted(Path(path).parent.glob("*.y*ml"))]
            problems.append(f"{parent.place}: extends: no such file {str(file)!r}{near(parent.value, beside)}")
            continue
        found = load_tree(file, problems, (*above, here))
        if found is not None:
            base = found if base is None else merge(base, found)
    return item if base is None else merge(base, item)


def merge(base: Item, over: Item) -> Item:
    """`over` laid upon `base`: mappings are joined by key, all else is replaced."""
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    made = dict(base.value)
    for k, v in over.value.items():
        made[k] = merge(made[k], v) if k in made else v
    return Item(made, over.place, over.key)


def apply(tree: Item, sets: list[str], unsets: list[str], problems: list[str]) -> None:
    """Change the tree as `--set` (in order) and then `--unset` say."""
    for text in sets:
        key, eq, value = text.partition("=")
        place = f"--set {text}"
        if not eq or not key:
            problems.append(f"{place}: write KEY=VALUE, for example --set passes.0.prune.weights.sparsity=0.9")
            continue
        item = parse(value, place, problems) if value.strip() else Item(None, place, place)
        if item is not None:
            _move(item, place)
            _put(tree, key, item, place, problems)
    for key in unsets:
        _put(tree, key, None, f"--unset {key}", problems)


def _move(item: Item, place: str) -> None:
    item.place = item.key = place
    for inner in item.value.values() if isinstance(item.value, dict) else item.value if isinstance(item.value, list) else []:
        _move(inner, place)


def _put(tree: Item, key: str, new: Item | None, place: str, problems: list[str]) -> None:
    """Set (or with None remove) what `key` names."""
    at, rest = tree, key
    while True:
        name, rest = _step(at, rest)
        last = not rest
        if isinstance(at.value, list):
            if not name.isdigit() or int(name) > len(at.value) or (int(name) == len(at.value) and not (last and new)):
                problems.append(f"{place}: {name!r} is not an index of the list; it has 0 to {len(at.value) - 1}")
                return
            if last:
                i = int(name)
                at.value[i:i + 1] = [] if new is None else [new]
                return
            at = at.value[int(name)]
            continue
        if at.value is None and new is not None:
            at.value = {}
        if not isinstance(at.value, dict):
            problems.append(f"{place}: there is nothing below {at.value!r} to set")
            return
        if last:
            if new is not None:
                at.value[name] = new
            elif name in at.value:
                del at.value[name]
            else:
                problems.append(f"{place}: the recipe has no {name!r} there{near(name, at.value)}")
            return
        if name not in at.value:
            if new is None:
                problems.append(f"{place}: the recipe has no {name!r} there{near(name, at.value)}")
                return
            at.value[name] = Item({}, place, place)
        at = at.value[name]


def _step(at: Item, rest: str) -> tuple[str, str]:
    """The next name of a dotted path below `at`, and what is left of the path."""
    from .. import PASSES
    if rest[:1] in "'\"" and rest.find(rest[0], 1) > 0:
        end = rest.index(rest[0], 1)
        return rest[1:end], rest[end + 1:].removeprefix(".")
    known = [*at.value, *PASSES] if isinstance(at.value, dict) else []
    for k in sorted(known, key=len, reverse=True):
        if rest == k or rest.startswith(k + "."):
            return k, rest[len(k) + 1:]
    name, _, rest = rest.partition(".")
    return name, rest
