"""What a circuit's answer to a step is called: pulse, response time, delay, adaptation, fold-change detection.

An answer is simulated from rest to rest. Extrema and crossings are roots on the solver's continuous output, not points
of a grid, so that a peak between two output times is not lost. What is not there is not a number: one sample's pulse is
a `Pulse` or a `NoPulse` with the reason, and in an ensemble it is NaN and not `present`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from varphi.dynamics.ensemble import Ensemble, Event, Status, simulate
from varphi.dynamics.system import System
from varphi.numbers import variable

from .steady import Rest, rest

if TYPE_CHECKING:
    from .gradients import Gradient

# Extra parameters of a system, for levels to look for; no circuit can have names with blanks.
_LEVELS = ("level one", "level two")
_EXTREMA = 12
LEAST = 0.01
"""How prominent a pulse must be, as a part of the largest level of the output."""
_CROSSINGS = 24
_AT_ONCE = 100_000


@dataclass(frozen=True)
class Pulse:
    """A pulse of the output.

    Attributes:
        amplitude: the peak's level minus the last steady level; negative for a dip.
        peak: the output there.
        time: of the peak.
        width: how long the output is beyond half the prominence, which is the peak's distance from the steady level
            (before or after) that is nearer to it.
        back: when the output has come within 5 % of the amplitude of the last steady level; NaN if not in the time
            simulated.
    """

    amplitude: float
    peak: float
    time: float
    width: float
    back: float

    def __bool__(self) -> bool:
        return True


@dataclass(frozen=True)
class NoPulse:
    """No pulse, and why."""

    reason: str

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True)
class Pulses:
    """The pulses of an ensemble: NaN where there is none.

    Attributes:
        present: which samples have one.
        amplitude, peak, time, width, back: as of `Pulse`.
        reasons: why there is none, "" where there is one.
    """

    present: Bool[np.ndarray, " samples"]
    amplitude: Float[np.ndarray, " samples"]
    peak: Float[np.ndarray, " samples"]
    time: Float[np.ndarray, " samples"]
    width: Float[np.ndarray, " samples"]
    back: Float[np.ndarray, " samples"]
    reasons: tuple[str, ...]

    def __getitem__(self, sample: int) -> Pulse | NoPulse:
        """One sample's."""
        if not self.present[sample]:
            return NoPulse(self.reasons[sample])
        return Pulse(*(float(a[sample]) for a in (self.amplitude, self.peak, self.time, self.width, self.back)))


@dataclass(frozen=True)
class ResponseTimes:
    """When the output first has gone a fraction of the way from one steady level to the other.

    Attributes:
        fraction: of the way.
        time: from the step; NaN where the steady levels are the same, or were not reached.
        acceleration: the time of simple regulation with the same decay, ln(1/(1 - fraction))/alpha, over this time:
            above 1 is faster.
        delay: this time minus that of simple regulation; negative is faster.
    """

    fraction: float
    time: Float[np.ndarray, " samples"]
    acceleration: Float[np.ndarray, " samples"]
    delay: Float[np.ndarray, " samples"]


@dataclass(frozen=True)
class Adaptation:
    """Sensitivity and precision of adaptation, as defined by Ma et al., Cell 138 (2009) 760.

    Attributes:
        sensitivity: |(O_peak - O_1)/O_1| / |(I_2 - I_1)/I_1|, where O_peak is the output farthest from O_1; NaN where
            O_1 or I_1 is 0, which leaves it undefined.
        precision: 1 / (|(O_2 - O_1)/O_1| / |(I_2 - I_1)/I_1|); infinite where the output returns exactly.
    """

    sensitivity: Float[np.ndarray, " samples"]
    precision: Float[np.ndarray, " samples"]

    @property
    def adapts(self) -> Bool[np.ndarray, " samples"]:
        """Sensitivity above 1 and precision above 10, the paper's box."""
        return (self.sensitivity > 1) & (self.precision > 10)


