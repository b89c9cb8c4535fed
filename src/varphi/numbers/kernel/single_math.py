"""The elementary functions in binary32: the fast path of float32 kernels, for the lanes where it is accurate.

Twice as many lanes fit a register as in binary64 and the polynomials are half as long. The price is that rounding
errors show: where a step may lose more than a few units in the last place (a sum that cancels, the exponential of a
large rounded number, an argument near the ends of the range) the lane is *flagged*, and the kernel computes it again
in binary64. So the functions here may assume finite arguments of moderate size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import llvmlite.ir as ir

from varphi.numbers._system import System, UnsupportedOperation, register

from . import vector_math as wide
from .coefficients import ERFC_CENTRE
from .coefficients import SINGLE as C
from .lanes import (
    BINARY32,
    Emitter,
    IRBuilder,
    IRValue,
    Lanes,
    Mask,
    bits,
    copysign,
    estrin,
    fma,
    from_bits,
    from_integer,
    horner,
    largest,
    round_to_integer,
    smallest,
    sqrt,
    to_binary32,
    to_integer,
)


@dataclass(frozen=True)
class Strictness:
    """How much accuracy a lane may lose before it is flagged.

    Steps carry an estimate of their relative error, in units in the last place.

    Attributes:
        cancellation: the share of its larger term that a sum may fall to, at most; less where the estimates are small.
        amplification: units in the last place that a function may make of its argument's error.
    """

    cancellation: float
    amplification: float


# TIGHT is for values and slopes, LOOSE where higher derivatives are computed with them: it lets a value beside its zero
# lose four bits, and flags far fewer lanes.
TIGHT, LOOSE = Strictness(0.7, 2.0), Strictness(0.1, 8.0)
# A sum is flagged where it is smaller than its larger term times the estimated errors over ROOM, which was set so that
# the worst measured error of f and f' over the catalogue stays within 8.
ROOM = 11.0
# Estimates: of an elementary function itself, of one made of the Gaussian's tail, and of a sum that was not flagged.
_FUNCTION, _GAUSSIAN_TAIL, _SUM = 1.5, 3.0, 4.0
# What a sum of pairs may fall to: its 44 bits then still hold a binary32 result.
_PAIR_CANCELLATION = 2.0**-16

_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_ROUNDER = 1.5 * 2.0**23
# Beyond these arguments e^x and e^(-x²) leave the normal numbers.
_EXP_LIMIT, _GAUSS_LIMIT = 86.0, 9.2
# π/2 as a sum of three binary32 numbers.
_HALF_PI = (1.57079637050628662, -4.37113900018624283e-08, -1.71512448921530e-15)


class SingleEmitter(Emitter):
    """An emitter of binary32 lanes that collects doubts.

    Attributes:
        strictness: what is doubted.
        beyond_range: conditions under which a step may have left the normal numbers: all of the lane is wrong.
        inaccurate: conditions under which rounding may show in a result's last digits.
        doubting: whether steps add to them now.
        checks_products: whether each product is watched for underflow. Where pieces are chosen, a result of 0 may be
            meant; elsewhere it is enough to look at the result.
    """

    # A product and a sum may become one fused operation: faster, and one rounding less.
    flags = ("contract",)

    def __init__(self, builder: IRBuilder, width: int, strictness: Strictness) -> None:
        super().__init__(builder, BINARY32, width)
        self.strictness = strictness
        self.beyond_range: list[Mask] = []
        self.inaccurate: list[Mask] = []
        self.doubting = True
        self.checks_products = False

    def doubt_range(self, condition: Mask) -> None:
        if self.doubting:
            self.beyond_range.append(condition)

    def doubt_digits(self, condition: Mask) -> None:
        if self.doubting:
            self.inaccurate.append(condition)


class Single:
    """A binary32 value with an estimate of its relative error in units in the last place.

    An exact one has error 0: an input, or a sign or power of two away from one. Sums and products of exact values and
    constants also know what they lost: `lanes + low` is then good to some 44 bits. Nothing is paid for a `low` that no
    function asks for: LLVM drops what is not used.
    """

    __slots__ = ("error", "lanes", "low")

    def __init__(self, lanes: Lanes, error: float, low: Lanes | None = None) -> None:
        self.lanes = lanes
        self.error = error
        self.low = low

    @property
    def is_pair(self) -> bool:
        """Whether the value is known beyond binary32."""
        return self.exact or self.low is not None

    @property
    def exact(self) -> bool:
        return self.error == 0.0

    @property
    def at(self) -> SingleEmitter:
        assert isinstance(self.lanes.at, SingleEmitter)
        return self.lanes.at


class SingleMask(Mask):
    """Truth values of comparisons between binary32 values."""


def _emitter(*values: Any) -> SingleEmitter:
    return next(v.at for v in values if isinstance(v, Single))


def as_single(value: Any, at: SingleEmitter) -> Single:
    """A value or a constant as lanes."""
    if isinstance(value, Single):
        return value
    number = float(value)
    rounded = to_binary32(number)
    if number == rounded or not math.isfinite(rounded):
        return Single(at.lanes(value), 0.0 if number == rounded else 0.5)
    return Single(at.lanes(rounded), 0.5, at.lanes(number - rounded))


def _rounded(function: Callable[..., Lanes]) -> Callable[..., Single]:
    """A step that does not enlarge the relative error of its arguments."""

    def step(*values: Any) -> Single:
        at = _emitter(*values)
        singles = [as_single(v, at) for v in values]
        return Single(function(*[v.lanes for v in singles]), _FUNCTION + max(v.error for v in singles))

    return step


def _unary(
    function: Callable[[Lanes, Lanes | None], Lanes],
    trusted: Callable[[Lanes], Mask],
    growth: Callable[[Lanes], Lanes],
    error: float = _FUNCTION,
) -> Callable[[Single], Single]:
    """An elementary function that multiplies the relative error of its argument.

    Args:
        function: its lanes, from the argument and what the argument lost in rounding.
        trusted: where the lanes are right; other arguments are flagged.
        growth: what the relative error of a rounded argument is multiplied by.
        error: of the function itself.
    """

    def step(x: Single) -> Single:
        x.at.doubt_range(~trusted(x.lanes))
        if x.is_pair:
            # Where the function is linear the rounding of the argument itself is left.
            return Single(function(x.lanes, x.low), error + min(x.error, 0.5))
        x.at.doubt_digits(~(growth(x.lanes) <= x.at.strictness.amplification / x.error))
        return Single(function(x.lanes, None), error + x.at.strictness.amplification)

    return step


def _add(a: Any, b: Any, sign: int = 1) -> Single:
    at = _emitter(a, b)
    p, q = as_single(a, at), as_single(b, at)
    total = p.lanes + q.lanes if sign > 0 else p.lanes - q.lanes
    low = _lost_in_sum(p, q, sign, total) if p.is_pair and q.is_pair else None
    if p.exact and q.exact:
        return Single(total, 0.5, low)
    if low is not None:
        exact = total.plus(low)
        at.doubt_digits(abs(exact) < _PAIR_CANCELLATION * _larger(p, q))
        return Single(exact, 0.5, low.minus(exact.minus(total)))
    error = p.error + q.error
    # Few steps can all err the same way; the errors of many average out.
    least = max(error / ROOM, min(error / 6.0, 0.3))
    at.doubt_digits(abs(total) < min(at.strictness.cancellation, least) * _larger(p, q))
    return Single(total, _SUM)


def _lost_in_sum(p: Single, q: Single, sign: int, total: Lanes) -> Lanes:
    """What p ± q is beyond `total` (Knuth's TwoSum, and what was known to be lost before)."""
    a, b = p.lanes, q.lanes if sign > 0 else -q.lanes
    # Not fused: each difference must be of the rounded numbers.
    back = total.minus(a)
    low = a.minus(total.minus(back)).plus(b.minus(back))
    for known, weight in ((p.low, 1), (q.low, sign)):
        if known is not None:
            low = low.plus(known) if weight > 0 else low.minus(known)
    return low


def _lost_in_product(p: Single, q: Single, product: Lanes) -> Lanes:
    """What p·q is beyond `product`."""
    low = fma(p.lanes, q.lanes, -product)
    for known, other in ((p.low, q), (q.low, p)):
        if known is not None:
            low = fma(known, other.lanes, low)
    return low


def _larger(p: Single, q: Single) -> Lanes:
    a, b = abs(p.lanes), abs(q.lanes)
    return (a > b).choose(a, b)


def _mul(a: Any, b: Any) -> Single:
    at = _emitter(a, b)
    p, q = as_single(a, at), as_single(b, at)
    power_of_two = any(isinstance(v, (int, float)) and v != 0 and math.frexp(v)[0] in (0.5, -0.5) for v in (a, b))
    product = p.lanes * q.lanes
    low = None
    if p.is_pair and q.is_pair and not (power_of_two and p.low is None and q.low is None):
        low = _lost_in_product(p, q, product)
    if at.checks_products and isinstance(a, Single) and isinstance(b, Single) and not power_of_two:
        at.doubt_range((abs(product) < 1e-36) & ~p.lanes.equals(0.0) & ~q.lanes.equals(0.0))
    return Single(product, p.error + q.error + (0.0 if power_of_two else 0.5), low)


def _div(a: Any, b: Any) -> Single:
    if isinstance(b, (int, float, Fraction)) and b != 0:
        return _mul(a, float(1 / Fraction(b)))
    at = _emitter(a, b)
    p, q = as_single(a, at), as_single(b, at)
    return Single(p.lanes / q.lanes, p.error + q.error + 0.5)


def _negative(x: Single) -> Single:
    return Single(-x.lanes, x.error, None if x.low is None else -x.low)


def _absolute(x: Single) -> Single:
    return Single(abs(x.lanes), x.error, _turned(x.low, x.lanes < 0.0))


def _turned(low: Lanes | None, where: Mask) -> Lanes | None:
    return None if low is None else where.choose(-low, low)


def _exp_parts(x: Lanes, low: Lanes | None) -> tuple[Lanes, IRValue]:
    """x + low = n ln 2 + r: e^r - 1 and n as bits of the exponent."""
    at = x.at
    # Adding 1.5·2^23 rounds to a whole number and leaves it in the low bits.
    shifted = fma(x, 1 / math.log(2), _ROUNDER)
    n = shifted - _ROUNDER
    r = fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x))
    if low is not None:
        r = r + low
    tail = fma(r * r, estrin(r, C["EXP"]), r)
    return tail, at.builder.shl(bits(shifted), at.splat(at.form.integer, 23))


