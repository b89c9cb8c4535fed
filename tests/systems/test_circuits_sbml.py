"""SBML and Antimony: what is read, recognised, refused, written. Oracles: libroadrunner and the SBML Test Suite."""

import csv
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from varphi.dynamics.mathml import UnsupportedModel
from varphi.dynamics.stochastic import simulate_counts
from varphi.systems.circuits import Circuit, Pulse, Transcript, Units
from varphi.systems.circuits.antimony import from_antimony
from varphi.systems.circuits.model import Model
from varphi.systems.circuits.sbml import from_sbml
from varphi.systems.circuits.writing import to_sbml

libsbml = pytest.importorskip("libsbml", reason="needs varphi[circuits]")
pytest.importorskip("antimony", reason="needs varphi[circuits]")

LOOP = """
function up(a, k, m)
  (a/k)^m/(1 + (a/k)^m)
end
model loop
  compartment c = 1; species $X in c, Y in c, Z in c;
  X = 1; Y = 0; Z = 0; by = 1; ay = 1; bz = 1; az = 1; Kxy = 0.1; Kxz = 0.1; Kyz = 0.5; n = 2;
  J1: => Y; by*up(X, Kxy, n);  J2: Y => ; ay*Y;
  J3: => Z; bz*X^n/(Kxz^n + X^n)*Kyz^n/(Kyz^n + Y^n);  J4: Z => ; az*Z;
end
"""


def law(text: str, more: str = "") -> Model:
    """A model whose one interesting law makes Z."""
    return from_antimony(
        f"species x, y, Z; x = 1; y = 1; Z = 0; K = 2; n = 3; V = 5; J: => Z; {text}; D: x => ; x; E: y => ; y; {more}"
    )


def test_the_loop_of_an_antimony_text() -> None:
    model = from_antimony(LOOP)
    assert model.name == "loop" and model.equations.states == ("Y", "Z")
    assert [str(h) for h in model.hill_laws] == [
        "Hill activator of X, K = Kxy, n = n",
        "Hill activator of X, K = Kxz, n = n",
        "Hill repressor of Y, K = Kyz, n = n",
    ]
    assert model.edges == (("X", "Y", 1), ("X", "Z", 1), ("Y", "Z", -1))
    answer = model.respond(("X", 0.0, 1.0), "Z", 20.0, progress=False)
    pulse = answer.pulses()[0]
    assert isinstance(pulse, Pulse)
    assert pulse.peak == pytest.approx(0.378822, abs=6e-7) and pulse.time == pytest.approx(1.0258, abs=6e-5)
    assert answer.response().acceleration[0] == pytest.approx(1 / 0.1569, rel=1e-3)
    many = model.respond(("X", 0.0, 1.0), "Z", 20.0, parameters={"Kyz": np.array([0.5, 50.0])}, progress=False)
    assert list(many.pulses().present) == [True, False]


@pytest.mark.parametrize(
    "text, found",
    [
        ("V*x^n/(K^n + x^n)", "Hill activator of x, K = K, n = n"),
        ("V*x^n/(x^n + K^n)", "Hill activator of x, K = K, n = n"),
        ("V/(1 + (K/x)^n)", "Hill activator of x, K = K, n = n"),
        ("V*(x/K)^n/(1 + (x/K)^n)", "Hill activator of x, K = K, n = n"),
        ("V/(1 + (x/K)^n)", "Hill repressor of x, K = K, n = n"),
        ("V*K^n/(K^n + x^n)", "Hill repressor of x, K = K, n = n"),
        ("V/(1 + x^4)", "Hill repressor of x, K = 1, n = 4"),
        ("V*x/(K + x)", "Michaelis–Menten of x, K = K, n = 1"),
        ("V*K/(K + x)", "hyperbolic repressor of x, K = K, n = 1"),
        ("V*x/(K + y)", "hyperbolic repressor of y, K = K, n = 1"),
        ("y*x^2/(K^2 + x^2)", "Hill activator of x, K = K, n = 2"),
        ("V*x^2.5/(K^2.5 + x^2.5)", "Hill activator of x, K = K, n = 2.5"),
    ],
)
def test_laws_are_recognised_however_they_are_written(text: str, found: str) -> None:
    model = law(text)
    told = [str(h).replace("5/2", "2.5") for h in model.hill_laws]
    assert told == [found]
    # And they are the formula that was written.
    expression = next(p.law for p in model.processes if p.name == "J")
    for x in (0.3, 2.0, 11.0):
        values = {"x": x, "y": 0.7, "K": 2.0, "n": 3.0, "V": 5.0}
        exact = eval(text.replace("^", "**"), {}, values)
        assert float(
            expression.evaluate(**{k: v for k, v in values.items() if k in expression.variables})
        ) == pytest.approx(exact, rel=1e-13)
    # At 0, a hair below it, and far out it is a number.
    for x in (0.0, -1e-12, 1e300):
        assert math.isfinite(
            float(expression.evaluate(**{k: v for k, v in {**values, "x": x}.items() if k in expression.variables}))
        )


