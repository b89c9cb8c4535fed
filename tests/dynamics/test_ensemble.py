"""Ensembles against closed forms, scipy at tight tolerances, and published figures."""

import hashlib
import math
import os
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from varphi.dynamics import steps
from varphi.dynamics.ensemble import Cycle, Ensemble, Event, Status, simulate
from varphi.dynamics.machine import BYTES, Code, aligned, digest
from varphi.dynamics.steps import ROOM, Steps
from varphi.dynamics.system import System
from varphi.numbers.kernel.compile import engine
from varphi.numbers.kernel.lanes import I8, I64

DECAY = System.of({"x": "-k*x"}, {"k": 1.0})
ROTATION = System.of({"x": "w*y", "y": "-w*x"}, {"w": 1.0})
# Hodgkin & Huxley at 6.3 °C.
NERVE = System.of(
    {
        "v": "i - 120*m^3*h*(v-50) - 36*n^4*(v+77) - 0.3*(v+54.387)",
        "m": "explinear((v+40)/10)*(1-m) - 4*exp(-(v+65)/18)*m",
        "h": "0.07*exp(-(v+65)/20)*(1-h) - h/(1+exp(-(v+35)/10))",
        "n": "0.1*explinear((v+55)/10)*(1-n) - 0.125*exp(-(v+65)/80)*n",
    },
    {"i": 10.0},
)
REST = [-65, 0.05, 0.6, 0.32]


def run(system: System, end: object, start: object, **options: object) -> Ensemble:
    return simulate(system, end, start, progress=False, **options)


@pytest.mark.parametrize("method", ["explicit", "stiff"])
@pytest.mark.parametrize("samples", [1, 7, 8, 9, 100])
def test_every_sample_is_its_own(method: str, samples: int) -> None:
    k, x = np.linspace(0.1, 3, samples), np.linspace(-2, 2, samples)
    found = run(DECAY, 2.0, {"x": x}, parameters={"k": k}, rtol=1e-9, atol=1e-12, method=method)
    np.testing.assert_allclose(found.ends[:, 0], x * np.exp(-2 * k), rtol=1e-7, atol=1e-10)
    assert found.ok.all() and (found.end_times == 2.0).all()
    assert (found.steps[:, 0 if method == "explicit" else 1] > 0).all()


@pytest.mark.parametrize("method, order", [("explicit", 5), ("stiff", 4)])
def test_errors_fall_with_the_tolerance(method: str, order: int) -> None:
    errors = []
    for rtol in (1e-5, 1e-7, 1e-9):
        found = run(ROTATION, 20.0, [0.0, 1.0], rtol=rtol, atol=rtol, method=method)
        errors.append(np.abs(found.ends[0] - [math.sin(20), math.cos(20)]).max())
    assert errors[0] < 1e-3 and errors[2] < 3e-7
    # Per step the error is proportional to the tolerance; steps are fewer with a higher order.
    assert errors[1] < 0.05 * errors[0] and errors[2] < 0.05 * errors[1]
    steps = [run(ROTATION, 20.0, [0.0, 1.0], rtol=r, atol=r, method=method).steps.sum() for r in (1e-6, 1e-9)]
    assert steps[1] / steps[0] == pytest.approx(1000 ** (1 / order), rel=0.35)


@pytest.mark.parametrize("method, close", [("explicit", 1e-6), ("stiff", 1e-5)])
def test_states_on_the_way(method: str, close: float) -> None:
    times = np.linspace(0, 10, 57)
    found = run(ROTATION, 10.0, [0.0, 1.0], times=times, rtol=1e-8, atol=1e-8, method=method)
    np.testing.assert_allclose(found.state("x")[0], np.sin(times), atol=close)
    np.testing.assert_allclose(found.states[0, :, 1], np.cos(times), atol=close)


def test_times_after_the_end_are_not_guessed() -> None:
    found = run(DECAY, np.array([1.0, 3.0]), [1.0], times=[0.5, 2.0])
    assert np.isnan(found.states[0, 1, 0]) and found.states[1, 1, 0] == pytest.approx(math.exp(-2), rel=1e-5)


def test_frequencies_of_the_nerve() -> None:
    """Two solvers at 1e-11 agree on these (shared reference figures, Hz)."""
    current = [10.0, 15.0, 20.0, 30.0, 50.0, 80.0]
    expected = [68.323698601, 78.649128660, 86.470052672, 98.745214356, 117.035987615, 137.011201867]
    found = run(NERVE, 2000.0, REST, parameters={"i": current}, rtol=1e-9, atol=1e-9, cycle=Cycle("v + 40"))
    np.testing.assert_allclose(1000 / found.periods, expected, rtol=1e-8)
    assert (found.status == Status.CLOSED).all() and (found.crossings == 1).all()


