"""An int8 model for ncnn from its float32 one, for its wheel has no tool that makes them. Runs in the environment of the peers.

    python ncnn_int8.py MODEL.param INT8.param DATA.npz        arrays "in.NAME" of DATA are the inputs

Weights keep a scale for each output channel, activations one that the largest value of the sample sets. ncnn quantizes the
weights itself when it loads them, from the floats and the scales that follow a layer's bias in the .bin file: of its weights, of
its input, and of its output where that stays int8, which is where nothing but convolutions reads it (the models of ncnn's own
benchmark do it so too). In the .param file such a layer says so by its parameter 8.
"""
import struct
import sys
from dataclasses import dataclass

import numpy as np

# The value of parameter 8 (with 100 more the output stays int8), and which parameter counts the weights.
LAYERS = {"Convolution": (2, 6), "ConvolutionDepthWise": (1, 6), "InnerProduct": (2, 2)}
CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")
STAYS = 100
FLOATS = 0  # the tag of weights that are stored as float32


@dataclass
class Layer:
    kind: str
    name: str
    inputs: list
    outputs: list
    parameters: list

    def number(self, key):
        return int(dict(p.split("=") for p in self.parameters)[str(key)])

    def line(self):
        return " ".join([self.kind, self.name, str(len(self.inputs)), str(len(self.outputs)), *self.inputs, *self.outputs,
                         *self.parameters])


def read(text):
    """The two head lines of a .param file, and its layers."""
    head, layers = text.splitlines()[:2], []
    for line in text.splitlines()[2:]:
        kind, name, taken, made, *rest = line.split()
        a, b = int(taken), int(taken) + int(made)
        layers.append(Layer(kind, name, rest[:a], rest[a:b], rest[b:]))
    return head, layers


def peaks(param, layers, inputs):
    """The largest absolute value of every blob."""
    import ncnn
    net = ncnn.Net()
    net.opt.lightmode = False  # keeps what lies in between
    net.load_param(param)
    net.load_model(param[:-len("param")] + "bin")
    kept = [np.ascontiguousarray(a[0]) for a in inputs]
    with net.create_extractor() as extractor:
        for name, a in zip(net.input_names(), kept):
            extractor.input(name, ncnn.Mat(a))
        return {b: float(np.abs(np.array(extractor.extract(b)[1])).max()) for layer in layers for b in layer.outputs}


def main(param, made, data):
    with open(param) as f:
        head, layers = read(f.read())
    with open(param[:-len("param")] + "bin", "rb") as f:
        weights = f.read()
    with np.load(data) as found:
        peak = peaks(param, layers, [found[k] for k in found.files if k.startswith("in.")])
    readers = {}
    for layer in layers:
        for blob in layer.inputs:
            readers.setdefault(blob, []).append(layer)
    out, at = [], 0
    for layer in layers:
        if layer.kind not in LAYERS:
            continue
        code, counter = LAYERS[layer.kind]
        outputs, count = layer.number(0), layer.number(counter)
        tag, size = struct.unpack_from("<I", weights, at)[0], 4 + 4 * count + 4 * outputs
        if tag != FLOATS:
            raise SystemExit(f"{param}: {layer.name}: its weights are not float32 (pnnx fp16=0 makes them so)")
        values = np.frombuffer(weights, np.float32, count, at + 4).reshape(outputs, -1)
        out += [weights[at:at + size], scale(np.abs(values).max(1)), scale(peak[layer.inputs[0]])]
        at += size
        followers = readers.get(layer.outputs[0], [])
        if layer.kind in CONVOLUTIONS and followers and all(f.kind in CONVOLUTIONS for f in followers):
            code += STAYS
            out.append(scale(peak[layer.outputs[0]]))
        layer.parameters.append(f"8={code}")
    if at != len(weights):
        raise SystemExit(f"{param}: {len(weights) - at} bytes of weights belong to layers that are not known here")
    with open(made[:-len("param")] + "bin", "wb") as f:
        f.write(b"".join(out))
    with open(made, "w") as f:
        f.write("\n".join([*head, *(layer.line() for layer in layers)]) + "\n")


def scale(peak):
    return (127 / np.maximum(peak, 1e-6)).astype("<f4").tobytes()


if __name__ == "__main__":
    main(*sys.argv[1:])
