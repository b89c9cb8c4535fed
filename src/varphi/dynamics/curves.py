"""Curves of bifurcations in two parameters: folds and Hopf points, folds and doublings of cycles, homoclinic orbits.

Each is the branch of a larger system whose solutions are the bifurcation itself:

- a fold of equilibria: f = 0, J v = 0, a length of v;
- a Hopf point: f = 0, J v = u, J u = -ω² v, a length and a direction of v;
- a fold of cycles: the orbit and, along it, v' = T (J v + b f), periodic: the branch's tangent, in which the parameter
  does not move;
- a period doubling: the orbit and v' = T J v with v(1) = -v(0);
- a homoclinic orbit, nearly: a cycle whose period is held at a large value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from varphi.numbers import variable
from varphi.numbers.expression import constant

from .cycles import Special
from .equilibria import EquilibriumFollower, SpecialEquilibrium
from .orbits import PERIOD, Condition, Corrected, Direction, Follower, Orbit, Shape, illinois, shares_through_rest
from .system import System
from .variation import linearised, null_solution

FOLD, HOPF, CYCLE_FOLD, DOUBLING, HOMOCLINIC = (
    "fold", "hopf", "fold of cycles", "period doubling", "homoclinic",
)  # fmt: skip
CUSP, BOGDANOV_TAKENS, GENERALISED_HOPF = "cusp", "bogdanov-takens", "generalised hopf"
_STRETCH = 0.95
_SMALLEST_STEP = 1e-7
# At a cusp both parameters stand still: the first moves by less than this share of its speed on either side.
_TOGETHER = 1e-3
# A cycle smaller than this, relative to the largest on its curve, can end on an equilibrium.
_SHRUNK = 0.05


@dataclass(frozen=True)
class CurvePoint:
    """A point at which a curve of bifurcations meets another or turns.

    Attributes:
        kind: "cusp", where two curves of folds meet in a tip; "bogdanov-takens", where folds and Hopf points meet;
            "generalised hopf" (also named after Bautin), where folds of cycles begin and Hopf points change from
            subcritical to supercritical; or "hopf", where another curve of cycles ends on Hopf points.
        values: of the two parameters.
    """

    kind: str
    values: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve of bifurcations.

    Attributes:
        kind: "fold", "hopf", "fold of cycles", "period doubling" or "homoclinic".
        parameters: the two names.
        values: the parameters along the curve (points, 2).
        periods: of the cycles, 2π/ω at Hopf points; NaN at folds of equilibria (points,).
        states: the equilibrium, or where the cycle begins (points, states).
        orbits: the cycles; empty for equilibria.
        specials: cusps, Bogdanov–Takens points, and where cycles shrink to nothing.
        ended: why the curve ends at its first and at its last point: "bounds", "bogdanov-takens", "hopf" (the cycle
            shrank to an equilibrium), "period" (it grew beyond the largest: near a
            homoclinic orbit), "closed" (it came back to its start), "steps" or "lost".
    """

    system: System
    kind: str
    parameters: tuple[str, str]
    values: Float[np.ndarray, "points 2"]
    periods: Float[np.ndarray, " points"]
    states: Float[np.ndarray, "points states"]
    orbits: tuple[Orbit, ...]
    specials: tuple[CurvePoint, ...]
    ended: tuple[str, str]


