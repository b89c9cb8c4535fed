"""The bifurcation diagram of a membrane: its equilibria and its cycles over the applied current."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from varphi.dynamics.approach import approach
from varphi.dynamics.cycles import CycleBranch, Orbit, continue_cycles, orbit_at_hopf, orbit_by_simulation

from .equilibria import Special, special_points
from .firing import fi_curve, model_currents
from .gates import VOLTAGE
from .model import APPLIED, Model
from .sweep import Equations

_LARGEST_PERIOD = 3000.0
_STEP = 0.05
_POINTS = 1000
# A Hopf point this near to the end of a branch, relative to its current, is where it ends.
_MEETS = 2.5e-2


@dataclass(frozen=True)
class Cycles:
    """A branch of periodic orbits.

    Attributes:
        I: applied current along the branch, µA/cm².
        low, high: the extremes of V on each orbit, mV.
        period: ms.
        stable: whether small disturbances die out; where multipliers have no digits, as the nearest orbit that has.
        ended: "rest", "period" (it grows without bound: a homoclinic orbit or a saddle-node on the cycle), "parameter"
            (at the border of the diagram), "steps" or "lost".
    """

    I: Float[np.ndarray, " points"]  # noqa: E741
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]
    period: Float[np.ndarray, " points"]
    stable: Bool[np.ndarray, " points"]
    ended: str


@dataclass(frozen=True)
class Mark:
    """A point of a branch of cycles at which something changes.

    Attributes:
        kind: "fold of cycles", "period doubling", "torus", or where the period grows without bound "saddle-node on the
            cycle" or "homoclinic", as the laws of both tell.
        I, period: there; the period is infinite where it grows without bound.
        low, high: extremes of V on the orbit there, or on the last one before.
    """

    kind: Literal["fold of cycles", "period doubling", "torus", "saddle-node on the cycle", "homoclinic"]
    I: float  # noqa: E741
    low: float
    high: float
    period: float


@dataclass(frozen=True)
class BifurcationDiagram:
    """What stands over the applied current.

    Attributes:
        model: whose.
        V: potentials of the equilibria, rising.
        I: the current of each, µA/cm².
        stable: whether it is stable.
        special: folds and Hopf points, proved.
        cycles: branches of periodic orbits.
        marks: folds of cycles and ends at infinite period.
    """

    model: Model
    V: Float[np.ndarray, " points"]
    I: Float[np.ndarray, " points"]  # noqa: E741
    stable: Bool[np.ndarray, " points"]
    special: tuple[Special, ...]
    cycles: tuple[Cycles, ...]
    marks: tuple[Mark, ...]

    def __str__(self) -> str:
        unit = self.model.units[APPLIED]
        lines = [f"{self.model.name}: what changes with the applied current{f' ({unit})' if unit else ''}"]
        lines += [f"  {p}" for p in self.special]
        lines += [f"  {m.kind} at I = {m.I:.9g}, V from {m.low:.6g} to {m.high:.6g}, period {m.period:.8g}"
                  for m in self.marks]  # fmt: skip
        lines += [
            f"  cycles from I = {c.I[0]:.6g} to {c.I[-1]:.6g}, {c.stable.mean():.0%} of them stable, end: {c.ended}"
            for c in self.cycles
        ]
        return "\n".join(lines)


def bifurcation_diagram(model: Model, *, points: int = 1500) -> BifurcationDiagram:
    """The equilibria of a model and the cycles that are born at its Hopf points, or found by simulation without one.

    Args:
        points: of the curve of equilibria.
    """
    found = special_points(model)
    v = np.unique([*np.linspace(*model.span, points), *(p.V for p in found.points)])
    equations = Equations(model)
    current, stable = equations.steady_current(v, {}), np.less(equations.growth(v, {}), 0)
    branches: list[CycleBranch] = []
    for hopf in sorted(found.hopfs, key=lambda p: p.I):
        if any(_meets(b, hopf) for b in branches):
            continue
        try:
            branches.append(_born_at(model, hopf))
        except ArithmeticError:
            continue
    if not branches:
        branches = _simulated(model)
    marks = tuple(m for b in branches for m in _marks(b))
    return BifurcationDiagram(model, v, current, stable, found.points, tuple(map(_cycles, branches)), marks)


def _born_at(model: Model, hopf: Special) -> CycleBranch:
    """As `excitability.cycle_branch`, in steps short enough for a smooth line."""
    system = model.system()
    orbit, direction = orbit_at_hopf(system, APPLIED, np.array([hopf.state[n] for n in model.states]), hopf.I)
    return continue_cycles(
        system, APPLIED, orbit, bounds=model_currents(model), towards=direction, largest_period=_LARGEST_PERIOD,
        largest_step=_STEP, most_points=_POINTS,
    )  # fmt: skip


def _meets(branch: CycleBranch, hopf: Special) -> bool:
    """Whether a branch that shrank to rest did so at this Hopf point."""
    last = branch.points[-1].orbit
    near = abs(last.parameter - hopf.I) < _MEETS * max(1.0, abs(hopf.I))
    return branch.ended == "rest" and near and last.lows[0] - 1.0 <= hopf.V <= last.highs[0] + 1.0


def _simulated(model: Model) -> list[CycleBranch]:
    """The branch through a cycle that simulation finds, both ways."""
    low, high = model_currents(model)
    tries = fi_curve(model, np.linspace(low, high, 42)[1:-1], rtol=1e-6, longest=2e4)
    if not tries.fires.any():
        return []
    k = int(np.flatnonzero(tries.fires)[tries.fires.sum() // 2])
    here, system = float(tries.currents[k]), model.system()
    middle = 0.5 * float(tries.lows[k] + tries.highs[k])
    orbit = orbit_by_simulation(system, APPLIED, here, tries.states[k], section=f"{VOLTAGE} - ({middle!r})")
    bounds, found = (low, high), []
    for sign in (-1.0, 1.0):
        try:
            found.append(continue_cycles(system, APPLIED, orbit, bounds=bounds, towards=sign,
                                         largest_period=_LARGEST_PERIOD, largest_step=_STEP,
                                         most_points=_POINTS))  # fmt: skip
        except ArithmeticError:
            continue
    return found


def _cycles(branch: CycleBranch) -> Cycles:
    known = [(k, p.stable) for k, p in enumerate(branch.points) if p.stable is not None]
    places = np.array([k for k, _ in known])
    stable = [known[int(np.abs(places - k).argmin())][1] if known else False for k in range(len(branch.points))]
    return Cycles(
        branch.parameters,
        np.array([p.orbit.lows[0] for p in branch.points]),
        np.array([p.orbit.highs[0] for p in branch.points]),
        branch.periods,
        np.array(stable, bool),
        branch.ended,
    )


def _marks(branch: CycleBranch) -> list[Mark]:
    names: dict[str, Any] = {"fold": "fold of cycles", "period doubling": "period doubling", "torus": "torus"}
    found = [_mark(names[s.kind], s.orbit, s.parameter, s.period) for s in branch.specials if s.kind in names]
    end = approach(branch)
    if end is not None:
        found.append(_mark(end.kind, branch.points[-1].orbit, end.parameter, math.inf))
    return found


def _mark(kind: Any, orbit: Orbit, current: float, period: float) -> Mark:
    return Mark(kind, float(current), float(orbit.lows[0]), float(orbit.highs[0]), float(period))
