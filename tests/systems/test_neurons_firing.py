"""f–I curves against two solvers that agree to nine digits, AUTO-07p's folds of cycles, and hard places."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from varphi.dynamics import continue_cycles, orbit_by_simulation
from varphi.dynamics.ensemble import Cycle, Status, simulate
from varphi.systems.neurons import (
    Current,
    Gate,
    Model,
    boltzmann,
    equilibria,
    excitability,
    fi_curve,
    load,
    phase_plane,
    phase_response,
    steady,
    strength_duration,
)
from varphi.systems.neurons.firing import REST, restless_currents
from varphi.systems.neurons.sweep import Equations, crossings

# Frequencies (Hz) that Dormand–Prince and scipy's DOP853 gave alike at tolerances of 1e-11.
KNOWN = {
    ("hodgkin-huxley", None): {
        10: 68.323698601, 15: 78.649128660, 20: 86.470052672, 30: 98.745214356, 50: 117.035987615, 80: 137.011201867,
    },
    ("morris-lecar", "class 1"): {
        40: 1.059701030, 41: 5.106275035, 45: 10.069659031, 50: 13.237403179, 60: 17.058603985, 80: 21.321639849,
        100: 23.768359461,
    },
    ("morris-lecar", "class 2"): {
        90: 9.734523452, 100: 11.724615829, 120: 13.607590136, 150: 15.114472617, 180: 15.618362577, 200: 15.239443048,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_frequencies_are_the_known_ones_within_the_stated_error(name):
    known = KNOWN[name]
    found = fi_curve(load(*name), list(known), threads=1)
    truth = np.array(list(known.values()))
    assert found.fires.all()
    assert found.frequency == pytest.approx(truth, rel=1e-9)
    assert (np.abs(found.frequency - truth) <= found.error + 1e-9).all()
    assert (found.error < 1e-6 * truth).all()


def test_finer_tolerances_are_nearer():
    known = KNOWN["morris-lecar", "class 1"]
    truth = np.array(list(known.values()))
    errors = [
        np.abs(fi_curve(load("morris-lecar"), list(known), rtol=r, threads=1).frequency / truth - 1).max()
        for r in (1e-5, 1e-8)
    ]
    assert errors[1] < errors[0] / 30 and errors[0] < 1e-4


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        # Folds of cycles at 6.2603, Hopf points at 9.7754 and 154.5224.
        (("hodgkin-huxley", None), {6.25: "rest", 6.27: "bistable", 9.7: "bistable", 9.9: "spiking", 160: "rest"}),
        # A saddle-node on the cycle at 39.9632; Hopf point at 97.7879, fold of cycles at 116.1095.
        (
            ("morris-lecar", "class 1"),
            {39.96: "rest", 39.97: "spiking", 97.7: "spiking", 98: "bistable", 116.1: "bistable", 116.12: "rest"},
        ),
        # Folds of cycles at 88.2933 and 216.8998.
        (
            ("morris-lecar", "class 2"),
            {88.29: "rest", 88.3: "bistable", 94: "spiking", 212.1: "bistable", 216.89: "bistable", 216.91: "rest"},
        ),
        # A homoclinic orbit at 35.00673, a fold of equilibria at 39.9632, a fold of cycles at 40.5934.
        (
            ("morris-lecar", "homoclinic"),
            {35.0: "rest", 35.01: "bistable", 39: "bistable", 40.5: "bistable", 40.6: "rest"},
        ),
    ],
)
def test_where_a_membrane_rests_fires_or_may_do_either(name, statuses):
    found = fi_curve(load(*name), list(statuses), threads=1)
    assert dict(zip(statuses, found.status, strict=True)) == statuses
    rest = [s == "rest" for s in found.status]
    assert (found.frequency[rest] == 0).all() and (found.frequency[np.logical_not(rest)] > 0).all()
    assert np.isnan(found.rest[[s == "spiking" for s in found.status]]).all()
    assert np.isfinite(found.rest[[s != "spiking" for s in found.status]]).all()


@pytest.mark.parametrize("current", [6.27, 88.3])
def test_one_current_alone_is_told_as_among_others(current):
    model = load("hodgkin-huxley") if current < 50 else load("morris-lecar", "class 2")
    assert fi_curve(model, [current], threads=1).status == ("bistable",)


def test_a_peak_that_misses_a_usual_threshold_is_no_silence():
    # The peak of Hodgkin–Huxley at I = 100 is -20.045 mV: a threshold of -20 mV would report f = 0.
    found = fi_curve(load("hodgkin-huxley"), [99.5, 100], threads=1)
    assert found.frequency == pytest.approx([147.036, 147.27], rel=3e-5)
    assert found.highs[1] == pytest.approx(-20.045, abs=2e-3)


def test_a_frequency_just_above_the_saddle_node_where_two_seconds_show_nothing():
    model = load("morris-lecar", "class 1")
    current = 39.963153092745 + 1e-4
    found = fi_curve(model, [current], threads=1)
    system = model.system(current)
    events = [lambda t, y: y[0] - 5]
    events[0].direction = 1
    truth = solve_ivp(
        lambda t, y: system(y.tolist()), (0, 45_000), found.states[0], "DOP853", events=events, rtol=1e-12, atol=1e-12
    )  # fmt: skip
    assert len(truth.t_events[0]) == 2 and found.period[0] > 15_000
    assert found.period[0] == pytest.approx(np.diff(truth.t_events[0])[0], rel=1e-6)


def test_the_period_at_the_end_of_the_known_branch():
    # By collocation, without varphi: I = 39.9665533 where T = 3050 ms.
    found = fi_curve(load("morris-lecar", "class 1"), [39.9665533], threads=1)
    assert found.period[0] == pytest.approx(3050, abs=1)


def test_the_period_grows_as_one_over_the_root_at_a_saddle_node_on_the_cycle():
    distances = np.array([1e-4, 1e-3, 1e-2])
    found = fi_curve(load("morris-lecar", "class 1"), 39.963153092745 + distances, threads=1)
    assert np.diff(np.log(found.frequency)) / np.diff(np.log(distances)) == pytest.approx([0.5, 0.5], abs=0.02)


def test_an_orbit_lies_where_its_equations_say():
    model = load("wang-buzsaki")
    found = fi_curve(model, [1.0], threads=1)
    system = model.system(1.0)
    orbit = solve_ivp(
        lambda t, y: system(y.tolist()),
        (0, found.period[0]),
        found.states[0],
        "LSODA",
        rtol=1e-10,
        atol=1e-10,
        max_step=0.1,
    )
    assert orbit.y[:, -1] == pytest.approx(found.states[0], rel=1e-5, abs=1e-6)
    assert (orbit.y[0].min(), orbit.y[0].max()) == pytest.approx((found.lows[0], found.highs[0]), abs=0.5)


def test_what_takes_longer_than_allowed_is_unresolved_not_silent():
    found = fi_curve(load("morris-lecar", "class 1"), [39.9632], longest=3000, threads=1)
    assert found.status == ("unresolved",) and np.isnan(found.frequency[0])
    assert found.reasons[0].startswith("no orbit closed within 3000 ms: its period is longer")
    assert "within 3000 ms" in str(found)


def test_without_units_frequency_is_one_over_the_period():
    found = fi_curve(load("fitzhugh-nagumo"), [0.3, 0.8], threads=1)
    assert found.status == ("rest", "spiking")
    assert found.frequency[1] == pytest.approx(1 / found.period[1]) and 30 < found.period[1] < 40


def test_a_membrane_that_can_only_rest():
    model = Model([Current("L", 1, -70), Current("K", 1, -90, [Gate("n", boltzmann(-40, 5, tau=5))])])
    assert fi_curve(model, [0.0, 0.04], threads=1).status == (REST, REST)
    assert restless_currents(model) == []


@pytest.mark.parametrize(
    ("currents", "words"),
    [([], "one or more finite"), ([np.nan], "finite"), ([1e6], "no equilibrium of Hodgkin–Huxley lies")],
)
def test_impossible_currents_are_refused(currents, words):
    with pytest.raises(ValueError, match=words):
        fi_curve(load("hodgkin-huxley"), currents)


def test_where_nothing_is_at_rest():
    assert restless_currents(load("hodgkin-huxley")) == [pytest.approx((9.775437995, 154.522433666), abs=1e-8)]
    assert restless_currents(load("morris-lecar")) == [pytest.approx((39.963153093, 97.787888964), abs=1e-8)]
    assert restless_currents(load("morris-lecar", "homoclinic")) == []


def test_an_orbit_whose_section_is_exactly_zero_at_rest():
    # Here dV/dt becomes 0 to the last bit at the end of a step: no event lies inside it.
    model = load("izhikevich").with_(half_n=-42.87772800390557, slope_n=10.406457384158575)
    system = model.system(94.69274458421366)
    found = simulate(
        system, 10_000.0, [-69.40634662679894, 0.5167963246422073], rtol=1e-6, atol=1e-8, threads=1, progress=False,
        cycle=Cycle(system.rates[0]),
    )  # fmt: skip
    assert found.status[0] == Status.DONE
    assert np.abs(system(found.ends[0].tolist())).max() < 1e-3


# Many equilibria at once ----------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(current=st.floats(-40, 200), v3=st.floats(-5, 15), v4=st.floats(10, 30))
def test_equilibria_of_many_are_those_that_are_proved(current, v3, v4):
    model = load("morris-lecar", "class 1")
    proved = equilibria(model.with_(V3=v3, V4=v4), current)
    equations = Equations(model)
    numbers = {"V3": np.array([v3, 12.0]), "V4": np.array([v4, 17.4])}
    places = crossings(equations, np.linspace(*model.span, 600), np.array([current, 50.0]), numbers)
    found = places[0][np.isfinite(places[0])]
    if len(found) != len(proved):  # two equilibria between two points of the grid: next to a fold
        assert min(abs(a.V - b.V) for a, b in zip(proved.found, proved.found[1:], strict=False)) < 0.7
        return
    assert found == pytest.approx([e.V for e in proved], abs=1e-9)
    growth = equations.growth(found, {"V3": v3, "V4": v4})
    assert growth == pytest.approx([e.eigenvalues[0].real for e in proved], rel=1e-6, abs=1e-9)


# What cannot be worked out is said in words ---------------------------------------------------------------------------


@pytest.mark.parametrize("run", [lambda m, i: fi_curve(m, [i]), equilibria, phase_response, phase_plane])
@pytest.mark.parametrize(
    ("current", "words"),
    [
        ("10 mV", "is a potential, and a current per area in µA/cm² is needed"),
        ("10 nA", "the unit 'nA' in '10 nA' is unknown"),
        (1e6, "no equilibrium of .* lies between -84 and 120"),
        (math.nan, "finite"),
        (math.inf, "finite"),
    ],
)
def test_a_current_that_is_none_is_refused(run, current, words):
    with pytest.raises(ValueError, match=words):
        run(load("morris-lecar"), current)


def test_a_current_may_carry_its_unit():
    assert fi_curve(load("morris-lecar"), ["0.05 mA/cm2"], threads=1).currents == pytest.approx([50])
    assert equilibria(load("morris-lecar"), "50 uA/cm2") == equilibria(load("morris-lecar"), 50.0)


@pytest.mark.parametrize(
    ("model", "current", "words"),
    [
        # Nothing holds V: it runs away in a finite time.
        (Model([Current("x", formula="-V^3")], window=(-50, 50), name="runaway"), 1.0, "could not keep the tolerance"),
        (load("morris-lecar").with_(C=1e9), 50.0, "no orbit closed within"),
    ],
)
def test_what_diverges_or_takes_for_ever_is_unresolved_with_a_reason(model, current, words):
    found = fi_curve(model, [current], threads=1)
    assert found.status == ("unresolved",) and words in found.reasons[0] and words in str(found)


def test_gates_faster_than_any_step_are_handled():
    fast = Gate("n", boltzmann(-30, 8, tau="1 ns"))
    model = Model([Current("K", 5, -80, [fast]), Current("Na", 1, 50)])
    found = fi_curve(model, [1.0], threads=1)
    assert found.status == ("rest",) and found.frequency[0] == 0


def test_a_class_without_a_cycle_says_so():
    told = str(excitability(load("hodgkin-huxley").with_(gNa=1e12)))
    assert "just above it no cycle closes" in told and "nan" not in told


def test_orbits_that_run_away_are_counted():
    held = Gate("w", boltzmann(0, 5, tau=1))
    model = Model([Current("x", formula="-V^3 + 0.001*w", gates=[held])], window=(-50, 50))
    plane = phase_plane(model, 1.0)
    assert sum(plane.failures.values()) == 2 and all(np.isfinite(o).all() for o in plane.orbits)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"strongest": 0.0}, "must be positive"), ({"level": -80.0}, "must lie above the resting potential of -64.99")],
)
def test_impossible_searches_for_thresholds_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        strength_duration(load("hodgkin-huxley"), [1.0], **settings)


def test_a_level_no_pulse_reaches_is_named():
    found = strength_duration(load("hodgkin-huxley"), [1.0, 2.0], level=1000.0)
    assert str(found) == "Hodgkin–Huxley: no pulse tried brings V above 1000 mV"


# What can fool a stop when intervals agree ---------------------------------------------------------------------------


def hindmarsh_rose() -> Model:
    """Bursts by a slow current: Hindmarsh & Rose, Proc. R. Soc. Lond. B 221 (1984) 87."""
    return Model(
        name="Hindmarsh–Rose",
        dimensionless=True,
        window=(-3.0, 3.0),
        currents=[
            Current("cubic", formula="V^3 - 3*V^2"),
            Current("fast", gates=[Gate("y", steady("1 - 5*V^2", tau="1"), range=None)], formula="-y"),
            Current("slow", gates=[Gate("z", steady("4*(V + 1.6)", tau="1/r"), range=None)], formula="z"),
        ],
        parameters={"r": 0.006},
    )


@pytest.mark.parametrize(("current", "minima"), [(2.0, 2), (2.5, 3), (2.8, 4), (3.44, 2), (3.5, 1)])
def test_a_burst_and_a_doubled_period_are_one_period(current, minima):
    """I = 3.5 fires singly; at 3.44 that has doubled: intervals alternate by a little."""
    model = hindmarsh_rose()
    found = fi_curve(model, [current], threads=1)
    assert found.status == ("spiking",) and found.minima[0] == minima
    system, period = model.system(current), found.period[0]
    events = [lambda t, y: system(y.tolist())[0]]
    events[0].direction = 1
    options = {"method": "LSODA", "rtol": 1e-10, "atol": 1e-10}
    begin = solve_ivp(lambda t, y: system(y.tolist()), (0, 0.1 * period), found.states[0], **options).y[:, -1]
    course = solve_ivp(lambda t, y: system(y.tolist()), (0, 2.02 * period), begin, events=events, **options)
    times = course.t_events[0]
    times = times[: 2 * minima]
    assert len(times) == 2 * minima and times[minima:] - times[:minima] == pytest.approx(period, rel=1e-6)
    if minima > 1:
        intervals = np.diff(times[: minima + 1])
        assert np.ptp(intervals) > 1e-3 * intervals.max()  # each interval alone would give a false frequency
        assert f"{minima} minima of V a period" in str(found)
    assert found.rate[0] == pytest.approx(minima / period)


def test_chaotic_bursts_are_unresolved_in_words():
    found = fi_curve(hindmarsh_rose(), [3.25], threads=1, longest=3000)
    assert found.status == ("unresolved",) and np.isnan(found.frequency[0]) and np.isnan(found.rate[0])
    assert "settles to none" in found.reasons[0] and "chaos" in str(found)


@pytest.mark.parametrize("tau", [30.0, 300.0])
def test_slow_adaptation_is_waited_for(tau):
    """Intervals of neighbours agree long before a slow potassium current has settled: the true period by Newton."""
    plain = load("hodgkin-huxley")
    slow = Current("M", 0.5, -77, [Gate("s", boltzmann(-30, 5, tau=tau))])
    model = Model(name="adapting", currents=[*plain.currents, slow])
    system = model.system()
    found = fi_curve(model, [15.0], threads=1)
    orbit = orbit_by_simulation(
        system, "I", 15.0, dict(zip(model.states, found.states[0], strict=True)), section="V + 40"
    )
    branch = continue_cycles(system, "I", orbit, bounds=(14.9, 15.3), towards=-1.0, most_points=40, largest_step=0.02)
    back = continue_cycles(
        system, "I", branch.points[-1].orbit, bounds=(14.8, 15.3), towards=1.0, most_points=60, largest_step=0.02
    )
    # Both ways past I = 15: the period there, by a parabola through the nearest orbits.
    near = np.argsort(np.abs(back.parameters - 15.0))[:3]
    period = np.polyval(np.polyfit(back.parameters[near] - 15.0, back.periods[near], 2), 0.0)
    assert found.minima[0] == 1 and found.period[0] == pytest.approx(period, rel=1e-7)
    assert abs(1000 / period - found.frequency[0]) <= found.error[0] + 1e-7 * found.frequency[0]
