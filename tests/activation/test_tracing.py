import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from varphi import numbers
from varphi.activation.lookup import as_activation, derivatives, get
from varphi.activation.registry import definition, names
from varphi.activation.tracing import TracingError, trace

POINTS = torch.cat([torch.linspace(-9.0, 9.0, 289, dtype=torch.float64), torch.tensor([-60.0, 45.0]).double()])

MODULES = [
    nn.CELU(),
    nn.CELU(0.3),
    nn.ELU(),
    nn.ELU(0.4, inplace=True),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.Hardshrink(),
    nn.Hardshrink(1.2),
    nn.Hardsigmoid(),
    nn.Hardswish(inplace=True),
    nn.Hardtanh(),
    nn.Hardtanh(-0.5, 2.0),
    nn.Identity(),
    nn.LeakyReLU(),
    nn.LeakyReLU(0.3, inplace=True),
    nn.LogSigmoid(),
    nn.Mish(),
    nn.PReLU(),
    nn.RReLU().eval(),
    nn.ReLU(),
    nn.ReLU(inplace=True),
    nn.ReLU6(),
    nn.SELU(),
    nn.SiLU(inplace=True),
    nn.Sigmoid(),
    nn.Softplus(),
    nn.Softplus(3.0),
    nn.Softplus(2.0, 4.0),
    nn.Softshrink(),
    nn.Softsign(),
    nn.Tanh(),
    nn.Tanhshrink(),
    nn.Threshold(0.5, -2.0),
]


@pytest.mark.parametrize("module", MODULES, ids=repr)
def test_every_pointwise_module_of_torch(module):
    expected = module.double()(POINTS.clone())
    torch.testing.assert_close(trace(module)(POINTS), expected, rtol=1e-9, atol=1e-9)


def test_the_list_above_names_every_pointwise_module_of_torch():
    not_pointwise = {"GLU", "MultiheadAttention", "Softmax", "Softmax2d", "Softmin", "LogSoftmax"}
    listed = {type(m).__name__ for m in MODULES} - {"Identity"}
    assert listed == set(nn.modules.activation.__all__) - not_pointwise


def _with_module_of_torch() -> list[str]:
    return [name for name in names() if definition(name).torch]


@pytest.mark.parametrize("name", _with_module_of_torch())
def test_the_catalogue_s_definition_of_a_torch_module_is_what_tracing_the_module_gives(name):
    needed = {"Threshold": (0.0, 0.0)}
    class_name = definition(name).torch
    traced = trace(getattr(nn, class_name)(*needed.get(class_name, ())).eval())
    torch.testing.assert_close(traced(POINTS), get(name)(POINTS), rtol=1e-12, atol=1e-12)


def masked(x):
    y = x.clone()
    y[x < 0] = torch.exp(x[x < 0]) - 1
    y[y > 3] = 3.0
    return y


def in_place(x):
    y = x.clone().mul_(0.5).exp_().clamp_(max=3)
    y += 1
    y.detach().neg_()
    return torch.relu_(y + 3)


