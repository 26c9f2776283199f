"""ONNX names and ours. The generic rule is CamelCase -> snake_case; the table has what differs."""
from __future__ import annotations

import re

NAMES = {
    "BatchNormalization": "batch_norm",
    "InstanceNormalization": "instance_norm",
    "LayerNormalization": "layer_norm",
    "GroupNormalization": "group_norm",
    "RMSNormalization": "rms_norm",
    "LpNormalization": "lp_norm",
    "MatMul": "matmul",
    "MatMulInteger": "matmul_integer",
    "QLinearMatMul": "qlinear_matmul",
    "QLinearConv": "qlinear_conv",
    "PRelu": "prelu",
    "LSTM": "lstm",
    "GRU": "gru",
    "RNN": "rnn",
    "LRN": "lrn",
    "ReduceL1": "reduce_l1",
    "ReduceL2": "reduce_l2",
    "Swish": "silu",
    "IsNaN": "is_nan",
    "GatherND": "gather_nd",
    "ScatterND": "scatter_nd",
}
BACK = {ours: theirs for theirs, ours in NAMES.items()}

# Attributes that became inputs in a later opset: ONNX op -> (attribute, input position)...
MOVED = {
    **dict.fromkeys(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
                     "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "Squeeze", "Unsqueeze"], (("axes", 1),)),
    "Split": (("split", 1),),
    "Clip": (("min", 1), ("max", 2)),
    "Pad": (("pads", 1), ("value", 2)),
    "Slice": (("starts", 1), ("ends", 2), ("axes", 3)),
    "TopK": (("k", 1),),
    "Dropout": (("ratio", 1),),
    "Upsample": (("scales", 1),),
    "Tile": (("tiles", 1),),
}

# What to do about ops that have no form here.
ADVICE = {
    **dict.fromkeys(["SequenceAt", "SplitToSequence", "SequenceInsert", "SequenceErase", "ConcatFromSequence"],
                    "its length or position is not known; bind the dimension it depends on"),
    "Loop": "unroll the loop before the export",
    "Scan": "unroll the loop before the export, or use LSTM or GRU",
    "If": "export with the branch fixed, or bind the dimension it depends on",
    "NonZero": "its result has no fixed shape; use Where, TopK or ArgMax",
    "NonMaxSuppression": "cut the model before it and do this step in the app",
    "Unique": "its result has no fixed shape; do this step in the app",
    "Compress": "its result has no fixed shape; use Gather or Slice",
    "GridSample": "use Resize",
    "RoiAlign": "use Resize or AveragePool",
    "STFT": "use Conv with the window's sine and cosine as weights",
    "DFT": "use MatMul with the DFT matrix",
    "Multinomial": "take the probabilities as output and draw in the app",
    "RandomNormal": "make the noise an input of the model",
    "RandomNormalLike": "make the noise an input of the model",
    "RandomUniform": "make the noise an input of the model",
    "RandomUniformLike": "make the noise an input of the model",
    "MaxUnpool": "use Resize or ConvTranspose",
    "DeformConv": "use Conv",
}


def snake(op_type: str) -> str:
    """Our name of an ONNX op: "HardSwish" -> "hard_swish", with the exceptions of NAMES."""
    return NAMES.get(op_type) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", op_type).lower()


def camel(op: str) -> str:
    """The ONNX name of one of our ops, the inverse of `snake`."""
    return BACK.get(op) or "".join(part.capitalize() for part in op.split("_"))
