"""A circuit that does what a specification asks for: parameters found by global search, by gradients, or by both.

Both minimise the same sum of squares: of ln(measure/target), or of how far the measure is outside a range, in the same
coordinates (a range's parts from 0 to 1) and within the same processor time on one thread. What was found is measured
again by SciPy's Radau at a tight tolerance, which shares no solver with the search.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from scipy.integrate import solve_ivp
from scipy.optimize import brentq, differential_evolution, root

from .gradients import DIFFERENTIABLE, gradients
from .sampling import Range

if TYPE_CHECKING:
    from .measures import Response
    from .subject import Subject

Wanted: TypeAlias = "float | tuple[float, float]"
Method: TypeAlias = Literal["global", "gradient", "both"]

_ABSENT = 5.0
"""The residual of a measure that is not there, and the most any has: a factor of 148."""
_SOLVED = 1e-8
_POOL, _STARTS = 512, 32
_POPULATION = 10


@dataclass(frozen=True)
class Contender:
    """What one method found.

    Attributes:
        method: "global" (differential evolution) or "gradient" (Levenberg-Marquardt from many starts).
        loss: the sum of squared residuals of its best.
        seconds: of processor time it took.
        samples: how many parameter sets it simulated.
        parameters: its best.
    """

    method: str
    loss: float
    seconds: float
    samples: int
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class Design:
    """A circuit to a specification.

    Attributes:
        parameters: the best that was found.
        achieved: the measures there, NaN where absent.
        verified: the same by another solver at a tight tolerance.
        spec: what was asked for.
        winner: which method found it: that with the smaller loss, of two that solved it the faster.
        contenders: what each method found.
    """

    parameters: Mapping[str, float]
    achieved: Mapping[str, float]
    verified: Mapping[str, float]
    spec: Mapping[str, Wanted]
    winner: str
    contenders: tuple[Contender, ...]

    def meets(self, tolerance: float = 0.01) -> bool:
        """Whether each measure, as verified, is within the range asked for, or near the target by this part of it."""
        return all(abs(_residual(self.verified[m], wanted)) <= math.log1p(tolerance) for m, wanted in self.spec.items())

    @property
    def disagreement(self) -> float:
        """The largest relative difference between a measure and its verification."""
        pairs = ((self.achieved[m], self.verified[m]) for m in self.spec)
        return max((abs(a - b) / abs(b) if a != b else 0.0 for a, b in pairs), default=0.0)


def design(
    circuit: Subject,
    spec: Mapping[str, Wanted],
    bounds: Mapping[str, Range],
    step: tuple[str, float, float],
    output: str | None = None,
    *,
    horizon: float | None = None,
    method: Method = "both",
    seconds: float = 10.0,
    seed: int = 0,
    progress: bool = True,
) -> Design:
    """Parameters with which a circuit's answer to a step is as asked for.

    Args:
        circuit: a circuit or model; parameters outside the bounds have its values.
        spec: measures of `gradients.DIFFERENTIABLE` ("peak", "peak/final", "time of peak", "response
            time", "precision", ...) and what each should be: a number above 0, or a range (low, high), high up
            to infinity.
        bounds: where each free parameter may lie.
        step, output, horizon: as for `respond`.
        method: "both" runs one after the other and says which won.
        seconds: of processor time for each method.
        seed: of the random numbers.
        progress: whether to show a bar on standard error.

    Raises:
        ValueError: an empty or unknown specification, impossible targets, no bounds, or as `respond`.
    """
    _refuse(spec, bounds, method, seconds)
    problem = _Problem(circuit, dict(spec), dict(bounds), step, output, horizon)
    problem.losses(np.full((1, len(bounds)), 0.5))  # compile, and refuse what `respond` refuses, before the clock runs
    problem.slopes(np.full((1, len(bounds)), 0.5))
    methods = ("global", "gradient") if method == "both" else (method,)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("best loss {task.fields[loss]:.3g}"))
    found = []
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not progress or seconds < 2) as bar:
        for name in methods:
            task = bar.add_task(f"{name} search", total=seconds, loss=math.inf)
            clock = _Clock(problem, seconds, lambda at, loss, task=task: bar.update(task, completed=at, loss=loss))
            (_global if name == "global" else _gradient)(problem, clock, seed)
            found.append(clock.contender(name))
    solved = [c for c in found if c.loss <= _SOLVED]
    best = min(solved, key=lambda c: c.seconds) if solved else min(found, key=lambda c: c.loss)
    achieved = problem.measured(best.parameters)
    verified = verification(problem.respond({k: np.array([v]) for k, v in best.parameters.items()}), tuple(spec))
    return Design(best.parameters, achieved, verified, dict(spec), best.method, tuple(found))


def _refuse(spec: Mapping[str, Wanted], bounds: Mapping[str, Range], method: str, seconds: float) -> None:
    if not spec:
        raise ValueError(f"a specification needs one measure or more: {', '.join(DIFFERENTIABLE)}")
    for measure, wanted in spec.items():
        if measure not in DIFFERENTIABLE:
            raise ValueError(f"{measure!r} cannot be asked for; there are {', '.join(DIFFERENTIABLE)}")
        if not isinstance(wanted, tuple) and not math.isfinite(wanted):
            raise ValueError(f"{measure} should be a finite number, got {wanted!r}; write (10, inf) for at least 10")
        low, high = wanted if isinstance(wanted, tuple) else (wanted, wanted)
        if not (0 <= low <= high and high > 0 and math.isfinite(low)):
            raise ValueError(f"{measure} should be a number above 0 or a range (low, high), got {wanted!r}")
    if not bounds:
        raise ValueError("no parameter is free: give bounds")
    if method not in ("global", "gradient", "both"):
        raise ValueError(f"method is 'global', 'gradient' or 'both', got {method!r}")
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds must be a finite number above 0, got {seconds!r}")


def _residual(value: Any, wanted: Wanted) -> Any:
    """ln(measure/target), or ln of how far outside the range; at most 5 either way, and 5 where absent."""
    low, high = wanted if isinstance(wanted, tuple) else (wanted, wanted)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.log(value / low) if low > 0 else np.where(np.asarray(value) >= 0, np.inf, -np.inf)
        above = np.log(value / high)
    found = np.where(below < 0, below, np.where(above > 0, above, 0.0))
    found = np.where(np.isnan(value) | (np.asarray(value) < 0), _ABSENT, found)
    return np.clip(found, -_ABSENT, _ABSENT)


@dataclass
class _Problem:
    circuit: Subject
    spec: dict[str, Wanted]
    bounds: dict[str, Range]
    step: tuple[str, float, float]
    output: str | None
    horizon: float | None

    def parameters(self, parts: Float[np.ndarray, "samples n"]) -> dict[str, Float[np.ndarray, " samples"]]:
        return {name: r.at(parts[:, i]) for i, (name, r) in enumerate(self.bounds.items())}

    def respond(self, parameters: Mapping[str, Any]) -> Response:
        return self.circuit.respond(
            self.step, self.output, self.horizon, parameters=parameters, threads=1, progress=False
        )

    def losses(self, parts: Float[np.ndarray, "samples n"]) -> Float[np.ndarray, " samples"]:
        """The sum of squared residuals, without derivatives."""
        answer = self.respond(self.parameters(parts))
        residuals = [_residual(answer.measure(m), wanted) for m, wanted in self.spec.items()]
        return (np.array(residuals) ** 2).sum(0)

    def slopes(self, parts: Float[np.ndarray, "samples n"]) -> tuple[np.ndarray, np.ndarray]:
        """Residuals (samples, measures) and their derivatives by the parts (samples, measures, n)."""
        parameters = self.parameters(parts)
        own = [self.circuit.resolved({name: 1.0}) for name in self.bounds]
        by = list(dict.fromkeys(k for names in own for k in names))
        found = gradients(self.respond(parameters), by, tuple(self.spec))
        residuals, slopes = [], []
        for measure, wanted in self.spec.items():
            g = found[measure]
            r = _residual(g.value, wanted)
            inner = np.where((r != 0) & (np.abs(r) < _ABSENT), 1.0, 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                each = [
                    inner / g.value * sum(g.of(k) for k in names) * self.bounds[name].slope(parameters[name])
                    for name, names in zip(self.bounds, own, strict=True)
                ]
            residuals.append(r)
            slopes.append(np.nan_to_num(np.array(each).T, posinf=0.0, neginf=0.0))
        return np.array(residuals).T, np.moveaxis(np.array(slopes), 0, 1)

    def measured(self, parameters: Mapping[str, float]) -> dict[str, float]:
        answer = self.respond({k: np.array([v]) for k, v in parameters.items()})
        return {m: float(answer.measure(m)[0]) for m in self.spec}


class _Clock:
    """The time that a method has, and the best it found."""

    def __init__(self, problem: _Problem, seconds: float, show: Callable[[float, float], None]) -> None:
        self.problem, self.seconds, self.show = problem, seconds, show
        self.begin = time.process_time()
        self.best, self.parts, self.samples, self.took = math.inf, np.zeros(len(problem.bounds)), 0, 0.0

    def note(self, parts: np.ndarray, losses: np.ndarray) -> None:
        """Take note of samples."""
        self.samples += len(parts)
        i = int(losses.argmin())
        if losses[i] < self.best:
            self.best, self.parts = float(losses[i]), parts[i].copy()
            self.took = time.process_time() - self.begin
        self.show(min(time.process_time() - self.begin, self.seconds), self.best)

    @property
    def over(self) -> bool:
        """Whether the time is up, or nothing is left to find."""
        return time.process_time() - self.begin >= self.seconds or self.best <= _SOLVED

    def contender(self, method: str) -> Contender:
        took = time.process_time() - self.begin
        best = {k: float(v[0]) for k, v in self.problem.parameters(self.parts[None]).items()}
        return Contender(method, self.best, took, self.samples, best)


def _global(problem: _Problem, clock: _Clock, seed: int) -> None:
    """Differential evolution, a whole generation in one ensemble."""

    def losses(parts: np.ndarray) -> np.ndarray:
        columns = np.atleast_2d(parts.T)
        found = problem.losses(columns)
        clock.note(columns, found)
        return found

    generation = 0
    while not clock.over:
        differential_evolution(
            losses, [(0.0, 1.0)] * len(problem.bounds), popsize=_POPULATION, maxiter=10_000, tol=0.0,
            updating="deferred", vectorized=True, polish=False, rng=np.random.default_rng([seed, generation]),
            callback=lambda *_: clock.over,
        )  # fmt: skip
        generation += 1


def _gradient(problem: _Problem, clock: _Clock, seed: int) -> None:
    """Levenberg-Marquardt from the best of random starts, all of them one ensemble; what is stuck starts again."""
    random = np.random.default_rng([seed, 1])
    n = len(problem.bounds)
    while not clock.over:
        pool = random.random((_POOL, n))
        losses = problem.losses(pool)
        clock.note(pool, losses)
        x = pool[np.argsort(losses)[:_STARTS]]
        residuals, slopes = problem.slopes(x)
        loss = (residuals**2).sum(1)
        damping = np.full(len(x), 1e-2)
        for _ in range(200):
            if clock.over or not (going := damping < 1e6).any():
                break
            square = np.einsum("sma,smb->sab", slopes, slopes)
            size = np.einsum("saa->sa", square)
            square = square + damping[:, None, None] * (
                np.einsum("sa,ab->sab", size, np.eye(n)) + 1e-9 * np.eye(n)[None]
            )
            ahead = x - np.linalg.solve(square, np.einsum("sma,sm->sa", slopes, residuals)[:, :, None])[:, :, 0]
            tried = np.where(going[:, None], np.clip(ahead, 0.0, 1.0), x)
            new, steep = problem.slopes(tried)
            there = (new**2).sum(1)
            clock.note(tried, there)
            better = there < loss * (1 - 1e-6)
            x = np.where(better[:, None], tried, x)
            residuals, slopes = (
                np.where(better[:, None], new, residuals),
                np.where(better[:, None, None], steep, slopes),
            )
            loss = np.where(better, there, loss)
            damping = np.where(better, np.maximum(damping / 5, 1e-12), damping * 4)


def verification(answer: Response, measures: tuple[str, ...]) -> dict[str, float]:
    """Measures of one sample's response by SciPy's Radau at rtol 1e-10, with extrema and crossings by brentq.

    Nothing of the search's solver, events or steady states takes part; only where to stop waiting does.
    """
    name, one, two = answer.step
    system, place = answer.system, answer.system.states.index(answer.output)
    horizon = float(answer.horizon[0])

    def law(level: Any) -> Callable[[float, np.ndarray], np.ndarray]:
        setting = {k: float(np.ravel(v)[0]) for k, v in {**answer.parameters, name: level}.items()}
        return lambda t, y: np.array([float(v) for v in system(np.asarray(y).tolist(), t=float(t), **setting)])

    def settled(rate: Callable[[float, np.ndarray], np.ndarray], start: np.ndarray) -> np.ndarray:
        found = solve_ivp(rate, (0, 2 * horizon), start, method="Radau", rtol=1e-8, atol=1e-12).y[:, -1]
        return root(lambda y: rate(0.0, y), found, tol=1e-13).x

    before, after = law(one), law(two)
    first = settled(before, np.nan_to_num(answer.before.states[0]))
    last = settled(after, first)
    course = solve_ivp(after, (0, horizon), first, method="Radau", rtol=1e-10, atol=1e-13, dense_output=True)
    begin, end = float(first[place]), float(last[place])
    low, high = min(begin, end), max(begin, end)
    solve: Any = brentq

    def roots(f: Callable[[float], float]) -> list[float]:
        values = [f(t) for t in course.t]
        return [
            solve(f, a, b, xtol=1e-13)
            for a, b, u, v in zip(course.t, course.t[1:], values, values[1:], strict=False)
            if u * v < 0
        ]

    turns = roots(lambda t: float(after(t, course.sol(t))[place]))
    levels = [(max(v - high, low - v), v, t) for t in turns for v in [float(course.sol(t)[place])]]
    beyond, peak, when = max(levels, default=(0.0, math.nan, math.nan))
    if not beyond > 0.01 * max(abs(begin), abs(end), abs(peak)):
        peak = when = math.nan
    half = roots(lambda t: float(course.sol(t)[place]) - (begin + end) / 2)
    far = max([v for _, v, _ in levels] + [end], key=lambda v: abs(v - begin))
    with np.errstate(divide="ignore", invalid="ignore"):
        change = abs(np.float64(two - one) / one)
        found = {
            "first": begin, "last": end, "peak": peak, "amplitude": peak - end, "time of peak": when,
            "peak/final": peak / np.float64(end), "response time": min(half, default=math.nan),
            "sensitivity": abs(np.float64(far - begin) / begin) / change,
            "precision": change / abs(np.float64(end - begin) / begin),
        }  # fmt: skip
    return {m: float(found[m]) for m in measures}
