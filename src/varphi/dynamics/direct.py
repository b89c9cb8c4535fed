"""The loop of Gillespie's direct method for eight samples at a time, as machine code of one network.

The samples lie in the lanes of vectors; as one ends the next takes its lane. All that an event needs (two random
numbers, a logarithm, the propensities, the choice of a reaction, the changes) is computed for eight lanes at once, and
what depends on parameters alone is computed when a sample takes its lane. Only what is rare, an output time or a
sample's end, is done lane by lane.

Each lane has its own random numbers (xoshiro256++, Blackman & Vigna, seeded by splitmix64 from the seed and the
sample's number), so a sample's course does not depend on threads or neighbours.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np

from varphi.numbers import Expression, evaluate
from varphi.numbers.expression import without_slopes
from varphi.numbers.kernel.batch import WIDTH
from varphi.numbers.kernel.compile import engine
from varphi.numbers.kernel.lanes import BINARY64, DOUBLE, I1, I8, I64, Emitter, IRValue, Lanes, Mask, largest, smallest
from varphi.numbers.kernel.vector_math import log

from .prepared import prepared

DONE, NEGATIVE, NOT_FINITE, TOO_MANY = range(4)
_FLOATS, _WHOLES = DOUBLE.as_pointer(), I64.as_pointer()
# What the machine code takes, in order; arrays are row by row.
_ARGUMENTS = {
    "starts": _FLOATS,  # (samples, species)
    "parameters": _FLOATS,  # (samples, parameters)
    "numbers": _WHOLES,  # (samples,) the samples' numbers, for the random numbers
    "times": _FLOATS,  # (within,) increasing, none beyond the end
    "found": _FLOATS,  # out (samples, wanted, species)
    "finals": _FLOATS,  # out (samples, species)
    "means": _FLOATS,  # out (samples, species): over time from `settled` on
    "squares": _FLOATS,  # out (samples, species)
    "events": _WHOLES,  # out (samples,)
    "status": _WHOLES,  # out (samples,)
    "watch": _WHOLES,  # (2,) out: how many samples have ended; in: not 0 to stop
    "samples": I64,
    "within": I64,
    "wanted": I64,
    "seed": I64,
    "most": I64,  # events a sample may have
    "end": DOUBLE,
    "settled": DOUBLE,  # from when on moments are taken
}
_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True, eq=False)
class Direct:
    """The machine code of a network."""

    address: int
    code: llvm.ExecutionEngine

    def __call__(self, *arguments: np.ndarray | float) -> None:
        """Run: contiguous arrays and numbers in the order of `_ARGUMENTS`. The interpreter's lock is not held."""
        kinds = [ctypes.c_double if k is DOUBLE else ctypes.c_int64 if k is I64 else ctypes.c_void_p for k in _KINDS]
        assert all(a.flags.c_contiguous for a in arguments if isinstance(a, np.ndarray))
        given = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
        ctypes.CFUNCTYPE(None, *kinds)(self.address)(*given)


_KINDS = tuple(_ARGUMENTS.values())


def direct(
    species: Sequence[str], parameters: Sequence[str], propensities: Sequence[Expression], changes: np.ndarray
) -> Direct:
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
) -> Direct:
    parts = ["direct", _source(), *species, "|", *parameters, "|", *(e.digest for e in laws), str(changes)]
    key = hashlib.sha256(" ".join(parts).encode()).hexdigest()
    code = engine(key, lambda: _Emission(species, parameters, laws, changes).module)
    return Direct(code.get_function_address("advance"), code)


