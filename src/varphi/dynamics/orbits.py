"""Periodic orbits as piecewise polynomials, and how they are corrected and followed.

What is followed is a periodic solution of a system together with some free scalars: the period, parameters. As many
linear conditions as there are scalars fix it; the last is the pseudo-arclength. Branches of cycles (`cycles`) free the
period and one parameter; curves of bifurcations (`curves`) follow larger systems with more scalars.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from varphi.numbers.jet import partial

from .collocation import Rule, evaluate, newton, rule
from .system import System

# The period among free scalars; no parameter can be called so.
PERIOD = "the period"


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
        return interpolated(self.mesh, self.y, np.mod(np.asarray(phase, float), 1.0))

    def on(self, mesh: Float[np.ndarray, " edges"]) -> Orbit:
        """The same orbit on another mesh."""
        return replace(self, mesh=mesh, y=moved(self.mesh, self.y, mesh))


def interpolated(mesh: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    """A piecewise polynomial at places in [0, 1]."""
    degree = (len(y) - 1) // (len(mesh) - 1)
    interval = np.clip(np.searchsorted(mesh, t, side="right") - 1, 0, len(mesh) - 2)
    local = (t - mesh[interval]) / np.diff(mesh)[interval]
    nodes = np.linspace(0, 1, degree + 1)
    found = np.zeros((len(t), y.shape[1]))
    for k in range(degree + 1):
        others = np.delete(nodes, k)
        weight = np.prod([(local - o) / (nodes[k] - o) for o in others], axis=0)
        found += weight[:, None] * y[interval * degree + k]
    return found


def moved(mesh: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The values of a piecewise polynomial for another mesh."""
    degree = (len(y) - 1) // (len(mesh) - 1)
    return interpolated(mesh, y, places(new, degree))


def places(mesh: np.ndarray, degree: int) -> np.ndarray:
    """Where the values of an orbit stand, in periods."""
    inner = np.linspace(0, 1, degree + 1)[:-1]
    return np.append((mesh[:-1, None] + np.diff(mesh)[:, None] * inner).ravel(), 1.0)


def blocks(y: np.ndarray, m: int) -> np.ndarray:
    """The values of each interval, ends included: (intervals, m + 1, states)."""
    intervals = (len(y) - 1) // m
    return y[np.arange(intervals)[:, None] * m + np.arange(m + 1)]


def shares(mesh: np.ndarray, m: int) -> np.ndarray:
    """The part of the period that each place stands for."""
    each = np.diff(mesh) / m
    found = np.append(np.repeat(each, m), each[-1] / 2)
    found[0] = each[0] / 2
    found[m:-1:m] = (each[:-1] + each[1:]) / 2
    return found


def split(mesh: np.ndarray, parts: int) -> np.ndarray:
    """A mesh with each interval in so many."""
    inner = np.arange(parts) / parts
    return np.append((mesh[:-1, None] + np.diff(mesh)[:, None] * inner).ravel(), 1.0)


@dataclass
class Shape:
    """An orbit and its free scalars."""

    mesh: np.ndarray
    y: np.ndarray
    scalars: np.ndarray

    @property
    def degree(self) -> int:
        return (len(self.y) - 1) // (len(self.mesh) - 1)

    def on(self, mesh: np.ndarray) -> Shape:
        return Shape(mesh, moved(self.mesh, self.y, mesh), self.scalars)


@dataclass
class Direction:
    """A change of the orbit and its scalars."""

    y: np.ndarray
    scalars: np.ndarray

    def __neg__(self) -> Direction:
        return Direction(-self.y, -self.scalars)


@dataclass
class Condition:
    """Σ weights · y + of_scalars · scalars = target."""

    weights: np.ndarray
    of_scalars: np.ndarray
    target: float


@dataclass
class Corrected:
    """A solution, its tangent, what links the ends of its linearisation, and f where it begins."""

    shape: Shape
    tangent: Direction
    pair: np.ndarray
    flow: np.ndarray
    iterations: int


