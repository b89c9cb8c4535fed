"""Rigorous Taylor series in one variable (python-flint's `arb_series`): a function with its derivatives on an interval.

Evaluated over `around(x, radius)`, an expression gives Taylor coefficients that hold at *every* point of the interval
[x - radius, x + radius]: the k-th contains f^(k)(v)/k! for each v in it. With a second evaluation at the midpoint
alone, `bounds` encloses f, f', ... on the whole interval by Taylor's formula, far tighter than interval arithmetic.

Functions are those that are analytic; `where` and comparisons work where the interval decides them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from numbers import Rational
from typing import Any

from flint import arb, arb_series, ctx

from ._system import System, register
from .ball import BALL_OPERATIONS, POINT_OPERATIONS, UNDECIDED, Ball, point
from .expression import Expression, without_slopes
from .straight import StraightLine

_LONGEST = 1000


class NotAnalytic(ValueError):
    """No series: a function has a corner, a jump or a pole in the interval, or is none of those known here."""


def around(x: Any, radius: Any = 0, terms: int = 12) -> arb_series:
    """The variable on [x - radius, x + radius], as a series of so many terms."""
    return arb_series([point(x) + arb(0, point(radius)), 1], terms)


def lift(value: Any) -> arb_series:
    """A constant as a series, all of whose coefficients are known; results are cut at `ctx.cap`."""
    return value if isinstance(value, arb_series) else arb_series([point(value)], _LONGEST)


def program(roots: Sequence[Expression], names: Sequence[str] = ("x",)) -> StraightLine:
    """Expressions as one program over series, their constants exact."""
    return StraightLine([without_slopes(r) for r in roots], SERIES_OPERATIONS, lift, names, closed=_closed)


def _closed(operation: str, arguments: list[Any]) -> arb_series:
    plain = [a[0] if isinstance(a, arb_series) else a for a in arguments]
    return lift(POINT_OPERATIONS[operation](*plain))


def bounds(inner: Sequence[arb], outer: Sequence[arb], radius: arb, order: int) -> list[arb]:
    """Enclosures of g, g', ..., g^(order) on an interval.

    Args:
        inner: Taylor coefficients of g at the interval's midpoint.
        outer: Taylor coefficients of g that hold on all of the interval.
        radius: half the interval's length.
    """
    last = min(len(inner), len(outer)) - 1
    step = arb(0, radius)
    found = []
    for k in range(order + 1):
        total = math.comb(last, k) * outer[last]
        for j in range(last - 1, k - 1, -1):
            total = math.comb(j, k) * inner[j] + total * step
        # The direct enclosure may be the better one on a wide interval.
        direct = outer[k]
        found.append(math.factorial(k) * (total if total.rad() <= direct.rad() else direct))
    return found


def coefficients(series: arb_series, terms: int) -> list[arb]:
    """The first coefficients, zeros after the last.

    Raises:
        ValueError: fewer are known.
    """
    if series.prec < terms:
        raise ValueError(f"{terms} coefficients are needed, and {series.prec} are known")
    given = list(series.coeffs())[:terms]
    return given + [arb(0)] * (terms - len(given))


def _sigmoid(u: arb_series) -> arb_series:
    return _divide(lift(1), 1 + (-u).exp())


def _tanh(u: arb_series) -> arb_series:
    return 1 - 2 * _sigmoid(-2 * u)


def _cosh(u: arb_series) -> arb_series:
    e = u.exp()
    return (e + (-u).exp()) / 2


def _sinh(u: arb_series) -> arb_series:
    e = u.exp()
    return (e - (-u).exp()) / 2


def _divide(a: arb_series, b: arb_series) -> arb_series:
    if b[0].contains(0):
        raise NotAnalytic("division by an interval that contains 0")
    return a / b


def _log(u: arb_series) -> arb_series:
    if not u[0] > 0:
        raise NotAnalytic("logarithm of an interval that is not positive")
    return u.log()


def _sqrt(u: arb_series) -> arb_series:
    if not u[0] > 0:
        raise NotAnalytic("root of an interval that is not positive")
    return u.sqrt()


def _power(u: arb_series, p: Any) -> arb_series:
    if isinstance(p, float) and p.is_integer():
        p = int(p)
    if isinstance(p, Rational) and p.denominator == 1:
        n = int(p.numerator)
        if n < 0:
            return _divide(lift(1), u ** (-n))
        return u**n
    exponent = p if isinstance(p, arb_series) else lift(p)
    return (exponent * _log(u)).exp()


def _softplus(u: arb_series) -> arb_series:
    return _log(1 + u.exp())


def _exprel(u: arb_series, n: Any = 0) -> arb_series:
    order = n if isinstance(n, int) else int(float(n))
    if order == 0 and abs(u[0]) > 1:
        return (u.exp() - 1) / u
    return _composed(u, lambda k: BALL_OPERATIONS["exprel"](Ball(u[0].lower(), u[0].upper()), order + k).hull())


def _composed(u: arb_series, derivative: Callable[[int], arb]) -> arb_series:
    """A function of a series, from its derivatives on the series' first coefficient (Horner's scheme)."""
    rest = arb_series([0, *list(u.coeffs())[1:]], u.prec)
    total = lift(0)
    for k in range(ctx.cap - 1, -1, -1):
        total = total * rest + derivative(k) / math.factorial(k)
    return total


def _hill(x: arb_series, k: Any, n: Any) -> arb_series:
    ratio = _power(_divide(lift(k), x), n)
    return _divide(lift(1), 1 + ratio)


def _where(condition: Any, a: Any, b: Any) -> arb_series:
    if condition is UNDECIDED:
        raise NotAnalytic("a piece of the function ends inside the interval")
    return lift(a if condition else b)


def _compare(name: str) -> Callable[[Any, Any], Any]:
    compare = BALL_OPERATIONS[name]

    def rule(a: Any, b: Any) -> Any:
        return compare(*(Ball(v[0].lower(), v[0].upper()) for v in map(lift, (a, b))))

    return rule


def _abs(u: arb_series) -> arb_series:
    if u[0].contains(0):
        raise NotAnalytic("|x| on an interval that contains 0")
    return u if u[0] > 0 else -u


def _largest(a: arb_series, b: arb_series) -> arb_series:
    if a[0] > b[0] or a[0] < b[0]:
        return a if a[0] > b[0] else b
    raise NotAnalytic("maximum of two functions that meet in the interval")


def _circular(name: str) -> Callable[[arb_series], arb_series]:
    return lambda u: getattr(u, name)()


def _on_series(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: function(*map(lift, arguments))


SERIES_OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: _on_series(getattr(operator, name)) for name in ("add", "sub", "mul", "neg")},
    **{name: _compare(name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "div": _on_series(_divide),
    "pow": lambda u, p: _power(lift(u), p),
    "abs": _on_series(_abs),
    "exp": _on_series(arb_series.exp),
    "expm1": _on_series(lambda u: u.exp() - 1),
    "log": _on_series(_log),
    "log1p": _on_series(lambda u: _log(1 + u)),
    "sqrt": _on_series(_sqrt),
    "sinh": _on_series(_sinh),
    "cosh": _on_series(_cosh),
    "tanh": _on_series(_tanh),
    "sech": _on_series(lambda u: _divide(lift(1), _cosh(u))),
    "tanhshrink": _on_series(lambda u: u - _tanh(u)),
    "sigmoid": _on_series(_sigmoid),
    "log_sigmoid": _on_series(lambda u: -_softplus(-u)),
    "softplus": _on_series(_softplus),
    **{name: _on_series(_circular(name)) for name in ("sin", "cos", "atan", "erf", "erfc")},
    "exprel": lambda u, n: _exprel(lift(u), n),
    "hill": lambda x, k, n: _hill(lift(x), lift(k), n),
    "maximum": _on_series(_largest),
    "minimum": _on_series(lambda a, b: -_largest(-a, -b)),
    "where": _where,
    "with_slope": lambda u, value, slope: lift(value),
}

SERIES = register(System("rigorous Taylor series", SERIES_OPERATIONS, rank=4, types=(arb_series,)))
