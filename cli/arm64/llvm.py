"""Cycles of blocks by llvm-mca, for the cores whose scheduling model can be believed (`cycles.mca` of a target)."""
from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Sequence

from .count import Block
from .decode import loops

INSTALL = "apt-get install llvm-22 (llvm-mca of version 20 or newer has the models)"
LEAST = 20
TURNS = 100


@functools.cache
def tool(name: str) -> str | None:
    """The newest of LEAST or later: llvm-mca-22, ..., or llvm-mca itself."""
    for text in (*(f"{name}-{v}" for v in range(40, LEAST - 1, -1)), name):
        if shutil.which(text) is None:
            continue
        said = subprocess.run([text, "--version"], capture_output=True, text=True, check=False).stdout
        if (found := re.search(r"LLVM version (\d+)", said)) and int(found[1]) >= LEAST:
            return text
    return None


def missing() -> str:
    return "" if tool("llvm-mca") and tool("llvm-mc") else INSTALL


def cycles(blocks: Sequence[Block], core: str) -> dict[Block, float]:
    """Cycles of one turn of each block: a loop's when it follows itself, of others (whose next turn does not wait for this one,
    and which overlap with what comes before and after) what their units need. Blocks that llvm-mca refuses are left out."""
    text, words = [], sorted({w for b in blocks for w in b})
    assembly = dict(zip(words, disassemble(words)))
    for i, block in enumerate(blocks):
        text += [f"# LLVM-MCA-BEGIN b{i}", *(line for w in block for line in _apart(_local(assembly[w]))), "# LLVM-MCA-END"]
    # Apple's model misses some newer instructions, and says no to all of the file when they are switched on.
    wide = "-mattr=+v8.6a,+fullfp16" if core.startswith("apple") else "-mattr=+all"
    done = subprocess.run([tool("llvm-mca") or "llvm-mca", "-mtriple=aarch64", f"-mcpu={core}", wide, f"-iterations={TURNS}",
                           "-resource-pressure=0", "-instruction-info=0", "-skip-unsupported-instructions=any"],
                          input="\n".join(text) + "\n", capture_output=True, text=True, check=False)
    return {blocks[i]: turn if loops(blocks[i]) else units for i, (turn, units) in parse(done.stdout).items()}


def parse(text: str) -> dict[int, tuple[float, float]]:
    """Of the regions b0, b1, ... in llvm-mca's report, by number: cycles of a turn among many, and of the busiest unit."""
    return {int(m[1]): (int(m[3]) / int(m[2]), float(m[4])) for m in re.finditer(
        r"Code Region - b(\d+)\n\s*Iterations:\s+(\d+)\n.*?Total Cycles:\s+(\d+)\n.*?Block RThroughput:\s+([\d.]+)",
        text, re.DOTALL)}


def disassemble(words: Sequence[int]) -> list[str]:
    """One line of assembly for each word; a word that is no instruction is a nop."""
    lines = "\n".join(" ".join(f"0x{w >> s & 255:02x}" for s in (0, 8, 16, 24)) for w in words)
    done = subprocess.run([tool("llvm-mc") or "llvm-mc", "-triple=aarch64", "-mattr=+all", "-disassemble", "-show-encoding"],
                          input=lines + "\n", capture_output=True, text=True, check=False)
    found = {}
    for m in re.finditer(r"^\s*(\S.*?)\s*// encoding: \[(0x..),(0x..),(0x..),(0x..)\]", done.stdout, re.MULTILINE):
        found[sum(int(b, 16) << 8 * i for i, b in enumerate(m.groups()[1:]))] = m[1].replace("\t", " ")
    return [found.get(w, "nop") for w in words]


def _local(line: str) -> str:
    """Jumps and addresses that lead out of the block lead to where they stand."""
    line = re.sub(r"^(b|bl|cbn?z \w+,|tbn?z \w+, #\d+,|b\.\w+) #?-?(0x)?[0-9a-f]+$", r"\1 .", line)
    return re.sub(r"^(?:adrp?|ldr) (\w+), #-?\d+$", r"adr \1, .", line) if not re.match(r"ldr [vqdsw]", line) else line


def _apart(line: str) -> list[str]:
    """Cores of today write the base register at once; llvm-mca lets it wait for stored data and so chains turns of a loop that
    do not depend on each other: the update becomes an addition of its own."""
    if m := re.match(r"(.*\[(\w+)\]), (?:#(-?\d+)|(x\d+))$", line):
        step = m[4] or f"#{abs(int(m[3]))}"
        return [m[1], f"{'sub' if m[3] and int(m[3]) < 0 else 'add'} {m[2]}, {m[2]}, {step}"]
    if m := re.match(r"(.*)\[(\w+), #(-?\d+)\]!$", line):
        return [f"{'sub' if int(m[3]) < 0 else 'add'} {m[2]}, {m[2]}, #{abs(int(m[3]))}", f"{m[1]}[{m[2]}]"]
    return [line]
