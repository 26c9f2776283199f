"""Post-training quantization to int8: the graph gets quantize_linear / dequantize_linear pairs, and lowering makes the
integer kernels of them.

Weights are symmetric int8 (or fewer bits) with a scale per output channel, activations asymmetric int8 with a scale per
tensor, chosen on calibration data (Jacob et al., arXiv 1712.05877; Krishnamoorthi, arXiv 1806.08342). Biases stay float
here; lowering makes them int32. Optional: cross-layer equalisation and bias correction (Nagel et al., arXiv 1906.04721),
which also work without data. With `activations: dynamic` inputs of layers are quantized while running, by row or image,
and no data is needed.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from ..base import Context, Pass, layer_name, options_for, select
from ..cost import guess_bind
from ..errors import UserError
from ..graph import Graph, Node, Value, constant
from ..ops.run import infer
from .activations import calibrate, insert
from .bias import correct, output_means, some
from .observe import grid
from .places import LAYERS, ROWS, Places, find_places
from .prepare import equalize, prepare
from .smooth import smooth
from .weights import choose_scale, collapses, quantize_weight, row_errors, to_codes, to_float

# What computes in float unless `float_ops` says otherwise. Attention does not: its integers cost no accuracy that was measured.
FLOAT_OPS = ("gelu", *sorted(ROWS - {"attention"}))
# What `overrides` may say of single layers, and the values it takes (bits: a range).
LAYERWISE: dict[str, Any] = {"activations": ("static", "dynamic", "none"), "weight_scales": ("mse", "max"),
                             "granularity": ("channel", "tensor"), "weight_bits": range(2, 9)}


@dataclass(frozen=True)
class PTQ(Pass):
    """activations   static (scales from calibration data), dynamic (scales while running) or none (weights alone)
    calibration   data, or synthetic: no data, noise pulled to the statistics that the batch norms hold (arXiv 2001.00281)
    observer      how static scales are chosen: minmax, moving_average, percentile, mse, entropy
    percentile    for that observer: how much of the values the range covers, in %
    decay         for moving_average: how much of its weight a batch keeps with each that follows; 1 is the plain mean
    samples, batch   calibration samples, and how many run at once
    weight_bits   2 to 8
    narrow        layers whose outputs have fewer weights each than this (depthwise, first ones) keep 8 bits: the errors of so
                  few do not average out, and the layers hold hardly any bytes; 0: all layers alike
    weight_scales mse (least squared error) or max
    rounding      nearest; gptq, adaround, brecq: what `rounding.py` says, with calibration data, also for dynamic activations
    round_steps   steps of adaround for each layer, of brecq for each block
    granularity   a scale per output channel, or one per tensor (what some NPUs want)
    equalize      cross-layer equalisation: on, off, or auto: where it brings the weights' error down
    relu6         equalisation through clips at a bound: keep (never), relu (makes relus of them), or auto: relu where a
                  layer would else collapse
    smooth        above 0: SmoothQuant's alpha, outliers behind layer norms are moved into weights (arXiv 2211.10438)
    correct_bias  take out of the biases what rounding the weights adds to a layer's mean output
    correct_outputs   then what is measured to be left of it, with everything before a layer quantized (`bias.py`)
    embeddings    int8 rows for embedding tables too (gather of a float table)
    layers, skip  patterns of layers to quantize, and to leave float
    float_ops     ops that compute in float although they have an integer form. The default keeps what costs accuracy: gelu,
                  softmax, products of two values and norms; add attention for a float one. []: everything that can be is
                  integer
    overrides     {pattern: {activations | weight_scales | granularity | weight_bits: value}}
    """

    activations: Literal["static", "dynamic", "none"] = "static"
    calibration: Literal["data", "synthetic"] = "data"
    observer: Literal["minmax", "moving_average", "percentile", "mse", "entropy"] = "mse"
    percentile: float = 99.99
    decay: float = 0.9
    samples: int = 256
    batch: int = 16
    weight_bits: int = 8
    narrow: int = 0
    weight_scales: Literal["mse", "max"] = "mse"
    rounding: Literal["nearest", "gptq", "adaround", "brecq"] = "nearest"
    round_steps: int = 1000
    granularity: Literal["channel", "tensor"] = "channel"
    equalize: Literal["auto", "on", "off"] = "auto"
    relu6: Literal["auto", "keep", "relu"] = "auto"
    smooth: float = 0.0
    correct_bias: bool = True
    correct_outputs: bool = False
    embeddings: bool = True
    layers: str | list[str] = "*"
    skip: list[str] = field(default_factory=list)
    float_ops: list[str] = field(default_factory=lambda: list(FLOAT_OPS))
    overrides: dict[str, dict] = field(default_factory=dict)

    def check(self) -> None:
        if not 50 < self.percentile <= 100:
            raise ValueError(f"percentile must be above 50 and at most 100, got {self.percentile}")
        if not 0 <= self.smooth < 1:
            raise ValueError(f"smooth must be at least 0 and below 1, got {self.smooth}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must be above 0 and at most 1, got {self.decay}")
        if self.weight_bits not in LAYERWISE["weight_bits"]:
            raise ValueError(f"weight_bits must be 2 to 8, got {self.weight_bits}")
        if self.narrow < 0:
            raise ValueError(f"narrow must not be negative, got {self.narrow}")
        for name in ("samples", "batch", "round_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for pattern, options in self.overrides.items():
            for key, value in options.items():
                allowed = LAYERWISE.get(key)
                if allowed is None:
                    raise ValueError(f"overrides[{pattern!r}]: unknown option {key!r}; it takes {', '.join(LAYERWISE)}")
                if value not in allowed:
                    raise ValueError(f"overrides[{pattern!r}]: {key} must be one of {', '.join(map(str, allowed))}, "
                                     f"got {value!r}")

    def of(self, node: Node) -> dict[str, Any]:
        """The layer-wise options of one node."""
        said = options_for(node, self.overrides)
        few = self.narrow and node.op in LAYERS and _float_weight(node.inputs[1]) and node.inputs[1].data[0].size < self.narrow
        return {name: said.get(name, getattr(self, name)) for name in LAYERWISE} | (
            {"weight_bits": 8} if few and "weight_bits" not in said else {})

    def matches(self, graph: Graph) -> list[Node]:
        """Layers with float weights, and embedding tables."""
        nodes = [n for n in graph.nodes if n.op in LAYERS and _float_weight(n.inputs[1]) or
                 self.embeddings and _embedding(n)]
        return [n for n in select(nodes, self.layers) if not select([n], self.skip)]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        needed = self.activations == "static" or self.rounding != "nearest"
        return quantize_graph(graph, self.batches(graph, ctx) if needed else None, self, ctx)

    def batches(self, graph: Graph, ctx: Context) -> list[dict]:
        """What static scales are chosen on."""
        if self.calibration == "synthetic":
            from .synthetic import synthetic
            return synthetic(graph, self.samples, self.batch, ctx)
        if ctx.data is None:
            what = "activations: static" if self.activations == "static" else f"rounding: {self.rounding}"
            raise UserError(f"quantize.ptq: {what} needs calibration data; add `data:` to the recipe, or use "
                            "calibration: synthetic, or activations: dynamic")
        return [inputs for inputs, _ in ctx.data.batches("calibration", self.batch, None, self.samples)]

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
                   ctx: Context | None = None, masters: dict[str, tuple[np.ndarray, int]] | None = None) -> Graph:
    """`graph` as a QDQ graph. batches: dicts of inputs to calibrate on; None: dynamic (each layer's input is quantized
    while running). masters: takes the float weight and the bits of each int8 constant by name, for those who train on.
    The engine's contract is in passes/lower/integer.py."""
    options = options or PTQ()
    ctx = ctx or Context(graph)
    if batches is None and options.activations == "static":
        options = replace(options, activations="dynamic")
    graph = prepare(graph)
    modes = _modes(graph, options)
    if not modes:
        raise UserError("quantize.ptq: no layer with float weights matches; check layers and skip")
    static = [n for n in modes if modes[n] == "static" and n.op in LAYERS]
    batches = None if batches is None else [_arrays(graph, b) for b in batches]
    facts: dict = {}
    places, ranges, means = Places(), {}, {}
    if static and batches is not None:
        if not batches:
            raise UserError("quantize.ptq: the calibration data is empty")
        facts |= _equalize(graph, options)
        if options.smooth:
            facts["smoothed"] = smooth(graph, batches, options.smooth)
        modes = _modes(graph, options)
        floats = {n for n in graph.nodes if n.op in LAYERS and modes.get(n) != "static" or n.op in options.float_ops}
        shapes = {v: s for v, (s, _) in infer(graph, guess_bind(graph, _sizes(graph, batches[0]), batch=2)).items()}
        places = find_places(graph, shapes, floats)
        ranges, means = calibrate(graph, batches, places, options, ctx)
    masters = {} if masters is None else masters
    if options.rounding != "nearest" and not batches:
        raise UserError(f"quantize.ptq: rounding: {options.rounding} needs calibration data")
    least = _least_scales(modes, places, ranges)
    moved = _round(graph, modes, options, least, batches, ctx) if options.rounding != "nearest" and batches else {}
    first = some(batches) if batches and options.correct_outputs else []
    corrected = [n for n in places.nodes if modes.get(n) == "static" and n.op in LAYERS] if first else []
    wanted = output_means(graph, first, corrected)
    errors = _quantize_weights(graph, modes, options, means, least, masters, moved)
    insert(graph, places, ranges)
    if corrected:
        correct(graph, first, corrected, wanted)
    graph.prune()
    ctx.note(layers=errors, int8_nodes=len(places.nodes),
             float_nodes=[n.op for n in graph.nodes if _computes_in_float(n, places)][:20],
             samples=sum(len(next(iter(b.values()))) for b in batches) if batches and static else 0, **facts)
    return graph


