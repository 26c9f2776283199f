"""The pipeline without an engine: what is kept and found again, what results depend on, figures and gates."""
import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from mcc.passes import PASSES, cache, find, pipeline, recipe, report
from mcc.passes.base import Pass
from mcc.passes.errors import PassFailed, UserError
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.metrics import METRICS
from mcc.passes.onnx_io import export
from mcc.passes.recipe.expect import rule

torch.set_num_threads(1)
NET = '''
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, width), nn.Linear(width, 3)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))
'''
FACTORY = ['model={factory: "pipeline_net:Net", input: {shape: [N, 4]}}']
TEXT = """
model: net.onnx
data: {source: npz, path: data.npz, batch: 32}
train: {epochs: 2, lr: 1e-2}
passes:
  - prune.weights: {sparsity: 0.5}
  - quantize.codebook: {bits: 3}
expect: {size: "< original", accuracy: ">= original - 50 %"}
output: out
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The files, made once. The network of net.onnx knows its classes: it sums the evidence of each."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "pipeline_net.py").write_text(NET)
    (folder / "r.yaml").write_text(TEXT)
    r = np.random.default_rng(0)
    labels = r.integers(0, 3, 400)
    np.savez(folder / "data.npz", x=(r.standard_normal((400, 4)) + np.eye(3, 4)[labels]).astype(np.float32), labels=labels)
    signs, mix = r.standard_normal((32, 4)).astype(np.float32), np.eye(3, 4, dtype=np.float32)
    x, h, a, y = (Value(n, "float32", ("N", d)) for n, d in (("x", 4), ("h", 32), ("a", 32), ("y", 3)))
    w1, b1 = constant("fc1.weight", signs), constant("fc1.bias", np.zeros(32, np.float32))
    w2, b2 = constant("fc2.weight", mix @ signs.T / 16), constant("fc2.bias", np.zeros(3, np.float32))
    nodes = [Node("linear", [x, w1, b1], [h], name="fc1"), Node("relu", [h], [a]), Node("linear", [a, w2, b2], [y], name="fc2")]
    export(Graph([x], [y], nodes), folder / "net.onnx")
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    for p in made.iterdir():
        shutil.copy(p, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(*sets):
    return recipe.read("r.yaml", sets)


def everything():
    """A Graph with all that a graph file must keep."""
    x, y = Value("x", "float32", ("N", 4)), Value("y", "float32")
    shared = np.arange(12, dtype=np.float32).reshape(3, 4)
    w = Value("w", "float32", (3, 4), shared, {"sparse": True, "codebook": {"bits": 2, "groups": 1}, "odd": (1, {"~": 2})})
    v = Value("v", "float32", (3, 4), shared)
    attrs = {"i": -5, "f": 1e-30, "inf": float("inf"), "s": "text", "b": True, "n": None, "ints": [1, 2], "tuple": (1, "a"),
             "bytes": b"\x00\xff",
             "array": np.float64([[1, 2]]), "scalar": np.int8(-3), "value": w, "dict": {1: 2}, "set": {3, 1},
             "dtype": np.dtype("int16")}
    nodes = [Node("op", [x, w, None, v], [y], attrs, "name", "scope.of"),
             Node("two", [y], [Value("a", "bool", ()), Value("b", "int64", ("N", 2))])]
    graph = Graph([x], [y, nodes[1].outputs[1]], nodes, "all", {"deep": {"list": [(1, 2)]}})
    graph.nodes[1].inputs.append(constant("empty", np.zeros((0, 3), np.uint8)))
    graph.nodes[1].inputs.append(constant("flag", np.array(True)))
    return graph


def test_graph_file():
    graph = everything()
    blob = cache.pack(graph, {"notes": {"a": [1, None]}})
    back, extra = cache.unpack(blob)
    assert cache.pack(back, extra) == blob
    assert extra == {"notes": {"a": [1, None]}}
    assert str(back) == str(graph)
    node, want = back.nodes[0], graph.nodes[0]
    assert node.inputs[2] is None
    assert node.attrs["value"] is node.inputs[1]
    assert node.attrs["tuple"] == (1, "a")
    assert node.attrs["dict"] == {1: 2}
    assert node.attrs["scalar"] == -3
    assert node.attrs["scalar"].dtype == np.int8
    np.testing.assert_array_equal(node.attrs["array"], want.attrs["array"])
    assert node.inputs[1].meta == want.inputs[1].meta
    assert node.inputs[1].data is node.inputs[3].data
    assert node.inputs[1].data.flags.writeable
    assert [v.shape for v in back.nodes[1].inputs] == [None, (0, 3), ()]


def test_damaged_graph_file():
    blob = cache.pack(everything())
    r = np.random.default_rng(0)
    for cut in r.integers(0, len(blob) - 1, 50):
        with pytest.raises(ValueError, match="damaged graph file"):
            cache.unpack(blob[:cut])
    with pytest.raises(ValueError, match="damaged graph file"):
        cache.unpack(blob + b"x")
    with pytest.raises(TypeError, match="cannot be kept"):
        cache.pack(Graph([], [], [Node("op", [], [], {"f": print})]))


def test_digest_tells_graphs_apart():
    base = cache.digest(everything())
    assert cache.digest(everything()) == base

    def changed(act):
        graph = everything()
        act(graph)
        return cache.digest(graph)
    others = [changed(lambda g: g.nodes[0].attrs.update(i=-6)),
              changed(lambda g: g.nodes[0].inputs[1].data.__setitem__((0, 0), 9)),
              changed(lambda g: g.nodes[0].inputs[1].meta.clear()), changed(lambda g: setattr(g.inputs[0], "shape", (1, 4))),
              changed(lambda g: g.outputs.pop())]
    assert len({base, *others}) == 6


def test_store_makes_again_what_is_damaged(tmp_path):
    store = cache.Store(tmp_path / "c")
    store.save_graph("k", everything(), seconds=1)
    assert store.load_graph("k")[1] == {"seconds": 1}
    store.path("k", "graph").write_bytes(b"torn")
    assert store.load_graph("k") is None
    store.save_scores("s", np.arange(3.0))
    np.testing.assert_array_equal(store.load_scores("s"), np.arange(3.0))
    store.path("s", "npy").write_bytes(b"\x93NUMPY")
    assert store.load_scores("s") is None
    (tmp_path / "c/.part-999999999-x").write_bytes(b"left by a killed run")
    assert {p.name for p in cache.Store(tmp_path / "c").folder.iterdir()} == {"k.graph", "s.npy"}
    assert not list(cache.Store(tmp_path / "c", fresh=True).folder.iterdir())


def test_write_atomic_leaves_the_old_file(tmp_path):
    cache.write_atomic(tmp_path / "f", "old")
    with pytest.raises(TypeError):
        cache.write_atomic(tmp_path / "f", 3)
    assert (tmp_path / "f").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_plain():
    @dataclass
    class D:
        a: int = 1
    made = cache.plain({"a": np.float32(1.5), "b": (1, {2}), "c": np.arange(2), "d": float("nan"), "e": D(), 3: PASSES.get})
    assert made["a"] == 1.5
    assert made["b"] == [1, [2]]
    assert made["c"] == [0, 1]
    assert made["d"] is None
    assert made["e"] == {"a": 1}
    assert isinstance(made["3"], str)


def test_run_without_an_engine(folder):
    lines = []
    made = pipeline.run(read(*FACTORY), log=lines.append)
    assert made["ok"]
    assert made == json.loads((folder / "out/report.json").read_text())
    assert made["metric"] == {"name": "accuracy", "better": "higher"}
    assert made["original"]["metric"] > 0.5
    assert [s["cached"] for s in made["stages"]] == [False, False]
    assert made["final"]["bytes"] == (folder / "out/model.mcc").stat().st_size
    assert made["final"]["nonzero"] < made["final"]["params"]
    assert "train the original" in lines
    assert (folder / "out/log.txt").read_text().count("\n") == len(lines) - 1  # the folder is not there before the first
    first = (folder / "out/model.mcc").read_bytes()
    again = pipeline.run(read(*FACTORY))
    assert [s["cached"] for s in again["stages"]] == [True, True]
    assert pipeline.run(read(*FACTORY), resume=False)["stages"][0]["cached"] is False
    assert (folder / "out/model.mcc").read_bytes() == first


@pytest.mark.parametrize(("change", "kept"), [
    (["passes.1.quantize.codebook.bits=2"], [True, False]), (["passes.0.prune.weights.sparsity=0.6"], [False, False]),
    (["seed=1"], [False, False]), (["data.test=0.3"], [False, False]), (["name=other"], [True, True]),
    (["train.lr=1e-3"], [False, False]),
    (["expect.size=\"<= original * 2\""], [True, True]),
])
def test_what_results_depend_on(folder, change, kept):
    pipeline.run(read())
    assert [s["cached"] for s in pipeline.run(read(*change))["stages"]] == kept


def test_measure_of_the_caller(folder):
    seen = []

    def measure(graph, path):
        path.write_bytes(b"x" * (1000 - 100 * len(seen)))
        seen.append(graph)
        return {"bytes": path.stat().st_size, "latency_ms": 1.0, "path": str(path)}

    def evaluate(path, batches):
        for inputs in batches:
            yield [np.tile(np.float32([1, 0, 0]), (len(inputs["x"]), 1))]
    made = pipeline.run(read(), pipeline.Engine(measure, evaluate, "v1"))
    assert [made["original"]["bytes"], *(s["bytes"] for s in made["stages"])] == [1000, 900, 800]
    assert made["final"]["metric"] == made["original"]["metric"] < 0.5  # always the first class, as the engine said
    assert made["stages"][0]["metric"] > made["final"]["metric"]  # as torch says
    assert made["final"]["difference"] == 0
    pipeline.run(read(), pipeline.Engine(measure, evaluate, "v1"))
    assert len(seen) == 3
    pipeline.run(read(), pipeline.Engine(measure, evaluate, "v2"))
    assert len(seen) == 6


def engine_that_says(sizes, ratio=1.0):
    """An Engine whose files have these sizes in the order of their making, and whose newer file takes `ratio` of the time."""
    sizes, raced = iter(sizes), []

    def measure(graph, path):
        path.write_bytes(b"x" * next(sizes))
        return {"bytes": path.stat().st_size, "latency_ms": 1.0}

    def race(paths):
        raced.append(paths)
        return [1.0, ratio]
    return pipeline.Engine(measure, None, "v1", race), raced


WITHOUT_METRIC = ["data=null", "train=null", "expect={}", "passes.0.prune.weights.sparsity=0.5"]


def test_a_pass_that_did_not_pay_is_undone(folder):
    engine, raced = engine_that_says([1000, 1000, 500])
    recipe_ = recipe.read("r.yaml", [*WITHOUT_METRIC, "on_no_gain=rollback"])
    made = pipeline.run(recipe_, engine)
    assert [s.get("undone", False) for s in made["stages"]] == [True, False]
    assert made["stages"][0]["nonzero"] < made["original"]["nonzero"]  # what it did is told
    assert made["final"]["nonzero"] == made["original"]["nonzero"]  # and is gone
    assert made["warnings"] == ["prune.weights paid in neither bytes nor time: undone (on_no_gain: rollback)"]
    assert len(raced) == 2  # once to decide, once for the report
    again = pipeline.run(recipe_, engine)
    assert [(s["cached"], s.get("undone", False)) for s in again["stages"]] == [(True, True), (True, False)]
    assert len(raced) == 3


def test_all_undone_is_the_original(folder):
    engine, _ = engine_that_says([1000, 1000, 1000])
    made = pipeline.run(recipe.read("r.yaml", [*WITHOUT_METRIC, "on_no_gain=rollback"]), engine)
    assert all(s["undone"] for s in made["stages"])
    assert {k: made["final"][k] for k in ("bytes", "params", "nonzero", "macs")} == {
        k: made["original"][k] for k in ("bytes", "params", "nonzero", "macs")}
    assert (folder / "out/model.mcc").read_bytes() == (folder / "out/original.mcc").read_bytes()


def test_what_is_not_undone(folder):
    engine, _ = engine_that_says([1000, 1000, 1000])
    noted = pipeline.run(recipe.read("r.yaml", WITHOUT_METRIC), engine)
    assert not any("undone" in s for s in noted["stages"])
    assert noted["final"]["nonzero"] < noted["final"]["params"]
    engine, _ = engine_that_says([1000, 1000, 1000], ratio=0.5)
    faster = pipeline.run(recipe.read("r.yaml", [*WITHOUT_METRIC, "on_no_gain=rollback", "output=other"]), engine)
    assert [s["paid"] for s in faster["stages"]] == [["time"], ["time"]]
    assert not any("undone" in s for s in faster["stages"])
    run, facts = pipeline._Run(read(), engine, True, print, print), {"pass": "distill.logits", "paid": ["accuracy"]}
    run.metric = METRICS["accuracy"]
    assert run.gained(facts, {}, folder, folder)  # what distillation is for


def test_failing_pass_says_where(folder, monkeypatch):
    def fail(self, graph, ctx):
        raise PassFailed("it grew too large")
    monkeypatch.setattr(find("quantize.codebook"), "run", fail)
    with pytest.raises(PassFailed, match=r"^r.yaml:7:5: quantize.codebook: it grew too large"):
        pipeline.run(read())
    monkeypatch.undo()


def test_pattern_is_checked_after_structure_changed(folder):
    made = read('passes.1.quantize.codebook.layers="fc1.*"', "passes.1.quantize.codebook.min_size=1",
                "passes.0={structure.low_rank: {rank: 2, layers: fc1}}")
    report_ = pipeline.run(made)
    assert report_["stages"][1]["notes"]["tensors"] == 2
    with pytest.raises(UserError, match="'fc9' matches no layer"):
        pipeline.run(read("passes.1.quantize.codebook.layers=fc9", "passes.0={structure.low_rank: {rank: 2, layers: fc1}}"))


@pytest.mark.parametrize(("sets", "line"), [
    (["model.factory=pipeline_nets:Net"], "no module named 'pipeline_nets'"),
    (["model.args.widht=3"], "does not take these args"),
    (["model.args.width=-1"], "raised RuntimeError"), (["model.input.shape=[N, 5]"], "model: "),
    (["data.path=r.yaml"], "data: npz"),
    (["metric=cosine", "expect={}"], None), (["model.checkpoint=r.yaml"], "cannot be read as a state_dict with weights_only"),
])
def test_what_prepare_finds(folder, sets, line):
    if line is None:
        assert pipeline.run(read(*sets))["metric"]["name"] == "cosine"
        return
    with pytest.raises(UserError) as e:
        pipeline.run(read(*FACTORY, *sets))
    assert line in str(e.value)
    assert all(p.startswith(("r.yaml:", "--set")) for p in e.value.problems)


def test_checkpoint_that_does_not_fit(folder):
    torch.save({"fc1.weight": torch.zeros(32, 4), "fc1.bais": torch.zeros(32), "fc2.weight": torch.zeros(3, 31),
                "fc2.bias": torch.zeros(3)}, "w.pt")
    with pytest.raises(UserError) as e:
        pipeline.run(read(*FACTORY, "model.checkpoint=w.pt"))
    assert [p.split("w.pt: ")[-1] for p in e.value.problems] == [
        "has no fc1.bias; did you mean 'fc1.bais'?", "has fc1.bais, which the model has not",
        "fc2.weight is [3, 31], the model's [3, 32]"]


@pytest.mark.parametrize("name", ["c.pt", "c.safetensors"])
def test_checkpoint_round_trip(folder, name):
    pipeline.run(read(*FACTORY, f"model.checkpoint={name}"))
    first = (folder / "out/model.mcc").read_bytes()
    assert (folder / name).is_file()
    made = pipeline.run(read(*FACTORY, f"model.checkpoint={name}"), resume=False)
    assert (folder / "out/model.mcc").read_bytes() == first
    assert made["ok"]


def test_plan_writes_nothing(folder):
    made = pipeline.plan(read(*FACTORY))
    assert made["train"]
    assert [s["layers"] for s in made["stages"]] == [["fc1", "fc2"], ["fc1", "fc2"]]
    assert made["stages"][1]["bytes"] < made["original"]["bytes"]
    assert not (folder / "out").exists()


def test_plan_names_what_it_cannot_tell(folder, monkeypatch):
    def fail(self, graph, ctx):
        raise PassFailed("needs training")
    monkeypatch.setattr(find("prune.weights"), "run", fail)
    stages = pipeline.plan(read())["stages"]
    assert stages[0]["unknown"].endswith("needs training")
    assert "bytes" not in stages[1]


def test_gates():
    original, final = {"bytes": 100, "metric": 0.9, "latency_ms": None}, {"bytes": 10, "metric": 0.89, "latency_ms": 2.0,
                                                                          "difference_ci95": [-0.02, 0.0]}
    rules = [rule("size", "<= original / 10", "p"), rule("metric", ">= original - 0.015", "p"),
             rule("metric", ">= original - 0.05", "p"),
             rule("latency", "<= 3 ms", "p"), rule("latency", "<= original", "p"), rule("arena", "<= 3", "p")]
    rows = report.gates(rules, original, final)
    assert [g["ok"] for g in rows] == [True, True, True, True, False, False]
    assert [g.get("sure") for g in rows] == [None, False, True, None, None, None]
    assert rows[5]["why"] == "arena was not measured"


def test_what_a_pass_paid_in():
    metric = METRICS["accuracy"]
    before = {"bytes": 1000, "latency_ms": 1.0, "arena_bytes": 10, "metric": 0.9}
    assert report.paid({**before, "bytes": 900}, before, metric) == ["bytes"]
    assert report.paid({**before, "bytes": 999, "latency_ms": 0.99}, before, metric) == []
    assert report.paid({**before, "latency_ms": 0.5, "metric": 0.91}, before, metric) == ["time", "accuracy"]
    assert report.paid({"bytes": 5}, {"bytes": 4}, None) == []


def test_warnings():
    metric, n = METRICS["accuracy"], 50
    a, b = np.r_[np.ones(40), np.zeros(10)], np.r_[np.ones(42), np.zeros(8)]
    made = {"stages": [{"pass": "distill.logits", "paid": ["accuracy"]}, {"pass": "prune.weights", "paid": ["bytes"]}],
            "expect": [{"rule": "accuracy >= original - 0.05", "sure": False, "bound": 0.79, "original": 0.84}],
            "final": {"difference": -0.04, "difference_ci95": [-0.1, 0.02]}}
    first, second = report.warnings(made, a, b, metric)
    assert first == "distill.logits paid in neither bytes nor time (it did in accuracy)"
    assert second.startswith(f"{n} test samples are too few to tell whether accuracy >= original - 0.05 holds; about ")
    made["expect"] = []
    assert report.warnings(made, a, b, metric)[1].startswith("only 50 test samples")


def test_pass_contract_has_the_fields_the_pipeline_uses():
    assert {"check", "run", "matches", "example"} <= set(vars(Pass))
