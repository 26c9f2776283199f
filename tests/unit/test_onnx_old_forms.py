"""Forms of older opsets, functions and control flow in the newest form."""
import numpy as np
import onnx
import pytest
import torch
from mcc.passes.errors import UserError
from mcc.passes.onnx_io import load
from mcc.passes.onnx_io.write import to_onnx
from mcc.passes.ops import OPS
from onnx import TensorProto, helper, numpy_helper

from onnx_tools import F32, N, W, close, model_of, ort, ours

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")



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