def _modes(graph: Graph, options: PTQ) -> dict[Node, str]:
    """How each layer that is quantized treats its input."""
    return {n: options.of(n)["activations"] for n in options.matches(graph)}


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
                      least: dict[Value, np.ndarray], masters: dict[str, tuple[np.ndarray, int]],
                      moved: dict[Value, np.ndarray]) -> list[dict]:
    """Every layer's weight behind a dequantize_linear; biases corrected; embeddings as int8 rows."""
    done: dict[Value, Value] = {}
    report = []
    for node, mode in modes.items():
        if node.op == "gather":
            _quantize_embedding(graph, node, options)
            continue
        w = node.inputs[1]
        if w not in done:
            how, by_row = options.of(node), _by_row(node, options)
            scale = choose_scale(w.data, how["weight_scales"], by_row, least.get(w, 0.0), how["weight_bits"])
            codes = to_codes(moved.get(w, w.data), scale, how["weight_bits"])
            q = _behind(graph, node, codes, scale, how["weight_bits"])
            done[w] = q.outputs[0]
            if not _one_palette(w):  # a palette is trained by who made it
                masters[q.inputs[0].name] = w.data, how["weight_bits"]
            difference = to_float(codes, scale) - w.data
            report.append({"layer": layer_name(node), "error": round(float(
                np.linalg.norm(difference) / max(float(np.linalg.norm(w.data)), 1e-30)), 5), "activations": mode})
            done[w].meta["difference"] = difference
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


