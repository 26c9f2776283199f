"""Networks that give pictures, maps or boxes: segmentation, detection, super-resolution, autoencoders."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .mobile import V2, inverted
from .parts import Bottleneck, Residual, conv
from .resnets import resnet


def _grow(x, like):
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class Backbone(nn.Module):
    """The features of a small ResNet-18 at 1/4 (16 wide), 1/8, 1/16 and 1/32 (128 wide)."""

    def __init__(self):
        super().__init__()
        layers = list(resnet((2, 2, 2, 2)).features)
        self.stem, self.stages = nn.Sequential(*layers[:2]), nn.ModuleList(nn.Sequential(*layers[i:i + 2]) for i in (2, 4, 6, 8))

    def forward(self, x):
        x, found = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class Fcn(nn.Module):
    """Long et al. 2014, FCN-16: scores of two depths added."""

    def __init__(self, classes: int = 5):
        super().__init__()
        self.backbone, self.deep = Backbone(), nn.Sequential(conv(128, 32, 3), nn.Conv2d(32, classes, 1))
        self.skip = nn.Conv2d(64, classes, 1)

    def forward(self, x):
        *_, a, b = self.backbone(x)
        return _grow(_grow(self.deep(b), a) + self.skip(a), x)


class Pyramid(nn.Module):
    """ASPP: dilated convolutions side by side, and the mean of the picture."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.one, self.pooled = conv(inputs, width), conv(inputs, width)
        self.dilated = nn.ModuleList(nn.Sequential(nn.Conv2d(inputs, width, 3, padding=d, dilation=d, bias=False),
                                                   nn.BatchNorm2d(width), nn.ReLU()) for d in (2, 4))
        self.last = conv(4 * width, width)

    def forward(self, x):
        mean = _grow(self.pooled(F.adaptive_avg_pool2d(x, 1)), x)
        return self.last(torch.cat([self.one(x), *(f(x) for f in self.dilated), mean], 1))


class DeepLab(nn.Module):
    """v3 (Chen et al. 2017); plus: v3+ (2018) with a decoder that sees early features."""

    def __init__(self, plus: bool = False, classes: int = 5):
        super().__init__()
        self.backbone, self.pyramid, self.plus = Backbone(), Pyramid(128, 32), plus
        if plus:
            self.early = conv(16, 12)
            self.decoder = nn.Sequential(conv(44, 44, 3, groups=44), conv(44, 32), nn.Conv2d(32, classes, 1))
        else:
            self.decoder = nn.Sequential(conv(32, 32, 3), nn.Dropout(0.1), nn.Conv2d(32, classes, 1))

    def forward(self, x):
        found = self.backbone(x)
        y = self.pyramid(found[3])
        if self.plus:
            y = torch.cat([_grow(y, found[0]), self.early(found[0])], 1)
        return _grow(self.decoder(y), x)


class PspNet(nn.Module):
    """Zhao et al. 2016: means over grids of the picture."""

    def __init__(self, classes: int = 5):
        super().__init__()
        self.backbone, self.parts = Backbone(), nn.ModuleList(nn.Sequential(nn.AvgPool2d(k), conv(64, 16)) for k in (1, 2, 4))
        self.last = nn.Sequential(conv(112, 32, 3), nn.Conv2d(32, classes, 1))

    def forward(self, x):
        y = self.backbone(x)[2]
        return _grow(self.last(torch.cat([y, *(_grow(f(y), y) for f in self.parts)], 1)), x)


class LrAspp(nn.Module):
    """The light head of MobileNetV3 (Howard et al. 2019)."""

    def __init__(self, classes: int = 5):
        super().__init__()
        layers = inverted(V2).features
        self.low, self.high = layers[:6], layers[6:-1]
        self.body, self.gate = conv(80, 32), nn.Conv2d(80, 32, 1, bias=False)
        self.a, self.b = nn.Conv2d(16, classes, 1), nn.Conv2d(32, classes, 1)

    def forward(self, x):
        low = self.low(x)
        high = self.high(low)
        y = self.body(high) * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(high, 1)))
        return _grow(self.a(low) + self.b(_grow(y, low)), x)


class UNet(nn.Module):
    """Ronneberger et al. 2015. transposed: up by transposed convolutions, else by resizing."""

    def __init__(self, transposed: bool, width: int = 8, depth: int = 3, classes: int = 3):
        super().__init__()
        widths = [width << i for i in range(depth + 1)]
        self.down = nn.ModuleList(self._pair(i, o) for i, o in zip([3, *widths], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) if transposed else
                                nn.Sequential(nn.Upsample(scale_factor=2), conv(2 * w, w, 3)) for w in widths[-2::-1])
        self.join, self.last = nn.ModuleList(self._pair(2 * w, w) for w in widths[-2::-1]), nn.Conv2d(width, classes, 1)

    @staticmethod
    def _pair(i, o):
        return nn.Sequential(conv(i, o, 3), conv(o, o, 3))

    def forward(self, x):
        kept = []
        for i, f in enumerate(self.down):
            x = f(x if i == 0 else F.max_pool2d(x, 2))
            kept.append(x)
        for up, join, skip in zip(self.up, self.join, kept[-2::-1]):
            x = join(torch.cat([skip, up(x)], 1))
        return self.last(x)


