"""quantize.qat: the simulation, the gradients, what training gains, and every option."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from mcc.passes import find
from mcc.passes.errors import UserError
from mcc.passes.lower import lower
from mcc.passes.ops.run import run
from mcc.passes.quantize.ptq import PTQ, quantize_graph
from mcc.passes.quantize.qat import simulation
from mcc.passes.quantize.simulate import Simulation
from mcc.passes.train import fit_graph

from networks import blocks, cnn, context, distance, outputs, same_graph, shifted

torch.set_num_threads(1)


def quantized(graph, **options):
    """The module that training begins with."""
    ctx, masters = context(graph), {}
    how = PTQ(**options)
    batches = how.batches(graph, ctx)
    return simulation(quantize_graph(graph, batches, how, ctx, masters), masters), batches[0]


@pytest.mark.parametrize("graph", [cnn(), blocks()], ids=["cnn", "blocks"])
@pytest.mark.parametrize("options", [{}, {"granularity": "tensor"}, {"weight_bits": 3}], ids=str)
def test_the_simulation_is_the_lowered_graph(graph, options):
    module, batch = quantized(graph, **options)
    for p in module.parameters():  # anywhere in training, not only where it begins
        p.data = p.data + 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    made = module.write_back()
    low = lower(made, bind={"N": len(batch["x"])})
    assert not {n.op for n in low.nodes} & {"nhwc_conv", "linear", "add", "hard_swish", "dequantize_linear"}
    with torch.no_grad():
        simulated, plain = module.eval()(batch), made.module().eval()(batch)
    engine = next(iter(run(low, batch).values()))
    assert torch.equal(simulated, engine)
    assert not torch.equal(plain, engine), "float fake quantization would not have been: the test sees the difference"
    module.train()
    assert torch.equal(module(batch).detach(), engine), "training computes the same"


def test_sums_beyond_float32_are_exact():
    """Products whose sum leaves 2**24: float32 alone would round it."""
    from mcc.passes.graph import Graph, Node, Value, constant

    r = np.random.default_rng(0)
    x, y = Value("x", "float32", ("N", 3000)), Value("y", "float32", ("N", 4))
    w = constant("fc.weight", np.abs(r.standard_normal((4, 3000))).astype(np.float32))
    module, _ = quantized(Graph([x], [y], [Node("linear", [x, w, None], [y], {}, "fc")]), observer="minmax")
    batch = {"x": torch.from_numpy(np.abs(r.standard_normal((5, 3000))).astype(np.float32) * 3)}
    with torch.no_grad():
        ours = module(batch)
    assert torch.equal(ours, next(iter(run(lower(module.write_back(), bind={"N": 5}), batch).values())))


def test_gradients_are_those_of_straight_through_and_lsq():
    module, batch = quantized(cnn())
    module.train()
    module(batch).square().sum().backward()
    gradients = {k: p.grad for k, p in module.named_parameters() if p.requires_grad}
    assert all(g is not None and torch.isfinite(g).all() for g in gradients.values())
    assert {k.rsplit(".", 1)[1] for k in gradients} >= {"master", "log", "corrected"}
    assert any(k.endswith(".log") and g.abs().sum() > 0 for k, g in gradients.items())
    float_module = cnn().module().train()
    for p in float_module.modules():
        p.training = False
    float_module(batch).square().sum().backward()
    ours, theirs = (next(p.grad for k, p in m.named_parameters() if k.startswith("fc2.weight")) for m in (module, float_module))
    assert distance(ours, theirs) < 0.1, "hardly rounded, the gradient is the float one"


def test_training_wins_back_what_few_bits_lose():
    graph = fit_graph(cnn(2), context(cnn(2)), epochs=20, lr=3e-3)
    for bits, share in ((4, 1.0), (2, 0.6)):
        made = {name: distance(outputs(find(f"quantize.{name}")(weight_bits=bits, **more).run(graph, context(graph))),
                               outputs(graph)) for name, more in (("ptq", {}), ("qat", {"epochs": 10, "teacher": "original"}))}
        assert made["qat"] < made["ptq"] * share + 0.05, (bits, made)


@pytest.mark.parametrize("batch_norm", ["live", "fold"])
def test_trained_is_lowered_without_a_change(batch_norm):
    graph = cnn(2)
    ctx = context(graph)
    out = find("quantize.qat")(epochs=2, batch_norm=batch_norm).run(graph, ctx)
    assert ctx.notes["identical"] is True and ctx.notes["batch_norms"] == (2 if batch_norm == "live" else 0)
    before = find("quantize.qat")(epochs=0).run(graph, context(graph))
    moved = [not np.array_equal(a.data, b.data) for a, b in zip(before.constants(), out.constants())
             if a.dtype == "int8" and a.data.ndim]
    assert len(moved) and all(moved), "every weight has moved"
    assert [n.op for n in before.nodes] == [n.op for n in out.nodes]


def test_batch_norms_end_where_their_statistics_do():
    """Live on data of other mean and spread, the norm follows it; frozen it is a constant."""
    from mcc.passes.quantize.qat import _normed

    graph = cnn()
    ctx, masters, how = context(graph), {}, PTQ()
    batches = how.batches(graph, ctx)
    made = quantize_graph(graph, batches, how, ctx, masters)
    plain, module = simulation(made, masters), simulation(made, masters, True, _normed(graph), batches)
    assert _normed(graph) == {"stem", "dw"}
    with torch.no_grad():
        assert distance(module.eval()(batches[0]), plain.eval()(batches[0])) < 0.03, "it begins as the folded layer"
        module.train()
        first = module.write_back()
        for _ in range(30):
            module({"x": torch.as_tensor(batches[0]["x"]) * 3 + 1})
        second = module.write_back()
        module.freeze()
        module({"x": torch.as_tensor(batches[0]["x"])})
    changed = {a.name for a, b in zip(first.constants(), second.constants()) if not np.array_equal(a.data, b.data)}
    assert any(n.startswith("stem.weight.int8") for n in changed) and not any(n.startswith("pw.") for n in changed)
    assert same_graph(second, module.write_back())


def test_zeros_and_palettes_stay():
    graph = cnn()
    graph = find("prune.weights")(sparsity=0.6).run(graph, context(graph))
    graph = find("quantize.codebook")(bits=3, min_size=16, layers="fc*").run(graph, context(graph))
    out = find("quantize.qat")(epochs=1).run(graph, context(graph))
    for v in out.constants():
        if v.dtype == "int8" and v.data.ndim > 1:
            before = next(u for u in graph.constants() if v.name == u.name + ".int8")
            assert (v.data[before.data == 0] == 0).all()
            if before.meta.get("codebook"):
                assert len(np.unique(v.data)) <= 8


OPTIONS = [({}, {"epochs": 2}), ({}, {"lr": 1e-2}), ({}, {"learn_steps": False}), ({}, {"batch_norm": "fold"}),
           ({}, {"freeze": 0.0}), ({}, {"teacher": "original"}), ({"teacher": "original"}, {"temperature": 4.0}),
           ({"teacher": "original"}, {"teacher": "previous"}), ({}, {"weight_bits": 4})]


@pytest.mark.parametrize("base,change", OPTIONS, ids=str)
def test_every_option_reaches_what_is_trained(base, change):
    graph = cnn()
    made = [find("quantize.qat")(**options).run(graph, context(graph, shifted(graph), previous=graph))
            for options in (base, base | change)]
    assert not same_graph(*made)


def test_what_cannot_be_trained_is_told():
    graph, blind = cnn(), context(cnn())
    with pytest.raises(UserError, match="no pass before"):
        find("quantize.qat")(teacher="previous").run(graph, context(graph))
    blind.data = None
    with pytest.raises(UserError, match="training needs data"):
        find("quantize.qat")(calibration="synthetic", samples=8).run(graph, blind)


def test_models_that_are_quantized_already_are_simulated_too():
    """A QDQ graph from elsewhere, with uint8: nothing to train, the same bytes."""
    module, batch = quantized(cnn())
    graph = module.write_back()
    other = Simulation(graph, {}, {}, learn=False)
    with torch.no_grad():
        assert torch.equal(other(batch), module(batch))
