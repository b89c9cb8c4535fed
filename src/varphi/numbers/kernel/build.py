"""From expressions to a kernel: LLVM IR for one pass over contiguous tensors.

A kernel reads its inputs once and writes each output once. Its arguments are the address of each input and output, a
table of binary64 scalars, and the range of elements.

Two loops are known. The *wide* one computes in binary64 and rounds at the end. The *fast* one, for element types of at
most 32 bits, computes in binary32; lanes that it flags as possibly inaccurate are gathered and computed again as the
wide one would. Both therefore give the same result to a few units in the last place, and only speed differs.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import llvmlite.ir as ir

from varphi.numbers._system import System, UnsupportedOperation, register
from varphi.numbers.expression import Expression, evaluate, ordered

from . import vector_math
from .lanes import (
    BINARY64,
    DOUBLE,
    FLOAT,
    HALF,
    I1,
    I8,
    I16,
    I32,
    I64,
    Emitter,
    IRBuilder,
    IRValue,
    Lanes,
    Mask,
    copysign,
    outside,
)
from .single_math import LOOSE, TIGHT, Single, SingleEmitter, as_single

WIDTH, FAST_WIDTH = 8, 16
LANES = register(System("kernels", vector_math.OPERATIONS, rank=1, types=(Lanes, Mask)))

# How each element type is stored, by torch's name of it.
STORAGE: dict[str, Any] = {"float64": DOUBLE, "float32": FLOAT, "float16": HALF, "bfloat16": I16}


@dataclass(frozen=True)
class Signature:
    """What a kernel computes and on what.

    Attributes:
        outputs: the expressions to evaluate.
        inputs: names of the variables that are tensors; the first is `x`.
        scalars: names of the variables that are one number for all elements.
        dtype: torch's name of the element type of every tensor.
        guarded: outputs that must be NaN where x is, though their formula would not be.
    """

    outputs: tuple[Expression, ...]
    inputs: tuple[str, ...]
    scalars: tuple[str, ...]
    dtype: str
    guarded: tuple[bool, ...]

    def first(self, outputs: int) -> Signature:
        """The same with the first outputs only."""
        return replace(self, outputs=self.outputs[:outputs], guarded=self.guarded[:outputs])

    def key(self) -> str:
        parts = [*(o.digest for o in self.outputs), *self.inputs, "|", *self.scalars, self.dtype, str(self.guarded)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def module(signature: Signature) -> ir.Module:
    """The LLVM module of a kernel.

    Its functions: `run(addresses..., scalars, start, stop)`; `work(task)`, the same for one of many threads; and, where
    there are no scalars, `entry`, which Python calls without the conversions of ctypes.
    """
    result, run = with_run(signature)
    _emit_work(result, run)
    if not signature.scalars:
        _emit_entry(result, run)
    return result


def with_run(signature: Signature) -> tuple[ir.Module, ir.Function]:
    """A module with the function `run(addresses..., scalars, start, stop)` of a signature."""
    if signature.dtype != "float64":
        try:
            return _with_run(signature, _emit_fast)
        except UnsupportedOperation:
            pass  # an operation that binary32 lacks: the wide loop has them all
    return _with_run(signature, _emit_wide)


def _with_run(signature: Signature, emit: Callable[[_Frame, Signature], None]) -> tuple[ir.Module, ir.Function]:
    result = ir.Module("varphi")
    addresses = [I8.as_pointer()] * (len(signature.inputs) + len(signature.outputs))
    run = ir.Function(result, ir.FunctionType(ir.VoidType(), [*addresses, DOUBLE.as_pointer(), I64, I64]), "run")
    frame = _Frame(run, signature)
    emit(frame, signature)
    frame.builder.ret_void()
    return result, run


class _Frame:
    """The function being emitted: its arguments, unpacked."""

    def __init__(self, run: ir.Function, signature: Signature) -> None:
        self.builder: IRBuilder = ir.IRBuilder(run.append_basic_block("entry"))
        *addresses, scalars, self.start, self.stop = run.args
        self.storage = STORAGE[signature.dtype]
        arrays = [self.builder.bitcast(a, self.storage.as_pointer()) for a in addresses]
        self.inputs, self.outputs = arrays[: len(signature.inputs)], arrays[len(signature.inputs) :]
        self.scalars = [self.builder.load(self.builder.gep(scalars, [I64(i)])) for i in range(len(signature.scalars))]

    @contextmanager
    def loop(self, start: IRValue, stop: IRValue, step: int) -> Iterator[IRValue]:
        with loop(self.builder, start, stop, I64(step)) as index:
            yield index


@contextmanager
def loop(builder: IRBuilder, start: IRValue, stop: IRValue, step: IRValue) -> Iterator[IRValue]:
    """for index in range(start, stop, step); leaves the builder after the loop."""
    before = builder.block
    head, body, end = (builder.append_basic_block(name) for name in ("loop", "body", "end"))
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(I64)
    index.add_incoming(start, before)
    builder.cbranch(builder.icmp_signed("<", index, stop), body, end)
    builder.position_at_end(body)
    yield index
    index.add_incoming(builder.add(index, step), builder.block)
    builder.branch(head)
    builder.position_at_end(end)


def _results(at: Emitter, signature: Signature, frame: _Frame, inputs: Sequence[Lanes]) -> list[Lanes]:
    """The outputs in binary64."""
    values: dict[str, Any] = dict(zip(signature.inputs, inputs, strict=True))
    values |= {n: _broadcast(at, v) for n, v in zip(signature.scalars, frame.scalars, strict=True)}
    outputs = [at.lanes(r) for r in evaluate(signature.outputs, values)]
    return _keep_nan(inputs[0], outputs, signature.guarded)


def _keep_nan(x: Lanes, outputs: Sequence[Lanes], guarded: Sequence[bool]) -> list[Lanes]:
    return [x.is_nan().choose(x, o) if g else o for o, g in zip(outputs, guarded, strict=True)]


def _emit_wide(frame: _Frame, signature: Signature) -> None:
    _wide_loop(frame, signature, frame.start)


def _wide_loop(frame: _Frame, signature: Signature, start: IRValue) -> None:
    at = Emitter(frame.builder, BINARY64, WIDTH)
    with frame.loop(start, frame.stop, WIDTH) as index:
        mask = tail_mask(at, frame.builder.sub(frame.stop, index))
        inputs = [load(at, frame.builder.gep(a, [index]), frame.storage, mask) for a in frame.inputs]
        for array, lanes in zip(frame.outputs, _results(at, signature, frame, inputs), strict=True):
            store(at, lanes, frame.builder.gep(array, [index]), frame.storage, mask)


# Elements per block of the fast loop: flagged places of a block are listed on the stack.
BLOCK = 1024
# A block with more flagged places than this is computed again in order: faster than place by place.
CROWDED = BLOCK // 2


@dataclass
class _Repairs:
    """The lanes of a block whose first `outputs` results must be computed again in binary64.

    Attributes:
        listed, count: where the loop over the block writes their places.
        masks: where it writes each vector's flags, a bit a lane.
    """

    outputs: int
    flagged: Mask
    listed: IRValue
    count: IRValue
    masks: IRValue


def _emit_fast(frame: _Frame, signature: Signature) -> None:
    """Whole vectors in blocks; what is left after the last whole vector goes through the wide loop."""
    builder = frame.builder
    # Who asks for second and higher derivatives asks for speed: all of them are then good to a few ulp of their scale.
    at = SingleEmitter(builder, FAST_WIDTH, TIGHT if len(signature.outputs) <= 2 else LOOSE)
    lists = [_room_for_places(builder) for _ in range(2)]
    whole = builder.and_(builder.sub(frame.stop, frame.start), I64(-FAST_WIDTH))
    end = builder.add(frame.start, whole)
    with frame.loop(frame.start, end, BLOCK) as block:
        left = builder.sub(end, block)
        size = builder.select(builder.icmp_signed("<", left, I64(BLOCK)), left, I64(BLOCK))
        for _, count, _ in lists:
            builder.store(I64(0), count)
        with frame.loop(I64(0), size, FAST_WIDTH) as offset:
            index = builder.add(block, offset)
            inputs = [load(at, builder.gep(a, [index]), frame.storage) for a in frame.inputs]
            outputs = _fast_results(at, signature, frame, inputs)
            for array, lanes in zip(frame.outputs, outputs, strict=True):
                store(at, lanes, builder.gep(array, [index]), frame.storage)
            repairs = [_Repairs(n, m, *to) for (n, m), to in zip(_doubts(at, signature), lists, strict=False)]
            for repair in repairs:
                _list_places(builder, repair, offset)
        for repair in repairs:
            _repair(frame, signature, repair, block, size)
    _wide_loop(frame, signature, end)


def _room_for_places(builder: IRBuilder) -> tuple[IRValue, IRValue, IRValue]:
    """A list of places of a block, with room for what whole vectors write beyond its end; its length; flags."""
    room = builder.alloca(ir.ArrayType(I32, BLOCK + FAST_WIDTH + WIDTH))
    flags = builder.alloca(ir.ArrayType(ir.IntType(FAST_WIDTH), BLOCK // FAST_WIDTH))
    start = [I32(0), I32(0)]
    return builder.gep(room, start), builder.alloca(I64), builder.gep(flags, start)


def _doubts(at: SingleEmitter, signature: Signature) -> list[tuple[int, Mask]]:
    """How many of the first outputs are in doubt, and where."""
    every = len(signature.outputs)
    kinds = {every: list(at.beyond_range)}
    # Doubts on digits are cast by the value and the slope only; higher derivatives promise no more than their scale.
    kinds.setdefault(min(every, 2), []).extend(at.inaccurate)
    return [(outputs, functools.reduce(Mask.__or__, masks)) for outputs, masks in kinds.items() if masks]


def _fast_results(at: SingleEmitter, signature: Signature, frame: _Frame, inputs: Sequence[Lanes]) -> list[Lanes]:
    """The outputs in binary32; the emitter knows what to doubt in them."""
    at.beyond_range.clear()
    at.inaccurate.clear()
    values: dict[str, Any] = {n: Single(v, 0.0) for n, v in zip(signature.inputs, inputs, strict=True)}
    for name, scalar in zip(signature.scalars, frame.scalars, strict=True):
        high = at.builder.fptrunc(scalar, FLOAT)
        low = at.builder.fptrunc(at.builder.fsub(scalar, at.builder.fpext(high, DOUBLE)), FLOAT)
        values[name] = Single(_broadcast(at, high), 0.5, _broadcast(at, low))
    known: dict[int, Any] = {}
    results: list[Single] = []
    at.checks_products = any(n.operation in _CHOICES for n in ordered(signature.outputs))
    # The value and the first derivative keep their last digits; higher derivatives are good absolutely.
    for order, output in enumerate(signature.outputs):
        at.doubting = order <= 1
        result = as_single(evaluate([output], values, known)[0], at)
        results.append(result)
        if not result.exact and not _is_one_rounding(output):
            _doubt_extremes(at, inputs, result.lanes)
    return _keep_nan(inputs[0], [r.lanes for r in results], signature.guarded)


_CHOICES = {"where", "maximum", "minimum", "sign"}
_EXACT = _CHOICES | {"neg", "abs", "lt", "le", "gt", "ge", "eq", "ne", "variable", "constant"}


def _is_one_rounding(output: Expression) -> bool:
    """Whether the output is right for every input: pieces that are at most a product with or sum of a constant."""
    if output.operation == "mul" and output.arguments[0].operation == "variable":
        output = output.arguments[1]
        return all(n.operation in _EXACT for n in output.nodes())
    return all(
        n.operation in _EXACT or (n.operation in ("mul", "add", "sub") and any(a.is_constant for a in n.arguments))
        for n in output.nodes()
    )


def _doubt_extremes(at: SingleEmitter, inputs: Sequence[Lanes], result: Lanes) -> None:
    """Arguments or results so large or small that a step between may have left the normal numbers."""
    nonzero = functools.reduce(Mask.__and__, [~i.equals(0.0) for i in inputs])
    at.doubt_range(outside(inputs[0], 2.0**-40, 2.0**40) & nonzero)
    if at.checks_products:
        at.doubt_range(~(abs(result) <= 1e37))
    else:
        at.doubt_range(outside(result, 1e-36, 1e37) & nonzero)


def _list_places(builder: IRBuilder, repair: _Repairs, offset: IRValue) -> None:
    """Append the places of the flagged lanes to the list."""
    word = ir.IntType(FAST_WIDTH)
    flagged = repair.flagged.value
    bits = builder.bitcast(flagged, word)
    builder.store(bits, builder.gep(repair.masks, [builder.udiv(offset, I64(FAST_WIDTH))]))
    with builder.if_then(builder.icmp_unsigned("!=", bits, word(0)), likely=False):
        filled = builder.load(repair.count)
        lanes = ir.VectorType(I32, FAST_WIDTH)
        places = builder.add(
            _spread(builder, builder.trunc(offset, I32), FAST_WIDTH), ir.Constant(lanes, list(range(FAST_WIDTH)))
        )
        name = f"llvm.experimental.vector.compress.v{FAST_WIDTH}i32"
        mask = ir.VectorType(I1, FAST_WIDTH)
        compress = _declared(builder, name, ir.FunctionType(lanes, [lanes, mask, lanes]))
        front = builder.call(compress, [places, flagged, ir.Constant(lanes, ir.Undefined)])
        builder.store(front, builder.bitcast(builder.gep(repair.listed, [filled]), lanes.as_pointer()), align=4)
        ones = builder.call(_declared(builder, f"llvm.ctpop.i{FAST_WIDTH}", ir.FunctionType(word, [word])), [bits])
        builder.store(builder.add(filled, builder.zext(ones, I64)), repair.count)


def _repair(frame: _Frame, signature: Signature, repair: _Repairs, block: IRValue, size: IRValue) -> None:
    """Compute the flagged places of a block again in binary64."""
    builder = frame.builder
    signature = signature.first(repair.outputs)
    count = builder.load(repair.count)
    with builder.if_then(builder.icmp_signed(">", count, I64(0)), likely=False):
        crowded = builder.icmp_signed(">", count, I64(CROWDED))
        with builder.if_else(crowded) as (then, otherwise):
            with then:
                _repair_in_order(frame, signature, repair, block, size)
            with otherwise:
                _repair_places(frame, signature, repair, block, count)


def _repair_in_order(frame: _Frame, signature: Signature, repair: _Repairs, block: IRValue, size: IRValue) -> None:
    # Only flagged lanes are written: an element's result must not depend on its neighbours.
    builder = frame.builder
    at = Emitter(builder, BINARY64, WIDTH)
    flags = builder.bitcast(repair.masks, ir.IntType(WIDTH).as_pointer())
    with frame.loop(I64(0), size, WIDTH) as offset:
        index = builder.add(block, offset)
        bits = builder.load(builder.gep(flags, [builder.udiv(offset, I64(WIDTH))]))
        mask = builder.bitcast(bits, ir.VectorType(I1, WIDTH))
        inputs = [load(at, builder.gep(a, [index]), frame.storage) for a in frame.inputs]
        for array, lanes in zip(frame.outputs, _results(at, signature, frame, inputs), strict=False):
            store(at, lanes, builder.gep(array, [index]), frame.storage, mask)


def _repair_places(frame: _Frame, signature: Signature, repair: _Repairs, block: IRValue, count: IRValue) -> None:
    builder = frame.builder
    at = Emitter(builder, BINARY64, WIDTH)
    # Fill the last vector with the last place: computing it twice does no harm.
    last = builder.load(builder.gep(repair.listed, [builder.sub(count, I64(1))]))
    for i in range(WIDTH - 1):
        builder.store(last, builder.gep(repair.listed, [builder.add(count, I64(i))]))
    with frame.loop(I64(0), count, WIDTH) as position:
        places = [
            builder.add(
                block, builder.zext(builder.load(builder.gep(repair.listed, [builder.add(position, I64(i))])), I64)
            )
            for i in range(WIDTH)
        ]
        inputs = [_gather(at, a, frame.storage, places) for a in frame.inputs]
        for array, lanes in zip(frame.outputs, _results(at, signature, frame, inputs), strict=False):
            stored = _narrow(at, lanes, frame.storage)
            for i, place in enumerate(places):
                builder.store(builder.extract_element(stored, I32(i)), builder.gep(array, [place]))


def _gather(at: Emitter, array: IRValue, storage: Any, places: Sequence[IRValue]) -> Lanes:
    vector: IRValue = ir.Constant(ir.VectorType(storage, at.width), ir.Undefined)
    for i, place in enumerate(places):
        element = at.builder.load(at.builder.gep(array, [place]))
        vector = at.builder.insert_element(vector, element, I32(i))
    return _widen(at, vector, storage)


def _declared(builder: IRBuilder, name: str, kind: ir.FunctionType) -> ir.Function:
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


def _spread(builder: IRBuilder, scalar: IRValue, width: int) -> IRValue:
    kind = ir.VectorType(scalar.type, width)
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, scalar, I32(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(I32, width), [0] * width))


def _broadcast(at: Emitter, scalar: IRValue) -> Lanes:
    return Lanes(at, _spread(at.builder, scalar, at.width))


def tail_mask(at: Emitter, left: IRValue) -> IRValue:
    """Lanes below `left` are on."""
    indices = ir.Constant(ir.VectorType(I64, at.width), list(range(at.width)))
    return at.builder.icmp_signed("<", indices, _spread(at.builder, left, at.width))


_SUFFIX = {FLOAT: "f32", DOUBLE: "f64", I16: "i16", HALF: "f16"}
_BYTES = {FLOAT: 4, DOUBLE: 8, I16: 2, HALF: 2}


def load(at: Emitter, address: IRValue, storage: Any, mask: IRValue | None = None) -> Lanes:
    vector = ir.VectorType(storage, at.width)
    place = at.builder.bitcast(address, vector.as_pointer())
    if mask is None:
        return _widen(at, at.builder.load(place, align=_BYTES[storage]), storage)
    kind = ir.FunctionType(vector, [vector.as_pointer(), I32, mask.type, vector])
    load = _declared(at.builder, f"llvm.masked.load.v{at.width}{_SUFFIX[storage]}.p0", kind)
    return _widen(at, at.builder.call(load, [place, I32(_BYTES[storage]), mask, ir.Constant(vector, None)]), storage)


def store(at: Emitter, lanes: Lanes, address: IRValue, storage: Any, mask: IRValue | None = None) -> None:
    vector = ir.VectorType(storage, at.width)
    place = at.builder.bitcast(address, vector.as_pointer())
    if mask is None:
        at.builder.store(_narrow(at, lanes, storage), place, align=_BYTES[storage])
        return
    kind = ir.FunctionType(ir.VoidType(), [vector, vector.as_pointer(), I32, mask.type])
    store = _declared(at.builder, f"llvm.masked.store.v{at.width}{_SUFFIX[storage]}.p0", kind)
    at.builder.call(store, [_narrow(at, lanes, storage), place, I32(_BYTES[storage]), mask])


def _widen(at: Emitter, raw: IRValue, storage: Any) -> Lanes:
    """Stored elements as lanes of the emitter's format."""
    if storage is I16:  # bfloat16 is the upper half of a float32
        words = ir.VectorType(I32, at.width)
        shifted = at.builder.shl(at.builder.zext(raw, words), ir.Constant(words, [16] * at.width))
        raw, storage = at.builder.bitcast(shifted, ir.VectorType(FLOAT, at.width)), FLOAT
    return Lanes(at, raw if storage is at.form.scalar else at.builder.fpext(raw, at.type))


