"""The model and the data that a recipe names, loaded and checked against each other before anything long begins.

All mistakes are collected with their places in the recipe: a missing file, a factory that cannot be imported, a
checkpoint that does not fit, data of another shape, a layer pattern that matches nothing.
"""
from __future__ import annotations

import contextlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from .base import WEIGHTED, layer_name, select
from .errors import UserError
from .graph import Graph
from .recipe import Recipe, Step, look_beside, near

PATTERNS = ("layers", "skip", "overrides")  # the options of passes that hold patterns of layers


@dataclass
class Prepared:
    """graph: the model, with the checkpoint's weights where there is one; data: None when the recipe has none.
    missing: where to save the checkpoint that `train:` must make first, None when nothing is missing."""

    graph: Graph
    data: Any
    train: bool = False
    missing: Path | None = None


def prepare(recipe: Recipe) -> Prepared:
    """Raises UserError with all that is wrong."""
    problems: list[str] = []
    made: Prepared | None = None
    try:
        made = load_model(recipe)
    except UserError as e:
        problems += e.problems
    data = None
    if recipe.data is not None:
        try:
            data = _data(recipe, None if made is None else made.graph)
        except UserError as e:
            problems += e.problems
    if made is not None:
        changed = False
        for step in recipe.steps:
            if not changed:
                problems += unmatched(step, made.graph)
            changed |= step.name.startswith("structure.")
    if problems or made is None:
        raise UserError(*problems)
    made.data = data
    return made


def load_model(recipe: Recipe) -> Prepared:
    """The model, without the data."""
    from . import load
    model = recipe.model
    for kind in ("onnx", "pt2"):
        named = getattr(model, kind)
        if named:
            place = recipe.place("model", kind)
            path = recipe.find(named)
            if path is None:
                raise UserError(f"{place}: model: {_no_file(recipe, named)}")
            try:
                return Prepared(load(path, bind=model.bind, batch=model.batch), None)
            except UserError as e:
                raise UserError(*(f"{place}: model: {p}" for p in e.problems)) from None
    module, missing = _module(recipe)
    return Prepared(import_module_graph(recipe, module), None, recipe.train is not None and (
        missing is not None or not model.checkpoint), missing)


def _no_file(recipe: Recipe, named: str) -> str:
    folder = Path(recipe.path).parent
    beside = [p.name for f in {Path(named).parent, folder / Path(named).parent} if f.is_dir() for p in f.iterdir()]
    return (f"no such file {named!r} (looked in the current folder{'' if str(folder) == '.' else f' and in {folder}'})"
            f"{near(Path(named).name, beside)}")


def _module(recipe: Recipe):
    """The factory's module with its checkpoint, and the path of the checkpoint when `train:` must make it."""
    import torch
    model, place = recipe.model, recipe.place("model", "factory")
    function = _factory(recipe)
    torch.manual_seed(recipe.seed)
    try:
        module = function(**model.args)
    except UserError as e:
        raise UserError(*(f"{place}: model: {p}" for p in e.problems)) from None
    except TypeError as e:
        raise UserError(f"{recipe.place('model', 'args')}: model: {model.factory} does not take these args: {e}") from None
    except Exception as e:  # noqa: BLE001 whatever the user's code or file raises
        raise UserError(f"{place}: model: {model.factory} raised {type(e).__name__}: {_line(e)}") from None
    if not isinstance(module, torch.nn.Module):
        raise UserError(f"{place}: model: {model.factory} must return a torch.nn.Module, it returned {type(module).__name__}")
    if not model.checkpoint:
        return module.eval(), None
    place = recipe.place("model", "checkpoint")
    path = recipe.find(model.checkpoint)
    if path is None:
        kept = recipe.output / "cache" / Path(model.checkpoint).name
        if recipe.train is None:
            raise UserError(f"{place}: model: {_no_file(recipe, model.checkpoint)}; "
                            "give a file that is there, or `train:` to make it first")
        if not kept.is_file():
            return module.eval(), Path(model.checkpoint)
        path = kept
    try:
        _load_state(module, path)
    except UserError as e:
        raise UserError(*(f"{place}: model: {path}: {p}" for p in e.problems)) from None
    return module.eval(), None


