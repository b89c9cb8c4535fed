"""Many replicas of a model as one module: each is what the same model is alone."""

import copy
import io
import itertools
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from varphi.activation.layer import Activation
from varphi.activation.lookup import get
from varphi.activation.swapping import swap
from varphi.study import replicate
from varphi.study.optimisers import SGD, Adam
from varphi.study.replicas.chain import Chain


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.block = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.SiLU())
        self.head = nn.Linear(8, 3, bias=False)

    def forward(self, x):
        h = F.relu(self.stem(x))
        h = h + 0.5 * self.block(h)
        skip, h = h, self.block(h)
        h += skip
        return self.head(h * torch.sigmoid(h))


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        # Before a normalisation a bias has no effect, and its gradient is rounding alone, which Adam would blow up.
        self.first = nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular", bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 6, 3, stride=2, dilation=2, padding=2, groups=2)
        self.head = nn.Linear(6 * 2 * 2, 3)

    def forward(self, x):
        x = self.norm(self.first(x)).relu_()
        x = torch.tanh(self.second(x))
        return self.head(x.view(x.size(0), -1)) + self.head(x.reshape(x.shape[0], -1)) + self.head(torch.flatten(x, 1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.b.weight = self.a.weight
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.b(torch.tanh(self.a(self.a(x))))))


def mlp(activation=nn.Tanh):
    return nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 3))


def convolution_in_one_dimension():
    return nn.Sequential(
        nn.Conv1d(3, 4, 3, padding="same", padding_mode="reflect"),
        nn.GELU(),
        nn.AvgPool1d(2),
        nn.BatchNorm1d(4, momentum=None),
        nn.Flatten(),
        nn.Dropout(0.0),
        nn.Linear(12, 3),
    )


def learned():
    return nn.Sequential(nn.Linear(6, 8), get("swish", learn="beta"), nn.Linear(8, 3))


MODELS = {
    "mlp": (mlp, (6,)),
    "one layer": (lambda: nn.Linear(6, 3), (6,)),
    "ends in an activation": (lambda: nn.Sequential(nn.Linear(6, 3), nn.Softplus()), (6,)),
    "leaky": (lambda: mlp(lambda: nn.LeakyReLU(0.3)), (6,)),
    "more dimensions": (mlp, (2, 6)),
    "residual": (Residual, (6,)),
    "convolutions": (Convolutions, (2, 4, 4)),
    "convolution in one dimension": (convolution_in_one_dimension, (3, 6)),
    "tied": (Tied, (6,)),
    "learned": (learned, (6,)),
}
OPTIMISERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, 0.01),
}
SEEDS = (3, 0, 11)


