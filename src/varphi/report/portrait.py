"""From facts to what shows them: the card for the terminal, and the figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .card import Card, formula, parameters
from .curves import curves, window
from .rows import EPSILON, measured, sections, value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from varphi.facts.facts import Facts


def card(facts: Facts, *, gaussian: bool = True, measure: bool = False) -> Card:
    """The card of an activation; with `measure`, the measured facts too, which takes a while."""
    found = [*sections(facts, gaussian=gaussian), *([measured(facts)] if measure else [])]
    return Card(
        facts.activation, found, (curves(facts.activation, 1), *shown(facts)), (breaks(facts, 0), breaks(facts, 1))
    )


def shown(facts: Facts) -> tuple[float, float]:
    """The window in which the graph is drawn: the facts' own interval, else one that holds the features of f."""
    lower, upper = facts.domain[0][0], facts.domain[-1][1]
    if math.isfinite(lower) and math.isfinite(upper):
        return lower, upper
    low, high = window(_features(facts))
    low = max(low, lower)
    high = min(high, upper)
    return (low, high) if low < high else (lower, lower + 8) if math.isfinite(lower) else (upper - 8, upper)


def _features(facts: Facts) -> list[float]:
    places = [*(kink.location for kink in facts.kinks), *facts.turning_points, *facts.inflections]
    features = [place.middle for place in places]
    if any(features):
        return features
    # Where nothing bends visibly, the scale on which f levels off: millivolts, or a steep step.
    ends = [end.middle for end in facts.saturation(EPSILON) if end is not None and end.method != "undecided"]
    scale = max((abs(end) for end in ends if math.isfinite(end)), default=1.0)
    return features if 0.4 < scale < 10 else [*features, 0.0, *ends]


def breaks(facts: Facts, k: int) -> tuple[float, ...]:
    """Where f^(k) jumps."""
    return tuple(kink.location.middle for kink in facts.kinks if kink.order <= k)


def portrait(facts: Facts) -> Figure:
    """f, f' and f'' with range, slopes, kinks and saturation marked."""
    from . import figure

    activation = facts.activation
    left, right = facts.saturation(EPSILON)
    ends = ((facts.range.infimum, facts.range.lower_attained), (facts.range.supremum, facts.range.upper_attained))
    words = {True: "", False: ", not attained", None: ", attained?"}
    marks = figure.Marks(
        kinks=[kink.location.middle for kink in facts.kinks if kink.order <= 2],
        jumps=(breaks(facts, 0), breaks(facts, 1), breaks(facts, 2)),
        levels=[(end.middle, value(end, 6) + words[attained]) for end, attained in ends],
        saturated=(left.middle if left else None, right.middle if right else None),
        slopes=[(end.middle, value(end, 6)) for end in (facts.slope_range.infimum, facts.slope_range.supremum)],
    )
    title = f"{facts.name}   f(x) = {formula(activation)}"
    values = parameters(activation)
    return figure.portrait(activation, f"{title}   {values}" if values else title, *shown(facts), marks)
