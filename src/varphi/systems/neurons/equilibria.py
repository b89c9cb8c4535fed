"""Equilibria and the points at which they change, listed completely, with proof.

Folds and Hopf points are zeros of functions of V alone (`branch`), and all zeros of these on the model's window are
enclosed by ball arithmetic and the interval Newton method. A number is certified when its ball proves every digit that
is shown; what could not be decided is named with its stretch of V.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from flint import acb, acb_mat, arb, arb_series

from varphi.numbers.ball import point, precision
from varphi.numbers.roots import Zeros, zeros
from varphi.numbers.series import lift, program

from .branch import Branch, at, capped, characteristic, hurwitz, squared_frequency
from .gates import VOLTAGE
from .model import APPLIED, Model

PRECISION = 106
# A ball this narrow, relative to its value, shows every digit of a float.
_SHARP = 1e-14


@dataclass(frozen=True)
class Special:
    """A fold or a Hopf point of the equilibria.

    Attributes:
        kind: "fold" (saddle-node) or "hopf".
        I: applied current, µA/cm².
        V: potential, mV.
        state: V and the gates, by name.
        unstable: how many eigenvalues have a positive real part at the point itself.
        period: 2π/ω at a Hopf point, ms; NaN at a fold.
        lyapunov: the first Lyapunov coefficient a = Re c₁ of Kuznetsov (MatCont's normalisation, unit critical
            eigenvector) at a Hopf point; NaN at a fold.
        curvature: I_ss''(V) at a fold, µA/cm²/mV²: the equilibria lie at larger currents where it is positive.
        certified: whether I, V, the kind, the sign of `lyapunov` (of `curvature`) and the count are proved.
    """

    kind: Literal["fold", "hopf"]
    I: float  # noqa: E741
    V: float
    state: dict[str, float]
    unstable: int
    period: float
    lyapunov: float
    curvature: float
    certified: bool

    @property
    def type(self) -> str:
        """ "subcritical", "supercritical" or, for a fold, which way it opens."""
        if self.kind == "fold":
            return "two equilibria above" if self.curvature > 0 else "two equilibria below"
        return "subcritical" if self.lyapunov > 0 else "supercritical"

    def __str__(self) -> str:
        told = f"{self.kind} at I = {self.I:.12g}, V = {self.V:.10g}"
        if self.kind == "hopf":
            told += f", {self.type} (a = {self.lyapunov:.5g}), period {self.period:.8g}"
        else:
            told += f", {self.type}"
        return told + ("" if self.certified else " (not certified)")


@dataclass(frozen=True)
class SpecialPoints:
    """Every fold and Hopf point of a model with V in its window.

    Attributes:
        model: whose.
        points: in the order of V.
        undecided: (kind, lowest V, highest V) of stretches in which more may lie.
    """

    model: Model
    points: tuple[Special, ...]
    undecided: tuple[tuple[str, float, float], ...]

    @property
    def complete(self) -> bool:
        """Whether the list is proved to be complete."""
        return not self.undecided

    @property
    def folds(self) -> tuple[Special, ...]:
        """The folds alone."""
        return tuple(p for p in self.points if p.kind == "fold")

    @property
    def hopfs(self) -> tuple[Special, ...]:
        """The Hopf points alone."""
        return tuple(p for p in self.points if p.kind == "hopf")

    def __str__(self) -> str:
        low, high = self.model.span
        unit = self.model.unit(VOLTAGE).strip(" ()")
        where = f"for V from {low:g} to {high:g} {unit}".rstrip()
        counts = f"{_count(len(self.folds), 'fold')}, {_count(len(self.hopfs), 'Hopf point')}"
        lines = [f"{self.model.name}: {counts} {where}"]
        lines += [f"  {p}" for p in self.points]
        lines.append(
            "  complete: proved" if self.complete else "  undecided: " + ", ".join(
                f"{kind} for V in [{a:.9g}, {b:.9g}]" for kind, a, b in self.undecided
            )
        )  # fmt: skip
        return "\n".join(lines)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


@dataclass(frozen=True)
class Equilibrium:
    """A state that stands still.

    Attributes:
        I, V: applied current and potential.
        state: V and the gates, by name.
        unstable: how many eigenvalues have a positive real part.
        eigenvalues: of the Jacobian, 1/ms, by falling real part.
        certified: whether V and `unstable` are proved.
    """

    I: float  # noqa: E741
    V: float
    state: dict[str, float]
    unstable: int
    eigenvalues: tuple[complex, ...]
    certified: bool

    @property
    def stable(self) -> bool:
        """Whether small disturbances die out."""
        return self.unstable == 0

    @property
    def kind(self) -> str:
        """Node, focus or saddle, after the leading eigenvalues."""
        if self.unstable % 2 == 1 and len(self.eigenvalues) > 1:
            return "saddle"
        leading = self.eigenvalues[0 if self.stable or len(self.eigenvalues) == 1 else 1]
        shape = "focus" if abs(leading.imag) > 0 else "node"
        return f"{'stable' if self.stable else 'unstable'} {shape}"


@functools.lru_cache(maxsize=256)
def special_points(model: Model) -> SpecialPoints:
    """All folds and Hopf points with V in the model's window, with proof of completeness.

    The method encloses every zero of I_ss'(V) and of the Hurwitz determinant; pairs that are real at the latter
    (neutral saddles) are no bifurcations and are left out.
    """
    with precision(PRECISION):
        branch = Branch(model)
        low, high = model.span
        folds = zeros(branch.fold, low, high)
        found = [_fold(branch, v) for v in folds.simple]
        undecided = [("fold", a, b) for a, b in folds.undecided]
        if branch.gates:
            pairs = zeros(branch.hurwitz, low, high)
            undecided += [("hopf", a, b) for a, b in pairs.undecided]
            for v in pairs.simple:
                hopf = _hopf(branch, v)
                if hopf is None:
                    undecided.append(("hopf", float(v.lower()), float(v.upper())))
                elif hopf.kind == "hopf" and math.isfinite(hopf.period):
                    found.append(hopf)
    return SpecialPoints(model, tuple(sorted(found, key=lambda p: p.V)), tuple(undecided))


def _fold(branch: Branch, v: arb) -> Special:
    coefficients = at(branch.current_line, v, 3)[0]
    current, curvature = coefficients[0], 2 * coefficients[2]
    count = unstable(deflated(characteristic(*branch.jacobian_parts(v))))
    state, sharp = _state(branch, v)
    certified = sharp and _sharp(current) and not curvature.contains(0) and count is not None
    return Special(
        "fold", _float(current), _float(v), state, count or 0, math.nan, math.nan, _float(curvature), certified
    )


def _hopf(branch: Branch, v: arb) -> Special | None:
    """The Hopf point at v; with a period that is NaN if the pair is real; None if that is not decided."""
    parts = branch.jacobian_parts(v)
    polynomial = characteristic(*parts)
    square = squared_frequency(polynomial)
    current = at(branch.current_line, v, 1)[0][0]
    state, sharp = _state(branch, v)
    if square < 0:
        return Special("hopf", _float(current), _float(v), state, 0, math.nan, math.nan, math.nan, False)
    if not square > 0:
        return None
    omega = square.sqrt()
    period = 2 * arb.pi() / omega
    rest = unstable(_without_pair(polynomial, square))
    a = lyapunov(branch, v, parts, omega)
    certified = sharp and all(map(_sharp, (current, period))) and not a.contains(0) and rest is not None
    return Special("hopf", _float(current), _float(v), state, rest or 0, _float(period), _float(a), math.nan, certified)


def deflated(polynomial: Sequence[arb]) -> list[arb]:
    """The polynomial without its root 0, which is there exactly."""
    return list(polynomial[:-1])


def _without_pair(polynomial: Sequence[arb], square: arb) -> list[arb]:
    """The quotient by λ² + ω², highest power first."""
    rest, found = list(polynomial), []
    while len(rest) > 2:
        found.append(rest[0])
        rest = [rest[1], rest[2] - rest[0] * square, *rest[3:]]
    return found


def unstable(polynomial: Sequence[arb]) -> int | None:
    """How many roots have a positive real part (Routh–Hurwitz); None where the balls do not tell.

    The ratios of successive Hurwitz determinants are Routh's first column.
    """
    n = len(polynomial) - 1
    minors = [polynomial[0], *(hurwitz(polynomial, k) for k in range(1, n + 1))]
    if any(m.contains(0) for m in minors):
        return None
    signs = [1 if m > 0 else -1 for m in minors]
    column = [signs[0], *(b * a for a, b in itertools.pairwise(signs))]
    return sum(a != b for a, b in itertools.pairwise(column))


def _float(x: arb) -> float:
    return float(x.mid())


def _sharp(x: arb) -> bool:
    return bool(x.rad() <= _SHARP * abs(x.mid()) + 1e-300) if x.is_finite() else False


def _state(branch: Branch, v: arb) -> tuple[dict[str, float], bool]:
    balls = branch.state(v)
    return dict(zip(branch.model.states, map(_float, balls), strict=True)), all(b.rad() < 1e-13 for b in balls)


# The first Lyapunov coefficient -------------------------------------------------------------------------------------


class _Forms:
    """The symmetric second and third derivatives of the right-hand side at a point, applied to complex vectors."""

    def __init__(self, model: Model, state: Sequence[arb]) -> None:
        system = model.system()
        rates = [model.substituted(r) for r in system.rates]
        self._rates = program([r for r in rates], (*system.states, APPLIED))
        self.state = list(state)

    def _directional(self, u: Sequence[arb], order: int) -> list[arb]:
        with capped(4):
            inputs = [arb_series([x, d], 4) for x, d in zip(self.state, u, strict=True)]
            return [math.factorial(order) * f[order] for f in self._rates(*inputs, lift(0))]

    def _second(self, u: Sequence[arb], v: Sequence[arb]) -> list[arb]:
        if u is v:
            return self._directional(u, 2)
        plus, minus = _add(u, v), _add(u, v, -1)
        both = zip(self._directional(plus, 2), self._directional(minus, 2), strict=True)
        return [(p - m) / 4 for p, m in both]

    def second(self, u: Sequence[acb], v: Sequence[acb]) -> list[acb]:
        """B(u, v)."""
        ur, ui, vr, vi = _real(u), _imaginary(u), _real(v), _imaginary(v)
        parts = [self._second(*pair) for pair in ((ur, vr), (ui, vi), (ur, vi), (ui, vr))]
        return [acb(rr - ii, ri + ir) for rr, ii, ri, ir in zip(*parts, strict=True)]

    def third(self, q: Sequence[acb]) -> list[acb]:
        """C(q, q, q̄)."""
        r, i = _real(q), _imaginary(q)
        cubes = [self._directional(u, 3) for u in (r, i, _add(r, i), _add(r, i, -1))]
        found = []
        for rrr, iii, plus, minus in zip(*cubes, strict=True):
            rri, iir = (plus - minus - 2 * iii) / 6, (plus + minus - 2 * rrr) / 6
            found.append(acb(rrr + iir, rri + iii))
        return found


def _add(u: Sequence[arb], v: Sequence[arb], sign: int = 1) -> list[arb]:
    return [a + sign * b for a, b in zip(u, v, strict=True)]


def _real(u: Sequence[acb]) -> list[arb]:
    return [z.real for z in u]


def _imaginary(u: Sequence[acb]) -> list[arb]:
    return [z.imag for z in u]


def lyapunov(branch: Branch, v: arb, parts: tuple[arb, list[arb], list[arb], list[arb]], omega: arb) -> arb:
    """a = Re c₁ = ½ Re⟨p, C(q,q,q̄) - 2B(q, A⁻¹B(q,q̄)) + B(q̄, (2iω - A)⁻¹B(q,q))⟩ with ⟨q,q⟩ = ⟨p,q⟩ = 1.

    Kuznetsov, Elements of Applied Bifurcation Theory, 3rd ed., Springer 2004, section 5.4.
    """
    a, b, c, r = parts
    pole = acb(0, omega)
    right = [acb(1), *(acb(ci) / (pole + ri) for ci, ri in zip(c, r, strict=True))]
    size = sum((abs(z) ** 2 for z in right), arb(0)).sqrt()
    q = [z / size for z in right]
    left = [acb(1), *(acb(bi) / (pole + ri) for bi, ri in zip(b, r, strict=True))]
    product = sum((x * y for x, y in zip(left, q, strict=True)), acb(0))
    p = [z / product for z in left]
    n = len(q)
    matrix = [[acb(0)] * n for _ in range(n)]
    matrix[0] = [acb(a), *map(acb, b)]
    for k, (ci, ri) in enumerate(zip(c, r, strict=True), 1):
        matrix[k][0], matrix[k][k] = acb(ci), acb(-ri)
    jacobian = acb_mat(matrix)
    shifted = acb_mat([[(2 * pole if i == j else acb(0)) - matrix[i][j] for j in range(n)] for i in range(n)])
    forms = _Forms(branch.model, branch.state(v))
    conjugate = [z.conjugate() for z in q]
    first = _solved(jacobian, forms.second(q, conjugate))
    second = _solved(shifted, forms.second(q, q))
    total = zip(forms.third(q), forms.second(q, first), forms.second(conjugate, second), strict=True)
    whole = sum((pi * (x - 2 * y + z) for pi, (x, y, z) in zip(p, total, strict=True)), acb(0))
    return whole.real / 2


def _solved(matrix: Any, vector: Sequence[acb]) -> list[acb]:
    found = matrix.solve(acb_mat([[z] for z in vector]))
    return [found[i, 0] for i in range(len(vector))]


# Equilibria at a current --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Equilibria:
    """All equilibria at one current with V in the model's window.

    Attributes:
        found: in the order of V.
        undecided: stretches of V in which more may lie.
    """

    found: tuple[Equilibrium, ...]
    undecided: tuple[tuple[float, float], ...]

    def __iter__(self) -> Iterator[Equilibrium]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    @property
    def complete(self) -> bool:
        """Whether there are no others, proved."""
        return not self.undecided

    @property
    def stable(self) -> tuple[Equilibrium, ...]:
        """Those that are stable: the states of rest."""
        return tuple(e for e in self.found if e.stable)


def equilibria(model: Model, I: float | str) -> Equilibria:  # noqa: E741
    """All equilibria at the applied current I (µA/cm²).

    Raises:
        ValueError: a current at which none lies in the model's window, or none in its unit.
    """
    current = model.applied(I)
    with precision(PRECISION):
        branch = Branch(model)
        applied = point(current)
        found: Zeros = zeros(lambda v: branch.current(v) - applied, *model.span)
        if not found.simple and not found.undecided:
            raise ValueError(_outside(model, branch, current))
        return Equilibria(tuple(_equilibrium(branch, v, current) for v in found.simple), found.undecided)


def _outside(model: Model, branch: Branch, applied: float) -> str:
    low, high = model.span
    ends = sorted(_float(at(branch.current_line, arb(v), 1)[0][0]) for v in (low, high))
    return (
        f"at I = {applied:g} no equilibrium of {model.name} lies between {low:g} and {high:g}: the window's ends are "
        f"equilibria at I = {ends[0]:.6g} and {ends[1]:.6g}; choose a current between, or a wider window"
    )


def _equilibrium(branch: Branch, v: arb, applied: float) -> Equilibrium:
    parts = branch.jacobian_parts(v)
    count = unstable(characteristic(*parts))
    values = sorted(np.linalg.eigvals(jacobian_matrix(parts)), key=lambda z: (-z.real, -z.imag))
    state, sharp = _state(branch, v)
    measured = sum(z.real > 0 for z in values)
    return Equilibrium(
        applied,
        _float(v),
        state,
        measured if count is None else count,
        tuple(complex(z) for z in values),
        sharp and count is not None,
    )


def jacobian_matrix(parts: tuple[arb, list[arb], list[arb], list[arb]]) -> np.ndarray:
    """The Jacobian of the arrow's shape, as floats."""
    a, b, c, r = parts
    n = 1 + len(r)
    matrix = np.zeros((n, n))
    matrix[0] = [_float(a), *map(_float, b)]
    for k, (ci, ri) in enumerate(zip(c, r, strict=True), 1):
        matrix[k, 0], matrix[k, k] = _float(ci), -_float(ri)
    return matrix
