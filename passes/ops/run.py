"""Evaluating a Graph by the meanings of its ops: on numbers (`run`), and on shapes alone (`infer`)."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..errors import PassFailed, UserError
from ..graph import Graph, Node, Value
from . import OPS, call, dtype_of, unknown

EVALUATE_LIMIT = 1 << 16  # infer computes a node for real when all it reads is known and none is larger than this


def tensor(data, dtype: str | None = None) -> torch.Tensor:
    """A tensor of anything numpy takes; `dtype` (a Value's) makes bfloat16 of what is held as float32."""
    if not isinstance(data, torch.Tensor):
        data = np.asarray(data)
        if not data.flags.writeable or not data.flags.c_contiguous:  # torch would share, and warn
            data = np.array(data, order="C")
        data = torch.from_numpy(data)
    return data.to(torch.bfloat16) if dtype == "bfloat16" and data.dtype != torch.bfloat16 else data


def array(t: torch.Tensor) -> np.ndarray:
    """What a Value holds of a tensor: bfloat16 as float32."""
    t = t.detach().cpu()
    return (t.float() if t.dtype == torch.bfloat16 else t).numpy()


class Plan:
    """A graph made ready to be evaluated many times: known ops, and which values are dead after each node.

    A dequantize_linear that reads what a quantize_linear wrote is evaluated as one fake_quantize of the float value:
    the same numbers, but the gradient goes straight through. `keep` are values that stay in `env` to the end.
    """

    def __init__(self, graph: Graph, keep: tuple[Value, ...] = ()):
        problems = [f"node '{n.name or n.outputs[0].name}': {unknown(n.op)}" for n in graph.nodes if n.op not in OPS]
        if problems:
            raise UserError(*problems)
        makers = graph.makers()
        self.nodes, self.pairs = graph.nodes, {}
        reads: dict[Node, list[Value]] = {n: [v for v in n.inputs if v is not None] for n in graph.nodes}
        for n in graph.nodes:
            q = makers.get(n.inputs[0]) if n.op == "dequantize_linear" else None
            if q is not None and q.op == "quantize_linear" and _same_grid(q, n):
                self.pairs[n] = q
                reads[n] = [v for v in [*q.inputs, n.inputs[1]] if v is not None]
        used = {v for n in graph.nodes for v in reads[n]} | set(graph.outputs) | set(keep)
        self.skipped = {q for q in self.pairs.values() if q.outputs[0] not in used}
        last: dict[Value, Node] = {v: n for n in graph.nodes if n not in self.skipped for v in reads[n]}
        stay = set(graph.outputs) | set(keep) | set(graph.inputs)
        self.dead: dict[Node, list[Value]] = {}
        for v, n in last.items():
            if v not in stay and v.data is None:
                self.dead.setdefault(n, []).append(v)

    def execute(self, env: dict[Value, torch.Tensor], apply: Callable | None = None) -> None:
        """Evaluate all nodes; `env` starts with inputs and constants and ends with outputs and kept values.
        `apply(node, inputs)` replaces the meaning of a node where it gives a tuple of outputs, not None."""
        for n in self.nodes:
            if n in self.skipped:
                continue
            try:
                self._node(n, env, apply)
            except (UserError, PassFailed):
                raise
            except Exception as e:
                shapes = ", ".join("-" if v is None else f"{v.name}{list(env[v].shape)}" if v in env else v.name
                                   for v in n.inputs)
                text = f"node '{n.name or n.outputs[0].name}' ({n.op}) failed on {shapes}: {e}"
                raise UserError(" ".join(text.split())) from e
            for v in self.dead.get(n, ()):
                env.pop(v, None)

    def _node(self, n: Node, env, apply) -> None:
        inputs = [None if v is None else env.get(v) for v in n.inputs]
        results = apply(n, inputs) if apply is not None else None
        if results is None and n in self.pairs:
            from .integer import fake_quantize
            q = self.pairs[n]
            x, scale, zero = [*(None if v is None else env[v] for v in q.inputs), None][:3]
            if x.is_floating_point():
                results = (fake_quantize(x, scale, zero, inputs[1], **q.attrs),)
            elif q in self.skipped:
                inputs[0], = call(q.op, [x, scale, zero], q.attrs)
        if results is None:
            results = call(n.op, inputs, n.attrs, len(n.outputs))
        env.update(zip(n.outputs, results))


def _same_grid(q: Node, d: Node) -> bool:
    """Whether a quantize and a dequantize node use the same zero point and layout (float types apart)."""
    zero = [n.inputs[2] if len(n.inputs) > 2 else None for n in (q, d)]
    same = zero[0] is zero[1] or all(z is not None and z.data is not None for z in zero) and np.array_equal(
        zero[0].data, zero[1].data) or all(z is None or z.data is not None and not z.data.any() for z in zero)
    def layout(n):
        return (n.attrs.get("axis", 1), n.attrs.get("block_size", 0))
    return same and layout(q) == layout(d) and "output_dtype" not in d.attrs and (
        q.inputs[1] is d.inputs[1] or q.inputs[1].shape == d.inputs[1].shape)


def feed(graph: Graph, feeds) -> dict[Value, torch.Tensor]:
    """Arrays or tensors, by name or in the order of the inputs, as tensors by Value. UserError when some are missing
    or unknown."""
    if not isinstance(feeds, dict):
        feeds = list(feeds)
        if len(feeds) != len(graph.inputs):
            raise UserError(f"graph '{graph.name}' takes {len(graph.inputs)} inputs, got {len(feeds)}")
        feeds = {v.name: x for v, x in zip(graph.inputs, feeds)}
    names = [v.name for v in graph.inputs]
    problems = [f"input '{n}' is missing" for n in names if n not in feeds]
    problems += [f"no input is named '{n}'; the inputs are {', '.join(names)}" for n in feeds if n not in names]
    if problems:
        raise UserError(*problems)
    return {v: tensor(feeds[v.name], v.dtype) for v in graph.inputs}


def run(graph: Graph, feeds) -> dict[str, torch.Tensor]:
    """All outputs of the graph by name, for `feeds` (arrays or tensors) by name or in order. No gradients.

    Symbolic dimensions are whatever the feeds have. UserError names the node, op and input shapes that failed."""
    env = feed(graph, feeds)
    env.update({v: tensor(v.data, v.dtype) for v in graph.constants()})
    with torch.no_grad():
        Plan(graph).execute(env)
    return {v.name: env[v] for v in graph.outputs}


def infer(graph: Graph, bind: dict[str, int] | None = None) -> dict[Value, tuple[tuple[int, ...], str]]:
    """Shape and dtype name of every value, with the symbolic dimensions bound.

    Nothing is computed but what is known: shape arithmetic (shape, gather, concat... on known dimensions) gives the
    targets of reshape and expand. The batch, a name that stands first in an input, is 1 unless bound; another
    unbound name is a UserError."""
    return _infer(graph, bind)[0]


def known(graph: Graph, bind: dict[str, int] | None = None) -> dict[Value, np.ndarray]:
    """The values that do not depend on the inputs' contents once dimensions are bound (graph constants left out)."""
    return {v: array(t) for v, t in _infer(graph, bind)[1].items() if v.data is None}


def _infer(graph, bind):
    bind, missing = dict(bind or {}), []
    for v in graph.inputs:
        if v.shape is None:
            raise UserError(f"input '{v.name}' has no shape")
        for i, d in enumerate(v.shape):
            if isinstance(d, str) and d not in bind:
                if i == 0:
                    bind[d] = 1
                else:
                    missing.append(d)
    missing = sorted({d for d in missing if d not in bind})
    if missing:
        raise UserError(*(f"dimension '{d}' is not bound: give it a size, as in --bind {d}=128" for d in missing))
    shapes = {v: tuple(bind[d] if isinstance(d, str) else d for d in v.shape) for v in graph.inputs}
    env = {v: torch.empty(shape, dtype=dtype_of(v.dtype), device="meta") for v, shape in shapes.items()}
    facts: dict[Value, torch.Tensor] = {}
    for v in graph.constants():
        env[v] = torch.empty(v.data.shape, dtype=dtype_of(v.dtype), device="meta")
        if v.data.size <= EVALUATE_LIMIT:
            facts[v] = tensor(v.data, v.dtype)

    def apply(n: Node, inputs):
        given = [v for v in n.inputs if v is not None]
        if all(v in facts for v in given) and n.op != "dropout":
            results = call(n.op, [None if v is None else facts[v] for v in n.inputs], n.attrs, len(n.outputs))
        else:
            static = OPS[n.op].static
            for i in static:
                v = n.inputs[i] if i < len(n.inputs) else None
                if v is not None and v not in facts and n.op not in ("dropout", "pad"):
                    raise UserError(f"node '{n.name or n.outputs[0].name}' ({n.op}): input {i} ('{v.name}') must be known "
                                    "when shapes are, but it depends on the graph's inputs")
            inputs = [facts.get(v, t) if i in static else t for i, (v, t) in enumerate(zip(n.inputs, inputs))]
            results = call(n.op, inputs, n.attrs, len(n.outputs))
        for v, t in zip(n.outputs, results):
            if not t.is_meta and t.numel() <= EVALUATE_LIMIT:
                facts[v] = t
        return tuple(t if t.is_meta else torch.empty_like(t, device="meta") for t in results)

    plan = Plan(graph, keep=tuple(graph.values()))
    plan.skipped = set()
    with torch.no_grad():
        plan.execute(env, apply)
    return {v: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for v, t in env.items()}, facts
