"""What a study has found so far, read from its storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from .declaration import Claim, Setting, Study
from .ranking import Contest, Ranking, ranking
from .search import Point, Search
from .statistics import number, numbers
from .verdict import Verdict


@dataclass(frozen=True)
class Row:
    """One setting, finished for every seed.

    Attributes:
        measures: from a measure's name to an array (points, seeds).
        curves: from a curve's name to an array (points, seeds, checkpoints).
        points: what was tried: values of the tuned numbers by name; one point, {}, where nothing is tuned.
        chosen: the place of the point that this setting chose.
        edges: the tuned numbers whose chosen value is the smallest or largest tried: a better one may lie beyond.
        trials: the numbers of the trials that it was made from: one, or one for each seed.
        times: the seconds that each of them took.
    """

    setting: Setting
    measures: Mapping[str, np.ndarray]
    curves: Mapping[str, np.ndarray]
    points: tuple[Point, ...]
    chosen: int
    edges: tuple[str, ...]
    trials: tuple[int, ...]
    times: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """The time that all its trials took."""
        return sum(self.times)

    @property
    def point(self) -> Point:
        """The chosen values of the tuned numbers."""
        return self.points[self.chosen]

    def values(self, measure: str) -> Float[np.ndarray, " seeds"]:
        """The measure for every seed, at the chosen point."""
        if measure not in self.measures:
            raise KeyError(f"no measure {measure!r}; there are {', '.join(self.measures)}")
        return self.measures[measure][self.chosen]


@dataclass(frozen=True)
class Failure:
    """A trial that did not finish: an error (with its traceback), a person's Ctrl-C, or a process that died."""

    setting: Setting
    seeds: tuple[int, ...]
    trial: int
    kind: Literal["error", "interrupted", "died"]
    traceback: str


@dataclass(frozen=True)
class Results:
    """A study's finished trials and how they came about.

    Attributes:
        rows: one for each finished setting, in the study's order.
        failures: every trial that did not finish, kept also after its setting was run again.
        missing: settings without a finished trial.
        references: rows that need no seeds.
        record: what was declared, and when, on what and by which commands it was run.
    """

    study: Study
    size: str
    seeds: tuple[int, ...]
    storage: str
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    missing: tuple[Setting, ...]
    references: Mapping[str, Mapping[str, float]]
    record: Mapping[str, Any]

    def where(self, **levels: Any) -> tuple[Row, ...]:
        """The rows whose setting has these levels."""
        unknown = set(levels) - set(self.study.factors)
        if unknown:
            raise KeyError(f"no factor {min(unknown)!r}; there are {', '.join(self.study.factors)}")
        return tuple(r for r in self.rows if all(r.setting[n] == v for n, v in levels.items()))

    def one(self, **levels: Any) -> Row:
        """The one row with these levels."""
        found = self.where(**levels)
        if len(found) != 1:
            raise LookupError(f"{len(found)} finished settings have {levels}, expected one")
        return found[0]

    def values(self, measure: str, **levels: Any) -> Float[np.ndarray, " seeds"]:
        """The measure for every seed, in the one row with these levels."""
        return self.one(**levels).values(measure)

    def levels(self, factor: str) -> tuple[Any, ...]:
        """The levels of a factor that have a finished row, in the declared order."""
        present = {row.setting[factor] for row in self.rows}
        return tuple(level for level in self.study.factors[factor] if level in present)

    @property
    def headline(self) -> tuple[str, ...]:
        """The measures shown in tables."""
        return self.study.headline or tuple(self.study.measures)

    @property
    def tuned(self) -> tuple[str, ...]:
        """The names of the tuned numbers."""
        return self.study.tuned(self.size)

    @property
    def budget(self) -> int:
        """How many points each setting tries."""
        tuning = self.study.size(self.size).tuning
        return tuning.points if isinstance(tuning, Search) else len(tuning) or 1

    @property
    def edges(self) -> tuple[Row, ...]:
        """Rows with a tuned number at the end of what was tried."""
        return tuple(row for row in self.rows if row.edges)

    @property
    def errors(self) -> tuple[Failure, ...]:
        return tuple(f for f in self.failures if f.kind == "error")

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One verdict for each of the study's claims."""
        return tuple(self._judge(claim) for claim in self.study.claims)

    def _judge(self, claim: Claim) -> Verdict:
        if self.missing:
            settings = "1 setting is" if len(self.missing) == 1 else f"{len(self.missing)} settings are"
            return Verdict("undecided", f"{settings} not finished yet")
        try:
            return claim.judge(self)
        # One claim that cannot be judged (a part not installed, say) must not hide the verdicts on the others.
        except Exception as error:
            return Verdict("undecided", f"could not be judged: {type(error).__name__}: {error}")

    @cached_property
    def rankings(self) -> tuple[tuple[Contest, Ranking], ...]:
        """The ranking of each of the study's contests that has at least two finished competitors."""
        found = []
        for contest in self.study.contests:
            rows = [row for row in self.rows if contest.admits(row.setting)]
            values = {contest.competitor(row.setting): row.values(contest.measure) for row in rows}
            if len(values) > 1:
                found.append((contest, ranking(values, best=contest.best)))
        return tuple(found)

    @property
    def answer(self) -> str:
        """The study's question, answered in one sentence."""
        if self.missing:
            total = len(self.rows) + len(self.missing)
            return f"Not answered yet: {len(self.rows)} of {total} settings are finished."
        return self.study.answer(self, self.verdicts)

    def table(self) -> Iterator[tuple[str, ...]]:
        """The header, then a line for each row: factors, tuned numbers, headline measures."""
        shown, tuned = self.headline, self.tuned
        yield (*self.study.factors, *tuned, *shown)
        for row in self.rows:
            levels = (str(row.setting[f]) for f in self.study.factors)
            yield (*levels, *(_told(row, name) for name in tuned), *(_summary(row.values(m)) for m in shown))

    def reference_table(self) -> Iterator[tuple[str, ...]]:
        """The header, then a line for each reference: its name and headline measures."""
        shown = [m for m in self.headline if any(m in values for values in self.references.values())]
        yield ("reference", *shown)
        columns = [_alike([values.get(m) for values in self.references.values()]) for m in shown]
        for i, name in enumerate(self.references):
            yield (name, *(column[i] for column in columns))


def _told(row: Row, name: str) -> str:
    """The chosen value of a tuned number; nothing for a setting that has no such number."""
    if name not in row.point:
        return ""
    return f"{row.point[name]:.4g}{' (edge)' if name in row.edges else ''}"


def _alike(values: Sequence[float | None]) -> list[str]:
    """A column of numbers, some of them absent."""
    present = iter(numbers(*(value for value in values if value is not None)))
    return ["" if value is None else next(present) for value in values]


def _summary(values: np.ndarray) -> str:
    """The median, and the range where seeds differ; or the median of those with a number, and how many have none."""
    ordered = np.sort(values[~np.isnan(values)])
    absent = len(values) - len(ordered)
    # Without a number in most runs no median of the others stands for them.
    if 2 * absent > len(values):
        return f"NaN ({absent} of {len(values)})"
    middle = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    median = float(middle[0] if middle[0] == middle[1] else np.mean(middle))
    if absent:
        return f"{number(median)} ({absent} of {len(values)} NaN)"
    if ordered[0] == ordered[-1]:
        return number(median)
    told, low, high = numbers(median, float(ordered[0]), float(ordered[-1]))
    return f"{told} [{low}, {high}]"
