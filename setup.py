"""setup.cfg says what mcc is; this file says the one thing it cannot: the C extension.

MCC_EXTENSION=FILE packs an extension that make has built, for another machine too (`make wheel-arm64`).
"""
import os
import shutil
from glob import glob

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

engine = Extension(
    "mcc.kernels._core",
    ["kernels/_core.c", *sorted(glob("kernels/*/*.c"))],
    depends=glob("kernels/**/*.[hd]*", recursive=True),
    define_macros=[("Py_LIMITED_API", "0x030A0000")],
    py_limited_api=True,
    # -ffp-contract=off: integer epilogues must round the same on every target.
    extra_compile_args=["-std=c11", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-pthread"],
    extra_link_args=["-pthread"],
    libraries=["m"],
)



class Build(build_ext):
    def build_extension(self, ext):
        if not (made := os.environ.get("MCC_EXTENSION")):
            return super().build_extension(ext)
        os.makedirs(os.path.dirname(self.get_ext_fullpath(ext.name)), exist_ok=True)
        shutil.copyfile(made, self.get_ext_fullpath(ext.name))


setup(
    packages=[*("mcc." + p for p in find_packages(include=["cli*", "passes*", "kernels*"])), "mcc.configs"],
    package_dir={f"mcc.{top}": top for top in ("cli", "passes", "kernels", "configs")},
    # `make setup` builds the engine itself: in parallel, and only what changed.
    ext_modules=[] if os.environ.get("MCC_NO_EXTENSION") else [engine],
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
