"""Branches of equilibria against closed forms and published points."""

import math

import numpy as np
import pytest

from varphi.dynamics.equilibria import continue_equilibria
from varphi.dynamics.system import System

# The cubic has folds where 3x² = 1.
CUBIC = System.of({"x": "p + x - x^3"}, {"p": 0.0})
FITZHUGH = System.of({"v": "v - v^3/3 - w + i", "w": "0.08*(v + 0.7 - 0.8*w)"}, {"i": 0.0})


def test_folds_of_the_cubic() -> None:
    branch = continue_equilibria(CUBIC, "p", [-1.5], bounds=(-1.0, 1.0))
    root = 1 / math.sqrt(3)
    assert [f.at.parameter for f in branch.folds] == pytest.approx([root - root**3, root**3 - root], abs=1e-12)
    # Where the branch turns, its states are only good to the root of rounding.
    assert [f.at.state[0] for f in branch.folds] == pytest.approx([-root, root], abs=1e-6)
    assert branch.ended == "parameter"
    x, p = branch.state("x"), branch.parameters
    np.testing.assert_allclose(p + x - x**3, 0, atol=1e-10)
    for point in branch.points:
        assert point.stable == (abs(point.state[0]) > root)


def test_hopf_points_of_fitzhugh_and_nagumo() -> None:
    """At v = ±√.936; the currents are in closed form."""
    branch = continue_equilibria(FITZHUGH, "i", [-1.2, -0.6], bounds=(0.0, 2.0))
    assert [s.kind for s in branch.specials] == ["hopf", "hopf"]
    assert [s.at.parameter for s in branch.specials] == pytest.approx([0.331281337454746, 1.418718662545254], abs=1e-9)
    assert [s.at.state[0] for s in branch.specials] == pytest.approx([-math.sqrt(0.936), math.sqrt(0.936)], abs=1e-8)
    assert branch.specials[0].frequency == pytest.approx(math.sqrt(0.08 - 0.064**2), rel=1e-6)


def test_folds_and_hopf_of_morris_lecar() -> None:
    system = System.of(
        {
            "v": "(i - 4*0.5*(1+tanh((v+1.2)/18))*(v-120) - 8*w*(v+84) - 2*(v+60))/20",
            "w": "(0.5*(1+tanh((v-12)/17.4)) - w)*cosh((v-12)/34.8)/15",
        },
        {"i": 0.0},
    )
    branch = continue_equilibria(system, "i", [-70.0, 0.0], bounds=(-50.0, 150.0))
    found = [(s.kind, s.at.parameter) for s in branch.specials]
    assert [k for k, _ in found] == ["fold", "fold", "hopf"]
    assert [p for _, p in found] == pytest.approx([39.963153092745, -9.949039322623, 97.787888964024], abs=1e-7)


def test_a_branch_may_begin_at_the_upper_end() -> None:
    branch = continue_equilibria(CUBIC, "p", [1.5], bounds=(-1.0, 1.0), begin=1.0)
    assert branch.parameters[0] == pytest.approx(1.0) and len(branch.folds) == 2 and branch.parameters[-1] < -1.0


def test_unusable_arguments() -> None:
    with pytest.raises(ValueError, match="no parameter 'q'"):
        continue_equilibria(CUBIC, "q", [0.0], bounds=(0, 1))
    with pytest.raises(ValueError, match="bounds must be finite"):
        continue_equilibria(CUBIC, "p", [0.0], bounds=(1, 0))
    with pytest.raises(ValueError, match="outside the bounds"):
        continue_equilibria(CUBIC, "p", [0.0], bounds=(0, 1), begin=3)
    with pytest.raises(ValueError, match="finite numbers"):
        continue_equilibria(CUBIC, "p", [math.nan], bounds=(0, 1))
    with pytest.raises(ArithmeticError, match="no equilibrium"):
        continue_equilibria(System.of({"x": "1 + x^2 + p"}, {"p": 0.0}), "p", [0.3], bounds=(0, 1))
