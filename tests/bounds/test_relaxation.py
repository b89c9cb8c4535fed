"""Lines around one function: best slopes, derivatives by the slope, degenerate intervals, kinks, jumps, refusals."""

import math
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import varphi as vp
from varphi.bounds import curvature

from .oracle import points, violations

NAMES = ("tanh", "gelu", "silu", "softplus", "relu", "elu", "sin", "softsign", "heaviside", "hard_shrink", "gaussian")


def float64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def values(lines, x):
    return lines.lower_slope * x + lines.lower_intercept, lines.upper_slope * x + lines.upper_intercept


@given(
    st.sampled_from(NAMES),
    st.floats(-50, 50),
    st.floats(0, 20),
    st.floats(-1e3, 1e3),
)
def test_any_slope_gives_lines_that_enclose(name, lower, width, slope):
    f = vp.get(name)
    start, stop = float64(lower), float64(lower + width)
    lines = vp.relax(f, start, stop, float64(slope))
    x = points(f, start, stop, lines, torch.Generator().manual_seed(0))
    assert violations(f.definition.expression(), x, lines) == []


@given(st.sampled_from(NAMES), st.floats(-10, 10), st.floats(1e-3, 5), st.floats(-2, 2))
def test_no_slope_is_better_at_the_midpoint_than_the_best(name, lower, width, slope):
    start, stop = float64(lower), float64(lower + width)
    middle = (start + stop) / 2
    best, other = vp.relax(name, start, stop), vp.relax(name, start, stop, float64(slope))
    tolerance = 1e-3 * (values(best, middle)[1] - values(best, middle)[0]) + 1e-9
    assert values(best, middle)[0] >= values(other, middle)[0] - tolerance
    assert values(best, middle)[1] <= values(other, middle)[1] + tolerance


@pytest.mark.parametrize("name", ["tanh", "gelu", "silu", "softplus", "mish", "softsign", "sin", "snake", "elu"])
def test_the_gap_is_that_of_the_convex_hull(name):
    generator = torch.Generator().manual_seed(1)
    centre = torch.rand(60, generator=generator, dtype=torch.float64) * 8 - 4
    half = torch.exp(torch.rand(60, generator=generator, dtype=torch.float64) * 5.7 - 4.6)
    start, stop = centre - half, centre + half
    lines = vp.relax(name, start, stop)
    gap = values(lines, centre)[1] - values(lines, centre)[0]
    x = start + (stop - start) * torch.linspace(0, 1, 801, dtype=torch.float64).unsqueeze(1)
    y = vp.get(name)(x)
    # The hull at the midpoint: the best of all chords from the left half to the right half.
    left, right, at_left, at_right = x[:401], x[400:], y[:401], y[400:]
    run = right.unsqueeze(0) - left.unsqueeze(1)
    weight = torch.where(run > 0, (right.unsqueeze(0) - centre) / run, torch.ones_like(run))
    chords = weight * at_left.unsqueeze(1) + (1 - weight) * at_right.unsqueeze(0)
    best = chords.amax((0, 1)) - chords.amin((0, 1))
    ratio = torch.where(best > 1e-11, gap / best, 1.0)
    assert ratio.median() <= 1.001
    assert ratio.quantile(0.95) <= 1.01


@pytest.mark.parametrize("name", ["tanh", "gelu", "relu", "sin", "softplus"])
@pytest.mark.parametrize("slope", [-0.3, 0.2, 0.45, 0.9])
def test_intercepts_are_differentiated_by_the_slope_and_by_the_ends(name, slope):
    inputs = [float64(v).requires_grad_() for v in (-1.3, 0.7, slope)]
    step = 1e-6
    for row in (1, 3):
        gradients = torch.autograd.grad(vp.relax(name, *inputs)[row], inputs)
        for i, gradient in enumerate(gradients):
            shifted = [[t.detach() + (step * sign if i == j else 0) for j, t in enumerate(inputs)] for sign in (1, -1)]
            above, below = (vp.relax(name, *s)[row] for s in shifted)
            torch.testing.assert_close(gradient, (above - below) / (2 * step), rtol=1e-4, atol=1e-6)


def test_textbook_lines_of_relu():
    lines = vp.relax("relu", float64(-1.0, -2.0, 1.0, -3.0), float64(2.0, 1.0, 4.0, -1.0))
    torch.testing.assert_close(lines.upper_slope, float64(2 / 3, 1 / 3, 1.0, 0.0))
    torch.testing.assert_close(lines.upper_intercept, float64(2 / 3, 2 / 3, 0.0, 0.0))
    torch.testing.assert_close(lines.lower_slope, float64(1.0, 0.0, 1.0, 0.0))
    torch.testing.assert_close(lines.lower_intercept, float64(0.0, 0.0, 0.0, 0.0))


@pytest.mark.parametrize("name", vp.names())
def test_a_point_is_enclosed_tightly(name):
    x = float64(-3.7, -1.1, 0.3, 0.61, 2.9)
    f = vp.get(name)
    lines = vp.relax(f, x, x)
    low, high = values(lines, x)
    assert ((low <= f(x) + 1e-12 * f(x).abs()) & (f(x) <= high + 1e-12 * f(x).abs())).all()
    assert (high - low <= 1e-10 * (1 + f(x).abs())).all()


