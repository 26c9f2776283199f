"""Session: ports, types, errors in one line, clones and threads, profiles, facts; the lists of kernels and ops."""
import os
import threading

import numpy as np
import pytest

from mcc import kernels
from mcc.kernels import EngineError, Session
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower.emit import emit, to_bytes
from mcc.passes.lower.types import TYPE_BYTES, TYPE_NUMBERS


def copies(ports):
    """One identity node per (name, dtype, shape): <name> -> <name>_out."""
    at, ins, outs = 0, [], []
    for name, dtype, shape in ports:
        for label, group in ((name, ins), (name + "_out", outs)):
            group.append(Value(label, dtype, shape, meta={"offset": at}))
            size = int(np.prod(shape)) * TYPE_BYTES[dtype]
            at += size + -size % 64
    return Graph(ins, outs, [Node("identity", [x], [y], {}, f"copy {x.name}") for x, y in zip(ins, outs)], meta={"arena": at})


@pytest.fixture
def session():
    return Session(to_bytes(copies([("image", "float32", (1, 3, 4)), ("ids", "int64", (2,))]), {"made": "here"}))


def feeds():
    rng = np.random.default_rng(0)
    return {"image": rng.standard_normal((1, 3, 4)).astype("f4"), "ids": np.array([3, -4])}


def test_ports(session):
    assert [(p.name, p.shape, p.dtype) for p in session.inputs] == [("image", (1, 3, 4), "float32"), ("ids", (2,), "int64")]
    assert [p.name for p in session.outputs] == ["image_out", "ids_out"]


def test_run_copies_in_and_out(session):
    given = feeds()
    first = session.run(given)
    again = session.run({"image": given["image"] + 1, "ids": given["ids"]})
    np.testing.assert_array_equal(first["image_out"], given["image"])  # not a view that the second run overwrote
    np.testing.assert_array_equal(again["image_out"], given["image"] + 1)
    assert first["ids_out"].dtype == np.int64


@pytest.mark.parametrize("dtype", sorted(set(TYPE_NUMBERS) - {"bfloat16"}))
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
def test_every_dtype(dtype, shape):
    x = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    y = Session(to_bytes(copies([("x", dtype, shape)]))).run({"x": x})["x_out"]
    assert y.dtype == x.dtype and y.shape == shape
    np.testing.assert_array_equal(y, x)


def test_bfloat16_is_float32_for_the_caller():
    session = Session(to_bytes(copies([("x", "bfloat16", (4,))])))
    x = np.array([1.0, 3.14159, -0.0, np.nan], "f4")
    y = session.run({"x": x})["x_out"]
    assert session.inputs[0].dtype == "bfloat16" and y.dtype == np.float32
    np.testing.assert_array_equal(y, np.array([1.0, 3.140625, -0.0, np.nan], "f4"))


def test_arrays_of_any_layout(session):
    x = np.random.default_rng(0).standard_normal((4, 3, 1)).astype("f4").T  # not contiguous
    np.testing.assert_array_equal(session.run({"image": x, "ids": [1, 2]})["image_out"], x)


@pytest.mark.parametrize("change, text", [
    (lambda f: f.pop("ids"), "the model takes inputs 'image', 'ids'; got 'image'"),
    (lambda f: f.update(extra=1), "got 'image', 'ids', 'extra'"),
    (lambda f: f.update(image=np.zeros((1, 3, 5), "f4")), r"input 'image': shape \(1, 3, 5\), the model takes \(1, 3, 4\)"),
    (lambda f: f.update(image=np.zeros((1, 3, 4))), "input 'image': dtype float64, the model takes float32"),
])
def test_wrong_inputs_are_one_line(session, change, text):
    given = feeds()
    change(given)
    with pytest.raises(ValueError, match=text) as error:
        session.run(given)
    assert "\n" not in str(error.value)


def test_wrong_files(tmp_path):
    with pytest.raises(OSError, match="nothing.mcc"):
        Session(tmp_path / "nothing.mcc")
    with pytest.raises(OSError, match="not a regular file"):
        Session(tmp_path)
    bad = tmp_path / "bad.mcc"
    bad.write_bytes(b"PK\3\4 not this")
    with pytest.raises(EngineError, match="bad.mcc: .*not a .mcc file"):
        Session(bad)
    bad.write_bytes(b"")
    with pytest.raises(EngineError, match="not a .mcc file"):
        Session(bad)
    graph = copies([("x", "float32", (2,))])
    graph.nodes[0].op = "frobnicate"
    with pytest.raises(EngineError, match="node 'copy x': this engine has no op 'frobnicate'"):
        Session(to_bytes(graph))


def test_wrong_arguments(session):
    data = to_bytes(copies([("x", "float32", (2,))]))
    with pytest.raises(ValueError, match="threads must be 1 to 64"):
        Session(data, threads=65)
    with pytest.raises(ValueError, match="unknown ISA word 'mmx'"):
        Session(data, isa="mmx")
    with pytest.raises(ValueError, match="runs must be at least 1"):
        session.profile(runs=0)


