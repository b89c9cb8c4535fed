"""Running a study: every setting once, wherever and however often the process is started.

The settings wait as trials in Optuna's storage. A worker claims one (an atomic change of state, so two workers never
take the same), runs it with all its seeds as one batch, and writes all that it measured before the trial counts as
finished. A trial whose worker died is marked failed and its setting waits again.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from . import provenance
from . import storage as _storage
from .declaration import Outcome, Study, key
from .results import Failure, Results, Row

_UNFINISHED = (TrialState.WAITING, TrialState.RUNNING)
_PACKAGES = ("varphi", "torch", "numpy", "scipy", "optuna")


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

    Settings that failed with an error are tried again, once a call. Settings that another process is running are
    waited for.

    Args:
        study: what to run.
        storage: a path (SQLite file, default `varphi.db`) or an SQLAlchemy URL.
        size: one of the study's sizes.
        seeds: how many paired seeds, or which; the size's own if not given.
        progress: whether to show a bar on standard error.

    Raises:
        ValueError: for an unknown size or unusable seeds.
        StorageError: for a storage that cannot be used.
        StudyInterrupted: after Ctrl-C; every finished trial is stored.
    """
    worker = _Worker(study, storage, size, chosen_seeds(study, size, seeds))
    worker.open()
    try:
        worker.work(progress)
    except KeyboardInterrupt:
        raise StudyInterrupted(worker.farewell()) from None
    return worker.results()


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
    worker = _Worker(study, storage, size, numbers)
    worker.open(create=False)
    return worker.results()


def chosen_seeds(study: Study, size: str, seeds: int | Sequence[int] | None) -> tuple[int, ...]:
    """The seeds of a run: 0, 1, ... up to the given (or the size's) number, or the given ones themselves."""
    if seeds is None:
        seeds = study.size(size).seeds
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(s) for s in seeds)
    if len(chosen) < 2 or len(set(chosen)) < len(chosen) or min(chosen) < 0:
        raise ValueError(f"a study needs at least 2 different seeds >= 0, got {seeds!r}")
    return chosen


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


