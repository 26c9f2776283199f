"""Speech for the audio models: recordings of people from Debian's pocketsphinx-testdata (a novel read aloud to test with;
words and commands by others to calibrate on), and wake words spoken by espeak-ng, whose test voices are not those of the
calibration.
"""
from __future__ import annotations

import shutil
import subprocess
import wave
from functools import cache
from io import BytesIO

import numpy as np
import real_models
from mcc.passes.data import fetch
from mcc.passes.errors import UserError
from mcc.passes.ops.run import run
from real_data import Task, cosine

RATE = 16000
FRAMES, HOP = 76, 8  # of the front end: in a window of the embedding, and between two windows
VOICES = {"calibration": ("en-us", "en-gb-scotland", "en-us+f3"), "test": ("en-gb", "en-029", "en-gb+f2", "en-us+m3")}
# What is said for each head, and which of its answers is right (0: none).
WORDS = {"openwakeword-alexa": {"alexa": 1}, "openwakeword-hey-jarvis": {"hey jarvis": 1},
         "openwakeword-hey-mycroft": {"hey mycroft": 1}, "openwakeword-hey-rhasspy": {"hey rhasspy": 1},
         "openwakeword-timer": {"set a timer for 1 minute": 1, "set a timer for 5 minutes": 2, "set a timer for 10 minutes": 3},
         "openwakeword-weather": {"what's the weather": 1, "tell me the weather": 1}}
OTHERS = ("the lecture begins tomorrow", "how far is the station", "please close the window", "she sells sea shells",
          "a lexicon of old words", "hey john, come in", "it will rain on Monday", "set the table for dinner")

fetch.PACKAGES.setdefault("recorded-speech", fetch.Package(
    "apt", "pocketsphinx-testdata", "0.8+5prealpha+1-15", "eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0",
    ("./usr/share/pocketsphinx/",)))


# --- sound: float32 [samples] from -1 to 1 at 16 kHz -------------------------------------------------------------------

def recordings(part: str) -> list[np.ndarray]:
    folder = fetch.obtain("recorded-speech")
    if part == "test":
        return [_wave(p.read_bytes()) for p in sorted(folder.glob("**/librivox/*.wav"))]
    raw = [_pcm(p.read_bytes()) for p in sorted(folder.glob("**/test/data/*.raw"))]
    return [_wave(p.read_bytes()) for p in sorted(folder.glob("**/cards/*.wav"))] + raw


