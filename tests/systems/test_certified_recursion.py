"""The layered recursion through residual blocks, concatenations and pooling: against every choice of slopes, and
against LipSDP solved by an interior-point method."""

import itertools

import pytest
import torch
from torch import nn

import varphi as vp
from varphi.systems.certified import Ball, lipschitz
from varphi.systems.certified.network import Structure
from varphi.systems.certified.products import Constants

DOUBLE = torch.float64


def weights(*shape: int, seed: int) -> torch.Tensor:
    """Numbers that no generator decides: another program can write them down."""
    rows, columns = torch.meshgrid(*(torch.arange(1.0, n + 1, dtype=DOUBLE) for n in shape), indexing="ij")
    return torch.sin(rows * rows + 2.3 * rows * columns + 1.7 * seed)


class Block(nn.Module):
    """S·x + V·f(... f(U·x)), and an activation on the sum or not."""

    def __init__(self, n: int, m: int, activation: nn.Module, depth: int, skip: bool, post: bool) -> None:
        super().__init__()
        sizes = [n] + [m] * depth
        self.inner = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.out, self.skip = nn.Linear(m, n), nn.Linear(n, n, bias=False) if skip else nn.Identity()
        self.activation, self.last = activation, activation if post else nn.Identity()

    def forward(self, x):
        h = x
        for layer in self.inner:
            h = self.activation(layer(h))
        return self.last(self.skip(x) + self.out(h))


def residual(name: str, blocks: int = 2, depth: int = 1, skip: bool = False, post: bool = False) -> nn.Sequential:
    parts = [Block(3, 4, vp.get(name), depth, skip, post) for _ in range(blocks)]
    model = nn.Sequential(nn.Linear(2, 3), *parts, nn.Linear(3, 2)).double().eval()
    for seed, p in enumerate(model.parameters()):
        p.data = weights(*p.shape, seed=seed) * 0.6 if p.dim() == 2 else torch.zeros_like(p)
    return model


def bounds(model: nn.Module, *shape: int) -> tuple[float, float]:
    """(product, layered)."""
    with torch.no_grad():
        found = Constants(Structure(model, torch.zeros(1, *shape)))
        product, layered = found.product(2.0), found.layered()
    assert layered is not None
    return float(product), float(layered)


# LipSDP with a multiplier for each neuron, by cvxpy 1.9.3 and Clarabel 0.11.1, on the networks that `residual` makes.
# (activation, blocks, activations in a block, a linear skip, an activation on the sum)
LIPSDP = {
    ("relu", 2, 1, False, False): 0.671023,
    ("sin", 2, 1, True, False): 0.950838,
    ("relu", 1, 2, True, False): 0.478383,
    ("tanh", 2, 2, False, False): 0.886355,
    ("relu", 2, 1, False, True): 0.801479,
    ("silu", 2, 1, False, False): 0.711107,
}


@pytest.mark.parametrize("case", LIPSDP)
def test_residual_networks_reach_what_lipsdp_gives(case):
    name, blocks, depth, skip, post = case
    model = residual(name, blocks, depth, skip, post)
    product, layered = bounds(model, 2)
    assert LIPSDP[case] * (1 - 1e-5) <= layered <= LIPSDP[case] * 1.02 and layered < product


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(("name", "least", "greatest"), [("relu", 0, 1), ("sin", -1, 1), ("abs", -1, 1)])
def test_a_residual_block_bounds_every_choice_of_slopes(name, least, greatest, skip):
    model = residual(name, 1, 1, skip)
    first, block, last = model[0], model[1], model[2]
    worst = 0.0
    for slopes in itertools.product((least, greatest), repeat=4):
        inner = block.out.weight @ torch.diag(torch.tensor(slopes, dtype=DOUBLE)) @ block.inner[0].weight
        kept = block.skip.weight if skip else torch.eye(3, dtype=DOUBLE)
        jacobian = last.weight @ (kept + inner) @ first.weight
        worst = max(worst, float(torch.linalg.matrix_norm(jacobian.detach(), 2)))
    assert worst <= bounds(model, 2)[1] <= 1.1 * worst


class Dense(nn.Module):
    """Concatenations of all that came before, as in a DenseNet, and a difference of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(3, 2), nn.Linear(5, 2), nn.Linear(7, 4)
        self.head = nn.Linear(9, 2)

    def forward(self, x):
        a = torch.cat([x, torch.relu(self.first(x))], 1)
        b = torch.cat([a, torch.tanh(self.second(a))], 1)
        c = torch.sigmoid(self.third(b))
        return self.head(torch.cat([b, c[:, :2] - 2 * x[:, :2]], 1))


def test_concatenations_are_carried_along():
    model = Dense().double().eval()
    for seed, p in enumerate(model.parameters()):
        p.data = weights(*p.shape, seed=seed) if p.dim() == 2 else torch.zeros_like(p)
    found = lipschitz(model, sample=torch.zeros(1, 3, dtype=DOUBLE))
    assert found.lower <= found.bounds["layered"] < 0.6 * found.bounds["product"]
    assert found.bounds["layered"] <= 1.2 * found.lower
    near = lipschitz(model, region=Ball(torch.full((1, 3), 0.3, dtype=DOUBLE), 1e-4))
    assert near.lower <= near.bounds["layered"] <= 1.01 * near.lower


class Pooled(nn.Module):
    """A maximum over windows that overlap, beside what it was taken of."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.pool, self.head = nn.MaxPool1d(3, stride, padding=1), nn.Linear(6 + 6 // stride, 2)

    def forward(self, x):
        return self.head(torch.cat([x, self.pool(x)], 2)).flatten(1)


@pytest.mark.parametrize("stride", [1, 3])
def test_a_maximum_over_windows_bounds_every_choice_of_places(stride):
    model = Pooled(stride).double().eval()
    model.head.weight.data = weights(2, 6 + 6 // stride, seed=3)
    windows = [[j for j in range(i - 1, i + 2) if 0 <= j < 6] for i in range(0, 6, stride)]
    worst = 0.0
    for places in itertools.product(*windows):
        choice = torch.zeros(len(places), 6, dtype=DOUBLE)
        choice[range(len(places)), places] = 1
        jacobian = model.head.weight.detach() @ torch.cat([torch.eye(6, dtype=DOUBLE), choice])
        worst = max(worst, float(torch.linalg.matrix_norm(jacobian, 2)))
    product, layered = bounds(model, 1, 6)
    assert worst <= layered <= 1.3 * worst and layered < product


def test_what_is_too_wide_or_a_product_has_the_product_bound_alone():
    wide = nn.Sequential(nn.Linear(2, 1100), nn.ReLU(), nn.Linear(1100, 2)).eval()
    assert set(lipschitz(wide).bounds) == {"product"}
