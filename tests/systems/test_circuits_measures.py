"""Pulse, response time, adaptation and fold-change detection against reference numbers and closed forms.

The reference numbers come from an independent program: DOP853 at rtol 1e-13, or closed forms.
"""

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from varphi.dynamics.system import System
from varphi.systems.circuits import Circuit, fold_change, respond
from varphi.systems.circuits.measures import NoPulse, Pulse, Response

K = {"XY": 0.1, "XZ": 0.1, "YZ": 0.5}
LN2 = math.log(2)


def step(circuit: Circuit, before: object, after: object, **options: object) -> Response:
    return circuit.respond(("X", before, after), progress=False, **options)


@pytest.mark.parametrize(
    "kind, rest, on, half_on, half_off",
    [
        ("C1", 0, 0.788908, 1.447629, 0.693147),
        ("C2", 0.8, 0.000004, 0.701203, 1.432212),
        ("C3", 1, 0.002012, 0.698338, 1.575931),
        ("C4", 0, 0.989711, 1.598127, 0.693147),
        ("I1", 0, 0.201191, 0.108782, 0.693147),
        ("I2", 0.2, 0.009897, 0.660714, 0.102785),
        ("I3", 0, 0.007889, 1.447629, 6.3172),
        ("I4", 0, 0.000388, 0.000245, 0.693147),
    ],
)
def test_levels_and_response_times_of_the_eight_loops(
    kind: str, rest: float, on: float, half_on: float, half_off: float
) -> None:
    circuit = Circuit.ffl(kind, K=K)
    rises, falls = step(circuit, 0.0, 1.0), step(circuit, 1.0, 0.0)
    assert rises.first[0] == pytest.approx(rest, abs=6e-7) and rises.last[0] == pytest.approx(on, abs=6e-7)
    assert falls.first[0] == pytest.approx(on, abs=6e-7) and falls.last[0] == pytest.approx(rest, abs=6e-7)
    assert rises.response().time[0] == pytest.approx(half_on, abs=6e-7)
    assert falls.response().time[0] == pytest.approx(half_off, abs=6e-5 if half_off > 6 else 6e-7)
    assert rises.response().acceleration[0] == pytest.approx(LN2 / half_on, rel=3e-3)
    assert rises.response().delay[0] == pytest.approx(half_on - LN2, abs=1e-6)


@pytest.mark.parametrize(
    "kind, on, peak, time",
    [("I1", True, 0.378822, 1.0258), ("I2", False, 0.379993, None), ("I3", False, 0.347891, None),
     ("I4", True, 0.347057, 1.0189)],
)  # fmt: skip
def test_pulses(kind: str, on: bool, peak: float, time: float | None) -> None:
    circuit = Circuit.ffl(kind, K=K)
    found = step(circuit, 0.0 if on else 1.0, 1.0 if on else 0.0).pulses()[0]
    assert isinstance(found, Pulse) and found
    assert found.peak == pytest.approx(peak, abs=6e-7)
    if time is not None:
        assert found.time == pytest.approx(time, abs=6e-5)
    other = step(circuit, 1.0 if on else 0.0, 0.0 if on else 1.0).pulses()[0]
    assert isinstance(other, NoPulse) and not other and "between its steady levels" in other.reason


def test_no_pulse_is_told_and_never_zero() -> None:
    found = step(Circuit.ffl("C1", K=K), 0.0, np.array([1.0, 2.0])).pulses()
    assert not found.present.any() and all(np.isnan(a).all() for a in (found.amplitude, found.time, found.width))
    weak = step(Circuit.ffl("I1", K={**K, "YZ": 30.0}), 0.0, 1.0).pulses()[0]
    assert isinstance(weak, NoPulse) and ("by only" in weak.reason or "between" in weak.reason)
    unsettled = respond(
        System.of({"x": "y", "y": "u - x"}, {"u": 1.0}), "x", ("u", 0.0, 1.0), 30.0, progress=False, start=[1.0, 0.0]
    )
    assert isinstance(unsettled.pulses()[0], NoPulse) and "no steady state before" in unsettled.pulses()[0].reason


