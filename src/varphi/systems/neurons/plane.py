"""The class of excitability over a plane of two parameters, such as the half-activation and the slope of a gate.

Each point is a model of its own: its rest is followed along V to where it is lost, a Hopf point's first Lyapunov
coefficient is computed, and at a fold the membrane is simulated just above it, as a current step finds it at rest. All
of them at once, in machine code; unlike `excitability` nothing is certified.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from varphi.numbers import Expression, variable
from varphi.numbers.expression import evaluate, without_slopes
from varphi.numbers.jet import Jet, partial

from .excitability import (
    DOUBTFUL,
    FALLS,
    MECHANISMS,
    NEARER,
    NEVER,
    NO_CYCLE,
    OFF_CYCLE,
    SLOW,
    SNIC,
    SUBCRITICAL,
    SUPERCRITICAL,
    TYPES,
)
from .firing import Firing
from .gates import VOLTAGE
from .model import APPLIED, Model
from .sweep import Equations, Sweep

UNRESOLVED = "unresolved"
KINDS = (*MECHANISMS, UNRESOLVED)
_GRID = 400
_CHUNK = 2000
_DIRECTION = "direction of "


@dataclass(frozen=True)
class ExcitabilityMap:
    """Mechanisms over a plane.

    Attributes:
        model: which is varied.
        names: of the two parameters.
        first, second: their values.
        kind: the place in `KINDS` of each point's mechanism (first, second).
        I: the current at which rest is lost; NaN where it is not.
        V: the potential there.
        frequency: where rest is lost, Hz: ω/2π at a Hopf point, that of the cycle just above a fold off the cycle, 0
            for SNIC, NaN where it does not fire.
    """

    model: Model
    names: tuple[str, str]
    first: Float[np.ndarray, " first"]
    second: Float[np.ndarray, " second"]
    kind: Int[np.ndarray, "first second"]
    I: Float[np.ndarray, "first second"]  # noqa: E741
    V: Float[np.ndarray, "first second"]
    frequency: Float[np.ndarray, "first second"]

    def mechanism(self, i: int, j: int) -> str:
        """Of one point."""
        return KINDS[self.kind[i, j]]

    @property
    def type(self) -> np.ndarray:
        """Of every point: "I", "II" or "none"; "unresolved" where it is."""
        return np.array([*(TYPES[m] for m in MECHANISMS), UNRESOLVED])[self.kind]

    def shares(self) -> dict[str, float]:
        """Which share of the points has which mechanism."""
        return {name: float(np.mean(self.kind == k)) for k, name in enumerate(KINDS) if (self.kind == k).any()}

    def __str__(self) -> str:
        told = "\n".join(f"  {share:6.1%}  {name}" for name, share in self.shares().items())
        return f"{self.model.name}, {self.kind.size} models over {self.names[0]} × {self.names[1]}\n{told}"


def excitability_map(
    model: Model,
    first: tuple[str, Sequence[float] | np.ndarray],
    second: tuple[str, Sequence[float] | np.ndarray],
    *,
    threads: int | None = None,
) -> ExcitabilityMap:
    """The mechanism of excitability over two of a model's numbers.

    Args:
        first, second: a name and the values of that number: ("V3", np.linspace(-10, 20, 100)).

    Raises:
        ValueError: an unknown name, the same twice, values that are no numbers, or a corner of the plane at which the
            model is none.
    """
    names = (model.flat(first[0]), model.flat(second[0]))
    if names[0] == names[1]:
        raise ValueError(f"the map needs two different parameters, got {names[0]} twice")
    values = [np.asarray(v, float).ravel() for v in (first[1], second[1])]
    for name, given in zip(names, values, strict=True):
        if not given.size or not np.isfinite(given).all():
            raise ValueError(f"the values of {name} must be one or more finite numbers")
    for a in (values[0].min(), values[0].max()):
        for b in (values[1].min(), values[1].max()):
            model.with_({names[0]: a, names[1]: b})
    grids = np.meshgrid(*values, indexing="ij")
    numbers = {name: grid.ravel() for name, grid in zip(names, grids, strict=True)}
    found = classified(model, numbers, threads)
    shape = grids[0].shape
    return ExcitabilityMap(model, names, *values, *(f.reshape(shape) for f in found))


def classified(model: Model, numbers: dict[str, np.ndarray], threads: int | None = None) -> tuple[np.ndarray, ...]:
    """Kind, current, potential and frequency of each sample, as in `ExcitabilityMap`.

    Args:
        numbers: values other than the model's, (samples,) each.
    """
    samples = len(next(iter(numbers.values())))
    equations = Equations(model)
    v = _lost(equations, numbers, samples)
    kind = np.full(samples, KINDS.index(NEVER))
    frequency = np.full(samples, np.nan)
    current = np.where(np.isfinite(v), equations.steady_current(np.nan_to_num(v), numbers), np.nan)
    lost = np.flatnonzero(np.isfinite(v))
    own = {k: x[lost] for k, x in numbers.items()}
    frequencies = _turning(equations.jacobian(v[lost], own))
    # At a Hopf point the leading pair is imaginary; at a fold the leading eigenvalue is 0.
    turning = np.greater(frequencies, 0)
    hopf, fold = lost[turning], lost[~turning]
    if hopf.size:
        coefficient = lyapunov(model, equations, v[hopf], {k: x[hopf] for k, x in numbers.items()})
        kind[hopf] = np.where(coefficient > 0, KINDS.index(SUBCRITICAL), KINDS.index(SUPERCRITICAL))
        frequency[hopf] = model.frequency[0] * frequencies[turning] / (2 * math.pi)
    if fold.size:
        parts = {k: x[fold] for k, x in numbers.items()}
        kind[fold], frequency[fold] = _folds(model, equations, v[fold], current[fold], parts, threads)
    return kind, current, v, frequency


def _turning(matrices: Float[np.ndarray, "samples states states"]) -> Float[np.ndarray, " samples"]:
    """ω of the leading pair of eigenvalues; 0 where the leading one is real."""
    values: Any = np.linalg.eigvals(matrices)
    leading: Any = np.take_along_axis(values, np.argmax(values.real, axis=1)[:, None], 1)[:, 0]
    omega = np.abs(leading.imag)
    return np.where(omega > 1e-6 * np.abs(values).max(1, initial=0), omega, 0.0)


def _lost(equations: Equations, numbers: dict[str, np.ndarray], samples: int) -> Float[np.ndarray, " samples"]:
    """The potential at which the lowest stable equilibrium of each sample is lost; NaN where it never is."""
    grid = np.linspace(*equations.model.span, _GRID)
    found = np.full(samples, np.nan)
    for begin in range(0, samples, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        columns = {k: v[part, None] for k, v in numbers.items()}
        unstable = np.greater(equations.growth(np.broadcast_to(grid, (len(found[part]), _GRID)), columns), 0)
        crossing = np.logical_and(unstable[:, 1:], np.logical_not(unstable[:, :-1]))
        some = np.flatnonzero(crossing.any(1))
        place = np.argmax(crossing[some], axis=1)
        own = {k: v[part][some] for k, v in numbers.items()}
        low, high = grid[place], grid[place + 1]
        for _ in range(50):
            middle = (low + high) / 2
            above = np.greater(equations.growth(middle, own), 0)
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        found[begin + some] = (low + high) / 2
    return found


def _folds(
    model: Model,
    equations: Equations,
    v: np.ndarray,
    current: np.ndarray,
    numbers: dict[str, np.ndarray],
    threads: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Kind and frequency of samples whose rest is lost in a fold."""
    distance = slow_distances(equations, v, numbers)
    search = _above(model, equations, v, current + distance, numbers, 8 * SLOW, threads)
    ratio = search.period / SLOW
    on_cycle = ratio >= DOUBTFUL[1]
    doubtful = np.flatnonzero(search.found & (ratio > DOUBTFUL[0]) & ~on_cycle)
    if doubtful.size:
        own = {k: x[doubtful] for k, x in numbers.items()}
        near = current[doubtful] + NEARER * distance[doubtful]
        again = _above(model, equations, v[doubtful], near, own, 8 * SLOW / math.sqrt(NEARER), threads)
        on_cycle[doubtful] = np.log(again.period / search.period[doubtful]) > -FALLS * math.log(NEARER)
    kind = np.where(search.came_to_rest, KINDS.index(NO_CYCLE), KINDS.index(UNRESOLVED))
    kind = np.where(search.found, np.where(on_cycle, KINDS.index(SNIC), KINDS.index(OFF_CYCLE)), kind)
    frequency = np.where(on_cycle, 0.0, model.frequency[0] / search.period)
    return kind, np.where(search.found, frequency, np.nan)


