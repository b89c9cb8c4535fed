"""The passes in machine code against the same by torch's operations in float64, and against their own definitions."""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import varphi as vp
from varphi.bounds import backward
from varphi.bounds.arithmetic import Arithmetic
from varphi.bounds.crown import Pass
from varphi.bounds.nodes import Drawn
from varphi.bounds.region import _least
from varphi.bounds.region import region as region_of

from .networks import seeded

SOUND = Arithmetic(torch.float32, True)
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 37))


def numbers(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(SHAPES, st.booleans(), st.booleans(), st.sampled_from([torch.float32, torch.float64]))
@settings(deadline=None, max_examples=30)
def test_coefficients_through_planes(sizes, shared, mirrored, dtype):
    batch, rows, n = sizes
    a = numbers(1 if shared else batch, rows, n, seed=1).to(dtype)
    planes = [numbers(batch, n, seed=s).to(dtype) for s in range(2, 6)]
    pulled, constant = backward.pull(a, *planes, mirrored)
    slope, bend, shift, drop = (p.double().unsqueeze(1) for p in planes)
    whole = torch.cat([a, -a], 1).double() if mirrored else a.double()
    tight = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 40 * torch.finfo(dtype).eps}
    torch.testing.assert_close(pulled.double(), whole * slope + whole.abs() * bend, **tight)
    torch.testing.assert_close(constant.double(), (whole * shift + whole.abs() * drop).sum(-1), **tight)


def test_planes_with_gradients_go_through_torch():
    planes = [numbers(2, 3, seed=s) for s in range(4)]
    slope = planes[0].unsqueeze(1)
    drawn = Drawn((slope,), (planes[1].unsqueeze(1),), planes[2], planes[3], compiled=True)
    a = numbers(2, 4, 3, seed=9)
    (plain,), constant = drawn.back(a, mirrored=True)
    (other,), same = drawn.back(a.requires_grad_(), mirrored=True)
    assert other.requires_grad and not plain.requires_grad
    torch.testing.assert_close(plain, other.detach())
    torch.testing.assert_close(constant, same.detach())


@given(SHAPES, st.sampled_from([1.0, 2.0, math.inf, "box"]), st.booleans())
@settings(deadline=None, max_examples=40)
def test_least_values_over_a_set(sizes, norm, shared):
    batch, rows, n = sizes
    a = numbers(1 if shared else batch, rows, n, seed=1)
    radius = numbers(batch, n, seed=3).abs() if norm == "box" else numbers(batch, seed=3).abs()
    dual = {1.0: math.inf, 2.0: 2.0, math.inf: 1.0, "box": 1.0}[norm]
    given = (a, numbers(batch, n, seed=2), radius)
    lost = numbers(batch, seed=4).abs()
    found = backward.least(*given, dual, 1e-3, lost)
    expected = _least(*(t.double() for t in given), dual, 1e-3, lost.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-5)


def test_norms_of_tiny_numbers_do_not_vanish():
    # Their squares are 0 in float32, and a bound that leaves them out is above the least value.
    x, size = torch.zeros(1, 16), 1e-21
    inputs = region_of(x, 1.0, 2, SOUND)
    a = torch.full((1, 1, 16), size)
    exact = -size * 4
    assert float(inputs.least(a)) <= exact
    with mock.patch.object(backward, "readable", return_value=False):
        assert float(region_of(x, 1.0, 2, SOUND).least(a)) <= exact


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 7), st.booleans())
@settings(deadline=None, max_examples=30)
def test_a_sum_of_terms_is_below_the_exact_one(count, batch, rows, wide):
    terms = [numbers(batch if wide or not i else 1, rows, seed=i) * 10.0**i for i in range(count)]
    exact = sum(t.double() for t in terms)
    found = backward.below_sum(terms, 1e-15, SOUND.eps)
    assert found.shape == exact.shape and bool((found.double() <= exact).all())
    size = sum(t.double().abs() for t in terms)
    assert bool((found.double() >= exact - size * 3 * SOUND.eps).all())


