"""Jets: Taylor coefficients of every elementary function, over floats, tensors and expressions, tails included."""

import math
from fractions import Fraction

import mpmath
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from varphi.numbers import (
    ELEMENTARY,
    Jet,
    UnsupportedOperation,
    derivatives,
    evaluate,
    exp,
    exprel,
    hill,
    log,
    maximum,
    minimum,
    seed,
    sigmoid,
    sign,
    sin,
    sinc,
    softplus,
    sqrt,
    squareplus,
    tanh,
    variable,
    where,
)

mp = mpmath.mp.clone()
mp.dps = 60
ORDER = 6


def _series_at_zero(coefficients):
    """An entire function from its power series, for small arguments."""
    return lambda x: sum(c * x**j for j, c in enumerate(coefficients))


REFERENCE = {
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "log_sigmoid": lambda x: -mp.log1p(mp.exp(-x)),
    "tanhshrink": lambda x: x - mp.tanh(x),
    "erf_slope": lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x),
    "normal_pdf": lambda x: mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi),
    "normal_cdf": lambda x: mp.erfc(-x / mp.sqrt(2)) / 2,
    "exprel": _series_at_zero([1 / mp.factorial(j + 1) for j in range(70)]),
    "sinc": _series_at_zero([(1, 0, -1, 0)[j % 4] / mp.factorial(j + 1) for j in range(70)]),
    **{name: getattr(mp, name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "sinh", "cosh",
                                            "tanh", "sech", "asinh", "atan", "erf", "erfc")},
}  # fmt: skip
FUNCTIONS = {name: ELEMENTARY[name] for name in REFERENCE if name not in ("exprel", "sinc")} | {
    "exprel": exprel,
    "sinc": sinc,
}
LOWEST = {"log": 0.05, "sqrt": 0.05, "log1p": -0.9}
# Below, mpmath's differences lose the point in their step.
POINTS = st.floats(-5, 5).filter(lambda x: x == 0 or abs(x) > 1e-9)


def taylor(function, x, order=ORDER):
    return [c * mp.factorial(k) for k, c in enumerate(mp.taylor(function, mp.mpf(x), order))]


def close(got, true, tolerance):
    """To rounding of the largest of the derivatives up to there: they come from each other."""
    scale = mp.mpf(0)
    for k, (g, t) in enumerate(zip(got, true, strict=True)):
        scale = max(scale, abs(t))
        assert abs(g - t) <= tolerance * scale * math.factorial(k) + mp.mpf(10) ** -30, (k, g, float(t))


def test_every_smooth_function_has_a_reference():
    rest = {n for n, f in ELEMENTARY.items() if f.arity == 1} - set(REFERENCE)
    assert rest == {"sign"}


@settings(max_examples=15)
@given(x=POINTS)
@example(0.0)
@example(1e-9)
@pytest.mark.parametrize("name", REFERENCE)
def test_derivatives_of_elementary_functions(name, x):
    assume(x >= LOWEST.get(name, -math.inf))
    close(derivatives(FUNCTIONS[name], x, ORDER), taylor(REFERENCE[name], x), 4e-15)


@settings(max_examples=15)
@given(x=POINTS.filter(lambda x: abs(x) < 2))
@example(0.0)
@pytest.mark.parametrize("name", REFERENCE)
def test_of_an_inner_function(name, x):
    """Composed with a function whose own coefficients are all there."""

    def inner(t):
        return 0.7 + 0.5 * sin(1.3 * t) if LOWEST.get(name) else sin(1.3 * t) - 0.2 * t * t

    def inner_reference(t):
        s = mp.sin(mp.mpf(1.3) * t)
        return mp.mpf(0.7) + s / 2 if LOWEST.get(name) else s - mp.mpf(0.2) * t * t

    got = derivatives(lambda t: FUNCTIONS[name](inner(t)), x, 5)
    close(got, taylor(lambda t: REFERENCE[name](inner_reference(t)), x, 5), 3e-13)


# ------------------------------------------------------------------------------------ removable singularities, powers


@pytest.mark.parametrize("x", [0.0, 1e-300, -1e-300, 1e-12, -1e-5, 0.01, 2.0, -2.0, 2.0000001, 5.0, -9.0])
def test_removable_singularities(x):
    close(derivatives(exprel, x, 8), [mp.hyp1f1(n + 1, n + 2, x) / (n + 1) for n in range(9)], 1e-14)
    sinc_true = [mp.quad(lambda t, n=n: t**n * mp.cos(x * t + n * mp.pi / 2), [0, 0.5, 1]) for n in range(9)]
    for got, true in zip(derivatives(sinc, x, 8), sinc_true, strict=True):
        assert abs(got - true) <= 5e-15
    close(derivatives(lambda t: 1 / exprel(-t), x, 5), taylor(_explinear, x, 5), 1e-13)


