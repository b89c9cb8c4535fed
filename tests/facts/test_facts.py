"""What facts say about known functions, and that they can be relied on."""

import json
import math
import warnings
from fractions import Fraction

import pytest

from varphi.activation.definition import Definition
from varphi.activation.registry import definition
from varphi.facts.api import facts
from varphi.facts.facts import Facts
from varphi.facts.interval import Interval, highest, lowest
from varphi.facts.results import decode, encode
from varphi.numbers import cache, exp, hill, log1p, maximum, sin, sqrt, tanh, variable, where

X = variable("x")


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VARPHI_CACHE_DIR", str(tmp_path_factory.mktemp("facts")))
        yield


def about(name, **parameters):
    return facts(definition(name), **parameters)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gelu", 1.128904145185155),
        ("silu", 1.099839320128867),
        ("mish", 1.08849816125172),
        ("sigmoid", 0.25),
        ("relu", 1.0),
        ("softplus", 1.0),
        ("tanh", 1.0),
        ("sin", 1.0),
        ("heaviside", math.inf),
        ("relu_squared", math.inf),
    ],
)
def test_lipschitz(name, expected):
    constant = about(name).lipschitz
    assert constant.method == "proved"
    if math.isinf(expected):
        assert constant.lower == constant.upper == math.inf
    else:
        assert constant.lower <= expected + 1e-14 and expected - 1e-14 <= constant.upper
        assert constant.width <= 1e-12


def test_where_gelu_is_steepest():
    turning = facts(X * 0 + definition("gelu").expression()).inflections
    assert [round(p.middle, 12) for p in turning] == [-1.414213562373, 1.414213562373]


@pytest.mark.parametrize(
    ("name", "low", "high", "low_attained", "high_attained"),
    [
        ("relu", 0.0, math.inf, True, False),
        ("softplus", 0.0, math.inf, False, False),
        ("sigmoid", 0.0, 1.0, False, False),
        ("tanh", -1.0, 1.0, False, False),
        ("relu6", 0.0, 6.0, True, True),
        ("hard_tanh", -1.0, 1.0, True, True),
        ("sin", -1.0, 1.0, True, True),
        ("elu", -1.0, math.inf, False, False),
        ("softsign", -1.0, 1.0, False, False),
        ("erf", -1.0, 1.0, False, False),
        ("heaviside", 0.0, 1.0, True, True),
        ("squareplus", 0.0, math.inf, False, False),
    ],
)
def test_range_ends_are_exact(name, low, high, low_attained, high_attained):
    found = about(name).range
    assert found.lower == pytest.approx(low, abs=2e-16) and found.upper == pytest.approx(high, abs=2e-16)
    if low == 0.0:
        assert found.lower == 0.0  # not merely a tiny negative number
    assert (found.lower_attained, found.upper_attained) == (low_attained, high_attained)


def test_exact_zeros():
    assert about("relu").range.zero_stretches == ((-math.inf, 0.0),)
    assert not about("softplus").range.has_exact_zeros
    assert about("relu").zeros.stretches == ((-math.inf, 0.0),)


@pytest.mark.parametrize(
    ("name", "smoothness", "kinks"),
    [
        ("relu", 0, [(0, 1, 1)]),
        ("leaky_relu", 0, [(0, 1, 1 - Fraction(0.01))]),
        ("elu", 1, [(0, 2, -1)]),
        ("hard_swish", 0, [(-3, 1, -0.5), (3, 1, -0.5)]),
        ("relu_squared", 1, [(0, 2, 2)]),
        ("cubic_relu", 2, [(0, 3, 6)]),
        ("heaviside", -1, [(0, 0, 1)]),
        ("silu", math.inf, []),
        ("softsign", 1, [(0, 2, -4)]),
        ("abs", 0, [(0, 1, 2)]),
    ],
)
def test_smoothness(name, smoothness, kinks):
    found = about(name)
    assert found.smoothness == smoothness
    assert len(found.kinks) == len(kinks)
    for kink, (location, order, jump) in zip(found.kinks, kinks, strict=True):
        assert kink.location == Interval(location, location) and kink.order == order
        assert kink.jump.method == "proved"
        assert kink.jump.lower <= float(jump) <= kink.jump.upper and kink.jump.width < 1e-15


def test_elu_is_smooth_at_alpha_one_only():
    assert about("elu", alpha=1.0).smoothness == 1
    assert about("elu", alpha=0.5).smoothness == 0


def test_kinks_at_irrational_points():
    found = facts(maximum(X * X - 2, 0))
    assert found.smoothness == 0
    assert [k.location.middle for k in found.kinks] == pytest.approx([-math.sqrt(2), math.sqrt(2)], abs=1e-15)
    assert found.kinks[1].jump.lower <= 2 * math.sqrt(2) <= math.nextafter(found.kinks[1].jump.upper, 3)


