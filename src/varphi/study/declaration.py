"""What a study is: a factorial experiment, declared as data before anything runs."""

from __future__ import annotations

import ast
import hashlib
import inspect
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .ranking import Contest
from .search import Point, Search

if TYPE_CHECKING:
    from .results import Results
    from .verdict import Verdict

Setting: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True)
class Outcome:
    """What one trial measured: one setting, every point tried, every seed.

    Attributes:
        measures: from a measure's name to an array (points, seeds). Leading axes of length one may be left out: where
            nothing is tuned (seeds,) is enough, and a number for a single seed.
        curves: from a curve's name to an array (points, seeds, checkpoints); likewise.
    """

    measures: Mapping[str, np.ndarray | float]
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)

    def shaped(self, points: int, seeds: int, required: Iterable[str]) -> Shaped:
        """The same with every axis.

        Raises:
            ValueError: where a required measure is absent, or has another shape.
        """
        absent = [name for name in required if name not in self.measures]
        if absent:
            raise ValueError(f"the trial gave no measure {absent[0]!r}; it gave {', '.join(self.measures) or 'none'}")
        full = (points, seeds)
        return Shaped(
            {name: _shaped(name, np.asarray(v, float), full, 0) for name, v in self.measures.items()},
            {name: _shaped(name, np.asarray(v, float), full, 1) for name, v in self.curves.items()},
        )


@dataclass(frozen=True)
class Shaped:
    """An outcome with every axis: measures (points, seeds), curves (points, seeds, checkpoints)."""

    measures: Mapping[str, np.ndarray]
    curves: Mapping[str, np.ndarray]


def _shaped(name: str, values: np.ndarray, full: tuple[int, int], further: int) -> np.ndarray:
    shape = full + values.shape[values.ndim - further :]
    left_out = len(shape) - values.ndim
    if values.ndim < further or left_out < 0 or shape[:left_out] != (1,) * left_out or shape[left_out:] != values.shape:
        told = "(points, seeds)" if not further else "(points, seeds, checkpoints)"
        raise ValueError(f"the trial gave {name!r} with shape {values.shape}, expected {shape} {told}")
    return values.reshape(shape)


# Runs one setting at several points with several seeds: trial(setting, seeds, points, **options). A point is the values
# of the tuned numbers by name, {"learning rate": 0.01}; where nothing is tuned there is one point, {}.
# The same seed must mean the same data, order and initial weights in every setting: the seeds are paired.
Trial: TypeAlias = Callable[..., Outcome]


@dataclass(frozen=True)
class Tuning:
    """How each setting chooses its free numbers: among as many points for each, and by the same rule.

    Attributes:
        name: the number that a size lists the values of, as the report calls it: "learning rate". A `Search` names
            its numbers itself.
        by: the measure that decides; the point with the lowest median over seeds wins. Never a held-out measure.
    """

    name: str = ""
    by: str = field(kw_only=True)