@dataclass(frozen=True)
class Response:
    """The answer of an output to a step of an input, from rest to rest.

    Attributes:
        system, output, step: the name of the output; the input's name, and its level before and after.
        parameters: what differs from the system's values, without the input.
        before, after: the steady states.
        horizon: how long each sample is followed.
        decay: the rate of decay of the output, for comparison with simple regulation; NaN if there is none.
    """

    system: System
    output: str
    step: tuple[str, Any, Any]
    parameters: Mapping[str, Any]
    before: Rest
    after: Rest
    horizon: Float[np.ndarray, " samples"]
    decay: Float[np.ndarray, " samples"]
    threads: int | None = None
    progress: bool = True

    @property
    def first(self) -> Float[np.ndarray, " samples"]:
        """The output before."""
        return self.before.state(self.output)

    @property
    def last(self) -> Float[np.ndarray, " samples"]:
        """The output after."""
        return self.after.state(self.output)

    @property
    def settled(self) -> Bool[np.ndarray, " samples"]:
        """Which samples are at rest before and after."""
        return self.before.found & self.after.found

    @cached_property
    def _extrema(self) -> Ensemble:
        """The first turning points of the output."""
        rate = self.system.rates[self.system.states.index(self.output)]
        return self._simulated(self.system, {}, [Event(rate, "both", stop_after=_EXTREMA)], _EXTREMA)

    @cached_property
    def _levels(self) -> System:
        """The system with two levels as further parameters, so that each sample has its own."""
        s = self.system
        levels = dict.fromkeys(_LEVELS, 0.0)
        return System.of(dict(zip(s.states, s.rates, strict=True)), {**s.parameters, **levels}, units=s.units)

    @property
    def status(self) -> np.ndarray:
        """What became of each sample after the step."""
        return self._extrema.status

    def course(self, times: Any) -> Ensemble:
        """The time courses after the step, at these times."""
        wanted = np.asarray(times, float)
        end = max(float(wanted.max()), 1e-300)
        return self._simulated(self.system, {}, [], 0, times=wanted, end=end)

    def _simulated(
        self,
        system: System,
        more: Mapping[str, Any],
        events: list[Event],
        room: int,
        *,
        times: Any = None,
        end: Any = None,
    ) -> Ensemble:
        start = np.nan_to_num(self.before.states)
        name, _, level = self.step
        return simulate(
            system, self.horizon if end is None else end, start,
            parameters={**self.parameters, name: level, **more}, events=events, most_events=max(room, 1), times=times,
            rtol=1e-8, atol=self._allowed,
            threads=self.threads, progress=self.progress,
        )  # fmt: skip

    @cached_property
    def _allowed(self) -> Float[np.ndarray, " states"]:
        """The absolute error of each state: small beside the sample where it is least, so that no turn is noise."""
        levels = np.fmax(np.abs(self.before.states), np.abs(self.after.states))
        least = np.where(levels > 0, levels, np.inf).min(0)  # NaN compares as no
        return np.clip(np.where(np.isfinite(least), 1e-9 * least, 1e-12), 1e-200, None)

    @cached_property
    def extreme(self) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " samples"]]:
        """The output's largest excursion beyond both steady levels and its time; NaN where it has none."""
        found = self._extrema
        place = self.system.states.index(self.output)
        values, times = found.event_states[:, :, place], found.event_times
        low, high = np.minimum(self.first, self.last)[:, None], np.maximum(self.first, self.last)[:, None]
        beyond = np.maximum(values - high, low - values)
        beyond = np.where(np.isnan(beyond), -np.inf, beyond)
        best = beyond.argmax(1)
        rows = np.arange(len(best))
        there = (beyond[rows, best] > 0) & self.settled & found.ok
        return tuple(np.where(there, a[rows, best], np.nan) for a in (values, times))  # pyright: ignore[reportReturnType]

    def pulses(self, least: float = LEAST) -> Pulses:
        """The pulses of all samples.

        Args:
            least: how prominent a pulse must be, as a part of the largest level of the output.

        Raises:
            ValueError: for a part outside 0 to 1.
        """
        if not 0 < least < 1:
            raise ValueError(f"least is a part of the largest level, between 0 and 1, got {least!r}")
        present, base, prominence, largest = self.prominent(least)
        peak, time = self.extreme
        width, back = (np.full(len(peak), np.nan) for _ in range(2))
        if present.any():
            which = np.flatnonzero(present)
            for part in np.array_split(which, math.ceil(which.size / _AT_ONCE)):  # crossings take memory
                self._shape(part, peak, base, time, width, back)
        reasons = tuple("" if p else self._why(i, prominence[i], largest[i]) for i, p in enumerate(present))
        blank = np.where(present, 0.0, np.nan)
        return Pulses(present, peak - self.last + blank, peak + blank, time + blank, width, back, reasons)

    def prominent(self, least: float = LEAST) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Where the extreme is a pulse, from what level, by how much, and the largest level."""
        peak, _ = self.extreme
        up = peak > self.last
        base = np.where(up, np.fmax(self.first, self.last), np.fmin(self.first, self.last))
        prominence = np.abs(peak - base)
        largest = np.fmax(np.fmax(np.abs(self.first), np.abs(self.last)), np.abs(peak))
        return prominence > least * largest, base, prominence, largest  # NaN compares as no

    def _shape(self, which: np.ndarray, peak: np.ndarray, base: np.ndarray, time: np.ndarray, width: np.ndarray,
               back: np.ndarray) -> None:  # fmt: skip
        """Fill width and return of these samples."""
        part = self._only(which)
        half = (peak + base)[which] / 2
        near = (self.last + 0.05 * (peak - self.last))[which]
        output = variable(self.output)
        events = [Event(output - variable(name), "both") for name in _LEVELS]
        found = part._simulated(part._levels, dict(zip(_LEVELS, (half, near), strict=True)), events, _CROSSINGS)
        when, kind, top = found.event_times, found.event_kinds, time[which][:, None]
        with np.errstate(invalid="ignore"):
            rise = np.where((kind == 0) & (when < top), when, -np.inf).max(1)
            fall = np.where((kind == 0) & (when > top), when, np.inf).min(1)
            close = np.where((kind == 1) & (when > top), when, np.inf).min(1)
        length = fall - rise
        width[which] = np.where(np.isfinite(length), length, np.nan)
        back[which] = np.where(np.isfinite(close), close, np.nan)

    def _why(self, sample: int, prominence: float, largest: float) -> str:
        if not self.before.found[sample] or not self.after.found[sample]:
            return f"no steady state {'before' if not self.before.found[sample] else 'after'} the step was found"
        status = Status(self._extrema.status[sample])
        if not status.ok:
            return f"the simulation {status.told}"
        if math.isnan(prominence):
            return f"{self.output} stays between its steady levels"
        return f"{self.output} goes beyond its steady levels by only {prominence / largest:.2g} of the largest level"

    def response(self, fraction: float = 0.5) -> ResponseTimes:
        """Response times.

        Raises:
            ValueError: for a fraction outside 0 to 1.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must lie between 0 and 1, got {fraction!r}")
        change = self.last - self.first
        size = np.fmax(np.abs(self.first), np.abs(self.last))
        which = np.flatnonzero(self.settled & (np.abs(change) > 1e-9 * size))
        time = np.full(len(change), np.nan)
        if which.size:
            part = self._only(which)
            level = (self.first + fraction * change)[which]
            events = [Event(variable(self.output) - variable(_LEVELS[0]), "both", stop_after=1)]
            found = part._simulated(part._levels, {_LEVELS[0]: level}, events, 1)
            time[which] = found.event_times[:, 0]
        simple = -math.log1p(-fraction) / self.decay
        return ResponseTimes(fraction, time, simple / time, time - simple)

    def adaptation(self) -> Adaptation:
        """Sensitivity and precision of adaptation (Ma et al. 2009)."""
        one, two = (np.broadcast_to(np.asarray(v, float), self.first.shape) for v in self.step[1:])
        peak = self.extreme[0]
        # Without an excursion the output is farthest from where it was in the end.
        ends = np.stack([peak, self.last])
        distance = np.where(np.isnan(ends), -1.0, np.abs(ends - self.first))
        farthest = ends[distance.argmax(0), np.arange(ends.shape[1])]
        with np.errstate(divide="ignore", invalid="ignore"):
            stimulus = np.abs((two - one) / one)
            sensitivity = np.abs((farthest - self.first) / self.first) / stimulus
            precision = stimulus / np.abs((self.last - self.first) / self.first)
        defined = self.settled & (one != 0) & (self.first != 0) & (two != one)
        return Adaptation(np.where(defined, sensitivity, np.nan), np.where(defined, precision, np.nan))

    def measure(self, name: str) -> Float[np.ndarray, " samples"]:
        """One measure by its name in `MEASURES`; NaN where it is absent.

        Raises:
            ValueError: for an unknown name.
        """
        if name not in MEASURES:
            raise ValueError(f"no measure {name!r}; there are {', '.join(MEASURES)}")
        return MEASURES[name](self)

    def monotone(self, tolerance: float = 1e-6) -> Bool[np.ndarray, " samples"]:
        """Whether the output goes from one steady level to the other without turning, to a part of the larger one."""
        found = self._extrema
        values = found.event_states[:, :, self.system.states.index(self.output)]
        size = tolerance * np.fmax(np.abs(self.first), np.abs(self.last))[:, None]
        # A turn that is none: at an end of the way, where the solver's noise turns too.
        with np.errstate(invalid="ignore"):
            turns = (np.abs(values - self.first[:, None]) > size) & (np.abs(values - self.last[:, None]) > size)
        return self.settled & found.ok & ~turns.any(1)

    def gradients(
        self, by: Sequence[str], measures: Sequence[str] = ("peak", "time of peak", "last")
    ) -> dict[str, Gradient]:
        """Measures with their derivatives by parameters; see `gradients`."""
        from .gradients import gradients

        return gradients(self, by, measures)

    def _only(self, which: np.ndarray) -> Response:
        """The same of some samples."""

        def pick(value: Any) -> Any:
            array = np.asarray(value, float)
            return array if array.ndim == 0 else array[which]

        def taken(r: Rest) -> Rest:
            return replace(r, states=r.states[which], found=r.found[which], stable=r.stable[which])

        name, one, two = self.step
        return replace(
            self, step=(name, pick(one), pick(two)), parameters={k: pick(v) for k, v in self.parameters.items()},
            before=taken(self.before), after=taken(self.after), horizon=self.horizon[which], decay=self.decay[which],
        )  # fmt: skip


