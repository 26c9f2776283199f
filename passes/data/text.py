"""Sentences to token numbers, through the tokenizer.json that comes with a model."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import UserError

COLUMNS = ("input_ids", "attention_mask", "token_type_ids")


def encode(texts: list[str], tokenizer: str | Path, length: int) -> dict[str, np.ndarray]:
    """COLUMNS, each int64 [n, length]: every text cut or padded to `length` tokens.
    Raises UserError when the `tokenizers` package or the file is missing."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UserError("data: text needs the tokenizers package: pip install tokenizers") from None
    if not Path(tokenizer).is_file():
        raise UserError(f"data: no tokenizer file {tokenizer}; give the tokenizer.json that belongs to the model")
    try:
        made = Tokenizer.from_file(str(tokenizer))
    except Exception as e:  # noqa: BLE001  (it raises nothing narrower)
        raise UserError(f"data: {tokenizer} is not a tokenizer.json: {e}") from None
    made.enable_truncation(length)
    pad = made.padding or {}
    made.enable_padding(length=length, pad_id=pad.get("pad_id", 0), pad_token=pad.get("pad_token", "[PAD]"))
    codes = made.encode_batch(texts)
    rows = ([c.ids for c in codes], [c.attention_mask for c in codes], [c.type_ids for c in codes])
    return {k: np.array(v, np.int64).reshape(len(texts), length) for k, v in zip(COLUMNS, rows)}
