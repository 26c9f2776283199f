"""Read: a .mcc file as a Graph. The second reader of the format (the first is kernels/core/file.c), written from its
description in kernels/core/file.h; it accepts what the engine accepts, apart from what only the ops themselves know.
"""
from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

from ..errors import UserError
from ..graph import Graph, Node, Value
from . import storage
from .emit import CHOICES, DATA, FLOAT, FLOATS, GRAPH, INT, INTS, MAGIC, MAX_RANK, NOTE, STRING, VERSION
from .types import TYPE_BYTES, TYPE_NAMES

MAX_BYTES = 1 << 34


class _Bad(Exception):
    pass


def read(path: str | os.PathLike | bytes) -> Graph:
    """The Graph of a .mcc file, in engine form (kernels/core/ops.def names its ops).

    Value.meta: "offset" of activations, "slice" (see plan.py) of slices; "storage", "stored_bytes" and, by storage,
    "codebook" or "quantized" of constants.
    graph.meta: "arena" (bytes), "note" (the file's JSON), "tuned" (kernels chosen by measurement: see `_choices`),
    "bytes" (of the file). Tensors without a name in the file are called t<number>.
    Raises UserError, one line, when the file is not whole.
    """
    name = "<bytes>" if isinstance(path, bytes) else str(path)
    try:
        data = path if isinstance(path, bytes) else Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{name}: {error.strerror}") from None
    try:
        graph = _graph(data)
    except _Bad as error:
        raise UserError(f"{name}: {error}") from None
    graph.name = "graph" if isinstance(path, bytes) else Path(path).stem
    return graph


def _graph(data: bytes) -> Graph:
    sections = _sections(data)
    (at, size), (data_at, data_size) = sections[GRAPH], sections[DATA]
    graph = _Parser(data[at:at + size], data, data_at, data_size).graph()
    graph.meta["bytes"] = len(data)
    if NOTE in sections:
        at, size = sections[NOTE]
        try:
            graph.meta["note"] = json.loads(data[at:at + size])
        except ValueError:
            raise _Bad("the note is not JSON") from None
    if CHOICES in sections:
        at, size = sections[CHOICES]
        graph.meta["tuned"] = _choices(data[at:at + size])
    return graph


def _choices(section: bytes) -> dict:
    """{"cpu": the machine that they hold for, "kernels": {number of a node: kernel}}"""
    try:
        (count,) = struct.unpack_from("<I", section, 12)
        cpu, at = _text(section, 16)
        kernels = {}
        for _ in range(count):
            (node,) = struct.unpack_from("<I", section, at)
            kernels[node], at = _text(section, at + 4)
    except (struct.error, ValueError):
        raise _Bad("damaged in the choices of kernels") from None
    return {"cpu": cpu, "kernels": kernels}


def _text(section: bytes, at: int) -> tuple[str, int]:
    """The text that begins at `at`, and where the next thing does."""
    end = section.index(b"\0", at)
    return section[at:end].decode(), end + 1


def _sections(data: bytes) -> dict[int, tuple[int, int]]:
    if len(data) < 24 or data[:4] != MAGIC:
        raise _Bad("not a .mcc file")
    version, size, count, crc = struct.unpack_from("<IQII", data, 4)
    if version != VERSION:
        raise _Bad(f"format version {version}; this mcc reads version {VERSION}")
    if size != len(data):
        raise _Bad(f"truncated or extended: the header says {size} bytes, the file has {len(data)}")
    head = 24 + 24 * count
    if count > 64 or head > len(data):
        raise _Bad(f"{count} sections")
    if zlib.crc32(data[:20] + bytes(4) + data[24:head]) != crc:
        raise _Bad("damaged: the header's checksum is wrong")
    known, spans = {}, []
    for i in range(count):
        kind, crc, at, size = struct.unpack_from("<IIQQ", data, 24 + 24 * i)
        if at > len(data) or size > len(data) - at or (size and at < head):
            raise _Bad(f"section {i} lies outside the file")
        if zlib.crc32(data[at:at + size]) != crc:
            raise _Bad(f"damaged: the checksum of section {i} is wrong")
        if size:
            spans.append((at, at + size))
        if kind in (GRAPH, DATA, NOTE, CHOICES):
            if kind in known:
                raise _Bad(f"section kind {kind} twice")
            known[kind] = at, size
    end = head
    for begin, stop in [*sorted(spans), (len(data), len(data))]:
        if begin < end:
            raise _Bad("sections overlap")
        if data[end:begin].strip(b"\0"):
            raise _Bad("damaged: bytes outside the sections are not zero")
        end = stop
    if GRAPH not in known or DATA not in known:
        raise _Bad("the graph or data section is missing")
    if known[DATA][0] % 64:
        raise _Bad("the data section is not aligned")
    return known


