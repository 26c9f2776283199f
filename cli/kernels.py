"""`mcc kernels`: what the engine is made of."""
from __future__ import annotations

import click

from .show import emit, json_option, table


@click.command()
@json_option
def command(as_json):
    """List every micro-kernel of this build, best first in its family, and whether this CPU runs it."""
    from .. import kernels
    found = kernels.kernels()
    if as_json:
        emit({"schema": 1, "isa": kernels.isa(), "ops": kernels.ops(),
              "kernels": [{"family": k.family, "name": k.name, "isa": k.isa, "runs": k.runs} for k in found]})
        return
    table(["family", "kernel", "needs", "here"], [[k.family, k.name, k.isa, "yes" if k.runs else "no"] for k in found],
          left=(0, 1, 2, 3))
    click.echo(f"\nthis CPU: {kernels.isa()}; ops: {len(kernels.ops())}")
