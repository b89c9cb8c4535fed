"""Branches of periodic orbits against AUTO-07p's digits and closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest

from varphi.dynamics.approach import approach
from varphi.dynamics.collocation import rule
from varphi.dynamics.cycles import (
    CycleBranch,
    Orbit,
    continue_cycles,
    orbit_at_doubling,
    orbit_at_hopf,
    orbit_by_simulation,
)
from varphi.dynamics.system import System

NERVE = System.of(
    {
        "v": "i - 120*m^3*h*(v-50) - 36*n^4*(v+77) - 0.3*(v+54.387)",
        "m": "explinear((v+40)/10)*(1-m) - 4*exp(-(v+65)/18)*m",
        "h": "0.07*exp(-(v+65)/20)*(1-h) - h/(1+exp(-(v+35)/10))",
        "n": "0.1*explinear((v+55)/10)*(1-n) - 0.125*exp(-(v+65)/80)*n",
    },
    {"i": 10.0},
)
# z' = (p + i) z + z|z|² - z|z|⁴: cycles of amplitude a with p = a⁴ - a², period 2π, a fold at p = -1/4.
BAUTIN = System.of(
    {
        "x": "p*x - y + x*(x^2+y^2) - x*(x^2+y^2)^2",
        "y": "p*y + x + y*(x^2+y^2) - y*(x^2+y^2)^2",
    },
    {"p": 0.0},
)


def morris_lecar(g: float, v3: float, v4: float, phi: float) -> System:
    return System.of(
        {
            "v": f"(i - {g!r}*0.5*(1+tanh((v+1.2)/18))*(v-120) - 8*w*(v+84) - 2*(v+60))/20",
            "w": f"{phi!r}*(0.5*(1+tanh((v-{v3!r})/{v4!r})) - w)*cosh((v-{v3!r})/(2*{v4!r}))",
        },
        {"i": 90.0},
    )


def from_hopf(system: System, state: list[float], value: float, bounds: tuple[float, float], **options) -> CycleBranch:
    name = next(iter(system.parameters))
    start, towards = orbit_at_hopf(system, name, np.array(state), value)
    return continue_cycles(system, name, start, towards=towards, bounds=bounds, **options)


def test_the_rule_is_gauss_and_lagrange() -> None:
    for m in (2, 4, 5):
        found = rule(m)
        assert found.weights.sum() == pytest.approx(1)
        np.testing.assert_allclose(found.values.sum(1), 1, rtol=1e-13)
        nodes = np.linspace(0, 1, m + 1)
        for k in range(m + 1):  # powers are interpolated and differentiated exactly
            np.testing.assert_allclose(found.values @ nodes**k, found.points**k, atol=1e-12)
            np.testing.assert_allclose(found.slopes @ nodes**k, k * found.points ** max(k - 1, 0), atol=1e-11)


def test_a_branch_in_closed_form() -> None:
    branch = from_hopf(BAUTIN, [0.0, 0.0], 0.0, (-1.0, 2.0))
    assert branch.ended == "parameter"
    (fold,) = branch.folds
    assert fold.parameter == pytest.approx(-0.25, abs=1e-10) and fold.period == pytest.approx(2 * math.pi, rel=1e-10)
    for point in branch.points:
        a2 = (point.orbit.y**2).sum(1)
        np.testing.assert_allclose(a2, a2[0], rtol=1e-6)
        p = point.orbit.parameter
        assert p == pytest.approx(a2[0] ** 2 - a2[0], abs=1e-7)
        # The multiplier is exp(2π · d/da of the radial equation).
        expected = math.exp(2 * math.pi * (p + 3 * a2[0] - 5 * a2[0] ** 2))
        if 1e-6 < expected < 1e6:
            assert abs(point.multipliers[0]) == pytest.approx(expected, rel=1e-4)
        assert abs(point.trivial - 1) < 1e-6 and point.error < 1e-6
        if abs(p + 0.25) > 1e-3:
            assert point.stable == (a2[0] > 0.5)


def test_three_folds_of_the_nerve() -> None:
    """Two of them lie one per cent apart."""
    branch = from_hopf(NERVE, [-59.6541436, 0.09725735, 0.40622752, 0.40178413], 9.775437995393, (0, 200))
    found = [f.parameter for f in branch.folds]
    assert found == pytest.approx([7.8423471202, 7.9177854943, 6.2603212745], abs=1e-8)
    assert [f.period for f in branch.folds] == pytest.approx([16.71379, 20.70729, 19.89524], abs=1e-5)
    # It ends at the other Hopf point.
    assert branch.ended == "rest"
    hopf = branch.specials[-1]
    assert hopf.kind == "hopf" and hopf.parameter == pytest.approx(154.522433665808, abs=1e-3)


@pytest.mark.parametrize(
    "setting, state, value, bounds, folds, ended",
    [
        (
            (4.4, 2, 30, 0.04),
            [-25.27010488, 0.13967319],
            93.857618373725,
            (50, 250),
            [88.293250543, 216.89980139],
            "rest",
        ),
        ((4, 12, 17.4, 1 / 15), [8.3415938, 0.39639557], 97.787888964024, (20, 150), [116.1095371689], "period"),
        ((4, 12, 17.4, 0.23), [4.41075572, 0.29477035], 36.316217496203, (0, 150), [40.5933519584], "period"),
    ],
)  # fmt: skip
def test_folds_of_morris_lecar(
    setting: tuple, state: list, value: float, bounds: tuple, folds: list, ended: str
) -> None:
    branch = from_hopf(morris_lecar(*setting), state, value, bounds, largest_period=3000)
    assert [f.parameter for f in branch.folds] == pytest.approx(folds, abs=1e-8)
    assert branch.ended == ended
    # In the plane a multiplier cannot be negative.
    assert not [s for s in branch.specials if s.kind == "period doubling"]


def test_the_homoclinic_orbit() -> None:
    branch = from_hopf(
        morris_lecar(4, 12, 17.4, 0.23), [4.41075572, 0.29477035], 36.316217496203, (0, 150), largest_period=3000
    )
    assert branch.parameters[-1] == pytest.approx(35.006734198, abs=1e-6)
    assert branch.points[-1].stable is None  # no digits are left, and it says so


def test_a_start_by_simulation() -> None:
    orbit = orbit_by_simulation(NERVE, "i", 10.0, [-65, 0.05, 0.6, 0.32], section="v + 40")
    assert 1000 / orbit.period == pytest.approx(68.323698601, rel=1e-7)
    branch = continue_cycles(NERVE, "i", orbit, bounds=(9.0, 20.0), towards=-1.0)
    assert branch.parameters[0] == pytest.approx(10.0, abs=1e-3) and branch.parameters[-1] < 9.0
    assert all(p.stable for p in branch.points)
    frequencies = dict(zip(branch.parameters.tolist(), (1000 / branch.periods).tolist(), strict=True))
    assert min(frequencies.values()) > 60


def test_an_orbit_is_a_polynomial_on_any_mesh() -> None:
    orbit = orbit_by_simulation(BAUTIN, "p", 1.0, [1.0, 0.0], section="y")
    fine = orbit.on(np.linspace(0, 1, 101) ** 1.2)
    phases = np.linspace(0, 1, 37)
    np.testing.assert_allclose(fine(phases), orbit(phases), atol=1e-6)
    assert fine.degree == orbit.degree == 4
    assert isinstance(fine, Orbit) and np.all(fine.highs >= fine.lows)


def test_period_doubling_of_roessler() -> None:
    """The first period doubling of Rössler's system, a = b = 0.2, is near c = 2.83."""
    roessler = System.of({"x": "-y - z", "y": "x + 0.2*y", "z": "0.2 + z*(x - c)"}, {"c": 2.5})
    orbit = orbit_by_simulation(roessler, "c", 2.5, [1.0, 1.0, 0.5], section="y")
    branch = continue_cycles(roessler, "c", orbit, bounds=(2.0, 3.2), towards=1.0)
    (doubling,) = [s for s in branch.specials if s.kind == "period doubling"]
    assert doubling.parameter == pytest.approx(2.8324, abs=2e-3)
    assert branch.points[0].stable and branch.points[-1].stable is False


