"""The speed gate of arm64: instructions of layers and networks, counted under emulation, against those on record. No noise of
the machine can disturb it. `make gate-arm64` runs it (`make test` too), `make record-arm64` writes the record anew.

    python tests/bench/arm64_gate.py [--record] [--only WORD]

Outputs are checked as well: integer networks give the bytes that the engine gives here, others agree as ERROR says.
More instructions than recorded fail, beyond TOLERANCE; fewer ask for a new record. What a compiler makes of the same source is
another matter: with another one than the record's, only what is beyond OTHER_COMPILER counts, and the check says so.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import convert
import emulation
import models
import sources
from mcc.cli.arm64 import build, count
from mcc.cli.engine import filled, session
from mcc.cli.timing import shapes

RECORD = Path(__file__).resolve().parent / "arm64-instructions.json"
TOLERANCE, OTHER_COMPILER = 0.005, 0.10
# Of the output's range, against the engine on this machine. int8 transformers have floats inside (softmax, layer norm): a value
# in between may round to another step. Sums of float16 are made in float32 here.
ERROR = {"fp32": 1e-4, "fp16-math": 0.03, "int8": 0.0, "transformer int8": 0.02}
NETWORKS = ("mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2", "squeezenet11", "transformer")  # the last is a short TinyBERT
LAYERS = ("gemm:f32:m=196,k=512,n=512", "gemm:s8:m=196,k=512,n=512", "gemm:s8:m=1,k=1024,n=1000",
          "conv:f32:h=28,w=28,c=64,n=64", "conv:s8:h=28,w=28,c=64,n=64",
          "dwconv:f32:h=56,w=56,c=128", "dwconv:s8:h=56,w=56,c=128", "dwconv:s8:h=56,w=56,c=128,stride=2")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write the counts down in place of comparing")
    parser.add_argument("--only", default="", help="those whose name has this in it")
    options = parser.parse_args()
    if lacking := count.missing():
        print(f"skip the count of arm64 instructions: {lacking}")
        return int(os.environ.get("CI") == "true")
    if options.record and options.only:
        parser.error("a record is whole: --record goes without --only")
    with tempfile.TemporaryDirectory() as folder:
        found, wrong = measure(Path(folder), options.only)
    for line in wrong:
        print(line)
    if wrong:
        return 1
    if options.record:
        made = {"schema": 1, "compiler": build.compiler("arm64").version, "instructions": found}
        RECORD.with_suffix(".tmp").write_text(json.dumps(made, indent=1) + "\n")
        os.replace(RECORD.with_suffix(".tmp"), RECORD)
        print(f"{len(found)} rows, {len(emulation.CORES)} cores: {RECORD.name}")
        return 0
    worse, notes = compare(json.loads(RECORD.read_text()), found, build.compiler("arm64").version)
    for line in (*notes, *worse):
        print(line)
    print(f"arm64 instructions: {sum(map(len, found.values()))} counts, {len(worse)} beyond the record")
    return int(bool(worse))


def measure(folder: Path, only: str) -> tuple[dict, list[str]]:
    """{name: {core: {"all": N, kernel: N, ...}}}, and what gave wrong outputs."""
    build.build("mcc-run", "arm64", emulation.MARKS)
    jobs: list[tuple[str, Path, dict]] = []
    for name, make in cases(folder).items():
        if only in name:
            file, inputs = make()
            jobs += [(name, file, inputs)]
    convert.stop()

    def job(task) -> tuple[str, str, dict, str]:
        (name, file, inputs), core = task
        ran = emulation.mcc(file, inputs, core)
        kind = name.partition(" ")[2]
        allowed = ERROR.get(name, ERROR[kind or ("int8" if ":s8:" in name else "fp32")])
        return name, core, {"all": ran.instructions, **ran.kernels}, differs(file, inputs, ran.outputs, allowed)
    # 8-bit matrix products do nothing for floats.
    tasks = [(j, core) for j in jobs for core in emulation.CORES if core != "i8mm" or "int8" in j[0] or ":s8:" in j[0]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(job, tasks))
    found: dict[str, dict] = {}
    for name, core, counts, _ in done:
        found.setdefault(name, {})[core] = counts
    return found, [f"{name} on {core}: {why}" for name, core, _, why in done if why]


def cases(folder: Path) -> dict[str, Callable[[], tuple[Path, dict]]]:
    """Name -> its file and inputs, when called."""
    models.MODELS["transformer"] = models.Model(models._bert(layers=2, hidden=312, ffn=1200), models._tokens(32))
    def layer(text: str) -> tuple[Path, dict]:
        import torch
        torch.manual_seed(0)
        file = shapes._layer(*shapes.parse(text), folder / f"{text.replace(':', '-')}.mcc")
        return file, filled(session(file).inputs)

    def network(name: str, precision: str) -> tuple[Path, dict]:
        made = convert.mcc_file(name, precision, "static" if precision == "int8" else "")
        if "error" in made:
            raise SystemExit(f"{name} {precision}: {made['error']}")
        return Path(made["file"]), sources.data(sources.obtain(name))[0]
    return {**{text: lambda text=text: layer(text) for text in LAYERS},
            **{f"{n} {p}": lambda n=n, p=p: network(n, p) for n in NETWORKS for p in ("fp32", "fp16-math", "int8")}}


def differs(file: Path, inputs: dict, got: list[np.ndarray], allowed: float) -> str:
    """In what the outputs are not those of the engine on this machine. Nothing allowed: the same bytes."""
    want = list(session(file).run(inputs).values())
    if not allowed:
        return "" if all(a.tobytes() == b.tobytes() for a, b in zip(want, got)) else "other bytes than on this machine"
    error = max(float(np.abs(a.astype(np.float64) - b).max() / (np.ptp(a) or 1)) for a, b in zip(want, got))
    return "" if error <= allowed else f"outputs differ by {error:.2g} of their range"


def compare(record: dict, found: dict, compiler: str) -> tuple[list[str], list[str]]:
    """Lines that fail, lines that are only said."""
    same = record["compiler"] == compiler
    limit = TOLERANCE if same else OTHER_COMPILER
    worse, notes = [], []
    if not same:
        notes.append(f"note: recorded with {record['compiler']}, this is {compiler}: compared to within {limit:.0%}")
    for name, cores in found.items():
        for core, counts in cores.items():
            before = record["instructions"].get(name, {}).get(core)
            if before is None:
                worse.append(f"{name} on {core} is not on record; make record-arm64")
                continue
            change = counts["all"] / before["all"] - 1
            said = (f"{name} on {core}: {counts['all'] / 1e6:.2f} M instructions, {before['all'] / 1e6:.2f} M on record "
                    f"({change:+.1%})")
            if change > limit:
                worse.append(f"{said}; {grown(before, counts)}")
            elif change < -limit:
                notes.append(f"note: {said}: fewer; make record-arm64 writes it down")
    return worse, notes


def grown(before: dict, now: dict) -> str:
    """The kernel that grew most."""
    most = max((k for k in now if k != "all"), key=lambda k: now[k] - before.get(k, 0))
    return f"most in {most}: {before.get(most, 0) / 1e6:.2f} M -> {now[most] / 1e6:.2f} M"


if __name__ == "__main__":
    sys.exit(main())
