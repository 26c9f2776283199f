"""Everything that changes a model. PASSES names every pass; a new one is one file and one line here."""
from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

PASSES = {
    "structure.low_rank": "structure.low_rank:LowRank",
    "structure.tucker": "structure.tucker:Tucker",
    "structure.cp": "structure.cp:CP",
    "structure.decompose_conv": "structure.decompose_conv:DecomposeConv",
    "structure.small_kernels": "structure.small_kernels:SmallKernels",
    "structure.bottleneck": "structure.bottleneck:Bottleneck",
    "structure.depthwise": "structure.depthwise:Depthwise",
    "structure.group_conv": "structure.group_conv:GroupConv",
    "structure.pool_head": "structure.pool_head:PoolHead",
    "structure.share": "structure.share:Share",
    "structure.hashed": "structure.hashed:Hashed",
    "structure.fold": "structure.fold:Fold",
    "prune.weights": "prune.weights:Weights",
    "prune.blocks": "prune.blocks:Blocks",
    "prune.layers": "prune.layers:Layers",
    "prune.heads": "prune.heads:Heads",
    "prune.channels": "prune.channels:Channels",
    "quantize.ptq": "quantize.ptq:PTQ",
    "quantize.weight_only": "quantize.weight_only:WeightOnly",
    "quantize.qat": "quantize.qat:QAT",
    "quantize.mixed": "quantize.mixed:Mixed",
    "quantize.codebook": "quantize.codebook:Codebook",
    "distill.logits": "distill.logits:Logits",
    "distill.hidden": "distill.hidden:Hidden",
    "distill.layer_drop": "distill.layer_drop:LayerDrop",
    "distill.tinybert": "distill.tinybert:TinyBERT",
    "distill.minilm": "distill.minilm:MiniLM",
}


def find(name: str):
    """The pass class for a recipe name. Imports only that pass, so `mcc --help` never loads torch."""
    if name not in PASSES:
        near = get_close_matches(name, PASSES, n=1)
        raise KeyError(f"no pass named {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    module, cls = PASSES[name].split(":")
    return getattr(import_module(f".{module}", __name__), cls)


def load(path, **options):
    """A model file (.onnx, .pt2, .mcc) as a Graph."""
    from .onnx_io import load as _load
    return _load(path, **options)


def lower(graph, path=None, **options):
    """Lower a Graph to a .mcc file; see `lower.lower`. Returns the lowered Graph."""
    from .lower import lower as _lower
    return _lower(graph, path, **options)
