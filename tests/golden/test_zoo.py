"""Channels removed from every architecture of the zoo (tests/zoo): groups, removal and the lowered file agree with torch.

All go through the older exporter, which takes a second each; a few of every family also through torch's own of today, and from
a file that this one has written. `python tests/zoo/channels.py` prints the whole list, all ways.
"""
from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from zoo import ZOO, channels

EXPORTED = ("resnet18", "densenet121", "mobilenet_v3_small", "shufflenet_v2", "vit", "bert", "swin", "unet_transposed",
            "lstm_keyword", "conformer")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_there_are_at_least_sixty():
    assert len(ZOO) >= 60


@pytest.mark.parametrize("name", ZOO)
def test_pruned(name):
    channels.prune(name, "onnx")


@pytest.mark.parametrize("name", EXPORTED[::3])
def test_pruned_from_the_file_of_todays_exporter(name):
    channels.prune(name, "file")


@pytest.mark.parametrize("name", EXPORTED)
def test_pruned_as_torch_exports_today(name):
    channels.prune(name, "torch")
