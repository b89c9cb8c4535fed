"""Jobs as trials in Optuna's storage: waiting, claimed by one worker, finished or failed.

Nothing here depends on which storage it is. A claim is one atomic change of state, so no two workers take the same
trial. A worker signs what it claims and counts up a number in it as a sign of life; whoever sees that number stand
still for long enough, by a clock of its own, marks the trial as failed and puts its job in the queue again.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from . import provenance
from . import storage as _storage
from .plan import Job, Plan

_UNFINISHED = (TrialState.WAITING, TrialState.RUNNING)
# How old a look at the storage may be, in seconds, and how many trials a worker misses before it looks again.
_PERIOD, _MISSES = 1.0, 3
_PACKAGES = ("varphi", "torch", "numpy", "scipy", "optuna")


class Queue:
    """The jobs of one run of a study, as this process sees them."""

    def __init__(self, plan: Plan, where: Any, *, create: bool = True) -> None:
        """Raises StorageError for a storage that cannot be used."""
        self.plan, self.where = plan, where
        self._storage = _storage.connect(where, create=create)
        if create:
            self.optuna = optuna.create_study(
                storage=self._storage, study_name=plan.name, direction="minimize", load_if_exists=True
            )
            self._declare()
        else:
            self.optuna = optuna.load_study(storage=self._storage, study_name=plan.name)
        # From a running trial to its last sign of life and when it was first seen.
        self._signs: dict[int, tuple[Any, float]] = {}
        self.look()

    def _declare(self) -> None:
        """Write down what will be measured and how it will be judged, before it is."""
        known = self.optuna.user_attrs
        for name, value in self.plan.declaration().items():
            if name not in known:
                self.optuna.set_user_attr(name, value)
        self.optuna.set_user_attr("last_run", time.time())

    def note_run(self) -> None:
        """Write down which command, on what machine and with which versions, works on the study."""
        self.optuna.set_user_attr(
            f"run {provenance.now()} {socket.gethostname()}:{os.getpid()}",
            {
                "command": provenance.command(),
                "machine": provenance.machine(),
                "versions": provenance.versions((*_PACKAGES, *self.plan.study.packages)),
            },
        )

    # Looking ----------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Read the trials from the storage; what the queue answers is what it saw then."""
        self.trials = self.optuna.get_trials(deepcopy=False)
        self._waiting = [t for t in self.trials if t.state == TrialState.WAITING]
        self._looked = time.monotonic()

    def is_outdated(self) -> bool:
        """Whether the last look was a while ago. Between looks, trials that take milliseconds cost no reading."""
        return time.monotonic() - self._looked > _PERIOD

    def pending(self) -> bool:
        """Whether anything is waiting or running, here or elsewhere."""
        return any(t.state in _UNFINISHED for t in self.trials)

    def has_waiting(self) -> bool:
        """Whether there is a trial to claim."""
        return bool(self._waiting)

    def counts(self) -> tuple[int, int]:
        """How many jobs are finished, and how many have only failed."""
        finished = {Job.of(t.user_attrs).work for t in self.trials if t.state == TrialState.COMPLETE}
        failed = {Job.of(t.user_attrs).work for t in self.trials if failure_kind(t) == "error"}
        return len(finished), len(failed - finished)

    # Queueing ---------------------------------------------------------------------------------------------------------

    def open_jobs(self) -> list[Job]:
        """The jobs for which no trial is finished, running or waiting."""
        failures: dict[Any, int] = {}
        covered = set()
        for trial in self.trials:
            job = Job.of(trial.user_attrs)
            if trial.state in (TrialState.COMPLETE, *_UNFINISHED):
                covered.add(job.work)
            elif trial.state == TrialState.FAIL:
                failures[job.work] = failures.get(job.work, 0) + 1
        return [Job(j.setting, j.seeds, failures.get(j.work, 0)) for j in self.plan.jobs if j.work not in covered]

    def put(self, jobs: Iterable[Job]) -> None:
        """Let jobs wait for a worker."""
        levels: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(list(dict.fromkeys(s[name] for s in self.plan.settings.values())))
            for name in self.plan.study.factors
        }
        for job in jobs:
            trial = create_trial(
                state=TrialState.WAITING,
                params=self.plan.settings[job.setting],
                distributions=levels,
                user_attrs=job.attributes,
            )
            self._storage.create_new_trial(self.optuna._study_id, trial)
        self.look()

    # Working ----------------------------------------------------------------------------------------------------------

    def claim(self) -> FrozenTrial | None:
        """The next of the waiting trials, now running here; None if a new look is needed to find one."""
        for _ in range(_MISSES):
            if not self._waiting:
                return None
            trial = self._waiting.pop(0)
            if not self._take(trial):
                continue
            if self._is_duplicate(trial):
                # Two processes that started together may both have put a job in the queue.
                self._storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED)
                continue
            self._storage.set_trial_user_attr(trial._trial_id, "worker", provenance.process())
            return trial
        # Others are at the same trials: look again at what is left.
        self._waiting = []
        return None

    def _take(self, trial: FrozenTrial) -> bool:
        """Whether the trial was still waiting, and is now running here."""
        try:
            return self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def _is_duplicate(self, trial: FrozenTrial) -> bool:
        # Numbers are given in the order in which trials come to be: every earlier one was seen together with this one.
        job = Job.of(trial.user_attrs)
        return any(
            t.number < trial.number and t.state != TrialState.PRUNED and Job.of(t.user_attrs) == job
            for t in self.trials
        )

    def show_life(self, trial: FrozenTrial, count: int) -> None:
        """Tell the other workers that this one still works on the trial."""
        self._storage.set_trial_user_attr(trial._trial_id, "alive", count)

    def disconnect(self) -> None:
        """Return this thread's connection."""
        self._storage.remove_session()

    def finish(self, trial: FrozenTrial, data: dict[str, Any], value: float) -> None:
        """Store what a trial measured; only then does it count as finished."""

        def store() -> None:
            self._storage.set_trial_user_attr(trial._trial_id, "data", data)
            self._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [value])

        self._close(store)

    def fail(self, trial: FrozenTrial, kind: str, text: str = "") -> None:
        """Keep a trial as failed: by an "error", "interrupted" or because its worker "died"."""

        def store() -> None:
            self._storage.set_trial_user_attr(trial._trial_id, "failure", {"kind": kind, "traceback": text})
            self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)

        self._close(store)

    def _close(self, store: Any) -> None:
        # Refused where this process was silent for so long that another held it for dead and runs the job again.
        with suppress(UpdateFinishedTrialError):
            _storage.insist(store)

    # Lost workers -----------------------------------------------------------------------------------------------------

    def take_over(self) -> None:
        """Mark the trials of dead workers as failed, and let what was cut short wait again."""
        running = [t for t in self.trials if t.state == TrialState.RUNNING]
        self._signs = {t._trial_id: self._sign(t) for t in running}
        died = [t for t in running if self._is_lost(t)]
        for trial in died:
            self.fail(trial, "died")
        if died:
            self.look()
        last = {Job.of(t.user_attrs).work: failure_kind(t) for t in self.trials if t.state == TrialState.FAIL}
        lost = [job for job in self.open_jobs() if last.get(job.work) in ("died", "interrupted")]
        if lost:
            self.put(lost)

    def _sign(self, trial: FrozenTrial) -> tuple[Any, float]:
        sign = (trial.user_attrs.get("worker"), trial.user_attrs.get("alive"))
        before = self._signs.get(trial._trial_id)
        return before if before is not None and before[0] == sign else (sign, time.monotonic())

    def _is_lost(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get("worker")
        if worker == provenance.process():
            return False
        silent = time.monotonic() - self._signs[trial._trial_id][1] > _storage.GRACE
        return silent or (worker is not None and provenance.is_gone(worker))


def failure_kind(trial: FrozenTrial) -> Any:
    """Why a failed trial failed; None for one that has not."""
    if trial.state != TrialState.FAIL:
        return None
    return trial.user_attrs.get("failure", {}).get("kind", "died")
