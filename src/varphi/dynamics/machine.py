"""Writing solvers as machine code that advances eight samples at a time, one in each lane of its vectors.

A `Machine` is one function in LLVM's IR. What belongs to a lane and changes in the loop is a `Variable`, kept in a
register; arrays whose length is known only when it runs are `Rows` of eight numbers in memory. What is rare is done
lane by lane, in `each`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np

from varphi.numbers.kernel.batch import WIDTH
from varphi.numbers.kernel.build import loop
from varphi.numbers.kernel.lanes import BINARY64, DOUBLE, I8, I32, I64, Emitter, IRValue, Lanes, Mask

FLOATS, WHOLES, BYTES = DOUBLE.as_pointer(), I64.as_pointer(), I8.as_pointer()
VOID = ir.VoidType()


class Machine:
    """A function of eight lanes being written.

    Attributes:
        given: its arguments by name.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any]) -> None:
        self.module = ir.Module(name)
        function = ir.Function(self.module, ir.FunctionType(VOID, list(arguments.values())), name)
        self.builder: Any = ir.IRBuilder(function.append_basic_block("entry"))
        self.at = Emitter(self.builder, BINARY64, WIDTH)
        self.given = dict(zip(arguments, function.args, strict=True))

    def variable(self, scalar: Any, name: str = "") -> Variable:
        """A variable of eight lanes, 0 at first. (To be made before the first loop.)"""
        return Variable(self.at, scalar, name)

    def rows(self, name: str, first: IRValue | None = None) -> Rows:
        """An argument as rows, from `first` on."""
        base = self.given[name]
        return Rows(self.at, base if first is None else self.builder.gep(base, [self.times(first, WIDTH)]))

    def times(self, *factors: IRValue | int) -> IRValue:
        """A product of whole numbers."""
        result: Any = I64(1)
        for factor in factors:
            result = self.builder.mul(result, I64(factor) if isinstance(factor, int) else factor)
        return result

    def span(self, count: IRValue, first: IRValue | int = 0) -> Any:
        """For an index from `first` to below `count`."""
        return loop(self.builder, I64(first) if isinstance(first, int) else first, count, I64(1))

    @contextmanager
    def each(self, mask: Mask) -> Iterator[IRValue]:
        """For the number of each lane that is on."""
        with self.each_bit(self.builder.bitcast(mask.value, I8)) as lane:
            yield lane

    @contextmanager
    def each_bit(self, bits: IRValue) -> Iterator[IRValue]:
        builder = self.builder
        before = builder.block
        head, body, end = (builder.append_basic_block(n) for n in ("each", "lane", "done"))
        builder.branch(head)
        builder.position_at_end(head)
        left = builder.phi(I8)
        left.add_incoming(bits, before)
        builder.cbranch(builder.icmp_unsigned("!=", left, I8(0)), body, end)
        builder.position_at_end(body)
        yield builder.zext(builder.cttz(left, ir.IntType(1)(1)), I64)
        left.add_incoming(builder.and_(left, builder.sub(left, I8(1))), builder.block)
        builder.branch(head)
        builder.position_at_end(end)

    def element(self, array: str, *index: tuple[IRValue | int, IRValue | int]) -> IRValue:
        """The address of an element, its index as pairs (index, length of that axis)."""
        builder, offset = self.builder, I64(0)
        for i, length in index:
            offset = builder.add(self.times(offset, length), I64(i) if isinstance(i, int) else i)
        return builder.gep(self.given[array], [offset])

    def read(self, array: str, *index: tuple[IRValue | int, IRValue | int]) -> IRValue:
        return self.builder.load(self.element(array, *index))

    def write(self, value: IRValue, array: str, *index: tuple[IRValue | int, IRValue | int]) -> None:
        self.builder.store(value, self.element(array, *index))

    def spread(self, value: IRValue) -> IRValue:
        """A scalar in every lane."""
        kind = ir.VectorType(value.type, WIDTH)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, I64(0))
        return self.builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, WIDTH), None))

    def everywhere(self, scalar: IRValue | str) -> Lanes:
        """A number, or an argument by its name, in every lane."""
        return Lanes(self.at, self.spread(self.given[scalar] if isinstance(scalar, str) else scalar))

    def whole(self, sign: str, a: IRValue, b: IRValue | int) -> Mask:
        """Comparison of whole numbers in lanes with others, or with one number."""
        other = self.at.splat(I64, b) if isinstance(b, int) else b if b.type == a.type else self.spread(b)
        return Mask(self.at, self.builder.icmp_signed(sign, a, other))

    def increment(self, variable: Variable, mask: Mask) -> None:
        """Add 1 where a mask is on."""
        variable.set(self.builder.add(variable.get(), self.builder.zext(mask.value, ir.VectorType(I64, WIDTH))))

    def scatter(self, lanes: Lanes, array: str, offsets: IRValue, mask: Mask) -> None:
        """Store lanes that are on at their offsets in an array."""
        pointers = self._pointers(array, offsets)
        kind = ir.FunctionType(VOID, [lanes.value.type, pointers.type, I32, mask.value.type])
        self.builder.call(
            self._declared("llvm.masked.scatter.v8f64.v8p0", kind), [lanes.value, pointers, I32(8), mask.value]
        )

    def gather(self, array: str, offsets: IRValue, mask: Mask, otherwise: float) -> Lanes:
        """Load from offsets in an array where a mask is on."""
        pointers, rest = self._pointers(array, offsets), self.at.splat(DOUBLE, otherwise)
        kind = ir.FunctionType(rest.type, [pointers.type, I32, mask.value.type, rest.type])
        function = self._declared("llvm.masked.gather.v8f64.v8p0", kind)
        return Lanes(self.at, self.builder.call(function, [pointers, I32(8), mask.value, rest]))

    def _pointers(self, array: str, offsets: IRValue) -> IRValue:
        builder = self.builder
        base = self.spread(builder.ptrtoint(self.given[array], I64))
        places = builder.add(base, builder.mul(offsets, self.at.splat(I64, 8)))
        return builder.inttoptr(places, ir.VectorType(FLOATS, WIDTH))

    def _declared(self, name: str, kind: ir.FunctionType) -> ir.Function:
        return self.module.globals.get(name) or ir.Function(self.module, kind, name)

    def serve(
        self,
        alive: Variable,
        samples: IRValue,
        *,
        load: Callable[[IRValue, IRValue], None],
        begin: Callable[[], None],
        step: Callable[[], Mask],
        retire: Callable[[IRValue], None],
        more: Callable[[], IRValue] | None = None,
    ) -> None:
        """The loop: samples wait in a row, and as one ends the next takes its lane. Ends the function.

        It stops early if the second word of `watch` is set, and counts in the first how many samples have ended.

        Args:
            alive: set to which lanes have a sample.
            samples: how many there are.
            load: gives a lane the sample at a place of the row.
            begin: comes after lanes were filled.
            step: advances all lanes; which samples have ended.
            retire: writes down how the sample of a lane ended.
            more: how many are to be served in a further row once no lane has a sample; 0 if none. (It is asked again.)
        """
        builder = self.builder
        waiting, active, limit = (builder.alloca(I64) for _ in range(3))
        for place, value in ((waiting, I64(0)), (active, I64(0)), (limit, samples)):
            builder.store(value, place)
        fill, idle, began, advance, retired, end = (
            builder.append_basic_block(n) for n in ("fill", "idle", "begin", "step", "retire", "end")
        )
        everyone, entry = I8(2**WIDTH - 1), builder.block
        builder.branch(fill)

        builder.position_at_end(fill)
        empty = builder.phi(I8)
        empty.add_incoming(everyone, entry)
        with self.each_bit(empty) as lane:
            place = builder.load(waiting)
            some = builder.icmp_signed("<", place, builder.load(limit))
            alive.set_lane(lane, some)
            with builder.if_then(some):
                self.count_up(waiting)
                self.count_up(active)
                load(lane, place)
        builder.cbranch(builder.icmp_signed("==", builder.load(active), I64(0)), idle, began)

        builder.position_at_end(idle)
        if more is None:
            builder.branch(end)
        else:
            further = more()
            builder.store(I64(0), waiting)
            builder.store(further, limit)
            empty.add_incoming(everyone, builder.block)
            builder.cbranch(builder.icmp_signed(">", further, I64(0)), fill, end)

        builder.position_at_end(began)
        begin()
        builder.branch(advance)

        builder.position_at_end(advance)
        self._stop_if_asked(end)
        bits = builder.bitcast(step().value, I8)
        builder.cbranch(builder.icmp_unsigned("==", bits, I8(0)), advance, retired)

        builder.position_at_end(retired)
        with self.each_bit(bits) as lane:
            retire(lane)
            self.count_up(active, -1)
        empty.add_incoming(bits, builder.block)
        builder.branch(fill)

        builder.position_at_end(end)
        builder.ret_void()

    def look_ahead(self, due: Variable, lane: IRValue, place: IRValue, count: IRValue) -> None:
        """Note when a lane's output at a place of the `count` `times` is due: never, after the last."""
        due.set_lane(lane, DOUBLE(math.inf))
        with self.builder.if_then(self.builder.icmp_signed("<", place, count)):
            due.set_lane(lane, self.read("times", (place, 1)))

    def _stop_if_asked(self, end: Any) -> None:
        """Go to the block `end` if the second word of `watch` is set."""
        builder = self.builder
        # (An ordinary load could be moved out of the loop.)
        stopped = builder.load_atomic(builder.gep(self.given["watch"], [I64(1)]), "monotonic", 8)
        on = builder.append_basic_block("on")
        builder.cbranch(builder.icmp_signed("!=", stopped, I64(0)), end, on)
        builder.position_at_end(on)

    def count_up(self, place: IRValue, by: int = 1) -> None:
        """Add to a whole number in memory."""
        self.builder.store(self.builder.add(self.builder.load(place), I64(by)), place)


