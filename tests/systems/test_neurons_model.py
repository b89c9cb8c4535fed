"""Membrane models: their equations against the published ones written out, their numbers, and what is refused."""

import math
import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import varphi as vp
from varphi.activation.parsing import FormulaError
from varphi.numbers import variable
from varphi.systems.neurons import Current, Gate, Model, boltzmann, load, rates, steady
from varphi.systems.neurons.library import MODELS, SETS
from varphi.systems.neurons.units import CONDUCTANCE, POTENTIAL, TIME, quantity

potentials = st.floats(-90, 60)
fractions = st.floats(0, 1)


def explinear(x):
    return x / -math.expm1(-x) if x else 1.0


def hodgkin_huxley(v, m, h, n, current):
    am, bm = explinear((v + 40) / 10), 4 * math.exp(-(v + 65) / 18)
    ah, bh = 0.07 * math.exp(-(v + 65) / 20), 1 / (1 + math.exp(-(v + 35) / 10))
    an, bn = 0.1 * explinear((v + 55) / 10), 0.125 * math.exp(-(v + 65) / 80)
    return [
        current - 120 * m**3 * h * (v - 50) - 36 * n**4 * (v + 77) - 0.3 * (v + 54.387),
        am * (1 - m) - bm * m,
        ah * (1 - h) - bh * h,
        an * (1 - n) - bn * n,
    ]


def morris_lecar(v, w, current, gca, v3, v4, phi):
    m = (1 + math.tanh((v + 1.2) / 18)) / 2
    rest = (1 + math.tanh((v - v3) / v4)) / 2
    return [
        (current - gca * m * (v - 120) - 8 * w * (v + 84) - 2 * (v + 60)) / 20,
        phi * (rest - w) * math.cosh((v - v3) / (2 * v4)),
    ]


def connor_stevens(v, m, h, n, a, b, current):
    a_rest = (0.0761 * math.exp(0.0314 * (v + 94.22)) / (1 + math.exp(0.0346 * (v + 1.17)))) ** (1 / 3)
    b_rest = (1 / (1 + math.exp(0.0688 * (v + 53.3)))) ** 4
    return [
        current - 120 * m**3 * h * (v - 55) - 20 * n**4 * (v + 72) - 47.7 * a**3 * b * (v + 75) - 0.3 * (v + 17),
        3.8 * explinear((v + 29.7) / 10) * (1 - m) - 15.2 * math.exp(-0.0556 * (v + 54.7)) * m,
        0.266 * math.exp(-0.05 * (v + 48)) * (1 - h) - 3.8 / (1 + math.exp(-(v + 18) / 10)) * h,
        0.2 * explinear((v + 45.7) / 10) * (1 - n) - 0.25 * math.exp(-0.0125 * (v + 55.7)) * n,
        (a_rest - a) / (0.3632 + 1.158 / (1 + math.exp(0.0497 * (v + 55.96)))),
        (b_rest - b) / (1.24 + 2.678 / (1 + math.exp(0.0624 * (v + 50)))),
    ]


@given(v=potentials, m=fractions, h=fractions, n=fractions, current=st.floats(-20, 200))
def test_hodgkin_huxley_is_the_published_system(v, m, h, n, current):
    found = load("hodgkin-huxley").system(current)([v, m, h, n])
    assert found == pytest.approx(hodgkin_huxley(v, m, h, n, current), rel=1e-11, abs=1e-11)


@given(v=potentials, w=fractions, current=st.floats(-20, 200))
@pytest.mark.parametrize(
    ("name", "numbers"),
    [("class 1", (4, 12, 17.4, 1 / 15)), ("class 2", (4.4, 2, 30, 0.04)), ("homoclinic", (4, 12, 17.4, 0.23))],
)
def test_morris_lecar_is_the_published_system(name, numbers, v, w, current):
    found = load("morris-lecar", name).system(current)([v, w])
    assert found == pytest.approx(morris_lecar(v, w, current, *numbers), rel=1e-11, abs=1e-11)


@given(v=potentials, gates=st.tuples(*[fractions] * 5), current=st.floats(-20, 200))
def test_connor_stevens_is_the_published_system(v, gates, current):
    found = load("connor-stevens").system(current)([v, *gates])
    assert found == pytest.approx(connor_stevens(v, *gates, current), rel=1e-11, abs=1e-10)


@given(v=st.floats(-3, 3), w=st.floats(-3, 3), current=st.floats(-1, 2))
def test_fitzhugh_nagumo_is_the_published_system(v, w, current):
    found = load("fitzhugh-nagumo").system(current)([v, w])
    assert found == pytest.approx([v - v**3 / 3 - w + current, 0.08 * (v + 0.7 - 0.8 * w)], abs=1e-13)


