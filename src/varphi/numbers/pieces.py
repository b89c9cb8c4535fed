"""Pieces: where a definition changes its formula or its domain ends, and the analytic formula on each stretch between.

`where`, abs, sign, maximum and minimum change at the roots of a function g (their condition, argument or difference);
log, sqrt, real powers and Hill end where their argument does; a quotient has its poles. Roots of affine g are exact
rationals; others are isolated by balls, and exact again where they turn out to be rational.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from flint import arb

from .ball import Ball, point
from .enclosure import Curve
from .exact import polynomial, rational_value
from .expression import Expression, build, constant, ordered, without_slopes

# A place on the line: exact, or known to a thin ball, or ±inf.
Place: TypeAlias = "Fraction | Ball | float"


class UndecidedPieces(ValueError):
    """The stretches on which a definition is analytic could not be told apart."""


@dataclass(frozen=True, eq=False)
class Piece:
    """One analytic stretch.

    Attributes:
        lower, upper: its ends (Fraction where exact, a thin Ball elsewhere, ±inf).
        expression: the formula there, free of conditions; None where the function is not defined.
    """

    lower: Place
    upper: Place
    expression: Expression | None


class Root(Ball):
    """A root of an expression, known to a thin ball, that can be narrowed."""

    __slots__ = ("expression",)

    expression: Expression

    @classmethod
    def of(cls, expression: Expression, place: Ball) -> Root:
        root = cls(place.lo, place.hi)
        root.expression = expression
        return root

    def narrowed(self) -> Ball:
        """The root to the precision that holds now; itself where the sign around it is not clear."""
        curve = Curve(self.expression, self.lo.lower(), self.hi.upper())
        left, right = (curve.at(x)[0] for x in (curve.lower, curve.upper))
        if not (left.lo > 0 and right.hi < 0) and not (left.hi < 0 and right.lo > 0):
            return self
        return curve.solve(0, 0, curve.lower, curve.upper, 1 if left.lo > 0 else -1)


def as_point(place: Place) -> arb:
    """A place as an `arb`."""
    return place.hull() if isinstance(place, Ball) else point(place)


@dataclass(eq=False)
class _Region:
    """A stretch, and the formula of every node seen so far on it; None: not defined there."""

    lower: Place
    upper: Place
    known: dict[int, Expression | None]


_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
_HOLDS: dict[str, tuple[int, ...]] = {
    "lt": (-1,), "le": (-1, 0), "gt": (1,), "ge": (0, 1), "eq": (0,), "ne": (-1, 1),
}  # fmt: skip


def _is_whole(node: Expression) -> bool:
    return node.is_constant and float(node.value).is_integer()


def _domain(node: Expression, arguments: list[Expression]) -> Expression | None:
    """g such that the node is defined where g >= 0 only."""
    operation, u = node.operation, arguments[0]
    if operation in ("log", "sqrt", "hill"):
        return u
    if operation == "log1p":
        return build("add", u, 1)
    if operation == "pow" and not _is_whole(arguments[1]):
        return u
    return None


def _pole(node: Expression, arguments: list[Expression]) -> Expression | None:
    """g whose roots are the node's poles."""
    if node.operation == "div":
        return arguments[1]
    if node.operation == "pow" and _is_whole(arguments[1]) and arguments[1].value < 0:
        return arguments[0]
    return None


def _switch(node: Expression, arguments: list[Expression]) -> Expression | None:
    """g on whose sign the node's formula depends."""
    operation = node.operation
    if operation in ("abs", "sign"):
        return arguments[0]
    if operation in ("maximum", "minimum", *_COMPARISONS):
        return build("sub", *arguments)
    if operation == "squareplus" and arguments[1].is_constant and arguments[1].value == 0:
        return arguments[0]
    return None


def _switched(node: Expression, arguments: list[Expression], sign: int) -> Expression:
    """The node's formula where its g has this sign."""
    operation, u = node.operation, arguments[0]
    if operation == "abs":
        return u if sign >= 0 else build("neg", u)
    if operation == "sign":
        return constant(sign)
    if operation == "squareplus":
        return u if sign >= 0 else constant(0)
    if operation in _COMPARISONS:
        return constant(int(sign in _HOLDS[operation]))
    return u if (sign >= 0) is (operation == "maximum") else arguments[1]


def _between(place: Place, lower: Place, upper: Place) -> bool:
    x = as_point(place)
    return bool(as_point(lower) < x) and bool(x < as_point(upper))


def signs(g: Expression, lower: Place, upper: Place) -> list[tuple[Place, Place, int | None]]:
    """The stretches of (lower, upper) on which g has one sign; exact places where they are rational."""
    coefficients = polynomial(g)
    if coefficients is not None and len(coefficients) <= 2:
        return _affine_signs(coefficients, lower, upper)
    # Rational roots of a polynomial can be double, which no sign change shows; cut there first.
    cuts = [c for c in _rational_roots(coefficients) if _between(c, lower, upper)] if coefficients else []
    found: list[tuple[Place, Place, int | None]] = []
    for a, b in zip([lower, *cuts], [*cuts, upper], strict=True):
        curve = Curve(g, as_point(a), as_point(b))
        stretches = curve.stretches(0)
        places: list[Place] = [a, *[_exact_root(g, s.start) for s in stretches[1:]], b]
        found += [(places[i], places[i + 1], s.sign) for i, s in enumerate(stretches)]
    return found


