"""Layers whose rules have a transpose of their own: padding, convolutions and transposed ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import varphi as vp
from varphi.bounds import UncertifiedOperation

torch.manual_seed(0)
LAYERS = {
    "transposed, 1": (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (4, 5)),
    "transposed, 2": (nn.ConvTranspose2d(2, 3, (3, 2), stride=(2, 1), dilation=(1, 2)), (2, 4, 5)),
    "transposed, 3": (nn.ConvTranspose3d(1, 2, 2, bias=False), (1, 2, 3, 2)),
    "convolved, 1": (nn.Conv1d(4, 6, 3, stride=3, padding=2, groups=2), (4, 9)),
    "convolved, to one channel": (nn.Conv2d(1, 3, (3, 2), stride=(2, 3), padding=(1, 0), dilation=(1, 2)), (1, 6, 7)),
    "convolved, to many": (nn.Conv2d(5, 2, (1, 2), stride=2, dilation=2), (5, 2, 4)),
    "convolved, in groups": (nn.Conv2d(2, 4, 2, groups=2), (2, 3, 4)),
    "convolved, as large": (nn.Conv2d(2, 2, 3, padding="same"), (2, 3, 4)),
    "convolved, one side more": (nn.Conv2d(2, 2, 2, padding="same"), (2, 3, 4)),
    "convolved, within": (nn.Conv1d(2, 2, 2, padding="valid", stride=2), (2, 5)),
    "convolved, 3": (nn.Conv3d(1, 2, 2, stride=2, padding=1), (1, 2, 3, 2)),
    "zeros": (nn.ZeroPad2d((1, 0, 2, 1)), (2, 3, 4)),
    "constants": (nn.ConstantPad1d((0, 2), 0.7), (2, 3)),
    "mirrored": (nn.ReflectionPad2d(1), (1, 3, 2)),
    "repeated": (nn.ReplicationPad1d((2, 0)), (2, 3)),
    "around": (nn.CircularPad1d(1), (2, 3)),
    "enlarged": (nn.Upsample(scale_factor=2), (1, 2, 3)),
    "interpolated": (nn.Upsample(size=(5, 3), mode="bilinear", align_corners=True), (1, 2, 3)),
    "shuffled": (nn.PixelShuffle(2), (4, 1, 2)),
}


class Padded(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(torch.tanh(x), (1, 1), value=-0.3)


@pytest.mark.parametrize("method", ["ibp", "crown"])
@pytest.mark.parametrize("what", LAYERS)
def test_bounds_of_a_linear_layer_are_attained(what, method):
    """Over a box every output of a linear layer is bounded exactly, up to rounding."""
    layer, shape = LAYERS[what]
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(layer, nn.Flatten()).eval()
    lower, upper = vp.bounds(model, x, 0.1, method=method)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z: model(z.unsqueeze(0))[0]))(x)
    reach = 0.1 * jacobian.flatten(2).abs().sum(-1)
    with torch.no_grad():
        middle = model(x)
    torch.testing.assert_close(lower, middle - reach, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(upper, middle + reach, rtol=1e-4, atol=1e-4)
    assert (lower <= middle - reach + 1e-7).all()
    assert (upper >= middle + reach - 1e-7).all()


def test_padding_after_an_activation():
    x = torch.randn(1, 2, 3)
    lower, upper = vp.bounds(Padded().eval(), x, 0.2)
    assert torch.allclose(lower[..., 0], torch.tensor(-0.3))
    assert (lower[..., 1:-1] <= torch.tanh(x - 0.2) + 1e-6).all()
    assert (upper[..., 1:-1] >= torch.tanh(x + 0.2) - 1e-6).all()


def test_padding_of_the_batch_is_refused():
    with pytest.raises(UncertifiedOperation, match="padding of the batch dimension"):
        vp.bounds(nn.ConstantPad2d(1, 0.0).eval(), torch.randn(2, 3), 0.1)
