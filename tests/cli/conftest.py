"""A small network, its weights and data, in a folder of its own: what the command tests work on."""
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a background job of a shell: what tests start must hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
NETS = '''
import torch
from torch import nn


class Named(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, width), nn.Linear(width, 3)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


def small(width=64):
    return Named(width)
'''


def write_data(path: Path, n: int = 600) -> None:
    """Three classes of points that a small network tells apart well, not perfectly."""
    r = np.random.default_rng(0)
    labels = r.integers(0, 3, n)
    x = r.standard_normal((n, 4)).astype(np.float32) + 1.2 * np.eye(3, 4, dtype=np.float32)[labels]
    np.savez(path, x=x, labels=labels)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The files, made once."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("made")
    (folder / "nets.py").write_text(NETS)
    write_data(folder / "data.npz")
    torch.manual_seed(0)
    state = {"fc1.weight": torch.randn(64, 4), "fc1.bias": torch.randn(64), "fc2.weight": torch.randn(3, 64) / 8,
             "fc2.bias": torch.zeros(3)}
    save_file(state, folder / "weights.safetensors")
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of the files as the current folder."""
    for p in made.iterdir():
        shutil.copy(p, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path, os.fspath(tmp_path)])
    return tmp_path


@pytest.fixture
def mcc(capfd):
    """mcc("compress", "x.yaml") -> (exit code, stdout, stderr)."""
    from mcc.cli import main

    def call(*args):
        capfd.readouterr()
        code = main([str(a) for a in args])
        out, err = capfd.readouterr()
        return code, out, err
    return call