class FeaturePyramid(nn.Module):
    """FPN (Lin et al. 2016) with RetinaNet's heads (2017), whose weights all levels share, and group norm in them."""

    def __init__(self, width: int = 32, anchors: int = 3, classes: int = 4):
        super().__init__()
        self.backbone = Backbone()
        self.side = nn.ModuleList(nn.Conv2d(c, width, 1) for c in (32, 64, 128))
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        def head(o):
            return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU(),
                                 nn.Conv2d(width, o, 3, padding=1))
        self.kind, self.box, self.classes = head(anchors * classes), head(anchors * 4), classes

    def forward(self, x):
        levels = [f(v) for f, v in zip(self.side, self.backbone(x)[1:])]
        for i in (1, 0):
            levels[i] = levels[i] + F.interpolate(levels[i + 1], scale_factor=2.0)
        levels = [f(v) for f, v in zip(self.smooth, levels)]
        return tuple(torch.cat([head(v).permute(0, 2, 3, 1).reshape(x.shape[0], -1, k) for v in levels], 1)
                     for head, k in ((self.kind, self.classes), (self.box, 4)))


class Ssd(nn.Module):
    """SSDLite on MobileNetV2 (Liu et al. 2015, Sandler et al. 2018)."""

    def __init__(self, classes: int = 4, anchors: int = 3):
        super().__init__()
        layers = inverted(V2).features
        self.first, self.second, self.third = layers[:10], layers[10:], Bottleneck(160, 40, 64, 3, 2)
        def head(c, o):
            return nn.Sequential(conv(c, c, 3, 1, c, nn.ReLU6), nn.Conv2d(c, o, 1))
        self.kind = nn.ModuleList(head(c, anchors * classes) for c in (32, 160, 64))
        self.box = nn.ModuleList(head(c, anchors * 4) for c in (32, 160, 64))
        self.classes = classes

    def forward(self, x):
        a = self.first(x)
        b = self.second(a)
        levels = (a, b, self.third(b))
        return tuple(torch.cat([f(v).permute(0, 2, 3, 1).reshape(x.shape[0], -1, k) for f, v in zip(heads, levels)], 1)
                     for heads, k in ((self.kind, self.classes), (self.box, 4)))


class Yolo(nn.Module):
    """A one-stage detector with C2f-like stages, pooled pyramid (SPPF) and a path down and up again."""

    def __init__(self, width: int = 16, outputs: int = 9):
        super().__init__()
        w = width
        def act(i, o, k=1, s=1):
            return conv(i, o, k, s, act=nn.SiLU)
        self.a = nn.Sequential(act(3, w, 3, 2), act(w, 2 * w, 3, 2), Split(2 * w, act))
        self.b = nn.Sequential(act(2 * w, 4 * w, 3, 2), Split(4 * w, act))
        self.pre, self.post = act(4 * w, 2 * w), act(8 * w, 4 * w)
        self.up, self.down = Split(6 * w, act, 2 * w), act(2 * w, 2 * w, 3, 2)
        self.deep = Split(6 * w, act, 4 * w)
        self.heads = nn.ModuleList(nn.Conv2d(c, outputs, 1) for c in (2 * w, 4 * w))

    def forward(self, x):
        a = self.a(x)
        parts = [self.pre(self.b(a))]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        b = self.post(torch.cat(parts, 1))
        a = self.up(torch.cat([F.interpolate(b, scale_factor=2.0), a], 1))
        b = self.deep(torch.cat([self.down(a), b], 1))
        return torch.cat([f(v).flatten(2) for f, v in zip(self.heads, (a, b))], 2)


class Split(nn.Module):
    """A stage that keeps what every block made and joins all."""

    def __init__(self, inputs: int, act, outputs: int = 0, count: int = 2):
        super().__init__()
        outputs = outputs or inputs
        half = outputs // 2
        self.first, self.last = act(inputs, outputs), act((2 + count) * half, outputs)
        self.blocks = nn.ModuleList(Residual(nn.Sequential(act(half, half, 3), act(half, half, 3))) for _ in range(count))

    def forward(self, x):
        parts = list(self.first(x).chunk(2, 1))
        for f in self.blocks:
            parts.append(f(parts[-1]))
        return self.last(torch.cat(parts, 1))


