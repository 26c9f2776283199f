"""The BERT encoder (Devlin et al. 2018) in plain torch; parameter names are those of the Hugging Face checkpoints."""
from __future__ import annotations

import torch.nn.functional as F
from torch import nn


class Embeddings(nn.Module):
    def __init__(self, vocabulary: int, hidden: int, positions: int, types: int, eps: float):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, hidden)
        self.position_embeddings = nn.Embedding(positions, hidden)
        self.token_type_embeddings = nn.Embedding(types, hidden) if types else None
        self.LayerNorm = nn.LayerNorm(hidden, eps)

    def forward(self, input_ids, token_type_ids=None):
        x = self.word_embeddings(input_ids) + self.position_embeddings.weight[: input_ids.shape[1]]
        if self.token_type_embeddings is not None:
            kinds = self.token_type_embeddings
            x = x + (kinds.weight[0] if token_type_ids is None else kinds(token_type_ids))
        return self.LayerNorm(x)


class SelfAttention(nn.Module):
    def __init__(self, hidden: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))

    def forward(self, x, mask):
        n, seq, hidden = x.shape
        q, k, v = (f(x).view(n, seq, self.heads, hidden // self.heads).transpose(1, 2)
                   for f in (self.query, self.key, self.value))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(n, seq, hidden)


class Output(nn.Module):
    """Projection, shortcut, layer normalisation."""

    def __init__(self, inputs: int, hidden: int, eps: float):
        super().__init__()
        self.dense, self.LayerNorm = nn.Linear(inputs, hidden), nn.LayerNorm(hidden, eps)

    def forward(self, x, shortcut):
        return self.LayerNorm(self.dense(x) + shortcut)


class Attention(nn.Module):
    def __init__(self, hidden: int, heads: int, eps: float):
        super().__init__()
        self.self, self.output = SelfAttention(hidden, heads), Output(hidden, hidden, eps)

    def forward(self, x, mask):
        return self.output(self.self(x, mask), x)


class Intermediate(nn.Module):
    def __init__(self, hidden: int, ffn: int):
        super().__init__()
        self.dense = nn.Linear(hidden, ffn)

    def forward(self, x):
        return F.gelu(self.dense(x))


class Layer(nn.Module):
    def __init__(self, hidden: int, heads: int, ffn: int, eps: float):
        super().__init__()
        self.attention = Attention(hidden, heads, eps)
        self.intermediate, self.output = Intermediate(hidden, ffn), Output(ffn, hidden, eps)

    def forward(self, x, mask):
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)


class Encoder(nn.Module):
    def __init__(self, layers: int, hidden: int, heads: int, ffn: int, eps: float):
        super().__init__()
        self.layer = nn.ModuleList(Layer(hidden, heads, ffn, eps) for _ in range(layers))

    def forward(self, x, mask):
        for layer in self.layer:
            x = layer(x, mask)
        return x


class Bert(nn.Module):
    """input_ids, attention_mask [N, seq] int64 (1 = a real token) -> hidden states [N, seq, hidden], or with pooling
    "mean" their mean over real tokens [N, hidden], and with `normalize` that at length 1.

    types = 0 leaves out token types (DistilBERT). Checkpoints may hold a pooler and position_ids: they are ignored."""

    def __init__(self, layers: int = 12, hidden: int = 768, heads: int = 12, ffn: int = 3072, vocabulary: int = 30522,
                 positions: int = 512, types: int = 2, eps: float = 1e-12, pooling: str = "none", normalize: bool = False):
        super().__init__()
        if pooling not in ("none", "mean"):
            raise ValueError(f"pooling is none or mean, not {pooling!r}")
        self.pooling, self.normalize = pooling, normalize
        self.embeddings = Embeddings(vocabulary, hidden, positions, types, eps)
        self.encoder = Encoder(layers, hidden, heads, ffn, eps)
        self.register_load_state_dict_pre_hook(_only_ours)

    def forward(self, input_ids, attention_mask):
        # A row of the mask for every query: runtimes ask for that shape.
        mask = (attention_mask > 0)[:, None, None, :].expand(-1, -1, input_ids.shape[1], -1)
        x = self.encoder(self.embeddings(input_ids), mask)
        if self.pooling == "mean":
            weight = attention_mask[:, :, None].to(x.dtype)
            x = (x * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return F.normalize(x, dim=-1) if self.normalize else x


def _only_ours(module, state, prefix, *_):
    for key in list(state):
        name = key.removeprefix(prefix).removeprefix("bert.")
        value = state.pop(key)
        if name != "embeddings.position_ids" and not name.startswith("pooler."):
            state[prefix + name] = value


def minilm(pretrained: bool = False, pooling: str = "mean", normalize: bool = True) -> nn.Module:
    """all-MiniLM-L6-v2 (Wang et al. 2020; sentence-transformers, Apache-2.0 / MIT): a sentence to 384 numbers of
    length 1, 22.6 million parameters. Cosines of related sentences are high, of unrelated ones near 0."""
    model = Bert(layers=6, hidden=384, heads=12, ffn=1536, pooling=pooling, normalize=normalize)
    if pretrained:
        from safetensors.torch import load_file

        from ..data.fetch import find
        model.load_state_dict(load_file(find("minilm-l6", "**/model.safetensors")))
    return model.eval() if pretrained else model
