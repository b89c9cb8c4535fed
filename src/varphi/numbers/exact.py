"""Exact arithmetic on expressions: rational values, and polynomials with rational coefficients.

What holds exactly (a kink at 1/3, two one-sided derivatives that agree) is proved here, where balls only say "nearly".
Floats count as the rational numbers they are.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from .expression import Expression, build, constant, ordered

_COMPARE = {
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}
_ARITHMETIC = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "abs": abs,
    "sign": lambda a: (a > 0) - (a < 0),
    "maximum": max,
    "minimum": min,
}
_HALF = Fraction(1, 2)
# Values at the one rational point (other than through sqrt) where the function is rational.
_AT_ZERO = {
    "exp": 1, "expm1": 0, "log1p": 0, "sin": 0, "cos": 1, "sinh": 0, "cosh": 1, "tanh": 0, "tanhshrink": 0, "sech": 1,
    "asinh": 0, "atan": 0, "sigmoid": _HALF, "erf": 0, "erfc": 1, "normal_cdf": _HALF,
}  # fmt: skip


def _root(x: Fraction) -> Fraction | None:
    if x < 0:
        return None
    top, bottom = math.isqrt(x.numerator), math.isqrt(x.denominator)
    return Fraction(top, bottom) if top * top == x.numerator and bottom * bottom == x.denominator else None


def _apply(operation: str, values: list[Any]) -> Any:
    if operation == "with_slope":
        return values[1]
    if operation == "where":
        return None if values[0] is None else values[1] if values[0] else values[2]
    if operation == "mul" and any(v is not None and v == 0 for v in values):
        return Fraction(0) if None not in values else None
    if any(v is None for v in values):
        return None
    if operation in _ARITHMETIC:
        return Fraction(_ARITHMETIC[operation](*values))
    if operation in _COMPARE:
        return _COMPARE[operation](*values)
    if operation == "div":
        return values[0] / values[1] if values[1] else None
    if operation == "pow":
        return fraction_power(*values)
    if operation == "sqrt":
        return _root(values[0])
    if operation == "log" and values[0] == 1:
        return Fraction(0)
    if operation in _AT_ZERO and values[0] == 0:
        return Fraction(_AT_ZERO[operation])
    if operation == "exprel" and values[0] == 0:
        return 1 / (values[1] + 1)
    if operation == "sinc" and values[0] == 0:
        return Fraction((1, 0, -1, 0)[int(values[1]) % 4]) / (values[1] + 1)
    if operation == "squareplus" and (root := _root(values[0] ** 2 + values[1])) is not None:
        return (values[0] + root) / 2
    if operation == "hill" and values[0] == 0 and values[2] > 0:
        return Fraction(0)
    return None


def fraction_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    """base^exponent where that is rational for a reason easily seen."""
    if exponent.denominator == 1 and abs(exponent) < 200:
        return base ** int(exponent) if base or exponent >= 0 else None
    if base in (0, 1) and exponent > 0:
        return base
    if exponent == _HALF:
        return _root(base)
    return None


def rational_value(expression: Expression, x: Fraction) -> Fraction | None:
    """The exact value at the rational x where that is rational and can be told, else None."""
    known: dict[int, Any] = {}
    for node in ordered([expression]):
        if node.operation == "variable":
            known[id(node)] = x
        elif node.is_constant:
            value = node.value
            finite = not isinstance(value, float) or math.isfinite(value)
            known[id(node)] = Fraction(value) if finite else None
        else:
            known[id(node)] = _apply(node.operation, [known[id(a)] for a in node.arguments])
    result = known[id(expression)]
    return Fraction(result) if isinstance(result, (Fraction, bool)) else None


Polynomial = tuple[Fraction, ...]
_DEGREE = 24


def _trim(coefficients: list[Fraction]) -> Polynomial:
    while coefficients and coefficients[-1] == 0:
        coefficients.pop()
    return tuple(coefficients)


def _plus(a: Polynomial, b: Polynomial, sign: int = 1) -> Polynomial:
    n = max(len(a), len(b))
    at = [(a[i] if i < len(a) else 0) + sign * (b[i] if i < len(b) else 0) for i in range(n)]
    return _trim([Fraction(v) for v in at])


def _product(a: Polynomial, b: Polynomial) -> Polynomial | None:
    if len(a) + len(b) > _DEGREE:
        return None
    out = [Fraction(0)] * max(len(a) + len(b) - 1, 0)
    for i, p in enumerate(a):
        for j, q in enumerate(b):
            out[i + j] += p * q
    return _trim(out)


def polynomial(expression: Expression) -> Polynomial | None:
    """The coefficients of the expression as a polynomial in x, lowest first (zero: none), else None."""
    known: dict[int, Polynomial | None] = {}
    for node in ordered([expression]):
        known[id(node)] = _polynomial_node(node, [known.get(id(a)) for a in node.arguments])
    return known[id(expression)]


def _polynomial_node(node: Expression, arguments: list[Polynomial | None]) -> Polynomial | None:
    operation = node.operation
    if operation == "variable":
        return (Fraction(0), Fraction(1))
    if operation == "constant":
        value = node.value
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return _trim([Fraction(value)])
    if any(a is None for a in arguments):
        return None
    a = arguments[0]
    assert a is not None
    if operation == "neg":
        return tuple(-c for c in a)
    b = arguments[1] if len(arguments) > 1 else None
    if b is None:
        return None
    if operation in ("add", "sub"):
        return _plus(a, b, 1 if operation == "add" else -1)
    if operation == "mul":
        return _product(a, b)
    if operation == "div" and len(b) == 1:
        return tuple(c / b[0] for c in a)
    if operation == "pow" and len(b) <= 1:
        exponent = b[0] if b else Fraction(0)
        if exponent.denominator != 1 or not 0 <= exponent < _DEGREE:
            return None
        result: Polynomial | None = (Fraction(1),)
        for _ in range(int(exponent)):
            result = None if result is None else _product(result, a)
        return result
    return None


def sign_beyond(coefficients: Polynomial, start: Fraction, side: int) -> int | None:
    """The sign of a polynomial on all of (start, inf), side 1, or (-inf, start), side -1; None where it is not plain.

    Expanded about the start, coefficients of one sign leave no root beyond it (Descartes).
    """
    shifted = list(coefficients)
    for i in range(len(shifted)):
        for j in range(len(shifted) - 2, i - 1, -1):
            shifted[j] += start * shifted[j + 1]
    signs = {(1 if c > 0 else -1) * side**i for i, c in enumerate(shifted) if c}
    return signs.pop() if len(signs) == 1 else None


def difference(a: Expression, b: Expression) -> Expression:
    """a - b with the terms that both have in common left out."""
    coefficients: dict[int, Fraction] = {}
    nodes: dict[int, Expression] = {}
    for expression, sign in ((a, 1), (b, -1)):
        stack = [(expression, Fraction(sign))]
        while stack:
            node, factor = stack.pop()
            parts = _addends(node, factor)
            if parts is not None:
                stack += parts
                continue
            nodes[id(node)] = node
            coefficients[id(node)] = coefficients.get(id(node), Fraction(0)) + factor
    total = constant(0)
    for key, factor in coefficients.items():
        if factor:
            total = build("add", total, build("mul", factor, nodes[key]))
    return total


def _addends(node: Expression, factor: Fraction) -> list[tuple[Expression, Fraction]] | None:
    """The node as a sum of simpler ones, if it is one."""
    arguments = node.arguments
    if node.operation in ("add", "sub"):
        return [(arguments[0], factor), (arguments[1], factor if node.operation == "add" else -factor)]
    if node.operation == "neg":
        return [(arguments[0], -factor)]
    if node.operation == "constant" and node.value not in (0, 1):
        value = node.value
        return [(constant(1), factor * Fraction(value))] if math.isfinite(value) else None
    if node.operation in ("mul", "div"):
        number, other = (arguments[0], arguments[1]) if node.operation == "mul" else (arguments[1], arguments[0])
        if number.is_constant and math.isfinite(number.value) and number.value:
            scale = Fraction(number.value)
            return [(other, factor * scale if node.operation == "mul" else factor / scale)]
    return None
