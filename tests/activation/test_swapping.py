import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.func import functional_call, hessian, jacrev, vmap
from torch.utils.checkpoint import checkpoint

from varphi.activation.lookup import get
from varphi.activation.swapping import NothingToSwap, swap
from varphi.activation.uses import activations_in


def by_item(x):
    x = x * 1
    x[x < 0] = 0
    return x


RELU = {
    "F.relu": lambda x: F.relu(x),
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": lambda x: F.relu_(x),
    "torch.relu": lambda x: torch.relu(x),
    "torch.relu_": lambda x: torch.relu_(x),
    "x.relu()": lambda x: x.relu(),
    "x.relu_()": lambda x: x.relu_(),
    "aten": lambda x: torch.ops.aten.relu(x),
    "clamp(min=0)": lambda x: x.clamp(min=0),
    "clamp(0.0)": lambda x: torch.clamp(x, 0.0),
    "clamp_": lambda x: x.clamp_(min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "maximum, zeros_like": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum, zeros": lambda x: torch.maximum(torch.zeros(x.shape), x),
    "maximum, tensor": lambda x: torch.maximum(x, torch.tensor(0.0)),
    "max": lambda x: torch.max(x, torch.zeros(1)),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "where, zeros_like": lambda x: torch.where(x <= 0, torch.zeros_like(x), x),
    "x * (x > 0)": lambda x: x * (x > 0),
    "float mask": lambda x: (x > 0).to(x.dtype) * x,
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.0),
    "by item": by_item,
    "half of x + abs": lambda x: (x + x.abs()) / 2,
    "threshold": lambda x: F.threshold(x, 0, 0),
    "leaky_relu(0)": lambda x: F.leaky_relu(x, 0.0),
    "hardtanh": lambda x: F.hardtanh(x, 0.0, float("inf")),
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU(inplace)": nn.ReLU(inplace=True),
    "nn.Threshold": nn.Threshold(0, 0),
    "nn.LeakyReLU(0)": nn.LeakyReLU(0.0),
}


class Net(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.act = activation

    def forward(self, x):
        return self.c(self.act(self.b(self.act(self.a(x)))))


class Branching(Net):
    """torch.fx cannot read this forward."""

    def forward(self, x):
        h = self.act(self.a(x))
        if h.sum() > -1e9:
            h = self.act(self.b(h))
        return self.c(h)


def inputs() -> torch.Tensor:
    return torch.randn(16, 4, generator=torch.Generator().manual_seed(0))


def softplus3(x):
    return F.softplus(x, 3.0)


def results(model, *arguments):
    """The output of a model and the gradients of its parameters."""
    model.zero_grad()
    out = model(*arguments)
    out.square().sum().backward()
    return [out.detach(), *[p.grad.clone() for p in model.parameters()]]


def by_hand(model, activation):
    twin = copy.deepcopy(model)
    twin._modules.pop("act", None)
    twin.act = activation
    return twin


@pytest.mark.parametrize("kind", [Net, Branching])
@pytest.mark.parametrize("spelling", RELU)
def test_every_spelling_of_relu_becomes_the_model_written_with_softplus(spelling, kind):
    torch.manual_seed(0)
    model = kind(RELU[spelling])
    before = copy.deepcopy(model.state_dict())
    swapped = swap(model, "relu", "softplus", beta=3.0, inputs=(inputs(),))
    torch.testing.assert_close(results(swapped, inputs()), results(by_hand(model, softplus3), inputs()))
    assert list(swapped.state_dict()) == list(before)
    torch.testing.assert_close(model.state_dict(), before)
    torch.testing.assert_close(results(model, inputs()), results(by_hand(model, torch.relu), inputs()))


@pytest.mark.parametrize("spelling", RELU)
def test_relu_for_relu_changes_nothing(spelling):
    torch.manual_seed(0)
    model = Net(RELU[spelling])
    ours = results(swap(model, "relu", "relu", inputs=(inputs(),)), inputs())
    expected = results(by_hand(model, torch.relu), inputs())
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


def test_torch_fx_reads_all_spellings_but_assignment_without_an_example():
    for spelling, activation in RELU.items():
        if spelling == "by item":
            with pytest.raises(NothingToSwap, match="inputs="):
                swap(Net(activation), "relu", "tanh")
        else:
            assert len(swap(Net(activation), "relu", "tanh").swap_report) >= 1


OTHERS = {
    "gelu": [nn.GELU(), F.gelu, lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5))],
    "silu": [nn.SiLU(inplace=True), F.silu, lambda x: x * torch.sigmoid(x), lambda x: x / (1 + torch.exp(-x))],
    "tanh": [nn.Tanh(), torch.tanh, F.tanh, lambda x: x.tanh(), lambda x: x.tanh_()],
    "sigmoid": [nn.Sigmoid(), torch.sigmoid, F.sigmoid, torch.special.expit, lambda x: 1 / (1 + torch.exp(-x))],
    "softplus": [nn.Softplus(), F.softplus, nn.Softplus(2.0), lambda x: torch.log1p(torch.exp(x))],
    "elu": [nn.ELU(0.7), F.elu, lambda x: F.elu_(x), lambda x: torch.where(x > 0, x, torch.exp(x) - 1)],
    "leaky_relu": [nn.LeakyReLU(0.3), F.leaky_relu, lambda x: F.leaky_relu_(x, 0.2), lambda x: F.leaky_relu(x, 0.5)],
    "mish": [nn.Mish(), F.mish, lambda x: x * torch.tanh(F.softplus(x))],
    "hard_swish": [nn.Hardswish(), F.hardswish, lambda x: x * F.relu6(x + 3) / 6],
    "selu": [nn.SELU(), torch.selu, torch.selu_],
    "prelu": [nn.PReLU(8), lambda x: F.prelu(x, torch.full((8,), 0.3))],
    "softsign": [nn.Softsign(), F.softsign, lambda x: x / (1 + x.abs())],
}


