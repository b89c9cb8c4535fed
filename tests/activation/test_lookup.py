"""From what a person writes to an activation, and to its derivatives."""

import functools
import math

import pytest
import torch
from torch import nn

import varphi as vp
from varphi.activation.layer import Activation
from varphi.activation.parsing import FormulaError
from varphi.activation.registry import UnknownActivation

X = torch.linspace(-3.03, 3.11, 41, dtype=torch.float64)
REFERENCE = torch.nn.functional.mish(X)


class Mish(nn.Module):
    def forward(self, x):
        return x * torch.tanh(nn.functional.softplus(x))


EVERY_KIND = {
    "a name": "mish",
    "a name in other letters": " MISH ",
    "a formula": "x*tanh(softplus(x))",
    "a formula with a catalogue's name": "mish(x)",
    "an activation": vp.get("mish"),
    "a torch function": torch.nn.functional.mish,
    "a torch module": nn.Mish(),
    "a module of one's own": Mish(),
    "a lambda": lambda x: x * torch.tanh(nn.functional.softplus(x)),
    "a partial": functools.partial(torch.nn.functional.mish, inplace=False),
    "a model": nn.Sequential(nn.Identity(), nn.Mish()),
}


@pytest.mark.parametrize("what", EVERY_KIND.values(), ids=EVERY_KIND)
def test_every_kind_of_input(what):
    layer = vp.as_activation(what)
    assert isinstance(layer, Activation)
    torch.testing.assert_close(layer(X), REFERENCE, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(vp.derivatives(what, X, 2), vp.get("mish").derivatives(X, 2), rtol=1e-10, atol=1e-13)


def test_an_activation_is_itself():
    layer = vp.get("softplus", beta=2)
    assert vp.as_activation(layer) is layer
    with pytest.raises(TypeError, match="softplus already has its parameters; got beta again"):
        vp.as_activation(layer, beta=3)


def test_parameters_go_to_what_is_named():
    assert vp.as_activation("softplus", beta=3).numbers() == {"beta": 3.0}
    with pytest.raises(TypeError, match="no parameter 'beta'"):
        vp.as_activation("x*tanh(x)", beta=3)
    with pytest.raises(TypeError, match="no parameter 'beta'"):
        vp.as_activation(torch.tanh, beta=3)


@pytest.mark.parametrize("text", ["hard-swish", "Hard Swish", "hard_swish", "HARD_SWISH", " hard-swish "])
def test_spellings_of_a_name(text):
    assert vp.get(text).name == "hard_swish"
    assert vp.as_activation(text).name == "hard_swish"


@pytest.mark.parametrize("text", ["-x", "gelu(x)", "x", "x**2", "pi*x", "x - e", "2"])
def test_formulas_are_not_taken_for_names(text):
    if "x" not in text:
        with pytest.raises(FormulaError):
            vp.as_activation(text)
        return
    assert vp.as_activation(text)(X).shape == X.shape


@pytest.mark.parametrize("text", ["gellu", "hard-swich", "soft plus2"])
def test_unknown_names_are_refused_as_names(text):
    with pytest.raises(UnknownActivation, match="Did you mean"):
        vp.as_activation(text)


@pytest.mark.parametrize("what", [None, 3, 1.5, [], {}, torch.ones(2), b"relu"], ids=lambda w: type(w).__name__)
def test_what_is_no_activation_is_refused(what):
    with pytest.raises(TypeError):
        vp.as_activation(what)
    with pytest.raises(TypeError, match=r"vp\.get takes a name"):
        vp.get(what)


def test_get_does_not_take_callables():
    with pytest.raises(TypeError, match=r"takes a name, got builtin_function_or_method; vp\.trace takes callables"):
        vp.get(torch.tanh)


# ------------------------------------------------------------------------------------------------------ derivatives


def nested(f, x, order):
    x = x.clone().requires_grad_()
    rows = [f(x)]
    for _ in range(order):
        rows.append(torch.autograd.grad(rows[-1].sum(), x, create_graph=True)[0])
    return torch.stack(rows).detach()


@pytest.mark.parametrize("order", range(7))
@pytest.mark.parametrize("name", ["tanh", "silu", "sin", "softplus", "sinc"])
def test_derivatives_of_each_order(name, order):
    torch_function = {
        "tanh": torch.tanh,
        "sin": torch.sin,
        "silu": lambda x: x * torch.sigmoid(x),
        "softplus": lambda x: torch.log1p(torch.exp(x)),
        "sinc": lambda x: torch.sin(x) / x,
    }[name]
    rows = vp.derivatives(name, X, order)
    assert rows.shape == (order + 1, *X.shape)
    assert rows.dtype is X.dtype
    x = X[X.abs() > 1]  # sin(x)/x loses digits at zero
    torch.testing.assert_close(vp.derivatives(name, x, order), nested(torch_function, x, order), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (2, 3, 4)])
