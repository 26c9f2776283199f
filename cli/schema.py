"""`mcc schema`: the JSON Schema of recipes."""
from __future__ import annotations

import click


@click.command()
def command():
    """Print the JSON Schema of recipes, with the options of every pass. Point a YAML editor at it."""
    from ..passes.recipe.schema import schema
    from .show import emit
    emit(schema())