@pytest.mark.parametrize(("old", "activation"), [(old, f) for old, functions in OTHERS.items() for f in functions])
def test_other_activations_in_all_their_spellings(old, activation):
    torch.manual_seed(0)
    model = Net(activation)
    swapped = swap(model, old, "sin")
    torch.testing.assert_close(swapped(inputs()), by_hand(model, torch.sin)(inputs()))


def test_a_name_means_any_parameters_an_activation_means_its_own():
    model = nn.Sequential(nn.LeakyReLU(0.2), nn.LeakyReLU(), nn.Tanh())
    assert [u.path for u in swap(model, "leaky_relu", "relu").swap_report] == ["0", "1"]
    assert [u.path for u in swap(model, get("leaky_relu", alpha=0.2), "relu").swap_report] == ["0"]
    assert [u.path for u in swap(model, "where(x > 0, x, 0.2*x)", "relu").swap_report] == ["0"]
    assert [u.path for u in swap(model, torch.tanh, "relu").swap_report] == ["2"]
    assert [u.path for u in swap(model, nn.LeakyReLU(0.2), "relu").swap_report] == ["0"]


def test_the_new_one_may_be_a_formula_a_callable_or_an_activation():
    model = nn.Sequential(nn.ReLU())
    x = inputs()
    expected = x * torch.tanh(torch.exp(x))
    for new in ("x*tanh(exp(x))", lambda x: x * torch.tanh(torch.exp(x))):
        torch.testing.assert_close(swap(model, "relu", new)(x), expected)
    learned = swap(model, "relu", get("softplus", beta=2.0, learn="beta"))
    assert list(learned.state_dict()) == ["0.log_beta"]


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.norm1(self.conv1(x)))
        out = F.dropout(self.norm2(self.conv2(out)), 0.2, training=self.training)
        out += x
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 5)
        self.blocks = nn.Sequential(Block(6), Block(6))

    def features(self, x):
        return self.blocks(F.relu(self.stem(x))).mean((2, 3))

    def forward(self, x):
        return self.head(self.features(x))


def images() -> torch.Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("training", [True, False])
def test_a_residual_network_keeps_its_mode_its_dropout_and_its_statistics(training):
    torch.manual_seed(0)
    model = ResNet().train(training)
    same = swap(model, "relu", "relu")
    assert [u.path for u in same.swap_report] == ["blocks.0.relu", "blocks.1.relu", ""]
    assert same.training is training
    torch.manual_seed(5)
    ours = results(same, images())
    torch.manual_seed(5)
    theirs = results(model, images())
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    torch.testing.assert_close(same.state_dict(), model.state_dict())


def test_a_method_called_by_itself_is_swapped_too():
    model = ResNet().eval()
    swapped = swap(model, "relu", "softplus")
    hand = copy.deepcopy(model)
    hand.blocks[0].relu = hand.blocks[1].relu = nn.Softplus()
    expected = hand.blocks(F.softplus(hand.stem(images()))).mean((2, 3))
    torch.testing.assert_close(swapped.features(images()), expected, rtol=1e-4, atol=1e-4)