@pytest.mark.parametrize(("name", "set_"), [(n, s) for n in MODELS for s in SETS.get(n, (None,))])
def test_at_its_steady_current_a_model_stands_still(name, set_):
    model = load(name, set_)
    low, high = model.span
    for v in (low + 0.31 * (high - low), low + 0.62 * (high - low)):
        numbers = model.values | {"V": v}
        state = [v, *(model.motions[g].steady.evaluate(**numbers) for g in model.states[1:])]
        current = model.steady_current.evaluate(**numbers)
        assert model.system(current)(state) == pytest.approx([0] * len(state), abs=1e-10)


def test_the_equations_run_over_tensors_with_gradients():
    system = load("hodgkin-huxley").system(10.0)
    gates = (torch.full((7,), x, dtype=torch.float64) for x in (0.1, 0.6, 0.3))
    states = [torch.linspace(-80, 40, 7, dtype=torch.float64), *gates]
    conductance = torch.tensor(36.0, dtype=torch.float64, requires_grad=True)
    rates = system(states, gK=conductance)
    for k in range(7):
        plain = system([float(s[k]) for s in states])
        assert [float(r[k].detach()) for r in rates] == pytest.approx(plain, rel=1e-12)
    (slope,) = torch.autograd.grad(rates[0].sum(), conductance)
    assert float(slope) == pytest.approx(-float((0.3**4 * (states[0] + 77)).sum()), rel=1e-12)


# Numbers --------------------------------------------------------------------------------------------------------------


def test_numbers_change_by_flat_and_dotted_names_with_units():
    model = load("hodgkin-huxley").with_({"K.g": "0.04 S/cm2"}, EL="-0.0544 V")
    assert model.values["gK"] == pytest.approx(40) and model.values["EL"] == pytest.approx(-54.4)
    assert load("izhikevich").with_({"m.half": -30}).values["half_m"] == -30
    assert load("hodgkin-huxley").values["gK"] == 36


def test_changes_add_up():
    model = load("morris-lecar").with_(V3=10).with_(V4=20)
    assert (model.values["V3"], model.values["V4"]) == (10, 20)
    assert model.system(0.0).parameters["V3"] == 10


def test_models_pickle():
    model = load("connor-stevens").with_(gA=30)
    again = pickle.loads(pickle.dumps(model))
    state = [-50, 0.1, 0.5, 0.3, 0.4, 0.2]
    assert again.values == model.values and again.system(1.0)(state) == model.system(1.0)(state)


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("120", CONDUCTANCE, 120),
        ("0.12 S/cm2", CONDUCTANCE, 120),
        ("1200 S/m^2", CONDUCTANCE, 120),
        ("36 mS/cm²", CONDUCTANCE, 36),
        ("-0.077 V", POTENTIAL, -77),
        ("10 pS/um2", CONDUCTANCE, 1),
        ("5e2 us", TIME, 0.5),
    ],
)
def test_units_are_converted(text, unit, value):
    assert quantity(text, unit, "x") == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize("text", ["36 mV", "36 mS", "36 parsec", "thirty", "nan", "1e999"])
def test_a_wrong_unit_is_refused(text):
    with pytest.raises(ValueError, match="gK"):
        load("hodgkin-huxley").with_(gK=text)


def test_parameters_have_units_where_they_are_known():
    model = load("morris-lecar")
    assert model.with_(V3="0.01 V").values["V3"] == 10 and model.unit("phi") == " (1/ms)"
    with pytest.raises(ValueError, match="'10 ms' is a time, and a potential in mV is needed"):
        model.with_(V3="10 ms")
    assert load("wang-buzsaki").unit("phi") == "" and load("fitzhugh-nagumo").unit("eps") == ""
    assert pickle.loads(pickle.dumps(model)).unit("V3") == " (mV)"
    with pytest.raises(ValueError, match="parameter_units names 'W', which is none of the parameters"):
        replace(model, parameter_units={"W": "mV"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gX": 1}, "no parameter 'gX'; it has C, gNa"),
        ({"C": 0}, "C must be positive"),
        ({"gNa": -1}, "must not be negative"),
        ({"ENa": -77}, None),
    ],
)
def test_impossible_numbers_are_refused(changes, words):
    if words is None:
        assert load("hodgkin-huxley").with_(changes).span == (-77, -54.387)
        return
    with pytest.raises(ValueError, match=words):
        load("hodgkin-huxley").with_(changes)


# A user's own gates ---------------------------------------------------------------------------------------------------


