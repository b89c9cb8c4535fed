"""Bifurcations over the current and one more number of a model.

With every gate at its steady state, folds are the zeros of I_ss'(V; p) and Hopf points those of the Hurwitz determinant
(`branch`): plane curves in (V, p), drawn from a grid and sharpened to rounding, closed loops included. Curves of cycles
are followed from the model's own value of p by collocation.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from contourpy import contour_generator
from jaxtyping import Float

from varphi.dynamics.approach import approach, lingers_at
from varphi.dynamics.curves import CUSP, GENERALISED_HOPF, Curve, continue_curve
from varphi.dynamics.cycles import CycleBranch
from varphi.numbers import Expression, variable
from varphi.numbers.expression import constant, without_slopes
from varphi.numbers.jet import partial

from .branch import characteristic, hurwitz
from .equilibria import special_points
from .excitability import SNIC, SUBCRITICAL, SUPERCRITICAL, cycle_branch
from .gates import VOLTAGE
from .model import APPLIED, Model
from .organising import organising_points
from .plane import lyapunov
from .sweep import Equations, Sweep

FOLD = "fold"
_GRID = (500, 250)
# How much longer than at its start a period may become on a curve of cycles.
_LONGER = 30.0
# Fewer points in a row do not tell a homoclinic orbit from a saddle-node on the cycle.
_FEWEST = 4


@dataclass(frozen=True, eq=False)
class Line:
    """Part of a curve of bifurcations.

    Attributes:
        kind: "fold", "subcritical Hopf", "supercritical Hopf", "fold of cycles", "period doubling", "homoclinic", or
            "saddle-node on the cycle": folds at which long cycles end.
        I: applied current, µA/cm².
        value: of the other parameter.
        V: potential of the equilibrium, mV; NaN for cycles.
        period: of the cycle, ms; at Hopf points 2π/ω; NaN at folds.
    """

    kind: str
    I: Float[np.ndarray, " points"]  # noqa: E741
    value: Float[np.ndarray, " points"]
    V: Float[np.ndarray, " points"]
    period: Float[np.ndarray, " points"]


@dataclass(frozen=True)
class Meeting:
    """A point that organises the plane.

    Attributes:
        kind: "cusp", "bogdanov-takens", "generalised hopf", "cusp of cycles", or "saddle-node loop", where homoclinic
            orbits reach the fold: halfway between two points of the curve.
        I, value: there.
        certified: whether it is proved (cusps and Bogdanov–Takens points of equilibria).
    """

    kind: str
    I: float  # noqa: E741
    value: float
    certified: bool


@dataclass(frozen=True)
class Curves:
    """Bifurcations over the current and another parameter.

    Attributes:
        model, parameter: of which model, and which of its numbers is varied.
        low, high: its range.
        lines: the curves.
        points: where they meet.
        ends: of each curve of cycles its kind and why it ends at its first and last point.
    """

    model: Model
    parameter: str
    low: float
    high: float
    lines: tuple[Line, ...]
    points: tuple[Meeting, ...]
    ends: tuple[tuple[str, str, str], ...]

    def of(self, kind: str) -> tuple[Line, ...]:
        """The lines of one kind."""
        return tuple(line for line in self.lines if line.kind == kind)

    def __str__(self) -> str:
        told = [f"{self.model.name}, {self.parameter} from {self.low:g} to {self.high:g}"]
        for line in self.lines:
            told.append(
                f"  {line.kind}: {len(line.I)} points, {self.parameter} from {line.value.min():.6g} to "
                f"{line.value.max():.6g}, I from {line.I.min():.6g} to {line.I.max():.6g}"
            )
        told += [
            f"  {p.kind} at {self.parameter} = {p.value:.10g}, I = {p.I:.10g}" + (", proved" if p.certified else "")
            for p in self.points
        ]
        return "\n".join(told)


def curves(model: Model, parameter: str, low: float, high: float, *, cycles: bool = True) -> Curves:
    """The two-parameter bifurcation diagram over the current and one number of a model.

    Args:
        parameter: a name such as "V3" or "m.half".
        low, high: its range; for curves of cycles the model's own value must lie inside.
        cycles: whether folds and doublings of cycles and homoclinic orbits are followed too (seconds).

    Raises:
        ValueError: an unknown name, an empty range, one at whose ends the model is none, or one that leaves out the
            model's own value where cycles are asked for.
    """
    name = model.flat(parameter)
    if not low < high:
        raise ValueError(f"the range of {name} goes from the lower to the higher value, got {low:g} to {high:g}")
    for end in (low, high):
        model.with_({name: end})
    own = model.values[name]
    if cycles and not low < own < high:
        raise ValueError(
            f"curves of cycles begin at the model's own {name} = {own:g}, which does not lie between {low:g} and "
            f"{high:g}: widen the range, change the model with with_({name}=...), or leave cycles out"
        )
    plane = _Plane(model, name, (low, high))
    hopfs, bautin = plane.hopfs()
    lines, points = [*plane.folds(), *hopfs], [*bautin]
    points += [Meeting(p.kind, p.I, p.value, p.certified) for p in organising_points(model, name, low, high)]
    ends: list[tuple[str, str, str]] = []
    for curve in _curves_of_cycles(model, name, (low, high)) if cycles else ():
        parts, loops = _parts(model, name, curve)
        lines, points = [*lines, *parts], [*points, *loops]
        points += [Meeting("cusp of cycles", *c.values, False) for c in curve.specials if c.kind == CUSP]
        ends.append((curve.kind, *curve.ended))
    return Curves(model, name, low, high, tuple(lines), tuple(points), tuple(ends))


# Equilibria ---------------------------------------------------------------------------------------------------------


def hurwitz_formula(model: Model) -> Expression | None:
    """The Hurwitz determinant of order n - 1 along the equilibria, in V and the numbers; None with V alone."""
    if len(model.states) == 1:
        return None
    slope, by_gate = model.linear
    capacitance: Any = variable("C")
    moves = [model.motions[name] for name in model.states[1:]]
    speeds: list[Any] = [without_slopes(m.speed) for m in moves if m.speed is not None]
    a: Any = -without_slopes(slope) / capacitance
    b = [-without_slopes(e) / capacitance for e in by_gate]
    c = [r * partial(without_slopes(m.steady), VOLTAGE) for r, m in zip(speeds, moves, strict=True)]
    return without_slopes(constant(hurwitz(characteristic(a, b, c, speeds, constant(1)))))


class _Plane:
    """Curves of equilibria in the plane of V and one number."""

    def __init__(self, model: Model, name: str, span: tuple[float, float]) -> None:
        self.model, self.name, self.span = model, name, span
        self.equations = Equations(model)
        self.sizes = np.array([model.span[1] - model.span[0], span[1] - span[0]])

    def zeros(self, function: Expression) -> list[Float[np.ndarray, "points 2"]]:
        """(V, p) along the zeros of a formula in V and the numbers."""
        v, p = np.linspace(*self.model.span, _GRID[0]), np.linspace(*self.span, _GRID[1])
        sweep = Sweep([function, partial(function, VOLTAGE), partial(function, self.name)], self.names)
        values = sweep(self.known(v[:, None], p[None, :]))[0]
        if not np.isfinite(values).all():
            raise ValueError(f"{self.model.name} is not defined on all of its window for {self.name} in {self.span!r}")
        # Values of very different sizes: only their signs and ratios matter to the drawing.
        drawn = contour_generator(p, v, np.arcsinh(values / np.median(np.abs(values)))).lines(0.0)
        return [self.sharpened(sweep, np.asarray(line)[:, ::-1]) for line in drawn]

    @property
    def names(self) -> tuple[str, ...]:
        return (VOLTAGE, *self.model.values)

    def known(self, v: np.ndarray, p: np.ndarray) -> dict[str, Any]:
        return {**self.model.values, VOLTAGE: v, self.name: p}

    def sharpened(self, sweep: Sweep, line: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
        """Each point moved onto the zero by Newton's steps along the gradient."""
        x = line.copy()
        for _ in range(30):
            f, by_v, by_p = sweep(self.known(x[:, 0], x[:, 1]))
            gradient = np.stack([by_v, by_p], axis=1) * self.sizes
            square = np.maximum((gradient**2).sum(1), 1e-300)
            # Short steps: a point stays on its own branch.
            step = -(f / square)[:, None] * gradient
            length = np.maximum(np.linalg.norm(step, axis=1, keepdims=True) / 0.01, 1.0)
            x = x + step / length * self.sizes
            if np.abs(step).max() < 1e-14:
                break
        return x

    def folds(self) -> list[Line]:
        slope = partial(without_slopes(self.model.steady_current), VOLTAGE)
        return [self.line(FOLD, x, np.full(len(x), np.nan)) for x in self.zeros(slope)]

    def line(self, kind: str, x: np.ndarray, period: np.ndarray) -> Line:
        current = self.equations.steady_current(x[:, 0], {self.name: x[:, 1]})
        return Line(kind, current, x[:, 1], x[:, 0], period)

    def hopfs(self) -> tuple[list[Line], list[Meeting]]:
        """Hopf points by kind, and where the kind changes."""
        function = hurwitz_formula(self.model)
        if function is None:
            return [], []
        sweep = Sweep([function, partial(function, VOLTAGE), partial(function, self.name)], self.names)
        lines, points = [], []
        for x in self.zeros(function):
            omega = self.frequencies(x)
            for run in _runs(omega > 0):
                part, turning = x[run], omega[run]
                sign = self.coefficients(part) > 0
                for same in _runs(np.ones(len(part), bool), sign):
                    kind = SUBCRITICAL if sign[same.start] else SUPERCRITICAL
                    wide = slice(same.start, min(same.stop + 1, len(part)))  # up to where the next kind begins
                    lines.append(self.line(kind, part[wide], 2 * np.pi / turning[wide]))
                    if wide.stop > same.stop:
                        points.append(self.change(sweep, part[same.stop - 1 : same.stop + 1]))
        return lines, points

    def frequencies(self, x: np.ndarray) -> Float[np.ndarray, " points"]:
        """ω of the imaginary pair; 0 where the Hurwitz determinant is zero for a real pair ±λ."""
        values: Any = np.linalg.eigvals(self.equations.jacobian(x[:, 0], {self.name: x[:, 1]}))
        turning = values.imag > 1e-7 * np.abs(values).max(1, keepdims=True)
        nearest = np.where(turning, np.abs(values.real), np.inf).argmin(1)
        pair: Any = np.take_along_axis(values, nearest[:, None], 1)[:, 0]
        return np.where(turning.any(1) & (np.abs(pair.real) < 1e-6 * np.abs(pair)), pair.imag, 0.0)

    def coefficients(self, x: np.ndarray) -> Float[np.ndarray, " points"]:
        """The first Lyapunov coefficients."""
        return lyapunov(self.model, self.equations, x[:, 0], {self.name: x[:, 1]})

    def change(self, sweep: Sweep, ends: np.ndarray) -> Meeting:
        """The generalised Hopf point between two Hopf points of different kind, by bisection."""
        (low, high), first = ends, float(self.coefficients(ends[:1])[0])
        for _ in range(45):
            middle = self.sharpened(sweep, ((low + high) / 2)[None])
            if (float(self.coefficients(middle)[0]) > 0) == (first > 0):
                low = middle[0]
            else:
                high = middle[0]
        at = self.line(GENERALISED_HOPF, ((low + high) / 2)[None], np.full(1, np.nan))
        return Meeting(GENERALISED_HOPF, float(at.I[0]), float(at.value[0]), False)


