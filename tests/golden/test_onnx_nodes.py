"""The backend node test cases of the `onnx` package, through import, the torch meaning, lowering and the engine.

A case counts for an op when its model (for "_expanded" cases, where the op is written out as its function's body, the
model it was made from) has only ops of LISTED. Every case of those passes, or stands in EXCLUDED with its reason; a case
that stands there and passes is a failure too. Cases of other ops pass or are refused in words: none may give wrong
numbers.
"""
import functools
import warnings
from fnmatch import fnmatchcase

import numpy as np
import onnx
import pytest
import torch
from mcc.kernels import EngineError, Session
from mcc.passes import load, lower
from mcc.passes.errors import UserError
from mcc.passes.onnx_io.names import snake
from mcc.passes.ops import OPS
from mcc.passes.ops.run import array, run
from onnx import numpy_helper

_LISTED = """
Conv ConvTranspose Gemm MatMul BatchNormalization InstanceNormalization LayerNormalization GroupNormalization
RMSNormalization Relu LeakyRelu PRelu Elu Clip HardSwish HardSigmoid Sigmoid Tanh Gelu Softplus Mish Erf Exp Log Sqrt Pow
Reciprocal Neg Abs Floor Ceil Round Sin Cos Add Sub Mul Div Min Max Where Equal Greater GreaterOrEqual Less LessOrEqual Not
And Or Cast MaxPool AveragePool GlobalAveragePool GlobalMaxPool ReduceMean ReduceSum ReduceMax ReduceMin ReduceL2 ReduceProd
Softmax LogSoftmax ArgMax TopK CumSum Concat Split Slice Gather GatherElements Reshape Flatten Transpose Squeeze Unsqueeze
Expand Tile Pad Resize DepthToSpace SpaceToDepth Attention LSTM GRU Einsum QuantizeLinear DequantizeLinear
DynamicQuantizeLinear MatMulInteger ConvInteger QLinearConv QLinearMatMul Constant ConstantOfShape Shape Range Identity
Dropout"""
LISTED = _LISTED.split()

# Name patterns of cases that do not pass: the stage that refuses (or differs), and why.
EXCLUDED = {
    "test_cast_*FLOAT8*": ("import", "float8 is not a type of the engine"),
    "test_cast_*E8M0*": ("import", "float8 is not a type of the engine"),
    "test_cast_*FLOAT4*": ("import", "float4 is not a type of the engine"),
    "test_cast_*INT4*": ("import", "4-bit integers exist in files (palettes), not as values"),
    "test_cast_*INT2*": ("import", "2-bit integers exist in files (palettes), not as values"),
    "test_*quantizelinear_e4m3fn*": ("import", "float8 is not a type of the engine"),
    "test_*quantizelinear_e5m2": ("import", "float8 is not a type of the engine"),
    "test_*quantizelinear_float4e2m1": ("import", "float4 is not a type of the engine"),
    "test_*quantizelinear_*int4": ("import", "4-bit integers exist in files (palettes), not as values"),
    "test_*quantizelinear_*int2": ("import", "2-bit integers exist in files (palettes), not as values"),
    "test_equal_string*": ("import", "strings"),
    "test_identity_opt": ("import", "optional values"),
    "test_identity_sequence": ("import", "sequences"),
    "test_training_dropout": ("torch", "expects the random numbers of numpy's generator"),
    "test_training_dropout_mask": ("torch", "expects the random numbers of numpy's generator"),
    "test_training_dropout_default*": ("torch", "expects the random numbers of numpy's generator"),
    "test_range_*_expanded": ("import", "the function's body is a Loop"),
    "test_resize_downsample_scales_*_align_corners": (
        "torch", "expects coordinates from the output's length before rounding; torch and onnxruntime use the real length"),
}
# Cases of other ops that give other numbers than expected, and why.
DIFFERENT = {}


