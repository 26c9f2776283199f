"""Every pass of PASSES, by its own example; each on small networks; all pairs in a row."""
from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from mcc.passes import PASSES, find
from mcc.passes.base import Context
from mcc.passes.cost import macs, nonzeros, params, total_macs
from mcc.passes.distill.encoder import EncoderSketch, encoder_example
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.ops.run import infer, run

torch.set_num_threads(1)
RNG = np.random.default_rng(0)


class Noise:
    """Random inputs for any graph; labels from a fixed rule, or none."""

    def __init__(self, graph, n=64, labels=True):
        r = np.random.default_rng(1)
        shapes = {v: [n if isinstance(d, str) else d for d in v.shape] for v in graph.inputs}
        self.inputs = {v.name: torch.from_numpy(r.standard_normal(s).astype(v.dtype)) for v, s in shapes.items()}
        first = next(iter(self.inputs.values())).flatten(1)
        width = graph.outputs[0].shape
        self.labels = (first.sum(1) > 0).long() if labels and len(width) == 2 else None
        self.n = n

    def size(self, split):
        return self.n

    def batches(self, split, batch, seed=None, limit=None):
        order = np.arange(self.n) if seed is None else np.random.default_rng(seed).permutation(self.n)
        for i in range(0, min(self.n, limit or self.n), batch):
            rows = order[i:i + batch]
            yield {k: v[rows] for k, v in self.inputs.items()}, None if self.labels is None else self.labels[rows]


def context(graph, original=None, **kw):
    return Context(original or graph, Noise(graph), train={"lr": 1e-3, "batch": 16}, **kw)


def shifted(graph):
    """The graph with other weights: a teacher."""
    other = graph.copy()
    for v in other.constants():
        if v.data.dtype == np.float32:
            v.data = (v.data * 1.5).astype(np.float32)
    return other


def cnn(classes=4):
    """conv, batch norm, relu, depthwise, residual add, pool, linear."""
    r = np.random.default_rng(2)
    count = itertools.count()

    def weight(name, *shape, scale=0.3):
        return constant(name, (r.standard_normal(shape) * scale).astype(np.float32))

    def value(*shape):
        return Value(f"v{next(count)}", "float32", ("N", *shape))
    x, nodes = Value("x", "float32", ("N", 3, 8, 8)), []

    def add(op, inputs, shape, name, **attrs):
        nodes.append(Node(op, inputs, [value(*shape)], attrs, name))
        return nodes[-1].outputs[0]

    def norm(v, c, name):
        return add("batch_norm", [v, constant(f"{name}.weight", np.ones(c, np.float32)), weight(f"{name}.bias", c),
                                  weight(f"{name}.running_mean", c), constant(f"{name}.running_var", np.ones(c, np.float32))],
                   v.shape[1:], name)
    pads = {"pads": [1, 1, 1, 1]}
    a = add("conv", [x, weight("stem.weight", 16, 3, 3, 3), None], (16, 8, 8), "stem", **pads)
    a = add("relu", [norm(a, 16, "bn1")], (16, 8, 8), "r1")
    b = add("conv", [a, weight("dw.weight", 16, 1, 3, 3), None], (16, 8, 8), "dw", group=16, **pads)
    b = add("hard_swish", [norm(b, 16, "bn2")], (16, 8, 8), "hs")
    b = add("conv", [b, weight("pw.weight", 16, 16, 1, 1), weight("pw.bias", 16)], (16, 8, 8), "pw")
    y = add("add", [b, a], (16, 8, 8), "add")
    y = add("clip", [y, constant("lo", np.float32(0)), constant("hi", np.float32(6))], (16, 8, 8), "clip")
    y = add("reduce_mean", [y, constant("axes", np.array([2, 3]))], (16,), "mean", keepdims=0)
    y = add("relu", [add("linear", [y, weight("fc1.weight", 24, 16), weight("fc1.bias", 24)], (24,), "fc1")], (24,), "r2")
    y = add("linear", [y, weight("fc2.weight", classes, 24), weight("fc2.bias", classes)], (classes,), "fc2")
    return Graph([x], [y], nodes)


