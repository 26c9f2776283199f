"""The arrows of the house: cli -> passes, kernels; passes -> neither; kernels -> nothing; families only include core.

Read from the sources, so that an import inside of a function counts too.
"""
import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {"cli": {"cli", "passes", "kernels"}, "passes": {"passes"}, "kernels": {"kernels"}}
# The layers that are products share gemm's contract (its epilogue and requantization), whose activations are eltwise's.
FAMILY_ARROWS = {("conv", "gemm"), ("dwconv", "gemm"), ("sparse", "gemm"), ("sparse", "move"), ("lut", "gemm"), ("rnn", "gemm"),
                 ("gemm", "eltwise"), ("dwconv", "conv"), ("attention", "gemm"), ("hashed", "gemm"), ("block", "gemm"),
                 ("block", "conv"), ("block", "dwconv"), ("pool", "eltwise"), ("norm", "eltwise"), ("attention", "eltwise")}
HEAVY = {"torch", "onnx", "onnxsim", "onnxscript", "onnxruntime", "numpy", "pydantic", "yaml", "PIL", "safetensors"}


def sources(top):
    return [p for p in sorted((ROOT / top).rglob("*.py")) if "__pycache__" not in p.parts]


def imports(path, outermost_only=False):
    """Dotted names that a file imports, relative ones made absolute ("passes.graph"); mcc. taken off."""
    tree = ast.parse(path.read_text())
    package = path.relative_to(ROOT).with_suffix("").parts
    package = package[:-1] if package[-1] != "__init__" else package[:-1]
    for node in tree.body if outermost_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name.removeprefix("mcc.") for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[:len(package) - node.level + 1]) if node.level else []
            name = ".".join(base + ([node.module] if node.module else []))
            if name == "mcc" or not name:  # from .. import passes
                yield from (a.name for a in node.names)
            else:
                yield name.removeprefix("mcc.")


@pytest.mark.parametrize("top", ALLOWED)
def test_python_arrows(top):
    wrong = [f"{p.relative_to(ROOT)} imports {name}" for p in sources(top) for name in imports(p)
             if name.split(".")[0] in ALLOWED and name.split(".")[0] not in ALLOWED[top]]
    assert not wrong


def test_packages_use_relative_imports():
    """`mcc.` in the sources of the packages would tie them to the way they were installed."""
    wrong = [str(p.relative_to(ROOT)) for top in ALLOWED for p in sources(top)
             if re.search(r"^\s*(from|import) (mcc|cli|passes|kernels)\b", p.read_text(), re.MULTILINE)]
    assert not wrong


def test_only_show_imports_rich():
    users = {p.name for top in ALLOWED for p in sources(top) if any(n.split(".")[0] == "rich" for n in imports(p))}
    assert users == {"show.py"}


def test_commands_import_nothing_heavy_at_the_top():
    commands = [p for p in sources("cli") if not p.name.startswith("with_")]  # those are only run in a runtime's process
    wrong = [f"{p.name}: {n}" for p in commands for n in imports(p, outermost_only=True)
             if n.split(".")[0] in HEAVY | {"rich"}]
    assert not wrong


def test_every_command_resolves():
    from mcc.cli import COMMANDS
    for name, (file, about) in COMMANDS.items():
        module = import_module(f"mcc.cli.{file}")
        assert module.command.callback is not None or module.command.commands, name
        assert about.endswith(".")


def test_every_shipped_command_file_is_registered():
    from mcc.cli import COMMANDS
    helpers = {"__init__", "__main__", "show", "engine", "files", "together"}
    assert {p.stem for p in (ROOT / "cli").glob("*.py")} - helpers == {file for file, _ in COMMANDS.values()}


def test_every_pass_resolves():
    """One file, one line: the class is there, says where its method comes from, has options that can be checked, and
    an example for the tests of the passes."""
    from mcc.passes import PASSES, find
    from mcc.passes.base import Pass
    from mcc.passes.recipe.options import fields_of, json_schema
    for name in PASSES:
        cls = find(name)
        assert issubclass(cls, Pass), name
        assert cls.__dataclass_params__.frozen, f"{name} must be a frozen dataclass"
        module = import_module(cls.__module__)
        assert module.__doc__, name
        assert re.search(r"arXiv|\b(19|20)\d\d\b|doi", module.__doc__), f"{name}: the docstring names no source"
        assert "example" in vars(cls), name
        assert cls.example().nodes, name
        for option, (hint, _) in fields_of(cls).items():
            json_schema(hint)
            assert option in (cls.__doc__ or ""), f"{name}: the docstring does not say what {option} is"


def test_every_pass_file_is_registered():
    from mcc.passes import PASSES
    named = {path.split(":")[0] for path in PASSES.values()}
    for family in ("structure", "prune", "quantize", "distill"):
        for p in sources(f"passes/{family}"):
            tree = ast.parse(p.read_text())
            passes = [c.name for c in tree.body if isinstance(c, ast.ClassDef)  # a base that passes share has no example
                      and any(isinstance(f, ast.FunctionDef) and f.name == "example" for f in c.body)]
            assert not passes or f"{family}.{p.stem}" in named, f"{p.relative_to(ROOT)}: {passes} has no line in PASSES"


def includes(path):
    return re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.MULTILINE)


def test_kernel_families_only_include_core():
    wrong = []
    for p in sorted((ROOT / "kernels").glob("*/*.[ch]")):
        for name in includes(p):
            target = (p.parent / name).resolve().relative_to(ROOT / "kernels").parts
            other = target[0] if len(target) > 1 else ""
            if other not in ("", "core", p.parent.name) and (p.parent.name, other) not in FAMILY_ARROWS:
                wrong.append(f"{p.relative_to(ROOT)} includes {name}")
    assert not wrong


def test_kernel_families_form_no_circle():
    left = set(FAMILY_ARROWS)
    while free := {a for a in left if a[1] not in {b[0] for b in left}}:
        left -= free
    assert not left


def test_engine_needs_libc_and_threads_only():
    system = {"assert", "ctype", "errno", "fcntl", "float", "inttypes", "limits", "math", "pthread", "sched", "stdalign",
              "stdarg",
              "stdatomic", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string", "time", "unistd",
              "sys/stat", "sys/mman", "sys/types", "sys/auxv", "sys/sysctl", "sys/syscall", "asm/hwcap",
              "arm_neon", "immintrin", "cpuid",
              "windows",
              "xmmintrin", "arm_sve", "io"}
    wrong = []
    for p in sorted((ROOT / "kernels").glob("*/*.[ch]")):
        wrong += [f"{p.relative_to(ROOT)}: <{h}>" for h in re.findall(r"#\s*include\s+<([^>]+)\.h>",
                                                                      p.read_text()) if h not in system]
    assert not wrong
    python = [str(p) for p in (ROOT / "kernels").rglob("*.[ch]") if "Python.h" in p.read_text()]
    assert [Path(p).name for p in python] == ["_core.c"]
