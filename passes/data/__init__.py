"""Where samples come from: one line of a recipe, three splits of tensors.

    data = open_data({"source": "fashion-mnist"}, seed=0)
    for inputs, labels in data.batches("train", 64, seed=epoch):     # {"x": float32 [64, 1, 28, 28]}, int64 [64]
        ...

Splits: `train`; `test`, which is never trained or calibrated on; `calibration`, drawn from train unless the recipe
says otherwise. A source is a function that returns a `Source`; its keyword arguments are the recipe's options.

Options that every source takes:

    batch        samples in a training batch (read by the pipeline)
    names        new names for the source's columns, in order, when the model calls its inputs otherwise
    epoch        samples in one pass over train: that many are drawn anew each epoch from a larger set
    limit        keep only the first so many samples of each split: {train: 1000, test: 500}
    calibration  how many train samples to calibrate on (a number), or a data source of its own
"""
from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

from ..errors import UserError

SPLITS = ("train", "test", "calibration")
SOURCES = {
    "fashion-mnist": "builtin:fashion_mnist",
    "mnist": "builtin:mnist",
    "digits": "builtin:digits",
    "photos": "builtin:photos",
    "sentences": "builtin:sentences",
    "imagefolder": "files:imagefolder",
    "npz": "files:npz",
    "csv": "files:csv",
    "jsonl": "files:jsonl",
}
COMMON = ("source", "batch", "names", "epoch", "limit", "calibration")


@dataclass
class Table:
    """Samples of one split. columns: by input name, things with `len()`, `take(indices) -> array [k, ...]` and
    `digest() -> bytes`; labels: int64 or float32 [n] or [n, ...], None when there are none."""

    columns: dict
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def pick(self, indices) -> Table:
        return Table({k: Picked(c, indices) for k, c in self.columns.items()},
                     None if self.labels is None else self.labels[indices])


@dataclass
class Source:
    """What a source function returns. classes: names of the labels' values, in order; [] when there are none."""

    train: Table
    test: Table
    classes: list[str] = field(default_factory=list)


@dataclass
class Array:
    """A column held in memory; uint8 images become float32 `(x / 255 - mean) / std` when they are taken."""

    data: np.ndarray
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.data)

    def take(self, indices) -> np.ndarray:
        return self.data[indices] if self.mean is None else scale(self.data[indices], self.mean, self.std)

    def digest(self) -> bytes:
        text = f"{self.data.dtype}{self.data.shape}{self.mean}{self.std}".encode()
        return hashlib.sha256(text + np.ascontiguousarray(self.data).tobytes()).digest()


@dataclass
class Picked:
    """Some rows of another column."""

    column: Any
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices) -> np.ndarray:
        return self.column.take(self.rows[indices])

    def digest(self) -> bytes:
        return hashlib.sha256(self.column.digest() + np.asarray(self.rows, "<i8").tobytes()).digest()


def scale(images: np.ndarray, mean, std) -> np.ndarray:
    """uint8 [n, c, h, w] to float32 `(x / 255 - mean) / std`, mean and std per channel or one for all."""
    shape = (1, -1, 1, 1)
    mean, std = (np.asarray(v, np.float32).reshape(shape) for v in (mean, std))
    return (images.astype(np.float32) / np.float32(255) - mean) / std


class Data:
    """Samples in three splits, as torch tensors.

    inputs       names of the model inputs it feeds, in order
    classes      names of the classes, [] when the labels are not classes or there are none
    fingerprint  hash of the samples and of the options that shape what is drawn
    """

    def __init__(self, source: Source, options: dict | None = None, seed: int = 0, calibration: Table | None = None,
                 epoch: int | None = None):
        self.tables = {"train": source.train, "test": source.test, "calibration": calibration or source.train}
        self.classes, self.options, self.seed, self.epoch = source.classes, options or {}, seed, epoch
        self.inputs = list(source.train.columns)

    def size(self, split: str) -> int:
        """Samples that one pass over the split gives."""
        n = len(self._table(split))
        return min(n, self.epoch) if split == "train" and self.epoch else n

    def labelled(self, split: str = "test") -> bool:
        return self._table(split).labels is not None

    def batches(self, split: str, batch: int, seed: int | None = None, limit: int | None = None,
                part: tuple[int, int] = (0, 1)) -> Iterator[tuple]:
        """Yields ({input name: tensor [b, ...]}, labels [b] or None). With a seed the order is shuffled by it, without
        one it is the stored order; `limit` stops after so many samples. The last batch may be smaller, but a
        shuffled one never has a single sample (batch normalisation cannot train on it) unless that is all there is.
        part (i, n): of every batch only sample i and every n-th after it, or all of one with fewer than n."""
        import torch

        table, n = self._table(split), self.size(split)
        order = np.arange(len(table)) if seed is None else np.random.default_rng(seed).permutation(len(table))
        order = order[: n if limit is None else min(n, limit)]
        for i in range(0, len(order), batch):
            rows = order[i: i + batch]
            if seed is not None and len(rows) == 1 and i > 0 and batch > 1:
                return
            rows = rows if len(rows) < part[1] else rows[part[0]::part[1]]
            inputs = {k: torch.from_numpy(np.ascontiguousarray(c.take(rows))) for k, c in table.columns.items()}
            yield inputs, None if table.labels is None else torch.from_numpy(table.labels[rows])

    def bind(self, names: list[str]) -> Data:
        """Feed the model inputs `names`: columns with those names, or all columns in order under new names.
        Raises UserError when neither fits. Returns self."""
        if set(names) <= set(self.inputs):
            keep = {k: k for k in names}
        elif len(names) == len(self.inputs):
            keep = dict(zip(self.inputs, names))
        else:
            raise UserError(f"data: the model's inputs are {', '.join(names)}, but the source gives "
                            f"{', '.join(self.inputs)}; give the columns these names with `names: [...]`")
        if list(keep) != list(keep.values()) or list(keep) != self.inputs:
            for split, t in self.tables.items():
                self.tables[split] = Table({new: t.columns[old] for old, new in keep.items()}, t.labels)
            self.inputs = list(names)
        return self

    @cached_property
    def fingerprint(self) -> str:
        h = hashlib.sha256(json.dumps([self.options, self.seed, self.classes], sort_keys=True, default=str).encode())
        for split in SPLITS:
            table = self.tables[split]
            for column in table.columns.values():
                h.update(column.digest())
            if table.labels is not None:
                h.update(np.ascontiguousarray(table.labels).tobytes())
        return h.hexdigest()

    def _table(self, split: str) -> Table:
        if split not in self.tables:
            raise ValueError(f"no split {split!r}; there are {', '.join(SPLITS)}")
        return self.tables[split]


