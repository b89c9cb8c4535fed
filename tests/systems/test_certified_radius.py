"""Certified radii: against closed forms, brute force and attacks; refusals; what the answer says of itself."""

import itertools
import json
import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import varphi as vp
from varphi.bounds import UncertifiedOperation
from varphi.systems.certified import (
    Certificates,
    Nearest,
    SoundnessError,
    compare,
    lipschitz,
    nearest,
    radius,
)
from varphi.systems.certified.products import Constants

NORMS = (1, 2, math.inf)
METHODS = ("product", "pairwise", "lipschitz", "local-lipschitz", "ibp", "crown", "auto")


def network(*sizes: int, activation: str = "tanh", seed: int = 0, scale: float = 1.0) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for n, m in itertools.pairwise(sizes):
        linear = nn.Linear(n, m)
        linear.weight.data = torch.randn(m, n, generator=generator) * scale / math.sqrt(n)
        linear.bias.data = torch.randn(m, generator=generator) * 0.3
        layers += [linear, vp.get(activation)]
    return nn.Sequential(*layers[:-1]).eval()


def samples(count: int, width: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, width, generator=torch.Generator().manual_seed(seed))


def exact_of_linear(model: nn.Linear, x: torch.Tensor, norm: float) -> torch.Tensor:
    """min over rivals of margin / ‖w_y - w_j‖ in the dual norm."""
    w, b = model.weight.detach().double(), model.bias.detach().double()
    out = x.double() @ w.T + b
    y = out.argmax(1)
    dual = {1: math.inf, 2: 2, math.inf: 1}[norm]
    found = []
    for i, label in enumerate(y):
        rivals = [j for j in range(len(w)) if j != label]
        found.append(min((out[i, label] - out[i, j]) / (w[label] - w[j]).norm(p=dual) for j in rivals))
    return torch.stack(found)


@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_classifier_has_its_exact_radius_and_the_attack_finds_it(norm):
    model, x = network(6, 4), samples(12, 6)
    exact = exact_of_linear(model[0], x, norm)
    found = compare(model, x, norm=norm, methods=METHODS, tol=1e-3, progress=False)
    for method, answer in found.items():
        assert (answer.radius <= exact).all()
        if method != "product":
            assert answer.radius.numpy() == pytest.approx(exact.numpy(), rel=1e-2 if "local" in method else 2e-3)
    # Only for the worst pair of rows is the chapter's bound as good.
    assert (found["product"].radius < exact).all()
    assert (found["auto"].attacked >= exact * (1 - 1e-6)).all()
    assert found["auto"].attacked.numpy() == pytest.approx(exact.numpy(), rel=0.06 if norm == 1 else 0.01)


@pytest.mark.parametrize(("activation", "norm"), [("relu", 1), ("relu", 2), ("sin", math.inf), ("gelu", 2)])
def test_no_input_within_a_radius_has_another_class(activation, norm):
    model, x = network(2, 12, 12, 3, activation=activation, scale=2.0), samples(6, 2)
    found = compare(model, x, norm=norm, progress=False)
    angles = torch.linspace(0, 2 * math.pi, 361, dtype=torch.float64)
    ring = torch.stack([angles.cos(), angles.sin()], 1)
    ring = ring / torch.linalg.vector_norm(ring, ord=norm, dim=1, keepdim=True)
    wide = model.double()
    for answer in found.values():
        for share in (0.3, 0.7, 1 - 1e-9):
            inside = x.double().unsqueeze(1) + ring * (answer.radius * share).view(-1, 1, 1)
            classes = wide(inside.flatten(0, 1)).argmax(1).view(len(x), -1)
            assert (classes == answer.label.unsqueeze(1)).all()
    model.float()
    best = torch.stack([a.radius for a in found.values()]).amax(0)
    attacked = found["crown"].attacked
    assert (best <= attacked).all()
    # In the plane a fine ring finds the nearest adversarial input as well: the attack misses little.
    sizes = torch.linspace(0, 1, 150, dtype=torch.float64).unsqueeze(1) * attacked.clamp(max=5.0) * 1.05
    points = x.double() + sizes.view(150, 1, -1, 1) * ring.view(1, -1, 1, 2)
    classes = model.double()(points.view(-1, 2)).argmax(1).view(150, len(ring), len(x))
    other = (classes != found["crown"].label).any(1)
    first = torch.where(other, sizes, math.inf).amin(0)
    assert (attacked / first).median() < 1.03 and (attacked / first).max() < 1.5


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["relu", "softplus", "mish", "elu", "sigmoid"]), st.sampled_from(NORMS))
def test_better_methods_give_larger_radii_and_none_reaches_the_attack(seed, activation, norm):
    model, x = network(5, 8, 4, activation=activation, seed=seed, scale=2.0), samples(5, 5, seed)
    found = compare(model, x, norm=norm, attack_steps=30, progress=False)
    r = {name: answer.radius for name, answer in found.items()}
    slack, coarse = 1 + 1e-6, 1 + 5e-3  # of rounding, and of the search
    assert (r["product"] <= r["pairwise"] * slack).all() and (r["pairwise"] <= r["lipschitz"] * slack).all()
    assert (torch.maximum(r["crown"], r["lipschitz"]) <= r["auto"] * coarse).all()
    for answer in found.values():
        assert (answer.radius <= answer.attacked).all() and (answer.margin >= 0).all()