class Variable:
    """A variable of eight lanes."""

    def __init__(self, at: Emitter, scalar: Any, name: str) -> None:
        self._at, kind = at, ir.VectorType(scalar, WIDTH)
        self._place = at.builder.alloca(kind, name=name)
        self.set(ir.Constant(kind, None))

    def get(self) -> IRValue:
        return self._at.builder.load(self._place)

    def set(self, value: IRValue) -> None:
        self._at.builder.store(value, self._place)

    @property
    def lanes(self) -> Lanes:
        return Lanes(self._at, self.get())

    @property
    def mask(self) -> Mask:
        return Mask(self._at, self.get())

    def lane(self, lane: IRValue) -> IRValue:
        return self._at.builder.extract_element(self.get(), lane)

    def set_lane(self, lane: IRValue, value: IRValue) -> None:
        self.set(self._at.builder.insert_element(self.get(), value, lane))


class Rows:
    """Rows of eight numbers in memory."""

    def __init__(self, at: Emitter, base: IRValue) -> None:
        self._at, self.base = at, base

    def _place(self, row: IRValue | int, lane: IRValue | int = 0) -> IRValue:
        builder = self._at.builder
        row, lane = (I64(i) if isinstance(i, int) else i for i in (row, lane))
        return builder.gep(self.base, [builder.add(builder.mul(row, I64(WIDTH)), lane)])

    def __getitem__(self, row: IRValue | int) -> Lanes:
        builder = self._at.builder
        return Lanes(self._at, builder.load(builder.bitcast(self._place(row), self._at.type.as_pointer()), align=64))

    def __setitem__(self, row: IRValue | int, value: Lanes) -> None:
        builder = self._at.builder
        builder.store(value.value, builder.bitcast(self._place(row), self._at.type.as_pointer()), align=64)

    def lane(self, row: IRValue | int, lane: IRValue) -> IRValue:
        return self._at.builder.load(self._place(row, lane))

    def set_lane(self, row: IRValue | int, lane: IRValue, value: IRValue) -> None:
        self._at.builder.store(value, self._place(row, lane))


