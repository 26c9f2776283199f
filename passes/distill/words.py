"""Samples a student sees besides the data's own: tokens replaced by near words.

TinyBERT (arXiv 1909.10351, section 3.3) takes near words from GloVe and a masked-language model; here the teacher's own word
embeddings say what is near, so no other model is needed.
"""
from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np
import torch

from ..errors import UserError
from ..graph import Graph

Augment = Callable[[dict, torch.Generator], dict]


class Augmented:
    """Data whose training batches pass through `change`; everything else is the data's own."""

    def __init__(self, data, change: Augment, seed: int):
        self._data, self._change, self._seed = data, change, seed

    def __getattr__(self, name):
        return getattr(self._data, name)

    def batches(self, split, batch, seed=None, limit=None):
        rng = torch.Generator().manual_seed(self._seed * 1_000_003 + (seed or 0))
        for inputs, labels in self._data.batches(split, batch, seed, limit):
            yield (self._change(inputs, rng) if split == "train" else inputs), labels


def augmented(data, how: float | str, neighbours: int, teacher: Graph, seed: int, who: str):
    """`data` itself where nothing is to be changed. Raises UserError when a function cannot be had, or there are no words."""
    if not how:
        return data
    if isinstance(how, str):
        where, _, function = how.partition(":")
        try:
            return Augmented(data, getattr(import_module(where), function), seed)
        except (ImportError, AttributeError, ValueError) as e:
            raise UserError(f"{who}: augment: cannot import {how}: {e}; it is MODULE:FUNCTION") from None
    found = [n for n in teacher.nodes if n.op == "gather" and n.inputs[0].data is not None and n.inputs[0].data.ndim == 2
             and n.inputs[1] in teacher.inputs]
    if not found:
        raise UserError(f"{who}: augment: no input of the teacher is looked up as words; give a function instead")
    node = max(found, key=lambda n: len(n.inputs[0].data))
    return Augmented(data, near_words(node.inputs[1].name, node.inputs[0].data, how, neighbours), seed)


def near_words(name: str, table: np.ndarray, share: float, neighbours: int) -> Augment:
    """Replace each token of input `name` with probability `share` by one of the words nearest to it in `table` [words, width].
    Positions where another integer input is 0 (padding) are left alone, and so are the first and last real tokens."""
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    unit = torch.from_numpy(unit.astype(np.float32))

    def change(inputs: dict, rng: torch.Generator) -> dict:
        ids = inputs[name]
        real = torch.ones_like(ids, dtype=torch.bool)
        for other, t in inputs.items():
            if other != name and t.shape == ids.shape and not t.is_floating_point() and "mask" in other:
                real &= t != 0
        inner = real.clone()
        inner[:, 0] = False
        inner[:, :-1] &= real[:, 1:]
        inner[:, -1] = False
        chosen = inner & (torch.rand(ids.shape, generator=rng) < share)
        words, where = ids[chosen].unique(return_inverse=True)
        if not len(words):
            return inputs
        near = (unit[words] @ unit.T).topk(neighbours + 1, 1).indices[:, 1:]  # the nearest is the word itself
        pick = torch.randint(neighbours, (len(where),), generator=rng)
        new = ids.clone()
        new[chosen] = near[where, pick].to(ids.dtype)
        return {**inputs, name: new}
    return change
