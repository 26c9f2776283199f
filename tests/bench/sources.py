"""The models that every runtime's own converter starts from, made once in build/peers-models/NETWORK/.

    model.onnx       opset 18, plain ops, shapes fixed, simplified     onnxruntime, OpenVINO, MNN
    model.pt2        torch.export                                      LiteRT, ExecuTorch
    model.pt         torch.jit.trace                                   ncnn (pnnx)
    data.npz         the inputs and onnxruntime's float32 outputs, which every answer is compared with
    samples.npz      calibration: SAMPLES inputs, the first of them the one above

What cannot be made is a line in `failed`, by file, and the runtimes that need it say so.
"""
from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))
FOLDER = ROOT / "build" / "peers-models"
SAMPLES = 4
VERSION = "2"  # of this file's doings: the models are made again when it changes


def names() -> list[str]:
    """The networks of models.py, then the public real models, as "real/NAME"."""
    import models
    import real_models
    return [*models.MODELS, *(f"real/{n}" for n in real_models.REAL)]


def obtain(name: str) -> dict:
    """{"folder", "onnx", "pt2", "torchscript", "calibration": path, "shapes": [(shape, type)], "failed": {kind: why}}."""
    folder = FOLDER / name.replace("/", "-")
    stamp = folder / "source.json"
    key = _key(name)
    found = json.loads(stamp.read_text()) if stamp.exists() else {}
    if found and found["key"] != key and found["weights"] == _weights(name):  # the file changed, this network did not
        found["key"] = key
        stamp.write_text(json.dumps(found))
    if found.get("key") == key:
        return {**found, "folder": folder} | {k: str(folder / v) for k, v in found["files"].items()}
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.rglob("*"):
        if old.is_file() or old.is_symlink():
            old.unlink()
    files, failed, shapes = _make(name, folder)
    stamp.write_text(json.dumps({"key": key, "weights": _weights(name), "files": files, "failed": failed, "shapes": shapes}))
    return obtain(name)


def data(source: dict) -> tuple[dict, list]:
    """The inputs by name, and the reference outputs in their order."""
    with np.load(source["data"]) as found:
        arrays = {k: found[k] for k in found.files}
    return ({k[3:]: a for k, a in arrays.items() if k.startswith("in.")},
            [arrays[k] for k in sorted((k for k in arrays if k.startswith("out.")), key=lambda k: int(k[4:]))])


def samples(source: dict) -> list[dict]:
    """The calibration inputs, one dict each."""
    with np.load(source["calibration"]) as found:
        arrays = {k: found[k] for k in found.files}
    return [{k: a[i] for k, a in arrays.items()} for i in range(len(next(iter(arrays.values()))))]


def _key(name: str) -> str:
    import torch
    text = b"".join((HERE / f).read_bytes() for f in ("real_models.py" if name.startswith("real/") else "models.py",))
    return hashlib.sha256(text + torch.__version__.encode() + VERSION.encode()).hexdigest()[:16]


def _weights(name: str) -> str:
    """Hash of a network's layers, weights and inputs; "" for real models."""
    if name.startswith("real/"):
        return ""
    import models
    module, inputs = models.make(name)
    made = hashlib.sha256((repr(module) + VERSION).encode())
    for t in (*module.state_dict().values(), *inputs.values()):
        made.update(t.numpy().tobytes())
    return made.hexdigest()[:16]


def _make(name: str, folder: Path) -> tuple[dict, dict, list]:
    import torch
    module, batches, onnx = _real(name[5:]) if name.startswith("real/") else _network(name)
    inputs = tuple(torch.from_numpy(a) for a in batches[0].values())
    files, failed = {}, {}

    def attempt(kind: str, file: str, make) -> None:
        try:
            make(folder / file)
            files[kind] = file
        except Exception as e:  # an exporter's refusal is a result
            failed[kind] = f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"

    attempt("onnx", "model.onnx", lambda path: _plain(onnx or module, batches[0], path))
    if module is not None:
        attempt("pt2", "model.pt2", lambda path: torch.export.save(torch.export.export(module, inputs), path))
        with torch.no_grad():
            attempt("torchscript", "model.pt",
                    lambda path: torch.jit.trace(_Ordered(module, batches[0]), inputs, check_trace=False).save(str(path)))
    else:
        failed |= dict.fromkeys(("pt2", "torchscript"), "the ONNX model could not be made a torch module")
    import onnxruntime
    outputs = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"]).run(None, batches[0])
    np.savez(folder / "data.npz", **{f"in.{k}": a for k, a in batches[0].items()},
             **{f"out.{i}": a for i, a in enumerate(outputs)})
    np.savez(folder / "samples.npz", **{k: np.stack([b[k] for b in batches]) for k in batches[0]})
    shapes = [[list(a.shape), {"f": "f32", "i": "i64", "b": "i64"}[a.dtype.kind]] for a in batches[0].values()]
    return {**files, "data": "data.npz", "calibration": "samples.npz"}, failed, shapes


