"""Expressions on eight samples at a time, for the inner loops of solvers.

A solver that advances many samples side by side keeps eight of them in the lanes of a vector: its inputs are rows of
eight numbers, one row for each state, parameter and so on, and a call evaluates all expressions for all eight. The
exponentials of eight samples cost little more than those of one.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import llvmlite.binding as llvm
import llvmlite.ir as ir

from varphi.numbers.expression import Expression, evaluate

from .build import LANES, WIDTH, load, store
from .compile import engine
from .lanes import BINARY64, DOUBLE, I64, Emitter

__all__ = ["WIDTH", "Batch", "batch"]
_VERSION = 2


@dataclass(frozen=True, eq=False)
class Batch:
    """A compiled function of rows of `WIDTH` numbers.

    Attributes:
        address: of `function(inputs, outputs)`, two pointers to rows of doubles.
        inputs, outputs: how many rows.
    """

    address: int
    inputs: int
    outputs: int
    code: llvm.ExecutionEngine

    def __call__(self, inputs: int, outputs: int) -> None:
        """Run on arrays at these addresses."""
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(self.address)(inputs, outputs)


def module(expressions: Sequence[Expression], variables: Sequence[str]) -> ir.Module:
    """The LLVM module of `function(inputs, outputs)`."""
    result = ir.Module("varphi")
    pointer = DOUBLE.as_pointer()
    function = ir.Function(result, ir.FunctionType(ir.VoidType(), [pointer, pointer]), "batch")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    at = Emitter(builder, BINARY64, WIDTH)
    used = frozenset().union(*(e.variables for e in expressions))
    source, target = function.args
    values = {
        name: load(at, builder.gep(source, [I64(i * WIDTH)]), DOUBLE)
        for i, name in enumerate(variables)
        if name in used
    }
    # All are read before any is written: outputs may overwrite inputs.
    for i, found in enumerate(evaluate(expressions, values)):
        store(at, at.lanes(found), builder.gep(target, [I64(i * WIDTH)]), DOUBLE)
    builder.ret_void()
    return result


def batch(expressions: Sequence[Expression], variables: Sequence[str]) -> Batch:
    """The expressions as a function of rows, from memory, from disk, or compiled now.

    Args:
        expressions: what to compute, a row each.
        variables: the names of the rows that are given, in order.

    Raises:
        ValueError: a variable is not among them, or an operation has no form in machine code.
    """
    expressions, variables = tuple(expressions), tuple(variables)
    missing = frozenset().union(*(e.variables for e in expressions)) - set(variables)
    if missing:
        raise ValueError(f"{', '.join(sorted(missing))} occurs, but is not among {', '.join(variables)}")
    known = {*LANES.operations, "variable", "constant"}
    unknown = {n.operation for e in expressions for n in e.nodes()} - known
    if unknown:
        raise ValueError(f"machine code has no operation {', '.join(sorted(unknown))}")
    return _batch(expressions, variables)


@functools.lru_cache(maxsize=256)
def _batch(expressions: tuple[Expression, ...], variables: tuple[str, ...]) -> Batch:
    text = " ".join([*(e.digest for e in expressions), "|", *variables, f"batch {_VERSION}"])
    code = engine(hashlib.sha256(text.encode()).hexdigest(), lambda: module(expressions, variables))
    return Batch(code.get_function_address("batch"), len(variables), len(expressions), code)
