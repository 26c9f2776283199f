"""`mcc run`: one file, some arrays, the results."""
from __future__ import annotations

import math
from pathlib import Path

import click

from . import show
from .files import IMAGES, arrays, fed, image, known, numbers


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-i", "--input", "inputs", multiple=True, required=True, metavar="FILE",
              help=".npz with an array per input, .npy or an image for the only input, or NAME=FILE.npy once per input.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.npz", help="Write the outputs there.")
@click.option("--threads", default=1, show_default=True, help="Threads of the engine, 0: as many as pay.")
@click.option("--mean", default="0", show_default=True, help="For images: subtracted after scaling, a number or one per channel.")
@click.option("--std", default="1", show_default=True, help="For images: divided by after that.")
@click.option("--scale", default=255.0, show_default=True, help="For images: pixels are divided by it first.")
@show.json_option
def command(model, inputs, output, threads, mean, std, scale, as_json):
    """Run MODEL.mcc. More samples than the file's batch are run one batch after another."""
    import numpy as np

    from ..passes.errors import UserError
    from .engine import evaluate, session
    known(model, (".mcc",))
    if output is not None and output.suffix.lower() != ".npz":
        raise UserError(f"{output}: outputs are written as .npz")
    ports = session(model, threads).inputs
    given: dict = {}
    for text in inputs:
        name, eq, file = text.partition("=")
        name, file = (name, file) if eq and not Path(text).exists() else ("", text)
        path = known(Path(file), (".npy", ".npz", *IMAGES))
        if path.suffix.lower() in IMAGES:
            found = image(path, ports, numbers(mean, "--mean"), numbers(std, "--std"), scale)
        else:
            found = arrays(path)
        if name and len(found) == 1:
            found = {name: next(iter(found.values()))}
        given |= found
    batch = fed(given, ports, inputs[0] if len(inputs) == 1 else "--input")
    made = dict(zip((p.name for p in session(model).outputs), next(iter(evaluate(model, [batch], threads))))) if ports else \
        session(model, threads).run({})
    if output is not None:
        part = output.with_name(f".part-{output.name}")
        np.savez(part, **made)
        part.replace(output)
    if as_json:
        show.emit({"schema": 1, "model": str(model), "output": output and str(output), "outputs": {
            k: {"shape": list(a.shape), "dtype": a.dtype.name, **({"values": _finite(a.tolist())} if a.size <= 10_000 else {})}
            for k, a in made.items()}})
        return
    for name, a in made.items():
        print(f"{name}: {a.dtype.name} {list(a.shape)}")
        print(_some(a))
    if output is not None:
        print(f"written: {output}")


def _some(a) -> str:
    """A few numbers; for rows of scores the five largest."""
    import numpy as np
    if a.ndim == 2 and 5 < a.shape[1] and a.dtype.kind == "f":
        rows = []
        for i, row in enumerate(a[:8]):
            top = np.argsort(-row, kind="stable")[:5]
            rows.append(f"  [{i}] largest " + ", ".join(f"{k}: {row[k]:.4g}" for k in top))
        return "\n".join(rows + (["  ..."] if len(a) > 8 else []))
    flat = a.reshape(-1)
    return "  " + " ".join(f"{x:.5g}" for x in flat[:12].tolist()) + (" ..." if flat.size > 12 else "")


def _finite(x):
    """JSON has no infinities: they become null."""
    if isinstance(x, list):
        return [_finite(v) for v in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x
