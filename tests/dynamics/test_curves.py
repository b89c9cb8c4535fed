"""Curves of bifurcations in two parameters, against normal forms in closed form."""

import math

import numpy as np
import pytest

from varphi.dynamics.curves import continue_curve
from varphi.dynamics.cycles import continue_cycles, orbit_at_hopf, orbit_by_simulation
from varphi.dynamics.equilibria import EquilibriumBranch, SpecialEquilibrium, continue_equilibria
from varphi.dynamics.system import System

# z' = (p + i) z + a z|z|² - z|z|⁴: a Hopf point at p = 0, for a > 0 a fold of cycles at p = -a²/4.
BAUTIN = System.of(
    {
        "x": "p*x - y + a*x*(x^2+y^2) - x*(x^2+y^2)^2",
        "y": "p*y + x + a*y*(x^2+y^2) - y*(x^2+y^2)^2",
    },
    {"p": 0.0, "a": 1.0},
)
# Bogdanov and Takens: fold at b1 = 0, Hopf points at b2 = √-b1, homoclinic orbits near b2 = 5/7 √-b1.
TAKENS = System.of({"x": "y", "y": "b1 + b2*y + x^2 + x*y"}, {"b1": -1.0, "b2": 0.5})


def special(branch: EquilibriumBranch, kind: str) -> SpecialEquilibrium:
    return next(s for s in branch.specials if s.kind == kind)


def test_folds_of_cycles_in_closed_form() -> None:
    start, towards = orbit_at_hopf(BAUTIN, "p", np.zeros(2), 0.0)
    branch = continue_cycles(BAUTIN, "p", start, towards=towards, bounds=(-1, 2))
    curve = continue_curve(BAUTIN, branch.folds[0], ("p", "a"), {"p": (-3, 1), "a": (-1, 3)})
    assert curve.kind == "fold of cycles" and set(curve.ended) == {"hopf", "bounds"}
    p, a = curve.values.T
    np.testing.assert_allclose(p, -(a**2) / 4, atol=1e-10)
    np.testing.assert_allclose(curve.periods, 2 * math.pi, rtol=1e-9)
    for orbit, at in zip(curve.orbits, a, strict=True):
        np.testing.assert_allclose((orbit.y**2).sum(1), at / 2, rtol=1e-5, atol=1e-7)
    # It ends where the Hopf point changes from sub- to supercritical.
    (end,) = curve.specials
    assert end.kind == "generalised hopf" and end.values == pytest.approx((0, 0), abs=1e-3) and a.max() > 3


def test_hopf_points_in_closed_form() -> None:
    """The Brusselator: b = 1 + a², period 2π/a."""
    brusselator = System.of({"x": "a - (b+1)*x + x^2*y", "y": "b*x - x^2*y"}, {"a": 1.0, "b": 1.0})
    found = continue_equilibria(brusselator, "b", [1.0, 0.5], bounds=(0.5, 4.0))
    curve = continue_curve(brusselator, special(found, "hopf"), ("b", "a"), {"b": (0, 10), "a": (0.4, 2.5)})
    b, a = curve.values.T
    assert curve.ended == ("bounds", "bounds") and a.min() < 0.4 and a.max() > 2.5
    np.testing.assert_allclose(b, 1 + a**2, rtol=1e-12)
    np.testing.assert_allclose(curve.periods, 2 * math.pi / a, rtol=1e-11)


def test_folds_meet_in_a_cusp() -> None:
    """x' = b + m x - x³: folds at 27 b² = 4 m³."""
    cusp = System.of({"x": "b + m*x - x^3"}, {"b": 0.0, "m": 1.0})
    found = continue_equilibria(cusp, "b", [-1.3], bounds=(-1, 1))
    curve = continue_curve(cusp, found.folds[0], ("b", "m"), {"b": (-2, 2), "m": (-1, 2)})
    b, m = curve.values.T
    np.testing.assert_allclose(27 * b**2, 4 * m**3, atol=1e-11)
    assert b.min() < -1 and b.max() > 1  # both sides of the tip
    (tip,) = curve.specials
    assert tip.kind == "cusp" and tip.values == pytest.approx((0, 0), abs=1e-8)


