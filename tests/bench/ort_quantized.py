"""Models that onnxruntime's quantizer made, run here and there in turn: time, file, and how far the outputs are apart.

    python tests/bench/ort_quantized.py [NETWORK...]    (tinybert4, ds_cnn and mobilenet_v2 by default)

The networks are those of models.py with their seeded weights, calibrated on noise: the outputs say whether the two
engines agree, not how good a quantizer is. Apart is the mean difference from onnxruntime without its optimizations over
the range of the output; beside it what onnxruntime's own optimizations change. One thread.
"""
from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import models
import numpy as np
import onnxruntime as ort
import torch
from onnxruntime.quantization import (CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_dynamic,
                                      quantize_static)

from mcc.kernels import Session
from mcc.passes.lower import lower
from mcc.passes.onnx_io import load

RUNS = 60


class Batches(CalibrationDataReader):
    def __init__(self, inputs, count=8):
        self.left = iter([feed(inputs, seed) for seed in range(count)])

    def get_next(self):
        return next(self.left, None)


def feed(inputs, seed: int) -> dict[str, np.ndarray]:
    g = torch.Generator().manual_seed(seed)
    return {k: (torch.randn(v.shape, generator=g) if v.dtype.is_floating_point else
                torch.randint(0, 1000, v.shape, generator=g) if v.amax() > 1 else v).numpy() for k, v in inputs.items()}


def static(source, out, inputs):
    quantize_static(source, out, Batches(inputs), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


def dynamic(source, out, inputs):
    quantize_dynamic(source, out, per_channel=True, weight_type=QuantType.QInt8)


def session(path, optimized: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def clock(run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def row(name: str, quantizer, folder: Path) -> str:
    model, inputs = models.make(name)
    torch.onnx.export(model, tuple(inputs.values()), folder / "m.onnx", dynamo=False, opset_version=17, input_names=list(inputs))
    quant_pre_process(str(folder / "m.onnx"), str(folder / "p.onnx"), skip_symbolic_shape=True)
    quantizer(folder / "p.onnx", folder / "q.onnx", inputs)
    lower(load(folder / "q.onnx"), folder / "q.mcc")
    ours, theirs, given = Session(str(folder / "q.mcc"), threads=1), session(folder / "q.onnx", True), feed(inputs, 99)
    want = session(folder / "q.onnx", False).run(None, given)[0]
    answers = next(iter(ours.run(given).values())), theirs.run(None, given)[0]
    apart = [np.abs(got - want).mean() / np.ptp(want) for got in answers]
    assert apart[0] <= 0.02, f"{name}: the outputs differ by {apart[0]:.1%} of their range"
    times = [(clock(lambda: ours.run(given)), clock(lambda: theirs.run(None, given))) for _ in range(RUNS)]
    a, b = (statistics.median(t) * 1e3 for t in zip(*times))
    sizes = [(folder / f).stat().st_size / 1e6 for f in ("q.mcc", "q.onnx")]
    return (f"| {name} | {quantizer.__name__} | {a:.3g} | {b:.3g} | {b / a:.2f}x | {sizes[0]:.3g} | {sizes[1]:.3g} | "
            f"{apart[0]:.3%} | {apart[1]:.3%} |")


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    print("| network | quantized | mcc ms | onnxruntime ms | ratio | .mcc MB | .onnx MB | apart | optimized onnxruntime |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or ("tinybert4", "ds_cnn", "mobilenet_v2"):
        for quantizer in (static, dynamic):
            with tempfile.TemporaryDirectory() as folder:
                print(row(name, quantizer, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
