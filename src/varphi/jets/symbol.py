"""Symbols: linear differential operators with constant coefficients, as polynomials.

∂xx + 3 ∂xy has the symbol ξx² + 3 ξx ξy. Applied to a function of a function, an operator asks for those derivatives of
the inner one whose symbols are the partial derivatives of its own symbol, since p(ξ + η) = Σ ∂^β p(ξ) η^β / β!.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import TypeAlias

# A monomial ξ0^2 ξ2 in three variables is (2, 0, 1).
Monomial: TypeAlias = "tuple[int, ...]"
Symbol: TypeAlias = "Mapping[Monomial, Fraction]"


def degree(symbol: Symbol) -> int:
    """The highest order of derivative."""
    return max((sum(m) for m in symbol), default=0)


def partial(symbol: Symbol, axis: int) -> dict[Monomial, Fraction]:
    """The derivative of the polynomial by one variable."""
    return {
        (*m[:axis], m[axis] - 1, *m[axis + 1 :]): coefficient * m[axis]
        for m, coefficient in symbol.items()
        if m[axis] > 0
    }


def monomial(axes: Iterable[int], dimensions: int) -> dict[Monomial, Fraction]:
    """The symbol of ∂ along these axes: (0, 0, 1) is ∂²/∂x0² ∂/∂x1."""
    powers = [0] * dimensions
    for axis in axes:
        powers[axis] += 1
    return {tuple(powers): Fraction(1)}


def laplacian(dimensions: int, power: int = 1) -> dict[Monomial, Fraction]:
    """|ξ|^(2 power), the symbol of the Laplacian applied `power` times."""
    one = {(0,) * dimensions: Fraction(1)}
    square = {m: c for axis in range(dimensions) for m, c in monomial((axis, axis), dimensions).items()}
    for _ in range(power):
        one = product(one, square)
    return one


def product(a: Symbol, b: Symbol) -> dict[Monomial, Fraction]:
    """The symbol of one operator after the other."""
    found: dict[Monomial, Fraction] = {}
    for (m, p), (n, q) in itertools.product(a.items(), b.items()):
        place = tuple(i + j for i, j in zip(m, n, strict=True))
        found[place] = found.get(place, Fraction(0)) + p * q
    return {m: c for m, c in found.items() if c}


def homogeneous_parts(symbol: Symbol) -> list[dict[Monomial, Fraction]]:
    """Its terms by order of derivative, lowest first."""
    orders = sorted({sum(m) for m in symbol})
    return [{m: c for m, c in symbol.items() if sum(m) == order} for order in orders]


def closure(symbols: Iterable[Symbol], dimensions: int) -> list[dict[Monomial, Fraction]]:
    """A basis of the space spanned by homogeneous symbols and all their partial derivatives, by degree, 1 first.

    Within a degree it is in reduced echelon form: each basis symbol has a monomial (its first, in lexicographic order
    from x0² down) that occurs in no other.
    """
    levels: dict[int, list[Symbol]] = {0: [{(0,) * dimensions: Fraction(1)}]}
    for symbol in symbols:
        levels.setdefault(degree(symbol), []).append(symbol)
    basis: list[dict[Monomial, Fraction]] = []
    for order in range(max(levels), -1, -1):
        reduced = echelon(levels.get(order, []))
        levels.setdefault(order - 1, []).extend(
            below for s in reduced for axis in range(dimensions) if (below := partial(s, axis))
        )
        basis = reduced + basis
    return basis


def echelon(symbols: Iterable[Symbol]) -> list[dict[Monomial, Fraction]]:
    """The reduced echelon basis of the span of symbols of one degree."""
    rows: dict[Monomial, dict[Monomial, Fraction]] = {}
    for symbol in symbols:
        row = dict(symbol)
        for pivot, other in rows.items():
            row = minus(row, row.get(pivot, Fraction(0)), other)
        if not row:
            continue
        pivot = max(row)
        row = {m: c / row[pivot] for m, c in row.items()}
        rows = {p: minus(other, other.get(pivot, Fraction(0)), row) for p, other in rows.items()} | {pivot: row}
    return [rows[pivot] for pivot in sorted(rows, reverse=True)]


def minus(row: Symbol, factor: Fraction, other: Symbol) -> dict[Monomial, Fraction]:
    """row - factor · other."""
    if not factor:
        return dict(row)
    places = {*row, *other}
    found = {m: row.get(m, Fraction(0)) - factor * other.get(m, Fraction(0)) for m in places}
    return {m: c for m, c in found.items() if c}
