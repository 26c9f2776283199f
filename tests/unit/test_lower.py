"""Lowering, stage by stage: every stage keeps the numbers, transposes cancel, the arena is as small as the live set."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from mcc.passes.errors import UserError
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower import STAGES, lower
from mcc.passes.lower.match import Sketch
from mcc.passes.lower.plan import alive, value_bytes
from mcc.passes.ops.run import run


def norm(s: Sketch, y, channels: int):
    weights = [s.weight(f"{n}.{len(s.nodes)}", channels) for n in ("gamma", "beta", "mean")]
    return s("batch_norm", y, *weights, constant(f"var.{len(s.nodes)}", np.linspace(0.5, 2, channels, dtype=np.float32)))


def trunk() -> Graph:
    """conv, batch norm, residual add, channel shuffle, squeeze-and-excite, concat, flatten, linear."""
    s = Sketch()
    x = s.input("x", 2, 3, 12, 10)
    y = s("relu", norm(s, s("conv", x, s.weight("a.weight", 8, 3, 3, 3), pads=[1, 1, 1, 1]), 8))
    y = s("max_pool", y, kernel_shape=[2, 2], strides=[2, 2])
    z = s("conv", y, s.weight("b.weight", 8, 1, 3, 3), s.weight("b.bias", 8), pads=[1, 1, 1, 1], group=8)
    z = s("reshape", s("transpose", s("reshape", z, [2, 2, 4, 6, 5]), perm=[0, 2, 1, 3, 4]), [2, 8, 6, 5])
    y = s("relu", s("add", z, y))
    gate = s("sigmoid", s("conv", s("global_average_pool", y), s.weight("c.weight", 8, 8, 1, 1), s.weight("c.bias", 8)))
    y = s("concat", s("mul", y, gate), y, axis=1)
    return s.graph(s("linear", s("flatten", y, axis=1), s.weight("fc.weight", 10, 16 * 30), s.weight("fc.bias", 10)))


def sequence() -> Graph:
    """1-D convolutions, a transpose of the model's own, a softmax over channels."""
    s = Sketch()
    x = s.input("x", 1, 4, 20)
    y = s("hard_swish", s("conv", x, s.weight("a.weight", 6, 4, 3), pads=[1, 1], strides=[2]))
    y = s("conv", y, s.weight("b.weight", 5, 6, 3), s.weight("b.bias", 5), pads=[0, 0])
    y = s("softmax", s("transpose", y, perm=[0, 2, 1]), axis=-1)
    return s.graph(y, s("reduce_max", y, [1], keepdims=0))


