"""The heavy_tails studies: their data, their trainer against plain torch, the classical fits, a run from end to end."""

import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from varphi.study import Size, api
from varphi.systems.heavy_tails import CauchyNLL
from varphi.systems.heavy_tails.data import LABELS, REAL, real, simulated
from varphi.systems.heavy_tails.peers import PEERS, chebyshev, linear, predictions
from varphi.systems.heavy_tails.real import STUDY as REAL_STUDY
from varphi.systems.heavy_tails.study import CANDIDATE, STUDY
from varphi.systems.heavy_tails.training import HEADS, LOSSES, METHODS, Replicas, trained
from varphi.systems.heavy_tails.trial import _steps, cauchy_loss, regret, trial

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "heavy_tails.py"


def rates(*values: float) -> list[dict[str, float]]:
    """The points of these learning rates."""
    return [{"learning rate": value} for value in values]


def double(values):
    return torch.tensor(np.ascontiguousarray(values))


# Data ----------------------------------------------------------------------------------------------------------------


def test_a_seed_is_the_same_problem_in_every_company():
    alone, company = simulated("γ = 0.1", [7]), simulated("γ = 0.1", [3, 7])
    assert np.array_equal(alone.y[0], company.y[1]) and np.array_equal(alone.x_validation[0], company.x_validation[1])
    clean = simulated("no noise", [7])
    np.testing.assert_allclose(clean.y[0], 0.8 * np.sin(3 * alone.x[0, 0]))
    noise = (alone.y - clean.y).ravel() / LABELS["γ = 0.1"].gamma
    # The quartiles of a standard Cauchy variable are -1 and 1.
    assert np.quantile(np.abs(noise), 0.5) == pytest.approx(1, abs=0.2) and np.abs(noise).max() > 50
    np.testing.assert_allclose(alone.y_test, 0.8 * np.sin(3 * alone.x_test[:, 0]))


def test_real_data_are_the_published_ones():
    import statsmodels.api as sm
    import statsmodels.formula.api as smf

    table = sm.datasets.engel.load_pandas().data
    fit = smf.quantreg("foodexp ~ income", table).fit(q=0.5)
    # Koenker & Hallock's median regression of food expenditure on income.
    assert fit.params["income"] == pytest.approx(0.5601806, abs=1e-6)
    assert [len(REAL[name][0]()[1]) for name in REAL] == [235, 442, 442]


def test_splits_hold_every_row_once_and_held_out_labels_are_never_spoiled():
    (plain, scale), (spoiled, spoiled_scale) = (real(name, [0, 1]) for name in ("diabetes", "diabetes, 10 % slipped"))
    assert [plain.y.shape[1], plain.y_validation.shape[1], plain.y_test.shape[1]] == [265, 89, 88]
    y = REAL["diabetes"][0]()[1]
    middle = [np.median(np.r_[p]) for p in plain.y]
    assert middle == pytest.approx([0, 0], abs=1e-12)
    spread = np.concatenate([plain.y[0], plain.y_validation[0], plain.y_test[0]]) * scale[0]
    np.testing.assert_allclose(np.sort(spread - spread.min()), np.sort(y - y.min()), atol=1e-9)
    # In its own unit a held-out label differs between the two only by the median it is told from.
    ratio = spoiled.y_test * spoiled_scale[:, None] - plain.y_test * scale[:, None]
    assert np.ptp(ratio, axis=1).max() < 1e-9
    changed = [np.ptp(spoiled.y[i] * spoiled_scale[i]) > 3 * np.ptp(plain.y[i] * scale[i]) for i in range(2)]
    assert all(changed)


