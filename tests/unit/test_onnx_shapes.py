"""Named dimensions, and errors that name every node."""
import numpy as np
import pytest
import torch
from mcc.passes.errors import UserError
from mcc.passes.lower.match import Sketch
from mcc.passes.onnx_io import load
from mcc.passes.onnx_io.dims import Unknown, dim, divide, parse, same
from mcc.passes.onnx_io.write import to_onnx
from onnx import helper
from torch import nn

from onnx_tools import F32, N, W, close, model_of, ort, ours

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")


# --- shapes -----------------------------------------------------------------------------------------------------------

def test_dims():
    n, s = parse("N"), parse("seq")
    assert dim(n * 12 * s) == "12*N*seq" and parse("12*N*seq") == n * s * 12
    assert dim(n * 2 + 1 - n) == "N+1" and dim(n - n) == 0 and parse("N-1") + 1 == n
    assert divide(n * 64, 64) == n and divide(n * s, n) == s and parse("floor(H/2)") == parse("floor(H/2)")
    with pytest.raises(Unknown):
        divide(n, 2)
    assert same(n, n) and not same(n, -1) and not same(n + 1, 0)
    with pytest.raises(Unknown):
        same(n, 1)


def test_shape_arithmetic_folds_without_bind():
    """What exporters write for x.view(x.size(0), -1) and for splitting heads becomes one reshape each."""
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Gather", ["s", "0"], ["n"]),
        N("Gather", ["s", "1"], ["t"]),
        N("Unsqueeze", ["n", "ax"], ["nu"]),
        N("Unsqueeze", ["t", "ax"], ["tu"]),
        N("Concat", ["nu", "tu", "heads"], ["target"], axis=0),
        N("Reshape", ["x", "target"], ["r"]),
        N("Transpose", ["r"], ["p"], perm=[0, 2, 1, 3]),
        N("Transpose", ["p"], ["b"], perm=[0, 2, 1, 3]),
        N("Shape", ["p"], ["ps"]),
        N("Gather", ["ps", "1"], ["h"]),
        N("Gather", ["ps", "3"], ["d"]),
        N("Mul", ["h", "d"], ["w"]),
        N("Unsqueeze", ["w", "ax"], ["wu"]),
        N("Concat", ["nu", "minus", "wu"], ["joined"], axis=0),
        N("Reshape", ["b", "joined"], ["q"]),
        N("Equal", ["target", "minuses"], ["eq"]),
        N("Where", ["eq", "ones", "target"], ["wh"]),
        N("Expand", ["r", "wh"], ["y"]),
    ]
    model = model_of(
        13,
        nodes,
        {"x": ("f", ["N", "seq", 32])},
        {
            "0": np.array(0),
            "1": np.array(1),
            "3": np.array(3),
            "ax": np.array([0]),
            "heads": np.array([4, 8]),
            "minus": np.array([-1]),
            "minuses": np.full(4, -1),
            "ones": np.ones(4, np.int64),
        },
        ["y", "q"],
    )
    graph = load(model, simplify=False)
    assert [n.op for n in graph.nodes] == ["reshape", "transpose", "transpose", "reshape"]
    assert graph.nodes[0].inputs[1].data.tolist() == [0, 0, 4, 8] and graph.nodes[3].inputs[1].data.tolist() == [0, 0, 32]
    assert [v.shape for v in graph.outputs] == [("N", "seq", 4, 8), ("N", "seq", 32)]
    x = W((2, 5, 32)).astype(F32)
    close(ours(graph, {"x": x}), ort(model, {"x": x}))


def test_bind():
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Slice", ["s", "a", "b"], ["h"]),
        N("Concat", ["h", "one"], ["t"], axis=0),
        N("ConstantOfShape", ["t"], ["z"]),
        N("Add", ["z", "x"], ["y"]),
    ]
    model = model_of(13, nodes, {"x": ("f", ["N", "seq", 1])}, {"a": np.array([0]), "b": np.array([2]), "one": np.array([4])})
    graph = load(model, bind={"seq": 3}, simplify=False)
    assert graph.inputs[0].shape == ("N", 3, 1) and graph.outputs[0].shape == ("N", 3, 4)
    graph = load(model, bind={"seq": 3, "N": 2}, simplify=False)
    assert [n.op for n in graph.nodes] == ["add"]
    with pytest.raises(UserError, match="bind width: the model has no such dimension; it has N, seq"):
        load(model, bind={"width": 3})


