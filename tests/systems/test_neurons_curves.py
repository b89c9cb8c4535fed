"""Two-parameter bifurcation diagrams: closed forms, the proved points, and continuation that knows no neuron."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from varphi import cli
from varphi.dynamics import continue_curve, continue_equilibria
from varphi.systems.neurons import curves, load, special_points
from varphi.systems.neurons.figures import draw_curves


def test_fitzhugh_nagumo_in_closed_form():
    """Folds V² = 1 - 1/b; Hopf points V² = 1 - ε b; their kind changes where ε b² - 2 b + 1 = 0."""
    model = load("fitzhugh-nagumo")
    a, eps = model.values["a"], model.values["eps"]
    found = curves(model, "b", 0.3, 1.6, cycles=False)

    def current(v, b):
        return (v + a) / b - v + v**3 / 3

    for line in found.lines:
        expected = 1 - 1 / line.value if line.kind == "fold" else 1 - eps * line.value
        np.testing.assert_allclose(line.V**2, expected, atol=1e-13)
        np.testing.assert_allclose(line.I, current(line.V, line.value), atol=1e-13)
        if line.kind != "fold":
            b = line.value
            np.testing.assert_allclose(line.period, 2 * math.pi / np.sqrt(eps * (1 - b * eps * b)), rtol=1e-9)
            middle = eps * b**2 - 2 * b + 1
            assert (np.sign(middle[1:-1]) == (1 if line.kind == "supercritical Hopf" else -1)).all()
    change = (1 - math.sqrt(1 - eps)) / eps
    points = [p for p in found.points if p.kind == "generalised hopf"]
    v = math.sqrt(1 - eps * change)
    assert [p.value for p in points] == pytest.approx([change] * 2, abs=1e-8)
    assert sorted(p.I for p in points) == pytest.approx(sorted([current(-v, change), current(v, change)]), abs=1e-8)
    (cusp,) = [p for p in found.points if p.kind == "cusp"]
    assert (cusp.value, cusp.I) == pytest.approx((1, a), abs=1e-10) and cusp.certified


def test_curves_pass_the_proved_points_of_each_model_on_them():
    model = load("morris-lecar", "class 1")
    found = curves(model, "V3", -10, 30, cycles=False)
    for value in (-6.0, 4.6, 12.0, 25.0):
        points = special_points(model.with_(V3=value)).points
        for kinds, kind in ((("fold",), "fold"), (("subcritical Hopf", "supercritical Hopf"), "hopf")):
            crossings = []
            for line in (x for k in kinds for x in found.of(k)):
                for k in np.flatnonzero((line.value[:-1] - value) * (line.value[1:] - value) < 0):
                    share = (value - line.value[k]) / (line.value[k + 1] - line.value[k])
                    crossings.append(line.I[k] + share * (line.I[k + 1] - line.I[k]))
            expected = sorted(p.I for p in points if p.kind == kind)
            assert sorted(crossings) == pytest.approx(expected, abs=0.02)


def test_curves_of_equilibria_agree_with_continuation():
    """The same folds and Hopf points, from the equations alone."""
    model = load("morris-lecar", "homoclinic")
    found = curves(model, "V3", 8, 20, cycles=False)
    branch = continue_equilibria(model.system(), "I", {"V": -60.0, "w": 0.0}, bounds=(0.0, 200.0))
    for special in branch.specials:
        bounds = {"I": (-150.0, 200.0), "V3": (8.0, 20.0)}
        curve = continue_curve(model.system(), special, ("I", "V3"), bounds)
        kinds = ("fold",) if special.kind == "fold" else ("subcritical Hopf", "supercritical Hopf")
        lines = [line for k in kinds for line in found.of(k)]
        order = np.argsort(np.concatenate([x.value for x in lines]), kind="stable")
        for (i, v3), state in zip(curve.values[2:-2:5], curve.states[2:-2:5], strict=True):
            values, currents, volts = (
                np.concatenate([getattr(x, a) for x in lines])[order] for a in ("value", "I", "V")
            )
            near = np.abs(volts - state[0]) < 3
            assert np.interp(v3, values[near], currents[near]) == pytest.approx(i, abs=0.05)


def test_cycles_over_the_plane():
    """With a fast gate: folds of cycles begin at the generalised Hopf point; AUTO-07p's digits at V3 = 12."""
    model = load("morris-lecar", "homoclinic")
    found = curves(model, "V3", 8, 13)
    assert {line.kind for line in found.lines} >= {"fold of cycles", "homoclinic"}
    for kind, current in (("fold of cycles", 40.593351958), ("homoclinic", 35.006734198)):
        (line,) = found.of(kind)
        nearest = np.argmin(np.abs(line.value - 12.0))
        assert (line.value[nearest], line.I[nearest]) == pytest.approx((12.0, current), abs=1e-6)
    (start,) = [p for p in found.points if p.kind == "generalised hopf"]
    (folds,) = found.of("fold of cycles")
    assert np.hypot(folds.I - start.I, folds.value - start.value).min() < 0.05
    assert "generalised hopf at V3 = 8.334374" in str(found)
    # Homoclinic orbits reach the fold: below it lie saddle-nodes on the cycle, on the fold.
    (loop,) = [p for p in found.points if p.kind == "saddle-node loop"]
    (nodes,) = found.of("saddle-node on the cycle")
    assert nodes.value.max() < loop.value < found.of("homoclinic")[0].value.min() and 9.7 < loop.value < 10.6
    for current, value in zip(nodes.I, nodes.value, strict=True):
        fold = special_points(model.with_(V3=value)).points[0]
        assert fold.kind == "fold" and 0 < current - fold.I < 0.5
    axes = draw_curves(found)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("applied current I (µA/cm²)", "V3 (mV)")
    assert {"fold of cycles", "homoclinic"} <= {t.get_text() for t in axes.get_legend().get_texts()}


def test_curves_on_the_command_line(tmp_path: Path):
    drawing = tmp_path / "curves.svg"
    words = "curves morris-lecar --class 1 --parameter V3 --range -10 30 --no-cycles --json --figure"
    result = CliRunner().invoke(
        cli.app, ["neuron", *words.split(), str(drawing)], prog_name="varphi", catch_exceptions=False
    )  # fmt: skip
    assert result.exit_code == 0 and "<svg" in drawing.read_text("utf-8")
    data = json.loads(result.stdout)
    assert data["parameter"] == "V3" and {c["kind"] for c in data["curves"]} >= {"fold", "subcritical Hopf"}
    (cusp,) = [p for p in data["points"] if p["kind"] == "cusp"]
    assert cusp["certified"] and cusp["V3"] == pytest.approx(4.291298992, abs=1e-8)


@pytest.mark.parametrize(
    ("parameter", "low", "high", "words"),
    [
        ("V9", 0, 1, "no parameter"),
        ("V3", 5, 5, "lower to the higher"),
        ("phi", -1, 1, "must be positive"),
        ("V3", 20, 30, "widen the range"),
    ],
)
def test_impossible_ranges_are_refused(parameter, low, high, words):
    with pytest.raises(ValueError, match=words):
        curves(load("morris-lecar"), parameter, low, high)