def _one_palette(w: Value) -> bool:
    """Whether weights are equal because they share a value, of a palette or of hashed buckets."""
    return bool(w.meta.get("hashed")) or bool(w.meta.get("codebook")) and w.meta["codebook"].get("groups", 1) == 1


def _by_row(node: Node, options: PTQ) -> bool:
    """Whether a layer gets a scale per row. One scale keeps equal weights equal, so a palette survives."""
    return options.of(node)["granularity"] == "channel" and not _one_palette(node.inputs[1])


def _round(graph: Graph, modes: dict[Node, str], options: PTQ, least: dict[Value, np.ndarray], batches: list[dict],
           ctx: Context) -> dict[Value, np.ndarray]:
    """The weights, moved to where they are to be rounded; not those of palettes, which would be torn."""
    from .rounding import Grid, round_weights
    grids: dict[Node, Grid] = {}
    for node in modes:
        if node.op in LAYERS and not _one_palette(w := node.inputs[1]) and w not in {n.inputs[1] for n in grids}:
            how = options.of(node)
            scale = choose_scale(w.data, how["weight_scales"], _by_row(node, options), least.get(w, 0.0), how["weight_bits"])
            grids[node] = Grid(scale, how["weight_bits"])
    return round_weights(graph, grids, batches, options.rounding, options.round_steps, ctx)


