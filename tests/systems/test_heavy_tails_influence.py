"""Influence and diagnosis against known tails, closed forms and plain loops."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from varphi.systems.heavy_tails import (
    AutoHuber,
    AutoTukey,
    BoundedHead,
    CauchyNLL,
    StudentTNLL,
    gradient_tails,
    influence,
    tail_index,
    top_share,
)
from varphi.systems.heavy_tails.influence import CAUCHY, NORMAL, cramer_rao

PHI = scipy.stats.norm


@pytest.mark.parametrize(
    ("loss", "normal", "cauchy"),
    [
        (nn.MSELoss(), 1.0, 0.0),
        (nn.L1Loss(), 2 / math.pi, 8 / math.pi**2),
        (CauchyNLL(1.0), None, 1.0),
        (CauchyNLL("learn"), None, 1.0),
        (AutoHuber(), 0.95, None),
        (AutoTukey(), 0.95, None),
        (nn.HuberLoss(delta=1.345), 0.95, None),
        (StudentTNLL(1e6, 1.0), 1.0, None),
    ],
    ids=str,
)
def test_efficiencies_are_the_known_ones(loss, normal, cauchy):
    found = influence(loss)
    if normal is not None:
        assert found.efficiency_normal == pytest.approx(normal, abs=2e-4)
    if cauchy is not None:
        assert found.efficiency_cauchy == pytest.approx(cauchy, abs=2e-4)


def test_the_median_reaches_its_efficiency_in_simulation():
    medians = np.median(scipy.stats.cauchy.rvs(size=(4000, 401), random_state=0), axis=1)
    bound = cramer_rao(CAUCHY, 1.0, 401)
    assert bound == pytest.approx(math.sqrt(2 / 401))
    assert (bound / medians.std()) ** 2 == pytest.approx(influence(nn.L1Loss()).efficiency_cauchy, abs=0.04)
    assert cramer_rao(NORMAL, 2.0, 100) == pytest.approx(0.2)


def test_sensitivity_and_rejection():
    assert influence(nn.MSELoss()).gross_error_sensitivity == math.inf
    assert influence(nn.L1Loss()).gross_error_sensitivity == pytest.approx(math.sqrt(math.pi / 2), rel=1e-4)
    huber = 1.345 / (2 * PHI.cdf(1.345) - 1)
    assert influence(nn.HuberLoss(delta=1.345)).gross_error_sensitivity == pytest.approx(huber, rel=1e-4)
    assert influence(AutoTukey()).rejection_point == pytest.approx(4.685, rel=1e-3)
    assert influence(CauchyNLL()).rejection_point == math.inf
    r = np.linspace(-9, 9, 19)
    np.testing.assert_allclose(influence(CauchyNLL(2.0)).psi(r), 2 * r / (4 + r * r), rtol=1e-12)


def test_the_learned_scale_settles_where_the_likelihood_is_largest():
    # E[2r²/(s² + r²)] = 1 at the normal; at the Cauchy it is the noise's own scale.
    s = influence(CauchyNLL()).scale
    assert scipy.stats.norm.expect(lambda r: 2 * r * r / (s * s + r * r)) == pytest.approx(1, abs=1e-5)


def test_a_plot_has_the_curve():
    (line,) = influence(AutoHuber()).plot(limit=5.0).lines
    assert line.get_xdata()[0] == -5 and abs(line.get_ydata()).max() == pytest.approx(1.345, rel=1e-3)


def test_a_loss_without_pull_is_refused():
    with pytest.raises(ValueError, match="not positive"):
        influence(lambda prediction, target: 0 * (prediction - target))


# Tails ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "index", "k"),
    # Student's t only approaches its power law: the k that fits best is too large for it, and 1 % of the sample right.
    [(scipy.stats.cauchy, 1.0, None), (scipy.stats.pareto(1.5), 1.5, None), (scipy.stats.t(3), 3.0, 50)],
)
def test_known_tails(law, index, k):
    found = [tail_index(np.abs(law.rvs(size=5000, random_state=seed)), k) for seed in range(10)]
    assert np.median([t.index for t in found]) == pytest.approx(index, rel=0.12)
    assert all(t.low < t.index < t.high and 10 <= t.k < t.samples for t in found)


def test_with_the_k_that_fits_best_t3_has_a_variance_and_cauchy_has_none():
    heavy, light = (
        [tail_index(np.abs(law.rvs(size=2000, random_state=s))) for s in range(10)]
        for law in (scipy.stats.cauchy, scipy.stats.t(3))
    )
    assert all(t.high < 2 for t in heavy) and np.median([t.index for t in light]) > 2


def test_a_normal_tail_is_no_power_law():
    assert all(tail_index(np.abs(scipy.stats.norm.rvs(size=5000, random_state=s))).index > 4 for s in range(5))


def test_the_interval_covers_for_pareto_tails_at_a_fixed_k():
    covered = [
        (t := tail_index(scipy.stats.pareto.rvs(2.0, size=300, random_state=s), k=60)).low <= 2 <= t.high
        for s in range(400)
    ]
    # 95 % of 400, within four standard deviations of a binomial.
    assert 0.905 < np.mean(covered) <= 0.995


def test_the_tail_has_no_unit():
    sizes = np.abs(scipy.stats.cauchy.rvs(size=500, random_state=0))
    a, b = tail_index(sizes), tail_index(1e12 * sizes)
    assert a.k == b.k and a.index == pytest.approx(b.index, rel=1e-9)


def test_top_share_counts():
    assert top_share(np.ones(200)) == pytest.approx(0.01)
    assert top_share(np.r_[np.zeros(99), 5.0]) == 1.0


def test_too_little_to_tell_is_refused():
    for wrong in (np.ones(10), np.r_[np.ones(60), np.nan], -np.ones(60), np.zeros(60)):
        with pytest.raises(ValueError, match=r"at least 50|no tail"):
            tail_index(wrong)
    with pytest.raises(ValueError, match="k must lie"):
        tail_index(np.arange(1.0, 101), k=200)


# Diagnosis -----------------------------------------------------------------------------------------------------------


def problem(law, n=300):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, 2, generator=generator)
    y = x.sum(1, keepdim=True) + torch.from_numpy(law.rvs(size=(n, 1), random_state=1)).float()
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)), x, y


@pytest.mark.parametrize("of", ["parameters", "output"])
def test_per_sample_gradients_are_those_of_a_loop(of):
    model, x, y = problem(scipy.stats.cauchy)
    found = gradient_tails(model, nn.MSELoss(), (x, y), of=of, chunk=64)
    for i in (0, 7, 299):
        output = model(x[i : i + 1])
        wrt = list(model.parameters()) if of == "parameters" else [output]
        slopes = torch.autograd.grad(nn.functional.mse_loss(output, y[i : i + 1]), wrt)
        assert found.sizes[i] == pytest.approx(float(torch.cat([g.flatten() for g in slopes]).norm()), rel=1e-4)
    assert found.top_share == pytest.approx(float(top_share(found.sizes)))


def test_cauchy_labels_under_squared_loss_are_diagnosed_and_a_robust_loss_cures_them():
    model, x, y = problem(scipy.stats.cauchy, 1000)
    squared = gradient_tails(model, nn.MSELoss(), (x, y))
    assert squared.tail.index == pytest.approx(1, abs=0.35) and squared.top_share > 0.2
    assert "variance is infinite" in squared.advice and "CauchyNLL" in str(squared)
    robust = gradient_tails(model, CauchyNLL(), (x, y))
    assert robust.top_share < 0.03 and robust.tail.low > 2 and "nothing to change" in robust.advice
    calm = gradient_tails(model, nn.MSELoss(), problem(scipy.stats.norm, 1000)[1:])
    assert "variance" not in calm.advice


def test_a_loader_gives_the_same_and_modes_are_restored():
    model, x, y = problem(scipy.stats.cauchy)
    model.append(nn.Dropout(0.5))
    loss = AutoHuber()
    loss(model(x), y)
    scale = float(loss.scale)
    loader = DataLoader(TensorDataset(x, y), batch_size=100)
    np.testing.assert_allclose(
        gradient_tails(model, loss, loader).sizes, gradient_tails(model, loss, (x, y)).sizes, rtol=1e-5
    )
    assert model.training and model[-1].training and loss.training and float(loss.scale) == scale
    assert all(p.grad is None for p in model.parameters())


def test_saturation_is_seen_in_bounded_activations_only():
    model, x, y = problem(scipy.stats.norm)
    with torch.no_grad():
        model[0].weight.mul_(1e4)
    model.append(nn.ReLU()).append(BoundedHead((-1.0, 1.0)))
    found = gradient_tails(model, nn.L1Loss(), (x, y))
    assert set(found.saturated) == {"1", "4"} and found.saturated["1"] > 0.9
    assert "saturated and learns slowly" in found.advice


def test_the_hill_plot_is_drawn():
    model, x, y = problem(scipy.stats.cauchy)
    axes = gradient_tails(model, nn.MSELoss(), (x, y)).plot()
    assert len(axes.lines[0].get_xdata()) > 100


def test_bad_data_are_refused():
    model, x, y = problem(scipy.stats.cauchy)
    with pytest.raises(ValueError, match="at least 50"):
        gradient_tails(model, nn.MSELoss(), (x[:9], y[:9]))
    with pytest.raises(ValueError, match="do not match"):
        gradient_tails(model, nn.MSELoss(), (x, y[:9]))
    y[3] = math.nan
    with pytest.raises(ValueError, match="sample 3"):
        gradient_tails(model, nn.MSELoss(), (x, y))
    with pytest.raises(ValueError, match="of is"):
        gradient_tails(model, nn.MSELoss(), (x, y), of="weights")
