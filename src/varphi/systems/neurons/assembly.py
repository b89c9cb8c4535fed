"""A membrane put together from equations that a file gave: what SBML and NMODL have in common once they are read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from varphi.dynamics.mathml import UnsupportedModel as UnsupportedModel
from varphi.numbers import Expression, variable
from varphi.numbers.expression import constant

from .gates import VOLTAGE, Gate, Kinetics, steady
from .model import APPLIED, Current, Model
from .recognise import conductance, is_line, joined, kinetics, open_fraction, product, replaced, stable, terms

Range = tuple[float, float] | None
_FRACTION: Range = (0.0, 1.0)
_REVERSAL = re.compile(r"[eEvV]_?(?:rev)?_?(?P<name>\w+?)")
_LARGEST = re.compile(r"[gG]_?(?P<name>\w+?)_?(?:bar|max)?")
_TAKEN = (VOLTAGE, APPLIED, "C", "t")


@dataclass(frozen=True)
class Equations:
    """What a file says of a membrane.

    Attributes:
        currents: each current, outward positive in µA/cm², with the name that the file has for it, or none.
        rates: the rate of change of each gate, 1/ms.
        values: every other number.
        units: of those whose unit is known; see `Model.parameter_units`.
        C: capacitance, µF/cm².
        name, source, notes: as of `Model`.
        ranges: what a gate's steady state lies in, where that is not 0 to 1.
        window, dimensionless: as of `Model`.
        extra: currents that the file does not know.
    """

    currents: Iterable[tuple[str | None, Expression]]
    rates: Mapping[str, Expression]
    values: Mapping[str, float]
    C: float
    name: str
    source: str
    notes: str = ""
    ranges: Mapping[str, Range] = field(default_factory=dict)
    window: tuple[float, float] | None = None
    dimensionless: bool = False
    extra: tuple[Current, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)


def assembled(given: Equations) -> Model:
    """The membrane.

    Conductances become `gX`, reversal potentials `EX`, as everywhere in varphi; other numbers keep their names.

    Raises:
        ValueError: a variable that is no gate, a number without a value, or what `Model` refuses.
    """
    return _Assembly(given).model()


class _Assembly:
    def __init__(self, given: Equations) -> None:
        self.given = given
        self.values = dict(given.values)
        self.gates = {name: self.gate(name, rate) for name, rate in given.rates.items()}
        odd = sorted(set(given.ranges) - set(given.rates))
        if odd:
            raise ValueError(f"ranges names {odd[0]!r}, which is no gate; there are {', '.join(given.rates) or 'none'}")
        self.currents: list[Current] = []
        self.renamed: list[str] = []

    def model(self) -> Model:
        for label, flow in self.given.currents:
            for sign, term in terms(stable(flow, self.values)):
                self.currents.append(self.current(label, term if sign > 0 else constant(-term)))
        self.currents += self.given.extra
        used = self.used()
        flat = {letter + c.name for c in self.currents if c.formula is None for letter in "gE"} | set(_TAKEN)
        # A number that is both a reversal potential and part of a gate: two numbers that may then differ.
        apart = {name: _fresh(name, flat | set(self.values)) for name in sorted(used & flat)}
        if apart:
            self.rename(apart)
            self.renamed += [f"{name} in formulas is {new}" for name, new in apart.items()]
        notes = [self.given.notes, "; ".join(self.renamed)]
        return Model(
            currents=self.currents,
            C=self.given.C,
            parameters={apart.get(n, n): self.values[n] for n in sorted(used)},
            parameter_units={apart.get(n, n): u for n, u in self.given.units.items() if n in used},
            name=self.given.name,
            source=self.given.source,
            window=self.given.window,
            dimensionless=self.given.dimensionless,
            notes=" ".join(f"{n}." for n in notes if n),
        )

    # Gates ----------------------------------------------------------------------------------------------------------

    def gate(self, name: str, rate: Expression) -> Gate:
        odd = rate.variables - {VOLTAGE, name, *self.values}
        if odd:
            raise UnsupportedModel(
                f"{name}' depends on {min(odd)!r}: a gate follows V and itself alone, and numbers that are given"
            )
        return Gate(name, kinetics(stable(rate, self.values), name), range=self.given.ranges.get(name, _FRACTION))

    def with_power(self, name: str, power: int) -> Gate:
        gate = self.gates[name]
        return Gate(name, gate.kinetics, power, gate.instantaneous, gate.range)

    # Currents -------------------------------------------------------------------------------------------------------

    def current(self, label: str | None, term: Expression) -> Current:
        odd = term.variables - {VOLTAGE, *self.gates, *self.values}
        if odd:
            raise UnsupportedModel(f"the current {label or repr(term)} depends on {min(odd)!r}, which has no value")
        rest, instant = self.instantaneous(term)
        found = conductance(rest, self.gates)
        if found is None or self.number(found.g) < 0:
            gates = [self.with_power(n, 1) for n in self.gates if n in term.variables]
            return Current(self.free(label or "X"), gates=gates, formula=term)
        name = self.free(label or self.label(found.g, found.E))
        for letter, e in (("g", found.g), ("E", found.E)):
            if e.variables and repr(e) != letter + name:
                self.renamed.append(f"{letter}{name} is {e!r}")
        gates = [self.with_power(n, power) for n, power in found.powers.items()]
        for how, power in instant:
            own = self.free_gate(f"{'m' if name == 'X' else 'm' + name}")
            gates.append(Gate(own, how, power, instantaneous=True))
            self.gates[own] = gates[-1]
        return Current(name, self.number(found.g), self.number(found.E), gates)

    def instantaneous(self, term: Expression) -> tuple[Expression, list[tuple[Kinetics, int]]]:
        """The term without what is an open fraction at every V, and that as kinetics with powers."""
        factors = product(term)
        shapes = {
            b: n for b, n in factors.items()
            if VOLTAGE in b.variables and not b.variables & set(self.gates) and not (n == 1 and is_line(b))
        }  # fmt: skip
        single = {b: n for b, n in shapes.items() if n > 0 and self.is_fraction(b)}
        others = {b: n for b, n in shapes.items() if b not in single}
        found = [(steady(b), n) for b, n in single.items()]
        if others:
            power = math.gcd(*others.values())
            root = {b: n // power for b, n in others.items()}
            # The numbers among the factors belong to the root where it is α/(α + β).
            if not self.is_fraction(joined(root)):
                others = {}
            else:
                found.append((open_fraction(root), power))
        gone = {*single, *others}
        return joined({b: n for b, n in factors.items() if b not in gone}), found

    def is_fraction(self, e: Expression) -> bool:
        low, high = self.given.window or (-100.0, 60.0)
        shape = np.array([float(e.evaluate(**self.only(e, v))) for v in np.linspace(low, high, 61).tolist()])
        return bool(((shape >= 0) & (shape <= 1)).all())

    def label(self, g: Expression, E: Expression) -> str:
        for e, form in ((E, _REVERSAL), (g, _LARGEST)):
            match = form.fullmatch(e.arguments[0]) if e.operation == "variable" else None
            if match is not None:
                return match["name"]
        return "X"

    def free(self, name: str) -> str:
        taken = {c.name for c in self.currents}
        return name if name not in taken else next(f"{name}{k}" for k in range(2, 1000) if f"{name}{k}" not in taken)

    def free_gate(self, name: str) -> str:
        return _fresh(name, {*self.gates, *self.values, *_TAKEN})

    def number(self, e: Expression) -> float:
        return float(e.evaluate(**self.only(e, 0.0)))

    def only(self, e: Expression, v: float) -> dict[str, float]:
        return {n: v if n == VOLTAGE else self.values[n] for n in e.variables}

    # Names ----------------------------------------------------------------------------------------------------------

    def used(self) -> set[str]:
        """The numbers that stand in formulas of gates and of currents."""
        inside: set[str] = set()
        for current in self.currents:
            if isinstance(current.formula, Expression):
                inside |= current.formula.variables
            for gate in current.gates:
                for part in _formulas(gate.kinetics):
                    inside |= part.variables
        return inside & set(self.values)

    def rename(self, names: Mapping[str, str]) -> None:
        new = {old: variable(name) for old, name in names.items()}

        def renamed(e: Any) -> Any:
            return replaced(e, new) if isinstance(e, Expression) else e

        def gate(g: Gate) -> Gate:
            k = g.kinetics
            own = Kinetics(renamed(k.alpha), renamed(k.beta), renamed(k.steady), renamed(k.tau))
            return Gate(g.name, own, g.power, g.instantaneous, g.range)

        self.currents = [
            Current(c.name, c.g, c.E, [gate(g) for g in c.gates], renamed(c.formula)) for c in self.currents
        ]


def _formulas(k: Kinetics) -> list[Expression]:
    return [e for e in (k.alpha, k.beta, k.steady, k.tau) if isinstance(e, Expression)]


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
