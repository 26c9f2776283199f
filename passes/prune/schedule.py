"""When how much goes: shared by all prune passes."""
from __future__ import annotations

from typing import Literal

Schedule = Literal["cubic", "linear", "once", "iterative"]
STEPS = {"cubic": 50, "linear": 50, "once": 1, "iterative": 5}  # when the recipe does not say


def reached(schedule: str, t: float) -> float:
    """The share of what is to go that is gone at the share t of the way: cubic is fast while there is much to spare and slow
    at the end (Zhu and Gupta, arXiv 1710.01878)."""
    return {"cubic": 1 - (1 - t) ** 3, "linear": t, "once": 1.0}[schedule]


def rounds(steps: int, goal: float) -> list[float]:
    """What is left after each round of pruning and training, so that `goal` (0..1) is left after the last: each leaves the same
    share of what it finds (Han et al., arXiv 1506.02626)."""
    return [goal ** ((i + 1) / steps) for i in range(steps)]
