"""Norms from above, slopes over intervals, Lipschitz constants: against many digits, enumeration and ball
arithmetic."""

import copy
import itertools
import math

import mpmath
import pytest
import torch
import torch.nn.functional as F
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import varphi as vp
from varphi.bounds import UncertifiedOperation
from varphi.numbers.ball import precision
from varphi.numbers.enclosure import Curve
from varphi.systems.certified import Ball, UnboundedSlope, lipschitz
from varphi.systems.certified.recursion import Layer, Slopes, descended, ellipsoid, slack_of, started, through
from varphi.systems.certified.slopes import slope_range, slope_table
from varphi.systems.certified.spectral import convolution_norm, largest_eigenvalue, matrix_norm, positive

DOUBLE = torch.float64


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def largest_singular_value(w: torch.Tensor) -> mpmath.mpf:
    with mpmath.workdps(60):
        return max(mpmath.svd_r(mpmath.matrix(w.tolist()), compute_uv=False))


# Norms ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, 10**6),
    st.sampled_from([1e-140, 1e-8, 1.0, 1e9, 1e140]),
    st.booleans(),
)
def test_a_matrix_norm_is_never_below_the_exact_one(m, n, seed, scale, deficient):
    w = drawn(m, n, seed=seed) * scale
    if deficient:
        w = w[:, :1] @ torch.ones(1, n, dtype=DOUBLE)
    with mpmath.workdps(60):
        exact = largest_singular_value(w)
        found = mpmath.mpf(float(matrix_norm(w)))
        assert exact <= found <= exact * (1 + 1e-9)
        rows = max(mpmath.fsum(abs(mpmath.mpf(v)) for v in row) for row in w.tolist())
        assert rows <= mpmath.mpf(float(matrix_norm(w, math.inf))) <= rows * (1 + 1e-12)
        columns = max(mpmath.fsum(abs(mpmath.mpf(v)) for v in row) for row in w.T.tolist())
        assert columns <= mpmath.mpf(float(matrix_norm(w, 1))) <= columns * (1 + 1e-12)


def test_a_norm_with_an_error_covers_every_matrix_within_it():
    w, error = drawn(4, 6), torch.full((4, 6), 1e-3, dtype=DOUBLE)
    for norm in (1, 2, math.inf):
        bound = float(matrix_norm(w, norm, error))
        for seed in range(50):
            moved = w + error * drawn(4, 6, seed=seed).sign()
            assert float(torch.linalg.matrix_norm(moved, ord=norm)) <= bound


def test_definiteness_is_not_claimed_for_what_is_a_little_indefinite():
    q = torch.linalg.qr(drawn(20, 20)).Q
    for least, expected in ((1e-9, True), (-1e-12, False), (-1e-15, False)):
        values = torch.linspace(0.5, 2, 20, dtype=DOUBLE)
        values[0] = least
        a = q @ torch.diag(values) @ q.T
        assert bool(positive((a + a.T) / 2, a.abs())) is expected
    assert not bool(positive(torch.zeros(3, 3, dtype=DOUBLE), torch.ones(3, 3, dtype=DOUBLE)))


def test_the_largest_eigenvalue_covers_its_slack():
    a = drawn(8, 8)
    a = (a + a.T) / 2
    top = float(torch.linalg.eigvalsh(a)[-1])
    assert top <= float(largest_eigenvalue(a)) <= top * (1 + 1e-10)
    assert top + 0.5 <= float(largest_eigenvalue(a, 0.5)) <= (top + 0.5) * (1 + 1e-10)


@pytest.mark.parametrize(
    ("out", "inner", "kernel", "stride", "padding", "dilation", "groups"),
    [(3, 2, 3, 1, 1, 1, 1), (4, 4, 3, 2, 1, 1, 2), (2, 3, 5, 1, 4, 1, 1), (3, 2, 3, 1, 2, 2, 1), (2, 1, 1, 1, 0, 1, 1)],
)
def test_a_convolution_on_the_torus_bounds_the_one_with_zeros(out, inner, kernel, stride, padding, dilation, groups):
    k = drawn(out, inner // groups, kernel, kernel)
    unit = torch.eye(inner * 36, dtype=DOUBLE).view(-1, inner, 6, 6)
    matrix = F.conv2d(unit, k, None, stride, padding, dilation, groups).flatten(1)
    bound = convolution_norm(k, (6, 6), (dilation, dilation), groups)
    assert float(torch.linalg.matrix_norm(matrix, 2)) <= bound
    if kernel == 1:
        assert bound == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-9)


def test_a_large_convolution_is_bounded_on_the_torus_and_not_by_its_reshaped_kernel(monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()).eval()
    exact = lipschitz(model, sample=torch.rand(1, 3, 4, 4))
    monkeypatch.setattr("varphi.systems.certified.network._MOST_SIDE", 16)  # as if it were too large to multiply out
    found = lipschitz(model, sample=torch.rand(1, 3, 4, 4))
    kernel = model[0].weight.detach().double()
    assert float(torch.linalg.matrix_norm(kernel.flatten(1), 2)) < exact.upper <= found.upper
    assert found.lower <= exact.upper
    assert found.upper == pytest.approx(convolution_norm(kernel, (4, 4), (1, 1), 1), rel=1e-9)