def test_derivatives_of_each_shape(shape):
    x = torch.linspace(-1, 1, math.prod(shape)).reshape(shape)
    assert vp.derivatives("mish", x, 3).shape == (4, *shape)


def test_derivatives_of_tensors_that_are_not_contiguous():
    x = torch.linspace(-2, 2, 60, dtype=torch.float64).reshape(3, 4, 5)
    whole = vp.derivatives("mish", x, 2)
    for view, expected in [
        (x.transpose(0, 2), whole.transpose(1, 3)),
        (x[:, ::2], whole[:, :, ::2]),
        (x[1], whole[:, 1]),
        (x[..., 0], whole[..., 0]),
        (x[:1].expand(4, 4, 5), whole[:, :1].expand(3, 4, 4, 5)),
    ]:
        assert torch.equal(vp.derivatives("mish", view, 2), expected)


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "hard_swish", "exp", "heaviside", "hill"])
def test_a_differentiable_input_gives_the_same_rows_with_a_graph(name):
    rows = vp.derivatives(name, X, 3)
    x = X.clone().requires_grad_()
    with_graph = vp.derivatives(name, x, 3)
    torch.testing.assert_close(with_graph.detach(), rows, rtol=1e-12, atol=1e-14)
    assert with_graph.requires_grad and not rows.requires_grad
    fourth = torch.autograd.grad(with_graph[3].sum(), x)[0]
    torch.testing.assert_close(fourth, vp.derivatives(name, X, 4)[4], rtol=1e-11, atol=1e-12)
    with torch.no_grad():
        assert not vp.derivatives(name, x, 1).requires_grad


def test_derivatives_reach_learned_parameters():
    layer = vp.get("softplus", beta=1.5, learn=["beta"]).double()
    slope = layer.derivatives(X, 1)[1]
    (by_raw,) = torch.autograd.grad(slope.sum(), layer.log_beta)
    beta, h = layer.numbers()["beta"], 1e-6
    step = [vp.get("softplus", beta=beta * math.exp(s)).derivatives(X, 1)[1].sum() for s in (-h, h)]
    assert by_raw.item() == pytest.approx((step[1] - step[0]).item() / (2 * h), rel=1e-7)


def test_derivatives_under_transforms():
    by_vmap = torch.func.vmap(lambda x: vp.derivatives("mish", x, 2))(X)
    torch.testing.assert_close(by_vmap, vp.derivatives("mish", X, 2).T, rtol=1e-12, atol=1e-14)
    slope = torch.func.grad(lambda x: vp.derivatives("mish", x, 2)[2])(X[7])
    torch.testing.assert_close(slope, vp.derivatives("mish", X, 3)[3, 7], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("order", [-1, 1.0, True, "2", None])
def test_orders_that_are_none_are_refused(order):
    with pytest.raises(ValueError, match="order must be a whole number >= 0, got"):
        vp.derivatives("relu", X, order)


@pytest.mark.parametrize("x", [1.0, [1.0, 2.0], None, torch.arange(3), torch.ones(2, dtype=torch.complex64)], ids=repr)
def test_inputs_that_are_no_floating_point_tensor_are_refused(x):
    with pytest.raises(TypeError, match="floating-point"):
        vp.derivatives("relu", x, 1)
