"""YAML with places: a tree of Items, each of which knows the file, line and column it came from.

PyYAML composes nodes; this file turns them into values by the rules of YAML 1.2 where PyYAML keeps those of 1.1:
`1e-3` is a number, `on`, `off`, `yes` and `no` are text (the options that want true or false take them as such),
`1:30` and dates are text. Anchors, aliases and `<<` work; tags do not. Keys are text. All mistakes of a file are
collected, not only the first.
"""
from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

MOST_ITEMS = 100_000  # aliases of aliases grow without bound; a recipe never comes near this
_INT = re.compile(r"[-+]?[0-9][0-9_]*$")
_HEX = re.compile(r"0x[0-9a-fA-F]+$|0o[0-7]+$")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_ODD = {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}
_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass
class Item:
    """value: None, bool, int, float, str, list[Item] or dict[str, Item]; place: "file:line:col" of the value,
    key: of the key that names it (the value's own for list elements and the root)."""

    value: Any
    place: str
    key: str


def near(word: Any, words) -> str:
    """"; did you mean 'x'?" when one of the words is close, else ""."""
    found = get_close_matches(str(word), [str(w) for w in words], n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def plain(item: Item) -> Any:
    """The tree as ordinary Python data."""
    if isinstance(item.value, dict):
        return {k: plain(v) for k, v in item.value.items()}
    return [plain(v) for v in item.value] if isinstance(item.value, list) else item.value


def wrap(value: Any, place: str) -> Item:
    """Ordinary Python data as a tree, all of it at one place."""
    if isinstance(value, dict):
        value = {str(k): wrap(v, place) for k, v in value.items()}
    elif isinstance(value, (list, tuple)):
        value = [wrap(v, place) for v in value]
    return Item(value, place, place)


def at(item: Item, path, key: bool = False) -> str:
    """The place of what `path` leads to, or of the last thing on the way that exists; key: of its name."""
    for step in path:
        inner = item.value
        if isinstance(inner, dict) and step in inner or isinstance(inner, list) and isinstance(step, int) and step < len(inner):
            item = inner[step]
        else:
            return item.place
    return item.key if key else item.place


def scalar(text: str) -> Any:
    """What an unquoted word means."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if _INT.match(text):
        return int(text)
    if _HEX.match(text):
        return int(text, 0)
    if _FLOAT.match(text):
        return float(text)
    return _ODD.get(text.lower(), text)


def read_yaml(path: str | os.PathLike, problems: list[str]) -> Item | None:
    """The tree of a file; None when it cannot be read or is not YAML. Mistakes are added to `problems`."""
    name = os.fspath(path)
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        here = [p.name for p in Path(path).parent.glob("*.y*ml")] if Path(path).parent.is_dir() else []
        problems.append(f"{name}: no such file{near(Path(path).name, here)}")
        return None
    except IsADirectoryError:
        problems.append(f"{name}: is a folder; give the recipe's .yaml file")
        return None
    except UnicodeDecodeError as e:
        problems.append(f"{name}: not UTF-8 text (byte {e.start}); save the file as UTF-8")
        return None
    except OSError as e:
        problems.append(f"{name}: {e.strerror}")
        return None
    return parse(text, name, problems)


def parse(text: str, name: str, problems: list[str]) -> Item | None:
    """Like read_yaml, for text that is at hand; `name` stands in the places."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        indents = ((i, line[:len(line) - len(line.lstrip(" \t"))]) for i, line in enumerate(text.splitlines(), 1))
        tabs = [(i, indent.index("\t")) for i, indent in indents if "\t" in indent]
        if tabs:
            problems += [f"{name}:{i}:{c + 1}: a tab in the indentation; YAML takes only spaces there" for i, c in tabs]
        elif "'\\t'" in (e.problem or ""):
            problems.append(f"{where}: a tab where YAML takes only spaces")
        else:
            what = " ".join(filter(None, [e.problem, f"({e.context})" if e.context else ""]))
            problems.append(f"{where}: not valid YAML: {what}")
        return None
    except yaml.YAMLError as e:
        problems.append(f"{name}: not valid YAML: {' '.join(str(e).split())}")
        return None
    if root is None:
        problems.append(f"{name}:1:1: the recipe is empty; `mcc recipes ls` names some to start from")
        return None
    return _Builder(name, problems).build(root)


class _Builder:
    def __init__(self, name: str, problems: list[str]):
        self.name, self.problems, self.count = name, problems, 0
        self.open: set[int] = set()

    def place(self, node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    def build(self, node, key: str | None = None) -> Item:
        place = self.place(node)
        self.count += 1
        if id(node) in self.open or self.count > MOST_ITEMS:
            if self.count <= MOST_ITEMS:
                self.problems.append(f"{key or place}: an alias inside of its own anchor")
            elif self.count == MOST_ITEMS + 1:
                self.problems.append(f"{place}: too large for a recipe (more than {MOST_ITEMS} values)")
            return Item(None, place, key or place)
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
            self.problems.append(f"{place}: tags ({node.tag.replace('tag:yaml.org,2002:', '!!')}) are not used in recipes")
            return Item(None, place, key or place)
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                value: Any = self.mapping(node)
            elif isinstance(node, yaml.SequenceNode):
                value = [self.build(n) for n in node.value]
            else:
                value = self.text(node, place)
        finally:
            self.open.discard(id(node))
        return Item(value, place, key or place)

    def mapping(self, node) -> dict[str, Item]:
        made: dict[str, Item] = {}
        merged: dict[str, Item] = {}
        for k, v in node.value:
            place = self.place(k)
            if not isinstance(k, yaml.ScalarNode):
                self.problems.append(f"{place}: a key must be a word, not a list or a mapping")
            elif k.value == "<<" and k.style is None:
                inner = self.build(v)
                for part in inner.value if isinstance(inner.value, list) else [inner]:
                    if isinstance(part.value, dict):
                        merged = {**part.value, **merged}
                    else:
                        self.problems.append(f"{place}: << takes a mapping or a list of mappings")
            elif k.value in made:
                self.problems.append(f"{place}: duplicate key {k.value!r}; it stands already at "
                                     f"{made[k.value].key.removeprefix(self.name + ':')}")
            else:
                made[k.value] = self.build(v, place)
        return {**merged, **made}

    def text(self, node, place: str) -> Any:
        def variable(m: re.Match) -> str:
            if m.group() == "$$":
                return "$"
            value = os.environ.get(m[1]) or m[2]
            if value is None:
                self.problems.append(f"{place}: the environment has no {m[1]}; set it, or write ${{{m[1]}:-default}}")
            return value or ""
        value = _VARIABLE.sub(variable, node.value) if "$" in node.value else node.value
        return scalar(value) if node.style is None else value
