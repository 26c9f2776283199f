"""A device by ssh. MCC_SSH names the program, with options where it needs some ("ssh -F my_config")."""
from __future__ import annotations

import os
import re
import shlex

from .base import Device, _last, program

# Never a question; a silent line is noticed after 15 seconds.
OPTIONS = ("-T", "-oBatchMode=yes", "-oConnectTimeout=10", "-oServerAliveInterval=5", "-oServerAliveCountMax=3")
LINE_FAILED = 255  # ssh's own exit code; every other one is the script's


# Words of ssh's complaints, and the way out.
MEANINGS = {
    "Permission denied": "the host refuses the login; add a key there: ssh-copy-id {place} ({last})",
    "Could not resolve hostname": "there is no host of that name",
    "Host key verification failed": "the host's key is unknown or has changed; look at it once by hand: ssh {place}",
    "Connection refused": "nothing listens there; is sshd running, and is this its port?",
    "timed out": "the host does not answer",
    "No route to host": "the host cannot be reached",
}


class Ssh(Device):
    def __init__(self, address: str):
        from ...passes.errors import UserError
        m = re.fullmatch(r"((?:[^@:\s-][^@:\s]*@)?(?:\[[0-9a-fA-F:.]+\]|[^@:\s-][^@:\s]*))(?::(\d{1,5}))?", address)
        if not m:
            raise UserError(f"--target ssh:{address}: write ssh:USER@HOST or ssh:USER@HOST:PORT")
        self.target, self.host, self.port = f"ssh:{address}", m[1].replace("[", "").replace("]", ""), m[2]
        self.ssh = program(os.environ.get("MCC_SSH") or "ssh", "apt-get install openssh-client")

    def shell(self, script: str) -> list[str]:
        port = ["-p", self.port] if self.port else []
        return [*self.ssh, *OPTIONS, *port, "--", self.host, f"exec sh -c {shlex.quote(script)}"]

    def why(self, code: int, err: str) -> str:
        if code != LINE_FAILED:
            return ""
        place = " ".join([*(["-p", self.port] if self.port else []), self.host])
        for words, meaning in MEANINGS.items():
            if words in err:
                return meaning.format(place=place, last=_last(err))
        return f"the connection dropped ({_last(err) or 'no reason given'})"


def open_device(address: str) -> Ssh:
    return Ssh(address)
