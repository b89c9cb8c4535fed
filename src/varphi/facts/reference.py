"""The exact value of a formula and its derivatives at a number: what every computed value is judged against.

Power series over balls (python-flint's `arb_series`), at a precision that is raised until the ball is narrow. Neither
varphi's jets nor its kernels take part: a wrong rule there shows here as an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
from flint import acb, arb, arb_series, ctx, fmpq

from varphi.numbers import Expression, UnsupportedOperation
from varphi.numbers.expression import ordered, without_slopes

_PRECISIONS = (128, 512, 2048, 8192)
_GUARD_BITS = 80
_NOTHING = arb(2) ** -1100
_LEAVES = ("variable", "constant")


@contextmanager
def working(precision: int, order: int) -> Iterator[None]:
    """Balls of `precision` bits and series up to `order`, inside a with block."""
    saved = ctx.prec, ctx.cap
    ctx.prec, ctx.cap = precision, order + 1
    try:
        yield
    finally:
        ctx.prec, ctx.cap = saved


def _number(value: Any) -> arb:
    if isinstance(value, Fraction):
        return arb(fmpq(value.numerator, value.denominator))
    return arb(value)


def _first(u: arb_series) -> arb:
    return u[0]


def _with_first(value: arb, u: arb_series) -> arb_series:
    """u with its constant term replaced by one that lost no digits."""
    return arb_series([value, *[u[k] for k in range(1, ctx.cap)]])


def _tower(tower: Callable[[int], arb], u: arb_series) -> arb_series:
    """g(u) from tower(j) = g^(j)(u0)."""
    value, power = arb_series([tower(0)]), arb_series([1])
    tail = _with_first(arb(0), u)
    for j in range(1, ctx.cap):
        power = power * tail
        value = value + power * (tower(j) / math.factorial(j))
    return value


def _negative(u: arb) -> bool:
    """Which side of 0 to compute from; either is right, one of them is narrow."""
    return bool(u.mid() < 0)


def _sigmoid(u: arb_series) -> arb_series:
    if _negative(u[0]):
        small = u.exp()
        return small / (1 + small)
    return 1 / (1 + (-u).exp())


def _softplus(u: arb_series) -> arb_series:
    if not _negative(u[0]):
        return u + _softplus(-u) if u[0].mid() > 0 else (1 + u.exp()).log()
    return _log1p(u.exp())


def _expm1(u: arb_series) -> arb_series:
    return _with_first(u[0].expm1(), u.exp())


def _log1p(u: arb_series) -> arb_series:
    return _with_first(u[0].log1p(), (1 + u).log())


def _tanh(u: arb_series) -> arb_series:
    if _negative(u[0]):
        return -_tanh(-u)
    small = (-2 * u).exp()
    return _with_first(u[0].tanh(), (1 - small) / (1 + small))


def _tanhshrink(u: arb_series) -> arb_series:
    t, x = _tanh(u), u[0]
    first = x - x.tanh() if abs(x) > 1 else x**3 / 3 * (x**2 / 4).hypgeom_0f1(arb(5) / 2) / x.cosh()
    return _with_first(first, (t * t * u.derivative()).integral())


def _sech(u: arb_series) -> arb_series:
    small = (u if _negative(u[0]) else -u).exp()
    return 2 * small / (1 + small * small)


def _sinh(u: arb_series) -> arb_series:
    e = u.exp()
    return _with_first(u[0].sinh(), (e - 1 / e) / 2)


def _cosh(u: arb_series) -> arb_series:
    e = u.exp()
    return (e + 1 / e) / 2


def _asinh(u: arb_series) -> arb_series:
    if _negative(u[0]):
        return -_asinh(-u)
    return _with_first(u[0].asinh(), (u + (u * u + 1).sqrt()).log())


def _erf_slope(u: arb_series) -> arb_series:
    return (-(u * u)).exp() * (2 / arb.pi().sqrt())


def _normal_pdf(u: arb_series) -> arb_series:
    return (-(u * u) / 2).exp() / (2 * arb.pi()).sqrt()


def _normal_cdf(u: arb_series) -> arb_series:
    return (-u / arb(2).sqrt()).erfc() / 2


def _squareplus(u: Any, b: Any) -> arb_series:
    u, b = _series(u), _series(b)
    root = (u * u + b).sqrt()
    return b / (root - u) / 2 if _negative(u[0]) else (u + root) / 2


def _hill(u: Any, k: Any, n: Any) -> arb_series:
    u = _series(u)
    if u[0] < 0:  # outside its domain
        return _unknown()
    if _less(k, u):
        return 1 / (1 + _pow(k / u, n))
    ratio = _pow(u / k, n)
    return ratio / (1 + ratio)


def _exprel(u: arb_series, n: int) -> arb_series:
    """∫₀¹ tⁿ e^(ut) dt = ₁F₁(n+1; n+2; u)/(n+1)."""
    return _tower(lambda j: u[0].hypgeom_1f1(n + j + 1, n + j + 2) / (n + j + 1), u)


def _sinc(u: arb_series, n: int) -> arb_series:
    """The real part of iⁿ ∫₀¹ tⁿ e^(iut) dt."""

    def tower(j: int) -> arb:
        m = n + j
        return (acb(0, 1) ** m * acb(0, u[0]).hypgeom_1f1(m + 1, m + 2) / (m + 1)).real

    return _tower(tower, u)


def _pow(a: Any, p: Any) -> arb_series:
    a = _series(a)
    if isinstance(p, arb_series):
        return (a.log() * p).exp()
    exponent = Fraction(p)
    if exponent.denominator == 1:
        return _whole_power(a, int(exponent))
    if a[0] == 0:
        return _power_at_zero(exponent)
    return (a.log() * _number(exponent)).exp()


def _whole_power(a: arb_series, p: int) -> arb_series:
    if p < 0:
        return 1 / _whole_power(a, -p)
    value, square = arb_series([1]), a
    while p:
        value = value * square if p & 1 else value
        square, p = square * square, p >> 1
    return value


def _power_at_zero(p: Fraction) -> arb_series:
    """u^p at u = 0, p not whole: derivatives below order p are 0, from there on they do not exist."""
    return arb_series([arb(0) if k < p else arb.nan() for k in range(ctx.cap)])


def _unknown() -> arb_series:
    return arb_series([arb.nan()] * ctx.cap)


def _series(value: Any) -> arb_series:
    return value if isinstance(value, arb_series) else arb_series([_number(value)])


def _at(value: Any) -> arb:
    return value[0] if isinstance(value, arb_series) else _number(value)


def _less(a: Any, b: Any) -> bool | None:
    """Whether a < b; None where the balls leave it open."""
    a, b = _at(a), _at(b)
    return True if a < b else False if a >= b else None


def _not(condition: bool | None) -> bool | None:
    return None if condition is None else not condition


def _equal(a: Any, b: Any) -> bool | None:
    less, more = _less(a, b), _less(b, a)
    return None if less is None or more is None else not (less or more)


def _where(condition: bool | None, a: Any, b: Any) -> Any:
    return _unknown() if condition is None else a if condition else b


def _maximum(a: Any, b: Any) -> Any:
    return _where(_less(b, a), a, b)


def _minimum(a: Any, b: Any) -> Any:
    return _where(_less(a, b), a, b)


def _sign(u: Any) -> Any:
    return _where(_less(0, u), 1, _where(_less(u, 0), -1, 0))


def _operator(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: function(_series(a), _series(b))


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _operator(lambda a, b: a + b),
    "sub": _operator(lambda a, b: a - b),
    "mul": _operator(lambda a, b: a * b),
    "div": _operator(lambda a, b: a / b),
    "neg": lambda a: -_series(a),
    "pow": _pow,
    "abs": lambda u: _series(_sign(u)) * u,
    "sign": _sign,
    "lt": _less,
    "gt": lambda a, b: _less(b, a),
    "le": lambda a, b: _not(_less(b, a)),
    "ge": lambda a, b: _not(_less(a, b)),
    "eq": _equal,
    "ne": lambda a, b: _not(_equal(a, b)),
    "where": _where,
    "maximum": _maximum,
    "minimum": _minimum,
    "exp": lambda u: u.exp(),
    "expm1": _expm1,
    "log": lambda u: u.log(),
    "log1p": _log1p,
    "sqrt": lambda u: _power_at_zero(Fraction(1, 2)) if u[0] == 0 else u.sqrt(),
    "sin": lambda u: u.sin(),
    "cos": lambda u: u.cos(),
    "sinh": _sinh,
    "cosh": _cosh,
    "tanh": _tanh,
    "tanhshrink": _tanhshrink,
    "sech": _sech,
    "asinh": _asinh,
    "atan": lambda u: u.atan(),
    "sigmoid": _sigmoid,
    "log_sigmoid": lambda u: -_softplus(-u),
    "softplus": _softplus,
    "erf": lambda u: u.erf(),
    "erfc": lambda u: u.erfc(),
    "erf_slope": _erf_slope,
    "normal_pdf": _normal_pdf,
    "normal_cdf": _normal_cdf,
    "squareplus": _squareplus,
    "hill": _hill,
    "exprel": _exprel,
    "sinc": _sinc,
}
# These tell a plain number from a series; the others get series.
_TAKES_NUMBERS = frozenset(
    {"pow", "where", "maximum", "minimum", "hill", "squareplus", "exprel", "sinc", "lt", "gt", "le", "ge", "eq", "ne"}
)


def _step(operation: str, arguments: Sequence[Any]) -> Any:
    if operation not in _TAKES_NUMBERS:
        arguments = [_series(a) for a in arguments]
    try:
        return _OPERATIONS[operation](*arguments)
    except (ZeroDivisionError, ValueError):  # a pole, or a ball too wide to tell
        return _unknown()


class Reference:
    """The exact values of a formula in `x` and of its derivatives, at numbers.

    Args:
        expression: the formula; its only variable is x.
    """

    def __init__(self, expression: Expression) -> None:
        if extra := expression.variables - {"x"}:
            raise ValueError(f"{expression!r} has free variables besides x: {', '.join(sorted(extra))}")
        # The reference differentiates the values itself: what slopes a definition claims must not reach it.
        nodes = ordered([without_slopes(expression)])
        if unknown := {n.operation for n in nodes} - _OPERATIONS.keys() - {"variable", "constant"}:
            raise UnsupportedOperation(f"no exact reference for {', '.join(sorted(unknown))}")
        place = {id(n): i for i, n in enumerate(nodes)}
        self._program = [
            (n.operation, n.arguments if n.operation in _LEAVES else tuple(place[id(a)] for a in n.arguments))
            for n in nodes
        ]

    def balls(self, x: float | arb, order: int, precision: int) -> list[arb]:
        """Enclosures of f(x), f'(x), ..., f^(order)(x) at one working precision, in bits."""
        with working(precision, order):
            values: list[Any] = []
            for operation, arguments in self._program:
                if operation == "variable":
                    values.append(arb_series([x, 1]))
                elif operation == "constant":
                    values.append(arguments[0])
                else:
                    values.append(_step(operation, [values[i] for i in arguments]))
            result = _series(values[-1])
            return [result[k] * math.factorial(k) for k in range(order + 1)]

    def at(self, x: float | arb, order: int) -> list[arb | None]:
        """f(x), ..., f^(order)(x), each to 80 bits or better; None where no precision decides it."""
        balls: list[arb] = []
        narrow: list[bool] = []
        for precision in _PRECISIONS:
            balls = self.balls(x, order, precision)
            if not balls[0].is_finite():  # where f has no value, neither have its derivatives
                balls = [arb.nan()] * (order + 1)
            narrow = [_is_narrow(b) for b in balls]
            hopeless = precision > _PRECISIONS[0] and not any(b.is_finite() for b in balls)
            if all(narrow) or hopeless:
                break
        return [b if n else None for b, n in zip(balls, narrow, strict=True)]

    def values(self, x: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
        """f^(k) at each x as unevaluated sums high + low of float64: arrays (order + 1, n); NaN where undecided."""
        high, low = np.full((2, order + 1, len(x)), np.nan)
        for i, point in enumerate(x.tolist()):
            for k, ball in enumerate(self.at(point, order)):
                if ball is not None:
                    high[k, i], low[k, i] = _split(ball)
        return high, low


def _is_narrow(ball: arb) -> bool:
    """Whether the ball tells a float64 from its neighbours; below 2^-1100 every float is zero."""
    return ball.is_finite() and (ball.rel_accuracy_bits() >= _GUARD_BITS or bool(abs(ball) < _NOTHING))


def _split(ball: arb) -> tuple[float, float]:
    high = float(ball.mid())
    if math.isinf(high):
        return high, 0.0
    with working(_PRECISIONS[0], 0):
        return high, float((ball - high).mid())
