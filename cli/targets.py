"""`mcc targets`: the machines that mcc knows."""
from __future__ import annotations

import click

from .show import emit, json_option, table


@click.command()
@click.argument("name", required=False)
@json_option
def command(name, as_json):
    """List the targets that `mcc bench --target` takes; with NAME, all that is known of one."""
    from .arm64 import targets
    if name is not None:
        one = targets.find(name).model_dump(exclude_none=True)
        if as_json:
            emit({"schema": 1, **one})
            return
        for key, value in one.items():
            shown = f"0x{value:08x}" if key == "midr" else value
            if isinstance(value, dict):
                shown = ", ".join(f"{k} {v}" for k, v in value.items())
            click.echo(f"{key:<12} {' '.join(value) if isinstance(value, list) else shown}")
        return
    found = {n: targets.read(targets.FOLDER / f"{n}.yaml") for n in targets.names()}
    if as_json:
        emit({"schema": 1, "targets": [{"name": n, **t.model_dump(exclude_none=True)} for n, t in found.items()]})
        return
    table(["target", "ISA", "GHz", "what it is"],
          [[n, " ".join(t.isa), t.clock_ghz or "", t.description + (f": {t.same_as}" if t.same_as else "")]
           for n, t in found.items()], left=(0, 1, 3))
