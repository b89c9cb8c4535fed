"""Cusps and Bogdanov–Takens points: where folds are born in pairs, and where Hopf points end on a fold.

With one more number p of the model free, both are points (V, p). At a cusp I_ss' = I_ss'' = 0; at a Bogdanov–Takens
point I_ss' = 0 and the capacitance C* of the slow motion along the fold vanishes (a double eigenvalue 0; see
`excitability`). They are looked for on a grid, and each is then proved by Krawczyk's operator: exactly one lies in its
box. That there are no others is not proved.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from flint import arb

from varphi.numbers import Expression, evaluate, variable
from varphi.numbers.ball import POINT_OPERATIONS, point, precision
from varphi.numbers.expression import constant, without_slopes
from varphi.numbers.jet import partial
from varphi.numbers.straight import StraightLine

from .equilibria import PRECISION
from .gates import VOLTAGE
from .model import Model
from .sweep import Equations, Sweep

_RADIUS = 1e-9


@dataclass(frozen=True)
class Organising:
    """A cusp or a Bogdanov–Takens point.

    Attributes:
        kind: "cusp" or "bogdanov-takens".
        parameter, value: the number that was free, and its value there.
        I, V: applied current and potential there.
        certified: whether exactly one such point is proved to lie within 1e-9 of V and of the value (relative to 1).
    """

    kind: Literal["cusp", "bogdanov-takens"]
    parameter: str
    value: float
    I: float  # noqa: E741
    V: float
    certified: bool

    def __str__(self) -> str:
        return (
            f"{self.kind} at {self.parameter} = {self.value:.12g}, I = {self.I:.12g}, V = {self.V:.10g}"
            + ("" if self.certified else " (not certified)")
        )  # fmt: skip


def organising_points(
    model: Model, parameter: str, low: float, high: float, *, grid: tuple[int, int] = (400, 200)
) -> list[Organising]:
    """Cusps and Bogdanov–Takens points over a range of one number of the model, with V in its window.

    Args:
        parameter: a name such as "V3" or "m.half".
        low, high: its range.
        grid: potentials and values that are searched.

    Raises:
        ValueError: an unknown name, an empty range, or one at whose ends the model is none.
    """
    name = model.flat(parameter)
    if not low < high:
        raise ValueError(f"the range of {name} goes from the lower to the higher value, got {low:g} to {high:g}")
    for end in (low, high):
        model.with_({name: end})
    slope, bend, slow = _conditions(model)
    found = [*_search(model, name, (low, high), grid, "cusp", slope, bend)]
    if len(model.states) > 1:
        found += _search(model, name, (low, high), grid, "bogdanov-takens", slope, slow)
    return sorted(found, key=lambda p: p.value)


def _conditions(model: Model) -> tuple[Expression, Expression, Expression]:
    """I_ss', I_ss'' and C* as formulas in V and the numbers."""
    current = without_slopes(model.steady_current)
    slope = partial(current, VOLTAGE)
    slow: Any = variable("C")
    for by_gate, gate in zip(model.linear[1], model.states[1:], strict=True):
        moves = model.motions[gate]
        assert moves.speed is not None
        slow = slow - without_slopes(by_gate) * partial(without_slopes(moves.steady), VOLTAGE) / moves.speed
    return slope, partial(slope, VOLTAGE), without_slopes(constant(slow))


def _search(
    model: Model,
    name: str,
    span: tuple[float, float],
    grid: tuple[int, int],
    kind: Literal["cusp", "bogdanov-takens"],
    first: Expression,
    second: Expression,
) -> list[Organising]:
    v = np.linspace(*model.span, grid[0])[:, None]
    p = np.linspace(*span, grid[1])[None, :]
    names = (VOLTAGE, *model.values)
    values = Sweep([first, second], names)({**model.values, VOLTAGE: v, name: p})
    # Cells in which both change sign, at their corners.
    corners = np.stack([values[:, :-1, :-1], values[:, 1:, :-1], values[:, :-1, 1:], values[:, 1:, 1:]])
    mixed = np.logical_and(corners.min(0) <= 0, corners.max(0) >= 0).all(0)
    proof = _Proof(model, name, first, second)
    found: list[Organising] = []
    for i, k in np.argwhere(mixed):
        start = (float(v[i, 0] + v[i + 1, 0]) / 2, float(p[0, k] + p[0, k + 1]) / 2)
        place = proof.newton(start)
        if place is None:
            continue
        inside = model.span[0] <= place[0] <= model.span[1] and span[0] <= place[1] <= span[1]
        known = any(abs(place[0] - f.V) < 1e-6 and abs(place[1] - f.value) < 1e-6 for f in found)
        if inside and not known:
            current = Equations(model).steady_current(np.array([place[0]]), {name: place[1]})[0]
            found.append(Organising(kind, name, place[1], float(current), place[0], proof.holds(place)))
    return found


class _Proof:
    """Newton's method for two equations in (V, p), and Krawczyk's proof of its result."""

    def __init__(self, model: Model, name: str, first: Expression, second: Expression) -> None:
        others = {n: constant(Fraction(v)) for n, v in model.values.items() if n != name}
        parts = [first, second]
        parts += [partial(f, x) for f in (first, second) for x in (VOLTAGE, name)]
        whole = [constant(evaluate([f], {n: others.get(n, variable(n)) for n in f.variables})[0]) for f in parts]
        self._line = StraightLine([without_slopes(f) for f in whole], POINT_OPERATIONS, point, (VOLTAGE, name))

    def at(self, v: arb, p: arb) -> tuple[list[arb], list[list[arb]]]:
        f, g, fv, fp, gv, gp = self._line(v, p)
        return [f, g], [[fv, fp], [gv, gp]]

    def newton(self, start: tuple[float, float]) -> tuple[float, float] | None:
        """The zero that Newton's steps from here lead to; None if they lead nowhere."""
        x = np.array(start)
        with precision(PRECISION):
            for _ in range(40):
                f, matrix = self.at(arb(x[0]), arb(x[1]))
                values = np.array([[float(e.mid()) for e in row] for row in matrix])
                target = np.array([float(e.mid()) for e in f])
                if not np.isfinite(values).all() or abs(np.linalg.det(values)) < 1e-300:
                    return None
                step = np.linalg.solve(values, target)
                x = x - step
                if not np.isfinite(x).all() or np.abs(x - start).max() > 1e3:
                    return None
                if np.abs(step).max() < 1e-13 * max(1.0, np.abs(x).max()):
                    return float(x[0]), float(x[1])
        return None

    def holds(self, place: tuple[float, float]) -> bool:
        """Whether exactly one zero lies in a small box: x - Y f(x) + (1 - Y J(box)) (box - x) lies inside it."""
        with precision(PRECISION):
            radii = [arb(_RADIUS * max(1.0, abs(c))) for c in place]
            centre = [arb(c) for c in place]
            f, matrix = self.at(*centre)
            _, wide = self.at(*(c + arb(0, r) for c, r in zip(centre, radii, strict=True)))
            inverse = np.linalg.inv(np.array([[float(e.mid()) for e in row] for row in matrix]))
            for i in range(2):
                row = [arb(inverse[i, j]) for j in range(2)]
                moved = -(row[0] * f[0] + row[1] * f[1])
                for k in range(2):
                    rest = arb(1 if i == k else 0) - (row[0] * wide[0][k] + row[1] * wide[1][k])
                    moved += rest * arb(0, radii[k])
                if not abs(moved) < radii[i]:
                    return False
        return True