def leaky(gate):
    return Model([Current("K", 5, -80, [gate]), Current("Na", 1, 50)])


def test_gates_may_be_formulas_activations_and_functions():
    from varphi.numbers import sigmoid

    shapes = [
        "1/(1+exp(-(V+40)/5))",
        "boltzmann_gate(V, half=-40, slope=5)",
        vp.get("boltzmann_gate", half=-40.0, slope=5.0),
        lambda v: sigmoid((v + 40) / 5),
    ]
    models = [leaky(Gate("n", steady(s, tau=2))) for s in shapes]
    models.append(leaky(Gate("n", boltzmann(-40, 5, tau=2))))
    found = [m.system(3.0)([-37.0, 0.4]) for m in models]
    assert all(f == pytest.approx(found[0], rel=1e-13) for f in found)
    assert found[0][1] == pytest.approx((1 / (1 + math.exp(-0.6)) - 0.4) / 2)


@pytest.mark.parametrize(
    ("kinetics", "words"),
    [
        (steady("V/50", tau=1), r"the steady state of the gate n must lie in \[0, 1\]"),
        (steady("1.01*sigmoid(V/10)", tau=1), r"must lie in \[0, 1\]"),
        (steady("sigmoid(V/10)", tau="V"), "tau of the gate n must be positive"),
        (steady("sigmoid(V/10)", tau=0), "tau of the gate n must be positive"),
        (rates("V+40", "1"), "alpha of the gate n must not be negative"),
        (rates("exp(V/10)", "-exp(V/20)"), "must be positive|must not be negative"),
        (steady("sqrt(V)", tau=1), "not defined|must lie"),
    ],
)
def test_a_gate_without_range_is_refused(kinetics, words):
    with pytest.raises(ValueError, match=words):
        leaky(Gate("n", kinetics))


def test_a_range_may_be_stated_and_is_proved():
    assert leaky(Gate("n", steady("1.01*sigmoid(V/10)", tau=1), range=(0, 1.01)))
    assert leaky(Gate("n", steady("V/50", tau=1), range=None))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Gate("V", boltzmann(0, 5, tau=1)), ValueError, "cannot name a gate"),
        (lambda: Gate("n", boltzmann(0, 5)), ValueError, "no time constant"),
        (lambda: Gate("n", boltzmann(0, 5, tau=1), power=0), ValueError, "whole number from 1"),
        (lambda: Gate("n", "sigmoid(V)"), TypeError, "needs kinetics"),
        (lambda: boltzmann(0, 0), ValueError, "not zero"),
        (lambda: boltzmann("5 ms", 1), ValueError, "is a time"),
        (lambda: Current("K", 5), ValueError, "needs g and E"),
        (lambda: Model([]), ValueError, "at least one current"),
        (lambda: Model([Current("K", 1, -80), Current("K", 1, 50)]), ValueError, "two currents"),
        (lambda: Model([Current("K", 1, -80)]), ValueError, "window"),
        (lambda: leaky(Gate("n", steady("sigmoid((V-half)/5)", tau=1))), FormulaError, "unknown symbol 'half'"),
        (lambda: leaky(Gate("n", steady(lambda v: math.exp(v), tau=1))), ValueError, "not with those of math or numpy"),
        (lambda: leaky(Gate("n", steady(lambda v: 1 / 0, tau=1))), ValueError, "cannot be applied to V"),
        (lambda: Model([Current("K", "10 nS", -80), Current("Na", 1, 50)]), ValueError, "gK: the unit 'nS'"),
        (lambda: Model([Current("K", 1, -80)], C="2 mV", window=(-90, 0)), ValueError, "C: '2 mV' is a potential"),
        (lambda: Model([Current("K", 1, -80)], window=(math.nan, 0)), ValueError, "window from nan to 0"),
        (lambda: Model([Current("K", formula=variable("q"))], window=(-90, 0)).system(), ValueError, "'q' is unknown"),
        (lambda: load("morris-lecar").with_(V4=0), ValueError, "tau of the gate w must be positive"),
        (lambda: load("morris-lecar").with_(phi=-1), ValueError, "tau of the gate w must be positive"),
        (lambda: load("hodgkin-huxley").with_(gNa=math.inf), ValueError, "gNa must be finite"),
        (lambda: load("hodgkin"), ValueError, "did you mean hodgkin-huxley"),
        (lambda: load("hodgkin-huxley", "class 1"), ValueError, "one set of numbers"),
        (lambda: load("morris-lecar", "class 3"), ValueError, "'class 1', 'class 2', 'homoclinic'"),
    ],
)
def test_what_is_no_model_is_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()
