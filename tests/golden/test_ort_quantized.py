"""Models from onnxruntime's own quantizer run as integers here and give what onnxruntime gives without its optimizations.

Where the two differ, the exact value (whole-number sums, float64 scales) lies so near the middle between two codes that
float32 cannot tell them apart; never by more than one step in a layer.
"""
from __future__ import annotations

import logging

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnxruntime.quantization import (CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_dynamic,
                                      quantize_static)
from torch import nn

from mcc.kernels import Session
from mcc.passes.errors import UserError
from mcc.passes.lower import lower
from mcc.passes.onnx_io import load

U8, S8 = QuantType.QUInt8, QuantType.QInt8
STATIC = {"u8s8 per channel": (U8, S8, True), "s8s8": (S8, S8, False), "s8s8 per channel": (S8, S8, True),
          "u8u8": (U8, U8, False)}


class Image(nn.Module):
    """A first layer, a depthwise, a residual, a pool, a head."""

    def __init__(self):
        super().__init__()
        self.first, self.deep = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.wide, self.narrow = nn.Conv2d(16, 40, 1), nn.Conv2d(40, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.first(x).relu()
        x = x + self.narrow(self.wide(self.deep(x).clamp(0, 6)).relu())
        return self.head(nn.functional.max_pool2d(x, 2).mean((2, 3)))


class Text(nn.Module):
    """An embedding, a layer of attention with a mask, GELU, layer norm."""

    def __init__(self, width=48, heads=4, far=-20.0):
        super().__init__()
        self.far = far
        self.embed, self.heads = nn.Embedding(100, width), heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down, self.norm = nn.Linear(width, 96), nn.Linear(96, width), nn.LayerNorm(width)

    def forward(self, ids, mask):
        x = self.embed(ids)
        n, s, w = x.shape
        q, k, v = (t.reshape(n, s, self.heads, -1).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        far = (1 - mask[:, None, None, :].float()) * self.far
        a = nn.functional.scaled_dot_product_attention(q, k, v, far)
        x = self.norm(x + self.out(a.transpose(1, 2).reshape(n, s, w)))
        return x + self.down(nn.functional.gelu(self.up(x)))


def image_feed(rng):
    return {"x": rng.standard_normal((1, 3, 24, 20)).astype("f")}


def text_feed(rng):
    return {"ids": rng.integers(0, 100, (1, 20)), "mask": np.array([[1] * 15 + [0] * 5])}


class Batches(CalibrationDataReader):
    def __init__(self, feed):
        rng = np.random.default_rng(1)
        self.left = iter([feed(rng) for _ in range(8)])

    def get_next(self):
        return next(self.left, None)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """{name: (prepared ONNX file, feed)}"""
    logging.getLogger().setLevel(logging.ERROR)
    folder, found = tmp_path_factory.mktemp("models"), {}
    for name, net, feed in (("image", Image(), image_feed), ("text", Text(), text_feed)):
        torch.manual_seed(3)
        for p in net.parameters():
            nn.init.normal_(p, std=0.3)
        inputs = {k: torch.from_numpy(v) for k, v in feed(np.random.default_rng(0)).items()}
        torch.onnx.export(net.eval(), tuple(inputs.values()), folder / "plain.onnx", dynamo=False, opset_version=17,
                          input_names=list(inputs))
        quant_pre_process(str(folder / "plain.onnx"), str(folder / f"{name}.onnx"), skip_symbolic_shape=True)
        found[name] = folder / f"{name}.onnx", feed
    return found


def reference(path, feed) -> list[np.ndarray]:
    """onnxruntime, node by node as the file says."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feed)


def engine(path, tmp_path, notes=()):
    """(ops, session) of the lowered model; what it says about layers that stay float is `notes`, one word each."""
    lowered = lower(load(path), tmp_path / "m.mcc")
    assert all(n.inputs[0].dtype in ("int8", "uint8") for n in lowered.nodes if n.op == "gather"), "an embedding became float"
    said = lowered.meta.get("notes", [])
    assert all("stays float" in line and any(n in line for n in notes) for line in said) and bool(said) == bool(notes), said
    return [n.op for n in lowered.nodes], Session(str(tmp_path / "m.mcc"))


@pytest.mark.parametrize("kinds", STATIC)
@pytest.mark.parametrize("name", ["image", "text"])
def test_static(name, kinds, models, tmp_path):
    source, feed = models[name]
    activation, weight, per_channel = STATIC[kinds]
    path = tmp_path / "q.onnx"
    quantize_static(source, path, Batches(feed), quant_format=QuantFormat.QDQ, per_channel=per_channel,
                    activation_type=activation, weight_type=weight)
    ops, session = engine(path, tmp_path, ["zero point"] if kinds == "u8u8" else [])
    if kinds != "u8u8":  # weights with a zero point have no integer layer
        assert not {"nhwc_conv", "linear"} & set(ops), ops
        assert sum(op in ("nhwc_qconv", "nhwc_qinverted_residual", "qlinear") for op in ops) >= 4, ops
    assert not {"matmul", "softmax", "attention", "layer_norm"} & set(ops), ops
    assert name == "image" or {"qmatmul", "qsoftmax", "qlayer_norm"} <= set(ops), ops
    assert not {"is_nan", "where"} & set(ops), "a guard of what cannot be NaN"
    assert (tmp_path / "m.mcc").stat().st_size < path.stat().st_size
    model = onnx.load(path)
    scales = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    last = next(n for n in model.graph.node if n.output[0] == model.graph.output[0].name)
    step = float(scales[last.input[1]]) if last.op_type == "DequantizeLinear" else None
    rng = np.random.default_rng(2)
    for _ in range(10):
        given = feed(rng)
        want, got = reference(path, given)[0], next(iter(session.run(given).values()))
        size = step or np.ptp(want) / 255
        assert np.abs(got - want).max() <= size * 1.01, np.abs(got - want).max() / size
        assert np.mean(np.abs(got - want) > size / 2) < 0.05  # and hardly any


@pytest.mark.parametrize("weight", [S8, U8])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", ["image", "text"])
def test_dynamic(name, weight, per_channel, models, tmp_path):
    source, feed = models[name]
    path = tmp_path / "q.onnx"
    quantize_dynamic(source, path, per_channel=per_channel, weight_type=weight)
    ops, session = engine(path, tmp_path, ["zero point"] if weight == U8 else [])
    assert not {"matmul_integer", "nhwc_conv_integer"} & set(ops), ops
    assert ("attention" in ops) == (name == "text"), ops
    if weight == S8:
        assert not {"nhwc_conv", "linear"} & set(ops), ops
    rng = np.random.default_rng(2)
    for _ in range(10):
        given = feed(rng)
        want, got = reference(path, given)[0], next(iter(session.run(given).values()))
        assert np.abs(got - want).max() <= np.ptp(want) / 255, ops  # a code that falls the other way moves all that follow


@pytest.mark.parametrize("layer", [nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Linear(96, 40)])
def test_who_is_right(layer, tmp_path):
    """One layer, from codes to codes: beside the exact value, in float64, both engines round as the definition says."""
    torch.manual_seed(5)
    shape = (1, 96) if isinstance(layer, nn.Linear) else (1, layer.in_channels, 24, 24)
    torch.onnx.export(layer, torch.zeros(shape), tmp_path / "m.onnx", dynamo=False, opset_version=17, input_names=["x"])
    feed = lambda rng: {"x": rng.standard_normal(shape).astype("f")}  # noqa: E731
    path = tmp_path / "q.onnx"
    quantize_static(tmp_path / "m.onnx", path, Batches(feed), per_channel=True, activation_type=U8, weight_type=S8)
    model = onnx.load(path)
    held = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    nodes = {n.output[0]: n for n in model.graph.node}
    out = nodes[model.graph.output[0].name]
    y_scale, y_zero = (held[v].astype(np.float64) for v in out.input[1:3])
    float_out = nodes[nodes[out.input[0]].input[0]]
    x_scale, x_zero = (held[v].astype(np.float64) for v in nodes[float_out.input[0]].input[1:3])
    w, w_scale = (held[v].astype(np.float64) for v in nodes[float_out.input[1]].input[:2])
    b, b_scale = (held[v].astype(np.float64) for v in nodes[float_out.input[2]].input[:2])
    _, session = engine(path, tmp_path)
    rng, apart, ours_off, theirs_off = np.random.default_rng(7), 0, 0, 0
    for _ in range(40):
        given = feed(rng)
        x = np.clip(np.rint(given["x"] / np.float32(x_scale)) + x_zero, 0, 255) - x_zero
        x, weight = torch.from_numpy(x * x_scale), torch.from_numpy(w * w_scale.reshape(-1, *[1] * (w.ndim - 1)))
        if isinstance(layer, nn.Linear):
            exact = x @ (weight if w.shape[0] == x.shape[1] else weight.T) + torch.from_numpy(b * b_scale)
        else:
            exact = nn.functional.conv2d(x, weight, torch.from_numpy(b * b_scale), padding=1, groups=layer.groups)
        exact = exact.numpy() / y_scale + y_zero
        ours = np.rint(next(iter(session.run(given).values())) / y_scale + y_zero)
        theirs = np.rint(reference(path, given)[0] / y_scale + y_zero)
        right = np.clip(np.rint(exact), 0, 255)
        middle = np.abs(exact - np.floor(exact) - 0.5) < 1e-4
        assert np.abs(ours - theirs).max() <= 1
        assert np.all((ours == right) | middle), "ours is off where nothing is in the middle"
        apart, ours_off = apart + (ours != theirs).sum(), ours_off + (ours != right).sum()
        theirs_off += (theirs != right).sum()
    assert ours_off <= theirs_off + 3, (apart, ours_off, theirs_off)
    print(f"{layer}: {apart} codes apart; off the exact rounding: ours {ours_off}, onnxruntime's {theirs_off}")


def test_infinite_scale(models, tmp_path):
    """A mask of -inf, quantized: its scale is infinite and the model's results are NaN in onnxruntime. Said before anything
    is written."""
    source, feed = models["image"]
    quantize_static(source, tmp_path / "q.onnx", Batches(feed), quant_format=QuantFormat.QDQ, activation_type=U8, weight_type=S8)
    model = onnx.load(tmp_path / "q.onnx")
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    scale = next(i for i in model.graph.initializer if i.name == node.input[1])
    scale.CopyFrom(onnx.numpy_helper.from_array(np.array(np.inf, "f"), scale.name))
    onnx.save(model, tmp_path / "q.onnx")
    with pytest.raises(UserError, match=f"node '{node.name}': a scale of quantize_linear is inf: .* finite number"):
        lower(load(tmp_path / "q.onnx"), tmp_path / "m.mcc")
    assert not (tmp_path / "m.mcc").exists()


def test_operators_of_onnxruntime(models, tmp_path):
    """The older format has operators that ONNX does not know: said so, with the way out."""
    source, feed = models["image"]
    quantize_static(source, tmp_path / "q.onnx", Batches(feed), quant_format=QuantFormat.QOperator)
    with pytest.raises(UserError, match=r"com.microsoft.QGemm is not supported .*quant_format=QuantFormat.QDQ"):
        load(tmp_path / "q.onnx")
