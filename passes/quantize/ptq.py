"""Post-training quantization to int8: the graph gets quantize_linear / dequantize_linear pairs, and lowering makes the
integer kernels of them.

Weights are symmetric int8 with a scale per output channel, activations asymmetric int8 with a scale per tensor, chosen
on calibration data (Jacob et al., arXiv 1712.05877; Krishnamoorthi, arXiv 1806.08342). Biases stay float here; lowering
makes them int32. Optional: cross-layer equalisation and bias correction (Nagel et al., arXiv 1906.04721). With
`activations: dynamic` inputs of layers are quantized while running, by row or image, and no data is needed.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ..base import Context, Pass, layer_name, options_for, select
from ..cost import guess_bind
from ..errors import UserError
from ..graph import Graph, Node, Value, constant
from ..ops.run import infer
from .observe import Range, choose, grid, watch
from .places import LAYERS, Places, find_places
from .prepare import equalize, prepare


@dataclass(frozen=True)
class PTQ(Pass):
    """activations   static (scales from calibration data), dynamic (scales while running) or none (weights alone)
    observer         how static scales are chosen: minmax, moving_average, percentile, mse, entropy
    percentile       for that observer: how much of the values the range covers, in %
    samples, batch   calibration samples, and how many run at once
    weight_scales    mse (least squared error) or max
    equalize         cross-layer equalisation: on, off, or auto: where it brings the weights' error down
    correct_bias     take out of the biases what rounding the weights adds to a layer's mean output
    embeddings       int8 rows for embedding tables too (gather of a float table)
    layers, skip     patterns of layers to quantize, and to leave float
    float_ops        ops that compute in float although they could be tables
    overrides        {pattern: {activations | weight_scales: value}}
    """

    activations: Literal["static", "dynamic", "none"] = "static"
    observer: Literal["minmax", "moving_average", "percentile", "mse", "entropy"] = "mse"
    percentile: float = 99.99
    samples: int = 256
    batch: int = 16
    weight_scales: Literal["mse", "max"] = "mse"
    equalize: Literal["auto", "on", "off"] = "auto"
    correct_bias: bool = True
    embeddings: bool = True
    layers: str | list[str] = "*"
    skip: list[str] = field(default_factory=list)
    float_ops: list[str] = field(default_factory=lambda: ["gelu"])
    overrides: dict[str, dict] = field(default_factory=dict)

    def check(self) -> None:
        if not 50 < self.percentile <= 100:
            raise ValueError(f"percentile must be above 50 and at most 100, got {self.percentile}")
        for name in ("samples", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for pattern, options in self.overrides.items():
            for key, value in options.items():
                allowed = {"activations": ("static", "dynamic", "none"), "weight_scales": ("mse", "max")}.get(key)
                if allowed is None:
                    raise ValueError(f"overrides[{pattern!r}]: unknown option {key!r}; it takes activations, weight_scales")
                if value not in allowed:
                    raise ValueError(f"overrides[{pattern!r}]: {key} must be one of {', '.join(allowed)}, got {value!r}")

    def matches(self, graph: Graph) -> list[Node]:
        """Layers with float weights, and embedding tables."""
        nodes = [n for n in graph.nodes if n.op in LAYERS and _float_weight(n.inputs[1]) or
                 self.embeddings and _embedding(n)]
        return [n for n in select(nodes, self.layers) if not select([n], self.skip)]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        batches = None
        if self.activations == "static":
            if ctx.data is None:
                raise UserError("quantize.ptq: activations: static needs calibration data; add `data:` to the recipe or "
                                "use activations: dynamic")
            batches = [inputs for inputs, _ in ctx.data.batches("calibration", self.batch, None, self.samples)]
        return quantize_graph(graph, batches, self, ctx)

    @staticmethod
    def example() -> Graph:
        r = np.random.default_rng(0)
        x, a, b, y = (Value(n, "float32", ("N", k, 6, 6)) for n, k in zip("xaby", (3, 8, 8, 4)))

        def weight(name, *shape):
            return constant(name, r.standard_normal(shape).astype(np.float32))
        return Graph([x], [y], [
            Node("conv", [x, weight("conv1.weight", 8, 3, 3, 3), weight("conv1.bias", 8)], [a], {"pads": [1, 1, 1, 1]}, "conv1"),
            Node("relu", [a], [b], {}, "relu"),
            Node("conv", [b, weight("conv2.weight", 4, 8, 1, 1), weight("conv2.bias", 4)], [y], {}, "conv2")])


def quantize_graph(graph: Graph, batches: Iterable[dict] | None = None, options: PTQ | None = None,
                   ctx: Context | None = None) -> Graph:
    """`graph` as a QDQ graph. batches: dicts of inputs to calibrate on; None: dynamic (each layer's input is quantized
    while running). The engine's contract is in passes/lower/integer.py."""
    options = options or PTQ()
    ctx = ctx or Context(graph)
    if batches is None and options.activations == "static":
        options = replace(options, activations="dynamic")
    graph = prepare(graph)
    modes = {n: options_for(n, options.overrides).get("activations", options.activations) for n in options.matches(graph)}
    if not modes:
        raise UserError("quantize.ptq: no layer with float weights matches; check layers and skip")
    static = [n for n in modes if modes[n] == "static" and n.op in LAYERS]
    batches = None if batches is None else [_arrays(graph, b) for b in batches]
    facts: dict = {}
    if static and batches is not None:
        if not batches:
            raise UserError("quantize.ptq: the calibration data is empty")
        if options.equalize != "off":
            facts["equalized"] = _equalize(graph, options)
        modes = {n: options_for(n, options.overrides).get("activations", options.activations) for n in options.matches(graph)}
        floats = {n for n in graph.nodes if n.op in LAYERS and modes.get(n) != "static" or n.op in options.float_ops}
        shapes = {v: s for v, (s, _) in infer(graph, guess_bind(graph, _sizes(graph, batches[0]), batch=2)).items()}
        places = find_places(graph, shapes, floats)
        ranges, means = _calibrate(graph, batches, places, options, ctx)
    else:
        places, ranges, means = Places(), {}, {}
    errors = _quantize_weights(graph, modes, options, means, _least_scales(modes, places, ranges))
    _insert(graph, places, ranges)
    graph.prune()
    ctx.note(layers=errors, int8_nodes=len(places.nodes),
             float_nodes=[n.op for n in graph.nodes if _computes_in_float(n, places)][:20],
             samples=sum(len(next(iter(b.values()))) for b in batches) if batches and static else 0, **facts)
    return graph


