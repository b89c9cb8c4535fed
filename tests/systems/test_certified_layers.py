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
    CertificateLoss,
    LipschitzConv2d,
    LipschitzLinear,
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
    with pytest.raises(ValueError, match="radius"):
        CertificateLoss(-1)
    with pytest.raises(ValueError, match="temperature"):
        CertificateLoss(0.1, 0)
