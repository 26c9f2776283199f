"""Every op that has an engine runner, run by the engine and compared with its meaning in torch.

A case is an op, its inputs as arrays (None where absent) and its attributes: the example of its row in OPS, and the
further ones of CASES. It becomes a graph of one node, in the form the engine takes, with every input that may vary an
input of the graph; what the engine answers on each ISA is compared with torch.
"""
from __future__ import annotations

import numpy as np
import pytest
import torch
from mcc.kernels import Session, isa, ops
from mcc.passes.graph import Graph, Node, Value
from mcc.passes.lower.emit import to_bytes
from mcc.passes.lower.engine import engine_form
from mcc.passes.lower.plan import plan
from mcc.passes.ops import OPS, call, sample

# Ops without a runner: lowering folds them away or says them in other ops.
FOLDED = {"shape", "size", "range", "constant_of_shape", "eye_like", "dropout"}
REWRITTEN = {"squeeze", "unsqueeze", "flatten", "conv", "conv_transpose", "max_pool", "average_pool", "lp_pool",
             "global_average_pool", "global_max_pool", "global_lp_pool", "einsum", "gemm", "fake_quantize", "qlinear_conv",
             "qlinear_matmul", "conv_integer"}
WORDS = [w for w in (None, "avx2", "c") if w in (None, "c") or w in isa().split()]
ENGINE = set(ops())


def tensor(a):
    return None if a is None else torch.from_numpy(np.array(a))


def build(op, inputs, attrs, outputs, fixed):
    """The one-node graph, its feeds, and the file; inputs numbered in `fixed` are constants."""
    values, feeds = [], {}
    for i, a in enumerate(inputs):
        if a is None:
            values.append(None)
            continue
        a = np.asarray(a)
        v = Value(f"x{i}", a.dtype.name, a.shape, a if i in fixed else None)
        if i not in fixed:
            feeds[v.name] = np.array(a, order="C")
        values.append(v)
    results = [Value(f"y{i}", str(t.dtype).removeprefix("torch."), tuple(t.shape)) for i, t in enumerate(outputs)]
    if not feeds:  # a graph must have an input
        feeds["unused"] = np.zeros(1, "float32")
        values.append(None)
    graph = Graph([v for v in values if v is not None and v.data is None] or [Value("unused", "float32", (1,))],
                  results, [Node(op, [v for v in values], results, dict(attrs), name=op)])
    if "unused" in feeds:
        graph.nodes[0].inputs.pop()
    plan(graph)
    return feeds, to_bytes(engine_form(graph))


def meaning(op, inputs, attrs, outputs=None):
    if outputs is not None:
        return call(op, [tensor(a) for a in inputs], attrs, outputs)
    result = OPS[op].fn(*[tensor(a) for a in inputs], **attrs)
    return result if isinstance(result, tuple) else (result,)


def check(op, inputs, attrs, outputs=None, fixed=None, rtol=2e-5, atol=2e-5):
    want = meaning(op, inputs, attrs, outputs)
    static = set(OPS[op].static) | (set(fixed) if fixed else set())
    feeds, file = build(op, inputs, attrs, want, static)
    for word in WORDS:
        got = Session(file, isa=word).run(feeds)
        for i, w in enumerate(want):
            compare(got[f"y{i}"], w, rtol, atol, f"{op} {attrs} output {i} isa {word}",
                    ties=op == "resize" and attrs.get("mode", "nearest") != "nearest")


def compare(got, want, rtol, atol, text, ties=False):
    """ties: integers may be one apart, where what is rounded lies in the middle but for rounding errors of its own."""
    want = want.float().numpy() if want.dtype == torch.bfloat16 else want.numpy()
    assert got.shape == want.shape, text
    if want.dtype.kind in "f":
        half = want.dtype == np.float16
        np.testing.assert_allclose(got, want, rtol=2e-3 if half else rtol, atol=2e-3 if half else atol, err_msg=text)
    elif ties:
        assert abs(got.astype("int64") - want).max() <= 1 and (got != want).mean() < 0.05, text
    else:
        np.testing.assert_array_equal(got, want, err_msg=text)


