"""Which nodes of a lowered graph compute on integers, and which stay float, and why."""
from __future__ import annotations

from ..base import layer_name
from ..graph import Graph, Node

DYNAMIC = ("dqlinear", "nhwc_dqconv")
BORDER = ("quantize_linear", "dequantize_linear")


def integer_listing(graph: Graph) -> dict:
    """{"integer": n, "dynamic": [names], "float": [{"name", "op", "why"}]} of a graph that computes on integers at all; empty
    for a float one. Ops on shapes and indices do not count."""
    made = [n for n in graph.nodes if n.outputs[0].dtype in ("int8", "uint8", "float32", "float16", "bfloat16")]
    if not any(_integer(n) or n.op in DYNAMIC for n in made):
        return {}
    refused = {t.split("'")[1]: t.split(": ", 1)[-1] for t in graph.meta.get("notes", []) if "stays float" in t}
    return {"integer": sum(_integer(n) for n in made), "dynamic": [layer_name(n) for n in made if n.op in DYNAMIC],
            "float": [{"name": layer_name(n), "op": n.op, "why": _why(n, refused)} for n in made
                      if not _integer(n) and n.op not in DYNAMIC + BORDER]}


def _integer(node: Node) -> bool:
    if node.op.startswith(("q", "nhwc_q")) and node.op not in BORDER:  # also those that quantize the image they read
        return True
    data = [v for v in node.inputs if v is not None and v.data is None]
    return node.op not in BORDER and any(v.dtype in ("int8", "uint8") for v in data)


def _why(node: Node, refused: dict[str, str]) -> str:
    name = layer_name(node)
    if name in refused:
        return refused[name]
    weights = [v for v in node.inputs[1:2] if v is not None and v.data is not None and v.data.ndim > 1]
    if weights:
        return "its weight is float" if weights[0].data.dtype.kind == "f" else "its input is float"
    return "its inputs are float"
