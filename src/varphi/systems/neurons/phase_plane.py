"""The phase plane of a membrane with two variables: nullclines in closed form, equilibria, their directions, orbits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from varphi.dynamics.ensemble import simulate

from .equilibria import Equilibria, Equilibrium, equilibria
from .gates import VOLTAGE
from .model import APPLIED, Model
from .sweep import Equations, Sweep


@dataclass(frozen=True)
class PhasePlane:
    """What stands in the plane of V and the one gate.

    Attributes:
        model, I: whose, at which applied current.
        V: potentials, rising.
        voltage_nullcline: the gate at which dV/dt = 0 at each V; NaN where there is none.
        gate_nullcline: the gate at which it stands still itself, x∞(V).
        equilibria: where both meet, proved complete.
        orbits: each (2, times): V and the gate from one start.
    """

    model: Model
    I: float  # noqa: E741
    V: Float[np.ndarray, " points"]
    voltage_nullcline: Float[np.ndarray, " points"]
    gate_nullcline: Float[np.ndarray, " points"]
    equilibria: Equilibria
    orbits: tuple[Float[np.ndarray, "2 times"], ...]

    def directions(self, equilibrium: Equilibrium) -> list[tuple[float, Float[np.ndarray, " 2"]]]:
        """(eigenvalue, eigenvector) of a node or saddle, 1/ms; nothing for a focus, which has no real ones."""
        matrix = Equations(self.model).jacobian(np.array([equilibrium.V]), {})[0]
        found = np.linalg.eig(matrix)
        if np.iscomplexobj(found.eigenvalues):
            return []
        return [(float(value), found.eigenvectors[:, k]) for k, value in enumerate(found.eigenvalues)]


def phase_plane(
    model: Model,
    I: float,  # noqa: E741
    *,
    starts: Sequence[tuple[float, float]] = (),
    duration: float = 500.0,
    points: int = 801,
) -> PhasePlane:
    """The phase plane at a current.

    Args:
        I: applied current, µA/cm².
        starts: (V, gate) of sample orbits; by default one from low and one from high potential.
        duration: of the orbits, ms.
        points: of the nullclines.

    Raises:
        ValueError: a model of more or fewer than two variables, or whose gate stands in several currents; a current at
            which no equilibrium lies in the window.
    """
    if len(model.states) != 2:
        raise ValueError(f"a phase plane has two variables; {model.name} has {', '.join(model.states)}")
    gate = model.states[1]
    holders = [c for c in model.currents if any(g.name == gate for g in c.gates)]
    power = next(g.power for g in holders[0].gates if g.name == gate)
    if len(holders) > 1:
        raise ValueError(f"the gate {gate} stands in {len(holders)} currents: the V nullcline has no closed form")
    found = equilibria(model, I)
    low, high = model.span
    v = np.linspace(low, high, points)
    # The ionic current is A(V) + B(V)·x^p.
    ionic = Sweep([model.ionic], (VOLTAGE, gate, *model.values))
    closed, opened = (ionic({**model.values, VOLTAGE: v, gate: x})[0] for x in (0.0, 1.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (I - closed) / (opened - closed)
        nullcline = share if power == 1 else np.where(share >= 0, np.abs(share) ** (1 / power), np.nan)
    own = Equations(model).state(v, {})[:, 1]
    if not starts:
        middle = 0.5 * (own.min() + own.max())
        starts = [(low + 0.1 * (high - low), float(own.min())), (low + 0.6 * (high - low), float(middle))]
    times = np.linspace(0, duration, 2001)
    course = simulate(
        model.system(), duration, np.asarray(starts, float), parameters={APPLIED: I}, times=times, progress=False
    )
    return PhasePlane(model, I, v, nullcline, own, found, tuple(s.T for s in course.states))
