"""Several processes that run one recipe together: the only home of torch.distributed.

Every process runs the whole recipe. Training splits each batch among them and adds up the gradients; what is measured,
decided or written is done by the first process, and the others are told. One process needs none of this: every function
here then does the plain thing.

torchrun, or `mcc compress --nproc N`, starts the processes and tells each its number by the environment.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from .errors import PassFailed

FOREVER = timedelta(days=7)  # the first process may measure for hours; one that dies is noticed by its connection


def start() -> None:
    """Join the processes that the environment names; alone, nothing happens. (gloo: processors, no accelerators.)"""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        return
    import torch.distributed as dist
    if not dist.is_initialized():
        together(lambda: dist.init_process_group("gloo", timeout=FOREVER))


def stop() -> None:
    """Leave; the others need not have finished."""
    if count() > 1:
        import torch.distributed as dist
        dist.destroy_process_group()


def leave(code: int) -> None:
    """End this process, which has stopped and written all it had to. At once: threads that torch keeps from a group abort, now
    and then, a process that takes its time ("terminate called without an active exception")."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def count() -> int:
    dist = _group()
    return 1 if dist is None else dist.get_world_size()


def rank() -> int:
    dist = _group()
    return 0 if dist is None else dist.get_rank()


def first() -> bool:
    """Whether this process is the one that writes and prints."""
    return rank() == 0


def told(make: Callable, *given, **named) -> Any:
    """make(...) of the first process, in all of them; what it raises is raised in all of them."""
    if count() == 1:
        return make(*given, **named)
    box: list = [None]
    if first():
        try:
            box = [(make(*given, **named), None)]
        except Exception as e:
            _share([(None, e)])
            raise
    made, error = _share(box)[0]
    if error is not None:
        raise error
    return made


def in_turn(make: Callable[[], Any]) -> Any:
    """make() in every process, in the first one before the others: what it fetches, they find."""
    if count() == 1:
        return make()
    mine: list = []
    told(lambda: mine.append(make()))
    return mine[0] if mine else make()


def add(numbers):
    """The sum over the processes, in place of a tensor."""
    if count() > 1:
        import torch.distributed as dist
        together(lambda: dist.all_reduce(numbers))
    return numbers


def add_through(t):
    """As `add`, of a tensor that gradients go back through."""
    import torch.distributed.nn.functional as through
    return together(lambda: through.all_reduce(t))


def gathered(what: Any) -> list:
    """One object of every process, in their order."""
    if count() == 1:
        return [what]
    import torch.distributed as dist
    box: list = [None] * count()
    together(lambda: dist.all_gather_object(box, what))
    return box


def together(act: Callable) -> Any:
    """act(), in which processes wait for each other."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return act()
    try:
        return act()
    except (RuntimeError, ValueError) as e:
        raise PassFailed(f"the processes of this run lost each other: one ended, or cannot be reached "
                         f"({' '.join(str(e).split())[:200]})\nfinished passes are kept: the same command goes on from "
                         "them") from None


def _share(box: list) -> list:
    import torch.distributed as dist
    together(lambda: dist.broadcast_object_list(box, 0))
    return box


def _group():
    import torch.distributed as dist
    return dist if dist.is_available() and dist.is_initialized() else None
