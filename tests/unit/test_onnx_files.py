"""Files and real exporters: external data, torch, .pt2, QDQ, attention, simplification."""
import numpy as np
import onnx
import pytest
import torch
from mcc.passes.errors import UserError
from mcc.passes.graph import constant
from mcc.passes.lower.fuse import FUSIONS, find
from mcc.passes.lower.match import Sketch
from mcc.passes.onnx_io import export, from_torch, load
from mcc.passes.ops.run import run
from onnx import TensorProto, helper
from torch import nn

from onnx_tools import F32, N, W, close, model_of, ort, ours

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")


def test_external_data(tmp_path):
    w = W((64, 64)).astype(F32)
    model = model_of(13, [N("MatMul", ["x", "w"], ["y"])], {"x": ("f", ["N", 64])}, {"w": w})
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    graph = load(tmp_path / "m.onnx", simplify=False)
    x = W((2, 64)).astype(F32)
    close(ours(graph, {"x": x}), [x @ w], atol=1e-4)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(UserError):
        load(tmp_path / "m.onnx")


def test_bfloat16_and_half(tmp_path):
    for dtype in ("bfloat16", "float16"):
        s = Sketch()
        graph = s.graph(s("relu", s("linear", s.input("x", 2, 3, dtype="float32"), s.weight("w", 4, 3))))
        for v in graph.values():
            v.dtype = dtype
            if v.data is not None:
                t = torch.from_numpy(v.data).to(getattr(torch, dtype))
                v.data = t.float().numpy() if dtype == "bfloat16" else t.numpy()
        export(graph, tmp_path / "m.onnx")
        back = load(tmp_path / "m.onnx", simplify=False)
        assert [v.dtype for v in back.inputs + back.outputs] == [dtype] * 2
        x = W((2, 3)).astype(F32 if dtype == "bfloat16" else np.float16)
        close(ours(back, {"x": x}), ours(graph, {"x": x}), 0, 0)


class Net(nn.Module):
    """Something of everything exporters write in pieces."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn, self.conv2 = (
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 16, 3, 2, groups=2),
        )
        self.embed, self.fc, self.norm = nn.Linear(16, 32), nn.Linear(32, 32), nn.LayerNorm(32)
        self.attend, self.drop, self.head = (
            nn.MultiheadAttention(32, 4, batch_first=True),
            nn.Dropout(0.2),
            nn.Linear(32, 5, bias=False),
        )

    def forward(self, x):
        x = nn.functional.hardswish(self.bn(self.conv1(x)))
        x = nn.functional.max_pool2d(nn.functional.silu(self.conv2(x)), 2, ceil_mode=True)
        x = self.embed(x.flatten(2).transpose(1, 2))
        x = self.norm(x + self.attend(x, x, x, need_weights=False)[0])
        x = x + self.drop(nn.functional.gelu(self.fc(x)))
        return self.head(nn.functional.mish(x).mean(1)), x


@pytest.mark.parametrize("opset", [11, 14, 15, 17])
@pytest.mark.parametrize("dynamic", [False, True])
def test_torchscript_export(tmp_path, opset, dynamic):
    if opset == 11:
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU6(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 5),
            nn.Softmax(1),
        )
    else:
        net = Net()
    net.eval()
    x = torch.randn(2, 3, 12, 12)
    names = ["y"] if opset == 11 else ["y", "z"]
    torch.onnx.export(
        net,
        (x,),
        tmp_path / "m.onnx",
        dynamo=False,
        opset_version=opset,
        input_names=["x"],
        output_names=names,
        do_constant_folding=False,
        dynamic_axes={"x": {0: "N"}} if dynamic else None,
    )
    graph = load(tmp_path / "m.onnx", simplify=False)
    ops = [n.op for n in graph.nodes]
    assert not set(ops) & {"shape", "constant_of_shape", "erf", "identity", "gather_nd"}
    x = torch.randn(3 if dynamic else 2, 3, 12, 12)
    close(ours(graph, {"x": x.numpy()}), ort(str(tmp_path / "m.onnx"), {"x": x.numpy()}))
    if opset > 11:
        assert {"hard_swish", "silu", "gelu", "layer_norm", "mish"} <= set(ops)
        assert {"fc.weight", "head.weight", "embed.weight"} <= {v.name for v in graph.constants()}
        assert "fc" in {n.scope for n in graph.nodes}


def test_torchscript_names(tmp_path):
    """Its folded weights ("onnx::Conv_12") get the names of their modules back."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(2), nn.Linear(100, 6), nn.Linear(6, 5)
    ).eval()
    torch.onnx.export(net, (torch.randn(2, 3, 12, 12),), tmp_path / "m.onnx", dynamo=False, opset_version=13)
    graph = load(tmp_path / "m.onnx", simplify=False)
    weights = {v.name for n in graph.nodes if n.op in ("conv", "linear") for v in n.inputs[1:]}
    assert weights == {f"{i}.{kind}" for i in (0, 4, 5) for kind in ("weight", "bias")}