def up() -> Graph:
    """transposed convolution, resize, pad, slice, split along channels, instance norm."""
    s = Sketch()
    x = s.input("x", 1, 6, 5, 4)
    y = s("relu", s("conv_transpose", x, s.weight("a.weight", 6, 4, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1],
                    output_padding=[1, 1]))
    y = s("resize", y, None, constant("scales", np.array([1, 1, 2, 2], np.float32)), mode="nearest",
          coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    y = s("conv", s("pad", y, [0, 0, 1, 2, 0, 0, 1, 0]), s.weight("b.weight", 8, 4, 2, 2))
    a, b = s("split", s("slice", y, [1, 0], [100, -1], [2, 3]), [2, 6], outputs=2, axis=1)
    return s.graph(s("average_pool", b, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, count_include_pad=1, pads=[1, 1, 1, 1]),
                   s("instance_norm", a, s.weight("g", 2), s.weight("h", 2)))


NETS = {"trunk": trunk, "sequence": sequence, "up": up}


def outputs(graph: Graph) -> list[np.ndarray]:
    feeds = {v.name: torch.from_numpy(np.random.default_rng(0).standard_normal(v.shape).astype(np.float32)) for v in graph.inputs}
    return [t.numpy() for t in run(graph, feeds).values()]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", NETS)
def test_every_stage_keeps_the_numbers(name, stage):
    graph = NETS[name]()
    for a, b in zip(outputs(lower(graph, stop_after=stage)), outputs(graph), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4)


def test_transposes_cancel():
    nodes = lower(trunk()).nodes
    moves = [n for n in nodes if n.op == "transpose"]
    # the first layer reads the image as it comes, NCHW; the shuffle is an op of its own; nothing else moves
    assert not moves and nodes[0].attrs["layout"] == "nchw"
    assert [(n.attrs["groups"], len(n.inputs), n.attrs["sizes"]) for n in nodes if n.op == "channel_shuffle"] == [(2, 1, [8])]
    assert not {"batch_norm", "sigmoid", "flatten", "global_average_pool"} & {n.op for n in nodes}


def test_concat_and_split_join_the_shuffle():
    s = Sketch()
    x = s.input("x", 2, 8, 6, 5)
    a, b = s("split", x, [4, 4], outputs=2, axis=1)
    for _ in range(2):
        y = s("concat", a, s("conv", b, s.weight(f"w{len(s.nodes)}", 4, 4, 1, 1)), axis=1)
        y = s("reshape", s("transpose", s("reshape", y, [2, 2, 4, 6, 5]), perm=[0, 2, 1, 3, 4]), [2, 8, 6, 5])
        a, b = s("split", y, [4, 4], outputs=2, axis=1)
    graph = s.graph(a, b)
    lowered = lower(graph)
    assert [(len(n.inputs), len(n.outputs)) for n in lowered.nodes if n.op == "channel_shuffle"] == [(2, 2)] * 2
    assert not any(n.op == "concat" for n in lowered.nodes)
    for got, want in zip(outputs(lowered), outputs(graph), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5, rtol=1e-4)


def mobile(side: int) -> Graph:
    """An inverted residual with its addition, one of stride 2, a depthwise separable convolution."""
    s = Sketch()
    x = s.input("x", 1, 8, side, side)
    y = x
    for stride, o in ((1, 8), (2, 12)):
        n = len(s.nodes)
        z = s("clip", s("conv", y, s.weight(f"a{n}", 48, 8, 1, 1), s.weight(f"ab{n}", 48)), constant(f"l{n}", np.float32(0)),
              constant(f"h{n}", np.float32(6)))
        z = s("relu", s("conv", z, s.weight(f"b{n}", 48, 1, 3, 3), s.weight(f"bb{n}", 48), pads=[1, 1, 1, 1],
                        strides=[stride] * 2, group=48))
        z = s("conv", z, s.weight(f"c{n}", o, 48, 1, 1), s.weight(f"cb{n}", o))
        y = s("add", z, y) if stride == 1 else z
    z = s("relu", s("conv", y, s.weight("d", 12, 1, 5, 5), pads=[2, 2, 2, 2], group=12))
    return s.graph(s("relu", s("conv", z, s.weight("e", 16, 12, 1, 1))))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_blocks_of_large_images(precision, monkeypatch):
    from mcc.passes.lower import blocks
    graph = mobile(80)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 8, 80, 80)).astype(np.float32)}
    options = {"precision": precision, **({"calibration": [feeds]} if precision == "int8" else {})}
    op = {"fp32": "nhwc_inverted_residual", "int8": "nhwc_qinverted_residual"}[precision]
    lowered = lower(graph, **options)
    assert [n.inputs[1] is not None for n in lowered.nodes if n.op == op] == [True, True]  # the last one's image is small
    monkeypatch.setattr(blocks, "LEAST", 1)
    every = lower(graph, **options)
    # the last layer of the int8 one gives float32, which a block does not
    assert [n.inputs[1] is not None for n in every.nodes if n.op == op] == [True, True, False][:2 if precision == "int8" else 3]
    monkeypatch.setattr(blocks, "LEAST", 1 << 40)
    plain = lower(graph, **options)
    assert not any(n.op == op for n in plain.nodes) and lowered.meta["arena"] < 0.6 * plain.meta["arena"]
    x = torch.from_numpy(feeds["x"])
    for other in (lowered, every):
        for got, want in zip(run(other, {"x": x}).values(), run(plain, {"x": x}).values(), strict=True):
            near = 0 if precision == "int8" else 1e-5
            torch.testing.assert_close(got, want, rtol=near, atol=near)


def test_blocks_leave_weights_with_formats():
    graph = mobile(80)
    for n in graph.nodes:
        if n.op == "conv":
            n.inputs[1].meta["sparse"] = True
    assert not any(n.op == "nhwc_inverted_residual" for n in lower(graph).nodes)


