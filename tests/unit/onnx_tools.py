"""What the tests of import and export share: onnxruntime and torch on one model, models of few nodes."""
import numpy as np
import onnx
import onnxruntime
from mcc.passes.graph import Graph
from mcc.passes.ops import OPS
from mcc.passes.ops.run import array, run
from onnx import TensorProto, helper, numpy_helper

F32 = np.float32
W = np.random.default_rng(1).standard_normal
N = helper.make_node
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
