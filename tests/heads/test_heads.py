"""Heads stay in their range, undo themselves, and bring dead outputs back."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import (
    Independent,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
    constraints,
    transform_to,
)

from varphi.heads import head
from varphi.heads.links import LINKS

SCALAR = {
    "softplus": ("positive", {}),
    "softplus beta=5": ("positive", {"beta": 5.0}),
    "squareplus": ("positive", {"activation": "squareplus"}),
    "exp": ("positive", {"activation": "exp"}),
    "lower_bounded": ("lower_bounded", {"lower": -2.0}),
    "lower_bounded exp": ("lower_bounded", {"lower": 0.7, "activation": "exp"}),
    "sigmoid": ("interval", {"lower": 0.1, "upper": 0.3}),
    "tanh": ("interval", {"lower": -1.0, "upper": 3.0, "activation": "tanh"}),
    "real": ("real", {}),
}
VECTOR = {
    "softmax": ("simplex", {}, 4),
    "stick_breaking": ("simplex", {"via": "stick_breaking"}, 4),
    "ordered": ("ordered", {}, 4),
    "unit_norm": ("unit_norm", {}, 4),
    "positive_definite": ("positive_definite", {}, 6),
}


def made(table, name):
    kind, options, *_ = table[name]
    return head(kind, **options)


# Every sign and binary exponent of float32, from the smallest subnormal to the largest number.
def every_exponent(dtype=torch.float32):
    bits = torch.arange(0, 0x7F800000, 99_991, dtype=torch.int32)
    x = bits.view(torch.float32).to(dtype)
    return torch.cat([x, -x])


@pytest.mark.parametrize("name", [n for n in SCALAR if n != "real"])
def test_values_lie_inside_the_open_range_for_every_float(name):
    h = made(SCALAR, name)
    y = h(every_exponent())
    lower, upper = h.bounds
    assert bool((y.double() > lower).all())
    # exp is honest about its overflow; nothing else may reach an end.
    assert bool((y.double() < upper).all()) or name in ("exp", "lower_bounded exp")
    assert not bool(y.isnan().any())


def test_exact_zero_from_relu_and_never_from_a_positive_head():
    z = torch.tensor([-1e30, -200.0, -1.0, 0.0, 2.0])
    assert head("nonnegative")(z).tolist() == [0, 0, 0, 0, 2]
    for name in ("softplus", "softplus beta=5", "squareplus", "exp"):
        y = made(SCALAR, name)(z)
        assert bool((y > 0).all()) and bool(torch.log(y).isfinite().all())


def test_nonnegative_is_not_torchs_exp():
    z = torch.tensor([-1.0, 89.0])
    assert transform_to(constraints.nonnegative)(z).tolist()[1] == math.inf
    assert head("nonnegative")(z).tolist() == [0.0, 89.0]


def test_the_gradient_passes_where_rounding_was_corrected():
    z = torch.tensor([-95.0], requires_grad=True)
    (slope,) = torch.autograd.grad(head("positive")(z).sum(), z)
    assert float(slope) == pytest.approx(math.exp(-95.0), rel=1e-3)


@pytest.mark.parametrize("name", SCALAR)
@given(st.floats(-30, 30))
def test_inverse_undoes_the_head(name, z):
    h = made(SCALAR, name)
    x = torch.tensor(z, dtype=torch.float64)
    y = h(x)
    again = h(h.inverse(y))
    # In y, not in z: where the head is flat, z has fewer digits than y.
    assert float(again) == pytest.approx(float(y), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["softplus", "softplus beta=5", "squareplus", "exp"])
def test_inverse_over_the_whole_positive_float_range(name):
    h = made(SCALAR, name)
    y = torch.logspace(-37, 37, 500, base=10.0)
    z = h.inverse(y)
    usable = z.isfinite()
    assert bool(usable[y > 1e-30].all())
    # An error of half an ulp in z moves y by |z| f'(z)/f(z) ulps.
    with torch.no_grad():
        wide = z[usable].double()
        exact = h(wide)
        conditioning = (wide * h.slopes(wide) / exact).abs() + 2
    error = (h(z[usable]).double() / y[usable].double() - 1).abs() / torch.finfo(torch.float32).eps
    assert bool((error <= 4 * conditioning).all())


@pytest.mark.parametrize("name", [n for n in SCALAR])
@given(st.floats(-25, 25))
def test_log_slope_is_the_logarithm_of_the_autograd_slope(name, z):
    h = made(SCALAR, name)
    x = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    y = h.transform()(x)
    (slope,) = torch.autograd.grad(y, x)
    expected = math.log(float(slope))
    assert h.transform().log_abs_det_jacobian(x, y).item() == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", SCALAR)
def test_log_slope_is_finite_in_the_tails(name):
    h = made(SCALAR, name)
    z = torch.tensor([-1e4, -300.0, 300.0, 1e4])
    assert bool(h.log_abs_det_jacobian(z, z).isfinite().all())


@pytest.mark.parametrize("name", VECTOR)
def test_vector_heads_obey_their_constraint_and_undo_themselves(name):
    h = made(VECTOR, name)
    z = torch.randn(200, VECTOR[name][2], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = h(z)
    assert bool(h.constraint.check(y).all())
    torch.testing.assert_close(h(h.inverse(y)), y)
    if h.bijective:
        torch.testing.assert_close(h.inverse(y), z, rtol=1e-6, atol=1e-6)


def test_each_vector_constraint_by_its_own_definition():
    z = torch.randn(50, 6, dtype=torch.float64)
    assert torch.allclose(head("simplex")(z).sum(-1), torch.ones(50, dtype=torch.float64))
    assert bool((head("ordered")(z).diff(dim=-1) > 0).all())
    assert torch.allclose(head("unit_norm")(z).norm(dim=-1), torch.ones(50, dtype=torch.float64))
    matrices = head("positive_definite")(z)
    assert bool((torch.linalg.eigvalsh(matrices) > 0).all()) and torch.equal(matrices, matrices.mT)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_unit_norm_of_tiny_huge_and_zero_vectors(scale):
    y = head("unit_norm")(scale * torch.tensor([3.0, -4.0]))
    assert float(y.norm()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", ["stick_breaking", "ordered", "positive_definite"])
def test_log_determinant_equals_that_of_the_full_jacobian(name):
    h = made(VECTOR, name)
    z = torch.randn(VECTOR[name][2], dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def free(x):
        y = h(x)
        rows, columns = torch.tril_indices(3, 3)
        return {"stick_breaking": lambda: y[:-1], "ordered": lambda: y, "positive_definite": lambda: y[rows, columns]}[
            name
        ]()

    expected = torch.linalg.slogdet(torch.func.jacrev(free)(z)).logabsdet
    torch.testing.assert_close(h.transform().log_abs_det_jacobian(z, h(z)), expected)


@pytest.mark.parametrize("name", ["softplus", "squareplus", "exp", "sigmoid", "tanh"])
def test_transformed_distribution_integrates_to_one(name):
    h = made(SCALAR, name)
    zero, one = torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    law = TransformedDistribution(Normal(zero, one), h.transform())
    # The ends of the grid are images of ±9 standard deviations.
    grid = h(torch.linspace(-9, 9, 40_001, dtype=torch.float64))
    assert float(torch.trapezoid(law.log_prob(grid).exp(), grid)) == pytest.approx(1.0, abs=1e-4)
    assert bool(law.support.check(law.sample((100,))).all())


def test_transform_has_torchs_shapes_and_events():
    base = Independent(Normal(torch.zeros(6), torch.ones(6)), 1)
    law = TransformedDistribution(base, head("positive_definite").transform())
    assert law.event_shape == (3, 3) and law.log_prob(law.sample((5,))).shape == (5,)
    sticks = head("simplex", via="stick_breaking").transform()
    assert sticks.forward_shape((7, 3)) == (7, 4) and sticks.inverse_shape((7, 4)) == (7, 3)
    lower = head("positive_definite").cholesky(torch.randn(6))
    assert MultivariateNormal(torch.zeros(3), scale_tril=lower).event_shape == (3,)


@pytest.mark.parametrize(("kind", "options"), [("nonnegative", {}), ("simplex", {}), ("unit_norm", {})])
def test_heads_that_are_not_one_to_one_have_no_transform(kind, options):
    with pytest.raises(TypeError, match="not one-to-one"):
        head(kind, **options).transform()


@pytest.mark.parametrize("name", SCALAR)
def test_the_output_starts_at_the_mean(name):
    h = made(SCALAR, name)
    layer = nn.Linear(5, 3)
    mean = torch.tensor([0.12, 0.2, 0.28]) if name == "sigmoid" else torch.tensor([0.8, 1.1, 2.5])
    h.init_bias_(layer, mean)
    torch.testing.assert_close(h(layer(torch.zeros(1, 5)))[0], mean)
    assert layer.bias.requires_grad


def test_a_bias_tensor_and_vector_heads_start_at_the_mean_too():
    bias = nn.Parameter(torch.zeros(6))
    covariance = torch.tensor([[2.0, 0.3, 0.1], [0.3, 1.0, 0.0], [0.1, 0.0, 0.5]])
    h = head("positive_definite")
    h.init_bias_(bias, covariance)
    torch.testing.assert_close(h(bias.detach()), covariance)


@pytest.mark.parametrize(
    ("kind", "options", "mean", "words"),
    [
        ("positive", {}, 0.0, r"target 0 is outside its range \(0, inf\).*nonnegative"),
        ("positive", {}, -3.0, r"target -3 is outside"),
        ("positive", {}, math.nan, r"nan is outside"),
        ("positive", {}, math.inf, r"inf is outside"),
        ("nonnegative", {}, -0.5, r"target -0.5 is outside its range \[0, inf\).*lower_bounded"),
        ("interval", {"lower": 0, "upper": 1}, 1.0, r"target 1 is outside its range \(0, 1\).*ends that enclose"),
        ("lower_bounded", {"lower": 2}, 1.0, r"target 1 is outside its range \(2, inf\)"),
        ("simplex", {}, [0.5, 0.6], r"sum to 1, got a sum of 1.1"),
        ("simplex", {}, [1.0, 0.0], r"target 0 is outside its range \(0, 1\)"),
        ("ordered", {}, [2.0, 1.0], r"strictly increasing.*sort"),
        ("unit_norm", {}, [2.0, 0.0], r"target 2 is outside its range of unit vectors"),
        ("positive_definite", {}, [[1.0, 2.0], [2.0, 1.0]], r"smallest eigenvalue is -1"),
    ],
)
def test_a_mean_outside_the_range_is_refused_with_value_range_and_remedy(kind, options, mean, words):
    h = head(kind, **options)
    with pytest.raises(ValueError, match=words):
        h.init_bias_(torch.zeros(torch.tensor(mean).shape), torch.tensor(mean))


def test_wrong_sizes_and_layers_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2,\).*bias has shape \(3,\)"):
        head("positive").init_bias_(nn.Linear(4, 3), torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="bias=True"):
        head("positive").init_bias_(nn.Linear(4, 3, bias=False), 1.0)
    with pytest.raises(ValueError, match=r"n\(n\+1\)/2.*got 4"):
        head("positive_definite")(torch.zeros(4))
    with pytest.raises(ValueError, match="no pre-activations"):
        head("positive").report(torch.zeros(0, 3))
    with pytest.raises(TypeError, match="floating-point"):
        head("positive").report(torch.zeros(3, dtype=torch.long))
    with pytest.raises(TypeError, match="real numbers"):
        head("positive").inverse(torch.tensor(1j))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: head("positiv"), ValueError, "Did you mean 'positive'"),
        (lambda: head("nonnegative", beta=2), TypeError, "no option 'beta'"),
        (lambda: head("lower_bounded"), TypeError, "needs lower="),
        (lambda: head("positive", activation="tanh"), ValueError, "softplus, squareplus, exp; got 'tanh'"),
        (lambda: head("positive", beta=-1.0), ValueError, "beta"),
        (lambda: head("interval", lower=1, upper=1), ValueError, "lower must be below upper"),
        (lambda: head("interval", lower=0, upper=math.inf), ValueError, "finite number"),
        (lambda: head("simplex", via="sparsemax"), ValueError, "'softmax', 'stick_breaking'"),
    ],
)
def test_wrong_kinds_and_options_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_report_counts_zeros_dead_outputs_and_saturation():
    z = torch.tensor([[-1.0, -2.0, 3.0], [-5.0, 1.0, 4.0]])
    found = head("nonnegative").report(z)
    assert found.dead.tolist() == [True, False, False] and found.dead_outputs == 1
    assert found.exact_zeros == 0.5 and found.saturated == 0.5 and (found.samples, found.outputs) == (2, 3)
    assert "1 of 3 outputs dead" in str(found)
    assert head("positive").report(z).dead_outputs == 0
    assert head("interval").report(torch.full((4, 1), 40.0)).saturated == 1.0
    assert head("positive", activation="exp").report(torch.full((4, 1), 89.0)).nonfinite == 1.0


def test_report_of_a_vector_head_sees_what_no_sample_moves():
    # Softmax with one logit far below the others: its weight underflows, and with it every slope.
    z = torch.tensor([[0.0, 1.0, -400.0], [1.0, 0.0, -400.0]])
    assert head("simplex").report(z).dead.tolist() == [False, False, True]


@given(st.integers(0, 10_000), st.floats(-1e4, -20.0))
def test_revive_brings_dead_outputs_back_and_leaves_the_others(seed, bad):
    torch.manual_seed(seed)
    layer, x = nn.Linear(4, 3), torch.randn(32, 4)
    with torch.no_grad():
        layer.bias[:] = torch.tensor([bad, 0.3, bad])
    h, before = head("nonnegative"), layer.bias[1].item()
    assert h.revive_(layer, x).tolist() == [True, False, True]
    assert h.report(layer(x)).dead_outputs == 0 and layer.bias[1].item() == before


def test_revive_also_saves_saturated_sigmoids_and_constant_inputs():
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.bias.fill_(-500.0)
    h = head("interval", lower=0, upper=5)
    assert h.revive_(layer, torch.randn(16, 2)).all() and h.report(layer(torch.randn(16, 2))).dead_outputs == 0
    with torch.no_grad():
        layer.bias.fill_(-500.0)
    relu = head("nonnegative")
    relu.revive_(layer, torch.ones(8, 2))
    assert relu.report(layer(torch.ones(8, 2))).dead_outputs == 0


def test_revive_refuses_nan_weights():
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.fill_(math.nan)
    with pytest.raises(ValueError, match="reset_parameters"):
        head("nonnegative").revive_(layer, torch.ones(8, 2))


def test_a_learned_parameter_moves_the_inverse():
    import varphi as vp

    soft = vp.get("softplus", beta=2.0, learn=("beta",))
    h = head("positive", activation=soft)
    y = torch.tensor([0.5, 3.0])
    torch.testing.assert_close(h(h.inverse(y)), y)
    assert len(list(h.parameters())) == 1


def test_links_know_the_range_that_the_catalogue_proves():
    facts = pytest.importorskip("varphi.facts.api").facts
    from varphi.activation.lookup import get

    for name, link in LINKS.items():
        proved = facts(get(name)).range
        assert proved.lower == pytest.approx(link.lower, abs=1e-9) and proved.upper == pytest.approx(
            link.upper, abs=1e-9
        )
    assert head("interval", lower=-1, upper=3, activation="tanh").range == pytest.approx((-1.0, 3.0))
