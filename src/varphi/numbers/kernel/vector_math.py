"""The elementary functions in LLVM IR: straight-line code without calls, so that lanes stay together.

Each is the classical argument reduction followed by a polynomial of `coefficients.py` (fitted by
tools/fit_polynomials.py). They are written for binary64 and good to a few units in its last place over the whole
range; a float32 kernel computes in binary64 and rounds once at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import llvmlite.ir as ir

from varphi.numbers.real import tanhshrink_fraction

from .coefficients import DOUBLE as C
from .coefficients import ERFC_CENTRE
from .lanes import (
    BINARY64,
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
    power_of_two,
    round_to_integer,
    smallest,
    sqrt,
    to_integer,
)

INF, NAN = math.inf, math.nan
# ln 2 and π/2 in parts: the first has trailing zeros, so that its product with a small whole number is exact.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
_MAX_EXP, _MIN_EXP = 709.782712893384, -745.1332191019412


def _exp_parts(x: Lanes) -> tuple[Lanes, Lanes, IRValue]:
    """x = n ln 2 + r: r, e^r - 1 and n."""
    n = round_to_integer(x * (1 / math.log(2)))
    r = fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x))
    return r, fma(r * r, estrin(r, C["EXP"]), r), to_integer(n)


def exp(x: Lanes) -> Lanes:
    """e^x, kept just below infinity: e^x·e^(-e^x) is then 0 for huge x, not NaN. The store makes it infinite."""
    at, builder = x.at, x.at.builder
    clipped = smallest(largest(x, -746.0), _MAX_EXP)
    _, tail, n = _exp_parts(clipped)
    # 2^n in two halves reaches the denormals and the largest numbers.
    half = builder.ashr(n, at.splat(at.form.integer, 1))
    value = (tail + 1.0) * power_of_two(at, half) * power_of_two(at, builder.sub(n, half))
    return x.is_nan().choose(x, value)


def expm1(x: Lanes) -> Lanes:
    at = x.at
    clipped = smallest(largest(x, -746.0), _MAX_EXP)
    _, tail, n = _exp_parts(clipped)
    # 2^1024 is no number: keep one factor 2 outside.
    halved = at.builder.sub(n, at.splat(at.form.integer, 1))
    scale = power_of_two(at, _at_least(at, halved, -1000))
    value = 2.0 * fma(tail, scale, scale - 0.5)
    tiny = abs(x) < 1e-300
    return (tiny | x.is_nan()).choose(x, (x > _MAX_EXP).choose(INF, value))


def _at_least(at: Any, integer: IRValue, bound: int) -> IRValue:
    limit = at.splat(at.form.integer, bound)
    return at.builder.select(at.builder.icmp_signed("<", integer, limit), limit, integer)


_ROOT_HALF_BITS = 0x3FE6A09E667F3BCD


def log(x: Lanes) -> Lanes:
    at, builder, integer = x.at, x.at.builder, x.at.form.integer
    small = x < 2.2250738585072014e-308
    scaled = small.choose(x * 2.0**54, x)
    offset = builder.sub(bits(scaled), at.splat(integer, _ROOT_HALF_BITS))
    exponent = from_integer(at, builder.ashr(offset, at.splat(integer, 52))) - small.choose(54.0, 0.0)
    fraction = builder.and_(offset, at.splat(integer, (1 << 52) - 1))
    f = from_bits(at, builder.add(fraction, at.splat(integer, _ROOT_HALF_BITS))) - 1.0
    s = f / (f + 2.0)
    z = s * s
    half_square = 0.5 * f * f
    rest = z * horner(z, C["LOG"]) + half_square
    value = fma(exponent, _LN2_HIGH, f - (half_square - fma(s, rest, exponent * _LN2_LOW)))
    value = (x.equals(INF) | x.is_nan()).choose(x, value)
    return x.equals(0.0).choose(-INF, (x < 0.0).choose(NAN, value))


def log1p(x: Lanes) -> Lanes:
    u = x + 1.0
    correction = (x - (u - 1.0)) / u
    value = log(u) + correction
    return (u.equals(0.0) | u.equals(INF)).choose(log(u), (abs(x) < 1e-300).choose(x, value))


def _reduce_by_half_pi(x: Lanes) -> tuple[Lanes, Lanes]:
    """x = q π/2 + r with |r| <= π/4: (r, q) for |x| up to 2^30."""
    q = round_to_integer(x * (2 / math.pi))
    r = fma(q, -_HALF_PI[0], x)
    high = fma(q, -_HALF_PI[1], r)
    return fma(q, -_HALF_PI[2], high), q


_TRIGONOMETRIC_LIMIT = 2.0**28


def _quarter_turns(x: Lanes, offset: int, library: str) -> Lanes:
    """sin(x + offset·π/2): polynomials in the reduced argument, the C library for huge ones."""
    at, builder, integer = x.at, x.at.builder, x.at.form.integer
    r, q = _reduce_by_half_pi(smallest(largest(x, -_TRIGONOMETRIC_LIMIT), _TRIGONOMETRIC_LIMIT))
    z = r * r
    sine = fma(r * z, horner(z, C["SIN"]), r)
    cosine = fma(z * z, horner(z, C["COS"]), 1.0 - 0.5 * z)
    turns = builder.add(to_integer(q), at.splat(integer, offset))
    odd = builder.icmp_unsigned("!=", builder.and_(turns, at.splat(integer, 1)), at.splat(integer, 0))
    negative = builder.icmp_unsigned("!=", builder.and_(turns, at.splat(integer, 2)), at.splat(integer, 0))
    value = Mask(at, odd).choose(cosine, sine)
    value = Mask(at, negative).choose(-value, value)
    if offset == 0:
        value = (abs(x) < 1e-150).choose(x, value)
    return _by_library(x, ~(abs(x) <= _TRIGONOMETRIC_LIMIT), value, library)


def _by_library(x: Lanes, needed: Mask, value: Lanes, name: str) -> Lanes:
    """`value`, recomputed lane by lane with the C library's function where `needed`; a branch that is rarely taken."""
    at, builder = x.at, x.at.builder
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(at.form.scalar, [at.form.scalar]), name)
    before = builder.block
    with builder.if_then(needed.any(), likely=False):
        if at.width == 1:
            slow = builder.call(function, [x.value])
        else:
            slow = value.value
            for i in range(at.width):
                lane = ir.Constant(ir.IntType(32), i)
                result = builder.call(function, [builder.extract_element(x.value, lane)])
                slow = builder.insert_element(slow, result, lane)
            slow = builder.select(needed.value, slow, value.value)
        after = builder.block
    merged = builder.phi(at.type)
    merged.add_incoming(value.value, before)
    merged.add_incoming(slow, after)
    return Lanes(at, merged)


