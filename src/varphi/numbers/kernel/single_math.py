"""The elementary functions in binary32: the fast path of float32 kernels, for the lanes where it is accurate.

Twice as many lanes fit a register as in binary64 and the polynomials are half as long. The price is that rounding
errors show: where a step may lose more than a few units in the last place (a sum that cancels, the exponential of a
large rounded number, an argument near the ends of the range) the lane is *flagged*, and the kernel computes it again
in binary64. So the functions here may assume finite arguments of moderate size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
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

# Steps carry an estimate of their relative error, in units in the last place. A sum whose result is smaller than its
# larger term by more than the estimates allow for is flagged; so is a function that would multiply its argument's error
# beyond the budget. ROOM was set so that the worst measured error of f and f' over the catalogue stays within 8.
ROOM = 11.0
AMPLIFICATION_BUDGET = 2.0
# The most that is asked of a sum: TIGHT for values and slopes; LOOSE where higher derivatives are computed with them,
# which lets a value beside its zero lose four bits and flags far fewer lanes.
TIGHT, LOOSE = 0.7, 0.1
# Estimates: of an elementary function itself, and of a sum that was not flagged.
_FUNCTION, _SUM = 1.5, 4.0

_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_ROUNDER = 1.5 * 2.0**23
# π/2 as a sum of three binary32 numbers.
_HALF_PI = (1.57079637050628662, -4.37113900018624283e-08, -1.71512448921530e-15)


class SingleEmitter(Emitter):
    """An emitter of binary32 lanes that collects doubts.

    Attributes:
        cancellation: the least share of its larger term that a sum may keep unflagged.
        doubts: conditions under which a lane must be computed again.
        doubting: whether steps add to them now.
        checks_products: whether each product is watched for underflow. Where pieces are chosen, a result of 0 may be
            meant; elsewhere it is enough to look at the result.
    """

    # A product and a sum may become one fused operation: faster, and one rounding less.
    flags = ("contract",)

    def __init__(self, builder: IRBuilder, width: int, cancellation: float) -> None:
        super().__init__(builder, BINARY32, width)
        self.cancellation = cancellation
        self.doubts: list[Mask] = []
        self.doubting = True
        self.checks_products = False

    def flag(self, condition: Mask) -> None:
        if self.doubting:
            self.doubts.append(condition)

    def flagged(self) -> Mask | None:
        """The lanes that any doubt was cast on; None if there was none."""
        return functools.reduce(Mask.__or__, self.doubts) if self.doubts else None


class Single:
    """A binary32 value with an estimate of its relative error in units in the last place.

    An exact one has error 0: an input, or a sign or power of two away from one.
    """

    __slots__ = ("error", "lanes")

    def __init__(self, lanes: Lanes, error: float) -> None:
        self.lanes = lanes
        self.error = error

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
    return Single(at.lanes(value), 0.0 if float(value) == to_binary32(float(value)) else 0.5)


def _rounded(function: Callable[..., Lanes]) -> Callable[..., Single]:
    """A step that does not enlarge the relative error of its arguments."""

    def step(*values: Any) -> Single:
        at = _emitter(*values)
        singles = [as_single(v, at) for v in values]
        return Single(function(*[v.lanes for v in singles]), _FUNCTION + max(v.error for v in singles))

    return step


def _unary(
    function: Callable[[Lanes], Lanes], limit: float | None = None, growth: Callable[[Lanes], Lanes] | None = None
) -> Callable[[Single], Single]:
    """An elementary function.

    Args:
        function: its lanes.
        limit: arguments beyond ±limit are flagged.
        growth: what the relative error of a rounded argument is multiplied by.
    """

    def step(x: Single) -> Single:
        if limit is not None:
            x.at.flag(~(abs(x.lanes) <= limit))
        if growth is not None and not x.exact:
            x.at.flag(~(growth(x.lanes) <= AMPLIFICATION_BUDGET / x.error))
        return Single(function(x.lanes), _FUNCTION + (0.0 if x.exact else AMPLIFICATION_BUDGET))

    return step


def _add(a: Any, b: Any, sign: int = 1) -> Single:
    at = _emitter(a, b)
    p, q = as_single(a, at), as_single(b, at)
    total = p.lanes + q.lanes if sign > 0 else p.lanes - q.lanes
    if p.exact and q.exact:
        return Single(total, 0.5)
    error = p.error + q.error
    # Few steps can all err the same way; the errors of many average out.
    least = max(error / ROOM, min(error / 6.0, 0.3))
    at.flag(abs(total) < min(at.cancellation, least) * _larger(p, q))
    return Single(total, _SUM)


def _larger(p: Single, q: Single) -> Lanes:
    a, b = abs(p.lanes), abs(q.lanes)
    return (a > b).choose(a, b)


def _mul(a: Any, b: Any) -> Single:
    at = _emitter(a, b)
    p, q = as_single(a, at), as_single(b, at)
    power_of_two = any(isinstance(v, (int, float)) and v != 0 and math.frexp(v)[0] in (0.5, -0.5) for v in (a, b))
    product = p.lanes * q.lanes
    if at.checks_products and isinstance(a, Single) and isinstance(b, Single) and not power_of_two:
        at.flag((abs(product) < 1e-36) & ~p.lanes.equals(0.0) & ~q.lanes.equals(0.0))
    return Single(product, p.error + q.error + (0.0 if power_of_two else 0.5))


def _div(a: Any, b: Any) -> Single:
    if isinstance(b, (int, float, Fraction)) and b != 0:
        return _mul(a, float(1 / Fraction(b)))
    at = _emitter(a, b)
    p, q = as_single(a, at), as_single(b, at)
    return Single(p.lanes / q.lanes, p.error + q.error + 0.5)


def _same_magnitude(function: Callable[[Lanes], Lanes]) -> Callable[[Single], Single]:
    return lambda x: Single(function(x.lanes), x.error)


def _exp_parts(x: Lanes) -> tuple[Lanes, IRValue]:
    """x = n ln 2 + r: e^r - 1 and n as bits of the exponent."""
    at = x.at
    # Adding 1.5·2^23 rounds to a whole number and leaves it in the low bits.
    shifted = fma(x, 1 / math.log(2), _ROUNDER)
    n = shifted - _ROUNDER
    r = fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x))
    tail = fma(r * r, estrin(r, C["EXP"]), r)
    return tail, at.builder.shl(bits(shifted), at.splat(at.form.integer, 23))


def exp(x: Lanes) -> Lanes:
    tail, exponent = _exp_parts(x)
    return from_bits(x.at, x.at.builder.add(bits(tail + 1.0), exponent))


def expm1(x: Lanes) -> Lanes:
    at = x.at
    tail, exponent = _exp_parts(x)
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
    x.at.flag(~(x.lanes >= 1e-30))
    value = log(x.lanes)
    if not x.exact:
        x.at.flag(~(abs(value) >= x.at.cancellation))
    return Single(value, _FUNCTION + x.error)


def _log1p_of_fraction(e: Lanes) -> Lanes:
    """ln(1 + e) for 0 <= e <= 1."""
    s = e / (e + 2.0)
    z = s * s
    return fma(s * z, horner(z, C["LOG1P"]), 2.0 * s)


def _log1p(x: Single) -> Single:
    x.at.flag(~(x.lanes >= -0.5))
    a = x.lanes
    s = a / (a + 2.0)
    z = s * s
    near = fma(s * z, horner(z, C["LOG1P"]), 2.0 * s)
    return Single((a > 1.0).choose(log(a + 1.0), near), _FUNCTION + x.error)


def _softplus_tail(x: Lanes) -> Lanes:
    return _log1p_of_fraction(exp(-abs(x)))


def softplus(x: Lanes) -> Lanes:
    return largest(x, 0.0) + _softplus_tail(x)


def log_sigmoid(x: Lanes) -> Lanes:
    return smallest(x, 0.0) - _softplus_tail(x)


def sigmoid(x: Lanes) -> Lanes:
    e = exp(-abs(x))
    u = e + 1.0
    q = 1.0 / u
    # What 1 + e lost in rounding, returned to first order.
    q = fma(q * q, (u - 1.0) - e, q)
    return (x < 0.0).choose(e * q, q)


def tanh(x: Lanes) -> Lanes:
    e = expm1(-2.0 * smallest(abs(x), 10.0))
    return copysign(-e / (e + 2.0), x)


def _tanhshrink(x: Single) -> Single:
    x.at.flag((abs(x.lanes) < 1e-10) & ~x.lanes.equals(0.0))
    # Near 0 it is a cube, which triples the relative error of its argument.
    return Single(wide._tanhshrink(x.lanes, 7, tanh), _FUNCTION + 3.0 * x.error)


def sech(x: Lanes) -> Lanes:
    e = exp(-abs(x))
    return 2.0 * e / fma(e, e, 1.0)


def sinh(x: Lanes) -> Lanes:
    e = expm1(abs(x))
    return copysign(0.5 * (e + e / (e + 1.0)), x)


def cosh(x: Lanes) -> Lanes:
    e = exp(abs(x))
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


def _quarter_turns(offset: int) -> Callable[[Lanes], Lanes]:
    """sin(x + offset·π/2)."""

    def function(x: Lanes) -> Lanes:
        at, builder, integer = x.at, x.at.builder, x.at.form.integer
        q = round_to_integer(x * (2 / math.pi))
        r = fma(q, -_HALF_PI[2], fma(q, -_HALF_PI[1], fma(q, -_HALF_PI[0], x)))
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
        value = function(x.lanes)
        x.at.flag(~(abs(x.lanes) <= 256.0))
        if not x.exact:
            # Away from 0 a rounded argument costs |x| units, and near a zero of the function far more.
            close = abs(value) < x.at.cancellation
            x.at.flag(
                ~(abs(x.lanes) <= AMPLIFICATION_BUDGET / x.error) | (close if offset else close & (abs(x.lanes) > 1.0))
            )
        return Single(value, _FUNCTION + (0.0 if x.exact else AMPLIFICATION_BUDGET))

    return step


def _square(x: Lanes) -> tuple[Lanes, Lanes]:
    high = x * x
    return high, fma(x, x, -high)


def _exp_of_minus(high: Lanes, low: Lanes) -> Lanes:
    e = exp(-high)
    return fma(e, -low, e)


def _gaussian_tail(a: Lanes, high: Lanes, low: Lanes) -> Lanes:
    """erfc(a) for a >= 0, given a² = high + low; one division serves both quotients."""
    first, second = a + ERFC_CENTRE, fma(a, 2.0, 1.0)
    inverse = 1.0 / (first * second)
    t = (a - ERFC_CENTRE) * (second * inverse)
    return _exp_of_minus(high, low) * (horner(t, C["ERFCX"]) * (first * inverse))


def erfc(x: Lanes) -> Lanes:
    tail = _gaussian_tail(abs(x), *_square(x))
    return (x < 0.0).choose(2.0 - tail, tail)


def erf(x: Lanes) -> Lanes:
    a = smallest(abs(x), 6.0)
    z = smallest(x * x, 1.0)
    return (a < 1.0).choose(x * horner(z, C["ERF"]), copysign(1.0 - _gaussian_tail(a, *_square(a)), x))


def erf_slope(x: Lanes) -> Lanes:
    return _exp_of_minus(*_square(x)) * (2 / math.sqrt(math.pi))


def normal_pdf(x: Lanes) -> Lanes:
    high, low = _square(x)
    return _exp_of_minus(0.5 * high, 0.5 * low) * (1 / math.sqrt(2 * math.pi))


def normal_cdf(x: Lanes) -> Lanes:
    high, low = _square(x)
    tail = 0.5 * _gaussian_tail(abs(x) * math.sqrt(0.5), 0.5 * high, 0.5 * low)
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
    if isinstance(x, Single) and isinstance(p, (int, float, Fraction)) and p == int(p) and 0 < abs(p) <= 8:
        value = wide._whole_power(x.lanes, abs(int(p)))
        return Single(1.0 / value if p < 0 else value, abs(p) * (x.error + 0.5))
    raise UnsupportedOperation("binary32 kernels have no general power")


def _extremum(greater: bool) -> Callable[[Any, Any], Single]:
    def step(a: Any, b: Any) -> Single:
        at = _emitter(a, b)
        p, q = as_single(a, at), as_single(b, at)
        wins = p.lanes > q.lanes if greater else p.lanes < q.lanes
        return Single((wins | p.lanes.is_nan()).choose(p.lanes, q.lanes), max(p.error, q.error))

    return step


def _where(condition: SingleMask, a: Any, b: Any) -> Any:
    at = condition.at
    assert isinstance(at, SingleEmitter)
    p, q = as_single(a, at), as_single(b, at)
    return Single(condition.choose(p.lanes, q.lanes), max(p.error, q.error))


def _compare(name: str) -> Callable[[Any, Any], Mask]:
    def step(a: Any, b: Any) -> SingleMask:
        at = _emitter(a, b)
        return SingleMask(at, wide.OPERATIONS[name](as_single(a, at).lanes, as_single(b, at).lanes).value)

    return step


_EXP_LIMIT, _GAUSS_LIMIT = 86.0, 9.2

OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _add,
    "sub": lambda a, b: _add(a, b, -1),
    "mul": _mul,
    "div": _div,
    "neg": _same_magnitude(lambda x: -x),
    "abs": _same_magnitude(abs),
    "pow": _power,
    **{name: _compare(name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "exp": _unary(exp, _EXP_LIMIT, _magnitude),
    "expm1": _unary(expm1, _EXP_LIMIT, lambda x: x),
    "log": _log,
    "log1p": _log1p,
    "sqrt": _rounded(sqrt),
    "sign": _same_magnitude(wide.sign),
    "sin": _trigonometric(0),
    "cos": _trigonometric(1),
    "sinh": _unary(sinh, _EXP_LIMIT, _magnitude),
    "cosh": _unary(cosh, _EXP_LIMIT, _magnitude),
    "tanh": _rounded(tanh),
    "tanhshrink": _tanhshrink,
    "sech": _unary(sech, 0.5 * _EXP_LIMIT, lambda x: 2.0 * abs(x)),
    "asinh": _rounded(asinh),
    "atan": _rounded(atan),
    "sigmoid": _unary(sigmoid, _EXP_LIMIT, _negative_part),
    "log_sigmoid": _unary(log_sigmoid, _EXP_LIMIT, lambda x: x),
    "softplus": _unary(softplus, _EXP_LIMIT, _negative_part),
    "erf": _rounded(erf),
    "erfc": _unary(erfc, _GAUSS_LIMIT, _square_if_positive),
    "erf_slope": _unary(erf_slope, _GAUSS_LIMIT, _twice_square),
    "normal_pdf": _unary(normal_pdf, _GAUSS_LIMIT * math.sqrt(2), lambda x: x * x),
    "normal_cdf": _unary(normal_cdf, _GAUSS_LIMIT * math.sqrt(2), _square_if_negative),
    "squareplus": _rounded(wide.squareplus),
    "maximum": _extremum(True),
    "minimum": _extremum(False),
    "where": _where,
    "with_slope": lambda u, value, slope: value,
}

SINGLES = register(System("binary32 kernels", OPERATIONS, rank=1, types=(Single, SingleMask)))
