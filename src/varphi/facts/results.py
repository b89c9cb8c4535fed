"""What facts are made of, and how they are written to JSON and back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

from .interval import Interval, Method, highest


@dataclass(frozen=True)
class Bounds:
    """inf and sup of a function.

    Attributes:
        infimum, supremum: each enclosed.
    """

    infimum: Interval
    supremum: Interval

    @property
    def lower(self) -> float:
        """A float below every value."""
        return self.infimum.lower

    @property
    def upper(self) -> float:
        """A float above every value."""
        return self.supremum.upper

    @property
    def magnitude(self) -> Interval:
        """sup |f|."""
        return highest([abs_upper for abs_upper in (-self.infimum, self.supremum, Interval(0.0, 0.0))])

    @property
    def width(self) -> float:
        return self.upper - self.lower

    @property
    def method(self) -> Method:
        return _weaker(self.infimum.method, self.supremum.method)

    def __contains__(self, value: Any) -> bool:
        return self.lower <= value <= self.upper

    def __str__(self) -> str:
        return f"[{self.infimum}, {self.supremum}]"


def _weaker(a: Method, b: Method) -> Method:
    from .interval import weakest

    return weakest(a, b)


@dataclass(frozen=True)
class Range(Bounds):
    """The values of a function.

    Attributes:
        lower_attained, upper_attained: whether inf and sup are values; None where undecided.
        zero_stretches: the intervals on which the function is exactly 0.
    """

    lower_attained: bool | None = None
    upper_attained: bool | None = None
    zero_stretches: tuple[tuple[float, float], ...] = ()

    @property
    def has_exact_zeros(self) -> bool:
        """Whether the function is exactly 0 on an interval."""
        return bool(self.zero_stretches)

    def __str__(self) -> str:
        left = "[" if self.lower_attained else "("
        right = "]" if self.upper_attained else ")"
        return f"{left}{self.infimum}, {self.supremum}{right}"


class Kink(NamedTuple):
    """Where a derivative jumps.

    Attributes:
        location: where.
        order: the lowest derivative that jumps; 0: the function itself.
        jump: its limit from the right less that from the left; infinite or undecided where one side has none.
    """

    location: Interval
    order: int
    jump: Interval


@dataclass(frozen=True)
class Places(Sequence[Interval]):
    """Points on the line, from left to right, each enclosed.

    Attributes:
        points: the isolated ones.
        stretches: intervals all of whose points belong.
        complete: whether there are certainly no others; False where some part of the line is undecided, as where
            there are infinitely many.
        infinite: whether there certainly are infinitely many, of which those nearest to 0 are listed.
    """

    points: tuple[Interval, ...] = ()
    stretches: tuple[tuple[float, float], ...] = ()
    complete: bool = True
    infinite: bool = False

    @overload
    def __getitem__(self, index: int) -> Interval: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Interval, ...]: ...
    def __getitem__(self, index: Any) -> Any:
        return self.points[index]

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[Interval]:
        return iter(self.points)


class Piece(NamedTuple):
    """A stretch of the line and what the function is there ("convex", "concave", "linear", "periodic", "undecided")."""

    lower: Interval
    upper: Interval
    kind: str


@dataclass(frozen=True)
class Limit:
    """What a function does towards one end of the line.

    Attributes:
        value: its limit (±inf allowed); None where there is none, or none was proved.
        growth: "constant", "linear", "power", "logarithmic", "exponential", "superexponential", "periodic",
            "bounded" or "undecided".
        rate: the slope of linear growth, the exponent of power growth, the rate of exponential growth; else None.
    """

    value: Interval | None
    growth: str
    rate: Interval | None = None

    def __str__(self) -> str:
        value = "no limit" if self.value is None else str(self.value)
        return f"{value} ({self.growth}{'' if self.rate is None else f' {self.rate}'})"


class Limits(NamedTuple):
    """The behaviour at -inf and at +inf (or at the ends of the domain)."""

    left: Limit
    right: Limit


class Saturation(NamedTuple):
    """Beyond these points |f'| stays below eps; None: it does not on that side."""

    left: Interval | None
    right: Interval | None


_KINDS: dict[str, type] = {
    c.__name__: c for c in (Interval, Bounds, Range, Kink, Places, Piece, Limit, Limits, Saturation)
}


def encode(value: Any) -> Any:
    """A result as JSON-ready data that `decode` restores exactly (floats as hexadecimal)."""
    if isinstance(value, float):
        return {"f": value.hex()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"t": type(value).__name__, "v": [encode(v) for v in value]}
    if dataclasses.is_dataclass(value):
        return {"t": type(value).__name__, "v": [encode(getattr(value, f.name)) for f in dataclasses.fields(value)]}
    if isinstance(value, (list, tuple)):
        return [encode(v) for v in value]
    return value


def decode(data: Any) -> Any:
    """The result that `encode` has written."""
    if isinstance(data, list):
        return tuple(decode(v) for v in data)
    if isinstance(data, dict) and "f" in data:
        return float.fromhex(data["f"])
    if isinstance(data, dict):
        return _KINDS[data["t"]](*[decode(v) for v in data["v"]])
    return data


def readable(value: Any) -> Any:
    """A result as plain JSON data: numbers, and "inf" and "-inf" as strings."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: readable(item) for name, item in value._asdict().items()}  # pyright: ignore[reportAttributeAccessIssue]
    if dataclasses.is_dataclass(value):
        return {f.name: readable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [readable(v) for v in value]
    return value
