"""Distillation: finding the layers of transformers, students, what is measured inside, and that following works."""
from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mcc.passes import find
from mcc.passes.distill import measures
from mcc.passes.distill.encoder import encoder_example, layers
from mcc.passes.distill.student import drop_layers, kept_layers, student_of
from mcc.passes.distill.teacher import Outputs
from mcc.passes.distill.watch import PREFIX, Term, Watch, fit_terms
from mcc.passes.distill.words import near_words
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph, Value
from mcc.passes.onnx_io import from_torch
from mcc.passes.ops.run import infer, run
from mcc.passes.train import soft_loss
from mcc.passes.zoo.bert import Bert
from torch import nn

from networks import Noise, cnn, context, distance, outputs, same_graph, shifted

torch.set_num_threads(1)


def bert(count: int = 4, **options) -> Graph:
    return _bert(count, **options).copy()


@cache
def _bert(count: int, **options) -> Graph:
    torch.manual_seed(0)
    net = Bert(layers=count, hidden=16, ffn=32, heads=4, vocabulary=50, positions=16, **options).eval()
    ids = torch.zeros(2, 8, dtype=torch.long)
    names = ["input_ids", "attention_mask"]
    return from_torch(net, (ids, ids + 1), {n: {0: "N"} for n in names}, names)


class Vision(nn.Module):
    """Pre-norm, torch's own encoder layers with their fused q, k, v."""

    def __init__(self, count: int = 3):
        super().__init__()
        self.patch, self.place = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 16, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, count, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.norm(self.encoder(self.patch(x).flatten(2).transpose(1, 2) + self.place)).mean(1))


@cache
def vision(count: int = 3) -> Graph:
    torch.manual_seed(0)
    return from_torch(Vision(count).eval(), torch.randn(2, 3, 16, 16), {"x": {0: "N"}})


def test_layers_of_a_post_norm_encoder():
    graph = bert(pooling="mean", normalize=True)
    found = layers(graph)
    makers = graph.makers()
    assert len(found) == 4 and [a.after for a in found[:-1]] == [b.before for b in found[1:]]
    assert makers[found[0].before].scope == "embeddings.LayerNorm"
    assert [makers[a.after].scope for a in found] == [f"encoder.layer.{i}.output.LayerNorm" for i in range(4)]
    assert all(a.heads == a.kv_heads == 4 for a in found)


def test_layers_of_a_pre_norm_encoder():
    graph = vision()
    found, makers = layers(graph), graph.makers()
    assert len(found) == 3 and all(makers[a.after].op == "add" for a in found)
    assert found[-1].after in makers[[n for n in graph.nodes if n.scope == "norm"][0].outputs[0]].inputs
    assert [a.heads for a in found] == [4, 4, 4]


def test_no_layers_is_an_error():
    with pytest.raises(UserError, match="no attention"):
        layers(cnn())


@pytest.mark.parametrize("make,keep", [(bert, [0, 2]), (vision, [1]), (bert, [3])])
def test_dropping_layers_leaves_the_others(make, keep):
    """The student is the network that was built with these layers only."""
    graph = make()
    small = drop_layers(graph, keep)
    assert len(layers(small)) == len(keep) and [v.name for v in small.outputs] == [v.name for v in graph.outputs]
    feeds = {v.name: np.ones([2, *v.shape[1:]], v.dtype) for v in graph.inputs}
    want = next(iter(run(graph, feeds).values()))
    got = next(iter(run(small, feeds).values()))
    assert got.shape == want.shape
    assert same_graph(drop_layers(graph, list(range(len(layers(graph))))), graph)
    found = layers(graph)
    state = cut_run(graph, feeds, None, found[0].before, None)
    for i in keep:
        state = cut_run(graph, feeds, found[i].before, found[i].after, state)
    assert torch.allclose(cut_run(graph, feeds, found[-1].after, graph.outputs[0], state), got, atol=1e-5)


def cut_run(graph, feeds, before, after, state):
    """The value `after` when the value `before` is the tensor `state`."""
    graph, tensors = graph.copy(), {k: torch.from_numpy(v) for k, v in feeds.items()}
    named = {v.name: v for v in graph.values()}
    if before is not None and before.name == after.name:
        return state
    graph.outputs = [named[after.name]]
    if before is not None:
        entry = Value("entry", before.dtype, before.shape)
        graph.replace(named[before.name], entry)
        graph.inputs.append(entry)
        tensors["entry"] = state
    graph.prune()
    with torch.no_grad():
        return graph.module().eval()(tensors)