def _explinear(x):
    return 1 / REFERENCE["exprel"](-x)


@settings(max_examples=15)
@given(x=st.floats(0.2, 5), p=st.sampled_from([0, 1, 2, 3, 7, -1, -2, 0.5, -0.5, 2.5, Fraction(1, 2), 2.0, 0.0]))
@example(3.0, Fraction(-3, 2))
def test_powers(x, p):
    close(derivatives(lambda t: t**p, x, ORDER), taylor(lambda t: t ** mp.mpf(float(p)), x), 1e-14)
    close(
        derivatives(lambda t: (0.1 + t * t) ** p, x, ORDER),
        taylor(lambda t: (mp.mpf(0.1) + t * t) ** mp.mpf(float(p)), x),
        1e-12,
    )


@pytest.mark.parametrize("p", range(5))
@pytest.mark.parametrize("kind", [int, float])
def test_whole_powers_at_zero_and_of_negative_numbers(p, kind):
    assert derivatives(lambda t: t ** kind(p), 0.0, 5) == [math.factorial(p) * (k == p) for k in range(6)]
    expected = [math.perm(p, k) * (-2.0) ** (p - k) if k <= p else 0 for k in range(6)]
    assert derivatives(lambda t: t ** kind(p), -2.0, 5) == expected


@settings(max_examples=15)
@given(x=st.floats(0.3, 3))
def test_a_variable_exponent(x):
    close(derivatives(lambda t: 2.5**t, x, 5), taylor(lambda t: mp.mpf(2.5) ** t, x, 5), 1e-13)
    close(derivatives(lambda t: t**t, x, 4), taylor(lambda t: t**t, x, 4), 1e-12)
    close(derivatives(lambda t: t ** (1 + 0 * t), x, 3), [x, 1, 0, 0], 1e-15)


@settings(max_examples=15)
@given(x=st.floats(0.05, 20), k=st.floats(0.1, 8), n=st.sampled_from([1, 2, 3, 0.5, 2.5, 4.0]))
def test_hill(x, k, n):
    def reference(t):
        return t ** mp.mpf(n) / (mp.mpf(k) ** mp.mpf(n) + t ** mp.mpf(n))

    close(derivatives(lambda t: hill(t, k, n), x, 4), taylor(reference, x, 4), 2e-12)

    # By the half-saturation, by the exponent.
    def by_k(t):
        return mp.mpf(x) ** mp.mpf(n) / (t ** mp.mpf(n) + mp.mpf(x) ** mp.mpf(n))

    def by_n(t):
        return mp.mpf(x) ** t / (mp.mpf(k) ** t + mp.mpf(x) ** t)

    close(derivatives(lambda t: hill(x, t, n), k, 3), taylor(by_k, k, 3), 2e-12)
    close(derivatives(lambda t: hill(x, k, t), float(n), 3), taylor(by_n, n, 3), 2e-12)


@settings(max_examples=15)
@given(x=st.floats(-30, 30), b=st.floats(0.1, 50))
@example(0.0, 4.0)
@example(-30.0, 0.1)
def test_squareplus_by_each_argument(x, b):
    def reference(t, c):
        root = mp.sqrt(mp.mpf(t) ** 2 + c)
        return (t + root) / 2

    close(derivatives(lambda t: squareplus(t, b), x, 4), taylor(lambda t: reference(t, b), x, 4), 1e-13)
    close(derivatives(lambda c: squareplus(x, c), b, 3), taylor(lambda c: reference(x, c), b, 3), 1e-12)
    both = derivatives(lambda t: squareplus(x * t, b * t), 1.0, 3)
    close(both, taylor(lambda t: reference(x * t, b * t), 1.0, 3), 1e-12)


# ----------------------------------------------------------------------------------------------------------- tails

TAILS = [-700.0, -300.0, -50.0, -37.0, 37.0, 50.0, 300.0, 700.0]


