"""Derivatives through whole models, against nested automatic differentiation in float64."""

import copy
import itertools
import pickle
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import varphi as vp
from varphi.jets import nested
from varphi.jets import symbol as s
from varphi.jets.channels import MissingRule
from varphi.jets.operators import apply


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.blocks = nn.Linear(3, 8), nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        for block in self.blocks:
            h = h + torch.sin(block(h))
        return self.last(h)


class Dense(nn.Module):
    """What an activation gives is used twice, and joined with the input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sigmoid(self.a(x))
        return self.c(torch.cat([h, nn.functional.gelu(self.b(h)), x], -1))


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(3, 16)
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.Softplus(), nn.AvgPool2d(2), nn.Conv2d(4, 2, 2), nn.SiLU(), nn.Flatten()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.up(x).view(-1, 1, 4, 4))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.q, self.k, self.v = nn.Linear(3, 12), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x).unflatten(-1, (3, 4))
        h = h + nn.functional.scaled_dot_product_attention(self.q(h), self.k(h), self.v(h))
        weights = torch.softmax(h @ h.transpose(-1, -2), dim=-1)
        return (weights @ self.norm(h)).mean(-2)


class Heads(nn.Module):
    """Two layers of multi-head attention: one of the tokens among themselves, one asked by constant queries."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(1, 8)
        self.encoder = nn.MultiheadAttention(8, 2, batch_first=True)
        self.decoder = nn.MultiheadAttention(6, 3, kdim=8, vdim=8, add_bias_kv=True, add_zero_attn=True)
        self.asked = nn.Parameter(torch.randn(2, 1, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.up(x.unsqueeze(-1)))
        h = (h + self.encoder(h, h, h, need_weights=False)[0]).transpose(0, 1)
        found, weights = self.decoder(self.asked.expand(-1, len(x), -1), h, h)
        return found.mean(0) + weights.square().sum(-1)[:, :1]


class Fourier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(3, 6))
        self.body = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        phase = 2 * torch.pi * (x @ self.frequencies) / 5
        return self.body(torch.cat([phase.sin(), phase.cos()], dim=-1))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.group, self.rms = nn.Linear(3, 8), nn.GroupNorm(2, 8), nn.RMSNorm(8)
        self.batch, self.down = nn.BatchNorm1d(8), nn.Linear(8, 2)
        nn.init.uniform_(self.batch.running_mean)
        nn.init.uniform_(self.batch.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.rms(torch.tanh(self.batch(self.group(self.up(x))))))


