"""onnxruntime on its CPU provider, inputs and outputs bound once; int8 by its own quantizer, per channel."""
import os

import numpy as np
import onnxruntime as ort


def version():
    return ort.__version__


def convert(source, precision, variant, folder):
    model = source["onnx"]
    if precision != "int8":
        return model
    import logging

    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
        shape_inference,
    )
    logging.disable(logging.WARNING)
    clean = os.path.join(folder, "clean.onnx")
    shape_inference.quant_pre_process(model, clean, skip_symbolic_shape=True)
    made = os.path.join(folder, f"{variant}.onnx")
    if variant == "dynamic":
        quantize_dynamic(clean, made, per_channel=True, weight_type=QuantType.QInt8)
    else:
        class Samples(CalibrationDataReader):
            def __init__(self):
                with np.load(source["calibration"]) as found:
                    arrays = {k: found[k] for k in found.files}
                self.left = iter([{k: a[i] for k, a in arrays.items()} for i in range(len(next(iter(arrays.values()))))])

            def get_next(self):
                return next(self.left, None)

        quantize_static(clean, made, Samples(), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    os.remove(clean)
    return made


class Model:
    def __init__(self, file, precision, threads, inputs, variant):
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        self.session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        self.kept = {k: np.ascontiguousarray(a) for k, a in inputs.items()}
        for port in self.session.get_inputs():
            self.binding.bind_cpu_input(port.name, self.kept[port.name])
        for port in self.session.get_outputs():
            self.binding.bind_output(port.name, "cpu")

    def run(self):
        self.session.run_with_iobinding(self.binding)

    def outputs(self):
        return self.binding.copy_outputs_to_cpu()
