"""Time courses of a system for one or many samples: starts and parameters that differ.

`simulate` advances eight samples at a time in each thread (`drive`), every sample with its own steps. Each ends with a
status of its own, and what was computed of a sample that failed is kept.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from varphi.numbers import Expression
from varphi.numbers.kernel.batch import WIDTH

from . import drive
from . import events as events_code
from .machine import aligned
from .progress import watched
from .status import Status
from .system import System


@dataclass(frozen=True)
class Event:
    """Something to look for: a zero of a function of states, parameters and t.

    Attributes:
        zero: a formula ("v + 20"), or an expression.
        direction: "rising", "falling" or "both".
        stop_after: at which of these events a sample stops; 0 never.
    """

    zero: str | Expression
    direction: Literal["rising", "falling", "both"] = "both"
    stop_after: int = 0


@dataclass(frozen=True)
class Cycle:
    """Stop as soon as an orbit has closed, and say its period.

    The orbit is watched where it crosses `section`; it has closed when it comes back to the same state, twice in a row.
    So a burst of several crossings is one period, and a transient that passes near itself once is none.

    Attributes:
        section: a formula whose rising zero is watched.
        tolerance: how near the states must be, relative to the range of each state on the orbit; by default ten times
            the solver's `rtol`, which is about the noise of its events.
        returns: how many crossings a period may have.
    """

    section: str | Expression
    tolerance: float | None = None
    returns: int = 8


@dataclass(frozen=True)
class Ensemble:
    """What `simulate` found.

    Attributes:
        system: what was simulated.
        times: when states were asked for.
        states: at these times, NaN where a sample ended before.
        ends, end_times: the last state of each sample, and its time.
        status: what became of each; see `Status`.
        steps: accepted steps with the explicit and with the implicit method.
        lows, highs: the smallest and largest value of each state over the steps.
        event_times, event_kinds, event_states: events in the order of time, the first of each sample first; NaN and -1
            after the last.
        periods: the period of each closed cycle, else NaN.
        crossings: how many crossings of the section it has, else 0.
    """

    system: System
    times: Float[np.ndarray, " times"]
    states: Float[np.ndarray, "samples times states"]
    ends: Float[np.ndarray, "samples states"]
    end_times: Float[np.ndarray, " samples"]
    status: Int[np.ndarray, " samples"]
    steps: Int[np.ndarray, "samples 2"]
    lows: Float[np.ndarray, "samples states"]
    highs: Float[np.ndarray, "samples states"]
    event_times: Float[np.ndarray, "samples events"]
    event_kinds: Int[np.ndarray, "samples events"]
    event_states: Float[np.ndarray, "samples events states"]
    periods: Float[np.ndarray, " samples"]
    crossings: Int[np.ndarray, " samples"]

    @property
    def ok(self) -> np.ndarray:
        """Which samples went as far as was asked for."""
        return np.array([Status(s).ok for s in self.status])

    def state(self, name: str) -> Float[np.ndarray, "samples times"]:
        """One state over time."""
        return self.states[:, :, self.system.states.index(name)]

    def failures(self) -> dict[str, int]:
        """How many samples failed, by reason."""
        failed = [Status(s) for s in self.status if not Status(s).ok]
        return {s.told: failed.count(s) for s in Status if s in failed}


def simulate(
    system: System,
    end: float | Sequence[float] | np.ndarray,
    start: Any,
    *,
    parameters: Mapping[str, Any] | None = None,
    begin: float = 0.0,
    times: Sequence[float] | np.ndarray | None = None,
    rtol: float = 1e-6,
    atol: float | Sequence[float] | np.ndarray = 1e-9,
    method: Literal["auto", "explicit", "stiff"] = "auto",
    events: Sequence[Event] = (),
    cycle: Cycle | None = None,
    most_events: int = 64,
    most_steps: int = 1_000_000,
    largest_step: float = math.inf,
    threads: int | None = None,
    progress: bool = True,
) -> Ensemble:
    """Integrate a system for one or many samples.

    Args:
        system: the equations.
        end: when to end, one time or one for each sample.
        start: the first states: a mapping by name or a sequence; each value a number or one for each sample; or an
            array (samples, states).
        parameters: values other than the usual ones, each a number or one for each sample.
        begin: when to begin.
        times: when states are wanted, increasing; interpolated with order 4 (explicit) or 3 (stiff). Between the steps
            of a very stiff sample, states that others drag along are less accurate than `rtol`; `largest_step` helps.
        rtol, atol: the error allowed in a step is atol + rtol·|y|, as a root mean square over the states.
        method: "auto" begins with Dormand-Prince 5(4) and goes over to RODAS 4(3) where a sample turns out stiff.
        events: what to look for on the way.
        cycle: when an orbit counts as closed.
        most_events: how many events a sample may record; the last ones are kept.
        most_steps: how many steps, accepted or not, a sample may take.
        largest_step: the largest step.
        threads: how many threads; all processors by default.
        progress: whether to show a bar, on standard error, for work of more than two seconds.

    Raises:
        ValueError, TypeError: for unusable arguments. A sample that fails raises nothing: see its status.
    """
    starts, values, ends = _samples(system, start, parameters or {}, end, begin)
    samples, n = starts.shape
    wanted = np.zeros(0) if times is None else np.array(times, float)
    if wanted.ndim != 1 or not np.isfinite(wanted).all() or (np.diff(wanted) < 0).any():
        raise ValueError("times must be a list of finite, increasing numbers")
    if wanted.size and wanted[0] < begin:
        raise ValueError(f"times begin at {wanted[0]:g}, before the simulation at {begin:g}")
    allowed = np.broadcast_to(np.asarray(atol, float), (n,)).copy()
    if not (rtol >= 1e-14 and (allowed >= 0).all() and math.isfinite(rtol) and (rtol > 0 or (allowed > 0).all())):
        raise ValueError(f"rtol must be at least 1e-14 and atol not negative, got {rtol!r} and {atol!r}")
    if method not in ("auto", "explicit", "stiff"):
        raise ValueError(f"method is 'auto', 'explicit' or 'stiff', got {method!r}")
    watched_events = [*events, *([Event(cycle.section, "rising")] if cycle else [])]
    zeros = [system.expression(e.zero) for e in watched_events]
    code = system.function(zeros) if zeros else None
    room = most_events if watched_events else 0
    out = _Out.of(samples, n, len(wanted), room)
    own = system.solver_code
    given = _Given(
        {
            "prepare": own.prepare.address,
            "rate": own.rate.address,
            "jacobian": own.jacobian.address,
            "events": code.address if code else 0,
            "handler": events_code.handler().address if code else 0,
            "atol": allowed,
            "times": wanted,
            "directions": np.array([{"rising": 1, "falling": -1, "both": 0}[e.direction] for e in watched_events], int),
            "terminal": np.array([e.stop_after for e in watched_events], int),
            "states": n,
            "parameter_count": len(system.parameters),
            "time_count": len(wanted),
            "kinds": len(watched_events),
            "room": room,
            "section": len(watched_events) - 1 if cycle else -1,
            "returns": cycle.returns if cycle else 0,
            "closing": (cycle.tolerance or 10 * rtol) if cycle else 0.0,
            "stiff": int(method == "stiff"),
            "may_switch": int(method == "auto"),
            "most_steps": most_steps,
            "begin": float(begin),
            "rtol": rtol,
            "largest": float(largest_step),
        },
        {"starts": starts, "parameters": values, "ends": ends, **out.arrays},
        own.rate.inputs,
    )
    _run(given, samples, threads or os.cpu_count() or 1, progress)
    return out.ensemble(system, wanted)


@dataclass
class _Given:
    """What the solver is called with: what is the same for all samples, and arrays of a row for each."""

    common: dict[str, Any]
    samples: dict[str, np.ndarray]
    rows: int  # that the system's code reads

    def run(self, part: slice, watch: np.ndarray) -> None:
        """Samples of one part."""
        c = self.common
        count, n, kinds = part.stop - part.start, c["states"], c["kinds"]
        sizes = {
            "rows": self.rows,
            **dict.fromkeys(("y", "new", "inner", "other", "low", "high", "span_low", "span_high", "spans"), n),
            **{"k": 7 * n, "stages": 6 * n, "dense": 5 * n},
            **dict.fromkeys(("g_old", "g_new", "g_scratch", "totals"), kinds),
            "turns": c["room"],
        }
        # What the implicit method alone uses is touched by it alone, and so not yet there.
        sizes |= {"matrix": n * n, "slopes": n * n + n}
        room = {name: aligned(rows, WIDTH) for name, rows in sizes.items()}
        room |= {"swaps": np.zeros(n * n, np.uint8), "held": np.zeros(count, np.int64), "held_steps": np.zeros(count)}
        drive.drive()(**c, **{k: a[part] for k, a in self.samples.items()}, **room, watch=watch, samples=count)


@dataclass
class _Out:
    """The arrays that the solver fills, by the names of its arguments."""

    arrays: dict[str, np.ndarray]

    @staticmethod
    def of(samples: int, n: int, times: int, room: int) -> _Out:
        return _Out(
            {
                "found": np.full((samples, times, n), np.nan),
                "finals": np.full((samples, n), np.nan),
                "final_times": np.full(samples, np.nan),
                "status": np.full(samples, int(Status.INTERRUPTED), np.int64),
                "steps": np.zeros((samples, 2), np.int64),
                "event_times": np.full((samples, room), np.nan),
                "event_kinds": np.full((samples, room), -1, np.int64),
                "event_states": np.full((samples, room, n), np.nan),
                "event_counts": np.zeros(samples, np.int64),
                "periods": np.full((samples, 2), np.nan),
                "lows": np.full((samples, n), np.nan),
                "highs": np.full((samples, n), np.nan),
            }
        )

    def ensemble(self, system: System, times: np.ndarray) -> Ensemble:
        found, ends, end_times, status, steps, when, kinds, where, counts, periods, lows, highs = self.arrays.values()
        room = when.shape[1]
        for s in np.flatnonzero(counts > room) if room else ():
            shift = -(int(counts[s]) % room)  # kept in a ring: the oldest first
            for array in (when, kinds, where):
                array[s] = np.roll(array[s], shift, axis=0)
        crossings = np.nan_to_num(periods[:, 1]).astype(np.int64)
        return Ensemble(
            system,
            times,
            found,
            ends,
            end_times,
            status,
            steps,
            lows,
            highs,
            when,
            kinds,
            where,
            periods[:, 0],
            crossings,
        )


def _run(given: _Given, samples: int, threads: int, progress: bool) -> None:
    """Share the samples among threads; Ctrl-C ends all of them and keeps what is there."""
    drive.drive()  # compiled before several threads ask for it
    # Several parts a thread even out slow samples; eight lanes want company.
    parts = max(1, min(4 * threads if threads > 1 else 1, samples // 32))
    edges = np.linspace(0, samples, parts + 1).astype(int)
    slices = [slice(a, b) for a, b in itertools.pairwise(edges)]
    watches = [np.zeros(2, np.int64) for _ in slices]
    if parts == 1 and not progress:
        given.run(slices[0], watches[0])
        return
    with ThreadPoolExecutor(min(threads, parts)) as pool:
        jobs = [pool.submit(given.run, part, w) for part, w in zip(slices, watches, strict=True)]
        watched(jobs, watches, samples, progress)


def _samples(
    system: System, start: Any, parameters: Mapping[str, Any], end: Any, begin: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First states (samples, states), parameters (samples, parameters) and ends (samples,)."""
    columns = [np.asarray(c, float) for c in system.named(start).values()]
    values = [np.asarray(v, float) for v in system.values(parameters).values()]
    finish = np.asarray(end, float)
    given = [*columns, *values, finish]
    if any(a.ndim > 1 for a in given):
        raise ValueError("states, parameters and ends are numbers, or one number for each sample")
    sizes = {a.size for a in given if a.ndim == 1}
    if len(sizes) > 1:
        raise ValueError(f"the numbers of samples differ: {', '.join(map(str, sorted(sizes)))}")
    samples = sizes.pop() if sizes else 1
    if samples == 0:
        raise ValueError("there are no samples")

    def table(parts: list[np.ndarray]) -> np.ndarray:
        if not parts:
            return np.zeros((samples, 0))
        return np.ascontiguousarray(np.stack([np.broadcast_to(p, (samples,)) for p in parts], 1))

    starts, settings, ends = table(columns), table(values), np.broadcast_to(finish, (samples,)).copy()
    if not np.isfinite(starts).all() or not np.isfinite(settings).all() or not np.isfinite(ends).all():
        raise ValueError("states, parameters and ends must be finite numbers")
    if (ends <= begin).any():
        raise ValueError(f"the end {ends.min():g} must lie after the beginning {begin:g}")
    return starts, settings, ends
