"""What a lowered graph says of its integers."""
from __future__ import annotations

from mcc.passes import find
from mcc.passes.lower import lower
from mcc.passes.lower.listing import integer_listing

from networks import cnn, context


def test_float_graphs_have_nothing_to_list():
    assert integer_listing(lower(cnn())) == {}


def test_all_integers_and_what_was_left_out():
    graph = cnn()
    whole = integer_listing(lower(find("quantize.ptq")().run(graph, context(graph))))
    assert whole["float"] == [] and whole["integer"] >= 6 and whole["dynamic"] == []
    part = integer_listing(lower(find("quantize.ptq")(skip=["stem"], overrides={"fc1": {"activations": "dynamic"}}).run(
        graph, context(graph))))
    stem = next(n for n in part["float"] if n["name"] == "stem")
    assert stem["op"] == "nhwc_conv" and stem["why"] == "its weight is float" and part["dynamic"] == ["fc1"]