@pytest.mark.parametrize("op", sorted(ENGINE & set(OPS)))
def test_example(op):
    for seed in range(3):
        inputs, attrs = sample(op, seed)
        if not op.startswith(("nhwc_", "q", "dq")):  # those pack their weights
            check(op, inputs, attrs)
        if len(inputs) > 1:
            check(op, inputs, attrs, fixed=range(1, len(inputs)))


# --- further cases: types, shapes, modes ------------------------------------------------------------------------

RNG = np.random.default_rng(5)
FLOATS = ("float32", "float64", "float16")
INTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def normal(*shape, dtype="float32", scale=1.0):
    """Normal values; of an integer type whole ones (torch computes uint64 in int64, so unsigned ones stay small)."""
    a = np.asarray(RNG.standard_normal(shape) * scale)
    kind = np.dtype(dtype).kind
    return (np.clip(abs(a) if kind == "u" else a, -3, 3) * 30).astype(dtype) if kind in "iu" else a.astype(dtype)


def whole(*shape, lo, hi, dtype="int64"):
    return RNG.integers(lo, hi, shape).astype(dtype)


def eltwise_cases():
    for dtype in FLOATS:
        for op in ("relu", "tanh", "sigmoid", "gelu", "erf", "exp", "silu", "softplus", "mish", "hard_swish", "floor", "round"):
            yield op, [normal(3, 301, dtype=dtype, scale=3)], {}
        yield "clip", [normal(257, dtype=dtype), np.array(-0.5, dtype), np.array(0.25, dtype)], {}
    for dtype in INTS:
        for op in ("abs", "sign") + (() if dtype[0] == "u" else ("neg", "relu")):
            yield op, [normal(77, dtype=dtype)], {}
        yield "clip", [normal(77, dtype=dtype), np.array(3, dtype), np.array(20, dtype)], {}
    for dtype in FLOATS + INTS:
        a, b = normal(2, 1, 37, dtype=dtype), normal(5, 1, dtype=dtype)
        for op in ("add", "sub", "mul", "min", "max", "equal", "greater", "less_or_equal"):
            yield op, [a, b], {}
        small = (np.abs(b.astype("float64")) + 1).astype(dtype)
        yield "div", [a, small], {}
        yield "mod", [a, small], {"fmod": int(dtype in FLOATS)}
        yield "where", [normal(5, 37) > 0, a, b], {}
        yield "prelu", [a, normal(37, dtype=dtype)], {}
    for shape_a, shape_b in (((4, 5, 6), (6,)), ((4, 5, 6), (4, 1, 1)), ((4, 1, 6), (1, 5, 1)), ((), (3,)), ((3, 0), (1,)),
                             ((1, 7, 7, 19), (1, 1, 1, 19)), ((2, 3, 4, 5, 2), (3, 1, 5, 1)), ((1, 1), (1,))):
        yield "add", [normal(*shape_a), normal(*shape_b)], {}
    for x, gate in (((3, 50, 9, 16), (3, 1, 1, 16)), ((2, 1500, 3), (2, 1, 3)), ((2, 40, 700), (700,))):  # one value per channel
        yield "mul", [normal(*x), normal(*gate)], {}
        yield "sub", [normal(*gate), normal(*x)], {}
        for pair in ([x, gate], [gate, x]):
            yield "qmul", [normal(*shape, dtype="int8") for shape in pair], {"scale": 0.01, "a_zero": 3, "b_zero": -5}
        yield "div", [normal(*shape_b), abs(normal(*shape_a)) + np.float32(1)], {}
    yield "max", [normal(3, 300), normal(300), normal(3, 1), normal(1)], {}
    yield "mean", [normal(3, 300), normal(300), normal(3, 1)], {}
    yield "sum", [normal(5)], {}
    yield "pow", [normal(4, 70), np.float32(2)], {}
    yield "pow", [normal(4, 70, dtype="int32"), np.array([0, 1, 2, 3], "int64").reshape(4, 1)], {}
    yield "pow", [abs(normal(9)), normal(9)], {}
    yield "mod", [normal(99, dtype="int32"), np.int32(-7)], {}
    yield "div", [normal(99, dtype="int32"), np.int32(-7)], {}


