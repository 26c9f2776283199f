"""Tens of thousands of damaged .mcc files, opened and run by an engine built with AddressSanitizer and UBSan.

The seeds are one small file for every op of the engine, its further inputs as constants in several storages, so that
every op's own checks are reached too; and once more with the packed weights of those that pack some. `FUZZ_COUNT` and
`FUZZ_SEED` in the environment ask for more or others.
"""
from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from mcc.passes import hashing
from mcc.passes.graph import Graph, Node, Value
from mcc.passes.lower.emit import to_bytes
from mcc.passes.lower.engine import engine_form
from mcc.passes.lower.plan import plan
from mcc.passes.ops import OPS, sample

ROOT = Path(__file__).parents[2]
COUNT = int(os.environ.get("FUZZ_COUNT", "40000"))
SEED = os.environ.get("FUZZ_SEED", "1")


def seed_file(name: str, vary: set[int] | None, storage: str) -> bytes:
    """The op's example as a file. Inputs in `vary` (None: all that may) are inputs, the others constants."""
    arrays, attrs = sample(name)
    arrays = [None if a is None else np.array(a) for a in arrays]
    results = OPS[name].fn(*[None if a is None else torch.from_numpy(a) for a in arrays], **attrs)
    inputs: list[Value | None] = []
    for i, a in enumerate(arrays):
        constant = i in OPS[name].static or (vary is not None and i not in vary)
        inputs.append(None if a is None else Value(f"x{i}", a.dtype.name, a.shape, _stored(a, storage) if constant else None,
                                                   _meta(a, storage) if constant else {}))
    outputs = [Value(f"y{i}", str(t.dtype).removeprefix("torch."), tuple(t.shape))
               for i, t in enumerate(results if isinstance(results, tuple) else (results,))]
    graph = Graph([v for v in inputs if v is not None and v.data is None], outputs, [Node(name, inputs, outputs, attrs, name)])
    plan(graph)
    return to_bytes(engine_form(graph), {"op": name})


def _meta(a: np.ndarray, storage: str) -> dict:
    if storage == "quantized" and a.dtype == np.float32 and a.ndim >= 2:
        return {"quantized": {"bits": 4, "block": 4, "scale": np.full((*a.shape[:-1], -(-a.shape[-1] // 4)), 0.5, np.float32)}}
    if storage == "hashed" and a.dtype.kind == "f" and a.ndim >= 2 and a.size:
        mask = {"sparse": True} if a.ndim > 2 else {}
        return {"hashed": hashing.taken({"hashed": _hash(a)}, 0, np.arange(a.shape[0])[::-1])["hashed"], **mask}
    return {"codebook": {"bits": 2}} if storage == "codebook" else {}


def _hash(a: np.ndarray) -> dict:
    return hashing.fresh(a.shape, 3, 8)


def _stored(a: np.ndarray, storage: str) -> np.ndarray:
    if a.dtype.kind != "f" or a.ndim < 2:
        return a
    if storage == "codebook":
        return np.sign(a) * (1 + (abs(a) > 0.5)).astype(a.dtype)
    if storage == "sparse":
        return a * (abs(a) > 1)
    if storage == "hashed" and a.dtype.kind == "f" and a.ndim >= 2 and a.size:
        filled = hashing.fill(hashing.means(a, _hash(a)).astype(a.dtype), _hash(a), a.shape)[::-1]
        return filled * (abs(a) > 0.5) if a.ndim > 2 else filled
    if storage == "quantized":
        return np.clip(np.rint(a * 2), -8, 7).astype(a.dtype) / 2
    return a


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    from mcc.kernels import EngineError, Session, ops
    folder, made = tmp_path_factory.mktemp("fuzz"), []
    for name in sorted(set(ops()) & set(OPS)):
        for label, vary, storage in (("all", None, "raw"), ("first", {0}, "raw"),
                                     ("codebook", {0}, "codebook"), ("sparse", {0}, "sparse"),
                                     ("quantized", {0}, "quantized"), ("hashed", {0}, "hashed")):
            data = seed_file(name, vary, storage)
            if any(data == p.read_bytes() for p in made[-8:]):
                continue
            try:
                Session(data)
            except EngineError:  # an op that does not take constants there: nothing to damage
                continue
            made.append(folder / f"{name}-{label}.mcc")
            made[-1].write_bytes(data)
            packed = folder / f"{name}-{label}-packed.mcc"
            Session(data).prepack(packed)
            if Session(packed).facts["packed_bytes"]:
                made.append(packed)
    return made


def test_damaged_files(seeds, tmp_path):
    built = subprocess.run(["make", "-s", "fuzz-open"], cwd=ROOT, capture_output=True, text=True)
    if built.returncode and "cannot find -l" in built.stderr and os.environ.get("CI") != "true":
        pytest.skip("no sanitizer libraries for this compiler")
    assert built.returncode == 0, built.stderr
    assert len(seeds) > 150
    run = subprocess.run([ROOT / "build/fuzz/fuzz-open", SEED, str(COUNT), *seeds], capture_output=True, text=True,
                         env=os.environ | {"TMPDIR": str(tmp_path)})
    assert run.returncode == 0, f"{run.stderr}\nreplay: {ROOT}/build/fuzz/fuzz-open --replay {tmp_path}/fuzz-last.mcc"
    print(run.stdout)
    assert int(re.search(r"(\d+) with their packed", run.stdout)[1]) > COUNT / 400, run.stdout
    ran = int(re.search(r"(\d+) ran", run.stdout)[1])
    assert ran > COUNT / 50, run.stdout  # most damage is refused, but enough gets as far as the ops
    assert run.stdout.endswith("0 crashes\n")