def test_which_layers_stay():
    assert kept_layers(12, 4, "uniform", "x") == [2, 5, 8, 11]
    assert kept_layers(12, 6, "uniform", "x") == [1, 3, 5, 7, 9, 11]
    assert kept_layers(6, 2, "first", "x") == [0, 1] and kept_layers(6, 2, "last", "x") == [4, 5]
    for keep in (0, 13, [3, 1], [0, 12], []):
        with pytest.raises(UserError, match="keep"):
            kept_layers(12, keep, "uniform", "x")


def test_measures_are_zero_for_equals_and_see_differences():
    r = torch.Generator().manual_seed(0)
    image, other = (torch.randn(2, 6, 8, 8, generator=r) for _ in range(2))
    tokens, others = (torch.randn(2, 5, 8, generator=r) for _ in range(2))
    score, relation = measures.score_distance((2, 2), (2, 2)), measures.relation_distance(4, 2, 2)
    for measure, same, changed in (
            (measures.mse, (tokens, tokens), (tokens, others)), (measures.cosine, (tokens, 3 * tokens), (tokens, others)),
            (measures.attention_map, (image, image), (image, other)),
            (measures.flow, (image, other, image, other), (image, other, other, image * 2)),
            (score, (tokens, others, tokens, others), (tokens, others, others, others)),
            (relation, (tokens, tokens), (tokens, others))):
        assert abs(float(measure(*same))) < 1e-6 < 1e-4 < float(measure(*changed))


def test_scores_are_those_of_the_attention_op():
    from mcc.passes.ops import OPS
    r = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 5, 8, generator=r) for _ in range(3))
    qk = OPS["attention"].fn(q, k, v, q_num_heads=2, kv_num_heads=2, outputs=4)[3]
    assert torch.allclose(measures.scores(measures.heads_of(q, 2), measures.heads_of(k, 2)), qk, atol=1e-6)


def test_maps_of_another_size_and_width():
    a, b = torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)
    assert torch.isfinite(measures.attention_map(a, b))


def test_projection_is_learned_and_gone():
    graph, teacher = encoder_example(), encoder_example(width=16)
    terms = [Term((layers(graph)[0].after.name,), (layers(teacher)[0].after.name,), measures.mse, project=True)]
    out = fit_terms(graph, teacher, terms, context(graph), epochs=1)
    assert not any(v.name.startswith(PREFIX) for v in out.values()) and len(out.outputs) == 1
    assert infer(out)[out.outputs[0]] == infer(graph)[graph.outputs[0]] and not same_graph(out, graph)
    watch = Watch(graph)
    place = watch.project(layers(graph)[0].after.name, 16)
    assert watch.graph.outputs[place].shape[-1] == 16 and place == watch.project(layers(graph)[0].after.name, 16) - 1


def closeness(name, graph, teacher, **options):
    """Distance of the outputs to the teacher's on the data, before and after the pass."""
    ctx = context(graph, teacher)
    out = find(name)(epochs=20, lr=3e-3, **options).run(graph, ctx)
    feeds = {k: v.numpy() for k, v in ctx.data.inputs.items()}
    want, before, after = (next(iter(run(g, feeds).values())).log_softmax(-1) for g in (teacher, graph, out))
    return float((before - want).norm()), float((after - want).norm()), out


@pytest.mark.parametrize("name,options", [
    ("distill.logits", {"temperature": 1.0, "alpha": 0.0}), ("distill.hidden", {"temperature": 1.0}),
    ("distill.hidden", {"measure": "cosine", "pairs": {"layer.*.down": "layer.*.down"}}),
    ("distill.layer_drop", {"keep": 2, "task": 0.0}), ("distill.tinybert", {"prediction_epochs": 20}),
    ("distill.minilm", {"outputs": 1.0})])
def test_the_student_comes_closer(name, options):
    graph, teacher = encoder_example(), encoder_example()
    for v in graph.constants():
        if v.data.dtype == np.float32:
            v.data = (v.data + 0.2 * np.random.default_rng(len(v.name)).standard_normal(v.shape)).astype(np.float32)
    before, after, _ = closeness(name, graph, teacher, **options)
    assert after < 0.5 * before


