"""The lines in machine code against the same by torch's operations, and against ball arithmetic through both."""

import numpy as np
import pytest
import torch

import varphi as vp
from varphi.activation import backend
from varphi.activation.lookup import as_activation
from varphi.bounds.fused import _evaluate
from varphi.bounds.relaxation import envelope

# Smooth and kinked, with jumps, with many pieces, with pieces whose curvature is unknown, user's own.
NAMES = (
    *("relu", "tanh", "sigmoid", "softplus", "gelu", "silu", "sin", "mish", "softsign", "elu", "snake", "arctan"),
    *("gaussian", "hard_swish", "hard_shrink", "soft_shrink", "heaviside", "log_sigmoid", "selu", "celu", "cos"),
    *("x_plus_sin", "xielu", "swish", "relu6", "leaky_relu", "hard_tanh", "hard_sigmoid", "identity", "soft_clip"),
)
FORMULAS = ("sign(x) + x^2/9", "sin(3*x) + abs(x)", "where(x < 1, exp(x/3), 2 - x)", "x^4/50 - x^2")


def intervals(count: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    centre = torch.randn(count, generator=generator, dtype=torch.float64) * 4
    half = torch.exp(torch.rand(count, generator=generator, dtype=torch.float64) * 9 - 6)
    half[:9], half[9:20] = 0.0, 1e-9  # points, and intervals too narrow for a chord
    lower = (centre - half).to(dtype)
    return lower, torch.maximum(lower, (centre + half).to(dtype))


def functions() -> list[str]:
    return [n for n in NAMES if n in vp.names()] + list(FORMULAS)


def test_at_least_thirty_functions_are_compared():
    assert len(functions()) >= 30


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("f", functions())
def test_both_ways_agree(f, dtype):
    # More than a block, and not a whole number of vectors.
    count = 301
    lower, upper = intervals(count, dtype)
    found = envelope(as_activation(f), lower, upper)
    generator = torch.Generator().manual_seed(4)
    given = tuple(torch.randn(count, generator=generator).to(dtype) * 2 for _ in range(2))
    fused = found._fused(lower, upper, given, lower.shape)
    reference = found._by_tensors(lower, upper, given, lower.shape)
    for ours, theirs in zip(fused, reference, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
    # Best slopes may stop at another cutting plane, but not further from the best than is allowed for.
    middle = (lower.double() + upper.double()) / 2
    gaps = []
    for find in (found._fused, found._by_tensors):
        slopes, intercepts, _ = find(lower, upper, (None, None), lower.shape)
        gaps.append((slopes[1] - slopes[0]) * middle + intercepts[1] - intercepts[0])
    assert bool(((gaps[0] - gaps[1]).abs() <= 2e-3 * gaps[1].abs() + 1e-12).all())


@pytest.mark.parametrize("slope", ["lower", "upper"])
def test_one_slope_given(slope):
    lower, upper = intervals(50, torch.float64)
    found = envelope(vp.get("gelu"), lower, upper)
    s = torch.full_like(lower, 0.3)
    given = (s, None) if slope == "lower" else (None, s)
    both = (found._fused(lower, upper, given, lower.shape), found._by_tensors(lower, upper, given, lower.shape))
    fixed = found._by_tensors(lower, upper, (s, s), lower.shape)
    row = 0 if slope == "lower" else 1
    for slopes, intercepts, _ in both:
        torch.testing.assert_close(slopes[row], s)
        torch.testing.assert_close(intercepts[row], fixed[1][row], rtol=1e-13, atol=1e-13)


def test_many_slopes_of_one_interval():
    lower, upper = intervals(40, torch.float32)
    found = envelope(vp.get("silu"), lower, upper)
    given = (torch.linspace(-1, 1, 7).unsqueeze(1), torch.linspace(0, 2, 7).unsqueeze(1))
    shape = torch.Size((7, 40))
    fused = found._fused(lower, upper, given, shape)
    for ours, theirs in zip(fused, found._by_tensors(lower, upper, given, shape), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def test_more_pieces_than_a_round_of_tasks_holds():
    lower, upper = torch.tensor([-900.0, -3.0, 0.0]).double(), torch.tensor([900.0, 2.0, 800.0]).double()
    found = envelope(vp.get("sin"), lower, upper)
    fused = found._fused(lower, upper, (None, None), lower.shape)
    reference = found._by_tensors(lower, upper, (None, None), lower.shape)
    torch.testing.assert_close(fused[1], reference[1], rtol=1e-3, atol=1e-6)
    given = (torch.zeros(3).double(),) * 2
    ours, theirs = (f(lower, upper, given, lower.shape)[1] for f in (found._fused, found._by_tensors))
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def test_its_values_are_those_whose_error_was_measured():
    """The code at the address gives the bits of `derivatives`, also at the end of a vector and of a block."""
    for name in ("tanh", "silu", "gelu", "sin", "softplus"):
        activation = vp.get(name)
        x = torch.randn(133, dtype=torch.float64) * 5
        expected = activation.derivatives(x, 2)
        points, f, slope, bend = (np.zeros(133) for _ in range(4))
        for first in range(0, 133, 19):
            part = x.numpy()[first : first + 19].copy()
            points[: len(part)] = part
            _evaluate(backend.tower_address(activation.formula, 2), points, f, slope, bend, len(part))
            for row, got in zip(expected, (f, slope, bend), strict=True):
                assert np.array_equal(row.numpy()[first : first + 19], got[: len(part)])


def test_where_there_is_no_kernel_torch_does_the_same(monkeypatch):
    lower, upper = intervals(30, torch.float64)
    found = vp.relax("tanh", lower, upper)
    monkeypatch.setattr(backend, "_ENABLED", False)
    for ours, theirs in zip(vp.relax("tanh", lower, upper), found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
