"""`mcc lower --tune`: for each layer the kernel that is the fastest on this machine, by measurement.

Each kernel in turn serves every layer that it can (as `mcc bench --kernels` forces it), in runs of the whole network beside runs
of the engine's own picks, so that caches are as warm or cold as they will be. A layer's time with a kernel is compared with the
one without right beside it. What won is put into the file and must win there once more, all together; what does not goes.
"""
from __future__ import annotations

import statistics
from pathlib import Path

GAIN = 0.97            # of the time with the engine's pick, at most
ROUNDS, FINAL = 3, 7   # bursts of each in turn, for a kernel; for all choices together
BURST = 0.01           # seconds
FAMILIES = ("gemm", "winograd")  # those whose layers have several kernels of one machine


def tune(file: Path) -> list[dict]:
    """Writes the choices into `file`; returns them: {"name", "op", "pick", "kernel", "ms", "pick_ms"}. One thread."""
    from ...kernels import EngineError, Session, machine
    from ...passes.errors import UserError
    from ...passes.lower.choices import write_choices
    from ..engine import filled, session
    if not machine()[2]:
        raise UserError("--tune: this machine does not say which CPU it has, so the choices would hold nowhere; leave it out")
    write_choices(file, machine(), {})
    plain = session(file)
    inputs = filled(plain.inputs)
    picks = plain.profile(inputs, 2)
    best: dict[int, tuple[float, str]] = {}
    for name in candidates({p["kernel"] for p in picks}):
        try:
            forced = Session(file, kernel=name)
        except (EngineError, ValueError):
            continue
        served = [i for i, p in enumerate(forced.profile(inputs, 1)) if p["kernel"] == name != picks[i]["kernel"]]
        shares = _shares(forced, plain, inputs, ROUNDS) if served else []
        for i in served:
            if shares[i][0] < best.get(i, (GAIN, ""))[0]:
                best[i] = shares[i][0], name
    chosen = {i: name for i, (_, name) in best.items()}
    worse: list[int] = list(chosen)
    while worse:
        write_choices(file, machine(), chosen)
        shares = _shares(session(file), plain, inputs, FINAL) if chosen else []
        worse = [i for i in chosen if shares[i][0] >= GAIN]
        for i in worse:
            del chosen[i]
    return [{"name": picks[i]["name"], "op": picks[i]["op"], "pick": picks[i]["kernel"], "kernel": name, "ms": shares[i][1],
             "pick_ms": shares[i][2]} for i, name in sorted(chosen.items())]


def candidates(picked: set[str]) -> list[str]:
    """Kernels that this CPU runs, of the types that the picks multiply in (for bfloat16 float32 too), and of their ISAs or
    better ones: kernels for older CPUs do not win."""
    from ...kernels import Kernel, kernels

    def kind(k: Kernel) -> tuple[str, str]:
        return k.family, k.name.split("_")[1]
    rows = [k for k in kernels() if k.family in FAMILIES and k.runs]
    used = {k.isa for k in rows if k.name in picked}
    types = {kind(k)[1] for k in rows if k.name in picked}
    types |= {"f32"} if "bf16" in types else set()
    made = []
    for one in dict.fromkeys(kind(k) for k in rows if kind(k)[1] in types):
        alike = [k for k in rows if kind(k) == one]
        last = max((i for i, k in enumerate(alike) if k.isa in used), default=0)
        words = {k.isa for k in alike[:last + 1]}
        made += [k.name for k in alike if k.isa in words]
    return made


def _shares(one, other, inputs: dict, rounds: int) -> list[tuple[float, float, float]]:
    """Per node the time in `one` through that in `other`, the median over pairs of bursts, and both medians in ms."""
    pairs = []
    for turn in range(rounds):
        order = (one, other) if turn % 2 else (other, one)
        both = [s.times(inputs, BURST, least=2, warm=1, ops=True).ops for s in order]
        pairs.append(both if turn % 2 else both[::-1])
    made = []
    for i in range(len(pairs[0][0])):
        ours, theirs = ([p[side][i]["ms"] for p in pairs] for side in (0, 1))
        share = statistics.median(a / max(b, 1e-9) for a, b in zip(ours, theirs))
        made.append((share, statistics.median(ours), statistics.median(theirs)))
    return made
