"""The one training loop, shared by every pass that trains.

A pass trains a Graph through its module (`graph.module()`), so what is differentiated is what is lowered, and what
earlier passes made stays made: zeros of sparse weights stay zero, codebook weights move with their palette and hashed ones with
their buckets, frozen
values do not move. Runs are deterministic for a seed.

Several processes (see `ranks`) share every batch: each computes its rows, and gradients are added up so that all take
the step that one process would have taken. Only dropout draws other numbers then.
"""
from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from . import ranks
from .base import Context
from .errors import PassFailed, UserError
from .graph import Graph

LossFn = Callable[[list[torch.Tensor], Any, dict], torch.Tensor]  # outputs, labels, inputs -> scalar

# Named losses: (first output, labels) -> scalar. `smooth` is label smoothing, which only classification has.
LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "cross_entropy": lambda y, t, smooth: F.cross_entropy(
        y if y.ndim == 2 or t.ndim == y.ndim else y.movedim(-1, 1), t if t.is_floating_point() else t.long(),
        label_smoothing=smooth),
    "mse": lambda y, t, smooth: F.mse_loss(y, t.to(y.dtype).reshape(y.shape)),
    "l1": lambda y, t, smooth: F.l1_loss(y, t.to(y.dtype).reshape(y.shape)),
    "huber": lambda y, t, smooth: F.huber_loss(y, t.to(y.dtype).reshape(y.shape)),
    "bce": lambda y, t, smooth: F.binary_cross_entropy_with_logits(y, t.to(y.dtype).reshape(y.shape)),
}


@dataclass(frozen=True)
class Training:
    """How to train. The recipe's `train:` gives the defaults of all passes, a pass's own options win.

    lr             peak learning rate, reached after `warmup` (share of all steps), then by `schedule`
    clip           largest norm of the gradient (0: no limit)
    augment        light image augmentation: {"shift": pixels, "flip": true}; flips are left to right
    """

    epochs: float = 1
    lr: float = 1e-3
    batch: int = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.0
    weight_decay: float = 0.0
    momentum: float = 0.9
    clip: float = 1.0
    label_smoothing: float = 0.0
    augment: dict = field(default_factory=dict)

    @staticmethod
    def of(ctx: Context, **options) -> Training:
        """The recipe's training options with those of a pass on top (None: not given)."""
        known = {f.name for f in fields(Training)}
        return replace(Training(**{k: v for k, v in ctx.train.items() if k in known and v is not None}),
                       **{k: v for k, v in options.items() if v is not None})


def fit_graph(graph: Graph, ctx: Context, *, text: str = "train", loss: str | LossFn | None = None,
              on_step: Callable[[int, int, Any], None] | None = None, parameters: list | None = None, **options) -> Graph:
    """A trained copy of `graph`; options are those of `Training`. See `fit`."""
    module = graph.copy().module()
    fit(module, ctx, loss=loss, on_step=on_step, text=text, parameters=parameters, **options)
    return module.write_back()


def fit(module: torch.nn.Module, ctx: Context, *, loss: str | LossFn | None = None,
        on_step: Callable[[int, int, Any], None] | None = None, text: str = "train", seed: int | None = None,
        parameters: list | None = None, **options) -> dict:
    """Train `module` (a GraphModule) in place on ctx.data's "train" split.

    loss     a name of LOSSES or a function (outputs, labels, inputs) -> scalar; None: ctx.loss where there are
             labels, else the distance to the original model's outputs
    on_step  on_step(step, steps, module), called before each step (0-based): pruning schedules
    Returns {"steps", "loss_first", "loss_last"}. Raises PassFailed when the loss is not a number or explodes.
    """
    how = Training.of(ctx, **options)
    if ctx.data is None:
        raise UserError(f"{text}: training needs data; add `data:` to the recipe or set epochs: 0")
    seed = ctx.seed if seed is None else seed
    loss_fn = loss if callable(loss) else task_loss(ctx, loss, how.label_smoothing)
    per_epoch = steps_of(ctx.data, "train", how.batch)
    steps = max(1, round(how.epochs * per_epoch))
    params = [p for p in (module.parameters() if parameters is None else parameters) if p.requires_grad]
    if not params:
        raise UserError(f"{text}: nothing to train: every weight is frozen or quantized; move training passes before them")
    optimizer = _optimizer(params, how)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: _rate(i, steps, how))
    first, recent, step = None, None, 0
    _agree(module, text, "before the first step")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1_000_003 * ranks.rank())
        rng = torch.Generator().manual_seed(seed)
        module.train()
        for inputs, labels, rows in _batches(ctx.data, how.batch, seed, steps):
            if on_step is not None:
                on_step(step, steps, module)
            inputs = _augment(inputs, how.augment, rng, rows)
            value = loss_fn(outputs_of(module, inputs), labels, inputs) * _share(inputs, rows)
            optimizer.zero_grad(set_to_none=True)
            ranks.together(value.backward)
            number = _average(params, value.detach())
            if first is None:
                first = number
            recent = number if recent is None else 0.9 * recent + 0.1 * number
            if not math.isfinite(number) or recent > 1e3 * (abs(first) + 1.0):
                raise PassFailed(f"{text}: the loss became {number:.4g} at step {step + 1} of {steps} (it began at {first:.4g}); "
                                 f"lower lr (now {how.lr:g}, try {how.lr / 10:g}) or clip (now {how.clip:g})")
            if how.clip:
                torch.nn.utils.clip_grad_norm_(params, how.clip)
            optimizer.step()
            scheduler.step()
            step += 1
            if step % per_epoch == 0 or step == steps:
                _agree(module, text, f"after step {step} of {steps}")
            ctx.progress(step, steps, f"{text}: loss {recent:.4f}")
        module.eval()
    if step == 0:
        raise UserError(f"{text}: the training data is empty")
    return {"steps": step, "loss_first": first, "loss_last": recent}


