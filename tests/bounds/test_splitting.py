"""Cells, decisions, radii and attacks: never against an input that is there, and exact where the answer is known."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor, nn

import varphi as vp
from varphi.bounds import Halfspaces, attack, certified_radius, decide
from varphi.bounds.arithmetic import Arithmetic
from varphi.bounds.graph import read
from varphi.bounds.question import inputs_of
from varphi.bounds.region import Cuts, region
from varphi.bounds.splitting import Search, is_unsafe

from .networks import Functional, assert_encloses, seeded

NORMS = (1, 2, math.inf)
FIRST = torch.tensor([[1.0, -1.0]])


def network(name: str, inputs: int = 3, width: int = 6, outputs: int = 2, seed: int = 0) -> nn.Sequential:
    layers = [nn.Linear(inputs, width), vp.get(name), nn.Linear(width, width), vp.get(name), nn.Linear(width, outputs)]
    return seeded(*layers, seed=seed)


def in_ball(centre: Tensor, radius: float, norm: float, count: int, generator: torch.Generator) -> Tensor:
    d = torch.randn(count, centre.numel(), generator=generator, dtype=torch.float64)
    d = d / d.norm(p=norm, dim=1, keepdim=True)
    return centre + d * radius * torch.rand(count, 1, generator=generator, dtype=torch.float64) ** 0.3


# ------------------------------------------------------------------------------------------------ cut regions


def cut_region(norm: float, normals: Tensor, limits: Tensor, centre: Tensor, radius: float, dtype: torch.dtype):
    whole = region(centre.to(dtype), radius, norm, Arithmetic(dtype, True))
    return type(whole)(
        whole.centre, whole.radius, whole.norm, whole.arithmetic, Cuts(normals.to(dtype), limits.to(dtype))
    )


@settings(max_examples=60)
@given(
    st.sampled_from(NORMS),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(0, 2**20),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_no_point_of_a_cut_ball_is_below_its_least_value(norm, n, cuts, seed, dtype):
    g = torch.Generator().manual_seed(seed)
    centre = torch.randn(1, n, generator=g, dtype=torch.float64).to(dtype).double()
    normals = torch.randn(1, cuts, n, generator=g, dtype=torch.float64).to(dtype)
    limits = (normals.double() @ centre.T)[..., 0] + torch.randn(1, cuts, generator=g, dtype=torch.float64) * 0.7
    limits = limits.to(dtype)
    rows = torch.randn(1, 5, n, generator=g, dtype=torch.float64).to(dtype)
    found = cut_region(norm, normals, limits, centre, 1.0, dtype).least(rows)[0].double()
    points = in_ball(centre[0], 1.0, norm, 3000, g)
    points = points[(points @ normals[0].double().T <= limits[0].double()).all(1)]
    if len(points):
        assert (points @ rows[0].double().T >= found - 1e-12).all()


@pytest.mark.parametrize("seed", range(5))
def test_one_cut_of_a_box_is_as_good_as_linear_programming(seed):
    g = torch.Generator().manual_seed(seed)
    centre = torch.randn(1, 5, generator=g, dtype=torch.float64)
    normal = torch.randn(1, 1, 5, generator=g, dtype=torch.float64)
    limit = (normal @ centre.T)[..., 0] - 0.4
    rows = torch.randn(1, 6, 5, generator=g, dtype=torch.float64)
    found = cut_region(math.inf, normal, limit, centre, 1.0, torch.float64).least(rows)[0]
    ends = np.stack([centre[0].numpy() - 1, centre[0].numpy() + 1], 1)
    exact = [linprog(r.numpy(), normal[0].numpy(), limit[0].numpy(), bounds=ends).fun for r in rows[0]]
    np.testing.assert_allclose(found.numpy(), exact, rtol=1e-9, atol=1e-9)


def test_one_cut_of_a_ball_is_exact():
    """Of the disc |x| <= 1 with x₁ <= -1/2, the least of x₂ is at the corner, -√3/2."""
    zero, normal = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    rows = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]], dtype=torch.float64)
    found = cut_region(2, normal, torch.tensor([[-0.5]]), zero, 1.0, torch.float64).least(rows)[0]
    torch.testing.assert_close(found, torch.tensor([-(0.75**0.5), -1.0, 0.5], dtype=torch.float64))


# ------------------------------------------------------------------------------------------------ searches


def search_of(model: nn.Module, x: Tensor, radius: float, norm: float, limits: Tensor) -> Search:
    number, inputs = inputs_of(model, x, radius, norm, None)
    with torch.no_grad():
        nodes = read(model, inputs.centre, number)
    return Search(nodes, inputs, FIRST.to(x.dtype).expand(len(x), 1, 2), limits.to(x.dtype).unsqueeze(1))


NAMES = ("relu", "tanh", "silu", "sin", "snake", "hard_tanh", "elu", "gaussian")
CASES = list(zip(NAMES, itertools.cycle(NORMS), itertools.cycle([3, 14, 2]), strict=False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("name", "norm", "inputs"), CASES)
def test_a_search_never_settles_a_question_with_a_bad_input(name, norm, inputs, dtype):
    """The limit is the least value that an attack reached: its input is bad by equality."""
    model = network(name, inputs).to(dtype)
    x = torch.randn(3, inputs, generator=torch.Generator().manual_seed(1), dtype=dtype)
    for radius in (0.05, 0.5):
        value = attack(model, x, radius, norm, FIRST.to(dtype), starts=8, steps=40).value
        task = search_of(model, x, radius, norm, value)
        while task.regions < 40:
            task.advance()
        assert not task.settled().any()
        assert task.least() <= 0


@pytest.mark.parametrize(("name", "norm", "inputs"), CASES)
def test_a_search_settles_what_is_true_by_a_margin(name, norm, inputs):
    model, x = network(name, inputs), torch.randn(3, inputs, generator=torch.Generator().manual_seed(1))
    value = attack(model, x, 0.2, norm, FIRST, starts=8, steps=40).value
    plain = vp.bounds(model, x, 0.2, norm, spec=FIRST).lower[:, 0].double()
    task = search_of(model, x, 0.2, norm, value - 0.1 * (value - plain) - 1e-3)
    while task.open and task.regions < 600:
        task.advance()
    assert task.settled().all()
    assert task.least() > 0


def test_a_search_reaches_the_least_value_of_a_small_network():
    """Against a grid of a million points of the square."""
    model, middle = network("relu", 2, 8), torch.zeros(1, 2)
    side = torch.linspace(-1, 1, 1001)
    with torch.no_grad():
        least = float((model(torch.cartesian_prod(side, side)) @ FIRST[0]).min())
    plain = float(vp.bounds(model, middle, 1.0, spec=FIRST).lower)
    assert plain < least
    task = search_of(model, middle, 1.0, math.inf, torch.tensor([least - 0.01 * (least - plain)]))
    while task.open and task.regions < 600:
        task.advance()
    assert task.settled().all()
    beyond = search_of(model, middle, 1.0, math.inf, torch.tensor([least]))
    while beyond.regions < 100:
        beyond.advance()
    assert not beyond.settled().any()


def test_split_bounds_enclose_and_are_no_looser():
    model, x = network("silu", 8), torch.randn(2, 8)
    assert_encloses(model, x, 0.4, 2, "crown-split", timeout=2.0)
    plain, split = (vp.bounds(model, x, 0.4, 2, method, timeout=1.0) for method in ("crown", "crown-split"))
    assert (split.lower >= plain.lower).all()
    assert (split.upper <= plain.upper).all()


# ------------------------------------------------------------------------------------------------ decisions


def test_decisions_of_all_kinds():
    model, x = network("tanh", 4), torch.randn(1, 4)
    found = attack(model, x, 0.3, 2, FIRST)
    value = float(found.value)
    below, above = torch.tensor([value - 0.02]), torch.tensor([value + 1e-3])
    holds = decide(model, x, 0.3, 2, [Halfspaces(FIRST, below)])
    assert (holds.status, holds.counterexample) == ("holds", None)
    assert holds.bound > 0
    assert holds.regions > 0
    violated = decide(model, x, 0.3, 2, [Halfspaces(FIRST, below), Halfspaces(FIRST, above)])
    assert violated.status == "violated"
    assert is_unsafe(model, violated.counterexample, [Halfspaces(FIRST, above)])
    assert float((violated.counterexample - x).double().norm()) <= 0.3
    assert decide(model, x, 0.3, 2, []).status == "holds"


def test_a_decision_without_time_says_so():
    model, x, told = network("sin", 14, 24), torch.randn(1, 14), []
    limit = attack(model, x, 6.0, 2, FIRST, starts=32, steps=200).value.float() - 0.5
    verdict = decide(model, x, 6.0, 2, [Halfspaces(FIRST, limit)], timeout=0.2, progress=lambda *now: told.append(now))
    assert verdict.status == "timeout"
    assert verdict.bound <= 0
    assert [regions for regions, _, _ in told][-1:] in ([], [verdict.regions])


def test_rows_of_one_part_must_fail_together():
    """y = x on [-1, 1]: no y is both <= -1/2 and >= 1/2, though each alone occurs."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False)).eval()
    model[0].weight.data.fill_(1.0)
    box = (torch.tensor([[-1.0]]), torch.tensor([[1.0]]))
    both = Halfspaces(torch.tensor([[1.0], [-1.0]]), torch.tensor([-0.5, -0.5]))
    assert decide(model, box, unsafe=[both]).status == "holds"
    either = [Halfspaces(r.view(1, 1), torch.tensor([-0.5])) for r in both.rows]
    for part in either:
        assert decide(model, box, unsafe=[part]).status == "violated"
    assert decide(model, box, unsafe=[Halfspaces(both.rows, torch.tensor([0.25, 0.25]))]).status == "violated"


