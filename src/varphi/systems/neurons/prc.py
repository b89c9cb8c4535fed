"""What a small or a short current does: the phase response of a firing membrane, the threshold of a resting one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from varphi.dynamics.ensemble import simulate

from .equilibria import equilibria
from .firing import fi_curve
from .gates import VOLTAGE
from .model import APPLIED, Model
from .sweep import Sweep

_STEP = 0.005  # ms
_MOST_STEPS = 400_000


@dataclass(frozen=True)
class PhaseResponse:
    """How far a small kick moves the next spikes.

    Attributes:
        model, I, period: whose, at which current (µA/cm²), with which period (ms).
        phase: from 0 to 1, counted in periods from the minimum of V.
        V: the potential there, mV.
        advance: by how much later spikes come earlier, ms for a kick of 1 mV in V, in the limit of small kicks; a brief
            charge of q nC/cm² kicks V by q/C mV.
        closing: how far the response after one more period differs, relative to its largest value: its own error.
    """

    model: Model
    I: float  # noqa: E741
    period: float
    phase: Float[np.ndarray, " points"]
    V: Float[np.ndarray, " points"]
    advance: Float[np.ndarray, " points"]
    closing: float

    @property
    def type(self) -> str:
        """ "I" where kicks only advance (but for a tenth of the largest advance), "II" where they also delay."""
        return "I" if self.advance.min() > -0.1 * self.advance.max() else "II"

    def __str__(self) -> str:
        current, time = self.model.units[APPLIED], self.model.units["t"]
        late, early = int(self.advance.argmin()), int(self.advance.argmax())
        per = f" {time} per mV" if time else ""
        return "\n".join([
            f"{self.model.name}, I = {self.I:g} {current}".rstrip() + f": period {self.period:.9g} {time}".rstrip(),
            f"  phase response of type {self.type} (relative error {self.closing:.1e})",
            f"  largest advance {self.advance[early]:.6g}{per} at phase {self.phase[early]:.3f}",
            f"  largest delay {max(0.0, -self.advance[late]):.6g}{per} at phase {self.phase[late]:.3f}",
        ])  # fmt: skip


def phase_response(model: Model, I: float | str, *, points: int = 400) -> PhaseResponse:  # noqa: E741
    """The phase response curve of the stable cycle at a current, by the adjoint equation.

    z' = -Jᵀ(t) z is integrated backwards along the cycle, where it forgets its start, and scaled to z·f = 1.

    Raises:
        ValueError: the membrane does not fire at this current, or too slowly for the method's steps.
    """
    current = model.applied(I)
    found = fi_curve(model, [current], rtol=1e-10)
    if not found.fires[0]:
        raise ValueError(
            f"{model.name} does not fire at I = {current:g} ({found.status[0]}): there is no phase to move"
        )
    period = float(found.period[0])
    steps = points * max(10, int(np.ceil(period / _STEP / points)))
    if steps > _MOST_STEPS:
        raise ValueError(f"the period of {period:.6g} ms is too long here: at most {_MOST_STEPS * _STEP:g} ms")
    system = model.system(current)
    times = np.linspace(0, period, 2 * steps + 1)
    course = simulate(
        system, period * (1 + 1e-12), found.states[0], times=times, rtol=1e-11, atol=1e-12, progress=False
    )
    states = course.states[0]
    n = len(system.states)
    values = {**system.parameters, "t": 0.0} | {name: states[:, k] for k, name in enumerate(system.states)}
    entries = Sweep([e for row in system.jacobian for e in row], system.variables)(values)
    adjoint = entries.reshape(n, n, -1).transpose(2, 1, 0)
    rates = Sweep(list(system.rates), system.variables)(values).T
    z = rates[-1] / (rates[-1] @ rates[-1])
    before, closing = np.zeros(steps + 1), np.inf
    for _ in range(8):
        course_z = _backwards(adjoint, z, period / steps)
        advance = course_z[:, 0] / np.einsum("ij,ij->i", course_z, rates[::2])
        closing = float(np.abs(advance - before).max() / np.abs(advance).max())
        before, z = advance, course_z[0] / np.abs(course_z[0]).max()
        if closing < 1e-8:
            break
    chosen = np.arange(0, steps + 1, steps // points)
    return PhaseResponse(
        model, current, period, chosen / steps, states[2 * chosen, 0], before[chosen], closing
    )  # fmt: skip


def _backwards(matrices: np.ndarray, end: np.ndarray, step: float) -> np.ndarray:
    """z over one period, from its end: Runge–Kutta of order 4 on -z' = Jᵀ z, with Jᵀ at every half step."""
    count = (len(matrices) - 1) // 2
    found = np.empty((count + 1, len(end)))
    found[count] = z = end
    for k in range(count, 0, -1):
        late, middle, early = matrices[2 * k], matrices[2 * k - 1], matrices[2 * k - 2]
        a = late @ z
        b = middle @ (z + 0.5 * step * a)
        c = middle @ (z + 0.5 * step * b)
        d = early @ (z + step * c)
        z = z + step / 6 * (a + 2 * b + 2 * c + d)
        found[k - 1] = z
    return found


