"""Several processes on one run, on every kind of storage: no work twice, nothing lost."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from varphi.study import api, provenance
from varphi.study import storage as storages
from varphi.study.plan import Plan
from varphi.study.queue import Queue
from varphi.study.storage import StorageError

TOY = Path(__file__).with_name("toy.py")


@pytest.fixture
def log(tmp_path):
    return tmp_path / "begun.log"


def started(storage, seconds, levels, log):
    words = [sys.executable, str(TOY), str(storage), str(seconds), str(levels), str(log)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def begun(log):
    """The level and the process of every trial that was begun."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(line.split()[0]), int(line.split()[2])) for line in lines]


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def values(results):
    return [row.measures["value"].tolist() for row in results.rows]


def test_processes_that_start_together_do_no_work_twice(toy, shared, log):
    # Short trials: the processes meet at every claim, and at making the tables.
    processes = [started(shared, 0.01, 16, log) for _ in range(2)]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    results = api.results(toy.study(range(16), 0.01, str(log)), shared)
    assert not results.missing and not results.failures
    assert sorted(level for level, _ in begun(log)) == list(range(16))


def test_one_of_two_processes_is_killed_and_the_other_finishes(toy, shared, log):
    processes = [started(shared, 0.4, 7, log) for _ in range(2)]
    wait_until(lambda: len({pid for _, pid in begun(log)}) == 2 and len(begun(log)) >= 4)
    victim = processes[0]
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    lost = [level for level, pid in begun(log) if pid == victim.pid][-1]
    _, said = processes[1].communicate(timeout=120)
    assert processes[1].returncode == 0, said
    results = api.results(toy.study(range(7), 0.4, str(log)), shared)
    assert not results.missing
    again = {level for level, count in Counter(level for level, _ in begun(log)).items() if count > 1}
    # Killed between two trials, it had none to lose.
    assert [f.kind for f in results.failures] == ["died"] * len(again) and again <= {lost}
    assert values(results) == values(api.run(toy.study(range(7)), storage=f"{log}.db", progress=False))


def test_killed_at_random_moments_nothing_finished_is_lost(toy, shared, tmp_path, log):
    storage, study = shared, toy.study(range(9), 0.1, str(log))
    moments = random.Random(int.from_bytes(os.urandom(4)))
    for _ in range(2):
        before = len(begun(log))
        process = started(storage, 0.1, 9, log)
        wait_until(lambda before=before: len(begun(log)) > before)
        time.sleep(moments.uniform(0.0, 0.5))
        process.kill()
        process.wait()
        finished = {row.trials for row in api.results(study, storage).rows}
    done = len(begun(log))
    results = api.run(study, storage=storage, progress=False)
    assert not results.missing and finished <= {row.trials for row in results.rows}
    assert len(begun(log)) - done == 9 - len(finished)
    assert values(results) == values(api.run(toy.study(range(9)), storage=tmp_path / "calm.db", progress=False))


def test_a_process_that_nobody_has_buried_counts_as_gone(tmp_path, log):
    process = started(tmp_path / "t.db", 30, 2, log)
    wait_until(lambda: begun(log))
    host, *_ = provenance.process()
    assert not provenance.is_gone([host, process.pid, "token"])
    process.kill()
    # Not waited for: the system still lists it.
    wait_until(lambda: provenance.is_gone([host, process.pid, "token"]))
    os.kill(process.pid, 0)
    process.wait()
    assert provenance.is_gone([host, process.pid, "token"])


def queues(toy, storage, count=2):
    """What so many workers on different machines see of one run."""
    found = [Queue(Plan(toy.study(), "full"), storage) for _ in range(count)]
    found[0].put(found[0].open_jobs())
    for queue in found:
        queue.look()
    return found


def claimed_elsewhere(queue):
    trial = queue.claim()
    queue._storage.set_trial_user_attr(trial._trial_id, "worker", ["elsewhere", 1, "token"])
    return trial


def states(queue):
    queue.look()
    return [trial.state for trial in queue.trials]


def test_a_silent_worker_of_another_machine_is_taken_over(toy, shared, monkeypatch):
    monkeypatch.setattr(storages, "GRACE", 1.0)
    theirs, mine = queues(toy, shared)
    trial = claimed_elsewhere(theirs)
    for count in range(8):  # twice as long as it may be silent
        theirs.show_life(trial, count)
        mine.look()
        mine.take_over()
        time.sleep(0.25)
    assert TrialState.FAIL not in states(mine)
    start = time.monotonic()
    while TrialState.FAIL not in states(mine):
        mine.take_over()
        time.sleep(0.1)
    assert time.monotonic() - start > 0.5
    # It comes back, and is told that its trial is no longer its own.
    theirs.finish(trial, {"never": "stored"}, 0.0)
    results = api.run(toy.study(), storage=shared, progress=False)
    assert not results.missing and [f.kind for f in results.failures] == ["died"] and len(toy.CALLS) == 3