def _float_weight(v: Value | None) -> bool:
    return v is not None and v.data is not None and v.data.dtype == np.float32 and v.data.ndim >= 2


def _embedding(node: Node) -> bool:
    return node.op == "gather" and _float_weight(node.inputs[0]) and node.inputs[0].data.ndim == 2 \
        and node.attrs.get("axis", 0) == 0 and node.inputs[1].data is None and node.inputs[0].data.size >= 1024


def _computes_in_float(node: Node, places: Places) -> bool:
    return node not in places.nodes and not node.op.endswith("quantize_linear") and node.outputs[0].dtype == "float32"


def _arrays(graph: Graph, batch) -> dict:
    """Only the graph's own inputs, by name."""
    if not isinstance(batch, dict):
        batch = {v.name: x for v, x in zip(graph.inputs, batch if isinstance(batch, (list, tuple)) else [batch])}
    missing = [v.name for v in graph.inputs if v.name not in batch]
    if missing:
        raise UserError(f"calibration: no array for input {', '.join(missing)}; it has {', '.join(batch)}")
    return {v.name: batch[v.name] for v in graph.inputs}


def _sizes(graph: Graph, batch: dict) -> dict[str, int]:
    """What the calibration data binds symbolic dimensions to, but for the batch."""
    return {d: n for v in graph.inputs for i, (d, n) in enumerate(zip(v.shape, batch[v.name].shape)) if isinstance(d, str) and i}


# --- weights -------------------------------------------------------------------------------------------------------