def cast_cases():
    for a in FLOATS + INTS + ("bool",):
        x = normal(70, dtype=a) if a != "bool" else normal(70) > 0
        if a.startswith("float"):
            x = np.abs(x * 20).astype(a)
        for b in FLOATS + INTS + ("bool", "bfloat16"):
            yield "cast", [x], {"to": b}
    edge = np.array([0, -0.0, 1e-8, 6e-8, 65504, 65519, 65520, -1e9, np.inf, -np.inf, np.nan, 1.0009765625,
                     1.00146484375], "float32")
    yield "cast", [np.tile(edge, 5)], {"to": "float16"}
    yield "cast", [np.tile(edge, 5)], {"to": "bfloat16"}


def quantize_cases():
    layer = [normal(21, 20, dtype="int8"), normal(70, 20, dtype="int8"), None, abs(normal(70)) * 0.002, normal(21, 70)]
    fixed = (1, 2, 3)
    for act in ("none", "relu", "gelu"):
        yield "qlinear", layer, {"out": "float32", "act": act, "x_zero": 3}, 1, fixed
    yield "qlinear", layer, {"out": "codes", "act": "relu", "y_scale": 0.03, "y_zero": -100}, 1, fixed
    clip = {"act": "clip", "alpha": -1.5, "beta": 2.5}
    yield "qlinear", layer[:4], {"out": "codes", **clip, "y_scale": 0.03, "y_zero": 5}, 1, fixed
    for kind in ("int8", "uint8", "int16", "uint16"):
        x, zero = normal(3, 50, scale=9), np.array(7, kind)
        yield "quantize_linear", [x, np.float32(0.1), zero], {}
        yield "dequantize_linear", [whole(3, 50, lo=0, hi=120, dtype=kind), np.float32(0.1), zero], {}
        yield "quantize_linear", [x, np.abs(normal(50)) + np.float32(0.05), whole(50, lo=0, hi=9, dtype=kind)], {"axis": -1}
        codes, zeros = whole(3, 50, lo=0, hi=99, dtype=kind), whole(3, lo=0, hi=9, dtype=kind)
        yield "dequantize_linear", [codes, np.abs(normal(3)), zeros], {"axis": 0}
        codes = whole(3, 10, lo=0, hi=99, dtype=kind)
        yield "dequantize_linear", [codes, np.abs(normal(3, 4)), None], {"axis": 1, "block_size": 3}
    yield "dequantize_linear", [whole(3, 50, lo=-9999, hi=9999, dtype="int32"), np.float32(0.1), None], {}
    yield "dynamic_quantize_linear", [np.zeros((2, 9), "float32")], {}
    yield "dynamic_quantize_linear", [normal(40, 50) + np.float32(3)], {}