CALLABLES = {
    "relu": torch.relu,
    "relu of F": F.relu,
    "relu method": lambda x: x.relu(),
    "relu in place": lambda x: F.relu(x, inplace=True),
    "relu by clamp": lambda x: x.clamp(min=0),
    "relu by clamp_min": lambda x: x.clamp_min(0),
    "relu by maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "relu by maximum of zeros": lambda x: torch.maximum(x, torch.zeros(x.shape, dtype=x.dtype)),
    "relu by max": lambda x: torch.max(x, torch.tensor(0.0)),
    "relu by where": lambda x: torch.where(x > 0, x, 0),
    "relu by mask": lambda x: x * (x > 0),
    "relu by float mask": lambda x: (x > 0).to(x.dtype) * x,
    "relu by masked_fill": lambda x: x.masked_fill(x <= 0, 0.0),
    "relu by abs": lambda x: (x + x.abs()) / 2,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "gelu by erf": lambda x: 0.5 * x * (1 + torch.special.erf(x / math.sqrt(2))),
    "silu": lambda x: x * torch.special.expit(x),
    "tanh of exp": lambda x: x * torch.tanh(torch.exp(x)),
    "masks": masked,
    "in place": in_place,
    "band": lambda x: x * ((x > -1) & ~(x >= 2) | (x == 5)),
    "two sides": lambda x: torch.where(x > 1 - x, x, -x),
    "casts": lambda x: F.silu(x.float()).type_as(x),
    "reflected": lambda x: 2 / (1 + x**2) - 2 ** (0.1 * x) + (1 - x),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5) + torch.lerp(x, x * x, 0.25),
    "logs": lambda x: torch.log1p(x * x) + torch.log2(1 + x * x) + torch.logaddexp(x, torch.zeros_like(x)),
    "roots": lambda x: torch.rsqrt(1 + x.square()) + torch.hypot(x, torch.tensor(1.0)) + torch.reciprocal(x * x + 1),
    "trigonometry": lambda x: x.sin() * x.cos() + torch.sinc(x) + torch.atan(x) + torch.asinh(x),
    "hyperbolic": lambda x: torch.sinh(0.1 * x) + torch.cosh(0.1 * x),
    "signs": lambda x: torch.sign(x) + torch.heaviside(x, torch.tensor(0.5, dtype=x.dtype)) + x.sgn(),
    "threshold": lambda x: F.threshold(x, 0.3, -1.0) + F.softsign(x) + F.hardtanh(x, -0.5, 0.7),
    "normal cdf": lambda x: torch.special.ndtr(x) + torch.special.xlogy(x * x, 1 + x * x),
    "autograd function": lambda x: Square.apply(x),
    "varphi's functions": lambda x: numbers.exprel(x / 9) + numbers.where(x > 0, 1, x) * numbers.normal_cdf(x),
    "float32 weights": lambda x: F.prelu(x, torch.tensor([0.1])) if x.dtype == torch.float32 else F.leaky_relu(x, 0.1),
    "constant": lambda x: torch.full_like(x, 2.5),
    "shape questions": lambda x: x.tanh() * x.dim() if x.is_floating_point() and x.numel() else x,
}


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * x


@pytest.mark.parametrize("which", CALLABLES)
def test_callables_of_known_operations(which):
    function = CALLABLES[which]
    tolerance = 1e-5 if which in ("casts", "float32 weights") else 1e-9
    torch.testing.assert_close(trace(function)(POINTS), function(POINTS.clone()), rtol=tolerance, atol=tolerance)


def test_a_function_of_a_constant_is_computed_once():
    layer = trace(lambda x: x + torch.tanh(torch.full_like(x, 0.25)) * torch.exp(torch.zeros_like(x)))
    torch.testing.assert_close(layer(POINTS), POINTS + math.tanh(0.25))


def test_the_spellings_of_relu_are_one_formula():
    spelled = {repr(trace(f).definition.expression()) for which, f in CALLABLES.items() if which.startswith("relu")}
    assert spelled == {"maximum(x, 0)", "where(x > 0, x, 0)", "where(x <= 0, 0, x)", "(x + abs(x))/2"}


class Swish(nn.Module):
    def __init__(self):
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(1.7))
        self.drop = nn.Dropout()

    def forward(self, x):
        return self.drop(x * torch.sigmoid(self.beta * x))


def test_a_module_is_taken_at_the_present_value_of_its_parameters_and_left_alone():
    module = Swish().eval()
    traced = trace(module)
    assert traced.name == "Swish"
    torch.testing.assert_close(traced(POINTS), POINTS * torch.sigmoid(torch.tensor(1.7).double() * POINTS))
    with torch.no_grad():
        module.beta.fill_(3.0)
    assert traced(POINTS)[0] != trace(module)(POINTS)[0]
    assert module.beta.dtype == torch.float32


def test_activations_of_varphi_inside_are_traced_by_their_definition():
    traced = trace(nn.Sequential(get("mish"), get("leaky_relu", alpha=0.5)))
    assert "tanh(softplus(x))" in repr(traced.definition.expression())
    learned = get("softplus", beta=2.0, learn="beta")
    torch.testing.assert_close(trace(nn.Sequential(learned))(POINTS), F.softplus(POINTS, 2.0), rtol=1e-6, atol=1e-6)


def test_a_traced_activation_has_derivatives_is_copied_and_pickled():
    layer = trace(lambda x: x * torch.tanh(torch.exp(x)), name="telu")
    assert repr(layer) == "telu()"
    x = POINTS[POINTS.abs() < 5].requires_grad_()
    (slope,) = torch.autograd.grad((x * torch.tanh(torch.exp(x))).sum(), x)
    torch.testing.assert_close(derivatives(layer, x.detach(), 1)[1], slope)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(POINTS), layer(POINTS))


