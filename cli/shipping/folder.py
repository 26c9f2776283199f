"""What an app takes: a folder that compiles by itself."""
from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from . import library, subset
from .library import COMMON, level

TARGETS = {"linux-arm64": "arm64", "android-arm64": "arm64", "linux-x86-64": "x86-64"}
NOTE = "package.json"  # its facts; a folder that has it is ours to replace


def make(model: Path, target: str, output: Path, all_models: bool) -> dict:
    """Writes the folder; returns its facts. Raises TargetError without a compiler, UserError when the folder is in use."""
    from ...passes import load
    graph = load(model)
    _free(output)
    builder = library.builder(TARGETS[target])
    tree = subset.everything(builder.arch, builder.live) if all_models else subset.needed(graph, builder.arch, builder.live)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".part-{output.name}-", dir=output.parent) as place:
        made = Path(place) / output.name
        library.write(tree, made / "src")
        (made / "include").mkdir()
        shutil.copy(made / "src" / "mcc.h", made / "include")
        shutil.copy(Path(__file__).parent / "example.c", made)
        shutil.copy(model, made / model.name)
        archive = made / "lib" / "libmcc.a"
        shipped = builder.archive(tree, archive)
        if target.startswith("android"):  # made with another C library
            shutil.rmtree(archive.parent)
        facts = {"schema": 1, "model": str(model), "target": target, "output": str(output), "library_bytes": shipped,
                 "model_bytes": os.path.getsize(model), "prebuilt": archive.exists(), "compiler": builder.compiler.version,
                 "ops": "all" if all_models else sorted({n.op for n in graph.nodes}),
                 "sources": sum(p.endswith(".c") for p in tree)}
        (made / "CMakeLists.txt").write_text(_cmake(tree, builder))
        (made / "README.md").write_text(_readme(facts, model.name, builder))
        (made / NOTE).write_text(json.dumps({k: v for k, v in facts.items() if k not in ("model", "output")}, indent=1) + "\n")
        os.chmod(made, 0o755)
        if output.exists():
            shutil.rmtree(output)
        os.replace(made, output)
    return facts


def _free(output: Path) -> None:
    from ...passes.errors import UserError
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file; -o takes a folder")
    if output.is_dir() and any(output.iterdir()) and not (output / NOTE).exists():
        raise UserError(f"{output}: is not empty and holds no package; give another folder with -o")


def _cmake(tree: dict[str, str], builder: library.Builder) -> str:
    files: dict[str, list[str]] = {}
    for path in tree:
        if path.endswith(".c"):
            files.setdefault(level(path), []).append(f"src/{path}")
    names = {flag: "MCC_" + flag[1:].upper() for flag in sorted(files)}
    lists = "\n".join(f"set({names[flag]}\n  " + "\n  ".join(files[flag]) + ")\n"
                      f"set_source_files_properties(${{{names[flag]}}} PROPERTIES COMPILE_OPTIONS {flag})" for flag in names)
    flags = " ".join(f for f in [*COMMON, *builder.flags()[len(COMMON):]] if f not in ("-std=c11", "-fPIC", "-pthread"))
    return f"""# The engine as a static library, and the example.   cmake -B build && cmake --build build
# Android: cmake -B build -DCMAKE_TOOLCHAIN_FILE=$NDK/build/cmake/android.toolchain.cmake -DANDROID_ABI=arm64-v8a \\
#                -DANDROID_PLATFORM=android-24
# In an app: add_subdirectory(this folder) and target_link_libraries(app mcc).
cmake_minimum_required(VERSION 3.12)
project(mcc C)

{lists}

set(CMAKE_C_FLAGS_RELEASE "") # every file says how it is optimised
add_library(mcc STATIC {' '.join(f'${{{n}}}' for n in names.values())})
set_target_properties(mcc PROPERTIES C_STANDARD 11 C_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
target_compile_options(mcc PRIVATE {flags})
target_include_directories(mcc PUBLIC include)
find_package(Threads REQUIRED)
target_link_libraries(mcc PUBLIC Threads::Threads m)
target_link_options(mcc INTERFACE -Wl,--gc-sections)

add_executable(example example.c)
target_link_libraries(example mcc)
"""


PREBUILT = """`lib/libmcc.a` was built with {compiler}:

    {cc} -Iinclude example.c lib/libmcc.a -Wl,--gc-sections -lm -pthread -o example
    ./example {model} INPUT OUTPUT
"""
SOURCES = """There is no library in it: it has to be made with Android's own compiler, which CMake and the NDK do:

    cmake -B build -DCMAKE_TOOLCHAIN_FILE=$NDK/build/cmake/android.toolchain.cmake -DANDROID_ABI=arm64-v8a \\
          -DANDROID_PLATFORM=android-24
    cmake --build build
"""
README = """# {model} for {target}

The mcc engine for {what}, {library_bytes:,} bytes as a stripped shared library (with {compiler}),
and the model, {model_bytes:,} bytes. It needs libc and threads, nothing else.

{how}
In an app: `add_subdirectory` this folder and link the target `mcc` (`CMakeLists.txt` builds it from `src/`). The API is
`include/mcc.h`; `example.c` is all that it takes. Link with `-Wl,--gc-sections`, so that what nobody calls is left out.
A model with other ops is refused with MCC_NO_OP: make a package for it, or one with `--all-models`.
"""


def _readme(facts: dict, model: str, builder: library.Builder) -> str:
    what = "any model" if facts["ops"] == "all" else f"`{model}` (ops: {', '.join(facts['ops'])})"
    cc = {"arm64": "aarch64-linux-gnu-gcc", "x86-64": "cc"}[builder.arch]
    words = facts | {"model": model, "what": what, "cc": cc}
    return README.format(**words, how=(PREBUILT if facts["prebuilt"] else SOURCES).format(**words))
