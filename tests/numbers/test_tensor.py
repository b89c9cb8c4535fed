"""Torch operations against ball arithmetic: every operation, both precisions, broadcasting, gradients."""

import math

import flint
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from varphi.numbers import ELEMENTARY, OPERATIONS, exprel, hill, maximum, minimum, sinc, squareplus, system_of, where
from varphi.numbers.ball import OutsideDomain, precision

arb = flint.arb
UNARY = [*sorted(n for n, f in ELEMENTARY.items() if f.arity == 1), "neg", "abs", "exprel", "sinc"]
DTYPES = [torch.float64, torch.float32]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
ANY = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-100, 100) | st.floats(-3, 3) | st.floats(-750, 750)
# What torch's own float32 functions lose, in units of the last place: in relative terms far out, where the argument's
# own rounding counts (erfc, log_sigmoid), else two or three.
UNITS = {
    "erfc": {torch.float32: 60, torch.float64: 20},
    "normal_cdf": {torch.float32: 16, torch.float64: 16},
    "exprel": {torch.float32: 16, torch.float64: 16},
    "sinh": {torch.float32: 8, torch.float64: 8},
    "cosh": {torch.float32: 8, torch.float64: 8},
}


def apply(name, *arguments):
    if name in ("exprel", "sinc"):
        return {"exprel": exprel, "sinc": sinc}[name](*arguments)
    return system_of(*arguments).apply(name, *arguments)


def units_off(got: float, exact, dtype: torch.dtype) -> float:
    """The distance of a result from a ball, in units in the last place of the element type."""
    info = torch.finfo(dtype)
    if not exact.is_finite():
        return 0.0 if not math.isfinite(got) else math.inf
    if math.isnan(got):
        return math.inf
    size = abs(exact.mid())
    if size > arb(info.max) * (1 - 8 * arb(info.eps)):
        return 0.0 if abs(got) >= info.max * (1 - 16 * info.eps) else math.inf
    # torch may flush a result below the normal numbers to zero.
    if size < 2 * arb(info.tiny):
        return 0.0 if abs(got) <= 4 * info.tiny else math.inf
    ulp = info.eps * 2.0 ** math.floor(math.log2(float(size)))
    return float(abs(arb(got) - exact).upper()) / ulp


@settings(max_examples=25)
@given(values=st.lists(ANY, min_size=1, max_size=40))
@example([0.0, -0.0, 1.0, -1.0])
@example([88.7, 88.73, -87.4, -103.9, 709.7, -708.0, -745.2])
@each_dtype
@pytest.mark.parametrize("name", UNARY)
def test_against_balls(name, dtype, values):
    x = torch.tensor(values, dtype=torch.float64).to(dtype)
    x = x[x.isfinite()]
    if dtype is torch.float32:
        x = torch.where(x.abs() < 1e-37, 0, x)
    result = apply(name, x)
    assert result.dtype is dtype and result.shape == x.shape
    for at, got in zip(x.tolist(), result.tolist(), strict=True):
        try:
            with precision(300 if abs(at) < 1e4 else 1200):
                exact = apply(name, arb(at))
        except OutsideDomain:
            assert math.isnan(got)
            continue
        if name == "log" and at == 0:
            assert got == -math.inf
            continue
        assert units_off(got, exact, dtype) <= UNITS.get(name, {}).get(dtype, 4), (at, got, str(exact))


@settings(max_examples=60)
@given(x=st.floats(-1e15, 1e15), b=st.floats(1e-6, 1e6))
@example(-1e15, 4.0)
@example(0.0, 0.5)
@each_dtype
def test_squareplus(dtype, x, b):
    x, b = (torch.tensor([v], dtype=torch.float64).to(dtype) for v in (x, b))
    with precision(300):
        at, c = arb(x.item()), arb(b.item())
        root = (at * at + c).sqrt()
        exact = (at + root) / 2 if x.item() > 0 else c / (root - at) / 2
    assert units_off(squareplus(x, b).item(), exact, dtype) <= 6
    assert units_off(squareplus(x, b.item()).item(), exact, dtype) <= 6


@settings(max_examples=60)
@given(x=st.just(0.0) | st.floats(1e-6, 1e6), k=st.floats(1e-3, 1e3), n=st.sampled_from([1, 2, 4, 0.5, 2.5]))
@each_dtype
def test_hill(dtype, x, k, n):
    x, k = (torch.tensor([v], dtype=torch.float64).to(dtype) for v in (x, k))
    with precision(300):
        ratio = (arb(x.item()) / arb(k.item())) ** arb(n) if x.item() else arb(0)
        exact = ratio / (1 + ratio)
    for got in (hill(x, k, n), hill(x, k.item(), n), hill(x, k, torch.tensor(float(n), dtype=dtype))):
        assert units_off(got.item(), exact, dtype) <= 16
    assert units_off(hill(x.item(), k, n).item(), exact, dtype) <= 16