class Gated(nn.Module):
    """Multiplicative, with divisions, powers and pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.u, self.v, self.z = nn.Linear(3, 6), nn.Linear(3, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        u, v = torch.tanh(self.u(x)), torch.exp(0.3 * self.v(x))
        h = u * v + (1 - u) * (x[..., :1] ** 3) / (1 + v**2)
        h = torch.where(h > 0.1, h, 0.5 * h * h) - torch.maximum(u, 0.2 * v) + torch.logsumexp(h, -1, keepdim=True)
        h = torch.einsum("...i,...i->...i", h, u) + 1 / (2 + torch.linalg.vector_norm(v, dim=-1, keepdim=True))
        return self.z(h) - x.prod(-1, keepdim=True) + h.std(-1, keepdim=True)


def chain(name: str, width: int = 7, depth: int = 3, outputs: int = 1, **parameters: float) -> nn.Sequential:
    sizes = [3, *[width] * depth]
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), vp.get(name, **parameters)]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "tanh": lambda: chain("tanh"),
    "gelu": lambda: chain("gelu", outputs=2),
    "mish": lambda: chain("mish", width=19),
    "softplus": lambda: chain("softplus", beta=3.0),
    "sin": lambda: nn.Sequential(chain("sin"), vp.get("tanh"), nn.Linear(1, 1, bias=False)),
    "formula": lambda: nn.Sequential(nn.Linear(3, 5), vp.as_activation("x*tanh(exp(x))"), nn.Linear(5, 1)),
    "learned": lambda: nn.Sequential(nn.Linear(3, 5), vp.get("softplus", beta=2.0, learn=("beta",)), nn.Linear(5, 1)),
    "residual": Residual,
    "dense": Dense,
    "convolutional": Convolutional,
    "attention": Attention,
    "heads": Heads,
    "fourier": Fourier,
    "normed": Normed,
    "gated": Gated,
}


class WrittenOut(nn.Module):
    """Layer normalisation by elementary operations.

    torch 2.13's own gives wrong third derivatives: at the seeds used here it differs from this by more than the value.
    """

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps) * self.weight + self.bias


def by_autograd(model: nn.Module, x: Tensor, wanted: list[s.Symbol]) -> tuple[Tensor, list[Tensor]]:
    """The reference for a model."""
    shared = copy.copy(model)
    shared._modules = {n: WrittenOut(m) if isinstance(m, nn.LayerNorm) else m for n, m in model._modules.items()}
    return nested.apply(shared, x, wanted)


def built(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return MODELS[name]().double().eval()


CLOSE = {"rtol": 1e-10, "atol": 1e-11}


def points(samples: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(samples, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype) * 2 - 1


def symbols() -> list[s.Symbol]:
    """Mixed and high orders, some alone and some as sums."""
    return [
        s.monomial((0,), 3),
        s.laplacian(3),
        {(1, 1, 0): Fraction(3), (0, 0, 2): Fraction(-1, 2)},
        {(2, 1, 0): Fraction(1), (0, 1, 2): Fraction(2)},
    ]


@pytest.mark.parametrize("name", MODELS)
def test_values_and_derivatives(name: str) -> None:
    model, x = built(name), points()
    value, found = apply(model, x, symbols())
    expected_value, expected = by_autograd(model, x, symbols())
    torch.testing.assert_close(value, expected_value, **CLOSE)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_by_parameters_and_inputs(name: str) -> None:
    model = built(name)

    def gradients(by: object) -> list[Tensor]:
        x = points().requires_grad_()
        value, found = by(model, x, symbols()[:3])
        loss = value.square().sum() + sum((f.sin() * (i + 1)).sum() for i, f in enumerate(found))
        return list(torch.autograd.grad(loss, [x, *model.parameters()], allow_unused=True, materialize_grads=True))

    torch.testing.assert_close(gradients(apply), gradients(by_autograd), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["tanh", "residual", "dense", "convolutional"])
def test_second_derivatives_by_parameters(name: str) -> None:
    model = built(name)

    def curvature(by: object) -> list[Tensor]:
        x = points(3)
        _, (found,) = by(model, x, [s.laplacian(3)])
        parameters = list(model.parameters())
        first = torch.autograd.grad(found.square().sum(), parameters, create_graph=True, allow_unused=True)
        total = sum(g.square().sum() for g in first if g is not None and g.requires_grad)
        return list(torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True))

    torch.testing.assert_close(curvature(apply), curvature(nested.apply), rtol=1e-8, atol=1e-9)


def test_the_named_operators() -> None:
    model, x = built("gelu"), points()
    value, slopes = vp.gradient(model, x)
    assert value.shape == (6, 2) and slopes.shape == (6, 2, 3)
    _, curvatures = vp.hessian(model, x)
    assert curvatures.shape == (6, 2, 3, 3)
    for i in range(6):
        jacobian = torch.func.jacrev(model)(x[i])
        torch.testing.assert_close(slopes[i], jacobian, **CLOSE)
        torch.testing.assert_close(curvatures[i], torch.func.jacfwd(torch.func.jacrev(model))(x[i]), **CLOSE)
    _, laplacian = vp.laplacian(model, x)
    torch.testing.assert_close(laplacian, curvatures.diagonal(dim1=-2, dim2=-1).sum(-1), **CLOSE)
    _, bilaplacian = vp.bilaplacian(model, x)
    _, (again,) = nested.apply(model, x, [s.laplacian(3, 2)])
    torch.testing.assert_close(bilaplacian, again, **CLOSE)


@pytest.mark.parametrize("order", range(1, 7))
@pytest.mark.parametrize("name", ["tanh", "silu", "sin"])
def test_jets_against_fifty_digits(order: int, name: str) -> None:
    mpmath = pytest.importorskip("mpmath")
    functions = {"tanh": mpmath.tanh, "silu": lambda z: z / (1 + mpmath.exp(-z)), "sin": mpmath.sin}
    torch.manual_seed(order)
    model = chain(name, width=4, depth=2).double()
    x, v = torch.randn(2, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    found = vp.jet(model, x, v, order)
    assert found.shape == (order + 1, 2, 1)
    with mpmath.workdps(50):
        for i in range(2):

            def along(t: object, i: int = i) -> object:
                h = [mpmath.mpf(a) + t * mpmath.mpf(b) for a, b in zip(x[i].tolist(), v.tolist(), strict=True)]
                for layer in model:
                    if isinstance(layer, nn.Linear):
                        rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
                        h = [sum(mpmath.mpf(w) * z for w, z in zip(row, h, strict=True)) + b for row, b in rows]
                    else:
                        h = [functions[name](z) for z in h]
                return h[0]

            exact = [c * mpmath.factorial(k) for k, c in enumerate(mpmath.taylor(along, 0, order))]
            largest = max(map(abs, exact))
            for k in range(order + 1):
                assert abs(found[k, i, 0].item() - exact[k]) <= 1e-12 * max(largest, 1)


def test_directions_of_every_shape() -> None:
    model, x = built("tanh"), points()
    v = torch.randn(4, 3, dtype=torch.float64)
    several = vp.jet(model, x, v, 3)
    assert several.shape == (4, 4, 6, 1)
    torch.testing.assert_close(several[2], vp.jet(model, x, v[2], 3), **CLOSE)
    each = vp.jet(model, x, v[:, None].expand(4, 6, 3), 3)
    torch.testing.assert_close(each, several, **CLOSE)
    with pytest.raises(ValueError, match=r"directions have shape \(4, 2\)"):
        vp.jet(model, x, v[:, :2], 2)
    with pytest.raises(ValueError, match="whole number from 1 to 6"):
        vp.jet(model, x, v, 7)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 4, 3), (0, 3), (2, 3, 2, 3)])
def test_batch_shapes(shape: tuple[int, ...]) -> None:
    model, x = built("gelu"), torch.randn(*shape, dtype=torch.float64)
    value, found = vp.laplacian(model, x)
    assert value.shape == found.shape == (*shape[:-1], 2)
    torch.testing.assert_close(value, model(x), **CLOSE)
    flat = x.reshape(-1, 3)
    if len(flat):
        _, (expected,) = nested.apply(model, flat, [s.laplacian(3)])
        torch.testing.assert_close(found.reshape(-1, 2), expected, **CLOSE)


@pytest.mark.parametrize("samples", [1, 5, 3000])
def test_float32_and_many_tiles(samples: int) -> None:
    model, x = built("tanh"), points(samples)
    wide = copy.deepcopy(model)
    model = model.float()
    _, (exact,) = nested.apply(wide, x, [s.laplacian(3)])
    _, found = vp.laplacian(model, x.float())
    assert found.dtype is torch.float32
    assert (found - exact).norm() <= 2e-6 * exact.norm()
    mine = torch.autograd.grad(found.square().mean(), list(model.parameters()), allow_unused=True)
    theirs = torch.autograd.grad(exact.square().mean(), list(wide.parameters()), allow_unused=True)
    pairs = [(a.flatten(), b.flatten()) for a, b in zip(mine, theirs, strict=True) if a is not None and b is not None]
    a, b = (torch.cat(side) for side in zip(*pairs, strict=True))
    assert (a - b).norm() <= 2e-6 * b.norm()


def test_without_gradients_nothing_is_kept() -> None:
    model, x = built("tanh"), points()
    with torch.no_grad():
        value, found = vp.laplacian(model, x)
    assert not value.requires_grad and not found.requires_grad
    torch.testing.assert_close(found, vp.laplacian(model, x)[1].detach(), rtol=0, atol=0)


def test_threads_and_repetition_give_the_same_bits() -> None:
    model, x = built("mish"), points(2000)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results += [vp.bilaplacian(model, x)[1] for _ in range(2)]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[2], results[3])
    torch.testing.assert_close(results[0], results[2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["tanh", "residual", "learned"])
def test_transforms_of_torch_func(name: str) -> None:
    """The residual's Jacobian by the parameters, as least-squares methods ask for it."""
    model, x = built(name), points(4)
    parameters = dict(model.named_parameters())

    def residual(p: dict[str, Tensor]) -> Tensor:
        return vp.laplacian(lambda z: torch.func.functional_call(model, p, (z,)), x)[1].sum(-1)

    found = torch.func.jacrev(residual)(parameters)
    for i in range(4):
        row = torch.autograd.grad(residual(parameters)[i], list(parameters.values()), allow_unused=True)
        for (key, p), g in zip(parameters.items(), row, strict=True):
            torch.testing.assert_close(found[key][i], torch.zeros_like(p) if g is None else g, rtol=1e-9, atol=1e-10)


