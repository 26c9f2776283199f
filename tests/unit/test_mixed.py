"""quantize.mixed: what is measured, and how the budget is spent."""
from __future__ import annotations

import pytest
import torch
from mcc.passes import find
from mcc.passes.errors import UserError
from mcc.passes.ops.run import run
from mcc.passes.quantize.mixed import spend

from networks import cnn, context, distance, outputs, same_graph

torch.set_num_threads(1)


def mixed(**options):
    ctx = context(cnn())
    return find("quantize.mixed")(**options).run(cnn(), ctx), ctx.notes


def test_the_budget_goes_where_it_hurts():
    costs = {"a": {8: 0.0, 4: 1.0}, "b": {8: 0.0, 4: 0.01}, "c": {8: 0.0, 4: 0.03}}
    sizes = {"a": 100, "b": 100, "c": 600}
    assert spend(costs, sizes, 0.16, None) == {"a": 8, "b": 8, "c": 4}, "most bytes for the error"
    assert spend(costs, sizes, None, 0.035) == {"a": 8, "b": 8, "c": 4}
    assert spend(costs, sizes, None, 0.05) == {"a": 8, "b": 4, "c": 4}
    assert spend(costs, sizes, 0.125, None) == {"a": 4, "b": 4, "c": 4}
    with pytest.raises(UserError, match="cannot be reached"):
        spend(costs, sizes, 0.1, None)
    with pytest.raises(UserError, match="cannot be kept"):
        spend({"a": {4: 1.0}}, {"a": 9}, None, 0.5)


def test_budgets_hold_and_more_of_one_is_better():
    error = {}
    for share in (0.13, 0.18, 0.25):
        out, notes = mixed(bytes=share)
        assert notes["share"] <= share and set(notes["bits"]) == {"stem", "dw", "pw", "fc1", "fc2"}
        error[share] = notes["expected_error"]
        for v in out.constants():
            if v.dtype == "int8" and v.data.ndim > 1:
                bits = notes["bits"][v.name.removesuffix(".weight.int8")]
                assert abs(v.data).max() <= 2 ** (bits - 1) - 1
    assert error[0.13] > error[0.18] > error[0.25]


def test_the_expected_error_is_about_the_real_one():
    feeds = context(cnn()).data.inputs
    want = next(iter(run(cnn(), feeds).values()))
    out, notes = mixed(error=0.02, choices=[32, 8, 4, 3], activations="static", look_at=64)
    real = distance(next(iter(run(out, feeds).values())), want) ** 2
    assert notes["expected_error"] <= 0.02 and real < 0.04 and min(notes["bits"].values()) < 8


def test_float_is_a_choice():
    out, notes = mixed(error=1e-5, choices=[32, 8])
    assert notes["kept_float"] and all(not any(v.name.startswith(f"{n}.weight.int8") for v in out.constants())
                                       for n in notes["kept_float"])
    with pytest.raises(UserError, match="every layer stays float"):
        mixed(error=0.0, choices=[32, 2])


@pytest.mark.parametrize("options", [{"bytes": 0.2}, {"error": 0.5}, {"choices": [5, 3]}, {"look_at": 3}], ids=str)
def test_every_option_counts(options):
    base, notes = mixed()
    out, other = mixed(**options)
    assert notes["sensitivities"] != other["sensitivities"] if "look_at" in options else not same_graph(base, out)
    assert torch.isfinite(outputs(out)).all()