def sin(x: Lanes) -> Lanes:
    return _quarter_turns(x, 0, "sin")


def cos(x: Lanes) -> Lanes:
    return _quarter_turns(x, 1, "cos")


def tanh(x: Lanes) -> Lanes:
    e = expm1(-2.0 * abs(x))
    return copysign(-e / (e + 2.0), x)


def _tanhshrink(x: Lanes, depth: int, tanh: Callable[[Lanes], Lanes]) -> Lanes:
    """By a fraction of positive terms up to 2, beyond as the difference it is."""
    small = smallest(largest(x, -2.0), 2.0)
    z = small * small
    top, bottom = tanhshrink_fraction(depth)
    near = small * z * (horner(z, top) / horner(z, bottom))
    return (abs(x) < 2.0).choose(near, x - tanh(x))


def tanhshrink(x: Lanes) -> Lanes:
    return _tanhshrink(x, 11, tanh)


def sech(x: Lanes) -> Lanes:
    e = exp(-abs(x))
    return 2.0 * e / fma(e, e, 1.0)


def sinh(x: Lanes) -> Lanes:
    a = abs(x)
    e = expm1(smallest(a, 709.0))
    half = exp(0.5 * a)
    value = (a > 700.0).choose(0.5 * half * half, 0.5 * (e + e / (e + 1.0)))
    return copysign(value, x)


def cosh(x: Lanes) -> Lanes:
    a = abs(x)
    half = exp(0.5 * a)
    e = half * half
    return (a > 700.0).choose(0.5 * half * half, 0.5 * (exp(smallest(a, 709.0)) + 1.0 / e))


def sigmoid(x: Lanes) -> Lanes:
    e = exp(-abs(x))
    q = 1.0 / (e + 1.0)
    return (x < 0.0).choose(e * q, q)


def _softplus_tail(x: Lanes) -> Lanes:
    """ln(1 + e^-|x|), by ln(1 + e) = 2 artanh(e/(2 + e))."""
    e = exp(-abs(x))
    s = e / (e + 2.0)
    z = s * s
    return fma(s * z, horner(z, C["LOG1P"]), 2.0 * s)


def softplus(x: Lanes) -> Lanes:
    return largest(x, 0.0) + _softplus_tail(x)


def log_sigmoid(x: Lanes) -> Lanes:
    return smallest(x, 0.0) - _softplus_tail(x)


