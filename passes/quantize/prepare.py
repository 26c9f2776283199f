"""What a float graph goes through before its numbers are made integers: batch norm into weights, scales evened out."""
from __future__ import annotations

import numpy as np

from ..graph import Graph, Node, Value, constant
from ..lower.fuse import pad_conv
from ..weights import shares_values

LAYERS = ("conv", "linear")
# f(s * x) = s * f(x) for s > 0: a scale per channel passes through.
HOMOGENEOUS = ("relu", "leaky_relu", "max_pool", "average_pool", "global_average_pool", "global_max_pool", "identity", "dropout")


def prepare(graph: Graph) -> Graph:
    """A copy without dropout, identity, foldable batch norms and pads that convolutions can do themselves."""
    graph = graph.copy()
    drop_training_ops(graph)
    fold_batch_norm(graph)
    pad_conv.apply(graph)
    graph.prune()
    return graph


def drop_training_ops(graph: Graph) -> None:
    kept = []
    for node in graph.nodes:
        read = [v for v in node.outputs[1:] if v in graph.outputs or any(v in n.inputs for n in graph.nodes)]
        if node.op in ("dropout", "identity") and not read and node.outputs[0] not in graph.outputs:
            graph.replace(node.outputs[0], node.inputs[0])
        else:
            kept.append(node)
    graph.nodes = kept


