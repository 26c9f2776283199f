"""`mcc bench --kernels gemm:f32:m=196,k=512,n=512`: a network of one layer, run with every kernel that could serve it."""
from __future__ import annotations

import tempfile
from pathlib import Path

ROUNDS = 7
# Family -> its sizes with their defaults (None: must be given).
SHAPES: dict[str, dict[str, int | None]] = {
    "gemm": {"m": None, "k": None, "n": None},
    "conv": {"h": None, "w": None, "c": None, "n": None, "kernel": 3, "stride": 1},
    "dwconv": {"h": None, "w": None, "c": None, "kernel": 3, "stride": 1},
}
TYPES = ("f32", "bf16", "s8")


def parse(text: str) -> tuple[str, str, dict[str, int]]:
    """family, type, sizes. Raises UserError with all that it takes."""
    from ...passes.errors import UserError
    forms = "; ".join(f"{f}:{'|'.join(TYPES)}:" + ",".join(f"{k}={'N' if v is None else v}" for k, v in s.items())
                      for f, s in SHAPES.items())
    family, _, rest = text.partition(":")
    kind, _, sizes = rest.partition(":")
    if family not in SHAPES or kind not in TYPES:
        raise UserError(f"--kernels {text}: write {forms}")
    made = dict(SHAPES[family])
    for part in filter(None, sizes.split(",")):
        key, eq, value = part.partition("=")
        if not eq or key not in made or not value.isdigit() or not 0 < int(value) <= 1 << 20:
            raise UserError(f"--kernels {text}: cannot read {part!r}; write {forms}")
        made[key] = int(value)
    missing = [k for k, v in made.items() if v is None]
    if missing:
        raise UserError(f"--kernels {text}: no {', '.join(missing)}; write {forms}")
    return family, kind, {k: v for k, v in made.items() if v is not None}


def measure(text: str, threads: int, seconds: float) -> dict:
    """{"shape", "pick", "kernels": [{"name", "isa", "ms", "gflops", "of_peak", "pick"}]}, fastest first."""
    from ... import kernels
    from ..engine import filled, session
    family, kind, sizes = parse(text)
    with tempfile.TemporaryDirectory() as folder:
        file = _layer(family, kind, sizes, Path(folder) / "layer.mcc")
        opened = session(file, threads)
        inputs = filled(opened.inputs)
        node = max(range(len(p := opened.profile(inputs, 1))), key=lambda i: p[i]["macs"])
        pick, macs = p[node]["kernel"], p[node]["macs"]
        ways = {pick: opened}
        for k in kernels.kernels():
            if k.runs and k.name not in ways:
                made = _forced(file, threads, k, node)
                if made is not None:
                    ways[k.name] = made
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                found = way.times(inputs, seconds / ROUNDS, least=3, ops=True)
                spent[name].append(found.ops[node]["ms"])
    peak = (kernels.peak(kind) or kernels.peak("f32")) * max(threads, 1)  # bfloat16 is not every machine's
    isa = {k.name: k.isa for k in kernels.kernels()}
    rows = []
    for name, ms in spent.items():
        best = sorted(ms)[len(ms) // 2]
        rate = 2 * macs / max(best, 1e-9) / 1e6
        rows.append({"name": name, "isa": isa.get(name, ""), "ms": best, "gflops": rate, "of_peak": rate / peak,
                     "pick": name == pick})
    return {"schema": 1, "shape": text, "threads": threads, "isa": kernels.isa(), "macs": macs, "peak_gflops": peak,
            "pick": pick, "kernels": sorted(rows, key=lambda r: r["ms"])}


def _forced(file: Path, threads: int, kernel, node: int):
    """A session whose layer is served by this kernel; None when it cannot be."""
    from ...kernels import EngineError, Session
    for how in ({"kernel": kernel.name}, {"isa": _words(kernel.isa)}):
        try:
            opened = Session(file, threads=threads, **how)
        except (EngineError, ValueError):
            continue
        if opened.profile(None, 1)[node]["kernel"] == kernel.name:
            return opened
    return None


def _words(isa: str) -> str:
    return "c" if isa in ("", "c") else isa


def _layer(family: str, kind: str, s: dict[str, int], path: Path) -> Path:
    """A .mcc of one layer with random weights."""
    import torch
    from torch import nn

    from ...passes import lower
    from ...passes.onnx_io import from_torch
    module: nn.Module
    if family == "gemm":
        module, x = nn.Linear(s["k"], s["n"]), torch.randn(s["m"], s["k"])
    else:
        n = s["n"] if family == "conv" else s["c"]
        module = nn.Conv2d(s["c"], n, s["kernel"], s["stride"], s["kernel"] // 2, groups=s["c"] if family == "dwconv" else 1)
        x = torch.randn(1, s["c"], s["h"], s["w"])
    graph = from_torch(module.eval(), (x,))
    if kind == "s8":
        lower(graph, path, precision="int8", calibration=[{graph.inputs[0].name: x.numpy()}])
    else:
        lower(graph, path, precision="bf16" if kind == "bf16" else "fp32")
    return path


def show_table(found: dict) -> None:
    from .. import show
    rows = [[k["name"], k["isa"], f"{k['ms']:.4f}", f"{k['gflops']:.1f}", f"{k['of_peak']:.0%}",
             "<- pick" if k["pick"] else ""] for k in found["kernels"]]
    title = (f"{found['shape']}: {show.count(found['macs'])} MACs, {found['threads']} threads, "
             f"peak {found['peak_gflops']:.0f} GFLOP/s")
    show.table(["kernel", "needs", "ms", "GFLOP/s", "of peak", ""], rows, left=(0, 1, 5), title=title)