_LARGEST = 1.7976931348622e308


def _narrow(at: Emitter, lanes: Lanes, storage: Any) -> IRValue:
    """Lanes as they are stored, rounded to nearest."""
    if storage is I16:
        return _to_bfloat16(at, lanes)
    if storage is at.form.scalar:
        # e^x stops short of infinity inside a kernel (`vector_math.exp`); outside it does not.
        return (
            lanes.value
            if storage is FLOAT
            else (abs(lanes) > _LARGEST).choose(copysign(at.lanes(math.inf), lanes), lanes).value
        )
    if storage is HALF and at.form is BINARY64:
        # In one step LLVM would call a routine of compiler-rt, which is not there: a crash.
        single = at.builder.bitcast(_odd_single(at, lanes), ir.VectorType(FLOAT, at.width))
        return at.builder.fptrunc(single, ir.VectorType(HALF, at.width))
    return at.builder.fptrunc(lanes.value, ir.VectorType(storage, at.width))


def _odd_single(at: Emitter, lanes: Lanes) -> IRValue:
    """binary64 lanes as the bits of float32, rounded to odd: a further rounding, to 16 bits, is then the only one."""
    builder = at.builder
    words = ir.VectorType(I32, at.width)
    single = builder.fptrunc(lanes.value, ir.VectorType(FLOAT, at.width))
    # Where the conversion was inexact, step back towards the exact value and set the last bit.
    magnitude, exact = abs(Lanes(at, builder.fpext(single, at.type))), abs(lanes)
    above = builder.zext((magnitude > exact).value, words)
    inexact = builder.zext((~magnitude.equals(exact)).value, words)
    return builder.or_(builder.sub(builder.bitcast(single, words), above), inexact)


