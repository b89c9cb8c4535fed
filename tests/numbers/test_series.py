"""Rigorous Taylor series and the zeros proved with them, against mpmath and against functions whose zeros are known."""

import math

import mpmath as mp
import pytest
from flint import arb, ctx
from hypothesis import given, settings
from hypothesis import strategies as st

from varphi.activation.parsing import read
from varphi.numbers.ball import precision
from varphi.numbers.roots import zeros
from varphi.numbers.series import NotAnalytic, around, bounds, coefficients, program

TERMS = 8


def exprel(x):
    """(e^x - 1)/x by its power series: mpmath's numerical derivatives meet no hole at 0."""
    return mp.fsum(x**k / mp.factorial(k + 1) for k in range(60))


# Each with an mpmath function that shares nothing with varphi, and where it is analytic.
FUNCTIONS = {
    "exp(-x/3)": (lambda x: mp.exp(-x / 3), -9, 9),
    "expm1(x)": (mp.expm1, -3, 3),
    "tanh(x)": (mp.tanh, -4, 4),
    "sigmoid(x)": (lambda x: 1 / (1 + mp.exp(-x)), -4, 4),
    "softplus(x)": (lambda x: mp.log(1 + mp.exp(x)), -4, 4),
    "log_sigmoid(x)": (lambda x: -mp.log(1 + mp.exp(-x)), -4, 4),
    "cosh(x)*sinh(x)": (lambda x: mp.cosh(x) * mp.sinh(x), -2, 2),
    "sech(x)": (mp.sech, -3, 3),
    "tanhshrink(x)": (lambda x: x - mp.tanh(x), -3, 3),
    "explinear(x)": (lambda x: 1 / exprel(-x), -4, 4),
    "exprel(x)": (exprel, -4, 4),
    "sin(x)*cos(2*x)": (lambda x: mp.sin(x) * mp.cos(2 * x), -3, 3),
    "atan(x)": (mp.atan, -3, 3),
    "erf(x) - erfc(x)": (lambda x: mp.erf(x) - mp.erfc(x), -2, 2),
    "log(x) + log1p(x)": (lambda x: mp.log(x) + mp.log(1 + x), 0.2, 5),
    "sqrt(x) + x**-2": (lambda x: mp.sqrt(x) + x**-2, 0.3, 5),
    "x**(1/3)": (mp.cbrt, 0.2, 5),
    "hill(x, 2, 3)": (lambda x: x**3 / (8 + x**3), 0.2, 5),
    "abs(x) + max(x, -x/2) + min(x, 1)": (lambda x: abs(x) + max(x, -x / 2) + min(x, mp.mpf(1)), 0.1, 0.9),
    "where(x > 0, x, x**2) / (1 + x)": (lambda x: x / (1 + x), 0.1, 3),
}


def line(text):
    return program([read(text, "x".__eq__, "x")])


@pytest.fixture(autouse=True)
def short():
    before = ctx.cap
    ctx.cap = TERMS
    yield
    ctx.cap = before


@pytest.mark.parametrize("text", FUNCTIONS)
@settings(max_examples=25)
@given(data=st.data())
def test_coefficients_hold_at_a_point_and_all_over_an_interval(text, data):
    function, low, high = FUNCTIONS[text]
    width = (high - low) / 12
    x = data.draw(st.floats(low + width, high - width))
    radius = data.draw(st.sampled_from([0.0, width / 100, width]))
    v = data.draw(st.floats(x - radius, x + radius))
    with precision(106):
        try:
            over = coefficients(line(text)(around(x, radius, TERMS))[0], TERMS)
        except NotAnalytic:
            assert radius > width / 2  # so wide that powers of the interval reach 0
            return
        with mp.workdps(60):
            truth = mp.taylor(function, mp.mpf(v), TERMS - 1)
        for k, (ball, value) in enumerate(zip(over, truth, strict=True)):
            # mpmath differentiates numerically: some of its digits are noise.
            assert abs(ball - arb(mp.nstr(value, 40))).lower() <= 1e-9 * (1 + abs(float(value))), k


