"""Proofs over boxes of parameters against analytic boundaries."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from varphi.numbers.ball import Ball
from varphi.systems.circuits import Circuit, certify, rest
from varphi.systems.circuits.proofs import _hill


@settings(max_examples=200)
@given(
    st.sampled_from([1, -1]), st.floats(0, 5), st.floats(0, 3), st.floats(0.1, 3), st.floats(0, 1),
    st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.7]), st.floats(0, 1), st.lists(st.floats(0, 1), min_size=3, max_size=3),
)  # fmt: skip
@example(1, 5e-324, 0.0, 2.0, 0.0, 0.5, 0.0, [0.0, 0.0, 0.0])
def test_hill_and_its_slope_lie_in_their_balls(
    sign: int, x: float, wide: float, K: float, more: float, n: float, rise: float, where: list
) -> None:
    value, slope = _hill(sign, Ball(x, x + wide), Ball(K, K + more), Ball(n, n + rise), Ball(1))
    a, k, m = x + where[0] * wide, K + where[1] * more, n + where[2] * rise
    if a <= 0:
        return
    r = math.exp(m * (math.log(a) - math.log(k)))
    up = r / (1 + r)
    exact = m * up * (1 - up) / a * sign
    assert value.lower - 1e-12 <= (up if sign > 0 else 1 - up) <= value.upper + 1e-12
    assert slope.lower - 1e-9 * abs(exact) <= exact <= slope.upper + 1e-9 * abs(exact)


@pytest.mark.parametrize("K, alpha", [(1.0, 1.0), (0.3, 2.0)])
def test_auto_activation_agrees_with_its_boundary(K: float, alpha: float) -> None:
    """x' = β x²/(K² + x²) - αx is bistable exactly for β > 2αK."""
    circuit = Circuit.autoregulation(1, K=K, alpha=alpha)
    edge = 2 * alpha * K
    for low, high in ((0.1, 0.5), (0.5, 0.9), (0.9, 0.99), (1.01, 1.1), (1.1, 2.0), (2.0, 10.0)):
        box = {"beta_X": (low * edge, high * edge)}
        one, two = certify(circuit, "monostable", box), certify(circuit, "bistable", box)
        assert (one.verdict, two.verdict) == (("PROVED", "REFUTED") if high < 1 else ("REFUTED", "PROVED"))
        for proof in (one, two):
            if proof.witness is not None:
                assert low * edge <= proof.witness["beta_X"] <= high * edge
    both = {"beta_X": (0.5 * edge, 2 * edge)}
    assert certify(circuit, "monostable", both).verdict == "REFUTED"
    assert certify(circuit, "bistable", both).verdict == "REFUTED"


def test_a_contraction_is_a_certificate() -> None:
    """β L/α < 1 with L = 0.649519/K for n = 2."""
    found = certify(Circuit.autoregulation(1), "monostable", {"beta_X": (0.1, 1.5)})
    assert found.verdict == "PROVED" and "contraction" in found.reason
    slope = float(found.reason.split()[-1])
    assert 1.5 * 0.649519 <= slope < 1.5 * 0.6496


@pytest.mark.parametrize("low, high", [(0.3, 0.9), (0.9, 0.97), (1.03, 1.3), (1.3, 4.0)])
def test_the_toggle_agrees_with_its_boundary(low: float, high: float) -> None:
    """With n = 2 and equal genes: bistable exactly for β > 2."""
    for steps in (1, 2):
        circuit = Circuit.toggle(beta=2.0 * low)
        box = {"beta_A": (2 * low, 2 * high)} if steps == 1 else {}
        if box:  # along the diagonal the box is a point for each value: take both ends and the middle
            for beta in np.linspace(2 * low, 2 * high, 5):
                point = Circuit.toggle(beta=float(beta))
                one, two = (certify(point, claim, {}) for claim in ("monostable", "bistable"))
                assert (one.verdict, two.verdict) == (("PROVED", "REFUTED") if beta < 2 else ("REFUTED", "PROVED"))
        else:
            assert certify(circuit, "monostable" if high < 1 else "bistable", {}).verdict == "PROVED"


def test_boxes_of_the_toggle() -> None:
    circuit = Circuit.toggle()
    far = {"beta_A": (3.8, 4.2), "beta_B": (3.8, 4.2), "n_A_B": (2.0, 2.2)}
    assert certify(circuit, "bistable", far).verdict == "PROVED"
    near = {"beta_A": (1.0, 1.4), "beta_B": (1.0, 1.4)}
    assert certify(circuit, "monostable", near).verdict == "PROVED"
    # The boundary of the plane (β_A, β_B) is where a double root appears: random boxes against a count of roots.
    generator = np.random.default_rng(1)
    decided = 0
    for _ in range(12):
        a, b = generator.uniform(1, 5, 2)
        box = {"beta_A": (a, a * 1.03), "beta_B": (b, b * 1.03)}
        counts = set()
        for p in np.linspace(a, a * 1.03, 4):
            for q in np.linspace(b, b * 1.03, 4):
                # A(1 + (q/(1 + A²))²) = p, as a polynomial in A.
                square = np.polymul([1, 0, 1], [1, 0, 1])
                polynomial = np.polysub(np.polyadd(np.polymul([1, 0], square), [q * q, 0]), p * square)
                roots = np.roots(polynomial)
                counts.add(int(np.sum((np.abs(roots.imag) < 1e-9) & (roots.real > 0))))
        two = certify(circuit, "bistable", box)
        if two.verdict == "PROVED":
            assert counts == {3}
        elif two.verdict == "REFUTED" and len(counts) == 1:
            assert counts == {1}
        decided += two.verdict != "UNDECIDED"
    assert decided >= 10


def test_what_is_not_decided_says_so() -> None:
    circuit = Circuit.autoregulation(1)
    found = certify(circuit, "monostable", {"beta_X": (1.0, 2.0)}, most_boxes=20)
    assert found.verdict == "UNDECIDED" and 0 < found.open_share < 0.2 and "stayed open" in found.reason


def test_negative_loops_and_none_have_one_state() -> None:
    for circuit in (
        Circuit.autoregulation(-1, beta=5.0, n=4.0),
        Circuit.repressilator(beta=20.0, n=3.0),
        Circuit.ffl("I1", K=0.3),
        Circuit.cascade([1, -1, 1]),
    ):
        assert certify(circuit, "monostable", {}).verdict == "PROVED"
    states = rest(Circuit.toggle(beta=4.0).system(), {"A": [3, 0], "B": [0, 3]}, 60.0, progress=False).states
    assert abs(states[0, 0] - states[1, 0]) > 3


def test_refusals() -> None:
    circuit = Circuit.autoregulation(1)
    cases = (
        (circuit, "tristable", {}, "'monostable' or 'bistable'"),
        (circuit, "bistable", {"beta_Q": (1, 2)}, "no parameter 'beta_Q'"),
        (circuit, "bistable", {"K_X_X": (0, 2)}, "K_X_X must be finite and above 0"),
        (circuit, "bistable", {"beta_X": (2, 1)}, r"must be \(low, high\)"),
        (Circuit.graph([("A", "A", 1), ("B", "B", 1)]), "bistable", {}, "loops apart"),
    )
    for given_circuit, claim, box, message in cases:
        with pytest.raises(ValueError, match=message):
            certify(given_circuit, claim, box)
