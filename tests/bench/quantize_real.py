"""What 8 bits, and 4 bits of weights under 8 of activations, cost on public real models: every figure is of the lowered file,
run by the engine, against the float32 file of the same model on the same samples; beside it onnxruntime's own quantizer
with the same calibration samples. Writes a markdown table to standard output, and JSON where --json says.

    python tests/bench/quantize_real.py [--models 'pp-ocr*'] [--rows '*int8*'] [--json build/quantize_real.json]

No sample is both calibrated on and tested with. Brackets are 95 % intervals, those of differences paired. Kept: how often
the answer is the float network's, or another likeness that the column names; right: the share of right answers where labels
exist, and how much above the float network's, in points. Float: nodes that still compute in float, with their share of the
multiply-accumulates.
"""
from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import torch
from mcc.kernels import Session
from mcc.passes import lower
from mcc.passes.base import Context
from mcc.passes.cost import macs
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph
from mcc.passes.metrics import Metric, interval, paired_interval
from mcc.passes.onnx_io import export
from mcc.passes.quantize.ptq import PTQ, quantize_graph
from real_data import SAMPLES, Task, task_of
from real_models import REAL, available, graph_of

BATCH = 16
# Options for each class of models, the best that were found: (int8, w4a8, onnxruntime's mode).
STATIC = {"rounding": "gptq", "correct_outputs": True}
TRANSFORMER = {"activations": "dynamic"}
OPTIONS = {
    "minilm-*": (TRANSFORMER, TRANSFORMER | {"weight_bits": 4, "rounding": "gptq"}, "dynamic"),
    "*": (STATIC, STATIC | {"weight_bits": 4, "narrow": 32}, "static"),
}
CORRELATION = Metric("correlation", lambda *a: None, "reference", mean=False, value=lambda s: _correlation(s))


def _correlation(pairs: np.ndarray) -> float:
    a, b = (pairs - pairs.mean(0)).astype(np.float64).T
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm else float((a == b).all())


def measure(name: str, rows: str, samples: int, folder: Path) -> list[dict]:
    """One dict a row of the table."""
    task, graph = task_of(name, samples), graph_of(name)
    bind = {d: n for v in graph.inputs for d, n in zip(v.shape, task.test[0][v.name].shape) if isinstance(d, str)}
    batches, made = _batches(graph, task.calibration), []
    int8, w4a8, mode = next(o for pattern, o in OPTIONS.items() if fnmatch(name, pattern))
    lower(graph, folder / "float.mcc", bind=bind)
    reference = _engine(folder / "float.mcc", task)
    exact = task.score(reference, reference)
    for label, options in (("float32", None), ("int8", int8), ("w4a8", w4a8)):
        if not fnmatch(label, rows):
            continue
        began, path, quantized = time.monotonic(), folder / f"{label}.mcc", graph
        if options is not None:
            quantized = quantize_graph(graph, batches, PTQ(**options), Context(graph))
        seconds = time.monotonic() - began
        lowered = lower(quantized, path, bind=bind)
        facts = {"bytes": path.stat().st_size, "seconds": seconds, "options": options, "float": _floats(lowered)}
        made.append(_row(name, label, task, facts, _engine(path, task), reference, exact))
    label = f"onnxruntime int8, {mode}"
    if fnmatch(label, rows):
        began, path = time.monotonic(), folder / "ort.onnx"
        _onnxruntime(graph, task, mode, path)
        facts = {"bytes": path.stat().st_size, "seconds": time.monotonic() - began, "options": None, "float": None}
        made.append(_row(name, label, task, facts, _peer(path, task), reference, exact))
    return made


def _row(name: str, label: str, task: Task, facts: dict, outputs, reference, exact: dict) -> dict:
    scores = task.score(outputs, reference)
    row = {"model": name, "row": label, "data": task.said, "calibrated": len(task.calibration), **facts, "kept": {},
           "right": None}
    for metric, values in scores.items():
        if metric == task.labelled:
            row["right"] = {"metric": metric, "value": float(values.mean()),
                            "difference": paired_interval(values, exact[metric])}
        else:
            row["kept"][metric] = interval(values, CORRELATION if metric == "correlation" else None)
    return row


def _batches(graph: Graph, samples: list[dict]) -> list[dict]:
    """Samples side by side where every input has a batch first that is not fixed."""
    if not all(v.shape and isinstance(v.shape[0], str) for v in graph.inputs):
        return samples
    return [{k: np.concatenate([s[k] for s in samples[i: i + BATCH]]) for k in samples[0]}
            for i in range(0, len(samples), BATCH)]


