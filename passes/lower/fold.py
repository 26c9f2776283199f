"""Fold: bind symbolic dimensions, infer every shape, evaluate what is constant, fold batch norm into weights."""
from __future__ import annotations

import numpy as np
import torch

from ..errors import UserError
from ..graph import Graph, Node, Value, constant
from ..ops import OPS, call, dtype_of, unknown
from .decompose import decompose

MAX_FOLDED = 1 << 27  # elements; a constant larger than this would bloat the file more than it saves time
KEEP = ("dequantize_linear",)  # an int8 weight stays int8: the integer stage reads the pair; an int32 bias need not


def bind_dims(graph: Graph, bind: dict[str, int]) -> None:
    """Give every symbolic dimension of the inputs a size. Raises UserError for one that has none."""
    known = {d for v in graph.inputs for d in (v.shape or ()) if isinstance(d, str)}
    problems = [f"--bind {name}: the model has no such dimension; it has {', '.join(sorted(known)) or 'none'}"
                for name in bind if name not in known]
    for v in graph.inputs:
        shape = []
        for i, d in enumerate(v.shape or ()):
            if isinstance(d, str) and d not in bind and i > 0 and not any(d == u.shape[0] for u in graph.inputs if u.shape):
                problems.append(f"input '{v.name}': dimension '{d}' has no size; give --bind {d}=SIZE")
            shape.append(bind.get(d, 1) if isinstance(d, str) else d)
        v.shape = tuple(shape)
    if problems:
        raise UserError(*dict.fromkeys(problems))


def fold(graph: Graph) -> None:
    """Shapes of all values become ints; constant subgraphs, dropout, identity and batch norm disappear."""
    decompose(graph)
    _drop_training_ops(graph)
    evaluate(graph)
    from .rewrite import rewrite
    rewrite(graph)
    _fold_affine(graph)
    graph.prune()


def evaluate(graph: Graph, keep=KEEP) -> None:
    """Walk the nodes: evaluate those with constant inputs (but for the ops in `keep`), infer the others' shapes."""
    kept = []
    for node in graph.nodes:
        row = _row(node)
        if node.op in ("shape", "size") and _static_shape(node.inputs[0]):
            known, args = True, [torch.empty(node.inputs[0].shape, device="meta")]
        else:
            known = (node.op not in keep or node.inputs[0].dtype == "int32") and \
                all(v is None or v.data is not None for v in node.inputs)
            args = [_stand_in(node, i, v, row) if not known else None if v is None else tensor(v)
                    for i, v in enumerate(node.inputs)]
        outs = _call(node, row, args)
        known = known and sum(t.numel() for t in outs) <= MAX_FOLDED
        for v, t in zip(node.outputs, outs):
            v.shape, v.dtype = tuple(t.shape), _dtype(t)
            if known:
                v.data = (t.float() if t.dtype == torch.bfloat16 else t).detach().cpu().numpy()
        if not known:
            kept.append(node)
    graph.nodes = kept


def tensor(value: Value) -> torch.Tensor:
    """A constant as a torch tensor of its own dtype."""
    t = torch.from_numpy(np.array(value.data, copy=True, order="C"))
    return t.to(torch.bfloat16) if value.dtype == "bfloat16" else t


def infer_node(node: Node) -> None:
    """Set shapes and dtypes of one node's outputs from its inputs'."""
    row = _row(node)
    for v, t in zip(node.outputs, _call(node, row, [_stand_in(node, i, v, row) for i, v in enumerate(node.inputs)])):
        v.shape, v.dtype = tuple(t.shape), _dtype(t)


def _row(node: Node):
    if node.op not in OPS:
        raise UserError(f"node '{node.name or node.outputs[0].name}': {unknown(node.op)}")
    return OPS[node.op]


def _static_shape(v: Value) -> bool:
    return v.shape is not None and all(isinstance(d, int) for d in v.shape)


def _stand_in(node: Node, i: int, v: Value | None, row):
    if v is None:
        return None
    if v.data is not None and (i in row.static or v.data.size <= 64):
        return tensor(v)
    if i in row.static:
        raise UserError(f"node '{node.name or node.outputs[0].name}': input {i} of {node.op} ('{v.name}') must be constant once "
                        "all dimensions are bound; the engine has no data-dependent shapes")
    return torch.empty(v.shape, dtype=dtype_of(v.dtype), device="meta")


def _call(node: Node, row, tensors) -> tuple:
    meta = any(t is not None and t.device.type == "meta" for t in tensors)
    if meta:
        tensors = [t.to("meta") if t is not None and i not in row.static and t.device.type != "meta" else t
                   for i, t in enumerate(tensors)]
    try:
        with torch.no_grad():
            return call(node.op, tensors, node.attrs, len(node.outputs))
    except UserError:
        raise
    except Exception as error:  # any failure of the meaning is a misuse of the op: say where
        shapes = ", ".join("-" if t is None else str(list(t.shape)) for t in tensors)
        raise UserError(f"node '{node.name or node.outputs[0].name}': {node.op}({shapes}) {node.attrs}: "
                        f"{str(error).splitlines()[0] if str(error) else type(error).__name__}") from error


def _dtype(t: torch.Tensor) -> str:
    return str(t.dtype).removeprefix("torch.")


