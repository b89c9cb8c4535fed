"""SymPy expressions as a number system: exact, for printed formulas, LaTeX and simplification."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from numbers import Rational, Real
from typing import Any

import sympy

from ._system import System, register
from .expression import Expression

_HALF = sympy.Rational(1, 2)


def exact(value: Any) -> Any:
    """A real number as SymPy's: ints, fractions and floats as the rational number they are; a SymPy one as it is."""
    if not isinstance(value, Real) or isinstance(value, sympy.Basic):
        return value
    if isinstance(value, Rational):
        return sympy.Rational(int(value.numerator), int(value.denominator))
    number = float(value)
    if not math.isfinite(number):
        return sympy.nan if math.isnan(number) else sympy.oo if number > 0 else -sympy.oo
    as_fraction = Fraction(number)
    return sympy.Rational(as_fraction.numerator, as_fraction.denominator)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + sympy.exp(-x))


def _softplus(x: Any) -> Any:
    return sympy.log(1 + sympy.exp(x))


def _normal_pdf(x: Any) -> Any:
    return sympy.exp(-(x**2) / 2) / sympy.sqrt(2 * sympy.pi)


def _family(function: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """(g(x)/x)^(n) with its value at 0, where g(x)/x = Σ g_j x^j."""

    def apply(x: Any, n: Any) -> Any:
        n = int(n)
        t = sympy.Symbol("t", real=True)
        formula = sympy.diff(function(t) / t, t, n)
        at_zero = sympy.limit(formula, t, 0)
        if x == 0:
            return at_zero
        return sympy.Piecewise((at_zero, sympy.Eq(x, 0)), (formula.subs(t, x), True))

    return apply


def _where(condition: Any, a: Any, b: Any) -> Any:
    if condition in (True, sympy.true):
        return a
    if condition in (False, sympy.false):
        return b
    return sympy.Piecewise((a, condition), (b, True))


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "pow": lambda a, b: a**b,
    "abs": sympy.Abs,
    "lt": sympy.Lt,
    "le": sympy.Le,
    "gt": sympy.Gt,
    "ge": sympy.Ge,
    "eq": sympy.Eq,
    "ne": sympy.Ne,
    "exp": sympy.exp,
    "expm1": lambda x: sympy.exp(x) - 1,
    "log": sympy.log,
    "log1p": lambda x: sympy.log(1 + x),
    "sqrt": sympy.sqrt,
    "sign": sympy.sign,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "sinh": sympy.sinh,
    "cosh": sympy.cosh,
    "tanh": sympy.tanh,
    "tanhshrink": lambda x: x - sympy.tanh(x),
    "sech": sympy.sech,
    "asinh": sympy.asinh,
    "atan": sympy.atan,
    "sigmoid": _sigmoid,
    "log_sigmoid": lambda x: -_softplus(-x),
    "softplus": _softplus,
    "erf": sympy.erf,
    "erfc": sympy.erfc,
    "erf_slope": lambda x: 2 * sympy.exp(-(x**2)) / sympy.sqrt(sympy.pi),
    "normal_pdf": _normal_pdf,
    "normal_cdf": lambda x: (1 + sympy.erf(x / sympy.sqrt(2))) / 2,
    "squareplus": lambda x, b: (x + sympy.sqrt(x**2 + b)) / 2,
    "hill": lambda x, k, n: x**n / (k**n + x**n),
    "exprel": _family(lambda t: sympy.exp(t) - 1),
    "sinc": _family(sympy.sin),
    "maximum": sympy.Max,
    "minimum": sympy.Min,
    "where": _where,
    "with_slope": lambda u, value, slope: value,
}


def symbol(expression: Expression, **values: Any) -> Any:
    """The expression as a SymPy one; variables not given are real symbols of their own name."""
    given = {name: values.get(name, sympy.Symbol(name, real=True)) for name in expression.variables}
    if not given:
        return exact(expression.evaluate()) if expression.is_constant else _closed(expression)
    return expression.evaluate(**given)


def _closed(expression: Expression) -> Any:
    from .straight import StraightLine

    return StraightLine([expression], _OPERATIONS, exact)(None)[0]


SYMBOLS = register(System("SymPy expressions", _OPERATIONS, rank=1, types=(sympy.Basic,), lift=exact))
