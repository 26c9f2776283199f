"""`mcc recipes`: the recipes that ship."""
from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import click

from ..passes.errors import UserError
from .show import emit, json_option, table

FOLDER = Path(__file__).resolve().parents[1] / "configs"


def shipped() -> dict[str, Path]:
    """Name -> file of the recipes that ship."""
    return {p.stem: p for p in sorted(FOLDER.glob("*.yaml"))}


def locate(name: str) -> Path:
    """A recipe by path, or by the name of one that ships."""
    path = Path(name)
    if path.exists() or path.suffix in (".yaml", ".yml") or "/" in name:
        return path
    known = shipped()
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    raise UserError(f"{name}: no such file, and no recipe of that name ships"
                    + (f"; did you mean {near[0]!r}?" if near else "; `mcc recipes ls` names those that do"))


def about(path: Path) -> str:
    """The comment at the top of a recipe."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


@click.group()
def command():
    """The recipes that ship."""


@command.command("ls")
@json_option
def ls(as_json):
    """List them; `mcc compress NAME` takes the names."""
    if as_json:
        emit({"schema": 1, "recipes": [{"name": n, "path": str(p), "about": about(p)} for n, p in shipped().items()]})
    else:
        table(["recipe", "what it does"], [[n, about(p)] for n, p in shipped().items()], left=(0, 1))


@command.command("show")
@click.argument("name")
def show(name):
    """Print one."""
    click.echo(locate(name).read_text(), nl=False)


@command.command("cp")
@click.argument("name")
@click.argument("to", default=".", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def cp(name, to, force):
    """Copy one to change it: a file, or a folder to put it in."""
    source = locate(name)
    to = to / source.name if to.is_dir() else to
    if to.exists() and not force:
        raise UserError(f"{to} is there already; choose another name, or --force")
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(source.read_text())
    click.echo(str(to))
