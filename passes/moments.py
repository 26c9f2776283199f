"""What a layer multiplies its weights with: the rows of its input, and their second moments over calibration samples.

A linear layer's rows are its input's; those of a convolution are the patches under its kernel (im2col), one per output
pixel, with the columns in the order of the weight's [channels, kh, kw]. A grouped convolution has rows of its own per group.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .base import Context, layer_name
from .errors import UserError
from .graph import Graph, Node, Value

MOST_ROWS = 4096  # per batch: evenly spaced rows say as much as all


def has_rows(node: Node) -> bool:
    """Is the node's product one of a constant float weight with rows of its input?"""
    w = node.inputs[1] if len(node.inputs) > 1 else None
    if w is None or w.data is None or w.data.dtype.kind != "f":
        return False
    return node.op == "linear" or node.op == "matmul" and w.data.ndim == 2 or node.op == "conv" and w.data.ndim in (3, 4)


def geometry(node: Node) -> tuple:
    """What the rows depend on, besides the input."""
    kernel = node.inputs[1].shape[2:] if node.op == "conv" else ()
    return (node.op == "conv", kernel, *(str(node.attrs.get(k)) for k in ("strides", "pads", "dilations", "auto_pad", "group")))


def rows(node: Node, x):
    """[groups, rows, columns] of the node's input x (a tensor)."""
    import torch.nn.functional as F

    from .ops.layers import resolve_pads

    if node.op != "conv":
        return x.reshape(1, -1, x.shape[-1])
    kernel, k, group = node.inputs[1].shape[2:], x.ndim - 2, node.attrs.get("group", 1)
    strides, dilations = (list(node.attrs.get(name) or [1] * k) for name in ("strides", "dilations"))
    pads = resolve_pads(node.attrs.get("auto_pad", "NOTSET"), node.attrs.get("pads"), x.shape[2:], kernel, strides, dilations)
    x = F.pad(x, [p for i in reversed(range(k)) for p in (pads[i], pads[i + k])])
    if k == 1:
        x, kernel, strides, dilations = x[:, :, None], (1, *kernel), [1, *strides], [1, *dilations]
    patches = F.unfold(x, kernel, tuple(dilations), 0, tuple(strides))  # [N, C * kh * kw, pixels]
    return patches.unflatten(1, (group, -1)).permute(1, 0, 3, 2).flatten(1, 2)


def matrix(node: Node, data: np.ndarray | None = None) -> np.ndarray:
    """A layer's weight (or an array of its shape) as [groups, outputs, columns]: what its rows are multiplied with."""
    w = node.inputs[1].data if data is None else data
    if node.op == "matmul":
        return w.T[None]
    group = node.attrs.get("group", 1) if node.op == "conv" else 1
    return w.reshape(group, w.shape[0] // group, -1)


def unmatrix(node: Node, m: np.ndarray) -> np.ndarray:
    """The inverse of `matrix`."""
    return np.ascontiguousarray(m[0].T) if node.op == "matmul" else m.reshape(node.inputs[1].shape)


def moments(graph: Graph, nodes: Sequence[Node], ctx: Context, samples: int, who: str,
            diagonal: bool = False) -> dict[Node, np.ndarray]:
    """Mean over rows of row^T row, [groups, K, K] (diagonal: of the squares, [groups, K]), float64, of every node. Layers that
    read the same rows share an array."""
    found = _means(graph, nodes, ctx, samples, who,
                   lambda x: [((x ** 2).sum(1) if diagonal else x.transpose(1, 2) @ x).double().numpy()])
    return {n: mean for n, (mean,) in found.items()}


def covariances(graph: Graph, nodes: Sequence[Node], ctx: Context, samples: int,
                who: str) -> dict[Node, tuple[np.ndarray, np.ndarray]]:
    """(covariance [groups, K, K], mean [groups, K]) of every node's rows, float64."""
    def sums(x) -> list[np.ndarray]:
        mean = x.mean(1, keepdim=True)
        around, m = x - mean, mean.double()  # float32 has no digits to spare where the mean is large
        return [((around.transpose(1, 2) @ around).double() + x.shape[1] * m.transpose(1, 2) @ m).numpy(),
                (x.shape[1] * m[:, 0]).numpy()]
    found = _means(graph, nodes, ctx, samples, who, sums)
    return {n: (second - mean[:, :, None] * mean[:, None], mean) for n, (second, mean) in found.items()}


def _means(graph: Graph, nodes: Sequence[Node], ctx: Context, samples: int, who: str,
           sums: Callable[..., list[np.ndarray]]) -> dict[Node, list[np.ndarray]]:
    """What `sums` makes of [groups, rows, K], added up and divided by the number of rows."""
    from .quantize.observe import watch

    if ctx.data is None:
        raise UserError(f"{who} needs calibration data; add `data:` to the recipe")
    if wrong := [layer_name(n) for n in nodes if not has_rows(n)]:
        raise UserError(f"{who} works on linear, matmul and 1-D and 2-D convolution layers, not on {', '.join(wrong[:3])}; "
                        "leave them out with skip")
    readers: dict[Value, dict[tuple, Node]] = {}
    for n in nodes:
        readers.setdefault(n.inputs[0], {}).setdefault(geometry(n), n)
    total: dict[tuple, list] = {}
    count: dict[tuple, int] = {}

    def see(v, t):
        for key, node in readers[v].items():
            x = rows(node, t)
            if x.shape[1] > MOST_ROWS:
                x = x[:, :: -(-x.shape[1] // MOST_ROWS)]
            found = sums(x)
            total[v, key] = [a + b for a, b in zip(total[v, key], found)] if (v, key) in total else found
            count[v, key] = count.get((v, key), 0) + x.shape[1]

    batches = (inputs for inputs, _ in ctx.data.batches("calibration", 16, None, samples))
    watch(graph, batches, see, set(readers), lambda n: ctx.progress(n, samples, "inputs of layers"))
    if not count:
        raise UserError(f"{who}: the calibration data is empty")
    mean = {key: [t / count[key] for t in found] for key, found in total.items()}
    return {n: mean[n.inputs[0], geometry(n)] for n in nodes}
