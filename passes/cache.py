"""Results that survive a kill: a Graph in one small file, written whole or not at all.

The file: the line "mcc graph 1", a line with the number of bytes of a JSON text, that text, then the arrays' bytes
one after another. Nothing in it is code, so a cache from elsewhere can do no more than be wrong. Equal graphs give equal
bytes, so the digest of a graph is the digest of its file.
"""
from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import asdict, is_dataclass
from functools import cache as once
from pathlib import Path
from typing import Any

import numpy as np

from .graph import Graph, Node, Value

MAGIC = b"mcc graph 1\n"


def pack(graph: Graph, extra: dict | None = None) -> bytes:
    """The graph (and a dict of facts beside it) as bytes. Raises TypeError for attributes that cannot be kept."""
    writer = _Writer(graph)
    nodes = [[n.op, n.name, n.scope, [writer.value(v) for v in n.inputs], [writer.value(v) for v in n.outputs],
              writer.plain(n.attrs)] for n in graph.nodes]
    head = {"name": graph.name, "meta": writer.plain(graph.meta), "inputs": [writer.value(v) for v in graph.inputs],
            "outputs": [writer.value(v) for v in graph.outputs], "nodes": nodes, "values": writer.values,
            "arrays": writer.arrays, "extra": writer.plain(extra or {})}
    text = json.dumps(head, separators=(",", ":")).encode()
    return b"".join([MAGIC, b"%d\n" % len(text), text, *writer.blobs])


def unpack(blob: bytes) -> tuple[Graph, dict]:
    """What `pack` packed. Raises ValueError when it is damaged."""
    try:
        if not blob.startswith(MAGIC):
            raise ValueError("not a graph file")
        line = blob.index(b"\n", len(MAGIC))
        start = line + 1 + int(blob[len(MAGIC):line])
        return _read(json.loads(blob[line + 1:start]), blob, start)
    except (ValueError, KeyError, IndexError, TypeError) as e:
        raise ValueError(f"damaged graph file ({type(e).__name__}: {e})") from None


def digest(graph: Graph) -> str:
    return hashlib.sha256(pack(graph)).hexdigest()


