"""Graph -> ONNX. One table of what differs from "the same op in CamelCase"; opsets 13 to 23.

Ops that an older opset lacks are first written with smaller ones (`EXPAND`, Graph to Graph); then each node becomes
one or two ONNX nodes (`WRITE`).
"""
from __future__ import annotations

import os

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..cache import write_atomic
from ..errors import UserError
from ..graph import Graph, Node, Value
from ..lower.match import Sketch
from .expand import EXPAND
from .names import camel
from .protos import elem_type, type_proto

OLDEST, NEWEST = 13, 23
INLINE_BYTES = 1 << 30  # weights beyond this go to a file beside the model (a protobuf ends at 2 GB)
TYPED = ("to", "output_dtype", "dtype")  # attributes that hold a type's name

# Attributes that an opset before the one given wants where newer ones have inputs: op -> (attribute, input, opset).
AS_ATTRIBUTE = {op: ("axes", 1, 18) for op in (
    "reduce_mean", "reduce_max", "reduce_min", "reduce_prod", "reduce_l1", "reduce_l2", "reduce_log_sum",
    "reduce_log_sum_exp", "reduce_sum_square")}


def export(graph: Graph, path, opset: int = 23, qdq: bool = True) -> None:
    """Write the graph as .onnx (weights over 1 GB beside it). Codebook and sparse weights are written dense.

    opset  13 to 23; what an opset lacks (Attention before 23, Gelu before 20...) is written with smaller ops
    qdq    keep QuantizeLinear/DequantizeLinear pairs; False drops them and leaves the float model
    Raises UserError for a lowered graph, an opset outside the range, and an op that ONNX does not have.
    """
    model = to_onnx(graph, opset, qdq)
    path = os.fspath(path)
    if sum(v.data.nbytes for v in graph.constants()) > INLINE_BYTES:
        onnx.save_model(model, path, save_as_external_data=True, location=os.path.basename(path) + ".data")
        onnx.checker.check_model(path)
    else:
        onnx.checker.check_model(model)
        write_atomic(path, model.SerializeToString())


def to_onnx(graph: Graph, opset: int = 23, qdq: bool = True) -> onnx.ModelProto:
    """The graph as a ModelProto; see `export`."""
    if not OLDEST <= opset <= NEWEST:
        raise UserError(f"opset {opset} cannot be written; it is one of {OLDEST} to {NEWEST}")
    lowered = sorted({n.op for n in graph.nodes if _lowered(n)})
    if lowered:
        raise UserError(f"a lowered graph cannot be written as ONNX (it has {', '.join(lowered)}); "
                        "export the graph before lowering")
    graph = graph.copy()
    if not qdq:
        _without_qdq(graph)
    _expanded(graph, opset)
    return _Writer(graph, opset).model()


def _lowered(node: Node) -> bool:
    from ..ops import OPS
    if node.op in OPS and OPS[node.op].fn.__module__.endswith(".lowered"):
        return True
    return node.op == "linear" and (len(node.inputs) > 3 or node.attrs.get("act", "none") != "none")


def _without_qdq(graph: Graph) -> None:
    """A pair on an activation passes its input on; a constant behind a DequantizeLinear becomes floats."""
    from ..ops import call
    from ..ops.run import array, tensor
    makers, dropped = graph.makers(), set()
    for node in graph.nodes:
        if node.op != "dequantize_linear":
            continue
        q = makers.get(node.inputs[0])
        if q is not None and q.op == "quantize_linear":
            if node.outputs[0] in graph.outputs:
                node.op, node.inputs, node.attrs = "identity", q.inputs[:1], {}
            else:
                graph.replace(node.outputs[0], q.inputs[0])
                dropped.add(node)
        elif all(v is None or v.data is not None for v in node.inputs):
            y, = call(node.op, [None if v is None else tensor(v.data, v.dtype) for v in node.inputs], node.attrs)
            node.outputs[0].data, node.outputs[0].shape = array(y), tuple(y.shape)
            dropped.add(node)
    graph.nodes = [n for n in graph.nodes if n not in dropped]
    graph.prune()


def _expanded(graph: Graph, opset: int) -> None:
    """Replace what the opset lacks; results of a rule may be replaced again."""
    todo = True
    while todo:
        todo = False
        nodes: list[Node] = []
        for n in graph.nodes:
            rule = EXPAND.get(n.op)
            if rule is None or opset >= rule[0] or (len(rule) > 2 and not rule[2](n)):
                nodes.append(n)
                continue
            s = _Splice(graph, n)
            result = rule[1](s, *n.inputs, **n.attrs)
            last = s.nodes[-1]
            assert result is last.outputs[0]
            last.outputs[0] = n.outputs[0]
            nodes.extend(s.nodes)
            todo = True
        graph.nodes = nodes


