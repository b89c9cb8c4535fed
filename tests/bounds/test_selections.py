"""Maxima, sorts and `where`: no sample leaves the bounds, intervals of free choices are exact, places are refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import varphi as vp
from varphi.bounds import UncertifiedOperation
from varphi.bounds.selections import _rounds
from varphi.systems import certified

from .networks import Functional, assert_encloses, seeded


class GroupSort(nn.Module):
    """As in 1-Lipschitz networks (Anil et al., ICML 2019): neighbours in order."""

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1, self.size).sort(-1)[0].flatten(1)


class MaxMin(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.cat([torch.maximum(a, b), torch.min(a, b)], 1)


class Unbound(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        a, b = x.view(x.shape[0], -1, 2).unbind(-1)
        return torch.max(a, b)


# Each chooses among inputs as they are: over a box, intervals of the choice are exact.
CHOICES = {
    "pairs in order": Functional(lambda x: x.view(-1, 3, 2).sort(-1)[0].flatten(1)),
    "five in order": Functional(lambda x: x[:, :5].sort(1, descending=True).values),
    "a middle dimension": Functional(lambda x: torch.sort(x.view(-1, 3, 2), dim=1)[0]),
    "the largest three": Functional(lambda x: x.topk(3, 1).values),
    "the smallest two": Functional(lambda x: x.topk(2, 1, largest=False)[0]),
    "maxmin": MaxMin(),
    "unbind": Unbound(),
    "max": Functional(lambda x: x.view(-1, 2, 3).max(2)[0]),
    "max, values": Functional(lambda x: torch.max(x.view(-1, 2, 3), dim=1, keepdim=True).values),
    "min": Functional(lambda x: x.min(dim=1).values),
    "amax": Functional(lambda x: x.view(-1, 2, 3).amax((1, 2))),
    "amin": Functional(lambda x: torch.amin(x.view(-1, 2, 3), 1, keepdim=True)),
    "constants": Functional(lambda x: torch.maximum(torch.arange(6.0) / 6, x)),
    "masked": Functional(lambda x: x.masked_fill(torch.tensor([True, False] * 3), 0.25)),
    "a fixed choice": Functional(lambda x: torch.where(torch.tensor([True, False] * 3), x, 2.0)),
}
CONDITIONS = {
    "another's sign": Functional(lambda x: torch.where(x.flip(1) > 0, x.sin(), x.cos())),
    "two compared": Functional(lambda x: torch.where(x.flip(1) > x, x.sin(), x.cos())),
    "a tensor compared": Functional(lambda x: torch.where(x < torch.arange(6.0) / 6, x.flip(1), x)),
    "constants first": Functional(lambda x: torch.where(x.flip(1) > 0.1, torch.arange(6.0), x.sin())),
    "a number": Functional(lambda x: torch.where(x.flip(1) >= 0.1, x, 0.5)),
    "two constants": Functional(lambda x: torch.where(x.flip(1) > x, torch.arange(6.0), 0.5)),
    "a column": Functional(lambda x: torch.where(x[:, :1] > 0, x.sin(), x.cos())),
    "a method": Functional(lambda x: x.sin().where(x.flip(1) > 0, x.cos())),
    "masked_fill": Functional(lambda x: x.masked_fill(x.flip(1) < 0, 0.25)),
    "one tensor": Functional(lambda x: torch.where(x > 0, x, 0.1 * x)),
    "a fixed choice": Functional(lambda x: torch.where(torch.tensor([True, False] * 3), x, x.flip(1).sin())),
}


def centres() -> Tensor:
    return torch.randn(3, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", ["ibp", "crown"])
@pytest.mark.parametrize("what", [*CHOICES, *CONDITIONS])
def test_no_sample_leaves_the_bounds(what, method):
    model = {**CHOICES, **CONDITIONS}[what].eval()
    for radius, norm in ((0.0, 2), (0.05, 2), (0.6, math.inf)):
        assert_encloses(model, centres(), radius, norm, method)
    assert_encloses(model, 100 + centres(), 0.05, 2, method)
    assert_encloses(model.double(), centres().double(), 0.3, 1, method)
    model.float()


@pytest.mark.parametrize("what", CHOICES)
def test_intervals_of_a_choice_are_exact(what):
    """It is monotone in each input: the ends are its values at the corners."""
    model, x = CHOICES[what].eval(), centres()
    lower, upper = vp.bounds(model, x, 0.3, method="ibp")
    torch.testing.assert_close(lower, model(x - 0.3), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(upper, model(x + 0.3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", [GroupSort(), GroupSort(3), MaxMin()], ids=["sort", "sort of three", "maxmin"])
def test_networks_that_sort(activation):
    model = seeded(nn.Linear(4, 12), activation, nn.Linear(12, 6), activation, nn.Linear(6, 3))
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    for norm in (2, math.inf):
        for method in ("ibp", "crown", "alpha-crown"):
            assert_encloses(model, x, 0.1, norm, method, optimise=2)
    tight, loose = (vp.bounds(model, x, 0.02, 2, method=m) for m in ("crown", "ibp"))
    assert float((tight.upper - tight.lower).max()) < 0.6 * float((loose.upper - loose.lower).max())


@pytest.mark.parametrize("what", CONDITIONS)
def test_a_condition_that_is_certain_chooses(what):
    """Far from where it changes, bounds are about those of the branch taken: no wider than its slope allows."""
    model, x = CONDITIONS[what].eval().double(), torch.tensor([[0.5, 0.9, 1.4, 2.0, 2.7, 3.5]], dtype=torch.float64)
    lower, upper = vp.bounds(model, x, 1e-4)
    assert float((upper - lower).max()) <= 2.1e-4
    model.float()


@pytest.mark.parametrize("count", range(1, 17))
def test_a_sorting_network_sorts(count):
    """Every sequence of 0 and 1, which suffices for all (Knuth, vol. 3, 5.3.4)."""
    bits = (torch.arange(2 ** min(count, 12)).unsqueeze(1) >> torch.arange(count)) & 1
    if count > 12:
        bits = torch.randint(0, 2, (4096, count), generator=torch.Generator().manual_seed(count))
    done = bits.clone()
    for turn in _rounds(count):
        low, high = ([pair[side] for pair in turn] for side in (0, 1))
        assert len({*low, *high}) == 2 * len(turn)
        first, second = done[:, low], done[:, high]
        done[:, low], done[:, high] = torch.minimum(first, second), torch.maximum(first, second)
    assert torch.equal(done, bits.sort(1).values)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.floats(-3, 3, width=32), min_size=4, max_size=4),
    st.lists(st.sampled_from([0.0, 1e-6, 0.01, 1.0]), min_size=4, max_size=4),
)
def test_planes_of_a_gate_hold_for_either_state(middle, half):
    """y = a·[b > 0] on boxes of every kind, a point and an end at 0 among them."""
    model = Functional(lambda x: torch.where(x[:, 2:] > 0, x[:, :2], 0.0)).eval()
    x, radius = torch.tensor([middle]), torch.tensor([half])
    spec = torch.tensor([[1.0, -1.0], [0.3, 2.0], [-1.0, -0.5]])
    lower, upper = vp.bounds(model, (x - radius, x + radius), spec=spec)
    share = torch.cat([torch.rand(400, 4), torch.randint(0, 2, (200, 4)).float()])
    samples = (x - radius) + share * 2 * radius
    samples = torch.minimum(torch.maximum(samples, x - radius), x + radius)
    y = model(samples).double() @ spec.double().T
    assert ((lower.double() <= y) & (y <= upper.double())).all()


def test_a_jump_has_no_lipschitz_constant():
    model = nn.Sequential(nn.Linear(6, 6), CONDITIONS["another's sign"])
    for region in (None, (centres()[:1] - 1, centres()[:1] + 1)):
        with pytest.raises(ValueError, match=r"no bounded slope|jump"):
            certified.lipschitz(model.eval(), region=region, sample=centres())


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: x.argmax(1), "argmax .*places jump"),
        (lambda x: torch.argsort(x, 1), "argsort .*places jump"),
        (lambda x: x.gather(1, x.max(1, keepdim=True)[1]), "gather of the places that max gives"),
        (lambda x: x.sort(1).indices.float(), "float of the places that sort gives"),
        (lambda x: x.max(), "max over all elements"),
        (lambda x: x.amax(0), "amax over the batch dimension"),
        (lambda x: x.amax(), "amax over the batch dimension"),
        (lambda x: x.sort(0)[0], "sort over the batch dimension"),
        (lambda x: x.repeat(1, 3).sort(1)[0], "sort of 18 elements"),
        (lambda x: x.unbind(0)[0], "unbind over the batch dimension"),
        (lambda x: x.masked_fill(torch.tensor([True, False] * 3), -math.inf).exp(), "inf or NaN"),
        (lambda x: torch.where(torch.tensor([[True], [False], [True]]), x, x.sin()), "differs from sample to sample"),
    ],
)
def test_what_jumps_or_mixes_samples_is_refused(f, words):
    with pytest.raises(UncertifiedOperation, match=words):
        vp.bounds(Functional(f).eval(), centres(), 0.1)
