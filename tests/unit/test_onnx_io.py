"""Import and export: every op there and back, old opsets in the newest form, named dimensions, real exporters' files."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower.fuse import FUSIONS, find
from mcc.passes.lower.match import Sketch
from mcc.passes.onnx_io import export, from_torch, load
from mcc.passes.onnx_io.dims import Unknown, dim, divide, parse, same
from mcc.passes.onnx_io.names import camel, snake
from mcc.passes.onnx_io.write import to_onnx
from mcc.passes.ops import OPS, call, sample
from mcc.passes.ops.run import array, run, tensor
from onnx import TensorProto, helper, numpy_helper
from torch import nn

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")

GRAPH_OPS = [name for name, row in OPS.items() if not row.fn.__module__.endswith(".lowered")]


def ort(model, feeds: dict) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model if isinstance(model, str) else model.SerializeToString(), options)
    return session.run(None, feeds)


def ours(graph: Graph, feeds: dict) -> list[np.ndarray]:
    return [array(t) for t in run(graph, feeds).values()]


def close(got, want, rtol=1e-4, atol=1e-5):
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=rtol, atol=atol)


# --- every op ----------------------------------------------------------------------------------------------------


def example(name: str) -> tuple[Graph, dict]:
    """A graph of one node on the op's example; floats that are not static are graph inputs."""
    arrays, attrs = sample(name)
    if name == "linear":
        arrays, attrs = arrays[:3], {}
    arrays = [a.astype(np.float32) if a is not None and a.dtype == np.float64 else a for a in arrays]
    if name in ("clip", "dropout"):
        arrays = [arrays[0], *(a.reshape(()) for a in arrays[1:])]
    tensors = [None if a is None else tensor(a) for a in arrays]
    count = len(r) if isinstance(r := OPS[name].fn(*tensors, **attrs), tuple) else 1
    results = call(name, tensors, attrs, count)
    ins, feeds, inputs = [], {}, []
    for i, a in enumerate(arrays):
        if a is None:
            ins.append(None)
        elif i == 0 or (i not in OPS[name].static and a.dtype == np.float32 and name not in ("linear", "quantize_linear")):
            ins.append(Value(f"x{i}", a.dtype.name, a.shape))
            inputs.append(ins[-1])
            feeds[f"x{i}"] = a
        else:
            ins.append(constant(f"c{i}", a))
    outs = [Value(f"y{i}", str(t.dtype).removeprefix("torch."), tuple(t.shape)) for i, t in enumerate(results)]
    return Graph(inputs, outs, [Node(name, ins, outs, dict(attrs), name)]), feeds


@pytest.mark.parametrize("name", GRAPH_OPS)
def test_there_and_back(name, tmp_path):
    """ONNX's checker takes what is written, and reading it gives the same numbers."""
    graph, feeds = example(name)
    want = ours(graph, feeds)
    path = tmp_path / "m.onnx"
    try:
        export(graph, path)
    except UserError as e:
        assert "opset 23 of ONNX has no op" in str(e)
        pytest.skip(str(e))
    back = load(path, simplify=False)
    assert [v.name for v in back.inputs] == list(feeds) and [v.name for v in back.outputs] == [v.name for v in graph.outputs]
    close(ours(back, feeds), want)


@pytest.mark.parametrize("name", GRAPH_OPS)
def test_onnxruntime_agrees(name):
    graph, feeds = example(name)
    try:
        model = to_onnx(graph)
        got = ort(model, feeds)
    except UserError:
        pytest.skip("not in opset 23")
    except Exception as e:  # onnxruntime's own kinds
        missing = ("NOT_IMPLEMENTED", "Could not find an implementation", "size_ % 2 == 1")  # lrn of an even size
        assert any(m in str(e) for m in missing), e
        pytest.skip("onnxruntime has no kernel")
    close(ours(graph, feeds), got)


