"""ExecuTorch with its XNNPACK delegate, from an exported torch program; int8 by its XNNPACK quantizer, per channel."""
import os

import numpy as np
import torch


def version():
    from importlib.metadata import version
    return version("executorch")


def convert(source, precision, variant, folder):
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    program = torch.export.load(source["pt2"])
    inputs = program.example_inputs[0]
    if precision == "int8":
        program = torch.export.export(_quantized(program, inputs, source, variant == "dynamic"), inputs)
    made = os.path.join(folder, f"{variant or 'model'}.pte")
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    with open(made, "wb") as file:
        lowered.write_to_file(file)
    return made


def _quantized(program, inputs, source, dynamic):
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    worker = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic))
    module = prepare_pt2e(program.module(), worker)
    with np.load(source["calibration"]) as found, torch.no_grad():
        arrays = [torch.from_numpy(found[k]) for k in found.files]
    with torch.no_grad():
        for i in range(len(arrays[0])):
            module(*(a[i] for a in arrays))
    return convert_pt2e(module)


class Model:
    def __init__(self, file, precision, threads, inputs, variant):
        from executorch.extension.pybindings import portable_lib
        torch.set_num_threads(threads)
        setter = getattr(portable_lib, "_set_num_threads", None) or getattr(portable_lib, "_unsafe_reset_threadpool", None)
        if setter:
            setter(threads)
        self.module = portable_lib._load_for_executorch(file)
        self.inputs = [torch.from_numpy(np.ascontiguousarray(a)) for a in inputs.values()]
        self.last = []

    def run(self):
        self.last = self.module.forward(self.inputs)

    def outputs(self):
        return [t.numpy() for t in self.last]