def quantize_weight(data: np.ndarray, scales: str = "mse", per_channel: bool = True, least: np.ndarray | float = 0.0,
                    ) -> tuple[np.ndarray, np.ndarray]:
    """(int8 codes, float32 scales): symmetric, -127..127, one scale per row of axis 0 (or one for all: 0-d).

    mse tries 40 shrunken scales and keeps the one of least squared error per row. No scale is below `least` ([rows] or
    one number)."""
    rows = data.reshape(data.shape[0], -1) if per_channel else data.reshape(1, -1)
    top = np.abs(rows).max(1, keepdims=True).astype(np.float64)
    top = np.where(top > 0, top, 1.0)
    scale = top / 127
    if scales == "mse":
        best, lowest = scale, _error(rows, scale)
        for t in np.linspace(0.5, 0.99, 40):
            error = _error(rows, scale * t)
            best, lowest = np.where(error < lowest, scale * t, best), np.minimum(error, lowest)
        scale = best
    least = np.asarray(least, np.float64).reshape(-1, 1)
    scale = np.maximum(scale, least if per_channel else least.max()).astype(np.float32)
    codes = np.clip(np.rint(rows / scale), -127, 127).astype(np.int8).reshape(data.shape)
    return codes, scale.reshape(-1) if per_channel else scale.reshape(())