def test_a_model_that_does_not_depend_on_its_input() -> None:
    value, found = vp.laplacian(lambda x: torch.ones(len(x), 2), points())
    assert torch.equal(value, torch.ones(6, 2)) and torch.equal(found, torch.zeros(6, 2))
    value, found = vp.laplacian(lambda x: x.detach() ** 2, points())
    assert torch.equal(found, torch.zeros(6, 3, dtype=torch.float64))


def test_polynomials_are_exact() -> None:
    value, found = vp.bilaplacian(lambda x: (x.square().sum(-1, keepdim=True)) ** 2, points())
    # ΔΔ |x|⁴ = 8 d (d + 2) / ... : Δ|x|⁴ = 4(d + 2)|x|², and Δ of that is 8 d (d + 2).
    torch.testing.assert_close(found, torch.full_like(value, 8 * 3 * 5), **CLOSE)


IN_PLACE = {
    "relu_": lambda h: F.relu(h, inplace=True),
    "add_": lambda h: h.add_(1).mul_(2),
    "sub_": lambda h: h.sub_(h * 0.5),
    "tanh_": lambda h: h.tanh_(),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_operations_in_place(name: str) -> None:
    linear = nn.Linear(3, 4).double()

    def model(x: Tensor) -> Tensor:
        return IN_PLACE[name](linear(x)) ** 2

    def out_of_place(x: Tensor) -> Tensor:
        return IN_PLACE[name](linear(x) * 1) ** 2

    _, found = vp.laplacian(model, points())
    _, (expected,) = nested.apply(out_of_place, points(), [s.laplacian(3)])
    torch.testing.assert_close(found, expected, **CLOSE)


SPELLINGS = {
    "arithmetic": lambda x: (3 - x) / (2 + x.abs()) + 2 ** x - (-x) * 1.5 + x.square().rsqrt() + 1 / (3 + x),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5) + torch.lerp(x, x**2, 0.3),
    "reductions": lambda x: x.sum(-1, keepdim=True) * x.mean(-1, True) + x.var(-1, keepdim=True) + x.amax(-1, True),
    "max": lambda x: x.max(-1, keepdim=True).values + x.min(dim=-1, keepdim=True)[0] * x,
    "shapes": lambda x: torch.stack([x, x * x], -1).flatten(-2).reshape(-1, 2, 3).permute(0, 2, 1).sum(-1).flip(-1),
    "indexing": lambda x: torch.cat([x[:, 1:], x[..., None, 0]], 1) * x[:, [2, 0, 1]] + x.T.roll(1, 0).T,
    "chunks": lambda x: sum(a * b for a, b in zip(x.split(1, -1), x.chunk(3, 1), strict=True)) * x[:, :1],
    "softmax": lambda x: torch.log_softmax(x, -1) + F.softmax(x, dim=-1) * x,
    "bilinear": lambda x: F.bilinear(x, x, torch.ones(2, 3, 3, dtype=x.dtype)) @ torch.ones(2, 3, dtype=x.dtype),
    "matrices": lambda x: (x[:, :, None] @ x[:, None, :]).flatten(1) @ torch.arange(9.0, dtype=x.dtype)[:, None],
    "normalised": lambda x: F.normalize(x, dim=-1) + x.norm(dim=-1, keepdim=True),
    "pooled": lambda x: F.max_pool1d(x[:, None] * x[:, :, None], 2).flatten(1),
    "dropout": lambda x: F.dropout(x, 0.5, training=False) * x,
    "power": lambda x: (2 + x) ** (1 + x),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_rules(name: str) -> None:
    x = points()
    value, found = apply(SPELLINGS[name], x, symbols())
    expected_value, expected = nested.apply(SPELLINGS[name], x, symbols())
    torch.testing.assert_close(value, expected_value, **CLOSE)
    torch.testing.assert_close(found, expected, **CLOSE)


def _mask(*shape: int) -> Tensor:
    """True where something is left out, never everything."""
    return (torch.rand(shape, generator=torch.Generator().manual_seed(5)) < 0.4) & (torch.arange(shape[-1]) > 0)


HEADS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "plain": ({}, {}),
    "weights of each head": ({"bias": False}, {"average_attn_weights": False}),
    "without weights": ({"batch_first": True}, {"need_weights": False}),
    "left out": ({}, {"attn_mask": _mask(4, 4)}),
    "added": ({"add_zero_attn": True}, {"attn_mask": torch.linspace(-1, 1, 16, dtype=torch.float64).view(4, 4)}),
    "for each head": ({"add_bias_kv": True}, {"attn_mask": _mask(3 * 2, 4, 4)}),
    "padded": ({}, {"key_padding_mask": _mask(3, 4)}),
    "both": ({"add_bias_kv": True, "add_zero_attn": True}, {"attn_mask": _mask(4, 4), "key_padding_mask": _mask(3, 4)}),
    "causal": ({}, {"attn_mask": torch.ones(4, 4).triu(1).bool(), "is_causal": True, "need_weights": False}),
}


