"""Expressions as text: read back, they are the same expression."""

import ast
import operator
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from varphi.activation.parsing import parse
from varphi.numbers import (
    ELEMENTARY,
    evaluate,
    exp,
    exprel,
    hill,
    maximum,
    sinc,
    softplus,
    squareplus,
    tanh,
    variable,
    where,
)
from varphi.numbers.expression import constant
from varphi.numbers.printing import plain

x = variable("x")
UNARY = [f for f in ELEMENTARY.values() if f.arity == 1] + [operator.neg, operator.abs]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
NUMBERS = st.one_of(
    st.integers(-9, 9),
    st.fractions(-4, 4, max_denominator=9),
    st.floats(-1e3, 1e3),
    st.sampled_from([1e-5, 1e22, -1.5e-300, 0.1, -0.0]),
)


def _grow(inner):
    def binary(function):
        return st.builds(function, inner, inner)

    return st.one_of(
        *[st.builds(f, inner) for f in UNARY],
        *map(binary, [operator.add, operator.sub, operator.mul, operator.truediv, maximum]),
        st.builds(operator.pow, inner, st.one_of(st.integers(-3, 5), st.fractions(-2, 2, max_denominator=4), inner)),
        st.builds(lambda a, c, compare, b, d: where(compare(a, c), b, d),
                  inner, NUMBERS.map(constant), st.sampled_from(COMPARISONS), inner, inner),
        st.builds(exprel, inner), st.builds(sinc, inner), st.builds(lambda a: squareplus(a, 4), inner),
        st.builds(lambda a: hill(a, 0.7, 2), inner),
    )  # fmt: skip


EXPRESSIONS = st.recursive(st.one_of(st.just(x), NUMBERS.map(constant)), _grow, max_leaves=10)


def _is_open(expression):
    """Whether x is in every operation: the parser gives what is constant its value."""
    return "x" in expression.variables and all(n.variables or n.is_constant for n in expression.nodes())


@settings(max_examples=200, suppress_health_check=[HealthCheck.filter_too_much])
@given(EXPRESSIONS.filter(_is_open))
def test_read_back_it_is_the_same_expression(expression):
    text = plain(expression)
    if len(text) > 900:
        return
    ast.parse(text, mode="eval")
    back = parse(text).expression()
    if _is_left_to_right(expression):
        assert back is expression, text


_LEVEL = {"add": ("add", "sub"), "mul": ("mul", "div")}


def _is_left_to_right(expression):
    """Whether no sum or product stands right of its own kind: `a + (b + c)` is written without parentheses."""
    return not any(
        n.operation in _LEVEL and n.arguments[1].operation in _LEVEL[n.operation] for n in expression.nodes()
    )


@given(EXPRESSIONS.filter(lambda e: "x" in e.variables), st.floats(-3, 3))
def test_python_reads_it_as_the_same_numbers(expression, at):
    """Python's own precedence, over our own functions and exact fractions."""
    import math

    from varphi.numbers.real import OPERATIONS as REAL

    class Number:
        def __init__(self, value):
            self.value = value

    def number(value):
        return value.value if isinstance(value, Number) else value

    def lifted(name):
        return lambda self, other=None: Number(
            REAL[name](*map(number, (self, other) if other is not None else (self,)))
        )

    def swapped(name):
        return lambda self, other: Number(REAL[name](number(other), number(self)))

    for symbol, name in [("add", "add"), ("sub", "sub"), ("mul", "mul"), ("truediv", "div"), ("pow", "pow")]:
        setattr(Number, f"__{symbol}__", lifted(name))
        setattr(Number, f"__r{symbol}__", swapped(name))
    for name in ("neg", "abs"):
        setattr(Number, f"__{name}__", lifted(name))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(Number, f"__{name}__", lambda a, b, name=name: REAL[name](number(a), number(b)))
    scope = {n: lambda *a, n=n: Number(REAL[n](*map(number, a))) for n in ELEMENTARY}
    scope |= {n: lambda a, k=0, n=n: Number(REAL[n](number(a), k)) for n in ("exprel", "sinc")}
    scope |= {"abs": abs, "x": Number(at), "inf": math.inf, "nan": math.nan}
    try:
        expected = float(evaluate([expression], {"x": at})[0])
        got = float(number(eval(plain(expression), {"__builtins__": {}}, scope)))
    except (OverflowError, ZeroDivisionError, TypeError):  # constants whose power is no float
        return
    # Fractions are divided in floats here.
    assert (
        got == pytest.approx(expected, rel=1e-6, abs=1e-6) or got != got or abs(expected) > 1e6 or expected != expected
    )


@pytest.mark.parametrize(
    "expression, text",
    [
        (x * tanh(softplus(x)), "x*tanh(softplus(x))"),
        (-(x + 1), "-(x + 1)"),
        (2 - (x - 1), "2 - (x - 1)"),
        (x / (x * 2), "x/(2*x)"),
        ((x / 3) / x, "x/3/x"),
        (x ** (x**2), "x**x**2"),
        ((x**2) ** x, "(x**2)**x"),
        ((-x) ** 2, "(-x)**2"),
        (-(x**2), "-x**2"),
        (x**-2, "x**(-2)"),
        (Fraction(1, 3) * x, "(1/3)*x"),
        (constant(-3) * x, "(-3)*x"),
        (exp(-x), "exp(-x)"),
        (where(x > 0, x, -1), "where(x > 0, x, -1)"),
        (exprel(x), "exprel(x)"),
        (abs(x - 0.5), "abs(x - 0.5)"),
        ((x - 1) * -(x + 1), "(x - 1)*(-(x + 1))"),
    ],
)
def test_as_python_writes_it(expression, text):
    assert plain(expression) == repr(expression) == text
    assert parse(text).expression() is expression
