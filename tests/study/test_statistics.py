"""Statistics against independent computations."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from varphi.study.statistics import Comparison, Superiority, fewest_seeds, holm, number, numbers, paired, share
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
    return Comparison("", difference, difference, difference, p, 10, "", p, Superiority(1.0, 0.7, 1.0), 1.0)


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


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((4.511, 4.5, 4.526), ("4.511", "4.500", "4.526")),
        ((0.9, 0.7, 1.0), ("0.9", "0.7", "1.0")),
        ((0.002697, 0.0, 0.003275), ("0.002697", "0", "0.003275")),
        ((12.0, 0.01234, 1234.5), ("12.00", "0.01234", "1234")),
        ((1.0, 0.0, 20.0), ("1", "0", "20")),
        ((math.inf, 4.5, math.inf), ("∞", "4.5", "∞")),
        ((99.999, 1.0, math.nan), ("100", "1", "NaN")),
        ((1.5e-7, 2.0, -3.25), ("1.5e-07", "2.00", "-3.25")),
    ],
)
def test_numbers_side_by_side(values, texts):
    assert numbers(*values) == texts


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4))
def test_side_by_side_a_number_is_the_same_number(values):
    assert [float(text) for text in numbers(*values)] == [float(number(value)) for value in values]


def test_superiority_counts_ties_half_and_survives_infinities():
    found = paired(np.array([1.0, 2.0, 3.0, 0.0]), np.array([0.0, 2.0, math.inf, 1.0])).superiority
    assert found.probability == pytest.approx((1 + 0.5) / 4)
    assert found.low == pytest.approx(stats.binomtest(1, 4).proportion_ci(method="exact").low)
    assert found.high == pytest.approx(stats.binomtest(2, 4).proportion_ci(method="exact").high)


@pytest.mark.parametrize("family", [1, 3, 10])
def test_fewest_seeds_is_where_the_strongest_outcome_becomes_significant(family):
    n = fewest_seeds(family)
    rng = np.random.default_rng(0)

    def strongest(seeds: int) -> bool:
        clear = [paired(rng.uniform(1, 2, seeds), np.zeros(seeds)) for _ in range(family)]
        return holm(clear)[0].significant

    assert strongest(n) and not strongest(n - 1)


def test_a_family_beyond_resampling_is_refused():
    with pytest.raises(ValueError, match="family"):
        fewest_seeds(1000)


def test_the_detectable_difference_is_found_as_often_as_promised():
    rng = np.random.default_rng(0)
    detectable = paired(rng.normal(size=20), np.zeros(20)).detectable / paired_scatter(20)
    found = [stats.ttest_1samp(rng.normal(detectable, 1, 20), 0).pvalue < 0.05 for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)


def paired_scatter(n: int) -> float:
    return float(np.random.default_rng(0).normal(size=n).std(ddof=1))


def test_holm_asks_for_a_larger_difference():
    rng = np.random.default_rng(0)
    alone = [paired(rng.normal(size=12), np.zeros(12)) for _ in range(5)]
    assert all(a.detectable > b.detectable for a, b in zip(holm(alone), alone, strict=True))


def test_not_enough_seeds_is_a_verdict():
    few = judged([paired(np.ones(4) + 0.1 * np.arange(4), np.zeros(4))], conditions=[("x", "")])
    assert few.status == "not enough seeds" and "6 seeds could tell" in few.evidence
    rng = np.random.default_rng(0)
    none = judged([paired(rng.normal(size=12), np.zeros(12))], conditions=[("x", "")])
    assert none.status == "undecided" and "would have shown" in none.evidence


# Signs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difference", "p", "sign"),
    [(1, 0.01, "higher"), (-1, 0.01, "lower"), (-1, 0.05, "undecided"), (1, 0.9, "undecided")],
)
def test_the_sign_of_a_comparison(difference, p, sign):
    assert compared(p, difference).sign == sign and compared(p, difference).significant == (sign != "undecided")


def test_many_ties_do_not_hide_the_direction_of_the_others():
    # Eleven ties, nine pairs in which only the second diverges: the median is 0, and yet the sign test is sure.
    ours, theirs = np.zeros(20), np.array([math.inf] * 9 + [0.0] * 11)
    found = paired(ours, theirs)
    assert found.difference == 0 and found.p == pytest.approx(2 / 2**9)
    assert found.sign == "lower" and paired(theirs, ours).sign == "higher"
    assert judged([paired(theirs, ours)], conditions=[("x", "")]).status == "supported"


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.sampled_from([0.0, 1.0, 2.0, math.inf])), min_size=2, max_size=30),
)
def test_swapping_the_two_swaps_the_decision(pairs):
    a, b = (np.array(values, float) for values in zip(*pairs, strict=True))
    opposite = {"lower": "higher", "higher": "lower", "undecided": "undecided"}
    forth, back = paired(a, b), paired(b, a)
    assert back.sign == opposite[forth.sign]
    assert forth.sign == "undecided" or (forth.sign == "higher") == (forth.difference >= 0)
