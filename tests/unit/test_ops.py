"""The op table: every row by its example (runs, meta shapes, gradients), then what examples do not show."""
import numpy as np
import pytest
import torch
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.ops import OPS, call, sample
from mcc.passes.ops.integer import fake_quantize
from mcc.passes.ops.run import infer, known, run, tensor

# Steps and integers: no gradient, or none that finite differences can see.
STEPS = {"floor", "ceil", "round", "sign", "cast", "quantize_linear", "dynamic_quantize_linear", "eye_like", "range",
         "constant_of_shape", "dropout"}


def tensors(name):
    inputs, attrs = sample(name)
    inputs = [None if v is None else tensor(v) for v in inputs]
    result = OPS[name].fn(*inputs, **attrs)
    return inputs, attrs, len(result) if isinstance(result, tuple) else 1


@pytest.mark.parametrize("name", OPS)
def test_example(name):
    """Runs, says the same twice, and meta tensors give its shapes and dtypes."""
    inputs, attrs, count = tensors(name)
    first, second = call(name, inputs, attrs, count), call(name, inputs, attrs, count)
    meta = call(name, [v if v is None or i in OPS[name].static else v.to("meta") for i, v in enumerate(inputs)], attrs, count)
    for a, b, m in zip(first, second, meta):
        assert torch.equal(a, b) or a.isnan().any()
        assert (m.shape, m.dtype) == (a.shape, a.dtype)
        assert name == "is_inf" or not a.is_floating_point() or a.isfinite().all()


def smooth():
    """Ops with a float input that is no number of the shape rule, and a float output that is no step function of it."""
    integers = ("q", "dq", "nhwc_q", "nhwc_dq", "dequantize")
    for name in OPS:
        inputs, attrs, count = tensors(name)
        floats = [i for i, v in enumerate(inputs) if v is not None and v.is_floating_point() and i not in OPS[name].static]
        if floats and name not in STEPS and not name.startswith(integers) and any(
                y.is_floating_point() for y in call(name, inputs, attrs, count)):
            yield pytest.param(name, floats, id=name)


@pytest.mark.parametrize(("name", "floats"), list(smooth()))
def test_gradient(name, floats):
    """The gradient along a random direction is what a finite difference says, in float64."""
    inputs, attrs, count = tensors(name)
    exact = [v.double() if i in floats else v for i, v in enumerate(inputs)]
    parts = [i for i, y in enumerate(call(name, exact, attrs, count)) if y.dtype == torch.float64]
    gen = torch.Generator().manual_seed(1)
    ways = {i: torch.randn(exact[i].shape, generator=gen, dtype=torch.float64) for i in floats}
    weights = [torch.randn(y.shape, generator=gen, dtype=torch.float64) for y in call(name, exact, attrs, count)]

    def value(step):
        moved = [v + step * ways[i] if i in ways else v for i, v in enumerate(exact)]
        return sum((call(name, moved, attrs, count)[p] * weights[p]).sum() for p in parts)

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    got, = torch.autograd.grad(value(step), step)
    with torch.no_grad():
        want = (value(1e-6) - value(-1e-6)) / 2e-6
    assert got.item() == pytest.approx(want.item(), rel=1e-4, abs=1e-6)


def one(op, *inputs, outputs=1, **attrs):
    result = call(op, [None if v is None else tensor(v) for v in inputs], attrs, outputs)
    return result[0] if outputs == 1 else result


@pytest.mark.parametrize("kind", ["uint16", "uint32", "uint64"])
def test_unsigned(kind):
    a, b = np.array([60000, 5, 7], kind), np.array([10, 3, 7], kind)
    for op, want in {"add": a + b, "sub": a - b, "mul": a * b, "div": a // b, "greater": a > b, "min": np.minimum(a, b),
                     "concat": np.concatenate([a, b]), "bitwise_xor": a ^ b}.items():
        got = one(op, a, b, **({"axis": 0} if op == "concat" else {}))
        np.testing.assert_array_equal(got.numpy(), want, err_msg=op)
        assert got.dtype == tensor(want).dtype
    for direction, want in {"LEFT": a << np.array(3, kind), "RIGHT": a >> np.array(3, kind)}.items():
        np.testing.assert_array_equal(one("bit_shift", a, np.array([3], kind), direction=direction).numpy(), want)


