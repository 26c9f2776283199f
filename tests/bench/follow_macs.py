"""Does time follow the multiply-accumulates? Networks with half of them left, by fewer channels and by thin pairs of layers.

    python tests/bench/follow_macs.py make [NETWORK ...]     prunes, factorises, lowers; keeps the files in build/bench/follow
    python tests/bench/follow_macs.py count [NETWORK ...]    instructions of an inference on arm64, counted under emulation
    python tests/bench/follow_macs.py table [NETWORK ...]    times the files in turn, one thread, and prints the table

Realised is the gain over what the multiply-accumulates promise: time before / time after over MACs before / MACs after. Weights
are random (models.py): nothing here is about accuracy, and which channels go does not matter. "low rank" leaves half of the MACs
of the layers it can factorise, depthwise layers stay.
"""
from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import models
from mcc.cli.engine import filled, session
from mcc.passes import find, load, lower
from mcc.passes.base import Context
from mcc.passes.cost import total_macs
from trained import CORE, one_of, race

OUT = Path("build/bench/follow")
NETWORKS = ("mobilenet_v2", "resnet18", "resnet50", "minilm_l6")
WAYS = {"channels": ("prune.channels", {"macs": 0.5}), "low rank": ("structure.low_rank", {"macs": 0.5})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["make", "count", "table"])
    parser.add_argument("networks", nargs="*", type=one_of(NETWORKS), default=NETWORKS)
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    if options.what == "table":
        table(options.networks)
    for name in options.networks if options.what != "table" else ():
        make(name) if options.what == "make" else count(name)


def make(name: str) -> None:
    graph = load(models.export_onnx(name, dynamic=True), simplify=False)
    facts = {}
    for i, way in enumerate(("before", *WAYS)):
        made = find(WAYS[way][0])(**WAYS[way][1]).run(graph, Context(graph)) if way in WAYS else graph
        lower(made, OUT / f"{name}-{i}.mcc")
        facts[way] = {"file": f"{name}-{i}.mcc", "macs": total_macs(made)}
        print(f"{name} {way}: {facts[way]['macs'] / 1e6:.1f} M multiply-accumulates", file=sys.stderr, flush=True)
    (OUT / f"{name}.json").write_text(json.dumps(facts))


def count(name: str) -> None:
    import emulation
    facts = json.loads((OUT / f"{name}.json").read_text())
    for way, row in facts.items():
        if "instructions" not in row:
            path = OUT / row["file"]
            row["instructions"] = emulation.mcc(path, filled(session(path).inputs), CORE).instructions
            (OUT / f"{name}.json").write_text(json.dumps(facts))
            print(f"{name} {way}: {row['instructions'] / 1e6:.1f} M instructions", file=sys.stderr, flush=True)


def table(names: Sequence[str]) -> None:
    print("| network | | MACs | fewer | ms | faster | realised | arm64 M instructions | fewer | realised |\n" + "|---" * 10 + "|")
    means: dict[str, dict[str, list[float]]] = {way: {"x86": [], "arm64": []} for way in WAYS}
    for name in names:
        facts = json.loads((OUT / f"{name}.json").read_text())
        spent = race([OUT / r["file"] for r in facts.values()], rounds=16, seconds=0.15)
        first = next(iter(facts.values()))
        for (way, row), ms in zip(facts.items(), spent):
            promised, faster = first["macs"] / row["macs"], spent[0] / ms
            counted = row.get("instructions")
            fewer = first["instructions"] / counted if counted else None
            if way in WAYS:
                means[way]["x86"].append(faster / promised)
                means[way]["arm64"] += [fewer / promised] if fewer else []
            arm = f"{counted / 1e6:.1f} | {fewer:.2f}x | {fewer / promised:.0%}" if counted else " | | "
            print(f"| {name} | {way} | {row['macs'] / 1e6:.1f} M | {promised:.2f}x | {ms:.3f} | {faster:.2f}x | "
                  f"{faster / promised:.0%} | {arm} |")
    for way, found in means.items():
        print(f"\n{way}, geometric mean: " + ", ".join(f"{k} {statistics.geometric_mean(v):.1%}" for k, v in found.items() if v))


if __name__ == "__main__":
    main()
