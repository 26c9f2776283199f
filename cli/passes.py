"""`mcc passes`: what there is, and what each takes."""
from __future__ import annotations

import click

from .show import emit, json_option, table


@click.command()
@click.argument("name", required=False)
@json_option
def command(name, as_json):
    """List the passes; with NAME, its options with their types and defaults."""
    from .. import passes
    from ..passes.errors import UserError
    from ..passes.recipe.options import MISSING, fields_of, words
    from ..passes.recipe.schema import option_docs, summary

    if name is None:
        about = {n: summary(passes.find(n)) for n in passes.PASSES}
        if as_json:
            emit({"schema": 1, "passes": about})
        else:
            table(["pass", "what it does"], [[n, a] for n, a in about.items()], left=(0, 1))
        return
    try:
        cls = passes.find(name)
    except KeyError as e:
        raise UserError(f"mcc: {e.args[0]}") from None
    docs = option_docs(cls)
    rows = [{"option": k, "takes": words(hint), "default": None if default is MISSING else default, "about": docs.get(k, "")}
            for k, (hint, default) in fields_of(cls).items()]
    if as_json:
        emit({"schema": 1, "pass": name, "about": summary(cls), "options": rows})
        return
    click.echo(f"{name}: {summary(cls)}\n")
    table(["option", "takes", "default", ""],
          [[r["option"], r["takes"], "-" if r["default"] is None else r["default"], r["about"]]
                                               for r in rows], left=(0, 1, 2, 3))
