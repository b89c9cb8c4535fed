"""Points depend on the declaration alone, and every setting has as many."""

import math

import numpy as np
import pytest

from varphi.study import Outcome, Range, Search, Size, Study, Tuning, api
from varphi.study.search import choose, edges
from varphi.study.storage import StorageError

RATE = Range(1e-4, 1.0, log=True)


def space(setting):
    """Softplus has β, ReLU has not."""
    return {"rate": RATE} | ({"β": Range(0.5, 5.0)} if setting["f"] == "softplus" else {})


def trial(setting, seeds, points):
    assert all(set(p) == set(space(setting)) for p in points)
    best = {"rate": math.log(0.02), "β": 2.0}
    found = [(math.log(p["rate"]) - best["rate"]) ** 2 + (p.get("β", 2.0) - best["β"]) ** 2 for p in points]
    TRIED.append((setting["f"], points))
    return Outcome({"loss": np.array(found)[:, None] + np.asarray(seeds) * 1e-6})


TRIED: list = []


def study(tuning, by="loss", **more):
    return Study(
        name="searched", title="Searched", question="?", data="none", factors={"f": ("relu", "softplus")}, trial=trial,
        measures={"loss": "distance"}, tuning=Tuning(by=by), claims=(), answer=lambda r, v: "",
        sizes={"full": Size(4, tuning)}, **more,
    )  # fmt: skip


def test_settings_share_the_values_of_the_numbers_that_they_share():
    declared = study(Search(space, points=16))
    relu, softplus = (declared.points("full", {"f": f}) for f in ("relu", "softplus"))
    assert len(relu) == len(softplus) == 16 and declared.tuned("full") == ("rate", "β")
    assert [p["rate"] for p in relu] == [p["rate"] for p in softplus]
    # A scrambled Sobol sequence: each sixteenth of the range, in the range's own scale, has one point.
    cells = [math.floor(16 * math.log(p["rate"] / 1e-4) / math.log(1e4)) for p in relu]
    assert sorted(cells) == list(range(16))
    assert sorted(math.floor(16 * (p["β"] - 0.5) / 4.5) for p in softplus) == list(range(16))


def test_points_are_the_same_whenever_they_are_drawn_and_others_for_another_seed():
    first, again, other = (study(Search(space, points=5, seed=s)).points("full", {"f": "softplus"}) for s in (0, 0, 1))
    assert first == again and first != other


@pytest.mark.parametrize("batched", [True, False])
def test_a_search_is_run_stored_and_shown(tmp_path, batched):
    results = api.run(study(Search(space, points=16), batched=batched), storage=tmp_path / "t.db", progress=False)
    for row in results.rows:
        assert len(row.points) == 16 and row.measures["loss"].shape == (16, 4)
        assert row.measures["loss"][row.chosen].sum() == row.measures["loss"].sum(axis=1).min()
        assert row.point == study(Search(space, points=16)).points("full", row.setting)[row.chosen]
    header, relu, softplus = results.table()
    assert header[:3] == ("f", "rate", "β") and relu[2] == "" and float(softplus[2].split()[0]) > 0.5


def test_tpe_asks_in_rounds_with_the_same_budget_and_learns(tmp_path):
    TRIED.clear()
    found = {}
    for sampler in ("qmc", "tpe"):
        searched = study(Search(space, points=48, sampler=sampler, rounds=6))
        found[sampler] = api.run(searched, storage=tmp_path / "t.db", progress=False)
    asked = [len(points) for f, points in TRIED if f == "softplus"]
    assert asked == [48, *[8] * 6]
    blind, guided = (found[s].one(f="softplus") for s in ("qmc", "tpe"))
    assert len(guided.points) == 48 and guided.points[:8] == blind.points[:8]
    later = np.median(guided.measures["loss"][24:, 0])
    assert later < np.median(blind.measures["loss"][:, 0])
    again = api.run(searched, storage=tmp_path / "again.db", progress=False).one(f="softplus")
    assert again.points == guided.points and np.array_equal(again.measures["loss"], guided.measures["loss"])


@pytest.mark.parametrize("worst", [np.nan, np.inf])
def test_tpe_goes_on_where_nothing_was_finite(tmp_path, monkeypatch, worst):
    searched = study(Search({"rate": RATE}, points=6, sampler="tpe", rounds=3))
    monkeypatch.setitem(globals(), "trial", None)
    hopeless = dict(trial=lambda s, seeds, points: Outcome({"loss": np.full((len(points), len(seeds)), worst)}))
    import dataclasses

    results = api.run(dataclasses.replace(searched, **hopeless), storage=tmp_path / "t.db", progress=False)
    assert not results.failures and not np.isfinite(results.rows[0].values("loss")).any()


def test_edges_are_told_for_each_number():
    points = [{"rate": 0.1, "β": 1.0}, {"rate": 0.2, "β": 2.0}, {"rate": 0.3, "β": 1.5}]
    assert edges(points, 0) == ("rate", "β") and edges(points, 1) == ("β",) and edges(points, 2) == ("rate",)
    assert edges([{"rate": 0.1}], 0) == () and edges([{}], 0) == ()


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [([[3, 3], [1, 1], [2, 2]], 1), ([[np.nan, 0], [1, 1], [2, 2]], 0), ([[np.nan] * 2, [5, 5]], 1), ([[1, 1]] * 3, 1)],
)
def test_choosing_among_points(losses, chosen):
    assert choose(np.array(losses, float)) == chosen


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: Range(1.0, 0.1), "the lower first"),
        (lambda: Range(0.0, 1.0, log=True), "above 0"),
        (lambda: Range(0.0, math.inf), "finite"),
        (lambda: Search({}, points=0), "at least one point"),
        (lambda: Search({}, points=3, sampler="tpe", rounds=4), "2 to 3 rounds for 3 points"),
        (lambda: Search({}, points=3, sampler="grid"), "'qmc' or 'tpe'"),
        (lambda: study(Search(space, points=4, sampler="tpe", rounds=2), batched=False), "all seeds at once"),
        (lambda: study((0.1, 0.2)), "say of what"),
        (lambda: study(Search(space, points=4), by="lost"), "none of its measures: loss"),
    ],
)
def test_declarations_that_make_no_sense_are_refused(declare, message):
    with pytest.raises(ValueError, match=message):
        declare()


def test_another_search_is_another_run(tmp_path):
    api.run(study(Search(space, points=4)), storage=tmp_path / "t.db", progress=False)
    for other in (Search(space, points=8), Search(space, points=4, seed=1), Search({"rate": RATE}, points=4)):
        with pytest.raises(StorageError, match="as it is declared now"):
            api.results(study(other), tmp_path / "t.db")
