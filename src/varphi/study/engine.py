"""Running a study: every job once, wherever and however often the process is started."""

from __future__ import annotations

import json
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from . import jobs as _jobs
from . import storage as _storage
from .declaration import Shaped, Study
from .plan import Job, Plan, chosen_seeds
from .progress import Advance
from .progress import progress as _progress
from .queue import Queue
from .reading import read
from .results import Results
from .search import Point, Search, choose, joined, median


class StudyInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run: what is stored, and how to go on."""


def run(
    study: Study,
    *,
    storage: str | Path | None = None,
    size: str = "full",
    seeds: int | Sequence[int] | None = None,
    jobs: int = 1,
    place: str | None = None,
    progress: bool = True,
) -> Results:
    """Run what is still missing of a study.

    Trials that failed with an error are tried again, once a call. Trials that another process is running are waited
    for.

    Args:
        study: what to run.
        storage: a path (SQLite file, default `varphi.db`), an SQLAlchemy URL, or grpc://HOST:PORT.
        size: one of the study's sizes.
        seeds: how many paired seeds, or which; the size's own if not given.
        jobs: how many processes of this machine work on it; above 1, new ones are started and share the cores.
        place: the study's name or "module:attribute", by which those processes load it; without it, it is pickled.
        progress: whether to show a bar on standard error.

    Raises:
        ValueError: for an unknown size, unusable seeds, or a study that other processes cannot load.
        StorageError: for a storage that cannot be used.
        ChildProcessError: where every process that was started ended early.
        StudyInterrupted: after Ctrl-C; every finished trial is stored.
    """
    plan = Plan(study, size, seeds)
    _jobs.check(jobs, study, place)
    queue = Queue(plan, storage)
    worker = Worker(queue)
    try:
        if queue.open_jobs():
            queue.note_run()
        queue.take_over()
        queue.put(queue.open_jobs())
        with _progress(study.title, queue.counts(), len(plan.jobs), progress) as advance:
            if jobs > 1 and queue.pending():
                _jobs.run_together(queue, place, jobs, advance)
            worker.run_all(advance)
        if study.references is not None and "references" not in queue.optuna.user_attrs:
            queue.optuna.set_user_attr("references", study.references(**plan.size.options))
    except KeyboardInterrupt:
        worker.give_up()
        raise StudyInterrupted(_farewell(queue)) from None
    return read(queue)


def results(
    study: Study,
    storage: str | Path | None = None,
    *,
    size: str | None = None,
    seeds: int | Sequence[int] | None = None,
) -> Results:
    """What a storage holds of a study.

    Args:
        size: which size; the one that was run last, if not given.
        seeds: which seeds; likewise.

    Raises:
        NothingStoredError: where the storage does not exist, or holds nothing of this study as it is declared now.
        StorageError: where it cannot be used.
    """
    found = _stored(study, storage)
    if size is not None:
        study.size(size)
        found = [(s, n) for s, n in found if s == size]
    if seeds is not None and size is not None:
        found = [(s, n) for s, n in found if n == chosen_seeds(study, size, seeds)]
    if not found:
        at = _storage.described(storage)
        wanted = f" at size {size!r}" if size else ""
        raise _storage.NothingStoredError(
            f"{at!r} holds no run of study {study.name!r}{wanted} as it is declared now; "
            f"`varphi study run {study.name}` makes one"
        )
    size, numbers = found[-1]
    return read(Queue(Plan(study, size, numbers), storage, create=False))


def _stored(study: Study, storage: str | Path | None) -> list[tuple[str, tuple[int, ...]]]:
    """The (size, seeds) that a storage holds of this declaration, last run last."""
    connection = _storage.connect(storage, create=False)
    found = []
    for stored in connection.get_all_studies():
        attributes = stored.user_attrs
        if attributes.get("study") != study.name or attributes.get("size") not in study.sizes:
            continue
        size, seeds = attributes["size"], tuple(attributes["seeds"])
        if attributes["digest"] == study.digest(size, seeds):
            found.append((attributes.get("last_run", 0.0), size, seeds))
    return [(size, seeds) for _, size, seeds in sorted(found)]


def _farewell(queue: Queue) -> str:
    """What is stored, and how to go on."""
    plan = queue.plan
    queue.look()
    finished, _ = queue.counts()
    return (
        f"Stopped. {finished} of {len(plan.jobs)} trials of {plan.study.name!r} are stored in "
        f"{_storage.described(queue.where)!r}; the same command goes on from there."
    )


class Worker:
    """Claims jobs and runs them until none is left."""

    def __init__(self, queue: Queue) -> None:
        self.queue, self.plan, self.study = queue, queue.plan, queue.plan.study
        self.current: FrozenTrial | None = None

    def run_all(self, advance: Advance) -> None:
        """Run jobs until no process has one any more."""
        while True:
            with _undisturbed():
                trial = self.current = self.queue.claim()
            if trial is not None:
                self._run(trial)
            if trial is None or self.queue.is_outdated():
                self.queue.look()
                self.queue.take_over()
                advance(*self.queue.counts())
            if trial is None and not self.queue.has_waiting():
                if not self.queue.pending():
                    return
                time.sleep(0.5)

    def give_up(self) -> None:
        """Let the trial that this process was running be run again."""
        if self.current is not None:
            self.queue.fail(self.current, "interrupted")
            self.current = None

    def _run(self, trial: FrozenTrial) -> None:
        start = time.perf_counter()
        with _alive(self.queue, trial):
            try:
                points, outcome = self._evaluated(Job.of(trial.user_attrs))
            except Exception:
                with _undisturbed():
                    self.queue.fail(trial, "error", traceback.format_exc())
                    self.current = None
                return
        data = {
            "points": points,
            "measures": {name: v.tolist() for name, v in outcome.measures.items()},
            "curves": {name: _rounded(v) for name, v in outcome.curves.items()},
            "seconds": time.perf_counter() - start,
        }
        deciding = outcome.measures[self.study.decisive]
        with _undisturbed():
            self.queue.finish(trial, data, median(deciding[choose(deciding)]))
            self.current = None

    def _evaluated(self, job: Job) -> tuple[list[Point], Shaped]:
        """Every point that the job tries, and what was measured there."""
        study, size = self.study, self.plan.size
        setting = self.plan.settings[job.setting]
        start = study.points(self.plan.size_name, setting)
        tried: list[Point] = []
        found: list[Shaped] = []

        def evaluate(points: list[Point]) -> list[float]:
            outcome = study.trial(setting, job.seeds, points, **size.options)
            found.append(outcome.shaped(len(points), len(job.seeds), study.measures))
            tried.extend(points)
            return [median(row) for row in found[-1].measures[study.decisive]]

        if isinstance(size.tuning, Search) and size.tuning.sampler == "tpe" and start != [{}]:
            size.tuning.asked(setting, start, evaluate)
        else:
            evaluate(start)
        return tried, joined(found, axis=0)


def _rounded(values: np.ndarray) -> Any:
    return json.loads(json.dumps(values.tolist()), parse_float=lambda text: float(f"{float(text):.6g}"))


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits until the block is done: what the storage says and what this process knows stay the same."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: waiting.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if waiting:
        signal.raise_signal(waiting[0])


@contextmanager
def _alive(queue: Queue, trial: FrozenTrial) -> Iterator[None]:
    """Give signs of life for the trial while the block runs."""
    done = threading.Event()

    def beat() -> None:
        count = 0
        while not done.wait(_storage.HEARTBEAT):
            count += 1
            try:
                queue.show_life(trial, count)
            except Exception:
                # A storage that cannot be reached now may be later, and the trial goes on meanwhile.
                continue
        queue.disconnect()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