def continue_curve(
    system: System,
    start: SpecialEquilibrium | Special | Orbit,
    free: tuple[str, str],
    bounds: Mapping[str, tuple[float, float]],
    *,
    parameters: Mapping[str, float] | None = None,
    most_points: int = 400,
    largest_step: float | None = None,
    largest_period: float = 1e4,
) -> Curve:
    """Follow a bifurcation in two parameters, both ways from where it was found in the first.

    Args:
        start: a fold or Hopf point of `continue_equilibria`; a fold or period doubling of `continue_cycles`; or a cycle
            of long period near a homoclinic orbit, whose period is kept.
        free: the parameter in which it was found, and another.
        bounds: the range of each.
        parameters: values of the other parameters, and of the second at the start, where not the usual ones.
        most_points: each way ends after so many points.
        largest_step: relative to the sizes of the states and to the ranges; by default 0.05 for equilibria, 0.1 for
            cycles.
        largest_period: a curve of cycles ends where the period is longer.

    Raises:
        ValueError: unusable arguments, or a start of a kind that has no curve here.
        ArithmeticError: the bifurcation was not found again near the start.
    """
    for name in free:
        low, high = bounds.get(name, (math.nan, math.nan))
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"bounds must give a finite increasing range of {name!r}, got {bounds.get(name)!r}")
    if free[0] == free[1]:
        raise ValueError(f"a curve needs two different parameters, got {free[0]!r} twice")
    setting = system.values(parameters or {})
    for name in free:
        if name not in setting:
            raise ValueError(f"no parameter {name!r}; there are {', '.join(setting) or 'none'}")
    task = _Task(system, free, {n: bounds[n] for n in free}, setting, most_points, largest_step, largest_period)
    if isinstance(start, SpecialEquilibrium):
        return (_folds if start.kind == "fold" else _hopfs)(task, start)
    if isinstance(start, Orbit):
        return _homoclinics(task, start)
    made = {"fold": _folds_of_cycles, "period doubling": _doublings}.get(start.kind)
    if made is None:
        raise ValueError(f"no curve of {start.kind!r} points is followed; only of folds and period doublings")
    return made(task, start)


@dataclass(frozen=True)
class _Task:
    system: System
    free: tuple[str, str]
    bounds: dict[str, tuple[float, float]]
    setting: dict[str, Any]
    most: int
    widest: float | None
    longest: float

    def inside(self, values: tuple[float, float]) -> bool:
        return all(self.bounds[n][0] <= v <= self.bounds[n][1] for n, v in zip(self.free, values, strict=True))

    def range(self, name: str) -> float:
        low, high = self.bounds[name]
        return high - low

    def usual(self) -> dict[str, float]:
        return {k: float(v) for k, v in self.setting.items()}


def _named(system: System, letter: str) -> tuple[str, ...]:
    return tuple(f"{letter} of {name}" for name in system.states)


# Equilibria ---------------------------------------------------------------------------------------------------------


@dataclass
class _Trace:
    """One way along a curve."""

    values: list[tuple[float, float]]
    states: list[np.ndarray]
    periods: list[float]
    specials: list[CurvePoint]
    ended: str = "steps"


