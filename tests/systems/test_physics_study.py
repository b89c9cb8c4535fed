"""The studies: what is solved, its references, DeepXDE where it is installed, verdicts, figures, examples, the page."""

import math
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import varphi as vp
from varphi.jets import operator
from varphi.study import Outcome, Size, api
from varphi.systems.physics import MLP, burgers, lshape, peer
from varphi.systems.physics import references as without_nets
from varphi.systems.physics.fit import beginning
from varphi.systems.physics.judging import ACTIVATIONS, NOT_C2, SMOOTH
from varphi.systems.physics.study import STUDY
from varphi.systems.physics.trial import (
    HARD,
    OURS,
    SOFT,
    SOLVERS,
    VISCOSITY,
    WEAK,
    corner,
    corner_source,
    corner_trial,
    corner_truth,
    front,
    front_trial,
    front_truth,
    line_trial,
)

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "systems" / "physics.md"
STUDIES = {"physics": STUDY, "physics_lshape": lshape.STUDY, "physics_burgers": burgers.STUDY}


# What is solved ------------------------------------------------------------------------------------------------------


def test_the_corners_truth_solves_its_problem():
    domain = corner().domain
    x = domain.sample(200)
    _, laplacian = vp.laplacian(corner_truth, x, fallback="autograd")
    torch.testing.assert_close(-laplacian, corner_source(x), rtol=1e-9, atol=1e-11)
    assert corner_truth(domain.boundary(300).points).abs().max() < 1e-15
    # r^(2/3) sin(2θ/3) on the middle line of the L, where θ = 3π/4.
    r = torch.tensor([1e-9, 1e-6, 1e-3], dtype=torch.float64)
    found = corner_truth(-r[:, None].expand(-1, 2) / math.sqrt(2))[:, 0]
    torch.testing.assert_close(found, r ** (2 / 3) * (1 - r**2 / 2) ** 2)


def test_the_fronts_truth_solves_its_problem():
    x = front().domain.sample(200)
    residual = operator(f"u_t + u*u_x - {VISCOSITY}*u_xx")
    assert residual(front_truth, x, fallback="autograd")[1].abs().max() < 1e-11
    ends = x.clone()
    ends[:, 0] = ends[:, 0].sign()
    assert front_truth(ends).abs().max() < 1e-12
    start = x * torch.tensor([1.0, 0.0])
    torch.testing.assert_close(front_truth(start), -torch.sin(math.pi * start[:, :1]))


def test_references_on_the_line():
    x, truth = np.linspace(0, 1, 57), without_nets.truth
    assert np.abs(without_nets.collocation()(x) - truth(x)).max() < 1e-14
    assert np.abs(without_nets.by_scipy()(x) - truth(x)).max() < 1e-8
    # Linear elements: exact at nodes but for the source's quadrature, h² between them.
    assert np.abs(without_nets.elements(50)(x) - truth(x)).max() < 2e-3
    found = without_nets.line_references()
    assert len(found) == 3 and all(v["error"] < 1e-5 and v["seconds"] >= 0 for v in found.values())


def test_references_on_the_corner():
    pytest.importorskip("skfem", reason="the extra `physics` is not installed")
    x = corner().domain.sample(500)
    right = corner_truth(x)[:, 0].numpy()
    errors = [
        np.linalg.norm(without_nets.elements_on_the_corner(*how, quadratic=q)(x.numpy()) - right)
        / np.linalg.norm(right)
        for how, q in (((1,), False), ((3,), False), ((2, 6), True))
    ]
    # The corner costs linear elements some of their second order: from h to h/4 more than 4^(4/3), at most 4^2.
    assert 4 ** (4 / 3) < errors[0] / errors[1] < 16
    assert errors[2] < 1e-3


def test_a_missing_library_of_references_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skfem", None)
    assert without_nets.corner_references(iterations=1) == {without_nets.NO_ELEMENTS: {}}
    assert "pip install 'varphi[physics]'" in without_nets.NO_ELEMENTS


def test_references_on_the_front():
    x = front().domain.sample(500)
    right = front_truth(x)[:, 0].numpy()
    assert np.abs(without_nets.by_sines(128)(x.numpy()) - right).max() < 1e-7
    errors = [np.abs(without_nets.by_differences(cells)(x.numpy()) - right).max() for cells in (100, 200)]
    assert errors[1] < 0.02 and 3 < errors[0] / errors[1] < 5


# Trials --------------------------------------------------------------------------------------------------------------


