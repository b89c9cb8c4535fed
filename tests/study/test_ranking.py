"""Rankings: ties as ties, order of nothing but the values."""

import math
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from varphi.report.page import page
from varphi.study import Contest, api
from varphi.study.data import results_data
from varphi.study.ranking import ranking

SEEDS = 12
EFFECT = np.random.default_rng(0).normal(size=SEEDS)  # of the seed, the same for all: pairing takes it away


def values(**centres: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: centre + EFFECT + 0.01 * rng.normal(size=SEEDS) for name, centre in centres.items()}


def test_clear_differences_give_single_ranks_although_seeds_scatter_more():
    found = ranking(values(c=0.3, a=0.1, b=0.2))
    assert [(p.name, p.rank) for p in found.places] == [("a", "1"), ("b", "2"), ("c", "3")]
    assert found.winners == ("a",) and found.sentence().startswith("a is best")


def test_what_is_not_told_apart_is_a_tie():
    found = ranking(values(a=0.1, b=0.1, c=0.9))
    assert {p.name: p.rank for p in found.places} == {"a": "1-2", "b": "1-2", "c": "3"}
    assert set(found.winners) == {"a", "b"} and "not told apart" in found.sentence()


def test_highest_mirrors_lowest():
    data = values(a=0.1, b=0.2, c=0.2)
    low, high = ranking(data), ranking({n: -v for n, v in data.items()}, best="highest")
    assert [(p.name, p.rank) for p in low.places] == [(p.name, p.rank) for p in high.places]
    assert [p.median for p in low.places] == [-p.median for p in high.places]


def test_runs_without_a_result_are_worst():
    data = values(a=0.1, b=0.2) | {"gone": np.full(SEEDS, math.nan), "lost": np.full(SEEDS, math.inf)}
    found = ranking(data)
    assert [p.rank for p in found.places] == ["1", "2", "3-4", "3-4"]
    assert found.places[-1].median == math.inf


def test_few_seeds_cannot_rank_and_say_how_many_could():
    found = ranking({"a": np.zeros(4), "b": np.ones(4), "c": np.full(4, 2.0)})
    assert not found.is_possible and found.winners == ("a", "b", "c")
    assert found.sentence() == "4 seeds cannot tell 3 apart, 7 could."
    assert ranking({n: np.full(7, float(i)) for i, n in enumerate("abc")}).winners == ("a",)


@settings(max_examples=25, deadline=None)
@given(st.permutations(["a", "b", "c", "d"]), st.permutations(range(SEEDS)))
def test_the_order_of_competitors_and_of_seeds_is_of_no_matter(names, seeds):
    data = values(a=0.1, b=0.1, c=0.3, d=0.9)
    expected = ranking(data)
    found = ranking({n: data[n][list(seeds)] for n in names})
    assert [(p.name, p.rank) for p in found.places] == [(p.name, p.rank) for p in expected.places]


def test_ranges_cover_true_ranks():
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(40):
        data = {n: c + rng.normal(size=10) for n, c in (("a", 0.0), ("b", 0.8), ("c", 1.6))}
        places = {p.name: p for p in ranking(data).places}
        covered += all(places[n].first <= rank <= places[n].last for rank, n in enumerate("abc", 1))
    assert covered >= 36


def test_one_competitor_or_unpaired_values_are_refused():
    with pytest.raises(ValueError, match="at least two"):
        ranking({"a": np.zeros(5)})
    with pytest.raises(ValueError, match="paired"):
        ranking({"a": np.zeros(5), "b": np.zeros(4)})


def test_a_study_s_contests_are_ranked_shown_and_kept_as_data(toy, tmp_path):
    results = api.run(toy.study(), storage=tmp_path / "runs.db", progress=False)
    ((contest, found),) = results.rankings
    assert [(p.name, p.rank) for p in found.places] == [("0", "1"), ("1", "2"), ("2", "3")]
    console = Console(record=True, width=200, file=StringIO())
    api.show(results, console)
    assert "Draws. 0 is best" in console.export_text()
    assert contest.title in page(results)
    assert results_data(results)["rankings"][0]["places"][0]["name"] == "0"


def test_many_ties_do_not_turn_a_ranking_round():
    lost = np.array([math.inf] * 9 + [0.0] * 11)
    found = ranking({"lost": lost, "won": np.zeros(20)})
    assert [(p.name, p.rank) for p in found.places] == [("won", "1"), ("lost", "2")]


def test_a_circle_has_no_winner_and_says_so():
    a, b, c = np.zeros(40), np.full(40, -0.2), np.full(40, -0.1)
    b[:10], c[:7] = 100.0, math.inf  # b < c < a in most seeds, and yet a < b in the mean
    found = ranking({"a": a, "b": b, "c": c})
    assert found.winners == () and {p.rank for p in found.places} == {"2"}
    assert (
        found.sentence()
        == "Nobody is best, as at the top they beat each other in a circle; b has the best median (-0.2)."
    )


def contested(toy, **changes):
    factors = {"level": (0, 1, 2), "side": ("left", "right")}
    contest = replace(Contest("Draws", "value", among=("level",), at={"side": "left"}), **changes)
    return replace(toy.study(), factors=factors, contests=(contest,))


def test_a_contest_is_checked_when_it_is_declared(toy):
    contested(toy)
    contested(toy, among=("level", "side"), at={})
    contested(toy, at={"side": "left", "level": (0, 2)})
    for changes, words in (
        ({"measure": "volume"}, "names the measure 'volume'; there are value, loss"),
        ({"among": ("levle",)}, "names the factor 'levle'; there are level, side"),
        ({"at": {"sid": "left"}}, "names the factor 'sid'; there are level, side"),
        ({"at": {}}, "leaves 'side' open: .* would both take part as '0'"),
        ({"at": {"side": ("left", "right")}}, "leaves 'side' open"),
        ({"at": {"side": "above"}}, "has fewer than two competitors in every size"),
        ({"at": {"side": "left", "level": 1}}, "has fewer than two competitors"),
    ):
        with pytest.raises(ValueError, match=f"the contest 'Draws' {words}"):
            contested(toy, **changes)
    with pytest.raises(ValueError, match="names no factor whose levels compete"):
        Contest("Draws", "value", among=(), at={})
    with pytest.raises(ValueError, match="won by 'lowest' or 'highest', got 'least'"):
        Contest("Draws", "value", among=("level",), at={}, best="least")


def test_a_factor_that_only_one_size_opens_is_found(toy):
    one = replace(toy.study(), factors={"level": (0, 1, 2), "side": ("left",)})
    wide = replace(one.sizes["full"], factors={"side": ("left", "right")})
    with pytest.raises(ValueError, match="leaves 'side' open"):
        replace(one, sizes=dict(one.sizes) | {"wide": wide})