# Slopes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "gelu", "elu", "sin", "hard_swish"])
def test_slopes_of_an_interval_hold_every_slope_in_it(name):
    f = vp.get(name)
    table = slope_table(f.definition.expression(f.numbers()))
    centre = 4 * drawn(400)
    half = torch.exp(3 * drawn(400, seed=1) - 3)
    lower, upper = centre - half, centre + half
    least, greatest = table.over(lower, upper)
    inside = lower.unsqueeze(1) + (upper - lower).unsqueeze(1) * torch.linspace(0.01, 0.99, 99, dtype=DOUBLE)
    slopes = f.derivatives(inside, 1)[1]
    assert (least.unsqueeze(1) <= slopes + 1e-13).all() and (slopes <= greatest.unsqueeze(1) + 1e-13).all()
    near = (centre.abs() + half) < 15  # within the fine cells
    gap = torch.maximum(slopes.amin(1) - least, greatest - slopes.amax(1))[near]
    assert gap.median() < 0.02
    if name == "relu":
        assert gap.max() == 0


def test_slopes_agree_with_ball_arithmetic_at_points():
    f = vp.get("gelu")
    expression = f.definition.expression(f.numbers())
    table = slope_table(expression)
    points = 3 * drawn(60)
    least, greatest = table.over(points, points)
    with precision(128):
        curve = Curve(expression, arb("-inf"), arb("inf"))
        for x, low, high in zip(points.tolist(), least.tolist(), greatest.tolist(), strict=True):
            ball = curve.at(arb(x))[1]
            assert low <= ball.upper and ball.lower <= high and high - low < 1e-3


def test_a_jump_has_no_slope_and_a_parabola_none_everywhere():
    assert slope_range(vp.get("sigmoid"))[1] == pytest.approx(0.25)
    with pytest.raises(UnboundedSlope, match="jumps"):
        slope_range(vp.get("sign"))
    f = vp.as_activation("x**2")
    with pytest.raises(UnboundedSlope, match="give a region"):
        slope_range(f)
    table = slope_table(f.definition.expression(f.numbers()))
    least, greatest = table.over(torch.tensor([-1.0, 2.0]), torch.tensor([3.0, 2.5]))
    assert least.tolist() == pytest.approx([-2, 4], abs=1e-9) and greatest.tolist() == pytest.approx([6, 5], abs=1e-9)
    sign = vp.get("sign")
    jump = slope_table(sign.definition.expression(sign.numbers()))
    assert jump.over(torch.tensor([-1.0]), torch.tensor([1.0]))[1].item() == math.inf


# The recursion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("least", "greatest"), [(0.0, 1.0), (-0.2, 1.1), (-1.0, 1.0), (0.5, 0.5)])
def test_the_recursion_bounds_every_choice_of_slopes_and_is_below_the_product(least, greatest):
    weights = [drawn(3, 4, seed=1), drawn(3, 3, seed=2), drawn(2, 3, seed=3)]
    one = torch.ones(1, 3, dtype=DOUBLE)
    layers = [Layer(w, 0.0, Slopes(least * one, greatest * one)) for w in weights[:2]]
    last = weights[2]

    def objective(y):
        return torch.linalg.eigvalsh(through(last, y))[..., -1]

    # Slopes at their ends are the worst: the norm is convex in each.
    worst = 0.0
    for slopes in itertools.product((least, greatest), repeat=6):
        d = torch.tensor(slopes, dtype=DOUBLE)
        jacobian = weights[2] @ torch.diag(d[3:]) @ weights[1] @ torch.diag(d[:3]) @ weights[0]
        worst = max(worst, float(torch.linalg.matrix_norm(jacobian, 2)))
    product = math.prod(float(torch.linalg.matrix_norm(w, 2)) for w in weights) * max(abs(least), abs(greatest)) ** 2
    bounds = []
    for steps in (0, 60):
        y = ellipsoid(layers, 4, descended(layers, 4, started(layers), objective, steps))
        bounds.append(float(largest_eigenvalue(through(last, y), slack_of(last, 0.0, y)).sqrt()))
    assert worst <= bounds[1] <= bounds[0] * (1 + 1e-9) and bounds[0] <= product * (1 + 2e-3)
    assert bounds[1] <= 1.15 * worst
    if least == greatest:
        assert bounds[1] == pytest.approx(worst, rel=1e-4)


def test_neurons_with_slopes_of_their_own_in_a_batch():
    weights = [drawn(3, 4, seed=1), drawn(2, 3, seed=3)]
    least = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], dtype=DOUBLE)
    greatest = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]], dtype=DOUBLE)
    layers = [Layer(weights[0], 0.0, Slopes(least, greatest))]

    def objective(y):
        return torch.linalg.eigvalsh(through(weights[1], y))[..., -1]

    y = ellipsoid(layers, 4, descended(layers, 4, started(layers), objective, 60))
    found = largest_eigenvalue(through(weights[1], y), slack_of(weights[1], 0.0, y)).sqrt()
    for i in range(2):
        worst = 0.0
        for ends in itertools.product((0, 1), repeat=3):
            d = torch.where(torch.tensor(ends) > 0, greatest[i], least[i])
            worst = max(worst, float(torch.linalg.matrix_norm(weights[1] @ torch.diag(d) @ weights[0], 2)))
        assert worst <= float(found[i]) <= 1.1 * worst


