"""Tails: functions on a half-line [A, inf), each as c(X) · X^p · e^(-rX) with c(X) in a ball for every X >= A.

Half-line balls alone cannot bound x·sigmoid(-x): [A, inf) times [0, tiny] is [0, inf). Here the growth of each factor is
kept apart from its coefficient, so products of large and small are exact in what matters. Evaluating an expression over
the tail of x gives a proof of what it does up to infinity: its bounds, its sign, its limit and how fast it grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from numbers import Real
from typing import Any

from flint import arb

from ._system import System, register
from .ball import BALL_OPERATIONS, UNDECIDED, Ball, ball, point

_ZERO, _ONE, _INF, _NEG_INF = arb(0), arb(1), arb.pos_inf(), arb.neg_inf()
_EVERYTHING = Ball(_NEG_INF, _INF)
_UNIT = Ball(0, 1)
_ABOVE_ONE = Ball(_ONE, _INF)
# Rates and powers as fast as these serve every comparison; faster decay is bounded by them.
_FASTEST = 2**20
_POWER_OF_ROOTS = 12


class Tail:
    """c(X) · X^power · e^(-rate·X) for X >= start, c(X) in `coefficient`.

    Attributes:
        sign: the sign that the function certainly has on all of [start, inf), else None.
    """

    __slots__ = ("coefficient", "power", "rate", "sign", "start")

    def __init__(
        self, start: arb, coefficient: Ball, power: Fraction, rate: Fraction, sign: int | None = None
    ) -> None:
        self.start, self.coefficient, self.power, self.rate = start, coefficient, power, rate
        if sign is None:
            sign = 1 if coefficient.lo > 0 else -1 if coefficient.hi < 0 else None
            if sign is None and coefficient.lo.is_zero() and coefficient.hi.is_zero():
                sign = 0
        self.sign = sign

    def __repr__(self) -> str:
        return f"Tail({self.coefficient!r} X^{self.power} e^(-{self.rate}X), X >= {float(self.start):g})"

    @property
    def order(self) -> int | None:
        """1 where the function certainly outgrows every bound, -1 where it tends to 0, 0 where it stays bounded."""
        grows = self.rate < 0 or (self.rate == 0 and self.power > 0)
        if grows:
            return 1 if not self.coefficient.may_contain(0) else None
        if not self.coefficient.is_finite():
            return None
        return 0 if self.rate == 0 and self.power == 0 else -1

    def hull(self) -> Ball:
        """A ball around all values on [start, inf)."""
        value = self.coefficient * _gauge(self.start, self.power, self.rate)
        if self.sign == 1 and not value.lo >= 0:
            return Ball(_ZERO, value.hi)
        if self.sign == -1 and not value.hi <= 0:
            return Ball(value.lo, _ZERO)
        return value


def _gauge(start: arb, power: Fraction, rate: Fraction) -> Ball:
    """The range of X^power e^(-rate X) on [start, inf)."""
    if power == 0 and rate == 0:
        return Ball(1)
    if rate < 0 or (rate == 0 and power > 0):
        if power < 0 and start * point(-rate) < point(-power):  # the minimum lies beyond the start
            return Ball(_ZERO, _INF)
        return Ball(_gauge_at(start, power, rate).lo, _INF)
    peak = start
    if rate > 0 and power > 0:
        peak = arb.max(start, point(power / rate))
    return Ball(_ZERO, _gauge_at(peak, power, rate).hi)


def _gauge_at(x: arb, power: Fraction, rate: Fraction) -> Ball:
    value = Ball(x) ** power
    return value * BALL_OPERATIONS["exp"](Ball(x * point(-rate))) if rate else value


def variable_tail(start: arb, right: bool) -> Tail:
    """The tail of x itself: on [start, inf), or on (-inf, -start] where x = -X."""
    return Tail(start, Ball(1 if right else -1), Fraction(1), Fraction(0))


def _constant(value: Any, like: Tail) -> Tail:
    return Tail(like.start, ball(value), Fraction(0), Fraction(0))


def _lift(value: Any, like: Tail) -> Tail:
    return value if isinstance(value, Tail) else _constant(value, like)


def _both(a: Any, b: Any) -> tuple[Tail, Tail]:
    like = a if isinstance(a, Tail) else b
    return _lift(a, like), _lift(b, like)


def _unknown(like: Tail) -> Tail:
    return _constant(_EVERYTHING, like)


def _is_zero(a: Tail) -> bool:
    return a.sign == 0


def _add(a: Any, b: Any) -> Tail:
    a, b = _both(a, b)
    if _is_zero(a) or _is_zero(b):
        return b if _is_zero(a) else a
    if (b.rate, -b.power) < (a.rate, -a.power):
        a, b = b, a
    sign = a.sign if a.sign == b.sign else None
    ratio = _gauge(a.start, b.power - a.power, b.rate - a.rate)
    return Tail(a.start, a.coefficient + b.coefficient * ratio, a.power, a.rate, sign)


def _neg(a: Any) -> Tail:
    return Tail(a.start, -a.coefficient, a.power, a.rate, None if a.sign is None else -a.sign)


def _sub(a: Any, b: Any) -> Tail:
    a, b = _both(a, b)
    if a is b:
        return _constant(0, a)
    return _add(a, _neg(b))


def _mul(a: Any, b: Any) -> Tail:
    if a is b:
        return _whole_power(a, 2)
    a, b = _both(a, b)
    if _is_zero(a) or _is_zero(b):
        return _constant(0, a)
    sign = None if a.sign is None or b.sign is None else a.sign * b.sign
    return Tail(a.start, a.coefficient * b.coefficient, a.power + b.power, a.rate + b.rate, sign)


def _div(a: Any, b: Any) -> Tail:
    a, b = _both(a, b)
    if b.sign in (None, 0):
        return _unknown(a)
    if _is_zero(a):
        return a
    divisor = b.coefficient
    # A strict sign excludes 0 even where the coefficient's ball touches it.
    if divisor.may_contain(0):
        divisor = Ball(_ZERO, divisor.hi) if b.sign > 0 else Ball(divisor.lo, _ZERO)
        if divisor.lo.is_zero() and divisor.hi.is_zero():
            return _unknown(a)
    sign = None if a.sign is None else a.sign * b.sign
    return Tail(a.start, a.coefficient / divisor, a.power - b.power, a.rate - b.rate, sign)


def _whole_power(a: Tail, n: int) -> Tail:
    if n < 0:
        return _div(1, _whole_power(a, -n))
    if n == 0:
        return _constant(1, a)
    sign = None if a.sign is None else a.sign**n
    return Tail(a.start, a.coefficient**n, a.power * n, a.rate * n, sign)


def _pow(a: Any, p: Any) -> Tail:
    if isinstance(p, Tail) and p.power == 0 and p.rate == 0 and p.coefficient.lo is p.coefficient.hi:
        p = p.coefficient
        p = Fraction(float(p.lo)) if p.lo.is_exact() else p
    if isinstance(p, Real):
        exponent = Fraction(p)
        if exponent.denominator == 1:
            return _whole_power(a, int(exponent))
        if a.sign in (None, -1) and not a.coefficient.lo >= 0:
            return _unknown(a)
        if exponent < 0:
            return _div(1, _pow(a, -exponent))
        return Tail(a.start, a.coefficient**exponent, a.power * exponent, a.rate * exponent, a.sign)
    a, p = _both(a, p)
    return _exp(_mul(p, _log(a)))


def _rate_below(value: arb) -> Fraction:
    """A rational number not above `value` (positive), exact where it can be."""
    if value.is_exact() and value < _FASTEST:
        return _fraction(value)
    lower = value.lower()
    return Fraction(_FASTEST) if lower > _FASTEST else _fraction(lower) if lower > 0 else Fraction(0)


def _fraction(x: arb) -> Fraction:
    mantissa, exponent = x.man_exp()
    mantissa, exponent = int(mantissa), int(exponent)
    if exponent < -4000:
        return Fraction(0)
    return Fraction(mantissa) * Fraction(2) ** exponent


def _exp(u: Tail) -> Tail:
    grows = u.order
    if grows in (0, -1):
        return Tail(u.start, BALL_OPERATIONS["exp"](u.hull()), Fraction(0), Fraction(0), 1)
    if grows is None:
        return Tail(u.start, BALL_OPERATIONS["exp"](u.hull()), Fraction(0), Fraction(0), 1)
    rising = u.sign == 1
    least = u.coefficient.lo if rising else -u.coefficient.hi  # |u| >= least X^p e^(-rX)
    c = u.coefficient
    if u.rate == 0 and u.power == 1 and c.lo is c.hi and c.lo.is_exact() and abs(c.lo) < _FASTEST:
        return Tail(u.start, Ball(1), Fraction(0), -_fraction(c.lo), 1)
    if u.rate == 0 and u.power < 1:
        if rising:
            return Tail(u.start, _ABOVE_ONE, Fraction(0), Fraction(0), 1)
        return _root_decay(u, least)
    # |u| >= least · (X^(p-1) e^(-rX)) · X, and the factor is at least its minimum on [start, inf).
    slope = least * _gauge(u.start, u.power - 1, u.rate).lo if (u.power, u.rate) != (1, 0) else least
    rate = _rate_below(slope) if slope.is_finite() else Fraction(_FASTEST)
    if rising:
        return Tail(u.start, _ABOVE_ONE, Fraction(0), -rate, 1)
    return Tail(u.start, _UNIT, Fraction(0), rate, 1)


def _root_decay(u: Tail, least: arb) -> Tail:
    """exp(-c X^p) with p < 1: below a multiple of X^-12, which serves every derivative asked for here."""
    n, p = _POWER_OF_ROOTS, u.power
    peak = arb.max(u.start, (n / (least.lower() * point(p))) ** point(1 / p))
    highest = Ball(peak) ** n * BALL_OPERATIONS["exp"](Ball(-least * peak ** point(p)))
    return Tail(u.start, Ball(_ZERO, highest.hi), Fraction(-n), Fraction(0), 1)


def _by_ball(name: str, sign: Callable[[Tail], int | None] = lambda u: None) -> Callable[[Tail], Tail]:
    def apply(u: Tail) -> Tail:
        return Tail(u.start, BALL_OPERATIONS[name](u.hull()), Fraction(0), Fraction(0), sign(u))

    return apply


def _odd_sign(u: Tail) -> int | None:
    return u.sign


def _always(u: Tail) -> int | None:
    return 1


def _small(name: str, slope: Callable[[Ball], Ball], otherwise: Callable[[Tail], Tail]) -> Callable[[Tail], Tail]:
    """A function with f(0) = 0: f(u) = u f'(between 0 and u) where u tends to 0; elsewhere `otherwise`."""

    def apply(u: Tail) -> Tail:
        if u.sign == 0:
            return u
        if u.order != -1:
            return otherwise(u)
        reach = u.hull()
        between = Ball(reach.lo if reach.lo < 0 else _ZERO, reach.hi if reach.hi > 0 else _ZERO)
        ratio = slope(between)
        sign = u.sign if ratio.lo > 0 else None
        return Tail(u.start, u.coefficient * ratio, u.power, u.rate, sign)

    return apply


