"""Concats along the last axis: their inputs' makers write into their places; who cannot leaves the copy to concat."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from mcc.kernels import Session
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph, Node, Value
from mcc.passes.lower import lower
from mcc.passes.lower.emit import to_bytes
from mcc.passes.lower.engine import engine_form
from mcc.passes.lower.match import Sketch
from mcc.passes.lower.plan import alive
from mcc.passes.lower.read import read
from mcc.passes.ops.run import run


def fire(last: str = "conv", residual: bool = False) -> Graph:
    """A 1x1 and a 3x3 convolution, a max pooling and one thing more, joined along the channels."""
    s = Sketch()
    x = s.input("x", 2, 8, 9, 7)
    a = s("relu", s("conv", x, s.weight("a", 5, 8, 1, 1), s.weight("ab", 5)))
    b = s("conv", x, s.weight("b", 70, 8, 3, 3), s.weight("bb", 70), pads=[1, 1, 1, 1])
    c = s("max_pool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    if last == "depthwise":
        d = s("conv", x, s.weight("d", 8, 1, 3, 3), pads=[1, 1, 1, 1], group=8)
    elif last == "groups":
        d = s("sigmoid", s("conv", x, s.weight("d", 6, 4, 3, 3), pads=[1, 1, 1, 1], group=2))
    elif last == "sparse":
        d = s("conv", x, s.weight("d", 40, 8, 1, 1))
    else:
        d = s("conv", x, s.weight("d", 8, 8, 1, 1))
    if residual:
        d = s("add", d, x)
    return s.graph(s("relu", s("concat", a, b, c, d, axis=1)))


def feed() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 8, 9, 7)).astype(np.float32)


def slices(graph: Graph) -> list[Value]:
    return [v for v in graph.values() if "slice" in v.meta]


@pytest.mark.parametrize("last, residual, count", [("conv", False, 4), ("conv", True, 3), ("depthwise", False, 4),
                                                   ("groups", False, 4), ("sparse", False, 4)])
@pytest.mark.parametrize("threads", [1, 2])
def test_makers_write_into_the_result(tmp_path, last, residual, count, threads):
    graph = fire(last, residual)
    if last == "sparse":  # a kernel that writes no slices: the engine gives its result a place of its own
        weight = next(v for v in graph.constants() if v.name == "d")
        weight.data = np.where(np.arange(weight.data.size).reshape(weight.data.shape) % 5, 0, weight.data).astype(np.float32)
    lowered = lower(graph, tmp_path / "m.mcc")
    assert len(slices(lowered)) == count and alive(lowered) == lowered.meta["live"]
    (want,) = run(graph, {"x": torch.from_numpy(feed())}).values()
    for isa in (None, "avx2", "c"):
        session = Session(str(tmp_path / "m.mcc"), threads=threads, isa=isa)
        for _ in range(2):
            (got,) = session.run({"x": feed()}).values()
            np.testing.assert_allclose(got, want.numpy(), atol=2e-5, rtol=1e-4)


def test_int8_is_the_same(tmp_path):
    graph = fire()
    lowered = lower(graph, tmp_path / "m.mcc", precision="int8", calibration=[{"x": feed()}])
    assert len(slices(lowered)) == 4
    (want,) = run(lowered, {"x": torch.from_numpy(feed())}).values()
    (got,) = Session(str(tmp_path / "m.mcc")).run({"x": feed()}).values()
    np.testing.assert_array_equal(got, want.numpy())


def test_who_is_read_elsewhere_is_copied():
    s = Sketch()
    x = s.input("x", 1, 4, 6, 6)
    a = s("conv", x, s.weight("a", 4, 4, 1, 1))
    b = s("conv", a, s.weight("b", 4, 4, 1, 1))
    lowered = lower(s.graph(s("relu", s("concat", a, b, axis=1))))
    assert [v.shape for v in slices(lowered)] in ([], [(1, 6, 6, 4)])
    assert not any(v in n.inputs for v in slices(lowered) for n in lowered.nodes if n.op != "concat")


def test_file_keeps_slices_and_refuses_wrong_ones():
    lowered = engine_form(lower(fire()))
    data = to_bytes(lowered)
    again = read(data)
    assert len(slices(again)) == 4 and to_bytes(again) == data
    for change in (lambda g, v, w, f: v.meta.update(slice=(w, f + 1)),          # not at its place
                   lambda g, v, w, f: v.meta.update(slice=(w, 10**6)),          # outside
                   lambda g, v, w, f: v.meta.update(slice=(g.inputs[0], f)),    # of another tensor
                   lambda g, v, w, f: g.outputs.append(v),
                   lambda g, v, w, f: setattr(concat(g), "op", "max"),
                   lambda g, v, w, f: concat(g).attrs.update(axis=1)):
        g = read(data)
        v = slices(g)[1]
        change(g, v, *v.meta["slice"])
        wrong = to_bytes(g)
        if concat(g).attrs["axis"] == 3:
            with pytest.raises(UserError):
                read(wrong)
        with pytest.raises(Exception, match="slice|concat|max"):
            Session(wrong)


def concat(graph: Graph) -> Node:
    return next(n for n in graph.nodes if len(n.inputs) == 4)