def blocks(classes=4, attention=False):
    """What structure passes look for besides: 5 x 5 kernels, alike blocks, parallel branches, a flattened head; with
    `attention` two encoder layers over the pixels stand before the head."""
    r = np.random.default_rng(2)
    x, nodes = Value("x", "float32", ("N", 3, 8, 8)), []

    def add(op, inputs, shape, name, **attrs):
        nodes.append(Node(op, inputs, [Value(f"{name}.out", "float32", ("N", *shape))], attrs, name))
        return nodes[-1].outputs[0]

    def weighted(op, v, name, shape, *weight, **attrs):
        w = constant(f"{name}.weight", (r.standard_normal(weight) / np.sqrt(np.prod(weight[1:]))).astype(np.float32))
        return add(op, [v, w, constant(f"{name}.bias", r.standard_normal(weight[0]).astype(np.float32))], shape, name, **attrs)
    image = (16, 8, 8)
    y = add("relu", [weighted("conv", x, "stem", image, 16, 3, 3, 3, pads=[1] * 4)], image, "r0")
    three = weighted("conv", y, "three", image, 16, 16, 3, 3, pads=[1] * 4)
    one = weighted("conv", y, "one", image, 16, 16, 1, 1)
    y = add("relu", [add("add", [three, one], image, "sum")], image, "r1")
    for i in range(2):
        y = add("relu", [weighted("conv", y, f"block.{i}.conv", image, 16, 16, 5, 5, pads=[2] * 4)], image, f"block.{i}.relu")
    if attention:
        encoder = EncoderSketch()
        encoder.nodes = nodes
        y = add("reshape", [y, constant("rows", np.array([0, 16, 64]))], (16, 64), "rows")
        y = encoder.layer(encoder.layer(add("transpose", [y], (64, 16), "turn", perm=[0, 2, 1]), 2, "layer.0"), 2, "layer.1")
        y = add("transpose", [y], (16, 64), "back", perm=[0, 2, 1])
        y = add("reshape", [y, constant("image", np.array([0, 16, 8, 8]))], image, "image")
    y = add("average_pool", [y], (16, 4, 4), "pool", kernel_shape=[2, 2], strides=[2, 2])
    y = add("relu", [weighted("linear", add("flatten", [y], (256,), "flat", axis=1), "fc1", (24,), 24, 256)], (24,), "r2")
    return Graph([x], [weighted("linear", y, "fc2", (classes,), classes, 24)], nodes)


