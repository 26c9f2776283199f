"""Training in several processes is the training of one: the same batches, gradients, statistics and schedules.

Run as a script, this file is one of these processes: python test_ranks.py FOLDER CASES...
"""
from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mcc.passes import ranks
from mcc.passes.base import Context
from mcc.passes.data import Array, Data, Source, Table
from mcc.passes.distill.hidden import Hidden
from mcc.passes.distill.logits import Logits
from mcc.passes.errors import PassFailed, UserError
from mcc.passes.graph import Graph, Node, Value, constant
from mcc.passes.prune.channels import Channels
from mcc.passes.prune.weights import Weights
from mcc.passes.structure.low_rank import LowRank
from mcc.passes.train import fit

CASES = {
    "channels": lambda: Channels(ratio=0.5, multiple=1, epochs=2, lr=0.01),
    "weights": lambda: Weights(sparsity=0.6, epochs=2, lr=0.01),
    "regrow": lambda: Weights(sparsity=0.6, regrow=0.3, epochs=2, lr=0.01),
    "movement": lambda: Weights(sparsity=0.6, importance="movement", epochs=2, lr=0.01),
    "low_rank": lambda: LowRank(ratio=0.5, whiten=False, epochs=2, lr=0.01),
    "logits": lambda: Logits(alpha=0.5, epochs=2, lr=0.01),
    "hidden": lambda: Hidden(pairs={"a": "a"}, epochs=2, lr=0.01),
}
SAMPLES, BATCH = 104, 25  # batches that do not part evenly


def net() -> Graph:
    """Convolution (without a bias: behind a batch norm its gradient is rounding alone), batch norm, relu, pooling, linear."""
    r = np.random.default_rng(0)

    def weight(name, *shape):
        return constant(name, (r.standard_normal(shape) * 0.4).astype(np.float32))
    x, a, b, c, d, e, y = (Value(n, "float32") for n in "xabcdey")
    x.shape = ("N", 2, 8, 8)
    ones = np.ones(12, np.float32)
    return Graph([x], [y], [
        Node("conv", [x, weight("a.weight", 12, 2, 3, 3), None], [a], {"pads": [1] * 4}, "a"),
        Node("batch_norm", [a, weight("n.weight", 12), weight("n.bias", 12), constant("n.mean", 0 * ones),
                            constant("n.var", ones)], [b]),
        Node("relu", [b], [c]),
        Node("global_average_pool", [c], [d]),
        Node("flatten", [d], [e]),
        Node("linear", [e, weight("fc.weight", 3, 12), weight("fc.bias", 3)], [y], {}, "fc")])


def data(samples: int = SAMPLES) -> Data:
    r = np.random.default_rng(1)
    labels = r.integers(0, 3, samples)
    x = (r.standard_normal((samples, 2, 8, 8)) + labels[:, None, None, None] * np.linspace(-1, 1, 8)).astype(np.float32)
    table = Table({"x": Array(x)}, labels)
    return Data(Source(table, table, ["a", "b", "c"]))


def context(samples: int = SAMPLES) -> Context:
    graph = net()
    return Context(graph, data(samples), previous=graph, train={"batch": BATCH, "augment": {"shift": 1, "flip": True}})


def processes(folder: Path, *cases: str, count: int = 2) -> list[subprocess.CompletedProcess]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    env = {**os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1",
           "GLOO_SOCKET_IFNAME": "lo"}
    started = [subprocess.Popen([sys.executable, __file__, str(folder), *cases], env={**env, "RANK": str(i)}, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for i in range(count)]
    return [subprocess.CompletedProcess(p.args, p.wait(), p.stdout.read()) for p in started]


def saved(folder: Path, case: str, rank: int) -> dict[str, np.ndarray]:
    with np.load(folder / f"{case}{rank}.npz") as f:
        return dict(f)


def weights(graph: Graph) -> dict[str, np.ndarray]:
    return {v.name: v.data for v in graph.constants() if v.data.dtype.kind == "f"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """What two processes make of all cases."""
    folder = tmp_path_factory.mktemp("ranks")
    done = processes(folder, "told", *CASES)
    assert [p.returncode for p in done] == [0, 0], done[0].stdout + done[1].stdout
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(case, trained):
    """Sums in another order are all that differs: 1e-4 after two epochs; processes agree to the bit."""
    first, second = saved(trained, case, 0), saved(trained, case, 1)
    context_ = context()
    want, start = weights(CASES[case]().run(net(), context_)), weights(net())
    moved = 0.0
    for name, data in want.items():
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], data, atol=1e-4, err_msg=name)
        moved = max(moved, float(abs(data - start[name]).max()) if name in start and start[name].shape == data.shape else 0)
    assert moved > 0.01, "nothing was trained"