def aligned(*shape: int) -> np.ndarray:
    """Room for rows: zeros, float64, that begin where a vector may."""
    size = int(np.prod(shape)) * 8
    raw = np.zeros(size + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + size].view(np.float64).reshape(shape)


@functools.cache
def digest(*files: str) -> str:
    """Of a generator's sources and of this one: changed, it must not meet the code of an older one."""
    return hashlib.sha256(b"".join(Path(f).read_bytes() for f in (__file__, *files))).hexdigest()


class Code:
    """A compiled machine."""

    def __init__(self, code: llvm.ExecutionEngine, name: str, arguments: Mapping[str, Any]) -> None:
        self._code = code  # owns it
        kinds = [
            ctypes.c_double if k is DOUBLE else ctypes.c_int64 if k is I64 else ctypes.c_void_p
            for k in arguments.values()
        ]
        self._run = ctypes.CFUNCTYPE(None, *kinds)(code.get_function_address(name))
        self._names = tuple(arguments)

    def __call__(self, **given: np.ndarray | float) -> None:
        """Run on contiguous arrays and numbers; the interpreter's lock is not held."""
        assert all(a.flags.c_contiguous for a in given.values() if isinstance(a, np.ndarray))
        found: Sequence[Any] = [given[n] for n in self._names]
        self._run(*(a.ctypes.data if isinstance(a, np.ndarray) else a for a in found))
