"""The mathematics of the structure passes: exact where theory says exact, optimal where it says optimal, tied where tied."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from mcc.passes import find, lower
from mcc.passes.cost import macs, params, total_macs
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower.read import read
from mcc.passes.ops.run import run
from mcc.passes.structure import cp, depthwise, group_conv, small_kernels, tucker
from networks import Noise, blocks, cnn, context, distance, outputs

torch.set_num_threads(1)


def weight(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def error(name, graph, **options):
    ctx = context(graph)
    out = find(f"structure.{name}")(**options).run(graph, ctx)
    return distance(outputs(out), outputs(graph)), ctx.notes, out


# --- decompositions ------------------------------------------------------------------------------------------------------

def test_tucker_of_full_rank_reproduces_and_iteration_helps():
    w = weight(12, 8, 3, 3)
    assert tucker.relative(tucker.compose(*tucker.tucker2(w, 12, 8)), w) < 1e-12
    few, many = (tucker.relative(tucker.compose(*tucker.tucker2(w, 5, 4, steps)), w) for steps in (0, 10))
    assert many < few
    left, core, right = tucker.tucker2(w, 5, 4)
    assert np.allclose(left.T @ left, np.eye(5)) and np.allclose(right.T @ right, np.eye(4)) and core.shape == (5, 4, 3, 3)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_vbmf_finds_the_rank_under_noise(rank):
    signal = weight(40, rank) @ weight(rank, 90, seed=1)
    assert tucker.vbmf_rank(signal + 0.5 * weight(40, 90, seed=2)) == rank
    assert tucker.vbmf_rank(weight(40, 90, seed=3)) <= 1, "noise alone has no rank"


def test_cp_finds_a_sum_of_few_products():
    a, b, k = weight(10, 3), weight(8, 3, seed=1), weight(9, 3, seed=2)
    w = np.einsum("or,cr,kr->ock", a, b, k)
    assert tucker.relative(np.einsum("or,cr,kr->ock", *cp.cp(w, 3, 200)), w) < 1e-3


def test_depthwise_start_is_the_best_of_rank_one_per_channel():
    w = weight(12, 5, 3, 3)
    for m in (1, 2):
        depth, point = depthwise.separate(w, m)
        got = np.einsum("ocm,cmk->ock", point, depth)
        lost = sum((np.linalg.svd(w[:, c].reshape(12, 9), compute_uv=False)[m:] ** 2).sum() for c in range(5))
        assert ((got - w.reshape(12, 5, 9)) ** 2).sum() == pytest.approx(lost)
    depth, point = depthwise.separate(w, 9)
    assert np.allclose(np.einsum("ocm,cmk->ock", point, depth), w.reshape(12, 5, 9))


def test_small_kernels_come_near_the_stack_there_is():
    first, second = weight(6, 4, 3, 3), weight(5, 6, 3, 3, seed=1)
    w = small_kernels.product(first, second)
    x = torch.from_numpy(weight(2, 4, 12, 12, seed=2))
    stack = torch.conv2d(torch.conv2d(x, torch.from_numpy(first)), torch.from_numpy(second))
    assert torch.allclose(stack, torch.conv2d(x, torch.from_numpy(w)))
    found = tucker.relative(small_kernels.product(*small_kernels.split(w, 6, 60)), w)
    other = weight(5, 4, 5, 5, seed=3)
    assert found < 0.1 < 2 * found < tucker.relative(small_kernels.product(*small_kernels.split(other, 3, 60)), other)
    few, many = (tucker.relative(small_kernels.product(*small_kernels.split(weight(8, 8, 5, 5), 8, s)), weight(8, 8, 5, 5))
                 for s in (1, 20))
    assert many < few


@pytest.mark.parametrize("size", [5, 7])
def test_small_kernels_keep_the_border(size):
    """The stack is what its product is, padding and all; 7 x 7 makes three layers."""
    x, y = Value("x", "float32", ("N", 4, 21, 19)), Value("y", "float32", ("N", 4, 21, 19))
    w = constant("c.weight", weight(4, 4, size, size).astype(np.float32))
    graph = Graph([x], [y], [Node("conv", [x, w, None], [y], {"pads": [size // 2] * 4}, "c")])
    out = find("structure.small_kernels")(ratio=0.9, steps=3).run(graph, context(graph))
    parts = [n.inputs[1].data.astype(np.float64) for n in out.nodes]
    assert [p.shape[2:] for p in parts] == [(3, 3)] * ((size - 1) // 2)
    whole = parts[0]
    for p in parts[1:]:
        whole = small_kernels.product(whole, p)
    same = graph.copy()
    same.nodes[0].inputs[1].data = whole.astype(np.float32)
    assert distance(outputs(out), outputs(same)) < 1e-4


def test_group_permutation_is_found_and_beats_neighbours():
    r = np.random.default_rng(0)
    w = np.zeros((12, 18, 3, 3))
    for g in range(3):
        w[4 * g:4 * g + 4, 6 * g:6 * g + 6] = r.standard_normal((4, 6, 3, 3))
    hidden = w[r.permutation(12)][:, r.permutation(18)]
    x, y = Value("x", "float32", ("N", 18, 6, 6)), Value("y", "float32", ("N", 12, 6, 6))
    w, b = constant("c.weight", hidden.astype(np.float32)), constant("c.bias", r.standard_normal(12).astype(np.float32))
    graph = Graph([x], [y], [Node("conv", [x, w, b], [y], {"pads": [1] * 4})])
    found, notes, out = error("group_conv", graph, groups=3)
    assert found < 1e-5 and notes["macs_after"] * 3 == notes["macs_before"]
    assert [n.op for n in out.nodes] == ["gather", "conv", "gather"]
    assert error("group_conv", graph, groups=3, permute=False)[0] > 0.3
    noise = np.abs(weight(16, 16))
    outs, ins = group_conv.groups_of(noise, 4)
    neighbours = np.arange(16) // 4
    assert (noise * (outs[:, None] == ins)).sum() > 1.2 * (noise * (neighbours[:, None] == neighbours)).sum()
    assert (np.bincount(outs) == 4).all() and (np.bincount(ins) == 4).all()


def test_options_at_three_levels():
    """All layers, those of a type, one by name; what an option makes impossible is decided with the layer's own."""
    graph = blocks()
    ctx = context(graph)
    find("structure.group_conv")(groups=5, overrides={"op:conv": {"groups": 4}, "block.1.*": {"groups": 2}}).run(graph, ctx)
    assert {e["layer"]: e["groups"] for e in ctx.notes["layers"]} == {"three": 4, "one": 4, "block.0.conv": 4, "block.1.conv": 2}
    with pytest.raises(ValueError, match=r"overrides\['one'\]: groups must be at least 2"):
        find("structure.group_conv")(overrides={"one": {"groups": 1}}).check()


