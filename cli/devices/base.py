"""What every device is, and how its folder disappears."""
from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

# Makes the folder, says its name, and removes it when its input ends: when we say so, when we die, when the line drops. What
# `held` in it still runs is stopped first.
GUARD = ('trap "" HUP; F=$(mktemp -d {base}/mcc.XXXXXX) || exit 9; echo "mcc-folder $F"; cat >/dev/null; '
         'test -f "$F/pid" && kill $(cat "$F/pid") 2>/dev/null; rm -rf "$F"')
# Runs a script in the folder. In it, `held COMMAND` is the command that takes long.
RUN = ('held() {{ "$@" & echo $! >pid; wait $!; held=$?; rm -f pid; return $held; }}; cd {folder} || exit 9; {script}')


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


class Device(ABC):
    """`shell` is all that a way must have, and `why`; push and pull go through it where the way has nothing better."""

    FOLDER = "/tmp"
    target: str
    folder = ""
    _guard: subprocess.Popen | None = None

    @abstractmethod
    def shell(self, script: str) -> list[str]:
        """The command of this machine that runs a shell script there, with its input, output and exit code."""

    @abstractmethod
    def why(self, code: int, err: str) -> str:
        """What an exit code and message of our program mean when the line itself failed; "" when it did not."""

    def connect(self, base: str) -> None:
        """Makes the folder. Raises TargetError with the reason when the device cannot be used."""
        with tempfile.TemporaryFile("w+") as said:
            self._guard = _start(self.shell(GUARD.format(base=shlex.quote(base))), said)
            for line in self._guard.stdout:
                if line.startswith("mcc-folder /"):
                    self.folder = line.split(maxsplit=1)[1].strip()
                    return
            code = self._guard.wait()
            said.seek(0)
            err = said.read()
        raise self.error(self.why(code, err) or f"cannot make a folder in {base} ({_last(err) or code}); name another with "
                         "--device-folder")

    def run(self, script: str) -> Done:
        """Runs a shell script in the folder. Raises TargetError when the line fails, not when the script does."""
        done = self._call(self.shell(RUN.format(folder=shlex.quote(self.folder), script=script)))
        if self._guard.poll() is not None:
            raise self.error(f"the connection dropped ({_last(done.err) or 'no reason given'})")
        if why := self.why(done.code, done.err):
            raise self.error(why)
        return done

    def push(self, file: Path, name: str) -> None:
        """Copies a file into the folder, under `name`."""
        with file.open("rb") as data:
            done = self._call(self.shell(f"cat >{shlex.quote(f'{self.folder}/{name}')}"), data)
        self._moved(done, f"{file.name} ({file.stat().st_size:,} bytes) cannot be copied there")

    def pull(self, name: str, file: Path) -> None:
        with file.open("wb") as out:
            done = self._call(self.shell(f"cat {shlex.quote(f'{self.folder}/{name}')}"), out=out)
        self._moved(done, f"{name} cannot be copied back")

    def remove(self) -> str:
        """Removes the folder, again and again if need be; says what is left behind."""
        if not self.folder:
            self._stop()
            return "nothing was left on the device"
        folder, self.folder = self.folder, ""
        if self._stop() == 0:
            return self._removed
        for _ in range(3):  # the guard is gone with its line; its end there may have removed it already
            if self._call(self.shell(f"rm -rf {shlex.quote(folder)}")).code == 0:
                return self._removed
        self._removed = f"the folder {folder} goes when the device sees that we are gone; if it does not, remove it"
        return self._removed

    _removed = "nothing was left on the device"

    def error(self, what: str) -> Exception:
        from ...passes.errors import TargetError
        return TargetError(f"{self.target}: {what}")

    def _stop(self) -> int | None:
        if self._guard is None:
            return None
        guard, self._guard = self._guard, None
        dead = guard.poll() is not None
        guard.stdin.close()
        code = guard.wait()
        guard.stdout.close()
        return None if dead else code

    def _moved(self, done: Done, what: str) -> None:
        if done.code:
            full = "No space left" in done.err or "ENOSPC" in done.err or "Disk quota" in done.err
            raise self.error(f"{what}: the device's disk is full; name another place with --device-folder" if full else
                             self.why(done.code, done.err) or f"{what} ({_last(done.err) or f'exit code {done.code}'})")

    def _call(self, command: list[str], data=None, out=None) -> Done:
        done = subprocess.run(command, stdin=data or subprocess.DEVNULL, stdout=out or subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False, start_new_session=True)
        return Done(done.returncode, (done.stdout or b"").decode(errors="replace"), done.stderr.decode(errors="replace"))


def _start(command: list[str], said) -> subprocess.Popen:
    # A session of its own: Ctrl-C is for us, who then remove the folder.
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
                            start_new_session=True)


def program(words: str, install: str) -> list[str]:
    """The words of a command whose program is there. Raises TargetError with how to get it."""
    from ...passes.errors import TargetError
    command = shlex.split(words)
    if not command or shutil.which(command[0]) is None:
        raise TargetError(f"{command[0] if command else words} is not installed; {install}")
    return command


def _last(err: str) -> str:
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""
