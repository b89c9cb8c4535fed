"""Gradient health against what a pencil, a loop or autograd says."""

import copy
import functools
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import varphi as vp
from varphi.comparison.health import health, largest_slope, slope
from varphi.comparison.model import Source
from varphi.comparison.places import places
from varphi.comparison.watching import Watch, is_looked_at


def quiet(*args, **options):
    return vp.compare(*args, progress=False, **options)


def by_pencil():
    """Three units at known pre-activations: z = (x, -x - 3, x - 1) for x in {1, 2}."""
    model = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [-1.0], [1.0]]))
        model[0].bias.copy_(torch.tensor([0.0, -3.0, -1.0]))
        model[2].weight.copy_(torch.tensor([[2.0, 5.0, -1.0]]))
        model[2].bias.zero_()
    return model


def one_step(model):
    """Loss: the sum of outputs. One step of size 1 of gradient descent, then a second pass."""
    x = torch.tensor([[1.0], [2.0]])
    optimiser = torch.optim.SGD(model[0].parameters(), lr=1.0)
    for _ in range(2):
        optimiser.zero_grad()
        loss = model(x).sum()
        loss.backward()
        optimiser.step()
    return loss.item()


def test_figures_by_pencil(tmp_path):
    found = quiet(by_pencil, one_step, ["tanh"], storage=tmp_path / "a.db", seeds=2)
    layer = {layer.activation: layer for layer in found.health}["relu"]
    # Start: slopes (1, 0, [z=0: 0]) and (1, 0, 1): one unit is dead, half of the slopes are 0.
    assert (layer.place, layer.units, layer.dead.start) == ("1", 3, 1)
    assert layer.saturated.start == pytest.approx(3 / 6)
    assert layer.gradient.start == pytest.approx(math.sqrt(2**2 + 2**2 + 1**2))  # 2, 2 of unit 0; -1 of unit 2
    # The step: weights (1 - 2·(1+2), -1, 1 + 2) and biases (-2·2, -3, -1 + 1): z = (-5x - 4, -x - 3, 3x).
    assert layer.dead.end == 2 and layer.saturated.end == pytest.approx(4 / 6)
    assert layer.gradient.end == pytest.approx(math.sqrt(1 + 1), rel=1e-5)  # stored with six digits
    tanh = {layer.activation: layer for layer in found.health}["tanh"]
    z = np.array([[1.0, -4.0, 0.0], [2.0, -5.0, 1.0]])
    slopes = 1 - np.tanh(z) ** 2
    assert tanh.dead.start == 0
    assert tanh.saturated.start == pytest.approx((slopes < 1e-3).mean(), rel=1e-5)  # tanh'(-5) = 0.00018
    assert tanh.gradient.start == pytest.approx(np.sqrt(((slopes * [2, 5, -1]) ** 2).sum()), rel=1e-5)


def test_a_probe_is_measured_before_and_after_and_disturbs_nothing(tmp_path):
    batch = torch.tensor([[1.0], [2.0], [0.25]])
    calls = []

    def probe(model):
        calls.append(id(model))
        torch.rand(3)
        return model(batch).sum()

    def fit(model):
        with torch.no_grad():
            model[0].bias.sub_(100.0)  # now every unit is dead
        return torch.rand(()).item()

    with_probe = quiet(by_pencil, fit, ["tanh"], storage=tmp_path / "a.db", seeds=2, probe=probe)
    without = quiet(by_pencil, fit, ["tanh"], storage=tmp_path / "b.db", seeds=2)
    assert with_probe.values("relu").tolist() == without.values("relu").tolist() and len(calls) == 8
    layer = with_probe.health[0]
    assert (layer.activation, layer.dead.start, layer.dead.end) == ("relu", 1, 3)
    assert layer.gradient.start == pytest.approx(math.sqrt(3 * 4 + 1)) and layer.gradient.end == 0
    assert math.isnan(without.health[0].dead.start) and "not seen" in str(without)


def test_a_probe_without_a_loss_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"probe must return the loss on a batch.*got tensor\(\[0\.\]\)"):
        quiet(by_pencil, one_step, ["tanh"], storage=tmp_path / "a.db", seeds=2, probe=lambda model: torch.zeros(1))


# What is seen ---------------------------------------------------------------------------------------------------------


def watched(model, run):
    """The watch of a block, and the labels of the places."""
    found = places(model, vp.activations_in(model))
    with Watch(model, found) as watch:
        run(model)
    return watch, found


def backward(x):
    return lambda model: model(x).square().sum().backward()


