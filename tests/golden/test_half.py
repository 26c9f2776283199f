"""float16 arithmetic: the engine gives what torch means by the lowered graph, within a stated tolerance, on every CPU: those with
float16 kernels sum in float16, the others compute in float32 and round as torch does."""
from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from mcc.kernels import Session
from mcc.passes import load, lower
from mcc.passes.onnx_io import from_torch
from mcc.passes.ops.half import TOLERANCE
from mcc.passes.ops.run import run
from torch import nn

ROUNDING = 2e-3  # of the range: values that the last bit of a sum puts on the other side of a rounding
CORES = {"cortex-a53": ROUNDING, "cortex-a76": 2 * TOLERANCE, "max,sve=off,sme=off": 2 * TOLERANCE}


def conv(i, o, k=1, s=1, g=1, act=nn.ReLU6):
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, groups=g), *([act()] if act else []))


class Mobile(nn.Module):
    """First layer, inverted residuals (large enough for one op, and not), squeeze and excite, 5x5, global pooling, linear."""

    def __init__(self):
        super().__init__()
        self.first = conv(3, 16, 3, 2)
        self.large = nn.Sequential(conv(16, 96), conv(96, 96, 3, 1, 96), conv(96, 16, act=None))
        self.down = nn.Sequential(conv(16, 40, act=nn.Hardswish), conv(40, 40, 5, 2, 40), conv(40, 24, act=None))
        self.small = nn.Sequential(conv(24, 36), conv(36, 36, 5, 1, 36, nn.SiLU))
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(36, 12), conv(12, 36, act=nn.Hardsigmoid))
        self.last, self.head = conv(36, 24, act=None), nn.Linear(24, 10)

    def forward(self, x):
        x = self.first(x)
        x = self.down(x + self.large(x))
        y = self.small(x)
        return self.head((x + self.last(y * self.squeeze(y))).mean((2, 3)))


class Classic(nn.Module):
    """3x3 of many channels, a residual, pooling, a concat that is written in place, grouped and dilated windows."""

    def __init__(self):
        super().__init__()
        self.first, self.pool = conv(3, 24, 7, 2), nn.MaxPool2d(3, 2, 1)
        self.a, self.b = conv(24, 48, 3, act=nn.ReLU), conv(48, 24, 3, act=None)
        self.left, self.right, self.group = conv(24, 20), conv(24, 28, 3), nn.Conv2d(48, 32, 3, 1, 2, 2, 4)
        self.mean, self.head = nn.AvgPool2d(2), nn.Linear(32 * 4 * 4, 30)

    def forward(self, x):
        x = self.pool(self.first(x))
        x = torch.relu(x + self.b(self.a(x)))
        x = torch.cat([self.left(x), self.right(x)], 1)
        return self.head(self.mean(self.group(x)).flatten(1)).softmax(1)


def encoder():
    return nn.TransformerEncoderLayer(48, 4, 96, batch_first=True, activation="gelu").eval()


CASES = {"mobile": (Mobile, (1, 3, 150, 150)), "classic": (Classic, (2, 3, 32, 32)), "encoder": (encoder, (1, 11, 48))}


def case(name: str, folder: Path):
    """(lowered graph, file, feed, float32's answer, torch's answer in float16)."""
    torch.manual_seed(3)
    make, shape = CASES[name]
    graph, feed = from_torch(make().eval(), (torch.zeros(shape),)), torch.randn(shape).numpy()
    bind = {d: n for v in graph.inputs for d, n in zip(v.shape, shape) if isinstance(d, str)}
    file, key = folder / f"{name}.mcc", graph.inputs[0].name
    lowered = lower(graph, file, precision="fp16-math", bind=bind)
    full, half = (next(iter(run(g, {key: feed}).values())).numpy() for g in (lower(graph, bind=bind), lowered))
    return lowered, file, {key: feed}, full, half


def error(want: np.ndarray, got: np.ndarray) -> float:
    return float(np.abs(want.astype(np.float64) - got).max() / np.ptp(want))


@pytest.mark.parametrize("name", CASES)
def test_host(name, tmp_path):
    lowered, file, feed, full, half = case(name, tmp_path)
    assert error(full, half) <= TOLERANCE
    for isa in (None, "avx2", "c"):
        for threads in (1, 2):
            session = Session(str(file), threads=threads, isa=isa)
            got = next(iter(session.run(feed).values()))
            assert got.dtype == np.float32 and error(half, got) <= ROUNDING, f"isa {isa}, {threads} threads"
    again = load(file)  # the second reader of the file sees the same graph
    assert [v.dtype for n in again.nodes for v in n.outputs] == [v.dtype for n in lowered.nodes for v in n.outputs]


@pytest.mark.parametrize("name, casts", [("mobile", 2), ("classic", 2), ("encoder", 3)])
def test_few_casts(name, casts, tmp_path):
    """One for each reader of the input (a reshape is one) and one where the graph ends: everything between is float16."""
    lowered = case(name, tmp_path)[0]
    assert [n.op for n in lowered.nodes].count("cast") == casts
    first = next(i for i, n in enumerate(lowered.nodes) if n.op == "cast")
    inner = [v for n in lowered.nodes[first:] for v in n.outputs if v not in lowered.outputs]
    assert {v.dtype for v in inner} == {"float16"}


def test_ops_without_a_float16_form(tmp_path):
    """They get float32, and the file runs; what a layer adds is float16 too, wherever it comes from."""
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(12, 16), nn.Linear(16, 16)

        def forward(self, x):
            y = self.a(x)
            z = torch.cumsum(y, 1)
            return self.b(self.b(z) + y) + z

    torch.manual_seed(0)
    graph, feed = from_torch(Odd(), (torch.zeros(2, 12),)), np.random.default_rng(0).standard_normal((2, 12)).astype(np.float32)
    bind = {d: 2 for d in graph.inputs[0].shape if isinstance(d, str)}
    lowered = lower(graph, tmp_path / "odd.mcc", precision="fp16-math", bind=bind)
    sums = next(n for n in lowered.nodes if n.op == "cum_sum")
    assert sums.inputs[0].dtype == sums.outputs[0].dtype == "float32"
    added = [v for n in lowered.nodes if n.op == "linear" and len(n.inputs) > 3 for v in n.inputs if v.data is None]
    assert len(added) == 4 and {v.dtype for v in added} == {"float16"}
    key = graph.inputs[0].name
    want, = run(lowered, {key: feed}).values()
    assert error(want.numpy(), next(iter(Session(str(tmp_path / "odd.mcc")).run({key: feed}).values()))) <= ROUNDING


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", CASES)
def test_arm64(name, core, arm64_runner, tmp_path):
    """cortex-a53 has no float16 arithmetic: an instruction of it would end the run."""
    _, file, feed, _, half = case(name, tmp_path)
    np.save(tmp_path / "x.npy", *feed.values())
    subprocess.run(["qemu-aarch64", "-cpu", core, arm64_runner, file, "--input", tmp_path / "x.npy",
                    "--output", tmp_path / "y.npy"], check=True, stdout=subprocess.DEVNULL)
    assert error(half, np.load(tmp_path / "y.npy")) <= CORES[core]


def test_results_are_rounded_once():
    """In torch an op on float16 gives float16: the float32 result, rounded."""
    from mcc.passes.ops import call
    a, b = (torch.randn(64, generator=torch.Generator().manual_seed(i)).half() for i in range(2))
    y, = call("mul", [a, b], {})
    assert y.dtype == torch.float16 and torch.equal(y, (a.float() * b.float()).half())
