"""The robust losses against scipy, statsmodels, mpmath and balls; their scales, replicas and extremes."""

import math

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from varphi.systems.heavy_tails import AutoHuber, AutoTukey, CauchyNLL, StudentTNLL
from varphi.systems.heavy_tails.losses import FLOOR, log1p_square

R = torch.linspace(-30, 30, 1201, dtype=torch.float64)
ZERO = torch.zeros_like(R)
LOSSES = {
    "cauchy": lambda **k: CauchyNLL(**k),
    "t3": lambda **k: StudentTNLL(3.0, **k),
    "t learned": lambda **k: StudentTNLL("learn", **k),
    "huber": lambda **k: AutoHuber(**k),
    "tukey": lambda **k: AutoTukey(**k),
}


@pytest.mark.parametrize("scale", [0.3, 1.0, 7.0])
def test_cauchy_is_minus_the_log_density(scale):
    expected = -scipy.stats.cauchy.logpdf(R.numpy(), scale=scale)
    np.testing.assert_allclose(CauchyNLL(scale, "none")(R, ZERO).numpy(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("nu", [0.5, 1.0, 3.0, 50.0])
def test_student_t_is_minus_the_log_density(nu):
    expected = -scipy.stats.t.logpdf(R.numpy(), nu, scale=2.0)
    np.testing.assert_allclose(StudentTNLL(nu, 2.0, "none")(R, ZERO).numpy(), expected, rtol=1e-6, atol=1e-7)


def test_t1_is_cauchy():
    torch.testing.assert_close(StudentTNLL(1.0, 0.7)(R, ZERO), CauchyNLL(0.7)(R, ZERO))


floats = st.floats(-1e300, 1e300).filter(lambda r: r == 0 or abs(r) > 1e-300)


@given(floats, st.floats(1e-100, 1e100))
def test_value_and_gradients_agree_with_mpmath(r, s):
    x, scale = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (r, s))
    value = log1p_square(x, scale)
    by_r, by_s = torch.autograd.grad(value, (x, scale))
    with mpmath.workdps(60):
        a, b = mpmath.mpf(r), mpmath.mpf(s)
        size = a * a + b * b
        expected = mpmath.log1p((a / b) ** 2), 2 * a / size, -2 * a * a / (b * size)
    # Near r = s two logarithms cancel; the error is that of each of them.
    slack = 1e-15 * (1 + abs(math.log(s)))
    for got, want in zip((value, by_r, by_s), map(float, expected), strict=True):
        assert float(got.detach()) == pytest.approx(want, rel=1e-13, abs=slack if got is value else 1e-300)


@pytest.mark.parametrize("r", [1e-8, 0.37, 1.0, 2.5, 1e9])
def test_value_lies_in_the_ball(r):
    from flint import arb, ctx

    ctx.prec = 200
    scale = 0.125
    ball = arb(math.pi).log() + arb(scale).log() + (1 + (arb(r) / arb(scale)) ** 2).log()
    got = CauchyNLL(scale)(torch.tensor([r], dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    assert abs(float(got) - float(ball.mid())) < 1e-14 * (1 + abs(float(ball.mid())))


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-8, 1.0, 1e8, 1e19, 1e30])
@pytest.mark.parametrize("name", LOSSES)
def test_float32_never_overflows(name, size):
    r = torch.tensor([size, -size, 0.5, -0.5, 0.1], requires_grad=True)
    loss = LOSSES[name]()
    value = loss(r, torch.zeros(5))
    value.backward()
    assert value.isfinite() and r.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in loss.parameters())
    # Twice as bad a label never pulls the other way.
    assert bool((r.grad * r >= 0).all())


@pytest.mark.parametrize("size", [1e19, 1e30])
def test_a_tiny_scale_and_a_huge_residual_still_fit_float32(size):
    r = torch.tensor([size], requires_grad=True)
    value = CauchyNLL(1e-30)(r, torch.zeros(1))
    value.backward()
    assert float(value.detach()) == pytest.approx(math.log(math.pi) + 2 * math.log(size) + 30 * math.log(10), rel=1e-6)
    assert float(r.grad) == pytest.approx(2 / size, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_in_float64(name):
    torch.manual_seed(1)
    loss = LOSSES[name](reduction="sum").double()
    loss(torch.randn(40).double(), torch.zeros(40).double())
    # With a remembered scale: an automatic one carries no gradient by design.
    loss.eval()
    prediction = (3 * torch.randn(12, dtype=torch.float64)).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda p, *_: loss(p, torch.zeros_like(p)), (prediction, *loss.parameters()))


def test_huber_is_torchs_at_the_scale_of_its_residuals():
    import statsmodels.robust.scale as robust

    torch.manual_seed(0)
    r = torch.distributions.Cauchy(0.0, 2.0).sample((501,)).double()
    loss = AutoHuber(1.345, "none")
    got = loss(r, torch.zeros_like(r))
    scale = robust.mad(r.numpy(), center=0)
    assert float(loss.scale) == pytest.approx(scale, rel=1e-12)
    torch.testing.assert_close(got, nn.HuberLoss("none", delta=1.345 * float(scale))(r, torch.zeros_like(r)))


