"""Wrong recipes: each file in wrong/ with the exact lines it must give; exit code 2, nothing on stdout, no traceback."""
import json
import shutil
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

WRONG = Path(__file__).parent / "wrong"


@pytest.mark.parametrize("name", sorted(p.stem for p in WRONG.glob("*.expect")))
def test_wrong_recipe(name, folder, mcc):
    from mcc.passes import PASSES
    for p in WRONG.glob("*.yaml"):
        shutil.copy(p, folder)
    if name == "unsupported_op":
        strange(folder / "strange.onnx")
    want = (WRONG / f"{name}.expect").read_text().replace("PASSES", "there are " + ", ".join(PASSES))
    want = want.replace("NETS", str(folder / "nets.py"))
    code, out, err = mcc("compress", f"{name}.yaml", "--dry-run")
    got = "\n".join(line for line in err.splitlines() if not line.startswith("  ")) + "\n"
    assert got == want
    assert (code, out) == (2, "")


def strange(path):
    """A model with two ops that the engine has not."""
    t = helper.make_tensor_value_info
    nodes = [helper.make_node("NonMaxSuppression", ["boxes", "scores"], ["chosen"], name="nms"),
             helper.make_node("Relu", ["scores"], ["kept"], name="act"),
             helper.make_node("NonZero", ["kept"], ["where"], name="find")]
    graph = helper.make_graph(nodes, "strange",
                              [t("boxes", TensorProto.FLOAT, [1, 4, 4]), t("scores", TensorProto.FLOAT, [1, 1, 4])],
                              [t("chosen", TensorProto.INT64, None), t("where", TensorProto.INT64, None)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def test_json_errors(folder, mcc):
    shutil.copy(WRONG / "unknown_pass.yaml", folder)
    code, out, err = mcc("compress", "unknown_pass.yaml", "--json")
    said = json.loads(out)
    assert code == said["exit"] == 2
    assert said["errors"] == err.splitlines()


@pytest.mark.parametrize(("args", "line"), [
    (["compress", "nowhere.yaml"], "nowhere.yaml: no such file"),
    (["compress", "lenet5-fashon"],
     "lenet5-fashon: no such file, and no recipe of that name ships; did you mean 'lenet5-fashion'?"),
    (["comprss"], "mcc: no command 'comprss'; did you mean 'compress'?; see `mcc --help`"),
    (["lower", "model.oonx"], "model.oonx: no such file"),
    (["bench", "weights.safetensor"], "weights.safetensor: no such file; did you mean 'weights.safetensors'?"),
    (["passes", "prune.weight"], "mcc: no pass named 'prune.weight'; did you mean 'prune.weights'?"),
])
def test_wrong_argument(args, line, folder, mcc):
    assert mcc(*args) == (2, "", line + "\n")


def test_unreachable_target(folder, mcc):
    code, _, err = mcc("bench", "x.mcc", "--target", "toaster")
    assert code == 4
    assert err.startswith("no target 'toaster'; there is arm64, ")