@dataclass
class _Equilibria:
    """Follows solutions z = (states of the larger system, second parameter)."""

    task: _Task
    follower: EquilibriumFollower
    places: tuple[int, int]  # of the two parameters in z
    period: Callable[[np.ndarray], float]
    refresh: Callable[[np.ndarray], None]
    tests: Mapping[str, Callable[[np.ndarray], float]]
    ends: frozenset[str] = frozenset()

    def both_ways(self, kind: str, z: np.ndarray) -> Curve:
        """The whole curve through z.

        Raises:
            ArithmeticError: z is not near a solution.
        """
        fixed = np.zeros(len(z))
        fixed[-1] = 1.0
        begin = self.follower.corrected(z, fixed)
        tangent = None if begin is None else self.follower.tangent(begin, fixed)
        if begin is None or tangent is None:
            first, second = self.task.free
            raise ArithmeticError(f"the {kind} was not found again near its start in {first} and {second}")
        self.refresh(begin)
        sizes = self.follower.sizes
        forwards = self.walk(begin, tangent)
        if forwards.ended == "closed":
            return self.curve(kind, forwards, ("closed", "closed"))
        self.refresh(begin)
        self.follower.sizes = sizes
        back = self.walk(begin, -tangent)
        whole = _Trace(
            back.values[:0:-1] + forwards.values,
            back.states[:0:-1] + forwards.states,
            back.periods[:0:-1] + forwards.periods,
            back.specials[::-1] + forwards.specials,
        )
        return self.curve(kind, whole, (back.ended, forwards.ended))

    def curve(self, kind: str, trace: _Trace, ended: tuple[str, str]) -> Curve:
        return Curve(
            self.task.system, kind, self.task.free, np.array(trace.values), np.array(trace.periods),
            np.array(trace.states), (), tuple(trace.specials), ended,
        )  # fmt: skip

    def values(self, z: np.ndarray) -> tuple[float, float]:
        return float(z[self.places[0]]), float(z[self.places[1]])

    def walk(self, z: np.ndarray, tangent: np.ndarray) -> _Trace:
        f, widest, n = self.follower, self.task.widest or 0.05, len(self.task.system.states)
        trace = _Trace([self.values(z)], [z[:n].copy()], [self.period(z)], [])
        begin, step = z, widest / 4
        while len(trace.values) < self.task.most:
            ahead = f.corrected(z + step * tangent * f.sizes, tangent)
            turned = None if ahead is None else f.tangent(ahead, tangent)
            if ahead is None or turned is None or turned @ tangent < _STRETCH:
                step /= 2
                if step < _SMALLEST_STEP:
                    trace.ended = "lost"
                    break
                continue
            met = self.between(z, tangent, ahead, turned, step)
            trace.specials += met
            stop = next((m for m in met if m.kind in self.ends), None)
            if stop is not None:
                trace.values.append(stop.values)
                trace.states.append(ahead[:n].copy())
                trace.periods.append(math.inf)
                trace.ended = stop.kind
                break
            trace.values.append(self.values(ahead))
            trace.states.append(ahead[:n].copy())
            trace.periods.append(self.period(ahead))
            if not self.task.inside(self.values(ahead)):
                trace.ended = "bounds"
                break
            if len(trace.values) > 8 and self.came_back(begin, z, ahead):
                trace.values[-1] = trace.values[0]
                trace.ended = "closed"
                break
            z, tangent = ahead, turned
            grown = np.maximum(f.sizes, np.abs(z))
            grown[list(self.places)] = f.sizes[list(self.places)]
            f.sizes = grown
            self.refresh(z)
            turned_again = f.tangent(z, tangent)
            tangent = tangent if turned_again is None else turned_again
            step = min(1.4 * step, widest)
        return trace

    def came_back(self, begin: np.ndarray, z: np.ndarray, ahead: np.ndarray) -> bool:
        """Whether the start lies between two points of the curve."""
        n = len(self.task.system.states)
        sizes = np.append(self.follower.sizes[:n], self.scales)
        return _passes(*(np.append(x[:n], self.values(x)) / sizes for x in (begin, z, ahead)))

    @property
    def scales(self) -> np.ndarray:
        return np.array([self.task.range(n) for n in self.task.free])

    def between(
        self, z: np.ndarray, tangent: np.ndarray, ahead: np.ndarray, turned: np.ndarray, step: float
    ) -> list[CurvePoint]:
        """What is met on the way from one point to the next."""
        found: list[CurvePoint] = []
        first = self.speed(tangent)
        if float(first @ self.speed(turned)) < 0:
            found += self.tip(z, tangent, first, step)
        for kind, test in self.tests.items():
            if test(z) * test(ahead) < 0:
                found += self.located(kind, z, tangent, step, test)
        return found

    def speed(self, tangent: np.ndarray) -> np.ndarray:
        """How fast the two parameters change, in units of their ranges."""
        return tangent[list(self.places)] * self.follower.sizes[list(self.places)] / self.scales

    def tip(self, z: np.ndarray, tangent: np.ndarray, first: np.ndarray, step: float) -> list[CurvePoint]:
        """The cusp between two points, if both parameters stand still at one place."""
        last = [first]

        def onwards(at: np.ndarray) -> float:
            direction = self.follower.tangent(at, tangent)
            last[:] = [np.full(2, math.nan) if direction is None else self.speed(direction)]
            return float(last[0] @ first)

        found = self.located(CUSP, z, tangent, step, onwards)
        return found if np.linalg.norm(last[0]) < _TOGETHER * np.linalg.norm(first) else []

    def located(
        self, kind: str, z: np.ndarray, tangent: np.ndarray, step: float, test: Callable[[np.ndarray], float]
    ) -> list[CurvePoint]:
        f, last = self.follower, [z]

        def along(at: float) -> float | None:
            there = f.corrected(z + at * tangent * f.sizes, tangent)
            if there is None:
                return None
            last[:] = [there]
            return test(there)

        ends = along(0.0), along(step)
        if ends[0] is None or ends[1] is None or not ends[0] * ends[1] < 0:
            return []
        place = illinois(along, 0.0, step, ends[0], ends[1], rtol=1e-11)
        return [] if place is None else [CurvePoint(kind, self.values(last[0]))]


