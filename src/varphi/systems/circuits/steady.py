"""Where a system comes to rest, for many samples at once: simulated until slow, then Newton's method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from varphi.dynamics.collocation import evaluate
from varphi.dynamics.ensemble import simulate
from varphi.dynamics.system import System
from varphi.numbers.kernel.batch import Batch


@dataclass(frozen=True)
class Rest:
    """Steady states.

    Attributes:
        states: (samples, states); NaN where the system did not come to rest.
        found: which samples came to rest.
        stable: whether all eigenvalues of the Jacobian there have a negative real part.
    """

    system: System
    states: Float[np.ndarray, "samples states"]
    found: Bool[np.ndarray, " samples"]
    stable: Bool[np.ndarray, " samples"]

    def state(self, name: str) -> Float[np.ndarray, " samples"]:
        """One state."""
        return self.states[:, self.system.states.index(name)]


def rest(
    system: System,
    start: Any,
    wait: float | np.ndarray,
    *,
    parameters: Mapping[str, Any] | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> Rest:
    """The steady states that samples come to.

    Args:
        start, parameters: as for `dynamics.simulate`.
        wait: how long they are simulated first, one time or one for each sample: many times the slowest decay.

    Raises:
        ValueError: as `dynamics.simulate`.
    """
    options: Any = {"parameters": parameters, "threads": threads, "progress": progress}
    course = simulate(system, wait, start, rtol=1e-7, atol=1e-12, **options)
    values = table(system, parameters or {}, len(course.ends))
    # What is small beside the levels on the way is rest at 0.
    floor = 1e-9 * np.maximum(np.abs(course.lows), np.abs(course.highs)).max(1)
    size = np.maximum(np.abs(course.ends).max(1), np.maximum(floor, 1e-300))
    states, still = newton(system, course.ends, values, floor)
    # Newton's method must not lead to another steady state than the one that was approached.
    near = np.abs(states - course.ends).max(1) <= 1e-3 * size
    found = course.ok & still & near
    states = np.where(found[:, None], states, np.nan)
    stable = np.zeros(len(states), bool)
    if found.any():
        stable[found] = np.real(eigenvalues(system, states[found], values[found])).max(1) < 0
    return Rest(system, states, found, stable)


def newton(
    system: System,
    states: Float[np.ndarray, "samples states"],
    values: Float[np.ndarray, "samples parameters"],
    floor: Float[np.ndarray, " samples"],
) -> tuple[Float[np.ndarray, "samples states"], Bool[np.ndarray, " samples"]]:
    """Newton's method for f(y) = 0, and which samples it ended for: steps below 1e-11 of the state, or of `floor`."""
    y = states.copy()
    ended = np.zeros(len(y), bool)
    for _ in range(12):
        going = np.flatnonzero(~ended & np.isfinite(y).all(1))
        if not going.size:
            break
        rates = evaluated(system, system.rate_code, y[going], values[going])
        matrix = jacobians(system, y[going], values[going])
        finite: Any = np.isfinite(np.concatenate([rates, matrix.reshape(len(rates), -1)], 1)).all(1)
        sound = finite & (np.abs(np.linalg.det(np.where(finite[:, None, None], matrix, 0.0))) > 0)
        step = np.full_like(rates, np.nan)
        step[sound] = np.linalg.solve(matrix[sound], -rates[sound][:, :, None])[:, :, 0]
        y[going] = y[going] + step
        size = np.maximum(np.abs(y[going]).max(1), np.maximum(floor[going], 1e-300))
        ended[going] = np.abs(step).max(1) <= 1e-11 * size
    return y, ended


def jacobians(system: System, states: np.ndarray, values: np.ndarray) -> Float[np.ndarray, "samples n n"]:
    """∂f/∂y at states (samples, n) with parameters (samples, parameters)."""
    n = len(system.states)
    return evaluated(system, system.jacobian_code, states, values)[:, : n * n].reshape(-1, n, n)


def eigenvalues(system: System, states: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of the Jacobian, (samples, n), complex."""
    return np.linalg.eigvals(jacobians(system, states, values)).astype(complex)


def table(system: System, changed: Mapping[str, Any], samples: int) -> Float[np.ndarray, "samples parameters"]:
    """The parameters of each sample."""
    columns = [np.broadcast_to(np.asarray(v, float), (samples,)) for v in system.values(changed).values()]
    return np.stack(columns, 1) if columns else np.zeros((samples, 0))


def evaluated(
    system: System, code: Batch, states: np.ndarray, values: np.ndarray
) -> Float[np.ndarray, "samples expressions"]:
    """Machine code at states (samples, n) with parameters (samples, parameters), at time 0."""
    inputs = np.concatenate([states, values, np.zeros((len(states), 1))], 1)
    out = np.empty((len(states), code.outputs))
    rows, places = np.zeros((code.inputs, 8)), np.zeros((code.outputs, 8))
    evaluate(code.address, rows, places, np.ascontiguousarray(inputs), np.zeros(0), out)
    return out