def _to_bfloat16(at: Emitter, lanes: Lanes) -> IRValue:
    """The nearest bfloat16, ties to even, as its 16 bits. One rounding: the float32 between keeps what was cut off."""
    builder = at.builder
    words = ir.VectorType(I32, at.width)

    def splat(value: int) -> ir.Constant:
        return ir.Constant(words, [value] * at.width)

    if at.form is BINARY64:
        integer = builder.bitcast(builder.fptrunc(lanes.value, ir.VectorType(FLOAT, at.width)), words)
        odd = _odd_single(at, lanes)
    else:
        integer = odd = builder.bitcast(lanes.value, words)
    lowest = builder.and_(builder.lshr(odd, splat(16)), splat(1))
    rounded = builder.lshr(builder.add(odd, builder.add(lowest, splat(0x7FFF))), splat(16))
    finite = (abs(lanes) < float("inf")).value
    plain = builder.or_(builder.lshr(integer, splat(16)), builder.zext(lanes.is_nan().value, words))
    return builder.trunc(builder.select(finite, rounded, plain), ir.VectorType(I16, at.width))


def _emit_work(result: ir.Module, run: ir.Function) -> None:
    """`work(task)`: what each thread does. It takes the next chunk from a shared counter until none is left.

    The task is a table of words: the addresses, the scalars', the number of elements, the chunk size, the counter.
    """
    work = ir.Function(result, ir.FunctionType(ir.VoidType(), [I64.as_pointer()]), "work")
    builder: IRBuilder = ir.IRBuilder(work.append_basic_block("entry"))
    pointers = [a.type for a in run.args[:-2]]
    places = [builder.gep(work.args[0], [I64(i)]) for i in range(len(pointers) + 3)]
    arguments = [builder.inttoptr(builder.load(p), t) for p, t in zip(places, pointers, strict=False)]
    total, chunk = (builder.load(p) for p in places[len(pointers) : -1])
    loop, body, end = (work.append_basic_block(name) for name in ("loop", "body", "end"))
    builder.branch(loop)
    builder.position_at_end(loop)
    start = builder.atomic_rmw("add", places[-1], chunk, "monotonic")
    builder.cbranch(builder.icmp_signed("<", start, total), body, end)
    builder.position_at_end(body)
    stop = builder.add(start, chunk)
    stop = builder.select(builder.icmp_signed("<", stop, total), stop, total)
    builder.call(run, [*arguments, start, stop])
    builder.branch(loop)
    builder.position_at_end(end)
    builder.ret_void()


def _emit_entry(result: ir.Module, run: ir.Function) -> None:
    """`entry(self, arguments, count)`: a METH_FASTCALL function of CPython, (*addresses, elements) -> None."""
    pointer = I8.as_pointer()
    entry = ir.Function(result, ir.FunctionType(pointer, [pointer, pointer.as_pointer(), I64]), "entry")
    as_integer = ir.Function(result, ir.FunctionType(I64, [pointer]), "PyLong_AsLongLong")
    builder: IRBuilder = ir.IRBuilder(entry.append_basic_block("entry"))
    places = [builder.gep(entry.args[1], [I64(i)]) for i in range(len(run.args) - 2)]
    *addresses, elements = [builder.call(as_integer, [builder.load(p)]) for p in places]
    kinds = [a.type for a in run.args]
    pointers = [builder.inttoptr(a, kind) for a, kind in zip(addresses, kinds, strict=False)]
    builder.call(run, [*pointers, ir.Constant(kinds[-3], None), I64(0), elements])
    none = ir.GlobalVariable(result, I8, "_Py_NoneStruct")
    builder.call(ir.Function(result, ir.FunctionType(ir.VoidType(), [pointer]), "Py_IncRef"), [none])
    builder.ret(none)
