"""One family of membranes whose gates have random shapes: how each loses its rest, and how it then begins to fire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from varphi.dynamics.ensemble import Status
from varphi.study import Outcome, Point, Setting

from .excitability import SLOW, SNIC, SUBCRITICAL, SUPERCRITICAL
from .firing import Firing
from .gates import Gate, rates
from .library import load
from .model import Current, Model
from .plane import KINDS, classified, slow_distances
from .sweep import Equations

# Slower than this just above the loss of rest is "arbitrarily low": there the law of SNIC foretells 0.2 Hz.
LOW = 1.0
_HOPF = 0.02
# An orbit that ends this near to the rest that is lost has come to it, relative to the window.
_NEAR = 0.03
_GRID = 400


@dataclass(frozen=True)
class Family:
    """Membranes that differ in the shape of their gates.

    Attributes:
        model: makes the membrane.
        ranges: between which two numbers of the gates' shapes are drawn, mV.
    """

    model: Any
    ranges: Mapping[str, tuple[float, float]]


def _shifted_hodgkin_huxley() -> Model:
    """Hodgkin–Huxley with its activations of sodium and potassium moved along V."""
    sodium = [
        Gate("m", rates("explinear((V+40-shift_m)/10)", "4*exp(-(V+65-shift_m)/18)"), power=3),
        Gate("h", rates("0.07*exp(-(V+65)/20)", "sigmoid((V+35)/10)")),
    ]
    potassium = [Gate("n", rates("0.1*explinear((V+55-shift_n)/10)", "0.125*exp(-(V+65-shift_n)/80)"), power=4)]
    plain = load("hodgkin-huxley")
    return Model(
        name="Hodgkin–Huxley, shifted",
        source=plain.source,
        currents=[Current("Na", 120, 50, sodium), Current("K", 36, -77, potassium), Current("L", 0.3, -54.387)],
        parameters={"shift_m": 0.0, "shift_n": 0.0},
    )


_V3_V4 = {"V3": (-10.0, 20.0), "V4": (8.0, 32.0)}
SLOW_GATE, FAST_GATE = "Morris–Lecar, φ = 1/15", "Morris–Lecar, φ = 0.23"
FAMILIES: Mapping[str, Family] = {
    SLOW_GATE: Family(lambda: load("morris-lecar", "class 1"), _V3_V4),
    FAST_GATE: Family(lambda: load("morris-lecar", "homoclinic"), _V3_V4),
    "I_Na,p + I_K": Family(
        lambda: load("izhikevich", "saddle-node"), {"half_n": (-50.0, -20.0), "slope_n": (3.0, 15.0)}
    ),
    "Hodgkin–Huxley, shifted": Family(_shifted_hodgkin_huxley, {"shift_m": (-8.0, 8.0), "shift_n": (-6.0, 24.0)}),
}


def shapes(ranges: Mapping[str, tuple[float, float]], seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """The numbers of each seed: the same seed is the same place in the ranges of every family."""
    places = np.array([np.random.default_rng(seed).random(len(ranges)) for seed in seeds])
    return {name: a + (b - a) * places[:, k] for k, (name, (a, b)) in enumerate(ranges.items())}


def trial(setting: Setting, seeds: Sequence[int], points: Sequence[Point]) -> Outcome:
    """One setting of the study `neurons`; see `study.declaration.Trial`."""
    family = FAMILIES[setting["family"]]
    model = family.model()
    numbers = shapes(family.ranges, seeds)
    kind, current, v, _ = classified(model, numbers, threads=1)
    samples = len(seeds)
    lost = np.flatnonzero(np.isfinite(current))
    hopf = np.isin(kind, [KINDS.index(SUBCRITICAL), KINDS.index(SUPERCRITICAL)])
    own = {k: x[lost] for k, x in numbers.items()}
    distance = np.where(
        hopf[lost],
        _HOPF * np.maximum(np.abs(current[lost]), 0.1),
        slow_distances(Equations(model), v[lost], own),
    )
    found = {name: np.full(samples, np.nan) for name in ("onset", "exponent", "below")}
    # A number that no sample lacks orders the settings in tables.
    found["saddle_node"] = np.where(np.isfinite(current), np.where(hopf, 0.0, 1.0), np.nan)
    if lost.size:
        first, near = _above(model, own, current[lost], v[lost], distance)
        _, far = _above(model, own, current[lost], v[lost], 4 * distance)
        found["onset"][lost] = np.where(first.found, near, np.where(first.came_to_rest, 0.0, np.nan))
        found["exponent"][lost] = np.log(far / near) / np.log(4)
        fires = np.flatnonzero(first.found)
        found["below"][lost[fires]] = _below(first, fires, current[lost], v[lost], distance)
    found["fires"] = np.where(np.isfinite(found["exponent"]), 1.0, np.where(found["onset"] == 0, 0.0, np.nan))
    found["on_cycle"] = np.where(np.isfinite(current), (kind == KINDS.index(SNIC)).astype(float), np.nan)
    return Outcome(found)


def _above(
    model: Model, numbers: dict[str, np.ndarray], current: np.ndarray, v: np.ndarray, distance: np.ndarray
) -> tuple[Firing, np.ndarray]:
    """Firing this far above the loss of rest, from the rest that was lost; and its frequency, Hz."""
    grid = np.linspace(*model.span, _GRID)
    search = Firing(model, current + distance, numbers, grid, rtol=1e-6, longest=8 * SLOW, threads=1)
    start = search.equations.state(v, numbers)
    start[:, 0] += 1e-3 * (model.span[1] - model.span[0])
    search.attempt(np.arange(len(v)), start)
    return search, model.frequency[0] / search.period


def _below(first: Firing, fires: np.ndarray, current: np.ndarray, v: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """1 where firing goes on just below the current at which rest is lost, 0 where it comes to that rest; NaN else."""
    own = {k: x[fires] for k, x in first.numbers.items()}
    search = Firing(first.model, (current - distance)[fires], own, first.grid, threads=1, equations=first.equations)
    found = search.integrate(np.arange(len(fires)), first.states[fires], 8 * SLOW, 1e-6)
    closed = np.equal(found.status, int(Status.CLOSED))
    low, high = first.model.span
    near = np.logical_and(found.ok, np.abs(found.ends[:, 0] - v[fires]) < _NEAR * (high - low))
    return np.where(closed, 1.0, np.where(near, 0.0, np.nan))
