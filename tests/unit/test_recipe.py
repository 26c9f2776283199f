"""Recipes: YAML as people write it, options against type hints, extends, --set, gates, the JSON Schema."""
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from mcc.passes import PASSES, recipe
from mcc.passes.errors import UserError
from mcc.passes.recipe.expect import rule
from mcc.passes.recipe.options import Problem, fields_of, fit, json_schema, object_schema, words
from mcc.passes.recipe.schema import option_docs, schema, summary
from mcc.passes.recipe.tree import at, parse, plain

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
MODEL = 'model: {factory: "m:f", input: {shape: [N, 4]}}\n'


def value(text):
    problems = []
    item = parse(f"k: {text}", "t", problems)
    assert not problems
    return plain(item)["k"]


@pytest.mark.parametrize(("text", "want"), [
    ("1e-3", 1e-3), ("1E3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-2", -2), ("+7", 7), ("1_000", 1000), ("0x1F", 31), ("0o17", 15),
    ("017", 17), ("on", "on"), ("off", "off"), ("yes", "yes"), ("No", "No"), ("true", True), ("False", False), ("~", None),
    ("", None),
    ("null", None), ("'1'", "1"), ('"true"', "true"), ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), (".inf", float("inf")),
    ("1.2.3", "1.2.3"), ("e5", "e5"), ("[1, [2], {a: b}]", [1, [2], {"a": "b"}]), ("1e", "1e"), (".", "."),
])
def test_scalars(text, want):
    got = value(text)
    assert got == want
    assert type(got) is type(want)


def test_keys_are_text_and_aliases_work():
    problems = []
    item = parse("on: 1\n2: &a {x: 1, y: 2}\nc: {<<: *a, y: 3}\nd: *a\n", "t", problems)
    assert not problems
    assert plain(item) == {"on": 1, "2": {"x": 1, "y": 2}, "c": {"x": 1, "y": 3}, "d": {"x": 1, "y": 2}}


@pytest.mark.parametrize(("text", "line"), [
    ("a: !!python/object/apply:os.system [ls]", "t:1:4: tags (!!python/object/apply:os.system) are not used in recipes"),
    ("a: !mine 3", "t:1:4: tags (!mine) are not used in recipes"),
    ("a: &x [1, *x]", "t:1:4: an alias inside of its own anchor"),
    ("? [a, b]\n: c", "t:1:3: a key must be a word, not a list or a mapping"),
    ("a: [1, 2", "t:1:9: not valid YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence)"),
    ("a: *b", "t:1:4: not valid YAML: found undefined alias 'b'"),
    ("a: 1\n---\nb: 2", "t:2:1: not valid YAML: but found another document (expected a single document in the stream)"),
    ("a:\t- 1", "t:1:3: a tab where YAML takes only spaces"),
    ("# nothing", "t:1:1: the recipe is empty; `mcc recipes ls` names some to start from"),
])
def test_yaml_mistakes(text, line):
    problems = []
    parse(text, "t", problems)
    assert problems == [line]


def test_aliases_of_aliases_end():
    text = "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    problems = []
    parse(text, "t", problems)
    assert any("too large for a recipe" in p for p in problems)


def test_variables(monkeypatch):
    monkeypatch.setenv("EPOCHS", "7")
    monkeypatch.delenv("NOWHERE", raising=False)
    assert value("${EPOCHS}") == 7
    assert value("'${EPOCHS}'") == "7"
    assert value("${NOWHERE:-2.5}") == 2.5
    assert value("a/${NOWHERE:-b}/c") == "a/b/c"
    assert value("$${EPOCHS}") == "${EPOCHS}"
    problems = []
    parse("k: ${NOWHERE}", "t", problems)
    assert problems == ["t:1:4: the environment has no NOWHERE; set it, or write ${NOWHERE:-default}"]


@dataclass
class Inner:
    bits: int = 8


@pytest.mark.parametrize(("hint", "given", "want"), [
    (float, 3, 3.0), (int, 3, 3), (bool, "on", True), (bool, "No", False), (str, "x", "x"),
    (str | list[str], ["a", "b"], ["a", "b"]),
    (Literal["a", "off"], "off", "off"), (Literal["on", "off"], True, "on"), (int | None, None, None), (int | float, 2, 2),
    (float | int, 2, 2), (tuple[int, int], [1, 2], (1, 2)), (tuple[str, ...], ["a"], ("a",)),
    (dict[str, dict], {"a": {}}, {"a": {}}),
    (dict[str, float], {"a": 1}, {"a": 1.0}), (Any, {"x": 1}, {"x": 1}), (Inner, {"bits": 4}, Inner(4)),
    (list, [1, "a"], [1, "a"]),
])
def test_fit(hint, given, want):
    got = fit(given, hint)
    assert got == want
    assert type(got) is type(want)


