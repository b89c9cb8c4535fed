"""Derivatives by parameters. Oracles: SciPy's solutions at 1e-12, differentiated; closed forms by mpmath."""

import mpmath
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from varphi.dynamics.sensitivity import sensitivities, with_slopes
from varphi.dynamics.system import System
from varphi.systems.circuits import Circuit, NoPulse, respond
from varphi.systems.circuits.gradients import DIFFERENTIABLE, gradients

LOOP = Circuit.ffl("I1", K={"XY": 0.3, "XZ": 0.2, "YZ": 0.4}, basal=0.05, n={"XY": 2.0, "XZ": 1.5, "YZ": 2.0})
STEP = ("X", 0.2, 1.0)


def rates(p: dict, x: float):
    """The loop, written out."""

    def rate(t: float, s: np.ndarray) -> list[float]:
        y, z = s
        on = x ** p["n_X_Y"] / (p["K_X_Y"] ** p["n_X_Y"] + x ** p["n_X_Y"])
        direct = x ** p["n_X_Z"] / (p["K_X_Z"] ** p["n_X_Z"] + x ** p["n_X_Z"])
        off = 1 / (1 + (max(y, 0.0) / p["K_Y_Z"]) ** p["n_Y_Z"])
        return [
            p["basal_Y"] + p["beta_Y"] * on - p["alpha_Y"] * y,
            p["basal_Z"] + p["beta_Z"] * direct * off - p["alpha_Z"] * z,
        ]

    return rate


def solved(circuit: Circuit, x: float, start: object, end: float):
    return solve_ivp(
        rates(circuit.parameters, x), (0, end), start, method="DOP853", rtol=1e-12, atol=1e-14, dense_output=True
    )


def difference(function, value: float):
    """The derivative, by differences of order 4."""
    h = 1e-3 * max(abs(value), 0.05)
    return (function(value - 2 * h) - 8 * function(value - h) + 8 * function(value + h) - function(value + 2 * h)) / (
        12 * h
    )


@pytest.mark.parametrize("name", ["alpha_Y", "n_Y_Z"])
def test_courses_against_differences(name: str) -> None:
    times = np.array([0.0, 0.3, 1.0, 4.0])

    def course(value: float) -> np.ndarray:
        changed = LOOP.with_parameters(**{name: value})
        return solved(changed, 1.0, [0.1, 0.2], 4.0).sol(times).T

    found = sensitivities(
        LOOP.system(), times, [0.1, 0.2], [name], parameters={"X": 1.0}, rtol=1e-11, atol=1e-14, progress=False
    )
    np.testing.assert_allclose(found.values[0], course(LOOP.parameters[name]), atol=1e-9)
    np.testing.assert_allclose(found.slopes[0, :, :, 0], difference(course, LOOP.parameters[name]), atol=1e-8)
    np.testing.assert_array_equal(found.of("Z", name), found.slopes[:, :, 1, 0])


def measured(circuit: Circuit) -> dict[str, float]:
    """The measures from SciPy's solution, by roots."""
    before = solved(circuit, STEP[1], [0.0, 0.0], 60.0).y[:, -1]
    answer = solved(circuit, STEP[2], before, 60.0)
    last = answer.y[1, -1]
    law = rates(circuit.parameters, STEP[2])

    def rate(t: float) -> float:
        return law(t, answer.sol(t))[1]

    grid = np.linspace(1e-3, 10, 400)
    turn = next(i for i in range(399) if rate(grid[i]) > 0 > rate(grid[i + 1]))
    top = brentq(rate, grid[turn], grid[turn + 1], xtol=1e-14)
    peak, first = answer.sol(top)[1], before[1]
    half = brentq(lambda t: answer.sol(t)[1] - (first + last) / 2, top, 60.0, xtol=1e-14)  # Z ends below its start
    change = STEP[2] / STEP[1] - 1
    return {
        "first": first, "last": last, "peak": peak, "amplitude": peak - last, "time of peak": top,
        "peak/final": peak / last, "response time": half,
        "sensitivity": max(abs(peak / first - 1), abs(last / first - 1)) / change,
        "precision": change / abs(last / first - 1),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["alpha_Z", "K_X_Z", "n_Y_Z"])
def test_measures_against_differences(name: str) -> None:
    answer = LOOP.respond(STEP, progress=False)
    found = answer.gradients([name], DIFFERENTIABLE)
    value = LOOP.parameters[name]
    exact = measured(LOOP)

    def changed(v: float) -> np.ndarray:
        return np.array(list(measured(LOOP.with_parameters(**{name: v})).values()))

    slopes = dict(zip(exact, difference(changed, value), strict=True))
    for measure in DIFFERENTIABLE:
        assert found[measure].value[0] == pytest.approx(exact[measure], rel=1e-7), measure
        assert found[measure].of(name)[0] == pytest.approx(slopes[measure], rel=1e-5, abs=1e-7), measure


