"""What the public real models are calibrated on and judged by: samples, labels where there are some, and scores.

    task = task_of("pp-ocr-rec")
    task.calibration[0]                  # {input name: array with one sample}, never one of task.test
    task.score(outputs, references)      # {"agreement": [n], "characters": [n]}: outputs: [output, ...] of each sample

Photographs, digits and sentences come from mcc.passes.data; text is drawn (drawn_text.py), speech is recorded or spoken by
a program (speech.py), and the tables say so.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib import import_module

import numpy as np
import real_models
from mcc.passes.data import open_data
from mcc.passes.errors import UserError
from mcc.passes.ops.run import run

SAMPLES = 256  # calibration samples, at most
EVERYTHING = 10 ** 9

Outputs = list[list[np.ndarray]]


@dataclass
class Task:
    """score(outputs, references) gives scores by name, [n] (their mean is the figure) or, for "correlation", pairs [n, 2].
    labelled: the one that compares with labels; the others compare with the float network's outputs, the references.
    state: {output index: input name}: outputs that the next sample reads, unless it brings that input itself."""

    calibration: list[dict]
    test: list[dict]
    score: Callable[[Outputs, Outputs], dict[str, np.ndarray]]
    said: str
    labelled: str | None = None
    state: dict[int, str] = field(default_factory=dict)


TASKS = {
    "efficientnet-*": "real_data:photos",
    "digit-*": "real_data:digits",
    "minilm-*": "real_data:sentences",
    "pp-ocr-rec": "drawn_text:recognition",
    "pp-ocr-cls": "drawn_text:direction",
    "pp-ocr-det": "drawn_text:detection",
    "openwakeword-embedding": "speech:embedding",
    "openwakeword-mel": "speech:front_end",
    "openwakeword-*": "speech:wake_word",
    "silero-vad": "speech:voice_activity",
}


def task_of(name: str, samples: int = SAMPLES) -> Task:
    """The samples of one of real_models.REAL. Raises UserError when a package or a program is missing."""
    for pattern, place in TASKS.items():
        if fnmatch(name, pattern):
            module, function = place.split(":")
            return getattr(import_module(module), function)(name, samples)
    raise UserError(f"there is no data for {name}; there is for {', '.join(TASKS)}")


def by_class(labels: np.ndarray | None):
    """Scores of a classifier."""
    def score(outputs, references):
        ours, theirs = (np.array([o[0].argmax() for o in side]) for side in (outputs, references))
        found = {"agreement": (ours == theirs).astype(float)}
        return found | ({} if labels is None else {"accuracy": (ours == labels).astype(float)})
    return score


def cosine(outputs: Outputs, references: Outputs) -> np.ndarray:
    a, b = (np.stack([o[0].reshape(-1) for o in side]).astype(np.float64) for side in (outputs, references))
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def _samples(data, split: str, limit: int = EVERYTHING) -> tuple[list[dict], np.ndarray | None]:
    rows = list(data.batches(split, 1, None, limit))
    return [{k: v.numpy() for k, v in x.items()} for x, _ in rows], \
        None if rows[0][1] is None else np.concatenate([y.numpy() for _, y in rows])


def photos(name: str, samples: int) -> Task:
    data = open_data({"source": "photos", "crops": 64}, inputs=["x"])
    test, _ = _samples(data, "test")
    return Task(_samples(data, "calibration", samples)[0], test, by_class(None), f"{len(test)} crops of photographs")


def digits(name: str, samples: int) -> Task:
    data = open_data({"source": "mnist"}, inputs=["x"])
    test, labels = _samples(data, "test")
    return Task(_samples(data, "calibration", samples)[0], test, by_class(labels), f"{len(test)} digits", "accuracy")


def sentences(name: str, samples: int) -> Task:
    """A linear probe, fitted to the float embeddings of 1,500 other sentences, says whether a sentence is positive."""
    names, length = list(real_models.REAL[name].shapes), real_models.REAL[name].shapes["input_ids"][1]
    data = open_data({"source": "sentences", "length": length}, inputs=names)
    test, labels = _samples(data, "test", 1000)
    inputs, sentiments = next(data.batches("train", 1500))
    probe = _probe(next(iter(run(real_models.graph_of(name), inputs).values())).numpy(), sentiments.numpy())

    def score(outputs, references):
        ours, theirs = (probe(np.concatenate([o[0] for o in side])) for side in (outputs, references))
        return {"agreement": (ours == theirs).astype(float), "cosine": cosine(outputs, references),
                "accuracy": (ours == labels).astype(float)}
    return Task(_samples(data, "calibration", samples)[0], test, score, f"{len(test)} film-review sentences, linear probe",
                "accuracy")


def _probe(x: np.ndarray, labels: np.ndarray, strength: float = 1.0):
    """A linear classifier of two classes by regularised least squares on [n, features]."""
    def wide(v):
        return np.concatenate([v.astype(np.float64), np.ones((len(v), 1))], 1)
    a = wide(x)
    w = np.linalg.solve(a.T @ a + strength * np.eye(a.shape[1]), a.T @ (2.0 * labels - 1))
    return lambda v: (wide(v) @ w > 0).astype(np.int64)