def _above(
    model: Model,
    equations: Equations,
    v: np.ndarray,
    current: np.ndarray,
    numbers: dict[str, np.ndarray],
    longest: float,
    threads: int | None,
) -> Firing:
    """Firing at currents above a fold, from the rest that has vanished there."""
    grid = np.linspace(*model.span, _GRID)
    search = Firing(
        model, current, numbers, grid, rtol=1e-6, longest=longest, threads=threads, equations=equations
    )  # fmt: skip
    start = equations.state(v, numbers)
    start[:, 0] += 1e-3 * (model.span[1] - model.span[0])
    search.attempt(np.arange(len(v)), start)
    return search


def slow_distances(
    equations: Equations, v: np.ndarray, numbers: dict[str, np.ndarray]
) -> Float[np.ndarray, " samples"]:
    """How far above each fold the law of SNIC foretells a period of `SLOW` ms, µA/cm²."""
    matrix = equations.jacobian(v, numbers)
    b, c, r = matrix[:, 0, 1:], matrix[:, 1:, 0], -np.diagonal(matrix, axis1=1, axis2=2)[:, 1:]
    values = equations.values(v, numbers)
    capacitance = values["C"] * (1 + (b * c / r**2).sum(1))
    names = (VOLTAGE, *equations.model.values)
    current = without_slopes(equations.model.steady_current)
    bend = Sweep([partial(partial(current, VOLTAGE), VOLTAGE)], names)(values)[0]
    return 2 / np.abs(bend) * (math.pi * capacitance / SLOW) ** 2