def _runs(wanted: np.ndarray, label: np.ndarray | None = None) -> list[slice]:
    """Stretches of wanted points with the same label."""
    key = np.where(wanted, 1 if label is None else label + 1, 0)
    edges = np.flatnonzero(np.diff(key)) + 1
    bounds = [0, *edges.tolist(), len(key)]
    return [slice(a, b) for a, b in itertools.pairwise(bounds) if b > a and key[a] > 0]


# Cycles -------------------------------------------------------------------------------------------------------------


def _curves_of_cycles(model: Model, name: str, span: tuple[float, float]) -> list[Curve]:
    """Every curve of cycles that passes the model's own value on a branch born at a Hopf point."""
    found: list[Curve] = []
    system, own = model.system(), model.values[name]
    widest = _currents(model, name, span)
    for hopf in special_points(model).hopfs:
        try:
            branch = cycle_branch(model, hopf)
        except ArithmeticError:
            continue
        for start in (*(s for s in branch.specials if s.kind in ("fold", "period doubling")), *_loops(branch)):
            orbit = getattr(start, "orbit", start)
            kind = getattr(start, "kind", "homoclinic")
            if any(_passes(curve, kind, orbit.parameter, orbit.period, own) for curve in found):
                continue
            try:
                found.append(
                    continue_curve(
                        system,
                        start,
                        (APPLIED, name),
                        {APPLIED: widest, name: span},
                        most_points=400,
                        largest_period=_LONGER * orbit.period,
                    )
                )
            except ArithmeticError:
                continue
    return found