@pytest.mark.parametrize("text", ["V*x", "V*x*y/(K*y + x*x)", "V*y/(K*x + y)"])
def test_other_laws_stay_what_they_are(text: str) -> None:
    model = law(text)
    assert model.hill_laws == ()
    expression = next(p.law for p in model.processes if p.name == "J")
    values = {"x": 0.3, "y": 0.7, "K": 2.0, "n": 3.0, "V": 5.0}
    used = {k: v for k, v in values.items() if k in expression.variables}
    assert float(expression.evaluate(**used)) == pytest.approx(eval(text, {}, values), rel=1e-13)


def test_signs_are_proved_or_left_open() -> None:
    signs = {
        text: dict(((s, t), sign) for s, t, sign in law(text).edges)
        for text in ("V*x*y", "V*exp(-x)", "x*(1 - x)", "V*y/(1 + x^2)")
    }
    assert signs["V*x*y"] == {("x", "Z"): 1, ("y", "Z"): 1}
    assert signs["V*exp(-x)"] == {("x", "Z"): -1}
    assert signs["x*(1 - x)"] == {("x", "Z"): 0}
    assert signs["V*y/(1 + x^2)"] == {("x", "Z"): -1, ("y", "Z"): 1}


def test_local_parameters_rules_and_initial_assignments_are_worked_in() -> None:
    model = from_antimony(
        "compartment c = 2; species A in c, B in c; A = 3; B = 2*q; q = A + 1; s := A + B; k = 0.5; R: A => B; c*k*s*A;"
    )
    assert model.start == {"A": 3.0, "B": 8.0}
    assert model.equations([3.0, 8.0]) == pytest.approx([-0.5 * 11 * 3, 0.5 * 11 * 3])
    course = model.simulate([0.0, 1.0], progress=False)
    np.testing.assert_allclose(model.value("s", course), 11.0, rtol=1e-9)
    local = to_sbml(Circuit.simple()).replace(
        "</kineticLaw>",
        '<listOfLocalParameters><localParameter id="alpha_Z" value="3"/></listOfLocalParameters></kineticLaw>',
    )
    found = from_sbml(local).equations.parameters
    assert sorted(k for k in found if k.endswith("_alpha_Z")) == [
        "lose_Z_alpha_Z",
        "make_Z_alpha_Z",
    ]
    assert from_sbml(local).equations([1.0])[0] == pytest.approx(0.5 - 3.0)


CIRCUITS = [
    *(Circuit.ffl(kind, gate, K={"XY": 0.4, "XZ": 0.9, "YZ": 0.6}, n={"XY": 1.5, "XZ": 2.0, "YZ": 3.0}, basal=0.1)
      for kind, gate in (("C1", "AND"), ("I1", "OR"), ("I2", "SUM"), ("C3", "AND"), ("I4", "OR"))),
    Circuit.toggle(beta=4.0, units=Units("nM", "min")),
    Circuit.repressilator(alpha=0.2, beta=216.0, K=40.0, transcript=Transcript(1.0, 5.0), units=Units("molecules")),
]  # fmt: skip


