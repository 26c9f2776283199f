"""Sound, text lines and other sequences: recurrent layers, convolutions over time, both with attention."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .attention import Attention, Mlp
from .parts import Residual


class Keyword(nn.Module):
    """Convolutions over cepstra, then a recurrent layer (CRNN for keywords, Arik et al. 2017): kind is GRU, LSTM or RNN."""

    def __init__(self, kind: str = "GRU", layers: int = 1, both: bool = False):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 16, (5, 3), (2, 1), (2, 1)), nn.ReLU())
        self.rnn = getattr(nn, kind)(160, 32, layers, batch_first=True, bidirectional=both)
        self.fc = nn.Sequential(nn.Linear(64 if both else 32, 32), nn.ReLU(), nn.Linear(32, 12))

    def forward(self, x):
        y = self.conv(x).transpose(1, 2).flatten(2)
        return self.fc(self.rnn(y)[0][:, -1])


class Tagger(nn.Module):
    """Embedding, two stacked recurrent layers, a label per word."""

    def __init__(self, kind: str = "LSTM", vocabulary: int = 100):
        super().__init__()
        self.words, self.rnn = nn.Embedding(vocabulary, 24), getattr(nn, kind)(24, 32, 2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(64, 8)

    def forward(self, ids):
        return self.fc(self.rnn(self.words(ids))[0])


class Encoded(nn.Module):
    """The last state of an LSTM beside the mean of its outputs: a sentence classifier."""

    def __init__(self):
        super().__init__()
        self.words, self.norm, self.rnn = nn.Embedding(100, 24), nn.LayerNorm(24), nn.LSTM(24, 32, batch_first=True)
        self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 5)

    def forward(self, ids):
        y, (h, _) = self.rnn(self.norm(self.words(ids)))
        return self.fc2(torch.tanh(self.fc1(torch.cat([h[0], y.mean(1)], 1))))


class Temporal(nn.Module):
    """A block of TCN (Bai et al. 2018): two dilated causal convolutions, a shortcut."""

    def __init__(self, inputs: int, outputs: int, dilation: int):
        super().__init__()
        self.pad = nn.ConstantPad1d((2 * dilation, 0), 0.0)
        self.a, self.b = nn.Conv1d(inputs, outputs, 3, dilation=dilation), nn.Conv1d(outputs, outputs, 3, dilation=dilation)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x):
        y = F.relu(self.b(self.pad(F.relu(self.a(self.pad(x))))))
        return F.relu(y + self.skip(x))


class Last(nn.Module):
    def forward(self, x):
        return x[..., -1]


def tcn() -> nn.Module:
    return nn.Sequential(Temporal(8, 32, 1), Temporal(32, 32, 2), Temporal(32, 48, 4), Last(), nn.Linear(48, 10))


class WaveNet(nn.Module):
    """van den Oord et al. 2016: gated dilated convolutions (tanh times sigmoid of halves), skips added up."""

    def __init__(self, width: int = 16, skip: int = 24):
        super().__init__()
        self.first = nn.Conv1d(1, width, 1)
        self.gates = nn.ModuleList(nn.Conv1d(width, 2 * width, 3, padding=d, dilation=d) for d in (1, 2, 4))
        self.out, self.skip = (nn.ModuleList(nn.Conv1d(width, c, 1) for _ in range(3)) for c in (width, skip))
        self.last = nn.Sequential(nn.ReLU(), nn.Conv1d(skip, skip, 1), nn.ReLU(), nn.Conv1d(skip, 8, 1))

    def forward(self, x):
        x, total = self.first(x), 0
        for gate, out, skip in zip(self.gates, self.out, self.skip):
            a, b = gate(x).chunk(2, 1)
            y = torch.tanh(a) * torch.sigmoid(b)
            x, total = x + out(y), total + skip(y)
        return self.last(total)


class Conformer(nn.Module):
    """Gulati et al. 2020: half an mlp, attention, a gated depthwise convolution over time, half an mlp."""

    def __init__(self, width: int = 48):
        super().__init__()
        def mlp():
            return nn.Sequential(nn.LayerNorm(width), Mlp(width, 4 * width, act=F.silu))
        self.a, self.b = mlp(), mlp()
        self.attention = Residual(nn.Sequential(nn.LayerNorm(width), Attention(width, 4, fused=False, written=True)))
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Conv1d(width, 2 * width, 1), nn.Conv1d(width, width, 1)
        self.deep, self.bn = nn.Conv1d(width, width, 7, padding=3, groups=width), nn.BatchNorm1d(width)
        self.last = nn.LayerNorm(width)

    def forward(self, x):
        x = self.attention(x + 0.5 * self.a(x))
        y = F.glu(self.up(self.norm(x).transpose(1, 2)), 1)
        x = x + self.down(F.silu(self.bn(self.deep(y)))).transpose(1, 2)
        return self.last(x + 0.5 * self.b(x))


class Speech(nn.Module):
    def __init__(self, width: int = 48):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.flat, self.fc = nn.Linear(80, width), nn.Linear(width, 30)
        self.layers = nn.Sequential(Conformer(width), Conformer(width))

    def forward(self, x):
        y = self.first(x)
        y = self.flat(y.transpose(1, 2).flatten(2))
        return F.log_softmax(self.fc(self.layers(y)), -1)


def m5() -> nn.Module:
    """Raw sound to a class by 1-d convolutions (Dai et al. 2016)."""
    layers, inputs = [], 1
    for outputs, kernel, stride in ((16, 40, 4), (16, 3, 1), (32, 3, 1), (64, 3, 1)):
        layers += [nn.Conv1d(inputs, outputs, kernel, stride), nn.BatchNorm1d(outputs), nn.ReLU(), nn.MaxPool1d(4)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 10))


def ds_cnn(width: int = 32) -> nn.Module:
    """Depthwise separable keyword spotting (Zhang et al. 2017)."""
    from .parts import Classifier, conv
    stem = nn.Sequential(nn.Conv2d(1, width, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(width), nn.ReLU())
    layers = (f for _ in range(4) for f in (conv(width, width, 3, 1, width), conv(width, width)))
    return Classifier(nn.Sequential(stem, *layers), width, 12)