@pytest.mark.parametrize("opset", [13, 16, 17, 18, 20, 21])
@pytest.mark.parametrize(
    "name",
    [
        "gelu",
        "silu",
        "mish",
        "hard_swish",
        "layer_norm",
        "rms_norm",
        "group_norm",
        "attention",
        "reduce_mean",
        "reduce_sum",
        "split",
        "softmax",
        "linear",
        "clip",
        "quantize_linear",
    ],
)
def test_older_opsets(name, opset):
    graph, feeds = example(name)
    if name == "attention":
        s = Sketch()
        graph = s.graph(
            s(
                "attention",
                s.input("x0", 2, 5, 32),
                s.input("x1", 2, 6, 32),
                s.input("x2", 2, 6, 32),
                q_num_heads=4,
                kv_num_heads=4,
            )
        )
        graph.outputs[0].name = "y0"
        feeds = {v.name: np.random.default_rng(0).standard_normal(v.shape).astype(np.float32) for v in graph.inputs}
    model = to_onnx(graph, opset)
    onnx.checker.check_model(model)
    assert model.opset_import[0].version == opset
    want = ours(graph, feeds)
    close(ort(model, feeds), want)
    close(ours(load(model, simplify=False), feeds), want)


def test_names_are_inverse():
    for s in onnx.defs.get_all_schemas():
        if s.domain == "" and s.name != "Swish":
            assert camel(snake(s.name)) == s.name or snake(s.name) not in OPS, s.name


# --- old forms ---------------------------------------------------------------------------------------------------