def test_bit_shift_of_the_top_bit():
    x = np.array([2 ** 63 + 5], "uint64")
    for n in (0, 1, 2, 62, 63):
        assert one("bit_shift", x, np.array([n], "uint64"), direction="RIGHT").numpy()[0] == x[0] >> np.uint64(n)


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16"])
def test_quantize_saturates_and_rounds_half_to_even(kind):
    info, zero = np.iinfo(kind), np.array(7, kind)
    x = np.array([-1e9, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1e9], "float32")
    got = one("quantize_linear", x, np.float32(1), zero).numpy()
    want = [info.min, *(max(v + 7, info.min) for v in (-2, -2, 0, 0, 2, 2)), info.max]
    np.testing.assert_array_equal(got, np.array(want, kind))


def test_quantize_blocks():
    x = np.random.default_rng(0).standard_normal((2, 7)).astype("float32")
    scale = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], "float32")
    q = one("quantize_linear", x, scale, axis=1, block_size=3, output_dtype="int8")
    each = np.repeat(scale, 3, 1)[:, :7]
    np.testing.assert_array_equal(q.numpy(), np.rint(x / each).astype("int8"))
    np.testing.assert_array_equal(one("dequantize_linear", q, scale, axis=1, block_size=3).numpy(), q.numpy() * each)


def test_fake_quantize_is_the_pair_with_a_straight_through_gradient():
    r = np.random.default_rng(0)
    x = (r.standard_normal((3, 50)) * 3).astype("float32")
    scale, zero = np.array([0.01, 0.02, 0.05], "float32"), np.array([3, -5, 100], "int8")
    pair = one("dequantize_linear", one("quantize_linear", x, scale, zero, axis=0), scale, zero, axis=0)
    xt, st = tensor(x).requires_grad_(), tensor(scale).requires_grad_()
    fake = fake_quantize(xt, st, tensor(zero), axis=0)
    assert torch.equal(fake.detach(), pair)
    fake.sum().backward()
    codes = np.rint(x / scale[:, None]) + zero[:, None]
    inside = (codes >= -128) & (codes <= 127)
    np.testing.assert_array_equal(xt.grad.numpy() != 0, inside)
    want = np.where(inside, np.rint(x / scale[:, None]) - x / scale[:, None],
                    np.clip(codes, -128, 127) - zero[:, None]).sum(1)  # LSQ, equation 3
    np.testing.assert_allclose(st.grad.numpy(), want, rtol=1e-4, atol=1e-2)


def test_top_k_and_arg_of_equals():
    x = np.array([[2.0, 5.0, 5.0, 1.0, 5.0]], "float32")
    assert one("top_k", x, [3], outputs=2)[1].tolist() == [[1, 2, 4]]
    assert one("top_k", x, [2], outputs=2, largest=0)[1].tolist() == [[3, 0]]
    assert one("arg_max", x, axis=1).tolist() == [[1]]
    assert one("arg_max", x, axis=1, select_last_index=1, keepdims=0).tolist() == [4]


def test_attention_without_anything_to_attend_to():
    q, k, v = (np.ones((1, 1, 2, 4), "float32") for _ in range(3))
    y = one("attention", q, k, v, np.array([[True, False], [False, False]]))
    np.testing.assert_array_equal(y.numpy()[0, 0], [[1] * 4, [0] * 4])


@pytest.mark.parametrize("op", ["lstm", "gru"])
def test_recurrent_fast_path(op):
    """torch's own layers (no sequence lengths) and the walk give the same."""
    inputs, attrs, count = tensors(op)
    inputs[4:5] = [None]
    plain = [v for v in inputs[:7]]
    full = torch.full((2,), 4, dtype=torch.int32)
    for layout in (0, 1):
        args = [v.transpose(0, 1) if layout and i in (0, 5, 6) and v is not None else v for i, v in enumerate(plain)]
        slow = call(op, [*args[:4], full, *args[5:]], {**attrs, "layout": layout}, count)
        for a, b in zip(call(op, args, {**attrs, "layout": layout}, count), slow):
            torch.testing.assert_close(a, b)