@pytest.mark.parametrize("name", HEADS)
def test_multi_head_attention(name: str) -> None:
    made, called = HEADS[name]
    torch.manual_seed(3)
    attention = nn.MultiheadAttention(6, 2, **made).double()
    for p in attention.parameters():
        nn.init.normal_(p, 0, 0.7)

    def model(x: Tensor) -> Tensor:
        rows, columns = (3, 4) if attention.batch_first else (4, 3)
        h = torch.sin(x[:, :1] * torch.arange(72.0, dtype=x.dtype) + x[:, 1:2]).view(-1, rows, columns, 6)
        found = []
        for one in h:
            result, weights = attention(one, one**2, one**2, **called)
            found.append(result.sum((0, 1)) + (0 if weights is None else weights.square().sum()))
        return torch.stack(found)

    value, found = apply(model, points(2), symbols())
    expected_value, expected = nested.apply(model, points(2), symbols())
    torch.testing.assert_close(value, expected_value, **CLOSE)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize(
    "given", [{}, {"is_causal": True}, {"attn_mask": ~_mask(4, 4)}, {"scale": 0.3}, {"enable_gqa": True}]
)
def test_scaled_dot_product_attention(given: dict[str, object]) -> None:
    def model(x: Tensor) -> Tensor:
        q = torch.sin(x[:, :1] * torch.arange(64.0, dtype=x.dtype)).view(-1, 4, 4, 4)
        k = (q[:, :2] if given.get("enable_gqa") else q) ** 2
        return F.scaled_dot_product_attention(q, k, k + x[:, 1, None, None, None], **given).flatten(1)

    value, found = apply(model, points(2), symbols())
    expected_value, expected = nested.apply(model, points(2), symbols())
    torch.testing.assert_close(value, expected_value, **CLOSE)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-9)


