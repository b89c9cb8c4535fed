"""Folds, Hopf points and equilibria against 50-digit values, AUTO-07p's and MatCont's prints, and closed forms.

Values with 12 or more digits were computed with mpmath at 50 digits by code that shares nothing with varphi (numerical
derivatives, bialternate product); those of AUTO-07p 0.9.2 and of MatCont's manual are named beside.
"""

import math

import numpy as np
import pytest
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from varphi.systems.neurons import Current, Gate, Model, boltzmann, equilibria, load, special_points, steady
from varphi.systems.neurons.branch import characteristic, hurwitz, squared_frequency
from varphi.systems.neurons.equilibria import unstable

FOLDS = {
    ("hodgkin-huxley", None): [],
    ("morris-lecar", "class 2"): [],
    ("morris-lecar", "class 1"): [(39.963153092745, -29.389777405), (-9.949039322623, -4.048517788)],
    ("morris-lecar", "homoclinic"): [(39.963153092745, -29.389777405), (-9.949039322623, -4.048517788)],
    ("wang-buzsaki", None): [(0.160086327165, -59.965816343), (-6.579000769845, None)],
    ("connor-stevens", None): [
        (8.114053314844, -57.122325752), (7.869881758599, None), (7.912545884485, None), (6.768980491672, None),
    ],
    ("izhikevich", "saddle-node"): [(4.512867630296, None), (-85.822842369177, None)],
    ("izhikevich", "hopf"): [],
    ("fitzhugh-nagumo", None): [],
}  # fmt: skip
HOPFS = {
    ("hodgkin-huxley", None): [
        (9.775437995393, -59.654143603, 8.6725e-3, 10.71788281), (154.522433665808, -43.058092013, -5.026e-3, None),
    ],
    ("morris-lecar", "class 2"): [
        (93.857618373725, -25.2701048796, 5.2201402e-4, None), (212.018816100374, 7.8006638670, 5.4511616e-4, None),
    ],
    ("morris-lecar", "class 1"): [(97.787888964024, None, 1, None)],
    ("morris-lecar", "homoclinic"): [(36.316217496203, None, 3.7656e-4, None)],
    ("wang-buzsaki", None): [(25.129409466497, None, -1, None)],
    ("connor-stevens", None): [(7.881645893698, None, 1, None), (177.199372735628, None, -1, None)],
    ("izhikevich", "saddle-node"): [(200.439491777, None, -1, None)],
    ("izhikevich", "homoclinic"): [(43.887755608563, None, -1, None)],
    ("izhikevich", "hopf"): [(14.659040024059, None, -1, None), (353.550207836923, None, None, None)],
    ("fitzhugh-nagumo", None): [(0.331281337454746, None, 0.26778, None), (1.418718662545254, None, 0.26778, None)],
}  # fmt: skip


def digits(value: float) -> float:
    """Half a unit of the last digit that is printed."""
    text = repr(value)
    mantissa = text.split("e")[0]
    exponent = int(text.split("e")[1]) if "e" in text else 0
    return 0.5000001 * 10.0 ** (exponent - len(mantissa.partition(".")[2]))


@pytest.mark.parametrize("name", FOLDS)
def test_folds_are_the_known_ones_and_no_others(name):
    found = special_points(load(*name))
    assert found.complete and all(f.certified for f in found.folds)
    assert [f.I for f in found.folds] == pytest.approx([i for i, _ in FOLDS[name]], rel=0, abs=1e-12)
    for fold, (current, v) in zip(found.folds, FOLDS[name], strict=True):
        assert abs(fold.I - current) <= digits(current)
        assert v is None or abs(fold.V - v) <= digits(v)


@pytest.mark.parametrize("name", HOPFS)
def test_hopf_points_are_the_known_ones_and_no_others(name):
    found = special_points(load(*name))
    assert found.complete and len(found.hopfs) == len(HOPFS[name])
    for hopf, (current, v, a, period) in zip(found.hopfs, HOPFS[name], strict=True):
        assert hopf.certified and abs(hopf.I - current) <= max(digits(current), 1e-12)
        assert v is None or abs(hopf.V - v) <= digits(v)
        assert period is None or abs(hopf.period - period) <= digits(period)
        if a is not None and abs(a) < 1:
            assert abs(hopf.lyapunov - a) <= digits(a)
        elif a is not None:
            assert math.copysign(1, hopf.lyapunov) == a
            assert hopf.type == ("subcritical" if a > 0 else "supercritical")


