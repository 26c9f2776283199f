"""`mcc bench --target ssh:... or adb`: the runner and a model on a device, in a folder that is gone afterwards."""
from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import connected
from .base import Device, _last

LEAST = 50     # timed runs
WARM = 1.0     # seconds of runs before them, so that the governor has seen the load
ARCHES = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86-64"}
CPU = "/sys/devices/system/cpu"
ASK = f"""echo "arch $(uname -m)"; echo "name $(getprop ro.product.model 2>/dev/null || uname -n)"
for d in {CPU}/cpu[0-9]*; do echo "core ${{d##*/cpu}} $(cat $d/cpufreq/cpuinfo_max_freq 2>/dev/null)"; done
echo "allowed $(sed -n 's/^Cpus_allowed_list:[^0-9]*//p' /proc/self/status)"
command -v taskset >/dev/null 2>&1 && echo "taskset yes"; true"""
# The clock of the first core of those in use, its governor, and the warmest zone that is the processor's, else of all.
STATE = f"""echo "{{when}} mhz $(cat {CPU}/cpu{{core}}/cpufreq/scaling_cur_freq 2>/dev/null)"
echo "{{when}} governor $(cat {CPU}/cpu{{core}}/cpufreq/scaling_governor 2>/dev/null)"
for z in /sys/class/thermal/thermal_zone*; do
echo "{{when}} zone $(cat $z/temp 2>/dev/null) $(cat $z/type 2>/dev/null)"; done"""
OUTSIDE = 1e-3  # of the outputs' range: more than float rounding


@dataclass(frozen=True)
class Options:
    """cores: "4-7", "4,5", "all", or "" for the fastest ones; prefix: words put before the runner on the device (an emulator);
    folder: where there the temporary one is made."""

    cores: str = ""
    prefix: str = ""
    folder: str | None = None


def measure(target: str, options: Options, file: Path, threads: int, seconds: float) -> dict:
    """The facts of `mcc bench` that a device gives. Raises TargetError."""
    wanted = cores(options.cores)
    prefix = options.prefix or os.environ.get("MCC_RUNNER_PREFIX") or ""
    with connected(target, options.folder) as device, tempfile.TemporaryDirectory() as place:
        about = _about(device)
        use = _chosen(device, about, wanted, threads)
        device.push(_runner(device, about["arch"]), "mcc-run")
        device.push(file, "model.mcc")
        inputs = _push_inputs(device, file, Path(place))
        words = [*shlex.split(prefix), "./mcc-run", "model.mcc", "--threads", str(threads), "--runs", str(LEAST),
                 "--warm", str(min(WARM, seconds)), "--seconds", str(seconds), "--ops", "--json", *inputs]
        found, states, pinned = _run(device, words, use)
        error = _error(device, file, inputs, Path(place))
    ops = [n | ({"gflops": 2 * n["macs"] / max(n["ms"], 1e-6) / 1e6} if n["macs"] else {}) for n in found["ops"]]
    latency = found["latency_ms"]
    return {"isa": found["isa"], "threads": found["threads"], "estimated": False, "latency_ms": latency,
            **{k: found[k] for k in ("cold_start_ms", "peak_rss_bytes", "arena_bytes", "weight_bytes")},
            "model_bytes": os.path.getsize(file), "macs": sum(n["macs"] for n in ops),
            "ops_share": sum(n["ms"] for n in ops) / latency["median"], "ops": ops, "vs": {},
            "device": {"name": about["name"], "arch": about["arch"], "cores": use if pinned else None, "prefix": prefix or None,
                       "core": found.get("core") or None, "midr": found.get("midr"), **states, "max_error": error,
                       "agrees": bool(error <= OUTSIDE) if inputs else None}}


def cores(text: str) -> list[int] | None:
    """"0,4-6" as numbers; "" for none named, "all" for an empty list. Raises UserError."""
    from ...passes.errors import UserError
    if text in ("", "all"):
        return [] if text else None
    made: set[int] = set()
    for part in text.split(","):
        m = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", part.strip())
        if not m or int(m[2] or m[1]) < int(m[1]):
            raise UserError(f"--cores {text}: write numbers like 4-7 or 0,2, or all")
        made |= set(range(int(m[1]), int(m[2] or m[1]) + 1))
    return sorted(made)


def _about(device: Device) -> dict:
    rows = [line.split(maxsplit=2) for line in device.run(ASK).out.splitlines()]
    said = {r[0]: " ".join(r[1:]) for r in rows if r and r[0] != "core"}
    machine = said.get("arch", "")
    if machine not in ARCHES:
        raise device.error(f"the device is {machine or 'of an unknown kind'}; mcc runs on arm64 and x86-64")
    clocks = {int(r[1]): int(r[2]) if r[2:] and r[2].isdigit() else 0
              for r in rows if r[:1] == ["core"] and r[1:] and r[1].isdigit()}
    allowed = set(cores(said["allowed"]) or []) if said.get("allowed") else set(clocks)
    return {"arch": ARCHES[machine], "name": said.get("name", ""), "taskset": "taskset" in said,
            "clocks": {core: clock for core, clock in clocks.items() if core in allowed}}


def _chosen(device: Device, about: dict, wanted: list[int] | None, threads: int) -> list[int]:
    """The cores to pin to: those named, else the fastest, the last of them first: the first one serves interrupts."""
    there = about["clocks"]
    if wanted:
        if missing := [c for c in wanted if there and c not in there]:
            raise device.error(f"it has no core {missing[0]}; there is {', '.join(map(str, sorted(there)))}")
        if not about["taskset"]:
            raise device.error("it has no taskset, so cores cannot be named; leave --cores out")
        return wanted
    if wanted == [] or not about["taskset"] or not there:
        return []
    if not threads:  # as many as pay: all that are as fast as the fastest
        return sorted(c for c in there if there[c] == max(there.values()))
    return sorted(sorted(there, key=lambda c: (-there[c], -c))[:threads])