def test_unusable_starts() -> None:
    with pytest.raises(ValueError, match="no complex eigenvalues"):
        orbit_at_hopf(System.of({"x": "-x", "y": "-2*y + p"}, {"p": 0.0}), "p", np.zeros(2), 0.0)
    with pytest.raises(ValueError, match="not a Hopf point"):
        orbit_at_hopf(BAUTIN, "p", np.zeros(2), 1.0)
    with pytest.raises(ArithmeticError, match="no periodic orbit at p = -1"):
        orbit_by_simulation(BAUTIN, "p", -1.0, [0.3, 0.0], section="y", longest=200.0)
    start, towards = orbit_at_hopf(BAUTIN, "p", np.zeros(2), 0.0)
    with pytest.raises(ValueError, match="no parameter 'q'"):
        continue_cycles(BAUTIN, "q", start, towards=towards, bounds=(-1, 1))
    with pytest.raises(ValueError, match="bounds must be finite"):
        continue_cycles(BAUTIN, "p", start, towards=towards, bounds=(1, -1))


# Multipliers ----------------------------------------------------------------------------------------------------------


def trace_along(system: System, orbit: Orbit) -> float:
    """∫ trace of the Jacobian over a period, by Gauss's formula on the orbit's own intervals."""
    points, weights = np.polynomial.legendre.leggauss(8)
    name = next(iter(system.parameters))
    total = 0.0
    for low, high in zip(orbit.mesh[:-1], orbit.mesh[1:], strict=True):
        phases = low + (high - low) * (points + 1) / 2
        for state, weight in zip(orbit(phases), weights, strict=True):
            values = dict(system.parameters) | {name: orbit.parameter, "t": 0.0}
            values |= dict(zip(system.states, state.tolist(), strict=True))
            diagonal = [system.jacobian[k][k] for k in range(len(system.states))]
            trace = sum(float(e.evaluate(**{v: values[v] for v in e.variables})) for e in diagonal)
            total += trace * weight / 2 * (high - low)
    return total * orbit.period