@dataclass
class Follower:
    """Corrects and follows solutions with free scalars.

    Attributes:
        system: periodic solutions of what.
        free: the free scalars: `PERIOD`, parameters.
        setting: values of all parameters.
        scales: what changes of each free parameter are measured by.
        conditions: all conditions but the last, given this follower and the solution behind.
        period: T where it is not free.
        returns: 1 or -1 for each state: y(1) = ± y(0).
        tolerance: of Newton's method, relative to the orbit's size.
    """

    system: System
    free: tuple[str, ...]
    setting: dict[str, float]
    scales: Mapping[str, float]
    conditions: Callable[[Follower, Shape], list[Condition]]
    period: float = math.nan
    returns: np.ndarray | None = None
    tolerance: float = 1e-9
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """The range of each state on the orbits so far: what distances are measured by."""
    _share: tuple[np.ndarray, np.ndarray] | None = None

    def __post_init__(self) -> None:
        parameters = [name for name in self.free if name != PERIOD]
        for name in parameters:
            if name not in self.setting:
                raise ValueError(f"no parameter {name!r}; there are {', '.join(self.setting)}")
        system, self.n = self.system, len(self.system.states)
        by_parameter = [partial(r, name) for name in parameters for r in system.rates]
        expressions = [*system.rates, *(e for row in system.jacobian for e in row), *by_parameter]
        self.code = system.function(expressions)
        self.rows, self.room = np.zeros((self.code.inputs, 8)), np.zeros((self.code.outputs, 8))
        if self.returns is None:
            self.returns = np.ones(self.n)

    # Measuring ------------------------------------------------------------------------------------------------------

    def scalar_sizes(self, at: Shape) -> np.ndarray:
        return np.array([at.scalars[k] if n == PERIOD else self.scales[n] for k, n in enumerate(self.free)])

    def inner(self, a: Direction, b: Direction, at: Shape) -> float:
        states = float(np.einsum("p,ps,ps,s->", self.share(at), a.y, b.y, self.sizes**-2.0))
        return states + float(np.sum(a.scalars * b.scalars / self.scalar_sizes(at) ** 2))

    def share(self, at: Shape) -> np.ndarray:
        """`shares` of its mesh, kept while the mesh is the same."""
        if self._share is None or self._share[0] is not at.mesh:
            self._share = at.mesh, shares(at.mesh, at.degree)
        return self._share[1]

    def normed(self, d: Direction, at: Shape) -> Direction:
        length = math.sqrt(self.inner(d, d, at))
        return Direction(d.y / length, d.scalars / length)

    # Conditions -----------------------------------------------------------------------------------------------------

    def arc(self, tangent: Direction, guess: Shape) -> Condition:
        """The plane through the guess that is normal to the tangent."""
        weights = self.share(guess)[:, None] * tangent.y / self.sizes**2
        of_scalars = tangent.scalars / self.scalar_sizes(guess) ** 2
        return Condition(weights, of_scalars, float(np.sum(weights * guess.y) + of_scalars @ guess.scalars))

    def phase(self, reference: Shape, states: int | None = None, shift: int = 0) -> Condition:
        """∫ y·y'_reference = ∫ y_reference·y'_reference, each state by its size.

        Args:
            states: how many of the reference's first states count; all by default.
            shift: by how many states the condition stands further on: on y[shift:], with target 0.
        """
        count = states or self.n
        weights = np.zeros_like(reference.y)
        weights[:, shift : shift + count] = flow_weights(reference.mesh, reference.y[:, :count], self.sizes[:count])
        target = 0.0 if shift else float(np.sum(weights * reference.y))
        return Condition(weights, np.zeros(len(self.free)), target)

    # Correcting -----------------------------------------------------------------------------------------------------

    def step(self, current: Corrected, length: float) -> Corrected | None:
        """The solution at some distance along the branch."""
        t, here = current.tangent, current.shape
        guess = Shape(here.mesh, here.y + length * t.y, here.scalars + length * t.scalars)
        return None if self.period_of(guess.scalars) <= 0 else self.correct(guess, t, here)

    def period_of(self, scalars: np.ndarray) -> float:
        return float(scalars[self.free.index(PERIOD)]) if PERIOD in self.free else self.period

    def correct(self, guess: Shape, tangent: Direction, behind: Shape | None = None) -> Corrected | None:
        """Newton's method to the solution in the plane through the guess that is normal to the tangent."""
        conditions = [*self.conditions(self, behind or guess), self.arc(tangent, guess)]
        weights = np.stack([c.weights for c in conditions])
        of_scalars = np.stack([c.of_scalars for c in conditions])
        targets = np.array([c.target for c in conditions])
        m, n, mesh, count = guess.degree, self.n, np.diff(guess.mesh), len(self.free)
        gauss = rule(m)
        y, scalars = guess.y.copy(), guess.scalars.copy()
        step, rest, pair = np.empty((2, *y.shape)), np.empty((2, count)), np.empty((2, n, n))
        out = np.empty((len(mesh) * m, self.code.outputs))
        by_scalar = np.empty((len(mesh) * m, n, count))
        for iteration in range(1, 9):
            period = self.period_of(scalars)
            self._evaluate(y, scalars, gauss, out)
            column = n + n * n
            for k, name in enumerate(self.free):
                if name == PERIOD:
                    by_scalar[:, :, k] = out[:, :n]
                    continue
                by_scalar[:, :, k] = period * out[:, column : column + n]
                column += n
            residuals = np.einsum("cps,ps->c", weights, y) + of_scalars @ scalars - targets
            solved = newton(
                mesh, y, period, gauss.values, gauss.slopes, np.ascontiguousarray(out[:, :n]),
                np.ascontiguousarray(out[:, n : n + n * n]), by_scalar.reshape(len(out), -1), self.returns, weights,
                of_scalars, residuals, step, rest, pair,
            )  # fmt: skip
            if not solved or not np.isfinite(step).all() or not np.isfinite(rest).all():
                return None
            y, scalars = y + step[0], scalars + rest[0]
            if self.period_of(scalars) <= 0:
                return None
            found = Shape(guess.mesh, y, scalars)
            change = Direction(step[0], rest[0])
            size = math.sqrt(self.inner(change, change, found))
            if size > 2.0:
                return None
            if size < self.tolerance:
                ahead = self.normed(Direction(step[1].copy(), rest[1].copy()), found)
                return Corrected(found, ahead, pair.copy(), self.flow(found), iteration)
        return None

    def flow(self, shape: Shape) -> np.ndarray:
        """f where the orbit begins."""
        out = np.empty((1, self.code.outputs))
        constants = np.array([*self._set(shape.scalars).values(), 0.0])
        evaluate(self.code.address, self.rows, self.room, shape.y[:1].copy(), constants, out)
        return out[0, : self.n].copy()

    def _set(self, scalars: np.ndarray) -> dict[str, float]:
        for name, value in zip(self.free, scalars, strict=True):
            if name != PERIOD:
                self.setting[name] = float(value)
        return self.setting

    def _evaluate(self, y: np.ndarray, scalars: np.ndarray, gauss: Rule, out: np.ndarray) -> None:
        constants = np.array([*self._set(scalars).values(), 0.0])
        evaluate(self.code.address, self.rows, self.room, np.ascontiguousarray(at_gauss(y, gauss)), constants, out)

    # Meshes ---------------------------------------------------------------------------------------------------------

    def moved(self, at: Corrected, mesh: np.ndarray) -> Corrected | None:
        """The same solution, corrected on another mesh."""
        here = at.shape.on(mesh)
        guess = Direction(moved(at.shape.mesh, at.tangent.y, mesh), at.tangent.scalars)
        found = self.correct(here, self.normed(guess, here))
        if found is not None and self.inner(found.tangent, guess, here) < 0:
            found.tangent = -found.tangent
        return found

    def remeshed(self, at: Corrected) -> Corrected:
        """The same solution on a mesh with as much error in each interval, to be corrected with the next step."""
        mesh = self.adapted(at.shape)
        tangent = Direction(moved(at.shape.mesh, at.tangent.y, mesh), at.tangent.scalars)
        shape = at.shape.on(mesh)
        return Corrected(shape, self.normed(tangent, shape), at.pair, at.flow, at.iterations)

    def adapted(self, shape: Shape) -> np.ndarray:
        """A mesh with as much error in each interval."""
        m, lengths = shape.degree, np.diff(shape.mesh)
        differences = np.array([(-1) ** (m - k) * math.comb(m, k) for k in range(m + 1)], float)
        highest = np.einsum("k,iks->is", differences, blocks(shape.y, m)) / self.sizes
        highest = highest * (m / lengths[:, None]) ** m
        jump = np.abs(highest - np.roll(highest, 1, axis=0)) / ((lengths + np.roll(lengths, 1)) / 2)[:, None]
        jump = (jump + np.roll(jump, -1, axis=0)).max(1) / 2
        density = np.maximum(jump, 1e-30) ** (1 / (m + 1))
        density = density / np.sum(density * lengths) + 0.2
        reached = np.concatenate([[0], np.cumsum(density * lengths)])
        mesh = np.interp(np.linspace(0, reached[-1], len(lengths) + 1), reached, shape.mesh)
        mesh[0], mesh[-1] = 0.0, 1.0
        return mesh


