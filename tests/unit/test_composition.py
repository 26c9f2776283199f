"""Every ordered pair of passes in a row, on a tiny CNN and a tiny transformer: the second keeps what the first established
(zeros, palettes, hashed buckets, integers, shared weights, ranks, channels, heads, layers), and the lowered file says what torch
says.

The pairs are made from PASSES; a new pass is in them by its line there.
"""
from __future__ import annotations

import functools
import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch
from mcc.kernels import Session
from mcc.passes import PASSES, find, hashing, load, lower
from mcc.passes.cost import params
from mcc.passes.distill.encoder import encoder_example
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph
from mcc.passes.lower.storage import HASHED, store
from mcc.passes.ops.run import run

from networks import blocks, cnn, context, shifted

torch.set_num_threads(1)

# The first of a kind that both passes have something to do on; no small network has everything.
NETS = {"cnn": {"cnn": cnn, "blocks": blocks, "shortcut": lambda: blocks(shortcut=True)},
        "transformer": {"encoder": encoder_example, "attention": lambda: blocks(attention=True)}}
ENCODERS = ("prune.heads", "distill.layer_drop", "distill.tinybert", "distill.minilm")  # nothing for them in a CNN
# What needs other than its defaults to do something to networks of this size.
SETTINGS = {"structure.low_rank": {"ratio": 0.6}, "prune.weights": {"sparsity": 0.6, "epochs": 1, "steps": 3},
            "prune.channels": {"ratio": 0.4}, "prune.blocks": {"sparsity": 0.5, "scope": "layer"},
            "quantize.ptq": {"samples": 32}, "quantize.codebook": {"bits": 3, "min_size": 16},
            "distill.logits": {"epochs": 0.5}, "distill.tinybert": {"epochs": 0.5, "prediction_epochs": 0.5}}
INTEGER = ("quantize.ptq", "quantize.qat", "quantize.mixed")
FACTORS = ("structure.low_rank", "structure.tucker", "structure.cp", "structure.decompose_conv", "structure.bottleneck",
           "structure.depthwise", "structure.small_kernels", "structure.group_conv")


@functools.cache
def net(name: str) -> Graph:
    return {k: v for nets in NETS.values() for k, v in nets.items()}[name]()


@functools.cache
def matches(name: str, pass_: str) -> bool:
    return bool(find(pass_)().matches(net(name)))


def chosen(kind: str, first: str, second: str) -> str | None:
    return next((n for n in NETS[kind] if matches(n, first) and matches(n, second)), None)


@functools.cache
def after(name: str, first: str) -> Graph:
    graph = net(name)
    return find(first)(**SETTINGS.get(first, {})).run(graph, context(graph, shifted(graph)))


PAIRS = [(kind, first, second) for kind in NETS for first, second in itertools.product(PASSES, PASSES)
         if kind == "transformer" or not {first, second} & {*ENCODERS}]


@pytest.mark.parametrize("kind,first,second", PAIRS)
def test_pair(kind, first, second, tmp_path):
    """Or the second says that it must come before."""
    name = chosen(kind, first, second)
    assert name, f"no tiny {kind} has something for both; give NETS one"
    graph, middle = net(name), after(name, first)
    try:
        out = find(second)(**SETTINGS.get(second, {})).run(middle, context(graph, shifted(graph), previous=graph))
    except UserError as e:
        assert first in INTEGER and not second.startswith("distill.") or not find(second)().matches(middle), e
        return
    keeps_values(middle, out, second)
    keeps_sharing(middle, out)
    keeps_sizes(middle, out, first, second)
    agrees(out, tmp_path / "net.mcc")


# --- what was established ------------------------------------------------------------------------------------------------

def keeps_values(middle: Graph, out: Graph, second: str) -> None:
    """Zeros stay zeros, palettes have as many entries, integers are the same or fewer."""
    new = {v.name: v for v in out.constants()}
    for v in middle.constants():
        now = new.get(v.name)
        if now is None or now.shape != v.shape:
            continue
        if v.meta.get("sparse"):
            assert now.meta.get("sparse"), f"{v.name} is not known as sparse any more"
            assert not now.data[v.data == 0].any(), f"{v.name}: zeros are filled"
            assert second.startswith("prune.") or np.array_equal(now.data == 0, v.data == 0)
        if v.meta.get("codebook") and not second.startswith("quantize."):
            assert now.meta.get("codebook"), f"{v.name} has lost its palette"
        if "hashed" in v.meta:
            assert "hashed" in now.meta, f"{v.name} is not known as hashed any more"
        if v.data.dtype == np.int8 and second != "quantize.codebook":
            assert now.data.dtype == np.int8 and now.meta.get("bits") == v.meta.get("bits")
    for v in out.constants():
        if "hashed" in v.meta:
            assert hashing.buckets_of(v.data, v.meta["hashed"], bool(v.meta.get("sparse"))) is not None, f"{v.name} is torn"
        if v.meta.get("sparse"):
            assert (v.data == 0).any(), f"{v.name} is called sparse and has no zero"
        if book := v.meta.get("codebook"):
            assert all(len(np.unique(g)) <= 2 ** book["bits"] for g in v.data.reshape(book["groups"], -1)), v.name