def _ball_of(name: str) -> Callable[..., Ball]:
    return BALL_OPERATIONS[name]


def _sigmoid(u: Tail) -> Tail:
    if u.order != 1:
        return _by_ball("sigmoid", _always)(u)
    e = _exp(_neg(u) if u.sign == 1 else u)
    return _div(1 if u.sign == 1 else e, _add(1, e))


def _softplus(u: Tail) -> Tail:
    if u.order != 1:
        return _by_ball("softplus", _always)(u)
    if u.sign == 1:
        return _add(u, _log1p(_exp(_neg(u))))
    return _log1p(_exp(u))


def _log_sigmoid(u: Tail) -> Tail:
    return _neg(_softplus(_neg(u)))


def _tanh_large(u: Tail) -> Tail:
    if u.order != 1:
        return _by_ball("tanh", _odd_sign)(u)
    if u.sign == -1:
        return _neg(_tanh_large(_neg(u)))
    e = _exp(_mul(-2, u))
    return _div(_sub(1, e), _add(1, e))


def _sech(u: Tail) -> Tail:
    if u.order != 1:
        return _by_ball("sech", _always)(u)
    e = _exp(u if u.sign == -1 else _neg(u))
    return _div(_mul(2, e), _add(1, _mul(e, e)))


def _erfc_right(u: Tail) -> Tail:
    """erfc(u) lies in (0, 1/(√π u)] · exp(-u²) for u > 0."""
    bound = _div(_exp(_neg(_mul(u, u))), u)
    share = Ball(_ZERO, (1 / arb.pi().sqrt()).upper())
    return Tail(u.start, bound.coefficient * share, bound.power, bound.rate, 1)