# --- pictures out ------------------------------------------------------------------------------------------------


def three(i: int, o: int) -> nn.Module:
    return nn.Conv2d(i, o, 3, padding=1)


def espcn() -> nn.Module:
    """Sub-pixel super-resolution (Shi et al. 2016), twice as large."""
    return nn.Sequential(nn.Conv2d(1, 32, 5, padding=2), nn.Tanh(), nn.Conv2d(32, 16, 3, padding=1), nn.Tanh(),
                         nn.Conv2d(16, 4, 3, padding=1), nn.PixelShuffle(2))


def srcnn() -> nn.Module:
    """Dong et al. 2014."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(1, 32, 9, padding=4), nn.ReLU(),
                         nn.Conv2d(32, 16, 1), nn.ReLU(), nn.Conv2d(16, 1, 5, padding=2))


def edsr(width: int = 32) -> nn.Module:
    """Lim et al. 2017: residual blocks without norms, up by pixel shuffles between convolutions, PReLU as in SRResNet."""
    def block():
        return Residual(nn.Sequential(three(width, width), nn.PReLU(width), three(width, width)))
    return nn.Sequential(three(3, width), Residual(nn.Sequential(block(), block(), three(width, width))),
                         three(width, 4 * width), nn.PixelShuffle(2), nn.PReLU(width),
                         three(width, 4 * width), nn.PixelShuffle(2), three(width, 3))


class NafBlock(nn.Module):
    """NAFNet (Chen et al. 2022): no activation, half of the channels times the other half."""

    def __init__(self, width: int):
        super().__init__()
        from .parts import Norm2d
        self.norm1, self.norm2 = Norm2d(width), Norm2d(width)
        self.up, self.deep = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.gate, self.down = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.up2, self.down2 = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(width, width, 1)
        self.a, self.b = (nn.Parameter(torch.full((1, width, 1, 1), 0.5)) for _ in range(2))

    def forward(self, x):
        u, v = self.deep(self.up(self.norm1(x))).chunk(2, 1)
        y = u * v
        x = x + self.a * self.down(y * self.gate(F.adaptive_avg_pool2d(y, 1)))
        u, v = self.up2(self.norm2(x)).chunk(2, 1)
        return x + self.b * self.down2(u * v)


def nafnet(width: int = 16) -> nn.Module:
    return Residual(nn.Sequential(three(3, width), NafBlock(width), NafBlock(width), three(width, 3)))


def autoencoder() -> nn.Module:
    """Convolutions down, transposed convolutions up."""
    return nn.Sequential(conv(1, 16, 3, 2), conv(16, 32, 3, 2), nn.Conv2d(32, 8, 3, padding=1),
                         nn.ConvTranspose2d(8, 32, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(32, 16, 3, 2, 1, 1),
                         nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1), nn.Sigmoid())


def anomaly() -> nn.Module:
    """The fully connected autoencoder of MLPerf Tiny's anomaly detection."""
    layers = []
    widths = (160, 64, 64, 8, 64, 64, 160)
    for i, o in zip(widths[:-2], widths[1:-1]):
        layers += [nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 160))


class Generator(nn.Module):
    """DCGAN (Radford et al. 2015): a vector, a linear layer seen as a picture, transposed convolutions."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.fc, self.width = nn.Linear(32, 4 * width * 16), width
        def up(c):
            return nn.BatchNorm2d(2 * c), nn.ReLU(), nn.ConvTranspose2d(2 * c, c, 4, 2, 1, bias=False)
        self.layers = nn.Sequential(*up(2 * width), *up(width), nn.BatchNorm2d(width), nn.ReLU(), three(width, 3), nn.Tanh())

    def forward(self, x):
        return self.layers(self.fc(x).view(-1, 4 * self.width, 4, 4))


def stylise() -> nn.Module:
    """Johnson et al. 2016: instance norm, reflected edges."""
    def layer(i, o, k, s=1):
        return [nn.ReflectionPad2d(k // 2), nn.Conv2d(i, o, k, s), nn.InstanceNorm2d(o, affine=True), nn.ReLU()]
    def block(c):
        return Residual(nn.Sequential(*layer(c, c, 3), *layer(c, c, 3)[:-1]))
    return nn.Sequential(*layer(3, 8, 9), *layer(8, 16, 3, 2), *layer(16, 32, 3, 2), block(32), block(32),
                         nn.Upsample(scale_factor=2), *layer(32, 16, 3), nn.Upsample(scale_factor=2), *layer(16, 8, 3),
                         nn.ReflectionPad2d(4), nn.Conv2d(8, 3, 9))
