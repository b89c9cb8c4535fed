"""Where a function is convex and where it is concave, proved for the whole line: all that its lines rest on.

The line is cut into pieces on which f'' has one proved sign. Between two pieces lies a break: an inflection, a kink or
a jump, known to a narrow interval together with everything f takes there. Where balls decide no sign, a piece
knows the range of its slope instead. A function that oscillates for ever is cut on the region that is asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

from flint import arb

from varphi.facts.analysis import PRECISION, Analysis, Arc
from varphi.numbers import Expression, cache
from varphi.numbers.ball import Ball, ball, float_above, float_below, precision
from varphi.numbers.enclosure import Curve, Stretch
from varphi.numbers.pieces import Place, as_point

# Changes whenever the code could cut the line otherwise, so that older results on disk are not used.
_VERSION = 1
_MOST_PIECES = 8192
# An undecided stretch is cut into so many parts, each with its own range of slopes.
_PARTS = 16
# Where a kink is not a float64, the kernel may take the other formula this many steps away from it.
_STEPS = 4

Kind: TypeAlias = Literal["convex", "concave", "linear", "bounded"]
_KINDS: dict[int | None, Kind] = {1: "convex", -1: "concave", 0: "linear", None: "bounded"}


class Piece(NamedTuple):
    """An interval of the line on which f is smooth.

    Attributes:
        start, stop: its ends (±inf allowed), just inside the breaks.
        kind: "convex", "concave", "linear", or "bounded" where only the slope's range is known.
        least_slope, greatest_slope: that range, for a "bounded" piece; elsewhere -inf and inf.
    """

    start: float
    stop: float
    kind: Kind
    least_slope: float = -math.inf
    greatest_slope: float = math.inf


class Break(NamedTuple):
    """Where one piece ends and the next begins.

    Attributes:
        lower, upper: the break lies between them.
        bottom, top: f and its one-sided limits there are between these; infinite where f is unbounded or undefined.
    """

    lower: float
    upper: float
    bottom: float
    top: float


@dataclass(frozen=True)
class Curvature:
    """The pieces of a function from left to right, and the breaks between them.

    Attributes:
        pieces: at least one.
        breaks: one fewer than pieces.
        lower, upper: the part of the line that was cut. Beyond it f either oscillates for ever (then `of` can be asked
            for a wider part) or is not defined.
        domain: the ends of the interval outside of which f is not defined.
    """

    pieces: tuple[Piece, ...]
    breaks: tuple[Break, ...]
    lower: float
    upper: float
    domain: tuple[float, float]

    def covers(self, lower: float, upper: float) -> bool:
        return self.lower <= lower and upper <= self.upper


def curvature(expression: Expression, lower: float = -1.0, upper: float = 1.0) -> Curvature:
    """The proved pieces of an expression in x on an interval that contains [lower, upper]; the whole line if it can be.

    Kept on disk.

    Args:
        expression: the formula.
        lower, upper: finite; what must be covered.

    Raises:
        ValueError: where f is not defined on all of [lower, upper], or has more than 8192 pieces there.
        UndecidedPieces: where a condition in the formula cannot be decided.
    """
    found = _kept(expression, math.inf)
    _check_domain(expression, found, lower, upper)
    reach = 1.0
    while not found.covers(max(lower, found.domain[0]), min(upper, found.domain[1])):
        while reach < max(-lower, upper):
            reach *= 2
        found = _kept(expression, reach)
        reach *= 2
    return found


def _check_domain(expression: Expression, found: Curvature, lower: float, upper: float) -> None:
    if lower < found.domain[0] or upper > found.domain[1]:
        raise ValueError(
            f"{expression!r} is defined on [{found.domain[0]:g}, {found.domain[1]:g}] only, and [{lower:g}, {upper:g}] "
            "reaches beyond it"
        )


# ------------------------------------------------------------------------------------------------ on disk


@lru_cache(maxsize=1024)
def _kept(expression: Expression, reach: float) -> Curvature:
    name = hashlib.sha256(f"{expression.digest} {reach.hex()} {_VERSION}".encode()).hexdigest()[:40] + ".json"
    content = cache.read("curvature", name)
    if content is not None:
        return _decoded(json.loads(content))
    found = _cut(expression, reach)
    cache.write("curvature", name, json.dumps(_encoded(found)).encode())
    return found


def _encoded(found: Curvature) -> list[Any]:
    def plain(row: Sequence[Any]) -> list[Any]:
        return [v if isinstance(v, str) else v.hex() for v in row]

    rows = ([plain(p) for p in found.pieces], [plain(b) for b in found.breaks])
    return [*rows, plain((found.lower, found.upper, *found.domain))]


def _decoded(data: list[Any]) -> Curvature:
    def exact(row: list[str]) -> list[Any]:
        return [v if v in _KINDS.values() else float.fromhex(v) for v in row]

    lower, upper, first, last = exact(data[2])
    pieces, breaks = tuple(Piece(*exact(p)) for p in data[0]), tuple(Break(*exact(b)) for b in data[1])
    return Curvature(pieces, breaks, lower, upper, (first, last))


# ------------------------------------------------------------------------------------------------ cutting


@dataclass(frozen=True)
class _Part:
    """A stretch with the curve it was found on."""

    stretch: Stretch
    curve: Curve

    @property
    def kind(self) -> Kind:
        return _KINDS[self.stretch.sign]

    @property
    def start(self) -> arb:
        return self.stretch.start.hull()

    @property
    def stop(self) -> arb:
        return self.stretch.stop.hull()


def _cut(expression: Expression, reach: float) -> Curvature:
    """The pieces on [-reach, reach]; with an infinite reach, on the part of the line where there are finitely many."""
    end = reach if math.isinf(reach) else Fraction(reach)
    analysis = Analysis(expression, -end, end)
    with precision(PRECISION):
        parts = [part for arc in analysis.arcs for part in _parts(arc, math.isfinite(reach))]
        domain = _ends(analysis)
        lower, upper = -reach, reach
        if math.isinf(reach):
            parts, lower, upper = _without_open_ends(parts)
        if len(parts) > _MOST_PIECES:
            raise ValueError(f"{expression!r} changes between convex and concave more than {_MOST_PIECES} times there")
        pieces, breaks = _assembled(analysis, parts, lower, upper)
    return Curvature(pieces, breaks, max(lower, domain[0]), min(upper, domain[1]), domain)


def _parts(arc: Arc, patient: bool) -> Iterator[_Part]:
    budget, most = (10_000, _MOST_PIECES) if patient else (600, 64)
    for stretch in arc.curve.stretches(2, 0, budget, most):
        yield from _subdivided(_Part(stretch, arc.curve))


def _subdivided(part: _Part) -> Iterator[_Part]:
    """An undecided stretch in parts, so that the slope's range on each is narrow."""
    a, b = float(part.start.mid()), float(part.stop.mid())
    if part.stretch.sign is not None or not (math.isfinite(a) and math.isfinite(b) and b - a > 1e-9):
        yield part
        return
    cuts = [part.stretch.start, *(Ball(a + (b - a) * i / _PARTS) for i in range(1, _PARTS)), part.stretch.stop]
    for left, right in pairwise(cuts):
        yield _Part(Stretch(left, right, None), part.curve)


