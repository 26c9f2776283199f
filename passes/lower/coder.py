"""rANS over small symbols, static frequencies, interleaved lanes (Duda, arXiv 1311.2540; Giesen, 1402.3392).

The stream is described in kernels/core/coder.h. Lanes are independent states, so numpy codes one symbol of every
lane at a time; symbol i belongs to lane i % lanes.
"""
from __future__ import annotations

import struct

import numpy as np

LOW = 1 << 16  # states live in [LOW, 2**32)
SCALES = range(8, 15)


class Damaged(ValueError):
    """The stream is not one that `encode` makes."""


def encode(symbols: np.ndarray) -> bytes:
    """The stream of `symbols`, uint8 [n]."""
    symbols = np.ascontiguousarray(symbols, np.uint8).ravel()
    counts = np.bincount(symbols) if symbols.size else np.ones(1, np.int64)
    scale, freq = _model(counts)
    log_lanes = _log_lanes(symbols.size)
    states, words = _encode_lanes(symbols, freq, scale, 1 << log_lanes)
    body = b"".join(map(_uv, freq.tolist())) + states.astype("<u4").tobytes() + words.astype("<u2").tobytes()
    return struct.pack("<BBHI", log_lanes, scale, len(freq), 8 + len(body)) + body


def decode(stream: bytes, count: int) -> np.ndarray:
    """`count` symbols, uint8 [count]; `stream` must be exactly one stream. Raises Damaged."""
    if len(stream) < 8:
        raise Damaged("truncated")
    log_lanes, scale, symbols, length = struct.unpack_from("<BBHI", stream)
    if log_lanes > 6 or scale not in SCALES or not 1 <= symbols <= 256 or length != len(stream):
        raise Damaged("header")
    freq, at = _read_frequencies(stream, symbols, 1 << scale)
    lanes = 1 << log_lanes
    if len(stream) - at < 4 * lanes or (len(stream) - at) % 2:
        raise Damaged("truncated")
    x = np.frombuffer(stream, "<u4", lanes, at).astype(np.uint64)
    words = np.frombuffer(stream, "<u2", -1, at + 4 * lanes).astype(np.uint64)
    return _decode_lanes(x, words, freq, scale, count)


def estimate(counts: np.ndarray) -> int:
    """About how many bytes `encode` needs for symbols that occur so often."""
    n = int(counts.sum())
    p = counts[counts > 0] / max(n, 1)
    return int(n * -(p * np.log2(p)).sum() / 8) + 8 + len(counts) + (4 << _log_lanes(n))


def _log_lanes(n: int) -> int:
    """Every lane costs 4 bytes, and makes both coders faster."""
    return 0 if n < 1 << 9 else 1 if n < 1 << 12 else 2 if n < 1 << 15 else 4 if n < 1 << 19 else 6


def _model(counts: np.ndarray) -> tuple[int, np.ndarray]:
    """The scale and frequencies with the smallest table and code together."""
    best = None
    for scale in SCALES:
        freq = _normalize(counts, 1 << scale)
        used = counts > 0
        bits = float((counts[used] * (scale - np.log2(freq[used]))).sum())
        size = bits / 8 + sum(1 + (f > 127) + (f > 16383) for f in freq.tolist())
        if best is None or size < best[0]:
            best = (size, scale, freq)
    return best[1], best[2]


def _normalize(counts: np.ndarray, total: int) -> np.ndarray:
    """Integers adding up to `total`, about proportional to counts, at least 1 where a symbol occurs."""
    counts = counts.astype(np.float64)
    used = counts > 0
    freq = np.where(used, np.maximum(1, np.rint(counts * (total / counts.sum()))), 0).astype(np.int64)
    while (extra := int(freq.sum()) - total) != 0:
        step = -1 if extra > 0 else 1
        movable = used & (freq + step >= 1)
        # bits lost (or won, negative) by moving one symbol's frequency by one step
        loss = np.full(len(freq), np.inf)
        loss[movable] = counts[movable] * (np.log2(freq[movable]) - np.log2(freq[movable] + step))
        freq[np.argmin(loss)] += step
    return freq


def _encode_lanes(symbols, freq, scale, lanes):
    """The final states of all lanes and the words in the decoder's order. Symbols are coded last to first."""
    n = symbols.size
    start = np.cumsum(freq) - freq
    f64, s64, shift = freq.astype(np.uint64), start.astype(np.uint64), np.uint64(scale)
    x = np.full(lanes, LOW, np.uint64)
    words = np.empty(n + lanes, np.uint16)  # at most one word a symbol; filled from the end
    at = len(words)
    limit = f64 << np.uint64(32 - scale)
    sixteen = np.uint64(16)
    rows = -(-n // lanes)
    block = max(1, (1 << 18) // lanes)
    for high in range(rows, 0, -block):
        low = max(0, high - block)
        part = symbols[low * lanes:high * lanes]
        width = len(part) - (high - low - 1) * lanes  # of the last row
        f, s, most = f64[part], s64[part], limit[part]
        for row in range(high - low - 1, -1, -1):
            k = width if row == high - low - 1 else lanes
            here = slice(row * lanes, row * lanes + k)
            y, fr = x[:k], f[here]
            full = y >= most[here]
            spill = y[full]
            if spill.size:
                words[at - spill.size:at] = spill.astype(np.uint16)
                at -= spill.size
                y[full] = spill >> sixteen
            q, r = np.divmod(y, fr)
            y[:] = (q << shift) + r + s[here]
    return x, words[at:]


def _decode_lanes(x, words, freq, scale, count):
    lanes, used = len(x), 0
    if (x < LOW).any():
        raise Damaged("state")
    start = np.cumsum(freq) - freq
    symbol = np.repeat(np.arange(len(freq), dtype=np.uint8), freq)
    f64, s64, shift, sixteen = freq.astype(np.uint64), start.astype(np.uint64), np.uint64(scale), np.uint64(16)
    mask = np.uint64((1 << scale) - 1)
    out = np.empty(count, np.uint8)
    for i in range(0, count, lanes):
        k = min(lanes, count - i)
        y = x[:k]
        slot = y & mask
        s = symbol[slot]
        y[:] = f64[s] * (y >> shift) + slot - s64[s]
        out[i:i + k] = s
        low = y < LOW
        need = int(np.count_nonzero(low))
        if need:
            if used + need > len(words):
                raise Damaged("truncated")
            y[low] = y[low] << sixteen | words[used:used + need]
            used += need
    if used != len(words) or (x != LOW).any():
        raise Damaged("does not end where it should")
    return out


def _read_frequencies(stream, symbols, total):
    freq, at = [], 8
    for _ in range(symbols):
        f = shift = 0
        while True:
            if at >= len(stream) or shift > 14:
                raise Damaged("frequencies")
            byte = stream[at]
            at += 1
            f |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        freq.append(f)
    if sum(freq) != total:
        raise Damaged("frequencies")
    return np.array(freq, np.int64), at


def _uv(n: int) -> bytes:
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)
