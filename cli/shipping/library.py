"""A tree of the engine's sources (subset.py), compiled and linked for a target."""
from __future__ import annotations

import os
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..arm64 import build
from .subset import BASELINE, Tree, closed

# Unwind tables are a tenth of such a library, and C has no use for them; copies of functions for one caller and gaps before loops
# are 5 % for less than 1 % of the instructions.
COMMON = ("-std=c11", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-pthread", "-ffunction-sections", "-fdata-sections",
          "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fomit-frame-pointer", "-fno-ipa-cp-clone",
          "-fno-align-functions", "-fno-align-loops", "-fno-align-jumps")
# Products are worth their size, then other kernels and what walks around them; what else there is, is called once per layer.
LEVELS = ((re.compile(r"((gemm|lut|hashed|sparse)_f32_neon|pool_neon|dwconv_f32)\.c$"), "-Os"),  # as fast so
          (re.compile(r"((gemm|winograd)\w*_(neon|avx|amx)|dwconv\w*_avx)\w*\.c$"), "-O3"),
          (re.compile(r"(_(neon|avx|amx)\w*|walk|dwconv\w*|rows|image|qmake)\.c$"), "-O2"),
          (re.compile(""), "-Os"))
# Of the measured library, so that its size is not that of its padding: small pages, and a Cortex-A53's erratum mended where it
# stands, which reaches 1 MB, in place of GNU ld's stubs of 4 KB.
PAGES = ("-Wl,-z,max-page-size=4096", "-Wl,-z,noseparate-code")
ERRATUM = ("-mno-fix-cortex-a53-843419", "-Wl,--fix-cortex-a53-843419=adr")


@dataclass(frozen=True)
class Builder:
    """Compiles for "arm64" or "x86-64". Raises TargetError when no compiler does."""

    arch: str
    compiler: build.Compiler

    def flags(self) -> list[str]:
        kept = BASELINE[self.arch]
        return [*COMMON, *([f"-DMCC_ISA_KEPT=MCC_ISA_{kept}"] if kept != "c" else [])]

    def live(self, tree: Tree) -> set[str]:
        """The .c files that have something which mcc.h's functions reach."""
        with tempfile.TemporaryDirectory() as place:
            objects = self.objects(tree)
            self.link([*objects.values()], Path(place) / "libmcc.so", f"-Wl,-Map={place}/map")
            text = (Path(place) / "map").read_text(errors="replace").partition("Linker script and memory map")
        used = set(re.findall(r"0x[0-9a-f]*[1-9a-f][0-9a-f]* +(\S+\.o)$", text[2], re.M) or  # GNU ld, then lld
                   re.findall(r"^ *[0-9a-f]+ +[0-9a-f]+ +[1-9a-f][0-9a-f]* +\d+ +(\S+\.o):\(\.", text[0], re.M))
        return {path for path, made in objects.items() if str(made) in used}

    def objects(self, tree: Tree) -> dict[str, Path]:
        """Of every .c file; kept by what they are made from."""
        with tempfile.TemporaryDirectory() as place:
            write(tree, Path(place))

            def one(path: str) -> Path:
                flags = [*self.flags(), *build.of_file(self.compiler, path), level(path)]
                parts = [f"{k}\n{v}" for k, v in closed(tree, [path]).items()]
                name = f"{Path(path).stem}-{build._hash(*self.compiler.command, self.compiler.version, *flags, path, *parts)}.o"
                made = build.folder() / "obj" / name
                if not made.exists():
                    build.make(made, lambda part: [*self.compiler.command, *flags, "-c", os.path.join(place, path), "-o", part])
                return made
            files = [p for p in tree if p.endswith(".c")]
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return dict(zip(files, pool.map(one, files)))

    def link(self, objects: list[Path], made: Path, *flags: str) -> None:
        build.make(made, lambda part: [*self.compiler.command, "-shared", "-Wl,--gc-sections", *flags, "-o", part,
                                        *map(str, objects), "-lm", "-pthread"])

    def archive(self, tree: Tree, made: Path) -> int:
        """Writes the static library; returns the bytes of the same as a stripped shared library: what an app ships."""
        objects = [*self.objects(tree).values()]
        made.parent.mkdir(parents=True, exist_ok=True)
        build.make(made, lambda part: [*self.compiler.archiver, "rcs", part, *map(str, objects)])
        with tempfile.TemporaryDirectory() as place:
            gnu = ERRATUM if self.arch == "arm64" and self.compiler.command[0].endswith("gcc") else ()
            self.link(objects, Path(place) / "libmcc.so", "-s", *PAGES, *gnu)
            return (Path(place) / "libmcc.so").stat().st_size


def builder(arch: str) -> Builder:
    import platform

    from ...passes.errors import TargetError
    if arch == "arm64":
        return Builder(arch, build.compiler("arm64"))
    if platform.machine() not in ("x86_64", "AMD64"):
        raise TargetError(f"no compiler makes programs for x86-64 on this machine ({platform.machine()})")
    return Builder(arch, build.compiler("host"))


def level(path: str) -> str:
    """How a source file is optimised."""
    return next(flag for pattern, flag in LEVELS if pattern.search(path))


def write(tree: Tree, folder: Path) -> None:
    for path, text in tree.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def symbols(library: Path, count: int = 20) -> list[tuple[str, int]]:
    """The largest functions and tables of a library, where there is an `nm`."""
    done = subprocess.run(["nm", "-S", "--size-sort", str(library)], capture_output=True, text=True, check=False)
    rows = [line.split() for line in done.stdout.splitlines()]
    return [(r[3], int(r[1], 16)) for r in rows if len(r) == 4][:-count - 1:-1]
