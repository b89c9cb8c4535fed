"""Phase planes, figures and the command line of neurons."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from varphi import cli
from varphi.dynamics.ensemble import simulate
from varphi.systems.neurons import (
    Current,
    Gate,
    Model,
    bifurcation_diagram,
    boltzmann,
    excitability_map,
    fi_curve,
    load,
    phase_plane,
)
from varphi.systems.neurons.figures import draw_diagram, draw_fi, draw_map, draw_phase_plane, draw_steady_current


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


def test_separatrices_divide_what_fires_from_what_rests():
    """Beside the stable manifold of the saddle, one side comes to rest at once and the other fires first."""
    model, current = load("morris-lecar", "class 1"), 38.0
    plane = phase_plane(model, current, duration=50.0)
    saddle = next(e for e in plane.equilibria if e.kind == "saddle")
    assert sorted(b.stable for b in plane.separatrices) == [False, False, True, True]
    assert all(b.saddle is saddle for b in plane.separatrices)
    rest = next(e for e in plane.equilibria if e.stable)
    for b in plane.separatrices:
        assert b.path[:, 0] == pytest.approx(list(saddle.state.values()))
        if not b.stable:  # both run into the one stable equilibrium, the long one after a spike
            assert b.path[:, -1] == pytest.approx(list(rest.state.values()), abs=1e-5)
    assert max(b.path[0].max() for b in plane.separatrices if not b.stable) > 25
    low = next(b for b in plane.separatrices if b.stable and b.path[1, -1] < 0)
    middle = low.path[:, int(np.argmin(np.abs(low.path[1] - 0.0)))]
    starts = middle + np.array([[-0.05, 0.0], [0.05, 0.0]])
    found = simulate(model.system(current), 400.0, starts, rtol=1e-9, progress=False)
    assert found.highs[0, 0] < saddle.V < 25 < found.highs[1, 0]


def test_the_field_is_the_rates():
    plane = phase_plane(load("fitzhugh-nagumo"), 0.5, duration=1.0)
    field, system = plane.field, plane.model.system(0.5)
    assert plane.separatrices == ()
    for row, column in ((0, 0), (16, 20), (3, 11)):
        rates = system([float(field.V[column]), float(field.gate[row])])
        assert (field.dV[row, column], field.dgate[row, column]) == pytest.approx(rates)


def test_a_current_that_is_no_power_of_its_gate_has_no_closed_nullcline():
    gate = Gate("n", boltzmann(-30, 8, tau=2))
    model = Model([Current("K", formula="5*n^2*(V + 80)", gates=[gate]), Current("L", 1, -70), Current("Na", 1, 50)])
    with pytest.raises(ValueError, match="the current K is no power of n"):
        phase_plane(model, 0.0)


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
    axes = draw_phase_plane(phase_plane(model, 38.0, duration=50.0))
    told = [t.get_text() for t in axes.get_legend().get_texts()]
    assert {"stable manifold of the saddle", "unstable manifold of the saddle", "dV/dt = 0", "saddle"} <= set(told)
    found = excitability_map(model, ("V3", [0.0, 12.0]), ("V4", [15.0, 25.0]), threads=1)
    axes = draw_map(found)
    assert labels(axes) == ("V3 (mV)", "V4 (mV)") and len(axes.get_legend().get_texts()) == len(found.shares())


def test_a_diagram_names_what_happens():
    model = load("morris-lecar", "class 1")
    found = bifurcation_diagram(model)
    assert [(m.kind, round(m.I, 6)) for m in found.marks if m.kind == "fold of cycles"] == [
        ("fold of cycles", 116.109537)
    ]
    node = next(m for m in found.marks if m.kind == "saddle-node on the cycle")
    assert node.period == math.inf and pytest.approx(39.963153092745, abs=1e-8) == node.I
    (cycles,) = found.cycles
    assert cycles.ended == "period" and (cycles.high > cycles.low).all()
    # Cycles are unstable from the Hopf point to the fold of cycles, and stable from there on.
    fold = int(np.argmax(cycles.I))
    assert not cycles.stable[1 : fold - 1].any() and cycles.stable[fold + 2 :].all()
    assert "saddle-node on the cycle at I = 39.9631531" in str(found)
    upper, lower = draw_diagram(found)
    assert (upper.get_ylabel(), *labels(lower)) == ("potential V (mV)", "applied current I (µA/cm²)", "frequency (Hz)")
    told = [t.get_text() for t in upper.get_legend().get_texts()]
    assert {"equilibrium, stable", "cycle, extremes of V, unstable", "Hopf point", "fold of cycles"} <= set(told)
    assert draw_diagram(found, currents=(90, 120))[0].get_xlim() == (90, 120)


def test_a_homoclinic_end_is_told_from_a_saddle_node():
    found = bifurcation_diagram(load("morris-lecar", "homoclinic"))
    last = next(m for m in found.marks if m.kind not in ("fold of cycles", "period doubling"))
    assert (last.kind, last.I) == ("homoclinic", pytest.approx(35.006734198, abs=1e-7))


def test_without_a_hopf_point_cycles_come_from_simulation():
    """Above the window's end there may be none: a window that ends below it."""
    model = replace(load("morris-lecar", "class 1"), window=(-84.0, 5.0))
    found = bifurcation_diagram(model)
    assert [p.kind for p in found.special] == ["fold", "fold"]
    assert found.cycles and any(m.kind == "saddle-node on the cycle" for m in found.marks)


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


def test_plane_phase_and_pulses_print_units_and_draw(tmp_path: Path):
    drawing = str(tmp_path / "drawing.svg")
    told = invoke("plane", "morris-lecar", "--class", "1", "--current", "38", "--figure", drawing)
    assert "saddle at V = -24.833821 mV" in told and "1/ms along" in told
    data = json.loads(invoke("plane", "morris-lecar", "-I", "38", "--json"))
    assert len(data["separatrices"]) == 4 and data["units"] == {"I": "µA/cm²", "V": "mV", "eigenvalue": "1/ms"}
    told = invoke("phase", "morris-lecar", "-I", "45", "--figure", drawing)
    assert "phase response of type I " in told and "ms per mV" in told
    told = invoke(
        "pulses", "morris-lecar", "--class", "2", "--points", "3", "--durations", "1", "30", "--figure", drawing
    )
    assert "rheobase" in told and "Lapicque" in told and "t (ms)" in told


def test_diagram_prints_its_special_points():
    data = json.loads(invoke("diagram", "morris-lecar", "--class", "1", "--json"))
    assert data["units"] == {"I": "µA/cm²", "V": "mV", "period": "ms"} and data["cycles"][0]["ended"] == "period"


def test_a_model_is_exported_and_read_from_its_file(tmp_path: Path):
    pytest.importorskip("libsbml", reason="needs varphi[neurons]")
    path = str(tmp_path / "model.xml")
    invoke("export", "morris-lecar", "--set", "V3=10", "-o", path)
    told = invoke("points", path)
    assert "fold at I = 40.9632855564" in told and told.endswith("complete: proved\n")
    assert "fold at I = 39.9631530927" in invoke("points", path, "--set", "V3=12")


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