def asinh(x: Lanes) -> Lanes:
    a = abs(x)
    small = smallest(a, 2.0**28)
    square = small * small
    value = log1p(small + square / (sqrt(square + 1.0) + 1.0))
    return copysign((a > 2.0**28).choose(log(a) + math.log(2), value), x)


def atan(x: Lanes) -> Lanes:
    a = abs(x)
    steep, middle = a > math.tan(3 * math.pi / 8), a > math.tan(math.pi / 8)
    top = steep.choose(-1.0, middle.choose(a - 1.0, a))
    bottom = steep.choose(a, middle.choose(a + 1.0, 1.0))
    t = a.equals(INF).choose(-0.0, top / bottom)
    z = t * t
    reduced = fma(t * z, horner(z, C["ATAN"]), t)
    # π/2 and π/4 as a sum of two doubles each.
    high = steep.choose(math.pi / 2, middle.choose(math.pi / 4, 0.0))
    low = steep.choose(6.123233995736766e-17, middle.choose(3.061616997868383e-17, 0.0))
    return copysign((reduced + low) + high, x)


def _gaussian_tail(a: Lanes, high: Lanes, low: Lanes) -> Lanes:
    """erfc(a) for a >= 0, given a² = high + low."""
    t = (a - ERFC_CENTRE) / (a + ERFC_CENTRE)
    scaled = horner(a.equals(INF).choose(1.0, t), C["ERFCX"]) / fma(a, 2.0, 1.0)
    return _exp_of_minus(high, low) * scaled


def _exp_of_minus(high: Lanes, low: Lanes) -> Lanes:
    """e^-(high + low) with |low| far below 1."""
    e = exp(-high)
    return (e > 0.0).choose(fma(e, -low, e), e)


def _square(x: Lanes) -> tuple[Lanes, Lanes]:
    """x² as a sum of two lanes; the second is 0 where the first overflows."""
    high = x * x
    return high, high.equals(INF).choose(0.0, fma(x, x, -high))


def erfc(x: Lanes) -> Lanes:
    tail = _gaussian_tail(abs(x), *_square(x))
    return (x < 0.0).choose(2.0 - tail, tail)


def erf(x: Lanes) -> Lanes:
    a = abs(x)
    small = a < 1.0
    z = smallest(x * x, 1.0)
    return small.choose(x * horner(z, C["ERF"]), copysign(1.0 - _gaussian_tail(a, *_square(x)), x))


def erf_slope(x: Lanes) -> Lanes:
    return _exp_of_minus(*_square(x)) * (2 / math.sqrt(math.pi))


def normal_pdf(x: Lanes) -> Lanes:
    high, low = _square(x)
    return _exp_of_minus(0.5 * high, 0.5 * low) * (1 / math.sqrt(2 * math.pi))


def normal_cdf(x: Lanes) -> Lanes:
    high, low = _square(x)
    tail = 0.5 * _gaussian_tail(abs(x) * math.sqrt(0.5), 0.5 * high, 0.5 * low)
    return (x < 0.0).choose(tail, 1.0 - tail)


def squareplus(x: Any, b: Any) -> Lanes:
    x, b = _both(x, b)
    a = abs(x)
    # Beyond 2^500 the root is |x| itself, and its square would overflow.
    bounded = smallest(a, 2.0**500)
    root = sqrt(fma(bounded, bounded, b))
    root = (a > bounded).choose(a, root)
    positive = 0.5 * (a + root)
    return (x < 0.0).choose(0.25 * b / positive, positive)


def hill(x: Any, k: Any, n: Any) -> Lanes:
    x, k = _both(x, k)
    above = x > k
    # The smaller over the larger: one power, of a number in [0, 1].
    ratio = above.choose(k, x) / above.choose(x, k)
    p = _whole_power(ratio, n) if isinstance(n, int) and 0 < n <= 64 else power(ratio, n)
    return above.choose(1.0, p) / (p + 1.0)


def _both(a: Any, b: Any) -> tuple[Lanes, Lanes]:
    at = a.at if isinstance(a, Lanes) else b.at
    return at.lanes(a), at.lanes(b)


def _whole_power(x: Lanes, n: int) -> Lanes:
    result: Lanes | None = None
    square = x
    while n:
        if n & 1:
            result = square if result is None else result * square
        n >>= 1
        if n:
            square = square * square
    assert result is not None
    return result