def _factory(recipe: Recipe):
    place, name = recipe.place("model", "factory"), recipe.model.factory or ""
    look_beside(Path(recipe.path).parent)
    where, _, function = name.partition(":")
    try:
        module = import_module(where)
    except ModuleNotFoundError as e:
        missing = e.name or where
        hint = f"{where} needs it"
        if where.startswith(missing):
            hint = "it is looked for among installed packages, in the current folder and beside the recipe"
        raise UserError(f"{place}: model: cannot import {name}: no module named {missing!r}; {hint}") from None
    except Exception as e:  # noqa: BLE001 whatever the user's code or file raises
        raise UserError(f"{place}: model: importing {where} raised {type(e).__name__}: {_line(e)}") from None
    if not callable(getattr(module, function, None)):
        callables = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise UserError(f"{place}: model: {where} ({module.__file__}) has no function {function!r}{near(function, callables)}")
    return getattr(module, function)


def _load_state(module, path: Path) -> None:
    """Read a state_dict without running anything in the file, and load it. Raises UserError."""
    import torch
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file
        try:
            state: Any = load_file(path)
        except Exception as e:  # noqa: BLE001 whatever the user's code or file raises
            raise UserError(f"not a safetensors file: {_line(e)}") from None
    else:
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as e:  # noqa: BLE001 whatever the user's code or file raises
            raise UserError(f"cannot be read as a state_dict with weights_only ({_line(e)}); save one with "
                            "torch.save(model.state_dict(), path) or as .safetensors") from None
    while isinstance(state, dict) and not any(isinstance(v, torch.Tensor) for v in state.values()):
        inner = next((state[k] for k in ("state_dict", "model_state_dict", "model", "net") if k in state), None)
        if inner is None:
            break
        state = inner
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError("holds no state_dict (a mapping of names to tensors)")
    want = module.state_dict()
    if all(k.startswith("module.") for k in state) and not all(k.startswith("module.") for k in want):
        state = {k.removeprefix("module."): v for k, v in state.items()}
    problems = []
    missing = [k for k in want if k not in state and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in want]
    if missing:
        problems.append(f"has no {_some(missing)}{near(missing[0], extra)}")
    if extra:
        problems.append(f"has {_some(extra)}, which the model has not")
    other = [k for k in want if k in state and tuple(state[k].shape) != tuple(want[k].shape)]
    problems += [f"{k} is {list(state[k].shape)}, the model's {list(want[k].shape)}" for k in other[:3]]
    if problems:
        raise UserError(*problems)
    module.load_state_dict(state, strict=False)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def import_module_graph(recipe: Recipe, module) -> Graph:
    """The torch module as a Graph, with the recipe's input shapes."""
    import torch

    from .onnx_io import from_torch
    model = recipe.model
    tensors = {"x": model.input} if model.input else model.inputs
    dynamic, examples = {}, []
    for name, t in tensors.items():
        dynamic[name] = {i: d for i, d in enumerate(t.shape) if isinstance(d, str) and d not in model.bind}
        shape = [d if isinstance(d, int) else model.bind.get(d, 2 if i == 0 else 32) for i, d in enumerate(t.shape)]
        dtype = getattr(torch, t.dtype)
        examples.append(torch.zeros(shape, dtype=dtype) if not dtype.is_floating_point else torch.randn(shape).to(dtype))
    place = recipe.place("model", "input" if model.input else "inputs")
    try:
        with torch.random.fork_rng(devices=[]):
            return from_torch(module, tuple(examples), dynamic={k: v for k, v in dynamic.items() if v} or None,
                              input_names=list(tensors), output_names=model.outputs or None, bind=model.bind)
    except UserError as e:
        raise UserError(*(f"{place}: model: {p}" for p in e.problems)) from None