def test_three_processes_and_batches_smaller_than_that(tmp_path):
    done = processes(tmp_path, "tiny", count=3)
    assert [p.returncode for p in done] == [0, 0, 0], "".join(p.stdout for p in done)
    module = net().module()
    fit(module, context(5), epochs=4, lr=0.01, batch=3)
    got, want = saved(tmp_path, "tiny", 2), weights(module.write_back())
    for name in set(want) - {"n.var"}:  # the running variance counts the samples of a batch that all have as more
        np.testing.assert_allclose(got[name], want[name], atol=1e-4, err_msg=name)


def test_what_only_one_process_did_is_noticed(tmp_path):
    for p in processes(tmp_path, "apart"):
        assert p.returncode == 3 and "different values of 'fc.bias'" in p.stdout, p.stdout


def test_a_process_that_dies_ends_the_others(tmp_path):
    first, second = processes(tmp_path, "dies")
    assert second.returncode == 9 and first.returncode == 3
    assert "lost each other" in first.stdout and "Traceback" not in first.stdout


def test_alone_all_is_plain():
    ranks.start()
    assert (ranks.count(), ranks.rank(), ranks.first()) == (1, 0, True)
    assert ranks.told(lambda a: a + 1, 2) == 3 and ranks.gathered("x") == ["x"] and ranks.in_turn(lambda: 5) == 5
    assert int(ranks.add(torch.tensor(4))) == 4
    ranks.stop()


def test_parts_of_a_batch_are_the_batch():
    d = data()
    whole = [b["x"] for b, _ in d.batches("train", 10, 3)]
    parts = [[b["x"] for b, _ in d.batches("train", 10, 3, part=(i, 4))] for i in range(4)]
    for k, batch in enumerate(whole):
        for i in range(4):
            torch.testing.assert_close(parts[i][k], batch[i::4])


# --- one process ---------------------------------------------------------------------------------------------------


def _told() -> None:
    """What the first process says holds for all."""
    assert ranks.count() == 2
    assert ranks.told(lambda: f"from {ranks.rank()}") == "from 0"
    assert ranks.gathered(ranks.rank()) == [0, 1]
    assert ranks.in_turn(lambda: ranks.rank()) == ranks.rank()

    def wrong():
        raise UserError("bad")
    with pytest.raises(UserError, match="bad"):
        ranks.told(wrong)


def _work(case: str, folder: Path) -> None:
    ctx = context(5 if case == "tiny" else SAMPLES)
    if case == "told":
        return _told()
    if case == "dies":
        def last(step, steps, module):
            if ranks.rank() == 1 and step == 1:
                os._exit(9)
        fit(net().module(), ctx, epochs=2, on_step=last)
    if case == "apart":
        def wander(step, steps, module):
            if ranks.rank() == 1:
                with torch.no_grad():
                    dict(module.named_parameters())["fc.bias"].add_(1)
        fit(net().module(), ctx, epochs=1, on_step=wander)
    if case == "tiny":
        module = net().module()
        fit(module, ctx, epochs=4, lr=0.01, batch=3)
        graph = module.write_back()
    else:
        graph = CASES[case]().run(net(), ctx)
    np.savez(folder / f"{case}{ranks.rank()}.npz", **weights(graph))
    return None


if __name__ == "__main__":
    torch.set_num_threads(1)
    ranks.start()
    try:
        for name in sys.argv[2:]:
            _work(name, Path(sys.argv[1]))
    except PassFailed as e:
        print(e)
        sys.exit(3)
    ranks.stop()
