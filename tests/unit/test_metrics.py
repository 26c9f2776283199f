"""Metrics against figures worked out by hand, and intervals against what they promise."""
import math

import numpy as np
import pytest
import torch
from mcc.passes import metrics as M
from mcc.passes.errors import UserError

LOGITS = np.array([[3.0, 1, 0, -1, -2, -3], [0, 1, 2, 3, 4, 5], [9, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]])
LABELS = np.array([0, 0, 1, 2])


def scores(name, outputs, labels=None, reference=None):
    return M.METRICS[name].scores(outputs, labels, reference)


def test_accuracy_and_top5():
    assert scores("accuracy", [LOGITS], LABELS).tolist() == [1, 0, 0, 1]
    assert scores("top5", [LOGITS], LABELS).tolist() == [1, 0, 1, 1]
    assert scores("accuracy", {"y": torch.tensor(LOGITS)}, torch.tensor(LABELS)).tolist() == [1, 0, 0, 1]


def test_accuracy_of_sequences_is_the_share_of_places():
    logits = np.zeros((2, 4, 3))
    logits[..., 1] = 1
    assert scores("accuracy", logits, np.array([[1, 1, 1, 1], [1, 0, 2, 1]])).tolist() == [1, 0.5]


def test_agreement_mse_cosine_snr():
    other = LOGITS.copy()
    other[1] = -other[1]
    assert scores("agreement", LOGITS, reference=other).tolist() == [1, 0, 1, 1]
    assert scores("cosine", LOGITS, reference=other) == pytest.approx([1, -1, 1, 1])
    assert scores("mse", LOGITS, reference=other) == pytest.approx([0, 4 * 55 / 6, 0, 0])
    assert scores("mse", np.array([[1.0], [3.0]]), labels=np.array([1.0, 1.0])).tolist() == [0, 4]
    assert scores("snr", LOGITS, reference=LOGITS * 1.01) == pytest.approx([20 * math.log10(101)] * 4)
    assert scores("snr", LOGITS, reference=LOGITS).tolist() == [200] * 4
    zeros = np.zeros((2, 3))
    assert scores("cosine", zeros, reference=np.array([[0.0, 0, 0], [1, 0, 0]])).tolist() == [1, 0]


def test_auc_f1_spearman():
    p = np.array([[0.9], [0.8], [-0.2], [0.3], [-0.1]])
    y = np.array([1, 0, 0, 1, 0])
    pairs = scores("auc", p, y)
    assert M.METRICS["auc"].value(pairs) == pytest.approx(5 / 6)
    assert M.METRICS["f1"].value(pairs) == pytest.approx(2 * 2 / (3 + 2))
    two = np.concatenate([-p / 2, p / 2], 1)
    assert M.METRICS["auc"].value(scores("auc", two, y)) == pytest.approx(5 / 6)
    ties = np.stack([np.zeros(4), np.array([0, 1, 0, 1])], 1)
    assert M.METRICS["auc"].value(ties) == 0.5
    line = np.stack([np.arange(6.0) ** 3, np.arange(6.0)], 1)
    assert M.METRICS["spearman"].value(line) == pytest.approx(1)
    assert M.METRICS["spearman"].value(line * [1, -1]) == pytest.approx(-1)
    # ranks 1 2 3 4 5 against 1.5 1.5 3 4 5: rho = 9.5 / sqrt(10 * 9.5)
    assert M.METRICS["spearman"].value(np.array([[1, 1], [2, 1], [3, 2], [4, 3], [5, 4.0]])) == pytest.approx(9.5 / 95 ** 0.5)
    with pytest.raises(UserError, match="two classes"):
        scores("auc", LOGITS, LABELS)


def test_every_metric_gives_one_row_a_sample():
    rng = np.random.default_rng(0)
    for m in M.METRICS.values():
        x = rng.standard_normal((7, 2))
        s = m.scores([x], rng.integers(2, size=7) if m.needs == "labels" else None, [x + 0.1])
        assert len(s) == 7 and m.better in ("higher", "lower") and math.isfinite(m.value(s))
        mean, lo, hi = M.paired_interval(s, s, m)
        assert mean == 0 and lo <= 0 <= hi


def test_find_suggests():
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        M.find("acuracy")
    assert M.find("cosine").needs == "reference"


def test_t_quantiles():
    for df, t in {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 30: 2.042, 1000: 1.962}.items():
        assert M._t975(df) == pytest.approx(t, rel=3e-3)


def test_paired_interval_of_real_numbers_is_students():
    a, b = np.array([0.9, 0.8, 0.7, 0.95]), np.array([0.85, 0.8, 0.6, 0.9])
    d = a - b
    mean, lo, hi = M.paired_interval(a, b)
    half = 3.182 * d.std(ddof=1) / 2
    assert (mean, lo, hi) == pytest.approx((d.mean(), d.mean() - half, d.mean() + half), abs=2e-4)
    assert M.paired_interval([0.5], [0.4])[1:] == (-math.inf, math.inf)


def test_no_disagreement_is_not_certainty():
    mean, lo, hi = M.paired_interval(np.ones(20), np.ones(20))
    assert mean == 0 and lo == pytest.approx(-1.96 / 22, rel=1e-3) and hi == -lo


def test_intervals_cover():
    """Coverage of the 95 % interval over many small experiments with a known difference."""
    rng = np.random.default_rng(1)
    for n, up, down in ((40, 0.05, 0.1), (300, 0.01, 0.02), (2000, 0.004, 0.002)):
        hit = 0
        for _ in range(400):
            u = rng.random(n)
            ours = np.where(u < up, 1.0, np.where(u < up + down, 0.0, 1.0))
            theirs = np.where(u < up, 0.0, np.where(u < up + down, 1.0, 1.0))
            _, lo, hi = M.paired_interval(ours, theirs)
            hit += lo <= up - down <= hi
        assert hit / 400 > 0.92, n


def test_interval_alone():
    assert M.interval(np.array([1.0] * 8 + [0.0] * 2)) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-3)  # Wilson
    assert M.interval(np.ones(10))[1] < 0.73
    mean, lo, hi = M.interval(np.array([0.1, 0.2, 0.3]))
    assert lo < mean < hi


def test_bootstrap_is_repeatable_and_paired():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=200)
    noise = rng.standard_normal(200)
    good, bad = np.stack([y * 2 + noise, y], 1), np.stack([y * 0.3 + noise, y], 1)
    auc = M.METRICS["auc"]
    mean, lo, hi = M.paired_interval(good, bad, auc)
    assert 0 < lo < mean < hi and (mean, lo, hi) == M.paired_interval(good, bad, auc)


def test_tells_and_samples_needed():
    assert M.tells(-0.004, 0.001, -0.005) and not M.tells(-0.006, 0.001, -0.005)
    rng = np.random.default_rng(0)
    d = rng.choice([-1.0, 0, 1], p=[0.02, 0.96, 0.02], size=4000)
    n = M.samples_needed(np.clip(d, 0, 1), np.clip(-d, 0, 1), 0.005)
    assert 5000 < n < 7500


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="same samples"):
        M.paired_interval([1, 0], [1])