@functools.cache
def _source() -> str:
    """A digest of this generator: changed, it must not meet the code of an older one."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


class _Vector:
    """A variable of eight lanes; LLVM keeps it in a register."""

    def __init__(self, at: Emitter, scalar: Any, name: str) -> None:
        self._builder, self._kind = at.builder, ir.VectorType(scalar, WIDTH)
        self._place = at.builder.alloca(self._kind, name=name)
        self.set(ir.Constant(self._kind, None))

    def get(self) -> IRValue:
        return self._builder.load(self._place)

    def set(self, value: IRValue) -> None:
        self._builder.store(value, self._place)

    def lane(self, lane: IRValue) -> IRValue:
        return self._builder.extract_element(self.get(), lane)

    def set_lane(self, lane: IRValue, value: IRValue) -> None:
        self.set(self._builder.insert_element(self.get(), value, lane))


class _Emission:
    """The function `advance` being written."""

    def __init__(
        self,
        species: Sequence[str],
        parameters: Sequence[str],
        laws: Sequence[Expression],
        changes: Sequence[Sequence[int]],
    ) -> None:
        self.module = ir.Module("direct")
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), _KINDS), "advance")
        self.builder: Any = ir.IRBuilder(function.append_basic_block("entry"))
        self.at = Emitter(self.builder, BINARY64, WIDTH)
        self.given = dict(zip(_ARGUMENTS, function.args, strict=True))
        self.species, self.parameters, self.changes = species, parameters, changes
        self.early, self.laws = prepared(laws, parameters)

        self.counts = [self._floats(n) for n in species]
        self.sums, self.square_sums = [self._floats("sum") for _ in species], [self._floats("square") for _ in species]
        self.fixed = {n: self._floats(n) for n in (*parameters, *self.early)}
        self.time, self.next_time = self._floats("time"), self._floats("next_time")
        self.random = [_Vector(self.at, I64, "random") for _ in range(4)]
        self.sample, self.place = _Vector(self.at, I64, "sample"), _Vector(self.at, I64, "place")
        self.events, self.status = _Vector(self.at, I64, "events"), _Vector(self.at, I64, "status")
        self.alive = _Vector(self.at, I1, "alive")
        self.waiting, self.active = self.builder.alloca(I64), self.builder.alloca(I64)
        self.builder.store(I64(0), self.waiting)
        self.builder.store(I64(0), self.active)
        self._emit()

    def _floats(self, name: str) -> _Vector:
        return _Vector(self.at, DOUBLE, name)

    def _lanes(self, variable: _Vector) -> Lanes:
        return Lanes(self.at, variable.get())

    def _emit(self) -> None:
        builder = self.builder
        fill, event, retire, end = (builder.append_basic_block(n) for n in ("fill", "event", "retire", "end"))
        entry = builder.block
        builder.branch(fill)

        builder.position_at_end(fill)
        empty = builder.phi(I8)
        empty.add_incoming(I8(2**WIDTH - 1), entry)
        with self._each(empty) as lane:
            self._fill(lane)
        values = {n: self._lanes(self.fixed[n]) for n in self.parameters}
        for name, value in zip(self.early, evaluate(list(self.early.values()), values), strict=True):
            self.fixed[name].set(self.at.lanes(value).value)
        builder.cbranch(builder.icmp_signed("==", builder.load(self.active), I64(0)), end, event)

        builder.position_at_end(event)
        ended = self._event()
        bits = builder.bitcast(ended.value, I8)
        # (An ordinary load could be moved out of the loop.)
        stopped = builder.load_atomic(builder.gep(self.given["watch"], [I64(1)]), "monotonic", 8)
        asked = builder.append_basic_block("asked")
        builder.cbranch(builder.icmp_signed("!=", stopped, I64(0)), end, asked)
        builder.position_at_end(asked)
        builder.cbranch(builder.icmp_unsigned("==", bits, I8(0)), event, retire)

        builder.position_at_end(retire)
        with self._each(bits) as lane:
            self._retire(lane)
        empty.add_incoming(bits, builder.block)
        builder.branch(fill)

        builder.position_at_end(end)
        builder.ret_void()

    @contextmanager
    def _each(self, bits: IRValue) -> Iterator[IRValue]:
        """For the number of each lane whose bit is set."""
        builder = self.builder
        before = builder.block
        head, body, end = (builder.append_basic_block(n) for n in ("each", "lane", "done"))
        builder.branch(head)
        builder.position_at_end(head)
        left = builder.phi(I8)
        left.add_incoming(bits, before)
        builder.cbranch(builder.icmp_unsigned("!=", left, I8(0)), body, end)
        builder.position_at_end(body)
        yield builder.zext(builder.cttz(left, I1(1)), I64)
        left.add_incoming(builder.and_(left, builder.sub(left, I8(1))), builder.block)
        builder.branch(head)
        builder.position_at_end(end)

    def _element(self, array: str, *index: tuple[IRValue, IRValue]) -> IRValue:
        """The address of an element, its index as pairs (index, length of that axis)."""
        builder, offset = self.builder, I64(0)
        for i, length in index:
            offset = builder.add(builder.mul(offset, length), i)
        return builder.gep(self.given[array], [offset])

    def _put(self, array: str, sample: IRValue, values: Sequence[IRValue]) -> None:
        for i, value in enumerate(values):
            self.builder.store(value, self._element(array, (sample, I64(1)), (I64(i), I64(len(values)))))

    def _fill(self, lane: IRValue) -> None:
        """Give a lane the next sample, if one is left."""
        builder = self.builder
        sample = builder.load(self.waiting)
        some = builder.icmp_signed("<", sample, self.given["samples"])
        self.alive.set_lane(lane, some)
        with builder.if_then(some):
            builder.store(builder.add(sample, I64(1)), self.waiting)
            builder.store(builder.add(builder.load(self.active), I64(1)), self.active)
            self.sample.set_lane(lane, sample)
            for array, variables in (("starts", self.counts), ("parameters", [self.fixed[n] for n in self.parameters])):
                for i, each in enumerate(variables):
                    place = self._element(array, (sample, I64(1)), (I64(i), I64(len(variables))))
                    each.set_lane(lane, builder.load(place))
            for each in (*self.sums, *self.square_sums, self.time):
                each.set_lane(lane, DOUBLE(0.0))
            for whole in (self.place, self.events):
                whole.set_lane(lane, I64(0))
            self._look_ahead(lane, I64(0))
            self._seed(lane, builder.load(self._element("numbers", (sample, I64(1)))))

    def _look_ahead(self, lane: IRValue, place: IRValue) -> None:
        """Note when the output at a place is due."""
        builder = self.builder
        self.next_time.set_lane(lane, DOUBLE(math.inf))
        with builder.if_then(builder.icmp_signed("<", place, self.given["within"])):
            self.next_time.set_lane(lane, builder.load(self._element("times", (place, I64(1)))))

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
        done = builder.icmp_signed("==", status, I64(DONE))

        def average(variable: _Vector) -> IRValue:
            return builder.select(done, builder.fdiv(variable.lane(lane), span), DOUBLE(math.nan))

        self._put("finals", sample, [c.lane(lane) for c in self.counts])
        self._put("means", sample, [average(s) for s in self.sums])
        self._put("squares", sample, [average(s) for s in self.square_sums])
        self._put("events", sample, [self.events.lane(lane)])
        self._put("status", sample, [status])
        builder.store(builder.sub(builder.load(self.active), I64(1)), self.active)
        ended = builder.gep(self.given["watch"], [I64(0)])
        builder.store(builder.add(builder.load(ended), I64(1)), ended)

    def _event(self) -> Mask:
        """One event in each lane; which lanes have ended instead."""
        at, builder = self.at, self.builder
        alive, time, counts = Mask(at, self.alive.get()), self._lanes(self.time), [self._lanes(c) for c in self.counts]
        values = {n: self._lanes(v) for n, v in self.fixed.items()} | dict(zip(self.species, counts, strict=True))
        rates = [at.lanes(r) for r in evaluate(self.laws, values)]
        reached = list(itertools.accumulate(rates))
        total = reached[-1]
        negative = functools.reduce(Mask.__or__, [r < 0.0 for r in rates])
        infinite = ~(total <= 1e300)
        crowded = Mask(at, builder.icmp_signed(">=", self.events.get(), self._spread(self.given["most"])))
        broken = negative | infinite | crowded

        wait = (total > 0.0).choose(-log(self._uniform()) / total, math.inf)
        later, end = time + wait, self._number("end")
        over = later >= end
        goes = alive & ~broken & ~over
        stay = largest(smallest(later, end) - largest(time, self._number("settled")), 0.0)
        for count, total_, squared in zip(counts, self.sums, self.square_sums, strict=True):
            stayed = stay * count
            total_.set((self._lanes(total_) + stayed).value)
            squared.set((self._lanes(squared) + stayed * count).value)
        due = (self._lanes(self.next_time) < later) & alive & ~broken
        with builder.if_then(due.any(), likely=False), self._each(builder.bitcast(due.value, I8)) as lane:
            self._record(lane, later)

        mark = self._uniform() * total
        below = [mark <= r for r in reached[:-1]]
        for i, (count, variable_) in enumerate(zip(counts, self.counts, strict=True)):
            change = self._change([row[i] for row in self.changes], below)
            if change is not None:
                variable_.set((count + goes.choose(change, 0.0)).value)
        self.time.set(goes.choose(later, time).value)
        self.events.set(builder.add(self.events.get(), builder.zext(goes.value, ir.VectorType(I64, WIDTH))))
        status = self.status.get()
        for mask, code in ((~broken, DONE), (negative, NEGATIVE), (infinite, NOT_FINITE), (crowded, TOO_MANY)):
            status = builder.select(mask.value, at.splat(I64, code), status)
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
            at = self._element("found", (sample, I64(1)), (place, self.given["wanted"]), (I64(i), I64(n)))
            builder.store(count.lane(lane), at)
        after = builder.add(place, I64(1))
        self.place.set_lane(lane, after)
        self._look_ahead(lane, after)
        builder.branch(head)
        builder.position_at_end(end)

    def _uniform(self) -> Lanes:
        """Numbers in (0, 1]."""
        builder, kind = self.builder, ir.VectorType(I64, WIDTH)
        a, b, c, d = (w.get() for w in self.random)
        result = builder.add(self._rotated(builder.add(a, d), 23), a)
        c, d = builder.xor(c, a), builder.xor(d, b)
        shifted = builder.shl(b, self.at.splat(I64, 17))
        b, a = builder.xor(b, c), builder.xor(a, d)
        for word, value in zip(self.random, (a, b, builder.xor(c, shifted), self._rotated(d, 45)), strict=True):
            word.set(value)
        assert result.type == kind
        whole = builder.uitofp(builder.lshr(result, self.at.splat(I64, 11)), self.at.type)
        return (Lanes(self.at, whole) + 1.0) * 2.0**-53

    def _rotated(self, x: IRValue, by: int) -> IRValue:
        left = self.builder.shl(x, self.at.splat(I64, by))
        return self.builder.or_(left, self.builder.lshr(x, self.at.splat(I64, 64 - by)))

    def _spread(self, value: IRValue) -> IRValue:
        """A scalar in every lane."""
        kind = ir.VectorType(value.type, WIDTH)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, I64(0))
        return self.builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), None))

    def _number(self, name: str) -> Lanes:
        return Lanes(self.at, self._spread(self.given[name]))
