"""One step of a solver for eight samples at a time, each with its own step size.

Arrays are rows of eight lanes: `y` is (states, 8), stages `k` (7, states, 8). `rows` holds what the system's machine
code reads: states, parameters, t. The loops over lanes are as wide as a vector, so the compiler makes vectors of them.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from varphi.numbers.kernel.batch import WIDTH

from .tableau import DP_A, DP_C, DP_D, DP_E, RODAS_A, RODAS_C, RODAS_D, RODAS_G, RODAS_GAMMA, RODAS_H


@intrinsic
def _called(typing_context: Any, address: Any, inputs: Any, outputs: Any) -> Any:
    """Call machine code at an address with two addresses of rows."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = ir.DoubleType().as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, pointer]).as_pointer()
        function, source, target = arguments
        builder.call(
            builder.inttoptr(function, kind),
            [builder.inttoptr(source, pointer), builder.inttoptr(target, pointer)],
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


# Seen as code, an intrinsic takes the typing context first; numba supplies it.
_at_address: Any = _called


@njit(cache=True)
def call(address, inputs, outputs):
    """Evaluate machine code (`kernel.batch`) on rows: inputs (rows, 8) to outputs (rows, 8)."""
    _at_address(address, inputs.ctypes.data, outputs.ctypes.data)


@njit(cache=True)
def dormand_prince(rate, rows, y, t, h, k, new, inner):
    """A step from y at t: fills the stages k[1:], the new state and the stage before the last; k[0] is f(y, t).

    Args:
        rate: the address of f.
        rows: scratch with the parameters in place.
        y, new, inner: (states, 8); `inner` is the argument of the sixth stage, for the test of stiffness.
        t, h: (8,).
    """
    n = y.shape[0]
    last = rows.shape[0] - 1
    for stage in range(1, 7):
        for i in range(n):
            for lane in range(WIDTH):
                total = DP_A[stage, 0] * k[0, i, lane]
                for j in range(1, stage):
                    total += DP_A[stage, j] * k[j, i, lane]
                rows[i, lane] = y[i, lane] + h[lane] * total
        if stage == 5:
            for i in range(n):
                for lane in range(WIDTH):
                    inner[i, lane] = rows[i, lane]
        for lane in range(WIDTH):
            rows[last, lane] = t[lane] + DP_C[stage] * h[lane]
        if stage == 6:
            for i in range(n):
                for lane in range(WIDTH):
                    new[i, lane] = rows[i, lane]
        call(rate, rows, k[stage])


@njit(cache=True)
def dormand_prince_error(y, new, h, k, rtol, atol, error):
    """The error of each lane's step relative to what is allowed: root mean square over the states."""
    n = y.shape[0]
    for lane in range(WIDTH):
        error[lane] = 0.0
    for i in range(n):
        for lane in range(WIDTH):
            e = 0.0
            for j in range(7):
                e += DP_E[j] * k[j, i, lane]
            allowed = atol[i] + rtol * max(abs(y[i, lane]), abs(new[i, lane]))
            e = h[lane] * e / allowed
            error[lane] += e * e
    for lane in range(WIDTH):
        error[lane] = np.sqrt(error[lane] / n)


@njit(cache=True)
def dormand_prince_dense(y, new, h, k, dense):
    """The coefficients of the continuous extension, (5, states, 8)."""
    for i in range(y.shape[0]):
        for lane in range(WIDTH):
            difference = new[i, lane] - y[i, lane]
            bend = h[lane] * k[0, i, lane] - difference
            dense[0, i, lane] = y[i, lane]
            dense[1, i, lane] = difference
            dense[2, i, lane] = bend
            dense[3, i, lane] = difference - h[lane] * k[6, i, lane] - bend
            total = 0.0
            for j in range(7):
                total += DP_D[j] * k[j, i, lane]
            dense[4, i, lane] = h[lane] * total


@njit(cache=True)
def dormand_prince_at(dense, theta, i, lane):
    """State i of a lane at the fraction theta of its step."""
    back = 1.0 - theta
    return dense[0, i, lane] + theta * (
        dense[1, i, lane] + back * (dense[2, i, lane] + theta * (dense[3, i, lane] + back * dense[4, i, lane]))
    )


@njit(cache=True)
def factorise(matrix, pivots, sound):
    """LU with partial pivoting, in place, each lane by itself; `sound` is False where a matrix is singular."""
    n = matrix.shape[0]
    for lane in range(WIDTH):
        sound[lane] = True
        for column in range(n):
            best, size = column, abs(matrix[column, column, lane])
            for row in range(column + 1, n):
                if abs(matrix[row, column, lane]) > size:
                    best, size = row, abs(matrix[row, column, lane])
            pivots[column, lane] = best
            if not size > 0.0:  # NaN too
                sound[lane] = False
                for row in range(column, n):  # so that `solve` divides by no zero
                    matrix[row, row, lane], pivots[row, lane] = 1.0, row
                break
            if best != column:
                for j in range(n):
                    a = matrix[column, j, lane]
                    matrix[column, j, lane] = matrix[best, j, lane]
                    matrix[best, j, lane] = a
            for row in range(column + 1, n):
                factor = matrix[row, column, lane] / matrix[column, column, lane]
                matrix[row, column, lane] = factor
                for j in range(column + 1, n):
                    matrix[row, j, lane] -= factor * matrix[column, j, lane]


@njit(cache=True)
def solve(matrix, pivots, b):
    """The solution for a factorised matrix, in place of b (states, 8)."""
    n = matrix.shape[0]
    for lane in range(WIDTH):
        for row in range(n):
            pivot = pivots[row, lane]
            a = b[pivot, lane]
            b[pivot, lane] = b[row, lane]
            b[row, lane] = a
        for row in range(n):
            a = b[row, lane]
            for j in range(row):
                a -= matrix[row, j, lane] * b[j, lane]
            b[row, lane] = a
        for row in range(n - 1, -1, -1):
            a = b[row, lane]
            for j in range(row + 1, n):
                a -= matrix[row, j, lane] * b[j, lane]
            b[row, lane] = a / matrix[row, row, lane]


@njit(cache=True)
def rodas(rate, jacobian, rows, y, t, h, k, new, matrix, pivots, slopes, sound):
    """A step of RODAS from y at t: fills the stages k (6, states, 8) and the new state; k[5] is the error.

    Args:
        jacobian: the address of ∂f/∂y (row by row) and ∂f/∂t.
        slopes: scratch for these, (states² + states, 8).
        matrix, pivots: scratch, (states, states, 8) and (states, 8).
        sound: out, (8,): whether each lane's matrix could be factorised.
    """
    n = y.shape[0]
    last = rows.shape[0] - 1
    for i in range(n):
        for lane in range(WIDTH):
            rows[i, lane] = y[i, lane]
    for lane in range(WIDTH):
        rows[last, lane] = t[lane]
    call(jacobian, rows, slopes)
    for i in range(n):
        for j in range(n):
            for lane in range(WIDTH):
                matrix[i, j, lane] = -slopes[i * n + j, lane]
        for lane in range(WIDTH):
            matrix[i, i, lane] += 1.0 / (h[lane] * RODAS_GAMMA)
    factorise(matrix, pivots, sound)
    for stage in range(6):
        for i in range(n):
            for lane in range(WIDTH):
                total = y[i, lane]
                for j in range(stage):
                    total += RODAS_A[stage, j] * k[j, i, lane]
                rows[i, lane] = total
        for lane in range(WIDTH):
            rows[last, lane] = t[lane] + RODAS_C[stage] * h[lane]
        if stage == 5:
            for i in range(n):
                for lane in range(WIDTH):
                    new[i, lane] = rows[i, lane]
        call(rate, rows, k[stage])
        for i in range(n):
            for lane in range(WIDTH):
                total = 0.0
                for j in range(stage):
                    total += RODAS_G[stage, j] * k[j, i, lane]
                k[stage, i, lane] += total / h[lane] + h[lane] * RODAS_D[stage] * slopes[n * n + i, lane]
        solve(matrix, pivots, k[stage])
    for i in range(n):
        for lane in range(WIDTH):
            new[i, lane] += k[5, i, lane]


@njit(cache=True)
def rodas_error(y, new, k, rtol, atol, error):
    """As `dormand_prince_error`."""
    n = y.shape[0]
    for lane in range(WIDTH):
        error[lane] = 0.0
    for i in range(n):
        for lane in range(WIDTH):
            e = k[5, i, lane] / (atol[i] + rtol * max(abs(y[i, lane]), abs(new[i, lane])))
            error[lane] += e * e
    for lane in range(WIDTH):
        error[lane] = np.sqrt(error[lane] / n)


@njit(cache=True)
def rodas_dense(y, new, k, dense):
    """The coefficients of the continuous extension, (5, states, 8); the last row is not used."""
    for i in range(y.shape[0]):
        for lane in range(WIDTH):
            dense[0, i, lane] = y[i, lane]
            dense[1, i, lane] = new[i, lane]
            for part in range(2):
                total = 0.0
                for j in range(5):
                    total += RODAS_H[part, j] * k[j, i, lane]
                dense[2 + part, i, lane] = total


@njit(cache=True)
def rodas_at(dense, theta, i, lane):
    """State i of a lane at the fraction theta of its step."""
    back = 1.0 - theta
    return dense[0, i, lane] * back + theta * (
        dense[1, i, lane] + back * (dense[2, i, lane] + theta * dense[3, i, lane])
    )