@dataclass(frozen=True)
class StrengthLaw:
    """A law of strength and duration, fitted to thresholds.

    Attributes:
        name: "Weiss", threshold = rheobase·(1 + chronaxie/duration), in which charge is linear in duration (1901); or
            "Lapicque", threshold = rheobase/(1 - 2^(-duration/chronaxie)), a leaky capacitor (1907).
        rheobase: the threshold of endless pulses, µA/cm².
        chronaxie: the duration at which the threshold is twice that, ms.
        misfit: root mean square of threshold/law - 1 over the pulses fitted.
    """

    name: str
    rheobase: float
    chronaxie: float
    misfit: float

    def __call__(self, durations: Float[np.ndarray, " durations"]) -> Float[np.ndarray, " durations"]:
        """Thresholds of pulses of these durations (ms), µA/cm²."""
        return self.rheobase * _LAWS[self.name](np.asarray(durations, float) / self.chronaxie)


_LAWS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "Weiss": lambda x: 1 + 1 / x,
    "Lapicque": lambda x: -1 / np.expm1(-x * np.log(2)),
}


@dataclass(frozen=True)
class StrengthDuration:
    """Which current pulse just makes a resting membrane fire.

    Attributes:
        durations: of the pulses, ms.
        threshold: µA/cm²; NaN where no pulse up to `strongest` fires it.
        level: the potential that counts as a spike, mV.
        chronaxie: the duration at which twice the rheobase just fires it, ms; NaN where even long pulses do not.
    """

    model: Model
    durations: Float[np.ndarray, " durations"]
    threshold: Float[np.ndarray, " durations"]
    level: float
    chronaxie: float

    @property
    def rheobase(self) -> float:
        """The threshold of the longest pulse."""
        return float(self.threshold[np.argmax(self.durations)])

    def laws(self) -> tuple[StrengthLaw, ...]:
        """The laws of Weiss and of Lapicque by least squares of the relative error; none for under three pulses."""
        known = np.isfinite(self.threshold)
        t, i = self.durations[known], self.threshold[known]
        return () if known.sum() < 3 else tuple(_fitted(name, t, i) for name in _LAWS)

    def __str__(self) -> str:
        unit, time = self.model.units[APPLIED], self.model.units["t"]
        rows = [f"{t:12.6g} {i:14.8g}" for t, i in zip(self.durations, self.threshold, strict=True)]
        if not np.isfinite(self.threshold).any():
            return (
                f"{self.model.name}: no pulse tried brings V above {self.level:g} {self.model.units[VOLTAGE]}".rstrip()
            )
        head = f"{'t (' + time + ')' if time else 't':>12} {'I (' + unit + ')' if unit else 'I':>14}"
        told = [f"rheobase {self.rheobase:.6g} {unit}, chronaxie {self.chronaxie:.6g} {time}"]
        told += [
            f"{law.name}: rheobase {law.rheobase:.6g} {unit}, chronaxie {law.chronaxie:.6g} {time}, "
            f"misfit {law.misfit:.2%}"
            for law in self.laws()
        ]
        return "\n".join([self.model.name, head, *rows, *told])


