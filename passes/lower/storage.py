"""How the .mcc file keeps a constant: the six storages of kernels/core/file.h, written and read.

`store` tries those that can pay and keeps the smallest; `load` is its inverse and checks everything.
"""
from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from .. import hashing
from . import coder
from .types import TYPE_BYTES

RAW, PALETTE, BITMASK, CODED, QUANTIZED, HASHED = range(6)
NAMES = ("raw", "palette", "bitmask", "coded", "quantized", "hashed")
PER_TENSOR, PER_ROW, PER_BLOCK = range(3)  # of a quantized constant's scales
SMALL = 256          # bytes below which a constant stays raw
GAIN = 0.97          # a storage that must be decoded has to save 3 %, or raw values are used in place


class Blob(NamedTuple):
    storage: int
    bytes: bytes


class Damaged(ValueError):
    """A blob that `store` cannot have made."""


def raw_bytes(data: np.ndarray, dtype: str) -> np.ndarray:
    """The little-endian values as unsigned integers of their width, row-major, flat. bfloat16 is rounded to even."""
    data = np.ascontiguousarray(data)
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(data, np.float32).view(np.uint32).ravel()
        even = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
        nan = bits >> np.uint32(16) | np.uint32(0x40)
        return np.where(np.isnan(bits.view(np.float32)), nan, even).astype("<u2")
    return data.astype(np.dtype(dtype), copy=False).ravel().view(f"<u{TYPE_BYTES[dtype]}")


def store(data: np.ndarray, dtype: str, meta: dict | None = None, entropy: bool = True) -> Blob:
    """The smallest storage of `data` [any shape].

    A hashed weight (meta "hashed") is its buckets, a codebook weight (meta "codebook") always a palette, and a quantized one
    (meta "quantized") codes and scales, since their kernels multiply from those. entropy=False
    uses packed indices and masks only: nothing has to be decoded when the file is opened.
    """
    meta = meta or {}
    if meta.get("hashed") and data.size:
        blob = _hashed(data, dtype, meta, entropy)
        if blob:
            return blob
    if (meta.get("codebook") or meta.get("sparse")) and np.dtype(data.dtype).kind == "f":
        data = data + np.zeros((), data.dtype)  # -0.0 becomes 0.0: one zero, not two
    if meta.get("quantized") and dtype == "float32" and data.size:
        blob = _quantized(data, meta["quantized"], entropy)
        if blob:
            return blob
    values = raw_bytes(data, dtype)
    raw = Blob(RAW, values.tobytes())
    if not values.size:
        return raw
    book = meta.get("codebook")
    palette = None
    if book or values.nbytes >= SMALL:
        groups = int(book.get("groups", 1)) if book else 1
        palette = _palette(values, np.asarray(data).shape, groups, entropy)
    if book and palette:
        return palette
    if values.nbytes < SMALL:
        return raw
    found = [palette, _bitmask(values, entropy), _coded(values) if entropy and values.itemsize == 1 else None]
    # At about the same size the coded form wins: a palette that is nobody's codebook only asks for a lookup kernel.
    cost = {PALETTE: 1.0, BITMASK: 1.0, CODED: GAIN}
    best = min((b for b in found if b and _allowed(b, values)), key=lambda b: cost[b.storage] * len(b.bytes), default=raw)
    return best if len(best.bytes) < GAIN * len(raw.bytes) else raw


def load(blob: Blob, dtype: str, shape: tuple[int, ...]) -> tuple[np.ndarray, dict]:
    """The values in `shape` (bfloat16 as float32), and their meta ("codebook", "quantized", "hashed"). Raises Damaged."""
    count = int(np.prod(shape, dtype=object)) if shape else 1
    width = TYPE_BYTES[dtype]
    meta: dict = {}
    try:
        if blob.storage == RAW:
            values = np.frombuffer(blob.bytes, f"<u{width}") if len(blob.bytes) % width == 0 else np.empty(0)
            if len(blob.bytes) != count * width:
                raise Damaged(f"{len(blob.bytes)} raw bytes for {count} values")
        elif not _plausible(count * width, len(blob.bytes)):
            raise Damaged(f"{count} values from {len(blob.bytes)} bytes")
        elif blob.storage == PALETTE:
            values, meta = _load_palette(blob.bytes, width, shape, count)
        elif blob.storage == BITMASK:
            values = _load_bitmask(blob.bytes, width, count)
        elif blob.storage == QUANTIZED and dtype == "float32":
            values, meta = _load_quantized(blob.bytes, shape, count)
        elif blob.storage == CODED and width == 1:
            values = coder.decode(blob.bytes, count)
        elif blob.storage == HASHED:
            return _load_hashed(blob.bytes, dtype, shape, count)
        else:
            raise Damaged("unknown storage, or not one of this type")
    except (coder.Damaged, struct.error) as error:
        raise Damaged(str(error)) from None
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32).reshape(shape), meta
    return np.ascontiguousarray(values).view(np.dtype(dtype)).reshape(shape), meta


