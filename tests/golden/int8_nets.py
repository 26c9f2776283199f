"""Random int8 networks: QDQ graphs as quantize.ptq makes them, with every integer op, for the bit-exactness test."""
from __future__ import annotations

import numpy as np

from mcc.passes.graph import Graph, Node, Value, constant


class Net:
    """Grows a graph whose activations are (int8 value, scale, zero) triples behind dequantize_linear."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.count = 0
        self.batch = 1

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def const(self, data, stem="c", **meta) -> Value:
        return constant(self.name(stem), data, **meta)

    def op(self, op: str, *inputs, **attrs) -> Value:
        out = Value(self.name("v"))
        self.nodes.append(Node(op, list(inputs), [out], attrs, self.name(op)))
        return out

    def quantize(self, v: Value, scale: float | None = None, zero: int | None = None) -> Value:
        """v through quantize and dequantize; some pairs are uint8, as onnxruntime writes them."""
        scale = float(self.rng.uniform(0.02, 0.06)) if scale is None else scale
        zero = int(self.rng.integers(-20, 20)) if zero is None else zero
        s = self.const(np.array(scale, np.float32), "scale")
        z = self.const(np.array(zero + 128, np.uint8) if self.rng.random() < 0.3 else np.array(zero, np.int8), "zero")
        return self.op("dequantize_linear", self.op("quantize_linear", v, s, z), s, z)

    def weight(self, *shape) -> Value:
        w = self.rng.integers(-127, 128, shape).astype(np.int8)
        if self.rng.random() < 0.3:
            w = np.where(self.rng.random(shape) < 0.5, np.int8(-128), np.int8(127))  # extremes
        fan = np.prod(shape[1:])
        scale = self.rng.uniform(0.5, 1.5, shape[0] if self.rng.random() < 0.8 else ()) / (40 * np.sqrt(fan))
        return self.op("dequantize_linear", self.const(w, "w"), self.const(scale.astype(np.float32), "ws"), axis=0)

    def bias(self, n: int):
        return self.const(self.rng.standard_normal(n).astype(np.float32), "b") if self.rng.random() < 0.8 else None


def random_int8_graph(seed: int) -> Graph:
    """A network of 6 to 12 random int8 blocks over an image, with a pooled linear head; one float input."""
    net = Net(seed)
    rng = net.rng
    c, h, w = int(rng.choice([3, 4, 8, 19])), int(rng.integers(5, 14)), int(rng.integers(5, 14))
    x = Value("x", "float32", (int(rng.choice([1, 1, 2])), c, h, w))
    y = net.quantize(x)
    for _ in range(int(rng.integers(6, 13))):
        y, c, h, w = BLOCKS[int(rng.integers(len(BLOCKS)))](net, y, c, h, w)
    y = net.quantize(net.op("global_average_pool", y))
    y = net.op("flatten", y, axis=1)
    out = int(rng.integers(1, 40))
    y = net.op("linear", y, net.weight(out, c), net.bias(out))
    if rng.random() < 0.5:
        y = net.quantize(y)
    return Graph([x], [y], net.nodes, f"int8_{seed}")


def random_dynamic_graph(seed: int) -> Graph:
    """Layers over activations quantized as they come, as onnxruntime's quantize_dynamic writes them: conv_integer and
    matmul_integer of dynamic_quantize_linear, scaled back to float32."""
    net = Net(seed)
    rng = net.rng

    def layer(product: str, y: Value, w: np.ndarray, bias_shape, **attrs) -> Value:
        codes, scale, zero = (Value(net.name("q")) for _ in range(3))
        net.nodes.append(Node("dynamic_quantize_linear", [y], [codes, scale, zero], {}, net.name("quantize")))
        inputs = [codes, net.const(w, "w"), zero]
        per_column = product == "matmul_integer" and rng.random() < 0.5
        if rng.random() < 0.7:
            inputs.append(net.const(np.zeros(w.shape[-1] if per_column else (), np.int8), "w_zero"))
        w_scale = rng.uniform(0.5, 1.5, w.shape[-1] if per_column else (1,) * int(rng.integers(2))) / (40 * np.sqrt(w[0].size))
        both = net.op("mul", scale, net.const(w_scale.astype(np.float32), "w_scale"))
        y = net.op("mul", net.op("cast", net.op(product, *inputs, **attrs), to="float32"), both)
        if rng.random() < 0.7:
            y = net.op("add", y, net.const(rng.standard_normal(bias_shape).astype(np.float32), "b"))
        return net.op("relu", y) if rng.random() < 0.5 else y

    c, h, w = int(rng.choice([1, 3, 4, 19])), int(rng.integers(6, 15)), int(rng.integers(6, 15))
    x = Value("x", "float32", (int(rng.choice([1, 2])), c, h, w))
    y = x
    for _ in range(int(rng.integers(2, 6))):
        k, stride, depthwise = int(rng.choice([1, 3, 3, 5])), int(rng.choice([1, 1, 2])), c > 4 and rng.random() < 0.3
        out = c if depthwise else int(rng.choice([3, 16, 33, 64]))
        pad, group = int(rng.integers(k // 2, k)), c if depthwise else 1
        weight = rng.integers(-127, 128, (out, c // group, k, k)).astype(np.int8)
        y = layer("conv_integer", y, weight, (out, 1, 1), strides=[stride] * 2, pads=[pad] * 4, dilations=[1, 1], group=group)
        c = out
    y = net.op("global_max_pool", y)
    y = net.op("reshape", y, net.const(np.array([0, 1, -1])))
    out = int(rng.integers(1, 80))
    y = layer("matmul_integer", y, rng.integers(-127, 128, (c, out)).astype(np.int8), out)
    return Graph([x], [y], net.nodes, f"dynamic_{seed}")


def _conv(net: Net, y, c, h, w, depthwise=False):
    rng = net.rng
    k = int(rng.choice([1, 1, 3, 3, 5] if not depthwise else [3, 3, 5]))
    stride = int(rng.choice([1, 1, 2])) if min(h, w) > 4 else 1
    pad = k // 2
    out = c if depthwise else int(rng.choice([1, 7, 8, 16, 24, 33]))
    group = c if depthwise else 1
    y = net.op("conv", y, net.weight(out, c // group, k, k), net.bias(out), strides=[stride] * 2, pads=[pad] * 4,
               dilations=[1, 1], group=group)
    kind = rng.choice(["none", "relu", "clip", "hard_swish"])
    if kind == "relu":
        y = net.op("relu", y)
    elif kind == "clip":
        y = net.op("clip", y, net.const(np.array(0, np.float32)), net.const(np.array(1.5, np.float32)))
    elif kind == "hard_swish":
        y = net.op("hard_swish", net.quantize(y))
    h, w = ((d + 2 * pad - k) // stride + 1 for d in (h, w))
    return net.quantize(y), out, h, w


def _depthwise(net: Net, y, c, h, w):
    return _conv(net, y, c, h, w, depthwise=True)


def _residual(net: Net, y, c, h, w):
    """conv -> (quantized or not) -> add -> relu"""
    z = net.op("conv", y, net.weight(c, c, 3, 3), net.bias(c), strides=[1, 1], pads=[1] * 4, dilations=[1, 1], group=1)
    z = net.op("add", net.quantize(z) if net.rng.random() < 0.5 else z, y)
    return net.quantize(net.op("relu", z) if net.rng.random() < 0.5 else z), c, h, w


def _squeeze(net: Net, y, c, h, w):
    """y * hard_sigmoid(conv(mean(y)))"""
    s = net.quantize(net.op("global_average_pool", y))
    s = net.quantize(net.op("conv", s, net.weight(c, c, 1, 1), net.bias(c)))
    s = net.quantize(net.op("hard_sigmoid", s), 1 / 255, -128)
    return net.quantize(net.op("mul", y, s)), c, h, w


def _pool(net: Net, y, c, h, w):
    if min(h, w) < 3:
        return y, c, h, w
    if net.rng.random() < 0.5:
        source = net.nodes[-1].inputs  # same scale on both sides: the values only move
        y = net.op("max_pool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        s, z = (v.data.reshape(-1)[0] for v in source[1:3])
        y = net.quantize(y, float(s), int(z) - (128 if source[2].dtype == "uint8" else 0))
    else:
        y = net.quantize(net.op("average_pool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4,
                                count_include_pad=int(net.rng.integers(2))))
    return y, c, (h + 2 - 3) // 2 + 1, (w + 2 - 3) // 2 + 1


def _concat(net: Net, y, c, h, w):
    z, n, _, _ = _branch(net, y, c, h, w)
    return net.quantize(net.op("concat", y, z, axis=1)), c + n, h, w


def _branch(net: Net, y, c, h, w):
    n = int(net.rng.choice([3, 8, 16]))
    y = net.op("conv", y, net.weight(n, c, 1, 1), net.bias(n))
    return net.quantize(y), n, h, w


def _resize(net: Net, y, c, h, w):
    """Linear, of one scale on both sides or two; sometimes of one axis."""
    rng = net.rng
    size = [int(rng.integers(max(1, h // 2), h + 6)), w if rng.random() < 0.2 else int(rng.integers(max(1, w // 2), w + 6))]
    how = str(rng.choice(["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]))
    whole = rng.random() < 0.5
    scales = None if whole else net.const(np.array([1, 1, size[0] / h + 1e-4, size[1] / w + 1e-4], np.float32), "scales")
    sizes = net.const(np.array(size), "sizes") if whole else None
    axes = {"axes": [2, 3]} if whole else {}
    y = net.op("resize", y, None, scales, sizes, mode="linear", coordinate_transformation_mode=how, **axes)
    return (net.quantize(y) if rng.random() < 0.7 else _same(net, y)), c, *size


def _same(net: Net, y):
    """A pair of the scale and zero point that were last used."""
    s, z = net.nodes[-2].inputs[1:3]
    return net.op("dequantize_linear", net.op("quantize_linear", y, s, z), s, z)


def _channel_norm(net: Net, y, c, h, w):
    """Groups of channels, or each for itself."""
    rng = net.rng
    gamma, beta = (net.const(rng.standard_normal(c).astype(np.float32), "gamma") for _ in range(2))
    groups = int(rng.choice([g for g in (1, 2, 3, 4) if c % g == 0]))
    y = net.op("instance_norm", y, gamma, beta, epsilon=1e-4) if rng.random() < 0.5 else \
        net.op("group_norm", y, gamma, beta, num_groups=groups)
    return net.quantize(y), c, h, w


def _choice(net: Net, y, c, h, w):
    """A softmax over the channels."""
    return net.quantize(net.op("softmax", y, axis=1), 1 / 256, -128), c, h, w


BLOCKS = (_conv, _conv, _depthwise, _residual, _squeeze, _pool, _concat, _resize, _channel_norm, _choice)


# --- transformers -------------------------------------------------------------------------------------------------

def random_transformer_graph(seed: int) -> Graph:
    """One to three encoder blocks on [batch, length, width], quantized everywhere."""
    net = Net(seed)
    rng = net.rng
    heads, depth, length = int(rng.choice([1, 2, 3])), int(rng.choice([4, 7, 16, 20])), int(rng.choice([1, 3, 8, 17, 40]))
    width = heads * depth
    net.batch = int(rng.choice([1, 2]))
    x = Value("x", "float32", (net.batch, length, width))
    y = net.quantize(x)
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.choice(["attention"] * 3 + ["mixer", "products"])
        z = _attention(net, y, heads, depth, length) if kind == "attention" else _mixer(net, y, width) if kind == "mixer" else \
            _products(net, y, width)
        y = _norm(net, net.op("add", y, z), width)
        y = _norm(net, net.op("add", y, _feed_forward(net, y, width)), width)
    y = net.quantize(net.op("linear", y, net.weight(5, width), net.bias(5)))
    if rng.random() < 0.5:
        y = net.quantize(net.op("softmax", y, axis=int(rng.choice([-1, 2]))), 1 / 256, -128)
    return Graph([x], [y], net.nodes, f"transformer_{seed}")


def _attention(net: Net, y, heads, depth, length):
    rng, n = net.rng, 5 if net.rng.random() < 0.5 else depth
    kv = heads if heads != 2 or rng.random() < 0.5 else 1
    q, k, v = (net.quantize(net.op("linear", y, net.weight(w, heads * depth), net.bias(w))) for w in
               (heads * depth, kv * depth, kv * n))
    kind = rng.choice(["none", "bool", "float", "causal", "window", "valid"])
    shape = (length, length) if rng.random() < 0.5 else (1, 1, 1, length)
    mask, attrs = [], {}
    if kind == "bool":
        mask = [net.const(rng.random(shape) < 0.7, "mask")]
    elif kind == "float":
        mask = [net.const(np.where(rng.random(shape) < 0.7, rng.standard_normal(shape), -1e4).astype(np.float32), "mask")]
    elif kind == "causal":
        attrs = {"is_causal": 1}
    elif kind == "window":
        attrs = {"left_window_size": int(rng.integers(0, 5)), "right_window_size": int(rng.integers(-1, 3))}
    elif kind == "valid":
        mask = [None, None, None, net.const(rng.integers(0, length + 1, net.batch), "valid")]
    if rng.random() < 0.3:
        attrs["scale"] = float(rng.uniform(0.05, 1.0))
    y = net.op("attention", q, k, v, *mask, q_num_heads=heads, kv_num_heads=kv, **attrs)
    return net.quantize(net.op("linear", net.quantize(y), net.weight(heads * depth, heads * n), net.bias(heads * depth)))


def _mixer(net: Net, y, width):
    """Weights of channels by a softmax over the rows."""
    s = net.quantize(net.op("linear", y, net.weight(width, width), net.bias(width)))
    s = net.quantize(net.op("softmax", s, axis=1), 1 / 256, -128)
    return net.quantize(net.op("mul", y, s))


def _products(net: Net, y, width):
    """Attention as onnxruntime's quantizer leaves it: every step rounded."""
    q, k, v = (net.quantize(net.op("linear", y, net.weight(width, width), net.bias(width))) for _ in range(3))
    s = net.quantize(net.op("matmul", q, net.quantize(net.op("transpose", k, perm=[0, 2, 1]))))
    s = net.quantize(net.op("softmax", s, axis=-1), 1 / 255, -128)
    return net.quantize(net.op("matmul", s, v))


def _feed_forward(net: Net, y, width):
    y = net.quantize(net.op("linear", y, net.weight(2 * width, width), net.bias(2 * width)))
    y = net.quantize(net.op("gelu", y))
    return net.quantize(net.op("linear", y, net.weight(width, 2 * width), net.bias(width)))


def _norm(net: Net, y, width):
    """A norm of the last axis, of int8."""
    rng = net.rng
    gamma, beta = (net.const(t.astype(np.float32), "gamma") for t in (rng.standard_normal(width), rng.standard_normal(width)))
    if rng.random() < 0.3:
        return net.quantize(net.op("rms_norm", net.quantize(y), gamma, epsilon=1e-6))
    return net.quantize(net.op("layer_norm", net.quantize(y), gamma, *([beta] if rng.random() < 0.8 else []), epsilon=1e-5))