def test_a_decision_about_a_kink_is_exact():
    """|x| on [-1, 1] falls to 0 and not below: known only once x is split at 0."""
    model = Functional(lambda x: x.abs()).eval()
    box = (torch.tensor([[-1.0]]), torch.tensor([[1.0]]))
    assert decide(model, box, unsafe=[Halfspaces(torch.ones(1, 1), torch.tensor([-1e-6]))]).status == "holds"
    assert decide(model, box, unsafe=[Halfspaces(torch.ones(1, 1), torch.tensor([0.0]))]).status == "violated"


@pytest.mark.parametrize("norm", NORMS)
def test_a_decision_without_activations_splits_the_inputs(norm):
    """x₁·x₂ over a ball, where there is no neuron to split: least -r²/2 in L2, -r²/4 in L1, -r² in L∞."""
    model = Functional(lambda x: x[:, :1] * x[:, 1:2]).eval()
    least = {1: -0.25, 2: -0.5, math.inf: -1.0}[norm]
    x = torch.zeros(1, 2, dtype=torch.float64)
    row = torch.ones(1, 1, dtype=torch.float64)
    for limit, status in ((least - 0.05, "holds"), (least + 0.01, "violated")):
        part = Halfspaces(row, torch.tensor([limit], dtype=torch.float64))
        assert decide(model, x, 1.0, norm, [part], timeout=30).status == status