def _runner(device: Device, arch: str) -> Path:
    from ..arm64.build import build, native
    if arch == "x86-64" and native():
        raise device.error("the device is x86-64; its runner can only be built on an x86-64 machine")
    return build("mcc-run", "arm64" if arch == "arm64" else "host")


def _run(device: Device, words: list[str], use: list[int]) -> tuple[dict, dict, bool]:
    """What mcc-run printed, the states around it, and whether it was pinned."""
    mask = f"{sum(1 << c for c in use):x}"
    pin = f'P="taskset {mask}"; $P true 2>/dev/null || P=' if use else "P="
    core = use[0] if use else 0
    done = device.run(f'chmod 755 mcc-run; {pin}; echo "pinned $P"\n{STATE.format(when="before", core=core)}\n'
                      f'held $P {shlex.join(words)} >json 2>errors; c=$?\n{STATE.format(when="after", core=core)}\n'
                      'cat errors >&2; cat json; exit $c')
    rows = [line.split(maxsplit=3) for line in done.out.splitlines() if not line.startswith("{")]
    text = next((line for line in done.out.splitlines() if line.startswith("{")), "")
    if done.code or not text:
        raise device.error(f"mcc-run failed there ({'; '.join(filter(None, [_last(done.err), _ended(done.code)]))})")
    states = {f"{what}_{when}": value for when in ("before", "after")
              for what, value in (("mhz", _mhz(rows, when)), ("celsius", _celsius(rows, when)))}
    governor = next((r[2] for r in rows if r[:2] == ["before", "governor"] and len(r) > 2), None)
    return json.loads(text), {"governor": governor, **states}, ["pinned", "taskset"] in [r[:2] for r in rows]


def _ended(code: int) -> str:
    return {126: "it cannot be executed: is the folder mounted noexec? name another with --device-folder",
            127: "a word of the runner's prefix is not there", 132: "an instruction that the CPU lacks", 137: "killed",
            }.get(code, f"exit code {code}")


def _mhz(rows: list[list[str]], when: str) -> float | None:
    return next((int(r[2]) / 1000 for r in rows if r[:2] == [when, "mhz"] and len(r) > 2 and r[2].isdigit()), None)


def _celsius(rows: list[list[str]], when: str) -> float | None:
    zones = [(int(r[2]) / 1000, r[3] if len(r) > 3 else "") for r in rows
             if r[:2] == [when, "zone"] and len(r) > 2 and re.fullmatch(r"-?\d+", r[2]) and 0 < int(r[2]) < 150_000]
    own = [t for t, kind in zones if re.search("cpu|soc|x86_pkg|apss", kind, re.I)]
    return max(own or (t for t, _ in zones), default=None)


def _push_inputs(device: Device, file: Path, place: Path) -> list[str]:
    """The engine's usual inputs as files there; the words of mcc-run for them and for the outputs."""
    import numpy as np

    from ..engine import filled, session
    opened = session(file)
    if any("=" in p.name for p in [*opened.inputs, *opened.outputs]):  # mcc-run could not tell where a name ends
        return []
    words: list[str] = []
    for i, (name, a) in enumerate(filled(opened.inputs).items()):
        if opened.inputs[i].dtype == "bfloat16":
            return []
        np.save(place / f"in{i}.npy", a)
        device.push(place / f"in{i}.npy", f"in{i}.npy")
        words += ["--input", f"{name}=in{i}.npy"]
    return words + [w for i, p in enumerate(opened.outputs) for w in ("--output", f"{p.name}=out{i}.bin")]


def _error(device: Device, file: Path, words: list[str], place: Path) -> float | None:
    """The largest difference between the device's outputs and this machine's, as a share of their range, at most 1, which
    it is when one of them is no number; None: not compared."""
    import numpy as np

    from ..engine import filled, session
    if not words:
        return None
    opened = session(file)
    worst = 0.0
    for i, want in enumerate(opened.run(filled(opened.inputs)).values()):
        device.pull(f"out{i}.bin", place / f"out{i}.bin")
        data = (place / f"out{i}.bin").read_bytes()
        if len(data) != want.nbytes:
            raise device.error(f"output {i} has {len(data)} bytes there, the model's has {want.nbytes}")
        a, b = np.frombuffer(data, want.dtype).astype(np.float64), want.astype(np.float64).ravel()
        if b.size:
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            off = float(np.where(same, 0, np.abs(a - b)).max()) / (float(np.ptp(b)) or float(np.abs(b).max()) or 1.0)
            worst = max(worst, off if off < 1 else 1.0)
    return worst


def lines(device: dict) -> list[str]:
    """What people read."""
    use = "cores " + ",".join(map(str, device["cores"])) if device["cores"] else "not pinned"

    def change(what: str, unit: str) -> str:
        a, b = device[f"{what}_before"], device[f"{what}_after"]
        return "" if a is None else f", {a:.0f} {unit} before, {b:.0f} {unit} after" if b is not None else f", {a:.0f} {unit}"
    agrees = "; outputs not compared" if device["agrees"] is None else "" if device["agrees"] else \
        f"; OUTPUTS DIFFER from this machine's by {device['max_error']:.2g} of their range"
    prefix = f" through `{device['prefix']}`" if device["prefix"] else ""
    kind = device["core"] or (f"core with MIDR {device['midr']}" if device["midr"] else "")
    about = ", ".join(filter(None, (device["arch"], kind)))
    return [f"device     {device['name']} ({about}){prefix}, {use}, governor {device['governor'] or 'not readable'}"
            f"{change('mhz', 'MHz')}{change('celsius', 'C')}{agrees}"]
