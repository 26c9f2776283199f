"""Definitions of words and what they are of: 117,659 glosses of WordNet 3.0 (Debian's wordnet-base, fetched by name and pinned
hash), each with one of the 45 groups its lexicographers keep (animal, food, motion, weather, ...). Real text with real
labels, large enough to train a transformer from nothing.

    data = open_data({"source": "glosses:source", "train": 60000})
"""
from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
from mcc.passes.data import fetch
from mcc.passes.errors import UserError
from mcc.passes.zoo.bert import Bert
from torch import nn

fetch.PACKAGES.setdefault("wordnet", fetch.Package(
    "apt", "wordnet-base", "1:3.0-37", "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752"))
WORDS, LENGTH, GROUPS = 4000, 16, 45


@cache
def _glosses() -> tuple[list[str], np.ndarray]:
    """The definition (not the examples behind it) and the number of its group, in a fixed random order."""
    texts, groups = [], []
    for part in ("noun", "verb", "adj", "adv"):
        path = fetch.find("wordnet", f"**/data.{part}")
        for line in path.read_text("latin-1").splitlines():
            if line[0] != " ":  # the licence stands in front
                texts.append(line.split(" | ", 1)[1].split(";")[0].strip())
                groups.append(int(line.split(" ", 2)[1]))
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[i] for i in order], np.array(groups, np.int64)[order]


def source(train: int = 100_000, test: int = 5000, first: int = 0) -> dict:
    """input_ids and attention_mask int64 [n, LENGTH]; labels 0 to 44. The test glosses are always the last ones; `train` of the
    others from number `first` on. Words are the most frequent ones of the training
    glosses, others are spelled."""
    texts, groups = _glosses()
    columns, last = _encoded(), len(texts) - 10_000
    rows = slice(first, min(first + train, last)), slice(last, last + test)
    return {part: ({k: v[r] for k, v in columns.items()}, groups[r]) for part, r in zip(("train", "test"), rows)}


@cache
def _encoded() -> dict[str, np.ndarray]:
    try:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    except ImportError:
        raise UserError("glosses need the tokenizers package: pip install tokenizers") from None
    texts, _ = _glosses()
    clean, cut = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    counts = Counter(w for t in texts[:-10_000] for w, _ in cut.pre_tokenize_str(clean.normalize_str(t)))
    pieces = sorted({c for w in counts for c in w})
    known = ["[PAD]", "[UNK]", *pieces, *(f"##{c}" for c in pieces)]
    # The library's own training breaks ties in another way each time: these are the most frequent words, then the alphabet.
    known += [w for w, _ in sorted(counts.items(), key=lambda i: (-i[1], i[0])) if len(w) > 1][:WORDS - len(known)]
    words = Tokenizer(models.WordPiece({w: i for i, w in enumerate(known)}, unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = clean, cut
    words.enable_truncation(LENGTH)
    words.enable_padding(length=LENGTH)
    codes = words.encode_batch(texts)
    return {"input_ids": np.array([c.ids for c in codes], np.int64),
            "attention_mask": np.array([c.attention_mask for c in codes], np.int64)}


class Classifier(nn.Module):
    """input_ids, attention_mask [N, S] -> logits [N, GROUPS]: BERT, the mean over words, a linear layer."""

    def __init__(self, layers: int, hidden: int, heads: int, ffn: int):
        super().__init__()
        self.bert = Bert(layers, hidden, heads, ffn, WORDS, LENGTH, 0, pooling="mean")
        self.head = nn.Linear(hidden, GROUPS)
        for name, m in self.named_modules():
            if isinstance(m, (nn.Linear, nn.Embedding)):  # branches begin small, so that deep post-norm stacks learn at once
                nn.init.normal_(m.weight, std=hidden ** -0.5 * (0.5 * layers ** -0.5 if name.endswith("output.dense") else 0.7))

    def forward(self, input_ids, attention_mask):
        return self.head(self.bert(input_ids, attention_mask))


def classifier(layers: int = 12, hidden: int = 96, heads: int = 4, ffn: int = 384) -> nn.Module:
    return Classifier(layers, hidden, heads, ffn)
