"""Formulas of a model for many potentials, currents and parameter sets at once, in machine code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numba import njit

from varphi.dynamics.steps import call
from varphi.numbers import Expression
from varphi.numbers.expression import without_slopes
from varphi.numbers.jet import partial
from varphi.numbers.kernel.batch import WIDTH, batch

from .gates import VOLTAGE
from .model import Model


@njit(cache=True)
def _run(address: Any, blocks: Any, out: Any) -> None:
    for k in range(blocks.shape[0]):
        call(address, blocks[k], out[k])


class Sweep:
    """Several expressions as one function of arrays.

    Args:
        expressions: what to compute.
        names: of the variables that may occur.
    """

    def __init__(self, expressions: Sequence[Expression], names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._code = batch([without_slopes(e) for e in expressions], self.names)

    def __call__(self, values: Mapping[str, Any]) -> Float[np.ndarray, "expressions ..."]:
        """The expressions at values that broadcast against each other."""
        arrays = np.broadcast_arrays(*(np.asarray(values[n], float) for n in self.names))
        shape = arrays[0].shape
        count = int(np.prod(shape))
        blocks = -(-count // WIDTH)
        rows = np.zeros((blocks, len(arrays), WIDTH))
        for k, array in enumerate(arrays):
            padded = np.full(blocks * WIDTH, array.flat[0] if count else 0.0)
            padded[:count] = array.ravel()
            rows[:, k] = padded.reshape(blocks, WIDTH)
        out = np.zeros((blocks, self._code.outputs, WIDTH))
        run: Any = _run
        run(self._code.address, rows, out)
        outputs = self._code.outputs
        flat = out.transpose(1, 0, 2).reshape(outputs, blocks * WIDTH)
        return flat[:, :count].reshape(outputs, *shape)


class Equations:
    """A model's equilibria for arrays of potentials and numbers (not certified; `equilibria` proves them)."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.states = model.states
        names = (VOLTAGE, *model.values)
        motions = [model.motions[g] for g in self.states[1:]]
        slope, by_gate = model.linear
        steadily = [without_slopes(m.steady) for m in motions]
        self.current = Sweep([model.steady_current], names)
        self._gates = Sweep(steadily, names) if steadily else None
        self._arrow = Sweep(
            [
                slope,
                *by_gate,
                *(partial(s, VOLTAGE) for s in steadily),
                *(m.speed for m in motions if m.speed is not None),
            ],
            names,
        )

    def values(self, v: Any, numbers: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that formulas need."""
        return {**self.model.values, **numbers, VOLTAGE: v}

    def steady_current(self, v: Any, numbers: Mapping[str, Any]) -> np.ndarray:
        """I_ss."""
        return self.current(self.values(v, numbers))[0]

    def state(self, v: np.ndarray, numbers: Mapping[str, Any]) -> Float[np.ndarray, "... states"]:
        """V and its gates at their steady state."""
        v = np.asarray(v, float)
        if self._gates is None:
            return v[..., None]
        gates = self._gates(self.values(v, numbers))
        return np.concatenate([np.broadcast_to(v, gates.shape[1:])[None], gates]).transpose(*range(1, v.ndim + 1), 0)

    def jacobian(self, v: np.ndarray, numbers: Mapping[str, Any]) -> Float[np.ndarray, "... states states"]:
        """The Jacobian at the equilibria with these potentials."""
        values = self.values(np.asarray(v, float), numbers)
        parts = self._arrow(values)
        n = len(self.states)
        capacitance = np.broadcast_to(values["C"], parts.shape[1:])
        matrix = np.zeros((*parts.shape[1:], n, n))
        matrix[..., 0, 0] = -parts[0] / capacitance
        for k in range(1, n):
            speed = parts[2 * n - 1 + k - 1]
            matrix[..., 0, k] = -parts[k] / capacitance
            matrix[..., k, 0] = speed * parts[n + k - 1]
            matrix[..., k, k] = -speed
        return matrix

    def growth(self, v: np.ndarray, numbers: Mapping[str, Any]) -> Float[np.ndarray, "..."]:
        """The largest real part of the eigenvalues, 1/ms: negative where the equilibrium is stable."""
        matrix = self.jacobian(v, numbers)
        if matrix.shape[-1] == 2:  # in closed form: maps ask for millions
            half = (matrix[..., 0, 0] + matrix[..., 1, 1]) / 2
            determinant = matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]
            return half + np.sqrt(np.maximum(half**2 - determinant, 0.0))
        bad = np.asarray(~np.isfinite(matrix).all((-2, -1)))
        found = np.linalg.eigvals(np.where(bad[..., None, None], 0.0, matrix)).real.max(-1)
        return np.where(bad, np.nan, found)


def crossings(
    equations: Equations, grid: Float[np.ndarray, " grid"], applied: np.ndarray, numbers: Mapping[str, Any]
) -> Float[np.ndarray, "samples most"]:
    """The potentials of the equilibria of each sample, rising, NaN after the last.

    Args:
        grid: potentials, rising, between which I_ss is taken to be monotone.
        applied: the current of each sample (samples,).
        numbers: values other than the model's, each a number or (samples,).
    """
    columns = {k: np.asarray(v, float)[..., None] if np.ndim(v) else v for k, v in numbers.items()}
    samples = len(applied)
    curve = equations.steady_current(grid[None, :], columns)
    curve = np.broadcast_to(curve, (samples, len(grid))) - np.asarray(applied, float)[:, None]
    below = np.asarray(np.less(curve, 0))
    change: np.ndarray = np.not_equal(below[:, :-1], below[:, 1:])
    sample, place = np.nonzero(change)
    low, high = grid[place], grid[place + 1]
    rising = below[sample, place]
    own = {k: v[sample, 0] if np.ndim(v) else v for k, v in columns.items()}
    for _ in range(60):
        middle = (low + high) / 2
        before = np.equal(np.less(equations.steady_current(middle, own), applied[sample]), rising)
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    counts = change.sum(1)
    found = np.full((samples, max(int(counts.max(initial=0)), 1)), np.nan)
    order = np.concatenate([np.arange(c) for c in counts]) if len(sample) else np.zeros(0, int)
    found[sample, order] = (low + high) / 2
    return found
