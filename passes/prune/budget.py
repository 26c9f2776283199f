"""How much to prune, said as what may be left of the model: parameters, multiply-accumulates, bytes of the file, or time."""
from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..base import Context
from ..cost import guess_bind, macs, nonzeros
from ..errors import UserError
from ..graph import Graph
from ..weights import weights_of

BUDGETS = ("params", "macs", "bytes", "latency")
SLACK = 1.02  # a result this far above its budget has not kept it


def check(options, share: str, number: str = "") -> None:
    """ValueError unless at most one of BUDGETS and the pass's own ways is given: a share, and a number of units."""
    given = [k for k in (number, share, *BUDGETS) if k and getattr(options, k) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are different ways to say how much; give one of them")
    for k in given:
        if k != number and not 0 < getattr(options, k) < 1:
            raise ValueError(f"{k} must be between 0 and 1, got {getattr(options, k)}")


def given(options) -> tuple[str, float] | None:
    """The budget of a pass and its share; None where it has none."""
    return next(((k, getattr(options, k)) for k in BUDGETS if getattr(options, k) is not None), None)


def cost(kind: str, graph: Graph, ctx: Context, who: str) -> float:
    """params counts nonzero ones; macs those with a weight that is not zero; bytes are the file's; latency is measured."""
    if kind == "params":
        return nonzeros(graph)
    if kind == "macs":
        return sum(m * density(n) for n, m in macs(graph, guess_bind(graph, ctx.target.get("bind"))).items())
    if ctx.measure is not None:
        found = ctx.measure(graph)
        if kind == "bytes":
            return found["bytes"]
        if found.get("latency_ms") is not None:
            return found["latency_ms"]
    if kind == "latency":
        raise UserError(f"{who}: a latency budget needs an engine to time on; run it by mcc compress, or give macs")
    from ..lower import lower
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.mcc"
        lower(graph, path, bind=ctx.target.get("bind") or {})
        return path.stat().st_size


def density(node) -> float:
    """The share of a layer's weights that are not zero."""
    found = weights_of(node)
    total = sum(w.data.size for w in found)
    return sum(int(np.count_nonzero(w.data)) for w in found) / total if total else 1.0


def search(kind: str, share: float, graph: Graph, ctx: Context, who: str, make: Callable[[int], Graph], most: int) -> int:
    """The smallest number in 0..most for which make(number) costs no more than `share` of `graph`; `most` when none does."""
    goal = share * cost(kind, graph, ctx, who)
    low, high, probes = 0, most, 0
    while low < high:
        middle = (low + high) // 2
        probes += 1
        ctx.progress(probes, max(1, most.bit_length()), f"{who}: search for {share:.0%} of {kind}")
        low, high = (low, middle) if cost(kind, make(middle), ctx, who) <= goal else (middle + 1, high)
    return low


def warn(kind: str, share: float, before: float, after: float, ctx: Context, why: str) -> None:
    """A note when the budget was not kept."""
    if after > SLACK * share * before:
        ctx.note(warning=f"{after / before:.1%} of {kind} are left, more than the {share:.1%} asked for: {why}")