@pytest.mark.parametrize("circuit", CIRCUITS, ids=lambda c: "-".join(c.genes) + c.units.amount)
def test_what_is_written_is_read_again(circuit: Circuit) -> None:
    for model in (from_sbml(to_sbml(circuit)), from_antimony(circuit.to_antimony())):
        assert dict(model.start) == pytest.approx(circuit.starts)
        ours, theirs = circuit.system(), model.system()
        generator = np.random.default_rng(0)
        for _ in range(5):
            state = dict(zip(ours.states, generator.uniform(0, 3, len(ours.states)).tolist(), strict=True))
            expected = dict(zip(ours.states, ours(list(state.values())), strict=True))
            found = dict(zip(theirs.states, theirs([state[s] for s in theirs.states]), strict=True))
            assert found == pytest.approx(expected, rel=1e-12)
        if not any(g.gate == "OR" for g in circuit.genes.values()):
            assert {(h.species, h.sign) for h in model.hill_laws} == {(s, sign) for s, _, sign in circuit.edges}
            if all(g.transcript is None for g in circuit.genes.values()):
                assert set(model.edges) == set(circuit.edges)
        network = model.network()
        assert len(network.propensities) == 2 * len(circuit.starts)


@pytest.mark.parametrize("circuit", CIRCUITS, ids=lambda c: "-".join(c.genes) + c.units.amount)
def test_roadrunner_agrees(circuit: Circuit) -> None:
    roadrunner = pytest.importorskip("roadrunner", reason="libroadrunner is an oracle, not a dependency")
    runner = roadrunner.RoadRunner(to_sbml(circuit))
    runner.integrator.relative_tolerance, runner.integrator.absolute_tolerance = 1e-11, 1e-14
    states = list(circuit.starts)
    runner.timeCourseSelections = [f"[{s}]" for s in states]
    theirs = np.array(runner.simulate(0, 10, 21))
    model = from_sbml(to_sbml(circuit))
    course = model.simulate(np.linspace(0, 10, 21), rtol=1e-10, atol=1e-13, progress=False)
    np.testing.assert_allclose(np.stack([course.state(s)[0] for s in states], 1), theirs, rtol=2e-6, atol=1e-9)


def test_units_reach_sbml() -> None:
    text = to_sbml(Circuit.toggle(units=Units("nM", "min")))
    document = libsbml.readSBMLFromString(text)
    document.setConsistencyChecks(libsbml.LIBSBML_CAT_UNITS_CONSISTENCY, False)
    document.checkConsistency()
    assert document.getNumErrors(libsbml.LIBSBML_SEV_ERROR) == 0
    assert 'substanceUnits="amount_unit"' in text and 'timeUnits="time_unit"' in text and 'multiplier="60"' in text
    assert "mole" in from_sbml(text).equations.units["A"]


def test_molecules_of_a_model() -> None:
    model = from_antimony("compartment c = 2; species A in c; A = 0; k = 10; d = 0.5; J1: => A; c*k; J2: A => ; c*d*A;")
    found = simulate_counts(model.network(), 400.0, [0], samples=24, settled=20.0, progress=False)
    # 20 a unit of time are made, each lost at 0.5: 40 molecules, in a volume of 2.
    assert found.means.mean() == pytest.approx(40.0, rel=0.03) and found.fano()[0] == pytest.approx(1.0, abs=0.06)
    with pytest.raises(ValueError, match="'J1' is reversible"):
        from_antimony("species A; A = 1; J1: A -> ; A; ").network()
    with pytest.raises(ValueError, match="'p' changes by a rule"):
        from_antimony("species A; A = 1; p = 1; p' = -p; J1: A => ; A;").network()