@pytest.mark.parametrize("x", TAILS)
@pytest.mark.parametrize("name", ["sigmoid", "softplus", "log_sigmoid", "tanh", "sech", "exp"])
def test_no_derivative_loses_its_tail(name, x):
    """Each to a relative error, however small it is."""
    with mp.workdps(1500):  # 1 - tanh(700) is 1e-608
        reference = {
            "tanh": lambda t: mp.tanh(t),
            "sech": lambda t: mp.sech(t),
            "exp": mp.exp,
        }.get(name, REFERENCE[name])
        true = taylor(reference, x, 4)
    for k, (got, t) in enumerate(zip(derivatives(FUNCTIONS[name], x, 4), true, strict=True)):
        if abs(t) < 1e-300:
            assert abs(got) <= 1e-300
        else:
            assert abs(got / t - 1) < 1e-12, (k, got, float(t))


@pytest.mark.parametrize("x", [-36.0, -20.0, -8.0, 8.0, 20.0, 26.0, 36.0])
@pytest.mark.parametrize("name", ["erf", "erfc", "erf_slope", "normal_pdf", "normal_cdf"])
def test_gaussian_tails(name, x):
    with mp.workdps(700):
        true = taylor(REFERENCE[name], x, 3)
    for got, t in zip(derivatives(FUNCTIONS[name], x, 3), true, strict=True):
        assert abs(got - t) <= 1e-12 * abs(t) + 1e-300


@pytest.mark.parametrize("x", [-1e8, -1e3, 1e3, 1e8])
def test_squareplus_far_out(x):
    got = derivatives(lambda t: squareplus(t, 4.0), x, 3)
    with mp.workdps(120):
        true = taylor(lambda t: (t + mp.sqrt(t * t + 4)) / 2, x, 3)
    for g, t in zip(got, true, strict=True):
        assert abs(g / t - 1) < 1e-12


@pytest.mark.parametrize("x", [-math.inf, math.inf])
def test_limits_of_first_derivatives(x):
    for name, slopes in {"sigmoid": (0, 0), "tanh": (0, 0), "softplus": (0, 1), "atan": (0, 0), "erf": (0, 0)}.items():
        assert derivatives(FUNCTIONS[name], x, 1)[1] == slopes[x > 0] or name == "erf"


def test_poles_and_branch_points_are_no_exceptions():
    assert derivatives(lambda t: 1 / t, 0.0, 1) == [math.inf, -math.inf]
    assert derivatives(lambda t: t**-2, 0.0, 1) == [math.inf, -math.inf]
    assert derivatives(sqrt, 0.0, 1) == [0.0, math.inf]
    assert derivatives(log, 0.0, 1) == [-math.inf, math.inf]
    assert derivatives(lambda t: t**0.5, 0.0, 1) == [0.0, math.inf]
    assert all(math.isnan(d) for d in derivatives(lambda t: t**0.5, -1.0, 2))
    assert derivatives(lambda t: t**3, 1e200, 1)[0] == math.inf
    assert derivatives(lambda t: hill(maximum(t, 0), 1.0, 2), -1.0, 2) == [0, 0, 0]
    assert derivatives(lambda t: hill(1.0, maximum(t, 0), 2), -1.0, 2) == [1, 0, 0]
    assert derivatives(lambda t: squareplus(t, 0.0), -1.0, 1) == [0, 0]


# ------------------------------------------------------------------------------------------------- pieces, algebra


def test_pieces():
    assert derivatives(abs, -2.0, 2) == [2.0, -1.0, 0]
    assert derivatives(sign, -2.0, 2) == [-1, 0, 0]
    assert derivatives(lambda t: maximum(t, 0), -2.0, 2) == [0, 0, 0]
    assert derivatives(lambda t: maximum(t, t * t), 0.5, 2) == [0.5, 1, 0]
    assert derivatives(lambda t: minimum(t, t * t), 0.5, 2) == [0.25, 1.0, 2.0]
    assert derivatives(lambda t: minimum(3, t), 5.0, 2) == [3, 0, 0]
    assert derivatives(lambda t: where(t > 1, t**3, 7), 2.0, 2) == [8.0, 12.0, 12.0]
    assert derivatives(lambda t: where(t > 1, t**3, 7), 0.0, 2) == [7, 0, 0]
    assert derivatives(lambda t: where(t * t == 4, t, 0), 2.0, 1) == [2.0, 1]


def test_constant_functions():
    assert derivatives(lambda t: 3, 0.5, 3) == [3, 0, 0, 0]
    assert derivatives(lambda t: t - t, 0.5, 2) == [0, 0, 0]
    assert derivatives(lambda t: 0 * tanh(t) + 1, 0.5, 2)[1:] == [0, 0]


