"""The proofs: from a definition's formula to its facts, by balls on its analytic pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Any

from flint import arb

from varphi.numbers.ball import Ball, ball, float_above, float_below, point, precision
from varphi.numbers.enclosure import Curve, Stretch, derivatives_of
from varphi.numbers.exact import difference, polynomial, rational_value
from varphi.numbers.expression import Expression, variable
from varphi.numbers.pieces import Place, Root, as_point, pieces
from varphi.numbers.tail import Tail

from . import symmetry
from .interval import Interval, Method, highest, lowest, weakest
from .results import Bounds, Kink, Limit, Limits, Piece, Places, Range, Saturation

PRECISION = 128
HIGHEST_ORDER = 4
# One-sided derivatives are compared up to this order before two pieces count as one analytic function.
_COMPARED = 12
_TINY = 1e-290
_FINE = 2000  # bits: agreement to 290 digits is reported as "computed"


def _interval(value: Ball, method: Method = "proved") -> Interval:
    return Interval(value.lower, value.upper, method)


def _at(place: Place) -> Interval:
    x = as_point(place)
    if not x.is_finite():
        end = math.inf if x > 0 else -math.inf
        return Interval(end, end)
    return Interval(float_below(x), float_above(x))


@dataclass(frozen=True, eq=False)
class Arc:
    """A piece on which the function is defined, with its curve."""

    lower: Place
    upper: Place
    expression: Expression
    curve: Curve

    @property
    def is_zero(self) -> bool:
        return polynomial(self.expression) == ()

    def over_a_period(self, k: int) -> Curve:
        """A curve on which f^(k) takes all its values: one period, where it is periodic on a half-line at least."""
        if self.curve.lower.is_finite() and self.curve.upper.is_finite():
            return self.curve
        period = symmetry.period(self.curve.tower[k])
        if period is None:
            return self.curve
        if self.curve.lower.is_finite():
            return Curve(self.expression, self.curve.lower, (self.curve.lower + period).upper())
        high = self.curve.upper if self.curve.upper.is_finite() else arb(0)
        return Curve(self.expression, (high - period).lower(), high)

    @cached_property
    def tower(self) -> list[Expression]:
        return derivatives_of(self.expression, _COMPARED)


@dataclass(frozen=True)
class _Run:
    """A stretch of the line on which some f^(k) - level has one sign (None: undecided)."""

    start: Ball
    stop: Ball
    sign: int | None


class Analysis:
    """Everything that is proved about one expression in x on [lower, upper].

    Args:
        expression: any, in the one variable x.
        lower, upper: the part of the line that is looked at.

    Raises:
        UndecidedPieces: where a condition of the formula cannot be decided.
    """

    def __init__(self, expression: Expression, lower: Place = -math.inf, upper: Place = math.inf) -> None:
        self.expression = expression
        self.lower, self.upper = lower, upper
        with precision(PRECISION):
            self.pieces = pieces(expression, lower, upper)
            self.arcs = [
                Arc(p.lower, p.upper, p.expression, Curve(p.expression, as_point(p.lower), as_point(p.upper)))
                for p in self.pieces
                if p.expression is not None
            ]
        if not self.arcs:
            raise ValueError(
                f"{expression!r} is defined nowhere between {float(as_point(lower))} and {float(as_point(upper))}"
            )

    def domain(self) -> tuple[tuple[float, float], ...]:
        """The intervals on which the function is defined."""
        return tuple(_merged([(_at(a.lower).lower, _at(a.upper).upper) for a in self.arcs]))

    # ---------------------------------------------------------------------------------------- bounds

    def bounds(self, k: int) -> Bounds:
        """inf and sup of f^(k) over all pieces, one-sided at their ends."""
        with precision(PRECISION):
            curves = [arc.over_a_period(k) for arc in self.arcs]
            tops = [_extremum_interval(curve.supremum(k)) for curve in curves]
            bottoms = [_extremum_interval(curve.infimum(k)) for curve in curves]
            if k == 0:
                values = [_interval(v) for v in self._values_at_breaks]
                tops += values
                bottoms += values
            return Bounds(lowest(bottoms), highest(tops))

    @cached_property
    def _breaks(self) -> list[tuple[Arc, Arc]]:
        """Neighbouring arcs that meet at a point."""
        return [(a, b) for a, b in pairwise(self.arcs) if a.upper is b.lower or a.upper == b.lower]

    @cached_property
    def _values_at_breaks(self) -> list[Ball]:
        return [v for a, _ in self._breaks if (v := self._value_at(a.upper)) is not None]

    def _value_at(self, place: Place) -> Ball | None:
        """f at a break; None where the formula has no finite value there."""
        if isinstance(place, Fraction):
            exact = rational_value(self.expression, place)
            if exact is not None:
                return Ball(point(exact))
        try:
            value = self.expression.evaluate(x=as_point(place))
        except (ValueError, ZeroDivisionError):
            return None
        value = ball(value)
        return value if value.is_finite() else None

    def range(self) -> Range:
        bounds = self.bounds(0)
        with precision(PRECISION):
            zeros = tuple((_at(a.lower).lower, _at(a.upper).upper) for a in self.arcs if a.is_zero)
            upper = self._attained(bounds.supremum, 1)
            lower = self._attained(-bounds.infimum, -1)
        return Range(bounds.infimum, bounds.supremum, lower, upper, zeros)

    def _attained(self, supremum: Interval, side: int) -> bool | None:
        """Whether sup(side·f) is a value: by comparing the values at real points with the limits at open ends."""
        if math.isinf(supremum.lower) and supremum.lower > 0:
            return False
        if all(symmetry.is_periodic(a.expression) for a in self.arcs) and not self._jumps:
            return True
        reached = [v * side for v in self._reached]
        limits = [v * side for v in self._open_ends]
        if not limits:
            return True
        top = max((float_below(v.lo) for v in reached), default=-math.inf)
        best = max((v for v in reached), key=lambda v: float_below(v.lo), default=None)
        if best is not None and all(v.hi <= best.lo for v in limits):
            return True
        runs = self._runs(1)
        if any(r.sign is None for r in runs):
            return None
        highest_limit = max(limits, key=lambda v: float_below(v.lo))
        if top < math.inf and all(v.hi < highest_limit.lo for v in reached):
            return False
        return None

    @cached_property
    def _reached(self) -> list[Ball]:
        """Values of f at points: at breaks, finite ends, turning points, and on constant pieces."""
        found = list(self._values_at_breaks)
        for arc in self.arcs:
            if arc.curve.tower[0].is_constant:
                found.append(ball(point(arc.curve.tower[0].value)))
            # The value at a closed end of the part looked at.
            for place in (self.lower, self.upper):
                if not isinstance(place, float) and (arc.lower is place or arc.upper is place):
                    value = self._value_at(place)
                    found += [value] if value is not None else []
            runs = arc.curve.stretches(1)
            for run in runs[1:]:
                found.append(arc.curve.over(run.start.lo, run.start.hi)[0])
        return found

    @cached_property
    def _open_ends(self) -> list[Ball]:
        """Limits that need not be values: at infinity, at the ends of the domain, at jumps."""
        found = []
        for arc in self.arcs:
            if arc.curve.tower[0].is_constant:
                continue
            for place, values in (
                (arc.lower, arc.curve.at(arc.curve.lower)),
                (arc.upper, arc.curve.at(arc.curve.upper)),
            ):
                value = self._value_at(place) if as_point(place).is_finite() else None
                limit = values[0]
                # A formula's value at its own end is the limit there; only a switch can make it another.
                if value is None or value.lo > limit.hi or value.hi < limit.lo:
                    found.append(limit)
        return found

    # ---------------------------------------------------------------------------------------- kinks

    @cached_property
    def kinks(self) -> tuple[Kink, ...]:
        with precision(PRECISION):
            found = [self._kink(a, b) for a, b in self._breaks]
        return tuple(k for k in found if k is not None)

    @cached_property
    def _jumps(self) -> list[Kink]:
        return [k for k in self.kinks if k.order == 0]

    def _kink(self, left: Arc, right: Arc) -> Kink | None:
        """The lowest order at which the one-sided derivatives differ."""
        place = left.upper
        method: Method = "proved"
        gaps = derivatives_of(difference(right.expression, left.expression), _COMPARED)
        for k in range(_COMPARED + 1):
            jump = _jump(gaps[k], left.tower[k], right.tower[k], place)
            if jump.method != "proved":
                method = weakest(method, jump.method)
            if jump.lower == jump.upper == 0:
                continue
            return Kink(_at(place), k, Interval(jump.lower, jump.upper, weakest(method, jump.method)))
        return None

    @property
    def smoothness(self) -> float:
        """k of C^k: one less than the lowest order that jumps; inf for none."""
        return min((k.order - 1 for k in self.kinks), default=math.inf)

    @property
    def lipschitz(self) -> Interval:
        if self._jumps:
            methods: list[Method] = [k.jump.method for k in self._jumps]
            return Interval(math.inf, math.inf, weakest(*methods))
        return self.bounds(1).magnitude

    # ---------------------------------------------------------------------------------------- signs

    def _runs(self, k: int, level: Any = 0) -> list[_Run]:
        with precision(PRECISION):
            return [_Run(s.start, s.stop, s.sign) for arc in self.arcs for s in arc.curve.stretches(k, level)]

    def monotone(self) -> str:
        """ "increasing", "nondecreasing", "decreasing", "nonincreasing", "constant", "neither" or "undecided"."""
        signs = [r.sign for r in self._runs(1)]
        for kink in self._jumps:
            signs.append(1 if kink.jump.lower > 0 else -1 if kink.jump.upper < 0 else None)
        up, down, flat = 1 in signs, -1 in signs, 0 in signs
        if up and down:
            return "neither"
        if None in signs:
            return "undecided"
        if not up and not down:
            return "constant"
        if up:
            return "nondecreasing" if flat else "increasing"
        return "nonincreasing" if flat else "decreasing"

    def turning_points(self) -> Places:
        """Where f changes between rising and falling."""
        return self._repeating(_changes(self._runs(1)), 1)

    def _repeating(self, places: Places, k: int) -> Places:
        """Said to be infinitely many where they are the roots of a periodic f^(k) on the whole line."""
        outer = self.arcs[-1]
        infinite = (
            bool(places.points) and not outer.curve.upper.is_finite() and symmetry.is_periodic(outer.curve.tower[k])
        )
        return Places(places.points, places.stretches, places.complete, infinite)

    def zeros(self) -> Places:
        return self._repeating(self._roots(self.arcs), 0)

    def fixed_points(self) -> Places:
        """Where f(x) = x."""
        x = variable("x")
        with precision(PRECISION):
            shifted = []
            shift = difference(self.expression, x)
            for p in pieces(shift, self.lower, self.upper):
                if p.expression is not None:
                    curve = Curve(p.expression, as_point(p.lower), as_point(p.upper))
                    shifted.append(Arc(p.lower, p.upper, p.expression, curve))
            found = self._roots(shifted, shift=True)
            infinite = bool(found.points) and symmetry.is_periodic(shift)
            return Places(found.points, found.stretches, found.complete, infinite)

    def _roots(self, arcs: list[Arc], shift: bool = False) -> Places:
        """Zeros of the arcs' formulas, those at breaks by the function's own value there."""
        points: list[Interval] = []
        stretches: list[tuple[float, float]] = []
        complete = True
        with precision(PRECISION):
            for arc in arcs:
                runs = arc.curve.stretches(0)
                for run in runs:
                    if run.sign == 0:
                        stretches.append((_interval(run.start).lower, _interval(run.stop).upper))
                    complete = complete and run.sign is not None
                points += [_interval(b.start) for a, b in pairwise(runs) if _crosses(a, b)]
                points += [p for p in map(_interval, self._inner_zeros(arc)) if p not in points]
            ends: list[Place] = [arc.lower for arc in arcs] + [arc.upper for arc in arcs[-1:]]
            for place in ends:
                if not as_point(place).is_finite():
                    continue
                value = self._value_at(place)
                at = _at(place)
                if value is None or any(low <= at.lower and at.upper <= high for low, high in stretches):
                    continue
                value = value - as_point(place) if shift else value
                if value.lo.is_zero() and value.hi.is_zero():
                    points.append(at)
        points = sorted(set(points), key=lambda i: i.lower)
        return Places(tuple(points), tuple(_merged(stretches)), complete)

    @staticmethod
    def _inner_zeros(arc: Arc) -> Iterator[Ball]:
        """Corners inside the arc where the formula is exactly zero without changing sign."""
        for corner in arc.curve.corners():
            value = corner.values[0]
            inside = arc.curve.lower < corner.x and corner.x < arc.curve.upper
            if inside and value.lo.is_zero() and value.hi.is_zero() and not arc.is_zero:
                yield Ball(corner.x)

    def convexity(self) -> tuple[Piece, ...]:
        """The stretches on which f is convex, concave or linear."""
        repeats = all(symmetry.is_periodic(arc.curve.tower[2]) for arc in self.arcs)
        names = {1: "convex", -1: "concave", 0: "linear", None: "periodic" if repeats else "undecided"}
        found: list[Piece] = []
        bends = {(k.location, k.order): k for k in self.kinks}
        for run in self._runs(2):
            piece = Piece(_interval(run.start), _interval(run.stop), names[run.sign])
            if found and found[-1].kind == piece.kind and not self._bend_forbids(bends, piece):
                found[-1] = Piece(found[-1].lower, piece.upper, piece.kind)
            else:
                found.append(piece)
        return tuple(found)

    @staticmethod
    def _bend_forbids(bends: dict[tuple[Interval, int], Kink], piece: Piece) -> bool:
        """Whether a kink at the piece's start keeps it from continuing the one before."""
        if (piece.lower, 0) in bends:
            return True
        kink = bends.get((piece.lower, 1))
        if kink is None:
            return False
        return not (
            (kink.jump.lower > 0 and piece.kind == "convex") or (kink.jump.upper < 0 and piece.kind == "concave")
        )

    def inflections(self) -> Places:
        """Where f changes between convex and concave."""
        jumps = {k.location for k in self._jumps}
        places = _changes(self._runs(2))
        return self._repeating(Places(tuple(p for p in places.points if p not in jumps), (), places.complete), 2)

    # ---------------------------------------------------------------------------------------- symmetry

    def parity(self) -> str:
        with precision(PRECISION):
            found = symmetry.parity(self.expression)
            if found == "undecided":
                found = symmetry.parity_of_pieces(self.pieces)
        return found

    def homogeneity(self) -> int | None:
        return symmetry.homogeneity(self.pieces)

    # ---------------------------------------------------------------------------------------- tails

    def limits(self) -> Limits:
        with precision(PRECISION):
            return Limits(self._limit(self.arcs[0], False), self._limit(self.arcs[-1], True))

    def _limit(self, arc: Arc, right: bool) -> Limit:
        end = arc.upper if right else arc.lower
        x = as_point(end)
        if x.is_finite():
            value = arc.curve.at(x)[0]
            return Limit(
                _interval(value) if value.is_finite() else None, "bounded" if value.is_finite() else "undecided"
            )
        if polynomial(arc.expression) == ():
            return Limit(Interval(0.0, 0.0), "constant")
        far = arb(2) ** 1100
        tails = arc.curve.tails(right, far)
        values = arc.curve.limits(right)
        if symmetry.is_periodic(arc.expression) and arc.expression.variables:
            return Limit(None, "periodic")
        if tails is not None:
            found = _growth(tails, values, right)
            if found is not None:
                return found
        value = values[0]
        if value.is_finite():
            interval = _interval(value)
            if interval.width <= 1e-12 * max(1.0, abs(interval.middle)):
                return Limit(interval, "constant")
            return Limit(None, "bounded")
        return Limit(_interval(value) if value.lo > 0 and value.lower == math.inf else None, "undecided")

    def saturation(self, eps: float) -> Saturation:
        """The outermost points where |f'| is not below eps."""
        if not (isinstance(eps, (int, float)) and eps > 0 and math.isfinite(eps)):
            raise ValueError(f"eps must be a finite number > 0, got {eps!r}")
        return Saturation(self._edge(float(eps), False), self._edge(float(eps), True))

    def _edge(self, eps: float, right: bool) -> Interval | None:
        outermost: Ball | None = None
        for arc in reversed(self.arcs) if right else self.arcs:
            with precision(PRECISION):
                above, below = arc.curve.stretches(1, eps), arc.curve.stretches(1, -eps)
            for stretches, small in ((above, -1), (below, 1)):
                edge = _outermost(stretches, small, right)
                if edge is None:
                    continue
                edge_at, certain = edge
                if not edge_at.is_finite():
                    return None if certain else Interval(-math.inf, math.inf, "undecided")
                if not certain:
                    return (
                        Interval(-math.inf, edge_at.upper, "undecided")
                        if right
                        else Interval(edge_at.lower, math.inf, "undecided")
                    )
                if outermost is None or (edge_at.lo > outermost.lo if right else edge_at.hi < outermost.hi):
                    outermost = edge_at
            if outermost is not None:
                return _interval(outermost)
        end = -math.inf if right else math.inf
        return Interval(end, end)