def test_callables_and_modules_are_taken_wherever_activations_are():
    for what in (F.silu, nn.SiLU(), nn.SiLU, torch.compile(F.silu, backend="eager")):
        torch.testing.assert_close(as_activation(what)(POINTS), F.silu(POINTS))


def branching(x):
    if x.mean() > 0:
        return x
    return -x


def choosing(x):
    if x > 0:
        return x
    return -x


state = {"calls": 0}


def counting(x):
    state["calls"] += 1
    return x * state["calls"]


REFUSED = {
    "sum": (lambda x: x.sum(), "torch.Tensor.sum"),
    "matmul": (lambda x: x @ x, "torch.Tensor.matmul"),
    "softmax": (nn.Softmax(dim=0), "torch.nn.functional.softmax.*in Softmax"),
    "cumsum": (lambda x: torch.cumsum(x, 0), "torch.cumsum"),
    "mean": (branching, "torch.Tensor.mean"),
    "if": (choosing, r"depends on the values of x(.|\n)*if x > 0:"),
    "dropout": (Swish(), r"dropout in training mode(.|\n)*self.drop"),
    "rrelu": (nn.RReLU(), "rrelu in training mode"),
    "math": (lambda x: math.tanh(x), "__float__"),
    "item": (lambda x: x.item(), "item"),
    "numpy": (lambda x: x.numpy(), "numpy"),
    "max over a dimension": (lambda x: x.max(0)[0], "max"),
    "max": (lambda x: x - x.max(), "max"),
    "flip": (lambda x: x.flip(0), "flip"),
    "position": (lambda x: x[1:], "by position"),
    "setting by position": (lambda x: x.clone().__setitem__(0, 1.0), "by position"),
    "per element": (lambda x: x * torch.linspace(0, 1, 7), "7 elements"),
    "many parameters": (nn.PReLU(7), "7 elements"),
    "other masks": (lambda x: x[x > 0] + x[x > 1], "different masks"),
    "chosen elements": (lambda x: x[x > 0], "only the elements chosen"),
    "linear": (nn.Sequential(nn.Linear(7, 7), nn.ReLU()), "torch.nn.functional.linear"),
    "random": (lambda x: x * torch.randn(()), "at x = "),
    "state": (counting, "at x = "),
    "out": (lambda x: torch.exp(x, out=torch.empty_like(x)), "empty_like"),
    "integers": (lambda x: x.to(torch.int64), "int64"),
    "attribute": (lambda x: x.grad, "torch.Tensor.grad"),
    "number": (lambda x: 3.0, "gives float"),
    "pair": (lambda x: (x, x), "gives tuple"),
    "constant": (lambda x: torch.tensor(3.0), "does not come from x"),
    "two arguments": (lambda x, y: x, "missing 1 required"),
    "no such method": (lambda x: x.foo(), "foo"),
    "shape": (lambda x: torch.zeros_like(x) + torch.zeros(1, 1, dtype=x.dtype), "shape"),
    "unknown": (lambda x: torch.erfinv(x), "torch.erfinv.*not a pointwise operation"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_is_not_pointwise_or_unknown_is_refused_by_name(which):
    function, said = REFUSED[which]
    with pytest.raises(TracingError, match=said):
        trace(function)


def test_the_refusal_says_where():
    with pytest.raises(TracingError, match=r"test_tracing\.py:\d+: if x\.mean\(\) > 0:"):
        trace(branching)


def test_only_callables_are_traced():
    with pytest.raises(TypeError, match="callable"):
        trace(3)  # type: ignore[arg-type]


unary = st.sampled_from(
    [torch.tanh, torch.sigmoid, torch.erf, torch.sin, F.softplus, F.elu, F.gelu, F.hardswish, torch.abs, torch.relu]
)
binary = st.sampled_from([torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum])
compositions = st.recursive(
    st.one_of(st.just(lambda x: x), st.floats(-2, 2).map(lambda c: lambda x: torch.full_like(x, c))),
    lambda inner: st.one_of(
        st.tuples(unary, inner).map(lambda p: lambda x: p[0](p[1](x))),
        st.tuples(binary, inner, inner).map(lambda p: lambda x: p[0](p[1](x), p[2](x))),
        st.tuples(inner, inner, st.floats(-2, 2)).map(lambda p: lambda x: torch.where(x > p[2], p[0](x), p[1](x))),
    ),
    max_leaves=8,
)


@given(compositions)
def test_compositions(function):
    layer = trace(function)
    torch.testing.assert_close(layer(POINTS), function(POINTS), rtol=1e-7, atol=1e-7)
