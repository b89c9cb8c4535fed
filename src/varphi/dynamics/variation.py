"""The linearisation of a system along an orbit: J v as formulas, and its periodic and antiperiodic solutions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from varphi.numbers import Expression, variable
from varphi.numbers.expression import constant

from .collocation import newton, rule
from .orbits import Orbit, at_gauss, flow_weights, shares
from .system import System


def linearised(system: System, names: Sequence[str]) -> list[Expression]:
    """J·v, with v's entries as variables."""
    return [
        constant(sum((e * variable(n) for e, n in zip(row, names, strict=True)), constant(0)))
        for row in system.jacobian
    ]  # fmt: skip


def null_solution(
    system: System, setting: Mapping[str, float], orbit: Orbit, returns: Literal[1, -1]
) -> tuple[Float[np.ndarray, "places states"], float]:
    """v' = T J v + β f along an orbit with v(1) = ± v(0), where that has a solution: v of length about 1, and β.

    With + it is the tangent of the branch at a fold of cycles, with - (and β = 0) the direction of the doubled orbit at
    a period doubling. By inverse iteration.

    Raises:
        ArithmeticError: the linear equations are singular in another way.
    """
    n, m, mesh, gauss = len(system.states), orbit.degree, np.diff(orbit.mesh), rule(orbit.degree)
    states = at_gauss(orbit.y, gauss)
    values: dict[str, Any] = {**setting, "t": 0.0} | {s: states[:, k] for k, s in enumerate(system.states)}
    expressions = [*system.rates, *(e for row in system.jacobian for e in row)]
    table = tabulated(system.function(expressions), [values[name] for name in system.variables], len(states))
    flow, jacobian = table[:, :n], np.ascontiguousarray(table[:, n:])
    sizes, share = np.ptp(orbit.y, axis=0), shares(orbit.mesh, m)
    # Bordered by the flow's own direction where that solves the equation too, and by v itself.
    count = 2 if returns == 1 else 1
    v = np.random.default_rng(0).standard_normal((len(orbit.y), n)) * sizes
    step, rest, pair = np.empty((2, *v.shape)), np.empty((2, count)), np.empty((2, n, n))
    phase = flow_weights(orbit.mesh, orbit.y, sizes)
    for _ in range(4):
        v = v / math.sqrt(float(np.sum(share[:, None] * (v / sizes) ** 2)))
        columns, conditions = [at_gauss(v, gauss)], [share[:, None] * v / sizes**2]
        if returns == 1:
            columns, conditions = [flow, *columns], [phase, *conditions]
        residual = np.zeros(count)
        residual[-1] = -1.0
        solved = newton(
            mesh, np.zeros_like(v), orbit.period, gauss.values, gauss.slopes, np.zeros_like(flow), jacobian,
            np.stack(columns, axis=-1).reshape(len(flow), -1), np.full(n, float(returns)), np.stack(conditions),
            np.zeros((count, count)), residual, step, rest, pair,
        )  # fmt: skip
        if not solved or not np.isfinite(step[0]).all():
            raise ArithmeticError("the linearisation along the orbit cannot be solved")
        v = step[0].copy()
    return v, float(rest[0, 0]) if returns == 1 else 0.0


def tabulated(code: Any, columns: Sequence[Any], count: int) -> Float[np.ndarray, "places outputs"]:
    """Machine code of expressions at many places.

    Args:
        columns: the values of its variables, a number or (places,) each.
    """
    table = np.array([np.broadcast_to(np.asarray(c, float), (count,)) for c in columns])
    found = np.empty((count, code.outputs))
    out = np.zeros((code.outputs, 8))
    for first in range(0, count, 8):
        places = np.minimum(np.arange(first, first + 8), count - 1)
        rows = np.ascontiguousarray(table[:, places])
        code(rows.ctypes.data, out.ctypes.data)
        found[first : first + 8] = out.T[: count - first]
    return found
