"""Models from SBML, the format of systems biology, their Hill functions recognised. (`writing` writes circuits.)"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from varphi.dynamics.sbml import SbmlModel, read_sbml
from varphi.dynamics.system import System

from .laws import recognised
from .model import Model, Process
from .units import UNITS, Units


def from_sbml(source: str | Path) -> Model:
    """A model from SBML.

    Args:
        source: a file, or the SBML text itself.

    Raises:
        ImportError: the package python-libsbml is missing.
        FileNotFoundError: no such file.
        ValueError: what is no SBML.
        UnsupportedModel: a model with something that is not supported, by name.
    """
    found = read_sbml(source)
    species = frozenset(found.species)
    rates = {name: recognised(rate, species) for name, rate in found.rates.items()}
    laws = [recognised(reaction.law, species) for reaction in found.reactions]
    return Model(
        name=found.name,
        equations=System.of({n: rate for n, (rate, _, _) in rates.items()}, found.parameters, units=found.units),
        start=found.start,
        derived=found.derived,
        processes=tuple(
            Process(r.name, law, r.change, r.reversible, hills, repr(r.law))
            for r, (law, hills, _) in zip(found.reactions, laws, strict=True)
        ),
        sizes=found.sizes,
        species=found.species,
        happenings=found.happenings,
        competing=tuple(dict.fromkeys(group for _, _, groups in (*rates.values(), *laws) for group in groups)),
        compartments=found.compartments,
        spaces=found.spaces,
        concentrations=found.concentrations,
        known_units=_units(found),
        text=found.text,
    )


def _units(found: SbmlModel) -> Units:
    """Amounts of the species and time, where they are a circuit's units."""
    amounts = {_amount(found.dimensions.get(n, {}) if n in found.concentrations else {}) for n in found.species}
    return Units(amounts.pop() if len(amounts) == 1 else "1", _time(found.dimensions.get("t", {})))


def _amount(parts: Mapping[str, tuple[int, float]]) -> str:
    if set(parts) == {"mole", "metre"} and parts["mole"][0] == 1 and parts["metre"][0] == -3:
        return _named("concentration", parts["mole"][1] * parts["metre"][1] / 1000)  # moles in a litre
    return "molecules" if set(parts) <= {"item", "metre"} and parts.get("item") == (1, 1.0) else "1"


def _time(parts: Mapping[str, tuple[int, float]]) -> str:
    if set(parts) != {"second"} or parts["second"][0] != 1:
        return "1"
    return _named("time", parts["second"][1])


def _named(kind: str, size: float) -> str:
    """The unit of a kind and size; "1" where there is none."""
    return next((n for n, (own, s) in UNITS.items() if own == kind and math.isclose(size, float(s))), "1")
