"""Half of the channels of every architecture of the zoo, removed: does the network still run, with outputs of the same
shape, on fewer multiply-accumulates; does it say what the original says with these channels zeroed (`zeroed`); and does
the lowered file say what torch says?

    python tests/zoo/channels.py [torch|onnx|file] [NAMES...]

prints a list, one line an architecture and way; exit code 1 on failures.

Three ways lead to a Graph: torch's exporter of today through `from_torch` ("torch"), a file of the older exporter, with its
computed shapes, through `load` ("onnx"), and a file of today's exporter as it writes one by itself, through `load` ("file").
"""
from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mcc.kernels import Session
from mcc.passes.base import Context
from mcc.passes.cost import total_macs
from mcc.passes.graph import Graph
from mcc.passes.groups import analyse
from mcc.passes.lower import lower
from mcc.passes.onnx_io import from_torch, load
from mcc.passes.ops.run import run
from mcc.passes.prune.channels import Channels
from zoo import ZOO, make
from zoo.zeroed import zeroed

WAYS = ("torch", "onnx", "file")
TOLERANCE = 2e-4  # of the output's range


@dataclass
class Pruned:
    """left: MACs after over before; allowed: what the zoo says may be left; error: of the engine against torch;
    skipped: {layer: why}."""

    left: float
    allowed: float
    error: float
    skipped: dict[str, str]
    seconds: float


def graph_of(name: str, way: str, folder: Path) -> tuple[Graph, dict[str, np.ndarray]]:
    """The Graph of an architecture with an open batch, and its inputs."""
    module, inputs = make(name)
    names, feeds = list(inputs), {k: v.numpy() for k, v in inputs.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if way == "torch":
            return from_torch(module, tuple(inputs.values()), {k: {0: "N"} for k in names}, names), feeds
        path = folder / f"{name}.onnx"
        twice = tuple(torch.cat([v, v]) for v in inputs.values())
        if way == "file":
            batch = {0: torch.export.Dim("N", min=1, max=1024)}
            torch.onnx.export(module, twice, dynamo=True, verbose=False, input_names=names,
                              dynamic_shapes=tuple(batch for _ in names)).save(str(path))
            return load(path), feeds
        torch.onnx.export(module, twice, str(path), dynamo=False, opset_version=17, input_names=names,
                          dynamic_axes={k: {0: "N"} for k in names})
    return load(path), feeds


def prune(name: str, way: str) -> Pruned:
    """Removes half of the channels and checks what is left; raises AssertionError with the reason."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        graph, feeds = graph_of(name, way, Path(scratch))
        ctx = Context(graph)
        small = Channels(ratio=0.5, multiple=1).run(graph, ctx)
        before, want = run(graph, feeds), run(small, feeds)
        for key, y in before.items():
            assert want[key].shape == y.shape, f"output {key} was {list(y.shape)} and is {list(want[key].shape)}"
        _against_zeroed(graph, feeds)
        path = Path(scratch) / "small.mcc"
        lower(small, path, bind={"N": 1})
        got = Session(str(path)).run(feeds)
    error = max(_error(torch.as_tensor(got[k]), v) for k, v in want.items())
    assert error <= TOLERANCE, f"the lowered file is off by {error:.1e} of the output's range"
    left, allowed = total_macs(small, {"N": 1}) / total_macs(graph, {"N": 1}), ZOO[name].left
    why = "; ".join(f"{k}: {v}" for k, v in list(ctx.notes["skipped"].items())[:2])
    assert left <= allowed, f"{left:.1%} of the multiply-accumulates are left, more than {allowed:.0%} ({why})"
    return Pruned(left, allowed, error, ctx.notes["skipped"], time.monotonic() - began)


def _against_zeroed(graph: Graph, feeds: dict) -> None:
    """A random half of the classes of every group, removed, and the original with the same ones zeroed: the same outputs."""
    deps = analyse(graph)
    pick = np.random.default_rng(1)
    gone = deps.feasible(np.concatenate([pick.choice(g.classes, len(g.classes) // 2, replace=False) for g in deps.groups]))
    got = run(deps.remove(gone), feeds)
    for key, want in zeroed(deps, gone, feeds).items():
        error = _error(got[key], want)
        assert error <= TOLERANCE, f"removed and zeroed channels differ by {error:.1e} of the range of output {key}"


def _error(got: torch.Tensor, want: torch.Tensor) -> float:
    span = float(want.max() - want.min()) if want.numel() > 1 else float(want.abs().max())
    return float((got.double() - want.double()).abs().max()) / max(span, 1e-9)


def _line(job: tuple[str, str]) -> tuple[bool, str]:
    name, way = job
    torch.set_num_threads(1)
    try:
        done = prune(name, way)
        return True, f"ok    {name:22s} {way:6s} {done.left:6.1%} of the MACs left, error {done.error:.0e}, {done.seconds:.1f} s"
    except Exception as e:
        what = str(e) if isinstance(e, AssertionError) else f"{type(e).__name__}: {e}"
        if os.environ.get("DEBUG"):
            raise
        return False, f"FAIL  {name:22s} {way:6s} {' '.join(what.split())[:250]}"


def main(names: list[str]) -> int:
    ways = [w for w in WAYS if w in names] or WAYS
    names = [n for n in names if n not in WAYS]
    unknown = [n for n in names if n not in ZOO]
    if unknown:
        print(f"no architecture is named {', '.join(unknown)}; there are {', '.join(ZOO)}", file=sys.stderr)
        return 2
    jobs = [(name, way) for way in ways for name in names or ZOO]
    passed: dict[str, bool] = {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for (name, _), (ok, line) in zip(jobs, pool.map(_line, jobs)):
            passed[name] = passed.get(name, True) and ok
            print(line, flush=True)
    print(f"{sum(passed.values())} of {len(passed)} architectures pass")
    return 0 if all(passed.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
