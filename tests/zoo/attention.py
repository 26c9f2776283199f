"""Transformers and mixers: over patches of pictures, and over words."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from .parts import Norm2d, Residual, conv


class Attention(nn.Module):
    """Self-attention. fused: q, k and v by one linear layer; written: by products and a softmax instead of torch's
    function; talking: heads are mixed before and after the softmax (CaiT); bias: one per head and pair of places (Swin);
    causal: no looking ahead; kv: fewer heads of keys and values (grouped queries); rotary: positions turn q and k."""

    def __init__(self, width: int, heads: int, fused: bool = True, written: bool = False, talking: bool = False, bias: int = 0,
                 causal: bool = False, kv: int = 0, rotary: bool = False):
        super().__init__()
        self.heads, self.each, self.fused, self.causal, self.rotary = heads, width // heads, fused, causal, rotary
        self.written = written or talking or bool(bias)
        self.kv = kv or heads
        if fused:
            self.qkv = nn.Linear(width, 3 * width)
        else:
            self.q, self.k, self.v = (nn.Linear(width, n * self.each) for n in (heads, self.kv, self.kv))
        self.proj = nn.Linear(width, width)
        self.mix = nn.ModuleList(nn.Linear(heads, heads) for _ in range(2)) if talking else None
        self.bias = nn.Parameter(torch.randn(heads, bias, bias)) if bias else None

    def forward(self, x):
        n, s, c = x.shape
        if self.fused:
            q, k, v = self.qkv(x).reshape(n, s, 3, self.heads, self.each).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (f(x).view(n, s, h, self.each).transpose(1, 2)
                       for f, h in ((self.q, self.heads), (self.k, self.kv), (self.v, self.kv)))
        if self.rotary:
            q, k = _turn(q), _turn(k)
        if self.kv < self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv, 1) for t in (k, v))
        y = self._written(q, k, v) if self.written else F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.proj(y.transpose(1, 2).reshape(n, s, c))

    def _written(self, q, k, v):
        scores = q @ k.transpose(-2, -1) / math.sqrt(self.each)
        if self.bias is not None:
            scores = scores + self.bias
        if self.causal:
            s = scores.shape[-1]
            scores = scores.masked_fill(torch.ones(s, s, dtype=torch.bool).triu(1), -1e4)
        if self.mix is not None:
            scores = self.mix[0](scores.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        p = scores.softmax(-1)
        if self.mix is not None:
            p = self.mix[1](p.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return p @ v


def _turn(x):
    """Rotary positions (Su et al. 2021)."""
    s, d = x.shape[-2:]
    angle = torch.outer(torch.arange(s, dtype=torch.float32), 100.0 ** (-torch.arange(0, d, 2) / d))
    angle = torch.cat([angle, angle], -1)
    a, b = x.chunk(2, -1)
    return x * angle.cos() + torch.cat([-b, a], -1) * angle.sin()


class RMSNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Mlp(nn.Module):
    """Two layers; gated: the first one makes twice the width, half of it the gate (GLU variants, Shazeer 2020)."""

    def __init__(self, width: int, hidden: int, gated: bool = False, act=F.gelu):
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden * (2 if gated else 1)), nn.Linear(hidden, width)
        self.gated, self.act = gated, act

    def forward(self, x):
        x = self.up(x)
        if self.gated:
            a, b = x.chunk(2, -1)
            return self.down(self.act(a) * b)
        return self.down(self.act(x))


class Layer(nn.Module):
    """Norm, attention, norm, mlp. first: norms stand before (ViT, GPT), else after the additions (BERT)."""

    def __init__(self, width: int, heads: int, first: bool = True, scale: bool = False, norm: type = nn.LayerNorm,
                 gated: bool = False, act=F.gelu, **attention):
        super().__init__()
        self.first, n = first, width if scale else 0
        self.norm1, self.norm2 = norm(width), norm(width)
        self.attention = Residual(Attention(width, heads, **attention), n) if not first else \
            Residual(nn.Sequential(self.norm1, Attention(width, heads, **attention)), n)
        mlp = Mlp(width, 4 * width, gated, act)
        self.mlp = Residual(mlp, n) if not first else Residual(nn.Sequential(self.norm2, mlp), n)

    def forward(self, x):
        if self.first:
            return self.mlp(self.attention(x))
        return self.norm2(self.mlp(self.norm1(self.attention(x))))


class ViT(nn.Module):
    """Dosovitskiy et al. 2020; with two tokens DeiT, distilled (Touvron et al. 2020): the mean of two heads."""

    def __init__(self, tokens: int = 1, width: int = 48, heads: int = 3, depth: int = 4, side: int = 64, patch: int = 8, **layer):
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.tokens = nn.Parameter(torch.randn(1, tokens, width)) if tokens else None
        self.places = nn.Parameter(torch.randn(1, (side // patch) ** 2 + tokens, width))
        self.layers = nn.Sequential(*(Layer(width, heads, **layer) for _ in range(depth)))
        self.norm, self.heads = nn.LayerNorm(width), nn.ModuleList(nn.Linear(width, 10) for _ in range(max(tokens, 1)))

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        if self.tokens is not None:
            x = torch.cat([self.tokens.expand(x.shape[0], -1, -1), x], 1)
        x = self.norm(self.layers(x + self.places))
        if self.tokens is None:
            return self.heads[0](x.mean(1))
        return sum(f(x[:, i]) for i, f in enumerate(self.heads)) / len(self.heads)


class ClassAttention(nn.Module):
    """CaiT (Touvron et al. 2021): the class token comes late and attends to the patches alone."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, token, x):
        z = self.norm(torch.cat([token, x], 1))
        n, s, c = z.shape
        q = self.q(z[:, :1]).view(n, 1, self.heads, -1).transpose(1, 2)
        k, v = (f(z).view(n, s, self.heads, -1).transpose(1, 2) for f in (self.k, self.v))
        y = (q @ k.transpose(2, 3) / math.sqrt(c // self.heads)).softmax(-1) @ v
        return token + self.proj(y.transpose(1, 2).reshape(n, 1, c))


class CaiT(nn.Module):
    def __init__(self, width: int = 48, heads: int = 4):
        super().__init__()
        self.patch, self.places = nn.Conv2d(3, width, 8, 8), nn.Parameter(torch.randn(1, 64, width))
        self.layers = nn.Sequential(*(Layer(width, heads, scale=True, talking=True) for _ in range(3)))
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.late, self.mlp = ClassAttention(width, heads), Residual(Mlp(width, 4 * width))
        self.fc = nn.Linear(width, 10)

    def forward(self, x):
        x = self.layers(self.patch(x).flatten(2).transpose(1, 2) + self.places)
        return self.fc(self.mlp(self.late(self.token.expand(x.shape[0], -1, -1), x))[:, 0])


class Window(nn.Module):
    """A layer of Swin (Liu et al. 2021): attention in windows, which are shifted in every second layer."""

    def __init__(self, width: int, heads: int, side: int, window: int, shift: int):
        super().__init__()
        self.side, self.window, self.shift = side, window, shift
        self.norm, self.attention = nn.LayerNorm(width), Attention(width, heads, bias=window * window)
        self.mlp = Residual(nn.Sequential(nn.LayerNorm(width), Mlp(width, 4 * width)))

    def forward(self, x):
        n, h, _, c = x.shape
        w, k = self.window, self.side // self.window
        y = self.norm(x)
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = y.view(n, k, w, k, w, c).transpose(2, 3).reshape(n * k * k, w * w, c)
        y = self.attention(y).view(n, k, k, w, w, c).transpose(2, 3).reshape(n, h, h, c)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        return self.mlp(x + y)


class Swin(nn.Module):
    def __init__(self, width: int = 24, window: int = 4):
        super().__init__()
        self.patch, side = nn.Conv2d(3, width, 4, 4), 16
        self.stages, self.merges, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i in range(2):
            self.stages.append(nn.Sequential(*(Window(width << i, 2 << i, side >> i, window, s) for s in (0, window // 2))))
        self.norm, self.merge = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)
        self.last, self.fc = nn.LayerNorm(2 * width), nn.Linear(2 * width, 10)

    def forward(self, x):
        x = self.stages[0](self.patch(x).permute(0, 2, 3, 1))
        x = torch.cat([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
        x = self.stages[1](self.merge(self.norm(x)))
        return self.fc(self.last(x).mean((1, 2)))


class Reduced(nn.Module):
    """Attention of PVT (Wang et al. 2021): keys and values from a strided convolution."""

    def __init__(self, width: int, heads: int, ratio: int):
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.reduce, self.norm = nn.Conv2d(width, width, ratio, ratio), nn.LayerNorm(width)
        self.before = nn.LayerNorm(width)
        self.mlp = Residual(nn.Sequential(nn.LayerNorm(width), Mlp(width, 4 * width)))

    def forward(self, x):
        n, c, h, w = x.shape
        z = self.before(x.flatten(2).transpose(1, 2))
        q = self.q(z).view(n, h * w, self.heads, -1).transpose(1, 2)
        small = self.reduce(z.transpose(1, 2).view(n, c, h, w)).flatten(2).transpose(1, 2)
        k, v = self.kv(self.norm(small)).reshape(n, -1, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        y = self.mlp(x.flatten(2).transpose(1, 2) + self.proj(y))
        return y.transpose(1, 2).view(n, c, h, w)


def pvt() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 24, 4, 4), Reduced(24, 1, 4), nn.Conv2d(24, 48, 2, 2), Reduced(48, 2, 2),
                         nn.Conv2d(48, 96, 2, 2), Reduced(96, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10))


class MobileViTBlock(nn.Module):
    """Mehta and Rastegari 2021: convolution, attention over pixels, fusion with what came in."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.local = nn.Sequential(conv(width, width, 3, act=nn.SiLU), nn.Conv2d(width, inner, 1, bias=False))
        self.layers = nn.Sequential(Layer(inner, 2, act=F.silu), Layer(inner, 2, act=F.silu))
        self.back, self.fuse = conv(inner, width, act=nn.SiLU), conv(2 * width, width, 3, act=nn.SiLU)

    def forward(self, x):
        y = self.local(x)
        n, c, h, w = y.shape
        y = self.layers(y.flatten(2).transpose(1, 2)).transpose(1, 2).view(n, c, h, w)
        return self.fuse(torch.cat([x, self.back(y)], 1))


def mobilevit() -> nn.Module:
    from .parts import Bottleneck
    return nn.Sequential(
        conv(3, 16, 3, 2, act=nn.SiLU), Bottleneck(16, 32, 24, 3, 2, nn.SiLU), Bottleneck(24, 48, 32, 3, 2, nn.SiLU),
        MobileViTBlock(32, 48), conv(32, 64, act=nn.SiLU), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


# --- without attention ------------------------------------------------------------------------------------------


class Across(nn.Module):
    """f over the patches instead of the channels."""

    def __init__(self, f: nn.Module):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x.transpose(1, 2)).transpose(1, 2)


class Affine(nn.Module):
    """ResMLP (Touvron et al. 2021): a scale and a shift per channel instead of a norm."""

    def __init__(self, width: int):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return x * self.scale + self.shift


class SpatialGate(nn.Module):
    """gMLP (Liu et al. 2021): half of the channels, mixed over the patches, gates the other half."""

    def __init__(self, width: int, hidden: int, places: int):
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden // 2, width)
        self.norm, self.across = nn.LayerNorm(hidden // 2), Across(nn.Linear(places, places))

    def forward(self, x):
        a, b = F.gelu(self.up(x)).chunk(2, -1)
        return self.down(a * self.across(self.norm(b)))


class Mixer(nn.Module):
    """Patches, layers over them, mean, linear. kind: mixer (Tolstikhin et al. 2021), resmlp or gmlp."""

    def __init__(self, kind: str, width: int = 48, depth: int = 3, places: int = 64):
        super().__init__()
        def layer():
            if kind == "gmlp":
                return [Residual(nn.Sequential(nn.LayerNorm(width), SpatialGate(width, 4 * width, places)))]
            norm = Affine if kind == "resmlp" else nn.LayerNorm
            over = nn.Linear(places, places) if kind == "resmlp" else Mlp(places, places // 2)
            scale = width if kind == "resmlp" else 0
            return [Residual(nn.Sequential(norm(width), Across(over)), scale),
                    Residual(nn.Sequential(norm(width), Mlp(width, 4 * width)), scale)]
        self.patch, self.norm, self.fc = nn.Conv2d(3, width, 8, 8), nn.LayerNorm(width), nn.Linear(width, 10)
        self.layers = nn.Sequential(*(m for _ in range(depth) for m in layer()))

    def forward(self, x):
        return self.fc(self.norm(self.layers(self.patch(x).flatten(2).transpose(1, 2))).mean(1))


def convmixer(width: int = 48, depth: int = 4) -> nn.Module:
    """Trockman and Kolter 2022."""
    def block(f, *more):
        return nn.Sequential(f, nn.GELU(), nn.BatchNorm2d(width), *more)
    layers = [nn.Sequential(Residual(block(nn.Conv2d(width, width, 5, groups=width, padding="same"))),
                            block(nn.Conv2d(width, width, 1))) for _ in range(depth)]
    return nn.Sequential(block(nn.Conv2d(3, width, 4, 4)), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


class ResponseNorm(nn.Module):
    """Global response normalisation of ConvNeXt V2 (Woo et al. 2023): compares all channels of a picture."""

    def __init__(self, width: int):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        size = x.pow(2).sum((1, 2), keepdim=True).sqrt()
        return self.scale * (x * size / (size.mean(-1, keepdim=True) + 1e-6)) + self.shift + x


class Next(nn.Module):
    def __init__(self, width: int, v2: bool):
        super().__init__()
        self.deep, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.response = ResponseNorm(4 * width) if v2 else None
        self.scale = None if v2 else nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x):
        y = F.gelu(self.up(self.norm(self.deep(x).permute(0, 2, 3, 1))))
        y = self.down(y if self.response is None else self.response(y))
        return x + (y if self.scale is None else y * self.scale).permute(0, 3, 1, 2)


def convnext(v2: bool = False, widths: tuple = (16, 32, 64, 128), repeats: tuple = (1, 1, 3, 1)) -> nn.Module:
    """Liu et al. 2022."""
    layers, inputs = [nn.Conv2d(3, widths[0], 4, 4), Norm2d(widths[0])], widths[0]
    for width, count in zip(widths, repeats):
        if width != inputs:
            layers += [Norm2d(inputs), nn.Conv2d(inputs, width, 2, 2)]
            inputs = width
        layers += [Next(width, v2) for _ in range(count)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(inputs), nn.Linear(inputs, 10))


class Pooling(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)

    def forward(self, x):
        return self.pool(x) - x


def poolformer() -> nn.Module:
    """Yu et al. 2021: pooling in attention's place, group norm with one group."""
    layers, inputs = [nn.Conv2d(3, 24, 7, 4, 2)], 24
    for width in (24, 48, 96):
        if width != inputs:
            layers.append(nn.Conv2d(inputs, width, 3, 2, 1))
            inputs = width
        mlp = nn.Sequential(nn.GroupNorm(1, width), nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1))
        layers += [Residual(nn.Sequential(nn.GroupNorm(1, width), Pooling()), width, -3), Residual(mlp, width, -3)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10))


# --- words -----------------------------------------------------------------------------------------------------


class Words(nn.Module):
    """Token and learned place embeddings, layers, a head over every token. share: one layer for all (ALBERT, Lan et al.
    2019), small: embeddings of that width with a projection; tied: the head is the embedding (GPT-2)."""

    def __init__(self, depth: int = 3, width: int = 48, heads: int = 3, share: bool = False, small: int = 0, tied: bool = False,
                 places: bool = True, norm: type = nn.LayerNorm, length: int = 16, vocabulary: int = 100, **layer):
        super().__init__()
        self.words = nn.Embedding(vocabulary, small or width)
        self.places = nn.Embedding(length, small or width) if places else None
        self.grow = nn.Linear(small, width) if small else nn.Identity()
        made = [Layer(width, heads, norm=norm, **layer) for _ in range(1 if share else depth)]
        self.layers, self.depth = nn.ModuleList(made), depth
        self.norm, self.fc = norm(width), nn.Linear(width, vocabulary, bias=not tied)
        if tied:
            self.fc.weight = self.words.weight

    def forward(self, ids):
        x = self.words(ids)
        if self.places is not None:
            x = x + self.places.weight[:ids.shape[1]]
        x = self.grow(x)
        for i in range(self.depth):
            x = self.layers[i % len(self.layers)](x)
        return self.fc(self.norm(x))


class TorchEncoder(nn.Module):
    """torch's own encoder layer, with q, k and v in one parameter."""

    def __init__(self, width: int = 48):
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 96, batch_first=True, norm_first=True)
        self.words, self.fc = nn.Embedding(100, width), nn.Linear(width, 10)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids):
        return self.fc(self.encoder(self.words(ids)).mean(1))
