"""mcc bench on devices: a real sshd on this machine that says it is an arm64 one (its runner goes through qemu), a fake adb,
and everything that can go wrong with either. Nothing may stay on the device."""
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
QEMU = "qemu-aarch64 -cpu cortex-a76"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A small int8 convolution network."""
    import torch
    from mcc.passes import lower
    from mcc.passes.onnx_io import from_torch
    from torch import nn
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.ReLU(),
                        nn.Conv2d(16, 8, 1), nn.Flatten(), nn.Linear(8 * 64, 5))
    x = torch.randn(1, 3, 16, 16)
    graph = from_torch(net.eval(), (x,))
    path = tmp_path_factory.mktemp("device") / "m.mcc"
    lower(graph, path, precision="int8", calibration=[{graph.inputs[0].name: x.numpy()}])
    return path


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


class Host:
    """An sshd of our own, with keys, configuration and PATH of our own, for the user who runs the tests."""

    def __init__(self, folder: Path):
        self.place, self.bin, self.tmp, self.full = folder, folder / "bin", folder / "tmp", folder / "full"
        self.bin.mkdir()
        self.tmp.mkdir()
        script(self.bin / "uname", 'test "$1" = -m && echo aarch64 || exec /bin/uname "$@"')
        script(self.bin / "cat", f"test -e {self.full} && test -f /proc/self/fd/1 && "
               '{ head -c 1000; echo "cat: write error: No space left on device" >&2; exit 1; }\nexec /bin/cat "$@"')
        for key in ("host", "user", "stranger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
            f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
            f"PidFile none\nSetEnv PATH={self.bin}:{os.environ['PATH']}\n")
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {(folder / 'host.pub').read_text()}")
        (folder / "config").write_text(f"IdentityFile {folder}/user\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known\n"
                                       "GlobalKnownHostsFile /dev/null\n")
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        assert sshd, "openssh-server is not installed; make deps"
        self.log = folder / "log"
        self.daemon = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "sshd_config"], stderr=self.log.open("w"))
        import getpass
        self.target = f"ssh:{getpass.getuser()}@127.0.0.1:{self.port}"
        while b"Server listening" not in self.log.read_bytes():
            assert self.daemon.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def ssh(self, **changes: str) -> str:
        """MCC_SSH with the host's configuration, lines of it changed."""
        lines = dict(line.split(" ", 1) for line in (self.place / "config").read_text().splitlines()) | changes
        path = self.place / f"config-{'-'.join(changes)}"
        path.write_text("".join(f"{k} {v}\n" for k, v in lines.items()))
        return f"ssh -F {path}"

    def sessions(self) -> list[int]:
        """The processes that serve connections."""
        found = []
        for p in Path("/proc").glob("[0-9]*/stat"):
            try:
                if p.read_text().rpartition(")")[2].split()[1] == str(self.daemon.pid):
                    found.append(int(p.parent.name))
            except OSError:
                pass
        return found


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    made = Host(tmp_path_factory.mktemp("host"))
    yield made
    made.daemon.terminate()
    made.daemon.wait()


@pytest.fixture
def clean(host, monkeypatch):
    """The host by its own configuration; nothing may be left in its temporary folder."""
    monkeypatch.setenv("MCC_SSH", host.ssh())
    monkeypatch.setenv("MCC_DEVICE_FOLDER", str(host.tmp))
    monkeypatch.setenv("MCC_RUNNER_PREFIX", QEMU)
    yield host
    host.full.unlink(missing_ok=True)
    emptied(host.tmp)


def emptied(folder: Path) -> None:
    """A dropped line is noticed by the other side, in its own time."""
    end = time.monotonic() + 60
    while left := list(folder.glob("mcc.*")):
        assert time.monotonic() < end, f"left behind: {left}"
        time.sleep(0.02)


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """The fake adb's device, arm64 as well."""
    root, tools = tmp_path / "phone", tmp_path / "tools"
    root.mkdir()
    tools.mkdir()
    script(tools / "uname", 'test "$1" = -m && echo aarch64 || exec /bin/uname "$@"')
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("MCC_ADB", str(HERE / "fake_adb"))
    monkeypatch.setenv("FAKE_ADB_ROOT", str(root))
    monkeypatch.setenv("MCC_RUNNER_PREFIX", QEMU)
    yield root
    emptied(root)


def said(result, code: int, *words: str) -> None:
    got, out, err = result
    assert got == code and out == "" and err.count("\n") == 1, result
    assert all(w in err for w in words), err


