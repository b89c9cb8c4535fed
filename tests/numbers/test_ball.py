"""Balls contain what they claim: against mpmath, at 60 digits, on random intervals and half-lines."""

import math
from fractions import Fraction

import mpmath
import pytest
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from varphi.numbers import ELEMENTARY, OPERATIONS, Jet, variable
from varphi.numbers import elementary as e
from varphi.numbers.ball import (
    BALL_OPERATIONS,
    POINT_OPERATIONS,
    UNDECIDED,
    Ball,
    OutsideDomain,
    float_above,
    float_below,
    precision,
)
from varphi.numbers.jet import derivatives

mp = mpmath.mp.clone()
mp.dps = 60


def _sinc(x, n=0):
    if abs(x) < 2:  # Σ of the derivatives of cos at nπ/2
        terms = range(80)
        return sum(mp.mpf((1, 0, -1, 0)[(n + j) % 4]) * x**j / (mp.factorial(j) * (n + j + 1)) for j in terms)
    value = mp.sin(x) / x
    for k in range(1, n + 1):
        value = (mp.sin(x + k * mp.pi / 2) - k * value) / x
    return value


def _exprel(x, n=0):
    return mp.hyp1f1(n + 1, n + 2, x) / (n + 1)


def _squareplus(x, b=4):
    root = mp.sqrt(x * x + b)
    return (x + root) / 2 if x > 0 else b / (2 * (root - x))


UNARY = {
    "neg": lambda x: -x,
    "abs": abs,
    "exp": mp.exp,
    "expm1": mp.expm1,
    "log": mp.log,
    "log1p": mp.log1p,
    "sqrt": mp.sqrt,
    "sign": mp.sign,
    "sin": mp.sin,
    "cos": mp.cos,
    "sinh": mp.sinh,
    "cosh": mp.cosh,
    "tanh": mp.tanh,
    "sech": mp.sech,
    "asinh": mp.asinh,
    "atan": mp.atan,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)) if x > 0 else mp.exp(x) / (1 + mp.exp(x)),
    "log_sigmoid": lambda x: -mp.log1p(mp.exp(-x)) if x > 0 else x - mp.log1p(mp.exp(x)),
    "softplus": lambda x: mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x)),
    "erf": mp.erf,
    "erfc": mp.erfc,
    "tanhshrink": lambda x: x - mp.tanh(x) if abs(x) > 1 else x**3 / 3 * mp.hyp0f1(2.5, x * x / 4) / mp.cosh(x),
    "erf_slope": lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x),
    "normal_pdf": lambda x: mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi),
    "normal_cdf": lambda x: mp.erfc(-x / mp.sqrt(2)) / 2,
}
DOMAIN = {"log": 0.0, "sqrt": 0.0, "log1p": -1.0}

# Magnitudes of every kind, but such that mpmath's own exponents hold out.
_FINITE = st.one_of(
    st.floats(-12, 12),
    st.floats(-700, 700),
    st.sampled_from([0.0, 1.0, -1.0, 1e-300, -1e-300, 5e-324, 88.8, -745.2]),
    st.floats(-1e4, 1e4).map(lambda v: math.copysign(min(abs(v) ** 3, 1e6), v)),
)


@st.composite
def intervals(draw):
    """A Ball and a point in it."""
    a, b = sorted((draw(_FINITE), draw(_FINITE)))
    x = min(max(a + draw(st.floats(0, 1)) * (b - a), a), b)
    kind = draw(st.sampled_from(["closed", "closed", "point", "right", "left"]))
    if kind == "point":
        return Ball(x), x
    lower = arb.neg_inf() if kind == "left" else a
    upper = arb.pos_inf() if kind == "right" else b
    return Ball(lower, upper), x


def _mpf(end):
    """An arb's exact end as an mpf; ±inf too."""
    if not end.is_finite():
        return mp.inf if end > 0 else -mp.inf
    mantissa, exponent = end.man_exp()
    return mp.ldexp(mp.mpf(int(mantissa)), int(exponent))


ROUNDING = mp.mpf(10) ** -50


def assert_contains(ball, value, slack=ROUNDING):
    lower, upper = ball.lo, ball.hi
    low = _mpf(lower.lower()) if lower.is_finite() else _mpf(lower)
    high = _mpf(upper.upper()) if upper.is_finite() else _mpf(upper)
    room = slack * abs(value)
    assert low - room <= value <= high + room, (ball, value)


