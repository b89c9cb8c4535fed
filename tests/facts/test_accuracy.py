"""The judge of computed values: it must find known losses, pass what is right, and measure in the right unit."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import varphi as vp
from varphi.activation.definition import Definition
from varphi.activation.layer import Activation
from varphi.facts.accuracy import _FORMATS, _errors, accuracy, operations_accuracy, torch_accuracy
from varphi.facts.reference import Reference
from varphi.numbers import ELEMENTARY, erfc, exp, exprel, hill, normal_cdf, sinc, squareplus, variable, where

X = variable("x")


class Broken(Activation):
    """A layer whose forward pass is replaced."""

    def __init__(self, name, forward):
        super().__init__(vp.get(name).definition)
        self.replaced = forward

    def forward(self, x):
        return self.replaced(x)


def test_finds_the_loss_of_torch_gelu():
    found = torch_accuracy("gelu")
    assert found.ulps > 1e7
    assert -9 < found.x < -5
    exact = mpmath.mpf(found.x) * mpmath.ncdf(found.x)
    assert found.exact == pytest.approx(float(exact), rel=1e-12)
    assert found.computed == torch.nn.functional.gelu(torch.tensor(found.x)).item()


def test_known_value_of_torch_gelu_at_minus_five_and_a_half():
    exact = Reference(X * normal_cdf(X)).values(np.array([-5.5]), 0)[0][0, 0]
    computed = torch.nn.functional.gelu(torch.tensor(-5.5)).item()
    assert abs(computed / exact - 1) == pytest.approx(0.57, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("derivative", [0, 1])
def test_relu_is_exact(dtype, derivative):
    found = accuracy("relu", dtype, derivative)
    assert found.ulps == 0
    # In float32 the slope is torch's own, which is a number at NaN.
    by_torch = dtype is torch.float32 and derivative == 1
    assert found.faults == (("backward: NaN gives 1",) if by_torch else ())


def test_sixteen_bits_are_tried_exhaustively():
    assert accuracy("tanh", torch.bfloat16).points >= 2 * 0x7F80 - 1


def test_an_error_at_a_single_binade_is_found():
    def tampered(x):
        y = torch.tanh(x.double())
        return torch.where((x > 2.0**-60) & (x < 2.0**-59), y * (1 + 1e-5), y).to(x.dtype)

    found = accuracy(Broken("tanh", tampered))
    assert found.route == "forward"
    assert 2.0**-60 < found.x < 2.0**-59
    assert found.ulps == pytest.approx(1e-5 * 2**24, rel=0.6)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_wrong_infinity_or_nan_is_an_infinite_error(wrong):
    found = accuracy(Broken("tanh", lambda x: torch.where(x == 1.0, wrong, torch.tanh(x))))
    assert found.x == 1.0
    assert found.ulps > 1e7


def test_swallowed_nan_and_wrong_limits_are_faults():
    found = accuracy(Broken("tanh", lambda x: torch.nan_to_num(torch.tanh(x), nan=0.0)))
    assert found.faults == ("forward: NaN gives 0",)
    found = accuracy(Broken("tanh", lambda x: torch.where(torch.isinf(x), math.nan, torch.tanh(x))))
    assert any("inf gives nan, not 1" in fault for fault in found.faults)


def test_flushing_subnormals_is_an_error():
    found = accuracy(Broken("relu", lambda x: torch.where(x < 2.0**-126, 0.0, x)))
    assert found.ulps == pytest.approx(2**23, rel=1e-3)


@pytest.mark.parametrize("name", ["tanh", "gelu", "softplus"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_are_correctly_rounded(name, dtype):
    for derivative in (0, 1):
        assert accuracy(name, dtype, derivative).ulps <= 0.51


@pytest.mark.parametrize("name", ["tanh", "silu", "gelu", "softplus", "mish"])
def test_kernels_are_good_in_the_function_and_its_slope(name):
    assert accuracy(name).ulps <= 8
    assert accuracy(name, derivative=1).mixed_ulps <= 16


OPERATIONS_TO_JUDGE = {
    "normal_cdf": normal_cdf,
    "erf_slope": lambda x: 0.5 * ELEMENTARY["erf_slope"](x),
    "sigmoid": ELEMENTARY["sigmoid"],
    "sinh": ELEMENTARY["sinh"],
    "tanhshrink": ELEMENTARY["tanhshrink"],
    "squareplus": lambda x: squareplus(x, 4),
    "exprel": exprel,
    "exprel2": lambda x: exprel(x, 2),
    "sinc": sinc,
    "erfc": erfc,
    "hill": lambda x: hill(x, 1.25, 2.5),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OPERATIONS_TO_JUDGE)
def test_torch_operations_keep_their_tails(name, dtype):
    function = OPERATIONS_TO_JUDGE[name]
    layer = Activation(Definition(name, lambda x: function(x)))
    assert operations_accuracy(layer, dtype).mixed_ulps <= 8


def test_where_of_two_numbers_is_not_rounded_to_float32():
    layer = Activation(Definition("slopes", lambda x: where(x > 0, 0.1 * x, 0.3 * x)))
    assert operations_accuracy(layer, torch.float64, derivative=1).ulps <= 0.5
    x = torch.tensor([1.0])
    assert layer.derivatives(x, 1).dtype == torch.float32


def test_bad_requests_are_named():
    with pytest.raises(TypeError, match=r"float32.*int32"):
        accuracy("tanh", torch.int32)
    with pytest.raises(ValueError, match=r"derivative.*-1"):
        accuracy("tanh", derivative=-1)
    with pytest.raises(ValueError, match="squareplus names no operation of torch"):
        torch_accuracy("squareplus")
    with pytest.raises(ValueError, match="default parameters"):
        torch_accuracy(vp.get("softplus", beta=2.0))


@given(st.floats(-100, 100), st.sampled_from(list(_FORMATS)))
def test_correct_rounding_is_half_an_ulp(value, dtype):
    y = torch.tensor([value], dtype=torch.float64).to(dtype).double().numpy()
    assert _errors(y, np.array([value]), np.zeros(1), _FORMATS[dtype])[0] <= 0.5


@given(st.floats(-(2.0**127), 2.0**127, width=32))
def test_the_neighbour_of_a_float_is_one_ulp_away(value):
    value = np.float32(value)
    upper = float(np.nextafter(value, np.float32(math.inf)))
    error = _errors(np.array([upper]), np.array([float(value)]), np.zeros(1), _FORMATS[torch.float32])[0]
    assert error in (0.5, 1.0, 2.0)  # the spacing changes at powers of two


ORACLES = {
    "exp": (exp(X), mpmath.exp),
    "cdf": (X * normal_cdf(X), lambda x: x * mpmath.ncdf(x)),
    "exprel": (exprel(X), lambda x: mpmath.expm1(x) / x),
    "sinc": (sinc(X), lambda x: mpmath.sin(x) / x),
    "mish": (X * ELEMENTARY["tanh"](ELEMENTARY["softplus"](X)), lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x)))),
    "squareplus": (squareplus(X, 4), lambda x: (x + mpmath.sqrt(x * x + 4)) / 2),
    "asinh": (ELEMENTARY["asinh"](X), mpmath.asinh),
    "power": (abs(X) ** 1.5, lambda x: abs(x) ** mpmath.mpf("1.5")),
    "sech": (ELEMENTARY["sech"](X), mpmath.sech),
    "tanhshrink": (ELEMENTARY["tanhshrink"](X), lambda x: x - mpmath.tanh(x)),
    "log_sigmoid": (ELEMENTARY["log_sigmoid"](X), lambda x: -mpmath.log1p(mpmath.exp(-x))),
}


@pytest.mark.parametrize("name", ORACLES)
@given(x=st.floats(-30, 30).filter(lambda x: abs(x) > 1e-3))
def test_reference_agrees_with_mpmath(name, x):
    expression, oracle = ORACLES[name]
    with mpmath.workdps(60):
        expected = [oracle(mpmath.mpf(x)), mpmath.diff(oracle, mpmath.mpf(x))]
        high, low = Reference(expression).values(np.array([x]), 1)
        for k, want in enumerate(expected):
            got = mpmath.mpf(high[k, 0]) + mpmath.mpf(low[k, 0])
            assert abs(got - want) <= abs(want) * mpmath.mpf(10) ** -25 + mpmath.mpf(10) ** -29


def test_reference_knows_what_it_does_not_know():
    log = Reference(ELEMENTARY["log"](X))
    assert log.at(-1.0, 1) == [None, None]
    root = Reference(ELEMENTARY["sqrt"](X))
    assert root.at(0.0, 1)[0] == 0
    assert root.at(0.0, 1)[1] is None
    assert Reference(X**-2).at(0.0, 1) == [None, None]
    assert Reference(hill(X, 1, 2)).at(-1.0, 0) == [None]
    with pytest.raises(ValueError, match="free variables besides x: a"):
        Reference(X * variable("a"))