def test_isa_limit_is_for_one_session(session):
    limited = Session(to_bytes(copies([("x", "float32", (2,))])), isa="c")
    assert limited.facts["isa"] == "c" and session.facts["isa"] == kernels.isa()
    assert Session(to_bytes(copies([("x", "float32", (2,))]))).facts["isa"] == kernels.isa()


def test_facts_and_profile(session):
    facts = session.facts
    assert facts["note"] == {"made": "here"} and facts["threads"] == 1 and facts["arena_bytes"] >= 128
    rows = session.profile(feeds(), runs=3)
    assert [(r["name"], r["op"]) for r in rows] == [("copy image", "identity"), ("copy ids", "identity")]
    assert all(r["ms"] >= 0 and r["macs"] == 0 for r in rows)


def test_input_that_is_an_output_and_constant_outputs(tmp_path):
    graph = copies([("x", "float32", (3,))])
    w = constant("w", np.arange(100, dtype="f4").reshape(4, 25))
    graph.outputs += [graph.inputs[0], w]
    emit(graph, tmp_path / "m.mcc")
    got = Session(tmp_path / "m.mcc").run({"x": np.array([1, 2, 3], "f4")})
    np.testing.assert_array_equal(got["x"], [1, 2, 3])
    np.testing.assert_array_equal(got["w"], w.data)


def test_clones_run_at_once():
    n = 1 << 16
    first = Session(to_bytes(copies([("x", "float32", (n,))])), threads=2)
    sessions, wrong = [first, *(first.clone(threads=t) for t in (1, 2, 3))], []

    def work(session, k):
        for i in range(20):
            x = np.full(n, k * 100 + i, "f4")
            if not (session.run({"x": x})["x_out"] == x).all():
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(s, k)) for k, s in enumerate(sessions * 2)]
    for t in threads:
        t.start()
    del first, sessions
    for t in threads:
        t.join()
    assert not wrong


def test_kernels_and_ops():
    names = [k.name for k in kernels.kernels()]
    assert len(set(names)) == len(names)
    assert {k.isa for k in kernels.kernels() if k.runs} <= {"c", *kernels.isa().split()}
    families = {}
    for k in kernels.kernels():
        families.setdefault(k.family, []).append(k)
    assert all(any(k.isa == "c" for k in group) for group in families.values())  # every family has its plain C
    assert "identity" in kernels.ops() and len(set(kernels.ops())) == len(kernels.ops())


def busy_net(n=640, layers=3):
    """Large enough for the clock: some milliseconds on one thread."""
    values = [Value(f"v{i}", "float32", (n, n), meta={"offset": i % 2 * n * n * 4}) for i in range(layers + 1)]
    weights = [constant(f"w{i}", np.random.default_rng(i).standard_normal((n, n)).astype("f4")) for i in range(layers)]
    nodes = [Node("linear", [values[i], weights[i]], [values[i + 1]], {}, f"n{i}") for i in range(layers)]
    return to_bytes(Graph([values[0]], [values[-1]], nodes, meta={"arena": 2 * n * n * 4}))


def test_every_run_of_a_small_net_gives_the_same():
    """Runs of one row walk the weights from either end in turn, and on two threads try who is faster: no number changes."""
    rng = np.random.default_rng(6)
    x, y = Value("x", "float32", (1, 500), meta={"offset": 0}), Value("y", "float32", (1, 330), meta={"offset": 2048})
    w, b = constant("w", rng.standard_normal((330, 500)).astype("f4")), constant("b", rng.standard_normal(330).astype("f4"))
    net = to_bytes(Graph([x], [y], [Node("linear", [x, w, b], [y], {}, "n")], meta={"arena": 4096}))
    given = {"x": rng.standard_normal((1, 500)).astype("f4")}
    np.testing.assert_allclose(Session(net).run(given)["y"], given["x"] @ w.data.T + b.data, rtol=1e-4, atol=1e-4)
    runs = [Session(net, threads=t).run(given)["y"] for t in (1, 2)]
    for threads, times in ((1, 3), (2, 600)):
        session = Session(net, threads=threads)
        runs += [session.run(given)["y"] for _ in range(times)]
    for again in runs[1:]:
        np.testing.assert_array_equal(again, runs[0])


def test_profile_adds_up():
    found = Session(busy_net()).times({"v0": np.ones((640, 640), "f4")}, seconds=0, least=5, ops=True)
    assert 0.95 <= found.covered <= 1.01 and len(found.ops) == 3


def test_threads_auto():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    x = {"v0": np.random.default_rng(5).standard_normal((640, 640)).astype("f4")}
    session = Session(busy_net(), threads="auto")
    assert 1 <= session.facts["threads"] <= cores
    np.testing.assert_array_equal(session.run(x)["v3"], Session(busy_net()).run(x)["v3"])
    tiny = Session(to_bytes(copies([("x", "float32", (4,))])), threads=0)
    assert tiny.facts["threads"] == 1
    with pytest.raises(ValueError, match='"auto"'):
        Session(busy_net(), threads="all")
