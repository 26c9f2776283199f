"""Does cost grow as the work grows? MobileNetV1 from width 0.25 to 1.4 and a transformer of 2 to 24 layers, on one thread.

    python tests/bench/scaling.py [--seconds 1] [--precision fp32]

The sizes of a series are measured in turn. `line` is what time = fixed + slope * MACs (least squares of the relative error)
says of a size, `off` how far the measured time lies from it.
"""
from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
import models

ROUNDS = 6
BODY = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


def thin_mobilenet_v1(width: float) -> Callable[[], nn.Module]:
    """Makes MobileNetV1 with all channels scaled, to whole eights (Howard et al. 2017, section 3.3)."""
    def channels(n: int) -> int:
        return max(8, int(n * width + 4) // 8 * 8)

    def make() -> nn.Module:
        layers, inputs = [models.conv(3, channels(32), 3, 2, act=nn.ReLU6)], channels(32)
        for outputs, stride in BODY:
            layers += [models.conv(inputs, inputs, 3, stride, inputs, nn.ReLU6),
                       models.conv(inputs, channels(outputs), act=nn.ReLU6)]
            inputs = channels(outputs)
        return models.Classifier(nn.Sequential(*layers), inputs)
    return make


def bert(layers: int) -> models.Model:
    return models.Model(models._bert(layers=layers, hidden=384, ffn=1536), models._tokens())


SERIES = {
    "mobilenet_v1 by width": {f"{w}": models.Model(thin_mobilenet_v1(w), models.PICTURE) for w in (0.25, 0.5, 0.75, 1.0, 1.4)},
    "transformer by layers": {f"{n}": bert(n) for n in (2, 4, 6, 12, 24)},
}


def sessions(series: dict, precision: str, folder: Path) -> dict:
    """Size -> (MACs, its open session, its inputs)."""
    from mcc.kernels import Session
    from mcc.passes import load
    from mcc.passes.lower import lower
    made = {}
    for size, model in series.items():
        name = f"scaling-{size}"
        models.MODELS[name] = model
        feeds = {k: v.numpy() for k, v in models.make(name)[1].items()}
        onnx, file = models.export_onnx(name, folder / f"{name}.onnx"), folder / f"{name}.mcc"
        lower(load(onnx, simplify=False), file, precision=precision, **({"calibration": [feeds]} if precision == "int8" else {}))
        session = Session(str(file), threads=1)
        made[size] = sum(n["macs"] for n in session.profile(feeds)), session, feeds
    return made


def interleaved(sessions: dict, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of every session's runs, in bursts taken in turn. A session comes with its inputs."""
    taken: dict[str, list[float]] = {size: [] for size in sessions}
    for _ in range(ROUNDS):
        for size, (session, feeds) in sessions.items():
            taken[size] += session.times(feeds, seconds / ROUNDS).ms
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each size")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "int8"])
    options = parser.parse_args()
    print("| series | size | MMACs | ms | ms of the line | off | ps a MAC |\n|---|---|---|---|---|---|---|")
    for name, series in SERIES.items():
        with tempfile.TemporaryDirectory() as folder:
            made = sessions(series, options.precision, Path(folder))
            taken = interleaved({size: case for size, (_, *case) in made.items()}, options.seconds)
        macs, ms = np.array([m for m, *_ in made.values()], float), np.array([np.median(t) for t in taken.values()])
        basis = np.stack([np.ones_like(macs), macs], 1)
        line = basis @ np.linalg.lstsq(basis / ms[:, None], np.ones_like(ms), rcond=None)[0]
        for size, m, t, y in zip(series, macs, ms, line, strict=True):
            print(f"| {name} | {size} | {m / 1e6:.0f} | {t:.3f} | {y:.3f} | {t / y - 1:+.1%} | {t / m * 1e9:.2f} |")


if __name__ == "__main__":
    main()
