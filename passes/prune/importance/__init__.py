"""How much a unit matters: a weight, a block of weights, a channel, a head or a layer. Separate from what is removed.

An importance is one class and one line of IMPORTANCES. Most say something about every weight of the model, and the units add
that up; which units they can rank is in `takes`.

    ask = Ask(graph, ctx, parts, count, "channels")
    score = ask.score("l2")          # [count], larger matters more, NaN where a unit has no weights
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Literal, get_args

import numpy as np

from ...base import Context
from ...errors import UserError
from ...graph import Graph, Node, Value

IMPORTANCES = {
    "l1": "norms:L1",
    "l2": "norms:L2",
    "lamp": "norms:Lamp",
    "bn_gamma": "norms:BatchNorm",
    "fpgm": "norms:GeometricMedian",
    "random": "norms:Random",
    "wanda": "calibrated:Wanda",
    "obs": "calibrated:OBS",
    "apoz": "calibrated:ZeroShare",
    "influence": "calibrated:Influence",
    "taylor": "gradients:Taylor",
    "fisher": "gradients:Fisher",
    "movement": "gradients:Movement",
}
Name = Literal["l1", "l2", "lamp", "bn_gamma", "fpgm", "random", "wanda", "obs", "apoz", "influence", "taylor", "fisher",
               "movement"]
Granularity = Literal["weights", "blocks", "channels", "heads", "layers"]
EVERY: tuple[str, ...] = get_args(Granularity)


@dataclass(eq=False)
class Part:
    """The weights of one array that belong to units. units: the unit of each slice along `axis`, or with axis None of each
    weight (any shape that broadcasts to the array's). kind: its cut's, as in `groups`; node: the layer."""

    value: Value
    units: np.ndarray
    axis: int | None = None
    kind: str = "out"
    node: Node | None = None


@dataclass(eq=False)
class Ask:
    """One question: the units of `parts`, numbered 0..count-1, by an importance.

    relative   scores count relative to the mean of their array, and a unit's is its mean over the arrays it is in: layers of
               different scale are then comparable. Sums that measure the loss itself are never made relative.
    samples    how many samples those that look at data look at
    memory     what an importance learns while a pass trains (movement)
    ends       the values before and after each unit, where units are layers
    """

    graph: Graph
    ctx: Context
    parts: list[Part]
    count: int
    granularity: Granularity
    relative: bool = False
    samples: int = 128
    memory: dict = field(default_factory=dict)
    ends: list[tuple[Value, Value]] = field(default_factory=list)

    @property
    def who(self) -> str:
        return f"prune.{self.granularity}"

    def score(self, name: str) -> np.ndarray:
        check(name, self.granularity)
        return find(name).score(self)

    def over_parts(self, kinds: tuple[str, ...], score) -> np.ndarray:
        """[count] from score(part) -> (one number per slice or weight): the mean over a unit's, then over its arrays."""
        total, times, seen = np.zeros(self.count), np.zeros(self.count), set()
        for part in self.parts:
            if part.kind not in kinds or (part.value, part.axis) in seen:
                continue
            seen.add((part.value, part.axis))
            numbers = score(part)
            units = np.broadcast_to(part.units, numbers.shape).ravel()
            numbers = numbers.ravel()
            mean = numbers.mean() if self.relative else 1.0
            members = np.bincount(units, minlength=self.count)
            own = np.bincount(units, weights=numbers / (mean if mean > 0 else 1.0), minlength=self.count)
            total, times = total + own / np.maximum(members, 1), times + (members > 0)
        return np.divide(total, times, out=np.full(self.count, np.nan), where=times > 0)


class Importance(ABC):
    """takes   the units it can rank
    needs      what it looks at besides the weights: "" nothing, "calibration" inputs, "training" the loss
    """

    takes: tuple[str, ...] = EVERY
    needs: str = ""

    @abstractmethod
    def score(self, ask: Ask) -> np.ndarray:
        """[ask.count]"""

    def follow(self, ask_memory: dict, module, names: list[str]) -> None:  # noqa: B027 most learn nothing from training
        """Called once before `module` trains with the weights `names`: what it learns goes into the memory."""


class ByWeight(Importance):
    """One number per weight; over a unit: root(mean(power(number)))."""

    kinds = ("out", "in", "depthwise")

    @abstractmethod
    def numbers(self, ask: Ask) -> dict[Value, np.ndarray]:
        """For the arrays of ask.parts, in their shape."""

    def power(self, x: np.ndarray) -> np.ndarray:
        return np.abs(x)

    def root(self, x: np.ndarray) -> np.ndarray:
        return x

    def score(self, ask: Ask) -> np.ndarray:
        numbers = self.numbers(ask)

        def of(part: Part) -> np.ndarray:
            x = self.power(numbers[part.value].astype(np.float64))
            return self.root(x if part.axis is None else np.moveaxis(x, part.axis, 0).reshape(part.units.size, -1).mean(1))
        if any(p.axis is None for p in ask.parts):  # weights are put together first, so that the root is of the unit's mean
            return self.root(ask.over_parts(self.kinds, lambda p: self.power(numbers[p.value].astype(np.float64))))
        return ask.over_parts(self.kinds, of)


class LossChange(Importance):
    """Rounds of a first-order change of something per weight; a unit's score is the sum over rounds of after(its sum)."""

    kinds = ("out", "depthwise")

    @abstractmethod
    def rounds(self, ask: Ask) -> Iterator[dict[Value, np.ndarray]]:
        """Arrays in the shape of the weights, once or for every batch."""

    def after(self, x: np.ndarray) -> np.ndarray:
        return x

    def score(self, ask: Ask) -> np.ndarray:
        parts = {(p.value, p.axis): p for p in reversed(ask.parts) if p.kind in self.kinds}.values()
        score = np.zeros(ask.count)
        for change in self.rounds(ask):
            total = np.zeros(ask.count)
            for part in parts:
                x = change[part.value].astype(np.float64)
                if part.axis is not None:
                    x = np.moveaxis(x, part.axis, 0).reshape(part.units.size, -1).sum(1)
                total += np.bincount(np.broadcast_to(part.units, x.shape).ravel(), weights=x.ravel(), minlength=ask.count)
            score += self.after(total)
        return score


@lru_cache
def find(name: str) -> Importance:
    module, cls = IMPORTANCES[name].split(":")
    return getattr(import_module(f".{module}", __name__), cls)()


def check(name: str, granularity: str) -> None:
    """ValueError when the importance cannot rank such units; the message says which can."""
    if granularity not in find(name).takes:
        fit = ", ".join(n for n in IMPORTANCES if granularity in find(n).takes)
        raise ValueError(f"importance: {name} ranks {' and '.join(find(name).takes)}, not {granularity}; use {fit}")


def needs_data(name: str, ctx: Context, who: str) -> None:
    if ctx.data is None:
        raise UserError(f"{who}: importance: {name} needs data; add `data:` to the recipe or use l2")
