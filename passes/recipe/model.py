"""The recipe's own keys as a pydantic schema, and pydantic's complaints in words of ours.

What stands inside of `passes:`, `data:` and `train:` is checked against the passes, sources and options themselves
(`options.py`); here they are only lists and mappings.
"""
from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from .options import _show
from .tree import Item, at, near, plain

DTYPES = ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
ARCHS = "host, x86-64, arm64 or arm64-CORE"


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


P = TypeVar("P", bound=Part)


class Tensor(Part):
    """An input of the model: its shape, with a name for each dimension that may vary (the first is the batch)."""

    shape: list[int | str]
    dtype: Literal["float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"] = "float32"


class Model(Part):
    """Where the network comes from: one of factory, onnx, pt2."""

    factory: str | None = Field(None, description="import path of a callable that returns a torch nn.Module, module:function")
    args: dict[str, Any] = Field({}, description="keyword arguments of the factory")
    checkpoint: str | None = Field(None, description="its weights: .pt (a state_dict, read with weights_only) or .safetensors")
    input: Tensor | None = Field(None, description="the only input, called x")
    inputs: dict[str, Tensor] = Field({}, description="the inputs by name, in the order of the factory's forward")
    outputs: list[str] = Field([], description="names for the outputs")
    onnx: str | None = Field(None, description="path of an .onnx file")
    pt2: str | None = Field(None, description="path of a .pt2 file of torch.export")
    bind: dict[str, int] = Field({}, description="sizes of symbolic dimensions, by name")
    batch: str | None = Field(None, description="for a file exported with batch 1: name its first dimension so")


class Target(Part):
    """What the file is made for and measured on."""

    arch: Annotated[str, StringConstraints(pattern=r"^(host|x86-64|arm64(-[\w.]+)?)$")] = "host"
    threads: int = Field(1, ge=1, le=64)
    precision: Literal["fp32", "fp16", "fp16-math", "bf16"] = Field("fp32", description="of what no pass has quantized")


class Schema(Part):
    """A recipe of mcc: a network, its data, the passes that compress it in their order, and what is expected of the result."""

    version: Literal[1] = 1
    name: str | None = None
    description: str | None = None
    model: Model
    data: dict[str, Any] | None = None
    metric: str | None = None
    loss: str | None = None
    train: dict[str, Any] | None = None
    passes: list[Any] = []
    target: Target = Target.model_validate({})
    on_no_gain: Literal["note", "rollback"] = Field("note", description="what becomes of a pass that paid in neither bytes nor "
                                                    "time, nor in the metric: it is only named, or it is undone")
    expect: dict[str, Any] = {}
    output: str | None = None
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _short(cls, raw):
        """`model: net.onnx` and `data: mnist` are short for mappings; a key left empty was not given."""
        if not isinstance(raw, dict):
            return raw
        raw = {k: v for k, v in raw.items() if v is not None}
        if isinstance(raw.get("model"), str):
            raw["model"] = {"pt2" if raw["model"].endswith(".pt2") else "onnx": raw["model"]}
        if isinstance(raw.get("data"), str):
            raw["data"] = {"source": raw["data"]}
        return raw


_WANT = {"string_type": "text", "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number",
         "bool_type": "true or false", "dict_type": "a mapping", "model_type": "a mapping",
         "model_attributes_type": "a mapping", "list_type": "a list"}


def checked(tree: Item, raw, problems: list[str]) -> Schema | None:
    """The recipe as a Schema; None when something does not fit, which `problems` then say with places."""
    return validated(tree, raw, problems, Schema, {("model",): Model, ("target",): Target}, Tensor, ("extends",))


def validated(tree: Item, raw, problems: list[str], schema: type[P], parts: dict[tuple, type[Part]],
              other: type[Part] = Part, more: tuple[str, ...] = ()) -> P | None:
    """The file as `schema`, or None and lines in `problems`. parts: what stands at a path within, `other` where none is named;
    more: keys of the file that are gone before it comes here."""
    try:
        return schema.model_validate(raw)
    except ValidationError as e:
        def keys(place: tuple) -> list[str]:
            return [*(more if place == () else ()), *(schema if place == () else parts.get(place, other)).model_fields]
        wants: dict[tuple, list[str]] = {}
        for error in e.errors():
            path = _existing(tree, error["loc"])
            text = _words(error, path, keys)
            if text.startswith("must be ") and error["type"] in _WANT:
                wants.setdefault(path, []).append(_WANT[error["type"]])
                continue
            problems.append(_line(tree, path, text, error))
        for path, want in wants.items():
            problems.append(_line(tree, path, f"must be {' or '.join(dict.fromkeys(want))}, not {_show(_value(tree, path))}"))
        return None


def _existing(tree: Item, loc) -> tuple:
    path: tuple = ()
    for step in loc:
        inner = tree.value
        if isinstance(inner, dict) and step in inner or isinstance(inner, list) and isinstance(step, int) and step < len(inner):
            tree, path = inner[step], (*path, step)
        else:
            break
    return path


def _value(tree: Item, path):
    for step in path:
        tree = tree.value[step]
    return plain(tree)


def _words(error: Any, path: tuple, keys) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        known = keys(path[:-1])
        return f"unknown key {path[-1]!r}{near(path[-1], known) or '; it takes ' + ', '.join(known)}"
    if kind == "missing":
        return f"{error['loc'][-1]!r} is missing"
    if kind == "literal_error":
        import re
        allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return f"must be one of {error['ctx']['expected'].replace(' or ', ', ')}, not {_show(error['input'])}" \
               f"{near(error['input'], allowed) if isinstance(error['input'], str) else ''}".replace("one of 1,", "1,")
    if kind == "string_pattern_mismatch":
        return f"must be {ARCHS}, not {_show(error['input'])}"
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"must be {error['msg'].removeprefix('Input should be ')}, not {_show(error['input'])}"
    return f"must be {_WANT.get(kind, error['msg'])}, not {_show(error['input'])}"


def _line(tree: Item, path: tuple, text: str, error: Any = None) -> str:
    named = error is not None and error["type"] == "extra_forbidden"
    where = at(tree, path, key=named)
    shown = path[:-1] if named else path
    return f"{where}: {'.'.join(map(str, shown))}{': ' if shown else ''}{text}"
