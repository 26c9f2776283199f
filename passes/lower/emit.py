"""Emit: the lowered, planned Graph in engine form becomes a .mcc file. The format is described in kernels/core/file.h.

The same graph always gives the same bytes. Raw constants of 64 bytes or more stand at multiples of 64, so that the
engine uses them in place; the others fill the gaps between those.
"""
from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from ..graph import Graph, Node, Value
from . import storage
from .types import TYPE_NUMBERS

MAGIC, VERSION = b"MCC\x1a", 1
GRAPH, DATA, NOTE, PACKED, CHOICES = 1, 2, 3, 4, 5
MAX_RANK = 8
INT, FLOAT, STRING, INTS, FLOATS = range(5)


def emit(graph: Graph, path: str | os.PathLike, note: dict | None = None, entropy: bool = True) -> int:
    """Write `graph` to `path` and return its size in bytes.

    graph    engine ops only, all shapes known; Value.meta["offset"] (bytes, a multiple of 64) of every activation
             and graph.meta["arena"] as `plan` sets them.
    note     what the file says about itself: JSON, kept with it.
    entropy  False keeps indices and masks packed but not entropy coded: larger, and opened faster.
    The file appears at once or not at all. Raises ValueError naming the value or node that does not fit the format.
    """
    data = to_bytes(graph, note, entropy)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return len(data)