def test_gates_at_a_hopf_point():
    hopf = special_points(load("morris-lecar", "class 2")).hopfs[0]
    assert hopf.state["w"] == pytest.approx(0.1396731900, abs=5e-11)


def test_matcont_and_auto_print_the_same_points():
    matcont = special_points(load("morris-lecar", "class 2")).hopfs
    assert [h.I for h in matcont] == pytest.approx([93.857614, 212.018815], abs=6e-6)
    assert [h.lyapunov for h in matcont] == pytest.approx([5.220142e-4, 5.451161e-4], rel=2e-6)
    auto = special_points(load("hodgkin-huxley")).hopfs
    assert [h.I for h in auto] == pytest.approx([9.775437961, 154.52243369], abs=5e-8)


@pytest.mark.parametrize(
    ("leak", "currents"),
    [(-54.401, (9.779637995, 154.526633666)), (-54.4, (9.779338, 154.526334)), (-54.3, (9.749338, 154.496334))],
)
def test_the_leak_of_other_authors_moves_the_points_by_its_conductance(leak, currents):
    found = special_points(load("hodgkin-huxley").with_(EL=leak)).hopfs
    assert all(abs(h.I - i) <= digits(i) for h, i in zip(found, currents, strict=True))


def test_a_common_rounding_moves_the_hopf_point_of_class_1():
    found = special_points(load("morris-lecar", "class 1").with_(phi=0.067))
    assert abs(found.hopfs[0].I - 97.646163922) <= 5e-10
    assert [f.I for f in found.folds] == [f.I for f in special_points(load("morris-lecar", "class 1")).folds]


@settings(max_examples=20, deadline=None)
@given(a=st.floats(0.4, 0.8), b=st.floats(0.3, 0.9), eps=st.floats(0.01, 0.3))
def test_fitzhugh_nagumo_has_its_hopf_points_in_closed_form(a, b, eps):
    found = special_points(load("fitzhugh-nagumo").with_(a=a, b=b, eps=eps))
    # Trace: 1 - V² = ε b; the pair is imaginary where the determinant ε(1 - b(1 - V²)) is positive.
    v = math.sqrt(1 - eps * b)
    assert [h.V for h in found.hopfs] == pytest.approx([-v, v], rel=1e-14)
    assert [h.I for h in found.hopfs] == pytest.approx([(u + a) / b - u + u**3 / 3 for u in (-v, v)], rel=1e-12)
    omega = math.sqrt(eps * (1 - b * eps * b))
    assert [h.period for h in found.hopfs] == pytest.approx([2 * math.pi / omega] * 2, rel=1e-13)
    assert found.folds == () and found.complete


def test_the_lyapunov_coefficient_of_fitzhugh_nagumo():
    # Guckenheimer & Holmes' planar formula by hand, rotated to the eigenvectors of this point.
    found = special_points(load("fitzhugh-nagumo")).hopfs
    assert [round(h.lyapunov, 5) for h in found] == [0.26778, 0.26778]


# Equilibria -----------------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(current=st.floats(-40, 200), name=st.sampled_from(["class 1", "class 2", "homoclinic"]))
def test_equilibria_stand_still_and_are_as_stable_as_their_eigenvalues(current, name):
    model = load("morris-lecar", name)
    system = model.system(current)
    found = equilibria(model, current)
    assert found.complete and len(found) % 2 == 1
    for e in found:
        assert system(list(e.state.values())) == pytest.approx([0, 0], abs=1e-10)
        numbers = model.values | e.state | {"I": current, "t": 0.0}
        matrix = [[entry.evaluate(**numbers) for entry in row] for row in system.jacobian]
        real = np.sort(np.linalg.eigvals(np.array(matrix, float)).real)
        assert sorted(z.real for z in e.eigenvalues) == pytest.approx(list(real), rel=1e-9, abs=1e-12)
        assert e.unstable == int((real > 0).sum())
    # Along the branch, saddles stand between the others.
    assert [e.kind == "saddle" for e in found] == [i % 2 == 1 for i in range(len(found))]


