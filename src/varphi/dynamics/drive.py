"""The loop that advances many samples in eight lanes: as one sample ends, the next takes its lane.

Each lane has its own time, step size and method. A sample begins with Dormand-Prince; where the step that stability
allows is much smaller than what accuracy asks for, it goes on with RODAS, from the same point (the test is that of
DOPRI5: |Δf|/|Δy| times the step stays above the stability boundary). A stiff sample gives up its lane and waits until
the others are done, so that the lanes of a step all use one method; where events are looked for it keeps its lane.

Machine code for all systems: a system's own code is called by address, and so is what looks for events.
"""

from __future__ import annotations

import functools
import hashlib
import math
from typing import Any

import llvmlite.ir as ir

from varphi.numbers.kernel.compile import engine
from varphi.numbers.kernel.lanes import DOUBLE, I1, I64, IRValue, Lanes, Mask, largest, smallest, sqrt
from varphi.numbers.kernel.vector_math import exp, log

from . import events, status, steps, tableau
from .events import CALLED, RUNNING
from .machine import FLOATS, WHOLES, Code, digest
from .status import Status
from .steps import ROOM, Steps

_STIFF = 100  # waits to go on with the implicit method
# How near to the boundary of stability of Dormand-Prince (3.3 on the negative axis), and how often in a row: where the
# tolerance is tight, the error of what is already damped holds the steps well inside it.
_STIFF_AT, _STIFF_AFTER, _CALM_AFTER = 2.4, 15, 6
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0
# Step controllers: proportional, with some memory of the last error for the explicit method (Gustafsson).
_MEMORY = 0.04
_LEAST_REMEMBERED = math.log(1e-4)

ARGUMENTS: dict[str, Any] = {
    "prepare": I64,  # addresses
    "rate": I64,
    "jacobian": I64,
    "events": I64,
    "handler": I64,
    "starts": FLOATS,  # (samples, states)
    "parameters": FLOATS,  # (samples, parameters)
    "ends": FLOATS,  # (samples,)
    "atol": FLOATS,  # (states,)
    "times": FLOATS,  # (times,) increasing
    "directions": WHOLES,  # (events,) -1 falling, 1 rising, 0 both
    "terminal": WHOLES,  # (events,) after how many the sample stops; 0 never
    "found": FLOATS,  # out (samples, times, states)
    "finals": FLOATS,  # out (samples, states)
    "final_times": FLOATS,  # out (samples,)
    "status": WHOLES,  # out (samples,)
    "steps": WHOLES,  # out (samples, 2): accepted with either method
    "event_times": FLOATS,  # out (samples, room)
    "event_kinds": WHOLES,  # out (samples, room)
    "event_states": FLOATS,  # out (samples, room, states)
    "event_counts": WHOLES,  # out (samples,)
    "periods": FLOATS,  # out (samples, 2): the period, and how many section events it has
    "lows": FLOATS,  # out (samples, states): smallest value on the accepted steps
    "highs": FLOATS,  # out (samples, states)
    "watch": WHOLES,  # (2,) out: how many samples have ended; in: not 0 to stop
    **ROOM,
    "low": FLOATS,  # room (states) rows: the smallest and largest values so far
    "high": FLOATS,
    "span_low": FLOATS,  # room (states) rows: the same since the last return to the section,
    "span_high": FLOATS,
    "spans": FLOATS,  # ... and the range on recent returns
    "turns": FLOATS,  # room (room) rows: how large each recorded return was, summed over the states
    "g_old": FLOATS,  # room (events) rows: the events' functions before and after the step
    "g_new": FLOATS,
    "g_scratch": FLOATS,
    "totals": FLOATS,  # room (events) rows: how many of each so far
    "held": WHOLES,  # room (samples,): stiff samples that wait
    "held_steps": FLOATS,  # room (samples,): their step sizes
    "samples": I64,
    "states": I64,
    "parameter_count": I64,
    "time_count": I64,
    "kinds": I64,
    "room": I64,
    "section": I64,  # the event on whose states a cycle is looked for; -1 none
    "returns": I64,  # how many returns are compared, at most
    "stiff": I64,  # whether to begin with the implicit method
    "may_switch": I64,
    "most_steps": I64,
    "begin": DOUBLE,
    "rtol": DOUBLE,
    "largest": DOUBLE,  # largest step
    "closing": DOUBLE,  # how near two returns must be, relative to the orbit's size
}


