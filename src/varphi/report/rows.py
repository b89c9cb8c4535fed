"""Facts as rows of a card: each with its value in the digits that are certain, a remark, and how it is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from .card import Row, Section
from .data import MEASURED
from .notation import certain, number

if TYPE_CHECKING:
    from varphi.facts.facts import Facts
    from varphi.facts.interval import Interval
    from varphi.facts.moments import Estimate, Moments
    from varphi.facts.results import Kink, Limit, Piece, Places, Range

# Where |f'| is below this, the card calls f saturated.
EPSILON = 0.01
_DERIVATIVES = ("f", "f′", "f″", "f‴", "f⁗")
_MOST = 5
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

Rows = Iterator[Row]


def sections(facts: Facts, *, gaussian: bool = True) -> list[Section]:
    """The facts of a card, in the order in which they are read; with `gaussian`, what follows under N(0, 1)."""
    groups = _PROVED | ({"Under x ~ N(0, 1)": (_gaussian,)} if gaussian else {})
    return [Section(title, [row for find in finders for row in find(facts)]) for title, finders in groups.items()]


def measured(facts: Facts) -> Section:
    """What takes seconds to measure: the accuracy of the kernels, and their time."""
    return Section("Measured", [*_accuracy(facts), *_cost(facts)])


# Values ---------------------------------------------------------------------------------------------------------------


def value(interval: Interval | Estimate, digits: int = 10) -> str:
    """An enclosed number in its certain digits."""
    return certain(interval.lower, interval.upper, digits)


def estimate(found: Estimate) -> str:
    """A number found by quadrature, in six digits or as many as its error leaves."""
    return "0" if abs(found.value) <= found.error else value(found, 6)


def span(bounds: Range, digits: int = 10) -> str:
    """A range as an interval; a round bracket where the end is infinite, not attained, or that is not known."""
    left = "[" if bounds.lower_attained else "("
    right = "]" if bounds.upper_attained else ")"
    return f"{left}{value(bounds.infimum, digits)}, {value(bounds.supremum, digits)}{right}"


def smoothness(facts: Facts) -> str:
    """ "C∞", "C¹", "jumps"."""
    k = facts.smoothness
    return "C∞" if math.isinf(k) else "jumps" if k < 0 else "C" + str(k).translate(_RAISED)


def _domain(facts: Facts) -> Rows:
    pieces = facts.domain
    if pieces != ((-math.inf, math.inf),):
        yield Row("defined", ", ".join(_stretch(*piece) for piece in pieces) or "nowhere")


def _range(facts: Facts) -> Rows:
    found = facts.range
    unknown = None in (found.lower_attained, found.upper_attained)
    yield Row("range", span(found), _attained(found), "undecided" if unknown else found.method)


def _attained(found: Range) -> str:
    """Which finite ends of a range are values, in words."""
    words = {True: "attained", False: "not attained", None: "attained or not: undecided"}
    ends = [
        (value(end, 6), attained)
        for end, attained in ((found.infimum, found.lower_attained), (found.supremum, found.upper_attained))
        if math.isfinite(end.middle)
    ]
    if len(ends) == 2 and ends[0][1] is ends[1][1]:
        return "neither end attained" if ends[0][1] is False else f"both ends {words[ends[0][1]]}"
    return ", ".join(f"{end} {words[attained]}" for end, attained in ends)


def _zeros(facts: Facts) -> Rows:
    yield _places("zeros", facts.zeros, "exactly 0 ")


def _fixed_points(facts: Facts) -> Rows:
    yield _places("fixed points", facts.fixed_points, "f(x) = x ")


def _places(label: str, places: Places, on_stretches: str = "") -> Row:
    stretches = [on_stretches + _stretch(*ends) for ends in places.stretches]
    points = [f"x = {_listed(places, places.infinite)}"] if len(places) else []
    text = ", ".join([*stretches, *points])
    if places.infinite:
        return Row(label, text, "infinitely many")
    if places.complete:
        return Row(label, text or "none")
    return Row(label, text or "undecided", "there may be others" if text else "", "undecided")


def _stretch(lower: float, upper: float) -> str:
    if math.isinf(lower) and math.isinf(upper):
        return "everywhere"
    if math.isinf(lower):
        return f"for x ≤ {number(upper)}"
    return f"for x ≥ {number(lower)}" if math.isinf(upper) else f"for {number(lower)} ≤ x ≤ {number(upper)}"


def _listed(points: Sequence[Interval], infinite: bool) -> str:
    """The points nearest to zero, from left to right, and how many there are."""
    nearest = sorted(sorted(points, key=lambda p: abs(p.middle))[:_MOST], key=lambda p: p.middle)
    more = ", …" if infinite else f", … ({len(points)} found)" if len(points) > _MOST else ""
    return ", ".join(value(p) for p in nearest) + more


# Slopes ---------------------------------------------------------------------------------------------------------------


def _lipschitz(facts: Facts) -> Rows:
    found = facts.lipschitz
    yield Row("Lipschitz", value(found), "sup |f′|" if math.isfinite(found.lower) else "no constant", found.method)


def _slope_range(facts: Facts) -> Rows:
    found = facts.slope_range
    yield Row("slopes", f"{value(found.infimum)} to {value(found.supremum)}", "inf and sup of f′", found.method)


def _derivative_bounds(facts: Facts) -> Rows:
    for k, bounds in enumerate(facts.derivative_bounds[2:], start=2):
        found = bounds.magnitude
        yield Row(f"sup |{_DERIVATIVES[k]}|", value(found), "", found.method)


def _saturation(facts: Facts) -> Rows:
    left, right = _inside(facts, *facts.saturation(EPSILON))
    label = f"|f′| < {EPSILON}"
    ends = [end for end in (left, right) if end is not None]
    if any(end.method == "undecided" for end in ends):
        yield Row(label, "undecided", method="undecided")
        return
    if left is not None and left.lower == math.inf:
        yield Row(label, "everywhere")
        return
    sides = [f"for x {sign} {value(end, 6)}" for sign, end in (("<", left), (">", right)) if end is not None]
    yield Row(label, " and ".join(sides) or "never", "saturated" if sides else "does not saturate")


def _inside(facts: Facts, left: Interval | None, right: Interval | None) -> tuple[Interval | None, Interval | None]:
    """The ends of saturation, but for those at the ends of the domain: nothing lies beyond them."""
    lower, upper = facts.domain[0][0], facts.domain[-1][1]
    return (
        None if left is not None and left.upper <= lower else left,
        None if right is not None and right.lower >= upper else right,
    )


# Shape ----------------------------------------------------------------------------------------------------------------


def _smoothness(facts: Facts) -> Rows:
    kinks = facts.kinks
    more = f", … ({len(kinks)} in all)" if len(kinks) > 3 else ""
    yield Row("smoothness", smoothness(facts), "; ".join(map(_kink, kinks[:3])) + more)


def _kink(kink: Kink) -> str:
    return f"{_DERIVATIVES[kink.order]} jumps by {value(kink.jump, 6)} at {value(kink.location, 6)}"


def _monotone(facts: Facts) -> Rows:
    found = facts.monotone
    words = {"neither": "not monotone"}.get(found, found)
    yield Row("monotone", words, method="undecided" if found == "undecided" else "proved")
    if found == "neither":
        yield _places("turning points", facts.turning_points)


def _convexity(facts: Facts) -> Rows:
    pieces = facts.convexity
    kinds = {piece.kind for piece in pieces}
    method = "undecided" if "undecided" in kinds else "proved"
    listed = ", ".join(map(_piece, pieces))
    overall = _overall(kinds, facts.kinks)
    if overall:
        yield Row("curvature", overall, listed if 1 < len(pieces) <= _MOST else "", method)
        return
    if facts.inflections.infinite:
        yield Row("curvature", "alternates", "convex and concave without end")
        yield _places("inflections", facts.inflections)
        return
    yield Row("curvature", listed if len(pieces) <= _MOST else f"{len(pieces)} stretches", method=method)
    yield _places("inflections", facts.inflections)


def _overall(kinds: set[str], kinks: Sequence[Kink]) -> str | None:
    """The one word for all of f, if there is one: pieces that agree, joined by bends that agree."""
    for word, bends in (
        ("linear", lambda k: False),
        ("convex", lambda k: k.jump.lower > 0),
        ("concave", lambda k: k.jump.upper < 0),
    ):
        joined = all(k.order > 1 or (k.order == 1 and bends(k)) for k in kinks)
        if joined and kinds <= {word, "linear"}:
            return word
    return None


def _piece(piece: Piece) -> str:
    if math.isinf(piece.lower.middle):
        return f"{piece.kind} to {value(piece.upper, 4)}"
    return piece.kind if math.isinf(piece.upper.middle) else f"{piece.kind} to {value(piece.upper, 4)}"


def _parity(facts: Facts) -> Rows:
    words = {"none": "neither odd nor even"}
    yield Row("parity", words.get(facts.parity, facts.parity), method=_decided(facts.parity))


def _decided(word: str) -> str:
    return "undecided" if word == "undecided" else "proved"


def _homogeneity(facts: Facts) -> Rows:
    degree = facts.homogeneity
    if degree is not None:
        power = "" if degree == 1 else str(degree).translate(_RAISED)
        yield Row("homogeneous", f"degree {degree}", f"f(λx) = λ{power} f(x) for λ > 0")


# Far away -------------------------------------------------------------------------------------------------------------


def _limits(facts: Facts) -> Rows:
    ends = facts.domain[0][0], facts.domain[-1][1]
    for end, limit in zip(ends, facts.limits, strict=True):
        found = "no limit" if limit.value is None else value(limit.value)
        yield Row(f"x → {number(end)}", found, _growth(limit) if math.isinf(end) else "", _decided(limit.growth))


def _growth(limit: Limit) -> str:
    rates = {"linear": "slope", "power": "exponent", "exponential": "rate"}
    rate = "" if limit.rate is None or limit.growth not in rates else f", {rates[limit.growth]} {value(limit.rate, 6)}"
    return "" if limit.growth == "constant" else limit.growth + rate


# Under a Gaussian -----------------------------------------------------------------------------------------------------


def _gaussian(facts: Facts) -> Rows:
    try:
        found = facts.moments()
    except ValueError as refusal:  # undefined on part of the line
        yield Row("moments", "none", str(refusal), "computed")
        return
    # Quadrature with an error estimate: six digits are more than anyone needs.
    yield Row(
        "E f, E f²",
        f"{estimate(found.mean)}, {estimate(found.mean_square)}",
        f"variance {number(found.variance)}",
        "computed",
    )
    yield Row(
        "E f′², E f″²",
        f"{estimate(found.slope_square)}, {estimate(found.curvature_square)}",
        _masses(found),
        "computed",
    )
    yield Row("gain", estimate(facts.gain), "1/√E f², for weights", "computed")
    yield from _mean_field(facts, found)


def _masses(found: Moments) -> str:
    return "without the mass at jumps" if found.jumps else "without the mass at kinks" if found.kinks else ""


def _mean_field(facts: Facts, m: Moments) -> Rows:
    from varphi.facts.moments import NoCriticalPoint, mean_field

    if m.jumps:
        yield Row("χ₁", "∞", "f jumps: small differences never stay small", "computed")
        return
    if m.mean_square.value > 0 and math.isfinite(m.mean_square.value + m.slope_square.value):
        chi = m.slope_square.value / m.mean_square.value
        regime = "order" if chi < 1 - 1e-9 else "chaos" if chi > 1 + 1e-9 else "the edge itself"
        yield Row("χ₁", number(chi), f"at that gain, no bias: {regime}", "computed")
    try:
        edge = mean_field(facts.activation).critical_at(1.0)
    except NoCriticalPoint:
        yield Row("edge of chaos", "none at q = 1", "no σ_w, σ_b give χ₁ = 1 there", "computed")
        return
    held = "stable" if edge.stable else "unstable"
    yield Row(
        "edge of chaos", f"σ_w = {number(edge.sigma_w)}, σ_b = {number(edge.sigma_b)}", f"at q = 1, {held}", "computed"
    )


# Measured -------------------------------------------------------------------------------------------------------------


def _accuracy(facts: Facts) -> Rows:
    import torch

    from varphi.facts.accuracy import accuracy

    for dtype, k in MEASURED:
        found = accuracy(facts.activation, getattr(torch, dtype), k)
        worst = f"at x = {number(found.x)}" + (f"; {number(found.mixed_ulps, 2)} mixed" if found.ulps > 100 else "")
        yield Row(f"{_DERIVATIVES[k]} in {dtype}", f"{number(found.ulps, 3)} ulp", worst, "measured")
        for fault in found.faults[:1]:
            more = f" and {len(found.faults) - 1} more like it" if len(found.faults) > 1 else ""
            yield Row("", fault + more, method="measured")


def _cost(facts: Facts) -> Rows:
    for row in facts.cost.rows:
        text = f"{row.forward.median:.2f} × a copy"
        size = f"2{str(row.size.bit_length() - 1).translate(_RAISED)}"
        yield Row(f"time at {size}", text, f"in training {row.training.median:.2f} ×", "measured")


_PROVED: dict[str, tuple[Callable[[Facts], Iterable[Row]], ...]] = {
    "Values": (_domain, _range, _zeros, _fixed_points),
    "Slopes": (_lipschitz, _slope_range, _derivative_bounds, _saturation),
    "Shape": (_smoothness, _monotone, _convexity, _parity, _homogeneity),
    "Limits": (_limits,),
}
