"""Weights that share by hashing (HashedNets, Chen et al., arXiv 1504.04788): w[i, j] = sign(i, j) * bucket[h(i, j)].

Nothing says which bucket a weight uses but the hash of its place, so a file keeps the buckets and a seed. The hash is the one of
kernels/core/hash.h, bit for bit. Every index of every axis has a key of 32 bits, and the keys of a place are combined by xor
(tabulation hashing) before they are mixed. So a place keeps its hash when axes change their order or channels go. Along one axis,
that of the outputs, indices go by fours (RUN) that share a key and read four neighbouring buckets: as four hashed matrices of a
quarter of the outputs each, and engines take four weights at a time.

meta["hashed"] of a Value: {"seed": s, "base": b, "buckets": n, "run": a, "axes": [...]}. run is the number of the axis that goes
by fours. An axis is {"axis": a, "at": positions}: the number that it had, and the indices that it had there (uint32 [length];
None: 0, 1, 2...); NONE is an axis that came later. base is xored to all keys: those of axes that are gone.
"""
from __future__ import annotations

import numpy as np

NONE = 255
RUN = 4
MULTIPLIER = 0x9E3779B1
MAX_BUCKETS = 1 << 28


def mixed(x: np.ndarray) -> np.ndarray:
    """32 bits to 32 bits, one to one, every bit on all (uint32 -> uint32)."""
    x = np.asarray(x, np.uint32)
    x = (x ^ x >> np.uint32(16)) * np.uint32(0x7FEB352D)
    x = (x ^ x >> np.uint32(15)) * np.uint32(0x846CA68B)
    return x ^ x >> np.uint32(16)


def key(seed: int, axis: int, at: np.ndarray) -> np.ndarray:
    """The keys of indices `at` of an axis, uint32; 0 for one that came later."""
    at = np.asarray(at, np.uint32)
    if axis == NONE:
        return np.zeros_like(at)
    start = mixed(np.array([(seed + axis * MULTIPLIER) & 0xFFFFFFFF], np.uint32))
    return mixed(mixed(at + start) + np.uint32(axis))


def fresh(shape: tuple[int, ...], seed: int, buckets: float, run: int = 0) -> dict:
    """What meta["hashed"] says of a weight of this shape that is shared now; buckets is rounded to a multiple of RUN, run the
    axis of the outputs."""
    return {"seed": int(seed) & 0xFFFFFFFF, "base": 0, "buckets": max(1, round(buckets / RUN)) * RUN, "run": run,
            "axes": [{"axis": a, "at": None} for a in range(len(shape))]}


def places(how: dict, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(bucket int64, negative bool) of every element of `shape`."""
    x, slot = np.full((), how["base"], np.uint32), np.zeros((), np.int64)
    for d, (n, axis) in enumerate(zip(shape, how["axes"], strict=True)):
        keys, slots = _axis(how, axis, n)
        x = x ^ keys.reshape(-1, *[1] * (len(shape) - d - 1))
        slot = slot + slots.reshape(-1, *[1] * (len(shape) - d - 1))
    x = np.broadcast_to(x, shape) * np.uint32(MULTIPLIER)
    run = (x.astype(np.uint64) * np.uint64(how["buckets"] // RUN) >> np.uint64(32)).astype(np.int64)
    return run * RUN + slot, (x >> np.uint32(15) & np.uint32(1)) != 0


def _axis(how: dict, axis: dict, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The keys of the indices of an axis, and their places in a run."""
    at = np.arange(n, dtype=np.uint32) if axis["at"] is None else axis["at"]
    if axis["axis"] != how["run"] or how["run"] == NONE:
        return key(how["seed"], axis["axis"], at), np.zeros(n, np.int64)
    return key(how["seed"], axis["axis"], at // RUN), (at % RUN).astype(np.int64)


def fill(buckets: np.ndarray, how: dict, shape: tuple[int, ...]) -> np.ndarray:
    """The weights [shape] of `buckets` [n], of their dtype."""
    index, negative = places(how, shape)
    values = buckets[index]
    return np.where(negative, -values, values)


def means(data: np.ndarray, how: dict, by: np.ndarray | None = None) -> np.ndarray:
    """Buckets [n] float32 of the least squared distance to `data`, whose elements count by their weight `by` >= 0 (None: all 1):
    the mean of sign * data over the members. A bucket without any is 0."""
    index, negative = places(how, data.shape)
    by = np.ones(data.shape) if by is None else np.broadcast_to(by, data.shape)
    sums = np.bincount(index.ravel(), (np.where(negative, -data, data) * by).ravel().astype(np.float64), how["buckets"])
    total = np.bincount(index.ravel(), by.ravel().astype(np.float64), how["buckets"])
    return (sums / np.where(total > 0, total, 1)).astype(np.float32)


def nearest(data: np.ndarray, how: dict, sparse: bool = False) -> np.ndarray:
    """The hashed weight of the least squared distance to `data`, of its dtype; sparse: zeros stay zero and take no part."""
    told = data != 0 if sparse else None
    out = fill(means(data, how, told), how, data.shape).astype(data.dtype)
    return out if told is None else np.where(told, out, np.zeros((), data.dtype))


def buckets_of(data: np.ndarray, how: dict, sparse: bool = False) -> np.ndarray | None:
    """The buckets [n] of dtype data's that `data` is made of (zeros of sparse data may be of any); None when it is not."""
    if len(how["axes"]) != data.ndim or any(a["at"] is not None and len(a["at"]) != n for a, n in zip(how["axes"], data.shape)):
        return None
    if data.dtype.kind not in "fi":
        return None
    index, negative = places(how, data.shape)
    values = np.where(negative, -data, data)
    buckets = np.zeros(how["buckets"], data.dtype)
    told = data != 0 if sparse else np.ones(data.shape, bool)
    buckets[index[told]] = values[told]
    return buckets if np.array_equal(buckets[index[told]], values[told]) else None


# --- what becomes of it when the weight's axes change: `meta` is the Value's, a new one is returned ---------------------------

def transposed(meta: dict, perm) -> dict:
    how = meta.get("hashed")
    return {**meta, "hashed": {**how, "axes": [how["axes"][p] for p in perm]}} if how else dict(meta)


def taken(meta: dict, axis: int, keep: np.ndarray) -> dict:
    """Only the indices `keep` of an axis, in this order."""
    how = meta.get("hashed")
    if not how:
        return dict(meta)
    axes, old = list(how["axes"]), how["axes"][axis]["at"]
    axes[axis] = {**axes[axis], "at": np.asarray(keep if old is None else old[keep], np.uint32)}
    return {**meta, "hashed": {**how, "axes": axes}}


def reshaped(meta: dict, old: tuple[int, ...], new: tuple[int, ...]) -> dict:
    """Axes of one element come or go; another change of shape ends the sharing."""
    how = meta.get("hashed")
    if not how or old == new:
        return dict(meta)
    if [d for d in old if d != 1] != [d for d in new if d != 1]:
        return {k: v for k, v in meta.items() if k != "hashed"}
    base, left = how["base"], []
    for n, axis in zip(old, how["axes"]):
        if n != 1:
            left.append(axis)
        else:
            keys, slots = _axis(how, axis, 1)
            if slots.any():
                return {k: v for k, v in meta.items() if k != "hashed"}
            base ^= int(keys[0])
    axes = [{"axis": NONE, "at": None} if n == 1 else left.pop(0) for n in new]
    return {**meta, "hashed": {**how, "base": base, "axes": axes}}
