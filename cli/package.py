"""`mcc package`: a model and the part of the engine that it needs, as a folder that an app takes."""
from __future__ import annotations

from pathlib import Path

import click

from . import show
from .files import known

TARGETS = ("linux-arm64", "android-arm64", "linux-x86-64")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", required=True, type=click.Choice(TARGETS), help="What it is built for.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The folder to write.")
@click.option("--all-models", is_flag=True, help="With every op and kernel, so that other models run as well.")
@show.json_option
def command(model, target, output, all_models, as_json):
    """Write DIR with MODEL.mcc, the engine's header, its sources cut down to this model, a static library of them, an example in
    C, a CMakeLists.txt (the NDK's toolchain file drives it) and a README."""
    from .shipping import folder
    known(model, (".mcc",))
    facts = folder.make(model, target, output, all_models)
    if as_json:
        show.emit(facts)
        return
    print(f"{output}: {target}, engine {show.size(facts['library_bytes'])} stripped ({facts['sources']} source files), "
          f"model {show.size(facts['model_bytes'])}")
    if not facts["prebuilt"]:
        print("no library in it: Android's needs the NDK's compiler; CMakeLists.txt builds it from src/")
