"""A model that was read: its equations, what it starts from, and which of its laws are Hill functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from varphi.dynamics.ensemble import Ensemble, simulate
from varphi.dynamics.stochastic import Network, Reaction
from varphi.dynamics.system import System
from varphi.numbers import Expression, evaluate, variable
from varphi.numbers.jet import partial

from .laws import HillLaw, sign_of_slope
from .measures import Response, respond


@dataclass(frozen=True)
class Process:
    """A reaction.

    Attributes:
        name: its id.
        law: amount per time.
        change: by how much each species' amount changes.
        reversible: whether the law may be negative.
        laws: the Hill functions in it.
        text: the law as it was before.
    """

    name: str
    law: Expression
    change: Mapping[str, float]
    reversible: bool
    laws: tuple[HillLaw, ...]
    text: str


@dataclass(frozen=True)
class Model:
    """A model read from SBML or Antimony.

    Attributes:
        name: its id.
        system: its differential equations. A species is its concentration, or its amount where the model says so;
            boundary species that nothing changes are parameters.
        start: the state at time 0.
        derived: what rules and sizes define, by name: expressions in states and parameters.
        processes: its reactions.
        sizes: of each species, the size of its compartment by which its state is amount/size; 1 for amounts.
        species: the names of all species.
    """

    name: str
    system: System
    start: Mapping[str, float]
    derived: Mapping[str, Expression]
    processes: tuple[Process, ...]
    sizes: Mapping[str, float]
    species: tuple[str, ...]

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
        values = dict(self.system.parameters)
        for target, rate in zip(self.system.states, self.system.rates, strict=True):
            for source in self.species:
                if source == target or source not in rate.variables:
                    continue
                sign = sign_of_slope(rate, source, values, self.species)
                if sign != 0 or sign is None:
                    found.append((source, target, sign or 0))
        return tuple(found)

    def simulate(self, times: Any, *, parameters: Mapping[str, Any] | None = None, **options: Any) -> Ensemble:
        """Time courses from its start, of one or many samples; options as for `dynamics.simulate`."""
        wanted = np.asarray(times, float)
        return simulate(
            self.system, float(wanted.max()), dict(self.start), times=wanted, parameters=parameters, **options
        )

    def value(self, name: str, course: Ensemble, sample: int = 0) -> Float[np.ndarray, " times"]:
        """A state, a parameter or a derived quantity along a time course of the usual parameters."""
        if name in self.system.states:
            return course.state(name)[sample]
        if name in self.system.parameters:
            return np.full(len(course.times), self.system.parameters[name])
        if name not in self.derived:
            raise ValueError(f"the model has no {name!r}")
        values = dict(self.system.parameters)
        found = [
            float(
                evaluate([self.derived[name]], values | dict(zip(self.system.states, row, strict=True)) | {"t": t})[0]
            )
            for t, row in zip(course.times.tolist(), course.states[sample].tolist(), strict=True)
        ]
        return np.array(found)

    def respond(
        self,
        step: tuple[str, Any, Any],
        output: str,
        horizon: float,
        *,
        parameters: Mapping[str, Any] | None = None,
        threads: int | None = None,
        progress: bool = True,
    ) -> Response:
        """The answer of a state to a step of a parameter (such as a boundary species); see `measures.respond`.

        Raises:
            ValueError: for unknown names.
        """
        if output not in self.system.states:
            raise ValueError(f"no state {output!r}; there are {', '.join(self.system.states)}")
        return respond(
            self.system, output, step, horizon, parameters=parameters, start=self.start,
            decay=self._decay(output, parameters or {}), threads=threads, progress=progress,
        )  # fmt: skip

    def _decay(self, output: str, parameters: Mapping[str, Any]) -> Any:
        """How fast a state decays, where that is a number: NaN if it depends on the state."""
        slope = partial(self.system.rates[self.system.states.index(output)], output)
        if slope.variables - set(self.system.parameters):
            return math.nan
        import torch

        values = {k: torch.as_tensor(np.asarray(v, float)) for k, v in self.system.values(parameters).items()}
        rate = -np.asarray(evaluate([slope], values)[0], float)
        return rate if (rate > 0).all() else math.nan

    def network(self) -> Network:
        """Its reactions between counted molecules: amounts are counts.

        Raises:
            ValueError: for a reversible reaction (which has no propensity), changes that are no whole numbers, or rates
                that are given by rules.
        """
        ruled = set(self.system.states) - {s for p in self.processes for s in p.change}
        if ruled:
            raise ValueError(f"{min(ruled)!r} changes by a rule, not by reactions: it has no counted molecules")
        amounts = {s: variable(s) / self.sizes[s] for s in self.system.states}
        reactions = []
        for process in self.processes:
            if process.reversible:
                raise ValueError(
                    f"the reaction {process.name!r} is reversible: write its two directions as two reactions "
                    "(in Antimony => instead of ->)"
                )
            names: dict[str, Any] = {v: variable(v) for v in process.law.variables}
            law = evaluate([process.law], names | {k: v for k, v in amounts.items() if k in names})[0]
            whole = {k: int(v) if float(v).is_integer() else v for k, v in process.change.items()}
            reactions.append(Reaction(law, {k: v for k, v in whole.items() if k in self.system.states}))  # pyright: ignore[reportArgumentType]
        return Network.of(reactions, self.system.states, self.system.parameters)