class _Worker:
    """One process's view of one run of a study."""

    def __init__(self, study: Study, storage: str | Path | None, size: str, seeds: tuple[int, ...]) -> None:
        self.study, self.where, self.size_name, self.seeds = study, storage, size, seeds
        self.size = study.size(size)
        self.settings = {key(s): s for s in study.settings(size)}
        self.digest = study.digest(size, seeds)
        self.name = f"{study.name}/{size}/{self.digest}"
        self.current: FrozenTrial | None = None

    # Opening ----------------------------------------------------------------------------------------------------------

    def open(self, *, create: bool = True) -> None:
        self.connection: RDBStorage = _storage.connect(self.where, create=create)
        if create:
            self.optuna = optuna.create_study(
                storage=self.connection, study_name=self.name, direction="minimize", load_if_exists=True
            )
            self._declare()
        else:
            self.optuna = optuna.load_study(storage=self.connection, study_name=self.name)

    def _declare(self) -> None:
        """Write down what will be measured and how it will be judged, before it is."""
        known = self.optuna.user_attrs
        study = self.study
        declaration = {
            "study": study.name,
            "size": self.size_name,
            "seeds": list(self.seeds),
            "digest": self.digest,
            "tuning": list(self.size.tuning),
            "options": dict(self.size.options),
            "claims": [{"name": c.name, "quote": c.quote, "measure": c.measure} for c in study.claims],
            "measures": dict(study.measures),
            "declared": provenance.now(),
        }
        for name, value in declaration.items():
            if name not in known:
                self.optuna.set_user_attr(name, value)
        self.optuna.set_user_attr("last_run", time.time())

    def _note_run(self) -> None:
        self.optuna.set_user_attr(
            f"run {provenance.now()} {socket.gethostname()}:{os.getpid()}",
            {
                "command": provenance.command(),
                "machine": provenance.machine(),
                "versions": provenance.versions((*_PACKAGES, *self.study.packages)),
            },
        )

    # Working ----------------------------------------------------------------------------------------------------------

    def work(self, progress: bool) -> None:
        if self._open_settings():
            self._note_run()
        self._take_over_stale()
        self._enqueue(self._open_settings())
        with _progress(self.study.title, len(self.settings), progress) as advance:
            while True:
                advance(*self._counts())
                with _undisturbed():
                    trial = self.current = self._claim()
                if trial is not None:
                    self._run(trial)
                elif not self._others_running():
                    break
                else:
                    time.sleep(0.5)
                    self._take_over_stale()
            advance(*self._counts())
        if self.study.references is not None and "references" not in self.optuna.user_attrs:
            self.optuna.set_user_attr("references", self.study.references(**self.size.options))

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False, states=states or None)

    def _open_settings(self) -> list[str]:
        """The settings for which no trial is finished, running or waiting."""
        covered = {t.user_attrs["setting"] for t in self._trials(TrialState.COMPLETE, *_UNFINISHED)}
        return [k for k in self.settings if k not in covered]

    def _enqueue(self, keys: Sequence[str]) -> None:
        levels: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(list(dict.fromkeys(s[name] for s in self.settings.values())))
            for name in self.study.factors
        }
        waiting = [
            create_trial(
                state=TrialState.WAITING, params=self.settings[k], distributions=levels, user_attrs={"setting": k}
            )
            for k in keys
        ]
        self.optuna.add_trials(waiting)

    def _claim(self) -> FrozenTrial | None:
        """The next waiting trial, now running here; None if there is none."""
        for trial in self._trials(TrialState.WAITING):
            if not self._take(trial):
                continue
            if self._is_duplicate(trial):
                # Two processes that started together may both have put a setting in the queue.
                self.connection.set_trial_state_values(trial._trial_id, TrialState.PRUNED)
                continue
            self.connection.set_trial_user_attr(trial._trial_id, "worker", [socket.gethostname(), os.getpid()])
            self.connection.record_heartbeat(trial._trial_id)
            return trial
        return None

    def _take(self, trial: FrozenTrial) -> bool:
        """Whether the trial was still waiting, and is now running here."""
        try:
            return self.connection.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False

    def _is_duplicate(self, trial: FrozenTrial) -> bool:
        return any(
            t.number < trial.number and t.user_attrs["setting"] == trial.user_attrs["setting"]
            for t in self._trials(TrialState.COMPLETE, *_UNFINISHED)
        )

    def _run(self, trial: FrozenTrial) -> None:
        start = time.perf_counter()
        with _alive(self.connection, trial._trial_id):
            try:
                setting = self.settings[trial.user_attrs["setting"]]
                outcome = self.study.trial(setting, self.seeds, self.size.tuning, **self.size.options)
                chosen = self._checked(outcome)
            except KeyboardInterrupt:
                self._fail(trial, "interrupted", "")
                raise
            except Exception:
                self._fail(trial, "error", traceback.format_exc())
                return
        with _undisturbed():
            self._finish(trial, outcome, chosen, time.perf_counter() - start)

    def _checked(self, outcome: Outcome) -> int:
        """The chosen tuning value's place, if the trial delivered what the study declares."""
        shape = (len(self.size.tuning), len(self.seeds))
        for name in self.study.measures:
            found = np.shape(outcome.measures.get(name, 0.0))
            if found != shape:
                raise ValueError(f"the trial gave {name!r} with shape {found}, expected {shape} (tuning values, seeds)")
        return choose(outcome.measures[self.study.tuning.by])

    def _finish(self, trial: FrozenTrial, outcome: Outcome, chosen: int, seconds: float) -> None:
        data = {
            "measures": {name: np.asarray(v, float).tolist() for name, v in outcome.measures.items()},
            "curves": {name: _rounded(v) for name, v in outcome.curves.items()},
            "chosen": chosen,
            "seconds": seconds,
        }
        value = _median(outcome.measures[self.study.tuning.by][chosen])
        try:
            self.connection.set_trial_user_attr(trial._trial_id, "data", data)
            self.connection.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [value])
        except optuna.exceptions.UpdateFinishedTrialError:
            # This process was silent for so long that another held it for dead and runs the setting again.
            pass
        self.current = None

    def _fail(self, trial: FrozenTrial, kind: str, text: str) -> None:
        try:
            self.connection.set_trial_user_attr(trial._trial_id, "failure", {"kind": kind, "traceback": text})
            self.connection.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        except optuna.exceptions.UpdateFinishedTrialError:
            pass
        self.current = None

    def _take_over_stale(self) -> None:
        """Mark the trials of dead workers as failed, and let their settings wait again."""
        silent = set(self.connection._get_stale_trial_ids(self.optuna._study_id))
        died = [t for t in self._trials(TrialState.RUNNING) if t._trial_id in silent or _is_gone(t)]
        for trial in died:
            self._fail(trial, "died", "")
        lost = {t.user_attrs["setting"] for t in died} & set(self._open_settings())
        self._enqueue([k for k in self.settings if k in lost])

    def _others_running(self) -> bool:
        return bool(self._trials(*_UNFINISHED))

    def _counts(self) -> tuple[int, int]:
        finished = {t.user_attrs["setting"] for t in self._trials(TrialState.COMPLETE)}
        failed = {t.user_attrs["setting"] for t in self._trials(TrialState.FAIL) if _kind(t) == "error"}
        return len(finished), len(failed - finished)

    def farewell(self) -> str:
        if self.current is not None:
            self._fail(self.current, "interrupted", "")
        finished, _ = self._counts()
        return (
            f"Stopped. {finished} of {len(self.settings)} settings of {self.study.name!r} are stored in "
            f"{_storage.described(self.where)!r}; the same command goes on from there."
        )

    # Reading ----------------------------------------------------------------------------------------------------------

    def results(self) -> Results:
        trials = self._trials()
        attributes = self.optuna.user_attrs
        rows: dict[str, Row] = {}
        for trial in trials:
            if trial.state == TrialState.COMPLETE:
                rows.setdefault(trial.user_attrs["setting"], self._row(trial))
        failures = tuple(
            Failure(
                self.settings[t.user_attrs["setting"]], t.number, _kind(t), t.user_attrs.get("failure", {})["traceback"]
            )
            for t in trials
            if t.state == TrialState.FAIL and "failure" in t.user_attrs
        )
        return Results(
            study=self.study,
            size=self.size_name,
            seeds=self.seeds,
            storage=_storage.described(self.where),
            rows=tuple(rows[k] for k in self.settings if k in rows),
            failures=failures,
            missing=tuple(s for k, s in self.settings.items() if k not in rows),
            references=attributes.get("references", {}),
            record={
                "declared": attributes["declared"],
                "digest": self.digest,
                "runs": {n.removeprefix("run "): v for n, v in sorted(attributes.items()) if n.startswith("run ")},
            },
            tuning=self.size.tuning,
        )

    def _row(self, trial: FrozenTrial) -> Row:
        data = trial.user_attrs["data"]
        return Row(
            setting=self.settings[trial.user_attrs["setting"]],
            measures={n: np.array(v, float) for n, v in data["measures"].items()},
            curves={n: np.array(v, float) for n, v in data["curves"].items()},
            chosen=data["chosen"],
            at_edge=len(self.size.tuning) > 1 and data["chosen"] in (0, len(self.size.tuning) - 1),
            trial=trial.number,
            seconds=data["seconds"],
        )


