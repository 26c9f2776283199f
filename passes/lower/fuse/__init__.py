"""Fusions: chains of small ops -> one op. FUSIONS names them in the order they run; one file each, with

    a docstring "before -> after", `apply(graph) -> int` (how often it fired), and `example()`, a graph on which it
    fires exactly once.

A new fusion is one file and one name here; its test finds it. The importer runs all of them (so that passes see one
form of each layer), lowering runs them again after shapes are bound and constants folded.
"""
from __future__ import annotations

from importlib import import_module

from ...graph import Graph

FUSIONS = (
    "linear",
    "dynamic_integer",
    "quantized_linear",
    "linear_bias",
    "conv_bias",
    "pad_conv",
    "clamp",
    "softplus",
    "hard_sigmoid",
    "hard_swish",
    "silu",
    "mish",
    "gelu",
    "gelu_tanh",
    "layer_norm",
    "layer_norm_scale",
    "layer_norm_bias",
    "group_norm",
    "rms_norm",
    "rms_norm_scale",
    "attention",
    "attention_heads",
)


def find(name: str):
    """The module of a fusion."""
    return import_module(f".{name}", __name__)


def fuse(graph: Graph) -> None:
    """Every fusion until none fires."""
    while sum(find(name).apply(graph) for name in FUSIONS):
        pass