def _of_pulse(value: Callable[[Response], np.ndarray]) -> Callable[[Response], np.ndarray]:
    return lambda answer: np.where(answer.prominent()[0], value(answer), np.nan)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b != 0)


MEASURES: dict[str, Callable[[Response], np.ndarray]] = {
    "first": lambda a: a.first,
    "last": lambda a: a.last,
    "peak": _of_pulse(lambda a: a.extreme[0]),
    "amplitude": _of_pulse(lambda a: a.extreme[0] - a.last),
    "time of peak": _of_pulse(lambda a: a.extreme[1]),
    "peak/final": _of_pulse(lambda a: _ratio(a.extreme[0], a.last)),
    "response time": lambda a: a.response().time,
    "sensitivity": lambda a: a.adaptation().sensitivity,
    "precision": lambda a: a.adaptation().precision,
    "width": lambda a: a.pulses().width,
    "return time": lambda a: a.pulses().back,
    "acceleration": lambda a: a.response().acceleration,
    "delay": lambda a: a.response().delay,
}
"""Measures of a response by name: for maps, sensitivity analysis and design."""


def respond(
    system: System,
    output: str,
    step: tuple[str, Any, Any],
    horizon: float | np.ndarray,
    *,
    parameters: Mapping[str, Any] | None = None,
    start: Any = None,
    decay: Any = math.nan,
    threads: int | None = None,
    progress: bool = True,
) -> Response:
    """What an output does when an input steps from one level to another.

    Args:
        system: the equations; the input is one of the parameters.
        output: a state.
        step: the input's name, its level before and after; levels one or one for each sample.
        horizon: how long to follow, one time or one for each sample; the rest before and after is waited for twice
            as long.
        parameters: values other than the system's, each a number or one for each sample.
        start: from where the rest before is sought; 0 by default.
        decay: the output's rate of decay, one or one for each sample.

    Raises:
        ValueError: for unknown names, and as `dynamics.simulate`.
    """
    name, one, two = step
    if output not in system.states:
        raise ValueError(f"no state {output!r}; there are {', '.join(system.states)}")
    if name not in system.parameters:
        raise ValueError(f"no input {name!r}; there are {', '.join(system.parameters)}")
    given = {k: np.asarray(v, float) for k, v in (parameters or {}).items() if k != name}
    sizes = {a.size for a in (*given.values(), *map(np.asarray, (one, two, horizon, decay))) if a.ndim == 1}
    if len(sizes) > 1:
        raise ValueError(f"the numbers of samples differ: {', '.join(map(str, sorted(sizes)))}")
    samples = sizes.pop() if sizes else 1
    long = np.broadcast_to(np.asarray(horizon, float), (samples,)).copy()
    options: Any = {"threads": threads, "progress": progress}
    values = [0.0] * len(system.states) if start is None else list(system.named(start).values())
    begin = np.stack([np.broadcast_to(np.asarray(v, float), (samples,)) for v in values], 1)
    before = rest(system, begin, 2 * long, parameters={**given, name: one}, **options)
    after = rest(system, np.nan_to_num(before.states), 2 * long, parameters={**given, name: two}, **options)
    rate = np.broadcast_to(np.asarray(decay, float), (samples,)).copy()
    return Response(system, output, step, given, before, after, long, rate, threads, progress)