def choose(deciding: np.ndarray) -> int:
    """The tuning value with the lowest median over seeds; NaN counts as infinite, and of equals the middle one wins."""
    medians = [_median(row) for row in np.asarray(deciding, float)]
    best = [i for i, m in enumerate(medians) if m == min(medians)]
    return best[len(best) // 2]


def _median(values: np.ndarray) -> float:
    ordered = np.sort(np.where(np.isnan(values), math.inf, values))
    # The lower middle: the mean of a number and infinity would hide the number.
    return float(ordered[(len(ordered) - 1) // 2])


def _rounded(values: np.ndarray) -> Any:
    return json.loads(
        json.dumps(np.asarray(values, float).tolist()), parse_float=lambda text: float(f"{float(text):.6g}")
    )


def _kind(trial: FrozenTrial) -> Any:
    return trial.user_attrs.get("failure", {}).get("kind", "died")


def _is_gone(trial: FrozenTrial) -> bool:
    """Whether the trial's worker was a process of this machine that no longer exists."""
    if "worker" not in trial.user_attrs:
        # Killed between claiming the trial and signing it.
        started = trial.datetime_start
        return started is not None and (datetime.datetime.now() - started).total_seconds() > _storage.GRACE
    host, pid = trial.user_attrs["worker"]
    if host != socket.gethostname() or pid == os.getpid() or os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@contextmanager
def _undisturbed() -> Any:
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
def _alive(connection: RDBStorage, trial: int) -> Any:
    """Write a sign of life for the trial while the block runs."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(_storage.HEARTBEAT):
            connection.record_heartbeat(trial)
        connection.remove_session()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def _progress(title: str, total: int, shown: bool) -> Any:
    """A bar on standard error; yields a function of (finished, failed)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(title, total=total, failed="")

        def advance(finished: int, failed: int) -> None:
            bar.update(task, completed=finished, failed=f"[red]{failed} failed[/red]" if failed else "")

        yield advance
