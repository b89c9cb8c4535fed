"""Derivatives of every definition, three ways: jets, mpmath's numerical differentiation, torch's own autograd."""

import mpmath
import pytest
import torch
from mpmath import mpf

from varphi.activation import registry
from varphi.activation.lookup import get

NAMES = registry.names()
ORDER = 3
# Away from every kink of every definition.
POINTS = [-67.3137, -9.3717, -4.1717, -2.6271, -1.3371, -0.6317, -0.2173, -0.0217,
          0.0213, 0.1931, 0.6713, 1.4173, 2.7131, 4.3311, 9.1717, 41.371]  # fmt: skip


def scale(rows: torch.Tensor) -> torch.Tensor:
    """How large the terms of each row's sum may be: the rows before it count, and so does the input."""
    return torch.cummax(rows.abs(), 0).values


@pytest.mark.parametrize("name", NAMES)
def test_jets_against_numerical_differentiation(name, exact):
    definition = registry.definition(name)
    rows = get(name).derivatives(torch.tensor(POINTS, dtype=torch.float64), ORDER)
    allowed = 1e-11 * scale(rows) * (1 + torch.tensor(POINTS).abs())
    for i, x in enumerate(POINTS):
        for order in range(ORDER + 1):
            true = mpmath.diff(lambda t: exact(definition, t), mpf(x), order)
            assert abs(mpf(rows[order, i].item()) - true) <= allowed[order, i].item() + 1e-300, (x, order)


def differentiate(function, x: torch.Tensor) -> torch.Tensor:
    """f, f', ..., by repeated torch.autograd.grad."""
    x = x.clone().requires_grad_()
    rows = [function(x)]
    for _ in range(ORDER):
        if not rows[-1].requires_grad:
            rows.append(torch.zeros_like(x))
            continue
        (grad,) = torch.autograd.grad(rows[-1].sum(), x, create_graph=True, materialize_grads=True)
        rows.append(grad)
    return torch.stack([row.detach() for row in rows])


@pytest.mark.parametrize("name", NAMES)
def test_autograd_of_the_layer(name):
    x = torch.tensor(POINTS, dtype=torch.float64)
    layer = get(name)
    rows = layer.derivatives(x, ORDER)
    assert (differentiate(layer, x) - rows).abs().le(1e-12 * scale(rows) + 1e-300).all()


@pytest.mark.parametrize("name", NAMES)
def test_autograd_through_the_defining_lines(name):
    """Torch's own backward rules over the same lines: what torch.compile differentiates."""
    x = torch.tensor(POINTS, dtype=torch.float64)
    layer = get(name)
    rows = layer.derivatives(x, ORDER)
    by_torch = differentiate(lambda t: layer.definition.function(t, **layer.values) + 0 * t, x)
    # torch's second backward of logsigmoid keeps absolute accuracy only.
    assert (by_torch - rows).abs().le(1e-9 * scale(rows) + 1e-15).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_stay_finite_where_values_do(name):
    """No branch that was not taken leaks 0·inf into the gradient, short of where float32's exp overflows."""
    x = torch.tensor([-80.0, -30.0, -0.0, 0.0, 30.0, 80.0], dtype=torch.float32)
    grad = get(name).derivatives(x, 1)[1]
    assert torch.isfinite(grad).all()