def test_a_claim_is_given_once(toy, shared):
    one, other = queues(toy, shared)
    claims = [one.claim(), other.claim(), one.claim()]
    assert sorted(trial.number for trial in claims) == [0, 1, 2] and other.claim() is None


def test_what_two_put_in_the_queue_at_the_same_moment_is_run_once(toy, shared):
    one, other = (Queue(Plan(toy.study(), "full"), shared) for _ in range(2))
    jobs = one.open_jobs(), other.open_jobs()
    one.put(jobs[0])
    other.put(jobs[1])
    api.run(toy.study(), storage=shared, progress=False)
    assert len(toy.CALLS) == 3 and states(one).count(TrialState.PRUNED) == 3


def test_a_worker_that_is_stopped_leaves_its_trial_to_the_others(toy, shared):
    one, other = queues(toy, shared)
    one.fail(one.claim(), "interrupted")
    other.look()
    other.take_over()
    assert sum(state == TrialState.WAITING for state in states(other)) == 3


def test_a_process_with_the_number_of_a_dead_one_is_not_taken_for_it():
    host, pid, _ = provenance.process()
    assert provenance.is_gone([host, pid, "another token"]) and not provenance.is_gone(provenance.process())
    assert not provenance.is_gone(["elsewhere", 2**22 + 1, "token"])


# --jobs ---------------------------------------------------------------------------------------------------------------


