"""SymPy expressions as a number system."""

import math
from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from varphi.activation.registry import definition, names
from varphi.numbers import OPERATIONS, exprel, hill, maximum, sinc, softplus, tanh, variable, where
from varphi.numbers.symbol import SYMBOLS, exact, symbol

X = variable("x")


def test_every_operation_is_there():
    assert set(OPERATIONS) <= set(SYMBOLS.operations)


def test_constants_are_exact():
    assert exact(0.1) == sympy.Rational(Fraction(0.1).numerator, Fraction(0.1).denominator)
    assert exact(Fraction(1, 3)) == sympy.Rational(1, 3)
    assert exact(math.inf) == sympy.oo and exact(float("nan")) is sympy.nan
    assert symbol(X / 3 + Fraction(1, 3)) == sympy.Symbol("x", real=True) / 3 + sympy.Rational(1, 3)


@pytest.mark.parametrize("name", names())
@settings(max_examples=4, deadline=None)
@given(x=st.integers(-20, 20))
def test_definitions_agree_with_floats(name, x):
    at = x / 4 + 0.0625
    expression = definition(name).expression()
    expected = expression.evaluate(x=at)
    value = complex(sympy.N(symbol(expression, x=exact(at)), 30))
    if math.isfinite(expected):
        assert abs(value.imag) < 1e-20
        assert value.real == pytest.approx(expected, rel=1e-9, abs=1e-11)


def test_definitions_run_on_symbols_directly():
    t = sympy.Symbol("t", real=True)
    value = t * tanh(softplus(t))
    assert sympy.simplify(sympy.diff(value, t).subs(t, 0)) == sympy.Rational(3, 5)


def test_removable_singularities():
    t = sympy.Symbol("t", real=True)
    assert exprel(t, 0).subs(t, 0) == 1 and exprel(t, 1).subs(t, 0) == sympy.Rational(1, 2)
    assert sinc(t, 0).subs(t, 0) == 1 and sinc(t, 1).subs(t, 0) == 0
    assert sympy.simplify(exprel(t, 1).subs(t, 2) - (sympy.exp(2) + 1) / 4) == 0


def test_pieces_and_hill():
    t = sympy.Symbol("t", real=True)
    assert where(t > 0, t, 2).subs(t, -1) == 2
    assert maximum(t, 0).subs(t, -3) == 0
    assert hill(t, 2, 2).subs(t, 2) == sympy.Rational(1, 2)
