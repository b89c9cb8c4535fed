"""Cusps and Bogdanov–Takens points: against the folds and eigenvalues on both sides of them."""

from dataclasses import replace

import numpy as np
import pytest

from varphi.systems.neurons import excitability_map, load, organising_points, special_points
from varphi.systems.neurons.excitability import MECHANISMS

CASES = [
    (("morris-lecar", "class 1"), "V3", -10, 30),
    (("morris-lecar", "class 1"), "gCa", 2, 8),
    (("hodgkin-huxley", None), "EK", -90, 0),
]


@pytest.mark.parametrize(("name", "parameter", "low", "high"), CASES)
def test_what_changes_at_each_point(name, parameter, low, high):
    model = load(*name)
    # A window of its own: reversal potentials vary here.
    model = replace(model, window=model.span)
    found = organising_points(model, parameter, low, high)
    assert {p.kind for p in found} == {"cusp", "bogdanov-takens"} and all(p.certified for p in found)
    for p in found:
        at = model.with_({parameter: p.value})
        if p.kind == "cusp":
            counts = [len(special_points(at.with_({parameter: p.value + d})).folds) for d in (-0.05, 0.05)]
            assert abs(counts[1] - counts[0]) == 2
            continue
        # A double eigenvalue 0, by the equations' own Jacobian.
        numbers = at.values | {"V": p.V, "I": p.I, "t": 0.0}
        numbers |= {g: at.motions[g].steady.evaluate(**numbers) for g in at.states[1:]}
        matrix = np.array([[float(e.evaluate(**numbers)) for e in row] for row in at.system().jacobian])
        polynomial = np.poly(matrix)
        assert abs(polynomial[-1]) < 1e-9 and abs(polynomial[-2]) < 1e-9
        rates = at.system(p.I)([numbers[s] for s in at.states])
        assert rates == pytest.approx([0] * len(rates), abs=1e-9)


def test_no_hopf_point_is_born_without_a_bogdanov_takens_point():
    model = load("morris-lecar", "class 1")
    (takens,) = [p for p in organising_points(model, "V3", -10, 30) if p.kind == "bogdanov-takens"]
    counts = [len(special_points(model.with_(V3=takens.value + d)).hopfs) for d in (-0.05, 0.05)]
    assert abs(counts[1] - counts[0]) == 1


def test_the_map_changes_from_hopf_to_saddle_node_at_the_bogdanov_takens_point():
    model = load("morris-lecar", "class 1")
    (takens,) = [p for p in organising_points(model, "V3", -10, 30) if p.kind == "bogdanov-takens"]
    found = excitability_map(model, ("V3", [takens.value - 0.02, takens.value + 0.02]), ("V4", [17.4]), threads=1)
    kinds = [MECHANISMS[k] for k in found.kind[:, 0]]
    assert "Hopf" in kinds[0] and "saddle-node" in kinds[1]


@pytest.mark.parametrize(
    ("parameter", "low", "high", "words"),
    [("V9", 0, 1, "no parameter"), ("V3", 5, 5, "lower to the higher"), ("phi", -1, 1, "must be positive")],
)
def test_impossible_ranges_are_refused(parameter, low, high, words):
    with pytest.raises(ValueError, match=words):
        organising_points(load("morris-lecar"), parameter, low, high)
