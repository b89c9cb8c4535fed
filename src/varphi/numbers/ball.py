"""Balls: sets of real numbers with rigorous ends, over python-flint's `arb`.

Two number systems for one purpose. An `arb` (midpoint and radius) is a *point* known to some precision: fast, and
tight while its radius is rounding. A `Ball` is a closed interval [lower, upper] of the extended real line (half-lines
too), whose two ends are such points; elementary functions that are monotone are evaluated at the two ends, so a wide
interval costs no tightness. In both, the result contains the value at every real number of the argument.

Where a function is not defined on part of the argument, the result is the image of the part where it is; where it is
defined nowhere, `OutsideDomain` is raised. Constants are exact: a float stands for the number it holds, not for the
decimal that was typed.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from numbers import Rational, Real
from typing import Any

from flint import arb, ctx, fmpq

from ._system import System, register

_ZERO, _ONE = arb(0), arb(1)
_INF, _NEG_INF = arb.pos_inf(), arb.neg_inf()
# flint's exp fails beyond exponents of 62 bits; past this argument the ends are those of the limits.
_EXP_LIMIT = arb(2) ** 60


class OutsideDomain(ValueError):
    """A function was asked for its values where it has none."""


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Compute with `bits` of precision inside the block (flint's precision is one number per process)."""
    before = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = before


# ------------------------------------------------------------------------------------------------ conversions


@lru_cache(maxsize=4096)
def _exact(value: Any, kind: type, bits: int) -> arb:
    if isinstance(value, Rational):
        return arb(fmpq(int(value.numerator), int(value.denominator)))
    return arb(float(value))


def point(value: Any) -> arb:
    """A real number as an `arb`: ints and floats exactly, fractions to the current precision."""
    if isinstance(value, arb):
        return value
    if isinstance(value, Ball):
        return value.hull()
    return _exact(value, type(value), ctx.prec)


def float_below(x: arb) -> float:
    """The largest float64 that is certainly <= every number of x."""
    lower = x.lower()
    if not lower.is_finite():
        return math.inf if lower.is_exact() and lower > _ZERO else -math.inf
    value = float(lower)
    return value if math.isfinite(value) and arb(value) <= lower else math.nextafter(value, -math.inf)


def float_above(x: arb) -> float:
    """The smallest float64 that is certainly >= every number of x."""
    return -float_below(-x)


# ------------------------------------------------------------------------------------------------ points (arb)


def _thin_exp(x: arb) -> arb:
    return x.exp()


def _thin_sigmoid(x: arb) -> arb:
    if x.mid() < _ZERO:
        e = x.exp()
        return e / (1 + e)
    return 1 / (1 + (-x).exp())


def _thin_tanhshrink(x: arb) -> arb:
    """x - tanh x; near 0 as x³/3 ₀F₁(5/2; x²/4)/cosh x (the modified spherical Bessel function i₁)."""
    if abs(x) > _ONE:
        return x - x.tanh()
    return x**3 / 3 * (x**2 / 4).hypgeom_0f1(arb(5) / 2) * x.sech()


def _thin_softplus(x: arb) -> arb:
    return x.exp().log1p() if x.mid() < _ZERO else x + (-x).exp().log1p()


def _thin_normal_cdf(x: arb) -> arb:
    return (-x * _root_half(ctx.prec)).erfc() / 2


@lru_cache(maxsize=8)
def _root_half(bits: int) -> arb:
    return (arb(1) / 2).sqrt()


@lru_cache(maxsize=8)
def _root_2pi(bits: int) -> arb:
    return (2 * arb.pi()).sqrt()


def _thin_erf_slope(x: arb) -> arb:
    return 2 * (-(x**2)).exp() / arb.pi().sqrt()


def _thin_normal_pdf(x: arb) -> arb:
    return (-(x**2) / 2).exp() / _root_2pi(ctx.prec)


def _thin_squareplus(x: arb, b: arb) -> arb:
    root = (x**2 + b).nonnegative_part().sqrt()
    if x.mid() < _ZERO and b > _ZERO:
        return b / (2 * (root - x))
    return (x + root) / 2


def _thin_power(x: arb, p: Any) -> arb:
    if isinstance(p, float) and p.is_integer():
        p = int(p)
    if isinstance(p, int):
        return x**p if p >= 0 else 1 / x ** (-p)
    if isinstance(x, Real):
        x = point(x)
    exponent = point(p)
    if exponent.is_integer() and exponent.abs_upper() < 2**30:
        return _thin_power(x, int(float(exponent)))
    if x.is_zero():
        return _ZERO if exponent > _ZERO else _INF
    if not (x > _ZERO) and x.contains(_ZERO) and exponent > _ZERO:
        top = x.upper() ** exponent
        return (top / 2).union(top).union(_ZERO)
    return x**exponent