def test_the_studys_groups_are_what_is_certified():
    smoothness = {name: vp.facts(vp.get(name)).smoothness for name in ACTIVATIONS}
    assert {n for n, s in smoothness.items() if s < 2} == set(NOT_C2)
    assert all(smoothness[n] == float("inf") for n in SMOOTH) and smoothness["relu3"] == 2


@pytest.mark.parametrize("form", [HARD, SOFT, WEAK])
def test_one_trial_on_the_line(form):
    setting = {"activation": "tanh", "form": form, "solver": OURS}
    found = line_trial(setting, [0], [{}], iterations=8)
    assert set(found.measures) == set(STUDY.measures)
    assert 0 < found.measures["error"] < 0.05 and found.measures["seconds"] > 0
    assert np.isnan(found.measures["residual"]) == (form == WEAK)
    seconds, errors = found.curves["seconds"], found.curves["error"]
    assert len(seconds) == len(errors) > 4 and (np.diff(seconds) >= 0).all() and errors[0] > 2 * errors[-1]
    assert line_trial(setting, [0], [{}], iterations=8).measures["error"] == found.measures["error"]


@pytest.mark.parametrize("trial, problem", [(corner_trial, corner), (front_trial, front)])
def test_one_trial_elsewhere(trial, problem):
    found = trial({"activation": "tanh", "solver": OURS}, [0], [{}], iterations=2).measures
    assert 0.01 < found["error"] < 1 and 0 < found["fall"] < 1 and found["seconds"] > 0
    assert problem().is_hard == (problem is front)


@pytest.mark.skipif(not peer.is_installed(), reason=peer.ABSENT)
@pytest.mark.parametrize(
    "trial, levels, enough",
    [(line_trial, {"form": HARD}, 0.01), (line_trial, {"form": SOFT}, 0.05), (corner_trial, {}, 0.9),
     (front_trial, {}, 0.3)],
)  # fmt: skip
def test_one_trial_of_the_peer(trial, levels, enough):
    torch.manual_seed(0)
    setting = {"activation": "tanh", "solver": peer.NAME, **levels}
    found = trial(setting, [0], [{}], iterations=0, adam=100, lbfgs=50)
    assert found.measures["error"] < enough and found.measures["iterations"] >= 150
    assert found.curves["error"][-1] == found.measures["error"] and torch.get_default_dtype() is torch.float32


@pytest.mark.skipif(not peer.is_installed(), reason=peer.ABSENT)
def test_the_peers_equations_are_ours():
    for problem, equation in ((corner(), "_corner_equation"), (front(), "_front_equation")):
        module = sys.modules["varphi.systems.physics.trial"]
        unknowns, blocks = beginning(problem, MLP((6,)), points=20, boundary=20)
        with peer._imported() as dde:
            x = blocks[0].points.clone().requires_grad_()
            theirs = getattr(module, equation)(dde, x, unknowns.field(x))
            dde.grad.clear()
        ours = blocks[0].residual(unknowns.field, blocks[0].points, {})
        torch.testing.assert_close(theirs.abs(), ours.abs())


# Verdicts ------------------------------------------------------------------------------------------------------------

# What a trial may find: seven nets, of which those that are not C² are worse, and DeepXDE.
_LEVELS = {"tanh": -9.0, "sin": -10.0, "relu3": -7.0, "relu2": -4.0, "relu": 0.0}


def found(setting, seeds, points, *, worst="relu", slow=10.0):
    level = _LEVELS[setting["activation"]] + 2 * (setting["solver"] != OURS)
    if worst == "none" and setting["activation"] in NOT_C2:
        level = -12.0
    noise = np.random.default_rng(list(_LEVELS).index(setting["activation"])).normal(0, 0.3, len(seeds))
    error, seconds = np.exp(level + noise), (slow if setting["solver"] != OURS else 1.0) * (1 + 0.01 * np.array(seeds))
    none = np.full(len(seeds), 0.5)
    curves = {"seconds": np.stack([none / 9, seconds], 1), "error": np.stack([none * 2, error], 1)}
    return Outcome({"error": error, "residual": error, "fall": none, "iterations": none, "seconds": seconds}, curves)


def run(study, tmp_path, references, solvers=(OURS, peer.NAME), **options):
    size = Size(seeds=9, options=options, factors={"activation": tuple(_LEVELS)})
    study = replace(
        study, trial=found, factors=dict(study.factors) | {"solver": solvers}, sizes={"full": size}, batched=True,
        references=lambda **_: references, fingerprint="test",
    )  # fmt: skip
    return api.run(study, storage=tmp_path / "s.db", progress=False)