class _Parser:
    """The graph section, front to back."""

    def __init__(self, section: bytes, file: bytes, data_at: int, data_size: int):
        self.s, self.at = section, 0
        self.file, self.data_at, self.data_size = file, data_at, data_size

    def graph(self) -> Graph:
        self.strings = [self.utf8(self.take(self.count())) for _ in range(self.count())]
        if not self.strings or self.strings[0] or any("\0" in s for s in self.strings):
            raise _Bad("graph: damaged in the strings")
        tensors: list[Value] = []
        for i in range(self.count(4)):
            tensors.append(self.tensor(i, tensors))
        inputs = [tensors[self.below(len(tensors))] for _ in range(self.count())]
        if any(v.data is not None or "slice" in v.meta for v in inputs) or len(set(inputs)) != len(inputs):
            raise _Bad("graph: an input is a constant or a slice, or there twice")
        outputs = [tensors[self.below(len(tensors))] for _ in range(self.count())]
        if any("slice" in v.meta for v in outputs):
            raise _Bad("graph: an output is a slice")
        made = {v for v in tensors if v.data is not None} | set(inputs)
        nodes = [self.node(tensors, made) for _ in range(self.count(5))]
        arena = self.uv()
        if self.at != len(self.s) or arena % 64 or arena > MAX_BYTES:
            raise _Bad("graph: damaged at its end")
        for v in tensors:
            if v.data is None and v.meta["offset"] + _bytes(v) > arena:
                raise _Bad(f"graph: '{v.name}' lies outside the arena")
        if not made.issuperset(outputs):
            raise _Bad("graph: an output is never made")
        return Graph(inputs, outputs, nodes, meta={"arena": arena})

    def tensor(self, number: int, before: list[Value]) -> Value:
        name = self.text() or f"t{number}"
        dtype, kind = TYPE_NAMES.get(self.byte()), self.byte()
        rank = self.below(MAX_RANK + 1)
        shape = tuple(self.uv() for _ in range(rank))
        if dtype is None or kind > 2:
            raise _Bad(f"graph: tensor {number}: unknown type or kind")
        v = Value(name, dtype, shape)
        product = TYPE_BYTES[dtype]
        for d in shape:
            product *= d or 1
        if product > MAX_BYTES:
            raise _Bad(f"graph: '{name}' is larger than 16 GiB")
        if kind == 0:
            v.meta["offset"] = self.uv() * 64
            return v
        if kind == 2:
            whole, first = before[self.below(number)], self.uv()
            if not shape or whole.data is not None or "slice" in whole.meta or whole.dtype != dtype \
                    or whole.shape[:-1] != shape[:-1] or len(whole.shape) != rank or first + shape[-1] > whole.shape[-1]:
                raise _Bad(f"graph: tensor {number} is no slice of another")
            v.meta |= {"offset": whole.meta["offset"] + first * TYPE_BYTES[dtype], "slice": (whole, first)}
            return v
        how, at, size = self.byte(), self.uv(), self.uv()
        if how >= len(storage.NAMES):
            raise _Bad(f"graph: '{name}': unknown storage {how}")
        if at > self.data_size or size > self.data_size - at:
            raise _Bad(f"graph: '{name}' lies outside the data section")
        start = self.data_at + at
        if how == storage.RAW and start % (64 if size >= 64 else TYPE_BYTES[dtype]):
            raise _Bad(f"graph: '{name}' is not aligned")
        try:
            v.data, meta = storage.load(storage.Blob(how, self.file[start:start + size]), dtype, shape)
        except storage.Damaged as error:
            raise _Bad(f"constant '{name}': {error}") from None
        v.meta = meta | {"storage": storage.NAMES[how], "stored_bytes": size}
        return v

    def node(self, tensors: list[Value], made: set[Value]) -> Node:
        op, name = self.text(), self.text()
        refs = [self.below(len(tensors) + 1) for _ in range(self.count())]
        inputs = [tensors[r - 1] if r else None for r in refs]
        if not made.issuperset(v for v in inputs if v is not None):
            raise _Bad(f"graph: node '{name}' reads a tensor before it is made")
        outputs = [tensors[self.below(len(tensors))] for _ in range(self.count())]
        if made.intersection(outputs) or len(set(outputs)) != len(outputs):
            raise _Bad(f"graph: node '{name}' writes a tensor that has a value")
        made.update(outputs)
        _check_places(name, inputs, outputs)
        attrs = {}
        for _ in range(self.count(2)):
            key = self.text()
            attrs[key] = self.attr()
        _check_slices(op, name, inputs, outputs)
        return Node(op, inputs, outputs, attrs, name)

    def attr(self):
        kind = self.byte()
        if kind == INT:
            return self.sv()
        if kind == FLOAT:
            return self.f32()
        if kind == STRING:
            return self.text()
        if kind == INTS:
            return [self.sv() for _ in range(self.count())]
        if kind == FLOATS:
            return [self.f32() for _ in range(self.count(4))]
        raise _Bad(f"graph: unknown attribute kind {kind}")

    def take(self, n: int) -> bytes:
        if n > len(self.s) - self.at:
            raise _Bad("graph: truncated")
        self.at += n
        return self.s[self.at - n:self.at]

    def byte(self) -> int:
        return self.take(1)[0]

    def uv(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    break
                return value
        raise _Bad("graph: a number is too large")

    def sv(self) -> int:
        n = self.uv()
        return -(n >> 1) - 1 if n & 1 else n >> 1

    def f32(self) -> float:
        return struct.unpack("<f", self.take(4))[0]

    def utf8(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise _Bad("graph: a name is not UTF-8") from None

    def text(self) -> str:
        return self.strings[self.below(len(self.strings))]

    def below(self, limit: int) -> int:
        n = self.uv()
        if n >= limit:
            raise _Bad("graph: a number is out of range")
        return n

    def count(self, least: int = 1) -> int:
        """A count of things that take at least `least` bytes each."""
        n = self.uv()
        if n > (len(self.s) - self.at) // least:
            raise _Bad("graph: truncated")
        return n


def _bytes(v: Value) -> int:
    size = TYPE_BYTES[v.dtype]
    for d in v.shape:
        size *= d
    return size


def _check_places(name: str, inputs, outputs) -> None:
    """An output may take the place of an input exactly (in place), or lie apart; outputs lie apart."""
    def overlap(a, b):
        a, b = (v.meta.get("slice", [v])[0] for v in (a, b))
        start, other = a.meta["offset"], b.meta["offset"]
        return _bytes(a) and _bytes(b) and start < other + _bytes(b) and other < start + _bytes(a)
    for i, out in enumerate(outputs):
        for v in inputs:
            if v is not None and v.data is None and "slice" not in v.meta and overlap(v, out) \
                    and (v.meta["offset"] != out.meta["offset"] or "slice" in out.meta):
                raise _Bad(f"graph: node '{name}': output {i} partly overlaps an input")
        if any(overlap(out, o) for o in outputs[:i]):
            raise _Bad(f"graph: node '{name}': outputs overlap")


def _check_slices(op: str, name: str, inputs, outputs) -> None:
    """Slices are read by a concat into the tensor whose slices they are, where they are."""
    first = 0
    for v in inputs:
        if v is not None and "slice" in v.meta and (op != "concat" or v.meta["slice"] != (*outputs[:1], first)):
            raise _Bad(f"graph: node '{name}' reads a slice in another way than a concat in place")
        first += v.shape[-1] if v is not None and v.shape else 0
