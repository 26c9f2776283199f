"""Layers with zeros in their weights, dense against sparse, on one thread: what sparsity costs and gains.

    python tests/bench/sparse.py [--type f32|s8] [--pattern 1x1,1x4...] [--sparsity 0.5,0.75...] [ROWSxINPUTSxOUTPUTS...]

Both are the same file, run by the kernel that dense weights get and by the sparse one whatever the engine would choose; the
last column says what it does choose. Before timing, results are compared: int8 has to give the same bytes, float32 agrees to
1e-4 of the output's range. Runs take turns (dense, sparse, dense, ...); printed are medians over the turns and, of their
ratio, the 10th and the 90th percentile. Only the layer itself is timed, as the engine's profile has it.

With --arm64 instructions are counted instead, under emulation on three tiers of cores: of the layer without zeros and of what
the engine chooses for the one with zeros, whose results are compared with those of this machine.
"""
from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np

from mcc import kernels
from mcc.kernels import Session
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.lower import lower

TURNS, SECONDS = 15, 0.02
PATTERNS = {"f32": "1x1", "s8": "1x4"}
SPARSITIES = {"f32": "0.5,0.6,0.7,0.8,0.9,0.95", "s8": "0.25,0.5,0.6,0.7,0.75,0.8,0.9"}
SHAPES = ("196x256x256", "196x512x512", "784x256x256", "784x512x512")