def exp(x: Lanes, low: Lanes | None = None) -> Lanes:
    tail, exponent = _exp_parts(x, low)
    return from_bits(x.at, x.at.builder.add(bits(tail + 1.0), exponent))


def expm1(x: Lanes, low: Lanes | None = None) -> Lanes:
    at = x.at
    tail, exponent = _exp_parts(x, low)
    scale = from_bits(at, at.builder.add(bits(at.lanes(1.0)), exponent))
    return fma(tail, scale, scale - 1.0)


_ROOT_HALF_BITS = 0x3F3504F3


def log(x: Lanes) -> Lanes:
    at, builder, integer = x.at, x.at.builder, x.at.form.integer
    offset = builder.sub(bits(x), at.splat(integer, _ROOT_HALF_BITS))
    exponent = from_integer(at, builder.ashr(offset, at.splat(integer, 23)))
    fraction = builder.and_(offset, at.splat(integer, (1 << 23) - 1))
    f = from_bits(at, builder.add(fraction, at.splat(integer, _ROOT_HALF_BITS))) - 1.0
    s = f / (f + 2.0)
    z = s * s
    half_square = 0.5 * f * f
    rest = fma(z, horner(z, C["LOG"]), half_square)
    return fma(exponent, _LN2_HIGH, f - (half_square - fma(s, rest, exponent * _LN2_LOW)))


