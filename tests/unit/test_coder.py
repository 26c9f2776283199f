"""The rANS coder: round trips, sizes near the entropy, damage; the engine's decoder is compared in test_file."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcc.passes.lower import coder


def skewed(count, symbols, seed):
    """`count` symbols below `symbols`, small ones often."""
    return np.minimum(np.random.default_rng(seed).geometric(0.3, count) - 1, symbols - 1).astype(np.uint8)


@given(st.integers(0, 3000), st.integers(1, 256), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_round_trip(count, symbols, seed):
    data = skewed(count, symbols, seed)
    stream = coder.encode(data)
    np.testing.assert_array_equal(coder.decode(stream, count), data)


@given(st.binary(max_size=600))
@settings(max_examples=100, deadline=None)
def test_round_trip_any_bytes(data):
    symbols = np.frombuffer(data, np.uint8)
    np.testing.assert_array_equal(coder.decode(coder.encode(symbols), len(symbols)), symbols)


@pytest.mark.parametrize("count", [0, 1, 511, 512, 4095, 4096, 40_000, 600_001])
def test_size_is_near_the_entropy(count):
    data = skewed(count, 30, 1)
    stream = coder.encode(data)
    counts = np.bincount(data, minlength=1)
    p = counts[counts > 0] / max(count, 1)
    entropy = -(p * np.log2(p)).sum() * count / 8
    overhead = 8 + 2 * len(counts) + 4 * (1 << stream[0])
    assert entropy <= len(stream) <= entropy * 1.01 + overhead
    assert abs(coder.estimate(counts) - len(stream)) <= 0.02 * len(stream) + overhead
    np.testing.assert_array_equal(coder.decode(stream, count), data)


def test_one_symbol_takes_no_space():
    stream = coder.encode(np.full(100_000, 7, np.uint8))
    assert len(stream) < 100
    assert (coder.decode(stream, 100_000) == 7).all()


def test_frequencies_keep_rare_symbols():
    data = np.zeros(1_000_000, np.uint8)
    data[::5000] = np.arange(200) + 1
    np.testing.assert_array_equal(coder.decode(coder.encode(data), len(data)), data)


def test_same_bytes_every_time():
    data = skewed(5000, 100, 3)
    assert coder.encode(data) == coder.encode(data.copy())


@given(st.integers(0, 2**32), st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_damage_is_an_error_or_other_symbols(seed, count):
    """Never another exception, and never more symbols than asked for."""
    rng = np.random.default_rng(seed)
    stream = bytearray(coder.encode(skewed(count, 20, seed)))
    for _ in range(5):
        at = rng.integers(len(stream))
        damaged = bytes(stream[:at]) + bytes([stream[at] ^ 1 << rng.integers(8)]) + bytes(stream[at + 1:])
        for candidate in (damaged, bytes(stream[:at])):
            try:
                assert coder.decode(candidate, count).shape == (count,)
            except coder.Damaged:
                pass


def test_wrong_count_is_an_error():
    data = skewed(1000, 20, 5)
    stream = coder.encode(data)
    for count in (0, 500, 1001, 5000):
        with pytest.raises(coder.Damaged):
            coder.decode(stream, count)
