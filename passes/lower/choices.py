"""Choices: the kernels that `mcc lower --tune` found the fastest, written into a .mcc file (kernels/core/file.h, section 5)."""
from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from .emit import CHOICES, DATA, GRAPH, NOTE, _file
from .read import _sections


def write_choices(path: str | os.PathLike, machine: tuple[int, int, str], kernels: dict[int, str]) -> None:
    """Put `kernels`, {number of a node: name of a kernel}, into the file at `path`, in place of what it has; none takes them out.
    They hold for `machine` alone (mcc.kernels.machine). Packed weights, which depend on them, go."""
    isa, names, cpu = machine
    data = Path(path).read_bytes()
    found = _sections(data)
    sections = [(kind, data[at:at + size]) for kind in (GRAPH, DATA, NOTE) if kind in found for at, size in [found[kind]]]
    if kernels:
        head = struct.pack("<IIII", isa, names, zlib.crc32(sections[0][1]), len(kernels)) + cpu.encode() + b"\0"
        sections.append((CHOICES, head + b"".join(struct.pack("<I", node) + kernel.encode() + b"\0"
                                                  for node, kernel in sorted(kernels.items()))))
    Path(path).write_bytes(_file(sections))
