"""A Graph as a torch nn.Module: what is trained is the graph that is lowered.

Parameters and buffers bear the names of the Values ("features.0.weight" is so in `state_dict` too). What
`Value.meta` asks for holds at every step of any optimiser: zeros of a sparse weight stay zero, a codebook weight
moves only with its palette and a hashed one with its bucket, a frozen value does not move.
"""
from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import hashing, ranks
from .errors import UserError
from .graph import Graph, Node, Value
from .ops import OPS
from .ops.run import Plan, array, feed, tensor

# The inputs of each op in which a float constant is a weight, so trained.
WEIGHT_SLOTS = {
    "conv": (1, 2), "conv_transpose": (1, 2), "linear": (1, 2), "matmul": (0, 1), "nhwc_conv": (1, 2),
    "nhwc_conv_transpose": (1, 2), "batch_norm": (1, 2), "instance_norm": (1, 2), "layer_norm": (1, 2),
    "group_norm": (1, 2), "rms_norm": (1,), "gather": (0,), "prelu": (1,), "lstm": (1, 2, 3, 7), "gru": (1, 2, 3),
    "rnn": (1, 2, 3), "add": (0, 1), "mul": (0, 1),
}
# A weight is still one behind these (their first input; all of concat's).
TRANSPARENT = ("identity", "cast", "transpose", "reshape", "flatten", "squeeze", "unsqueeze", "concat", "slice", "split",
               "expand", "tile", "pad", "quantize_linear", "dequantize_linear")
# Added constants as large as this are masks, not weights (BERT's -10000, -inf).
MASK_SIZE = 1e4


class _Scope(nn.Module):
    """One part of a dotted name."""


