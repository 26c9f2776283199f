"""Weights as symmetric integers: codes, scales, and what rounding them costs."""
from __future__ import annotations

import numpy as np

# A row whose squared error is above this share of its own square is lost: 13 dB, two bits of what it says.
LOST = 0.05


def top_code(bits: int) -> int:
    """The largest code of `bits` bits; the smallest is its negative, so that zero is the middle."""
    return 2 ** (bits - 1) - 1


def quantize_weight(data: np.ndarray, scales: str = "mse", per_channel: bool = True, least: np.ndarray | float = 0.0,
                    bits: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """(int8 codes, float32 scales): symmetric, for 8 bits -127..127, one scale per row of axis 0 (or one for all: 0-d).

    mse tries 40 shrunken scales and keeps the one of least squared error per row. No scale is below `least` ([rows] or
    one number)."""
    scale = choose_scale(data, scales, per_channel, least, bits)
    return to_codes(data, scale, bits), scale


def choose_scale(data: np.ndarray, scales: str = "mse", per_channel: bool = True, least: np.ndarray | float = 0.0,
                 bits: int = 8) -> np.ndarray:
    """The scales of `quantize_weight`."""
    rows = data.reshape(data.shape[0], -1) if per_channel else data.reshape(1, -1)
    top = np.abs(rows).max(1, keepdims=True).astype(np.float64)
    scale = np.where(top > 0, top, 1.0) / top_code(bits)
    if scales == "mse":
        full = scale
        best, lowest = full, _error(rows, full, bits)
        for t in np.linspace(0.5 if bits > 4 else 0.2, 0.99, 40):  # few levels pay for cutting off more of the tails
            error = _error(rows, full * t, bits)
            best, lowest = np.where(error < lowest, full * t, best), np.minimum(error, lowest)
        scale = best
    least = np.asarray(least, np.float64).reshape(-1, 1)
    scale = np.maximum(scale, least if per_channel else least.max()).astype(np.float32)
    return scale.reshape(-1) if per_channel else scale.reshape(())


def to_codes(data: np.ndarray, scale: np.ndarray, bits: int = 8) -> np.ndarray:
    """data / scale, rounded to nearest."""
    return np.clip(np.rint(data / along_rows(scale, data)), -top_code(bits), top_code(bits)).astype(np.int8)


def to_float(codes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return codes.astype(np.float32) * along_rows(scale, codes)


def along_rows(scale, data):
    """A scale per row, or one for all, shaped to broadcast with `data` (arrays or tensors)."""
    return scale.reshape(-1, *[1] * (data.ndim - 1)) if scale.ndim else scale


def _error(rows: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    top = top_code(bits)
    return ((np.clip(np.rint(rows / scale), -top, top) * scale - rows) ** 2).sum(1, keepdims=True)


def row_errors(data: np.ndarray, per_channel: bool, bits: int) -> np.ndarray:
    """What rounding does to each row: squared error over the row's square. Rows of zeros are left out."""
    back = to_float(*quantize_weight(data, "max", per_channel, 0.0, bits))
    square = (data.astype(np.float64) ** 2).reshape(len(data), -1).sum(1)
    error = ((back.astype(np.float64) - data) ** 2).reshape(len(data), -1).sum(1)
    return (error / np.where(square > 0, square, 1.0))[square > 0]


def collapses(data: np.ndarray, per_channel: bool, bits: int) -> bool:
    """Whether one scale for channels of very different size rounds more than one in twenty of them away."""
    errors = row_errors(data, per_channel, bits)
    return errors.size > 0 and float((errors > LOST).mean()) > 0.05
