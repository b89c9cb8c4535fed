"""What a figure shows, and over which window."""

import math

import pytest
import torch

import varphi as vp
from varphi.report.curves import curves, window


@pytest.mark.parametrize("activation", [vp.get("gelu"), vp.get("softplus", beta=3.0), vp.get("tanh")])
def test_curves_are_the_layer_and_its_derivatives(activation: vp.Activation) -> None:
    x = torch.linspace(-5, 5, 41, dtype=torch.float64)
    expected = activation.derivatives(x, 2)
    drawn = torch.tensor([[curve(v) for v in x.tolist()] for curve in curves(activation, 2)], dtype=torch.float64)
    torch.testing.assert_close(drawn, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("features", [[], [0.0], [-1.0, 1.0], [math.inf, 0.5], [math.nan]])
def test_the_usual_window(features: list[float]) -> None:
    assert window(features) == (-4, 4)


@pytest.mark.parametrize("features", [[-40.0], [-55.0, -40.0], [0.0, 6.0], [0.01, 0.02], [1e3, 1.1e3]])
def test_the_window_holds_its_features_with_room(features: list[float]) -> None:
    low, high = window(features)
    assert low < min(features)
    assert max(features) < high
    assert high - low < 10 * max(1e-9, max(features) - min(features), max(map(abs, features)))


def test_a_lonely_feature_far_out_is_left_out() -> None:
    assert window([-1.0, 0.0, 1.0, 1e300]) == (-4, 4)