def weight(outputs: int, inputs: int, pattern: str, sparsity: float) -> np.ndarray:
    """[outputs, inputs], random but for whole blocks of zeros."""
    rng = np.random.default_rng(0)
    rows, columns = map(int, pattern.split("x"))
    blocks = -(-outputs // rows), -(-inputs // columns)
    gone = rng.permutation(blocks[0] * blocks[1]) < round(sparsity * blocks[0] * blocks[1])
    zero = np.kron(gone.reshape(blocks), np.ones((rows, columns)))[:outputs, :inputs]
    values = rng.standard_normal((outputs, inputs)).astype(np.float32)
    return np.where(zero != 0, 0, np.where(np.abs(values) < 0.02, 0.5, values)).astype(np.float32)  # nothing else rounds to 0


def layer(kind: str, m: int, k: int, n: int, pattern: str, sparsity: float, path: Path) -> dict:
    """Writes the file, returns its inputs."""
    x, y = Value("x", "float32", (m, k)), Value("y", "float32", (m, n))
    bias = constant("b", np.random.default_rng(2).standard_normal(n).astype(np.float32))
    w = constant("w", weight(n, k, pattern, sparsity), sparse=True)
    feed = {"x": np.random.default_rng(1).standard_normal((m, k)).astype(np.float32)}
    graph = Graph([x], [y], [Node("linear", [x, w, bias], [y], name="fc")])
    if kind == "s8":
        lower(graph, path, precision="int8", calibration=[feed])
    else:
        lower(graph, path)
    return feed


def dense_kernel(kind: str, m: int, k: int, n: int, folder: Path) -> str:
    """What a weight without zeros runs on."""
    feed = layer(kind, m, k, n, "1x1", 0, folder / "dense.mcc")
    return work(Session(folder / "dense.mcc"), feed)["kernel"]


def work(session: Session, feed: dict) -> dict:
    """The profile's row of the layer."""
    return max(session.profile(feed, 1), key=lambda row: row["macs"])


def median_ms(session: Session, feed: dict) -> float:
    return max(session.times(feed, SECONDS, least=5, ops=True).ops, key=lambda row: row["macs"])["ms"]


def alike(kind: str, a: np.ndarray, b: np.ndarray) -> bool:
    return a.tobytes() == b.tobytes() if kind == "s8" else bool(np.abs(a - b).max() <= 1e-4 * np.ptp(a))


def compare(kind: str, m: int, k: int, n: int, pattern: str, sparsity: float, folder: Path) -> dict:
    path = folder / "layer.mcc"
    feed = layer(kind, m, k, n, pattern, sparsity, path)
    family = {"f32": "sparse", "s8": "qsparse"}[kind]
    sparse = next(k.name for k in kernels.kernels() if k.family == family and k.runs)
    ways = [Session(path, kernel=name) for name in (dense_kernel(kind, m, k, n, folder), sparse)]
    rows = [work(way, feed) for way in ways]
    if [row["kernel"] == sparse for row in rows] != [False, True]:
        raise SystemExit(f"{kind} {m}x{k}x{n}: not dense and sparse but {[row['kernel'] for row in rows]}")
    a, b = (next(iter(way.run(feed).values())) for way in ways)
    if not alike(kind, a, b):
        raise SystemExit(f"{kind} {m}x{k}x{n} {pattern} {sparsity}: dense and sparse differ by {np.abs(a - b).max()}")
    times = [[median_ms(way, feed) for way in ways] for _ in range(TURNS)]
    ratios = np.quantile([d / s for d, s in times], (0.1, 0.5, 0.9))
    return {"dense": rows[0]["kernel"], "sparse": sparse, "ms": [statistics.median(t) for t in zip(*times)], "ratio": ratios,
            "chosen": "sparse" if work(Session(path), feed)["kernel"] == sparse else "dense"}


def counted(kind: str, m: int, k: int, n: int, pattern: str, sparsity: float, core: str, folder: Path) -> tuple[dict, dict]:
    """Of the dense layer and of the sparse one: {kernel: instructions}, one of them each."""
    import emulation
    found = []
    for zeros in (0.0, sparsity):
        path = folder / f"{kind}-{zeros}.mcc"
        feed = layer(kind, m, k, n, pattern if zeros else "1x1", zeros, path)
        ran = emulation.mcc(path, feed, core)
        want = next(iter(Session(path).run(feed).values()))
        if not alike(kind, want, ran.outputs[0]):
            raise SystemExit(f"{kind} {m}x{k}x{n} {pattern} {zeros} on {core}: other results than on this machine")
        found.append({name: count for name, count in ran.kernels.items() if name.startswith(("gemm", "sparse", "qsparse"))})
    return found[0], found[1]


def count_arm64(options, folder: Path) -> None:
    import emulation
    print("| type | rows x inputs x outputs | blocks | zeros | core | dense | of zeros | dense / of zeros | by |")
    print("|---" * 9 + "|")
    for kind in options.type or PATTERNS:
        for shape in options.shapes:
            for pattern in (options.pattern or PATTERNS[kind]).split(","):
                for zeros in map(float, (options.sparsity or "0.5,0.75,0.9").split(",")):
                    for core in emulation.CORES if kind == "s8" else ("cortex-a53",):
                        dense, sparse = counted(kind, *map(int, shape.split("x")), pattern, zeros, core, folder)
                        (a,), ((name, b),) = dense.values(), sparse.items()
                        counts = f"{a / 1e6:.2f} M | {b / 1e6:.2f} M | {a / b:.2f}x"
                        print(f"| {kind} | {shape} | {pattern} | {zeros:.0%} | {core} | {counts} | {name} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--type", choices=list(PATTERNS), action="append")
    parser.add_argument("--pattern", help="blocks, outputs x inputs, with commas")
    parser.add_argument("--sparsity", help="shares of zeros, with commas")
    parser.add_argument("--arm64", action="store_true", help="count instructions under emulation")
    parser.add_argument("shapes", nargs="*", default=SHAPES)
    options = parser.parse_args()
    if options.arm64:
        with tempfile.TemporaryDirectory() as place:
            count_arm64(options, Path(place))
        return
    print("| type | rows x inputs x outputs | blocks | zeros | dense ms | sparse ms | dense / sparse (p10, p90) | chosen |")
    print("|---" * 8 + "|")
    used = set()
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.type or PATTERNS:
            for shape in options.shapes:
                for pattern in (options.pattern or PATTERNS[kind]).split(","):
                    for zeros in map(float, (options.sparsity or SPARSITIES[kind]).split(",")):
                        got = compare(kind, *map(int, shape.split("x")), pattern, zeros, Path(folder))
                        used.add(f"{got['dense']} against {got['sparse']}")
                        low, ratio, high = got["ratio"]
                        ms = " | ".join(f"{t:.4f}" for t in got["ms"])
                        print(f"| {kind} | {shape} | {pattern} | {zeros:.0%} | {ms} | {ratio:.2f}x ({low:.2f}, {high:.2f}) | "
                              f"{got['chosen']} |", flush=True)
    print("\n".join(sorted(used)))


if __name__ == "__main__":
    main()
