"""ONNX files: open, check, and the road of a ModelProto to a canonical Graph."""
from __future__ import annotations

import onnx

from ..errors import UserError
from ..graph import Graph
from .protos import first_line
from .read import Reader, Unsupported

LEFTOVERS = {"shape", "size", "range", "constant_of_shape"}
OLDEST = 7
BIG = 1 << 31  # a protobuf cannot be larger; the checker works on the file then


def open_onnx(path: str) -> onnx.ModelProto:
    """The checked model with its external data loaded."""
    try:
        model = onnx.load(path)
    except FileNotFoundError as e:
        raise UserError(f"the model's external data is missing: {first_line(e)}") from None
    except Exception as e:  # protobuf and onnx raise many kinds
        raise UserError(f"not an ONNX model ({first_line(e)})") from None
    return check(model, path)


def check(model: onnx.ModelProto, path: str | None = None) -> onnx.ModelProto:
    if not isinstance(model, onnx.ModelProto):
        raise UserError(f"expected a path or an onnx.ModelProto, got {type(model).__name__}")
    if not model.HasField("graph"):
        raise UserError("not an ONNX model (it has no graph)")
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
    newest = onnx.defs.onnx_opset_version()
    if version is None or not (OLDEST if not _timeless(model, version) else 1) <= version <= newest:
        raise UserError(f"opset {version} is not supported; export the model with opset {OLDEST} to {newest}")
    types = [o.type.tensor_type for o in model.graph.output if o.type.HasField("tensor_type")]
    bare = [t for t in types if not t.HasField("shape")]
    for t in bare:
        t.shape.SetInParent()  # the checker wants a shape there, nobody else does
    try:
        onnx.checker.check_model(path if path is not None and model.ByteSize() >= BIG else model)
    except onnx.checker.ValidationError as e:
        if "deprecated" in str(e):  # GroupNormalization 18 to 20, Upsample 10: exporters wrote them all the same
            return model
        raise UserError(f"not a valid ONNX model: {first_line(e)}") from None
    except Exception as e:
        if model.ByteSize() < BIG:
            raise UserError(f"not a valid ONNX model: {first_line(e)}") from None
    finally:
        for t in bare:
            t.ClearField("shape")
    return model


def _timeless(model: onnx.ModelProto, version: int) -> bool:
    """Whether an opset before OLDEST says of every op here what OLDEST says."""
    try:
        return all(onnx.defs.get_schema(n.op_type, version, n.domain).since_version
                   == onnx.defs.get_schema(n.op_type, OLDEST, n.domain).since_version for n in model.graph.node)
    except onnx.defs.SchemaError:
        return False


def to_graph(model: onnx.ModelProto, bind: dict[str, int], simplify: bool, batch: str | None = None) -> Graph:
    from .canonical import canonical
    try:
        graph = canonical(Reader(model, bind, batch).read())
        if not simplify or batch or not any(n.op in LEFTOVERS for n in graph.nodes):
            return graph
    except Unsupported:
        simpler = simplified(model, bind) if simplify and not batch else None
        if simpler is None:
            raise
        return canonical(Reader(simpler, {}, batch).read())
    simpler = simplified(model, bind)
    if simpler is not None:
        try:
            other = canonical(Reader(simpler, {}, batch).read())
        except UserError:
            return graph
        if len(other.nodes) < len(graph.nodes) and not any(n.op in LEFTOVERS for n in other.nodes):
            return other
    return graph


def simplified(model: onnx.ModelProto, bind: dict[str, int]) -> onnx.ModelProto | None:
    """The model after onnxsim, None when it fails. Slow: its import takes seconds."""
    try:
        from onnxsim import simplify
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        for i in copy.graph.input:
            for d in i.type.tensor_type.shape.dim:
                if d.dim_param in bind:
                    d.dim_value = bind[d.dim_param]
        out, ok = simplify(copy, skip_fuse_bn=True)
        return out if ok else None
    except Exception:  # a helper that may not know the model; ours is complete without it
        return None
