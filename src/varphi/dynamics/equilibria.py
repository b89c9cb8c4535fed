"""Branches of equilibria: continuation in one parameter, with folds, Hopf points and stability."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from varphi.numbers.jet import partial

from .system import System

Complex: TypeAlias = "np.ndarray[Any, np.dtype[np.complex128]]"


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """A state of rest on a branch.

    Attributes:
        state: the states.
        parameter: the parameter's value.
        eigenvalues: of the Jacobian, those with the largest real part first.
    """

    state: Float[np.ndarray, " states"]
    parameter: float
    eigenvalues: Complex

    @property
    def stable(self) -> bool:
        """Whether small disturbances die out."""
        return bool(np.all(self.eigenvalues.real < 0))


@dataclass(frozen=True)
class SpecialEquilibrium:
    """Where a branch changes.

    Attributes:
        kind: "fold", where the branch turns back in the parameter, or "hopf", where a pair of eigenvalues crosses the
            imaginary axis.
        at: the equilibrium there.
        frequency: of the pair at a Hopf point (angular); else 0.
    """

    kind: Literal["fold", "hopf"]
    at: Equilibrium
    frequency: float = 0.0


@dataclass(frozen=True, eq=False)
class EquilibriumBranch:
    """A branch of equilibria.

    Attributes:
        points: in order.
        specials: folds and Hopf points.
        ended: why it ends: "parameter" (left the range), "steps", or "lost".
    """

    system: System
    parameter: str
    points: tuple[Equilibrium, ...]
    specials: tuple[SpecialEquilibrium, ...]
    ended: str

    @property
    def folds(self) -> tuple[SpecialEquilibrium, ...]:
        return tuple(s for s in self.specials if s.kind == "fold")

    @property
    def parameters(self) -> Float[np.ndarray, " points"]:
        return np.array([p.parameter for p in self.points])

    def state(self, name: str) -> Float[np.ndarray, " points"]:
        """One state along the branch."""
        place = self.system.states.index(name)
        return np.array([p.state[place] for p in self.points])


def continue_equilibria(
    system: System,
    parameter: str,
    start: Any,
    *,
    bounds: tuple[float, float],
    begin: float | None = None,
    parameters: Mapping[str, float] | None = None,
    most_points: int = 1000,
    largest_step: float = 0.02,
    tolerance: float = 1e-12,
) -> EquilibriumBranch:
    """Follow a branch of equilibria from one end of a parameter's range, through folds, until it leaves the range.

    Args:
        system, parameter: what is varied in what.
        start: an equilibrium, roughly: a mapping by name or a sequence.
        bounds: the range of the parameter.
        begin: where to begin, the lower bound if not given; the branch sets out towards larger values, or towards
            smaller ones from the upper bound.
        parameters: values of the other parameters, where not the usual ones.
        most_points: the branch ends after so many points.
        largest_step: along the branch, relative to the sizes of the states and of the range.
        tolerance: of Newton's method, relative to these.

    Raises:
        ValueError: for unusable arguments.
        ArithmeticError: there is no equilibrium near the start.
    """
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"bounds must be finite and increasing, got {bounds!r}")
    first = low if begin is None else float(begin)
    if not low <= first <= high:
        raise ValueError(f"the beginning {first:g} lies outside the bounds {bounds!r}")
    state = np.array([float(v) for v in system.named(start).values()])
    if not np.isfinite(state).all():
        raise ValueError("the start must be finite numbers")
    follower = EquilibriumFollower(system, parameter, system.values(parameters or {}), high - low, tolerance)
    return follower.follow(state, first, bounds, most_points, largest_step)


def hopf_near(
    system: System,
    parameter: str,
    setting: Mapping[str, Any],
    state: Float[np.ndarray, " states"],
    value: float,
    frequency: float,
) -> tuple[Float[np.ndarray, " states"], float, float] | None:
    """The Hopf point near a state and a parameter: state, parameter, angular frequency; None if none is met.

    A zero, by secants in the parameter, of the real part of the pair that turns about this fast.
    """
    follower = EquilibriumFollower(system, parameter, dict(setting), max(abs(value), 1e-3), 1e-13)
    follower.sizes = np.append(np.maximum(np.abs(state), 1e-3), follower.range)
    fixed = np.append(np.zeros(follower.n), 1.0)

    def pair(z: np.ndarray) -> complex:
        values = follower.point(z).eigenvalues
        return complex(values[np.argmin(np.abs(values - 1j * frequency))])

    tried: list[tuple[np.ndarray, float]] = []
    at, guess = value, np.append(state, value)
    for _ in range(30):
        z = follower.corrected(np.append(guess[:-1], at), fixed)
        if z is None:
            return None
        turning = pair(z)
        tried.append((z, turning.real))
        if abs(turning.real) <= 1e-14 * abs(turning) or (len(tried) > 2 and tried[-1][0][-1] == tried[-2][0][-1]):
            break
        if len(tried) == 1:
            at = value + 1e-4 * follower.range
        else:
            (p, a), (q, b) = ((float(t[0][-1]), t[1]) for t in tried[-2:])
            if a == b:
                break
            at = q - b * (q - p) / (b - a)
        guess = z
    z, rest = min(tried, key=lambda t: abs(t[1]))
    turning = pair(z)
    near = abs(z[-1] - value) <= 0.05 * follower.range
    return (z[:-1], float(z[-1]), abs(turning.imag)) if near and abs(rest) <= 1e-9 * abs(turning) else None


@dataclass
class EquilibriumFollower:
    """Corrects and follows equilibria z = (states, parameter)."""

    system: System
    parameter: str
    setting: dict[str, Any]
    range: float
    tolerance: float
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """What changes of the states and the parameter are measured by."""

    def __post_init__(self) -> None:
        if self.parameter not in self.setting:
            raise ValueError(f"no parameter {self.parameter!r}; there are {', '.join(self.setting) or 'none'}")
        n = len(self.system.states)
        slopes = [*(e for row in self.system.jacobian for e in row)]
        by_parameter = [partial(r, self.parameter) for r in self.system.rates]
        self.code = self.system.function([*self.system.rates, *slopes, *by_parameter])
        self.rows, self.out, self.n = np.zeros((self.code.inputs, 8)), np.zeros((self.code.outputs, 8)), n

    def evaluated(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f and its derivatives by states and parameter, (n,) and (n, n + 1), at z = (states, parameter)."""
        n = self.n
        self.setting[self.parameter] = float(z[n])
        self.rows[:, 0] = [*z[:n], *self.setting.values(), 0.0]
        self.rows[:, 1:] = self.rows[:, :1]
        self.code(self.rows.ctypes.data, self.out.ctypes.data)
        found = self.out[:, 0]
        return found[:n].copy(), np.hstack([found[n : n + n * n].reshape(n, n), found[n + n * n :, None]])

    def follow(
        self, state: np.ndarray, first: float, bounds: tuple[float, float], most: int, widest: float
    ) -> EquilibriumBranch:
        n = self.n
        self.sizes = np.append(np.maximum(np.abs(state), 1e-3), self.range)
        fixed = np.append(np.zeros(n), 1.0)
        z = self.corrected(np.append(state, first), fixed)
        tangent = None if z is None else self.tangent(z, fixed if first < bounds[1] else -fixed)
        if z is None or tangent is None:
            raise ArithmeticError(f"no equilibrium was found near the start at {self.parameter} = {first:g}")
        points, specials, step, ended = [self.point(z)], [], widest / 4, "steps"
        while len(points) < most:
            self.sizes[:n] = np.maximum(self.sizes[:n], np.abs(z[:n]))
            ahead = self.corrected(z + step * tangent * self.sizes, tangent)
            turned = None if ahead is None else self.tangent(ahead, tangent)
            if ahead is None or turned is None or turned @ tangent < 0.95:
                step /= 2
                if step < 1e-9:
                    ended = "lost"
                    break
                continue
            now = self.point(ahead)
            specials += self.between(z, tangent, points[-1], now, turned, step)
            points.append(now)
            z, tangent = ahead, turned
            if not bounds[0] <= z[n] <= bounds[1]:
                ended = "parameter"
                break
            step = min(1.5 * step, widest)
        return EquilibriumBranch(self.system, self.parameter, tuple(points), tuple(specials), ended)

    def corrected(self, guess: np.ndarray, normal: np.ndarray) -> np.ndarray | None:
        """Newton's method in the plane through the guess with this normal, in units of the sizes."""
        z = guess.copy()
        for _ in range(12):
            f, slopes = self.evaluated(z)
            matrix = np.vstack([slopes * self.sizes, normal])
            rest = np.append(-f, -normal @ ((z - guess) / self.sizes))
            scale = np.maximum(np.abs(matrix).max(1, keepdims=True), 1e-300)
            try:
                change = np.linalg.solve(matrix / scale, rest / scale[:, 0])
            except np.linalg.LinAlgError:
                return None
            if not np.isfinite(change).all():
                return None
            z = z + change * self.sizes
            size = float(np.abs(change).max())
            if size > 10:
                return None
            if size < self.tolerance:
                return z
        return None

    def tangent(self, z: np.ndarray, ahead: np.ndarray) -> np.ndarray | None:
        """The branch's direction in units of the sizes, towards `ahead`."""
        _, slopes = self.evaluated(z)
        try:
            _, _, vectors = np.linalg.svd(slopes * self.sizes / np.abs(slopes * self.sizes).max(1, keepdims=True))
        except np.linalg.LinAlgError:
            return None
        direction = vectors[-1]
        return direction if direction @ ahead >= 0 else -direction

    def null(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The right and left singular vectors of the Jacobian's smallest singular value, with product 1."""
        u, _, v = np.linalg.svd(self.evaluated(z)[1][:, : self.n])
        right, left = v[-1], u[:, -1]
        return right, left / (left @ right)

    def bent(self, z: np.ndarray, v: np.ndarray) -> np.ndarray:
        """B(v, v): the second derivative of f in this direction, by differences of J v."""
        h = 1e-4 * float(np.min(self.sizes[:-1] / np.maximum(np.abs(v), 1e-300)))
        step = np.append(h * v, 0.0)
        sides = [self.evaluated(z + s * step)[1][:, : self.n] @ v for s in (1, -1)]
        return (sides[0] - sides[1]) / (2 * h)

    def slow_motion(self, fold: np.ndarray) -> tuple[float, float]:
        """α, β of x' = α (p - p_f) + β x² along the slow direction of a fold."""
        right, left = self.null(fold)
        by_parameter = self.evaluated(fold)[1][:, self.n]
        return float(left @ by_parameter), float(left @ self.bent(fold, right)) / 2

    def fold_near(self, z: np.ndarray) -> np.ndarray | None:
        """The fold near a state and a parameter, None if Newton's method meets none.

        In the border form f = 0, left·J·right = 0, whose gradient along v is left·B(v, right).
        """
        n, z = self.n, z.copy()
        for _ in range(40):
            f, slopes = self.evaluated(z)
            u, s, v = np.linalg.svd(slopes[:, :n])
            right, left = v[-1], u[:, -1]
            steps = self.sizes * 1e-5
            gradient = np.empty(n + 1)
            for k in range(n + 1):
                there = z.copy()
                there[k] += steps[k]
                back = z.copy()
                back[k] -= steps[k]
                ahead, behind = (self.evaluated(x)[1][:, :n] for x in (there, back))
                gradient[k] = left @ (ahead - behind) @ right / (2 * steps[k])
            matrix = np.vstack([slopes, gradient]) * self.sizes
            rest = -np.append(f, s[-1])
            scale = np.maximum(np.abs(matrix).max(1), 1e-300)
            try:
                change = np.linalg.solve(matrix / scale[:, None], rest / scale)
            except np.linalg.LinAlgError:
                return None
            size = float(np.abs(change).max())
            if not math.isfinite(size) or size > 10:
                return None
            z = z + change * self.sizes * min(1.0, 0.3 / max(size, 1e-300))
            if size < 1e-10:
                return z
        return None

    def point(self, z: np.ndarray) -> Equilibrium:
        _, slopes = self.evaluated(z)
        values: Complex = np.asarray(np.linalg.eigvals(slopes[:, : self.n]), np.complex128)
        return Equilibrium(z[: self.n].copy(), float(z[self.n]), values[np.argsort(-values.real)])

    def between(
        self, z: np.ndarray, tangent: np.ndarray, last: Equilibrium, now: Equilibrium, turned: np.ndarray, step: float
    ) -> list[SpecialEquilibrium]:
        found: list[SpecialEquilibrium] = []
        if tangent[-1] * turned[-1] < 0:
            at = self.located(z, tangent, step, lambda q, p: float(p[-1]), float(tangent[-1]))
            if at is not None:
                found.append(SpecialEquilibrium("fold", at))
        pairs = [int(np.sum((e.eigenvalues.imag > 0) & (e.eigenvalues.real > 0))) for e in (last, now)]
        if pairs[0] != pairs[1]:
            before = _hopf(last.eigenvalues)
            at = self.located(z, tangent, step, lambda q, p: _hopf(self.point(q).eigenvalues), before)
            if at is not None:
                pair = at.eigenvalues[at.eigenvalues.imag > 0]
                if len(pair):
                    nearest = pair[np.argmin(np.abs(pair.real))]
                    # Two real eigenvalues of opposite sign may meet the test as well: they do not turn.
                    if abs(nearest.real) < 1e-6 * abs(nearest):
                        found.append(SpecialEquilibrium("hopf", at, float(nearest.imag)))
        return found

    def located(self, z: np.ndarray, tangent: np.ndarray, step: float, test: Any, before: float) -> Equilibrium | None:
        """A zero of a test function between two points of the branch, by bisection and secants."""
        low, high, a, best = 0.0, step, before, None
        for _ in range(60):
            at = (low + high) / 2
            q = self.corrected(z + at * tangent * self.sizes, tangent)
            direction = None if q is None else self.tangent(q, tangent)
            if q is None or direction is None:
                return None
            best, c = q, test(q, direction)
            if c == 0 or high - low < 1e-14 * step:
                break
            if (c > 0) == (a > 0):
                low = at
            else:
                high = at
        return None if best is None else self.point(best)


def _hopf(eigenvalues: Complex) -> float:
    """The real part of the complex pair that is nearest to the imaginary axis."""
    pair = eigenvalues[eigenvalues.imag > 0]
    return float(pair[np.argmin(np.abs(pair.real))].real) if len(pair) else math.nan
