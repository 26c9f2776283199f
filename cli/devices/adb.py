"""An Android device by adb. MCC_ADB names the program."""
from __future__ import annotations

import os
from pathlib import Path

from .base import Device, _last, program


# Words of adb's complaints, and the way out.
MEANINGS = {
    "unauthorized": "the device does not know this machine; say yes to the question on its screen",
    "more than one device": "there are several devices; name one as adb:SERIAL, `adb devices` lists them",
    "no devices": "there is no device; plug it in and allow USB debugging in its developer options",
    "offline": "the device is offline; plug it in again",
    "not found": "there is no such device; `adb devices` lists them ({last})",
}


class Adb(Device):
    FOLDER = "/data/local/tmp"

    def __init__(self, serial: str):
        self.target = f"adb:{serial}" if serial else "adb"
        adb = program(os.environ.get("MCC_ADB") or "adb", "apt-get install adb, or Android's platform-tools")
        self.adb = [*adb, *(["-s", serial] if serial else [])]

    def connect(self, base: str) -> None:
        state = self._call([*self.adb, "get-state"])
        if state.code or state.out.strip() != "device":
            raise self.error(self.why(1, state.err or f"error: device {state.out.strip()}") or "the device does not answer")
        super().connect(base)

    def shell(self, script: str) -> list[str]:
        return [*self.adb, "shell", script]

    def push(self, file: Path, name: str) -> None:
        self._moved(self._call([*self.adb, "push", str(file), f"{self.folder}/{name}"]),
                    f"{file.name} ({file.stat().st_size:,} bytes) cannot be copied there")

    def pull(self, name: str, file: Path) -> None:
        self._moved(self._call([*self.adb, "pull", f"{self.folder}/{name}", str(file)]), f"{name} cannot be copied back")

    def why(self, code: int, err: str) -> str:
        if not code:
            return ""
        for words, meaning in MEANINGS.items():
            if words in err and ("error:" in err or "adb:" in err):
                return meaning.format(last=_last(err))
        if "adb:" in err or err.startswith("error:"):
            return f"the connection dropped ({_last(err)})"
        return ""


def open_device(serial: str) -> Adb:
    return Adb(serial)
