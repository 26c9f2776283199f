"""Networks for phones: inverted bottlenecks in all their forms, ghosts, shuffles."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .parts import Bottleneck, Classifier, Squeeze, conv, shuffle


def mobilenet_v1(width: float = 0.25) -> nn.Module:
    layers, inputs = [], int(32 * width)
    for outputs, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1)):
        outputs = int(outputs * width)
        layers += [conv(inputs, inputs, 3, stride, inputs, nn.ReLU6), conv(inputs, outputs, act=nn.ReLU6)]
        inputs = outputs
    return Classifier(nn.Sequential(conv(3, int(32 * width), 3, 2, act=nn.ReLU6), *layers), inputs, 10)


def inverted(plan: tuple, stem: int = 16, head: int = 160, act: type = nn.ReLU6, squeeze: float = 0) -> nn.Module:
    """A plan of (expansion, outputs, repeats, stride, kernel) as MobileNetV2, MnasNet and EfficientNet have it."""
    layers, inputs = [conv(3, stem, 3, 2, act=act)], stem
    for expansion, outputs, repeats, stride, kernel in plan:
        for i in range(repeats):
            wide = int(inputs * expansion)
            layers.append(Bottleneck(inputs, wide, outputs, kernel, stride if i == 0 else 1, act, max(4, int(inputs * squeeze))
                                     if squeeze else 0))
            inputs = outputs
    return Classifier(nn.Sequential(*layers, conv(inputs, head, act=act)), head, 10, 0.2)


V2 = ((1, 8, 1, 1, 3), (6, 12, 2, 2, 3), (6, 16, 2, 2, 3), (6, 24, 2, 2, 3), (6, 32, 2, 1, 3), (6, 40, 2, 2, 3), (6, 80, 1, 1, 3))
MNAS = (*V2[:1], (3, 12, 2, 2, 3), (3, 16, 2, 2, 5), (6, 24, 2, 2, 5), (6, 32, 1, 1, 3), (6, 48, 2, 2, 5), *V2[-1:])
B0 = ((1, 8, 1, 1, 3), (6, 12, 2, 2, 3), (6, 16, 2, 2, 5), (6, 24, 2, 2, 3), (6, 32, 1, 1, 5), (6, 48, 2, 2, 5), (6, 80, 1, 1, 3))


class Fused(nn.Module):
    """The first blocks of EfficientNetV2 (Tan and Le 2021): one k x k instead of 1x1 and depthwise."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int):
        super().__init__()
        wide = inputs * expansion
        self.body = nn.Sequential(conv(inputs, wide, 3, stride, act=nn.SiLU), conv(wide, outputs, act=None))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.shortcut else self.body(x)