class _Splice(Sketch):
    """Writes the nodes that stand for one; shapes are not needed (ONNX infers them)."""

    def __init__(self, graph: Graph, node: Node):
        super().__init__()
        self.node, self.taken = node, {v.name for v in graph.values()}

    def __call__(self, op: str, *inputs, outputs: int = 1, **attrs):
        values = [v if v is None or isinstance(v, Value) else self._named(v) for v in inputs]
        outs = [Value(self._name(op), self.node.outputs[0].dtype, None) for _ in range(outputs)]
        self.nodes.append(Node(op, values, outs, attrs, f"{self.node.name or op}/{op}_{len(self.nodes)}", self.node.scope))
        return outs[0] if outputs == 1 else outs

    def _name(self, op: str) -> str:
        i = len(self.taken)
        while f"{self.node.outputs[0].name}_{op}_{i}" in self.taken:
            i += 1
        self.taken.add(f"{self.node.outputs[0].name}_{op}_{i}")
        return f"{self.node.outputs[0].name}_{op}_{i}"

    def _named(self, v) -> Value:
        value = self._constant(self._name("c"), v)
        if value.dtype == "float32" and not isinstance(v, np.ndarray) and self.node.inputs[0].dtype in ("float16", "float64"):
            value.dtype = self.node.inputs[0].dtype
            value.data = value.data.astype(value.dtype)
        elif value.dtype == "float32" and self.node.inputs[0].dtype == "bfloat16":
            value.dtype = "bfloat16"
        return value


class _Writer:
    def __init__(self, graph: Graph, opset: int):
        self.graph, self.opset = graph, opset
        self.nodes: list[onnx.NodeProto] = []
        self.node_names: set[str] = set()
        self.weights: dict[str, onnx.TensorProto] = {}
        self.names = {v.name for v in graph.values()}
        self.readers = {v: len(n) for v, n in graph.users().items()}

    def model(self) -> onnx.ModelProto:
        g = self.graph
        for n in g.nodes:
            self._node(n)
        for v in g.outputs:
            if v.data is not None:
                self._weight(v)
        made = {o for n in self.nodes for o in n.output}
        info = [helper.make_value_info(v.name, type_proto(v)) for v in g.values()
                if v.name in made and v.shape is not None and v not in g.outputs]
        inputs, outputs = ([helper.make_value_info(v.name, type_proto(v)) for v in vs] for vs in (g.inputs, g.outputs))
        graph = helper.make_graph(self.nodes, g.name or "graph", inputs, outputs, list(self.weights.values()), value_info=info)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=max(8, helper.find_min_ir_version_for(opsets)),
                                 producer_name="mcc")

    def _node(self, n: Node) -> None:
        special = WRITE.get(n.op)
        if special is not None:
            special(self, n)
        else:
            attrs, inputs = dict(n.attrs), list(n.inputs)
            if n.op in AS_ATTRIBUTE and self.opset < AS_ATTRIBUTE[n.op][2]:
                key, i, _ = AS_ATTRIBUTE[n.op]
                attrs.pop("noop_with_empty_axes", None)
                if len(inputs) > i and inputs[i] is not None:
                    if inputs[i].data is None:
                        raise UserError(f"node '{n.name}' ({n.op}): opset {self.opset} needs constant {key}")
                    attrs[key] = inputs[i].data.tolist()
                    del inputs[i:]
            self.emit(camel(n.op), inputs, [v.name for v in n.outputs], attrs, n)

    def emit(self, op_type: str, inputs: list, outputs: list[str], attrs: dict, n: Node) -> None:
        """One ONNX node; `inputs` are Values, names or None."""
        try:
            schema = onnx.defs.get_schema(op_type, self.opset, "")
        except onnx.defs.SchemaError:
            raise UserError(f"node '{n.name}': opset {self.opset} of ONNX has no op {op_type} for {n.op}") from None
        names = [v if isinstance(v, str) else self._name(v) for v in inputs]
        while names and not names[-1]:
            names.pop()
        attrs = {k: _attribute(k, v) for k, v in attrs.items() if v is not None and k in schema.attributes}
        lost = [k for k, v in n.attrs.items() if k not in schema.attributes and k in NEWER and v not in NEWER[k]]
        if lost:
            raise UserError(f"node '{n.name}' ({n.op}): opset {self.opset} has no {', '.join(lost)}; use a newer one")
        node = helper.make_node(op_type, names, outputs, name=self._unique(n.name or outputs[0]), **attrs)
        if n.scope:
            entry = node.metadata_props.add()
            entry.key, entry.value = "pkg.torch.onnx.name_scopes", repr(["", n.scope, n.name])
        self.nodes.append(node)

    def _unique(self, name: str) -> str:
        i, unique = 1, name
        while unique in self.node_names:
            unique, i = f"{name}_{i}", i + 1
        self.node_names.add(unique)
        return unique

    def _name(self, v: Value | None) -> str:
        if v is None:
            return ""
        if v.data is not None:
            self._weight(v)
        return v.name

    def _weight(self, v: Value) -> None:
        if v.name not in self.weights:
            self.weights[v.name] = initializer(v)

    def fresh(self, stem: str) -> str:
        i, name = 1, stem
        while name in self.names:
            name, i = f"{stem}_{i}", i + 1
        self.names.add(name)
        return name