def _ends(analysis: Analysis) -> tuple[float, float]:
    first, last = as_point(analysis.arcs[0].lower), as_point(analysis.arcs[-1].upper)
    # Floats just inside.
    lower = float_above(first) if first.is_finite() and analysis.lower == -math.inf else -math.inf
    upper = float_below(last) if last.is_finite() and analysis.upper == math.inf else math.inf
    return lower, upper


def _without_open_ends(parts: list[_Part]) -> tuple[list[_Part], float, float]:
    """The parts between tails on which no sign is known."""
    lower, upper = -math.inf, math.inf
    if len(parts) > 1 and parts[0].kind == "bounded" and not parts[0].start.is_finite():
        lower, parts = float_above(parts[0].stop), parts[1:]
    if len(parts) > 1 and parts[-1].kind == "bounded" and not parts[-1].stop.is_finite():
        upper, parts = float_below(parts[-1].start), parts[:-1]
    open_left, open_right = not parts[0].start.is_finite(), not parts[-1].stop.is_finite()
    if len(parts) == 1 and parts[0].kind == "bounded" and (open_left or open_right):
        return parts, 0.0, 0.0
    return parts, lower, upper


def _assembled(
    analysis: Analysis, parts: list[_Part], lower: float, upper: float
) -> tuple[tuple[Piece, ...], tuple[Break, ...]]:
    breaks: list[Break] = []
    kept = [parts[0]]
    for left, right in pairwise(parts):
        here = _break(analysis, left, right)
        if breaks and here.lower <= _moved(breaks[-1].upper, 2):  # no float well inside the piece between
            before = breaks[-1]
            within = kept[-1].curve.over(arb(before.lower), arb(max(here.upper, before.upper)))[0]
            breaks[-1] = _hull(before, here, within)
            kept[-1] = right
            continue
        breaks.append(here)
        kept.append(right)
    starts = [max(lower, _above(kept[0].start)), *(b.upper for b in breaks)]
    stops = [*(b.lower for b in breaks), min(upper, _below(kept[-1].stop))]
    pieces = [_piece(part, start, stop) for part, start, stop in zip(kept, starts, stops, strict=True)]
    return tuple(pieces), tuple(breaks)