def _behind(graph: Graph, node: Node, codes: np.ndarray, scale: np.ndarray, bits: int) -> Node:
    """The codes as a constant with a dequantize_linear before `node`, which is returned. Up to 16 levels are stored as a
    palette."""
    w = node.inputs[1]
    meta = {k: v for k, v in w.meta.items() if k != "codebook" or scale.ndim == 0}
    if bits <= 4 and "codebook" not in meta:
        meta["codebook"] = {"bits": bits, "groups": 1}
    q = Value(graph.fresh(w.name + ".int8"), "int8", codes.shape, codes, meta)
    s = constant(graph.fresh(w.name + ".scale"), scale)
    made = Value(graph.fresh(w.name + ".float"), "float32", w.shape)
    back = Node("dequantize_linear", [q, s], [made], {"axis": 0} if scale.ndim else {}, node.name + ".weight")
    graph.nodes.insert(graph.nodes.index(node), back)
    return back


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


# --- equalisation ----------------------------------------------------------------------------------------------------

def _equalize(graph: Graph, options: PTQ) -> dict:
    """Equalise in place when wanted, or (auto) when it makes rounding the weights less harmful; facts for the report.

    Layers that one scale per tensor would make collapse (arXiv 1806.08342 saw MobileNet fall to 0.1 %) are named, before and
    after; where clips at a bound stand in the way, they become relus if that is allowed."""
    lost = _collapsed(graph, options)
    facts: dict = {"collapse": {"before": lost, "after": lost}} if lost else {}
    if options.equalize == "off":
        return facts
    trials = [(graph, 0)]
    for through in {"keep": (False,), "relu": (True,), "auto": (False, True)}[options.relu6]:
        if through and options.relu6 == "auto" and not _collapsed(trials[-1][0], options):
            break
        trial = graph.copy()
        trials.append((trial, equalize(trial, through_clips=through)))
    noise = [_noise(g, options) for g, _ in trials]
    best = len(trials) - 1 if options.equalize == "on" else min(range(len(trials)), key=lambda i: noise[i] * (0.98 if i else 1))
    chosen, count = trials[best]
    facts["equalized"] = count
    if lost:
        facts["collapse"] = {"before": lost, "after": _collapsed(chosen, options)}
    graph.inputs, graph.outputs, graph.nodes = chosen.inputs, chosen.outputs, chosen.nodes
    return facts


def _collapsed(graph: Graph, options: PTQ) -> list[str]:
    """Layers with one scale that loses some of their channels."""
    rows = ((n, options.of(n)) for n in options.matches(graph) if n.op in LAYERS)
    return [layer_name(n) for n, how in rows if how["granularity"] == "tensor" and collapses(
        n.inputs[1].data, False, how["weight_bits"])]


def _noise(graph: Graph, options: PTQ) -> float:
    """Mean relative squared error of the rounded weights: of whole layers (whose scale equalisation does not change much),
    and of single channels where all of a tensor share one scale."""
    errors = []
    for n in options.matches(graph):
        if n.op in LAYERS:
            w, how = n.inputs[1].data, options.of(n)
            by_row = how["granularity"] == "channel"
            if by_row:
                back = to_float(*quantize_weight(w, "max", True, 0.0, how["weight_bits"]))
                errors.append(float(((back - w) ** 2).sum() / max(float((w ** 2).sum()), 1e-30)))
            else:
                errors.append(float(row_errors(w, False, how["weight_bits"]).mean()))
    return float(np.mean(errors)) if errors else 0.0
