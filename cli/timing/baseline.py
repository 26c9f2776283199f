"""Is this run slower than an earlier `mcc bench --json`, and where?"""
from __future__ import annotations

import json
from pathlib import Path

FLOOR = 0.005  # an op below this share of the run is too short to be called slower


def tolerance(text: str) -> float:
    from ...passes.errors import UserError
    try:
        share = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < float("inf"):
        raise UserError(f"--tolerance {text}: write a share like 5% or 0.05")
    return share


def read(path: Path | None) -> dict | None:
    """{"median", "ops": {(name, op): ms}} of a file. Raises UserError when it is something else."""
    from ...passes.errors import UserError
    from ..files import known
    if path is None:
        return None
    known(path, (path.suffix.lower(),))
    try:
        facts = json.loads(path.read_text())
        ops: dict[tuple, float] = {}
        for n in facts.get("ops", []):
            key = (str(n["name"]), str(n["op"]))
            ops[key] = ops.get(key, 0.0) + float(n["ms"])
        return {"median": float(facts["latency_ms"]["median"]), "ops": ops}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: is not what `mcc bench --json` prints") from None


def compare(before: dict, facts: dict, share: float) -> dict:
    """{"median", "ratio", "tolerance", "ok", "slower": [{"name", "op", "ms", "before_ms", "ratio"}]}, the op that lost
    most time first. Without ops in the baseline `slower` is empty."""
    now = facts["latency_ms"]["median"]
    ops: dict[tuple, float] = {}
    for n in facts["ops"]:
        key = (n["name"], n["op"])
        ops[key] = ops.get(key, 0.0) + n["ms"]
    slower = [{"name": key[0], "op": key[1], "ms": ms, "before_ms": before["ops"].get(key),
               "ratio": ms / before["ops"][key] if before["ops"].get(key) else None}
              for key, ms in ops.items()
              if before["ops"] and ms > FLOOR * now and ms > before["ops"].get(key, 0.0) * (1 + share)]
    slower.sort(key=lambda n: (n["before_ms"] or 0.0) - n["ms"])
    return {"median": before["median"], "ratio": now / before["median"], "tolerance": share,
            "ok": now <= before["median"] * (1 + share), "slower": slower}


def lines(b: dict) -> list[str]:
    """What people read."""
    from .. import show
    said = [f"{'ok  ' if b['ok'] else 'FAIL'} {b['ratio']:.3f}x the baseline's {show.ms(b['median'])}, "
            f"up to {1 + b['tolerance']:.3g}x is well"]
    if not b["ok"]:
        said += [f"     slower: {n['name']} ({n['op']}) {show.ms(n['ms'])}, was {show.ms(n['before_ms'])}"
                 for n in b["slower"][:5]]
    return said
