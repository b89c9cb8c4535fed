"""The bounded head: certified ends, calibration, inverse, state."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal, TransformedDistribution

import varphi as vp
from varphi.systems.heavy_tails import BoundedHead

MONOTONE = ("tanh", "sigmoid", "softsign", "atan", "erf")
BOUNDED = (*MONOTONE, "hardtanh", "relu6", "sin")


def every_exponent():
    bits = torch.arange(0, 0x7F800000, 999_983, dtype=torch.int32)
    x = bits.view(torch.float32)
    return torch.cat([x, -x])


@pytest.mark.parametrize("name", BOUNDED)
def test_no_float_leaves_the_range_and_its_ends_are_met_exactly(name):
    head = BoundedHead((-0.3, 1.7), name)
    y = head(every_exponent())
    assert bool(((y >= head.lower) & (y <= head.upper)).all())
    if name != "sin":
        assert float(y.max()) == pytest.approx(1.7, abs=1e-6) and float(y.min()) == pytest.approx(-0.3, abs=1e-6)


@pytest.mark.parametrize(
    ("activation", "told"), [("softplus", "inf"), ("relu", "inf"), ("gelu", "-0.1699"), ("x", "-inf")]
)
def test_an_unbounded_activation_is_refused_with_its_range(activation, told):
    with pytest.raises(ValueError, match="bounded") as error:
        BoundedHead((0.0, 1.0), activation)
    assert told in str(error.value)


@given(st.floats(-5, 5), st.floats(0.01, 100), st.floats(-3, 3))
def test_tanh_is_the_affine_tanh(middle, half, z):
    head = BoundedHead((middle - half, middle + half))
    expected = middle + half * math.tanh(z)
    got = float(head(torch.tensor(z, dtype=torch.float64)))
    assert got == pytest.approx(expected, abs=1e-6 * (abs(middle) + half))


@pytest.mark.parametrize("name", BOUNDED)
def test_the_inverse_undoes_it(name):
    head = BoundedHead((-2.0, 3.0), name).double()
    y = torch.linspace(-1.99, 2.99, 37, dtype=torch.float64)
    torch.testing.assert_close(head(head.inverse(y)), y, rtol=1e-9, atol=1e-9)
    for outside in (-2.0, 3.0, 7.0, math.nan):
        with pytest.raises(ValueError, match="range"):
            head.inverse(torch.tensor(outside))


def test_calibration_is_median_and_three_madn_and_outliers_do_not_move_it():
    y = torch.from_numpy(scipy.stats.cauchy.rvs(loc=5, size=501, random_state=0))
    head = BoundedHead("median±3 MADN").calibrate_(y)
    middle, spread = np.median(y), scipy.stats.median_abs_deviation(y, scale="normal")
    assert float(head.lower) == pytest.approx(middle - 3 * spread, rel=1e-6)
    assert float(head.upper) == pytest.approx(middle + 3 * spread, rel=1e-6)
    spoiled = y.clone()
    spoiled[y > y.quantile(0.9)] = 1e300
    moved = BoundedHead("median±3 MADN").calibrate_(spoiled)
    torch.testing.assert_close(moved.upper, head.upper)


@pytest.mark.parametrize("rule", ["median±2.5 MADN", "median ± 2.5 MADN", "median+-2.5MADN", "Median +/- 2.5 * madn"])
def test_ways_to_write_the_rule(rule):
    assert BoundedHead(rule).times == 2.5


def test_every_output_and_every_replica_has_its_own_range():
    y = torch.stack([torch.arange(9.0), 100 * torch.arange(9.0)], dim=1)
    by_output = BoundedHead().calibrate_(y)
    assert by_output(torch.zeros(5, 2)).tolist() == [[4.0, 400.0]] * 5
    by_replica = BoundedHead().calibrate_(y.T, dim=-1)
    assert by_replica(torch.zeros(2, 5)).tolist() == [[4.0] * 5, [400.0] * 5]
    assert BoundedHead().calibrate_(y, dim=None).lower.dim() == 0


def test_the_state_carries_the_calibration():
    head = BoundedHead().calibrate_(torch.randn(50, 3))
    model = nn.Sequential(nn.Linear(2, 3), head)
    other = nn.Sequential(nn.Linear(2, 3), BoundedHead())
    other.load_state_dict(model.state_dict())
    x = torch.randn(7, 2)
    assert torch.equal(model(x), other(x))


def test_it_is_a_head_like_the_others():
    torch.manual_seed(0)
    y = 50 + torch.randn(400, 1)
    head, layer = BoundedHead().calibrate_(y), nn.Linear(3, 1)
    head.init_bias_(layer, y.mean())
    assert float(head(layer.bias.detach())) == pytest.approx(float(y.mean()), rel=1e-5)
    z = torch.tensor([[40.0], [50.0], [0.0], [0.2]])
    assert head.report(z).saturated == 0.5
    with torch.no_grad():
        layer.bias.fill_(1e4)
    assert head.revive_(layer, torch.randn(20, 3)).tolist() == [True]
    assert head.slopes(layer(torch.zeros(1, 3))).item() > 0.1
    z = torch.randn(6, dtype=torch.float64, requires_grad=True)
    for name in MONOTONE:
        h = BoundedHead((1.0, 4.0), name)
        (slope,) = torch.autograd.grad(h(z).sum(), z)
        torch.testing.assert_close(h.log_abs_det_jacobian(z, h(z)).exp(), slope)
    law = TransformedDistribution(Normal(0.0, 1.0), BoundedHead((0.0, 1.0)).transform())
    places = torch.linspace(1e-4, 1 - 1e-4, 20001)
    assert float(torch.trapezoid(law.log_prob(places).exp(), places)) == pytest.approx(1, abs=1e-3)


def test_bad_input_is_refused_with_the_remedy():
    with pytest.raises(RuntimeError, match="calibrate_"):
        BoundedHead()(torch.zeros(1))
    with pytest.raises(ValueError, match="was given as"):
        BoundedHead((0.0, 1.0)).calibrate_(torch.randn(9))
    with pytest.raises(ValueError, match="no spread"):
        BoundedHead().calibrate_(torch.ones(9))
    with pytest.raises(ValueError, match="learns beta"):
        BoundedHead((0.0, 1.0), vp.get("swish", learn="beta"))
    for wrong in ("mean±3 sd", "median±0 MADN", (1.0, 1.0), (2.0, 1.0), (0.0, math.inf)):
        with pytest.raises(ValueError, match="range"):
            BoundedHead(wrong)