def pack(numbers: np.ndarray, bits: int) -> bytes:
    """Numbers below 1 << bits, packed little-endian without gaps."""
    lanes = (numbers[:, None] >> np.arange(bits, dtype=np.uint8) & 1).astype(np.uint8)
    return np.packbits(lanes.ravel(), bitorder="little").tobytes()


def unpack(data: bytes, bits: int, count: int) -> np.ndarray:
    """The inverse of pack; bits that fill the last byte must be zero."""
    if len(data) != -(-count * bits // 8):
        raise Damaged("packed numbers are truncated")
    flat = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if flat[count * bits:].any():
        raise Damaged("packed numbers do not end in zeros")
    lanes = flat[:count * bits].reshape(count, bits).astype(np.uint16)
    return (lanes << np.arange(bits, dtype=np.uint16)).sum(1).astype(np.uint8)


def _plausible(values: int, blob: int) -> bool:
    """The engine's bound on what a few bytes of entropy code may stand for."""
    return values // 4096 <= blob + (16 << 10)


def _allowed(blob: Blob, values: np.ndarray) -> bool:
    return _plausible(values.nbytes, len(blob.bytes))


def _symbols(numbers: np.ndarray, bits: int, entropy: bool, most: int) -> tuple[int, bytes]:
    """The coder (0 packed, 1 rANS) that makes `numbers` smaller, and its bytes. `most` values are `most` bytes wide."""
    packed = -(-numbers.size * bits // 8)
    if entropy and coder.estimate(np.bincount(numbers, minlength=1)) < GAIN * packed:
        stream = coder.encode(numbers)
        if len(stream) < packed and _plausible(most, len(stream)):
            return 1, stream
    return 0, pack(numbers, bits)


def _palette(values: np.ndarray, shape: tuple[int, ...], groups: int, entropy: bool) -> Blob | None:
    """None when some group has more than 256 distinct values."""
    if groups > 0xFFFF or groups < 1 or (groups > 1 and (not shape or shape[0] % groups)):
        return None
    rows = values.reshape(groups, -1)
    if groups == 1 and len(np.unique(values[:: max(1, values.size // 4096)])) > 256:
        return None  # most weights: seen without sorting all of them
    tables, index = [], np.empty(rows.shape, np.uint8)
    for g, row in enumerate(rows):
        table, inverse = np.unique(row, return_inverse=True)
        if len(table) > 256:
            return None
        tables.append(table)
        index[g] = inverse.reshape(-1)
    entries = max(map(len, tables))
    bits = max(1, (entries - 1).bit_length())
    body = b"".join(np.pad(t, (0, entries - len(t))).tobytes() for t in tables)
    how, numbers = _symbols(index.ravel(), bits, entropy, values.nbytes)
    return Blob(PALETTE, struct.pack("<BBHHH", bits, how, groups, entries, 0) + body + numbers)


def _bitmask(values: np.ndarray, entropy: bool) -> Blob | None:
    mask = (values != 0).astype(np.uint8)
    nonzero = values[mask != 0]
    if nonzero.nbytes + values.size // 16 >= values.nbytes:
        return None
    how, bits = _symbols(mask, 1, entropy, values.nbytes)
    return Blob(BITMASK, struct.pack("<BBHII", how, 0, 0, nonzero.size, len(bits)) + bits + nonzero.tobytes())


def _coded(values: np.ndarray) -> Blob | None:
    numbers = values.view(np.uint8)
    if coder.estimate(np.bincount(numbers)) >= GAIN * numbers.size:
        return None
    return Blob(CODED, coder.encode(numbers))


def _per(shape: tuple[int, ...], scale: np.ndarray, block: int) -> int | None:
    """Which scales those are: a single one, one per index of axis 0, or [..., blocks] of `block` along the last axis; or none."""
    if block:
        return PER_BLOCK if scale.shape == (*shape[:-1], -(-shape[-1] // block)) else None
    return PER_TENSOR if scale.size == 1 else PER_ROW if scale.shape == shape[:1] else None


def spread(a: np.ndarray, shape: tuple[int, ...], per: int, block: int) -> np.ndarray:
    """A scale (or zero point) for every element of `shape`."""
    if per == PER_BLOCK:
        return np.repeat(a, block, -1)[..., :shape[-1]]
    return np.broadcast_to(a.reshape(-1, *[1] * (len(shape) - 1)) if per == PER_ROW else a.reshape(()), shape)


def _quantized(data: np.ndarray, how: dict, entropy: bool) -> Blob | None:
    """None when `data` is not what the scales say any more."""
    bits, scale = how["bits"], np.asarray(how["scale"], np.float32)
    block = int(how.get("block", 0))
    per = _per(data.shape, scale, block)
    if per is None:
        return None
    middle = 1 << (bits - 1)
    zero = np.broadcast_to(np.asarray(middle if how.get("zero") is None else how["zero"], np.int64), scale.shape)
    wide, center = spread(scale, data.shape, per, block), spread(zero, data.shape, per, block)
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.where(wide != 0, np.rint(data / wide), 0)
    codes = np.nan_to_num(codes, posinf=0, neginf=0) + center
    if codes.min() < 0 or codes.max() >= 1 << bits or zero.min() < 0 or zero.max() >= 1 << bits or \
            not np.array_equal((codes - center).astype(np.float32) * wide, data):
        return None
    short = scale.astype(np.float16)
    flags = (1 if (zero != middle).any() else 0) | (2 if np.array_equal(short.astype(np.float32), scale) else 0)
    coded, numbers = _symbols(codes.astype(np.uint8).ravel(), bits, entropy, data.nbytes)
    return Blob(QUANTIZED, struct.pack("<BBBBI", bits, coded, flags, per, block) + (short if flags & 2 else scale).tobytes()
                + (zero.astype(np.uint8).tobytes() if flags & 1 else b"") + numbers)


def _load_quantized(data: bytes, shape: tuple[int, ...], count: int):
    bits, how, flags, per, block = struct.unpack_from("<BBBBI", data)
    if not 1 <= bits <= 8 or how > 1 or flags > 3 or per > PER_BLOCK or (per == PER_BLOCK) != bool(block) or not count \
            or per == PER_ROW and not shape:
        raise Damaged("quantized header")
    last = shape[-1] if shape else 1
    scales = 1 if per == PER_TENSOR else shape[0] if per == PER_ROW else count // last * -(-last // block)
    width, at = (2 if flags & 2 else 4), 8
    if len(data) - at < scales * (width + (flags & 1)):
        raise Damaged("quantized scales are truncated")
    scale = np.frombuffer(data, f"<f{width}", scales, at).astype(np.float32)
    at += scales * width
    zero = np.frombuffer(data, np.uint8, scales, at) if flags & 1 else np.full(scales, 1 << (bits - 1), np.uint8)
    at += scales if flags & 1 else 0
    codes = coder.decode(data[at:], count) if how else unpack(data[at:], bits, count)
    if codes.max() >> bits or zero.max() >> bits:
        raise Damaged("quantized codes are out of range")
    if not shape:
        per = PER_TENSOR
    if per == PER_BLOCK:
        scale, zero = scale.reshape(*shape[:-1], -1), zero.reshape(*shape[:-1], -1)
    wide, center = (spread(a, shape, per, min(block, last)) for a in (scale, zero))
    values = (codes.reshape(shape).astype(np.float32) - center.astype(np.float32)) * wide
    return values.view("<u4"), {"quantized": {"bits": bits, "block": block, "scale": scale, "zero": zero if flags & 1 else None}}


def _load_palette(data: bytes, width: int, shape: tuple[int, ...], count: int):
    bits, how, groups, entries, zero = struct.unpack_from("<BBHHH", data)
    if not 1 <= bits <= 8 or how > 1 or zero or not 1 <= entries <= 1 << bits:
        raise Damaged("palette header")
    if not groups or (groups > 1 and (not shape or not shape[0] or shape[0] % groups)):
        raise Damaged("palette groups do not divide axis 0")
    at = 8 + groups * entries * width
    if len(data) < at:
        raise Damaged("palette is truncated")
    table = np.frombuffer(data, f"<u{width}", groups * entries, 8).reshape(groups, entries)
    index = coder.decode(data[at:], count) if how else unpack(data[at:], bits, count)
    if count and index.max() >= entries:
        raise Damaged("palette indices are out of range")
    values = np.take_along_axis(table, index.reshape(groups, -1).astype(np.intp), 1).ravel()
    return values, {"codebook": {"bits": bits, "groups": groups}}


def _load_bitmask(data: bytes, width: int, count: int) -> np.ndarray:
    how, plain, zero, nonzeros, mask_bytes = struct.unpack_from("<BBHII", data)
    if how > 1 or plain or zero or len(data) != 12 + mask_bytes + nonzeros * width:
        raise Damaged("mask header")
    stream = data[12:12 + mask_bytes]
    mask = coder.decode(stream, count) if how else unpack(stream, 1, count)
    if count and mask.max() > 1 or int(mask.sum(dtype=np.int64)) != nonzeros:
        raise Damaged("mask and values differ in number")
    values = np.zeros(count, f"<u{width}")
    values[mask != 0] = np.frombuffer(data, f"<u{width}", nonzeros, 12 + mask_bytes)
    return values


def _hashed(data: np.ndarray, dtype: str, meta: dict, entropy: bool) -> Blob | None:
    """None when `data` is not what its hash says any more, or no fewer bytes come of it."""
    how, sparse = meta["hashed"], bool(meta.get("sparse"))
    buckets = hashing.buckets_of(np.asarray(data), how, sparse)
    if buckets is None or "float" not in dtype and dtype != "int8":
        return None
    mask = b""
    if sparse and (zeros := np.asarray(data) == 0).any():
        coded, bits = _symbols((~zeros).astype(np.uint8).ravel(), 1, entropy, data.size)
        mask = struct.pack("<II", coded, len(bits)) + bits
    axes = b""
    for axis in how["axes"]:
        at = axis["at"]
        if at is not None and np.array_equal(at, np.arange(len(at))):
            at = None
        width = 0 if at is None else 4
        axes += bytes([axis["axis"], width]) + (b"" if at is None else at.astype(f"<u{width}").tobytes())
    told = {"codebook": {"bits": 8, "groups": 1}} if meta.get("codebook") else {}
    if meta.get("quantized") and np.size(meta["quantized"]["scale"]) == 1 and meta["quantized"].get("zero") is None:
        told = {"quantized": {**meta["quantized"], "block": 0}}
    inner = store(buckets, dtype, told, entropy)
    head = struct.pack("<IIIBBBB", how["seed"], how["base"], how["buckets"], inner.storage, 1 if mask else 0, how["run"], 0)
    blob = Blob(HASHED, head + axes + mask + inner.bytes)
    dense = data.size * TYPE_BYTES[dtype]
    return blob if len(blob.bytes) < dense and _plausible(dense, len(blob.bytes)) else None


def _load_hashed(data: bytes, dtype: str, shape: tuple[int, ...], count: int) -> tuple[np.ndarray, dict]:
    seed, base, number, storage, flags, run, zero = struct.unpack_from("<IIIBBBB", data)
    signed = "float" in dtype or dtype == "int8"
    if storage >= HASHED or flags > 1 or zero or not count or not signed or \
            not 0 < number <= hashing.MAX_BUCKETS or number % hashing.RUN:
        raise Damaged("hashed header")
    at, axes = 16, []
    for n in shape:
        axis, width = struct.unpack_from("<BB", data, at)
        at += 2
        if width not in (0, 4) or len(data) - at < n * width:
            raise Damaged("hashed axes")
        axes.append({"axis": axis, "at": np.frombuffer(data, f"<u{width}", n, at).astype(np.uint32) if width else None})
        at += n * width
    if run != hashing.NONE and sum(a["axis"] == run for a in axes) > 1:
        raise Damaged("hashed axes")
    how = {"seed": seed, "base": base, "buckets": number, "run": run, "axes": axes}
    mask = None
    if flags & 1:
        coded, size = struct.unpack_from("<II", data, at)
        stream, at = data[at + 8:at + 8 + size], at + 8 + size
        if coded > 1 or at > len(data):
            raise Damaged("hashed mask")
        mask = coder.decode(stream, count) if coded else unpack(stream, 1, count)
    buckets, meta = load(Blob(storage, data[at:]), dtype, (number,))
    values = hashing.fill(buckets, how, shape)
    if mask is not None:
        values[mask.reshape(shape) == 0] = 0
        meta["sparse"] = True
    return values, {**meta, "hashed": how}
