"""Bounds of whole models: against samples and attacks, exactness where the model is linear, spellings, refusals."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import varphi as vp
from varphi.bounds import UncertifiedOperation

from .networks import Functional, assert_encloses, attacked, seeded

METHODS = ("ibp", "crown", "alpha-crown")
NORMS = (1, 2, math.inf)


class Residual(nn.Module):
    """Branches, a sum, a concatenation and a product."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.first(x))
        h = h + torch.tanh(self.second(h))
        gated = h * torch.sigmoid(self.first(x))
        return self.third(torch.cat([h, gated], dim=1))


class Convolutional(nn.Module):
    def __init__(self, pool: nn.Module, dimensions: int = 2) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dimensions == 2 else (nn.Conv1d, nn.BatchNorm1d)
        self.stem = nn.Sequential(conv(2, 4, 3, padding=1), norm(4), nn.GELU(), pool)
        self.inner = conv(4, 4, 3, stride=2, padding=1, groups=2)
        self.shortcut = conv(4, 4, 1, stride=2)
        self.head = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h = F.relu(self.inner(h) + self.shortcut(h))
        return self.head(h.flatten(1))


def convolutional(pool: nn.Module, dimensions: int = 2) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    x = torch.randn(2, 2, *[8] * dimensions)
    model = Convolutional(pool, dimensions)
    model(x)
    for _ in range(3):
        model(torch.randn(16, *x.shape[1:]))
    return model.eval(), x


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "sin", "snake", "elu", "heaviside"])
def test_no_sample_leaves_the_bounds(name, method, norm):
    model = seeded(nn.Linear(5, 8), vp.get(name), nn.Linear(8, 8), vp.get(name), nn.Linear(8, 3))
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(2))
    for radius in (0.01, 0.3, 2.0):
        assert_encloses(model, x, radius, norm, method, optimise=4)


SEVERAL = ("relu", "silu", "softplus", "mish", "gaussian", "hard_tanh", "x_plus_sin", "softsign", "sign", "selu")


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from(SEVERAL), min_size=1, max_size=3),
    st.integers(0, 2**20),
    st.floats(1e-4, 3.0),
    st.sampled_from(NORMS),
    st.sampled_from(["ibp", "crown"]),
)
def test_no_sample_leaves_the_bounds_of_random_networks(names, seed, radius, norm, method):
    layers = [layer for name in names for layer in (nn.Linear(6, 6), vp.get(name))]
    model = seeded(*layers, nn.Linear(6, 2), seed=seed)
    assert_encloses(model, torch.randn(2, 6), radius, norm, method)


@pytest.mark.parametrize("arithmetic", ["sound32", "float64"])
def test_no_attack_leaves_the_bounds(arithmetic):
    model = seeded(nn.Linear(5, 16), nn.SiLU(), nn.Linear(16, 16), nn.Softplus(), nn.Linear(16, 3))
    x, rows = torch.randn(6, 5), torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
    found = vp.bounds(model, x, 0.2, math.inf, "crown", rows, arithmetic)
    assert (attacked(model, x, 0.2, rows) >= found.lower.double()).all()
    assert (-attacked(model, x, 0.2, -rows) <= found.upper.double()).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", NORMS)
def test_a_branching_model(method, norm):
    model = seeded(Residual())
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(3))
    for radius in (0.02, 0.5):
        assert_encloses(model, x, radius, norm, method, optimise=3)


@pytest.mark.parametrize("method", ["ibp", "crown"])
@pytest.mark.parametrize(
    "pool", [nn.AvgPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(4)], ids=repr
)
def test_a_convolutional_model(pool, method):
    model, x = convolutional(pool)
    for norm in NORMS:
        assert_encloses(model, x, 0.05, norm, method)


@pytest.mark.parametrize("pool", [nn.AvgPool1d(2), nn.MaxPool1d(2), nn.MaxPool1d(3, 2, 1)], ids=repr)
def test_a_convolutional_model_in_one_dimension(pool):
    model, x = convolutional(pool, 1)
    assert_encloses(model, x, 0.05, math.inf, "crown")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("method", METHODS)
