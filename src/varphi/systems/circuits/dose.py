"""Dose-response curves, and hysteresis: where the answer depends on where the input comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq, root

from varphi.dynamics.system import System

from .steady import jacobians, rest, table


@dataclass(frozen=True)
class DoseResponse:
    """Steady levels of an output over levels of an input.

    Attributes:
        levels: of the input, increasing.
        output: of each; NaN where there is no rest.
        half: the input of half the way between the outputs at the ends (EC50); NaN if the curve is not monotone.
        sharpness: EC90/EC10; 81^(1/n) for a Hill function over a range that saturates it.
        coefficient: Hill's coefficient of the same sharpness, ln 81/ln(EC90/EC10).
    """

    levels: Float[np.ndarray, " levels"]
    output: Float[np.ndarray, " levels"]
    half: float
    sharpness: float

    @property
    def coefficient(self) -> float:
        return math.log(81) / math.log(self.sharpness) if self.sharpness > 1 else math.nan


def dose_response(
    system: System,
    output: str,
    name: str,
    levels: Any,
    wait: float,
    *,
    parameters: Mapping[str, Any] | None = None,
    start: Any = None,
    progress: bool = True,
) -> DoseResponse:
    """The steady level of an output for each level of an input, all from one start.

    Args:
        levels: increasing.
        wait: how long to wait for rest: many times the slowest decay.
        start: 0 by default.

    Raises:
        ValueError: levels that are not increasing, and as `dynamics.simulate`.
    """
    doses = _increasing(levels)
    begin = dict.fromkeys(system.states, 0.0) if start is None else system.named(start)

    def outputs(at: Any) -> np.ndarray:
        found = rest(system, begin, wait, parameters={**(parameters or {}), name: at}, progress=progress)
        return found.state(output)

    answer = outputs(doses)
    first, last = float(answer[0]), float(answer[-1])
    way = np.diff(answer) * np.sign(last - first)
    if not np.isfinite(answer).all() or first == last or (way < -1e-9 * abs(last - first)).any():
        return DoseResponse(doses, answer, math.nan, math.nan)

    def reached(part: float) -> float:
        target = first + part * (last - first)
        place = int(np.argmax((answer - target) * np.sign(last - first) >= 0))
        low, high = float(doses[place - 1]), float(doses[place])
        solve: Any = brentq
        return solve(lambda d: float(outputs(d)[0]) - target, low, high, xtol=1e-12 * high, rtol=1e-12)

    ten, half, ninety = (reached(part) for part in (0.1, 0.5, 0.9))
    sharpness = ninety / ten if first < last else ten / ninety if ninety < ten else ninety / ten
    return DoseResponse(doses, answer, half, sharpness)


@dataclass(frozen=True)
class Hysteresis:
    """Steady levels as the input rises slowly, and as it falls slowly.

    Attributes:
        levels: of the input, increasing.
        up, down: the output at each, on the way up and on the way down.
        jump_up, jump_down: the input at which the output jumps (folds of the curve of steady states); NaN if it does
            not within the levels.
    """

    levels: Float[np.ndarray, " levels"]
    up: Float[np.ndarray, " levels"]
    down: Float[np.ndarray, " levels"]
    jump_up: float
    jump_down: float

    @property
    def bistable(self) -> bool:
        """Whether somewhere the ways up and down differ, by more than a thousandth of the range."""
        span = float(np.ptp(np.concatenate([self.up, self.down])))
        return bool((np.abs(self.up - self.down) > 1e-3 * span).any()) if span > 0 else False


def hysteresis(
    system: System,
    output: str,
    name: str,
    levels: Any,
    wait: float,
    *,
    parameters: Mapping[str, Any] | None = None,
    start: Any = None,
) -> Hysteresis:
    """Follow steady states as an input rises and falls again.

    Args:
        as `dose_response`; start: from where the rest at the first level is sought.

    Raises:
        ValueError: as `dose_response`; or where there is no rest.
    """
    doses = _increasing(levels)
    setting = dict(parameters or {})
    begin = dict.fromkeys(system.states, 0.0) if start is None else system.named(start)
    state = np.array([float(np.asarray(v)) for v in begin.values()])

    def followed(path: np.ndarray, state: np.ndarray) -> np.ndarray:
        found = []
        for level in path:
            settled = rest(system, state, wait, parameters={**setting, name: level}, progress=False)
            if not settled.found[0]:
                # Close to a fold a state is left slowly.
                settled = rest(system, state, 100 * wait, parameters={**setting, name: level}, progress=False)
            if not settled.found[0]:
                raise ValueError(f"there is no steady state at {name} = {level:g}: the system does not come to rest")
            state = settled.states[0]
            found.append(state)
        return np.array(found)

    up = followed(doses, state)
    down = followed(doses[::-1], up[-1])[::-1]
    place = system.states.index(output)
    apart = np.abs(up - down).max(1) > 1e-3 * max(float(np.ptp(np.concatenate([up, down])[:, place])), 1e-300)
    jumps = [math.nan, math.nan]
    if apart.any():
        first, last = int(np.argmax(apart)), len(doses) - 1 - int(np.argmax(apart[::-1]))
        if last + 1 < len(doses):
            jumps[0] = fold(system, name, up[last], doses[last], parameters=setting)
        if first > 0:
            jumps[1] = fold(system, name, down[first], doses[first], parameters=setting)
    return Hysteresis(doses, up[:, place], down[:, place], *jumps)


def fold(
    system: System, name: str, state: Float[np.ndarray, " states"], level: float, *, parameters: Mapping[str, Any]
) -> float:
    """The input at the fold near a steady state: f = 0 and J v = 0 with |v| = 1 (NaN if none is found)."""
    n = len(system.states)
    scale = np.maximum(np.abs(state), 1e-9 * max(1.0, float(np.abs(state).max())))

    def values(at: float) -> np.ndarray:
        return table(system, {**parameters, name: at}, 1)

    vector = np.linalg.svd(jacobians(system, state[None], values(level))[0] * scale)[2][-1]

    def conditions(z: np.ndarray) -> np.ndarray:
        y, at, v = z[:n] * scale, float(z[n]) * level, z[n + 1 :]
        matrix = jacobians(system, y[None], values(at))[0] * scale
        rates = np.array(system(y.tolist(), **{**parameters, name: at}), float)
        return np.concatenate([rates / scale, matrix @ v / scale, [v @ v - 1]])

    found = root(conditions, np.concatenate([state / scale, [1.0], vector]), tol=1e-13)
    residual = float(np.abs(conditions(found.x)).max())
    return float(found.x[n]) * level if residual < 1e-8 else math.nan


def _increasing(levels: Any) -> Float[np.ndarray, " levels"]:
    doses = np.asarray(levels, float)
    if doses.ndim != 1 or doses.size < 2 or not np.isfinite(doses).all() or not (np.diff(doses) > 0).all():
        raise ValueError("levels must be two or more finite, increasing numbers")
    return doses
