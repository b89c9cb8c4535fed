"""What a figure of an activation shows: f and its derivatives, over a window that holds their features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache

from varphi.activation.layer import Activation
from varphi.numbers import evaluate

Curve = Callable[[float], float]
# With more features than this (a periodic function has no end of them), those in the middle are shown.
_MOST = 7


def curves(activation: Activation, order: int) -> list[Curve]:
    """f, f', ..., f^(order) as functions of a float, with the activation's parameters at their present values."""
    values = activation.numbers()
    tower = activation.definition.formula(values).tower(order)

    def at(expression: object) -> Curve:
        return cache(lambda x: float(evaluate([expression], {**values, "x": x})[0]))  # type: ignore[list-item]

    return [at(expression) for expression in tower]


def window(features: Iterable[float], *, least: float = 4.0) -> tuple[float, float]:
    """An interval that holds every feature (kinks, turning points, inflections) with room on both sides.

    Features near zero get the usual window [-least, least]; those of a function of, say, millivolts get their own.
    Features so far out that the rest could not be seen beside them are left out, and so are all but a few of many.
    """
    found = sorted(x for x in features if math.isfinite(x))
    middle = found[len(found) // 2] if found else 0.0
    near = sorted(sorted(found, key=lambda x: abs(x - middle))[:_MOST])
    near = [x for x in near if abs(x - middle) <= 200 * max(1.0, abs(middle))] or [0.0]
    reach = max(abs(near[0]), abs(near[-1]))
    if reach == 0 or 0.1 * least <= reach <= 0.75 * least:
        return -least, least
    room = max(near[-1] - near[0], 0.5 * reach)
    return _nice(near[0] - room, math.floor), _nice(near[-1] + room, math.ceil)


def _nice(bound: float, round_to: Callable[[float], int]) -> float:
    unit = 10.0 ** math.floor(math.log10(max(abs(bound), 1e-300))) / 2
    return round_to(bound / unit) * unit