def test_a_thin_student_from_a_factory():
    teacher = bert(pooling="mean")
    ctx = context(teacher)
    ctx.data = Tokens(teacher)
    options = {"layers": 2, "hidden": 8, "ffn": 16, "heads": 2, "vocabulary": 50, "positions": 16}
    out = find("distill.hidden")
    with pytest.raises(UserError, match="outputs"):  # 8 wide where the model gives 16
        out(student="mcc.passes.zoo:Bert", student_args={**options, "pooling": "mean"}).run(teacher, ctx)
    teacher, thin = encoder_example(4, 16, 4), encoder_example(2, 8, 2)
    student = find("distill.tinybert")(epochs=1).run(thin, context(thin, teacher))
    assert len(layers(student)) == 2 and student.outputs[0].shape == teacher.outputs[0].shape


def test_wrong_students_and_teachers():
    graph = encoder_example()
    ctx = context(graph)
    for options, word in (({"student": "no.such:thing"}, "cannot import"), ({"teacher": "previous"}, "no pass ran"),
                          ({"map": [0, 5]}, "map"), ({"augment": 0.2}, "looked up")):
        with pytest.raises(UserError, match=word):
            find("distill.tinybert")(**options).run(graph, ctx)
    with pytest.raises(UserError, match="nothing in the model matches"):
        find("distill.hidden")(pairs={"nothing*": "layer.0.down"}).run(graph, ctx)
    with pytest.raises(UserError, match="as many"):
        find("distill.hidden")(pairs={"layer.*.down": "layer.0.down"}).run(graph, ctx)
    assert student_of(graph, "", {}, ctx, "x") is graph


class Tokens(Noise):
    """Word numbers and a mask with padding."""

    def __init__(self, graph, n=32):
        r = np.random.default_rng(0)
        length = r.integers(4, 9, n)
        mask = torch.from_numpy((np.arange(8) < length[:, None]).astype(np.int64))
        self.inputs = {"input_ids": torch.from_numpy(r.integers(1, 50, (n, 8))) * mask, "attention_mask": mask}
        self.labels, self.n = None, n


def test_transformer_of_words_end_to_end():
    teacher = bert(pooling="mean")
    ctx = context(teacher)
    ctx.data = Tokens(teacher)
    for name, options in (("distill.layer_drop", {"keep": 2, "loss": "mse"}), ("distill.minilm", {"keep": 2}),
                          ("distill.tinybert", {"keep": [0, 3], "augment": 0.3, "loss": "mse"})):
        out = find(name)(**options).run(teacher, ctx)
        assert len(layers(out)) == 2 and infer(out)[out.outputs[0]] == infer(teacher)[teacher.outputs[0]]


def test_near_words_keep_padding_and_ends():
    data = Tokens(None)
    table = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    ids, mask = data.inputs["input_ids"], data.inputs["attention_mask"]
    new = near_words("input_ids", table, 0.9, 5)(data.inputs, torch.Generator().manual_seed(0))["input_ids"]
    changed = new != ids
    assert changed.any() and not changed[mask == 0].any() and not changed[:, 0].any()
    last = mask.sum(1) - 1
    assert not changed[torch.arange(len(ids)), last].any()
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    for i, j in changed.nonzero().tolist():
        order = np.argsort(-(unit @ unit[ids[i, j]]))
        assert int(new[i, j]) in order[1:6]


def test_outputs_are_kept_on_disk(tmp_path):
    graph = encoder_example()
    data = Noise(graph)
    plain, kept = Outputs(graph, 0), Outputs(graph, 0, tmp_path / "t" / "rows.sqlite")
    want, got = plain(data.inputs), kept(data.inputs)
    assert torch.allclose(got, want, atol=1e-6)
    kept.module = None  # a second time nothing is computed, in whatever order samples come
    order = torch.randperm(len(want))
    assert torch.equal(kept({k: v[order] for k, v in data.inputs.items()}), got[order])
    (tmp_path / "t" / "broken.sqlite").write_bytes(b"no database" * 100)
    assert torch.allclose(Outputs(graph, 0, tmp_path / "t" / "broken.sqlite")(data.inputs), want, atol=1e-6)