@pytest.mark.parametrize("norm", [2, math.inf])
def test_the_dear_methods_are_no_looser_than_what_they_build_on(norm):
    model, x = network(4, 6, 3, activation="sin", scale=2.5), samples(3, 4)
    dear = ("lipschitz", "local-lipschitz", "crown", "alpha-crown", "crown-split")
    r = {k: v.radius for k, v in compare(model, x, norm=norm, methods=dear, tol=1e-2, progress=False).items()}
    slack = 1 + 1e-6
    assert (r["lipschitz"] <= r["local-lipschitz"] * slack).all() and (r["crown"] <= r["alpha-crown"] * slack).all()
    assert (r["crown"] <= r["crown-split"] * slack).all()
    for cheap, better in (("lipschitz", "local-lipschitz"), ("crown", "alpha-crown"), ("crown", "crown-split")):
        assert r[better].sum() > r[cheap].sum()


def test_the_chapters_bound_is_its_formula():
    model, x = network(5, 8, 4), samples(6, 5)
    out = model(x).double().sort(1).values
    margin = out[:, -1] - out[:, -2]
    norms = [float(torch.linalg.matrix_norm(m.weight.detach().double(), 2)) for m in (model[0], model[2])]
    expected = margin / (math.sqrt(2) * math.prod(norms) * 1.0)
    found = radius(model, x, method="product", progress=False)
    assert found.radius.numpy() == pytest.approx(expected.detach().numpy(), rel=1e-5)
    last = model[2].weight.detach().double()
    y = model(x).argmax(1)
    pairs = (model(x).double().gather(1, y.unsqueeze(1)) - model(x).double()) / (
        norms[0] * torch.linalg.vector_norm(last[y].unsqueeze(1) - last, dim=-1)
    )
    expected = torch.where(torch.isfinite(pairs), pairs, math.inf).amin(1)
    found = radius(model, x, method="pairwise", progress=False)
    assert found.radius.numpy() == pytest.approx(expected.detach().numpy(), rel=1e-5)


def test_each_pair_of_classes_has_multipliers_of_its_own_computed_once_for_all_samples(monkeypatch):
    model, x = network(3, 4, 4, 3, activation="relu", scale=2.0), samples(150, 3)
    asked = []
    each = Constants.layered_each
    monkeypatch.setattr(Constants, "layered_each", lambda self, rows: asked.append(len(rows)) or each(self, rows))
    found = radius(model, x, method="lipschitz", progress=False)
    weights = [m.weight.detach().double() for m in (model[0], model[2], model[4])]
    # The worst slopes stand at their ends; one pair's largest gradient bounds what any proof can give.
    worst = torch.zeros(3, 3, dtype=torch.float64)
    for slopes in itertools.product((0.0, 1.0), repeat=8):
        d = torch.tensor(slopes, dtype=torch.float64)
        jacobian = weights[2] @ torch.diag(d[4:]) @ weights[1] @ torch.diag(d[:4]) @ weights[0]
        worst = torch.maximum(worst, (jacobian.unsqueeze(1) - jacobian).norm(dim=-1))
    out = model.double()(x.double())
    apart = (out.gather(1, found.label.unsqueeze(1)) - out).detach()
    best = (apart / worst[found.label]).masked_fill(apart == 0, math.inf).amin(1)
    assert (found.radius <= best).all() and (found.radius >= 0.9 * best).all()
    assert sum(asked) <= 3 and set(found.method) == {"layered"}


