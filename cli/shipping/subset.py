"""The part of the engine that a model needs, as sources.

Everything the engine can do stands in lists, the .def files: ops, weight formats, micro-kernels. So a smaller engine is shorter
lists: lines are taken out, and the linker finds which functions and files nothing refers to any more. Two rounds: after the
first the list of ops is the model's, and what is linked then says which types and elementwise functions can still be asked for.
The plain C line of a kernel goes where the target's baseline has its own (arm64: NEON), since the first line that the CPU
supports is the one that is used.
"""
from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from ..arm64.build import KERNELS

Tree = dict[str, str]  # path below kernels/ -> text
Live = Callable[[Tree], set[str]]  # which .c files of a tree have something that is linked

BASELINE = {"arm64": "neon", "x86-64": "c"}
DEFINED = {"arm64": "__aarch64__", "x86-64": "__x86_64__"}
LINE = re.compile(r"\b([A-Z][A-Z0-9_]*)\(([^()]*)\)")


def sources() -> Tree:
    """The engine: no face for Python, none for the command line."""
    paths = [p for p in KERNELS.rglob("*") if p.suffix in (".c", ".h", ".def") and p.name not in ("_core.c", "mcc_run.c")]
    return {p.relative_to(KERNELS).as_posix(): p.read_text() for p in sorted(paths)}


def everything(arch: str, live: Live) -> Tree:
    """An engine for any model."""
    tree = _lines(sources(), arch)
    return closed(tree, live(tree))


def needed(graph, arch: str, live: Live) -> Tree:
    """An engine for this graph, which is in the engine's form (a .mcc file's)."""
    ops = {n.op for n in graph.nodes}
    tree = _lines(sources(), arch)
    tree["core/ops.def"] = _kept(tree["core/ops.def"], lambda macro, a: macro != "OP" or a[0] in ops)
    tree["core/families.def"] = _kept(tree["core/families.def"], lambda macro, a: False)  # `mcc_limit_kernel` is for benchmarks
    formats, acts, rows = _formats(graph), _acts(graph), _rows(graph)
    tree["gemm/formats.def"] = _kept(tree["gemm/formats.def"], lambda macro, a: a[0] in formats)
    tree["gemm/acts.def"] = _kept(tree["gemm/acts.def"], lambda macro, a: a[0] in acts)
    tree["dwconv/dwconv.def"] = _kept(tree["dwconv/dwconv.def"], lambda macro, a: macro != "ROW" or (*a[1:4],) in rows)
    tree["dwconv/dwconv_s8.def"] = _kept(tree["dwconv/dwconv_s8.def"],
                                         lambda macro, a: macro != "DWROW_S8" or (*a[:3],) in rows)
    tree["gemm/qformats.def"] = _kept(tree["gemm/qformats.def"], lambda macro, a: a[0] in formats)
    linked = live(tree)
    code = "".join(text for path, text in tree.items() if path in linked)
    types = _types(code)
    if not any(v.dtype == "float16" for n in graph.nodes for v in n.outputs):
        types -= {"f16"}
        tree["dwconv/dwconv.def"] = _kept(tree["dwconv/dwconv.def"], lambda macro, a: a[0] != "f16")
    for path in ("gemm/gemm.def", "conv/winograd.def"):
        tree[path] = _kept(tree[path], lambda macro, a: a[0] in types)
    asked = set(re.findall(r'\bmcc_attention_pick\("(\w+)"\)', code))  # int8 attention wants its masks alone
    tree["attention/attention.def"] = _kept(tree["attention/attention.def"], lambda macro, a: a[1] in asked)
    if "eltwise/cast.c" not in linked:  # it can ask for any conversion
        tree["eltwise/eltwise.def"] = _kept(tree["eltwise/eltwise.def"],
                                            lambda macro, a: f'"{a[0]}_{a[1]}"' in code or a[1] in ops | acts)
    return closed(tree, live(tree))