class Case:
    """A node test case with what must be constant bound: shapes, axes and the like, which the cases feed as inputs."""

    def __init__(self, case, base):
        self.name, self.case = case.name, case
        self.ops = {n.op_type for n in base.model.graph.node}
        self.first = next((n.op_type for n in base.model.graph.node), "")
        self.bound = _static(base.model) | _static(case.model)

    def through(self) -> tuple[str, str] | None:
        """None when the case passes, else the stage at which it does not, and what was said."""
        warnings.simplefilter("ignore")
        stage = "import"
        try:
            model, feeds = self._model()
            graph = load(model)
            stage = "torch"
            self._compare(graph, run(graph, feeds))
            stage = "lower"
            lowered = lower(graph, self.path)
            self._compare(graph, run(lowered, feeds))
            stage = "engine"
            self._compare(graph, Session(self.path).run(feeds))
        except (UserError, EngineError, AssertionError) as e:
            return stage, f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
        return None

    def _model(self):
        model = onnx.ModelProto()
        model.CopyFrom(self.case.model)
        g, feeds, inputs = model.graph, {}, []
        for info, x in zip(g.input, self.case.data_sets[0][0]):
            if info.name in self.bound:
                g.initializer.append(x if isinstance(x, onnx.TensorProto) else numpy_helper.from_array(np.asarray(x), info.name))
                g.initializer[-1].name = info.name
            else:
                inputs.append(info)
                feeds[info.name] = _plain(_array(x))
        del g.input[:]
        g.input.extend(inputs)
        return model, feeds

    def _compare(self, graph, got):
        names = [o.name for o in self.case.model.graph.output]
        assert [v.name for v in graph.outputs] == names
        for name, x in zip(names, self.case.data_sets[0][1]):
            x = _array(x)
            # The reference rounds to the half types after other steps than we do.
            slack = {"float16": 2.0 ** -9, "bfloat16": 2.0 ** -6}.get(x.dtype.name, 0.0)
            want, have = _plain(x), array(got[name]) if isinstance(got[name], torch.Tensor) else np.asarray(got[name])
            assert (have.dtype, have.shape) == (want.dtype, want.shape)
            np.testing.assert_allclose(have.astype(np.float64), want.astype(np.float64),
                                       rtol=max(self.case.rtol, slack), atol=max(self.case.atol, slack / 8))


def _array(x) -> np.ndarray:
    """A sequence or an optional value without content as an array of objects: import has refused it before it is used."""
    if isinstance(x, onnx.TensorProto):
        return numpy_helper.to_array(x)
    return np.array([None, *x], object) if isinstance(x, (list, tuple)) else np.asarray(x)


def _plain(x: np.ndarray) -> np.ndarray:
    """bfloat16 as float32, which is how it goes in and out."""
    return x.astype(np.float32) if x.dtype.name == "bfloat16" else x


def _static(model) -> set[str]:
    """Names of what the table of ops wants constant."""
    rows = [(n, OPS[snake(n.op_type)].static) for n in model.graph.node if snake(n.op_type) in OPS]
    return {n.input[i] for n, static in rows for i in static if i < len(n.input) and n.input[i]}


@functools.cache
def cases() -> list[Case]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases
        found = {c.name: c for c in collect_testcases(None)}
    return [Case(c, found.get(c.name.split("_expanded")[0], c)) for c in found.values()]


def listed() -> list[Case]:
    return [c for c in cases() if c.ops and c.ops <= set(LISTED)]


def excluded(case: Case, table=EXCLUDED) -> tuple[str, str] | None:
    return next((row for pattern, row in table.items() if fnmatchcase(case.name, pattern)), None)


@pytest.mark.parametrize("op", LISTED)
def test_op(op, tmp_path, monkeypatch):
    monkeypatch.setattr(Case, "path", tmp_path / "case.mcc", raising=False)
    mine, wrong = [c for c in listed() if c.first == op], []
    assert mine, "no case has this op"
    for case in mine:
        out, expected = case.through(), excluded(case)
        if out is not None and (expected is None or expected[0] != out[0]):
            wrong.append(f"{case.name}: {out[0]}: {out[1]}")
        if out is None and expected is not None:
            wrong.append(f"{case.name} passes: take it out of EXCLUDED")
    assert not wrong, "\n".join(["", *wrong])


def test_count(capsys):
    """At least nine in ten of the cases whose op is listed pass (that those not excluded do is test_op's word)."""
    count, out = len(listed()), [(c, excluded(c)) for c in listed() if excluded(c)]
    reasons = {row[1]: sum(r[1] == row[1] for _, r in out) for _, row in out}
    with capsys.disabled():
        print(f"\nonnx node cases of the listed ops: {count}, passing {count - len(out)} ({1 - len(out) / count:.1%})")
        for reason, n in reasons.items():
            print(f"  excluded {n:3}: {reason}")
    assert len(out) <= 0.1 * count
    unused = [p for p in EXCLUDED if not any(fnmatchcase(c.name, p) for c in listed())]
    assert not unused, "patterns of EXCLUDED that match no case"


def test_other_ops_pass_or_are_refused(tmp_path, monkeypatch, capsys):
    """A case of an op that is not listed passes, or import, lowering or the engine says why not; wrong numbers are wrong."""
    monkeypatch.setattr(Case, "path", tmp_path / "case.mcc", raising=False)
    mine = set(map(id, listed()))
    others, wrong, passed = [c for c in cases() if id(c) not in mine], [], 0
    for case in others:
        out = case.through()
        passed += out is None
        if out is not None and out[1].startswith("AssertionError") and excluded(case, DIFFERENT) is None:
            wrong.append(f"{case.name}: {out[0]}: {out[1]}")
    with capsys.disabled():
        print(f"\nonnx node cases of other ops: {len(others)}, passing {passed}, the others refused")
    assert not wrong, "\n".join(["", *wrong])
