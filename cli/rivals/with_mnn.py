"""MNN. Its converter is called inside of the wheel's extension module (_tools): the commands mnnconvert and mnnquant
install a package that reports their use, which nobody here wants; the module itself does not."""
import os

import MNN
import numpy as np


def version():
    return MNN.version()


def convert(source, precision, variant, folder):
    import _tools
    made = os.path.join(folder, f"{variant or 'model'}.mnn")
    how = ["MNNConvert", "-f", "ONNX", "--modelFile", source["onnx"], "--MNNModel", made, "--bizCode", "mcc"]
    _tools.mnnconvert(how + (["--weightQuantBits", "8"] if precision == "int8" else []))
    if not os.path.exists(made):
        raise ValueError("MNN's converter made nothing")
    return made


class Model:
    def __init__(self, file, precision, threads, inputs, variant):
        self.engine = MNN.Interpreter(file)
        # Weights of 8 bits are only multiplied as such when memory is asked to be low.
        memory = "low" if precision == "int8" else "normal"
        how = {"backend": "CPU", "numThread": threads, "precision": "low" if precision == "fp16" else "normal", "memory": memory}
        self.session = self.engine.createSession(how)
        if self.session is None:
            raise ValueError("MNN cannot make a session")
        ports = self.engine.getSessionInputAll(self.session)
        for name, a in inputs.items():
            self.engine.resizeTensor(ports[name], tuple(a.shape))
        self.engine.resizeSession(self.session)
        for name, a in inputs.items():
            a = a if a.dtype == np.float32 else a.astype(np.int32)
            kind = MNN.Halide_Type_Float if a.dtype == np.float32 else MNN.Halide_Type_Int
            given = MNN.Tensor(tuple(a.shape), kind, np.ascontiguousarray(a), MNN.Tensor_DimensionType_Caffe)
            ports[name].copyFrom(given)

    def run(self):
        self.engine.runSession(self.session)

    def outputs(self):
        made = []
        for tensor in self.engine.getSessionOutputAll(self.session).values():
            shape = tensor.getShape()
            kind = tensor.getDataType()
            host = MNN.Tensor(shape, kind, np.zeros(shape, np.float32 if kind == MNN.Halide_Type_Float else np.int32),
                              MNN.Tensor_DimensionType_Caffe)
            tensor.copyToHostTensor(host)
            made.append(np.array(host.getNumpyData()).reshape(shape))
        return made
