"""A model that was read: its equations, what it starts from, and which of its laws are Hill functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from varphi.dynamics.ensemble import Ensemble
from varphi.dynamics.happenings import Happening, simulate_happenings
from varphi.dynamics.mathml import UnsupportedModel
from varphi.dynamics.stochastic import Network, Reaction
from varphi.dynamics.system import System
from varphi.numbers import Expression, evaluate, variable
from varphi.numbers.jet import partial

from .laws import HillLaw, sign_of_slope
from .subject import Subject
from .units import Units


@dataclass(frozen=True)
class Process:
    """A reaction.

    Attributes:
        name: its id.
        law: amount per time.
        change: by how much each state's amount changes: numbers, or expressions where the model computes them.
        reversible: whether the law may be negative.
        laws: the Hill functions in it.
        text: the law as it was before.
    """

    name: str
    law: Expression
    change: Mapping[str, float | Expression]
    reversible: bool
    laws: tuple[HillLaw, ...]
    text: str


@dataclass(frozen=True)
class Model(Subject):
    """A model read from SBML or Antimony.

    Attributes:
        name: its id.
        equations: its differential equations. A species is its concentration, or its amount where the model says so or
            where its compartment changes (then the state of X is called amount_X, and X is among `derived`); boundary
            species that nothing changes are parameters.
        start: the state at time 0.
        derived: what rules and sizes define, by name: expressions in states and parameters.
        processes: its reactions.
        sizes: of each species, the size of its compartment by which its state is amount/size; 1 for amounts.
        species: the names of all species.
        happenings: its events.
        competing: groups of Hill functions that compete for one site.
        compartments: sizes that stay.
        spaces: of each species, the size of its compartment.
        concentrations: the species that are concentrations; the others are amounts.
        known_units: what amounts and times are counted in, where that is one of a circuit's units; else "1".
        text: the SBML that it was read from.
        not_a_circuit: why it was not read as a `Circuit`; "" if nobody asked.
    """

    name: str
    equations: System
    start: Mapping[str, float]
    derived: Mapping[str, Expression]
    processes: tuple[Process, ...]
    sizes: Mapping[str, float]
    species: tuple[str, ...]
    happenings: tuple[Happening, ...] = ()
    competing: tuple[tuple[HillLaw, ...], ...] = ()
    compartments: Mapping[str, float] = field(default_factory=dict)
    spaces: Mapping[str, Expression] = field(default_factory=dict)
    concentrations: frozenset[str] = frozenset()
    known_units: Units = field(default_factory=Units)
    text: str = field(default="", repr=False)
    not_a_circuit: str = ""

    def system(self) -> System:
        """Its differential equations.

        Raises:
            UnsupportedModel: for a model with events, which no equations hold: it has time courses (`simulate`) only.
        """
        if self.happenings:
            raise UnsupportedModel(
                f"the model has events ({self.happenings[0].name!r}): it has time courses (simulate), but no steady "
                "states and no answer to a step; take the events out, and let `respond` make the step"
            )
        return self.equations

    @property
    def starts(self) -> dict[str, float]:
        """The state at time 0."""
        return dict(self.start)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What can be measured: the states."""
        return self.equations.states

    @property
    def hill_laws(self) -> tuple[HillLaw, ...]:
        """All Hill functions in its reactions, each once."""
        return tuple({(law.species, law.K, law.n, law.sign): law for p in self.processes for law in p.laws}.values())

    @cached_property
    def edges(self) -> tuple[tuple[str, str, int], ...]:
        """What acts on which state: (source, target, sign), signs proved for all concentrations by interval arithmetic.

        An action whose sign depends on where the system is has sign 0. A state's action on itself is left out.
        """
        found = []
        values = dict(self.equations.parameters)
        for target, rate in zip(self.equations.states, self.equations.rates, strict=True):
            for source in self.species:
                if source == target or source not in rate.variables:
                    continue
                sign = sign_of_slope(rate, source, values, self.species)
                if sign != 0 or sign is None:
                    found.append((source, target, sign or 0))
        return tuple(found)

    def simulate(self, times: Any, *, parameters: Mapping[str, Any] | None = None, **options: Any) -> Ensemble:
        """Time courses from its start, of one or many samples; options as for `dynamics.simulate`.

        Raises:
            ValueError: as `dynamics.simulate`.
            AmbiguousEvents: several events at one time, the order of which matters and is not given.
        """
        if not self.happenings:
            return super().simulate(times, parameters=parameters, **options)
        wanted = np.asarray(times, float)
        return simulate_happenings(
            self.equations, self.happenings, wanted, self.start, parameters=parameters, **options
        )

    def value(self, name: str, course: Ensemble, sample: int = 0) -> Float[np.ndarray, " times"]:
        """A state, a parameter, a derived quantity or a reaction's law along a time course of the usual parameters.

        Raises:
            ValueError: for an unknown name.
        """
        system = self.equations
        if name in system.states:
            return course.state(name)[sample]
        if name in system.parameters:
            return np.full(len(course.times), system.parameters[name])
        known = {p.name: p.law for p in self.processes} | dict(self.derived)
        if name not in known:
            raise ValueError(f"the model has no {name!r}")
        return self._along(known[name], course, sample)

    def amount(self, name: str, course: Ensemble, sample: int = 0) -> Float[np.ndarray, " times"]:
        """The amount of a species along a time course, whichever it is counted in."""
        value = self.value(name, course, sample)
        return value * self._along(self.spaces[name], course, sample) if name in self.concentrations else value

    def concentration(self, name: str, course: Ensemble, sample: int = 0) -> Float[np.ndarray, " times"]:
        """The concentration of a species along a time course, whichever it is counted in."""
        value = self.value(name, course, sample)
        return value if name in self.concentrations else value / self._along(self.spaces[name], course, sample)

    def _along(self, e: Expression, course: Ensemble, sample: int) -> Float[np.ndarray, " times"]:
        states, fixed = self.equations.states, dict(self.equations.parameters)
        rows = zip(course.times.tolist(), course.states[sample].tolist(), strict=True)
        return np.array(
            [float(evaluate([e], fixed | dict(zip(states, row, strict=True)) | {"t": t})[0]) for t, row in rows]
        )

    def decay(self, output: str, parameters: Mapping[str, Any]) -> Any:
        """How fast a state decays, where that is a number: NaN if it depends on the state."""
        slope = partial(self.equations.rates[self.equations.states.index(output)], output)
        if slope.variables - set(self.equations.parameters):
            return math.nan
        import torch

        values = {k: torch.as_tensor(np.asarray(v, float)) for k, v in self.equations.values(parameters).items()}
        rate = -np.asarray(evaluate([slope], values)[0], float)
        return rate if (rate > 0).all() else math.nan

    def network(self, molecules: float = 1.0) -> Network:
        """Its reactions between counted molecules: amounts are counts.

        Args:
            molecules: how many molecules one unit of amount is.

        Raises:
            ValueError: for a reversible reaction (which has no propensity), changes that are no whole numbers, rates
                that are given by rules, or events.
        """
        system = self.system()
        ruled = set(system.states) - {s for p in self.processes for s in p.change}
        if ruled:
            raise ValueError(f"{min(ruled)!r} changes by a rule, not by reactions: it has no counted molecules")
        if not (math.isfinite(molecules) and molecules > 0):
            raise ValueError(f"molecules must be a finite number above 0, got {molecules!r}")
        amounts: dict[str, Any] = {s: variable(s) / (self.sizes[s] * molecules) for s in system.states}
        reactions = []
        for process in self.processes:
            if process.reversible:
                raise ValueError(
                    f"the reaction {process.name!r} is reversible: write its two directions as two reactions "
                    "(in Antimony => instead of ->)"
                )
            names: dict[str, Any] = {v: variable(v) for v in process.law.variables}
            law = evaluate([process.law], names | {k: v for k, v in amounts.items() if k in names})[0] * molecules
            for name, by in process.change.items():
                if isinstance(by, Expression) or not float(by).is_integer():
                    raise ValueError(f"the reaction {process.name!r} changes {name!r} by {by!r}, no whole number")
            reactions.append(Reaction(law, {k: int(v) for k, v in process.change.items() if isinstance(v, float)}))
        return Network.of(reactions, system.states, system.parameters)

    def to_sbml(self) -> str:
        """The SBML that it was read from."""
        return self.text
