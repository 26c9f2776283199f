"""Small questions about ONNX's protobufs: types, tensors, attributes, scopes, one node computed."""
from __future__ import annotations

import ast
import re

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..errors import UserError
from ..graph import Dim, Value
from .dims import Expr, Poly, parse

STANDARD = ("", "ai.onnx")
DTYPES = {"float16", "float32", "float64", "bool", *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64))}
NAMELESS = re.compile(r"(\?|None|-1|unk|unknown)$")  # what tools write for "no name"


def dtype_name(elem_type: int) -> str:
    if elem_type == onnx.TensorProto.BFLOAT16:
        return "bfloat16"
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))
    except KeyError:
        dtype = None
    if dtype is None or dtype.kind not in "fiub" or dtype.name.startswith("float8"):  # ml_dtypes calls e5m2 a float
        kind = onnx.TensorProto.DataType.Name(elem_type).lower()
        raise UserError(f"tensors of type {kind} are not supported; convert the model to float32 or an integer type")
    return dtype.name


def elem_type(dtype: str) -> int:
    return onnx.TensorProto.BFLOAT16 if dtype == "bfloat16" else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def stored_dtype(t: onnx.TensorProto) -> str:
    """The dtype a constant is held in: 4-bit integers in 8 bits."""
    held = {int(onnx.TensorProto.INT4): "int8", int(onnx.TensorProto.UINT4): "uint8"}
    return held.get(t.data_type) or dtype_name(t.data_type)


def tensor(t: onnx.TensorProto) -> np.ndarray:
    dtype = stored_dtype(t)
    return numpy_helper.to_array(t).astype("float32" if dtype == "bfloat16" else dtype, copy=False)


def attribute(a: onnx.AttributeProto):
    """An attribute as a Python value: numbers, text, lists of them, arrays."""
    if a.type == onnx.AttributeProto.TENSOR:
        return tensor(a.t)
    if a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        return None
    v = helper.get_attribute_value(a)
    if isinstance(v, bytes):
        return v.decode()
    if hasattr(v, "__len__") and not isinstance(v, str):
        return [i.decode() if isinstance(i, bytes) else i for i in v]
    return v


def type_proto(v: Value) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(elem_type(v.dtype), None if v.shape is None else list(v.shape))


def dims_of(t: onnx.TypeProto) -> tuple | None:
    """Ints, names, and None for a dimension without either; None when even the rank is not known."""
    if not t.tensor_type.HasField("shape"):
        return None
    out: list = []
    for d in t.tensor_type.shape.dim:
        if d.HasField("dim_value"):
            out.append(d.dim_value if d.dim_value >= 0 else None)
        else:
            name = d.dim_param
            out.append(name if name and not NAMELESS.match(name) else None)
    return tuple(out)


def scope_of(n: onnx.NodeProto) -> str:
    """The path of the torch module a node came from: the dynamo exporter's metadata, else a TorchScript node name
    ("/encoder/layer.0/MatMul")."""
    for p in n.metadata_props:
        if p.key == "pkg.torch.onnx.name_scopes":
            try:
                scopes = ast.literal_eval(p.value)
                return scopes[-2] if len(scopes) > 1 else ""
            except (ValueError, SyntaxError):
                return ""
    if n.name.startswith("/"):
        return ".".join(n.name.split("/")[1:-1])
    return ""


def schema_defaults(n: onnx.NodeProto, opsets: dict) -> list[onnx.AttributeProto]:
    try:
        schema = onnx.defs.get_schema(n.op_type, opsets.get("", 1), n.domain)
    except onnx.defs.SchemaError:
        return []
    out = []
    for name, a in schema.attributes.items():
        if a.default_value.name:
            out.append(onnx.AttributeProto())
            out[-1].CopyFrom(a.default_value)
            out[-1].name = name
    return out


def resolved(attributes, given: dict):
    """A function body's attributes with references replaced by what the call gives."""
    for a in attributes:
        if not a.ref_attr_name:
            yield a
        elif a.ref_attr_name in given:
            copy = onnx.AttributeProto()
            copy.CopyFrom(given[a.ref_attr_name])
            copy.name = a.name
            yield copy


def reference(n: onnx.NodeProto, ins: list, opsets: dict) -> list[np.ndarray] | None:
    """The node's results by ONNX's reference implementation; None when it has none."""
    from onnx.reference import ReferenceEvaluator
    feeds = {k: v.data for k, v in zip(n.input, ins) if v is not None}
    outs = [o for o in n.output if o]
    g = helper.make_graph([n], "one", [helper.make_value_info(k, type_proto(v)) for k, v in zip(n.input, ins) if v is not None
                                       and k in feeds],
                          [helper.make_value_info(o, onnx.TypeProto()) for o in outs])
    model = helper.make_model(g, opset_imports=[helper.make_opsetid(d, v) for d, v in opsets.items()])
    try:
        got = dict(zip(outs, ReferenceEvaluator(model).run(None, feeds)))
    except Exception:  # whatever it raises, the node then stays in the graph
        return None
    return [np.asarray(got[o]) if o else None for o in n.output]


def holds(d: Dim, name: str) -> bool:
    e = parse(d)
    return isinstance(e, Poly) and any(name in k for k in e.terms)


def first_line(e: Exception) -> str:
    return next((line.strip() for line in str(e).splitlines() if line.strip()), type(e).__name__)


def parsed(shape) -> list[Expr] | None:
    return None if shape is None else [parse(d) for d in shape]
