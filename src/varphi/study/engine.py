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

from . import storage as _storage
from .declaration import Shaped, Study
from .plan import Job, Plan, chosen_seeds
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
        progress: whether to show a bar on standard error.

    Raises:
        ValueError: for an unknown size or unusable seeds.
        StorageError: for a storage that cannot be used.
        StudyInterrupted: after Ctrl-C; every finished trial is stored.
    """
    worker = _Worker(Queue(Plan(study, size, seeds), storage))
    try:
        worker.work(progress)
    except KeyboardInterrupt:
        worker.give_up()
        raise StudyInterrupted(farewell(worker.queue)) from None
    return read(worker.queue)


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
        StorageError: where the storage does not exist, or holds nothing of this study as it is declared now.
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
        raise _storage.StorageError(
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


def farewell(queue: Queue) -> str:
    """What is stored, and how to go on."""
    plan = queue.plan
    finished, _ = queue.counts()
    return (
        f"Stopped. {finished} of {len(plan.jobs)} trials of {plan.study.name!r} are stored in "
        f"{_storage.described(queue.where)!r}; the same command goes on from there."
    )


class _Worker:
    """Claims jobs and runs them until none is left."""

    def __init__(self, queue: Queue) -> None:
        self.queue, self.plan, self.study = queue, queue.plan, queue.plan.study
        self.current: FrozenTrial | None = None

    def work(self, shown: bool) -> None:
        queue = self.queue
        if queue.open_jobs():
            queue.note_run()
        queue.take_over()
        queue.put(queue.open_jobs())
        with _progress(self.study.title, queue.counts(), len(self.plan.jobs), shown) as advance:
            self.run_all(advance)
        if self.study.references is not None and "references" not in queue.optuna.user_attrs:
            queue.optuna.set_user_attr("references", self.study.references(**self.plan.size.options))

    def run_all(self, advance: Any) -> None:
        """Run jobs until no process has one any more."""
        while True:
            self.queue.take_over()
            advance(*self.queue.counts())
            with _undisturbed():
                trial = self.current = self.queue.claim()
            if trial is not None:
                self._run(trial)
            elif self.queue.pending():
                time.sleep(0.5)
            else:
                return

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
    before = signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt


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
