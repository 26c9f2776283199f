"""Residual networks and what grew out of them."""
from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from .parts import Classifier, Gate, conv


class Block(nn.Module):
    """A residual block: 3x3 3x3, or with deep 1x1 3x3 1x1 (four times as wide); grouped, gated, its shortcut pooled.

    middle    makes the 3x3 of a deep block from (width, stride)
    shortcut  "conv", or "pool": mean over 2x2 before the 1x1 (ResNet-D)
    """

    def __init__(self, inputs: int, width: int, stride: int, deep: bool = False, wide: float = 1, groups: int = 1,
                 gate: bool = False, middle: Callable | None = None, shortcut: str = "conv", before: bool = False):
        super().__init__()
        outputs, inner, self.before = width * (4 if deep else 1), int(width * wide), before
        make = middle or (lambda c, s: conv(c, c, 3, s, groups))
        layers = [conv(inputs, inner), make(inner, stride), conv(inner, outputs, act=None)] if deep else \
            [conv(inputs, inner, 3, stride), conv(inner, outputs, 3, act=None)]
        if before:  # batch norm and relu come first (He et al. 2016b)
            layers = [nn.BatchNorm2d(inputs), nn.ReLU(), *(m for f in layers for m in f)][:-1]
        self.body = nn.Sequential(*layers, *([Gate(outputs, outputs // 8)] if gate else []))
        pool = [nn.AvgPool2d(2, ceil_mode=True)] if shortcut == "pool" and stride > 1 else []
        self.shortcut = nn.Identity() if inputs == outputs and stride == 1 else \
            nn.Sequential(*pool, conv(inputs, outputs, 1, 1 if pool else stride, act=None))

    def forward(self, x):
        y = self.body(x) + self.shortcut(x)
        return y if self.before else F.relu(y)


def resnet(repeats: tuple, width: int = 16, **block) -> nn.Module:
    """18 (2, 2, 2, 2) and 34 (3, 4, 6, 3); with deep 50 (3, 4, 6, 3), 101 (3, 4, 23, 3), 152 (3, 8, 36, 3)."""
    layers, inputs = [conv(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)], width
    for stage, count in enumerate(repeats):
        for i in range(count):
            layers.append(Block(inputs, width << stage, 2 if stage and i == 0 else 1, **block))
            inputs = (width << stage) * (4 if block.get("deep") else 1)
    last = [nn.BatchNorm2d(inputs), nn.ReLU()] if block.get("before") else []
    return Classifier(nn.Sequential(*layers, *last), inputs, 10)


class Scales(nn.Module):
    """The middle of Res2Net (Gao et al. 2019): every part of the channels sees what the part before it made."""

    def __init__(self, width: int, stride: int, parts: int = 4):
        super().__init__()
        self.parts, each = parts, width // parts
        self.convs = nn.ModuleList(conv(each, each, 3, stride) for _ in range(parts - 1))
        self.pool = nn.AvgPool2d(3, stride, 1) if stride > 1 else nn.Identity()
        self.apart = stride > 1

    def forward(self, x):
        parts, made = x.chunk(self.parts, 1), []
        for i, f in enumerate(self.convs):
            made.append(f(parts[i] if i == 0 or self.apart else parts[i] + made[-1]))
        return torch.cat([*made, self.pool(parts[-1])], 1)


class Select(nn.Module):
    """The middle of SKNet (Li et al. 2019): two kernels, mixed by a softmax per channel."""

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.three = conv(width, width, 3, stride)
        self.five = nn.Sequential(nn.Conv2d(width, width, 3, stride, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.fc, self.a, self.b = conv(width, 16), nn.Conv2d(16, width, 1), nn.Conv2d(16, width, 1)

    def forward(self, x):
        u, v = self.three(x), self.five(x)
        z = self.fc(F.adaptive_avg_pool2d(u + v, 1))
        mix = torch.stack([self.a(z), self.b(z)], 1).softmax(1)
        return u * mix[:, 0] + v * mix[:, 1]


class ChannelConv(nn.Module):
    """The gate of ECANet (Wang et al. 2019): a convolution over neighbouring channels, which therefore stay."""

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.conv, self.gate = conv(width, width, 3, stride), nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        x = self.conv(x)
        return x * torch.sigmoid(self.gate(x.mean((2, 3))[:, None])).transpose(1, 2).unsqueeze(-1)


class Attend(nn.Module):
    """CBAM (Woo et al. 2018): a gate by channel from mean and maximum (shared layers), then one by place."""

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.conv = conv(width, width, 3, stride)
        self.fc = nn.Sequential(nn.Conv2d(width, width // 4, 1), nn.ReLU(), nn.Conv2d(width // 4, width, 1))
        self.place = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x):
        x = self.conv(x)
        x = x * torch.sigmoid(self.fc(F.adaptive_avg_pool2d(x, 1)) + self.fc(F.adaptive_max_pool2d(x, 1)))
        return x * torch.sigmoid(self.place(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))


class Reparameterised(nn.Module):
    """RepVGG (Ding et al. 2021) as it is trained: 3x3, 1x1 and identity, added."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.three, self.one = conv(inputs, outputs, 3, stride, act=None), conv(inputs, outputs, 1, stride, act=None)
        self.same = nn.BatchNorm2d(inputs) if stride == 1 and inputs == outputs else None

    def forward(self, x):
        y = self.three(x) + self.one(x)
        return F.relu(y if self.same is None else y + self.same(x))


def repvgg(deploy: bool, repeats: tuple = (1, 2, 3, 3, 1), channels: int = 3) -> nn.Module:
    layers, inputs = [], channels
    for outputs, count in zip((16, 16, 32, 64, 128), repeats):
        for i in range(count):
            stride = 2 if i == 0 else 1
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU()] if deploy else \
                [Reparameterised(inputs, outputs, stride)]
            inputs = outputs
    return Classifier(nn.Sequential(*layers), inputs, 10)


class RegBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, group: int, gate: bool):
        super().__init__()
        self.body = nn.Sequential(conv(inputs, outputs), conv(outputs, outputs, 3, stride, outputs // group),
                                  *([Gate(outputs, inputs // 4)] if gate else []), conv(outputs, outputs, act=None))
        self.shortcut = nn.Identity() if inputs == outputs and stride == 1 else conv(inputs, outputs, 1, stride, act=None)

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


def regnet(gate: bool, widths: tuple = (24, 56, 152, 368), repeats: tuple = (1, 1, 2, 2), group: int = 8) -> nn.Module:
    """RegNetX-400MF-like, and with gates RegNetY (Radosavovic et al. 2020)."""
    layers, inputs = [conv(3, 32, 3, 2)], 32
    for width, count in zip(widths, repeats):
        for i in range(count):
            layers.append(RegBlock(inputs, width, 2 if i == 0 else 1, group, gate))
            inputs = width
    return Classifier(nn.Sequential(*layers), inputs, 10)


class HighResolution(nn.Module):
    """HRNet (Wang et al. 2019): two resolutions side by side that add into each other."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.stem, self.down = conv(3, width, 3, 2), conv(width, 2 * width, 3, 2)
        self.high = nn.ModuleList(Block(width, width, 1) for _ in range(2))
        self.low = nn.ModuleList(Block(2 * width, 2 * width, 1) for _ in range(2))
        self.raise_ = nn.ModuleList(conv(2 * width, width, act=None) for _ in range(2))
        self.lower = nn.ModuleList(conv(width, 2 * width, 3, 2, act=None) for _ in range(2))
        self.fc = nn.Linear(3 * width, 10)

    def forward(self, x):
        a = self.stem(x)
        b = self.down(a)
        for high, low, up, down in zip(self.high, self.low, self.raise_, self.lower):
            a, b = high(a), low(b)
            a, b = F.relu(a + F.interpolate(up(b), scale_factor=2.0)), F.relu(b + down(a))
        return self.fc(torch.cat([a.mean((2, 3)), b.mean((2, 3))], 1))
