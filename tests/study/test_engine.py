"""A study survives whatever happens to its process, and does no work twice."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from varphi.study import Outcome, Size, Study, api, registry
from varphi.study.storage import StorageError

TOY = Path(__file__).with_name("toy.py")


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "trials.db"


def started(storage, seconds, levels=3):
    words = [sys.executable, TOY, storage, str(seconds), str(levels), f"{storage}.log"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def wait_for(storage, state, count=1, seconds=60):
    """Until the file holds `count` trials of a state."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with sqlite3.connect(f"file:{storage}?mode=ro", uri=True) as connection:
                if connection.execute("SELECT count(*) FROM trials WHERE state = ?", (state,)).fetchone()[0] >= count:
                    return
        except sqlite3.OperationalError:
            pass
        time.sleep(0.05)
    raise TimeoutError(f"no {count} trials in state {state}")


def states(storage):
    with sqlite3.connect(storage) as connection:
        return dict(connection.execute("SELECT state, count(*) FROM trials GROUP BY state").fetchall())


def test_every_setting_is_run_once_and_read_back_as_it_was(toy, storage):
    results = api.run(toy.study(), storage=storage, progress=False)
    assert [row.setting["level"] for row in results.rows] == [0, 1, 2] and not results.missing
    expected = [np.random.default_rng(seed).normal(1, 0.1) for seed in range(8)]
    assert results.values("value", level=1).tolist() == expected  # bit for bit, through the storage
    again = api.results(toy.study(), storage)
    assert np.array_equal(again.rows[2].measures["value"], results.rows[2].measures["value"])
    assert again.rows[0].curves["loss"].shape == (3, 8, 3)
    assert len(toy.CALLS) == 3
    api.run(toy.study(), storage=storage, progress=False)
    assert len(toy.CALLS) == 3


def test_the_tuned_value_is_chosen_by_the_declared_measure(toy, storage):
    results = api.run(toy.study(), storage=storage, progress=False)
    assert [row.point for row in results.rows] == [{"rate": 0.1}] * 3 and not results.edges


def test_a_failed_trial_is_kept_counted_shown_and_tried_again(toy, storage, capsys):
    toy.BROKEN.add(1)
    broken = api.run(toy.study(), storage=storage, progress=False)
    assert [s["level"] for s in broken.missing] == [1] and len(broken.errors) == 1
    assert "RuntimeError: level 1 is broken" in broken.errors[0].traceback
    assert broken.verdicts[0].status == "undecided" and "2 of 3 settings" in broken.answer
    api.show(broken)
    assert "level 1 is broken" in capsys.readouterr().out
    toy.BROKEN.clear()
    whole = api.run(toy.study(), storage=storage, progress=False)
    assert not whole.missing and len(whole.errors) == 1 and len(whole.rows) == 3
    assert whole.verdicts[0].status == "supported"


def test_a_trial_that_delivers_the_wrong_shape_is_a_failure(toy, storage, monkeypatch):
    delivered = toy.trial
    monkeypatch.setattr(toy, "trial", lambda *a, **k: toy.Outcome({"value": np.zeros(2), **delivered(*a, **k).curves}))
    results = api.run(toy.study(), storage=storage, progress=False)
    assert "'value' with shape (2,), expected (3, 8)" in results.errors[0].traceback


def test_kill_minus_9_loses_no_finished_trial(toy, storage):
    process = started(storage, 0.4, levels=5)
    wait_for(storage, "COMPLETE", 2)
    wait_for(storage, "RUNNING")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {row.trials for row in api.results(toy.study(range(5), 0.4, f"{storage}.log"), storage).rows}
    assert states(storage)["RUNNING"] == 1 and len(done) >= 2
    results = api.run(toy.study(range(5), 0.4, f"{storage}.log"), storage=storage, progress=False)
    assert not results.missing and done <= {row.trials for row in results.rows}
    assert len(toy.CALLS) == 5 - len(done)  # nothing finished was run again
    assert [f.kind for f in results.failures] == ["died"] and states(storage) == {"COMPLETE": 5, "FAIL": 1}


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(toy, storage):
    process = started(storage, 0.4, levels=5)
    wait_for(storage, "COMPLETE")
    wait_for(storage, "RUNNING")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and "the same command goes on" in said and "of 5 trials" in said
    assert "RUNNING" not in states(storage)
    results = api.run(toy.study(range(5), 0.4, f"{storage}.log"), storage=storage, progress=False)
    assert not results.missing and states(storage)["COMPLETE"] == 5


def test_other_seeds_and_another_declaration_are_another_run(toy, storage):
    api.run(toy.study(), storage=storage, seeds=3, progress=False)
    api.run(toy.study(), storage=storage, seeds=[5, 7], progress=False)
    assert api.results(toy.study(), storage).seeds == (5, 7)
    assert api.results(toy.study(), storage, size="full", seeds=3).seeds == (0, 1, 2)
    with pytest.raises(StorageError, match="as it is declared now"):
        api.results(toy.study(levels=(0, 1)), storage)


def test_what_was_declared_is_stored_before_the_first_trial(toy, storage):
    toy.BROKEN.update({0, 1, 2})
    record = api.run(toy.study(), storage=storage, progress=False).record
    (run,) = record["runs"].values()
    assert record["declared"].endswith("UTC") and run["versions"]["torch"] and run["command"] and run["machine"]


