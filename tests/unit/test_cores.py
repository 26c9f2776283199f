"""kernels/core/cores.def against the targets: every arm64 target's register has the name of the target."""
import re
from pathlib import Path

from mcc.cli.arm64 import targets

CORES = Path(__file__).resolve().parents[2] / "kernels" / "core" / "cores.def"


def test_targets_and_the_engine_name_cores_alike():
    rows = re.findall(r"^CORE\((0x\w\w), (0x\w{3}), \"(.+)\"\)$", CORES.read_text(), re.MULTILINE)
    names = {(int(implementer, 16), int(part, 16)): name for implementer, part, name in rows}
    assert len(names) == len(rows) > 30, "a core stands there twice"
    for name in targets.names():
        target = targets.find(name)
        if target.arch == "arm64":
            assert f"arm64-{names[target.midr >> 24, target.midr >> 4 & 0xFFF]}" == target.name