def open_data(spec: dict | str, seed: int = 0, inputs: list[str] | None = None) -> Data:
    """The data that a recipe's `data:` describes (a mapping, or just the source's name).

    seed    draws the calibration samples; splits do not depend on it
    inputs  the model's input names: the samples come under these names (see Data.bind)
    Raises UserError for an unknown source or option, data that is missing or broken, names that do not fit.
    """
    spec = {"source": spec} if isinstance(spec, str) else dict(spec)
    source, common = _read(spec)
    if common.get("limit"):
        source = _limited(source, common["limit"])
    data = Data(source, {k: v for k, v in spec.items() if k != "batch"}, seed,
                _calibration(common.get("calibration"), source, seed), common.get("epoch"))
    if common.get("names"):
        data.bind(list(common["names"]))
    return data.bind(list(inputs)) if inputs else data


def options(source: str) -> dict[str, inspect.Parameter]:
    """The options a source takes besides the common ones, by name. Raises UserError for an unknown source."""
    return {k: p for k, p in inspect.signature(_function(source)).parameters.items() if p.kind is not p.VAR_KEYWORD}


def _function(name: str):
    if name in SOURCES:
        module, function = SOURCES[name].split(":")
        return getattr(import_module(f".{module}", __name__), function)
    if ":" in name:
        module, function = name.split(":", 1)
        try:
            return getattr(import_module(module), function)
        except (ImportError, AttributeError) as e:
            raise UserError(f"data: cannot import {name}: {e}; give an importable module:function") from None
    near = get_close_matches(name, SOURCES, n=1)
    raise UserError(f"data: no source named {name!r}" + (f"; did you mean {near[0]!r}?" if near else
                    f"; there are {', '.join(SOURCES)}, or your own module:function"))


def _read(spec: dict) -> tuple[Source, dict]:
    if not isinstance(spec.get("source"), str):
        raise UserError(f"data: `source` is missing; it is one of {', '.join(SOURCES)}, or your own module:function")
    name, own = spec["source"], {k: v for k, v in spec.items() if k not in COMMON}
    function, problems = _function(name), []
    params = inspect.signature(function).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in params.values())
    for key in own:
        if key not in params and not free:
            near = get_close_matches(key, [*params, *COMMON], n=1)
            problems.append(f"data: {name}: unknown option {key!r}" + (f"; did you mean {near[0]!r}?" if near else
                            f"; it takes {', '.join([*params, *COMMON[1:]])}"))
    for key, p in params.items():
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD and key not in own:
            problems.append(f"data: {name}: option {key!r} is missing")
    if problems:
        raise UserError(*problems)
    source = function(**own)
    if not isinstance(source, Source):
        source = _source(name, source)
    for split in ("train", "test"):
        if len(getattr(source, split)) == 0:
            raise UserError(f"data: {name}: the {split} split is empty")
    return source, {k: spec[k] for k in COMMON[1:] if k in spec}


def _source(name: str, made) -> Source:
    """What a user's function returned: {"train": (inputs, labels), "test": (inputs, labels), "classes": [...]} with
    inputs an array or a dict of arrays."""
    try:
        tables = {}
        for split in ("train", "test"):
            x, y = made[split]
            x = x if isinstance(x, dict) else {"x": x}
            tables[split] = Table({k: Array(np.asarray(v)) for k, v in x.items()}, as_labels(y))
        return Source(**tables, classes=list(made.get("classes", [])))
    except (KeyError, TypeError, ValueError) as e:
        raise UserError(f"data: {name} must return {{'train': (inputs, labels), 'test': (inputs, labels)}} with inputs an "
                        f"array or a dict of arrays, or a mcc.passes.data.Source ({type(e).__name__}: {e})") from None


def as_labels(y) -> np.ndarray | None:
    """Labels as int64 (classes) or float32 (targets)."""
    return None if y is None else np.asarray(y).astype(np.float32 if np.asarray(y).dtype.kind == "f" else np.int64)


def _limited(source: Source, limit) -> Source:
    limit = {"train": limit, "test": limit} if isinstance(limit, int) else limit
    train, test = (t.pick(np.arange(min(len(t), limit.get(s, len(t)))))
                   for s, t in (("train", source.train), ("test", source.test)))
    return Source(train, test, source.classes)


def _calibration(spec, source: Source, seed: int) -> Table:
    if spec is None or isinstance(spec, int):
        rows = np.random.default_rng(seed).permutation(len(source.train))
        return source.train.pick(rows[:spec])
    return _read({"source": spec} if isinstance(spec, str) else spec)[0].train