def _thin_hill(x: arb, k: Any, n: Any) -> arb:
    x, k = point(x), point(k)
    if x.is_zero():
        return _ZERO
    if x.mid() <= k.mid():
        ratio = _thin_power(x / k, n)
        return ratio / (1 + ratio)
    return 1 / (1 + _thin_power(k / x, n))


def _moment_series(x: arb, n: int, cycle: tuple[int, ...]) -> arb:
    """Σ cycle[(n+j) mod 4] x^j / (j! (n+j+1)) for |x| <= 1, its remainder included."""
    terms, bound = 4, 1.0
    while bound > -ctx.prec - 8:
        terms += 1
        bound = -math.lgamma(terms + 1) / math.log(2)
    total, power = _ZERO, _ONE
    for j in range(terms):
        total += cycle[(n + j) % 4] * power / (n + j + 1)
        power = power * x / (j + 1)
    return total + arb(0, 2) * abs(power)


def _thin_exprel(x: arb, n: int = 0) -> arb:
    if abs(x) <= _ONE:
        return _moment_series(x, n, (1, 1, 1, 1))
    e = x.exp()
    value = x.expm1() / x
    for k in range(1, n + 1):
        value = (e - k * value) / x
    return value


def _thin_sinc(x: arb, n: int = 0) -> arb:
    if abs(x) <= _ONE:
        return _moment_series(x, n, (1, 0, -1, 0))
    s, c = x.sin_cos()
    sines = (s, c, -s, -c)
    value = s / x
    for k in range(1, n + 1):
        value = (sines[k % 4] - k * value) / x
    return value


def _index(n: Any) -> int:
    return int(float(n)) if isinstance(n, arb) else int(n)


class _Undecided:
    """The truth of a comparison that holds for some numbers of a ball and fails for others."""

    def __bool__(self) -> bool:
        raise ValueError("the comparison holds on part of the ball only; cut the ball at the point where it changes")

    def __repr__(self) -> str:
        return "undecided"


UNDECIDED = _Undecided()


def _thin_compare(name: str) -> Callable[[Any, Any], Any]:
    compare, opposite = getattr(operator, name), getattr(operator, _OPPOSITE[name])

    def rule(a: Any, b: Any) -> Any:
        a, b = point(a), point(b)
        return True if compare(a, b) else False if opposite(a, b) else UNDECIDED

    return rule


_OPPOSITE = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}


def _thin_where(condition: Any, a: Any, b: Any) -> arb:
    if condition is UNDECIDED:
        return point(a).union(point(b))
    return point(a) if condition else point(b)


def _on_points(function: Callable[..., arb]) -> Callable[..., arb]:
    return lambda *arguments: function(*map(point, arguments))


POINT_OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: _on_points(getattr(operator, name)) for name in ("add", "sub", "mul", "neg", "abs")},
    **{name: _thin_compare(name) for name in _OPPOSITE},
    "div": _on_points(operator.truediv),
    "pow": lambda x, p: _thin_power(point(x), p),
    "exp": _thin_exp,
    "expm1": arb.expm1,
    "log": arb.log,
    "log1p": arb.log1p,
    "sqrt": arb.sqrt,
    "sign": arb.sgn,
    "sin": arb.sin,
    "cos": arb.cos,
    "sinh": arb.sinh,
    "cosh": arb.cosh,
    "tanh": arb.tanh,
    "tanhshrink": _thin_tanhshrink,
    "sech": arb.sech,
    "asinh": arb.asinh,
    "atan": arb.atan,
    "sigmoid": _thin_sigmoid,
    "log_sigmoid": lambda x: -_thin_softplus(-x),
    "softplus": _thin_softplus,
    "erf": arb.erf,
    "erfc": arb.erfc,
    "erf_slope": _thin_erf_slope,
    "normal_pdf": _thin_normal_pdf,
    "normal_cdf": _thin_normal_cdf,
    "squareplus": _on_points(_thin_squareplus),
    "hill": _thin_hill,
    "exprel": lambda x, n: _thin_exprel(x, _index(n)),
    "sinc": lambda x, n: _thin_sinc(x, _index(n)),
    "maximum": _on_points(arb.max),
    "minimum": _on_points(arb.min),
    "where": _thin_where,
    "with_slope": lambda u, value, slope: point(value),
}


