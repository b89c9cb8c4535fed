"""Enclosures: what ball arithmetic proves about a function and its derivatives on an interval or a half-line.

A `Curve` is one analytic expression on one interval, ends at infinity included. It is cut into cells where needed, for
all questions together; a cell knows balls around f, f', ..., f^(N) on it, and its corners know their values. All
that is asked of a curve (signs, roots, extrema) is answered from these:

- the sign of f^(k) follows from its ball, or from the sign of f^(k+1) and the values at the corners;
- the extremum of f^(k) lies at a corner where f^(k) is monotone; where f^(k+1) is, at the one root of f^(k+1);
- elsewhere f^(k) lies within its own ball, its mean-value form and its second-order form, all three.

Towards infinity, cells are cut in the exponent ([R, R²]), and the last one is a half-line, on which half-line balls and
the asymptotic form (`numbers.tail`) decide. So the answers hold for every real number, not up to a cut-off.
"""

from __future__ import annotations

import heapq
import itertools
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from flint import arb, ctx

from ._system import system_of
from .ball import (
    BALL_OPERATIONS,
    POINT_OPERATIONS,
    Ball,
    OutsideDomain,
    ball,
    point,
    precision,
)
from .exact import Polynomial, polynomial, rational_value, sign_beyond
from .expression import Expression, build, constant, variable, without_slopes
from .gauge import FLAT
from .jet import derivatives
from .straight import StraightLine
from .tail import TAIL_OPERATIONS, Tail, coefficient, variable_tail

ORDER = 6
# Next to a singular end means within 2^-_BESIDE.
_BESIDE = 5000
_LARGEST = 1.7976931348623157e308
_SWITCHING = {"where", "abs", "sign", "maximum", "minimum"}
_INF, _NEG_INF = arb.pos_inf(), arb.neg_inf()
_EVERYTHING = Ball(_NEG_INF, _INF)
_FAST_POINTS = POINT_OPERATIONS | {n: getattr(operator, n) for n in ("add", "sub", "mul", "neg")} | {
    "div": operator.truediv, "abs": operator.abs}  # fmt: skip
_FAST_BALLS = BALL_OPERATIONS | {n: getattr(operator, n) for n in ("add", "sub", "mul", "neg", "abs")} | {
    "div": operator.truediv}  # fmt: skip


def derivatives_of(expression: Expression, order: int) -> list[Expression]:
    """The expressions f, f', ..., f^(order) in x, exactly: every constant in them is a rational number.

    Slopes that a definition states (`with_slope`) are left out: what is proved rests on the values alone.
    """
    expression = without_slopes(expression)

    def along(x: Any) -> Any:
        known: dict[int, Any] = {}
        for node in expression.nodes():
            if node.operation == "variable":
                known[id(node)] = x
            elif node.is_constant:
                # As nodes, not numbers: Python would divide two ints, or subtract two floats, with rounding.
                known[id(node)] = constant(Fraction(node.value)) if math.isfinite(node.value) else node
            else:
                arguments = [known[id(a)] for a in node.arguments]
                known[id(node)] = system_of(*arguments).apply(node.operation, *arguments)
        return known[id(expression)]

    return [constant(d) for d in derivatives(along, variable("x"), order)]


def centred(expression: Expression) -> tuple[Fraction, Expression]:
    """(s, g) with f(x) = g(x - s), where every affine function of x in f is a multiple of x - s; (0, f) if none is."""
    affine: dict[int, tuple[Fraction, Fraction]] = {}
    nodes = expression.nodes()
    for node in nodes:
        coefficients = polynomial(node) if node.variables else None
        if coefficients is not None and len(coefficients) == 2:
            affine[id(node)] = (coefficients[0], coefficients[1])
    # The largest affine subexpressions: those that stand in something that is not affine.
    outer = {id(expression)} if id(expression) in affine else set()
    for node in nodes:
        if id(node) not in affine:
            outer |= {id(a) for a in node.arguments if isinstance(a, Expression) and id(a) in affine}
    roots = {-affine[i][0] / affine[i][1] for i in outer}
    if len(roots) != 1 or roots == {0}:
        return Fraction(0), expression
    known: dict[int, Any] = {}
    for node in nodes:
        if id(node) in outer:
            known[id(node)] = build("mul", affine[id(node)][1], variable("x"))
        elif node.operation in ("variable", "constant"):
            known[id(node)] = node
        else:
            known[id(node)] = build(node.operation, *[known[id(a)] for a in node.arguments])
    return roots.pop(), known[id(expression)]