def test_every_operation_is_there():
    assert set(OPERATIONS) <= set(BALL_OPERATIONS)
    assert set(OPERATIONS) <= set(POINT_OPERATIONS)


@pytest.mark.parametrize("name", UNARY)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_image_of_interval(name, data):
    ball, x = data.draw(intervals())
    if x <= DOMAIN.get(name, -math.inf):
        return
    with precision(106):
        image = BALL_OPERATIONS[name](ball)
    assert_contains(image, UNARY[name](mp.mpf(x)))


@pytest.mark.parametrize("name", UNARY)
@settings(max_examples=30, deadline=None)
@given(x=st.floats(-60, 60))
def test_points_are_tight_and_right(name, x):
    if x <= DOMAIN.get(name, -math.inf):
        return
    with precision(106):
        value = POINT_OPERATIONS[name](arb(x))
    assert_contains(Ball(value), UNARY[name](mp.mpf(x)))
    assert float(value.rad()) <= 1e-24 * max(1.0, abs(float(value.mid())))


BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "maximum": max,
    "minimum": min,
}


@pytest.mark.parametrize("name", BINARY)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_image_of_pairs(name, data):
    (a, x), (b, y) = data.draw(intervals()), data.draw(intervals())
    if name == "div" and y == 0:
        return
    assert_contains(BALL_OPERATIONS[name](a, b), BINARY[name](mp.mpf(x), mp.mpf(y)))


@settings(max_examples=100, deadline=None)
@given(intervals(), st.sampled_from([-3, -2, -1, 0, 1, 2, 3, 5, 8]))
def test_whole_powers(pair, n):
    ball, x = pair
    if x == 0 and n < 0:
        return
    assert_contains(ball**n, mp.mpf(x) ** n)


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1e3), st.floats(0, 1e3), st.floats(0, 1), st.sampled_from([0.5, -0.5, 1.3, -2.7, Fraction(1, 3)]))
def test_real_powers(a, b, share, p):
    a, b = sorted((a, b))
    x = min(max(a + share * (b - a), a), b)
    if x == 0:
        return
    exact = mp.mpf(p.numerator) / p.denominator if isinstance(p, Fraction) else mp.mpf(p)
    assert_contains(Ball(a, b) ** p, mp.mpf(x) ** exact)


@settings(max_examples=60, deadline=None)
@given(intervals(), st.integers(0, 4))
def test_exprel(pair, n):
    ball, x = pair
    if abs(x) > 2000:
        return
    assert_contains(BALL_OPERATIONS["exprel"](ball, n), _exprel(mp.mpf(x), n), mp.mpf(10) ** -40)


@settings(max_examples=60, deadline=None)
@given(intervals(), st.integers(0, 4))
def test_sinc(pair, n):
    ball, x = pair
    assert_contains(BALL_OPERATIONS["sinc"](ball, n), _sinc(mp.mpf(x), n), mp.mpf(10) ** -30)


@settings(max_examples=60, deadline=None)
@given(intervals(), st.floats(1e-6, 1e3))
def test_squareplus(pair, b):
    ball, x = pair
    assert_contains(BALL_OPERATIONS["squareplus"](ball, b), _squareplus(mp.mpf(x), mp.mpf(b)), mp.mpf(10) ** -30)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1), st.floats(0.1, 10), st.floats(0.3, 12))
def test_hill(a, b, share, k, n):
    a, b = sorted((a, b))
    x = min(max(a + share * (b - a), a), b)
    exact = mp.mpf(x) ** n / (mp.mpf(k) ** n + mp.mpf(x) ** n)
    assert_contains(BALL_OPERATIONS["hill"](Ball(a, b), k, n), exact, mp.mpf(10) ** -40)


_JETS = {
    name: getattr(e, name) for name in UNARY if name in ELEMENTARY and name not in ("sign", "log", "sqrt", "log1p")
} | {"mish": lambda x: x * e.tanh(e.softplus(x)), "product": lambda x: x * e.exp(-x * x) / (1 + x**2)}


