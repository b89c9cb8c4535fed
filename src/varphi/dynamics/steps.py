"""One step of a solver for eight samples at a time, each with its own step size.

The parts of `drive` that know a method: its stages, its error and its continuous extension. `Steps` is the machine
that has the rows which they fill.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba import njit, types
from numba.core import config
from numba.extending import intrinsic

from varphi.numbers.kernel.lanes import DOUBLE, I8, I64, IRValue, Lanes, Mask, fma, largest, sqrt

from .machine import BYTES, FLOATS, VOID, Machine
from .tableau import DP_A, DP_C, DP_D, DP_E, RODAS_A, RODAS_C, RODAS_D, RODAS_G, RODAS_GAMMA, RODAS_H

# The rows that a step works on, with their arguments' types; n states, m parameters.
ROOM: dict[str, Any] = {
    "rows": FLOATS,  # what a system's code reads: n states, m parameters, t, what depends on parameters alone
    "y": FLOATS,  # (n)
    "new": FLOATS,  # (n) the state after the step
    "inner": FLOATS,  # (n) the argument of Dormand-Prince's sixth stage, for the test of stiffness
    "k": FLOATS,  # (7 n) Dormand-Prince's stages; the first is the slope at y, the last that at `new`
    "stages": FLOATS,  # (6 n) RODAS's; the last is the error
    "other": FLOATS,  # (n) RODAS's result
    "dense": FLOATS,  # (5 n) the continuous extension
    "matrix": FLOATS,  # (n n)
    "swaps": BYTES,  # (n n) in which lanes two rows of the matrix changed places
    "slopes": FLOATS,  # (n n + n) ∂f/∂y row by row, then ∂f/∂t
}


class Steps(Machine):
    """A function that takes steps. Its arguments hold `ROOM`, `states`, `parameter_count`, `rate` and `jacobian`."""

    def __init__(self, name: str, arguments: dict[str, Any]) -> None:
        super().__init__(name, arguments)
        for name in ROOM:
            self.given[name].add_attribute("noalias")
        self.n = self.given["states"]
        self.last = self.builder.add(self.n, self.given["parameter_count"])
        self.row, self.y, self.new, self.inner, self.other = (
            self.rows(name) for name in ("rows", "y", "new", "inner", "other")
        )
        self.k = [self.rows("k", self.times(self.n, s)) for s in range(7)]
        self.stages = [self.rows("stages", self.times(self.n, s)) for s in range(6)]
        self.dense = [self.rows("dense", self.times(self.n, s)) for s in range(5)]
        self.matrix, self.slopes = self.rows("matrix"), self.rows("slopes")
        self._total, self._sound = self.variable(DOUBLE), self.variable(ir.IntType(1))

    def call(self, code: str, outputs: IRValue) -> None:
        """Evaluate a system's code on `rows`."""
        kind = ir.FunctionType(VOID, [FLOATS, FLOATS]).as_pointer()
        self.builder.call(self.builder.inttoptr(self.given[code], kind), [self.given["rows"], outputs])

    def show(self, state: Any, t: Lanes) -> None:
        """Put states and the time where a system's code reads them."""
        with self.span(self.n) as i:
            self.row[i] = state[i]
        self.row[self.last] = t

    def _combined(self, coefficients: np.ndarray, terms: Any, i: IRValue) -> Lanes:
        total = self.at.lanes(0.0)
        for coefficient, term in zip(coefficients, terms, strict=False):
            if coefficient:
                total = fma(term[i], float(coefficient), total)
        return total

    def norm(self, error: Any, new: Any) -> Lanes:
        """Relative to what is allowed, the error of a step to `new`: root mean square over the states."""
        self._total.set(self.at.lanes(0.0).value)
        relative, n = self.everywhere("rtol"), self.builder.sitofp(self.n, DOUBLE)
        with self.span(self.n) as i:
            size = largest(abs(self.y[i]), abs(new[i]))
            e = error(i) / fma(relative, size, self.everywhere(self.read("atol", (i, 1))))
            self._total.set(fma(e, e, self._total.lanes).value)
        return sqrt(self._total.lanes / self.everywhere(n))

    def dormand_prince(self, t: Lanes, h: Lanes) -> Lanes:
        """A step from y at t, where the slope is k[0]: fills k[1:], `new` and `inner`; its error."""
        for stage in range(1, 7):
            with self.span(self.n) as i:
                value = fma(h, self._combined(DP_A[stage, :stage], self.k, i), self.y[i])
                self.row[i] = value
                if stage == 5:
                    self.inner[i] = value
                if stage == 6:
                    self.new[i] = value
            self.row[self.last] = fma(h, float(DP_C[stage]), t)
            self.call("rate", self.k[stage].base)
        return self.norm(lambda i: h * self._combined(DP_E, self.k, i), self.new)

    def dormand_prince_dense(self, h: Lanes) -> None:
        """The continuous extension: y + θ(d1 + (1-θ)(d2 + θ(d3 + (1-θ) d4)))."""
        with self.span(self.n) as i:
            difference = self.new[i] - self.y[i]
            bend = h * self.k[0][i] - difference
            terms = self.y[i], difference, bend, difference - h * self.k[6][i] - bend
            for row, term in zip(self.dense, (*terms, h * self._combined(DP_D, self.k, i)), strict=True):
                row[i] = term

    def _exchange(self, rows: Any, a: IRValue, b: IRValue, mask: Mask) -> None:
        first, second = rows[a], rows[b]
        rows[a], rows[b] = mask.choose(second, first), mask.choose(first, second)

    def _swap(self, column: IRValue, row: IRValue) -> IRValue:
        place = self.builder.add(self.times(column, self.n), row)
        return self.builder.gep(self.given["swaps"], [place])

    def factorise(self) -> Mask:
        """LU with partial pivoting, in place, each lane by itself; where the matrix is not singular.

        The diagonal is left inverted. Rows change places as they are compared, so each lane has its own order.
        """
        builder, n, matrix = self.builder, self.n, self.matrix
        self._sound.set(self.at.splat(ir.IntType(1), 1))
        with self.span(n) as column:
            diagonal = builder.add(self.times(column, n), column)
            after = builder.add(column, I64(1))
            with self.span(n, after) as row:
                below = builder.add(self.times(row, n), column)
                larger = abs(matrix[below]) > abs(matrix[diagonal])
                bits = builder.bitcast(larger.value, I8)
                builder.store(bits, self._swap(column, row))
                with builder.if_then(builder.icmp_unsigned("!=", bits, I8(0))), self.span(n, column) as j:
                    self._exchange(
                        matrix, builder.add(self.times(column, n), j), builder.add(self.times(row, n), j), larger
                    )
            pivot = matrix[diagonal]
            self._sound.set((self._sound.mask & (abs(pivot) > 0.0)).value)
            inverse = 1.0 / pivot
            matrix[diagonal] = inverse
            with self.span(n, after) as row:
                below = builder.add(self.times(row, n), column)
                factor = -(matrix[below] * inverse)
                matrix[below] = factor
                with self.span(n, after) as j:
                    place = builder.add(self.times(row, n), j)
                    matrix[place] = fma(factor, matrix[builder.add(self.times(column, n), j)], matrix[place])
        return self._sound.mask

    def solve(self, b: Any) -> None:
        """The solution for the factorised matrix, in place of b."""
        builder, n, matrix = self.builder, self.n, self.matrix
        with self.span(n) as column:
            after = builder.add(column, I64(1))
            with self.span(n, after) as row:
                bits = builder.load(self._swap(column, row))
                with builder.if_then(builder.icmp_unsigned("!=", bits, I8(0))):
                    mask = Mask(self.at, builder.bitcast(bits, ir.VectorType(ir.IntType(1), self.at.width)))
                    self._exchange(b, column, row, mask)
            with self.span(n, after) as row:
                b[row] = fma(matrix[builder.add(self.times(row, n), column)], b[column], b[row])
        with self.span(n) as step:
            row = builder.sub(builder.sub(n, I64(1)), step)
            self._total.set(b[row].value)
            with self.span(n, builder.add(row, I64(1))) as j:
                factor = matrix[builder.add(self.times(row, n), j)]
                self._total.set((self._total.lanes - factor * b[j]).value)
            b[row] = self._total.lanes * matrix[builder.add(self.times(row, n), row)]

    def rodas(self, t: Lanes, h: Lanes) -> tuple[Lanes, Mask]:
        """A step of RODAS from y at t: fills `stages` and `other`; its error, and where the matrix was not singular."""
        builder, n = self.builder, self.n
        self.show(self.y, t)
        self.call("jacobian", self.slopes.base)
        inverse = 1.0 / h
        with self.span(self.times(n, n)) as i:
            self.matrix[i] = -self.slopes[i]
        with self.span(n) as i:
            place = builder.add(self.times(i, n), i)
            self.matrix[place] = fma(inverse, 1 / RODAS_GAMMA, self.matrix[place])
        sound = self.factorise()
        for stage in range(6):
            # The first stage's slope is that at y, which is known.
            slope = self.k[0] if stage == 0 else self.stages[stage]
            if stage:
                with self.span(n) as i:
                    value = self.y[i] + self._combined(RODAS_A[stage, :stage], self.stages, i)
                    self.row[i] = value
                    if stage == 5:
                        self.other[i] = value
                self.row[self.last] = fma(h, float(RODAS_C[stage]), t)
                self.call("rate", slope.base)
            with self.span(n) as i:
                value = fma(inverse, self._combined(RODAS_G[stage, :stage], self.stages, i), slope[i])
                if RODAS_D[stage]:
                    value = fma(h * float(RODAS_D[stage]), self.slopes[builder.add(self.times(n, n), i)], value)
                self.stages[stage][i] = value
            self.solve(self.stages[stage])
        with self.span(n) as i:
            self.other[i] = self.other[i] + self.stages[5][i]
        return self.norm(lambda i: self.stages[5][i], self.other), sound

    def rodas_dense(self, t: Lanes, h: Lanes, where: Mask) -> None:
        """As `dormand_prince_dense`, in lanes that are on.

        The method's own extension is poor for what a stiff state is dragged along by: there its error does not fall
        with the tolerance. So it is corrected at two points by a step of Newton's method: where u' - f(u) is not 0, the
        error is about (1/(hγ) - J)⁻¹ (f(u) - u'), of the order of the extension's own error where nothing is stiff.
        """
        with self.span(self.n) as i:
            parts = [self._combined(RODAS_H[part], self.stages, i) for part in range(2)]
            terms = self.y[i], self.new[i] - self.y[i], *parts, self.at.lanes(0.0)
            for row, term in zip(self.dense, terms, strict=True):
                row[i] = where.choose(term, row[i])
        _, d1, d2, d3, _ = self.dense
        inverse = 1.0 / h
        for theta, error in zip((1 / 3, 2 / 3), self.stages, strict=False):
            with self.span(self.n) as i:
                self.row[i] = self.dense_at(self.at.lanes(theta), i)
            self.row[self.last] = fma(h, theta, t)
            self.call("rate", error.base)
            with self.span(self.n) as i:
                slope = fma(d3[i], 2 * theta - 3 * theta**2, fma(d2[i], 1 - 2 * theta, d1[i]))
                error[i] = error[i] - inverse * slope
            self.solve(error)
        with self.span(self.n) as i:
            first, second = (4.5 * self.stages[s][i] for s in range(2))
            d2[i] = where.choose(d2[i] + 2.0 * first - second, d2[i])
            d3[i] = where.choose(d3[i] + 3.0 * (second - first), d3[i])

    def dense_at(self, theta: Lanes, i: IRValue) -> Lanes:
        """State i at the fraction theta of the step."""
        back = 1.0 - theta
        first, d1, d2, d3, d4 = (row[i] for row in self.dense)
        return fma(theta, fma(back, fma(theta, fma(back, d4, d3), d2), d1), first)


@intrinsic
def _called(typing_context: Any, address: Any, inputs: Any, outputs: Any) -> Any:
    """Call machine code at an address with two addresses of rows."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(VOID, [FLOATS, FLOATS]).as_pointer()
        function, source, target = arguments
        builder.call(
            builder.inttoptr(function, kind), [builder.inttoptr(source, FLOATS), builder.inttoptr(target, FLOATS)]
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


# Seen as code, an intrinsic takes the typing context first; numba supplies it.
_at_address: Any = _called


def _call(address, inputs, outputs):
    """Evaluate machine code (`kernel.batch`) on rows: inputs (rows, 8) to outputs (rows, 8)."""
    _at_address(address, inputs.ctypes.data, outputs.ctypes.data)


def _call_uncompiled(address: int, inputs: np.ndarray, outputs: np.ndarray) -> None:
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(address)(inputs.ctypes.data, outputs.ctypes.data)


# Whether numba's compiler is off (NUMBA_DISABLE_JIT): what it would compile then runs as Python.
UNCOMPILED: bool = getattr(config, "DISABLE_JIT")  # noqa: B009
call: Any = _call_uncompiled if UNCOMPILED else njit(cache=True)(_call)