def task_loss(ctx: Context, name: str | None = None, smooth: float = 0.0) -> LossFn:
    """The loss of the task: by name against the labels; data without labels follows the original model instead."""
    name = name or ctx.loss
    if name not in LOSSES:
        raise UserError(f"unknown loss {name!r}; it takes {', '.join(LOSSES)}")
    teacher: list = []

    def loss(outputs, labels, inputs):
        if labels is not None:
            return LOSSES[name](outputs[0], labels, smooth)
        if not teacher:
            teacher.append(follow(ctx.original, "kl" if name == "cross_entropy" else "mse"))
        return teacher[0](outputs, labels, inputs)
    return loss


def follow(teacher: Graph, kind: str = "kl", temperature: float = 1.0, output: int = 0, mine: int = 0) -> LossFn:
    """Distance of output number `mine` to a teacher's output: T^2-scaled KL of softmaxed logits (arXiv 1503.02531) or
    mean squared error."""
    module = teacher.module().eval()

    def loss(outputs, labels, inputs):
        with torch.no_grad():
            want = outputs_of(module, inputs)[output]
        return soft_loss(outputs[mine], want, kind, temperature)
    return loss


def soft_loss(got: torch.Tensor, want: torch.Tensor, kind: str = "kl", temperature: float = 1.0) -> torch.Tensor:
    """KL (times temperature squared, so that its gradient keeps its size) over the last axis, or MSE. Shapes agree."""
    if kind == "mse":
        return F.mse_loss(got, want)
    got, want = (F.log_softmax(v.flatten(0, -2) / temperature, -1) for v in (got, want))
    return F.kl_div(got, want, reduction="batchmean", log_target=True) * temperature ** 2


def outputs_of(module: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The outputs of a GraphModule as a list, whatever their number."""
    out = module(inputs)
    return list(out) if isinstance(out, (tuple, list)) else [out]


def evaluate(model: Graph | torch.nn.Module, data, metric: str = "accuracy", *, split: str = "test", batch: int = 256,
             limit: int | None = None, original: Graph | None = None) -> float:
    """A metric (see `metrics`) of a model over a split; `original` is the reference that some metrics compare with."""
    from .metrics import find

    row = find(metric)
    module = model.module() if isinstance(model, Graph) else model
    reference = original.module().eval() if original is not None else None
    was = module.training
    module.eval()
    scores = []
    with torch.no_grad():
        for inputs, labels in data.batches(split, batch, None, limit):
            want = None if reference is None else outputs_of(reference, inputs)
            scores.append(row.scores(outputs_of(module, inputs), labels, want))
    module.train(was)
    if not scores:
        raise UserError(f"the {split} split is empty")
    return row.value(np.concatenate(scores))


def steps_of(data, split: str, batch: int) -> int:
    """Batches in one round over a split."""
    return max(1, math.ceil(data.size(split) / batch))


def _batches(data, batch: int, seed: int, steps: int):
    """`steps` batches, in a new order each round, and how many samples each has: this process's rows of it are yielded."""
    done, epoch = 0, 0
    part = {"part": (ranks.rank(), ranks.count())} if ranks.count() > 1 else {}
    while done < steps:
        at = done
        for inputs, labels in data.batches("train", batch, seed + epoch, **part):
            if done == steps:
                return
            rows = min(batch, data.size("train") - (done - at) * batch) if part else len(next(iter(inputs.values())))
            done += 1
            yield inputs, labels, rows
        if done == at:
            return
        epoch += 1


def _rate(i: int, steps: int, how: Training) -> float:
    """Share of the peak learning rate at step i."""
    warm = how.warmup * steps
    if i < warm:
        return (i + 1) / (warm + 1)
    t = (i - warm) / max(1.0, steps - warm)
    return {"cosine": 0.5 * (1 + math.cos(math.pi * min(t, 1.0))), "linear": max(0.0, 1 - t), "constant": 1.0}[how.schedule]


def _optimizer(params: list, how: Training) -> torch.optim.Optimizer:
    """Weight decay is for matrices: biases, norms and palettes have one axis."""
    groups = [{"params": [p for p in params if p.ndim > 1], "weight_decay": how.weight_decay},
              {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0}]
    groups = [g for g in groups if g["params"]]
    if how.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=how.lr, momentum=how.momentum, nesterov=how.momentum > 0)
    return torch.optim.AdamW(groups, lr=how.lr)


