"""An arm64 Python with the peers' wheels, run by qemu-user: made once in build/arm64-python/.

    root/        Debian's Python and C library for arm64, unpacked by mmdebstrap, nothing in it was ever run
    site-HASH/   the wheels of peers-arm64.txt, or some of them; site/ is the whole one
    CORE/        root again (hard links), whose /proc/cpuinfo and /sys/devices/system/cpu are those of a machine with one CORE

qemu-user shows the host's own files there, and runtimes choose kernels by them: each must see the core that it is counted for.

    command = python("arm64-cortex-a76")           # what runs a script: qemu's words, then the interpreter
"""
from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mcc.cli.arm64 import count, targets
from mcc.passes.errors import TargetError
from mcc.passes.recipe.target import Target

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[1] / "build" / "arm64-python"
WHEELS = HERE / "peers-arm64.txt"
SUITE, VERSION = "bookworm", "3.11"
PACKAGES = (f"python{VERSION}-minimal", f"libpython{VERSION}-stdlib", "libstdc++6", "libgomp1", "libgcc-s1", "libc6", "zlib1g",
            "libatomic1")
INSTALL = "apt-get install mmdebstrap arch-test"
# What Linux calls the features of our words (arch/arm64/kernel/cpuinfo.c), beside those of every core.
FEATURES = {"neon": "fp asimd evtstrm cpuid", "neoncrc": "aes pmull sha1 sha2 crc32",
            "neondot": "atomics asimdrdm lrcpc dcpop asimddp", "neonfp16": "fphp asimdhp", "neoni8mm": "i8mm", "neonbf16": "bf16"}


def make(log=print, only: Sequence[str] = ()) -> Path:
    """Whatever is missing; the folder of wheels, those of all peers or only the ones named. Raises TargetError that says why it
    cannot be."""
    root = FOLDER / "root"
    if not root.exists():
        if shutil.which("mmdebstrap") is None:
            raise TargetError(f"an arm64 Python is made by mmdebstrap, which is not here; {INSTALL}")
        log(f"unpacking Debian {SUITE}'s Python for arm64")
        FOLDER.mkdir(parents=True, exist_ok=True)
        _do(root, lambda part: ["mmdebstrap", "--quiet", "--architecture=arm64", "--variant=extract",
                                f"--include={','.join(PACKAGES)}", SUITE, part])
    wanted = [w for line in WHEELS.read_text().splitlines() if (w := line.partition("#")[0].strip())]
    wanted = [w for w in wanted if not only or w.partition("==")[0] in only]
    site = FOLDER / f"site-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"
    if not site.exists():
        log(f"fetching {', '.join(only) or 'the peers'} for arm64")
        platforms = [f"--platform=manylinux{v}_aarch64"
                     for v in ("2014", "_2_17", "_2_24", "_2_26", "_2_27", "_2_28", "_2_31", "_2_34", "_2_36")]
        abis = [f"--abi={a}" for a in (f"cp{VERSION.replace('.', '')}", "abi3", "none")]
        _do(site, lambda part: [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:", "--target",
                                part, f"--python-version={VERSION}", "--implementation=cp", *abis, *platforms, *wanted])
    link = FOLDER / "site"
    if not only and (not link.is_symlink() or link.readlink() != Path(site.name)):
        link.unlink(missing_ok=True)
        link.symlink_to(site.name)
    return site


def python(core: str, *paths: Path) -> tuple[str, list[str]]:
    """What qemu takes as -cpu, and the words after it: options and the interpreter. paths: of modules, else all wheels."""
    target = targets.find(core)
    root = FOLDER / core
    if not root.exists():
        part = FOLDER / f".{core}.{os.getpid()}"
        subprocess.run(["cp", "-al", FOLDER / "root", part], check=True)
        _show(target, part)
        os.replace(part, root)
    environment = {"PYTHONPATH": ":".join(map(str, paths or [FOLDER / "site"])), "PYTHONHASHSEED": 0, "OMP_NUM_THREADS": 1}
    return target.qemu, ["-L", str(root), *(w for k, v in environment.items() for w in ("-E", f"{k}={v}")),
                         str(root / "usr" / "bin" / f"python{VERSION}"), "-S"]


def run(core: str, *command: str | os.PathLike, paths: Sequence[Path] = (), **how) -> subprocess.CompletedProcess:
    cpu, words = python(core, *paths)
    return count.run([*words[words.index("-S") - 1:], *command], cpu, words[:words.index("-S") - 1], **how)


def _do(made: Path, command) -> None:
    part = made.with_name(f".{made.name}.{os.getpid()}")
    done = subprocess.run(command(str(part)), capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        shutil.rmtree(part, ignore_errors=True)
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise TargetError(f"{made.name} of the arm64 Python cannot be made: {why}")
    os.replace(part, made)


def _show(target: Target, root: Path) -> None:
    """Files by which programs find out what they run on."""
    midr = target.midr
    implementer, variant, part, revision = midr >> 24 & 255, midr >> 20 & 15, midr >> 4 & 0xFFF, midr & 15
    features = " ".join(FEATURES[i] for i in target.isa)
    cpu = root / "sys" / "devices" / "system" / "cpu"
    files = {root / "proc" / "cpuinfo":
             f"processor\t: 0\nBogoMIPS\t: 48.00\nFeatures\t: {features}\n"
             f"CPU implementer\t: {implementer:#04x}\nCPU architecture: 8\nCPU variant\t: {variant:#x}\n"
             f"CPU part\t: {part:#05x}\nCPU revision\t: {revision}\n\n",
             **{cpu / n: "0" for n in ("possible", "present", "online")}, cpu / "kernel_max": "63",
             **{cpu / "cpu0" / "topology" / n: "0" for n in ("core_id", "physical_package_id", "core_siblings_list",
                                                             "thread_siblings_list", "package_cpus_list")},
             **{cpu / "cpu0" / "topology" / n: "1" for n in ("core_siblings", "thread_siblings", "package_cpus")},
             cpu / "cpu0" / "cpufreq" / "cpuinfo_max_freq": f"{target.clock_ghz * 1e6:.0f}",
             cpu / "cpu0" / "cpufreq" / "cpuinfo_min_freq": "600000",
             cpu / "cpu0" / "regs" / "identification" / "midr_el1": f"{midr:#018x}"}
    for i, kb in enumerate(target.caches.sizes):
        about = {"level": i + 1, "type": "Unified" if i else "Data", "size": f"{kb}K", "shared_cpu_map": 1, "shared_cpu_list": 0,
                 "coherency_line_size": count.LINE}
        files |= {cpu / "cpu0" / "cache" / f"index{i}" / name: str(value) for name, value in about.items()}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if text.endswith("\n") else text + "\n")


if __name__ == "__main__":
    make()
    done = run("arm64-cortex-a76", "-c", "import platform, sys; print(platform.machine(), sys.version.split()[0])")
    print((done.stdout or done.stderr).decode().strip().splitlines()[-1])