def test_a_misclassified_sample_has_radius_0_says_why_and_is_in_no_average():
    model, x = network(5, 8, 4), samples(6, 5)
    y = model(x).argmax(1)
    y[2] = (y[2] + 1) % 4
    found = radius(model, x, y, progress=False)
    assert found.radius[2] == 0 and not found.correct[2] and "misclassified" in found.reason[2]
    assert found.correct.sum() == 5 and found.summary().accuracy == pytest.approx(5 / 6)
    others = found.radius[found.correct].sort().values
    assert found.median() == pytest.approx(float(others[2]))
    assert found.certified_accuracy([0.0, 1e9]).tolist() == pytest.approx([5 / 6, 0])
    assert "misclassified" in found.table() and "accuracy 83.3%" in repr(found)
    none = radius(model, x, (model(x).argmax(1) + 1) % 4, progress=False)
    assert math.isnan(none.median()) and "none is classified correctly" in repr(none)


def test_the_answer_as_text_and_as_data():
    model, x = network(5, 8, 4), samples(12, 5)
    found = radius(model, x, progress=False)
    assert isinstance(found, Certificates) and len(found) == 12 and "no labels" in repr(found)
    assert "... 4 more" in found.table() and math.isnan(found.summary().accuracy)
    data = json.loads(found.to_json(adversarial=True))
    assert data["radius"] == found.radius.tolist() and len(data["adversarial"][0]) == 5
    assert data["summary"]["samples"] == 12 and data["summary"]["accuracy"] == "nan"
    assert set(found.seconds) == {"attack", "proof"} and any("rounding" in a for a in found.assumptions)
    moved = (found.adversarial.double() - x.double()).norm(dim=1)
    assert moved.numpy() == pytest.approx(found.attacked.numpy(), rel=1e-6)
    assert (model(found.adversarial).argmax(1) != found.label).all()


def test_a_clip_keeps_the_attack_inside_and_lets_the_proof_use_it():
    model, x = network(4, 8, 3, scale=2.0), samples(10, 4)
    for norm in (2, math.inf):
        free, kept = (radius(model, x, norm=norm, clip=c, progress=False) for c in (None, (0.0, 1.0)))
        assert (kept.adversarial >= 0).all() and (kept.adversarial <= 1).all()
        assert (kept.radius <= kept.attacked).all()
        assert any("(0.0, 1.0)" in a for a in kept.assumptions)
        if norm == math.inf:
            assert (kept.radius >= free.radius * (1 - 5e-3)).all() and (kept.radius > free.radius * 1.01).any()


def test_a_class_that_never_changes_is_certified_very_far():
    model = nn.Sequential(nn.Linear(3, 4), vp.get("sigmoid"), nn.Linear(4, 2)).eval()
    model[2].weight.data.mul_(1e-3)
    model[2].bias.data = torch.tensor([5.0, 0.0])
    found = radius(model, samples(2, 3), method="crown", progress=False)
    assert (found.radius > 1e4).all() and torch.isinf(found.attacked).all()
    assert "inf" in found.table()


def test_a_proof_beyond_an_attack_is_an_error(monkeypatch):
    model, x = network(5, 8, 4), samples(3, 5)

    def near(model, x, *args, **kwargs):
        return Nearest(x.clone(), torch.full((len(x),), 1e-6, dtype=torch.float64))

    monkeypatch.setattr(sys.modules["varphi.systems.certified.radius"], "nearest", near)
    with pytest.raises(SoundnessError, match="sample 0"):
        radius(model, x, method="lipschitz", progress=False)


def test_activations_that_are_unbounded_far_out_do_not_stop_the_search():
    model = nn.Sequential(nn.Linear(3, 4), vp.as_activation("exp(x)"), nn.Linear(4, 2)).eval()
    found = radius(model, samples(4, 3), method="crown", progress=False)
    assert (found.radius > 0).all() and (found.radius <= found.attacked).all()


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.first(x) * torch.sigmoid(self.second(x)))