# Training ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["Adam", "SGD"])
def test_every_replica_equals_the_same_net_trained_alone_by_torch(method):
    seeds, rates, steps = (3, 11), (0.01, 0.05), 25
    samples = simulated("γ = 0.1", seeds, rows=64)
    x, y = double(samples.x), double(samples.y)
    torch.set_default_dtype(torch.float64)
    try:
        fit = trained(
            *(x, y, seeds, rates), head="median±3 MADN", loss="Cauchy", method=method, steps=steps, widths=(8, 4)
        )
        start = Replicas(1, seeds, 2, (8, 4))
        for i in range(4):
            net, loss = plain_net(start, i), CauchyNLL().calibrate_(y[i % 2])
            parameters = [*net.parameters(), *loss.parameters()]
            optimiser = {
                "Adam": lambda p, lr: torch.optim.Adam(p, lr),
                "SGD": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9),
            }[method](parameters, rates[i // 2])
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
            middle = y[i % 2].median()
            half = 3 * 1.4826022185056018 * (y[i % 2] - middle).abs().median()
            for _ in range(steps):
                optimiser.zero_grad()
                loss(middle + half * torch.tanh(net(x[i % 2].T)[:, 0]), y[i % 2]).backward()
                optimiser.step()
                schedule.step()
            expected = middle + half * torch.tanh(net(x[i % 2].T)[:, 0])
            torch.testing.assert_close(fit.predict(x.repeat(2, 1, 1))[i], expected, rtol=1e-7, atol=1e-7)
            torch.testing.assert_close(fit.loss.scale[i], loss.scale, rtol=1e-7, atol=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


def plain_net(replicas, i):
    layers = []
    for weight, bias in replicas.layers:
        layer = nn.Linear(weight.shape[2], weight.shape[1])
        with torch.no_grad():
            layer.weight.copy_(weight[i])
            layer.bias.copy_(bias[i, :, 0])
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_head_and_method_delivers_every_measure(loss):
    for head, method in zip(HEADS, METHODS, strict=True):
        setting = CANDIDATE | {"head": head, "loss": loss, "optimiser": method}
        outcome = trial(setting, [0, 1], rates(0.003, 0.01), steps=8)
        assert set(STUDY.measures) == set(outcome.measures)
        assert all(np.shape(v) == (2, 2) for v in outcome.measures.values())
        assert np.isfinite(outcome.measures["error"]).all()


def test_a_seed_means_the_same_in_every_company():
    alone = trial(CANDIDATE, [4], rates(0.03), steps=10)
    company = trial(CANDIDATE, [9, 4], rates(0.01, 0.03), steps=10)
    for name in ("error", "validation_loss", "top_share"):
        np.testing.assert_allclose(company.measures[name][1, 1], alone.measures[name][0, 0], rtol=1e-4)
    assert np.array_equal(trial(CANDIDATE, [4], rates(0.03), steps=10).measures["error"], alone.measures["error"])


def test_a_run_that_diverges_is_counted_and_its_numbers_are_not_hidden():
    setting = CANDIDATE | {"hidden": "tanh", "head": "identity", "loss": "squared", "optimiser": "SGD"}
    measures = trial(setting, [0, 1], rates(1e4), steps=60).measures
    assert (measures["diverged"] == 1).all() and not (measures["error"] < 1).any()
    assert np.isinf(measures["regret"]).all() or (measures["regret"] >= 0).all()


def test_the_rate_is_chosen_without_the_truth():
    assert STUDY.tuning.by == "regret"
    losses = np.array([[1.0, 5.0, math.nan], [2.0, 4.0, math.nan]])
    np.testing.assert_array_equal(regret(losses), [[0, 1, math.inf], [1, 0, math.inf]])
    r = np.array([3.0, -1.0, 1.0, -2.0, 0.5])
    assert cauchy_loss(r) == pytest.approx(np.mean(np.log(1 + r**2)))


def test_a_curve_has_learned_when_it_stays_below():
    curves = np.array([[0.05, 0.5, 0.05, 0.05], [0.05] * 4, [0.5, 0.05, 0.05, 0.5], [0.05, 0.05, 0.05, math.nan]])
    assert _steps(curves, 10).tolist() == [30, 10, math.inf, math.inf]


# Classical fits ------------------------------------------------------------------------------------------------------


def test_without_noise_every_classical_fit_finds_the_curve():
    samples = simulated("no noise", [0])
    for peer in PEERS:
        (found,) = predictions(peer, chebyshev, samples.x[0], samples.y[0], samples.x_test[0])
        assert np.abs(found - samples.y_test[0]).max() < 5e-3, peer


def test_robust_fits_ignore_the_noise_that_ruins_least_squares():
    samples = simulated("γ = 0.1", range(10))
    errors = {
        peer: np.median(
            [
                np.median(np.abs(predictions(peer, chebyshev, x, y, at)[0] - truth))
                for x, y, at, truth in zip(samples.x, samples.y, samples.x_test, samples.y_test, strict=True)
            ]
        )
        for peer in ("least squares", "Huber (sklearn)", "Tukey (statsmodels RLM)")
    }
    assert errors["Huber (sklearn)"] < 0.02 and errors["Tukey (statsmodels RLM)"] < 0.02
    assert errors["least squares"] > 5 * errors["Huber (sklearn)"]


def test_a_method_without_a_fit_says_so_with_nan():
    from sklearn.datasets import make_regression

    x, y = make_regression(n_samples=4, n_features=3, random_state=0)
    (found,) = predictions("RANSAC (sklearn)", linear, x.T[:, :2], y[:2], x.T)
    assert np.isnan(found).all()


# From end to end -----------------------------------------------------------------------------------------------------


def tiny(study, steps=30):
    smoke = study.size("smoke")
    size = Size(seeds=4, tuning=smoke.tuning[:1], takes="seconds", options={"steps": steps}, factors=smoke.factors)
    return replace(study, sizes=dict(study.sizes) | {"smoke": size})


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return api.run(tiny(STUDY), storage=tmp_path_factory.mktemp("tiny") / "s.db", size="smoke", progress=False)


def test_the_study_ends_with_a_verdict_on_every_claim(results):
    assert not results.missing and not results.failures and len(results.rows) == 26
    for claim, verdict in zip(STUDY.claims, results.verdicts, strict=True):
        assert "could not be judged" not in verdict.evidence, (claim.name, verdict.evidence)
    assert "median error" in results.answer


def test_its_figures_are_drawn(results):
    titles = [figure.title for figure in STUDY.figures(results)]
    assert len(titles) == len(set(titles)) == 5
    for figure in STUDY.figures(results):
        figure.drawing.canvas.draw()


def test_the_real_study_runs_too(tmp_path):
    found = api.run(tiny(REAL_STUDY, 15), storage=tmp_path / "s.db", size="smoke", progress=False)
    assert not found.missing and not found.failures
    assert all("could not be judged" not in verdict.evidence for verdict in found.verdicts)
    assert all(name in found.answer for name in REAL)
    for figure in REAL_STUDY.figures(found):
        figure.drawing.canvas.draw()


def test_the_studies_are_well_declared():
    assert {"heavy_tails", "heavy_tails_real"} <= set(api.names())
    for study in (STUDY, REAL_STUDY):
        assert study.size("full").seeds >= 20
        assert all(claim.quote and claim.measure for claim in study.claims)
        assert study.tuning.by in study.measures and set(study.headline) <= set(study.measures)
    settings = STUDY.settings("full")
    assert CANDIDATE in settings and len(settings) == 111
    # Seeds that chose the candidate are in no size.
    assert max(size.seeds for size in STUDY.sizes.values()) <= 100


def test_the_example_runs(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    told = capsys.readouterr().out
    assert "Cauchy likelihood, bounded head: median |error| 0.0" in told and "variance is infinite" in told