def _share(inputs: dict, rows: int) -> float:
    """The weight of this process's mean loss, so that the mean over the processes is that over all rows of the batch. A batch
    with fewer rows than there are processes is computed whole by each."""
    mine = len(next(iter(inputs.values())))
    return 1.0 if mine == rows else mine * ranks.count() / rows


def _average(params: list, value: torch.Tensor) -> float:
    """Gradients become their means over the processes; returns the mean loss. One sum for all: the loss, whether each
    parameter has a gradient anywhere, the gradients."""
    if ranks.count() == 1:
        return float(value)
    has = value.new_tensor([float(p.grad is not None) for p in params])
    flat = ranks.add(torch.cat([value.reshape(1), has, *(_flat(p, value.dtype) for p in params)]))
    at = 1 + len(params)
    for p, anywhere in zip(params, flat[1:at]):
        p.grad = (flat[at:at + p.numel()] / ranks.count()).reshape(p.shape).to(p.dtype) if anywhere else None
        at += p.numel()
    return float(flat[0]) / ranks.count()


def _flat(p: torch.nn.Parameter, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(p.numel(), dtype=dtype) if p.grad is None else p.grad.reshape(-1).to(dtype)


def _agree(module: torch.nn.Module, text: str, when: str) -> None:
    """Every process has the same weights, bit for bit; PassFailed when not, since what they train is then no model at all."""
    if ranks.count() == 1:
        return
    state = {k: hashlib.blake2b(v.detach().reshape(-1).contiguous().view(torch.uint8).numpy(), digest_size=8).digest()
             for k, v in module.state_dict().items()}
    others = ranks.gathered(state)
    for k in state:
        if any(o[k] != others[0][k] for o in others):
            raise PassFailed(f"{text}: the processes have different values of '{k}' {when}: a loss or schedule of this pass "
                             "looks at the rows of one process only; run the recipe without --nproc")


def _augment(inputs: dict, how: dict, rng: torch.Generator, rows: int) -> dict:
    """Random shifts (edge pixels repeated) and left-right flips of every NCHW float input. Every process draws for all `rows`
    of the batch and uses those of its own."""
    shift, flip = int(how.get("shift", 0)), bool(how.get("flip", False))
    if not shift and not flip:
        return inputs
    out = {}
    for name, x in inputs.items():
        if x.ndim == 4 and x.is_floating_point():
            if flip:
                chosen = _mine(torch.rand(rows, generator=rng) < 0.5, len(x))
                x = torch.where(chosen[:, None, None, None], x.flip(-1), x)
            if shift:
                x = _shift(x, shift, rng, rows)
        out[name] = x
    return out


def _mine(drawn: torch.Tensor, rows: int) -> torch.Tensor:
    return drawn if len(drawn) == rows else drawn[ranks.rank()::ranks.count()]


def _shift(x: torch.Tensor, shift: int, rng: torch.Generator, rows: int) -> torch.Tensor:
    n, _, h, w = x.shape
    padded = F.pad(x, (shift,) * 4, mode="replicate")
    dy, dx = (_mine(torch.randint(0, 2 * shift + 1, (rows, 1), generator=rng), n) for _ in range(2))
    down, cols = dy + torch.arange(h), dx + torch.arange(w)
    return padded[torch.arange(n)[:, None, None], :, down[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)