def test_without_classes_and_several_teachers():
    graph = find("distill.logits").example()
    ctx = context(graph, scaled(graph))
    assert set(ctx.data.labels.tolist()) == {0, 1}
    out = find("distill.logits")(without=[1], alpha=0.5, teacher=["original", "original"]).run(graph, ctx)
    one = find("distill.logits")(without=[1], alpha=0.5).run(graph, ctx)
    assert not same_graph(out, graph)
    for a, b in zip(out.constants(), one.constants()):
        assert np.allclose(a.data, b.data, atol=1e-5)
    everything = find("distill.logits")(alpha=0.5).run(graph, ctx)
    assert not same_graph(everything, one)
    silent = find("distill.logits")(without=[0, 1], alpha=0.5).run(graph, ctx)
    assert same_graph(silent, graph), "no sample was left to learn from"


def scaled(graph: Graph) -> Graph:
    other = graph.copy()
    for v in other.constants():
        v.data = v.data * 1.5
    return other


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_distillation_comes_closer_to_the_teacher(loss):
    student = find("prune.channels")(ratio=0.5).run(cnn(), context(cnn()))
    teacher = cnn()
    ctx = context(student, teacher)
    before = distance(outputs(student), outputs(teacher))
    out = find("distill.logits")(loss=loss, alpha=0, epochs=20, lr=0.01).run(student, ctx)
    assert distance(outputs(out), outputs(teacher)) < 0.8 * before


def test_teachers():
    graph = cnn()
    with pytest.raises(UserError, match="no pass ran before"):
        find("distill.logits")(teacher="previous").run(graph, context(graph))
    with pytest.raises(UserError, match="no output 'logits'; it has v"):
        find("distill.logits")(output="logits").run(graph, context(graph))
    ctx = context(graph, previous=shifted(graph))
    assert not same_graph(find("distill.logits")(teacher="previous", epochs=0.5).run(graph, ctx), graph)


# --- options: each must reach what is trained ---------------------------------------------------------------------------

