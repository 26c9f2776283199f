"""The quantize family: palettes, and integers by calibration."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mcc.passes import find
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.ops.run import run
from mcc.passes.quantize.curvature import FLOOR, curvature

from networks import RNG, cnn, context, distance, outputs, same_graph, shifted

torch.set_num_threads(1)


# --- quantize.codebook ------------------------------------------------------------------------------------------------

def test_kmeans_is_a_local_optimum():
    from mcc.passes.quantize.codebook import kmeans

    values = np.concatenate([RNG.normal(m, 0.05, 300) for m in (-1, 0.2, 2)])
    for init in ("linear", "density", "kmeans++"):
        centres = kmeans(values, 3, init)
        np.testing.assert_allclose(centres, [-1, 0.2, 2], atol=0.02)
    assert len(kmeans(np.array([1.0, 1.0, 2.0]), 8)) == 2
    spread = kmeans(np.concatenate([np.zeros(1000), [100.0]]), 3)  # an empty cluster finds work, or is not there
    assert 2 <= len(spread) <= 3 and spread[-1] == 100


def test_weighted_kmeans_counts_values():
    from mcc.passes.quantize.codebook import kmeans

    values, counts = RNG.standard_normal(200), RNG.integers(1, 6, 200)
    for init in ("linear", "density"):
        weighted = kmeans(values, 5, init, counts=counts)
        np.testing.assert_allclose(weighted, kmeans(np.repeat(values, counts), 5, init), rtol=1e-9)
    assert not np.allclose(weighted, kmeans(values, 5))


@pytest.mark.parametrize("kind", ["hessian", "fisher"])
def test_codebook_by_importance(kind):
    """What importance promises: less error where it was measured, of the layer's output or of the loss."""
    graph = cnn()
    ctx = context(graph, shifted(graph))
    plain, by = (find("quantize.codebook")(bits=2, layers="fc1", importance=k).run(graph, ctx) for k in ("none", kind))
    w, a, b = (next(v.data.astype(np.float64) for v in g.constants() if v.name == "fc1.weight") for g in (graph, plain, by))
    node = next(n for n in graph.nodes if n.inputs[1:] and n.inputs[1] is not None and n.inputs[1].name == "fc1.weight")
    counts = curvature(graph, [node], kind, ctx, 256)[node.inputs[1]]
    assert np.isclose(counts.mean(), 1 + FLOOR) and counts.min() >= FLOOR
    assert (counts * (b - w) ** 2).sum() < (counts * (a - w) ** 2).sum()
    assert len(np.unique(b)) <= 4
    ctx.data = None
    with pytest.raises(UserError, match="needs data"):
        find("quantize.codebook")(bits=2, importance=kind).run(graph, ctx)


def test_hessian_of_a_grouped_convolution():
    r = np.random.default_rng(0)
    x, y = Value("x", "float32", ("N", 4, 5, 5)), Value("y", "float32", ("N", 6, 5, 5))
    w = constant("w", r.standard_normal((6, 2, 1, 1)).astype(np.float32))
    graph = Graph([x], [y], [Node("conv", [x, w, None], [y], {"group": 2})])
    images = r.standard_normal((8, 4, 5, 5)).astype(np.float32) * np.array([1, 2, 3, 4], np.float32)[:, None, None]
    square = (images.astype(np.float64) ** 2).mean((0, 2, 3))
    ctx = context(graph)
    ctx.data = SimpleNamespace(batches=lambda split, batch, seed, limit: [({"x": torch.from_numpy(images)}, None)])
    got = curvature(graph, graph.nodes, "hessian", ctx, 8)[w]
    want = np.stack([square[:2]] * 3 + [square[2:]] * 3)
    np.testing.assert_allclose(got[:, :, 0, 0] - FLOOR, want / want.mean(), rtol=1e-5)


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


# --- quantize.ptq -----------------------------------------------------------------------------------------------------

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


def test_measured_correction_removes_the_mean_error_of_activations_too():
    graph, ctx = cnn(), context(cnn())
    batches = [{k: v for k, v in x.items()} for x, _ in ctx.data.batches("calibration", 16, None, 64)]
    error = {}
    for how in (False, True):
        made = find("quantize.ptq")(weight_bits=4, samples=64, correct_outputs=how).run(graph, ctx)
        ours, theirs = (torch.cat([next(iter(run(g, b).values())) for b in batches]) for g in (made, graph))
        error[how] = float((ours - theirs).mean(0).abs().max())
    assert error[True] < 0.1 * error[False], error


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