def test_attention_drops_the_same_weights_in_all_derivatives() -> None:
    attention = nn.MultiheadAttention(4, 1, dropout=0.5).double()

    def model(x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return attention(x, x, x)[0]

    x = torch.randn(5, 4, dtype=torch.float64)
    value, found = vp.jet(lambda t: model(x + t.reshape(()) * x.cos()).reshape(-1), torch.zeros(1).double(), [1.0], 1)
    step = 1e-6
    expected = (model(x + step * x.cos()) - model(x - step * x.cos())) / (2 * step)
    torch.testing.assert_close(value, model(x).reshape(-1))
    torch.testing.assert_close(found, expected.reshape(-1), rtol=1e-6, atol=1e-8)
    assert (model(x) != attention.eval()(x, x, x)[0]).any()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda a, h: a(h, h, h, is_causal=True, need_weights=False), "hint about attn_mask"),
        (lambda a, h: F.multi_head_attention_forward(h, h[0], h, 4, 1, a.in_proj_weight, None, None, None, False, 0.0,
                                                     a.out_proj.weight, None), "query, key and value"),
    ],
)  # fmt: skip
def test_attention_that_does_not_fit_is_refused(call: Callable[..., object], message: str) -> None:
    attention = nn.MultiheadAttention(4, 1).double()
    with pytest.raises(ValueError, match=message):
        vp.laplacian(lambda x: call(attention, x.view(1, 2, 4)), torch.ones(8).double())


