"""What the families of the zoo share; the blocks of the measured networks are those of tests/bench/models.py."""
from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
from models import Bottleneck, Classifier, Deep, Fire, Recognizer, Shuffle, Squeeze, conv

__all__ = ["Bottleneck", "Branches", "Classifier", "Deep", "Fire", "Gate", "Norm2d", "Recognizer", "Residual", "Shuffle",
           "Squeeze", "conv", "image", "shuffle", "tokens"]


class Branches(nn.Module):
    """The channels of all branches, one after another."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([f(x) for f in self.branches], 1)


class Residual(nn.Module):
    """x + scale * f(x), with a learned scale per channel (LayerScale, Touvron et al. 2021) where `scale` names the width."""

    def __init__(self, body: nn.Module, scale: int = 0, axis: int = -1):
        super().__init__()
        self.body = body
        shape = [scale] + [1] * (-1 - axis)
        self.scale = nn.Parameter(torch.full(shape, 0.5)) if scale else None

    def forward(self, x):
        y = self.body(x)
        return x + (y if self.scale is None else y * self.scale)


class Gate(nn.Module):
    """Squeeze and excite (Hu et al. 2018) by linear layers and a sigmoid."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, squeezed), nn.Linear(squeezed, channels)

    def forward(self, x):
        n, c = x.shape[:2]
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3)))))).view(n, c, 1, 1)


class Norm2d(nn.LayerNorm):
    """Layer norm over the channels of an image."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def shuffle(x, groups: int):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def image(side: int = 64, channels: int = 3):
    """Makes the inputs of a network that takes a picture."""
    return lambda: {"x": torch.randn(1, channels, side, side)}


def tokens(length: int = 16, vocabulary: int = 100):
    return lambda: {"ids": torch.randint(0, vocabulary, (1, length))}
