"""Attention and transformer layers in eval mode, instance norms: no sample leaves the bounds; masks; refusals."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import varphi as vp
from varphi.bounds import UncertifiedOperation

from .networks import Functional, assert_closes_on_the_value, assert_encloses, seeded

BLOCKED = torch.tensor([[False, True, False], [False, False, True], [True, False, False]])


class Attending(nn.Module):
    """nn.MultiheadAttention over three tokens of four features, called as a user calls it."""

    def __init__(self, call, **options) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)
        self.token = nn.Parameter(torch.zeros(1, 2, 4))
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.attention, x.tanh(), self.token.expand(x.shape[0], -1, -1))


class Classifier(nn.Module):
    """Patches, positions, two transformer layers, a mean and a head."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.position = nn.Parameter(torch.zeros(1, 3, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, **options)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x) + self.position).mean(1))


def fused(**options):
    def call(x: Tensor) -> Tensor:
        query, key, value = (f(x.unsqueeze(1).expand(-1, 2, -1, -1)) for f in (torch.sin, torch.tanh, torch.cos))
        return F.scaled_dot_product_attention(query, key, value, **options)

    return Functional(call)


MODELS = {
    "fused": fused(),
    "fused, scaled": fused(scale=0.7),
    "fused, causal": fused(is_causal=True),
    "fused, masked": fused(attn_mask=~BLOCKED),
    "fused, shifted": fused(attn_mask=torch.tensor([[0.5, -math.inf, 0.1], [0.0, 0.0, 0.3], [-0.2, 1.0, 0.0]])),
    "fused, without heads": Functional(lambda x: F.scaled_dot_product_attention(x, x.tanh(), x)),
    "fused, shared keys": Functional(
        lambda x: F.scaled_dot_product_attention(
            x.unsqueeze(1).expand(-1, 4, -1, -1), x.tanh().unsqueeze(1), x.unsqueeze(1), enable_gqa=True
        )
    ),
    "fused, learned keys": Attending(lambda _, x, t: F.scaled_dot_product_attention(x, t, t.sin())),
    "fused, learned queries": Attending(lambda _, x, t: F.scaled_dot_product_attention(t, x, x.sin())),
    "self": Attending(lambda m, x, _: m(x, x, x)[0]),
    "self, without weights": Attending(lambda m, x, _: m(x, x, x, need_weights=False)[0], bias=False),
    "weights": Attending(lambda m, x, _: m(x, x, x)[1]),
    "weights of each head": Attending(lambda m, x, _: m(x, x, x, average_attn_weights=False)[1].flatten(1)),
    "masked": Attending(lambda m, x, _: m(x, x, x, attn_mask=BLOCKED, need_weights=False)[0]),
    "cross": Attending(lambda m, x, t: m(t, x, x)[0]),
    "a memory": Attending(lambda m, x, t: m(x, t, t)[0]),
    "of other sizes": Attending(lambda m, x, _: m(x, x[..., :3], x[..., :2])[0], kdim=3, vdim=2),
    "classifier": Classifier(),
    "classifier, norms first": Classifier(norm_first=True, activation="gelu"),
    "classifier, another activation": Classifier(activation=nn.SiLU()),
}


@pytest.mark.parametrize("method", ["ibp", "crown"])
@pytest.mark.parametrize("what", MODELS)
def test_no_sample_leaves_the_bounds(what, method):
    model = seeded(copy.deepcopy(MODELS[what]))
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3))
    for radius, norm in ((0.0, 2), (0.01, 2), (0.2, math.inf)):
        assert_encloses(model, x, radius, norm, method)


@pytest.mark.parametrize("what", MODELS)
def test_bounds_close_on_the_value_as_the_region_shrinks(what):
    model = seeded(copy.deepcopy(MODELS[what])).double()
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert_closes_on_the_value(model, x)


def test_attention_stays_between_its_values():
    model = fused().eval()
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3))
    lower, upper = vp.bounds(model, x, 3.0, method="ibp")
    assert (lower >= -1.001).all()
    assert (upper <= 1.001).all()


def test_padding_is_left_out():
    """Tokens that a padding mask leaves out move nothing."""

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
            self.register_buffer("padding", torch.tensor([[False, False, True]]))

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x, src_key_padding_mask=self.padding.expand(x.shape[0], -1))[:, :2]

    model = seeded(Padded())
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3))
    radius = torch.zeros(2, 3, 4)
    radius[:, 2] = 5.0
    lower, upper = vp.bounds(model, x, radius)
    assert float((upper - lower).max()) < 1e-2
    assert ((lower <= model(x)) & (model(x) <= upper)).all()


NORMS = {
    "instances, 1": nn.Sequential(nn.Unflatten(1, (2, 6)), nn.InstanceNorm1d(2), nn.Flatten()),
    "instances, 2": nn.Sequential(nn.Unflatten(1, (2, 2, 3)), nn.InstanceNorm2d(2, affine=True), nn.Flatten()),
    "instances, 3": nn.Sequential(nn.Unflatten(1, (1, 2, 2, 3)), nn.InstanceNorm3d(1), nn.Flatten()),
    "statistics kept": nn.Sequential(
        nn.Unflatten(1, (2, 2, 3)), nn.InstanceNorm2d(2, affine=True, track_running_stats=True), nn.Flatten()
    ),
    "a function": Functional(lambda x: F.instance_norm(x.view(-1, 2, 6), eps=1e-3)),
}


@pytest.mark.parametrize("method", ["ibp", "crown"])
@pytest.mark.parametrize("what", NORMS)
def test_instance_norms(what, method):
    model = copy.deepcopy(NORMS[what]).train()
    x = torch.randn(2, 12, generator=torch.Generator().manual_seed(3))
    for _ in range(3):  # for the statistics that are kept
        model(2 * x + 1)
    model = seeded(model)
    for radius in (0.0, 0.02, 0.3):
        assert_encloses(model, x, radius, 2, method)
    assert_encloses(model, 100 + x, 0.02, math.inf, method)  # where a variance computed naively loses its digits


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.MultiheadAttention(4, 2), "tokens before the samples"),
        (nn.MultiheadAttention(4, 2, batch_first=True, add_bias_kv=True), "add_bias_kv"),
        (fused(attn_mask=torch.zeros(3, 3, dtype=torch.bool)), "leaves a query no key"),
        (
            fused(attn_mask=torch.zeros(2, 1, 3, 3) + torch.arange(2.0).view(2, 1, 1, 1)),
            "differs from sample to sample",
        ),
        (fused(dropout_p=0.1), "dropout"),
        (Functional(lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=x @ x.transpose(1, 2))), "depends on"),
        (nn.TransformerEncoderLayer(4, 2, 8), "tokens before the samples"),
    ],
)
def test_what_has_no_meaning_for_one_sample_is_refused(model, words):
    call = Functional(lambda x: model(x, x, x)[0]) if isinstance(model, nn.MultiheadAttention) else model
    if isinstance(model, nn.MultiheadAttention):
        call.model = model
    with pytest.raises(UncertifiedOperation, match=words):
        vp.bounds(call.eval(), torch.zeros(2, 3, 4), 0.1)