def norm_cases():
    reductions = [op for op in sorted(OPS) if op.startswith("reduce_")]
    for op in reductions:
        positive = np.abs if "log_sum" in op else lambda a: a
        for shape, axes in (((2, 7, 9, 33), [1, 2]), ((3, 1100), [1]), ((5, 70, 6), [0]), ((5, 70, 6), [0, 2]), ((4, 5), []),
                            ((2, 3, 4, 5), [0, 2]), ((6,), [0])):
            yield op, [positive(normal(*shape, scale=0.5)), np.array(axes, "int64")], {"keepdims": len(axes) % 2}
        whole_too = ("reduce_sum", "reduce_max", "reduce_min", "reduce_l1", "reduce_sum_square", "reduce_mean")
        for dtype in ("float64", "float16", "int32"):
            if dtype != "int32" or op in whole_too:
                yield op, [positive(normal(4, 6, 5, dtype=dtype)), np.array([1], "int64")], {}
    for op in ("softmax", "log_softmax"):
        for shape, axis in (((5, 130), -1), ((3, 40, 70), 1), ((2, 7), 0), ((4, 1), 1), ((3, 1000), -1)):
            yield op, [normal(*shape, scale=5)], {"axis": axis}
        yield op, [normal(3, 8, dtype="float64")], {"axis": 0}
    for op in ("arg_max", "arg_min"):
        for last in (0, 1):
            yield op, [whole(6, 40, 3, lo=0, hi=9).astype("float32")], {"axis": 1, "select_last_index": last, "keepdims": last}
        yield op, [whole(6, 40, lo=0, hi=9, dtype="uint8")], {"axis": -1}
    for largest in (0, 1):
        yield "top_k", [whole(3, 40, 2, lo=0, hi=30).astype("float32"), np.array([9])], {"axis": 1, "largest": largest}
        yield "top_k", [normal(50, dtype="int32"), np.array([50])], {"largest": largest}
    yield "cum_sum", [normal(3, 20, 4), np.int64(1)], {"reverse": 1}
    yield "cum_sum", [normal(3, 20, 4, dtype="int32"), np.int64(-3)], {"exclusive": 1}
    for n in (1, 7, 64, 1300):
        yield "layer_norm", [normal(5, n), normal(n), normal(n)], {}
        yield "rms_norm", [normal(5, n), normal(n)], {}
    yield "layer_norm", [normal(3, 4, 5), normal(4, 5)], {"axis": 1}
    yield "layer_norm", [normal(3, 40, dtype="float64"), normal(40, dtype="float64"), None], {}
    yield "batch_norm", [normal(6, 5), normal(5), normal(5), normal(5), np.abs(normal(5)) + np.float32(0.1)], {}
    yield "instance_norm", [normal(2, 3, 41), normal(3), normal(3)], {}
    yield "group_norm", [normal(2, 6, 5, 5), normal(6), normal(6)], {"num_groups": 2}
    yield "group_norm", [normal(2, 6), normal(6), normal(6)], {"num_groups": 2}
    yield "lp_norm", [normal(3, 9, 2)], {"axis": 1, "p": 1}


