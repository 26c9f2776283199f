"""What golden tests share."""
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def arm64_runner():
    """mcc-run for arm64, static. Without the cross compiler or qemu the test is skipped, but not in CI."""
    missing = [t for t in ("aarch64-linux-gnu-gcc", "qemu-aarch64") if shutil.which(t) is None]
    if missing:
        assert os.environ.get("CI") != "true", f"{missing} must be installed in CI (make deps)"
        pytest.skip(f"{', '.join(missing)} not found; make deps installs them")
    subprocess.run(["make", "-s", "-C", ROOT, "out=build/arm64", "CC=aarch64-linux-gnu-gcc", "LDFLAGS=-static", "mcc-run"],
                   check=True, stdout=subprocess.DEVNULL)
    return ROOT / "build/arm64/mcc-run"
