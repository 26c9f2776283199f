"""mcc package: the folder compiles by itself, gives the engine's bytes on every tier of arm64, and is as small as promised."""
import ctypes
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mcc.cli.shipping import library, subset
from mcc.kernels import Session

CC = "aarch64-linux-gnu-gcc"
CPUS = ["cortex-a53", "cortex-a76", "max,sve=off,sme=off"]
MOBILENET = {"nhwc_qavg_pool", "nhwc_qconv", "nhwc_qinverted_residual", "qlinear", "reshape"}


def mobilenet():
    """MobileNetV2's kinds of layers, few of each."""
    from torch import nn

    def conv(i, o, kernel=1, stride=1, groups=1, act=True):
        layers = [nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]
        return nn.Sequential(*layers, *([nn.ReLU6()] if act else []))

    class Block(nn.Module):
        def __init__(self, i, wide, o, stride):
            super().__init__()
            self.body = nn.Sequential(conv(i, wide), conv(wide, wide, 3, stride, wide), conv(wide, o, act=False))
            self.adds = i == o and stride == 1

        def forward(self, x):
            return x + self.body(x) if self.adds else self.body(x)
    blocks = [Block(16, 96, 24, 2), Block(24, 144, 24, 1), Block(24, 144, 32, 2)]
    head = [conv(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(conv(3, 16, 3, 2), *blocks, *head).eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Files of every kind of kernels: int8, float32 with dense, sparse, codebook and hashed weights, half precision,
    a transformer."""
    import torch
    from mcc.passes import find, lower
    from mcc.passes.base import Context
    from mcc.passes.onnx_io import from_torch
    from mcc.passes.quantize.ptq import PTQ, quantize_graph
    from torch import nn
    torch.manual_seed(0)
    folder, x = tmp_path_factory.mktemp("models"), torch.randn(1, 3, 224, 224)
    graph = from_torch(mobilenet(), (x,))
    lower(graph, folder / "int8.mcc", precision="int8", calibration=[{graph.inputs[0].name: x.numpy()}])
    lower(from_torch(mobilenet(), (x,)), folder / "fp32.mcc")
    lower(from_torch(mobilenet(), (x,)), folder / "fp16.mcc", precision="fp16")
    sparse = nn.Sequential(nn.Linear(256, 128), nn.Sigmoid(), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 3)).eval()
    with torch.no_grad():
        sparse[0].weight *= torch.rand(128, 256) < 0.03
        sparse[2].weight.copy_(torch.tensor([-1.0, 0.5, 0.25, 2])[torch.randint(4, (64, 128))])
    lower(from_torch(sparse, (torch.randn(20, 256),)), folder / "sparse.mcc")
    small = from_torch(nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 20)).eval(), (x[:, :, :8, :8],))
    lower(find("structure.hashed")().run(small, Context(small)), folder / "hashed.mcc")
    encoder = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu").eval()
    lower(from_torch(encoder, (torch.randn(1, 16, 32),)), folder / "encoder.mcc")
    graph = from_torch(nn.Sequential(encoder, nn.Linear(32, 5)), (torch.randn(1, 16, 32),))
    data = [{graph.inputs[0].name: torch.randn(1, 16, 32).numpy()}]
    lower(quantize_graph(graph, data, PTQ(float_ops=[])), folder / "integer.mcc")
    return {p.stem: p for p in folder.glob("*.mcc")}


@pytest.fixture(scope="module")
def packed(models, tmp_path_factory):
    """packed("int8") -> the folder of a package for linux-arm64, made once, and its facts."""
    from mcc.cli.shipping import folder
    made: dict[str, tuple] = {}

    def get(name: str):
        if name not in made:
            output = tmp_path_factory.mktemp("packages") / name
            facts = folder.make(models["int8" if name == "all" else name], "linux-arm64", output, name == "all")
            made[name] = output, facts
        return made[name]
    return get


def build(package: Path, *flags, cc: str = CC, source: str = "example.c") -> Path:
    """The example, made as the package's README says, in the package's own folder."""
    subprocess.run([cc, "-Wall", "-Werror", "-Iinclude", *flags, source, "lib/libmcc.a", "-Wl,--gc-sections", "-lm", "-pthread",
                    "-o", "example"], cwd=package, check=True)
    return package / "example"


def inputs(model: Path) -> dict:
    from mcc.cli.engine import filled
    return filled(Session(model).inputs)


def outputs(package: Path, model: Path, *prefix: str) -> bytes:
    (package / "in.bin").write_bytes(b"".join(a.tobytes() for a in inputs(model).values()))
    done = subprocess.run([*prefix, "./example", model.name, "in.bin", "out.bin"], cwd=package, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done
    return (package / "out.bin").read_bytes()


def engine(model: Path) -> bytes:
    return b"".join(a.tobytes() for a in Session(model).run(inputs(model)).values())


def test_an_int8_mobilenet(packed, models):
    package, facts = packed("int8")
    assert set(facts["ops"]) == MOBILENET
    assert facts["library_bytes"] <= 150_000, library.symbols(package / "lib" / "libmcc.a")
    build(package, "-static")
    for cpu in CPUS:
        assert outputs(package, models["int8"], "qemu-aarch64", "-cpu", cpu) == engine(models["int8"]), cpu
    assert json.loads((package / "package.json").read_text())["library_bytes"] == facts["library_bytes"]
    code = {p.relative_to(package / "src").as_posix() for p in package.rglob("src/**/*.c")}
    assert "gemm/gemm_s8_neondot.c" in code
    rows = (package / "src/dwconv/dwconv_s8.def").read_text()  # of this model's windows, and no others
    assert "DWROW_S8(3, 3, 2" in rows and "DWROW_S8(5, 5" not in rows
    floats = [p for p in code if "_f32" in p.replace("s8_f32", "")]  # int8 layers may end in float32
    assert not floats and not [p for p in code if "avx" in p or p.startswith(("norm/", "rnn/", "attention/"))]


def test_an_integer_transformer(packed, models):
    """Integer attention and norms come without those of float32, but for the masks; the same bytes everywhere."""
    package, facts = packed("integer")
    assert {"qattention", "qlayer_norm", "qlinear"} <= set(facts["ops"])
    assert not set(facts["ops"]) & {"attention", "layer_norm", "linear", "gelu", "softmax"}
    code = {p.relative_to(package / "src").as_posix() for p in package.rglob("src/**/*.c")}
    assert {"attention/qattend.c", "attention/qattention_neon.c", "norm/qnorm_neon.c", "gemm/gemm_s8_neondot.c"} <= code
    assert not code & {"attention/attend_blocks.c", "attention/attend_rows.c", "norm/norm.c", "norm/softmax.c",
                       "gemm/gemm_f32_neon.c"}
    assert "softmax" not in (package / "src/attention/attention.def").read_text().split("*/")[1]
    assert facts["library_bytes"] <= 130_000, library.symbols(package / "lib" / "libmcc.a")
    build(package, "-static")
    for cpu in CPUS:
        assert outputs(package, models["integer"], "qemu-aarch64", "-cpu", cpu) == engine(models["integer"]), cpu


def test_sources_alone_are_enough(packed, models, tmp_path):
    """Without the library, and with CMake."""
    package = tmp_path / "moved"
    shutil.copytree(packed("int8")[0], package, ignore=shutil.ignore_patterns("lib", "example", "*.bin"))
    subprocess.run(["cmake", "-B", "build", f"-DCMAKE_C_COMPILER={CC}", "-DCMAKE_SYSTEM_NAME=Linux",
                    "-DCMAKE_EXE_LINKER_FLAGS=-static", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror"],
                   cwd=package, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", "build", "-j2"], cwd=package, check=True, capture_output=True)
    shutil.copy(package / "build" / "example", package)
    assert outputs(package, models["int8"], "qemu-aarch64", "-cpu", "cortex-a76") == engine(models["int8"])


@pytest.mark.parametrize("name", ["fp32", "fp16", "sparse", "hashed", "encoder"])
def test_other_kernels(packed, models, name):
    """What a float model may ask for is there: same results but for rounding, and the limits of a test do no harm."""
    package, facts = packed(name)
    assert facts["library_bytes"] < packed("all")[1]["library_bytes"]
    build(package, "-static")
    want = np.frombuffer(engine(models[name]), "f4")
    for cpu in CPUS:
        got = np.frombuffer(outputs(package, models[name], "qemu-aarch64", "-cpu", cpu), "f4")
        np.testing.assert_allclose(got, want, atol=1e-4 * np.ptp(want), rtol=0)


def test_all_models(packed, models):
    """400,000 bytes were wanted: with integer rows, hashed weights and Winograd in float16 it is more; this must not grow."""
    package, facts = packed("all")
    assert facts["library_bytes"] <= 417_000 and facts["ops"] == "all", library.symbols(package / "lib" / "libmcc.a")
    build(package, "-static")
    for name in ("encoder", "sparse", "fp32"):
        shutil.copy(models[name], package)
        got, want = (np.frombuffer(b, "f4") for b in (outputs(package, models[name], "qemu-aarch64"), engine(models[name])))
        np.testing.assert_allclose(got, want, atol=1e-4 * np.ptp(want), rtol=0)


def test_another_model_is_refused(packed, models):
    package, _ = packed("int8")
    shutil.copy(models["encoder"], package)
    build(package, "-static")
    done = subprocess.run(["qemu-aarch64", "./example", "encoder.mcc"], cwd=package, capture_output=True, text=True)
    assert done.returncode == 2 and "this engine has no op" in done.stderr


def test_a_baseline_cannot_be_limited_away(packed, models):
    """The plain C kernels are not in it: a limit to them leaves NEON."""
    package, _ = packed("int8")
    limited = (package / "example.c").read_text().replace("mcc_net *net;", 'mcc_net *net;\n    mcc_limit_isa("c");', 1)
    (package / "limited.c").write_text(limited)
    build(package, "-static", source="limited.c")
    assert outputs(package, models["int8"], "qemu-aarch64") == engine(models["int8"])


def test_this_machine(models, mcc, tmp_path):
    if os.uname().machine != "x86_64":
        pytest.skip("packages for x86-64 are built on x86-64")
    code, out, err = mcc("package", models["int8"], "--target", "linux-x86-64", "-o", tmp_path / "p", "--json")
    assert code == 0 and json.loads(out)["prebuilt"], err
    build(tmp_path / "p", cc="cc")
    assert outputs(tmp_path / "p", models["int8"]) == engine(models["int8"])


def test_android_has_sources_only(models, mcc, tmp_path):
    code, out, err = mcc("package", models["int8"], "--target", "android-arm64", "-o", tmp_path / "p")
    assert code == 0 and "CMakeLists.txt builds it from src/" in out, err
    assert not (tmp_path / "p" / "lib").exists() and "android.toolchain.cmake" in (tmp_path / "p" / "README.md").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p"]


def test_wrong_words(models, mcc, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    words = ["package", models["int8"], "--target", "linux-arm64", "-o"]
    for output, text in (("full", "is not empty and holds no package"), ("file", "is a file; -o takes a folder")):
        code, out, err = mcc(*words, tmp_path / output)
        assert (code, out) == (2, "") and text in err and err.count("\n") == 1
    (tmp_path / "bad.mcc").write_bytes(b"MCC1 and nothing more")
    code, out, err = mcc("package", tmp_path / "bad.mcc", "--target", "linux-arm64", "-o", tmp_path / "p")
    assert (code, out) == (2, "") and "bad.mcc" in err
    monkeypatch.setenv("CC_arm64", "no-such-compiler")
    from mcc.cli.arm64 import build
    build.compiler.cache_clear()
    try:
        code, out, err = mcc(*words, tmp_path / "p")
    finally:
        build.compiler.cache_clear()
    assert (code, out) == (4, "") and "apt-get install gcc-aarch64-linux-gnu" in err and err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.mcc", "file", "full"] and (tmp_path / "full" / "mine").exists()


def test_a_package_is_replaced_whole(models, mcc, tmp_path):
    output = tmp_path / "p"
    for name in ("int8", "sparse"):
        assert mcc("package", models[name], "--target", "linux-arm64", "-o", output)[0] == 0
    assert {p.name for p in output.glob("*.mcc")} == {"sparse.mcc"}
    assert {"lut", "sparse"} <= (parts := {p.name for p in (output / "src").iterdir()}) and "hashed" not in parts


def test_lists():
    """Lines of other machines go, C lines go where NEON has the same, what has no NEON form stays."""
    tree = subset._lines(subset.sources(), "arm64")
    assert "avx" not in "".join(t.partition("*/")[2] for p, t in tree.items() if p.endswith(".def"))
    eltwise = tree["eltwise/eltwise.def"]
    assert "UNARY(f32, exp, neon)" in eltwise and "UNARY(f32, exp, c)" not in eltwise
    assert "TRANSPOSE(x64, transpose, c)" in tree["move/move.def"]
    assert subset._types("mcc_gemm_pick(MCC_F32, n); mcc_gemm_s8_pick(") == {"f32", "s8"}


HEADER = """
#include "mcc.h"
#include "mcc.h"
int main(void) {
    mcc_net *net = 0;
    mcc_facts facts;
    const mcc_status status = mcc_open("no such file", &net);
    (void)facts;
    return status == MCC_NO_FILE && mcc_status_text(status)[0] && mcc_why()[0] && net == 0 ? 0 : 1;
}
"""


@pytest.mark.parametrize("language", ["c -std=c99", "c -std=c11", "c++ -std=c++98", "c++ -std=c++17"])
def test_the_header_alone(language, tmp_path):
    """mcc.h is C99 and C++, needs nothing before it, and its functions have C's names in both: the C library serves C++."""
    kind, standard = language.split()
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", *(["-Wno-long-long"] if standard.endswith("98") else []),
              *(["-Wstrict-prototypes"] if kind == "c" else [])]
    root = Path(__file__).resolve().parents[2]
    subprocess.run(["make", "-j2", "out=build/host", "lib"], cwd=root, check=True, capture_output=True)
    (tmp_path / "use").write_text(HEADER)
    cc = "cc" if kind == "c" else "c++"
    subprocess.run([cc, "-x", kind, standard, *strict, f"-I{root}/kernels", "use", "-x", "none", root / "build/host/libmcc.so",
                    "-o", "use.out"], cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "use.out"], env=os.environ | {"LD_LIBRARY_PATH": str(root / "build/host")}, check=True)
    assert ctypes.CDLL(root / "build/host/libmcc.so").mcc_open
