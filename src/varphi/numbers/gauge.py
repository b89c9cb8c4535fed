"""Gauges: the scale of growth X^p · exp(-Σ r X^k e^(ρX)) against which tails are measured.

The exponent is a sum of monomials X^k e^(ρX), so e^(-X), e^(-X²/2) and e^(-e^X) are all gauges, and any two can be
compared, multiplied and divided exactly.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TypeAlias

from flint import arb

from .ball import BALL_OPERATIONS, Ball, point

# (ρ, k): the monomial X^k e^(ρX) of an exponent; a larger pair grows faster.
Monomial: TypeAlias = "tuple[Fraction, Fraction]"
Rates: TypeAlias = "tuple[tuple[Monomial, Fraction], ...]"

_ZERO, _ONE, _INF = arb(0), arb(1), arb.pos_inf()
_NOTHING = Fraction(0)
LINEAR: Monomial = (_NOTHING, Fraction(1))


class Gauge:
    """X^power · exp(-Σ rate·M(X)) · κ over the pairs (M, rate) of `rates`, fastest monomial first.

    κ is (2π)^(-1/2) and π^(-1/2) to the two exponents in `constants`: kept apart so that they cancel exactly.
    Equal gauges are the same object. `growth` is 1 where it tends to infinity, -1 where to 0, 0 where it is constant.
    """

    __slots__ = ("_products", "_range", "constants", "growth", "is_one", "power", "rates")

    rates: Rates
    power: Fraction
    constants: tuple[int, int]
    growth: int
    is_one: bool

    def __new__(cls, rates: Rates = (), power: Fraction | int = _NOTHING, constants: tuple[int, int] = (0, 0)) -> Gauge:
        key = (rates, power, constants)
        known = _GAUGES.get(key)
        if known is not None:
            return known
        gauge = object.__new__(cls)
        gauge.rates, gauge.power, gauge.constants = rates, Fraction(power), constants
        gauge.growth = (-1 if rates[0][1] > 0 else 1) if rates else (power > 0) - (power < 0)
        gauge.is_one = not rates and not power and constants == (0, 0)
        gauge._products = {}
        gauge._range = None
        _GAUGES[key] = gauge
        return gauge

    def __repr__(self) -> str:
        return f"Gauge({self.rates!r}, {self.power!r}, {self.constants!r})"

    def times(self, other: Gauge) -> Gauge:
        product = self._products.get(other)
        if product is None:
            product = self._products[other] = self._combined(other, 1)
        return product

    def over(self, other: Gauge) -> Gauge:
        key = (other, "over")
        ratio = self._products.get(key)
        if ratio is None:
            ratio = self._products[key] = self._combined(other, -1)
        return ratio

    def _combined(self, other: Gauge, sign: int) -> Gauge:
        rates = dict(self.rates)
        for monomial, rate in other.rates:
            rates[monomial] = rates.get(monomial, _NOTHING) + sign * rate
        kept = tuple(sorted(((m, r) for m, r in rates.items() if r), reverse=True))
        constants = (self.constants[0] + sign * other.constants[0], self.constants[1] + sign * other.constants[1])
        return Gauge(kept, self.power + sign * other.power, constants)

    def to_the(self, q: Fraction) -> Gauge | None:
        """The q-th power; None where that leaves the constants' whole exponents."""
        constants = [c * q for c in self.constants]
        if any(c.denominator != 1 for c in constants):
            return None
        rates = tuple((m, r * q) for m, r in self.rates)
        return Gauge(rates if q else (), self.power * q, (int(constants[0]), int(constants[1])))

    def inverse(self) -> Gauge:
        return FLAT.over(self)

    def constant(self) -> arb:
        """κ."""
        m, n = self.constants
        value = _ONE
        if m:
            value = value * (2 * arb.pi()).sqrt() ** (-m)
        return value * arb.pi().sqrt() ** (-n) if n else value

    def range(self, start: arb) -> Ball:
        """A ball around the values on [start, inf)."""
        # Tails are computed for one start after the other: the last one's range is all that is asked again.
        if self._range is None or self._range[0] is not start:
            self._range = (start, self._find_range(start))
        return self._range[1]

    def _find_range(self, start: arb) -> Ball:
        scale = Ball(self.constant())
        if self.growth == 0:
            return scale
        if self.growth > 0:
            most = Gauge(tuple((m, -r) for m, r in self.rates), -self.power)._highest(start)
            return Ball(1 / most if most.is_finite() and most > _ZERO else _ZERO, _INF) * scale
        return Ball(_ZERO, self._highest(start)) * scale

    def _highest(self, start: arb) -> arb:
        """An upper bound on [start, inf), without κ, of a gauge that tends to 0."""
        if not self.rates:
            return _power(start, self.power).hi
        (leading, rate), *rest = self.rates
        if not _rises(leading, start):
            return _INF
        left = point(rate)
        first = _monomial(leading, start)
        helpful = Ball(_ONE)
        for m, r in rest:
            if r > 0:
                # exp(-r M) is at most 1, and at most its value at the start where M rises.
                if _rises(m, start):
                    helpful = helpful * _exp(-(_monomial(m, start) * Ball(point(r))))
            elif _falls_behind(m, leading, start):
                left = left - (_monomial(m, start) / first * Ball(point(-r))).hi
            else:
                return _INF
        if not left > 0:
            return _INF
        at = start
        if self.power > 0:
            rho, k = leading
            if rho == 0:
                at = arb.max(start, (point(self.power / k) / left) ** point(1 / k))
            elif not (left * first.lo * (point(rho) * start + point(k)) >= point(self.power)):
                return _INF
        value = _power(at, self.power) * _exp(-(_monomial(leading, at) * Ball(left))) * helpful
        return value.hi


_GAUGES: dict[tuple[Rates, Fraction | int, tuple[int, int]], Gauge] = {}
FLAT = Gauge()


def _exp(x: Ball) -> Ball:
    return BALL_OPERATIONS["exp"](x)


def _power(x: arb, k: Fraction) -> Ball:
    if k == 0:
        return Ball(_ONE)
    return Ball(x) ** (int(k) if k.denominator == 1 else k)


def _monomial(m: Monomial, x: arb) -> Ball:
    rho, k = m
    value = _power(x, k)
    return value * _exp(Ball(x * point(rho))) if rho else value


def _rises(m: Monomial, start: arb) -> bool:
    """Whether the monomial rises on [start, inf)."""
    rho, k = m
    return (rho >= 0 and k >= 0) or (rho > 0 and bool(point(rho) * start >= point(-k)))


def _falls_behind(slow: Monomial, fast: Monomial, start: arb) -> bool:
    """Whether slow/fast falls on [start, inf)."""
    rho, k = fast[0] - slow[0], slow[1] - fast[1]
    if rho == 0:
        return k <= 0
    return rho > 0 and (k <= 0 or bool(point(rho) * start >= point(k)))
