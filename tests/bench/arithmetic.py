"""The arithmetic of cheaper layers, on real files: what a formula promises, and what parameters, multiply-accumulates, bytes,
time and arm64 instructions say.

    python tests/bench/arithmetic.py count     makes the files in build/bench/arithmetic and counts instructions under emulation
    python tests/bench/arithmetic.py table     times the files in turn, one thread, and prints the table

M x N to M x K and K x N: M N / (K (M + N)). G groups: G. A depthwise k x k and a pointwise layer to O channels:
1 / (1 / O + 1 / k^2), about 9 for 3 x 3. Weights are random, the layer is alone in its file.
"""
from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
from mcc.cli.engine import filled, session
from mcc.passes import find, lower
from mcc.passes.base import Context
from mcc.passes.cost import params, total_macs
from mcc.passes.graph import Graph, Node, Value, constant
from trained import CORE, race

OUT = Path("build/bench/arithmetic")


def linear(rows: int, inputs: int, outputs: int) -> Graph:
    x, y = Value("x", "float32", (rows, inputs)), Value("y", "float32", (rows, outputs))
    return Graph([x], [y], [Node("linear", [x, _weight(outputs, inputs), None], [y], name="fc")])


def conv(channels: int, size: int, kernel: int = 3) -> Graph:
    shape = (1, channels, size, size)
    x, y = Value("x", "float32", shape), Value("y", "float32", shape)
    attrs = {"pads": [kernel // 2] * 4, "kernel_shape": [kernel] * 2}
    return Graph([x], [y], [Node("conv", [x, _weight(channels, channels, kernel, kernel), None], [y], attrs, "conv")])


def _weight(*shape: int) -> Value:
    return constant("weight", (np.random.default_rng(0).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))


def factors(rows: int, m: int, n: int, k: int) -> tuple:
    return f"{rows} rows x {m} x {n}", linear(rows, m, n), f"rank {k}", "low_rank", {"rank": k}, m * n / (k * (m + n))


def grouped(channels: int, size: int, groups: int) -> tuple:
    return (f"3x3, {channels} channels, {size} x {size}", conv(channels, size), f"{groups} groups", "group_conv",
            {"groups": groups, "permute": False}, groups)


def separated(channels: int, size: int, kernel: int) -> tuple:
    return (f"{kernel}x{kernel}, {channels} channels, {size} x {size}", conv(channels, size, kernel), "depthwise and pointwise",
            "depthwise", {}, 1 / (1 / channels + 1 / kernel ** 2))


ROWS = [factors(1, 1024, 1024, 128), factors(128, 1024, 1024, 256), factors(128, 1024, 1024, 128), factors(128, 384, 1536, 96),
        grouped(128, 28, 2), grouped(128, 28, 4), grouped(256, 14, 2), grouped(256, 14, 8),
        separated(64, 56, 3), separated(128, 28, 3), separated(256, 14, 3), separated(256, 14, 5)]


def make() -> list[dict]:
    """Facts of both files of each row: what is there, what stands for it."""
    OUT.mkdir(parents=True, exist_ok=True)
    made = []
    for i, (text, graph, how, name, options, promise) in enumerate(ROWS):
        new = find(f"structure.{name}")(**options).run(graph, Context(graph))
        row = {"layer": text, "instead": how, "promise": promise}
        for key, g in (("before", graph), ("after", new)):
            path = OUT / f"{i}-{key}.mcc"
            lower(g, path)
            row[key] = {"file": path.name, "params": params(g), "macs": total_macs(g), "bytes": os.path.getsize(path)}
        made.append(row)
    return made


def count() -> None:
    import emulation
    rows = make()
    for row in rows:
        for key in ("before", "after"):
            path = OUT / row[key]["file"]
            row[key]["instructions"] = emulation.mcc(path, filled(session(path).inputs), CORE).instructions
    (OUT / "facts.json").write_text(json.dumps(rows))


def table() -> None:
    rows = json.loads((OUT / "facts.json").read_text())
    print("| layer | instead | formula | parameters | MACs | KB | time, us | arm64 instructions, M |\n" + "|---" * 8 + "|")
    for row in rows:
        a, b = row["before"], row["after"]
        us = [ms * 1e3 for ms in race([OUT / f["file"] for f in (a, b)])]

        def cell(key: str, unit: float, digits: str, a=a, b=b) -> str:
            return f"{a[key] / b[key]:.2f}x ({a[key] / unit:{digits}} to {b[key] / unit:{digits}})"
        print(f"| {row['layer']} | {row['instead']} | {row['promise']:.2f}x | {a['params'] / b['params']:.2f}x | "
              f"{a['macs'] / b['macs']:.2f}x | {cell('bytes', 1e3, '.0f')} | {us[0] / us[1]:.2f}x ({us[0]:.0f} to {us[1]:.0f}) | "
              f"{cell('instructions', 1e6, '.2f')} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["count", "table"])
    {"count": count, "table": table}[parser.parse_args().what]()