def test_folds_hopf_points_and_homoclinic_orbits_at_a_bogdanov_takens_point() -> None:
    found = continue_equilibria(TAKENS, "b1", [-1.0, 0.0], bounds=(-1, 1))
    bounds = {"b1": (-2, 2), "b2": (-1, 1)}
    folds = continue_curve(TAKENS, special(found, "fold"), ("b1", "b2"), bounds)
    hopfs = continue_curve(TAKENS, special(found, "hopf"), ("b1", "b2"), bounds)
    np.testing.assert_allclose(folds.values[:, 0], 0, atol=1e-12)
    np.testing.assert_allclose(hopfs.values[:, 0], -(hopfs.values[:, 1] ** 2), atol=1e-12)
    assert "bogdanov-takens" in hopfs.ended
    for curve in (folds, hopfs):
        (point,) = curve.specials
        assert point.kind == "bogdanov-takens" and point.values == pytest.approx((0, 0), abs=1e-9)
    hopf = special(found, "hopf")
    start, towards = orbit_at_hopf(TAKENS, "b1", hopf.at.state, hopf.at.parameter)
    branch = continue_cycles(TAKENS, "b1", start, towards=towards, bounds=(-2, 1), largest_period=100)
    assert branch.ended == "period"
    loops = continue_curve(TAKENS, branch.points[-1].orbit, ("b1", "b2"), {"b1": (-2, 1), "b2": (0.03, 0.6)})
    b1, b2 = loops.values.T
    ratios = (b2 / np.sqrt(-b1))[np.argsort(b2)]
    assert loops.kind == "homoclinic" and (np.diff(ratios) > 0).all()
    # The ratio's distance from 5/7 shrinks with the distance from the point.
    assert ratios[0] == pytest.approx(5 / 7, abs=2e-3) and ratios[-1] == pytest.approx(5 / 7, abs=0.05)


def test_a_curve_of_period_doublings() -> None:
    """Rössler's first doubling in (c, a), each end found again by a branch in c alone."""
    roessler = System.of({"x": "-y - z", "y": "x + a*y", "z": "0.2 + z*(x - c)"}, {"c": 2.5, "a": 0.2})
    orbit = orbit_by_simulation(roessler, "c", 2.5, [1.0, 1.0, 0.5], section="y")
    branch = continue_cycles(roessler, "c", orbit, bounds=(2.0, 3.2), towards=1.0)
    (start,) = [s for s in branch.specials if s.kind == "period doubling"]
    curve = continue_curve(roessler, start, ("c", "a"), {"c": (2, 5), "a": (0.15, 0.25)})
    assert curve.kind == "period doubling" and len(curve.values) > 5
    for k in (1, -2):
        c, a = curve.values[k]
        again = continue_cycles(
            roessler, "c", curve.orbits[k], bounds=(c - 0.3, c + 0.3), towards=-1.0, parameters={"a": a}
        )
        found = [s for s in continue_cycles(
            roessler, "c", again.points[-1].orbit, bounds=(c - 0.5, c + 0.3), towards=1.0, parameters={"a": a}
        ).specials if s.kind == "period doubling"]  # fmt: skip
        assert [s.parameter for s in found] == pytest.approx([c], abs=1e-7)


def test_impossible_curves_are_refused() -> None:
    start, towards = orbit_at_hopf(BAUTIN, "p", np.zeros(2), 0.0)
    branch = continue_cycles(BAUTIN, "p", start, towards=towards, bounds=(-1, 2))
    fold, bounds = branch.folds[0], {"p": (-3.0, 1.0), "a": (-1.0, 3.0), "q": (0.0, 1.0)}
    with pytest.raises(ValueError, match="no parameter 'q'"):
        continue_curve(BAUTIN, fold, ("p", "q"), bounds)
    with pytest.raises(ValueError, match="two different parameters"):
        continue_curve(BAUTIN, fold, ("p", "p"), bounds)
    with pytest.raises(ValueError, match="finite increasing range of 'a'"):
        continue_curve(BAUTIN, fold, ("p", "a"), {"p": (-3, 1)})
    with pytest.raises(ArithmeticError, match="not found again near its start in p and a"):
        continue_curve(BAUTIN, fold, ("p", "a"), bounds, parameters={"a": -3.0})
