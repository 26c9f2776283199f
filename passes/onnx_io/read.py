"""ModelProto -> Graph, one walk over the nodes.

For each node: constants are computed, shape arithmetic is followed with named dimensions (values.py), the node is
brought to the newest opset's form (upgrade.py) and entered under our name (names.py). Shapes come from ONNX's own
rules, with what is known here put in. Functions without a row in OPS are replaced by their bodies; an If by the branch
it takes when that is known, else by both and a Where; sequences of tensors are followed (sequences.py).
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..errors import UserError
from ..graph import Dim, Graph, Node, Value
from ..ops import OPS
from . import sequences, values
from .dims import Expr
from .names import ADVICE, MOVED, snake
from .protos import (
    STANDARD,
    attribute,
    dims_of,
    dtype_name,
    first_line,
    holds,
    reference,
    resolved,
    schema_defaults,
    scope_of,
    stored_dtype,
    tensor,
    type_proto,
)

SMALL = 1 << 12       # elements up to which constants are computed here (canonical.py does the others)
LARGE = 1 << 24       # the same for ops that have no row of their own
NOT_FOLDED = {"DequantizeLinear", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli",
              "Multinomial", "Dropout", "If", "Loop", "Scan", "SequenceMap"}


@dataclass
class Call:
    """A node on its way into the Graph; upgrade.py changes it. `shapes`/`dtypes` are those of the outputs."""

    type: str                    # the ONNX op
    version: int                 # opset the node was written for
    op: str                      # our name
    inputs: list[Value | None]
    attrs: dict
    name: str
    scope: str
    shapes: list = field(default_factory=list)
    dtypes: list = field(default_factory=list)
    known: np.ndarray | None = None  # shape arithmetic: the result's entries (values.py)


class Unsupported(UserError):
    """Nodes without a form here; onnxsim may know how to make them go."""


class Reader:
    def __init__(self, model: onnx.ModelProto, bind: dict[str, int], batch: str | None = None):
        self.model, self.bind, self.batch = model, bind, batch
        self.functions = {(f.domain, f.name, f.overload): f for f in model.functions}
        self.opsets = {o.domain if o.domain not in STANDARD else "": o.version for o in model.opset_import}
        self.env: dict[str, Value] = {}
        self.nodes: list[Node] = []
        self.names: set[str] = set()
        self.known: dict[Value, np.ndarray] = {}  # values of shape arithmetic (values.py)
        self.problems: dict[str, list[str]] = {}  # unsupported op -> names of nodes
        self.hints: dict[str, tuple] = {}
        self.depth = 0

    # --- the model ------------------------------------------------------------------------------------------

    def read(self) -> Graph:
        g = self.model.graph
        for v in [*g.value_info, *g.output]:
            dims = dims_of(v.type)
            if dims is not None and not any(isinstance(d, str) and d.startswith("unk__") for d in dims):
                self.hints[v.name] = dims
        self.names.update(v.name for v in [*g.input, *g.output])
        weights = {t.name: t for t in g.initializer}
        if g.sparse_initializer:
            raise UserError("sparse initializers are not supported; save the weights as dense tensors")
        inputs = self._inputs([i for i in g.input if i.name not in weights])
        for name, t in weights.items():
            self.env[name] = self.constant(tensor(t), name, stored_dtype(t))
        self.walk(g.node)
        outputs = [self._output(o.name) for o in g.output]
        if self.problems:
            raise Unsupported(*(unsupported(op, nodes) for op, nodes in self.problems.items()))
        lost = [o.name for o in outputs if self.batch and not (o.shape and any(holds(d, self.batch) for d in o.shape))]
        if lost:
            raise UserError(*(f"batch '{self.batch}': it cannot be followed to output '{name}'; export the model with a "
                              "dynamic batch instead" for name in lost))
        graph = Graph(inputs, outputs, self.nodes, g.name or "graph", {"opset": self.opsets.get("", 1)})
        graph.prune()
        return graph

    def _inputs(self, protos) -> list[Value]:
        inputs, seen = [], set()
        for p in protos:
            kind = p.type.WhichOneof("value")
            if kind != "tensor_type":
                raise UserError(f"input '{p.name}' is a {kind or 'value without a type'}; only tensors are supported")
            dims = dims_of(p.type)
            if dims is None:
                raise UserError(f"input '{p.name}' has no rank; export the model with a shape for it")
            shape: list[Dim] = []
            for axis, d in enumerate(dims):
                d = f"{p.name}_{axis}" if d is None else d
                if axis == 0 and self.batch and d == 1:
                    d = self.batch
                if isinstance(d, str):
                    seen.add(d)
                    d = self.bind.get(d, d)
                shape.append(d)
            v = Value(p.name, dtype_name(p.type.tensor_type.elem_type), tuple(shape))
            self.env[p.name] = v
            inputs.append(v)
        missing = [b for b in self.bind if b not in seen]
        if missing:
            raise UserError(*(f"bind {b}: the model has no such dimension; it has {', '.join(sorted(seen)) or 'none'}"
                              for b in missing))
        return inputs

    def _output(self, name: str) -> Value:
        """The graph output `name`; a value that already has another public name is passed through an identity."""
        v = self.env.get(name)
        if v is None:
            raise UserError(f"output '{name}' is never computed")
        if isinstance(v, list):
            raise UserError(f"output '{name}' is a sequence; only tensors are supported")
        if v.name == name:
            return v
        if v.data is None and v not in self.env_inputs() and not any(v.name == o.name for o in self.model.graph.output):
            v.name = name  # it came out of a function body or an alias under another name
            return v
        del self.env[name]  # free for the identity
        return self.emit("identity", [v], {}, [(v.dtype, v.shape)], name, fixed=[name])[0]

    def env_inputs(self) -> set[Value]:
        return {self.env[i.name] for i in self.model.graph.input if i.name in self.env}

    # --- nodes ----------------------------------------------------------------------------------------------

    def walk(self, nodes: Iterable[onnx.NodeProto]) -> None:
        for n in nodes:
            self.node(n)

    def node(self, n: onnx.NodeProto) -> None:
        ins = [self._read(i, n) if i else None for i in n.input]
        if (n.domain, n.op_type, n.overload) in self.functions:
            return self.inline(n, self.functions[n.domain, n.op_type, n.overload], ins)
        if n.domain not in STANDARD:
            return self.refuse(n, f"{n.domain}.{n.op_type}", ins)
        if n.op_type == "Identity":
            self.env[n.output[0]] = ins[0]
            return None
        if n.op_type in sequences.RULES or any(isinstance(v, list) for v in ins):
            return self.sequence(n, ins)
        if n.op_type == "If":
            return self.choose(n, ins[0])
        supported = n.op_type in ("Constant", "Gemm", "Upsample", "CastLike", "Scatter") or snake(n.op_type) in OPS
        if self.fold(n, ins, SMALL if supported else LARGE):
            return None
        call = self.call(n, ins)
        if self.follow(n, call):
            return None
        if not supported:
            body = self.body(n, ins)
            return self.inline(n, body, ins) if body is not None else self.refuse(n, n.op_type, ins)
        from .upgrade import check_attributes
        from .upgrade_shapes import UPGRADES
        upgrade = UPGRADES.get(n.op_type)
        if upgrade is not None:
            upgrade(self, call)
        check_attributes(call)
        if call.op == "identity" and n.output[0] not in self.output_names():
            self.env[n.output[0]] = call.inputs[0]
            return None
        outs = self.emit(call.op, call.inputs, call.attrs, list(zip(call.dtypes, call.shapes)), call.name, call.scope,
                         [o or f"{call.name}_unused" for o in n.output])
        self.env.update((o, v) for o, v in zip(n.output, outs) if o)
        if call.known is not None:
            self.known[outs[0]] = call.known
        return None

    def sequence(self, n: onnx.NodeProto, ins: list) -> None:
        """An op on a sequence of tensors, which is a list here."""
        rule = sequences.RULES.get(n.op_type)
        result = rule(self, n, ins, {a.name: attribute(a) for a in n.attribute}) if rule else None
        if result is None:
            return self.refuse(n, n.op_type, [], typed=False)
        self.env[n.output[0]] = result
        return None

    def scope(self, n: onnx.NodeProto) -> str:
        return scope_of(n)

    def output_names(self) -> set[str]:
        return {o.name for o in self.model.graph.output}

    def _read(self, name: str, n: onnx.NodeProto) -> Value:
        if name not in self.env:
            raise UserError(f"node '{n.name or n.op_type}' reads '{name}', which nothing before it makes")
        return self.env[name]

    def call(self, n: onnx.NodeProto, ins: list) -> Call:
        """The node with attributes in Python, moved attributes as inputs, and types of its outputs."""
        attrs = {a.name: attribute(a) for a in n.attribute}
        types = self.infer(n, ins)
        name = n.name or n.output[0]
        for key, position in MOVED.get(n.op_type, ()):
            if key in attrs:
                a = np.asarray(attrs.pop(key))
                a = a.astype(np.int64) if a.dtype.kind == "i" else a.astype(
                    ins[0].dtype if n.op_type in ("Clip", "Pad") and ins[0].dtype != "bfloat16" else np.float32)
                ins = ins + [None] * (position + 1 - len(ins))
                ins[position] = self.constant(a, f"{name}.{key}")
        shapes = [self._full(o, t[1]) for o, t in zip(n.output, types)]
        return Call(n.op_type, self.opsets.get("", 1), snake(n.op_type), ins, attrs, name, scope_of(n),
                    shapes, [t[0] for t in types])

    def _full(self, name: str, shape):
        """The shape with dimensions ONNX could not tell taken from the exporter's own notes, else named."""
        if shape is None:
            return None
        hint = self.hints.get(name)
        if hint is None or len(hint) != len(shape) or self.bind or self.batch:
            hint = (None,) * len(shape)
        return tuple(h if d is None and h is not None else f"{name}_{i}" if d is None else d
                     for i, (d, h) in enumerate(zip(shape, hint)))

    def follow(self, n: onnx.NodeProto, call: Call) -> bool:
        """Shape arithmetic: True when the result is plain numbers and needs no node; what else is known stands in
        `call.known`."""
        if len(n.output) != 1 or call.type not in values.RULES:
            return False
        args = [None if v is None else self.numbers(v) for v in call.inputs]
        if call.type not in ("Shape", "Size") and any(v is not None and a is None for v, a in zip(call.inputs, args)):
            return False
        out = values.evaluate(call.type, call.attrs, args, [None if v is None else v.shape for v in call.inputs])
        if out is None or call.dtypes[0] not in ("int64", "int32", "bool"):
            return False
        plain = values.numbers(out, call.dtypes[0])
        if plain is not None:
            self.env[n.output[0]] = self.constant(plain, n.output[0], call.dtypes[0])
            return True
        call.shapes[0], call.known = out.shape, out
        return False

    def numbers(self, v: Value | None) -> np.ndarray | None:
        """What is known of a small integer tensor, as an object array."""
        if v is None:
            return None
        if v.data is not None and v.data.size <= values.LIMIT and v.data.dtype.kind in "iub":
            return values.known(v.data)
        return self.known.get(v)

    def ints(self, v: Value | None) -> list[Expr] | None:
        a = self.numbers(v)
        return None if a is None else list(a.flat)

    # --- constants ------------------------------------------------------------------------------------------

    def fold(self, n: onnx.NodeProto, ins: list, limit: int) -> bool:
        """Compute a node with constant inputs. Weights are not transposed here: a linear layer reads them as they are."""
        if n.op_type in NOT_FOLDED or any(v is not None and v.data is None for v in ins):
            return False
        if n.op_type == "Constant":
            self.env[n.output[0]] = self._constant_node(n)
            return True
        if n.op_type == "Transpose" and ins[0].data.ndim >= 2 and ins[0].data.dtype.kind == "f":
            return False
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in n.attribute):
            return False
        types = self.infer(n, ins)
        sizes = [None if s is None or None in s else int(np.prod(s)) for _, s in types]
        if any(s is None or s > limit for s in sizes) and sum(v.data.size for v in ins if v is not None) > limit:
            return False
        if any(s is not None and s > limit for s in sizes):
            return False
        results = reference(n, ins, self.opsets)
        if results is None:
            return False
        for o, r, (dtype, _) in zip(n.output, results, types):
            if o:
                self.env[o] = self.constant(r, o, dtype)
        return True

    def _constant_node(self, n: onnx.NodeProto) -> Value:
        a = n.attribute[0]
        if a.name == "value":
            data, dtype = tensor(a.t), stored_dtype(a.t)
        elif a.name in ("value_int", "value_ints"):
            data, dtype = np.array(attribute(a), dtype=np.int64), "int64"
        elif a.name in ("value_float", "value_floats"):
            data, dtype = np.array(attribute(a), dtype=np.float32), "float32"
        else:
            raise UserError(f"constant '{n.name or n.output[0]}' is a {a.name.removeprefix('value_')}; "
                            "only numbers are supported")
        return self.constant(data, n.output[0], dtype)

    def constant(self, data, name: str, dtype: str | None = None) -> Value:
        data = np.asarray(data)
        dtype = dtype or data.dtype.name
        return Value(self.claim(name), dtype, data.shape, data.astype(np.float32 if dtype == "bfloat16" else dtype, copy=False))

    def claim(self, name: str) -> str:
        """A value name nobody has."""
        if name in self.names:
            i = 1
            while f"{name}_{i}" in self.names:
                i += 1
            name = f"{name}_{i}"
        self.names.add(name)
        return name

    def emit(self, op: str, ins: list, attrs: dict, types: list, name: str, scope: str = "", fixed=None) -> list[Value]:
        """Enter a node; its outputs have the given (dtype, shape) and names (public ones stay as they are)."""
        public = self.output_names()
        outs = []
        for i, (dtype, shape) in enumerate(types):
            wanted = fixed[i] if fixed else f"{name}_{op}"
            taken = wanted in public and not self.depth and wanted not in self.env
            outs.append(Value(wanted if taken else self.claim(wanted), dtype, None if shape is None else tuple(shape)))
        while ins and ins[-1] is None:
            ins = ins[:-1]
        self.nodes.append(Node(op, list(ins), outs, attrs, name, scope))
        return outs

    # --- types ----------------------------------------------------------------------------------------------

    def infer(self, n: onnx.NodeProto, ins: list) -> list[tuple[str, tuple | None]]:
        """(dtype, shape) of every output by ONNX's rules; a dimension it cannot tell is None."""
        unknown: tuple[str, tuple | None] = (ins[0].dtype if ins and ins[0] is not None else "float32", None)
        version = self.opsets.get("", 1)
        try:
            schema = onnx.defs.get_schema(n.op_type, version, "")
        except onnx.defs.SchemaError:
            return [unknown] * len(n.output)
        if schema.deprecated:  # GroupNormalization before 21: ONNX has no rule
            return [(ins[0].dtype, ins[0].shape if n.op_type == "GroupNormalization" else None)] * len(n.output)
        types, data = {}, {}
        for key, v in zip(n.input, ins):
            if v is None:
                continue
            types[key] = type_proto(v)
            if v.data is not None and v.data.size <= 1024:
                data[key] = numpy_helper.from_array(v.data, key)
            elif v in self.known and values.numbers(self.known[v], v.dtype) is not None:
                data[key] = numpy_helper.from_array(values.numbers(self.known[v], v.dtype), key)
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema, n, types, data, opset_imports=[helper.make_opsetid("", version)], ir_version=self.model.ir_version)
        except Exception as e:
            if self.problems:  # behind a node that was refused nothing is certain
                return [unknown] * len(n.output)
            raise UserError(f"node '{n.name or n.op_type}' ({n.op_type}): {first_line(e)}") from None
        out: list[tuple[str, tuple | None]] = []
        for o in n.output:
            t = found.get(o)
            if t is None or t.WhichOneof("value") != "tensor_type" or not t.tensor_type.elem_type:
                out.append(unknown)
            else:
                out.append((dtype_name(t.tensor_type.elem_type), dims_of(t)))
        return out

    # --- functions and branches -------------------------------------------------------------------------------

    def body(self, n: onnx.NodeProto, ins: list) -> onnx.FunctionProto | None:
        """The body ONNX gives for an op that is a function of others."""
        version = self.opsets.get("", 1)
        try:
            schema: Any = onnx.defs.get_schema(n.op_type, version, "")  # its stub lacks the functions
        except onnx.defs.SchemaError:
            return None
        if schema.has_function:
            raw = schema.get_function_with_opset_version(version)
        elif schema.has_context_dependent_function:
            types = [type_proto(v).SerializeToString() if v is not None else onnx.TypeProto().SerializeToString() for v in ins]
            raw = schema.get_context_dependent_function_with_opset_version(version, n.SerializeToString(), types)
        else:
            return None
        if not raw:
            return None
        f = onnx.FunctionProto()
        f.ParseFromString(raw)
        return f

    def inline(self, n: onnx.NodeProto, f: onnx.FunctionProto, ins: list) -> None:
        given = {a.name: a for a in [*f.attribute_proto, *schema_defaults(n, self.opsets), *n.attribute]}
        outer, opsets = self.env, self.opsets
        self.env = {name: v for name, v in zip(f.input, ins) if v is not None}
        absent = {name for i, name in enumerate(f.input) if i >= len(ins) or ins[i] is None}
        self.opsets = {**opsets, **{o.domain if o.domain not in STANDARD else "": o.version for o in f.opset_import}}
        self.depth += 1
        for inner in f.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(inner)
            del copy.attribute[:]
            copy.attribute.extend(resolved(inner.attribute, given))
            for i, name in enumerate(copy.input):
                if name in absent:
                    copy.input[i] = ""
            copy.name = f"{n.name or n.op_type}/{inner.name or inner.op_type}"
            if not copy.metadata_props:
                copy.metadata_props.extend(n.metadata_props)
            self.node(copy)
        self.depth -= 1
        inner_env, self.env, self.opsets = self.env, outer, opsets
        for outside, inside in zip(n.output, f.output):
            if outside:
                self.env[outside] = inner_env[inside]

    def choose(self, n: onnx.NodeProto, condition: Value) -> None:
        """An If: the branch it takes, or, when only the data tell, both and a Where (branches have no side effects)."""
        branches = {a.name: a.g for a in n.attribute}
        if condition.data is not None:
            results = self.branch(branches["then_branch" if condition.data.reshape(-1)[0] else "else_branch"])
            self.env.update(zip(n.output, results))
            return
        kept, problems = list(self.nodes), {k: list(v) for k, v in self.problems.items()}
        try:
            yes, no = self.branch(branches["then_branch"]), self.branch(branches["else_branch"])
            same = self.problems == problems and all(
                isinstance(a, Value) and isinstance(b, Value) and a.shape is not None and (a.shape, a.dtype) == (b.shape, b.dtype)
                for a, b in zip(yes, no))
        except UserError:
            same = False
        if not same:
            self.nodes, self.problems = kept, problems
            return self.refuse(n, n.op_type, [])
        name, scope = n.name or n.output[0], scope_of(n)
        if condition.shape != ():
            condition = self.emit("reshape", [condition, self.constant(np.zeros(0, np.int64), f"{name}.scalar")], {},
                                  [("bool", ())], name, scope)[0]
        for o, a, b in zip(n.output, yes, no):
            self.env[o] = self.emit("where", [condition, a, b], {}, [(a.dtype, a.shape)], name, scope, [o])[0]

    def branch(self, g: onnx.GraphProto) -> list:
        """The results of a subgraph, its nodes entered here; it sees the names outside."""
        outer, self.env = self.env, dict(self.env)
        self.depth += 1
        try:
            for t in g.initializer:
                self.env[t.name] = self.constant(tensor(t), t.name, stored_dtype(t))
            self.walk(g.node)
            return [self.env[o.name] for o in g.output]
        finally:
            self.depth -= 1
            self.env = outer

    def refuse(self, n: onnx.NodeProto, op: str, ins: list, typed: bool = True) -> None:
        """Note an unsupported node and go on, so that all of them are named at once."""
        self.problems.setdefault(op, []).append(n.name or (n.output[0] if n.output else op))
        types = self.infer(n, ins) if typed and n.domain in STANDARD and not any(
            a.type == onnx.AttributeProto.GRAPH for a in n.attribute) else [("float32", None)] * len(n.output)
        for o, (dtype, shape) in zip(n.output, types):
            if o:
                self.env[o] = Value(self.claim(o), dtype, self._full(o, shape))


def unsupported(op: str, nodes: list[str]) -> str:
    from difflib import get_close_matches
    which = ", ".join(f"'{n}'" for n in nodes)
    advice = ADVICE.get(op)
    if op.startswith("com.microsoft.Q"):
        advice = "quantize the model with quant_format=QuantFormat.QDQ"
    if advice is None:
        near = [n for n in get_close_matches(snake(op.split(".")[-1]), OPS, n=1, cutoff=0.75)]
        advice = f"the nearest supported op is {near[0]}" if near else "write it with supported ops, or cut it off the model"
    return f"{op} is not supported (node{'s' if len(nodes) > 1 else ''} {which}): {advice}"