def test_causal_mask_of_a_named_length(tmp_path):
    """positions[:T] and mask[:T, :T] keep their dimensions, so that attention is seen without binding."""

    class Causal(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.qkv = nn.Embedding(64, 32), nn.Linear(32, 96)
            self.register_buffer("mask", torch.tril(torch.ones(1, 1, 64, 64)))

        def forward(self, x):
            length = x.shape[1]
            x = x + self.embed(torch.arange(length))
            q, k, v = (t.view(-1, length, 4, 8).transpose(1, 2) for t in self.qkv(x).split(32, dim=2))
            scores = (q @ k.transpose(-2, -1) * 0.35).masked_fill(self.mask[:, :, :length, :length] == 0, float("-inf"))
            return (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(-1, length, 32)

    net, x = Causal().eval(), torch.randn(2, 6, 32)
    torch.onnx.export(
        net,
        (x,),
        tmp_path / "m.onnx",
        dynamo=False,
        opset_version=17,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "N", 1: "seq"}},
    )
    graph = load(tmp_path / "m.onnx", simplify=False)
    assert "attention" in {n.op for n in graph.nodes} and graph.outputs[0].shape == ("N", "seq", 32)
    x = torch.randn(3, 9, 32)
    close(ours(graph, {"x": x.numpy()}), ort(str(tmp_path / "m.onnx"), {"x": x.numpy()}))


def test_from_torch():
    net, x = Net(), torch.randn(1, 3, 12, 12)
    net.train()
    graph = from_torch(net, x, {"x": {0: "N"}}, output_names=["y", "z"])
    assert net.training and net.drop.training and net.bn.training
    assert graph.inputs[0].shape == ("N", 3, 12, 12) and [v.shape for v in graph.outputs] == [("N", 5), ("N", 9, 32)]
    ops = [n.op for n in graph.nodes]
    assert {"batch_norm", "dropout", "hard_swish", "silu", "gelu", "layer_norm", "mish", "attention"} <= set(ops)
    conv = graph.nodes[0]
    assert conv.op == "conv" and len(conv.inputs) == 2 and conv.inputs[1].name == "conv1.weight" and conv.scope == "conv1"
    names = {v.name for v in graph.constants()}
    assert set(dict(net.named_parameters())) <= names
    x = torch.randn(4, 3, 12, 12)
    net.eval()
    close(ours(graph, {"x": x.numpy()}), [t.detach().numpy() for t in net(x)])


def test_one_example_for_two_inputs():
    """The exporter would make one input of a tensor that is given twice."""
    class Both(nn.Module):
        def forward(self, a, b):
            return a - 2 * b
    x = torch.ones(2, 3)
    graph = from_torch(Both(), (x, x), {"a": {0: "N"}, "b": {0: "N"}}, ["a", "b"])
    a, b = torch.randn(4, 3), torch.randn(4, 3)
    torch.testing.assert_close(run(graph, {"a": a, "b": b})["y"], a - 2 * b)


def test_from_torch_errors():
    class Odd(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(UserError, match="torch could not export the model: "):
        from_torch(Odd(), torch.ones(3))
    with pytest.raises(UserError, match="no input is named 'z'; the inputs are x"):
        from_torch(nn.ReLU(), torch.ones(3), {"z": {0: "N"}})


def test_pt2(tmp_path):
    net, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval(), torch.randn(2, 4)
    torch.export.save(torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("N")},)), tmp_path / "m.pt2")
    graph = load(tmp_path / "m.pt2")
    assert [n.op for n in graph.nodes] == ["linear", "relu"] and graph.inputs[0].shape[1] == 4
    x = torch.randn(5, 4)
    close(ours(graph, {graph.inputs[0].name: x.numpy()}), [net(x).detach().numpy()])