class Thin(nn.Module):
    """Of `encoder_example`'s inputs and outputs, without its layers."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.a, self.b = nn.Linear(8, width), nn.Linear(width, 3)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)).mean(1))


def thin(width: int = 8) -> nn.Module:
    return Thin(width)


def shifted_words(inputs: dict, rng: torch.Generator) -> dict:
    return {k: v + 1 for k, v in inputs.items()}


@pytest.fixture
def seen(monkeypatch):
    """What a pass hands to the training, which does not take place: (terms, context, options) of every call."""
    calls = []

    def stand_in(graph, teacher, terms, ctx, **options):
        calls.append((list(terms), ctx, options))
        return graph
    for name in ("hidden", "layer_drop", "tinybert", "minilm"):
        monkeypatch.setattr(f"mcc.passes.distill.{name}.fit_terms", stand_in)
    return calls


def test_which_layers_are_followed(seen):
    student, teacher = encoder_example(2), encoder_example(6)
    ends = [a.after.name for a in layers(teacher)]
    for how, want in (("uniform", [2, 5]), ("top", [4, 5]), ("bottom", [0, 1]), ([1, 4], [1, 4])):
        seen.clear()
        find("distill.tinybert")(map=how, attention=0, embedding=0, prediction_epochs=0).run(student, context(student, teacher))
        assert [t.theirs[0] for t in seen[0][0]] == [ends[i] for i in want]
    for options, want in (({}, 5), ({"layer": 3}, 3)):
        seen.clear()
        find("distill.minilm")(relations={"v": 2.0}, **options).run(student, context(student, teacher))
        (term,), _, _ = seen[0]
        assert (term.theirs, term.mine) == ((layers(teacher)[want].v.name,), (layers(student)[-1].v.name,)) and term.weight == 2.0
    seen.clear()
    find("distill.layer_drop")(keep=[1, 4], hidden="all").run(teacher, context(teacher))
    assert [t.theirs[0] for t in seen[0][0][:2]] == [ends[1], ends[4]] and [t.weight for t in seen[0][0]] == [0.5, 0.5, 5.0]
    find("distill.layer_drop")(keep=[1, 4], cosine=0.0).run(teacher, context(teacher))
    assert [t.weight for t in seen[1][0]] == [5.0]


def test_tinybert_stages(seen):
    graph = encoder_example()
    find("distill.tinybert")(general={"source": "test_distill:general"}, general_epochs=3, epochs=2, prediction_epochs=1,
                             embedding=0.5, hidden=2, attention=3, prediction=4).run(graph, context(graph))
    assert [(o["epochs"], o["text"]) for _, _, o in seen] == [(3, "general"), (2, "inside"), (1, "prediction")]
    assert seen[0][1].data.size("train") == 5 and seen[1][1].data.size("train") == 64
    assert sorted(t.weight for t in seen[1][0]) == [0.5, 2, 2, 3, 3] and [t.weight for t in seen[2][0]] == [4]


def general():
    from mcc.passes.data import Array, Source, Table
    table = Table({"x": Array(np.zeros((5, 4, 8), np.float32))})
    return Source(table, table)


def test_augment_by_a_function(seen):
    graph = encoder_example()
    ctx = context(graph)
    find("distill.tinybert")(augment="test_distill:shifted_words").run(graph, ctx)
    changed = seen[0][1].data
    for split, add in (("train", 1), ("test", 0)):
        (new, _), (old, _) = (next(iter(d.batches(split, 8, 1))) for d in (changed, ctx.data))
        assert torch.equal(new["x"], old["x"] + add)


@pytest.mark.parametrize("measure,count", [("mse", 1), ("cosine", 1), ("attention", 1), ("flow", 2)])
def test_measures_of_convolutions(measure, count):
    """Pairs by layer, in the order of the graph; a student of other widths follows through projections."""
    student, teacher = cnn(), shifted(cnn())
    pairs = {"stem": "stem", "pw": "pw"} if measure == "flow" else {"pw": "pw"}
    options = {"measure": measure, "pairs": pairs, "outputs": 0.0, "epochs": 30, "lr": 3e-3}
    ctx = context(student, teacher)
    out = find("distill.hidden")(**options).run(student, ctx)
    assert len(ctx.notes["pairs"]) == len(pairs)
    function = {"attention": measures.attention_map}.get(measure) or getattr(measures, measure)
    names = [n for n, _ in ctx.notes["pairs"]]

    def distance_of(graph):
        with torch.no_grad():
            mine, theirs = (g.module().eval().values(ctx.data.inputs, names) for g in (graph, teacher))
        return float(function(*(mine[n] for n in names), *(theirs[n] for n in names)))
    assert distance_of(out) < 0.7 * distance_of(student)


def test_a_scope_names_its_last_value(seen):
    graph = bert(2)
    find("distill.hidden")(pairs={"encoder.layer.?": "encoder.layer.?"}, project=False, weight=7.0).run(graph, context(graph))
    terms = seen[0][0]
    assert [t.mine[0] for t in terms[:-1]] == [a.after.name for a in layers(graph)]
    assert {(t.weight, t.project) for t in terms[:-1]} == {(7.0, False)}


def test_student_of_a_factory_and_of_a_file(tmp_path):
    from mcc.passes.onnx_io import export
    graph = encoder_example()
    ctx = context(graph, seed=3)
    made = student_of(graph, "test_distill:thin", {"width": 5}, ctx, "x")
    assert same_graph(made, student_of(graph, "test_distill:thin", {"width": 5}, ctx, "x")), "random weights by the seed"
    assert not same_graph(made, student_of(graph, "test_distill:thin", {"width": 5}, context(graph, seed=4), "x"))
    assert [v.shape for v in made.constants() if v.name == "a.weight"] == [(5, 8)]
    with pytest.raises(UserError, match="student_args"):
        student_of(graph, "test_distill:thin", {"wide": 5}, ctx, "x")
    export(made, tmp_path / "thin.onnx")
    again = student_of(graph, str(tmp_path / "thin.onnx"), {}, ctx, "x")
    assert torch.allclose(outputs(again), outputs(made), atol=1e-6)
    out = find("distill.logits")(student="test_distill:thin", student_args={"width": 5}, alpha=0.0).run(graph, ctx)
    assert {v.name for v in out.constants()} == {v.name for v in made.constants()} and not same_graph(out, made)


def test_logits_keep_the_teachers_outputs(tmp_path, monkeypatch):
    monkeypatch.setattr("mcc.passes.data.fetch.cache", lambda: tmp_path)
    graph = find("distill.logits").example()
    plain, kept, again = (find("distill.logits")(cache=c).run(graph, context(graph, scaled(graph))) for c in (False, True, True))
    assert [p.suffix for p in (tmp_path / "teachers").iterdir()] == [".sqlite"]
    assert same_graph(kept, again) and same_graph(plain, kept)


def test_outputs_that_cannot_be_kept(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cache: false"):
        Outputs(encoder_example(), 0, tmp_path / "file" / "rows.sqlite")


@pytest.mark.parametrize("name,options", [
    ("distill.layer_drop", {"keep": 2, "soft": 1.5}), ("distill.hidden", {"outputs": 1.5}), ("distill.minilm", {"outputs": 1.5}),
    ("distill.tinybert", {"prediction": 1.5}), ("distill.layer_drop", {"keep": 2, "soft": 1.5, "loss": "mse"}),
    ("distill.tinybert", {"prediction": 1.5, "loss": "mse"})])
def test_labels_and_outputs_have_their_weights(seen, name, options):
    graph = encoder_example()
    find(name)(task=3.0, temperature=2.5, **options).run(graph, context(graph))
    terms, _, given = seen[-1]
    got, want, labels = torch.randn(5, 3), torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    assert torch.allclose(given["base"]([got], labels, {}), 3 * F.cross_entropy(got, labels))
    assert float(given["base"]([got], None, {})) == 0
    assert terms[-1].weight == 1.5 and terms[-1].theirs == (graph.outputs[0].name,)
    assert torch.allclose(terms[-1].measure(got, want), soft_loss(got, want, options.get("loss", "kl"), 2.5))


def test_loss_of_logits(monkeypatch):
    """(1 - alpha) * soft + alpha * hard; of two teachers the mean distribution."""
    losses = []
    monkeypatch.setattr("mcc.passes.train.fit_graph", lambda graph, ctx, **options: losses.append(options["loss"]) or graph)
    graph = find("distill.logits").example()
    other, ctx = scaled(graph), context(graph, scaled(graph), previous=graph)
    find("distill.logits")(alpha=0.25, temperature=3.0).run(graph, ctx)
    find("distill.logits")(alpha=0.25, temperature=3.0, loss="mse").run(graph, ctx)
    find("distill.logits")(alpha=0.0, temperature=3.0, teacher=["original", "previous"]).run(graph, ctx)
    x, labels, got = torch.randn(5, 16), torch.tensor([0, 1, 2, 3, 4]), torch.randn(5, 12)
    with torch.no_grad():
        a, b = (g.module()({"x": x}) for g in (other, graph))
    hard = F.cross_entropy(got, labels)
    for loss, kind in zip(losses, ("kl", "mse")):
        assert torch.allclose(loss([got], labels, {"x": x}), 0.75 * soft_loss(got, a, kind, 3.0) + 0.25 * hard, atol=1e-5)
        assert torch.allclose(loss([got], None, {"x": x}), soft_loss(got, a, kind, 3.0), atol=1e-5)
    mean = ((a / 3).softmax(-1) + (b / 3).softmax(-1)) / 2
    want = (mean * (mean.log() - (got / 3).log_softmax(-1))).sum(1).mean() * 9
    assert torch.allclose(losses[2]([got], labels, {"x": x}), want, atol=1e-4)


def test_relation_heads():
    minilm = find("distill.minilm")
    assert minilm()._heads(24, 36, 12) == 12 and minilm()._heads(8, 12, 12) == 4 and minilm(heads=2)._heads(8, 12, 12) == 2
    with pytest.raises(UserError, match="does not divide"):
        minilm(heads=3)._heads(8, 12, 12)


def test_shared_keys_are_repeated_group_by_group():
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)
    got = measures.scores(q, k)
    for head in range(4):
        assert torch.allclose(got[:, head], q[:, head] @ k[:, head // 2].mT / 8 ** 0.5, atol=1e-6)


def test_terms_are_weighted(monkeypatch):
    graph, teacher = encoder_example(), shifted(encoder_example())
    captured = {}
    monkeypatch.setattr("mcc.passes.distill.watch.fit_graph",
                        lambda graph, ctx, loss: captured.update(loss=loss, graph=graph) or graph.copy())
    name = layers(graph)[0].after.name
    terms = [Term((name,), (name,), measures.mse, 2.5)]
    fit_terms(graph, teacher, terms, context(graph), base=lambda outputs, labels, inputs: outputs[0].sum() * 0 + 7)
    x = {"x": torch.randn(3, 4, 8)}
    with torch.no_grad():
        mine = captured["graph"].module().eval()(x)
        theirs = teacher.module().eval().values(x, [name])[name]
    assert torch.allclose(captured["loss"](list(mine), None, x), 7 + 2.5 * F.mse_loss(mine[-1], theirs), atol=1e-5)
