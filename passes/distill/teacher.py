"""Who is followed: the recipe's earlier models, model files, or several of them; and their outputs, kept on disk.

The outputs of a teacher do not change from epoch to epoch, so each sample's are computed once and kept, under the
teacher's digest and the sample's own bytes: shuffling and resuming cost nothing, and an augmented sample is simply new.
"""
from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from pathlib import Path

import numpy as np
import torch

from ..base import Context
from ..errors import UserError
from ..graph import Graph
from ..train import outputs_of


def teachers(names: str | list[str], ctx: Context, who: str) -> list[Graph]:
    """original (the model before the first pass), previous (before the pass that ran last) or the path of a model file."""
    found = []
    for name in [names] if isinstance(names, str) else names:
        if name == "original":
            found.append(ctx.original)
        elif name == "previous":
            if ctx.previous is None:
                raise UserError(f"{who}: teacher: previous, but no pass ran before it; use teacher: original")
            found.append(ctx.previous)
        else:
            from .. import load
            found.append(load(name))
    return found


class Outputs:
    """One output of a teacher for batches of inputs; `store` is a file that keeps them (None: in no file)."""

    def __init__(self, graph: Graph, output: int, store: Path | None = None):
        self.module, self.output = graph.module().eval(), output
        self.names = [v.name for v in graph.inputs]
        self.rows = None if store is None else _Rows(store)

    def __call__(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if self.rows is None:
            return self._run(inputs)
        keys = _keys([inputs[n] for n in self.names if n in inputs])
        rows = self.rows.get(keys)
        missing = [i for i, row in enumerate(rows) if row is None]
        if missing:
            got = self._run({k: v[missing] for k, v in inputs.items()}).numpy()
            self.rows.put([keys[i] for i in missing], got)
            for i, row in zip(missing, got):
                rows[i] = row
        return torch.from_numpy(np.stack(rows))

    def _run(self, inputs):
        with torch.no_grad():
            return outputs_of(self.module, inputs)[self.output]


def store_for(graph: Graph, output: int) -> Path:
    """The file of a teacher's outputs, in the user's cache."""
    from ..cache import digest
    from ..data.fetch import cache
    return cache() / "teachers" / f"{digest(graph)[:32]}-{output}.sqlite"


def _keys(columns: list[torch.Tensor]) -> list[bytes]:
    arrays = [np.ascontiguousarray(c.numpy()) for c in columns]
    keys = []
    for i in range(len(arrays[0])):
        h = hashlib.blake2b(digest_size=16)
        for a in arrays:
            h.update(str(a.shape[1:]).encode() + a[i].tobytes())
        keys.append(h.digest())
    return keys


class _Rows:
    """float32 rows by key in an SQLite file; several processes may share it, and one that is killed leaves it whole."""

    def __init__(self, path: Path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.db = self._open(path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # damaged: it is only a cache
                os.replace(path, path.with_suffix(".damaged"))
                self.db = self._open(path)
        except (OSError, sqlite3.Error) as e:
            raise UserError(f"{path}: the teacher's outputs cannot be kept: {e}; make room, or set cache: false") from None

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=60)
        db.execute("create table if not exists rows (key blob primary key, shape text, data blob)")
        return db

    def get(self, keys: list[bytes]) -> list[np.ndarray | None]:
        found = {}
        for i in range(0, len(keys), 500):
            part = keys[i:i + 500]
            marks = ",".join("?" * len(part))
            for key, shape, data in self.db.execute(f"select key, shape, data from rows where key in ({marks})", part):
                found[key] = np.frombuffer(data, np.float32).reshape([int(d) for d in shape.split(",") if d])
        return [found.get(k) for k in keys]

    def put(self, keys: list[bytes], rows: np.ndarray) -> None:
        shape = ",".join(map(str, rows.shape[1:]))
        made = [(k, shape, np.ascontiguousarray(r, np.float32).tobytes()) for k, r in zip(keys, rows)]
        with contextlib.suppress(sqlite3.OperationalError), self.db:  # a full disk: these are computed again
            self.db.executemany("insert or ignore into rows values (?, ?, ?)", made)
