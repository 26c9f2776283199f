"""The gates of `expect:`, e.g. `size: "<= original / 40"`: a comparison and a small sum with numbers, units and `original`.

`original` is the same figure of the model before the first pass. Units: B KB MB GB (1000), KiB MiB GiB (1024), us ms s
(in ms), % (hundredths), K M G after a count. There are + - * / and parentheses, nothing else; nothing is evaluated
but this.
"""
from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from .tree import near

# What a gate can be about, and where the report keeps it. The recipe's metric joins them under its own name.
FIGURES = {"size": "bytes", "latency": "latency_ms", "macs": "macs", "params": "params", "nonzero": "nonzero",
           "arena": "arena_bytes", "metric": "metric"}
_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}
_UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1024, "mib": 1024 ** 2, "gib": 1024 ** 3,
          "us": 1e-3, "ms": 1, "s": 1e3, "%": 0.01, "k": 1e3, "m": 1e6, "g": 1e9}
_TAKES = "numbers, units, original, + - * / and ( )"
_TOKEN = re.compile(r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>%|[A-Za-z]+)?"
                    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign>[-+*/()]))")


@dataclass(frozen=True)
class Rule:
    """One gate: `figure` (the report's key) compared with `bound(original)`."""

    name: str
    figure: str
    text: str
    compare: str
    bound: Callable[[float], float]
    place: str

    def holds(self, value: float, original: float) -> bool:
        return bool(_COMPARE[self.compare](value, self.bound(original)))


def rule(name: str, text, place: str, metrics: dict | tuple = (), metric: str | None = None) -> Rule:
    """The gate `name: text`. Raises ValueError saying what is wrong. metrics: all metric names; metric: the recipe's."""
    if name in metrics and metric is not None and name != metric:
        raise ValueError(f"the recipe measures {metric!r}, not {name!r}; name it here, or change `metric:`")
    there = f"; there are {', '.join(FIGURES)}{' and ' + metric if metric else ''}"
    if name not in FIGURES and name not in metrics:
        raise ValueError(f"unknown figure {name!r}{near(name, [*FIGURES, *metrics]) or there}")
    m = re.match(r"\s*(<=|>=|==|<|>)(.*)$", text, re.DOTALL) if isinstance(text, str) else None
    if m is None:
        shown = text if isinstance(text, (int, float)) else "original"
        raise ValueError(f"must be text that begins with a comparison, like \"{'>=' if name in metrics else '<='} {shown}\"")
    bound = _Sum(m[2]).whole()
    try:
        bound(1.0)
    except ZeroDivisionError:
        raise ValueError("divides by zero") from None
    return Rule(name, FIGURES.get(name, "metric"), text, m[1], bound, place)


class _Sum:
    """Recursive descent; every method returns a function of the original's figure."""

    def __init__(self, text: str):
        self.tokens, at = [], 0
        while text[at:].strip():
            m = _TOKEN.match(text, at)
            if m is None:
                raise ValueError(f"cannot read {text[at:].strip()!r}; it takes {_TAKES}")
            self.tokens.append(m)
            at = m.end()

    def whole(self) -> Callable[[float], float]:
        if not self.tokens:
            raise ValueError("nothing stands after the comparison")
        made = self.sum()
        if self.tokens:
            raise ValueError(f"{self.tokens[0].group().strip()!r} is one too many")
        return made

    def sign(self, allowed: str) -> str | None:
        if self.tokens and self.tokens[0]["sign"] and self.tokens[0]["sign"] in allowed:
            return self.tokens.pop(0)["sign"]
        return None

    def sum(self):
        left = self.product()
        while sign := self.sign("+-"):
            left = _join(operator.add if sign == "+" else operator.sub, left, self.product())
        return left

    def product(self):
        left = self.atom()
        while sign := self.sign("*/"):
            left = _join(operator.mul if sign == "*" else operator.truediv, left, self.atom())
        return left

    def atom(self):
        if not self.tokens:
            raise ValueError("ends in the middle of a sum")
        if self.sign("-"):
            inner = self.atom()
            return lambda original: -inner(original)
        if self.sign("("):
            inner = self.sum()
            if not self.sign(")"):
                raise ValueError("a parenthesis is not closed")
            return inner
        token = self.tokens.pop(0)
        if token["number"]:
            unit = (token["unit"] or "").lower()
            if unit not in _UNITS:
                hint = near(token["unit"], ["KB", "MB", "KiB", "MiB", "ms", "us", "s"])
                raise ValueError(f"unknown unit {token['unit']!r}{hint}")
            number = float(token["number"]) * _UNITS[unit]
            return lambda original: number
        if token["name"] == "original":
            return lambda original: original
        word = (token["name"] or token["sign"])
        raise ValueError(f"cannot read {word!r}{near(word, ['original']) or '; it takes ' + _TAKES}")


def _join(act, left, right):
    return lambda original: act(left(original), right(original))