class Heads(nn.Module):
    def __init__(self, scale_after=True, masked=False):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(32, 32) for _ in range(4))
        self.scale_after, self.masked = scale_after, masked

    def forward(self, x, mask):
        q, k, v = (f(x).view(x.shape[0], -1, 4, 8).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.scale_after:
            scores = q @ k.transpose(-1, -2) / 8**0.5
        else:
            scores = (q * 8**-0.5) @ k.transpose(-1, -2)
        if self.masked:
            scores = scores + mask[:, None, None, :]
        y = (torch.softmax(scores, -1) @ v).transpose(1, 2)
        return self.o(y.reshape(x.shape[0], -1, 32))


@pytest.mark.parametrize(
    "after, masked, dynamo",
    [
        (True, True, True),
        (False, False, True),
        (True, True, False),
        (True, False, False),
        (False, True, False),
        (False, False, False),
    ],
)
def test_attention_is_recognised(tmp_path, after, masked, dynamo):
    net, x, mask = Heads(after, masked).eval(), torch.randn(2, 6, 32), torch.randn(2, 6)
    axes = {"x": {0: "N", 1: "seq"}, "m": {0: "N", 1: "seq"}} if masked else {"x": {0: "N", 1: "seq"}}
    if dynamo:
        graph = from_torch(net, (x, mask), axes, ["x", "m"])
    else:
        torch.onnx.export(
            net,
            (x, mask),
            tmp_path / "m.onnx",
            dynamo=False,
            opset_version=17,
            input_names=["x", "m"],
            output_names=["y"],
            dynamic_axes=axes,
        )
        graph = load(tmp_path / "m.onnx", simplify=False)
    ops = [n.op for n in graph.nodes]
    assert ops.count("attention") == 1 and "matmul" not in ops and "transpose" not in ops and ops.count("linear") == 4
    x, mask = torch.randn(2, 9, 32), torch.randn(2, 9 if masked else 6)
    feeds = {v.name: {"x": x, "m": mask}[v.name].numpy() for v in graph.inputs}
    close(ours(graph, feeds), [net(x, mask).detach().numpy()])


@pytest.mark.parametrize("hide", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_attention_with_a_chosen_mask(hide, known):
    """masked_fill(-inf) before the softmax, by a constant (causal) or computed mask."""
    s = Sketch()
    q, k, v = (s.input(n, 2, 4, 6, 8) for n in "qkv")
    see = np.tril(np.ones((6, 6), bool))
    mask = constant("m", ~see if hide else see) if known else s.input("m", 6, 6, dtype="bool")
    scores = s("mul", s("matmul", q, s("transpose", k, perm=[0, 1, 3, 2])), 0.3)
    masked = s("where", mask, float("-inf"), scores) if hide else s("where", mask, scores, float("-inf"))
    graph = s.graph(s("matmul", s("softmax", masked, axis=3), v))
    feeds = {n: W((2, 4, 6, 8)).astype(F32) for n in "qkv"}
    if not known:
        feeds["m"] = ~see if hide else see
    want = ours(graph, feeds)
    assert find("attention").apply(graph) == 1
    close(ours(graph, feeds), want)


@pytest.mark.parametrize("name", FUSIONS)
def test_fusions_survive_the_file(name, tmp_path):
    """A fusion's example, written as ONNX and read, is fused and gives the same numbers."""
    graph = find(name).example()
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.standard_normal(v.shape).astype(v.dtype) for v in graph.inputs}
    export(graph, tmp_path / "m.onnx")
    back = load(tmp_path / "m.onnx", simplify=False)
    assert len(back.nodes) < len(graph.nodes)
    close(ours(back, feeds), ours(graph, feeds))


def test_qdq(tmp_path):
    """Quantized weights stay integers; qdq=False leaves the float model."""
    s = Sketch()
    x = s.input("x", 2, 8)
    xq = s("dequantize_linear", s("quantize_linear", x, 0.05, np.array(3, np.int8)), 0.05, np.array(3, np.int8))
    w = s(
        "dequantize_linear",
        np.arange(-20, 20, dtype=np.int8).reshape(5, 8),
        np.linspace(0.01, 0.02, 5, dtype=F32),
        np.zeros(5, np.int8),
        axis=0,
    )
    graph = s.graph(s("matmul", xq, s("transpose", w, perm=[1, 0])))
    feeds = {"x": W((2, 8)).astype(F32)}
    export(graph, tmp_path / "q.onnx")
    back = load(tmp_path / "q.onnx")
    assert [n.op for n in back.nodes].count("dequantize_linear") == 2 and any(
        v.dtype == "int8" and v.data.size == 40 for v in back.constants()
    )
    close(ours(back, feeds), ours(graph, feeds))
    close(ort(str(tmp_path / "q.onnx"), feeds), ours(graph, feeds))
    export(graph, tmp_path / "f.onnx", qdq=False)
    plain = load(tmp_path / "f.onnx")
    assert [n.op for n in plain.nodes] == ["linear"]
    close(ours(plain, feeds), ours(graph, feeds), atol=0.1)


def test_four_bit_weights():
    """Block-quantized int4 constants are held in int8; other small floats are refused by name."""
    w = np.random.default_rng(0).integers(-8, 8, (4, 6))
    model = model_of(
        21,
        [N("DequantizeLinear", ["w", "s"], ["d"], axis=0, block_size=2), N("MatMul", ["x", "d"], ["y"])],
        {"x": ("f", [3, 4])},
        {"s": abs(W((2, 6))).astype(F32)},
    )
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.INT4, (4, 6), w.reshape(-1)))
    x = W((3, 4)).astype(F32)
    graph = load(model, simplify=False)
    assert graph.nodes[0].op == "dequantize_linear" and graph.nodes[0].inputs[0].dtype == "int8"
    close(ours(graph, {"x": x}), ort(model, {"x": x}))
    model.graph.initializer[-1].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT8E5M2, (4, 6), w.reshape(-1).astype(float)))
    with pytest.raises(UserError, match="tensors of type float8e5m2 are not supported"):
        load(model, simplify=False)