def save_checkpoint(recipe: Recipe, graph: Graph, path: Path) -> Path | None:
    """Save trained weights under the module's own names: where the recipe says, in the output folder where that cannot
    be written. None when the graph does not hold all of them under their names (then the cache keeps the graph)."""
    import numpy as np
    import torch

    from .cache import write_atomic
    module, _ = _module(recipe)
    held = {v.name: v.data for v in graph.constants()}
    state = {}
    for name, old in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = old
        elif name in held and tuple(held[name].shape) == tuple(old.shape):
            state[name] = torch.from_numpy(np.ascontiguousarray(held[name])).to(old.dtype)
        else:
            return None
    if path.suffix == ".safetensors":
        from safetensors.torch import save
        blob = save(state)
    else:
        import io
        buffer = io.BytesIO()
        torch.save(state, buffer)
        blob = buffer.getvalue()
    for to in (path, recipe.output / "cache" / path.name):
        with contextlib.suppress(OSError):
            write_atomic(to, blob)
            return to
    return None


def _data(recipe: Recipe, graph: Graph | None):
    from .data import open_data
    try:
        data = open_data(recipe.data, recipe.seed, None if graph is None else [v.name for v in graph.inputs])
        if graph is not None:
            _fits(data, graph)
        if recipe.metric is not None:
            from .metrics import find
            if find(recipe.metric).needs == "labels" and not data.labelled("test"):
                raise UserError(f"metric {recipe.metric} needs labels, and the test data has none; "
                                "agreement, cosine and snr compare with the original instead")
        return data
    except UserError as e:
        raise UserError(*(f"{_blame(recipe, p)}: data: {p.removeprefix('data: ')}" for p in e.problems)) from None


def _blame(recipe: Recipe, problem: str) -> str:
    """The place of the option whose value the problem names, else of `data:`."""
    from .recipe.tree import at
    item = recipe.tree.value["data"]
    if isinstance(item.value, dict):
        for key, inner in item.value.items():
            if isinstance(inner.value, str) and key != "source" and inner.value in problem:
                return inner.place
    return at(recipe.tree, ("data",), key=True)


def _fits(data, graph: Graph) -> None:
    inputs, _ = next(iter(data.batches("test", 1)))
    for v in graph.inputs:
        got = inputs[v.name]
        dtype = str(got.dtype).removeprefix("torch.")
        want = list(v.shape or ())
        bad = len(want) != got.ndim or any(isinstance(d, int) and i and d != got.shape[i] for i, d in enumerate(want))
        if bad:
            raise UserError(f"gives {v.name} as {['N', *got.shape[1:]]}, the model takes {want}".replace("'", ""))
        if v.dtype not in (dtype, "bfloat16"):
            raise UserError(f"gives {v.name} as {dtype}, the model takes {v.dtype}")


def unmatched(step: Step, graph: Graph) -> list[str]:
    """A line for every pattern of the step that matches no layer of the graph, and one when the pass would do nothing."""
    problems = []
    names = list(dict.fromkeys(layer_name(n) for n in graph.nodes if n.op in WEIGHTED))
    given = step.item.value or {}
    for option in PATTERNS:
        if option not in given or not hasattr(step.action, option):
            continue
        item, value = given[option], getattr(step.action, option)
        for i, pattern in enumerate([value] if isinstance(value, str) else list(value)):
            if not select(graph.nodes, pattern):
                inner = item.value[pattern].key if isinstance(item.value, dict) else \
                    item.value[i].place if isinstance(item.value, list) else item.place
                shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
                hint = near(pattern.strip("*"), names) or (f"; the layers are {shown}" if names else "")
                problems.append(f"{inner}: {step.name}: {option}: {pattern!r} matches no layer{hint}")
    if not problems and not step.action.matches(graph):
        problems.append(f"{step.item.key}: {step.name}: no layer of this model is one it can work on, with these options")
    return problems


def _line(e: BaseException) -> str:
    text = " ".join(str(e).split())
    return text if len(text) <= 300 else text[:297] + "..."