class GraphModule(nn.Module):
    """`graph` as a module. The graph's own arrays are never changed; `write_back` gives a new Graph.

    Trained: float constants in a weight's place (WEIGHT_SLOTS), added or multiplied ones with more than one element,
    and those whose meta says "trainable". All other constants are buffers, but for those read as numbers (shapes, axes,
    pads), which stay on the CPU and out of `state_dict`. A codebook weight `w` is the parameter `w.centroids` [entries]
    and the buffer `w.indices` [its shape]; a centroid's gradient is the sum over its members (Deep Compression,
    1510.00149, section 3). A hashed weight `w` is the parameter `w.buckets`, likewise (1504.04788). Batch norm and dropout
    follow train() and eval(); a batch norm whose mean is frozen keeps its statistics.
    """

    def __init__(self, graph: Graph):
        super().__init__()
        self.graph = graph
        self._plans: dict[tuple[str, ...], Plan] = {(): Plan(graph)}
        self._by_name = {v.name: v for v in graph.values()}
        self._places: dict[Value, tuple[nn.Module, str]] = {}   # where a constant's tensor lives
        self._books: dict[Value, tuple[nn.Module, str]] = {}    # where a codebook's or hashed weight's values and indices live
        self._masks: dict[Value, str] = {}
        self._watched: dict[Value, Callable] = {}
        self._numbers: dict[Value, torch.Tensor] = {}
        trained, numbers = _trained(graph), _numbers(graph)
        for v in graph.constants():
            if v in numbers:
                self._numbers[v] = tensor(np.array(v.data), v.dtype)
                continue
            train = v in trained
            if v.meta.get("hashed") and self._enter_hashed(v, train):
                pass
            elif v.meta.get("codebook") and v.data.dtype.kind == "f":
                self._enter_codebook(v, train)
            else:
                self._places[v] = _enter(self, v.name, tensor(np.array(v.data), v.dtype), train)
            if v.meta.get("sparse"):
                self.set_mask(v.name, v.data != 0)

    def _enter_codebook(self, v: Value, train: bool) -> None:
        """Palettes of the groups one after another; of a sparse weight the zeros belong to none."""
        groups, sparse = int(v.meta["codebook"].get("groups", 1)), bool(v.meta.get("sparse"))
        rows = v.data.reshape(groups, -1)
        palettes, indices, start = [], [], 0
        for row in rows:
            palette = np.unique(row[row != 0] if sparse and row.any() else row)
            indices.append(np.searchsorted(palette, row).clip(0, len(palette) - 1) + start)
            palettes.append(palette)
            start += len(palette)
        centroids = tensor(np.concatenate(palettes).astype(v.data.dtype), v.dtype)
        self._books[v] = _enter(self, f"{v.name}.centroids", centroids, train)
        _enter(self, f"{v.name}.indices", torch.from_numpy(np.concatenate(indices).reshape(v.data.shape)), False)

    def _enter_hashed(self, v: Value, train: bool) -> bool:
        """The buckets; with a palette its entries. Indices count them, then their negatives. False when the weight is none."""
        buckets = hashing.buckets_of(v.data, v.meta["hashed"], bool(v.meta.get("sparse")))
        if buckets is None or v.data.dtype.kind != "f":
            return False
        index, negative = hashing.places(v.meta["hashed"], v.data.shape)
        if v.meta.get("codebook"):
            negative = negative ^ (buckets < 0)[index]
            buckets, entry = np.unique(abs(buckets), return_inverse=True)
            index = entry.reshape(-1)[index]
        self._books[v] = _enter(self, f"{v.name}.buckets", tensor(buckets, v.dtype), train)
        _enter(self, f"{v.name}.indices", torch.from_numpy(index + len(buckets) * negative), False)
        return True

    # --- evaluating ---------------------------------------------------------------------------------------------

    def forward(self, *args, want=None, **inputs):
        """Inputs in order, by name, or as one dict by name; any batch size. One output as a tensor, several as a tuple
        in graph.outputs order. With want=[names of values]: (that, {name: tensor})."""
        feeds = self._feeds(args, inputs)
        env = self._evaluate(feeds, tuple(want or ()))
        outputs = tuple(env[v] for v in self.graph.outputs)
        result = outputs[0] if len(outputs) == 1 else outputs
        return result if want is None else (result, {n: env[self._by_name[n]] for n in want})

    def values(self, inputs, names) -> dict[str, torch.Tensor]:
        """Inner values by name, for hidden-state distillation. `inputs`: a dict by name, or a list or tensor in order."""
        args = (inputs,) if isinstance(inputs, (dict, torch.Tensor)) else tuple(inputs)
        return self(*args, want=list(names))[1]

    def _feeds(self, args, named):
        if len(args) == 1 and isinstance(args[0], dict):
            args, named = (), {**args[0], **named}
        names = [v.name for v in self.graph.inputs]
        return {**dict(zip(names, args)), **named} if len(args) <= len(names) else list(args)

    def _evaluate(self, feeds, want):
        missing = [n for n in want if n not in self._by_name]
        if missing:
            raise UserError(*(f"no value is named '{n}'" + self._nearest(n) for n in missing))
        if want not in self._plans:
            self._plans[want] = Plan(self.graph, tuple(self._by_name[n] for n in want))
        env = feed(self.graph, feeds)
        env.update(self._numbers)
        for v in (*self._places, *self._books):
            env[v] = self._tensor(v)
        self._execute(self._plans[want], env)
        return env

    def _execute(self, plan: Plan, env: dict[Value, torch.Tensor]) -> None:
        plan.execute(env, self._special)

    def _nearest(self, name: str) -> str:
        near = get_close_matches(name, self._by_name, n=1)
        return f"; did you mean '{near[0]}'?" if near else ""

    def _tensor(self, v: Value) -> torch.Tensor:
        """A constant as the graph sees it: looked up in its palette or buckets, masked."""
        if v in self._books:
            owner, key = self._books[v]
            indices, values = owner._buffers["indices"], _get(owner, key)
            if key == "buckets":
                values = torch.cat([values, -values])
            t = values.index_select(0, indices.reshape(-1)).reshape(indices.shape)
        else:
            t = _get(*self._places[v])
        if v in self._masks:
            t = torch.where(self._buffers[self._masks[v]].bool(), t, torch.zeros((), dtype=t.dtype, device=t.device))
        if v in self._watched and t.requires_grad:
            t = t.view_as(t)  # a hook on the Parameter itself would stay
            t.register_hook(lambda g, t=t.detach(): self._watched[v](t, ranks.add(g.detach().clone()) / ranks.count()))
        return t

    def _special(self, node: Node, inputs: list) -> tuple | None:
        """What depends on train or eval mode."""
        if node.op == "batch_norm" and len(inputs) == 5:
            x, scale, bias, mean, var = inputs
            live = self.training and node.inputs[3] in self._places and not node.inputs[3].meta.get("frozen")
            momentum, epsilon = 1 - node.attrs.get("momentum", 0.9), node.attrs.get("epsilon", 1e-5)
            if live and ranks.count() > 1:
                return (_batch_norm(x, scale, bias, mean, var, momentum, epsilon), mean, var)
            return (F.batch_norm(x, mean, var, scale, bias, live, momentum, epsilon), mean, var)
        if node.op == "dropout":
            x, ratio = inputs[0], inputs[1] if len(inputs) > 1 else None
            p = 0.5 if ratio is None else float(ratio)
            y = F.dropout(x, p, self.training)
            return (y,) if len(node.outputs) == 1 else (y, (y != 0) | (x == 0))
        return None

    # --- weights ------------------------------------------------------------------------------------------------

    def value(self, name: str) -> np.ndarray:
        """A constant as it is now, as the Value would hold it: masked, looked up, bfloat16 as float32."""
        return self._data(self._constant(name))

    def set_mask(self, name: str, keep, fresh: bool = False) -> None:
        """From now on `name` is zero where `keep` (array or tensor of its shape) is false: a pruning step. A mask that
        lets a weight live again finds it at the value it had; fresh: at zero."""
        v = self._constant(name)
        keep = torch.as_tensor(np.asarray(keep) if not isinstance(keep, torch.Tensor) else keep)
        if tuple(keep.shape) != v.data.shape:
            raise ValueError(f"mask of '{name}' has shape {list(keep.shape)}, the value {list(v.data.shape)}")
        if v not in self._masks:
            self._masks[v] = f"mask {len(self._masks)}"  # no Value's name has this form, and it is not in state_dict
            self._non_persistent_buffers_set.add(self._masks[v])
        owner, key = self._places.get(v) or self._books[v]
        weight, before = _get(owner, key), self._buffers.get(self._masks[v])
        if fresh and before is not None and v in self._places:
            with torch.no_grad():
                weight[(before == 0).to(weight.device)] = 0
        self._buffers[self._masks[v]] = (keep != 0).to(weight.device, torch.uint8)

    def on_gradient(self, name: str, see: Callable[[torch.Tensor, torch.Tensor], None]) -> None:
        """see(value, gradient) of a constant in every backward pass, as the graph sees it: masked places have one too. Where
        several processes train, the gradient is that of the whole batch, and all of them have to ask for it."""
        self._watched[self._constant(name)] = see

    def write_back(self) -> Graph:
        """A new Graph with the values as they are now, dtypes kept: masked weights exactly zero, members of a centroid
        exactly equal. Arrays that did not change are shared with the old graph."""
        graph = self.graph.copy()
        for old, new in zip(self.graph.values(), graph.values()):
            if old in self._places or old in self._books:
                data = self._data(old)
                if not np.array_equal(data, old.data):
                    new.data = data
        return graph

    def _constant(self, name: str) -> Value:
        v = self._by_name.get(name)
        if v is None or v.data is None:
            raise UserError(f"no constant is named '{name}'" + self._nearest(name))
        return v

    def _data(self, v: Value) -> np.ndarray:
        if v in self._numbers:
            return v.data
        with torch.no_grad():
            return array(self._tensor(v)).astype(v.data.dtype)  # astype copies: the Parameter goes on changing


