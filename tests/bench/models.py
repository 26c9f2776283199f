"""The networks that speed and agreement are measured on, as seeded torch modules: shapes are those of the papers,
weights are random, batch-norm statistics are those of random batches, so that values stay in a sane range.

    module, inputs = make("mobilenet_v2")             # eval mode; inputs: {name: tensor}, batch 1
    path = export_onnx("mobilenet_v2")                # build/models/mobilenet_v2.onnx, made once
"""
from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from mcc.passes.zoo.bert import Bert
from mcc.passes.zoo.efficientnet import EfficientNetLite0
from mcc.passes.zoo.small import Basic
from torch import nn

FOLDER = Path(__file__).resolve().parents[2] / "build" / "models"


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1,
         act: type | None = nn.ReLU) -> nn.Sequential:
    """Convolution, batch norm, activation; padding keeps the size at stride 1."""
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([act()] if act else []))


class Classifier(nn.Module):
    """Features, global mean, linear."""

    def __init__(self, features: nn.Module, width: int, classes: int = 1000, dropout: float = 0.0):
        super().__init__()
        self.features, self.dropout, self.classifier = features, nn.Dropout(dropout), nn.Linear(width, classes)

    def forward(self, x):
        x = F.adaptive_avg_pool2d(self.features(x), 1).flatten(1)
        return self.classifier(self.dropout(x))


def mobilenet_v1() -> nn.Module:
    """Howard et al. 2017, 1.0/224."""
    plan = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
    layers, inputs = [], 32
    for outputs, stride in plan:
        layers += [conv(inputs, inputs, 3, stride, inputs, nn.ReLU6), conv(inputs, outputs, act=nn.ReLU6)]
        inputs = outputs
    return Classifier(nn.Sequential(conv(3, 32, 3, 2, act=nn.ReLU6), *layers), 1024)


class Bottleneck(nn.Module):
    """Inverted bottleneck of MobileNetV2 and V3, with squeeze-and-excitation where `squeeze` channels are given."""

    def __init__(self, inputs, wide, outputs, kernel, stride, act=nn.ReLU6, squeeze=0):
        super().__init__()
        layers = [conv(inputs, wide, act=act)] if wide != inputs else []
        layers += [conv(wide, wide, kernel, stride, wide, act)]
        layers += [Squeeze(wide, squeeze)] if squeeze else []
        self.layers = nn.Sequential(*layers, conv(wide, outputs, act=None))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.layers(x) if self.shortcut else self.layers(x)


class Squeeze(nn.Module):
    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x):
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


def mobilenet_v2() -> nn.Module:
    """Sandler et al. 2018, 1.0/224."""
    layers, inputs = [], 32
    for expansion, outputs, repeats, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                                (6, 160, 3, 2), (6, 320, 1, 1)):
        for i in range(repeats):
            layers.append(Bottleneck(inputs, inputs * expansion, outputs, 3, stride if i == 0 else 1))
            inputs = outputs
    features = nn.Sequential(conv(3, 32, 3, 2, act=nn.ReLU6), *layers, conv(320, 1280, act=nn.ReLU6))
    return Classifier(features, 1280, dropout=0.2)


