"""Rounding up or down: gptq, adaround, brecq; and outliers moved into weights."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from mcc.passes import find
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.ops.run import run
from mcc.passes.quantize.reconstruct import blocks as cut
from mcc.passes.quantize.rounding import Choice, Grid, gptq
from mcc.passes.quantize.smooth import smooth
from mcc.passes.quantize.weights import choose_scale, to_codes, to_float

from networks import cnn, context, distance, outputs, same_graph

torch.set_num_threads(1)


def layer(groups=1):
    """A weight, its scale, and correlated inputs: their products as [groups, depth, depth]."""
    r = np.random.default_rng(0)
    w = r.standard_normal((12, 10)).astype(np.float32)
    x = r.standard_normal((groups, 10, 10)) @ r.standard_normal((groups, 10, 400))
    return w, choose_scale(w, bits=3), torch.from_numpy(x @ x.transpose(0, 2, 1)), x


@pytest.mark.parametrize("groups", [1, 3])
def test_gptq_lies_on_the_grid_and_is_nearer_in_outputs(groups):
    w, scale, hessian, x = layer(groups)
    w[0, 3] = 0
    made = gptq(w, hessian, Grid(scale, 3))
    codes = to_codes(made, scale, 3)
    np.testing.assert_allclose(to_float(codes, scale), made, rtol=1e-6)
    assert made[0, 3] == 0 and abs(codes).max() <= 3

    def error(v):
        return np.square((v - w).reshape(groups, -1, 10) @ x).sum()
    assert error(made) < 0.75 * error(to_float(to_codes(w, scale, 3), scale))


def test_gptq_without_correlation_is_rounding_to_nearest():
    w, scale, _, _ = layer()
    made = gptq(w, torch.eye(10, dtype=torch.float64)[None], Grid(scale, 3))
    assert np.array_equal(to_codes(made, scale, 3), to_codes(w, scale, 3))


def test_a_choice_begins_at_the_float_weight_and_ends_at_a_neighbour():
    w, scale, _, _ = layer()
    choice = Choice(w, Grid(scale, 8))
    inside = np.abs(w / scale[:, None]) < 126
    begin, hard = choice().detach().numpy(), choice(hard=True).detach().numpy()
    assert np.abs((begin - w) / scale[:, None])[inside].max() < 0.011
    assert np.abs((hard - w) / scale[:, None])[inside].max() < 1
    assert choice.undecided(2.0) > 0
    choice.v.data = torch.where(choice.v > 0, torch.tensor(9.0), torch.tensor(-9.0))
    assert choice.undecided(2.0) == 0


def test_blocks_are_cut_where_one_value_passes():
    graph = cnn()
    layers = {n for n in graph.nodes if n.op in ("conv", "linear")}
    parts = [[n.name for n in part if n in layers] for part in cut(graph, layers)]
    assert sum(parts, []) == ["stem", "dw", "pw", "fc1", "fc2"]
    assert any({"dw", "pw"} <= set(p) for p in parts), "what is between a value and its addition stays together"


@pytest.mark.parametrize("method,share", [("gptq", 0.5), ("adaround", 0.75), ("brecq", 0.75)])
def test_rounding_learns_what_nearest_loses(method, share):
    graph = cnn()
    error = {}
    for rounding in ("nearest", method):
        ctx = context(graph)
        out = find("quantize.ptq")(weight_bits=3, rounding=rounding, round_steps=150, activations="none").run(graph, ctx)
        feeds = ctx.data.inputs
        error[rounding] = distance(next(iter(run(out, feeds).values())), next(iter(run(graph, feeds).values())))
    assert error[method] < share * error["nearest"]


@pytest.mark.parametrize("method", ["gptq", "adaround", "brecq"])
def test_rounding_is_deterministic_and_every_option_counts(method):
    graph = find("prune.weights")(sparsity=0.5).run(cnn(), context(cnn()))

    def made(**options):
        return find("quantize.ptq")(weight_bits=4, **options).run(graph, context(graph))
    one = made(rounding=method, round_steps=30)
    assert same_graph(one, made(rounding=method, round_steps=30)) and not same_graph(one, made())
    if method != "gptq":
        assert not same_graph(one, made(rounding=method, round_steps=60))
    for v in one.constants():
        if v.dtype == "int8" and v.data.ndim > 1:
            before = next(u for u in graph.constants() if v.name == u.name + ".int8")
            assert (v.data[before.data == 0] == 0).all(), "pruned weights stay"


def test_rounding_needs_data():
    graph, blind = cnn(), context(cnn())
    blind.data = None
    with pytest.raises(UserError, match="rounding: gptq needs calibration data"):
        find("quantize.ptq")(rounding="gptq", activations="none").run(graph, blind)


def test_smoothing_changes_no_number_and_saves_the_small_channels():
    r = np.random.default_rng(0)
    x, n, a, y = (Value(k, "float32", ("N", 6, 20)) for k in "xnay")
    scale = np.ones(20, np.float32)
    scale[::5] = 100
    weights = [constant(f"{k}.weight", (r.standard_normal((20, 20)) / 4 / scale).astype(np.float32)) for k in "ab"]
    b = Value("b", "float32", ("N", 6, 20))
    graph = Graph([x], [y], [
        Node("layer_norm", [x, constant("ln.weight", scale), constant("ln.bias", scale * 0.1)], [n], {"axis": -1}, "ln"),
        Node("linear", [n, weights[0], None], [a], {}, "a"), Node("linear", [n, weights[1], None], [b], {}, "b"),
        Node("add", [a, b], [y], {}, "sum")])
    even = graph.copy()
    assert smooth(even, [context(graph).data.inputs], 0.5) == 1
    assert distance(outputs(even), outputs(graph)) < 1e-5
    error = {}
    for alpha in (0.0, 0.5):
        ctx = context(graph)
        out = find("quantize.ptq")(smooth=alpha, observer="minmax").run(graph, ctx)
        error[alpha] = distance(outputs(out), outputs(graph))
    assert ctx.notes["smoothed"] == 1 and error[0.5] < error[0.0] / 3


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gptq_sees_the_columns_of_convolutions_of_any_rank(rank):
    """Weight times columns is the convolution's output at every position."""
    from mcc.passes.ops import call
    from mcc.passes.quantize.rounding import _columns
    sizes, kernel = (7, 6, 5)[:rank], (3, 2, 2)[:rank]
    attrs = {"pads": [2, 0, 1, 1, 1, 0][: 2 * rank], "strides": [2, 1, 1][:rank], "dilations": [1, 2, 1][:rank], "group": 2}
    x, w = torch.randn(3, 4, *sizes), torch.randn(6, 2, *kernel)
    node = Node("conv", [Value("x"), constant("w", w.numpy())], [Value("y")], attrs)
    want, = call("conv", [x, w], attrs)
    columns = _columns(node, x, np.random.default_rng(0)).float()
    made = torch.einsum("god,gdp->gop", w.reshape(2, 3, -1), columns).reshape(6, 3, *want.shape[2:])
    torch.testing.assert_close(made.transpose(0, 1), want, rtol=1e-4, atol=1e-4)
