"""Where the time of a run goes: each node's rate, and how much that is of what this machine can do."""
from __future__ import annotations

from pathlib import Path


def profile(opened, inputs: dict, seconds: float) -> tuple[list[dict], float]:
    """The nodes' median times, and the share of the runs that they add up to; both of the same runs."""
    found = opened.times(inputs, seconds, least=5, warm=2, ops=True)
    return found.ops, found.covered


def rates(nodes: list[dict], file: Path, threads: int, peak: dict[str, float] | None = None) -> dict[str, float]:
    """Writes into each node `bytes` (inputs and outputs), `gflops` or, without MACs, `gbs`, and `of_peak`: a share of the
    peak of the type it computes in, or of a copy in memory. Nodes that work in the caches can be above the copy's.
    Returns the measured peaks of one thread."""
    from ...kernels import peak as measured
    from ...passes import load
    graph = load(file)
    peak = peak or {what: measured(what) for what in ("f32", "bf16", "s8", "copy")}
    for node, bytes_ in zip(nodes, _bytes(graph, len(nodes))):
        ms = max(node["ms"], 1e-6)
        node["bytes"] = bytes_
        if node["macs"]:
            node["gflops"] = 2 * node["macs"] / ms / 1e6
            node["of_peak"] = node["gflops"] / (peak[kind(node["kernel"])] * threads)
        elif bytes_:
            node["gbs"] = bytes_ / ms / 1e6
            node["of_peak"] = node["gbs"] / (peak["copy"] * threads)
    return peak


def kind(kernel: str) -> str:
    """The type that a kernel multiplies in."""
    return next((word for word in ("s8", "bf16") if f"_{word}_" in kernel), "f32")


def tuned(nodes: list[dict], file: Path, state: str) -> None:
    """Marks the nodes whose kernels `mcc lower --tune` has chosen, when the engine uses them ("tuned" of Session.facts)."""
    from ...passes import load
    chosen = load(file).meta["tuned"]["kernels"] if state == "used" else {}
    for i, node in enumerate(nodes):
        node["tuned"] = i in chosen


def _bytes(graph, count: int) -> list[int | None]:
    """Bytes that each node of a .mcc reads and writes."""
    import math

    import numpy as np

    def size(v) -> int:
        if v is None or v.shape is None:
            return 0
        wide = 2 if v.dtype == "bfloat16" else np.dtype(v.dtype).itemsize
        return math.prod(d for d in v.shape if isinstance(d, int)) * wide
    if len(graph.nodes) != count:
        return [None] * count
    return [sum(map(size, [*n.inputs, *n.outputs])) for n in graph.nodes]


def table(nodes: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for people, slowest first."""
    from .. import show
    total = sum(n["ms"] for n in nodes) or 1.0
    rows = []
    for n in sorted(nodes, key=lambda n: -n["ms"]):
        rate = f"{n['gflops']:.1f} GFLOP/s" if "gflops" in n else f"{n['gbs']:.1f} GB/s" if "gbs" in n else ""
        kernel = n["kernel"] + (" (tuned)" if n.get("tuned") else "")
        rows.append([n["name"], n["op"], kernel, f"{n['ms']:.4f}", f"{n['ms'] / total:.1%}", show.count(n["macs"]), rate,
                     f"{n['of_peak']:.0%}" if "of_peak" in n else ""])
    return ["node", "op", "kernel", "ms", "share", "MACs", "rate", "of peak"], rows
