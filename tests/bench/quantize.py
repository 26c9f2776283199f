"""Quantization on real data: bytes of the file, accuracy of the file run by the engine, time against float32; and what
onnxruntime's own quantizer makes of the same networks. Writes tables to standard output.

    python tests/bench/quantize.py [--seed 0] [--epochs 6] [--rows 'int8*']

Two networks on 10,000 digits (2,000 of them to test with): `mobile`, depthwise separable convolutions with ReLU6, and
`residual`. `rescaled` is `mobile` with channels scaled up and down so that nothing changes in float, but a scale per tensor
collapses (ReLU in place of ReLU6, through which scales pass).
"""
from __future__ import annotations

import argparse
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import torch
from mcc.kernels import Session
from mcc.passes import find, lower
from mcc.passes.base import Context
from mcc.passes.data import open_data
from mcc.passes.graph import Graph
from mcc.passes.metrics import METRICS, paired_interval
from mcc.passes.onnx_io import export, from_torch
from mcc.passes.train import fit_graph
from torch import nn

# What is measured: a name, the pass and its options. QAT follows the float network.
TRAIN = {"lr": 5e-4, "teacher": "original"}
ROWS = [
    ("int8", "quantize.ptq", {}),
    ("int8 minmax", "quantize.ptq", {"observer": "minmax"}),
    ("int8 one scale a tensor, as it is", "quantize.ptq", {"granularity": "tensor", "equalize": "off", "correct_bias": False}),
    ("int8 one scale a tensor", "quantize.ptq", {"granularity": "tensor"}),
    ("int8 one scale a tensor, no data", "quantize.ptq", {"granularity": "tensor", "calibration": "synthetic", "samples": 64}),
    ("int8 dynamic", "quantize.ptq", {"activations": "dynamic"}),
    ("int8 trained", "quantize.qat", TRAIN),
    ("w4a8", "quantize.ptq", {"weight_bits": 4}),
    ("w4a8 gptq", "quantize.ptq", {"weight_bits": 4, "rounding": "gptq"}),
    ("w4a8 adaround", "quantize.ptq", {"weight_bits": 4, "rounding": "adaround"}),
    ("w4a8 brecq", "quantize.ptq", {"weight_bits": 4, "rounding": "brecq"}),
    ("mixed, an eighth and a bit", "quantize.mixed", {"bytes": 0.17}),
    ("w4a8 trained", "quantize.qat", {"weight_bits": 4, **TRAIN}),
    ("w3a8", "quantize.ptq", {"weight_bits": 3}),
    ("w3a8 trained", "quantize.qat", {"weight_bits": 3, **TRAIN}),
    ("w2a8", "quantize.ptq", {"weight_bits": 2}),
    ("w2a8 trained", "quantize.qat", {"weight_bits": 2, **TRAIN}),
]


def separable(inputs: int, outputs: int, stride: int, act) -> list[nn.Module]:
    return [nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False), nn.BatchNorm2d(inputs), act(),
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), act()]


def mobile(act=nn.ReLU6) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), act(), *separable(16, 32, 1, act),
                         *separable(32, 48, 2, act), *separable(48, 64, 1, act), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(64, 10))


class Residual(nn.Module):
    """A stem and three residual blocks."""

    def __init__(self):
        super().__init__()
        from mcc.passes.zoo.small import Basic
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.blocks = nn.Sequential(Basic(12, 12, 1), Basic(12, 24, 2), Basic(24, 32, 2))
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))




def rescale(graph: Graph, seed: int) -> Graph:
    """Every batch norm's channels times factors from 1/50 to 50, the layer behind divided by them."""
    graph, rng = graph.copy(), np.random.default_rng(seed)
    users = graph.users()
    for norm in [n for n in graph.nodes if n.op == "batch_norm"]:
        y = norm.outputs[0]
        while users[y][0].op == "relu":
            y = users[y][0].outputs[0]
        reader = users[y][0]
        if len(users[y]) != 1 or reader.op != "conv":
            continue
        factor = np.exp(rng.uniform(-4, 4, norm.inputs[1].data.size)).astype(np.float32)
        for v in norm.inputs[1:3]:
            v.data = v.data * factor
        w = reader.inputs[1]
        by_input = reader.attrs.get("group", 1) == 1
        w.data = w.data / factor.reshape((1, -1, 1, 1) if by_input else (-1, 1, 1, 1))
    return graph


def scores(path: Path, data) -> np.ndarray:
    """1 for each test picture that the engine gets right with this file."""
    net = Session(str(path))
    rows = [(next(iter(net.run({"x": x[None]}).values())), y) for inputs, labels in data.batches("test", 500)
            for x, y in zip(inputs["x"].numpy(), labels.numpy())]
    return METRICS["accuracy"].scores([np.concatenate([o for o, _ in rows])], np.array([y for _, y in rows]), None)