def _of_activations(node) -> bool:
    """Whether a node makes integers of computed values, or floats of those: its second input is a scale."""
    return node.op in ("quantize_linear", "dequantize_linear") and node.inputs[0].data is None


def keeps_sharing(middle: Graph, out: Graph) -> None:
    """Layers that shared a weight and still are there share one, or parts of one; each output has a range of its own."""
    for users in tied(middle):
        left: dict[str, list] = defaultdict(list)
        for stem in users:
            for n in out.nodes:
                if (n.name == stem or n.name.startswith(stem + ".")) and not _of_activations(n):
                    left[n.name[len(stem):]].append(n)
        for part, nodes in left.items():
            weights = [n.inputs[1] for n in nodes if len(n.inputs) > 1 and n.inputs[1] is not None]
            assert all(w is weights[0] or w.data is None and same_source(out, w, weights[0]) for w in weights), \
                f"{users}{part} do not share any more"


def tied(graph: Graph) -> list[list[str]]:
    """Names of the layers that read one weight."""
    readers: dict = defaultdict(list)
    for n in graph.nodes:
        if n.op in ("conv", "linear") and n.inputs[1].data is not None:
            readers[n.inputs[1]].append(n.name)
    return [names for names in readers.values() if len(names) > 1]


def same_source(graph: Graph, a, b) -> bool:
    """Both are the dequantized form of one constant."""
    makers = graph.makers()
    return b.data is None and makers[a].inputs[0] is makers[b].inputs[0]


def keeps_sizes(middle: Graph, out: Graph, first: str, second: str) -> None:
    """No layer has more rows (ranks, channels), no attention more heads; only what replaces layers adds some, or parameters."""
    before, now = widths(middle), widths(out)
    wider = {k: (n, now[k]) for k, n in before.items() if now.get(k, n) > n}
    assert not wider, wider
    heads = {n.name: n.attrs.get("q_num_heads", n.attrs.get("num_heads")) for n in middle.nodes if n.op == "attention"}
    for n in out.nodes:
        if n.op == "attention" and heads.get(n.name):
            assert n.attrs.get("q_num_heads", n.attrs.get("num_heads")) <= heads[n.name]
    if not second.startswith("structure."):
        assert not now.keys() - before.keys() or first in INTEGER, now.keys() - before.keys()
        if second.startswith("prune."):
            assert params(out) <= params(middle)
    if first in FACTORS and second.startswith(("prune.weights", "prune.blocks", "quantize.", "distill.logits")):
        assert before.keys() == now.keys(), "the factors are there"


def widths(graph: Graph) -> dict[str, int]:
    """Output channels of every layer whose weight is known here or in its quantized form."""
    makers, found = graph.makers(), {}
    for n in graph.nodes:
        if n.op in ("conv", "linear"):
            w = n.inputs[1]
            data = w.data if w.data is not None else makers[w].inputs[0].data if w in makers else None
            if data is not None:
                found[n.name] = data.shape[0]
    return found


# --- the file ------------------------------------------------------------------------------------------------------------

def agrees(graph: Graph, path) -> None:
    """The engine on the file, torch on what was lowered and torch on the graph: float32 to rounding. Where activations are
    integers the first two agree as well, but that float32 between them (attention, norms) may round to the next step of one;
    the graph itself is some steps away."""
    r = np.random.default_rng(3)
    feeds = {v.name: r.standard_normal((4, *v.shape[1:])).astype(v.dtype) for v in graph.inputs}
    lowered = lower(graph, path, bind={"N": 4})
    said, means, want = (next(iter(o.values())) for o in (Session(str(path)).run(feeds), run(lowered, feeds), run(graph, feeds)))
    span = max(float(np.ptp(want.numpy())), 1e-6)
    assert said.shape == tuple(want.shape) and np.isfinite(said).all()
    integers = any(n.op in ("quantize_linear", "dynamic_quantize_linear") for n in graph.nodes)
    mixed = integers and any(n.op in ("attention", "layer_norm") for n in graph.nodes)
    assert np.abs(said - means.numpy()).max() <= (0.02 if mixed else 1e-4) * span, "the engine and what was lowered"
    off = np.abs(said - want.numpy())
    kept = sum("hashed" in v.meta and store(v.data, v.dtype, v.meta).storage == HASHED for v in graph.constants())
    assert sum(v.meta["storage"] == "hashed" for v in load(path).constants()) >= kept, "the file keeps buckets"
    assert off.max() <= 1e-4 * span or integers and np.median(off) <= 0.05 * span, "the file and the graph"