@pytest.mark.parametrize("text", FUNCTIONS)
def test_bounds_hold_the_function_and_its_slope_on_the_interval(text):
    function, low, high = FUNCTIONS[text]
    middle, radius = (low + high) / 2, (high - low) / 64
    with precision(106):
        run = line(text)
        inner, outer = (coefficients(run(around(middle, r, TERMS))[0], TERMS) for r in (0, radius))
        value, slope = bounds(inner, outer, arb(radius), 1)
        # No wider than a few times what the function does there.
        seen = [function(mp.mpf(middle + radius * t / 10)) for t in range(-10, 11)]
        for t, f in zip(range(-10, 11), seen, strict=True):
            assert abs(value - arb(mp.nstr(f, 40))).lower() <= 1e-14
            steepness = mp.diff(function, mp.mpf(middle + radius * t / 10))
            assert abs(slope - arb(mp.nstr(steepness, 30))).lower() <= 1e-9
        assert float(value.rad()) <= 1.2 * float(max(seen) - min(seen)) + 1e-7


@pytest.mark.parametrize("text", ["1/x", "log(x)", "sqrt(x)", "abs(x)", "max(x, -x)", "where(x > 0, x, 1)", "x**-2"])
def test_a_corner_or_a_pole_in_the_interval_is_no_series(text):
    with pytest.raises(NotAnalytic):
        line(text)(around(0.1, 0.2, TERMS))


def test_coefficients_that_are_not_known_are_not_made_up():
    with pytest.raises(ValueError, match="9 coefficients are needed"):
        coefficients(around(0, 0, 8), 9)


# Zeros ----------------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(st.integers(-900, 900), min_size=0, max_size=6, unique=True))
def test_all_zeros_of_a_polynomial_are_found(hundredths):
    roots = sorted(h / 100 for h in hundredths)
    text = "*".join(["(2 + sin(x))", *(f"(x - {r!r})" if r >= 0 else f"(x + {-r!r})" for r in roots)])
    run = line(text)
    with precision(106):
        found = zeros(lambda x: run(x)[0], -10, 10)
    assert found.undecided == () and len(found.simple) == len(roots)
    assert all(
        ball.contains(arb(r)) or abs(float(ball.mid()) - r) < 1e-15 for ball, r in zip(found.simple, roots, strict=True)
    )
    assert all(ball.rad() < 1e-20 for ball in found.simple)


@pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-5])
def test_two_zeros_near_each_other_are_both_found(gap):
    run = line(f"(sin(x) - 0.5)^2 - {gap!r}^2")
    with precision(106):
        found = zeros(lambda x: run(x)[0], 0, 1.5)
    truth = [math.asin(0.5 - gap), math.asin(0.5 + gap)]
    assert found.undecided == () and [float(r.mid()) for r in found.simple] == pytest.approx(truth, abs=1e-14)


def test_a_double_zero_is_reported_as_undecided_not_dropped():
    run = line("(x - 0.3)^2*(x + 2)")
    with precision(106):
        found = zeros(lambda x: run(x)[0], -3, 1)
    assert [float(r.mid()) for r in found.simple] == [-2]
    assert len(found.undecided) == 1
    (low, high) = found.undecided[0]
    assert low <= 0.3 <= high and high - low < 1e-5


def test_what_the_budget_leaves_is_undecided():
    run = line("sin(50*x)")
    with precision(106):
        found = zeros(lambda x: run(x)[0], 0.01, 3, budget=20)
    inside = [k * math.pi / 50 for k in range(1, 48)]
    named = [any(a <= x <= b for a, b in found.undecided) for x in inside]
    assert found.undecided and sum(named) + len(found.simple) == len([x for x in inside if x < 3])