def test_equilibria_are_counted_as_the_folds_say():
    model = load("connor-stevens")
    counts = {6.5: 1, 7.0: 3, 7.89: 5, 8.0: 3, 8.2: 1}
    assert {i: len(equilibria(model, i)) for i in counts} == counts


@pytest.mark.parametrize("current", [1e5, -1e4])
def test_a_current_beyond_the_branch_is_refused_with_what_would_do(current):
    with pytest.raises(ValueError, match=r"no equilibrium .* lies between .* choose a current between"):
        equilibria(load("morris-lecar"), current)


def test_a_current_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        equilibria(load("morris-lecar"), math.nan)


def test_a_piecewise_gate_is_undecided_only_where_it_has_its_corner():
    gate = Gate("m", steady("where(V > -40, tanh((V+40)/20), 0)"), instantaneous=True)
    model = Model([Current("K", 1, -80), Current("Na", 4, 50, [gate])])
    found = special_points(model)
    assert not found.complete
    assert all(low <= -40 <= high and high - low < 1e-3 for _, low, high in found.undecided)


# The parts ------------------------------------------------------------------------------------------------------------

floats = st.floats(-3, 3).map(lambda x: round(x, 6))


@settings(max_examples=50)
@given(a=floats, rows=st.lists(st.tuples(floats, floats, st.floats(0.1, 4)), min_size=1, max_size=5))
def test_the_characteristic_polynomial_is_that_of_the_matrix(a, rows):
    b, c, r = (list(column) for column in zip(*rows, strict=True))
    n = 1 + len(rows)
    matrix = np.zeros((n, n))
    matrix[0] = [a, *b]
    matrix[1:, 0] = c
    matrix[range(1, n), range(1, n)] = [-x for x in r]
    found = characteristic(arb(a), [arb(x) for x in b], [arb(x) for x in c], [arb(x) for x in r])
    assert [float(x.mid()) for x in found] == pytest.approx(list(np.poly(matrix)), rel=1e-6, abs=1e-6)


@settings(max_examples=50)
@given(real=st.lists(floats, min_size=1, max_size=3), pair=st.tuples(floats, st.floats(0.1, 3)))
def test_hurwitz_determinant_and_count_of_unstable_roots(real, pair):
    roots = [*real, complex(*pair), complex(pair[0], -pair[1])]
    polynomial = [arb(float(c)) for c in np.real(np.poly(roots))]
    sums = [roots[i] + roots[j] for i in range(len(roots)) for j in range(i)]
    sign = (-1) ** len(sums)
    assert float(hurwitz(polynomial).mid()) == pytest.approx(sign * np.prod(sums).real, rel=1e-5, abs=1e-5)
    if min(abs(np.real(roots))) > 1e-3 and min(map(abs, sums)) > 1e-3:
        assert unstable(polynomial) in (None, sum(z.real > 0 for z in roots))
        assert unstable(polynomial) is not None or len(roots) > 2


@settings(max_examples=30)
@given(others=st.lists(st.floats(-4, -0.3), min_size=0, max_size=4), omega=st.floats(0.2, 3))
def test_the_frequency_of_an_imaginary_pair(others, omega):
    polynomial = np.real(np.poly([1j * omega, -1j * omega, *others]))
    square = squared_frequency([arb(float(c)) for c in polynomial])
    assert float(square.mid()) == pytest.approx(omega**2, rel=1e-6)


def test_a_model_without_states_but_v_has_folds_and_no_hopf_points():
    gate = Gate("m", boltzmann(-40, 5), instantaneous=True)
    found = special_points(Model([Current("L", 1, -80), Current("Na", 2, 50, [gate])]))
    assert len(found.folds) == 2 and found.hopfs == () and found.complete