def _error(rows: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return ((np.clip(np.rint(rows / scale), -127, 127) * scale - rows) ** 2).sum(1, keepdims=True)


def _least_scales(modes: dict[Node, str], places: Places, ranges: dict[Value, tuple[float, float]]) -> dict[Value, np.ndarray]:
    """How small the scales of a static layer's weight may be: its bias, in units of input scale times weight scale, must
    fit an int32 accumulator with room to spare. Dead channels (all bias, hardly any weight) would not."""
    least: dict[Value, np.ndarray] = {}
    for node, mode in modes.items():
        bias = node.inputs[2] if node.op in LAYERS and len(node.inputs) > 2 else None
        leader = places.values.get(node.inputs[0])
        if mode == "static" and bias is not None and leader in ranges:
            floor = np.abs(bias.data.astype(np.float64)) / (float(grid(*ranges[leader])[0]) * 2.0 ** 29)
            least[node.inputs[1]] = np.maximum(least.get(node.inputs[1], 0.0), floor)
    return least


def _quantize_weights(graph: Graph, modes: dict[Node, str], options: PTQ, means: dict[Value, np.ndarray],
                      least: dict[Value, np.ndarray]) -> list[dict]:
    """Every layer's weight behind a dequantize_linear; biases corrected; embeddings as int8 rows."""
    done: dict[Value, Value] = {}
    report = []
    for node, mode in modes.items():
        if node.op == "gather":
            _quantize_embedding(graph, node, options)
            continue
        w = node.inputs[1]
        scales = options_for(node, options.overrides).get("weight_scales", options.weight_scales)
        if w not in done:
            book = w.meta.get("codebook")
            # One scale keeps equal weights equal, so the palette survives.
            codes, scale = quantize_weight(w.data, scales, not (book and book.get("groups", 1) == 1), least.get(w, 0.0))
            meta = {k: v for k, v in w.meta.items() if k != "codebook" or scale.ndim == 0}
            q = Value(graph.fresh(w.name + ".int8"), "int8", codes.shape, codes, meta)
            s = constant(graph.fresh(w.name + ".scale"), scale)
            done[w] = Value(graph.fresh(w.name + ".float"), "float32", w.shape)
            attrs = {"axis": 0} if scale.ndim else {}
            back = Node("dequantize_linear", [q, s], [done[w]], attrs, node.name + ".weight")
            graph.nodes.insert(graph.nodes.index(node), back)
            back = codes.astype(np.float32) * scale.reshape(-1, *[1] * (codes.ndim - 1)) if scale.ndim else codes * scale
            report.append({"layer": layer_name(node), "error": round(float(
                np.linalg.norm(back - w.data) / max(float(np.linalg.norm(w.data)), 1e-30)), 5), "activations": mode})
            done[w].meta["difference"] = back - w.data
        difference = done[w].meta["difference"]
        mean = means.get(node.inputs[0])
        if options.correct_bias and mean is not None and mode == "static":
            _correct(graph, node, difference, mean)
        node.inputs[1] = done[w]
        if mode == "dynamic":
            node.attrs["dynamic"] = 1
    for v in done.values():
        v.meta.pop("difference", None)
    return report


def _correct(graph: Graph, node: Node, difference: np.ndarray, mean: np.ndarray) -> None:
    """bias -= E[(W' - W) x]: the mean input of each channel is known from calibration."""
    if node.op == "linear":
        shift = difference @ mean
    else:
        per = difference.reshape(*difference.shape[:2], -1).sum(2)  # [O, C / group]
        group = node.attrs.get("group", 1)
        shift = np.einsum("goc,gc->go", per.reshape(group, -1, per.shape[1]), mean.reshape(group, -1)).reshape(-1)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    new = (0 if bias is None else bias.data) - shift
    name = bias.name if bias is not None else node.inputs[1].name.removesuffix(".weight") + ".bias"
    node.inputs = [*node.inputs[:2], constant(graph.fresh(name + ".corrected"), new.astype(np.float32)), *node.inputs[3:]]


def _quantize_embedding(graph: Graph, node: Node, options: PTQ) -> None:
    """gather(table, i) -> gather(int8 rows, i) * gather(scales, i): a row is made float only when it is looked up."""
    table, at = node.inputs
    codes, scale = quantize_weight(table.data, options.weight_scales)
    q = constant(graph.fresh(table.name + ".int8"), codes, **table.meta)
    s = constant(graph.fresh(table.name + ".scale"), scale[:, None])
    rows, factors, wide = (Value(graph.fresh(f"{table.name}.{n}"), t, None) for n, t in (
        ("rows", "int8"), ("factors", "float32"), ("wide", "float32")))
    new = []
    for op, inputs, output, attrs in (("gather", [q, at], rows, {"axis": 0}), ("gather", [s, at], factors, {"axis": 0}),
                                      ("cast", [rows], wide, {"to": "float32"}), ("mul", [wide, factors], node.outputs[0], {})):
        new.append(Node(op, inputs, [output], attrs, f"{node.name}.{op}", node.scope))
    i = graph.nodes.index(node)
    graph.nodes[i:i + 1] = new


def _equalize(graph: Graph, options: PTQ) -> int:
    """Equalise in place when wanted, or (auto) when it makes rounding the weights less harmful."""
    trial = graph.copy()
    count = equalize(trial)
    if count == 0 or options.equalize == "auto" and _noise(trial, options) >= _noise(graph, options) * 0.98:
        return 0
    graph.inputs, graph.outputs, graph.nodes = trial.inputs, trial.outputs, trial.nodes
    return count


def _noise(graph: Graph, options: PTQ) -> float:
    """Mean relative squared error of the rounded weights (equalisation does not change the scale of a whole layer much)."""
    errors = []
    for n in graph.nodes:
        if n.op in LAYERS and _float_weight(n.inputs[1]):
            w = n.inputs[1].data
            codes, scale = quantize_weight(w, "max")
            back = codes * scale.reshape(-1, *[1] * (w.ndim - 1))
            errors.append(float(((back - w) ** 2).sum() / max(float((w ** 2).sum()), 1e-30)))
    return float(np.mean(errors)) if errors else 0.0


# --- activations -----------------------------------------------------------------------------------------------------

def _calibrate(graph: Graph, batches: list[dict], places: Places, options: PTQ, ctx: Context):
    """({leader value: (lo, hi)}, {layer input: mean per channel [C]}) from two rounds over the calibration data."""
    seen = {v: Range() for v in places.values}
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


def _insert(graph: Graph, places: Places, ranges: dict[Value, tuple[float, float]]) -> None:
    """A quantize and a dequantize behind every value of `places`; its int8 readers read the latter."""
    taken = {v.name for v in graph.values()}

    def fresh(stem):
        name, i = stem, 0
        while name in taken:
            i += 1
            name = f"{stem}_{i}"
        taken.add(name)
        return name

    grids = {}
    for leader, (lo, hi) in ranges.items():
        scale, zero = grid(lo, hi)
        grids[leader] = (constant(fresh(leader.name + ".scale"), scale), constant(fresh(leader.name + ".zero"), zero))
    behind: dict[Value, list[Node]] = {}
    for v, leader in places.values.items():
        s, z = grids[leader]
        q, d = Value(fresh(v.name + ".int8"), "int8", v.shape), Value(fresh(v.name + ".float"), "float32", v.shape)
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
