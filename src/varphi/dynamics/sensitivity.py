"""How time courses depend on parameters: forward sensitivities S = ∂y/∂p, S' = (∂f/∂y) S + ∂f/∂p.

They are states of a larger system, made from the same expressions as the system and its Jacobian, and are solved
together with it: steps are chosen for both, and the solver's own events see them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from varphi.numbers import Expression, variable
from varphi.numbers.expression import constant
from varphi.numbers.jet import partial

from .ensemble import Ensemble, simulate
from .system import System


def slope_name(state: str, parameter: str) -> str:
    """The state that is the derivative of a state by a parameter; no other name has blanks."""
    return f"slope of {state} by {parameter}"


def with_slopes(system: System, by: Sequence[str]) -> System:
    """The system and, as further states, the derivatives of its states by parameters.

    Args:
        by: names of parameters.

    Raises:
        ValueError: no names, an unknown one, or one twice.
    """
    names = tuple(by)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"derivatives are by one or more different parameters, got {', '.join(names) or 'none'}")
    unknown = set(names) - set(system.parameters)
    if unknown:
        raise ValueError(f"no parameter {min(unknown)!r}; there are {', '.join(system.parameters) or 'none'}")
    rates: dict[str, Expression] = dict(zip(system.states, system.rates, strict=True))
    for p in names:
        for rate, row, state in zip(system.rates, system.jacobian, system.states, strict=True):
            total = partial(rate, p) if p in rate.variables else constant(0)
            for slope, other in zip(row, system.states, strict=True):
                total = total + slope * variable(slope_name(other, p))
            rates[slope_name(state, p)] = constant(total)
    return System.of(rates, system.parameters, units=system.units)


@dataclass(frozen=True)
class Sensitivities:
    """Time courses and their derivatives by parameters.

    Attributes:
        course: of the system with its derivatives as further states.
        states, by: the names of the states and of the parameters.
    """

    course: Ensemble
    states: tuple[str, ...]
    by: tuple[str, ...]

    @property
    def values(self) -> Float[np.ndarray, "samples times states"]:
        """The states."""
        return self.course.states[:, :, : len(self.states)]

    @property
    def slopes(self) -> Float[np.ndarray, "samples times states by"]:
        """∂y/∂p."""
        return self._table(self.course.states)

    @property
    def final_slopes(self) -> Float[np.ndarray, "samples states by"]:
        """∂y/∂p where each sample ended."""
        return self._table(self.course.ends)

    def of(self, state: str, parameter: str) -> Float[np.ndarray, "samples times"]:
        """One state's derivative by one parameter."""
        return self.course.state(slope_name(state, parameter))

    def _table(self, found: np.ndarray) -> np.ndarray:
        n = len(self.states)
        return np.moveaxis(found[..., n:].reshape(*found.shape[:-1], len(self.by), n), -1, -2)


def sensitivities(
    system: System,
    times: Any,
    start: Any,
    by: Sequence[str],
    *,
    parameters: Mapping[str, Any] | None = None,
    start_slopes: Float[np.ndarray, "samples states by"] | None = None,
    end: Any = None,
    atol: Any = 1e-12,
    rtol: float = 1e-8,
    **options: Any,
) -> Sensitivities:
    """Time courses of one or many samples with their derivatives by parameters.

    Args:
        system, start, parameters: as for `simulate`.
        times: when states are wanted.
        by: names of parameters.
        start_slopes: derivatives of the start; 0 if not given.
        end: when to end, for all or for each sample; at the last of the times if not given.
        atol, rtol: of the states and of their derivatives.
        options: as for `simulate`.

    Raises:
        ValueError: as `with_slopes` and `simulate`.
    """
    larger = with_slopes(system, by)
    names = tuple(by)
    begin = dict(system.named(start))
    for j, p in enumerate(names):
        for i, state in enumerate(system.states):
            begin[slope_name(state, p)] = 0.0 if start_slopes is None else start_slopes[:, i, j]
    wanted = np.asarray(times, float)
    finish = float(wanted.max()) if end is None else end
    course = simulate(larger, finish, begin, parameters=parameters, times=wanted, rtol=rtol, atol=atol, **options)
    return Sensitivities(course, system.states, names)
