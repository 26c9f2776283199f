"""Lines and pages of text, drawn: nobody ships real ones with labels as a package. Sentences of film reviews in several
fonts and colours, turned a little, blurred, unevenly lit and noisy; calibration and tests take different sentences.
"""
from __future__ import annotations

import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import real_models
from mcc.passes.data import fetch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from real_data import Task, by_class

FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif-Bold", "DejaVuSansCondensed")


@cache
def _texts() -> list[str]:
    """Film-review sentences of printable ASCII, the same order each time."""
    with tarfile.open(fetch.find("sentiment-sentences", "**/hutto_ICWSM_2014.tar.gz")) as t:
        rows = t.extractfile("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt").read().decode("utf-8", "replace")
    texts = [r.split("\t", 2)[-1].strip() for r in rows.splitlines()]
    return [t for t in texts if t.isascii() and t.isprintable() and len(t) > 30]


def _font(rng, size: int):
    folder = Path("/usr/share/fonts/truetype/dejavu")
    name = FONTS[rng.integers(len(FONTS))]
    path = folder / f"{name}.ttf"
    return ImageFont.truetype(str(path), size) if path.is_file() else ImageFont.load_default(size)


def _worn(rng, image) -> np.ndarray:
    """Blur, uneven light and noise, as in a photograph of paper: float32 [3, h, w] from -1 to 1."""
    x = np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9))), np.float32).transpose(2, 0, 1)
    light = np.linspace(rng.uniform(0.75, 1), rng.uniform(0.75, 1), x.shape[2], dtype=np.float32)
    return np.clip(x * light / 127.5 - 1 + rng.uniform(0.01, 0.08) * rng.standard_normal(x.shape), -1, 1).astype(np.float32)


def _colours(rng) -> tuple[tuple, tuple]:
    """(paper, ink): dark on light, or, one time in four, light on dark."""
    light, dark = (tuple(int(v) for v in rng.integers(*span, 3)) for span in ((190, 256), (0, 90)))
    return (dark, light) if rng.random() < 0.25 else (light, dark)


def _line(rng, texts: list[str], width: int, height: int = 48) -> tuple[np.ndarray, str]:
    """One line of words that fills at most the width."""
    paper, ink = _colours(rng)
    font, words = _font(rng, int(rng.integers(24, 36))), texts[rng.integers(len(texts))].split()
    start = int(rng.integers(len(words)))
    text = words[start][:12]
    for word in words[start + 1:]:
        if font.getlength(f"{text} {word}") > width - 16:
            break
        text += f" {word}"
    picture = Image.new("RGB", (width, height), paper)
    ImageDraw.Draw(picture).text((int(rng.integers(4, 10)), height // 2), text, ink, font, anchor="lm")
    return _worn(rng, picture.rotate(rng.uniform(-1.5, 1.5), fillcolor=paper)), text


def _drawn_lines(count: int, seed: int, width: int) -> list[tuple[np.ndarray, str]]:
    """Calibration (seed 0) and test (seed 1) take other sentences: even and odd ones."""
    rng, texts = np.random.default_rng(seed), _texts()[seed::2]
    return [_line(rng, texts, width) for _ in range(count)]


def recognition(name: str, samples: int) -> Task:
    width = 320
    test = _drawn_lines(300, 1, width)

    def score(outputs, references):
        ours, theirs = ([_read(o[0][0]) for o in side] for side in (outputs, references))
        alphabet = _alphabet(name)
        found = ["".join(alphabet[c] for c in codes) for codes in ours]
        return {"agreement": np.array([float(a == b) for a, b in zip(ours, theirs)]),
                "characters": np.array([_right(a, t) for a, (_, t) in zip(found, test)])}
    return Task([{"x": x[None]} for x, _ in _drawn_lines(samples, 0, width)], [{"x": x[None]} for x, _ in test], score,
                f"{len(test)} drawn lines (no real ones to be had)", "characters")


def _read(probabilities: np.ndarray) -> list[int]:
    """Greedy CTC: the best class of each column, repeats once, class 0 is nothing."""
    best = probabilities.argmax(-1)
    return [int(c) for i, c in enumerate(best) if c and (i == 0 or c != best[i - 1])]


def _alphabet(name: str) -> list[str]:
    """What the classes are: the model's file says so in its metadata; class 0 is nothing, the last a space."""
    import onnx
    meta = {p.key: p.value for p in onnx.load(real_models.onnx_path(name), load_external_data=False).metadata_props}
    return ["", *meta["character"].splitlines(), " "]


def _right(found: str, wanted: str) -> float:
    """1 - edit distance / length, at least 0; spaces do not count."""
    a, b = found.replace(" ", ""), wanted.replace(" ", "")
    row = list(range(len(b) + 1))
    for i, ca in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, cb in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (ca != cb))
    return max(0.0, 1 - row[-1] / max(len(b), 1))


def direction(name: str, samples: int) -> Task:
    """Every other line upside down."""
    def turned(lines):
        return [{"x": np.ascontiguousarray(x[None, :, ::-1, ::-1] if i % 2 else x[None])} for i, (x, _) in enumerate(lines)]
    test = turned(_drawn_lines(600, 1, 192))
    return Task(turned(_drawn_lines(samples, 0, 192)), test, by_class(np.arange(len(test)) % 2),
                f"{len(test)} drawn lines, half upside down", "accuracy")


def _page(rng, texts: list[str], size: tuple[int, int]) -> tuple[np.ndarray, list[tuple]]:
    """Lines on paper, or on one of the calibration photographs; with the boxes of the lines."""
    h, w = size
    paper, ink = _colours(rng)
    picture, y, boxes = Image.new("RGB", (w, h), paper), int(rng.integers(4, 20)), []
    while y < h - 30:
        font, text = _font(rng, int(rng.integers(14, 32))), texts[rng.integers(len(texts))]
        text, x = text[: int(rng.integers(6, 22))].strip(), int(rng.integers(4, 40))
        while font.getlength(text) > w - x - 4:
            text = text[:-1]
        ImageDraw.Draw(picture).text((x, y), text, ink, font)
        box = ImageDraw.Draw(picture).textbbox((x, y), text, font)
        if text.strip() and box[3] < h:
            boxes.append(tuple(int(v) for v in box))
        y = int(box[3] + rng.integers(6, 24))
    return _worn(rng, picture), boxes


def detection(name: str, samples: int) -> Task:
    def pages(count, seed):
        rng, texts = np.random.default_rng(seed), _texts()[seed::2]
        return [_page(rng, texts, (224, 320)) for _ in range(count)]
    test = pages(80, 1)

    def score(outputs, references):
        ours, theirs = ([o[0][0, 0] > 0.3 for o in side] for side in (outputs, references))
        return {"agreement": np.array([(a == b).mean() for a, b in zip(ours, theirs)]),
                "overlap": np.array([(a & b).sum() / max((a | b).sum(), 1) for a, b in zip(ours, theirs)]),
                "lines": np.array([np.mean([_covers(a, box) for box in boxes]) for a, (_, boxes) in zip(ours, test)])}
    return Task([{"x": x[None]} for x, _ in pages(min(samples, 64), 0)], [{"x": x[None]} for x, _ in test], score,
                f"{len(test)} drawn pages (no real ones to be had)", "lines")


def _covers(mask: np.ndarray, box: tuple) -> float:
    """Whether the mask covers half of the middle third of a line."""
    left, top, right, bottom = box
    third = (bottom - top) // 3
    return float(mask[top + third: bottom - third, left:right].mean() > 0.5)
