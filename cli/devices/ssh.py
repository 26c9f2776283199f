"""A device by ssh. MCC_SSH names the program, with options where it needs some ("ssh -F my_config")."""
from __future__ import annotations

import os
import re
import shlex

from .base import Device, _last, program

# Never a question; a silent line is noticed after 15 seconds.
OPTIONS = ("-T", "-oBatchMode=yes", "-oConnectTimeout=10", "-oServerAliveInterval=5", "-oServerAliveCountMax=3")
LINE_FAILED = 255  # ssh's own exit code; every other one is the script's


class Ssh(Device):
    def __init__(self, address: str):
        from ...passes.errors import UserError
        m = re.fullmatch(r"((?:[^@:\s-][^@:\s]*@)?(?:\[[0-9a-fA-F:.]+\]|[^@:\s-][^@:\s]*))(?::(\d{1,5}))?", address)
        if not m:
            raise UserError(f"--target ssh:{address}: write ssh:USER@HOST or ssh:USER@HOST:PORT")
        self.target, self.host, self.port = f"ssh:{address}", m[1].replace("[", "").replace("]", ""), m[2]
        self.ssh = program(os.environ.get("MCC_SSH") or "ssh", "apt-get install openssh-client")

    def shell(self, script: str) -> list[str]:
        return [*self.ssh, *OPTIONS, *(["-p", self.port] if self.port else []), "--", self.host, f"exec sh -c {shlex.quote(script)}"]

    def why(self, code: int, err: str) -> str:
        if code != LINE_FAILED:
            return ""
        by_hand = " ".join(["ssh", *(["-p", self.port] if self.port else []), self.host])
        for words, meaning in (("Permission denied", f"the host refuses the login; add a key there: {by_hand.replace('ssh', 'ssh-copy-id', 1)}"),
                               ("Could not resolve hostname", "there is no host of that name"),
                               ("Host key verification failed", f"the host's key is unknown or has changed; look at it once by hand: {by_hand}"),
                               ("Connection refused", "nothing listens there; is sshd running, and is this its port?"),
                               ("timed out", "the host does not answer"), ("No route to host", "the host cannot be reached")):
            if words in err:
                return f"{meaning} ({_last(err)})" if words == "Permission denied" else meaning
        return f"the connection dropped ({_last(err) or 'no reason given'})"


def open_device(address: str) -> Ssh:
    return Ssh(address)