def built(factory, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return factory().double()


def replicated(factory, seeds=SEEDS, **options):
    """Without a warning: batched layers. In float64, so that rounding stays small over steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replicas = replicate(factory, seeds, **options).double()
    assert replicas.how == "batched layers"
    return replicas


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def check_gradients(replicas, alone):
    for i, model in enumerate(alone):
        stacked = dict(replicas.stacked.named_parameters())
        for name, p in model.named_parameters():
            close(stacked[name].grad[i], p.grad)


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("model", MODELS)
def test_every_replica_is_the_model_trained_alone(model, optimiser, each):
    factory, shape = MODELS[model]
    replicas, alone = replicated(factory), [built(factory, seed) for seed in SEEDS]
    together = OPTIMISERS[optimiser](replicas.parameters())
    apart = [OPTIMISERS[optimiser](m.parameters()) for m in alone]
    for _ in range(4):
        x = torch.randn((3, 5, *shape) if each else (5, *shape), dtype=torch.float64)
        out = replicas(x, each=each)
        y = torch.randn_like(out)
        own = [m(x[i] if each else x) for i, m in enumerate(alone)]
        close(out, torch.stack(own))
        losses = (out - y).square().flatten(1).mean(1)
        close(losses, torch.stack([(o - t).square().mean() for o, t in zip(own, y, strict=True)]))
        together.zero_grad()
        losses.sum().backward()
        for o, t, optimise in zip(own, y, apart, strict=True):
            optimise.zero_grad()
            (o - t).square().mean().backward()
        check_gradients(replicas, alone)
        together.step()
        for optimise in apart:
            optimise.step()
    for i, m in enumerate(alone):
        found = replicas.module(i)
        assert type(found) is type(m)
        for (name, tensor), (same, expected) in zip(found.state_dict().items(), m.state_dict().items(), strict=True):
            assert name == same
            close(tensor, expected)
    x = torch.randn(5, *shape, dtype=torch.float64)
    close(replicas.eval()(x), torch.stack([m.eval()(x) for m in alone]))


@given(
    kind=st.sampled_from([nn.Conv1d, nn.Conv2d]),
    groups=st.sampled_from([1, 2]),
    bias=st.booleans(),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    padding=st.integers(0, 2),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    each=st.booleans(),
)
@settings(max_examples=25)
def test_convolutions_with_every_option(kind, groups, bias, stride, dilation, padding, mode, each):
    options = {"groups": groups, "bias": bias, "stride": stride, "dilation": dilation, "padding": padding}
    replicas = replicated(lambda: kind(2, 4, 3, padding_mode=mode, **options))
    alone = [built(lambda: kind(2, 4, 3, padding_mode=mode, **options), seed) for seed in SEEDS]
    x = torch.randn(*([3] if each else []), 2, 2, *[7] * (1 if kind is nn.Conv1d else 2), dtype=torch.float64)
    out = replicas(x, each=each)
    own = [m(x[i] if each else x) for i, m in enumerate(alone)]
    close(out, torch.stack(own))
    out.square().sum().backward()
    for o in own:
        o.square().sum().backward()
    check_gradients(replicas, alone)


@given(
    widths=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    names=st.lists(st.sampled_from([None, "tanh", "relu", "gelu", "softplus", "mish"]), min_size=4, max_size=4),
    rows=st.integers(1, 4),
    replicas_=st.integers(1, 3),
    bias=st.booleans(),
)
@settings(max_examples=25)
def test_chains_of_every_form(widths, names, rows, replicas_, bias):
    def factory():
        layers = []
        for (n, m), name in zip(itertools.pairwise(widths), names, strict=False):
            layers += [nn.Linear(n, m, bias=bias), *([get(name)] if name else [])]
        return nn.Sequential(*layers)

    replicas = replicated(factory, seeds=replicas_)
    alone = [built(factory, seed) for seed in range(replicas_)]
    x = torch.randn(replicas_, rows, widths[0], dtype=torch.float64, requires_grad=True)
    out = replicas(x, each=True)
    grad = torch.randn_like(out)
    (of_x,) = torch.autograd.grad(out, x, grad, retain_graph=True)
    out.backward(grad)
    for i, m in enumerate(alone):
        v = x[i].detach().requires_grad_()
        own = m(v)
        close(out[i], own)
        own.backward(grad[i])
        close(of_x[i], v.grad)
    check_gradients(replicas, alone)


# Speed comes from one autograd function; it must not be seen from outside ------------------------------------------


def chain_of(replicas):
    (step,) = replicas._program.steps
    assert isinstance(step.run, Chain)
    return step.run


def test_a_plain_chain_is_one_step():
    chain = chain_of(replicated(mlp))
    assert [p is None for _, p in chain.links] == [False, False, True]


def test_the_chain_differentiates_as_its_operations_do():
    replicas = replicated(mlp)
    chain = chain_of(replicas)
    x = torch.randn(3, 5, 6, dtype=torch.float64, requires_grad=True)
    weights = [t for layer, _ in chain.links for t in (layer.weight, layer.bias)]
    grad = torch.randn(3, 5, 3, dtype=torch.float64)
    found = torch.autograd.grad(chain(x), [x, *weights], grad)
    expected = torch.autograd.grad(chain.by_operations(x, weights), [x, *weights], grad)
    for a, b in zip(found, expected, strict=True):
        close(a, b)


def test_second_derivatives():
    replicas = replicated(mlp, seeds=2)
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: replicas(v, each=True), (x,))
    assert torch.autograd.gradgradcheck(lambda v: replicas(v, each=True), (x,))
    # A penalty on the slope, by the weights.
    (slope,) = torch.autograd.grad(replicas(x, each=True).sum(), x, create_graph=True)
    slope.square().sum().backward()
    for i in range(2):
        model = replicas.module(i)
        own = x[i].detach().requires_grad_()
        (slope,) = torch.autograd.grad(model(own).sum(), own, create_graph=True)
        slope.square().sum().backward()
        close(replicas.stacked.get_parameter("0.weight").grad[i], model.get_parameter("0.weight").grad)


def test_torch_func_goes_through():
    replicas = replicated(mlp)
    tensors = {name: p.detach() for name, p in replicas.named_parameters()}
    x = torch.randn(3, 5, 6, dtype=torch.float64)

    def loss(values, v):
        return torch.func.functional_call(replicas, values, (v,), {"each": True}).square().sum()

    found = torch.func.grad(loss)(tensors, x)
    replicas(x, each=True).square().sum().backward()
    for name, p in replicas.named_parameters():
        close(found[name], p.grad)
    _, tangent = torch.func.jvp(lambda v: replicas(v, each=True), (x,), (torch.ones_like(x),))
    expected = torch.stack([torch.func.jvp(replicas.module(i), (x[i],), (torch.ones_like(x[i]),))[1] for i in range(3)])
    close(tangent, expected)


def test_the_output_may_be_changed_in_place_and_the_graph_kept():
    replicas = replicated(mlp)
    x = torch.randn(5, 6, dtype=torch.float64)
    out = replicas(x)
    out.mul_(2)
    out.sum().backward(retain_graph=True)
    once = replicas.stacked.get_parameter("0.weight").grad.clone()
    replicas(x)
    out.sum().backward()
    close(replicas.stacked.get_parameter("0.weight").grad, 2 * once)


def test_a_gradient_through_weights_that_have_moved_on_is_refused():
    replicas = replicated(mlp)
    out = replicas(torch.randn(5, 6, dtype=torch.float64))
    optimiser = SGD(replicas.parameters(), 0.1)
    out.sum().backward(retain_graph=True)
    optimiser.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_inference_first_and_training_after():
    replicas, other = replicated(mlp), replicated(mlp)
    x = torch.randn(5, 6, dtype=torch.float64)
    with torch.inference_mode():
        seen = replicas(x)
    close(other(x), seen.clone())
    for one in (replicas, other):
        one(x).square().sum().backward()
    for p, q in zip(replicas.parameters(), other.parameters(), strict=True):
        close(p.grad, q.grad)


def test_a_single_row_without_a_batch():
    x = torch.randn(6, dtype=torch.float64)
    close(replicated(mlp)(x), torch.stack([built(mlp, s)(x) for s in SEEDS]))


def test_frozen_parameters_stay():
    def frozen():
        model = mlp()
        model[2].weight.requires_grad_(False)
        return model

    replicas = replicated(frozen)
    replicas(torch.randn(5, 6, dtype=torch.float64)).sum().backward()
    stacked = dict(replicas.stacked.named_parameters())
    assert stacked["2.weight"].grad is None
    assert stacked["2.bias"].grad is not None
    assert not replicas.module(0)[2].weight.requires_grad


# Activations ----------------------------------------------------------------------------------------------------------


class Calls(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = self.a(x)
        return torch.tanh(self.b(h.clamp(min=0)))


def test_weights_laid_anew_are_seen():
    replicas = replicated(mlp)
    x = torch.randn(5, 6, dtype=torch.float64)
    replicas(x)
    weight = replicas.stacked.get_parameter("2.weight")
    weight.data = weight.data.mT  # the same place in memory, other strides
    close(replicas(x), torch.stack([replicas.module(i)(x) for i in range(3)]))


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize(
    ("factory", "old"), [(mlp, None), (Calls, "relu"), (lambda: mlp(lambda: nn.ReLU(inplace=True)), "relu")]
)
def test_activations_are_put_in_replica_by_replica(factory, old, each):
    activations = ["gelu", "relu", get("softplus", beta=3.0), "x*exp(-x*x)"]
    replicas = replicated(factory, activations=activations, instead_of=old)
    assert len(replicas) == 12
    assert replicas.seeds == SEEDS * 4
    assert replicas.activations[:4] == ("gelu", "gelu", "gelu", "relu")
    assert replicas.activations[6] == "softplus(beta=3)"
    x = torch.randn((12, 5, 6) if each else (5, 6), dtype=torch.float64)
    out = replicas(x, each=each)
    out.square().sum().backward()
    alone = [swap(built(factory, s), old or "tanh", a) for a in activations for s in SEEDS]
    for i, model in enumerate(alone):
        own = model(x[i] if each else x)
        close(out[i], own)
        own.square().sum().backward()
        close(replicas.module(i)(x[i] if each else x), own)
    check_gradients(replicas, alone)


def test_what_activations_replace_must_be_clear():
    with pytest.raises(ValueError, match=r"2 kinds of activations.*instead_of"):
        replicate(Calls, 2, ["gelu"])
    with pytest.raises(ValueError, match="0 kinds of activations"):
        replicate(lambda: nn.Linear(2, 2), 2, ["gelu"])
    with pytest.raises(LookupError, match="stands nowhere"):
        replicate(mlp, 2, ["gelu"], instead_of="mish")
    with pytest.raises(TypeError, match="none are given"):
        replicate(mlp, 2, instead_of="tanh")
    with pytest.raises(ValueError, match="parameters to learn"):
        replicate(mlp, 2, [get("swish", learn="beta")])
    with pytest.raises(TypeError, match="a list of activations"):
        replicate(mlp, 2, "gelu")
    with pytest.raises(ValueError, match="activations is empty"):
        replicate(mlp, 2, [])


# Seeds and initial weights --------------------------------------------------------------------------------------------


def test_a_given_module_is_drawn_anew_and_left_alone():
    model = mlp()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    replicas = replicate(model, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    for i in range(3):
        torch.manual_seed(i)
        for name, p in mlp().named_parameters():
            assert torch.equal(p, replicas.stacked.get_parameter(name)[i])


class OwnParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(6))
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x * self.scale)


def test_weights_that_cannot_be_drawn_anew_are_refused():
    with pytest.raises(ValueError, match=r"the model \(OwnParameter\) has parameters of its own \(scale\)"):
        replicate(OwnParameter(), 2)
    with pytest.raises(ValueError, match=r"not alike: 0\.weight"):
        sizes = iter((3, 4))
        replicate(lambda: nn.Sequential(nn.Linear(2, next(sizes))), 2)
    with pytest.raises(TypeError, match="gave str"):
        replicate(lambda: "model", 2)
    with pytest.raises(TypeError, match="a model or a function"):
        replicate(3, 2)


@pytest.mark.parametrize("seeds", [0, [], [1, 1], True, "12", 1.5, [0.5]])
def test_seeds_are_checked(seeds):
    with pytest.raises((TypeError, ValueError), match="seed"):
        replicate(mlp, seeds)


def test_lazy_layers_are_refused():
    with pytest.raises(ValueError, match=r"0\.weight is not made before the first input"):
        replicate(lambda: nn.Sequential(nn.LazyLinear(3)), 2)


# As a module ----------------------------------------------------------------------------------------------------------


def as_one(replicas):
    parameters = list(replicas.parameters())
    ends = [p.data_ptr() + p.nbytes for p in parameters]
    return ends[:-1] == [p.data_ptr() for p in parameters[1:]]


@pytest.mark.parametrize("model", MODELS)
def test_copies_are_independent_and_equal(model):
    factory, shape = MODELS[model]
    replicas = replicated(factory)
    x = torch.randn(5, *shape, dtype=torch.float64)
    expected = replicas.eval()(x)
    copies = [copy.deepcopy(replicas), pickle.loads(pickle.dumps(replicas))]
    buffer = io.BytesIO()
    torch.save(replicas, buffer)
    buffer.seek(0)
    copies.append(torch.load(buffer, weights_only=False))
    with torch.no_grad():
        for p in replicas.parameters():
            p.zero_()
    for made in copies:
        assert as_one(made)
        assert torch.equal(made(x), expected)
        made.train()(x).sum().backward()
    fresh = replicated(factory, seeds=(5, 6, 7))
    fresh.load_state_dict(copies[0].state_dict())
    assert torch.equal(fresh.eval()(x), copies[0].eval()(x))


def test_moves_and_conversions():
    replicas = replicate(mlp, 3)
    x = torch.randn(5, 6)
    before = replicas(x)
    wide = copy.deepcopy(replicas).double()
    assert as_one(wide)
    torch.testing.assert_close(wide(x.double()).float(), before)
    assert copy.deepcopy(replicas).to("meta")(x.to("meta")).shape == (3, 5, 3)
    half = copy.deepcopy(replicas).bfloat16()
    torch.testing.assert_close(half(x.bfloat16()).float(), before, rtol=0.1, atol=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(replicas(x).float(), before, rtol=0.1, atol=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("model", MODELS)
def test_on_cuda(model):
    factory, shape = MODELS[model]
    replicas = replicated(factory).eval()
    x = torch.randn(5, *shape, dtype=torch.float64)
    expected = replicas(x)
    there = copy.deepcopy(replicas).cuda()
    found = there(x.cuda())
    torch.testing.assert_close(found.cpu(), expected)
    found.sum().backward()
    expected.sum().backward()
    for a, b in zip(there.parameters(), replicas.parameters(), strict=True):
        torch.testing.assert_close(a.grad.cpu(), b.grad)
    there.module(1)(x.cuda())


def test_under_torch_compile():
    replicas = replicated(mlp)
    x = torch.randn(3, 5, 6, dtype=torch.float64)
    compiled = torch.compile(replicas, backend="aot_eager")
    close(compiled(x, each=True), replicas(x, each=True))


def test_inputs_are_checked():
    replicas = replicated(mlp)
    with pytest.raises(ValueError, match=r"\(replicas, batch, ...\) for 3 replicas, got shape \(5, 6\)"):
        replicas(torch.zeros(5, 6, dtype=torch.float64), each=True)
    with pytest.raises(TypeError, match="takes 1 inputs, got 2"):
        replicas(torch.zeros(5, 6), torch.zeros(5, 6))
    with pytest.raises(IndexError, match="3 replicas, 0 to 2; got 3"):
        replicas.module(3)
    with pytest.raises(ValueError, match=r"takes inputs \(batch, channels, height, width\)"):
        replicated(Convolutions)(torch.zeros(2, 4, 4, dtype=torch.float64))


def test_dropout_is_drawn_for_each_replica_and_sample():
    replicas = replicate(lambda: nn.Sequential(nn.Dropout(0.5), nn.Identity()), 4)
    kept = replicas(torch.ones(50, 20)) != 0
    assert 0.4 < kept.float().mean() < 0.6
    assert not any(torch.equal(kept[0], kept[i]) for i in range(1, 4))
    assert bool((replicas.eval()(torch.ones(5, 2)) == 1).all())


@pytest.mark.parametrize("last", [nn.Identity, lambda: nn.Softmax(-1)])
@pytest.mark.filterwarnings("ignore:the replicas of Sequential run under")
def test_a_part_in_evaluation_mode_stays_so(last):
    def model():
        built = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5), last())
        built[0].eval()
        return built

    def kept(replicas):
        return [replicas.module(0)[i].training for i in range(2)]

    replicas = replicate(model, 2)
    assert kept(replicas) == [False, True]
    kept_share = (replicate(lambda: model().eval(), 2)(torch.ones(50, 20)) != 0).float().mean()
    assert kept_share == 1
    assert kept(replicas.train()) == [True, True]
    assert kept(replicas.eval()) == [False, False]
    assert torch.equal(replicas(torch.ones(4, 3))[0], model().eval()(torch.ones(4, 3)))


def test_what_it_is_is_shown():
    assert "3 replicas, batched layers" in repr(replicated(learned))
    assert "Conv2d" in repr(replicated(Convolutions))


# What is no known layer -----------------------------------------------------------------------------------------------


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 3), nn.Linear(4, 3)

    def forward(self, x, y):
        return (self.a(x) - self.b(y)) / 2 + 1


def test_models_with_two_inputs():
    replicas = replicated(Two)
    x, y = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    close(replicas(x, y), torch.stack([built(Two, s)(x, y) for s in SEEDS]))


def test_values_of_other_dimensions_meet_as_they_would_alone():
    class Broadcast(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x, y):
            return self.a(x) * self.b(y)

    replicas = replicated(Broadcast)
    x, y = torch.randn(5, 4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    close(replicas(x, y), torch.stack([built(Broadcast, s)(x, y) for s in SEEDS]))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x) if self.training else 2 * self.layer(x)


class Overwriting(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        h = self.layer(x)
        return h.view(-1, 6) + F.relu(h, inplace=True)


class Reshaping(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x).softmax(-1)


def hooked():
    model = mlp()
    model[0].register_forward_hook(lambda module, args, output: 2 * output)
    return model


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        (OwnParameter, "the model's own tensor scale"),
        (Branching, "another in training than in evaluation"),
        (Overwriting, "overwrites a tensor that is used again"),
        (Reshaping, "Tensor.softmax is not known"),
        (hooked, r"0 \(Linear\) has hooks"),
        (lambda: swap(Calls(), "relu", "gelu"), "exchanged by vp.swap"),
        (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))), "ParametrizedLinear"),
        (lambda: nn.Sequential(nn.Linear(6, 4), nn.PReLU(4), nn.GroupNorm(2, 4)), r"1 \(PReLU\) is not known"),
        (lambda: nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (5, 6))), "flatten from dimension 0"),
    ],
)
@pytest.mark.parametrize("each", [False, True])
def test_anything_else_runs_under_vmap_and_says_so(factory, reason, each):
    with pytest.warns(UserWarning, match=reason):
        replicas = replicate(factory, SEEDS).double()
    assert replicas.how.startswith("torch.func.vmap, because of")
    alone = [built(factory, seed) for seed in SEEDS]
    x = torch.randn((3, 5, 6) if each else (5, 6), dtype=torch.float64)
    for training in (True, False):
        replicas.train(training)
        out = replicas(x, each=each)
        own = [m.train(training)(x[i] if each else x) for i, m in enumerate(alone)]
        close(out, torch.stack(own))
    if any(True for _ in replicas.parameters()):
        out.square().sum().backward()
        for o in own:
            o.square().sum().backward()
        check_gradients(replicas, alone)
    again = copy.deepcopy(replicas)
    close(again(x, each=each), out)
    close(replicas.module(1).eval()(x[1] if each else x), own[1])


def test_a_random_slope_is_not_frozen_as_it_is_in_evaluation():
    with pytest.warns(UserWarning, match=r"1 \(RReLU\) is not known"):
        replicas = replicate(lambda: nn.Sequential(nn.Linear(6, 3), nn.RReLU()).eval(), 2)
    assert not replicas.training


def test_activations_under_vmap():
    with pytest.warns(UserWarning, match="Softmax"):
        replicas = replicate(lambda: nn.Sequential(mlp(), nn.Softmax(-1)), SEEDS, ["gelu", "relu"], instead_of="tanh")
    x = torch.randn(5, 6)
    out = replicas(x)
    for i in range(6):
        torch.testing.assert_close(out[i], replicas.module(i)(x))
    assert [type(replicas.module(i)[0][1]) for i in (0, 3)] == [Activation, Activation]
    assert replicas.module(3)[0][1].name == "relu"


def test_running_statistics_under_vmap_are_refused():
    with pytest.raises(ValueError, match=r"1 \(BatchNorm3d\) keeps running statistics"):
        replicate(lambda: nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2)), 2)


def test_the_face_of_study_needs_no_torch():
    script = "import sys, varphi.study; varphi.study.replicate; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Optimisers -----------------------------------------------------------------------------------------------------------

PAIRS = {
    "SGD": (SGD, torch.optim.SGD, {}),
    "SGD with momentum": (SGD, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
    "Adam": (Adam, torch.optim.Adam, {}),
    "Adam with decay": (Adam, torch.optim.Adam, {"betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.01}),
}


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("pair", PAIRS)
def test_a_rate_for_each_replica_is_torchs_optimiser_alone(pair, each):
    ours, theirs, options = PAIRS[pair]
    rates = [0.1, 0.003, 0.03] if each else 0.03
    replicas, alone = replicated(mlp), [built(mlp, seed) for seed in SEEDS]
    together = ours(replicas.parameters(), rates, **options)
    apart = [theirs(m.parameters(), rates[i] if each else rates, **options) for i, m in enumerate(alone)]
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(o, 8) for o in (together, *apart)]
    for step in range(8):
        x = torch.randn(5, 6, dtype=torch.float64)
        if step == 3:  # one layer stays once, and the optimiser goes through a state dict
            state = copy.deepcopy(together.state_dict())
            fresh = ours(replicas.parameters(), rates, **options)
            fresh.load_state_dict(state)
            schedules[0].optimizer = together = fresh
        together.zero_grad(set_to_none=step != 2)
        replicas(x).square().mean(dim=(1, 2)).sum().backward()
        if step == 3:
            replicas.stacked.get_parameter("2.bias").grad = None
        together.step()
        for model, optimiser in zip(alone, apart, strict=True):
            optimiser.zero_grad()
            model(x).square().mean().backward()
            if step == 3:
                model[2].bias.grad = None
            optimiser.step()
        for schedule in schedules:
            schedule.step()
    for i, model in enumerate(alone):
        for name, p in model.named_parameters():
            torch.testing.assert_close(replicas.stacked.get_parameter(name)[i], p, rtol=1e-7, atol=1e-8)


@given(
    cut=st.lists(st.booleans(), min_size=5, max_size=5),
    rates=st.lists(st.floats(0, 0.1), min_size=3, max_size=3),
    momentum=st.sampled_from([0.0, 0.9]),
)
@settings(max_examples=25)
def test_how_parameters_lie_changes_nothing(cut, rates, momentum):
    shapes = [(3, 2), (3,), (3, 4, 2), (3, 1), (3, 2)]
    values = [torch.randn(s, dtype=torch.float64) for s in shapes]
    flat = torch.cat([v.flatten() for v in values])
    pieces = flat.split([v.numel() for v in values])
    together = [
        nn.Parameter(p.view(s).clone() if c else p.view(s)) for p, s, c in zip(pieces, shapes, cut, strict=True)
    ]
    apart = [nn.Parameter(v.clone()) for v in values]
    optimisers = [SGD(parameters, rates, momentum) for parameters in (together, apart)]
    for _ in range(3):
        for q in apart:
            q.grad = torch.randn_like(q)
        room = torch.cat([q.grad.flatten() for q in apart]).split([v.numel() for v in values])
        for p, g in zip(together, room, strict=True):
            p.grad = g.view(p.shape)
        for optimiser in optimisers:
            optimiser.step()
    for p, q in zip(together, apart, strict=True):
        assert torch.equal(p, q)


def test_hooks_of_a_step_are_called():
    p = nn.Parameter(torch.ones(2, 3))
    p.grad = torch.ones_like(p)
    optimiser, seen = SGD([p], 1.0), []
    optimiser.register_step_pre_hook(lambda o, args, kwargs: seen.append("before"))
    optimiser.register_step_post_hook(lambda o, args, kwargs: seen.append(float(p.detach().sum())))
    optimiser.step()
    assert seen == ["before", 0.0]
    with torch.profiler.profile() as profile:
        optimiser.step()
    assert any("Optimizer.step#SGD" in event.key for event in profile.key_averages())


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_optimisers_are_pickled_and_copied(kind):
    replicas = replicated(mlp)
    x = torch.randn(5, 6, dtype=torch.float64)
    optimiser = kind(replicas.parameters(), [0.1, 0.2, 0.3])
    replicas(x).sum().backward()
    optimiser.step()
    again, same = copy.deepcopy((replicas, optimiser)), pickle.loads(pickle.dumps((replicas, optimiser)))
    for module, stepped in (again, same, (replicas, optimiser)):
        stepped.zero_grad()
        module(x).sum().backward()
        stepped.step()
    for p, q, r in zip(replicas.parameters(), again[0].parameters(), same[0].parameters(), strict=True):
        close(p, q)
        close(p, r)


def test_gradients_that_lie_elsewhere_are_found():
    replicas = replicated(mlp)
    optimiser = SGD(replicas.parameters(), 1.0)
    for apart in (False, True, False):
        before = [p.detach().clone() for p in replicas.parameters()]
        optimiser.zero_grad()
        replicas(torch.randn(5, 6, dtype=torch.float64)).square().sum().backward()
        if apart:
            for p in replicas.parameters():
                p.grad = p.grad.mT.contiguous().mT if p.dim() == 3 else p.grad.clone()
        optimiser.step()
        for p, old in zip(replicas.parameters(), before, strict=True):
            assert torch.equal(p, old - p.grad)


def test_an_optimiser_calls_its_closure():
    p = nn.Parameter(torch.ones(2, 3))

    def loss():
        value = (p**2).sum()
        value.backward()
        return value

    assert SGD([p], [0.5, 0.0]).step(loss) == 6
    assert torch.equal(p, torch.tensor([[0.0] * 3, [1.0] * 3]))


@pytest.mark.parametrize("lr", [-0.1, float("nan"), [0.1, -1.0, 0.1], [[0.1]]])
def test_learning_rates_are_checked(lr):
    with pytest.raises(ValueError, match="lr must be a finite number"):
        SGD([nn.Parameter(torch.ones(3, 2))], lr)


def test_as_many_rates_as_replicas():
    with pytest.raises(ValueError, match=r"2 learning rates do not fit parameters of shapes \(3, 2\)"):
        Adam([nn.Parameter(torch.ones(3, 2))], [0.1, 0.2])
    layer = nn.Embedding(3, 2, sparse=True)
    layer(torch.tensor([0])).sum().backward()
    with pytest.raises(ValueError, match="sparse"):
        Adam(layer.parameters()).step()
