"""The study of the chapter's boundary value problem, its references, the benchmark's parts and the examples."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import varphi as vp
from varphi.study import Size, api
from varphi.systems.physics.references import by_scipy, collocation, elements, references, truth
from varphi.systems.physics.study import ACTIVATIONS, NOT_C2, SMOOTH, STUDY
from varphi.systems.physics.trial import HARD, SOFT, WEAK, trial

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_references_solve_the_problem():
    x = np.linspace(0, 1, 57)
    assert np.abs(collocation()(x) - truth(x)).max() < 1e-14
    assert np.abs(by_scipy()(x) - truth(x)).max() < 1e-8
    # Linear elements: exact at nodes but for the source's quadrature, h² between them.
    assert np.abs(elements(50)(x) - truth(x)).max() < 2e-3
    found = references()
    assert len(found) == 3 and all(v["error"] < 1e-5 and v["seconds"] >= 0 for v in found.values())


def test_the_studys_groups_are_what_is_certified():
    smoothness = {name: vp.facts(vp.get(name)).smoothness for name in ACTIVATIONS}
    assert {n for n, s in smoothness.items() if s < 2} == set(NOT_C2)
    assert all(smoothness[n] == float("inf") for n in SMOOTH) and smoothness["relu3"] == 2


@pytest.mark.parametrize("form", [HARD, SOFT, WEAK])
def test_one_trial(form):
    found = trial({"activation": "tanh", "form": form}, [0], [{}], iterations=8).measures
    assert set(found) == set(STUDY.measures)
    assert 0 < found["error"] < 0.05 and found["seconds"] > 0
    assert np.isnan(found["residual"]) == (form == WEAK)
    again = trial({"activation": "tanh", "form": form}, [0], [{}], iterations=8).measures
    assert again["error"] == found["error"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    tiny = Size(seeds=2, takes="seconds", options={"iterations": 8}, factors={"activation": ("tanh", "sin", "relu")})
    study = replace(STUDY, sizes=dict(STUDY.sizes) | {"smoke": tiny})
    return api.run(study, storage=tmp_path_factory.mktemp("tiny") / "s.db", size="smoke", progress=False)


def test_the_study_ends_with_a_verdict_on_every_claim(results):
    assert not results.missing and not results.failures and len(results.rows) == 9
    for claim, verdict in zip(STUDY.claims, results.verdicts, strict=True):
        assert "could not be judged" not in verdict.evidence, (claim.name, verdict.evidence)
    assert "Without a net, Chebyshev collocation" in results.answer
    assert results.verdicts[2].status == "supported"


def test_its_figures_are_drawn(results):
    for figure in STUDY.figures(results):
        figure.drawing.canvas.draw()


def test_the_study_is_well_declared():
    assert "physics" in api.names()
    assert STUDY.size("full").seeds >= 10 and set(STUDY.headline) <= set(STUDY.measures)
    assert len(STUDY.settings("full")) == 27


@pytest.mark.parametrize(
    "name, words, told",
    [
        ("physics.py", (), "k = 0.25"),
        ("physics_lshape.py", ("4", "60"), "relative L2 error"),
        ("physics_burgers.py", ("4", "80"), "t = 1.0: relative L2 error"),
    ],
)
def test_the_examples_run(name, words, told, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [name, *words])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert told in capsys.readouterr().out
