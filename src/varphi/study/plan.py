"""What one run of a study consists of, before any of it is done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from . import provenance
from .declaration import Setting, Study, key


@dataclass(frozen=True)
class Job:
    """The unit of work: one setting with all its seeds, or with one of them where the study is not batched.

    Attributes:
        setting: the setting's key.
        attempt: how many trials of this job had failed when it was put in the queue. Two processes that queue a job at
            the same moment make the same attempt, of which one is run.
    """

    setting: str
    seeds: tuple[int, ...]
    attempt: int = 0

    @property
    def work(self) -> tuple[str, tuple[int, ...]]:
        """What is done, whatever the attempt."""
        return self.setting, self.seeds

    @property
    def attributes(self) -> dict[str, Any]:
        """As a trial's attributes."""
        return {"setting": self.setting, "seeds": list(self.seeds), "attempt": self.attempt}

    @classmethod
    def of(cls, attributes: dict[str, Any]) -> Job:
        """From a trial's attributes."""
        return cls(attributes["setting"], tuple(attributes["seeds"]), attributes["attempt"])


class Plan:
    """A study at one size with certain seeds."""

    def __init__(self, study: Study, size: str, seeds: int | Sequence[int] | None = None) -> None:
        """Raises ValueError for an unknown size or unusable seeds."""
        self.study, self.size_name = study, size
        self.size = study.size(size)
        self.seeds = chosen_seeds(study, size, seeds)
        self.settings: dict[str, Setting] = {key(s): s for s in study.settings(size)}
        self.digest = study.digest(size, self.seeds)
        self.name = f"{study.name}/{size}/{self.digest}"

    @cached_property
    def jobs(self) -> list[Job]:
        """All the work, in the order in which it is done."""
        shares = [self.seeds] if self.study.batched else [(seed,) for seed in self.seeds]
        # Seed by seed: whoever stops early has some seeds of every setting.
        return [Job(setting, share) for share in shares for setting in self.settings]

    def declaration(self) -> dict[str, Any]:
        """What will be measured and how it will be judged, as plain data."""
        study = self.study
        return {
            "study": study.name,
            "size": self.size_name,
            "seeds": list(self.seeds),
            "digest": self.digest,
            "tuning": json.loads(json.dumps(study.tuning_record(self.size_name))),
            "options": dict(self.size.options),
            "claims": [{"name": c.name, "quote": c.quote, "measure": c.measure} for c in study.claims],
            "measures": dict(study.measures),
            "declared": provenance.now(),
        }


def chosen_seeds(study: Study, size: str, seeds: int | Sequence[int] | None) -> tuple[int, ...]:
    """The seeds of a run: 0, 1, ... up to the given (or the size's) number, or the given ones themselves."""
    if seeds is None:
        seeds = study.size(size).seeds
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(s) for s in seeds)
    if len(chosen) < 2 or len(set(chosen)) < len(chosen) or min(chosen) < 0:
        raise ValueError(f"a study needs at least 2 different seeds >= 0, got {seeds!r}")
    return chosen
