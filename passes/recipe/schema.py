"""The recipe as JSON Schema (draft 2020-12), with the options of every pass and source: `mcc schema` for editors."""
from __future__ import annotations

import inspect
import re

from .model import Schema
from .options import arguments_of, fields_of, object_schema


def schema() -> dict:
    """Point a YAML editor at it: `# yaml-language-server: $schema=mcc-recipe.json`."""
    from .. import PASSES, find
    from ..data import SOURCES, _function
    from ..metrics import METRICS
    from ..train import LOSSES, Training
    from . import _COMMON

    made = Schema.model_json_schema(ref_template="#/$defs/{model}")
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "mcc-recipe.json", **made, "title": "mcc recipe"}
    props, defs = made["properties"], made["$defs"]
    for name in PASSES:
        cls = find(name)
        entry = object_schema(fields_of(cls), option_docs(cls))
        entry["description"] = summary(cls)
        defs[name] = {"anyOf": [entry, {"type": "null"}]}
    props["passes"] = {"type": "array", "items": {"anyOf": [{"enum": list(PASSES)}, {
        "type": "object", "properties": {n: {"$ref": f"#/$defs/{n}"} for n in PASSES},
        "additionalProperties": False, "minProperties": 1, "maxProperties": 1}]}}
    sources = []
    for name in SOURCES:
        known, free = arguments_of(_function(name))
        entry = object_schema({**known, **_COMMON}, free=free)
        entry["properties"] = {"source": {"const": name}, **entry["properties"]}
        entry["required"] = ["source", *entry.get("required", [])]
        entry["description"] = (inspect.getdoc(_function(name)) or "").split("\n\n")[0]
        sources.append(entry)
    own = {"type": "object", "properties": {"source": {"type": "string", "pattern": ":"}}, "required": ["source"]}
    props["data"] = {"anyOf": [{"type": "string"}, *sources, own]}
    props["model"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Model"}]}
    props["train"] = object_schema(fields_of(Training), option_docs(Training))
    props["metric"] = {"enum": list(METRICS)}
    props["loss"] = {"enum": list(LOSSES)}
    props["expect"] = {"type": "object", "additionalProperties": {"type": "string", "pattern": r"^\s*(<=|>=|==|<|>)"}}
    props["extends"] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    made["required"] = []  # `extends` may bring any of them
    return made


def summary(cls) -> str:
    """What a pass does: the first sentence of its module."""
    import sys
    text = inspect.getdoc(sys.modules[cls.__module__]) or inspect.getdoc(cls) or ""
    return " ".join(text.split("\n\n")[0].split())


def option_docs(cls) -> dict[str, str]:
    """What the class docstring says about each option: lines of `name, name   text`, with their continuations."""
    known = fields_of(cls)
    docs: dict[str, str] = {}
    open_names: list[str] = []
    for line in (inspect.getdoc(cls) or "").splitlines():
        m = re.match(r"([a-z_]+(?:, [a-z_]+)*)  +(\S.*)$", line)
        if m and all(n in known for n in m[1].split(", ")):
            open_names = m[1].split(", ")
            docs.update({n: m[2] for n in open_names})
        elif line.startswith(" ") and open_names:
            docs.update({n: f"{docs[n]} {line.strip()}" for n in open_names})
        else:
            open_names = []
    return docs