@functools.cache
def drive() -> Code:
    """The machine code: from disk, or compiled now."""
    sources = digest(*(str(m.__file__) for m in (events, status, steps, tableau)), __file__)
    code = engine(hashlib.sha256(f"drive {sources}".encode()).hexdigest(), lambda: _Drive().module)
    return Code(code, "drive", ARGUMENTS)


class _Drive(Steps):
    """The loop being written."""

    def __init__(self) -> None:
        super().__init__("drive", ARGUMENTS)
        given, builder = self.given, self.builder
        self.low, self.high = self.rows("low"), self.rows("high")
        self.span_low, self.span_high, self.spans = (self.rows(n) for n in ("span_low", "span_high", "spans"))
        self.g_old, self.g_new, self.totals = (self.rows(n) for n in ("g_old", "g_new", "totals"))
        self.t, self.h, self.end, self.after, self.remembered, self.next_time, self.error = (
            self.variable(DOUBLE) for _ in range(7)
        )
        self.sample, self.place, self.taken, self.code = (self.variable(I64) for _ in range(4))
        self.explicit_steps, self.implicit_steps, self.warned, self.calm = (self.variable(I64) for _ in range(4))
        self.alive, self.is_stiff, self.rejected, self.sound, self.crossing = (self.variable(I1) for _ in range(5))
        self.sum_a, self.sum_b = self.variable(DOUBLE), self.variable(DOUBLE)
        self.theta = builder.alloca(DOUBLE)
        self.early = self.rows("rows", builder.add(self.last, I64(1))).base
        self.held, self.again = builder.alloca(I64), builder.alloca(I64)
        for place in (self.held, self.again):
            builder.store(I64(0), place)
        self.has_events = builder.icmp_signed(">", given["kinds"], I64(0))
        self.serve(
            self.alive,
            given["samples"],
            load=self._load,
            begin=self._begin,
            step=self._step,
            retire=self._retire,
            more=self._held_back,
        )

    # A sample takes its lane, and leaves it. ---------------------------------------------------------------------

    def _held_back(self) -> IRValue:
        """How many wait for the implicit method; none, once they have been served."""
        builder = self.builder
        first = builder.icmp_signed("==", builder.load(self.again), I64(0))
        builder.store(I64(1), self.again)
        return builder.select(first, builder.load(self.held), I64(0))

    def _load(self, lane: IRValue, place: IRValue) -> None:
        """A sample from its beginning; or again, from where it was found to be stiff."""
        builder, n = self.builder, self.n
        again = builder.icmp_signed("!=", builder.load(self.again), I64(0))
        sample = builder.select(again, self.read("held", (place, 1)), place)

        def either(kept: str, fresh: str, *index: tuple[IRValue | int, IRValue | int]) -> IRValue:
            return builder.load(builder.select(again, self.element(kept, *index), self.element(fresh, *index)))

        with self.span(n) as i:
            for row, kept in ((self.y, "finals"), (self.low, "lows"), (self.high, "highs")):
                row.set_lane(i, lane, either(kept, "starts", (sample, 1), (i, n)))
            for row, value in ((self.span_low, math.inf), (self.span_high, -math.inf), (self.spans, 0.0)):
                row.set_lane(i, lane, DOUBLE(value))
        m = self.given["parameter_count"]
        with self.span(m) as i:
            self.row.set_lane(builder.add(n, i), lane, self.read("parameters", (sample, 1), (i, m)))
        with self.span(self.given["kinds"]) as e:
            self.totals.set_lane(e, lane, DOUBLE(0.0))
        t = builder.select(again, self.read("final_times", (sample, 1)), self.given["begin"])
        stiff = builder.or_(again, builder.icmp_signed("!=", self.given["stiff"], I64(0)))
        none = I64(0)
        for variable, value in (
            (self.sample, sample),
            (self.t, t),
            (self.h, builder.select(again, self.read("held_steps", (sample, 1)), DOUBLE(0.0))),
            (self.end, self.read("ends", (sample, 1))),
            (self.is_stiff, stiff),
            (self.rejected, I1(0)),
            (self.remembered, DOUBLE(_LEAST_REMEMBERED)),
            (self.explicit_steps, builder.select(again, self.read("steps", (sample, 1), (0, 2)), none)),
            (self.taken, builder.select(again, self.read("steps", (sample, 1), (1, 2)), none)),
            (self.implicit_steps, none),
            (self.warned, none),
            (self.calm, none),
            (self.place, none),
        ):
            variable.set_lane(lane, value)
        self._pass_by(lane, sample, t, builder.not_(again))

    def _pass_by(self, lane: IRValue, sample: IRValue, t: IRValue, record: IRValue) -> None:
        """Go by the output times that a sample begins at or after; record its first state there."""
        builder, n = self.builder, self.n
        head, body, end = (builder.append_basic_block(name) for name in ("by", "passed", "ahead"))
        self.look_ahead(self.next_time, lane, I64(0), self.given["time_count"])
        builder.branch(head)
        builder.position_at_end(head)
        builder.cbranch(builder.fcmp_ordered("<=", self.next_time.lane(lane), t), body, end)
        builder.position_at_end(body)
        place = self.place.lane(lane)
        with builder.if_then(record), self.span(n) as i:
            index = (sample, 1), (place, self.given["time_count"]), (i, n)
            self.write(self.y.lane(i, lane), "found", *index)
        after = builder.add(place, I64(1))
        self.place.set_lane(lane, after)
        self.look_ahead(self.next_time, lane, after, self.given["time_count"])
        builder.branch(head)
        builder.position_at_end(end)

    def _retire(self, lane: IRValue) -> None:
        builder, n = self.builder, self.n
        sample, code = self.sample.lane(lane), self.code.lane(lane)
        with self.span(n) as i:
            for row, array in ((self.y, "finals"), (self.low, "lows"), (self.high, "highs")):
                self.write(row.lane(i, lane), array, (sample, 1), (i, n))
        self.write(self.t.lane(lane), "final_times", (sample, 1))
        self.write(self.explicit_steps.lane(lane), "steps", (sample, 1), (0, 2))
        with builder.if_else(builder.icmp_signed("==", code, I64(_STIFF))) as (stiff, other):
            with stiff:
                self.write(sample, "held", (builder.load(self.held), 1))
                self.count_up(self.held)
                self.write(self.h.lane(lane), "held_steps", (sample, 1))
                self.write(self.taken.lane(lane), "steps", (sample, 1), (1, 2))
            with other:
                self.write(self.implicit_steps.lane(lane), "steps", (sample, 1), (1, 2))
                self.write(code, "status", (sample, 1))
                self.count_up(self.given["watch"])

    # Steps. ------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Slopes, events and first step sizes after lanes were filled. (Others get the values that they have.)"""
        builder = self.builder
        self.show(self.y, self.t.lanes)
        self.call("prepare", self.early)
        self.call("rate", self.k[0].base)
        with builder.if_then(self.has_events):
            self.call("events", self.g_old.base)
        # Hairer, Nørsett & Wanner, II.4, first part: from the sizes of the state and its slope.
        for total in (self.sum_a, self.sum_b):
            total.set(self.at.lanes(0.0).value)
        relative = self.everywhere("rtol")
        with self.span(self.n) as i:
            allowed = relative * abs(self.y[i]) + self.everywhere(self.read("atol", (i, 1)))
            for total, row in ((self.sum_a, self.y), (self.sum_b, self.k[0])):
                ratio = row[i] / allowed
                total.set((total.lanes + ratio * ratio).value)
        state, slope = self.sum_a.lanes, self.sum_b.lanes
        guess = ((state > 1e-10) & (slope > 1e-10)).choose(0.01 * sqrt(state / slope), 1e-6)
        most = smallest(self.end.lanes - self.t.lanes, self.everywhere("largest"))
        fresh = self.alive.mask & self.h.lanes.equals(0.0)
        self.h.set(fresh.choose(smallest(guess, most), self.h.lanes).value)

    def _step(self) -> Mask:
        """One attempt in each lane; which lanes have ended."""
        builder, at = self.builder, self.at
        alive, stiff, t = self.alive.mask, self.is_stiff.mask, self.t.lanes
        left = self.end.lanes - t
        h = smallest(self.h.lanes, self.everywhere("largest"))
        last = h * 1.0000001 >= left
        h = alive.choose(last.choose(left, h), 1e-300)
        self.h.set(h.value)
        self.after.set(last.choose(self.end.lanes, t + h).value)
        self.code.set(at.splat(I64, RUNNING))
        some_explicit, some_implicit = (alive & ~stiff).any(), (alive & stiff).any()
        with builder.if_then(some_explicit):
            self.error.set(self.dormand_prince(t, h).value)
        with builder.if_then(some_implicit):
            self._implicit(t, h, stiff)
        error = self.error.lanes
        finite = error <= 1e300
        usable = finite & (~stiff | self.sound.mask)
        accepted = alive & usable & (error <= 1.0)
        factor = self._factor(error, usable, accepted)
        with builder.if_then(accepted.any()):
            self._on_the_way(accepted, some_explicit, some_implicit)
        switching = self._switching(accepted & ~stiff)
        self._commit(accepted)
        self._count(alive, accepted, stiff)
        # Rejected: is there still a step to be tried?
        h = self.h.lanes
        size = largest(abs(self.t.lanes), 1e-300)
        h = factor * switching.choose(2.0 * h, h)
        self.h.set(alive.choose(h, self.h.lanes).value)
        tiny = alive & ~accepted & ((abs(h) <= 4e-16 * size) | (h < 1e-290))
        self._end_where(tiny, Status.STEP_TOO_SMALL)
        self._end_where(tiny & ~finite, Status.NOT_FINITE)
        self._end_where(tiny & finite & stiff & ~self.sound.mask, Status.SINGULAR)
        running = alive & self._running()
        self._end_where(running & accepted & (self.t.lanes >= self.end.lanes), Status.DONE)
        running = alive & self._running()
        self._end_where(running & self.whole(">=", self.taken.get(), self.given["most_steps"]), Status.TOO_MANY_STEPS)
        self._end_where(alive & self._running() & switching & ~self._keeps_lane(), _STIFF)
        self.is_stiff.set((self.is_stiff.mask | switching).value)
        return alive & ~self._running()

    def _keeps_lane(self) -> Mask:
        """Whether stiff samples keep their lanes: what is known of events lies there."""
        return Mask(self.at, self.spread(self.has_events))

    def _running(self) -> Mask:
        return self.whole("==", self.code.get(), RUNNING)

    def _end_where(self, mask: Mask, code: int) -> None:
        self.code.set(self.builder.select(mask.value, self.at.splat(I64, int(code)), self.code.get()))

    def _implicit(self, t: Lanes, h: Lanes, stiff: Mask) -> None:
        """A step with RODAS in stiff lanes, and the slope after it."""
        error, sound = self.rodas(t, h)
        self.error.set(stiff.choose(error, self.error.lanes).value)
        self.sound.set(sound.value)
        self.show(self.other, t + h)
        self.call("rate", self.slopes.base)
        with self.span(self.n) as i:
            self.new[i] = stiff.choose(self.other[i], self.new[i])
            self.k[6][i] = stiff.choose(self.slopes[i], self.k[6][i])

    def _factor(self, error: Lanes, usable: Mask, accepted: Mask) -> Lanes:
        """By how much the step sizes change."""
        stiff = self.is_stiff.mask
        size = log(usable.choose(largest(error, 1e-10), 1.0))
        order, memory = stiff.choose(1 / 4, 1 / 5), stiff.choose(0.0, _MEMORY)
        smooth = memory * self.remembered.lanes - (order - 0.75 * memory) * size
        factor = _SAFETY * exp(accepted.choose(smooth, -order * size))
        most = self.rejected.mask.choose(1.0, _GROW)
        factor = smallest(largest(factor, _SHRINK), most)
        self.remembered.set(accepted.choose(largest(size, _LEAST_REMEMBERED), self.remembered.lanes).value)
        bad = (error <= 1e300).choose(0.25, 0.1)  # a singular matrix; no number
        return usable.choose(factor, bad)

    def _on_the_way(self, accepted: Mask, some_explicit: IRValue, some_implicit: IRValue) -> None:
        """Events and outputs within the step."""
        builder = self.builder
        self.crossing.set(self.at.splat(I1, 0))
        with builder.if_then(self.has_events):
            self.show(self.new, self.after.lanes)
            self.call("events", self.g_new.base)
            self._look_for_crossings(accepted)
        due = accepted & (self.next_time.lanes <= self.after.lanes)
        with builder.if_then((due | self.crossing.mask).any()):
            with builder.if_then(some_explicit):
                self.dormand_prince_dense(self.h.lanes)
            with builder.if_then(some_implicit):
                self.rodas_dense(self.t.lanes, self.h.lanes, self.is_stiff.mask)
            with self.each(self.crossing.mask) as lane:
                self._handle(lane)
            self._record(accepted)

    def _look_for_crossings(self, accepted: Mask) -> None:
        with self.span(self.given["kinds"]) as e:
            before, now = self.g_old[e], self.g_new[e]
            direction = self.spread(self.read("directions", (e, 1)))
            rises = (before < 0.0) & (now >= 0.0) & self.whole(">=", direction, 0)
            falls = (before > 0.0) & (now <= 0.0) & self.whole("<=", direction, 0)
            self.crossing.set((self.crossing.mask | (accepted & (rises | falls))).value)

    def _handle(self, lane: IRValue) -> None:
        """Have the events of a lane's step put in order and recorded; they may end the sample within it."""
        builder = self.builder
        t, h = self.t.lane(lane), self.h.lane(lane)
        own = {"lane": lane, "sample": self.sample.lane(lane), "t": t, "h": h, "theta": self.theta}
        kind = ir.FunctionType(I64, list(CALLED.values())).as_pointer()
        handler = builder.inttoptr(self.given["handler"], kind)
        code = builder.call(handler, [own[n] if n in own else self.given[n] for n in CALLED])
        with builder.if_then(builder.icmp_signed("!=", code, I64(RUNNING))):
            self.code.set_lane(lane, code)
            self.after.set_lane(lane, builder.fadd(t, builder.fmul(builder.load(self.theta), h)))

    def _record(self, accepted: Mask) -> None:
        """Write the states at the output times of the step."""
        builder, n, count = self.builder, self.n, self.given["time_count"]
        head, body, end = (builder.append_basic_block(name) for name in ("due", "record", "recorded"))
        builder.branch(head)
        builder.position_at_end(head)
        due = accepted & (self.next_time.lanes <= self.after.lanes)
        builder.cbranch(due.any(), body, end)
        builder.position_at_end(body)
        theta = (self.next_time.lanes - self.t.lanes) / self.h.lanes
        row = builder.add(builder.mul(self.sample.get(), self.spread(count)), self.place.get())
        offset = builder.mul(row, self.spread(n))
        with self.span(n) as i:
            self.scatter(self.dense_at(theta, i), "found", builder.add(offset, self.spread(i)), due)
        self.increment(self.place, due)
        ahead = due & self.whole("<", self.place.get(), count)
        later = self.gather("times", self.place.get(), ahead, math.inf)
        self.next_time.set(due.choose(later, self.next_time.lanes).value)
        builder.branch(head)
        builder.position_at_end(end)

    def _switching(self, eligible: Mask) -> Mask:
        """Where the explicit method has been held back by stability for long enough."""
        eligible = eligible & self._running() & self.whole("!=", self.spread(self.given["may_switch"]), 0)
        for total in (self.sum_a, self.sum_b):
            total.set(self.at.lanes(0.0).value)
        with self.builder.if_then(eligible.any()), self.span(self.n) as i:
            for total, a, b in ((self.sum_a, self.k[6], self.k[5]), (self.sum_b, self.new, self.inner)):
                difference = a[i] - b[i]
                total.set((total.lanes + difference * difference).value)
        slopes, states, h = self.sum_a.lanes, self.sum_b.lanes, self.h.lanes
        back = eligible & (states > 0.0) & (h * h * slopes > _STIFF_AT**2 * states)
        builder, at = self.builder, self.at
        one = at.splat(I64, 1)
        calm = builder.add(self.calm.get(), one)
        rest = self.whole(">=", calm, _CALM_AFTER)
        warned = builder.select(rest.value, at.splat(I64, 0), self.warned.get())
        warned = builder.select(back.value, builder.add(self.warned.get(), one), warned)
        self.warned.set(builder.select(eligible.value, warned, self.warned.get()))
        self.calm.set(
            builder.select(eligible.value, builder.select(back.value, at.splat(I64, 0), calm), self.calm.get())
        )
        return back & self.whole(">=", self.warned.get(), _STIFF_AFTER)

    def _commit(self, accepted: Mask) -> None:
        """Go on from the new state where the step is accepted."""
        finite = self.crossing  # (its work is done)
        finite.set(self.at.splat(I1, 1))
        with self.span(self.n) as i:
            new = self.new[i]
            finite.set((finite.mask & (abs(new) < math.inf)).value)
            self.y[i] = accepted.choose(new, self.y[i])
            self.k[0][i] = accepted.choose(self.k[6][i], self.k[0][i])
            for row in (self.low, self.span_low):
                row[i] = (accepted & (new < row[i])).choose(new, row[i])
            for row in (self.high, self.span_high):
                row[i] = (accepted & (new > row[i])).choose(new, row[i])
        with self.span(self.given["kinds"]) as e:
            self.g_old[e] = accepted.choose(self.g_new[e], self.g_old[e])
        self.t.set(accepted.choose(self.after.lanes, self.t.lanes).value)
        self._end_where(accepted & ~finite.mask, Status.NOT_FINITE)

    def _count(self, alive: Mask, accepted: Mask, stiff: Mask) -> None:
        self.increment(self.taken, alive)
        self.increment(self.explicit_steps, accepted & ~stiff)
        self.increment(self.implicit_steps, accepted & stiff)
        self.rejected.set((alive & ~accepted).value)