def _parts(model: Model, name: str, curve: Curve) -> tuple[list[Line], list[Meeting]]:
    """The lines of a curve of cycles; a long cycle that meets no saddle passes a saddle-node instead."""
    i, p = curve.values.T
    nowhere = np.full(len(i), np.nan)
    if curve.kind != "homoclinic":
        return [Line(curve.kind, i, p, nowhere, curve.periods)], []
    system = model.system()
    saddles = np.array(
        [
            lingers_at(system, APPLIED, orbit, {name: float(value)}) is not None
            for orbit, value in zip(curve.orbits, p, strict=True)
        ]
    )
    # Beside a Bogdanov–Takens point no period is long, and single points change sides: they are left out.
    runs = [run for run in _runs(np.ones(len(i), bool), saddles.astype(int)) if run.stop - run.start >= _FEWEST]
    lines = [
        Line("homoclinic" if saddles[run.start] else SNIC, i[run], p[run], nowhere[run], curve.periods[run])
        for run in runs
    ]
    ends = [a.stop for a, b in itertools.pairwise(runs) if a.stop == b.start]
    middle = [(float(i[k - 1] + i[k]) / 2, float(p[k - 1] + p[k]) / 2) for k in ends]
    return lines, [Meeting("saddle-node loop", *at, False) for at in middle]


