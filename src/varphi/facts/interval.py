"""A number that is known to lie between two floats, and how it is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Method: TypeAlias = Literal["proved", "computed", "measured", "undecided"]
# From the strongest to the weakest: what is derived from several facts is as good as the weakest of them.
_STRENGTH: tuple[Method, ...] = ("proved", "computed", "measured", "undecided")


@dataclass(frozen=True)
class Interval:
    """A number between two float64 (±inf allowed).

    Attributes:
        lower, upper: the ends. With method "proved" the number lies between them for certain, rounding included.
        method: "proved" (by ball arithmetic or exact arithmetic), "computed" (numerically, to high precision, without
            proof), "measured" (on this machine or by sampling), or "undecided": the number certainly lies between the
            ends, but these are further apart than asked for.
    """

    lower: float
    upper: float
    method: Method = "proved"

    def __post_init__(self) -> None:
        # -0.0 as an end reads as if it meant something.
        object.__setattr__(self, "lower", float(self.lower) + 0.0)
        object.__setattr__(self, "upper", float(self.upper) + 0.0)

    @property
    def width(self) -> float:
        return 0.0 if self.lower == self.upper else self.upper - self.lower

    @property
    def middle(self) -> float:
        """One float that stands for the number."""
        if self.lower == self.upper:
            return self.lower
        if math.isinf(self.lower) or math.isinf(self.upper):
            return self.upper if math.isinf(self.lower) and not math.isinf(self.upper) else self.lower
        return self.lower / 2 + self.upper / 2

    def __contains__(self, value: Any) -> bool:
        return self.lower <= value <= self.upper

    def __abs__(self) -> Interval:
        if self.lower >= 0:
            return self
        if self.upper <= 0:
            return -self
        return Interval(0.0, max(-self.lower, self.upper), self.method)

    def __neg__(self) -> Interval:
        return Interval(-self.upper, -self.lower, self.method)

    def __str__(self) -> str:
        text = _digits(self.lower, self.upper)
        return text if self.method == "proved" else f"{text} ({self.method})"

    def __repr__(self) -> str:
        return f"Interval({self.lower!r}, {self.upper!r}, {self.method!r})"


def _digits(lower: float, upper: float) -> str:
    """The digits that both ends share, at most 15; both ends where they share few."""
    if lower == upper:
        return f"{lower:.15g}"
    for n in range(15, 5, -1):
        if f"{lower:.{n}g}" == f"{upper:.{n}g}":
            return f"{lower:.{n}g}"
    return f"[{lower:.6g}, {upper:.6g}]"


def weakest(*methods: Method) -> Method:
    """The method of what follows from facts known by these."""
    for method in reversed(_STRENGTH):
        if method in methods:
            return method
    return "proved"


def highest(intervals: list[Interval]) -> Interval:
    """The largest of several numbers."""
    top = Interval(max(i.lower for i in intervals), max(i.upper for i in intervals))
    # A number that is certainly smaller does not matter, however little is known about it.
    methods: list[Method] = [i.method for i in intervals if i.upper >= top.lower]
    return Interval(top.lower, top.upper, weakest(*methods))


def lowest(intervals: list[Interval]) -> Interval:
    """The smallest of several numbers."""
    return -highest([-i for i in intervals])
