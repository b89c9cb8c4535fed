"""Branches of periodic orbits: continuation in one parameter, with folds, stability and period.

Orbits are found by collocation (`collocation`) and followed by pseudo-arclength, so that a branch goes on where it
turns back in the parameter. The mesh adapts to the orbit; the step adapts to how the branch bends, also in the
parameter alone: two folds that lie close together are seen as two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import scipy.linalg
from jaxtyping import Float

from .ensemble import Cycle, Status, simulate
from .equilibria import hopf_near
from .orbits import (
    PERIOD,
    Condition,
    Corrected,
    Direction,
    Follower,
    Orbit,
    Shape,
    illinois,
    places,
    shares,
    shares_through_rest,
    split,
)
from .system import System
from .variation import null_solution

Complex: TypeAlias = "np.ndarray[Any, np.dtype[np.complex128]]"
# What stands for log |μ| where no multiplier is negative.
_FAR = 10.0
# How far beside the single orbit a doubled one is begun, relative to its size.
_BESIDE = 0.02
# A fold is found again on meshes of so many times as many intervals, until one agrees with the one before.
_MESHES = (2, 4)


@dataclass(frozen=True, eq=False)
class Point:
    """An orbit on a branch.

    Attributes:
        orbit: the orbit.
        multipliers: its Floquet multipliers but the trivial one, largest first.
        trivial: the multiplier that ought to be 1.
        error: how far the linearised flow misses f after a period, relative to f: how accurate the multipliers are.
        parameter_slope: how fast the parameter changes along the branch; 0 at a fold.
    """

    orbit: Orbit
    multipliers: Complex
    trivial: float
    error: float
    parameter_slope: float

    @property
    def is_reliable(self) -> bool:
        """Whether the multipliers have digits: near a homoclinic orbit they differ by too many powers of ten."""
        return self.error < 1e-3

    @property
    def stable(self) -> bool | None:
        """Whether small disturbances die out; None where that cannot be told."""
        return bool(np.all(np.abs(self.multipliers) < 1)) if self.is_reliable else None


@dataclass(frozen=True)
class Special:
    """A point where the branch changes.

    Attributes:
        kind: "fold" (of cycles), "period doubling", "torus", or "hopf", where the orbit shrinks to an equilibrium.
        parameter, period: there.
        orbit: the orbit; at a Hopf point the last one before it.
    """

    kind: Literal["fold", "period doubling", "torus", "hopf"]
    parameter: float
    period: float
    orbit: Orbit


@dataclass(frozen=True, eq=False)
class CycleBranch:
    """A branch of periodic orbits.

    Attributes:
        parameter: the name of what was varied.
        points: the orbits, in order.
        specials: folds of cycles, period doublings, torus bifurcations.
        ended: why it ends: "parameter" (left the range), "period" (grew beyond the largest: near a homoclinic orbit or
            a saddle-node on the cycle), "rest" (shrank to an equilibrium), "steps", or "lost".
    """

    system: System
    parameter: str
    points: tuple[Point, ...]
    specials: tuple[Special, ...]
    ended: str

    @property
    def folds(self) -> tuple[Special, ...]:
        return tuple(s for s in self.specials if s.kind == "fold")

    @property
    def parameters(self) -> Float[np.ndarray, " points"]:
        return np.array([p.orbit.parameter for p in self.points])

    @property
    def periods(self) -> Float[np.ndarray, " points"]:
        return np.array([p.orbit.period for p in self.points])


def orbit_at_hopf(
    system: System,
    parameter: str,
    state: Float[np.ndarray, " states"],
    value: float,
    *,
    parameters: Mapping[str, float] | None = None,
    intervals: int = 60,
    degree: int = 4,
) -> tuple[Orbit, Orbit]:
    """A small orbit around a Hopf point, and the direction in which it grows.

    Args:
        state, value: the equilibrium and the parameter at the Hopf point.
        parameters: values of the other parameters, where not the usual ones.

    Raises:
        ValueError: the Jacobian there has no imaginary pair.
    """
    setting = system.values({**(parameters or {}), parameter: value})
    jacobian = _matrix(system, np.asarray(state, float), setting)
    found = np.linalg.eig(jacobian)
    eigenvalues: Complex = np.asarray(found.eigenvalues, np.complex128)
    vectors: Complex = np.asarray(found.eigenvectors, np.complex128)
    turning = np.flatnonzero(eigenvalues.imag > 1e-9 * np.abs(eigenvalues).max())
    if not turning.size:
        raise ValueError(f"the Jacobian at {parameter} = {value:g} has no complex eigenvalues: no Hopf point is there")
    which = turning[np.argmin(np.abs(eigenvalues[turning].real))]
    frequency = eigenvalues[which].imag
    if abs(eigenvalues[which].real) > 1e-3 * frequency:
        raise ValueError(
            f"the complex pair at {parameter} = {value:g} has the real part {eigenvalues[which].real:g}: "
            "not a Hopf point"
        )
    q = vectors[:, which] / np.abs(vectors[:, which]).max()
    largest = int(np.argmax(np.abs(q)))
    size = 5e-3 * max(1.0, abs(state[largest]))
    mesh = np.linspace(0, 1, intervals + 1)
    wave = np.real(np.exp(2j * np.pi * places(mesh, degree))[:, None] * q)
    period = 2 * math.pi / float(frequency)
    orbit = Orbit(mesh, state + size * wave, period, value)
    return orbit, Orbit(mesh, wave, 0.0, 0.0)


def orbit_at_doubling(
    system: System,
    parameter: str,
    doubling: Special,
    *,
    parameters: Mapping[str, float] | None = None,
) -> tuple[Orbit, Orbit]:
    """An orbit of twice the period beside a period doubling, and the direction in which it leaves the single one.

    Both are starts for `continue_cycles`, as those of `orbit_at_hopf` are.

    Args:
        doubling: from a branch's `specials`.
        parameters: values of the other parameters, where not the usual ones.

    Raises:
        ValueError: another kind of special point.
    """
    if doubling.kind != "period doubling":
        raise ValueError(f"orbits double at a period doubling; this is a point of kind {doubling.kind!r}")
    single = doubling.orbit
    setting = system.values({**(parameters or {}), parameter: doubling.parameter})
    v, _ = null_solution(system, setting, single, -1)
    mesh = np.append(single.mesh[:-1] / 2, (single.mesh + 1) / 2)
    twice, alternating = (np.vstack([first[:-1], second]) for first, second in ((single.y, single.y), (v, -v)))
    orbit = Orbit(mesh, twice + _BESIDE * alternating, 2 * doubling.period, doubling.parameter)
    return orbit, Orbit(mesh, alternating, 0.0, 0.0)


def orbit_by_simulation(
    system: System,
    parameter: str,
    value: float,
    start: Any,
    *,
    section: str,
    parameters: Mapping[str, float] | None = None,
    longest: float = 1e5,
    intervals: int = 60,
    degree: int = 4,
) -> Orbit:
    """A stable orbit, found by waiting for it.

    Args:
        section: a formula whose rising zero the orbit crosses.
        longest: how long to wait.

    Raises:
        ArithmeticError: no orbit closed.
    """
    setting = {**(parameters or {}), parameter: value}
    options: Any = {"parameters": setting, "rtol": 1e-9, "atol": 1e-9, "progress": False}
    found = simulate(system, longest, start, cycle=Cycle(section), **options)
    if Status(found.status[0]) is not Status.CLOSED:
        raise ArithmeticError(f"no periodic orbit at {parameter} = {value:g}: {Status(found.status[0]).told}")
    period = float(found.periods[0])
    mesh = np.linspace(0, 1, intervals + 1)
    fine = 20 * intervals
    course = simulate(system, period, found.ends[0], times=np.linspace(0, period, fine + 1), **options)
    # A mesh that follows the orbit's length, with a part that is uniform.
    moves = np.linalg.norm(np.diff(course.states[0], axis=0) / np.ptp(course.states[0], axis=0), axis=1)
    length = np.concatenate([[0], np.cumsum(moves / moves.sum() + 1 / fine)]) / 2
    mesh = np.interp(mesh, length, np.linspace(0, 1, fine + 1))
    times = np.minimum(places(mesh, degree), 1 - 1e-12) * period
    states = simulate(system, period, found.ends[0], times=times, **options).states[0]
    states[-1] = states[0]
    return Orbit(mesh, states, period, value)


def continue_cycles(
    system: System,
    parameter: str,
    start: Orbit,
    *,
    bounds: tuple[float, float],
    towards: Orbit | float = 1.0,
    parameters: Mapping[str, float] | None = None,
    largest_period: float = 1e4,
    most_points: int = 400,
    tolerance: float = 1e-9,
    largest_step: float = 0.25,
) -> CycleBranch:
    """Follow a branch of periodic orbits.

    Args:
        system, parameter: what is varied in what.
        start: an orbit to begin with, roughly: it is corrected first.
        bounds: the range of the parameter.
        towards: the first direction: the change of an orbit (from `orbit_at_hopf`), or the sign of the parameter's
            change.
        parameters: values of the other parameters, where not the usual ones.
        largest_period: the branch ends where the period is longer.
        most_points: or after so many points.
        tolerance: of Newton's method, relative to the orbit's size.
        largest_step: along the branch, relative to the orbit's size.

    Raises:
        ValueError: for an unknown parameter.
        ArithmeticError: the start cannot be corrected to an orbit.
    """
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"bounds must be finite and increasing, got {bounds!r}")
    walker = Walker.of(system, parameter, system.values(parameters or {}), tolerance, abs(high - low))
    return walker.walk(start, towards, bounds, largest_period, most_points, largest_step)


def _phase(follower: Follower, behind: Shape) -> list[Condition]:
    return [follower.phase(behind)]


class Walker(Follower):
    """A follower of cycles: the period and one parameter are free."""

    @staticmethod
    def of(system: System, parameter: str, setting: dict[str, Any], tolerance: float, parameter_size: float) -> Walker:
        return Walker(
            system, (PERIOD, parameter), setting, {parameter: parameter_size}, _phase, tolerance=tolerance
        )  # fmt: skip

    @property
    def parameter(self) -> str:
        return self.free[1]

    def begin(self, start: Orbit, towards: Orbit | float) -> Corrected:
        """The first orbit.

        Raises:
            ArithmeticError: the start cannot be corrected to one.
        """
        found: Corrected | None = None
        centre = shares(start.mesh, start.degree) @ start.y
        # Around a Hopf point a small orbit may drown in rounding: then a larger one.
        for larger in (1.0, 4.0, 16.0) if isinstance(towards, Orbit) else (1.0,):
            y = centre + larger * (start.y - centre)
            self.sizes = np.ptp(y, axis=0)
            shape = Shape(start.mesh, y, np.array([start.period, start.parameter]))
            if isinstance(towards, Orbit):
                first = Direction(towards.y.copy(), np.zeros(2))
            else:
                first = Direction(np.zeros_like(y), np.array([0.0, math.copysign(1.0, towards)]))
            found = self.correct(shape, self.normed(first, shape))
            if found is not None:
                break
        if found is None:
            raise ArithmeticError(
                f"no periodic orbit was found near the start at {self.parameter} = {start.parameter:g}"
            )
        if not isinstance(towards, Orbit) and slope(found) * towards < 0:
            found.tangent = -found.tangent
        return found

    def walk(
        self,
        start: Orbit,
        towards: Orbit | float,
        bounds: tuple[float, float],
        longest: float,
        most: int,
        widest: float,
    ) -> CycleBranch:
        current = self.begin(start, towards)
        points: list[Point] = [point(current)]
        specials: list[Special] = []
        step, ended = 0.05, "steps"
        while len(points) < most:
            ahead = self.step(current, step)
            if ahead is None or not self.is_resolved(current, ahead, step):
                step /= 2
                if step < 1e-7:
                    ended = "lost"
                    break
                continue
            hopf = self.through_rest(current.shape, ahead.shape)
            if hopf is not None:
                specials.append(hopf)
                ended = "rest"
                break
            now = point(ahead)
            specials += self.between(current, ahead, points[-1], now, step)
            current = ahead
            points.append(now)
            if not bounds[0] <= now.orbit.parameter <= bounds[1]:
                ended = "parameter"
                break
            if now.orbit.period > longest:
                ended = "period"
                break
            if current.iterations <= 3:
                step = min(1.6 * step, widest)
            elif current.iterations > 5:
                step *= 0.6
            if len(points) % 3 == 0:
                current = self.remeshed(current)
            self.sizes = np.maximum(self.sizes, np.ptp(current.shape.y, axis=0))
            current.tangent = self.normed(current.tangent, current.shape)
        return CycleBranch(self.system, self.parameter, tuple(points), tuple(specials), ended)

    def is_resolved(self, behind: Corrected, ahead: Corrected, length: float) -> bool:
        """Whether the branch between two points is as smooth as it looks from them."""
        cosine = self.inner(behind.tangent, ahead.tangent, ahead.shape)
        if cosine < 0.9:
            return False
        a, b = slope(behind), slope(ahead)
        secant = float(ahead.shape.scalars[1] - behind.shape.scalars[1]) / length
        bend = abs(secant - (a + b) / 2)
        return bend <= 0.15 * max(abs(a), abs(b)) or bend * length <= 1e-7 * self.scales[self.parameter]

    def through_rest(self, behind: Shape, ahead: Shape) -> Special | None:
        """The Hopf point between two orbits that swing in opposite phase, if they do: the branch went through it."""
        place = shares_through_rest(behind, ahead, self.share(behind), self.sizes)
        if place is None:
            return None
        period, parameter = behind.scalars + place * (ahead.scalars - behind.scalars)
        means = [self.share(behind) @ o.y for o in (behind, ahead)]
        centre = means[0] + place * (means[1] - means[0])
        exact = hopf_near(
            self.system, self.parameter, self.setting, centre, float(parameter), 2 * math.pi / float(period)
        )
        if exact is not None:
            parameter, period = exact[1], 2 * math.pi / exact[2]
        return Special("hopf", float(parameter), float(period), orbit_of(behind))

    def between(self, behind: Corrected, ahead: Corrected, last: Point, now: Point, length: float) -> list[Special]:
        """What happens on the way from one point to the next."""
        found: list[Special] = []
        if slope(behind) * slope(ahead) < 0:
            found += self.confirmed_fold(behind, 0.0, length)
        kind = _crossing(last, now)
        if kind is not None:
            found += self.confirmed_crossing(kind, behind, length)
        return found

    # Folds ----------------------------------------------------------------------------------------------------------

    def confirmed_fold(self, origin: Corrected, low: float, high: float) -> list[Special]:
        """The fold between two places along the branch, if it is one.

        Near a homoclinic orbit the parameter stands still, and turns of it come from the mesh. At a fold its slopes on
        both sides are the same on two meshes, and a multiplier passes 1.
        """
        margin = (high - low) / 2
        ends, before = (low - margin, high + margin), self.slopes(origin, (low - margin, high + margin))
        if before is None or before[0] * before[1] > 0:
            ends, before = (low, high), self.slopes(origin, (low, high))
        for finer in _MESHES:
            start = None if before is None else self.moved(origin, split(origin.shape.mesh, finer))
            slopes = None if start is None else self.slopes(start, ends)
            if before is None or start is None or slopes is None:
                return []
            if _agree(slopes, before):
                if slopes[0] * slopes[1] > 0:
                    return []
                at = self.zero(start, ends, slopes, slope)
                return [special("fold", at)] if at is not None and self.may_fold(start, ends) else []
            before = slopes
        return []

    def slopes(self, origin: Corrected, ends: tuple[float, float]) -> tuple[float, float] | None:
        found = [self.at(origin, e) for e in ends]
        return None if found[0] is None or found[1] is None else (slope(found[0]), slope(found[1]))

    def at(self, origin: Corrected, place: float) -> Corrected | None:
        return origin if place == 0 else self.step(origin, place)

    def zero(
        self,
        origin: Corrected,
        ends: tuple[float, float],
        values: tuple[float, float],
        test: Callable[[Corrected], float | None],
    ) -> Corrected | None:
        """Where a test of an orbit is zero, between two places along the branch at which it has these values."""
        last: list[Corrected] = []

        def along(place: float) -> float | None:
            there = self.at(origin, place)
            last[:] = [] if there is None else [there]
            return None if there is None else test(there)

        place = illinois(along, *ends, *values, rtol=1e-7)
        return None if place is None else last[0]

    def may_fold(self, origin: Corrected, ends: tuple[float, float]) -> bool:
        """Whether the number of real multipliers above 1 changes by an odd one, as far as they have digits."""
        counts = []
        for place in ends:
            there = self.at(origin, place)
            seen = None if there is None else point(there)
            if seen is None or not seen.is_reliable:
                return True
            counts.append(int(np.sum(_real(seen.multipliers) > 1)))
        return (counts[0] - counts[1]) % 2 == 1

    # Multipliers that leave the unit circle -------------------------------------------------------------------------

    def confirmed_crossing(
        self, kind: Literal["period doubling", "torus"], origin: Corrected, length: float
    ) -> list[Special]:
        """Where multipliers pass the unit circle, on a mesh twice as fine; nothing if there they do not."""
        start = self.moved(origin, split(origin.shape.mesh, 2))
        if start is None:
            return []
        first, last = start, self.step(start, length)
        if last is None:
            return []

        def test(at: Corrected) -> float | None:
            return _outside(kind, point(at))

        values = test(first), test(last)
        if values[0] is None or values[1] is None or values[0] * values[1] > 0:
            return []
        found = self.zero(start, (0.0, length), (values[0], values[1]), test)
        return [special(kind, found)] if found is not None and point(found).is_reliable else []


def slope(at: Corrected) -> float:
    """How fast the parameter changes along the branch."""
    return float(at.tangent.scalars[1])


def orbit_of(shape: Shape) -> Orbit:
    """An orbit whose free scalars are the period and one parameter."""
    return Orbit(shape.mesh, shape.y, float(shape.scalars[0]), float(shape.scalars[1]))


def special(kind: Any, at: Corrected) -> Special:
    """A special point at an orbit."""
    orbit = orbit_of(at.shape)
    return Special(kind, orbit.parameter, orbit.period, orbit)


def point(at: Corrected) -> Point:
    """An orbit with its Floquet multipliers."""
    # C y_0 + D y_N = 0 with y_N = μ y_0. The flow is a solution with μ = 1; what is left of the pair has the others,
    # which therefore keep their digits where one of them passes 1.
    c, d = at.pair[0], at.pair[1]
    basis = _basis(at.flow)
    ends = c @ basis[:, 0], d @ basis[:, 0]
    rows = _basis(ends[1])
    rest = [(rows.T @ part @ basis)[1:, 1:] for part in (c, d)]
    values: Complex = np.asarray(scipy.linalg.eigvals(rest[0], -rest[1]), np.complex128)
    values = values[np.isfinite(values)]
    trivial = -float(ends[0] @ ends[1] / (ends[1] @ ends[1]))
    error = float(np.linalg.norm(ends[0] + ends[1]) / np.linalg.norm(ends[1]))
    return Point(orbit_of(at.shape), values[np.argsort(-np.abs(values))], trivial, error, slope(at))


def _basis(v: np.ndarray) -> np.ndarray:
    """An orthonormal basis that begins with v's direction: Householder's reflection."""
    w = v / np.linalg.norm(v)
    w[0] += math.copysign(1.0, w[0])
    return np.eye(len(w)) - np.outer(w, w) * (2.0 / (w @ w))


def _agree(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether numbers on two meshes are the same, sign and size."""
    return all(abs(x - y) <= 0.2 * abs(x) for x, y in zip(a, b, strict=True))


