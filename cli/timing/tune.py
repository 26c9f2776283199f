"""`mcc lower --tune`: for each layer the kernel that is the fastest on this machine, by measurement.

Each kernel in turn serves every layer that it can (as `mcc bench --kernels` forces it), in runs of the whole network beside runs of
the engine's own picks, so that caches are as warm or cold as they will be. A layer's time with a kernel is compared with the one
without right beside it. What won is put into the file and must win once more there, all together; what does not is taken out.
"""
from __future__ import annotations

import statistics
from pathlib import Path

GAIN = 0.97        # of the time that a kernel takes in place of the engine's pick, at most
ROUNDS = 3         # bursts of each in turn; of all choices together, FINAL of them
FINAL = 7
FAMILIES = ("gemm", "winograd")  # those whose layers have several kernels of one machine


def tune(file: Path) -> list[dict]:
    """Writes the choices into `file`; returns them: {"name", "op", "pick", "kernel", "ms", "pick_ms"}. One thread."""
    from ...kernels import EngineError, Session, machine
    from ...passes.errors import UserError
    from ...passes.lower.choices import write_choices
    from ..engine import filled, session
    write_choices(file, machine(), {})
    if not machine()[2]:
        raise UserError("--tune: this machine does not say what CPU it has, so choices could not be told from another's; leave it out")
    plain = session(file)
    inputs = filled(plain.inputs)
    picks = plain.profile(inputs, 2)
    best: dict[int, tuple[float, str]] = {}
    for name in _candidates({p["kernel"] for p in picks}):
        try:
            forced = Session(file, kernel=name)
        except (EngineError, ValueError):
            continue
        served = [i for i, p in enumerate(forced.profile(inputs, 1)) if p["kernel"] == name != picks[i]["kernel"]]
        if not served:
            continue
        shares = _shares(forced, plain, inputs)
        for i in served:
            if shares[i][0] < best.get(i, (GAIN, ""))[0]:
                best[i] = shares[i][0], name
    chosen = {i: name for i, (_, name) in best.items()}
    while chosen:
        write_choices(file, machine(), chosen)
        shares = _shares(Session(file), plain, inputs, FINAL)
        worse = [i for i in chosen if shares[i][0] >= GAIN]
        if not worse:
            break
        for i in worse:
            del chosen[i]
        write_choices(file, machine(), chosen)
    return [{"name": picks[i]["name"], "op": picks[i]["op"], "pick": picks[i]["kernel"], "kernel": name, "ms": shares[i][1],
             "pick_ms": shares[i][2]} for i, name in sorted(chosen.items())]


def _candidates(picked: set[str]) -> list[str]:
    """Kernels of the families that runs here and need no less than a pick of the same kind does: what an older CPU has is slower."""
    from ...kernels import kernels
    rows = [k for k in kernels() if k.family in FAMILIES and k.runs]
    kinds = {k.name.split("_")[1] for k in rows if k.name in picked}
    wanted = {k.isa for k in rows if k.name in picked} | {k.isa for k in rows if k.isa.split()[-1:] in (["avx512amx"], ["avx512bf16"])}
    return [k.name for k in rows if k.isa in wanted and (k.name.split("_")[1] in kinds or "bf16" in k.name)]


def _shares(one, other, inputs: dict, rounds: int = ROUNDS) -> list[tuple[float, float, float]]:
    """Per node the time in `one` through that in `other`, the median over pairs of runs, and both medians in ms."""
    pairs = []
    for turn in range(rounds):
        both = [s.times(inputs, 0.01, least=2, warm=1, ops=True).ops for s in ((one, other) if turn % 2 else (other, one))]
        pairs.append(both if turn % 2 else both[::-1])
    made = []
    for i in range(len(pairs[0][0])):
        ours, others = [a[i]["ms"] for a, _ in pairs], [b[i]["ms"] for _, b in pairs]
        made.append((statistics.median(a / max(b, 1e-9) for a, b in zip(ours, others)), statistics.median(ours), statistics.median(others)))
    return made