def _log(x: Single) -> Single:
    x.at.doubt_range(~(x.lanes >= 1e-30))
    value = log(x.lanes)
    if not x.exact:
        x.at.doubt_digits(~(abs(value) >= x.at.strictness.cancellation))
    return Single(value, _FUNCTION + x.error)


def _log1p_of_fraction(e: Lanes) -> Lanes:
    """ln(1 + e) for 0 <= e <= 1."""
    s = e / (e + 2.0)
    z = s * s
    return fma(s * z, horner(z, C["LOG1P"]), 2.0 * s)


def _log1p(x: Single) -> Single:
    x.at.doubt_digits(~(x.lanes >= -0.5))
    a = x.lanes
    s = a / (a + 2.0)
    z = s * s
    near = fma(s * z, horner(z, C["LOG1P"]), 2.0 * s)
    return Single((a > 1.0).choose(log(a + 1.0), near), _FUNCTION + x.error)


def _exp_of_minus_size(x: Lanes, low: Lanes | None) -> Lanes:
    """e^(-|x + low|)."""
    size = smallest(abs(x), _EXP_LIMIT)
    if low is not None:
        low = (size < _EXP_LIMIT).choose(_turned(low, x >= 0.0), 0.0)
    return exp(-size, low)


def _softplus_tail(x: Lanes, low: Lanes | None) -> Lanes:
    return _log1p_of_fraction(_exp_of_minus_size(x, low))


