"""Every pass of PASSES, by its own example; test_composition.py has all pairs in a row."""
from __future__ import annotations

import dataclasses

import pytest
import torch
from mcc.passes import PASSES, find
from mcc.passes.ops.run import infer

from networks import context, outputs, same_graph, shifted

torch.set_num_threads(1)


each = pytest.mark.parametrize("name", PASSES)


@each
def test_example_changes_something_and_keeps_the_output(name):
    cls = find(name)
    graph = cls.example()
    before = graph.copy()
    pass_, ctx = cls(), context(graph, shifted(graph))
    pass_.check()
    assert pass_.matches(graph), "the pass must match its own example"
    out = pass_.run(graph, ctx)
    assert not same_graph(out, graph)
    assert same_graph(graph, before), "the graph that is given must not change"
    shapes, new = infer(graph), infer(out)
    assert [new[v] for v in out.outputs] == [shapes[v] for v in graph.outputs]
    assert [(v.name, v.shape) for v in out.inputs] == [(v.name, v.shape) for v in graph.inputs]
    assert torch.isfinite(outputs(out)).all()
    names = [v.name for v in out.values()]
    assert len(names) == len(set(names))


@each
def test_deterministic(name):
    cls = find(name)
    a, b = (cls().run(cls.example(), context(cls.example(), shifted(cls.example()))) for _ in range(2))
    assert same_graph(a, b)


@each
def test_is_frozen_and_documented(name):
    cls = find(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(cls(), dataclasses.fields(cls)[0].name, None)
    missing = [f.name for f in dataclasses.fields(cls) if f.name not in cls.__doc__]
    assert not missing, f"options without a word in the docstring: {missing}"
    assert "arXiv" in __import__(cls.__module__, fromlist=["x"]).__doc__


# Values that check() must refuse, and the word its message must have. A pass that is not here is still asked for an
# unknown option.
WRONG = {
    "structure.low_rank": [({"ratio": 1.5}, "ratio"), ({"ratio": 0.5, "rank": 4}, "rank and ratio"), ({"rank": 0}, "rank"),
                           ({"whiten": True, "split": "spatial"}, "whiten"), ({"overrides": {"fc": {"macs": 0.5}}}, "fc")],
    "prune.weights": [({"sparsity": 1.0}, "sparsity"), ({"start": 0.7, "end": 0.2}, "start"), ({"epochs": -1}, "epochs"),
                      ({"sparsity": 0.995}, "max_sparsity"), ({"overrides": {"fc": {"ratio": 0.5}}}, "ratio"),
                      ({"importance": "bn_gamma"}, "weights"), ({"rewind": 5}, "iterative"), ({"regrow": 1.0}, "regrow"),
                      ({"regrow": 0.3, "schedule": "iterative"}, "regrow"), ({"macs": 1.5}, "macs")],
    "prune.blocks": [({"pattern": "2:4", "sparsity": 0.5}, "sparsity"), ({"pattern": "2:4", "regrow": 0.3}, "regrow"),
                     ({"importance": "fpgm"}, "blocks"), ({"bytes": 0.5, "sparsity": 0.5}, "sparsity and bytes")],
    "prune.heads": [({"ratio": 0.5, "bytes": 0.5}, "ratio and bytes"), ({"min_heads": 0}, "min_heads"),
                    ({"importance": "bn_gamma"}, "heads"), ({"overrides": {"a": {"macs": 0.5}}}, "overrides")],
    "prune.layers": [({"count": 2, "ratio": 0.5}, "count and ratio"), ({"count": 0}, "count"), ({"macs": 2.0}, "macs"),
                     ({"importance": "fpgm"}, "layers"), ({"steps": 0}, "steps")],
    "prune.channels": [({"ratio": 0.5, "macs": 0.5}, "ratio and macs"), ({"ratio": 0.0}, "ratio"), ({"multiple": 0}, "multiple"),
                       ({"overrides": {"a": {"ratio": 2}}}, "overrides")],
    "quantize.ptq": [({"percentile": 20}, "percentile"), ({"samples": 0}, "samples"),
                     ({"overrides": {"fc": {"activations": "int4"}}}, "activations"),
                     ({"overrides": {"fc": {"bits": 4}}}, "bits"), ({"weight_bits": 9}, "weight_bits"), ({"decay": 0}, "decay"),
                     ({"smooth": 1.0}, "smooth"), ({"round_steps": 0}, "round_steps"),
                     ({"overrides": {"fc": {"weight_bits": 1}}}, "weight_bits")],
    "quantize.weight_only": [({"bits": 1}, "bits"), ({"group": 12}, "group"), ({"embeddings": 9}, "embeddings"),
                             ({"overrides": {"fc": {"per": "row"}}}, "per"), ({"overrides": {"fc": {"bit": 4}}}, "bit")],
    "quantize.qat": [({"epochs": -1}, "epochs"), ({"freeze": 2}, "freeze"), ({"activations": "dynamic"}, "static"),
                     ({"temperature": 0}, "temperature"), ({"weight_bits": 1}, "weight_bits")],
    "quantize.mixed": [({"bytes": 0.2, "error": 0.1}, "bytes and error"), ({"bytes": 0}, "bytes"), ({"error": -1}, "error"),
                       ({"choices": [9]}, "choices"), ({"look_at": 0}, "look_at")],
    "quantize.codebook": [({"bits": 9}, "bits"), ({"bits": 4, "clusters": 8}, "bits and clusters"), ({"clusters": 0}, "clusters"),
                          ({"samples": 0}, "samples"),
                          ({"overrides": {"fc*": {"clusers": 4}}}, "clusers"), ({"groups": 0}, "groups")],
    "distill.logits": [({"temperature": 0}, "temperature"), ({"alpha": 1.5}, "alpha"), ({"epochs": 0}, "epochs"),
                       ({"teacher": []}, "teacher")],
    "distill.hidden": [({"epochs": 0}, "epochs"), ({"weight": -1}, "weight"), ({"temperature": 0}, "temperature")],
    "distill.layer_drop": [({"soft": -1}, "soft"), ({"epochs": -1}, "epochs"), ({"temperature": 0}, "temperature")],
    "distill.tinybert": [({"epochs": 0, "prediction_epochs": 0}, "epochs"), ({"augment": 1.0}, "augment"),
                         ({"hidden": -1}, "hidden")],
    "distill.minilm": [({"relations": {"x": 1}}, "relations"), ({"heads": -1}, "heads")],
}


@each
def test_wrong_options_are_refused(name):
    for options, word in WRONG.get(name, []):
        with pytest.raises(ValueError, match=word.replace("*", r"\*")):
            find(name)(**options).check()
    with pytest.raises(TypeError):
        find(name)(no_such_option=1)
