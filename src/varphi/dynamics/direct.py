"""The loop of Gillespie's direct method for eight samples at a time, as machine code of one network.

The samples lie in the lanes of vectors; as one ends the next takes its lane. All that an event needs (two random
numbers, a logarithm, the propensities, the choice of a reaction, the changes) is computed for eight lanes at once, and
what depends on parameters alone is computed when a sample takes its lane. Only what is rare, an output time or a
sample's end, is done lane by lane.

Each lane has its own random numbers (xoshiro256++, Blackman & Vigna, seeded by splitmix64 from the seed and the
sample's number), so a sample's course does not depend on threads or neighbours.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Sequence

import numpy as np

from varphi.numbers import Expression, evaluate
from varphi.numbers.expression import without_slopes
from varphi.numbers.kernel.compile import engine
from varphi.numbers.kernel.lanes import DOUBLE, I1, I64, IRValue, Lanes, Mask, largest, smallest
from varphi.numbers.kernel.vector_math import log

from . import prepared as prepared_parts
from . import status
from .machine import FLOATS, WHOLES, Code, Machine, Variable, digest
from .prepared import prepared
from .status import Status

# What the machine code takes, in order; arrays are row by row.
_ARGUMENTS = {
    "starts": FLOATS,  # (samples, species)
    "parameters": FLOATS,  # (samples, parameters)
    "numbers": WHOLES,  # (samples,) the samples' numbers, for the random numbers
    "times": FLOATS,  # (within,) increasing, none beyond the end
    "found": FLOATS,  # out (samples, wanted, species)
    "finals": FLOATS,  # out (samples, species)
    "means": FLOATS,  # out (samples, species): over time from `settled` on
    "squares": FLOATS,  # out (samples, species)
    "events": WHOLES,  # out (samples,)
    "status": WHOLES,  # out (samples,)
    "watch": WHOLES,  # (2,) out: how many samples have ended; in: not 0 to stop
    "samples": I64,
    "within": I64,
    "wanted": I64,
    "seed": I64,
    "most": I64,  # events a sample may have
    "end": DOUBLE,
    "settled": DOUBLE,  # from when on moments are taken
}
_GOLDEN = 0x9E3779B97F4A7C15


def direct(
    species: Sequence[str], parameters: Sequence[str], propensities: Sequence[Expression], changes: np.ndarray
) -> Code:
    """The machine code of a network, from memory, from disk, or compiled now.

    Args:
        changes: (reactions, species).
    """
    laws = tuple(without_slopes(p) for p in propensities)
    return _direct(tuple(species), tuple(parameters), laws, tuple(tuple(map(int, row)) for row in changes))


@functools.lru_cache(maxsize=64)
def _direct(
    species: tuple[str, ...],
    parameters: tuple[str, ...],
    laws: tuple[Expression, ...],
    changes: tuple[tuple[int, ...], ...],
) -> Code:
    sources = digest(*(str(m.__file__) for m in (prepared_parts, status)), __file__)
    parts = [sources, *species, "|", *parameters, "|", *(e.digest for e in laws), str(changes)]
    key = hashlib.sha256(" ".join(parts).encode()).hexdigest()
    code = engine(key, lambda: _Direct(species, parameters, laws, changes).module)
    return Code(code, "direct", _ARGUMENTS)


class _Direct(Machine):
    """The loop of a network being written."""

    def __init__(
        self,
        species: Sequence[str],
        parameters: Sequence[str],
        laws: Sequence[Expression],
        changes: Sequence[Sequence[int]],
    ) -> None:
        super().__init__("direct", _ARGUMENTS)
        self.species, self.parameters, self.changes = species, parameters, changes
        self.early, self.laws = prepared(laws, parameters)

        self.counts = [self.variable(DOUBLE, n) for n in species]
        self.sums, self.square_sums = (
            [self.variable(DOUBLE, "sum") for _ in species],
            [self.variable(DOUBLE, "square") for _ in species],
        )
        self.fixed = {n: self.variable(DOUBLE, n) for n in (*parameters, *self.early)}
        self.time, self.next_time = self.variable(DOUBLE, "time"), self.variable(DOUBLE, "next_time")
        self.random = [self.variable(I64, "random") for _ in range(4)]
        self.sample, self.place = self.variable(I64, "sample"), self.variable(I64, "place")
        self.events, self.status = self.variable(I64, "events"), self.variable(I64, "status")
        self.alive = self.variable(I1, "alive")
        self.serve(
            self.alive,
            self.given["samples"],
            load=self._load,
            begin=self._prepare,
            step=self._event,
            retire=self._retire,
        )

    def _prepare(self) -> None:
        """What depends on parameters alone."""
        values = {n: self.fixed[n].lanes for n in self.parameters}
        for name, value in zip(self.early, evaluate(list(self.early.values()), values), strict=True):
            self.fixed[name].set(self.at.lanes(value).value)

    def _put(self, array: str, sample: IRValue, values: Sequence[IRValue]) -> None:
        for i, value in enumerate(values):
            self.write(value, array, (sample, 1), (i, len(values)))

    def _load(self, lane: IRValue, sample: IRValue) -> None:
        self.sample.set_lane(lane, sample)
        for array, variables in (("starts", self.counts), ("parameters", [self.fixed[n] for n in self.parameters])):
            for i, each in enumerate(variables):
                each.set_lane(lane, self.read(array, (sample, 1), (i, len(variables))))
        for each in (*self.sums, *self.square_sums, self.time):
            each.set_lane(lane, DOUBLE(0.0))
        for whole in (self.place, self.events):
            whole.set_lane(lane, I64(0))
        self.look_ahead(self.next_time, lane, I64(0), self.given["within"])
        self._seed(lane, self.read("numbers", (sample, 1)))

    def _seed(self, lane: IRValue, number: IRValue) -> None:
        """Four words from the seed and the sample's number."""
        builder = self.builder
        z = builder.mul(self.given["seed"], I64(_GOLDEN))
        z = builder.add(builder.add(z, builder.mul(number, I64(0xD1B54A32D192ED03))), I64(1))
        for word in self.random:
            z = builder.add(z, I64(_GOLDEN))
            w = z
            for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
                w = builder.mul(builder.xor(w, builder.lshr(w, I64(shift))), I64(factor))
            word.set_lane(lane, builder.xor(w, builder.lshr(w, I64(31))))

    def _retire(self, lane: IRValue) -> None:
        """Write down how a sample ended."""
        builder = self.builder
        sample, status = self.sample.lane(lane), self.status.lane(lane)
        span = builder.fsub(self.given["end"], self.given["settled"])
        done = builder.icmp_signed("==", status, I64(Status.DONE))

        def average(variable: Variable) -> IRValue:
            return builder.select(done, builder.fdiv(variable.lane(lane), span), DOUBLE(math.nan))

        self._put("finals", sample, [c.lane(lane) for c in self.counts])
        self._put("means", sample, [average(s) for s in self.sums])
        self._put("squares", sample, [average(s) for s in self.square_sums])
        self._put("events", sample, [self.events.lane(lane)])
        self._put("status", sample, [status])
        self.count_up(self.given["watch"])

    def _event(self) -> Mask:
        """One event in each lane; which lanes have ended instead."""
        at, builder = self.at, self.builder
        alive, time, counts = self.alive.mask, self.time.lanes, [c.lanes for c in self.counts]
        values = {n: v.lanes for n, v in self.fixed.items()} | dict(zip(self.species, counts, strict=True))
        rates = [at.lanes(r) for r in evaluate(self.laws, values)]
        reached = list(itertools.accumulate(rates))
        total = reached[-1]
        negative = functools.reduce(Mask.__or__, [r < 0.0 for r in rates])
        infinite = ~(total <= 1e300)
        crowded = self.whole(">=", self.events.get(), self.given["most"])
        broken = negative | infinite | crowded

        wait = (total > 0.0).choose(-log(self._uniform()) / total, math.inf)
        later, end = time + wait, self.everywhere("end")
        over = later >= end
        goes = alive & ~broken & ~over
        stay = largest(smallest(later, end) - largest(time, self.everywhere("settled")), 0.0)
        for count, total_, squared in zip(counts, self.sums, self.square_sums, strict=True):
            stayed = stay * count
            total_.set((total_.lanes + stayed).value)
            squared.set((squared.lanes + stayed * count).value)
        due = (self.next_time.lanes < later) & alive & ~broken
        with builder.if_then(due.any(), likely=False), self.each(due) as lane:
            self._record(lane, later)

        mark = self._uniform() * total
        below = [mark <= r for r in reached[:-1]]
        for i, (count, variable_) in enumerate(zip(counts, self.counts, strict=True)):
            change = self._change([row[i] for row in self.changes], below)
            if change is not None:
                variable_.set((count + goes.choose(change, 0.0)).value)
        self.time.set(goes.choose(later, time).value)
        self.increment(self.events, goes)
        status = self.status.get()
        ends = {
            Status.DONE: ~broken,
            Status.NEGATIVE: negative,
            Status.NOT_FINITE: infinite,
            Status.TOO_MANY_EVENTS: crowded,
        }
        for code, mask in ends.items():
            status = builder.select(mask.value, at.splat(I64, int(code)), status)
        self.status.set(status)
        return alive & ~goes

    def _change(self, changes: Sequence[int], below: Sequence[Mask]) -> Lanes | None:
        """By how much a count changes: the change of the first reaction that the mark does not exceed."""
        if not any(changes):
            return None
        found = self.at.lanes(changes[-1])
        after = changes[-1]
        for change, mask in zip(reversed(changes[:-1]), reversed(below), strict=True):
            # Where neighbours change it alike, there is nothing to choose.
            if change != after:
                found = mask.choose(change, found)
            after = change
        return found

    def _record(self, lane: IRValue, later: Lanes) -> None:
        """Write the counts of a lane at the times before its next event."""
        builder = self.builder
        head, body, end = (builder.append_basic_block(n) for n in ("due", "record", "recorded"))
        sample, until = self.sample.lane(lane), builder.extract_element(later.value, lane)
        builder.branch(head)
        builder.position_at_end(head)
        builder.cbranch(builder.fcmp_ordered("<", self.next_time.lane(lane), until), body, end)
        builder.position_at_end(body)
        place, n = self.place.lane(lane), len(self.counts)
        for i, count in enumerate(self.counts):
            self.write(count.lane(lane), "found", (sample, 1), (place, self.given["wanted"]), (i, n))
        after = builder.add(place, I64(1))
        self.place.set_lane(lane, after)
        self.look_ahead(self.next_time, lane, after, self.given["within"])
        builder.branch(head)
        builder.position_at_end(end)

    def _uniform(self) -> Lanes:
        """Numbers in (0, 1]."""
        builder = self.builder
        a, b, c, d = (w.get() for w in self.random)
        result = builder.add(self._rotated(builder.add(a, d), 23), a)
        c, d = builder.xor(c, a), builder.xor(d, b)
        shifted = builder.shl(b, self.at.splat(I64, 17))
        b, a = builder.xor(b, c), builder.xor(a, d)
        for word, value in zip(self.random, (a, b, builder.xor(c, shifted), self._rotated(d, 45)), strict=True):
            word.set(value)
        whole = builder.uitofp(builder.lshr(result, self.at.splat(I64, 11)), self.at.type)
        return (Lanes(self.at, whole) + 1.0) * 2.0**-53

    def _rotated(self, x: IRValue, by: int) -> IRValue:
        left = self.builder.shl(x, self.at.splat(I64, by))
        return self.builder.or_(left, self.builder.lshr(x, self.at.splat(I64, 64 - by)))