def _passes(target: np.ndarray, behind: np.ndarray, ahead: np.ndarray) -> bool:
    """Whether a line from one point to the next passes close by a target."""
    a, b = target - behind, ahead - behind
    share = float(a @ b / (b @ b))
    return 0 < share <= 1 and float(np.linalg.norm(a - share * b)) < 0.1 * float(np.linalg.norm(b))


def _folds(task: _Task, start: SpecialEquilibrium) -> Curve:
    system, (p, q) = task.system, task.free
    n, v, r = len(system.states), _named(system, "v"), _named(system, "r")
    length = sum((variable(a) * variable(b) for a, b in zip(r, v, strict=True)), constant(-1))
    rates = (*system.rates, *linearised(system, v), constant(length))
    null = np.linalg.svd(_jacobian(system, start, task))[2][-1]
    numbers = {k: x for k, x in task.usual().items() if k != p} | dict(zip(r, null.tolist(), strict=True))
    larger = System((*system.states, *v, p), numbers, rates, {})
    follower = _larger(task, larger, start.at.state, [*np.abs(null).clip(0.1), task.range(p)])
    z = np.concatenate([start.at.state, null, [start.at.parameter, task.usual()[q]]])
    left = np.linalg.svd(_jacobian(system, start, task).T)[2][-1]

    def refresh(at: np.ndarray) -> None:
        nonlocal left
        found = at[n : 2 * n] / (at[n : 2 * n] @ at[n : 2 * n])
        follower.setting.update(zip(r, found.tolist(), strict=True))
        left = adjoint(at)

    def adjoint(at: np.ndarray) -> np.ndarray:
        """The left null vector, continued from the last one."""
        found = np.linalg.svd(follower.evaluated(at)[1][:n, :n].T)[2][-1]
        return found if found @ left >= 0 else -found

    def double(at: np.ndarray) -> float:
        """Zero where the eigenvalue 0 is double."""
        return float(adjoint(at) @ at[n : 2 * n])

    walker = _Equilibria(task, follower, (2 * n, 2 * n + 1), lambda at: math.nan, refresh, {BOGDANOV_TAKENS: double})
    return walker.both_ways(FOLD, z)


def _hopfs(task: _Task, start: SpecialEquilibrium) -> Curve:
    system, (p, q) = task.system, task.free
    n, v, u = len(system.states), _named(system, "v"), _named(system, "u")
    r, c, square = _named(system, "r"), _named(system, "c"), "ω²"
    turned = [a + variable(square) * variable(b) for a, b in zip(linearised(system, u), v, strict=True)]
    first = [a - variable(b) for a, b in zip(linearised(system, v), u, strict=True)]
    length = sum((variable(a) * variable(b) for a, b in zip(r, v, strict=True)), constant(-1))
    across = sum((variable(a) * variable(b) for a, b in zip(c, v, strict=True)), constant(0))
    rates = tuple(constant(e) for e in (*system.rates, *first, *turned, length, across))
    found: Any = np.linalg.eig(_jacobian(system, start, task))
    which = int(np.argmin(np.abs(found.eigenvalues - 1j * start.frequency)))
    real, omega = found.eigenvectors[:, which].real, float(found.eigenvalues[which].imag)
    real = real / np.linalg.norm(real)
    swept = _jacobian(system, start, task) @ real
    numbers = {k: x for k, x in task.usual().items() if k != p} | dict.fromkeys((*r, *c), 0.0)
    larger = System((*system.states, *v, *u, p, square), numbers, rates, {})
    sizes = [*np.abs(real).clip(0.1), *np.abs(swept).clip(0.1 * omega), task.range(p), omega**2]
    follower = _larger(task, larger, start.at.state, sizes)

    def refresh(at: np.ndarray) -> None:
        a, b = at[n : 2 * n], at[2 * n : 3 * n]
        a = a / (a @ a)
        b = b - (b @ a) / (a @ a) * a
        length = float(np.linalg.norm(b))
        follower.setting.update(zip(r, a.tolist(), strict=True))
        if length > 1e-9 * omega:
            follower.setting.update(zip(c, (b / length).tolist(), strict=True))

    z = np.concatenate([start.at.state, real, swept, [start.at.parameter, omega**2, task.usual()[q]]])
    refresh(z)

    def period(at: np.ndarray) -> float:
        return 2 * math.pi / math.sqrt(at[3 * n + 1]) if at[3 * n + 1] > 0 else math.inf

    walker = _Equilibria(
        task, follower, (3 * n, 3 * n + 2), period, refresh, {BOGDANOV_TAKENS: lambda at: float(at[3 * n + 1])},
        frozenset({BOGDANOV_TAKENS}),
    )  # fmt: skip
    return walker.both_ways(HOPF, z)


