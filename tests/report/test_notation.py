"""Formulas and numbers as a person reads them."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varphi.activation import registry
from varphi.report.notation import certain, number, plain_formula, unicode_formula


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"\tanh(x)", "tanh(x)"),
        (r"x\,\sigma(x)", "x σ(x)"),
        (r"\frac1\beta\ln(1+e^{\beta x})", "(1/β) ln(1+eᵝˣ)"),
        (r"\frac12\left(x+\sqrt{x^2+b}\right)", "(1/2)(x+√(x²+b))"),
        (r"\frac{x}{1+|x|}", "x/(1+|x|)"),
        (r"x\,\tanh(\ln(1+e^x))", "x tanh(ln(1+eˣ))"),
        (r"\max(0,x) + \alpha\min(0,x)", "max(0,x)+α min(0,x)"),
        (r"\frac{x^n}{K^n+x^n}", "xⁿ/(Kⁿ+xⁿ)"),
        (r"e^{-x^2/2}", "e^(−x²/2)"),
        (r"\begin{cases} x & x > 0 \\ \alpha(e^x-1) & \text{otherwise}\end{cases}", "x if x > 0; α(eˣ−1) otherwise"),
        (r"\operatorname{erf}(x)", "erf(x)"),
        (r"x_1\cdot y^{10}", "x₁·y¹⁰"),
    ],
)
def test_latex_becomes_one_line_of_unicode(latex: str, text: str) -> None:
    assert unicode_formula(latex) == text


@pytest.mark.parametrize("name", registry.names())
def test_every_formula_of_the_catalogue_is_readable(name: str) -> None:
    text = unicode_formula(registry.definition(name).latex)
    assert text
    assert not set("\\{}$&") & set(text)
    for left, right in ("()", "[]"):
        assert text.count(left) == text.count(right) or "[" in text, text


def test_an_expression_is_written_with_raised_exponents() -> None:
    assert plain_formula("x*tanh(x)**2") == "x·tanh(x)²"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, "0.25"),
        (-1.5e-7, "−1.5e−7"),
        (2e300, "2e300"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "undefined"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("lower", "upper", "text"),
    [
        (0.25, 0.25, "0.25"),
        (1.128904145185154, 1.128904145185156, "1.128904145"),
        (-0.27846454, -0.2784645427, "−0.27846454"),
        (0.1, 0.3, "[0.1, 0.3]"),
        (-1e-9, 1e-9, "[−1.01e−9, 1.01e−9]"),
        (1.0, math.inf, "[1, ∞]"),
    ],
)
def test_an_enclosure_shows_the_digits_that_are_certain(lower: float, upper: float, text: str) -> None:
    assert certain(min(lower, upper), max(lower, upper)) == text


@given(
    st.floats(-1e6, 1e6).filter(lambda v: abs(v) > 1e-6),
    st.floats(1e-15, 1e-3),
)
def test_no_digit_shown_is_wrong(centre: float, relative: float) -> None:
    lower, upper = sorted((centre * (1 - relative), centre * (1 + relative)))
    text = certain(lower, upper).replace("−", "-")
    if text.startswith("["):
        shown = [Decimal(part) for part in text.strip("[]").split(",")]
        assert shown[0] <= Decimal(lower)
        assert Decimal(upper) <= shown[1]
        return
    # Both ends round to what is shown, so it is off by at most half a unit of its last digit.
    unit = Decimal(1).scaleb(Decimal(text).as_tuple().exponent)
    assert abs(Decimal(lower) - Decimal(text)) <= unit / 2
    assert abs(Decimal(upper) - Decimal(text)) <= unit / 2