# Attributes that came in opsets within our range, and the values with which they may be left out of an older one.
NEWER = {"antialias": (0,), "axes": (), "keep_aspect_ratio_policy": ("stretch",), "output_dtype": (), "block_size": (0,),
         "dilations": ([1], [1, 1], [1, 1, 1]), "layout": (0,)}


def initializer(v: Value) -> onnx.TensorProto:
    data = np.ascontiguousarray(v.data).reshape(v.data.shape)
    if v.dtype == "bfloat16":
        return helper.make_tensor(v.name, onnx.TensorProto.BFLOAT16, data.shape, _bf16(data), raw=True)
    return numpy_helper.from_array(data.astype(v.dtype, copy=False), v.name)


def _bf16(data: np.ndarray) -> bytes:
    """The upper halves of float32, rounded half to even."""
    bits = np.ascontiguousarray(data, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(data), bits >> 16 | 0x40, rounded).astype("<u2").tobytes()


def _attribute(key: str, v):
    if key in TYPED and isinstance(v, str):
        return elem_type(v)
    if isinstance(v, np.ndarray):
        return numpy_helper.from_array(v)
    if isinstance(v, np.generic):
        return v.item()
    if isinstance(v, (list, tuple)):
        return [i.item() if isinstance(i, np.generic) else i for i in v]
    return v


# --- nodes that are written otherwise ----------------------------------------------------------------------------

def _linear(w: _Writer, n: Node) -> None:
    """Gemm for a matrix; otherwise MatMul and Add, with the weight transposed in the file where no other node reads
    it (the name stays), else by a Transpose node."""
    x, weight, bias = [*n.inputs, None][:3]
    y = n.outputs[0].name
    if x.shape is not None and len(x.shape) == 2:
        return w.emit("Gemm", [x, weight, bias], [y], {"transB": 1}, n)
    if weight.data is not None and w.readers[weight] == 1:
        turned = weight.name
        w.weights[turned] = initializer(Value(turned, weight.dtype, weight.data.shape[::-1], weight.data.T))
    else:
        turned = w.fresh(f"{weight.name}.T")
        w.emit("Transpose", [weight], [turned], {"perm": [1, 0]}, n)
    if bias is None:
        return w.emit("MatMul", [x, turned], [y], {}, n)
    product = w.fresh(f"{y}_product")
    w.emit("MatMul", [x, turned], [product], {}, n)
    return w.emit("Add", [product, bias], [y], {}, n)


def _layer_norm(w: _Writer, n: Node) -> None:
    w.emit("LayerNormalization", n.inputs, [v.name for v in n.outputs], n.attrs, n)


def _split(w: _Writer, n: Node) -> None:
    """From opset 18 on one of `split` and num_outputs must be there."""
    attrs = {k: v for k, v in n.attrs.items() if k != "num_outputs"}
    if w.opset >= 18 and (len(n.inputs) < 2 or n.inputs[1] is None):
        attrs["num_outputs"] = len(n.outputs)
    w.emit("Split", n.inputs, [v.name for v in n.outputs], attrs, n)


def _clip(w: _Writer, n: Node) -> None:
    """ONNX wants scalars as bounds."""
    bounds: list[Value | str | None] = []
    for v in n.inputs[1:]:
        if v is not None and v.data is not None and v.data.ndim:
            name = w.fresh(f"{v.name}_scalar")
            w.weights[name] = initializer(Value(name, v.dtype, (), v.data.reshape(())))
            bounds.append(name)
        else:
            bounds.append(v)
    w.emit("Clip", [n.inputs[0], *bounds], [n.outputs[0].name], {}, n)


def _pool(w: _Writer, n: Node) -> None:
    attrs = dict(n.attrs)
    if len(n.outputs) == 1:
        attrs.pop("storage_order", None)
    w.emit(camel(n.op), n.inputs, [v.name for v in n.outputs], attrs, n)


def _constant_of_shape(w: _Writer, n: Node) -> None:
    value = np.asarray(n.attrs.get("value", np.zeros(1, np.float32)), n.outputs[0].dtype).reshape(1)
    w.emit("ConstantOfShape", n.inputs, [n.outputs[0].name], {"value": value}, n)


WRITE = {
    "linear": _linear,
    "split": _split,
    "clip": _clip,
    "max_pool": _pool,
    "constant_of_shape": _constant_of_shape,
}