def test_a_stiff_system_is_noticed() -> None:
    """Robertson's chemistry: against Radau at 1e-12."""
    robertson = System.of({"a": "-0.04*a + 1e4*b*c", "b": "0.04*a - 1e4*b*c - 3e7*b^2", "c": "3e7*b^2"})
    found = run(robertson, 1e4, [1.0, 0.0, 0.0], rtol=1e-7, atol=1e-11)

    def rate(t: float, y: np.ndarray) -> list[float]:
        a, b, c = y
        return [-0.04 * a + 1e4 * b * c, 0.04 * a - 1e4 * b * c - 3e7 * b * b, 3e7 * b * b]

    exact = solve_ivp(rate, (0, 1e4), [1, 0, 0], method="Radau", rtol=1e-12, atol=1e-15).y[:, -1]
    np.testing.assert_allclose(found.ends[0], exact, rtol=1e-5)
    assert found.ok.all() and found.steps[0, 1] > 0 and found.steps[0].sum() < 1000
    explicit = run(robertson, 1e4, [1.0, 0.0, 0.0], rtol=1e-4, atol=1e-8, method="explicit", most_steps=2000)
    assert Status(explicit.status[0]) is Status.TOO_MANY_STEPS


def test_rates_that_depend_on_time() -> None:
    forced = System.of({"x": "-1000*(x - cos(t)) - sin(t)"})
    for method in ("auto", "stiff"):
        found = run(forced, 3.0, [2.0], rtol=1e-8, atol=1e-10, method=method)
        assert found.ends[0, 0] == pytest.approx(math.cos(3.0), abs=1e-7)


def test_stiff_samples_wait_and_lose_nothing() -> None:
    """Every other sample is stiff: it gives up its lane and goes on later, from the same point."""
    relaxed = System.of({"x": "-k*(x - cos(t)) - sin(t)", "n": "1"}, {"k": 1.0})
    k = np.where(np.arange(45) % 2, 1.5, np.geomspace(4e3, 1e5, 45))
    times = np.linspace(0, 5, 201)
    options = {"times": times, "rtol": 1e-7, "atol": 1e-9}
    found = run(relaxed, 5.0, [2.0, 0.0], parameters={"k": k}, **options)
    exact = np.cos(times) + np.exp(-k[:, None] * times)
    # (RODAS's continuous extension is of order 3 only, and less for what is dragged along.)
    np.testing.assert_allclose(found.state("x"), exact, atol=2e-3)
    np.testing.assert_allclose(found.ends[:, 0], exact[:, -1], atol=1e-6)
    np.testing.assert_allclose(found.state("n"), np.broadcast_to(times, exact.shape), atol=1e-12)
    assert found.ok.all() and (found.end_times == 5.0).all() and (found.highs[:, 0] == 2.0).all()
    assert ((found.steps[:, 1] > 0) == (k > 100)).all() and (found.steps[:, 0] > 0).all()
    np.testing.assert_allclose(found.lows[1::2, 0], exact[1::2].min(1), atol=2e-2)
    for sample in (0, 1, 44):
        alone = run(relaxed, 5.0, [2.0, 0.0], parameters={"k": k[sample]}, **options)
        np.testing.assert_array_equal(alone.states[0], found.states[sample])
        np.testing.assert_array_equal(alone.steps[0], found.steps[sample])
    few = run(relaxed, 5.0, [2.0, 0.0], parameters={"k": k}, most_steps=60, **options)
    assert (few.status[k > 1e4] == Status.TOO_MANY_STEPS).all() and few.ok[1::2].all()
    assert (few.steps.sum(1) <= 60).all()


def test_events_of_stiff_samples() -> None:
    """Where events are looked for, stiff samples keep their lanes beside the others."""
    relaxed = System.of({"x": "-k*(x - cos(t)) - sin(t)"}, {"k": 1.0})
    k = np.array([1e4, 1.5] * 9)
    options = {"rtol": 1e-7, "atol": 1e-9, "events": [Event("x")], "times": [1.0, 8.0], "largest_step": 0.05}
    found = run(relaxed, 9.0, [2.0], parameters={"k": k}, **options)
    assert ((found.steps[:, 1] > 0) == (k > 100)).all()
    zeros = np.pi * np.array([0.5, 1.5, 2.5])
    np.testing.assert_allclose(found.event_times[::2, :3], np.tile(zeros, (9, 1)), atol=1e-5)
    assert (np.abs(np.cos(found.event_times[1::2, :3]) + np.exp(-1.5 * found.event_times[1::2, :3])) < 1e-6).all()
    np.testing.assert_allclose(found.state("x"), np.cos([1.0, 8.0]) + np.exp(-k[:, None] * [1.0, 8.0]), atol=1e-5)