def _closed(operation: str, arguments: list[Any]) -> Any:
    """An operation on constants alone, as a point."""
    return POINT_OPERATIONS[operation](*map(point, arguments))


class Corner:
    """A point where cells meet, and the values there (one-sided where the curve ends)."""

    __slots__ = ("_curve", "_values", "x")

    def __init__(self, curve: Curve, x: arb) -> None:
        self._curve, self.x = curve, x
        self._values: list[Ball] | None = None

    @property
    def values(self) -> list[Ball]:
        if self._values is None:
            self._values = self._curve.at(self.x)
        return self._values

    @property
    def is_finite(self) -> bool:
        return bool(self.x.is_finite())


class Cell:
    """An interval between two corners with balls around f, f', ... on it."""

    __slots__ = ("_bounds", "_far", "_signs", "children", "curve", "left", "over", "right", "tails")

    def __init__(self, curve: Curve, left: Corner, right: Corner) -> None:
        self.curve, self.left, self.right = curve, left, right
        self.over = curve.over(left.x, right.x)
        self.tails: list[Tail] | None = None
        self.children: tuple[Cell, Cell] | None = None
        self._far = False
        self._signs: dict[tuple[int, Any], int | None] = {}
        self._bounds: dict[int, tuple[float, float]] = {}
        if left.is_finite != right.is_finite:
            self._look_far()

    def __repr__(self) -> str:
        return f"Cell({float(self.left.x)!r}, {float(self.right.x)!r})"

    @property
    def is_finite(self) -> bool:
        return self.left.is_finite and self.right.is_finite

    @property
    def distance(self) -> float:
        """How far the cell is from 0."""
        return min(abs(float(self.left.x)), abs(float(self.right.x)))

    @property
    def is_narrow(self) -> bool:
        """Whether further cuts would hardly tell more: about 40 bits of its place are known."""
        if not self.is_finite:
            return False
        width = float(self.right.x - self.left.x)
        return width < 2.0**-40 * max(self.distance, 2.0**-40)

    def _look_far(self) -> None:
        """Use what holds from the near end of the cell to infinity."""
        right = self.left.x > 0
        self.tails = self.curve.tails(right, self.left.x if right else -self.right.x)
        self.over = _meet(self.over, self.tails)
        self._far = True

    def _is_far(self) -> bool:
        """Whether the cell lies far out and spans so much that balls alone seldom decide there."""
        if self._far:
            return False
        a, b = self.left.x, self.right.x
        if a < 0:
            a, b = -b, -a
        return bool(a >= 2) and bool(b >= 1.5 * a)

    def _is_blurred(self, k: int) -> bool:
        """Whether f^(k) is so small at a corner that rounding hides its sign, on a cell to which tails reach."""
        if self._far or not (self.left.x >= 2 or self.right.x <= -2):
            return False
        return any(_sign(c.values[k]) is None for c in (self.left, self.right) if c.is_finite)

    @property
    def middle(self) -> Corner | None:
        """The corner between the two halves; None where floats cannot cut the cell any more."""
        x = _cut(self.left.x, self.right.x)
        return None if x is None else self.curve.corner(x)

    def halves(self) -> tuple[Cell, Cell] | None:
        if self.children is None:
            middle = self.middle
            if middle is None:
                return None
            self.children = Cell(self.curve, self.left, middle), Cell(self.curve, middle, self.right)
            self.curve.cells += 2
        return self.children

    def sign(self, k: int, level: Any = 0) -> int | None:
        """The sign of f^(k) - level inside the cell: 1, -1, 0 (it is that constant), or None where undecided."""
        key = (k, level)
        if key not in self._signs:
            near = not self._far
            sign = self._find_sign(k, level)
            if sign is None and (self._is_far() or self._is_blurred(k)):
                self._look_far()
            if sign is None and near and self._far:
                self._signs = {known: s for known, s in self._signs.items() if s is not None}
                sign = self._find_sign(k, level)
            self._signs[key] = sign
        return self._signs[key]

    def _find_sign(self, k: int, level: Any) -> int | None:
        direct = _sign(self.over[k] - level if level else self.over[k])
        if direct is not None:
            return direct
        if self.tails is not None and level == 0 and self.tails[k].sign is not None:
            return self.tails[k].sign
        if self.curve.tower[k].is_constant:
            return _sign(ball(point(self.curve.tower[k].value)) - level)
        if level == 0 and (plain := self._polynomial_sign(k)) is not None:
            return plain
        if k == ORDER:
            return None
        if self.sign(k + 1) == 0:
            return _sign(self.left.values[k] - level)
        slope = self.slope(k)
        if slope is not None:
            low, high = (self.left, self.right) if slope > 0 else (self.right, self.left)
            if (low.values[k] - level).lo >= 0:
                return 1
            if (high.values[k] - level).hi <= 0:
                return -1
            return None
        if not self.is_finite or (middle := self.middle) is None:
            return None
        step = Ball(self.left.x - middle.x, self.right.x - middle.x)
        return _sign(middle.values[k] + self.over[k + 1] * step - level)

    def _polynomial_sign(self, k: int) -> int | None:
        """The sign of a polynomial that has no root beyond one of the ends."""
        coefficients = self.curve.polynomials[k]
        if not coefficients:
            return None
        for end, side in ((self.left.x, 1), (self.right.x, -1)):
            if end.is_finite() and (place := _exactly(end)) is not None:
                sign = sign_beyond(coefficients, place, side)
                if sign is not None:
                    return sign
        return None

    def slope(self, k: int) -> int | None:
        """1 where f^(k) rises strictly, -1 where it falls strictly, None where neither is proved."""
        sign = self.sign(k + 1) if k < ORDER else None
        if sign is not None:
            return sign or None
        # An analytic slope that is nowhere negative, and somewhere positive, has isolated zeros at most.
        weak = self.monotone(k)
        if not weak:
            return None
        witnesses = (self.left, self.right, self.middle)
        if any(w is not None and _sign(w.values[k + 1]) == weak for w in witnesses):
            return weak
        return None

    def monotone(self, k: int) -> int | None:
        """1 where f^(k) rises or stays, -1 where it falls or stays, None where undecided."""
        if k == ORDER:
            return None
        slope = self.over[k + 1]
        if slope.lo >= 0:
            return 1
        if slope.hi <= 0:
            return -1
        return self.sign(k + 1)

    def bounds(self, k: int) -> tuple[float, float]:
        """Floats below and above f^(k) on the cell."""
        if k not in self._bounds:
            self._bounds[k] = self._find_bounds(k)
        return self._bounds[k]

    def _find_bounds(self, k: int) -> tuple[float, float]:
        rises = self.monotone(k)
        value = self.over[k]
        low, high = value.lower, value.upper
        if rises is not None:
            left, right = (self.left, self.right) if rises >= 0 else (self.right, self.left)
            return max(low, left.values[k].lower), min(high, right.values[k].upper)
        if not self.is_finite or (middle := self.middle) is None:
            return low, high
        step = Ball(self.left.x - middle.x, self.right.x - middle.x)
        centre = middle.values
        forms = [centre[k] + self.over[k + 1] * step]
        if k + 2 <= ORDER:
            reach = abs(step)
            square = Ball(0, reach.hi * reach.hi / 2)
            forms.append(centre[k] + centre[k + 1] * step + self.over[k + 2] * square)
        return max(low, *(f.lower for f in forms)), min(high, *(f.upper for f in forms))

    def crossing(self, k: int, level: Any = 0) -> Ball | None:
        """The one root of f^(k) - level, where f^(k) is monotone and has opposite signs at the ends; else None."""
        if k >= ORDER or not self.is_finite or self.slope(k) is None:
            return None
        at_left, at_right = _sign(self.left.values[k] - level), _sign(self.right.values[k] - level)
        if at_left is None or at_right is None or at_left * at_right >= 0:
            return None
        return self.curve.solve(k, level, self.left.x, self.right.x, at_left)

    def closed_bounds(self, k: int) -> tuple[float, float] | None:
        """Tight bounds of f^(k) where it has one extremum inside: at the root of f^(k+1)."""
        root = self.crossing(k + 1) if k + 1 < ORDER else None
        if root is None:
            return None
        middle = arb(root.hull().mid())
        step = root - middle
        values = self.curve.at(middle)
        reach = abs(step).hi
        curvature = self.over[k + 2] * Ball(0, reach * reach / 2)
        extremum = values[k] + values[k + 1] * step + curvature
        ends = (self.left.values[k], self.right.values[k], extremum)
        low, high = self.over[k].lower, self.over[k].upper
        return max(low, min(e.lower for e in ends)), min(high, max(e.upper for e in ends))