# --- heads, branches, sharing ----------------------------------------------------------------------------------------------

def test_pool_head_is_exact_for_a_head_that_averages():
    graph = find("structure.pool_head").example()
    pixels = graph.nodes[1].inputs[1]
    pixels.data = np.repeat(weight(5, 6), 16, 1).astype(np.float32)
    for data in (True, False):
        ctx = context(graph)
        ctx.data = ctx.data if data else None
        out = find("structure.pool_head")().run(graph, ctx)
        assert distance(outputs(out), outputs(graph)) < 1e-3 and params(out) == 5 * 6 + 5


def test_pool_head_fit_beats_the_weights_alone():
    graph, errors = blocks(), []
    for data in (True, False):
        ctx = context(graph)
        feeds = ctx.data.inputs
        ctx.data = ctx.data if data else None
        out = find("structure.pool_head")().run(graph, ctx)
        errors.append(distance(next(iter(run(out, feeds).values())), next(iter(run(graph, feeds).values()))))
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("group,stride", [(1, 1), (2, 1), (1, 2)])
def test_fold_is_exact(group, stride):
    """RepVGG's block: 3 x 3 and 1 x 1 with batch norm each, and batch norm alone where the shapes allow it."""
    r = np.random.default_rng(0)
    size = 8 // stride
    x, nodes = Value("x", "float32", ("N", 8, 8, 8)), []

    def norm(v, name):
        values = (r.standard_normal(8), r.standard_normal(8), r.standard_normal(8), r.random(8) + 0.5)
        nodes.append(Node("batch_norm", [v, *(constant(f"{name}.{i}", d.astype(np.float32)) for i, d in enumerate(values))],
                          [Value(f"{name}.y", "float32", ("N", 8, size, size))], {}, name))
        return nodes[-1].outputs[0]

    def branch(k):
        w = constant(f"c{k}.weight", r.standard_normal((8, 8 // group, k, k)).astype(np.float32))
        nodes.append(Node("conv", [x, w, None], [Value(f"c{k}.y", "float32", ("N", 8, size, size))],
                          {"pads": [k // 2] * 4, "strides": [stride] * 2, "group": group}, f"c{k}"))
        return norm(nodes[-1].outputs[0], f"bn{k}")
    ends = [branch(3), branch(1)] + ([norm(x, "bn0")] if stride == 1 else [])
    total = ends[0]
    for i, end in enumerate(ends[1:]):
        nodes.append(Node("add", [total, end], [Value(f"sum{i}", "float32", ("N", 8, size, size))], {}, f"sum{i}"))
        total = nodes[-1].outputs[0]
    y = Value("y", "float32", total.shape)
    nodes.append(Node("relu", [total], [y]))
    graph = Graph([x], [y], nodes)
    deviation, _, out = error("fold", graph)
    assert deviation < 1e-5 and [n.op for n in out.nodes] == ["conv", "relu"]


def test_fold_leaves_sums_that_others_read():
    graph = find("structure.fold").example()
    graph.outputs.append(graph.nodes[0].outputs[0])
    assert not find("structure.fold")().matches(graph)


def encoder(blocks=3):
    """Attention-free transformer blocks: norm, two linears, residual."""
    r = np.random.default_rng(0)
    x, nodes = Value("x", "float32", ("N", 5, 32)), []

    def add(op, inputs, width, name, **attrs):
        nodes.append(Node(op, inputs, [Value(f"{name}.y", "float32", ("N", 5, width))], attrs, name))
        return nodes[-1].outputs[0]

    def par(name, *shape):
        return constant(name, (r.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32))
    y = x
    for i in range(blocks):
        n = f"layer.{i}"
        ones = constant(f"{n}.norm.weight", np.ones(32, np.float32))
        h = add("layer_norm", [y, ones, par(f"{n}.norm.bias", 32)], 32, f"{n}.norm")
        h = add("linear", [h, par(f"{n}.up.weight", 64, 32), par(f"{n}.up.bias", 64)], 64, f"{n}.up")
        h = add("gelu", [h], 64, f"{n}.gelu")
        h = add("linear", [h, par(f"{n}.down.weight", 32, 64), par(f"{n}.down.bias", 32)], 32, f"{n}.down")
        y = add("add", [y, h], 32, f"{n}.sum")
    return Graph([x], [y], nodes)


def test_share_ties_through_training_later_passes_and_in_the_file(tmp_path):
    graph = encoder()
    tied = find("structure.share")(epochs=1).run(graph, context(graph))

    def weights(g, part):
        return [n.inputs[1] for n in g.nodes if n.op == "linear" and n.name.split(".")[2:] == part]
    assert len(set(weights(tied, ["up"]))) == len(set(weights(tied, ["down"]))) == 1
    start = find("structure.share")().run(graph, context(graph))
    assert params(start) * 3 == params(graph)
    mean = np.mean([w.data for w in weights(graph, ["up"])], 0)
    assert np.allclose(weights(start, ["up"])[0].data, mean, atol=1e-6)
    assert not np.array_equal(weights(tied, ["up"])[0].data, weights(start, ["up"])[0].data), "it was trained"
    thin = find("structure.low_rank")(ratio=0.5, epochs=1).run(tied, context(tied))
    assert len(set(weights(thin, ["up", "reduce"]))) == len(set(weights(thin, ["down", "expand"]))) == 1
    sizes = {}
    for name, g in (("graph", graph), ("tied", tied), ("thin", thin)):
        lower(g, tmp_path / f"{name}.mcc")
        sizes[name] = (tmp_path / f"{name}.mcc").stat().st_size
    assert sizes["tied"] < 0.5 * sizes["graph"] and sizes["thin"] < 0.8 * sizes["tied"]
    pairs = find("structure.share")(every=2).run(graph, context(graph))
    assert len(set(weights(pairs, ["up"]))) == 2


@pytest.mark.parametrize("name", ["tucker", "depthwise", "decompose_conv", "group_conv"])
def test_parts_of_a_shared_convolution_are_shared(name):
    tied = find("structure.share")(layers="block.*").run(blocks(), context(blocks()))
    out = find(f"structure.{name}")(layers="block.*").run(tied, context(tied))
    uses = [n.inputs[1] for n in out.nodes if n.op == "conv" and n.name.startswith("block.")]
    assert uses and len(uses) == 2 * len(set(uses))


# --- low rank -----------------------------------------------------------------------------------------------------------------

def test_low_rank_spends_where_the_output_asks():
    """Two layers of which the second's output is scaled down to nearly nothing: measured, the first gets the ranks."""
    graph = encoder(2)
    for n in graph.nodes:
        if n.name == "layer.1.down":
            n.inputs[1].data = n.inputs[1].data * np.float32(1e-3)
    ranks, errors = {}, {}
    for measured in (False, True):
        errors[measured], notes, _ = error("low_rank", graph, bytes=0.5, sensitivity=measured, round_to=1)
        ranks[measured] = {e["layer"]: e["rank"] for e in notes["layers"]}
    assert ranks[True]["layer.1.down"] < ranks[False]["layer.1.down"] and errors[True] < errors[False]


def test_low_rank_byte_budget_holds():
    graph = encoder()
    out = error("low_rank", graph, bytes=0.4)[2]

    def size(g):
        return sum(n.inputs[1].data.size for n in g.nodes if n.op == "linear")
    assert 0.3 * size(graph) < size(out) <= 0.4 * size(graph)


@pytest.mark.parametrize("name", ["low_rank", "tucker", "depthwise"])
def test_what_is_slower_on_the_target_is_refused(name):
    graph = cnn()
    for slow in (True, False):
        ctx = context(graph, measure=lambda g, s=slow: {"latency_ms": len(g.nodes) if s else 1 / len(g.nodes)})
        out = find(f"structure.{name}")(cost="time", layers="stem").run(graph, ctx)
        assert (len(out.nodes) == len(graph.nodes)) == slow
        assert not slow or "ms on the target" in ctx.notes["skipped"]["stem"]


# --- arithmetic and the engine -------------------------------------------------------------------------------------------------

def test_the_articles_arithmetic():
    """M x N -> K (M + N); groups divide by their number; depthwise 3 x 3 costs 1 / O + 1 / 9 of the layer."""
    m, n, k = 48, 64, 10
    x, y = Value("x", "float32", ("N", n)), Value("y", "float32", ("N", m))
    linear = Graph([x], [y], [Node("linear", [x, constant("fc.weight", weight(m, n).astype(np.float32)), None], [y], {}, "fc")])
    out = find("structure.low_rank")(rank=k).run(linear, context(linear))
    assert (params(linear), total_macs(linear)) == (m * n, m * n) and (params(out), total_macs(out)) == (k * (m + n),) * 2
    conv = tucker_example(64, 32)
    out = find("structure.group_conv")(groups=4).run(conv, context(conv))
    assert total_macs(conv) == 4 * total_macs(out) and params(conv) - 64 == 4 * (params(out) - 64)
    out = find("structure.depthwise")().run(conv, context(conv))
    assert total_macs(out) / total_macs(conv) == pytest.approx(1 / 64 + 1 / 9)
    assert sorted(macs(out).values()) == [9 * 32 * 64, 32 * 64 * 64]


def tucker_example(o, c):
    from mcc.passes.structure.replace import example_conv
    return example_conv(o, c, 3)


@pytest.mark.parametrize("name", ["tucker", "cp", "decompose_conv", "small_kernels", "bottleneck", "depthwise", "group_conv",
                                  "pool_head", "share", "fold", "low_rank"])
def test_the_lowered_file_agrees_with_torch(name, tmp_path):
    """Every pass on a network with all they look for; the file, read back by its second reader, means what the graph means;
    the engine says so too."""
    from mcc.kernels import Session

    graph = blocks()
    out = find(f"structure.{name}")().run(graph, context(graph))
    lower(out, tmp_path / "m.mcc")
    x = Noise(graph, n=1).inputs["x"]
    want = next(iter(run(out, {"x": x}).values()))
    got = next(iter(Session(str(tmp_path / "m.mcc")).run({"x": x.numpy()}).values()))
    assert distance(torch.from_numpy(np.asarray(got)), want) < 1e-4
    assert read(tmp_path / "m.mcc").nodes
