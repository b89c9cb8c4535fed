"""Units of what a circuit is made of: concentrations and times, and what they multiply to.

A value is a number, already in the circuit's units, or a text such as "40 nM" or "0.1 1/min", which is converted. A
unit of another kind is refused: a decay rate given in nM is a mistake that no later step would notice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real

# Each unit by its kind and its size in mol/L, in molecules, or in seconds.
_PREFIXES = {"": 0, "m": -3, "u": -6, "µ": -6, "μ": -6, "n": -9, "p": -12, "f": -15}
UNITS: dict[str, tuple[str, Fraction]] = {
    **{f"{p}M": ("concentration", Fraction(10) ** e) for p, e in _PREFIXES.items()},
    **{name: ("molecules", Fraction(1)) for name in ("molecule", "molecules")},
    "s": ("time", Fraction(1)),
    "min": ("time", Fraction(60)),
    "h": ("time", Fraction(3600)),
    "d": ("time", Fraction(86400)),
}
_TEXT = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*$", flags=re.S)


@dataclass(frozen=True)
class Units:
    """The units that a circuit counts in.

    Attributes:
        amount: of its genes' products: a concentration ("nM"), "molecules", or "1" for multiples of something.
        time: "s", "min", "h", "d", or "1".

    Raises:
        ValueError: for an unknown unit.
    """

    amount: str = "1"
    time: str = "1"

    def __post_init__(self) -> None:
        for name, kinds in ((self.amount, ("concentration", "molecules")), (self.time, ("time",))):
            if name != "1" and (name not in UNITS or UNITS[name][0] not in kinds):
                known = [u for u, (kind, _) in UNITS.items() if kind in kinds]
                raise ValueError(f"{name!r} is no unit of {' or '.join(kinds)}; there are {', '.join(known)} and '1'")

    def of(self, amount: int, time: int) -> str:
        """The unit amount^a · time^b as a text: "nM/min"."""
        above = [
            f"{n}{p if p > 1 else ''}" for n, p in ((self.amount, amount), (self.time, time)) if p > 0 and n != "1"
        ]
        below = [
            f"{n}{-p if p < -1 else ''}" for n, p in ((self.amount, amount), (self.time, time)) if p < 0 and n != "1"
        ]
        head = "·".join(above) or "1"
        return head if not below else f"{head}/{'/'.join(below)}"

    def number(self, value: float | str, amount: int, time: int, what: str) -> float:
        """A value as a number in the unit amount^a · time^b.

        Args:
            value: a number, or a text of a number and a unit.
            what: what it is, for errors.

        Raises:
            ValueError: for a text that is none, or a unit of another kind.
            TypeError: for what is neither a number nor a text.
        """
        if isinstance(value, Real) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, str):
            raise TypeError(f"{what} is a number or a text with a unit, got {value!r}")
        found = _TEXT.match(value)
        if found is None:
            raise ValueError(f"{what} = {value!r} does not begin with a number")
        number, unit = float(found[1]), found[2]
        if not unit:
            return number
        wanted = self.of(amount, time)
        size = _size(unit, value, what)
        target = _size(wanted, wanted, what)
        if size[0] != target[0]:
            raise ValueError(
                f"{what} = {value!r} is a {_told(size[0])}, but a {_told(target[0])} is meant, in {wanted}"
            )
        return float(Fraction(number) * size[1] / target[1])


def _size(unit: str, value: str, what: str) -> tuple[dict[str, int], Fraction]:
    """The kinds that a unit multiplies, with their powers, and its size."""
    kinds: dict[str, int] = {}
    size = Fraction(1)
    for place, part in enumerate(unit.replace("*", "·").split("/")):
        for name in part.split("·"):
            found = re.fullmatch(r"\s*([A-Za-zµμ]+|1)\s*\^?(-?\d+)?\s*", name)
            if found is None or (found[1] != "1" and found[1] not in UNITS):
                raise ValueError(f"{what} = {value!r}: {name.strip()!r} is no unit; there are {', '.join(UNITS)}")
            if found[1] == "1":
                continue
            power = int(found[2] or 1) * (-1 if place else 1)
            kind, each = UNITS[found[1]]
            kinds[kind] = kinds.get(kind, 0) + power
            size *= each**power
    return {kind: power for kind, power in kinds.items() if power}, size


def _told(kinds: dict[str, int]) -> str:
    return (
        "·".join(f"{kind}^{power}" if power != 1 else kind for kind, power in sorted(kinds.items())) or "plain number"
    )