def _outermost(stretches: list[Stretch], small: int, right: bool) -> tuple[Ball, bool] | None:
    """The end of the outermost stretch whose sign is not `small`, and whether that is certain."""
    for s in reversed(stretches) if right else stretches:
        if s.sign != small:
            return (s.stop if right else s.start), s.sign is not None
    return None


def _extremum_interval(found: Any) -> Interval:
    return Interval(found.lower, found.upper, "proved" if found.decided else "undecided")


def _crosses(a: Stretch, b: Stretch) -> bool:
    return a.sign is not None and b.sign is not None and a.sign * b.sign < 0


def _changes(runs: list[_Run]) -> Places:
    """Where the sign changes between 1 and -1, also at breaks."""
    points = [
        _interval(b.start)
        for a, b in pairwise(runs)
        if a.sign is not None and b.sign is not None and a.sign * b.sign < 0
    ]
    return Places(tuple(points), (), all(r.sign is not None for r in runs))


def _merged(stretches: list[tuple[float, float]]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for low, high in sorted(stretches):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found


def _jump(gap: Expression, left: Expression, right: Expression, place: Place) -> Interval:
    """right - left at the place (gap is that difference): exact where it can be, by balls where these are apart.

    Where they still overlap at 290 digits the two are reported as equal, "computed".
    """
    if gap.is_constant and gap.value == 0:
        return Interval(0.0, 0.0)
    if isinstance(place, Fraction):
        exact = rational_value(gap, place)
        if exact is not None:
            return _interval(Ball(point(exact)))
    value = _one_sided(gap, place)
    if not value.is_finite():
        return _infinite_jump(_one_sided(left, place), _one_sided(right, place))
    if not value.may_contain(0) or (value.lo.is_zero() and value.hi.is_zero()):
        return _interval(value)
    with precision(_FINE):
        value = _one_sided(gap, place.narrowed() if isinstance(place, Root) else place)
    if not value.may_contain(0):
        return _interval(value)
    if value.lower >= -_TINY and value.upper <= _TINY:
        return Interval(0.0, 0.0, "computed")
    return _interval(value, "undecided")


def _infinite_jump(left: Ball, right: Ball) -> Interval:
    ends = [v.lower if v.lower == v.upper or v.is_finite() else math.nan for v in (left, right)]
    gap = ends[1] - ends[0]
    return Interval(-math.inf, math.inf, "undecided") if math.isnan(gap) else Interval(gap, gap)


def _one_sided(expression: Expression, place: Place) -> Ball:
    """The expression at a place, its limit where the formula is infinite there."""
    x = as_point(place)
    try:
        value = ball(expression.evaluate(x=x)) if expression.variables else ball(expression.evaluate(x=point(0)))
    except (ValueError, ZeroDivisionError):
        value = Ball(arb.neg_inf(), arb.pos_inf())
    if value.is_finite():
        return value
    try:
        return ball(expression.evaluate(x=Ball(x)))
    except (ValueError, ZeroDivisionError):
        return Ball(arb.neg_inf(), arb.pos_inf())


def _growth(tails: list[Tail], values: list[Ball], right: bool) -> Limit | None:
    """How f behaves at infinity, from its leading term there and, failing that, from its slope's."""
    f, slope = tails[0], tails[1]
    if f.order in (0, -1):
        value = values[0]
        interval = _interval(value)
        if interval.width <= 1e-12 * max(1.0, abs(interval.middle)):
            return Limit(interval, "constant")
    if f.order == 1:
        found = _named_growth(f, values[0], right)
        if found is not None:
            return found
    return _growth_by_slope(slope, right)


def _named_growth(f: Tail, value: Ball, right: bool) -> Limit | None:
    c, gauge = f.leading
    infinite = _interval(value)
    if gauge.rates:
        (rho, k), rate = gauge.rates[0]
        if rho > 0 or k > 1 or -rate >= 2**20:
            return Limit(infinite, "superexponential")
        if k == 1 and c.upper == math.inf:
            return Limit(infinite, "exponential")
        return Limit(infinite, "exponential", _interval(Ball(point(-rate)))) if k == 1 else Limit(infinite, "undecided")
    if gauge.power == 1:
        slope = _leading_coefficient(f) * (1 if right else -1)
        return Limit(infinite, "linear", _interval(slope))
    if c.upper == math.inf or gauge.power.denominator == 8:
        return None
    return Limit(infinite, "power", _interval(Ball(point(gauge.power))))


def _leading_coefficient(tail: Tail) -> Ball:
    """The limit of the function over its gauge: the first coefficient, where that is a number."""
    c, gauge = tail.leading
    return c * Ball(gauge.constant()) if tail.scale is None else tail.scale


def _growth_by_slope(slope: Tail, right: bool) -> Limit | None:
    """From f' ~ c X^q: the integral's growth."""
    if slope.sign not in (1, -1) or not slope.terms:
        return None
    c, gauge = slope.leading
    if gauge.rates or c.may_contain(0) or gauge.power < -1:
        return None
    end = math.inf if (slope.sign > 0) is right else -math.inf
    infinite = Interval(end, end)
    if gauge.power == -1:
        return Limit(infinite, "logarithmic")
    if gauge.power == 0:
        return Limit(infinite, "linear", _interval(_leading_coefficient(slope)))
    return Limit(infinite, "power", _interval(Ball(point(gauge.power + 1))))
