"""What a curve says about a formula and its derivatives, against points of it."""

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from varphi.numbers import (
    exp,
    log1p,
    normal_cdf,
    sech,
    sigmoid,
    sin,
    softplus,
    sqrt,
    tanh,
    variable,
)
from varphi.numbers.ball import point, precision
from varphi.numbers.enclosure import Curve, derivatives_of

from .test_tail import formulas

X = variable("x")
GELU, SILU, MISH = X * normal_cdf(X), X * sigmoid(X), X * tanh(softplus(X))


SMOOTH = formulas(depth=2).filter(lambda f: not any(n.operation == "abs" for n in f.nodes()))


@pytest.fixture(autouse=True)
def _precision():
    with precision(128):
        yield


@pytest.mark.parametrize(
    ("formula", "k", "expected"),
    [  # suprema, at 15 digits, by an independent prototype
        (GELU, 1, 1.128904145185155),
        (SILU, 1, 1.099839320128867),
        (MISH, 1, 1.08849816125172),
        (sigmoid(X), 1, 0.25),
        (tanh(X), 2, 0.769800358919501),
        (tanh(X), 4, 4.085885502969655),
        (SILU, 3, 0.308181515796479),
        (GELU, 4, 0.880575979042439),
        (MISH, 4, 0.616372129586702),
        (softplus(X), 2, 0.25),
    ],
)
def test_suprema(formula, k, expected):
    found = Curve(formula).supremum(k)
    assert found.decided
    assert found.lower <= expected + 1e-13 and expected - 1e-13 <= found.upper
    assert found.upper - found.lower <= 1e-12


def test_ends_are_exact():
    curve = Curve(softplus(X))
    infimum, slopes = curve.infimum(0), curve.supremum(1)
    assert (infimum.lower, infimum.upper, infimum.decided) == (0.0, 0.0, True)
    assert (slopes.lower, slopes.upper) == (1.0, 1.0)
    assert curve.supremum(0).lower == math.inf
    assert (Curve(tanh(X)).supremum(0).lower, Curve(tanh(X)).supremum(0).upper) == (1.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(SMOOTH, st.floats(-4, 4), st.floats(0.01, 6), st.integers(0, 4))
def test_extrema_contain_samples(formula, a, width, k):
    curve = Curve(formula, a, a + width)
    top, bottom = curve.supremum(k, budget=30), curve.infimum(k, budget=30)
    assert top.lower <= top.upper and bottom.lower <= bottom.upper
    best = -math.inf
    for i in range(33):
        value = curve.at(arb(a + width * i / 32) if i < 32 else curve.upper)[k]
        if not value.is_finite():
            continue
        assert value.lower <= top.upper and bottom.lower <= value.upper
        best = max(best, value.upper)
    if top.decided and math.isfinite(top.upper) and math.isfinite(best):
        # A supremum far above every sample would be one that is not reached.
        slope = max(
            abs(curve.over(arb(a), curve.upper)[k + 1].lower), abs(curve.over(arb(a), curve.upper)[k + 1].upper)
        )
        assert top.lower <= best + slope * width / 32 + 1e-9


@settings(max_examples=30, deadline=None)
@given(SMOOTH, st.integers(0, 2), st.booleans())
def test_stretches_have_their_sign(formula, k, whole):
    curve = Curve(formula) if whole else Curve(formula, -3, 5)
    stretches = curve.stretches(k, budget=30)
    points = [v / 8 + 0.013 for v in range(-24, 40)] + ([1e3, -1e3, 1e8, -1e8, 1e30] if whole else [])
    for x in points:
        value = curve.at(arb(x))[k]
        for s in stretches:
            if s.sign is None or not (s.start.hi < arb(x) and arb(x) < s.stop.lo):
                continue
            wrong = (value.lo > 0 and s.sign <= 0) or (value.hi < 0 and s.sign >= 0)
            assert not wrong, (formula, k, x, value, s)


def test_stretches_cover_the_curve():
    stretches = Curve(GELU).stretches(2)
    assert [s.sign for s in stretches] == [-1, 1, -1]
    for root, at in zip(stretches[1:], (-math.sqrt(2), math.sqrt(2)), strict=True):
        assert root.start.lower <= at + 1e-15 and at - 1e-15 <= root.start.upper
        assert root.start.upper - root.start.lower < 1e-15
    for a, b in pairwise(stretches):
        assert a.stop.lower == b.start.lower


@pytest.mark.parametrize("formula", [X * exp(X), (1 + X) ** 3 * sech(X), X**3, X**7 - X**5])
def test_multiple_and_exact_roots(formula):
    """Roots at the points where cells are cut, and of any order, are found all the same."""
    curve = Curve(formula)
    for k in (0, 1):
        assert all(s.sign is not None for s in curve.stretches(k))


def test_a_root_of_even_order_changes_no_sign():
    stretches = Curve(X**4 - 2 * X**2 + 1, 0).stretches(0)
    assert [s.sign for s in stretches] in ([1], [1, None, 1], [1, 1])


def test_infinitely_many_roots_are_left_undecided():
    stretches = Curve(sin(X)).stretches(0)
    assert stretches[0].sign is None and stretches[-1].sign is None
    near = [s.start for s in stretches[1:] if abs(s.start).hi < 7]
    assert any(s.contains(0) for s in near)
    assert any(s.lower <= math.pi <= math.nextafter(s.upper, 4) for s in near)


def test_one_sided_singular_end():
    curve = Curve(sqrt(X), 0)
    steepest = curve.supremum(1)
    assert steepest.lower > 1.7e308 and steepest.upper == math.inf and steepest.decided
    assert (curve.infimum(1).lower, curve.infimum(1).upper) == (0.0, 0.0)
    assert (Curve(log1p(X), 0, 1).infimum(2).lower, Curve(log1p(X), 0, 1).infimum(2).upper) == (-1.0, -1.0)


@pytest.mark.parametrize("formula", [X / 10, (1 + X / 10) ** 10, X**0.1, exp(0.3 * X) / 3, (X + 7) / (X * X + 3)])
def test_derivatives_are_exact(formula):
    """No constant of a derivative is rounded: at 400 bits they agree with those of the formula over points."""
    with precision(400):
        x = arb(2.5)
        for k, node in enumerate(derivatives_of(formula, 4)):
            for constant in (n.value for n in node.nodes() if n.is_constant):
                assert isinstance(constant, (int, Fraction))
            step = arb(2) ** -60
            below, above = (derivatives_of(formula, 4)[k].evaluate(x=x + s * step) for s in (-1, 1))
            below, above = point(below), point(above)
            slope = (above - below) / (2 * step)
            following = point(derivatives_of(formula, 5)[k + 1].evaluate(x=x))
            assert abs(slope - following) < arb(2) ** -100 * (1 + abs(following))


def test_a_switching_formula_is_refused():
    with pytest.raises(ValueError, match="abs"):
        Curve(abs(X))


def test_undecided_is_said():
    stretches = Curve(X * X * sin(1 / X), 0, 1).stretches(0, budget=100)
    assert stretches[0].sign is None and stretches[-1].sign == 1
    few = Curve(sin(X * X) * X, 0, 300).supremum(0, budget=5)
    assert not few.decided and few.lower <= 300 <= few.upper


def test_narrow_features_are_not_missed():
    bump = exp(-((1000 * (X - 7)) ** 2))
    found = Curve(bump).supremum(0)
    assert found.lower > 1 - 1e-12 and found.upper >= 1