def _batch_norm(x, scale, bias, mean, var, momentum, epsilon) -> torch.Tensor:
    """Batch norm in training whose batch is that of all processes: gradients go through both sums, as in one process."""
    axes = [0, *range(2, x.ndim)]
    shape = [1, -1] + [1] * (x.ndim - 2)
    total = ranks.add_through(torch.cat([x.sum(axes), x.new_tensor([x.numel() / x.shape[1]])]))
    count = total[-1].detach()
    middle = total[:-1] / count
    x = x - middle.reshape(shape)
    spread = ranks.add_through((x * x).sum(axes)) / count
    with torch.no_grad():
        mean.lerp_(middle, momentum)
        var.lerp_(spread * count / (count - 1), momentum)
    return x * (scale * (spread + epsilon).rsqrt()).reshape(shape) + bias.reshape(shape)


def _enter(root: nn.Module, name: str, t: torch.Tensor, train: bool) -> tuple[nn.Module, str]:
    """Put a tensor at its dotted name. By way of the tables, for a Value may bear any name ("forward", "a" beside "a.b")
    and register_parameter takes only some."""
    *path, key = name.split(".")
    for part in path:
        if part not in root._modules:
            root._modules[part] = _Scope()
        root = root._modules[part]
    if train:
        root._parameters[key] = nn.Parameter(t)
    else:
        root._buffers[key] = t
    return root, key


def _get(owner: nn.Module, key: str) -> torch.Tensor:
    t = owner._parameters.get(key)
    return owner._buffers[key] if t is None else t


def _trained(graph: Graph) -> set[Value]:
    """The float constants that training moves."""
    makers, found = graph.makers(), set()
    for n in graph.nodes:
        for i in WEIGHT_SLOTS.get(n.op, ()):
            stack = [n.inputs[i]] if i < len(n.inputs) and n.inputs[i] is not None else []
            while stack:
                v = stack.pop()
                maker = makers.get(v)
                if v.data is not None:
                    if n.op not in ("add", "mul") or v.data.size > 1 and bool((abs(v.data) < MASK_SIZE).all()):
                        found.add(v)
                elif maker is not None and maker.op in TRANSPARENT:
                    stack += [u for u in (maker.inputs if maker.op == "concat" else maker.inputs[:1]) if u is not None]
    found |= {v for v in graph.constants() if v.meta.get("trainable")}
    return {v for v in found if v.data.dtype.kind == "f" and not v.meta.get("frozen")}


def _numbers(graph: Graph) -> set[Value]:
    """Constants that are only read as numbers: in static inputs, or by nodes that only make those."""
    uses: dict[Value, list[bool]] = {}
    outputs, quiet = set(graph.outputs), set()
    for n in reversed(graph.nodes):
        inner = all(v in quiet for v in n.outputs)
        for i, v in enumerate(n.inputs):
            if v is not None:
                uses.setdefault(v, []).append(inner or i in OPS[n.op].static)
                if all(uses[v]) and v not in outputs:
                    quiet.add(v)
                else:
                    quiet.discard(v)
    return {v for v in graph.constants() if v in quiet}