# ------------------------------------------------------------------------------------------------ balls


def _lower_end(x: arb) -> arb:
    """x as the lower end of a ball: what is not finite is -inf, unless it is exactly +inf."""
    return x if x.is_finite() or (x.is_exact() and x > _ZERO) else _NEG_INF


def _upper_end(x: arb) -> arb:
    return x if x.is_finite() or (x.is_exact() and x < _ZERO) else _INF


def _times(x: arb, y: arb) -> arb:
    """x·y for the ends of balls, where 0·inf is 0."""
    product = x * y
    return product if product.is_finite() or not (x.is_zero() or y.is_zero()) else _ZERO


class Ball:
    """A closed interval of the extended real line: every number from `lo` to `hi`.

    The two ends are real numbers (or ±inf) known as `arb`s. Arithmetic by the usual operators and every function of
    `varphi.numbers`.
    """

    __slots__ = ("hi", "lo")

    lo: arb
    hi: arb

    def __init__(self, lower: Any, upper: Any = None) -> None:
        self.lo = point(lower)
        self.hi = self.lo if upper is None else point(upper)

    def __repr__(self) -> str:
        return f"Ball({float_below(self.lo)!r}, {float_above(self.hi)!r})"

    @property
    def lower(self) -> float:
        """A float64 below every number of the ball."""
        return float_below(self.lo)

    @property
    def upper(self) -> float:
        """A float64 above every number of the ball."""
        return float_above(self.hi)

    def hull(self) -> arb:
        """The smallest `arb` around the ball."""
        return self.lo if self.lo is self.hi else self.lo.union(self.hi)

    def contains(self, x: Any) -> bool:
        """Whether the number x certainly lies in the ball."""
        x = point(x)
        return bool(self.lo <= x) and bool(x <= self.hi)

    def may_contain(self, x: Any) -> bool:
        """Whether the number x may lie in the ball, as far as its ends are known."""
        x = point(x)
        return not self.lo > x and not self.hi < x

    def is_finite(self) -> bool:
        return bool(self.lo.is_finite() and self.hi.is_finite())

    def intersection(self, other: Ball) -> Ball:
        """Both balls contain the value; so does what they share."""
        return _ball(self.lo if self.lo >= other.lo else other.lo, self.hi if self.hi <= other.hi else other.hi)

    def __neg__(self) -> Ball:
        return _ball(-self.hi, -self.lo) if self.lo is not self.hi else _thin(-self.lo)

    def __pos__(self) -> Ball:
        return self

    def __add__(self, other: Any) -> Ball:
        if type(other) is not Ball:
            other = _lifted(other)
            if other is None:
                return NotImplemented
        if self.lo is self.hi and other.lo is other.hi:
            return _thin(self.lo + other.lo)
        return _ball(self.lo + other.lo, self.hi + other.hi)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Ball:
        if type(other) is not Ball:
            other = _lifted(other)
            if other is None:
                return NotImplemented
        if self.lo is self.hi and other.lo is other.hi:
            return _thin(self.lo - other.lo)
        return _ball(self.lo - other.hi, self.hi - other.lo)

    def __rsub__(self, other: Any) -> Ball:
        return (-self).__add__(other)

    def __mul__(self, other: Any) -> Ball:
        if type(other) is not Ball:
            other = _lifted(other)
            if other is None:
                return NotImplemented
        return _multiply(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Ball:
        other = other if type(other) is Ball else _lifted(other)
        return NotImplemented if other is None else _divide(self, other)

    def __rtruediv__(self, other: Any) -> Ball:
        other = _lifted(other)
        return NotImplemented if other is None else _divide(other, self)

    def __pow__(self, exponent: Any) -> Ball:
        return _power(self, exponent)

    def __rpow__(self, base: Any) -> Ball:
        return _power(Ball(base), self)

    def __abs__(self) -> Ball:
        if self.lo >= _ZERO:
            return self
        if self.hi <= _ZERO:
            return -self
        return _ball(_ZERO, arb.max(-self.lo, self.hi)) if self.lo is not self.hi else _thin(abs(self.lo))

    def __lt__(self, other: Any) -> Any:
        return _compare("lt")(self, other)

    def __le__(self, other: Any) -> Any:
        return _compare("le")(self, other)

    def __gt__(self, other: Any) -> Any:
        return _compare("gt")(self, other)

    def __ge__(self, other: Any) -> Any:
        return _compare("ge")(self, other)

    def __eq__(self, other: Any) -> Any:
        return _compare("eq")(self, other)

    def __ne__(self, other: Any) -> Any:
        return _compare("ne")(self, other)

    __hash__ = object.__hash__


def _new(lo: arb, hi: arb) -> Ball:
    ball = object.__new__(Ball)
    ball.lo, ball.hi = lo, hi
    return ball


def _ball(lo: arb, hi: arb) -> Ball:
    ball = object.__new__(Ball)
    ball.lo = lo if lo.is_finite() else _lower_end(lo)
    ball.hi = hi if hi.is_finite() else _upper_end(hi)
    return ball


def _thin(x: arb) -> Ball:
    return _new(x, x) if x.is_finite() else _ball(x, x)


def _lifted(value: Any) -> Ball | None:
    if isinstance(value, (Real, arb)):
        x = point(value)
        return _new(x, x)
    return _new(value.lo, value.hi) if isinstance(value, Ball) else None


def ball(value: Any) -> Ball:
    """A real number, an `arb` or a ball as a ball."""
    if type(value) is Ball:
        return value
    lifted = _lifted(value)
    if lifted is None:
        raise TypeError(f"{value!r} is no real number and no ball")
    return lifted


def _multiply(a: Ball, b: Ball) -> Ball:
    al, ah, bl, bh = a.lo, a.hi, b.lo, b.hi
    if al is ah and bl is bh:
        return _thin(_times(al, bl))
    if a is b:
        return _power(a, 2)
    if al >= _ZERO:
        if bl >= _ZERO:
            return _ball(_times(al, bl), _times(ah, bh))
        if bh <= _ZERO:
            return _ball(_times(ah, bl), _times(al, bh))
        return _ball(_times(ah, bl), _times(ah, bh))
    if ah <= _ZERO:
        if bl >= _ZERO:
            return _ball(_times(al, bh), _times(ah, bl))
        if bh <= _ZERO:
            return _ball(_times(ah, bh), _times(al, bl))
        return _ball(_times(al, bh), _times(al, bl))
    if bl >= _ZERO:
        return _ball(_times(al, bh), _times(ah, bh))
    if bh <= _ZERO:
        return _ball(_times(ah, bl), _times(al, bl))
    return _ball(arb.min(_times(al, bh), _times(ah, bl)), arb.max(_times(al, bl), _times(ah, bh)))


def _reciprocal_end(x: arb, at_zero: arb) -> arb:
    if x.is_finite():
        return at_zero if x.is_zero() else 1 / x
    return _ZERO


def _divide(a: Ball, b: Ball) -> Ball:
    if b.lo is b.hi and a.lo is a.hi and b.lo.is_finite() and a.lo.is_finite() and not b.lo.contains(_ZERO):
        return _thin(a.lo / b.lo)
    if b.lo >= _ZERO:
        if b.hi.is_zero():
            raise OutsideDomain("division by zero")
        inverse = _ball(_reciprocal_end(b.hi, _INF), _reciprocal_end(b.lo, _INF))
    elif b.hi <= _ZERO:
        inverse = _ball(_reciprocal_end(b.hi, _NEG_INF), _reciprocal_end(b.lo, _NEG_INF))
    else:
        return _new(_NEG_INF, _INF)
    return _multiply(a, inverse)


def _whole_power(x: Ball, n: int) -> Ball:
    if n < 0:
        return _divide(_new(_ONE, _ONE), _whole_power(x, -n))
    if x.lo is x.hi:
        return _thin(x.lo**n)
    if n % 2 or x.lo >= _ZERO:
        return _ball(_end_power(x.lo, n), _end_power(x.hi, n))
    if x.hi <= _ZERO:
        return _ball(_end_power(x.hi, n), _end_power(x.lo, n))
    return _ball(_ZERO, _end_power(arb.max(-x.lo, x.hi), n))


def _end_power(x: arb, n: int) -> arb:
    if x.is_finite():
        return x**n
    return _ONE if n == 0 else x if n % 2 else _INF


def _power(x: Ball, p: Any) -> Ball:
    if isinstance(p, Ball):
        if p.lo is p.hi and p.lo.is_integer():
            return _whole_power(x, int(float(p.lo)))
        return BALL_OPERATIONS["exp"](_multiply(p, BALL_OPERATIONS["log"](x)))
    if isinstance(p, arb):
        return _power(x, Ball(p))
    if isinstance(p, Rational) and p.denominator == 1:
        return _whole_power(x, int(p.numerator))
    if isinstance(p, float) and p.is_integer():
        return _whole_power(x, int(p))
    if p < 0:
        return _divide(_new(_ONE, _ONE), _power(x, -p))
    if x.hi < _ZERO:
        raise OutsideDomain(f"a negative number to the power {p}")
    if x.lo is x.hi and x.lo > _ZERO and x.lo.is_finite():
        return _thin(x.lo.sqrt() if p * 2 == 1 else x.lo ** point(p))
    return _ball(_root_end(x.lo, p, False), _root_end(x.hi, p, True))


def _root_end(x: arb, p: Any, upper: bool) -> arb:
    """x^p at an end of a ball, p > 0 not whole; an end that is not certainly positive counts as 0, or as its bound."""
    if x > _ZERO:
        return x ** point(p) if x.is_finite() else _INF
    if not upper or x.is_zero():
        return _ZERO
    top = x.upper()
    return top ** point(p) if top > _ZERO else _ZERO


# How far a function of large arguments can be trusted to flint; what it is beyond.
def _exp_end(x: arb, upper: bool) -> arb:
    if x > _EXP_LIMIT:
        return _INF if upper else _EXP_LIMIT.exp()
    if x < -_EXP_LIMIT:
        return (-_EXP_LIMIT).exp() if upper and x.is_finite() else _ZERO
    return x.exp()


def _rising(function: Callable[[arb], arb], low: Any, high: Any) -> Callable[[Ball], Ball]:
    """An increasing function with limits `low` and `high` at -inf and +inf."""

    def end(x: arb) -> arb:
        return function(x) if x.is_finite() else point(high()) if x > _ZERO else point(low())

    def apply(x: Ball) -> Ball:
        if x.lo is x.hi:
            return _thin(end(x.lo))
        return _ball(end(x.lo), end(x.hi))

    return apply


def _clipped(rule: Callable[[Ball], Ball], lower: Any, upper: Any) -> Callable[[Ball], Ball]:
    """`rule`, whose values are known to lie in [lower, upper]."""
    low, high = point(lower), point(upper)

    def apply(x: Ball) -> Ball:
        y = rule(x)
        if y.lo > low and y.hi < high:
            return y
        # Exact bounds stay exact: arb.min would round them.
        return _ball(y.lo if y.lo > low else low, y.hi if y.hi < high else high)

    return apply


def _ball_exp(x: Ball) -> Ball:
    if x.lo is x.hi and abs(x.lo) < _EXP_LIMIT:
        return _thin(x.lo.exp())
    return _ball(_exp_end(x.lo, False), _exp_end(x.hi, True))


def _guarded(function: Callable[[arb], arb], low: Callable[[], Any], high: Callable[[], Any]) -> Callable[[Ball], Ball]:
    """An increasing function that flint cannot take at huge arguments: there its values lie between its bounds."""

    def end(x: arb, upper: bool) -> arb:
        if x > _EXP_LIMIT:
            return point(high()) if upper or not x.is_finite() else function(_EXP_LIMIT)
        if x < -_EXP_LIMIT:
            return function(-_EXP_LIMIT) if upper and x.is_finite() else point(low())
        return function(x)

    def apply(x: Ball) -> Ball:
        if x.lo is x.hi and abs(x.lo) < _EXP_LIMIT:
            return _thin(function(x.lo))
        return _ball(end(x.lo, False), end(x.hi, True))

    return apply


def _log_end(x: arb, upper: bool) -> arb:
    if x > _ZERO:
        return x.log() if x.is_finite() else _INF
    top = x.upper()
    return top.log() if upper and top > _ZERO else _NEG_INF


def _ball_log(x: Ball) -> Ball:
    if x.lo is x.hi and x.lo > _ZERO and x.lo.is_finite():
        return _thin(x.lo.log())
    if x.hi < _ZERO:
        raise OutsideDomain(f"log of the negative numbers {x!r}")
    return _ball(_log_end(x.lo, False), _log_end(x.hi, True))


def _log1p_end(x: arb, upper: bool) -> arb:
    if x > -1:
        return x.log1p() if x.is_finite() else _INF
    top = x.upper()
    return top.log1p() if upper and top > -1 else _NEG_INF


def _ball_log1p(x: Ball) -> Ball:
    if x.lo is x.hi and x.lo > -1 and x.lo.is_finite():
        return _thin(x.lo.log1p())
    if x.hi < -1:
        raise OutsideDomain(f"log1p of numbers below -1: {x!r}")
    return _ball(_log1p_end(x.lo, False), _log1p_end(x.hi, True))


def _ball_sqrt(x: Ball) -> Ball:
    if x.lo is x.hi and x.lo > _ZERO and x.lo.is_finite():
        return _thin(x.lo.sqrt())
    if x.hi < _ZERO:
        raise OutsideDomain(f"sqrt of the negative numbers {x!r}")
    return _ball(_sqrt_end(x.lo), _sqrt_end(x.hi))


def _sqrt_end(x: arb) -> arb:
    return x.nonnegative_part().sqrt() if x.is_finite() else _INF if x > _ZERO else _ZERO


def _ball_sign(x: Ball) -> Ball:
    if x.lo > _ZERO:
        return Ball(1)
    if x.hi < _ZERO:
        return Ball(-1)
    low, high = 0 if x.lo >= _ZERO else -1, 0 if x.hi <= _ZERO else 1
    return Ball(low, high)


def _even(function: Callable[[arb], arb], at_infinity: arb, rises: bool) -> Callable[[Ball], Ball]:
    """An even function, monotone in |x|."""

    def end(x: arb) -> arb:
        return function(x) if x < _EXP_LIMIT else at_infinity

    def slow_end(x: arb) -> arb:  # the end that must not be overstated at huge finite arguments
        return function(x) if x < _EXP_LIMIT else function(_EXP_LIMIT) if x.is_finite() else at_infinity

    def apply(x: Ball) -> Ball:
        x = abs(x)
        if x.lo is x.hi and x.lo < _EXP_LIMIT:
            return _thin(function(x.lo))
        if rises:
            return _ball(slow_end(x.lo), end(x.hi))
        return _ball(end(x.hi), slow_end(x.lo))

    return apply


def _gaussian_end(function: Callable[[arb], arb]) -> Callable[[Ball], Ball]:
    """exp(-c x²), even and falling in |x|; flint takes it while x² stays below the limit of exp."""
    limit = arb(2) ** 29

    def apply(x: Ball) -> Ball:
        x = abs(x)
        if x.lo is x.hi and x.lo < limit:
            return _thin(function(x.lo))
        low = function(x.hi) if x.hi < limit else _ZERO
        high = function(x.lo) if x.lo < limit else function(limit) if x.lo.is_finite() else _ZERO
        return _ball(low, high)

    return apply


def _ball_sin(x: Ball) -> Ball:
    return _wave(x, arb.sin, -_ONE / 2)


def _ball_cos(x: Ball) -> Ball:
    return _wave(x, arb.cos, _ZERO)


def _wave(x: Ball, function: Callable[[arb], arb], shift: arb) -> Ball:
    """sin or cos: monotone between its extrema at (k - shift)·π, where it is 1 for even k and -1 for odd k."""
    if not x.is_finite():
        return _new(-_ONE, _ONE)
    if x.lo is x.hi:
        return _thin(function(x.lo))
    pi = arb.pi()
    first, last = ((end / pi + shift).floor().unique_fmpz() for end in (x.lo, x.hi))
    if first is None or last is None or last - first > 1:
        value = function(x.hull()) if first is None or last is None else None
        return _new(-_ONE, _ONE) if value is None else _ball(value, value).intersection(_new(-_ONE, _ONE))
    low, high = function(x.lo), function(x.hi)
    if first == last:
        return _ball(arb.min(low, high), arb.max(low, high))
    if int(last) % 2:
        return _new(-_ONE, arb.max(low, high))
    return _new(arb.min(low, high), _ONE)


def _corners(function: Callable[..., arb]) -> Callable[..., Ball]:
    """A function that is monotone in each argument: its extremes stand at the corners."""

    def apply(*arguments: Ball) -> Ball:
        values = [[]]
        for a in arguments:
            ends = [a.lo] if a.lo is a.hi else [a.lo, a.hi]
            values = [[*v, end] for v in values for end in ends]
        corners = [function(*v) for v in values]
        low = high = corners[0]
        for c in corners[1:]:
            low, high = arb.min(low, c), arb.max(high, c)
        return _thin(low) if len(corners) == 1 else _ball(low, high)

    return apply


def _squareplus_end(x: arb, b: arb) -> arb:
    if not x.is_finite():
        return _INF if x > _ZERO else _ZERO
    return _thin_squareplus(x, b)


def _hill_end(x: arb, k: arb, n: arb) -> arb:
    if not x.is_finite():
        return _ONE if x > _ZERO else _ZERO
    if not x > _ZERO:
        x = x.upper()
        if not x > _ZERO:
            return _ZERO
    if x.mid() <= k.mid():
        ratio = (x / k) ** n
        return ratio / (1 + ratio)
    return 1 / (1 + (k / x) ** n)


def _ball_hill(x: Any, k: Any, n: Any) -> Ball:
    x, k, n = map(ball, (x, k, n))
    if x.hi < _ZERO:
        raise OutsideDomain(f"hill of the negative numbers {x!r}")
    y = _corners(_hill_end)(x, k, n)
    return y if x.lo > _ZERO else _ball(_ZERO, y.hi)


def _exprel_end(x: arb, n: int, upper: bool) -> arb:
    if x > _EXP_LIMIT:
        return _INF if upper else _thin_exprel(_EXP_LIMIT, n)
    if x < -_EXP_LIMIT:
        return _thin_exprel(-_EXP_LIMIT, n) if upper and x.is_finite() else _ZERO
    return _thin_exprel(x, n)


def _ball_exprel(x: Any, n: Any) -> Ball:
    x, n = ball(x), int(n)
    if x.lo is x.hi and abs(x.lo) < _EXP_LIMIT:
        return _thin(_thin_exprel(x.lo, n))
    return _ball(_exprel_end(x.lo, n, False), _exprel_end(x.hi, n, True))


def _ball_sinc(x: Any, n: Any) -> Ball:
    """Mean value around the middle, within |sinc^(n)| <= min(1/(n+1), 2/|x|) (from n sinc^(n-1) + x sinc^(n) = sin)."""
    x, n = ball(x), int(n)
    bound = Ball(-_ONE / (n + 1), _ONE / (n + 1))
    size = abs(x)
    if size.lo > _ZERO:
        far = _divide(Ball(2), size)
        bound = bound.intersection(_ball(-far.hi, far.hi))
    if not x.is_finite():
        return bound
    middle = arb((x.lo + x.hi).mid()) / 2
    reach = (abs(x - middle)).hi
    value = _thin_sinc(middle, n)
    spread = reach / (n + 2)
    return bound.intersection(_ball(value - spread, value + spread))


def _compare(name: str) -> Callable[[Any, Any], Any]:
    def rule(a: Any, b: Any) -> Any:
        a, b = ball(a), ball(b)
        if name in ("gt", "ge"):
            return _compare({"gt": "lt", "ge": "le"}[name])(b, a)
        if name == "lt":
            return True if a.hi < b.lo else False if a.lo >= b.hi else UNDECIDED
        if name == "le":
            return True if a.hi <= b.lo else False if a.lo > b.hi else UNDECIDED
        apart = bool(a.hi < b.lo) or bool(b.hi < a.lo)
        same = a.lo is a.hi and b.lo is b.hi and bool(a.lo == b.lo)
        truth = True if same else False if apart else UNDECIDED
        return truth if truth is UNDECIDED or name == "eq" else not truth

    return rule


def _ball_where(condition: Any, a: Any, b: Any) -> Ball:
    a, b = ball(a), ball(b)
    if condition is not UNDECIDED:
        return a if condition else b
    return _ball(arb.min(a.lo, b.lo), arb.max(a.hi, b.hi))


def _on_balls(function: Callable[..., Ball]) -> Callable[..., Ball]:
    return lambda *arguments: function(*map(ball, arguments))


def _ball_softplus(x: Ball) -> Ball:
    if x.lo is x.hi and abs(x.lo) < _EXP_LIMIT:
        return _thin(_thin_softplus(x.lo))
    return _ball(_softplus_end(x.lo, False), _softplus_end(x.hi, True))


def _softplus_end(x: arb, upper: bool) -> arb:
    if x > _EXP_LIMIT:
        return x if not (upper and x.is_finite()) else x + (-_EXP_LIMIT).exp()
    if x < -_EXP_LIMIT:
        return (-_EXP_LIMIT).exp() if upper and x.is_finite() else _ZERO
    return _thin_softplus(x)


def _fixed(value: Any) -> Callable[[], Any]:
    return lambda: value


_tanh = _clipped(_rising(arb.tanh, _fixed(-1), _fixed(1)), -1, 1)
_erf_guarded = _guarded(arb.erf, _fixed(-1), _fixed(1))
# erfc falls: it is -(-erfc), and -erfc rises. flint's erfc overflows where x² passes the limit of exp.
_ERFC_LIMIT = arb(2) ** 29


def _erfc_end(x: arb, upper: bool) -> arb:
    if x > _ERFC_LIMIT:
        return _ERFC_LIMIT.erfc() if upper and x.is_finite() else _ZERO
    if x < -_ERFC_LIMIT:
        return arb(2) if upper else (-_ERFC_LIMIT).erfc() if x.is_finite() else arb(2)
    return x.erfc()


def _ball_erfc(x: Ball) -> Ball:
    if x.lo is x.hi and abs(x.lo) < _ERFC_LIMIT:
        return _thin(x.lo.erfc())
    high = _erfc_end(x.lo, True)
    return _ball(_erfc_end(x.hi, False), high if high < 2 else arb(2))


def _ball_normal_cdf(x: Ball) -> Ball:
    y = _ball_erfc(-(x * _new(_root_half(ctx.prec), _root_half(ctx.prec))))
    return _thin(y.lo / 2) if y.lo is y.hi else _ball(y.lo / 2, y.hi / 2)


def _ball_erf(x: Ball) -> Ball:
    if x.lo is x.hi and abs(x.lo) < _ERFC_LIMIT:
        return _thin(x.lo.erf())

    def end(v: arb) -> arb:
        if abs(v) < _ERFC_LIMIT:
            return v.erf()
        return _ONE if v > _ZERO else -_ONE

    # Beyond the limit the ends 1 and -1 are the bounds themselves; as inner ends they give way by one erfc.
    low, high = end(x.lo), end(x.hi)
    if x.lo > _ERFC_LIMIT and x.lo.is_finite():
        low = _ERFC_LIMIT.erf().lower()
    if x.hi < -_ERFC_LIMIT and x.hi.is_finite():
        high = (-_ERFC_LIMIT).erf().upper()
    return _ball(low if low > -_ONE else -_ONE, high if high < _ONE else _ONE)


def _asinh_like(function: Callable[[arb], arb]) -> Callable[[Ball], Ball]:
    return _rising(function, lambda: _NEG_INF, lambda: _INF)


def _ball_sinh(x: Ball) -> Ball:
    return _guarded(arb.sinh, lambda: _NEG_INF, lambda: _INF)(x)


def _ball_log_sigmoid(x: Ball) -> Ball:
    return -_ball_softplus(-x)


BALL_OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: _on_balls(getattr(operator, name)) for name in ("add", "sub", "neg", "abs")},
    **{name: _compare(name) for name in _OPPOSITE},
    "mul": _on_balls(_multiply),
    "div": _on_balls(_divide),
    "pow": lambda x, p: _power(ball(x), p),
    "exp": _ball_exp,
    "expm1": _guarded(arb.expm1, _fixed(-1), lambda: _INF),
    "log": _ball_log,
    "log1p": _ball_log1p,
    "sqrt": _ball_sqrt,
    "sign": _ball_sign,
    "sin": _ball_sin,
    "cos": _ball_cos,
    "sinh": _ball_sinh,
    "cosh": _even(arb.cosh, _INF, rises=True),
    "tanh": _tanh,
    "tanhshrink": _rising(_thin_tanhshrink, lambda: _NEG_INF, lambda: _INF),
    "sech": _even(arb.sech, _ZERO, rises=False),
    "asinh": _asinh_like(arb.asinh),
    "atan": _rising(arb.atan, lambda: -arb.pi() / 2, lambda: arb.pi() / 2),
    "sigmoid": _clipped(_guarded(_thin_sigmoid, _fixed(0), _fixed(1)), 0, 1),
    "log_sigmoid": _ball_log_sigmoid,
    "softplus": _ball_softplus,
    "erf": _ball_erf,
    "erfc": _ball_erfc,
    "erf_slope": _gaussian_end(_thin_erf_slope),
    "normal_pdf": _gaussian_end(_thin_normal_pdf),
    "normal_cdf": _ball_normal_cdf,
    "squareplus": _on_balls(_corners(_squareplus_end)),
    "hill": _ball_hill,
    "exprel": _ball_exprel,
    "sinc": _ball_sinc,
    "maximum": _on_balls(lambda a, b: _ball(arb.max(a.lo, b.lo), arb.max(a.hi, b.hi))),
    "minimum": _on_balls(lambda a, b: _ball(arb.min(a.lo, b.lo), arb.min(a.hi, b.hi))),
    "where": _ball_where,
    "with_slope": lambda u, value, slope: ball(value),
}

POINTS = register(System("points (arb)", POINT_OPERATIONS, rank=1, types=(arb,)))
BALLS = register(System("balls", BALL_OPERATIONS, rank=2, types=(Ball, _Undecided)))
