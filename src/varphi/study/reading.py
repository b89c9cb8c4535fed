"""Stored trials as results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from . import storage as _storage
from .declaration import Shaped
from .plan import Job, Plan
from .queue import Queue, failure_kind
from .results import Failure, Results, Row
from .search import choose, edges, joined


def read(queue: Queue) -> Results:
    """What the storage holds of a run."""
    plan, attributes = queue.plan, queue.optuna.user_attrs
    queue.look()
    trials = queue.trials
    rows = _rows(plan, [t for t in trials if t.state == TrialState.COMPLETE])
    return Results(
        study=plan.study,
        size=plan.size_name,
        seeds=plan.seeds,
        storage=_storage.described(queue.where),
        rows=tuple(rows[k] for k in plan.settings if k in rows),
        failures=tuple(_failure(plan, t) for t in trials if t.state == TrialState.FAIL and "failure" in t.user_attrs),
        missing=tuple(s for k, s in plan.settings.items() if k not in rows),
        references=attributes.get("references", {}),
        record={
            "declared": attributes["declared"],
            "digest": plan.digest,
            "tuning": attributes["tuning"],
            "runs": {n.removeprefix("run "): v for n, v in sorted(attributes.items()) if n.startswith("run ")},
        },
    )


def _rows(plan: Plan, finished: Sequence[FrozenTrial]) -> dict[str, Row]:
    """From a setting's key to its row, for the settings of which every seed is finished."""
    found: dict[Any, FrozenTrial] = {}
    for trial in finished:
        found.setdefault(Job.of(trial.user_attrs).work, trial)
    rows = {}
    for key in plan.settings:
        parts = [found.get(job.work) for job in plan.jobs if job.setting == key]
        if None not in parts:
            rows[key] = _row(plan, key, [trial for trial in parts if trial is not None])
    return rows


def _row(plan: Plan, key: str, trials: Sequence[FrozenTrial]) -> Row:
    stored = [trial.user_attrs["data"] for trial in trials]
    outcome = joined([_outcome(data) for data in stored], axis=1)
    points = stored[0]["points"]
    chosen = choose(outcome.measures[plan.study.decisive])
    return Row(
        setting=plan.settings[key],
        measures=outcome.measures,
        curves=outcome.curves,
        points=tuple(points),
        chosen=chosen,
        edges=edges(points, chosen),
        trials=tuple(trial.number for trial in trials),
        times=tuple(data["seconds"] for data in stored),
    )


def _outcome(data: dict[str, Any]) -> Shaped:
    return Shaped(
        *({name: np.array(values, float) for name, values in data[kind].items()} for kind in ("measures", "curves"))
    )


def _failure(plan: Plan, trial: FrozenTrial) -> Failure:
    job = Job.of(trial.user_attrs)
    text = trial.user_attrs["failure"]["traceback"]
    return Failure(plan.settings[job.setting], job.seeds, trial.number, failure_kind(trial), text)
