"""Normalisations, softmax, attention, paddings and enlargements: no sample leaves the bounds, and they are not idle."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import varphi as vp

from .networks import Functional, assert_closes_on_the_value, assert_encloses, seeded


class Attention(nn.Module):
    """One head over three tokens, a residual and a normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, 4) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.unflatten(1, (3, 4))
        scores = self.query(h) @ self.key(h).transpose(1, 2) / 2
        h = self.norm(h + torch.softmax(scores, -1) @ self.value(h))
        return self.head(h.flatten(1))


class Decoder(nn.Module):
    """Transposed convolution, enlargement and padding."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=1)
        self.enlarge, self.edge = nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1)
        self.last = nn.Conv2d(4, 1, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.up(x))
        h = F.pad(self.edge(self.enlarge(h)), (1, 0, 0, 1), value=0.5)
        return self.last(F.interpolate(h, scale_factor=0.5, mode="bilinear", align_corners=False))


class Prepended(nn.Module):
    """A learned token before the input, as in transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        token = self.token.expand(x.shape[0], -1)
        return torch.cat([token, x, 2 * token, x.tanh()], 1)


class MixedTokens(nn.Module):
    """A constant matrix on the left."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        return (self.mix @ x.unsqueeze(2).expand(-1, -1, 3).sigmoid()).flatten(1)


MODELS = {
    "layer norm": nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2)),
    "layer norm without weights": nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6, elementwise_affine=False)),
    "rms norm": nn.Sequential(nn.Linear(4, 6), nn.RMSNorm(6), nn.Linear(6, 2)),
    "group norm": nn.Sequential(nn.Linear(4, 24), nn.Unflatten(1, (4, 6)), nn.GroupNorm(2, 4), nn.Flatten()),
    "softmax": nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3), nn.Softmax(1)),
    "log softmax": nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(-1)),
    "concatenation with constants": Prepended(),
    "maximum": Functional(lambda x: torch.maximum(x.tanh(), x.flip(1)) + torch.minimum(x, torch.ones(4) / 4)),
    "division": Functional(lambda x: x / (2 + x.flip(1).square())),
    "constant over": Functional(lambda x: torch.arange(4.0) / (3 + torch.tanh(x.flip(1) + x))),
    "matrix on the left": MixedTokens(),
    "matrices": Functional(lambda x: (x.view(-1, 2, 2) @ x.tanh().view(-1, 2, 2)).flatten(1)),
}


@pytest.mark.parametrize("method", ["ibp", "crown"])
@pytest.mark.parametrize("name", MODELS)
def test_no_sample_leaves_the_bounds(name, method):
    model = seeded(copy.deepcopy(MODELS[name]))
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(3))
    for radius in (0.0, 0.02, 0.5):
        assert_encloses(model, x, radius, 2, method)
    assert_encloses(model, 100 + x, 0.02, math.inf, method)  # where a variance computed naively loses its digits


@pytest.mark.parametrize("model", [Attention(), Decoder()], ids=["attention", "decoder"])
def test_whole_architectures(model):
    model = seeded(model)
    shape = (2, 12) if isinstance(model[0], Attention) else (2, 2, 4, 4)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    for norm in (2, math.inf):
        for radius in (0.001, 0.1):
            assert_encloses(model, x, radius, norm, "crown")


@pytest.mark.parametrize("name", MODELS)
def test_bounds_close_on_the_value_as_the_region_shrinks(name):
    model = seeded(copy.deepcopy(MODELS[name])).double()
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert_closes_on_the_value(model, x)


def test_layer_norm_is_charged_for_a_variance_that_cancels():
    model = seeded(nn.LayerNorm(4))
    x = torch.tensor([[1000.0, 1000.5, 999.0, 1001.0]])
    lower, upper = vp.bounds(model, x, 0.0)
    exact = seeded(nn.LayerNorm(4)).double()(x.double())
    assert ((lower.double() <= exact) & (exact <= upper.double())).all()


def test_softmax_knows_what_all_scores_share():
    """A shift of all scores together changes nothing: no spread of the bounds comes of it."""
    shifting = Functional(lambda x: torch.softmax(x[:, :1] + torch.tensor([0.0, 1.0, 2.0]), 1)).eval()
    with pytest.raises(vp.bounds.UncertifiedOperation, match="broadcasting"):
        vp.bounds(shifting, torch.zeros(1, 2), 1.0)
    shared = Functional(lambda x: torch.softmax(x[:, :1].expand(-1, 3) + torch.tensor([0.0, 1.0, 2.0]), 1)).eval()
    lower, upper = vp.bounds(shared, torch.zeros(1, 2), 1.0)
    assert float((upper - lower).max()) < 1e-3