def test_if_that_only_data_decide():
    """Both branches and a where."""
    then = helper.make_graph([N("Mul", ["x", "two"], ["t"])], "then", [], [helper.make_tensor_value_info("t", 1, [2, 3])])
    other = helper.make_graph([N("Relu", ["x"], ["e"])], "else", [], [helper.make_tensor_value_info("e", 1, [2, 3])])
    nodes = [
        N("ReduceSum", ["x"], ["s"], keepdims=1),
        N("Less", ["s", "zero"], ["c"]),
        N("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    model = model_of(13, nodes, {"x": ("f", [2, 3])}, {"two": F32(2), "zero": F32(0)})
    model.graph.output[0].type.tensor_type.elem_type = 1
    graph = load(model, simplify=False)
    for x in (abs(W((2, 3))).astype(F32), -abs(W((2, 3))).astype(F32)):
        close(ours(graph, {"x": x}), ort(model, {"x": x}))


def test_sequences_leave_no_trace():
    """torch.chunk and friends: split to a sequence, take parts, join."""
    nodes = [
        N("SplitToSequence", ["x", "size"], ["q"], axis=1),
        N("SequenceAt", ["q", "i0"], ["a"]),
        N("SequenceAt", ["q", "i2"], ["b"]),
        N("SequenceConstruct", ["b", "a"], ["r"]),
        N("ConcatFromSequence", ["r"], ["y"], axis=1),
        N("SequenceLength", ["q"], ["n"]),
        N("Cast", ["n"], ["z"], to=1),
    ]
    model = model_of(13, nodes, {"x": ("f", ["N", 5])}, {"size": np.array(2), "i0": np.array(0), "i2": np.array(-1)}, ["y", "z"])
    graph = load(model, simplify=False)
    assert {n.op for n in graph.nodes} <= {"split", "concat", "identity"}
    x = W((2, 5)).astype(F32)
    close(ours(graph, {"x": x}), ort(model, {"x": x}))


def test_simplify_is_only_asked_when_it_may_help(monkeypatch):
    from mcc.passes.onnx_io import files

    monkeypatch.setattr(files, "simplified", lambda *a: pytest.fail("not needed"))
    load(model_of(13, [N("Relu", ["x"], ["y"])], {"x": ("f", ["N", 3])}))


def test_without_onnxsim(monkeypatch):
    """It may be missing or fail; the graph is ours then."""
    import sys

    monkeypatch.setitem(sys.modules, "onnxsim", None)
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Cast", ["s"], ["f"], to=1),
        N("ReduceMean", ["f"], ["m"], keepdims=0),
        N("Mul", ["x", "m"], ["y"]),
    ]
    model = model_of(13, nodes, {"x": ("f", ["N", 3])})
    x = W((5, 3)).astype(F32)
    close(ours(load(model), {"x": x}), [x * 4])
