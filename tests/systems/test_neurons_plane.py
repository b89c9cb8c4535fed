"""Phase planes, figures and the command line of neurons."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from varphi import cli
from varphi.systems.neurons import excitability_map, fi_curve, load, phase_plane
from varphi.systems.neurons.figures import draw_fi, draw_map, draw_phase_plane, draw_steady_current


@pytest.mark.parametrize(
    ("name", "current"),
    [(("morris-lecar", "class 1"), 30.0), (("izhikevich", "hopf"), 10.0), (("fitzhugh-nagumo", None), 0.5)],
)
def test_on_its_nullcline_a_variable_stands_still(name, current):
    model = load(*name)
    plane = phase_plane(model, current, duration=50.0)
    system = model.system(current)
    known = np.flatnonzero(np.isfinite(plane.voltage_nullcline))[::97]
    assert known.size > 3
    for k in known:
        v = float(plane.V[k])
        rates = system([v, float(plane.voltage_nullcline[k])])
        assert rates[0] == pytest.approx(0, abs=1e-9 * (1 + abs(plane.voltage_nullcline[k]) * 1e3))
        assert system([v, float(plane.gate_nullcline[k])])[1] == pytest.approx(0, abs=1e-12)
    for e in plane.equilibria:
        at = [np.interp(e.V, plane.V, n) for n in (plane.voltage_nullcline, plane.gate_nullcline)]
        assert at == pytest.approx([e.state[model.states[1]]] * 2, abs=2e-3)
    assert all(o.shape == (2, 2001) and np.isfinite(o).all() for o in plane.orbits)


def test_directions_are_eigenvectors_and_a_focus_has_none():
    plane = phase_plane(load("morris-lecar", "class 1"), 30.0, duration=10.0)
    kinds = {e.kind: plane.directions(e) for e in plane.equilibria}
    assert kinds["unstable focus"] == [] and len(kinds["saddle"]) == len(kinds["stable node"]) == 2
    saddle = next(e for e in plane.equilibria if e.kind == "saddle")
    values = sorted(value for value, _ in kinds["saddle"])
    assert values == pytest.approx(sorted(z.real for z in saddle.eigenvalues), rel=1e-9)
    system = plane.model.system(30.0)
    step = 1e-5
    for value, vector in kinds["saddle"]:
        here = np.array(list(saddle.state.values()))
        moved = (np.array(system(list(here + step * vector))) - np.array(system(list(here - step * vector)))) / (
            2 * step
        )
        assert moved == pytest.approx(value * vector, abs=1e-6)


def test_what_has_no_plane_is_refused():
    with pytest.raises(ValueError, match="has V, m, h, n"):
        phase_plane(load("hodgkin-huxley"), 10.0)
    with pytest.raises(ValueError, match="no equilibrium"):
        phase_plane(load("morris-lecar"), 1e6)


# Figures --------------------------------------------------------------------------------------------------------------


def labels(axes):
    return axes.get_xlabel(), axes.get_ylabel()


def test_figures_name_quantities_and_units():
    model = load("morris-lecar", "class 1")
    curve = fi_curve(model, [35, 50, 100, 130], threads=1)
    axes = draw_fi(curve)
    assert labels(axes) == ("applied current I (µA/cm²)", "frequency (Hz)")
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["fires", "fires or rests", "rests"]
    axes = draw_steady_current(model)
    assert labels(axes) == ("applied current I (µA/cm²)", "equilibrium potential V (mV)")
    marks = {tuple(np.round(c.get_offsets()[0], 3)) for c in axes.collections}
    assert marks == {(39.963, -29.39), (-9.949, -4.049), (97.788, 8.342)}
    axes = draw_phase_plane(phase_plane(model, 45.0, duration=50.0))
    assert labels(axes) == ("potential V (mV)", "gate w") and "I = 45 µA/cm²" in axes.get_title()
    axes = draw_phase_plane(phase_plane(load("fitzhugh-nagumo"), 0.5, duration=50.0))
    assert labels(axes) == ("potential V", "gate w")
    found = excitability_map(model, ("V3", [0.0, 12.0]), ("V4", [15.0, 25.0]), threads=1)
    axes = draw_map(found)
    assert labels(axes) == ("V3", "V4") and len(axes.get_legend().get_texts()) == len(found.shares())


# The command line -----------------------------------------------------------------------------------------------------


def invoke(*words: str) -> str:
    result = CliRunner().invoke(cli.app, ["neuron", *words], prog_name="varphi", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refuse(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main(["neuron", *words])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "") and "Traceback" not in err
    return err


def test_classify_prints_the_class_and_its_evidence():
    told = invoke("classify", "morris-lecar", "--class", "1")
    assert "type I (saddle-node on the cycle)" in told and "39.9631530927" in told and "√ law" in told
    data = json.loads(invoke("classify", "hodgkin-huxley", "--json"))
    assert (data["type"], data["mechanism"]) == ("II", "subcritical Hopf")
    assert data["rest_is_lost_at"]["certified"] and data["special_points_complete"]
    assert data["coexistence"] == pytest.approx([6.2603212745, 9.775437995393], abs=1e-7)


def test_numbers_are_set_by_name():
    points = json.loads(invoke("points", "hodgkin-huxley", "--set", "EL=-54.3 mV", "--json"))
    assert points["complete"] and points["points"][0]["I"] == pytest.approx(9.749338, abs=1e-6)
    assert invoke("points", "morris-lecar", "--variant", "homoclinic", "--set", "V3=12").endswith("complete: proved\n")


def test_fi_prints_and_draws(tmp_path: Path):
    drawing = tmp_path / "fi.svg"
    words = ["fi", "morris-lecar", "--class", "2", "--currents", "85", "100", "--points", "4"]
    told = invoke(*words, "--figure", str(drawing))
    assert [line.split()[-1] for line in told.splitlines()[2:]] == ["rest", "bistable", "spiking", "spiking"]
    assert "<svg" in drawing.read_text("utf-8")
    curve = json.loads(invoke(*words, "--json"))["curve"]
    assert curve[-1]["frequency"] == pytest.approx(11.724615829, rel=1e-8)


def test_the_library_is_listed_with_sources_and_doubts():
    told = invoke("list")
    assert "variants: class 1, class 2, homoclinic" in told and "Unconfirmed" in told
    data = json.loads(invoke("list", "--json"))
    assert len(data) == 6 and all(m["source"] and m["numbers"] for m in data)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("classify", "hodgkin"), "did you mean hodgkin-huxley"),
        (("classify", "morris-lecar", "--class", "3"), "no set 'class 3'"),
        (("classify", "morris-lecar", "--class", "1", "--variant", "homoclinic"), "not both"),
        (("classify", "hodgkin-huxley", "--set", "gK"), "NAME=VALUE"),
        (("classify", "hodgkin-huxley", "--set", "gK=1", "--set", "gK=2"), "twice"),
        (("classify", "hodgkin-huxley", "--set", "gK=40 mV"), "is a potential"),
        (("points", "hodgkin-huxley", "--figure", "x.txt"), "must end in"),
        (("fi", "hodgkin-huxley", "--currents", "9", "3"), "lower end first"),
    ],
)
def test_refusals_are_in_words(capsys, words, told):
    assert told in refuse(capsys, *words)
