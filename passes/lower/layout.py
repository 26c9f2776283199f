"""Layout: image ops become NHWC ops between transposes; then the transposes sink until they meet and cancel.

    y = conv(x)   ->   y = T'(nhwc_conv(T(x)))          T: NCHW -> NHWC, T': back

A transpose in front of an op that does not care about the order of axes moves behind it (`SINK`), with the op's
axes and constants permuted. Two that meet compose; one that only moves axes of size 1 is a reshape; one in front
of flatten + linear goes into the columns of the weight. What is left at the end is real work and stays visible.
Every step keeps the graph's meaning, so the graph can be checked against torch at any point.
"""
from __future__ import annotations

import re

from ..graph import Graph
from .nhwc import to_nhwc
from .sink import sink


def layout(graph: Graph) -> None:
    """All convolutions and poolings NHWC; as few transposes as sinking leaves."""
    to_nhwc(graph)
    sink(graph)
    graph.prune()
    _tidy_names(graph)


def _tidy_names(graph: Graph) -> None:
    """"fc.weight_2" is "fc.weight" again where the first one is gone."""
    taken = {v.name for v in graph.values()}
    for v in graph.values():
        stem = re.sub(r"(_\d+)+$", "", v.name)
        if v.data is not None and stem != v.name and stem not in taken:
            taken.add(stem)
            v.name = stem
