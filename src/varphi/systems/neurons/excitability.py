"""How a membrane begins to fire as the current grows: its class, and the evidence for it.

Type I: repetitive firing begins with arbitrarily low frequency; type II: with a jump to a finite one (Hodgkin,
J. Physiol. 107 (1948) 165). What decides is how the state of rest is lost, and on which orbit the membrane is then:

- a fold (saddle-node) of equilibria that lies *on* the cycle (SNIC): the orbit passes the ghost of the fold, and the
  period is T = π C* √(2/(|I_ss''| (I - I_fold))) near it, a law without a free number;
- a fold off the cycle: the orbit passes elsewhere, at a finite frequency;
- a Hopf point, supercritical (a small cycle grows) or subcritical (a large one is there already).

C* = C (1 + Σ b_i c_i / r_i²) is the capacitance that the slow motion along the fold feels (`branch` names b, c, r).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flint import arb
from jaxtyping import Float

from varphi.dynamics.approach import approach
from varphi.dynamics.cycles import CycleBranch, continue_cycles, orbit_at_hopf
from varphi.numbers.ball import precision

from .branch import Branch
from .equilibria import PRECISION, Special, special_points
from .firing import FICurve, Firing, fi_curve, model_currents
from .model import APPLIED, Model

SNIC = "saddle-node on the cycle"
OFF_CYCLE = "saddle-node off the cycle"
SUBCRITICAL, SUPERCRITICAL = "subcritical Hopf", "supercritical Hopf"
NO_CYCLE = "rest is lost to another rest"
NEVER = "rest is never lost"
MECHANISMS = (SNIC, OFF_CYCLE, SUBCRITICAL, SUPERCRITICAL, NO_CYCLE, NEVER)
TYPES: Mapping[str, str] = {
    SNIC: "I", OFF_CYCLE: "II", SUBCRITICAL: "II", SUPERCRITICAL: "II", NO_CYCLE: "none", NEVER: "none",
}  # fmt: skip
# Near a fold the law of SNIC is tested at the current where it foretells this period, ms.
SLOW = 5000.0
# An orbit that takes at least the second share of that period passes the ghost of the fold, one that takes less than
# the first does not. Between them, near where the two cases meet, it is tried again at a sixteenth of the distance:
# the frequency then falls with an exponent near 1/2, or hardly.
DOUBTFUL = (0.2, 0.95)
NEARER = 1 / 16
FALLS = 0.25


@dataclass(frozen=True)
class Onset:
    """Where the stable cycle begins when the current falls.

    Attributes:
        kind: "fold of cycles", "homoclinic", SNIC, "supercritical Hopf"; or "lowest cycle found" where the branch does
            not tell what ends it, which is then a little lower.
        I: there, µA/cm².
        frequency: there, Hz; 0 for SNIC and homoclinic.
    """

    kind: str
    I: float  # noqa: E741
    frequency: float


@dataclass(frozen=True)
class Excitability:
    """The class of a membrane's excitability with its evidence.

    Attributes:
        model: whose.
        type: "I", "II" or "none".
        mechanism: one of `MECHANISMS`.
        loss: the fold or Hopf point at which rest is lost; None if it is not.
        distances: of the test currents above it, µA/cm².
        frequencies: Hz, at these.
        exponent: of frequency ~ distance^exponent over them: 1/2 for SNIC, 0 for a jump.
        ratio: at a fold, the period at the smallest distance over the one that the law of SNIC foretells; NaN else.
        onset: where the cycle begins as the current falls; None where there is none, or it was not followed.
        coexistence: currents at which it may rest or fire, (lowest, highest); None where there are none.
    """

    model: Model
    type: str
    mechanism: str
    loss: Special | None
    distances: Float[np.ndarray, " tests"]
    frequencies: Float[np.ndarray, " tests"]
    exponent: float
    ratio: float
    onset: Onset | None
    coexistence: tuple[float, float] | None

    @property
    def onset_frequency(self) -> float:
        """At which it begins to fire when the current grows from rest, Hz: 0 for type I, NaN if it does not."""
        if self.type == "none":
            return math.nan
        return 0.0 if self.type == "I" else float(self.frequencies[0])

    def __str__(self) -> str:
        current, hertz = self.model.units[APPLIED], self.model.frequency[1]
        if self.loss is None:
            return f"{self.model.name}: not excitable within its window ({self.mechanism})"
        lines = [f"{self.model.name}: type {self.type} ({self.mechanism})", f"  rest is lost: {self.loss}"]
        if self.frequencies.size and not np.isfinite(self.frequencies).all():
            lines.append(
                f"  just above it no cycle closes ({', '.join(f'+{d:.2g}' for d in self.distances)} {current})"
            )
        elif self.frequencies.size:
            told = ", ".join(
                f"{f:.4g} at +{d:.2g}" for d, f in zip(self.distances, self.frequencies, strict=True)
            )  # fmt: skip
            lines.append(f"  frequency ({hertz}) above it ({current}): {told}".replace(" ()", ""))
            law = "√ law" if self.type == "I" else "jump"
            lines.append(f"  frequency ~ distance^{round(self.exponent, 3) + 0.0:.3f} ({law})")
        if math.isfinite(self.ratio):
            lines.append(f"  period over that of the saddle-node's law: {self.ratio:.3f}")
        if self.onset is not None:
            lines.append(
                f"  as the current falls, firing ends at I = {self.onset.I:.9g} ({self.onset.kind}, "
                f"{self.onset.frequency:.4g} {hertz})"
            )
        if self.coexistence is not None:
            low, high = self.coexistence
            lines.append(f"  rest and firing coexist from I = {low:.9g} to {high:.9g}")
        return "\n".join(lines)


def excitability(model: Model, *, threads: int | None = None) -> Excitability:
    """The class of a model's excitability, with evidence.

    Rest means the equilibrium that is stable at the lowest potentials; it is followed to where it is lost, which is
    certified. How it then fires is simulated, and its cycle is followed by collocation to where it ends.
    """
    points = special_points(model).points
    nothing = np.zeros(0)
    if not points:
        return Excitability(model, "none", NEVER, None, nothing, nothing, math.nan, math.nan, None, None)
    loss = points[0]
    distances = _distances(model, loss)
    curve = _from_rest(model, loss, distances, threads) if loss.kind == "fold" else fi_curve(
        model, loss.I + distances, threads=threads
    )  # fmt: skip
    frequencies, ratio, on_cycle = curve.frequency, math.nan, False
    fires = bool(curve.fires.all())
    if loss.kind == "fold":
        ratio = float(curve.period[0] / slow_period(model, loss, float(distances[0])))
        on_cycle = ratio >= DOUBTFUL[1]
        if fires and DOUBTFUL[0] < ratio < DOUBTFUL[1]:
            nearer = _from_rest(model, loss, distances[:1] * NEARER, threads)
            distances = np.append(distances[:1] * NEARER, distances)
            frequencies = np.append(nearer.frequency, frequencies)
            ratio = float(nearer.period[0] / slow_period(model, loss, float(distances[0])))
            on_cycle = _slope(distances[:2], frequencies[:2]) > FALLS
    mechanism = _mechanism(loss, bool(curve.fires[0]), on_cycle)
    exponent = _slope(distances, frequencies) if fires else math.nan
    onset = _onset(model, loss, mechanism)
    coexistence = (onset.I, loss.I) if onset is not None and loss.I - 1e-9 * max(1, abs(loss.I)) > onset.I else None
    return Excitability(
        model, TYPES[mechanism], mechanism, loss, distances, frequencies, exponent, ratio, onset, coexistence
    )


def _from_rest(model: Model, fold: Special, distances: np.ndarray, threads: int | None) -> FICurve:
    """Firing just above a fold, from the rest that has vanished there: as a current step finds the membrane."""
    grid = np.linspace(*model.span, 600)
    search = Firing(model, fold.I + distances, {}, grid, rtol=1e-8, longest=20 * SLOW, threads=threads)
    start = np.tile([fold.state[name] for name in model.states], (len(distances), 1))
    start[:, 0] += 1e-3 * (model.span[1] - model.span[0])
    search.attempt(np.arange(len(distances)), start)
    return search.curve(slice(None))


def _mechanism(loss: Special, fires: bool, on_cycle: bool) -> str:
    if loss.kind == "hopf":
        return loss_by_hopf(loss.lyapunov)
    if not fires:
        return NO_CYCLE
    return SNIC if on_cycle else OFF_CYCLE


def loss_by_hopf(coefficient: float) -> str:
    """The mechanism at a Hopf point with this first Lyapunov coefficient."""
    return SUBCRITICAL if coefficient > 0 else SUPERCRITICAL


def _distances(model: Model, loss: Special) -> Float[np.ndarray, " tests"]:
    """Test currents above the loss of rest, nearest first."""
    if loss.kind == "fold":
        nearest = slow_distance(model, loss, SLOW)
        return nearest * np.array([1.0, 4.0, 16.0])
    low, high = model_currents(model)
    return np.array([1.0, 2.0, 4.0]) * 1e-3 * min(max(abs(loss.I), 1e-3 * (high - low)), high - loss.I)


def slow_capacitance(model: Model, fold: Special) -> float:
    """C* of a fold: the capacitance that the slow motion there feels, µF/cm²."""
    with precision(PRECISION):
        _, b, c, r = Branch(model).jacobian_parts(arb(fold.V))
    total = 1.0 + sum(float((bi * ci / ri**2).mid()) for bi, ci, ri in zip(b, c, r, strict=True))
    return model.values["C"] * total


def slow_period(model: Model, fold: Special, distance: float) -> float:
    """The period near a saddle-node on the cycle, ms: how long passing the ghost takes at I = I_fold + distance."""
    return math.pi * slow_capacitance(model, fold) * math.sqrt(2 / (abs(fold.curvature) * distance))


def slow_distance(model: Model, fold: Special, period: float) -> float:
    """The distance above a fold at which that period is foretold, µA/cm²."""
    return 2 / abs(fold.curvature) * (math.pi * slow_capacitance(model, fold) / period) ** 2


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


# Where firing ends as the current falls -----------------------------------------------------------------------------


def cycle_branch(model: Model, hopf: Special, *, largest_period: float = 3000.0) -> CycleBranch:
    """The cycles born at a Hopf point, followed in the current by collocation.

    Raises:
        ArithmeticError: the first cycle could not be found.
    """
    low, high = model_currents(model)
    system = model.system()
    state = np.array([hopf.state[name] for name in model.states])
    orbit, direction = orbit_at_hopf(system, APPLIED, state, hopf.I)
    return continue_cycles(
        system, APPLIED, orbit, bounds=(low, high), towards=direction, largest_period=largest_period
    )  # fmt: skip


def _onset(model: Model, loss: Special, mechanism: str) -> Onset | None:
    if mechanism == SNIC:
        return Onset(SNIC, loss.I, 0.0)
    if mechanism == SUPERCRITICAL:
        return Onset(SUPERCRITICAL, loss.I, model.frequency[0] / loss.period)
    if mechanism not in (OFF_CYCLE, SUBCRITICAL):
        return None
    for hopf in sorted(special_points(model).hopfs, key=lambda h: h.V, reverse=mechanism == OFF_CYCLE):
        try:
            branch = cycle_branch(model, hopf)
        except ArithmeticError:
            continue
        found = _lowest(model, branch)
        if found is not None:
            return found
    return None


def _lowest(model: Model, branch: CycleBranch) -> Onset | None:
    """Where the branch's stable cycles end as the current falls."""
    stable = [k for k, p in enumerate(branch.points) if p.stable]
    if not stable:
        return None
    currents, scale = branch.parameters, model.frequency[0]
    lowest, end = min(stable, key=lambda k: currents[k]), approach(branch)
    # Multipliers have no digits on the last orbits: what follows a stable orbit without a turn is as stable.
    if end is not None and lowest == max(stable):
        return Onset(end.kind, end.parameter, 0.0)
    before = [f for f in branch.folds if f.parameter <= currents[lowest]]
    if before:
        nearest = max(before, key=lambda f: f.parameter)
        return Onset("fold of cycles", float(nearest.parameter), scale / float(nearest.period))
    return Onset("lowest cycle found", float(currents[lowest]), scale / float(branch.periods[lowest]))