@dataclass(frozen=True)
class FoldChange:
    """Whether an output sees only by which factor an input changes (Goentoro et al., Mol. Cell 36 (2009) 894).

    Attributes:
        factor: of the steps.
        levels: from which the steps begin.
        difference: the largest difference between the courses, as a part of their range; near 0 is fold-change
            detection.
    """

    factor: float
    levels: Float[np.ndarray, " levels"]
    difference: float

    @property
    def detects(self) -> bool:
        """Whether the courses agree to 1 %."""
        return self.difference < 0.01


def fold_change(
    system: System, output: str, name: str, factor: float, levels: Any, horizon: float, *, start: Any = None,
    points: int = 401, progress: bool = True,
) -> FoldChange:  # fmt: skip
    """Compare the answers to steps by one factor from several levels.

    Raises:
        ValueError: fewer than two levels, levels or a factor not above 0, or no rest before a step.
    """
    begins = np.asarray(levels, float)
    if begins.ndim != 1 or begins.size < 2 or not (begins > 0).all() or not (factor > 0 and factor != 1):
        raise ValueError("fold-change detection compares steps from two or more levels above 0, by a factor not 1")
    found = respond(system, output, (name, begins, factor * begins), horizon, start=start, progress=progress)
    if not found.settled.all():
        level = begins[~found.settled][0]
        raise ValueError(f"there is no steady state before or after the step from {name} = {level:g}")
    courses = found.course(np.linspace(0, horizon, points)).state(output)
    span = float(np.ptp(courses))
    difference = float(np.ptp(courses, axis=0).max()) / span if span > 0 else math.nan
    return FoldChange(factor, begins, difference)