def check(facts: dict, target: str, model: Path) -> None:
    from mcc.passes import load
    assert facts["schema"] == 1 and facts["target"] == target and facts["estimated"] is False and facts["threads"] == 1
    ms = facts["latency_ms"]
    assert ms["runs"] >= 50 and 0 < ms["min"] <= ms["p10"] <= ms["median"] <= ms["p90"]
    assert facts["isa"].startswith("c neon neondot")
    nodes = load(model).nodes
    assert [(n["name"], n["op"]) for n in facts["ops"]] == [(n.name, n.op) for n in nodes]
    assert all(n["ms"] >= 0 for n in facts["ops"]) and any("neondot" in n["kernel"] for n in facts["ops"])
    assert facts["macs"] == sum(n["macs"] for n in facts["ops"]) > 0 and facts["model_bytes"] == model.stat().st_size
    assert facts["cold_start_ms"] > 0 and facts["arena_bytes"] > 0 and facts["weight_bytes"] > 0
    device = facts["device"]
    assert device["arch"] == "arm64" and device["prefix"] == QEMU and device["agrees"] and device["max_error"] == 0
    assert device["core"] == "cortex-a76" and int(device["midr"], 16) >> 4 & 0xFFF == 0xD0B
    assert {"governor", "mhz_before", "mhz_after", "celsius_before", "celsius_after"} <= device.keys()


def test_ssh(clean, model, mcc):
    core = max(os.sched_getaffinity(0))
    code, out, err = mcc("bench", model, "--target", clean.target, "--json", "--seconds", "0.1", "--cores", core)
    assert code == 0 and err == "", err
    facts = json.loads(out)
    check(facts, clean.target, model)
    assert facts["device"]["cores"] == [core]
    code, out, _ = mcc("bench", model, "--target", clean.target, "--seconds", "0.1", "--ops", "--cores", "all")
    assert code == 0 and f"device     {os.uname().nodename} (arm64, cortex-a76) through `{QEMU}`, not pinned, governor " in out
    assert "the nodes add up to" in out and "DIFFER" not in out


def test_adb(phone, model, mcc):
    for target in ("adb", "adb:phone"):
        code, out, err = mcc("bench", model, "--target", target, "--json", "--seconds", "0.1")
        assert code == 0 and err == "", err
        facts = json.loads(out)
        check(facts, target, model)
        assert facts["device"]["cores"] and set(facts["device"]["cores"]) <= os.sched_getaffinity(0)


def test_this_architecture_needs_no_prefix(phone, model, mcc, monkeypatch):
    monkeypatch.setenv("PATH", os.environ["PATH"].partition(":")[2])
    monkeypatch.delenv("MCC_RUNNER_PREFIX")
    code, out, err = mcc("bench", model, "--target", "adb", "--json", "--seconds", "0.1")
    assert code == 0 and json.loads(out)["device"]["prefix"] is None, err


def test_wrong_hosts(clean, model, mcc, monkeypatch):
    def bench(target, **changes):
        monkeypatch.setenv("MCC_SSH", clean.ssh(**changes))
        return mcc("bench", model, "--target", target, "--seconds", "0.1")
    said(bench("ssh:nobody@no.such.host.invalid"), 4, "ssh:nobody@no.such.host.invalid: there is no host of that name")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        said(bench(f"ssh:127.0.0.1:{s.getsockname()[1]}"), 4, "nothing listens there")
    said(bench(clean.target, IdentityFile=f"{clean.place}/stranger"), 4, "refuses the login", "Permission denied", "ssh-copy-id")
    said(bench(clean.target, UserKnownHostsFile="/dev/null"), 4, "key is unknown or has changed")
    for wrong in ("ssh:", "ssh:a b", "ssh:-oProxyCommand=x", "ssh:host:port"):
        said(bench(wrong), 2, "write ssh:USER@HOST")
    said(mcc("bench", model, "--target", "phone"), 4, "no target 'phone'", "ssh:USER@HOST[:PORT], adb[:SERIAL]")
    said(mcc("bench", "--kernels", "gemm:f32:m=1,k=1,n=1", "--target", "adb"), 2, "leave --target out")


def test_missing_programs(model, mcc, monkeypatch):
    monkeypatch.setenv("MCC_SSH", "no-such-ssh -F x")
    said(mcc("bench", model, "--target", "ssh:a@b"), 4, "no-such-ssh is not installed; apt-get install openssh-client")
    monkeypatch.setenv("MCC_ADB", "no-such-adb")
    said(mcc("bench", model, "--target", "adb"), 4, "no-such-adb is not installed; apt-get install adb")