def command(*words, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "varphi", "study", "run", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def test_two_jobs_find_what_one_finds(toy, tmp_path):
    place = f"{TOY}:SEARCH"
    alone = api.run(place, storage=tmp_path / "one.db", progress=False)
    together = api.run(place, storage=tmp_path / "two.db", jobs=2, progress=False)
    assert values(alone) == values(together) and [r.point for r in alone.rows] == [r.point for r in together.rows]
    assert alone.rows[0].points == together.rows[0].points


def test_a_job_that_is_killed_is_reported_and_ctrl_c_ends_all(toy, tmp_path, log):
    words, settings = (f"{TOY}:STUDY", "--jobs", 2, "--storage", tmp_path / "t.db"), {"TOY": f"0.5 60 {log}"}
    process = command(*words, **settings)
    wait_until(lambda: len({pid for _, pid in begun(log)}) == 2)
    victim = begun(log)[0][1]
    os.kill(victim, signal.SIGKILL)
    after = len(begun(log))
    wait_until(lambda: len(begun(log)) > after + 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on" in said and "of 60 trials" in said
    assert f"(process {victim}) was killed by SIGKILL; 1 go on" in said
    left = {pid for _, pid in begun(log)}
    assert not any(Path(f"/proc/{pid}").exists() for pid in left)
    results = api.results(toy.study(range(60), 0.5, str(log)), tmp_path / "t.db")
    assert len(results.rows) >= 2 and {f.kind for f in results.failures} == {"died", "interrupted"}
    queue = Queue(Plan(toy.study(range(60), 0.5, str(log)), "full"), tmp_path / "t.db")
    assert TrialState.RUNNING not in states(queue)


@pytest.mark.parametrize("shared", ["sqlite", "postgres"], indirect=True)
def test_a_command_that_was_killed_goes_on_where_it_was(toy, shared, tmp_path, log):
    words, settings = (f"{TOY}:STUDY", "--jobs", 2, "--storage", shared), {"TOY": f"0.4 8 {log}"}
    process = command(*words, **settings)
    wait_until(lambda: len({pid for _, pid in begun(log)}) == 2 and len(begun(log)) >= 4)
    process.kill()
    process.communicate(timeout=60)
    # What it had started ends by itself.
    host, *_ = provenance.process()
    wait_until(lambda: all(provenance.is_gone([host, pid, "token"]) for _, pid in begun(log)))
    study = toy.study(range(8), 0.4, str(log))
    finished = {row.setting["level"] for row in api.results(study, shared).rows}
    assert 2 <= len(finished) < 8
    again = command(*words, **settings)
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    counts = Counter(level for level, _ in begun(log))
    assert set(counts) == set(range(8)) and all(counts[level] == 1 for level in finished)
    results = api.results(study, shared)
    assert not results.missing
    assert values(results) == values(api.run(toy.study(range(8)), storage=tmp_path / "calm.db", progress=False))


def test_jobs_that_all_fail_are_an_error_that_says_how_to_go_on(toy, tmp_path, log, monkeypatch):
    # The processes load another study than the one that was asked for.
    monkeypatch.setenv("TOY", f"0.0 2 {log}")
    from varphi.study import engine

    with pytest.raises(ChildProcessError, match=r"all 2 processes ended .* exit codes 1, 1"):
        engine.run(toy.study(), storage=tmp_path / "t.db", jobs=2, place=f"{TOY}:STUDY", progress=False)


def test_a_study_that_other_processes_cannot_load_is_refused(toy, tmp_path):
    import dataclasses

    local = dataclasses.replace(toy.study(), answer=lambda results, verdicts: "")
    with pytest.raises(ValueError, match="other processes cannot load study 'toy'"):
        api.run(local, storage=tmp_path / "t.db", jobs=2)
    with pytest.raises(ValueError, match="at least one process"):
        api.run(local, storage=tmp_path / "t.db", jobs=0)
    assert not (tmp_path / "t.db").exists()


# Names and passwords --------------------------------------------------------------------------------------------------


def test_passwords_are_not_shown_and_not_stored(toy, fresh_postgres, monkeypatch, capsys):
    assert "secret" in fresh_postgres
    monkeypatch.setattr(sys, "argv", ["varphi", "study", "run", "toy", "--storage", fresh_postgres])
    results = api.run(toy.study(), storage=fresh_postgres, progress=False)
    api.show(results)
    shown = capsys.readouterr()
    assert "secret" not in f"{results.storage}{results.record}{shown.out}{shown.err}" and "***" in results.storage
    wrong = "postgresql://me:secret@127.0.0.1:1/none"
    with pytest.raises(StorageError, match="cannot use the storage 'postgresql://me:") as refusal:
        api.run(toy.study(), storage=wrong, progress=False)
    assert "secret" not in str(refusal.value)


def test_a_proxy_is_started_and_ended_by_hand(toy, tmp_path):
    port = 20000 + (os.getpid() + 13) % 20000
    words = [sys.executable, "-m", "varphi", "study", "serve", "--storage", tmp_path / "t.db", "--port", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert f"serving {tmp_path / 't.db'} at grpc://localhost:{port}" in server.stdout.readline()
    api.run(toy.study(), storage=f"grpc://localhost:{port}", progress=False)
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=30) == 0
    assert len(api.results(toy.study(), tmp_path / "t.db").rows) == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("postgresql://me:a/b@c@host/x", "postgresql://me:***@host/x"),
        ("mysql://me:p%40ss@host:3306/x", "mysql://me:***@host:3306/x"),
        ("postgresql://me@host/x?password=p&user=u", "postgresql://me@host/x?password=***&user=u"),
        ("--storage=postgresql://me:pass@host/x", "--storage=postgresql://me:***@host/x"),
        ("grpc://host:13000", "grpc://host:13000"),
        ("a:b@c.db", "a:b@c.db"),
    ],
)
def test_what_is_left_of_a_url(text, told):
    assert provenance.without_password(text) == told


def test_proxies_that_cannot_be_used_are_refused(toy, monkeypatch):
    monkeypatch.setattr(storages, "_PATIENCE", 0.5)
    with pytest.raises(StorageError, match="varphi study serve --storage URL --port 1"):
        api.run(toy.study(), storage="grpc://localhost:1", progress=False)
    with pytest.raises(StorageError, match="grpc://HOST:PORT"):
        api.run(toy.study(), storage="grpc://localhost", progress=False)
    with pytest.raises(StorageError, match="not another proxy"):
        api.serve("grpc://localhost:1")


def test_the_same_seeds_give_the_same_bits(toy, tmp_path):
    once, again = (api.run(toy.study(), storage=tmp_path / f"{i}.db", progress=False) for i in range(2))
    for a, b in zip(once.rows, again.rows, strict=True):
        assert all(np.array_equal(a.measures[name], b.measures[name]) for name in a.measures)


def test_a_study_of_ones_own_runs_from_its_file(tmp_path):
    example = Path(__file__).parents[2] / "examples" / "own_study.py"
    process = command(f"{example}:STUDY", "--smoke", "--seeds", 2, "--storage", tmp_path / "t.db")
    said, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    assert "A sine fits the wave better than ReLU" in said and "6/6" in complaint
