"""Programs for arm64 under qemu-user, counted between marks: mcc's runner, and other runtimes in an arm64 Python.

    ran = mcc(file, {"x": array}, "cortex-a76")
    ran = peer("litert", file, "int8", "static", {"x": array}, "arm64-cortex-a76")
    ran.instructions, ran.kernels, ran.outputs
"""
from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import arm64_python
import numpy as np
from mcc.cli import rivals
from mcc.cli.arm64 import build, count
from mcc.cli.arm64.emulated import MARKS
from mcc.passes.recipe.target import Caches

# As the tables call a core -> what qemu calls it. Three tiers of dispatch: plain NEON; dot product and half precision; 8-bit
# matrix products and bfloat16 too.
CORES = {"cortex-a53": "cortex-a53", "cortex-a76": "cortex-a76", "i8mm": "max,sve=off,sme=off"}


@dataclass
class Run:
    """One inference: instructions by class, and for mcc by kernel (the op where no kernel is named)."""

    region: count.Region
    outputs: list[np.ndarray]
    kernels: dict[str, int] = field(default_factory=dict)
    version: str = ""

    @property
    def instructions(self) -> int:
        return self.region.instructions


def mcc(file: str | os.PathLike, inputs: dict[str, np.ndarray], core: str) -> Run:
    """core: of CORES, or as qemu says it. Raises TargetError when it cannot be built for, counted or run."""
    from mcc.kernels import Session
    names = [p.name for p in Session(os.fspath(file)).outputs]
    with tempfile.TemporaryDirectory() as place:
        command = [os.fspath(build.build("mcc-run", "arm64", MARKS)), os.fspath(file), "--json", "--ops"]
        for i, (name, a) in enumerate(inputs.items()):
            np.save(f"{place}/in{i}.npy", np.ascontiguousarray(a))
            command += ["--input", f"{name}={place}/in{i}.npy"]
        for i, name in enumerate(names):
            command += ["--output", f"{name}={place}/out{i}.npy"]
        regions, said = count.count(command, CORES.get(core, core))
        outputs = [np.load(Path(place) / f"out{i}.npy") for i in range(len(names))]
    kernels: Counter[str] = Counter()
    for i, row in enumerate(json.loads(said)["ops"]):
        kernels[row["kernel"] or row["op"]] += regions[i].instructions if i in regions else 0
    return Run(count.total(regions.values()), outputs, dict(kernels.most_common()))


def peer(runtime: str, file: str | os.PathLike, precision: str, variant: str, inputs: dict[str, np.ndarray], core: str,
         caches: Caches | None = None) -> Run:
    """core: a target's name; caches: to simulate. Raises TargetError when the arm64 Python is missing or the runtime fails."""
    script, module = Path(__file__).with_name("peer_arm64.py"), rivals.HERE / f"with_{runtime}.py"
    cpu, python = arm64_python.python(core)
    at = python.index("-S") - 1  # before it, options for qemu
    with tempfile.TemporaryDirectory() as place:
        np.savez(f"{place}/in.npz", **inputs)
        command = [*python[at:], script, module, os.path.abspath(file), precision, variant, f"{place}/in.npz", f"{place}/out.npz"]
        regions, said = count.count(command, cpu, python[:at], caches)
        with np.load(f"{place}/out.npz") as found:
            outputs = [found[k] for k in found.files]
    return Run(regions[0], outputs, version=said.decode().strip().splitlines()[-1])
