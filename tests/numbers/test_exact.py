"""Exact rational values and polynomials."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varphi.numbers import clamp, exp, expm1, hill, normal_cdf, sigmoid, sqrt, squareplus, tanh, variable, where
from varphi.numbers.exact import fraction_power, polynomial, rational_value, sign_beyond

X = variable("x")
RATIONALS = st.fractions(-20, 20, max_denominator=50)


@given(RATIONALS)
def test_arithmetic_is_exact(x):
    formula = where(X > 1, (X - 3) ** 3 / 7, abs(X) * clamp(X, -2, 5) - 0.1)
    expected = (x - 3) ** 3 / 7 if x > 1 else abs(x) * min(max(x, -2), 5) - Fraction(0.1)
    assert rational_value(formula, x) == expected


@pytest.mark.parametrize(
    ("formula", "x", "value"),
    [
        (expm1(X), 0, 0),
        (exp(X) + sigmoid(X), 0, Fraction(3, 2)),
        (normal_cdf(X - 1), 1, Fraction(1, 2)),
        (sqrt(X), Fraction(4, 9), Fraction(2, 3)),
        (sqrt(X), 2, None),
        (tanh(X), 1, None),
        (squareplus(X, 7), 3, Fraction(7, 2)),
        (hill(X, 2, 2.5), 0, 0),
        (1 / X, 0, None),
    ],
)
def test_known_values(formula, x, value):
    assert rational_value(formula, Fraction(x)) == value


@given(RATIONALS)
def test_polynomials_have_the_formula_s_values(x):
    formula = (X - 2) ** 3 * (0.5 * X + 1) / 3 - X
    coefficients = polynomial(formula)
    assert coefficients is not None and len(coefficients) == 5
    assert sum(c * x**i for i, c in enumerate(coefficients)) == rational_value(formula, x)


def test_what_is_no_polynomial():
    assert polynomial(exp(X)) is None and polynomial(1 / X) is None and polynomial(X**0.5) is None
    assert polynomial(X - X) == () == polynomial(0 * X + 0)


def test_powers_of_fractions():
    assert fraction_power(Fraction(4, 9), Fraction(1, 2)) == Fraction(2, 3)
    assert fraction_power(Fraction(2), Fraction(1, 2)) is None
    assert fraction_power(Fraction(0), Fraction(-1)) is None
    assert fraction_power(Fraction(2, 3), Fraction(-2)) == Fraction(9, 4)


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=6), RATIONALS, st.sampled_from([1, -1]), st.fractions(0, 30))
def test_sign_beyond_a_point(coefficients, start, side, step):
    sign = sign_beyond(tuple(map(Fraction, coefficients)), start, side)
    x = start + side * (step + Fraction(1, 1000))
    value = sum(c * x**i for i, c in enumerate(coefficients))
    if sign is not None:
        assert value * sign > 0


def test_roots_of_high_order():
    assert sign_beyond(polynomial((X + 10) ** 9), Fraction(-10), 1) == 1
    assert sign_beyond(polynomial((X - 1) ** 3), Fraction(1), -1) == -1
    assert sign_beyond(polynomial(X * X - 1), Fraction(0), 1) is None
