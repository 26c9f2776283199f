"""What a file of configs/targets says of a machine, as a pydantic schema; cli/arm64/targets.py reads the files."""
from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from .model import Part

# Of kernels/core/isa.h.
Isa = Literal["c", "avx2", "avx512", "avx512vnni", "avx512vbmi", "avx512bf16", "neon", "neondot", "neonfp16", "neoni8mm",
              "neonbf16", "sve2", "neoncrc"]


class Caches(Part):
    """Of one core; l3: shared, 0 for none."""

    l1d_kb: int = Field(ge=1)
    l2_kb: int = Field(ge=0)
    l3_kb: int = Field(0, ge=0)

    @property
    def sizes(self) -> list[int]:
        """Of the levels that there are, KB."""
        return [s for s in (self.l1d_kb, self.l2_kb, self.l3_kb) if s]


class Peak(Part):
    """Multiply-accumulates a cycle and core, by type; one that is missing computes as the next wider."""

    f32: int = Field(ge=1)
    f16: int | None = Field(None, ge=1)
    s8: int | None = Field(None, ge=1)


class Cycles(Part):
    """What a cycle model needs: issue width, 128-bit vector pipes, load and store ports, bytes loaded a cycle, integer and
    branch units; refill_bytes: a cycle that the first-level cache takes from the second, by the width of the path between them
    (Cortex-A76: 256 bits, its Technical Reference Manual 100798, A6.1; half of that before it, twice in the X cores); mca:
    llvm-mca's name of a core whose model can be believed; in_order: our own model of this little core."""

    width: int = Field(ge=1)
    vector: int = Field(ge=1)
    loads: int = Field(ge=1)
    load_bytes: int = Field(ge=1)
    stores: int = Field(ge=1)
    integer: int = Field(ge=1)
    branch: int = Field(ge=1)
    refill_bytes: int = Field(ge=1)
    mca: str | None = None
    in_order: Literal["a53", "a55"] | None = None


class File(Part):
    """One file of configs/targets."""

    description: Annotated[str, StringConstraints(min_length=1)]
    same_as: str | None = None
    arch: Literal["host", "x86-64", "arm64"] | None = None
    isa: list[Isa] = []
    cores: int | None = Field(None, ge=1)
    clock_ghz: float | None = Field(None, gt=0)
    caches: Caches | None = None
    peak: Peak | None = None
    memory_gbs: float | None = Field(None, gt=0)
    qemu: str | None = None
    midr: int | None = Field(None, ge=0, lt=1 << 32)
    cycles: Cycles | None = None

    @model_validator(mode="after")
    def _whole(self):
        if (self.same_as is None) == (self.arch is None):
            raise ValueError("a target has either 'arch' or 'same_as'")
        wanted = ("isa", "cores", "clock_ghz", "caches", "peak", "memory_gbs", "qemu", "midr", "cycles")
        missing = [k for k in wanted if self.arch == "arm64" and getattr(self, k) in (None, [])]
        if missing:
            raise ValueError(f"an arm64 target also says {', '.join(missing)}")
        return self


class Target(File):
    """A checked file under its name; `asked`: the name it was found by."""

    name: str
    asked: str