def _currents(model: Model, name: str, span: tuple[float, float]) -> tuple[float, float]:
    """Currents at which equilibria lie in the window, anywhere in the range."""
    v, p = np.linspace(*model.span, 200)[:, None], np.linspace(*span, 50)[None, :]
    found = Equations(model).steady_current(v, {name: p})
    return float(found.min()), float(found.max())


def _loops(branch: CycleBranch) -> list[Any]:
    """The homoclinic orbit at which a branch ends, as a long cycle."""
    end = approach(branch)
    if end is None or end.kind != "homoclinic":
        return []
    far = np.flatnonzero(end.expected * (branch.periods - branch.periods.min()) > 20)
    return [branch.points[int(far[0]) if far.size else -1].orbit]


def _passes(curve: Curve, kind: str, current: float, period: float, own: float) -> bool:
    """Whether a curve contains a point found at the model's own value."""
    alike = {"fold": "fold of cycles"}.get(kind, kind)
    if curve.kind != alike:
        return False
    i, p = curve.values.T
    for k in np.flatnonzero((p[:-1] - own) * (p[1:] - own) <= 0):
        share = (own - p[k]) / (p[k + 1] - p[k]) if p[k + 1] != p[k] else 0.0
        at = i[k] + share * (i[k + 1] - i[k])
        t = curve.periods[k] + share * (curve.periods[k + 1] - curve.periods[k])
        if abs(at - current) < 0.01 * max(1.0, abs(current)) and (kind == "homoclinic" or abs(t / period - 1) < 0.03):
            return True
    return False
