"""Einstein sums: exact where they are linear, enclosing where tensors are multiplied, refused where samples mix."""

import math

import pytest
import torch
from torch import Tensor, nn

import varphi as vp
from varphi.bounds import UncertifiedOperation

from .networks import Functional, assert_encloses


class Contracted(nn.Module):
    """An equation over (batch, 4, 3), with a constant of shape (5, 3)."""

    def __init__(self, equation: str, *, constant_first: bool = False) -> None:
        super().__init__()
        self.equation, self.constant_first = equation, constant_first
        held = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
        self.weight = nn.Parameter(held)

    def forward(self, x: Tensor) -> Tensor:
        pair = (self.weight, x) if self.constant_first else (x, self.weight)
        return torch.einsum(self.equation, *pair)


class Mixed(nn.Module):
    """Two tensors that depend on the input, and a constant between them."""

    def __init__(self, equation: str) -> None:
        super().__init__()
        self.equation = equation
        self.weight = nn.Parameter(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum(self.equation, x, self.weight, x.tanh())


LINEAR = {
    "a matrix": Contracted("bij,kj->bki"),
    "the constant first": Contracted("kj,bij->bik", constant_first=True),
    "dots, implicit": Contracted("...j,kj"),
    "summed away": Contracted("bij,kj->b"),
    "permuted": Functional(lambda x: torch.einsum("bij -> bji", x)),
    "a diagonal": Functional(lambda x: torch.einsum("bii->bi", x[:, :3])),
    "a trace": Functional(lambda x: torch.einsum("bii->b", x[:, :3])),
    "repeated along one dimension": Functional(lambda x: torch.einsum("bij,ij->bi", x[:, :, :1], torch.ones(4, 3))),
    "a constant for every sample": Functional(lambda x: torch.einsum("bij,bij->bi", x, 2 + 0 * torch.ones(2, 4, 3))),
}
PRODUCTS = {
    "scores": Functional(lambda x: torch.einsum("bqd,bkd->bqk", x, x.tanh())),
    "dots": Functional(lambda x: torch.einsum("...qd,...kd->...qk", x, x.sin())),
    "implicit": Functional(lambda x: torch.einsum("...ij,...jk", x, x.transpose(1, 2).sin())),
    "its own square": Functional(lambda x: torch.einsum("bqd,bqd->bd", x, x)),
    "letters of one alone": Functional(lambda x: torch.einsum("bqd,bek->be", x, x.tanh())),
    "three": Functional(lambda x: torch.einsum("bqd,bqd,bkd->bkd", x, x.tanh(), x.sigmoid())),
    "one element along a dimension": Functional(lambda x: torch.einsum("bqd,bkd->bqk", x, x[:, :, :1].tanh())),
    "a constant between": Mixed("bqd,de,bke->bqk"),
    "a list": Functional(lambda x: torch.einsum("bqd,bqd->bq", [x, x.tanh()])),
}


@pytest.mark.parametrize("method", ["ibp", "crown"])
@pytest.mark.parametrize("what", LINEAR)
def test_a_linear_sum_is_bounded_exactly(what, method):
    model, x = LINEAR[what].eval(), torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    lower, upper = vp.bounds(model, x, 0.1, method=method)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z: model(torch.stack([z, z]))[0]))(x)
    reach = 0.1 * jacobian.flatten(-2).abs().sum(-1)
    with torch.no_grad():
        middle = model(x)
    for found, exact, side in ((lower, middle - reach, 1), (upper, middle + reach, -1)):
        torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-4)
        assert (side * (exact - found) >= -1e-7).all()


@pytest.mark.parametrize("method", ["ibp", "crown"])
@pytest.mark.parametrize("what", PRODUCTS)
def test_no_sample_leaves_the_bounds_of_a_product(what, method):
    model, x = PRODUCTS[what].eval(), torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    for radius, norm in ((0.0, 2), (0.05, math.inf), (0.5, 2)):
        assert_encloses(model, x, radius, norm, method)
    assert_encloses(model, 100 + x, 0.02, math.inf, method)


@pytest.mark.parametrize("what", PRODUCTS)
def test_bounds_of_a_product_close_on_its_value(what):
    model = PRODUCTS[what].eval().double()
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    widths = [float((upper - lower).max()) for lower, upper in (vp.bounds(model, x, r) for r in (1e-3, 1e-5))]
    assert widths[1] < widths[0] / 50
    model.float()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Functional(lambda x: torch.einsum("bij->ij", x)), "keep the samples apart"),
        (Functional(lambda x: torch.einsum("bij,cij->bc", x, x)), "keep the samples apart"),
        (Functional(lambda x: torch.einsum("bij->ibj", x)), "keep the samples apart"),
        (Functional(lambda x: torch.einsum("bij,bjk", x, x.transpose(1, 2))), "keep the samples apart"),
        (Functional(lambda x: torch.einsum("bij,b->bij", x, torch.arange(2.0))), "differs from sample to sample"),
    ],
)
def test_sums_that_mix_samples_are_refused(model, words):
    with pytest.raises(UncertifiedOperation, match=words):
        vp.bounds(model.eval(), torch.zeros(2, 4, 3), 0.1)


@pytest.mark.parametrize("method", ["ibp", "crown", "alpha-crown", "crown-split"])
def test_one_number_for_each_sample(method):
    """Models whose output has no dimension but the batch's."""
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    for f in (lambda x: x.tanh().sum(1), lambda x: x.sum(1).tanh(), lambda x: x.tanh()[:, 0] * x.sum(1)):
        lower, upper = vp.bounds(Functional(f).eval(), x, 0.1, method=method, timeout=0.5)
        assert lower.shape == (3,)
        samples = x + 0.1 * (2 * torch.rand(500, 3, 4) - 1)
        y = f(samples.flatten(0, 1)).view(500, 3)
        assert ((lower <= y) & (y <= upper)).all()