def test_hooks_stay_and_a_reused_module_stays_one():
    relu, seen = nn.ReLU(), []
    relu.register_forward_hook(lambda *_: seen.append(1))
    swapped = swap(nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu), "relu", "gelu")
    swapped(inputs())
    assert swapped[1] is swapped[3]
    assert len(seen) == 2


@pytest.mark.parametrize("spelling", ["F.relu", "nn.ReLU", "x * (x > 0)"])
def test_a_swapped_model_is_copied_pickled_and_trained(spelling, tmp_path):
    torch.manual_seed(0)
    model = swap(ResNet() if spelling == "nn.ReLU" else Gated(), "relu", "softplus", beta=3.0).eval()
    x = images() if spelling == "nn.ReLU" else inputs()
    torch.save(model, tmp_path / "model.pt")
    twins = [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(tmp_path / "model.pt", weights_only=False),
    ]
    for twin in twins:
        assert torch.equal(twin(x), model(x))
        assert type(twin) is type(model)
        assert repr(twin) == repr(model)
    optimiser = torch.optim.SGD(model.parameters(), 0.01)
    before = model(x).square().sum()
    before.backward()
    optimiser.step()
    assert model(x).square().sum() < before
    assert not torch.equal(twins[0](x), model(x))


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        h = self.a(x)
        return self.b(F.relu(h) + h * (h > 0))


def gated_by_hand(model, x):
    return model.b(2 * softplus3(model.a(x)))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_transforms_and_modes_see_the_swapped_model():
    torch.manual_seed(0)
    model, x = Gated(), inputs()
    swapped = swap(model, "relu", "softplus", beta=3.0)
    expected = gated_by_hand(model, x)
    parameters = dict(swapped.named_parameters())
    torch.testing.assert_close(functional_call(swapped, parameters, (x,)), expected)
    torch.testing.assert_close(vmap(swapped)(x), expected)
    torch.testing.assert_close(
        vmap(jacrev(swapped))(x), vmap(jacrev(lambda x: gated_by_hand(model, x)))(x), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        hessian(lambda x: swapped(x).sum())(x[0]),
        hessian(lambda x: gated_by_hand(model, x).sum())(x[0]),
        rtol=1e-3,
        atol=1e-4,
    )
    with torch.inference_mode():
        torch.testing.assert_close(swapped(x), expected)
    with torch.device("cpu"):
        torch.testing.assert_close(swapped(x), expected)
    exported = torch.export.export(swapped, (x,), strict=False).module()
    torch.testing.assert_close(exported(x), expected)


def test_torch_compile_runs_exchanged_calls_as_they_are():
    torch.manual_seed(0)
    model, x = Gated(), inputs()
    compiled = torch.compile(swap(model, "relu", "softplus", beta=3.0), backend="eager")
    torch.testing.assert_close(compiled(x), gated_by_hand(model, x))


def test_a_graph_is_rewritten():
    torch.manual_seed(0)
    model, x = Gated(), inputs()
    graph = fx.symbolic_trace(model)
    swapped = swap(graph, "relu", "softplus", beta=3.0)
    torch.testing.assert_close(swapped(x), gated_by_hand(model, x))
    torch.testing.assert_close(graph(x), model(x))
    assert list(swapped.state_dict()) == list(model.state_dict())
    assert "relu" not in swapped.code
    assert {u.activation for u in activations_in(swapped)} == {"softplus"}


class Overwriting(Net):
    def forward(self, x):
        h = self.a(x)
        F.relu(h, inplace=True)
        h = self.b(h)
        h.clamp_(min=0)
        return self.c(h)


def test_what_overwrites_its_input_still_does():
    torch.manual_seed(0)
    model, x = Overwriting(None), inputs()
    expected = Net.forward(by_hand(model, softplus3), x)
    torch.testing.assert_close(swap(model, "relu", "softplus", beta=3.0)(x), expected)
    torch.testing.assert_close(swap(fx.symbolic_trace(model), "relu", "softplus", beta=3.0)(x), expected)