def move_cases():
    for dtype in ("float32", "int8", "float16", "int64"):
        for shape, perm in (((70, 90), [1, 0]), ((2, 5, 6, 7), [0, 2, 3, 1]), ((2, 67, 9, 33), [0, 3, 1, 2]),
                            ((3, 4, 5), [1, 0, 2]), ((3, 4, 5), [2, 1, 0]), ((2, 3, 4, 5, 6), [4, 1, 3, 0, 2]),
                            ((1, 8, 1, 9), [3, 2, 1, 0]), ((5,), [0]), ((4, 0, 2), [2, 0, 1])):
            yield "transpose", [normal(*shape, dtype=dtype)], {"perm": perm}
    for dtype in ("float32", "uint8"):
        x = normal(9, 11, 4, dtype=dtype)
        yield "slice", [x, np.array([8, 1]), np.array([-100, 11]), np.array([0, 1]), np.array([-3, 4])], {}
        yield "slice", [x, np.array([2]), np.array([2]), np.array([1])], {}
        yield "slice", [x, np.array([1, 0]), np.array([5, 2]), np.array([1, 2])], {}
        yield "expand", [normal(1, 5, 1, dtype=dtype), np.array([2, 3, 1, 7])], {}
        yield "tile", [normal(2, 3, 4, dtype=dtype), np.array([2, 1, 3])], {}
        yield "tile", [normal(2, 3, dtype=dtype), np.array([1, 1])], {}
        yield "concat", [normal(2, 3, 4, dtype=dtype), normal(2, 1, 4, dtype=dtype), normal(2, 0, 4, dtype=dtype)], {"axis": -2}
        yield "channel_shuffle", [normal(7, 5, 58, dtype=dtype)] * 2, {"groups": 2, "sizes": [58, 0, 58]}
        yield "channel_shuffle", [normal(9, 24, dtype=dtype)], {"groups": 3, "sizes": [24]}
        yield "channel_shuffle", [normal(4, 2, 5, dtype=dtype), normal(4, 2, 0, dtype=dtype), normal(4, 2, 7, dtype=dtype)], {
            "groups": 2, "sizes": [3, 9]}
        for mode in ("constant", "reflect", "edge", "wrap"):
            yield "pad", [normal(2, 5, 6, dtype=dtype), np.array([0, 2, -1, 0, 3, 4]), np.array(3, dtype)], {"mode": mode}
            yield "pad", [normal(2, 5, 6, dtype=dtype), np.array([1, 0, 0, 1, -2, 0]), None], {"mode": mode}
        yield "trilu", [normal(3, 5, 8, dtype=dtype), np.array(-1)], {"upper": 1}
        yield "trilu", [normal(8, 5, dtype=dtype), np.array(2)], {"upper": 0}
        for mode in ("DCR", "CRD"):
            yield "depth_to_space", [normal(2, 12, 3, 5, dtype=dtype)], {"blocksize": 2, "mode": mode}
            yield "nhwc_depth_to_space", [normal(2, 3, 5, 18, dtype=dtype)], {"blocksize": 3, "mode": mode}
    yield "gather", [normal(9, 4), whole(3, 2, lo=-9, hi=9, dtype="int32")], {"axis": 0}
    yield "gather", [normal(3, 9, 4), np.array(-1)], {"axis": 1}
    yield "gather", [normal(3, 9), whole(5, lo=-9, hi=9)], {"axis": -1}
    yield "gather_nd", [normal(4, 5, 6), whole(7, 3, lo=-4, hi=4)], {}
    yield "gather_nd", [normal(4, 5, 6), whole(4, 2, 1, lo=-5, hi=5)], {"batch_dims": 1}
    for reduction in ("none", "add", "mul", "max", "min"):
        at = np.stack([RNG.permutation(6)[:4] for _ in range(3)])
        yield "scatter_elements", [normal(3, 6), at, normal(3, 4)], {"axis": 1, "reduction": reduction}
        yield "scatter_nd", [normal(6, 3), RNG.permutation(6)[:4].reshape(2, 2, 1), normal(2, 2, 3)], {"reduction": reduction}
    x, added = normal(3, 6, dtype="int32"), normal(3, 4, dtype="int32")
    yield "scatter_elements", [x, whole(3, 4, lo=0, hi=6), added], {"axis": 1, "reduction": "add"}
    yield "one_hot", [whole(3, 4, lo=-7, hi=7), np.array([5]), np.array([1, 9], "int32")], {"axis": 1}


TRANSFORMS = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric", "tf_crop_and_resize")


def resize_cases():
    roi = np.array([0, 0, 0.1, -0.2, 1, 1, 0.8, 1.3], "float32")
    for transform in TRANSFORMS:
        extra = {"coordinate_transformation_mode": transform, "extrapolation_value": 2.5}
        r = roi if transform == "tf_crop_and_resize" else None
        for size in ([1, 3, 9, 4], [1, 3, 3, 11], [1, 3, 1, 7]):
            for mode in ("nearest", "linear", "cubic"):
                yield "resize", [normal(1, 3, 6, 7), r, None, np.array(size)], {"mode": mode, **extra}
        yield "resize", [normal(1, 4, 5, 3), r, np.array([1, 1.7, 0.6, 1], "float32")], {"mode": "linear", **extra}
    for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        yield "resize", [normal(5, 8, dtype="uint8"), None, None, np.array([8, 20])], {"nearest_mode": nearest}
    yield "resize", [normal(5, 8), None, None, np.array([8, 20])], {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5}
    yield "resize", [whole(2, 6, 7, lo=0, hi=255, dtype="uint8"), None, None, np.array([2, 9, 13])], {"mode": "linear"}
    yield "resize", [normal(2, 6, 7, dtype="float64"), None, None, np.array([2, 9, 13])], {"mode": "cubic"}
    yield "resize", [normal(2, 3, 4, 5), None, np.array([1, 2, 2, 2], "float32")], {"mode": "linear"}


