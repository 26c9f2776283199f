"""make wheel-arm64: the wheel's tags and symbols, and its extension in an emulated arm64 Python, on every tier of dispatch."""
import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mcc.kernels import Session
from mcc.passes.errors import TargetError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "bench"))
import arm64_python  # noqa: E402

TOOLS = ("aarch64-linux-gnu-gcc", "qemu-aarch64", "make")
CORES = {"arm64-cortex-a53": "c neon neoncrc", "arm64-cortex-a76": "c neon neondot neonfp16 neoncrc",
         "arm64-cortex-a710": "c neon neondot neonfp16 neoni8mm neonbf16 neoncrc"}
EXTENSION = "mcc/kernels/_core.abi3.so"
RUN = """
import json, platform, sys
import numpy as np
from mcc.kernels import Session, isa
place = sys.argv[1]
for name in sys.argv[2:]:
    x = np.load(f"{place}/{name}.in.npy")
    session = Session(f"{place}/{name}.mcc")
    np.save(f"{place}/{name}.out.npy", session.run({session.inputs[0].name: x})[session.outputs[0].name])
print(json.dumps([platform.machine(), isa()]))
"""


def lacks(why: str):
    assert os.environ.get("CI") != "true", f"must be there in CI (make deps): {why}"
    pytest.skip(why)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    if lacking := [t for t in TOOLS if shutil.which(t) is None]:
        lacks(", ".join(lacking))
    with alone():
        done = subprocess.run(["make", "wheel-arm64", f"VENV={sys.prefix}"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        [made] = (ROOT / "build" / "wheel-arm64").glob("*.whl")
        return Path(shutil.copy(made, tmp_path_factory.mktemp("made")))


@contextlib.contextmanager
def alone():
    """One of the processes that run these tests at a time."""
    with open(ROOT / "build" / ".wheel-arm64", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def symbols(extension: Path, machine: str = "") -> set[str]:
    """What it takes from other libraries."""
    said = subprocess.run([f"{machine}objdump", "-T", extension], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in said.splitlines() if "*UND*" in line}


def test_tags_and_symbols(wheel, tmp_path):
    """Of the limited API, for any Python from 3.10 and a glibc as old as the tag says; the same Python functions as here."""
    tagged = re.fullmatch(r"mcc_toolchain-[\d.]+-cp310-abi3-manylinux_2_(\d+)_aarch64\.whl", wheel.name)
    assert tagged
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extract(EXTENSION, tmp_path)
        about = next(archive.read(n).decode() for n in names if n.endswith(".dist-info/WHEEL"))
    assert [n for n in names if n.endswith(".so")] == [EXTENSION] and "mcc/cli/__init__.py" in names
    assert f"Tag: cp310-abi3-manylinux_2_{tagged[1]}_aarch64" in about and "Root-Is-Purelib: false" in about
    head = (tmp_path / EXTENSION).read_bytes()[:20]
    assert head[:5] == b"\x7fELF\x02" and int.from_bytes(head[18:20], "little") == 183  # 64 bits, EM_AARCH64
    found = symbols(tmp_path / EXTENSION, "aarch64-linux-gnu-")
    needs = subprocess.run(["aarch64-linux-gnu-objdump", "-p", tmp_path / EXTENSION], capture_output=True, text=True).stdout
    assert set(re.findall(r"NEEDED\s+(\S+)", needs)) <= {"libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-aarch64.so.1"}
    assert max(int(v) for v in re.findall(r"GLIBC_2\.(\d+)", needs)) <= int(tagged[1])
    import mcc.kernels._core as here
    assert {s for s in found if "Py" in s} == {s for s in symbols(Path(here.__file__)) if "Py" in s} != set()


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> Path:
    """A folder with int8.mcc and float.mcc, their inputs, and what the engine gives for them here."""
    import torch
    from mcc.passes import lower
    from mcc.passes.onnx_io import from_torch
    from torch import nn
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("nets")
    x = torch.randn(1, 3, 32, 32)
    net = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1), nn.ReLU6(), nn.Conv2d(24, 24, 3, 1, 1, groups=24), nn.ReLU6(),
                        nn.Conv2d(24, 40, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 10)).eval()
    graph = from_torch(net, (x,))
    lower(graph, place / "int8.mcc", precision="int8", calibration=[{graph.inputs[0].name: x.numpy()}])
    lower(from_torch(net, (x,)), place / "float.mcc")
    for name in ("int8", "float"):
        session = Session(place / f"{name}.mcc")
        np.save(place / f"{name}.in.npy", x.numpy())
        np.save(place / f"{name}.want.npy", next(iter(session.run({session.inputs[0].name: x.numpy()}).values())))
    return place


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> tuple[Path, Path]:
    """The wheel unpacked, and the arm64 Python's numpy."""
    with alone():
        try:
            numpy = arm64_python.make(only=("numpy",))
        except TargetError as e:
            lacks(str(e))
        for core in CORES:
            arm64_python.python(core)
    unpacked = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    return unpacked, numpy


@pytest.mark.parametrize("core", CORES)
def test_runs_in_an_arm64_python(core, site, nets):
    """Integers are the same bytes as here; floats, added up in another order, the same to 1e-5 of their range."""
    done = arm64_python.run(core, "-c", RUN, nets, "int8", "float", paths=site)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout.decode().splitlines()[-1]) == ["aarch64", CORES[core]]
    got, want = ({n: np.load(nets / f"{n}.{kind}.npy") for n in ("int8", "float")} for kind in ("out", "want"))
    assert got["int8"].tobytes() == want["int8"].tobytes() and np.ptp(want["int8"]) > 0
    assert np.abs(got["float"] - want["float"]).max() <= 1e-5 * np.ptp(want["float"])