def _erfc(u: Tail) -> Tail:
    if u.order != 1:
        return _by_ball("erfc", _always)(u)
    return _erfc_right(u) if u.sign == 1 else _sub(2, _erfc_right(_neg(u)))


def _erf_large(u: Tail) -> Tail:
    if u.order != 1:
        return _by_ball("erf", _odd_sign)(u)
    return _sub(1, _erfc_right(u)) if u.sign == 1 else _sub(_erfc_right(_neg(u)), 1)


def _normal_cdf(u: Tail) -> Tail:
    return _mul(Ball(arb(1) / 2), _erfc(_mul(Ball(-(arb(1) / 2).sqrt()), u)))


def _erf_slope(u: Tail) -> Tail:
    return _mul(Ball(2 / arb.pi().sqrt()), _exp(_neg(_mul(u, u))))


def _normal_pdf(u: Tail) -> Tail:
    return _mul(Ball(1 / (2 * arb.pi()).sqrt()), _exp(_mul(Ball(arb(-1) / 2), _mul(u, u))))


def _atan_large(u: Tail) -> Tail:
    if u.order != 1:
        return _by_ball("atan", _odd_sign)(u)
    if u.sign == -1:
        return _neg(_atan_large(_neg(u)))
    return _sub(Ball(arb.pi() / 2), _atan(_div(1, u)))