def test_the_shape_of_a_pulse_against_roots_of_a_fine_solution() -> None:
    def rate(t: float, z: np.ndarray) -> list[float]:
        y = (1 / 1.01) * (1 - math.exp(-t))
        return [(1 / 1.01) / (1 + (y / 0.5) ** 2) - z[0]]

    fine = solve_ivp(rate, (0, 20), [0.0], method="DOP853", rtol=1e-12, atol=1e-14, dense_output=True).sol
    last = (1 / 1.01) / (1 + (1 / 1.01 / 0.5) ** 2)
    top = brentq(lambda t: rate(t, fine(t))[0], 0.5, 2.0)
    peak = float(fine(top)[0])
    half = (peak + last) / 2
    width = brentq(lambda t: fine(t)[0] - half, top, 10) - brentq(lambda t: fine(t)[0] - half, 0, top)
    back = brentq(lambda t: fine(t)[0] - last - 0.05 * (peak - last), top, 15)
    found = step(Circuit.ffl("I1", K=K), 0.0, 1.0).pulses()[0]
    assert isinstance(found, Pulse)
    expected = [peak - last, peak, top, width, back]
    assert [found.amplitude, found.peak, found.time, found.width, found.back] == pytest.approx(expected, rel=1e-6)


def test_the_delay_moves_from_on_to_off_with_an_or_gate() -> None:
    loop = Circuit.ffl("C1", "OR", K=K)
    rises, falls = step(loop, 0.0, 1.0), step(loop, 1.0, 0.0)
    assert rises.last[0] == pytest.approx(0.990469, abs=6e-7)
    assert rises.response().time[0] == pytest.approx(0.693477, abs=6e-7)
    assert falls.response().time[0] == pytest.approx(1.582168, abs=6e-7)
    assert rises.monotone()[0] and falls.monotone()[0]
    assert not step(Circuit.ffl("I1", K=K), 0.0, 1.0).monotone()[0]


def test_simple_regulation_takes_a_lifetime() -> None:
    found = step(Circuit.simple(alpha=0.4), 0.0, np.array([0.5, 3.0])).response()
    np.testing.assert_allclose(found.time, LN2 / 0.4, rtol=1e-6)
    np.testing.assert_allclose(found.acceleration, 1.0, rtol=1e-6)
    most = step(Circuit.simple(alpha=0.4), 0.0, 2.0).response(0.9)
    assert most.time[0] == pytest.approx(math.log(10) / 0.4, rel=1e-6)


@pytest.mark.parametrize("part, delay", [(0.1, 0.105361), (0.5, 0.693147), (0.9, 2.302585)])
def test_the_delay_of_step_logic(part: float, delay: float) -> None:
    """With steep Hill functions Z begins when Y passes K: T_ON = ln(1/(1 - K/Y_st))."""
    loop = Circuit.ffl("C1", K={"XY": 0.1, "XZ": 0.1, "YZ": part}, n={"XY": 400.0, "XZ": 400.0, "YZ": 2000.0})
    assert step(loop, 0.0, 1.0).response().delay[0] == pytest.approx(delay, abs=2e-3)
    assert step(loop, 1.0, 0.0).response().delay[0] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("factor, half", [(2, 0.287682), (5, 0.105361), (10, 0.051293)])
def test_the_acceleration_of_step_logic(factor: int, half: float) -> None:
    """t½ = ln(2F/(2F - 1)) where Z falls F-fold once Y represses: basal 1/F and beta 1 - 1/F, repressed at Y's half."""
    circuit = Circuit.ffl(
        "I1", basal={"Y": 0.0, "Z": 1 / factor}, beta={"Y": 1.0, "Z": 1 - 1 / factor},
        K={"XY": 0.1, "XZ": 0.1, "YZ": 0.5}, n={"XY": 400.0, "XZ": 400.0, "YZ": 400.0},
    )  # fmt: skip
    # From Z = 0 (not from rest, where the basal rate has filled it) the rise to half of 1/F takes that long.
    from varphi.dynamics.ensemble import Event, simulate

    found = simulate(
        circuit.system(), 5.0, [0.0, 0.0], events=[Event(f"Z - {0.5 / factor!r}", stop_after=1)], rtol=1e-9,
        atol=1e-12, progress=False,
    )  # fmt: skip
    assert found.event_times[0, 0] == pytest.approx(half, abs=6e-7)


FCD = System.of({"y": "x - y", "z": "x/y - z"}, {"x": 1.0})


@pytest.mark.parametrize("factor, peak, time", [(2, 1.27846454, 0.83098), (5, 1.71782451, 0.64945),
                                                (10, 2.10100300, 0.54083)])  # fmt: skip
def test_fold_change_detection_in_closed_form(factor: int, peak: float, time: float) -> None:
    found = respond(FCD, "z", ("x", 1.0, float(factor)), 25.0, start=[1.0, 1.0], progress=False)
    pulse = found.pulses()[0]
    assert isinstance(pulse, Pulse)
    assert pulse.peak == pytest.approx(peak, abs=2e-8) and pulse.time == pytest.approx(time, abs=6e-6)
    t = np.linspace(0, 10, 101)
    course = found.course(t).state("z")[0]
    exact = 1 + (factor - 1) / factor * np.exp(-t) * np.log(factor * np.exp(t) - (factor - 1))
    np.testing.assert_allclose(course, exact, atol=1e-6)
    assert found.adaptation().precision[0] > 1e8 and found.adaptation().adapts[0] == (peak - 1 > factor - 1)


