"""setup.cfg says what mcc is; this file says the one thing it cannot: the C extension."""
from glob import glob

from setuptools import Extension, find_packages, setup

setup(
    packages=["mcc." + p for p in find_packages(include=["cli*", "passes*", "kernels*"])],
    package_dir={f"mcc.{top}": top for top in ("cli", "passes", "kernels")},
    ext_modules=[
        Extension(
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
    ],
)
