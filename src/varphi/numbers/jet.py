"""Jets: truncated Taylor series, over any number system.

`Jet([c0, c1, ..., cK])` is c0 + c1 t + ... + cK t^K + O(t^(K+1)). Evaluating a function over the jet of x,
`[x, 1, 0, ...]`, gives its Taylor coefficients f^(k)(x)/k! in one pass. The coefficients may be floats, tensors, balls,
or expressions; with expressions the result is the formula of every derivative.

Each rule solves the differential equation of its function, y' = w(y, u) u', coefficient by coefficient (Griewank &
Walther, Evaluating Derivatives, 2nd ed., SIAM 2008, ch. 13). The slope w starts from its stable closed form:
sigmoid' is σ(x)σ(-x), never σ(1 - σ), so no derivative loses its tail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from . import elementary as e
from ._operators import Operators
from ._system import System, UnsupportedOperation, is_constant, register
from .expression import Expression, constant, evaluate, variable
from .real import divide, power


class Jet(Operators):
    """A truncated Taylor series with coefficients `c[0], ..., c[order]`."""

    __slots__ = ("c",)

    def __init__(self, coefficients: Sequence[Any]) -> None:
        self.c = list(coefficients)

    @property
    def order(self) -> int:
        return len(self.c) - 1

    def __repr__(self) -> str:
        return f"Jet({self.c!r})"

    def __bool__(self) -> bool:
        raise UnsupportedOperation("the truth of a jet is undefined: write where(condition, a, b) instead of if/else")

    def derivatives(self) -> list[Any]:
        """f, f', f'', ...: the coefficients times their factorials."""
        return [math.factorial(k) * c if k > 1 else c for k, c in enumerate(self.c)]


def seed(x: Any, order: int) -> Jet:
    """The jet of the variable at the point x."""
    return Jet([x, 1, *[0] * (order - 1)] if order else [x])


def derivatives(function: Callable[[Any], Any], x: Any, order: int) -> list[Any]:
    """[f(x), f'(x), ..., f^(order)(x)] in the number system of x."""
    value = function(seed(x, order))
    if not isinstance(value, Jet):  # a constant function
        return [value, *[0] * order]
    return value.derivatives()


def partial(expression: Expression, name: str) -> Expression:
    """The partial derivative of an expression by one of its variables."""
    others: dict[str, Any] = {v: variable(v) for v in expression.variables}
    found = derivatives(lambda value: evaluate([expression], others | {name: value})[0], variable(name), 1)
    return constant(found[1])


def _is_zero(value: Any) -> bool:
    if isinstance(value, Expression):
        return value.is_constant and value.value == 0
    return type(value) in (int, float) and value == 0


def _sum(terms: Sequence[Any]) -> Any:
    total: Any = 0
    for term in terms:
        if not _is_zero(term):
            total = term if _is_zero(total) else total + term
    return total


def _quotient(a: Any, b: Any) -> Any:
    """a / b; among floats without an exception."""
    return divide(a, b) if is_constant(a) and is_constant(b) else a / b


def _power(a: Any, p: Any) -> Any:
    """a ** p; among floats without an exception, and NaN where Python would give a complex number."""
    return power(a, p) if is_constant(a) and is_constant(p) else a**p


def _product(a: Any, b: Any) -> Any:
    return 0 if _is_zero(a) or _is_zero(b) else a * b


def _convolve(a: Sequence[Any], b: Sequence[Any], k: int, start: int = 0, stop: int | None = None) -> Any:
    """Σ a[i] b[k-i] for i from start to stop (k if not given)."""
    last = k if stop is None else stop
    return _sum([_product(a[i], b[k - i]) for i in range(start, last + 1)])


