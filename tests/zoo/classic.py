"""Convolutional classifiers before and beside the residual networks, a quarter as wide as in the papers."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .parts import Branches, Classifier, Fire, Residual, conv


def alexnet() -> nn.Module:
    """Krizhevsky et al. 2012, the one-column form."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(16, 48, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(48, 96, 3, padding=1), nn.ReLU(), nn.Conv2d(96, 64, 3, padding=1), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Dropout(), nn.Linear(256, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


def vgg(repeats: tuple, norm: bool = False) -> nn.Module:
    """Simonyan and Zisserman 2014: the number of 3x3 convolutions before each pooling."""
    layers, inputs = [], 3
    for outputs, count in zip((16, 32, 64, 128, 128), repeats):
        for _ in range(count):
            layers += [conv(inputs, outputs, 3)] if norm else [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    head = [nn.Flatten(), nn.Linear(512, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
    return nn.Sequential(*layers, *head)


def nin() -> nn.Module:
    """Network in network, Lin et al. 2013."""
    def block(i, o, k, s, p):
        return [nn.Conv2d(i, o, k, s, p), nn.ReLU(), nn.Conv2d(o, o, 1), nn.ReLU(), nn.Conv2d(o, o, 1), nn.ReLU()]
    return nn.Sequential(*block(3, 24, 5, 2, 2), nn.MaxPool2d(3, 2), *block(24, 48, 5, 1, 2), nn.MaxPool2d(3, 2), nn.Dropout(),
                         *block(48, 10, 3, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def squeezenet10() -> nn.Module:
    """SqueezeNet 1.0 (Iandola et al. 2016)."""
    def pool():
        return nn.MaxPool2d(3, 2, ceil_mode=True)
    fires = [Fire(24, 4, 16), Fire(32, 4, 16), Fire(32, 8, 32), pool(), Fire(64, 8, 32), Fire(64, 12, 48), Fire(96, 12, 48),
             Fire(96, 16, 64), pool(), Fire(128, 16, 64)]
    return nn.Sequential(nn.Conv2d(3, 24, 7, 2), nn.ReLU(), pool(), *fires, nn.Dropout(), nn.Conv2d(128, 10, 1), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten())


class _Dense(nn.Module):
    def __init__(self, inputs: int, growth: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv1(F.relu(self.bn1(x)))
        return torch.cat([x, self.conv2(F.relu(self.bn2(y)))], 1)


def densenet(blocks: tuple, growth: int = 8) -> nn.Module:
    """Huang et al. 2016; the 121 has blocks of (6, 12, 24, 16)."""
    width = 2 * growth
    layers = [conv(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for i, count in enumerate(blocks):
        for _ in range(count):
            layers.append(_Dense(width, growth))
            width += growth
        if i < len(blocks) - 1:
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
            width //= 2
    return Classifier(nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU()), width, 10)


def darknet() -> nn.Module:
    """Darknet-53's blocks (Redmon and Farhadi 2018) with leaky relu, fewer of them."""
    def leaky(i, o, k=1, s=1):
        return conv(i, o, k, s, act=nn.LeakyReLU)
    layers, width = [leaky(3, 8, 3)], 8
    for count in (1, 2, 4, 4, 2):
        layers.append(leaky(width, 2 * width, 3, 2))
        width *= 2
        layers += [Residual(nn.Sequential(leaky(width, width // 2), leaky(width // 2, width, 3))) for _ in range(count)]
    return Classifier(nn.Sequential(*layers), width, 10)


class _CrossStage(nn.Module):
    """CSPNet (Wang et al. 2019): half of the channels pass by the residual blocks."""

    def __init__(self, inputs: int, width: int, count: int):
        super().__init__()
        self.down = conv(inputs, width, 3, 2, act=nn.SiLU)
        self.body = nn.Sequential(*(Residual(nn.Sequential(conv(width // 2, width // 2, act=nn.SiLU),
                                                           conv(width // 2, width // 2, 3, act=nn.SiLU))) for _ in range(count)))
        self.last = conv(width, width, act=nn.SiLU)

    def forward(self, x):
        a, b = self.down(x).chunk(2, 1)
        return self.last(torch.cat([a, self.body(b)], 1))


def cspnet() -> nn.Module:
    stages = _CrossStage(16, 32, 1), _CrossStage(32, 64, 2), _CrossStage(64, 128, 2)
    return Classifier(nn.Sequential(conv(3, 16, 3, 2), *stages), 128, 10)


# --- inception ------------------------------------------------------------------------------------------------


def _pooled(i, o):
    return nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(i, o))


def googlenet() -> nn.Module:
    """Inception v1 (Szegedy et al. 2014)."""
    layers, width = [conv(3, 16, 7, 2), nn.MaxPool2d(3, 2, 1), conv(16, 16), conv(16, 48, 3), nn.MaxPool2d(3, 2, 1)], 48
    plan = ((16, 24, 32, 4, 8, 8), (32, 32, 48, 8, 24, 16), None, (48, 24, 52, 4, 12, 16), (40, 28, 56, 6, 16, 16),
            (32, 32, 64, 6, 16, 16), (28, 36, 72, 8, 16, 16), (64, 40, 80, 8, 32, 32), None, (64, 40, 80, 8, 32, 32))
    for row in plan:
        if row is None:
            layers.append(nn.MaxPool2d(3, 2, 1))
            continue
        one, r3, three, r5, five, pool = row
        layers.append(Branches(conv(width, one), nn.Sequential(conv(width, r3), conv(r3, three, 3)),
                               nn.Sequential(conv(width, r5), conv(r5, five, 5)), _pooled(width, pool)))
        width = one + three + five + pool
    return Classifier(nn.Sequential(*layers), width, 10, 0.4)


def _wide(i, o, k, s=1, p=0):
    """A convolution with a kernel of two sizes (1x7, 7x1), batch norm, relu."""
    return nn.Sequential(nn.Conv2d(i, o, k, s, p, bias=False), nn.BatchNorm2d(o), nn.ReLU())


def _seven(i, m, o):
    return nn.Sequential(conv(i, m), _wide(m, m, (1, 7), p=(0, 3)), _wide(m, o, (7, 1), p=(3, 0)))


def _reduction(i, a, b):
    """Both halves stride 2, the pooled input beside them."""
    return Branches(_wide(i, a, 3, 2), nn.Sequential(conv(i, b), conv(b, b, 3), _wide(b, b, 3, 2)), nn.MaxPool2d(3, 2)), i + a + b


def inception_v3(width: int = 16) -> nn.Module:
    """Szegedy et al. 2015: factorised 5x5 and 7x7, and the fan-out of 1x3 and 3x1."""
    w, c = width, 3 * width
    layers = [_wide(3, 8, 3, 2), _wide(8, 8, 3), conv(8, 16, 3), nn.MaxPool2d(3, 2), conv(16, 20), _wide(20, c, 3)]
    for _ in range(2):
        layers.append(Branches(conv(c, w), nn.Sequential(conv(c, w), conv(w, w, 5)),
                               nn.Sequential(conv(c, w), conv(w, w, 3), conv(w, w, 3)),
                               nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(c, w))))
        c = 4 * w
    part, c = _reduction(c, 2 * w, w)
    layers.append(part)
    for _ in range(2):
        layers.append(Branches(conv(c, 2 * w), _seven(c, w, 2 * w), nn.Sequential(_seven(c, w, w), _seven(w, w, 2 * w)),
                               nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(c, 2 * w))))
        c = 8 * w
    fan = Branches(_wide(w, w, (1, 3), p=(0, 1)), _wide(w, w, (3, 1), p=(1, 0)))
    layers.append(Branches(conv(c, w), nn.Sequential(conv(c, w), fan),
                           nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(c, w))))
    return Classifier(nn.Sequential(*layers), 4 * w, 10)


def inception_v4(width: int = 16) -> nn.Module:
    """Szegedy et al. 2016: the stem that pools beside its strided convolutions, then blocks A, B and C."""
    w = width
    stem = [_wide(3, 8, 3, 2), conv(8, 8, 3), Branches(nn.MaxPool2d(3, 2), _wide(8, 12, 3, 2)),
            Branches(nn.Sequential(conv(20, 8), conv(8, 12, 3)), nn.Sequential(_seven(20, 8, 8), conv(8, 12, 3)))]
    c = 24
    a = Branches(nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(c, w)), conv(c, w), nn.Sequential(conv(c, w), conv(w, w, 3)))
    part, c = _reduction(3 * w, w, w)
    b = Branches(nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(c, w)), conv(c, w), _seven(c, w, w))
    return Classifier(nn.Sequential(*stem, a, part, b), 3 * w, 10)


class _InceptionResidual(nn.Module):
    def __init__(self, c: int, branches: nn.Module, width: int):
        super().__init__()
        self.branches, self.up = branches, nn.Conv2d(width, c, 1)

    def forward(self, x):
        return F.relu(x + 0.2 * self.up(self.branches(x)))


def inception_resnet() -> nn.Module:
    """Inception-ResNet v2 of the same paper."""
    c = 48
    layers = [_wide(3, 16, 3, 2), conv(16, c, 3, 2)]
    for _ in range(2):
        layers.append(_InceptionResidual(c, Branches(conv(c, 8), nn.Sequential(conv(c, 8), conv(8, 12, 3))), 20))
    part, c = _reduction(c, 32, 16)
    layers.append(part)
    for _ in range(2):
        layers.append(_InceptionResidual(c, Branches(conv(c, 16), _seven(c, 12, 16)), 32))
    return Classifier(nn.Sequential(*layers), c, 10)


class _Xception(nn.Module):
    def __init__(self, i: int, o: int, stride: int, first: bool = True):
        super().__init__()
        def separable(a, b):
            return [nn.Conv2d(a, a, 3, padding=1, groups=a, bias=False), nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b)]
        layers = [*([nn.ReLU()] if first else []), *separable(i, o), nn.ReLU(), *separable(o, o)]
        self.body = nn.Sequential(*layers, *([nn.MaxPool2d(3, stride, 1)] if stride > 1 else []))
        self.skip = conv(i, o, 1, stride, act=None) if stride > 1 or i != o else nn.Identity()

    def forward(self, x):
        return self.body(x) + self.skip(x)


def xception() -> nn.Module:
    """Chollet 2016."""
    return Classifier(nn.Sequential(conv(3, 8, 3, 2), conv(8, 16, 3), _Xception(16, 32, 2, False), _Xception(32, 64, 2),
                                    _Xception(64, 128, 2), *(_Xception(128, 128, 1) for _ in range(4)), nn.ReLU()), 128, 10)
