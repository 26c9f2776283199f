"""Forms without a kernel: after folding they are other ops, which mean the same."""
import numpy as np
import pytest
import torch
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower.fold import fold
from mcc.passes.ops import sample
from mcc.passes.ops.run import run

CONV = [((2, 4, 7), (6, 2, 3), {"group": 2, "strides": [2], "pads": [1, 2], "dilations": [2]}),
        ((1, 3, 5, 6, 4), (4, 3, 2, 3, 2), {"strides": [1, 2, 1], "pads": [1, 0, 1, 0, 1, 0]}),
        ((2, 4, 7, 6), (6, 2, 3, 3), {"group": 2, "auto_pad": "SAME_LOWER", "strides": [2, 2]})]
TRANSPOSED = [((2, 4, 5, 4), (4, 3, 3, 3), {"strides": [2, 2], "pads": [1, 0, 1, 1], "group": 2, "output_padding": [1, 0]}),
              ((2, 4, 5, 4), (4, 3, 3, 2), {"strides": [3, 2], "dilations": [2, 1]}),
              ((1, 4, 5), (4, 3, 3), {"strides": [3], "auto_pad": "SAME_UPPER"}),
              ((1, 4, 5), (4, 3, 3), {"strides": [3], "auto_pad": "SAME_UPPER", "output_shape": [12]}),
              ((1, 4, 5), (4, 3, 4), {"strides": [3], "output_shape": [13]}),
              ((1, 2, 3, 4, 5), (2, 3, 3, 2, 3), {"strides": [1, 2, 3], "pads": [2, 0, 1, 1, 1, 0]}),
              ((1, 2, 4), (2, 3, 1), {"strides": [2], "pads": [1, 1]})]
EINSUM = [("bij, bjk -> bik", (2, 3, 4), (2, 4, 5)), ("...ii->...i", (3, 4, 4)), ("ij->ji", (3, 4)), ("ij->i", (3, 4)),
          ("i,i", (5,), (5,)), ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)), ("bhwc,hkc->bhwk", (2, 3, 4, 5), (3, 6, 5)),
          ("i,j->ij", (3,), (4,)), ("ab,bc,cd->ad", (2, 3), (3, 4), (4, 5)), ("...ij,...jk->...ik", (1, 7, 3, 4), (2, 1, 4, 5)),
          ("ii", (4, 4)), ("abc,abd->dc", (2, 3, 4), (2, 3, 5)), ("ijk,ijk->", (2, 3, 4), (2, 3, 4)), ("bc,a", (2, 3), (4,))]


def check(op, inputs, attrs, fixed=(), outputs=1, left=()):
    """Folds one node with `inputs` (arrays; those numbered in `fixed` are constants) and compares what it says."""
    values = [None if a is None else constant(f"c{i}", a) if i in fixed else Value(f"x{i}", a.dtype.name, a.shape)
              for i, a in enumerate(inputs)]
    given = {v.name: a for v, a in zip(values, inputs) if v is not None and v.data is None}
    outs = [Value(f"y{i}") for i in range(outputs)]
    graph = Graph([v for v in values if v is not None and v.data is None], outs, [Node(op, values, outs, attrs)])
    want = run(graph, given)
    fold(graph)
    assert not {n.op for n in graph.nodes} & ({op} - set(left))
    got = run(graph, given)
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-5)
    return graph


def draw(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


@pytest.mark.parametrize(("op", "x", "w", "attrs"), [("conv", *c) for c in CONV] + [("conv_transpose", *c) for c in TRANSPOSED])
def test_convolution_over_patches(op, x, w, attrs):
    out = w[0] if op == "conv" else w[1] * attrs.get("group", 1)
    check(op, [draw(*x), draw(*w), draw(out)], attrs)


@pytest.mark.parametrize("case", EINSUM, ids=lambda c: c[0])
def test_einsum(case):
    check("einsum", [draw(*s) for s in case[1:]], {"equation": case[0]})


@pytest.mark.parametrize("op", ["max_pool", "average_pool"])
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("include", [0, 1])
def test_pools_of_3d_images(op, ceil, include):
    attrs = {"kernel_shape": [3, 2, 2], "strides": [2, 1, 2], "pads": [1, 0, 1, 1, 1, 0], "dilations": [1, 2, 1],
             "ceil_mode": ceil, **({"count_include_pad": include} if op == "average_pool" else {})}
    graph = check(op, [draw(2, 3, 6, 7, 5)], attrs, left=[op])
    assert all(len(n.inputs[0].shape) == 4 for n in graph.nodes if n.op == op)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 6, 7), (1, 2, 5, 6, 4)])
def test_max_pool_with_indices(shape, order):
    n = len(shape) - 2
    attrs = {"kernel_shape": [2] * n, "strides": [2] * n, "pads": [1] * n + [0] * n, "ceil_mode": 1, "storage_order": order,
             "dilations": [2] + [1] * (n - 1)}
    check("max_pool", [draw(*shape)], attrs, outputs=2)


def test_batch_norm_in_training_mode():
    inputs, attrs = sample("batch_norm")
    check("batch_norm", inputs, {**attrs, "training_mode": 1, "momentum": 0.7}, outputs=3)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialiased_resize(mode):
    scales = np.array([1, 1, 0.6, 0.4], "float32")
    check("resize", [draw(1, 2, 9, 10), None, scales], {"mode": mode, "antialias": 1}, fixed=[2])


@pytest.mark.parametrize("op", ["qlinear_conv", "qlinear_matmul"])
def test_quantized_products_with_computed_scales(op):
    inputs, attrs = sample(op)
    check(op, [None if a is None else np.asarray(a) for a in inputs], attrs)


@pytest.mark.parametrize("kind", ["float16", "float64"])
@pytest.mark.parametrize("op", ["linear", "matmul", "max_pool", "lstm"])
def test_other_floats_between_casts(op, kind):
    inputs, attrs = sample(op)
    inputs = [a if a is None or a.dtype != np.float32 else a.astype(kind) for a in inputs]
    values = [None if a is None else Value(f"x{i}", a.dtype.name, a.shape) for i, a in enumerate(inputs)]
    y = Value("y")
    graph = Graph([v for v in values if v is not None], [y], [Node(op, values, [y], attrs)])
    feeds = {f"x{i}": a for i, a in enumerate(inputs) if a is not None}
    want = run(graph, feeds)["y"]
    fold(graph)
    node = next(n for n in graph.nodes if n.op == op)
    assert all(v is None or v.dtype in ("float32", "int32") for v in [*node.inputs, *node.outputs])
    torch.testing.assert_close(run(graph, feeds)["y"], want, rtol=4e-3 if kind == "float16" else 1e-5, atol=4e-3)


def test_shape_only_ops():
    check("eye_like", [draw(3, 4)], {"k": 1}, fixed=[])
    check("space_to_depth", [draw(2, 3, 4, 6)], {"blocksize": 2, "mode": "CRD"})
    check("dropout", [draw(2, 3)], {}, outputs=2)