def outputs(graph, seed=3, n=4):
    r = np.random.default_rng(seed)
    shapes = {v.name: [n if isinstance(d, str) else d for d in v.shape] for v in graph.inputs}
    feeds = {name: r.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    return next(iter(run(graph, feeds).values()))


def distance(a, b):
    return float((a - b).norm() / b.norm())


def same_graph(a, b):
    return str(a) == str(b) and all(np.array_equal(u.data, v.data) and u.meta == v.meta
                                    for u, v in zip(a.constants(), b.constants()))


# --- every pass --------------------------------------------------------------------------------------------------------

each = pytest.mark.parametrize("name", PASSES)


@each
def test_example_changes_something_and_keeps_the_output(name):
    cls = find(name)
    graph = cls.example()
    before = graph.copy()
    pass_, ctx = cls(), context(graph, shifted(graph))
    pass_.check()
    assert pass_.matches(graph), "the pass must match its own example"
    out = pass_.run(graph, ctx)
    assert not same_graph(out, graph)
    assert same_graph(graph, before), "the graph that is given must not change"
    shapes, new = infer(graph), infer(out)
    assert [new[v] for v in out.outputs] == [shapes[v] for v in graph.outputs]
    assert [(v.name, v.shape) for v in out.inputs] == [(v.name, v.shape) for v in graph.inputs]
    assert torch.isfinite(outputs(out)).all()
    names = [v.name for v in out.values()]
    assert len(names) == len(set(names))


@each
def test_deterministic(name):
    cls = find(name)
    a, b = (cls().run(cls.example(), context(cls.example(), shifted(cls.example()))) for _ in range(2))
    assert same_graph(a, b)


@each
def test_is_frozen_and_documented(name):
    cls = find(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(cls(), dataclasses.fields(cls)[0].name, None)
    missing = [f.name for f in dataclasses.fields(cls) if f.name not in cls.__doc__]
    assert not missing, f"options without a word in the docstring: {missing}"
    assert "arXiv" in __import__(cls.__module__, fromlist=["x"]).__doc__


# Values that check() must refuse, and the word its message must have. A pass that is not here is still asked for an
# unknown option; SETTINGS below likewise: a pass that is not there runs with its defaults.
WRONG = {
    "structure.low_rank": [({"ratio": 1.5}, "ratio"), ({"ratio": 0.5, "rank": 4}, "rank and ratio"), ({"rank": 0}, "rank"),
                           ({"whiten": True, "split": "spatial"}, "whiten"), ({"overrides": {"fc": {"macs": 0.5}}}, "fc")],
    "prune.weights": [({"sparsity": 1.0}, "sparsity"), ({"start": 0.7, "end": 0.2}, "start"), ({"epochs": -1}, "epochs"),
                      ({"sparsity": 0.995}, "max_sparsity"), ({"overrides": {"fc": {"ratio": 0.5}}}, "ratio")],
    "prune.channels": [({"ratio": 0.5, "macs": 0.5}, "ratio and macs"), ({"ratio": 0.0}, "ratio"), ({"round_to": 0}, "round_to"),
                       ({"overrides": {"a": {"ratio": 2}}}, "overrides")],
    "quantize.ptq": [({"percentile": 20}, "percentile"), ({"samples": 0}, "samples"),
                     ({"overrides": {"fc": {"activations": "int4"}}}, "activations"),
                     ({"overrides": {"fc": {"bits": 4}}}, "bits")],
    "quantize.codebook": [({"bits": 9}, "bits"), ({"bits": 4, "clusters": 8}, "bits and clusters"), ({"clusters": 0}, "clusters"),
                          ({"overrides": {"fc*": {"clusers": 4}}}, "clusers"), ({"groups": 0}, "groups")],
    "distill.logits": [({"temperature": 0}, "temperature"), ({"alpha": 1.5}, "alpha"), ({"epochs": 0}, "epochs"),
                       ({"teacher": []}, "teacher")],
    "distill.hidden": [({"epochs": 0}, "epochs"), ({"weight": -1}, "weight"), ({"temperature": 0}, "temperature")],
    "distill.layer_drop": [({"soft": -1}, "soft"), ({"epochs": -1}, "epochs"), ({"temperature": 0}, "temperature")],
    "distill.tinybert": [({"epochs": 0, "prediction_epochs": 0}, "epochs"), ({"augment": 1.0}, "augment"),
                         ({"hidden": -1}, "hidden")],
    "distill.minilm": [({"relations": {"x": 1}}, "relations"), ({"heads": -1}, "heads")],
}


@each
def test_wrong_options_are_refused(name):
    for options, word in WRONG.get(name, []):
        with pytest.raises(ValueError, match=word.replace("*", r"\*")):
            find(name)(**options).check()
    with pytest.raises(TypeError):
        find(name)(no_such_option=1)


SETTINGS = {"structure.low_rank": {"ratio": 0.6}, "prune.weights": {"sparsity": 0.6, "epochs": 1, "steps": 3},
            "prune.channels": {"ratio": 0.4}, "quantize.ptq": {"samples": 32}, "quantize.codebook": {"bits": 3, "min_size": 16},
            "distill.logits": {"epochs": 0.5}, "distill.tinybert": {"epochs": 0.5, "prediction_epochs": 0.5}}


@pytest.mark.parametrize("first,second", list(itertools.product(PASSES, PASSES)))
def test_all_pairs(first, second):
    """Any two passes in a row work, or the second says that it must come before."""
    graph = next(g for g in (cnn(), encoder_example(), blocks(), blocks(attention=True))
                 if find(first)().matches(g) and find(second)().matches(g))
    ctx = context(graph, shifted(graph))
    middle = find(first)(**SETTINGS.get(first, {})).run(graph, ctx)
    ctx = context(graph, shifted(graph), previous=graph)
    try:
        out = find(second)(**SETTINGS.get(second, {})).run(middle, ctx)
    except UserError as e:
        assert first == "quantize.ptq" and not second.startswith("distill.") or not find(second)().matches(middle), e
        return
    assert outputs(out).shape == outputs(graph).shape and torch.isfinite(outputs(out)).all()
    zeros = {v.name: v.data == 0 for v in middle.constants() if v.meta.get("sparse")}
    for v in out.constants():
        if v.meta.get("sparse"):
            assert (v.data == 0).any()
            if v.name in zeros and zeros[v.name].shape == v.data.shape and second != "prune.weights":
                assert np.array_equal(v.data == 0, zeros[v.name])
        if v.meta.get("codebook"):
            book = v.meta["codebook"]
            assert all(len(np.unique(g)) <= 2 ** book["bits"] for g in v.data.reshape(book["groups"], -1))
    if first in ("prune.weights", "quantize.codebook") and second in ("quantize.codebook", "distill.logits"):
        key = "sparse" if first == "prune.weights" else "codebook"
        assert sum(bool(v.meta.get(key)) for v in out.constants()) >= sum(bool(v.meta.get(key)) for v in middle.constants())


# --- structure.low_rank -------------------------------------------------------------------------------------------------

def low_rank_layer(rank, split="channel"):
    """A convolution whose weight has that rank."""
    r = np.random.default_rng(5)
    if split == "channel":
        w = (r.standard_normal((24, rank)) @ r.standard_normal((rank, 16 * 9))).reshape(24, 16, 3, 3)
    else:
        w = np.einsum("rch,row->ochw", r.standard_normal((rank, 16, 3)), r.standard_normal((rank, 24, 3)))
    x, y = Value("x", "float32", ("N", 16, 9, 7)), Value("y", "float32", ("N", 24, 5, 4))
    node = Node("conv", [x, constant("c.weight", (w * 0.1).astype(np.float32)), constant("c.bias", np.ones(24, np.float32))], [y],
                {"pads": [1, 1, 1, 1], "strides": [2, 2], "kernel_shape": [3, 3]}, "c")
    return Graph([x], [y], [node])


@pytest.mark.parametrize("split", ["channel", "spatial"])
@pytest.mark.parametrize("how", [{"rank": 4}, {"error": 0.01}, {"energy": 0.9999}])
def test_low_rank_finds_the_rank_there_is(split, how):
    graph = low_rank_layer(4, split)
    ctx = context(graph)
    out = find("structure.low_rank")(split=split, **how).run(graph, ctx)
    assert ctx.notes["layers"][0]["rank"] == 4 and len(out.nodes) == 2
    assert distance(outputs(out), outputs(graph)) < 1e-4
    assert total_macs(out) == ctx.notes["macs_after"] == ctx.notes["layers"][0]["macs"] < total_macs(graph)


def test_low_rank_budget_and_report():
    graph = cnn()
    for target in (0.9, 0.6):
        ctx = context(graph)
        out = find("structure.low_rank")(macs=target, layers=["pw", "fc*"]).run(graph, ctx)
        names = {"pw", "fc1", "fc2"}
        before = sum(m for n, m in macs(graph).items() if n.name in names)
        after = sum(m for n, m in macs(out).items() if n.name.split(".")[0] in names)
        assert after <= target * before
        assert {entry["layer"] for entry in ctx.notes["layers"]} | set(ctx.notes["skipped"]) == names
        assert params(out) == ctx.notes["params_after"] < params(graph)


def test_low_rank_leaves_what_does_not_pay():
    graph = low_rank_layer(4)
    ctx = context(graph)
    out = find("structure.low_rank")(rank=24).run(graph, ctx)
    assert same_graph(out, graph) and "cost more" in ctx.notes["skipped"]["c"]


def test_whitening_minimises_the_output_error():
    """With inputs that live mostly in a few directions, the whitened rank-3 layer is far better on them."""
    r = np.random.default_rng(0)
    x, y = Value("x", "float32", ("N", 32)), Value("y", "float32", ("N", 32))
    w = constant("fc.weight", r.standard_normal((32, 32)).astype(np.float32))
    graph = Graph([x], [y], [Node("linear", [x, w, None], [y])])
    ctx = context(graph)
    basis = r.standard_normal((6, 32))
    rows = r.standard_normal((64, 6)) @ basis + 0.01 * r.standard_normal((64, 32))
    ctx.data.inputs["x"] = torch.from_numpy(rows.astype(np.float32))
    feeds = {"x": ctx.data.inputs["x"]}
    want = run(graph, feeds)["y"]
    error = [distance(run(find("structure.low_rank")(rank=6, whiten=w).run(graph, ctx), feeds)["y"], want) for w in (False, True)]
    assert error[1] < 0.02 < error[0] / 5


# --- prune.weights ------------------------------------------------------------------------------------------------------

def test_prune_reaches_its_share():
    graph = cnn()
    for scope in ("global", "layer"):
        out = find("prune.weights")(sparsity=0.7, scope=scope).run(graph, context(graph))
        pruned = [v for v in out.constants() if v.meta.get("sparse")]
        zeros, total = sum(int((v.data == 0).sum()) for v in pruned), sum(v.data.size for v in pruned)
        assert zeros / total == pytest.approx(0.7, abs=0.01)
        if scope == "layer":
            assert all(abs((v.data == 0).mean() - 0.7) < 0.05 for v in pruned)
        old = {v.name: v.data for v in graph.constants()}
        for v in pruned:  # survivors are untouched; per layer they are the largest
            assert np.array_equal(v.data[v.data != 0], old[v.name][v.data != 0])
            assert np.abs(v.data[v.data != 0]).min() >= np.abs(old[v.name][v.data == 0]).max() or scope == "global"
        assert nonzeros(out) == nonzeros(graph) - zeros


def test_prune_overrides_and_exclusions():
    graph = cnn()
    out = find("prune.weights")(sparsity=0.5, skip=["dw"], skip_first=True, skip_last=True,
                                overrides={"fc1": {"sparsity": 0.9}}).run(graph, context(graph))
    share = {v.name: float((v.data == 0).mean()) for v in out.constants() if v.data.ndim > 1}
    assert share["fc1.weight"] == pytest.approx(0.9, abs=0.01) and share["pw.weight"] == pytest.approx(0.5, abs=0.01)
    assert share["stem.weight"] == share["dw.weight"] == share["fc2.weight"] == 0


def test_prune_gradually():
    """The mask grows as the cubic schedule says, never lets a weight live again, and training goes on behind it."""
    graph = cnn()
    ctx = context(graph)
    seen = []
    real = find("prune.weights").masks

    class Spy(find("prune.weights")):
        def masks(self, data, targets, progress):
            found = real(self, data, targets, progress)
            seen.append((progress, {k if isinstance(k, str) else k.name: v for k, v in found.items()}))
            return found
    out = Spy(sparsity=0.8, epochs=4, steps=5, end=0.5).run(graph, ctx)
    shares = [p for p, _ in seen]
    assert shares[:-1] == pytest.approx([1 - (1 - t / 5) ** 3 for t in range(6)]) and shares[-1] == 1.0
    for (_, a), (_, b) in itertools.pairwise(seen):
        assert all(not (b[k] & ~a[k]).any() for k in a)
    assert ctx.notes["sparsity"] == pytest.approx(0.8, abs=0.01)
    assert distance(outputs(out), outputs(graph)) > 0 and out.meta == graph.meta


def test_lamp_spares_small_layers():
    from mcc.passes.prune.weights import lamp

    scores = lamp(np.array([[3.0, 1.0], [2.0, 0.5]]))
    assert scores[0, 0] == 1 and scores[1, 0] == pytest.approx(4 / 13) and scores[1, 1] == pytest.approx(0.25 / 14.25)


# --- quantize.codebook ---------------------------------------------------------------------------------------------------

def test_kmeans_is_a_local_optimum():
    from mcc.passes.quantize.codebook import kmeans

    values = np.concatenate([RNG.normal(m, 0.05, 300) for m in (-1, 0.2, 2)])
    for init in ("linear", "density", "kmeans++"):
        centres = kmeans(values, 3, init)
        np.testing.assert_allclose(centres, [-1, 0.2, 2], atol=0.02)
    assert len(kmeans(np.array([1.0, 1.0, 2.0]), 8)) == 2
    spread = kmeans(np.concatenate([np.zeros(1000), [100.0]]), 3)  # an empty cluster finds work, or is not there
    assert 2 <= len(spread) <= 3 and spread[-1] == 100


def test_codebook_keeps_zeros_and_counts():
    graph = find("prune.weights")(sparsity=0.6).run(cnn(), context(cnn()))
    out = find("quantize.codebook")(clusters=7, overrides={"fc*": {"clusters": 4}, "op:conv": {"bits": 2}}, min_size=1).run(
        graph, context(graph))
    for a, b in zip(graph.constants(), out.constants()):
        if b.meta.get("codebook"):
            entries, layer = len(np.unique(b.data)), b.name.removesuffix(".weight")
            assert entries <= (5 if layer.startswith("fc") else 4) <= 2 ** b.meta["codebook"]["bits"]
            assert np.array_equal(a.data == 0, b.data == 0)
    plain = find("quantize.codebook")(bits=4).run(cnn(), context(cnn()))
    assert distance(outputs(plain), outputs(cnn())) < 0.2


def test_codebook_groups_have_palettes_of_their_own():
    graph = cnn()
    one, many = (find("quantize.codebook")(bits=2, groups=g, layers="fc1").run(graph, context(graph)) for g in (1, 6))
    value = next(v for v in many.constants() if v.name == "fc1.weight")
    assert value.meta["codebook"] == {"bits": 2, "groups": 6} and len(np.unique(value.data)) > 4
    assert all(len(np.unique(b)) <= 4 for b in value.data.reshape(6, -1))
    error = [np.linalg.norm(next(v for v in g.constants() if v.name == "fc1.weight").data -
                            next(v for v in graph.constants() if v.name == "fc1.weight").data) for g in (one, many)]
    assert error[1] < error[0]


def test_codebook_tuning_moves_the_palette_only():
    graph = find("quantize.codebook")(bits=3, min_size=16).run(cnn(), context(cnn()))
    tuned = find("quantize.codebook")(bits=3, min_size=16, epochs=2, lr=0.01).run(graph, context(graph, shifted(graph)))
    for a, b in zip(graph.constants(), tuned.constants()):
        if a.meta.get("codebook"):
            assert not np.array_equal(a.data, b.data)
            pairs = {(x, y) for x, y in zip(a.data.ravel().tolist(), b.data.ravel().tolist())}
            assert len(pairs) == len({x for x, _ in pairs}), "members of an entry stay together"


# --- prune.channels -------------------------------------------------------------------------------------------------------

def test_channels_by_ratio_and_by_macs():
    graph = cnn()
    ctx = context(graph)
    out = find("prune.channels")(ratio=0.5).run(graph, ctx)
    widths = {v.name: v.shape for v in out.constants()}
    assert widths["stem.weight"] == (8, 3, 3, 3) and widths["dw.weight"] == (8, 1, 3, 3) and widths["pw.weight"] == (8, 8, 1, 1)
    assert widths["fc1.weight"] == (12, 8) and widths["fc2.weight"] == (4, 12) and widths["bn1.running_var"] == (8,)
    assert ctx.notes["macs_after"] == total_macs(out) and "output" in ctx.notes["skipped"]["fc2"]
    for target in (0.8, 0.5, 0.3):
        out = find("prune.channels")(macs=target, round_to=1).run(graph, context(graph))
        assert target * 0.6 < total_macs(out) / total_macs(graph) <= target


@pytest.mark.parametrize("importance", ["l1", "l2", "bn", "taylor", "random"])
def test_channels_that_do_nothing_go_first(importance):
    graph = cnn()
    dead = [3, 7, 8, 12]
    for v in graph.constants():
        if v.name in ("stem.weight", "pw.weight", "pw.bias", "bn1.weight", "bn1.bias", "dw.weight", "bn2.weight", "bn2.bias"):
            v.data = np.array(v.data)
            v.data[dead] = 0
        if v.name in ("fc1.weight", "pw.weight"):
            v.data = np.array(v.data)
            v.data[:, dead] = 0
    out = find("prune.channels")(ratio=0.25, importance=importance, layers=["stem", "pw"]).run(graph, context(graph))
    if importance == "random":
        assert outputs(out).shape == outputs(graph).shape
    else:
        assert distance(outputs(out), outputs(graph)) < 1e-5


def test_channels_patterns_rounding_and_steps():
    graph = cnn()
    out = find("prune.channels")(ratio=0.5, keep=["stem"], overrides={"fc1": {"ratio": 0.25}}).run(graph, context(graph))
    widths = {v.name: v.shape for v in out.constants()}
    assert widths["stem.weight"][0] == 16 and widths["fc1.weight"] == (18, 16)
    out = find("prune.channels")(ratio=0.4, round_to=4).run(graph, context(graph))
    assert {v.name: v.shape for v in out.constants()}["stem.weight"][0] in (8, 12)
    assert all(v.shape[0] % 4 == 0 for v in out.constants() if v.name.endswith(".weight") and v.data.ndim > 1)
    steps = find("prune.channels")(ratio=0.5, steps=3, epochs=1, round_to=1).run(graph, context(graph))
    assert {v.name: v.shape for v in steps.constants()}["stem.weight"][0] == pytest.approx(8, abs=1)
    with pytest.raises(UserError, match="output of the model"):
        find("prune.channels")(layers="fc2").run(graph, context(graph))


# --- quantize.ptq -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("observer", ["minmax", "moving_average", "percentile", "mse", "entropy"])
def test_ptq_is_close_and_bracketed(observer):
    graph = cnn()
    out = find("quantize.ptq")(observer=observer, batch=16).run(graph, context(graph))
    assert distance(outputs(out), outputs(graph)) < 0.08
    makers, users = out.makers(), out.users()
    assert not any(n.op == "batch_norm" for n in out.nodes)
    for n in out.nodes:
        if n.op in ("conv", "linear"):
            x, w = makers[n.inputs[0]], makers[n.inputs[1]]
            assert x.op == w.op == "dequantize_linear" and w.inputs[0].data.dtype == np.int8 and w.attrs == {"axis": 0}
            assert makers[x.inputs[0]].op in ("quantize_linear", "reshape") and x.inputs[1].data.dtype == np.float32
            assert n.inputs[2] is None or n.inputs[2].data.dtype == np.float32
    add = next(n for n in out.nodes if n.op == "add")
    assert {makers[v].op for v in add.inputs} == {"conv", "dequantize_linear"}, "conv + residual is rounded once"
    assert users[add.outputs[0]][0].op == "clip", "add and clip are rounded once"
    last = out.outputs[0]
    assert makers[last].op == "linear", "the output stays float"


def test_ptq_lowers_to_integer_kernels_alone():
    """Between the first quantize and the float output nothing computes in float, and clamp, residual and table are fused."""
    from mcc.passes.lower import lower

    for graph in (cnn(), two_convs()):
        quantized = find("quantize.ptq")().run(graph, context(graph))
        low = lower(quantized, stop_after="integer")
        assert {n.op for n in low.nodes} <= {"quantize_linear", "nhwc_qconv", "qlinear", "nhwc_qavg_pool", "transpose", "reshape"}
        assert sum(n.op == "quantize_linear" for n in low.nodes) == 1
        one = {graph.inputs[0].name: np.random.default_rng(4).standard_normal((1, *graph.inputs[0].shape[1:])).astype(np.float32)}
        assert distance(next(iter(run(low, one).values())), next(iter(run(quantized, one).values()))) < 0.02


def test_ptq_moves_share_a_scale_and_concat_too():
    r = np.random.default_rng(0)

    def conv(x, name, outs):
        return Node("conv", [x, constant(f"{name}.weight", r.standard_normal((outs, x.shape[1], 1, 1)).astype(np.float32)), None],
                    [Value(name, "float32", ("N", outs, 8, 8))], {}, name)
    x = Value("x", "float32", ("N", 4, 8, 8))
    a, b = conv(x, "a", 4), conv(x, "b", 6)
    pool = Node("max_pool", a.outputs, [Value("p", "float32", ("N", 4, 8, 8))],
                {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}, "pool")
    cat = Node("concat", [pool.outputs[0], b.outputs[0]], [Value("c", "float32", ("N", 10, 8, 8))], {"axis": 1}, "cat")
    y = conv(cat.outputs[0], "y", 3)
    graph = Graph([x], y.outputs, [a, b, pool, cat, y])
    out = find("quantize.ptq")().run(graph, context(graph))
    scales = {n.inputs[0].name: n.inputs[1] for n in out.nodes if n.op == "quantize_linear"}
    assert scales["a"] is scales["p"] is scales["b"] is scales["c"] is not scales["x"]
    assert distance(outputs(out), outputs(graph)) < 0.05


def test_ptq_dynamic_weights_only_and_overrides():
    graph = cnn()
    out = find("quantize.ptq")(activations="dynamic").run(graph, context(graph))
    assert all(n.attrs.get("dynamic") == 1 for n in out.nodes if n.op in ("conv", "linear"))
    assert not any(n.op == "quantize_linear" for n in out.nodes) and distance(outputs(out), outputs(graph)) < 0.05
    out = find("quantize.ptq")(activations="none").run(graph, context(graph))
    assert not any("dynamic" in n.attrs for n in out.nodes) and distance(outputs(out), outputs(graph)) < 0.02
    out = find("quantize.ptq")(skip=["stem"], overrides={"op:linear": {"activations": "dynamic"}}).run(graph, context(graph))
    kinds = {n.name: (n.attrs.get("dynamic", 0), n.inputs[1].data is not None) for n in out.nodes if n.op in ("conv", "linear")}
    assert kinds["stem"] == (0, True) and kinds["fc1"] == kinds["fc2"] == (1, False) and kinds["pw"] == (0, False)


def test_ptq_keeps_zeros_and_palettes():
    graph = cnn()
    graph = find("prune.weights")(sparsity=0.6).run(graph, context(graph))
    graph = find("quantize.codebook")(bits=3, min_size=16).run(graph, context(graph))
    out = find("quantize.ptq")(layers="fc*").run(graph, context(graph))
    for v in out.constants():
        if v.dtype == "int8" and v.data.ndim > 1:
            assert v.meta["sparse"] and len(np.unique(v.data)) <= 2 ** v.meta["codebook"]["bits"]
            float_ = next(u for u in graph.constants() if v.name == u.name + ".int8")
            assert (v.data[float_.data == 0] == 0).all()


def two_convs():
    """A convolution with channels of very different size, relu, a depthwise one, relu, a convolution."""
    r = np.random.default_rng(0)
    x, a, b, c, d, y = (Value(n, "float32", ("N", k, 6, 6)) for n, k in zip("xabcdy", (3, 12, 12, 12, 12, 5)))
    sizes = np.logspace(-2, 1, 12).astype(np.float32).reshape(-1, 1, 1, 1)

    def weight(name, *shape, scale=1.0):
        return constant(name, (r.standard_normal(shape) * scale).astype(np.float32))
    return Graph([x], [y], [
        Node("conv", [x, weight("a.weight", 12, 3, 1, 1, scale=sizes), weight("a.bias", 12)], [a], {}, "a"),
        Node("relu", [a], [b]),
        Node("conv", [b, weight("b.weight", 12, 1, 1, 1), None], [c], {"group": 12}, "b"),
        Node("relu", [c], [d]),
        Node("conv", [d, weight("c.weight", 5, 12, 1, 1, scale=1 / sizes.reshape(1, -1, 1, 1)), weight("c.bias", 5)], [y], {},
             "c")])


def test_preparing_changes_no_number():
    from mcc.passes.quantize.prepare import prepare

    graph = two_convs()
    conv, x = graph.nodes[0], graph.inputs[0]
    wide = Value("wide", "float32", ("N", 3, 9, 8))
    graph.nodes.insert(0, Node("pad", [x, constant("pads", np.array([0, 0, 1, 0, 0, 0, 2, 2]))], [wide], {}, "pad"))
    conv.inputs = [wide, *conv.inputs[1:]]
    for g in (graph, cnn()):
        out = prepare(g)
        assert not {"pad", "batch_norm"} & {n.op for n in out.nodes}
        assert distance(outputs(out), outputs(g)) < 1e-5
    assert prepare(graph).nodes[0].attrs["pads"] == [1, 0, 2, 2]


def test_equalisation_changes_no_number_and_helps():
    from mcc.passes.quantize.prepare import equalize

    graph = two_convs()
    even = graph.copy()
    assert equalize(even) == 2
    assert distance(outputs(even), outputs(graph)) < 1e-5
    error = {}
    for how in ("off", "auto"):
        ctx = context(graph)
        error[how] = distance(outputs(find("quantize.ptq")(equalize=how).run(graph, ctx)), outputs(graph))
    assert ctx.notes["equalized"] == 2 and error["auto"] < error["off"] / 3


def test_bias_correction_removes_the_mean_error():
    graph = two_convs()
    graph.nodes, graph.outputs = graph.nodes[:1], graph.nodes[0].outputs
    ctx = context(graph)
    ctx.data.inputs["x"] = ctx.data.inputs["x"] + 3  # inputs with a mean make rounded weights shift the output
    feeds = {"x": ctx.data.inputs["x"]}
    want = run(graph, feeds)["a"]
    shift = []
    for correct in (False, True):
        out = find("quantize.ptq")(correct_bias=correct, observer="minmax").run(graph, ctx)
        shift.append(((run(out, feeds)["a"] - want).mean((0, 2, 3)) / want.std((0, 2, 3))).abs().mean())
    assert shift[1] < shift[0] / 3


def test_dead_channels_fit_the_accumulator():
    """A channel with hardly any weight and a bias: its scale must not make the bias overflow int32."""
    graph = two_convs()
    w, b = graph.nodes[0].inputs[1:]
    w.data = np.array(w.data)
    w.data[4] = 1e-12
    out = find("quantize.ptq")(equalize="off").run(graph, context(graph))
    node = next(n for n in out.nodes if n.op == "conv")
    x, scale = (out.makers()[v].inputs[1].data for v in node.inputs[:2])
    assert (np.abs(node.inputs[2].data) / (x * scale)).max() < 2 ** 30
    assert distance(outputs(out), outputs(graph)) < 0.2 and b.data[4] != 0


def test_embeddings_become_int8_rows():
    r = np.random.default_rng(0)
    x, e, y = Value("ids", "int64", ("N", 5)), Value("e", "float32", ("N", 5, 32)), Value("y", "float32", ("N", 5, 8))
    graph = Graph([x], [y], [
        Node("gather", [constant("table.weight", r.standard_normal((50, 32)).astype(np.float32)), x], [e], {"axis": 0}, "table"),
        Node("linear", [e, constant("fc.weight", r.standard_normal((8, 32)).astype(np.float32)), None], [y], {}, "fc")])
    from mcc.passes.quantize.ptq import quantize_graph

    out, ids = quantize_graph(graph), {"ids": r.integers(0, 50, (2, 5))}
    assert not any(v.data.dtype == np.float32 and v.data.size > 50 for v in out.constants())
    assert distance(run(out, ids)["y"], run(graph, ids)["y"]) < 0.02


def test_calibration_that_does_not_fit_is_told():
    graph = cnn()
    from mcc.passes.quantize.ptq import quantize_graph

    with pytest.raises(UserError, match="no array for input x"):
        quantize_graph(graph, [{"image": np.zeros((1, 3, 8, 8), np.float32)}])
    with pytest.raises(UserError, match="calibration data is empty"):
        quantize_graph(graph, [])
    with pytest.raises(UserError, match="not finite"):
        quantize_graph(graph, [{"x": np.full((1, 3, 8, 8), np.nan, np.float32)}])


# --- distill.logits ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_distillation_comes_closer_to_the_teacher(loss):
    student = find("prune.channels")(ratio=0.5).run(cnn(), context(cnn()))
    teacher = cnn()
    ctx = context(student, teacher)
    before = distance(outputs(student), outputs(teacher))
    out = find("distill.logits")(loss=loss, alpha=0, epochs=20, lr=0.01).run(student, ctx)
    assert distance(outputs(out), outputs(teacher)) < 0.8 * before


def test_teachers():
    graph = cnn()
    with pytest.raises(UserError, match="no pass ran before"):
        find("distill.logits")(teacher="previous").run(graph, context(graph))
    with pytest.raises(UserError, match="no output 'logits'; it has v"):
        find("distill.logits")(output="logits").run(graph, context(graph))
    ctx = context(graph, previous=shifted(graph))
    assert not same_graph(find("distill.logits")(teacher="previous", epochs=0.5).run(graph, ctx), graph)