def test_tukey_is_statsmodels():
    import statsmodels.api as sm

    torch.manual_seed(0)
    r = (3 * torch.randn(301, dtype=torch.float64)).requires_grad_(True)
    loss = AutoTukey(reduction="none")
    each = loss(r, torch.zeros_like(r))
    each.sum().backward()
    scale, norm = float(loss.scale), sm.robust.norms.TukeyBiweight()
    np.testing.assert_allclose(each.detach() / scale**2, norm.rho(r.detach().numpy() / scale), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(r.grad / scale, norm.psi(r.detach().numpy() / scale), rtol=1e-9, atol=1e-12)


def test_an_automatic_scale_is_remembered_in_eval_and_missing_before():
    loss, r = AutoHuber(), torch.tensor([1.0, 2.0, -3.0])
    with pytest.raises(RuntimeError, match="training mode"):
        loss.eval()(r, torch.zeros(3))
    loss.train()(r, torch.zeros(3))
    before = float(loss.scale)
    loss.eval()(100 * r, torch.zeros(3))
    assert float(loss.scale) == before
    again = AutoHuber()
    again.load_state_dict(loss.state_dict())
    assert float(again.scale) == before


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_replicas_are_trained_as_if_alone(name, reduction):
    torch.manual_seed(2)
    y = torch.randn(3, 50, 2) * torch.tensor([1.0, 10.0, 0.1])[:, None, None]
    prediction = torch.zeros_like(y)
    together = LOSSES[name](reduction=reduction, replicas=3)
    if hasattr(together, "calibrate_"):
        together.calibrate_(y)
    got = together(prediction, y)
    for i in range(3):
        alone = LOSSES[name](reduction=reduction)
        if hasattr(alone, "calibrate_"):
            alone.calibrate_(y[i])
        torch.testing.assert_close(got[i], alone(prediction[i], y[i]))


def test_a_learned_scale_is_the_maximum_likelihood_one():
    r = torch.from_numpy(scipy.stats.cauchy.rvs(scale=0.2, size=400, random_state=0))
    loss = CauchyNLL().double().calibrate_(r)
    optimiser = torch.optim.LBFGS(loss.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        value = loss(r, torch.zeros_like(r))
        value.backward()
        return value

    optimiser.step(closure)
    _, expected = scipy.stats.cauchy.fit(r.numpy(), floc=0)
    assert float(loss.scale) == pytest.approx(expected, rel=1e-3)


def test_learned_degrees_of_freedom_tell_cauchy_from_normal():
    found = []
    for law in (scipy.stats.cauchy, scipy.stats.norm):
        r = torch.from_numpy(law.rvs(size=1000, random_state=0)).float()
        loss = StudentTNLL("learn").calibrate_(r)
        adam = torch.optim.Adam(loss.parameters(), lr=0.05)
        for _ in range(400):
            adam.zero_grad()
            loss(r, torch.zeros_like(r)).backward()
            adam.step()
        found.append(float(loss.nu.detach()))
    assert 0.8 < found[0] < 1.3 and found[1] > 10


def test_the_scale_does_not_collapse_on_labels_fitted_exactly():
    y = torch.linspace(-1, 1, 101)
    loss = CauchyNLL().calibrate_(y)
    start, adam = float(loss.scale.detach()), torch.optim.Adam(loss.parameters(), lr=0.5)
    for _ in range(300):
        adam.zero_grad()
        loss(y, y).backward()
        adam.step()
    assert float(loss.scale.detach()) == pytest.approx(FLOOR * start, rel=0.01)
    assert loss(y, y).isfinite()


def test_calibration_is_the_spread_of_the_targets_whatever_the_outliers():
    y = torch.tensor([1.0, 2.0, 3.0, 4.0, 1e30])
    assert float(CauchyNLL().calibrate_(y).scale.detach()) == pytest.approx(1.4826, rel=1e-4)


def test_bad_input_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="'learn' or a number > 0"):
        CauchyNLL(0.0)
    with pytest.raises(ValueError, match="GaussianNLLLoss"):
        StudentTNLL(math.inf)
    with pytest.raises(ValueError, match="reduction"):
        AutoHuber(reduction="median")
    with pytest.raises(ValueError, match="k must be"):
        AutoHuber(k=-1.0)
    with pytest.raises(ValueError, match="same shape"):
        CauchyNLL()(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(ValueError, match="expected 3"):
        CauchyNLL(replicas=3)(torch.zeros(4, 1), torch.zeros(4, 1))
    with pytest.raises(ValueError, match="fixed at"):
        CauchyNLL(2.0).calibrate_(torch.randn(9))
    with pytest.raises(ValueError, match="more than half"):
        CauchyNLL().calibrate_(torch.tensor([1.0, 1.0, 1.0, 5.0]))
