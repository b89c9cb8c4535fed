"""Plain floats: accurate to rounding, and at every float some float: never an exception."""

import math
from fractions import Fraction

import mpmath
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from varphi.numbers import ELEMENTARY, OPERATIONS, exprel, hill, sinc, squareplus
from varphi.numbers.real import OPERATIONS as REAL

mp = mpmath.mp.clone()
mp.dps = 50

INF, NAN = math.inf, math.nan
ONE_ARGUMENT = [*sorted(n for n, f in ELEMENTARY.items() if f.arity == 1), "neg", "abs", "exprel", "sinc"]
TWO_ARGUMENTS = ["add", "sub", "mul", "div", "pow", "maximum", "minimum"]
ANY = st.floats(allow_nan=True, allow_infinity=True)
FINITE = (
    st.floats(-700, 700) | st.floats(-3, 3) | st.floats(-1e-5, 1e-5) | st.floats(allow_nan=False, allow_infinity=False)
)


def unary(name):
    return (lambda x: REAL[name](x, 0)) if name in ("exprel", "sinc") else REAL[name]


REFERENCE = {
    "neg": lambda x: -x,
    "abs": abs,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)) if x > 0 else mp.exp(x) / (1 + mp.exp(x)),
    "softplus": lambda x: x + mp.log1p(mp.exp(-x)) if x > 0 else mp.log1p(mp.exp(x)),
    "log_sigmoid": lambda x: -mp.log1p(mp.exp(-x)) if x > 0 else x - mp.log1p(mp.exp(x)),
    "tanhshrink": lambda x: x - mp.tanh(x) if abs(x) > 1 else x**3 / 3 * mp.hyp0f1(2.5, x * x / 4) / mp.cosh(x),
    "erf_slope": lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x),
    "normal_pdf": lambda x: mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi),
    "normal_cdf": lambda x: mp.erfc(-x / mp.sqrt(2)) / 2,
    "exprel": lambda x: mp.expm1(x) / x if x else mp.mpf(1),
    "sinc": lambda x: mp.sin(x) / x if x else mp.mpf(1),
    **{name: getattr(mp, name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "sign", "sin", "cos", "sinh",
                                            "cosh", "tanh", "sech", "asinh", "atan", "erf", "erfc")},
}  # fmt: skip
# The others, at arguments beyond 1e5, are at their limits, and mpmath's exponents too large to wait for.
ALGEBRAIC = {"neg", "abs", "sign", "sqrt", "log", "log1p", "asinh", "atan", "sin", "cos", "sinc"}
DOMAIN = {"log": 0, "sqrt": 0, "log1p": -1}
# e^(-x²): rounding x² costs x² units, up to the underflow at x² = 745.
UNITS = {"erf_slope": 800, "normal_pdf": 800, "erfc": 60, "normal_cdf": 1600}


def test_every_function_has_a_reference():
    assert set(ONE_ARGUMENT) == set(REFERENCE)
    assert set(REAL) == set(OPERATIONS)


def units_off(got: float, true) -> float:
    if abs(true) > 1.7976931348623157e308:
        return 0 if got == math.copysign(INF, true) else INF
    ulp = max(math.ulp(float(true)), 5e-324)
    return float(abs(mp.mpf(got) - true) / mp.mpf(ulp)) if math.isfinite(got) else INF


@given(x=FINITE)
@example(0.0)
@example(-0.0)
@example(709.782712893384)
@example(709.79)
@example(-745.2)
@example(5e-324)
@example(1.7976931348623157e308)
@example(-1.7976931348623157e308)
@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_accuracy(name, x):
    if x < DOMAIN.get(name, -INF):
        assert math.isnan(unary(name)(x))
        return
    if x == DOMAIN.get(name) and name != "sqrt":
        assert unary(name)(x) == -INF
        return
    if abs(x) > 1e5 and name not in ALGEBRAIC:
        assert not math.isnan(unary(name)(x))
        return
    assert units_off(unary(name)(x), REFERENCE[name](mp.mpf(x))) <= UNITS.get(name, 4)


