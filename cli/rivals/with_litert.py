"""LiteRT with XNNPACK, converted from torch by litert-torch (in an environment that has torch); int8 by its own quantizer."""
import os

import numpy as np


def version():
    from importlib.metadata import version
    return version("ai-edge-litert")


def convert(source, precision, variant, folder):
    """Images are taken channels last, as LiteRT wants them: `open` turns the input outside of the timed run."""
    made = os.path.join(folder, f"{variant or 'model'}.tflite")
    if precision == "int8":
        from ai_edge_quantizer import quantizer, recipe
        chosen = recipe.static_wi8_ai8() if variant == "static" else recipe.dynamic_wi8_afp32()
        worker = quantizer.Quantizer(source["float"], chosen)
        found = worker.calibrate(_samples(source), num_threads=1) if variant == "static" else None
        if os.path.exists(made):
            os.remove(made)
        worker.quantize(found).export_model(made)
        return made
    import litert_torch
    import torch
    program = torch.export.load(source["pt2"])
    module, inputs = Eval(program.module()), program.example_inputs[0]
    turned = [i for i, x in enumerate(inputs) if x.ndim == 4]
    if turned:
        module = litert_torch.to_channel_last_io(module, args=turned).eval()
        inputs = tuple(x.permute(0, 2, 3, 1).contiguous() if x.ndim == 4 else x for x in inputs)
    litert_torch.convert(module, tuple(inputs)).export(made)
    return made


def Eval(program):
    """An exported program as a plain module that is in eval mode and stays there."""
    import torch

    class Exported(torch.nn.Module):
        def forward(self, *inputs):
            return program(*inputs)
    return Exported().eval()


def _samples(source):
    """Calibration batches under the names and shapes that the converted model takes."""
    from ai_edge_litert.interpreter import Interpreter
    engine = Interpreter(source["float"])
    (signature, ports), = engine.get_signature_list().items()
    details = engine.get_signature_runner(signature).get_input_details()
    with np.load(source["calibration"]) as found:
        arrays = [found[k] for k in found.files]
    names = sorted(ports["inputs"], key=lambda n: int("".join(c for c in n if c.isdigit()) or 0))
    return {signature: [{name: _fit(a[i], details[name]["shape"], details[name]["dtype"]) for name, a in zip(names, arrays)}
                        for i in range(len(arrays[0]))]}


def _fit(a, shape, dtype):
    if a.ndim == 4 and tuple(a.shape) != tuple(shape):
        a = a.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(a, dtype)


class Model:
    def __init__(self, file, precision, threads, inputs, variant):
        from ai_edge_litert.interpreter import Interpreter
        self.engine = Interpreter(file, num_threads=threads)
        self.engine.allocate_tensors()
        (signature, ports), = self.engine.get_signature_list().items()
        details = self.engine.get_signature_runner(signature).get_input_details()
        names = sorted(ports["inputs"], key=lambda n: int("".join(c for c in n if c.isdigit()) or 0))
        for name, a in zip(names, inputs.values()):
            port = details[name]
            scale, zero = port["quantization"]
            if scale and a.dtype.kind == "f":  # its int8 models take and give int8
                a = np.clip(np.rint(a / scale) + zero, -128, 127)
            self.engine.set_tensor(port["index"], _fit(a, port["shape"], port["dtype"]))
        made = self.engine.get_signature_runner(signature).get_output_details()
        order = sorted(made, key=lambda n: int("".join(c for c in n if c.isdigit()) or 0))
        self.made = [(made[n]["index"], *made[n]["quantization"]) for n in order]
        self.run = self.engine.invoke

    def outputs(self):
        return [(self.engine.get_tensor(i).astype(np.float32) - zero) * scale if scale else self.engine.get_tensor(i)
                for i, scale, zero in self.made]
