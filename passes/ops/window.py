"""Windows of convolutions and pools over 1 to 3 axes: pads, output sizes, sums. [N, C, *spatial] throughout."""
from __future__ import annotations

import torch
import torch.nn.functional as F


def spread(values, n, fallback=1) -> list[int]:
    """An attribute with one number per spatial axis, or its default."""
    return [int(v) for v in values] if values else [fallback] * n


def resolve_pads(auto_pad, pads, size, kernel, strides, dilations) -> list[int]:
    """[begin..., end...]: `pads`, or what auto_pad makes of the input's size."""
    n = len(size)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        begin, end = [], []
        for s, k, step, d in zip(size, kernel, strides, dilations):
            total = max(((s + step - 1) // step - 1) * step + d * (k - 1) + 1 - s, 0)
            small, large = total // 2, total - total // 2
            begin.append(small if auto_pad == "SAME_UPPER" else large)
            end.append(large if auto_pad == "SAME_UPPER" else small)
        return begin + end
    return [0] * (2 * n) if auto_pad == "VALID" else spread(pads, 2 * n, 0)


def pad_spatial(x, pads, value=0.0):
    """Pad by [begin..., end...]; negative pads cut."""
    n = len(pads) // 2
    if not any(pads):
        return x
    flat = [p for i in reversed(range(n)) for p in (pads[i], pads[n + i])]
    return F.pad(x, flat, value=value)


def pool_pads(size, kernel, strides, pads, dilations, ceil_mode) -> list[int]:
    """`pads` with its end widened (or, where windows do not reach, cut) to what the output needs: ONNX's output
    size, ceil_mode included, where a window that would start in the end pad does not count."""
    n, end = len(size), []
    for i in range(n):
        reach = dilations[i] * (kernel[i] - 1) + 1
        span = size[i] + pads[i] + pads[n + i] - reach
        out = span // strides[i] + 1
        if ceil_mode:
            out = -(-span // strides[i]) + 1
            if (out - 1) * strides[i] >= size[i] + pads[i]:
                out -= 1
        end.append((out - 1) * strides[i] + reach - size[i] - pads[i])
    return [*pads[:n], *end]


def window_sum(x, kernel, strides, dilations):
    """The sum of every window of [N, C, *spatial], which is padded already."""
    n = len(kernel)
    if any(d != 1 for d in dilations):
        ones = torch.ones(1, 1, *kernel, dtype=x.dtype, device=x.device)
        conv = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
        y = conv(x.reshape(-1, 1, *x.shape[2:]), ones, stride=strides, dilation=dilations)
        return y.reshape(*x.shape[:2], *y.shape[2:])
    if n == 1:
        return F.avg_pool2d(x[:, :, None], (1, *kernel), (1, *strides), divisor_override=1)[:, :, 0]
    return (F.avg_pool2d, F.avg_pool3d)[n - 2](x, tuple(kernel), tuple(strides), divisor_override=1)
