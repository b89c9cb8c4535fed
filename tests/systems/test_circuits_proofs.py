"""Proofs over boxes of parameters against analytic boundaries."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from varphi.numbers.ball import Ball
from varphi.systems.circuits import Circuit, Model, Transcript, certify, rest
from varphi.systems.circuits.antimony import from_antimony
from varphi.systems.circuits.circuit import gated
from varphi.systems.circuits.proofs import _hill, _joined


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


def edge_of_auto_activation(n: float) -> float:
    """β/(αK) where x' = β h(x) - αx gets two more steady states: 1/max(h/x), at (x/K)^n = n - 1."""
    return n * (n - 1) ** (1 / n - 1)


@pytest.mark.parametrize("n", [1.5, 2.0, 4.0])
def test_a_grid_of_boxes_of_auto_activation(n: float) -> None:
    """Boxes of (β, K): bistable exactly where β/K is above the edge in the whole box, monostable where below."""
    circuit = Circuit.autoregulation(1, n=n)
    ratio = edge_of_auto_activation(n)
    for low in (0.3, 0.7, 1.1, 1.5, 2.2):
        for half in (0.5, 0.8, 1.3):
            box = {"beta_X": (low * ratio, (low + 0.35) * ratio), "K_X_X": (half, half * 1.1)}
            least, most = low / (half * 1.1), (low + 0.35) / half
            expected = ("PROVED", "REFUTED") if most < 1 else ("REFUTED", "PROVED") if least > 1 else ("REFUTED",) * 2
            proofs = [certify(circuit, claim, box) for claim in ("monostable", "bistable")]
            assert tuple(p.verdict for p in proofs) == expected, (box, [p.reason for p in proofs])
            for proof in proofs:
                if proof.witness is not None:
                    bistable = proof.witness["beta_X"] / proof.witness["K_X_X"] > ratio
                    assert bistable == (proof.claim == "monostable")


def test_a_grid_of_boxes_of_the_toggle() -> None:
    """n = 2: folds are where 4 A²B² = (1 + A²)(1 + B²); β_A = A(1 + B²), β_B = B(1 + A²), B² = (1 + A²)/(3A² - 1)."""
    a = np.geomspace(0.5774, 60, 20000)
    b = np.sqrt((1 + a * a) / (3 * a * a - 1))
    p, q = a * (1 + b * b), b * (1 + a * a)
    lower, upper = a <= b, a >= b  # the cusp is at A = B = 1
    bottom = lambda x: np.interp(x, p[lower][::-1], q[lower][::-1]) if x > 2 else 2.0  # noqa: E731
    top = lambda x: np.interp(x, p[upper], q[upper]) if x > 2 else 2.0  # noqa: E731
    for low in (1.0, 1.7, 2.6, 4.0):
        for left in (1.2, 2.3, 3.4, 5.0):
            box = {"beta_A": (low, low + 0.5), "beta_B": (left, left + 0.5)}
            inside = low > 2 and bottom(low + 0.5) < left and left + 0.5 < top(low)
            outside = left > top(low + 0.5) or left + 0.5 < bottom(low)
            expected = ("REFUTED", "PROVED") if inside else ("PROVED", "REFUTED") if outside else ("REFUTED",) * 2
            found = [certify(Circuit.toggle(), claim, box, most_boxes=300) for claim in ("monostable", "bistable")]
            for proof, right in zip(found, expected, strict=True):
                assert proof.verdict == right, (box, proof)


@settings(max_examples=100)
@given(
    st.sampled_from(["AND", "OR", "SUM"]),
    st.lists(st.tuples(st.sampled_from([1, -1]), st.floats(0.01, 4), st.floats(0, 1), st.floats(0.2, 3),
                       st.sampled_from([1.0, 1.7, 2.0, 4.0])), min_size=2, max_size=3),
    st.floats(0, 1),
)  # fmt: skip
def test_gates_and_their_slopes_lie_in_their_balls(gate: str, regulators: list, place: float) -> None:
    """All levels move together, each at its own speed."""
    acting = [
        (sign, Ball(x, x + wide), Ball(i + 1.0), Ball(K), Ball(n)) for i, (sign, x, wide, K, n) in enumerate(regulators)
    ]
    value, slope = _joined(gate, acting)

    def at(shift: float) -> float:
        levels = [(s, x + place * wide + (i + 1) * shift, K, n) for i, (s, x, wide, K, n) in enumerate(regulators)]
        return float(gated(gate, levels))

    exact, h = at(0.0), 1e-6 * min(x for _, x, *_ in regulators)
    steep = (at(h) - at(-h)) / (2 * h)
    assert value.lower - 1e-12 <= exact <= value.upper + 1e-12
    assert slope.lower - 1e-5 * (1 + abs(steep)) <= steep <= slope.upper + 1e-5 * (1 + abs(steep))


