"""The record of tests/bench/calibration.py: what the estimates of arm64 were worth against published times."""
import json
from pathlib import Path

import pytest
from mcc.cli.arm64 import emulated, targets

BENCH = Path(__file__).resolve().parents[1] / "bench"
RECORD = json.loads((BENCH / "calibration.json").read_text())
PUBLISHED = json.loads((BENCH / "published-ncnn.json").read_text())


def test_four_of_five_published_times_are_inside():
    rows = RECORD["each"]
    assert len(rows) == RECORD["rows"] == sum(len(d["ms"]) for d in PUBLISHED["rows"])
    inside = [r for r in rows if r["low_ms"] <= r["published_ms"] <= r["high_ms"]]
    assert len(inside) == RECORD["inside"] == sum(r["inside"] for r in rows)
    assert len(inside) >= 0.8 * len(rows)
    at = {(d["device"], n): ms for d in PUBLISHED["rows"] for n, ms in zip(PUBLISHED["networks"], d["ms"])}
    assert {(r["device"], r["network"]): r["published_ms"] for r in rows} == at


@pytest.mark.parametrize("row", RECORD["each"], ids=lambda r: f"{r['device']} {r['network']}".replace(" ", "-"))
def test_ranges_are_those_of_the_model_as_it_is(row):
    """Another constant of the model or of a target asks for a new record: make calibration."""
    target = targets.find(row["target"]).model_copy(update={"clock_ghz": row["clock_ghz"]})
    found = emulated.milliseconds(row["cycles"], row["lines"], target)
    assert found == pytest.approx((row["low_ms"], row["high_ms"]), rel=1e-3)
