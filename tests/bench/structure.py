"""Structure passes on real data: what each costs in accuracy and gives in bytes and time, all on the lowered file.

    python tests/bench/structure.py run [NET ...] [--seeds 3]  trains, replaces, lowers, scores; in build/bench/structure
    python tests/bench/structure.py count [NET ...]            instructions on arm64
    python tests/bench/structure.py table [NET ...]            times the files in turn and prints the tables

Differences are to the network before, paired over test samples of all seeds, with the 95 % interval. trained.py says what the
networks and their data are; arithmetic.py has the arithmetic of single layers.
"""
from __future__ import annotations

from trained import main

TUNE = {"epochs": 2, "lr": 1e-3}
CONVOLUTIONS = {"layers": ["conv2", "*blocks*conv*"]}  # not the first, which reads one channel

Row = tuple[str, str, dict]


def row(text: str, name: str, **options) -> Row:
    return text, f"structure.{name}", options


def halves(samples: int = 256, shares: tuple = (0.5,)) -> list[Row]:
    """Low rank at a share of the multiply-accumulates, without training: of the weight, and of the outputs (whitened); as much of
    every layer, and shared out over the layers."""
    made = []
    for share in shares:
        for how in ("ratio", "macs"):
            for white in (False, True):
                of, kind = "each layer" if how == "ratio" else "all", "whitened" if white else "plain"
                text = f"low rank, {share:.0%} MACs of {of}, {kind}"
                made.append(row(text, "low_rank", whiten=white, samples=samples, **{how: share}))
    return made


def convolutions(kernel: int) -> list[Row]:
    """Those for k x k convolutions, trained afterwards."""
    options = CONVOLUTIONS | TUNE
    return [
        row("low rank, 50 % MACs, whitened, trained", "low_rank", ratio=0.5, whiten=True, **options),
        row("Tucker-2, 50 % MACs, trained", "tucker", ratio=0.5, **options),
        row("Tucker-2, VBMF ranks, trained", "tucker", rank="vbmf", **options),
        row("CP, 50 % MACs, trained", "cp", ratio=0.5, **options),
        row(f"{kernel}x1 and 1x{kernel}, 50 % MACs, trained", "decompose_conv", ratio=0.5, **options),
        row("bottleneck, a quarter of the channels, trained", "bottleneck", reduction=4, **options),
        row("depthwise and pointwise, trained", "depthwise", **options),
        row("2 groups, trained", "group_conv", groups=2, **options),
    ]


ROWS: dict[str, list[Row]] = {
    "lenet5": [
        *halves(),
        *convolutions(5),
        row("5x5 as two 3x3, trained", "small_kernels", **CONVOLUTIONS, **TUNE),
        row("pooled head", "pool_head"),
        row("pooled head, trained", "pool_head", **TUNE),
    ],
    "resnet": [
        *halves(),
        *convolutions(3),
        row("weights of alike blocks shared, trained", "share", **TUNE),
    ],
    "repvgg": [row("branches folded", "fold"), *halves()],
    "digits": halves(),
    "efficientnet": halves(128, (0.5, 0.75)),
    "minilm": [
        *halves(64, (0.5, 0.75)),
        row("low rank, 75 % MACs, whitened, by sensitivity", "low_rank", macs=0.75, whiten=True, sensitivity=True, samples=64),
        row("every 2 layers shared", "share", every=2),
    ],
}


if __name__ == "__main__":
    main(__doc__, ROWS, "build/bench/structure")
