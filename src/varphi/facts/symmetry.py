"""Parity, periodicity and homogeneity, from the formula's structure."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from typing import Literal, TypeAlias

from flint import arb

from varphi.numbers.ball import POINT_OPERATIONS, Ball, OutsideDomain, point, precision
from varphi.numbers.exact import polynomial
from varphi.numbers.expression import Expression, build, ordered, variable
from varphi.numbers.pieces import Piece, Place
from varphi.numbers.straight import StraightLine

Parity: TypeAlias = Literal["even", "odd", "none", "undecided"]

_ODD = {"sin", "sinh", "tanh", "tanhshrink", "asinh", "atan", "erf", "sign"}
_EVEN = {"cos", "cosh", "sech", "normal_pdf", "erf_slope", "abs"}
_SAMPLES = 24


def parity(expression: Expression) -> Parity:
    """Whether f(-x) is f(x) or -f(x): proved from the formula, or refuted at a point; else "undecided"."""
    structural = _structural(expression)
    if structural:
        return "even" if structural == 1 else "odd"
    refuted = _refuted(expression)
    if refuted == {"even", "odd"}:
        return "none"
    return "undecided"


def _structural(expression: Expression) -> int | None:
    """1: even, -1: odd (a constant counts as even; zero as odd too, which is not used)."""
    known: dict[int, int | None] = {}
    for node in ordered([expression]):
        known[id(node)] = _node_parity(node, [known.get(id(a)) for a in node.arguments])
    return known[id(expression)]


def _node_parity(node: Expression, arguments: list[int | None]) -> int | None:
    operation = node.operation
    if operation == "variable":
        return -1
    if operation == "constant":
        return 1
    if operation in _EVEN and arguments[0] is not None:
        return 1
    if operation in _ODD and arguments[0] == -1:
        return -1
    if operation == "sinc" and arguments[0] == -1:
        return -1 if node.arguments[1].value % 2 else 1
    if all(a == 1 for a in arguments):
        return 1
    if None in arguments:
        return None
    if operation == "neg":
        return arguments[0]
    if operation in ("add", "sub"):
        zero = [a.is_constant and a.value == 0 for a in node.arguments]
        if any(zero):
            return arguments[zero.index(False)]
        return arguments[0] if arguments[0] == arguments[1] else None
    if operation in ("mul", "div"):
        return arguments[0] * arguments[1]  # type: ignore[operator]
    if operation == "pow" and node.arguments[1].is_constant and float(node.arguments[1].value).is_integer():
        return -1 if int(node.arguments[1].value) % 2 and arguments[0] == -1 else 1
    if operation in ("maximum", "minimum"):
        return None
    return None


def _refuted(expression: Expression) -> set[str]:
    """Which of "even" and "odd" some point disproves."""
    refuted: set[str] = set()
    chance = random.Random(0)
    with precision(256):
        run = StraightLine([expression], POINT_OPERATIONS, point)
        for i in range(_SAMPLES):
            x = arb(Fraction(i + 1, 4).__float__()) if i < 8 else arb(chance.expovariate(0.3))
            try:
                right, left = run(x)[0], run(-x)[0]
            except (OutsideDomain, ZeroDivisionError, ValueError):
                continue
            if not right.is_finite() or not left.is_finite():
                # Defined on one side only: neither.
                if right.is_finite() != left.is_finite():
                    return {"even", "odd"}
                continue
            if (right - left) != 0:
                refuted.add("even")
            if (right + left) != 0:
                refuted.add("odd")
            if len(refuted) == 2:
                break
    return refuted


def frequencies(expression: Expression) -> list[Fraction] | None:
    """The slopes a of all sin(a x + b) and cos(a x + b), if x occurs only inside such; else None."""
    found: set[Fraction] = set()
    plain: dict[int, bool] = {}  # node -> x occurs in it only inside sines
    for node in ordered([expression]):
        inner = polynomial(node.arguments[0]) if node.operation in ("sin", "cos") else None
        if inner is not None and len(inner) == 2:
            plain[id(node)] = True
        else:
            plain[id(node)] = node.operation != "variable" and all(
                plain[id(a)] for a in node.arguments if isinstance(a, Expression)
            )
    if not plain[id(expression)]:
        return None
    stack, seen = [expression], set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        inner = polynomial(node.arguments[0]) if node.operation in ("sin", "cos") else None
        if inner is not None and len(inner) == 2:
            found.add(abs(inner[1]))
        else:
            stack += [a for a in node.arguments if isinstance(a, Expression)]
    return sorted(found)


def is_periodic(expression: Expression) -> bool:
    """Whether the formula is certainly periodic: x occurs, and only inside sines of affine functions."""
    return bool(frequencies(expression))


def period(expression: Expression) -> arb | None:
    """A period of the formula (not always the least), if it is certainly periodic."""
    slopes = frequencies(expression)
    if not slopes:
        return None
    # Rational frequencies have a common divisor g, and 2π/g is a period of all.
    denominator = math.lcm(*(a.denominator for a in slopes))
    divisor = Fraction(math.gcd(*(int(a * denominator) for a in slopes)), denominator)
    return 2 * arb.pi() / point(divisor)


def homogeneity(pieces: list[Piece]) -> int | None:
    """p with f(λx) = λ^p f(x) for every λ > 0, where f is a monomial on each side of 0; else None."""
    degrees: set[int] = set()
    for piece in pieces:
        if piece.expression is None or (piece.lower != 0 and piece.upper != 0 and len(pieces) > 1):
            return None
        coefficients = polynomial(piece.expression)
        if coefficients is None or sum(c != 0 for c in coefficients) > 1:
            return None
        if coefficients:
            degrees.add(len(coefficients) - 1)
    return degrees.pop() if len(degrees) == 1 else None


def parity_of_pieces(pieces: list[Piece]) -> Parity:
    """The parity of a function whose pieces mirror each other, as polynomials or as the same formula of -x."""
    possible = {1, -1}
    for left, right in zip(pieces, reversed(pieces), strict=True):
        if left.expression is None or right.expression is None or not _mirrored(left.lower, right.upper):
            return "undecided"
        possible &= _mirror_signs(left.expression, right.expression)
    if len(possible) != 1:
        return "undecided"
    return "even" if possible == {1} else "odd"


def _mirrored(a: Place, b: Place) -> bool:
    return not isinstance(a, Ball) and not isinstance(b, Ball) and a == -b


def _mirror_signs(left: Expression, right: Expression) -> set[int]:
    """The s in {1, -1} with left(-x) = s·right(x) as formulas."""
    a, b = polynomial(left), polynomial(right)
    if a is not None and b is not None:
        reflected = tuple(c * (-1) ** i for i, c in enumerate(a))
        return {s for s in (1, -1) if reflected == tuple(s * c for c in b)}
    found = set()
    reflected_formula = left.evaluate(x=build("neg", variable("x")))
    for s in (1, -1):
        total = build("sub" if s == 1 else "add", reflected_formula, right)
        if _vanishes(total):
            found.add(s)
    return found


def _vanishes(expression: Expression) -> bool:
    """Whether SymPy simplifies the expression to 0."""
    import sympy

    from varphi.numbers.symbol import symbol

    try:
        return bool(sympy.simplify(symbol(expression)) == 0)
    except (TypeError, NotImplementedError):
        return False