@settings(max_examples=15)
@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_the_ring_of_series(a, b):
    p, q = Jet(a), Jet(b)
    product = (p * q).c
    for k in range(4):
        assert product[k] == pytest.approx(sum(a[i] * b[k - i] for i in range(k + 1)), abs=1e-12)
    assert (p + q).c == [u + v for u, v in zip(a, b, strict=True)]
    assert (p * p).c == pytest.approx((p * Jet(list(a))).c, abs=1e-12)
    if abs(b[0]) > 0.5:
        back = ((p / q) * q).c
        assert back == pytest.approx(a, abs=1e-9)


@settings(max_examples=15)
@given(st.floats(0.1, 3))
def test_inverse_functions_undo_each_other(x):
    for there, back in [(exp, log), (lambda t: t * t, sqrt), (lambda t: exp(t) - 1, ELEMENTARY["log1p"])]:
        got = derivatives(lambda t, f=there, g=back: g(f(t)), x, 5)
        assert got == pytest.approx([x, 1, 0, 0, 0, 0], abs=1e-8)


def test_order_zero_and_text_and_truth():
    assert seed(0.5, 0).c == [0.5]
    assert derivatives(tanh, 0.5, 0) == [math.tanh(0.5)]
    assert repr(Jet([1.0, 2])) == "Jet([1.0, 2])"
    with pytest.raises(UnsupportedOperation, match="truth of a jet"):
        bool(Jet([1.0]))


# ------------------------------------------------------------------------------------- tensors, expressions, nested

COMPOSITE = {
    "mish": lambda t: t * tanh(softplus(t)),
    "self-gated": lambda t: t * sigmoid(1.702 * t) - 0.1 * t**3,
    "kinked": lambda t: maximum(0.1 * t, t) + where(t > 0.5, exp(-t), 1 - t),
    "rational": lambda t: (t + 2) / (1 + t * t) + squareplus(t, 4),
    "periodic": lambda t: sinc(t) + sin(t) ** 2 / 1.3 + exprel(-t),
    "hill": lambda t: hill(maximum(t, 0.01), 0.7, 2.5),
}


@pytest.mark.parametrize("name", COMPOSITE)
def test_jets_of_tensors_are_nested_autograd(name):
    x = torch.linspace(-3.03, 3.11, 25, dtype=torch.float64)
    rows = derivatives(COMPOSITE[name], x, 4)
    leaf = x.clone().requires_grad_()
    current = COMPOSITE[name](leaf)
    for row in rows:
        row = torch.as_tensor(row, dtype=x.dtype).expand(x.shape)
        torch.testing.assert_close(row, current.detach(), rtol=1e-9, atol=1e-11)
        if current.requires_grad:
            current = torch.autograd.grad(current.sum(), leaf, create_graph=True)[0]


@settings(max_examples=15)
@given(x=st.floats(-3, 3))
@pytest.mark.parametrize("name", COMPOSITE)
def test_jets_of_expressions_are_jets_of_floats(name, x):
    assume(min(abs(x), abs(x - 0.5), abs(x - 0.01)) > 1e-6)
    symbol = variable("x")
    formulas = [symbol * 0 + f for f in derivatives(COMPOSITE[name], symbol, 4)]
    direct = derivatives(COMPOSITE[name], x, 4)
    scale = 0.0
    for a, b in zip(evaluate(formulas, {"x": x}), direct, strict=True):
        scale = max(scale, abs(b))
        assert a == pytest.approx(b, rel=1e-10, abs=1e-12 * scale)


def test_derivatives_of_expressions_stay_small():
    """Shared nodes and the identities keep a tower near-linear in its order."""
    x = variable("x")
    sizes = [len(derivatives(COMPOSITE["mish"], x, k)[k].nodes()) for k in range(7)]
    assert sizes[6] < 40 * sizes[0]
    assert sum(n.operation in ("tanh", "softplus") for n in derivatives(COMPOSITE["mish"], x, 6)[6].nodes()) <= 3


def test_a_jet_of_jets_is_refused_or_right():
    """Mixed derivatives are taken through expressions: by one variable, then by the other."""
    x, y = variable("x"), variable("y")
    by_x = derivatives(lambda t: exp(t * y) * sin(t), x, 1)[1]
    by_both = derivatives(lambda t: by_x.evaluate(x=x, y=t), y, 1)[1]
    a, b = 0.7, 1.3
    true = mp.diff(lambda s, t: mp.exp(s * t) * mp.sin(s), (a, b), (1, 1))
    assert by_both.evaluate(x=a, y=b) == pytest.approx(float(true), rel=1e-12)