class Sequence(nn.Module):
    """An in-place module whose input is used again."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        y = x * 2
        return self.act(y) + y


def test_an_in_place_module_still_changes_its_input():
    x = inputs()
    assert torch.equal(swap(Sequence(), "relu", "relu")(x), Sequence()(x))
    torch.testing.assert_close(swap(Sequence(), "relu", "softplus")(x), 2 * F.softplus(2 * x))


ENCODERS = ["relu", "gelu", F.relu, nn.ReLU(), nn.GELU()]


@pytest.mark.filterwarnings("ignore:.*nested")
@pytest.mark.parametrize("activation", ENCODERS, ids=["relu", "gelu", "F.relu", "nn.ReLU", "nn.GELU"])
def test_transformer_layers_and_their_fast_path(activation):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation=activation, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    old = "gelu" if "gelu" in str(activation).lower() else "relu"
    x, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    hand = copy.deepcopy(encoder)
    for part in hand.layers:
        part.activation, part.activation_relu_or_gelu = nn.Tanh(), 0
    hand.use_nested_tensor = False
    with torch.no_grad():
        swapped = swap(encoder, old, "tanh")
        torch.testing.assert_close(
            swapped(x, src_key_padding_mask=padding), hand(x, src_key_padding_mask=padding), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(swap(encoder, old, old)(x), encoder(x), rtol=1e-4, atol=1e-5)
    assert list(swapped.state_dict()) == list(encoder.state_dict())
    assert [u.path for u in swapped.swap_report] == ["layers.0.activation", "layers.1.activation"]


def test_swaps_follow_one_another():
    torch.manual_seed(0)
    model, x = Gated(), inputs()
    once = swap(model, "relu", "softplus", beta=3.0)
    twice = swap(once, "softplus", "tanh")
    torch.testing.assert_close(twice(x), model.b(2 * torch.tanh(model.a(x))))
    torch.testing.assert_close(once(x), gated_by_hand(model, x))
    assert {u.activation for u in activations_in(once)} == {"softplus"}
    assert {u.activation for u in activations_in(twice)} == {"tanh"}
    assert {u.activation for u in activations_in(twice, x)} == {"tanh"}


class Straight(nn.Module):
    def forward(self, x):
        return x + (torch.relu(x) - x).detach()


class Cut(nn.Module):
    def forward(self, x):
        with torch.no_grad():
            gate = torch.sigmoid(x)
        return x * gate


def test_a_function_whose_gradient_is_cut_is_another_function():
    x = inputs().requires_grad_()
    swap(Straight(), "relu", "softplus")(x).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    with pytest.raises(NothingToSwap):
        swap(Cut(), "silu", "tanh", inputs=(inputs().requires_grad_(),))


class Stale(nn.Module):
    def forward(self, x):
        y = x * 1
        mask = y > 0
        y.mul_(-1)
        return y * mask


def test_what_was_overwritten_in_between_is_no_activation():
    with pytest.raises(NothingToSwap):
        swap(Stale(), "relu", "tanh", inputs=(inputs(),))


class Scalar(nn.Module):
    def forward(self, x):
        return x.clamp(min=0) + torch.maximum(x, torch.tensor(0.0))


@pytest.mark.parametrize("value", [0.7, -0.7, 0.0])
def test_a_single_number_is_swapped_as_a_tensor_is(value):
    x = torch.tensor(value)
    torch.testing.assert_close(swap(Scalar(), "relu", "softplus")(x), 2 * F.softplus(x))


class Physics(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 8), nn.Linear(8, 1)

    def forward(self, x):
        x = x.detach().requires_grad_()
        u = self.b(torch.sigmoid(self.a(x)))
        return torch.autograd.grad(u.sum(), x, create_graph=True)[0]


def test_derivatives_taken_inside_a_forward_are_those_of_the_new_function():
    torch.manual_seed(0)
    model, x = Physics(), torch.randn(6, 2)
    slope = torch.sigmoid(model.a(x)) * model.b.weight @ model.a.weight
    torch.testing.assert_close(swap(model, "sigmoid", "softplus", inputs=(x,))(x), slope)
    torch.testing.assert_close(swap(model, "sigmoid", "softplus")(x), slope)


class Checkpointed(Net):
    kind, reentrant = "method", False

    def inner(self, x):
        return F.relu(self.a(x))

    def forward(self, x):
        inner = self.inner if self.kind == "method" else lambda x: F.relu(self.a(x))
        return self.c(F.relu(self.b(checkpoint(inner, x, use_reentrant=self.reentrant))))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_methods_are_swapped_in_backward_too_and_plain_functions_refused(reentrant):
    torch.manual_seed(0)
    model = Checkpointed(None)
    model.reentrant = reentrant
    x = inputs().requires_grad_()
    hand = Net(F.softplus)
    hand.load_state_dict(model.state_dict())
    torch.testing.assert_close(results(swap(model, "relu", "softplus"), x), results(hand, x))
    model.kind = "function"
    with pytest.raises(NotImplementedError, match="checkpoint"):
        swap(model, "relu", "softplus")(x)


def test_nothing_to_swap_says_what_there_is():
    with pytest.raises(LookupError, match=r"mish stands nowhere in ResNet(.|\n)*blocks.0.relu: relu") as caught:
        swap(ResNet(), "mish", "tanh")
    assert "F.relu" in str(caught.value)


class Hidden(Net):
    """A forward that neither torch.fx nor its names give away."""

    def forward(self, x):
        return self.c(getattr(F, "re" + "lu")(self.a(x))) if x.sum() > -1e9 else x


def test_a_forward_that_cannot_be_read_asks_for_an_example():
    with pytest.raises(NothingToSwap, match="inputs="):
        swap(Hidden(None), "relu", "tanh")
    assert len(swap(Hidden(None), "relu", "tanh", inputs=(inputs(),)).swap_report) == 1


class Written(Net):
    def forward(self, x):
        h = self.a(x)
        if h.sum() > 1e9:
            h = h.relu()
        return self.c(torch.clamp(self.b(h), min=0))


def test_control_flow_needs_no_example_where_names_are_in_the_code():
    torch.manual_seed(0)
    model = Written(None)
    swapped = swap(model, "relu", "softplus")
    assert any("read by name only" in u.place for u in swapped.swap_report)
    torch.testing.assert_close(swapped(inputs()), model.c(F.softplus(model.b(model.a(inputs())))))


FUSED = [nn.RNN(2, 3, nonlinearity="relu"), nn.RNNCell(2, 3, nonlinearity="relu"), nn.LSTM(2, 3), nn.GRUCell(2, 3)]


@pytest.mark.parametrize("layer", FUSED, ids=lambda m: type(m).__name__)
def test_fused_recurrent_layers_are_refused(layer):
    old = getattr(layer, "nonlinearity", "tanh")
    with pytest.raises(ValueError, match=rf"fused kernel of nn.{type(layer).__name__}"):
        swap(nn.ModuleList([layer]), old if old in ("relu", "tanh") else "tanh", "gelu")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_code_that_is_fixed_is_refused():
    with pytest.raises(ValueError, match="TorchScript"):
        swap(torch.jit.script(nn.Sequential(nn.ReLU())), "relu", "tanh")
    with pytest.raises(ValueError, match=r"torch\.compile"):
        swap(torch.compile(nn.ReLU(), backend="eager"), "relu", "tanh")
    model = Gated()
    model.forward = lambda x: F.relu(x)
    with pytest.raises(NothingToSwap, match="replaced on the instance"):
        swap(model, "mish", "tanh")
    with pytest.raises(ValueError, match="replaced on the instance"):
        swap(model, "relu", "tanh")


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="Module"):
        swap(torch.relu, "relu", "tanh")  # type: ignore[arg-type]
    with pytest.raises(LookupError, match="reluu"):
        swap(Gated(), "reluu", "tanh")
    with pytest.raises(ValueError, match="beta must be"):
        swap(Gated(), "relu", "softplus", beta=-1.0)
    with pytest.raises(ValueError, match="no place"):
        swap(Gated(), "relu", get("softplus", learn="beta"))


def test_the_report_says_what_stands_where():
    found = activations_in(ResNet())
    assert [(u.path, u.activation, u.written) for u in found] == [
        ("blocks.0.relu", "relu", "ReLU(inplace=True)"),
        ("blocks.1.relu", "relu", "ReLU(inplace=True)"),
        ("", "relu", "F.relu()"),
    ]
    assert "test_swapping.py" in found[-1].place
    assert repr(found).count("\n") == 2
    assert activations_in(ResNet(), images()) == found
    assert repr(activations_in(nn.Linear(2, 2))) == "no activations"


def test_the_model_itself_may_be_the_activation():
    assert repr(swap(nn.ReLU(), "relu", "softplus", beta=3.0)) == "softplus(beta=3)"


def test_activations_of_varphi_inside_a_watched_forward_are_left_alone():
    torch.manual_seed(0)
    model, x = Gated(), inputs()
    model.b = nn.Sequential(get("hard_swish"), model.b)
    swapped = swap(model, "relu", "tanh")
    h = 2 * torch.tanh(model.a(x))
    torch.testing.assert_close(swapped(x), model.b[1](F.hardswish(h)))
