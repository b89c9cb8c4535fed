"""Operators written as formulas."""

import pytest
import torch
from torch import Tensor, nn

import varphi as vp
from varphi.activation.parsing import FormulaError
from varphi.jets.equation import linear_terms
from varphi.numbers import variable

CLOSE = {"rtol": 1e-10, "atol": 1e-11}


def model(inputs: int = 2, outputs: int = 1) -> nn.Module:
    torch.manual_seed(inputs + 10 * outputs)
    return nn.Sequential(nn.Linear(inputs, 9), nn.Tanh(), nn.Linear(9, 9), nn.SiLU(), nn.Linear(9, outputs)).double()


def points(d: int = 2) -> Tensor:
    return torch.rand(7, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def d(net: nn.Module, x: Tensor, axes: tuple[int, ...], output: int = 0) -> Tensor:
    """A partial derivative by nested automatic differentiation, (samples, 1)."""
    x = x.clone().requires_grad_()
    u = net(x)[:, output]
    for axis in axes:
        u = torch.autograd.grad(u.sum(), x, create_graph=True)[0][:, axis]
    return u.detach()[:, None]


EQUATIONS = {
    "u_xx + u_tt": (lambda u, x: u(0, 0) + u(1, 1), 4),
    "u_t + u*u_x - 0.01*u_xx": (lambda u, x: u(1) + u() * u(0) - 0.01 * u(0, 0), 4),
    "u_xx + 3*u_xt - u_tt/2": (lambda u, x: u(0, 0) + 3 * u(0, 1) - u(1, 1) / 2, 4),
    "u_xx*u_tt - u_xt^2": (lambda u, x: u(0, 0) * u(1, 1) - u(0, 1) ** 2, 6),
    "x*u_xx + sin(t)*u - exp(u)": (lambda u, x: x[:, :1] * u(0, 0) + x[:, 1:].sin() * u() - u().exp(), 3),
    "u_xxxx + 2*u_xxtt + u_tttt": (lambda u, x: u(0, 0, 0, 0) + 2 * u(0, 0, 1, 1) + u(1, 1, 1, 1), 9),
    "u_xxx + 6*u*u_x + u_t": (lambda u, x: u(0, 0, 0) + 6 * u() * u(0) + u(1), 5),
    "where(x > 0.5, u_xx, -u_x)": (lambda u, x: torch.where(x[:, :1] > 0.5, u(0, 0), -u(0)), 3),
}


@pytest.mark.parametrize("text", EQUATIONS)
def test_formulas(text: str) -> None:
    net, x = model(), points()
    expected, channels = EQUATIONS[text]
    operator = vp.operator(text, coordinates="xt")
    value, found = operator(net, x)
    torch.testing.assert_close(value, net(x), **CLOSE)
    torch.testing.assert_close(found, expected(lambda *axes: d(net, x, axes), x), **CLOSE)
    assert operator.channels == channels
    assert text in repr(operator)


def test_functions_are_the_same_as_formulas() -> None:
    net, x = model(), points()
    text = vp.operator("u_t + sin(x)*u_x - lap_u", coordinates="xt")
    function = vp.operator(lambda q: q.u_t + torch.sin(q.x) * q.u_x - q.lap_u, coordinates="xt")
    torch.testing.assert_close(text(net, x)[1], function(net, x)[1], **CLOSE)
    assert text.channels == function.channels == 4 and text.order == 2


@pytest.mark.parametrize("text", ["laplacian(u)", "lap_u", "Δu", "u_xx + u_yy", "bilaplacian(u) - bilap_u + Δu"])
def test_names_of_the_laplacian(text: str) -> None:
    net, x = model(), points()
    _, found = vp.operator(text, coordinates="xy")(net, x)
    torch.testing.assert_close(found, vp.laplacian(net, x)[1], rtol=1e-9, atol=1e-9)


def test_systems_share_one_pass() -> None:
    net, x = model(2, 3), points()
    operator = vp.operator(
        "u_x + v_y", "u*u_x + v*u_y + p_x - 0.1*laplacian(u)", lambda q: q.u_x * q.v, fields="uvp", coordinates="xy"
    )
    assert operator.channels == 4  # value, two slopes, one Laplacian: for all fields at once
    value, found = operator(net, x)
    u, v = value[:, :1], value[:, 1:2]
    first = d(net, x, (0,), 0) + d(net, x, (1,), 1)
    laplacian = d(net, x, (0, 0)) + d(net, x, (1, 1))
    second = u * d(net, x, (0,)) + v * d(net, x, (1,)) + d(net, x, (0,), 2) - 0.1 * laplacian
    torch.testing.assert_close(found, torch.cat([first, second, d(net, x, (0,)) * v], 1), **CLOSE)


def test_one_field_and_many_outputs() -> None:
    net, x = model(2, 4), points()
    _, found = vp.operator("x*u_xx + u*u_y")(net, x)
    expected = [x[:, :1] * d(net, x, (0, 0), k) + net(x)[:, k : k + 1] * d(net, x, (1,), k) for k in range(4)]
    torch.testing.assert_close(found, torch.cat(expected, 1), **CLOSE)


def test_coordinates_by_default() -> None:
    assert vp.operator("u_tt - 4*u_xx").coordinates == ("x", "t")
    assert vp.operator("u_x*y + u_zz").coordinates == ("x", "y", "z")
    with pytest.raises(ValueError, match="give coordinates"):
        vp.operator("lap_u")
    with pytest.raises(ValueError, match="needs its coordinates named"):
        vp.operator(lambda q: q.u_x)


def test_a_formula_in_which_no_derivative_occurs() -> None:
    net, x = model(), points()
    _, found = vp.operator("u^2 - x", coordinates="xy")(net, x)
    torch.testing.assert_close(found, net(x) ** 2 - x[:, :1], **CLOSE)


@pytest.mark.parametrize(
    "text, message",
    [
        ("u_xq", "unknown symbol 'u_xq'"),
        ("w + u_x", "the fields u, their derivatives"),
        ("", "empty"),
        ("u_xx +", "must follow"),
        ("__import__('os')", "no function"),
    ],
)
def test_unreadable_formulas(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        vp.operator(text, coordinates="xt")


def test_unusable_names() -> None:
    with pytest.raises(ValueError, match="both a field and a coordinate"):
        vp.operator("u_x", fields="ux", coordinates="xy")
    with pytest.raises(ValueError, match="single letters"):
        vp.operator("u_x", coordinates=("x", "time"))
    with pytest.raises(ValueError, match="different names"):
        vp.operator("u_x", coordinates="xx")
    with pytest.raises(ValueError, match="at least one equation"):
        vp.operator()
    with pytest.raises(TypeError, match="a formula or a function, got int"):
        vp.operator(3)
    with pytest.raises(FormulaError, match="unknown name 'u_q'"):
        vp.operator(lambda q: q.u_q, coordinates="xy")


def test_models_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="coordinates x, y; x has 3 columns"):
        vp.operator("u_xx + u_yy")(model(3), points(3))
    with pytest.raises(ValueError, match="gives 2 outputs"):
        vp.operator("u_x + v_y + p", fields="uvp")(model(2, 2), points())


def test_terms_are_collected() -> None:
    a, b = variable("a"), variable("b")
    terms, rest = linear_terms(2 * a - (b - 3 * a) / 2 + a * b)
    assert terms == {"a": 3.5, "b": -0.5}
    assert rest is not None and rest.evaluate(a=2.0, b=5.0) == 10.0


def test_what_an_operator_mentions() -> None:
    system = vp.operator("k*u_xx + v_xtt - x", lambda q: q.u_t + q.v, fields=("u", "v", "k"), coordinates="xt")
    assert system.orders == {"u": 2, "v": 3, "k": 0}
    assert set(system.names) == {"k", "u_xx", "v_xtt", "u_t", "v"}
    values = {"k": 2.0, "u_xx": 3.0, "v_xtt": 5.0, "x": 7.0, "u_t": 11.0, "v": 13.0}
    first, second = system.evaluate(lambda name: torch.tensor(values[name]))
    assert (float(first), float(second)) == (4.0, 24.0)
    # A Laplacian that is collapsed is still found under its name.
    poisson = vp.operator("lap_u + u_xx - u^2", coordinates="xy")
    assert poisson.orders == {"u": 2} and set(poisson.names) == {"lap_u", "u_xx", "u"}