def test_events_without_a_compiler() -> None:
    """With numba's compiler off the same is found, as Python, and it is said."""
    code = """if 1:
        import warnings
        from varphi.dynamics import Cycle, Event, System, simulate
        rotation = System.of({"x": "y", "y": "-x"})
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = simulate(rotation, 30.0, [0.0, 1.0], events=[Event("x")], cycle=Cycle("x + 0.3"), progress=False)
        print(found.periods[0].hex(), found.event_times[0, 3].hex(), [str(w.message) for w in told])
    """
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    period, fourth, told = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout.split(maxsplit=2)
    found = run(System.of({"x": "y", "y": "-x"}), 30.0, [0.0, 1.0], events=[Event("x")], cycle=Cycle("x + 0.3"))
    assert float.fromhex(period) == pytest.approx(found.periods[0], rel=1e-12)
    assert float.fromhex(fourth) == pytest.approx(found.event_times[0, 3], rel=1e-12)
    assert "numba's compiler is off" in told


@settings(max_examples=20)
@given(st.floats(0.3, 3.0), st.floats(-0.9, 0.9))
def test_events_of_a_rotation(w: float, level: float) -> None:
    found = run(
        ROTATION, 30.0, [0.0, 1.0], parameters={"w": w}, rtol=1e-10, atol=1e-10,
        events=[Event(f"x - ({level!r})", "rising"), Event("y", "falling")], most_events=200,
    )  # fmt: skip
    times, kinds = found.event_times[0], found.event_kinds[0]
    assert (np.diff(times[kinds >= 0]) >= 0).all()
    first = math.asin(level) / w
    expected = np.arange(first if first > 0 else first + 2 * math.pi / w, 30.0, 2 * math.pi / w)
    np.testing.assert_allclose(times[kinds == 0], expected, atol=1e-7)
    np.testing.assert_allclose(times[kinds == 1], np.arange(math.pi / 2 / w, 30.0, 2 * math.pi / w), atol=1e-7)
    np.testing.assert_allclose(found.event_states[0][kinds == 0, 0], level, atol=1e-8)


def test_an_event_stops() -> None:
    fall = System.of({"z": "v", "v": "-9.81"})
    found = run(fall, 10.0, [20.0, 3.0], events=[Event("z", "falling", stop_after=1)], times=[1.0, 9.0])
    landing = (3 + math.sqrt(9 + 2 * 9.81 * 20)) / 9.81
    assert Status(found.status[0]) is Status.STOPPED and found.end_times[0] == pytest.approx(landing, rel=1e-7)
    assert abs(found.ends[0, 0]) < 1e-6 and np.isnan(found.states[0, 1, 0])
    assert found.highs[0, 0] <= 20 + 9 / 2 / 9.81 + 1e-9 and found.lows[0, 0] == pytest.approx(0, abs=1e-6)


def test_a_zero_that_is_met_exactly() -> None:
    """Falling through zero at a step's very end: the function is 0 there, and below it just before."""
    flat = System.of({"x": "where(t > 1, 0, 1)", "y": "0"})
    found = run(flat, 3.0, [-1.0, 0.0], events=[Event("where(x < -0.5, -1, 0)", "rising")], largest_step=0.25)
    assert found.ok.all() and 0.5 <= found.event_times[0, 0] <= 0.75