def _network(name: str):
    import models
    import torch
    module, inputs = models.make(name)
    batches = [{k: v.numpy() for k, v in inputs.items()}]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        batches += [{k: v.numpy() for k, v in models.MODELS[name].inputs().items()} for _ in range(SAMPLES - 1)]
    return module, batches, None


def _real(name: str):
    """Samples of real models: their input with some noise (features and pictures), the same tokens in other orders."""
    import real_models
    import torch
    rng = np.random.default_rng(1)
    first = real_models.inputs(name)
    batches = [first]
    for _ in range(SAMPLES - 1):
        batches.append({k: a + (0.05 * a.std() * rng.standard_normal(a.shape)).astype(a.dtype) if a.dtype == np.float32 and a.ndim
                        else rng.permuted(a, axis=-1) if k == "input_ids" else a for k, a in first.items()})
    model = real_models.REAL[name]
    if isinstance(model, real_models.TorchWeights):
        return real_models.module_of(name), batches, None
    onnx = real_models.onnx_path(name)
    try:
        module = real_models.graph_of(name, bind=None).module().eval()
        feeds = [torch.from_numpy(np.asarray(a)) for a in first.values()]
        with torch.no_grad():
            module(*feeds)
    except Exception:
        module = None
    return module, batches, onnx


def _plain(model, feeds: dict, path: Path) -> None:
    """A file that every reader of ONNX knows: old operators, fixed shapes, simplified."""
    import onnx
    import onnxsim
    import torch
    if isinstance(model, Path):
        made = onnx.load(model)
    else:
        scratch = path.with_suffix(".raw.onnx")
        torch.onnx.export(model, tuple(torch.from_numpy(a) for a in feeds.values()), dynamo=True, opset_version=18,
                          input_names=list(feeds), verbose=False).save(os.fspath(scratch), external_data=False)
        made = onnx.load(scratch)
        scratch.unlink()
    _without_nan_guards(made)
    simple, ok = onnxsim.simplify(made, overwrite_input_shapes={k: list(a.shape) for k, a in feeds.items() if a.ndim})
    onnx.save(simple if ok else made, path)


def _without_nan_guards(model) -> None:
    """Where(IsNaN(x), 0, x) is x: torch guards softmax against rows that are masked whole, which there are none of here,
    and some readers do not know IsNaN."""
    graph = model.graph
    guards = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "IsNaN"}
    same = {n.output[0]: n.input[2] for n in graph.node
            if n.op_type == "Where" and guards.get(n.input[0], "") == n.input[2]}
    for n in graph.node:
        for i, name in enumerate(n.input):
            if name in same:
                n.input[i] = same[name]


def _Ordered(module, feeds: dict):
    """A module whose answer is a tensor or a tuple: what torch.jit.trace takes. An attention mask is a constant in it, for
    ncnn has no comparison."""
    import torch
    mask = list(feeds).index("attention_mask") if "attention_mask" in feeds else None

    class Ordered(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module
            if mask is not None:
                self.register_buffer("mask", torch.from_numpy(feeds["attention_mask"]))

        def forward(self, *inputs):
            if mask is not None:
                inputs = (*inputs[:mask], self.mask, *inputs[mask + 1:])
            made = self.module(*inputs)
            return tuple(made.values()) if isinstance(made, dict) else made
    return Ordered().eval()


if __name__ == "__main__":
    for wanted in sys.argv[1:] or names():
        made = obtain(wanted)
        print(wanted, sorted(made["files"]), made["failed"], flush=True)