def softplus(x: Lanes, low: Lanes | None = None) -> Lanes:
    return largest(x, 0.0) + _softplus_tail(x, low)


def log_sigmoid(x: Lanes, low: Lanes | None = None) -> Lanes:
    return smallest(x, 0.0) - _softplus_tail(x, low)


def sigmoid(x: Lanes, low: Lanes | None = None) -> Lanes:
    e = _exp_of_minus_size(x, low)
    u = e + 1.0
    q = 1.0 / u
    # What 1 + e lost in rounding, returned to first order.
    q = fma(q * q, (u - 1.0) - e, q)
    return (x < 0.0).choose(e * q, q)


def tanh(x: Lanes) -> Lanes:
    e = expm1(-2.0 * smallest(abs(x), 10.0))
    return copysign(-e / (e + 2.0), x)


def _tanhshrink(x: Single) -> Single:
    x.at.doubt_range((abs(x.lanes) < 1e-10) & ~x.lanes.equals(0.0))
    # Near 0 it is a cube, which triples the relative error of its argument.
    return Single(wide._tanhshrink(x.lanes, 7, tanh), _FUNCTION + 3.0 * x.error)


def sech(x: Lanes, low: Lanes | None = None) -> Lanes:
    e = _exp_of_minus_size(x, low)
    return 2.0 * e / fma(e, e, 1.0)


def sinh(x: Lanes, low: Lanes | None = None) -> Lanes:
    e = expm1(abs(x), _turned(low, x < 0.0))
    return copysign(0.5 * (e + e / (e + 1.0)), x)


def cosh(x: Lanes, low: Lanes | None = None) -> Lanes:
    e = exp(abs(x), _turned(low, x < 0.0))
    return 0.5 * (e + 1.0 / e)


def asinh(x: Lanes) -> Lanes:
    a = abs(x)
    square = a * a
    u = a + square / (sqrt(square + 1.0) + 1.0)
    s = u / (u + 2.0)
    z = s * s
    return copysign((u > 1.0).choose(log(u + 1.0), fma(s * z, horner(z, C["LOG1P"]), 2.0 * s)), x)


def atan(x: Lanes) -> Lanes:
    a = abs(x)
    steep, middle = a > math.tan(3 * math.pi / 8), a > math.tan(math.pi / 8)
    top = steep.choose(-1.0, middle.choose(a - 1.0, a))
    bottom = steep.choose(a, middle.choose(a + 1.0, 1.0))
    t = top / bottom
    z = t * t
    reduced = fma(t * z, horner(z, C["ATAN"]), t)
    return copysign(reduced + steep.choose(math.pi / 2, middle.choose(math.pi / 4, 0.0)), x)


def _quarter_turns(offset: int) -> Callable[[Lanes, Lanes | None], Lanes]:
    """sin(x + low + offset·π/2)."""

    def function(x: Lanes, low: Lanes | None) -> Lanes:
        at, builder, integer = x.at, x.at.builder, x.at.form.integer
        q = round_to_integer(x * (2 / math.pi))
        r = fma(q, -_HALF_PI[2], fma(q, -_HALF_PI[1], fma(q, -_HALF_PI[0], x)))
        if low is not None:
            r = r + low
        z = r * r
        sine = fma(r * z, horner(z, C["SIN"]), r)
        cosine = fma(z * z, horner(z, C["COS"]), 1.0 - 0.5 * z)
        turns = builder.add(to_integer(q), at.splat(integer, offset))
        odd = builder.trunc(turns, at.shape(ir.IntType(1)))
        flip = builder.shl(builder.and_(turns, at.splat(integer, 2)), at.splat(integer, 30))
        value = Mask(at, odd).choose(cosine, sine)
        return from_bits(at, builder.xor(bits(value), flip))

    return function


