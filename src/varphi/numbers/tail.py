"""Tails: functions on a half-line [A, inf) as short asymptotic sums with proved remainders.

Half-line balls alone cannot bound x·sigmoid(-x): [A, inf) times [0, tiny] is [0, inf). A tail keeps growth apart from
size: it is a sum of terms c · X^p · e^(-r₁X - r₂X² - ...), largest first, with exact rational coefficients as far as
they are known and a ball for the remainder, valid for every X >= A. Leading terms cancel exactly, so the sign of
X/(1+X) - 1 or of the second derivative of x·Φ(x) is proved up to infinity. Evaluating an expression over the tail of x
thus gives its bounds, its sign, its limit and how fast it grows.

The expansions are the classical ones: binomial and Taylor series with Lagrange's remainder, and the alternating series
of erfc (Abramowitz & Stegun 7.1.23), whose partial sums enclose it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cached_property, cmp_to_key
from numbers import Real
from typing import Any, TypeAlias

from flint import arb, fmpq

from . import elementary
from ._system import System, register
from .ball import BALL_OPERATIONS, UNDECIDED, Ball, ball, point
from .exact import fraction_power
from .gauge import FLAT, LINEAR, Gauge, Monomial
from .jet import Jet

_ZERO, _ONE, _INF, _NEG_INF = arb(0), arb(1), arb.pos_inf(), arb.neg_inf()
_EVERYTHING = Ball(_NEG_INF, _INF)
_UNIT = Ball(0, 1)
_ABOVE_ONE = Ball(_ONE, _INF)
_HALF = Fraction(1, 2)
# Decay faster than this rate is bounded by it where the exponent is not a polynomial.
_FASTEST = 2**20
_TERMS = 6
_SERIES = 4
_RATIONAL_ZERO = fmpq(0)

Coefficient: TypeAlias = "fmpq | Ball"


Term: TypeAlias = "tuple[Coefficient, Gauge]"


def _larger_first(a: Gauge, b: Gauge) -> int:
    """Negative where a outgrows b."""
    return -a.over(b).growth


def _numeric(c: Coefficient) -> Ball:
    return c if isinstance(c, Ball) else Ball(arb(c))


def _is_exact_zero(c: Coefficient) -> bool:
    if isinstance(c, fmpq):
        return c == 0
    return bool(c.lo.is_zero() and c.hi.is_zero())


def _is_wide(c: Coefficient) -> bool:
    return isinstance(c, Ball) and c.lo is not c.hi


def _plus(a: Coefficient, b: Coefficient) -> Coefficient:
    return a + b if isinstance(a, fmpq) and isinstance(b, fmpq) else _numeric(a) + _numeric(b)


def _scaled(a: Coefficient, b: Coefficient) -> Coefficient:
    return a * b if isinstance(a, fmpq) and isinstance(b, fmpq) else _numeric(a) * _numeric(b)


def _arranged(terms: Sequence[Term], start: arb) -> tuple[Term, ...]:
    """Terms merged, sorted, and the ones beyond the first few gathered in a remainder."""
    merged: dict[Gauge, Coefficient] = {}
    for c, gauge in terms:
        if gauge.surd != 1 and (root := fraction_power(gauge.surd, Fraction(1, 2))) is not None:
            c, gauge = _scaled(c, rational(root)), Gauge(gauge.rates, gauge.power, gauge.constants)
        merged[gauge] = _plus(merged[gauge], c) if gauge in merged else c
    kept = [(c, g) for g, c in merged.items() if not _is_exact_zero(c)]
    kept.sort(key=cmp_to_key(lambda a, b: _larger_first(a[1], b[1])))
    last = next((i for i, (c, _) in enumerate(kept) if _is_wide(c)), len(kept))
    last = min(last, _TERMS - 1)
    if len(kept) <= last + 1:
        return tuple(kept)
    gauge = kept[last][1]
    rest = _gathered(kept[last:], gauge, start)
    return (*kept[:last], (rest, gauge))


def _gathered(terms: Sequence[Term], gauge: Gauge, start: arb) -> Ball:
    """The sum of the terms as a coefficient of `gauge`, which none of them outgrows."""
    total = Ball(0)
    for c, g in terms:
        total = total + (_numeric(c) if g == gauge else _numeric(c) * g.over(gauge).range(start))
    return total


class Tail:
    """A sum of terms on [start, inf), largest first; no terms: zero.

    Attributes:
        terms: (coefficient, gauge) pairs; a coefficient that is a wide ball varies with X inside it.
        sign: the sign that the function certainly has on all of [start, inf), else None.
        logarithm: (w, q) where the function is q ln(w) and w outgrows every bound: then its exp is w^q.
    """

    def __init__(
        self,
        start: arb,
        terms: Sequence[Term],
        sign: int | None = None,
        logarithm: tuple[Tail, Fraction] | None = None,
    ) -> None:
        self.start = start
        self.logarithm = logarithm
        self.terms = _arranged(terms, start)
        self._sign = sign

    def __repr__(self) -> str:
        return f"Tail({self.terms!r}, X >= {float(self.start):g})"

    @cached_property
    def leading(self) -> tuple[Ball, Gauge]:
        """The whole function as one coefficient of the largest gauge."""
        if not self.terms:
            return Ball(0), FLAT
        gauge = self.terms[0][1]
        return _gathered(self.terms, gauge, self.start), gauge

    @cached_property
    def sign(self) -> int | None:
        if self._sign is not None:
            return self._sign
        if not self.terms:
            return 0
        c = self.leading[0]
        return 1 if c.lo > 0 else -1 if c.hi < 0 else None

    @cached_property
    def order(self) -> int | None:
        """1 where the function certainly outgrows every bound, -1 where it tends to 0, 0 where it stays bounded."""
        if not self.terms:
            return -1
        if self.logarithm is not None and self.sign in (1, -1):
            return 1
        c, gauge = self.leading
        if gauge.growth > 0:
            first = _numeric(self.terms[0][0])
            return None if c.may_contain(0) or first.may_contain(0) else 1
        if not c.is_finite():
            return None
        return gauge.growth

    @cached_property
    def hull(self) -> Ball:
        """A ball around all values on [start, inf)."""
        c, gauge = self.leading
        value = c * gauge.range(self.start)
        total = Ball(0)
        for coefficient, g in self.terms:
            total = total + _numeric(coefficient) * g.range(self.start)
        value = value.intersection(total)
        if self.sign == 1 and not value.lo >= 0:
            return Ball(_ZERO, value.hi)
        if self.sign == -1 and not value.hi <= 0:
            return Ball(value.lo, _ZERO)
        return value

    @property
    def scale(self) -> Ball | None:
        """The limit of the function over its largest gauge without constants; None where a coefficient varies."""
        total = Ball(0)
        for c, gauge in self.terms:
            if gauge.over(self.terms[0][1]).growth:
                break
            if _is_wide(c):
                return None
            total = total + _numeric(c) * Ball(gauge.constant())
        return total

    def limit(self) -> Ball:
        """The limit at infinity; a ball around everything that far values do, where there is none."""
        if not self.terms:
            return Ball(0)
        if self.order == -1:
            return Ball(0)
        if self.order == 1:
            return Ball(_INF) if self.sign == 1 else Ball(_NEG_INF)
        if self.order == 0 and (value := self.scale) is not None:
            return value
        return self.hull

    def split(self) -> tuple[list[Term], Coefficient | None, list[Term]]:
        """The terms that grow, the constant (None: it varies), the terms that vanish."""
        grow = [t for t in self.terms if t[1].growth > 0]
        vanish = [t for t in self.terms if t[1].growth < 0]
        flat = [t for t in self.terms if t[1].growth == 0]
        if any(_is_wide(c) for c, _ in flat):
            return grow, None, vanish
        total: Coefficient = _RATIONAL_ZERO
        for c, gauge in flat:
            total = _plus(total, c if gauge.is_one else _numeric(c) * Ball(gauge.constant()))
        return grow, total, vanish


def variable_tail(start: arb, right: bool) -> Tail:
    """The tail of x itself: on [start, inf), or on (-inf, -start] where x = -X."""
    return Tail(start, [(fmpq(1 if right else -1), Gauge(power=1))])


def rational(value: Any) -> fmpq:
    """A finite real number as the rational it is."""
    exact = Fraction(value)
    return fmpq(exact.numerator, exact.denominator)


def _fraction_of(value: fmpq) -> Fraction:
    return Fraction(int(value.p), int(value.q))


def coefficient(value: Any) -> Coefficient:
    """A constant as the coefficient of a term: exact where it is rational, else a ball."""
    if isinstance(value, fmpq):
        return value
    if isinstance(value, Real) and math.isfinite(value):
        return rational(value)
    value = ball(value)
    if value.lo is value.hi and value.lo.is_exact() and value.lo.is_finite() and (f := _fraction(value.lo)) is not None:
        return f
    return value


def _fraction(x: arb) -> fmpq | None:
    mantissa, exponent = x.man_exp()
    exponent = int(exponent)
    if abs(exponent) > 4000:
        return None
    return fmpq(mantissa) * (fmpq(2**exponent) if exponent >= 0 else fmpq(1, 2**-exponent))


def _constant(value: Any, like: Tail) -> Tail:
    return Tail(like.start, [(coefficient(value), FLAT)])


def _ranging(value: Ball, like: Tail, sign: int | None = None) -> Tail:
    """Some function with values in the ball."""
    if value.lo is value.hi:
        value = Ball(value.lo, value.lo + 0)  # a ball that varies is never taken for a constant
    return Tail(like.start, [(value, FLAT)], sign)


def _lift(value: Any, like: Tail) -> Tail:
    return value if isinstance(value, Tail) else _constant(value, like)


def _both(a: Any, b: Any) -> tuple[Tail, Tail]:
    like = a if isinstance(a, Tail) else b
    return _lift(a, like), _lift(b, like)


def _unknown(like: Tail) -> Tail:
    return _ranging(_EVERYTHING, like)


def _add(a: Any, b: Any) -> Tail:
    a, b = _both(a, b)
    if a.sign == 0 or b.sign == 0:
        return b if a.sign == 0 else a
    return Tail(a.start, [*a.terms, *b.terms], a.sign if a.sign == b.sign else None)


def _neg(a: Tail) -> Tail:
    logarithm = None if a.logarithm is None else (a.logarithm[0], -a.logarithm[1])
    return Tail(a.start, [(-c, g) for c, g in a.terms], None if a.sign is None else -a.sign, logarithm)


def _sub(a: Any, b: Any) -> Tail:
    a, b = _both(a, b)
    return Tail(a.start, []) if a is b else _add(a, _neg(b))


def _mul(a: Any, b: Any) -> Tail:
    if a is b:
        return _whole_power(a, 2)
    a, b = _both(a, b)
    sign = None if a.sign is None or b.sign is None else a.sign * b.sign
    logarithm = _scaled_logarithm(a, b) or _scaled_logarithm(b, a)
    return Tail(a.start, [(_scaled(c, d), g.times(h)) for c, g in a.terms for d, h in b.terms], sign, logarithm)


def _rational(a: Tail) -> Fraction | None:
    """The constant that a tail is, where it is one and rational."""
    if len(a.terms) != 1 or not a.terms[0][1].is_one or not isinstance(a.terms[0][0], fmpq):
        return None
    return _fraction_of(a.terms[0][0])


def _scaled_logarithm(a: Tail, b: Tail) -> tuple[Tail, Fraction] | None:
    factor = _rational(b)
    return None if a.logarithm is None or not factor else (a.logarithm[0], a.logarithm[1] * factor)


def _whole_power(a: Tail, n: int) -> Tail:
    if n < 0:
        return _reciprocal(_whole_power(a, -n))
    if n == 0:
        return _constant(1, a)
    result, base = None, a
    sign = None if a.sign is None else a.sign**n
    while n:
        if n & 1:
            result = base if result is None else _mul(result, base)
        n >>= 1
        if n:
            even = _mul(base, Tail(base.start, base.terms, base.sign))
            base = Tail(even.start, even.terms, 1 if base.sign in (1, -1) else even.sign)
    assert result is not None
    return Tail(result.start, result.terms, sign if sign is not None else result.sign)


def _polynomial_in(small: Tail, coefficients: Sequence[Coefficient], remainder: Ball) -> Tail:
    """Σ coefficients[j] small^j + remainder · small^n, n their number."""
    rest = _ranging(remainder, small)
    value = rest
    for c in reversed(coefficients):
        value = _add(_constant(c, small), _mul(value, small))
    return value


def _relative(a: Tail) -> tuple[Coefficient, Gauge, Tail] | None:
    """a = c·gauge·(1 + δ) with δ tending to 0, |δ| < 1; None where the leading term is not known well enough."""
    if not a.terms:
        return None
    c, gauge = a.terms[0]
    if _is_wide(c) or _numeric(c).may_contain(0):
        return None
    inverse = 1 / c if isinstance(c, fmpq) else 1 / _numeric(c)
    delta = Tail(a.start, [(_scaled(d, inverse), g.over(gauge)) for d, g in a.terms[1:]])
    if delta.terms and (delta.order != -1 or not delta.hull.lo > -1):
        return None
    return c, gauge, delta


def _with_zero(b: Ball) -> Ball:
    return Ball(b.lo if b.lo < 0 else _ZERO, b.hi if b.hi > 0 else _ZERO)


def _reciprocal(b: Tail) -> Tail:
    parts = _relative(b)
    if parts is not None:
        c, gauge, delta = parts
        lead = Tail(b.start, [(1 / c, gauge.inverse())], b.sign)
        if not delta.terms:
            return lead
        signs: list[Coefficient] = [fmpq((-1) ** j) for j in range(_SERIES)]
        series = _polynomial_in(delta, signs, Ball((-1) ** _SERIES) / (1 + delta.hull))
        value = _mul(lead, series)
        return Tail(value.start, value.terms, b.sign)
    if b.sign in (None, 0):
        return _unknown(b)
    c, gauge = b.leading
    # A strict sign excludes 0 even where the coefficient's ball touches it.
    c = Ball(c.lo if c.lo > 0 else _ZERO, c.hi) if b.sign == 1 else Ball(c.lo, c.hi if c.hi < 0 else _ZERO)
    if c.lo.is_zero() and c.hi.is_zero():
        return _unknown(b)
    return Tail(b.start, [(1 / c, gauge.inverse())], b.sign)


def _div(a: Any, b: Any) -> Tail:
    a, b = _both(a, b)
    if b.sign == 0:
        return _unknown(a)
    return _mul(a, _reciprocal(b)) if a is not b else _constant(1, a)


def _pow(a: Any, p: Any) -> Tail:
    if isinstance(p, Tail) and (plain := _rational(p)) is not None:
        p = plain
    if not isinstance(p, Real):
        a, p = _both(a, p)
        return _exp(_mul(p, _log(a)))
    q = Fraction(p)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if q.denominator == 1:
        return _whole_power(a, int(q))
    if a.sign == 0:
        return a if q > 0 else _unknown(a)
    if a.sign != 1:
        return _unknown(a)
    parts = _relative(a)
    root = None if parts is None else parts[1].to_the(q)
    if parts is None or root is None:
        if q < 0:
            return _reciprocal(_pow(a, -q))
        c, gauge = a.leading
        root = gauge.to_the(q)
        c = Ball(c.lo if c.lo > 0 else _ZERO, c.hi)
        return _unknown(a) if root is None else Tail(a.start, [(_as_wide(c**q), root)], 1)
    c, _, delta = parts
    exact = fraction_power(_fraction_of(c), q) if isinstance(c, fmpq) else None
    if exact is not None:
        lead = Tail(a.start, [(rational(exact), root)], 1)
    elif isinstance(c, fmpq) and q.denominator == 2:  # a surd, kept exact
        surd = Tail(a.start, [(fmpq(1), Gauge(surd=_fraction_of(c) ** int(2 * q)))])
        lead = _mul(surd, Tail(a.start, [(fmpq(1), root)], 1))
    else:
        lead = Tail(a.start, [(coefficient(_numeric(c) ** q), root)], 1)
    if not delta.terms:
        return lead
    binomial = [Fraction(1)]
    for j in range(1, _SERIES + 1):
        binomial.append(binomial[-1] * (q - j + 1) / j)
    remainder = Ball(point(binomial[-1])) * (1 + _with_zero(delta.hull)) ** (q - _SERIES)
    value = _mul(lead, _polynomial_in(delta, [rational(c) for c in binomial[:-1]], remainder))
    return Tail(value.start, value.terms, 1)


def _as_wide(b: Ball) -> Ball:
    return Ball(b.lo, b.hi + 0) if b.lo is b.hi else b


# ------------------------------------------------------------------------------------------------ exp


def _exp(u: Tail) -> Tail:
    if u.logarithm is not None:
        return _pow(*u.logarithm)
    grow, flat, vanish = u.split()
    if flat is None or (not grow and u.order not in (0, -1)):
        return _ranging(BALL_OPERATIONS["exp"](u.hull), u, 1)
    value = _exp_growing(Tail(u.start, grow)) if grow else _constant(1, u)
    if flat:
        value = _mul(value, _constant(BALL_OPERATIONS["exp"](_numeric(flat)), u))
    if vanish:
        delta = Tail(u.start, vanish)
        if not delta.hull.is_finite():
            return _ranging(BALL_OPERATIONS["exp"](u.hull), u, 1)
        coefficients: list[Coefficient] = [fmpq(1, math.factorial(j)) for j in range(_SERIES)]
        remainder = BALL_OPERATIONS["exp"](_with_zero(delta.hull)) / math.factorial(_SERIES)
        value = _mul(value, _polynomial_in(delta, coefficients, remainder))
    return Tail(value.start, value.terms, 1)


def _exp_growing(u: Tail) -> Tail:
    monomials = [_monomial(g) if isinstance(c, fmpq) else None for c, g in u.terms]
    if None not in monomials:
        rates = [
            (m, -_fraction_of(c))
            for m, (c, _) in zip(monomials, u.terms, strict=True)
            if m is not None and isinstance(c, fmpq)
        ]
        return Tail(u.start, [(fmpq(1), Gauge(tuple(sorted(rates, reverse=True))))], 1)
    if u.order != 1:
        return _ranging(BALL_OPERATIONS["exp"](u.hull), u, 1)
    c, gauge = u.leading
    least = c.lo if u.sign == 1 else -c.hi  # |u| >= least · gauge
    # ... and gauge >= X · (its least value over X) where it grows at least so fast; else X^power keeps its own rate.
    k = Fraction(1) if gauge.rates or gauge.power >= 1 else gauge.power
    factor = gauge.over(Gauge(power=k)).range(u.start).lo
    slope = least * factor
    rate = _rate_below(slope)
    if u.sign == 1:
        return Tail(u.start, [(_ABOVE_ONE, Gauge((((Fraction(0), k), -rate),) if rate else ()))], 1)
    return Tail(u.start, [(_UNIT, Gauge((((Fraction(0), k), rate),) if rate else ()))], 1)


def _monomial(gauge: Gauge) -> Monomial | None:
    """The gauge as a monomial X^k e^(ρX) of an exponent, if it is one."""
    if gauge.constants != (0, 0) or gauge.surd != 1:
        return None
    if not gauge.rates:
        return Fraction(0), gauge.power
    if len(gauge.rates) == 1 and gauge.rates[0][0] == LINEAR:
        return -gauge.rates[0][1], gauge.power
    return None


def _rate_below(value: arb) -> Fraction:
    """A rational not above the positive `value`."""
    lower = value.lower()
    if not lower.is_finite() or lower > _FASTEST:
        return Fraction(_FASTEST) if lower > 0 or value > 0 else Fraction(0)
    exact = _fraction(lower)
    return _fraction_of(exact) if exact is not None and exact > 0 else Fraction(0)


# ------------------------------------------------------------------------------------------------ bounded arguments


def _taylor(name: str, u: Tail, extra: tuple[Any, ...] = (), sign: int | None = None) -> Tail:
    """f(u) for bounded u: the Taylor series of f where u tends to a constant, else the ball of its values."""
    function = BALL_OPERATIONS[name]
    grow, flat, vanish = u.split()
    if grow or flat is None or not u.hull.is_finite():
        return _ranging(function(u.hull, *extra), u, sign)
    centre = _numeric(flat)
    if not vanish:
        return _constant(function(centre, *extra), u)
    delta = Tail(u.start, vanish)
    reach = _with_zero(delta.hull) + centre
    at_centre = _coefficients(name, centre, extra)
    over = _coefficients(name, reach, extra)
    if not over[_SERIES].is_finite():
        return _ranging(function(u.hull, *extra), u, sign)
    value = _polynomial_in(delta, [coefficient(c) for c in at_centre[:_SERIES]], over[_SERIES])
    return Tail(value.start, value.terms, sign)


def _coefficients(name: str, at: Ball, extra: tuple[Any, ...]) -> list[Ball]:
    jet = Jet([at, 1, *[0] * (_SERIES - 1)])
    function = getattr(elementary, name)
    result = function(jet, *extra)
    return [ball(c) for c in result.c]


def _bounded(name: str, large: Callable[[Tail], Tail], sign: Callable[[Tail], int | None] | None = None) -> Any:
    def apply(u: Tail) -> Tail:
        known = sign(u) if sign else None
        if u.order == 1:
            value = large(u)
            return Tail(value.start, value.terms, known if known is not None else value.sign, value.logarithm)
        return _taylor(name, u, sign=known)

    return apply


def _odd(rule: Callable[[Tail], Tail]) -> Callable[[Tail], Tail]:
    return lambda u: rule(u) if u.sign == 1 else _neg(rule(_neg(u)))


def _even(rule: Callable[[Tail], Tail]) -> Callable[[Tail], Tail]:
    return lambda u: rule(u) if u.sign == 1 else rule(_neg(u))


def _same_sign(u: Tail) -> int | None:
    return u.sign


def _positive(u: Tail) -> int | None:
    return 1


# ------------------------------------------------------------------------------------------------ growing arguments


def _sigmoid_large(u: Tail) -> Tail:
    e = _exp(_neg(u) if u.sign == 1 else u)
    return _div(1 if u.sign == 1 else e, _add(1, e))


def _softplus_large(u: Tail) -> Tail:
    if u.sign == 1:
        return _add(u, _log1p(_exp(_neg(u))))
    return _log1p(_exp(u))


def _tanh_large(u: Tail) -> Tail:
    e = _exp(_mul(-2, u))
    return _sub(1, _div(_mul(2, e), _add(1, e)))


def _tanhshrink_large(u: Tail) -> Tail:
    return _sub(u, _tanh_large(u))


def _sech_large(u: Tail) -> Tail:
    e = _exp(_neg(u))
    return _div(_mul(2, e), _add(1, _mul(e, Tail(e.start, e.terms, e.sign))))


def _erfc_right(u: Tail) -> Tail:
    """exp(-u²)/(√π u) Σ (-1)^j (2j-1)!!/(2u²)^j, three terms; the rest lies between 0 and the fourth."""
    inverse = _reciprocal(_mul(2, _whole_power(u, 2)))
    series = _polynomial_in(inverse, [fmpq(1), fmpq(-1), fmpq(3)], Ball(-15, 0))
    front = Tail(u.start, [(fmpq(1), Gauge(constants=(0, 1)))])
    return _mul(_mul(front, _div(_exp(_neg(_whole_power(u, 2))), u)), series)


def _erfc_large(u: Tail) -> Tail:
    return _positive_tail(_erfc_right(u)) if u.sign == 1 else _sub(2, _positive_tail(_erfc_right(_neg(u))))


def _positive_tail(value: Tail) -> Tail:
    return Tail(value.start, value.terms, 1)


def _upper_normal(u: Tail) -> Tail:
    """1 - Φ(u) for u > 0: φ(u)/u (1 - 1/u² + 3/u⁴ - ...)."""
    inverse = _reciprocal(_whole_power(u, 2))
    series = _polynomial_in(inverse, [fmpq(1), fmpq(-1), fmpq(3)], Ball(-15, 0))
    return _positive_tail(_mul(_div(_normal_pdf(u), u), series))


def _normal_cdf_large(u: Tail) -> Tail:
    return _sub(1, _upper_normal(u)) if u.sign == 1 else _upper_normal(_neg(u))


def _erf_slope(u: Tail) -> Tail:
    front = Tail(u.start, [(fmpq(2), Gauge(constants=(0, 1)))])
    return _positive_tail(_mul(front, _exp(_neg(_whole_power(u, 2)))))


def _normal_pdf(u: Tail) -> Tail:
    front = Tail(u.start, [(fmpq(1), Gauge(constants=(1, 0)))])
    return _positive_tail(_mul(front, _exp(_mul(-_HALF, _whole_power(u, 2)))))


def _atan_large(u: Tail) -> Tail:
    return _sub(Ball(arb.pi() / 2), _atan(_reciprocal(u)))


def _log_large(u: Tail) -> Tail:
    """ln u for u that outgrows every bound: its exponents, power·ln X, ln c and ln(1 + δ)."""
    parts = _relative(u)
    c, gauge = (parts[0], parts[1]) if parts else u.leading
    terms: list[Term] = [
        (rational(-rate), Gauge(((LINEAR, -rho),) if rho else (), k)) for (rho, k), rate in gauge.rates
    ]
    if gauge.power:
        # 0 <= ln X <= 8/e X^(1/8)
        slow = Ball(_ZERO, (8 / arb(1).exp()).upper()) * point(gauge.power)
        terms.append((slow, Gauge(power=Fraction(1, 8))))
    value = Tail(u.start, terms)
    numeric = _numeric(c) * Ball(gauge.constant())
    log_c = BALL_OPERATIONS["log"](numeric)
    value = _add(value, _constant(log_c, u) if not _is_wide(c) else _ranging(log_c, u))
    if parts and parts[2].terms:
        value = _add(value, _log1p(parts[2]))
    lowest = BALL_OPERATIONS["log"](u.hull).lo
    return Tail(value.start, value.terms, 1 if lowest > 0 else value.sign, (u, Fraction(1)))


def _log(u: Tail) -> Tail:
    if u.sign != 1:
        return _unknown(u)
    if u.order == 1:
        return _log_large(u)
    if u.order == -1:
        inverse = _reciprocal(u)
        return _neg(_log_large(inverse)) if inverse.order == 1 else _ranging(BALL_OPERATIONS["log"](u.hull), u)
    return _taylor("log", u)


def _log1p(u: Tail) -> Tail:
    if u.order == 1:
        return _log(_add(1, u)) if u.sign == 1 else _unknown(u)
    if not u.hull.lo > -1:
        return _unknown(u)
    return _taylor("log1p", u, sign=u.sign)


def _asinh_large(u: Tail) -> Tail:
    return _log(_add(u, _pow(_add(1, _whole_power(u, 2)), _HALF)))


def _expm1_large(u: Tail) -> Tail:
    return _sub(_exp(u), 1)


def _sinh_large(u: Tail) -> Tail:
    return _mul(_HALF, _sub(_exp(u), _exp(_neg(u))))


def _cosh_large(u: Tail) -> Tail:
    return _mul(_HALF, _add(_exp(u), _exp(_neg(u))))


def _wave(name: str) -> Callable[[Tail], Tail]:
    return lambda u: _taylor(name, u) if u.order in (0, -1) else _ranging(Ball(-1, 1), u)


_atan = _bounded("atan", _odd(_atan_large), _same_sign)


def _squareplus(u: Any, b: Any) -> Tail:
    u, b = _both(u, b)
    if u.order != 1:
        root = _pow(_add(_whole_power(u, 2), b), _HALF)
        return Tail(u.start, _mul(_HALF, _add(u, root)).terms, 1 if b.sign == 1 else None)
    root = _pow(_add(_whole_power(u, 2), b), _HALF)
    value = _mul(_HALF, _add(u, root)) if u.sign == 1 else _div(_mul(_HALF, b), _sub(root, u))
    return _positive_tail(value)


def _hill(u: Any, k: Any, n: Any) -> Tail:
    like = next(v for v in (u, k, n) if isinstance(v, Tail))
    u, k = _lift(u, like), _lift(k, like)
    if u.sign != 1 or k.sign != 1:
        return _unknown(like)
    if u.order == 1:
        return _positive_tail(_reciprocal(_add(1, _pow(_div(k, u), n))))
    ratio = _pow(_div(u, k), n)
    return _positive_tail(_div(ratio, _add(1, ratio)))


def _exprel(u: Tail, n: Any) -> Tail:
    n = int(n)
    if u.order != 1:
        return _taylor("exprel", u, (n,), 1)
    # n!/(-u)^(n+1) - e^u Σ (-1)^j n!/(n-j)! ... : the integral by parts, exact.
    e, inverse = _exp(u), _reciprocal(u)
    value = _mul(_sub(e, 1), inverse)
    for k in range(1, n + 1):
        value = _mul(_sub(e, _mul(k, value)), inverse)
    return _positive_tail(value)


def _sinc(u: Tail, n: Any) -> Tail:
    n = int(n)
    if u.order == 1:
        return _mul(_ranging(Ball(-2, 2) if n else Ball(-1, 1), u), _reciprocal(u))
    return _taylor("sinc", u, (n,))


def _abs(u: Tail) -> Tail:
    if u.sign in (0, 1):
        return u
    return _neg(u) if u.sign == -1 else _ranging(abs(u.hull), u)


def _sign(u: Tail) -> Tail:
    return _constant(u.sign, u) if u.sign is not None else _ranging(Ball(-1, 1), u)


def _pick(first: bool) -> Callable[[Any, Any], Tail]:
    def rule(a: Any, b: Any) -> Tail:
        a, b = _both(a, b)
        sign = _sub(a, b).sign
        if sign is not None:
            return a if (sign >= 0) is first else b
        return _ranging(BALL_OPERATIONS["maximum" if first else "minimum"](a.hull, b.hull), a)

    return rule


def _compare(holds: dict[int, bool]) -> Callable[[Any, Any], Any]:
    def rule(a: Any, b: Any) -> Any:
        sign = _sub(*_both(a, b)).sign
        return UNDECIDED if sign is None else holds[sign]

    return rule


def _where(condition: Any, a: Any, b: Any) -> Any:
    if condition is not UNDECIDED:
        return a if condition else b
    a, b = _both(a, b)
    return _ranging(BALL_OPERATIONS["where"](UNDECIDED, a.hull, b.hull), a)


TAIL_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "pow": _pow,
    "abs": _abs,
    "lt": _compare({-1: True, 0: False, 1: False}),
    "le": _compare({-1: True, 0: True, 1: False}),
    "gt": _compare({-1: False, 0: False, 1: True}),
    "ge": _compare({-1: False, 0: True, 1: True}),
    "eq": _compare({-1: False, 0: True, 1: False}),
    "ne": _compare({-1: True, 0: False, 1: True}),
    "exp": _exp,
    "expm1": _bounded("expm1", _expm1_large, _same_sign),
    "log": _log,
    "log1p": _log1p,
    "sqrt": lambda u: _pow(u, _HALF),
    "sign": _sign,
    "sin": _wave("sin"),
    "cos": _wave("cos"),
    "sinh": _bounded("sinh", _odd(_sinh_large), _same_sign),
    "cosh": _bounded("cosh", _even(_cosh_large), _positive),
    "tanh": _bounded("tanh", _odd(_tanh_large), _same_sign),
    "tanhshrink": _bounded("tanhshrink", _odd(_tanhshrink_large), _same_sign),
    "sech": _bounded("sech", _even(_sech_large), _positive),
    "asinh": _bounded("asinh", _odd(_asinh_large), _same_sign),
    "atan": _atan,
    "sigmoid": _bounded("sigmoid", _sigmoid_large, _positive),
    "log_sigmoid": lambda u: _neg(TAIL_OPERATIONS["softplus"](_neg(u))),
    "softplus": _bounded("softplus", _softplus_large, _positive),
    "erf": _bounded("erf", _odd(lambda u: _sub(1, _positive_tail(_erfc_right(u)))), _same_sign),
    "erfc": _bounded("erfc", _erfc_large, _positive),
    "erf_slope": _erf_slope,
    "normal_pdf": _normal_pdf,
    "normal_cdf": _bounded("normal_cdf", _normal_cdf_large, _positive),
    "squareplus": _squareplus,
    "hill": _hill,
    "exprel": _exprel,
    "sinc": _sinc,
    "maximum": _pick(True),
    "minimum": _pick(False),
    "where": _where,
    "with_slope": lambda u, value, slope: value,
}

TAILS = register(System("tails", TAIL_OPERATIONS, rank=4, types=(Tail,)))