# The first Lyapunov coefficient of many -------------------------------------------------------------------------------


def lyapunov(
    model: Model, equations: Equations, v: np.ndarray, numbers: dict[str, np.ndarray]
) -> Float[np.ndarray, " samples"]:
    """a = Re c₁ at the Hopf points with these potentials; see `equilibria.lyapunov`."""
    matrix = equations.jacobian(v, numbers)
    samples, n = len(v), matrix.shape[-1]
    own: Any = np.linalg.eig(matrix)
    values, vectors = own.eigenvalues + 0j, own.eigenvectors + 0j
    which = np.argmax(np.where(values.imag > 0, -np.abs(values.real), -np.inf), axis=1)
    leading: Any = np.take_along_axis(values, which[:, None], 1)[:, 0]
    omega = leading.imag
    q: Any = np.take_along_axis(vectors, which[:, None, None], 2)[:, :, 0]
    q = q / np.linalg.norm(q, axis=1)[:, None]
    adjoint: Any = np.linalg.eig(matrix.transpose(0, 2, 1))
    near = np.argmin(np.abs(adjoint.eigenvalues - 1j * omega[:, None]), axis=1)
    left = np.take_along_axis(adjoint.eigenvectors + 0j, near[:, None, None], 2)[:, :, 0]
    left = left / (left * q).sum(1)[:, None]
    state = equations.state(v, numbers)
    current = equations.steady_current(v, numbers)
    second, third = directional(model)
    known = {**model.values, **numbers, APPLIED: current, "t": 0.0}
    known |= {name: state[:, k] for k, name in enumerate(model.states)}

    def along(form: Sweep, u: np.ndarray) -> np.ndarray:
        return form(known | {_DIRECTION + name: u[:, k] for k, name in enumerate(model.states)}).T

    def real(u: np.ndarray, w: np.ndarray) -> np.ndarray:
        return (along(second, u + w) - along(second, u - w)) / 4

    def bilinear(u: Any, w: Any) -> np.ndarray:
        parts = real(u.real, w.real) - real(u.imag, w.imag)
        return parts + 1j * (real(u.real, w.imag) + real(u.imag, w.real))

    cubes = [along(third, u) for u in (q.real, q.imag, q.real + q.imag, q.real - q.imag)]
    rrr, iii, plus, minus = cubes
    cubic = rrr + (plus + minus - 2 * rrr) / 6 + 1j * ((plus - minus - 2 * iii) / 6 + iii)
    identity = np.eye(n)
    first = np.linalg.solve(matrix.astype(complex), bilinear(q, q.conj())[..., None])[..., 0]
    shifted = 2j * omega[:, None, None] * identity - matrix
    other = np.linalg.solve(shifted, bilinear(q, q)[..., None])[..., 0]
    total = cubic - 2 * bilinear(q, first) + bilinear(q.conj(), other)
    return (left * total).sum(1).real.reshape(samples) / 2


def directional(model: Model) -> tuple[Sweep, Sweep]:
    """B(u, u) and C(u, u, u) of the right-hand side, in the states, a direction u and the numbers."""
    system = model.system()
    parts = [_along(without_slopes(rate), system.states) for rate in system.rates]
    names = (*system.variables, *(_DIRECTION + s for s in system.states))
    return Sweep([p[0] for p in parts], names), Sweep([p[1] for p in parts], names)


def _along(rate: Expression, states: Sequence[str]) -> tuple[Expression, Expression]:
    """d²/ds² and d³/ds³ of a rate at the state + s·direction, at s = 0."""
    lines: dict[str, Any] = {n: variable(n) for n in rate.variables}
    lines |= {s: Jet([variable(s), variable(_DIRECTION + s), 0, 0]) for s in states if s in rate.variables}
    found = evaluate([rate], lines)[0]
    c = found.c if isinstance(found, Jet) else [found, 0, 0, 0]
    zero = 0 * variable(states[0])
    return 2 * c[2] + zero, 6 * c[3] + zero
