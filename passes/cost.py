"""What a Graph costs: parameters, nonzeros, and multiply-accumulates per node."""
from __future__ import annotations

from math import prod

import numpy as np

from .graph import Graph, Node, Value
from .ops.run import infer

NOT_PARAMETERS = {  # inputs that describe the computation; a float there is no weight
    "quantize_linear": (1, 2), "dequantize_linear": (1, 2), "batch_norm": (3, 4), "clip": (1, 2), "resize": (1, 2),
    "pad": (2,), "qlinear": (3, 5), "nhwc_qconv": (3, 5),
    "nhwc_qinverted_residual": (3, 4, 7, 8, 11, 12), "dqlinear": (2,), "nhwc_dqconv": (2,), "qlut": (1,),
    "qsoftmax": (1,), "qattention": (7,), "nhwc_qresize": (1, 2, 3, 4),
}


def parameters(graph: Graph) -> list[Value]:
    """The constants that are weights, biases or norm parameters: floats and quantized weights, each once."""
    found: dict[Value, None] = {}
    for node in graph.nodes:
        for i, v in enumerate(node.inputs):
            if v is None or v.data is None or i in NOT_PARAMETERS.get(node.op, ()):
                continue
            number = v.data.dtype.kind == "f" or v.dtype in ("int8", "uint8", "int32") and (
                node.op.startswith(("dequantize", "q", "nhwc_q", "dq", "nhwc_dq", "matmul_integer", "conv_integer"))
                or node.op == "gather" and i == 0 and v.dtype != "int32")  # a quantized embedding table
            if number and v.data.ndim > 0:
                found[v] = None
    return list(found)


def params(graph: Graph) -> int:
    """How many parameters the graph has (a shared weight counts once, a hashed one its buckets; running statistics do not
    count)."""
    return sum(_count(v) for v in parameters(graph))


def _count(v: Value) -> int:
    return v.meta["hashed"]["buckets"] if "hashed" in v.meta else v.data.size


def nonzeros(graph: Graph) -> int:
    """How many parameters are not zero (of a hashed weight: at most its buckets)."""
    return sum(min(int(np.count_nonzero(v.data)), _count(v)) for v in parameters(graph))


def guess_bind(graph: Graph, bind: dict[str, int] | None = None, batch: int = 1, length: int = 32) -> dict[str, int]:
    """A size for every symbolic dimension: as in `bind`, else `batch` where it stands first, else `length`."""
    full: dict[str, int] = {}
    for v in graph.inputs:
        for i, d in enumerate(v.shape or ()):
            if isinstance(d, str):
                full.setdefault(d, batch if i == 0 else length)
    return full | {k: n for k, n in (bind or {}).items() if k in full}


def macs(graph: Graph, bind: dict[str, int] | None = None) -> dict[Node, int]:
    """Multiply-accumulates of every node that has some, for one run with the dimensions bound (batch 1 by default)."""
    shapes = {v: shape for v, (shape, _) in infer(graph, guess_bind(graph, bind)).items()}
    counts = {n: node_macs(n, shapes) for n in graph.nodes}
    return {n: c for n, c in counts.items() if c}


def total_macs(graph: Graph, bind: dict[str, int] | None = None) -> int:
    return sum(macs(graph, bind).values())


def node_macs(node: Node, shapes: dict[Value, tuple[int, ...]]) -> int:
    """Multiply-accumulates of one node, shapes known."""
    op, y = node.op, shapes[node.outputs[0]]

    def at(i):
        return shapes[node.inputs[i]]
    if op in ("conv", "nhwc_conv", "nhwc_qconv", "nhwc_dqconv", "conv_integer"):
        return prod(y) * prod(at(1)[1:])
    if op == "qlinear_conv":
        return prod(y) * prod(at(3)[1:])
    if op in ("nhwc_inverted_residual", "nhwc_qinverted_residual"):
        each = 2 if op == "nhwc_inverted_residual" else 4
        expand = prod(at(0)) * at(1)[0] if node.inputs[1] is not None else 0
        return expand + prod(y[:3]) * prod(at(1 + each)[:3]) + prod(y) * at(1 + 2 * each)[3]
    if op == "conv_transpose":
        return prod(at(0)) * prod(at(1)[1:])
    if op == "nhwc_conv_transpose":  # every input cell meets out / group channels under every tap
        return prod(at(0)) * at(1)[0] // node.attrs.get("group", 1) * prod(at(1)[1:3])
    if op in ("linear", "qlinear", "dqlinear"):
        return prod(y) * at(1)[-1]
    if op in ("matmul", "matmul_integer", "qlinear_matmul", "qmatmul"):
        return prod(y) * at(0)[-1]
    if op in ("lstm", "gru", "rnn"):
        steps = prod(at(0)[:2])
        return steps * (prod(at(1)) + prod(at(2)))
    if op in ("attention", "qattention"):
        q, k, v = at(0), at(1), at(2)
        if len(q) == 3:  # [N, S, heads * D]
            kv = node.attrs.get("kv_num_heads", 1)
            dim = v[2] // kv
            return q[0] * q[1] * k[1] * (q[2] + node.attrs.get("q_num_heads", 1) * dim)
        return q[0] * q[1] * q[2] * k[2] * (q[3] + v[3])
    if op == "einsum":
        terms = node.attrs["equation"].replace(" ", "").split("->")[0].split(",")
        sizes: dict[str, int] = {}
        for term, v in zip(terms, node.inputs):
            sizes.update(zip(term.replace("...", ""), shapes[v][-len(term.replace("...", "")):]))
        return prod(sizes.values())
    return 0