class Elimination(Steps):
    """Machine code that solves one system of equations in each lane."""

    arguments: ClassVar = {**ROOM, "states": I64, "parameter_count": I64, "sound": BYTES}

    def __init__(self) -> None:
        super().__init__("elimination", self.arguments)
        sound = self.factorise()
        self.solve(self.y)
        self.builder.store(self.builder.bitcast(sound.value, I8), self.given["sound"])
        self.builder.ret_void()


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_each_lane_solves_its_own_equations(n: int) -> None:
    random = np.random.default_rng(n)
    matrices = random.normal(size=(8, n, n)) * np.exp(random.uniform(-9, 9, (8, n, 1)))
    matrices[1] = np.eye(n)[::-1]  # every pivot is 0 at first
    matrices[2][:, -1] = 0.0  # singular
    right = random.normal(size=(8, n))
    matrix, b = aligned(n * n, 8), aligned(n, 8)
    matrix[:], b[:] = matrices.reshape(8, -1).T, right.T
    sound = np.zeros(1, np.uint8)
    room = dict.fromkeys(ROOM, aligned(1, 8)) | {"matrix": matrix, "y": b, "swaps": np.zeros(n * n, np.uint8)}
    key = hashlib.sha256(f"elimination {digest(steps.__file__)}".encode()).hexdigest()
    code = Code(engine(key, lambda: Elimination().module), "elimination", Elimination.arguments)
    code(**room, states=n, parameter_count=0, sound=sound)
    assert sound[0] == 0b11111011
    for lane in (0, 1, 3, 4, 5, 6, 7):
        np.testing.assert_allclose(b[:, lane], np.linalg.solve(matrices[lane], right[lane]), rtol=1e-8)


def test_the_last_events_are_kept_in_order() -> None:
    found = run(ROTATION, 100.0, [0.0, 1.0], events=[Event("x", "rising")], most_events=4)
    np.testing.assert_allclose(found.event_times[0], 2 * math.pi * np.arange(12, 16), rtol=1e-4)


def test_a_burst_is_one_period() -> None:
    """A sum of two frequencies crosses the section twice a period."""
    two = System.of({"x": "y", "y": "-x", "u": "2*w", "w": "-2*u"})
    found = run(two, 200.0, [0.0, 1.0, 0.3, 1.0], rtol=1e-10, atol=1e-10, cycle=Cycle("x + 0.9*u", tolerance=1e-6))
    assert Status(found.status[0]) is Status.CLOSED
    assert found.periods[0] == pytest.approx(2 * math.pi, rel=1e-7) and found.crossings[0] == 2


def test_an_orbit_that_comes_to_rest_closes_no_cycle() -> None:
    damped = System.of({"x": "y", "y": "-x - 0.05*y"})
    found = run(damped, 100.0, [1.0, 0.0], cycle=Cycle("x"))
    assert Status(found.status[0]) is Status.DONE and np.isnan(found.periods[0])


def test_a_failed_sample_keeps_what_it_has() -> None:
    blow_up = System.of({"x": "x^2"})
    found = run(blow_up, 2.0, {"x": [0.1, 1.0, 0.2]}, times=[0.5, 1.5])
    assert list(found.ok) == [True, False, True]
    assert found.states[1, 0, 0] == pytest.approx(2.0, rel=1e-5) and np.isnan(found.states[1, 1, 0])
    assert 0.9 < found.end_times[1] < 1.001
    assert sum(found.failures().values()) == 1
    assert found.states[0, 1, 0] == pytest.approx(1 / (10 - 1.5), rel=1e-5)


def test_threads_change_nothing() -> None:
    current = np.linspace(7, 80, 130)
    one, two = (
        run(NERVE, 60.0, REST, parameters={"i": current}, threads=n, times=[20.0, 50.0]) for n in (1, 2)
    )  # each sample's steps are its own
    np.testing.assert_array_equal(one.states, two.states)
    np.testing.assert_array_equal(one.steps, two.steps)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"end": -1.0}, "must lie after the beginning"),
        ({"end": math.inf}, "finite numbers"),
        ({"start": [math.nan]}, "finite numbers"),
        ({"start": [1.0, 2.0]}, r"start must be \(1,\)"),
        ({"start": {"y": 1.0}}, "start must give x"),
        ({"start": {"x": np.ones(3)}, "parameters": {"k": np.ones(4)}}, "numbers of samples differ: 3, 4"),
        ({"start": {"x": np.ones(0)}}, "no samples"),
        ({"parameters": {"q": 1.0}}, "no parameter 'q'"),
        ({"times": [2.0, 1.0]}, "increasing"),
        ({"times": [-1.0]}, "before the simulation"),
        ({"rtol": 0.0}, "at least 1e-14"),
        ({"atol": -1.0}, "not negative"),
        ({"method": "magic"}, "method is 'auto'"),
        ({"events": [Event("q")]}, "unknown symbol 'q'"),
    ],
)
def test_unusable_arguments(options: dict, message: str) -> None:
    arguments = {"end": 1.0, "start": [1.0]} | options
    with pytest.raises(ValueError, match=message):
        run(DECAY, arguments.pop("end"), arguments.pop("start"), **arguments)