def _engine(path: Path, task: Task) -> list[list[np.ndarray]]:
    net = Session(str(path))
    return _walk(task, lambda feeds: list(net.run(feeds).values()))


def _walk(task: Task, answer) -> list[list[np.ndarray]]:
    """The outputs for each test sample; state goes from one to the next."""
    outputs, state = [], {}
    for sample in task.test:
        made = answer(state | sample)
        state = {key: made[i].copy() for i, key in task.state.items()}
        outputs.append([np.array(o) for i, o in enumerate(made) if i not in task.state])
    return outputs


def _floats(lowered: Graph) -> dict:
    """What computes in float: {"share": of all multiply-accumulates, "nodes": {op: how many}}."""
    work = macs(lowered)
    nodes = [n for n in lowered.nodes if n.outputs[0].dtype == "float32" and not any(
        word in n.op for word in ("quantize", "qlinear", "qconv", "dqlinear", "qinverted", "reshape", "cast"))]
    return {"share": sum(work.get(n, 0) for n in nodes) / max(sum(work.values()), 1),
            "nodes": dict(Counter(n.op for n in nodes).most_common())}


# --- onnxruntime ------------------------------------------------------------------------------------------------------

def _onnxruntime(graph: Graph, task: Task, mode: str, path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.left = iter(task.calibration)

        def get_next(self):
            return next(self.left, None)
    plain, ready = path.with_name("plain.onnx"), path.with_name("ready.onnx")
    export(graph, plain, 21)
    quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
    if mode == "dynamic":
        quantize_dynamic(str(ready), str(path), per_channel=True, weight_type=QuantType.QInt8)
    else:
        quantize_static(str(ready), str(path), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


def _peer(path: Path, task: Task) -> list[list[np.ndarray]]:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    net = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return _walk(task, lambda feeds: net.run(None, feeds))


# --- the table --------------------------------------------------------------------------------------------------------

HEAD = ("| model | | bytes | smaller | calibrated on | seconds | kept of float32 (95 %) | right | points to float32 (95 %) "
        "| float |")


def line(row: dict, whole: int | None) -> str:
    kept = "; ".join(f"{k} {v:.4f} [{lo:.4f}, {hi:.4f}]" for k, (v, lo, hi) in row["kept"].items())
    right = row["right"] and f"{row['right']['metric']} {row['right']['value']:.4f}"
    points = row["right"] and "{:+.2f} [{:+.2f}, {:+.2f}]".format(*(100 * v for v in row["right"]["difference"]))
    floats = row["float"] and f"{row['float']['share']:.1%} of MACs: " + (
        ", ".join(f"{op} {n}" for op, n in row["float"]["nodes"].items()) or "nothing")
    cells = [row["model"], row["row"], f"{row['bytes']:,}", f"{whole / row['bytes']:.2f}x" if whole else "",
             *([row["calibrated"], f"{row['seconds']:.0f}"] if row["row"] != "float32" else ["", ""]), kept,
             right or "", points or "", floats or ""]
    return "| " + " | ".join(str(c) for c in cells) + " |"


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)  # the same sums everywhere
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="*")
    parser.add_argument("--rows", default="*", help="float32, int8, w4a8, 'onnxruntime*'")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="to calibrate on")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON, beside those of other rows that are there")
    parser.add_argument("--files", type=Path, default=Path("build/quantize-real"), help="where the models are written and stay")
    options = parser.parse_args()
    found: list[dict] = []
    print(HEAD + "\n" + "|---" * HEAD[1:].count("|") + "|")
    for name in (n for n in REAL if fnmatch(n, options.models)):
        reason = available(name)
        try:
            if reason:
                raise UserError(reason)
            folder = options.files / name
            folder.mkdir(parents=True, exist_ok=True)
            rows = measure(name, options.rows, options.samples, folder)
        except UserError as e:
            print(f"| {name} | not measured: {e} |" + " |" * (HEAD.count("|") - 3), flush=True)
            found.append({"model": name, "error": str(e)})
            continue
        whole = next((r["bytes"] for r in rows if r["row"] == "float32"), None)
        print("\n".join(line(r, whole) for r in rows), flush=True)
        found += rows
        if options.json:
            keep(options.json, found)


def keep(path: Path, rows: list[dict]) -> None:
    """Write rows down in place of those of the same model and name; the others in the file stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    old = json.loads(path.read_text())["rows"] if path.exists() else []
    new = {(r["model"], r.get("row")): r for r in old} | {(r["model"], r.get("row")): r for r in rows}
    path.write_text(json.dumps({"schema": 1, "rows": list(new.values())}, indent=1))


if __name__ == "__main__":
    main()
