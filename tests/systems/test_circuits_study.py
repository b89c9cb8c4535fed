"""The circuits study, its figures, the command line and the example."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from varphi import cli
from varphi.study import Size, api
from varphi.systems.circuits import Circuit
from varphi.systems.circuits.chance import random_circuit, share_between
from varphi.systems.circuits.noise import noisy_pulse
from varphi.systems.circuits.noise_study import STUDY as NOISE
from varphi.systems.circuits.study import LOOPS, RANGES, STUDY, trial

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "circuits.py"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    smoke = STUDY.size("smoke")
    tiny = Size(seeds=10, takes="seconds", options={"sets": 20}, factors=smoke.factors)
    study = replace(STUDY, sizes=dict(STUDY.sizes) | {"smoke": tiny})
    # Two circuits in place of many: each new one is compiled.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "varphi.systems.circuits.study.random_circuit",
            lambda random, gate, n: Circuit.ffl(str(random.choice(["I1", "C1"])), gate, n=n),
        )
        patch.setattr("varphi.systems.circuits.study._CIRCUITS", 2)
        return api.run(study, storage=tmp_path_factory.mktemp("tiny") / "s.db", size="smoke", progress=False)


def test_the_study_ends_with_a_verdict_on_every_claim(results):
    assert not results.missing and not results.failures and len(results.rows) == 14
    for claim, verdict in zip(STUDY.claims, results.verdicts, strict=True):
        assert "could not be judged" not in verdict.evidence, (claim.name, verdict.evidence)
    assert "of random I1 loops make a pulse" in results.answer


def test_what_theory_says_of_every_sample(results):
    """From rest, a coherent loop with positive regulation is monotone whatever its parameters; and never in time."""
    for gate in ("AND", "OR"):
        for n in (1.0, 4.0):
            row = results.one(loop="C1", gate=gate, n=n)
            assert (row.values("monotone") == 1).all() and (row.values("pulse") == 0).all()
            assert (row.values("failed") == 0).all()
    random = results.one(loop="random", gate="AND", n=1.0)
    assert np.nanmean(random.values("between")) > 0.1  # of I1 and C1 the circuit decides
    simple = results.one(loop="simple", gate="AND", n=4.0)
    assert np.abs(simple.values("delay")).max() < 1e-5 and (simple.values("late") == 0).all()
    assert (results.values("late", loop="C1", gate="AND", n=1.0) == 1).all()


def test_a_seed_is_the_same_in_every_company():
    setting = {"loop": "I1", "gate": "AND", "n": 2.0}
    alone, company = trial(setting, [4], [{}], sets=30), trial(setting, [1, 4], [{}], sets=30)
    for name, values in alone.measures.items():
        assert np.asarray(values)[0] == pytest.approx(np.asarray(company.measures[name])[1], nan_ok=True, rel=1e-6)


def test_random_circuits_have_the_size_of_a_loop():
    random = np.random.default_rng(0)
    drawn = [random_circuit(random, "AND", 2.0) for _ in range(400)]
    for circuit in drawn:
        edges = {(s, t) for s, t, _ in circuit.edges}
        assert len(edges) == len(circuit.edges) == 3 and list(circuit.genes) == ["Y", "Z"]
        assert ("X", "Z") in edges or {("X", "Y"), ("Y", "Z")} <= edges
    pairs = {("X", "Y"), ("X", "Z"), ("Y", "Z")}
    loops = {frozenset(c.edges) for c in drawn if {(s, t) for s, t, _ in c.edges} == pairs}
    assert len(loops) == 8  # all feed-forward loops are among them


def test_the_share_between_circuits():
    assert share_between(np.array([0.0, 1.0, 1.0]), 100) == pytest.approx(1.0)
    random = np.random.default_rng(0)
    alike = [share_between(random.binomial(50, 0.3, 10) / 50, 50) for _ in range(400)]
    assert np.mean(alike) == pytest.approx(0.0, abs=0.01)
    assert np.isnan(share_between(np.zeros(5), 10))


def test_a_pulse_of_few_molecules():
    """Many molecules keep the pulse in every course; ten hide it in some."""
    circuit = Circuit.ffl("I1", K={"XY": 0.1, "XZ": 0.1, "YZ": 0.5})
    pulse = circuit.respond(("X", 0.0, 1.0), progress=False).pulses()[0]
    many, few = (noisy_pulse(circuit, ("X", 0.0, 1.0), pulse, n, runs=60, seed=1) for n in (2000.0, 10.0))
    assert many.of_mean and many.detected > 0.98 and many.ratio > 1.3
    assert few.detected < many.detected and few.molecules == 10.0
    assert noisy_pulse(circuit, ("X", 0.0, 1.0), pulse, 2000.0, runs=5, most_events=100) is None
    # Where there is none, 5 % is seen: the steady state itself in place of the pulse.
    flat = noisy_pulse(circuit, ("X", 1.0, 1.0), pulse, 100.0, runs=400, seed=2)
    assert flat.detected == pytest.approx(0.05, abs=0.045) and not flat.of_mean


def test_the_study_of_noise_ends_with_a_verdict(tmp_path):
    tiny = Size(seeds=6, takes="seconds", options={"sets": 1, "runs": 10}, factors={"molecules": (10.0,), "n": (2.0,)})
    study = replace(NOISE, sizes=dict(NOISE.sizes) | {"smoke": tiny})
    found = api.run(study, storage=tmp_path / "s.db", size="smoke", progress=False)
    assert not found.failures and "could not be judged" not in found.verdicts[0].evidence
    assert "10 molecules, n = 2" in found.answer


def test_its_figures_are_drawn(results):
    found = STUDY.figures(results)
    assert [f.title for f in found] == ["What random loops do, AND gate", "What random loops do, OR gate"]
    for figure in found:
        figure.drawing.canvas.draw()


def test_the_study_is_well_declared():
    assert "circuits" in api.names()
    full = STUDY.size("full")
    # A hundred thousand parameter sets for each loop, gate and steepness.
    assert full.seeds * full.options["sets"] == 100_000
    assert len(STUDY.settings("full")) == (9 * 2 + 1) * 3 and len(LOOPS) == 10
    assert set(RANGES) <= set(Circuit.ffl("I1").parameters)


def test_figures_carry_units():
    from varphi.systems.circuits import Units
    from varphi.systems.circuits.figures import parameter_map, time_course

    loop = Circuit.ffl("I1", K={"XY": 0.1, "XZ": 0.1, "YZ": 0.5}, units=Units("nM", "min"))
    answer = loop.respond(("X", 0.0, 1.0), progress=False)
    panel = time_course(answer).axes[0]
    assert (panel.get_xlabel(), panel.get_ylabel()) == (
        "time (min)",
        "Z (nM)",
    ) and "pulse of 0.178" in panel.get_title()
    curve = panel.lines[0].get_ydata()
    assert curve.max() == pytest.approx(0.3788, abs=1e-3) and curve[-1] == pytest.approx(0.2012, abs=1e-3)
    flat = time_course(Circuit.ffl("C1").respond(("X", 0.0, 1.0), progress=False)).axes[0]
    assert "no pulse: Z stays between" in flat.get_title()
    values = np.array([1.0, np.nan, 3.0])
    drawn = parameter_map(("K", values + 1), ("alpha", np.ones(3)), values, "amplitude", {"K": "nM"})
    assert drawn.axes[0].get_xlabel() == "K (nM)" and drawn.axes[0].get_ylabel() == "alpha"


# The command line ----------------------------------------------------------------------------------------------------


def invoke(*words: str) -> str:
    result = CliRunner().invoke(cli.app, ["circuit", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_simulate(tmp_path):
    figure = tmp_path / "pulse.svg"
    told = invoke("simulate", "I1", "-p", "K_X_Y=0.1", "-p", "K_X_Z=0.1", "-p", "K_Y_Z=0.5", "-o", str(figure))
    assert "pulse: peak 0.378822 at 1.02581" in told and "Z: 0 → 0.201191" in told and figure.stat().st_size > 1000
    found = json.loads(invoke("simulate", "C1", "--json"))
    assert found["pulse"] is None and "between its steady levels" in found["no_pulse"]


def test_sweep_and_classify(tmp_path):
    figure = tmp_path / "map.svg"
    ranges = ("-r", "K_Y_Z=0.01:100", "-r", "alpha_Y=0.1:10", "--samples", "200")
    found = json.loads(invoke("sweep", "I1", *ranges, "-o", str(figure), "--json"))
    assert 0 < found["pulses"] < found["samples"] == found["settled"] == 200 and figure.stat().st_size > 1000
    assert found["pulses"] + found["monotone"] <= 200
    assert "of 200 parameter sets make a pulse" in invoke("sweep", "I1", *ranges)
    assert "Y ⊣ Z" in invoke("classify", "I1") and "feed-forward loop I1: X, Y, Z" in invoke("classify", "I1")


def test_sweeps_of_other_measures(tmp_path):
    pytest.importorskip("antimony", reason="needs varphi[circuits]")
    text = tmp_path / "loop.ant"
    text.write_text(
        "species $X, Y, Z; X = 0; Y = 0; Z = 0; J1: => Y; X^n/(K^n + X^n); J2: Y => ; a*Y; "
        "J3: => Z; X^n/(K^n + X^n)/(1 + (Y/L)^n); J4: Z => ; Z; a = 1; K = 0.1; L = 0.5; n = 2;"
    )
    words = ("-r", "L=0.01:10", "-r", "a=0.1:10", "--step", "X=0.5:1", "--samples", "100")
    figure = tmp_path / "map.svg"
    found = json.loads(invoke("sweep", str(text), *words, "--measure", "precision", "-o", str(figure), "--json"))
    assert found["measure"] == "precision" and found["present"] == 100 and found["unit"] == "1"
    assert figure.stat().st_size > 1000
    assert "precision: 5 %" in invoke("sweep", str(text), *words, "--measure", "precision")
    with pytest.raises(ValueError, match="no measure 'height'; there are first"):
        invoke("sweep", str(text), *words, "--measure", "height")


def test_sensitivity_and_design():
    pytest.importorskip("SALib", reason="needs varphi[circuits]")
    words = ("simple", "-r", "beta_Z=0.5:2", "-r", "alpha_Z=0.5:2", "--measure", "last")
    shares = json.loads(invoke("sensitivity", *words, "--size", "256", "--json"))
    assert shares["first"]["beta_Z"] == pytest.approx(shares["first"]["alpha_Z"], abs=0.1)
    effects = json.loads(invoke("sensitivity", *words, "--method", "morris", "--size", "20", "--json"))
    assert set(effects["mean"]) == {"beta_Z", "alpha_Z"} and effects["error"]["beta_Z"] > 0
    assert "beta_Z" in invoke("sensitivity", *words, "--method", "morris", "--size", "20")
    want = ("-w", "last=3", "-w", "response time=1:2", "--seconds", "1", "--method", "gradient")
    told = invoke("design", "simple", *want, "-r", "alpha_Z=0.1:10", "-r", "beta_Z=0.1:100")
    assert "meets the specification" in told and "gradient: loss" in told and "response time" in told


def test_proofs():
    told = invoke("prove", "autoregulation", "bistable", "-r", "beta_X=2.1:3")
    assert told.startswith("PROVED: two stable steady states")
    found = json.loads(invoke("prove", "toggle", "bistable", "-r", "beta_A=1:1.5", "--json"))
    assert found["verdict"] == "REFUTED" and 1 <= found["witness"]["beta_A"] <= 1.5


def test_files_of_people(tmp_path):
    pytest.importorskip("antimony", reason="needs varphi[circuits]")
    text = tmp_path / "loop.ant"
    text.write_text("species $X, Z; X = 1; Z = 0; J: => Z; X^2/(4 + X^2); D: Z => ; 0.5*Z;")
    assert "Hill activator of X on Z: K = 2, n = 2" in invoke("classify", str(text))
    found = json.loads(invoke("simulate", str(text), "--horizon", "60", "--json"))
    assert found["after"] == pytest.approx(0.4) and found["response_time"] == pytest.approx(2 * np.log(2), rel=1e-6)


def test_motifs(tmp_path):
    edges = tmp_path / "edges.txt"
    edges.write_text("".join(f"x{i} y{i} +\nx{i} z{i} +\ny{i} z{i} -\nx{i} w{i} +\n" for i in range(20)))
    found = json.loads(invoke("motifs", str(edges), "--samples", "200", "--json"))
    assert found["types"]["I1"]["count"] == 20 and found["types"]["I1"]["z"] > 5 and found["edges"] == 80
    assert "80 genes, 80 edges" in invoke("motifs", str(edges), "--samples", "50")


@pytest.mark.parametrize(
    "words, message",
    [
        (("simulate", "I9"), "'I9' is neither a file nor one of C1"),
        (("simulate", "I1", "--step", "X"), "a step is NAME=FROM:TO"),
        (("simulate", "I1", "--step", "X=-1:1"), "X must be finite and not negative"),
        (("simulate", "I1", "-p", "K_X_Y=0"), "K_X_Y must be finite and above 0"),
        (("simulate", "I1", "-p", "K_X_Y=much"), "must be a number"),
        (("sweep", "I1"), "no parameter has a range"),
        (("sweep", "I1", "-r", "K_Y_Z"), "a range is NAME=LOW:HIGH"),
        (("motifs", "absent.txt"), "absent.txt"),
        (("design", "simple", "-w", "last"), "what is wanted is MEASURE=VALUE"),
        (("design", "simple", "-w", "last=1"), "no parameter is free"),
        (("sensitivity", "simple", "--method", "luck"), "the method is sobol or morris"),
    ],
)
def test_the_command_line_refuses_in_words(words, message):
    with pytest.raises((ValueError, OSError), match=message):
        CliRunner().invoke(cli.app, ["circuit", *words], catch_exceptions=False)


def test_the_example_runs(capsys):
    pytest.importorskip("antimony", reason="needs varphi[circuits]")
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    told = capsys.readouterr().out
    assert "Y represses Z" in told and "peak=0.37882" in told and "69% of 4000" in told
    assert "meets the specification: True" in told


def test_the_code_of_the_page_runs_as_it_is(tmp_path, monkeypatch):
    """From an Antimony text to a pulse report and a parameter map, in 20 lines."""
    pytest.importorskip("antimony", reason="needs varphi[circuits]")
    page = (EXAMPLE.parents[1] / "docs" / "systems" / "circuits.md").read_text("utf-8")
    section = page.split("## From a text to a pulse report and a parameter map")[1]
    code = section.split("```python")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, "circuits.md", "exec"), names)
    assert names["circuit"].edges == (("X", "Y", 1), ("X", "Z", 1), ("Y", "Z", -1))
    assert names["answer"].pulses()[0].peak == pytest.approx(0.378822, abs=6e-7)
    assert 0.5 < names["pulses"].present.mean() < 0.9
    assert {p.name for p in tmp_path.iterdir()} == {"pulse.svg", "map.svg"}