def key_of(**facts) -> str:
    """One short name for all that a result depends on. The facts must be plain data."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=_plain_fact).encode()).hexdigest()[:20]


def write_atomic(path: str | os.PathLike, data: bytes | str) -> None:
    """The whole file or the old one, also when the process or the machine stops in between."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        with open(part, "wb") as f:
            f.write(data.encode() if isinstance(data, str) else data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


# What no trained weight depends on: reading recipes, reports, files in and out (what is imported is hashed itself).
_OUTSIDE = ("recipe/", "lower/", "onnx_io/", "zoo/", "report.py", "prepare.py", "errors.py", "cost.py")


@once
def code_version(lowering: bool = False) -> str:
    """Hash of the sources of this package: a changed pass does not find its old results. lowering: all of them."""
    h = hashlib.sha256()
    here = Path(__file__).parent
    for p in sorted(here.rglob("*.py")):
        name = p.relative_to(here).as_posix()
        if lowering or not name.startswith(_OUTSIDE):
            h.update(name.encode() + b"\0" + p.read_bytes())
    return h.hexdigest()[:16]


def library_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    from importlib.metadata import version
    return {name: version(name) for name in ("torch", "numpy", "onnx", "onnxsim")}


class Store:
    """A folder of results by key. `fresh` forgets what is there."""

    def __init__(self, folder: Path, fresh: bool = False):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for p in folder.iterdir():
            if p.name.startswith(".part-") and not _alive(p.name.split("-")[1]) or fresh and p.is_file():
                p.unlink(missing_ok=True)

    def path(self, key: str, kind: str) -> Path:
        return self.folder / f"{key}.{kind}"

    def load_graph(self, key: str) -> tuple[Graph, dict] | None:
        """None when it is not there, or damaged (then it is made again)."""
        try:
            return unpack(self.path(key, "graph").read_bytes())
        except (OSError, ValueError):
            return None

    def save_graph(self, key: str, graph: Graph, **extra) -> None:
        write_atomic(self.path(key, "graph"), pack(graph, extra))

    def load_scores(self, key: str) -> np.ndarray | None:
        try:
            with open(self.path(key, "npy"), "rb") as f:
                return np.load(f, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None

    def save_scores(self, key: str, scores: np.ndarray) -> None:
        import io
        buffer = io.BytesIO()
        np.save(buffer, scores, allow_pickle=False)
        write_atomic(self.path(key, "npy"), buffer.getvalue())

    def load_facts(self, key: str) -> dict | None:
        try:
            return json.loads(self.path(key, "json").read_text())
        except (OSError, ValueError):
            return None

    def save_facts(self, key: str, facts: dict) -> None:
        write_atomic(self.path(key, "json"), json.dumps(plain(facts), indent=1))


def plain(x: Any) -> Any:
    """Plain data for JSON: numpy numbers become Python's, paths and dataclasses too; not-a-number and infinity null."""
    if isinstance(x, dict):
        return {str(k): plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple, set)):
        return [plain(v) for v in x]
    if isinstance(x, np.ndarray):
        return plain(x.tolist())
    if isinstance(x, np.generic):
        return plain(x.item())
    if isinstance(x, float):
        return x if np.isfinite(x) else None
    if x is None or isinstance(x, (bool, int, str)):
        return x
    return plain(asdict(x)) if is_dataclass(x) and not isinstance(x, type) else str(x)


class _Writer:
    def __init__(self, graph: Graph):
        self.values: list = []
        self.arrays: list = []
        self.blobs: list[bytes] = []
        self.number: dict[int, int] = {}
        self.kept: dict[int, int] = {}
        self.hold: list = []
        for v in graph.values():
            self.value(v)

    def value(self, v: Value | None) -> int | None:
        if v is None:
            return None
        if id(v) not in self.number:
            self.number[id(v)] = len(self.values)
            row: list = [v.name, v.dtype, None if v.shape is None else [d if isinstance(d, str) else int(d) for d in v.shape]]
            self.values.append(row)
            row += [None if v.data is None else self.array(v.data), self.plain(v.meta)]
        return self.number[id(v)]

    def array(self, a: np.ndarray) -> int:
        if id(a) not in self.kept:
            if a.dtype.kind not in "biufc":
                raise TypeError(f"an array of {a.dtype} cannot be kept")
            self.kept[id(a)] = len(self.arrays)
            self.hold.append(a)
            little = a.astype(a.dtype.newbyteorder("<"), copy=False)
            self.arrays.append([little.dtype.name, list(a.shape)])
            self.blobs.append(little.tobytes())
        return self.kept[id(a)]

    def plain(self, x: Any) -> Any:
        """JSON with marks for what JSON does not have: {"~": kind, "v": content}."""
        if x is None or isinstance(x, (bool, int, float, str)) and not isinstance(x, np.generic):
            return x
        if isinstance(x, Value):
            return {"~": "value", "v": self.value(x)}
        if isinstance(x, np.ndarray):
            return {"~": "array", "v": self.array(x)}
        if isinstance(x, np.generic):
            return {"~": "scalar", "v": self.array(np.asarray(x))}
        if isinstance(x, np.dtype):
            return {"~": "dtype", "v": x.name}
        if isinstance(x, bytes):
            return {"~": "bytes", "v": base64.b64encode(x).decode()}
        if isinstance(x, list):
            return [self.plain(v) for v in x]
        if isinstance(x, (tuple, set, frozenset)):
            kind = "tuple" if isinstance(x, tuple) else "set"
            return {"~": kind, "v": [self.plain(v) for v in (x if kind == "tuple" else sorted(x))]}
        if isinstance(x, dict):
            if all(isinstance(k, str) for k in x) and "~" not in x:
                return {k: self.plain(v) for k, v in x.items()}
            return {"~": "dict", "v": [[self.plain(k), self.plain(v)] for k, v in x.items()]}
        raise TypeError(f"{type(x).__name__} {x!r} cannot be kept in a graph file")


def _read(head: dict, blob: bytes, start: int) -> tuple[Graph, dict]:
    arrays = []
    for name, shape in head["arrays"]:
        dtype = np.dtype(name).newbyteorder("<")
        count = int(np.prod(shape, dtype=np.int64))
        if start + count * dtype.itemsize > len(blob):
            raise ValueError("cut short")
        arrays.append(np.frombuffer(blob, dtype, count, start).reshape(shape).astype(np.dtype(name)))
        start += count * dtype.itemsize
    if start != len(blob):
        raise ValueError("bytes too many")
    values = [Value(name, dtype, None if shape is None else tuple(shape), None if data is None else arrays[data])
              for name, dtype, shape, data, _ in head["values"]]

    def back(x):
        if isinstance(x, list):
            return [back(v) for v in x]
        if not isinstance(x, dict):
            return x
        if "~" not in x:
            return {k: back(v) for k, v in x.items()}
        return _KINDS[x["~"]](x["v"], back, values, arrays)

    for value, row in zip(values, head["values"]):
        value.meta = back(row[4])

    def pick(i: int | None) -> Value | None:
        return None if i is None else values[i]
    nodes = [Node(op, [pick(i) for i in ins], [values[i] for i in outs], back(attrs), name, scope)
             for op, name, scope, ins, outs, attrs in head["nodes"]]
    graph = Graph([values[i] for i in head["inputs"]], [values[i] for i in head["outputs"]], nodes, head["name"],
                  back(head["meta"]))
    return graph, back(head["extra"])


_KINDS = {
    "value": lambda v, back, values, arrays: values[v],
    "array": lambda v, back, values, arrays: arrays[v],
    "scalar": lambda v, back, values, arrays: arrays[v][()],
    "dtype": lambda v, back, values, arrays: np.dtype(v),
    "bytes": lambda v, back, values, arrays: base64.b64decode(v),
    "tuple": lambda v, back, values, arrays: tuple(back(v)),
    "set": lambda v, back, values, arrays: set(back(v)),
    "dict": lambda v, back, values, arrays: {back(k): back(w) for k, w in v},
}


def _plain_fact(x):
    return plain(x)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except OSError:
        return True
    return True
