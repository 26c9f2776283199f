"""OpenVINO's CPU plugin, one request with its input tensors set once; int8 from onnxruntime's QDQ models."""
import os

import numpy as np
import openvino


def version():
    return openvino.__version__.split("-")[0]


def convert(source, precision, variant, folder):
    if precision == "int8" and "qdq" not in source:
        raise ValueError("needs the QDQ model that onnxruntime's quantizer makes")
    made = os.path.join(folder, f"{variant or 'model'}.xml")
    openvino.save_model(openvino.Core().read_model(source["qdq" if precision == "int8" else "onnx"]), made,
                        compress_to_fp16=False)
    return made


class Model:
    def __init__(self, file, precision, threads, inputs, variant):
        core = openvino.Core()
        hint = "bf16" if precision == "bf16" else "f32"
        compiled = core.compile_model(file, "CPU", {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
                                                    "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint})
        self.request = compiled.create_infer_request()
        self.kept = [np.ascontiguousarray(inputs[port.get_any_name()]) for port in compiled.inputs]
        for i, a in enumerate(self.kept):
            self.request.set_input_tensor(i, openvino.Tensor(a, shared_memory=True) if a.shape else openvino.Tensor(a))
        self.says = f"computes in {compiled.get_property('INFERENCE_PRECISION_HINT').get_type_name()}"
        self.count = len(compiled.outputs)
        self.run = self.request.infer

    def outputs(self):
        return [np.array(self.request.get_output_tensor(i).data) for i in range(self.count)]