LIMITS = {  # at -inf, at inf
    "exp": (0, INF), "expm1": (-1, INF), "log": (NAN, INF), "log1p": (NAN, INF), "sqrt": (NAN, INF), "sign": (-1, 1),
    "sin": (NAN, NAN), "cos": (NAN, NAN), "sinh": (-INF, INF), "cosh": (INF, INF), "tanh": (-1, 1), "sech": (0, 0),
    "tanhshrink": (-INF, INF),
    "asinh": (-INF, INF), "atan": (-math.pi / 2, math.pi / 2), "sigmoid": (0, 1), "log_sigmoid": (-INF, 0),
    "softplus": (0, INF), "erf": (-1, 1), "erfc": (2, 0), "erf_slope": (0, 0), "normal_pdf": (0, 0),
    "normal_cdf": (0, 1), "neg": (INF, -INF), "abs": (INF, INF), "exprel": (0, INF), "sinc": (0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_limits_and_nan(name):
    for x, limit in zip((-INF, INF), LIMITS[name], strict=True):
        got = unary(name)(x)
        assert got == limit or (math.isnan(got) and math.isnan(limit)), (x, got)
    assert math.isnan(unary(name)(NAN))


@given(x=ANY)
@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_no_float_raises(name, x):
    got = unary(name)(x)
    assert isinstance(got, (int, float))
    assert not math.isnan(x) or math.isnan(got)


@given(a=ANY, b=ANY)
@example(0.0, -1.0)
@example(-0.0, -1.0)
@example(-0.0, -3.0)
@example(-0.0, -2.0)
@example(-2.0, 0.5)
@example(-1e300, 3.0)
@example(-1e-300, -3.0)
@example(0.0, 0.0)
@example(1.0, -0.0)
@example(-INF, 0.5)
@pytest.mark.parametrize("name", TWO_ARGUMENTS)
def test_operators_are_ieee(name, a, b):
    got = REAL[name](a, b)
    function = {"div": torch.true_divide}.get(name) or getattr(torch, name)
    expected = function(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)).item()
    assert (math.isnan(got) and math.isnan(expected)) or got == pytest.approx(expected, rel=1e-15, abs=0)
    if (name == "div" and got == expected == 0) or math.isinf(expected):
        assert math.copysign(1, got) == math.copysign(1, expected)


@given(x=ANY, b=st.floats(0, 1e10))
@example(-INF, 4.0)
@example(-1e200, 4.0)
@example(-1e200, 0.0)
@example(NAN, 0.0)
def test_squareplus(x, b):
    got = squareplus(x, b)
    if math.isnan(x):
        assert math.isnan(got)
    elif math.isinf(x):
        assert got == (INF if x > 0 else 0)
    else:
        root = mp.sqrt(mp.mpf(x) ** 2 + b)
        true = (x + root) / 2 if x >= 0 else b / (root - x) / 2
        assert units_off(got, true) <= 4


@given(
    x=st.just(0.0) | st.floats(1e-150, 1e150), k=st.floats(1e-150, 1e150), n=st.sampled_from([1, 2, 4, 0.5, 2.5, 8.0])
)
@example(INF, 1.0, 2)
@example(0.0, 1.0, 2)
@example(1e300, 1e-300, 8.0)
@example(1e-300, 1e300, 8.0)
def test_hill(x, k, n):
    got = hill(x, k, n)
    ratio = (mp.mpf(x) / k) ** n if math.isfinite(x) else mp.inf
    true = mp.mpf(1) if ratio == mp.inf else ratio / (1 + ratio)
    assert abs(got - true) <= 1e-13 * true + 5e-324


def test_hill_of_nan():
    for arguments in [(NAN, 1.0, 2), (1.0, NAN, 2), (NAN, 1.0, 0.5)]:
        assert math.isnan(hill(*arguments))


@given(x=st.floats(-40, 40), n=st.integers(0, 12))
@example(0.0, 3)
@example(1e-300, 4)
@example(-2.0, 12)
def test_derivatives_of_exprel(x, n):
    true = mp.hyp1f1(n + 1, n + 2, mp.mpf(x)) / (n + 1)
    assert abs(exprel(x, n) - true) <= 1e-13 * true


@settings(max_examples=30)
@given(x=st.floats(-60, 60), n=st.integers(0, 10))
@example(0.0, 3)
@example(1e-300, 4)
@example(12.0, 10)
def test_derivatives_of_sinc(x, n):
    true = mp.quad(lambda t: t**n * mp.cos(x * t + n * mp.pi / 2), mp.linspace(0, 1, 12))
    assert abs(sinc(x, n) - true) <= 1e-12


@pytest.mark.parametrize("n", range(8))
def test_indexed_families_at_the_ends(n):
    assert math.isnan(exprel(NAN, n)) and math.isnan(sinc(NAN, n))
    assert exprel(-INF, n) == 0 and exprel(INF, n) == INF
    assert sinc(INF, n) == 0 and sinc(-INF, n) == 0
    assert exprel(1e300, n) == INF and abs(sinc(1e300, n)) <= 1e-290


@pytest.mark.parametrize("n", range(6))
def test_exprel_just_before_it_overflows(n):
    """e^x overflows before e^x/x does."""
    true = mp.hyp1f1(n + 1, n + 2, mp.mpf(712)) / (n + 1)
    assert abs(exprel(712.0, n) - true) <= 1e-12 * true


def test_exact_numbers_stay_exact():
    third = Fraction(1, 3)
    assert REAL["add"](third, third) == Fraction(2, 3)
    assert REAL["maximum"](third, 1) == 1
    assert REAL["pow"](3, 40) == 3**40
