"""The engine for Python: Session opens a .mcc file and runs it.

    session = Session("model.mcc")
    scores = session.run({"image": image})["scores"]
"""
from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from typing import Any

try:
    from . import _core
    from ._core import EngineError
except ImportError as error:  # not built, or built by another Python
    raise ImportError(f"mcc's engine is not built ({error}); run `make ext`, or reinstall mcc") from error

__all__ = ["EngineError", "Kernel", "Port", "Session", "Times", "isa", "kernels", "ops", "peak"]

# ONNX's numbers of element types. bfloat16 is float32 for the caller: numpy has no such type.
_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
           10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16"}

STATES = ("none", "unused", "used")  # of what a file has for one machine
_opening = Lock()  # the ISA limit is the process's, so a Session that sets one opens alone


@dataclass(frozen=True)
class Port:
    """One input or output, as the original model has it. dtype is a numpy name, or "bfloat16" (float32 arrays)."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Kernel:
    """One micro-kernel: its family, name, the ISA words it needs ("c" for none), and whether this CPU has them."""

    family: str
    name: str
    isa: str
    runs: bool


@dataclass(frozen=True)
class Times:
    """ms: milliseconds of each run. When asked for, ops: what `profile` gives, of these same runs; covered: the share of a
    run that its ops add up to (the median over the runs)."""

    ms: list[float]
    ops: list[dict]
    covered: float


class Session:
    """A .mcc model, opened and ready to run.

    model    a path, or the file's bytes
    threads  1 to 64, or "auto" (0): as many as pay, found by a few runs
    isa      keep only these ISA words ("avx2", "c"...), to test or compare kernels; None for all the CPU has
    kernel   where a layer could be served by this micro-kernel (a name of kernels()) and others, it is

    Raises EngineError (damaged, other version, unsupported op: one line that says where and why), OSError,
    MemoryError, or ValueError for a bad argument. Calls of `run` from several threads wait for each other;
    `clone` gives each thread its own session, sharing the weights.
    """

    def __init__(self, model: str | os.PathLike | bytes, threads: int | str = 1, isa: str | None = None,
                 kernel: str | None = None):
        with _opening:
            try:
                _core.limit_isa(isa)
                _core.limit_kernel(kernel)
                net = _core.open_bytes(bytes(model)) if isinstance(model, (bytes, bytearray, memoryview)) else _core.open(model)
            finally:
                _core.limit_isa(None)
                _core.limit_kernel(None)
        if threads != 1:
            net.set_threads(_thread_count(threads))
        self._bind(net)

    def _bind(self, net) -> None:
        self._net, self._lock = net, Lock()
        self._in = [(_port(p), _view(p)) for p in net.inputs()]
        self._out = [(_port(p), _view(p)) for p in net.outputs()]

    def clone(self, threads: int | str = 1) -> Session:
        """Another session of the same model with its own activations and threads, and the same weights."""
        new = object.__new__(Session)
        net = self._net.clone()
        if threads != 1:
            net.set_threads(_thread_count(threads))
        new._bind(net)
        return new

    @property
    def inputs(self) -> list[Port]:
        return [port for port, _ in self._in]

    @property
    def outputs(self) -> list[Port]:
        return [port for port, _ in self._out]

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """One inference. `inputs` maps every input's name to an array of exactly its shape and dtype (Python
        numbers and lists are converted); the result maps output names to arrays of their own."""
        arrays = self._check(inputs)
        with self._lock:
            for (_, view), array in zip(self._in, arrays):
                view[...] = array
            self._net.run()
            return {port.name: _result(port, view) for port, view in self._out}

    def profile(self, inputs: Mapping[str, Any] | None = None, runs: int = 10) -> list[dict]:
        """Where the time goes: per node {"name", "op", "kernel", "ms", "macs"}, ms being the median of `runs`
        runs after one more. Without `inputs` all are zeros."""
        if runs < 1:
            raise ValueError(f"profile: runs must be at least 1, got {runs}")
        arrays = None if inputs is None else self._check(inputs)
        with self._lock:
            self._net.set_profile(True)
            try:
                samples = []
                for _ in range(runs + 1):
                    for i, (_, view) in enumerate(self._in):
                        view[...] = 0 if arrays is None else arrays[i]
                    self._net.run()
                    samples.append(self._net.profile())
            finally:
                self._net.set_profile(False)
        return _rows(samples[1:])

    def times(self, inputs: Mapping[str, Any], seconds: float = 0.5, least: int = 5, most: int = 100_000, warm: int = 1,
              ops: bool = False) -> Times:
        """Repeated runs on inputs written once: at least `least`, then until `seconds` are over or there are `most`."""
        run, clock = self.bound(inputs), perf_counter
        spent: list[float] = []
        samples: list[list[tuple]] = []
        with self._lock:
            for _ in range(warm):
                run()
            self._net.set_profile(ops)
            try:
                end = clock() + seconds
                while len(spent) < least or (len(spent) < most and clock() < end):
                    start = clock()
                    run()
                    spent.append((clock() - start) * 1e3)
                    if ops:
                        samples.append(self._net.profile())
            finally:
                self._net.set_profile(False)
        shares = sorted(sum(row[3] for row in sample) / ms for sample, ms in zip(samples, spent))
        return Times(spent, _rows(samples), shares[len(shares) // 2] if shares else 0.0)

    def bound(self, inputs: Mapping[str, Any]):
        """The engine's bare run, for timing: a function without arguments that runs on these inputs, copied once. Its
        results are those of the next `run`; not to be called while another thread uses the session."""
        with self._lock:
            for (_, view), array in zip(self._in, self._check(inputs)):
                view[...] = array
        return self._net.run

    def prepack(self, path: str | os.PathLike) -> None:
        """Write the model to `path`, another file than its own, with the weights as this machine has packed them: on its
        equals, opening that file only maps them."""
        self._net.prepack(path)

    @property
    def facts(self) -> dict:
        """arena_bytes (activations), weight_bytes (packed and decoded weights made at open), threads, isa, note
        (what the file says about itself), packed (packed weights in the file: "none", "unused" because another machine or
        engine made them, or "used"), packed_bytes (of the file, used in place), tuned (kernels chosen by measurement: "none",
        "unused" because they are another machine's, or "used")."""
        arena, weights, threads, words, note, packed, packed_bytes, tuned = self._net.facts()
        try:
            parsed = json.loads(note) if note else {}
        except ValueError as error:
            raise EngineError(f"the file's note is not JSON: {error}") from None
        return {"arena_bytes": arena, "weight_bytes": weights, "threads": threads, "isa": words, "note": parsed,
                "packed": STATES[packed], "packed_bytes": packed_bytes, "tuned": STATES[tuned]}

    def _check(self, inputs: Mapping[str, Any]) -> list:
        import numpy as np

        names = [port.name for port, _ in self._in]
        if set(names) != set(inputs):
            raise ValueError(f"the model takes inputs {_list(names)}; got {_list(inputs)}")
        arrays = []
        for port, _ in self._in:
            given = inputs[port.name]
            dtype = _numpy_dtype(port.dtype)
            array = np.asarray(given) if hasattr(given, "dtype") else np.asarray(given, dtype)
            if array.shape != port.shape:
                raise ValueError(f"input {port.name!r}: shape {array.shape}, the model takes {port.shape}")
            if array.dtype != dtype:
                raise ValueError(f"input {port.name!r}: dtype {array.dtype}, the model takes {dtype}"
                                 f' (array.astype("{dtype}"))')
            arrays.append(_to_bfloat16(array) if port.dtype == "bfloat16" else array)
        return arrays


def kernels() -> list[Kernel]:
    """Every micro-kernel of this build, best first within its family."""
    return [Kernel(*row) for row in _core.kernels()]


def ops() -> list[str]:
    """The names of all ops that this engine runs."""
    return _core.ops()


def isa() -> str:
    """The ISA words of this CPU, best last: "c avx2 avx512"."""
    return _core.isa()


def machine() -> tuple[int, int, str]:
    """What choices of kernels hold for: the bits of the CPU's ISA words, the checksum of all kernels' names, the CPU's model."""
    return _core.machine()


def peak(what: str) -> float:
    """What one thread of this machine does at most, measured in some 30 ms: "f32" and "s8" in 10^9 multiplications and
    additions a second from registers, "copy" in 10^9 bytes a second read and written in memory."""
    return _core.peak(what)


def _rows(samples: list[list[tuple]]) -> list[dict]:
    """Per node the median of its times in `samples`."""
    rows = []
    for node in zip(*samples):
        name, op, kernel, _, macs = node[0]
        times = sorted(row[3] for row in node)
        rows.append({"name": name, "op": op, "kernel": kernel, "ms": times[len(times) // 2], "macs": macs})
    return rows


def _thread_count(threads: int | str) -> int:
    if isinstance(threads, str) and threads == "auto":
        return 0
    if isinstance(threads, str) or not 0 <= threads <= 64:
        raise ValueError(f'threads must be 1 to 64, or "auto" (0); got {threads!r}')
    return threads


def _numpy_dtype(name: str):
    import numpy as np
    return np.dtype("float32" if name == "bfloat16" else name)


def _port(raw) -> Port:
    name, kind, shape, _ = raw
    return Port(name, shape, _DTYPES[kind])


def _view(raw):
    """A port's memory as an array; bfloat16 as its bits."""
    import numpy as np

    _, kind, shape, memory = raw
    dtype = "uint16" if _DTYPES[kind] == "bfloat16" else _DTYPES[kind]
    return np.frombuffer(memory, dtype).reshape(shape) if memory.nbytes else np.empty(shape, dtype)


def _result(port: Port, view):
    import numpy as np

    if port.dtype == "bfloat16":
        return (view.astype(np.uint32) << 16).view(np.float32)
    return view.copy()


def _to_bfloat16(array):
    """float32 to the bits of bfloat16, nearest even; NaN stays NaN."""
    import numpy as np

    bits = np.ascontiguousarray(array).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(array), bits >> 16 | 0x40, rounded).astype(np.uint16).reshape(array.shape)


def _list(names) -> str:
    return ", ".join(map(repr, names)) or "none"