def steady_states(circuit: Circuit, **changed: float) -> int:
    """How many levels of A on a fine grid cross Φ(A) = A, for one gene."""
    system = circuit.system()
    values = {**circuit.parameters, **changed}
    rate = system([torch.linspace(0, 40, 20001, dtype=torch.float64)], **values)[0].numpy()
    return int((np.sign(rate[:-1]) != np.sign(rate[1:])).sum())


@pytest.mark.parametrize("gate", ["OR", "SUM"])
def test_gates_of_two_regulators(gate: str) -> None:
    """A gene that activates itself beside an input: against counts of steady states."""
    circuit = Circuit.graph(
        [("A", "A", 1), ("X", "A", -1 if gate == "OR" else 1)], gates=gate, inputs={"X": 1.0}, K=2.0, n=3.0, basal=0.05
    )
    for x, beta in ((0.3, 1.0), (0.3, 4.0), (1.0, 4.0), (3.0, 8.0), (1.0, 14.0)):
        box = {"X": (x, x * 1.02), "beta_A": (beta, beta * 1.02)}
        counts = {steady_states(circuit, X=a, beta_A=b) for a in box["X"] for b in box["beta_A"]}
        one, two = (certify(circuit, claim, box).verdict for claim in ("monostable", "bistable"))
        if counts == {1}:
            assert (one, two) == ("PROVED", "REFUTED"), (x, beta)
        if counts == {3}:
            assert (one, two) == ("REFUTED", "PROVED"), (x, beta)


def test_mrna_moves_no_steady_state() -> None:
    """A transcript with translation = its decay leaves the steady states of auto-activation where they are."""
    plain = Circuit.autoregulation(1).genes["X"]
    circuit = Circuit({"X": replace(plain, transcript=Transcript(alpha=3.0, translation=3.0))})
    assert certify(circuit, "bistable", {"beta_X": (2.05, 2.5)}).verdict == "PROVED"
    assert certify(circuit, "monostable", {"beta_X": (1.2, 1.95)}).verdict == "PROVED"


def test_stability_is_not_claimed_where_it_is_open() -> None:
    """A loop whose steady states may be left by oscillations: counted, not called stable."""
    circuit = Circuit.graph([("A", "A", 1), ("B", "A", -1), ("A", "B", 1)], gates="AND", K=1.0, n=4.0, beta=3.0)
    found = certify(circuit, "bistable", {})
    assert found.verdict == "UNDECIDED" or found.verdict == "REFUTED"
    if found.verdict == "UNDECIDED":
        assert "not all positive" in found.reason or "too near" in found.reason


TWO_WAYS = "species A; A = 0; J: => A; b*A^2/(K^2 + A^2) + c/(1 + A); L: A => ; a*A; a = 1; b = 1; c = 0.1; K = 1;"


def test_models_are_proved_as_well() -> None:
    pytest.importorskip("antimony", reason="needs varphi[circuits]")
    model = Circuit.from_antimony(TWO_WAYS)
    assert isinstance(model, Model)
    for b, expected in ((1.0, 1), (2.2, 3), (4.0, 1)):
        # b A²/(1 + A²) + 0.1/(1 + A) = A as a polynomial.
        left = np.polyadd(b * np.poly([0, 0, -1]), 0.1 * np.array([1, 0, 1]))
        roots = np.roots(np.polysub(left, np.polymul(np.polymul([1, 0], [1, 0, 1]), [1, 1])))
        count = int(np.sum((np.abs(roots.imag) < 1e-9) & (roots.real >= 0)))
        one, two = (certify(model, claim, {"b": (b, b * 1.01)}).verdict for claim in ("monostable", "bistable"))
        assert (one, two) == (("PROVED", "REFUTED") if count == 1 else ("REFUTED", "PROVED")), (b, count, expected)
    circuit = Circuit.from_antimony("species A; A = 0; J: => A; b*A^2/(4 + A^2); L: A => ; A; b = 1;")
    assert isinstance(circuit, Circuit) and circuit.certify("bistable", {"b": (4.1, 5.0)}).verdict == "PROVED"


def test_models_that_proofs_do_not_cover() -> None:
    pytest.importorskip("antimony", reason="needs varphi[circuits]")
    for text, message in (
        ("species A; A = 1; J: => A; 1; L: A => ; A*A;", "losses in proportion to what is lost; that of A is not"),
        ("species A; A = 1; J: => A; time; L: A => ; A;", "do not depend on the time"),
    ):
        with pytest.raises(ValueError, match=message):
            certify(from_antimony(text), "monostable", {})
    unbounded = from_antimony("species A, B; A = 0; B = 0; J: => A; B^2; L: A => ; A; M: => B; A^2; N: B => ; B;")
    found = certify(unbounded, "monostable", {})
    assert found.verdict == "UNDECIDED" and "no bound of the level of" in found.reason


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
