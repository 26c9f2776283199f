"""Pruning on real data: what each pass and importance costs in accuracy and gives in bytes and time, all on the lowered file.

    python tests/bench/prune.py run [NET ...] [--seeds 3]    trains, prunes, lowers and scores; keeps all in build/bench/prune
    python tests/bench/prune.py count [NET ...]              instructions on arm64
    python tests/bench/prune.py table [NET ...]              times the files in turn and prints the tables

Differences are to the unpruned network, paired over test samples of all seeds, with the 95 % interval. trained.py says what the
networks and their data are.
"""
from __future__ import annotations

from trained import main

TUNE = {"epochs": 3, "lr": 1e-3}
LONG = {"epochs": 5, "lr": 1e-3}
FREE = {"samples": 256}


def weights(text: str, **options) -> tuple[str, str, dict]:
    return text, "prune.weights", options


def blocks(text: str, **options) -> tuple[str, str, dict]:
    return text, "prune.blocks", options


# (what it is, pass, options); without epochs nothing is trained
ROWS = {
    "lenet5": [
        *[weights(f"50 % of weights, {i}", sparsity=0.5, importance=i, scope="layer", **FREE) for i in ("l2", "obs")],
        *[weights(f"80 % of weights, {i}", sparsity=0.8, importance=i, scope=scope, **FREE) for i, scope in (
            ("random", "layer"), ("l2", "layer"), ("wanda", "row"), ("fisher", "global"), ("taylor", "global"),
            ("obs", "layer"))],
        weights("80 % of weights, l2, erk", sparsity=0.8, scope="erk"),
        weights("80 % of weights, lamp", sparsity=0.8, importance="lamp"),
        weights("80 % of weights, l2 with update", sparsity=0.8, scope="layer", update=True, **FREE),
        blocks("2:4, l2", pattern="2:4"), blocks("2:4, obs", pattern="2:4", importance="obs", **FREE),
        blocks("1x4, 50 %, l2", pattern="1x4", scope="layer"),
        blocks("1x4, 50 %, obs", pattern="1x4", scope="layer", importance="obs", **FREE),
        weights("90 %, cubic, trained", sparsity=0.9, **TUNE),
        weights("90 %, movement, trained", sparsity=0.9, importance="movement", scope="layer", start=0.1, **TUNE),
        weights("90 %, once, trained", sparsity=0.9, schedule="once", **TUNE),
        weights("90 %, 3 rounds of training", sparsity=0.9, schedule="iterative", steps=3, epochs=1, lr=1e-3),
        weights("90 %, erk, regrowth, trained", sparsity=0.9, scope="erk", schedule="once", regrow=0.3, steps=20, **TUNE),
        blocks("16x1, 80 %, cubic, trained", pattern="16x1", sparsity=0.8, **TUNE),
        blocks("1x4, 75 %, cubic, trained", pattern="1x4", sparsity=0.75, **TUNE),
        weights("half the bytes, l2", bytes=0.5),
        ("channels to 50 % MACs, l2, trained", "prune.channels", {"macs": 0.5, **TUNE}),
    ],
    "resnet": [
        *[weights(f"50 % of weights, {i}", sparsity=0.5, importance=i, scope=scope, **FREE) for i, scope in (
            ("l2", "layer"), ("wanda", "row"), ("obs", "layer"))],
        ("channels to 50 % MACs, l2, trained", "prune.channels", {"macs": 0.5, **TUNE}),
        weights("90 %, cubic, trained", sparsity=0.9, **LONG),
        ("channels to 50 % MACs, taylor, trained", "prune.channels", {"macs": 0.5, "importance": "taylor", **TUNE}),
        ("2 of 7 blocks, influence", "prune.layers", {"count": 2}),
        ("2 of 7 blocks, influence, trained", "prune.layers", {"count": 2, **TUNE}),
        ("2 of 7 blocks, random, trained", "prune.layers", {"count": 2, "importance": "random", **TUNE}),
    ],
    "minilm": [
        *[weights(f"50 % of weights, {i}", importance=i, scope="row", samples=32) for i in ("l2", "wanda", "obs")],
        *[blocks(f"2:4, {i}", pattern="2:4", importance=i, samples=32) for i in ("l2", "obs")],
        ("1 in 4 heads, taylor", "prune.heads", {"ratio": 0.25, "importance": "taylor", "samples": 32}),
        ("1 of 6 layers, influence", "prune.layers", {"count": 1, "samples": 32}),
        ("2 of 12 branches, influence", "prune.layers", {"what": "branches", "count": 2, "samples": 32}),
        ("2 of 12 branches, random", "prune.layers", {"what": "branches", "count": 2, "importance": "random"}),
    ],
}


if __name__ == "__main__":
    main(__doc__, ROWS, "build/bench/prune")