def test_decisions_refuse_in_words():
    model, x = network("relu"), torch.zeros(2, 3)
    with pytest.raises(ValueError, match="about one sample, got a batch of 2"):
        decide(model, x, 0.1)
    with pytest.raises(ValueError, match=r"rows of part 1 must be \(rows, 2\)"):
        decide(model, x[:1], 0.1, 2, [Halfspaces(FIRST, torch.zeros(1)), Halfspaces(torch.ones(1, 3), torch.zeros(1))])
    with pytest.raises(ValueError, match=r"limits of part 0 must be \(1,\)"):
        decide(model, x[:1], 0.1, 2, [Halfspaces(FIRST, torch.zeros(2))])
    with pytest.raises(TypeError, match="finite floating-point"):
        decide(model, x[:1], 0.1, 2, [Halfspaces(FIRST, torch.tensor([math.nan]))])
    with pytest.raises(TypeError, match="part 0 is tuple"):
        decide(model, x[:1], 0.1, 2, [(FIRST, torch.zeros(1))])
    with pytest.raises(ValueError, match="arithmetic='float64'"):
        decide(model, x[:1], 0.1, 2, [Halfspaces(FIRST.double() / 3, torch.zeros(1))])
    with pytest.raises(ValueError, match="timeout must be"):
        decide(model, x[:1], 0.1, timeout=0)


# ------------------------------------------------------------------------------------------------ attacks, radii


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_attacks_stay_inside_and_find_the_corner_of_a_linear_model(norm, dtype):
    model = seeded(nn.Linear(6, 2)).to(dtype)
    x = (torch.randn(4, 6, generator=torch.Generator().manual_seed(2)) * 3).to(dtype)
    row = (model[0].weight[0] - model[0].weight[1]).double()
    dual = {1: math.inf, 2: 2, math.inf: 1}[norm]
    for radius in (0.0, 1e-6, 0.3):
        found = attack(model, x, radius, norm, FIRST.to(dtype))
        exact = (model(x).double() @ FIRST[0].double()) - radius * row.norm(p=dual)
        torch.testing.assert_close(found.value, exact.detach(), rtol=1e-3, atol=1e-4)
        for moved, centre in zip(found.x, x, strict=True):
            steps = [abs(Fraction(a) - Fraction(b)) for a, b in zip(moved.tolist(), centre.tolist(), strict=True)]
            size = max(steps) if norm == math.inf else sum(s if norm == 1 else s * s for s in steps)
            assert size <= (Fraction(radius) ** 2 if norm == 2 else Fraction(radius))