@pytest.mark.parametrize(("hint", "given", "line", "path"), [
    (float, "1", "must be a number, not '1'", ()), (int, 1.5, "must be a whole number, not 1.5", ()),
    (int, True, "must be a whole number, not true", ()), (float, True, "must be a number, not true", ()),
    (bool, 1, "must be true or false, not 1", ()), (str, None, "must be text, not null", ()),
    (Literal["cubic", "once"], "cubik", "must be one of 'cubic', 'once', not 'cubik'; did you mean 'cubic'?", ()),
    (Literal[1, 2], True, "must be one of 1, 2, not true", ()),
    (str | list[str], ["a", 3], "must be text, not 3", (1,)), (tuple[int, int], [1], "must be a list of 2, not of 1", ()),
    (dict[str, int], {"a": "b"}, "must be a whole number, not 'b'", ("a",)),
    (Inner, {"bit": 3}, "unknown option 'bit'; did you mean 'bits'?", ("bit",)),
    (int | None, "x", "must be a whole number or null, not 'x'", ()),
])
def test_misfit(hint, given, line, path):
    with pytest.raises(Problem) as e:
        fit(given, hint)
    assert (str(e.value), e.value.path) == (line, path)


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def test_extends_and_set(tmp_path):
    write(tmp_path, "base.yaml",
          MODEL + "seed: 1\nname: base\npasses:\n- prune.weights: {sparsity: 0.5, epochs: 2}\n- quantize.codebook: {bits: 4}\n")
    (tmp_path / "sub").mkdir()
    path = write(tmp_path, "sub/r.yaml", "extends: ../base.yaml\nname: mine\nmodel: {args: {a: 1}}\n")
    made = recipe.read(path, ["passes.0.prune.weights.sparsity=0.9", "passes.2={quantize.codebook: {bits: 2}}", "seed=5",
                              "passes.1.quantize.codebook.overrides.'fc.1'.bits=3", "model.bind.seq=8"],
                              ["passes.0.prune.weights.epochs"])
    assert (made.name, made.seed, made.model.factory, made.model.args, made.model.bind) == ("mine", 5, "m:f", {"a": 1},
                                                                                            {"seq": 8})
    assert [s.name for s in made.steps] == ["prune.weights", "quantize.codebook", "quantize.codebook"]
    assert (made.steps[0].action.sparsity, made.steps[0].action.epochs) == (0.9, 0)
    assert made.steps[1].action.overrides == {"fc.1": {"bits": 3}}
    assert made.overrides[0] == "--set passes.0.prune.weights.sparsity=0.9"
    assert made.overrides[-1] == "--unset passes.0.prune.weights.epochs"


@pytest.mark.parametrize(("sets", "unsets", "line"), [
    (["passes.7=1"], [], "--set passes.7=1: '7' is not an index of the list; it has 0 to 0"),
    (["seed"], [], "--set seed: write KEY=VALUE, for example --set passes.0.prune.weights.sparsity=0.9"),
    ([], ["sed"], "--unset sed: the recipe has no 'sed' there; did you mean 'seed'?"),
    (["seed.x=1"], [], "--set seed.x=1: there is nothing below 1 to set"),
    (["passes.0.prune.weights.sparsty=1"], [], "--set passes.0.prune.weights.sparsty=1: prune.weights: unknown option 'sparsty'; "
     "did you mean 'sparsity'?"),
    (["seed=yes"], [], "--set seed=yes: seed: must be a whole number, not 'yes'"),
])
def test_wrong_set(tmp_path, sets, unsets, line):
    path = write(tmp_path, "r.yaml", MODEL + "seed: 1\npasses: [{prune.weights: {sparsity: 0.5}}]\n")
    with pytest.raises(UserError) as e:
        recipe.read(path, sets, unsets)
    assert e.value.problems == [line]


def test_short_forms(tmp_path):
    made = recipe.read(write(tmp_path, "net.yaml", "model: a.onnx\ndata: fashion-mnist\npasses: [quantize.codebook]\n"))
    assert made.model.onnx == "a.onnx"
    assert made.data == {"source": "fashion-mnist"}
    assert made.name == "net"
    assert made.output == Path("build/net")
    assert made.steps[0].action == made.steps[0].action.__class__()


def test_files_beside_the_recipe_are_found(tmp_path):
    (tmp_path / "d.npz").write_bytes(b"")
    made = recipe.read(write(tmp_path, "r.yaml", MODEL + "data: {source: npz, path: d.npz}\n"))
    assert made.data["path"] == str(tmp_path / "d.npz")
    assert made.find("d.npz") == tmp_path / "d.npz"
    assert made.find("e.npz") is None


