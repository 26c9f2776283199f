"""prune.heads: heads go as a whole, wherever attention is written."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from mcc.kernels import Session
from mcc.passes import find, lower
from mcc.passes.distill.encoder import encoder_example
from mcc.passes.onnx_io import from_torch
from mcc.passes.ops.run import run
from mcc.passes.zoo.bert import Bert

from networks import blocks, context, distance, outputs


def silence(graph, heads, width, output="output.weight"):
    """The columns of these heads in what reads them become zero."""
    for v in graph.constants():
        if v.name.endswith(output) and v.data.ndim == 2:
            v.data = np.array(v.data)
            v.data[:, np.isin(np.arange(v.data.shape[1]) // width, heads)] = 0
    return graph


class Split(torch.nn.Module):
    """q, k and v from one layer; with `fuse` as the exporter writes attention, else two products around a softmax."""

    def __init__(self, fuse, width=16, heads=4):
        super().__init__()
        self.last = torch.nn.Identity() if fuse else torch.nn.ReLU()  # does nothing, but it is no attention any more
        self.heads, self.qkv, self.output = heads, torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.classify = torch.nn.Linear(width, 3)

    def forward(self, x):
        n, s, w = x.shape
        q, k, v = self.qkv(x).view(n, s, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = self.last((q @ k.transpose(-1, -2) / 2).softmax(-1)) @ v
        return self.classify((x + self.output(y.transpose(1, 2).reshape(n, s, w))).mean(1))


def networks():
    torch.manual_seed(0)
    yield "flat", encoder_example(2, width=16, heads=4)
    for fuse in (True, False):
        yield "fused" if fuse else "unfused", from_torch(Split(fuse).eval(), torch.zeros(2, 5, 16), {"x": {0: "N"}})


@pytest.mark.parametrize(("name", "graph"), list(networks()), ids=["flat", "fused", "unfused"])
def test_silent_heads_go_first_and_nothing_changes(name, graph, tmp_path):
    """What nobody reads does nothing to the loss."""
    silence(graph, [1, 2], 4)
    ctx = context(graph)
    out = find("prune.heads")(ratio=0.5, importance="taylor").run(graph, ctx)
    assert distance(outputs(out), outputs(graph)) < 1e-5
    assert any(n.op == "attention" for n in out.nodes) == (name != "unfused")
    for n in out.nodes:
        if n.op == "attention" and name == "flat":
            assert n.attrs["q_num_heads"] == n.attrs["kv_num_heads"] == 2
    assert all(v.shape[1] == 8 for v in out.constants() if v.name.endswith("output.weight"))
    for kind, g in (("all", graph), ("half", out)):
        lower(g, tmp_path / kind)
    assert (tmp_path / "half").stat().st_size < (tmp_path / "all").stat().st_size
    x = np.random.default_rng(0).standard_normal([1, *graph.inputs[0].shape[1:]]).astype(np.float32)
    got = next(iter(Session(str(tmp_path / "half")).run({"x": x}).values()))
    assert distance(torch.from_numpy(got), next(iter(run(out, {"x": torch.from_numpy(x)}).values()))) < 1e-5


def test_bert_from_torch():
    torch.manual_seed(0)
    module = Bert(layers=2, hidden=32, heads=4, ffn=48, vocabulary=50, positions=16, pooling="mean").eval()
    example = [torch.ones(2, 8, dtype=torch.int64)] * 2
    graph = from_torch(module, example, {k: {0: "N"} for k in ("input_ids", "attention_mask")}, ["input_ids", "attention_mask"])
    ctx = context(graph)
    out = find("prune.heads")(ratio=0.25, keep=["encoder.layer.1*"]).run(graph, ctx)
    widths = {v.name: v.shape for v in out.constants()}
    assert all(widths[f"encoder.layer.0.attention.self.{name}.weight"] == (24, 32) for name in ("query", "key", "value"))
    assert widths["encoder.layer.0.attention.output.dense.weight"] == (32, 24)
    assert widths["encoder.layer.1.attention.self.key.weight"] == (32, 32)
    feeds = {"input_ids": torch.arange(24).reshape(3, 8), "attention_mask": torch.ones(3, 8, dtype=torch.int64)}
    silent = graph.copy()
    kept = next(v.data for v in out.constants() if v.name == "encoder.layer.0.attention.self.query.bias")
    whole = next(v.data for v in graph.constants() if v.name == "encoder.layer.0.attention.self.query.bias")
    gone = [h for h in range(4) if not np.isin(whole[8 * h:8 * h + 8], kept).all()]
    assert len(gone) == 1
    silence(silent, gone, 8, "0.attention.output.dense.weight")
    a, b = (next(iter(run(g, feeds).values())) for g in (out, silent))
    assert distance(a, b) < 1e-5


def test_how_many_and_which():
    graph = encoder_example(2, width=16, heads=4)
    ctx = context(graph)

    def heads(g):
        return [n.attrs["q_num_heads"] for n in g.nodes if n.op == "attention"]
    assert heads(find("prune.heads")(ratio=0.9).run(graph, ctx)) == [1, 1]
    assert heads(find("prune.heads")(ratio=0.9, min_heads=2).run(graph, ctx)) == [2, 2]
    assert heads(find("prune.heads")(overrides={"layer.1.*": {"ratio": 0.75}}, ratio=0.25).run(graph, ctx)) == [3, 1]
    assert heads(find("prune.heads")(layers="layer.1.*", steps=2, epochs=0.5).run(graph, ctx)) == [4, 2]
    from mcc.passes.prune.budget import cost
    for kind in ("params", "macs", "bytes"):
        out = find("prune.heads")(**{kind: 0.85}).run(graph, ctx)
        assert cost(kind, out, ctx, "t") <= 0.85 * cost(kind, graph, ctx, "t") and min(heads(out)) < 4
    with pytest.raises(Exception, match="prune.heads: no heads can be removed"):
        find("prune.heads")().run(blocks(), context(blocks()))