def test_a_jump_is_enclosed_from_both_sides():
    lines = vp.relax("heaviside", float64(-1.0, 0.0), float64(1.0, 0.0))
    low, high = values(lines, float64(0.0, 0.0))
    assert (low <= 0).all() and (high >= 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_formats(dtype):
    start, stop = torch.zeros(3, 1, dtype=dtype), torch.ones(4, dtype=dtype)
    lines = vp.relax("silu", start, stop)
    assert all(t.shape == (3, 4) and t.dtype == dtype for t in lines)
    assert all(t.shape == (0,) for t in vp.relax("silu", torch.zeros(0, dtype=dtype), torch.zeros(0, dtype=dtype)))
    pair = vp.relax("silu", start, stop, (torch.full((3, 4), 0.1, dtype=dtype), torch.full((3, 4), 0.8, dtype=dtype)))
    assert (pair.lower_slope == 0.1).all() or dtype is torch.float32
    assert (pair.lower_slope < pair.upper_slope).all()


@pytest.mark.parametrize(
    "function",
    ["x*tanh(exp(x))", lambda x: x * torch.sigmoid(1.7 * x), nn.Hardswish(), nn.GELU("tanh"), nn.Softplus(3.0)],
)
def test_functions_of_the_user(function):
    f = vp.as_activation(function)
    start, stop = float64(-4.0, -0.5, 0.1, -20.0), float64(-1.0, 0.7, 3.0, 20.0)
    lines = vp.relax(function, start, stop)
    x = points(f, start, stop, lines, torch.Generator().manual_seed(0))
    assert violations(f.definition.expression(), x, lines) == []
    low, high = values(lines, (start + stop) / 2)
    assert (high - low <= (stop - start) * 1.2).all()


def test_parameters_of_a_name():
    start, stop = float64(-1.0), float64(1.0)
    torch.testing.assert_close(
        vp.relax("softplus", start, stop, beta=4.0), vp.relax(vp.get("softplus", beta=4.0), start, stop)
    )


@pytest.mark.parametrize("name", ["sin", "siren", "snake", "gcu"])
def test_oscillations_far_out(name):
    f = vp.get(name)
    start, stop = float64(90.0, -210.3), float64(90.4, -209.9)
    lines = vp.relax(f, start, stop)
    x = points(f, start, stop, lines, torch.Generator().manual_seed(0))
    assert violations(f.definition.expression(), x, lines) == []


def test_bad_input_is_refused_in_words():
    start, stop = float64(0.0, 1.0), float64(1.0, 0.5)
    with pytest.raises(ValueError, match=r"element 1 is \[1, 0.5\]"):
        vp.relax("tanh", start, stop)
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="finite ends"):
            vp.relax("tanh", float64(bad), float64(1.0))
        with pytest.raises(ValueError, match="slope must be finite"):
            vp.relax("tanh", float64(0.0), float64(1.0), float64(bad))
    with pytest.raises(TypeError, match=r"float32 or float64; lower is torch\.float16"):
        vp.relax("tanh", start.half(), stop.half())
    with pytest.raises(TypeError, match="lower is float"):
        vp.relax("tanh", 0.0, 1.0)
    with pytest.raises(TypeError, match="must agree"):
        vp.relax("tanh", start.float(), stop)
    with pytest.raises(TypeError, match="slope must be a tensor"):
        vp.relax("tanh", float64(0.0), float64(1.0), 0.5)
    with pytest.raises(ValueError, match="defined on"):
        vp.relax("sqrt(x)", float64(-1.0), float64(1.0))
    with pytest.raises(ValueError, match="unbounded or undefined"):
        vp.relax("1/x", float64(-1.0), float64(1.0))


def test_pieces_of_gelu_and_relu():
    gelu = curvature(vp.get("gelu").definition.expression())
    assert [p.kind for p in gelu.pieces] == ["concave", "convex", "concave"]
    for found, exact in zip(gelu.breaks, (-math.sqrt(2), math.sqrt(2)), strict=True):
        assert found.lower <= exact <= found.upper and found.upper - found.lower < 1e-14
    relu = curvature(vp.get("relu").definition.expression())
    assert [p.kind for p in relu.pieces] == ["linear", "linear"]
    assert (relu.breaks[0].lower, relu.breaks[0].upper, relu.breaks[0].bottom, relu.breaks[0].top) == (0, 0, 0, 0)
    assert relu.covers(-1e300, 1e300)


def test_pieces_of_sin_are_found_where_they_are_asked_for():
    found = curvature(vp.get("sin").definition.expression(), -10.0, 400.0)
    assert found.covers(-10.0, 400.0)
    places = [b for b in found.breaks if 0 < b.lower < 400]
    assert len(places) == 127  # kπ < 400
    for k, place in enumerate(places, 1):
        assert abs(place.lower - k * math.pi) < 1e-12 and place.lower <= place.upper


def test_pieces_are_kept_on_disk(tmp_path, monkeypatch):
    from varphi.bounds.curvature import _kept

    monkeypatch.setenv("VARPHI_CACHE_DIR", str(tmp_path))
    _kept.cache_clear()
    expression = vp.get("mish").definition.expression()
    first = curvature(expression)
    assert list((tmp_path / "curvature").iterdir())
    _kept.cache_clear()
    monkeypatch.setattr(sys.modules["varphi.bounds.curvature"], "Analysis", None)
    assert curvature(expression) == first
    _kept.cache_clear()


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "arctan", "softsign"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lines_of_a_bounded_function_stay_near_it_on_wide_intervals(name, dtype):
    generator = torch.Generator().manual_seed(0)
    size = 10 ** torch.linspace(0, 6, 61).repeat_interleave(20)
    lower, upper = (-size * torch.rand(len(size), generator=generator)).to(dtype), size.to(dtype)
    for start, stop in ((lower, upper), (-upper, -lower)):
        lines = vp.relax(name, start, stop)
        height = 2 * math.pi  # twice the range of the widest, arctan
        for x in (start, stop):
            below, above = values(lines, x)
            assert (below > -height).all() and (above < height).all()