@pytest.mark.parametrize(("text", "original", "bound", "value", "holds"), [
    ("<= original / 40", 4000, 100, 100, True), ("< original / 40", 4000, 100, 100, False),
    (">= original - 0.002", 0.9, 0.898, 0.899, True),
    ("<= 1.5 KB", 1, 1500, 1500, True), ("<= 2 KiB + 1", 1, 2049, 2050, False), ("<= original * (1 - 25 %)", 8, 6, 5, True),
    ("> -original", 3, -3, -2, True), ("== 2 * 3 - 1", 0, 5, 5, True), ("<= 0.5 s", 0, 500, 499, True),
    ("<= 1.5e3 us", 0, 1.5, 2, False),
    ("<= 8 / 2 / 2", 0, 2, 2, True), ("<= 8 - 2 - 1", 0, 5, 5, True),
])
def test_gates(text, original, bound, value, holds):
    made = rule("size", text, "t:1:1")
    assert made.bound(original) == pytest.approx(bound)
    assert made.holds(value, original) is holds


@pytest.mark.parametrize(("text", "line"), [
    ("original / 2", 'must be text that begins with a comparison, like "<= original"'),
    ("<= ", "nothing stands after the comparison"),
    ("<= 1 +", "ends in the middle of a sum"), ("<= 1 2", "'2' is one too many"), ("<= __import__", "cannot read '__import__'"),
    ("<= 'os'", "cannot read \"'os'\""),
    ("<= original / 0", "divides by zero"), ("<= 3 ** 4", "cannot read '*'"), ("<= a;b", "cannot read ';b'"),
])
def test_wrong_gates(text, line):
    with pytest.raises(ValueError, match="^" + line.replace("(", r"\(").replace("*", r"\*").replace("+", r"\+")):
        rule("size", text, "t:1:1")


def test_gate_of_another_metric():
    with pytest.raises(ValueError, match="the recipe measures 'cosine', not 'accuracy'"):
        rule("accuracy", ">= 0.5", "t:1:1", ("accuracy", "cosine"), "cosine")


def walk(node):
    yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(inner)


def accepts(node, x, root):
    """Whether JSON Schema `node` takes x: the part of the standard that our schema uses."""
    if "$ref" in node:
        node = root["$defs"][node["$ref"].removeprefix("#/$defs/")]
    if "anyOf" in node and not any(accepts(a, x, root) for a in node["anyOf"]):
        return False
    if "enum" in node and x not in node["enum"] or "const" in node and x != node["const"]:
        return False
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
             "null": type(None)}
    if "type" in node and not (isinstance(x,
                                          kinds[node["type"]]) and not (node["type"] in ("integer",
                                                                                         "number") and isinstance(x, bool))):
        return False
    if isinstance(x, list):
        return all(accepts(node.get("items", {}), i, root) for i in x)
    if isinstance(x, dict):
        props, more = node.get("properties", {}), node.get("additionalProperties", True)
        if any(k not in x for k in node.get("required", ())) or len(x) < node.get("minProperties", 0):
            return False
        return all(accepts(props[k], v, root) if k in props else more is True or bool(more) and accepts(more, v, root) for k,
                   v in x.items())
    return True


def test_schema_is_well_formed():
    made = schema()
    assert json.loads(json.dumps(made)) == made
    assert made["$schema"].endswith("2020-12/schema")
    for node in walk(made):
        if isinstance(node, dict) and isinstance(node.get("$ref"), str):
            assert node["$ref"].removeprefix("#/$defs/") in made["$defs"]
        if isinstance(node, dict) and isinstance(node.get("type"), str):
            assert node["type"] in {"object", "array", "string", "integer", "number", "boolean", "null"}
    for name in PASSES:
        assert made["$defs"][name]["anyOf"][0]["additionalProperties"] is False


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_shipped_recipes(path):
    made = recipe.read(path)
    assert made.steps
    assert made.expect, "a shipped recipe says what it promises"
    raw = {**made.raw, "extends": "x.yaml"}
    assert accepts(schema(), raw, schema())
    name, options = next(iter(raw["passes"][0].items()))
    assert not accepts(schema(), {**raw, "passes": [{name: {**(options or {}), "no_such": 1}}]}, schema())
    assert not accepts(schema(), {**raw, "no_such": 1}, schema())


def test_options_are_documented():
    @dataclass
    class Example:
        """first, second   what both are
                 about
        third  another
        """

        first: int = 1
        second: float = 2
        third: list[str] = field(default_factory=list)

    assert option_docs(Example) == {"first": "what both are about", "second": "what both are about", "third": "another"}
    assert object_schema(fields_of(Example))["properties"]["third"] == {"type": "array", "items": {"type": "string"},
                                                                        "default": []}
    assert words(fields_of(Example)["third"][0]) == "a list of text each"
    assert json_schema(Literal["a"]) == {"enum": ["a"]}
    from mcc.passes import find
    assert all(summary(find(n)) for n in PASSES)


def test_places_of_missing_things():
    problems = []
    item = parse("a:\n  b: [1, {c: 2}]\n", "t", problems)
    assert at(item, ("a", "b", 1, "c")) == "t:2:14"
    assert at(item, ("a", "b", 1, "c"), key=True) == "t:2:11"
    assert at(item, ("a", "b", 9)) == "t:2:6"