def efficientnet_v2() -> nn.Module:
    layers = [conv(3, 12, 3, 2, act=nn.SiLU), Fused(12, 12, 1, 1), Fused(12, 12, 1, 1), Fused(12, 16, 4, 2), Fused(16, 16, 4, 1)]
    inputs = 16
    for outputs, count, stride in ((32, 3, 2), (40, 3, 1), (64, 3, 2)):
        for i in range(count):
            layers.append(Bottleneck(inputs, inputs * 4, outputs, 3, stride if i == 0 else 1, nn.SiLU, inputs // 4))
            inputs = outputs
    return Classifier(nn.Sequential(*layers, conv(64, 128, act=nn.SiLU)), 128, 10)


def mobilenet_v3_large() -> nn.Module:
    """Howard et al. 2019, a quarter as wide."""
    r, h = nn.ReLU, nn.Hardswish
    plan = ((3, 4, 4, 0, r, 1), (3, 16, 6, 0, r, 2), (3, 18, 6, 0, r, 1), (5, 18, 10, 1, r, 2), (5, 30, 10, 1, r, 1),
            (3, 60, 20, 0, h, 2), (3, 50, 20, 0, h, 1), (3, 46, 20, 0, h, 1), (3, 120, 28, 1, h, 1), (3, 168, 28, 1, h, 1),
            (5, 168, 40, 1, h, 2), (5, 240, 40, 1, h, 1), (5, 240, 40, 1, h, 1))
    layers, inputs = [conv(3, 4, 3, 2, act=h)], 4
    for kernel, wide, outputs, gate, act, stride in plan:
        layers.append(Bottleneck(inputs, wide, outputs, kernel, stride, act, wide // 4 if gate else 0))
        inputs = outputs
    net = Classifier(nn.Sequential(*layers, conv(40, 240, act=h)), 240, 10)
    net.classifier = nn.Sequential(nn.Linear(240, 160), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(160, 10))
    return net


class Mixed(nn.Module):
    """MixNet (Tan and Le 2019): parts of the channels under depthwise kernels of different size."""

    def __init__(self, inputs: int, outputs: int, stride: int, sizes: tuple = (3, 5, 7)):
        super().__init__()
        wide = 3 * inputs
        self.expand, self.project = conv(inputs, wide, act=nn.SiLU), conv(wide, outputs, act=None)
        self.parts = [wide // len(sizes)] * (len(sizes) - 1)
        self.parts.append(wide - sum(self.parts))
        self.convs = nn.ModuleList(conv(c, c, k, stride, c, nn.SiLU) for c, k in zip(self.parts, sizes))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        parts = self.expand(x).split(self.parts, 1)
        y = self.project(torch.cat([f(p) for f, p in zip(self.convs, parts)], 1))
        return x + y if self.shortcut else y


def mixnet() -> nn.Module:
    layers, inputs = [conv(3, 16, 3, 2)], 16
    for outputs, stride in ((24, 2), (24, 1), (40, 2), (40, 1), (64, 2), (64, 1)):
        layers.append(Mixed(inputs, outputs, stride))
        inputs = outputs
    return Classifier(nn.Sequential(*layers), 64, 10)


class Ghost(nn.Module):
    """Half the channels by a convolution, the other half by cheap depthwise ones from them."""

    def __init__(self, inputs: int, outputs: int, act: type | None = nn.ReLU):
        super().__init__()
        half = (outputs + 1) // 2
        self.first, self.cheap, self.outputs = conv(inputs, half, act=act), conv(half, half, 3, 1, half, act), outputs

    def forward(self, x):
        x = self.first(x)
        return torch.cat([x, self.cheap(x)], 1)[:, :self.outputs]


class GhostBlock(nn.Module):
    """GhostNet (Han et al. 2020)."""

    def __init__(self, inputs: int, wide: int, outputs: int, kernel: int, stride: int, squeeze: bool):
        super().__init__()
        self.body = nn.Sequential(Ghost(inputs, wide), *([conv(wide, wide, kernel, stride, wide, None)] if stride > 1 else []),
                                  *([Squeeze(wide, wide // 4)] if squeeze else []), Ghost(wide, outputs, None))
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else \
            nn.Sequential(conv(inputs, inputs, kernel, stride, inputs, None), conv(inputs, outputs, act=None))

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


def ghostnet() -> nn.Module:
    plan = ((8, 8, 3, 1, 0), (24, 12, 3, 2, 0), (36, 12, 3, 1, 0), (36, 20, 5, 2, 1), (60, 20, 5, 1, 1), (120, 40, 3, 2, 0),
            (100, 40, 3, 1, 0), (240, 56, 3, 1, 1), (336, 80, 5, 2, 1), (480, 80, 5, 1, 1))
    layers, inputs = [conv(3, 8, 3, 2)], 8
    for wide, outputs, kernel, stride, squeeze in plan:
        layers.append(GhostBlock(inputs, wide, outputs, kernel, stride, bool(squeeze)))
        inputs = outputs
    return Classifier(nn.Sequential(*layers, conv(80, 240)), 240, 10)


class ShuffleV1(nn.Module):
    """ShuffleNetV1 (Zhang et al. 2017): grouped 1x1 convolutions with a shuffle between them."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int):
        super().__init__()
        middle, new = outputs // 4, outputs - inputs if stride == 2 else outputs
        self.groups, self.stride = groups, stride
        self.first = conv(inputs, middle, groups=groups if inputs > 24 else 1)
        self.deep, self.last = conv(middle, middle, 3, stride, middle, None), conv(middle, new, groups=groups, act=None)

    def forward(self, x):
        y = self.last(self.deep(shuffle(self.first(x), self.groups)))
        if self.stride == 1:
            return F.relu(x + y)
        return F.relu(torch.cat([F.avg_pool2d(x, 3, 2, 1), y], 1))


def shufflenet_v1(groups: int = 3) -> nn.Module:
    layers, inputs = [conv(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1)], 24
    for outputs, count in ((120, 3), (240, 5), (480, 3)):
        for i in range(count):
            layers.append(ShuffleV1(inputs, outputs, 2 if i == 0 else 1, groups))
            inputs = outputs
    return Classifier(nn.Sequential(*layers), inputs, 10)


class OneBlock(nn.Module):
    """MobileOne (Vasu et al. 2022) as it is trained: over-parameterised depthwise, then pointwise branches."""

    def __init__(self, inputs: int, outputs: int, stride: int, branches: int = 2):
        super().__init__()
        self.deep = nn.ModuleList(conv(inputs, inputs, 3, stride, inputs, None) for _ in range(branches))
        self.point = nn.ModuleList(conv(inputs, outputs, act=None) for _ in range(branches))
        self.scale = conv(inputs, inputs, 1, stride, inputs, None)
        self.same = nn.BatchNorm2d(inputs) if inputs == outputs else None

    def forward(self, x):
        x = F.relu(sum(f(x) for f in self.deep) + self.scale(x))
        y = sum(f(x) for f in self.point)
        return F.relu(y if self.same is None else y + self.same(x))


def mobileone() -> nn.Module:
    layers, inputs = [conv(3, 16, 3, 2)], 16
    for outputs, count in ((16, 2), (32, 3), (64, 3), (128, 1)):
        for i in range(count):
            layers.append(OneBlock(inputs, outputs, 2 if i == 0 else 1))
            inputs = outputs
    return Classifier(nn.Sequential(*layers), inputs, 10)
