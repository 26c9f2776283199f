"""Ops that move, copy, select or make values without computing on them."""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from . import dtype_of, ints, op
from .math import wide

# --- shapes -----------------------------------------------------------------------------------------------------


@op("shape", example=lambda r: ([r(2, 3, 4)], {"start": 1}))
def shape(x, start=0, end=None):
    """int64, real also for a meta tensor."""
    return torch.tensor(list(x.shape)[slice(start, end)], dtype=torch.int64)


@op("size", example=lambda r: ([r(2, 3, 4)], {}))
def size(x):
    """int64 scalar, real also for a meta tensor."""
    return torch.tensor(x.numel(), dtype=torch.int64)


@op("reshape", example=lambda r: ([r(2, 3, 4), [0, -1, 2]], {}), static=(1,))
def reshape(x, shape, allowzero=0):
    """-1 is what is left; 0 keeps the dimension (allowzero: is 0)."""
    return x.reshape([x.shape[i] if d == 0 and not allowzero else d for i, d in enumerate(ints(shape))])


@op("flatten", example=lambda r: ([r(2, 3, 4)], {"axis": 2}))
def flatten(x, axis=1):
    """To two dimensions, split before `axis`."""
    axis = axis + x.ndim if axis < 0 else axis
    rows = int(np.prod(x.shape[:axis], dtype=np.int64))
    return x.reshape(rows, int(np.prod(x.shape[axis:], dtype=np.int64)))


@op("squeeze", example=lambda r: ([r(2, 1, 3, 1), [1]], {}), static=(1,))
def squeeze(x, axes=None):
    drop = [i for i, d in enumerate(x.shape) if d == 1] if axes is None else [a % x.ndim for a in ints(axes)]
    if any(x.shape[a] != 1 for a in drop):
        raise ValueError(f"squeeze: axes {drop} of {list(x.shape)} are not all 1")
    return x.reshape([d for i, d in enumerate(x.shape) if i not in drop])


@op("unsqueeze", example=lambda r: ([r(2, 3), [0, -1]], {}), static=(1,))
def unsqueeze(x, axes):
    rank = x.ndim + len(ints(axes))
    added, rest = {a % rank for a in ints(axes)}, iter(x.shape)
    return x.reshape([1 if i in added else next(rest) for i in range(rank)])


@op("transpose", example=lambda r: ([r(2, 3, 4)], {"perm": [2, 0, 1]}))
def transpose(x, perm=None):
    return x.permute(list(perm) if perm is not None else list(range(x.ndim))[::-1])


@op("expand", example=lambda r: ([r(3, 1), [2, 1, 4]], {}), static=(1,))
@wide
def expand(x, shape):
    """x broadcast with `shape` (both ways, as in numpy)."""
    return x.expand(torch.broadcast_shapes(x.shape, ints(shape)))


@op("tile", example=lambda r: ([r(2, 3), [2, 3]], {}), static=(1,))
@wide
def tile(x, repeats):
    return x.repeat(ints(repeats))


# --- parts ------------------------------------------------------------------------------------------------------


@op("concat", example=lambda r: ([r(2, 3), r(2, 1), r(2, 2)], {"axis": 1}))
@wide
def concat(*xs, axis):
    return torch.cat(xs, axis)


