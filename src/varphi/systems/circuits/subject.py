"""What circuits and models have in common: everything that is measured of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from varphi.dynamics.ensemble import Ensemble, simulate
from varphi.dynamics.stochastic import Counts, Network, simulate_counts
from varphi.dynamics.system import System

from .dose import DoseResponse, Hysteresis, dose_response, hysteresis
from .measures import FoldChange, Response, fold_change, respond
from .steady import Rest, rest

if TYPE_CHECKING:
    from varphi.dynamics.sensitivity import Sensitivities

    from .proofs import Claim, Proof

_LIFETIMES = 20.0


class Subject(ABC):
    """Something with equations, a start and parameters: a circuit, or a model that was read.

    Parameters are given by name, each a number or one for each sample.
    """

    @abstractmethod
    def system(self) -> System:
        """Its differential equations."""

    @abstractmethod
    def network(self, molecules: float = 1.0) -> Network:
        """Its reactions between counted molecules; `molecules` are in one unit of amount."""

    @abstractmethod
    def to_sbml(self) -> str:
        """It as SBML."""

    @abstractmethod
    def decay(self, output: str, parameters: Mapping[str, Any]) -> Any:
        """How fast a state decays, where that is a number, else NaN; one for all samples or one for each."""

    @property
    @abstractmethod
    def starts(self) -> dict[str, float]:
        """The state at time 0."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """What can be measured, the last by default."""

    def to_antimony(self) -> str:
        """It as Antimony text.

        Raises:
            ImportError: the package antimony is missing.
        """
        from .antimony import antimony_of

        return antimony_of(self.to_sbml())

    def resolved(self, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
        """Parameters by the names that the equations have.

        Raises:
            ValueError: for unknown names.
        """
        given = dict(parameters or {})
        self.system().values(given)
        return given

    def output(self, name: str | None) -> str:
        """An output by name, or the last.

        Raises:
            ValueError: for an unknown name.
        """
        shown = name or self.outputs[-1]
        if shown not in self.outputs:
            raise ValueError(f"no output {shown!r}; there are {', '.join(self.outputs)}")
        return shown

    def lifetimes(self, parameters: Mapping[str, Any], count: float = _LIFETIMES) -> Any:
        """So many lifetimes of the slowest state.

        Raises:
            ValueError: where the decay of a state is no number: how long to wait must then be said.
        """
        states = self.system().states
        decays = {name: np.asarray(self.decay(name, parameters), float) for name in states}
        for name, decay in decays.items():
            if not np.isfinite(decay).all():
                raise ValueError(f"how fast {name} decays depends on the state: say how long to follow (horizon)")
        slowest = next(iter(decays.values()))
        for decay in decays.values():
            slowest = np.minimum(slowest, decay)
        return count / slowest

    # What it does ---------------------------------------------------------------------------------------------------

    def simulate(self, times: Any, *, parameters: Mapping[str, Any] | None = None, **options: Any) -> Ensemble:
        """Time courses from its start, of one or many samples; options as for `dynamics.simulate`.

        Raises:
            ValueError: for unknown names, and as `dynamics.simulate`.
        """
        wanted = np.asarray(times, float)
        system, given = self.system(), self.resolved(parameters)
        return simulate(system, float(wanted.max()), self.starts, times=wanted, parameters=given, **options)

    def simulate_counts(
        self, end: float, *, molecules: float = 1.0, parameters: Mapping[str, Any] | None = None, **options: Any
    ) -> Counts:
        """Exact stochastic courses from its start, in molecules; options as for `dynamics.simulate_counts`.

        Args:
            end: when to end.
            molecules: how many molecules one unit of amount is.

        Raises:
            ValueError: a start that is no whole number of molecules, and as `network` and `dynamics.simulate_counts`.
        """
        network, given = self.network(molecules), self.resolved(parameters)
        start = {name: level * molecules * self._size(name) for name, level in self.starts.items()}
        odd = {name: count for name, count in start.items() if abs(count - round(count)) > 1e-9 * max(1.0, count)}
        if odd:
            name, count = next(iter(odd.items()))
            raise ValueError(f"{name} starts at {count:g} molecules: counts are whole numbers")
        whole = {name: round(count) for name, count in start.items()}
        return simulate_counts(network, end, whole, parameters=given, **options)

    def _size(self, name: str) -> float:
        return getattr(self, "sizes", {}).get(name, 1.0)

    def steady(
        self, *, parameters: Mapping[str, Any] | None = None, start: Any = None, wait: Any = None, progress: bool = True
    ) -> Rest:
        """Where it comes to rest, from `start` (its own if not given).

        Args:
            wait: how long it is simulated first; by default 40 lifetimes of the slowest state.

        Raises:
            ValueError: for unknown names; or where `wait` must be said.
        """
        given = self.resolved(parameters)
        wait = self.lifetimes(given, 2 * _LIFETIMES) if wait is None else wait
        begin = self.starts if start is None else start
        return rest(self.system(), begin, wait, parameters=given, progress=progress)

    def respond(
        self,
        step: tuple[str, Any, Any],
        output: str | None = None,
        horizon: Any = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        threads: int | None = None,
        progress: bool = True,
    ) -> Response:
        """The answer to a step of an input, of one or many samples.

        Args:
            step: the input's name, its level before and after; each one or one for each sample.
            output: what is measured; the last gene or state by default.
            horizon: how long to follow; by default 20 lifetimes of the slowest state, for each sample its own.
            parameters: values other than the usual ones, each a number or one for each sample.

        Raises:
            ValueError: for unknown names or impossible values; or where `horizon` must be said.
        """
        shown, given = self.output(output), self.resolved(parameters)
        self.refuse_step(step)
        return respond(
            self.system(), shown, step, self.lifetimes(given) if horizon is None else horizon, parameters=given,
            start=self.starts, decay=self.decay(shown, given), threads=threads, progress=progress,
        )  # fmt: skip

    def refuse_step(self, step: tuple[str, Any, Any]) -> None:
        """Refuse a step of what is no input.

        Raises:
            ValueError: which, and what would be.
        """
        if step[0] not in self.system().parameters:
            raise ValueError(f"no input {step[0]!r}; there are {', '.join(self.system().parameters) or 'none'}")

    def fold_change(
        self, name: str, factor: float, levels: Any, output: str | None = None, horizon: float | None = None,
        progress: bool = True,
    ) -> FoldChange:  # fmt: skip
        """Whether an output sees only by which factor an input changes; see `measures.fold_change`."""
        shown = self.output(output)
        long = float(np.max(self.lifetimes({}))) if horizon is None else horizon
        return fold_change(self.system(), shown, name, factor, levels, long, start=self.starts, progress=progress)

    def dose_response(
        self, name: str, levels: Any, output: str | None = None, wait: float | None = None, *,
        parameters: Mapping[str, Any] | None = None, progress: bool = True,
    ) -> DoseResponse:  # fmt: skip
        """Steady levels of an output over levels of an input; see `dose.dose_response`."""
        given, shown = self.resolved(parameters), self.output(output)
        long = float(np.max(self.lifetimes(given, 2 * _LIFETIMES))) if wait is None else wait
        return dose_response(
            self.system(), shown, name, levels, long, parameters=given, start=self.starts, progress=progress
        )

    def hysteresis(
        self, name: str, levels: Any, output: str | None = None, wait: float | None = None, *,
        parameters: Mapping[str, Any] | None = None,
    ) -> Hysteresis:  # fmt: skip
        """Steady levels as an input rises and falls; see `dose.hysteresis`."""
        given, shown = self.resolved(parameters), self.output(output)
        long = float(np.max(self.lifetimes(given, 2 * _LIFETIMES))) if wait is None else wait
        return hysteresis(self.system(), shown, name, levels, long, parameters=given, start=self.starts)

    def sensitivities(
        self, times: Any, by: Any, *, parameters: Mapping[str, Any] | None = None, **options: Any
    ) -> Sensitivities:
        """Time courses from its start and their derivatives by parameters; see `dynamics.sensitivity.sensitivities`.

        Args:
            by: names of parameters, as the equations have them.
        """
        from varphi.dynamics.sensitivity import sensitivities

        return sensitivities(self.system(), times, self.starts, by, parameters=self.resolved(parameters), **options)

    def certify(self, claim: Claim, box: Mapping[str, tuple[float, float]], *, most_boxes: int = 400) -> Proof:
        """Prove or refute that it has one steady state, or two stable ones, over a box of parameters; see `certify`."""
        from .proofs import certify

        return certify(self, claim, box, most_boxes=most_boxes)