def test_singular_points():
    root = facts(sqrt(abs(X)))
    assert root.smoothness == 0 and root.lipschitz.lower > 1e300
    steep = facts(hill(X, 1, 1.5)).on(0, 10)
    assert steep.range.lower == 0.0 and steep.derivative_bounds[2].upper > 1e100


@pytest.mark.parametrize(
    ("name", "monotone"),
    [
        ("sigmoid", "increasing"),
        ("relu", "nondecreasing"),
        ("heaviside", "nondecreasing"),
        ("silu", "neither"),
        ("sin", "neither"),
        ("softsign", "increasing"),
        ("hill_repressor", "neither"),
    ],
)
def test_monotone(name, monotone):
    found = about(name).monotone
    assert found == monotone or (name == "hill_repressor" and found in ("decreasing", "nonincreasing"))


@pytest.mark.parametrize(
    ("name", "parity"),
    [("tanh", "odd"), ("sin", "odd"), ("relu", "none"), ("softsign", "odd"), ("abs", "even"), ("hard_tanh", "odd"),
     ("gelu", "none"), ("cos", "even"), ("arctan", "odd"), ("softshrink", "odd")],
)  # fmt: skip
def test_parity(name, parity):
    assert about(name).parity == parity


def test_homogeneity():
    assert [about(n).homogeneity for n in ("relu", "leaky_relu", "abs", "relu_squared", "elu")] == [1, 1, 1, 2, None]


def test_turning_points_and_fixed_points():
    silu = about("silu")
    (turn,) = silu.turning_points
    assert turn.lower <= -1.2784645427610738 <= turn.upper and turn.width < 1e-14
    assert silu.turning_points.complete
    assert [p.middle for p in silu.fixed_points] == [0.0]
    assert about("relu").fixed_points.stretches == ((0.0, math.inf),)
    assert about("sin").turning_points.infinite
    near = sorted(abs(p.middle) for p in about("sin").turning_points)
    assert near[0] == pytest.approx(math.pi / 2, abs=1e-14)


def test_convexity():
    kinds = [(p.lower.middle, p.upper.middle, p.kind) for p in about("tanh").convexity]
    assert kinds == [(-math.inf, 0.0, "convex"), (0.0, math.inf, "concave")]
    assert [p.kind for p in about("softplus").convexity] == ["convex"]


@pytest.mark.parametrize(
    ("name", "left", "right"),
    [
        ("softplus", (0, "constant", None), (math.inf, "linear", 1)),
        ("sigmoid", (0, "constant", None), (1, "constant", None)),
        ("relu_squared", (0, "constant", None), (math.inf, "power", 2)),
        ("exp", (0, "constant", None), (math.inf, "exponential", 1)),
        ("asinh", (-math.inf, "logarithmic", None), (math.inf, "logarithmic", None)),
        ("gelu", (0, "constant", None), (math.inf, "linear", 1)),
        ("leaky_relu", (-math.inf, "linear", 0.01), (math.inf, "linear", 1)),
        ("softsign", (-1, "constant", None), (1, "constant", None)),
        ("snake", (-math.inf, "linear", 1), (math.inf, "linear", 1)),
    ],
)
def test_limits(name, left, right):
    for limit, (value, growth, rate) in zip(about(name).limits, (left, right), strict=True):
        assert limit.growth == growth
        assert limit.value.lower <= value <= limit.value.upper and limit.value.method == "proved"
        assert (limit.rate is None) == (rate is None)
        if rate is not None:
            assert limit.rate.lower <= rate <= limit.rate.upper


def test_periodic_functions_have_no_limit():
    assert about("sin").limits.right.growth == "periodic" and about("sin").limits.right.value is None


def test_saturation():
    edges = about("sigmoid").saturation(1e-3)
    # sigmoid'(x) = eps at x = ± ln((1 - 2 eps ± sqrt(1 - 4 eps)) / (2 eps))
    exact = math.log((1 - 2e-3 + math.sqrt(1 - 4e-3)) / 2e-3)
    assert edges.right.middle == pytest.approx(exact, rel=1e-12) and edges.left.middle == pytest.approx(
        -exact, rel=1e-12
    )
    relu = about("relu").saturation(0.1)
    assert relu.left == Interval(0, 0) and relu.right is None
    tail = about("gelu").saturation(1e-30).left
    assert tail.width < 1e-12 and -13 < tail.middle < -11


@pytest.mark.parametrize("eps", [0, -1, math.inf, math.nan, "a", True])
def test_saturation_refuses(eps):
    with pytest.raises(ValueError, match="eps"):
        about("relu").saturation(eps)