@op("split", example=lambda r: ([r(2, 6), [1, 5]], {"axis": 1}), static=(1,))
def split(x, split=None, axis=0, num_outputs=None, outputs=1):
    """Into parts of the given lengths, else into equal ones (the last may be smaller)."""
    if split is None:
        parts = num_outputs or outputs
        each = -(-x.shape[axis] // parts)
        lengths = [max(min(each, x.shape[axis] - i * each), 0) for i in range(parts)]
    else:
        lengths = ints(split)
    return x.split(lengths, axis)


@op("slice", example=lambda r: ([r(4, 6), [-1, 1], [-100, 6], [0, 1], [-2, 2]], {}), static=(1, 2, 3, 4))
@wide
def slice_(x, starts, ends, axes=None, steps=None):
    """Python's slices on the named axes; negative steps walk backwards."""
    starts, ends = ints(starts), ints(ends)
    axes = list(range(len(starts))) if axes is None else ints(axes)
    for start, end, axis, step in zip(starts, ends, axes, [1] * len(starts) if steps is None else ints(steps)):
        n, axis = x.shape[axis], axis % x.ndim
        start, stop, step = slice(start, end, step).indices(n)
        if step > 0:
            x = x[(slice(None),) * axis + (slice(start, max(stop, start), step),)]
        else:
            x = x.index_select(axis, torch.arange(start, min(stop, start), step, device=x.device))
    return x


def _index(at, n):
    """Negative indices count from the end."""
    at = at.to(torch.int64)
    return torch.where(at < 0, at + n, at)


@op("gather", example=lambda r: ([r(5, 4), [[0, -1, 2], [3, 3, 1]]], {"axis": 0}))
@wide
def gather(x, at, axis=0):
    """Whole slices of x along `axis`: the indices' shape takes that axis' place. An embedding is this on axis 0."""
    axis = axis % x.ndim
    rows = x.index_select(axis, _index(at, x.shape[axis]).reshape(-1))
    return rows.reshape([*x.shape[:axis], *at.shape, *x.shape[axis + 1:]])


@op("gather_elements", example=lambda r: ([r(3, 4), [[0, -1], [1, 1], [2, 0]]], {"axis": 1}))
@wide
def gather_elements(x, at, axis=0):
    return x.gather(axis, _index(at, x.shape[axis]))


def _flat_rows(x, at, batch_dims=0):
    """For indices [..., k] into the first k axes after the batch: (row number of each index, how many axes k)."""
    k, at = at.shape[-1], at.to(torch.int64)
    row = torch.zeros(at.shape[:-1], dtype=torch.int64, device=at.device)
    for i in range(batch_dims):
        place = torch.arange(x.shape[i], device=at.device)
        row = row * x.shape[i] + place.reshape(-1, *[1] * (row.ndim - 1 - i))
    for i in range(k):
        n = x.shape[batch_dims + i]
        row = row * n + _index(at[..., i], n)
    return row, batch_dims + k


@op("gather_nd", example=lambda r: ([r(2, 3, 4), [[[0], [-1]], [[1], [2]]]], {"batch_dims": 1}))
@wide
def gather_nd(x, at, batch_dims=0):
    row, k = _flat_rows(x, at, batch_dims)
    return x.reshape(-1, *x.shape[k:]).index_select(0, row.reshape(-1)).reshape(*row.shape, *x.shape[k:])


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@op("scatter_elements", example=lambda r: ([r(3, 4), [[0, -1], [1, 1]], r(2, 2)], {"axis": 1, "reduction": "add"}))
@wide
def scatter_elements(x, at, updates, axis=0, reduction="none"):
    """x with updates written (or added, multiplied...) where the indices say; of equal indices the last writes."""
    at = _index(at, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, at, updates)
    return x.scatter_reduce(axis, at, updates, _REDUCTIONS[reduction], include_self=True)


@op("scatter_nd", example=lambda r: ([r(4, 3), [[1], [-1]], r(2, 3)], {}))
@wide
def scatter_nd(x, at, updates, reduction="none"):
    """x with whole slices written (or added...) at indices [..., k] into its first k axes."""
    row, k = _flat_rows(x, at)
    width = int(np.prod(x.shape[k:], dtype=np.int64))
    place = row.reshape(-1, 1).expand(-1, width)
    return scatter_elements(x.reshape(-1, width), place, updates.reshape(-1, width), 0, reduction).reshape(x.shape)


# --- making -----------------------------------------------------------------------------------------------------


@op("one_hot", example=lambda r: ([[0, -1, 2], [4], np.array([0.5, 2.0], "float32")], {"axis": 0}), static=(1,))
def one_hot(at, depth, values, axis=-1):
    """values [off, on]; indices out of range are off everywhere."""
    n = ints(depth)[0]
    at = _index(at, n)
    axis = axis % (at.ndim + 1)
    place = torch.arange(n, device=at.device).reshape(-1, *[1] * (at.ndim - axis))
    return torch.where(at.unsqueeze(axis) == place, values[1], values[0])


@op("range", example=lambda r: ([np.float32(1), np.float32(8), np.float32(1.5)], {}), static=(0, 1, 2))
def range_(start, limit, delta):
    """start + i * delta for all that lie before `limit`."""
    a, b, d = start.item(), limit.item(), delta.item()
    n = max(int(np.ceil((b - a) / d)), 0)
    return (torch.arange(n) * d + a).to(start.dtype)


@op("constant_of_shape", example=lambda r: ([[2, 3]], {"value": np.array([1.5], "float32")}), static=(0,))
def constant_of_shape(shape, value=None):
    """`value`: a number or an array of one element, which gives the dtype; 0.0 float32 when absent."""
    value = torch.as_tensor(np.zeros(1, "float32") if value is None else value)
    return value.reshape(()).expand(ints(shape)).clone()


@op("eye_like", example=lambda r: ([r(3, 4)], {"k": 1, "dtype": "float32"}))
def eye_like(x, dtype=None, k=0):
    """Ones on the k-th diagonal; dtype is a name, x's when absent."""
    rows, columns = (torch.arange(n, device=x.device) for n in x.shape)
    return (columns - rows[:, None] == k).to(x.dtype if dtype is None else dtype_of(dtype))


@op("trilu", example=lambda r: ([r(2, 4, 5), 1], {"upper": 0}), static=(1,))
@wide
def trilu(x, k=None, upper=1):
    k = 0 if k is None else ints(k)[0]
    return x.triu(k) if upper else x.tril(k)


# --- images -----------------------------------------------------------------------------------------------------


@op("pad", example=lambda r: ([r(2, 3, 4), [1, -1, 2, 0], None, [1, 2]], {"mode": "reflect"}), static=(1, 2, 3))
@wide
def pad(x, pads, value=None, axes=None, mode="constant"):
    """pads [begin..., end...] on `axes` (all when absent); negative ones cut. mode: constant, reflect, edge, wrap."""
    axes = list(range(x.ndim)) if axes is None else [a % x.ndim for a in ints(axes)]
    pads = ints(pads)
    pairs = {a: (pads[i], pads[len(axes) + i]) for i, a in enumerate(axes)}
    if mode == "constant":
        flat = [p for a in reversed(range(x.ndim)) for p in pairs.get(a, (0, 0))]
        return F.pad(x, flat, value=0 if value is None else value.item()) if any(flat) else x
    for a, (begin, end) in pairs.items():
        n = x.shape[a]
        cut = np.arange(n)[max(-begin, 0):n - max(-end, 0)]
        if begin or end:
            at = np.pad(cut, (max(begin, 0), max(end, 0)), mode=mode)
            x = x.index_select(a, torch.from_numpy(at).to(x.device))
    return x


@op("depth_to_space", example=lambda r: ([r(2, 8, 3, 2)], {"blocksize": 2, "mode": "CRD"}))
def depth_to_space(x, blocksize, mode="DCR"):
    """[N, C * b * b, H, W] -> [N, C, H * b, W * b]; the depth is (b, b, C) for DCR, (C, b, b) for CRD."""
    n, c, h, w = x.shape
    b, c = blocksize, c // blocksize ** 2
    x = x.reshape(n, b, b, c, h, w).permute(0, 3, 4, 1, 5, 2) if mode == "DCR" else \
        x.reshape(n, c, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c, h * b, w * b)


@op("space_to_depth", example=lambda r: ([r(2, 3, 4, 6)], {"blocksize": 2}))
def space_to_depth(x, blocksize, mode="DCR"):
    """[N, C, H * b, W * b] -> [N, C * b * b, H, W]; the depth is (b, b, C) for DCR, (C, b, b) for CRD."""
    n, c, h, w = x.shape
    b = blocksize
    x = x.reshape(n, c, h // b, b, w // b, b)
    x = x.permute(0, 3, 5, 1, 2, 4) if mode == "DCR" else x.permute(0, 1, 3, 5, 2, 4)
    return x.reshape(n, c * b * b, h // b, w // b)


@op("resize", example=lambda r: ([r(1, 2, 4, 5), None, [1.0, 1.0, 1.75, 0.6]],
                                 {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}),
    static=(1, 2, 3))
def resize(x, roi=None, scales=None, sizes=None, mode="nearest", coordinate_transformation_mode="half_pixel",
           nearest_mode="round_prefer_floor", cubic_coeff_a=-0.75, exclude_outside=0, extrapolation_value=0.0,
           antialias=0, axes=None, keep_aspect_ratio_policy="stretch"):
    """Every axis is resampled on its own: y[o] = sum over taps t of x[index[o, t]] * weight[o, t]."""
    taps, outside = resize_taps(x.shape, roi, scales, sizes, mode, coordinate_transformation_mode, nearest_mode,
                                cubic_coeff_a, exclude_outside, antialias, axes, keep_aspect_ratio_policy)
    y = x if x.is_floating_point() or mode == "nearest" else x.to(torch.float32)
    for axis, (index, weight) in taps.items():
        parts = []
        for t in range(index.shape[1]):
            part = y.index_select(axis, torch.from_numpy(index[:, t].copy()).to(x.device))
            if mode != "nearest":
                w = torch.from_numpy(weight[:, t].copy()).to(x.device, y.dtype)
                part = part * w.reshape(-1, *[1] * (x.ndim - 1 - axis))
            parts.append(part)
        y = sum(parts[1:], parts[0])
    for axis, gone in outside.items():
        mask = torch.from_numpy(gone).to(x.device).reshape(-1, *[1] * (x.ndim - 1 - axis))
        y = torch.where(mask, torch.full((), extrapolation_value, dtype=y.dtype, device=x.device), y)
    if y.dtype != x.dtype:
        y = y.round().clamp(torch.iinfo(x.dtype).min, torch.iinfo(x.dtype).max).to(x.dtype)
    return y


def resize_taps(shape, roi, scales, sizes, mode, transform, nearest_mode, a, exclude_outside, antialias, axes, policy):
    """({axis: (index [out, taps] int64, weight [out, taps] float64)}, {axis: bool [out], what lies outside the roi})."""
    rank = len(shape)
    axes = list(range(rank)) if axes is None else [int(i) % rank for i in axes]
    scales = None if scales is None or scales.numel() == 0 else [float(s) for s in scales.reshape(-1).tolist()]
    sizes = None if sizes is None or sizes.numel() == 0 else ints(sizes)
    if (scales is None) == (sizes is None):
        raise ValueError("resize needs either scales or sizes")
    if sizes is not None and policy != "stretch":
        pick = min if policy == "not_larger" else max
        s = pick(n / shape[i] for n, i in zip(sizes, axes))
        scales, sizes = [s] * len(axes), [int(np.floor(s * shape[i] + 0.5)) for i in axes]
    elif sizes is not None:
        scales = [n / shape[i] for n, i in zip(sizes, axes)]
    else:
        sizes = [int(np.floor(s * shape[i] + 1e-9)) for s, i in zip(scales, axes)]
    corners = None if roi is None or roi.numel() == 0 else [float(v) for v in roi.reshape(-1).tolist()]
    taps, outside = {}, {}
    for j, axis in enumerate(axes):
        n, m, s = shape[axis], sizes[j], scales[j]
        crop = transform == "tf_crop_and_resize"
        if n == m and s == 1 and not crop:
            continue
        begin, end = (corners[j], corners[len(axes) + j]) if crop else (0.0, 1.0)
        at = _coordinates(np.arange(m, dtype=np.float64), n, m, s, transform, begin, end)
        if crop:
            outside[axis] = (at < 0) | (at > n - 1)
        index, weight = _taps(at, s, mode, nearest_mode, a, antialias)
        if exclude_outside and mode != "nearest":
            weight = np.where((index < 0) | (index >= n), 0.0, weight)
            weight = weight / weight.sum(1, keepdims=True)
        taps[axis] = index.clip(0, n - 1), weight
    return taps, {k: v for k, v in outside.items() if v.any()}


def _coordinates(o, n, m, s, transform, begin, end):
    """Where output cells 0..m-1 lie in an input of n cells; s is the scale."""
    if transform == "half_pixel":
        return (o + 0.5) / s - 0.5
    if transform == "pytorch_half_pixel":
        return (o + 0.5) / s - 0.5 if m > 1 else o * 0.0
    if transform == "align_corners":
        return o * (n - 1) / (m - 1) if m > 1 else o * 0.0
    if transform == "asymmetric":
        return o / s
    if transform == "tf_half_pixel_for_nn":
        return (o + 0.5) / s
    if transform == "half_pixel_symmetric":
        exact = s * n  # the output's length before it was cut to whole cells
        return n / 2 * (1 - m / exact) + (o + 0.5) / s - 0.5
    if transform == "tf_crop_and_resize":
        return begin * (n - 1) + o * (end - begin) * (n - 1) / (m - 1) if m > 1 else o * 0 + 0.5 * (begin + end) * (n - 1)
    raise ValueError(f"resize: unknown coordinate_transformation_mode '{transform}'")


def _taps(at, s, mode, nearest_mode, a, antialias):
    """Indices (not yet clipped) and weights of the cells around each coordinate."""
    if mode == "nearest":
        cell = {"round_prefer_floor": lambda v: np.ceil(v - 0.5), "round_prefer_ceil": lambda v: np.floor(v + 0.5),
                "floor": np.floor, "ceil": np.ceil}[nearest_mode](at)
        return cell.astype(np.int64)[:, None], np.ones((len(at), 1))
    kernel = _triangle if mode == "linear" else lambda d: _cubic(d, a)
    stretch = min(s, 1.0) if antialias else 1.0
    reach = int(np.ceil((1 if mode == "linear" else 2) / stretch))
    index = np.floor(at).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
    weight = kernel((index - at[:, None]) * stretch)
    return index, weight / weight.sum(1, keepdims=True)


def _triangle(d):
    return np.maximum(1 - abs(d), 0)


def _cubic(d, a):
    """Keys' cubic convolution kernel."""
    d = abs(d)
    near = (a + 2) * d ** 3 - (a + 3) * d ** 2 + 1
    far = a * d ** 3 - 5 * a * d ** 2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
