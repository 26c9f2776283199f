"""k x k convolution -> k x 1 to few channels, then 1 x k: spatial SVD (Jaderberg et al., arXiv 1405.3866)."""
from __future__ import annotations

from dataclasses import dataclass, field

from ..base import Context, Pass, layer_name, select
from ..errors import UserError
from ..graph import Graph, Node
from .low_rank import LowRank
from .replace import example_conv, plain_conv


@dataclass(frozen=True)
class DecomposeConv(Pass):
    """Give one of these (ratio 0.5 when none is):
    rank           this many channels in between
    ratio          as many as leave this share of the layer's multiply-accumulates (0..1)
    energy         as few as keep this share of the weight's energy (0..1)
    macs           over all layers together: leave this share of their multiply-accumulates, where it costs least (0..1)

    layers, skip   patterns of layers to do and to leave
    overrides      {pattern: {one of rank, ratio, energy: value}}
    epochs, lr     training afterwards (0: none)
    """

    rank: int | None = None
    ratio: float | None = None
    energy: float | None = None
    macs: float | None = None
    layers: str | list[str] = "*"
    skip: list[str] = field(default_factory=list)
    overrides: dict[str, dict] = field(default_factory=dict)
    epochs: float = 0
    lr: float | None = None

    def check(self) -> None:
        self._inner(self.layers).check()

    def _inner(self, layers) -> LowRank:
        return LowRank(rank=self.rank, ratio=self.ratio, energy=self.energy, macs=self.macs, split="spatial", layers=layers,
                       skip=self.skip, overrides=self.overrides, epochs=self.epochs, lr=self.lr)

    def matches(self, graph: Graph) -> list[Node]:
        nodes = select([n for n in graph.nodes if plain_conv(n)], self.layers)
        return [n for n in nodes if not select([n], self.skip)]

    def run(self, graph: Graph, ctx: Context) -> Graph:
        nodes = self.matches(graph)
        if not nodes:
            raise UserError("structure.decompose_conv: no ungrouped k x k convolution with float weights matches; "
                            "run it before quantize.ptq, or check layers and skip")
        return self._inner([layer_name(n) for n in nodes]).run(graph, ctx)

    @staticmethod
    def example() -> Graph:
        return example_conv(16, 16, 3)
