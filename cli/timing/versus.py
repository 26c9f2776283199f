"""`mcc bench --vs`: other runtimes that are installed here, on the same model, in processes of their own."""
from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path

ROUNDS = 10
WRONG = 1e-3  # of the output's range; an fp32 rival further off computes something else


def chosen(vs: str, model: Path, reference: Path | None) -> tuple[list[str], Path | None]:
    """The runtimes asked for, and the .onnx they start from. Raises UserError, one line for each mistake."""
    from ...passes.errors import UserError
    from ...passes.recipe.tree import near
    from ..files import known
    from ..rivals import RIVALS
    names, problems = [n for n in dict.fromkeys(n.strip() for n in vs.split(",")) if n], []
    if not names:
        return [], None
    file = reference or model
    for name in names:
        if name not in RIVALS:
            problems.append(f"--vs {name}: no such runtime{near(name, RIVALS) or '; there is ' + ', '.join(RIVALS)}")
        elif file.suffix != ".onnx":
            problems.append(f"--vs {name}: needs the .onnx model; give it with --reference FILE.onnx")
        else:
            rival = RIVALS[name]
            needs = [(rival.module, rival.packages), *([rival.converter] if rival.converter else [])]
            missing = [package for module, package in needs if importlib.util.find_spec(module) is None]
            if missing:
                problems.append(f"--vs {name}: it is not installed; pip install {' '.join(missing)}")
    if problems:
        raise UserError(*problems)
    return names, known(file, (".onnx",))


def race(names: list[str], onnx: Path, file: Path, precision: str, threads: int, inputs: dict, seconds: float,
         folder: Path) -> tuple[list[float], dict]:
    """mcc's times, ms, and per rival {"median", "p10", "p90", "runs", "ratio", "max_error", "agrees"} or {"error"}.
    Rivals run the float32 model, or with --precision bf16 their bfloat16 where they have it."""
    from ..engine import quantiles
    from ..rivals import RIVALS, SETTLE, Peer, PeerError, cores
    count = threads or os.cpu_count() or 1
    source = _sources(onnx, inputs, folder, names)
    peers, facts = {"mcc": Peer("mcc", cores=cores(count))}, {}
    try:
        want = peers["mcc"].open(file, "", count, inputs)["outputs"]
        for name in names:
            kind = "bf16" if precision == "bf16" and "bf16" in RIVALS[name].precisions else "fp32"
            peer = Peer(name, cores=cores(count))
            try:
                opened = peer.open(peer.convert(source, kind, "", folder / name), kind, count, inputs)
                error = _error(want, opened["outputs"])
                facts[name] = {"max_error": error, "agrees": error <= WRONG, "precision": kind}
                peers[name] = peer
            except PeerError as e:
                facts[name] = {"error": f"{e}{source['why'] and '; ' + source['why']}"}
                peer.stop()
        spent: dict[str, list[float]] = {name: [] for name in peers}
        for turn in range(ROUNDS):
            for name in list(peers) if turn % 2 == 0 else reversed(list(peers)):
                spent[name] += peers[name].burst(seconds / ROUNDS)
                time.sleep(SETTLE)
    finally:
        for peer in peers.values():
            peer.stop()
    mine = quantiles(spent["mcc"])["median"]
    for name in names:
        if name in spent:
            theirs = quantiles(spent[name])
            facts[name] = {**theirs, "ratio": theirs["median"] / mine, **facts[name]}
    return spent["mcc"], facts


def _sources(onnx: Path, inputs: dict, folder: Path, names: list[str]) -> dict:
    """What converters start from: the model with its shapes fixed, and as torch programs where a rival needs them."""
    import onnx as library
    from onnxsim import simplify

    from ...passes.errors import UserError
    from ..rivals import RIVALS
    model = library.load(onnx)
    constants = {i.name for i in model.graph.initializer}
    for port in model.graph.input:
        if port.name not in inputs and port.name not in constants:
            raise UserError(f"--vs: {onnx} has an input {port.name!r} that the .mcc file has not; is it the same model?")
    made: dict = {"onnx": os.fspath(onnx), "why": "", "shapes": [[list(a.shape), "f32" if a.dtype.kind == "f" else "i64"]
                                                           for a in inputs.values()]}
    try:
        fixed, ok = simplify(model, overwrite_input_shapes={k: list(a.shape) for k, a in inputs.items() if a.ndim})
        if ok:
            made["onnx"] = os.fspath(folder / "fixed.onnx")
            library.save(fixed, made["onnx"])
    except Exception as e:  # onnxsim's; the model goes as it is
        made["why"] = f"onnxsim could not fix its shapes ({type(e).__name__})"
    if any(k in RIVALS[n].takes for n in names for k in ("pt2", "torchscript")):
        _torch(made, inputs, folder)
    return made


def _torch(made: dict, inputs: dict, folder: Path) -> None:
    import torch

    from ...passes import load
    try:
        module = load(Path(made["onnx"])).module().eval()
        feeds = tuple(torch.from_numpy(a) for a in inputs.values())
        with torch.no_grad():
            torch.export.save(torch.export.export(module, feeds), folder / "model.pt2")
            made["pt2"] = os.fspath(folder / "model.pt2")
            torch.jit.trace(module, feeds, check_trace=False).save(os.fspath(folder / "model.pt"))
            made["torchscript"] = os.fspath(folder / "model.pt")
    except Exception as e:  # an exporter's refusal: the rivals that need it say so
        made["why"] = f"the model cannot be exported from torch ({' '.join(str(e).split())[:120]})"


def _error(ours: list, theirs: list) -> float:
    """The largest difference as a share of the output's range."""
    import numpy as np
    worst = 0.0 if len(ours) == len(theirs) else float("inf")
    for a, b in zip(ours, theirs):
        a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
        if a.size != b.size:
            return float("inf")
        if a.size:
            span = float(np.ptp(b)) or float(np.abs(b).max()) or 1.0
            worst = max(worst, float(np.abs(a - b).max()) / span)
    return worst
