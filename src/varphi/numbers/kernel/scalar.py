"""Expressions as functions that numba code can call: scalars in binary64, inlined into the caller's loop.

The instructions are those of the vector kernels at width 1, so an ODE's right-hand side or a spiking layer's inner loop
gets the same accurate tails, and LLVM may vectorise the loop around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from varphi.numbers.expression import Expression, evaluate

from .build import LANES
from .lanes import BINARY64, Emitter, Lanes


def compile_scalar(expression: Expression, variables: Sequence[str]) -> Callable[..., float]:
    """A numba function of the variables, in this order, that computes the expression.

    Args:
        expression: what to compute.
        variables: the names of its arguments; every variable of the expression is among them.

    Returns:
        A `numba.njit` function of as many real numbers, returning a float64.
    """
    missing = sorted(expression.variables - set(variables))
    if missing:
        raise ValueError(f"{expression!r} depends on {', '.join(missing)}, which {tuple(variables)!r} does not give")
    unsupported = {n.operation for n in expression.nodes()} - {*LANES.operations, "variable", "constant"}
    if unsupported:
        raise ValueError(f"numba scalars have no operation {', '.join(sorted(unsupported))}")
    names = tuple(variables)

    def typed(typing_context: Any, numbers: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            at = Emitter(builder, BINARY64, 1)
            given = [Lanes(at, v) for v in cgutils.unpack_tuple(builder, arguments[0])]
            (result,) = evaluate([expression], dict(zip(names, given, strict=True)))
            return at.lanes(result).value

        return types.float64(types.UniTuple(types.float64, len(names))), emit

    compute: Any = intrinsic(typed)

    @njit
    def function(*numbers):
        return compute(numbers)

    return function
