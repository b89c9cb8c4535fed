"""The constrained study: its data against published numbers, its trainer against plain torch, its verdicts."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from varphi.study import api
from varphi.study.optimisers import Adam
from varphi.systems.constrained import head
from varphi.systems.constrained.data import randhie, split
from varphi.systems.constrained.references import revival
from varphi.systems.constrained.study import STUDY
from varphi.systems.constrained.training import HEADS, Replicas, batches, poisson_deviance, poisson_nll, trial


def test_the_data_are_the_published_ones():
    import statsmodels.api as sm

    x, y = randhie()
    fit = sm.GLM(y, sm.add_constant(x), family=sm.families.Poisson()).fit()
    assert x.shape == (20190, 9) and (y == 0).mean() == pytest.approx(0.3124, abs=5e-5)
    assert fit.llf == pytest.approx(-62419.5886, abs=1e-3) and fit.deviance == pytest.approx(83934.2379, abs=1e-3)
    # The study's own deviance against statsmodels' on the same fit.
    assert len(y) * poisson_deviance(y, fit.predict(sm.add_constant(x))) == pytest.approx(fit.deviance, rel=1e-9)


def test_no_row_is_in_two_parts_and_features_are_standardised_by_the_rows_to_fit():
    parts = split()
    assert [len(p.y) for p in (parts.fit, parts.validation, parts.held_out)] == [13000, 2000, 5190]
    total = sum(float(p.y.sum()) for p in (parts.fit, parts.validation, parts.held_out))
    assert total == randhie()[1].sum()
    assert parts.fit.x.mean(1).abs().max() < 1e-5 and (parts.fit.x.std(1) - 1).abs().max() < 1e-3
    clipped = split("clipped")
    assert torch.equal(clipped.fit.x, parts.fit.x) and float((clipped.fit.y == 0).float().mean()) == pytest.approx(
        0.31, abs=0.01
    )


@pytest.mark.parametrize(
    ("mu", "expected"),
    [
        ([1.0, 2.0, 3.0], 0.0),
        ([1.0, 0.0, 3.0], math.inf),
        ([-0.1, 2.0, 3.0], math.inf),
        ([math.nan, 2.0, 3.0], math.nan),
    ],
)
def test_deviance_hides_no_impossible_prediction(mu, expected):
    assert poisson_deviance(np.array([1.0, 2.0, 3.0]), np.array(mu)) == pytest.approx(expected, nan_ok=True)


def test_deviance_of_a_zero_predicted_for_a_zero_is_finite():
    assert poisson_deviance(np.array([0.0, 2.0]), np.array([0.0, 2.0])) == 0


def test_the_loss_is_torchs():
    mu, y = torch.rand(50) * 3, torch.poisson(torch.ones(50))
    expected = nn.PoissonNLLLoss(log_input=False, reduction="none")(mu, y)
    torch.testing.assert_close(poisson_nll(mu, y), expected)


@pytest.mark.parametrize("hidden", [0, 8])
def test_every_replica_equals_the_same_net_trained_alone_by_torch(hidden):
    seeds, rates, steps = (3, 11), (0.01, 0.1), 12
    x, y = torch.randn(4, 96), torch.rand(96)
    model = Replicas(4, hidden, seeds, len(rates))
    model.flat = model.flat.double()
    alone = [_plain_net(model, i, hidden) for i in range(4)]
    optimisers = [torch.optim.Adam(net.parameters(), lr=rates[i // 2]) for i, net in enumerate(alone)]
    adam = Adam([model.flat], [rate for rate in rates for _ in seeds])
    wide_x, wide_y = x.double(), y.double()
    for rows in list(batches(96, 8, seeds, 1))[:steps]:
        model.flat.requires_grad_(True)
        z = model(wide_x.T[rows].mT.repeat(2, 1, 1))
        each = (nn.functional.softplus(z) - wide_y[rows].repeat(2, 1)).square().mean(dim=1)
        (model.flat.grad,) = torch.autograd.grad(each.sum(), model.flat)
        adam.step()
        for i, (net, optimiser) in enumerate(zip(alone, optimisers, strict=True)):
            own = rows[i % 2]
            optimiser.zero_grad()
            (nn.functional.softplus(net(wide_x.T[own])[:, 0]) - wide_y[own]).square().mean().backward()
            optimiser.step()
    for i, net in enumerate(alone):
        torch.testing.assert_close(model(wide_x)[i], net(wide_x.T)[:, 0], rtol=1e-9, atol=1e-9)


def _plain_net(model, i, hidden):
    layers = []
    for weight, bias in model.layers:
        layer = nn.Linear(weight.shape[2], weight.shape[1]).double()
        with torch.no_grad():
            layer.weight.copy_(weight[i])
            layer.bias.copy_(bias[i, :, 0])
        layers.append(layer)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1]) if hidden else layers[0]


AT = [{"learning rate": 0.03}]
SMALL = {"target": "visits", "net": "mlp32", "loss": "mse", "start": "mean", "activation": "softplus"}


def test_a_seed_means_the_same_in_every_setting_and_company():
    alone = trial(SMALL, [4, 9], AT, epochs=1, batch=500)
    company = trial(SMALL, [4, 9, 2], [*AT, {"learning rate": 0.1}], epochs=1, batch=500)
    for name in ("rmse", "validation_loss"):
        np.testing.assert_allclose(company.measures[name][0, :2], alone.measures[name][0], rtol=1e-5)
    again = trial(SMALL, [4, 9], AT, epochs=1, batch=500)
    assert np.array_equal(again.measures["rmse"], alone.measures["rmse"])


def test_the_number_of_threads_changes_no_bit():
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(trial(SMALL, [0, 1], AT, epochs=1, batch=500).measures)
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_relu_dies_at_minus_three_and_lives_after_init_bias_or_revive():
    relu = SMALL | {"activation": "relu", "net": "linear"}
    dead = {
        start: trial(relu | {"start": start}, range(6), AT, epochs=1, batch=500).measures
        for start in ("-3", "mean", "-3 revived")
    }
    assert dead["-3"]["dead_at_start"].mean() > 0.5 and dead["-3"]["dead"].mean() > 0.5
    for start in ("mean", "-3 revived"):
        assert not dead[start]["dead_at_start"].any() and not dead[start]["dead"].any()


def test_no_dead_head_among_100_bad_starts_after_either_remedy():
    shares = [row["dead"] for row in revival(100).values()]
    assert shares == [1.0, 0.0, 0.0]


def test_every_head_under_test_trains_and_delivers_every_measure():
    for activation in HEADS:
        outcome = trial(SMALL | {"activation": activation, "net": "linear"}, [0, 1], AT, epochs=1, batch=1000)
        assert set(STUDY.measures) <= set(outcome.measures)
        assert np.isfinite(outcome.measures["rmse"]).all()
        assert all(v.shape == (1, 2) for v in outcome.measures.values())


def test_positive_heads_start_at_the_mean_of_the_data():
    y = split().fit.y
    for activation, (kind, options) in HEADS.items():
        bias = torch.zeros(1)
        h = head(kind, **options)
        h.init_bias_(bias, y.mean())
        assert float(h(bias)) == pytest.approx(float(y.mean()), rel=1e-5), activation


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    return api.run("constrained", storage=tmp_path_factory.mktemp("smoke") / "s.db", size="smoke", progress=False)


def test_the_smoke_study_ends_with_a_verdict_on_every_claim(smoke):
    assert not smoke.missing and not smoke.failures and len(smoke.rows) == 15
    verdicts = {claim.name: v for claim, v in zip(smoke.study.claims, smoke.verdicts, strict=True)}
    assert verdicts["dead outputs only from ReLU"].status == "supported"
    assert verdicts["exact zeros only from ReLU"].status == "supported"
    for name, verdict in verdicts.items():
        # The certified claim needs `facts`.
        if "Lipschitz" not in name:
            assert "could not be judged" not in verdict.evidence, verdict.evidence
    assert "dead" in smoke.answer and "deviance" in smoke.answer


def test_both_are_certified_1_lipschitz(smoke):
    pytest.importorskip("varphi.facts.api")
    (verdict,) = (v for c, v in zip(smoke.study.claims, smoke.verdicts, strict=True) if "Lipschitz" in c.name)
    assert verdict.status == "supported" and "1" in verdict.evidence


def test_infinite_deviance_is_printed(smoke):
    dead = smoke.one(target="visits", net="linear", loss="mse", start="-3", activation="relu")
    assert np.isinf(dead.values("deviance")).any()
    assert any("∞" in cell for line in smoke.table() for cell in line)


def test_the_references_stand_beside_the_heads(smoke):
    deviances = {name: values["deviance"] for name, values in smoke.references.items() if "deviance" in values}
    # The field's own figures on the same held-out rows, with 15000 rows to fit: 4.9782, 4.4967 and 4.5033.
    assert deviances == pytest.approx(
        {"constant (mean)": 4.978, "least squares": 4.497, "Poisson GLM": 4.503}, abs=5e-3
    )


def test_the_study_is_well_declared():
    for size in ("full", "demo"):
        assert STUDY.size(size).seeds >= 10
        settings = STUDY.settings(size)
        assert {s["activation"] for s in settings} == set(HEADS)
    assert all(claim.quote and claim.measure for claim in STUDY.claims)
    assert len(STUDY.settings("full")) == 88
