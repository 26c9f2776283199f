"""A zoo of architectures, of the class that torchvision and timm have, written in plain torch for the tests of what
works on structure: the topology of the papers, a fraction of their width and depth, inputs so small that each runs in a moment.

    module, inputs = make("resnet50")          # eval mode, seeded; inputs: {name: tensor}, batch 1
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from mcc.passes.zoo import lenet5, lenet300, resnet20
from torch import nn

from . import attention, classic, dense, mobile, resnets, sequences
from .attention import Mixer, RMSNorm, ViT, Words
from .classic import densenet, vgg
from .mobile import B0, MNAS, V2, inverted
from .parts import Classifier, Recognizer, Shuffle, conv, image, tokens
from .resnets import regnet, repvgg, resnet


@dataclass(frozen=True)
class Architecture:
    """make() -> module; inputs() -> example inputs by name, batch 1; left: the share of the multiply-accumulates
    that may be left when half of the channels of every group are gone."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], dict] = image()
    left: float = 0.4


def _shufflenet_v2() -> nn.Module:
    layers, inputs = [conv(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1)], 24
    for outputs, repeats in ((32, 4), (64, 8), (128, 4)):
        for i in range(repeats):
            layers.append(Shuffle(inputs, outputs, 2 if i == 0 else 1))
            inputs = outputs
    return Classifier(nn.Sequential(*layers, conv(128, 160)), 160, 10)


def _squeezenet11() -> nn.Module:
    from models import SqueezeNet11
    return SqueezeNet11()


def _mobilenet_v3_small() -> nn.Module:
    from models import MobileNetV3Small
    return MobileNetV3Small()


def _efficientnet_lite0() -> nn.Module:
    from mcc.passes.zoo import efficientnet_lite0
    return efficientnet_lite0()


def _vector(n: int):
    return lambda: {"x": torch.randn(1, n)}


def _sound(*shape: int):
    return lambda: {"x": torch.randn(1, *shape)}


