"""The phase plane of a membrane with two variables: nullclines in closed form, equilibria, separatrices, orbits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from varphi.dynamics.ensemble import Event, simulate
from varphi.dynamics.system import System

from .equilibria import Equilibria, Equilibrium, equilibria
from .gates import VOLTAGE
from .model import APPLIED, Model
from .sweep import Equations, Sweep

# A branch of a separatrix begins this far from its saddle, relative to the window.
_BESIDE = 1e-6
# Branches leave the picture where they leave the window by this share of it.
_MARGIN = 0.3
_FINE = 20_000
_LONGEST = 8.0  # a path, in sizes of the picture
_TIMES = 40  # in time constants of the saddle, and then as long as orbits


@dataclass(frozen=True)
class Separatrix:
    """One branch of the stable or the unstable manifold of a saddle.

    Attributes:
        saddle: whose.
        stable: whether its points run into the saddle: the border between what fires and what does not.
        path: V and the gate (2, points), from the saddle outwards; it ends where it leaves the window.
    """

    saddle: Equilibrium
    stable: bool
    path: Float[np.ndarray, "2 points"]


@dataclass(frozen=True)
class VectorField:
    """Where the state moves at each point of a grid.

    Attributes:
        V, gate: the grid's axes.
        dV, dgate: the rates of change there, mV/ms and 1/ms.
    """

    V: Float[np.ndarray, " columns"]
    gate: Float[np.ndarray, " rows"]
    dV: Float[np.ndarray, "rows columns"]
    dgate: Float[np.ndarray, "rows columns"]


@dataclass(frozen=True)
class PhasePlane:
    """What stands in the plane of V and the one gate.

    Attributes:
        model, I: whose, at which applied current.
        V: potentials, rising.
        voltage_nullcline: the gate at which dV/dt = 0 at each V; NaN where there is none.
        gate_nullcline: the gate at which it stands still itself, x∞(V).
        equilibria: where both meet, proved complete.
        orbits: each (2, times): V and the gate from one start, as long as they are numbers.
        separatrices: the four branches of each saddle.
        field: the direction of motion on a grid.
        failures: how many orbits ended before their time, by reason.
    """

    model: Model
    I: float  # noqa: E741
    V: Float[np.ndarray, " points"]
    voltage_nullcline: Float[np.ndarray, " points"]
    gate_nullcline: Float[np.ndarray, " points"]
    equilibria: Equilibria
    orbits: tuple[Float[np.ndarray, "2 times"], ...]
    separatrices: tuple[Separatrix, ...]
    field: VectorField
    failures: Mapping[str, int]

    def directions(self, equilibrium: Equilibrium) -> list[tuple[float, Float[np.ndarray, " 2"]]]:
        """(eigenvalue, eigenvector) of a node or saddle, 1/ms; nothing for a focus, which has no real ones."""
        matrix = Equations(self.model).jacobian(np.array([equilibrium.V]), {})[0]
        found = np.linalg.eig(matrix)
        if np.iscomplexobj(found.eigenvalues):
            return []
        return [(float(value), found.eigenvectors[:, k]) for k, value in enumerate(found.eigenvalues)]


def phase_plane(
    model: Model,
    I: float | str,  # noqa: E741
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
    current = model.applied(I)
    if len(model.states) != 2:
        raise ValueError(f"a phase plane has two variables; {model.name} has {', '.join(model.states)}")
    gate = model.states[1]
    holders = [c for c in model.currents if any(g.name == gate for g in c.gates)]
    power = next(g.power for g in holders[0].gates if g.name == gate)
    if len(holders) > 1:
        raise ValueError(f"the gate {gate} stands in {len(holders)} currents: the V nullcline has no closed form")
    found = equilibria(model, current)
    low, high = model.span
    v = np.linspace(low, high, points)
    # The ionic current is A(V) + B(V)·x^p.
    ionic = Sweep([model.ionic], (VOLTAGE, gate, *model.values))
    closed, half, opened = (ionic({**model.values, VOLTAGE: v, gate: x})[0] for x in (0.0, 0.5, 1.0))
    if not np.allclose(half, closed + (opened - closed) * 0.5**power, rtol=1e-9, atol=1e-9 * np.abs(opened).max()):
        raise ValueError(f"the current {holders[0].name} is no power of {gate}: the V nullcline has no closed form")
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (current - closed) / (opened - closed)
        nullcline = share if power == 1 else np.where(share >= 0, np.abs(share) ** (1 / power), np.nan)
    own = Equations(model).state(v, {})[:, 1]
    if not starts:
        middle = 0.5 * (own.min() + own.max())
        starts = [(low + 0.1 * (high - low), float(own.min())), (low + 0.6 * (high - low), float(middle))]
    times = np.linspace(0, duration, 2001)
    course = simulate(
        model.system(), duration, np.asarray(starts, float), parameters={APPLIED: current}, times=times, progress=False
    )
    field = _field(model, current, own)
    found_branches = tuple(
        b for e in found if e.kind == "saddle" for b in _separatrices(model, current, e, field, duration)
    )  # fmt: skip
    orbits = tuple(_finite(s.T) for s in course.states)
    return PhasePlane(model, current, v, nullcline, own, found, orbits, found_branches, field, course.failures())


def _field(model: Model, I: float, own: np.ndarray) -> VectorField:  # noqa: E741
    system = model.system(I)
    reach = 0.1 * float(np.ptp(own))
    v, x = np.linspace(*model.span, 21), np.linspace(own.min() - reach, own.max() + reach, 17)
    rates = Sweep(list(system.rates), system.variables)
    dv, dx = rates({**system.parameters, "t": 0.0, VOLTAGE: v[None, :], model.states[1]: x[:, None]})
    return VectorField(v, x, dv, dx)


def _separatrices(
    model: Model,
    I: float,  # noqa: E741
    saddle: Equilibrium,
    field: VectorField,
    duration: float,
) -> list[Separatrix]:
    """Both branches of both manifolds: along the eigenvectors, onwards for the unstable, back for the stable one."""
    ahead = model.system(I)
    back = System.of(
        {n: -r for n, r in zip(ahead.states, ahead.rates, strict=True)}, ahead.parameters, units=ahead.units
    )
    found = np.linalg.eig(Equations(model).jacobian(np.array([saddle.V]), {})[0])
    size = np.array([np.ptp(field.V), np.ptp(field.gate)])
    lower = np.array([field.V[0], field.gate[0]]) - _MARGIN * size
    edges = [
        Event(f"{name} - ({place!r})", stop_after=1)
        for name, low, width in zip(ahead.states, lower.tolist(), size.tolist(), strict=True)
        for place in (low, low + width * (1 + 2 * _MARGIN))
    ]
    here = np.array([saddle.state[n] for n in ahead.states])
    branches = []
    for value, vector in zip(np.real(found.eigenvalues), np.real(found.eigenvectors).T, strict=True):
        step = _BESIDE * vector / np.abs(vector / size).max()
        system, end = back if value < 0 else ahead, _TIMES / abs(float(value)) + duration
        starts = np.stack([here + step, here - step])
        settings = {"rtol": 1e-9, "atol": 1e-12, "progress": False, "events": edges}
        left = simulate(system, end, starts, **settings)
        for start, stop in zip(starts, left.end_times.tolist(), strict=True):
            course = simulate(system, stop, start, times=np.linspace(0, stop, _FINE), **settings).states[0].T
            path = np.column_stack([here, _finite(course)])
            branches.append(Separatrix(saddle, bool(value < 0), _thinned(path, size)))
    return branches


def _finite(course: Float[np.ndarray, "2 times"]) -> Float[np.ndarray, "2 fewer"]:
    return course[:, np.isfinite(course).all(0)]


def _thinned(path: Float[np.ndarray, "2 points"], size: np.ndarray) -> Float[np.ndarray, "2 fewer"]:
    """The path without points closer than a five-hundredth of the picture, and without endless turns on a cycle."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*(np.diff(path) / size[:, None])))])
    end = min(float(length[-1]), _LONGEST)
    kept = np.unique(np.searchsorted(length, np.append(np.arange(0, end, 2e-3), end)))
    return path[:, kept]
