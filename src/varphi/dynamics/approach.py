"""How a branch of cycles ends when the period grows without bound: the law, and what the orbit lingers at.

- At a saddle-node on the cycle the orbit passes the ghost of a fold of equilibria, T = π/√(α β |p - p_f|), where on the
  fold's slow direction x' = α (p - p_f) + β x²;
- at a homoclinic orbit it lingers at a saddle, |p - p_h| ~ exp(-λ T), where λ is the smaller of the saddle's leading
  rates of growth and decay (Kuznetsov, Elements of Applied Bifurcation Theory, 3rd ed., Springer 2004, chapter 6).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from .cycles import CycleBranch, Walker
from .equilibria import EquilibriumFollower
from .orbits import Direction, Orbit, Shape, split
from .system import System
from .variation import tabulated

Complex: TypeAlias = "np.ndarray[Any, np.dtype[np.complex128]]"
# An equilibrium this near to an orbit, relative to the orbit's size, is one that it lingers at.
_NEAR = 0.05
# How many times e the parameter's distance has shrunk where it is taken for the limit.
_SHRUNK = 25.0


@dataclass(frozen=True, eq=False)
class Approach:
    """What a branch of cycles ends at.

    Attributes:
        kind: "saddle-node on the cycle" or "homoclinic".
        parameter: there.
        state: of the equilibrium there.
        eigenvalues: of it, those with the largest real part first.
        law: "square root" or "logarithm".
        measured: on the branch's last orbits, the exponent of T ~ |p - p_f|^exponent, or λ in |p - p_h| ~ exp(-λ T).
        expected: -1/2, or the saddle's λ.
        ratio: at a saddle-node, the last orbit's period over the law's; NaN at a homoclinic orbit.
    """

    kind: Literal["saddle-node on the cycle", "homoclinic"]
    parameter: float
    state: Float[np.ndarray, " states"]
    eigenvalues: Complex
    law: Literal["square root", "logarithm"]
    measured: float
    expected: float
    ratio: float

    @property
    def follows_law(self) -> bool:
        """Whether the last orbits follow the law within 15 %: else they are too few, or the orbit is a special one."""
        return abs(self.measured / self.expected - 1) < 0.15


def approach(branch: CycleBranch, parameters: Mapping[str, float] | None = None) -> Approach | None:
    """What a branch that ended because its period grew too long ends at; None where it did not, or that is not clear.

    Args:
        parameters: those that the branch was made with.
    """
    if branch.ended != "period":
        return None
    last = branch.points[-1].orbit
    setting = branch.system.values({**(parameters or {}), branch.parameter: last.parameter})
    follower, slow, sizes = _around(branch.system, branch.parameter, setting, last)
    rest = _resting(follower, last, slow, sizes)
    if rest is not None:
        found = follower.point(rest).eigenvalues
        if (found.real > 0).any() and (found.real < 0).any():
            return _homoclinic(branch, follower, rest, setting)
    fold = follower.fold_near(np.append(slow, last.parameter))
    if fold is not None and _distance(last, fold[:-1], sizes) < _NEAR:
        return _saddle_node(branch, follower, fold)
    return None


def lingers_at(
    system: System, parameter: str, orbit: Orbit, parameters: Mapping[str, float] | None = None
) -> Float[np.ndarray, " states"] | None:
    """The equilibrium near which an orbit moves slowest, as the saddle of a homoclinic orbit.

    None where there is none, as at the ghost of a saddle-node.

    Args:
        parameter: the one whose value the orbit has.
        parameters: values of the others, where not the usual ones.
    """
    setting = system.values({**(parameters or {}), parameter: orbit.parameter})
    follower, slow, sizes = _around(system, parameter, setting, orbit)
    rest = _resting(follower, orbit, slow, sizes)
    return None if rest is None else rest[:-1]


def _around(
    system: System, parameter: str, setting: dict[str, Any], orbit: Orbit
) -> tuple[EquilibriumFollower, np.ndarray, np.ndarray]:
    sizes = np.ptp(orbit.y, axis=0)
    slow = _slowest(system, setting, orbit, sizes)
    follower = EquilibriumFollower(system, parameter, dict(setting), max(abs(orbit.parameter), 1e-3), 1e-12)
    follower.sizes = np.append(np.maximum(np.abs(slow), 1e-3), follower.range)
    return follower, slow, sizes


def _resting(follower: EquilibriumFollower, orbit: Orbit, slow: np.ndarray, sizes: np.ndarray) -> np.ndarray | None:
    rest = follower.corrected(np.append(slow, orbit.parameter), np.append(np.zeros(len(slow)), 1.0))
    return rest if rest is not None and _distance(orbit, rest[:-1], sizes) < _NEAR else None


def _slowest(system: System, setting: Mapping[str, Any], orbit: Orbit, sizes: np.ndarray) -> np.ndarray:
    """The state of the orbit at which it moves slowest."""
    values = {**setting, "t": 0.0} | {s: orbit.y[:, k] for k, s in enumerate(system.states)}
    flow = tabulated(system.rate_code, [values[name] for name in system.variables], len(orbit.y))
    return orbit.y[np.argmin(np.linalg.norm(flow / sizes, axis=1))]


def _distance(orbit: Orbit, state: np.ndarray, sizes: np.ndarray) -> float:
    return float(np.linalg.norm((orbit.y - state) / sizes, axis=1).min())


def _saddle_node(branch: CycleBranch, follower: EquilibriumFollower, fold: np.ndarray) -> Approach | None:
    distances, periods = np.abs(branch.parameters - fold[-1]), branch.periods
    near = np.flatnonzero(periods > periods[-1] / 10)
    if near.size < 2 or not (distances[near] > 0).all():
        return None
    exponent = float(np.polyfit(np.log(distances[near]), np.log(periods[near]), 1)[0])
    if not -0.7 < exponent < -0.35:
        return None
    drive, bend = follower.slow_motion(fold)
    law = math.pi / math.sqrt(abs(drive * bend) * float(distances[-1]))
    return Approach(
        "saddle-node on the cycle", float(fold[-1]), fold[:-1], follower.point(fold).eigenvalues, "square root",
        exponent, -0.5, float(periods[-1]) / law,
    )  # fmt: skip


def _homoclinic(
    branch: CycleBranch, follower: EquilibriumFollower, rest: np.ndarray, setting: dict[str, Any]
) -> Approach | None:
    eigenvalues = follower.point(rest).eigenvalues
    rate = float(min(eigenvalues.real[eigenvalues.real > 0].min(), -eigenvalues.real[eigenvalues.real < 0].max()))
    periods, parameters = branch.periods, branch.parameters
    late = np.flatnonzero(rate * (periods - periods.min()) > _SHRUNK)
    orbit = branch.points[int(late[0]) if late.size else -1].orbit
    limit = _finer(branch, orbit, setting)
    if limit is None:
        return None
    # The last orbits whose distance is well above what the mesh leaves.
    noise = max(abs(limit - orbit.parameter), 1e-13 * max(1.0, abs(limit)))
    distances = np.abs(parameters - limit)
    end = np.flatnonzero(distances > 100 * noise)
    seen = end[-4:]
    if len(seen) < 3 or not (np.diff(seen) == 1).all():
        return None
    measured = -float(np.polyfit(periods[seen], np.log(distances[seen]), 1)[0])
    at = follower.corrected(np.append(rest[:-1], limit), np.append(np.zeros(len(rest) - 1), 1.0))
    state = rest if at is None else at
    return Approach(
        "homoclinic", limit, state[:-1], eigenvalues, "logarithm", measured, rate, math.nan,
    )  # fmt: skip


def _finer(branch: CycleBranch, orbit: Orbit, setting: dict[str, Any]) -> float | None:
    """The parameter of an orbit of this period on a mesh of four times as many intervals."""
    walker = Walker.of(branch.system, branch.parameter, dict(setting), 1e-9, max(abs(orbit.parameter), 1e-3))
    walker.sizes = np.ptp(orbit.y, axis=0)
    shape = Shape(orbit.mesh, orbit.y, np.array([orbit.period, orbit.parameter]))
    fine = shape.on(split(walker.adapted(shape), 4))
    kept = Direction(np.zeros_like(fine.y), np.array([1.0, 0.0]))
    found = walker.correct(fine, walker.normed(kept, fine))
    return None if found is None else float(found.shape.scalars[1])