@dataclass(frozen=True)
class Size:
    """How much of a study is run.

    Attributes:
        seeds: how many paired seeds (0, 1, ..., seeds - 1).
        tuning: the points that every setting tries: the values of the one tuned number, increasing; or a `Search`.
            Nothing, where nothing is tuned.
        takes: how long it takes, in words, with the machine.
        options: passed on to the trial.
        factors: levels that replace those of the study.
    """

    seeds: int
    tuning: tuple[float, ...] | Search = ()
    takes: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    factors: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A sentence under test.

    Attributes:
        name: a few words for tables.
        quote: the sentence, as the source has it (in translation).
        measure: what is measured and what would support or refute the sentence; set before it is run.
        judge: the same as a function of the results.
    """

    name: str
    quote: str
    measure: str
    judge: Callable[[Results], Verdict]


@dataclass(frozen=True)
class Figure:
    """A drawing and what to see in it."""

    title: str
    caption: str
    drawing: Any  # matplotlib.figure.Figure


def _always(setting: Setting) -> bool:
    return True


@dataclass(frozen=True)
class Study:
    """A question, and how evidence on it is gathered.

    Attributes:
        name: one word, as in `varphi study run NAME`.
        title, question: for people.
        data: the origin of the data.
        factors: from a factor's name to its levels; every combination that `applies` is a setting.
        trial: runs one setting.
        measures: from a measure's name to what it is, in words and units.
        claims: what is tested.
        sizes: "full", "demo" and "smoke".
        answer: one sentence on the question, from the results and the verdicts.
        tuning: how a setting chooses its free numbers; None where there are none.
        batched: whether a trial runs all its seeds as one batch. If not, the function is called with one seed at a
            time, and each (setting, seed) is a trial of its own: for trainings that take long, so that an interruption
            loses one seed at most.
        applies: whether a combination of levels is a setting.
        headline: the measures shown in tables, in order.
        contests: what is ranked.
        references: rows that need no seeds (baselines), from a row's name to its measures.
        figures: drawings of the results.
        packages: distributions whose versions belong in the record.
        fingerprint: what tells this trial from others, in place of its source file; for studies made at run time.

    Raises:
        ValueError: for a declaration that contradicts itself.
    """

    name: str
    title: str
    question: str
    data: str
    factors: Mapping[str, tuple[Any, ...]]
    trial: Trial
    measures: Mapping[str, str]
    claims: tuple[Claim, ...]
    sizes: Mapping[str, Size]
    answer: Callable[[Results, Sequence[Verdict]], str]
    tuning: Tuning | None = None
    batched: bool = True
    applies: Callable[[Setting], bool] = _always
    headline: tuple[str, ...] = ()
    contests: tuple[Contest, ...] = ()
    references: Callable[..., dict[str, dict[str, float]]] | None = None
    figures: Callable[[Results], list[Figure]] | None = None
    packages: tuple[str, ...] = ()
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        if not self.measures:
            raise ValueError(f"study {self.name!r} measures nothing")
        if self.tuning is not None and self.tuning.by not in self.measures:
            raise ValueError(
                f"study {self.name!r} tunes by {self.tuning.by!r}, which is none of its measures: "
                f"{', '.join(self.measures)}"
            )
        for name, size in self.sizes.items():
            self._check_tuning(name, size)
        sizes = [self.settings(name) for name in self.sizes] if self.contests else []
        for contest in self.contests:
            contest.check(self.measures, self.factors, sizes)

    def _check_tuning(self, name: str, size: Size) -> None:
        this = f"size {name!r} of study {self.name!r}"
        if not isinstance(size.tuning, Search):
            if size.tuning and (self.tuning is None or not self.tuning.name):
                raise ValueError(f"{this} lists values to try; say of what, with tuning=Tuning(name, by=measure)")
            return
        if self.tuning is None:
            raise ValueError(f"{this} has a search; say which measure decides, with tuning=Tuning(by=measure)")
        if size.tuning.sampler == "tpe" and not self.batched:
            raise ValueError(f"{this} searches with 'tpe', which needs all seeds at once; batched=False allows 'qmc'")

    def size(self, name: str) -> Size:
        """One of the study's sizes.

        Raises:
            ValueError: for another name.
        """
        if name not in self.sizes:
            raise ValueError(f"study {self.name!r} has no size {name!r}; sizes: {', '.join(self.sizes)}")
        return self.sizes[name]

    def settings(self, size: str) -> list[Setting]:
        """Every setting of a size, in the order in which they are run."""
        levels = dict(self.factors) | dict(self.size(size).factors)
        combinations = (dict(zip(levels, values, strict=True)) for values in itertools.product(*levels.values()))
        return [setting for setting in combinations if self.applies(setting)]

    def tuned(self, size: str) -> tuple[str, ...]:
        """The names of the tuned numbers."""
        tuning = self.size(size).tuning
        if not isinstance(tuning, Search):
            return (self.tuning.name,) if self.tuning and tuning else ()
        return tuple(dict.fromkeys(name for setting in self.settings(size) for name in tuning.ranges(setting)))

    def points(self, size: str, setting: Setting) -> list[Point]:
        """The points that a setting tries; with the sampler "tpe", those that it would begin with."""
        tuning = self.size(size).tuning
        if isinstance(tuning, Search):
            return tuning.spread(setting, self.tuned(size))
        name = self.tuning.name if self.tuning else ""
        return [{name: value} for value in tuning] or [{}]

    @property
    def decisive(self) -> str:
        """The measure that decides among points; the first one where nothing is tuned."""
        return self.tuning.by if self.tuning else next(iter(self.measures))

    def digest(self, size: str, seeds: Sequence[int]) -> str:
        """A key of everything that decides the numbers: results under different keys are never mixed."""
        chosen = self.size(size)
        text = json.dumps(
            [
                *(self.name, self.settings(size), list(seeds), self.tuning_record(size), dict(chosen.options)),
                *(dict(self.measures), self.batched, [(c.name, c.quote, c.measure) for c in self.claims]),
                self.fingerprint or _source(self.trial),
            ],
            sort_keys=True,
            default=str,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def tuning_record(self, size: str) -> dict[str, Any]:
        """What is tuned, how and by which measure, as plain data."""
        tuning = self.size(size).tuning
        if self.tuning is None:
            return {}
        if not isinstance(tuning, Search):
            return {"by": self.tuning.by, "points": self.points(size, {})}
        spaces = {key(s): {n: [r.low, r.high, r.log] for n, r in tuning.ranges(s).items()} for s in self.settings(size)}
        how = {name: getattr(tuning, name) for name in ("points", "sampler", "rounds", "seed")}
        return {"by": self.tuning.by, "spaces": spaces, **how}


def key(setting: Setting) -> str:
    """A setting as text: equal settings, equal keys."""
    return json.dumps(setting, sort_keys=True)


def _source(trial: Trial) -> str:
    """The file that the trial is written in, without comments and layout: another trial is another experiment."""
    path = inspect.getsourcefile(trial)
    if path is None or not Path(path).exists():
        raise ValueError(f"the trial {trial!r} must be written in a file, so that its results can be told from others'")
    return ast.dump(ast.parse(Path(path).read_text("utf-8")))