def test_on_an_interval():
    part = about("silu").on(-1, 2)
    assert part.range.lower == pytest.approx(-1 / (1 + math.e), abs=1e-15)
    assert part.range.upper == pytest.approx(2 / (1 + math.exp(-2)), abs=1e-15)
    assert part.monotone == "increasing" and part.range.lower_attained and part.range.upper_attained
    assert about("relu").on(1, 5).smoothness == math.inf
    assert about("relu").on(1, math.inf).range.lower == 1.0
    for ends in ((2, 1), (1, 1), (math.nan, 1), ("a", 1)):
        with pytest.raises(ValueError, match="interval"):
            about("relu").on(*ends)


def test_parameters_are_part_of_the_question():
    assert about("softplus", beta=5.0).derivative_bounds[2].upper == pytest.approx(1.25)
    with pytest.raises(TypeError, match="no parameter"):
        about("softplus", gamma=5.0)
    with pytest.raises(ValueError, match="in x alone"):
        Facts(X * variable("beta"))


def test_a_definition_of_one_s_own():
    own = Definition("own", lambda x, a=2.0: tanh(a * x) + where(x > 1, (x - 1) ** 3, 0))
    found = facts(own, a=3.0)
    assert found.smoothness == 2 and found.kinks[0].jump == Interval(6, 6)
    assert found.slope_range.upper == math.inf and found.monotone == "increasing"


def test_exponential_tails_up_to_infinity():
    found = facts(X * tanh(exp(X)))
    assert found.derivative_bounds[4].method == "proved"
    assert found.limits.left.value == Interval(0, 0) and found.limits.right.rate == Interval(1, 1)


def test_undecided_is_said_and_still_true():
    wild = facts(X * sin(X))
    assert wild.range.supremum.method == "undecided"
    assert wild.range.supremum.lower > 100 and wild.range.supremum.upper == math.inf
    assert "range" in wild.undecided()
    with pytest.raises(ValueError, match="could not be decided"):
        _ = facts(abs(X * sin(1 / X))).range


def test_defined_nowhere():
    with pytest.raises(ValueError, match="defined nowhere"):
        _ = facts(log1p(-X)).on(2, 3).range


def test_facts_cannot_be_changed():
    with pytest.raises(AttributeError, match="cannot be changed"):
        about("relu").range = 3


def test_json_is_standard():
    data = json.loads(about("softplus").to_json())
    assert data["range"]["supremum"]["upper"] == "inf" and data["smoothness"] == "inf"
    assert data["lipschitz"] == {"lower": 1.0, "upper": 1.0, "method": "proved"}


@pytest.mark.parametrize("name", ["relu", "gelu", "sin", "heaviside"])
def test_results_survive_the_disk(name):
    found = about(name)
    for fact in ("range", "kinks", "limits", "convexity", "turning_points", "derivative_bounds", "smoothness"):
        value = getattr(found, fact)
        assert decode(json.loads(json.dumps(encode(value)))) == value


def test_kept_facts_are_used(monkeypatch):
    first = about("mish").lipschitz
    monkeypatch.setattr("varphi.facts.analysis.Analysis.lipschitz", property(lambda self: 1 / 0))
    assert about("mish").lipschitz == first


def test_a_damaged_cache_is_noticed(monkeypatch, tmp_path):
    monkeypatch.setenv("VARPHI_CACHE_DIR", str(tmp_path))
    first = about("silu").range
    (kept,) = [p for p in tmp_path.rglob("*") if p.is_file()]
    for content in (b"", b"{}", b"not json at all", kept.read_bytes()[:-9], kept.read_bytes().replace(b"1", b"2")):
        kept.write_bytes(content)
        monkeypatch.setattr(cache, "_warned", set())
        with pytest.warns(RuntimeWarning):
            assert about("silu").range == first
        assert about("silu").range == first  # and it has been mended


def test_an_unwritable_cache_only_costs_time(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("VARPHI_CACHE_DIR", str(blocked))
    monkeypatch.setattr(cache, "_warned", set())
    with pytest.warns(RuntimeWarning):
        assert about("tanh").lipschitz == Interval(1, 1)
    with warnings.catch_warnings():  # said once
        warnings.simplefilter("error")
        assert about("tanh").range.upper == 1.0


def test_interval():
    a = Interval(-0.0, 1.0, "computed")
    assert math.copysign(1, a.lower) == 1 and 0.5 in a and 2 not in a and a.width == 1 and a.middle == 0.5
    assert abs(Interval(-3, 2)) == Interval(0, 3) and -a == Interval(-1, 0, "computed")
    assert str(Interval(1.0, 1.0)) == "1" and str(Interval(0.1, 0.2, "undecided")) == "[0.1, 0.2] (undecided)"
    assert highest([Interval(0, 1), Interval(2, 3), Interval(-5, -4, "undecided")]) == Interval(2, 3)
    assert lowest([Interval(0, 1), Interval(-5, 9, "undecided")]) == Interval(-5, 1, "undecided")
