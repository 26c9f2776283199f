"""Every op there and back through ONNX, in the newest opset and in older ones."""
import numpy as np
import onnx
import pytest
import torch
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower.match import Sketch
from mcc.passes.onnx_io import export, load
from mcc.passes.onnx_io.names import camel, snake
from mcc.passes.onnx_io.write import to_onnx
from mcc.passes.ops import OPS, call, sample
from mcc.passes.ops.run import tensor

from onnx_tools import GRAPH_OPS, close, ort, ours

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")


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