@pytest.mark.parametrize("inplace", [False, True])
def test_an_activation_in_place_is_seen_as_it_was_before(inplace):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(inplace), nn.Linear(5, 2))
    x = torch.randn(7, 3)
    watch, found = watched(model, backward(x))
    figures = health(watch.first, len(found))
    z = model[0](x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model[2](torch.relu(z)).square().sum(), z)
    assert figures["gradient"][0] == pytest.approx(float(gradient.norm()), rel=1e-5)
    assert figures["saturated"][0] == pytest.approx(float((z <= 0).float().mean()))
    assert figures["dead"][0] == int((z <= 0).all(0).sum())


def test_calls_are_told_apart_by_module_and_line(tmp_path, toys):
    found = quiet(
        toys.Calls, lambda m: backward(torch.randn(6, 4))(m) or 1.0, ["tanh"], storage=tmp_path / "a", seeds=2
    )
    assert [p.path for p in found.places] == ["first", "second"]
    assert all("toy_model.py:" in p.label for p in found.places)
    layers = {(layer.activation, layer.place): layer for layer in found.health}
    torch.manual_seed(0)
    model = toys.Calls()
    torch.manual_seed(0)
    x = torch.randn(6, 4)
    z = model.first.linear(x)
    u = model.second.linear(F.relu(z))
    grads = torch.autograd.grad(F.relu(u).square().sum(), (z, u))
    for place, gradient in zip(found.places, grads, strict=True):
        assert found.figure("relu", "start", "gradient")[0][found.places.index(place)] == pytest.approx(
            float(gradient.norm()), rel=1e-5
        )
        assert layers["relu", place.label].units == 4 and layers["tanh", place.label].units == 4


def test_units_are_channels_after_a_convolution_and_features_after_a_linear_layer():
    model = nn.Sequential(nn.Conv1d(2, 5, 3), nn.ReLU(), nn.Flatten(1), nn.Linear(20, 7), nn.ReLU())
    watch, found = watched(model, backward(torch.randn(3, 2, 6)))
    assert health(watch.first, len(found))["units"].tolist() == [5, 7]
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
    watch, found = watched(model, backward(torch.randn(3, 9, 4)))  # (batch, tokens, features)
    assert health(watch.first, len(found))["units"].tolist() == [6]


def test_a_module_that_is_used_twice_is_one_place():
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(2, 3), act, nn.Linear(3, 4), act)
    watch, found = watched(model, backward(torch.randn(5, 2)))
    assert len(found) == 1 and health(watch.first, 1)["units"].tolist() == [7]


def test_only_training_is_looked_at_and_a_smaller_last_batch_is_left_out():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    sizes = []

    def run(model):
        for size in (8, 6, 8, 3):
            with torch.no_grad():
                model(torch.randn(50, 2))
            model(torch.randn(40, 2))  # no backward
            backward(torch.randn(size, 2))(model)
            sizes.append(size)

    watch, _ = watched(model, run)
    assert watch.calls == 12 and (watch.first.samples, watch.last.samples) == (8, 8)
    assert watch.first is not watch.last and watch.nonfinite == 0


def test_what_is_kept_last_lies_in_the_last_sixteenth():
    looked_at = [n for n in range(1, 5000) if is_looked_at(n)]
    assert looked_at[:31] == list(range(1, 32))
    for n in range(1, 5000):
        last = max(k for k in looked_at[: n + 1] if k <= n)
        assert n - last < n / 16
    assert len(looked_at) < 31 + 16 * 8
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    seen = []

    def run(model):
        for n in range(1, 71):
            seen.append(n)
            backward(torch.full((3, 1), float(n)))(model)

    watch, _ = watched(model, run)
    expected = max(k for k in looked_at if k <= 70)
    assert torch.equal(watch.last.sights[0].inputs, model[0](torch.full((3, 1), float(expected))))
    assert len(seen) == 70 > expected == 68


def test_a_model_may_be_copied_pickled_and_compiled_while_it_is_watched():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))

    def run(model):
        x = torch.randn(4, 2)
        backward(x)(model)
        backward(x)(copy.deepcopy(model))
        backward(x)(pickle.loads(pickle.dumps(model)))
        torch.func.vmap(model)(x)
        torch.func.grad(lambda v: model(v).sum())(x)

    watch, _ = watched(model, run)
    assert watch.first is watch.last and watch.first.samples == 4
    assert not nn.modules.module._global_forward_hooks and not nn.modules.module._global_forward_pre_hooks