def fold_batch_norm(graph: Graph) -> int:
    """y = (conv(x) - mean) / sqrt(var + eps) * scale + bias becomes one convolution (arXiv 1502.03167, section 3.1).

    Also for linear and conv_transpose. Only where nobody else reads the layer's output. Returns how many were folded.
    Shapes may be symbolic. A codebook's weight is left alone when its rows would get different factors.
    """
    folded = 0
    for norm in [n for n in graph.nodes if n.op == "batch_norm"]:
        layer = graph.makers().get(norm.inputs[0])
        if layer is None or layer.op not in ("conv", "linear", "conv_transpose") or not foldable(graph, layer, norm):
            continue
        scale, shift, mean, var = (v.data.astype(np.float64) for v in norm.inputs[1:5])
        factor = scale / np.sqrt(var + norm.attrs.get("epsilon", 1e-5))
        w = layer.inputs[1]
        if layer.op == "conv_transpose":
            group = layer.attrs.get("group", 1)
            data = w.data.astype(np.float64).reshape(group, w.shape[0] // group, *w.shape[1:])
            data = (data * factor.reshape(group, 1, -1, *[1] * (w.data.ndim - 2))).reshape(w.shape)
        else:
            data = w.data.astype(np.float64) * factor.reshape(-1, *[1] * (w.data.ndim - 1))
        old = layer.inputs[2].data.astype(np.float64) if len(layer.inputs) > 2 and layer.inputs[2] is not None else 0.0
        bias = ((old - mean) * factor + shift).astype(w.data.dtype)
        set_weight(graph, layer, data.astype(w.data.dtype))
        set_bias(graph, layer, bias)
        layer.outputs = [norm.outputs[0]]
        graph.nodes.remove(norm)
        folded += 1
    return folded


def foldable(graph: Graph, layer: Node, norm: Node) -> bool:
    y = layer.outputs[0]
    constant_all = all(v is not None and v.data is not None for v in [*norm.inputs[1:5], layer.inputs[1], *layer.inputs[2:3]]
                       if v is not None)
    alone = sum(v is y for n in graph.nodes for v in n.inputs) == 1 and y not in graph.outputs
    plain = layer.attrs.get("act", "none") == "none" and not any(v is not None for v in layer.inputs[3:])
    return constant_all and alone and plain and len(norm.outputs) == 1 and not norm.attrs.get("training_mode") \
        and not shares_values(layer.inputs[1])


def set_weight(graph: Graph, layer: Node, data: np.ndarray) -> None:
    """The layer gets a weight of its own (the old one may be shared), under the same name where it was alone."""
    old = layer.inputs[1]
    shared = sum(v is old for n in graph.nodes for v in n.inputs) > 1
    layer.inputs[1] = Value(graph.fresh(old.name) if shared else old.name, old.dtype, data.shape, data, dict(old.meta))


def set_bias(graph: Graph, layer: Node, data: np.ndarray) -> None:
    old = layer.inputs[2] if len(layer.inputs) > 2 else None
    shared = old is not None and sum(v is old for n in graph.nodes for v in n.inputs) > 1
    stem = old.name if old is not None else layer.inputs[1].name.removesuffix(".weight") + ".bias"
    layer.inputs = [*layer.inputs[:2], constant(graph.fresh(stem) if shared or old is None else stem, data), *layer.inputs[3:]]


def pairs(graph: Graph, through_clips: bool = False) -> list[tuple[Node, list[Node]]]:
    """(layer, the layers that read it): nothing between but ops through which a scale per channel passes, and no
    other reader. These are the places where two layers may trade scales without a change of the function (but for the
    upper bound of clips from 0, when those are passed through)."""
    users, found = graph.users(), []
    for node in graph.nodes:
        if node.op != "conv" or node.inputs[1].data is None or shares_values(node.inputs[1]):
            continue
        readers, todo, good = [], [node.outputs[0]], True
        while todo and good:
            v = todo.pop()
            good = v not in graph.outputs and bool(users[v])
            for user in users[v]:
                if user.op == "conv" and user.inputs[0] is v and user.inputs[1].data is not None and _plain_or_depthwise(user):
                    readers.append(user)
                elif (user.op in HOMOGENEOUS or through_clips and _relu6(user)) and len(user.outputs) == 1:
                    todo.append(user.outputs[0])
                else:
                    good = False
        if good and readers and not any(shares_values(r.inputs[1]) for r in readers):
            found.append((node, readers))
    return found


def _plain_or_depthwise(node: Node) -> bool:
    return node.attrs.get("group", 1) in (1, node.inputs[1].shape[0])


def _relu6(node: Node) -> bool:
    """clip from 0 to some bound."""
    low = node.inputs[1] if node.op == "clip" and len(node.inputs) > 1 else None
    return low is not None and low.data is not None and float(low.data) == 0


def _unclip(graph: Graph, layer: Node) -> None:
    """The clips between a layer and those that read it become relus: bounds per channel have no integer form."""
    users, todo = graph.users(), [layer.outputs[0]]
    while todo:
        for user in users[todo.pop()]:
            if user.op in HOMOGENEOUS or user.op == "clip":
                todo.append(user.outputs[0])
            if user.op == "clip":
                user.op, user.inputs = "relu", user.inputs[:1]


def equalize(graph: Graph, rounds: int = 4, through_clips: bool = False) -> int:
    """Cross-layer equalisation (Nagel et al., DFQ, arXiv 1906.04721): channel by channel, the output range of a layer and
    the input range of those that read it become equal. In place; returns how many pairs it found. through_clips: clips
    from 0 (ReLU6) become relus (section 5.1.1)."""
    found = pairs(graph, through_clips)
    for layer, readers in found:
        for node in [layer, *readers]:
            set_weight(graph, node, node.inputs[1].data)
        _unclip(graph, layer)
    for _ in range(rounds):
        for layer, readers in found:
            w = layer.inputs[1]
            out = np.abs(w.data).reshape(w.shape[0], -1).max(1)
            into = np.max([_input_range(r) for r in readers], axis=0)
            good = (out > 1e-8) & (into > 1e-8)
            factor = np.where(good, np.sqrt(out * into) / np.where(good, into, 1), 1.0)  # the layer is divided by this
            factor = np.clip(factor, 1e-3, 1e3)
            set_weight(graph, layer, (w.data / factor.reshape(-1, *[1] * (w.data.ndim - 1))).astype(w.data.dtype))
            if len(layer.inputs) > 2 and layer.inputs[2] is not None:
                set_bias(graph, layer, (layer.inputs[2].data / factor).astype(w.data.dtype))
            for r in readers:
                k = r.inputs[1]
                shape = (-1, *[1] * (k.data.ndim - 1)) if _depthwise(r) else (1, -1, *[1] * (k.data.ndim - 2))
                set_weight(graph, r, (k.data * factor.reshape(shape)).astype(k.data.dtype))
    return len(found)


def _depthwise(node: Node) -> bool:
    return node.attrs.get("group", 1) > 1


def _input_range(node: Node) -> np.ndarray:
    w = np.abs(node.inputs[1].data)
    return w.reshape(w.shape[0], -1).max(1) if _depthwise(node) else np.moveaxis(w, 1, 0).reshape(w.shape[1], -1).max(1)
