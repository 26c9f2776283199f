"""Targets as data: configs/targets/NAME.yaml says what a machine has; mistakes in a file are lines like those of recipes.

    find("arm64-cortex-a55") -> Target;  find("arm64") -> the default core, whose `name` says which
"""
from __future__ import annotations

import os
from pathlib import Path

from ...passes.errors import TargetError, UserError
from ...passes.recipe.model import Part, validated
from ...passes.recipe.target import Caches, Cycles, File, Peak, Target
from ...passes.recipe.tree import near, plain, read_yaml

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "targets"


def names() -> list[str]:
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


def read(path: Path) -> File:
    """A file, checked. Raises UserError with all that is wrong, each with its place."""
    problems: list[str] = []
    tree = read_yaml(os.fspath(path), problems)
    if tree is not None and not isinstance(tree.value, dict):
        problems.append(f"{tree.place}: a target is a mapping with description, arch, isa, ...")
    made = None
    if tree is not None and isinstance(tree.value, dict):
        parts: dict[tuple, type[Part]] = {("caches",): Caches, ("peak",): Peak, ("cycles",): Cycles}
        made = validated(tree, plain(tree), problems, File, parts)
    if problems or made is None:
        raise UserError(*problems)
    return made


def find(name: str) -> Target:
    """A target by name; one that says `same_as` is the one it names. Raises TargetError with the nearest name."""
    from ..devices import WAYS
    known = names()
    if name not in known:
        raise TargetError(f"no target {name!r}{near(name, known) or '; there is ' + ', '.join([*known, *WAYS.values()])}")
    found, asked = read(FOLDER / f"{name}.yaml"), name
    if found.same_as is not None:
        if found.same_as not in known:
            raise UserError(f"{FOLDER / name}.yaml: same_as: no target {found.same_as!r}{near(found.same_as, known)}")
        name = found.same_as
        found = read(FOLDER / f"{name}.yaml")
    return Target.model_validate({**found.model_dump(), "name": name, "asked": asked})