def _affine_signs(
    coefficients: tuple[Fraction, ...], lower: Place, upper: Place
) -> list[tuple[Place, Place, int | None]]:
    offset, slope = (*coefficients, Fraction(0), Fraction(0))[:2]
    if slope == 0:
        return [(lower, upper, (offset > 0) - (offset < 0))]
    root = -offset / slope
    after = 1 if slope > 0 else -1
    if _between(root, lower, upper):
        return [(lower, root, -after), (root, upper, after)]
    beyond = bool(point(root) <= as_point(lower)) or lower == root
    return [(lower, upper, after if beyond else -after)]


def _rational_roots(coefficients: tuple[Fraction, ...]) -> list[Fraction]:
    """Rational roots with small numerator and denominator, sorted."""
    scale = math.lcm(*(c.denominator for c in coefficients))
    whole = [int(c * scale) for c in coefficients]
    roots = {Fraction(0)} if whole[0] == 0 else set()
    lowest = next(c for c in whole if c)
    if abs(lowest) < 10**4 and abs(whole[-1]) < 10**4:
        tops = [d for d in range(1, abs(lowest) + 1) if lowest % d == 0]
        bottoms = [d for d in range(1, abs(whole[-1]) + 1) if whole[-1] % d == 0]
        candidates = {Fraction(s * p, q) for p in tops for q in bottoms for s in (1, -1)}
        roots |= {r for r in candidates if sum(c * r**i for i, c in enumerate(coefficients)) == 0}
    return sorted(roots)


def _exact_root(g: Expression, place: Ball) -> Place:
    if place.lo is place.hi and place.lo.is_exact():
        mantissa, exponent = place.lo.man_exp()
        return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    guess = Fraction(float(place.hull().mid())).limit_denominator(10_000)
    if place.may_contain(guess) and rational_value(g, guess) == 0:
        return guess
    return Root.of(g, place)


def _split(region: _Region, g: Expression, strict: bool) -> Iterator[tuple[_Region, int | None]]:
    found = signs(g, region.lower, region.upper)
    for lower, upper, sign in found:
        if sign is None and strict:
            raise UndecidedPieces(
                f"the sign of {g!r} could not be decided between {float(as_point(lower)):g} and "
                f"{float(as_point(upper)):g}, so the pieces of the function are unknown"
            )
        yield _Region(lower, upper, dict(region.known)), sign


def _step(region: _Region, node: Expression) -> Iterator[_Region]:
    """The region with the node's formula added, cut where that changes."""
    if node.operation in ("variable", "constant"):
        region.known[id(node)] = node
        yield region
        return
    arguments = [region.known[id(a)] for a in node.arguments]
    if node.operation == "where":
        condition = arguments[0]
        region.known[id(node)] = None if condition is None else arguments[1 if condition.value else 2]
        yield region
        return
    if any(a is None for a in arguments):
        region.known[id(node)] = None
        yield region
        return
    given = [a for a in arguments if a is not None]
    for rule, settle in _RULES:
        g = rule(node, given)
        if g is not None and (not g.is_constant or settle is not _keep):
            for part, sign in _split(region, g, strict=settle is not _keep):
                part.known[id(node)] = settle(node, given, sign)
                yield part
            return
    formula = build(node.operation, *given)
    if not formula.variables and not formula.is_constant:
        value = rational_value(formula, Fraction(0))
        formula = formula if value is None else constant(value)
    region.known[id(node)] = formula
    yield region


def _settle_domain(node: Expression, arguments: list[Expression], sign: int | None) -> Expression | None:
    return build(node.operation, *arguments) if sign == 1 or (sign == 0 and node.operation != "log") else None


def _settle_switch(node: Expression, arguments: list[Expression], sign: int | None) -> Expression | None:
    assert sign is not None
    return _switched(node, arguments, sign)


def _keep(node: Expression, arguments: list[Expression], sign: int | None) -> Expression | None:
    return build(node.operation, *arguments)


_Rule = Callable[[Expression, list[Expression]], "Expression | None"]
_Settle = Callable[[Expression, list[Expression], "int | None"], "Expression | None"]
_RULES: list[tuple[_Rule, _Settle]] = [(_switch, _settle_switch), (_domain, _settle_domain), (_pole, _keep)]


def pieces(expression: Expression, lower: Place = -math.inf, upper: Place = math.inf) -> list[Piece]:
    """The analytic stretches of `expression` in x from left to right, covering (lower, upper).

    Raises:
        UndecidedPieces: where a condition's sign cannot be decided.
    """
    expression = without_slopes(expression)
    regions = [_Region(lower, upper, {})]
    for node in ordered([expression]):
        regions = [part for region in regions for part in _step(region, node)]
    # Regions cut for the sake of a branch not taken, or a pole that is none, join again.
    joined: list[Piece] = []
    for region in regions:
        formula = region.known[id(expression)]
        if joined and joined[-1].expression is formula and not _may_be_singular(formula, region.lower):
            joined[-1] = Piece(joined[-1].lower, region.upper, formula)
        else:
            joined.append(Piece(region.lower, region.upper, formula))
    return joined


def _may_be_singular(formula: Expression | None, place: Place) -> bool:
    """Whether the formula may have a pole at this place."""
    if formula is None:
        return False
    x = as_point(place)
    for node in ordered([formula]):
        g = _pole(node, list(node.arguments)) if node.operation in ("div", "pow") else None
        if g is None or g.is_constant:
            continue
        value = g.evaluate(x=x)
        if not value.is_finite() or value.contains(0):
            return True
    return False
