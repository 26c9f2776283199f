"""Options checked against type hints: those of a pass are its dataclass fields, those of a data source its arguments.

A value fits, and is converted (int to float, "on" to True where only true or false is taken), or a Problem says what
was expected. Nothing is guessed: "0.5" in quotes is not a number.
"""
from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from typing import Any, Literal, Union

from .tree import near

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a mapping", list: "a list",
          tuple: "a list", type(None): "null"}
MISSING = dataclasses.MISSING
_SWITCH = {"on": True, "yes": True, "off": False, "no": False}


class Problem(ValueError):
    """What is wrong with a value; `path` leads from the option to the part that does not fit."""

    def __init__(self, text: str, path: tuple = ()):
        super().__init__(text)
        self.path = path


def fields_of(cls) -> dict[str, tuple[Any, Any]]:
    """name -> (hint, default) of a dataclass; default is dataclasses.MISSING when the option must be given."""
    hints = typing.get_type_hints(cls)
    return {f.name: (hints[f.name], f.default if f.default is not dataclasses.MISSING else
                     f.default_factory() if f.default_factory is not dataclasses.MISSING else dataclasses.MISSING)
            for f in dataclasses.fields(cls) if f.init}


def arguments_of(function) -> tuple[dict[str, tuple[Any, Any]], bool]:
    """The same for a function's arguments, and whether it takes others too (**kwargs)."""
    hints, made, free = typing.get_type_hints(function), {}, False
    for name, p in inspect.signature(function).parameters.items():
        if p.kind is p.VAR_KEYWORD:
            free = True
        elif p.kind is not p.VAR_POSITIONAL:
            made[name] = (hints.get(name, Any), dataclasses.MISSING if p.default is p.empty else p.default)
    return made, free


def words(hint) -> str:
    """What a hint accepts, for people."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return "anything"
    if origin is Literal:
        return "one of " + ", ".join(_show(a) for a in args)
    if origin in (Union, types.UnionType):
        return " or ".join(words(a) for a in args)
    if origin in (list, tuple):
        inner = [a for a in args if a is not Ellipsis]
        return f"a list of {words(inner[0])} each" if len(set(inner)) == 1 and inner[0] not in (Any,) else "a list"
    if origin is dict:
        return "a mapping"
    if dataclasses.is_dataclass(hint):
        return "a mapping with " + ", ".join(fields_of(hint))
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def fit(value: Any, hint: Any) -> Any:
    """`value` as `hint` wants it. Raises Problem."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        for a in args:
            if value == a and type(value) is type(a):
                return a
        if isinstance(value, bool) and ("on" if value else "off") in args:
            return "on" if value else "off"
        raise Problem(f"must be {words(hint)}, not {_show(value)}{near(value, args) if isinstance(value, str) else ''}")
    if origin in (Union, types.UnionType):
        return _union(value, hint, args)
    if origin in (list, tuple) or hint in (list, tuple):
        return _sequence(value, hint, origin or hint, args)
    if origin is dict or hint is dict:
        if not isinstance(value, dict):
            raise Problem(f"must be {words(hint)}, not {_show(value)}")
        return {k: _inner(v, args[1] if args else Any, k) for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise Problem(f"must be {words(hint)}, not {_show(value)}")
        known = fields_of(hint)
        for k in value:
            if k not in known:
                raise Problem(f"unknown option {k!r}{near(k, known) or '; it takes ' + ', '.join(known)}", (k,))
        make: Any = hint
        return make(**{k: _inner(v, known[k][0], k) for k, v in value.items()})
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is bool and isinstance(value, str) and value.lower() in _SWITCH:
        return _SWITCH[value.lower()]
    if hint in _WORDS and type(value) is hint:
        return value
    raise Problem(f"must be {words(hint)}, not {_show(value)}")


def _union(value, hint, args):
    told = None
    for exact in (True, False):  # 1 stays an int where int and float are both taken
        for a in args:
            if exact and type(value) is not a:
                continue
            try:
                return fit(value, a)
            except Problem as e:
                deep = typing.get_origin(a) or a
                if e.path or (isinstance(deep, type) and isinstance(value, deep)):
                    told = e
    raise told or Problem(f"must be {words(hint)}, not {_show(value)}"
                          f"{near(value, [x for a in args if typing.get_origin(a) is Literal for x in typing.get_args(a)])}")


def _sequence(value, hint, kind, args):
    if not isinstance(value, (list, tuple)):
        raise Problem(f"must be {words(hint)}, not {_show(value)}")
    if kind is tuple and args and args[-1] is not Ellipsis and len(args) != len(value):
        raise Problem(f"must be a list of {len(args)}, not of {len(value)}")
    each = list(args) if kind is tuple and args and args[-1] is not Ellipsis else [args[0] if args else Any] * len(value)
    return kind(_inner(v, a, i) for i, (v, a) in enumerate(zip(value, each)))


def _inner(value, hint, step):
    try:
        return fit(value, hint)
    except Problem as e:
        raise Problem(str(e), (step, *e.path)) from None


def _show(value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def json_schema(hint) -> dict:
    """The hint as JSON Schema."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [json_schema(a) for a in args]}
    if origin in (list, tuple) or hint in (list, tuple):
        inner = [a for a in args if a is not Ellipsis]
        return {"type": "array", **({"items": json_schema(inner[0])} if len(set(inner)) == 1 else {})}
    if origin is dict or hint is dict:
        return {"type": "object", **({"additionalProperties": json_schema(args[1])} if args else {})}
    if dataclasses.is_dataclass(hint):
        return object_schema(fields_of(hint))
    return {"type": {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}[hint]}


def object_schema(known: dict[str, tuple[Any, Any]], about: dict[str, str] | None = None, free: bool = False) -> dict:
    """A mapping with these options as JSON Schema; `about` describes them."""
    made = {}
    for name, (hint, default) in known.items():
        made[name] = json_schema(hint)
        if about and name in about:
            made[name]["description"] = about[name]
        if default is not dataclasses.MISSING and default is not None:
            made[name]["default"] = list(default) if isinstance(default, tuple) else default
    needed = [k for k, (_, default) in known.items() if default is dataclasses.MISSING]
    return {"type": "object", "properties": made, "additionalProperties": free, **({"required": needed} if needed else {})}