def _types(code: str) -> set[str]:
    """Element types that the code asks mcc_gemm_pick for, as gemm.def writes them."""
    asked = re.findall(r"\bmcc_gemm_pick\(([^,]*),|\bmcc_gemm_(\w+?)_pick\(", code)
    return {t.lower() for argument, name in asked for t in [*re.findall(r"\bMCC_([A-Z]+\d+)", argument), name] if t}


def _formats(graph) -> set[str]:
    """The names of formats.def and qformats.def that serve a weight of the graph. Sparse kernels win from 30 % zeros on,
    if at all."""
    weights = [v for n in graph.nodes for v in n.inputs if v is not None and v.data is not None]
    found = {"lut"} if any(v.meta.get("storage") in ("palette", "quantized") for v in weights) else set()
    if any(v.meta.get("storage") == "hashed" and v.dtype != "int8" for v in weights):
        found.add("hashed")
    for dtype, name in (("float32", "sparse"), ("int8", "qsparse")):
        if any(v.dtype == dtype and v.data.ndim >= 2 and v.data.size and (v.data == 0).mean() >= 0.3 for v in weights):
            found.add(name)
    return found


def _acts(graph) -> set[str]:
    """Activations that layers end with."""
    return {value for n in graph.nodes for key, value in n.attrs.items() if key == "act" or key.endswith("_act")}


def _rows(graph) -> set[tuple[str, str, str]]:
    """Height, width and stride of windows, as the lists of depthwise rows write them; a fused block has more than one."""
    found = set()
    for n in graph.nodes:
        sides = {d for v in n.inputs if v is not None and v.data is not None and v.data.ndim >= 3 for d in v.data.shape}
        steps = {s for key, value in n.attrs.items() if key.endswith("strides") for s in value}
        found |= {(str(h), str(w), str(s)) for h in sides for w in sides for s in steps}
    return found


def _lines(tree: Tree, arch: str) -> Tree:
    """Without other machines' lines, and without C lines where the baseline has its own."""
    made = dict(tree)
    for path, text in tree.items():
        if not path.endswith(".def"):
            continue
        made[path] = _without_c(_of(text, DEFINED[arch]), BASELINE[arch])
    return made


def _without_c(text: str, baseline: str) -> str:
    if baseline == "c":
        return text
    has = {(m[1], *_names(_words(m))) for m in LINE.finditer(text) if _words(m)[-1] == baseline}
    return _kept(text, lambda macro, a: a[-1] != "c" or (macro, *_names(a)) not in has)


def _of(text: str, defined: str) -> str:
    """The text without the #if blocks of other machines."""
    made, inside = [], None
    for line in text.splitlines(keepends=True):
        if m := re.match(r"#if defined\((\w+)\)$", line.strip()):
            inside = m[1]
        elif line.strip() == "#endif" and inside:
            inside = None
        elif inside in (None, defined):
            made.append(line)
    return "".join(made)


def _words(match: re.Match) -> list[str]:
    return [w.strip() for w in match[2].split(",")]


def _names(words: list[str]) -> tuple[str, ...]:
    """What a line is for: its words without the ISA and without sizes."""
    return tuple(w for w in words[:-1] if not w.isdigit())


def _kept(text: str, wanted: Callable[[str, list[str]], bool]) -> str:
    """The list with only those lines for which wanted(macro, words); its comments stay."""
    comment = text.find("*/") + 2 if text.lstrip().startswith("/*") else 0
    body = LINE.sub(lambda m: m[0] if wanted(m[1], _words(m)) else "", text[comment:])
    return text[:comment] + "\n" + re.sub(r"\n\s*\n+", "\n", body).lstrip("\n")


def closed(tree: Tree, files: Iterable[str]) -> Tree:
    """These .c files, the faces, and everything that they include."""
    made, todo = {}, [*files, "mcc.h"]
    while todo:
        path = todo.pop()
        if path in made:
            continue
        made[path] = tree[path]
        for name in re.findall(r'^\s*#\s*include "([^"]+)"', tree[path], re.M):
            found = os.path.normpath(os.path.join(os.path.dirname(path), name))
            if found in tree:
                todo.append(found)
    return dict(sorted(made.items()))