def _meet(balls: list[Ball], tails: list[Tail] | None) -> list[Ball]:
    if tails is None:
        return balls
    return [b.intersection(t.hull) for b, t in zip(balls, tails, strict=True)]


def _diverging(slope: Tail) -> int | None:
    """The sign of a slope whose integral diverges: c X^q with q >= -1."""
    c, gauge = slope.leading
    slow = gauge.growth > 0 or (not gauge.rates and gauge.power >= -1)
    return _sign(c) or None if slope.terms and slow else None


def _exactly(x: arb) -> Fraction | None:
    """A point as the rational number it is, where it is one of ordinary size."""
    if not x.is_exact():
        return None
    mantissa, exponent = x.man_exp()
    return None if abs(int(exponent)) > 200 else Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def _sign(value: Ball) -> int | None:
    if value.lo > 0:
        return 1
    if value.hi < 0:
        return -1
    return 0 if value.lo.is_zero() and value.hi.is_zero() else None


def _cut(a: arb, b: arb) -> arb | None:
    """A float64 between a and b where the interval is cut: in the exponent towards 0 and infinity."""
    x = _cut_between(float(a.mid()) if a.is_finite() else -math.inf, float(b.mid()) if b.is_finite() else math.inf)
    cut = arb(x) if math.isfinite(x) else (arb(2) ** (1100 if x > 0 else -1100))
    return cut if a < cut and cut < b else None


