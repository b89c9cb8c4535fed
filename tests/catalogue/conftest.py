"""An oracle for definitions: the same lines over mpmath's numbers, each elementary function in its textbook form."""

import mpmath
import pytest
from mpmath import mp, mpf

from varphi.numbers._system import System, register

DIGITS = 60


def _hill(x, k, n):
    return mpf(x) ** n / (mpf(k) ** n + mpf(x) ** n)


def _only_order_zero(function):
    """Derivatives are mpmath's here, not ours: where a stated slope asks for one it gets NaN, and is not looked at."""

    def apply(x, n):
        return mpmath.nan if n else function(mpf(x))

    return apply


def _with_digits(digits, value):
    with mp.workdps(digits):
        return value()


_TEXTBOOK = {
    **{name: getattr(mpmath, name) for name in
       ("exp", "expm1", "log", "log1p", "sqrt", "sign", "sin", "cos", "sinh", "cosh", "tanh", "sech", "asinh",
        "atan", "erf", "erfc")},
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "log_sigmoid": lambda x: -mpmath.log1p(mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "erf_slope": lambda x: 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x),
    "normal_pdf": lambda x: mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi),
    "normal_cdf": lambda x: mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "squareplus": lambda x, b: b / (mpmath.sqrt(x * x + b) - x) / 2 if x < 0 else (x + mpmath.sqrt(x * x + b)) / 2,
    "hill": _hill,
    "exprel": _only_order_zero(lambda x: mpmath.expm1(x) / x if x else mpf(1)),
    "sinc": _only_order_zero(mpmath.sinc),
    "maximum": lambda a, b: mpf(max(a, b)),
    "minimum": lambda a, b: mpf(min(a, b)),
    "tanhshrink": lambda x: _with_digits(mp.dps + 3 * abs(mpmath.mag(x)), lambda: x - mpmath.tanh(x)),
    "where": lambda condition, a, b: a if condition else b,
    "with_slope": lambda u, value, slope: value,
}  # fmt: skip
register(System("mpmath numbers", _TEXTBOOK, rank=1, types=(mpf,)))


@pytest.fixture(autouse=True)
def _high_precision():
    with mp.workdps(DIGITS):
        yield


@pytest.fixture(scope="session")
def exact():
    """`exact(definition, x)`: its value at x and default parameters, to sixty digits less what it cancels."""

    def value(definition, x):
        return mpf(definition.function(mpf(x)))

    return value
