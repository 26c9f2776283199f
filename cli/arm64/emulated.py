"""`mcc bench --target arm64[-CORE]` without a device: instructions counted under emulation, milliseconds estimated.

The estimate is a range. The core's cycles with all data in the first-level cache (cycles.py, llvm.py), what this cache takes from
the second, and what comes from memory and goes there, each at the target's rate: at the lower end they overlap wholly, at the
upper end not at all, and STALLS is added for what no model here looks at.
tests/bench/calibration.py holds it against published times of ncnn.
"""
from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ...passes.recipe.target import Target
from . import build, count, cycles, llvm

# Branches that were guessed wrong, address translation, what an operating system takes, a clock that is not always at its height:
# together a few tenths of the time. One figure for all cores, not fitted to any.
STALLS = 1.3
MARKS = ("-DMCC_MARKS",)


def measure(file: Path, target: Target) -> dict:
    """The facts of `mcc bench --json`; `hints` are lines that say what to install for more."""
    runner = build.build("mcc-run", "arm64", MARKS)
    command = [str(runner), str(file), "--json", "--ops", "--runs", "1"]
    lacking = count.missing()
    if lacking:
        return _uncounted(file, target, f"instructions are not counted: {lacking}")
    regions, said = count.count(command, target.qemu, caches=target.caches)
    facts = json.loads(said)
    rows, whole = facts["ops"], count.total(regions.values())
    spent, model, hints = spend(regions, whole, target)
    for i, row in enumerate(rows):
        region = regions.get(i, count.Region())
        row |= {"instructions": region.instructions, "classes": region.classes, "memory_bytes": region.memory_bytes,
                "ms": _middle(*milliseconds(spent[i], region.lines, target))}
    return {"isa": facts["isa"], "threads": 1, "estimated": True, "core": target.name, "instructions": whole.instructions,
            "classes": whole.classes, "cycles": spent[-1], "cycle_model": model,
            "memory_bytes": whole.memory_bytes, "latency_ms": _latency(*milliseconds(spent[-1], whole.lines, target)),
            "model_bytes": os.path.getsize(file), "arena_bytes": facts["arena_bytes"], "weight_bytes": facts["weight_bytes"],
            "macs": sum(r["macs"] for r in rows), "ops": rows, "vs": {}, "hints": hints}


def spend(regions: dict[int, count.Region], whole: count.Region, target: Target) -> tuple[dict[int, float], str, list[str]]:
    """Cycles by region, those of the whole run under -1; the model's name; hints."""
    core, hints = target.cycles, []
    if core.in_order:
        model, costs = f"in-order {core.in_order}", {b: cycles.in_order(b, core.in_order) for b in cycles.hot(whole)}
    elif core.mca and not llvm.missing():
        model, costs = f"llvm-mca {core.mca}", llvm.cycles(cycles.hot(whole), core.mca)
    else:
        model, costs = "units' bound", {}
        hints = [f"cycles are a bound by units, without latencies: {llvm.missing()}"]

    def cost(block) -> float:
        if block not in costs:
            costs[block] = cycles.in_order(block, core.in_order) if core.in_order else cycles.ports(block, core)
        return costs[block]
    made = {i: cycles.estimate(r, cost) for i, r in regions.items()}
    return {**made, -1: sum(made.values())}, model, hints


def _uncounted(file: Path, target: Target, hint: str) -> dict:
    """Without an emulator: it was built, and the time is what the multiply-accumulates need at half of the core's peak."""
    from ..engine import filled, session
    opened = session(file, 1)
    rows = opened.profile(filled(opened.inputs), 1)
    peak = target.peak
    for r in rows:
        rate = (peak.s8 or peak.f32) if "s8" in r["kernel"] else peak.f32
        r["ms"] = r["macs"] / (rate * 0.5) / target.clock_ghz / 1e6
    core = sum(r["ms"] for r in rows)
    memory = opened.facts["weight_bytes"] / target.memory_gbs / 1e6  # at least, unless a cache holds them
    return {"isa": " ".join(target.isa), "threads": 1, "estimated": True, "core": target.name, "cycle_model": "half of the peak",
            "latency_ms": _latency(core, STALLS * (core + memory)),
            "model_bytes": os.path.getsize(file), "arena_bytes": opened.facts["arena_bytes"],
            "weight_bytes": opened.facts["weight_bytes"], "macs": sum(r["macs"] for r in rows), "ops": rows, "vs": {},
            "hints": [hint]}


def milliseconds(spent: float, lines: Sequence[int], target: Target) -> tuple[float, float]:
    """The range of a region of so many cycles in the core, and lines that its caches fetched and wrote (count.Region.lines)."""
    refill, moved = (count.LINE * n for n in (lines[0], sum(lines[-2:]))) if lines else (0, 0)
    parts = (spent / target.clock_ghz / 1e6, refill / target.cycles.refill_bytes / target.clock_ghz / 1e6,
             moved / target.memory_gbs / 1e6)
    return max(parts), STALLS * sum(parts)


def _middle(low: float, high: float) -> float:
    return (low + high) / 2


def _latency(low: float, high: float) -> dict:
    return {"estimated": True, "median": _middle(low, high), "low": low, "high": high, "runs": 0}


def show(facts: dict, ops: bool) -> None:
    from .. import show
    t, n = facts["latency_ms"], facts.get("instructions")
    named = f"{facts['target']} = {facts['core']}" if facts["target"] != facts["core"] else facts["core"]
    print(f"{facts['model']} on {named} ({facts['isa']}), 1 thread, {facts['precision']}; under emulation")
    if n:
        print(f"instructions {n / 1e6:.2f} M an inference: " +
              ", ".join(f"{k} {v / n:.1%}" for k, v in sorted(facts["classes"].items(), key=lambda c: -c[1])))
    moved = f", {facts['cycles'] / 1e6:.1f} M cycles, {show.size(facts['memory_bytes'])} from and to memory" if n else ""
    print(f"latency    {show.ms(t['low'])} to {show.ms(t['high'])} (estimate: {facts['cycle_model']}{moved})")
    print(f"file {show.size(facts['model_bytes'])}, {show.count(facts['macs'])} MACs, arena {show.size(facts['arena_bytes'])}, "
          f"weights in memory {show.size(facts['weight_bytes'])}")
    if ops:
        rows = sorted(facts["ops"], key=lambda r: -r.get("instructions", r["ms"]))
        names = sorted({c for r in rows for c in r.get("classes", {})}, key=lambda c: -facts["classes"][c])
        show.table(["node", "op", "kernel", "M instructions", "MACs each", "ms (estimate)", *names],
                   [[r["name"], r["op"], r["kernel"], f"{r.get('instructions', 0) / 1e6:.3f}",
                     f"{r['macs'] / r['instructions']:.2f}" if r.get("instructions") and r["macs"] else "", f"{r['ms']:.4f}",
                     *(f"{r['classes'].get(c, 0) / max(r['instructions'], 1):.0%}" for c in names)] for r in rows],
                   left=(0, 1, 2))
    for hint in facts["hints"]:
        show.note(hint)
