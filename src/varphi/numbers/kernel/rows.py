"""Kernels of a function and its derivatives together with arithmetic around them, over rows of strided arrays.

What passes derivatives through an activation needs f(x), f'(x), ... at one input and sums of products of these with
further inputs. Both happen here in one pass: a block of x is gathered on the stack, its derivatives are computed there
by the tower's own loop, with its accuracy, and the sums follow while all of it is in the first cache.

An array is seen as rows × inner elements. The elements of a row lie side by side; the distance between rows is the
array's own: 0 repeats one row, as a bias does.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np

from varphi.numbers.expression import Expression, evaluate

from .build import BLOCK, FAST_WIDTH, STORAGE, WIDTH, Signature, load, loop, store, tail_mask, with_run
from .compile import SERIAL_BELOW, engine, parallel_entry
from .lanes import BINARY32, BINARY64, DOUBLE, FLOAT, I8, I64, Emitter, IRBuilder, IRValue, Lanes

_ROWS_VERSION = 1


@dataclass(frozen=True)
class RowsSignature:
    """What a kernel over rows computes.

    Attributes:
        tower: f, f', ... of the variable "x", float32 or float64, without further inputs or scalars.
        inputs: the names of the arrays that are read; the first is the tower's argument.
        outputs: what is written, in the variables `inputs` and t0, t1, ... (the tower's outputs).
    """

    tower: Signature
    inputs: tuple[str, ...]
    outputs: tuple[Expression, ...]

    def key(self) -> str:
        text = " ".join([self.tower.key(), *self.inputs, "|", *(o.digest for o in self.outputs), str(_ROWS_VERSION)])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def used(self) -> frozenset[str]:
        """The variables that occur in the outputs."""
        return frozenset().union(*(o.variables for o in self.outputs))


def module(signature: RowsSignature) -> ir.Module:
    """The LLVM module; its function `rows(task)` takes chunks of rows from a shared counter until none is left.

    The task is a table of words: the arrays' addresses (inputs, then outputs), their distances between rows in
    elements, the number of rows, the elements of a row, the rows of a chunk, the counter.
    """
    result, tower = with_run(signature.tower)
    tower.linkage = "internal"
    function = ir.Function(result, ir.FunctionType(ir.VoidType(), [I64.as_pointer()]), "rows")
    _Rows(function, tower, signature).emit()
    return result


class _Rows:
    """The function being emitted."""

    def __init__(self, function: ir.Function, tower: ir.Function, signature: RowsSignature) -> None:
        self.function, self.tower, self.signature = function, tower, signature
        self.builder: IRBuilder = ir.IRBuilder(function.append_basic_block("entry"))
        self.storage = STORAGE[signature.tower.dtype]
        single = self.storage is FLOAT
        self.at = Emitter(self.builder, BINARY32 if single else BINARY64, FAST_WIDTH if single else WIDTH)
        self.at.flags = ("contract",)
        arrays = len(signature.inputs) + len(signature.outputs)
        words = [self._word(i) for i in range(2 * arrays + 4)]
        pointer = self.storage.as_pointer()
        self.arrays = [self.builder.inttoptr(self.builder.load(w), pointer) for w in words[:arrays]]
        self.strides = [self.builder.load(w) for w in words[arrays : 2 * arrays]]
        self.total, self.inner, self.chunk = (self.builder.load(w) for w in words[-4:-1])
        self.counter = words[-1]
        # The block of x, then a row for each output of the tower. Whole vectors may run over a block's end.
        room = ir.ArrayType(self.storage, BLOCK + 2 * FAST_WIDTH)
        self.scratch = [self._room(room) for _ in range(1 + len(signature.tower.outputs))]

    def _word(self, place: int) -> IRValue:
        return self.builder.gep(self.function.args[0], [I64(place)])

    def _room(self, kind: Any) -> IRValue:
        place = self.builder.alloca(kind)
        place.align = 64
        return self.builder.gep(place, [I64(0), I64(0)])

    def emit(self) -> None:
        builder, function = self.builder, self.function
        # As many rows as fill a block; of a longer row, a block at a time.
        fitting = builder.udiv(I64(BLOCK), self.inner)
        per_block = builder.select(builder.icmp_unsigned("==", fitting, I64(0)), I64(1), fitting)
        taking, body, end = (function.append_basic_block(name) for name in ("taking", "chunk", "end"))
        builder.branch(taking)
        builder.position_at_end(taking)
        start = builder.atomic_rmw("add", self.counter, self.chunk, "monotonic")
        builder.cbranch(builder.icmp_signed("<", start, self.total), body, end)
        builder.position_at_end(body)
        stop = self._least(builder.add(start, self.chunk), self.total)
        with (
            loop(builder, start, stop, per_block) as row,
            loop(builder, I64(0), self.inner, I64(BLOCK)) as column,
        ):
            rows = self._least(builder.sub(stop, row), per_block)
            columns = self._least(builder.sub(self.inner, column), I64(BLOCK))
            self._block(row, column, rows, columns)
        builder.branch(taking)
        builder.position_at_end(end)
        builder.ret_void()

    def _least(self, a: IRValue, b: IRValue) -> IRValue:
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def _block(self, row: IRValue, column: IRValue, rows: IRValue, columns: IRValue) -> None:
        builder, width = self.builder, self.at.width
        x, *towers = self.scratch
        count = builder.mul(rows, columns)
        # The tower works on whole vectors only: what is beyond the last element is 0.
        padded = builder.and_(builder.add(count, I64(FAST_WIDTH - 1)), I64(-FAST_WIDTH))
        for back in range(width, FAST_WIDTH + width, width):
            store(self.at, self.at.lanes(0.0), builder.gep(x, [builder.sub(padded, I64(back))]), self.storage)
        with loop(builder, I64(0), rows, I64(1)) as r:
            source = self._place(0, builder.add(row, r), column)
            target = builder.gep(x, [builder.mul(r, columns)])
            for offset, mask in self._vectors(columns):
                lanes = load(self.at, builder.gep(source, [offset]), self.storage, mask)
                store(self.at, lanes, builder.gep(target, [offset]), self.storage, mask)
        addresses = [builder.bitcast(a, I8.as_pointer()) for a in self.scratch]
        builder.call(self.tower, [*addresses, ir.Constant(DOUBLE.as_pointer(), None), I64(0), padded])
        with loop(builder, I64(0), rows, I64(1)) as r:
            self._row(builder.add(row, r), column, builder.mul(r, columns), columns, towers)

    def _place(self, array: int, row: IRValue, column: IRValue) -> IRValue:
        builder = self.builder
        return builder.gep(self.arrays[array], [builder.add(builder.mul(row, self.strides[array]), column)])

    def _vectors(self, columns: IRValue) -> Any:
        """Offsets of the whole vectors of a row, without a mask, then that of the rest, with one."""
        builder, width = self.builder, self.at.width
        whole = builder.and_(columns, I64(-width))
        with loop(builder, I64(0), whole, I64(width)) as offset:
            yield offset, None
        with builder.if_then(builder.icmp_signed("<", whole, columns)):
            yield whole, tail_mask(self.at, builder.sub(columns, whole))

    def _row(self, row: IRValue, column: IRValue, scratch: IRValue, columns: IRValue, towers: list[IRValue]) -> None:
        builder, signature, used = self.builder, self.signature, self.signature.used
        inputs = {n: self._place(i, row, column) for i, n in enumerate(signature.inputs) if n in used}
        inputs |= {f"t{k}": builder.gep(t, [scratch]) for k, t in enumerate(towers) if f"t{k}" in used}
        outputs = [self._place(len(signature.inputs) + i, row, column) for i in range(len(signature.outputs))]
        for offset, mask in self._vectors(columns):
            values = {n: load(self.at, builder.gep(a, [offset]), self.storage, mask) for n, a in inputs.items()}
            # All are read before any is written: an output may overwrite an input.
            for result, array in zip(evaluate(signature.outputs, values), outputs, strict=True):
                lanes = result if isinstance(result, Lanes) else self.at.lanes(result)
                store(self.at, lanes, builder.gep(array, [offset]), self.storage, mask)


class Array(NamedTuple):
    """Where an array lies.

    Attributes:
        address: of its first element.
        stride: elements from a row to the next; 0 repeats one row.
        step: bytes by which the address moves with each row that a run starts later; 0 for a buffer that each run
            uses from its beginning.
    """

    address: int
    stride: int
    step: int


class RowsKernel:
    """A compiled kernel over rows."""

    def __init__(self, code: llvm.ExecutionEngine, arrays: int) -> None:
        self._code = code  # owns it
        self.address = code.get_function_address("rows")
        self.run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.address)
        self.arrays = arrays

    def bind(self, arrays: Sequence[Array], inner: int, threads: int = 1) -> Bound:
        """The kernel on these arrays (inputs, then outputs), whose rows have `inner` elements."""
        return Bound(self, arrays, inner, threads)


class Bound:
    """A kernel and the arrays that it works on: called with a range of rows, as often as wanted."""

    def __init__(self, kernel: RowsKernel, arrays: Sequence[Array], inner: int, threads: int) -> None:
        assert len(arrays) == kernel.arrays
        self._kernel, self._inner, self._threads = kernel, inner, threads
        self._first = np.array([a.address for a in arrays], np.int64)
        self._steps = np.array([a.step for a in arrays], np.int64)
        self._task = np.zeros(2 * len(arrays) + 4, np.int64)
        self._task[len(arrays) : -4] = [a.stride for a in arrays]
        self._task[-3] = inner
        self._place = self._task.ctypes.data
        self._moved = np.empty_like(self._first)

    def __call__(self, start: int, rows: int) -> None:
        """Run over the rows start, start + 1, ...; `rows` of them, at least one."""
        task, arrays = self._task, self._kernel.arrays
        np.multiply(self._steps, start, out=self._moved)
        np.add(self._first, self._moved, out=task[:arrays])
        threads = self._threads if rows > 1 and rows * self._inner >= SERIAL_BELOW else 1
        parallel = parallel_entry() if threads > 1 else None
        # Four chunks a thread even out unequal threads.
        task[-4], task[-2], task[-1] = rows, rows if parallel is None else -(-rows // (4 * threads)), 0
        if parallel is None:
            self._kernel.run(self._place)
        else:
            parallel(self._kernel.address, ctypes.c_void_p(self._place), threads, 0)


@functools.cache
def rows_kernel(signature: RowsSignature) -> RowsKernel:
    """The compiled kernel of a signature: from memory, from disk, or made now."""
    code = engine(signature.key(), lambda: module(signature))
    return RowsKernel(code, len(signature.inputs) + len(signature.outputs))
