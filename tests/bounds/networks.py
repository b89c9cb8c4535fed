"""Small models, points of regions, and the check that no point leaves the bounds."""

import copy
import math

import torch
from torch import Tensor, nn

import varphi as vp


def seeded(*layers: nn.Module, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(*layers)
    for p in model.parameters():
        nn.init.normal_(p, std=0.5)
    return model.eval()


def in_ball(x: Tensor, radius: float, norm: float, count: int, on_surface: bool = False) -> Tensor:
    """Random points of the ball around each sample: (count, *x.shape)."""
    d = torch.randn(count, *x.shape, dtype=torch.float64)
    if norm == 1:  # to the corners
        d = d * torch.rand_like(d) ** 8
    flat = d.flatten(2)
    scale = flat.sign() if norm == math.inf and on_surface else flat / flat.norm(p=norm, dim=-1, keepdim=True)
    share = 1.0 if on_surface else torch.rand(count, len(x), 1, dtype=torch.float64)
    return (x.double() + (scale * share * radius * (1 - 1e-9)).view_as(d)).to(x.dtype)


def attacked(model: nn.Module, x: Tensor, radius: float, rows: Tensor, steps: int = 30) -> Tensor:
    """The least rows·output that projected gradient steps find in the L∞ ball: (batch, rows)."""
    model = copy.deepcopy(model).double()
    least = []
    for row in rows.double():
        d = torch.zeros_like(x, dtype=torch.float64)
        for step in range(steps):
            d.requires_grad_()
            value = model(x.double() + d).flatten(1) @ row
            (g,) = torch.autograd.grad(value.sum(), d)
            d = (d.detach() - radius * 2 / (step + 2) * g.sign()).clamp(-radius, radius)
        least.append((model(x.double() + d).flatten(1) @ row).detach())
    return torch.stack(least, 1)


def assert_encloses(model: nn.Module, x: Tensor, radius: float, norm: float, method: str, **options) -> None:
    lower, upper = vp.bounds(model, x, radius, norm, method, **options)
    exact = copy.deepcopy(model).double()
    with torch.no_grad():
        for surface in (False, True):
            samples = in_ball(x, radius, norm, 200, surface)
            flat = samples.flatten(0, 1)
            for run, inputs in ((exact, flat.double()), (model, flat)):
                y = run(inputs).view(200, *lower.shape).double()
                assert (y >= lower.double()).all() and (y <= upper.double()).all()


def assert_closes_on_the_value(model: nn.Module, x: Tensor) -> None:
    """The width divided by the radius stays about what the slopes allow: no constant slack but rounding."""
    widths = []
    for radius in (1e-3, 1e-5):
        lower, upper = vp.bounds(model, x, radius)
        assert ((lower <= model(x)) & (model(x) <= upper)).all()
        widths.append(float((upper - lower).max()))
    assert widths[1] < widths[0] / 50
    assert widths[1] < 1e-2


class Functional(nn.Module):
    """A forward given as a function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
