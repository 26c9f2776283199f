"""Channel groups: removing classes equals zeroing them, through every op that carries channels."""
from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mcc.passes.cost import total_macs
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.groups import analyse
from mcc.passes.ops.run import run
from mcc.passes.prune.channels import _Cost

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from zoo.zeroed import zeroed

torch.set_num_threads(1)


class Net:
    """Grows a Graph node by node; every method returns the new Value."""

    def __init__(self, *shape, name="x"):
        self.rng, self.nodes, self.count = np.random.default_rng(0), [], 0
        self.x = Value(name, "float32", shape)
        self.inputs = [self.x]

    def weight(self, *shape):
        self.count += 1
        return constant(f"w{self.count}", self.rng.standard_normal(shape).astype(np.float32))

    def ints(self, *numbers):
        self.count += 1
        return constant(f"i{self.count}", np.array(numbers, np.int64))

    def op(self, op, *inputs, name="", outputs=1, **attrs):
        self.count += 1
        outs = [Value(f"v{self.count}.{i}") for i in range(outputs)]
        self.nodes.append(Node(op, list(inputs), outs, attrs, name or f"{op}{self.count}"))
        return outs[0] if outputs == 1 else outs

    def conv(self, x, inputs, outputs, kernel=1, group=1, stride=1, name="", w=None):
        w = w if w is not None else self.weight(outputs, inputs // group, kernel, kernel)
        p = kernel // 2
        return self.op("conv", x, w, self.weight(outputs), name=name, group=group, pads=[p] * 4, strides=[stride] * 2)

    def norm(self, x, c):
        return self.op("batch_norm", x, self.weight(c), self.weight(c), self.weight(c),
                       constant(f"var{self.count}", abs(self.rng.standard_normal(c)).astype(np.float32) + 0.5))

    def graph(self, *outputs):
        return Graph(self.inputs, list(outputs), self.nodes)


def chain():
    n = Net("N", 3, 6, 6)
    y = n.op("relu", n.norm(n.conv(n.x, 3, 10, 3, name="a"), 10))
    return n.graph(n.conv(y, 10, 4, name="b"))


def residual():
    n = Net("N", 3, 6, 6)
    a = n.op("relu", n.conv(n.x, 3, 8, name="stem"))
    b = n.norm(n.conv(n.op("relu", n.norm(n.conv(a, 8, 6, 3, name="c1"), 6)), 6, 8, 3, name="c2"), 8)
    y = n.op("relu", n.op("add", b, a))
    return n.graph(n.conv(y, 8, 5, name="head"))


def inverted_with_gate():
    """MobileNetV3's block: wide, depthwise, squeeze and excite, narrow, shortcut."""
    n = Net("N", 3, 8, 8)
    a = n.op("hard_swish", n.conv(n.x, 3, 8, 3, name="stem"))
    wide = n.op("hard_swish", n.norm(n.conv(a, 8, 16, name="expand"), 16))
    deep = n.norm(n.conv(wide, 16, 16, 3, group=16, name="dw"), 16)
    gate = n.op("global_average_pool", deep)
    gate = n.op("relu", n.conv(gate, 16, 4, name="se1"))
    gate = n.op("hard_sigmoid", n.conv(gate, 4, 16, name="se2"))
    y = n.op("mul", deep, gate)
    y = n.op("add", n.conv(y, 16, 8, name="project"), a)
    y = n.op("reduce_mean", y, n.ints(2, 3), keepdims=0)
    return n.graph(n.op("linear", y, n.weight(5, 8), n.weight(5), name="fc"))


def fire_and_dense():
    """SqueezeNet's fire module, then DenseNet's growing concat."""
    n = Net("N", 3, 8, 8)
    s = n.op("relu", n.conv(n.x, 3, 6, name="squeeze"))
    y = n.op("concat", n.op("relu", n.conv(s, 6, 8, name="e1")), n.op("relu", n.conv(s, 6, 8, 3, name="e3")), axis=1)
    for i in range(2):
        new = n.conv(n.op("relu", n.norm(y, 16 + 4 * i)), 16 + 4 * i, 4, 3, name=f"dense{i}")
        y = n.op("concat", y, new, axis=1)
    y = n.op("max_pool", y, kernel_shape=[2, 2], strides=[2, 2])
    return n.graph(n.conv(y, 24, 3, name="head"))


def shuffle():
    """ShuffleNetV2: split in halves, a branch, concat, channel shuffle."""
    n = Net("N", 3, 4, 4)
    y = n.op("relu", n.conv(n.x, 3, 16, name="stem"))
    for i in range(2):
        a, b = n.op("split", y, axis=1, num_outputs=2, outputs=2)
        b = n.op("relu", n.conv(b, 8, 12, name=f"b{i}.1"))
        b = n.conv(n.conv(b, 12, 12, 3, group=12, name=f"b{i}.dw"), 12, 8, name=f"b{i}.2")
        y = n.op("concat", a, b, axis=1)
        y = n.op("reshape", y, n.ints(-1, 2, 8, 4, 4))
        y = n.op("transpose", y, perm=[0, 2, 1, 3, 4])
        y = n.op("reshape", y, n.ints(-1, 16, 4, 4))
    return n.graph(n.conv(y, 16, 3, name="head"))


def flatten():
    n = Net("N", 1, 8, 8)
    y = n.op("max_pool", n.conv(n.x, 1, 6, 3, name="c1"), kernel_shape=[2, 2], strides=[2, 2])
    y = n.op("reshape", n.conv(y, 6, 5, 3, name="c2"), n.ints(-1, 80))
    y = n.op("relu", n.op("linear", y, n.weight(12, 80), n.weight(12), name="fc1"))
    return n.graph(n.op("linear", y, n.weight(4, 12), n.weight(4), name="fc2"))


def grouped():
    n = Net("N", 4, 5, 5)
    y = n.op("prelu", n.conv(n.x, 4, 12, name="in"), n.weight(12, 1, 1))
    y = n.op("leaky_relu", n.conv(y, 12, 18, 3, group=3, name="grouped"))
    y = n.conv(y, 18, 36, 3, group=18, name="multiplier")
    return n.graph(n.conv(y, 36, 2, name="out"))


def pieces():
    """slice, pad with zero channels (the shortcut of small ResNets), resize, constants, instance norm, a gate by sub."""
    n = Net("N", 3, 4, 4)
    y = n.op("relu", n.conv(n.x, 3, 10, name="stem"))
    a = n.op("slice", y, n.ints(2), n.ints(8), n.ints(1), n.ints(1))
    a = n.op("add", n.op("mul", a, n.weight(6, 1, 1)), n.weight(1, 6, 1, 1))
    a = n.op("resize", a, None, None, n.ints(2, 6, 8, 8), mode="nearest")
    b = n.op("pad", n.conv(y, 10, 4, name="short"), n.ints(0, 1, 0, 0, 0, 1, 0, 0))
    b = n.op("conv_transpose", b, n.weight(6, 6, 2, 2), n.weight(6), strides=[2, 2], name="up")
    y = n.op("sub", n.op("instance_norm", a, n.weight(6), n.weight(6)), b)
    return n.graph(n.conv(n.op("depth_to_space", n.conv(y, 6, 8, name="deep"), blocksize=2), 2, 2, name="head"))


def transformer_mlp():
    """Attention whose keys are its values, then a block's hidden layer."""
    n = Net("N", 6, 8)
    q = n.op("linear", n.x, n.weight(8, 8), None, name="q")
    heads = n.op("transpose", n.op("reshape", q, n.ints(0, 6, 2, 4)), perm=[0, 2, 1, 3])
    scores = n.op("softmax", n.op("matmul", heads, n.op("transpose", heads, perm=[0, 1, 3, 2])), axis=-1)
    mixed = n.op("reshape", n.op("transpose", n.op("matmul", scores, heads), perm=[0, 2, 1, 3]), n.ints(0, 6, 8))
    y = n.op("add", n.op("linear", mixed, n.weight(8, 8), n.weight(8), name="proj"), n.x)
    y = n.op("gelu", n.op("linear", y, n.weight(20, 8), n.weight(20), name="up"))
    y = n.op("linear", y, n.weight(8, 20), None, name="down")
    return n.graph(y)


def fused_attention(flat: bool = False, kv: int = 3):
    """q, k and v by one layer of 3 heads of 8 places, or by layers of their own with fewer heads of keys; a bias per head."""
    n = Net("N", 5, 12)
    x = n.op("linear", n.x, n.weight(24, 12), n.weight(24), name="in")
    if flat:
        q, k, v = (n.op("linear", x, n.weight(8 * h, 24), n.weight(8 * h), name=name)
                   for h, name in ((3, "q"), (kv, "k"), (kv, "v")))
        y = n.op("attention", q, k, v, n.weight(3, 5, 5), q_num_heads=3, kv_num_heads=kv)
    else:
        qkv = n.op("reshape", n.op("linear", x, n.weight(72, 24), n.weight(72), name="qkv"), n.ints(-1, 5, 3, 3, 8))
        parts = n.op("split", n.op("transpose", qkv, perm=[2, 0, 3, 1, 4]), axis=0, num_outputs=3, outputs=3)
        y = n.op("attention", *(n.op("squeeze", p, n.ints(0)) for p in parts), n.weight(3, 5, 5))
        y = n.op("reshape", n.op("transpose", y, perm=[0, 2, 1, 3]), n.ints(-1, 5, 24))
    return n.graph(n.op("linear", y, n.weight(4, 24), n.weight(4), name="out"))


def class_token():
    """A parameter over the batch, before the places of an image."""
    n = Net("N", 3, 4, 4)
    y = n.op("transpose", n.op("reshape", n.conv(n.x, 3, 8, name="patch"), n.ints(-1, 8, 16)), perm=[0, 2, 1])
    shape = n.op("concat", n.op("slice", n.op("shape", y), n.ints(0), n.ints(1)), n.ints(1, 8), axis=0)
    y = n.op("add", n.op("concat", n.op("expand", n.weight(1, 1, 8), shape), y, axis=1), n.weight(1, 17, 8))
    return n.graph(n.op("linear", y, n.weight(4, 8), n.weight(4), name="head"))


def recurrent(op="lstm", gates=4):
    """Two layers, the first in both directions; states that are given and constant."""
    n = Net(7, "N", 6)
    x = n.op("linear", n.x, n.weight(8, 6), n.weight(8), name="in")
    y = n.op(op, x, n.weight(2, gates * 5, 8), n.weight(2, gates * 5, 5), n.weight(2, gates * 10), direction="bidirectional",
             hidden_size=5, name="first")
    y = n.op("reshape", n.op("transpose", y, perm=[0, 2, 1, 3]), n.ints(7, -1, 10))
    state = [None, n.weight(1, 2, 6)] + ([n.weight(1, 2, 6), n.weight(1, 18)] if op == "lstm" else [])
    y, h = n.op(op, y, n.weight(1, gates * 6, 10), n.weight(1, gates * 6, 6), n.weight(1, gates * 12), *state, hidden_size=6,
                outputs=2, name="second")
    y = n.op("add", n.op("squeeze", y, n.ints(1)), n.op("squeeze", h, n.ints(0)))
    return n.graph(n.op("linear", y, n.weight(3, 6), n.weight(3), name="out"))


def picked_and_summed():
    """Channels in another order, some twice; a gate from the mean over channels."""
    n = Net("N", 3, 4, 4)
    y = n.op("tanh", n.conv(n.x, 3, 8, name="a"))
    y = n.op("gather", y, n.ints(7, 0, -2, 3, 3, 1, 5, 2, 4), axis=1)
    y = n.op("mul", y, n.op("sigmoid", n.op("reduce_mean", y, n.ints(1), keepdims=1)))
    y = n.op("div", y, n.op("reduce_l2", y, n.ints(1), keepdims=1))
    return n.graph(n.conv(y, 9, 4, name="b"))


def shared():
    n = Net("N", 3, 4, 4)
    w = n.weight(8, 8, 3, 3)
    y = n.op("relu", n.conv(n.x, 3, 8, name="stem"))
    y = n.op("relu", n.conv(y, 8, 8, 3, w=w, name="once"))
    y = n.op("relu", n.conv(y, 8, 8, 3, w=w, name="again"))
    return n.graph(n.conv(y, 8, 2, name="head"))


ATTENTION = {"attention-written": transformer_mlp, "attention-fused": fused_attention,
             "attention-flat": partial(fused_attention, True), "attention-grouped": partial(fused_attention, True, 1)}
NETS = {f.__name__: f for f in (chain, residual, inverted_with_gate, fire_and_dense, shuffle, flatten, grouped, pieces,
                                picked_and_summed, class_token, shared)} | ATTENTION
NETS |= {f"{name} by heads": f for name, f in ATTENTION.items()}
NETS |= {op: partial(recurrent, op, gates) for op, gates in (("lstm", 4), ("gru", 3), ("rnn", 1))}


def feeds(graph):
    r = np.random.default_rng(1)
    return {v.name: r.standard_normal([2 if d == "N" else d for d in v.shape]).astype(np.float32) for v in graph.inputs}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("seed", range(4))
def test_removal_equals_zeroing(net, seed):
    graph = NETS[net]()
    deps, x = analyse(graph, heads=net.endswith("by heads")), feeds(graph)
    free = np.concatenate([g.classes for g in deps.groups])
    gone = deps.feasible(np.random.default_rng(seed).permutation(free)[:max(1, int(len(free) * (0.25, 0.5, 0.8, 1.0)[seed]))])
    assert len(gone)
    smaller = deps.remove(gone)
    before = {v.name: v.shape for v in graph.constants()}
    assert any(before.get(v.name, v.shape) != v.shape for v in smaller.constants())
    for name, y in zeroed(deps, gone, x).items():
        torch.testing.assert_close(run(smaller, x)[name], y, rtol=1e-4, atol=1e-3)
    analyse(smaller)  # what is left can be looked at again


def groups_of(net, heads=False):
    return {frozenset(p.name for p in g.producers): len(g.classes) for g in analyse(net(), heads=heads).groups}


def test_residual_members_move_together():
    assert groups_of(residual) == {frozenset({"stem", "c2"}): 8, frozenset({"c1"}): 6}


def test_gate_and_depthwise_follow_the_wide_layer():
    assert groups_of(inverted_with_gate) == {
        frozenset({"expand", "se2"}): 16, frozenset({"stem", "project"}): 8, frozenset({"se1"}): 4}


def test_concat_keeps_producers_apart():
    found = groups_of(fire_and_dense)
    assert found[frozenset({"e1"})] == found[frozenset({"e3"})] == 8 and found[frozenset({"dense0"})] == 4


def test_grouped_convolution_goes_by_rows():
    found = groups_of(grouped)
    assert found[frozenset({"in"})] == 4 and found[frozenset({"grouped"})] == 6


def test_attention_by_places_and_by_heads():
    flat = partial(fused_attention, True)
    assert groups_of(fused_attention) == {frozenset({"in"}): 24, frozenset({"qkv"}): 8}
    assert groups_of(flat) == {frozenset({"in"}): 24, frozenset({"q", "k"}): 8, frozenset({"v"}): 8}
    assert groups_of(fused_attention, True) == {frozenset({"in"}): 24, frozenset({"qkv"}): 3}
    assert groups_of(flat, True) == {frozenset({"in"}): 24, frozenset({"q", "k", "v"}): 3}
    assert groups_of(partial(fused_attention, True, 1), True)[frozenset({"q", "k", "v"})] == 1, "one head of keys serves all"


def test_hidden_units_of_recurrent_layers():
    assert groups_of(recurrent) == {frozenset({"in"}): 8, frozenset({"first"}): 5, frozenset({"second"}): 6}


def test_what_must_stay_is_said_why():
    deps = analyse(transformer_mlp())
    assert {g.name for g in deps.groups} == {"q", "up"}
    assert deps.skipped["down"] == "'v22.0' is an output of the model"
    assert deps.skipped["proj"] == "they meet channels that must stay in add ('add16')"


def test_unknown_op_protects():
    n = Net("N", 3, 4, 4)
    y = n.op("einsum", n.conv(n.x, 3, 4, name="a"), equation="nchw->nchw")
    deps = analyse(n.graph(n.conv(y, 4, 2)))
    assert not deps.groups and "einsum" in deps.skipped["a"]


def test_no_tensor_loses_all_channels():
    deps = analyse(chain())
    assert len(deps.feasible(deps.groups[0].classes)) == len(deps.groups[0].classes) - 1
    with pytest.raises(ValueError, match="must stay"):
        deps.remove([0])


@pytest.mark.parametrize("net", NETS)
def test_the_cost_of_a_removal_is_told_before_it_is_done(net):
    graph, bind = NETS[net](), {"N": 2}
    deps = analyse(graph, bind, heads=net.endswith("by heads"))
    free = np.concatenate([g.classes for g in deps.groups])
    gone = deps.feasible(np.random.default_rng(0).permutation(free)[:len(free) // 2])
    assert _Cost(deps, bind).after(gone) == pytest.approx(total_macs(deps.remove(gone), bind))