@pytest.mark.parametrize("seeds", [1, 0, [3, 3], [-1, 2], []])
def test_unusable_seeds_are_refused(toy, storage, seeds):
    with pytest.raises(ValueError, match="at least 2 different seeds"):
        api.run(toy.study(), storage=storage, seeds=seeds, progress=False)
    assert not storage.exists()


def test_unusable_storages_are_refused_before_work(toy, tmp_path):
    text = tmp_path / "notes.db"
    text.write_text("these are my notes, not a data base, and they are longer than a header" * 20)
    for where, words in (
        (text, "not a database"),
        (tmp_path / "no" / "t.db", "there is no directory"),
        (tmp_path, "not a file"),
        ("nonsense://x", "cannot use the storage"),
    ):
        with pytest.raises(StorageError, match=words):
            api.run(toy.study(), storage=where, progress=False)
    with pytest.raises(StorageError, match="varphi study run"):
        api.results(toy.study(), tmp_path / "none.db")
    assert not toy.CALLS and text.read_text().startswith("these are my notes")


def test_unknown_sizes_and_studies_are_named(toy, storage):
    with pytest.raises(ValueError, match="no size 'huge'; sizes: full"):
        api.run(toy.study(), storage=storage, size="huge")
    with pytest.raises(ValueError, match="Did you mean 'constrained'"):
        api.load("constraned")
    with pytest.raises(ValueError, match="is not a Study"):
        api.load("toy_study:TOY")
    assert api.load("toy_study:STUDY").name == "toy" and "constrained" in api.names()


def test_every_listed_study_can_be_loaded():
    for name in registry.names():
        assert registry.load(name).name == name


# Seeds one by one -----------------------------------------------------------------------------------------------------


def test_seeds_one_by_one_make_the_rows_that_a_batch_makes(toy, tmp_path):
    batch = api.run(toy.study(), storage=tmp_path / "a.db", progress=False)
    toy.CALLS.clear()
    alone = api.run(toy.study(batched=False), storage=tmp_path / "b.db", progress=False)
    assert [call["seeds"] for call in toy.CALLS] == [[seed] for seed in range(8) for _ in range(3)]
    for a, b in zip(batch.rows, alone.rows, strict=True):
        assert all(np.array_equal(a.measures[name], b.measures[name]) for name in a.measures)
        assert np.array_equal(a.curves["loss"], b.curves["loss"]) and a.chosen == b.chosen and len(b.trials) == 8


def test_a_seed_that_fails_costs_its_setting_only_that_seed(toy, storage, monkeypatch):
    whole = toy.trial

    def fails_once(setting, seeds, points, **options):
        if (setting["level"], *seeds) == (1, 5):
            raise RuntimeError("unlucky")
        return whole(setting, seeds, points, **options)

    monkeypatch.setattr(toy, "trial", fails_once)
    broken = api.run(toy.study(batched=False), storage=storage, progress=False)
    assert [s["level"] for s in broken.missing] == [1] and broken.errors[0].seeds == (5,)
    assert "unlucky" in broken.errors[0].traceback and len(broken.errors) == 1
    toy.CALLS.clear()
    monkeypatch.undo()
    monkeypatch.setattr(toy, "trial", lambda *a, **k: whole(*a, **k))
    mended = api.run(toy.study(batched=False), storage=storage, progress=False)
    assert not mended.missing and [(c["level"], c["seeds"]) for c in toy.CALLS] == [(1, [5])]


def plain(trial, **more):
    return Study(
        name="plain", title="Plain", question="?", data="none", factors={"f": ("a", "b")}, trial=trial,
        measures={"loss": "made up"}, claims=(), answer=lambda results, verdicts: "Yes.",
        sizes={"full": Size(3)}, **more,
    )  # fmt: skip


def one_number(setting, seeds, points):
    assert points == [{}]
    return Outcome({"loss": float(seeds[0])}, {"curve": np.arange(3 + seeds[0])})


def test_a_study_needs_no_tuning(storage, capsys):
    results = api.run(plain(one_number, batched=False), storage=storage, progress=False)
    assert results.rows[0].values("loss").tolist() == [0, 1, 2] and not results.edges and results.tuned == ()
    assert next(results.table()) == ("f", "loss")
    # Curves of different length end in NaN.
    assert (
        results.rows[0].curves["curve"].shape == (1, 3, 5) and np.isnan(results.rows[0].curves["curve"][0, 0, 3:]).all()
    )
    api.show(results)
    assert "Yes." in capsys.readouterr().out
    assert api.results(plain(one_number, batched=False), storage).budget == 1


def test_a_fingerprint_takes_the_place_of_the_source(storage):
    made = eval("lambda setting, seeds, points: {}", {})
    with pytest.raises(ValueError, match="must be written in a file"):
        api.run(plain(made), storage=storage, progress=False)
    first, same, other = (plain(made, fingerprint=text).digest("full", (0, 1)) for text in ("one", "one", "two"))
    assert first == same != other


def test_a_measure_that_is_not_delivered_is_a_failure(storage):
    results = api.run(plain(nothing, batched=False), storage=storage, progress=False)
    assert len(results.errors) == 6 and "no measure 'loss'; it gave other" in results.errors[0].traceback


def nothing(setting, seeds, points):
    return Outcome({"other": 0.0})
