"""Every entry of the catalogue: no value, slope or higher derivative leaves what is proved about it."""

import math

import pytest
from flint import arb

from varphi.activation.registry import definition, names
from varphi.facts.analysis import Analysis
from varphi.facts.api import facts
from varphi.numbers.ball import Ball, ball, precision
from varphi.numbers.pieces import as_point

# Ordinary points, and every power of ten up to the largest float64: bounds are for the whole line.
POINTS = [i / 7 - 9.01 for i in range(127)] + [
    s * m * 10.0**k for k in range(-12, 309, 9) for m in (1.0, 1.7) for s in (1, -1)
]


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VARPHI_CACHE_DIR", str(tmp_path_factory.mktemp("facts")))
        yield


def _values(analysis, x):
    """Balls around f, f', ... at x, at high precision; None at breaks and outside the domain."""
    for arc in analysis.arcs:
        if as_point(arc.lower) < x and x < as_point(arc.upper):
            return arc.curve.at(x)
    return None


@pytest.mark.parametrize("name", names())
def test_bounds_hold(name):
    expression = definition(name).expression()
    bounds = facts(definition(name)).derivative_bounds
    with precision(300):
        analysis = Analysis(expression)
        reached = [[math.inf, -math.inf] for _ in bounds]
        for x in POINTS:
            values = _values(analysis, arb(x))
            if values is None:
                continue
            for k, bound in enumerate(bounds):
                assert values[k].lower <= bound.upper and bound.lower <= values[k].upper, (x, k, values[k], bound)
                if values[k].is_finite():
                    reached[k] = [min(reached[k][0], values[k].upper), max(reached[k][1], values[k].lower)]
        for (low, high), bound in zip(reached, bounds, strict=True):
            # The proved ends are not beyond what values can be: sup f is at least every f(x) seen.
            assert bound.supremum.upper >= high and bound.infimum.lower <= low
            assert bound.supremum.lower <= bound.supremum.upper and bound.infimum.lower <= bound.infimum.upper


@pytest.mark.parametrize("name", names())
def test_definition_stays_in_its_range(name):
    """The same for the definition itself, switches included, in plain float64."""
    expression = definition(name).expression()
    about = facts(definition(name))
    bound = about.derivative_bounds[0]
    for x in POINTS[:127]:
        if not any(low <= x <= high for low, high in about.domain):
            continue
        value = expression.evaluate(x=x)
        slack = 1e-11 * max(1.0, abs(value))
        assert bound.lower - slack <= value <= bound.upper + slack


@pytest.mark.parametrize("name", ["relu", "softplus", "gelu", "hard_swish", "softsign", "elu", "mish", "squareplus"])
def test_values_over_balls(name):
    """The whole definition over balls (switches undecided: the hull) stays consistent with its range."""
    expression = definition(name).expression()
    bound = facts(definition(name)).range
    for a in range(-8, 8):
        value = ball(expression.evaluate(x=Ball(a, a + 1)))
        assert value.lower <= bound.upper and bound.lower <= value.upper