def _real(multipliers: Complex) -> np.ndarray:
    return multipliers.real[np.abs(multipliers.imag) <= 1e-9 * np.abs(multipliers)]


def _pairs(multipliers: Complex) -> Complex:
    return multipliers[multipliers.imag > 1e-6 * np.abs(multipliers)]


def _outside(kind: Literal["period doubling", "torus"], at: Point) -> float | None:
    """A number that changes sign as a multiplier passes -1, or a pair the unit circle; None without a pair."""
    if kind == "period doubling":
        side = math.copysign(1.0, float(np.prod((1 + at.multipliers) / (1 + np.abs(at.multipliers))).real))
        below = -_real(at.multipliers)
        nearest = np.abs(np.log(below[below > 0])).min(initial=_FAR)
        return side * float(nearest)
    found = np.log(np.abs(_pairs(at.multipliers)))
    return float(found[np.argmin(np.abs(found))]) if found.size else None


def _crossing(before: Point, after: Point) -> Literal["period doubling", "torus"] | None:
    """Whether a multiplier passed -1, or a pair the unit circle elsewhere."""
    if not (before.is_reliable and after.is_reliable):
        return None
    values = before.multipliers, after.multipliers
    below = [int(np.sum(_real(v) < -1)) for v in values]
    if below[0] != below[1]:
        return "period doubling"
    pairs = [_pairs(v) for v in values]
    outside = [int(np.sum(np.abs(p) > 1)) for p in pairs]
    return "torus" if outside[0] != outside[1] and len(pairs[0]) == len(pairs[1]) else None


def _matrix(system: System, state: np.ndarray, setting: Mapping[str, float]) -> np.ndarray:
    """The Jacobian at a state."""
    values = dict(setting) | dict(zip(system.states, state.tolist(), strict=True)) | {"t": 0.0}
    return np.array(
        [[float(e.evaluate(**{v: values[v] for v in e.variables})) for e in row] for row in system.jacobian]
    )