def _fitted(name: str, durations: np.ndarray, thresholds: np.ndarray) -> StrengthLaw:
    def misfit(x: np.ndarray) -> np.ndarray:
        return np.exp(x[0]) * _LAWS[name](durations / np.exp(x[1])) / thresholds - 1

    start = np.log([thresholds.min(), np.median(durations)])
    found = least_squares(misfit, start, xtol=1e-14, ftol=1e-14, gtol=1e-14)
    rheobase, chronaxie = np.exp(found.x).tolist()
    return StrengthLaw(name, rheobase, chronaxie, float(np.sqrt(np.mean(found.fun**2))))


def strength_duration(
    model: Model,
    durations: Sequence[float] | np.ndarray,
    *,
    level: float | None = None,
    strongest: float = 1000.0,
    wait: float = 100.0,
) -> StrengthDuration:
    """Thresholds of single pulses from rest, by bisection of all durations at once.

    Args:
        durations: ms.
        level: what V must pass to count as a spike, mV; by default half-way from rest to the top of the window.
        strongest: the strongest pulse tried, µA/cm².
        wait: how long after the pulse a spike may come, ms.

    Raises:
        ValueError: durations that are not positive, or a model without a stable rest at I = 0.
    """
    times = np.asarray(durations, float).ravel()
    if not times.size or not (np.isfinite(times) & (times > 0)).all():
        raise ValueError("durations must be one or more positive numbers of ms")
    if not (math.isfinite(strongest) and strongest > 0 and math.isfinite(wait) and wait > 0):
        raise ValueError(f"strongest and wait must be positive, got {strongest!r} µA/cm² and {wait!r} ms")
    stable = equilibria(model, 0.0).stable
    if not stable:
        raise ValueError(f"{model.name} has no stable rest without a current: there is no threshold")
    rest = np.array(list(stable[0].state.values()))
    height = level if level is not None else (rest[0] + model.span[1]) / 2
    if not height > rest[0]:
        raise ValueError(f"level must lie above the resting potential of {rest[0]:.6g} mV, got {height!r}")
    low, high = np.zeros(len(times)), np.full(len(times), float(strongest))
    fires = _spikes(model, rest, times, high, wait, height)
    for _ in range(40):
        middle = (low + high) / 2
        above = _spikes(model, rest, times, middle, wait, height)
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    threshold = np.where(fires, high, np.nan)
    rheobase = threshold[[np.argmax(times)]]
    short, long = np.zeros(1), times.max(keepdims=True)
    for _ in range(40 if np.isfinite(rheobase[0]) else 0):
        middle = (short + long) / 2
        above = _spikes(model, rest, middle, 2 * rheobase, wait, height)
        short, long = np.where(above, short, middle), np.where(above, middle, long)
    chronaxie = float(long[0]) if np.isfinite(rheobase[0]) else float("nan")
    return StrengthDuration(model, times, threshold, float(height), chronaxie)


def _spikes(
    model: Model, rest: np.ndarray, durations: np.ndarray, strength: np.ndarray, wait: float, level: float
) -> np.ndarray:
    """Which pulses are followed (or met) by a spike."""
    system, settings = model.system(), {"rtol": 1e-8, "atol": 1e-10, "progress": False}
    starts = np.tile(rest, (len(durations), 1))
    pulse = simulate(system, durations, starts, parameters={APPLIED: strength}, **settings)
    after = simulate(system, wait, pulse.ends, parameters={APPLIED: 0.0}, **settings)
    return np.maximum(pulse.highs[:, 0], after.highs[:, 0]) > level
