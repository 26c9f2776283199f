"""ncnn's inferences under emulation, as its benchmark runs them: counted blocks and cache lines, kept in build/bench/ncnn/.

    region, instructions = profile("mobilenet_v1 int8", "arm64-cortex-a76")

The networks are those of models.py, changed where its benchmark's differ: SqueezeNet looks at 227 x 227, the MobileNets have
ReLU, not ReLU6 (for which ncnn has no fast int8 depthwise kernels), and V2's first block has an expansion of 1, ResNet-50 has its
strides at the first convolution of a block. A float model runs in half precision where the core has it, as ncnn does unasked.
"""
from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import arm64_python
import convert
import emulation
import models
import numpy as np
import sources
from mcc.cli import rivals
from mcc.cli.arm64 import count, cycles, targets
from mcc.passes.errors import TargetError

HERE = Path(__file__).resolve().parent
FOLDER = sources.ROOT / "build" / "bench" / "ncnn"
NAMES = {"squeezenet": "squeezenet11_227", "mobilenet_v1": "mobilenet_v1_relu", "mobilenet_v2": "mobilenet_v2_relu",
         "resnet50": "resnet50_v1"}
INT8 = " int8"
LEAST_COSINE = {"": 0.98, INT8: 0.9}  # of the output to the float32 network's, which has random weights


def early_strides():
    """ResNet-50 as it was first published (He et al. 2015)."""
    made = models.resnet50()
    for block in made.modules():
        if isinstance(block, models.Deep):
            first, second = block.layers[0][0], block.layers[1][0]
            first.stride, second.stride = second.stride, first.stride
    return made


def with_relu(made):
    """In place of ReLU6."""
    for m in list(made.modules()):
        for name, child in m.named_children():
            if isinstance(child, models.nn.ReLU6):
                setattr(m, name, models.nn.ReLU())
    return made


def expanding_v2():
    made = models.mobilenet_v2()
    block = made.features[1]
    block.layers = models.nn.Sequential(models.conv(32, 32), *block.layers)
    return with_relu(made)


models.MODELS |= {"squeezenet11_227": models.Model(models.SqueezeNet11, models._image(3, 227, 227)),
                  "mobilenet_v1_relu": models.Model(lambda: with_relu(models.mobilenet_v1()), models.PICTURE),
                  "mobilenet_v2_relu": models.Model(expanding_v2, models.PICTURE),
                  "resnet50_v1": models.Model(early_strides, models.PICTURE)}


def file(network: str) -> Path:
    """ncnn's file of a network of its benchmark. Raises TargetError when it cannot be made."""
    name = network.removesuffix(INT8)
    name = NAMES.get(name, name)
    made = convert.entry(name, "ncnn", "fp32", "")
    if "error" in made:
        raise TargetError(f"{network}: {made['error']}")
    plain = Path(made["file"])
    if not network.endswith(INT8):
        return plain
    quantized, script = plain.with_name("int8.param"), HERE / "ncnn_int8.py"
    if not quantized.exists() or quantized.stat().st_mtime < script.stat().st_mtime:
        done = subprocess.run([convert.python("peers"), script, plain, quantized, sources.obtain(name)["data"]],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise TargetError(f"{network}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return quantized


def profile(network: str, core: str) -> tuple[count.Region, int]:
    """Its hot blocks, as cycle models want them, and its cache lines; and how many instructions there were in all.
    Raises TargetError when the output is wrong."""
    target, model = targets.find(core), file(network)
    name = network.removesuffix(INT8)
    inputs, want = sources.data(sources.obtain(NAMES.get(name, name)))
    key = hashlib.sha256(json.dumps([target.qemu, target.midr, target.isa, target.caches.model_dump()]).encode())
    for path in (model, model.with_suffix(".bin"), HERE / "peer_arm64.py", rivals.HERE / "with_ncnn.py", arm64_python.WHEELS,
                 Path(count.__file__).with_name("count.c")):
        key.update(path.read_bytes())
    kept = FOLDER / f"{network.replace(' ', '-')}-{core}-{key.hexdigest()[:12]}.json"
    if not kept.exists():
        ran = emulation.peer("ncnn", model, "fp16", "", inputs, core, target.caches)
        a, b = want[0].ravel(), ran.outputs[0].ravel()
        cosine = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
        if not cosine >= LEAST_COSINE[INT8 if network.endswith(INT8) else ""]:
            raise TargetError(f"{network} on {core}: ncnn's output has cosine {cosine:.4f} to the float32 network's")
        hot = cycles.hot(ran.region)
        made = {"version": ran.version, "cosine": cosine, "instructions": ran.region.instructions, "lines": ran.region.lines,
                "blocks": [["".join(f"{w:08x}" for w in b), ran.region.blocks[b]] for b in hot]}
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(made))
        os.replace(part, kept)
    found = json.loads(kept.read_text())
    blocks = {tuple(int(w[i:i + 8], 16) for i in range(0, len(w), 8)): times for w, times in found["blocks"]}
    return count.Region(Counter(blocks), tuple(found["lines"])), found["instructions"]
