"""1-Lipschitz layers: their norms are proved, they train, copy, save, compile; the network to deploy is the same."""

import copy
import io
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from varphi.systems.certified import (
    Ball,
    CertificateLoss,
    GroupSort,
    LipschitzConv2d,
    LipschitzLinear,
    compare,
    lipschitz,
    one_lipschitz,
    plain,
    radius,
)


def layers() -> list[tuple[nn.Module, torch.Tensor]]:
    torch.manual_seed(0)
    x = torch.rand(3, 2, 6, 6)
    found = [
        (LipschitzLinear(7, 5), x.flatten(1)[:, :7]),
        (LipschitzLinear(5, 7, bias=False, kind="aol"), x.flatten(1)[:, :5]),
        (LipschitzConv2d(2, 4, 3, padding=1), x),
        (LipschitzConv2d(2, 3, (3, 2), stride=2, padding=(2, 0), bias=False), x),
    ]
    for layer, _ in found:
        for p in layer.parameters():
            p.data = p.data + torch.randn_like(p)
    return found


@pytest.mark.parametrize("which", range(4))
def test_a_layer_is_proved_1_lipschitz_whatever_its_parameter(which):
    layer, x = layers()[which]
    found = lipschitz(layer.eval(), sample=x)
    assert found.upper <= 1 + 1e-5 and found.lower > 0.5
    for scale in (1e-4, 1e4):
        layer.raw.data.mul_(scale)
        assert lipschitz(layer, sample=x).upper <= 1 + 1e-5
    if getattr(layer, "kind", "") == "orthogonal":
        w = layer.weight
        assert torch.linalg.matrix_norm(w @ w.T - torch.eye(5), 2) < 1e-3


@pytest.mark.parametrize("which", range(4))
def test_a_layer_copies_saves_differentiates_and_compiles(which):
    layer, x = layers()[which]
    expected = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), expected)
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    fresh = copy.deepcopy(layer)
    fresh.reset_parameters()
    fresh.load_state_dict(torch.load(buffer))
    assert torch.equal(fresh(x), expected)
    assert torch.equal(torch.func.functional_call(layer, dict(layer.named_parameters()), (x,)), expected)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(compiled, expected)
    assert torch.autograd.gradcheck(copy.deepcopy(layer).double(), (x[:1].double().requires_grad_(),))
    expected.sum().backward()
    assert torch.isfinite(layer.raw.grad).all() and layer.raw.grad.abs().max() > 0
    same = plain(layer)
    assert type(same) in (nn.Linear, nn.Conv2d) and torch.equal(same(x), expected)
    assert type(layer).__name__ in repr(layer)


def sorted_by_torch(x: torch.Tensor, size: int, dim: int) -> torch.Tensor:
    parts = x.movedim(dim, -1).unflatten(-1, (-1, size))
    return parts.sort(descending=True).values.flatten(-2).movedim(-1, dim)


@pytest.mark.parametrize(
    ("size", "dim", "shape"), [(2, 1, (3, 8)), (2, -1, (2, 3, 6)), (4, 1, (2, 8, 3, 2)), (5, -2, (2, 10, 3))]
)
def test_groups_are_sorted_as_torch_sorts_them_and_gradients_keep_their_length(size, dim, shape):
    torch.manual_seed(0)
    layer, x = GroupSort(size, dim), torch.randn(shape, requires_grad=True)
    expected = sorted_by_torch(x, size, dim)
    found = layer(x)
    assert torch.equal(found, expected) and f"size={size}, dim={dim}" in repr(layer)
    weight = torch.randn(shape)
    (found * weight).sum().backward()
    torch.testing.assert_close(x.grad.norm(), weight.norm())  # its Jacobian is a permutation
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), expected)
    assert layer.state_dict() == {} and torch.equal(torch.func.functional_call(layer, {}, (x,)), expected)
    each = torch.func.vmap(GroupSort(size, dim if dim < 0 else dim - 1))
    assert torch.equal(each(x), expected)
    _, moved = torch.func.jvp(layer, (x.detach(),), (torch.ones(shape),))
    assert torch.equal(moved, torch.ones(shape))


def test_a_sort_compiles():
    x = torch.randn(3, 8, 2)
    compiled = torch.compile(GroupSort(4), backend="aot_eager", fullgraph=True)(x)
    assert torch.equal(compiled, sorted_by_torch(x, 4, 1))


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_a_sort_is_proved_1_lipschitz_in_every_norm(norm):
    for layer in (GroupSort(), GroupSort(3)):
        found = lipschitz(layer.eval(), norm, sample=torch.randn(4, 6))
        assert found.lower == pytest.approx(1, abs=1e-8) and 1 <= found.upper <= 1 + 1e-12