def _pcm(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768


def _wave(data: bytes) -> np.ndarray:
    with wave.open(BytesIO(data)) as w:
        x, rate = _pcm(w.readframes(w.getnframes())), w.getframerate()
    at = np.arange(int(len(x) * RATE / rate)) * (rate / RATE)
    return np.interp(at, np.arange(len(x)), x).astype(np.float32)


@cache
def spoken(text: str, voice: str, speed: int) -> np.ndarray:
    """By espeak-ng, 2 s of quiet noise before and 0.4 s behind it."""
    if shutil.which("espeak-ng") is None:
        raise UserError("wake words are spoken by espeak-ng: apt-get install espeak-ng")
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "--stdout", text]
    x = 0.7 * _wave(subprocess.run(command, check=True, capture_output=True).stdout)
    rng = np.random.default_rng(speed + len(voice) + len(text))
    x = np.pad(x, (2 * RATE, 2 * RATE // 5))
    return (x + rng.uniform(0.0005, 0.01) * rng.standard_normal(len(x))).astype(np.float32)


def clips(words: dict[str, int], part: str, others: tuple[str, ...] = OTHERS) -> list[tuple[tuple[str, str, int], int]]:
    """(arguments of `spoken`, which answer is right) for each thing said by each voice at two speeds."""
    said = {**words, **dict.fromkeys(others, 0)}
    speeds = (140, 175) if part == "test" else (150, 190)
    return [((text, voice, speed), right) for text, right in said.items() for voice in VOICES[part] for speed in speeds]


# --- openWakeWord -----------------------------------------------------------------------------------------------------

def mel(sound: np.ndarray) -> np.ndarray:
    """The front end, in float: [frames, 32], a frame each 10 ms."""
    graph = _graph("openwakeword-mel")
    return next(iter(run(graph, {"input": sound[None] * np.float32(32767)}).values())).numpy().reshape(-1, 32) / 10 + 2


_graph = cache(real_models.graph_of)


def windows(sound: np.ndarray) -> np.ndarray:
    """What the embedding reads: float32 [n, 76, 32, 1], one each 80 ms."""
    frames = mel(sound)
    return np.stack([frames[i: i + FRAMES, :, None] for i in range(0, len(frames) - FRAMES + 1, HOP)])


@cache
def features(*clip) -> np.ndarray:
    """What the heads read of a clip (arguments of `spoken`), in float: [n, 96]."""
    made = run(_graph("openwakeword-embedding"), {"input_1": windows(spoken(*clip))})
    return next(iter(made.values())).numpy().reshape(-1, 96)


def _some(items: list, count: int) -> list:
    """At most count of them, drawn with a fixed seed."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(items))[:count])
    return [items[i] for i in chosen]


def front_end(name: str, samples: int) -> Task:
    """Half seconds of sound to the frames of the front end."""
    def cut(part):
        return [{"input": x[None, i: i + RATE] * np.float32(32767)} for x in recordings(part)
                for i in range(0, len(x) - RATE, RATE // 2)]
    test = cut("test")
    return Task(_some(cut("calibration"), samples), test, lambda o, r: {"cosine": cosine(o, r)},
                f"{len(test)} seconds of recorded speech")


def embedding(name: str, samples: int) -> Task:
    """Windows of recorded speech, and of wake words: their cosine; and whether the float heads still hear the words."""
    calibration = [w for x in [*recordings("calibration"), *(spoken(*c) for c, _ in clips(
        WORDS["openwakeword-alexa"], "calibration", OTHERS[:2]))] for w in windows(x)]
    heads = ("openwakeword-alexa", "openwakeword-hey-mycroft")
    said = [(head, right, windows(spoken(*c))) for head in heads for c, right in clips(WORDS[head], "test", OTHERS[:3])]
    read = [windows(x) for x in recordings("test")]
    test = np.concatenate([*read, *(w for *_, w in said)])

    def score(outputs, references):
        def decide(side):
            at, answers = sum(len(w) for w in read), []
            for head, _, w in said:
                answers.append(_heard(head, np.stack([o[0].reshape(-1) for o in side[at: at + len(w)]])))
                at += len(w)
            return np.array(answers)
        ours = decide(outputs)
        return {"agreement": (ours == decide(references)).astype(float), "cosine": cosine(outputs, references),
                "words": (ours == np.array([right for _, right, _ in said])).astype(float)}
    return Task([{"input_1": w[None]} for w in _some(calibration, samples)], [{"input_1": w[None]} for w in test], score,
                f"{len(test)} windows: recorded speech and {len(said)} spoken clips, float heads", "words")


def _heard(head: str, found: np.ndarray) -> int:
    """What the float head says to the features [n, 96] of a clip."""
    outputs = next(iter(run(_graph(head), [np.concatenate(_rows(head, found))]).values())).numpy()
    return _answer([[o] for o in outputs])


def _rows(head: str, found: np.ndarray) -> list[np.ndarray]:
    length = next(iter(real_models.REAL[head].shapes.values()))[1]
    found = np.pad(found, ((max(length - len(found), 0), 0), (0, 0)), mode="edge")
    return [found[None, i: i + length] for i in range(len(found) - length + 1)]


def _answer(outputs) -> int:
    """Over the windows of a clip: the class (from 1) of the highest score above a half, else 0."""
    scores = np.stack([o[0].reshape(-1) for o in outputs])
    scores = scores[:, 1:] if scores.shape[1] > 1 else scores
    return int(scores.max(0).argmax()) + 1 if scores.max() > 0.5 else 0


def wake_word(name: str, samples: int) -> Task:
    key, = real_models.REAL[name].shapes
    calibration = [row for c, _ in clips(WORDS[name], "calibration") for row in _rows(name, features(*c))]
    said = [(_rows(name, features(*c)), right) for c, right in clips(WORDS[name], "test")]
    test = [row for rows, _ in said for row in rows]

    def score(outputs, references):
        ends = np.cumsum([len(rows) for rows, _ in said])[:-1]
        answers = np.array([_answer([outputs[i] for i in part]) for part in np.split(np.arange(len(test)), ends)])
        a, b = (np.stack([o[0].reshape(-1) for o in side]) for side in (outputs, references))
        same = (a.argmax(1) == b.argmax(1)) & ((a > 0.5) == (b > 0.5)).all(1)
        return {"agreement": same.astype(float), "correlation": np.stack([a[:, -1], b[:, -1]], 1),
                "words": (answers == np.array([right for _, right in said])).astype(float)}
    return Task([{key: row} for row in _some(calibration, samples)], [{key: row} for row in test], score,
                f"{len(test)} windows of {len(said)} spoken clips", "words")


# --- Silero VAD -------------------------------------------------------------------------------------------------------

def voice_activity(name: str, samples: int) -> Task:
    """Windows of 512 samples with 0.3 s of near silence around each recording, through which the state runs."""
    def cut(part):
        rng, out = np.random.default_rng(0), []
        for x in recordings(part):
            x = np.pad(x, RATE * 3 // 10)
            x = (x + 1e-4 * rng.standard_normal(len(x))).astype(np.float32)
            for i in range(0, len(x) - 511, 512):
                fresh = {k: np.zeros((2, 1, 64), np.float32) for k in "hc"} if i == 0 else {}
                out.append({"input": x[None, i: i + 512], "sr": real_models.EXACT["sr"], **fresh})
        return out

    def score(outputs, references):
        a, b = (np.array([float(o[0].reshape(-1)[0]) for o in side]) for side in (outputs, references))
        return {"agreement": ((a > 0.5) == (b > 0.5)).astype(float), "correlation": np.stack([a, b], 1)}
    calibration, test = cut("calibration"), cut("test")
    graph, state = _graph(name), {}
    for x in calibration:  # the state that the float network would have
        x |= {k: v for k, v in state.items() if k not in x}
        made = {k: v.numpy() for k, v in run(graph, x).items()}
        state = {"h": made["hn"], "c": made["cn"]}
    return Task(_some(calibration, samples), test, score, f"{len(test)} windows of recorded speech", state={1: "h", 2: "c"})
