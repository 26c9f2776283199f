"""Other runtimes, each in a process of its own, so that the threads of one never disturb the other: while one is timed
the others wait for their pipe.

    with Peer("onnxruntime") as peer:
        [file] = peer.convert({"onnx": "m.onnx"}, "fp32", "", "folder")
        peer.open(file, "fp32", threads=1, inputs=arrays)
        milliseconds = peer.burst(seconds=0.2)

To add a runtime: a file with_NAME.py beside this one (server.py says what is in it) and a line in RIVALS.
"""
from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SETTLE = 0.1  # seconds between two runtimes' turns: threads that spin after a run (LiteRT's: 60 ms) have gone to sleep by then


@dataclass(frozen=True)
class Rival:
    """packages: what `pip install` needs to run it; module: what it is imported as; takes: what it converts from, best
    first; converter: the module that the conversion needs besides, and its package; precisions: variants of each."""

    packages: str
    module: str
    takes: tuple[str, ...]
    precisions: dict[str, tuple[str, ...]]
    converter: tuple[str, str] | None = None


PLAIN, QUANTIZED = ("",), ("static", "dynamic")
RIVALS = {
    "onnxruntime": Rival("onnxruntime onnx", "onnxruntime", ("onnx",), {"fp32": PLAIN, "int8": QUANTIZED}),
    "openvino": Rival("openvino", "openvino", ("onnx",), {"fp32": PLAIN, "bf16": PLAIN, "int8": QUANTIZED}),
    "ncnn": Rival("ncnn pnnx", "ncnn", ("torchscript", "onnx"), {"fp32": PLAIN, "bf16": PLAIN}, ("pnnx", "pnnx")),
    "mnn": Rival("MNN", "MNN", ("onnx",), {"fp32": PLAIN, "int8": ("dynamic",)}),
    "litert": Rival("ai-edge-litert", "ai_edge_litert", ("pt2",), {"fp32": PLAIN, "int8": QUANTIZED},
                    ("litert_torch", "litert-torch")),
    "executorch": Rival("executorch", "executorch", ("pt2",), {"fp32": PLAIN, "int8": QUANTIZED}),
}


class PeerError(Exception):
    """A runtime could not do it; the text is one line that says why."""


class Peer:
    """One runtime in its process. python: the interpreter of the environment that has it; cores: those it is kept on;
    environment: variables besides this process's own."""

    def __init__(self, runtime: str, python: str | os.PathLike = sys.executable, cores: list[int] | None = None,
                 environment: dict[str, str] | None = None):
        self.runtime, self.python, self.cores, self.environment = runtime, python, cores, environment or {}
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc) -> None:
        self.stop()

    def convert(self, source: dict[str, str], precision: str, variant: str, folder) -> str:
        """The file that `open` takes, made in `folder` from source {"onnx", "pt2", "torchscript": path, "calibration": npz}."""
        return self.ask("convert", source=source, precision=precision, variant=variant, folder=os.fspath(folder), limit=900)

    def open(self, file, precision: str, threads: int, inputs: dict, variant: str = "") -> dict:
        """Opens a model in place of the one before, runs it once: {"outputs": arrays, "says": what the runtime chose}."""
        return self.ask("open", file=os.fspath(file), precision=precision, threads=threads, inputs=inputs, variant=variant)

    def burst(self, seconds: float, least: int = 3, most: int = 100_000) -> list[float]:
        """One run that does not count, then milliseconds of runs, timed inside the process."""
        return self.ask("burst", seconds=seconds, least=least, most=most)

    def close(self) -> None:
        """Forgets the model."""
        if self.process is not None:
            self.ask("close")

    def facts(self) -> dict:
        """{"version", "peak_rss_bytes"}."""
        return self.ask("facts")

    def ask(self, verb: str, limit: float = 300, **how):
        if self.process is None:
            self._start()
        body = pickle.dumps((verb, how))
        try:
            self.process.stdin.write(struct.pack("<Q", len(body)) + body)
            self.process.stdin.flush()
            ok, answer = pickle.loads(self._read(limit))
        except (EOFError, BrokenPipeError) as e:
            why = f"no answer within {limit:.0f} s" if isinstance(e, TimeoutError) else self._ended()
            self.stop()
            raise PeerError(f"{self.runtime}: {why}") from None
        if not ok:
            raise PeerError(answer)
        return answer

    def _start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OMP_NUM_THREADS")}
        if self.runtime == "mcc":
            command = [sys.executable, "-m", f"{__name__}.server"]
        else:
            command = [os.fspath(self.python), os.fspath(HERE / "server.py")]
        environment |= self.environment
        self.process = subprocess.Popen([*command, self.runtime, ",".join(map(str, self.cores or []))], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)

    def _read(self, limit: float) -> bytes:
        size = struct.unpack("<Q", self._take(8, limit))[0]
        return self._take(size, limit)

    def _take(self, size: int, limit: float) -> bytes:
        made, pipe = b"", self.process.stdout.fileno()
        while len(made) < size:
            if not select.select([pipe], [], [], limit)[0]:
                raise _Late
            part = os.read(pipe, min(size - len(made), 1 << 20))
            if not part:
                raise EOFError
            made += part
        return made

    def _ended(self) -> str:
        code = self.process.wait()
        return f"its process was ended by {signal.Signals(-code).name}" if code < 0 else f"its process stopped with code {code}"

    def stop(self) -> None:
        """Ends the process; the next call starts another."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


class _Late(EOFError, TimeoutError):
    pass


def cores(threads: int) -> list[int]:
    """The last cores of those this process may use: interrupts and other programs prefer the first."""
    return sorted(os.sched_getaffinity(0))[-threads:] if hasattr(os, "sched_getaffinity") else []