@pytest.mark.parametrize(
    "text, message",
    [
        ("species A; A = 1; J: A => ; A; at (A == 0.5): A = 2;", "an event whose trigger compares for equality"),
        ("species A; A = 1; k = 1; J: A => ; k*delay(A, 1);", "'delay'"),
        ("species A; A = 1; J: A => ; ceil(A);", "'ceiling'"),
        ("species A; A = 1; k = 2;", "nothing that changes"),
        ("species A; A = 1; J: A => ; k*A;", "'k' has no finite value"),
        ("species A; A = 1; J: A => ; ;", "'J' has no kinetic law|nothing that changes"),
        ("species A; A = 1; a := b; b := a; J: A => ; a;", "Loop detected"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_antimony(text)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Antimony cannot read this text"):
        from_antimony("species A; J: A => ; k*(A;")
    other = tmp_path / "letter.xml"
    other.write_text("<html>dear</html>")
    with pytest.raises(ValueError, match=r"letter\.xml is not SBML: it has no <sbml> element"):
        from_sbml(other)
    with pytest.raises(ValueError, match="not valid SBML"):
        from_sbml('<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2"><mod')
    with pytest.raises(FileNotFoundError):
        from_sbml(tmp_path / "absent.xml")
    algebraic = to_sbml(Circuit.simple()).replace(
        "<listOfReactions>",
        '<listOfRules><algebraicRule><math xmlns="http://www.w3.org/1998/Math/MathML"><ci>Z</ci></math></algebraicRule>'
        "</listOfRules><listOfReactions>",
    )
    with pytest.raises(UnsupportedModel, match="an algebraic rule"):
        from_sbml(algebraic)


# Events and compartments that change ---------------------------------------------------------------------------------


def test_an_event_in_closed_form() -> None:
    model = from_antimony("species A; A = 1; n = 0; J: A => ; A; at (A < 0.25): A = A + 1, n = n + 1;")
    times = np.linspace(0, 3, 13)
    course = model.simulate(times, rtol=1e-10, atol=1e-13, progress=False)
    first, each = math.log(4), math.log(1.25 / 0.25)
    counts = np.where(times > first, np.floor((times - first) / each) + 1, 0)
    last = first + (counts - 1) * each
    np.testing.assert_allclose(course.state("n")[0], counts)
    exact = np.where(counts == 0, np.exp(-times), 1.25 * np.exp(-(times - last)))
    np.testing.assert_allclose(course.state("A")[0], exact, rtol=1e-8)
    np.testing.assert_allclose(course.event_times[0], [first, first + each], rtol=1e-9)
    many = model.simulate(times, parameters={}, rtol=1e-9, progress=False)
    assert many.status.tolist() == [0]


@pytest.mark.parametrize(
    "event, times, values",
    [
        ("at 2 after (time > 1): p = time", [2.9, 3.0, 3.1], [0, 1, 1]),  # the value is that of the trigger's time
        ("at 2 after (time > 1), fromTrigger=false: p = time", [2.9, 3.0, 3.1], [0, 3, 3]),
        ("at (time > 1 && time < 1.001): p = 7", [0.9, 2.0], [0, 7]),  # a short window is not stepped over
        ("at 1 after (time > 1 && time < 1.5), persistent=false: p = 7", [3.0], [0]),
        ("at 1 after (time > 1 && time < 1.5): p = 7", [1.9, 3.0], [0, 7]),
        ("at (time >= 0), t0=false: p = 7", [0.0, 1.0], [7, 7]),
        ("at (time >= 0): p = 7", [1.0], [0]),
        ("at (time > 1), priority=1: p = 2*p + 1; at (time > 1), priority=2: p = 10", [2.0], [1]),
        ("at (time > 1), priority=1, fromTrigger=false: p = 2*p + 1; at (time > 1), priority=2: p = 10", [2.0], [21]),
        ("at (time > 1): p = 1; at (p > 0.5): q = 5; at (q > 4): p = 3", [0.5, 2.0], [0, 3]),
    ],
)
def test_what_events_mean(event: str, times: list, values: list) -> None:
    model = from_antimony(f"p = 0; q = 0; x = 1; x' = -x; {event};")
    course = model.simulate([0.0, *times, 4.0], progress=False)
    assert course.state("p")[0, 1:-1] == pytest.approx(values, abs=1e-9)


def test_events_that_cannot_be_ordered_are_refused() -> None:
    model = from_antimony("p = 0; x = 1; x' = -x; at (time > 1): p = 1; at (time > 1): p = 2;")
    with pytest.raises(ValueError, match=r"happen at one time \(1\) and their order matters: give them priorities"):
        model.simulate([0.0, 2.0], progress=False)
    endless = from_antimony("p = 0; x = 1; x' = -x; at (x < 0.5): x = 0.5;")
    with pytest.raises(ValueError, match=r"sets itself off again and again at the time 0.69"):
        endless.simulate([0.0, 2.0], progress=False)


def test_a_model_with_events_has_no_steady_state() -> None:
    model = from_antimony("species $X, A; X = 1; A = 0; J: => A; X; D: A => ; A; at (time > 1): A = 2;")
    for call in (model.steady, lambda: model.respond(("X", 0.0, 1.0)), model.network):
        with pytest.raises(ValueError, match=r"the model has events .*: it has time courses"):
            call()


def test_events_of_many_samples() -> None:
    model = from_antimony("species A; A = 1; k = 1; J: A => ; k*A; at (A < 0.5): A = 2;")
    k = np.array([0.5, 1.0, 2.0])
    course = model.simulate([0.0, 1.0], parameters={"k": k}, rtol=1e-10, progress=False)
    exact = [math.exp(-0.5), 2 * math.exp(-(1 - math.log(2))), 2 * math.exp(-2 * (1 - math.log(2) / 2))]
    np.testing.assert_allclose(course.state("A")[:, 1], exact, rtol=1e-7)


def test_a_growing_cell_dilutes() -> None:
    model = from_antimony("compartment c = 2; species A in c; A = 3; c' = 0.5*c; J: A => ; c*A; R := rateOf(A);")
    times = np.linspace(0, 2, 5)
    course = model.simulate(times, rtol=1e-10, atol=1e-13, progress=False)
    np.testing.assert_allclose(model.value("A", course), 3 * np.exp(-1.5 * times), rtol=1e-8)
    np.testing.assert_allclose(model.amount("A", course), 6 * np.exp(-times), rtol=1e-8)
    np.testing.assert_allclose(model.value("R", course), -4.5 * np.exp(-1.5 * times), rtol=1e-8)


EVENTFUL = (
    "species A, B; A = 1; B = 0; J: A => B; A; at (A < 0.4): A = A + 0.5; at (B > 1.2): B = 0.1;",
    "species A, B; A = 5; B = 0; J: A => B; A*B/(1 + A) + 0.1; D: B => ; 0.7*B; at 0.35 after (B > 0.6): A = A + B; "
    "at (time > 2 && A < 3): A = 4;",
    "compartment c = 2; species A in c; A = 3; c' = 0.3*c; J: A => ; c*A*0.5; at (A < 1.5): c = c*0.5;",
    "compartment c = 2; species A in c, B in c; A = 3; B = 1; c := 2 + 0.5*time; J: A => 2B; c*A*B*0.2; "
    "at (B > 2): B = 1;",
    "p = 0; x = 1; x' = -x + p; at 0.5 after (x < 0.5), persistent=false: p = 2; at (x > 1.5): p = 0;",
    "x = 1; y = 0; x' = y; y' = -x; n = 0; at (x < 0): n = n + 1, y = y*1.1; "
    "at 1.1 after (y > 0.5), fromTrigger=false: x = x + 0.1*n;",
)


@pytest.mark.parametrize("text", EVENTFUL)
def test_roadrunner_agrees_on_events(text: str) -> None:
    pytest.importorskip("roadrunner", reason="libroadrunner is an oracle, not a dependency")
    model = from_antimony(text)
    times = np.linspace(0, 8, 41)
    course = model.simulate(times, rtol=1e-10, atol=1e-12, progress=False)
    theirs = Circuit.from_sbml(model.text, engine="roadrunner").simulate(times, rtol=1e-11, atol=1e-13)
    for name in theirs.names:
        if name in (*model.equations.states, *model.derived):
            np.testing.assert_allclose(model.value(name, course), theirs.state(name), rtol=1e-6, atol=1e-7)


def test_the_other_engine_is_taken_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "roadrunner", None)
    text = from_antimony(EVENTFUL[0]).text
    with pytest.raises(ImportError, match="the engine 'roadrunner' needs the package libroadrunner"):
        Circuit.from_sbml(text, engine="roadrunner")
    with pytest.raises(ValueError, match="engine is 'varphi' or 'roadrunner', got 'copasi'"):
        Circuit.from_sbml(text, engine="copasi")
    with pytest.raises(
        UnsupportedModel, match="'delay' in a formula, which is not supported; libroadrunner can run it"
    ):
        from_antimony("species A; A = 1; k = 1; J: A => ; k*delay(A, 1);")


# Circuits that are read ----------------------------------------------------------------------------------------------

TEXT = """
  species $X, Y, Z;  X = 0; Y = 0; Z = 0;
  J1: => Y; by*X^n/(Kxy^n + X^n);                     J2: Y => ; ay*Y;
  J3: => Z; bz*X^n/(Kxz^n + X^n) * 1/(1 + (Y/Kyz)^n);  J4: Z => ; az*Z;
  by = 1; ay = 1; bz = 1; az = 1; Kxy = 0.1; Kxz = 0.1; Kyz = 0.5; n = 2;
"""


def test_a_text_is_a_circuit_with_its_own_names() -> None:
    circuit = Circuit.from_antimony(TEXT)
    assert isinstance(circuit, Circuit)
    assert circuit.edges == (("X", "Y", 1), ("X", "Z", 1), ("Y", "Z", -1)) and circuit.genes["Z"].gate == "AND"
    assert circuit.parameters["K_Y_Z"] == 0.5 and circuit.aliases["n"] == ("n_X_Y", "n_X_Z", "n_Y_Z")
    assert circuit.with_parameters(Kyz=2.0, n=3.0).parameters["n_X_Z"] == 3.0
    one = circuit.respond(("X", 0.0, 1.0), parameters={"Kyz": np.array([0.5, 50.0])}, progress=False).pulses()
    two = circuit.respond(("X", 0.0, 1.0), parameters={"K_Y_Z": np.array([0.5, 50.0])}, progress=False).pulses()
    assert list(one.present) == [True, False] and one.peak[0] == two.peak[0] == pytest.approx(0.378822, abs=6e-7)
    with pytest.raises(ValueError, match="'K_Y_Z' is given twice, once as 'Kyz'"):
        circuit.respond(("X", 0.0, 1.0), parameters={"K_Y_Z": 1.0, "Kyz": 1.0})
    with pytest.raises(ValueError, match="no parameter 'Kxx'"):
        circuit.respond(("X", 0.0, 1.0), parameters={"Kxx": 1.0})


@pytest.mark.parametrize("circuit", CIRCUITS, ids=lambda c: "-".join(c.genes) + c.units.amount)
def test_a_circuit_that_is_written_is_a_circuit_again(circuit: Circuit) -> None:
    for found in (Circuit.from_sbml(circuit.to_sbml()), Circuit.from_antimony(circuit.to_antimony())):
        assert isinstance(found, Circuit)
        assert found.parameters == pytest.approx(circuit.parameters) and found.starts == circuit.starts
        assert found.edges == circuit.edges and found.units == circuit.units
        gates = {n: g.gate for n, g in circuit.genes.items() if len(g.regulators) > 1}
        assert {n: found.genes[n].gate for n in gates} == gates


@pytest.mark.parametrize(
    "text, reason",
    [
        ("species $X, Z; X = 1; Z = 0; J: => Z; X^2/(4 + X^2); D: Z => ; Z*Z;", "not in proportion"),
        ("species $X, Z; X = 1; Z = 0; J: => Z; X; D: Z => ; Z;", "'X' acts in X, but not by a Hill function"),
        ("species $X, Z; X = 1; Z = 0; J: => Z; X/(1 + X); D: Z => ; Z; at (time > 1): Z = 0;", "it has events"),
        ("species $X, Z; X = 1; Z = 0; q := 2*X; J: => Z; q/(1 + q); D: Z => ; Z;", "a rule defines 'q'"),
        ("species $X, Z; X = 1; Z = 0; a = 1; b = 1; J: => Z; X/(1 + X); D: Z => ; (a + b)*Z;", "2 losses"),
        ("species $X_1, Z; X_1 = 1; Z = 0; J: => Z; X_1/(1 + X_1); D: Z => ; Z;", "'X_1' cannot name a gene"),
    ],
)
def test_a_model_says_why_it_is_no_circuit(text: str, reason: str) -> None:
    model = Circuit.from_antimony(text)
    assert isinstance(model, Model) and reason in model.not_a_circuit


def test_a_model_has_the_measures_of_a_circuit() -> None:
    # The same loop, but the loss of Y is no one parameter: a model.
    circuit = Circuit.from_antimony(TEXT)
    model = Circuit.from_antimony(TEXT.replace("; ay*Y;", "; (ay + 0*X)*Y;").replace("ay = 1;", "k = 0.5; ay := 2*k;"))
    assert isinstance(circuit, Circuit) and isinstance(model, Model)
    answers = [s.respond(("X", 0.1, 1.0), "Z", 20.0, progress=False) for s in (circuit, model)]
    pulses = [a.pulses()[0] for a in answers]
    assert all(isinstance(p, Pulse) for p in pulses)
    assert pulses[0].peak == pytest.approx(pulses[1].peak, rel=1e-9)
    assert answers[0].adaptation().precision == pytest.approx(answers[1].adaptation().precision, rel=1e-9)
    states = [s.steady(parameters={"X": np.array([0.5, 1.0])}, wait=50.0, progress=False) for s in (circuit, model)]
    np.testing.assert_allclose(states[0].states, states[1].states, rtol=1e-9)
    doses = [s.dose_response("X", np.geomspace(0.01, 1, 5), "Y", 60.0, progress=False) for s in (circuit, model)]
    assert doses[0].half == pytest.approx(doses[1].half, rel=1e-9)
    counts = [
        s.simulate_counts(5.0, molecules=100.0, parameters={"X": 1.0}, samples=50, progress=False)
        for s in (circuit, model)
    ]
    np.testing.assert_allclose(counts[0].means.mean(0), counts[1].means.mean(0), rtol=0.05)
    folds = [s.fold_change("X", 2.0, [0.5, 1.0], "Z", 20.0, progress=False) for s in (circuit, model)]
    assert folds[0].difference == pytest.approx(folds[1].difference, rel=1e-6)
    assert from_sbml(model.to_sbml()).equations.rates == model.equations.rates and "ay" in model.to_antimony()


@pytest.mark.parametrize(
    "change, message",
    [
        (("Kyz = 0.5", "Kyz = 0"), "K_Y_Z must be finite and above 0, got 0.0"),
        (("n = 2;", "n = -2;"), "n_X_Y must be finite and above 0, got -2.0; a gene that x switches off"),
        (("Y = 0;", "Y = -1;"), "Y starts at -1.0: a level must be finite and not negative"),
        (("X = 0;", "X = -1;"), "X must be finite and not negative, got -1.0"),
    ],
)
def test_impossible_values_of_a_text_are_refused(change: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Circuit.from_antimony(TEXT.replace(*change))
    # And where it is a model, too.
    odd = TEXT.replace("; ay*Y;", "; ay*Y*Y;").replace(*change)
    with pytest.raises(ValueError, match=r"must be above 0|must not be negative"):
        Circuit.from_antimony(odd)


def test_units_that_clash_are_refused() -> None:
    declared = (
        "unit substance = 1e-9 mole; unit extent = 1e-9 mole; unit time_unit = 60 second; unit volume = litre; "
        "unit rate = 1 / (60 second); unit level = 1e-9 mole / litre; unit made = 1e-9 mole / (litre * 60 second);"
    )
    text = declared + (
        "compartment c = 1; c has volume; species $X in c, Z in c; X = 1; Z = 0; J: => Z; c*b*X/(K + X); "
        "D: Z => ; c*a*Z; a = 1; b = 1; K = 1; a has rate; b has made; K has {};"
    )
    with pytest.raises(ValueError, match=r"units clash: .*K \+ X.* or read it with check_units=False"):
        Circuit.from_antimony(text.format("rate"))
    assert isinstance(Circuit.from_antimony(text.format("rate"), check_units=False), Circuit)
    assert isinstance(Circuit.from_antimony(text.format("level")), Circuit)


def test_competition_is_recognised() -> None:
    text = (
        "species $X, $Y, Z; X = 1; Y = 2; Z = 0; J: => Z; b*{}; D: Z => ; a*Z; "
        "a = 1; b = 3; K = 2; L = 3; n = 2; m = 3;"
    )
    for law, signs in (
        ("(X/K)^n/(1 + (X/K)^n + (Y/L)^m)", {"X": 1, "Y": -1}),
        ("((X/K)^n + (Y/L)^m)/(1 + (X/K)^n + (Y/L)^m)", {"X": 1, "Y": 1}),
        ("(1 + (X/K)^n)/(1 + (X/K)^n + (Y/L)^m)", {"X": 1, "Y": -1}),
        ("2/(1 + (X/K)^n + (Y/L)^m)", {"X": -1, "Y": -1}),
        ("(X + K)/(K + X + Y)", {"X": 1, "Y": -1}),
    ):
        found = Circuit.from_antimony(text.format(law))
        if law.startswith("(X/K)"):
            # Only X's own term above: the repressor's head, 1, is missing, and this is no gate.
            assert isinstance(found, Model)
            continue
        assert isinstance(found, Circuit), found.not_a_circuit
        assert found.genes["Z"].gate == "OR" and {s: sign for s, _, sign in found.edges} == signs
        values = {"X": 1.0, "Y": 2.0, "K": 2.0, "L": 3.0, "n": 2.0, "m": 3.0}
        exact = 3 * eval(law.replace("^", "**"), {}, values)
        assert found.system()([0.0])[0] == pytest.approx(exact, rel=1e-12)


# The SBML Test Suite, where the folder that VARPHI_SBML_SUITE names holds it (semantic/ and stochastic/) ------------

SUITE = os.environ.get("VARPHI_SBML_SUITE")


def cases(kind: str) -> list[str]:
    return sorted(p.name for p in (Path(SUITE) / kind).iterdir() if p.is_dir()) if SUITE else []


def read_case(kind: str, number: str) -> tuple[Model, dict[str, str], list[str], np.ndarray]:
    assert SUITE is not None
    folder = Path(SUITE) / kind / number
    levels = ("l3v2", "l3v1", "l2v5", "l2v4", "l2v3", "l2v2", "l2v1")
    files = [folder / f"{number}-sbml-{level}.xml" for level in levels]
    told = dict(
        (k.strip(), v.strip())
        for k, _, v in (x.partition(":") for x in (folder / f"{number}-settings.txt").read_text().splitlines())
    )
    with (folder / f"{number}-results.csv").open() as lines:
        head, *rows = [r for r in csv.reader(lines) if r]
    return from_sbml(next(f for f in files if f.exists())), told, [h.strip() for h in head], np.array(rows, float)


@pytest.mark.skipif(SUITE is None, reason="VARPHI_SBML_SUITE names no folder with the SBML Test Suite")
def test_no_wrong_answer_in_the_suite() -> None:
    passed, refused, wrong = 0, 0, []
    for number in cases("semantic"):
        try:
            model, told, head, expected = read_case("semantic", number)
        except UnsupportedModel:
            refused += 1
            continue
        absolute, relative = float(told["absolute"]), float(told["relative"])
        course = model.simulate(expected[:, 0], rtol=1e-10, atol=max(absolute * 1e-4, 1e-16), progress=False)
        amounts, concentrations = ([x.strip() for x in told.get(k, "").split(",")] for k in ("amount", "concentration"))
        for i, name in enumerate(head[1:], 1):
            own = "t_" if name == "t" else name
            kind = model.amount if name in amounts else model.concentration if name in concentrations else model.value
            value = kind(own, course)
            if not (np.abs(value - expected[:, i]) <= absolute + relative * np.abs(expected[:, i])).all():
                wrong.append((number, name))
        passed += 1
    print(f"{passed} answered, {refused} refused, wrong: {wrong}")
    assert not wrong and passed > 0


@pytest.mark.parametrize("number", cases("stochastic"))
def test_means_and_deviations_of_the_stochastic_suite(number: str) -> None:
    try:
        model, _, head, expected = read_case("stochastic", number)
        network = model.network()
    except UnsupportedModel as refusal:
        pytest.skip(str(refusal))
    runs = 10_000
    start = {s: round(model.start[s] * model.sizes[s]) for s in network.species}
    found = simulate_counts(
        network, float(expected[-1, 0]) + 1e-9, start, samples=runs, times=expected[:, 0], seed=11, progress=False
    )
    assert found.ok.all()
    for i, label in enumerate(head[1:], 1):
        name, _, kind = label.rpartition("-")
        if name not in network.species:
            continue
        counts, exact = found.species(name), expected[:, i]
        spread = expected[:, head.index(f"{name}-sd")]
        if kind == "mean":
            z = np.sqrt(runs) * np.divide(counts.mean(0) - exact, spread, out=np.zeros_like(exact), where=spread > 0)
            assert np.abs(z).max() < 3
        elif kind == "sd":
            # The suite's y has the variance 1 for normal counts; where few survive, tails are heavier: by the kurtosis.
            moment = ((counts - counts.mean(0)) ** 4).mean(0)
            kurtosis = np.divide(moment, counts.var(0) ** 2, out=np.full_like(exact, 3.0), where=counts.var(0) > 0)
            y = np.divide(counts.var(0), exact**2, out=np.ones_like(exact), where=exact > 0) - 1
            y *= np.sqrt(runs / np.maximum(kurtosis - 1, 2.0))
            assert np.abs(y).max() < 5
