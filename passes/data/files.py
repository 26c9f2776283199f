"""Samples from a person's own files: folders of images, .npz, .csv, .jsonl.

Where a set comes as one file, `test` is a second file or the share that becomes the test split; the draw depends on
`split_seed` only, so the same samples stay unseen whatever else the recipe changes.
"""
from __future__ import annotations

import csv as csvlib
import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from . import Array, Source, Table, as_labels, scale
from .builtin import _list, split

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


MEAN: Any = (0.485, 0.456, 0.406)
STD: Any = (0.229, 0.224, 0.225)


@dataclass
class Images:
    """A column of image files, decoded when taken: float32 [k, channels, size, size]."""

    paths: list[Path]
    size: tuple[int, int]
    crop: float
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices) -> np.ndarray:
        return scale(np.stack([self._read(self.paths[i]) for i in indices]), self.mean, self.std)

    def digest(self) -> bytes:
        h = hashlib.sha256(repr((self.size, self.crop, self.channels, self.mean, self.std)).encode())
        for p in self.paths:
            h.update(p.name.encode() + hashlib.sha256(p.read_bytes()).digest())
        return h.digest()

    def _read(self, path: Path) -> np.ndarray:
        """uint8 [c, h, w]: the shorter side to size / crop, then the centre."""
        from PIL import Image, UnidentifiedImageError

        try:
            image = Image.open(path).convert("RGB" if self.channels == 3 else "L")
        except (OSError, UnidentifiedImageError) as e:
            raise UserError(f"data: {path}: not a readable image ({e}); remove or replace it") from None
        (h, w), (iw, ih) = self.size, image.size
        f = max(h / ih, w / iw) / self.crop
        image = image.resize((max(w, round(iw * f)), max(h, round(ih * f))), Image.Resampling.BILINEAR)
        left, top = (image.size[0] - w) // 2, (image.size[1] - h) // 2
        pixels = np.asarray(image.crop((left, top, left + w, top + h)))
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def imagefolder(path: str, size: int | list = 224, crop: float = 0.875, channels: int = 3,
                mean: list | float = MEAN, std: list | float = STD,
                test: float = 0.2, split_seed: int = 0) -> Source:
    """path/train/CLASS/*.jpg and path/test/CLASS/*.jpg (or val/), or path/CLASS/*.jpg of which the share `test`
    becomes the test split. Images without class folders have no labels. x float32 [n, channels, h, w]."""
    root = _existing(path, "imagefolder", folder=True)
    if channels not in (1, 3):
        raise UserError(f"data: imagefolder: channels is 1 or 3, not {channels}")
    if not 0 < crop <= 1:
        raise UserError(f"data: imagefolder: crop is above 0 and at most 1, not {crop}")
    h, w = (size, size) if isinstance(size, int) else size
    if channels == 1 and isinstance(mean, tuple):
        mean, std = 0.449, 0.226

    def table(paths, labels):
        return Table({"x": Images(paths, (h, w), crop, channels, _list(mean), _list(std))}, labels)

    folders = [next((root / n for n in names if (root / n).is_dir()), None) for names in (("train",), ("test", "val"))]
    if all(folders):
        classes = sorted({d.name for f in folders for d in f.iterdir() if d.is_dir()})
        train, held = (table(*_listing(f, classes)) for f in folders)
        return Source(train, held, classes)
    classes = sorted(d.name for d in root.iterdir() if d.is_dir())
    paths, labels = _listing(root, classes)
    train, held = (table([paths[i] for i in rows], None if labels is None else labels[rows])
                   for rows in _split(len(paths), labels, test, split_seed))
    return Source(train, held, classes)


def _listing(root: Path, classes: list[str]) -> tuple[list[Path], np.ndarray | None]:
    found = sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGES and p.is_file())
    if not found:
        raise UserError(f"data: imagefolder: no images ({' '.join(IMAGES)}) under {root}")
    if not classes:
        return found, None
    stray = [p for p in found if p.parent == root]
    if stray:
        raise UserError(f"data: imagefolder: {stray[0]} stands beside the class folders {', '.join(classes[:5])}; "
                        "put it into one")
    return found, np.array([classes.index(p.relative_to(root).parts[0]) for p in found], np.int64)


def npz(path: str, labels: str = "labels", test: float | str = 0.2, split_seed: int = 0, mean: list | float | None = None,
        std: list | float = 1.0) -> Source:
    """Arrays by input name, first axis = samples; the array called `labels`, if there, holds the labels. test: the
    share that becomes the test split, or a second .npz. With `mean`, uint8 images [n, c, h, w] become
    (x / 255 - mean) / std."""
    def read(p):
        file = _existing(p, "npz")
        try:
            with np.load(file, allow_pickle=False) as z:
                arrays = {k: z[k] for k in z.files}
        except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as e:
            raise UserError(f"data: npz: {file}: {e}") from None
        y = as_labels(arrays.pop(labels, None))
        lengths = {k: len(v) if v.ndim else 0 for k, v in arrays.items()} | ({} if y is None else {labels: len(y)})
        if not arrays or len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise UserError(f"data: npz: {file}: arrays need the same number of samples on their first axis, got "
                            f"{', '.join(f'{k}: {n}' for k, n in lengths.items()) or 'none'}")
        wrap = (lambda v: Array(v)) if mean is None else (lambda v: Array(v, _list(mean), _list(std)))
        return Table({k: wrap(v) for k, v in arrays.items()}, y)

    return _two(read, path, test, split_seed)