def test_a_compiled_training_gives_the_same_numbers_unseen(tmp_path, recwarn):
    def fit(model, step):
        torch.manual_seed(0)
        step(model)(torch.randn(6, 2)).square().mean().backward()
        return float(model[0].weight.grad.norm())

    def build():
        return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))

    compiled = functools.partial(fit, step=functools.partial(torch.compile, backend="aot_eager"))
    found = quiet(build, compiled, ["tanh"], storage=tmp_path / "a.db", seeds=2)
    plain = quiet(build, functools.partial(fit, step=nn.Sequential), ["tanh"], storage=tmp_path / "a.db", seeds=2)
    assert found.values("tanh") == pytest.approx(plain.values("tanh"), rel=1e-5)
    assert math.isnan(found.health[0].units) and plain.health[0].units == 3
    assert not [w for w in recwarn if "global hooks" in str(w.message)]
    assert [c.nonfinite for c in found.costs] == [0, 0]


def test_the_watch_changes_no_number():
    def trained(watch):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True), nn.Linear(3, 1))
        optimiser = torch.optim.Adam(model.parameters())

        def run(model):
            for _ in range(5):
                optimiser.zero_grad()
                backward(torch.randn(6, 2))(model)
                optimiser.step()

        watched(model, run) if watch else run(model)
        return [p.tolist() for p in model.parameters()]

    assert trained(True) == trained(False)


def test_a_learned_slope_of_the_model_s_own_stays_learned_and_is_seen(tmp_path):
    def build():
        return nn.Sequential(nn.Linear(2, 4), nn.PReLU(4), nn.Linear(4, 1))

    own = []

    def fit(model):
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            backward(torch.randn(8, 2))(model)
            optimiser.step()
        own.append(model[1]._get_name())
        return 1.0

    found = quiet(build, fit, ["tanh"], storage=tmp_path / "a.db", seeds=2)
    assert own == ["PReLU", "tanh"] * 2 and found.baseline == "prelu"
    assert found.health[0].dead.start == 0 and found.health[0].units == 4


def test_transformers_are_watched_inside(tmp_path):
    def build():
        return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    found = quiet(build, lambda m: backward(torch.randn(3, 5, 8))(m) or 1.0, ["gelu"], storage=tmp_path / "a", seeds=2)
    assert [p.label for p in found.places] == ["activation"]
    assert [(layer.activation, layer.units) for layer in found.health] == [("relu", 16), ("gelu", 16)]
    assert all(layer.gradient.start > 0 for layer in found.health)


# Slopes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "gelu", "softplus", "tanh", "selu"])
@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.floats(-50, 50, width=32), min_size=6, max_size=6))
def test_figures_are_those_of_a_loop(name, values):
    x = torch.tensor(values).reshape(3, 2)
    activation = vp.get(name)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(activation(leaf).sum(), leaf)
    found = slope(activation, x)
    assert torch.equal(found, expected)
    model = nn.Sequential(nn.Identity(), activation)
    watch, where = watched(model, lambda m: m(x.clone().requires_grad_()).sum().backward())
    figures = health(watch.first, len(where))
    dead = sum(all(float(expected[i, j]) == 0 for i in range(3)) for j in range(2))
    low = sum(abs(float(v)) < 1e-3 * largest_slope(activation) for v in expected.flatten())
    assert (figures["dead"][0], figures["saturated"][0]) == (dead, pytest.approx(low / 6))
    assert figures["gradient"][0] == pytest.approx(float(expected.double().norm()), rel=1e-5, abs=1e-30)


@pytest.mark.parametrize(
    ("module", "largest"),
    [
        (nn.ReLU(), 1.0),
        (nn.Sigmoid(), 0.25),
        (nn.LeakyReLU(3.0), 3.0),
        (nn.PReLU(2, init=2.0), 2.0),
        (vp.get("silu"), 1.0998393),
        (vp.as_activation("x^2"), 1.0),  # unbounded
        (vp.get("softplus", learn="beta"), 1.0),
    ],
)
def test_the_largest_slope(module, largest):
    assert largest_slope(module) == pytest.approx(largest, rel=1e-6)


def test_a_swapped_candidate_has_the_weights_of_the_original():
    source = Source(by_pencil, "relu")
    from varphi.comparison.candidates import candidates

    for candidate in candidates(["tanh", "gelu"], "relu"):
        model = source.with_candidate(candidate, 4)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), by_pencil().parameters(), strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu(tmp_path):
    def fit(model):
        return backward(torch.randn(6, 4, device="cuda"))(model) or 1.0

    def build():
        return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1)).cuda()

    found = quiet(build, fit, ["tanh"], storage=tmp_path / "a.db", seeds=2)
    assert found.finished == ("relu", "tanh") and found.health[0].units == 5


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_number_formats(dtype, tmp_path):
    def build():
        return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1)).to(dtype)

    def fit(model):
        return backward(torch.randn(6, 4, dtype=dtype))(model) or 1.0

    found = quiet(build, fit, ["tanh", "gelu"], storage=tmp_path / "a.db", seeds=2)
    assert found.finished == ("relu", "tanh", "gelu") and all(layer.gradient.start > 0 for layer in found.health)
