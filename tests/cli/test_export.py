"""`mcc export`: what other runtimes make of a compressed model is what the engine makes of it."""
import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from mcc.kernels import Session
from mcc.passes.onnx_io import export, from_torch
from torch import nn

SHAPE = (3, 12, 12)
PASSES = {
    "channels": ["prune.channels: {ratio: 0.5, epochs: 1}"],
    "low_rank": ["structure.low_rank: {ratio: 0.4, epochs: 1}"],
    "tucker": ["structure.tucker: {ratio: 0.5}"],
    "group": ["structure.group_conv: {groups: 2, layers: 'conv2'}"],
    "depthwise": ["structure.depthwise: {layers: 'conv2'}", "prune.channels: {ratio: 0.25}"],
    "stored": ["prune.weights: {sparsity: 0.5}", "quantize.codebook: {bits: 4, min_size: 1}"],
}
RECIPE = """
model: {{onnx: net.onnx}}
data: {{source: npz, path: data.npz, batch: 32}}
train: {{lr: 1e-3}}
passes:
{passes}
output: out
"""


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.norm, self.fc1, self.fc2 = nn.BatchNorm2d(24), nn.Linear(24 * 36, 40), nn.Linear(40, 5)

    def forward(self, x):
        x = torch.relu(self.conv1(x))
        x = torch.relu(self.norm(self.conv2(x))).flatten(1)
        return self.fc2(nn.functional.gelu(self.fc1(x)))


@pytest.fixture
def compressed(folder, mcc):
    """compressed("low_rank") -> the folder after `mcc compress`; the model in it is of opset 17, any batch."""
    torch.manual_seed(0)
    graph = from_torch(Net().eval(), (torch.zeros(2, *SHAPE),), dynamic={"image": {0: "N"}}, input_names=["image"],
                       output_names=["scores"])
    export(graph, folder / "net.onnx", 17)
    r = np.random.default_rng(0)
    np.savez(folder / "data.npz", image=r.standard_normal((200, *SHAPE)).astype(np.float32), labels=r.integers(0, 5, 200))

    def make(name):
        (folder / "r.yaml").write_text(RECIPE.format(passes="\n".join(f"  - {p}" for p in PASSES.get(name, [name]))))
        code, _, err = mcc("compress", "r.yaml")
        assert code == 0, err
        return folder
    return make


def ours(path, x):
    return np.concatenate([Session(path).run({"image": x[i:i + 1]})["scores"] for i in range(len(x))])


@pytest.mark.parametrize("name", PASSES)
def test_other_runtimes_compute_the_same(compressed, mcc, name):
    folder = compressed(name)
    code, out, err = mcc("export", "out", "-o", "small.onnx", "--json")
    assert code == 0, err
    facts = json.loads(out)
    model = onnx.load(folder / "small.onnx")
    assert facts["opset"] == model.opset_import[0].version == 17
    assert facts["inputs"] == [{"name": "image", "shape": ["N", *SHAPE], "dtype": "float32"}]
    session = ort.InferenceSession(folder / "small.onnx", providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal((5, *SHAPE)).astype(np.float32)
    theirs, = session.run(["scores"], {"image": x})
    mine = ours(folder / "out/model.mcc", x)
    np.testing.assert_allclose(mine, theirs, atol=2e-5 * np.abs(theirs).max())
    assert np.abs(mine - ours(folder / "out/original.mcc", x)).max() > 1e-3 * np.abs(theirs).max(), "the pass did nothing"
    count = sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    report = json.loads((folder / "out/report.json").read_text())
    more = count - report["final"]["params"]  # statistics of the norm and the constants of gelu are no parameters
    assert 0 <= more <= 2 * 24 + 3, "an array too many or too large is in the file"


def test_quantized_with_its_pairs_and_without(compressed, mcc):
    folder = compressed("quantize.ptq: {samples: 64}")
    x = np.random.default_rng(1).standard_normal((5, *SHAPE)).astype(np.float32)
    want, made = ours(folder / "out/model.mcc", x), {}
    for form in ("qdq", "onnx"):
        code, _, err = mcc("export", "out", "-o", f"{form}.onnx", "--to", form, "--opset", "21")
        assert code == 0, err
        ops = {n.op_type for n in onnx.load(folder / f"{form}.onnx").graph.node}
        assert ("QuantizeLinear" in ops) == (form == "qdq")
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # as the file says, without fusions
        made[form], = ort.InferenceSession(folder / f"{form}.onnx", options, providers=["CPUExecutionProvider"]).run(
            None, {"image": x})
    step = np.abs(want).max() / 127
    assert np.abs(want - made["qdq"]).max() < 2 * step
    assert 0 < np.abs(made["onnx"] - made["qdq"]).max() < 20 * step


def test_a_checkpoint_of_a_pass(compressed, mcc):
    folder = compressed("low_rank")
    kept, = (p for p in (folder / "out/cache").glob("*.graph"))
    assert mcc("export", kept, "-o", "a.onnx")[0] == mcc("export", "out", "-o", "b.onnx")[0] == 0
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()


@pytest.mark.parametrize(("args", "line"), [
    (["empty", "-o", "x.onnx"], "empty: is no finished run of `mcc compress`"),
    (["nets.py", "-o", "x.onnx"], "nets.py: cannot tell"),
    (["bad.graph", "-o", "x.onnx"], "bad.graph: damaged graph file"), (["m.mcc", "-o", "x.onnx"], "m.mcc: is lowered"),
    (["bad.graph", "-o", "x.xml"], "x.xml: the file to write must end in .onnx"),
    (["bad.graph", "-o", "no/x.onnx"], "no/x.onnx: there is no folder 'no'"),
    (["bad.graph", "-o", "x.onnx", "--opset", "9"], "--opset 9: it is one of 13 to 23"),
])
def test_wrong_input(folder, mcc, args, line):
    (folder / "empty").mkdir()
    (folder / "bad.graph").write_bytes(b"torn")
    (folder / "m.mcc").write_bytes(b"")
    code, _, err = mcc("export", *args)
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith(line)
    assert not (folder / "x.onnx").exists()
