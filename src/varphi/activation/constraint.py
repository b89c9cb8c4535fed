"""What values a definition's parameter may take; written as its annotation: `beta: Positive = 1.0`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Constraint:
    """An interval of allowed values.

    Attributes:
        lower, upper: its ends.
        closed: whether the ends themselves are allowed.
        whole: whether only whole numbers are; such a parameter is part of the formula's shape, never learned.
    """

    lower: float = -math.inf
    upper: float = math.inf
    closed: bool = False
    whole: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a finite number"
        signs = (">=", "<=") if self.closed else (">", "<")
        bounds = [f"{s} {b:g}" for s, b in zip(signs, (self.lower, self.upper), strict=True) if math.isfinite(b)]
        return " ".join([kind, " and ".join(bounds)]).strip()

    def allows(self, value: float) -> bool:
        if not math.isfinite(value) or (self.whole and value != int(value)):
            return False
        inside = self.lower < value < self.upper
        return inside or (self.closed and self.lower <= value <= self.upper)

    def check(self, owner: str, name: str, value: Any) -> float | int:
        """`value` as a number, or an error that names the parameter, the value and what is allowed."""
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        except (TypeError, ValueError):
            raise TypeError(f"{owner}: {name} must be {self}, got {value!r}") from None
        if isinstance(value, bool) or not self.allows(number):
            raise ValueError(f"{owner}: {name} must be {self}, got {value!r}")
        return int(number) if self.whole else number


REAL = Constraint()
Real = Annotated[float, REAL]
Positive = Annotated[float, Constraint(lower=0.0)]
NonNegative = Annotated[float, Constraint(lower=0.0, closed=True)]
UnitInterval = Annotated[float, Constraint(lower=0.0, upper=1.0, closed=True)]
PositiveInteger = Annotated[int, Constraint(lower=1, closed=True, whole=True)]
