"""Plain Python numbers as a number system: float64, scalar, with IEEE limits instead of exceptions."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable
from numbers import Real
from typing import Any

from ._system import System, register

_ROOT_HALF = math.sqrt(0.5)
_ROOT_2PI = math.sqrt(2 * math.pi)


def _ieee(function: Callable[[float], float]) -> Callable[[Any], float]:
    """`function` of `math`, giving ±inf where math raises OverflowError and NaN where it raises ValueError."""

    def wrapped(x: Any) -> float:
        x = float(x)
        try:
            return function(x)
        except OverflowError:
            return math.inf if function is not math.sinh or x > 0 else -math.inf
        except ValueError:
            return math.nan

    return wrapped


exp, expm1, sqrt, sinh, cosh = map(_ieee, (math.exp, math.expm1, math.sqrt, math.sinh, math.cosh))


def log(x: Any) -> float:
    return -math.inf if x == 0 else _ieee(math.log)(x)


def log1p(x: Any) -> float:
    return -math.inf if x == -1 else _ieee(math.log1p)(x)


def sigmoid(x: Any) -> float:
    e = exp(-abs(x))
    return 1 / (1 + e) if x >= 0 else e / (1 + e) if x < 0 else math.nan


def softplus(x: Any) -> float:
    return max(float(x), 0.0) + math.log1p(exp(-abs(x))) if x == x else math.nan


@functools.cache
def tanhshrink_fraction(depth: int) -> tuple[list[float], list[float]]:
    """P and Q, coefficients from the lowest, with x - tanh x = x z P(z)/Q(z) for z = x².

    A convergent of Lambert's tanh x = x/(1 + z/(3 + z/(5 + ...))); all coefficients are positive, so nothing cancels.
    For |x| <= 2 it is good to binary32 at depth 7, to binary64 at depth 11.
    """
    bottom, top = [2 * depth + 1], [1]
    for k in reversed(range(depth)):
        terms = itertools.zip_longest([(2 * k + 1) * c for c in bottom], [0, *top], fillvalue=0)
        bottom, top = [a + b for a, b in terms], bottom
    gap = [a - b for a, b in itertools.zip_longest(bottom, top, fillvalue=0)]
    return [c / bottom[0] for c in gap[1:]], [c / bottom[0] for c in bottom]


def tanhshrink(x: Any) -> float:
    x = float(x)
    if not abs(x) < 2:
        return x - math.tanh(x)
    z = x * x
    top, bottom = (functools.reduce(lambda t, c: t * z + c, reversed(p)) for p in tanhshrink_fraction(11))
    return x * z * (top / bottom)


def sech(x: Any) -> float:
    e = exp(-abs(x))
    return 2 * e / (1 + e * e)


def erf_slope(x: Any) -> float:
    return 2 / math.sqrt(math.pi) * exp(-x * x)


def normal_pdf(x: Any) -> float:
    return exp(-0.5 * x * x) / _ROOT_2PI


def normal_cdf(x: Any) -> float:
    return 0.5 * math.erfc(-x * _ROOT_HALF)


def squareplus(x: Any, b: Any) -> float:
    if b == 0:
        return max(float(x), 0.0)
    root = math.hypot(x, math.sqrt(b))
    return 0.5 * x + 0.5 * root if x >= 0 else 0.25 * b / (0.5 * root - 0.5 * x)


def hill(x: Any, k: Any, n: Any) -> float:
    if x <= k:
        ratio = (x / k) ** n
        return ratio / (1 + ratio)
    return 1 / (1 + (k / x) ** n)


def exprel(x: Any, n: int = 0) -> float:
    x = float(x)
    if math.isinf(x) or math.isnan(x):
        return x if math.isnan(x) else 0.0 if x < 0 else math.inf
    if x > 700:
        return _exprel_above(x, n)
    if abs(x) > n + 2.0:
        value = expm1(x) / x
        for k in range(1, n + 1):
            value = (exp(x) - k * value) / x
        return value
    # Kummer's form for x < 0: e^x Σ |x|^j / (n+1)_(j+1) has no cancellation.
    total, term, j = 0.0, 1.0 / (n + 1), 0
    while j < 60:
        total += term
        j += 1
        term *= -x / (n + 1 + j) if x < 0 else x * (n + j) / (j * (n + j + 1))
    return exp(x) * total if x < 0 else total


def _exprel_above(x: float, n: int) -> float:
    """e^x w, with the recurrence for w alone, so that nothing overflows before the result does."""
    w = 1 / x
    for k in range(1, n + 1):
        w = (1 - k * w) / x
    root = exp(0.5 * x)
    return w * root * root


def sinc(x: Any, n: int = 0) -> float:
    x = float(x)
    if math.isinf(x):
        return 0.0
    if abs(x) > n + 2.0:
        sines = (math.sin(x), math.cos(x), -math.sin(x), -math.cos(x))
        value = sines[0] / x
        for k in range(1, n + 1):
            value = (sines[k % 4] - k * value) / x
        return value
    # ∫₀¹ tⁿ cos(xt + nπ/2) dt: the series of cos at nπ/2 has the coefficients 1, 0, -1, 0, ... from place n on.
    total, power = 0.0, 1.0
    for j in range(60):
        total += (1.0, 0.0, -1.0, 0.0)[(n + j) % 4] * power / (n + j + 1)
        power *= x / (j + 1)
    return total


def divide(a: Any, b: Any) -> float:
    try:
        return a / b
    except ZeroDivisionError:
        return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)


def power(x: Any, p: Any) -> float:
    if isinstance(p, int) and p >= 0 and isinstance(x, int):
        return x**p
    try:
        return math.pow(x, p)
    except OverflowError:
        return -math.inf if x < 0 and p % 2 == 1 else math.inf
    except ValueError:
        if x != 0:
            return math.nan
        return math.copysign(math.inf, x) if p % 2 == 1 else math.inf


def _extremum(pick: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: a if a != a else b if b != b else pick(a, b)


OPERATIONS: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(operator, name)
        for name in ("add", "sub", "mul", "neg", "abs", "lt", "le", "gt", "ge", "eq", "ne")
    },
    "div": divide,
    "pow": power,
    "exp": exp,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "sqrt": sqrt,
    "sign": lambda x: x if x != x else (x > 0) - (x < 0),
    "sin": _ieee(math.sin),
    "cos": _ieee(math.cos),
    "sinh": sinh,
    "cosh": cosh,
    "tanh": math.tanh,
    "tanhshrink": tanhshrink,
    "sech": sech,
    "asinh": math.asinh,
    "atan": math.atan,
    "sigmoid": sigmoid,
    "log_sigmoid": lambda x: -softplus(-x),
    "softplus": softplus,
    "erf": math.erf,
    "erfc": math.erfc,
    "erf_slope": erf_slope,
    "normal_pdf": normal_pdf,
    "normal_cdf": normal_cdf,
    "squareplus": squareplus,
    "hill": hill,
    "exprel": exprel,
    "sinc": sinc,
    "maximum": _extremum(max),
    "minimum": _extremum(min),
    "where": lambda condition, a, b: a if condition else b,
    "with_slope": lambda u, value, slope: value,
}

REAL = register(System("real numbers", OPERATIONS, rank=0, types=(Real,)))
