"""The oracle of channel removal: the original graph, in which nothing is cut, with the removed channels zeroed."""
from __future__ import annotations

import numpy as np
import torch
from mcc.passes.graph import Node
from mcc.passes.groups import Dependencies
from mcc.passes.ops import call
from mcc.passes.ops.run import Plan, feed, tensor

MIXING = {"conv", "conv_transpose", "linear", "matmul", "attention", "lstm", "gru", "rnn"}


def zeroed(deps: Dependencies, gone: np.ndarray, feeds: dict) -> dict[str, torch.Tensor]:
    """The outputs of the original graph where the channels in `gone` are zero wherever channels are mixed, while norms and
    sums over channels see only those that stay. The oracle of removal: nothing is cut, shapes stay."""
    graph, cuts = deps.graph, {}
    for cut in deps.cuts:
        if np.isin(cut.marks, gone).any():
            cuts.setdefault((cut.node, cut.value), []).append(cut)

    def apply(node: Node, inputs: list) -> tuple | None:
        if node.op in MIXING:
            return call(node.op, [_zero(deps, node, v, t, cuts, gone) for v, t in zip(node.inputs, inputs)], node.attrs,
                        len(node.outputs))
        if not (node.op.endswith("_norm") or node.op.startswith("reduce_")):
            return None
        x = node.inputs[0]
        marks = deps.marks.get(x)
        if marks is None or not np.isin(marks, gone).any():
            return None
        axis = int(np.argmax(marks.shape))
        keep = torch.as_tensor(deps.kept(marks, gone))
        small = [inputs[0].index_select(axis, keep)]
        for v, t in zip(node.inputs[1:], inputs[1:]):
            for cut in cuts.get((node, v), ()):
                t = t.index_select(cut.axis, torch.as_tensor(deps.kept(cut.marks, gone)))
            small.append(t)
        made = []
        for y, t in zip(node.outputs, call(node.op, small, node.attrs, len(node.outputs))):
            line = deps.marks[y]
            if np.isin(line, gone).any():
                axis = int(np.argmax(line.shape))
                t = t.new_zeros([*t.shape[:axis], line.size, *t.shape[axis + 1:]]).index_copy(axis, keep, t)
            made.append(t)
        return tuple(made)

    env = {**feed(graph, feeds), **{v: tensor(v.data, v.dtype) for v in graph.constants()}}
    with torch.no_grad():
        Plan(graph).execute(env, apply)
    return {v.name: env[v] for v in graph.outputs}


def _zero(deps: Dependencies, node: Node, value, t, cuts: dict, gone: np.ndarray):
    """A value with zeros at the channels in `gone`: one that is computed by its marks, a weight where it reads them."""
    if value is None:
        return None
    lines = [(cut.axis, cut.marks) for cut in cuts.get((node, value), ()) if cut.kind == "in"]
    if value.data is None and deps.marks[value].any():
        lines = [(int(np.argmax(deps.marks[value].shape)), deps.marks[value].ravel())]
    for axis, line in lines:
        shape = [1] * t.ndim
        shape[axis] = len(line)
        t = t * torch.as_tensor(~np.isin(line, gone), dtype=t.dtype).reshape(shape)
    return t
