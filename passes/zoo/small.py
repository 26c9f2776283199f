"""Small image classifiers for 28x28 and 32x32 pictures."""
from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import nn


class LeNet5(nn.Module):
    """The LeNet of the Caffe examples, which Deep Compression (Han et al. 2016) measures: 431,080 parameters.
    x [N, 1, 28, 28] -> logits [N, classes]."""

    def __init__(self, classes: int = 10):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, classes)

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class LeNet300(nn.Module):
    """LeNet-300-100, fully connected: 266,610 parameters. x [N, 1, 28, 28] -> logits [N, classes]."""

    def __init__(self, classes: int = 10):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 300), nn.Linear(300, 100), nn.Linear(100, classes)

    def forward(self, x):
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


class Perceptron(nn.Module):
    """Two hidden layers of `width` rectified units, with dropout behind each (Hinton et al. 2015). x [N, 1, 28, 28] -> logits."""

    def __init__(self, width: int, classes: int = 10, dropout: float = 0.0):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, width), nn.Linear(width, width), nn.Linear(width, classes)
        self.drop1, self.drop2 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, x):
        x = self.drop1(F.relu(self.fc1(x.flatten(1))))
        return self.fc3(self.drop2(F.relu(self.fc2(x))))


class Basic(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2015); the shortcut is a 1x1 convolution where shapes change."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet20(nn.Module):
    """The CIFAR ResNet with 20 layers: three stages of three blocks, `width`, 2 and 4 times as wide; any square picture.
    x [N, channels, H, W] -> logits [N, classes]."""

    def __init__(self, classes: int = 10, channels: int = 3, width: int = 16):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        blocks, inputs = [], width
        for stage in range(3):
            for i in range(3):
                blocks.append(Basic(inputs, width << stage, 2 if stage and i == 0 else 1))
                inputs = width << stage
        self.blocks, self.fc = nn.Sequential(*blocks), nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        return self.fc(x.mean((2, 3)))


class DigitRecognizer(nn.Module):
    """Three convolutions and two linear layers, 390 k parameters, with the parameter names of the package
    digit-recognizer-py. x [N, 1, 28, 28] = (pixel / 255 - 0.1307) / 0.3081 -> logits [N, 10]."""

    def __init__(self):
        super().__init__()
        widths, layers = (1, 32, 64, 128), []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.conv_layers = nn.Sequential(*layers)
        self.fc_layers = nn.Sequential(nn.Linear(1152, 256), nn.ReLU(), nn.Linear(256, 10))

    def forward(self, x):
        return self.fc_layers(self.conv_layers(x).flatten(1))


def lenet5(classes: int = 10) -> nn.Module:
    return LeNet5(classes)


def lenet300(classes: int = 10) -> nn.Module:
    return LeNet300(classes)


def perceptron(width: int = 800, classes: int = 10, dropout: float = 0.0) -> nn.Module:
    return Perceptron(width, classes, dropout)


def resnet20(classes: int = 10, channels: int = 3, width: int = 16) -> nn.Module:
    return ResNet20(classes, channels, width)


def digit_recognizer(pretrained: bool = False) -> nn.Module:
    model = DigitRecognizer()
    if pretrained:
        from ..data.fetch import find
        model.load_state_dict(torch.load(find("digit-recognizer", "**/handwriting_model.pth"), weights_only=True))
    return model