def test_unnamed_dimensions_get_names():
    model = model_of(13, [N("Relu", ["x"], ["y"])], {"x": ("f", [None, 3, None])})
    graph = load(model, simplify=False)
    assert graph.inputs[0].shape == ("x_0", 3, "x_2") == graph.outputs[0].shape
    assert load(model, bind={"x_2": 7}, simplify=False).outputs[0].shape == ("x_0", 3, 7)


class Fixed(nn.Module):
    """Written for batch 1, as old exports are: the batch stands as a number in its reshapes."""

    def __init__(self):
        super().__init__()
        self.conv, self.qkv, self.out = nn.Conv2d(3, 16, 3, 2), nn.Linear(16, 48), nn.Linear(16, 5)

    def forward(self, x):
        x = self.conv(x).reshape(1, 16, -1).permute(0, 2, 1)
        q, k, v = self.qkv(x).reshape(1, 9, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = torch.softmax(q.reshape(4, 9, 4) @ k.reshape(4, 9, 4).transpose(1, 2), -1) @ v.reshape(4, 9, 4)
        return self.out(y.reshape(1, 4, 9, 4).permute(0, 2, 1, 3).reshape(1, 9, 16)).mean(1)


def test_batch_of_a_fixed_export(tmp_path):
    net, x = Fixed().eval(), torch.randn(3, 3, 8, 8)
    torch.onnx.export(net, (x[:1],), tmp_path / "m.onnx", dynamo=False, opset_version=13, input_names=["x"], output_names=["y"])
    graph = load(tmp_path / "m.onnx", batch="N")
    assert graph.inputs[0].shape[0] == "N" and graph.outputs[0].shape == ("N", 5)
    want = torch.cat([net(x[i : i + 1]) for i in range(3)]).detach().numpy()
    close(ours(graph, {"x": x.numpy()}), [want])


def test_batch_refused():
    model = model_of(
        13, [N("Reshape", ["x", "s"], ["t"]), N("ReduceSum", ["t"], ["y"])], {"x": ("f", [1, 6])}, {"s": np.array([6])}
    )
    with pytest.raises(UserError, match="batch 'N'.*output 'y'"):
        load(model, batch="N")


# --- errors -----------------------------------------------------------------------------------------------------------

def test_all_unsupported_nodes_at_once():
    nodes = [
        N("NonZero", ["x"], ["a"], name="first"),
        N("NonZero", ["x"], ["b"], name="second"),
        N("Det", ["x"], ["c"], name="third"),
        N("Magic", ["c"], ["d"], name="fourth", domain="com.example"),
        N("Relu", ["d"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [3, 3])], [helper.make_tensor_value_info("y", 1, None)]
    )
    model = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    )
    with pytest.raises(UserError) as e:
        load(model, simplify=False)
    assert len(e.value.problems) == 3
    text = str(e.value)
    for part in (
        "NonZero is not supported (nodes 'first', 'second')",
        "'third'",
        "com.example.Magic is not supported (node 'fourth')",
    ):
        assert part in text


@pytest.mark.parametrize(
    "name, content, text",
    [
        ("missing.onnx", None, "no such file"),
        ("bad.onnx", b"not a model at all", "not an ONNX model"),
        ("empty.onnx", b"", "not an ONNX model"),
        ("bad.pt2", b"PK nothing", "not a torch.export file"),
        ("model.tflite", b"", "one of .onnx, .pt2, .mcc"),
    ],
)
def test_bad_files(tmp_path, name, content, text):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as e:
        load(tmp_path / name)
    assert text in str(e.value) and str(tmp_path / name) in str(e.value) and "\n" not in str(e.value)


def test_bad_models():
    loose = model_of(13, [N("Relu", ["x"], ["y"])], {"x": ("f", [2])})
    loose.graph.node[0].input[0] = "nobody"
    with pytest.raises(UserError, match="not a valid ONNX model: "):
        load(loose)
    future = model_of(13, [N("Relu", ["x"], ["y"])], {"x": ("f", [2])})
    future.opset_import[0].version = 999
    with pytest.raises(UserError, match="opset 999 is not supported"):
        load(future)
    wrong = model_of(13, [N("MatMul", ["x", "x"], ["y"])], {"x": ("f", [2, 2])})
    wrong.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    wrong.graph.node[0].name = "product"
    with pytest.raises(UserError, match="node 'product' .MatMul."):
        load(wrong, simplify=False)


def test_export_refuses():
    s = Sketch()
    graph = s.graph(s("linear", s.input("x", 2, 3), s.weight("w", 4, 3), None, None, act="relu"))
    with pytest.raises(UserError, match="a lowered graph cannot be written as ONNX .it has linear"):
        to_onnx(graph)
    with pytest.raises(UserError, match="opset 5 cannot be written"):
        to_onnx(graph, 5)
