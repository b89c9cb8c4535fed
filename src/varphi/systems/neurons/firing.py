"""f–I curves: at which frequency a membrane fires under a constant current, and whether it can rest as well.

Orbits are integrated until they have closed, not for a fixed time. They are watched at the minima of V, which every
cycle has whatever its height: a threshold that a spike just misses would report silence. Whether a state of rest exists
and is stable is not simulated at all: it follows from the equilibria. A frequency of 0 means that every start came to
rest; what was not settled is said to be unresolved, with a frequency of NaN.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from varphi.dynamics.ensemble import Cycle, Ensemble, Status, simulate
from varphi.dynamics.system import System

from .equilibria import special_points
from .model import APPLIED, Model
from .sweep import Equations, crossings

REST, SPIKING, BISTABLE, UNRESOLVED = "rest", "spiking", "bistable", "unresolved"
_GRID = 600
# A state this near to a stable equilibrium, relative to the window, counts as arrived.
_ARRIVED = 1e-5
# An orbit smaller than this, relative to the window, is no firing.
_SMALLEST = 1e-4
_HALVINGS = 12
# How long to integrate at first, ms; four times longer each time that it was not enough.
_FIRST = 2000.0
# How long to wait at currents that only help to reach others.
_HELPING = 10_000.0
_MOST_STEPS = 2_000_000
_UNSETTLED = "its period is longer, or it settles to none (a very slow current, long bursts, chaos)"
# What a search knows of each sample.
_GROWING = (
    "applied", "places", "growth", "has_rest", "rest", "period", "change", "lows", "highs", "states", "came_to_rest",
    "failed", "minima",
)  # fmt: skip


@dataclass(frozen=True)
class FICurve:
    """Frequency against current.

    Attributes:
        model: whose.
        currents: µA/cm².
        frequency: periods a second (Hz); 0 where every start came to rest, NaN where unresolved. It is that of spikes
            where a period has one minimum of V; a burst, a doublet or a doubled period of several counts as one.
        minima: how many minima of V a period has; 0 where there is no cycle.
        error: how far the frequency may be off: its change under a tolerance ten times finer.
        status: "rest", "spiking", "bistable" (it fires or rests, depending on the start) or "unresolved".
        lows, highs: the extremes of V on the cycle, mV; NaN where there is none.
        rest: the potential of the lowest stable equilibrium; NaN where none is stable.
        states: a point of each cycle.
        reasons: why a current is unresolved, in words; else "".
    """

    model: Model
    currents: Float[np.ndarray, " currents"]
    frequency: Float[np.ndarray, " currents"]
    minima: Int[np.ndarray, " currents"]
    error: Float[np.ndarray, " currents"]
    status: tuple[str, ...]
    lows: Float[np.ndarray, " currents"]
    highs: Float[np.ndarray, " currents"]
    rest: Float[np.ndarray, " currents"]
    states: Float[np.ndarray, "currents states"]
    reasons: tuple[str, ...]

    @property
    def period(self) -> Float[np.ndarray, " currents"]:
        """In ms; NaN where there is no cycle."""
        with np.errstate(divide="ignore"):
            return np.where(self.fires, self.model.frequency[0] / self.frequency, np.nan)

    @property
    def rate(self) -> Float[np.ndarray, " currents"]:
        """Minima of V a second, (Hz): the mean rate of spikes in bursts without small ripples."""
        return self.frequency * np.where(self.minima > 0, self.minima, 1)

    @property
    def fires(self) -> Bool[np.ndarray, " currents"]:
        """Where there is a stable cycle."""
        return np.array([s in (SPIKING, BISTABLE) for s in self.status])

    def __str__(self) -> str:
        unit = self.model.frequency[1]
        current = f"I{self.model.unit(APPLIED)}"
        lines = [f"{self.model.name}", f"{current:>12} {'f (' + unit + ')':>16} {'± error':>10}  status"]
        rows = zip(self.currents, self.frequency, self.error, self.status, self.minima, self.reasons, strict=True)
        for i, f, e, s, minima, why in rows:
            told = why or (f"{minima} minima of V a period" if minima > 1 else "")
            lines.append(f"{i:12.6g} {f:16.9g} {e:10.1e}  {s}" + (f": {told}" if told else ""))
        return "\n".join(lines)


def fi_curve(
    model: Model,
    currents: Sequence[float | str] | np.ndarray,
    *,
    rtol: float = 1e-8,
    longest: float = 1e6,
    threads: int | None = None,
) -> FICurve:
    """The f–I curve of a model.

    Args:
        currents: µA/cm², or texts with a unit, in any order.
        rtol: relative tolerance of the integration; the frequency's relative error is about as large.
        longest: how long to wait for an orbit to close, ms, before it is called unresolved.
        threads: how many; all processors by default.

    Raises:
        ValueError: no currents, currents that are not finite, or ones at which no equilibrium lies in the window.
    """
    plain = [model.applied(i) if isinstance(i, str) else i for i in np.ravel(currents).tolist()]
    wanted = np.asarray(plain, float)
    if not wanted.size or not np.isfinite(wanted).all():
        raise ValueError("currents must be one or more finite numbers")
    folds = [p.V for p in special_points(model).folds]
    grid = np.unique([*np.linspace(*model.span, _GRID), *folds])
    finder = Firing(model, wanted, {}, grid, rtol=rtol, longest=longest, threads=threads)
    _refuse_outside(model, finder, wanted)
    finder.find()
    # A cycle beside a stable rest is found by following it from where nothing is at rest.
    helpers = np.zeros(0) if finder.found.all() else _helpers(model, wanted)
    if helpers.size:
        other = Firing(model, helpers, {}, grid, threads=threads, equations=finder.equations)
        with other.helping():
            other.find()
        finder.join(other)
    finder.follow(len(wanted))
    return finder.curve(slice(0, len(wanted)))


def _refuse_outside(model: Model, finder: Firing, currents: np.ndarray) -> None:
    outside = currents[np.isnan(finder.places[:, 0])]
    if outside.size:
        low, high = model.span
        ends = finder.equations.steady_current(np.array([low, high]), {})
        raise ValueError(
            f"at I = {outside[0]:g} no equilibrium of {model.name} lies between {low:g} and {high:g}: the window's "
            f"ends are equilibria at I = {ends.min():.6g} and {ends.max():.6g}; choose a current between, or a "
            "wider window"
        )


def _helpers(model: Model, currents: np.ndarray) -> np.ndarray:
    """Currents from the wanted ones to the nearest at which no equilibrium is stable."""
    restless = restless_currents(model)
    if not restless:
        return np.zeros(0)
    inside = any(low < c < high for low, high in restless for c in currents)
    low, high = min(currents), max(currents)
    found: list[float] = []
    for a, b in restless:
        anchor = float(np.clip((low + high) / 2, a + 0.05 * (b - a), b - 0.05 * (b - a)))
        near = [c for c in (low, high) if not a < c < b]
        for c in near if not (inside and len(currents) > 8) else near[:0]:
            found += list(np.linspace(anchor, c, 16)[:-1])
        found += list(np.linspace(a, b, 6)[1:-1])
        # Just outside the restless stretch lies what is bistable.
        found += [a - 0.02 * (b - a), b + 0.02 * (b - a)]
    ends = sorted(model_currents(model))
    return np.array([c for c in found if ends[0] < c < ends[1]])


def model_currents(model: Model) -> tuple[float, float]:
    """I_ss at the two ends of the window."""
    found = Equations(model).steady_current(np.array(model.span), {})
    return float(found.min()), float(found.max())


def restless_currents(model: Model) -> list[tuple[float, float]]:
    """Stretches of the current in which no equilibrium is stable."""
    low, high = model_currents(model)
    marks = sorted({p.I for p in special_points(model).points if low < p.I < high} | {low, high})
    equations = Equations(model)
    grid = np.unique([*np.linspace(*model.span, _GRID), *(p.V for p in special_points(model).folds)])
    found: list[tuple[float, float]] = []
    middles = np.array([(a + b) / 2 for a, b in itertools.pairwise(marks)])
    places = crossings(equations, grid, middles, {})
    growth = equations.growth(places, {})
    for (a, b), rates in zip(itertools.pairwise(marks), growth, strict=True):
        if np.nanmin(rates, initial=np.inf) > 0:
            if found and found[-1][1] == a:
                found[-1] = (found[-1][0], b)
            else:
                found.append((a, b))
    return found


def usual_currents(model: Model) -> tuple[float, float]:
    """A range of the current in which the model begins to fire, and ends to."""
    marks = [p.I for p in special_points(model).points]
    lowest, highest = model_currents(model)
    if not marks:
        return lowest, highest
    first, last = marks[0], max(marks)
    margin = 0.2 * max(last - first, 0.25 * abs(first))
    return max(lowest, first - margin), min(highest, last + margin)


class Firing:
    """The search for stable cycles of many samples of one model: currents, or other numbers that differ.

    Args:
        applied: the current of each sample (samples,).
        numbers: other values that differ from the model's, (samples,) each.
        grid: potentials between which I_ss is monotone.
    """

    def __init__(
        self,
        model: Model,
        applied: np.ndarray,
        numbers: Mapping[str, np.ndarray],
        grid: np.ndarray,
        *,
        rtol: float = 1e-8,
        longest: float = 1e6,
        threads: int | None = None,
        equations: Equations | None = None,
    ) -> None:
        self.model, self.applied, self.numbers = model, np.asarray(applied, float), dict(numbers)
        self.rtol, self.longest, self.threads = rtol, longest, threads
        self.equations = Equations(model) if equations is None else equations
        self.places = crossings(self.equations, grid, self.applied, self.numbers)
        columns = {k: v[:, None] for k, v in self.numbers.items()}
        self.growth = self.equations.growth(self.places, columns)
        stable = np.less(self.growth, 0)
        self.has_rest: np.ndarray = np.any(stable, axis=1)
        self.rest = np.where(self.has_rest, np.nanmin(np.where(stable, self.places, np.inf), axis=1), np.nan)
        samples, n = len(self.applied), len(model.states)
        self.period, self.change = np.full(samples, np.nan), np.full(samples, np.nan)
        self.lows, self.highs = np.full(samples, np.nan), np.full(samples, np.nan)
        self.states = np.full((samples, n), np.nan)
        self.came_to_rest = np.zeros(samples, bool)
        self.minima = np.zeros(samples, int)
        self.failed = np.full(samples, int(Status.DONE))
        self.grid, self._tried = grid, set[tuple[int, int]]()
        self._finest = 1e-3 * float(np.ptp(self.applied)) if samples > 1 else 0.0

    @cached_property
    def system(self) -> System:
        return self.model.system()

    @cached_property
    def section(self) -> Any:
        """dV/dt: it rises through zero at each minimum of V."""
        return self.system.rates[0]

    @cached_property
    def _sizes(self) -> np.ndarray:
        """The range of each state over the window: what distances are measured by."""
        low, high = self.model.span
        ends = self.equations.state(np.linspace(low, high, 64), {})
        return np.maximum(np.ptp(ends, axis=0), 1e-9)

    @property
    def found(self) -> np.ndarray:
        """Which samples have a cycle."""
        return np.greater(self.period, 0)

    def find(self) -> None:
        """Look for a cycle from each of several starts, until one is found."""
        for start in (self._kicked, self._released, self._beside_top):
            waiting = np.flatnonzero(~self.found)
            if waiting.size:
                self.attempt(waiting, start(waiting))

    def follow(self, wanted: int) -> None:
        """Follow cycles into currents where only rest was met, halving the step where they are lost.

        A cycle beside a stable rest is seldom met from afar; its neighbour's state is a start near it.

        Args:
            wanted: how many of the first samples are asked for; the others only help.
        """
        for _ in range(len(self.applied) + _HALVINGS):
            pairs = self._edges(wanted)
            if not pairs:
                return
            known, lost = (np.array(side) for side in zip(*pairs, strict=True))
            before = self.found.copy()
            self.attempt(lost[lost < wanted], self.states[known[lost < wanted]])
            with self.helping():
                self.attempt(lost[lost >= wanted], self.states[known[lost >= wanted]])
            if (self.found & ~before).any():
                continue
            # None went over at once: half-way, as long as the steps are not too small.
            wide = np.abs(self.applied[known] - self.applied[lost]) > self._finest
            if not wide.any():
                return
            self._halve(known[wide], lost[wide])

    def _edges(self, wanted: int) -> list[tuple[int, int]]:
        """Neighbours in current of which the first has a cycle and the second none, where that matters."""
        order = np.argsort(self.applied, kind="stable")
        pairs: list[tuple[int, int]] = []
        for found, run in itertools.groupby(range(len(order)), key=lambda k: bool(self.found[order[k]])):
            places = list(run)
            if found or not any(order[k] < wanted for k in places):
                continue
            if places[0] > 0:
                pairs.append((int(order[places[0] - 1]), int(order[places[0]])))
            if places[-1] + 1 < len(order):
                pairs.append((int(order[places[-1] + 1]), int(order[places[-1]])))
        fresh = [p for p in pairs if p not in self._tried]
        self._tried.update(fresh)
        return fresh

    def _halve(self, known: np.ndarray, lost: np.ndarray) -> None:
        """Add samples half-way between neighbours and start them from the known ones."""
        middle = (self.applied[known] + self.applied[lost]) / 2
        more = Firing(self.model, middle, {}, self.grid, threads=self.threads, equations=self.equations)
        with more.helping():
            more.attempt(np.arange(len(middle)), self.states[known])
        self.join(more)

    @contextmanager
    def helping(self) -> Iterator[None]:
        """Less patience and fewer digits, for samples that only help to reach others."""
        before = self.rtol, self.longest
        self.rtol, self.longest = max(self.rtol, 1e-6), min(self.longest, _HELPING)
        yield
        self.rtol, self.longest = before

    def join(self, other: Firing) -> None:
        """Take over the samples of another search of the same model."""
        for name in _GROWING:
            a, b = getattr(self, name), getattr(other, name)
            if a.ndim == 2 and a.shape[1] != b.shape[1]:
                most = max(a.shape[1], b.shape[1])
                a, b = (np.pad(x, ((0, 0), (0, most - x.shape[1])), constant_values=np.nan) for x in (a, b))
            setattr(self, name, np.concatenate([a, b]))
        self._finest = 1e-3 * float(np.ptp(self.applied))

    # ------------------------------------------------------------------------------------------------ starts

    def _own(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        return {k: v[samples] for k, v in self.numbers.items()}

    def _kicked(self, samples: np.ndarray) -> np.ndarray:
        """As a short shock leaves a resting membrane: gates of the lowest equilibrium, V near the top of the window."""
        states = self.equations.state(self.places[samples, 0], self._own(samples))
        low, high = self.model.span
        states[:, 0] = low + 0.8 * (high - low)
        return states

    def _released(self, samples: np.ndarray) -> np.ndarray:
        """As after a long hyperpolarisation: gates of the lowest potential of the window, V there."""
        low, high = self.model.span
        return self.equations.state(np.full(len(samples), low + 0.02 * (high - low)), self._own(samples))

    def _beside_top(self, samples: np.ndarray) -> np.ndarray:
        """Just beside the highest equilibrium: a small cycle around it is met first."""
        top = np.nanmax(self.places[samples], axis=1)
        states = self.equations.state(top, self._own(samples))
        states[:, 0] += 0.01 * (self.model.span[1] - self.model.span[0])
        return states

    # ------------------------------------------------------------------------------------------------ integration

    def attempt(self, samples: np.ndarray, starts: np.ndarray) -> None:
        """Integrate samples until they close or come to rest; settle those that close."""
        if not samples.size:
            return
        end = min(self.longest, _FIRST)
        begin_states, left = starts, np.arange(len(samples))
        spent = 0.0
        while left.size and spent < self.longest:
            found = self.integrate(samples[left], begin_states, end, self.rtol)
            closed = _are(found, Status.CLOSED)
            if closed.any():
                self._settle(samples[left[closed]], found.ends[closed], found.periods[closed], found)
            arrived = self._arrived(samples[left], found.ends) & ~closed
            self.came_to_rest[samples[left[arrived]]] = True
            failed = ~found.ok
            self.failed[samples[left[failed]]] = found.status[failed]
            going = ~closed & ~arrived & ~failed
            left, begin_states = left[going], found.ends[going]
            spent += end
            end = min(4 * end, self.longest)

    def integrate(self, samples: np.ndarray, starts: np.ndarray, end: float | np.ndarray, rtol: float) -> Any:
        """From these states until an orbit closes or `end` is reached."""
        values = {APPLIED: self.applied[samples], **self._own(samples)}
        return simulate(
            self.system, end, starts, parameters=values, rtol=rtol, atol=rtol * 1e-2, most_steps=_MOST_STEPS,
            cycle=Cycle(self.section), threads=self.threads, progress=False,
        )  # fmt: skip

    def _arrived(self, samples: np.ndarray, states: np.ndarray) -> np.ndarray:
        """Which states have come to a stable equilibrium."""
        arrived = np.zeros(len(samples), bool)
        for k in range(self.places.shape[1]):
            where = self.growth[samples, k] < 0
            v = np.where(where, self.places[samples, k], 0.0)
            target = self.equations.state(v, self._own(samples))
            distance = (np.abs(states - target) / self._sizes).max(1)
            arrived |= where & (distance < _ARRIVED)
        return arrived

    def _settle(self, samples: np.ndarray, states: np.ndarray, periods: np.ndarray, first: Any) -> None:
        """Go around once more, ten times finer: the period again, its change, and the extremes of V."""
        finer = self.integrate(samples, states, np.minimum(2000 * periods, self.longest), max(self.rtol / 10, 1e-13))
        closed = _are(finer, Status.CLOSED)
        low, high = finer.lows[:, 0], finer.highs[:, 0]
        tall: np.ndarray = high - low > _SMALLEST * (self.model.span[1] - self.model.span[0])
        good = closed & tall & (finer.periods > 0)
        # Small, or shrinking ever more slowly: an approach to an equilibrium that is (barely) stable.
        kept = samples[good]
        self.period[kept] = finer.periods[good]
        self.change[kept] = np.abs(finer.periods[good] - periods[good])
        self.lows[kept], self.highs[kept] = low[good], high[good]
        self.minima[kept] = finer.crossings[good]
        self.states[kept] = finer.ends[good]
        small = samples[~tall & self.has_rest[samples]]
        self.came_to_rest[small] = True

    # ------------------------------------------------------------------------------------------------ results

    def status(self) -> list[str]:
        """What became of each sample."""
        return [
            (BISTABLE if rest else SPIKING) if found else REST if rest and came else UNRESOLVED
            for found, rest, came in zip(self.found, self.has_rest, self.came_to_rest, strict=True)
        ]

    def reason(self, sample: int) -> str:
        """Why a sample is unresolved."""
        if self.failed[sample] == Status.TOO_MANY_STEPS:
            return f"an orbit of {_MOST_STEPS:,} steps did not close: {_UNSETTLED}"
        if self.failed[sample] != Status.DONE:
            return f"an orbit {Status(self.failed[sample]).told}"
        if self.came_to_rest[sample]:
            return "an orbit came near an equilibrium that is not stable"
        within = f"{self.longest:g}{'' if self.model.dimensionless else ' ms'}"
        return f"no orbit closed within {within}: {_UNSETTLED}"

    def curve(self, part: slice) -> FICurve:
        """The samples of a part as a curve."""
        scale = self.model.frequency[0]
        status = self.status()[part]
        period = self.period[part]
        frequency = np.where([s == REST for s in status], 0.0, scale / period)
        noise = 20 * self.rtol / 10
        error = np.where(self.found[part], scale / period * (self.change[part] / period + noise), np.nan)
        error = np.where([s == REST for s in status], 0.0, error)
        return FICurve(
            self.model,
            self.applied[part],
            frequency,
            self.minima[part],
            error,
            tuple(status),
            self.lows[part],
            self.highs[part],
            self.rest[part],
            self.states[part],
            tuple(self.reason(k) if s == UNRESOLVED else "" for k, s in enumerate(status)),
        )


def _are(found: Ensemble, status: Status) -> np.ndarray:
    return np.equal(found.status, int(status))