def test_who_detects_fold_changes() -> None:
    yes = fold_change(FCD, "z", "x", 3.0, [0.5, 1.0, 20.0], 25.0, start=[1.0, 1.0], progress=False)
    assert yes.detects and yes.difference < 1e-5
    no = fold_change(Circuit.ffl("I1", K=K).system(), "Z", "X", 3.0, [0.02, 1.0], 20.0, progress=False)
    assert not no.detects and no.difference > 0.1
    with pytest.raises(ValueError, match="two or more levels above 0"):
        fold_change(FCD, "z", "x", 3.0, [0.0, 1.0], 25.0)


def test_adaptation_is_the_definition_of_ma() -> None:
    """With n = 1, Y far from saturation and Z deep in repression, Z follows X/Y: it adapts, as fold changes do."""
    found = step(Circuit.ffl("I1", K={"XY": 1e3, "XZ": 1e3, "YZ": 1e-7}, n=1.0), 0.5, 0.6)
    first, last = found.first[0], found.last[0]
    pulse = found.pulses()[0]
    assert isinstance(pulse, Pulse)
    adaptation = found.adaptation()
    assert adaptation.sensitivity[0] == pytest.approx(abs(pulse.peak - first) / first / 0.2, rel=1e-12)
    assert adaptation.precision[0] == pytest.approx(0.2 / (abs(last - first) / first), rel=1e-6)
    assert adaptation.precision[0] > 1000 and adaptation.sensitivity[0] < 1
    same = respond(FCD, "z", ("x", 0.5, 0.6), 25.0, start=[1.0, 1.0], progress=False).adaptation()
    assert adaptation.sensitivity[0] == pytest.approx(same.sensitivity[0], rel=2e-3)
    # Without a peak the farthest output is the last.
    rises = step(Circuit.ffl("C1", K=K), 0.5, 0.6)
    change = abs(rises.last[0] - rises.first[0]) / rises.first[0] / 0.2
    assert rises.adaptation().sensitivity[0] == pytest.approx(change, rel=1e-12)
    assert rises.adaptation().precision[0] == pytest.approx(1 / change, rel=1e-12)
    undefined = step(Circuit.ffl("I1", K=K), 0.0, 1.0).adaptation()
    assert np.isnan(undefined.sensitivity[0]) and not undefined.adapts[0]


def test_an_ensemble_is_its_samples() -> None:
    generator = np.random.default_rng(0)
    samples = 60
    given = {name: np.exp(generator.uniform(-1.5, 1.5, samples)) for name in ("K_Y_Z", "alpha_Y", "beta_Z", "n_Y_Z")}
    loop = Circuit.ffl("I1", K=K)
    found = step(loop, 0.0, 1.0, parameters=given)
    pulses, times = found.pulses(), found.response()
    assert found.settled.all() and 0.3 < pulses.present.mean() <= 1
    for i in (0, 17, 59):
        alone = step(loop.with_parameters(**{k: float(v[i]) for k, v in given.items()}), 0.0, 1.0)
        one, many = alone.pulses()[0], pulses[i]
        assert type(one) is type(many)
        if isinstance(one, Pulse) and isinstance(many, Pulse):
            assert many.peak == pytest.approx(one.peak, rel=1e-6) and many.width == pytest.approx(one.width, rel=1e-5)
        assert times.time[i] == pytest.approx(alone.response().time[0], rel=1e-6)


def test_refusals() -> None:
    loop = Circuit.ffl("I1", K=K)
    for call, message in (
        (lambda: step(loop, -1.0, 1.0), "X must be finite and not negative"),
        (lambda: loop.respond(("Q", 0.0, 1.0)), "no input 'Q'; there are X"),
        (lambda: loop.respond(("X", 0.0, 1.0), "W"), "no output 'W'; there are Y, Z"),
        (lambda: step(loop, 0.0, 1.0, parameters={"K_Y_Z": [1.0, 0.0]}), "K_Y_Z must be finite and above 0"),
        (lambda: step(loop, 0.0, np.ones(3), parameters={"K_Y_Z": np.ones(4)}), "numbers of samples differ: 3, 4"),
        (lambda: step(loop, 0.0, 1.0).pulses(0.0), "between 0 and 1"),
        (lambda: step(loop, 0.0, 1.0).response(1.0), "between 0 and 1"),
        (lambda: respond(FCD, "q", ("x", 1.0, 2.0), 5.0), "no state 'q'"),
        (lambda: respond(FCD, "z", ("q", 1.0, 2.0), 5.0), "no input 'q'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
