"""Rows of the Jacobian of residuals, against a backward pass for each."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import varphi as vp
from varphi.jets.jacobian import jacobian


class Skipping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 6), nn.Linear(6, 6), nn.Linear(6, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        return self.c(h + torch.sin(self.b(h)))


MODELS = {
    "chain": lambda: nn.Sequential(nn.Linear(2, 7), vp.get("tanh"), nn.Linear(7, 5), vp.get("gelu"), nn.Linear(5, 1)),
    "skipping": Skipping,
    "with a norm": lambda: nn.Sequential(nn.Linear(2, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 1)),
    "learned": lambda: nn.Sequential(nn.Linear(2, 6), vp.get("swish", learn=("beta",)), nn.Linear(6, 1)),
}


def residuals(call: object, x: Tensor, coefficients: Mapping[str, Tensor]) -> Tensor:
    u, laplacian = vp.laplacian(call, x)
    first = -coefficients["k"] * laplacian + u**2 - x[:, :1]
    return torch.cat([first, coefficients["m"] * call(x) - 1], 1)


@pytest.mark.parametrize("name", MODELS)
def test_rows_are_gradients(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().double()
    x = torch.rand(5, 2, dtype=torch.float64)
    numbers = {"k": torch.tensor(0.7, dtype=torch.float64), "m": torch.tensor([2.0], dtype=torch.float64)}
    r, rows = jacobian(residuals, model, x, numbers)
    parameters = [p for p in model.parameters() if p.requires_grad]
    assert r.shape == (10,) and rows.shape == (10, sum(p.numel() for p in parameters) + 2)
    leaves = {n: v.clone().requires_grad_() for n, v in numbers.items()}
    expected = residuals(model, x, {n: v.reshape(1, 1).expand(5, 1) for n, v in leaves.items()}).T.reshape(-1)
    torch.testing.assert_close(r, expected.detach())
    for i in range(10):
        grads = torch.autograd.grad(
            expected[i], [*parameters, *leaves.values()], retain_graph=True, allow_unused=True, materialize_grads=True
        )
        torch.testing.assert_close(rows[i], torch.cat([g.flatten() for g in grads]), rtol=1e-9, atol=1e-10)


def test_frozen_parameters_have_no_columns() -> None:
    model = MODELS["chain"]().double()
    model[0].requires_grad_(False)
    _, rows = jacobian(lambda call, x, _: vp.laplacian(call, x)[1], model, torch.rand(3, 2, dtype=torch.float64))
    assert rows.shape == (3, sum(p.numel() for p in model.parameters() if p.requires_grad))


def test_residuals_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(3,\) or \(3, k\), got \(2, 1\)"):
        jacobian(lambda call, x, _: call(x)[1:], MODELS["chain"](), torch.rand(3, 2))