def _cut_between(a: float, b: float) -> float:
    if a < 0 < b:
        return 0.0
    if a < 0:
        return -_cut_between(-b, -a)
    if b == math.inf:
        return 1.0 if a < 1 else min(max(4.0, a * a), 1e308)
    if a == 0:
        return b / 2 if b >= 2.0**-6 else max(b * b, 5e-324)
    return math.sqrt(a) * math.sqrt(b) if b > 4 * a else a + (b - a) / 2


@dataclass(frozen=True)
class Extremum:
    """The supremum (or infimum) of f^(k): between two floats; `decided` where these are within the tolerance.

    One that is certainly beyond every finite float64 counts as decided.
    """

    lower: float
    upper: float
    decided: bool


@dataclass(frozen=True)
class Stretch:
    """Where f^(k) - level has one sign: between two roots (or ends), each known to lie in a ball.

    A sign of None means undecided.
    """

    start: Ball
    stop: Ball
    sign: int | None


class Curve:
    """One analytic expression in x on one interval.

    Args:
        expression: in x, without where, abs, sign, maximum or minimum.
        lower, upper: the interval's ends; ±inf allowed. Values at an end are one-sided limits.

    Raises:
        ValueError: for a formula that switches.
    """

    def __init__(self, expression: Expression, lower: Any = -math.inf, upper: Any = math.inf) -> None:
        switching = sorted({n.operation for n in expression.nodes()} & _SWITCHING)
        if switching:
            raise ValueError(f"{expression!r} switches ({', '.join(switching)}): cut it with numbers.pieces first")
        self.expression = expression
        self.tower = derivatives_of(expression, ORDER)
        self._points = StraightLine(self.tower, _FAST_POINTS, point)
        self._shift, shifted = centred(expression)
        self._tails = StraightLine(derivatives_of(shifted, ORDER), TAIL_OPERATIONS, lambda value: value, closed=_closed)
        self._balls = StraightLine(self.tower, _FAST_BALLS, ball)
        self.lower, self.upper = point(lower), point(upper)
        self.cells = 1
        self._corners: dict[Any, Corner] = {}
        self._first, self._last = Corner(self, self.lower), Corner(self, self.upper)

    def __repr__(self) -> str:
        return f"Curve({self.expression!r}, {float(self.lower)}, {float(self.upper)})"

    @cached_property
    def polynomials(self) -> list[Polynomial | None]:
        """f, f', ... as polynomials with rational coefficients, where they are."""
        return [polynomial(f) for f in self.tower]

    @cached_property
    def root(self) -> Cell:
        return Cell(self, self._first, self._last)

    def corner(self, x: arb) -> Corner:
        key = x.man_exp()
        if key not in self._corners:
            self._corners[key] = Corner(self, x)
        return self._corners[key]

    def corners(self) -> list[Corner]:
        """The points at which the curve has been cut so far."""
        return list(self._corners.values())

    def at(self, x: arb) -> list[Ball]:
        """Balls around f, f', ..., f^(ORDER) at x; the limits where x is infinite."""
        if not x.is_finite():
            return self.limits(x > 0)
        values = self._points(x)
        if all(v.is_finite() for v in values):
            return [self._sharpened(ball(v), k, x) for k, v in enumerate(values)]
        if x is self.lower or x is self.upper:
            return self._beside(x)
        return self._over(Ball(x))

    def _sharpened(self, value: Ball, k: int, x: arb) -> Ball:
        """The value of f^(k) at x, exactly 0 where exact arithmetic finds that rounding alone keeps it from being."""
        if not value.lo.contains(0) or value.lo.is_zero() or (place := _exactly(x)) is None:
            return value
        return Ball(0) if rational_value(self.tower[k], place) == 0 else value

    def _beside(self, x: arb) -> list[Ball]:
        """Balls around the values next to a singular end."""
        step = arb(2) ** -_BESIDE
        with precision(2 * _BESIDE):
            near = (x, x + step) if x is self.lower else (x - step, x)
            return self._over(Ball(*near))

    def over(self, lower: arb, upper: arb) -> list[Ball]:
        """Balls around f, f', ..., f^(ORDER) on [lower, upper]."""
        return self._over(Ball(lower, upper))

    def _over(self, x: Ball) -> list[Ball]:
        try:
            return self._balls(x)
        except (OutsideDomain, ZeroDivisionError):
            return [_EVERYTHING] * (ORDER + 1)

    def tails(self, right: bool, start: arb) -> list[Tail] | None:
        """f, f', ..., f^(ORDER) on [start, inf), or on (-inf, -start]; None where start is too near."""
        start = start - point(self._shift) if right else start + point(self._shift)
        if not start >= 2:
            return None
        x = variable_tail(start, right)
        try:
            values = self._tails(x)
        except (OutsideDomain, ZeroDivisionError):
            return None
        return [v if isinstance(v, Tail) else Tail(start, [(coefficient(v), FLAT)]) for v in values]

    def limits(self, right: bool) -> list[Ball]:
        """Balls around the limits of f, f', ... at ±inf; where one has none, around all its values beyond 2^1100."""
        far = arb(2) ** 1100
        direct = self.over(far, _INF) if right else self.over(_NEG_INF, -far)
        tails = self.tails(right, far)
        if tails is None:
            return direct
        values = [
            t.limit() if t.order in (1, -1) else d.intersection(t.limit()) for t, d in zip(tails, direct, strict=True)
        ]
        for k in range(ORDER):
            if tails[k].order is None and (side := _diverging(tails[k + 1])):
                values[k] = Ball(_INF) if (side > 0) is right else Ball(_NEG_INF)
        return values

    def solve(self, k: int, level: Any, a: arb, b: arb, sign_at_a: int) -> Ball:
        """A thin ball around the one sign change of f^(k) - level between a and b: Newton's steps, then a proof."""
        shift = point(level)
        fine = arb(2) ** -(ctx.prec * 5 // 8)
        low, high = a, b
        x = arb(((a + b) / 2).mid())
        for _ in range(200):
            values = self._points(x)
            g = values[k] - shift
            s = 1 if g > 0 else -1 if g < 0 else 0
            if s == 0:
                break
            if s == sign_at_a:
                low = x
            else:
                high = x
            step = g / values[k + 1] if values[k + 1].is_finite() and not values[k + 1].contains(0) else None
            nearer = None if step is None else arb((x - step).mid())
            if nearer is not None and low < nearer and nearer < high:
                small = abs(nearer - x) < abs(nearer) * fine + fine**2
                x = nearer
                if small:
                    break
                continue
            nearer = arb(((low + high) / 2).mid())
            if not (low < nearer and nearer < high):
                break
            x = nearer
        width = abs(x) * fine / 1024 + fine**2 / 1024
        for _ in range(40):
            left, right = arb((x - width).mid()), arb((x + width).mid())
            if low < left:
                g = self._points(left)[k] - shift
                low = left if (g > 0 and sign_at_a > 0) or (g < 0 and sign_at_a < 0) else low
            if right < high:
                g = self._points(right)[k] - shift
                high = right if (g > 0 and sign_at_a < 0) or (g < 0 and sign_at_a > 0) else high
            if not (low < left) and not (right < high):
                break
            width = width * 16
        return Ball(low, high)

    # -------------------------------------------------------------------------------------------- extrema

    def supremum(self, k: int, tolerance: float = 1e-12, budget: int = 1500) -> Extremum:
        """sup f^(k): best-first search over the cells."""
        return self._extremum(k, 1, tolerance, budget)

    def infimum(self, k: int, tolerance: float = 1e-12, budget: int = 1500) -> Extremum:
        """inf f^(k)."""
        found = self._extremum(k, -1, tolerance, budget)
        return Extremum(-found.upper, -found.lower, found.decided)

    def _extremum(self, k: int, side: int, tolerance: float, budget: int) -> Extremum:
        if self.tower[k].is_constant:
            value = ball(point(self.tower[k].value)) * side
            return Extremum(value.lower, value.upper, True)

        def above(low_high: tuple[float, float]) -> float:
            return low_high[1] if side > 0 else -low_high[0]

        def value_at(corner: Corner) -> float:
            v = corner.values[k]
            return v.lower if side > 0 else -v.upper

        count = itertools.count()
        best = max(value_at(self._first), value_at(self._last))
        settled = -math.inf
        heap = [(-above(self.root.bounds(k)), next(count), self.root)]
        while heap:
            top, _, cell = heap[0]
            gap = tolerance * max(1.0, min(abs(best), -top)) if math.isfinite(best) else 0.0
            if -top <= max(best + gap, settled) or best >= _LARGEST:
                break
            if next(count) > budget * 4 or self.cells > 20 * budget:
                return Extremum(best, max(-top, settled), False)
            heapq.heappop(heap)
            closed = cell.closed_bounds(k)
            if closed is not None:
                settled = max(settled, above(closed))
                root = cell.crossing(k + 1)
                assert root is not None
                at_root = self.at(arb(root.hull().mid()))[k]
                best = max(
                    best, at_root.lower if side > 0 else -at_root.upper, value_at(cell.left), value_at(cell.right)
                )
                continue
            halves = cell.halves() if next(count) < budget * 4 else None
            if halves is None:
                settled = max(settled, -top)
                continue
            best = max(best, value_at(halves[0].right))
            for half in halves:
                bound = above(half.bounds(k))
                if bound > best:
                    heapq.heappush(heap, (-bound, next(count), half))
        upper = max(settled, -heap[0][0] if heap else best, best)
        decided = best >= _LARGEST or upper - best <= 4 * tolerance * max(1.0, abs(best))
        return Extremum(best, upper, decided)

    # -------------------------------------------------------------------------------------------- signs

    def stretches(self, k: int, level: Any = 0, budget: int = 600, most: int = 64) -> list[Stretch]:
        """The curve cut where f^(k) - level changes sign, from left to right.

        Args:
            budget: how many cells may be cut.
            most: how many sign changes to look for; beyond them, far from 0, the sign is left undecided.
        """
        found: list[Stretch] = []
        count = itertools.count()
        heap = [(0.0, next(count), self.root)]
        spent = changes = 0
        while heap:
            _, _, cell = heapq.heappop(heap)
            start, stop = Ball(cell.left.x), Ball(cell.right.x)
            sign = cell.sign(k, level)
            if sign is not None:
                found.append(Stretch(start, stop, sign))
                continue
            root = cell.crossing(k, level)
            if root is not None:
                first = _sign(cell.left.values[k] - level)
                assert first is not None
                found += [Stretch(start, root, first), Stretch(root, stop, -first)]
                changes += 1
                continue
            spent += 1
            halves = cell.halves() if spent <= budget and changes < most and not cell.is_narrow else None
            if halves is None:
                found.append(Stretch(start, stop, None))
                continue
            for half in halves:
                heapq.heappush(heap, (half.distance, next(count), half))
        found.sort(key=lambda s: (float(s.start.lo.mid()), float(s.stop.hi.mid())))
        joined = list(_joined(found))
        return list(_joined([s for i in range(len(joined)) for s in self._closed(joined, i, k, level)]))

    def _closed(self, stretches: list[Stretch], i: int, k: int, level: Any) -> list[Stretch]:
        """A short undecided stretch between opposite signs, as the one root it is where f^(k) is monotone on it."""
        here = stretches[i]
        if here.sign is not None or not 0 < i < len(stretches) - 1:
            return [here]
        before, after = stretches[i - 1].sign, stretches[i + 1].sign
        a, b = here.start.hull(), here.stop.hull()
        if not before or not after or before == after or not b - a < abs(a) + 1 or k >= ORDER:
            return [here]
        if _sign(self.over(a, b)[k + 1]) != after:
            return [here]
        root = self.solve(k, level, a, b, before)
        return [Stretch(here.start, root, before), Stretch(root, here.stop, after)]


def _joined(pieces: list[Stretch]) -> Iterator[Stretch]:
    for _, group in itertools.groupby(pieces, key=lambda p: p.sign):
        run = list(group)
        yield Stretch(run[0].start, run[-1].stop, run[0].sign)
