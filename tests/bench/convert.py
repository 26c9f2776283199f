"""Every network in every runtime's own form, kept in build/peers-models/NETWORK/RUNTIME-PRECISION-VARIANT/.

A conversion is made once for a version of the runtime; a failed one is kept too, with its reason, and is a row of the
table: "not converted".
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import sources
from mcc.cli.rivals import RIVALS, Peer, PeerError

ROOT = sources.ROOT
# Where a runtime runs, and where its models are made: environments of `make bench`.
RUNS = {name: "peers-executorch" if name == "executorch" else "peers" for name in RIVALS}
MAKES = {**RUNS, "litert": "peers-litert"}
PINS = {env: Path(__file__).resolve().parent / f"{env}.txt" for env in ("peers", "peers-litert", "peers-executorch")}


WORKERS: dict[str, Peer] = {}  # by runtime: a converter's start costs seconds, so it serves many networks


def python(environment: str) -> Path:
    return ROOT / "build" / environment / "bin" / "python"


def installed(runtime: str) -> bool:
    return python(RUNS[runtime]).exists()


def entry(name: str, runtime: str, precision: str, variant: str, make: bool = True) -> dict:
    """{"file": path} or {"error": why not}. precisions "bf16" and "fp16" are ways to run the fp32 file."""
    source = sources.obtain(name)
    kept = "fp32" if precision in ("bf16", "fp16", "avx2") else precision
    folder = source["folder"] / "-".join(filter(None, (runtime, kept, variant)))
    stamp = folder / "made.json"
    key = _key(source, runtime, kept, variant)
    if stamp.exists() and (found := json.loads(stamp.read_text()))["key"] == key:
        return {**found, "file": str(source["folder"] / found["file"])} if "file" in found else found
    if not make:
        return {"error": "not made yet"}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made = _convert(name, source, runtime, kept, variant, folder)
    if "file" in made:  # kept relative, so that the folder can move
        made["file"] = os.path.relpath(made["file"], source["folder"])
    stamp.write_text(json.dumps({**made, "key": key}))  # of an error of what it is made from, not that one's key
    return entry(name, runtime, precision, variant)


def mcc_file(name: str, precision: str, variant: str) -> dict:
    """mcc's own file, lowered from the model as it is exported (networks) or published (real models)."""
    source = sources.obtain(name)
    kept = {"avx2": "fp32", "fp16": "fp16-math"}.get(precision, precision)
    path = source["folder"] / f"{'-'.join(filter(None, ('mcc', kept, variant)))}.mcc"
    stamp, key = path.with_suffix(".json"), f"{source['key']} {_passes()}"
    if path.exists() and stamp.exists() and json.loads(stamp.read_text())["key"] == key:
        return {"file": str(path)}
    import models
    from mcc.passes import load
    from mcc.passes.lower import lower
    onnx = source["onnx"] if name.startswith("real/") else models.export_onnx(name)
    more = {"calibration": sources.samples(source)} if variant == "static" else {}
    try:
        lower(load(onnx, simplify=False), path, precision=kept, **more)
    except Exception as e:
        return {"error": f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"}
    stamp.write_text(json.dumps({"key": key}))
    return {"file": str(path)}


def _convert(name: str, source: dict, runtime: str, precision: str, variant: str, folder: Path) -> dict:
    rival, environment = RIVALS[runtime], MAKES[runtime]
    if not python(environment).exists():
        return {"error": f"build/{environment} is not installed"}
    given = {k: source[k] for k in ("onnx", "pt2", "torchscript") if k in source}
    if not any(k in given for k in rival.takes):
        return {"error": f"no source: {source['failed'].get(rival.takes[0], rival.takes[0])}"}
    given |= {"calibration": source["calibration"], "shapes": source["shapes"]}
    if precision == "int8" and runtime in ("openvino", "litert"):  # made from another conversion
        other = entry(name, *(("onnxruntime", "int8", variant) if runtime == "openvino" else ("litert", "fp32", "")))
        if "error" in other:
            return other
        given["qdq" if runtime == "openvino" else "float"] = other["file"]
    worker = WORKERS.setdefault(runtime, Peer(runtime, python(environment)))
    try:
        file = worker.convert(given, precision, variant, folder)
    except PeerError as e:
        return {"error": str(e)}
    path = Path(file)
    size = sum(p.stat().st_size for p in ([path] if path.parent != folder else folder.iterdir())
               if p.name.startswith(path.name.split(".")[0]) and p.suffix != ".json")
    return {"file": file, "bytes": size}


def _key(source: dict, runtime: str, precision: str, variant: str) -> str:
    code = sources.ROOT / "cli" / "rivals" / f"with_{runtime}.py"
    body = code.read_text().partition("class Model")[0].encode()  # what runs a model does not make it
    text = PINS[MAKES[runtime]].read_bytes() + body + f"{source['key']} {precision} {variant}".encode()
    return hashlib.sha256(text).hexdigest()[:16]


def _passes() -> str:
    made = hashlib.sha256()
    for path in sorted((ROOT / "passes").rglob("*.py")):
        made.update(path.read_bytes())
    return made.hexdigest()[:16]


def main(names: list[str]) -> None:
    for runtime, rival in RIVALS.items():
        for name in names:
            for precision, variants in rival.precisions.items():
                for variant in variants:
                    made = entry(name, runtime, precision, variant)
                    print(f"{name} {runtime} {precision} {variant}: {made.get('error', 'ok')}", flush=True)
        stop()


def stop() -> None:
    """Ends the converters' processes."""
    for worker in WORKERS.values():
        worker.stop()
    WORKERS.clear()


if __name__ == "__main__":
    main(sys.argv[1:] or sources.names())