# Whole models --------------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(9, 3)

    def forward(self, x):
        x = x + torch.tanh(self.first(x))
        return self.head(torch.cat([x, F.gelu(self.second(x))[:, :3]], 1))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.first(x) * torch.sigmoid(self.second(x))


def seeded(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.data = torch.randn(p.shape, generator=generator) * 0.6
    return model.eval()


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_a_linear_model_is_exact(norm):
    model = seeded(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3), nn.Dropout(0.5)))
    exact = torch.linalg.matrix_norm((model[1].weight @ model[0].weight).double().detach(), ord=norm)
    found = lipschitz(model, norm)
    assert found.lower == pytest.approx(float(exact), rel=1e-6) and found.upper == pytest.approx(float(exact), rel=1e-6)


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("build", [Residual, Gated])
def test_graphs_are_bounded_on_a_region_where_an_input_attains_less(build, norm):
    model, x = seeded(build()), torch.zeros(1, 6 if build is Residual else 4)
    found = lipschitz(model, norm, Ball(x, 0.3, 2))
    assert 0 < found.lower <= found.upper
    exact = copy.deepcopy(model).double()
    jacobian = torch.autograd.functional.jacobian(lambda z: exact(z.unsqueeze(0))[0], found.at[0])
    assert float(torch.linalg.matrix_norm(jacobian.detach(), ord=norm)) == pytest.approx(found.lower, rel=1e-6)
    wider = lipschitz(model, norm, Ball(x, 3.0, 2))
    assert found.upper <= wider.upper
    if build is Gated:
        with pytest.raises(UncertifiedOperation, match="product of two tensors"):
            lipschitz(model, norm)


class Spread(nn.Module):
    """One number for all places of a row, added or multiplied."""

    def __init__(self, times: bool) -> None:
        super().__init__()
        self.inner, self.times = nn.Linear(9, 1, bias=False), times

    def forward(self, x):
        one = torch.tanh(self.inner(x))
        h = torch.sin(x)
        return one * h if self.times else one + h


@pytest.mark.parametrize("times", [False, True])
@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_what_is_broadcast_counts_as_often_as_it_is_repeated(times, norm):
    model = Spread(times).eval()
    model.inner.weight.data.fill_(4.0)
    x = torch.full((1, 9), 0.02 if times else 0.0)
    found = lipschitz(model, norm, Ball(x, 0.5, 2))
    exact = torch.autograd.functional.jacobian(lambda z: copy.deepcopy(model)(z.unsqueeze(0))[0], found.at[0].float())
    assert float(torch.linalg.matrix_norm(exact, ord=norm)) <= found.upper
    if not times:  # the repeated number carries nearly all of it
        assert found.upper <= 1.2 * found.lower


def test_a_small_region_is_as_tight_as_the_jacobian_there():
    model = seeded(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 3)))
    x = torch.full((1, 6), 0.2)
    found = lipschitz(model, 2, (x - 1e-4, x + 1e-4))
    assert found.method == "layered" and found.upper <= 1.02 * found.lower
    assert found.upper < lipschitz(model).upper


def test_convolutions_normalisation_and_pooling():
    model = nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ELU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 3)),
    )
    model[1].running_mean.fill_(0.3)
    model[1].running_var.fill_(2.0)
    found = lipschitz(seeded(model), sample=torch.rand(3, 1, 8, 8))
    assert found.lower <= found.upper == found.bounds["layered"] <= found.bounds["product"] < 20 * found.lower


def test_what_has_no_constant_is_refused_in_words():
    with pytest.raises(UnboundedSlope, match="give a region"):
        lipschitz(nn.Sequential(nn.Linear(2, 2), vp.as_activation("x**2")).eval())
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        lipschitz(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)))
    with pytest.raises(ValueError, match=r"1, 2 or inf"):
        lipschitz(nn.Linear(2, 2).eval(), 3)
    with pytest.raises(ValueError, match="give sample="):
        lipschitz(nn.Sequential(nn.Conv2d(1, 1, 3)).eval())
    with pytest.raises(ValueError, match=">= 0"):
        lipschitz(nn.Linear(2, 2).eval(), region=Ball(torch.zeros(2), -1.0))
    with pytest.raises(TypeError, match="Ball"):
        lipschitz(nn.Linear(2, 2).eval(), region=3)
    with pytest.raises(ValueError, match="float16"):
        lipschitz(nn.Linear(2, 2).half().eval())
    found = lipschitz(nn.Linear(2, 2).eval())
    assert "L2, all inputs" in repr(found) and found.to_dict()["method"] == "product"
