"""Several processes for one command, on this machine: what torchrun does, with the command's own exit codes and errors.

Each process is told its number by the environment, as torchrun would (see passes/ranks.py), and is a session of its own, so
that Ctrl-C reaches this one alone, which passes it on. When one ends early, the others are ended too. What people see comes
from the first process; the complaints of another one are shown only when it was that one that failed.
"""
from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

from . import show

GRACE = 10  # seconds for a process to end by itself after it was told to


def run(args: list[str], count: int) -> int:
    """`mcc ARGS` in `count` processes; returns the exit code of the one that failed first, 0 when none did."""
    with tempfile.TemporaryFile("w+") as complaints:
        processes = [_start(args, i, count, complaints) for i in range(count)]
        try:
            failed = _wait(processes)
        except KeyboardInterrupt:
            _end(processes, signal.SIGINT)
            return _code(processes[0].returncode)
        if failed is None:
            return 0
        code = processes[failed].returncode
        _end(processes, signal.SIGTERM, patience=GRACE)
        if code < 0 or failed > 0 and code != 2:  # what is wrong with the input, the first process has said
            complaints.seek(0)
            for line in complaints.read().splitlines()[-20:]:
                show.note(f"process {failed}: {line}")
            what = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
            show.note(f"mcc: process {failed} (of 0 to {count - 1}) {what}; the same command goes on from the last finished pass")
        return _code(code)


def _start(args: list[str], number: int, count: int, complaints) -> subprocess.Popen:
    lo = "lo0" if sys.platform == "darwin" else "lo"
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // count))
    env = {"GLOO_SOCKET_IFNAME": lo, **os.environ, "OMP_NUM_THREADS": threads, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _port(),
           "WORLD_SIZE": str(count), "RANK": str(number), "LOCAL_RANK": str(number)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": complaints} if number else {}
    return subprocess.Popen([sys.executable, "-m", "mcc.cli", *args], env=env, start_new_session=True, **quiet)


_chosen: list[str] = []


def _port() -> str:
    """A port that is free now, the same for all processes."""
    if not _chosen:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            _chosen.append(str(s.getsockname()[1]))
    return _chosen[0]


def _wait(processes: list[subprocess.Popen]) -> int | None:
    """The number of the first process that fails, None when all end well."""
    while True:
        codes = [p.poll() for p in processes]
        failed = [i for i, c in enumerate(codes) if c]
        if failed:
            return failed[0]
        if None not in codes:
            return None
        time.sleep(0.05)


def _end(processes: list[subprocess.Popen], how: signal.Signals, patience: float = 0) -> None:
    """Ends those that still run: by themselves within `patience`, else told by a signal, else killed."""
    for wait, tell in ((patience, None), (GRACE, how), (GRACE, signal.SIGKILL)):
        for p in processes:
            if tell is not None and p.poll() is None:
                p.send_signal(tell)
        end = time.monotonic() + wait
        while time.monotonic() < end and any(p.poll() is None for p in processes):
            time.sleep(0.05)


def _code(code: int | None) -> int:
    return 130 if code in (None, -signal.SIGINT) else 3 if code < 0 else code
