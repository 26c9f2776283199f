"""The process of one runtime: python server.py RUNTIME [CORES]. Stands alone, for it runs in the runtime's environment.

Requests on stdin and answers on stdout: 8 bytes of length, then a pickle of (verb, arguments) or (ok, answer). What the
runtime prints goes to stderr. A file with_RUNTIME.py has

    convert(source, precision, variant, folder) -> path      raises any exception whose text says why not
    class Model: __init__(file, precision, threads, inputs, variant), run(), outputs() -> list of arrays, says: str
    version() -> str
"""
from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import struct
import sys
import time


def main(runtime: str, cores: str = "") -> None:
    if cores and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # cores that were taken away meanwhile: the system chooses
            os.sched_setaffinity(0, {int(c) for c in cores.split(",")})
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print to stdout from C
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"with_{runtime}.py")
    spec = importlib.util.spec_from_file_location(f"with_{runtime}", place)
    served = Server(spec)
    while head := requests.read(8):
        verb, how = pickle.loads(requests.read(struct.unpack("<Q", head)[0]))
        try:
            answer = True, getattr(served, verb)(**how)
        except Exception as e:  # of the runtime's or its converter's: whatever it is, it is said to the one who asked
            text = " ".join(str(e).split())
            answer = False, f"{type(e).__name__}: {text[:300]}" if text else type(e).__name__
        body = pickle.dumps(answer)
        answers.write(struct.pack("<Q", len(body)) + body)
        answers.flush()


class Server:
    """One method per verb."""

    def __init__(self, spec):
        self.spec, self.loaded, self.model = spec, None, None

    @property
    def runtime(self):
        if self.loaded is None:  # so that a missing package is an answer, not a dead process
            self.loaded = importlib.util.module_from_spec(self.spec)
            self.spec.loader.exec_module(self.loaded)
        return self.loaded

    def convert(self, source, precision, variant, folder):
        os.makedirs(folder, exist_ok=True)
        folder, before = os.path.abspath(folder), os.getcwd()
        source = {kind: os.path.abspath(v) if isinstance(v, str) else v for kind, v in source.items()}
        runtime = self.runtime
        os.chdir(folder)  # some converters leave scratch files where they stand
        try:
            return os.path.abspath(runtime.convert(source, precision, variant, folder))
        finally:
            os.chdir(before)

    def open(self, file, precision, threads, inputs, variant):
        self.model = None
        self.model = self.runtime.Model(file, precision, threads, inputs, variant)
        self.model.run()
        return {"outputs": self.model.outputs(), "says": getattr(self.model, "says", "")}

    def burst(self, seconds, least, most):
        run, clock, spent = self.model.run, time.perf_counter, []
        run()
        end = clock() + seconds
        while len(spent) < least or (len(spent) < most and clock() < end):
            start = clock()
            run()
            spent.append((clock() - start) * 1e3)
        return spent

    def close(self):
        self.model = None

    def facts(self):
        import resource
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        if sys.platform == "linux":  # ru_maxrss begins with the parent's peak, VmHWM with this program's own
            with open("/proc/self/status") as status:
                peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
        return {"version": self.runtime.version(), "peak_rss_bytes": peak}


if __name__ == "__main__":
    main(*sys.argv[1:])