class Sorted(nn.Module):
    """One sort in several places: by turns, twice in a row, beside a skip connection, and on channels of images."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv, self.head = nn.Linear(4, 6), nn.Conv1d(2, 2, 3, padding=1), nn.Linear(6, 3)
        self.sort = GroupSort()

    def forward(self, x):
        h = self.sort(self.sort(self.first(x)))
        h = h + 0.5 * self.sort(-h)
        return self.head(self.sort(self.conv(h.unflatten(1, (2, 3)))).flatten(1))


def test_a_network_with_sorts_has_its_product_and_a_smaller_layered_bound():
    torch.manual_seed(0)
    model, x = Sorted().eval(), torch.randn(5, 4)
    found = lipschitz(model, sample=x)
    conv = torch.eye(6).view(6, 2, 3)
    conv = F.conv1d(conv, model.conv.weight, padding=1).flatten(1)
    norms = [float(torch.linalg.matrix_norm(w.detach(), 2)) for w in (model.first.weight, conv, model.head.weight)]
    assert found.bounds["product"] == pytest.approx(1.5 * math.prod(norms), rel=1e-5)
    assert found.lower <= found.upper == found.bounds["layered"] <= 1.3 * found.lower
    near = lipschitz(model, region=Ball(x[:1], 1e-4))
    assert near.upper <= 1.01 * near.lower
    certified = compare(model, x, methods=("pairwise", "lipschitz", "crown"), progress=False)
    for answer in certified.values():
        assert (answer.radius > 0).all() and (answer.radius <= answer.attacked).all()


def test_sorts_train_and_their_certificate_is_proved():
    torch.manual_seed(0)
    x = torch.randn(200, 2)
    y = (x[:, 0] > 0).long()
    x[:, 0] += torch.where(y == 1, 0.3, -0.3)
    model = nn.Sequential(
        LipschitzLinear(2, 16), GroupSort(), LipschitzLinear(16, 16), GroupSort(4), LipschitzLinear(16, 2)
    )
    loss, optimiser = CertificateLoss(0.2, temperature=20), torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimiser.zero_grad()
        loss(model(x), y).backward()
        optimiser.step()
    assert lipschitz(model.eval()).upper <= 1 + 1e-5
    assert radius(model, x[:40], y[:40], method="lipschitz", progress=False).median() > 0.3


def test_parametrised_weights_are_read_as_the_numbers_they_are():
    linear = torch.nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))
    model = nn.Sequential(linear, nn.Tanh(), LipschitzLinear(4, 3)).eval()
    bare = plain(model)
    assert type(bare[0]) is nn.Linear and type(bare[2]) is nn.Linear and type(model[2]) is LipschitzLinear
    x = torch.rand(5, 4)
    torch.testing.assert_close(bare(x), model(x))
    assert lipschitz(model).upper <= 1 + 1e-5
    assert plain(bare) is bare


def test_training_towards_a_certificate_enlarges_it():
    torch.manual_seed(0)
    x = torch.randn(300, 2)
    y = (x.norm(dim=1) > 1.1).long()
    x = x * torch.where(y == 1, 1.15, 0.85).unsqueeze(1)
    found = {}
    for name, constrained in (("plain", False), ("1-Lipschitz", True)):
        torch.manual_seed(0)
        linear = LipschitzLinear if constrained else nn.Linear
        curve = one_lipschitz("abs")
        model = nn.Sequential(linear(2, 32), curve, linear(32, 32), curve, linear(32, 2))
        loss = CertificateLoss(0.1, temperature=20) if constrained else F.cross_entropy
        optimiser = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(150):
            optimiser.zero_grad()
            loss(model(x), y).backward()
            optimiser.step()
        found[name] = radius(model.eval(), x[:60], y[:60], method="lipschitz", progress=False)
    plain_one, constrained_one = found["plain"].summary(), found["1-Lipschitz"].summary()
    assert constrained_one.certified > 1.5 * plain_one.certified and constrained_one.accuracy > 0.85


def test_the_loss_is_cross_entropy_at_the_worst_logits():
    logits, y = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
    moved = logits.clone()
    moved[torch.arange(6), y] -= math.sqrt(2) * 0.3
    torch.testing.assert_close(CertificateLoss(0.3, 5)(logits, y), F.cross_entropy(5 * moved, y))
    torch.testing.assert_close(CertificateLoss(0.0, 1)(logits, y), F.cross_entropy(logits, y))


def test_refusals():
    with pytest.raises(ValueError, match=r"gelu has sup\|f'\| = 1\.12"):
        one_lipschitz("gelu")
    assert one_lipschitz("gelu(x)/1.13")(torch.tensor(0.0)) == 0
    with pytest.raises(ValueError, match="'orthogonal', 'aol'"):
        LipschitzLinear(2, 2, kind="spectral")
    with pytest.raises(ValueError, match="size must be a whole number >= 2, got 1"):
        GroupSort(1)
    with pytest.raises(ValueError, match=r"groups of 2 along dim 1, and 5 is no multiple"):
        GroupSort()(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="radius"):
        CertificateLoss(-1)
    with pytest.raises(ValueError, match="temperature"):
        CertificateLoss(0.1, 0)
