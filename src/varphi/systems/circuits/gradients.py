"""Derivatives of measures by parameters: of steady levels, peaks, times, adaptation.

A steady level's come from f(y, p) = 0: dy = -J⁻¹ f_p dp. A peak's time is where z' = 0, so dt* = -(∂z'/∂p)/z'' with the
course's own derivatives at t*; its height has only the course's, because z' is 0 there. A crossing's time moves with
the level that is crossed and the course. Nothing here differentiates the solver's steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from varphi.dynamics.sensitivity import sensitivities
from varphi.numbers.expression import constant
from varphi.numbers.jet import partial

from .measures import Response
from .steady import Rest, evaluated, jacobians, table

DIFFERENTIABLE = (
    "first", "last", "peak", "amplitude", "time of peak", "peak/final", "response time", "sensitivity", "precision",
)  # fmt: skip
"""What has derivatives: levels before and after, and measures as `Response` and `Pulses` define them."""
_OF_PULSES = ("peak", "amplitude", "time of peak", "peak/final")


@dataclass(frozen=True)
class Gradient:
    """A measure and its derivatives.

    Attributes:
        measure: its name.
        by: names of parameters.
        value: the measure; NaN where it is absent.
        slopes: its derivative by each parameter.
    """

    measure: str
    by: tuple[str, ...]
    value: Float[np.ndarray, " samples"]
    slopes: Float[np.ndarray, "samples by"]

    def of(self, parameter: str) -> Float[np.ndarray, " samples"]:
        """The derivative by one parameter."""
        return self.slopes[:, self.by.index(parameter)]


def gradients(answer: Response, by: Sequence[str], measures: Sequence[str]) -> dict[str, Gradient]:
    """Measures of a response with their derivatives by parameters, of all samples at once.

    Args:
        answer: the response.
        by: names of parameters of its equations; not the input, whose levels the step gives.
        measures: of `DIFFERENTIABLE`.

    Raises:
        ValueError: for an unknown measure or parameter, or the input.
    """
    unknown = [m for m in measures if m not in DIFFERENTIABLE]
    if unknown:
        raise ValueError(f"{unknown[0]!r} has no derivatives here; there are {', '.join(DIFFERENTIABLE)}")
    if answer.step[0] in by:
        raise ValueError(
            f"{answer.step[0]!r} is the input, and its levels are the step's: no derivative by it is meant"
        )
    return _Gradients(answer, tuple(by)).of(measures)


class _Gradients:
    def __init__(self, answer: Response, by: tuple[str, ...]) -> None:
        self.answer, self.by, self.system = answer, by, answer.system
        self.place = self.system.states.index(answer.output)
        name, one, two = answer.step
        self.samples = len(answer.first)
        self.before = steady_slopes(answer.before, {**answer.parameters, name: one}, by)
        self.after = steady_slopes(answer.after, {**answer.parameters, name: two}, by)
        self.low = answer.first, self.before[:, self.place]
        self.end = answer.last, self.after[:, self.place]

    def of(self, measures: Sequence[str]) -> dict[str, Gradient]:
        if any(m in (*_OF_PULSES, "sensitivity") for m in measures):
            self.extreme()
        found = {}
        for measure in measures:
            value, slopes = getattr(self, measure.replace(" ", "_").replace("/", "_to_"))()
            if measure in _OF_PULSES:
                value = np.where(self.answer.prominent()[0], value, np.nan)
            slopes = np.where(np.isfinite(value)[:, None], slopes, np.nan)
            found[measure] = Gradient(measure, self.by, value, slopes)
        return found

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The states and their derivatives at one time for each sample; NaN where the time is NaN."""
        n, m = len(self.system.states), len(self.by)
        states, slopes = np.full((self.samples, n), np.nan), np.full((self.samples, n, m), np.nan)
        which = np.flatnonzero(np.isfinite(times) & (times > 0) & self.answer.settled)
        if which.size:
            part = self.answer._only(which)
            name, _, level = part.step
            atol = np.concatenate([part._allowed, np.full(n * m, 1e-9)])
            found = sensitivities(
                self.system, np.zeros(0), part.before.states, self.by, parameters={**part.parameters, name: level},
                start_slopes=self.before[which], end=times[which], rtol=1e-9, atol=atol, threads=part.threads,
                progress=part.progress,
            )  # fmt: skip
            states[which], slopes[which] = found.course.ends[:, :n], found.final_slopes
        return states, slopes

    def along(self, states: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """z', ∂z'/∂p along the course, and z'' at states."""
        name, _, level = self.answer.step
        values = table(self.system, {**self.answer.parameters, name: level}, self.samples)
        rate = self.system.rates[self.place]
        by_states = [partial(rate, s) for s in self.system.states]
        by_values = [partial(rate, p) if p in rate.variables else constant(0) for p in self.by]
        code = self.system.function([*self.system.rates, *by_states, *by_values])
        found = evaluated(self.system, code, states, values)
        n = len(self.system.states)
        rates, inner, direct = found[:, :n], found[:, n : 2 * n], found[:, 2 * n :]
        return rates[:, self.place], direct + np.einsum("si,sip->sp", inner, slopes), (inner * rates).sum(1)

    def extreme(self) -> None:
        value, time = self.answer.extreme
        states, slopes = self.at(time)
        _, moved, bent = self.along(np.nan_to_num(states), np.nan_to_num(slopes))
        self.top = value, slopes[:, self.place]
        with np.errstate(divide="ignore", invalid="ignore"):
            self.when = time, -moved / bent[:, None]

    # Measures: value and derivatives --------------------------------------------------------------------------------

    def first(self) -> tuple[np.ndarray, np.ndarray]:
        return self.low

    def last(self) -> tuple[np.ndarray, np.ndarray]:
        return self.end

    def peak(self) -> tuple[np.ndarray, np.ndarray]:
        return self.top

    def time_of_peak(self) -> tuple[np.ndarray, np.ndarray]:
        return self.when

    def amplitude(self) -> tuple[np.ndarray, np.ndarray]:
        return self.top[0] - self.end[0], self.top[1] - self.end[1]

    def peak_to_final(self) -> tuple[np.ndarray, np.ndarray]:
        return _ratio(self.top, self.end)

    def response_time(self) -> tuple[np.ndarray, np.ndarray]:
        half = 0.5
        time = self.answer.response(half).time
        states, slopes = self.at(time)
        rate, _, _ = self.along(np.nan_to_num(states), np.nan_to_num(slopes))
        level = self.low[1] + half * (self.end[1] - self.low[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            return time, (level - slopes[:, self.place]) / rate[:, None]

    def sensitivity(self) -> tuple[np.ndarray, np.ndarray]:
        value = self.answer.adaptation().sensitivity
        peak, last = self.top, self.end
        far = np.abs(np.nan_to_num(peak[0] - self.low[0])) > np.abs(last[0] - self.low[0])
        ends = np.where(far, peak[0], last[0]), np.where(far[:, None], peak[1], last[1])
        return value, self.relative(ends)[1] / self.stimulus()[:, None]

    def precision(self) -> tuple[np.ndarray, np.ndarray]:
        value = self.answer.adaptation().precision
        change = self.relative(self.end)
        with np.errstate(divide="ignore", invalid="ignore"):
            return value, -self.stimulus()[:, None] / change[0][:, None] ** 2 * change[1]

    def relative(self, level: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """|(O - O_1)/O_1|."""
        ratio, slopes = _ratio(level, self.low)
        side = np.sign(ratio - 1)
        return side * (ratio - 1), side[:, None] * slopes

    def stimulus(self) -> np.ndarray:
        one, two = (np.broadcast_to(np.asarray(v, float), (self.samples,)) for v in self.answer.step[1:])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.abs((two - one) / one)


def _ratio(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return a[0] / b[0], (a[1] * b[0][:, None] - a[0][:, None] * b[1]) / b[0][:, None] ** 2


def steady_slopes(found: Rest, parameters: dict[str, Any], by: Sequence[str]) -> Float[np.ndarray, "samples states by"]:
    """∂y/∂p of steady states; NaN where there is none."""
    system, samples = found.system, len(found.states)
    n = len(system.states)
    slopes = np.full((samples, n, len(by)), np.nan)
    which = np.flatnonzero(found.found)
    if not which.size:
        return slopes
    values = table(system, parameters, samples)[which]
    states = found.states[which]
    code = system.function([partial(r, p) if p in r.variables else constant(0) for r in system.rates for p in by])
    direct = evaluated(system, code, states, values).reshape(len(which), n, len(by))
    matrix = jacobians(system, states, values)
    sound = np.abs(np.linalg.det(matrix)) > 0
    slopes[which[sound]] = -np.linalg.solve(matrix[sound], direct[sound])
    return slopes