def test_linear_models_are_bounded_exactly(method, norm):
    model = seeded(nn.Linear(5, 7), nn.Linear(7, 6), nn.Unflatten(1, (2, 3)), nn.Flatten(), nn.Linear(6, 3)).double()
    x = torch.randn(4, 5, dtype=torch.float64)
    weight = model[4].weight @ model[1].weight @ model[0].weight
    dual = {1: math.inf, 2: 2, math.inf: 1}[norm]
    spread = 0.3 * weight.norm(p=dual, dim=1)
    lower, upper = vp.bounds(model, x, 0.3, norm, method, arithmetic="float64")
    torch.testing.assert_close(lower, (model(x) - spread).detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(upper, (model(x) + spread).detach(), rtol=1e-12, atol=1e-12)


def test_methods_in_order_of_tightness():
    model = seeded(nn.Linear(5, 16), nn.GELU(), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 3))
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(4))
    width = {m: (b.upper - b.lower).mean() for m in METHODS if (b := vp.bounds(model, x, 0.2, math.inf, m))}
    assert width["alpha-crown"] < 0.999 * width["crown"]
    assert width["crown"] < 0.9 * width["ibp"]


def test_sound_arithmetic_is_wider_than_fast_and_hardly():
    model = seeded(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
    x = torch.randn(8, 5)
    fast, sound = (vp.bounds(model, x, 0.1, 2, "crown", arithmetic=a) for a in ("fast", "sound32"))
    assert (sound.lower < fast.lower).all() and (sound.upper > fast.upper).all()
    assert ((sound.upper - sound.lower) / (fast.upper - fast.lower) - 1).max() < 5e-3


def test_a_point_is_bounded_to_rounding():
    model = seeded(nn.Linear(5, 16), nn.Mish(), nn.Linear(16, 3))
    x = torch.randn(8, 5)
    lower, upper = vp.bounds(model, x, 0.0)
    with torch.no_grad():
        assert ((lower <= model(x)) & (model(x) <= upper)).all()
    assert (upper - lower).max() < 1e-3


SPELLINGS = {
    "silu": [
        nn.SiLU(),
        F.silu,
        lambda x: x * torch.sigmoid(x),
        lambda x: x.sigmoid() * x,
        vp.get("silu"),
        lambda x: F.silu(x.clone(), inplace=True),
    ],
    "relu": [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        F.relu,
        torch.relu,
        lambda x: x.clamp(min=0),
        lambda x: torch.maximum(x, torch.zeros(())),
        lambda x: x * (x > 0),
    ],
    "mish": [nn.Mish(), lambda x: x * torch.tanh(F.softplus(x)), lambda x: x * F.softplus(x).tanh()],
}


class Spelled(nn.Module):
    def __init__(self, spelling) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)
        self.spelling = spelling

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.spelling(self.first(x)))


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_of_one_activation_give_one_answer(name):
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(5))
    expected = vp.bounds(Spelled(vp.get(name)).eval(), x, 0.3, arithmetic="float64")
    for spelling in SPELLINGS[name]:
        found = vp.bounds(Spelled(spelling).eval(), x, 0.3, arithmetic="float64")
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