def test_what_has_no_global_constant_is_certified_on_its_balls():
    torch.manual_seed(0)
    model, x = Gated().eval(), samples(4, 4)
    found = radius(model, x, progress=False)
    assert set(found.method) == {"crown"} and (found.radius > 0).all()
    local = radius(model, x, method="crown", progress=False)
    assert found.radius.numpy() == pytest.approx(local.radius.numpy(), rel=1e-2)
    with pytest.raises(UncertifiedOperation, match="give a region"):
        radius(model, x, method="lipschitz", progress=False)


class Noisy(nn.Module):
    def forward(self, x):
        return torch.stack([x, x], 1)


def test_what_cannot_be_certified_is_refused_in_words():
    model, x = network(5, 8, 4), samples(6, 5)
    y = model(x).argmax(1)
    cases = [
        (lambda: radius(model.train(), x), ValueError, r"model\.eval\(\)"),
        (lambda: radius(nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 4)), x), ValueError, "Dropout|0 is in training"),
        (lambda: radius(model, x * math.nan), ValueError, "NaN"),
        (lambda: radius(model, x.half()), TypeError, "float16"),
        (lambda: radius(model, x.to(torch.complex64)), TypeError, "complex64"),
        (lambda: radius(model, x.double()), ValueError, r"give x\.to\(torch\.float32\)"),
        (lambda: radius(model, x[0]), ValueError, "batch dimension"),
        (lambda: radius(model, x, y + 4), ValueError, "classes are 0 to 3"),
        (lambda: radius(model, x, y[:3]), ValueError, "6 samples"),
        (lambda: radius(model, x, y.float()), TypeError, "whole numbers"),
        (lambda: radius(model, x, norm=3), ValueError, "1, 2 or inf"),
        (lambda: radius(model, x, method="magic"), ValueError, "'crown-split'"),
        (lambda: radius(model, x, tol=0), ValueError, "tol"),
        (lambda: radius(model, x, clip=(1, 0)), ValueError, "lowest < highest"),
        (lambda: radius(model, x, clip=(0, 0.5)), ValueError, "outside clip"),
        (lambda: radius(model, x, clip=3), TypeError, "pair of numbers"),
        (lambda: radius(network(5, 4, 1), x), ValueError, "classes"),
        (lambda: radius(Noisy().eval(), x), ValueError, r"\(batch, classes\)"),
        (lambda: radius(lambda z: z, x), TypeError, r"torch\.nn\.Module"),
    ]
    for call, error, words in cases:
        model.eval()
        with pytest.raises(error, match=words):
            call()
    broken = network(5, 8, 4)
    broken[0].weight.data[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"0\.weight holds NaN"):
        radius(broken, x)


@pytest.mark.parametrize("norm", NORMS)
def test_the_attack_returns_inputs_of_another_class_at_the_distance_it_says(norm):
    model, x = network(6, 16, 5, activation="gelu", scale=2.0), samples(20, 6)
    y = model(x).argmax(1)
    found = nearest(model, x, y, norm)
    assert torch.isfinite(found.distance).all()
    assert (model(found.x).argmax(1) != y).all() and (model.double()(found.x.double()).argmax(1) != y).all()
    moved = torch.linalg.vector_norm((found.x.double() - x.double()), ord=norm, dim=1)
    assert (moved <= found.distance).all() and (found.distance <= moved * (1 + 1e-12)).all()
    again = nearest(model.float(), x, y, norm)
    assert torch.equal(again.distance, found.distance)


def test_layers_that_overwrite_their_input_leave_the_callers_alone():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.ReLU(), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    model = nn.Sequential(nn.ReLU(inplace=True), *plain[1:]).eval()
    x = torch.randn(6, 3)
    given = x.clone()
    found = radius(model, given, progress=False)
    assert torch.equal(given, x)
    torch.testing.assert_close(found.radius, radius(plain, x, progress=False).radius)
    assert lipschitz(model, sample=given).upper == pytest.approx(lipschitz(plain, sample=x).upper)
    assert torch.equal(given, x)