SOLVER = {"a solver": {"error": 1e-9, "seconds": 0.01}}


@pytest.mark.parametrize("study", [lshape.STUDY, burgers.STUDY], ids=lambda s: s.name)
def test_verdicts_on_the_new_problems(study, tmp_path):
    results = run(study, tmp_path, SOLVER)
    assert [v.status for v in results.verdicts] == ["supported"] * 3, [str(v) for v in results.verdicts]
    assert "DeepXDE with tanh reaches" in results.answer and "a solver reaches 1e-09 in 10.0 ms" in results.answer
    assert results.answer.startswith("The most accurate is sin (median error")
    for figure in study.figures(results):
        figure.drawing.canvas.draw()


def test_verdicts_against_what_is_claimed(tmp_path):
    slow = {"a solver": {"error": 1e-9, "seconds": 5.0}}
    smooth, other, tool = run(lshape.STUDY, tmp_path, slow, worst="none", slow=0.1).verdicts
    assert smooth.status == "refuted" and tool.status == "refuted"
    assert other.status == "only if" and "error counts" in other.condition


def test_what_is_not_installed_is_named(tmp_path):
    results = run(lshape.STUDY, tmp_path, {without_nets.NO_ELEMENTS: {}}, solvers=(OURS,))
    smooth, other, tool = results.verdicts
    assert smooth.status == "supported" and other.status == tool.status == "undecided"
    assert "DeepXDE is not installed" in other.evidence and "scikit-fem is not installed" in tool.evidence
    assert "DeepXDE is not installed" in results.answer
    for figure in lshape.STUDY.figures(results):
        figure.drawing.canvas.draw()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    tiny = Size(
        seeds=2, takes="seconds", options={"iterations": 4, "adam": 5, "lbfgs": 5},
        factors={"activation": ("tanh", "sin", "relu")},
    )  # fmt: skip
    study = replace(STUDY, sizes=dict(STUDY.sizes) | {"smoke": tiny})
    return api.run(study, storage=tmp_path_factory.mktemp("tiny") / "s.db", size="smoke", progress=False)


def test_the_study_ends_with_a_verdict_on_every_claim(results):
    assert not results.missing and not results.failures
    assert len(results.rows) == 9 + 2 * (len(SOLVERS) - 1)
    for claim, verdict in zip(STUDY.claims, results.verdicts, strict=True):
        assert "could not be judged" not in verdict.evidence, (claim.name, verdict.evidence)
    assert "without a net, Chebyshev collocation" in results.answer
    assert results.verdicts[2].status == "supported"


def test_its_figures_are_drawn(results):
    errors, times = STUDY.figures(results)
    for figure in (errors, times):
        figure.drawing.canvas.draw()
    (panel,) = errors.drawing.axes
    assert {*results.levels("activation")} <= {t.get_text() for t in panel.get_yticklabels()}
    assert [p.get_title() for p in times.drawing.axes] == list(results.levels("form"))
    assert times.drawing.axes[-1].get_xlabel() == "CPU seconds"


@pytest.mark.parametrize("name", STUDIES)
def test_the_studies_are_well_declared(name):
    study, forms = STUDIES[name], 3 if name == "physics" else 1
    assert name in api.names() and study.name == name
    assert study.size("full").seeds >= 10 and set(study.headline) <= set(study.measures)
    peers = (len(SOLVERS) - 1) * (2 if name == "physics" else 1)
    assert len(study.settings("full")) == 9 * forms + peers


# For readers ---------------------------------------------------------------------------------------------------------


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
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    assert told in capsys.readouterr().out


def test_the_readmes_lead_to_the_page_and_its_code_runs(tmp_path, monkeypatch, capsys):
    for name in ("README.md", "README.zh.md"):
        assert "](docs/systems/physics.md#your-own-equation)" in (ROOT / name).read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.M | re.S)
    monkeypatch.chdir(tmp_path)
    # One after the other, as a reader would in one session.
    known: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), known)
        if block is blocks[0]:
            assert len(block.splitlines()) < 25 and "fit(" in block
            assert known["solution"].error() < 1e-7 and "relative L2 error" in capsys.readouterr().out
            assert (tmp_path / "solution.png").exists()
    assert len(blocks) >= 4
