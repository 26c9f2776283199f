"""float16 arithmetic: float layers, and what stands between them, take and give float16 activations, so that the engine
computes in it where the CPU can (ops/half.py says what that means). Inputs and outputs of the graph stay as they are; ops
without a float16 form get casts around them.
"""
from __future__ import annotations

from ..graph import Graph, Node, Value, claim
from ..ops.half import FOLLOWERS, LAYERS, MOVES

RESIDUAL = {"nhwc_conv": 3, "linear": 3, "nhwc_inverted_residual": 7}
FLOATS = ("float32", "float16")


def compute_half(graph: Graph) -> None:
    """In place, behind `blocks`: nothing looks for patterns any more."""
    twins: dict[Value, Value] = {}  # a value of one type -> the same in the other
    taken = {v.name for v in graph.values()}
    nodes: list[Node] = []

    def cast(v: Value, to: Value) -> None:
        nodes.append(Node("cast", [v], [to], {"to": to.dtype}, to.name))

    def wanted(v: Value | None, dtype: str) -> Value | None:
        if v is None or v.data is not None or v.dtype not in FLOATS or v.dtype == dtype:
            return v
        if v not in twins:
            twins[v] = Value(claim(taken, f"{v.name} {dtype}"), dtype, v.shape)
            cast(v, twins[v])
        return twins[v]

    def made(v: Value) -> Value:
        """What the node writes in place of its output v."""
        if v.dtype != "float32":
            return v
        if v not in graph.outputs:
            v.dtype = "float16"
            return v
        half = twins[v] = Value(claim(taken, f"{v.name} float16"), "float16", v.shape)
        twins[half] = v
        return half

    for node in graph.nodes:
        half = _takes(node, twins)
        for i in _activations(node) if half else range(len(node.inputs)):
            node.inputs[i] = wanted(node.inputs[i], "float16" if half else "float32")
        nodes.append(node)
        if half:
            outputs = node.outputs
            node.outputs = [made(v) for v in outputs]
            for old, new in zip(outputs, node.outputs):
                if old is not new:
                    cast(new, old)
    graph.nodes = nodes


def _activations(node: Node) -> list[int]:
    if node.op not in LAYERS:
        return list(range(len(node.inputs)))
    return [0] + [i for i in (RESIDUAL[node.op],) if i < len(node.inputs)]


def _takes(node: Node, twins: dict[Value, Value]) -> bool:
    """Does the node compute in float16?"""
    floats = [v for v in node.inputs if v is not None and v.dtype in FLOATS]
    live = [v for v in floats if v.data is None]
    if node.op in LAYERS:
        return node.inputs[0] in live and not node.attrs.get("dynamic") and node.outputs[0].dtype == "float32"
    half = any(v.dtype == "float16" or v in twins for v in live)
    if node.op in MOVES:  # of one type: a constant would have to change as well
        return half and len(live) == len(floats)
    return node.op in FOLLOWERS and half