def _jacobian(system: System, start: SpecialEquilibrium, task: _Task) -> np.ndarray:
    values = task.usual() | {task.free[0]: start.at.parameter, "t": 0.0}
    values |= dict(zip(system.states, start.at.state.tolist(), strict=True))
    return np.array(
        [[float(e.evaluate(**{v: values[v] for v in e.variables})) for e in row] for row in system.jacobian]
    )


def _larger(task: _Task, larger: System, state: np.ndarray, others: Sequence[float]) -> EquilibriumFollower:
    second = task.free[1]
    follower = EquilibriumFollower(larger, second, dict(larger.parameters), task.range(second), 1e-11)
    follower.sizes = np.concatenate([np.maximum(np.abs(state), 1e-3), others, [task.range(second)]])
    return follower


# Cycles -------------------------------------------------------------------------------------------------------------


@dataclass
class _Cycles:
    """Follows orbits of a larger system."""

    task: _Task
    follower: Follower
    kind: str

    def both_ways(self, start: Shape) -> Curve:
        """The whole curve through a start.

        Raises:
            ArithmeticError: the start is not near a solution.
        """
        f, (first, second) = self.follower, self.task.free
        sideways = np.array([1.0 if name == second else 0.0 for name in f.free])
        guess = Direction(np.zeros_like(start.y), sideways)
        begin = f.correct(start, f.normed(guess, start))
        if begin is None:
            raise ArithmeticError(f"the {self.kind} was not found again near its start in {first} and {second}")
        forwards, ended, tips = self.walk(begin)
        back, ended_back, tips_back = [begin.shape], ended, list[CurvePoint]()
        if ended == "closed":
            forwards.append(begin.shape)
        else:
            back, ended_back, tips_back = self.walk(replace(begin, tangent=f.normed(-begin.tangent, begin.shape)))
        shapes = back[:0:-1] + forwards
        n = len(self.task.system.states)
        orbits = tuple(
            Orbit(s.mesh, s.y[:, :n].copy(), f.period_of(s.scalars), self.values(s)[0]) for s in shapes
        )  # fmt: skip
        return Curve(
            self.task.system, self.kind, self.task.free, np.array([self.values(s) for s in shapes]),
            np.array([o.period for o in orbits]), np.array([o.y[0] for o in orbits]), orbits,
            tuple(tips_back[::-1] + tips), (ended_back, ended),
        )  # fmt: skip

    def values(self, shape: Shape) -> tuple[float, float]:
        first, second = (float(shape.scalars[self.follower.free.index(n)]) for n in self.task.free)
        return first, second

    def speed(self, at: Corrected) -> np.ndarray:
        """How fast the two parameters change, in units of their ranges."""
        return np.array([at.tangent.scalars[self.follower.free.index(n)] / self.task.range(n) for n in self.task.free])

    def through_rest(self, behind: Shape, ahead: Shape) -> CurvePoint | None:
        """Where the cycle has no size, if it swings the other way after the step."""
        n = len(self.task.system.states)
        share = shares_through_rest(behind, ahead, self.follower.share(behind), self.follower.sizes[:n])
        return None if share is None else self.rest(behind, ahead, share)

    def rest(self, behind: Shape, ahead: Shape, share: float) -> CurvePoint:
        """Where the cycle has no size, so far on the way between two orbits."""
        before, after = self.values(behind), self.values(ahead)
        first, second = (a + share * (b - a) for a, b in zip(before, after, strict=True))
        return CurvePoint(GENERALISED_HOPF if self.kind == CYCLE_FOLD else HOPF, (first, second))

    def shrunk(self, shapes: list[Shape]) -> CurvePoint | None:
        """Where the cycle has no size, if it was about to shrink to nothing: its equations are singular there."""
        n = len(self.task.system.states)
        sizes = [float(np.max(np.ptp(s.y[:, :n], axis=0) / self.follower.sizes[:n])) for s in shapes]
        larger = [k for k, size in enumerate(sizes) if size > 1.5 * sizes[-1]]
        if not larger or sizes[-1] > _SHRUNK:
            return None
        first, second = sizes[larger[-1]] ** 2, sizes[-1] ** 2
        return self.rest(shapes[larger[-1]], shapes[-1], first / (first - second))

    def walk(self, current: Corrected) -> tuple[list[Shape], str, list[CurvePoint]]:
        f, widest = self.follower, self.task.widest or 0.1
        shapes, tips, step, ended = [current.shape], list[CurvePoint](), widest / 4, "steps"
        n, renewed = len(self.task.system.states), False
        while len(shapes) < self.task.most:
            ahead = f.step(current, step)
            if ahead is None or f.inner(ahead.tangent, current.tangent, ahead.shape) < _STRETCH:
                # The tangent was found with the phase of the orbit before: its own may be another.
                own = f.moved(current, current.shape.mesh) if not renewed else None
                current, renewed = own or current, True
                if own is not None:
                    continue
                step /= 2
                if step < _SMALLEST_STEP:
                    shrunk = self.shrunk(shapes)
                    ended, tips = ("lost", tips) if shrunk is None else (HOPF, [*tips, shrunk])
                    break
                continue
            rest = self.through_rest(current.shape, ahead.shape)
            if rest is not None:
                tips.append(rest)
                ended = HOPF
                break
            first = self.speed(current)
            if self.kind == CYCLE_FOLD and float(first @ self.speed(ahead)) < 0:
                tips += self.tip(current, step, first, float(first @ self.speed(ahead)))
            current, renewed = ahead, False
            shapes.append(current.shape)
            ended = self.end(shapes)
            if ended != "steps":
                break
            if len(shapes) % 3 == 0:
                current = f.remeshed(current)
            sizes = np.maximum(f.sizes[:n], np.ptp(current.shape.y[:, :n], axis=0))
            f.sizes = np.tile(sizes, len(f.sizes) // n)
            current.tangent = f.normed(current.tangent, current.shape)
            step = min(1.5 * step, widest) if current.iterations <= 4 else step * (0.7 if current.iterations > 5 else 1)
        return shapes, ended, tips

    def end(self, shapes: list[Shape]) -> str:
        """Why the curve ends at its last orbit; "steps" if it does not."""
        last = shapes[-1]
        if not self.task.inside(self.values(last)):
            return "bounds"
        if self.follower.period_of(last.scalars) > self.task.longest:
            return "period"
        near = (self.scaled(s) for s in (shapes[0], shapes[-2], last)) if len(shapes) > 8 else None
        return "closed" if near is not None and _passes(*near) else "steps"

    def scaled(self, shape: Shape) -> np.ndarray:
        """What tells orbits of the curve apart: parameters, period, extent."""
        n = len(self.task.system.states)
        values = [v / self.task.range(name) for v, name in zip(self.values(shape), self.task.free, strict=True)]
        period = math.log(self.follower.period_of(shape.scalars))
        return np.array([*values, period, *(np.ptp(shape.y[:, :n], axis=0) / self.follower.sizes[:n])])

    def tip(self, current: Corrected, step: float, first: np.ndarray, after: float) -> list[CurvePoint]:
        """The cusp between two points, if both parameters stand still at one place."""
        last = [current]

        def onwards(at: float) -> float | None:
            there = current if at == 0 else self.follower.step(current, at)
            if there is None:
                return None
            last[:] = [there]
            return float(self.speed(there) @ first)

        place = illinois(onwards, 0.0, step, float(first @ first), after, rtol=1e-7)
        still = np.linalg.norm(self.speed(last[0])) < _TOGETHER * np.linalg.norm(first)
        return [CurvePoint(CUSP, self.values(last[0].shape))] if place is not None and still else []


def _folds_of_cycles(task: _Task, start: Special) -> Curve:
    system, (p, q) = task.system, task.free
    n, v, turn = len(system.states), _named(system, "v"), "b"
    while turn in task.setting or turn in system.states:
        turn += "_"
    varied = [a + variable(turn) * f for a, f in zip(linearised(system, v), system.rates, strict=True)]
    numbers = task.usual() | {p: start.parameter, turn: 0.0}
    larger = System((*system.states, *v), numbers, (*system.rates, *map(constant, varied)), {})

    def conditions(f: Follower, behind: Shape) -> list[Condition]:
        return [f.phase(behind, n), f.phase(behind, n, shift=n), _length(f, behind, n)]

    scales = {p: task.range(p), q: task.range(q), turn: 1 / start.period}
    follower = Follower(larger, (PERIOD, p, q, turn), dict(numbers), scales, conditions)
    follower.sizes = np.tile(np.ptp(start.orbit.y, axis=0), 2)
    null, change = null_solution(system, task.usual() | {p: start.parameter}, start.orbit, 1)
    scalars = [start.period, start.parameter, task.usual()[q], change / start.period]
    return _Cycles(task, follower, CYCLE_FOLD).both_ways(_paired(follower, start.orbit, null, scalars, (3,)))


def _doublings(task: _Task, start: Special) -> Curve:
    system, (p, q) = task.system, task.free
    n, v = len(system.states), _named(system, "v")
    numbers = task.usual() | {p: start.parameter}
    larger = System((*system.states, *v), numbers, (*system.rates, *linearised(system, v)), {})

    def conditions(f: Follower, behind: Shape) -> list[Condition]:
        return [f.phase(behind, n), _length(f, behind, n)]

    returns = np.append(np.ones(n), -np.ones(n))
    scales = {p: task.range(p), q: task.range(q)}
    follower = Follower(larger, (PERIOD, p, q), dict(numbers), scales, conditions, returns=returns)
    follower.sizes = np.tile(np.ptp(start.orbit.y, axis=0), 2)
    null, _ = null_solution(system, numbers, start.orbit, -1)
    scalars = [start.period, start.parameter, task.usual()[q]]
    return _Cycles(task, follower, DOUBLING).both_ways(_paired(follower, start.orbit, null, scalars))


def _paired(
    f: Follower, orbit: Orbit, null: np.ndarray, scalars: Sequence[float], scaled: tuple[int, ...] = ()
) -> Shape:
    """The orbit and a solution along it, scaled to length 1 with the scalars that belong to it."""
    shape, n = Shape(orbit.mesh, np.hstack([orbit.y, null]), np.array(scalars, float)), null.shape[1]
    norm = math.sqrt(_squared(f, shape, n))
    shape.y[:, n:] /= norm
    shape.scalars[list(scaled)] /= norm
    return shape


def _homoclinics(task: _Task, start: Orbit) -> Curve:
    (p, q), numbers = task.free, task.usual() | {task.free[0]: start.parameter}

    def conditions(f: Follower, behind: Shape) -> list[Condition]:
        return [f.phase(behind)]

    scales = {p: task.range(p), q: task.range(q)}
    follower = Follower(task.system, (p, q), dict(numbers), scales, conditions, period=start.period)
    follower.sizes = np.ptp(start.y, axis=0)
    shape = Shape(start.mesh, start.y, np.array([start.parameter, task.usual()[q]]))
    return _Cycles(task, follower, HOMOCLINIC).both_ways(shape)


def _squared(f: Follower, shape: Shape, n: int) -> float:
    v = shape.y[:, n:]
    return float(np.einsum("p,ps,ps,s->", f.share(shape), v, v, f.sizes[n:] ** -2.0))


def _length(f: Follower, behind: Shape, n: int) -> Condition:
    """∫ v·v_behind = ∫ v_behind·v_behind, kept at 1."""
    weights = np.zeros_like(behind.y)
    weights[:, n:] = f.share(behind)[:, None] * behind.y[:, n:] / f.sizes[n:] ** 2 / _squared(f, behind, n)
    return Condition(weights, np.zeros(len(f.free)), 1.0)