def test_the_product_of_multipliers_is_that_of_the_divergence() -> None:
    """Liouville's formula, for an oscillator whose multipliers keep their digits and for the plane."""
    oscillator = System.of({"x": "-y - z", "y": "x + 0.2*y", "z": "0.2 + z*(x - c)"}, {"c": 2.5})
    orbit = orbit_by_simulation(oscillator, "c", 2.5, [1.0, 1.0, 0.5], section="y")
    branch = continue_cycles(oscillator, "c", orbit, bounds=(2.3, 2.8), towards=1.0)
    plane = from_hopf(morris_lecar(4.4, 2, 30, 0.04), [-25.27010488, 0.13967319], 93.857618373725, (50, 250))
    seen = 0
    for system, points in ((oscillator, branch.points[::3]), (morris_lecar(4.4, 2, 30, 0.04), plane.points[::12])):
        for point in points:
            expected = math.exp(trace_along(system, point.orbit))
            if expected > 1e-5:
                assert np.prod(point.multipliers).real == pytest.approx(expected, rel=1e-4)
                assert point.error < 1e-5
                seen += 1
    assert seen >= 6


def test_the_canard_has_its_folds() -> None:
    """FitzHugh–Nagumo's cycles explode within 1e-8 of one current; the two folds are images of each other."""
    nerve = System.of({"v": "v - v^3/3 - w + i", "w": "0.08*(v + 0.7 - 0.8*w)"}, {"i": 0.3})
    v = -math.sqrt(0.936)
    branch = from_hopf(nerve, [v, (v + 0.7) / 0.8], 0.331281337454746, (-1, 3))
    low, high = sorted(f.parameter for f in branch.folds)
    assert low + high == pytest.approx(1.75, abs=1e-10) and low == pytest.approx(0.324178522504, abs=1e-10)
    hopf = branch.specials[-1]
    assert hopf.kind == "hopf" and hopf.parameter == pytest.approx(1.418718662545254, abs=1e-12)
    assert hopf.period == pytest.approx(2 * math.pi / math.sqrt(0.08 * (1 - 0.8 * 0.08 * 0.8)), rel=1e-10)