SMALL = image(32)
ZOO: dict[str, Architecture] = {
    "lenet5": Architecture(lenet5, image(28, 1)),
    "lenet300": Architecture(lenet300, image(28, 1), 0.5),
    "alexnet": Architecture(classic.alexnet, image(96)),
    "nin": Architecture(classic.nin),
    "vgg11": Architecture(partial(vgg, (1, 1, 2, 2, 2))),
    "vgg16_bn": Architecture(partial(vgg, (2, 2, 3, 3, 3), norm=True)),
    "squeezenet10": Architecture(classic.squeezenet10),
    "squeezenet11": Architecture(_squeezenet11),
    "densenet121": Architecture(partial(densenet, (3, 4, 4, 3)), SMALL),
    "darknet53": Architecture(classic.darknet),
    "cspnet": Architecture(classic.cspnet),
    "googlenet": Architecture(classic.googlenet),
    "inception_v3": Architecture(classic.inception_v3, image(96)),
    "inception_v4": Architecture(classic.inception_v4),
    "inception_resnet_v2": Architecture(classic.inception_resnet),
    "xception": Architecture(classic.xception),
    "resnet18": Architecture(partial(resnet, (2, 2, 2, 2))),
    "resnet20": Architecture(resnet20, SMALL),
    "resnet50": Architecture(partial(resnet, (2, 2, 3, 2), deep=True)),
    "resnet50_d": Architecture(partial(resnet, (2, 2, 3, 2), deep=True, shortcut="pool")),
    "preact_resnet18": Architecture(partial(resnet, (2, 2, 2, 2), before=True)),
    "preact_resnet50": Architecture(partial(resnet, (2, 2, 3, 2), deep=True, before=True)),
    "wide_resnet50": Architecture(partial(resnet, (2, 2, 3, 2), deep=True, wide=2)),
    "resnext50": Architecture(partial(resnet, (2, 2, 3, 2), deep=True, wide=2, groups=8)),
    "se_resnet18": Architecture(partial(resnet, (2, 2, 2, 2), gate=True)),
    "se_resnet50": Architecture(partial(resnet, (2, 2, 3, 2), deep=True, gate=True)),
    "se_resnext50": Architecture(partial(resnet, (2, 2, 3, 2), deep=True, wide=2, groups=8, gate=True)),
    "res2net50": Architecture(partial(resnet, (2, 2, 3, 2), deep=True, middle=resnets.Scales)),
    "sknet26": Architecture(partial(resnet, (2, 2, 2, 2), deep=True, middle=resnets.Select)),
    "eca_resnet26": Architecture(partial(resnet, (2, 2, 2, 2), deep=True, middle=resnets.ChannelConv), left=0.7),
    "cbam_resnet26": Architecture(partial(resnet, (2, 2, 2, 2), deep=True, middle=resnets.Attend)),
    "repvgg_train": Architecture(partial(repvgg, False)),
    "repvgg_deploy": Architecture(partial(repvgg, True)),
    "regnet_x": Architecture(partial(regnet, False)),
    "regnet_y": Architecture(partial(regnet, True)),
    "hrnet": Architecture(resnets.HighResolution),
    "mobilenet_v1": Architecture(mobile.mobilenet_v1),
    "mobilenet_v2": Architecture(partial(inverted, V2)),
    "mobilenet_v3_small": Architecture(_mobilenet_v3_small),
    "mobilenet_v3_large": Architecture(mobile.mobilenet_v3_large),
    "mnasnet": Architecture(partial(inverted, MNAS, act=nn.ReLU)),
    "efficientnet_b0": Architecture(partial(inverted, B0, act=nn.SiLU, squeeze=0.25)),
    "efficientnet_v2_s": Architecture(mobile.efficientnet_v2),
    "efficientnet_lite0": Architecture(_efficientnet_lite0),
    "mixnet": Architecture(mobile.mixnet),
    "ghostnet": Architecture(mobile.ghostnet),
    "shufflenet_v1": Architecture(mobile.shufflenet_v1, left=0.6),
    "shufflenet_v2": Architecture(_shufflenet_v2, left=0.45),
    "mobileone": Architecture(mobile.mobileone),
    "convnext": Architecture(attention.convnext),
    "convnext_v2": Architecture(partial(attention.convnext, True)),
    "convmixer": Architecture(attention.convmixer),
    "mlp_mixer": Architecture(partial(Mixer, "mixer"), left=0.6),
    "resmlp": Architecture(partial(Mixer, "resmlp"), left=0.65),
    "gmlp": Architecture(partial(Mixer, "gmlp"), left=0.65),
    "poolformer": Architecture(attention.poolformer),
    "vit": Architecture(ViT, left=0.5),
    "vit_unfused": Architecture(partial(ViT, 0, fused=False, written=True), left=0.5),
    "deit_distilled": Architecture(partial(ViT, 2), left=0.5),
    "cait": Architecture(attention.CaiT, left=0.6),
    "swin": Architecture(attention.Swin, left=0.6),
    "pvt": Architecture(attention.pvt, left=0.5),
    "mobilevit": Architecture(attention.mobilevit),
    "fcn": Architecture(dense.Fcn),
    "deeplab_v3": Architecture(dense.DeepLab),
    "deeplab_v3plus": Architecture(partial(dense.DeepLab, True)),
    "pspnet": Architecture(dense.PspNet),
    "lraspp": Architecture(dense.LrAspp),
    "unet": Architecture(partial(dense.UNet, False)),
    "unet_transposed": Architecture(partial(dense.UNet, True)),
    "retinanet": Architecture(dense.FeaturePyramid),
    "ssdlite": Architecture(dense.Ssd),
    "yolo": Architecture(dense.Yolo),
    "espcn": Architecture(dense.espcn, image(32, 1)),
    "srcnn": Architecture(dense.srcnn, image(32, 1), 0.6),
    "edsr": Architecture(dense.edsr, image(24)),
    "nafnet": Architecture(dense.nafnet, image(32)),
    "autoencoder": Architecture(dense.autoencoder, image(32, 1)),
    "anomaly_autoencoder": Architecture(dense.anomaly, _vector(160), 0.6),
    "dcgan": Architecture(dense.Generator, _vector(32)),
    "style_transfer": Architecture(dense.stylise, image(32)),
    "crnn_lstm": Architecture(partial(Recognizer, 30, 16, 24), _sound(1, 32, 64)),
    "gru_keyword": Architecture(partial(sequences.Keyword, "GRU"), _sound(1, 40, 10), 0.5),
    "lstm_keyword": Architecture(partial(sequences.Keyword, "LSTM", 2, True), _sound(1, 40, 10), 0.5),
    "lstm_tagger": Architecture(sequences.Tagger, tokens(), 0.5),
    "lstm_sentence": Architecture(sequences.Encoded, tokens(), 0.5),
    "tcn": Architecture(sequences.tcn, _sound(8, 64)),
    "wavenet": Architecture(sequences.WaveNet, _sound(1, 128)),
    "m5": Architecture(sequences.m5, _sound(1, 2000), 0.45),
    "ds_cnn": Architecture(sequences.ds_cnn, _sound(1, 49, 10)),
    "conformer": Architecture(sequences.Speech, _sound(1, 64, 40), 0.5),
    "bert": Architecture(partial(Words, first=False, fused=False), tokens(), 0.5),
    "albert": Architecture(partial(Words, share=True, small=16, first=False, fused=False), tokens(), 0.5),
    "torch_encoder": Architecture(attention.TorchEncoder, tokens(), 0.5),
    "gpt2": Architecture(partial(Words, tied=True, causal=True, written=True), tokens(), 0.5),
    "llama": Architecture(partial(Words, places=False, norm=RMSNorm, heads=6, gated=True, act=nn.functional.silu, fused=False,
                                  kv=2, rotary=True, causal=True), tokens(), 0.5),
}


def make(name: str, seed: int = 0) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The module in eval mode and example inputs, the same for a seed; batch norms have scales, shifts and statistics as
    trained ones do. Raises KeyError for an unknown name."""
    row = ZOO[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, inputs = row.make(), row.inputs()
        for m in module.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                nn.init.uniform_(m.weight, 0.5, 1.5)
                nn.init.normal_(m.bias, std=0.2)
                nn.init.normal_(m.running_mean, std=0.2)
                nn.init.uniform_(m.running_var, 0.5, 1.5)
    return module.eval(), inputs
