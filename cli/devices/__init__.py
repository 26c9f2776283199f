"""Devices to measure on: one file per way to reach them; `measure` says what is done there.

A device is a folder of its own on another machine, from `connect` to `remove`:

    with connected("ssh:user@host:22") as device:
        device.push(Path("model.mcc"), "model.mcc")
        print(device.run("ls -l").out)
"""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from .base import Device

WAYS = {"ssh": "ssh:USER@HOST[:PORT]", "adb": "adb[:SERIAL]"}  # a way is the file of that name, with `open_device(address)`


def is_device(target: str) -> bool:
    return target.partition(":")[0] in WAYS


@contextlib.contextmanager
def connected(target: str, folder: str | None = None) -> Iterator[Device]:
    """The device, with an empty folder on it that is gone afterwards, whatever happens. Raises TargetError."""
    from importlib import import_module

    from ...passes.errors import TargetError
    way, _, address = target.partition(":")
    device = import_module(f".{way}", __name__).open_device(address)
    try:
        device.connect(folder or os.environ.get("MCC_DEVICE_FOLDER") or device.FOLDER)
        yield device
    except KeyboardInterrupt:
        raise TargetError(f"{target}: stopped; {device.remove()}") from None
    except TargetError as e:
        raise TargetError(f"{e}; {device.remove()}" if device.folder else str(e)) from None
    finally:
        device.remove()