def test_no_fold_is_reported_where_the_parameter_only_stands_still() -> None:
    """The homoclinic end of I_Na,p + I_K, where the parameter is constant but for the mesh's error."""
    neuron = System.of(
        {
            "v": "i - 8*(v+80) - 20*sigmoid((v+20)/15)*(v-60) - 10*n*(v+90)",
            "n": "(sigmoid((v+25)/5) - n)/0.152",
        },
        {"i": 0.0},
    )
    orbit = orbit_by_simulation(neuron, "i", 10.0, [-40.0, 0.1], section="v + 40")
    branch = continue_cycles(neuron, "i", orbit, bounds=(-50, 60), towards=-1.0, largest_period=1000)
    assert branch.ended == "period" and not branch.folds


def test_doublings_lead_to_doublings() -> None:
    """Rössler's cascade, each branch from the one before; the single orbit loses its stability to the double one."""
    oscillator = System.of({"x": "-y - z", "y": "x + 0.2*y", "z": "0.2 + z*(x - c)"}, {"c": 2.5})
    orbit = orbit_by_simulation(oscillator, "c", 2.5, [1.0, 1.0, 0.5], section="y")
    branch = continue_cycles(oscillator, "c", orbit, bounds=(2.0, 3.2), towards=1.0)
    found = []
    for upper in (4.0, 4.13):
        (doubling,) = [s for s in branch.specials if s.kind == "period doubling"]
        found.append(doubling)
        start, towards = orbit_at_doubling(oscillator, "c", doubling)
        branch = continue_cycles(oscillator, "c", start, towards=towards, bounds=(2.0, upper))
        assert branch.points[1].stable and branch.periods[1] == pytest.approx(2 * doubling.period, rel=0.02)
    assert [d.parameter for d in found] == pytest.approx([2.832445, 3.837358], abs=2e-6)
    # What the doubled orbit is, a simulation finds.
    known = orbit_by_simulation(oscillator, "c", 3.5, [1.0, 1.0, 0.5], section="y")
    (first, towards) = orbit_at_doubling(oscillator, "c", found[0])
    double = continue_cycles(oscillator, "c", first, towards=towards, bounds=(2.0, 3.8))
    periods = np.interp(3.5, double.parameters, double.periods)
    assert known.period == pytest.approx(periods, rel=1e-3)
    with pytest.raises(ValueError, match="orbits double at a period doubling"):
        orbit_at_doubling(oscillator, "c", replace(found[0], kind="torus"))


# How a branch ends ----------------------------------------------------------------------------------------------------


def test_a_saddle_node_on_the_cycle_in_closed_form() -> None:
    """r' = r (1 - r²), φ' = p + 1 - cos φ: a fold of equilibria on the cycle at p = 0, T = 2π/√(p² + 2p)."""
    ring = System.of(
        {
            "x": "x*(1-x^2-y^2) - y*(p + 1 - x/sqrt(x^2+y^2))",
            "y": "y*(1-x^2-y^2) + x*(p + 1 - x/sqrt(x^2+y^2))",
        },
        {"p": 1.0},
    )
    orbit = orbit_by_simulation(ring, "p", 1.0, [0.5, 0.5], section="y")
    branch = continue_cycles(ring, "p", orbit, bounds=(-1, 3), towards=-1.0, largest_period=2000)
    p = branch.parameters
    np.testing.assert_allclose(branch.periods, 2 * math.pi / np.sqrt(p**2 + 2 * p), rtol=1e-4)
    found = approach(branch)
    assert found is not None and found.kind == "saddle-node on the cycle" and found.follows_law
    assert found.parameter == pytest.approx(0, abs=1e-9) and found.state == pytest.approx([1, 0], abs=1e-6)
    assert found.measured == pytest.approx(-0.5, abs=0.01) and found.ratio == pytest.approx(1, abs=0.01)


def test_a_homoclinic_orbit_and_its_rate() -> None:
    branch = from_hopf(
        morris_lecar(4, 12, 17.4, 0.23), [4.41075572, 0.29477035], 36.316217496203, (0, 150), largest_period=3000
    )
    found = approach(branch)
    assert found is not None and found.kind == "homoclinic" and found.law == "logarithm" and found.follows_law
    assert found.parameter == pytest.approx(35.006734198, abs=1e-9)  # AUTO-07p at T = 3000
    assert found.measured == pytest.approx(found.expected, rel=0.02)
    assert approach(from_hopf(BAUTIN, [0.0, 0.0], 0.0, (-1.0, 2.0))) is None
