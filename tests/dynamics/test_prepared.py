"""Formulas made ready for many evaluations: the values stay what they were."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varphi.dynamics.ensemble import simulate
from varphi.dynamics.prepared import in_logarithms, prepared
from varphi.dynamics.system import System
from varphi.numbers import evaluate, exp, hill, variable, where
from varphi.systems.circuits import Circuit


def test_what_depends_on_parameters_alone_is_set_apart() -> None:
    x, k, n = variable("x"), variable("k"), variable("n")
    law = where(k - 1 > 0, x * exp(k * n), hill(x, k, n) + k**n) * (k + 1)
    parts, (rest,) = prepared([law], ["k", "n"])
    assert all(part.variables <= {"k", "n"} for part in parts.values())
    assert len(parts) == 4  # k - 1, exp(k n), k^n, k + 1
    for values in ({"x": 0.7, "k": 0.5, "n": 2.5}, {"x": 0.7, "k": 1.5, "n": 2.5}):
        early = dict(zip(parts, evaluate(parts.values(), values), strict=True))
        assert evaluate([rest], early | values) == evaluate([law], values)


LOOP = Circuit.ffl("I1").system()


@given(st.floats(1e-12, 1e12), st.floats(1e-12, 1e12), st.floats(1e-3, 1e3), st.floats(0.3, 8.0))
def test_hill_functions_in_logarithms(x: float, y: float, k: float, n: float) -> None:
    """Rates and slopes are those of the laws as they were written."""
    rates = in_logarithms(LOOP.rates, LOOP.parameters)
    assert "hill" not in {node.operation for r in rates for node in r.nodes()}
    values = {v: 1.0 for v in LOOP.variables} | dict(zip(LOOP.states, (x, y, 0.0), strict=False))
    values |= {p: k if p.startswith("K") else n if p.startswith("n") else 1.5 for p in LOOP.parameters}
    for new, old in zip(evaluate(rates, values), evaluate(LOOP.rates, values), strict=True):
        assert new == pytest.approx(old, rel=1e-11, abs=1e-300)


def test_hill_functions_at_zero_and_below() -> None:
    """Where the concentration is not above 0 the law's other branch holds, for rates and slopes, with any exponent."""
    starts = np.array([0.0, -1e-12, 1e-300, 1e-12])
    for n in (0.5, 1.0, 2.5):
        exponents = {p: n for p in LOOP.parameters if p.startswith("n")}
        options = {"parameters": exponents, "rtol": 1e-9, "atol": 1e-12, "progress": False}
        start = dict.fromkeys(LOOP.states, starts)
        both = [simulate(LOOP, 3.0, start, method=m, **options) for m in ("explicit", "stiff")]
        assert all(b.ok.all() for b in both)
        np.testing.assert_allclose(both[0].ends, both[1].ends, atol=1e-6)


def test_other_hill_functions_stay_as_they_are() -> None:
    bare = System.of({"x": "hill(x, K, n) - x", "y": "hill(maximum(x, 0), 2, 3) - y"}, {"K": 1.0, "n": 2.0})
    assert all(a is b for a, b in zip(in_logarithms(bare.rates, bare.parameters), bare.rates, strict=True))
    found = simulate(bare, 1.0, [-1e-9, 0.0], method="stiff", progress=False)
    assert found.ok.all() and math.isclose(found.ends[0, 0], -1e-9 / math.e, rel_tol=1e-3, abs_tol=1e-9)
