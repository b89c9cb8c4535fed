"""Exported tables hold every number to the last bit, whatever file they are in."""

import csv
import importlib.util
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varphi.study import Outcome, Range, Search, api, export, tables
from varphi.study.results import Row

FLOATS = st.floats(width=64)  # NaN, infinities, subnormal numbers, -0.0


@pytest.fixture
def results(toy, tmp_path):
    return api.run(toy.study(), storage=tmp_path / "t.db", seeds=3, progress=False)


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_json(path):
    return json.loads(path.read_text("utf-8"), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))


def read_parquet(path):
    from pyarrow import parquet

    found = parquet.read_table(path)
    return found.to_pylist(), json.loads(found.schema.metadata[b"varphi"])


def same(a, b):
    """Bit for bit; of NaN only that it is one."""
    return math.isnan(b) if math.isnan(a) else np.float64(a).tobytes() == np.float64(b).tobytes()


def test_a_line_is_a_setting_a_point_and_a_seed(results, tmp_path):
    path, beside = export(results, tmp_path / "t.csv")
    lines = read_csv(path)
    assert list(lines[0]) == ["level", "rate", "seed", "point", "chosen", "value", "loss", "trial", "seconds"]
    keys = {(line["level"], line["rate"], line["seed"]) for line in lines}
    assert len(lines) == len(keys) == 3 * 3 * 3
    for line in lines:
        row = results.one(level=int(line["level"]))
        point, seed = int(line["point"]), int(line["seed"])
        assert row.points[point] == {"rate": float(line["rate"])}
        assert float(line["value"]) == np.random.default_rng(seed).normal(int(line["level"]), 0.1)
        assert float(line["loss"]) == row.measures["loss"][point, seed]
        assert (line["chosen"] == "true") == (point == row.chosen) and line["chosen"] in ("true", "false")
        assert (int(line["trial"]), float(line["seconds"])) == (row.trials[0], row.times[0])
    assert {path.name for path in tmp_path.glob("t.csv*")} == {path.name, beside.name} == {"t.csv", "t.csv.json"}


def test_the_three_files_hold_the_same_table_and_account(results, tmp_path):
    for ending in tables.ENDINGS:
        export(results, tmp_path / f"t{ending}")
    lines, (typed, told), whole = read_csv(tmp_path / "t.csv"), read_parquet(tmp_path / "t.parquet"), None
    whole = read_json(tmp_path / "t.json")
    assert whole["table"] == typed
    assert [{name: tables._cell(v) for name, v in line.items()} for line in typed] == lines
    beside = read_json(tmp_path / "t.csv.json")
    assert beside == told == {name: v for name, v in whole.items() if name not in ("table", "curves")}
    assert [c["name"] for c in beside["columns"]] == list(typed[0])
    assert beside["question"] == "Does the level show?" and beside["claims"][0]["status"] == results.verdicts[0].status
    (run,) = beside["record"]["runs"].values()
    assert run["versions"]["torch"] and run["machine"] and beside["measures"]["value"] == "the draw"