class MobileNetV3Small(nn.Module):
    """Howard et al. 2019, 1.0/224."""

    PLAN = ((3, 16, 16, 1, nn.ReLU, 2), (3, 72, 24, 0, nn.ReLU, 2), (3, 88, 24, 0, nn.ReLU, 1), (5, 96, 40, 1, nn.Hardswish, 2),
            (5, 240, 40, 1, nn.Hardswish, 1), (5, 240, 40, 1, nn.Hardswish, 1), (5, 120, 48, 1, nn.Hardswish, 1),
            (5, 144, 48, 1, nn.Hardswish, 1), (5, 288, 96, 1, nn.Hardswish, 2), (5, 576, 96, 1, nn.Hardswish, 1),
            (5, 576, 96, 1, nn.Hardswish, 1))

    def __init__(self):
        super().__init__()
        layers, inputs = [conv(3, 16, 3, 2, act=nn.Hardswish)], 16
        for kernel, wide, outputs, squeeze, act, stride in self.PLAN:
            eighth = max(8, (wide // 4 + 4) // 8 * 8)
            layers.append(Bottleneck(inputs, wide, outputs, kernel, stride, act, eighth if squeeze else 0))
            inputs = outputs
        self.features = nn.Sequential(*layers, conv(96, 576, act=nn.Hardswish))
        self.classifier = nn.Sequential(nn.Linear(576, 1024), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(1024, 1000))

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class Shuffle(nn.Module):
    """The unit of ShuffleNetV2 (Ma et al. 2018): half the channels pass by, then channels are shuffled."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        half = outputs // 2
        self.stride, own = stride, inputs if stride == 2 else half
        self.right = nn.Sequential(conv(own, half), conv(half, half, 3, stride, half, None), conv(half, half))
        self.left = nn.Sequential(conv(inputs, inputs, 3, 2, inputs, None), conv(inputs, half)) if stride == 2 else None

    def forward(self, x):
        a, b = (self.left(x), x) if self.left is not None else x.chunk(2, 1)
        y = torch.cat([a, self.right(b)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shufflenet_v2() -> nn.Module:
    """x1.0."""
    layers, inputs = [conv(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1)], 24
    for outputs, repeats in ((116, 4), (232, 8), (464, 4)):
        for i in range(repeats):
            layers.append(Shuffle(inputs, outputs, 2 if i == 0 else 1))
            inputs = outputs
    return Classifier(nn.Sequential(*layers, conv(464, 1024)), 1024)


class Fire(nn.Module):
    def __init__(self, inputs: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1, self.expand3 = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1(x)), F.relu(self.expand3(x))], 1)


class SqueezeNet11(nn.Module):
    """SqueezeNet 1.1 (Iandola et al. 2016)."""

    def __init__(self):
        super().__init__()

        def pool():
            return nn.MaxPool2d(3, 2, ceil_mode=True)

        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool(), Fire(128, 32, 128),
            Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256))
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(512, 1000, 1), nn.ReLU())

    def forward(self, x):
        return F.adaptive_avg_pool2d(self.classifier(self.features(x)), 1).flatten(1)


class Deep(nn.Module):
    """The bottleneck of ResNet-50 (stride on the 3x3, as everybody has it by now)."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.layers = nn.Sequential(conv(inputs, width), conv(width, width, 3, stride), conv(width, 4 * width, act=None))
        same = inputs == 4 * width and stride == 1
        self.shortcut = nn.Identity() if same else conv(inputs, 4 * width, 1, stride, act=None)

    def forward(self, x):
        return F.relu(self.layers(x) + self.shortcut(x))


def _resnet(block: Callable, repeats: tuple, expansion: int) -> nn.Module:
    layers, inputs = [conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)], 64
    for stage, count in enumerate(repeats):
        for i in range(count):
            layers.append(block(inputs, 64 << stage, 2 if stage and i == 0 else 1))
            inputs = (64 << stage) * expansion
    return Classifier(nn.Sequential(*layers), inputs)


def resnet18() -> nn.Module:
    return _resnet(Basic, (2, 2, 2, 2), 1)


def resnet50() -> nn.Module:
    return _resnet(Deep, (3, 4, 6, 3), 4)


def ds_cnn() -> nn.Module:
    """Keyword spotting on 49 x 10 cepstra (Zhang et al. 2017, the size of MLPerf Tiny)."""
    stem = nn.Sequential(nn.Conv2d(1, 64, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(64), nn.ReLU())
    return Classifier(nn.Sequential(stem, *(layer for _ in range(4) for layer in (conv(64, 64, 3, 1, 64), conv(64, 64)))), 64, 12)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


class Recognizer(nn.Module):
    """Text in a line of picture (CRNN, Shi et al. 2015, narrow): x [N, 1, 32, W] -> log-probabilities [N, W / 4, classes]."""

    def __init__(self, classes: int = 97, width: int = 64, hidden: int = 96):
        super().__init__()
        self.features = nn.Sequential(
            conv(1, width, 3), nn.MaxPool2d(2), conv(width, 2 * width, 3), nn.MaxPool2d(2),
            conv(2 * width, 4 * width, 3), nn.MaxPool2d((2, 1)), conv(4 * width, 4 * width, 3), nn.MaxPool2d((2, 1)),
            nn.Conv2d(4 * width, 4 * width, (2, 1)), nn.ReLU())
        self.rnn = nn.LSTM(4 * width, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(2 * hidden, classes)

    def forward(self, x):
        x = self.features(x).squeeze(2).transpose(1, 2)
        return F.log_softmax(self.fc(self.rnn(x)[0]), -1)


def _bert(**shape) -> Callable[[], nn.Module]:
    return lambda: Bert(**shape)


def _image(*shape: int) -> Callable[[], dict]:
    return lambda: {"x": torch.randn(1, *shape)}


def _tokens(seq: int = 128) -> Callable[[], dict]:
    return lambda: {"input_ids": torch.randint(1000, 30000, (1, seq)), "attention_mask": torch.ones(1, seq, dtype=torch.int64)}


@dataclass(frozen=True)
class Model:
    """make() -> module; inputs() -> example inputs by name, batch 1; macs: millions, None where nobody states it."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], dict]
    macs: float | None = None


PICTURE = _image(3, 224, 224)
MODELS = {
    "mobilenet_v1": Model(mobilenet_v1, PICTURE, 569),
    "mobilenet_v2": Model(mobilenet_v2, PICTURE, 301),
    "mobilenet_v3_small": Model(MobileNetV3Small, PICTURE, 57),
    "efficientnet_lite0": Model(EfficientNetLite0, PICTURE, 385),
    "shufflenet_v2": Model(shufflenet_v2, PICTURE, 145),
    "squeezenet11": Model(SqueezeNet11, PICTURE, 349),
    "resnet18": Model(resnet18, PICTURE, 1814),
    "resnet50": Model(resnet50, PICTURE, 4089),
    "ds_cnn": Model(ds_cnn, _image(1, 49, 10), 2.66),
    "mlp": Model(mlp, lambda: {"x": torch.randn(1, 784)}, 0.535),
    "crnn": Model(Recognizer, _image(1, 32, 160)),
    "bert_base": Model(_bert(), _tokens(), 11174),
    "distilbert": Model(_bert(layers=6, types=0), _tokens(), 5587),
    "tinybert4": Model(_bert(layers=4, hidden=312, ffn=1200), _tokens(), 624),
    "minilm_l6": Model(_bert(layers=6, hidden=384, ffn=1536), _tokens(), 1435),
}


def make(name: str, seed: int = 0) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The module in eval mode and example inputs, the same for a seed. Raises KeyError for an unknown name."""
    model = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, inputs = model.make(), model.inputs()
        for m in module.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")
        norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
        if norms:
            _settle(module, norms, next(iter(inputs.values())).shape[1:])
    return module.eval(), inputs


def _settle(module: nn.Module, norms: list[nn.BatchNorm2d], shape) -> None:
    """Give every batch norm the statistics of a few random batches, and scales and shifts as trained ones have them."""
    for m in norms:
        nn.init.uniform_(m.weight, 0.5, 1.5)
        nn.init.normal_(m.bias, std=0.2)
        m.momentum = None  # a plain mean over the batches
    module.train()
    with torch.no_grad():
        for _ in range(2):
            module(torch.randn(4, *shape))
    for m in norms:
        m.momentum = 0.1


def macs(module: nn.Module, inputs: dict[str, torch.Tensor]) -> int:
    """Multiply-accumulates of convolutions, linear layers and attention at these inputs."""
    from torch.utils.flop_counter import FlopCounterMode

    plain = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with torch.no_grad(), plain, FlopCounterMode(display=False) as count:
        module(*inputs.values())
    return count.get_total_flops() // 2


def export_onnx(name: str, path: str | os.PathLike | None = None, dynamic: bool = False) -> Path:
    """Export with torch.onnx (opset 23) and return the path. Without `path` the file is kept under build/models and
    made again only when this file or torch changed. dynamic: the batch stays symbolic."""
    stamp = hashlib.sha256(Path(__file__).read_bytes() + torch.__version__.encode()).hexdigest()[:12]
    path = Path(path) if path else FOLDER / f"{name}{'-dynamic' if dynamic else ''}-{stamp}.onnx"
    if path.exists() and path.parent == FOLDER:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    module, inputs = make(name)
    shapes = {k: {0: torch.export.Dim("N", min=1, max=1024)} for k in inputs} if dynamic else None
    if dynamic:  # an example of batch 1 would be taken for a constant
        inputs = {k: v.expand(2, *v.shape[1:]).contiguous() for k, v in inputs.items()}
    program = torch.onnx.export(module, tuple(inputs.values()), dynamo=True, opset_version=23, optimize=False, verbose=False,
                                input_names=list(inputs), dynamic_shapes=tuple(shapes.values()) if dynamic else None)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as scratch:
        program.save(os.path.join(scratch, path.name), external_data=False)
        os.replace(os.path.join(scratch, path.name), path)
    return path
