"""A study survives whatever happens to its process, and does no work twice."""

import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from varphi.study import api, registry
from varphi.study.search import choose
from varphi.study.storage import StorageError

TOY = Path(__file__).with_name("toy.py")


@pytest.fixture
def toy():
    spec = importlib.util.spec_from_file_location("toy_study", TOY)
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy_study"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "trials.db"


def started(storage, seconds, levels=3):
    return subprocess.Popen(
        [sys.executable, TOY, storage, str(seconds), str(levels)], stdout=subprocess.PIPE, text=True
    )


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


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [([[3, 3], [1, 1], [2, 2]], 1), ([[np.nan, 0], [1, 1], [2, 2]], 0), ([[np.nan] * 2, [5, 5]], 1), ([[1, 1]] * 3, 1)],
)
def test_choosing_among_tuned_values(losses, chosen):
    assert choose(np.array(losses, float)) == chosen


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
    done = {row.trials for row in api.results(toy.study(range(5), 0.4), storage).rows}
    assert states(storage)["RUNNING"] == 1 and len(done) >= 2
    results = api.run(toy.study(range(5), 0.4), storage=storage, progress=False)
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
    results = api.run(toy.study(range(5), 0.4), storage=storage, progress=False)
    assert not results.missing and states(storage)["COMPLETE"] == 5


def test_processes_that_start_together_share_one_study_without_double_work(toy, storage):
    # Short trials: the processes meet at every claim, and at making the file.
    processes = [started(storage, 0.01, levels=16) for _ in range(3)]
    assert [p.wait(timeout=90) for p in processes] == [0, 0, 0]
    results = api.results(toy.study(range(16), 0.01), storage)
    assert not results.missing and states(storage)["COMPLETE"] == 16 and not results.failures
    begun = Path(f"{storage}.log").read_text().split()
    assert sorted(map(int, begun)) == list(range(16))


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
