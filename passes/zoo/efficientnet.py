"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019) without squeeze-and-excitation and with ReLU6, for phones.

Parameter names are those of the public PyTorch checkpoints; padding is TensorFlow's "same" (one more row and column at
the end where a stride makes it uneven), batch normalisation with eps 1e-3. Input x = (pixel - 127) / 128.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

# kernel, stride, expansion, outputs, repeats
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
          (3, 1, 6, 320, 1))


class SameConv2d(nn.Conv2d):
    """A convolution whose output is ceil(input / stride) large."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, 0, groups=groups, bias=False)

    def forward(self, x):
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads) if any(pads) else x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Inverted bottleneck (Sandler et al. 2018): 1x1 wider, depthwise, 1x1 narrower, shortcut where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = inputs * expansion
        if expansion != 1:
            self._expand_conv, self._bn0 = SameConv2d(inputs, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = SameConv2d(wide, wide, kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = SameConv2d(wide, outputs, 1), _norm(outputs)
        self.wider, self.shortcut = expansion != 1, stride == 1 and inputs == outputs

    def forward(self, x):
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.wider else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return y + x if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """x [N, 3, H, W] -> logits [N, classes]; 4.65 million parameters, 385 million MACs at 224."""

    def __init__(self, classes: int = 1000, dropout: float = 0.2):
        super().__init__()
        self._conv_stem, self._bn0 = SameConv2d(3, 32, 3, 2), _norm(32)
        blocks, inputs = [], 32
        for kernel, stride, expansion, outputs, repeats in STAGES:
            for i in range(repeats):
                blocks.append(Block(inputs, outputs, kernel, stride if i == 0 else 1, expansion))
                inputs = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = SameConv2d(inputs, 1280, 1), _norm(1280)
        self._dropout, self._fc = nn.Dropout(dropout), nn.Linear(1280, classes)

    def forward(self, x):
        x = self._blocks(F.relu6(self._bn0(self._conv_stem(x))))
        x = F.relu6(self._bn1(self._conv_head(x)))
        return self._fc(self._dropout(x.mean((2, 3))))


def efficientnet_lite0(classes: int = 1000, pretrained: bool = False) -> nn.Module:
    model = EfficientNetLite0(classes)
    if pretrained:
        from ..data.fetch import find
        weights = torch.load(find("efficientnet-lite0", "**/efficientnet-lite0-57934424.pth"), weights_only=True)
        model.load_state_dict(weights)
    return model.eval() if pretrained else model
