"""The units of membrane models: mV, ms, µA/cm², mS/cm², µF/cm², in which C·dV/dt = I needs no factors.

A plain number is taken in these. A text carries its own unit, is converted, and is refused where it measures something
else: "0.12 S/cm2" is 120 mS/cm², and no potential.
"""

from __future__ import annotations

import math
import re
from numbers import Real

CONDUCTANCE, POTENTIAL, CURRENT, CAPACITANCE, TIME, RATE = (
    "mS/cm²", "mV", "µA/cm²", "µF/cm²", "ms", "1/ms",
)  # fmt: skip
_MEASURES = {
    CONDUCTANCE: "conductance per area",
    POTENTIAL: "potential",
    CURRENT: "current per area",
    CAPACITANCE: "capacitance per area",
    TIME: "time",
    RATE: "rate",
}
_PREFIXES = {"p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}
_AREAS = {"cm2": 1.0, "mm2": 1e2, "m2": 1e-4, "um2": 1e8}


def _table() -> dict[str, tuple[str, float]]:
    """From a unit as written to what it measures and its size in the unit of this module."""
    table = {f"{p}V": (POTENTIAL, size / 1e-3) for p, size in _PREFIXES.items()}
    table |= {f"{p}s": (TIME, size / 1e-3) for p, size in _PREFIXES.items()}
    table |= {f"1/{p}s": (RATE, 1e-3 / size) for p, size in _PREFIXES.items()}
    for area, per in _AREAS.items():
        for letter, kind, own in (("S", CONDUCTANCE, 1e-3), ("A", CURRENT, 1e-6), ("F", CAPACITANCE, 1e-6)):
            table |= {f"{p}{letter}/{area}": (kind, size * per / own) for p, size in _PREFIXES.items()}
    return table


_UNITS = _table()
_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([^\d\s].*|1/.*)?\s*$")


def quantity(value: float | str, unit: str, name: str) -> float:
    """A number, or a text with a unit, in `unit`; any number where `unit` is empty.

    Args:
        value: 120, "120" or "0.12 S/cm2".
        unit: one of this module's.
        name: what it is, for errors.

    Raises:
        ValueError, TypeError: another kind of unit, an unknown one, no finite number.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        number, factor = float(value), 1.0
    elif isinstance(value, str):
        number, factor = _read(value, unit, name)
    else:
        raise TypeError(f"{name} is a number or a text such as '{_example(unit)}', got {value!r}")
    if not math.isfinite(number * factor):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return number * factor if factor != 1.0 else number


def _read(text: str, unit: str, name: str) -> tuple[float, float]:
    match = _QUANTITY.match(text)
    if match is None:
        raise ValueError(f"{name}: {text!r} is no number with a unit; write {_example(unit)!r}")
    given = (match[2] or "").strip()
    if not given:
        return float(match[1]), 1.0
    plain = _plain(given)
    if plain not in _UNITS:
        raise ValueError(f"{name}: the unit {given!r} in {text!r} is unknown; it is given in {unit or 'no unit'}")
    kind, factor = _UNITS[plain]
    if kind != unit:
        wanted = f"a {_MEASURES.get(unit, 'number')} in {unit}" if unit else "a number without unit"
        raise ValueError(f"{name}: {text!r} is a {_MEASURES[kind]}, and {wanted} is needed")
    return float(match[1]), factor


def as_written(unit: str) -> str:
    """A unit that a file gives, in this module's words where it is one of this module's; else as the file has it."""
    plain = _plain("1" + unit if unit.startswith("/") else unit)
    if plain in ("", "1"):
        return ""
    kind, factor = _UNITS.get(plain, ("", 0.0))
    return kind if factor == 1.0 else unit


def _plain(unit: str) -> str:
    return unit.replace("µ", "u").replace("μ", "u").replace("²", "2").replace("^", "").replace(" ", "")


def _example(unit: str) -> str:
    return f"1.5 {unit}".strip()