def attention_cases():
    q, k, v = normal(2, 4, 9, 20), normal(2, 2, 13, 20), normal(2, 2, 13, 33)
    past = [normal(2, 2, 6, 20), normal(2, 2, 6, 33)]
    yield "attention", [q, k, v], {}, 1
    yield "attention", [q, k, v, normal(9, 13)], {"scale": 0.3, "softcap": 2.0}, 3
    yield "attention", [q, k, v, normal(2, 1, 9, 13) > 0], {"is_causal": 1}, 1
    yield "attention", [q, k, v, np.zeros((9, 13), bool)], {}, 1
    yield "attention", [q, k, v, normal(9, 11)], {}, 1
    yield "attention", [q, k, v, None, *past], {"is_causal": 1}, 3
    yield "attention", [q, k, v, normal(1, 4, 1, 19), *past], {}, 1
    yield "attention", [q, k, v, None, None, None, np.array([13, 5])], {"is_causal": 1}, 1
    for mode in range(4):
        yield "attention", [q, k, v, normal(9, 13) > -1], {"qk_matmul_output_mode": mode, "softcap": 3.0, "is_causal": 1}, 4
    yield "attention", [normal(2, 5, 4 * 16), normal(2, 7, 2 * 16), normal(2, 7, 2 * 8)], {"q_num_heads": 4, "kv_num_heads": 2}, 3
    yield "attention", [normal(1, 200, 64), normal(1, 200, 64), normal(1, 200, 64)], {"q_num_heads": 1, "kv_num_heads": 1}, 1
    yield "attention", [q, q, q], {"left_window_size": 2, "right_window_size": 1}, 1
    yield "attention", [normal(1, 1, 1, 64), normal(1, 1, 1, 64), normal(1, 1, 1, 64)], {}, 1
    yield "attention", [normal(1, 3, 1, 26), normal(1, 1, 40, 26), normal(1, 1, 40, 70)], {}, 1  # few queries
    q, k, v = normal(1, 4, 210, 26), normal(1, 2, 530, 26), normal(1, 2, 530, 26)  # keys in several chunks
    past = [normal(1, 2, 75, 26), normal(1, 2, 75, 26)]
    low = np.where(normal(210, 530) > 0.5, np.float32(-3.4e38), normal(210, 530))
    low[7], low[8] = -3.4e38, -np.inf
    yield "attention", [q, k, v], {"scale": 3.0}, 1
    yield "attention", [q, k, v, low], {}, 1
    yield "attention", [q, k, v, normal(1, 4, 210, 605) > 0, *past], {"is_causal": 1}, 3
    yield "attention", [q, k, v, None, *past], {"left_window_size": 40, "right_window_size": 3}, 1
    yield "attention", [q, k, v, None, None, None, np.array([300])], {"is_causal": 1, "softcap": 4.0}, 1
    yield "attention", [q, k, v, normal(210, 530) > 0], {"qk_matmul_output_mode": 3}, 4


def rnn_cases():
    seq, batch, size, h = 5, 3, 7, 9
    for op, gates in (("lstm", 4), ("gru", 3), ("rnn", 1)):
        for direction, dirs in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
            for layout in (0, 1):
                x = normal(batch, seq, size) if layout else normal(seq, batch, size)
                first = normal(*((batch, dirs) if layout else (dirs, batch)), h)
                inputs = [x, normal(dirs, gates * h, size), normal(dirs, gates * h, h), normal(dirs, 2 * gates * h),
                          np.array([5, 2, 0], "int32"), first]
                inputs += [first * 2, normal(dirs, 3 * h)] if op == "lstm" else []
                yield op, inputs, {"direction": direction, "layout": layout, "hidden_size": h}
        plain = [normal(seq, batch, size), normal(1, gates * h, size), normal(1, gates * h, h)]
        yield op, plain, {"hidden_size": h, "clip": 0.3}
        names = {"lstm": ["HardSigmoid", "Relu", "Softsign"], "gru": ["Sigmoid", "LeakyRelu"], "rnn": ["Affine"]}[op]
        yield op, plain, {"hidden_size": h, "activations": names, "activation_alpha": [0.3], "activation_beta": [0.4]}
        wide = [normal(2, 1, 100), normal(1, gates * 130, 100, scale=0.1), normal(1, gates * 130, 130, scale=0.1)]
        yield op, wide, {"hidden_size": 130}
    yield "lstm", [normal(4, 1, 3), normal(1, 20, 3), normal(1, 20, 5)], {"hidden_size": 5, "input_forget": 1}
    yield "gru", [normal(4, 1, 3), normal(1, 15, 3), normal(1, 15, 5)], {"hidden_size": 5, "linear_before_reset": 1}