def power(x: Any, p: Any) -> Lanes:
    """x^p as C's pow: whole exponents of negative numbers keep their sign."""
    if isinstance(p, Fraction) and p == Fraction(1, 2):
        return sqrt(x)
    if isinstance(p, (int, float, Fraction)) and p == int(p) and 0 < abs(p) <= 64:
        value = _whole_power(x, abs(int(p)))
        return 1.0 / value if p < 0 else value
    x, p = _both(x, p)
    magnitude = exp(p * log(abs(x)))
    odd = ~(0.5 * p).equals(round_to_integer(0.5 * p))
    signed = p.equals(round_to_integer(p)).choose(odd.choose(-magnitude, magnitude), NAN)
    value = (x < 0.0).choose(signed, magnitude)
    return (p.equals(0.0) | x.equals(1.0)).choose(1.0, value)


def _series_or_recurrence(x: Lanes, n: int, series: Lanes, value: Lanes, sources: list[Lanes]) -> Lanes:
    """The family ∫₀¹ tⁿ g(xt) dt: by its series near 0, else by E_k = (g_k - k E_(k-1))/x from `value` = E_0."""
    for k in range(1, n + 1):
        value = (sources[k % len(sources)] - float(k) * value) / x
    return (abs(x) <= n + 2.0).choose(series, value)


def exprel(x: Lanes, n: Any) -> Lanes:
    n = int(n)
    e = exp(x)
    terms = 26 + 4 * n
    small = smallest(largest(x, -n - 2.0), n + 2.0)
    growing = [1 / (math.factorial(j) * (n + j + 1)) for j in range(terms)]
    # Kummer's form for x < 0, all terms positive: e^x Σ |x|^j / ((n+1)...(n+1+j)).
    decaying = [math.factorial(n) / math.factorial(n + j + 1) for j in range(terms)]
    series = (x < 0.0).choose(e * horner(-small, decaying), horner(small, growing))
    value = _series_or_recurrence(x, n, series, expm1(x) / x, [e])
    value = (x > _MAX_EXP).choose(INF, value)
    return x.equals(-INF).choose(0.0, value)


def sinc(x: Lanes, n: Any) -> Lanes:
    n = int(n)
    s, c = sin(x), cos(x)
    small = smallest(largest(x, -n - 2.0), n + 2.0)
    signs = (1.0, 0.0, -1.0, 0.0)
    coefficients = [signs[(n + j) % 4] / (math.factorial(j) * (n + j + 1)) for j in range(26 + 4 * n)]
    value = _series_or_recurrence(x, n, horner(small, coefficients), s / x, [s, c, -s, -c])
    return abs(x).equals(INF).choose(0.0, value)


def sign(x: Lanes) -> Lanes:
    return (x > 0.0).choose(1.0, (x < 0.0).choose(-1.0, x))


def _extremum(sign_: str) -> Callable[[Any, Any], Lanes]:
    def pick(a: Any, b: Any) -> Lanes:
        a, b = _both(a, b)
        wins = a > b if sign_ == ">" else a < b
        return (wins | a.is_nan()).choose(a, b)

    return pick


def divide(a: Any, b: Any) -> Lanes:
    if isinstance(b, (int, float, Fraction)) and b != 0:
        # Multiplying by a rounded reciprocal costs half a unit of binary64, far below a float32's.
        return a * (1 / float(b))
    if isinstance(b, Lanes):
        return b.at.lanes(a) / b
    return a / b


def _where(condition: Any, a: Any, b: Any) -> Any:
    return condition.choose(a, b)


def _compare(name: str) -> Callable[[Any, Any], Mask]:
    def compare(a: Any, b: Any) -> Mask:
        a, b = _both(a, b)
        if name in ("eq", "ne"):
            return a.equals(b) if name == "eq" else ~a.equals(b)
        return {"lt": a.__lt__, "le": a.__le__, "gt": a.__gt__, "ge": a.__ge__}[name](b)

    return compare


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": divide,
    "neg": lambda a: -a,
    "pow": power,
    "abs": abs,
    **{name: _compare(name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "exp": exp,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "sqrt": sqrt,
    "sign": sign,
    "sin": sin,
    "cos": cos,
    "sinh": sinh,
    "cosh": cosh,
    "tanh": tanh,
    "tanhshrink": tanhshrink,
    "sech": sech,
    "asinh": asinh,
    "atan": atan,
    "sigmoid": sigmoid,
    "log_sigmoid": log_sigmoid,
    "softplus": softplus,
    "erf": erf,
    "erfc": erfc,
    "erf_slope": erf_slope,
    "normal_pdf": normal_pdf,
    "normal_cdf": normal_cdf,
    "squareplus": squareplus,
    "hill": hill,
    "exprel": exprel,
    "sinc": sinc,
    "maximum": _extremum(">"),
    "minimum": _extremum("<"),
    "where": _where,
    "with_slope": lambda u, value, slope: value,
}

assert BINARY64.fraction_bits == 52
