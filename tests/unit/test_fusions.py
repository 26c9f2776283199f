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