def test_adb_refuses(phone, model, mcc, monkeypatch):
    for mode, words in {"none": "there is no device; plug it in", "unauthorized": "say yes to the question on its screen",
                        "several": "name one as adb:SERIAL", "offline": "is offline"}.items():
        monkeypatch.setenv("FAKE_ADB", mode)
        said(mcc("bench", model, "--target", "adb"), 4, f"adb: {'the device ' if mode == 'offline' else ''}", words)
    monkeypatch.setenv("FAKE_ADB", "")
    said(mcc("bench", model, "--target", "adb:other"), 4, "adb:other: there is no such device", "'other' not found")


def test_devices_that_cannot(clean, model, mcc, monkeypatch):
    def bench(*more):
        return mcc("bench", model, "--target", clean.target, "--seconds", "0.1", *more)
    said(bench("--device-folder", "/no/such/folder"), 4, "cannot make a folder in /no/such/folder", "--device-folder")
    said(bench("--cores", "4000"), 2, "--cores 4000")
    said(bench("--cores", "999"), 4, "it has no core 999")
    said(bench("--runner-prefix", "no-such-emulator"), 4, "mcc-run failed there", "no-such-emulator", "prefix is not there")
    said(bench("--runner-prefix", "sh -c 'kill -ILL $$'"), 4, "an instruction that the CPU lacks")
    uname = (clean.bin / "uname").read_text()
    (clean.bin / "uname").write_text(uname.replace("aarch64", "armv7l"))
    try:
        said(bench(), 4, "the device is armv7l; mcc runs on arm64 and x86-64")
    finally:
        (clean.bin / "uname").write_text(uname)


def test_a_full_disk(clean, phone, model, mcc, monkeypatch):
    clean.full.touch()
    words = ("cannot be copied there: the device's disk is full", "--device-folder", "nothing was left on the device")
    said(mcc("bench", model, "--target", clean.target), 4, "mcc-run (", *words)
    monkeypatch.setenv("MCC_DEVICE_FOLDER", "/data/local/tmp")
    monkeypatch.setenv("FAKE_ADB", "full")
    said(mcc("bench", model, "--target", "adb"), 4, "m.mcc (", *words)


def when_it_runs(folder: Path, then) -> threading.Thread:
    """Calls `then` once the runner is at work on the device."""
    def wait():
        while not any(folder.glob("mcc.*/pid")):
            time.sleep(0.005)
        then()
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_dropped_line(clean, phone, model, mcc, monkeypatch):
    thread = when_it_runs(clean.tmp, lambda: [os.kill(p, signal.SIGKILL) for p in clean.sessions()])
    bench = ("bench", model, "--seconds", "30", "--target")
    said(mcc(*bench, clean.target), 4, "the connection dropped", "nothing was left on the device")
    thread.join()
    monkeypatch.setenv("MCC_DEVICE_FOLDER", "/data/local/tmp")
    monkeypatch.setenv("FAKE_ADB", "drop")
    said(mcc(*bench, "adb"), 4, "the connection dropped", "goes when the device sees that we are gone")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped(clean, model, how):
    """Ctrl-C is one line; even a kill leaves neither a folder nor a runner."""
    command = [sys.executable, "-m", "mcc.cli", "bench", model, "--target", clean.target, "--seconds", "100"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    runner = []

    def stop():
        pid = next(clean.tmp.glob("mcc.*/pid"))
        while not (text := pid.read_text().strip()):
            time.sleep(0.005)
        runner.append(int(text))
        process.send_signal(how)
    thread = when_it_runs(clean.tmp, stop)
    out, err = process.communicate()
    thread.join()
    emptied(clean.tmp)
    end = time.monotonic() + 60
    while Path(f"/proc/{runner[0]}").exists():
        assert time.monotonic() < end, "the runner still runs"
        time.sleep(0.02)
    if how == signal.SIGINT:
        assert (process.returncode, out) == (4, "") and err == f"{clean.target}: stopped; nothing was left on the device\n"


def test_outputs_that_differ_are_said(clean, model, mcc):
    """A device whose results are wrong is not timed in silence."""
    wrong = script(clean.bin / "wrong", f'{QEMU} "$@"; for f in out*.bin; do tr "\\000-\\377" "\\100" <$f >new; mv new $f; done')
    code, out, _ = mcc("bench", model, "--target", clean.target, "--seconds", "0.1", "--runner-prefix", shlex.quote(str(wrong)))
    assert code == 0 and "OUTPUTS DIFFER" in out
    assert 1e-3 < float(out.partition("DIFFER from this machine's by ")[2].split()[0]) <= 1
