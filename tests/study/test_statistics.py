"""Statistics against independent computations."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from varphi.study.statistics import Comparison, holm, number, paired, share
from varphi.study.verdict import judged


def test_permutation_p_equals_full_enumeration():
    d = np.random.default_rng(3).normal(0.3, 1, 9)
    sums = [abs(np.dot(signs, d)) for signs in itertools.product((1, -1), repeat=9)]
    expected = np.mean(np.array(sums) >= abs(d.sum()) - 1e-12)
    assert paired(d, np.zeros(9)).p == pytest.approx(expected)


def test_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        c = paired(rng.normal(1, 1, 20), np.zeros(20))
        hits += c.low <= 1 <= c.high
    # Below this a 95 % interval falls once in ten thousand sets of 60.
    assert hits >= stats.binom.ppf(1e-4, 60, 0.92)


def test_infinite_and_nan_runs_are_compared_not_dropped():
    relu = np.array([math.inf] * 7 + [4.4] * 3)
    soft = np.full(10, 4.5)
    c = paired(relu, soft)
    assert c.difference == math.inf and c.method == "median, sign test"
    assert c.p == pytest.approx(stats.binomtest(7, 10).pvalue)
    assert paired(np.full(10, math.nan), soft).difference == math.inf


def test_two_failures_are_a_tie():
    same = np.full(8, math.inf)
    c = paired(same, same)
    assert (c.difference, c.p) == (0, 1)


def test_equal_differences_need_no_resampling():
    c = paired(np.arange(10) + 2.0, np.arange(10.0))
    assert (c.difference, c.low, c.high) == (2, 2, 2) and c.p == pytest.approx(2 / 2**10)


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=12))
def test_swapping_the_two_swaps_the_sign(values):
    a, b = np.array(values), np.array(values[::-1]) * 0.5
    assume(np.ptp(a - b) > 1e-6)
    forth, back = paired(a, b), paired(b, a)
    assert forth.difference == pytest.approx(-back.difference) and forth.p == pytest.approx(back.p)
    assert forth.low <= forth.difference <= forth.high


@pytest.mark.parametrize(("a", "b"), [([1.0], [2.0]), ([1.0, 2.0], [1.0]), ([[1.0, 2.0]], [[1.0, 2.0]])])
def test_values_that_are_not_pairs_are_refused(a, b):
    with pytest.raises(ValueError, match="two equal lists"):
        paired(np.array(a), np.array(b))


def compared(p, difference=1.0):
    return Comparison("", difference, difference, difference, p, 10, "", p)


def test_holm_by_hand():
    # 0.01·4, 0.02·3, 0.03·2 = 0.06 (not below the one before), 0.9
    adjusted = [c.adjusted for c in holm([compared(p) for p in (0.03, 0.01, 0.9, 0.02)])]
    assert adjusted == pytest.approx([0.06, 0.04, 0.9, 0.06])


def test_share_has_the_exact_interval():
    assert share(np.zeros(100, bool)).high == pytest.approx(1 - 0.025 ** (1 / 100))
    assert (share(np.array([1, 0, 1])).count, share(np.array([1, 0, 1])).total) == (2, 3)
    with pytest.raises(ValueError, match="at least one run"):
        share(np.array([]))


WHERE = [("cold", "a"), ("cold", "b"), ("warm", "a")]


@pytest.mark.parametrize(
    ("differences", "ps", "status", "condition"),
    [
        ([1, 1, 1], [0.001] * 3, "supported", ""),
        ([1, 1, 1], [0.001, 0.001, 0.5], "only if", "cold"),
        ([1, 1, -1], [0.001, 0.5, 0.001], "only if", "cold (a)"),
        ([-1, 1, 1], [0.001, 0.5, 0.5], "refuted", ""),
        ([1, 1, 1], [0.04, 0.5, 0.5], "undecided", ""),
    ],
)
def test_verdicts(differences, ps, status, condition):
    family = [compared(p, d) for p, d in zip(ps, differences, strict=True)]
    found = judged(family, conditions=WHERE)
    assert (found.status, found.condition) == (status, condition) and found.evidence


@pytest.mark.parametrize(("value", "text"), [(math.inf, "∞"), (-math.inf, "-∞"), (math.nan, "NaN"), (4.41234, "4.412")])
def test_numbers_as_shown(value, text):
    assert number(value) == text