def test_hill_s_gradients_are_finite_at_zero():
    x, k = (
        torch.zeros(3, dtype=torch.float64, requires_grad=True),
        torch.ones(3, dtype=torch.float64, requires_grad=True),
    )
    n = torch.full((3,), 2.0, dtype=torch.float64, requires_grad=True)
    for gradient in torch.autograd.grad(hill(x, k, n).sum(), (x, k, n)):
        assert gradient.tolist() == [0, 0, 0]
    slope = torch.autograd.grad(hill(x, k, 1).sum(), x)[0]
    assert slope.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", UNARY)
@each_dtype
def test_infinities_and_nan(name, dtype):
    from varphi.numbers.real import OPERATIONS as REAL

    for at in (-math.inf, math.inf, math.nan):
        got = apply(name, torch.tensor([at], dtype=dtype)).item()
        real = REAL[name](at, 0) if name in ("exprel", "sinc") else REAL[name](at)
        if name == "sign" and math.isnan(at):
            continue  # torch.sign(nan) is 0: `hides_nan` knows
        assert got == pytest.approx(real, rel=1e-6) or (math.isnan(got) and math.isnan(real)), (at, got, real)


@pytest.mark.parametrize("name", UNARY)
def test_gradients_where_a_branch_is_not_taken_are_finite(name):
    x = torch.tensor([-300.0, -90.0, -41.0, -3.0, 0.0, 2.0, 3.0, 41.0, 90.0, 300.0], dtype=torch.float64)
    x = (x.abs() + 0.5 if name in ("log", "log1p", "sqrt") else x).requires_grad_()
    (gradient,) = torch.autograd.grad(apply(name, x).sum(), x, materialize_grads=True, allow_unused=True)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("n", range(5))
@each_dtype
def test_indexed_families(n, dtype):
    x = torch.cat([torch.linspace(-30, 30, 121), torch.tensor([1e-8, 0.0, n + 2.0, -n - 2.0])]).to(dtype)
    info = torch.finfo(dtype)
    for function in (exprel, sinc):
        exact = [float(function(v, n)) for v in x.tolist()]
        exact = torch.tensor(exact, dtype=torch.float64).to(dtype)
        tolerance = {"rtol": 64 * info.eps, "atol": 0} if function is exprel else {"rtol": 0, "atol": 32 * info.eps}
        torch.testing.assert_close(function(x, n), exact, **tolerance)


BINARY = ["add", "sub", "mul", "div", "maximum", "minimum"]


@settings(max_examples=30)
@given(a=st.floats(-1e6, 1e6, width=32), b=st.floats(-1e6, 1e6, width=32).filter(lambda v: abs(v) > 1e-6))
@each_dtype
@pytest.mark.parametrize("name", [*BINARY, "lt", "le", "gt", "ge", "eq", "ne"])
def test_operators_with_numbers_on_either_side(name, dtype, a, b):
    x, y = torch.tensor([a], dtype=dtype), torch.tensor([b], dtype=dtype)
    expected = apply(name, x, y)
    assert torch.equal(apply(name, x, b), expected)
    # number / tensor is number · reciprocal in torch: two roundings.
    torch.testing.assert_close(apply(name, a, y), expected, rtol=2 * torch.finfo(dtype).eps * (name == "div"), atol=0)
    assert expected.dtype is (dtype if name in BINARY else torch.bool)
    reference = apply(name, a, b)
    assert expected.item() == pytest.approx(reference, rel=2 * torch.finfo(dtype).eps, abs=torch.finfo(dtype).tiny)


SHAPES = [((3, 1), (4,)), ((2, 3), ()), ((), (5,)), ((2, 1, 3), (4, 1)), ((0, 3), (1, 3))]


@pytest.mark.parametrize("a, b", SHAPES)
@pytest.mark.parametrize(
    "function", [maximum, minimum, squareplus, lambda a, b: hill(a, b, 2), lambda a, b: where(a > b, a, b)]
)
def test_broadcasting(function, a, b):
    x = torch.rand(a, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    y = torch.rand(b, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.1
    got = function(x, y)
    whole_x, whole_y = torch.broadcast_tensors(x, y)
    assert got.shape == whole_x.shape
    assert torch.equal(got, function(whole_x.clone(), whole_y.clone()))


@each_dtype
def test_a_choice_between_two_numbers_is_exact(dtype):
    x = torch.tensor([-1.0, 1.0], dtype=dtype)
    chosen = where(x > 0, 0.1, 1)
    assert (chosen * x).tolist() == (torch.tensor([1, 0.1], dtype=torch.float64) * x).tolist()
    third = where(x > 0, 1, 0) / 3
    assert third.tolist() == [0, 1 / 3]


def test_a_choice_keeps_its_dtype_where_a_tensor_is_chosen():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.tensor([-1.0, 1.0], dtype=dtype)
        assert where(x > 0, x, 0.1).dtype is where(x > 0, 2, x).dtype is dtype


def test_python_s_truth_chooses_too():
    x = torch.ones(2)
    assert where(True, x, 0) is x
    assert where(2 > 3, 1.5, x) is x


def test_all_operations_are_there():
    assert set(OPERATIONS) == set(system_of(torch.ones(1)).operations)