def _square(a: Sequence[Any], k: int) -> Any:
    """Coefficient k of a², each mixed product once."""
    half = [2 * _product(a[i], a[k - i]) for i in range((k + 1) // 2) if not _is_zero(_product(a[i], a[k - i]))]
    return _sum(half if k % 2 else [*half, _product(a[k // 2], a[k // 2])])


def _lift(value: Any, order: int) -> list[Any]:
    return value.c if isinstance(value, Jet) else [value, *[0] * order]


def _aligned(a: Any, b: Any) -> tuple[list[Any], list[Any]]:
    order = max(v.order for v in (a, b) if isinstance(v, Jet))
    return _lift(a, order), _lift(b, order)


def _slopes(u: Sequence[Any], w: Sequence[Any], k: int) -> Any:
    """Coefficient k of y where y' = w u': (1/k) Σ j u[j] w[k-j]."""
    terms = [
        _product(u[j], w[k - j]) if j == k else _product(j * u[j] if j > 1 else u[j], w[k - j]) for j in range(1, k)
    ]
    total = _sum(terms)
    if not _is_zero(total):
        total = total / k
    return _sum([total, _product(u[k], w[0])])


def _add(a: Any, b: Any) -> Jet:
    x, y = _aligned(a, b)
    return Jet([_sum([p, q]) for p, q in zip(x, y, strict=True)])


def _neg(a: Jet) -> Jet:
    return Jet([0 if _is_zero(c) else -c for c in a.c])


def _sub(a: Any, b: Any) -> Jet:
    x, y = _aligned(a, b)
    return Jet([p if _is_zero(q) else -q if _is_zero(p) else p - q for p, q in zip(x, y, strict=True)])


def _mul(a: Any, b: Any) -> Jet:
    if a is b:
        return Jet([_square(a.c, k) for k in range(a.order + 1)])
    x, y = _aligned(a, b)
    return Jet([_convolve(x, y, k) for k in range(len(x))])


def _div(a: Any, b: Any) -> Jet:
    x, y = _aligned(a, b)
    q: list[Any] = []
    for k, numerator in enumerate(x):
        rest = _convolve(q, y, k, 0, k - 1) if k else 0
        top = numerator if _is_zero(rest) else -rest if _is_zero(numerator) else numerator - rest
        q.append(0 if _is_zero(top) else _quotient(top, y[0]))
    return Jet(q)


def _compose(tower: Sequence[Any], u: Sequence[Any]) -> Jet:
    """Σ tower[j] (u - u0)^j, where tower[j] = g^(j)(u0)/j!: the jet of g(u)."""
    order = len(u) - 1
    if order >= 1 and type(u[1]) is int and u[1] == 1 and all(_is_zero(c) for c in u[2:]):
        return Jet(tower[: order + 1])
    tail = Jet([0, *u[1:]])
    value: Any = Jet([tower[order], *[0] * order])
    for j in range(order - 1, -1, -1):
        value = _mul(value, tail) if value is not tail else value
        value = Jet([_sum([tower[j], value.c[0]]), *value.c[1:]])
    return value


def _pow(a: Any, p: Any) -> Jet:
    if isinstance(p, Jet):
        if all(_is_zero(c) for c in p.c[1:]):
            p = p.c[0]
        else:
            return _exp(_mul(_log(a), p) if isinstance(a, Jet) else p * e.log(a))
    if not isinstance(a, Jet):
        return Jet([_power(a, p)])
    if _is_zero(p):
        return Jet([1, *[0] * a.order])
    if isinstance(p, float) and p.is_integer():
        p = int(p)
    u0 = a.c[0]
    tower: list[Any] = []
    factor: Any = 1
    for j in range(a.order + 1):
        whole = type(p) is int and 0 <= p < j  # u^p is a polynomial: the rest of the tower is zero
        tower.append(0 if whole else factor if _is_zero(p - j) else factor * _power(u0, p - j) if j else _power(u0, p))
        factor = factor * (p - j) / (j + 1)
    return _compose(tower, a.c)


def _solve(y0: Any, w0: Any, u: Sequence[Any], slope: Callable[[list[Any], list[Any], int], Any]) -> Jet:
    """The jet of y with y' = w u'; `slope(y, w, k)` gives w[k] once y[0..k] and w[0..k-1] are known."""
    y, w = [y0], [w0]
    for k in range(1, len(u)):
        y.append(_slopes(u, w, k))
        if k < len(u) - 1:
            w.append(slope(y, w, k))
    return Jet(y)


def _integral(y0: Any, w: Sequence[Any], u: Sequence[Any]) -> Jet:
    """The jet of y with y' = w u', w known."""
    return Jet([y0, *[_slopes(u, w, k) for k in range(1, len(u))]])


def _exp(u: Jet) -> Jet:
    y0 = e.exp(u.c[0])
    return _solve(y0, y0, u.c, lambda y, w, k: y[k])


def _expm1(u: Jet) -> Jet:
    return _integral(e.expm1(u.c[0]), _exp(u).c, u.c)


def _log(u: Jet) -> Jet:
    return _integral(e.log(u.c[0]), _div(1, u).c, u.c)


def _log1p(u: Jet) -> Jet:
    return _integral(e.log1p(u.c[0]), _div(1, _add(1, u)).c, u.c)


def _sqrt(u: Jet) -> Jet:
    return _root(e.sqrt(u.c[0]), u)


def _root(y0: Any, u: Jet) -> Jet:
    """The jet of the square root of u, from its value y0."""
    y = [y0]
    for k in range(1, u.order + 1):
        inner = _convolve(y, y, k, 1, k - 1) if k > 1 else 0
        top = _sum([u.c[k], 0 if _is_zero(inner) else -inner])
        y.append(0 if _is_zero(top) else _quotient(top, 2 * y[0]))
    return Jet(y)


def _pair(first: Any, second: Any, u: Jet, sign: int) -> tuple[Jet, Jet]:
    """Jets of (s, c) with s' = c u', c' = sign·s u': sines and hyperbolic sines."""
    s, c = [first], [second]
    for k in range(1, u.order + 1):
        s_next, c_next = _slopes(u.c, c, k), _slopes(u.c, s, k)
        s.append(s_next)
        c.append(c_next if sign > 0 or _is_zero(c_next) else -c_next)
    return Jet(s), Jet(c)


def _circular(u: Jet) -> tuple[Jet, Jet]:
    return _pair(e.sin(u.c[0]), e.cos(u.c[0]), u, -1)


def _hyperbolic(u: Jet) -> tuple[Jet, Jet]:
    return _pair(e.sinh(u.c[0]), e.cosh(u.c[0]), u, +1)


def _tanh(u: Jet) -> Jet:
    s = e.sech(u.c[0])
    return _solve(e.tanh(u.c[0]), s * s, u.c, lambda y, w, k: _negated(_square(y, k)))


def _tanhshrink(u: Jet) -> Jet:
    t = _tanh(u)
    return _integral(e.tanhshrink(u.c[0]), _mul(t, t).c, u.c)


def _negated(value: Any) -> Any:
    return 0 if _is_zero(value) else -value


def _sech(u: Jet) -> Jet:
    t = _tanh(u).c
    y0 = e.sech(u.c[0])
    return _solve(y0, -(y0 * t[0]), u.c, lambda y, w, k: _negated(_convolve(y, t, k)))


def _sigmoid(u: Jet) -> Jet:
    u0 = u.c[0]
    s, r = e.sigmoid(u0), e.sigmoid(-u0)
    # w = s - s² for the coefficients above the first: s[k](1 - 2s) - Σ, with 1 - 2s as -tanh(u/2).
    tilt = -e.tanh(0.5 * u0) if u.order > 1 else 0
    return _solve(s, s * r, u.c, lambda y, w, k: _sum([_product(tilt, y[k]), _negated(_inner_square(y, k))]))


def _inner_square(y: Sequence[Any], k: int) -> Any:
    """Coefficient k of (y - y0)²."""
    return _square([0, *y[1:]], k)


def _softplus(u: Jet) -> Jet:
    return _integral(e.softplus(u.c[0]), _sigmoid(u).c, u.c)


def _log_sigmoid(u: Jet) -> Jet:
    return _integral(e.log_sigmoid(u.c[0]), _sigmoid(_neg(u)).c, u.c)


def _asinh(u: Jet) -> Jet:
    return _integral(e.asinh(u.c[0]), _div(1, _sqrt(_add(1, _mul(u, u)))).c, u.c)


def _atan(u: Jet) -> Jet:
    return _integral(e.atan(u.c[0]), _div(1, _add(1, _mul(u, u))).c, u.c)


def _gaussian(y0: Any, u: Jet, rate: int) -> Jet:
    """The jet of y with y' = -rate·u·y·u'."""
    return _solve(y0, -(rate * (u.c[0] * y0)) if rate > 1 else -(u.c[0] * y0), u.c,
                  lambda y, w, k: _negated(_product(rate, _convolve(u.c, y, k))))  # fmt: skip


def _erf(u: Jet) -> Jet:
    return _integral(e.erf(u.c[0]), _erf_slope(u).c, u.c)


def _erfc(u: Jet) -> Jet:
    return _integral(e.erfc(u.c[0]), _neg(_erf_slope(u)).c, u.c)


def _erf_slope(u: Jet) -> Jet:
    return _gaussian(e.erf_slope(u.c[0]), u, 2)


def _normal_pdf(u: Jet) -> Jet:
    return _gaussian(e.normal_pdf(u.c[0]), u, 1)


def _normal_cdf(u: Jet) -> Jet:
    return _integral(e.normal_cdf(u.c[0]), _normal_pdf(u).c, u.c)


def _squareplus(u: Any, b: Any) -> Jet:
    """From y² = u y + b/4: (2y - u) y' = y u' + b'/4, where 2y - u is the root sqrt(u² + b)."""
    u, b = map(Jet, _aligned(u, b))
    if all(_is_zero(c) for c in b.c[1:]):
        return _squareplus_of(u, b.c[0])
    y, w = [e.squareplus(u.c[0], b.c[0])], []
    # Its value as 2y - u: u² would overflow.
    root = _root(y[0] + (y[0] - u.c[0]), _add(_mul(u, u), b)).c
    quarter = _div(0.25, Jet(root)).c
    for k in range(1, len(root)):
        known = _convolve(w, root, k - 1, 0, k - 2)
        w.append(_quotient(y[k - 1] if _is_zero(known) else y[k - 1] - known, root[0]))
        y.append(_sum([_slopes(u.c, w, k), _slopes(b.c, quarter, k)]))
    return Jet(y)


def _squareplus_of(u: Jet, b: Any) -> Jet:
    """With b constant: y' = y/root and (y/root)' = b/2 root^-3, a form in which no tail cancels."""
    square = _add(_mul(u, u), b)
    root = _sqrt(square).c
    curvature = [_product(b / 2, c) for c in _div(1, _mul(square, Jet(root))).c]
    y0 = e.squareplus(u.c[0], b)
    return _integral(y0, _integral(_quotient(y0, root[0]), curvature, u.c).c, u.c)


def _hill(u: Any, k: Any, n: Any) -> Jet:
    """x^n/(K^n + x^n) from r = (x/K)^n below K and from 1/r above it, so that neither overflows."""
    low_ratio, high_ratio = _pow(u / k, n), _pow(k / u, n)
    order = low_ratio.order
    low, high = _div(low_ratio, _add(1, low_ratio)), _div(1, _add(1, high_ratio))
    below = (u.c[0] if isinstance(u, Jet) else u) <= (k.c[0] if isinstance(k, Jet) else k)
    return Jet([_select(below, low.c[i], high.c[i]) for i in range(order + 1)])


def _family(function: Callable[[Any, int], Any]) -> Callable[[Jet, int], Jet]:
    """A function whose n-th derivative is the same function with another index."""

    def rule(u: Jet, n: int) -> Jet:
        tower = [function(u.c[0], n + j) for j in range(u.order + 1)]
        return _compose([c / math.factorial(j) if j > 1 else c for j, c in enumerate(tower)], u.c)

    return rule


def _abs(u: Jet) -> Jet:
    side = e.sign(u.c[0])
    return Jet([abs(u.c[0]), *[_product(side, c) for c in u.c[1:]]])


def _sign(u: Jet) -> Jet:
    return Jet([e.sign(u.c[0]), *[0] * u.order])


def _select(condition: Any, a: Any, b: Any) -> Any:
    if a is b or (_is_zero(a) and _is_zero(b)):
        return a
    if type(condition) is bool:
        return a if condition else b
    return e.where(condition, a, b)


def _where(condition: Any, a: Any, b: Any) -> Any:
    if not isinstance(a, Jet) and not isinstance(b, Jet):
        return e.where(condition, a, b)
    x, y = _aligned(a, b)
    return Jet([_select(condition, p, q) for p, q in zip(x, y, strict=True)])


def _with_slope(u: Any, value: Any, slope: Any) -> Jet:
    if not isinstance(u, Jet):
        raise UnsupportedOperation(f"with_slope(u, value, slope): value varies though u = {u!r} does not")
    return _integral(value.c[0] if isinstance(value, Jet) else value, _lift(slope, u.order), u.c)


def _extremum(first_wins: Callable[[Any, Any], Any], value: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Jet]:
    def rule(a: Any, b: Any) -> Jet:
        x, y = _aligned(a, b)
        wins = first_wins(x[0], y[0])
        return Jet([value(x[0], y[0]), *[_select(wins, p, q) for p, q in zip(x[1:], y[1:], strict=True)]])

    return rule


def _greater(a: Any, b: Any) -> Any:
    """a > b, also where both depend on the variable: by the sign of the difference."""
    return a > b if type(a) in (int, float) or type(b) in (int, float) else a - b > 0


def _compare(name: str) -> Callable[[Any, Any], Any]:
    def rule(a: Any, b: Any) -> Any:
        left, right = (v.c[0] if isinstance(v, Jet) else v for v in (a, b))
        return {
            "lt": lambda: left < right,
            "le": lambda: left <= right,
            "gt": lambda: left > right,
            "ge": lambda: left >= right,
            "eq": lambda: left == right,
            "ne": lambda: left != right,
        }[name]()

    return rule


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "pow": _pow,
    "abs": _abs,
    **{name: _compare(name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "exp": _exp,
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "sqrt": _sqrt,
    "sign": _sign,
    "sin": lambda u: _circular(u)[0],
    "cos": lambda u: _circular(u)[1],
    "sinh": lambda u: _hyperbolic(u)[0],
    "cosh": lambda u: _hyperbolic(u)[1],
    "tanh": _tanh,
    "tanhshrink": _tanhshrink,
    "sech": _sech,
    "asinh": _asinh,
    "atan": _atan,
    "sigmoid": _sigmoid,
    "log_sigmoid": _log_sigmoid,
    "softplus": _softplus,
    "erf": _erf,
    "erfc": _erfc,
    "erf_slope": _erf_slope,
    "normal_pdf": _normal_pdf,
    "normal_cdf": _normal_cdf,
    "squareplus": _squareplus,
    "hill": _hill,
    "exprel": _family(e.exprel),
    "sinc": _family(e.sinc),
    "maximum": _extremum(_greater, e.maximum),
    "minimum": _extremum(lambda a, b: _greater(b, a), e.minimum),
    "where": _where,
    "with_slope": _with_slope,
}

JETS = register(System("jets", _OPERATIONS, rank=3, types=(Jet,)))