FAMILIES = (eltwise_cases, cast_cases, quantize_cases, norm_cases, move_cases, resize_cases, attention_cases, rnn_cases)
CASES = [c for cases in FAMILIES for c in cases()]


@pytest.mark.parametrize("op", sorted({c[0] for c in CASES}))
def test_cases(op):
    for name, inputs, attrs, *outputs in CASES:
        if name == op:
            check(name, inputs, attrs, *outputs, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("x_type", ["float32", "int8"])
@pytest.mark.parametrize("case", range(24))
def test_int8_images(x_type, case):
    """First layers: NCHW and NHWC images of few channels, quantized on the way in when they are float32; the same bytes."""
    r = np.random.default_rng(case)
    c, o = int(r.integers(1, 5)), int(r.choice([3, 16, 33, 70]))
    kh, kw = ((1, 1), (3, 3), (7, 7), (2, 5), (5, 3), (10, 4))[case % 6]
    h, w, dilation = int(r.integers(kh * 2, 30)), int(r.integers(kw * 2, 40)), int(r.choice([1, 1, 2]))
    attrs = {"strides": [int(s) for s in r.integers(1, 4, 2)], "pads": [int(p) for p in r.integers(0, 4, 4)],
             "dilations": [dilation, 1 if kw > 4 else dilation], "x_zero": int(r.integers(-9, 9)), "y_zero": 4,
             "layout": ("nchw", "nhwc")[int(r.integers(0, 2))]}
    shape = (2, c, h, w) if attrs["layout"] == "nchw" else (2, h, w, c)
    x = r.integers(-128, 128, shape).astype("int8")
    if x_type == "float32":
        attrs["x_scale"] = 0.25 if case % 2 else float(np.float32(0.0173))
        x = (x * np.float32(attrs["x_scale"] * 1.1)).astype("float32")  # some are cut off, and some are in the middle
    inputs = [x, r.integers(-127, 128, (o, kh, kw, c)).astype("int8"), r.integers(-500, 500, o).astype("int32"),
              (r.random(o) * 0.01 + 0.001).astype("float32")]
    check("nhwc_qconv", inputs, attrs, fixed=range(1, 4))


@pytest.mark.parametrize("case", range(16))
def test_int8_depthwise_to_float32(case):
    """By rows where the window is a usual one, by products where it is not: the same numbers, to the bit."""
    r = np.random.default_rng(case)
    k, stride, c, n = (3, 5, 3, 2)[case % 4], int(r.integers(1, 3)), int(r.choice([2, 7, 16, 33, 100])), int(r.integers(1, 3))
    h, w, act = int(r.integers(k, 20)), int(r.integers(k, 24)), str(r.choice(["none", "relu", "clip"]))
    attrs = {"strides": [stride] * 2, "pads": [int(p) for p in r.integers(0, k, 4)], "group": c, "act": act, "alpha": -0.5,
             "beta": 2.0}
    shape = [n, *((d + attrs["pads"][i] + attrs["pads"][i + 2] - k) // stride + 1 for i, d in enumerate((h, w))), c]
    weight, scale = r.integers(-127, 128, (c, k, k, 1)).astype("int8"), (r.random(c) * 0.01 + 0.001).astype("float32")
    residual = r.standard_normal(shape).astype("float32") if case % 3 == 0 else None
    x = r.standard_normal((n, h, w, c)).astype("float32")
    codes, bias = (x * 40).round().clip(-128, 127).astype("int8"), r.integers(-500, 500, c).astype("int32")
    check("nhwc_qconv", [codes, weight, bias, scale, residual], attrs | {"x_zero": int(r.integers(-9, 9)), "out": "float32"},
          fixed=range(1, 4), rtol=0, atol=0)
    inputs = [x, weight, scale, r.standard_normal(c).astype("float32"), residual]
    check("nhwc_dqconv", inputs, attrs, fixed=range(1, 4), rtol=0, atol=0)


def inverted_residual(rng, h, w, c, wide, o, k, stride, expand=True, n=1, pads=None):
    """Inputs and attributes of nhwc_inverted_residual and of nhwc_qinverted_residual."""
    pads = [k // 2] * 4 if pads is None else pads
    c = c if expand else wide
    shapes = [((wide, 1, 1, c), wide), ((wide, k, k, 1), wide), ((o, 1, 1, wide), o)]
    size = [(v + pads[i] + pads[i + 2] - k) // stride + 1 for i, v in enumerate((h, w))]
    x, residual = rng.standard_normal((n, h, w, c)).astype("f"), rng.standard_normal((n, *size, o)).astype("f")
    attrs = {"b_strides": [stride, stride], "b_pads": pads, "b_group": wide}
    floats, codes = [x], [(x * 40).round().clip(-128, 127).astype("int8")]
    for i, (shape, count) in enumerate(shapes):
        here = expand or i > 0
        weight = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype("f")
        floats += [weight, rng.standard_normal(count).astype("f")] if here else [None, None]
        table = rng.integers(-128, 128, 256).astype("int8") if i == 1 else None
        scale = rng.uniform(0.5, 2, count) / (90 * np.sqrt(np.prod(shape[1:])))
        codes += [rng.integers(-128, 128, shape).astype("int8"), rng.integers(-5000, 5000, count).astype("int32"),
                  scale.astype("f"), table] if here else [None] * 4
    zeros = {"a_x_zero": 3, "a_y_zero": -7, "b_x_zero": -7 if expand else 3, "b_y_zero": 9, "b_lo": -90, "c_x_zero": 9,
             "c_r_scale": 0.6}
    return ((floats + [residual], attrs | {"a_act": "relu", "b_act": "hard_swish", "c_act": "none"}),
            (codes + [(residual * 40).round().clip(-128, 127).astype("int8")], attrs | zeros))


@pytest.mark.parametrize("case", [
    dict(h=9, w=7, c=5, wide=21, o=6, k=3, stride=1), dict(h=13, w=12, c=16, wide=40, o=24, k=5, stride=2, n=2),
    dict(h=40, w=33, c=8, wide=200, o=12, k=3, stride=1),                              # several strips
    dict(h=65, w=40, c=8, wide=130, o=10, k=5, stride=2, n=2), dict(h=61, w=70, c=8, wide=96, o=9, k=3, stride=1, expand=False),
    dict(h=50, w=50, c=6, wide=64, o=8, k=3, stride=3, pads=[-2, 4, 5, -1]), dict(h=2, w=3, c=6, wide=8, o=8, k=5, stride=1),
    dict(h=30, w=30, c=6, wide=300, o=3, k=2, stride=1, pads=[40, 0, 1, 1]),           # strips of nothing but pads
])
@pytest.mark.parametrize("integer", [0, 1])
def test_blocks_by_strips(case, integer):
    inputs, attrs = inverted_residual(np.random.default_rng(5), **case)[integer]
    constants = [i for i in range(1, len(inputs) - 1)]
    op = "nhwc_qinverted_residual" if integer else "nhwc_inverted_residual"
    check(op, inputs, attrs, fixed=constants, rtol=1e-4, atol=1e-4)


def test_lists_agree():
    assert ENGINE <= set(OPS), f"in ops.def but not in OPS: {sorted(ENGINE - set(OPS))}"
    assert set(OPS) - ENGINE == (FOLDED | REWRITTEN) & set(OPS), \
        f"no runner: {sorted(set(OPS) - ENGINE - FOLDED - REWRITTEN)}; has one after all: {sorted((FOLDED | REWRITTEN) & ENGINE)}"
