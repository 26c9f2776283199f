"""Arithmetic on dimensions: ints, and polynomials over named ones ("N", "2*N", "12*N+1").

Only what can be proved is said; everything else raises `Unknown`. Named dimensions are at least 0.
"""
from __future__ import annotations

import re

ATOM = re.compile(r"[A-Za-z_][\w.]*$")


class Unknown(Exception):
    """The result cannot be written as a polynomial, or the question has no provable answer."""


class Poly:
    """A polynomial with int coefficients; `terms` maps sorted tuples of names to coefficients, none of them 0."""

    def __init__(self, terms: dict[tuple[str, ...], int]):
        self.terms = {k: v for k, v in terms.items() if v}

    def _key(self):
        return frozenset(self.terms.items())

    def __hash__(self):
        return hash(self._key())

    def __eq__(self, other):
        if isinstance(other, Poly):
            return self._key() == other._key()
        return False if isinstance(other, int) else NotImplemented

    def __add__(self, other):
        terms = dict(self.terms)
        for k, v in _terms(other).items():
            terms[k] = terms.get(k, 0) + v
        return simple(Poly(terms))

    def __mul__(self, other):
        terms: dict[tuple[str, ...], int] = {}
        for a, x in self.terms.items():
            for b, y in _terms(other).items():
                k = tuple(sorted(a + b))
                terms[k] = terms.get(k, 0) + x * y
        return simple(Poly(terms))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return self * -1

    def __sub__(self, other):
        return self + other * -1

    def __rsub__(self, other):
        return self * -1 + other

    def __floordiv__(self, other):
        return divide(self, other)

    def __rfloordiv__(self, other):
        return divide(other, self)

    def __str__(self):
        parts = []
        for names, c in sorted(self.terms.items(), key=lambda t: (-len(t[0]), t[0])):
            parts.append("*".join(([str(c)] if c != 1 or not names else []) + list(names)))
        return "+".join(parts).replace("+-", "-")

    __repr__ = __str__


Expr = int | Poly


def _terms(e: Expr) -> dict[tuple[str, ...], int]:
    return e.terms if isinstance(e, Poly) else {(): int(e)}


def simple(e: Expr) -> Expr:
    """An int when there is no name left."""
    if isinstance(e, Poly) and all(k == () for k in e.terms):
        return e.terms.get((), 0)
    return e


def divide(a: Expr, b: Expr) -> Expr:
    """a / b when it comes out even, for all sizes; Unknown otherwise."""
    if not isinstance(a, Poly) and not isinstance(b, Poly):
        if b == 0:
            raise Unknown
        return a // b
    if a == b:
        return 1
    divisor = _terms(b)
    if len(divisor) != 1:
        raise Unknown
    (names, c), = divisor.items()
    terms = {}
    for k, v in _terms(a).items():
        left = list(k)
        for n in names:
            if n not in left:
                raise Unknown
            left.remove(n)
        if c == 0 or v % c:
            raise Unknown
        terms[tuple(left)] = v // c
    return simple(Poly(terms))


def parse(dim: int | str) -> Expr:
    """The expression of a dimension as a Value's shape holds it. A text that is no polynomial is one name."""
    if isinstance(dim, int):
        return dim
    total: Expr = 0
    text = dim.replace(" ", "")
    for part in re.findall(r"[+-]?[^+-]+", text):
        sign = -1 if part[0] == "-" else 1
        term: Expr = sign
        for factor in part.lstrip("+-").split("*"):
            if factor.isdigit():
                term = term * int(factor)
            elif ATOM.match(factor):
                term = term * Poly({(factor,): 1})
            else:
                return Poly({(dim,): 1})
        total = total + term
    return total


def dim(e: Expr) -> int | str:
    """The dimension that a Value's shape holds for an expression."""
    return str(e) if isinstance(e, Poly) else int(e)


def product(dims) -> Expr:
    total: Expr = 1
    for d in dims:
        total = total * d
    return total


def same(a: Expr, b: Expr) -> bool:
    """Whether a == b for every size; Unknown when it depends."""
    if not isinstance(a, Poly) and not isinstance(b, Poly):
        return a == b
    if a == b:
        return True
    difference = simple(a - b if isinstance(a, Poly) else -(b - a))
    if isinstance(difference, int):
        return difference == 0
    constant = difference.terms.get((), 0)
    others = [v for k, v in difference.terms.items() if k]
    if constant > 0 and min(others) > 0 or constant < 0 and max(others) < 0:
        return False  # named dimensions are not negative
    raise Unknown