def model_of(opset: int, nodes: list, inputs: dict, constants: dict | None = None, outputs=("y",), ir: int = 8):
    """A ModelProto from helper.make_node results; inputs name -> (type, shape)."""
    kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "b": TensorProto.BOOL, "u": TensorProto.UINT8}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(k, kinds[t], shape) for k, (t, shape) in inputs.items()],
        [onnx.ValueInfoProto(name=o) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    inferred = onnx.shape_inference.infer_shapes(model)
    for o, i in zip(model.graph.output, inferred.graph.output):
        o.CopyFrom(i)
        if not o.type.HasField("tensor_type"):
            o.type.tensor_type.elem_type = TensorProto.FLOAT
    return model


N = helper.make_node
F32 = np.float32
W = np.random.default_rng(1).standard_normal

OLD = {
    "reduce_sum axes 11": (11, [N("ReduceSum", ["x"], ["y"], axes=[1, -1], keepdims=0)], {"x": ("f", [2, 3, 4])}, {}),
    "reduce_mean axes 17": (17, [N("ReduceMean", ["x"], ["y"], axes=[2])], {"x": ("f", [2, 3, 4])}, {}),
    "reduce_l2 13": (13, [N("ReduceL2", ["x"], ["y"], axes=[1])], {"x": ("f", [2, 3, 4])}, {}),
    "reduce_max all 12": (12, [N("ReduceMax", ["x"], ["y"], keepdims=0)], {"x": ("f", [2, 3])}, {}),
    "squeeze 11": (11, [N("Squeeze", ["x"], ["y"], axes=[0, 2])], {"x": ("f", [1, 3, 1])}, {}),
    "squeeze all 13": (13, [N("Squeeze", ["x"], ["y"])], {"x": ("f", [1, 3, 1])}, {}),
    "unsqueeze 11": (11, [N("Unsqueeze", ["x"], ["y"], axes=[0, -1])], {"x": ("f", [3, 2])}, {}),
    "split 11": (11, [N("Split", ["x"], ["y", "z"], axis=1, split=[1, 3])], {"x": ("f", [2, 4])}, {}),
    "split equal 13": (13, [N("Split", ["x"], ["y", "z"], axis=-1)], {"x": ("f", [2, 4])}, {}),
    "split num_outputs 18": (18, [N("Split", ["x"], ["y", "z"], axis=0, num_outputs=2)], {"x": ("f", [5, 4])}, {}),
    "clip 7": (7, [N("Clip", ["x"], ["y"], min=-0.5, max=0.25)], {"x": ("f", [3, 4])}, {}),
    "clip min only 11": (11, [N("Clip", ["x", "lo"], ["y"])], {"x": ("f", [3, 4])}, {"lo": F32(0.1)}),
    "clip max only 13": (13, [N("Clip", ["x", "", "hi"], ["y"])], {"x": ("f", [3, 4])}, {"hi": F32(0.1)}),
    "pad attributes 10": (10, [N("Pad", ["x"], ["y"], pads=[0, 1, 2, 0], value=1.5)], {"x": ("f", [3, 4])}, {}),
    "pad reflect 11": (11, [N("Pad", ["x", "p"], ["y"], mode="reflect")], {"x": ("f", [3, 4])}, {"p": np.array([1, 0, 0, 2])}),
    "pad axes 18": (
        18,
        [N("Pad", ["x", "p", "v", "a"], ["y"])],
        {"x": ("f", [3, 4])},
        {"p": np.array([1, 2]), "v": F32(3), "a": np.array([-1])},
    ),
    "slice 9": (9, [N("Slice", ["x"], ["y"], starts=[1, -3], ends=[100, -1], axes=[0, 1])], {"x": ("f", [3, 4])}, {}),
    "slice 11": (
        11,
        [N("Slice", ["x", "s", "e", "a", "t"], ["y"])],
        {"x": ("f", [5, 4])},
        {"s": np.array([4]), "e": np.array([-100]), "a": np.array([0]), "t": np.array([-2])},
    ),
    "topk 9": (9, [N("TopK", ["x"], ["y", "z"], k=2, axis=1)], {"x": ("f", [3, 4])}, {}),
    "dropout 11": (11, [N("Dropout", ["x"], ["y"], ratio=0.3)], {"x": ("f", [3, 4])}, {}),
    "dropout 7": (7, [N("Dropout", ["x"], ["d"], ratio=0.3), N("Relu", ["d"], ["y"])], {"x": ("f", [3, 4])}, {}),
    "batch norm 9": (
        9,
        [N("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], epsilon=1e-3, momentum=0.8)],
        {"x": ("f", [2, 3, 4])},
        {k: abs(W(3)).astype(F32) for k in "sbmv"},
    ),
    "batch norm 14": (
        14,
        [N("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"])],
        {"x": ("f", [2, 3, 4, 5])},
        {k: abs(W(3)).astype(F32) for k in "sbmv"},
    ),
    "softmax 11 default": (11, [N("Softmax", ["x"], ["y"])], {"x": ("f", [2, 3, 4])}, {}),
    "softmax 11 axis 2": (11, [N("Softmax", ["x"], ["y"], axis=2)], {"x": ("f", [2, 3, 4, 5])}, {}),
    "softmax 11 last": (11, [N("Softmax", ["x"], ["y"], axis=2)], {"x": ("f", [2, 3, 4])}, {}),
    "softmax 11 ones": (11, [N("Softmax", ["x"], ["y"], axis=1)], {"x": ("f", [2, 3, 1, 1])}, {}),
    "log softmax 12": (12, [N("LogSoftmax", ["x"], ["y"], axis=1)], {"x": ("f", [2, 3, 4])}, {}),
    "softmax 13": (13, [N("Softmax", ["x"], ["y"], axis=1)], {"x": ("f", [2, 3, 4])}, {}),
    "upsample 9": (9, [N("Upsample", ["x", "s"], ["y"], mode="nearest")], {"x": ("f", [1, 2, 3, 4])}, {"s": F32([1, 1, 2, 3])}),
    "upsample 7": (7, [N("Upsample", ["x"], ["y"], mode="nearest", scales=[1.0, 1.0, 2.0, 2.0])], {"x": ("f", [1, 2, 3, 4])}, {}),
    "upsample linear 9": (
        9,
        [N("Upsample", ["x", "s"], ["y"], mode="linear")],
        {"x": ("f", [1, 2, 3, 4])},
        {"s": F32([1, 1, 2, 2])},
    ),
    "resize 10": (10, [N("Resize", ["x", "s"], ["y"], mode="linear")], {"x": ("f", [1, 2, 3, 4])}, {"s": F32([1, 1, 2, 2.5])}),
    "resize 11 sizes": (
        11,
        [N("Resize", ["x", "r", "e", "z"], ["y"], mode="linear", coordinate_transformation_mode="align_corners")],
        {"x": ("f", [1, 2, 3, 4])},
        {"r": F32([]), "e": F32([]), "z": np.array([1, 2, 7, 9])},
    ),
    "resize 13 nearest": (
        13,
        [N("Resize", ["x", "", "s"], ["y"], mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")],
        {"x": ("f", [1, 2, 3, 4])},
        {"s": F32([1, 1, 2, 2])},
    ),
    "resize 18 axes": (
        18,
        [N("Resize", ["x", "", "s"], ["y"], mode="linear", axes=[2, 3])],
        {"x": ("f", [1, 2, 3, 4])},
        {"s": F32([2, 2])},
    ),
    "group norm 18": (
        18,
        [N("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)],
        {"x": ("f", [2, 6, 4])},
        {"s": F32([0.5, 2]), "b": F32([1, -1])},
    ),
    "group norm 21": (
        21,
        [N("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)],
        {"x": ("f", [2, 6, 4])},
        {"s": W(6).astype(F32), "b": W(6).astype(F32)},
    ),
    "gemm": (
        11,
        [N("Gemm", ["x", "w", "c"], ["y"], alpha=0.5, beta=2.0, transA=1)],
        {"x": ("f", [4, 3])},
        {"w": W((4, 5)).astype(F32), "c": W((1, 5)).astype(F32)},
    ),
    "gemm column": (
        13,
        [N("Gemm", ["x", "w", "c"], ["y"], transB=1)],
        {"x": ("f", [3, 4])},
        {"w": W((5, 4)).astype(F32), "c": W((3, 1)).astype(F32)},
    ),
    "gemm two inputs": (
        13,
        [N("Gemm", ["x", "z", "c"], ["y"], alpha=2.0, beta=0.5)],
        {"x": ("f", [3, 4]), "z": ("f", [4, 5])},
        {"c": F32(1.5)},
    ),
    "gemm scalar": (11, [N("Gemm", ["x", "w", "c"], ["y"])], {"x": ("f", [3, 4])}, {"w": W((4, 5)).astype(F32), "c": F32(1.5)}),
    "conv same upper": (
        11,
        [N("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])],
        {"x": ("f", [1, 3, 7, 8])},
        {"w": W((4, 3, 3, 2)).astype(F32)},
    ),
    "conv same lower": (
        11,
        [N("Conv", ["x", "w"], ["y"], auto_pad="SAME_LOWER", strides=[1, 3])],
        {"x": ("f", [1, 3, 7, 8])},
        {"w": W((4, 3, 3, 2)).astype(F32)},
    ),
    "conv valid 1d": (
        13,
        [N("Conv", ["x", "w", "b"], ["y"], auto_pad="VALID", group=3)],
        {"x": ("f", [2, 3, 9])},
        {"w": W((6, 1, 3)).astype(F32), "b": W(6).astype(F32)},
    ),
    "pool same": (
        11,
        [N("MaxPool", ["x"], ["y"], auto_pad="SAME_UPPER", kernel_shape=[3, 3], strides=[2, 2])],
        {"x": ("f", [1, 2, 6, 7])},
        {},
    ),
    "average pool 11": (
        11,
        [N("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)],
        {"x": ("f", [1, 2, 6, 7])},
        {},
    ),
    "conv transpose same": (
        11,
        [N("ConvTranspose", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])],
        {"x": ("f", [1, 2, 4, 5])},
        {"w": W((2, 3, 3, 3)).astype(F32)},
    ),
    "conv transpose shape": (
        11,
        [N("ConvTranspose", ["x", "w"], ["y"], output_shape=[9, 11], strides=[2, 2])],
        {"x": ("f", [1, 2, 4, 5])},
        {"w": W((2, 3, 3, 3)).astype(F32)},
    ),
    "sum": (8, [N("Sum", ["x", "z", "x"], ["y"])], {"x": ("f", [2, 3]), "z": ("f", [3])}, {}),
    "cast": (
        11,
        [N("Cast", ["x"], ["i"], to=TensorProto.INT32), N("Cast", ["i"], ["y"], to=TensorProto.FLOAT)],
        {"x": ("f", [5])},
        {},
    ),
    "cast like": (15, [N("CastLike", ["x", "z"], ["y"])], {"x": ("i", [5]), "z": ("f", [1])}, {}),
    "constant of shape": (
        11,
        [
            N("Shape", ["x"], ["s"]),
            N("ConstantOfShape", ["s"], ["o"], value=numpy_helper.from_array(F32([2]))),
            N("Mul", ["x", "o"], ["y"]),
        ],
        {"x": ("f", [2, 3])},
        {},
    ),
    "transpose default": (11, [N("Transpose", ["x"], ["y"])], {"x": ("f", [2, 3, 4])}, {}),
    "flatten": (11, [N("Flatten", ["x"], ["y"], axis=-1)], {"x": ("f", [2, 3, 4])}, {}),
    "hard swish 14": (14, [N("HardSwish", ["x"], ["y"])], {"x": ("f", [7])}, {}),
    "celu function": (12, [N("Celu", ["x"], ["y"], alpha=0.5)], {"x": ("f", [7])}, {}),
    "mvn function": (13, [N("MeanVarianceNormalization", ["x"], ["y"])], {"x": ("f", [2, 3, 4, 4])}, {}),
    "scatter 9": (
        9,
        [N("Scatter", ["x", "i", "u"], ["y"], axis=1)],
        {"x": ("f", [2, 3])},
        {"i": np.array([[1], [0]]), "u": F32([[5], [6]])},
    ),
    "reduce mean empty axes": (
        18,
        [N("ReduceMean", ["x", "a"], ["y"], keepdims=0)],
        {"x": ("f", [2, 3])},
        {"a": np.zeros(0, np.int64)},
    ),
    "reduce noop": (
        18,
        [N("ReduceSum", ["x", "a"], ["y"], noop_with_empty_axes=1)],
        {"x": ("f", [2, 3])},
        {"a": np.zeros(0, np.int64)},
    ),
    "lstm zeros": (
        14,
        [N("LSTM", ["x", "w", "r", "b", "", "h", "h"], ["y", "z"], hidden_size=4, direction="bidirectional")],
        {"x": ("f", [5, 1, 3])},
        {
            "w": W((2, 16, 3)).astype(F32),
            "r": W((2, 16, 4)).astype(F32),
            "b": W((2, 32)).astype(F32),
            "h": np.zeros((2, 1, 4), F32),
        },
    ),
    "gru": (
        14,
        [N("GRU", ["x", "w", "r", "b"], ["y"], hidden_size=4, linear_before_reset=1)],
        {"x": ("f", [5, 2, 3])},
        {"w": W((1, 12, 3)).astype(F32), "r": W((1, 12, 4)).astype(F32), "b": W((1, 24)).astype(F32)},
    ),
}


@pytest.mark.parametrize("name", OLD)
def test_old_form(name):
    opset, nodes, inputs, constants = OLD[name]
    outputs = [o for o in nodes[-1].output if o]
    model = model_of(opset, nodes, inputs, constants, outputs)
    rng = np.random.default_rng(0)
    feeds = {k: rng.standard_normal(s).astype(F32) if t == "f" else rng.integers(0, 9, s) for k, (t, s) in inputs.items()}
    graph = load(model, simplify=False)
    assert not any(n.op in ("flatten_", "constant") or n.op not in OPS for n in graph.nodes)
    close(ours(graph, feeds), ort(model, feeds))


def test_old_forms_take_a_free_batch():
    """The rewrites hold for a named first dimension too."""
    for name in ("softmax 11 default", "batch norm 14", "conv same upper", "group norm 18", "resize 10", "squeeze 11"):
        opset, nodes, inputs, constants = OLD[name]
        if name == "squeeze 11":
            nodes = [N("Squeeze", ["x"], ["y"], axes=[2])]
        shape = list(inputs["x"][1])
        model = model_of(opset, nodes, {"x": ("f", ["N", *shape[1:]])}, constants, [nodes[-1].output[0]])
        x = np.random.default_rng(0).standard_normal([3, *shape[1:]]).astype(F32)
        graph = load(model, simplify=False)
        assert graph.outputs[0].shape[0] == "N"
        close(ours(graph, {"x": x}), ort(model, {"x": x}))


def test_constants_of_all_kinds():
    nodes = [
        N("Constant", [], ["a"], value_float=2.0),
        N("Constant", [], ["b"], value_floats=[1.0, 2.0, 3.0]),
        N("Constant", [], ["c"], value_int=1),
        N("Constant", [], ["d"], value_ints=[0, 2]),
        N("Constant", [], ["e"], value=numpy_helper.from_array(F32([[1], [2]]))),
        N("Mul", ["x", "a"], ["p"]),
        N("Add", ["p", "b"], ["q"]),
        N("Mul", ["q", "e"], ["r"]),
        N("Gather", ["r", "d"], ["s"], axis=1),
        N("Cast", ["c"], ["t"], to=1),
        N("Sub", ["s", "t"], ["y"]),
    ]
    model = model_of(13, nodes, {"x": ("f", [2, 3])})
    x = W((2, 3)).astype(F32)
    close(ours(load(model, simplify=False), {"x": x}), ort(model, {"x": x}))
    text = model_of(13, [N("Constant", [], ["s"], value_string="text"), N("Relu", ["x"], ["y"])], {"x": ("f", [2])})
    with pytest.raises(UserError, match="'s' is a string; only numbers"):
        load(text, simplify=False)


def test_names_of_inputs_and_outputs_stay():
    """An output that is an input, a constant, an inner value, or one value twice."""
    nodes = [
        N("Relu", ["x"], ["a"]),
        N("Identity", ["a"], ["b"]),
        N("Identity", ["x"], ["c"]),
        N("Sigmoid", ["a"], ["y"]),
        N("Identity", ["k"], ["d"]),
        N("Identity", ["b"], ["e"]),
    ]
    outs = ["y", "a", "b", "c", "d", "e"]
    model = model_of(13, nodes, {"x": ("f", [2, 3])}, {"k": F32([1, 2])}, outs)
    graph = load(model, simplify=False)
    assert [v.name for v in graph.outputs] == outs and len({v.name for v in graph.values()}) == len(list(graph.values()))
    x = W((2, 3)).astype(F32)
    close(ours(graph, {"x": x}), ort(model, {"x": x}))
    again = to_onnx(graph)
    onnx.checker.check_model(again)
    close(ort(again, {"x": x}), ort(model, {"x": x}))


def test_initializer_that_is_also_an_input():
    model = model_of(11, [N("Add", ["x", "k"], ["y"])], {"x": ("f", [2]), "k": ("f", [2])}, {"k": F32([1, 2])}, ir=3)
    graph = load(model, simplify=False)
    assert [v.name for v in graph.inputs] == ["x"]
    close(ours(graph, {"x": F32([5, 5])}), [F32([6, 7])])


def test_functions_are_inlined():
    """A model's own function with an attribute reference, called twice."""
    a = onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    inner = N("LeakyRelu", ["v"], ["w"])
    inner.attribute.append(a)
    f = helper.make_function(
        "my", "Twice", ["v"], ["z"], [inner, N("Add", ["w", "w"], ["z"])], [helper.make_opsetid("", 17)], ["slope"]
    )
    graph = helper.make_graph(
        [N("Twice", ["x"], ["t"], domain="my", slope=0.1), N("Twice", ["t"], ["y"], domain="my", slope=0.5)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    model = helper.make_model(
        graph, functions=[f], ir_version=8, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    )
    x = F32([-1, -2, 1, 2])
    got = load(model, simplify=False)
    assert [n.op for n in got.nodes] == ["leaky_relu", "add"] * 2
    close(ours(got, {"x": x}), ort(model, {"x": x}))


def test_if_with_a_known_condition():
    """TorchScript's squeeze: which branch depends on a size that is known."""
    then = helper.make_graph([N("Squeeze", ["x", "one"], ["t"])], "then", [], [helper.make_tensor_value_info("t", 1, None)])
    other = helper.make_graph([N("Identity", ["x"], ["e"])], "else", [], [helper.make_tensor_value_info("e", 1, None)])
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Gather", ["s", "one0"], ["d"]),
        N("Equal", ["d", "one0"], ["c"]),
        N("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    model = model_of(13, nodes, {"x": ("f", [2, "k", 3])}, {"one": np.array([1]), "one0": np.array(1)})
    model.graph.output[0].type.tensor_type.elem_type = 1
    with pytest.raises(UserError, match="If is not supported .*bind the dimension"):
        load(model, simplify=False)
    for k, shape in ((1, (2, 3)), (4, (2, 4, 3))):
        x = W((2, k, 3)).astype(F32)
        assert ours(load(model, bind={"k": k}, simplify=False), {"x": x})[0].shape == shape


# --- shapes -------------------------------------------------------------------------------------------------------


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


# --- errors -------------------------------------------------------------------------------------------------------


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


# --- files and exporters --------------------------------------------------------------------------------------------


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