def to_bytes(graph: Graph, note: dict | None = None, entropy: bool = True) -> bytes:
    """The file that `emit` writes."""
    values = sorted(graph.values(), key=lambda v: "slice" in v.meta)  # a slice stands behind what it is a part of
    placed, data = _place([storage.store(v.data, v.dtype, v.meta, entropy) for v in values if v.data is not None])
    sections = [(GRAPH, _Writer(graph, values, placed).section()), (DATA, data)]
    if note is not None:
        sections.append((NOTE, json.dumps(note, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()))
    return _file(sections)


def _file(sections: list[tuple[int, bytes]]) -> bytes:
    """Header, table and sections; the data section starts at a multiple of 64."""
    at = 24 + 24 * len(sections)
    table, body = b"", b""
    for kind, content in sections:
        gap = -at % 64 if kind == DATA else 0
        body += bytes(gap) + content
        table += struct.pack("<IIQQ", kind, zlib.crc32(content), at + gap, len(content))
        at += gap + len(content)
    head = struct.pack("<4sIQI", MAGIC, VERSION, at, len(sections))
    return head + struct.pack("<I", zlib.crc32(head + bytes(4) + table)) + table + body


def _place(blobs: list[storage.Blob]) -> tuple[list[tuple[int, int, int]], bytes]:
    """Where each blob stands: (storage, offset in the data section, bytes); and the section. Equal blobs share a place."""
    places: dict[storage.Blob, int] = {}
    gaps: list[list[int]] = []  # [begin, end) between aligned blobs
    end = 0
    unique = list(dict.fromkeys(blobs))
    for blob in (b for b in unique if _alignment(b) == 64):
        start = end + -end % 64
        if start > end:
            gaps.append([end, start])
        places[blob], end = start, start + len(blob.bytes)
    for blob in sorted((b for b in unique if _alignment(b) != 64), key=lambda b: -len(b.bytes)):
        align, size = _alignment(blob), len(blob.bytes)
        for gap in gaps:
            start = gap[0] + -gap[0] % align
            if start + size <= gap[1]:
                places[blob], gap[0] = start, start + size
                break
        else:
            start = end + -end % align
            places[blob], end = start, start + size
    data = bytearray(end)
    for blob, start in places.items():
        data[start:start + len(blob.bytes)] = blob.bytes
    return [(b.storage, places[b], len(b.bytes)) for b in blobs], bytes(data)


def _alignment(blob: storage.Blob) -> int:
    """Of a blob in the file. A small raw one goes by its element, of which 8 is the largest."""
    if blob.storage != storage.RAW:
        return 1
    return 64 if len(blob.bytes) >= 64 else 8 if len(blob.bytes) % 8 == 0 else len(blob.bytes) & -len(blob.bytes)


class _Writer:
    """The graph section."""

    def __init__(self, graph: Graph, values: list[Value], placed: list[tuple[int, int, int]]):
        self.strings: dict[str, int] = {"": 0}
        blobs = iter(placed)
        ports = {id(v) for v in [*graph.inputs, *graph.outputs]}
        self.number = {v: i for i, v in enumerate(values)}
        self.body = _uv(len(values)) + b"".join(
            self.constant(v, next(blobs)) if v.data is not None else self.activation(v, id(v) in ports) for v in values)
        for v in graph.inputs:
            if v.data is not None:
                raise ValueError(f"input '{v.name}' is a constant")
        for listed in (graph.inputs, graph.outputs):
            self.body += _uv(len(listed)) + b"".join(_uv(self.number[v]) for v in listed)
        self.body += _uv(len(graph.nodes)) + b"".join(map(self.node, graph.nodes))
        arena = int(graph.meta.get("arena", 0))
        self.body += _uv(arena + -arena % 64)

    def section(self) -> bytes:
        texts = [s.encode() for s in self.strings]
        return _uv(len(texts)) + b"".join(_uv(len(t)) + t for t in texts) + self.body

    def string(self, text: str) -> bytes:
        if "\0" in text:
            raise ValueError(f"a name contains a NUL: {text!r}")
        return _uv(self.strings.setdefault(text, len(self.strings)))

    def head(self, v: Value, kind: int, name: str) -> bytes:
        if v.shape is None or any(not isinstance(d, (int, np.integer)) or d < 0 for d in v.shape):
            raise ValueError(f"'{v.name}': shape {v.shape} is not known; bind its symbolic dimensions")
        if len(v.shape) > MAX_RANK:
            raise ValueError(f"'{v.name}': rank {len(v.shape)}, the engine takes at most {MAX_RANK}")
        if v.dtype not in TYPE_NUMBERS:
            raise ValueError(f"'{v.name}': the engine has no type {v.dtype}")
        return self.string(name) + bytes([TYPE_NUMBERS[v.dtype], kind]) + _uv(len(v.shape)) + b"".join(map(_uv, v.shape))

    def activation(self, v: Value, named: bool) -> bytes:
        if "slice" in v.meta:
            whole, first = v.meta["slice"]
            return self.head(v, 2, v.name if named else "") + _uv(self.number[whole]) + _uv(first)
        offset = v.meta.get("offset")
        if offset is None or offset % 64:
            raise ValueError(f"'{v.name}' has no place in the arena (offset {offset})")
        return self.head(v, 0, v.name if named else "") + _uv(offset // 64)

    def constant(self, v: Value, place: tuple[int, int, int]) -> bytes:
        if tuple(v.shape) != tuple(np.asarray(v.data).shape):
            raise ValueError(f"'{v.name}': shape {v.shape}, its data {np.asarray(v.data).shape}")
        kind, offset, size = place
        return self.head(v, 1, v.name) + bytes([kind]) + _uv(offset) + _uv(size)

    def node(self, node: Node) -> bytes:
        ins = b"".join(_uv(0 if v is None else self.number[v] + 1) for v in node.inputs)
        outs = b"".join(_uv(self.number[v]) for v in node.outputs)
        attrs = [self.string(k) + self.attr(node, k, v) for k, v in sorted(node.attrs.items()) if v is not None]
        return b"".join([self.string(node.op), self.string(node.name), _uv(len(node.inputs)), ins,
                         _uv(len(node.outputs)), outs, _uv(len(attrs)), *attrs])

    def attr(self, node: Node, key: str, value) -> bytes:
        """Whole numbers are ints, a list with any float in it is floats."""
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, (bool, int, np.bool_, np.integer)):
            return bytes([INT]) + self.sv(node, key, int(value))
        if isinstance(value, (float, np.floating)):
            return bytes([FLOAT]) + _f32(value)
        if isinstance(value, str):
            return bytes([STRING]) + self.string(value)
        if isinstance(value, (list, tuple)):
            if all(isinstance(v, (bool, int, np.bool_, np.integer)) for v in value):
                return bytes([INTS]) + _uv(len(value)) + b"".join(self.sv(node, key, int(v)) for v in value)
            if all(isinstance(v, (int, float, np.integer, np.floating)) for v in value):
                return bytes([FLOATS]) + _uv(len(value)) + b"".join(map(_f32, value))
        raise ValueError(f"node '{node.name}' ({node.op}): the file has no form for attribute {key}={value!r}")

    def sv(self, node: Node, key: str, n: int) -> bytes:
        if not -1 << 63 <= n < 1 << 63:
            raise ValueError(f"node '{node.name}' ({node.op}): attribute {key}={n} does not fit 64 bits")
        return _uv(2 * n if n >= 0 else -2 * n - 1)


def _uv(n) -> bytes:
    n, out = int(n), bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _f32(x) -> bytes:
    return np.float32(x).tobytes()