def test_what_enclosures_have_in_common():
    low, high = torch.tensor([[0.0, -1.0, 2.0]]), torch.tensor([[1.0, 5.0, 3.0]])
    # Below x, then below -x: [-1, .5], [0, 9], [4, 6].
    found = torch.tensor([[-1.0, 0.0, 4.0, -0.5, -9.0, -6.0]])
    lower, upper, crossed = backward.meet(found, low, high)
    assert lower.tolist() == [[0.0, 0.0, 4.0]] and upper.tolist() == [[0.5, 5.0, 4.0]]
    assert crossed.tolist() == [True]
    assert backward.meet(found[:, [0, 1, 3, 4]], low[:, :2], high[:, :2])[2].tolist() == [False]


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("name", ["relu", "tanh", "silu", "sin", "hard_swish"])
def test_a_whole_call_agrees_with_torch(name, norm):
    model = seeded(nn.Linear(5, 9), vp.get(name), nn.Linear(9, 8), vp.get(name), nn.Linear(8, 3))
    x = numbers(4, 5, seed=0)
    for arithmetic in ("sound32", "fast", "float64"):
        with torch.no_grad():
            ours = vp.bounds(model, x, 0.3, norm, arithmetic=arithmetic)
            with mock.patch.object(backward, "readable", return_value=False):
                theirs = vp.bounds(model, x, 0.3, norm, arithmetic=arithmetic)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3)


def test_memory_is_used_again_only_when_nobody_has_it():
    a, weight = numbers(600, 64, seed=1), numbers(64, 64, seed=2)
    first = backward.product(a, weight)
    row = first[3:4]  # a view holds the memory too
    second = backward.product(2 * a, weight)
    assert second.data_ptr() != first.data_ptr()
    torch.testing.assert_close(second, 2 * first)
    place, kept = first.data_ptr(), row.clone()
    del first
    third = backward.product(3 * a, weight)
    assert third.data_ptr() != place
    torch.testing.assert_close(row, kept)
    del row, third, second
    assert backward.product(a, weight).data_ptr() in {b.ctypes.data for b in backward._kept.blocks}
    with_gradient = backward.product(a.requires_grad_(), weight)
    with_gradient.sum().backward()
    torch.testing.assert_close(a.grad, weight.sum(1).expand_as(a))


def test_threads_have_memory_of_their_own():
    a, weight = numbers(600, 64, seed=1), numbers(64, 64, seed=2)
    expected = a @ weight
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda k: backward.product(k * a, weight) / k, [1.0, 2.0, 4.0, 8.0] * 8):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("norm", [1, 2, math.inf, "box"])
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("sides", ["both", "lower"])
def test_layers_at_once_are_layers_one_by_one(norm, depth, sides):
    sizes = [5, 9, 8, 7, 6][: depth + 1]
    hidden = [m for n, k in pairwise(sizes) for m in (nn.Linear(n, k, bias=k != 8), vp.get("tanh"))]
    model = seeded(*hidden, nn.Linear(sizes[-1], 3))
    x = numbers(4, 5, seed=0)
    radius = numbers(4, 5, seed=1).abs() / 9 if norm == "box" else 0.2
    options = {"norm": math.inf if norm == "box" else norm, "spec": numbers(4, 2, 3, seed=2), "sides": sides}
    at_once = vp.bounds(model, x, radius, **options)
    with mock.patch.object(Pass, "_fallen", return_value=None) as stepped:
        one_by_one = vp.bounds(model, x, radius, **options)
    assert stepped.called
    for ours, theirs in zip(at_once, one_by_one, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)


def test_what_is_no_row_of_dense_layers_goes_step_by_step():
    conv = seeded(nn.Conv1d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(6, 2))
    dense = seeded(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    with mock.patch.object(backward, "fall", wraps=backward.fall) as fall:
        vp.bounds(conv, numbers(2, 1, 5, seed=0), 0.1)
        vp.bounds(dense, numbers(2, 3, seed=0), 0.1, method="ibp")
        vp.bounds(dense, numbers(2, 6, 3, seed=0), 0.1)  # several tokens for each sample
        assert not fall.called
        vp.bounds(dense, numbers(2, 3, seed=0), 0.1)
        assert fall.called
