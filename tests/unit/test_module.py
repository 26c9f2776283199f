"""GraphModule against torch's own layers, and what Value.meta promises."""
import copy
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.module import GraphModule
from mcc.passes.ops.run import run
from torch import nn

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.standard_normal(shape).astype("float32")


def layer(op, v, name, *weights, outputs=1, **attrs):
    """A node on `v` with constants named as torch names them."""
    y = Value(f"{name}:0")
    inputs = [w if isinstance(w, Value) or w is None else constant(f"{name}.{k}", w) for k, w in weights]
    return Node(op, [v, *inputs], [y], attrs, name), y


def small_net():
    """conv, batch norm, relu, dropout, pool, flatten, linear; and the same in torch."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4, momentum=0.2), nn.ReLU(), nn.Dropout(0.25),
                        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 5))
    p = {k: v.detach().numpy().copy() for k, v in net.state_dict().items()}
    x, nodes = Value("x", "float32", ("N", 2, 6, 6)), []
    v = x
    for op, name, weights, attrs in [
            ("conv", "0", [("weight", p["0.weight"]), ("bias", p["0.bias"])], {"pads": [1, 1, 1, 1]}),
            ("batch_norm", "1", [(k, p[f"1.{k}"]) for k in ("weight", "bias", "running_mean", "running_var")], {"momentum": 0.8}),
            ("relu", "2", [], {}), ("dropout", "3", [("ratio", np.float32(0.25))], {}),
            ("average_pool", "4", [], {"kernel_shape": [2, 2], "strides": [2, 2]}), ("flatten", "5", [], {}),
            ("linear", "6", [("weight", p["6.weight"]), ("bias", p["6.bias"])], {})]:
        node, v = layer(op, v, name, *weights, **attrs)
        nodes.append(node)
    v.name = "logits"
    return Graph([x], [v], nodes), net


def one_linear(w, b=None, **meta):
    x, y = Value("x", "float32", ("N", w.shape[1])), Value("y", "float32", ("N", w.shape[0]))
    inputs = [x, constant("fc.weight", w, **meta), None if b is None else constant("fc.bias", b)]
    return Graph([x], [y], [Node("linear", inputs, [y])])


def train(module, steps=5, lr=0.1, optimizer=torch.optim.SGD, seed=0, **options):
    gen = torch.Generator().manual_seed(seed)
    opt = optimizer(module.parameters(), lr=lr, **options)
    width = (module.graph if isinstance(module, GraphModule) else module.module.graph).inputs[0].shape[1:]
    for _ in range(steps):
        y = module(torch.randn(8, *width, generator=gen))
        opt.zero_grad()
        (y ** 2).sum().backward()
        opt.step()


# --- against torch ----------------------------------------------------------------------------------------------


def test_trains_as_torch_does():
    graph, net = small_net()
    module = graph.module()
    assert set(module.state_dict()) | {"1.num_batches_tracked"} == set(net.state_dict())
    assert {n for n, _ in module.named_parameters()} == {n for n, _ in net.named_parameters()}
    x = torch.randn(7, 2, 6, 6)
    torch.testing.assert_close(module.eval()(x), net.eval()(x))
    losses = []
    for m in (module.train(), net.train()):
        opt = torch.optim.AdamW(m.parameters(), lr=0.01)
        torch.manual_seed(5)  # dropout draws from torch's generator in both
        for _ in range(4):
            loss = F.cross_entropy(m(x), torch.arange(7) % 5)
            opt.zero_grad()
            loss.backward()
            opt.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    want = net.state_dict()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, want[name], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(module.eval()(x), net.eval()(x), rtol=1e-3, atol=1e-4)


def test_eval_changes_nothing_and_dropout_sleeps():
    graph, _ = small_net()
    module = graph.module().eval()
    before = copy.deepcopy(module.state_dict())
    x = torch.randn(3, 2, 6, 6)
    assert torch.equal(module(x), module(x))
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    module.train()
    assert not torch.equal(module(x), module(x))
    assert not torch.equal(module.state_dict()["1.running_mean"], before["1.running_mean"])


def test_a_frozen_batch_norm_keeps_its_statistics():
    graph, net = small_net()
    next(v for v in graph.constants() if v.name == "1.running_mean").meta["frozen"] = True
    module = graph.module().train()
    x = torch.randn(3, 2, 6, 6)
    inner = module.values(x, ["1:0"])["1:0"]
    torch.testing.assert_close(inner, net[:2].eval()(x))
    assert torch.equal(module.state_dict()["1.running_var"], net.state_dict()["1.running_var"])


@pytest.mark.parametrize("make", [lambda: nn.LSTM(3, 5, bidirectional=True), lambda: nn.GRU(3, 5)])
def test_recurrent(make):
    """Gate orders and both biases, against torch."""
    torch.manual_seed(0)
    net = make()
    order, op = ((0, 3, 1, 2), "lstm") if isinstance(net, nn.LSTM) else ((1, 0, 2), "gru")
    def take(v):
        return np.concatenate([v.detach().numpy().reshape(len(order), 5, -1)[g] for g in order])
    ends = ("", "_reverse") if net.bidirectional else ("",)
    w, r = (np.stack([take(getattr(net, f"weight_{k}_l0{e}")) for e in ends]) for k in ("ih", "hh"))
    b = np.stack([np.concatenate([take(getattr(net, f"bias_{k}_l0{e}"))[:, 0] for k in ("ih", "hh")]) for e in ends])
    x, y = Value("x", "float32", ("T", "N", 3)), Value("y")
    attrs = {"hidden_size": 5, "direction": "bidirectional" if net.bidirectional else "forward", "linear_before_reset": 1}
    if op == "lstm":
        del attrs["linear_before_reset"]
    module = Graph([x], [y], [Node(op, [x, constant("w", w), constant("r", r), constant("b", b)], [y], attrs)]).module()
    data = torch.randn(6, 2, 3)
    got = module(data)
    torch.testing.assert_close(got.permute(0, 2, 1, 3).flatten(2), net(data)[0])
    got.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in module.parameters()) and len(list(module.parameters())) == 3


# --- calling ----------------------------------------------------------------------------------------------------


def test_inputs_outputs_and_inner_values():
    a, b, s, d = (Value(n, "float32", ("N", 3)) for n in ("a", "b", "s", "d"))
    graph = Graph([a, b], [d, s], [Node("add", [a, b], [s]), Node("sub", [s, b], [d])])
    module, x, y = graph.module(), torch.randn(2, 3), torch.randn(2, 3)
    first = module(x, y)
    assert torch.equal(first[1], x + y) and len(first) == 2
    for again in (module(a=x, b=y), module({"b": y, "a": x}), module(x, b=y)):
        assert all(torch.equal(p, q) for p, q in zip(first, again))
    outputs, inner = module(x, y, want=["s", "a"])
    assert torch.equal(inner["s"], x + y) and torch.equal(inner["a"], x) and torch.equal(outputs[0], first[0])
    assert torch.equal(module.values([x, y], ["s"])["s"], x + y)
    with pytest.raises(UserError, match="no value is named 'ss'; did you mean 's'"):
        module(x, y, want=["ss"])
    with pytest.raises(UserError, match="input 'b' is missing"):
        module(x)


def test_names_that_torch_would_refuse():
    """"a" beside "a.b", a method's name, no name after a dot; state_dict is a round trip."""
    x, y = Value("x", "float32", ("N", 3)), Value("y")
    names, v, nodes = ["a", "a.b", "forward", "training.", "values"], x, []
    for i, name in enumerate(names):
        w = constant(name, draw(3, 3))
        out = y if i == len(names) - 1 else Value(f"v{i}")
        nodes.append(Node("linear", [v, w], [out]))
        v = out
    graph = Graph([x], [y], nodes)
    module, other = graph.module(), graph.module()
    assert sorted(module.state_dict()) == sorted(names)
    train(module, lr=1e-4)
    other.load_state_dict(module.state_dict())
    data = torch.randn(2, 3)
    assert torch.equal(module(data), other(data)) and module.training


