"""Instructions of an arm64 program, counted under qemu-user by our plugin (count.c): exact, repeatable, by region.

    counted = count([runner, "m.mcc", "--ops", "--runs", "1"], "cortex-a76")
    counted[3].instructions, counted[3].classes       # of region 3
"""
from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...passes.recipe.target import Caches
from . import build, decode

QEMU = "qemu-aarch64"
INSTALL = "apt-get install qemu-user (its static build, qemu-user-static, loads no plugins)"
LINE = 64  # bytes of a cache line, as count.c has them
Block = tuple[int, ...]  # instruction words


@dataclass
class Region:
    """Blocks and how often each ran; lines: of 64 bytes that each level of simulated caches fetched, the last number those
    that went back to memory; empty where no caches were asked for."""

    blocks: Counter[Block] = field(default_factory=Counter)
    lines: tuple[int, ...] = ()

    @property
    def instructions(self) -> int:
        return sum(len(b) * n for b, n in self.blocks.items())

    @property
    def classes(self) -> dict[str, int]:
        """Instructions by decode.CLASSES."""
        made: Counter[str] = Counter()
        for block, times in self.blocks.items():
            for name, count in _classes(block).items():
                made[name] += count * times
        return {c: made[c] for c in decode.CLASSES if made[c]}

    @property
    def memory_bytes(self) -> int:
        """Moved between the last level and memory."""
        return LINE * sum(self.lines[-2:])


def total(regions: Iterable[Region]) -> Region:
    made: Counter[Block] = Counter()
    lines: tuple[int, ...] = ()
    for r in regions:
        made.update(r.blocks)
        lines = tuple(map(sum, itertools.zip_longest(lines, r.lines, fillvalue=0)))
    return Region(made, lines)


def missing() -> str:
    """What to install to count, "" when all is there."""
    if shutil.which(QEMU) is None:
        return INSTALL
    try:
        plugin()
    except Exception as e:
        return f"a compiler for the counting plugin ({e})"
    return ""


@functools.cache
def plugin() -> Path:
    """The plugin, built with this machine's compiler when its source or the compiler changed."""
    cc = build.compiler("host")
    source = Path(__file__).with_name("count.c")
    made = build.folder() / f"count-{hashlib.sha256(source.read_bytes() + cc.version.encode()).hexdigest()[:16]}.so"
    if not made.exists():
        build.make(made, lambda part: [*cc.command, "-std=c11", "-O2", "-shared", "-fPIC", str(source), "-o", part])
    return made


def run(command: Sequence[str | os.PathLike], cpu: str, options: Sequence[str] = (), **how) -> subprocess.CompletedProcess:
    """A program under emulation as -cpu names it; options: for qemu. Raises TargetError when there is no emulator."""
    from ...passes.errors import TargetError
    if shutil.which(QEMU) is None:
        raise TargetError(f"{QEMU} is not here; {INSTALL}")
    command = [QEMU, "-cpu", cpu, *options, *(os.fspath(c) for c in command)]
    return subprocess.run(command, capture_output=True, check=False, **how)


def count(command: Sequence[str | os.PathLike], cpu: str, options: Sequence[str] = (),
          caches: Caches | None = None) -> tuple[dict[int, Region], bytes]:
    """The regions of a program's run by number, and what it printed. A region that ran more than once counts as it ran last:
    what is done once, at its first run, is not in it. caches: to simulate, which takes three times as long.
    Raises TargetError when the program fails."""
    from ...passes.errors import TargetError
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "counts"
        asked = f",caches={'+'.join(map(str, caches.sizes))}" if caches else ""
        done = run(command, cpu, ("-plugin", f"{plugin()},out={made}{asked}", *options))
        if done.returncode:
            said = (done.stderr.decode(errors="replace").strip().splitlines() or [f"code {done.returncode}"])[-1]
            raise TargetError(f"{Path(os.fspath(command[0])).name} under {QEMU} -cpu {cpu}: {said}")
        return read(made.read_text()), done.stdout


def read(text: str) -> dict[int, Region]:
    """The regions of what the plugin wrote."""
    lines = [json.loads(line) for line in text.splitlines()]
    words = [tuple(int(w[i:i + 8], 16) for i in range(0, len(w), 8)) for w in lines[-1]["words"]]
    made: dict[int, Region] = {}
    for line in lines[:-1]:
        blocks: Counter[Block] = Counter()
        for number, times in line["blocks"]:
            blocks[words[number]] += times
        made[line["region"]] = Region(blocks, tuple(line.get("lines", ())))
    return made


@functools.lru_cache(1 << 16)
def _classes(block: Block) -> Counter[str]:
    return Counter(map(decode.kind, block))