def _log_growth(u: Tail) -> Tail:
    """ln u for u that outgrows every bound: |rate|·X + power·ln X + ln c."""
    power = Fraction(1, 8)
    slow = _constant(0, u)
    if u.power:
        # ln X <= 8/e X^(1/8)
        slow = Tail(u.start, Ball(_ZERO, point(abs(u.power)) * 8 / arb(1).exp()), power, Fraction(0), None)
        slow = slow if u.power > 0 else _neg(slow)
    linear = Tail(u.start, Ball(point(-u.rate)), Fraction(1), Fraction(0)) if u.rate else _constant(0, u)
    log_c = _constant(BALL_OPERATIONS["log"](u.coefficient), u)
    total = _add(_add(linear, slow), log_c)
    lowest = BALL_OPERATIONS["log"](u.hull()).lo
    return Tail(total.start, total.coefficient, total.power, total.rate, 1 if lowest > 0 else None)


def _log(u: Tail) -> Tail:
    if u.order == 1 and u.sign == 1:
        return _log_growth(u)
    if u.sign != 1:
        return _unknown(u)
    if u.order == -1 and u.coefficient.lo > 0:
        return _neg(_log_growth(_div(1, u)))
    return _by_ball("log")(u)


def _log1p_large(u: Tail) -> Tail:
    if u.order == 1:
        return _log(_add(1, u))
    return _by_ball("log1p", _odd_sign)(u) if u.hull().lo > -1 else _unknown(u)


def _asinh_large(u: Tail) -> Tail:
    if u.order != 1:
        return _by_ball("asinh", _odd_sign)(u)
    if u.sign == -1:
        return _neg(_asinh_large(_neg(u)))
    return _log(_add(u, _pow(_add(1, _mul(u, u)), Fraction(1, 2))))


def _expm1_large(u: Tail) -> Tail:
    return _sub(_exp(u), 1) if u.order == 1 else _by_ball("expm1", _odd_sign)(u)


def _sinh_large(u: Tail) -> Tail:
    if u.order != 1:
        return _by_ball("sinh", _odd_sign)(u)
    if u.sign == -1:
        return _neg(_sinh_large(_neg(u)))
    return _mul(Ball(arb(1) / 2), _mul(_exp(u), _sub(1, _exp(_mul(-2, u)))))


def _cosh(u: Tail) -> Tail:
    if u.order != 1:
        return _by_ball("cosh", _always)(u)
    u = u if u.sign == 1 else _neg(u)
    return _mul(Ball(arb(1) / 2), _mul(_exp(u), _add(1, _exp(_mul(-2, u)))))


_unit_slope = Ball(1)
_atan = _small("atan", lambda v: 1 / (1 + v * v), _atan_large)
_log1p = _small("log1p", lambda v: 1 / (1 + v) if v.lo > -1 else _EVERYTHING, _log1p_large)


def _squareplus(u: Any, b: Any) -> Tail:
    u, b = _both(u, b)
    if u.order != 1 or b.power or b.rate:
        value = BALL_OPERATIONS["squareplus"](u.hull(), b.hull())
        return Tail(u.start, value, Fraction(0), Fraction(0), 1 if b.sign == 1 else None)
    root = _pow(_add(_mul(u, u), b), Fraction(1, 2))
    if u.sign == 1:
        return _mul(Ball(arb(1) / 2), _add(u, root))
    return _div(_mul(Ball(arb(1) / 2), b), _sub(root, u))


