"""All zeros of a function on an interval, with proof: rigorous Taylor series, bisection and the interval Newton method.

A cell on which the function's enclosure avoids 0 has no zero. Where its slope's does, the function is monotone, and the
signs at the two ends tell whether there is one zero or none; Newton's steps then enclose it as tightly as the precision
allows. Every other cell is halved. What remains at the smallest width (a multiple zero, two zeros very near each other)
is reported as undecided, never dropped: zeros and undecided stretches together hold every zero there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flint import arb, arb_series, ctx

from .ball import OutsideDomain
from .series import NotAnalytic, around, bounds, coefficients

# From the variable on an interval to the series of the function there.
Function = Callable[[arb_series], arb_series]
# A cell is halved at a point where no zero is expected to lie exactly.
_CUT = 0.5078125
_TERMS = 8


@dataclass(frozen=True)
class Zeros:
    """What `zeros` found.

    Attributes:
        simple: balls around simple zeros, each proved to hold exactly one, from left to right.
        undecided: stretches (low, high) in which zeros may lie besides.
    """

    simple: tuple[arb, ...]
    undecided: tuple[tuple[float, float], ...]


def zeros(
    function: Function,
    low: float,
    high: float,
    *,
    cells: int = 60,
    narrowest: float = 1e-7,
    budget: int = 3000,
    terms: int = _TERMS,
) -> Zeros:
    """All zeros of an analytic function on [low, high].

    Args:
        function: evaluates the series of the function from that of its variable; may raise NotAnalytic.
        cells: into how many cells the interval is cut at first.
        narrowest: the width, relative to the interval's, below which a cell is not halved any more.
        budget: how many cells may be looked at.
        terms: of the series.
    """
    search = _Search(function, terms)
    width = (high - low) / cells
    edges = [low, *(low + width * (i + _CUT - 0.5) for i in range(1, cells)), high]
    stack = [(edges[i], edges[i + 1]) for i in reversed(range(cells))]
    simple: list[arb] = []
    undecided: list[tuple[float, float]] = []
    for _ in range(budget):
        if not stack:
            break
        a, b = stack.pop()
        value, slope = search.enclosure(a, b)
        if value is not None and not value.contains(0):
            continue
        if slope is not None and not slope.contains(0):
            first, last = search.sign(a), search.sign(b)
            if first and first == last:
                continue
            if first and last:
                simple.append(search.newton(a, b))
                continue
        if b - a <= narrowest * (high - low):
            undecided.append((a, b))
            continue
        middle = a + _CUT * (b - a)
        stack += [(middle, b), (a, middle)]
    undecided += reversed(stack)
    return Zeros(tuple(sorted(simple, key=lambda r: float(r.mid()))), tuple(_joined(sorted(undecided))))


def _joined(stretches: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for a, b in stretches:
        if found and a <= found[-1][1]:
            found[-1] = (found[-1][0], b)
        else:
            found.append((a, b))
    return found


class _Search:
    def __init__(self, function: Function, terms: int) -> None:
        self.function, self.terms = function, terms
        self._signs: dict[float, int] = {}

    def series(self, x: Any, radius: Any, terms: int) -> list[arb] | None:
        """Taylor coefficients; None where there are none."""
        before = ctx.cap
        ctx.cap = terms
        try:
            found = coefficients(self.function(around(x, radius, terms)), terms)
        except (NotAnalytic, OutsideDomain, ZeroDivisionError):
            return None
        finally:
            ctx.cap = before
        return found if all(c.is_finite() for c in found) else None

    def enclosure(self, a: float, b: float) -> tuple[arb | None, arb | None]:
        """The function and its slope on [a, b]."""
        middle, radius = _middle(arb(a), arb(b))
        outer = self.series(middle, radius, self.terms)
        if outer is None:
            return None, None
        if not outer[0].contains(0):
            return outer[0], outer[1]
        inner = self.series(middle, 0, self.terms)
        if inner is None:
            return outer[0], outer[1]
        value, slope = bounds(inner, outer, radius, 1)
        return value, slope

    def sign(self, x: float) -> int:
        """The sign at a point; 0 where it is not decided."""
        if x not in self._signs:
            found = self.series(x, 0, 2)
            value = arb(0) if found is None else found[0]
            self._signs[x] = 1 if value > 0 else -1 if value < 0 else 0
        return self._signs[x]

    def newton(self, a: float, b: float) -> arb:
        """A ball around the one zero of a monotone function between a and b."""
        low, high = arb(a), arb(b)
        for _ in range(60):
            middle, radius = _middle(low, high)
            outer, inner = self.series(middle, radius, 6), self.series(middle, 0, 6)
            if outer is None or inner is None:
                break
            slope = bounds(inner, outer, radius, 1)[1]
            if slope.contains(0):  # known not to vanish: halve instead
                below = (inner[0] > 0) != (self.sign(a) > 0)
                low, high = (low, middle) if below else (middle, high)
                continue
            nearer = middle - inner[0] / slope
            left, right = arb(nearer.lower()), arb(nearer.upper())
            left, right = (left if left > low else low), (right if right < high else high)
            if not (right - left) < 0.7 * (high - low):
                low, high = left, right
                break
            low, high = left, right
        return low.union(high)


def _middle(low: arb, high: arb) -> tuple[arb, arb]:
    """The (exact) middle of an interval and a radius that reaches both ends."""
    middle = arb(((low + high) / 2).mid())
    return middle, arb(arb.max(high - middle, middle - low).upper())
