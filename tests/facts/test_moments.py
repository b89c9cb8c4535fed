"""Gaussian moments against closed forms and mpmath; mean-field theory against the literature."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate as scipy_integrate

import varphi as vp
from varphi.facts.moments import NoCriticalPoint, backward_gain, breakpoints, gain, integrate, mean_field, moments
from varphi.numbers import exp, log, maximum, sign, sin, sqrt, tanh, variable, where

X = variable("x")


def close(estimate, exact):
    assert math.isfinite(estimate.error)
    assert abs(estimate.value - exact) <= estimate.error
    assert estimate.error <= 1e-10 * max(abs(exact), 1e-3) or estimate.error <= 1e-12


@given(st.floats(1e-3, 1e3))
def test_relu(sigma):
    m = moments("relu", 0.0, sigma)
    close(m.mean, sigma / math.sqrt(2 * math.pi))
    assert m.mean_square.value == pytest.approx(sigma**2 / 2, rel=1e-13)
    close(m.slope_square, 0.5)
    assert m.curvature_square.value == 0
    assert (m.kinks, m.jumps) == ((0.0,), ())


@settings(max_examples=40)
@given(st.floats(-3, 3), st.floats(1e-2, 18))
def test_exp(mu, sigma):
    m = moments(exp(X), mu, sigma)
    for order, estimates in ((1, (m.mean, m.slope)), (2, (m.mean_square, m.slope_square, m.curvature_square))):
        with mpmath.workdps(30):
            exact = float(mpmath.exp(order * mpmath.mpf(mu) + order**2 * mpmath.mpf(sigma) ** 2 / 2))
        for estimate in estimates:
            assert estimate.value == pytest.approx(exact, rel=1e-11)
            assert estimate.error < 1e-9 * exact


@given(st.floats(-10, 10), st.floats(1e-3, 100))
def test_sin(mu, sigma):
    m = moments(sin(X), mu, sigma)
    assert m.mean.value == pytest.approx(math.sin(mu) * math.exp(-(sigma**2) / 2), abs=m.mean.error + 1e-15)
    square = (1 - math.cos(2 * mu) * math.exp(-2 * sigma**2)) / 2
    assert m.mean_square.value == pytest.approx(square, abs=m.mean_square.error + 1e-15)
    assert m.slope_square.value == pytest.approx(1 - square, abs=m.slope_square.error + 1e-15)
    assert max(m.mean.error, m.mean_square.error) < 1e-10


def test_what_grows_faster_than_the_gaussian_falls_is_infinite():
    m = moments(exp(X * X), 0, 1)
    assert (m.mean.value, m.mean.error) == (math.inf, 0)
    m = moments(exp(X * X / 4), 0, 1)
    close(m.mean, math.sqrt(2))
    assert (m.mean_square.value, m.mean_square.error) == (math.inf, 0)
    m = moments(exp(X * X / 5), 0, 1)
    close(m.mean_square, math.sqrt(5))


def test_beyond_float64_is_not_called_divergent():
    m = moments(exp(X), 0, 100)
    assert (m.mean_square.value, m.mean_square.error) == (math.inf, math.inf)


def test_singular_slope():
    m = moments(sqrt(abs(X)), 0, 1)
    close(m.mean_square, math.sqrt(2 / math.pi))
    assert m.slope_square.value == math.inf


@pytest.mark.parametrize(("centre", "rate"), [(37.0, 1e4), (-3.0, 1e8), (0.0, 1.0), (1.1, 100.0)])
def test_narrow_bumps_under_a_wide_gaussian(centre, rate):
    m = moments(exp(-rate * (X - centre) ** 2), 0, 100)
    spread = 1 + 2 * rate * 1e4
    close(m.mean, math.exp(-rate * centre**2 / spread) / math.sqrt(spread))


def test_jumps_are_noted_and_their_slope_is_that_almost_everywhere():
    m = moments(where(X > 0.5, 1, 0), 0, 1)
    close(m.mean_square, 0.5 * math.erfc(0.5 / math.sqrt(2)))
    assert m.slope_square.value == 0
    assert m.jumps == (0.5,)
    m = moments(sign(X - 0.3) * X, 0, 1)
    assert len(m.jumps) == 1
    assert m.jumps[0] == pytest.approx(0.3, abs=1e-15)
    close(m.mean_square, 1)


def test_endless_kinks():
    m = moments(abs(sin(X)), 0, 100)
    assert m.kinks[15] == 0
    assert m.jumps == ()
    assert m.mean_square.value == pytest.approx(0.5, abs=1e-9)
    assert m.mean.value == pytest.approx(2 / math.pi, abs=1e-8)


@pytest.mark.parametrize("name", ["gelu", "tanh", "silu", "mish", "softplus", "leaky_relu"])
@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 1.0), (-2.0, 0.3), (1.0, 5.0)])
def test_agrees_with_scipy(name, mu, sigma):
    layer = vp.get(name)

    def integrand(z):
        f = layer.derivatives(torch.tensor(mu + sigma * z, dtype=torch.float64), 1).numpy()
        return np.array([f[0], f[0] ** 2, f[1] ** 2, f[0] * f[1]]) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    exact, _ = scipy_integrate.quad_vec(integrand, -12, 12, points=[-mu / sigma], epsabs=1e-13, epsrel=1e-13)
    m = moments(name, mu, sigma)
    for estimate, want in zip((m.mean, m.mean_square, m.slope_square, m.value_slope), exact, strict=True):
        assert estimate.value == pytest.approx(want, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["gelu", "tanh", "relu", "softplus"])
@settings(max_examples=15)
@given(st.floats(0.1, 5))
def test_stretch_is_the_change_of_length(name, sigma):
    """E z f f' is half the derivative of E f² by sigma."""
    h = 1e-4 * sigma
    m, above, below = (moments(name, 0, s) for s in (sigma, sigma + h, sigma - h))
    change = (above.mean_square.value - below.mean_square.value) / (2 * h)
    assert 2 * m.stretch.value == pytest.approx(change, rel=1e-6)


