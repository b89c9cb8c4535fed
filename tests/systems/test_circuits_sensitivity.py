"""Sobol's indices against closed forms."""

import math

import numpy as np
import pytest

from varphi.systems.circuits import Circuit, Range, morris, sobol

pytest.importorskip("SALib", reason="needs varphi[circuits]")


def test_the_level_of_simple_regulation() -> None:
    """ln Z = ln β - ln α + const: over ranges of 2 and 1 decades the shares are 4/5 and 1/5, with no interaction."""
    circuit = Circuit.simple()

    def level(given: dict) -> np.ndarray:
        return np.log(circuit.respond(("X", 0.0, 1.0), parameters=given, progress=False).last)

    found = sobol(level, {"beta_Z": Range(0.1, 10), "alpha_Z": Range(1, 10)}, base=512)
    for shares, errors in ((found.first, found.first_error), (found.total, found.total_error)):
        for name, exact in (("beta_Z", 0.8), ("alpha_Z", 0.2)):
            assert abs(shares[name] - exact) < min(0.05, 2 * errors[name] + 1e-3)


def test_interactions_of_the_ishigami_function() -> None:
    """sin a + 7 sin² b + 0.1 c⁴ sin a: first-order shares 0.3139, 0.4424, 0; totals 0.5576, 0.4424, 0.2437."""
    angle = Range(-math.pi, math.pi, "linear")
    found = sobol(
        lambda p: np.sin(p["a"]) + 7 * np.sin(p["b"]) ** 2 + 0.1 * p["c"] ** 4 * np.sin(p["a"]),
        {"a": angle, "b": angle, "c": angle}, base=4096,
    )  # fmt: skip
    assert list(found.first.values()) == pytest.approx([0.3139, 0.4424, 0.0], abs=0.03)
    assert list(found.total.values()) == pytest.approx([0.5576, 0.4424, 0.2437], abs=0.03)


def test_refusals() -> None:
    ranges = {"a": Range(1, 2), "b": Range(1, 2)}
    with pytest.raises(ValueError, match="two or more ranges"):
        sobol(lambda p: p["a"], {"a": Range(1, 2)})
    with pytest.raises(ValueError, match="power of two"):
        sobol(lambda p: p["a"], ranges, base=100)
    with pytest.raises(ValueError, match="not finite"):
        sobol(lambda p: np.where(p["a"] > 1.5, np.nan, 1.0), ranges)


def test_elementary_effects_of_a_line_and_of_a_product() -> None:
    """Over a linear range a line's effects are all its slope times the range; a product's differ."""
    ranges = {"a": Range(0.0, 2.0, "linear"), "b": Range(1.0, 3.0, "linear")}
    line = morris(lambda p: 3 * p["a"] - p["b"], ranges, paths=10)
    assert line.mean == pytest.approx({"a": 6.0, "b": 2.0}) and line.deviation["a"] == pytest.approx(0.0, abs=1e-9)
    assert line.error["a"] == pytest.approx(0.0, abs=1e-9)
    product = morris(lambda p: p["a"] * p["b"], ranges, paths=200)
    # Each effect of a is 2 b, of b 2 a: means 4 and 2.
    assert product.mean["a"] == pytest.approx(4.0, rel=0.1) and product.mean["b"] == pytest.approx(2.0, rel=0.1)
    assert product.deviation["a"] > 0.5
    with pytest.raises(ValueError, match="paths must be two or more"):
        morris(lambda p: p["a"], ranges, paths=1)
    with pytest.raises(ValueError, match="levels must be an even number"):
        morris(lambda p: p["a"], ranges, levels=3)
    with pytest.raises(ValueError, match="two or more ranges, got 1"):
        morris(lambda p: p["a"], {"a": Range(1, 2)})
