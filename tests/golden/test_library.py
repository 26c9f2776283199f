"""The library as it is shipped: what it exports, how large it is, and that running a model asks for no memory."""
import re
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from int8_nets import random_int8_graph

from mcc.passes.graph import constant
from mcc.passes.lower import lower
from mcc.passes.lower.match import Sketch
from mcc.passes.onnx_io import load

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "host"
LACKING = [t for t in ("make", "cc", "nm") if not shutil.which(t)]
assert not LACKING or os.environ.get("CI") != "true", f"{LACKING} must be installed in CI (make deps)"
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux") or bool(LACKING), reason="needs Linux, make, cc and nm")


@pytest.fixture(scope="module")
def library() -> Path:
    subprocess.run(["make", "-j2", "out=build/host", "lib"], cwd=ROOT, check=True, capture_output=True)
    return OUT / "libmcc.so"


def test_exports_are_the_header(library):
    shown = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    declared = set(re.findall(r"\b(mcc_\w+)\(", re.sub(r"/\*.*?\*/", "", (ROOT / "kernels/mcc.h").read_text(), flags=re.S)))
    assert {line.split()[-1] for line in shown.splitlines()} == declared and "mcc_open" in declared


def test_size(library):
    assert library.stat().st_size < 1_500_000


def float_graph():
    """Convolutions of all kinds, pooling, normalisation, a palette, attention's matmul and softmax."""
    s = Sketch()
    x = s.input("x", 1, 3, 20, 18)
    y = s("relu", s("conv", x, s.weight("a", 16, 3, 3, 3), s.weight("a.bias", 16), pads=[1] * 4, strides=[2, 2]))
    y = s("relu", s("conv", y, s.weight("b", 16, 1, 3, 3), None, pads=[1] * 4, group=16))
    y = s("max_pool", s("conv", y, s.weight("c", 24, 8, 3, 3), None, group=2), kernel_shape=[2, 2], strides=[2, 2])
    y = s("reshape", y, [1, 24, 12])
    y = s("softmax", s("matmul", y, s("transpose", y, perm=[0, 2, 1])), axis=-1)
    books = np.random.default_rng(0).standard_normal(16)[np.random.default_rng(1).integers(0, 16, (64, 24))]
    y = s("linear", y, constant("d", books.astype(np.float32), codebook={"bits": 4, "groups": 1}), None)
    y = s("layer_norm", y, s.weight("e", 64), s.weight("e.bias", 64), axis=-1)
    return s.graph(s("reduce_mean", y, [1], keepdims=0))


def network(name: str):
    sys.path.insert(0, str(ROOT / "tests" / "bench"))
    import models
    return load(str(models.export_onnx(name)))


GRAPHS = {"float": float_graph, "int8": lambda: random_int8_graph(3),
          **{name: lambda name=name: network(name) for name in ("ds_cnn", "crnn", "mobilenet_v3_small")}}


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("make", GRAPHS.values(), ids=GRAPHS)
def test_run_allocates_nothing(make, threads, library, tmp_path):
    if "glibc" not in subprocess.run(["getconf", "GNU_LIBC_VERSION"], capture_output=True, text=True).stdout:
        assert os.environ.get("CI") != "true", "CI counts allocations, through glibc's allocator"
        pytest.skip("counts through glibc's allocator")
    program = tmp_path / "allocations"
    subprocess.run(["cc", "-std=c11", "-fno-builtin", ROOT / "tests/kernels/allocations.c", library,
                    f"-Wl,-rpath,{library.parent}", "-o", program], check=True)
    lower(make(), tmp_path / "m.mcc")
    said = subprocess.run([program, tmp_path / "m.mcc", threads], check=True, capture_output=True, text=True).stdout
    opened, ran = map(int, re.fullmatch(r"open (\d+) run (\d+)\n", said).groups())
    assert opened > 3 and ran == 0
