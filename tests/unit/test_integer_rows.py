"""Softmax, norms, attention and linear resize as integers: when ptq and qat ask for them, how near they are to the float op, and
what stays float, with its reason."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from mcc.passes import find
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower import lower
from mcc.passes.lower.match import Sketch
from mcc.passes.ops import call
from mcc.passes.ops.quantized import attention_form, attention_table, integer_rows, softmax_form
from mcc.passes.ops.run import run
from mcc.passes.quantize.places import ROWS
from mcc.passes.quantize.ptq import PTQ

from networks import blocks, context, distance, outputs

torch.set_num_threads(1)
R = np.random.default_rng(7)


def ops(graph):
    return {n.op for n in graph.nodes}


def test_float_ops_say_what_is_integer():
    """Unless told, softmax and norms compute in float, attention as integers; with float_ops: [] nothing is float inside."""
    graph = blocks(attention=True)
    default = PTQ().float_ops
    assert ROWS - set(default) == {"attention"}
    ways = {"plain": {}, "float": {"float_ops": [*default, "attention"]}, "whole": {"float_ops": []}}
    made = {name: find("quantize.ptq")(**how).run(graph, context(graph)) for name, how in ways.items()}
    low, whole = {name: lower(g, stop_after="integer") for name, g in made.items()}, made["whole"]
    assert {"qattention", "layer_norm"} <= ops(low["plain"]) and not ops(low["plain"]) & {"attention", "qlayer_norm"}
    assert {"attention", "layer_norm"} <= ops(low["float"]) and not ops(low["float"]) & {"qattention", "qlayer_norm"}
    assert ops(low["whole"]) <= {"quantize_linear", "nhwc_qconv", "qlinear", "qadd", "qlut", "nhwc_qavg_pool", "qattention",
                                 "qlayer_norm", "transpose", "reshape"}
    assert [n.op for n in low["whole"].nodes].count("quantize_linear") == 1
    assert distance(outputs(whole), outputs(graph)) < 0.1
    one = {"x": R.standard_normal((1, 3, 8, 8)).astype(np.float32)}
    assert distance(next(iter(run(low["whole"], one).values())), next(iter(run(whole, one).values()))) < 0.02


def test_trained_is_lowered_without_a_change():
    graph = blocks(attention=True)
    ctx = context(graph)
    out = find("quantize.qat")(epochs=1, float_ops=[]).run(graph, ctx)
    assert ctx.notes["identical"] is True
    assert {"qattention", "qlayer_norm"} <= ops(lower(out, stop_after="integer"))


def test_gradients_pass_as_in_the_float_ops():
    from mcc.passes.quantize.ptq import quantize_graph
    from mcc.passes.quantize.simulate import Simulation

    graph, masters, how = blocks(attention=True), {}, PTQ(float_ops=[], correct_bias=False)
    batches = how.batches(graph, context(graph))
    made = quantize_graph(graph, batches, how, context(graph), masters)
    module = Simulation(made, {k: w for k, (w, _) in masters.items()}, {k: b for k, (_, b) in masters.items()}).train()
    feed = {"x": torch.as_tensor(batches[0]["x"])}
    module(feed).square().sum().backward()
    plain = graph.module().train()
    plain(feed).square().sum().backward()
    ours, theirs = (next(p.grad for k, p in m.named_parameters() if k.startswith("stem.weight")) for m in (module, plain))
    assert ours.abs().sum() > 0 and distance(ours, theirs) < 0.3
    learnt = {k: p.grad for k, p in module.named_parameters() if k.endswith(".log")}
    assert learnt and all(g is not None and torch.isfinite(g).all() for g in learnt.values())


# --- how near ------------------------------------------------------------------------------------------------------------

def int8(*shape, scale=0.05, zero=3):
    codes = R.integers(-128, 128, shape).astype(np.int8)
    return torch.from_numpy(codes), (torch.from_numpy(codes).float() - zero) * scale


CASES = {
    "softmax": ("softmax", {"axis": -1}, (4, 50), [], (1 / 256, -128)),
    "softmax_1": ("softmax", {"axis": 1}, (2, 7, 9), [], (1 / 256, -128)),
    "layer_norm": ("layer_norm", {"epsilon": 1e-5}, (3, 4, 40), [(40,), (40,)], (0.04, 5)),
    "no_bias": ("layer_norm", {"axis": -2}, (3, 4, 10), [(4, 10)], (0.04, 5)),
    "rms_norm": ("rms_norm", {"epsilon": 1e-6}, (3, 40), [(40,)], (0.04, 5)),
    "group_norm": ("group_norm", {"num_groups": 2}, (2, 6, 5, 4), [(6,), (6,)], (0.04, 5)),
    "per_group": ("group_norm", {"num_groups": 2}, (2, 6, 5, 4), [(2,), (2,)], (0.04, 5)),
    "instance_norm": ("instance_norm", {}, (2, 6, 5, 4), [(6,), (6,)], (0.04, 5)),
}


@pytest.mark.parametrize("case", CASES)
def test_one_step_at_most_from_the_float_op(case):
    name, attrs, shape, weights, (scale, zero) = CASES[case]
    codes, real = int8(*shape)
    rest = [torch.from_numpy(R.standard_normal(s).astype(np.float32)) for s in weights]
    want = torch.round(call(name, [real, *rest], attrs)[0] / scale) + zero
    got = integer_rows(name, attrs, [codes], [(0.05, 3)], rest, (scale, zero)).float()
    off = (got - want.clamp(-128, 127)).abs()
    assert off.max() <= 1 and (off > 0).float().mean() < 0.02, off.max()


@pytest.mark.parametrize("attrs", [{}, {"is_causal": 1}, {"left_window_size": 2, "right_window_size": 1}])
@pytest.mark.parametrize("kind", ["none", "bool", "float"])
def test_attention_is_near_the_float_op(attrs, kind):
    """Weights have eight bits and their exponents steps of 1/41: of nine keys, 0.2 % and 1.2 % of each at most."""
    (q, fq), (k, fk), (v, fv) = (int8(2, 3, n, 16, scale=0.03, zero=z) for n, z in ((5, 3), (9, -4), (9, 7)))
    keep = R.random((5, 9)) < 0.6
    keep[0] = False  # a query that sees nothing
    added = np.where(keep, 0.3, -1e9).astype(np.float32)
    rest = {"none": [], "bool": [torch.from_numpy(keep)], "float": [torch.from_numpy(added)]}[kind]
    want = call("attention", [fq, fk, fv, *rest], attrs)[0]
    scales = [(0.03, 3), (0.03, -4), (0.03, 7)]
    got = integer_rows("attention", attrs, [q, k, v], scales, rest, (0.03, 1))
    off = ((got.float() - 1) * 0.03 - want.clamp(-129 * 0.03, 126 * 0.03)).abs() / (0.03 * 255)
    assert off.max() <= 0.03 and off.mean() <= 0.004, (off.max(), off.mean())


def test_tables():
    table, attrs = softmax_form(0.03, (1 / 256, -128), -1, 32768)
    assert table[0] == 65535 and softmax_form(0.03, (1 / 256, -128), -1, 3)[0][0] == 2 ** 24 - 1
    assert (table[1:] <= table[:-1]).all() and table.min() >= 0 and attrs["scale"] == 256
    weights = attention_table().int() + 128
    assert weights[0] == 255 and weights[255] == 0 and weights[254] == 1 and (weights[1:] <= weights[:-1]).all()
    assert attention_form([(0.1, 1), (0.2, 2), (0.3, 3)], (0.3, 4), 16, {})["scale"] == pytest.approx(0.005)


# --- what stays float ----------------------------------------------------------------------------------------------------

def bracketed(op, inputs, attrs, shape, scale=0.05):
    """quantize(op(dequantize(x)...)), where inputs given as shapes are int8 graph inputs."""
    s = Sketch()
    one, zero = constant("s", np.float32(scale)), constant("z", np.int8(0))
    args = []
    for i, v in enumerate(inputs):
        args.append(s("dequantize_linear", s("quantize_linear", s.input(f"x{i}", *v), one, zero), one, zero)
                    if isinstance(v, tuple) else v)
    y = s("quantize_linear", s(op, *args, **attrs), one, zero)
    return s.graph(s("dequantize_linear", y, one, zero))


Q = (1, 2, 3, 8)
REFUSED = {
    "softcap": ("attention", [Q, Q, Q], {"softcap": 20.0}, "softcap"),
    "cache": ("attention", [Q, Q, Q, None, constant("pk", np.zeros(Q, np.float32)), constant("pv", np.zeros(Q, np.float32))], {},
              "cache"),
    "deep": ("attention", [(1, 1, 2, 9000)] * 3, {}, "might leave int32"),
    "keys": ("attention", [(1, 1, 2, 8), (1, 1, 17000, 8), (1, 1, 17000, 8)], {}, "might leave int32"),
    "long": ("softmax", [(1, 40000)], {"axis": -1}, "more than 32768"),
    "matmul": ("matmul", [(1, 2, 17000), (1, 17000, 3)], {}, "might leave int32"),
    "cubic": ("resize", [(1, 2, 4, 4), None, None, constant("n", np.array([1, 2, 8, 8]))], {"mode": "cubic"}, "mode cubic"),
    "depth": ("resize", [(1, 2, 4, 4), None, None, constant("n", np.array([1, 3, 8, 8]))], {"mode": "linear"}, "height and"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_stays_float_and_says_why(case):
    op, inputs, attrs, why = REFUSED[case]
    low = lower(bracketed(op, inputs, attrs, None), stop_after="integer")
    assert op in ops(low)
    notes = low.meta["notes"]
    assert len(notes) == 1 and notes[0].startswith(f"{op} '") and "stays float: " in notes[0] and why in notes[0], notes


def test_a_computed_scale_stays_float():
    s = Sketch()
    one, zero = constant("s", np.float32(0.05)), constant("z", np.int8(0))
    x = s("dequantize_linear", s("quantize_linear", s.input("x", 2, 8), one, zero), one, zero)
    y = s("quantize_linear", s("layer_norm", x, s.input("gamma", 8)), one, zero)
    low = lower(s.graph(s("dequantize_linear", y, one, zero)), stop_after="integer")
    assert "layer_norm" in ops(low) and "its scale or bias is computed" in low.meta["notes"][0]


def test_images_resized_by_integers_keep_their_scale():
    """Between two convolutions a linear resize moves values of one scale, and no transposes are left."""
    r = np.random.default_rng(1)
    x, a, b, y = (Value(n, "float32", ("N", c, h, h)) for n, c, h in (("x", 4, 8), ("a", 6, 8), ("b", 6, 16), ("y", 3, 16)))

    def weight(name, *shape):
        return constant(name, r.standard_normal(shape).astype(np.float32))
    graph = Graph([x], [y], [
        Node("conv", [x, weight("one.weight", 6, 4, 3, 3), None], [a], {"pads": [1] * 4}, "one"),
        Node("resize", [a, None, constant("scales", np.array([1, 1, 2, 2], np.float32))], [b], {"mode": "linear"}, "up"),
        Node("conv", [b, weight("two.weight", 3, 6, 1, 1), None], [y], {}, "two")])
    out = find("quantize.ptq")().run(graph, context(graph))
    low = lower(out, stop_after="integer")
    resize = next(n for n in low.nodes if n.op == "nhwc_qresize")
    assert resize.attrs["scale"] == 1 / 16384 and resize.attrs["x_zero"] == resize.attrs["y_zero"]
    assert [n.op for n in low.nodes if n.op != "transpose"] == ["quantize_linear", "nhwc_qconv", "nhwc_qresize", "nhwc_qconv"]
    assert sum(n.op == "transpose" for n in low.nodes) == 2, "of the input and of the output"
    assert distance(outputs(out), outputs(graph)) < 0.05