@pytest.mark.parametrize("name", _JETS)
@settings(max_examples=12, deadline=None)
@given(st.floats(-6, 6), st.floats(0, 1), st.floats(0, 1))
def test_derivatives_over_balls(name, a, width, share):
    """Every Taylor coefficient over an interval contains mpmath's at a point of it."""
    function = _JETS[name]
    x = min(a + share * width, a + width)
    over = derivatives(function, Ball(a, a + width), 5)
    reference = {
        "mish": lambda t: t * mp.tanh(mp.log1p(mp.exp(t))),
        "product": lambda t: t * mp.exp(-t * t) / (1 + t * t),
    }
    exact = mp.taylor(reference.get(name, UNARY.get(name)), mp.mpf(x), 5)
    for k, coefficient in enumerate(exact):
        value = coefficient * math.factorial(k)
        room = mp.mpf(10) ** -18
        assert_contains(Ball(over[k].lo - arb(0, 1e-18), over[k].hi + arb(0, 1e-18)), value, room)


def test_half_lines_have_their_limits():
    right = Ball(3, arb.pos_inf())
    left = Ball(arb.neg_inf(), -3)
    assert e.tanh(right).upper == 1.0
    assert e.sigmoid(left).lower == 0.0
    assert e.erf(left).lower == -1.0
    assert e.exp(left).lower == 0.0 and e.exp(left).upper < 0.05
    assert e.softplus(left).lower == 0.0
    assert 1.5707 < e.atan(right).upper < 1.5708
    assert e.sech(right).lower == 0.0
    assert e.normal_cdf(Ball(1e300, arb.pos_inf())).upper == 1.0


@pytest.mark.parametrize("x", [1e9, 1e19, 1e300, -1e9, -1e19, -1e300])
@pytest.mark.parametrize(
    "name", ["exp", "tanh", "sigmoid", "softplus", "erf", "erfc", "normal_cdf", "sech", "erf_slope"]
)
def test_huge_arguments(name, x):
    """Where flint's own functions run out of exponents, the ends are still bounds."""
    value = BALL_OPERATIONS[name](Ball(x))
    assert not math.isnan(value.lower) and not math.isnan(value.upper)
    limit = {"exp": (0, math.inf), "tanh": (-1, 1), "sigmoid": (0, 1), "softplus": (0, x), "erf": (-1, 1)}
    low, high = limit.get(name, (2.0, 0.0) if name == "erfc" else (0, 1) if name == "normal_cdf" else (0, 0))
    expected = high if x > 0 else low
    assert value.lower <= expected <= value.upper
    if math.isfinite(expected) and expected != x:
        assert value.upper - value.lower < 1e-15


def test_outside_the_domain():
    for name in ("log", "sqrt", "log1p"):
        with pytest.raises(OutsideDomain):
            BALL_OPERATIONS[name](Ball(-3, -2))
    assert e.sqrt(Ball(-1, 4)).lower == 0.0
    assert e.log(Ball(-1, 1)).lower == -math.inf


def test_comparisons_are_true_false_or_undecided():
    assert (Ball(0, 1) < 2) is True
    assert (Ball(0, 1) > 2) is False
    assert (Ball(0, 1) >= 1) is UNDECIDED
    hull = e.where(Ball(0, 1) > 0.5, 3, Ball(7, 8))
    assert (hull.lower, hull.upper) == (3.0, 8.0)
    with pytest.raises(ValueError, match="part of the ball"):
        bool(Ball(0, 1) > 0.5)


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False), st.floats(0, 1e-3))
def test_floats_are_rounded_outwards(x, radius):
    thin = arb(x, radius * abs(x)) if math.isfinite(x) else arb(x)
    if not math.isfinite(x):
        return
    assert arb(float_below(thin)) <= thin.lower() or float_below(thin) == -math.inf
    assert thin.upper() <= arb(float_above(thin)) or float_above(thin) == math.inf
    assert float_below(arb(x)) == x == float_above(arb(x))


def test_tiny_and_huge_floats_are_rounded_outwards():
    tiny = arb(10) ** -400
    assert (float_below(tiny), float_above(tiny)) == (0.0, 5e-324)
    assert (float_below(1 / tiny), float_above(1 / tiny)) == (1.7976931348623157e308, math.inf)


def test_constants_are_exact():
    x = variable("x")
    with precision(106):
        value = (x * Fraction(1, 3) - x / 3).evaluate(x=Ball(3))
    assert value.lower <= 0 <= value.upper < 1e-30
    assert (x + 0.1).evaluate(x=Ball(0)).lower == 0.1  # the float64, not one tenth


def test_jets_over_balls_mix_with_numbers():
    jet = Jet([Ball(0, 1), 1, 0])
    squared = jet * jet
    assert [c.upper if isinstance(c, Ball) else c for c in squared.c] == [1.0, 2.0, 1]