def relu6_net():
    """convolution, batch norm, ReLU6, depthwise, batch norm, ReLU6, convolution: channels of very different size."""
    graph, r = two_convs(), np.random.default_rng(1)
    x = graph.inputs[0]
    nodes, bounds = [], [constant("low", np.float32(0)), constant("high", np.float32(6))]
    for node in graph.nodes:
        if node.op == "relu":
            node.op, node.inputs = "clip", [node.inputs[0], *bounds]
        nodes.append(node)
        if node.op == "conv" and node.name != "c":
            made, c = node.outputs[0], 12
            node.outputs = [Value(f"{node.name}.raw", "float32", made.shape)]
            norm = [constant(f"{node.name}.bn.{k}", v.astype(np.float32)) for k, v in (
                ("weight", r.uniform(0.5, 1, c)), ("bias", r.standard_normal(c)), ("mean", np.zeros(c)), ("var", np.ones(c)))]
            nodes.append(Node("batch_norm", [node.outputs[0], *norm], [made], {}, f"{node.name}.bn"))
    graph = Graph([x], graph.outputs, nodes)
    raw = graph.module().values({"x": context(graph).data.inputs["x"]}, ["a.raw", "b.raw"])
    for name, t in raw.items():
        for k, v in (("mean", t.mean((0, 2, 3))), ("var", t.var((0, 2, 3)))):
            next(u for u in graph.constants() if u.name == f"{name[0]}.bn.{k}").data = v.detach().numpy()
    w = graph.nodes[0].inputs[1]
    graph.nodes[1].inputs[1].data = graph.nodes[1].inputs[1].data * np.logspace(-2.5, 0, 12).astype(np.float32)
    graph.nodes[1].inputs[2].data = graph.nodes[1].inputs[2].data * np.logspace(-2.5, 0, 12).astype(np.float32)
    assert w.data.shape == (12, 3, 1, 1)
    return graph


def test_one_scale_a_tensor_collapses_and_comes_back_without_data():
    for graph in (two_convs(), relu6_net()):
        ctx, made = context(graph), {}
        for how in ("off", "auto"):
            out = find("quantize.ptq")(granularity="tensor", equalize=how, samples=32).run(graph, ctx)
            made[how] = distance(outputs(out), outputs(graph))
            assert all(n.inputs[1].data.ndim == 0 for n in out.nodes if n.op == "dequantize_linear")
            assert ctx.notes["collapse"]["before"]
        assert made["auto"] < made["off"] / 3 and ctx.notes["collapse"]["after"] == []
    blind = context(graph)
    blind.data = None
    out = find("quantize.ptq")(granularity="tensor", calibration="synthetic", samples=32).run(graph, blind)
    assert distance(outputs(out), outputs(graph)) < made["auto"] * 1.5
    with pytest.raises(UserError, match="no batch norms"):
        find("quantize.ptq")(calibration="synthetic").run(two_convs(), blind)


def test_relus_take_the_place_of_clips_only_where_a_layer_would_collapse():
    graph = relu6_net()
    kinds = {}
    for relu6, granularity in (("auto", "channel"), ("auto", "tensor"), ("keep", "tensor"), ("relu", "tensor")):
        out = find("quantize.ptq")(granularity=granularity, relu6=relu6).run(graph, context(graph))
        kinds[relu6, granularity] = {n.op for n in out.nodes} & {"relu", "clip"}
    assert kinds == {("auto", "channel"): {"clip"}, ("auto", "tensor"): {"relu"}, ("keep", "tensor"): {"clip"},
                     ("relu", "tensor"): {"relu"}}


def test_moving_average_forgets():
    from mcc.passes.quantize.observe import Range, choose

    def ends(decay):
        seen = Range(decay=decay)
        for top in (8.0, 1.0, 1.0, 1.0):
            seen.see(torch.tensor([-0.5 * top, top]))
        return choose(seen, "moving_average")
    assert ends(1.0) == pytest.approx((-1.375, 2.75))
    top = (8 * 0.125 + 0.25 + 0.5 + 1) / 1.875
    assert ends(0.5) == pytest.approx((-top / 2, top))


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_fewer_bits(bits):
    graph = cnn()
    out = find("quantize.ptq")(weight_bits=bits, overrides={"fc2": {"weight_bits": 8}}).run(graph, context(graph))
    codes = {v.name: v for v in out.constants() if v.dtype == "int8" and v.data.ndim > 1}
    for name, v in codes.items():
        top = 127 if name.startswith("fc2") else 2 ** (bits - 1) - 1
        assert abs(v.data).max() == top and (top > 7) == ("codebook" not in v.meta)
    assert distance(outputs(out), outputs(graph)) < {2: 1, 3: 0.6, 4: 0.3, 5: 0.15, 8: 0.05}[bits]