def test_attacks_in_boxes():
    model, lower = seeded(nn.Linear(3, 2)), torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    upper = lower + torch.tensor([0.0, 0.5, 1e-3], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"no number of torch\.float32 lies in"):
        attack(model, (lower, upper))
    found = attack(model, (lower.float(), upper.float()))
    assert ((lower.float() <= found.x) & (found.x <= upper.float())).all()
    with pytest.raises(ValueError, match=r"model\.eval"):
        attack(nn.Sequential(nn.Linear(3, 2), nn.Dropout()).train(), lower.float(), 0.1)
    with pytest.raises(ValueError, match="starts must be"):
        attack(model, lower.float(), 0.1, starts=0)


@pytest.mark.parametrize("norm", NORMS)
def test_the_radius_of_a_linear_classifier_is_its_distance(norm):
    model, x = seeded(nn.Linear(5, 2)), torch.randn(3, 5, generator=torch.Generator().manual_seed(3))
    row = (model[0].weight[0] - model[0].weight[1]).double()
    dual = {1: math.inf, 2: 2, math.inf: 1}[norm]
    exact = ((model(x).double() @ FIRST[0].double()) / row.norm(p=dual)).detach()
    found = certified_radius(model, x, FIRST, norm, tol=1e-3)
    right = exact > 0
    torch.testing.assert_close(found.certified[right], exact[right], rtol=5e-3, atol=1e-4)
    assert (found.certified[~right] == 0).all()
    assert (found.certified <= found.attacked).all()


def test_splitting_certifies_further_than_planes_and_no_further_than_the_attack():
    model, x = network("silu", 12, 8), torch.randn(3, 12, generator=torch.Generator().manual_seed(4))
    rows = FIRST * (model(x) @ FIRST[0]).sign().detach().view(-1, 1, 1)
    plain = certified_radius(model, x, rows, 2, tol=1e-2)
    split = certified_radius(model, x, rows, 2, "crown-split", tol=1e-2, effort=3, attacked=plain.attacked)
    assert (split.certified <= split.attacked).all()
    assert (split.certified >= 0.98 * plain.certified).all()
    assert split.certified.mean() > plain.certified.mean()
    bounded = nn.Sequential(nn.Linear(12, 2), nn.Tanh(), nn.Linear(2, 2, bias=False), nn.Linear(2, 2)).eval()
    bounded[3].bias.data[0] = 50.0  # no input changes the class
    nowhere = certified_radius(bounded, x, FIRST, 2, tol=1e-2)
    assert torch.isinf(nowhere.attacked).all()
    assert (nowhere.certified > 1e6).all()
    with pytest.raises(ValueError, match="attacked must be"):
        certified_radius(model, x, FIRST, 2, attacked=torch.zeros(9))
    with pytest.raises(ValueError, match="method is one of"):
        certified_radius(model, x, FIRST, 2, "exact")


def test_parts_of_a_disjunction_share_their_region():
    """What one pass settles is bounded once, however many parts there are; the rest is as if each were asked alone."""
    model, x = network("tanh", 4, 8), torch.randn(1, 4, generator=torch.Generator().manual_seed(6))
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5], [-1.0, -1.0]])
    near = attack(model, x, 0.4, 2, rows[[0]], starts=16, steps=60).value.float()
    far = [Halfspaces(r.view(1, 2), torch.tensor([-50.0 - i])) for i, r in enumerate(rows)]
    easy = decide(model, x, 0.4, 2, [*far, Halfspaces(rows, torch.full((4,), -60.0))])
    assert (easy.status, easy.regions) == ("holds", 1)
    hard = Halfspaces(rows[[0]], near - 0.01)
    alone, together = (decide(model, x, 0.4, 2, parts) for parts in ([hard], [*far, hard]))
    assert alone.status == together.status == "holds"
    assert together.regions <= alone.regions + 1
    assert decide(model, x, 0.4, 2, [*far, Halfspaces(rows[[0]], near + 0.01)]).status == "violated"
