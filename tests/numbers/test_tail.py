"""Tails hold for every X beyond their start: random formulas against 2000-bit points far out."""

import math
from fractions import Fraction

import pytest
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from varphi.numbers import (
    OPERATIONS,
    asinh,
    atan,
    erf,
    erfc,
    exp,
    exprel,
    log,
    log1p,
    normal_cdf,
    normal_pdf,
    sech,
    sigmoid,
    sin,
    softplus,
    sqrt,
    squareplus,
    tanh,
    tanhshrink,
    variable,
)
from varphi.numbers.ball import POINT_OPERATIONS, Ball, point, precision
from varphi.numbers.gauge import FLAT, LINEAR, Gauge
from varphi.numbers.straight import StraightLine
from varphi.numbers.tail import TAIL_OPERATIONS, Tail, variable_tail

X = variable("x")
STARTS = [2, 3.5, 16, 300]
FUNCTIONS = [
    exp, tanh, tanhshrink, sigmoid, softplus, erf, erfc, normal_cdf, normal_pdf, sech, asinh, atan, sin, exprel,
    lambda u: log1p(exp(u)), lambda u: squareplus(u, 4), lambda u: sqrt(1 + u * u), lambda u: log(2 + u * u),
    lambda u: 1 / (1 + u * u), lambda u: u / (1 + abs(u)), lambda u: u * u, lambda u: (1 + u * u) ** 0.75,
]  # fmt: skip


@st.composite
def formulas(draw, depth=3):
    """A random formula in x, of the kind that activations are made of."""
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        factor = draw(st.sampled_from([1, -1, 2, Fraction(1, 2), Fraction(-3, 4), 0.7]))
        return factor * X + draw(st.sampled_from([0, 0, 1, -2]))
    kind = draw(st.integers(0, 5))
    if kind <= 2:
        return draw(st.sampled_from(FUNCTIONS))(draw(formulas(depth=depth - 1)))
    a, b = draw(formulas(depth=depth - 1)), draw(formulas(depth=depth - 1))
    return a * b if kind <= 4 else a + b


def run(formula, right, start):
    program = StraightLine([formula], TAIL_OPERATIONS, lambda v: v)
    value = program(variable_tail(point(start), right))[0]
    return value if isinstance(value, Tail) else None


def test_every_operation_is_there():
    assert set(OPERATIONS) <= set(TAIL_OPERATIONS)


@settings(max_examples=250, deadline=None)
@given(formulas(), st.booleans(), st.sampled_from(STARTS), st.lists(st.floats(0, 40), min_size=3, max_size=3))
def test_hull_and_sign_hold(formula, right, start, steps):
    with precision(128):
        tail = run(formula, right, start)
        if tail is None:
            return
        hull, sign = tail.hull, tail.sign
    with precision(2000):
        at = StraightLine([formula], POINT_OPERATIONS, point)
        for step in (0.0, *steps):
            x = arb(start) * arb(step).exp() if step < 30 else arb(start) + arb(step)
            value = at(x if right else -x)[0]
            if not value.is_finite():
                continue
            assert not value < hull.lo.lower() and not value > hull.hi.upper(), (formula, x, value, hull)
            if sign is not None:
                assert not (value > 0 and sign <= 0) and not (value < 0 and sign >= 0), (formula, x, value, tail)


@settings(max_examples=150, deadline=None)
@given(formulas(), st.booleans())
def test_limits_are_approached(formula, right):
    with precision(128):
        tail = run(formula, right, arb(2) ** 1100)
        if tail is None or tail.order is None:
            return
        limit = tail.limit()
    far = arb(2) ** 1200
    with precision(4000):
        value = StraightLine([formula], POINT_OPERATIONS, point)(far if right else -far)[0]
    if not value.is_finite():
        return
    if tail.order == 1:
        assert (value > 1) if limit.lo > 0 else (value < -1)
    else:
        gap = Ball(value) - limit
        assert not gap.lo > 1e-3 and not gap.hi < -1e-3


@pytest.mark.parametrize(
    ("formula", "sign"),
    [
        (X / (1 + X) - 1, -1),  # the leading terms cancel
        (softplus(X) - X, 1),
        (tanh(X) - 1, -1),
        (X * normal_cdf(X) + normal_pdf(X) - X, 1),
        (sqrt(1 + X * X) - X, 1),
        (exp(-exp(X)) * exp(X), 1),
        (erfc(X) - exp(-X * X), -1),
    ],
)
def test_signs_that_need_exact_cancellation(formula, sign):
    with precision(128):
        tail = run(formula, True, 4)
    assert tail is not None and tail.sign == sign
    assert tail.hull.lower >= 0 if sign > 0 else tail.hull.upper <= 0


@pytest.mark.parametrize("power", [0, 1, -2, Fraction(1, 2), Fraction(-7, 2), 5])
@pytest.mark.parametrize(
    "rates",
    [
        {},
        {(0, 1): 1},
        {(0, 1): -2},
        {(0, 2): Fraction(1, 2), (0, 1): -3},
        {(1, 0): 1, (0, 1): -4},
        {(0, 2): -1, (0, 1): 9},
    ],
)
@pytest.mark.parametrize("start", [2, 5, 40])
def test_range_of_a_gauge(power, rates, start):
    pairs = sorted((((Fraction(m[0]), Fraction(m[1])), Fraction(r)) for m, r in rates.items()), reverse=True)
    gauge = Gauge(tuple(pairs), Fraction(power))
    with precision(128):
        image = gauge.range(arb(start))
    with precision(500):
        for x in (start, start * 1.01, start + 0.5, start + 1, start + 3, start * 2, start * 7.5, start * 1e3):
            x = arb(x)
            exponent = sum((point(-r) * x ** point(m[1]) * (x * point(m[0])).exp() for m, r in pairs), arb(0))
            value = x ** point(Fraction(power)) * exponent.exp()
            if value.is_finite():
                assert not value < image.lo and not value > image.hi, (x, value, image)


def test_equal_gauges_are_one_object():
    a = Gauge(((LINEAR, Fraction(2)),), 3)
    assert a is Gauge(((LINEAR, Fraction(1)),), 1).times(Gauge(((LINEAR, Fraction(1)),), 2))
    assert a.over(a) is FLAT


def test_oscillation_has_no_limit():
    with precision(128):
        tail = run(sin(X), True, 16)
    assert tail.sign is None and (tail.hull.lower, tail.hull.upper) == (-1.0, 1.0)
    assert math.isinf(run(X * sin(X), True, 16).hull.upper)
