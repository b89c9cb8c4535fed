"""Branches of periodic orbits: continuation in one parameter, with folds, stability and period.

Orbits are found by collocation (`collocation`) and followed by pseudo-arclength, so that a branch goes on where it
turns back in the parameter. The mesh adapts to the orbit; the step adapts to how the branch bends, also in the
parameter alone: two folds that lie close together are seen as two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import scipy.linalg
from jaxtyping import Float

from varphi.numbers.jet import partial

from .collocation import Rule, evaluate, newton, rule
from .ensemble import Cycle, Status, simulate
from .system import System

Complex: TypeAlias = "np.ndarray[Any, np.dtype[np.complex128]]"


@dataclass(frozen=True, eq=False)
class Orbit:
    """A periodic orbit as a piecewise polynomial.

    Attributes:
        mesh: the ends of its intervals, from 0 to 1 (intervals + 1,).
        y: its states at `degree` + 1 equidistant places of each interval, ends shared (intervals · degree + 1, states).
        period, parameter: T, and the parameter's value.
    """

    mesh: Float[np.ndarray, " edges"]
    y: Float[np.ndarray, "places states"]
    period: float
    parameter: float

    @property
    def degree(self) -> int:
        return (len(self.y) - 1) // (len(self.mesh) - 1)

    @cached_property
    def lows(self) -> Float[np.ndarray, " states"]:
        return self.y.min(0)

    @cached_property
    def highs(self) -> Float[np.ndarray, " states"]:
        return self.y.max(0)

    def __call__(self, phase: Float[np.ndarray, " points"]) -> Float[np.ndarray, "points states"]:
        """The states at phases, counted in periods."""
        t = np.mod(np.asarray(phase, float), 1.0)
        interval = np.clip(np.searchsorted(self.mesh, t, side="right") - 1, 0, len(self.mesh) - 2)
        local = (t - self.mesh[interval]) / np.diff(self.mesh)[interval]
        nodes = np.linspace(0, 1, self.degree + 1)
        found = np.zeros((len(t), self.y.shape[1]))
        for k in range(self.degree + 1):
            others = np.delete(nodes, k)
            weight = np.prod([(local - o) / (nodes[k] - o) for o in others], axis=0)
            found += weight[:, None] * self.y[interval * self.degree + k]
        return found

    def on(self, mesh: Float[np.ndarray, " edges"]) -> Orbit:
        """The same orbit on another mesh."""
        return replace(self, mesh=mesh, y=self(_places(mesh, self.degree) * (1 - 1e-16)))


def _places(mesh: np.ndarray, degree: int) -> np.ndarray:
    inner = np.linspace(0, 1, degree + 1)[:-1]
    return np.append((mesh[:-1, None] + np.diff(mesh)[:, None] * inner).ravel(), 1.0)


@dataclass(frozen=True, eq=False)
class Point:
    """An orbit on a branch.

    Attributes:
        orbit: the orbit.
        multipliers: its Floquet multipliers but the trivial one, largest first.
        trivial: the multiplier that ought to be 1: how accurate the others are.
        parameter_slope: how fast the parameter changes along the branch; 0 at a fold.
    """

    orbit: Orbit
    multipliers: Complex
    trivial: complex
    parameter_slope: float

    @property
    def is_reliable(self) -> bool:
        """Whether the multipliers have digits: near a homoclinic orbit they differ by too many powers of ten."""
        return abs(self.trivial - 1) < 1e-3

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
    wave = np.real(np.exp(2j * np.pi * _places(mesh, degree))[:, None] * q)
    period = 2 * math.pi / float(frequency)
    orbit = Orbit(mesh, state + size * wave, period, value)
    return orbit, Orbit(mesh, wave, 0.0, 0.0)


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
    places = _places(mesh, degree)
    states = simulate(system, period, found.ends[0], times=np.minimum(places, 1 - 1e-12) * period, **options).states[0]
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
    walker = _Walker(system, parameter, system.values(parameters or {}), tolerance, abs(high - low))
    return walker.walk(start, towards, bounds, largest_period, most_points, largest_step)


@dataclass
class _Direction:
    """A change of everything: orbit, period, parameter."""

    y: np.ndarray
    period: float
    parameter: float


@dataclass
class _Corrected:
    orbit: Orbit
    tangent: _Direction
    pair: np.ndarray
    iterations: int


@dataclass
class _Walker:
    system: System
    parameter: str
    setting: dict[str, float]
    tolerance: float
    parameter_size: float
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """The range of each state on the orbits so far: what distances are measured by."""

    def __post_init__(self) -> None:
        if self.parameter not in self.setting:
            raise ValueError(f"no parameter {self.parameter!r}; there are {', '.join(self.setting)}")
        self.place = list(self.setting).index(self.parameter)
        by_parameter = [partial(r, self.parameter) for r in self.system.rates]
        n = len(self.system.states)
        expressions = [*self.system.rates, *(e for row in self.system.jacobian for e in row), *by_parameter]
        self.code = self.system.function(expressions)
        self.rows, self.room = np.zeros((self.code.inputs, 8)), np.zeros((self.code.outputs, 8))
        self.n = n

    def walk(
        self,
        start: Orbit,
        towards: Orbit | float,
        bounds: tuple[float, float],
        longest: float,
        most: int,
        widest: float,
    ) -> CycleBranch:
        self.sizes = np.ptp(start.y, axis=0)
        first = (
            _Direction(towards.y.copy(), 0.0, 0.0)
            if isinstance(towards, Orbit)
            else _Direction(np.zeros_like(start.y), 0.0, math.copysign(1.0, towards))
        )
        found = self.correct(start, self.normed(first, start))
        if found is None:
            raise ArithmeticError(
                f"no periodic orbit was found near the start at {self.parameter} = {start.parameter:g}"
            )
        current = found
        if not isinstance(towards, Orbit) and current.tangent.parameter * towards < 0:
            current.tangent = _reversed(current.tangent)
        points, specials = [self.point(current)], []
        step, ended = 0.05, "steps"
        while len(points) < most:
            ahead = self.step(current, step)
            if ahead is None or not self.is_resolved(current, ahead, step):
                step /= 2
                if step < 1e-7:
                    ended = "lost"
                    break
                continue
            hopf = self.through_rest(current.orbit, ahead.orbit)
            if hopf is not None:
                specials.append(hopf)
                ended = "rest"
                break
            specials += self.between(current, ahead, step)
            current = ahead
            points.append(self.point(current))
            orbit = current.orbit
            if not bounds[0] <= orbit.parameter <= bounds[1]:
                ended = "parameter"
                break
            if orbit.period > longest:
                ended = "period"
                break
            if current.iterations <= 3:
                step = min(1.6 * step, widest)
            elif current.iterations > 5:
                step *= 0.6
            if len(points) % 3 == 0:
                current = self.remeshed(current)
            self.sizes = np.maximum(self.sizes, np.ptp(current.orbit.y, axis=0))
            current.tangent = self.normed(current.tangent, current.orbit)
        return CycleBranch(self.system, self.parameter, tuple(points), tuple(specials), ended)

    # Measuring ------------------------------------------------------------------------------------------------------

    def weights(self, orbit: Orbit) -> np.ndarray:
        """The share of the period that each place stands for."""
        m = orbit.degree
        each = np.diff(orbit.mesh)[:, None] / m
        shares = np.zeros(len(orbit.y))
        for k in range(m):
            shares[k:-1:m] += each[:, 0] / 2
            shares[k + 1 :: m] += each[:, 0] / 2
        return shares

    def inner(self, a: _Direction, b: _Direction, orbit: Orbit) -> float:
        states = float(np.sum(self.weights(orbit)[:, None] * a.y * b.y / self.sizes**2))
        return states + a.period * b.period / orbit.period**2 + a.parameter * b.parameter / self.parameter_size**2

    def normed(self, d: _Direction, orbit: Orbit) -> _Direction:
        length = math.sqrt(self.inner(d, d, orbit))
        return _Direction(d.y / length, d.period / length, d.parameter / length)

    # Correcting -----------------------------------------------------------------------------------------------------

    def step(self, current: _Corrected, length: float) -> _Corrected | None:
        """The orbit at some distance along the branch."""
        t, orbit = current.tangent, current.orbit
        period = orbit.period + length * t.period
        if period <= 0:
            return None
        guess = Orbit(orbit.mesh, orbit.y + length * t.y, period, orbit.parameter + length * t.parameter)
        return self.correct(guess, t, orbit)

    def correct(self, guess: Orbit, tangent: _Direction, behind: Orbit | None = None) -> _Corrected | None:
        """Newton's method to the orbit in the plane through the guess that is normal to the tangent."""
        gauss, m, n = rule(guess.degree), guess.degree, self.n
        mesh = np.diff(guess.mesh)
        reference = behind or guess
        phase = self.phase(reference, gauss, mesh)
        arc = self.weights(guess)[:, None] * tangent.y / self.sizes**2
        arc_period, arc_parameter = tangent.period / guess.period**2, tangent.parameter / self.parameter_size**2
        y, period, parameter = guess.y.copy(), guess.period, guess.parameter
        step, rest, pair = np.empty((2, *y.shape)), np.empty((2, 2)), np.empty((2, n, n))
        out = np.empty((len(mesh) * m, self.code.outputs))
        for iteration in range(1, 9):
            self.setting[self.parameter] = parameter
            constants = np.array([*self.setting.values(), 0.0])
            states = np.einsum("ck,iks->ics", gauss.values, self.blocks(y, m)).reshape(-1, n)
            evaluate(self.code.address, self.rows, self.room, np.ascontiguousarray(states), constants, out)
            moved = float(np.sum(arc * (y - guess.y)))
            arc_rest = moved + arc_period * (period - guess.period) + arc_parameter * (parameter - guess.parameter)
            solved = newton(
                mesh, y, period, gauss.values, gauss.slopes,
                np.ascontiguousarray(out[:, :n]), np.ascontiguousarray(out[:, n : n + n * n]),
                np.ascontiguousarray(out[:, n + n * n :]), phase, float(np.sum(phase * (y - reference.y))),
                arc, arc_period, arc_parameter, arc_rest, step, rest, pair,
            )  # fmt: skip
            if not solved or not np.isfinite(step).all() or not np.isfinite(rest).all():
                return None
            change = _Direction(step[0], rest[0, 0], rest[0, 1])
            y, period, parameter = y + step[0], period + float(rest[0, 0]), parameter + float(rest[0, 1])
            if period <= 0:
                return None
            orbit = Orbit(guess.mesh, y, period, parameter)
            size = math.sqrt(self.inner(change, change, orbit))
            if size > 2.0:
                return None
            if size < self.tolerance:
                ahead = self.normed(_Direction(step[1].copy(), rest[1, 0], rest[1, 1]), orbit)
                return _Corrected(orbit, ahead, pair.copy(), iteration)
        return None

    @staticmethod
    def blocks(y: np.ndarray, m: int) -> np.ndarray:
        """The values of each interval, ends included: (intervals, m + 1, states)."""
        intervals = (len(y) - 1) // m
        return y[np.arange(intervals)[:, None] * m + np.arange(m + 1)]

    def phase(self, reference: Orbit, gauss: Rule, mesh: np.ndarray) -> np.ndarray:
        """The weights of the phase condition ∫ y·y'_reference = const, each state by its size."""
        m = reference.degree
        slopes = np.einsum("ck,iks->ics", gauss.slopes, self.blocks(reference.y, m)) / mesh[:, None, None]
        weighted = slopes * gauss.weights[None, :, None] * mesh[:, None, None] / self.sizes**2
        spread = np.einsum("ck,ics->iks", gauss.values, weighted)
        found = np.zeros_like(reference.y)
        for k in range(m + 1):
            found[k : k + m * len(mesh) : m] += spread[:, k]
        return found

    # Seeing ---------------------------------------------------------------------------------------------------------

    def is_resolved(self, behind: _Corrected, ahead: _Corrected, length: float) -> bool:
        """Whether the branch between two points is as smooth as it looks from them."""
        cosine = self.inner(behind.tangent, ahead.tangent, ahead.orbit)
        if cosine < 0.9:
            return False
        a, b = behind.tangent.parameter, ahead.tangent.parameter
        secant = (ahead.orbit.parameter - behind.orbit.parameter) / length
        bend = abs(secant - (a + b) / 2)
        return bend <= 0.15 * max(abs(a), abs(b)) or bend * length <= 1e-7 * self.parameter_size

    def through_rest(self, behind: Orbit, ahead: Orbit) -> Special | None:
        """The Hopf point between two orbits that swing in opposite phase, if they do: the branch went through it."""
        share = self.weights(behind)[:, None] / self.sizes**2
        a, b = (o.y - np.average(o.y, axis=0, weights=self.weights(o)) for o in (behind, ahead))
        first, product = float(np.sum(share * a * a)), float(np.sum(share * a * b))
        if product >= 0:
            return None
        # The parameter is quadratic in the amplitude there.
        second = (product / math.sqrt(first)) ** 2
        shares = (1.0, 0.0) if abs(second - first) < 1e-6 * first else (second, -first)

        def at_zero(p: float, q: float) -> float:
            return (p * shares[0] + q * shares[1]) / sum(shares)

        parameter, period = at_zero(behind.parameter, ahead.parameter), at_zero(behind.period, ahead.period)
        return Special("hopf", parameter, period, behind)

    def between(self, behind: _Corrected, ahead: _Corrected, length: float) -> list[Special]:
        """What happens on the way from one point to the next."""
        found: list[Special] = []
        if behind.tangent.parameter * ahead.tangent.parameter < 0:
            fold = self.fold(behind, ahead, length)
            if fold is not None:
                found.append(fold)
        kind = _crossing(self.point(behind), self.point(ahead))
        if kind is not None:
            found.append(self.crossing(kind, behind, length))
        return found

    def crossing(self, kind: Literal["period doubling", "torus"], behind: _Corrected, length: float) -> Special:
        """Where multipliers pass the unit circle, by bisection."""
        low, high, start = 0.0, length, self.point(behind)
        orbit = behind.orbit
        for _ in range(30):
            middle = self.step(behind, (low + high) / 2)
            if middle is None:
                break
            orbit = middle.orbit
            if _crossing(start, self.point(middle)) is None:
                low = (low + high) / 2
            else:
                high = (low + high) / 2
        return Special(kind, orbit.parameter, orbit.period, orbit)

    def fold(self, behind: _Corrected, ahead: _Corrected, length: float) -> Special | None:
        """Where the parameter turns: a zero of its slope along the branch, by Illinois' method."""
        low, high = 0.0, length
        a, b = behind.tangent.parameter, ahead.tangent.parameter
        best, side = ahead, 0
        for _ in range(40):
            at = (low * b - high * a) / (b - a)
            if not low < at < high:
                at = (low + high) / 2
            tried = self.step(behind, at)
            if tried is None:
                return None
            best, c = tried, tried.tangent.parameter
            if abs(c) <= 1e-9 * max(abs(behind.tangent.parameter), abs(ahead.tangent.parameter)) or high - low < 1e-11:
                break
            if c * b > 0:
                high, b = at, c
                a = a / 2 if side == 1 else a
                side = 1
            else:
                low, a = at, c
                b = b / 2 if side == -1 else b
                side = -1
        turn = best.orbit.parameter
        swing = max(abs(behind.orbit.parameter - turn), abs(ahead.orbit.parameter - turn))
        # Near a homoclinic orbit the parameter stands still and its slope is rounding.
        if swing <= 1e-8 * max(abs(turn), 1e-3 * self.parameter_size):
            return None
        return Special("fold", float(turn), float(best.orbit.period), best.orbit)

    def point(self, at: _Corrected) -> Point:
        values: Complex = np.asarray(scipy.linalg.eigvals(at.pair[0], -at.pair[1]), np.complex128)
        values = values[np.isfinite(values)]
        trivial = int(np.argmin(np.abs(values - 1)))
        others = np.delete(values, trivial)
        return Point(at.orbit, others[np.argsort(-np.abs(others))], complex(values[trivial]), at.tangent.parameter)

    def remeshed(self, at: _Corrected) -> _Corrected:
        """The same orbit on a mesh with as much error in each interval, by its highest derivative."""
        orbit, m = at.orbit, at.orbit.degree
        lengths = np.diff(orbit.mesh)
        differences = np.array([(-1) ** (m - k) * math.comb(m, k) for k in range(m + 1)], float)
        highest = np.einsum("k,iks->is", differences, self.blocks(orbit.y, m)) / self.sizes
        highest = highest * (m / lengths[:, None]) ** m
        jump = np.abs(highest - np.roll(highest, 1, axis=0)) / ((lengths + np.roll(lengths, 1)) / 2)[:, None]
        jump = (jump + np.roll(jump, -1, axis=0)).max(1) / 2
        density = np.maximum(jump, 1e-30) ** (1 / (m + 1))
        density = density / np.sum(density * lengths) + 0.2
        reached = np.concatenate([[0], np.cumsum(density * lengths)])
        mesh = np.interp(np.linspace(0, reached[-1], len(lengths) + 1), reached, orbit.mesh)
        mesh[0], mesh[-1] = 0.0, 1.0
        moved = orbit.on(mesh)
        tangent = replace(orbit, y=at.tangent.y).on(mesh)
        guess = _Direction(tangent.y, at.tangent.period, at.tangent.parameter)
        found = self.correct(moved, self.normed(guess, moved))
        if found is None:
            return at
        if self.inner(found.tangent, guess, moved) < 0:
            found.tangent = _reversed(found.tangent)
        return found


def _reversed(d: _Direction) -> _Direction:
    return _Direction(-d.y, -d.period, -d.parameter)


def _crossing(before: Point, after: Point) -> Literal["period doubling", "torus"] | None:
    """Whether a multiplier passed -1, or a pair the unit circle elsewhere."""
    if not (before.is_reliable and after.is_reliable):
        return None
    values = before.multipliers, after.multipliers
    below = [int(np.sum((np.abs(v.imag) <= 1e-9 * np.abs(v)) & (v.real < -1))) for v in values]
    if below[0] != below[1]:
        return "period doubling"
    pairs = [v[v.imag > 1e-6 * np.abs(v)] for v in values]
    outside = [int(np.sum(np.abs(p) > 1)) for p in pairs]
    return "torus" if outside[0] != outside[1] and len(pairs[0]) == len(pairs[1]) else None


def _matrix(system: System, state: np.ndarray, setting: Mapping[str, float]) -> np.ndarray:
    """The Jacobian at a state."""
    values = dict(setting) | dict(zip(system.states, state.tolist(), strict=True)) | {"t": 0.0}
    return np.array(
        [[float(e.evaluate(**{v: values[v] for v in e.variables})) for e in row] for row in system.jacobian]
    )
