"""The hot float ops of the engine against their meaning in torch (in float64), on random geometry: every ISA word of this
CPU, and the same bytes from 1 and 2 threads."""
from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from mcc import kernels
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower.emit import to_bytes
from mcc.passes.lower.plan import plan
from mcc.passes.ops import OPS
from mcc.passes.ops.lowered import ACTS

CASES = 60
WORDS = kernels.isa().split()


class Rng:
    """Draws of what a case needs."""

    def __init__(self, seed):
        self.g = np.random.default_rng(seed)

    def __call__(self, *shape, dtype="float32"):
        if dtype in ("int8", "uint8"):
            info = np.iinfo(dtype)
            return self.g.integers(info.min, info.max + 1, shape).astype(dtype)
        data = self.g.standard_normal(shape).astype(np.float32)
        if dtype == "bfloat16":
            return (data.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        return data.astype(dtype)

    def int(self, low, high):
        return int(self.g.integers(low, high + 1))

    def one(self, *choices):
        return choices[self.int(0, len(choices) - 1)]

    def some(self, value):
        """value, or None half of the time"""
        return value if self.g.random() < 0.5 else None

    def act(self):
        name = self.one("none", "relu", "clip", *ACTS)
        ends = {"clip": (-0.5, 1.0), "leaky_relu": (0.1, 0.0), "elu": (0.7, 0.0), "hard_sigmoid": (0.2, 0.5)}
        alpha, beta = ends.get(name, (0.0, 0.0))
        return {"act": name, "alpha": alpha, "beta": beta}

    def weight_type(self):
        return self.one("float32", "float32", "float32", "float16", "bfloat16")


def out(size, kernel, stride, before, after, dilation):
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def linear(r):
    lead = tuple(r.int(1, 6) for _ in range(r.int(0, 2))) if r.int(0, 3) else (r.int(30, 70),)
    k, n = r.one(0, 1, 3, 17, 64, 129), r.one(1, 4, 10, 16, 33, 65, 200)
    kind = r.weight_type()
    return ([r(*lead, k), const(r(n, k, dtype=kind), kind), const(r.some(r(n))), r.some(r(*lead, n))], r.act())


def linear_of_activations(r):
    m, k, n = r.int(1, 20), r.int(1, 40), r.int(1, 70)
    return [r(m, k), r(n, k), r.some(r(n)), None], r.act()


def matmul(r):
    m, k, n = r.int(1, 20), r.one(1, 5, 33), r.int(1, 40)
    a_lead, b_lead = r.one(((), ()), ((), ()), ((3,), ()), ((2, 3), (3,)), ((2, 1), (4,)), ((), (3,)), ((2, 1, 3), (1, 2, 1)))
    a = r(k) if r.int(0, 7) == 0 else r(*a_lead, m, k)
    b = r(k) if r.int(0, 7) == 0 else r(*b_lead, k, n)
    side = r.int(0, 2)
    return [const(a) if side == 1 else a, const(b) if side == 2 else b], {}


def window(r, transposed=False):
    """Image size, kernel and the attributes of a window that fits."""
    while True:
        h, w = r.one(1, r.int(2, 12)), r.int(1, 20)
        kh, kw = r.one((1, 1), (3, 3), (3, 3), (5, 5), (1, 3), (7, 7), (r.int(1, 4), r.int(1, 4)))
        s, d = r.int(1, 3), r.one(1, 1, 1, 2)
        strides, dilations = r.one([s, s], [r.int(1, 3), s]), r.one([d, d], [d, 1])
        pads = [r.int(0, 3) for _ in range(4)] if r.int(0, 1) else [kh // 2, kw // 2, kh // 2, kw // 2]
        if transposed:
            fits = all((i - 1) * s + e * (k - 1) + 1 > a + b for i, s, e, k, a, b in
                       zip((h, w), strides, dilations, (kh, kw), pads[:2], pads[2:]))
        else:
            fits = all(out(i, k, strides[d], pads[d], pads[d + 2], dilations[d]) > 0
                       for d, (i, k) in enumerate(((h, kh), (w, kw))))
        if fits:
            return h, w, kh, kw, {"strides": strides, "pads": pads, "dilations": dilations}


def convolution(r, c, o, group):
    n, (h, w, kh, kw, attrs) = r.int(1, 2), window(r)
    y = (n, out(h, kh, attrs["strides"][0], attrs["pads"][0], attrs["pads"][2], attrs["dilations"][0]),
         out(w, kw, attrs["strides"][1], attrs["pads"][1], attrs["pads"][3], attrs["dilations"][1]), o)
    kind = r.weight_type()
    return ([r(n, h, w, c), const(r(o, kh, kw, c // group, dtype=kind), kind), const(r.some(r(o))), r.some(r(*y))],
            attrs | {"group": group} | r.act())


def nhwc_conv(r):
    return convolution(r, r.one(1, 3, 3, 8, 21, 70), r.one(1, 5, 16, 33, 64), 1)


def image(r):
    """The caller's NCHW image of few channels."""
    (x, *rest), attrs = convolution(r, r.int(1, 4), r.one(1, 16, 33, 64), 1)
    return [np.ascontiguousarray(x.transpose(0, 3, 1, 2)), *rest], attrs | {"layout": "nchw"}


def winograd(r):
    """3x3 windows of stride 1 in tiles of 2x2 and 4x4, whatever their size."""
    n, h, w, c, o = r.int(1, 2), r.int(1, 17), r.int(1, 17), r.one(1, 5, 16, 33), r.one(1, 8, 17, 40)
    pads = r.one([1, 1, 1, 1], [r.int(0, 2) for _ in range(4)], [2, 2, 2, 2])
    if h + pads[0] + pads[2] < 3 or w + pads[1] + pads[3] < 3:
        return winograd(r)
    y, kind = (n, h + pads[0] + pads[2] - 2, w + pads[1] + pads[3] - 2, o), r.weight_type()
    x = r(n, h, w, c) / (8 * c) ** 0.5  # results of order 1: rounding errors are those of the sums, before a clip
    return ([x.astype("float32"), const(r(o, 3, 3, c, dtype=kind), kind), const(r.some(r(o))), r.some(r(*y))],
            {"pads": pads, "winograd": r.one(2, 4)} | r.act())


def grouped(r):
    group = r.int(2, 4)
    return convolution(r, group * r.one(2, 3, 9), group * r.one(1, 4, 17), group)


def depthwise(r):
    c = r.one(2, 5, 16, 33, 64)
    return convolution(r, c, c * r.one(1, 1, 1, 2, 3), c)


def nhwc_conv_transpose(r):
    h, w, kh, kw, attrs = window(r, transposed=True)
    group = r.one(1, 1, 2)
    c, o = group * r.one(1, 3, 8, 20), group * r.one(1, 4, 17)
    attrs["output_padding"] = [r.int(0, max(s, d) - 1) for s, d in zip(attrs["strides"], attrs["dilations"])]
    kind = r.weight_type()
    return ([r(r.int(1, 2), h, w, c), const(r(o, kh, kw, c // group, dtype=kind), kind), const(r.some(r(o)))],
            attrs | {"group": group} | r.act())


def pool(r, dtype):
    h, w, kh, kw, attrs = window(r)
    return [r(r.int(1, 2), h, w, r.one(1, 3, 16, 37, 70), dtype=dtype)], attrs | {"kernel": [kh, kw]}


def nhwc_max_pool(r):
    return pool(r, r.one("float32", "int8", "uint8"))


def nhwc_avg_pool(r):
    inputs, attrs = pool(r, "float32")
    kernel, d = attrs["kernel"], attrs["dilations"]
    # no window lies in the pads alone: its mean would be 0 / 0
    attrs["pads"] = [min(p, d[i % 2] * (kernel[i % 2] - 1)) if d[i % 2] == 1 else 0 for i, p in enumerate(attrs["pads"])]
    if any(out(inputs[0].shape[1 + i], kernel[i], 1, attrs["pads"][i], attrs["pads"][i + 2], d[i]) < 1 for i in (0, 1)):
        return nhwc_avg_pool(r)
    attrs["include"] = r.one([0, 0, 0, 0], attrs["pads"], [p // 2 for p in attrs["pads"]])
    return inputs, attrs


SWEEPS = {"linear": linear, "linear of activations": linear_of_activations, "matmul": matmul, "nhwc_conv": nhwc_conv,
          "nhwc_conv image": image, "nhwc_conv winograd": winograd, "nhwc_conv grouped": grouped,
          "nhwc_conv depthwise": depthwise,
          "nhwc_conv_transpose": nhwc_conv_transpose,
          "nhwc_max_pool": nhwc_max_pool, "nhwc_avg_pool": nhwc_avg_pool}


class const:
    """Marks an input as a constant, of `dtype` in the file. const(None) stays an absent input."""

    def __init__(self, data, dtype="float32"):
        self.data, self.dtype = data, dtype


def build(op, inputs, attrs):
    """A file with that one node, what feeds it, and its meaning in float64."""
    wide = [None if x is None else torch.from_numpy(np.asarray(x)) for x in
            (x.data if isinstance(x, const) else x for x in inputs)]
    wide = [x.double() if x is not None and x.is_floating_point() else x for x in wide]
    want = OPS[op].fn(*wide, **attrs)
    values, feeds = [], {}
    for i, x in enumerate(inputs):
        if x is None or (isinstance(x, const) and x.data is None):
            values.append(None)
        elif isinstance(x, const):
            values.append(constant(f"w{i}", x.data))
            values[-1].dtype = x.dtype
        else:
            values.append(Value(f"x{i}", x.dtype.name, x.shape))
            feeds[f"x{i}"] = x
    dtype = "float32" if want.is_floating_point() else str(want.dtype).removeprefix("torch.")
    y = Value("y", dtype, tuple(want.shape))
    graph = Graph([v for v in values if v is not None and v.data is None], [y], [Node(op, values, [y], attrs, "node")])
    plan(graph)
    return to_bytes(graph), feeds, want.numpy()


def check(op, inputs, attrs):
    file, feeds, want = build(op, inputs, attrs)
    shapes = [None if x is None else getattr(x.data if isinstance(x, const) else x, "shape", None) for x in inputs]
    for word in WORDS:
        session = kernels.Session(file, isa=word)
        got = session.run(feeds)["y"]
        what = f"{op} on {word}: {shapes} {attrs}"
        assert got.shape == want.shape, what
        if got.dtype.kind == "f" and got.size:
            finite = np.isfinite(want)  # a window in the pads alone has the maximum -inf
            assert (got[~finite] == want[~finite]).all(), what
            scale = max(1.0, np.abs(want[finite]).max(initial=0))
            worst = np.abs(got[finite] - want[finite]).max(initial=0)
            assert worst <= 1e-5 * scale, f"{what}: off by {worst:.3g}"
        else:
            assert (got == want).all(), what
        two = kernels.Session(file, isa=word, threads=2).run(feeds)["y"]
        assert got.tobytes() == two.tobytes(), f"{what}: 2 threads give other bytes"


@pytest.mark.parametrize("sweep", SWEEPS)
def test_sweep(sweep):
    for case in range(CASES):
        r = Rng([zlib.crc32(sweep.encode()), case])
        inputs, attrs = SWEEPS[sweep](r)
        check(sweep.split()[0], inputs, attrs)


@pytest.mark.parametrize("act", ACTS)
def test_activations(act):
    r = Rng(1)
    check("linear", [r(5, 8) * 3, const(r(40, 8)), const(r(40)), r(5, 40)], {"act": act, "alpha": 0.3, "beta": 0.6})
    check("nhwc_conv", [r(1, 5, 5, 20) * 3, const(r(20, 3, 3, 1)), const(r(20)), None],
          {"group": 20, "act": act, "alpha": 0.3, "beta": 0.6})


@pytest.mark.parametrize("op,inputs,attrs", [
    ("linear", [(0, 5), (7, 5), (7,), None], {}),
    ("linear", [(4, 0), (7, 0), (7,), None], {"act": "relu"}),
    ("linear", [(4, 5), (0, 5), None, None], {}),
    ("matmul", [(0, 5), (5, 7)], {}),
    ("matmul", [(3, 0), (0, 7)], {}),
    ("matmul", [(2, 0, 4), (2, 4, 3)], {}),
    ("nhwc_conv", [(0, 5, 5, 3), (4, 3, 3, 3), (4,), None], {}),
    ("nhwc_max_pool", [(0, 5, 5, 3)], {"kernel": [3, 3]}),
    ("nhwc_max_pool", [(2, 5, 5, 0)], {"kernel": [3, 3]}),
], ids=str)
def test_empty(op, inputs, attrs):
    r = Rng(2)
    args = [None if s is None else const(r(*s)) if i in (1, 2) and op != "matmul" else r(*s) for i, s in enumerate(inputs)]
    check(op, args, attrs)


@pytest.mark.parametrize("m,n,k", [(1, 1000, 1280), (50, 512, 2048), (196, 96, 600)])
def test_blocking(m, n, k):
    """Weights of several cache blocks, and rows that end in every kind of tile."""
    r = Rng(3)
    check("linear", [r(m, k), const(r(n, k)), const(r(n)), None], {"act": "relu"})


def test_large_windows():
    """More taps than a table on the stack holds."""
    r = Rng(4)
    check("nhwc_conv", [r(1, 40, 40, 16), const(r(6, 19, 19, 16)), None, None], {"pads": [9, 9, 9, 9], "strides": [7, 7]})
    check("nhwc_conv", [r(1, 40, 40, 6), const(r(6, 37, 33, 1)), None, None],
          {"pads": [9, 9, 9, 9], "strides": [3, 3], "group": 6})
    check("nhwc_avg_pool", [r(1, 40, 40, 6)], {"kernel": [40, 40]})


@pytest.mark.parametrize("op,shapes,attrs,reason", [
    ("linear", [(3, 5), (7, 4)], {}, "columns"),
    ("linear", [(3, 5), (7, 5), (6,)], {}, "bias"),
    ("linear", [(3, 5), (7, 5), None, (3, 6)], {}, "residual"),
    ("linear", [(3, 5), (7, 5)], {"act": "swish"}, "act"),
    ("matmul", [(3, 5), (4, 7)], {}, "inner"),
    ("nhwc_conv", [(1, 5, 5, 4), (4, 3, 3, 3)], {}, "channels per group"),
    ("nhwc_conv", [(1, 5, 5, 4), (4, 3, 3, 4)], {"strides": [0, 1]}, "out of range"),
    ("nhwc_conv", [(1, 5, 5, 4), (4, 3, 3, 4)], {"group": 3}, "groups"),
    ("nhwc_conv", [(1, 5, 5, 4), (4, 3, 3, 4)], {"pads": [1, 1, 1]}, "pads"),
    ("nhwc_conv", [(1, 2, 5, 4), (4, 3, 3, 4)], {}, "height"),
    ("nhwc_conv", [(1, 4, 5, 5), (4, 3, 3, 4)], {"layout": "ncwh"}, "layout"),
    ("nhwc_conv", [(1, 5, 5, 4), (4, 3, 3, 4)], {"winograd": 3}, "winograd"),
    ("nhwc_conv", [(1, 5, 5, 5), (4, 3, 3, 5)], {"layout": "nchw"}, "few channels"),
    ("nhwc_max_pool", [(1, 5, 5, 4)], {"kernel": [3]}, "kernel"),
    ("nhwc_avg_pool", [(1, 5, 5, 4)], {"kernel": [3, 3], "include": [-1, 0, 0, 0]}, "include"),
])
def test_refusals(op, shapes, attrs, reason):
    """Shapes and attributes that do not fit are a status with a reason, whatever the output claims to be."""
    values = [None if s is None else constant(f"w{i}", np.ones(s, np.float32)) if i else Value("x", "float32", s)
              for i, s in enumerate(shapes)]
    y = Value("y", "float32", (3, 7) if len(shapes[0]) == 2 else (1, 3, 3, 4))
    graph = Graph([values[0]], [y], [Node(op, values, [y], attrs, "node")])
    plan(graph)
    with pytest.raises(kernels.EngineError, match=reason):
        kernels.Session(to_bytes(graph))
