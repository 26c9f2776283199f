"""Every fusion fires exactly once on its example, leaves fewer nodes and changes no number."""
import numpy as np
import pytest
from mcc.passes.graph import Graph
from mcc.passes.lower.fuse import FUSIONS, find
from mcc.passes.lower.match import P, Sketch, rewrite
from mcc.passes.ops.run import run


def feeds(graph: Graph) -> dict:
    rng = np.random.default_rng(0)
    return {v.name: rng.standard_normal(v.shape).astype(v.dtype) for v in graph.inputs}


@pytest.mark.parametrize("name", FUSIONS)
def test_fusion(name):
    graph = find(name).example()
    given = feeds(graph)
    want, size = run(graph, given), len(graph.nodes)
    assert find(name).apply(graph) == 1
    assert find(name).apply(graph) == 0
    assert len(graph.nodes) < size
    got = run(graph, given)
    assert list(got) == list(want)
    for key in want:
        np.testing.assert_allclose(got[key], want[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FUSIONS)
def test_fusion_keeps_what_others_read(name):
    """With every inner value also an output of the graph, nothing may be taken away."""
    graph = find(name).example()
    inner = [v for n in graph.nodes[:-1] for v in n.outputs]
    graph.outputs = graph.outputs + inner
    given = feeds(graph)
    want = run(graph, given)
    find(name).apply(graph)
    got = run(graph, given)
    for key in want:
        np.testing.assert_allclose(got[key], want[key], rtol=1e-5, atol=1e-6)


def test_every_file_is_registered():
    from pathlib import Path

    import mcc.passes.lower.fuse as package
    files = {p.stem for p in Path(package.__file__).parent.glob("*.py") if not p.stem.startswith("_")}
    assert files == set(FUSIONS)


def test_matcher_commutes_and_binds():
    s = Sketch()
    x, y = s.input("x", 3), s.input("y", 3)
    graph = s.graph(s("mul", s("sigmoid", x), y))
    pattern = P("mul", "a", P("sigmoid", "a"))
    assert rewrite(graph, pattern, lambda m: ("silu", [m["a"]], {})) == 0  # two different values
    s = Sketch()
    x = s.input("x", 3)
    graph = s.graph(s("mul", s("sigmoid", x), x))
    assert rewrite(graph, pattern, lambda m: None) == 0  # refused
    assert rewrite(graph, pattern, lambda m: ("silu", [m["a"]], {})) == 1
    assert [n.op for n in graph.nodes] == ["silu"]


def test_one_bound_is_a_clamp_on_integers():
    """max with a number between two convolutions: an integer graph, not a float island; an array of bounds stays what it is."""
    from mcc.passes.graph import constant
    from mcc.passes.lower import lower
    from mcc.passes.lower.listing import integer_listing
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)}

    def made(op, bound):
        s = Sketch()
        y = s("conv", s.input("x", 1, 3, 6, 6), s.weight("a", 8, 3, 3, 3))
        return s.graph(s("conv", s(op, y, constant("c", bound)), s.weight("b", 4, 8, 1, 1)))
    for op, bound, want in (("max", -0.3, "clip"), ("min", 0.4, "clip"), ("max", 0.0, "relu")):
        graph = made(op, np.full((1, 1, 1), bound, np.float32))
        given = run(graph, feeds)
        find("clamp").apply(graph)
        assert [n.op for n in graph.nodes] == ["conv", want, "conv"]
        for k, v in run(graph, feeds).items():
            np.testing.assert_array_equal(v, given[k])
        floats = integer_listing(lower(graph, precision="int8", calibration=[feeds]))["float"]
        assert {n["op"] for n in floats} <= {"transpose"}  # of the result
    per_channel = made("max", np.linspace(-1, 1, 8, dtype=np.float32).reshape(8, 1, 1))
    s = Sketch()
    wider = s.graph(s("max", s.input("x", 2, 5), np.zeros((1, 1, 1), np.float32)))
    assert not find("clamp").apply(per_channel) and not find("clamp").apply(wider)