def test_narrow_layers_keep_8_bits():
    """Layers with few weights an output; what overrides say of a layer still wins."""
    graph = cnn()
    layers = [n for n in graph.nodes if n.op in ("conv", "linear")]
    sizes = {n.inputs[1].name.removesuffix(".weight"): n.inputs[1].data[0].size for n in layers}
    bound = sorted(set(sizes.values()))[1]
    least = min(sizes, key=lambda name: sizes[name])
    for overrides, told in (({}, 127), ({least: {"weight_bits": 3}}, 3)):
        out = find("quantize.ptq")(weight_bits=4, narrow=bound, overrides=overrides).run(graph, context(graph))
        tops = {v.name.split(".")[0]: abs(v.data).max() for v in out.constants() if v.dtype == "int8" and v.data.ndim > 1}
        assert tops == {name: told if name == least else 127 if size < bound else 7 for name, size in sizes.items()}
        assert {7, told} == set(tops.values())


OPTIONS = [{"activations": "dynamic"}, {"activations": "none"}, {"calibration": "synthetic"}, {"observer": "minmax"},
           {"observer": "percentile"}, {"observer": "percentile", "percentile": 99.0}, {"observer": "entropy"},
           {"observer": "moving_average"}, {"observer": "moving_average", "decay": 0.5}, {"samples": 32},
           {"observer": "moving_average", "batch": 7},
           {"weight_bits": 4}, {"weight_bits": 4, "weight_scales": "max"}, {"weight_bits": 4, "narrow": 28},
           {"granularity": "tensor"},
           {"granularity": "tensor", "equalize": "off"}, {"relu6": "relu"},
           {"correct_bias": False}, {"correct_outputs": True}, {"embeddings": False},
           {"layers": "a"}, {"skip": ["a"]}, {"float_ops": ["hard_swish"]},
           {"overrides": {"a": {"weight_bits": 4}}}, {"overrides": {"a": {"granularity": "tensor"}}},
           {"weight_bits": 3, "overrides": {"c": {"weight_scales": "max"}}}, {"overrides": {"a": {"activations": "dynamic"}}}]


def everything():
    """A graph on which every option of quantize.ptq has something to say."""
    graph, r = relu6_net(), np.random.default_rng(2)
    y = graph.outputs[0]
    h, ids, row, z = (Value(n, t, s) for n, t, s in (("h", "float32", y.shape), ("ids", "int64", ("N", 6)),
                                                     ("row", "float32", ("N", 6, 32)), ("z", "float32", ("N", 6, 4))))
    w, p, t = (constant(f"{n}.weight", r.standard_normal(s).astype(np.float32))
               for n, s in (("d", (5, 5, 1, 1)), ("p", (4, 32)), ("t", (50, 32))))
    d = Value("d", "float32", y.shape)
    graph.nodes += [Node("hard_swish", [y], [h], {}, "h"), Node("conv", [h, w, None], [d], {}, "d"),
                    Node("gather", [t, ids], [row], {"axis": 0}, "t"),
                    Node("linear", [row, p, None], [z], {}, "p")]
    graph.inputs, graph.outputs = [*graph.inputs, ids], [d, z]
    return graph


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_reaches_the_numbers(options):
    graph = everything()
    if options.get("calibration"):
        graph = relu6_net()
    made = []
    for given in (dict(list(options.items())[:-1]), options):  # with and without the last
        ctx = context(graph)
        if "ids" in ctx.data.inputs:
            ctx.data.inputs["ids"] = ctx.data.inputs["ids"].abs() % 50
        made.append(find("quantize.ptq")(**given).run(graph, ctx))
    assert not same_graph(*made)


def test_calibration_that_does_not_fit_is_told():
    graph = cnn()
    from mcc.passes.quantize.ptq import quantize_graph

    with pytest.raises(UserError, match="no array for input x"):
        quantize_graph(graph, [{"image": np.zeros((1, 3, 8, 8), np.float32)}])
    with pytest.raises(UserError, match="calibration data is empty"):
        quantize_graph(graph, [])
    with pytest.raises(UserError, match="not finite"):
        quantize_graph(graph, [{"x": np.full((1, 3, 8, 8), np.nan, np.float32)}])
