"""How each op carries channel marks: one rule per op in RULES, called with the walk of `groups.analyse` and the node.

A rule gives its outputs marks, unites channels that must go together, registers the constants to cut, and says (by an
edit) which constants and attributes hold channel counts. Marks lie on at most one axis of a value.
"""
from .attention import attention
from .common import along, elementwise, nothing, pool, reduce, same
from .layers import conv, conv_transpose, gather, group_norm, layer_norm, linear, matmul, norm, recurrent
from .move import concat, depth_to_space, expand, pad, reshape, resize, slice_, space_to_depth, split, tile, transpose

UNARY = [
    "abs", "neg", "sign", "floor", "ceil", "round", "exp", "log", "sqrt", "reciprocal", "erf", "sin", "cos", "tan", "tanh",
    "relu", "sigmoid", "silu", "softplus", "softsign", "mish", "hard_swish", "hard_sigmoid", "leaky_relu", "elu", "celu",
    "selu", "gelu", "thresholded_relu", "identity", "dropout", "cast", "not", "is_nan", "is_inf", "shrink", "bernoulli",
]
POOLS = ["max_pool", "average_pool", "lp_pool", "global_average_pool", "global_max_pool", "global_lp_pool"]
NARY = [
    "add", "sub", "mul", "div", "pow", "min", "max", "mod", "where", "equal", "less", "greater", "less_or_equal",
    "greater_or_equal", "and", "or", "xor", "prelu", "clip", "sum", "mean",
]
REDUCE = [
    "reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod", "reduce_l1", "reduce_l2", "reduce_sum_square",
    "reduce_log_sum", "reduce_log_sum_exp",
]

RULES = {
    **dict.fromkeys(UNARY, same), **dict.fromkeys(POOLS, pool), **dict.fromkeys(NARY, elementwise),
    **dict.fromkeys(REDUCE, reduce),
    **dict.fromkeys(("softmax", "log_softmax", "arg_max", "arg_min", "top_k"), along),
    **dict.fromkeys(("batch_norm", "instance_norm"), norm), **dict.fromkeys(("layer_norm", "rms_norm"), layer_norm),
    **dict.fromkeys(("reshape", "flatten", "squeeze", "unsqueeze"), reshape),
    **dict.fromkeys(("lstm", "gru", "rnn"), recurrent), **dict.fromkeys(("shape", "size"), nothing),
    "conv": conv, "attention": attention, "conv_transpose": conv_transpose, "linear": linear, "matmul": matmul, "gather": gather,
    "group_norm": group_norm, "concat": concat, "split": split, "slice": slice_, "transpose": transpose, "expand": expand,
    "tile": tile, "pad": pad, "resize": resize, "depth_to_space": depth_to_space, "space_to_depth": space_to_depth,
}
