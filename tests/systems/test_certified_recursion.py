"""The layered recursion through residual blocks, concatenations and pooling: against every choice of slopes, and
against LipSDP solved by an interior-point method."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import varphi as vp
from varphi.systems.certified import Ball, GroupSort, lipschitz
from varphi.systems.certified.network import Structure
from varphi.systems.certified.products import Constants
from varphi.systems.certified.recursion import Layer, Slopes, Windows, descended, ellipsoid, started
from varphi.systems.certified.spectral import largest_eigenvalue

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


@pytest.mark.parametrize(("kernel", "stride", "overlap"), [(2, 2, 1), (2, 1, 2), (3, 1, 3)])
def test_a_maximum_alone_stretches_by_the_root_of_its_overlap(kernel, stride, overlap):
    exact = overlap**0.5  # one number that is the largest of all its windows
    for found in bounds(nn.Sequential(nn.MaxPool1d(kernel, stride)).eval(), 1, 6):
        assert exact * (1 - 1e-12) <= found <= 1.01 * exact


def test_what_is_too_wide_or_a_product_has_the_product_bound_alone():
    wide = nn.Sequential(nn.Linear(2, 1100), nn.ReLU(), nn.Linear(1100, 2)).eval()
    assert set(lipschitz(wide).bounds) == {"product"}


# Any network ---------------------------------------------------------------------------------------------------------


@st.composite
def layers(draw, kinds=("slopes", "kept", "windows")):
    """Random layers of a few numbers, with slopes that are equal, of both signs, or huge; and a drawer of Jacobians."""
    seed = draw(st.integers(0, 10**6))
    generator = torch.Generator().manual_seed(seed)
    state = inputs = draw(st.integers(1, 4))
    found = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(kinds))
        kept = draw(st.integers(1, 3)) if kind == "kept" else 0
        n = draw(st.integers(1, 4)) if kind != "windows" else 4
        size = draw(st.sampled_from([1e-3, 1.0, 50.0]))
        weight = torch.randn(kept + n, state, generator=generator, dtype=DOUBLE) * size
        if kind == "windows":
            bend = Windows(torch.tensor([[0, 1, -1], [1, 2, 3]]), 4)
        else:
            ends = torch.randn(2, 1, n, generator=generator, dtype=DOUBLE) * draw(st.sampled_from([0.0, 0.3, 2.0]))
            width = draw(st.sampled_from([0.0, 1e-14, 1.0]))
            bend = Slopes(ends[0], ends[0] + ends[1].abs() * width)
        found.append(Layer(weight, 0.0, bend, kept))
        state = kept + bend.size
    return inputs, found, generator


def some_jacobian(inputs, found, generator):
    """One product of what the layers can be, with slopes within their limits or at them, and one choice of places."""
    whole = torch.eye(inputs, dtype=DOUBLE)
    for layer in found:
        whole = layer.weight @ whole
        past, z = whole[: layer.kept], whole[layer.kept :]
        if isinstance(layer.bend, Windows):
            rows = torch.rand(2, 3, generator=generator).masked_fill(layer.bend.places < 0, -1).argmax(1)
            z = z[layer.bend.places.gather(1, rows.unsqueeze(1)).squeeze(1)]
        else:
            share = (torch.rand(layer.bend.size, generator=generator, dtype=DOUBLE) * 3 - 1).clamp(0, 1)
            z = torch.lerp(layer.bend.least[0], layer.bend.greatest[0], share).unsqueeze(1) * z
        whole = torch.cat([past, z])
    return whole


def bound_holds(case, steps: int, draws: int) -> None:
    inputs, found, generator = case
    choices = descended(found, inputs, started(found), lambda y: torch.linalg.eigvalsh(y)[..., -1], steps)
    with torch.no_grad():
        bound = float(largest_eigenvalue(ellipsoid(found, inputs, choices)).sqrt())
    for _ in range(draws):
        whole = some_jacobian(inputs, found, generator)
        assert float(torch.linalg.matrix_norm(whole, 2)) <= bound * (1 + 1e-12)


@settings(max_examples=40, deadline=None)
@given(layers(), st.sampled_from([0, 5]))
def test_no_choice_of_slopes_passes_the_bound(case, steps):
    bound_holds(case, steps, 40)


@pytest.mark.nightly
@settings(max_examples=1000, deadline=None)
@given(layers(), st.sampled_from([0, 5, 40]))
def test_no_choice_of_slopes_passes_the_bound_at_length(case, steps):
    bound_holds(case, steps, 200)


@st.composite
def networks(draw):
    """(model, width of the input): chains, residual blocks and sorts in any order."""
    torch.manual_seed(draw(st.integers(0, 10**6)))
    name = draw(st.sampled_from(["relu", "sin", "gelu", "abs", "softplus", "elu"]))
    width = draw(st.sampled_from([2, 4]))
    parts: list[nn.Module] = [nn.Linear(3, width)]
    for kind in draw(st.lists(st.sampled_from(["chain", "block", "sort", "pool"]), min_size=1, max_size=3)):
        if kind == "chain":
            parts += [nn.Linear(width, width), vp.get(name)]
        elif kind == "block":
            flags = draw(st.tuples(st.integers(1, 2), st.booleans(), st.booleans()))
            parts.append(Block(width, 3, vp.get(name), *flags))
        elif kind == "sort":
            parts += [nn.Linear(width, width), GroupSort()]
        else:
            parts += [nn.Unflatten(1, (1, width)), nn.MaxPool1d(3, 1, padding=1), nn.Flatten()]
    model = nn.Sequential(*parts, nn.Linear(width, 2)).double().eval()
    for p in model.parameters():
        p.data = torch.randn_like(p)
    return model


def network_holds(model: nn.Module, steps: int, points: int) -> None:
    with torch.no_grad():
        found = Constants(Structure(model, torch.zeros(1, 3)), None, steps)
        product, layered = float(found.product(2.0)), float(found.layered())
        each = found.layered_each(torch.tensor([[1.0, -1.0]], dtype=DOUBLE))
    x = torch.randn(points, 3, dtype=DOUBLE) * 2
    jacobians = torch.func.vmap(torch.func.jacrev(lambda v: model(v.unsqueeze(0))[0]))(x).detach()
    largest = float(torch.linalg.matrix_norm(jacobians, 2).max()) * (1 - 1e-12)
    assert largest <= layered and largest <= product
    assert float((jacobians[:, 0] - jacobians[:, 1]).norm(dim=1).max()) * (1 - 1e-12) <= float(each)


@settings(max_examples=12, deadline=None)
@given(networks(), st.sampled_from([0, 4]))
def test_no_jacobian_passes_the_bounds(model, steps):
    network_holds(model, steps, 200)


@pytest.mark.nightly
@settings(max_examples=200, deadline=None)
@given(networks(), st.sampled_from([0, 4, 40]))
def test_no_jacobian_passes_the_bounds_at_length(model, steps):
    network_holds(model, steps, 2000)