def _trigonometric(offset: int) -> Callable[[Single], Single]:
    function = _quarter_turns(offset)

    def step(x: Single) -> Single:
        value = function(x.lanes, x.low)
        x.at.doubt_range(~(abs(x.lanes) <= 256.0))
        if x.low is not None:
            # Beside a zero only what the pair itself does not know is left.
            x.at.doubt_digits((abs(value) < _PAIR_CANCELLATION) & (abs(x.lanes) > 1.0))
        elif not x.exact:
            # Away from 0 a rounded argument costs |x| units, and near a zero of the function far more.
            close = abs(value) < x.at.strictness.cancellation
            far = ~(abs(x.lanes) <= x.at.strictness.amplification / x.error)
            x.at.doubt_digits(far | (close if offset else close & (abs(x.lanes) > 1.0)))
        return Single(value, _FUNCTION + (min(x.error, 0.5) if x.is_pair else x.at.strictness.amplification))

    return step


def _square(x: Lanes, low: Lanes | None) -> tuple[Lanes, Lanes]:
    high = x * x
    rest = fma(x, x, -high)
    return high, rest if low is None else fma(2.0 * x, low, rest)


def _exp_of_minus(high: Lanes, low: Lanes) -> Lanes:
    e = exp(-high)
    return fma(e, -low, e)


def _gaussian_tail(a: Lanes, high: Lanes, low: Lanes) -> Lanes:
    """erfc(a) for a >= 0, given a² = high + low; one division serves both quotients."""
    first, second = a + ERFC_CENTRE, fma(a, 2.0, 1.0)
    inverse = 1.0 / (first * second)
    t = (a - ERFC_CENTRE) * (second * inverse)
    return _exp_of_minus(high, low) * (horner(t, C["ERFCX"]) * (first * inverse))


def erfc(x: Lanes, low: Lanes | None = None) -> Lanes:
    tail = _gaussian_tail(abs(x), *_square(x, low))
    return (x < 0.0).choose(2.0 - tail, tail)


def erf(x: Lanes) -> Lanes:
    a = smallest(abs(x), 6.0)
    z = smallest(x * x, 1.0)
    return (a < 1.0).choose(x * horner(z, C["ERF"]), copysign(1.0 - _gaussian_tail(a, *_square(a, None)), x))


def erf_slope(x: Lanes, low: Lanes | None = None) -> Lanes:
    return _exp_of_minus(*_square(x, low)) * (2 / math.sqrt(math.pi))


def normal_pdf(x: Lanes, low: Lanes | None = None) -> Lanes:
    high, rest = _square(x, low)
    return _exp_of_minus(0.5 * high, 0.5 * rest) * (1 / math.sqrt(2 * math.pi))


def normal_cdf(x: Lanes, low: Lanes | None = None) -> Lanes:
    high, rest = _square(x, low)
    tail = 0.5 * _gaussian_tail(abs(x) * math.sqrt(0.5), 0.5 * high, 0.5 * rest)
    centre = fma(x, horner(0.5 * high, _CDF), 0.5)
    return (abs(x) < 0.8).choose(centre, (x < 0.0).choose(tail, 1.0 - tail))


# Φ(x) = 1/2 + x·P(x²/2) near 0, from erf's polynomial.
_CDF = [c * math.sqrt(0.125) for c in C["ERF"]]


def _magnitude(x: Lanes) -> Lanes:
    return abs(x)


def _negative_part(x: Lanes) -> Lanes:
    return -x


def _twice_square(x: Lanes) -> Lanes:
    return 2.0 * x * x


def _square_if_negative(x: Lanes) -> Lanes:
    return (x < 0.0).choose(x * x, 0.0)


def _square_if_positive(x: Lanes) -> Lanes:
    return (x > 0.0).choose(2.0 * x * x, 0.0)


