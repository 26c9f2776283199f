"""`mcc compress --nproc 2`, and the same under torchrun: one result, one voice, and an end whatever happens."""
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """
name: small
model:
  factory: nets:small
  checkpoint: trained.safetensors
  input: {{shape: [N, 4]}}
data: {{source: npz, path: data.npz, batch: 32}}
metric: accuracy
train: {{epochs: 6, lr: 1e-2}}
passes:
  - prune.channels: {{ratio: 0.25, multiple: 1, epochs: {epochs}}}
  - structure.low_rank: {{ratio: 0.8, whiten: false, epochs: 1}}
  - prune.weights: {{sparsity: 0.5, epochs: 1}}
  - distill.logits: {{epochs: 1}}
expect:
  size: "<= original"
output: out
"""
COMPRESS = [sys.executable, "-m", "mcc.cli", "compress", "r.yaml"]


@pytest.fixture
def recipe(folder):
    def write(epochs=1):
        (folder / "r.yaml").write_text(RECIPE.format(epochs=epochs))
        return folder
    return write


def start(*args):
    return subprocess.Popen([*COMPRESS, *args], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def until(running, text: str) -> list[str]:
    lines = []
    for line in running.stderr:
        lines.append(line)
        if line.startswith(text):
            return lines
    raise AssertionError("".join(lines))


def children(running) -> list[int]:
    return [int(p) for p in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()]


def weights(folder: Path) -> dict:
    from mcc.passes.cache import unpack
    return {v.name: v.data for v in unpack((folder / "model.graph").read_bytes())[0].constants() if v.data.dtype.kind == "f"}


def test_the_result_of_one_process_and_of_torchrun(recipe, mcc):
    """Weights within 1e-3 after five trainings (sums in another order), the metric within two samples of the test split."""
    folder = recipe()
    assert mcc("compress", "r.yaml", "-o", "one")[0] == 0
    (folder / "trained.safetensors").unlink()
    two = subprocess.run([*COMPRESS, "--nproc", "2", "-o", "two", "--json"], capture_output=True, text=True, check=False)
    assert two.returncode == 0, two.stderr
    report, alone = json.loads(two.stdout), json.loads((folder / "one/report.json").read_text())
    assert report == json.loads((folder / "two/report.json").read_text())
    assert two.stderr.count("1/4 prune.channels\n") == 1, two.stderr
    assert len((folder / "two/log.txt").read_text().splitlines()) == len((folder / "one/log.txt").read_text().splitlines())
    for a, b in zip(alone["stages"], report["stages"]):
        assert (a["pass"], a["params"], a["nonzero"]) == (b["pass"], b["params"], b["nonzero"])
        assert abs(a["metric"] - b["metric"]) <= 2 / report["data"]["test"]
    want, got = weights(folder / "one"), weights(folder / "two")
    assert want.keys() == got.keys()
    assert max(float(abs(want[k] - got[k]).max()) for k in want) < 1e-3

    (folder / "trained.safetensors").unlink()
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", *COMPRESS[2:]]
    torchrun = subprocess.run([*run, "-o", "torchrun"], capture_output=True, text=True, check=False,
                              env={**os.environ, "OMP_NUM_THREADS": str(report["environment"]["threads"])})
    assert torchrun.returncode == 0, torchrun.stderr
    assert (folder / "torchrun/model.mcc").read_bytes() == (folder / "two/model.mcc").read_bytes()
    assert torchrun.stdout.count("model.mcc") == 2, torchrun.stdout


def test_a_killed_process_ends_the_run_which_resumes(recipe):
    folder = recipe(epochs=3000)
    running = start("--nproc", "2")
    until(running, "1/4 prune.channels")
    os.kill(children(running)[1], signal.SIGKILL)
    out, err = running.communicate()
    assert running.returncode == 3 and not out
    assert "mcc: process 1 (of 0 to 1) was killed by signal 9; the same command goes on from the last finished pass" in err
    assert "Traceback" not in err and not (folder / "out/model.mcc").exists()
    recipe(epochs=1)
    again = subprocess.run([*COMPRESS, "--nproc", "2"], capture_output=True, text=True, check=False)
    assert again.returncode == 0 and "train the original" not in again.stderr, again.stderr
    third = subprocess.run([*COMPRESS, "--nproc", "2"], capture_output=True, text=True, check=False)
    assert third.stderr.count("from the cache") == 4, third.stderr


def test_ctrl_c_reaches_all(recipe):
    recipe(epochs=3000)
    running = start("--nproc", "2")
    until(running, "1/4 prune.channels")
    mine = children(running)
    running.send_signal(signal.SIGINT)
    err = running.communicate()[1]
    assert running.returncode == 130
    assert err.splitlines()[-1] == "mcc: stopped; the same command goes on from the last finished pass"
    assert "Traceback" not in err and not any(Path(f"/proc/{p}").exists() for p in mine)


def test_a_mistake_is_said_once_and_a_gate_fails(recipe):
    recipe()
    wrong = subprocess.run([*COMPRESS, "--nproc", "2", "--set", "data.path=none.npz"], capture_output=True, text=True,
                           check=False)
    assert wrong.returncode == 2 and len(wrong.stderr.splitlines()) == 1 and "no such file" in wrong.stderr, wrong.stderr
    gate = subprocess.run([*COMPRESS, "--nproc", "2", "--set", "expect.size=<= original / 100"], capture_output=True, text=True,
                          check=False)
    assert gate.returncode == 1 and "FAIL size" in gate.stdout, gate.stderr