@pytest.mark.parametrize("factor", [2.0, 5.0])
def test_fold_change_detection_in_closed_form(factor: float) -> None:
    """x: 1 → F in y' = x - y, z' = x/y - z has z = 1 + (F - 1)/F e^-t ln(F e^t - (F - 1))."""
    level = "(1 + (F - 1)*s)"
    system = System.of({"y": f"{level} - y", "z": f"{level}/y - z"}, {"F": factor, "s": 0.0})

    def z(F: object, t: object) -> mpmath.mpf:
        return 1 + (F - 1) / F * mpmath.exp(-t) * mpmath.log(F * mpmath.exp(t) - (F - 1))

    with mpmath.workdps(30):
        F = mpmath.mpf(factor)

        def top(f: object) -> mpmath.mpf:
            return mpmath.findroot(lambda t: mpmath.diff(lambda u: z(f, u), t), 0.7)

        times = [0.2, 0.8, 3.0]
        course = [float(mpmath.diff(lambda f, t=t: z(f, t), F)) for t in times]
        when, slope = float(top(F)), float(mpmath.diff(top, F, h=mpmath.mpf("1e-8")))
        height = float(mpmath.diff(lambda f: z(f, top(f)), F, h=mpmath.mpf("1e-8")))
    found = sensitivities(
        system, times, [1.0, 1.0], ["F"], parameters={"s": 1.0}, rtol=1e-11, atol=1e-13, progress=False
    )
    np.testing.assert_allclose(found.of("z", "F")[0], course, rtol=1e-8)
    answer = respond(system, "z", ("s", 0.0, 1.0), 25.0, start=[1.0, 1.0], progress=False)
    got = gradients(answer, ["F"], ["time of peak", "peak", "last"])
    assert got["time of peak"].value[0] == pytest.approx(when, rel=1e-6)
    assert got["time of peak"].of("F")[0] == pytest.approx(slope, rel=1e-5)
    assert got["peak"].of("F")[0] == pytest.approx(height, rel=1e-7)
    assert got["last"].of("F")[0] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("part", [0.3, 0.6])
def test_the_delay_of_step_logic(part: float) -> None:
    """T_ON = ln(1/(1 - K/Y_st)) with steep Hill functions has the slope 1/(Y_st - K) by K, -K/(1 - K) by beta_Y."""
    loop = Circuit.ffl("C1", K={"XY": 0.1, "XZ": 0.1, "YZ": part}, n={"XY": 400.0, "XZ": 400.0, "YZ": 4000.0})
    found = loop.respond(("X", 0.0, 1.0), progress=False).gradients(["K_Y_Z", "beta_Y"], ["response time"])
    assert found["response time"].of("K_Y_Z")[0] == pytest.approx(1 / (1 - part), rel=2e-3)
    assert found["response time"].of("beta_Y")[0] == pytest.approx(-part / (1 - part), rel=2e-3)


def test_samples_are_their_own_and_absent_pulses_have_no_slope() -> None:
    many = LOOP.respond(STEP, parameters={"K_Y_Z": np.array([0.2, 50.0, 0.6])}, progress=False)
    assert isinstance(many.pulses()[1], NoPulse)
    found = many.gradients(["K_Y_Z", "alpha_Z"], ["peak", "time of peak", "last"])
    for i, value in ((0, 0.2), (2, 0.6)):
        alone = LOOP.respond(STEP, parameters={"K_Y_Z": value}, progress=False).gradients(["K_Y_Z"], ["time of peak"])
        assert found["time of peak"].of("K_Y_Z")[i] == pytest.approx(alone["time of peak"].of("K_Y_Z")[0], rel=1e-6)
    assert np.isnan(found["peak"].slopes[1]).all() and np.isfinite(found["last"].slopes[1]).all()


def test_refusals() -> None:
    answer = LOOP.respond(STEP, progress=False)
    with pytest.raises(ValueError, match="'width' has no derivatives here; there are first"):
        answer.gradients(["K_Y_Z"], ["width"])
    with pytest.raises(ValueError, match="'X' is the input"):
        answer.gradients(["X"], ["peak"])
    with pytest.raises(ValueError, match="no parameter 'q'"):
        answer.gradients(["q"], ["peak"])
    with pytest.raises(ValueError, match="one or more different parameters, got none"):
        with_slopes(LOOP.system(), [])
    with pytest.raises(ValueError, match="different parameters, got K_Y_Z, K_Y_Z"):
        with_slopes(LOOP.system(), ["K_Y_Z", "K_Y_Z"])