def test_curves_have_a_line_for_each_checkpoint(results, tmp_path):
    assert [path.name for path in export(results, tmp_path / "t.csv", curves=True)] == [
        *("t.csv", "t.csv.json", "t.curves.csv")
    ]
    lines = read_csv(tmp_path / "t.curves.csv")
    assert len(lines) == 3 * 3 * 3 * 3 and {line["checkpoint"] for line in lines} == {"1", "2", "3"}
    for line in lines:
        curve = results.one(level=int(line["level"])).curves["loss"][int(line["point"]), int(line["seed"])]
        assert line["curve"] == "loss" and float(line["value"]) == curve[int(line["checkpoint"]) - 1]
    export(results, tmp_path / "t.json")
    curves = read_json(tmp_path / "t.json")["curves"]
    assert len(curves) == 27 and curves[0]["values"] == results.rows[0].curves["loss"][0, 0].tolist()
    *_, long = export(results, tmp_path / "t.parquet", curves=True)
    assert long.name == "t.curves.parquet" and [x["value"] for x in read_parquet(long)[0]] == [
        float(line["value"]) for line in lines
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@settings(max_examples=30)
@given(st.lists(FLOATS, min_size=2, max_size=5))
def test_every_number_survives_every_file(folder, values):
    found = made({"f": "a"}, {"m": np.array([values])})
    for ending in tables.ENDINGS:
        export(found, folder / f"t{ending}")
    for read in (
        [float(line["m"]) for line in read_csv(folder / "t.csv")],
        [line["m"] for line in read_parquet(folder / "t.parquet")[0]],
        [float(line["m"]) for line in read_json(folder / "t.json")["table"]],
    ):
        assert len(read) == len(values) and all(map(same, values, read))


def made(setting, measures, points=({},), factors=None):
    """Results of one setting, as if they had been run."""
    from varphi.study import Size, Study
    from varphi.study.results import Results

    study = Study(
        name="made", title="Made", question="?", data="none", factors=factors or {n: (v,) for n, v in setting.items()},
        trial=lambda *_: Outcome({}), measures=dict.fromkeys(measures, "made up"), claims=(),
        sizes={"full": Size(2)}, answer=lambda results, verdicts: "Yes.",
    )  # fmt: skip
    seeds = tuple(range(next(iter(measures.values())).shape[1]))
    row = Row(setting, measures, {}, points, 0, (), (7,), (0.5,))
    return Results(study, "full", seeds, "here", (row,), (), (), {}, {"declared": "now", "runs": {}})


def test_a_name_of_two_kinds_is_told_with_its_kind(tmp_path):
    clash = made({"loss": "squared", "seed": 3}, {"loss": np.ones((1, 2)), "seconds": np.zeros((1, 2))})
    path, _ = export(clash, tmp_path / "t.csv")
    assert list(read_csv(path)[0]) == [
        *("factor: loss", "factor: seed", "trial: seed", "point", "chosen", "measure: loss", "measure: seconds"),
        *("trial", "trial: seconds"),
    ]


def test_levels_keep_their_type_where_they_have_one(tmp_path):
    levels = {"depth": 2, "width": 0.5, "bias": True, "name": 'a,\n"b" é'}
    found = made(levels, {"m": np.ones((1, 2))})
    export(found, tmp_path / "t.parquet")
    export(found, tmp_path / "t.csv")
    assert {name: read_parquet(tmp_path / "t.parquet")[0][0][name] for name in levels} == levels
    assert read_csv(tmp_path / "t.csv")[1]["name"] == levels["name"]
    assert tables._array([1, None, "one"]).to_pylist() == ["1", None, "one"]
    assert tables._array([1, 0.5]).to_pylist() == [1.0, 0.5] and tables._array([None]).to_pylist() == [None]


def test_numbers_that_only_some_settings_have_are_empty_elsewhere(toy, tmp_path):
    space = lambda s: {"rate": Range(0.01, 1)} | ({"beta": Range(1, 2)} if s["level"] else {})  # noqa: E731
    found = api.run(toy.study(tuning=Search(space, 2)), storage=tmp_path / "t.db", seeds=2, progress=False)
    export(found, tmp_path / "t.csv")
    export(found, tmp_path / "t.json")
    assert {(line["level"] == "0", line["beta"] == "") for line in read_csv(tmp_path / "t.csv")} == {
        (True, True),
        (False, False),
    }
    assert read_json(tmp_path / "t.json")["table"][0]["beta"] is None


def test_a_trial_of_one_seed_tells_its_own_number_and_time(toy, tmp_path):
    found = api.run(toy.study(batched=False), storage=tmp_path / "t.db", seeds=3, progress=False)
    path, _ = export(found, tmp_path / "t.csv")
    for line in read_csv(path):
        row, seed = found.one(level=int(line["level"])), int(line["seed"])
        assert (int(line["trial"]), float(line["seconds"])) == (row.trials[seed], row.times[seed])


def test_failures_are_told_and_have_no_line(toy, tmp_path):
    toy.BROKEN.add(1)
    broken = api.run(toy.study(), storage=tmp_path / "t.db", seeds=2, progress=False)
    export(broken, tmp_path / "t.csv")
    export(broken, tmp_path / "t.json")
    for told in (read_json(tmp_path / "t.csv.json"), read_json(tmp_path / "t.json")):
        assert told["missing"] == [{"level": 1}] and told["failures"][0]["setting"] == {"level": 1}
        assert "RuntimeError: level 1 is broken" in told["failures"][0]["traceback"]
    assert {line["level"] for line in read_csv(tmp_path / "t.csv")} == {"0", "2"}


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curves", [False, True])
def test_what_cannot_be_written_is_refused_and_nothing_is_left(results, tmp_path, curves, monkeypatch):
    monkeypatch.setattr(tables, "table", lambda results: pytest.fail("worked before it checked"))
    before = set(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"must end in \.csv or \.parquet or \.json, got .*t\.xlsx"):
        export(results, tmp_path / "t.xlsx", curves=curves)
    with pytest.raises(FileNotFoundError, match="make it first"):
        export(results, tmp_path / "none" / "t.csv", curves=curves)
    with pytest.raises(OSError, match="choose another directory"):
        export(results, "/proc/t.csv", curves=curves)
    assert set(tmp_path.iterdir()) == before
    (tmp_path / "u.csv.json").mkdir()
    with pytest.raises(IsADirectoryError, match=r"u\.csv\.json.* is a directory"):
        export(results, tmp_path / "u.csv", curves=curves)


def test_a_missing_package_is_named_with_what_installs_it(results, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "pyarrow" else find(name, *a))
    with pytest.raises(ImportError, match=r"pip install 'varphi\[parquet\]'"):
        export(results, tmp_path / "t.parquet")


def test_a_study_without_curves_has_none_to_write(results, tmp_path):
    bare = replace(results, rows=tuple(replace(row, curves={}) for row in results.rows))
    with pytest.raises(ValueError, match="'toy' have no curves"):
        export(bare, tmp_path / "t.csv", curves=True)
    assert not (tmp_path / "t.csv").exists()


def test_a_failure_while_writing_leaves_the_old_files(results, tmp_path, monkeypatch):
    old = export(results, tmp_path / "t.csv", curves=True)
    before = [path.read_bytes() for path in old]
    monkeypatch.setattr(tables, "_checkpoints", lambda found: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(replace(results, rows=results.rows[:1]), tmp_path / "t.csv", curves=True)
    assert [path.read_bytes() for path in old] == before and not list(tmp_path.glob(".*"))


def test_the_public_names_stay_functions_whatever_is_imported():
    import varphi.study
    import varphi.study.results
    import varphi.study.tables

    assert varphi.study.results is api.results and varphi.study.export is api.export
