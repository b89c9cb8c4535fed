"""Ranges, dose-response curves and hysteresis against closed forms."""

import math

import numpy as np
import pytest

from varphi.systems.circuits import Circuit, Range, dose_response, hysteresis, sampled


def test_ranges() -> None:
    found = sampled({"K": Range(0.01, 100), "n": Range(1, 4, "linear")}, 20000, seed=3)
    assert np.log10(found["K"]).mean() == pytest.approx(0, abs=0.04) and found["K"].min() >= 0.01
    assert found["n"].mean() == pytest.approx(2.5, abs=0.03) and found["n"].max() <= 4
    assert abs(np.corrcoef(found["K"], found["n"])[0, 1]) < 0.03
    again = sampled({"K": Range(0.01, 100)}, 20000, seed=3)
    np.testing.assert_array_equal(found["K"], again["K"])
    assert Range.read("0.1:10") == Range(0.1, 10) and Range.read("1:4:linear") == Range(1, 4, "linear")
    for text in ("0.1", "a:b", "1:2:cubic", ":"):
        with pytest.raises(ValueError, match="a range is LOW:HIGH"):
            Range.read(text)
    for low, high, scale, message in (
        (2, 1, "log", "increasing"),
        (0, 1, "log", "begins above 0"),
        (1, math.inf, "log", "finite"),
        (1, 2, "cubic", "'log' or 'linear'"),
    ):
        with pytest.raises(ValueError, match=message):
            Range(low, high, scale)
    with pytest.raises(ValueError, match="no parameter has a range"):
        sampled({}, 10)
    with pytest.raises(ValueError, match="samples must be"):
        sampled({"K": Range(1, 2)}, 0)


@pytest.mark.parametrize("n", [1.0, 2.0, 3.0, 4.0, 8.0])
def test_sharpness_of_a_hill_function(n: float) -> None:
    """EC90/EC10 = 81^(1/n), seen over a range that saturates."""
    circuit = Circuit.simple(K=2.0, n=n)
    wide = 1e7 ** (1 / n)
    found = dose_response(circuit.system(), "Z", "X", np.geomspace(2 / wide, 2 * wide, 41), 40.0, progress=False)
    assert found.half == pytest.approx(2.0, rel=1e-6)
    assert found.sharpness == pytest.approx(81 ** (1 / n), rel=1e-5)
    assert found.coefficient == pytest.approx(n, rel=1e-5)
    np.testing.assert_allclose(found.output, found.levels**n / (2**n + found.levels**n), rtol=1e-9)


def test_a_curve_that_is_not_monotone_has_no_half() -> None:
    loop = Circuit.ffl("I1", K={"XY": 3.0, "XZ": 0.3, "YZ": 0.2}, n=3.0)
    found = dose_response(loop.system(), "Z", "X", np.geomspace(0.01, 100, 41), 40.0, progress=False)
    assert math.isnan(found.half) and math.isnan(found.coefficient) and found.output.max() > 2 * found.output[-1]
    falling = Circuit.cascade([-1], K=1.0, n=2.0)
    curve = dose_response(falling.system(), "Y1", "X", np.geomspace(1e-4, 1e4, 41), 40.0, progress=False)
    assert curve.half == pytest.approx(1.0, rel=1e-5) and curve.sharpness == pytest.approx(9.0, rel=1e-5)


def test_the_folds_of_auto_activation_in_closed_form() -> None:
    """x' = basal + beta x²/(1 + x²) - x: folds where the slope beta 2x/(1 + x²)² is 1; basal = x - beta x²/(1 + x²)."""
    circuit = Circuit.autoregulation(1, beta=4.0)
    roots = np.roots([1, 0, 2, -8, 1])  # (1 + x²)² = 8x
    real = np.sort(roots[np.abs(roots.imag) < 1e-9].real)
    basal = [x - 4 * x**2 / (1 + x**2) for x in real]
    found = hysteresis(circuit.system(), "X", "basal_X", np.linspace(0.0, 0.5, 51), 50.0)
    assert found.bistable
    assert found.jump_up == pytest.approx(basal[0], rel=1e-8) and 0 < found.jump_up < 0.5
    # The other fold lies at a negative basal rate, which no level reaches: once on, the gene stays on.
    assert basal[1] < 0 and math.isnan(found.jump_down)
    rate = hysteresis(circuit.with_parameters(basal_X=0.05).system(), "X", "beta_X", np.linspace(1.0, 8.0, 141), 50.0)
    assert rate.bistable and 1.0 < rate.jump_down < rate.jump_up < 8.0
    # On the same curve: beta = (x - basal)(1 + x²)/x², whose extrema are the folds: x³ - x + 2 basal = 0.
    x = np.sort(np.roots([1, 0, -1, 0.1]).real)[1:]
    expected = (x - 0.05) * (1 + x**2) / x**2
    assert sorted([rate.jump_down, rate.jump_up]) == pytest.approx(sorted(expected), rel=1e-8)


def test_a_gene_that_represses_itself_has_no_hysteresis() -> None:
    circuit = Circuit.autoregulation(-1)
    found = hysteresis(circuit.system(), "X", "beta_X", np.linspace(0.5, 5, 10), 40.0)
    assert not found.bistable and math.isnan(found.jump_up)
    ring = Circuit.repressilator(beta=20.0, n=3.0)
    with pytest.raises(ValueError, match="does not come to rest"):
        hysteresis(ring.system(), "A", "beta_A", [20.0, 21.0], 20.0, start={"A": 1.0, "B": 0.0, "C": 0.0})
    with pytest.raises(ValueError, match="increasing"):
        dose_response(circuit.system(), "X", "beta_X", [2.0, 1.0], 40.0)
