"""Products in bfloat16: what the attribute bf16 promises (passes/ops/lowered.py, `brain`) on every tier of this machine.

An engine that multiplies in bfloat16 differs from torch, which rounds the same inputs, in the order of its sums alone. One that
does not leaves x as it is, and each product may differ by the rounding of x.
"""

import numpy as np
import pytest
import torch

from mcc.kernels import Session, isa
from mcc.passes.graph import Graph, Node, Value
from mcc.passes.lower import lower
from mcc.passes.lower.emit import to_bytes
from mcc.passes.lower.engine import engine_form
from mcc.passes.lower.match import Sketch
from mcc.passes.lower.plan import plan
from mcc.passes.ops import OPS
from mcc.passes.ops.run import run


HAS = "avx512bf16" in isa().split()
WORDS = [w for w in (None, "avx512", "avx2", "c") if w in (None, "c") or w in isa().split()]
# x, w, attributes. Odd depths, one row, rows and columns of all tails, many rows (a tile is rounded at a time), several spans.
LINEAR = [((m, k), (n, k)) for m, k, n in [(1, 1, 1), (1, 301, 77), (2, 64, 33), (13, 17, 16), (29, 129, 50), (600, 33, 48),
                                           (577, 600, 40), (70, 700, 130), (3, 2, 500)]]
CONV = [((2, 9, 8, 6), (20, 3, 3, 6), {"pads": [1, 1, 1, 1]}), ((1, 7, 9, 32), (33, 1, 1, 32), {"strides": [2, 2]}),
        ((1, 8, 8, 16), (24, 3, 3, 4), {"group": 4, "pads": [0, 1, 1, 0]}), ((1, 6, 5, 7), (9, 3, 3, 7), {}),
        ((1, 14, 14, 64), (64, 3, 3, 64), {"pads": [1, 1, 1, 1], "winograd": 4}), ((2, 25, 24, 10), (17, 1, 1, 10), {}),
        ((1, 20, 20, 200), (12, 5, 5, 200), {"dilations": [2, 2]})]
IMAGES = [((2, 23, 21, 3), (20, 3, 3, 3), {"strides": [2, 2], "pads": [1] * 4}),
          ((1, 30, 33, 1), (9, 5, 5, 1), {"pads": [2] * 4}),
          ((2, 3, 31, 41), (33, 7, 7, 3), {"strides": [2, 2], "pads": [3] * 4, "layout": "nchw"}),
          ((1, 2, 19, 64), (40, 3, 3, 2), {"dilations": [2, 2], "layout": "nchw"}),
          ((1, 6, 9, 4), (17, 1, 1, 4), {"strides": [2, 1]})]


def normal(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype("float32")


def brain(a):
    return torch.from_numpy(a).bfloat16().float().numpy()


def session(op, x, w, b, residual, attrs, y_shape, word):
    names = [Value("x", "float32", x.shape), Value("w", "bfloat16", w.shape, w), Value("b", "float32", b.shape, b),
             Value("r", "float32", residual.shape)]
    y = Value("y", "float32", y_shape)
    graph = Graph([names[0], names[3]], [y], [Node(op, names, [y], dict(attrs), op)])
    plan(graph)
    return Session(to_bytes(graph), isa=word)


def check(op, x, w, attrs):
    attrs = {**attrs, "bf16": 1, "act": "relu"}
    x, w = normal(*x), brain(normal(*w))
    x.reshape(-1)[::7] = 1 + 2.0 ** -8  # in the middle between two bfloat16
    b, depth = normal(len(w)), w[0].size

    def meaning(x, w, b, r, **other):
        given = [torch.from_numpy(a) if a is not None else None for a in (x, w, b, r)]
        return OPS[op].fn(*given, **(attrs | other)).numpy()
    r = normal(*meaning(x, w, None, None).shape)
    want = meaning(x, w, b, r)
    size = meaning(abs(x), abs(w), None, None, act="none") + abs(b) + abs(r)
    for word in WORDS:
        opened = session(op, x, w, b, r, attrs, want.shape, word)
        got = opened.run({"x": x, "r": r})["y"]
        rounds = "_bf16_" in opened.profile({"x": x, "r": r}, 1)[0]["kernel"]
        image = w.ndim == 4 and w.shape[3] <= 4 and w[0].size <= 240 and "group" not in attrs
        able = HAS and word is None and (op == "linear" or w.shape[3] % 2 == 0 or image) and "winograd" not in attrs
        assert rounds == able, f"isa {word}"
        bound = size * (1e-6 * np.sqrt(depth + 4) + (0 if rounds else 2.0 ** -8 + (1e-5 if "winograd" in attrs else 0)))
        assert (abs(got - want) <= bound).all(), f"isa {word}: {(abs(got - want) / size).max():.2e} of the sum of |x w|"
        if rounds:  # that x was rounded is seen
            plain = OPS[op].fn(*map(torch.from_numpy, (x, w, b, r)), **(attrs | {"bf16": 0})).numpy()
            assert depth < 8 or not (abs(got - plain) <= bound).all()


@pytest.mark.parametrize("x, w", LINEAR)
def test_linear(x, w):
    check("linear", x, w, {})


@pytest.mark.parametrize("x, w, attrs", CONV + IMAGES)
def test_conv(x, w, attrs):
    check("nhwc_conv", x, w, attrs)


def mobile():
    """A first layer, an inverted residual that becomes one node, a 3x3 convolution, a linear layer."""
    s = Sketch()
    x = s.input("x", 1, 3, 64, 64)
    y = s("relu", s("conv", x, s.weight("a", 16, 3, 3, 3), s.weight("a.b", 16), pads=[1] * 4))
    e = s("relu", s("conv", y, s.weight("e", 96, 16, 1, 1), s.weight("e.b", 96)))
    d = s("relu", s("conv", e, s.weight("d", 96, 1, 3, 3), s.weight("d.b", 96), pads=[1] * 4, group=96))
    y = s("add", s("conv", d, s.weight("p", 16, 96, 1, 1), s.weight("p.b", 16)), y)
    y = s("relu", s("conv", y, s.weight("c", 24, 16, 3, 3), None, strides=[4, 4]))
    return s.graph(s("linear", s("reshape", y, [1, 24 * 16 * 16]), s.weight("l", 10, 24 * 16 * 16), None))


def test_network():
    """Which nodes carry the attribute; the lowered graph in torch, and the engine, which rounds in the block's parts too."""
    graph = lower(mobile(), precision="bf16")
    marked = [(n.op, {k for k in n.attrs if k.endswith("bf16")}) for n in graph.nodes if n.op != "reshape"]
    assert marked == [("nhwc_conv", {"bf16"}), ("nhwc_inverted_residual", {"a_bf16", "c_bf16"}), ("nhwc_conv", {"bf16"}),
                      ("linear", {"bf16"})]
    x = normal(1, 3, 64, 64)
    want = run(graph, {"x": x})[graph.outputs[0].name].numpy()
    file = to_bytes(engine_form(graph))
    for word in WORDS:
        got = next(iter(Session(file, isa=word).run({"x": x}).values()))
        # Different sums round to different bfloat16 now and then; without products in bfloat16 all inputs differ.
        assert abs(got - want).max() / np.ptp(want) <= 2e-2, word
        two = next(iter(Session(file, isa=word, threads=2).run({"x": x}).values()))
        assert two.tobytes() == got.tobytes()


def test_gradient_passes():
    x = torch.randn(3, 8, requires_grad=True)
    OPS["linear"].fn(x, torch.ones(2, 8), bf16=1).sum().backward()
    assert (x.grad == 2).all()
