"""Cycles of an instruction profile on a named core: core-bound, everything in the first-level cache, no branch missed.

Two models of ours that need nothing but the words: `ports`, the bound that issue width and units set an out-of-order core
(no latencies, so it is optimistic), and `in_order`, a scoreboard of the dual-issue Cortex-A53 and A55. llvm.py has a third.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...passes.recipe.target import Cycles
from .count import Block, Region
from .decode import Op, decode, loops

COVER = 0.995  # of the instructions are looked at, hottest blocks first; the rest counts as the mean of these
ROUNDS = 12  # a block is taken to follow itself; the second half of the rounds is steady
VECTOR_LATENCY, LONG_LATENCY, LOAD_LATENCY, MULTIPLY_LATENCY = 2, 4, 3, 3


def hot(region: Region) -> list[Block]:
    """The blocks that make up COVER of the instructions."""
    made, seen, whole = [], 0, region.instructions
    for block, times in sorted(region.blocks.items(), key=lambda b: (-len(b[0]) * b[1], b[0])):
        if seen >= COVER * whole:
            break
        made.append(block)
        seen += len(block) * times
    return made


def estimate(region: Region, cost: Callable[[Block], float]) -> float:
    """Cycles of a region, from the cost of one run of each block."""
    blocks = hot(region)
    seen = sum(len(b) * region.blocks[b] for b in blocks)
    spent = sum(cost(b) * region.blocks[b] for b in blocks)
    return spent * region.instructions / seen if seen else 0.0


def ports(block: Sequence[int], core: Cycles) -> float:
    """The busiest unit's cycles."""
    ops = [decode(w) for w in block]

    def count(unit: str) -> int:
        return sum(o.unit == unit for o in ops)

    loads = [o for o in ops if o.unit == "load"]
    load_slots = sum(max(1, math.ceil(o.bytes / 16)) for o in loads)
    store_slots = sum(max(1, math.ceil(o.bytes / 16)) for o in ops if o.unit == "store")
    return max(len(ops) / core.width, count("vector") / core.vector, load_slots / core.loads,
               sum(o.bytes for o in loads) / core.load_bytes, store_slots / core.stores, count("integer") / core.integer,
               count("branch") / core.branch)


def in_order(block: Sequence[int], core: str) -> float:
    """Two instructions a cycle in program order: one 128-bit or two 64-bit vector operations, one load or store, one branch.
    A 128-bit vector load takes two cycles and stands alone; on the A53 no vector load goes with vector arithmetic. A block that
    is no loop does not wait for its own results of another turn."""
    ops, pipe, around = [decode(w) for w in block], _Pipe(core), loops(block)
    start = 0
    for turn in range(ROUNDS):
        if turn == ROUNDS // 2:
            start = pipe.cycle
        if not around:
            pipe.ready.clear()
        for op in ops:
            pipe.issue(op)
    return (pipe.cycle - start) / (ROUNDS - ROUNDS // 2)


class _Pipe:
    """The cycle that is being filled, and when each register's value is there."""

    def __init__(self, core: str):
        self.apart = core == "a53"
        self.ready: dict[int, int] = {}
        self.cycle, self.memory_free = 0, 0
        self._clear()

    def _clear(self) -> None:
        self.slots = self.halves = 0
        self.used: set[str] = set()

    def _advance(self, cycle: int) -> None:
        self.cycle = cycle
        self._clear()

    def issue(self, op: Op) -> None:
        memory = op.unit in ("load", "store")
        wanted = max([self.ready.get(r, 0) for r in op.uses] + [self.memory_free if memory else 0])
        if wanted > self.cycle:
            self._advance(wanted)
        while not self._fits(op):
            self._advance(self.cycle + 1)
        self.slots += 1
        self.halves += (2 if op.wide else 1) if op.unit == "vector" else 0
        self.used.add("memory" if memory else op.unit)
        if op.unit == "load" and op.vector:
            self.used.add("vector load")
        busy = max(1, math.ceil(op.bytes / (8 if op.unit == "load" else 16))) if memory else 1
        for r in op.defines:
            self.ready[r] = self.cycle + _latency(op) + busy - 1
        if op.base >= 0:
            self.ready[op.base] = self.cycle + 1
        if busy > 1:
            self.memory_free = self.cycle + busy
        if _alone(op):
            self._advance(self.cycle + busy)

    def _fits(self, op: Op) -> bool:
        if self.slots == 2 or _alone(op) and self.slots:
            return False
        if op.unit == "vector":
            return self.halves + (2 if op.wide else 1) <= 2 and not (self.apart and "vector load" in self.used)
        if op.unit in ("load", "store"):
            return "memory" not in self.used and not (self.apart and op.unit == "load" and op.vector and self.halves)
        return op.unit != "branch" or "branch" not in self.used


def _alone(op: Op) -> bool:
    return op.unit == "load" and op.vector and op.wide


def _latency(op: Op) -> int:
    if op.unit == "load":
        return LOAD_LATENCY
    if op.unit == "vector":
        return LONG_LATENCY if op.slow else VECTOR_LATENCY
    return MULTIPLY_LATENCY if op.unit == "integer" and op.slow else 1