def test_gains():
    close(gain("relu"), math.sqrt(2))
    close(backward_gain("relu"), math.sqrt(2))
    with mpmath.workdps(25):
        square = mpmath.quad(lambda z: mpmath.tanh(z) ** 2 * mpmath.npdf(z), [-12, 0, 12])
    close(gain("tanh"), float(1 / mpmath.sqrt(square)))
    assert abs(gain("tanh").value - 5 / 3) > 0.05


def test_bad_requests_are_named():
    with pytest.raises(ValueError, match="sigma must be a finite number > 0, got -1"):
        moments("relu", 0, -1)
    with pytest.raises(ValueError, match="mu must be a finite number, got nan"):
        moments("relu", math.nan, 1)
    with pytest.raises(ValueError, match="no value of the formula"):
        moments(log(X), 0, 1)


def test_breakpoints_are_found_to_the_last_digit():
    found = breakpoints(maximum(X**3 - 2, 0.1 * X), sharp=True)
    with mpmath.workdps(30):
        root = float(mpmath.findroot(lambda x: x**3 - 2 - mpmath.mpf(0.1) * x, 1.3))
    assert found == pytest.approx([root], rel=1e-15)


def test_integrate_reports_what_it_cannot_settle():
    value, error = integrate(lambda z: 1 / np.abs(z)[None], np.array([0.0, 1.0]))
    assert value[0] == error[0] == math.inf
    value, error = integrate(lambda z: np.cos(z)[None], np.array([0.0, 1.0]))
    assert abs(value[0] - math.sin(1)) <= error[0] < 1e-14


# Mean field


def test_edge_of_chaos_of_relu():
    point = mean_field("relu").critical(0.0)
    assert point.sigma_w == pytest.approx(math.sqrt(2), rel=1e-12)
    assert point.sigma_b == 0
    with pytest.raises(NoCriticalPoint, match=r"sigma_b = 0.1"):
        mean_field("relu").critical(0.1)