def ratios(paths: list[Path], x: np.ndarray, rounds: int = 15) -> list[float]:
    """Time of the first file over that of each, run in turn; of the best of many runs, since the machine is shared."""
    nets, best = [Session(str(p)) for p in paths], [float("inf")] * len(paths)
    for _ in range(rounds):
        for i, net in enumerate(nets):
            for _ in range(20):
                began = time.perf_counter()
                net.run({"x": x})
                best[i] = min(best[i], time.perf_counter() - began)
    return [best[0] / b for b in best]


def onnxruntime_rows(graph: Graph, data, folder: Path) -> list[tuple[str, np.ndarray, int]]:
    """onnxruntime's static quantizer, on as many samples: (name, scores of onnxruntime, bytes)."""
    import onnxruntime as ort
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    plain, ready = folder / "plain.onnx", folder / "ready.onnx"
    export(graph, plain, 21)
    quant_pre_process(str(plain), str(ready))

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rows = ({"x": x.numpy()[None]} for inputs, _ in data.batches("calibration", 64, None, 256) for x in inputs["x"])

        def get_next(self):
            return next(self.rows, None)
    made = []
    for name, per_channel in (("onnxruntime int8 per channel", True), ("onnxruntime int8 per tensor", False)):
        path = folder / f"ort{per_channel}.onnx"
        quantize_static(str(ready), str(path), Reader(), quant_format=QuantFormat.QDQ, per_channel=per_channel,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
        net = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        outs, labels = zip(*((net.run(None, {"x": i["x"].numpy()})[0], y.numpy()) for i, y in data.batches("test", 500)))
        made.append((name, METRICS["accuracy"].scores([np.concatenate(outs)], np.concatenate(labels), None),
                     path.stat().st_size))
    return made


def main() -> None:
    torch.set_num_threads(1)  # the same sums everywhere
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=6, help="of the float network; training with integers takes half")
    parser.add_argument("--rows", default="*")
    parser.add_argument("--nets", default="mobile,residual,rescaled")
    options = parser.parse_args()
    data = open_data({"source": "mnist"}, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.nets.split(","):
            measure(name, data, options, Path(folder))


def measure(name: str, data, options, folder: Path) -> None:
    torch.manual_seed(options.seed)
    net = {"mobile": mobile, "residual": Residual, "rescaled": lambda: mobile(nn.ReLU)}[name]()
    graph = from_torch(net.eval(), torch.zeros(2, 1, 28, 28), {"x": {0: "N"}})
    train = {"batch": 64, "optimizer": "adamw", "schedule": "cosine"}
    graph = fit_graph(graph, Context(graph, data, train=train, seed=options.seed), epochs=options.epochs, lr=3e-3,
                      augment={"shift": 2})
    if name == "rescaled":
        graph = rescale(graph, options.seed)
    first = folder / f"{name}.mcc"
    lower(graph, first)
    float_scores, files, table = scores(first, data), [first], []
    for label, pass_, how in ROWS:
        if not fnmatch(label, options.rows):
            continue
        began = time.monotonic()
        more = {"epochs": options.epochs / 2} if pass_ == "quantize.qat" else {}
        ctx = Context(graph, data, train=train, seed=options.seed)
        made = find(pass_)(**how, **more).run(graph, ctx)
        path = folder / f"{name}{len(files)}.mcc"
        lower(made, path)
        files.append(path)
        table.append([label, scores(path, data), path.stat().st_size, time.monotonic() - began,
                      "" if "identical" not in ctx.notes else "yes" if ctx.notes["identical"] else "no"])
    speed = ratios(files, next(iter(data.batches("test", 1)))[0]["x"].numpy())
    print(f"\n{name}: float32 {float_scores.mean():.4f}, {first.stat().st_size:,} bytes\n")
    print("| | accuracy | difference, points (95 %) | bytes | smaller | faster | trained = run | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    rows = [(*row[:3], f"{fast:.2f}x", row[4], f"{row[3]:.0f}") for row, fast in zip(table, speed[1:])]
    rows += [(label, s, size, "", "", "") for label, s, size in onnxruntime_rows(graph, data, folder)]
    for label, s, size, fast, same, seconds in rows:
        d, lo, hi = (100 * v for v in paired_interval(s, float_scores, METRICS["accuracy"]))
        print(f"| {label} | {s.mean():.4f} | {d:+.2f} [{lo:+.2f}, {hi:+.2f}] | {size:,} | {first.stat().st_size / size:.2f}x "
              f"| {fast} | {same} | {seconds} |", flush=True)


if __name__ == "__main__":
    main()
