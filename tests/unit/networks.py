"""Small networks, and data and contexts for them: what the tests of passes work on."""
from __future__ import annotations

import itertools

import numpy as np
import torch
from mcc.passes.base import Context
from mcc.passes.distill.encoder import EncoderSketch
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.ops.run import run

torch.set_num_threads(1)
RNG = np.random.default_rng(0)


class Noise:
    """Random inputs for any graph; labels from a fixed rule, or none."""

    def __init__(self, graph, n=64, labels=True):
        r = np.random.default_rng(1)
        shapes = {v: [n if isinstance(d, str) else d for d in v.shape] for v in graph.inputs}
        self.inputs = {v.name: torch.from_numpy(r.standard_normal(s).astype(v.dtype)) for v, s in shapes.items()}
        first = next(iter(self.inputs.values())).flatten(1)
        width = graph.outputs[0].shape
        self.labels = (first.sum(1) > 0).long() if labels and len(width) == 2 else None
        self.n = n

    def size(self, split):
        return self.n

    def batches(self, split, batch, seed=None, limit=None):
        order = np.arange(self.n) if seed is None else np.random.default_rng(seed).permutation(self.n)
        for i in range(0, min(self.n, limit or self.n), batch):
            rows = order[i:i + batch]
            yield {k: v[rows] for k, v in self.inputs.items()}, None if self.labels is None else self.labels[rows]


def context(graph, original=None, **kw):
    return Context(original or graph, Noise(graph), train={"lr": 1e-3, "batch": 16}, **kw)


def shifted(graph):
    """The graph with other weights: a teacher."""
    other = graph.copy()
    for v in other.constants():
        if v.data.dtype == np.float32:
            v.data = (v.data * 1.5).astype(np.float32)
    return other


def cnn(classes=4):
    """conv, batch norm, relu, depthwise, residual add, pool, linear."""
    r = np.random.default_rng(2)
    count = itertools.count()

    def weight(name, *shape, scale=0.3):
        return constant(name, (r.standard_normal(shape) * scale).astype(np.float32))

    def value(*shape):
        return Value(f"v{next(count)}", "float32", ("N", *shape))
    x, nodes = Value("x", "float32", ("N", 3, 8, 8)), []

    def add(op, inputs, shape, name, **attrs):
        nodes.append(Node(op, inputs, [value(*shape)], attrs, name))
        return nodes[-1].outputs[0]

    def norm(v, c, name):
        return add("batch_norm", [v, constant(f"{name}.weight", np.ones(c, np.float32)), weight(f"{name}.bias", c),
                                  weight(f"{name}.running_mean", c), constant(f"{name}.running_var", np.ones(c, np.float32))],
                   v.shape[1:], name)
    pads = {"pads": [1, 1, 1, 1]}
    a = add("conv", [x, weight("stem.weight", 16, 3, 3, 3), None], (16, 8, 8), "stem", **pads)
    a = add("relu", [norm(a, 16, "bn1")], (16, 8, 8), "r1")
    b = add("conv", [a, weight("dw.weight", 16, 1, 3, 3), None], (16, 8, 8), "dw", group=16, **pads)
    b = add("hard_swish", [norm(b, 16, "bn2")], (16, 8, 8), "hs")
    b = add("conv", [b, weight("pw.weight", 16, 16, 1, 1), weight("pw.bias", 16)], (16, 8, 8), "pw")
    y = add("add", [b, a], (16, 8, 8), "add")
    y = add("clip", [y, constant("lo", np.float32(0)), constant("hi", np.float32(6))], (16, 8, 8), "clip")
    y = add("reduce_mean", [y, constant("axes", np.array([2, 3]))], (16,), "mean", keepdims=0)
    y = add("relu", [add("linear", [y, weight("fc1.weight", 24, 16), weight("fc1.bias", 24)], (24,), "fc1")], (24,), "r2")
    y = add("linear", [y, weight("fc2.weight", classes, 24), weight("fc2.bias", classes)], (classes,), "fc2")
    return Graph([x], [y], nodes)


def blocks(classes=4, attention=False, shortcut=False):
    """What structure passes look for besides: 5 x 5 kernels, alike blocks, parallel branches, a flattened head; with
    `attention` two encoder layers over the pixels stand before the head, with `shortcut` one goes around the alike blocks."""
    r = np.random.default_rng(2)
    x, nodes = Value("x", "float32", ("N", 3, 8, 8)), []

    def add(op, inputs, shape, name, **attrs):
        nodes.append(Node(op, inputs, [Value(f"{name}.out", "float32", ("N", *shape))], attrs, name))
        return nodes[-1].outputs[0]

    def weighted(op, v, name, shape, *weight, **attrs):
        w = constant(f"{name}.weight", (r.standard_normal(weight) / np.sqrt(np.prod(weight[1:]))).astype(np.float32))
        return add(op, [v, w, constant(f"{name}.bias", r.standard_normal(weight[0]).astype(np.float32))], shape, name, **attrs)
    image = (16, 8, 8)
    y = add("relu", [weighted("conv", x, "stem", image, 16, 3, 3, 3, pads=[1] * 4)], image, "r0")
    three = weighted("conv", y, "three", image, 16, 16, 3, 3, pads=[1] * 4)
    one = weighted("conv", y, "one", image, 16, 16, 1, 1)
    y = add("relu", [add("add", [three, one], image, "sum")], image, "r1")
    before = y
    for i in range(2):
        y = add("relu", [weighted("conv", y, f"block.{i}.conv", image, 16, 16, 5, 5, pads=[2] * 4)], image, f"block.{i}.relu")
    y = add("add", [y, before], image, "shortcut") if shortcut else y
    if attention:
        encoder = EncoderSketch()
        encoder.nodes = nodes
        y = add("reshape", [y, constant("rows", np.array([0, 16, 64]))], (16, 64), "rows")
        y = encoder.layer(encoder.layer(add("transpose", [y], (64, 16), "turn", perm=[0, 2, 1]), 2, "layer.0"), 2, "layer.1")
        y = add("transpose", [y], (16, 64), "back", perm=[0, 2, 1])
        y = add("reshape", [y, constant("image", np.array([0, 16, 8, 8]))], image, "image")
    y = add("average_pool", [y], (16, 4, 4), "pool", kernel_shape=[2, 2], strides=[2, 2])
    y = add("relu", [weighted("linear", add("flatten", [y], (256,), "flat", axis=1), "fc1", (24,), 24, 256)], (24,), "r2")
    return Graph([x], [weighted("linear", y, "fc2", (classes,), classes, 24)], nodes)


def outputs(graph, seed=3, n=4):
    r = np.random.default_rng(seed)
    shapes = {v.name: [n if isinstance(d, str) else d for d in v.shape] for v in graph.inputs}
    feeds = {name: r.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    return next(iter(run(graph, feeds).values()))


def distance(a, b):
    return float((a - b).norm() / b.norm())


def same_graph(a, b):
    return str(a) == str(b) and all(np.array_equal(u.data, v.data) and u.meta == v.meta
                                    for u, v in zip(a.constants(), b.constants()))
