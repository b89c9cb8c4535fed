"""Where definitions change their formula."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varphi.activation.registry import definition, names
from varphi.numbers import clamp, exp, hill, log, maximum, minimum, sign, sin, sqrt, squareplus, variable, where
from varphi.numbers.ball import Ball, ball, precision
from varphi.numbers.pieces import UndecidedPieces, as_point, pieces

X = variable("x")


def ends(expression, **on):
    return [p.upper for p in pieces(expression, **on)][:-1]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (maximum(X, 0), [0]),
        (clamp(X, Fraction(-1, 3), 6), [Fraction(-1, 3), 6]),
        (abs(3 * X - 1), [Fraction(1, 3)]),
        (abs(abs(X) - 1), [-1, 0, 1]),
        (where(X > 0.1, X, 0), [Fraction(0.1)]),
        (maximum(X * X - 4, 0), [-2, 2]),
        (minimum(exp(X), 1), [0]),
        (squareplus(X, 0), [0]),
        (sign(X - 2) + abs(X), [0, 2]),
        (abs(X) * abs(X), [0]),
        (maximum(X**2, 0), []),
    ],
)
def test_breaks_are_exact(expression, expected):
    with precision(128):
        assert ends(expression) == expected


def test_irrational_breaks_are_thin_balls():
    with precision(128):
        root = ends(maximum(X * X - 2, 0))[1]
    assert isinstance(root, Ball)
    assert root.lower <= math.sqrt(2) <= math.nextafter(root.upper, 2) and root.upper - root.lower < 1e-15


def test_domains():
    with precision(128):
        assert [(p.upper, p.expression is None) for p in pieces(log(X))] == [(0, True), (math.inf, False)]
        assert [p.expression is None for p in pieces(sqrt(1 - X * X))] == [True, False, True]
        assert [p.expression is None for p in pieces(hill(X, 1, 2.5))] == [True, False]
        assert [p.expression is None for p in pieces(where(X > 0, log(maximum(X, 1)), X))] == [False] * 3


def test_poles_are_breaks():
    with precision(128):
        assert ends(1 / X) == [0]
        assert ends(1 / (1 + X * X)) == []
        assert ends(X**-2 + 1 / (X - 1)) == [0, 1]


def test_parts_of_the_line():
    with precision(128):
        assert ends(abs(X), lower=Fraction(1)) == []
        assert ends(abs(X), lower=Fraction(-1), upper=Fraction(1)) == [0]


def test_undecided_pieces_are_refused():
    with precision(128), pytest.raises(UndecidedPieces, match="could not be decided"):
        pieces(abs(sin(X)))


@pytest.mark.parametrize("name", names())
@settings(max_examples=15, deadline=None)
@given(x=st.floats(-30, 30))
def test_pieces_agree_with_the_definition(name, x):
    expression = definition(name).expression()
    with precision(200):
        try:
            found = pieces(expression)
        except UndecidedPieces:
            return
        here = [p for p in found if as_point(p.lower) <= x and as_point(p.upper) >= x and p.expression is not None]
        for piece in here[:1] if len(here) == 1 else []:
            whole, part = ball(expression.evaluate(x=Ball(x))), ball(piece.expression.evaluate(x=Ball(x)))
            if whole.is_finite() and part.is_finite():
                assert not (whole - part).lo > 0 and not (whole - part).hi < 0
                assert (whole - part).upper <= 1e-20 * max(1.0, abs(whole.upper))