def csv(path: str, inputs: dict | list | str, labels: str | None = None, test: float | str = 0.2, split_seed: int = 0,
        tokenizer: str | None = None, length: int = 128, delimiter: str = ",") -> Source:
    """A file with a header line. See `_rows` for `inputs` and `labels`."""
    def read(p):
        file = _existing(p, "csv")
        with open(file, newline="", encoding="utf-8-sig") as f:
            return file, list(csvlib.DictReader(f, delimiter=delimiter))
    return _rows("csv", read, path, inputs, labels, test, split_seed, tokenizer, length)


def jsonl(path: str, inputs: dict | list | str, labels: str | None = None, test: float | str = 0.2, split_seed: int = 0,
          tokenizer: str | None = None, length: int = 128) -> Source:
    """One JSON object a line. See `_rows` for `inputs` and `labels`."""
    def read(p):
        file, rows = _existing(p, "jsonl"), []
        for i, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError as e:
                    raise UserError(f"data: {file}:{i}:{e.colno}: {e.msg}") from None
                if not isinstance(rows[-1], dict):
                    raise UserError(f"data: {file}:{i}: a line must be one JSON object, got {type(rows[-1]).__name__}")
        return file, rows
    return _rows("jsonl", read, path, inputs, labels, test, split_seed, tokenizer, length)


def _rows(kind, read, path, inputs, labels, test, split_seed, tokenizer, length) -> Source:
    """inputs: {input name: column or [columns]}, or a list of numeric columns that make the input `x`. Columns of numbers (or, in
    jsonl, of lists of numbers) stand side by side as float32. A single column of text becomes token numbers through
    `tokenizer` (a tokenizer.json), `length` long, as input_ids, attention_mask and token_type_ids. labels: a column;
    text there are class names, whole numbers classes, other numbers targets."""
    from .text import encode

    def cell(file, i, row, column):
        if column not in row or row[column] is None:
            raise UserError(f"data: {file}: sample {i + 1} has no {column!r}; it has {', '.join(map(str, row))}")
        return row[column]

    def table(p):
        file, rows = read(p)
        if not rows:
            raise UserError(f"data: {file} has no samples")
        columns = {}
        for name, wanted in (inputs.items() if isinstance(inputs, dict) else [("x", inputs)]):
            wanted = [wanted] if isinstance(wanted, str) else list(wanted)
            values = [[cell(file, i, r, c) for c in wanted] for i, r in enumerate(rows)]
            try:
                columns[name] = Array(np.stack([np.concatenate([np.asarray(v, np.float32).reshape(-1) for v in row])
                                                for row in values]))
            except ValueError as e:
                if len(wanted) > 1 or not isinstance(values[0][0], str):
                    raise UserError(f"data: {file}: {', '.join(wanted)}: {e}; inputs are numbers, or one column of "
                                    "text") from None
                if not tokenizer:
                    raise UserError(f"data: {file}: column {wanted[0]!r} is text; give `tokenizer:` (a tokenizer.json)") from None
                columns.update({k: Array(v) for k, v in encode([row[0] for row in values], tokenizer, length).items()})
        return Table(columns, np.array([cell(file, i, r, labels) for i, r in enumerate(rows)]) if labels else None)

    source = _two(table, path, test, split_seed)
    if labels:
        source.train.labels, source.test.labels, source.classes = _classes(source.train.labels, source.test.labels)
    return source


def _classes(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Text or numbers as labels, and the class names: numbers stay, text becomes its place in the sorted names."""
    def both(form: Callable[[np.ndarray], np.ndarray], names: list[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
        return form(train), form(test), names

    try:
        numbers = [a.astype(np.float64) for a in (train, test)]
    except ValueError:
        names = sorted({str(v) for v in np.concatenate([train, test])})
        return both(lambda a: np.array([names.index(str(v)) for v in a], np.int64), names)
    if all((a == np.rint(a)).all() and (a >= 0).all() for a in numbers):
        top = int(max(a.max() for a in numbers))
        return both(lambda a: a.astype(np.float64).astype(np.int64), [str(i) for i in range(top + 1)] if top < 100_000 else [])
    return both(lambda a: a.astype(np.float64).astype(np.float32), [])


def _two(read, path: str, test: float | str, seed: int) -> Source:
    """Train and test from two files, or from one by share."""
    if isinstance(test, str):
        return Source(read(path), read(test))
    whole = read(path)
    return Source(*(whole.pick(rows) for rows in _split(len(whole), whole.labels, test, seed)))


def _split(n: int, labels: np.ndarray | None, test: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stratified where labels are classes of at least two samples each, else plain."""
    if not (isinstance(test, (int, float)) and 0 < test < 1):
        raise UserError(f"data: test is a share between 0 and 1 or a second file, not {test!r}")
    if n < 2:
        raise UserError("data: one sample cannot be split into train and test; give a second file as `test:`")
    classes = labels is not None and labels.ndim == 1 and labels.dtype.kind in "iU"
    if classes and np.unique(labels, return_counts=True)[1].min() > 1:
        parts = split(labels, test, seed)
        if all(len(p) for p in parts):
            return parts
    rows = np.random.default_rng(seed).permutation(n)
    cut = min(n - 1, max(1, round(n * (1 - test))))
    return rows[:cut], rows[cut:]


def _existing(path: str, kind: str, folder: bool = False) -> Path:
    p = Path(path).expanduser()
    if not (p.is_dir() if folder else p.is_file()):
        raise UserError(f"data: {kind}: no {'folder' if folder else 'file'} {path} (looked in {Path.cwd()})")
    return p
