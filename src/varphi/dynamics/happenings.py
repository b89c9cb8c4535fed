"""Events of a model: what is assigned when a condition comes true, at once or after a delay.

Time courses run from event to event. Each comparison in a condition is watched by itself, so that a condition of
several ("t > 1 and t < 2") is not stepped over. Events at one time run by priority; where the order matters and the
model does not give one, the course is refused: to choose one would be a guess.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.progress import track

from varphi.numbers import Expression, evaluate
from varphi.numbers.expression import constant
from varphi.numbers.jet import partial

from .ensemble import Ensemble, Event, Status, simulate
from .system import System

_MOST_AT_ONCE = 1000
_NEAR = 1e-9
"""Times that differ by less, relative to 1 or the time, are one."""
_MANY = 50
_DIRECTIONS: tuple[Literal["rising"], Literal["falling"]] = ("rising", "falling")
_LEAST_STEPS = 200
"""In how many steps a piece of a course is made at least, so that no comparison changes there and back within one."""


@dataclass(frozen=True)
class Condition:
    """True or false: comparisons of a margin with 0, joined.

    Attributes:
        kind: "all", "any", "not" or "odd" of the parts, or a comparison.
        parts: conditions.
        margin: what a comparison compares with 0.
    """

    kind: Literal["all", "any", "not", "odd"] | str
    parts: tuple[Condition, ...] = ()
    margin: Expression = field(default_factory=lambda: constant(0))

    def comparisons(self) -> Iterator[Condition]:
        """All comparisons in it."""
        if self.kind in ("all", "any", "not", "odd"):
            for part in self.parts:
                yield from part.comparisons()
        else:
            yield self

    def replaced(self, change: Any) -> Condition:
        """The same with each margin changed."""
        return Condition(self.kind, tuple(p.replaced(change) for p in self.parts), change(self.margin))

    def holds(self, positive: Mapping[Any, bool]) -> bool:
        """Whether it holds, from the truth of its comparisons."""
        if self.kind == "all":
            return all(p.holds(positive) for p in self.parts)
        if self.kind == "any":
            return any(p.holds(positive) for p in self.parts)
        if self.kind == "not":
            return not self.parts[0].holds(positive)
        if self.kind == "odd":
            return sum(p.holds(positive) for p in self.parts) % 2 == 1
        return positive[self.kind, self.margin]


@dataclass(frozen=True)
class Happening:
    """An event.

    Attributes:
        name: its id.
        trigger: what sets it off by coming true.
        changes: from the names of states to their new values.
        delay: how long after the trigger it happens.
        priority: of several at one time the largest comes first; None if it has none.
        fires_at_start: whether a trigger that holds at the start counts as having come true.
        persistent: whether it happens after its delay even if the trigger no longer holds.
        as_triggered: whether values are those of the time of the trigger, not of the end of the delay.
    """

    name: str
    trigger: Condition
    changes: Mapping[str, Expression]
    delay: Expression | None = None
    priority: Expression | None = None
    fires_at_start: bool = False
    persistent: bool = True
    as_triggered: bool = True


class AmbiguousEvents(ValueError):
    """Several events at one time whose order matters, and which the model does not order."""


def simulate_happenings(
    system: System,
    happenings: Sequence[Happening],
    times: np.ndarray,
    start: Mapping[str, Any],
    *,
    parameters: Mapping[str, Any] | None = None,
    progress: bool = True,
    **options: Any,
) -> Ensemble:
    """Time courses of a system with events, one sample after the other; as `dynamics.simulate`.

    At the time of an event the state after it is given. The result's events are those that happened, numbered as in
    `happenings`.

    Raises:
        AmbiguousEvents: where the order of events matters and is not given.
        ValueError: an event that sets itself off without end, and as `dynamics.simulate`.
    """
    columns = {k: np.asarray(v, float) for k, v in {**(parameters or {}), **system.named(start)}.items()}
    sizes = {v.size for v in columns.values() if v.ndim == 1}
    if len(sizes) > 1:
        raise ValueError(f"the numbers of samples differ: {', '.join(map(str, sorted(sizes)))}")
    samples = sizes.pop() if sizes else 1
    options = {"rtol": 1e-8, "atol": 1e-12, **options, "progress": False, "threads": 1}
    runs = []
    rows: Iterable[int] = range(samples)
    if samples > _MANY and progress:
        rows = track(rows, "simulating", console=Console(stderr=True), transient=True)
    for i in rows:
        own = {k: float(v if v.ndim == 0 else v[i]) for k, v in columns.items()}
        given = {k: v for k, v in own.items() if k not in system.states}
        runs.append(_Run(system, happenings, times, [own[s] for s in system.states], given, options).run())
    return _joined(system, times, runs)


class _Run:
    """One sample, from event to event."""

    def __init__(
        self, system: System, happenings: Sequence[Happening], times: np.ndarray, start: Sequence[float],
        parameters: Mapping[str, float], options: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.system, self.happenings, self.times = system, happenings, times
        self.state = np.array(start, float)
        self.parameters, self.options = dict(parameters), options
        self.values = system.values(parameters)
        self.t = 0.0
        atoms = {(c.kind, c.margin): None for h in happenings for c in h.trigger.comparisons()}
        self.atoms: list[tuple[str, Expression]] = list(atoms)
        self.margins = list(dict.fromkeys(margin for _, margin in self.atoms))
        # What only parameters decide never crosses.
        moving = {*system.states, "t"}
        self.watched = [m for m in self.margins if m.variables & moving]
        self.truth: dict[Any, bool] = {}
        self.on: list[bool] = []
        self.lost: set[int] = set()
        self.at_once = 0
        self.status = Status.DONE
        self.waiting: list[tuple[float, int, int, list[float] | None]] = []
        self.counter = itertools.count()
        self.found = np.full((len(times), len(start)), np.nan)
        self.steps = np.zeros(2, np.int64)
        self.log: list[tuple[float, int, np.ndarray]] = []
        self.lows, self.highs = self.state.copy(), self.state.copy()

    def run(self) -> _Run:
        """The whole course."""
        end = float(self.times.max())
        self.assess(range(len(self.atoms)))
        self.on = [h.trigger.holds(self.truth) for h in self.happenings]
        self.settle([i for i, h in enumerate(self.happenings) if h.fires_at_start and self.on[i]])
        self.record(_NEAR)
        while self.t < end:
            self.leave()
            self.settle([])
            stop = min([end, *(w[0] for w in self.waiting)])
            if stop > self.t and not self.advance(stop):
                break
        if self.status.ok:
            self.settle([])
            self.record(math.inf)
        return self

    # Between events -------------------------------------------------------------------------------------------------

    def advance(self, stop: float) -> bool:
        """Go on until a comparison changes or the end; False if that fails."""
        skip = np.zeros(2 * len(self.watched), int)
        wanted = self.times[(self.times > self.t) & (self.times <= stop)]
        while True:
            events = [
                Event(m, direction, stop_after=1 + int(skip[2 * i + down]))
                for i, m in enumerate(self.watched) for down, direction in enumerate(_DIRECTIONS)
            ]  # fmt: skip
            found = simulate(
                self.system, stop, self.state, parameters=self.parameters, begin=self.t, times=wanted, events=events,
                most_events=1, largest_step=(stop - self.t) / _LEAST_STEPS, **self.options,
            )  # fmt: skip
            status = Status(int(found.status[0]))
            if status is not Status.STOPPED:
                self.take(found, wanted)
                self.status = status
                return status.ok
            which, down = divmod(int(found.event_kinds[0, -1]), 2)
            truth = self.crossed(self.watched[which], -1.0 if down else 1.0)
            if truth != self.truth:
                self.take(found, wanted)
                self.truth = truth
                self.settle(self.changed())
                return True
            skip[2 * which + down] += 1  # it was there where this piece began

    def take(self, found: Ensemble, wanted: np.ndarray) -> None:
        """Take over where a piece of the course ended, and its output before that."""
        end = float(found.end_times[0])
        rows = np.flatnonzero((self.times > self.t) & (self.times <= end))
        self.found[rows] = found.states[0, : len(rows)]
        self.at_once = 0 if end > self.t else self.at_once
        self.t, self.state = end, found.ends[0].copy()
        self.steps += found.steps[0]
        self.lows, self.highs = np.fmin(self.lows, found.lows[0]), np.fmax(self.highs, found.highs[0])

    def crossed(self, margin: Expression, sign: float) -> dict[Any, bool]:
        """The comparisons after a margin crossed 0."""
        return {(kind, m): _compared(kind, sign) if m is margin else old for (kind, m), old in self.truth.items()}

    def leave(self) -> None:
        """Margins that are exactly 0 and do not stay: what they are just after now, and what that sets off."""
        while True:
            truth = dict(self.truth)
            for margin in self.watched:
                slope = self.slope(margin) if self.value(margin) == 0 else 0.0
                if slope:
                    truth |= {(kind, m): _compared(kind, slope) for kind, m in self.atoms if m is margin}
            if truth == self.truth:
                return
            self.truth = truth
            self.settle(self.changed())

    def value(self, e: Expression) -> float:
        values = self.values | dict(zip(self.system.states, self.state.tolist(), strict=True)) | {"t": self.t}
        return float(evaluate([e], values)[0])

    def slope(self, margin: Expression) -> float:
        """How fast a margin changes along the course."""
        total = self.value(partial(margin, "t"))
        rates = self.system(self.state.tolist(), t=self.t, **self.parameters)
        for name, rate in zip(self.system.states, rates, strict=True):
            if name in margin.variables:
                total += self.value(partial(margin, name)) * float(rate)
        return total

    def assess(self, which: Sequence[int] | range) -> None:
        """Compare anew."""
        for i in which:
            kind, margin = self.atoms[i]
            self.truth[kind, margin] = _compared(kind, self.value(margin))

    # Events ---------------------------------------------------------------------------------------------------------

    def changed(self) -> list[int]:
        """Events whose trigger came true; of those whose trigger no longer holds, what waited is dropped."""
        now = [h.trigger.holds(self.truth) for h in self.happenings]
        risen = [i for i, (a, b) in enumerate(zip(self.on, now, strict=True)) if b and not a]
        fallen = {i for i, (a, b) in enumerate(zip(self.on, now, strict=True)) if a and not b}
        self.on = now
        self.lost = {i for i in fallen if not self.happenings[i].persistent}
        self.waiting = [w for w in self.waiting if w[2] not in self.lost]
        heapq.heapify(self.waiting)
        return risen

    def settle(self, risen: Sequence[int]) -> None:
        """Run all events of this time, and those that they set off."""
        ready: list[tuple[int, list[float] | None]] = []
        self.plan(risen, ready)
        while True:
            while self.waiting and self.waiting[0][0] <= self.t + _NEAR * self.scale:
                _, _, i, values = heapq.heappop(self.waiting)
                ready.append((i, values))
            if not ready:
                return
            self.at_once += 1
            if self.at_once > _MOST_AT_ONCE:
                name = self.happenings[ready[0][0]].name
                raise ValueError(f"the event {name!r} sets itself off again and again at the time {self.t:g}")
            i, values = ready.pop(self.first(ready))
            self.apply(i, values)
            risen = self.changed()
            ready = [r for r in ready if r[0] not in self.lost]
            self.plan(risen, ready)

    def plan(self, risen: Sequence[int], ready: list[tuple[int, list[float] | None]]) -> None:
        """Values and times of events that were set off."""
        for i in risen:
            h = self.happenings[i]
            values = [self.value(v) for v in h.changes.values()] if h.as_triggered else None
            delay = self.value(h.delay) if h.delay is not None else 0.0
            if not (math.isfinite(delay) and delay >= 0):
                raise ValueError(f"the delay of the event {h.name!r} is {delay!r}: it must be finite and not negative")
            if delay == 0:
                ready.append((i, values))
            else:
                heapq.heappush(self.waiting, (self.t + delay, next(self.counter), i, values))

    def first(self, ready: Sequence[tuple[int, list[float] | None]]) -> int:
        """Which comes first; refused where that matters and is open."""
        ranks = [self.rank(i) for i, _ in ready]
        top = ranks.index(max(ranks))
        for other, rank in enumerate(ranks):
            # An event without a priority may come before or after any other.
            if other != top and (rank == ranks[top] or rank == -math.inf):
                self.refuse_open_order(ready[top], ready[other])
        return top

    def rank(self, i: int) -> float:
        priority = self.happenings[i].priority
        return -math.inf if priority is None else self.value(priority)

    def refuse_open_order(self, one: tuple[int, list[float] | None], two: tuple[int, list[float] | None]) -> None:
        """Refuse two events of which one changes what the other changes, reads or waits for."""
        a, b = self.happenings[one[0]], self.happenings[two[0]]
        left, right = (dict(zip(h.changes, v, strict=True)) if v else {} for h, v in ((a, one[1]), (b, two[1])))
        same = set(a.changes) & set(b.changes)
        clash = any(left.get(n, math.nan) != right.get(n, math.nan) for n in same)
        for first, second, planned in ((a, b, two[1]), (b, a, one[1])):
            written = set(first.changes)
            clash = clash or (planned is None and any(written & v.variables for v in second.changes.values()))
            clash = clash or (not second.persistent and _reads(second, written))
        # What a third event waits for may come true only between the two.
        clash = clash or any(_reads(h, set(a.changes)) and _reads(h, set(b.changes)) for h in self.happenings)
        if clash:
            raise AmbiguousEvents(
                f"the events {a.name!r} and {b.name!r} happen at one time ({self.t:g}) and their order matters: "
                "give them priorities"
            )

    def apply(self, i: int, values: Sequence[float] | None) -> None:
        """Change the state."""
        h = self.happenings[i]
        new = [self.value(v) for v in h.changes.values()] if values is None else values
        before = {margin: self.value(margin) for margin in self.margins}
        for name, value in zip(h.changes, new, strict=True):
            self.state[self.system.states.index(name)] = value
        # A comparison that this did not move keeps what the crossing said of it.
        moved = [
            m for m in self.margins if self.value(m) != before[m] or (m.variables & set(h.changes) and not before[m])
        ]
        self.assess([k for k, (_, margin) in enumerate(self.atoms) if any(margin is m for m in moved)])
        self.lows, self.highs = np.fmin(self.lows, self.state), np.fmax(self.highs, self.state)
        self.log.append((self.t, i, self.state.copy()))
        self.record(_NEAR)

    def record(self, near: float) -> None:
        """The state as the output at this time; with `near` infinite also at all times that have none yet."""
        rows = np.isnan(self.found).any(1) if near == math.inf else np.abs(self.times - self.t) <= near * self.scale
        self.found[rows] = self.state

    @property
    def scale(self) -> float:
        return max(1.0, self.t)


def _compared(kind: str, value: float) -> bool:
    return {
        "<": value < 0, "<=": value <= 0, ">": value > 0, ">=": value >= 0, "==": value == 0, "!=": value != 0,
    }[kind]  # fmt: skip


def _reads(happening: Happening, names: set[str]) -> bool:
    """Whether a trigger depends on any of these."""
    return any(names & c.margin.variables for c in happening.trigger.comparisons())


def _joined(system: System, times: np.ndarray, runs: Sequence[_Run]) -> Ensemble:
    """Samples as one ensemble."""
    n, room = len(system.states), max(len(r.log) for r in runs)
    when, kinds = np.full((len(runs), room), np.nan), np.full((len(runs), room), -1, np.int64)
    where = np.full((len(runs), room, n), np.nan)
    for s, r in enumerate(runs):
        for k, (t, i, state) in enumerate(r.log):
            when[s, k], kinds[s, k], where[s, k] = t, i, state
    nothing = np.full(len(runs), np.nan)
    return Ensemble(
        system, times, np.stack([r.found for r in runs]), np.stack([r.state for r in runs]),
        np.array([r.t for r in runs]), np.array([int(r.status) for r in runs]), np.stack([r.steps for r in runs]),
        np.stack([r.lows for r in runs]), np.stack([r.highs for r in runs]), when, kinds, where, nothing,
        np.zeros(len(runs), np.int64),
    )  # fmt: skip
