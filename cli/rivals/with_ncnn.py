"""ncnn, converted by pnnx. bf16 is its bf16 storage. The wheel has no tool that makes int8 models."""
import os
import subprocess
import sys

import ncnn
import numpy as np


def version():
    return getattr(ncnn, "__version__", "")


def convert(source, precision, variant, folder):
    import importlib.util
    place = os.path.dirname(importlib.util.find_spec("pnnx").origin)
    tool = os.path.join(place, "pnnx")
    tool = tool if os.path.exists(tool) else os.path.join(os.path.dirname(sys.executable), "pnnx")
    why = ""
    for kind in ("torchscript", "onnx"):
        if kind not in source:
            continue
        model = os.path.join(folder, "model" + {"torchscript": ".pt", "onnx": ".onnx"}[kind])
        if not os.path.exists(model):
            os.symlink(os.path.abspath(source[kind]), model)
        shapes = ",".join(f"[{','.join(map(str, s))}]{t}" for s, t in source["shapes"])
        done = subprocess.run([tool, model, f"inputshape={shapes}", "fp16=0"], cwd=folder, capture_output=True, text=True,
                              errors="replace", timeout=600)
        os.remove(model)
        made = os.path.join(folder, "model.ncnn.param")
        if done.returncode == 0 and os.path.exists(made):
            unknown = [line.split()[0] for line in open(made).read().splitlines()[2:]
                       if "." in line.split()[0] or "::" in line.split()[0]]
            if not unknown:
                for name in os.listdir(folder):
                    if ".pnnx." in name or name.endswith(".py"):
                        os.remove(os.path.join(folder, name))
                return made
            why = f"pnnx leaves {', '.join(sorted(set(unknown)))}"
        else:
            why = f"pnnx stopped with code {done.returncode}: {' '.join((done.stderr or done.stdout).split()[-20:])}"
    raise ValueError(why or "no model that pnnx reads")


class Model:
    def __init__(self, file, precision, threads, inputs, variant):
        net = self.net = ncnn.Net()
        net.opt.num_threads = threads
        net.opt.use_vulkan_compute = False
        net.opt.use_bf16_storage = precision == "bf16"
        # Unasked it would compute in half precision on arm64, and keep the weights of linear layers as float16 on x86.
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = precision == "fp16"
        if net.load_param(file) or net.load_model(file[:-len("param")] + "bin"):
            raise ValueError("ncnn cannot load the model")
        names = sorted(net.input_names(), key=_number)
        arrays = [a if a.dtype == np.float32 else a.astype(np.int32) for a in inputs.values()]
        # The batch of one is not an axis for ncnn.
        self.kept = [np.ascontiguousarray(a[0] if a.ndim > 1 and a.shape[0] == 1 else a) for a in arrays]
        self.mats = list(zip(names, [ncnn.Mat(a) for a in self.kept]))
        self.names = sorted(net.output_names(), key=_number)
        self.last = []

    def run(self):
        with self.net.create_extractor() as extractor:
            for name, mat in self.mats:
                extractor.input(name, mat)
            made = []
            for name in self.names:
                code, mat = extractor.extract(name)
                if code:
                    raise ValueError(f"ncnn cannot compute {name}")
                made.append(mat)
            self.last = made

    def outputs(self):
        return [np.array(m) for m in self.last]


def _number(name):
    digits = "".join(c for c in name if c.isdigit())
    return int(digits or 0), name
