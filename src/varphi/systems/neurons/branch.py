"""The equilibria of a membrane as a curve over V.

With every gate at its steady state x∞(V), an equilibrium at V needs exactly the current I_ss(V). So the curve of all
equilibria is the graph of I_ss, and what happens along it depends on V alone:

- folds (saddle-nodes) are the zeros of I_ss'(V);
- the Jacobian has an arrow's shape, its characteristic polynomial
  (λ - a) Π(λ + r_i) - Σ b_i c_i Π_{j≠i}(λ + r_j) with a = -∂J/∂V / C, b_i = -∂J/∂x_i / C, r_i = 1/τ_i, c_i = r_i x∞_i';
- Hopf points are zeros of its Hurwitz determinant of order n - 1 with an imaginary pair (Orlando's formula: the
  determinant is the product of all sums of two eigenvalues).

All of this over rigorous Taylor series in V.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from flint import arb, arb_series, ctx

from varphi.numbers.series import around, coefficients, lift, program
from varphi.numbers.straight import StraightLine

from .gates import VOLTAGE
from .model import Model

Number = Any  # an arb, an arb_series or an expression
_ONE = arb(1)


class Branch:
    """The curve of equilibria of one model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.gates = model.states[1:]
        by_voltage, by_gate = model.linear
        moves = [model.motions[name] for name in self.gates]
        parts = [
            model.steady_current,
            by_voltage,
            *by_gate,
            *(m.steady for m in moves),
            *(m.speed for m in moves if m.speed is not None),
        ]
        self._line = program([model.substituted(p) for p in parts], (VOLTAGE,))
        self.current_line = program([model.substituted(model.steady_current)], (VOLTAGE,))

    def current(self, v: arb_series) -> arb_series:
        """I_ss."""
        return self.current_line(v)[0]

    def fold(self, v: arb_series) -> arb_series:
        """I_ss', zero at folds."""
        return self.current(_longer(v)).derivative()

    def arrow(self, v: arb_series) -> tuple[Number, list[Number], list[Number], list[Number]]:
        """a, b, c, r of the Jacobian."""
        n = len(self.gates)
        found = self._line(_longer(v))
        capacitance = lift(self.model.values["C"])
        a, b = -found[1] / capacitance, [-f / capacitance for f in found[2 : 2 + n]]
        r = found[2 + 2 * n :]
        c = [speed * steady.derivative() for speed, steady in zip(r, found[2 + n : 2 + 2 * n], strict=True)]
        return a, b, c, r

    def hurwitz(self, v: arb_series) -> arb_series:
        """The Hurwitz determinant of order n - 1, zero where two eigenvalues add up to 0."""
        return hurwitz(characteristic(*self.arrow(v)))

    def state(self, v: arb) -> list[arb]:
        """The equilibrium at V: V and its gates."""
        n = len(self.gates)
        found = at(self._line, v, 1)
        return [v, *(f[0] for f in found[2 + n : 2 + 2 * n])]

    def jacobian_parts(self, v: arb) -> tuple[arb, list[arb], list[arb], list[arb]]:
        """a, b, c, r at a point."""
        with capped(2):
            a, b, c, r = self.arrow(around(v, 0, 2))
        return a[0], [x[0] for x in b], [x[0] for x in c], [x[0] for x in r]


def at(line: StraightLine, v: arb, terms: int) -> list[list[arb]]:
    """Taylor coefficients of a program's results at a point."""
    with capped(terms):
        return [coefficients(f, terms) for f in line(around(v, 0, terms))]


class capped:
    """flint's longest series, inside the block."""

    def __init__(self, terms: int) -> None:
        self.terms = terms

    def __enter__(self) -> None:
        self.before = ctx.cap
        ctx.cap = self.terms

    def __exit__(self, *_: object) -> None:
        ctx.cap = self.before


def _longer(v: arb_series) -> arb_series:
    """The variable with one term more, for a derivative to be taken."""
    ctx.cap = v.prec + 1
    return arb_series(list(v.coeffs()), v.prec + 1)


def characteristic(
    a: Number, b: Sequence[Number], c: Sequence[Number], r: Sequence[Number], one: Number = _ONE
) -> list[Number]:
    """The characteristic polynomial of the arrow, highest power first, the leading `one` included."""
    whole = _times_linear(_product(r, one), -a)
    for i in range(len(r)):
        rest = _product([*r[:i], *r[i + 1 :]], one)
        offset = len(whole) - len(rest)
        for k, coefficient in enumerate(rest):
            whole[offset + k] = whole[offset + k] - b[i] * c[i] * coefficient
    return whole


def _product(roots: Sequence[Number], one: Number) -> list[Number]:
    """Π(λ + r)."""
    found: list[Number] = [one]
    for r in roots:
        found = _times_linear(found, r)
    return found


def _times_linear(polynomial: Sequence[Number], constant: Number) -> list[Number]:
    shifted = [*polynomial, 0 * polynomial[0]]
    return [shifted[0], *(high + constant * low for low, high in itertools.pairwise(shifted))]


def hurwitz(polynomial: Sequence[Number], order: int | None = None) -> Number:
    """The Hurwitz determinant, by default of order n - 1, without divisions."""
    n = len(polynomial) - 1
    size = n - 1 if order is None else order

    def entry(i: int, j: int) -> Number:
        k = 2 * (j + 1) - (i + 1)
        return polynomial[k] if 0 <= k <= n else None

    def minor(row: int, columns: tuple[int, ...]) -> Number:
        if not columns:
            return polynomial[0]  # 1
        key = columns
        if key not in known:
            total: Number = None
            for place, column in enumerate(columns):
                e = entry(row, column)
                if e is None:
                    continue
                below = minor(row + 1, columns[:place] + columns[place + 1 :])
                if below is None:
                    continue
                term = e * below if place % 2 == 0 else -(e * below)
                total = term if total is None else total + term
            known[key] = total
        return known[key]

    known: dict[tuple[int, ...], Number] = {}
    found = minor(0, tuple(range(size)))
    return arb(0) if found is None else found


def squared_frequency(polynomial: Sequence[arb]) -> arb:
    """ω² of the pair ±iω that the polynomial has where its Hurwitz determinant of order n - 1 is 0; negative for ±ω.

    The even and the odd part, as polynomials in λ², share that root: Euclid's algorithm ends with the linear factor.
    """
    first, second = list(polynomial[0::2]), list(polynomial[1::2])
    while len(second) > 2:
        first, second = second, _remainder(first, second)
    linear = second if len(second) == 2 else first
    return linear[1] / linear[0]


def _remainder(a: list[arb], b: list[arb]) -> list[arb]:
    """a mod b, highest powers first; its degree is taken as one less than b's."""
    rest = list(a)
    while len(rest) >= len(b):
        factor = rest[0] / b[0]
        rest = [x - factor * (b[i] if i < len(b) else 0) for i, x in enumerate(rest)][1:]
    return rest
