"""Scales of activations: chosen on calibration data, and put into the graph as pairs of quantize and dequantize."""
from __future__ import annotations

from dataclasses import replace

from ..base import Context
from ..errors import UserError
from ..graph import Graph, Node, Value, claim, constant
from .observe import Range, choose, grid, watch
from .places import LAYERS, Places


def calibrate(graph: Graph, batches: list[dict], places: Places, options, ctx: Context):
    """({leader value: (lo, hi)}, {layer input: mean per channel [C]}) from two rounds over the calibration data.
    options: observer, percentile and decay, as of quantize.ptq."""
    seen = {v: Range(decay=options.decay) for v in places.values}
    inputs = {n.inputs[0]: -1 if n.op == "linear" else 1 for n in places.nodes if n.op in LAYERS}
    sums: dict[Value, list] = {}
    total = sum(len(next(iter(b.values()))) for b in batches)

    def first(v, t):
        if v in seen:
            seen[v].see(t)
        if v in inputs:
            axes = [i for i in range(t.ndim) if i != inputs[v] % t.ndim]
            entry = sums.setdefault(v, [0.0, 0])
            entry[0] = entry[0] + t.double().mean(axes).numpy() * len(t)
            entry[1] += len(t)

    watch(graph, batches, first, set(seen) | set(inputs), lambda n: ctx.progress(n, 2 * total, "calibrate"))
    leaders: dict[Value, Range] = {}
    for v, leader in places.values.items():
        if leader in leaders:
            leaders[leader].merge(seen[v])
        else:
            leaders[leader] = replace(seen[v])
    counted = {v: leaders[leader] for v, leader in places.values.items()}
    if options.observer in ("percentile", "mse", "entropy"):
        watch(graph, batches, lambda v, t: counted[v].count(t), set(counted),
              lambda n: ctx.progress(total + n, 2 * total, "calibrate"))
    ranges = {}
    for leader, r in leaders.items():
        try:
            ranges[leader] = choose(r, options.observer, options.percentile)
        except ValueError as e:
            raise UserError(f"quantize.ptq: value '{leader.name}': {e}") from None
    return ranges, {v: s / n for v, (s, n) in sums.items()}


def insert(graph: Graph, places: Places, ranges: dict[Value, tuple[float, float]]) -> None:
    """A quantize and a dequantize behind every value of `places`; its int8 readers read the latter."""
    taken = {v.name for v in graph.values()}

    grids = {}
    for leader, (lo, hi) in ranges.items():
        scale, zero = grid(lo, hi)
        grids[leader] = (constant(claim(taken, leader.name + ".scale"), scale),
                         constant(claim(taken, leader.name + ".zero"), zero))
    behind: dict[Value, list[Node]] = {}
    for v, leader in places.values.items():
        s, z = grids[leader]
        q, d = Value(claim(taken, v.name + ".int8"), "int8", v.shape), Value(claim(taken, v.name + ".float"), "float32", v.shape)
        behind[v] = [Node("quantize_linear", [v, s, z], [q], {}, v.name + ".quantize"),
                     Node("dequantize_linear", [q, s, z], [d], {}, v.name + ".dequantize")]
        for node in graph.nodes:
            if node in places.nodes:
                node.inputs = [d if u is v else u for u in node.inputs]
    nodes = [n for v in graph.inputs for n in behind.get(v, ())]
    for node in graph.nodes:
        nodes.append(node)
        nodes += [n for v in node.outputs for n in behind.get(v, ())]
    graph.nodes = nodes