def _drop_training_ops(graph: Graph) -> None:
    """Dropout at inference and identity pass their input on (unless that would rename a graph output)."""
    kept = []
    for node in graph.nodes:
        if node.op in ("dropout", "identity"):
            mask_used = len(node.outputs) > 1 and (node.outputs[1] in graph.outputs or any(
                node.outputs[1] in n.inputs for n in graph.nodes))
            if not mask_used and node.outputs[0] not in graph.outputs:
                graph.replace(node.outputs[0], node.inputs[0])
                continue
            if not mask_used:
                node.op, node.inputs, node.outputs, node.attrs = "identity", node.inputs[:1], node.outputs[:1], {}
        kept.append(node)
    graph.nodes = kept


def _fold_affine(graph: Graph) -> None:
    """batch_norm -> mul, add by constants; then conv or linear followed by a constant mul or add -> one layer.

    Only where the layer's result has no other reader. (Ioffe & Szegedy, arXiv 1502.03167, section 3.1: at
    inference the normalisation is one affine map.)"""
    _batch_norm_to_affine(graph)
    changed = True
    while changed:
        changed = False
        users, makers = graph.users(), graph.makers()
        for node in list(graph.nodes):
            if node.op not in ("mul", "add", "sub", "div"):
                continue
            layer, factor = _layer_and_constant(node, makers)
            if layer is None or len(users[layer.outputs[0]]) != 1 or layer.outputs[0] in graph.outputs:
                continue
            if not _absorb(graph, layer, node.op, factor, node.outputs[0]):
                continue
            layer.outputs = node.outputs
            graph.nodes.remove(node)
            changed = True
            break


def _batch_norm_to_affine(graph: Graph) -> None:
    nodes = []
    for node in graph.nodes:
        if node.op != "batch_norm" or any(v.data is None for v in node.inputs[1:5]):
            nodes.append(node)
            continue
        x, (scale, bias, mean, var) = node.inputs[0], (v.data.astype(np.float64) for v in node.inputs[1:5])
        a = scale / np.sqrt(var + node.attrs.get("epsilon", 1e-5))
        shape = (-1,) + (1,) * (len(x.shape) - 2) if len(x.shape) > 1 else (-1,)
        stem = node.outputs[0].name
        mid = Value(graph.fresh(stem + ".scaled"), x.dtype, x.shape)
        for op, src, dst, c in (("mul", x, mid, a), ("add", mid, node.outputs[0], bias - mean * a)):
            k = constant(graph.fresh(f"{stem}.{op}"), c.reshape(shape).astype(node.inputs[1].data.dtype))
            nodes.append(Node(op, [src, k], [dst], {}, node.name, node.scope))
    graph.nodes = nodes


def _layer_and_constant(node: Node, makers):
    """(the conv or linear that feeds this mul/add, the constant as float64), or (None, None)."""
    for a, b in ((0, 1), (1, 0)):
        layer, k = makers.get(node.inputs[a]), node.inputs[b]
        if layer is None or k.data is None or layer.op not in ("conv", "linear", "conv_transpose") or len(layer.inputs) > 3:
            continue
        if layer.attrs.get("act", "none") != "none" or node.op in ("sub", "div") and a == 1:
            continue
        if any(v is not None and v.data is None for v in layer.inputs[1:]):
            continue
        return layer, k.data.astype(np.float64)
    return None, None


def _absorb(graph: Graph, layer: Node, op: str, k: np.ndarray, out: Value) -> bool:
    """Multiply or shift the layer's output channels by k inside its weights. False when k is not per channel."""
    w = layer.inputs[1]
    y = layer.outputs[0].shape
    axis = len(y) - 1 if layer.op == "linear" else 1
    channels = y[axis]
    if k.ndim > len(y) or tuple(out.shape) != tuple(y):
        return False
    full = k.reshape((1,) * (len(y) - k.ndim) + k.shape)
    if any(d != 1 for i, d in enumerate(full.shape) if i != axis):
        return False
    if op in ("mul", "div") and any(w.meta.get(k) for k in ("codebook", "hashed", "frozen_values")):
        return False  # scaling each row would break the shared values
    per = np.broadcast_to(full.reshape(-1), (channels,)).astype(np.float64)
    dtype = w.data.dtype
    bias = layer.inputs[2] if len(layer.inputs) > 2 and layer.inputs[2] is not None else None
    b = np.zeros(channels) if bias is None else bias.data.astype(np.float64)
    if op in ("mul", "div"):
        per = per if op == "mul" else 1 / per
        if not np.isfinite(per).all():
            return False
        if layer.op == "conv_transpose":  # [in, out / group, ...]: the output channel is split over axes 0 and 1
            group = layer.attrs.get("group", 1)
            data = w.data.astype(np.float64).reshape(group, w.shape[0] // group, *w.shape[1:])
            data = (data * per.reshape(group, 1, -1, *(1,) * (len(w.shape) - 2))).reshape(w.shape)
        else:
            data = w.data.astype(np.float64) * per.reshape(-1, *(1,) * (w.data.ndim - 1))
        layer.inputs[1] = Value(graph.fresh(w.name), w.dtype, w.shape, data.astype(dtype), dict(w.meta))
        b = b * per
    else:
        b = b + (per if op == "add" else -per)
    name = bias.name if bias is not None else w.name.removesuffix(".weight") + ".bias"
    if bias is not None or np.any(b):
        layer.inputs[2:] = [constant(graph.fresh(name), b.astype(dtype))]
    return True
