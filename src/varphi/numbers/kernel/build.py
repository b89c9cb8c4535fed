"""From expressions to a kernel: LLVM IR for one pass over contiguous tensors.

A kernel reads its inputs once, computes every output lane by lane in binary64 and writes each output once. Its
arguments are a table of pointers (inputs, then outputs), a table of binary64 scalars, and the range of elements.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.ir as ir

from varphi.numbers._system import System, register
from varphi.numbers.expression import Expression, evaluate

from . import vector_math
from .lanes import BINARY64, DOUBLE, FLOAT, I1, I8, I16, I32, I64, Emitter, Lanes, Mask

WIDTH = 8
LANES = register(System("kernels", vector_math.OPERATIONS, rank=1, types=(Lanes, Mask)))

# How each element type is stored, by torch's name of it.
STORAGE: dict[str, Any] = {"float64": DOUBLE, "float32": FLOAT, "float16": ir.HalfType(), "bfloat16": I16}


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

    def key(self) -> str:
        parts = [*(o.digest for o in self.outputs), *self.inputs, "|", *self.scalars, self.dtype, str(self.guarded)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def module(signature: Signature) -> ir.Module:
    """The LLVM module of a kernel: `run(pointers, scalars, start, stop)` and `work(task)`, its threaded form."""
    result = ir.Module("varphi")
    pointers = I8.as_pointer().as_pointer()
    run = ir.Function(result, ir.FunctionType(ir.VoidType(), [pointers, DOUBLE.as_pointer(), I64, I64]), "run")
    _emit_loop(run, signature)
    _emit_work(result, run)
    return result


def _emit_loop(run: ir.Function, signature: Signature) -> None:
    builder = ir.IRBuilder(run.append_basic_block("entry"))
    at = Emitter(builder, BINARY64, WIDTH)
    pointers, scalars, start, stop = run.args
    storage = STORAGE[signature.dtype]
    arrays = []
    for i in range(len(signature.inputs) + len(signature.outputs)):
        address = builder.load(builder.gep(pointers, [I64(i)]))
        arrays.append(builder.bitcast(address, storage.as_pointer()))
    values: dict[str, Any] = {}
    for i, name in enumerate(signature.scalars):
        values[name] = _broadcast(at, builder.load(builder.gep(scalars, [I64(i)])))

    loop, body, end = (run.append_basic_block(name) for name in ("loop", "body", "end"))
    entry = builder.block
    builder.branch(loop)
    builder.position_at_end(loop)
    index = builder.phi(I64)
    index.add_incoming(start, entry)
    builder.cbranch(builder.icmp_signed("<", index, stop), body, end)

    builder.position_at_end(body)
    mask = _tail_mask(builder, builder.sub(stop, index))
    for name, array in zip(signature.inputs, arrays, strict=False):
        values[name] = _load(at, builder.gep(array, [index]), storage, mask)
    results = evaluate(signature.outputs, values)
    x = values[signature.inputs[0]]
    missing = x.is_nan() if any(signature.guarded) else None
    for array, result, guarded in zip(arrays[len(signature.inputs) :], results, signature.guarded, strict=True):
        lanes = at.lanes(result)
        if guarded:
            assert missing is not None
            lanes = missing.choose(x, lanes)
        _store(at, lanes, builder.gep(array, [index]), storage, mask)
    index.add_incoming(builder.add(index, I64(WIDTH)), builder.block)
    builder.branch(loop)
    builder.position_at_end(end)
    builder.ret_void()


def _broadcast(at: Emitter, scalar: ir.Value) -> Lanes:
    vector = at.builder.insert_element(ir.Constant(at.type, ir.Undefined), scalar, I32(0))
    spread = ir.Constant(ir.VectorType(I32, at.width), [0] * at.width)
    return Lanes(at, at.builder.shuffle_vector(vector, ir.Constant(at.type, ir.Undefined), spread))


def _tail_mask(builder: ir.IRBuilder, left: ir.Value) -> ir.Value:
    """Lanes below `left` are on."""
    vector = ir.VectorType(I64, WIDTH)
    count = builder.insert_element(ir.Constant(vector, ir.Undefined), left, I32(0))
    spread = ir.Constant(ir.VectorType(I32, WIDTH), [0] * WIDTH)
    counts = builder.shuffle_vector(count, ir.Constant(vector, ir.Undefined), spread)
    return builder.icmp_signed("<", ir.Constant(vector, list(range(WIDTH))), counts)


def _type_suffix(storage: Any) -> str:
    return {FLOAT: "f32", DOUBLE: "f64", I16: "i16"}.get(storage, "f16")


def _masked(builder: ir.IRBuilder, action: str, storage: Any) -> ir.Function:
    vector = ir.VectorType(storage, WIDTH)
    name = f"llvm.masked.{action}.v{WIDTH}{_type_suffix(storage)}.p0"
    found = builder.module.globals.get(name)
    if found is not None:
        return found
    mask = ir.VectorType(I1, WIDTH)
    if action == "load":
        kind = ir.FunctionType(vector, [vector.as_pointer(), I32, mask, vector])
    else:
        kind = ir.FunctionType(ir.VoidType(), [vector, vector.as_pointer(), I32, mask])
    return ir.Function(builder.module, kind, name)


def _load(at: Emitter, address: ir.Value, storage: Any, mask: ir.Value) -> Lanes:
    builder = at.builder
    vector = ir.VectorType(storage, WIDTH)
    place = builder.bitcast(address, vector.as_pointer())
    raw = builder.call(_masked(builder, "load", storage), [place, I32(_size(storage)), mask, ir.Constant(vector, None)])
    if storage is I16:  # bfloat16 is the upper half of a float32
        wide = builder.zext(raw, ir.VectorType(I32, WIDTH))
        raw = builder.bitcast(
            builder.shl(wide, ir.Constant(ir.VectorType(I32, WIDTH), [16] * WIDTH)), ir.VectorType(FLOAT, WIDTH)
        )
    return Lanes(at, raw if storage is DOUBLE else builder.fpext(raw, at.type))


def _size(storage: Any) -> int:
    return {FLOAT: 4, DOUBLE: 8}.get(storage, 2)


def _store(at: Emitter, lanes: Lanes, address: ir.Value, storage: Any, mask: ir.Value) -> None:
    builder = at.builder
    vector = ir.VectorType(storage, WIDTH)
    if storage is I16:
        value = _to_bfloat16(at, lanes)
    else:
        value = lanes.value if storage is DOUBLE else builder.fptrunc(lanes.value, vector)
    place = builder.bitcast(address, vector.as_pointer())
    builder.call(_masked(builder, "store", storage), [value, place, I32(_size(storage)), mask])


def _to_bfloat16(at: Emitter, lanes: Lanes) -> ir.Value:
    """The nearest bfloat16, ties to even, as its 16 bits. One rounding: the float32 between keeps what was cut off."""
    builder = at.builder
    words = ir.VectorType(I32, WIDTH)

    def splat(value: int) -> ir.Constant:
        return ir.Constant(words, [value] * WIDTH)

    single = builder.fptrunc(lanes.value, ir.VectorType(FLOAT, WIDTH))
    integer = builder.bitcast(single, words)
    # Round to odd: where binary64 -> float32 was inexact on an even word, step back towards the exact value.
    back = builder.fpext(single, at.type)
    magnitude, exact = abs(Lanes(at, back)), abs(lanes)
    above = builder.zext((magnitude > exact).value, words)
    inexact = builder.zext((~magnitude.equals(exact)).value, words)
    odd = builder.or_(builder.sub(integer, above), inexact)
    lowest = builder.and_(builder.lshr(odd, splat(16)), splat(1))
    rounded = builder.lshr(builder.add(odd, builder.add(lowest, splat(0x7FFF))), splat(16))
    finite = builder.fcmp_ordered("<", magnitude.value, at.lanes(float("inf")).value)
    plain = builder.or_(builder.lshr(integer, splat(16)), builder.zext(lanes.is_nan().value, words))
    return builder.trunc(builder.select(finite, rounded, plain), ir.VectorType(I16, WIDTH))


def _emit_work(result: ir.Module, run: ir.Function) -> None:
    """`work(task)`: what each thread does. It takes the next chunk from a shared counter until none is left.

    The task is eight words: pointers, scalars, number of elements, chunk size, counter.
    """
    work = ir.Function(result, ir.FunctionType(ir.VoidType(), [I64.as_pointer()]), "work")
    builder = ir.IRBuilder(work.append_basic_block("entry"))
    words = [builder.load(builder.gep(work.args[0], [I64(i)])) for i in range(4)]
    counter = builder.gep(work.args[0], [I64(4)])
    pointers = builder.inttoptr(words[0], run.args[0].type)
    scalars = builder.inttoptr(words[1], run.args[1].type)
    loop, body, end = (work.append_basic_block(name) for name in ("loop", "body", "end"))
    builder.branch(loop)
    builder.position_at_end(loop)
    start = builder.atomic_rmw("add", counter, words[3], "monotonic")
    builder.cbranch(builder.icmp_signed("<", start, words[2]), body, end)
    builder.position_at_end(body)
    stop = builder.add(start, words[3])
    stop = builder.select(builder.icmp_signed("<", stop, words[2]), stop, words[2])
    builder.call(run, [pointers, scalars, start, stop])
    builder.branch(loop)
    builder.position_at_end(end)
    builder.ret_void()
