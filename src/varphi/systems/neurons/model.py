"""Conductance-based membranes: C·dV/dt = I - Σ g·x^p·y^q·(V - E), with gates that follow V.

    model = Model(
        C=1,
        currents=[
            Current("Na", g=120, E=50, gates=[Gate("m", rates(...), power=3), Gate("h", rates(...))]),
            Current("K", g=36, E=-77, gates=[Gate("n", rates(...), power=4)]),
            Current("L", g=0.3, E=-54.387),
        ],
    )
    model.with_(gK=40, EL="-54.4 mV").system()

Potentials in mV, time in ms, currents in µA/cm², conductances in mS/cm², capacitance in µF/cm². Every number keeps a
name: `gK` (also `K.g`), `EK`, `C`, a gate's own as `half_m` (also `m.half`), and the model's shared `parameters`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from varphi.activation.parsing import read
from varphi.dynamics.system import System
from varphi.numbers import Expression, evaluate, variable
from varphi.numbers.ball import BALL_OPERATIONS, Ball, OutsideDomain, ball
from varphi.numbers.expression import constant, without_slopes
from varphi.numbers.jet import partial
from varphi.numbers.straight import StraightLine

from .gates import VOLTAGE, Gate, Motion, motion
from .units import CAPACITANCE, CONDUCTANCE, CURRENT, POTENTIAL, TIME, quantity

APPLIED = "I"
_CELLS = 4000


@dataclass(frozen=True)
class Current:
    """A current through the membrane, outward positive.

    Attributes:
        name: as in "Na": its numbers are then gNa and ENa.
        g: largest conductance, mS/cm².
        E: reversal potential, mV.
        gates: whose product, with their powers, is the open fraction.
        formula: instead of g and E, the current itself (µA/cm²) as a formula or expression in V, its gates and the
            model's parameters: for rectifying or non-ohmic currents.
    """

    name: str
    g: float | str | None = None
    E: float | str | None = None
    gates: Sequence[Gate] = ()
    formula: str | Expression | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"{self.name!r} cannot name a current: a letter and then letters or digits")
        if (self.formula is None) == (self.g is None or self.E is None):
            raise ValueError(f"the current {self.name} needs g and E, or a formula instead of both")
        object.__setattr__(self, "gates", tuple(self.gates))


@dataclass(frozen=True)
class Model:
    """A membrane: its capacitance, its currents and their gates.

    Attributes:
        currents: through the membrane, outward positive.
        C: capacitance, µF/cm².
        parameters: numbers that formulas share, by name.
        parameter_units: their units, where they are known: "mV", or "" for a number that has none.
        name, source: for tables and figures.
        window: potentials in which equilibria are looked for, mV; by default from the lowest to the highest reversal
            potential, where they all lie as long as no current is applied.
        dimensionless: whether numbers have no units (FitzHugh–Nagumo).
        notes: what a user should know of its numbers.

    Raises (when built):
        ValueError, TypeError: a quantity in another unit, a formula that cannot be read, a gate that leaves its range
            or a time constant that is not positive somewhere in the window.
    """

    currents: Sequence[Current]
    C: float | str = 1.0
    parameters: Mapping[str, float] = field(default_factory=dict)
    name: str = "model"
    source: str = ""
    window: tuple[float, float] | None = None
    dimensionless: bool = False
    notes: str = ""
    changed: Mapping[str, float] = field(default_factory=dict, repr=False)
    parameter_units: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "currents", tuple(self.currents))
        if odd := sorted(set(self.parameter_units) - set(self.parameters)):
            raise ValueError(f"parameter_units names {odd[0]!r}, which is none of the parameters")
        if not self.currents:
            raise ValueError("a model needs at least one current")
        repeated = _repeated(c.name for c in self.currents)
        if repeated:
            raise ValueError(f"two currents are called {repeated!r}")
        self._check_numbers()
        low, high = self.span
        if not low < high:
            raise ValueError(
                f"the window from {low:g} to {high:g} mV is empty: give window=(lowest, highest), or reversal "
                "potentials that differ"
            )
        self._check_gates()

    # ------------------------------------------------------------------------------------------------ numbers

    @functools.cached_property
    def values(self) -> dict[str, float]:
        """Every number by its flat name, changes included."""
        return self._given | dict(self.changed)

    @functools.cached_property
    def _given(self) -> dict[str, float]:
        values = {"C": quantity(self.C, self.units["C"], "C")}
        for current in self.currents:
            for letter, value in (("g", current.g), ("E", current.E)):
                if current.formula is None and value is not None:
                    name = letter + current.name
                    _fresh(name, values)
                    values[name] = quantity(value, self.units[name], name)
        for gate in self.gates:
            for name, value in gate.kinetics.numbers.items():
                _fresh(gate.parameter(name), values)
                values[gate.parameter(name)] = float(value)
        for name, value in self.parameters.items():
            _fresh(name, values)
            values[name] = quantity(value, self.units.get(name, ""), name)
        return values

    @functools.cached_property
    def units(self) -> dict[str, str]:
        """The units that are known, of V, I, time and numbers; "" for a number that has none."""
        if self.dimensionless:
            return {name: "" for name in ("C", "t", VOLTAGE, APPLIED)}
        units = {"C": CAPACITANCE, "t": TIME, VOLTAGE: POTENTIAL, APPLIED: CURRENT}
        for current in self.currents:
            units |= {"g" + current.name: CONDUCTANCE, "E" + current.name: POTENTIAL}
        for gate in self.gates:
            units |= {gate.parameter(n): u for n, u in gate.kinetics.units.items()}
        return units | dict(self.parameter_units)

    def with_(self, changes: Mapping[str, float | str] | None = None, /, **more: float | str) -> Model:
        """The same model with other numbers: `with_(gK=40)`, `with_({"m.half": "-30 mV"})`.

        Raises:
            ValueError: an unknown name, a wrong unit, or a gate that is then none.
        """
        found = {}
        for given, value in {**(changes or {}), **more}.items():
            name = self.flat(given)
            found[name] = quantity(value, self.units.get(name, ""), name)
        return replace(self, changed=dict(self.changed) | found)

    def flat(self, given: str) -> str:
        """The flat name of a number: "m.half" is "half_m".

        Raises:
            ValueError: there is none of that name.
        """
        owner, dot, part = given.partition(".")
        for name in (given, part + owner, f"{part}_{owner}") if dot else (given,):
            if name in self._given:
                return name
        raise ValueError(f"{self.name} has no parameter {given!r}; it has {', '.join(self._given)}")

    def _check_numbers(self) -> None:
        for name, value in self.values.items():
            if name not in self._given:
                self.flat(name)
            if name == "C" and not value > 0:
                raise ValueError(f"C must be positive, got {value:g}")
            if name[0] == "g" and self.units.get(name) == CONDUCTANCE and value < 0:
                raise ValueError(f"the conductance {name} must not be negative, got {value:g} mS/cm²")

    @property
    def span(self) -> tuple[float, float]:
        """The potentials in which equilibria are looked for."""
        if self.window is not None:
            return float(self.window[0]), float(self.window[1])
        reversals = [self.values["E" + c.name] for c in self.currents if c.formula is None]
        if len(reversals) < 2:
            raise ValueError("without two reversal potentials the model needs window=(lowest, highest)")
        return min(reversals), max(reversals)

    # ------------------------------------------------------------------------------------------------ formulas

    @functools.cached_property
    def gates(self) -> tuple[Gate, ...]:
        """Every gate once, in the order of the currents."""
        found: dict[str, Gate] = {}
        for gate in (g for c in self.currents for g in c.gates):
            same = found.setdefault(gate.name, gate)
            if same.kinetics != gate.kinetics or same.instantaneous != gate.instantaneous:
                raise ValueError(f"two different gates are called {gate.name!r}")
        return tuple(found.values())

    @property
    def states(self) -> tuple[str, ...]:
        """V and the gates that are not instantaneous."""
        return (VOLTAGE, *(g.name for g in self.gates if not g.instantaneous))

    @functools.cached_property
    def motions(self) -> dict[str, Motion]:
        """The formulas of each gate."""
        return {gate.name: motion(gate, self.parameters) for gate in self.gates}

    @functools.cached_property
    def ionic(self) -> Expression:
        """The sum of the currents in V, the gates that are states, and the numbers."""
        instant = {g.name: self.motions[g.name].steady for g in self.gates if g.instantaneous}
        total: Any = 0
        for current in self.currents:
            total = total + self._current(current)
        return evaluate([total], {n: instant.get(n, variable(n)) for n in constant(total).variables})[0]

    def _current(self, current: Current) -> Any:
        if current.formula is not None:
            known = {VOLTAGE, *(g.name for g in current.gates), *self.parameters}
            told = f"V, its gates and parameters: {', '.join(sorted(known))}"
            if isinstance(current.formula, str):
                return read(current.formula, known.__contains__, told)
            if odd := current.formula.variables - known:
                raise ValueError(f"{min(odd)!r} is unknown in the current {current.name}; it has {told}")
            return current.formula
        flow: Any = variable("g" + current.name)
        for gate in current.gates:
            flow = flow * variable(gate.name) ** gate.power
        return flow * (variable(VOLTAGE) - variable("E" + current.name))

    def current(self, name: str) -> Expression:
        """One current in V and the numbers, its gates at their steady state."""
        found = {c.name: c for c in self.currents}
        if name not in found:
            raise ValueError(f"no current {name!r}; there are {', '.join(found)}")
        return self._steadily(constant(self._current(found[name])))

    def _steadily(self, expression: Expression) -> Expression:
        steady = {g.name: self.motions[g.name].steady for g in self.gates}
        return constant(evaluate([expression], {n: steady.get(n, variable(n)) for n in expression.variables})[0])

    @functools.cached_property
    def steady_current(self) -> Expression:
        """I_ss(V): the applied current at which V is an equilibrium."""
        return self._steadily(self.ionic)

    @functools.cached_property
    def linear(self) -> tuple[Expression, tuple[Expression, ...]]:
        """∂/∂V and ∂/∂gate of the ionic current, along the equilibria."""
        plain = without_slopes(self.ionic)
        by_gate = (partial(plain, name) for name in self.states[1:])
        return self._steadily(partial(plain, VOLTAGE)), tuple(self._steadily(e) for e in by_gate)

    def applied(self, I: float | str) -> float:  # noqa: E741
        """An applied current in µA/cm², from a number or a text with its unit.

        Raises:
            ValueError, TypeError: another kind of unit, no finite number.
        """
        return quantity(I, self.units[APPLIED], APPLIED)

    def system(self, I: float | str = 0.0) -> System:  # noqa: E741
        """The equations, with the applied current I (µA/cm²) among the parameters."""
        return self._system(self.applied(I))

    @functools.lru_cache(maxsize=8)  # noqa: B019
    def _system(self, applied: float) -> System:
        rates: dict[str, Any] = {VOLTAGE: (variable(APPLIED) - self.ionic) / variable("C")}
        rates |= {name: self.motions[name].rate for name in self.states[1:]}
        return System.of(rates, self.values | {APPLIED: applied}, units=self.units)

    def __hash__(self) -> int:
        return id(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # Cached expressions and machine code are made again where the model arrives.
        given = (self.currents, self.C, self.parameters, self.name, self.source, self.window, self.dimensionless)
        return Model, (*given, self.notes, self.changed, self.parameter_units)

    # ------------------------------------------------------------------------------------------------ checks

    def _check_gates(self) -> None:
        for gate in self.gates:
            for name in gate.kinetics.numbers:
                if name == "slope" and self.values[gate.parameter(name)] == 0:
                    raise ValueError(f"the slope of the gate {gate.name} is 0 mV; 5 to 20 mV is usual")
            moves = self.motions[gate.name]
            for what, expression in moves.nonnegative.items():
                self._prove(expression, 0.0, None, f"{what} of the gate {gate.name} must not be negative")
            for what, expression in moves.positive.items():
                self._prove(expression, 0.0, None, f"{what} of the gate {gate.name} must be positive", strict=True)
            if not moves.nonnegative and gate.range is not None:
                low, high = gate.range
                self._prove(
                    moves.steady, low, high,
                    f"the steady state of the gate {gate.name} must lie in [{low:g}, {high:g}] "
                    "(range=None for a variable that is no open fraction)",
                )  # fmt: skip

    def _prove(self, f: Expression, low: float, high: float | None, words: str, strict: bool = False) -> None:
        """That f lies in [low, high] on the window, by ball arithmetic on cells."""
        line = StraightLine([self.substituted(f)], BALL_OPERATIONS, ball, (VOLTAGE,))
        cells = [self.span]
        for _ in range(_CELLS):
            if not cells:
                return
            a, b = cells.pop()
            try:
                found = line(Ball(a, b))[0]
            except (OutsideDomain, ZeroDivisionError):
                raise ValueError(f"{words}; it is not defined on all of {a:g} to {b:g} mV") from None
            inside = found.lo > low if strict else found.lo >= low
            if inside and (high is None or found.hi <= high):
                continue
            if found.hi < low or (strict and found.hi <= low) or (high is not None and found.lo > high):
                raise ValueError(f"{words}; between {a:g} and {b:g} mV it is {found.lower:.6g} to {found.upper:.6g}")
            middle = (a + b) / 2
            cells += [(a, middle), (middle, b)]
        a, b = cells[-1]
        raise ValueError(f"{words}; near {a:g} mV this could not be proved")

    def substituted(self, f: Expression) -> Expression:
        """An expression in V with every number put in, as an exact rational."""
        numbers = {n: constant(Fraction(v)) for n, v in self.values.items()}
        plain = without_slopes(f)
        return constant(evaluate([plain], {n: numbers.get(n, variable(n)) for n in plain.variables})[0])

    def unit(self, name: str) -> str:
        """A unit in brackets for an axis, or nothing for a number without one."""
        unit = "" if self.dimensionless else self.units.get(name, "model units")
        return f" ({unit})" if unit else ""

    @property
    def frequency(self) -> tuple[float, str]:
        """How many periods a second a period of 1 is, and the unit's name."""
        return (1.0, "1/time") if self.dimensionless else (1000.0, "Hz")


def _fresh(name: str, taken: Mapping[str, Any]) -> None:
    if name in taken or name in (VOLTAGE, APPLIED, "t"):
        raise ValueError(f"the name {name!r} is used twice; name the current, gate or parameter otherwise")


def _repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