def at_gauss(y: np.ndarray, gauss: Rule) -> np.ndarray:
    """The values of a piecewise polynomial at the Gauss points, (points, states)."""
    return np.einsum("ck,iks->ics", gauss.values, blocks(y, len(gauss.points))).reshape(-1, y.shape[1])


def flow_weights(mesh: np.ndarray, y: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """w with Σ w·u = ∫ u·y', each state by its size."""
    m, lengths = (len(y) - 1) // (len(mesh) - 1), np.diff(mesh)
    gauss = rule(m)
    slopes = np.einsum("ck,iks->ics", gauss.slopes, blocks(y, m))
    spread = np.einsum("ck,ics->iks", gauss.values, slopes * gauss.weights[None, :, None] / sizes**2)
    weights = np.zeros_like(y)
    for k in range(m + 1):
        weights[k : k + m * len(lengths) : m] += spread[:, k]
    return weights


def shares_through_rest(behind: Shape, ahead: Shape, share: np.ndarray, sizes: np.ndarray) -> float | None:
    """Whether two orbits swing in opposite phase: then between them is an equilibrium, a Hopf point.

    Args:
        share: of each place of their mesh.
        sizes: of as many first states as are looked at.

    Returns:
        How far it lies on the way from the one to the other, where parameter, period and mean are taken as quadratic in
        the amplitude (0 to 1; outside where both come from one side); None if they do not.
    """
    count = len(sizes)
    a, b = (o.y[:, :count] - share @ o.y[:, :count] for o in (behind, ahead))
    first, product = (float(np.einsum("p,ps,ps,s->", share, a, o, sizes**-2.0)) for o in (a, b))
    if product >= 0:
        return None
    second = (product / math.sqrt(first)) ** 2
    return 0.0 if abs(second - first) < 1e-6 * first else first / (first - second)


def illinois(
    test: Callable[[float], float | None], low: float, high: float, a: float, b: float, *, rtol: float, most: int = 40
) -> float | None:
    """A zero of a test function between two places at which it has the values a and b of opposite sign.

    Returns:
        None where the test cannot be computed.
    """
    scale, width, side, at = max(abs(a), abs(b)), abs(high - low), 0, low
    for _ in range(most):
        at = (low * b - high * a) / (b - a)
        if not min(low, high) < at < max(low, high):
            at = (low + high) / 2
        c = test(at)
        if c is None:
            return None
        if abs(c) <= rtol * scale or abs(high - low) < 1e-12 * max(width, 1e-30):
            return at
        if c * b > 0:
            high, b = at, c
            a = a / 2 if side == 1 else a
            side = 1
        else:
            low, a = at, c
            b = b / 2 if side == -1 else b
            side = -1
    return at