class Broadcasting(nn.Module):
    """Squeeze and excitation: a factor for each channel, repeated over the plane."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.sigmoid(self.gate(x.mean((2, 3))))
        return F.gelu(x) * weight[:, :, None, None] + weight.view(-1, 3, 1, 1)


class Rearranging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.inner(x).chunk(2, dim=1)
        h = first.unsqueeze(1).transpose(1, 2)
        h = h.permute(0, 2, 1).squeeze(1)[:, [2, 0, 1, 1]]
        return torch.cat([h, 2 - second, second / torch.tensor([2.0, 4.0, 8.0])], -1)


@pytest.mark.parametrize("method", METHODS)
def test_broadcasting_and_rearranging(method):
    assert_encloses(seeded(Broadcasting()), torch.randn(2, 3, 4, 4), 0.1, 2, method, optimise=2)
    assert_encloses(seeded(Rearranging(), nn.Tanh()), torch.randn(3, 4), 0.2, math.inf, method, optimise=2)


def test_an_unstable_kernel_is_charged_for_and_refused_where_it_overflows():
    unstable = Spelled(lambda x: torch.log(1 + torch.exp(x))).eval()
    x = torch.randn(3, 4)
    assert_encloses(unstable, x, 0.1, math.inf, "crown")
    stable = vp.bounds(Spelled(F.softplus).eval(), x, 0.0)
    charged = vp.bounds(unstable, x, 0.0)
    assert ((charged.upper - charged.lower) > (stable.upper - stable.lower)).all()
    with pytest.raises(UncertifiedOperation, match=r"gives NaN or inf in torch\.float32"):
        vp.bounds(unstable, 1000 * x, 0.1)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 3, 3, padding="same"),
        nn.Conv2d(2, 4, (3, 1), stride=(2, 1), padding=(1, 0), dilation=(2, 1), groups=2),
        nn.Conv2d(2, 3, 2, bias=False),
    ],
    ids=repr,
)
def test_convolutions_alone_are_bounded_exactly(layer):
    model = nn.Sequential(layer).eval().double()
    x = torch.randn(2, 2, 6, 5, dtype=torch.float64)
    lower, upper = vp.bounds(model, x, 0.3)
    absolute = copy.deepcopy(layer).double()
    absolute.weight.data.abs_()
    absolute.bias = None
    spread = absolute(torch.full_like(x, 0.3))
    torch.testing.assert_close(lower, (model(x) - spread).detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(upper, (model(x) + spread).detach(), rtol=1e-12, atol=1e-12)


def test_swapped_and_learned_activations():
    model = seeded(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    swapped = vp.swap(model, "relu", "softplus", beta=3.0)
    assert_encloses(swapped, torch.randn(3, 4), 0.2, 2, "crown")
    learned = nn.Sequential(nn.Linear(4, 3), vp.get("swish", beta=1.7, learn=["beta"])).eval()
    assert_encloses(learned, torch.randn(3, 4), 0.2, 2, "crown")


def test_prelu_with_a_slope_for_each_channel():
    model = seeded(nn.Linear(4, 3), nn.PReLU(3), nn.Linear(3, 2))
    assert_encloses(model, torch.randn(5, 4), 0.4, math.inf, "crown")


def test_boxes_and_radii_for_each_sample():
    model = seeded(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    x = torch.randn(3, 4)
    radii = torch.tensor([0.0, 0.1, 0.5])
    each = vp.bounds(model, x, radii)
    for i in range(3):
        one = vp.bounds(model, x[i : i + 1], float(radii[i]))
        torch.testing.assert_close(one.lower[0], each.lower[i], rtol=1e-5, atol=1e-6)
    box = torch.rand(3, 4) * 0.3
    found = vp.bounds(model, x, box)
    same = vp.bounds(model, (x - box, x + box), None)
    torch.testing.assert_close(found, same, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        for _ in range(50):
            y = model(x + (torch.rand(3, 4) * 2 - 1) * box * 0.999)
            assert ((found.lower <= y) & (y <= found.upper)).all()


def test_combinations_of_outputs():
    model = seeded(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 3))
    x, rows = torch.randn(5, 4), torch.tensor([[1.0, -1.0, 0.0]])
    shared = vp.bounds(model, x, 0.1, spec=rows)
    own = vp.bounds(model, x, 0.1, spec=rows.expand(5, 1, 3))
    assert shared.lower.shape == (5, 1)
    torch.testing.assert_close(shared, own, rtol=1e-5, atol=1e-6)
    each = vp.bounds(model, x, 0.1)
    assert (shared.lower[:, 0] > each.lower[:, 0] - each.upper[:, 1]).all()


@pytest.mark.parametrize(
    "model", [nn.Linear(4, 3), vp.get("gelu"), nn.Flatten(), torch.fx.symbolic_trace(Spelled(F.elu))]
)
def test_single_layers_and_graphs(model):
    assert_encloses(model.eval(), torch.randn(3, 4), 0.2, 2, "crown")


def test_the_model_is_left_as_it_is():
    model = seeded(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 3))
    before, x = copy.deepcopy(model.state_dict()), torch.randn(2, 4)
    for method in METHODS:
        vp.bounds(model, x, 0.1, method=method, optimise=2)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    constant = Functional(lambda x: x * torch.tensor([1.0, 2.0, 3.0, 4.0])).eval()
    attributes = set(vars(constant))
    assert_encloses(constant, x, 0.1, 2, "crown")
    assert set(vars(constant)) == attributes
    assert all(p.grad is None for p in model.parameters())


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Overwriting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x * 2
        y = h.view(-1, 4)
        F.relu_(h)
        return y


class AcrossSamples(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu().unsqueeze(1) + x.tanh()


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.calls * x + self.calls


class Reversed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(0)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Softmin(1))), r"1\.1: Softmin"),
        (nn.Sequential(nn.Linear(4, 4), nn.LocalResponseNorm(2)), "1: LocalResponseNorm"),
        (Branching(), "cannot be read by torch.fx"),
        (Overwriting(), "overwrites a tensor"),
        (AcrossSamples(), "broadcasts across samples"),
        (Functional(lambda x: x.max(1, keepdim=True)), "models that give one tensor, not Chosen"),
        (Functional(lambda x: torch.softmax(x, 0)), "softmax over the batch dimension"),
        (Functional(lambda x: torch.cumsum(x, 1)), "cumsum has no rule"),
        (Functional(F.dropout), "dropout in training mode"),
        (Functional(lambda x: x.half().float()), "conversion from torch.float32 to torch.float16"),
        (Functional(lambda x: x + torch.randn(4)), "draws random numbers"),
        (Functional(lambda x: 2 * (x * torch.full((1, 1, 1), 3.0))), "by broadcasting"),
        (Functional(lambda x: x @ x.T), r"\.T has no rule"),
        (Functional(lambda x: x @ x.transpose(0, 1)), "between samples"),
        (Functional(lambda x: x.unsqueeze(1) @ torch.ones(2, 4, 1)), "matrix product"),
        (Functional(lambda x: x.sum()), "over the batch dimension"),
        (Functional(lambda x: torch.cat([x, x])), "along the batch dimension"),
        (Counting(), "other values than its graph"),
        (
            vp.swap(Functional(lambda x: F.relu(x)), "relu", "tanh", inputs=(torch.zeros(1, 4),)),
            "vp.swap exchanges calls",
        ),
        (Reversed(), "moves elements between samples"),
        (nn.Sequential(nn.Linear(4, 4), nn.GRU(4, 4)), "1: GRU"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(model, words):
    with pytest.raises(UncertifiedOperation, match=words):
        vp.bounds(model.eval(), torch.zeros(2, 4), 0.1)


def test_bad_input_is_refused_in_words():
    model, x = seeded(nn.Linear(4, 3)), torch.zeros(2, 4)
    nan, inf = x.clone(), x.clone()
    nan[0, 0], inf[0, 0] = math.nan, math.inf
    with pytest.raises(ValueError, match=r"model\.eval"):
        vp.bounds(nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).train(), x, 0.1)
    for bad in (nan, inf):
        with pytest.raises(ValueError, match="NaN or ±inf"):
            vp.bounds(model, bad, 0.1)
    with pytest.raises(ValueError, match="x is empty"):
        vp.bounds(model, x[:0], 0.1)
    for radius in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="radius must be finite"):
            vp.bounds(model, x, radius)
    with pytest.raises(ValueError, match="norm is 1, 2 or inf"):
        vp.bounds(model, x, 0.1, 3)
    with pytest.raises(ValueError, match="'ibp', 'crown'"):
        vp.bounds(model, x, 0.1, method="exact")
    with pytest.raises(ValueError, match="'sound32', 'float64', 'fast'"):
        vp.bounds(model, x, 0.1, arithmetic="exact")
    with pytest.raises(ValueError, match=r"model\.float\(\)"):
        vp.bounds(copy.deepcopy(model).half(), x.half(), 0.1)
    with pytest.raises(ValueError, match="arithmetic='float64'"):
        vp.bounds(copy.deepcopy(model).double(), x.double(), 0.1, arithmetic="sound32")
    mixed = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3).double()).eval()
    mixed[1].weight.data.fill_(math.pi)
    with pytest.raises(ValueError, match=r"1 holds numbers of torch\.float64"):
        vp.bounds(mixed, x, 0.1)
    with pytest.raises(ValueError, match=r"spec must be \(rows, 3\)"):
        vp.bounds(model, x, 0.1, spec=torch.ones(1, 4))
    with pytest.raises(TypeError, match="floating-point"):
        vp.bounds(model, x.long(), 0.1)
    with pytest.raises(ValueError, match="lower <= upper"):
        vp.bounds(model, (x + 1, x))
    with pytest.raises(ValueError, match="unbounded or undefined"):
        vp.bounds(seeded(nn.Linear(4, 3), vp.as_activation("1/x")), x, 100.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu():
    torch.backends.cudnn.allow_tf32 = False
    model = seeded(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 3))
    x = torch.randn(4, 5)
    expected = vp.bounds(model, x, 0.1)
    found = vp.bounds(model.cuda(), x.cuda(), 0.1)
    torch.testing.assert_close(found.lower.cpu(), expected.lower, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["ibp", "crown", "alpha-crown", "crown-split"])
def test_one_side_alone_is_the_same(method):
    model = seeded(nn.Linear(3, 6), vp.get("silu"), nn.Linear(6, 2))
    x, rows = torch.randn(2, 3), torch.tensor([[1.0, -1.0]])
    options = {"spec": rows, "optimise": 3, "timeout": 0.2, "progress": False}
    both = vp.bounds(model, x, 0.2, 2, method, **options)
    lower = vp.bounds(model, x, 0.2, 2, method, sides="lower", **options)
    exact = method in ("ibp", "crown")
    torch.testing.assert_close(lower.lower, both.lower, rtol=1e-6 if exact else 0.1, atol=1e-6 if exact else 0.1)
    assert (lower.upper >= lower.lower).all()
    if method != "crown-split":
        assert torch.isinf(lower.upper).all()
    with pytest.raises(ValueError, match="sides is 'both' or 'lower'"):
        vp.bounds(model, x, 0.2, 2, method, sides="upper", **options)


def test_weights_that_are_no_numbers_are_refused():
    model = seeded(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    model[2].weight.data[0, 1] = math.nan
    with pytest.raises(ValueError, match="2 holds NaN"):
        vp.bounds(model, torch.zeros(1, 3), 0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["ibp", "crown", "alpha-crown", "crown-split"])
def test_layers_that_overwrite_their_input_leave_the_callers_alone(method, dtype):
    plain = seeded(nn.ReLU(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to(dtype)
    model = nn.Sequential(nn.ReLU(inplace=True), plain[1], nn.ReLU(inplace=True), plain[3]).eval()
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    given, options = x.clone(), {"optimise": 3, "timeout": 0.2, "progress": False}
    found, expected = (vp.bounds(m, t, 0.2, 2, method, **options) for m, t in ((model, given), (plain, x)))
    assert torch.equal(given, x)
    for ours, theirs in zip(found, expected, strict=True):
        if method == "crown-split":  # how far it comes is a matter of time
            assert ((found.lower <= plain(x)) & (plain(x) <= found.upper)).all()
        else:
            torch.testing.assert_close(ours, theirs)