def _hill(u: Any, k: Any, n: Any) -> Tail:
    like = next(v for v in (u, k, n) if isinstance(v, Tail))
    u, k = _lift(u, like), _lift(k, like)
    if u.sign == 1 and u.order == 1 and k.sign == 1:
        return _div(1, _add(1, _pow(_div(k, u), n)))
    if u.sign == 1 and u.order == -1 and k.sign == 1:
        ratio = _pow(_div(u, k), n)
        return _div(ratio, _add(1, ratio))
    return _unknown(like)


def _exprel(u: Tail, n: Any) -> Tail:
    n = int(n)
    if u.order != 1:
        return Tail(u.start, BALL_OPERATIONS["exprel"](u.hull(), n), Fraction(0), Fraction(0), 1)
    if u.sign == 1:
        # e^u/u (1 - (n+1)/u) <= ∫ tⁿ e^(ut) dt <= e^u/u
        share = _sub(1, _mul(Ball(0, n + 1), _div(1, u)))
        value = _mul(_div(_exp(u), u), share)
        return Tail(value.start, value.coefficient, value.power, value.rate, 1)
    v = _neg(u)
    # n!/v^(n+1) less the part of the integral beyond 1, which is e^-v Σ v^j/j! of it, falling in v
    least = v.hull().lo
    rest = Ball(0)
    term = Ball(1)
    for j in range(n + 1):
        rest = rest + term
        term = term * Ball(least) / (j + 1)
    lost = rest * BALL_OPERATIONS["exp"](Ball(-least)) if least.is_finite() else _UNIT
    share = Ball(1 - lost.hi, _ONE)
    value = _div(math.factorial(n), _whole_power(v, n + 1))
    return Tail(value.start, value.coefficient * share, value.power, value.rate, 1)


def _sinc(u: Tail, n: Any) -> Tail:
    n = int(n)
    if u.order == 1:
        return _mul(Ball(-2, 2) if n else Ball(-1, 1), _div(1, u))
    return Tail(u.start, BALL_OPERATIONS["sinc"](u.hull(), n), Fraction(0), Fraction(0))


def _abs(u: Tail) -> Tail:
    if u.sign in (0, 1):
        return u
    return _neg(u) if u.sign == -1 else Tail(u.start, abs(u.coefficient), u.power, u.rate)


def _sign(u: Tail) -> Tail:
    return _constant(u.sign, u) if u.sign is not None else _constant(Ball(-1, 1), u)


def _pick(first: bool) -> Callable[[Any, Any], Tail]:
    def rule(a: Any, b: Any) -> Tail:
        a, b = _both(a, b)
        sign = _sub(a, b).sign
        if sign is not None:
            return a if (sign >= 0) is first else b
        return _constant(BALL_OPERATIONS["maximum" if first else "minimum"](a.hull(), b.hull()), a)

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
    return _constant(BALL_OPERATIONS["where"](UNDECIDED, a.hull(), b.hull()), a)


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
    "expm1": _small("expm1", _ball_of("exp"), _expm1_large),
    "log": _log,
    "log1p": _log1p,
    "sqrt": lambda u: _pow(u, Fraction(1, 2)),
    "sign": _sign,
    "sin": _small("sin", _ball_of("cos"), _by_ball("sin")),
    "cos": _by_ball("cos"),
    "sinh": _small("sinh", _ball_of("cosh"), _sinh_large),
    "cosh": _cosh,
    "tanh": _small("tanh", lambda v: _ball_of("sech")(v) ** 2, _tanh_large),
    "sech": _sech,
    "asinh": _small("asinh", lambda v: 1 / _ball_of("sqrt")(1 + v * v), _asinh_large),
    "atan": _atan,
    "sigmoid": _sigmoid,
    "log_sigmoid": _log_sigmoid,
    "softplus": _softplus,
    "erf": _small("erf", _ball_of("erf_slope"), _erf_large),
    "erfc": _erfc,
    "erf_slope": _erf_slope,
    "normal_pdf": _normal_pdf,
    "normal_cdf": _normal_cdf,
    "squareplus": _squareplus,
    "hill": _hill,
    "exprel": _exprel,
    "sinc": _sinc,
    "maximum": _pick(True),
    "minimum": _pick(False),
    "where": _where,
}

TAILS = register(System("tails", TAIL_OPERATIONS, rank=3, types=(Tail,)))
