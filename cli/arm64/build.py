"""The engine and its runner built for another machine, from the sources that are installed with mcc.

    runner = build("mcc-run", "arm64")                            # a static binary
    engine = build("libmcc.a", "arm64", flags=("-DMCC_SUBSET", ...), families=("gemm", "conv"))

The compiler is the one that CC_arm64 names, else Debian's aarch64-linux-gnu-gcc, clang with that package's C library, or
ziglang from PyPI; on an arm64 machine its own. Objects are kept by the hash of what they are made from, so a second build
costs nothing and an edited file costs itself.
"""
from __future__ import annotations

import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
INSTALL = "apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross, or: pip install ziglang"
# -ffp-contract=off: integer epilogues must round the same on every target (the Makefile says it too).
FLAGS = ("-std=c11", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-pthread")
PRODUCTS = ("mcc-run", "libmcc.a")


@dataclass(frozen=True)
class Compiler:
    """command: compiles and links; archiver: makes .a files; version: its first line, which instruction counts depend on."""

    command: tuple[str, ...]
    archiver: tuple[str, ...]
    version: str


def build(what: str, target: str = "arm64", flags: Sequence[str] = (), families: Sequence[str] | None = None) -> Path:
    """The file of one of PRODUCTS for "arm64" or "host". flags: for the compiler, besides FLAGS; families: of kernels, where
    not all are wanted. Raises TargetError when it cannot be built for."""
    from ...passes.errors import TargetError
    if what not in PRODUCTS:
        raise ValueError(f"{what}: one of {', '.join(PRODUCTS)}")
    cc = compiler(target)
    some = (*FLAGS, *flags, *(("-DMCC_SUBSET",) if families is not None else ()))
    sources = [p for family in ("core", *(families or _families())) for p in sorted((KERNELS / family).glob("*.c"))]
    sources += [KERNELS / "mcc_run.c"] if what == "mcc-run" else []
    if len(sources) < 2:
        raise TargetError(f"the engine's sources are not in {KERNELS}; install mcc from its repository")
    base = _hash(*cc.command, cc.version, *some, *(p.read_bytes() for p in _headers()))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda p: _object(cc, some, base, p), sources))
    made = folder() / _hash(what, *map(str, objects)) / what
    if not made.exists():
        link = [*cc.archiver, "rcs"] if what.endswith(".a") else [*cc.command, "-static", "-pthread", "-o"]
        make(made, lambda part: [*link, part, *map(str, objects), *([] if what.endswith(".a") else ["-lm"])])
    return made


def folder() -> Path:
    """Where products are kept: build/ of a checkout, else the user's cache."""
    root = KERNELS.parent
    if (root / "Makefile").exists() and os.access(root, os.W_OK):
        return root / "build" / "cross"
    return Path(os.environ.get("MCC_CACHE") or Path.home() / ".cache" / "mcc") / "cross"


@functools.cache
def compiler(target: str = "arm64") -> Compiler:
    """The first that makes a static program. Raises TargetError with what to install."""
    from ...passes.errors import TargetError
    if target not in ("arm64", "host"):
        raise ValueError(f"nothing builds for {target}")
    tried = []
    for command, archiver in _candidates(target):
        if shutil.which(command[0]) is None:
            continue
        if why := _refuses(command):
            tried.append(f"{' '.join(command)}: {why}")
            continue
        version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False).stdout.partition("\n")[0]
        return Compiler(tuple(command), tuple(archiver), version)
    raise TargetError(f"no compiler makes programs for {target}" + (f" ({'; '.join(tried)})" if tried else "") +
                      ("; install one: " + INSTALL if target == "arm64" else "; install gcc"))


def native() -> bool:
    """This machine is an arm64 Linux."""
    return platform.machine() in ("aarch64", "arm64") and sys.platform == "linux"


def _candidates(target: str):
    if target == "host" or native():
        yield from (([c], ["ar"]) for c in (*filter(None, [os.environ.get("CC")]), "cc", "gcc", "clang"))
        return
    if named := os.environ.get("CC_arm64"):
        yield shlex.split(named), [shutil.which("aarch64-linux-gnu-ar") or "ar"]
        return
    yield ["aarch64-linux-gnu-gcc"], ["aarch64-linux-gnu-ar"]
    yield ["clang", "--target=aarch64-linux-gnu"], [shutil.which("llvm-ar") or "ar"]
    yield ([sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-mcpu=generic"],
           [sys.executable, "-m", "ziglang", "ar"])


def _refuses(command: Sequence[str]) -> str:
    """Why a compiler cannot make a static program, "" when it can."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "try.c"
        source.write_text("#include <math.h>\n#include <stdio.h>\n"
                          "int main(int n, char **v) { return puts(v[0]) < (int)sqrt(n); }\n")
        done = subprocess.run([*command, str(source), "-static", "-o", f"{place}/try", "-lm"], capture_output=True, text=True,
                              errors="replace", check=False)
        if done.returncode == 0:
            return ""
        said = [line for line in done.stderr.splitlines() if "error" in line or "No module" in line] or ["it cannot link"]
        return said[0].strip()[:160]


def _families() -> list[str]:
    return sorted(p.name for p in KERNELS.iterdir() if p.is_dir() and p.name != "core" and any(p.glob("*.c")))


def _headers() -> list[Path]:
    return sorted(p for p in KERNELS.rglob("*") if p.suffix in (".h", ".def"))


def _hash(*parts: str | bytes) -> str:
    made = hashlib.sha256()
    for part in parts:
        body = part.encode() if isinstance(part, str) else part
        made.update(len(body).to_bytes(8, "little") + body)
    return made.hexdigest()[:20]


def _object(cc: Compiler, flags: Sequence[str], base: str, source: Path) -> Path:
    made = folder() / "obj" / f"{source.stem}-{_hash(base, source.name, source.read_bytes())}.o"
    if not made.exists():
        make(made, lambda part: [*cc.command, *flags, *of_file(cc, source), "-c", str(source), "-o", part])
    return made


def of_file(cc: Compiler, source: str | os.PathLike) -> list[str]:
    """Flags for one file. zig says of every feature that it is not there, and half precision then not even functions that ask
    for it may have."""
    return ["-mcpu=generic+fullfp16"] if "ziglang" in cc.command and Path(source).stem.endswith("_neonfp16") else []


def make(made: Path, command) -> None:
    """Runs command(path) to make a file, under a name of its own, then renamed: two builds at once do no harm."""
    from ...passes.errors import TargetError
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent) as place:
        part = os.path.join(place, made.name)
        words = command(part)
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            lines = done.stderr.splitlines() or ["no reason given"]
            said = [line for line in lines if "error" in line] or lines
            raise TargetError(f"{' '.join(words[:1])} cannot make {made.name}: {said[0]}")
        os.replace(part, made)