def test_edge_of_chaos_of_tanh():
    assert mean_field("tanh").critical(0.0).sigma_w == pytest.approx(1, abs=1e-9)
    # Schoenholz et al. 2017 work at sigma_b² = 0.05, where the edge is at sigma_w² = 1.76.
    point = mean_field("tanh").critical(math.sqrt(0.05))
    assert point.sigma_w**2 == pytest.approx(1.76, abs=0.005)
    assert point.stable

    def over_gaussian(f):
        return mpmath.quad(lambda z: f(mpmath.sqrt(point.q) * z) * mpmath.npdf(z), [-12, -3, 0, 3, 12])

    with mpmath.workdps(20):
        assert point.sigma_w**2 * over_gaussian(lambda u: mpmath.sech(u) ** 4) == pytest.approx(1, rel=1e-10)
        length = point.sigma_w**2 * over_gaussian(lambda u: mpmath.tanh(u) ** 2) + point.sigma_b**2
        assert length == pytest.approx(point.q, rel=1e-10)


def test_an_unstable_edge_is_said_to_be():
    point = mean_field("gelu").critical(0.2)
    assert not point.stable
    theory = mean_field("gelu")
    step = 1e-4 * point.q
    rise = theory.variance(point.q + step, point.sigma_w, 0.2) - theory.variance(point.q - step, point.sigma_w, 0.2)
    assert rise / (2 * step) == pytest.approx(point.length_slope, rel=1e-6)


def test_no_edge():
    with pytest.raises(NoCriticalPoint, match="jumps at 0"):
        mean_field(where(X > 0, 1, 0)).critical(0.1)
    with pytest.raises(NoCriticalPoint, match="< 0"):
        mean_field("softplus").critical_at(1.0)
    assert mean_field(where(X > 0, 1, 0)).chi(1.0, 0.1) == math.inf


@pytest.mark.parametrize(("sigma_w", "sigma_b"), [(0.8, 0.3), (1.5, 0.1), (3.0, 0.0)])
def test_fixed_point_is_where_the_iteration_ends(sigma_w, sigma_b):
    theory = mean_field("tanh")
    q = 1.0
    for _ in range(60):
        q = theory.variance(q, sigma_w, sigma_b)
    assert theory.fixed_point(sigma_w, sigma_b) == pytest.approx(q, rel=1e-6)


def test_lengths_that_die_or_explode():
    assert mean_field("relu").fixed_point(1.0, 0.0) == 0
    assert mean_field("relu").fixed_point(1.5, 0.5) == math.inf
    assert mean_field("relu").fixed_point(1.0, 0.5) == pytest.approx(0.5, rel=1e-12)
    with pytest.raises(ValueError, match="length goes to inf"):
        mean_field("relu").correlation(0.5, 1.5, 0.5)


@settings(max_examples=40)
@given(st.floats(-1, 1))
def test_correlation_map_of_relu_is_the_arc_cosine_kernel(c):
    """Cho & Saul, NIPS 2009."""
    found = mean_field("relu").correlation(c, math.sqrt(2), 0.0)
    exact = (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / math.pi
    assert abs(found.value - exact) <= found.error + 1e-15


def test_depth_scales():
    theory = mean_field("tanh")
    length, correlation = theory.depth_scales(1.0, 0.3)
    assert correlation == pytest.approx(-1 / math.log(theory.chi(1.0, 0.3)), rel=1e-12)
    assert 0 < length < correlation
    point = theory.critical(0.3)
    assert theory.depth_scales(point.sigma_w, 0.3)[1] > 1e6
    # In the chaotic phase: measured on the map itself.
    c, gaps = 0.5, []
    for _ in range(14):
        c = theory.correlation(c, 2.0, 0.3).value
        gaps.append(c)
    ratio = (gaps[13] - gaps[12]) / (gaps[12] - gaps[11])
    assert theory.depth_scales(2.0, 0.3)[1] == pytest.approx(-1 / math.log(ratio), rel=0.05)


@settings(max_examples=20)
@given(st.floats(0.05, 20))
def test_critical_at_gives_a_fixed_point_with_slope_one(q):
    theory = mean_field(tanh(X))
    point = theory.critical_at(q)
    assert theory.variance(q, point.sigma_w, point.sigma_b) == pytest.approx(q, rel=1e-9)
    assert point.sigma_w**2 * theory.at(q).slope_square.value == pytest.approx(1, rel=1e-12)
