"""The engine as the commands and the pipeline use it: open a file, feed it, time it. kernels/ meets passes/ only here."""
from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..passes.errors import UserError


def session(path, threads: int = 1, isa: str | None = None):
    """A Session of a .mcc file. Raises UserError in place of the engine's own errors."""
    from ..kernels import EngineError, Session
    try:
        return Session(os.fspath(path), threads=threads, isa=isa)
    except (EngineError, ValueError) as e:
        raise UserError(f"{path}: {str(e).removeprefix(f'{path}: ')}") from None
    except OSError as e:
        raise UserError(f"{path}: {e.strerror or e}") from None


def filled(ports, seed: int = 0) -> dict:
    """Arrays for every input: normal numbers, ones for integers (a token, an open mask) and true."""
    import numpy as np
    rng = np.random.default_rng(seed)
    made = {}
    for p in ports:
        dtype = np.dtype("float32" if p.dtype == "bfloat16" else p.dtype)
        made[p.name] = rng.standard_normal(p.shape).astype(dtype) if dtype.kind == "f" else np.ones(p.shape, dtype)
    return made


def times(call, seconds: float = 0.5, least: int = 5, most: int = 2000, warm: int = 2) -> list[float]:
    """Milliseconds of repeated calls: at least `least`, then until `seconds` are over or there are `most`."""
    for _ in range(warm):
        call()
    made: list[float] = []
    end = time.perf_counter() + seconds
    while len(made) < least or (time.perf_counter() < end and len(made) < most):
        t = time.perf_counter()
        call()
        made.append((time.perf_counter() - t) * 1e3)
    return made


def quantiles(samples: list[float]) -> dict:
    """{"median", "p10", "p90", "runs"} of times."""
    s = sorted(samples)

    def pick(q: float) -> float:
        return s[round(q * (len(s) - 1))]
    return {"median": pick(0.5), "p10": pick(0.1), "p90": pick(0.9), "runs": len(s)}


def version() -> str:
    """Hash of the engine's machine code."""
    import hashlib

    from .. import kernels
    return hashlib.sha256(Path(kernels._core.__file__).read_bytes()).hexdigest()[:16]


def evaluate(path, batches: Iterable[dict], threads: int = 1) -> Iterator[list]:
    """Run a .mcc file over batches {input: array or tensor [n, ...]}; the file's own batch size may be any.
    Yields lists of output arrays [n, ...]."""
    import numpy as np
    opened = session(path, threads)
    ports = opened.inputs
    size = max(1, ports[0].shape[0]) if ports and ports[0].shape else 1
    names = [p.name for p in opened.outputs]
    for inputs in batches:
        arrays = {}
        for p in ports:
            if p.name not in inputs:
                raise UserError(f"{path}: the data has no input {p.name!r}; it gives {', '.join(inputs)}")
            a = np.asarray(inputs[p.name])
            a = np.ascontiguousarray(a, "float32" if p.dtype == "bfloat16" else p.dtype)
            if a.ndim != len(p.shape) or a.shape[1:] != p.shape[1:]:
                raise UserError(f"{path}: input {p.name!r} takes {list(p.shape)}, the data gives {list(a.shape)}")
            arrays[p.name] = a
        count, made = len(next(iter(arrays.values()))), []
        for start in range(0, count, size):
            part = {k: a[start:start + size] for k, a in arrays.items()}
            n = len(next(iter(part.values())))
            if n < size:  # the last rows are filled up with the last one
                part = {k: np.concatenate([a, np.repeat(a[-1:], size - n, 0)]) for k, a in part.items()}
            out = opened.run(part)
            made.append([out[name][:n] for name in names])
        yield [np.concatenate(rows) for rows in zip(*made)]


def for_recipe(recipe):
    """The pipeline's Engine: files are lowered as the recipe says and timed on this machine."""
    from ..passes import lower
    from ..passes.pipeline import Engine, lower_options
    threads = recipe.target.threads

    def measure(graph, path) -> dict:
        lower(graph, path, **lower_options(recipe, graph))
        opened = session(path, threads)
        inputs = filled(opened.inputs)
        spent = quantiles(times(lambda: opened.run(inputs), seconds=0.4))
        return {"bytes": os.path.getsize(path), "latency_ms": spent["median"], "arena_bytes": opened.facts["arena_bytes"],
                "weight_bytes": opened.facts["weight_bytes"]}

    def race(paths) -> list[float]:
        opened = [session(p, threads) for p in paths]
        inputs = [filled(o.inputs) for o in opened]
        taken: list[list[float]] = [[] for _ in paths]
        end = time.perf_counter() + 1.0
        while time.perf_counter() < end or len(taken[0]) < 5:
            for o, x, spent in zip(opened, inputs, taken):
                spent += times(lambda o=o, x=x: o.run(x), seconds=0.02, least=1, most=50, warm=1)
        return [quantiles(spent)["median"] for spent in taken]

    return Engine(measure, lambda path, batches: evaluate(path, batches, threads), f"{version()}-{threads}", race)
