"""Phase responses against kicks that are simulated, thresholds against pulses on both sides of them."""

import numpy as np
import pytest

from varphi.dynamics.ensemble import Event, simulate
from varphi.systems.neurons import Current, Model, StrengthDuration, fi_curve, load, phase_response, strength_duration
from varphi.systems.neurons.figures import draw_phase_response, draw_strength_duration


@pytest.mark.parametrize(("name", "current"), [(("hodgkin-huxley", None), 15.0), (("morris-lecar", "class 1"), 45.0)])
def test_the_phase_response_is_what_small_kicks_do(name, current):
    model = load(*name)
    found = phase_response(model, current, points=80)
    assert found.closing < 1e-6
    assert found.advance[0] == pytest.approx(found.advance[-1], rel=1e-4, abs=1e-6)
    system = model.system(current)
    settings = {"rtol": 1e-11, "atol": 1e-12, "progress": False, "threads": 1}
    start = fi_curve(model, [current], rtol=1e-10, threads=1).states[0]
    places = [8, 24, 40, 56, 72]
    times = found.phase[places] * found.period
    states = simulate(system, found.period, start, times=times, **settings).states[0]
    assert states[:, 0] == pytest.approx(found.V[places], abs=1e-6)
    # The same spike, many periods later, with and without a kick.
    kick, spike = 1e-3, [Event("V - (-20)", "rising")]
    for k, place in enumerate(places):
        last = []
        for sign in (1, -1):
            kicked = states[k].copy()
            kicked[0] += sign * kick
            course = simulate(system, 20.5 * found.period, kicked, events=spike, **settings)
            last.append(course.event_times[0][18])
        assert (last[1] - last[0]) / (2 * kick) == pytest.approx(found.advance[place], rel=2e-3, abs=2e-3)


def test_the_two_types_of_response():
    assert phase_response(load("wang-buzsaki"), 1.0).type == "I"
    found = phase_response(load("hodgkin-huxley"), 10.0)
    assert found.type == "II"
    assert draw_phase_response(found).get_ylabel() == "advance of later spikes (ms per mV)"


def test_no_phase_without_a_cycle():
    with pytest.raises(ValueError, match=r"does not fire at I = 0 \(rest\)"):
        phase_response(load("hodgkin-huxley"), 0.0)


def test_a_threshold_divides_pulses_that_fire_from_those_that_do_not():
    model = load("hodgkin-huxley")
    found = strength_duration(model, [0.2, 1.0, 5.0, 50.0])
    assert (np.diff(found.threshold) < 0).all()
    # The classical values: about 7 nC/cm² for a short pulse; the rheobase below the Hopf point.
    assert found.threshold[0] * 0.2 == pytest.approx(7, abs=1) and 2 < found.rheobase < 9.775
    rest = strength_duration(model, [1.0]).threshold[0]
    assert rest == pytest.approx(found.threshold[1], rel=1e-9)
    system = model.system()
    start = [-65.0, *(model.motions[g].steady.evaluate(V=-65.0, **model.values) for g in "mhn")]
    for factor, spikes in ((0.97, False), (1.03, True)):
        pulse = simulate(system, 1.0, start, parameters={"I": factor * found.threshold[1]}, progress=False, threads=1)
        after = simulate(system, 60.0, pulse.ends, parameters={"I": 0.0}, progress=False, threads=1)
        assert (after.highs[0, 0] > 0) == spikes
    assert strength_duration(model, [found.chronaxie]).threshold[0] == pytest.approx(2 * found.rheobase, rel=1e-6)


def test_the_laws_of_weiss_and_lapicque_are_fitted():
    times = np.geomspace(0.1, 20, 9)
    model = load("hodgkin-huxley")
    for name, law in (("Weiss", lambda t: 3 * (1 + 0.7 / t)), ("Lapicque", lambda t: 3 / (1 - 2 ** (-t / 0.7)))):
        found = next(f for f in StrengthDuration(model, times, law(times), 0.0, 0.7).laws() if f.name == name)
        assert (found.rheobase, found.chronaxie) == (pytest.approx(3), pytest.approx(0.7)) and found.misfit < 1e-9
        assert found(np.array([0.5])) == pytest.approx(law(0.5))
    two = StrengthDuration(model, np.array([1.0, 2.0, 3.0]), np.array([5.0, 4.0, np.nan]), 0.0, 1.0)
    assert two.laws() == ()


def test_a_passive_patch_obeys_lapicque():
    """A membrane that fires at a level of V reached by a leak alone has the threshold of a leaky capacitor."""
    leak = Model([Current("L", 0.5, -65), Current("Na", 1e-9, 50)], window=(-66.0, 50.0))
    found = strength_duration(leak, [0.5, 1.0, 2.0, 4.0, 200.0], level=-50.0, wait=5.0)
    law = next(f for f in found.laws() if f.name == "Lapicque")
    # rheobase = g·15 mV, chronaxie = ln 2 · C/g.
    assert (law.rheobase, law.chronaxie) == (pytest.approx(7.5, rel=1e-6), pytest.approx(2 * np.log(2), rel=1e-6))
    assert (found.rheobase, found.chronaxie) == (pytest.approx(7.5, rel=1e-6), pytest.approx(2 * np.log(2), rel=1e-6))
    axes = draw_strength_duration(found)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("duration of the pulse (ms)", "threshold (µA/cm²)")


@pytest.mark.parametrize(("durations", "words"), [([], "positive"), ([-1.0], "positive")])
def test_impossible_pulses_are_refused(durations, words):
    with pytest.raises(ValueError, match=words):
        strength_duration(load("hodgkin-huxley"), durations)


def test_a_pulse_too_weak_to_fire_has_no_threshold():
    assert np.isnan(strength_duration(load("hodgkin-huxley"), [0.01], strongest=5.0).threshold[0])