# --- graphs -----------------------------------------------------------------------------------------------------


def flattened():
    """reshape(x, concat(shape(x)[:1], [-1])) @ w, as exporters write flatten."""
    x, y = Value("x", "float32", ("N", 2, 6)), Value("y", "float32", ("N", 3))
    s, n, t, f = Value("s", "int64"), Value("n", "int64"), Value("t", "int64"), Value("f")
    w = constant("w", np.arange(36, dtype="float32").reshape(12, 3))
    return Graph([x], [y], [
        Node("shape", [x], [s]), Node("gather", [s, constant("zero", np.array([0]))], [n], {"axis": 0}),
        Node("concat", [n, constant("rest", np.array([-1]))], [t], {"axis": 0}),
        Node("reshape", [x, t], [f]), Node("matmul", [f, w], [y], name="head")])


def test_run_and_infer():
    g = flattened()
    x = np.random.default_rng(0).standard_normal((4, 2, 6)).astype("float32")
    np.testing.assert_allclose(run(g, {"x": x})["y"].numpy(), x.reshape(4, 12) @ g.constants()[-1].data, rtol=1e-5)
    shapes = {v.name: s for v, s in infer(g, {"N": 4}).items()}
    assert shapes["f"] == ((4, 12), "float32") and shapes["y"] == ((4, 3), "float32") and shapes["t"] == ((2,), "int64")
    assert {v.name: a.tolist() for v, a in known(g, {"N": 4}).items()} == {"s": [4, 2, 6], "n": [4], "t": [4, -1]}
    assert infer(g)[g.outputs[0]] == ((1, 3), "float32")


def test_errors_name_the_place():
    g = flattened()
    with pytest.raises(UserError, match=r"node 'head' \(matmul\) failed on f\[2, 10\], w\[12, 3\]"):
        run(g, [np.zeros((2, 2, 5), "float32")])
    with pytest.raises(UserError, match="input 'x' is missing"):
        run(g, {"y": np.zeros(1)})
    g.nodes[-1].op = "matmull"
    with pytest.raises(UserError, match="node 'head': unknown op 'matmull'; did you mean 'matmul'"):
        run(g, [np.zeros((2, 2, 6), "float32")])
    g = Graph([Value("x", "float32", ("N", "seq"))], [Value("x")])
    with pytest.raises(UserError, match="--bind seq=128"):
        infer(g)


def test_infer_asks_for_static_inputs():
    x, t, y = Value("x", "float32", (6,)), Value("t", "int64", (2,)), Value("y")
    with pytest.raises(UserError, match=r"'y' \(reshape\): input 1 \('t'\) must be known"):
        infer(Graph([x, t], [y], [Node("reshape", [x, t], [y])]))


def test_bfloat16():
    """Constants are held as float32 and computed as bfloat16."""
    x, y = Value("x", "bfloat16", (2, 3)), Value("y", "bfloat16", (2, 4))
    w = Value("w", "bfloat16", (4, 3), np.full((4, 3), 1.5, "float32"))
    g = Graph([x], [y], [Node("linear", [x, w], [y])])
    assert run(g, [np.ones((2, 3), "float32")])["y"].dtype == torch.bfloat16
    assert infer(g)[y] == ((2, 4), "bfloat16")


def test_one_output_of_several_and_pairs():
    """A split without lengths knows its outputs; a quantize whose codes are read elsewhere is still computed."""
    x, a, b = Value("x", "float32", (5,)), Value("a"), Value("b")
    out = run(Graph([x], [a, b], [Node("split", [x], [a, b])]), [np.arange(5, dtype="float32")])
    assert [v.tolist() for v in out.values()] == [[0, 1, 2], [3, 4]]
    q, d, s = Value("q", "int8"), Value("d"), constant("s", np.float32(0.5))
    zero = constant("z", np.int8(1))
    g = Graph([x], [d, q], [Node("quantize_linear", [x, s, zero], [q]), Node("dequantize_linear", [q, s, zero], [d])])
    out = run(g, [np.array([0.2, 0.3, -200, 1, 2], "float32")])
    assert out["q"].tolist() == [1, 2, -128, 3, 5] and out["d"].tolist() == [0, 0.5, -64.5, 1, 2]
