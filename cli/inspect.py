"""`mcc inspect`: what a model is made of."""
from __future__ import annotations

import os
from pathlib import Path

import click

from . import show
from .files import bind_option, bound, calibration, known


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--sensitivity", type=click.IntRange(2, 8), metavar="BITS",
              help="How much the output moves when one layer's weights are rounded to BITS bits (2 to 8), in dB.")
@click.option("--calibration", "samples", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Samples for --sensitivity; normal random numbers without it.")
@bind_option
@show.json_option
def command(model, sensitivity, samples, binds, as_json):
    """List the layers of MODEL (.onnx, .pt2 or .mcc) with their parameters, MACs and bytes."""
    from ..passes import cost, load
    from ..passes.base import layer_name
    from ..passes.errors import UserError
    known(model, (".onnx", ".pt2", ".mcc"))
    graph, bind = load(model), bound(binds)
    macs = cost.macs(graph, bind)
    shapes = {v: shape for v, (shape, _) in cost.infer(graph, cost.guess_bind(graph, bind)).items()}
    weights, seen, rows = set(cost.parameters(graph)), set(), []
    if sensitivity is not None and model.suffix == ".mcc":
        raise UserError(f"{model}: --sensitivity needs the float model, .onnx or .pt2")
    noise = _sensitivity(graph, sensitivity, samples, bind) if sensitivity else {}
    for n in graph.nodes:
        own = [v for v in dict.fromkeys(n.inputs) if v in weights and v not in seen]
        seen.update(own)
        constants = own
        if model.suffix == ".mcc":
            constants = [v for v in dict.fromkeys(n.inputs) if v is not None and v.data is not None]
        row = {"name": layer_name(n), "op": n.op, "output": list(shapes.get(n.outputs[0], ())),
               "params": sum(v.data.size for v in own), "nonzero": sum(int((v.data != 0).sum()) for v in own),
               "macs": macs.get(n, 0), "bytes": sum(v.meta.get("stored_bytes", v.data.nbytes) for v in constants)}
        if model.suffix == ".mcc":
            row["storage"] = sorted({str(v.meta["storage"]) for v in constants if "storage" in v.meta and v.data.ndim > 1})
        if sensitivity:
            row["snr_db"] = noise.get(n)
        rows.append(row)
    total = {k: sum(r[k] for r in rows) for k in ("params", "nonzero", "macs", "bytes")}
    facts = {"schema": 1, "model": str(model), "file_bytes": os.path.getsize(model), **total,
             "inputs": [{"name": v.name, "shape": list(v.shape or ()), "dtype": v.dtype} for v in graph.inputs],
             "outputs": [{"name": v.name, "shape": list(v.shape or ()), "dtype": v.dtype} for v in graph.outputs],
             "layers": rows}
    if model.suffix == ".mcc":
        from ..passes.lower.plan import alive
        from .engine import session
        facts |= {"arena_bytes": graph.meta["arena"], "live_bytes": alive(graph),
                  **{key: value for key, value in session(model).facts.items() if key in ("packed", "tuned")}}
    if as_json:
        show.emit(facts)
        return
    shown = [r for r in rows if r["params"] or r["macs"]]
    extra = (["storage"] if model.suffix == ".mcc" else []) + ([f"SNR at {sensitivity} bit"] if sensitivity else [])
    table = [[r["name"], r["op"], "x".join(map(str, r["output"])), show.count(r["params"]), show.count(r["nonzero"]),
              show.count(r["macs"]), show.size(r["bytes"]), *([", ".join(r["storage"])] if "storage" in r else []),
              *(["" if r["snr_db"] is None else f"{r['snr_db']:.1f} dB"] if sensitivity else [])] for r in shown]
    table.append([f"all {len(rows)} nodes", "", "", *(show.count(total[k]) for k in ("params", "nonzero", "macs")),
                  show.size(total["bytes"]), *[""] * len(extra)])
    show.table(["layer", "op", "output", "params", "nonzero", "MACs", "bytes", *extra], table, left=(0, 1, 2))
    if "arena_bytes" in facts:
        print(f"arena {show.size(facts['arena_bytes'])}, of which {show.size(facts['live_bytes'])} are alive at once")
        if facts["packed"] != "none":
            print("prepacked weights: " + ("used here, in place" if facts["packed"] == "used" else
                                           "not used here, another CPU or engine made them; opening packs as usual"))
        if facts["tuned"] != "none":
            print(f"kernels chosen for {graph.meta['tuned']['cpu']}, {len(graph.meta['tuned']['kernels'])} of them: " +
                  ("in use here" if facts["tuned"] == "used" else "not used here; this machine's engine picks its own"))


def _sensitivity(graph, bits: int, samples, bind: dict) -> dict:
    """Per node: the output's signal to noise ratio, dB, when this node's weight alone is rounded per output channel."""
    import numpy as np
    import torch

    from ..passes import cost
    from ..passes.weights import weight_of
    from .engine import filled
    batches = calibration(samples, graph)
    if batches is None:
        size = cost.guess_bind(graph, bind, batch=4)
        Port = type("Port", (), {})
        ports = []
        for v in graph.inputs:
            p = Port()
            p.name, p.dtype, p.shape = v.name, v.dtype, tuple(size.get(d, d) for d in v.shape)
            ports.append(p)
        batches = [filled(ports)]

    def outputs():
        module, made = graph.module().eval(), []
        with torch.no_grad():
            for b in batches:
                out = module({k: torch.as_tensor(a) for k, a in b.items()})
                made.append((out[0] if isinstance(out, tuple) else out).double().numpy().ravel())
        return np.concatenate(made)

    want, found, top = outputs(), {}, 2 ** (bits - 1) - 1
    with show.progress() as progress:
        layers = [n for n in graph.nodes if weight_of(n) is not None]
        for i, n in enumerate(layers):
            w = weight_of(n)
            kept = w.data
            scale = np.abs(kept).max(axis=tuple(range(1, kept.ndim)), keepdims=True) / top
            w.data = (np.rint(kept / np.where(scale > 0, scale, 1)) * scale).astype(kept.dtype)
            error = ((outputs() - want) ** 2).sum()
            w.data = kept
            found[n] = 200.0 if error == 0 else float(np.clip(10 * np.log10((want ** 2).sum() / error), -200, 200))
            progress(i + 1, len(layers), "sensitivity")
    return found