def test_an_operation_without_a_rule_is_named() -> None:
    model = lambda x: torch.cumprod(x, -1)  # noqa: E731
    with pytest.raises(MissingRule, match="cumprod"):
        vp.laplacian(model, points())
    _, found = vp.laplacian(model, points(), fallback="autograd")
    _, (expected,) = nested.apply(model, points(), [s.laplacian(3)])
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize(
    "model, message",
    [
        (lambda x: x if x.sum() > 0 else -x, None),
        (lambda x: torch.tensor(x.tolist()), "tolist"),
        (lambda x: x * float(x[0, 0]), "__float__"),
        (lambda x: nn.BatchNorm1d(3).double()(x), "training mode"),
    ],
)
def test_what_loses_derivatives_is_refused(model: object, message: str | None) -> None:
    if message is None:  # a comparison of values is a plain truth
        vp.laplacian(model, points())
        return
    with pytest.raises(MissingRule, match=message):
        vp.laplacian(model, points())


@pytest.mark.parametrize(
    "x, error, message",
    [
        (torch.ones(3, 3, dtype=torch.int64), TypeError, "floating-point"),
        ([[1.0, 2.0, 3.0]], TypeError, "must be a tensor"),
        (torch.tensor(1.0), ValueError, "shape"),
        (torch.ones(4, 0), ValueError, "d >= 1"),
    ],
)
def test_unusable_inputs(x: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        vp.laplacian(built("tanh"), x)


def test_an_unknown_fallback_is_refused() -> None:
    with pytest.raises(ValueError, match='fallback is "autograd" or None'):
        vp.laplacian(built("tanh"), points(), fallback="finite differences")


def test_setting_a_part_is_refused() -> None:
    def model(x: Tensor) -> Tensor:
        h = x * 2
        h[:, 0] = 1
        return h

    with pytest.raises(MissingRule, match="assigning to part"):
        vp.laplacian(model, points())


def test_dropout_uses_one_mask_for_all_derivatives() -> None:
    torch.manual_seed(0)
    value, found = vp.gradient(lambda x: F.dropout(x * x, 0.5), points())
    kept = value != 0
    torch.testing.assert_close(found.diagonal(dim1=-2, dim2=-1), torch.where(kept, 4 * points(), 0.0))


def test_models_are_unchanged_and_still_copied_and_pickled() -> None:
    model, x = built("residual"), points()
    before = copy.deepcopy(model.state_dict())
    _, found = vp.laplacian(model, x)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    again = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert torch.equal(vp.laplacian(again, x)[1], found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", MODELS)
def test_on_cuda(name: str) -> None:
    model, x = built(name), points()
    expected = vp.laplacian(model, x)[1]
    torch.testing.assert_close(vp.laplacian(model.cuda(), x.cuda())[1].cpu(), expected, rtol=1e-9, atol=1e-10)