def _power(x: Any, p: Any) -> Single:
    if isinstance(p, Fraction) and p == Fraction(1, 2):
        return Single(sqrt(x.lanes), 0.5 + 0.5 * x.error)
    if isinstance(x, Single) and p in (2, 3):
        return _mul(x, x) if p == 2 else _mul(_mul(x, x), x)
    if isinstance(x, Single) and isinstance(p, (int, float, Fraction)) and p == int(p) and 0 < abs(p) <= 8:
        value = wide._whole_power(x.lanes, abs(int(p)))
        return Single(1.0 / value if p < 0 else value, abs(p) * (x.error + 0.5))
    raise UnsupportedOperation("binary32 kernels have no general power")


def _extremum(greater: bool) -> Callable[[Any, Any], Single]:
    def step(a: Any, b: Any) -> Single:
        at = _emitter(a, b)
        p, q = as_single(a, at), as_single(b, at)
        wins = p.lanes > q.lanes if greater else p.lanes < q.lanes
        return _chosen(wins | p.lanes.is_nan(), p, q)

    return step


def _where(condition: SingleMask, a: Any, b: Any) -> Any:
    at = condition.at
    assert isinstance(at, SingleEmitter)
    return _chosen(condition, as_single(a, at), as_single(b, at))


def _chosen(condition: Mask, p: Single, q: Single) -> Single:
    """p where the condition holds, q elsewhere."""
    low = None
    if p.is_pair and q.is_pair and not (p.exact and q.exact):
        low = condition.choose(p.low or 0.0, q.low or 0.0)
    return Single(condition.choose(p.lanes, q.lanes), max(p.error, q.error), low)


def _compare(name: str) -> Callable[[Any, Any], Mask]:
    def step(a: Any, b: Any) -> SingleMask:
        at = _emitter(a, b)
        return SingleMask(at, wide.OPERATIONS[name](as_single(a, at).lanes, as_single(b, at).lanes).value)

    return step


def _within(limit: float) -> Callable[[Lanes], Mask]:
    return lambda x: abs(x) <= limit


def _above(limit: float) -> Callable[[Lanes], Mask]:
    return lambda x: x >= limit


def _below(limit: float) -> Callable[[Lanes], Mask]:
    return lambda x: x <= limit


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _add,
    "sub": lambda a, b: _add(a, b, -1),
    "mul": _mul,
    "div": _div,
    "neg": _negative,
    "abs": _absolute,
    "pow": _power,
    **{name: _compare(name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "exp": _unary(exp, _within(_EXP_LIMIT), _magnitude),
    "expm1": _unary(expm1, _within(_EXP_LIMIT), lambda x: x),
    "log": _log,
    "log1p": _log1p,
    "sqrt": _rounded(sqrt),
    "sign": lambda x: Single(wide.sign(x.lanes), x.error),
    "sin": _trigonometric(0),
    "cos": _trigonometric(1),
    "sinh": _unary(sinh, _within(_EXP_LIMIT), _magnitude),
    "cosh": _unary(cosh, _within(_EXP_LIMIT), _magnitude),
    "tanh": _rounded(tanh),
    "tanhshrink": _tanhshrink,
    "sech": _unary(sech, _within(0.5 * _EXP_LIMIT), lambda x: 2.0 * abs(x)),
    "asinh": _rounded(asinh),
    "atan": _rounded(atan),
    "sigmoid": _unary(sigmoid, _above(-_EXP_LIMIT), _negative_part),
    "log_sigmoid": _unary(log_sigmoid, _below(_EXP_LIMIT), lambda x: x),
    "softplus": _unary(softplus, _above(-_EXP_LIMIT), _negative_part),
    "erf": _rounded(erf),
    "erfc": _unary(erfc, _within(_GAUSS_LIMIT), _square_if_positive, _GAUSSIAN_TAIL),
    "erf_slope": _unary(erf_slope, _within(_GAUSS_LIMIT), _twice_square),
    "normal_pdf": _unary(normal_pdf, _within(_GAUSS_LIMIT * math.sqrt(2)), lambda x: x * x),
    "normal_cdf": _unary(normal_cdf, _within(_GAUSS_LIMIT * math.sqrt(2)), _square_if_negative, _GAUSSIAN_TAIL),
    "squareplus": _rounded(wide.squareplus),
    "maximum": _extremum(True),
    "minimum": _extremum(False),
    "where": _where,
    "with_slope": lambda u, value, slope: value,
}

SINGLES = register(System("binary32 kernels", OPERATIONS, rank=1, types=(Single, SingleMask)))