def _hull(a: Break, b: Break, within: Ball) -> Break:
    bottom = min(a.bottom, b.bottom, within.lower)
    return Break(min(a.lower, b.lower), max(a.upper, b.upper), bottom, max(a.top, b.top, within.upper))


def _above(x: arb) -> float:
    return float_above(x) if x.is_finite() else -math.inf


def _below(x: arb) -> float:
    return float_below(x) if x.is_finite() else math.inf


def _piece(part: _Part, start: float, stop: float) -> Piece:
    if part.kind != "bounded" or not math.isfinite(start) or not math.isfinite(stop):
        return Piece(start, stop, part.kind)
    slope = part.curve.over(arb(start), arb(stop))[1]
    return Piece(start, stop, "bounded", slope.lower, slope.upper)


def _break(analysis: Analysis, left: _Part, right: _Part) -> Break:
    """What lies between two neighbouring parts."""
    low, high = float_below(left.stop), float_above(right.start)
    same_curve = left.curve is right.curve
    if low < high and not same_curve:
        low, high = _moved(low, -_STEPS), _moved(high, _STEPS)
    values = [_near(left.curve, max(arb(low), left.start), left.stop)]
    values.append(_near(right.curve, right.start, min(arb(high), right.stop)))
    if not same_curve:
        values.append(_at_end(analysis, left, right))
    bottom, top = min(v.lower for v in values), max(v.upper for v in values)
    finite = math.isfinite(bottom) and math.isfinite(top)
    return Break(low, high, *((bottom, top) if finite else (-math.inf, math.inf)))


def _moved(x: float, steps: int) -> float:
    for _ in range(abs(steps)):
        x = math.nextafter(x, math.copysign(math.inf, steps))
    return x


def _near(curve: Curve, a: arb, b: arb) -> Ball:
    """f from a to b, which may be one point."""
    if a.is_exact() and b.is_exact() and a == b:
        return curve.at(a)[0]
    return curve.over(a.lower(), b.upper())[0]


def _at_end(analysis: Analysis, left: _Part, right: _Part) -> Ball:
    """The value at the place where two formulas meet; everything where they do not meet, or there is none."""
    place: Place | None = next((a.upper for a in analysis.arcs if a.curve is left.curve), None)
    other: Place | None = next((a.lower for a in analysis.arcs if a.curve is right.curve), None)
    if place is None or not (place is other or place == other):
        return Ball(arb.neg_inf(), arb.pos_inf())
    try:
        value = ball(analysis.expression.evaluate(x=as_point(place)))
    except (ValueError, ZeroDivisionError):
        # Which side a comparison takes at a place that is no float is open: its limits are what there is.
        return left.curve.at(left.curve.upper)[0]
    return value if value.is_finite() else Ball(arb.neg_inf(), arb.pos_inf())