def first_layers() -> Graph:
    """Two images, of three channels and of one; one of them is read by another op too."""
    s = Sketch()
    a, b = s.input("a", 1, 3, 9, 8), s.input("b", 1, 1, 9, 8)
    y = s("conv", a, s.weight("a.weight", 8, 3, 3, 3), pads=[1, 1, 1, 1])
    z = s("conv", b, s.weight("b.weight", 8, 1, 3, 3), pads=[1, 1, 1, 1])
    return s.graph(s("add", y, z), s("relu", a))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_first_layers_read_the_image(precision, calibrated):
    graph, r = first_layers(), np.random.default_rng(3)
    given = {v.name: r.standard_normal(v.shape).astype(np.float32) for v in graph.inputs}
    lowered = lower(graph, precision=precision, **({"calibration": [given]} if calibrated and precision == "int8" else {}))
    layers = [n for n in lowered.nodes if n.op in ("nhwc_conv", "nhwc_qconv", "nhwc_dqconv")]
    assert [n.attrs.get("layout") for n in layers] == ["nchw", "nchw"]
    assert all(n.inputs[0] in lowered.inputs for n in layers)
    assert not any(n.op in ("transpose", "quantize_linear") and n.inputs[0] in lowered.inputs for n in lowered.nodes)


def test_residual_and_activation_join_the_layer():
    s = Sketch()
    x = s.input("x", 1, 8, 6, 6)
    y = s("conv", x, s.weight("a.weight", 8, 8, 3, 3), s.weight("a.bias", 8), pads=[1, 1, 1, 1])
    lowered = lower(s.graph(s("relu", s("add", y, x))))
    (layer,) = [n for n in lowered.nodes if n.op == "nhwc_conv"]
    assert layer.attrs["act"] == "relu" and layer.inputs[3] is not None
    assert not any(n.op in ("add", "relu") for n in lowered.nodes)


@pytest.mark.parametrize("name", NETS)
def test_arena(name):
    """No two values that are alive together share bytes unless one is a view or is written over the other."""
    lowered = lower(NETS[name]())
    values = [v for v in lowered.values() if v.data is None and "slice" not in v.meta]
    assert all(v.meta["offset"] % 64 == 0 and v.meta["offset"] + value_bytes(v) <= lowered.meta["arena"] for v in values)
    assert alive(lowered) == lowered.meta["live"] == lowered.meta["arena"]
    position = {v: i for i, n in enumerate(lowered.nodes) for v in n.outputs}
    last = {v: max([i for i, n in enumerate(lowered.nodes) if v in n.inputs], default=-1) for v in values}
    for v in lowered.outputs:
        last[v] = len(lowered.nodes)
    for a in values:
        for b in values:
            if a is b or position.get(a, -1) >= position.get(b, -1):
                continue
            first, second = a.meta["offset"], b.meta["offset"]
            overlap = first < second + value_bytes(b) and second < first + value_bytes(a)
            view = first == second and value_bytes(a) == value_bytes(b)
            if overlap and last[a] >= position[b]:
                assert view, f"{b.name} is written over {a.name}, which is read later"


def test_symbolic_dimensions_need_a_size():
    x = Value("x", "float32", ("N", 3, "width"))
    y = Value("y")
    graph = Graph([x], [y], [Node("relu", [x], [y])])
    with pytest.raises(UserError, match="dimension 'width' has no size; give --bind width=SIZE"):
        lower(graph)
    with pytest.raises(UserError, match="--bind depth: the model has no such dimension; it has N, width"):
        lower(graph, bind={"depth": 3, "width": 4})
    assert lower(graph, bind={"width": 4}).outputs[0].shape == (1, 3, 4)


def test_an_accumulator_that_might_overflow_stays_float():
    s = Sketch()
    x = s.input("x", 1, 70000)
    one, zero = constant("s", np.float32(0.1)), constant("z", np.int8(-128))
    q = s("dequantize_linear", s("quantize_linear", x, one, zero), one, zero)
    w = s("dequantize_linear", constant("w", np.full((2, 70000), 127, np.int8)), constant("ws", np.float32(0.01)))
    lowered = lower(s.graph(s("linear", q, w)))
    assert "linear" in {n.op for n in lowered.nodes}
    assert lowered.meta["notes"] and "might leave int32" in lowered.meta["notes"][0]


def test_half_precision_refuses_what_it_cannot_hold():
    s = Sketch()
    x = s.input("x", 1, 4)
    graph = s.graph(s("linear", x, constant("fc.weight", np.full((2, 4), 1e6, np.float32))))
    with pytest.raises(UserError, match="weight 'fc.weight' has values beyond 65504"):
        lower(graph, precision="fp16")
    assert lower(graph, precision="bf16").nodes[0].inputs[1].dtype == "bfloat16"