def test_what_is_trained():
    """Weights, also behind a transpose or a quantizer; scales and shifts; no masks, scalars, tables of integers."""
    x, y = Value("x", "float32", ("N", 4)), Value("y")
    t, q, d, h, m, k, s = (Value(n) for n in ("t", "q", "d", "h", "m", "k", "s"))
    table, fact, shift = constant("w", draw(5, 4)), constant("fact", np.float32(2)), constant("shift", draw(5))
    scale, zero = constant("scale", np.float32(0.1), trainable=True), constant("zero", np.int8(0))
    mask = constant("mask", np.full((1, 5), -1e9, "float32"))
    nodes = [Node("quantize_linear", [table, scale, zero], [q]), Node("dequantize_linear", [q, scale, zero], [d]),
             Node("transpose", [d], [t]), Node("matmul", [x, t], [h]), Node("mul", [h, fact], [k]), Node("add", [k, mask], [m]),
             Node("add", [m, shift], [s]), Node("reshape", [s, constant("to", np.array([-1, 5]))], [y])]
    module = Graph([x], [y], nodes).module()
    assert {n for n, _ in module.named_parameters()} == {"w", "scale", "shift"}
    assert {n for n, _ in module.named_buffers()} == {"fact", "mask", "zero"}
    module(torch.randn(3, 4)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_shared_value_is_one_parameter():
    w, x, h, y = constant("w", draw(4, 4)), Value("x", "float32", ("N", 4)), Value("h"), Value("y")
    module = Graph([x], [y], [Node("linear", [x, w], [h]), Node("linear", [h, w], [y])]).module()
    assert len(list(module.parameters())) == 1
    data, p = torch.randn(3, 4), torch.tensor(w.data, requires_grad=True)
    module(data).sum().backward()
    (data @ p.T @ p.T).sum().backward()
    torch.testing.assert_close(next(module.parameters()).grad, p.grad)


# --- meta -------------------------------------------------------------------------------------------------------


def test_frozen():
    graph = one_linear(draw(4, 6), draw(4))
    graph.constants()[0].meta["frozen"] = True
    module = graph.module()
    train(module)
    done = module.write_back()
    assert done.constants()[0].data is graph.constants()[0].data
    assert not np.array_equal(done.constants()[1].data, graph.constants()[1].data)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_sparse_zeros_stay(optimizer):
    w = draw(8, 6) * (RNG.random((8, 6)) < 0.4)
    graph = one_linear(w, sparse=True)
    module = graph.module()
    train(module, optimizer=optimizer, weight_decay=0.1)
    got = module.write_back().constants()[0].data
    np.testing.assert_array_equal(got == 0, w == 0)
    assert not np.signbit(got[w == 0]).any() and not np.allclose(got, w)
    assert next(module.parameters()).grad[torch.tensor(w == 0)].abs().max() == 0


def test_masks_of_a_schedule():
    w = draw(4, 6)
    module = one_linear(w).module()
    keep = abs(w) > 0.5
    module.set_mask("fc.weight", keep)
    np.testing.assert_array_equal(module.value("fc.weight"), np.where(keep, w, 0))
    module.set_mask("fc.weight", torch.ones(4, 6))
    np.testing.assert_array_equal(module.value("fc.weight"), w)
    assert list(module.state_dict()) == ["fc.weight"]
    with pytest.raises(ValueError, match=r"mask of 'fc.weight' has shape \[2\]"):
        module.set_mask("fc.weight", np.ones(2))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_codebook(groups, sparse):
    """Members of a centroid stay equal, and its gradient is the sum over them."""
    palette = draw(groups, 4)
    index = RNG.integers(0, 4, (groups, 12, 6))
    w = np.stack([p[i] for p, i in zip(palette, index)]).reshape(-1, 6)
    if sparse:
        w = w * (RNG.random(w.shape) < 0.5).astype("float32")
    meta = {"codebook": {"bits": 3, "groups": groups}, **({"sparse": True} if sparse else {})}
    module = one_linear(w, **meta).module()
    (name, centroids), = module.named_parameters()
    assert name == "fc.weight.centroids" and centroids.shape == (groups * 4,)
    np.testing.assert_array_equal(module.value("fc.weight"), w)
    x = torch.randn(5, 6)
    module(x).sin().sum().backward()
    dense = torch.tensor(w, requires_grad=True)
    F.linear(x, dense).sin().sum().backward()
    where = np.argsort(palette, 1)  # the module keeps each palette sorted
    want = [dense.grad.reshape(groups, 12, 6)[g][torch.tensor((index[g] == e) & (w.reshape(groups, 12, 6)[g] != 0))].sum()
            for g in range(groups) for e in where[g]]
    torch.testing.assert_close(centroids.grad, torch.stack(want))
    train(module, lr=0.001)
    got = module.write_back().constants()[0].data.reshape(groups, -1)
    for g in range(groups):
        assert len(np.unique(got[g][got[g] != 0])) <= 4
        assert all(len(set(got[g][w.reshape(groups, -1)[g] == v])) == 1 for v in np.unique(w.reshape(groups, -1)[g]))
    assert not np.allclose(got, w.reshape(groups, -1))
    np.testing.assert_array_equal(got[w.reshape(groups, -1) == 0], 0)


# --- state ------------------------------------------------------------------------------------------------------


def test_write_back_is_the_module():
    graph, _ = small_net()
    kept = {v.name: v.data.copy() for v in graph.constants()}
    module = graph.module()
    train(module, steps=2, lr=1e-3)
    done = module.write_back()
    x = torch.randn(3, 2, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(run(done, [x])["logits"], module.eval()(x))
    assert all(np.array_equal(v.data, kept[v.name]) for v in graph.constants())
    after = {v.name: v.data.copy() for v in done.constants()}
    train(module, steps=1)
    assert all(np.array_equal(v.data, after[v.name]) for v in done.constants())


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_dtypes_are_kept(kind):
    w = draw(4, 6)
    held = Value("w", kind, (4, 6), w if kind == "bfloat16" else w.astype(kind))
    x, y = Value("x", kind, ("N", 6)), Value("y", kind, ("N", 4))
    module = Graph([x], [y], [Node("linear", [x, held], [y])]).module()
    assert str(next(module.parameters()).dtype) == f"torch.{kind}"
    module(torch.randn(2, 6).to(next(module.parameters()).dtype)).sum().backward()
    with torch.no_grad():
        next(module.parameters()).add_(1)
    back = module.write_back().constants()[0]
    assert (back.dtype, back.data.dtype) == (kind, held.data.dtype)
    np.testing.assert_allclose(back.data, held.data + 1, atol=0.05)


def test_deepcopy_and_autocast():
    graph, _ = small_net()
    module = graph.module().train()
    other = copy.deepcopy(module)
    train(other, steps=1)
    assert all(np.array_equal(module.value(v.name), v.data) for v in graph.constants())
    with torch.autocast("cpu", torch.bfloat16):
        assert module(torch.randn(2, 2, 6, 6)).dtype == torch.bfloat16


def test_distributed(tmp_path):
    """DistributedDataParallel takes the module, masks and dotted names included."""
    w = draw(4, 6) * (RNG.random((4, 6)) < 0.5).astype("float32")
    module = one_linear(w, draw(4), sparse=True).module()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        train(nn.parallel.DistributedDataParallel(module))
    finally:
        torch.distributed.destroy_process_group()
    got = module.value("fc.weight")
    assert not np.allclose(got, w) and np.array_equal(got == 0, w == 0)
